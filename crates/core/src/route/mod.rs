//! Routing: where a packet that came in belongs, and by which way one goes out.
//!
//! [`Fib`] holds the routes, derived from the interfaces' addresses (local, broadcast, connected) and configured.
//! [`input`] decides over a received packet; [`output`] finds the way to an address. A [`Route`] is kept by whoever sends
//! (a socket): it is good for the [`NetConfig::generation`] in which it was found, and carries the next hop's hardware
//! address once that is known, so that sending over it neither hashes nor locks.
//!
//! Mirrors `ip_route_input_noref`, `fib_validate_source`, `ip_route_output_key`, `fib_lookup`, `inet_addr_type`.
//!
//! | file | holds |
//! |---|---|
//! | `fib` | [`Fib`]: addresses and routes checked, special addresses derived; IPv6 |
//! | `table` | the routes of IPv4, by prefix: what a writer needs |
//! | `trie` | the same, as readers find them |
//! | `input` | the decision over a received packet |
//! | `datagram` | ways to groups and to all hosts of a link |
//! | `exception` | path MTUs and better gateways that ICMP told of |
//! | `groups` | the multicast groups that this host is in |
//!
//! There is no loopback interface: a way to one of this host's own addresses is [`RouteError::Local`].
//!
//! Neighbours: [`crate::ip`], [`crate::neigh`], [`crate::icmp`], [`crate::tcp`] ask. Nothing here panics on received bytes.

mod datagram;
mod exception;
mod fib;
mod groups;
mod input;
mod kind;
mod table;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
mod trie;

use std::fmt;
use std::io;

use rxpath_trace::Time;
use rxpath_wire::{Addr, MacAddr};

pub use self::datagram::{Reach, output_datagram};
pub use self::exception::Exceptions;
pub(crate) use self::fib::is_loopback;
pub use self::fib::{AddrType, Fib, FibEntry, FibError, FibRoute, RouteSpec};
pub use self::groups::Groups;
pub use self::input::{Forward, InputRoute, Reject, input};
pub use self::kind::RouteKind;
pub use self::table::Hop;
use crate::netns::{Interface, NetConfig};
use crate::nic::Features;

/// A way out, as it was found; to be kept by the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The next station on the link: the destination itself or a gateway.
    pub nexthop: Addr,
    /// Source address of packets that go this way.
    pub src: Addr,
    /// The [`NetConfig::generation`] in which this is right.
    pub generation: u64,
    /// The next hop's hardware address, and the neighbour table's generation in which it is right.
    pub mac: Option<(MacAddr, u64)>,
    /// The interface.
    pub ifindex: u16,
    /// Largest IP packet.
    pub mtu: u16,
    /// What the interface's device takes over.
    pub features: Features,
    /// Set by a sender that has proof that the next hop receives what it sends (an acknowledgement of new data); spares
    /// the next hop a probe (`sk_dst_confirm`). Taken back when it has had its effect.
    pub confirm: bool,
    /// The interface was asked for: no other will do.
    pub bound: bool,
}

impl Route {
    /// Whether the configuration is still the one in which this was found.
    #[inline(always)]
    pub fn is_current(&self, net: &NetConfig) -> bool {
        self.generation == net.generation
    }

    /// The interface that was asked for, if one was.
    pub fn bound_to(&self) -> Option<u16> {
        self.bound.then_some(self.ifindex)
    }
}

/// Why there is no way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// No route matches.
    NetUnreachable(Addr),
    /// An `unreachable` route matches.
    HostUnreachable(Addr),
    /// A `prohibit` route matches.
    Prohibited(Addr),
    /// A `blackhole` route matches.
    Blackhole(Addr),
    /// The destination is one of this host's own addresses, and there is no loopback interface.
    Local(Addr),
    /// The destination is no single host: a group, a broadcast address, or none at all.
    NotUnicast(Addr),
    /// The source asked for is no address of this host.
    SourceNotLocal(Addr),
    /// The interface has no address to send from.
    NoSource(Addr),
}

impl RouteError {
    /// The kind that [`std::net`] gives for it.
    pub fn io_kind(self) -> io::ErrorKind {
        match self {
            RouteError::NetUnreachable(_) | RouteError::NotUnicast(_) => io::ErrorKind::NetworkUnreachable,
            RouteError::HostUnreachable(_) => io::ErrorKind::HostUnreachable,
            RouteError::Prohibited(_) => io::ErrorKind::PermissionDenied,
            RouteError::Blackhole(_) => io::ErrorKind::InvalidInput,
            RouteError::Local(_) => io::ErrorKind::Unsupported,
            RouteError::SourceNotLocal(_) | RouteError::NoSource(_) => io::ErrorKind::AddrNotAvailable,
        }
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteError::NetUnreachable(dst) => write!(f, "no route to {dst}: add one, or a default route"),
            RouteError::HostUnreachable(dst) => write!(f, "the route to {dst} is `unreachable`"),
            RouteError::Prohibited(dst) => write!(f, "the route to {dst} is `prohibit`"),
            RouteError::Blackhole(dst) => write!(f, "the route to {dst} is `blackhole`"),
            RouteError::Local(dst) => {
                write!(
                    f,
                    "{dst} is an address of this stack, which has no loopback interface: it cannot talk to itself"
                )
            }
            RouteError::NotUnicast(dst) => write!(f, "{dst} is not the address of a single host"),
            RouteError::SourceNotLocal(src) => write!(f, "{src} is no address of this stack's interfaces"),
            RouteError::NoSource(dst) => write!(f, "the interface towards {dst} has no address to send from"),
        }
    }
}

impl std::error::Error for RouteError {}

impl From<RouteError> for io::Error {
    fn from(error: RouteError) -> io::Error {
        io::Error::new(error.io_kind(), error)
    }
}

/// `ip_route_output_key`: the way to `dst`, from `src` if that is given.
///
/// # Errors
/// As [`RouteError`] lists them. A source that is given must be an address of this host.
pub fn output(net: &NetConfig, dst: Addr, src: Option<Addr>) -> Result<Route, RouteError> {
    output_by(net, dst, src, None)
}

/// As [`output`], by this interface if one is given (`flowi_oif`). Where no route leads by it, or a longer prefix says that
/// there is no way, the destination is taken to be on its link, as by the kernel.
///
/// # Errors
/// As [`output`].
pub fn output_by(net: &NetConfig, dst: Addr, src: Option<Addr>, ifindex: Option<u16>) -> Result<Route, RouteError> {
    if let Some(src) = src.filter(|src| net.fib.addr_type(*src) != AddrType::Local) {
        return Err(RouteError::SourceNotLocal(src));
    }
    match net.fib.addr_type(dst) {
        AddrType::Unicast => {}
        AddrType::Local => return Err(RouteError::Local(dst)),
        AddrType::Broadcast | AddrType::Multicast | AddrType::Unspecified => {
            return Err(RouteError::NotUnicast(dst));
        }
    }
    let bound = ifindex.is_some();
    let (ifindex, via, preferred) = match ifindex {
        Some(only) => {
            let entry = net.fib.lookup_by(dst, only);
            (only, entry.and_then(|entry| entry.via), entry.and_then(|entry| entry.src))
        }
        None => {
            let entry = net.fib.lookup(dst).ok_or(RouteError::NetUnreachable(dst))?;
            match entry.kind {
                RouteKind::Unicast => (entry.ifindex, entry.via, entry.src),
                RouteKind::Local => return Err(RouteError::Local(dst)),
                RouteKind::Broadcast => return Err(RouteError::NotUnicast(dst)),
                RouteKind::Unreachable => return Err(RouteError::HostUnreachable(dst)),
                RouteKind::Prohibit => return Err(RouteError::Prohibited(dst)),
                RouteKind::Blackhole => return Err(RouteError::Blackhole(dst)),
            }
        }
    };
    let interface = net.interface(ifindex).ok_or(RouteError::NetUnreachable(dst))?;
    let nexthop = via.unwrap_or(dst);
    let src = src.or(preferred).or_else(|| source_for(interface, nexthop)).ok_or(RouteError::NoSource(dst))?;
    let mut route = Route {
        nexthop,
        src,
        generation: net.generation,
        mac: None,
        ifindex,
        mtu: interface.mtu,
        features: interface.features,
        confirm: false,
        bound,
    };
    if !net.exceptions.is_empty() {
        net.exceptions.apply(dst, &mut route);
    }
    Ok(route)
}

/// `ip_rt_update_pmtu`: somebody on the way to `dst` says that packets of more than `mtu` bytes do not pass. Gives what is
/// believed from now on; None if nothing changes.
pub fn update_pmtu(net: &NetConfig, dst: Addr, mtu: u16, now: Time) -> Option<u16> {
    let current = output(net, dst, None).ok()?.mtu;
    net.exceptions.update_pmtu(dst, mtu, current, now)
}

/// `ip_do_redirect`: the gateway `from` says that `gateway` is nearer to `dst`. It is believed if packets to `dst` go by
/// `from`, the new one is a host of the same link, and the interface takes redirects (`accept_redirects`; `shared_media` and
/// `secure_redirects` may ask for more). Gives the new gateway.
pub fn do_redirect(net: &NetConfig, dst: Addr, (from, gateway): (Addr, Addr), now: Time) -> Option<Addr> {
    let known = output(net, dst, None).ok()?;
    let conf = net.conf(known.ifindex);
    if !conf.accept_redirects {
        return None;
    }
    let by_gateway = known.nexthop == from && known.nexthop != dst && from != gateway;
    let link = net.fib.lookup(gateway)?;
    let on_link = link.kind == RouteKind::Unicast && link.via.is_none() && link.ifindex == known.ifindex;
    if !by_gateway || !on_link || net.fib.addr_type(gateway) != AddrType::Unicast {
        return None;
    }
    // RFC 1620 section 3: on a link that several networks share, hosts of all of them reach one another.
    if !conf.shared_media {
        let known_gateway = || net.fib.has_gateway(gateway, known.ifindex);
        if !share_network(net, known.ifindex, from, gateway) || conf.secure_redirects && !known_gateway() {
            return None;
        }
    }
    net.exceptions.redirect(dst, gateway, now);
    Some(gateway)
}

/// `inet_addr_onlink`: whether two addresses are of the same network of an interface.
pub(crate) fn share_network(net: &NetConfig, ifindex: u16, a: Addr, b: Addr) -> bool {
    let interface = net.interface(ifindex);
    interface.is_some_and(|interface| interface.addresses.iter().any(|own| own.reaches(a) && own.reaches(b)))
}

/// `inet_select_addr`: the interface's address in the same subnet as `peer`, else its first of the same family.
pub fn source_for(interface: &Interface, peer: Addr) -> Option<Addr> {
    let same_family = || interface.addresses.iter().filter(|own| own.addr.is_v4() == peer.is_v4());
    same_family()
        .find(|own| fib::Prefix::of_interface(own).contains(peer))
        .or_else(|| same_family().next())
        .map(|own| own.addr)
}
