//! The routes: what is here, what is on the link, what lies behind a gateway.
//!
//! Those of IPv4 are in one [`Table`] for all snapshots of the configuration: it is changed in place, each route at one
//! go. A change is complete, for those who keep what they found, with the configuration's next generation.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rxpath_wire::Addr;

use super::kind::RouteKind;
use super::table::{Hop, Prefix4, Refused, Table, mask as mask4};
use crate::netns::{IfAddr, Interface};

/// Bits in front of the IPv4 address in its mapped form.
const MAPPED_BITS: u8 = 96;

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
        if self.kind != RouteKind::Unicast {
            write!(f, "{} ", self.kind.name())?;
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
    /// A gateway for packets that go to none.
    ViaNowhere(RouteSpec),
    /// No room for more routes.
    Full(RouteSpec),
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
            FibError::ViaNowhere(route) => {
                write!(f, "route {route}: packets of this type go to no gateway; leave via out")
            }
            FibError::Full(route) => write!(f, "route {route}: there is no room for more routes"),
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

impl From<Hop> for FibEntry {
    fn from(hop: Hop) -> FibEntry {
        let addr = |word: u32| (word != 0).then(|| Addr::from_v4(word.to_be_bytes()));
        let Hop { kind, ifindex, metric, .. } = hop;
        FibEntry { kind, ifindex, via: addr(hop.via), src: addr(hop.src), metric }
    }
}

/// A route of the FIB, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibRoute {
    /// Destination network.
    pub to: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
    /// Where it leads.
    pub hop: Hop,
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
///
/// A clone has the same routes of IPv4, now and later.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    /// The first own IPv4 addresses, as words in host order; unused places hold 0, which is nobody's address.
    own_v4: [u32; FEW],
    /// Bits of all own IPv4 addresses: what is not in here is not ours.
    own_filter: u64,
    /// IPv4: own and broadcast addresses, networks on the link, configured routes (the tables `local` and `main`).
    v4: Arc<Table>,
    /// IPv6: own addresses.
    special: HashMap<Addr, AddrType>,
    /// IPv6: routes by length of their prefix, longest first, then by network, then by metric.
    lengths: Vec<(u8, HashMap<u128, Vec<FibEntry>>)>,
}

impl Fib {
    /// The FIB of these interfaces and routes. Own addresses, broadcast addresses and the subnets on the link follow from
    /// the interfaces.
    ///
    /// # Errors
    /// As [`FibError`] lists them, each naming the mend.
    pub fn build(interfaces: &[Interface], routes: &[RouteSpec]) -> Result<Fib, FibError> {
        let mut fib = Fib::default();
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

    /// `fib_add_ifaddr`: an interface has an address, from which routes follow.
    pub(crate) fn add_address(&mut self, ifindex: u16, own: &IfAddr) -> Result<(), FibError> {
        let addr = own.addr;
        if own.prefix > family_bits(addr) {
            return Err(FibError::PrefixTooLong(addr, own.prefix));
        }
        if fixed_type(addr).is_some() || is_loopback(addr) {
            return Err(FibError::BadAddress(addr));
        }
        let subnet = Prefix::of_interface(own);
        match addr.v4() {
            Some(v4) => self.add_address_v4(ifindex, u32::from(v4), own.prefix),
            None => {
                self.special.insert(addr, AddrType::Local);
                if own.prefix < family_bits(addr) {
                    let connected =
                        FibEntry { kind: RouteKind::Unicast, ifindex, via: None, src: Some(addr), metric: 0 };
                    // A second address in the same subnet adds no second route.
                    let _ = self.insert_v6(subnet, connected);
                }
            }
        }
        Ok(())
    }

    /// `fib_add_ifaddr`. A second address in the same subnet adds no second route to it.
    fn add_address_v4(&mut self, ifindex: u16, addr: u32, prefix: u8) {
        self.own_filter |= filter_bit(addr);
        if let Some(place) = self.own_v4.iter_mut().find(|place| **place == 0 || **place == addr) {
            *place = addr;
        }
        let hop = |kind: RouteKind| Hop {
            kind,
            ifindex,
            via: 0,
            src: addr,
            metric: 0,
            local_table: kind != RouteKind::Unicast,
            of_kernel: true,
            onlink: false,
        };
        let network = addr & mask4(prefix);
        let _ = self.v4.insert(Prefix4 { network: addr, len: 32 }, hop(RouteKind::Local), true);
        if prefix < 31 {
            let last = network | !mask4(prefix);
            let _ = self.v4.insert(Prefix4 { network: last, len: 32 }, hop(RouteKind::Broadcast), false);
        }
        if prefix < 32 {
            let _ = self.v4.insert(Prefix4 { network, len: prefix }, hop(RouteKind::Unicast), false);
        }
    }

    /// Interfaces are gone, and so is what led by them (`fib_disable_ip`), and what was to have their addresses for its
    /// source; `left` are those that there are. Looks at every route.
    pub(crate) fn remove_interfaces(&mut self, gone: &[u16], left: &[Interface]) {
        let routes = self.v4.routes();
        let is_gone = |hop: &Hop| gone.contains(&hop.ifindex);
        let own = |hop: &Hop| hop.kind == RouteKind::Local && hop.of_kernel && is_gone(hop);
        let sources: Vec<u32> = routes.iter().filter(|(_, hop)| own(hop)).map(|(prefix, _)| prefix.network).collect();
        for (prefix, hop) in routes {
            if is_gone(&hop) || sources.contains(&hop.src) {
                self.v4.remove(prefix, |other| *other == hop);
            }
        }
        self.own_v4 = [0; FEW];
        self.special.clear();
        for interface in left {
            for own in &interface.addresses {
                // They were there before; a network that two shared has one route, which may be gone.
                let _ = self.add_address(interface.ifindex, own);
            }
        }
    }

    /// `ip route add`: adds a route.
    ///
    /// # Errors
    /// As [`FibError`] lists them.
    pub fn add_route(&mut self, interfaces: &[Interface], route: &RouteSpec) -> Result<(), FibError> {
        self.set_route(interfaces, route, false).map(drop)
    }

    /// `ip route replace`: adds a route in the place of the one to the same network with the same metric, which is given.
    ///
    /// # Errors
    /// As [`FibError`] lists them.
    pub fn replace_route(&mut self, interfaces: &[Interface], route: &RouteSpec) -> Result<Option<FibEntry>, FibError> {
        self.set_route(interfaces, route, true)
    }

    fn set_route(
        &mut self,
        interfaces: &[Interface],
        route: &RouteSpec,
        replace: bool,
    ) -> Result<Option<FibEntry>, FibError> {
        let network = self.check(route)?;
        let ifindex = if route.kind.has_interface() { self.interface_of(interfaces, route)? } else { 0 };
        if !route.to.is_v4() {
            let RouteSpec { kind, via, src, metric, .. } = *route;
            let entry = FibEntry { kind, ifindex, via, src, metric };
            let old = if replace { self.remove_v6(network, metric) } else { None };
            return if self.insert_v6(network, entry) { Ok(old) } else { Err(FibError::Duplicate(*route)) };
        }
        let word = |addr: Option<Addr>| addr.and_then(|addr| addr.v4()).map_or(0, u32::from);
        let local_table = matches!(route.kind, RouteKind::Local | RouteKind::Broadcast);
        let hop = Hop {
            kind: route.kind,
            ifindex,
            via: word(route.via),
            src: word(route.src),
            metric: route.metric,
            local_table,
            of_kernel: false,
            onlink: route.onlink,
        };
        let prefix = Prefix4 { network: word(Some(route.to)), len: route.prefix };
        let inserted = self.v4.insert(prefix, hop, replace).map_err(|refused| match refused {
            Refused::Exists => FibError::Duplicate(*route),
            Refused::Full => FibError::Full(*route),
        });
        let old = inserted?;
        if route.kind == RouteKind::Local {
            self.own_filter |= if route.prefix == 32 { filter_bit(prefix.network) } else { u64::MAX };
        }
        Ok(old.map(FibEntry::from))
    }

    /// `ip route del`: removes a route to the same network, of the same kind and with the same metric, and gives it. A
    /// gateway or an interface, if they are named, must be the route's. None if there is no such route.
    pub fn remove_route(&mut self, route: &RouteSpec) -> Option<FibEntry> {
        let network = self.check(route).ok()?;
        if !route.to.is_v4() {
            return self.remove_v6(network, route.metric);
        }
        let prefix = Prefix4 { network: u32::from(route.to.v4()?), len: route.prefix };
        let named = |hop: &Hop| {
            let found = FibEntry::from(*hop);
            !hop.of_kernel
                && (hop.kind, hop.metric) == (route.kind, route.metric)
                && route.via.is_none_or(|via| found.via == Some(via))
                && route.ifindex.is_none_or(|ifindex| ifindex == hop.ifindex)
        };
        self.v4.remove(prefix, named).map(FibEntry::from)
    }

    /// What can be said of a route by itself; its network.
    fn check(&self, route: &RouteSpec) -> Result<Prefix, FibError> {
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
        if route.kind != RouteKind::Unicast && route.via.is_some() {
            return Err(FibError::ViaNowhere(*route));
        }
        Ok(network)
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
    fn insert_v6(&mut self, network: Prefix, entry: FibEntry) -> bool {
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

    fn remove_v6(&mut self, network: Prefix, metric: u32) -> Option<FibEntry> {
        let (_, networks) = self.lengths.iter_mut().find(|(len, _)| *len == network.len)?;
        let entries = networks.get_mut(&network.bits)?;
        let removed = entries.remove(entries.iter().position(|entry| entry.metric == metric)?);
        if entries.is_empty() {
            networks.remove(&network.bits);
        }
        Some(removed)
    }

    /// The best route to an address by longest prefix, then lowest metric (`fib_lookup`).
    pub fn lookup(&self, addr: Addr) -> Option<FibEntry> {
        match addr.v4() {
            Some(v4) => self.lookup_v4(u32::from(v4)).map(FibEntry::from),
            None => self.lookup_v6(number(addr)),
        }
    }

    /// The best route to an address by this interface. None where a longer prefix than any of them says that there is no way.
    pub fn lookup_by(&self, addr: Addr, ifindex: u16) -> Option<FibEntry> {
        match addr.v4() {
            Some(v4) => self.v4.lookup_by(u32::from(v4), ifindex).map(FibEntry::from),
            None => self.lookup_v6(number(addr)).filter(|entry| entry.ifindex == ifindex),
        }
    }

    /// [`Fib::lookup`] for an IPv4 address as a word in host order.
    #[inline]
    pub fn lookup_v4(&self, addr: u32) -> Option<Hop> {
        self.v4.lookup(addr)
    }

    fn lookup_v6(&self, number: u128) -> Option<FibEntry> {
        self.lengths.iter().find_map(|(len, networks)| networks.get(&(number & mask(*len)))?.first().copied())
    }

    /// Whether a route of IPv4 leads by this gateway (`ip_fib_check_default`).
    pub(super) fn has_gateway(&self, via: Addr, ifindex: u16) -> bool {
        via.v4().is_some_and(|via| self.v4.has_gateway(u32::from(via), ifindex))
    }

    /// All routes of IPv4, by network, the longest prefix first, then by metric (`fib_trie` as it is dumped).
    pub fn routes(&self) -> Vec<FibRoute> {
        let routes = self.v4.routes().into_iter();
        routes.map(|(prefix, hop)| FibRoute { to: prefix.network.into(), prefix: prefix.len, hop }).collect()
    }

    /// Bytes that the routes of IPv4 take: for look-ups, and for changes.
    pub fn memory(&self) -> (usize, usize) {
        self.v4.memory()
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
        among_few || self.lookup_v4(addr).is_some_and(|hop| hop.kind == RouteKind::Local)
    }

    /// `inet_addr_type`: what an address is to this host.
    pub fn addr_type(&self, addr: Addr) -> AddrType {
        let looked_up = || match addr.v4() {
            Some(v4) => match self.lookup_v4(u32::from(v4))?.kind {
                RouteKind::Local => Some(AddrType::Local),
                RouteKind::Broadcast => Some(AddrType::Broadcast),
                _ => None,
            },
            None => self.special.get(&addr).copied(),
        };
        fixed_type(addr).or_else(looked_up).unwrap_or(AddrType::Unicast)
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
/// The address that the kernel's loopback interface has, which this stack has not.
pub(super) const LOCALHOST: Addr = Addr::from_v4([127, 0, 0, 1]);

/// Whether the address is in 127/8 or is `::1`.
pub(crate) fn is_loopback(addr: Addr) -> bool {
    addr.to_ip().is_loopback()
}
