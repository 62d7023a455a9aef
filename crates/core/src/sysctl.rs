//! The tunables of a network namespace: Linux's sysctls, by Linux's names, in Linux's forms, with Linux 6.18's defaults.
//!
//! One table below makes the typed struct [`Sysctls`], which the rooms read, and [`KNOBS`], which parsers and
//! references read: a tunable cannot be in one and not in the other. Only tunables that change what this stack does
//! are in the table; any other name is an error, never silently accepted. Those that each interface has for itself are in
//! tables of their own, `sysctl/device.rs`; what holds on an interface is worked out when the configuration changes and
//! stands in [`crate::netns::Interface`].
//!
//! Neighbours: [`crate::netns`] holds a [`Sysctls`]; nothing is read from a file or a system here. Nothing panics:
//! names and values may come from anywhere.

mod device;
#[cfg(test)]
mod device_tests;
mod fast_open;
mod ports;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

pub use self::ports::PortSet;

pub use self::device::{CONF_KNOBS, Combine, Conf, DevConf, DeviceKnob, NEIGH_KNOBS, NeighParms, PerDevice};
use self::device::{SCALED, Tunables, device_knob, split};
pub use self::fast_open::{FastOpenKey, FastOpenKeys};

/// Three sizes: least, default and most. In the kernel's form: `"4096 131072 33554432"`.
///
/// The kernel takes the three in any order; here `min <= default <= max` always holds, so that they can be used as
/// bounds without a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triple {
    /// What a socket keeps even under memory pressure, in bytes.
    pub min: u32,
    /// What a socket starts with, in bytes.
    pub default: u32,
    /// How far autotuning may go, in bytes.
    pub max: u32,
}

/// A range of ports, both ends included. In the kernel's form: `"32768 60999"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port, 1 to 65535.
    pub low: u16,
    /// Highest port, `low` to 65535.
    pub high: u16,
}

/// The form of a tunable's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 0 or 1.
    Bool,
    /// A decimal number.
    Integer,
    /// Three decimal numbers that do not fall.
    Triple,
    /// Two decimal numbers that do not fall.
    Range,
    /// Any number of ports and ranges of ports, with commas between.
    Ports,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// One or two keys of 16 bytes: four hexadecimal numbers each, with dashes between; a comma between the keys.
    Keys,
}

impl Form {
    /// The form in words, as errors and references name it.
    pub fn describe(self) -> &'static str {
        match self {
            Form::Choice(words) if words == CongestionControl::WORDS => "cubic, reno or bbr",
            Form::Choice(_) => "one word",
            Form::Bool => "0 or 1",
            Form::Integer => "one number",
            Form::Triple => "three numbers that do not fall",
            Form::Keys => "one or two keys of four hexadecimal numbers",
            Form::Range => "two numbers that do not fall",
            Form::Ports => "ports and ranges of ports with commas between",
        }
    }

    fn numbers(self) -> usize {
        match self {
            Form::Bool | Form::Integer | Form::Choice(_) | Form::Keys | Form::Ports => 1,
            Form::Range => 2,
            Form::Triple => 3,
        }
    }
}

/// What is known of one tunable: the row of a reference.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// Linux's name, with dots.
    pub name: &'static str,
    /// Form of the value.
    pub form: Form,
    /// Least of each number.
    pub least: i64,
    /// Most of each number.
    pub most: i64,
    /// Unit of each number; empty for switches.
    pub unit: &'static str,
    /// What it does.
    pub what: &'static str,
}

/// Why a tunable was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SysctlError {
    /// No tunable has this name.
    UnknownName {
        /// The name as given.
        name: String,
        /// The known name nearest to it, if one is near.
        nearest: Option<String>,
    },
    /// The value does not fit.
    BadValue {
        /// The tunable.
        name: String,
        /// The value as given.
        value: String,
        /// What is wrong with it.
        wrong: String,
        /// A value that would do: the default.
        example: String,
    },
}

impl fmt::Display for SysctlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SysctlError::UnknownName { name, nearest: Some(nearest) } => {
                write!(f, "unknown sysctl {name:?}; did you mean {nearest:?}?")
            }
            SysctlError::UnknownName { name, nearest: None } => {
                write!(f, "unknown sysctl {name:?}; the reference lists those that this stack obeys")
            }
            SysctlError::BadValue { name, value, wrong, example } => {
                write!(f, "{name} = {value:?}: {wrong}; the default is {example:?}")
            }
        }
    }
}

impl std::error::Error for SysctlError {}

/// A type that a tunable can have.
trait Value: Sized {
    const FORM: Form;
    /// Makes the value of as many numbers as the form has, each already within the tunable's bounds.
    fn from_numbers(numbers: &[u32]) -> Option<Self>;
    fn show(&self) -> String;
}

impl Value for bool {
    const FORM: Form = Form::Bool;
    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        Some(*numbers.first()? != 0)
    }
    fn show(&self) -> String {
        u8::from(*self).to_string()
    }
}

impl Value for u8 {
    const FORM: Form = Form::Integer;
    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        u8::try_from(*numbers.first()?).ok()
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    const FORM: Form = Form::Integer;
    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        numbers.first().copied()
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// In two's complement.
impl Value for i32 {
    const FORM: Form = Form::Integer;
    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        numbers.first().map(|number| *number as i32)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Triple {
    const FORM: Form = Form::Triple;
    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        let &[min, default, max] = numbers else { return None };
        (min <= default && default <= max).then_some(Triple { min, default, max })
    }
    fn show(&self) -> String {
        format!("{} {} {}", self.min, self.default, self.max)
    }
}

impl Value for PortRange {
    const FORM: Form = Form::Range;
    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        let &[low, high] = numbers else { return None };
        let (low, high) = (u16::try_from(low).ok()?, u16::try_from(high).ok()?);
        (low <= high).then_some(PortRange { low, high })
    }
    fn show(&self) -> String {
        format!("{} {}", self.low, self.high)
    }
}

/// How the congestion window grows and how far it falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CongestionControl {
    /// CUBIC (RFC 9438) with HyStart.
    Cubic,
    /// Reno (RFC 5681).
    Reno,
    /// BBR (draft-cardwell-iccrg-bbr-congestion-control-00).
    Bbr,
}

impl CongestionControl {
    /// Linux's names, in the order of the variants.
    pub const WORDS: [&'static str; 3] = ["cubic", "reno", "bbr"];

    /// The algorithm of a name.
    pub fn from_name(name: &str) -> Option<CongestionControl> {
        [CongestionControl::Cubic, CongestionControl::Reno, CongestionControl::Bbr]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// Linux's name.
    pub fn name(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl Value for CongestionControl {
    const FORM: Form = Form::Choice(&CongestionControl::WORDS);
    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        CongestionControl::from_name(Self::WORDS.get(*numbers.first()? as usize)?)
    }
    fn show(&self) -> String {
        self.name().to_owned()
    }
}

/// Makes [`Sysctls`] and [`KNOBS`] from one table: field, type, default, name, bounds, unit, meaning.
macro_rules! sysctls {
    ($($field:ident: $type:ty = $default:expr, $name:literal, $least:literal ..= $most:expr, $unit:literal, $what:literal;)*) => {
        /// The tunables of one network namespace; every value is within its bounds as long as it came through
        /// [`Sysctls::set`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Sysctls {
            /// `net.ipv4.conf.*`.
            pub conf: Conf,
            /// `net.ipv4.neigh.*`, but for what is of the table as a whole.
            pub neigh: PerDevice<NeighParms>,
            $(
                #[doc = concat!("`", $name, "`: ", $what, " Unit: ", $unit, "; ", stringify!($least), " to ", stringify!($most), ".")]
                pub $field: $type,
            )*
        }

        impl Default for Sysctls {
            /// Linux 6.18's defaults; where the kernel derives one from the machine's memory, what it derives on
            /// 24 GiB.
            fn default() -> Self {
                Sysctls { conf: Conf::default(), neigh: PerDevice::default(), $($field: $default,)* }
            }
        }

        /// All tunables, in the order of the reference.
        pub const KNOBS: &[Knob] = &[$(
            Knob { name: $name, form: <$type as Value>::FORM, least: $least, most: $most as i64, unit: $unit, what: $what },
        )*];

        impl Sysctls {
            /// Sets the tunable at this place of [`KNOBS`]; false if the numbers do not fit its type.
            fn store(&mut self, knob: &Knob, numbers: &[u32]) -> bool {
                match knob.name {
                    $($name => <$type as Value>::from_numbers(numbers).map(|v| self.$field = v).is_some(),)*
                    _ => false,
                }
            }

            fn show_knob(&self, knob: &Knob) -> String {
                match knob.name {
                    $($name => self.$field.show(),)*
                    _ => String::new(),
                }
            }
        }
    };
}

/// The most that the kernel's `int` tunables hold.
pub(crate) const INT_MAX: u32 = i32::MAX as u32;

sysctls! {
    tcp_rmem: Triple = Triple { min: 4096, default: 131_072, max: 33_554_432 }, "net.ipv4.tcp_rmem", 1 ..= INT_MAX, "bytes",
        "Receive buffer of a TCP socket: least, default, and most by autotuning.";
    tcp_wmem: Triple = Triple { min: 4096, default: 16_384, max: 4_194_304 }, "net.ipv4.tcp_wmem", 1 ..= INT_MAX, "bytes",
        "Send buffer of a TCP socket: least, default, and most by autotuning.";
    tcp_mem: Triple = Triple { min: 287_901, default: 383_869, max: 575_802 }, "net.ipv4.tcp_mem", 0 ..= INT_MAX, "pages",
        "Memory of all TCP sockets: below the first number there is no pressure, above the second there is, above the third nobody gets more.";
    mem_pcpu_rsv: u32 = 256, "net.core.mem_pcpu_rsv", 1 ..= INT_MAX, "pages",
        "What a Cpu gathers of the memory of its sockets before it tells the account of all.";
    tcp_moderate_rcvbuf: bool = true, "net.ipv4.tcp_moderate_rcvbuf", 0 ..= 1, "switch",
        "Receive buffers grow with what the application reads in a round trip.";
    tcp_max_orphans: u32 = 131_072, "net.ipv4.tcp_max_orphans", 0 ..= INT_MAX, "sockets",
        "Connections without an application beyond which a further one is reset.";
    tcp_timestamps: u8 = 1, "net.ipv4.tcp_timestamps", 0 ..= 2, "mode",
        "Timestamps (RFC 7323): 0 off, 1 on with a random offset for each connection, 2 on without offset.";
    tcp_sack: bool = true, "net.ipv4.tcp_sack", 0 ..= 1, "switch",
        "Selective acknowledgements (RFC 2018).";
    tcp_congestion_control: CongestionControl = CongestionControl::Cubic, "net.ipv4.tcp_congestion_control", 0 ..= 2, "word",
        "How the congestion window grows and how far it falls, of connections that do not choose.";
    tcp_dsack: bool = true, "net.ipv4.tcp_dsack", 0 ..= 1, "switch",
        "Tells the sender what came twice (RFC 2883), where selective acknowledgements are in use.";
    tcp_shrink_window: bool = false, "net.ipv4.tcp_shrink_window", 0 ..= 1, "switch",
        "The window that is offered shrinks where memory has become less (RFC 7323 section 2.4), on connections that scale it.";
    tcp_stdurg: bool = false, "net.ipv4.tcp_stdurg", 0 ..= 1, "switch",
        "An urgent pointer names the last urgent byte (RFC 1122), not the byte behind it as everybody has it.";
    tcp_early_retrans: u8 = 3, "net.ipv4.tcp_early_retrans", 0 ..= 4, "mode",
        "Tail loss probes (RFC 8985 section 7): 3 or 4 sends them, others do not.";
    tcp_recovery: u8 = 1, "net.ipv4.tcp_recovery", 0 ..= 255, "bits",
        "Loss detection by time (RFC 8985): 0x2 for a window of reordering that does not grow, 0x4 for one that duplicate acknowledgements do not close. It is always on where SACK is, whatever 0x1 says.";
    tcp_frto: u8 = 2, "net.ipv4.tcp_frto", 0 ..= 255, "switch",
        "Finds out with new data whether a retransmission timeout was spurious (RFC 5682); 0 does not.";
    tcp_reordering: u32 = 3, "net.ipv4.tcp_reordering", 1 ..= INT_MAX, "segments",
        "By how much segments of a new connection are believed to overtake each other; duplicate acknowledgements that mean a loss. At most tcp_max_reordering.";
    tcp_max_reordering: u32 = 300, "net.ipv4.tcp_max_reordering", 1 ..= INT_MAX, "segments",
        "By how much segments are believed to overtake each other at the most.";
    tcp_retrans_collapse: u8 = 1, "net.ipv4.tcp_retrans_collapse", 0 ..= 255, "switch",
        "Joins what follows to a small segment that is sent again, up to a full one; 0 does not.";
    tcp_tso_win_divisor: u8 = 3, "net.ipv4.tcp_tso_win_divisor", 0 ..= 255, "part",
        "A super-frame does not wait for more where this part of the window is free for it: a third for 3; 0 for more than three segments.";
    tcp_thin_linear_timeouts: u8 = 0, "net.ipv4.tcp_thin_linear_timeouts", 0 ..= 255, "switch",
        "Of connections with fewer than four segments in flight the first six timeouts in a row do not double the next one.";
    tcp_comp_sack_delay_ns: u32 = 1_000_000, "net.ipv4.tcp_comp_sack_delay_ns", 0 ..= INT_MAX, "nanoseconds",
        "Longest time for which duplicate acknowledgements are held to be sent as one; never more than 5 % of the round trip.";
    tcp_comp_sack_slack_ns: u32 = 100_000, "net.ipv4.tcp_comp_sack_slack_ns", 0 ..= INT_MAX, "nanoseconds",
        "Added to that time, so that timers of several connections may run together.";
    tcp_comp_sack_nr: u32 = 44, "net.ipv4.tcp_comp_sack_nr", 0 ..= 255, "acknowledgements",
        "Most duplicate acknowledgements that are held to be sent as one; 0 holds none.";
    tcp_backlog_ack_defer: bool = true, "net.ipv4.tcp_backlog_ack_defer", 0 ..= 1, "switch",
        "What came while the application had the socket is acknowledged once, when it lets go.";
    tcp_ecn: u8 = 2, "net.ipv4.tcp_ecn", 0 ..= 2, "mode",
        "Explicit congestion notification (RFC 3168): 0 off, 1 asked for and given, 2 given to peers that ask for it.";
    tcp_ecn_fallback: bool = true, "net.ipv4.tcp_ecn_fallback", 0 ..= 1, "switch",
        "Asks for ECN in the first SYN only, in case something on the way drops SYNs that do.";
    tcp_pacing_ss_ratio: u32 = 200, "net.ipv4.tcp_pacing_ss_ratio", 0 ..= 1000, "percent",
        "Pacing rate in slow start, of what the window is in a round trip.";
    tcp_pacing_ca_ratio: u32 = 120, "net.ipv4.tcp_pacing_ca_ratio", 0 ..= 1000, "percent",
        "Pacing rate behind slow start, of what the window is in a round trip.";
    tcp_min_tso_segs: u32 = 2, "net.ipv4.tcp_min_tso_segs", 1 ..= 65_535, "segments",
        "Segments of a super-frame at the least, however slow the connection.";
    tcp_tso_rtt_log: u32 = 9, "net.ipv4.tcp_tso_rtt_log", 0 ..= 31, "power of two",
        "Super-frames are larger the nearer the peer, by halves for each 2^n microseconds of round trip; 0 for no such thing.";
    tcp_notsent_lowat: u32 = u32::MAX, "net.ipv4.tcp_notsent_lowat", 0 ..= u32::MAX, "bytes",
        "Bytes that may wait unsent in a send buffer before writers wait, of sockets that do not choose.";
    tcp_slow_start_after_idle: bool = true, "net.ipv4.tcp_slow_start_after_idle", 0 ..= 1, "switch",
        "Shrinks the congestion window of a connection that sent nothing for a timeout, or less than it might.";
    tcp_window_scaling: bool = true, "net.ipv4.tcp_window_scaling", 0 ..= 1, "switch",
        "Window scaling (RFC 7323).";
    tcp_syn_retries: u8 = 6, "net.ipv4.tcp_syn_retries", 1 ..= 127, "retransmissions",
        "How often an active open sends its SYN again before it gives up.";
    tcp_syn_linear_timeouts: u8 = 4, "net.ipv4.tcp_syn_linear_timeouts", 0 ..= 127, "retransmissions",
        "SYNs that are sent again without doubling the timeout; they do not count as retries.";
    tcp_synack_retries: u8 = 5, "net.ipv4.tcp_synack_retries", 0 ..= 255, "retransmissions",
        "How often a passive open sends its SYN-ACK again before it gives up.";
    tcp_retries1: u8 = 3, "net.ipv4.tcp_retries1", 0 ..= 255, "retransmissions",
        "How often an established connection sends the same data again before it may be too long for the path.";
    tcp_mtu_probing: u8 = 0, "net.ipv4.tcp_mtu_probing", 0 ..= 2, "mode",
        "Search for the path's MTU by longer segments (RFC 4821): 0 never, 1 when segments are lost as if for their length, 2 always.";
    tcp_base_mss: u32 = 1024, "net.ipv4.tcp_base_mss", 48 ..= 65_495, "bytes",
        "Segment size that such a search begins with.";
    tcp_min_snd_mss: u32 = 48, "net.ipv4.tcp_min_snd_mss", 48 ..= 65_495, "bytes",
        "Smallest segment size, options included, that a peer or a search can bring about.";
    tcp_mtu_probe_floor: u32 = 48, "net.ipv4.tcp_mtu_probe_floor", 48 ..= 65_495, "bytes",
        "Smallest segment size that a search goes down to.";
    tcp_probe_threshold: u32 = 8, "net.ipv4.tcp_probe_threshold", 0 ..= 65_535, "bytes",
        "A search ends when what is left to be searched is less.";
    tcp_probe_interval: u32 = 600, "net.ipv4.tcp_probe_interval", 0 ..= INT_MAX, "seconds",
        "Time after which a search that has ended begins again.";
    tcp_retries2: u8 = 15, "net.ipv4.tcp_retries2", 0 ..= 255, "retransmissions",
        "How often an established connection would send the same data again before it gives up, if its first timeout were 200 ms: it does so at the first timeout that is no earlier.";
    tcp_orphan_retries: u8 = 0, "net.ipv4.tcp_orphan_retries", 0 ..= 255, "retransmissions",
        "As tcp_retries2, of connections without an application; 0 counts as 8.";
    tcp_fin_timeout: u32 = 60, "net.ipv4.tcp_fin_timeout", 0 ..= 2_147_483, "seconds",
        "How long an orphaned connection stays in FIN-WAIT-2.";
    tcp_max_syn_backlog: u32 = 2048, "net.ipv4.tcp_max_syn_backlog", 0 ..= INT_MAX, "requests",
        "Half-open connections of a listener beyond which unproven peers are refused.";
    tcp_syncookies: u8 = 1, "net.ipv4.tcp_syncookies", 0 ..= 2, "mode",
        "SYN cookies: 0 never, 1 when the queue of half-open connections is full, 2 always.";
    tcp_fastopen: u32 = 1, "net.ipv4.tcp_fastopen", 0 ..= INT_MAX, "bits",
        "Fast Open (RFC 7413): 0x1 in connections from here, 0x2 in those to listeners that want it, 0x4 data without a cookie from here, 0x200 data without a cookie taken, 0x400 all listeners want it.";
    tcp_fastopen_key: FastOpenKeys = FastOpenKeys::NONE, "net.ipv4.tcp_fastopen_key", 0 ..= u32::MAX, "keys",
        "The key that Fast Open cookies are made with, and behind a comma one that was: its cookies are good, too. All zeros for a key that nobody knows.";
    tcp_fastopen_blackhole_timeout_sec: u32 = 0, "net.ipv4.tcp_fastopen_blackhole_timeout_sec", 0 ..= INT_MAX, "seconds",
        "For how long no connection from here uses Fast Open once something on the way was found to swallow it; twice as long each time that it is found again, 64 times at most. 0 for never.";
    tcp_keepalive_time: u32 = 7200, "net.ipv4.tcp_keepalive_time", 1 ..= 32_767, "seconds",
        "Silence before the first keep-alive probe.";
    tcp_keepalive_intvl: u32 = 75, "net.ipv4.tcp_keepalive_intvl", 1 ..= 32_767, "seconds",
        "Time between keep-alive probes.";
    tcp_keepalive_probes: u8 = 9, "net.ipv4.tcp_keepalive_probes", 1 ..= 127, "probes",
        "Keep-alive probes without an answer after which a connection is over.";
    tcp_migrate_req: bool = false, "net.ipv4.tcp_migrate_req", 0 ..= 1, "switch",
        "Half-open and not yet accepted connections of a listener that closes go over to another that shares its address.";
    tcp_abort_on_overflow: bool = false, "net.ipv4.tcp_abort_on_overflow", 0 ..= 1, "switch",
        "Answers the third segment of a handshake with RST when the accept queue is full.";
    tcp_invalid_ratelimit: u32 = 500, "net.ipv4.tcp_invalid_ratelimit", 0 ..= INT_MAX, "milliseconds",
        "Least time between two acknowledgements of invalid segments on a connection; 0 sets no limit.";
    tcp_challenge_ack_limit: i32 = i32::MAX, "net.ipv4.tcp_challenge_ack_limit", -2_147_483_648 ..= INT_MAX, "acknowledgements",
        "Challenge ACKs (RFC 5961) of all connections in a second, on average; 2147483647, 0 and what is below set no limit.";
    tcp_reflect_tos: bool = false, "net.ipv4.tcp_reflect_tos", 0 ..= 1, "switch",
        "Connections of listeners take the type of service of their SYN, without its congestion bits.";
    tcp_tw_reuse: u8 = 2, "net.ipv4.tcp_tw_reuse", 0 ..= 2, "mode",
        "Whether connections to a peer take the port of one in TIME-WAIT: 0 no, 1 yes, 2 if both ends are of this host's loopback.";
    tcp_tw_reuse_delay: u32 = 1000, "net.ipv4.tcp_tw_reuse_delay", 0 ..= 60_000, "milliseconds",
        "How long a connection has been in TIME-WAIT before its port is taken so; 0 counts as 1000.";
    tcp_rfc1337: bool = false, "net.ipv4.tcp_rfc1337", 0 ..= 1, "switch",
        "RSTs do not end TIME-WAIT (RFC 1337).";
    tcp_max_tw_buckets: u32 = 131_072, "net.ipv4.tcp_max_tw_buckets", 0 ..= INT_MAX, "sockets",
        "Sockets in TIME-WAIT beyond which a further one is closed at once.";
    tcp_rto_min_us: u32 = 200_000, "net.ipv4.tcp_rto_min_us", 1 ..= INT_MAX, "microseconds",
        "Least variance term of the retransmission time-out.";
    ip_default_ttl: u8 = 64, "net.ipv4.ip_default_ttl", 1 ..= 255, "hops",
        "Time to live of packets that this host makes.";
    ip_local_port_range: PortRange = PortRange { low: 32_768, high: 60_999 }, "net.ipv4.ip_local_port_range", 1 ..= 65_535, "ports",
        "Ports given to sockets that name none: lowest and highest.";
    ip_local_reserved_ports: PortSet = PortSet::default(), "net.ipv4.ip_local_reserved_ports", 1 ..= 65_535, "ports",
        "Ports that are given to nobody who names none.";
    ipfrag_high_thresh: u32 = 4_194_304, "net.ipv4.ipfrag_high_thresh", 0 ..= INT_MAX, "bytes",
        "Fragments (by truesize, and 200 bytes per datagram) beyond which no further one is taken.";
    ipfrag_time: u32 = 30, "net.ipv4.ipfrag_time", 0 ..= 2_147_483, "seconds",
        "How long a datagram waits for its fragments.";
    ipfrag_max_dist: u32 = 64, "net.ipv4.ipfrag_max_dist", 0 ..= INT_MAX, "fragments",
        "Fragments of one sender between two of a datagram beyond which its first ones are given up; 0 sets no limit.";
    icmp_echo_ignore_all: bool = false, "net.ipv4.icmp_echo_ignore_all", 0 ..= 1, "switch",
        "Leaves ICMP echo requests unanswered.";
    udp_mem: Triple = Triple { min: 575_802, default: 767_738, max: 1_151_604 }, "net.ipv4.udp_mem", 0 ..= INT_MAX, "pages",
        "Memory of all UDP receive queues: the last number is the most that there may be; the others have no effect.";
    udp_rmem_min: u32 = 4096, "net.ipv4.udp_rmem_min", 1 ..= INT_MAX, "bytes",
        "What a UDP socket may hold when the memory of all is used up.";
    udp_early_demux: bool = true, "net.ipv4.udp_early_demux", 0 ..= 1, "switch",
        "Looks a datagram's socket up before its route: that of a connected one is remembered.";
    igmp_max_memberships: u32 = 20, "net.ipv4.igmp_max_memberships", 0 ..= INT_MAX, "groups",
        "Multicast groups that one socket may join.";
    icmp_ratelimit: u32 = 1000, "net.ipv4.icmp_ratelimit", 0 ..= INT_MAX, "milliseconds",
        "Least time, on average, between two ICMP messages of limited types to one host; 0 sets no limit.";
    icmp_ratemask: u32 = 6168, "net.ipv4.icmp_ratemask", 0 ..= INT_MAX, "bits",
        "Types of ICMP messages that are limited: bit n for type n.";
    icmp_msgs_per_sec: u32 = 1000, "net.ipv4.icmp_msgs_per_sec", 0 ..= INT_MAX, "messages",
        "ICMP messages of limited types that this host sends a second.";
    icmp_msgs_burst: u32 = 50, "net.ipv4.icmp_msgs_burst", 0 ..= INT_MAX, "messages",
        "ICMP messages of limited types that this host sends at once.";
    neigh_gc_thresh1: u32 = 128, "net.ipv4.neigh.default.gc_thresh1", 0 ..= INT_MAX, "neighbours",
        "Neighbours below which none is collected.";
    neigh_gc_thresh2: u32 = 512, "net.ipv4.neigh.default.gc_thresh2", 0 ..= INT_MAX, "neighbours",
        "Neighbours from which on a new one has others collected, every five seconds at the most.";
    neigh_gc_thresh3: u32 = 1024, "net.ipv4.neigh.default.gc_thresh3", 0 ..= INT_MAX, "neighbours",
        "Neighbours from which on a new one has others collected, or is none.";
    somaxconn: u32 = 4096, "net.core.somaxconn", 0 ..= INT_MAX, "connections",
        "Most that listen() may ask for as its backlog.";
    netdev_max_backlog: u32 = 1000, "net.core.netdev_max_backlog", 0 ..= INT_MAX, "packets",
        "Length of a Cpu's backlog beyond which packets are dropped.";
    netdev_budget: u32 = 300, "net.core.netdev_budget", 1 ..= INT_MAX, "packets",
        "Most packets of one softirq run.";
    netdev_budget_usecs: u32 = 8000, "net.core.netdev_budget_usecs", 1 ..= INT_MAX, "microseconds",
        "Longest softirq run.";
    dev_weight: u32 = 64, "net.core.dev_weight", 1 ..= INT_MAX, "packets",
        "Most packets of one poll of a Cpu's backlog.";
    gro_normal_batch: u32 = 8, "net.core.gro_normal_batch", 1 ..= INT_MAX, "segments",
        "Segments that GRO gathers before it hands its list up the path.";
    busy_read: u32 = 0, "net.core.busy_read", 0 ..= INT_MAX, "microseconds",
        "How long a reader that finds nothing polls the queue that its packets come by before it sleeps, of sockets that do not choose.";
    busy_poll: u32 = 0, "net.core.busy_poll", 0 ..= INT_MAX, "microseconds",
        "How long Stack::wait polls all queues before it sleeps.";
    rmem_default: u32 = 212_992, "net.core.rmem_default", 2304 ..= INT_MAX, "bytes",
        "Receive buffer that a datagram socket starts with.";
    wmem_default: u32 = 212_992, "net.core.wmem_default", 4608 ..= INT_MAX, "bytes",
        "Send buffer that a datagram socket starts with.";
    rmem_max: u32 = 4_194_304, "net.core.rmem_max", 2304 ..= INT_MAX, "bytes",
        "Most that a socket may ask for as its receive buffer (it gets twice that).";
    wmem_max: u32 = 4_194_304, "net.core.wmem_max", 4608 ..= INT_MAX, "bytes",
        "Most that a socket may ask for as its send buffer (it gets twice that).";
    optmem_max: u32 = 131_072, "net.core.optmem_max", 0 ..= INT_MAX, "bytes",
        "Most that a socket's calls that lent their memory are charged until their notices are read.";
}

/// Names that are another's: the same tunable under both.
pub const ALIASES: &[(&str, &str)] = &[("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding")];

impl Sysctls {
    /// Sets a tunable from its name (with dots or slashes, as sysctl(8) takes them) and its value in the kernel's form.
    ///
    /// Those of interfaces are `net.ipv4.conf.NAME.rp_filter` and the like, with `all` and `default` in the place of a
    /// name; whether there is such an interface is not known here. A later setting goes before an earlier one.
    ///
    /// # Errors
    /// The name is unknown, or the value is not of the tunable's form or out of its bounds; nothing is changed then.
    ///
    /// ```
    /// let mut sysctls = rxpath_core::sysctl::Sysctls::default();
    /// sysctls.set("net.ipv4.tcp_rmem", "4096 131072 6291456").unwrap();
    /// assert_eq!(sysctls.tcp_rmem.max, 6_291_456);
    /// sysctls.set("net.ipv4.conf.eth0.rp_filter", "2").unwrap();
    /// assert_eq!(sysctls.conf.effective("eth0").rp_filter, 2);
    /// ```
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SysctlError> {
        let Some(place) = place(name) else { return Err(unknown(name)) };
        let knob = place.knob();
        let bad = |wrong: String| SysctlError::BadValue {
            name: place.name().into_owned(),
            value: value.to_owned(),
            wrong,
            example: Sysctls::default().show_at(&place),
        };
        let numbers = numbers(knob, value).map_err(bad)?;
        let stored = match (&place, numbers.as_slice()) {
            (Place::Host(knob), numbers) => self.store(knob, numbers),
            (Place::Conf(scope, knob), [number]) => self.conf.set(scope, knob, *number),
            (Place::Neigh(scope, knob, scale), [number]) => match number.checked_mul(*scale) {
                Some(number) if i64::from(number) <= knob.knob.most => self.neigh.set(scope, &knob.knob, number),
                _ => {
                    return Err(bad(format!(
                        "{number} is not within {} to {}",
                        knob.knob.least,
                        knob.knob.most / i64::from(*scale)
                    )));
                }
            },
            (Place::Conf(..) | Place::Neigh(..), _) => false,
        };
        if stored { Ok(()) } else { Err(bad(format!("it takes {}", knob.form.describe()))) }
    }

    /// The value of a tunable in the kernel's form (numbers with one space between); `None` if the name is unknown.
    pub fn show(&self, name: &str) -> Option<String> {
        place(name).map(|place| self.show_at(&place))
    }

    fn show_at(&self, place: &Place) -> String {
        match place {
            Place::Host(knob) => self.show_knob(knob),
            Place::Conf(scope, knob) => self.conf.show(scope, knob.knob.name).to_string(),
            Place::Neigh(scope, knob, scale) => (self.neigh.show(scope, knob.knob.name) / scale).to_string(),
        }
    }

    /// The interfaces that tunables were set for by their names, each once, sorted.
    pub fn interfaces(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self.conf.devices.named().chain(self.neigh.named()).collect();
        names.into_iter().collect()
    }
}

/// Where a tunable stands.
enum Place {
    /// In the namespace's table.
    Host(&'static Knob),
    /// In `net.ipv4.conf`, for this interface.
    Conf(String, &'static DeviceKnob),
    /// In `net.ipv4.neigh`, for this interface, told in units of so many.
    Neigh(String, &'static DeviceKnob, u32),
}

impl Place {
    fn knob(&self) -> &'static Knob {
        match self {
            Place::Host(knob) => knob,
            Place::Conf(_, knob) | Place::Neigh(_, knob, _) => &knob.knob,
        }
    }

    /// The whole name, with dots.
    fn name(&self) -> Cow<'static, str> {
        match self {
            Place::Host(knob) => knob.name.into(),
            Place::Conf(scope, knob) => format!("{}{scope}.{}", DevConf::PREFIX, knob.knob.name).into(),
            Place::Neigh(scope, knob, _) => format!("{}{scope}.{}", NeighParms::PREFIX, knob.knob.name).into(),
        }
    }
}

/// The place of a tunable by its name with dots or slashes, which may be an alias.
fn place(name: &str) -> Option<Place> {
    let name = ALIASES.iter().find(|(alias, _)| same_name(alias, name)).map_or(name, |(_, target)| target);
    if let Some(knob) = knob(name) {
        return Some(Place::Host(knob));
    }
    if let Some((scope, last)) = split::<DevConf>(name) {
        return device_knob::<DevConf>(last).map(|knob| Place::Conf(scope, knob));
    }
    let (scope, last) = split::<NeighParms>(name).filter(|(scope, _)| scope != "all")?;
    let scaled = SCALED.iter().find(|(old, ..)| *old == last);
    let (last, scale) = scaled.map_or((last, 1), |(_, name, scale)| (*name, *scale));
    device_knob::<NeighParms>(last).map(|knob| Place::Neigh(scope, knob, scale))
}

/// The one name, with dots, of a tunable that may be spelled otherwise; `None` if the name is unknown. The second is the
/// interface that it is of, if it is of one.
pub fn canonical(name: &str) -> Option<(String, Option<String>)> {
    let place = place(name)?;
    let interface = match &place {
        Place::Conf(scope, _) | Place::Neigh(scope, ..) if !matches!(scope.as_str(), "all" | "default") => {
            Some(scope.clone())
        }
        _ => None,
    };
    Some((place.name().into_owned(), interface))
}

/// The names of all tunables that every host has, with `all` and `default` in the place of an interface's name.
pub fn names() -> Vec<String> {
    let of_devices = CONF_KNOBS
        .iter()
        .flat_map(|known| ["all", "default"].map(|scope| format!("{}{scope}.{}", DevConf::PREFIX, known.knob.name)));
    let of_neighbours = NEIGH_KNOBS.iter().map(|known| format!("{}default.{}", NeighParms::PREFIX, known.knob.name));
    KNOBS.iter().map(|knob| knob.name.to_owned()).chain(of_devices).chain(of_neighbours).collect()
}

/// The table's row of a name with dots or slashes.
fn knob(name: &str) -> Option<&'static Knob> {
    KNOBS.iter().find(|knob| same_name(knob.name, name))
}

fn same_name(known: &str, given: &str) -> bool {
    known.len() == given.len() && known.bytes().zip(given.bytes()).all(|(k, g)| k == g || (k == b'.' && g == b'/'))
}

fn unknown(name: &str) -> SysctlError {
    SysctlError::UnknownName { name: name.to_owned(), nearest: nearest_knob(name) }
}

/// The known name that a wrong one most likely meant: the same last part under another prefix, or few letters away.
fn nearest_knob(name: &str) -> Option<String> {
    let dotted = name.replace('/', ".");
    for (prefix, split, knobs) in [
        (DevConf::PREFIX, split::<DevConf>(name), CONF_KNOBS),
        (NeighParms::PREFIX, split::<NeighParms>(name), NEIGH_KNOBS),
    ] {
        if let Some((scope, last)) = split {
            let near = nearest(last, knobs.iter().map(|known| known.knob.name));
            return near.map(|near| format!("{prefix}{scope}.{near}"));
        }
    }
    let last = dotted.rsplit('.').next().unwrap_or_default();
    let known = || names().into_iter().chain(ALIASES.iter().map(|(alias, _)| (*alias).to_owned()));
    let same_last = known().find(|known| !last.is_empty() && known.rsplit('.').next() == Some(last));
    same_last.or_else(|| {
        let known: Vec<String> = known().collect();
        nearest(&dotted, known.iter().map(String::as_str)).map(str::to_owned)
    })
}

/// Splits a value into the numbers of the knob's form, each within its bounds; negative ones in two's complement.
fn numbers(knob: &Knob, value: &str) -> Result<Vec<u32>, String> {
    if knob.form == Form::Ports {
        return ports::numbers(value);
    }
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    if words.len() != knob.form.numbers() {
        return Err(format!("it takes {}, and this has {}", knob.form.describe(), words.len()));
    }
    if let Form::Choice(known) = knob.form {
        let place = known.iter().position(|known| words.first() == Some(known));
        return match place {
            Some(place) => Ok(vec![place as u32]),
            None => Err(format!("{:?} is not {}", words.join(" "), knob.form.describe())),
        };
    }
    if knob.form == Form::Keys {
        let text = words.first().copied().unwrap_or_default();
        return fast_open::words(text).ok_or_else(|| format!("{text:?} is not {}", knob.form.describe()));
    }
    words
        .iter()
        .map(|word| match word.parse::<i64>() {
            Ok(number) if (knob.least..=knob.most).contains(&number) => Ok(number as u32),
            Ok(_) => Err(format!("{word} is not within {} to {}", knob.least, knob.most)),
            Err(_) if knob.form == Form::Bool => Err(format!("{word:?} is not 0 or 1")),
            Err(_) => Err(format!("{word:?} is not a whole number within {} to {}", knob.least, knob.most)),
        })
        .collect()
}

/// The known word nearest to a wrong one by edit distance, if it is near enough to be what was meant: at most a third
/// of its letters (and at least one) differ. Words above 64 bytes are near to nothing.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (distance(word.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in bytes.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, &y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_shown_and_accepted_and_within_its_bounds() {
        for knob in KNOBS {
            let mut sysctls = Sysctls::default();
            let shown = sysctls.show(knob.name).expect("a knob is shown");
            sysctls.set(knob.name, &shown).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(sysctls, Sysctls::default(), "{}", knob.name);
        }
    }

    #[test]
    fn each_set_reaches_its_own_field_only() {
        for knob in KNOBS {
            let value = match knob.form {
                Form::Bool if Sysctls::default().show_knob(knob) == "1" => "0",
                Form::Bool => "1",
                Form::Choice(words) => words[1],
                Form::Integer if knob.most < 99 => {
                    if Sysctls::default().show_knob(knob) == "2" {
                        "1"
                    } else {
                        "2"
                    }
                }
                Form::Integer if knob.least > 100 => "9999",
                Form::Integer => "99",
                Form::Range => "1024\t2048",
                Form::Ports => "8080,9148-9150",
                Form::Triple => "1 2\t3",
                Form::Keys => "00000001-00000002-00000003-00000004,00000005-00000006-00000007-00000008",
            };
            let mut sysctls = Sysctls::default();
            sysctls.set(knob.name, value).unwrap_or_else(|error| panic!("{error}"));
            let changed: Vec<_> = KNOBS
                .iter()
                .filter(|k| sysctls.show_knob(k) != Sysctls::default().show_knob(k))
                .map(|k| k.name)
                .collect();
            assert_eq!(changed, [knob.name]);
            assert_eq!(sysctls.show_knob(knob), value.replace('\t', " "));
        }
    }

    #[test]
    fn defaults_are_those_of_linux() {
        let sysctls = Sysctls::default();
        assert_eq!(sysctls.tcp_rmem, Triple { min: 4096, default: 131_072, max: 33_554_432 });
        assert_eq!(sysctls.show("net.core.netdev_budget_usecs").as_deref(), Some("8000"));
        assert_eq!(sysctls.show("net/ipv4/ip_local_port_range").as_deref(), Some("32768 60999"));
        assert_eq!(sysctls.show("net.ipv4.tcp_fack"), None);
    }

    #[test]
    fn bad_values_say_what_is_wrong_and_change_nothing() {
        let cases = [
            ("net.ipv4.tcp_rmem", "", r#"it takes three numbers that do not fall, and this has 0"#),
            ("net.ipv4.tcp_rmem", "4096 131072", r#"it takes three numbers that do not fall, and this has 2"#),
            ("net.ipv4.tcp_rmem", "3 2 1", r#"it takes three numbers that do not fall"#),
            ("net.ipv4.tcp_rmem", "1 2 x", r#""x" is not a whole number within 1 to 2147483647"#),
            ("net.ipv4.tcp_rmem", "1 2 2147483648", r#"2147483648 is not within 1 to 2147483647"#),
            ("net.ipv4.tcp_wmem", "-1 2 3", r#"-1 is not within 1 to 2147483647"#),
            ("net.ipv4.tcp_congestion_control", "vegas", r#""vegas" is not cubic, reno or bbr"#),
            ("net.ipv4.tcp_sack", "yes", r#""yes" is not 0 or 1"#),
            ("net.ipv4.tcp_sack", "2", r#"2 is not within 0 to 1"#),
            ("net.ipv4.tcp_timestamps", "3", r#"3 is not within 0 to 2"#),
            (
                "net.ipv4.tcp_challenge_ack_limit",
                "-2147483649",
                r#"-2147483649 is not within -2147483648 to 2147483647"#,
            ),
            ("net.ipv4.ip_default_ttl", "0", r#"0 is not within 1 to 255"#),
            ("net.ipv4.ip_default_ttl", "256", r#"256 is not within 1 to 255"#),
            ("net.ipv4.ip_local_port_range", "2000 1000", r#"it takes two numbers that do not fall"#),
            ("net.ipv4.ip_local_port_range", "0 1000", r#"0 is not within 1 to 65535"#),
            (
                "net.core.somaxconn",
                "99999999999999999999",
                r#""99999999999999999999" is not a whole number within 0 to 2147483647"#,
            ),
        ];
        for (name, value, want) in cases {
            let mut sysctls = Sysctls::default();
            match sysctls.set(name, value) {
                Err(SysctlError::BadValue { wrong, .. }) => assert_eq!(wrong, want, "{name} = {value}"),
                other => panic!("{name} = {value}: {other:?}"),
            }
            assert_eq!(sysctls, Sysctls::default());
        }
    }

    #[test]
    fn errors_read_well() {
        let mut sysctls = Sysctls::default();
        let mut error = |name: &str, value: &str| sysctls.set(name, value).expect_err("bad").to_string();
        assert_eq!(
            error("net.ipv4.tcp_rmen", "1"),
            r#"unknown sysctl "net.ipv4.tcp_rmen"; did you mean "net.ipv4.tcp_rmem"?"#
        );
        assert_eq!(error("tcp_sack", "1"), r#"unknown sysctl "tcp_sack"; did you mean "net.ipv4.tcp_sack"?"#);
        assert_eq!(
            error("net/core/tcp_sack", "1"),
            r#"unknown sysctl "net/core/tcp_sack"; did you mean "net.ipv4.tcp_sack"?"#
        );
        assert_eq!(
            error("kernel.hostname", "box"),
            r#"unknown sysctl "kernel.hostname"; the reference lists those that this stack obeys"#
        );
        assert_eq!(
            error("net.ipv4.ip_default_ttl", "300"),
            r#"net.ipv4.ip_default_ttl = "300": 300 is not within 1 to 255; the default is "64""#
        );
    }

    #[test]
    fn nearest_is_near() {
        let known = ["addresses", "mtu", "queues"];
        assert_eq!(nearest("adress", known), Some("addresses"));
        assert_eq!(nearest("adresses", known), Some("addresses"));
        assert_eq!(nearest("mtuu", known), Some("mtu"));
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"m".repeat(65), known), None);
        assert_eq!(nearest("addr", known), None, "five letters of nine are missing");
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}
