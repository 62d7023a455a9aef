//! Raw sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rxpath_core::raw::{RawOptions, RawSock};
use rxpath_core::socket::{NoDatagram, Readiness};

use super::call::{block, check_timeout, down, listen_error, sock_error};
use super::udp::{ErrorMessage, Message, send_error};
use crate::runtime::Attempt;
use crate::stack::Stack;

/// A raw socket (`socket(AF_INET, SOCK_RAW, protocol)`, `raw(7)`): IP packets of one protocol, beside whoever else handles
/// them. What is read begins with the IP header; what is sent is given one, unless it brings its own
/// ([`RawSocket::set_header_included`]). Dropping the last handle closes it.
///
/// ```
/// # use rxpath::device::wire::{self, WireConfig};
/// # use rxpath::net::RawSocket;
/// # use rxpath::{Interface, Stack};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
/// # let one = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
/// # let other = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
/// // An experimental protocol (RFC 3692).
/// let (receiver, sender) = (RawSocket::open(&one, 253)?, RawSocket::open(&other, 253)?);
/// sender.send_to(b"hello", "10.0.0.1".parse()?)?;
/// let mut buf = [0; 64];
/// let message = receiver.recv_msg(&mut buf)?;
/// assert_eq!(&buf[20..message.len], b"hello");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RawSocket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stack: Stack,
    sock: Arc<RawSock>,
    nonblocking: AtomicBool,
    read_timeout: Mutex<Option<Duration>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stack.core().raw_close(&self.sock);
    }
}

impl Inner {
    fn receive(&self, buf: &mut [u8], peek: bool) -> io::Result<Message> {
        let (core, nonblocking) = (self.stack.core(), self.nonblocking.load(Ordering::Relaxed));
        let timeout = *self.read_timeout.lock().unwrap_or_else(PoisonError::into_inner);
        block(&self.stack, 0..core.cpus(), nonblocking, timeout, |register| {
            match core.raw_recv(&self.sock, buf, peek, register, self.stack.now()) {
                Ok(received) => Attempt::Done(Ok(received.into())),
                Err(NoDatagram::Empty(waiter)) => Attempt::Pending(waiter),
                Err(NoDatagram::Failed(error)) => Attempt::Done(Err(sock_error(error))),
                Err(NoDatagram::Closed) => Attempt::Done(Err(down())),
            }
        })
    }

    fn send(&self, bytes: &[u8], to: Option<Ipv4Addr>) -> io::Result<usize> {
        self.stack.core().raw_send(&self.sock, bytes, to, self.stack.now()).map_err(send_error)
    }

    fn set(&self, change: impl FnOnce(&mut RawOptions)) {
        self.sock.set_options(change);
    }
}

impl RawSocket {
    /// A socket for packets of `protocol`, 1 to 255; one of 255 (`IPPROTO_RAW`) sends packets that bring their headers.
    ///
    /// # Errors
    /// `AddrNotAvailable` for protocol 0, `NetworkDown`.
    pub fn open(stack: &Stack, protocol: u8) -> io::Result<RawSocket> {
        let sock = stack.core().raw_open(protocol).map_err(listen_error)?;
        let read_timeout = Mutex::default();
        Ok(RawSocket(Arc::new(Inner { stack: stack.clone(), sock, nonblocking: AtomicBool::new(false), read_timeout })))
    }

    /// Binds to an address: what is sent there alone is read, and packets are sent from it.
    ///
    /// # Errors
    /// `AddrNotAvailable` if it is not the stack's.
    pub fn bind(&self, addr: Ipv4Addr) -> io::Result<()> {
        self.0.stack.core().raw_bind(&self.0.sock, addr).map_err(listen_error)
    }

    /// Connects to a peer: what comes from it alone is read, and errors that come back are told.
    ///
    /// # Errors
    /// `NetworkUnreachable` and others of routing.
    pub fn connect(&self, peer: Ipv4Addr) -> io::Result<()> {
        self.0.stack.core().raw_connect(&self.0.sock, peer).map_err(send_error)
    }

    /// Reads a packet, from its IP header on, and tells who sent it. What `buf` has no room for is gone.
    ///
    /// # Errors
    /// `WouldBlock` past the read timeout or on a non-blocking socket, `NetworkDown`; what came back for what a connected
    /// socket sent.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, IpAddr)> {
        self.0.receive(buf, false).map(|message| (message.len, message.from.ip()))
    }

    /// As [`RawSocket::recv_from`], with all that is known of the packet.
    ///
    /// # Errors
    /// As [`RawSocket::recv_from`].
    pub fn recv_msg(&self, buf: &mut [u8]) -> io::Result<Message> {
        self.0.receive(buf, false)
    }

    /// As [`RawSocket::recv_msg`], and the packet stays.
    ///
    /// # Errors
    /// As [`RawSocket::recv_from`].
    pub fn peek_msg(&self, buf: &mut [u8]) -> io::Result<Message> {
        self.0.receive(buf, true)
    }

    /// Sends a packet: `bytes` are its payload, or all from its IP header on.
    ///
    /// # Errors
    /// As [`RawSocket::send`], and those of routing; `PermissionDenied` for a broadcast address unless
    /// [`RawSocket::set_broadcast`] allows it.
    pub fn send_to(&self, bytes: &[u8], to: Ipv4Addr) -> io::Result<usize> {
        self.0.send(bytes, Some(to))
    }

    /// What calls would do now without waiting (`poll(2)`).
    pub fn readiness(&self) -> Readiness {
        let (readable, error, _) = self.0.sock.rx.ready(false);
        Readiness { readable, error, writable: true, ..Readiness::default() }
    }

    /// As [`RawSocket::send_to`], to the peer of a connected socket.
    ///
    /// # Errors
    /// `EDESTADDRREQ` if it is not connected, `EMSGSIZE` if the packet is too long (with its own header: for the link),
    /// `InvalidInput` if its own header is not whole, `NetworkDown`.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes, None)
    }

    /// Whether packets that are sent bring their IP header (`IP_HDRINCL`): length and checksum are filled in, source and
    /// identification where they are 0.
    pub fn set_header_included(&self, header_included: bool) {
        self.0.set(|options| options.header_included = header_included);
    }

    /// Whether errors are told in detail (`IP_RECVERR`), also those that may pass and those of a socket without a peer;
    /// [`RawSocket::recv_error`] gives them. Taken back, what nobody read is forgotten.
    pub fn set_recv_errors(&self, recv_errors: bool) {
        self.0.set(|options| options.recv_errors = recv_errors);
        if !recv_errors {
            self.0.sock.rx.forget_errors();
        }
    }

    /// The oldest error that nobody has read (`MSG_ERRQUEUE`), and into `buf` what came back of the packet: of its payload,
    /// or with its IP header where [`RawSocket::set_header_included`] says so. Its port is 0. Never waits.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn recv_error(&self, buf: &mut [u8]) -> io::Result<ErrorMessage> {
        match self.0.stack.core().raw_recv_error(&self.0.sock) {
            Some(error) => Ok(ErrorMessage::of(&error, buf)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether it may send to all hosts of a link (`SO_BROADCAST`).
    pub fn set_broadcast(&self, broadcast: bool) {
        self.0.set(|options| options.broadcast = broadcast);
    }

    /// Time to live and type of service of what it sends; no time to live for the stack's default.
    pub fn set_ttl_and_tos(&self, ttl: Option<u8>, tos: u8) {
        self.0.set(|options| (options.ttl, options.tos) = (ttl, tos));
    }

    /// Of ICMP, the types that are not to be read (`ICMP_FILTER`): bit `n` for type `n`.
    pub fn set_icmp_filter(&self, types: u32) {
        self.0.sock.set_icmp_filter(types);
    }

    /// How long a read waits, `None` for ever; past that it gives `WouldBlock`. Holds for all handles.
    ///
    /// # Errors
    /// `InvalidInput` if it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        *self.0.read_timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
        Ok(())
    }

    /// Whether calls give `WouldBlock` instead of waiting. Holds for all handles.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.0.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// The pending error of the socket, which is taken (`SO_ERROR`).
    pub fn take_error(&self) -> Option<io::Error> {
        self.0.sock.rx.take_error().map(sock_error)
    }

    /// Asks for a receive buffer (`SO_RCVBUF`): it gets twice `bytes`, within `net.core.rmem_max`.
    pub fn set_recv_buffer_size(&self, bytes: u32) {
        let rmem_max = self.0.stack.core().config().sysctl.rmem_max;
        self.0.sock.rx.set_rcvbuf(bytes, rmem_max);
    }

    /// Packets that the socket dropped for want of room.
    pub fn drops(&self) -> u32 {
        self.0.sock.rx.drops()
    }

    /// Another handle to the same socket.
    pub fn handle(&self) -> RawSocket {
        RawSocket(Arc::clone(&self.0))
    }
}
