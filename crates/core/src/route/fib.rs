//! The routes: what is here, what is on the link, what lies behind a gateway.

use std::collections::HashMap;
use std::fmt;

use rxpath_wire::Addr;

use crate::netns::{IfAddr, Interface};

/// Bits in front of the IPv4 address in its mapped form.
const MAPPED_BITS: u8 = 96;

/// Whether a packet's source must be reachable by the interface that it came from (`rp_filter`, RFC 3704).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpFilter {
    /// No check.
    #[default]
    Off,
    /// The best way back must leave by the very interface.
    Strict,
    /// There must be a way back by any interface.
    Loose,
}

/// What routing asks of received packets beyond their destination: sysctls of `net.ipv4.conf.all`, with Linux's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `rp_filter`.
    pub rp_filter: RpFilter,
    /// `accept_local`: packets from our own addresses are taken.
    pub accept_local: bool,
    /// `route_localnet`: 127/8 is taken from the wire.
    pub route_localnet: bool,
    /// `drop_unicast_in_l2_multicast`: unicast packets in broadcast or multicast frames are dropped.
    pub drop_unicast_in_l2_multicast: bool,
}

/// What an address is to this host (`inet_addr_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrType {
    /// A single host that is not this one.
    Unicast,
    /// One of this host's addresses, whatever interface has it.
    Local,
    /// All hosts of a subnet of ours, or of the link.
    Broadcast,
    /// A group.
    Multicast,
    /// None at all.
    Unspecified,
}

/// What becomes of packets that match a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteKind {
    /// They go out.
    #[default]
    Unicast,
    /// They are refused as unreachable.
    Unreachable,
    /// They are refused as forbidden.
    Prohibit,
    /// They vanish.
    Blackhole,
}

/// A configured route, as `ip route add` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// What becomes of the packets.
    pub kind: RouteKind,
    /// Destination network: the bits behind the prefix are zero.
    pub to: Addr,
    /// Prefix length in bits of the family: 0 to 32 or 128. 0 is a default route.
    pub prefix: u8,
    /// Gateway; None if the network is on the link.
    pub via: Option<Addr>,
    /// Interface by index; may be left out if `via` tells it.
    pub ifindex: Option<u16>,
    /// Source address of packets that go this way; None to choose one.
    pub src: Option<Addr>,
    /// Of several routes to the same network the lowest is used.
    pub metric: u32,
    /// The gateway is on the link although no address of the interface says so.
    pub onlink: bool,
}

impl RouteSpec {
    /// A route to a network by a gateway or, without one, by an interface.
    pub fn new(to: Addr, prefix: u8) -> RouteSpec {
        RouteSpec {
            kind: RouteKind::Unicast,
            to,
            prefix,
            via: None,
            ifindex: None,
            src: None,
            metric: 0,
            onlink: false,
        }
    }
}

impl fmt::Display for RouteSpec {
    /// As `ip route` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Prohibit => f.write_str("prohibit ")?,
            RouteKind::Blackhole => f.write_str("blackhole ")?,
        }
        if self.prefix == 0 {
            f.write_str("default")?
        } else {
            write!(f, "{}/{}", self.to, self.prefix)?
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(src) = self.src {
            write!(f, " src {src}")?;
        }
        if self.metric != 0 { write!(f, " metric {}", self.metric) } else { Ok(()) }
    }
}

/// Why a set of addresses and routes does not hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibError {
    /// A prefix longer than the family's addresses.
    PrefixTooLong(Addr, u8),
    /// Bits are set behind the prefix; the network that was probably meant.
    HostBits(RouteSpec, Addr),
    /// The gateway is on no link, or not on the one that is named.
    ViaUnreachable(RouteSpec),
    /// Neither a gateway nor an interface is named.
    NoInterface(RouteSpec),
    /// The interface does not exist.
    UnknownInterface(RouteSpec),
    /// The source is no address of this host.
    SourceNotLocal(RouteSpec),
    /// Destination, gateway and source are not of one family.
    Families(RouteSpec),
    /// There is a route to the same network with the same metric.
    Duplicate(RouteSpec),
    /// An address that no single host can have.
    BadAddress(Addr),
}

impl fmt::Display for FibError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FibError::PrefixTooLong(addr, prefix) => {
                write!(f, "{addr}/{prefix}: a prefix has at most {} bits", family_bits(*addr))
            }
            FibError::HostBits(route, meant) => {
                write!(f, "route {route}: bits are set behind the prefix; {meant}/{} is meant?", route.prefix)
            }
            FibError::ViaUnreachable(route) => {
                write!(f, "route {route}: the gateway is not on the link; give the interface an address in its subnet")
            }
            FibError::NoInterface(route) => write!(f, "route {route}: name a gateway (via) or an interface (dev)"),
            FibError::UnknownInterface(route) => write!(f, "route {route}: there is no such interface"),
            FibError::SourceNotLocal(route) => write!(f, "route {route}: the source is no address of an interface"),
            FibError::Families(route) => write!(f, "route {route}: IPv4 and IPv6 do not mix in a route"),
            FibError::Duplicate(route) => {
                write!(f, "route {route}: there is one to the same network; give one of them another metric")
            }
            FibError::BadAddress(addr) => write!(f, "{addr} cannot be the address of an interface"),
        }
    }
}

impl std::error::Error for FibError {}

/// A route as it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibEntry {
    /// What becomes of the packets.
    pub kind: RouteKind,
    /// Interface.
    pub ifindex: u16,
    /// Gateway, if not on the link.
    pub via: Option<Addr>,
    /// Source address asked for.
    pub src: Option<Addr>,
    /// Preference, lower first.
    pub metric: u32,
}

/// A prefix of the 128-bit form of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    bits: u128,
    len: u8,
}

impl Prefix {
    fn new(addr: Addr, prefix: u8) -> Prefix {
        let len = if addr.is_v4() { prefix + MAPPED_BITS } else { prefix };
        Prefix { bits: number(addr) & mask(len), len }
    }

    /// The subnet of an interface's address.
    pub(super) fn of_interface(own: &IfAddr) -> Prefix {
        Prefix::new(own.addr, own.prefix.min(family_bits(own.addr)))
    }

    #[inline]
    pub(super) fn contains(&self, addr: Addr) -> bool {
        number(addr) & mask(self.len) == self.bits
    }

    /// The highest address in it: the subnet's broadcast address.
    fn last(&self) -> Addr {
        Addr((self.bits | !mask(self.len)).to_be_bytes())
    }
}

#[inline]
fn number(addr: Addr) -> u128 {
    u128::from_be_bytes(addr.0)
}

#[inline]
fn mask(len: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (128 - len) }
}

fn family_bits(addr: Addr) -> u8 {
    if addr.is_v4() { 32 } else { 128 }
}

/// Addresses of this host that are compared without a look-up.
const FEW: usize = 4;

/// The bit of an address in the filter of own addresses (multiplicative hash, upper six bits).
#[inline(always)]
fn filter_bit(addr: u32) -> u64 {
    1 << (addr.wrapping_mul(0x9e37_79b1) >> 26)
}

/// The forwarding information base.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    /// The first own IPv4 addresses, as words in host order; unused places hold 0, which is nobody's address.
    own_v4: [u32; FEW],
    /// Bits of all own IPv4 addresses: what is not in here is not ours.
    own_filter: u64,
    /// Own and broadcast addresses (the `local` table).
    special: HashMap<Addr, AddrType>,
    /// Routes by length of their prefix, longest first, then by network, then by metric (the `main` table).
    lengths: Vec<(u8, HashMap<u128, Vec<FibEntry>>)>,
    policy: Policy,
}

impl Fib {
    /// The FIB of these interfaces and routes. Own addresses, broadcast addresses and the subnets on the link follow from
    /// the interfaces.
    ///
    /// # Errors
    /// As [`FibError`] lists them, each naming the mend.
    pub fn build(interfaces: &[Interface], routes: &[RouteSpec], policy: Policy) -> Result<Fib, FibError> {
        let mut fib = Fib { policy, ..Fib::default() };
        for interface in interfaces {
            for own in &interface.addresses {
                fib.add_address(interface.ifindex, own)?;
            }
        }
        for route in routes {
            fib.add_route(interfaces, route)?;
        }
        Ok(fib)
    }

    /// What received packets are held to.
    #[inline(always)]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn add_address(&mut self, ifindex: u16, own: &IfAddr) -> Result<(), FibError> {
        let addr = own.addr;
        if own.prefix > family_bits(addr) {
            return Err(FibError::PrefixTooLong(addr, own.prefix));
        }
        if fixed_type(addr).is_some() || is_loopback(addr) {
            return Err(FibError::BadAddress(addr));
        }
        self.special.insert(addr, AddrType::Local);
        if let Some(v4) = addr.v4() {
            let v4 = u32::from(v4);
            self.own_filter |= filter_bit(v4);
            if let Some(place) = self.own_v4.iter_mut().find(|place| **place == 0 || **place == v4) {
                *place = v4;
            }
        }
        let subnet = Prefix::of_interface(own);
        if own.prefix < 31 && addr.is_v4() {
            self.special.entry(subnet.last()).or_insert(AddrType::Broadcast);
        }
        if own.prefix < family_bits(addr) {
            let connected = FibEntry { kind: RouteKind::Unicast, ifindex, via: None, src: Some(addr), metric: 0 };
            // A second address in the same subnet adds no second route.
            let _ = self.insert(subnet, connected);
        }
        Ok(())
    }

    fn add_route(&mut self, interfaces: &[Interface], route: &RouteSpec) -> Result<(), FibError> {
        if route.prefix > family_bits(route.to) {
            return Err(FibError::PrefixTooLong(route.to, route.prefix));
        }
        if [route.via, route.src].iter().flatten().any(|addr| addr.is_v4() != route.to.is_v4()) {
            return Err(FibError::Families(*route));
        }
        let network = Prefix::new(route.to, route.prefix);
        if number(route.to) != network.bits {
            return Err(FibError::HostBits(*route, Addr(network.bits.to_be_bytes())));
        }
        if route.src.is_some_and(|src| self.addr_type(src) != AddrType::Local) {
            return Err(FibError::SourceNotLocal(*route));
        }
        let ifindex = if route.kind == RouteKind::Unicast { self.interface_of(interfaces, route)? } else { 0 };
        let entry = FibEntry { kind: route.kind, ifindex, via: route.via, src: route.src, metric: route.metric };
        if self.insert(network, entry) { Ok(()) } else { Err(FibError::Duplicate(*route)) }
    }

    /// The interface of a route: the one that is named, or the one on whose link the gateway is.
    fn interface_of(&self, interfaces: &[Interface], route: &RouteSpec) -> Result<u16, FibError> {
        if route.ifindex.is_some_and(|named| interfaces.iter().all(|interface| interface.ifindex != named)) {
            return Err(FibError::UnknownInterface(*route));
        }
        let Some(via) = route.via else { return route.ifindex.ok_or(FibError::NoInterface(*route)) };
        if self.addr_type(via) != AddrType::Unicast {
            return Err(FibError::ViaUnreachable(*route));
        }
        let on_link = self.lookup(via).filter(|entry| entry.kind == RouteKind::Unicast && entry.via.is_none());
        match (on_link, route.ifindex) {
            (Some(link), None) => Ok(link.ifindex),
            (Some(link), Some(named)) if link.ifindex == named => Ok(named),
            (_, Some(named)) if route.onlink => Ok(named),
            _ => Err(FibError::ViaUnreachable(*route)),
        }
    }

    /// Adds an entry; false if there is one with the same metric.
    fn insert(&mut self, network: Prefix, entry: FibEntry) -> bool {
        let place = self.lengths.partition_point(|(len, _)| *len > network.len);
        if self.lengths.get(place).is_none_or(|(len, _)| *len != network.len) {
            self.lengths.insert(place, (network.len, HashMap::new()));
        }
        let entries = self.lengths[place].1.entry(network.bits).or_default();
        let at = entries.partition_point(|other| other.metric < entry.metric);
        if entries.get(at).is_some_and(|other| other.metric == entry.metric) {
            return false;
        }
        entries.insert(at, entry);
        true
    }

    /// The best route to an address by longest prefix, then lowest metric (`fib_lookup` in the main table).
    pub fn lookup(&self, addr: Addr) -> Option<&FibEntry> {
        let number = number(addr);
        self.lengths.iter().find_map(|(len, networks)| {
            let shortest_of_v4 = addr.is_v4() && *len < MAPPED_BITS;
            if shortest_of_v4 { None } else { networks.get(&(number & mask(*len)))?.first() }
        })
    }

    /// Whether an IPv4 address, as a word in host order, is one of ours.
    #[inline(always)]
    pub fn is_own_v4(&self, addr: u32) -> bool {
        if self.own_filter & filter_bit(addr) == 0 {
            return false;
        }
        (self.own_v4[0] == addr && addr != 0) || self.is_own_slow(addr)
    }

    fn is_own_slow(&self, addr: u32) -> bool {
        let among_few = addr != 0 && self.own_v4[1..].contains(&addr);
        among_few || self.special.get(&Addr::from_v4(addr.to_be_bytes())) == Some(&AddrType::Local)
    }

    /// `inet_addr_type`: what an address is to this host.
    pub fn addr_type(&self, addr: Addr) -> AddrType {
        fixed_type(addr).or_else(|| self.special.get(&addr).copied()).unwrap_or(AddrType::Unicast)
    }
}

/// What an address is everywhere, if that is fixed.
fn fixed_type(addr: Addr) -> Option<AddrType> {
    if addr.is_unspecified() {
        Some(AddrType::Unspecified)
    } else if addr.is_multicast() {
        Some(AddrType::Multicast)
    } else if addr == LIMITED_BROADCAST {
        Some(AddrType::Broadcast)
    } else {
        None
    }
}

/// 255.255.255.255: all hosts on the link.
pub(super) const LIMITED_BROADCAST: Addr = Addr::from_v4([255; 4]);

/// Whether the address is in 127/8 or is `::1`.
pub(super) fn is_loopback(addr: Addr) -> bool {
    addr.to_ip().is_loopback()
}
