//! Datagrams.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use rxpath_core::socket::ErrorOrigin;
use rxpath_core::socket::{NoDatagram, QueuedError, Readiness};
use rxpath_core::stack::{BindOptions, GroupError, Received, SendError};
use rxpath_core::tcp::SockError;
use rxpath_core::udp::{UdpOptions, UdpSock};
use rxpath_trace::Time;

use super::busy::Busy;
use super::call::{block, check_timeout, down, each_addr, listen_error, no_interface, numbered, sock_error};
use crate::runtime::Attempt;
use crate::stack::Stack;

/// A UDP socket, with the shape of [`std::net::UdpSocket`]. Dropping the last handle closes it: what it was sent and
/// nobody read is thrown away.
///
/// ```
/// # use rxpath::device::wire::{self, WireConfig};
/// # use rxpath::net::UdpSocket;
/// # use rxpath::{Interface, Stack};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
/// # let one = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
/// # let other = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
/// let server = UdpSocket::bind(&one, "10.0.0.1:53")?;
/// let client = UdpSocket::bind(&other, "0.0.0.0:0")?;
/// client.connect("10.0.0.1:53")?;
/// client.send(b"who is there?")?;
///
/// let mut buf = [0; 64];
/// let (len, from) = server.recv_from(&mut buf)?;
/// server.send_to(&buf[..len], from)?;
/// let len = client.recv(&mut buf)?;
/// assert_eq!(&buf[..len], b"who is there?");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct UdpSocket(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) stack: Stack,
    pub(super) sock: Arc<UdpSock>,
    nonblocking: AtomicBool,
    timeouts: Mutex<Timeouts>,
    busy: Busy,
}

#[derive(Clone, Copy, Debug, Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
}

/// A datagram that was read, with what is known of it (`recvmsg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bytes that the buffer took.
    pub len: usize,
    /// Bytes of the datagram (`MSG_TRUNC` as an argument); more than `len` if the buffer was too short.
    pub full_len: usize,
    /// The buffer was too short (`MSG_TRUNC` as a result).
    pub truncated: bool,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address that it was sent to, and the index of the interface that it came by (`IP_PKTINFO`).
    pub to: (Ipv4Addr, u16),
    /// Its time to live (`IP_RECVTTL`).
    pub ttl: u8,
    /// Its type of service (`IP_RECVTOS`).
    pub tos: u8,
    /// When it came, on the stack's clock, to the nanosecond (`SO_TIMESTAMPNS`).
    pub at: Time,
    /// Bytes of each of the datagrams that it was merged of, but for the last, which may be shorter (`UDP_GRO`); none for a
    /// single one.
    pub gso_size: Option<u16>,
}

/// An error that came back for a packet, or that this host found (`struct sock_extended_err`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    /// Bytes that the buffer took of the datagram's payload, or of the segment from its header on.
    pub len: usize,
    /// Bytes of that that came back; more than `len` if the buffer was too short.
    pub full_len: usize,
    /// What went wrong (`ee_errno`).
    pub error: SockError,
    /// Who found out; of another host, its address and the type and code of its message.
    pub origin: ErrorOrigin,
    /// Of a datagram that was too long: the longest packet that passes; of one whose header made no sense: where in it, in
    /// bytes from its beginning; else 0 (`ee_info`).
    pub info: u32,
    /// Where it was to go; of an error that this host found, the port is that of the peer, or 0.
    pub to: SocketAddr,
    /// When the error came, on the stack's clock.
    pub at: Time,
}

impl ErrorMessage {
    /// With what came back of the packet in `buf`.
    pub(super) fn of(error: &QueuedError, buf: &mut [u8]) -> ErrorMessage {
        let len = error.payload.len().min(buf.len());
        buf[..len].copy_from_slice(&error.payload[..len]);
        ErrorMessage {
            len,
            full_len: error.payload.len(),
            error: error.error,
            origin: error.origin,
            info: error.info,
            to: SocketAddr::new(error.to.0.to_ip(), error.to.1),
            at: error.at,
        }
    }
}

impl From<Received> for Message {
    fn from(received: Received) -> Message {
        let Received { len, full_len, from, to, ttl, tos, at, ifindex, gso_size } = received;
        Message {
            len,
            full_len,
            truncated: len < full_len,
            from,
            to: (to.v4().unwrap_or(Ipv4Addr::UNSPECIFIED), ifindex),
            ttl,
            tos,
            at,
            gso_size: (gso_size > 0).then_some(gso_size),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stack.core().udp_close(&self.sock, self.stack.now());
    }
}

pub(super) fn send_error(error: SendError) -> io::Error {
    match error {
        SendError::Route(error) => error.into(),
        SendError::Failed(error) => sock_error(error),
        SendError::TooLong => numbered(90, io::ErrorKind::Other),
        SendError::NoDestination => numbered(89, io::ErrorKind::NotConnected),
        SendError::NotPermitted => io::ErrorKind::PermissionDenied.into(),
        SendError::Invalid => io::ErrorKind::InvalidInput.into(),
        SendError::Full(_) | SendError::NoPort => io::ErrorKind::WouldBlock.into(),
        SendError::Down => down(),
    }
}

fn group_error(error: GroupError) -> io::Error {
    match error {
        GroupError::NotMulticast => io::ErrorKind::InvalidInput.into(),
        GroupError::NoInterface => no_interface(),
        GroupError::Joined => io::ErrorKind::AddrInUse.into(),
        GroupError::NotJoined => io::ErrorKind::AddrNotAvailable.into(),
        GroupError::TooMany => numbered(105, io::ErrorKind::Other),
    }
}

impl Inner {
    fn timeouts(&self) -> MutexGuard<'_, Timeouts> {
        self.timeouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, buf: &mut [u8], peek: bool) -> io::Result<Message> {
        let timeout = self.timeouts().read;
        let nonblocking = self.nonblocking.load(Ordering::Relaxed);
        let (cpus, napi_id) = (self.all_cpus(), || self.sock.rx.napi_id());
        self.busy.block(&self.stack, cpus, nonblocking, timeout, napi_id, |register| self.try_recv(buf, peek, register))
    }

    /// Datagrams come by any Cpu.
    pub(super) fn all_cpus(&self) -> Range<u16> {
        0..self.stack.core().cpus()
    }

    pub(super) fn try_recv(&self, buf: &mut [u8], peek: bool, register: bool) -> Attempt<io::Result<Message>> {
        match self.stack.core().udp_recv(&self.sock, buf, peek, register, self.stack.now()) {
            Ok(received) => Attempt::Done(Ok(received.into())),
            Err(NoDatagram::Empty(waiter)) => Attempt::Pending(waiter),
            Err(NoDatagram::Failed(error)) => Attempt::Done(Err(sock_error(error))),
            Err(NoDatagram::Closed) => Attempt::Done(Err(down())),
        }
    }

    pub(super) fn try_send(
        &self,
        payload: &[u8],
        to: Option<SocketAddr>,
        segment: Option<u16>,
        register: bool,
    ) -> Attempt<io::Result<usize>> {
        match self.stack.core().udp_send_cut(&self.sock, payload, to, segment, register, self.stack.now()) {
            Ok(sent) => Attempt::Done(Ok(sent)),
            Err(SendError::Full(waiter)) => Attempt::Pending(waiter),
            Err(error) => Attempt::Done(Err(send_error(error))),
        }
    }

    /// What the socket is ready for, once a datagram or an error waits.
    pub(super) fn try_readable(&self, register: bool) -> Attempt<io::Result<Readiness>> {
        match self.stack.core().udp_readable(&self.sock, register, self.stack.now()) {
            (ready, None) if ready.readable || ready.error => Attempt::Done(Ok(ready)),
            (_, waiter) => Attempt::Pending(waiter),
        }
    }

    /// What the socket is ready for, once there is room to send or an error.
    pub(super) fn try_writable(&self, register: bool) -> Attempt<io::Result<Readiness>> {
        match self.stack.core().udp_writable(&self.sock, register, self.stack.now()) {
            (ready, None) if ready.writable || ready.error => Attempt::Done(Ok(ready)),
            (_, waiter) => Attempt::Pending(waiter),
        }
    }

    fn send(&self, payload: &[u8], to: Option<SocketAddr>, segment: Option<u16>) -> io::Result<usize> {
        let timeout = self.timeouts().write;
        let nonblocking = self.nonblocking.load(Ordering::Relaxed);
        let cpu = self.sock.cpu;
        block(&self.stack, cpu..cpu + 1, nonblocking, timeout, |register| self.try_send(payload, to, segment, register))
    }

    fn set(&self, change: impl FnOnce(&mut UdpOptions)) {
        self.stack.core().udp_set(&self.sock, change);
    }
}

impl UdpSocket {
    /// Binds to the first of `addrs` to which it can. Port 0 chooses a free one.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` if the address is not the stack's, `NetworkDown`.
    pub fn bind(stack: &Stack, addrs: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        UdpSocket::bind_with(stack, addrs, BindOptions::default())
    }

    /// As [`UdpSocket::bind`], sharing the address with others or bound to an interface.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn bind_with(stack: &Stack, addrs: impl ToSocketAddrs, options: BindOptions) -> io::Result<UdpSocket> {
        each_addr(addrs, |addr| {
            let sock = stack.core().udp_bind(addr, options).map_err(listen_error)?;
            let timeouts = Mutex::default();
            let nonblocking = AtomicBool::new(false);
            let busy = Busy::new(stack);
            Ok(UdpSocket(Arc::new(Inner { stack: stack.clone(), sock, nonblocking, timeouts, busy })))
        })
    }

    /// Reads a datagram and tells who sent it. What `buf` has no room for is gone.
    ///
    /// # Errors
    /// `WouldBlock` past the read timeout or on a non-blocking socket, `NetworkDown`; `ConnectionRefused` and other errors
    /// that came back for what a connected socket sent.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.receive(buf, false).map(|message| (message.len, message.from))
    }

    /// As [`UdpSocket::recv_from`], and the datagram stays.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.receive(buf, true).map(|message| (message.len, message.from))
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buf, false).map(|message| message.len)
    }

    /// As [`UdpSocket::recv`], and the datagram stays.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buf, true).map(|message| message.len)
    }

    /// Reads a datagram, with all that is known of it.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn recv_msg(&self, buf: &mut [u8]) -> io::Result<Message> {
        self.0.receive(buf, false)
    }

    /// As [`UdpSocket::recv_msg`], and the datagram stays.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek_msg(&self, buf: &mut [u8]) -> io::Result<Message> {
        self.0.receive(buf, true)
    }

    /// Sends a datagram to the first of `addrs`. One that is longer than the way allows leaves in fragments.
    ///
    /// # Errors
    /// `InvalidInput` without an address or for port 0, `PermissionDenied` for a broadcast address unless
    /// [`UdpSocket::set_broadcast`] allows it, `NetworkUnreachable` and others of routing, `EMSGSIZE` beyond 65,507 bytes,
    /// `WouldBlock` past the write timeout or on a non-blocking socket while the send buffer is full, `NetworkDown`; what
    /// came back for what was sent before, if the socket is connected.
    pub fn send_to(&self, buf: &[u8], addrs: impl ToSocketAddrs) -> io::Result<usize> {
        match addrs.to_socket_addrs()?.next() {
            Some(addr) => self.0.send(buf, Some(addr), None),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to")),
        }
    }

    /// Sends a datagram to the peer of a connected socket.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`]; `EDESTADDRREQ` if it is not connected.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.send(buf, None, None)
    }

    /// Sends `buf` as datagrams of `segment` bytes, of which the last may be shorter (`UDP_SEGMENT` beside a message), to
    /// `to` or to the peer; 0 for one of whatever length. They go through the stack as one packet and are cut on their way
    /// to the device.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`]; `EMSGSIZE` if a segment is longer than the way allows, `InvalidInput` for more than 128 of
    /// them and for datagrams without a checksum.
    pub fn send_segments(&self, buf: &[u8], segment: u16, to: Option<SocketAddr>) -> io::Result<usize> {
        self.0.send(buf, to, Some(segment))
    }

    /// Into datagrams of how many bytes all that is sent is cut (`UDP_SEGMENT` as an option); 0, as at first, for not at all.
    ///
    /// # Errors
    /// None; what does not go is told by [`UdpSocket::send`], as of [`UdpSocket::send_segments`].
    pub fn set_segment_size(&self, segment: u16) -> io::Result<()> {
        self.0.set(|options| options.segment = segment);
        Ok(())
    }

    /// Whether errors are told in detail (`IP_RECVERR`): [`UdpSocket::recv_error`] gives all that come back, the next call
    /// fails with those that other hosts told of, passing ones too, and that of a socket without a peer. Taken back, what
    /// nobody read is forgotten.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_recv_errors(&self, recv_errors: bool) -> io::Result<()> {
        self.0.set(|options| options.recv_errors = recv_errors);
        Ok(())
    }

    /// The oldest error that nobody has read (`MSG_ERRQUEUE`), and into `buf` what came back of the datagram's payload. Never
    /// waits. The queue shares the receive buffer with what is received; what would fill it is not in it.
    ///
    /// ```
    /// # use rxpath::device::wire::{self, WireConfig};
    /// # use rxpath::net::{ErrorOrigin, UdpSocket};
    /// # use rxpath::{Interface, Stack};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    /// # let one = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
    /// # let other = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
    /// let socket = UdpSocket::bind(&other, "0.0.0.0:0")?;
    /// socket.set_recv_errors(true)?;
    /// // Two datagrams, which go through the stack as one packet, to a port where nobody is.
    /// socket.send_segments(b"who is there?", 8, Some("10.0.0.1:53".parse()?))?;
    /// let refused = socket.recv(&mut [0; 8]).expect_err("the first is told by the next call");
    /// assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    /// let mut buf = [0; 64];
    /// let told = socket.recv_error(&mut buf)?;
    /// assert_eq!((&buf[..told.len], told.to), (&b"who is t"[..], "10.0.0.1:53".parse()?));
    /// assert!(matches!(told.origin, ErrorOrigin::Icmp { kind: 3, code: 3, .. }));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn recv_error(&self, buf: &mut [u8]) -> io::Result<ErrorMessage> {
        match self.0.stack.core().udp_recv_error(&self.0.sock) {
            Some(error) => Ok(ErrorMessage::of(&error, buf)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Connects: sends to this peer where no other is named, and receives from it alone.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`].
    pub fn connect(&self, addrs: impl ToSocketAddrs) -> io::Result<()> {
        each_addr(addrs, |addr| self.0.stack.core().udp_connect(&self.0.sock, addr).map_err(send_error))
    }

    /// Ends the connection: the socket is again what it was bound to. If its port was chosen for it, it has none now, and
    /// gets another when it next sends or connects.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn disconnect(&self) -> io::Result<()> {
        self.peer_addr()?;
        self.0.stack.core().udp_disconnect(&self.0.sock);
        Ok(())
    }

    /// The address of the peer of a connected socket.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let remote = self.0.sock.binding().remote;
        let (addr, port) = remote.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        Ok(SocketAddr::new(addr.to_ip(), port))
    }

    /// Our address.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let binding = self.0.sock.binding();
        Ok(SocketAddr::new(binding.local.to_ip(), binding.port))
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn try_clone(&self) -> io::Result<UdpSocket> {
        Ok(UdpSocket(Arc::clone(&self.0)))
    }

    /// How long a read waits, `None` for ever; past that it gives `WouldBlock`. Holds for all handles.
    ///
    /// # Errors
    /// `InvalidInput` if it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        self.0.timeouts().read = timeout;
        Ok(())
    }

    /// How long a write waits for room in the send buffer. Holds for all handles.
    ///
    /// # Errors
    /// `InvalidInput` if it is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        self.0.timeouts().write = timeout;
        Ok(())
    }

    /// How long a read waits.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.timeouts().read)
    }

    /// How long a write waits.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.timeouts().write)
    }

    /// Whether calls give `WouldBlock` instead of waiting. Holds for all handles.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// The pending error of the socket, which is taken (`SO_ERROR`).
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.0.sock.rx.take_error().map(sock_error))
    }

    /// Whether it may send to all hosts of a link (`SO_BROADCAST`).
    ///
    /// # Errors
    /// None; as `std` has it. So for the options below.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.0.set(|options| options.broadcast = broadcast);
        Ok(())
    }

    /// Whether it may send to all hosts of a link.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(self.0.sock.options().broadcast)
    }

    /// Time to live of what goes to single hosts (`IP_TTL`), 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` out of these bounds.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        match u8::try_from(ttl) {
            Ok(ttl @ 1..) => self.0.set(|options| options.ttl = Some(ttl)),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }

    /// Time to live of what goes to single hosts.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn ttl(&self) -> io::Result<u32> {
        let default = || self.0.stack.core().config().sysctl.ip_default_ttl;
        Ok(self.0.sock.options().ttl.unwrap_or_else(default).into())
    }

    /// Time to live of what goes to groups (`IP_MULTICAST_TTL`), 0 to 255; 1 at first.
    ///
    /// # Errors
    /// `InvalidInput` out of these bounds.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        let ttl = u8::try_from(ttl).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.0.set(|options| options.multicast_ttl = ttl);
        Ok(())
    }

    /// Time to live of what goes to groups.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        Ok(self.0.sock.options().multicast_ttl.into())
    }

    /// Whether what it sends to a group comes back to members of it on this host (`IP_MULTICAST_LOOP`).
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_multicast_loop_v4(&self, multicast_loop: bool) -> io::Result<()> {
        self.0.set(|options| options.multicast_loop = multicast_loop);
        Ok(())
    }

    /// Whether what it sends to a group comes back to members of it on this host.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        Ok(self.0.sock.options().multicast_loop)
    }

    /// Joins a group on the interface with the address `interface`; with 0.0.0.0, on the one that routing chooses.
    ///
    /// # Errors
    /// `InvalidInput` if it is no group, `ENODEV` without such an interface, `AddrInUse` if it is joined already.
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.stack.core().udp_join(&self.0.sock, *multiaddr, *interface).map_err(group_error)
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// As [`UdpSocket::join_multicast_v4`]; `AddrNotAvailable` if it is not joined.
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.stack.core().udp_leave(&self.0.sock, *multiaddr, *interface).map_err(group_error)
    }

    /// The interface by which groups are reached (`IP_MULTICAST_IF`), by its address, from which a socket sends to them that
    /// has none of its own; 0.0.0.0 to let routing decide.
    ///
    /// # Errors
    /// `AddrNotAvailable` if no interface has the address.
    pub fn set_multicast_if_v4(&self, interface: &Ipv4Addr) -> io::Result<()> {
        let net = self.0.stack.core().config();
        let ifindex = match interface.is_unspecified() {
            true => None,
            false => {
                let found = net.interface_of((*interface).into()).map(|interface| interface.ifindex);
                Some(found.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?)
            }
        };
        self.0.set(|options| {
            options.multicast_if = ifindex;
            options.multicast_source = ifindex.map(|_| (*interface).into());
        });
        Ok(())
    }

    /// Whether datagrams of a flow come merged (`UDP_GRO`): several in one read, which tells their size.
    ///
    /// # Errors
    /// None; as `std` has it. So for the options below.
    pub fn set_gro(&self, gro: bool) -> io::Result<()> {
        self.0.set(|options| options.gro = gro);
        Ok(())
    }

    /// Type of service of what it sends (`IP_TOS`).
    ///
    /// # Errors
    /// None.
    pub fn set_tos(&self, tos: u8) -> io::Result<()> {
        self.0.set(|options| options.tos = tos);
        Ok(())
    }

    /// Whether what it sends carries no checksum (`SO_NO_CHECK`).
    ///
    /// # Errors
    /// None.
    pub fn set_no_checksum(&self, no_checksum: bool) -> io::Result<()> {
        self.0.set(|options| options.no_checksum = no_checksum);
        Ok(())
    }

    /// Whether a datagram that is too long for the way is refused with `EMSGSIZE` (`IP_PMTUDISC_DO`) instead of leaving in
    /// fragments.
    ///
    /// # Errors
    /// None.
    pub fn set_dont_fragment(&self, dont_fragment: bool) -> io::Result<()> {
        self.0.set(|options| options.dont_fragment = dont_fragment);
        Ok(())
    }

    /// Asks for a receive buffer (`SO_RCVBUF`): it gets twice `bytes`, within `net.core.rmem_max`.
    ///
    /// # Errors
    /// None.
    pub fn set_recv_buffer_size(&self, bytes: u32) -> io::Result<()> {
        let rmem_max = self.0.stack.core().config().sysctl.rmem_max;
        self.0.sock.rx.set_rcvbuf(bytes, rmem_max);
        Ok(())
    }

    /// Asks for a send buffer (`SO_SNDBUF`): it gets twice `bytes`, within `net.core.wmem_max`.
    ///
    /// # Errors
    /// None.
    pub fn set_send_buffer_size(&self, bytes: u32) -> io::Result<()> {
        let wmem_max = self.0.stack.core().config().sysctl.wmem_max;
        self.0.sock.set_sndbuf(bytes, wmem_max);
        Ok(())
    }

    /// What calls would do now without waiting (`poll(2)`). A datagram that waits has a sound checksum, unless the socket is
    /// non-blocking: then a read that follows may find that it has not, and nothing else. Room to send is half of the send
    /// buffer; errors that are told in detail count until they are read.
    ///
    /// # Errors
    /// `NetworkDown`.
    pub fn readiness(&self) -> io::Result<Readiness> {
        let core = self.0.stack.core();
        if core.is_down() {
            return Err(down());
        }
        Ok(core.udp_readiness(&self.0.sock, !self.0.nonblocking.load(Ordering::Relaxed), self.0.stack.now()))
    }

    /// How long a read that finds nothing polls the queue of the device that datagrams came by last, before it sleeps
    /// (`SO_BUSY_POLL`); as [`TcpStream::set_busy_poll`](super::TcpStream::set_busy_poll).
    ///
    /// # Errors
    /// `InvalidInput` beyond 2^31 microseconds.
    pub fn set_busy_poll(&self, time: Duration) -> io::Result<()> {
        self.0.busy.set_time(time)
    }

    /// Whether the queue's interrupt is masked meanwhile (`SO_PREFER_BUSY_POLL`).
    pub fn set_prefer_busy_poll(&self, prefer: bool) {
        self.0.busy.prefer(prefer);
    }

    /// Most packets that one such poll takes (`SO_BUSY_POLL_BUDGET`); 8 at first.
    pub fn set_busy_poll_budget(&self, packets: u16) {
        self.0.busy.set_budget(packets);
    }

    /// The queue that datagrams came by last (`SO_INCOMING_NAPI_ID`); 0 before there were any.
    pub fn incoming_napi_id(&self) -> u32 {
        self.0.sock.rx.napi_id()
    }

    /// Datagrams that the socket dropped, for want of room or because their checksum was wrong (`SO_RXQ_OVFL`).
    pub fn drops(&self) -> u32 {
        self.0.sock.rx.drops()
    }

    /// The stack that the socket is of.
    pub fn stack(&self) -> &Stack {
        &self.0.stack
    }
}
