//! The cycle counter.

/// Reads the time-stamp counter (kernel: `get_cycles`), in ticks of a constant but unnamed rate.
///
/// The read is not ordered against its neighbours: good for the cost of a burst, not for that of
/// one instruction. It takes about 10 ns, so one read a burst is the intended use. Machines without
/// such a counter give 0 always.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: RDTSC exists on every x86-64 processor, has no operands and touches no memory.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        0
    }
}
