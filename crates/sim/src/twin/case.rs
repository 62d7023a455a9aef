//! What a case is: a host, and a script of frames and segments that are sent to it and of calls that its application
//! makes.
//!
//! The host ([`Host`]) is the same on both sides: interfaces with addresses, tunables, routes, and other hosts on the
//! links that have introduced themselves. A frame is bytes; a TCP segment of the one connection that a case may have is
//! named relative to what the host says.
//!
//! A case is plain data, made from a seed ([`super::generate`]), and holds nothing that only a run can know. What depends
//! on the server's answers (its sequence numbers, its timestamps, its window) is named relative to them and filled in
//! while the kernel's run is recorded; the recording then holds numbers ([`super::record::Sent`]).

use std::net::Ipv4Addr;

use rxpath_core::route::RouteKind;
use rxpath_wire::MacAddr;
use serde::{Deserialize, Serialize};

use super::datagram::UdpCall;
use super::record::hex;
use super::stream::TcpCall;

/// Port that the server listens on.
pub const SERVER_PORT: u16 = 80;
/// Port on which nobody listens.
pub const CLOSED_PORT: u16 = 81;
/// Port of the client's connection.
pub const CLIENT_PORT: u16 = 40_000;
/// Initial sequence number of the client.
pub const CLIENT_ISN: u32 = 0x1000_0000;

/// A script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// The seed that it came from.
    pub seed: u64,
    /// What it happens to.
    pub host: Host,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Microseconds of silence at the end, in which timers may still fire.
    pub quiet_us: u32,
    /// The counters are read after every step, so that a difference in them is found at its step.
    #[serde(default)]
    pub watched: bool,
}

/// The host that both sides are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its interfaces: `twin0`, `twin1`, …
    pub links: Vec<Link>,
    /// Tunables by Linux's names that differ from a fresh namespace's.
    pub sysctls: Vec<(String, String)>,
    /// Routes beside those of the addresses.
    pub routes: Vec<Route>,
    /// A server listens on [`SERVER_PORT`], and it is the time within a tick of the kernel's that matters: steps begin at
    /// chosen moments, and what the host says about its neighbours is passed over.
    pub serves: bool,
    /// The case has stream sockets of its own. What is said of the time of a host that serves is true of this one, too.
    #[serde(default)]
    pub streams: bool,
}

impl Host {
    /// What the host does hangs on the time within a tick.
    pub fn is_exact(&self) -> bool {
        self.serves || self.streams
    }
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Addresses with the lengths of their prefixes.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Largest IP packet.
    pub mtu: u16,
    /// Hosts on the link that have asked for the first address before the case begins.
    pub peers: Vec<Peer>,
}

/// Another host on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its address.
    pub addr: Ipv4Addr,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination network and length of its prefix.
    pub to: (Ipv4Addr, u8),
    /// Where it leads.
    pub way: Way,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// To a gateway on a link.
    Via(Ipv4Addr, u8),
    /// To a gateway that no address of the link's would say is there.
    Onlink(Ipv4Addr, u8),
    /// Onto a link.
    On(u8),
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, and the sender is told.
    Unreachable,
    /// Nowhere, and the sender is told that it is forbidden.
    Prohibit,
}

impl Way {
    /// The type of the route.
    pub fn kind(self) -> RouteKind {
        match self {
            Way::Via(..) | Way::Onlink(..) | Way::On(_) => RouteKind::Unicast,
            Way::Blackhole => RouteKind::Blackhole,
            Way::Unreachable => RouteKind::Unreachable,
            Way::Prohibit => RouteKind::Prohibit,
        }
    }

    /// The link that it leads onto.
    pub fn link(self) -> Option<u8> {
        match self {
            Way::Via(_, link) | Way::Onlink(_, link) | Way::On(link) => Some(link),
            Way::Blackhole | Way::Unreachable | Way::Prohibit => None,
        }
    }

    /// The gateway.
    pub fn via(self) -> Option<Ipv4Addr> {
        match self {
            Way::Via(gateway, _) | Way::Onlink(gateway, _) => Some(gateway),
            _ => None,
        }
    }
}

/// The host's hardware address on a link.
pub fn host_mac(link: usize) -> MacAddr {
    MacAddr([0x02, 0x72, 0x78, 0, link as u8, 1])
}

/// Name of a link's interface.
pub fn interface(link: usize) -> String {
    format!("twin{link}")
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Microseconds after the step before.
    pub wait_us: u32,
    /// What is done.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The client sends a segment of its connection, on the first link.
    Send(Segment),
    /// Somebody sends a frame on a link.
    Frame {
        /// The link.
        link: u8,
        /// The frame, from its Ethernet header on.
        #[serde(with = "hex")]
        frame: Vec<u8>,
    },
    /// Somebody on the first link tells of an error with a segment that the server has sent.
    Report(Report),
    /// The server's application calls; none of its calls block.
    Call(Call),
}

/// A segment of the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The client's port.
    pub sport: u16,
    /// The server's port.
    pub dport: u16,
    /// Control bits.
    pub flags: u8,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgement number.
    pub ack: Ack,
    /// Window, as it stands in the header.
    pub window: u16,
    /// Maximum segment size option.
    pub mss: Option<u16>,
    /// Window scale option.
    pub wscale: Option<u8>,
    /// Timestamp option.
    pub stamp: Option<Stamp>,
    /// The option that permits selective acknowledgements.
    pub sack_permitted: bool,
    /// Selective acknowledgements.
    pub sack: Sack,
    /// Urgent pointer; it has a meaning with URG.
    pub urgent: u16,
    /// Fast Open option.
    pub fast_open: Option<FastOpening>,
    /// How its options lie.
    pub layout: Layout,
    /// Payload bytes; the payload follows from the sequence number.
    pub len: u16,
    /// Type of service of its packet.
    pub tos: u8,
    /// What is wrong with it.
    pub defect: Defect,
}

/// An ICMP message about a segment of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The four bytes behind the checksum: a next hop's MTU, a pointer, a gateway.
    pub rest: u32,
    /// The client's port.
    pub sport: u16,
    /// The server's port.
    pub dport: u16,
    /// Sequence number of the segment that is quoted.
    pub seq: Ack,
    /// Bytes of TCP that are quoted.
    pub quoted: u8,
}

/// Where a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seq {
    /// So far behind the client's initial sequence number.
    At(u32),
    /// So far behind the right edge of the window that the server advertised last; negative is inside.
    Edge(i32),
}

/// What a segment acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ack {
    /// All that the server has sent so far.
    Latest,
    /// All that the server has sent so far and so much more (or less).
    Beside(i32),
    /// This number, whatever the server has sent.
    Number(u32),
    /// So far behind the server's initial sequence number.
    At(u32),
    /// All that the client has without a gap, once these segments of the server's have come to it.
    Arrived(Arrival),
}

/// What comes to the client of the server's segments with data that are under way, in the order in which they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// So many are lost.
    pub lost: u8,
    /// So many are overtaken, and stay under way.
    pub late: u8,
    /// So many arrive.
    pub come: u8,
}

/// Selective acknowledgements of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sack {
    /// None.
    #[default]
    None,
    /// What the client has beyond gaps, the newest first, after what came a second time (RFC 2883).
    Held,
    /// These, from and to so far behind the server's initial sequence number.
    At(Vec<(u32, u32)>),
    /// These, from and to so far before the end of what the server has sent.
    Back(Vec<(i32, i32)>),
}

/// A Fast Open option (RFC 7413 section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastOpening {
    /// What it carries.
    pub cookie: Cookie,
    /// The option of the experiments (RFC 6994).
    pub experimental: bool,
}

/// The cookie of a Fast Open option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cookie {
    /// None: one is asked for.
    Request,
    /// The one that the host has given, or zeros before it has.
    Latest,
    /// The same with a bit the other way round.
    Spoilt,
    /// So many bytes of it, or beyond it zeros.
    Cut(u8),
}

/// How the options of a segment lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// As Linux writes them.
    #[default]
    Usual,
    /// The last one first, without padding between them.
    Reversed,
    /// An unknown option before each, and none after the end of options.
    Unknown,
    /// Behind the option that ends them.
    BehindEnd,
    /// The first one a second time, with other values.
    Doubled,
}

/// A timestamp option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The client's clock.
    pub tsval: u32,
    /// What is echoed.
    pub echo: Echo,
}

/// What a timestamp option echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Echo {
    /// The server's last timestamp.
    Latest,
    /// So much after (or before) the server's last timestamp.
    Beside(i32),
    /// This number.
    Number(u32),
}

/// What is wrong with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Defect {
    /// Nothing.
    None,
    /// The TCP checksum.
    Checksum,
    /// The data offset says this number of words.
    Offset(u8),
    /// The IP packet ends after so many bytes of TCP.
    Cut(u8),
}

/// A call of the server's application. All but `Accept` and those on datagram sockets are for the connection that was
/// accepted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// `accept`.
    Accept,
    /// `read` into a buffer of this size.
    Read(u32),
    /// `write` of so many bytes; what they are follows from their place in the stream.
    Write(u32),
    /// `shutdown` of writing.
    ShutdownWrite,
    /// Drops the connection.
    Close,
    /// A call on the datagram socket of this number.
    Datagram(u8, UdpCall),
    /// A call on the stream socket of this number.
    Stream(u8, TcpCall),
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gave {
    /// It was done.
    Done,
    /// So many bytes, and a sum over them.
    Bytes(u32, u64),
    /// So many bytes were taken.
    Taken(u32),
    /// The end of the stream.
    End,
    /// An error of this kind (`std::io::ErrorKind`).
    Error(String),
    /// What it is ready for, by the names of `poll(2)`.
    Ready(String),
    /// What it told of itself.
    Told(String),
    /// There is no connection, or no socket, to call on.
    NoConnection,
    /// A datagram.
    Datagram {
        /// Bytes that the buffer took.
        len: u32,
        /// Bytes of the datagram.
        full_len: u32,
        /// `MSG_TRUNC`.
        truncated: bool,
        /// Who sent it.
        from: String,
        /// A sum over the bytes.
        sum: u64,
    },
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Call::Accept => f.write_str("accept()"),
            Call::Read(n) => write!(f, "read({n})"),
            Call::Write(n) => write!(f, "write({n})"),
            Call::ShutdownWrite => f.write_str("shutdown(Write)"),
            Call::Close => f.write_str("close()"),
            Call::Datagram(number, call) => write!(f, "{number}.{call}"),
            Call::Stream(number, call) => write!(f, "{number}.{call}"),
        }
    }
}

impl std::fmt::Display for Gave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gave::Done => f.write_str("done"),
            Gave::Bytes(n, sum) => write!(f, "{n} bytes ({:04x})", sum & 0xffff),
            Gave::Taken(n) => write!(f, "{n} taken"),
            Gave::End => f.write_str("end"),
            Gave::Error(kind) => f.write_str(kind),
            Gave::Ready(events) => write!(f, "[{events}]"),
            Gave::Told(what) => f.write_str(what),
            Gave::NoConnection => f.write_str("no connection"),
            Gave::Datagram { len, full_len, truncated, from, sum } => {
                let cut = if *truncated { ", MSG_TRUNC" } else { "" };
                write!(f, "{len} of {full_len} bytes from {from}{cut} ({:04x})", sum & 0xffff)
            }
        }
    }
}

/// The byte at `offset` of what the server's application writes.
pub fn written_byte(offset: u64) -> u8 {
    (offset.wrapping_mul(167) >> 3) as u8
}

/// A sum over bytes that notices their order (FNV-1a).
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
