//! `host.toml`: what a host is — its interfaces, routes, tunables and services.
//!
//! [`HostConfig::load`] reads a file and gives either a configuration in which every value is within its bounds and
//! every name leads somewhere, or all that is wrong with it ([`ConfigErrors`]): each finding names the file, the line,
//! the column, and the mend. [`reference()`] is the documentation of the file; it comes from the same table of keys
//! (`keys.rs`) that the reader obeys, so neither has a key that the other lacks.
//!
//! | file | holds |
//! |---|---|
//! | `keys.rs` | the table: sections, keys, what each takes, defaults |
//! | `read.rs` | text to typed values, key by key |
//! | `check.rs` | what only shows when values are seen together: overlaps, gateways out of reach, names used twice |
//! | `reference.rs` | the table as Markdown |
//!
//! Nothing here panics, whatever the file holds; a file above 1 MiB is refused.

mod check;
mod cidr;
mod error;
mod keys;
mod read;
mod reference;
#[cfg(test)]
mod tests;
mod values;

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rxpath_core::demux::{EgressMap, IngressMap};
use rxpath_core::neigh::{NeighSpec, Nud};
use rxpath_core::netns::IfAddr;
use rxpath_core::route::{RouteKind, RouteSpec};
use rxpath_core::stack;
use rxpath_core::sysctl::Sysctls;
use rxpath_trace::Selector;
use rxpath_wire::{Addr, EtherType, MacAddr};

pub use cidr::{Cidr, ParseCidrError};
pub use error::{ConfigError, ConfigErrors};
pub use reference::reference;

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// A host: what [`HostConfig::load`] makes of a `host.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct HostConfig {
    /// Interfaces, in the order of the file; at least one, names and hardware addresses unique.
    pub interfaces: Vec<InterfaceConfig>,
    /// VLAN devices, in the order of the file; their indexes follow those of the interfaces.
    pub vlans: Vec<VlanConfig>,
    /// Routes besides those that addresses bring, in the order of the file.
    pub routes: Vec<RouteConfig>,
    /// Neighbours that are known from the beginning, and hosts that ARP requests are answered for, in the order of the file.
    pub neighbours: Vec<NeighbourConfig>,
    /// Tunables: Linux's defaults with the file's changes.
    pub sysctls: Sysctls,
    /// Services to run, in the order of the file; no two listen on the same address and port.
    pub services: Vec<ServiceConfig>,
    /// Which packets' lives are recorded.
    pub life: LifeConfig,
    /// The stack itself.
    pub stack: StackConfig,
}

/// What moves an interface's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// An in-memory cable.
    Wire,
    /// A TAP of the kernel.
    Tap,
    /// The packets of a capture.
    Pcap,
}

/// One `[[interface]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct InterfaceConfig {
    /// Name, 1 to 15 bytes; of a TAP, the kernel's name for it too.
    pub name: String,
    /// What moves its frames.
    pub driver: Driver,
    /// Hardware address, unicast.
    pub mac: MacAddr,
    /// Addresses with their prefix lengths; no two are equal.
    pub addresses: Vec<Cidr>,
    /// Largest IP packet, in bytes, 68 to 65535.
    pub mtu: u16,
    /// Receive queues, 1 to 64.
    pub queues: u16,
    /// Moderation: longest wait before an interrupt, in microseconds; 0 for none.
    pub rx_usecs: u32,
    /// Moderation: frames that end the wait early; 0 for no such number. Below `ring`.
    pub rx_frames: u32,
    /// Whether GRO merges segments.
    pub gro: bool,
    /// Whether it is promiscuous.
    pub promisc: bool,
    /// Descriptors of each receive ring, a power of two, 256 to 4096.
    pub ring: u16,
    /// Faults that are put on purpose between the device and the stack.
    pub faults: FaultsConfig,
}

/// The tag of a VLAN device's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanProtocol {
    /// 802.1Q, EtherType 0x8100.
    Dot1Q,
    /// 802.1ad, EtherType 0x88a8.
    Dot1Ad,
}

/// One `[[vlan]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct VlanConfig {
    /// Name, 1 to 15 bytes.
    pub name: String,
    /// The interface that its frames go through, or the VLAN device before this one.
    pub link: String,
    /// The VLAN, 0 to 4,094.
    pub id: u16,
    /// The tag.
    pub protocol: VlanProtocol,
    /// Hardware address, unicast; nothing for that of `link`.
    pub mac: Option<MacAddr>,
    /// Addresses with their prefix lengths; no two are equal.
    pub addresses: Vec<Cidr>,
    /// Largest IP packet, in bytes, 68 to 65535; nothing for that of `link`.
    pub mtu: Option<u16>,
    /// Which priority goes into its tags.
    pub egress_qos_map: EgressMap,
    /// Which priority those of its tags are.
    pub ingress_qos_map: IngressMap,
}

impl VlanConfig {
    /// The device as the stack takes it.
    pub fn device(&self) -> stack::VlanConfig {
        let address = |cidr: &Cidr| IfAddr { addr: cidr.addr().into(), prefix: cidr.prefix() };
        stack::VlanConfig {
            name: self.name.clone(),
            parent: self.link.clone(),
            tpid: match self.protocol {
                VlanProtocol::Dot1Q => EtherType::VLAN,
                VlanProtocol::Dot1Ad => EtherType::QINQ,
            },
            id: self.id,
            mac: self.mac,
            mtu: self.mtu,
            egress: self.egress_qos_map,
            ingress: self.ingress_qos_map,
            addresses: self.addresses.iter().map(address).collect(),
        }
    }
}

/// `faults` of an interface; all zero (the default) does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultsConfig {
    /// Share of frames lost, 0.0 to 1.0.
    pub loss: f64,
    /// Share of frames that come twice, 0.0 to 1.0.
    pub duplicate: f64,
    /// Share of frames that come after a later one, 0.0 to 1.0.
    pub reorder: f64,
    /// Share of frames with a flipped bit, 0.0 to 1.0.
    pub corrupt: f64,
    /// Delay of every frame, in milliseconds.
    pub delay_ms: u32,
    /// Bits per second that pass; 0 for no limit.
    pub rate: u64,
}

impl FaultsConfig {
    /// True if it does nothing.
    pub fn is_none(&self) -> bool {
        *self == FaultsConfig::default()
    }
}

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Destinations; prefix length 0 is the default route. No host bits are set.
    pub to: Cidr,
    /// Gateway, on a network of `dev`; nothing for destinations on the link itself.
    pub via: Option<IpAddr>,
    /// Name of the interface that packets leave by: as given, or that on whose network `via` is. Nothing for routes whose
    /// packets go nowhere.
    pub dev: Option<String>,
    /// Among routes to the same destinations the one with the lowest metric is used.
    pub metric: u32,
    /// What becomes of the packets.
    pub kind: RouteKind,
    /// Source address of what this host sends, one of its own; nothing to choose one.
    pub src: Option<IpAddr>,
    /// The gateway is on the link of `dev` whatever the addresses say.
    pub onlink: bool,
}

/// One `[[neighbour]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourConfig {
    /// Its address.
    pub address: Ipv4Addr,
    /// Name of the interface that it is behind.
    pub dev: String,
    /// What is known of it.
    pub kind: NeighbourKind,
}

/// What a `[[neighbour]]` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourKind {
    /// A neighbour with this hardware address, in this state to begin with.
    Known(MacAddr, Nud),
    /// Another host, that ARP requests are answered for.
    Proxy,
}

/// A built-in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// Answers HTTP GET requests with a page about the stack.
    Http,
    /// Sends back what comes (RFC 862).
    Echo,
    /// Reads and forgets (RFC 863).
    Discard,
    /// Sends the characters of RFC 864 without end.
    Chargen,
}

/// The protocol of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Proto {
    /// As the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        }
    }
}

/// One `[[service]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// One of the host's addresses, or the unspecified one for all; the port is not 0.
    pub listen: SocketAddr,
    /// What answers there.
    pub app: App,
    /// Over which protocol; [`App::Http`] only over TCP.
    pub proto: Proto,
}

/// `[life]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LifeConfig {
    /// Which packets' lives are recorded.
    pub select: Selector,
}

/// `[stack]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackConfig {
    /// Softirq contexts, 1 to 64.
    pub cpus: u16,
    /// Seed of hash keys, initial sequence numbers and faults; nothing takes one from the system's randomness.
    pub seed: Option<u64>,
    /// Path of the control socket; nothing for none.
    pub control: Option<PathBuf>,
}

impl InterfaceConfig {
    /// Whether its hardware address is the one that the interface at this place of the file has without a `mac`.
    pub fn has_default_mac(&self, index: usize) -> bool {
        self.mac == check::default_mac(index)
    }
}

impl HostConfig {
    /// The routes as the stack takes them.
    pub fn route_specs(&self) -> Vec<RouteSpec> {
        let route = |route: &RouteConfig| RouteSpec {
            via: route.via.map(Addr::from),
            ifindex: route.dev.as_deref().and_then(|dev| self.index_of(dev)),
            metric: route.metric,
            kind: route.kind,
            src: route.src.map(Addr::from),
            onlink: route.onlink,
            ..RouteSpec::new(Addr::from(route.to.addr()), route.to.prefix())
        };
        self.routes.iter().map(route).collect()
    }

    /// The neighbours as the stack takes them.
    pub fn neighbour_specs(&self) -> Vec<NeighSpec> {
        let spec = |neighbour: &NeighbourConfig| match neighbour.kind {
            NeighbourKind::Known(mac, state) => Some(NeighSpec {
                ifindex: self.index_of(&neighbour.dev)?,
                addr: neighbour.address.into(),
                mac: Some(mac),
                state,
            }),
            NeighbourKind::Proxy => None,
        };
        self.neighbours.iter().filter_map(spec).collect()
    }

    /// The hosts that ARP requests are answered for, with the interfaces that are asked by, as the stack takes them.
    pub fn proxies(&self) -> Vec<(u16, Addr)> {
        let proxies = self.neighbours.iter().filter(|neighbour| neighbour.kind == NeighbourKind::Proxy);
        proxies.filter_map(|proxy| Some((self.index_of(&proxy.dev)?, proxy.address.into()))).collect()
    }

    /// The index of an interface. The configuration was checked: whatever it names is one of the interfaces, of which there
    /// are few.
    fn index_of(&self, wanted: &str) -> Option<u16> {
        let interfaces = self.interfaces.iter().map(|interface| &interface.name);
        let mut names = interfaces.chain(self.vlans.iter().map(|vlan| &vlan.name));
        names.position(|name| name == wanted).map(|index| index as u16 + 1)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is above 1 MiB or not UTF-8, is no TOML, or says something that cannot be: everything
    /// that was found wrong, in the order of the file.
    pub fn load(path: &Path) -> Result<HostConfig, ConfigErrors> {
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| ConfigErrors::of_file(&name, format!("cannot be read: {error}"));
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => HostConfig::parse(&name, text),
            Err(_) if bytes.len() > MAX_BYTES => Err(ConfigErrors::too_large(&name)),
            Err(error) => Err(ConfigErrors::not_utf8(&name, &bytes, error.valid_up_to())),
        }
    }

    /// Reads the text of a file; `name` is how errors call it.
    ///
    /// # Errors
    /// As [`HostConfig::load`].
    ///
    /// ```
    /// use rxpath::config::HostConfig;
    ///
    /// let text = r#"
    ///     [[interface]]
    ///     name = "eth0"
    ///     driver = "tap"
    ///     adress = ["10.9.0.1/24"]
    /// "#;
    /// let errors = HostConfig::parse("host.toml", text).unwrap_err();
    /// let want = r#"host.toml:5:5: unknown key "adress" in [[interface]]; did you mean "addresses"?"#;
    /// assert_eq!(errors.to_string(), want);
    /// ```
    pub fn parse(name: &str, text: &str) -> Result<HostConfig, ConfigErrors> {
        if text.len() > MAX_BYTES {
            return Err(ConfigErrors::too_large(name));
        }
        let document = read::document(text).and_then(check::host);
        document.map_err(|findings| ConfigErrors::from_findings(name, text, findings))
    }
}
