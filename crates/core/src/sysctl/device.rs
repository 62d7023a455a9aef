//! The tunables that each interface has for itself: `net.ipv4.conf.NAME.*`, with what is set for all of them, and
//! `net.ipv4.neigh.NAME.*`, for which there is no `all`.
//!
//! `default` is what interfaces begin with, and what holds for each as long as nothing else is set for it by its name.
//! What is set for `all` is put together with an interface's own value as [`Combine`] says, tunable by tunable.
//!
//! Mirrors `ipv4_devconf`, `IN_DEV_CONF_GET`, `IN_DEV_ORCONF`, `IN_DEV_ANDCONF`, `IN_DEV_MAXCONF`, `inet_forward_change`.

use std::collections::BTreeMap;

use super::{INT_MAX, Knob, Value, same_name};

/// How the value of `all` and that of an interface make what holds on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// On if either is.
    Or,
    /// The larger of the two.
    Max,
    /// The interface's; that of `all` has no effect.
    Own,
    /// The interface's. What is written for `all` is written for `default` and every interface.
    Spread,
    /// On if either is; where the interface forwards, if both are.
    OrUnlessForwarding,
}

impl Combine {
    /// In words, as references put it.
    pub fn describe(self) -> &'static str {
        match self {
            Combine::Or => "on if `all` or the interface is",
            Combine::Max => "the larger of `all` and the interface",
            Combine::Own => "the interface's",
            Combine::Spread => "the interface's; `all` sets every interface",
            Combine::OrUnlessForwarding => "on if `all` or the interface is; both, where it forwards",
        }
    }
}

/// What is known of a tunable of interfaces.
#[derive(Clone, Copy, Debug)]
pub struct DeviceKnob {
    /// Name, bounds and meaning; the name is the last part of the whole.
    pub knob: Knob,
    /// How `all` comes in.
    pub combine: Combine,
}

/// A set of tunables of one interface.
pub(super) trait Tunables: Copy + PartialEq + 'static {
    /// What stands in front of the interface's name, with the dot.
    const PREFIX: &'static str;
    /// What Linux begins with.
    const DEFAULT: Self;
    const KNOBS: &'static [DeviceKnob];
    /// Sets the tunable of this name; false if the number does not fit its type.
    fn store(&mut self, name: &str, number: u32) -> bool;
    fn number(&self, name: &str) -> u32;
}

/// The row of a tunable by the last part of its name.
pub(super) fn device_knob<T: Tunables>(last: &str) -> Option<&'static DeviceKnob> {
    T::KNOBS.iter().find(|known| known.knob.name == last)
}

/// A tunable of one number.
trait Single: Copy {
    fn number(self) -> u32;
}

impl Single for bool {
    fn number(self) -> u32 {
        u32::from(self)
    }
}

impl Single for u8 {
    fn number(self) -> u32 {
        u32::from(self)
    }
}

impl Single for u32 {
    fn number(self) -> u32 {
        self
    }
}

/// Makes the struct of one interface's tunables and its table of knobs: field, type, default, bounds, unit, how `all` comes
/// in, meaning.
macro_rules! device_sysctls {
    ($(#[$doc:meta])* $type:ident, $knobs:ident, $prefix:literal;
     $($field:ident: $ftype:ty = $default:expr, $least:literal ..= $most:expr, $unit:literal, $combine:ident, $what:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $type {
            $(
                #[doc = concat!("`", stringify!($field), "`: ", $what, " Unit: ", $unit, "; ", stringify!($least), " to ", stringify!($most), ".")]
                pub $field: $ftype,
            )*
        }

        #[doc = concat!("All of `", $prefix, "NAME.*`, in the order of the reference.")]
        pub const $knobs: &[DeviceKnob] = &[$(
            DeviceKnob {
                knob: Knob {
                    name: stringify!($field),
                    form: <$ftype as Value>::FORM,
                    least: $least,
                    most: $most as i64,
                    unit: $unit,
                    what: $what,
                },
                combine: Combine::$combine,
            },
        )*];

        impl $type {
            /// What Linux begins with.
            pub const DEFAULT: $type = $type { $($field: $default,)* };
        }

        impl Tunables for $type {
            const PREFIX: &'static str = $prefix;
            const DEFAULT: $type = $type::DEFAULT;
            const KNOBS: &'static [DeviceKnob] = $knobs;

            fn store(&mut self, name: &str, number: u32) -> bool {
                match name {
                    $(stringify!($field) => <$ftype as Value>::from_numbers(&[number]).map(|v| self.$field = v).is_some(),)*
                    _ => false,
                }
            }

            fn number(&self, name: &str) -> u32 {
                match name {
                    $(stringify!($field) => Single::number(self.$field),)*
                    _ => 0,
                }
            }
        }

        impl Default for $type {
            fn default() -> $type {
                $type::DEFAULT
            }
        }
    };
}

device_sysctls! {
    /// `net.ipv4.conf` of one interface: as it is set, or as it holds once `all` has come in.
    DevConf, CONF_KNOBS, "net.ipv4.conf.";
    forwarding: bool = false, 0 ..= 1, "switch", Spread,
        "Sends packets that come by the interface for other hosts on, as a router.";
    rp_filter: u8 = 0, 0 ..= 2, "mode", Max,
        "Whether the way back to a packet's source must lead by its interface (RFC 3704): 0 no, 1 by the very interface, 2 by any.";
    accept_local: bool = false, 0 ..= 1, "switch", Or,
        "Takes packets from addresses of this host.";
    route_localnet: bool = false, 0 ..= 1, "switch", Or,
        "Takes packets from and to 127/8 off the wire.";
    drop_unicast_in_l2_multicast: bool = false, 0 ..= 1, "switch", Or,
        "Drops unicast packets in broadcast or multicast frames.";
    accept_redirects: bool = true, 0 ..= 1, "switch", OrUnlessForwarding,
        "Takes a gateway's word for a better one. To make a host a router (`ip_forward`) turns it off for `all`, and back on.";
    secure_redirects: bool = true, 0 ..= 1, "switch", Or,
        "Takes such words for known gateways only; has effect where `shared_media` is off.";
    shared_media: bool = true, 0 ..= 1, "switch", Or,
        "Several networks are on the link, whose hosts reach one another: redirects between them are sent and taken (RFC 1620).";
    send_redirects: bool = true, 0 ..= 1, "switch", Or,
        "Tells a sender of its own link of the better way, when its packet is sent on over that link.";
    arp_ignore: u8 = 0, 0 ..= 8, "mode", Max,
        "ARP requests that are answered: 0 for any address of this host, 1 for those of the interface, 2 for those of the interface from hosts of their network, 3 for those of any interface, 8 none.";
    arp_accept: u8 = 0, 0 ..= 2, "mode", Max,
        "Unknown hosts that nobody asked for are entered as neighbours when they tell of themselves: 0 no, 1 yes, 2 if they are of a network of the interface.";
    drop_gratuitous_arp: bool = false, 0 ..= 1, "switch", Or,
        "Drops ARP packets of hosts about themselves.";
    arp_announce: u8 = 0, 0 ..= 2, "mode", Max,
        "In whose name neighbours are asked for: 0 that of the packet that waits, 1 the same if it and the neighbour are of one network of the interface, 2 always that of the interface.";
    arp_filter: bool = false, 0 ..= 1, "switch", Or,
        "Answers ARP requests only on the interface by which packets to the asker leave.";
    proxy_arp: bool = false, 0 ..= 1, "switch", Or,
        "Answers ARP requests for hosts that packets are sent on to by another interface. The interface must forward.";
    proxy_arp_pvlan: bool = false, 0 ..= 1, "switch", Or,
        "Answers ARP requests for hosts behind the very interface, as hosts of a private VLAN need (RFC 3069). The interface must forward.";
    medium_id: u32 = 0, 0 ..= INT_MAX, "number", Own,
        "Interfaces with the same number are on one link, and no proxy for one another; 0 is on a link of its own.";
}

device_sysctls! {
    /// `net.ipv4.neigh` of one interface.
    NeighParms, NEIGH_KNOBS, "net.ipv4.neigh.";
    base_reachable_time_ms: u32 = 30_000, 0 ..= INT_MAX, "milliseconds", Own,
        "How long a neighbour is known to be reachable after it proved to be: the actual time is drawn from half to one and a half times this.";
    delay_first_probe_time: u32 = 5, 0 ..= 2_147_483, "seconds", Own,
        "How long a stale neighbour that is used may be confirmed by itself before it is asked.";
    retrans_time_ms: u32 = 1000, 0 ..= INT_MAX, "milliseconds", Own,
        "Time between two solicitations; 10 at the least.";
    ucast_solicit: u32 = 3, 0 ..= INT_MAX, "solicitations", Own,
        "How often a neighbour alone is asked whether it is still there.";
    app_solicit: u32 = 0, 0 ..= INT_MAX, "solicitations", Own,
        "How often a daemon is asked after that, and before all are. There is none: the time passes without a packet.";
    mcast_solicit: u32 = 3, 0 ..= INT_MAX, "solicitations", Own,
        "How often all on the link are asked for a neighbour that is not known.";
    mcast_resolicit: u32 = 0, 0 ..= INT_MAX, "solicitations", Own,
        "How often all on the link are asked for one that was known and does not answer by itself.";
    locktime: u32 = 100, 0 ..= INT_MAX, "hundredths of a second", Own,
        "How long a hardware address stands against another, unless asked for or gratuitous.";
    gc_stale_time: u32 = 60, 0 ..= 2_147_483, "seconds", Own,
        "Age at which neighbours that are not used are collected.";
    unres_qlen_bytes: u32 = 212_992, 0 ..= INT_MAX, "bytes", Own,
        "Packets (by truesize) that wait for one unresolved neighbour.";
    proxy_delay: u32 = 80, 0 ..= INT_MAX, "hundredths of a second", Own,
        "Longest time before a broadcast request is answered for another host; the actual one is random.";
    proxy_qlen: u32 = 64, 0 ..= INT_MAX, "requests", Own,
        "Requests that may wait to be answered for other hosts.";
}

/// Older names of tunables of neighbours, with the number of units that one of theirs is.
pub(super) const SCALED: &[(&str, &str, u32)] = &[
    ("base_reachable_time", "base_reachable_time_ms", 1_000),
    ("retrans_time", "retrans_time_ms", 10),
    // Packets, each charged as a full Ethernet frame is.
    ("unres_qlen", "unres_qlen_bytes", 2_090),
];

/// The tunables of one kind of all interfaces: what they begin with, and what is set for some by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerDevice<T> {
    /// `default`.
    pub default: T,
    /// What is set by name: interface, tunable, value.
    named: BTreeMap<String, BTreeMap<&'static str, u32>>,
}

impl<T: Tunables> Default for PerDevice<T> {
    fn default() -> PerDevice<T> {
        PerDevice { default: T::DEFAULT, named: BTreeMap::new() }
    }
}

#[allow(private_bounds)]
impl<T: Tunables> PerDevice<T> {
    /// What is set for an interface: the default where nothing is by its name.
    pub fn of(&self, interface: &str) -> T {
        let mut own = self.default;
        for (name, number) in self.named.get(interface).into_iter().flatten() {
            own.store(name, *number);
        }
        own
    }

    /// The interfaces that something is set for by their names.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Sets what is set for `default` or for an interface; false if the number does not fit the tunable's type.
    pub(super) fn set(&mut self, scope: &str, knob: &'static Knob, number: u32) -> bool {
        let mut tried = self.default;
        if !tried.store(knob.name, number) {
            return false;
        }
        match scope {
            "default" => self.default = tried,
            _ => drop(self.named.entry(scope.to_owned()).or_default().insert(knob.name, number)),
        }
        true
    }

    pub(super) fn show(&self, scope: &str, last: &str) -> u32 {
        if scope == "default" { self.default.number(last) } else { self.of(scope).number(last) }
    }
}

/// `net.ipv4.conf` of all interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// `all`. Its `forwarding` is `net.ipv4.ip_forward`.
    pub all: DevConf,
    /// `default` and those by name.
    pub devices: PerDevice<DevConf>,
}

impl Conf {
    /// What holds on an interface: its own settings and those of `all`.
    pub fn effective(&self, interface: &str) -> DevConf {
        let own = self.devices.of(interface);
        let mut effective = own;
        for DeviceKnob { knob, combine } in CONF_KNOBS {
            let (all, own_number) = (self.all.number(knob.name), own.number(knob.name));
            let number = match combine {
                Combine::Own | Combine::Spread => own_number,
                Combine::Or => all | own_number,
                Combine::Max => all.max(own_number),
                Combine::OrUnlessForwarding if own.forwarding => all & own_number,
                Combine::OrUnlessForwarding => all | own_number,
            };
            // Both were within the tunable's bounds, and so is either of them.
            effective.store(knob.name, number);
        }
        effective
    }

    pub(super) fn set(&mut self, scope: &str, knob: &'static DeviceKnob, number: u32) -> bool {
        match (scope, knob.combine) {
            ("all", Combine::Spread) => {
                self.set_forwarding(number != 0);
                true
            }
            ("all", _) => self.all.store(knob.knob.name, number),
            _ => self.devices.set(scope, &knob.knob, number),
        }
    }

    /// `inet_forward_change`: this host becomes a router, or ceases to be one. Nothing happens if it is already what it is
    /// to be, whatever its interfaces are.
    pub fn set_forwarding(&mut self, on: bool) {
        if self.all.forwarding == on {
            return;
        }
        self.all.forwarding = on;
        self.all.accept_redirects = !on;
        self.devices.default.forwarding = on;
        for own in self.devices.named.values_mut() {
            own.remove("forwarding");
        }
    }

    pub(super) fn show(&self, scope: &str, last: &str) -> u32 {
        if scope == "all" { self.all.number(last) } else { self.devices.show(scope, last) }
    }
}

/// The interface (or `all`, or `default`) and the last part of a name of this kind, with dots or slashes. In an interface's
/// own name a dot is written as such, or as a slash where the separators are dots (sysctl(8)).
pub(super) fn split<T: Tunables>(name: &str) -> Option<(String, &str)> {
    let (head, rest) = (name.get(..T::PREFIX.len())?, name.get(T::PREFIX.len()..)?);
    let (scope, last) = rest.rsplit_once(['.', '/'])?;
    (same_name(T::PREFIX, head) && !scope.is_empty()).then(|| (scope.replace('/', "."), last))
}
