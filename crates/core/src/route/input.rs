//! The decision over a received packet.

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::Addr;

use super::fib::{self, AddrType, RouteKind, RpFilter};
use crate::netns::NetConfig;

/// All hosts on the link (RFC 1112): the one group that every host is in.
const ALL_HOSTS: Addr = Addr::from_v4([224, 0, 0, 1]);

/// Where a received packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputRoute {
    /// Here.
    Local,
    /// To all hosts of the subnet, us included.
    Broadcast,
    /// To a group that we are in.
    Multicast,
}

impl InputRoute {
    /// The kernel's number (`RTN_*`), which the events of lives carry.
    pub fn number(self) -> u32 {
        match self {
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
            Reject::NotJoined => DropReason::NotSpecified,
            Reject::NotOurs => DropReason::IpInaddrerrors,
        }
    }

    /// The counter that moves, if one does.
    pub fn counter(self) -> Option<Counter> {
        match self {
            Reject::ReversePath => Some(Counter::TcpExtIPReversePathFilter),
            Reject::NotOurs => Some(Counter::IpInAddrErrors),
            _ => None,
        }
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
    if (fib::is_loopback(dst) || fib::is_loopback(src)) && !net.fib.policy().route_localnet {
        return Err(Reject::LocalNet);
    }
    let place = match net.fib.addr_type(dst) {
        AddrType::Local => InputRoute::Local,
        AddrType::Broadcast => InputRoute::Broadcast,
        _ => return Err(Reject::NotOurs),
    };
    validate_source(net, ifindex, src)?;
    Ok(place)
}

/// `ip_route_input_mc`.
fn multicast(net: &NetConfig, ifindex: u16, src: Addr, dst: Addr) -> Result<InputRoute, Reject> {
    if dst != ALL_HOSTS {
        return Err(Reject::NotJoined);
    }
    if src.is_multicast() || src == fib::LIMITED_BROADCAST {
        return Err(Reject::InvalidSource);
    }
    if fib::is_loopback(src) && !net.fib.policy().route_localnet {
        return Err(Reject::LocalNet);
    }
    // 224.0.0.1 is a group of the link (224.0.0/24), where a host without an address may speak.
    if !src.is_unspecified() {
        validate_source(net, ifindex, src)?;
    }
    Ok(InputRoute::Multicast)
}

/// `fib_validate_source`: whether a packet from `src` may come by this interface.
fn validate_source(net: &NetConfig, ifindex: u16, src: Addr) -> Result<(), Reject> {
    let (fib, policy) = (&net.fib, net.fib.policy());
    let kind = fib.addr_type(src);
    if kind == AddrType::Local {
        return if policy.accept_local { Ok(()) } else { Err(Reject::LocalSource) };
    }
    if policy.rp_filter == RpFilter::Off {
        return Ok(());
    }
    if kind != AddrType::Unicast {
        return Err(Reject::InvalidSource);
    }
    match fib.lookup(src) {
        Some(back) if back.kind != RouteKind::Unicast => Err(Reject::ReversePath),
        Some(back) if policy.rp_filter == RpFilter::Loose || back.ifindex == ifindex => Ok(()),
        _ => Err(Reject::ReversePath),
    }
}
