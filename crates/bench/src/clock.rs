//! What a slice of work took.

/// Nanoseconds of processor time that this thread has had, from an arbitrary beginning; where the system does not tell
/// them, nanoseconds of real time.
///
/// Threads here never sleep, so that both are the same on an idle machine; on a busy one, what others took does not
/// count.
pub fn thread_ns() -> u64 {
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, clock_gettime};
        let time = clock_gettime(ClockId::ThreadCPUTime);
        (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time() {
        let before = thread_ns();
        let mut sum = 0u64;
        while thread_ns() - before < 1_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }
}
