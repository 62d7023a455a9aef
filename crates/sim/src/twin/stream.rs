//! Stream sockets of the host: the same calls on the kernel's and on a stack's.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt};
use rxpath::Stack;
use rxpath_core::tcp::SockOptions;
use serde::{Deserialize, Serialize};

use super::case::{Gave, digest, written_byte};
use super::datagram::error_name;
use super::frames::SERVER;

/// Sockets that a case may have at a time.
pub const SOCKETS: usize = 16;

/// A call on one of the host's stream sockets; none blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TcpCall {
    /// A new socket in the place of what was there listens on this port, with room for so many connections.
    Listen(u16, u32),
    /// Takes a connection of the listener of this number, in the place of what was there.
    Accept(u8),
    /// A new socket in the place of what was there connects from this port.
    Connect(u16, SocketAddrV4),
    /// `read` into a buffer of this size.
    Read(u32),
    /// `write` of so many bytes; what they are follows from their place in the stream.
    Write(u32),
    /// `shutdown`.
    Shutdown(Direction),
    /// `SO_LINGER` of no time, or none.
    LingerZero(bool),
    /// `TCP_NODELAY`.
    Nodelay(bool),
    /// Takes the pending error (`SO_ERROR`).
    TakeError,
    /// What it is ready for (`poll`).
    Poll,
    /// Drops the socket.
    Close,
}

/// What `shutdown` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Reading and writing.
    Both,
}

impl From<Direction> for Shutdown {
    fn from(direction: Direction) -> Shutdown {
        match direction {
            Direction::Read => Shutdown::Read,
            Direction::Write => Shutdown::Write,
            Direction::Both => Shutdown::Both,
        }
    }
}

impl std::fmt::Display for TcpCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TcpCall::Listen(port, backlog) => write!(f, "listen(:{port}, {backlog})"),
            TcpCall::Accept(listener) => write!(f, "accept({listener})"),
            TcpCall::Connect(from, to) => write!(f, "connect(:{from}, {to})"),
            TcpCall::Read(n) => write!(f, "read({n})"),
            TcpCall::Write(n) => write!(f, "write({n})"),
            TcpCall::Shutdown(direction) => write!(f, "shutdown({direction:?})"),
            TcpCall::LingerZero(on) => write!(f, "setsockopt(SO_LINGER, {on}, 0)"),
            TcpCall::Nodelay(on) => write!(f, "setsockopt(TCP_NODELAY, {on})"),
            TcpCall::TakeError => f.write_str("getsockopt(SO_ERROR)"),
            TcpCall::Poll => f.write_str("poll()"),
            TcpCall::Close => f.write_str("close()"),
        }
    }
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    events: [bool; 6],
}

impl std::fmt::Display for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 6] = ["IN", "OUT", "PRI", "RDHUP", "HUP", "ERR"];
        let set = NAMES.iter().zip(self.events).filter(|&(_, set)| set);
        let names: Vec<&str> = set.map(|(&name, _)| name).collect();
        f.write_str(&names.join("|"))
    }
}

/// A stream socket of one side. None blocks.
pub trait Streams: Sized + Read + Write {
    /// What it is made on.
    type On;
    /// A listening socket.
    type Listener;

    /// A socket that listens on this port of the server's address.
    fn listen(on: &Self::On, port: u16, backlog: u32) -> io::Result<Self::Listener>;
    /// The next connection.
    fn accept(from: &Self::Listener) -> io::Result<Self>;
    /// Begins to connect.
    fn connect(on: &Self::On, from: u16, to: SocketAddrV4) -> io::Result<Self>;
    /// Ends a direction.
    fn end(&self, direction: Direction) -> io::Result<()>;
    /// Sets the time for which a `close` waits to none, or has it not wait.
    fn linger_zero(&self, on: bool) -> io::Result<()>;
    /// Small segments go out at once, or do not.
    fn nodelay(&self, on: bool) -> io::Result<()>;
    /// Takes the pending error.
    fn pending(&self) -> io::Result<Option<io::Error>>;
    /// What it is ready for.
    fn ready(&self) -> io::Result<Ready>;
}

impl Streams for TcpStream {
    type On = ();
    type Listener = TcpListener;

    fn listen(_: &(), port: u16, backlog: u32) -> io::Result<TcpListener> {
        let socket = kernel_socket(port)?;
        listen(&socket, backlog as i32)?;
        Ok(socket.into())
    }

    fn accept(from: &TcpListener) -> io::Result<TcpStream> {
        let (stream, _) = from.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn connect(_: &(), from: u16, to: SocketAddrV4) -> io::Result<TcpStream> {
        let socket = kernel_socket(from)?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn end(&self, direction: Direction) -> io::Result<()> {
        self.shutdown(direction.into())
    }

    fn linger_zero(&self, on: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(self, on.then_some(Duration::ZERO))?)
    }

    fn nodelay(&self, on: bool) -> io::Result<()> {
        self.set_nodelay(on)
    }

    fn pending(&self) -> io::Result<Option<io::Error>> {
        self.take_error()
    }

    fn ready(&self) -> io::Result<Ready> {
        let wanted = PollFlags::IN | PollFlags::OUT | PollFlags::PRI | PollFlags::RDHUP;
        let mut fds = [PollFd::new(self, wanted)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let got = fds[0].revents();
        use PollFlags as Is;
        let events = [Is::IN, Is::OUT, Is::PRI, Is::RDHUP, Is::HUP, Is::ERR].map(|event| got.contains(event));
        Ok(Ready { events })
    }
}

fn kernel_socket(port: u16) -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(SERVER, port))?;
    Ok(socket)
}

impl Streams for rxpath::net::TcpStream {
    type On = Stack;
    type Listener = rxpath::net::TcpListener;

    fn listen(on: &Stack, port: u16, backlog: u32) -> io::Result<rxpath::net::TcpListener> {
        let listener = rxpath::net::TcpListener::bind_with(on, (SERVER, port), backlog)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn accept(from: &rxpath::net::TcpListener) -> io::Result<rxpath::net::TcpStream> {
        let (stream, _) = from.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn connect(on: &Stack, from: u16, to: SocketAddrV4) -> io::Result<rxpath::net::TcpStream> {
        rxpath::net::TcpStream::connect_nonblocking(on, Some(from), to.into(), &SockOptions::default())
    }

    fn end(&self, direction: Direction) -> io::Result<()> {
        self.shutdown(direction.into())
    }

    fn linger_zero(&self, on: bool) -> io::Result<()> {
        self.set_linger(on.then_some(Duration::ZERO))
    }

    fn nodelay(&self, on: bool) -> io::Result<()> {
        self.set_nodelay(on)
    }

    fn pending(&self) -> io::Result<Option<io::Error>> {
        self.take_error()
    }

    fn ready(&self) -> io::Result<Ready> {
        let is = self.readiness();
        Ok(Ready { events: [is.readable, is.writable, is.priority, is.read_hangup, is.hangup, is.error] })
    }
}

/// What is in a place.
enum Socket<S: Streams> {
    Listener(S::Listener),
    /// A connection, and the bytes written to it.
    Stream(S, u64),
}

/// The stream sockets of one side, by number.
pub struct StreamSockets<S: Streams> {
    on: S::On,
    sockets: [Option<Socket<S>>; SOCKETS],
}

impl<S: Streams> StreamSockets<S> {
    /// None yet.
    pub fn new(on: S::On) -> StreamSockets<S> {
        StreamSockets { on, sockets: std::array::from_fn(|_| None) }
    }

    /// Makes a call.
    pub fn call(&mut self, number: u8, call: TcpCall) -> Gave {
        self.attempt(number, call).unwrap_or_else(|error| Gave::Error(error_name(&error)))
    }

    fn attempt(&mut self, number: u8, call: TcpCall) -> io::Result<Gave> {
        let number = usize::from(number) % SOCKETS;
        match call {
            TcpCall::Listen(port, backlog) => {
                self.sockets[number] = None;
                self.sockets[number] = Some(Socket::Listener(S::listen(&self.on, port, backlog)?));
                return Ok(Gave::Done);
            }
            TcpCall::Accept(listener) => {
                let Some(Socket::Listener(listener)) = &self.sockets[usize::from(listener) % SOCKETS] else {
                    return Ok(Gave::NoConnection);
                };
                self.sockets[number] = Some(Socket::Stream(S::accept(listener)?, 0));
                return Ok(Gave::Done);
            }
            TcpCall::Connect(from, to) => {
                self.sockets[number] = None;
                self.sockets[number] = Some(Socket::Stream(S::connect(&self.on, from, to)?, 0));
                return Ok(Gave::Done);
            }
            TcpCall::Close => {
                let was = self.sockets[number].take();
                return Ok(if was.is_some() { Gave::Done } else { Gave::NoConnection });
            }
            _ => {}
        }
        let Some(Socket::Stream(stream, written)) = &mut self.sockets[number] else { return Ok(Gave::NoConnection) };
        on_stream(stream, written, call)
    }
}

/// A call on a connection.
fn on_stream<S: Streams>(stream: &mut S, written: &mut u64, call: TcpCall) -> io::Result<Gave> {
    match call {
        TcpCall::Listen(..) | TcpCall::Accept(_) | TcpCall::Connect(..) | TcpCall::Close => {}
        TcpCall::Read(size) => {
            let mut buf = vec![0; size as usize];
            let n = stream.read(&mut buf)?;
            return Ok(if n == 0 { Gave::End } else { Gave::Bytes(n as u32, digest(&buf[..n])) });
        }
        TcpCall::Write(size) => {
            let bytes: Vec<u8> = (0..u64::from(size)).map(|at| written_byte(*written + at)).collect();
            let n = stream.write(&bytes)?;
            *written += n as u64;
            return Ok(Gave::Taken(n as u32));
        }
        TcpCall::Shutdown(direction) => stream.end(direction)?,
        TcpCall::LingerZero(on) => stream.linger_zero(on)?,
        TcpCall::Nodelay(on) => stream.nodelay(on)?,
        TcpCall::TakeError => {
            if let Some(error) = stream.pending()? {
                return Err(error);
            }
        }
        TcpCall::Poll => return Ok(Gave::Ready(stream.ready()?.to_string())),
    }
    Ok(Gave::Done)
}
