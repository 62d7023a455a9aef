//! The table of sections and keys: the reader obeys it, the reference prints it.

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An interface's name.
    Name,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A hardware address.
    Mac,
    /// A list of addresses with prefix lengths.
    Cidrs,
    /// A list of priorities, each with the one that it becomes.
    Priorities { from: u8, to: u8 },
    /// `default`, or a network.
    Destination,
    /// An address.
    Address,
    /// An address and a port.
    Listen,
    /// A whole number.
    Number { least: u64, most: u64 },
    /// A power of two.
    PowerOfTwo { least: u64, most: u64 },
    /// `true` or `false`.
    Switch,
    /// A number from 0 to 1.
    Share,
    /// Bits per second.
    Rate,
    /// Which packets.
    Selector,
    /// The path of a socket.
    SocketPath,
    /// A table with keys of its own.
    Table(&'static Section),
}

impl Form {
    /// What the key takes, in words that follow "takes".
    pub(super) fn describe(self) -> String {
        match self {
            Form::Name => "a name of 1 to 15 letters, digits, `.`, `-` or `_`".to_owned(),
            Form::Choice(words) => match words.split_last() {
                Some((last, [])) => format!("{last:?}"),
                Some((last, before)) => {
                    format!("{} or {last:?}", before.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", "))
                }
                None => "nothing".to_owned(),
            },
            Form::Mac => "a unicast hardware address of six bytes in hex".to_owned(),
            Form::Cidrs => "a list of IPv4 addresses with prefix lengths".to_owned(),
            Form::Priorities { from, to } => {
                format!("a list of priorities within 0 to {from}, each with the one within 0 to {to} that it becomes")
            }
            Form::Destination => "\"default\" or an IPv4 network".to_owned(),
            Form::Address => "an IPv4 address".to_owned(),
            Form::Listen => "an IPv4 address and a port".to_owned(),
            Form::Number { least, most: u64::MAX } => format!("a whole number from {least}"),
            Form::Number { least, most } => format!("a whole number within {least} to {most}"),
            Form::PowerOfTwo { least, most } => format!("a power of two within {least} to {most}"),
            Form::Switch => "true or false".to_owned(),
            Form::Share => "a number within 0.0 to 1.0".to_owned(),
            Form::Rate => "bits per second, as a number or with bit, kbit, mbit or gbit".to_owned(),
            Form::Selector => "\"all\", \"off\", \"1/100\" (one in so many) or a filter".to_owned(),
            Form::SocketPath => "a path of 1 to 107 bytes".to_owned(),
            Form::Table(section) => format!("a table of {}", section.key_names().join(", ")),
        }
    }
}

/// What holds where a key is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// The key must be given.
    Required,
    /// As if this were given (in TOML).
    Is(&'static str),
    /// As these words say; the reader is told that nothing was given.
    Means(&'static str),
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub name: &'static str,
    pub form: Form,
    pub absent: Absent,
    /// A value that would do, in TOML, other than the default.
    pub example: &'static str,
    pub what: &'static str,
}

/// A section, or a table within one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// As the file's header has it.
    pub header: &'static str,
    /// Without brackets.
    pub name: &'static str,
    pub keys: &'static [Key],
    pub what: &'static str,
}

impl Section {
    /// Whether it may be given several times.
    pub(super) fn is_many(&self) -> bool {
        self.header.starts_with("[[")
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub(super) fn key_names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }
}

/// The sections in the order of the reference. `[sysctl]` has Linux's names for keys, from the core's own table.
pub(super) static SECTIONS: [&Section; 8] = [&INTERFACE, &VLAN, &ROUTE, &NEIGHBOUR, &SYSCTL, &SERVICE, &LIFE, &STACK];

const fn key(name: &'static str, form: Form, absent: Absent, example: &'static str, what: &'static str) -> Key {
    Key { name, form, absent, example, what }
}

pub(super) static INTERFACE: Section = Section {
    header: "[[interface]]",
    name: "interface",
    what: "An interface: a device with its addresses. At least one is needed.",
    keys: &[
        key("name", Form::Name, Absent::Required, r#""eth0""#, "Its name; of a TAP, the kernel's name for it too."),
        key(
            "driver",
            Form::Choice(&["wire", "tap", "pcap"]),
            Absent::Required,
            r#""tap""#,
            "What moves its frames: `wire` is a cable in memory, `tap` a TAP of the kernel, `pcap` a capture. `rxpath replay` puts a capture in the place of any.",
        ),
        key(
            "mac",
            Form::Mac,
            Absent::Means("`02:72:78:00:00:01` for the first interface, `…:02` for the second, and so on"),
            r#""02:00:00:00:aa:01""#,
            "Its hardware address.",
        ),
        key(
            "addresses",
            Form::Cidrs,
            Absent::Is("[]"),
            r#"["10.9.0.1/24"]"#,
            "Its addresses. Each brings a route to its network.",
        ),
        key(
            "mtu",
            Form::Number { least: 68, most: 65_535 },
            Absent::Is("1500"),
            "9000",
            "Largest IP packet, in bytes.",
        ),
        key(
            "queues",
            Form::Number { least: 1, most: 64 },
            Absent::Is("1"),
            "2",
            "Receive queues, each with a ring and an interrupt of its own.",
        ),
        key(
            "rx_usecs",
            Form::Number { least: 0, most: 1_000_000 },
            Absent::Is("0"),
            "50",
            "Interrupt moderation (`ethtool -C`): microseconds from the first unreported frame to the interrupt; 0 waits for none.",
        ),
        key(
            "rx_frames",
            Form::Number { least: 0, most: 4095 },
            Absent::Is("0"),
            "32",
            "Interrupt moderation: frames that raise the interrupt before `rx_usecs` have passed; 0 for no such number. Less than `ring`.",
        ),
        key("gro", Form::Switch, Absent::Is("true"), "false", "Whether GRO merges segments of a flow."),
        key(
            "promisc",
            Form::Switch,
            Absent::Is("false"),
            "true",
            "Whether a device that filters addresses lets in frames to other stations, too (`ip link set promisc on`). They are still dropped as `OTHERHOST`, behind the packet sockets.",
        ),
        key(
            "ring",
            Form::PowerOfTwo { least: 256, most: 4096 },
            Absent::Is("512"),
            "1024",
            "Descriptors of each receive ring.",
        ),
        key(
            "faults",
            Form::Table(&FAULTS),
            Absent::Is("{}"),
            "{ loss = 0.02, reorder = 0.02 }",
            "Faults put on purpose between the device and the stack, drawn from the seed of `[stack]`.",
        ),
    ],
};

pub(super) static FAULTS: Section = Section {
    header: "[interface.faults]",
    name: "faults",
    what: "Faults of an interface, in both directions.",
    keys: &[
        key("loss", Form::Share, Absent::Is("0.0"), "0.02", "Share of frames lost."),
        key("duplicate", Form::Share, Absent::Is("0.0"), "0.01", "Share of frames that come twice."),
        key("reorder", Form::Share, Absent::Is("0.0"), "0.02", "Share of frames that come after a later one."),
        key("corrupt", Form::Share, Absent::Is("0.0"), "0.005", "Share of frames with a flipped bit."),
        key(
            "delay_ms",
            Form::Number { least: 0, most: 60_000 },
            Absent::Is("0"),
            "20",
            "Delay of every frame, in milliseconds.",
        ),
        key("rate", Form::Rate, Absent::Is("0"), r#""10mbit""#, "Bits per second that pass; 0 sets no limit."),
    ],
};

pub(super) static VLAN: Section = Section {
    header: "[[vlan]]",
    name: "vlan",
    what: "A VLAN device: an interface whose frames go through another one, with a tag (`ip link add link … type vlan`).",
    keys: &[
        key("name", Form::Name, Absent::Required, r#""eth0.5""#, "Its name."),
        key(
            "link",
            Form::Name,
            Absent::Required,
            r#""eth0""#,
            "The interface that its frames go through: one with a driver, or a VLAN device that stands before this one in the file and has none itself below it.",
        ),
        key("id", Form::Number { least: 0, most: 4094 }, Absent::Required, "5", "The VLAN."),
        key(
            "protocol",
            Form::Choice(&["802.1Q", "802.1ad"]),
            Absent::Is(r#""802.1Q""#),
            r#""802.1ad""#,
            "The tag: EtherType 0x8100, or 0x88a8 of service providers.",
        ),
        key("mac", Form::Mac, Absent::Means("that of `link`"), r#""02:00:00:00:aa:05""#, "Its hardware address."),
        key(
            "addresses",
            Form::Cidrs,
            Absent::Is("[]"),
            r#"["10.9.5.1/24"]"#,
            "Its addresses. Each brings a route to its network.",
        ),
        key(
            "mtu",
            Form::Number { least: 68, most: 65_535 },
            Absent::Means("that of `link`"),
            "1400",
            "Largest IP packet, in bytes: at most that of `link`.",
        ),
        key(
            "ingress_qos_map",
            Form::Priorities { from: 7, to: 15 },
            Absent::Is("[]"),
            r#"["5:6"]"#,
            "Which priority a packet has, by that of the tag that it came with (`ingress-qos-map` of ip-link): 0 where nothing is said. Netfilter hooks and deciders see it; a packet that is forwarded has that of its type of service.",
        ),
        key(
            "egress_qos_map",
            Form::Priorities { from: 15, to: 7 },
            Absent::Is("[]"),
            r#"["2:1", "6:5"]"#,
            "Which priority goes into the tag, by that of the packet (`egress-qos-map` of ip-link): 0 where nothing is said. A packet has its priority from its type of service: 2 for bulk (0x08), 6 for interactive (0x10), 4 for both, else 0.",
        ),
    ],
};

pub(super) static ROUTE: Section = Section {
    header: "[[route]]",
    name: "route",
    what: "A route besides those that addresses bring. One of `via` and `dev` is needed, but for the types `blackhole`, `unreachable` and `prohibit`, which take neither.",
    keys: &[
        key("to", Form::Destination, Absent::Required, r#""default""#, "Destinations."),
        key(
            "via",
            Form::Address,
            Absent::Means("destinations are on the link of `dev`"),
            r#""10.9.0.254""#,
            "The gateway, on a network of one of the interfaces, unless `onlink` says otherwise.",
        ),
        key(
            "dev",
            Form::Name,
            Absent::Means("the interface on whose network `via` is"),
            r#""eth0""#,
            "The interface that packets leave by.",
        ),
        key(
            "metric",
            Form::Number { least: 0, most: u32::MAX as u64 },
            Absent::Is("0"),
            "100",
            "Among routes to the same destinations the one with the lowest metric is used.",
        ),
        key(
            "type",
            Form::Choice(&["unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit"]),
            Absent::Is(r#""unicast""#),
            r#""local""#,
            "What becomes of the packets: they go out, are for this host (as its own, or as a broadcast), vanish, or are refused.",
        ),
        key(
            "src",
            Form::Address,
            Absent::Means("chosen by the network of the next hop"),
            r#""10.9.0.1""#,
            "The source address of what this host sends by the route: one of its own.",
        ),
        key(
            "onlink",
            Form::Switch,
            Absent::Is("false"),
            "true",
            "The gateway is on the link of `dev`, although no network of it says so.",
        ),
    ],
};

pub(super) static NEIGHBOUR: Section = Section {
    header: "[[neighbour]]",
    name: "neighbour",
    what: "A neighbour that is known from the beginning (`ip neigh add`), or a host that ARP requests are answered for (`ip neigh add proxy`).",
    keys: &[
        key("address", Form::Address, Absent::Required, r#""10.9.0.7""#, "Its address."),
        key(
            "lladdr",
            Form::Mac,
            Absent::Means("none; only a proxy has none"),
            r#""02:00:00:00:aa:07""#,
            "Its hardware address.",
        ),
        key(
            "dev",
            Form::Name,
            Absent::Means("the interface on whose network the address is"),
            r#""eth0""#,
            "The interface that it is behind; of a proxy, the one that is asked by.",
        ),
        key(
            "state",
            Form::Choice(&["permanent", "noarp", "reachable", "stale"]),
            Absent::Is(r#""permanent""#),
            r#""stale""#,
            "`permanent` and `noarp` stay as they are whatever is heard, the latter until it is collected; `reachable` and `stale` are as if they had been heard of.",
        ),
        key(
            "proxy",
            Form::Switch,
            Absent::Is("false"),
            "true",
            "ARP requests for the address that come by `dev` are answered with the interface's own hardware address, as long as packets for it are sent on by another.",
        ),
    ],
};

pub(super) static SYSCTL: Section = Section {
    header: "[sysctl]",
    name: "sysctl",
    what: "Tunables, by Linux's names and in Linux's forms. A name that is not in this list is an error: it would do nothing.",
    keys: &[],
};

pub(super) static SERVICE: Section = Section {
    header: "[[service]]",
    name: "service",
    what: "A service that `rxpath serve` runs on the stack. Over UDP each datagram is answered for itself.",
    keys: &[
        key(
            "listen",
            Form::Listen,
            Absent::Required,
            r#""0.0.0.0:80""#,
            "Address and port; `0.0.0.0` is every address of the host.",
        ),
        key(
            "app",
            Form::Choice(&["http", "echo", "discard", "chargen"]),
            Absent::Required,
            r#""echo""#,
            "What answers: an HTTP page about the stack, or the services of RFC 862, 863 and 864.",
        ),
        key(
            "proto",
            Form::Choice(&["tcp", "udp"]),
            Absent::Is(r#""tcp""#),
            r#""udp""#,
            "Over which protocol; `http` is over TCP alone.",
        ),
    ],
};

pub(super) static LIFE: Section = Section {
    header: "[life]",
    name: "life",
    what: "Which packets' lives are recorded.",
    keys: &[key(
        "select",
        Form::Selector,
        Absent::Is(r#""off""#),
        r#""src 10.9.0.7 and tcp port 80 and flags syn""#,
        "All, none, one in so many, or those that a filter on addresses, ports, protocol and flags matches.",
    )],
};

pub(super) static STACK: Section = Section {
    header: "[stack]",
    name: "stack",
    what: "The stack itself.",
    keys: &[
        key("cpus", Form::Number { least: 1, most: 64 }, Absent::Is("1"), "2", "Softirq contexts."),
        key(
            "seed",
            Form::Number { least: 0, most: u64::MAX },
            Absent::Means("taken from the system's randomness"),
            "7",
            "Seed of hash keys, initial sequence numbers and faults: the same seed and the same frames give the same run.",
        ),
        key(
            "control",
            Form::SocketPath,
            Absent::Means("no control socket"),
            r#""/run/rxpath.sock""#,
            "Path of the socket over which `rxpath life`, `ss` and the other views look into the running stack.",
        ),
    ],
};
