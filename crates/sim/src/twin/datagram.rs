//! Datagram sockets of the host: the same calls on the kernel's and on a stack's.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketFlags, SocketType, bind, connect_unspec, recvmsg,
    socket_with, sockopt,
};
use rxpath::Stack;
use rxpath_core::stack::BindOptions;
use serde::{Deserialize, Serialize};

use super::case::{Gave, digest, written_byte};

/// Sockets that a case may have at a time.
pub const SOCKETS: usize = 8;

/// A call on one of the host's datagram sockets; none blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UdpCall {
    /// A new socket in the place of what was there, bound to this address and port, which may be shared (`SO_REUSEADDR`).
    Bind(SocketAddrV4, bool),
    /// `connect`.
    Connect(SocketAddrV4),
    /// `connect` to nobody (`AF_UNSPEC`).
    Disconnect,
    /// `send` of so many bytes.
    Send(u32),
    /// `sendto` of so many bytes.
    SendTo(u32, SocketAddrV4),
    /// `recvmsg` into a buffer of this size.
    Recv(u32),
    /// The same, and what is read stays (`MSG_PEEK`).
    Peek(u32),
    /// Joins a group on the interface with this address.
    Join(Ipv4Addr, Ipv4Addr),
    /// Leaves a group.
    Leave(Ipv4Addr, Ipv4Addr),
    /// Sets an option.
    Set(UdpOption),
    /// Takes the pending error (`SO_ERROR`).
    TakeError,
    /// Drops the socket.
    Close,
}

/// An option of a datagram socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UdpOption {
    /// `SO_BROADCAST`.
    Broadcast(bool),
    /// `IP_TTL`.
    Ttl(u8),
    /// `IP_TOS`.
    Tos(u8),
    /// `IP_MULTICAST_TTL`.
    GroupTtl(u8),
    /// `IP_MULTICAST_LOOP`.
    GroupLoop(bool),
    /// `IP_MULTICAST_IF`, by address.
    GroupInterface(Ipv4Addr),
    /// `IP_MTU_DISCOVER`: `IP_PMTUDISC_DO`, or else `IP_PMTUDISC_WANT`.
    DontFragment(bool),
    /// `SO_RCVBUF`.
    Rcvbuf(u32),
}

impl std::fmt::Display for UdpCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UdpCall::Bind(at, false) => write!(f, "bind({at})"),
            UdpCall::Bind(at, true) => write!(f, "bind({at}, SO_REUSEADDR)"),
            UdpCall::Connect(to) => write!(f, "connect({to})"),
            UdpCall::Disconnect => f.write_str("disconnect()"),
            UdpCall::Send(len) => write!(f, "send({len})"),
            UdpCall::SendTo(len, to) => write!(f, "sendto({len}, {to})"),
            UdpCall::Recv(size) => write!(f, "recvmsg({size})"),
            UdpCall::Peek(size) => write!(f, "recvmsg({size}, MSG_PEEK)"),
            UdpCall::Join(group, on) => write!(f, "join({group}, {on})"),
            UdpCall::Leave(group, on) => write!(f, "leave({group}, {on})"),
            UdpCall::Set(option) => write!(f, "setsockopt({option:?})"),
            UdpCall::TakeError => f.write_str("getsockopt(SO_ERROR)"),
            UdpCall::Close => f.write_str("close()"),
        }
    }
}

/// What was read: a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    len: usize,
    full_len: usize,
    truncated: bool,
    from: Option<SocketAddr>,
}

/// A datagram socket of one side.
pub trait Datagrams: Sized {
    /// What it is made on.
    type On;

    /// A socket with this name.
    fn bind(on: &Self::On, at: SocketAddrV4, shared: bool) -> io::Result<Self>;
    /// Reads.
    fn read(&self, buf: &mut [u8], peek: bool) -> io::Result<Read>;
    /// Sends, to the peer if nobody is named.
    fn write(&self, bytes: &[u8], to: Option<SocketAddrV4>) -> io::Result<usize>;
    /// Connects, or with None ends that.
    fn connect_to(&self, to: Option<SocketAddrV4>) -> io::Result<()>;
    /// Joins a group, or with false leaves it.
    fn member(&self, group: Ipv4Addr, on: Ipv4Addr, joins: bool) -> io::Result<()>;
    /// Sets an option.
    fn set(&self, option: UdpOption) -> io::Result<()>;
    /// Takes the pending error.
    fn pending(&self) -> io::Result<Option<io::Error>>;
}

impl Datagrams for UdpSocket {
    type On = ();

    fn bind(_: &(), at: SocketAddrV4, shared: bool) -> io::Result<UdpSocket> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, shared)?;
        bind(&socket, &at)?;
        Ok(socket.into())
    }

    fn read(&self, buf: &mut [u8], peek: bool) -> io::Result<Read> {
        let size = buf.len();
        let flags = RecvFlags::TRUNC | if peek { RecvFlags::PEEK } else { RecvFlags::empty() };
        let mut control = RecvAncillaryBuffer::default();
        let got = recvmsg(self, &mut [IoSliceMut::new(buf)], &mut control, flags)?;
        let from = got.address.and_then(|from| SocketAddr::try_from(from).ok());
        let truncated = got.flags.contains(ReturnFlags::TRUNC);
        Ok(Read { len: got.bytes.min(size), full_len: got.bytes, truncated, from })
    }

    fn write(&self, bytes: &[u8], to: Option<SocketAddrV4>) -> io::Result<usize> {
        to.map_or_else(|| self.send(bytes), |to| self.send_to(bytes, to))
    }

    fn connect_to(&self, to: Option<SocketAddrV4>) -> io::Result<()> {
        match to {
            Some(to) => self.connect(to),
            None => Ok(connect_unspec(self)?),
        }
    }

    fn member(&self, group: Ipv4Addr, on: Ipv4Addr, joins: bool) -> io::Result<()> {
        if joins { self.join_multicast_v4(&group, &on) } else { self.leave_multicast_v4(&group, &on) }
    }

    fn set(&self, option: UdpOption) -> io::Result<()> {
        match option {
            UdpOption::Broadcast(on) => self.set_broadcast(on)?,
            UdpOption::Ttl(ttl) => self.set_ttl(ttl.into())?,
            UdpOption::Tos(tos) => sockopt::set_ip_tos(self, tos)?,
            UdpOption::GroupTtl(ttl) => self.set_multicast_ttl_v4(ttl.into())?,
            UdpOption::GroupLoop(on) => self.set_multicast_loop_v4(on)?,
            UdpOption::GroupInterface(address) => sockopt::set_ip_multicast_if(self, &address)?,
            UdpOption::DontFragment(on) => {
                use sockopt::Ipv4PathMtuDiscovery as Discovery;
                sockopt::set_ip_mtu_discover(self, if on { Discovery::DO } else { Discovery::WANT })?;
            }
            UdpOption::Rcvbuf(bytes) => sockopt::set_socket_recv_buffer_size(self, bytes as usize)?,
        }
        Ok(())
    }

    fn pending(&self) -> io::Result<Option<io::Error>> {
        self.take_error()
    }
}

impl Datagrams for rxpath::net::UdpSocket {
    type On = Stack;

    fn bind(on: &Stack, at: SocketAddrV4, shared: bool) -> io::Result<rxpath::net::UdpSocket> {
        let options = BindOptions { reuse_addr: shared, ..BindOptions::default() };
        let socket = rxpath::net::UdpSocket::bind_with(on, at, options)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn read(&self, buf: &mut [u8], peek: bool) -> io::Result<Read> {
        let got = if peek { self.peek_msg(buf)? } else { self.recv_msg(buf)? };
        Ok(Read { len: got.len, full_len: got.full_len, truncated: got.truncated, from: Some(got.from) })
    }

    fn write(&self, bytes: &[u8], to: Option<SocketAddrV4>) -> io::Result<usize> {
        to.map_or_else(|| self.send(bytes), |to| self.send_to(bytes, to))
    }

    fn connect_to(&self, to: Option<SocketAddrV4>) -> io::Result<()> {
        match to {
            Some(to) => self.connect(to),
            // The kernel does not mind where there is no peer.
            None if self.peer_addr().is_err() => Ok(()),
            None => self.disconnect(),
        }
    }

    fn member(&self, group: Ipv4Addr, on: Ipv4Addr, joins: bool) -> io::Result<()> {
        if joins { self.join_multicast_v4(&group, &on) } else { self.leave_multicast_v4(&group, &on) }
    }

    fn set(&self, option: UdpOption) -> io::Result<()> {
        match option {
            UdpOption::Broadcast(on) => self.set_broadcast(on),
            UdpOption::Ttl(ttl) => self.set_ttl(ttl.into()),
            UdpOption::Tos(tos) => self.set_tos(tos),
            UdpOption::GroupTtl(ttl) => self.set_multicast_ttl_v4(ttl.into()),
            UdpOption::GroupLoop(on) => self.set_multicast_loop_v4(on),
            UdpOption::GroupInterface(address) => self.set_multicast_if_v4(&address),
            UdpOption::DontFragment(on) => self.set_dont_fragment(on),
            UdpOption::Rcvbuf(bytes) => self.set_recv_buffer_size(bytes),
        }
    }

    fn pending(&self) -> io::Result<Option<io::Error>> {
        self.take_error()
    }
}

/// The sockets of one side, by number.
pub struct Sockets<S: Datagrams> {
    on: S::On,
    sockets: [Option<S>; SOCKETS],
    /// Datagrams sent: what the next one holds follows from their number.
    sent: u64,
}

impl<S: Datagrams> Sockets<S> {
    /// None yet.
    pub fn new(on: S::On) -> Sockets<S> {
        Sockets { on, sockets: std::array::from_fn(|_| None), sent: 0 }
    }

    /// Makes a call.
    pub fn call(&mut self, number: u8, call: UdpCall) -> Gave {
        self.attempt(number, call).unwrap_or_else(|error| Gave::Error(error_name(&error)))
    }

    fn attempt(&mut self, number: u8, call: UdpCall) -> io::Result<Gave> {
        let place = &mut self.sockets[usize::from(number) % SOCKETS];
        if let UdpCall::Bind(at, shared) = call {
            *place = None;
            *place = Some(S::bind(&self.on, at, shared)?);
            return Ok(Gave::Done);
        }
        let Some(socket) = place else { return Ok(Gave::NoConnection) };
        let mut send = |len: u32, to: Option<SocketAddrV4>| {
            self.sent += 1;
            let bytes: Vec<u8> = (0..u64::from(len)).map(|at| written_byte(self.sent * 1_000 + at)).collect();
            socket.write(&bytes, to).map(|taken| Gave::Taken(taken as u32))
        };
        match call {
            UdpCall::Bind(..) => {}
            UdpCall::Connect(to) => socket.connect_to(Some(to))?,
            UdpCall::Disconnect => socket.connect_to(None)?,
            UdpCall::Send(len) => return send(len, None),
            UdpCall::SendTo(len, to) => return send(len, Some(to)),
            UdpCall::Recv(size) => return read(socket, size, false),
            UdpCall::Peek(size) => return read(socket, size, true),
            UdpCall::Join(group, on) => socket.member(group, on, true)?,
            UdpCall::Leave(group, on) => socket.member(group, on, false)?,
            UdpCall::Set(option) => socket.set(option)?,
            UdpCall::TakeError => {
                if let Some(error) = socket.pending()? {
                    return Err(error);
                }
            }
            UdpCall::Close => *place = None,
        }
        Ok(Gave::Done)
    }
}

fn read<S: Datagrams>(socket: &S, size: u32, peek: bool) -> io::Result<Gave> {
    let mut buf = vec![0; size as usize];
    let Read { len, full_len, truncated, from } = socket.read(&mut buf, peek)?;
    let from = from.map_or_else(String::new, |from| from.to_string());
    Ok(Gave::Datagram { len: len as u32, full_len: full_len as u32, truncated, from, sum: digest(&buf[..len]) })
}

/// Linux's number of an error, where there is one: of the kinds of `std` that the stack makes errors of, the number that
/// they stand for.
pub(super) fn error_name(error: &io::Error) -> String {
    let number = error.raw_os_error().or_else(|| {
        Some(match error.kind() {
            io::ErrorKind::WouldBlock => 11,
            io::ErrorKind::PermissionDenied => 13,
            io::ErrorKind::BrokenPipe => 32,
            io::ErrorKind::InvalidInput => 22,
            io::ErrorKind::AddrInUse => 98,
            io::ErrorKind::AddrNotAvailable => 99,
            io::ErrorKind::NetworkUnreachable => 101,
            io::ErrorKind::NotConnected => 107,
            io::ErrorKind::ConnectionRefused => 111,
            io::ErrorKind::HostUnreachable => 113,
            _ => return None,
        })
    });
    number.map_or_else(|| format!("{:?}", error.kind()), |number| format!("errno {number}"))
}
