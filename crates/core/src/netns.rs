//! The network namespace's configuration: interfaces, addresses, routes, hooks, sysctls, protocol tables.
//!
//! A snapshot, loaded once per softirq run and replaced whole on change, so that no packet sees half of a change.

use std::sync::Arc;

use rxpath_mem::Skb;
use rxpath_wire::{Addr, FlowHasher, MacAddr};

use crate::cx::{Cx, End};
use crate::demux::{EgressMap, IngressMap, Ptypes, Vlan, Vlans};
use crate::icmp::RateLimits;
use crate::ip::InetProtos;
use crate::netfilter::Hooks;
use crate::nic::{Features, Promiscuity, RxMode, TruesizeModel};
use crate::raw::RawSocks;
use crate::route::{Exceptions, Fib, Groups};
use crate::sysctl::{DevConf, NeighParms, Sysctls};
use crate::tcp::{ChallengeAcks, FastOpenPeers};
use crate::xdp::{Attached, Door, Program};

/// A handler registered from outside for an EtherType or an IP protocol.
pub type ProtoHandler = fn(&mut Cx, Skb) -> End;

/// An address of an interface with its prefix length (in IPv4 bits for IPv4 addresses).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfAddr {
    /// The address.
    pub addr: Addr,
    /// Prefix length, 0 to 32 (IPv4) or 128 (IPv6).
    pub prefix: u8,
}

impl IfAddr {
    /// Whether an address is of the same network.
    pub fn reaches(&self, other: Addr) -> bool {
        let (Some(own), Some(other)) = (self.addr.v4(), other.v4()) else { return false };
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
        (u32::from(own) ^ u32::from(other)) & mask == 0
    }
}

/// One interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Index, from 1.
    pub ifindex: u16,
    /// Name.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddr,
    /// Largest IP packet.
    pub mtu: u16,
    /// Queues of the device; queue `q` belongs to Cpu `q` modulo their number.
    pub queues: u16,
    /// Offloads of the device.
    pub features: Features,
    /// Memory charge of its frames.
    pub truesize: TruesizeModel,
    /// Whether GRO merges on it.
    pub gro: bool,
    /// Programs that see its frames first. Set by [`NetConfig::attach_xdp`].
    pub xdp: Attached,
    /// Its addresses.
    pub addresses: Vec<IfAddr>,
    /// Who wants more of its frames than are addressed to this host. Changed by [`NetConfig::change_promiscuity`].
    pub promiscuity: Promiscuity,
    /// Of a VLAN device: which frames of which interface it has.
    pub vlan: Option<Vlan>,
    /// Of a VLAN device: which priority it writes into its tags.
    pub egress: EgressMap,
    /// Of a VLAN device: which priority those of its tags are.
    pub ingress: IngressMap,
    /// The tunables that hold on it. Worked out by [`NetConfig::apply_sysctls`].
    pub conf: DevConf,
    /// The same of its neighbours.
    pub neigh: NeighParms,
}

impl Interface {
    /// There was a VLAN device of this index, and it is gone.
    pub fn is_gone(&self) -> bool {
        self.name.is_empty()
    }

    /// The device is gone: nothing finds it any more.
    pub(crate) fn leave(&mut self) {
        self.name.clear();
        self.addresses.clear();
        (self.vlan, self.xdp) = (None, Attached::default());
        (self.mac, self.promiscuity) = (MacAddr::ZERO, Promiscuity::default());
    }
}

/// What happens to a segment of a connection that nobody here knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strangers {
    /// A listener judges it, or else it is reset: what the kernel does.
    #[default]
    Refuse,
    /// Unless it is a SYN it ends as `FLOW_NOT_FOLLOWED`, without an answer: where a capture is replayed, connections
    /// may be older than it.
    Leave,
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Grows with every change; what is cached from a configuration is valid only for its generation.
    pub generation: u64,
    /// Interfaces in the order of their index (the first has index 1): those with a device, then VLAN devices.
    pub interfaces: Vec<Interface>,
    /// Number of interfaces with a device.
    pub devices: u16,
    /// The VLAN devices by their tags.
    pub vlans: Vlans,
    /// Routes.
    pub fib: Fib,
    /// Netfilter hooks.
    pub hooks: Hooks,
    /// EtherType handlers.
    pub ptypes: Ptypes,
    /// IP protocol handlers.
    pub inet_protos: InetProtos,
    /// Tunables. Who changes those of interfaces calls [`NetConfig::apply_sysctls`].
    pub sysctl: Sysctls,
    /// Raw sockets.
    pub raw: RawSocks,
    /// How many ICMP messages go out: shared by all Cpus, and kept when the configuration changes.
    pub icmp_limits: Arc<RateLimits>,
    /// How many challenge ACKs are left: shared by all Cpus, and kept when the configuration changes.
    pub challenge_acks: Arc<ChallengeAcks>,
    /// Multicast groups: shared by all Cpus, and kept when the configuration changes.
    pub groups: Arc<Groups>,
    /// What ICMP told of ways: shared by all Cpus, and kept when the configuration changes.
    pub exceptions: Arc<Exceptions>,
    /// What is known of peers that Fast Open was tried with: shared by all Cpus, and kept when the configuration changes.
    pub fast_open: Arc<FastOpenPeers>,
    /// The keyed hash of flows: decides owners and buckets.
    pub hasher: FlowHasher,
    /// The key of initial sequence numbers and timestamp offsets.
    pub secret: FlowHasher,
    /// Number of Cpus.
    pub cpus: u16,
    /// What happens to segments of unknown connections.
    pub strangers: Strangers,
    /// Some interface has a program in the generic door.
    pub xdp_generic: bool,
    /// Some interface asks for the way back to a packet's source (`rp_filter`).
    pub rp_filter: bool,
}

/// What holds where there is no interface.
static NO_INTERFACE: (DevConf, NeighParms) = (DevConf::DEFAULT, NeighParms::DEFAULT);

impl NetConfig {
    /// Works out anew what holds on each interface.
    pub fn apply_sysctls(&mut self) {
        for interface in &mut self.interfaces {
            interface.conf = self.sysctl.conf.effective(&interface.name);
            interface.neigh = self.sysctl.neigh.of(&interface.name);
        }
        self.rp_filter = self.interfaces.iter().any(|interface| interface.conf.rp_filter != 0);
    }

    /// The tunables that hold on an interface (`IN_DEV_CONF_GET` and its like).
    #[inline]
    pub fn conf(&self, ifindex: u16) -> &DevConf {
        self.interface(ifindex).map_or(&NO_INTERFACE.0, |interface| &interface.conf)
    }

    /// The tunables of an interface's neighbours (`NEIGH_VAR`).
    #[inline]
    pub fn neigh(&self, ifindex: u16) -> &NeighParms {
        self.interface(ifindex).map_or(&NO_INTERFACE.1, |interface| &interface.neigh)
    }

    /// Puts a program in a door of an interface, or takes away the one that is there (`ip link set dev … xdp`). False if
    /// there is no such interface, or it is a VLAN device, which has no driver with a native door.
    pub fn attach_xdp(&mut self, ifindex: u16, door: Door, program: Option<Program>) -> bool {
        let Some(interface) = self.interfaces.get_mut(usize::from(ifindex).wrapping_sub(1)) else { return false };
        if door == Door::Native && interface.vlan.is_some() {
            return false;
        }
        interface.xdp.set(door, program);
        self.xdp_generic = self.interfaces.iter().any(|interface| interface.xdp.generic.is_some());
        true
    }

    /// The interface with this index.
    #[inline]
    pub fn interface(&self, ifindex: u16) -> Option<&Interface> {
        self.interfaces.get(usize::from(ifindex).wrapping_sub(1))
    }

    /// One more, or one less, wants all frames of an interface (`dev_set_promiscuity`). False if there is no such interface.
    pub fn change_promiscuity(&mut self, ifindex: u16, more: bool) -> bool {
        let Some(interface) = self.interfaces.get_mut(usize::from(ifindex).wrapping_sub(1)) else { return false };
        let promisc = &mut interface.promiscuity.promisc;
        *promisc = if more { promisc.saturating_add(1) } else { promisc.saturating_sub(1) };
        true
    }

    /// One more, or one less, wants frames to all groups (`dev_set_allmulti`). False if there is no such interface.
    pub fn change_allmulti(&mut self, ifindex: u16, more: bool) -> bool {
        let Some(interface) = self.interfaces.get_mut(usize::from(ifindex).wrapping_sub(1)) else { return false };
        let allmulti = &mut interface.promiscuity.allmulti;
        *allmulti = if more { allmulti.saturating_add(1) } else { allmulti.saturating_sub(1) };
        true
    }

    /// What the card of an interface is to let in: for it, and for the VLAN devices on it.
    pub fn rx_mode(&self, ifindex: u16) -> RxMode {
        let mut mode = RxMode::default();
        for interface in self
            .interfaces
            .iter()
            .filter(|interface| self.root_of(interface.ifindex) == ifindex && !interface.is_gone())
        {
            mode.promisc |= interface.promiscuity.promisc > 0;
            mode.allmulti |= interface.promiscuity.allmulti > 0;
            if !mode.unicast.contains(&interface.mac) {
                mode.unicast.push(interface.mac);
            }
            mode.multicast.extend(self.groups.of(interface.ifindex).into_iter().map(MacAddr::of_group));
        }
        mode
    }

    /// The interface with a device that this one stands on: itself, unless it is a VLAN device.
    pub fn root_of(&self, ifindex: u16) -> u16 {
        let mut root = ifindex;
        // A VLAN device stands on one that was there before it, so this ends.
        while let Some(vlan) = self.interface(root).and_then(|interface| interface.vlan) {
            root = vlan.parent;
        }
        root
    }

    /// The interface that has this address.
    pub fn interface_of(&self, addr: Addr) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.addresses.iter().any(|own| own.addr == addr))
    }
}
