//! The decision over a received packet.

use std::net::Ipv4Addr;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{Addr, icmp};

use super::fib::{self, AddrType};
use super::kind::RouteKind;
use super::table::Hop;
use crate::netns::NetConfig;

/// The groups of a link (224.0.0/24), to which a host without an address may speak.
const LINK_GROUPS: [u8; 3] = [224, 0, 0];

/// Where a received packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputRoute {
    /// Here.
    Local,
    /// To all hosts of the subnet, us included.
    Broadcast,
    /// To a group that we are in.
    Multicast,
    /// To another host, by us.
    Forward(Forward),
}

/// The way on of a packet for another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The next station on the link: the destination itself or a gateway.
    pub nexthop: Ipv4Addr,
    /// The interface.
    pub ifindex: u16,
    /// The packet goes back to the link that it came from, where its sender could reach the next hop by itself.
    pub redirect: bool,
}

impl InputRoute {
    /// The kernel's number (`RTN_*`), which the events of lives carry.
    pub fn number(self) -> u32 {
        match self {
            InputRoute::Forward(_) => 1,
            InputRoute::Local => 2,
            InputRoute::Broadcast => 3,
            InputRoute::Multicast => 5,
        }
    }
}

/// Why a packet has no place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The source is a group, a broadcast address or none (a martian source).
    InvalidSource,
    /// The destination is none (a martian destination).
    InvalidDestination,
    /// An address of 127/8 or `::1` that came over the wire.
    LocalNet,
    /// The source is one of our own addresses.
    LocalSource,
    /// The way back to the source does not lead by the interface.
    ReversePath,
    /// A group that we are not in.
    NotJoined,
    /// It is for another host, and this one does not forward.
    NotOurs,
    /// No route leads to it.
    NoRoute,
    /// An `unreachable` route matches.
    Unreachable,
    /// A `prohibit` route matches.
    Prohibited,
    /// A `blackhole` route matches.
    Blackhole,
}

impl Reject {
    /// The reason for which the packet is dropped.
    pub fn reason(self) -> DropReason {
        match self {
            Reject::InvalidSource => DropReason::IpInvalidSource,
            Reject::InvalidDestination => DropReason::IpInvalidDest,
            Reject::LocalNet => DropReason::IpLocalnet,
            Reject::LocalSource => DropReason::IpLocalSource,
            Reject::ReversePath => DropReason::IpRpfilter,
            // The kernel has no finer one.
            Reject::NotJoined | Reject::Unreachable | Reject::Prohibited | Reject::Blackhole => {
                DropReason::NotSpecified
            }
            Reject::NotOurs => DropReason::IpInaddrerrors,
            Reject::NoRoute => DropReason::IpInnoroutes,
        }
    }

    /// The counter that moves, if one does.
    pub fn counter(self) -> Option<Counter> {
        match self {
            Reject::ReversePath => Some(Counter::TcpExtIPReversePathFilter),
            Reject::NotOurs => Some(Counter::IpInAddrErrors),
            Reject::NoRoute => Some(Counter::IpExtInNoRoutes),
            _ => None,
        }
    }

    /// The code of "destination unreachable" with which the sender is told (`ip_error`).
    pub fn told_as(self) -> Option<u8> {
        match self {
            Reject::NoRoute => Some(icmp::NET_UNREACHABLE),
            Reject::Unreachable => Some(icmp::HOST_UNREACHABLE),
            Reject::Prohibited => Some(icmp::PROHIBITED),
            _ => None,
        }
    }

    /// Whether it is routing's word on the destination, which the kernel keeps as a route that ends in `ip_error`: the
    /// packet's options are read before it ends.
    pub fn is_of_destination(self) -> bool {
        matches!(self, Reject::NotOurs | Reject::NoRoute | Reject::Unreachable | Reject::Prohibited | Reject::Blackhole)
    }
}

/// `ip_route_input_noref`: where a packet from `src` to `dst` belongs that came by interface `ifindex`.
///
/// Local addresses are accepted on any interface (the weak host model of RFC 1122 section 3.3.4.2).
///
/// # Errors
/// As [`Reject`] lists them.
pub fn input(net: &NetConfig, ifindex: u16, src: Addr, dst: Addr) -> Result<InputRoute, Reject> {
    if dst.is_multicast() {
        return multicast(net, ifindex, src, dst);
    }
    if src.is_multicast() || src == fib::LIMITED_BROADCAST {
        return Err(Reject::InvalidSource);
    }
    // RFC 1122 section 3.2.1.3: 0.0.0.0 is a source of hosts that have no address yet, and a broadcast of old.
    if dst == fib::LIMITED_BROADCAST || (src.is_unspecified() && dst.is_unspecified()) {
        if !src.is_unspecified() {
            validate_source(net, ifindex, src)?;
        }
        return Ok(InputRoute::Broadcast);
    }
    if src.is_unspecified() {
        return Err(Reject::InvalidSource);
    }
    if dst.is_unspecified() {
        return Err(Reject::InvalidDestination);
    }
    if (fib::is_loopback(dst) || fib::is_loopback(src)) && !net.conf(ifindex).route_localnet {
        return Err(Reject::LocalNet);
    }
    let Some(word) = dst.v4().map(u32::from) else {
        let ours = net.fib.addr_type(dst) == AddrType::Local;
        return if ours {
            validate_source(net, ifindex, src).map(|()| InputRoute::Local)
        } else {
            Err(Reject::NotOurs)
        };
    };
    let found = net.fib.lookup_v4(word);
    let place = match found.map(|hop| hop.kind) {
        Some(RouteKind::Local) => InputRoute::Local,
        Some(RouteKind::Broadcast) => InputRoute::Broadcast,
        _ if !net.conf(ifindex).forwarding => return Err(Reject::NotOurs),
        None => return Err(Reject::NoRoute),
        Some(RouteKind::Unreachable) => return Err(Reject::Unreachable),
        Some(RouteKind::Prohibit) => return Err(Reject::Prohibited),
        Some(RouteKind::Blackhole) => return Err(Reject::Blackhole),
        Some(RouteKind::Unicast) => match found {
            Some(hop) => InputRoute::Forward(way_on(net, ifindex, src, word, hop)),
            None => return Err(Reject::NoRoute),
        },
    };
    validate_source(net, ifindex, src)?;
    Ok(place)
}

/// `__mkroute_input`: the way on by a route.
fn way_on(net: &NetConfig, ifindex: u16, src: Addr, dst: u32, hop: Hop) -> Forward {
    let nexthop = if hop.via == 0 { dst } else { hop.via };
    let back = || src.v4().and_then(|src| net.fib.lookup_v4(u32::from(src)));
    let conf = net.conf(ifindex);
    let shared = || conf.shared_media || super::share_network(net, ifindex, src, Addr::from(Ipv4Addr::from(nexthop)));
    let redirect = hop.ifindex == ifindex
        && conf.send_redirects
        && shared()
        && back().is_some_and(|back| back.kind == RouteKind::Unicast && back.ifindex == ifindex && back.via == 0);
    Forward { nexthop: nexthop.into(), ifindex: hop.ifindex, redirect }
}

/// `ip_route_input_mc`.
fn multicast(net: &NetConfig, ifindex: u16, src: Addr, dst: Addr) -> Result<InputRoute, Reject> {
    if !dst.v4().is_some_and(|group| net.groups.joined(ifindex, group)) {
        return Err(Reject::NotJoined);
    }
    if src.is_multicast() || src == fib::LIMITED_BROADCAST {
        return Err(Reject::InvalidSource);
    }
    if fib::is_loopback(src) && !net.conf(ifindex).route_localnet {
        return Err(Reject::LocalNet);
    }
    if !src.is_unspecified() {
        validate_source(net, ifindex, src)?;
    } else if dst.v4().is_none_or(|group| group.octets()[..3] != LINK_GROUPS) {
        return Err(Reject::InvalidSource);
    }
    Ok(InputRoute::Multicast)
}

/// `fib_validate_source`: whether a packet from `src` may come by this interface.
fn validate_source(net: &NetConfig, ifindex: u16, src: Addr) -> Result<(), Reject> {
    let (fib, conf) = (&net.fib, net.conf(ifindex));
    let kind = fib.addr_type(src);
    // 127/8 is ours, too, and only let in from the wire as such. Without a check of the way back the kernel looks for the
    // address among those of interfaces, of which the loopback interface has one: the others come in to 255.255.255.255.
    let loopback = match conf.rp_filter {
        0 => src == fib::LOCALHOST || (fib::is_loopback(src) && !src.is_v4()),
        _ => fib::is_loopback(src),
    };
    if kind == AddrType::Local || loopback {
        return if conf.accept_local { Ok(()) } else { Err(Reject::LocalSource) };
    }
    if conf.rp_filter == 0 {
        return Ok(());
    }
    if kind != AddrType::Unicast {
        return Err(Reject::InvalidSource);
    }
    match fib.lookup(src) {
        Some(back) if back.kind != RouteKind::Unicast => Err(Reject::ReversePath),
        Some(back) if conf.rp_filter == 2 || back.ifindex == ifindex => Ok(()),
        _ => Err(Reject::ReversePath),
    }
}
