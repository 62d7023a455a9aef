//! With eventfd and epoll.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rxpath_core::nic::{Doorbell, IrqLine};
use rxpath_core::stack::Stack as Core;

/// The owner is awake, and nobody has rung since it last looked.
const QUIET: u8 = 0;
/// Somebody has rung.
const RUNG: u8 = 1;
/// The owner sleeps: who rings must wake it.
const ASLEEP: u8 = 2;

/// Wakes one [`Sleeper`]. Costs one atomic while that is awake, and a system call when it sleeps.
pub(crate) struct Bell {
    state: AtomicU8,
    fd: OwnedFd,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { state: AtomicU8::new(QUIET), fd })
    }

    /// False if somebody has rung: then there is no sleeping.
    fn fall_asleep(&self) -> bool {
        let asleep = self.state.compare_exchange(QUIET, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        if asleep.is_err() {
            self.state.store(QUIET, Ordering::Release);
        }
        asleep.is_ok()
    }

    fn wake_up(&self) {
        self.state.swap(QUIET, Ordering::AcqRel);
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            // It can only fail when the counter is full: then the owner is being woken already.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }
}

/// A device's interrupt that is the readability of a file descriptor.
struct Line {
    fd: Arc<OwnedFd>,
    irq: IrqLine,
    /// Watched at the moment. A line whose NAPI is scheduled is masked: not watched.
    armed: bool,
}

/// Sleeps on behalf of some Cpus.
pub(crate) struct Sleeper {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    lines: Vec<Line>,
}

/// The bell among the lines of an epoll.
const BELL: u64 = u64::MAX;
/// While a line is masked by somebody else's poll, nobody says when that is over: look again after this time.
const MASKED_RETRY: Duration = Duration::from_millis(1);

impl Sleeper {
    pub(crate) fn new(core: &Core, cpus: impl Iterator<Item = u16>, bell: Arc<Bell>) -> io::Result<Sleeper> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &bell.fd, EventData::new_u64(BELL), EventFlags::IN)?;
        let mut lines = Vec::new();
        for cpu in cpus {
            for (ready, irq) in core.interrupts(cpu) {
                let foreign = || io::Error::new(io::ErrorKind::InvalidInput, "a device's readiness is no OwnedFd");
                let fd = ready.handle::<OwnedFd>().ok_or_else(foreign)?;
                epoll::add(&epoll, &fd, EventData::new_u64(lines.len() as u64), EventFlags::IN)?;
                lines.push(Line { fd, irq, armed: true });
            }
        }
        Ok(Sleeper { epoll, bell, lines })
    }

    /// Sleeps until the bell rings, a device interrupts (its line has fired then), or the time is over. May return
    /// early. The caller looks for work afterwards, and only then sleeps again.
    pub(crate) fn sleep(&mut self, time: Option<Duration>) -> io::Result<()> {
        if !self.bell.fall_asleep() {
            return Ok(());
        }
        let masked = self.arm()?;
        let time = if masked { Some(time.unwrap_or(MASKED_RETRY).min(MASKED_RETRY)) } else { time };
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        let woken = epoll::wait(&self.epoll, &mut events[..], time.map(timespec).as_ref());
        self.bell.wake_up();
        let count = match woken {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        for event in &events[..count] {
            let data = event.data;
            match self.lines.get(usize::try_from(data.u64()).unwrap_or(usize::MAX)) {
                Some(line) => line.irq.fire(),
                None => self.silence(),
            }
        }
        Ok(())
    }

    /// Watches the lines that are not masked; true if there are others.
    fn arm(&mut self) -> io::Result<bool> {
        let mut masked = false;
        for (index, line) in self.lines.iter_mut().enumerate() {
            let wanted = !line.irq.napi().is_scheduled();
            masked |= !wanted;
            if line.armed != wanted {
                let flags = if wanted { EventFlags::IN } else { EventFlags::empty() };
                epoll::modify(&self.epoll, &line.fd, EventData::new_u64(index as u64), flags)?;
                line.armed = wanted;
            }
        }
        Ok(masked)
    }

    /// Empties the bell's counter.
    fn silence(&self) {
        let mut count = [0; 8];
        // Empty already is as good.
        let _ = rustix::io::read(&self.bell.fd, &mut count);
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}
