//! A small language for choosing packets.
//!
//! ```text
//! src 10.0.0.1 and dst port 80 and tcp and flags syn
//! not (net 10.0.0.0/8 or port 1000-1999) && udp
//! ```
//!
//! | written | matches |
//! |---|---|
//! | `host 10.0.0.1`, or the address alone | that source or destination, IPv4 or IPv6 (of ARP: sender or target) |
//! | `net 10.0.0.0/8`, or the prefix alone | a source or destination within the prefix |
//! | `port 80`, `port 1000-1999` | TCP, UDP, SCTP: that source or destination port |
//! | `src …`, `dst …` before any of these | that side only |
//! | `tcp`, `udp`, `icmp`, `icmp6`, `proto 132` | that IP protocol; `tcp` and `udp` may stand right before a `port` |
//! | `ip`, `ip6`, `arp`, `ethertype 0x88cc` | that EtherType |
//! | `flags syn`, `flags syn+ack` | TCP: all of these flags are set, others may be |
//! | `flags =syn` | TCP: these flags are set and no others |
//! | `not …` or `! …`, `… and …` or `&&`, `… or …` or `\|\|`, `( … )` | as in English |
//!
//! `not` binds most, then `and`, then `or`. (In tcpdump, `and` and `or` bind alike; use parentheses if both appear.)
//! Words may be in either case. A text is at most 4,096 bytes, and parentheses and `not` nest at most 32 deep.

mod parse;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

pub use parse::FilterError;

/// What a filter looks at: the addresses and the like of one packet.
///
/// A frame that is neither IP nor ARP has unspecified addresses, and what a packet lacks is 0; no address, port, protocol
/// or flag matches there. IPv4 addresses may come as IPv6-mapped ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source address; of ARP, the sender's.
    pub src: IpAddr,
    /// Destination address; of ARP, the target's.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Source port; 0 for a fragment that does not hold it.
    pub sport: u16,
    /// Destination port; 0 for a fragment that does not hold it.
    pub dport: u16,
    /// The flags byte of the TCP header: FIN 0x01, SYN 0x02, RST 0x04, PSH 0x08, ACK 0x10, URG 0x20, ECE 0x40, CWR 0x80.
    pub tcp_flags: u8,
    /// EtherType, of the innermost VLAN tag's payload.
    pub ethertype: u16,
}

impl Default for Flow {
    /// A frame of which nothing is known.
    fn default() -> Flow {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Flow { src: nowhere, dst: nowhere, proto: 0, sport: 0, dport: 0, tcp_flags: 0, ethertype: 0 }
    }
}

const ETHERTYPE_IP: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IP6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Names of the TCP flags, by their bit.
const FLAG_NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
/// The IP protocols that have a word of their own.
const PROTO_NAMES: [(&str, u8); 4] = [("tcp", TCP), ("udp", UDP), ("icmp", 1), ("icmp6", 58)];
/// The EtherTypes that have a word of their own.
const ETHERTYPE_NAMES: [(&str, u16); 3] = [("ip", ETHERTYPE_IP), ("ip6", ETHERTYPE_IP6), ("arp", ETHERTYPE_ARP)];

impl Flow {
    fn is_ip(&self) -> bool {
        matches!(self.ethertype, ETHERTYPE_IP | ETHERTYPE_IP6)
    }

    fn has_addresses(&self) -> bool {
        self.is_ip() || self.ethertype == ETHERTYPE_ARP
    }

    fn has_ports(&self) -> bool {
        self.is_ip() && matches!(self.proto, TCP | UDP | SCTP)
    }
}

/// Which side of a packet a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Either,
    Src,
    Dst,
}

impl Side {
    fn any<T>(self, src: T, dst: T, matches: impl Fn(T) -> bool) -> bool {
        match self {
            Side::Either => matches(src) || matches(dst),
            Side::Src => matches(src),
            Side::Dst => matches(dst),
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Side::Either => "",
            Side::Src => "src ",
            Side::Dst => "dst ",
        }
    }
}

/// A condition, parsed.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Host(Side, IpAddr),
    Net(Side, IpAddr, u8),
    Port(Side, u16, u16),
    Proto(u8),
    EtherType(u16),
    /// All of these bits; with `exact`, no others.
    Flags {
        bits: u8,
        exact: bool,
    },
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

impl Node {
    fn matches(&self, flow: &Flow) -> bool {
        match self {
            Node::Host(side, host) => {
                flow.has_addresses() && side.any(flow.src, flow.dst, |ip| ip.to_canonical() == *host)
            }
            Node::Net(side, net, len) => {
                flow.has_addresses() && side.any(flow.src, flow.dst, |ip| within(ip.to_canonical(), *net, *len))
            }
            Node::Port(side, low, high) => {
                flow.has_ports() && side.any(flow.sport, flow.dport, |port| (*low..=*high).contains(&port))
            }
            Node::Proto(proto) => flow.is_ip() && flow.proto == *proto,
            Node::EtherType(ethertype) => flow.ethertype == *ethertype,
            Node::Flags { bits, exact } => {
                let relevant = if *exact { 0xff } else { *bits };
                flow.is_ip() && flow.proto == TCP && flow.tcp_flags & relevant == *bits
            }
            Node::Not(node) => !node.matches(flow),
            Node::All(nodes) => nodes.iter().all(|node| node.matches(flow)),
            Node::Any(nodes) => nodes.iter().any(|node| node.matches(flow)),
        }
    }
}

/// True if the first `len` bits of both are the same, and they are of one family.
fn within(ip: IpAddr, net: IpAddr, len: u8) -> bool {
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => {
            let differ = ip.to_bits() ^ net.to_bits();
            differ.checked_shr(32 - u32::from(len)).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(net)) => {
            let differ = ip.to_bits() ^ net.to_bits();
            differ.checked_shr(128 - u32::from(len)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// A condition on packets, read from text; the [module](self) gives the language.
///
/// ```
/// use rxpath_trace::{Filter, Flow};
///
/// let filter: Filter = "dst 10.0.0.1 and tcp port 80".parse()?;
/// let flow = Flow { dst: [10, 0, 0, 1].into(), proto: 6, dport: 80, ethertype: 0x0800, ..Flow::default() };
/// assert!(filter.matches(&flow));
///
/// let error = "dst port http".parse::<Filter>().unwrap_err();
/// assert_eq!(error.at, 9);
/// assert_eq!(error.found, "http");
/// # Ok::<(), rxpath_trace::FilterError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    root: Node,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// Says at which byte of `text` something was not understood, what stands there, and what was expected.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        parse::parse(text).map(|root| Filter { root })
    }

    /// True if the packet meets the condition. Allocates nothing.
    pub fn matches(&self, flow: &Flow) -> bool {
        self.root.matches(flow)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Filter, FilterError> {
        Filter::parse(text)
    }
}

impl fmt::Display for Filter {
    /// The filter in one spelling: words in lower case, no parentheses but those needed. Reading it gives the same filter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Host(side, host) => write!(f, "{}host {host}", side.prefix()),
            Node::Net(side, net, len) => write!(f, "{}net {net}/{len}", side.prefix()),
            Node::Port(side, low, high) if low == high => write!(f, "{}port {low}", side.prefix()),
            Node::Port(side, low, high) => write!(f, "{}port {low}-{high}", side.prefix()),
            Node::Proto(proto) => match PROTO_NAMES.iter().find(|(_, number)| number == proto) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "proto {proto}"),
            },
            Node::EtherType(ethertype) => match ETHERTYPE_NAMES.iter().find(|(_, number)| number == ethertype) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "ethertype {ethertype:#06x}"),
            },
            Node::Flags { bits, exact } => {
                f.write_str(if *exact { "flags =" } else { "flags " })?;
                write_joined(f, "+", (0..8).filter(|bit| bits >> bit & 1 == 1).map(|bit| FLAG_NAMES[bit]))
            }
            Node::Not(node) => match **node {
                Node::All(_) | Node::Any(_) => write!(f, "not ({node})"),
                _ => write!(f, "not {node}"),
            },
            Node::All(nodes) => write_joined(f, " and ", nodes.iter().map(Bracketed)),
            Node::Any(nodes) => write_joined(f, " or ", nodes.iter()),
        }
    }
}

/// A part of an `and`, in parentheses where it is an `or`.
struct Bracketed<'a>(&'a Node);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Node::Any(_) => write!(f, "({})", self.0),
            node => node.fmt(f),
        }
    }
}

fn write_joined<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    between: &str,
    parts: impl Iterator<Item = T>,
) -> fmt::Result {
    for (i, part) in parts.enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        part.fmt(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
