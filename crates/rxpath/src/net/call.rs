//! What all calls have in common: waiting, and the errors of `std`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::time::Duration;

use rxpath_core::stack::{ConnectError, ListenError};
use rxpath_core::tcp::{KeyError, OutOfRange, SockError};

use crate::clock::nanos;
use crate::runtime::Attempt;
use crate::stack::Stack;

/// What a call says on a stack that is down.
pub(super) fn down() -> io::Error {
    io::Error::new(io::ErrorKind::NetworkDown, "the stack was shut down")
}

/// An option that is out of its range (`EINVAL`).
pub(super) fn invalid(error: OutOfRange) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// An option's value that has one byte.
pub(super) fn byte(option: &'static str, value: u32) -> io::Result<u8> {
    u8::try_from(value).map_err(|_| invalid(OutOfRange { option, value, range: (0, 255) }))
}

/// A key that was not taken, or not removed.
pub(super) fn key_error(error: KeyError) -> io::Error {
    let kind = match error {
        KeyError::NotFound => io::ErrorKind::NotFound,
        KeyError::Exists => io::ErrorKind::AlreadyExists,
        KeyError::InUse => io::ErrorKind::ResourceBusy,
        KeyError::TooMany => io::ErrorKind::OutOfMemory,
        _ => io::ErrorKind::InvalidInput,
    };
    io::Error::new(kind, error)
}

pub(super) fn listen_error(error: ListenError) -> io::Error {
    match error {
        ListenError::InUse => io::ErrorKind::AddrInUse.into(),
        ListenError::NotLocal => io::ErrorKind::AddrNotAvailable.into(),
        ListenError::Down => down(),
    }
}

pub(super) fn connect_error(error: ConnectError) -> io::Error {
    match error {
        ConnectError::Route(error) => error.into(),
        ConnectError::NoInterface => no_interface(),
        ConnectError::NoPort => io::ErrorKind::AddrNotAvailable.into(),
        ConnectError::PortInUse => io::ErrorKind::AddrInUse.into(),
        ConnectError::FastOpenOff => numbered(95, io::ErrorKind::Unsupported),
        ConnectError::Key(error) => key_error(error),
        ConnectError::Down => down(),
    }
}

/// `ENODEV`.
pub(super) fn no_interface() -> io::Error {
    numbered(19, io::ErrorKind::NotFound)
}

/// `ENOBUFS`.
pub(super) fn no_buffers() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "too many notices of calls that lent their memory are outstanding")
}

pub(super) fn sock_error(error: SockError) -> io::Error {
    numbered(error.errno(), error.kind())
}

/// The error that Linux has a number for; elsewhere the kind that is nearest.
pub(super) fn numbered(errno: i32, kind: io::ErrorKind) -> io::Error {
    if cfg!(target_os = "linux") { io::Error::from_raw_os_error(errno) } else { kind.into() }
}

/// Tries each address in turn; the error is that of the last.
pub(super) fn each_addr<T>(addrs: impl ToSocketAddrs, mut f: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut last = None;
    for addr in addrs.to_socket_addrs()? {
        match f(addr) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")))
}

/// A timeout of zero is refused, as `std` does.
pub(super) fn check_timeout(timeout: Option<Duration>) -> io::Result<()> {
    match timeout {
        Some(Duration::ZERO) => Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout")),
        _ => Ok(()),
    }
}

/// Blocks, unless told not to, until `attempt` is done; `cpus` are those whose softirqs may bring that about. Past `timeout` the error is `WouldBlock`, as with `SO_RCVTIMEO`.
pub(super) fn block<T>(
    stack: &Stack,
    cpus: Range<u16>,
    nonblocking: bool,
    timeout: Option<Duration>,
    mut attempt: impl FnMut(bool) -> Attempt<io::Result<T>>,
) -> io::Result<T> {
    let handle = &*stack.0;
    let mut attempt = |register| if handle.core.is_down() { Attempt::Done(Err(down())) } else { attempt(register) };
    if let Attempt::Done(outcome) = attempt(false) {
        return outcome;
    }
    if nonblocking {
        let nudged = cpus.fold(false, |nudged, cpu| nudged | handle.runtime.nudge(&handle.core, &*handle.clock, cpu));
        if nudged && let Attempt::Done(outcome) = attempt(false) {
            return outcome;
        }
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let deadline = timeout.map(|timeout| stack.now() + nanos(timeout));
    match handle.runtime.block(&handle.core, &*handle.clock, deadline, attempt) {
        Ok(outcome) => outcome,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}
