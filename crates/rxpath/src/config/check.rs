//! From entries to a configuration: what shows only when values are seen together.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;

use rxpath_core::demux::{EgressMap, IngressMap};
use rxpath_core::neigh::Nud;
use rxpath_core::route::RouteKind;
use rxpath_trace::Selector;
use rxpath_wire::MacAddr;

use super::cidr::Cidr;
use super::error::Finding;
use super::keys::{INTERFACE, LIFE, NEIGHBOUR, ROUTE, SERVICE, STACK, VLAN};
use super::read::{Document, Entry};
use super::values::Value;
use super::{
    App, Driver, FaultsConfig, HostConfig, InterfaceConfig, LifeConfig, NeighbourConfig, NeighbourKind, Proto,
    RouteConfig, ServiceConfig, StackConfig, VlanConfig, VlanProtocol,
};

/// The first bytes of hardware addresses that are not given: locally administered, then `rx`.
const MAC_PREFIX: [u8; 4] = [0x02, b'r', b'x', 0];

/// Makes the configuration of a document whose keys were all read.
pub(super) fn host(document: Document) -> Result<HostConfig, Vec<Finding>> {
    let mut checker = Checker { findings: Vec::new(), networks: Vec::new() };
    let entries = document.all(&INTERFACE);
    let interfaces: Vec<InterfaceConfig> =
        entries.iter().enumerate().filter_map(|(index, entry)| interface(index, entry)).collect();
    checker.interfaces(&interfaces, entries);
    let entries = document.all(&VLAN);
    let vlans: Vec<VlanConfig> = entries.iter().filter_map(vlan).collect();
    checker.vlans(&vlans, entries, &interfaces);
    let names = interfaces.iter().map(|interface| &interface.name).chain(vlans.iter().map(|vlan| &vlan.name));
    let names: Vec<&str> = names.map(String::as_str).collect();
    checker.tuned(&document.tuned, &names);
    let routes = checker.routes(document.all(&ROUTE), &names);
    let neighbours = checker.neighbours(document.all(&NEIGHBOUR), &names);
    let services = checker.services(document.all(&SERVICE));
    let life = document.all(&LIFE).first().and_then(life);
    let stack = document.all(&STACK).first().and_then(stack);
    match (life, stack) {
        (Some(life), Some(stack)) if checker.findings.is_empty() => {
            Ok(HostConfig { interfaces, vlans, routes, neighbours, sysctls: document.sysctls, services, life, stack })
        }
        _ => Err(checker.findings),
    }
}

/// Typed access to an entry: nothing where the key was not given and has no default.
impl Entry {
    fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn number<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        match self.value(key)? {
            Value::Number(number) => T::try_from(*number).ok(),
            _ => None,
        }
    }

    fn share(&self, key: &str) -> Option<f64> {
        match self.value(key)? {
            Value::Share(share) => Some(*share),
            _ => None,
        }
    }

    fn switch(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            Value::Switch(switch) => Some(*switch),
            _ => None,
        }
    }

    fn mac(&self, key: &str) -> Option<MacAddr> {
        match self.value(key)? {
            Value::Mac(mac) => Some(*mac),
            _ => None,
        }
    }

    fn cidrs(&self, key: &str) -> Option<&[(Cidr, Range<usize>)]> {
        match self.value(key)? {
            Value::Cidrs(cidrs) => Some(cidrs),
            _ => None,
        }
    }

    fn priorities(&self, key: &str) -> Option<&[(u8, u8)]> {
        match self.value(key)? {
            Value::Priorities(pairs) => Some(pairs),
            _ => None,
        }
    }

    fn network(&self, key: &str) -> Option<Cidr> {
        match self.value(key)? {
            Value::Network(network) => Some(*network),
            _ => None,
        }
    }

    fn address(&self, key: &str) -> Option<IpAddr> {
        match self.value(key)? {
            Value::Address(addr) => Some(*addr),
            _ => None,
        }
    }

    fn listen(&self, key: &str) -> Option<SocketAddr> {
        match self.value(key)? {
            Value::Listen(addr) => Some(*addr),
            _ => None,
        }
    }

    fn selector(&self, key: &str) -> Option<Selector> {
        match self.value(key)? {
            Value::Selector(selector) => Some(selector.clone()),
            _ => None,
        }
    }
}

fn interface(index: usize, entry: &Entry) -> Option<InterfaceConfig> {
    Some(InterfaceConfig {
        name: entry.text("name")?,
        driver: match entry.text("driver")?.as_str() {
            "wire" => Driver::Wire,
            "pcap" => Driver::Pcap,
            _ => Driver::Tap,
        },
        mac: entry.mac("mac").unwrap_or_else(|| default_mac(index)),
        addresses: entry.cidrs("addresses")?.iter().map(|(cidr, _)| *cidr).collect(),
        mtu: entry.number("mtu")?,
        queues: entry.number("queues")?,
        rx_usecs: entry.number("rx_usecs")?,
        rx_frames: entry.number("rx_frames")?,
        gro: entry.switch("gro")?,
        promisc: entry.switch("promisc")?,
        ring: entry.number("ring")?,
        faults: faults(entry.table("faults")?)?,
    })
}

fn vlan(entry: &Entry) -> Option<VlanConfig> {
    let (mut ingress_qos_map, mut egress_qos_map) = (IngressMap::default(), EgressMap::default());
    // All are within their bounds.
    entry.priorities("ingress_qos_map")?.iter().for_each(|&(from, to)| _ = ingress_qos_map.set(from, to));
    entry.priorities("egress_qos_map")?.iter().for_each(|&(from, to)| _ = egress_qos_map.set(from, to));
    Some(VlanConfig {
        name: entry.text("name")?,
        link: entry.text("link")?,
        id: entry.number("id")?,
        protocol: match entry.text("protocol")?.as_str() {
            "802.1ad" => VlanProtocol::Dot1Ad,
            _ => VlanProtocol::Dot1Q,
        },
        mac: entry.mac("mac"),
        addresses: entry.cidrs("addresses")?.iter().map(|(cidr, _)| *cidr).collect(),
        mtu: entry.number("mtu"),
        ingress_qos_map,
        egress_qos_map,
    })
}

pub(super) fn default_mac(index: usize) -> MacAddr {
    let [high, low] = (index as u16).wrapping_add(1).to_be_bytes();
    let [a, b, c, d] = MAC_PREFIX;
    MacAddr::from([a, b, c, d, high, low])
}

fn faults(entry: &Entry) -> Option<FaultsConfig> {
    Some(FaultsConfig {
        loss: entry.share("loss")?,
        duplicate: entry.share("duplicate")?,
        reorder: entry.share("reorder")?,
        corrupt: entry.share("corrupt")?,
        delay_ms: entry.number("delay_ms")?,
        rate: entry.number("rate")?,
    })
}

fn service(entry: &Entry) -> Option<ServiceConfig> {
    let app = match entry.text("app")?.as_str() {
        "http" => App::Http,
        "echo" => App::Echo,
        "discard" => App::Discard,
        _ => App::Chargen,
    };
    let proto = if entry.text("proto")? == "udp" { Proto::Udp } else { Proto::Tcp };
    Some(ServiceConfig { listen: entry.listen("listen")?, app, proto })
}

fn life(entry: &Entry) -> Option<LifeConfig> {
    Some(LifeConfig { select: entry.selector("select")? })
}

fn stack(entry: &Entry) -> Option<StackConfig> {
    Some(StackConfig {
        cpus: entry.number("cpus")?,
        seed: entry.number("seed"),
        control: entry.text("control").map(PathBuf::from),
    })
}

struct Checker {
    findings: Vec<Finding>,
    /// Every address so far with its interface.
    networks: Vec<(Cidr, String)>,
}

impl Checker {
    fn find(&mut self, span: Range<usize>, what: String) {
        self.findings.push(Finding { span, what });
    }

    fn interfaces(&mut self, interfaces: &[InterfaceConfig], entries: &[Entry]) {
        if interfaces.is_empty() {
            let what = format!("no {}; a stack without one receives nothing", INTERFACE.header);
            self.find(0..0, what);
        }
        for (index, (interface, entry)) in interfaces.iter().zip(entries).enumerate() {
            let earlier = &interfaces[..index];
            if earlier.iter().any(|other| other.name == interface.name) {
                let what = format!("a second interface is named {:?}; give each its own name", interface.name);
                self.find(entry.span_of("name"), what);
            }
            if let Some(other) = earlier.iter().find(|other| other.mac == interface.mac) {
                let what = format!("{:?} has the address {} already; give each its own", other.name, interface.mac);
                self.find(entry.span_of("mac"), what);
            }
            self.moderation(interface, entry);
            for (cidr, span) in entry.cidrs("addresses").unwrap_or_default() {
                self.address(*cidr, span, &interface.name);
            }
        }
    }

    fn vlans(&mut self, vlans: &[VlanConfig], entries: &[Entry], interfaces: &[InterfaceConfig]) {
        // What each may be put on, with its MTU and whether it is a VLAN device itself.
        let mut links: Vec<(&str, u16, bool)> =
            interfaces.iter().map(|interface| (interface.name.as_str(), interface.mtu, false)).collect();
        for (index, (vlan, entry)) in vlans.iter().zip(entries).enumerate() {
            let VlanConfig { name, link, id, protocol, .. } = vlan;
            if links.iter().any(|(other, ..)| other == name) {
                self.find(
                    entry.span_of("name"),
                    format!("a second interface is named {name:?}; give each its own name"),
                );
            }
            let same = |other: &&VlanConfig| (&other.link, other.id, other.protocol) == (link, *id, *protocol);
            if let Some(other) = vlans[..index].iter().find(same) {
                self.find(
                    entry.span_of("id"),
                    format!("{:?} has VLAN {id} of {link:?} already; remove one", other.name),
                );
            }
            let mut mtu = vlan.mtu.unwrap_or(u16::MAX);
            match links.iter().find(|(other, ..)| other == link) {
                Some((_, most, _)) if vlan.mtu.is_some_and(|mtu| mtu > *most) => {
                    self.find(
                        entry.span_of("mtu"),
                        format!("{mtu} is more than the {most} of {link:?}; make it smaller"),
                    );
                }
                Some((_, _, true)) if vlans.iter().any(|v| v.name == *link && links_to_vlan(v, vlans)) => {
                    let what = format!("{link:?} is a VLAN device on a VLAN device; a third tag does not fit a frame");
                    self.find(entry.span_of("link"), what);
                }
                Some((_, most, _)) => mtu = mtu.min(*most),
                None => {
                    let names: Vec<String> = links.iter().map(|(name, ..)| format!("{name:?}")).collect();
                    let what = format!("no interface before this one is named {link:?}; there is {}", names.join(", "));
                    self.find(entry.span_of("link"), what);
                }
            }
            links.push((name, mtu, true));
            for (cidr, span) in entry.cidrs("addresses").unwrap_or_default() {
                self.address(*cidr, span, name);
            }
        }
    }

    /// Tunables are set for interfaces that there are.
    fn tuned(&mut self, tuned: &[(String, Range<usize>)], interfaces: &[&str]) {
        for (name, span) in tuned.iter().filter(|(name, _)| !interfaces.contains(&name.as_str())) {
            let what =
                format!("no interface is named {name:?}; there is {}, and all, and default", interfaces.join(", "));
            self.find(span.clone(), what);
        }
    }

    fn moderation(&mut self, interface: &InterfaceConfig, entry: &Entry) {
        let InterfaceConfig { rx_frames, rx_usecs, ring, .. } = *interface;
        if rx_frames >= u32::from(ring) {
            let what = format!(
                "rx_frames = {rx_frames} is never reached in a ring of {ring}; make it smaller, or the ring larger"
            );
            self.find(entry.span_of("rx_frames"), what);
        } else if rx_frames > 1 && rx_usecs == 0 {
            let what = format!(
                "rx_frames = {rx_frames} without rx_usecs leaves the last frames waiting for ever; add rx_usecs = 50"
            );
            self.find(entry.span_of("rx_frames"), what);
        }
    }

    /// No address is given twice, and no two interfaces have networks in common: a packet would not know its way.
    fn address(&mut self, cidr: Cidr, span: &Range<usize>, interface: &str) {
        let same = |(other, _): &&(Cidr, String)| other.addr() == cidr.addr();
        let common = |(other, name): &&(Cidr, String)| name != interface && other.overlaps(&cidr);
        let what = if let Some((_, name)) = self.networks.iter().find(same) {
            Some(format!("{} is given a second time (first to {name:?}); remove one", cidr.addr()))
        } else if let Some((other, name)) = self.networks.iter().find(common) {
            Some(format!("{cidr} overlaps {other} of {name:?}; give the two interfaces different networks"))
        } else {
            None
        };
        if let Some(what) = what {
            self.find(span.clone(), what);
        }
        self.networks.push((cidr, interface.to_owned()));
    }

    fn routes(&mut self, entries: &[Entry], interfaces: &[&str]) -> Vec<RouteConfig> {
        let mut routes: Vec<RouteConfig> = Vec::new();
        for entry in entries {
            let named = entry.text("type");
            let kind = RouteKind::ALL.into_iter().find(|kind| named.as_deref() == Some(kind.name()));
            let (kind, onlink) = (kind.unwrap_or_default(), entry.switch("onlink").unwrap_or(false));
            let dev = match self.dev_of(kind, onlink, entry, interfaces) {
                Ok(dev) => dev,
                Err((key, what)) => {
                    self.find(entry.span_of(key), what);
                    continue;
                }
            };
            let (Some(to), Some(metric)) = (entry.network("to"), entry.number("metric")) else { continue };
            if routes.iter().any(|other| other.to == to && other.metric == metric) {
                let what = format!("a second route to {to} has metric {metric}; give it another metric, or remove it");
                self.find(entry.span_of("to"), what);
            }
            let src = entry.address("src");
            if let Some(src) = src.filter(|src| self.networks.iter().all(|(cidr, _)| cidr.addr() != *src)) {
                self.find(entry.span_of("src"), format!("{src} is not an address of this host; name one of its own"));
            }
            routes.push(RouteConfig { to, via: entry.address("via"), dev, metric, kind, src, onlink });
        }
        routes
    }

    /// The interface of a route of this type, if it has one; an error names the key to blame.
    fn dev_of(
        &self,
        kind: RouteKind,
        onlink: bool,
        entry: &Entry,
        interfaces: &[&str],
    ) -> Result<Option<String>, (&'static str, String)> {
        let given = |key: &str| entry.value(key).is_some();
        let nowhere = ["via", "dev"].into_iter().find(|key| !kind.has_interface() && given(key));
        if let Some(key) = nowhere.or((kind != RouteKind::Unicast && given("via")).then_some("via")) {
            return Err((key, format!("a route of type {:?} takes no {key}; leave it out", kind.name())));
        }
        if onlink && !(given("via") && given("dev")) {
            let what = "onlink says that via is on the link of dev; give both, or leave it out";
            return Err(("onlink", what.to_owned()));
        }
        if !kind.has_interface() {
            return Ok(None);
        }
        self.dev(entry, interfaces, onlink).map(Some)
    }

    /// The interface that a route leaves by; an error names the key to blame.
    fn dev(&self, entry: &Entry, interfaces: &[&str], onlink: bool) -> Result<String, (&'static str, String)> {
        let dev = entry.text("dev");
        if let Some(dev) = &dev
            && !interfaces.contains(&dev.as_str())
        {
            let names: Vec<String> = interfaces.iter().map(|name| format!("{name:?}")).collect();
            return Err(("dev", format!("no interface is named {dev:?}; there is {}", names.join(", "))));
        }
        let Some(via) = entry.address("via") else {
            let mend =
                format!("this {} has neither via nor dev; add a line such as via = \"10.9.0.254\"", ROUTE.header);
            return dev.ok_or(("via", mend));
        };
        if self.networks.iter().any(|(cidr, _)| cidr.addr() == via) {
            return Err(("via", format!("{via} is this host's own address; name the gateway's")));
        }
        if let Some(dev) = dev.as_ref().filter(|_| onlink) {
            return Ok(dev.clone());
        }
        let on_link = |(cidr, name): &&(Cidr, String)| cidr.contains(via) && dev.as_ref().is_none_or(|dev| dev == name);
        let end = |cidr: &Cidr| {
            cidr.broadcast().map(IpAddr::V4) == Some(via) || (cidr.prefix() <= 30 && cidr.network().addr() == via)
        };
        match self.networks.iter().find(on_link) {
            Some((cidr, _)) if end(cidr) => {
                Err(("via", format!("{via} is no host's address within {}; name the gateway's", cidr.network())))
            }
            Some((_, name)) => Ok(name.clone()),
            None => {
                let of = dev.as_ref().map_or("any interface".to_owned(), |dev| format!("{dev:?}"));
                Err(("via", format!("{via} is not on a network of {of}; a gateway must be in reach without a route")))
            }
        }
    }

    fn neighbours(&mut self, entries: &[Entry], interfaces: &[&str]) -> Vec<NeighbourConfig> {
        let mut neighbours: Vec<NeighbourConfig> = Vec::new();
        for entry in entries {
            let Some(IpAddr::V4(address)) = entry.address("address") else { continue };
            let network = self.networks.iter().find(|(cidr, _)| cidr.contains(IpAddr::V4(address)));
            let dev = match (entry.text("dev"), network) {
                (Some(dev), _) if interfaces.contains(&dev.as_str()) => dev,
                (Some(dev), _) => {
                    let what = format!("no interface is named {dev:?}; there is {}", interfaces.join(", "));
                    self.find(entry.span_of("dev"), what);
                    continue;
                }
                (None, Some((_, dev))) => dev.clone(),
                (None, None) => {
                    let what =
                        format!("{address} is on the network of no interface; say with dev which one it is behind");
                    self.find(entry.span_of("address"), what);
                    continue;
                }
            };
            let proxy = entry.switch("proxy").unwrap_or(false);
            let state = match entry.text("state").as_deref() {
                Some("noarp") => Nud::Noarp,
                Some("reachable") => Nud::Reachable,
                Some("stale") => Nud::Stale,
                _ => Nud::Permanent,
            };
            let kind = match (proxy, entry.mac("lladdr")) {
                (false, Some(mac)) => NeighbourKind::Known(mac, state),
                (true, None) => NeighbourKind::Proxy,
                (true, Some(_)) => {
                    self.find(
                        entry.span_of("lladdr"),
                        "a proxy answers with the interface's own; remove it".to_owned(),
                    );
                    continue;
                }
                (false, None) => {
                    let what = format!("{address} has no lladdr; add a line such as lladdr = \"02:00:00:00:aa:07\"");
                    self.find(entry.span_of("address"), what);
                    continue;
                }
            };
            let same = |other: &&NeighbourConfig| {
                let both_proxies = (other.kind == NeighbourKind::Proxy) == proxy;
                other.address == address && other.dev == dev && both_proxies
            };
            if neighbours.iter().find(same).is_some() {
                let what = format!("{address} is given a second time for {dev:?}; remove one");
                self.find(entry.span_of("address"), what);
            }
            neighbours.push(NeighbourConfig { address, dev, kind });
        }
        neighbours
    }

    fn services(&mut self, entries: &[Entry]) -> Vec<ServiceConfig> {
        let mut services: Vec<ServiceConfig> = Vec::new();
        for entry in entries {
            let Some(service) = service(entry) else { continue };
            let ServiceConfig { listen, app, proto } = service;
            if (app, proto) == (App::Http, Proto::Udp) {
                self.find(entry.span_of("proto"), "http is served over tcp alone".to_owned());
            }
            if !listen.ip().is_unspecified() && !self.networks.iter().any(|(cidr, _)| cidr.addr() == listen.ip()) {
                let what =
                    format!("{} is not an address of this host; listen on one of its own, or on 0.0.0.0", listen.ip());
                self.find(entry.span_of("listen"), what);
            }
            if let Some(other) = services.iter().find(|other| other.proto == proto && collide(other.listen, listen)) {
                let what = format!("{listen} is taken by the service on {}; choose another port", other.listen);
                self.find(entry.span_of("listen"), what);
            }
            services.push(service);
        }
        services
    }
}

/// Whether a VLAN device goes through another VLAN device.
fn links_to_vlan(vlan: &VlanConfig, vlans: &[VlanConfig]) -> bool {
    vlans.iter().any(|other| other.name == vlan.link)
}

/// Whether two listeners would both be due the same connection.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
