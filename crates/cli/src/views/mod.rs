//! What can be seen of a running stack, as plain data and as text.
//!
//! The data travels over the control socket ([`crate::control`]) and is what `--json` prints; keys may be added, those
//! that are there keep their meaning. Each file renders one view as text.

pub mod drops;
pub mod dump;
pub mod ethtool;
pub mod lives;
pub mod neigh;
pub mod nstat;
#[cfg(all(test, target_os = "linux"))]
mod proved;
pub mod route;
pub mod softnet;
pub mod ss;
pub mod table;
mod tcp_info;

pub use self::tcp_info::InfoRow;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rxpath_core::stack::MemView;
use rxpath_trace::{COUNTED, Counter, Group, LedgerSnapshot, Snapshot};
use serde::{Deserialize, Serialize};

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// The kernel's name, with its group in front: `TcpExtTCPHPHits`.
    pub name: String,
    /// Its value; of a change, by how much.
    pub value: i64,
}

/// All counters that the stack counts, in the kernel's order; of ICMP messages by type, those that occurred.
pub fn counter_rows(snapshot: &Snapshot) -> Vec<CounterRow> {
    let occurred = || snapshot.nonzero().map(|(counter, _)| counter).filter(|c| c.group() == Group::IcmpMsg);
    let of_group = |group: Group| -> Vec<Counter> {
        match group {
            Group::IcmpMsg => occurred().collect(),
            group => COUNTED.iter().copied().filter(|counter| counter.group() == group).collect(),
        }
    };
    let row = |c: Counter| CounterRow { name: c.to_string(), value: snapshot[c].cast_signed() };
    Group::ALL.into_iter().flat_map(of_group).map(row).collect()
}

/// What a socket is of, in the order in which ss shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Netid {
    /// A raw socket.
    Raw,
    /// A UDP socket.
    Udp,
    /// A TCP socket.
    #[default]
    Tcp,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketRow {
    /// What it is of.
    #[serde(default)]
    pub netid: Netid,
    /// The state, as ss writes it: `ESTAB`.
    pub state: String,
    /// Local address and port.
    pub local: SocketAddr,
    /// The peer's address and port; unspecified and 0 for a listener.
    pub remote: SocketAddr,
    /// Bytes that the application has not read; of a listener, connections to accept.
    pub recv_q: u32,
    /// Bytes that the peer has not acknowledged; of a listener, the limit of connections to accept.
    pub send_q: u32,
    /// The Cpu that owns the flow; of a listener, none.
    pub cpu: Option<u16>,
    /// Packets that the socket dropped.
    pub drops: u32,
    /// Its memory; of full sockets alone.
    #[serde(default)]
    pub memory: Option<MemoryRow>,
    /// What a connection tells of itself.
    #[serde(default)]
    pub info: Option<InfoRow>,
}

/// The memory of a socket, in bytes of truesize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRow {
    /// Received and not read.
    pub rmem_alloc: u32,
    /// Limit of that.
    pub rcvbuf: u32,
    /// On its way out.
    pub wmem_alloc: u32,
    /// Limit of what may wait to be sent.
    pub sndbuf: u32,
    /// The socket's already and not charged yet.
    pub forward_alloc: u32,
    /// Waiting to be sent or acknowledged.
    pub wmem_queued: u32,
    /// On the backlog.
    pub backlog: u32,
}

impl From<MemView> for MemoryRow {
    fn from(mem: MemView) -> MemoryRow {
        let MemView { rmem_alloc, rcvbuf, wmem_alloc, sndbuf, forward_alloc, wmem_queued, backlog } = mem;
        MemoryRow { rmem_alloc, rcvbuf, wmem_alloc, sndbuf, forward_alloc, wmem_queued, backlog }
    }
}

/// A reason for which packets were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// The kernel's name.
    pub reason: String,
    /// How many.
    pub packets: u64,
    /// The phase of the path.
    pub phase: String,
    /// What it means.
    pub describe: String,
    /// Counters that move with each.
    pub counters: Vec<String>,
}

/// The ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Packets offered by devices.
    pub offered: u64,
    /// Packets created here to be sent.
    pub output: u64,
    /// Clones made.
    pub clones: u64,
    /// Packets made out of others.
    pub made: u64,
    /// Packets read to their end.
    pub delivered: u64,
    /// Packets taken by devices.
    pub transmitted: u64,
    /// Packets that had done their work.
    pub consumed: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets that somebody holds.
    pub held: i64,
    /// Whether both sides are equal.
    pub balanced: bool,
    /// The same in one line.
    pub text: String,
}

impl From<&LedgerSnapshot> for LedgerRow {
    fn from(ledger: &LedgerSnapshot) -> LedgerRow {
        LedgerRow {
            offered: ledger.offered(),
            output: ledger.output(),
            clones: ledger.clones(),
            made: ledger.made(),
            delivered: ledger.delivered(),
            transmitted: ledger.transmitted(),
            consumed: ledger.consumed(),
            dropped: ledger.dropped(),
            held: ledger.held().cast_signed(),
            balanced: ledger.balanced(),
            text: ledger.to_string(),
        }
    }
}

/// What was dropped, and the whole account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Reasons, the most frequent first.
    pub reasons: Vec<DropRow>,
    /// The ledger.
    pub ledger: LedgerRow,
}

impl Drops {
    /// The drops of a ledger.
    pub fn of(ledger: &LedgerSnapshot) -> Drops {
        let row = |(reason, packets): (rxpath_trace::DropReason, u64)| DropRow {
            reason: reason.name().to_owned(),
            packets,
            phase: reason.phase().name().to_owned(),
            describe: reason.describe().to_owned(),
            counters: reason.counters().iter().map(ToString::to_string).collect(),
        };
        Drops { reasons: ledger.drops().into_iter().map(row).collect(), ledger: ledger.into() }
    }
}

/// The softirq of one Cpu.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftnetRow {
    /// Its number.
    pub cpu: u16,
    /// Frames that went through the core demultiplexer.
    pub processed: u64,
    /// Packets dropped because the backlog was full.
    pub dropped: u64,
    /// Softirq rounds that ended with their budget or their time.
    pub time_squeeze: u64,
    /// Times that another Cpu woke this one to take packets.
    pub received_rps: u64,
    /// Packets on the backlog.
    pub backlog: u32,
}

/// A packet's life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LifeRow {
    /// As text, several lines.
    pub story: String,
    /// As the JSON object that `rxpath_trace::lives::SCHEMA` describes.
    pub life: serde_json::Value,
}

/// What was asked of the recorded lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lives {
    /// The lives, the oldest first.
    pub lives: Vec<LifeRow>,
    /// Which lives are recorded: `all`, `off`, `1/100`, or a filter.
    pub selected: String,
    /// Records that were lost because a ring was full.
    pub lost: u64,
}

/// Texts of files below `/proc`, by their path there, such as `net/tcp`.
pub type ProcFiles = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use rxpath_trace::{DropReason, Ledger};

    use super::*;

    #[test]
    fn counters_come_in_the_kernels_order_with_the_icmp_types_that_occurred() {
        let snapshot = Snapshot::of(&[(Counter::TcpInSegs, 3), (Counter::icmp_in(8), 2), (Counter::UdpInErrors, 7)]);
        let rows = counter_rows(&snapshot);
        let place = |name: &str| rows.iter().position(|row| row.name == name);
        assert!(place("IpInReceives") < place("IcmpMsgInType8"));
        assert!(place("IcmpMsgInType8") < place("TcpInSegs"));
        assert!(place("TcpInSegs") < place("TcpExtTCPHPHits"));
        assert_eq!(place("IcmpMsgInType0"), None);
        assert!(
            rows.iter().all(|row| COUNTED.iter().any(|c| c.to_string() == row.name) || row.name.starts_with("IcmpMsg"))
        );
    }

    #[test]
    fn drops_name_reason_phase_and_counters() {
        let ledger = Ledger::new();
        ledger.offered(3);
        ledger.dropped(DropReason::TcpCsum, 1);
        ledger.dropped(DropReason::NoSocket, 2);
        let drops = Drops::of(&ledger.snapshot());
        let reasons: Vec<_> = drops.reasons.iter().map(|row| (row.reason.as_str(), row.packets)).collect();
        assert_eq!(reasons, [("NO_SOCKET", 2), ("TCP_CSUM", 1)]);
        assert_eq!(drops.reasons[1].phase, "TCP");
        assert_eq!(drops.reasons[1].counters, ["TcpInErrs", "TcpInCsumErrors"]);
        assert!(drops.ledger.balanced && drops.ledger.text.ends_with("(balanced)"));
    }
}
