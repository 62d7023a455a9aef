//! Options of the kernel's sockets, for whoever compares with them: those that are one number, and what a connection tells.

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

unsafe extern "C" {
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: c_uint) -> c_int;
    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut c_uint) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

/// Level and name of `TCP_INFO`.
const TCP_INFO: (c_int, c_int) = (6, 11);
/// Bytes of it that every kernel fills.
const INFO_LEN: usize = 104;

/// Requests of `ioctl(2)` that give a number of a socket's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The next byte is the urgent one (`SIOCATMARK`).
    AtMark,
    /// Bytes to be read (`SIOCINQ`).
    Inq,
    /// Bytes that the peer has not acknowledged (`SIOCOUTQ`).
    Outq,
    /// Bytes that were not sent (`SIOCOUTQNSD`).
    Unsent,
}

impl Request {
    fn number(self) -> c_ulong {
        match self {
            Request::AtMark => 0x8905,
            Request::Inq => 0x541b,
            Request::Outq => 0x5411,
            Request::Unsent => 0x894b,
        }
    }
}

/// Sets an option whose value is an `int`.
///
/// # Errors
/// The kernel's.
pub fn set(socket: impl AsFd, level: i32, name: i32, value: u32) -> io::Result<()> {
    let len = size_of::<u32>() as c_uint;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `len` bytes of `value`, which outlives the call; `fd` is open while `socket` is borrowed.
    check(unsafe { setsockopt(fd, level, name, (&raw const value).cast(), len) })
}

/// An option whose value is an `int`.
///
/// # Errors
/// The kernel's.
pub fn get(socket: impl AsFd, level: i32, name: i32) -> io::Result<u32> {
    let mut value = [0; size_of::<u32>()];
    fill(socket.as_fd(), (level, name), &mut value)?;
    Ok(u32::from_ne_bytes(value))
}

/// The first fields of `struct tcp_info`, as bytes; what the kernel has not is 0.
///
/// # Errors
/// The kernel's.
pub fn tcp_info(socket: impl AsFd) -> io::Result<[u8; INFO_LEN]> {
    let mut info = [0; INFO_LEN];
    fill(socket.as_fd(), TCP_INFO, &mut info)?;
    Ok(info)
}

/// Asks for a number.
///
/// # Errors
/// The kernel's.
pub fn ask(socket: impl AsFd, request: Request) -> io::Result<i32> {
    let mut value: c_int = 0;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: each of these requests has the kernel write one `int` to `value`; `fd` is open while `socket` is borrowed.
    check(unsafe { ioctl(fd, request.number(), &raw mut value) })?;
    Ok(value)
}

fn fill(socket: BorrowedFd<'_>, (level, name): (c_int, c_int), value: &mut [u8]) -> io::Result<()> {
    let mut len = value.len() as c_uint;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has as many; `socket` is open while it is borrowed.
    check(unsafe { getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) })
}

fn check(gave: c_int) -> io::Result<()> {
    if gave < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_what_was_set_and_what_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        set(&server, 1, 18, 300).unwrap();
        assert_eq!(get(&server, 1, 18).unwrap(), 300);
        assert!(set(&server, 6, 2, 1).is_err(), "no segment is that small");
        client.write_all(b"seven..").unwrap();
        while ask(&server, Request::Inq).unwrap() < 7 {
            std::thread::yield_now();
        }
        assert_eq!(ask(&server, Request::AtMark).unwrap(), 0);
        assert_eq!((ask(&server, Request::Outq).unwrap(), ask(&server, Request::Unsent).unwrap()), (0, 0));
        assert_eq!(tcp_info(&server).unwrap()[0], 1, "it is established");
    }
}
