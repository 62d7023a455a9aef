//! The host of a replay: a stack as `host.toml` describes it, with a capture in the place of each interface, and which
//! packets of the capture are its own.

use std::collections::{HashSet, VecDeque};
use std::io;

use rxpath::capture::{Direction, Link, LinkKind, Packet, Peeled};
use rxpath::config::{Driver, HostConfig};
use rxpath::device::pcap::{Pcap, PcapConfig};
use rxpath_core::netns::{IfAddr, NetConfig, Strangers};
use rxpath_core::route;
use rxpath_core::stack::{InterfaceConfig, Stack, StackConfig};
use rxpath_mem::PoolConfig;
use rxpath_trace::{Selector, Time};
use rxpath_wire::{Addr, EthernetHeader, MacAddr};

use super::feed::Feed;
use super::segment;

/// Seed of a host that has none: a replay is to give the same every time.
const SEED: u64 = 1;
/// Slots of a Cpu's pool beyond twice those of its rings: what sockets hold.
const SPARE_SLOTS: usize = 16_384;
/// Events that may wait to be collected, for each Cpu: some 5 MB.
pub(super) const LIFE_CAPACITY: usize = 1 << 17;
/// Neighbours that are configured at a time, below what makes the kernel collect them.
const NEIGHBOURS_MAX: usize = 400;
/// Senders that are remembered, so that routes are looked up once for each.
const SENDERS_MAX: usize = 1 << 16;

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// An interface of the host.
pub(super) struct Port {
    pub(super) name: String,
    pub(super) ifindex: u16,
    pub(super) mac: MacAddr,
    pub(super) mtu: u16,
    pub(super) feed: Feed,
    /// The configuration gives no hardware address, so that the capture's counts.
    open: bool,
    /// The one that the capture has.
    pub(super) learnt: Option<MacAddr>,
}

/// The host.
pub(super) struct Host {
    pub(super) stack: Stack,
    pub(super) ports: Vec<Port>,
    /// Where packets go whose interface does not show.
    first: usize,
    addresses: Vec<Addr>,
    senders: HashSet<(u16, Addr)>,
    neighbours: VecDeque<(u16, Addr)>,
}

impl Host {
    /// Builds the stack.
    pub(super) fn new(config: &HostConfig) -> io::Result<Host> {
        let mut ports = Vec::new();
        let mut interfaces = Vec::new();
        for (index, interface) in config.interfaces.iter().enumerate() {
            let feed = Feed::default();
            let device = PcapConfig {
                name: interface.name.clone(),
                mac: interface.mac,
                mtu: interface.mtu,
                queues: interface.queues,
            };
            let mut opened = InterfaceConfig::new(Box::new(Pcap::new(device, feed.clone())));
            let address = |cidr: &rxpath::config::Cidr| IfAddr { addr: cidr.addr().into(), prefix: cidr.prefix() };
            opened.addresses = interface.addresses.iter().map(address).collect();
            opened.gro = interface.gro;
            opened.promisc = interface.promisc;
            opened.ring = usize::from(interface.ring);
            interfaces.push(opened);
            ports.push(Port {
                name: interface.name.clone(),
                ifindex: index as u16 + 1,
                mac: interface.mac,
                mtu: interface.mtu,
                feed,
                open: interface.has_default_mac(index),
                learnt: None,
            });
        }
        let slots = |i: &rxpath::config::InterfaceConfig| usize::from(i.queues) * usize::from(i.ring);
        let rings: usize = config.interfaces.iter().map(slots).sum();
        let stack = Stack::new(StackConfig {
            cpus: config.stack.cpus,
            seed: config.stack.seed.unwrap_or(SEED),
            sysctl: config.sysctls.clone(),
            interfaces,
            vlans: config.vlans.iter().map(rxpath::config::VlanConfig::device).collect(),
            routes: config.route_specs(),
            neighbours: config.neighbour_specs(),
            proxies: config.proxies(),
            pool: PoolConfig { slots: 2 * rings + SPARE_SLOTS, ..PoolConfig::default() },
            lives: Selector::All,
            life_capacity: LIFE_CAPACITY,
            ..StackConfig::default()
        })?;
        stack.reconfigure(|net| NetConfig { strangers: Strangers::Leave, ..net.clone() });
        let first = config.interfaces.iter().position(|interface| interface.driver == Driver::Pcap).unwrap_or(0);
        let addresses = config.interfaces.iter().map(|interface| &interface.addresses);
        let addresses = addresses.chain(config.vlans.iter().map(|vlan| &vlan.addresses)).flatten();
        let addresses = addresses.map(|cidr| Addr::from(cidr.addr())).collect();
        let (senders, neighbours) = (HashSet::new(), VecDeque::new());
        Ok(Host { stack, ports, first, addresses, senders, neighbours })
    }

    /// The interface of a packet: that of the capture's name for it, else that whose hardware address is in the frame,
    /// else the first whose driver is `pcap`, else the first.
    pub(super) fn port_of(&self, name: Option<&str>, link: Link, data: &[u8]) -> usize {
        if let Some(named) = name.and_then(|name| self.ports.iter().position(|port| port.name == name)) {
            return named;
        }
        if self.ports.len() == 1 || link != Link::Ethernet {
            return self.first;
        }
        let Some((header, _)) = EthernetHeader::parse(data) else { return self.first };
        let has = |port: &Port| [header.dst(), header.src()].iter().any(|mac| port.is_own(*mac));
        self.ports.iter().position(has).unwrap_or(self.first)
    }

    /// Which way a packet went, by the best witness that there is: the capture's own word, the link header's, the hardware
    /// addresses, the IP addresses. `frame` is its Ethernet frame.
    pub(super) fn way(&mut self, port: usize, packet: &Packet<'_>, link: Link, peeled: &Peeled, frame: &[u8]) -> Way {
        match (packet.direction(), peeled.kind) {
            (Some(Direction::Outbound), _) | (None, Some(LinkKind::Outgoing)) => return Way::Out,
            (Some(Direction::Inbound), _) | (None, Some(_)) => return Way::In,
            (None, None) => {}
        }
        let ends = segment::ends(frame);
        let is_own = |addr: &Addr| self.addresses.contains(addr);
        let from_us = ends.as_ref().is_some_and(|(src, _)| is_own(src));
        let to_us = ends.as_ref().is_some_and(|(_, dst)| is_own(dst));
        let Some(port) = self.ports.get_mut(port) else { return Way::In };
        let header = EthernetHeader::parse(frame).map(|(header, _)| (header.src(), header.dst()));
        match header.filter(|_| link == Link::Ethernet) {
            Some((src, dst)) => port.way(src, dst, from_us, to_us),
            None if from_us => Way::Out,
            None => Way::In,
        }
    }

    /// The sender's hardware address is that of the next hop towards it, which an answer needs.
    pub(super) fn know_sender(&mut self, port: usize, frame: &[u8], now: Time) {
        let Some((src, _)) = segment::ends(frame) else { return };
        let Some(ifindex) = self.ports.get(port).map(|port| port.ifindex) else { return };
        if self.senders.contains(&(ifindex, src)) {
            return;
        }
        let Some((header, _)) = EthernetHeader::parse(frame) else { return };
        if self.senders.len() >= SENDERS_MAX {
            self.senders.clear();
        }
        self.senders.insert((ifindex, src));
        let Ok(route) = route::output(&self.stack.config(), src, None) else { return };
        let hop = (route.ifindex, route.nexthop);
        if !header.src().is_unicast() || route.ifindex != ifindex || self.neighbours.contains(&hop) {
            return;
        }
        if self.neighbours.len() >= NEIGHBOURS_MAX
            && let Some((ifindex, addr)) = self.neighbours.pop_front()
        {
            self.stack.set_neighbour(ifindex, addr, None, now);
            self.senders.clear();
        }
        if self.stack.set_neighbour(hop.0, hop.1, Some(header.src()), now) {
            self.neighbours.push_back(hop);
        }
    }
}

impl Port {
    pub(super) fn is_own(&self, mac: MacAddr) -> bool {
        mac == self.mac || Some(mac) == self.learnt
    }

    /// Which way an Ethernet frame went, and what its addresses teach.
    fn way(&mut self, src: MacAddr, dst: MacAddr, from_us: bool, to_us: bool) -> Way {
        if self.is_own(src) {
            return Way::Out;
        }
        if self.open && self.learnt.is_none() && !self.is_own(dst) {
            if from_us {
                self.learnt = Some(src);
                return Way::Out;
            }
            if to_us && dst.is_unicast() {
                self.learnt = Some(dst);
            }
        }
        Way::In
    }

    /// Puts the interface's own address where the capture has the one that was learnt.
    pub(super) fn readdress(&self, frame: &mut [u8]) {
        if let (Some(learnt), Some((header, _))) = (self.learnt, EthernetHeader::parse_mut(frame))
            && header.dst() == learnt
        {
            header.set_dst(self.mac);
        }
    }
}
