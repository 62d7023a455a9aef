//! Stream sockets of the host: the same calls on the kernel's and on a stack's.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, listen, recv, send, socket_with,
    sockopt,
};
use rxpath::Stack;
use rxpath::device::netns;
use rxpath_core::tcp::{Keepalive, Linger2, SockOptions};
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
    /// As `Listen`, as one of several on the port (`SO_REUSEPORT`).
    ListenShared(u16, u32),
    /// Takes a connection of the listener of this number, in the place of what was there.
    Accept(u8),
    /// A new socket in the place of what was there connects from this port.
    Connect(u16, SocketAddrV4),
    /// As `Connect`, with options that were set before.
    ConnectWith(u16, SocketAddrV4, Patience),
    /// `read` into a buffer of this size.
    Read(u32),
    /// `write` of so many bytes; what they are follows from their place in the stream.
    Write(u32),
    /// `send` of so many bytes, with flags.
    Send(u32, Tail),
    /// `recv` into a buffer of this size, with flags.
    Recv(u32, How),
    /// `recv` of the urgent byte (`MSG_OOB`), which stays if it is only looked at.
    RecvUrgent(bool),
    /// `send` of so many bytes with `MSG_OOB`.
    SendUrgent(u32),
    /// Sets an option.
    Set(Knob, u32),
    /// Asks for something that the socket knows.
    Ask(Fact),
    /// `shutdown`.
    Shutdown(Direction),
    /// `SO_LINGER` of no time, or none.
    LingerZero(bool),
    /// `TCP_NODELAY`.
    Nodelay(bool),
    /// `TCP_CORK`.
    Cork(bool),
    /// `TCP_KEEPIDLE`, `TCP_KEEPINTVL` and `TCP_KEEPCNT`, and then `SO_KEEPALIVE`; or the latter is switched off.
    Keepalive(Option<Probing>),
    /// Takes the pending error (`SO_ERROR`).
    TakeError,
    /// What it is ready for (`poll`).
    Poll,
    /// Drops the socket.
    Close,
}

/// When a silent peer is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probing {
    /// Seconds of silence before the first probe (`TCP_KEEPIDLE`).
    pub idle_s: u8,
    /// Seconds between probes (`TCP_KEEPINTVL`).
    pub interval_s: u8,
    /// Probes without an answer after which the connection is over (`TCP_KEEPCNT`).
    pub probes: u8,
}

impl Probing {
    fn of_stack(self) -> Keepalive {
        let Probing { idle_s, interval_s, probes } = self;
        let (idle_s, interval_s) = (Some(u32::from(idle_s)), Some(u32::from(interval_s)));
        Keepalive { idle_s, interval_s, probes: Some(probes) }
    }
}

/// How much a connection that is opened puts up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// SYNs that are sent again (`TCP_SYNCNT`).
    pub syn_retries: Option<u8>,
    /// `TCP_USER_TIMEOUT`, milliseconds; 0 is none.
    pub user_timeout_ms: u32,
    /// Probes of a silent peer.
    pub keepalive: Option<Probing>,
}

impl Patience {
    fn of_stack(self) -> SockOptions {
        let Patience { syn_retries, user_timeout_ms, keepalive } = self;
        let mut options = SockOptions::default();
        (options.syn_retries, options.user_timeout_ms) = (syn_retries, user_timeout_ms);
        options.keepalive = keepalive.map(Probing::of_stack);
        options
    }
}

/// Flags of `recv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// `MSG_PEEK`.
    pub peek: bool,
    /// `MSG_WAITALL`.
    pub wait_all: bool,
    /// `MSG_TRUNC`: the bytes are thrown away.
    pub discard: bool,
}

/// Flags of `send`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// `MSG_MORE`.
    pub more: bool,
    /// `MSG_EOR`.
    pub record: bool,
}

/// An option that is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Knob {
    /// `SO_RCVBUF`.
    RecvBuffer,
    /// `SO_SNDBUF`.
    SendBuffer,
    /// `SO_RCVLOWAT`.
    RecvLowat,
    /// `SO_OOBINLINE`.
    UrgentInline,
    /// `TCP_MAXSEG`.
    MaxSegment,
    /// `TCP_WINDOW_CLAMP`.
    WindowClamp,
    /// `TCP_QUICKACK`.
    Quickack,
    /// `TCP_NOTSENT_LOWAT`.
    NotsentLowat,
    /// `TCP_USER_TIMEOUT`.
    UserTimeout,
    /// `TCP_LINGER2`; what is negative as an `int` counts as that.
    Linger2,
    /// `TCP_SYNCNT`, of a listener.
    SynCount,
    /// `TCP_DEFER_ACCEPT`, of a listener.
    DeferAccept,
    /// `TCP_FASTOPEN`, of a listener.
    FastOpen,
}

impl Knob {
    /// Name, level and number.
    fn of_kernel(self) -> (&'static str, i32, i32) {
        const SOCKET: i32 = 1;
        const TCP: i32 = 6;
        match self {
            Knob::RecvBuffer => ("SO_RCVBUF", SOCKET, 8),
            Knob::SendBuffer => ("SO_SNDBUF", SOCKET, 7),
            Knob::RecvLowat => ("SO_RCVLOWAT", SOCKET, 18),
            Knob::UrgentInline => ("SO_OOBINLINE", SOCKET, 10),
            Knob::MaxSegment => ("TCP_MAXSEG", TCP, 2),
            Knob::WindowClamp => ("TCP_WINDOW_CLAMP", TCP, 10),
            Knob::Quickack => ("TCP_QUICKACK", TCP, 12),
            Knob::NotsentLowat => ("TCP_NOTSENT_LOWAT", TCP, 25),
            Knob::UserTimeout => ("TCP_USER_TIMEOUT", TCP, 18),
            Knob::Linger2 => ("TCP_LINGER2", TCP, 8),
            Knob::SynCount => ("TCP_SYNCNT", TCP, 7),
            Knob::DeferAccept => ("TCP_DEFER_ACCEPT", TCP, 9),
            Knob::FastOpen => ("TCP_FASTOPEN", TCP, 23),
        }
    }
}

/// Something that a socket knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// The value of an option.
    Option(Knob),
    /// The next byte is the urgent one (`SIOCATMARK`).
    AtMark,
    /// Bytes to be read (`SIOCINQ`).
    Inq,
    /// Bytes that are not acknowledged (`SIOCOUTQ`).
    Outq,
    /// Bytes that were not sent (`SIOCOUTQNSD`).
    Unsent,
    /// What `TCP_INFO` tells and does not hang on the time.
    Info,
}

/// Those fields of `TCP_INFO` that do not hang on the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// State of congestion control, timeouts in a row, probes, doublings of the timeout.
    pub states: [u8; 4],
    /// Largest segments that are sent, and were received.
    pub mss: [u32; 2],
    /// Segments in flight, of which acknowledged selectively, lost, sent again.
    pub flight: [u32; 4],
    /// Ceiling of the window.
    pub rcv_ssthresh: u32,
    /// Slow-start threshold and congestion window.
    pub cwnd: [u32; 2],
    /// Segments by which packets overtake each other, and segments sent again in all.
    pub counts: [u32; 2],
}

impl std::fmt::Display for Info {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Info { states: [ca, retransmits, probes, backoff], mss: [snd_mss, rcv_mss], .. } = self;
        let ([unacked, sacked, lost, retrans], [ssthresh, cwnd]) = (self.flight, self.cwnd);
        let ([reordering, total], rcv_ssthresh) = (self.counts, self.rcv_ssthresh);
        write!(
            f,
            "ca {ca} rto {retransmits}/{probes}/{backoff} mss {snd_mss}/{rcv_mss} out {unacked} sacked {sacked} "
        )?;
        write!(f, "lost {lost} retrans {retrans}/{total} ssthresh {ssthresh} cwnd {cwnd} reordering {reordering} ")?;
        write!(f, "rcv_ssthresh {rcv_ssthresh}")
    }
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
            TcpCall::ListenShared(port, backlog) => write!(f, "listen(:{port}, {backlog}) with SO_REUSEPORT"),
            TcpCall::Accept(listener) => write!(f, "accept({listener})"),
            TcpCall::Connect(from, to) => write!(f, "connect(:{from}, {to})"),
            TcpCall::ConnectWith(from, to, with) => {
                let Patience { syn_retries, user_timeout_ms, keepalive } = with;
                let (retries, probes) = (syn_retries.map_or(0, u32::from), keepalive.map(Probes));
                write!(f, "connect(:{from}, {to}) with TCP_SYNCNT {retries}, TCP_USER_TIMEOUT {user_timeout_ms}")?;
                probes.map_or(Ok(()), |probes| write!(f, ", {probes}"))
            }
            TcpCall::Read(n) => write!(f, "read({n})"),
            TcpCall::Write(n) => write!(f, "write({n})"),
            TcpCall::Send(n, tail) => {
                let flags = [(tail.more, "|MORE"), (tail.record, "|EOR")];
                let flags: String = flags.into_iter().filter(|&(set, _)| set).map(|(_, name)| name).collect();
                write!(f, "send({n}, {})", flags.trim_start_matches('|'))
            }
            TcpCall::Recv(n, how) => {
                let flags = [(how.peek, "PEEK"), (how.wait_all, "WAITALL"), (how.discard, "TRUNC")];
                let flags: Vec<&str> = flags.into_iter().filter(|&(set, _)| set).map(|(_, name)| name).collect();
                write!(f, "recv({n}, {})", flags.join("|"))
            }
            TcpCall::RecvUrgent(peek) => write!(f, "recv(OOB{})", if *peek { "|PEEK" } else { "" }),
            TcpCall::SendUrgent(n) => write!(f, "send({n}, OOB)"),
            TcpCall::Set(knob, value) => write!(f, "setsockopt({}, {})", knob.of_kernel().0, value.cast_signed()),
            TcpCall::Ask(Fact::Option(knob)) => write!(f, "getsockopt({})", knob.of_kernel().0),
            TcpCall::Ask(fact) => write!(f, "ask({fact:?})"),
            TcpCall::Shutdown(direction) => write!(f, "shutdown({direction:?})"),
            TcpCall::LingerZero(on) => write!(f, "setsockopt(SO_LINGER, {on}, 0)"),
            TcpCall::Nodelay(on) => write!(f, "setsockopt(TCP_NODELAY, {on})"),
            TcpCall::Cork(on) => write!(f, "setsockopt(TCP_CORK, {on})"),
            TcpCall::Keepalive(Some(probing)) => write!(f, "setsockopt({})", Probes(*probing)),
            TcpCall::Keepalive(None) => f.write_str("setsockopt(SO_KEEPALIVE, false)"),
            TcpCall::TakeError => f.write_str("getsockopt(SO_ERROR)"),
            TcpCall::Poll => f.write_str("poll()"),
            TcpCall::Close => f.write_str("close()"),
        }
    }
}

/// Probing in words.
struct Probes(Probing);

impl std::fmt::Display for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Probing { idle_s, interval_s, probes } = self.0;
        write!(f, "SO_KEEPALIVE after {idle_s} s, every {interval_s} s, {probes} times")
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

    /// A socket that listens on this port of the server's address, maybe beside others.
    fn listen(on: &Self::On, port: u16, backlog: u32, shared: bool) -> io::Result<Self::Listener>;
    /// The next connection.
    fn accept(from: &Self::Listener) -> io::Result<Self>;
    /// Begins to connect.
    fn connect(on: &Self::On, from: u16, to: SocketAddrV4, with: Patience) -> io::Result<Self>;
    /// Ends a direction.
    fn end(&self, direction: Direction) -> io::Result<()>;
    /// Sets the time for which a `close` waits to none, or has it not wait.
    fn linger_zero(&self, on: bool) -> io::Result<()>;
    /// Small segments go out at once, or do not.
    fn nodelay(&self, on: bool) -> io::Result<()>;
    /// The last segment waits until it is full, or does not.
    fn cork(&self, on: bool) -> io::Result<()>;
    /// Writes with flags.
    fn send(&self, data: &[u8], tail: Tail) -> io::Result<usize>;
    /// A silent peer is probed, or is not.
    fn keepalive(&self, probing: Option<Probing>) -> io::Result<()>;
    /// The same for connections of a listener.
    fn keepalive_listener(listener: &Self::Listener, probing: Option<Probing>) -> io::Result<()>;
    /// Takes the pending error.
    fn pending(&self) -> io::Result<Option<io::Error>>;
    /// What it is ready for.
    fn ready(&self) -> io::Result<Ready>;
    /// Reads with flags.
    fn recv(&self, buf: &mut [u8], how: How) -> io::Result<usize>;
    /// Reads the urgent byte; None at the end of the stream.
    fn recv_urgent(&self, peek: bool) -> io::Result<Option<u8>>;
    /// Writes bytes of which the last is urgent.
    fn send_urgent(&self, data: &[u8]) -> io::Result<usize>;
    /// Sets an option.
    fn set(&self, knob: Knob, value: u32) -> io::Result<()>;
    /// Tells something.
    fn ask(&self, fact: Fact) -> io::Result<String>;
    /// Sets an option that connections inherit, or that is the listener's own.
    fn set_listener(listener: &Self::Listener, knob: Knob, value: u32) -> io::Result<()>;
}

impl Streams for TcpStream {
    type On = ();
    type Listener = TcpListener;

    fn listen(_: &(), port: u16, backlog: u32, shared: bool) -> io::Result<TcpListener> {
        let socket = kernel_socket(port, shared)?;
        listen(&socket, backlog as i32)?;
        Ok(socket.into())
    }

    fn accept(from: &TcpListener) -> io::Result<TcpStream> {
        let (stream, _) = from.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn connect(_: &(), from: u16, to: SocketAddrV4, with: Patience) -> io::Result<TcpStream> {
        let socket = kernel_socket(from, false)?;
        if let Some(retries) = with.syn_retries {
            set_kernel(&socket, Knob::SynCount, u32::from(retries))?;
        }
        if with.user_timeout_ms > 0 {
            set_kernel(&socket, Knob::UserTimeout, with.user_timeout_ms)?;
        }
        if with.keepalive.is_some() {
            keep_kernel_alive(&socket, with.keepalive)?;
        }
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

    fn cork(&self, on: bool) -> io::Result<()> {
        Ok(sockopt::set_tcp_cork(self, on)?)
    }

    fn send(&self, data: &[u8], tail: Tail) -> io::Result<usize> {
        let flags = [(tail.more, SendFlags::MORE), (tail.record, SendFlags::EOR)];
        let flags = flags.into_iter().filter(|&(set, _)| set).fold(SendFlags::NOSIGNAL, |all, (_, flag)| all | flag);
        Ok(send(self, data, flags)?)
    }

    fn keepalive(&self, probing: Option<Probing>) -> io::Result<()> {
        keep_kernel_alive(self, probing)
    }

    fn keepalive_listener(listener: &TcpListener, probing: Option<Probing>) -> io::Result<()> {
        keep_kernel_alive(listener, probing)
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

    fn recv(&self, buf: &mut [u8], how: How) -> io::Result<usize> {
        let flags = [(how.peek, RecvFlags::PEEK), (how.wait_all, RecvFlags::WAITALL), (how.discard, RecvFlags::TRUNC)];
        let flags = flags.into_iter().filter(|&(set, _)| set).fold(RecvFlags::empty(), |all, (_, flag)| all | flag);
        // With `MSG_TRUNC` more is taken than is copied.
        let (_, count) = recv(self, &mut *buf, flags)?;
        Ok(count)
    }

    fn recv_urgent(&self, peek: bool) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let flags = if peek { RecvFlags::OOB | RecvFlags::PEEK } else { RecvFlags::OOB };
        let (_, count) = recv(self, &mut byte, flags)?;
        Ok((count > 0).then_some(byte[0]))
    }

    fn send_urgent(&self, data: &[u8]) -> io::Result<usize> {
        Ok(send(self, data, SendFlags::OOB | SendFlags::NOSIGNAL)?)
    }

    fn set(&self, knob: Knob, value: u32) -> io::Result<()> {
        set_kernel(self, knob, value)
    }

    fn ask(&self, fact: Fact) -> io::Result<String> {
        use netns::sockopt::{Request, ask, get, tcp_info};
        Ok(match fact {
            Fact::Option(knob) => {
                let (_, level, name) = knob.of_kernel();
                get(self, level, name)?.to_string()
            }
            Fact::AtMark => (ask(self, Request::AtMark)? != 0).to_string(),
            Fact::Inq => ask(self, Request::Inq)?.to_string(),
            Fact::Outq => ask(self, Request::Outq)?.to_string(),
            Fact::Unsent => ask(self, Request::Unsent)?.to_string(),
            Fact::Info => {
                let info = tcp_info(self)?;
                let word = |at: usize| {
                    info.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
                };
                Info {
                    states: [info[1], info[2], info[3], info[4]],
                    mss: [word(16), word(20)],
                    flight: [24, 28, 32, 36].map(word),
                    rcv_ssthresh: word(64),
                    cwnd: [76, 80].map(word),
                    counts: [88, 100].map(word),
                }
                .to_string()
            }
        })
    }

    fn set_listener(listener: &TcpListener, knob: Knob, value: u32) -> io::Result<()> {
        set_kernel(listener, knob, value)
    }
}

fn set_kernel(socket: impl AsFd, knob: Knob, value: u32) -> io::Result<()> {
    let (_, level, name) = knob.of_kernel();
    netns::sockopt::set(socket, level, name, value)
}

fn keep_kernel_alive(socket: impl AsFd, probing: Option<Probing>) -> io::Result<()> {
    const TCP: i32 = 6;
    const SO_KEEPALIVE: (i32, i32) = (1, 9);
    let socket = socket.as_fd();
    if let Some(Probing { idle_s, interval_s, probes }) = probing {
        for (name, value) in [(4, idle_s), (5, interval_s), (6, probes)] {
            netns::sockopt::set(socket, TCP, name, u32::from(value))?;
        }
    }
    netns::sockopt::set(socket, SO_KEEPALIVE.0, SO_KEEPALIVE.1, u32::from(probing.is_some()))
}

fn kernel_socket(port: u16, shared: bool) -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    bind(&socket, &SocketAddrV4::new(SERVER, port))?;
    Ok(socket)
}

impl Streams for rxpath::net::TcpStream {
    type On = Stack;
    type Listener = rxpath::net::TcpListener;

    fn listen(on: &Stack, port: u16, backlog: u32, shared: bool) -> io::Result<rxpath::net::TcpListener> {
        let listener = match shared {
            true => rxpath::net::TcpListener::bind_shared(on, (SERVER, port), backlog)?,
            false => rxpath::net::TcpListener::bind_with(on, (SERVER, port), backlog)?,
        };
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn accept(from: &rxpath::net::TcpListener) -> io::Result<rxpath::net::TcpStream> {
        let (stream, _) = from.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn connect(on: &Stack, from: u16, to: SocketAddrV4, with: Patience) -> io::Result<rxpath::net::TcpStream> {
        rxpath::net::TcpStream::connect_nonblocking(on, Some(from), to.into(), &with.of_stack())
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

    fn cork(&self, on: bool) -> io::Result<()> {
        self.set_cork(on);
        Ok(())
    }

    fn send(&self, data: &[u8], tail: Tail) -> io::Result<usize> {
        let Tail { more, record: end_of_record } = tail;
        self.send_with(data, rxpath::net::SendFlags { more, end_of_record, dont_wait: true })
    }

    fn keepalive(&self, probing: Option<Probing>) -> io::Result<()> {
        self.set_keepalive(probing.map(Probing::of_stack))
    }

    fn keepalive_listener(listener: &rxpath::net::TcpListener, probing: Option<Probing>) -> io::Result<()> {
        let mut options = listener.options();
        options.keepalive = probing.map(Probing::of_stack);
        listener.set_options(options)
    }

    fn pending(&self) -> io::Result<Option<io::Error>> {
        self.take_error()
    }

    fn ready(&self) -> io::Result<Ready> {
        let is = self.readiness();
        Ok(Ready { events: [is.readable, is.writable, is.priority, is.read_hangup, is.hangup, is.error] })
    }

    fn recv(&self, buf: &mut [u8], how: How) -> io::Result<usize> {
        let How { peek, wait_all, discard } = how;
        self.recv_with(buf, rxpath::net::RecvFlags { peek, wait_all, discard, dont_wait: true })
    }

    fn recv_urgent(&self, peek: bool) -> io::Result<Option<u8>> {
        rxpath::net::TcpStream::recv_urgent(self, peek)
    }

    fn send_urgent(&self, data: &[u8]) -> io::Result<usize> {
        rxpath::net::TcpStream::send_urgent(self, data)
    }

    fn set(&self, knob: Knob, value: u32) -> io::Result<()> {
        match knob {
            Knob::RecvBuffer => self.set_recv_buffer_size(value),
            Knob::SendBuffer => self.set_send_buffer_size(value),
            Knob::RecvLowat => self.set_recv_lowat(value),
            Knob::UrgentInline => self.set_urgent_inline(value != 0),
            Knob::MaxSegment => return self.set_max_segment(value.min(u32::from(u16::MAX)) as u16),
            Knob::WindowClamp => return self.set_window_clamp(value),
            Knob::Quickack => self.set_quickack(value != 0),
            Knob::NotsentLowat => self.set_notsent_lowat(value),
            Knob::UserTimeout => return self.set_user_timeout(Some(Duration::from_millis(value.into()))),
            Knob::Linger2 => self.set_linger2(linger2_of(value)),
            Knob::SynCount | Knob::DeferAccept | Knob::FastOpen => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(())
    }

    fn ask(&self, fact: Fact) -> io::Result<String> {
        Ok(match fact {
            Fact::Option(knob) => match knob {
                Knob::RecvBuffer => self.recv_buffer_size(),
                Knob::SendBuffer => self.send_buffer_size(),
                Knob::RecvLowat => self.recv_lowat(),
                Knob::UrgentInline => u32::from(self.urgent_inline()),
                Knob::MaxSegment => u32::from(self.max_segment()),
                Knob::WindowClamp => self.window_clamp(),
                Knob::Quickack => u32::from(self.quickack()),
                Knob::NotsentLowat => self.notsent_lowat(),
                Knob::UserTimeout | Knob::Linger2 | Knob::SynCount | Knob::DeferAccept | Knob::FastOpen => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
            }
            .to_string(),
            Fact::AtMark => self.at_mark().to_string(),
            Fact::Inq => self.available().to_string(),
            Fact::Outq => self.unacknowledged().to_string(),
            Fact::Unsent => self.unsent().to_string(),
            Fact::Info => {
                let info = self.info();
                Info {
                    states: [info.ca_state as u8, info.retransmits, info.probes, info.backoff],
                    mss: [info.snd_mss, info.rcv_mss],
                    flight: [info.unacked, info.sacked, info.lost, info.retrans],
                    rcv_ssthresh: info.rcv_ssthresh,
                    cwnd: [info.snd_ssthresh, info.snd_cwnd],
                    counts: [info.reordering, info.total_retrans],
                }
                .to_string()
            }
        })
    }

    fn set_listener(listener: &rxpath::net::TcpListener, knob: Knob, value: u32) -> io::Result<()> {
        let mut options = listener.options();
        match knob {
            Knob::RecvBuffer => options.recv_buffer = Some(value),
            Knob::SendBuffer => options.send_buffer = Some(value),
            Knob::RecvLowat => options.recv_lowat = value,
            Knob::MaxSegment => options.max_segment = Some(value as u16),
            Knob::WindowClamp => options.window_clamp = Some(value),
            Knob::NotsentLowat => options.notsent_lowat = Some(value),
            Knob::UserTimeout => options.user_timeout_ms = value,
            Knob::Linger2 => options.linger2 = linger2_of(value),
            Knob::SynCount => options.syn_retries = Some(value.min(u32::from(u8::MAX)) as u8),
            Knob::DeferAccept => {
                listener.set_defer_accept(value);
                return Ok(());
            }
            Knob::FastOpen => {
                listener.set_fastopen(value);
                return Ok(());
            }
            Knob::UrgentInline | Knob::Quickack => return Err(io::ErrorKind::Unsupported.into()),
        }
        listener.set_options(options)
    }
}

/// What `TCP_LINGER2` means.
fn linger2_of(value: u32) -> Linger2 {
    match value.cast_signed() {
        ..0 => Linger2::Never,
        0 => Linger2::Default,
        _ => Linger2::Seconds(value),
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
            TcpCall::Listen(port, backlog) | TcpCall::ListenShared(port, backlog) => {
                let shared = matches!(call, TcpCall::ListenShared(..));
                self.sockets[number] = None;
                self.sockets[number] = Some(Socket::Listener(S::listen(&self.on, port, backlog, shared)?));
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
                return self.attempt(number as u8, TcpCall::ConnectWith(from, to, Patience::default()));
            }
            TcpCall::ConnectWith(from, to, with) => {
                self.sockets[number] = None;
                self.sockets[number] = Some(Socket::Stream(S::connect(&self.on, from, to, with)?, 0));
                return Ok(Gave::Done);
            }
            TcpCall::Close => {
                let was = self.sockets[number].take();
                return Ok(if was.is_some() { Gave::Done } else { Gave::NoConnection });
            }
            _ => {}
        }
        match (&mut self.sockets[number], call) {
            (Some(Socket::Stream(stream, written)), _) => on_stream(stream, written, call),
            (Some(Socket::Listener(listener)), TcpCall::Set(knob, value)) => {
                S::set_listener(listener, knob, value)?;
                Ok(Gave::Done)
            }
            (Some(Socket::Listener(listener)), TcpCall::Keepalive(probing)) => {
                S::keepalive_listener(listener, probing)?;
                Ok(Gave::Done)
            }
            _ => Ok(Gave::NoConnection),
        }
    }
}

/// A call on a connection.
fn on_stream<S: Streams>(stream: &mut S, written: &mut u64, call: TcpCall) -> io::Result<Gave> {
    match call {
        TcpCall::Listen(..)
        | TcpCall::ListenShared(..)
        | TcpCall::Accept(_)
        | TcpCall::Connect(..)
        | TcpCall::ConnectWith(..)
        | TcpCall::Close => {}
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
        TcpCall::Send(size, tail) => {
            let bytes: Vec<u8> = (0..u64::from(size)).map(|at| written_byte(*written + at)).collect();
            let n = stream.send(&bytes, tail)?;
            *written += n as u64;
            return Ok(Gave::Taken(n as u32));
        }
        TcpCall::Recv(size, how) => {
            let mut buf = vec![0; size as usize];
            let n = stream.recv(&mut buf, how)?;
            // What is thrown away was not copied.
            let copied = if how.discard { 0 } else { n.min(buf.len()) };
            return Ok(if n == 0 { Gave::End } else { Gave::Bytes(n as u32, digest(&buf[..copied])) });
        }
        TcpCall::RecvUrgent(peek) => {
            return Ok(stream.recv_urgent(peek)?.map_or(Gave::End, |byte| Gave::Bytes(1, digest(&[byte]))));
        }
        TcpCall::SendUrgent(size) => {
            let bytes: Vec<u8> = (0..u64::from(size)).map(|at| written_byte(*written + at)).collect();
            let n = stream.send_urgent(&bytes)?;
            *written += n as u64;
            return Ok(Gave::Taken(n as u32));
        }
        TcpCall::Set(knob, value) => stream.set(knob, value)?,
        TcpCall::Ask(fact) => return Ok(Gave::Told(stream.ask(fact)?)),
        TcpCall::Shutdown(direction) => stream.end(direction)?,
        TcpCall::LingerZero(on) => stream.linger_zero(on)?,
        TcpCall::Nodelay(on) => stream.nodelay(on)?,
        TcpCall::Cork(on) => stream.cork(on)?,
        TcpCall::Keepalive(probing) => stream.keepalive(probing)?,
        TcpCall::TakeError => {
            if let Some(error) = stream.pending()? {
                return Err(error);
            }
        }
        TcpCall::Poll => return Ok(Gave::Ready(stream.ready()?.to_string())),
    }
    Ok(Gave::Done)
}
