//! The statistics of interfaces: the rows of `/proc/net/dev` and of `ip -s link`.
//!
//! A [`DevShard`] is written by one Cpu (a relaxed load and a relaxed store per figure) and read by anyone; the sum of
//! all Cpus' shards is what is printed.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Index};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rxpath_trace::Counter;

use crate::cx::Cx;

/// A figure of an interface, by the names of `rtnl_link_stats64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DevStat {
    /// Frames that the driver handed up, those that were then dropped included.
    RxPackets,
    /// Their bytes, Ethernet headers included.
    RxBytes,
    /// Frames that came with an error.
    RxErrors,
    /// Frames that the stack could not take: no memory, backlog full, no handler for the EtherType.
    RxDropped,
    /// Frames to a group, broadcast not included, as network cards count them (a TAP does not).
    Multicast,
    /// Of the errors: wrong lengths.
    RxLengthErrors,
    /// Of the errors: the receiver overran.
    RxOverErrors,
    /// Of the errors: checksums that do not verify.
    RxCrcErrors,
    /// Of the errors: misaligned frames.
    RxFrameErrors,
    /// Of the errors: the receive FIFO overran.
    RxFifoErrors,
    /// Frames that met a full ring; no part of the errors.
    RxMissedErrors,
    /// Frames to another host's address.
    RxOtherhostDropped,
    /// Frames that the device took for transmission.
    TxPackets,
    /// Their bytes, Ethernet headers included.
    TxBytes,
    /// Frames that the device failed to send.
    TxErrors,
    /// Frames that did not fit the transmit queue.
    TxDropped,
    /// Frames that an XDP program passed.
    XdpPass,
    /// Frames that an XDP program dropped.
    XdpDrop,
    /// Frames that an XDP program sent back.
    XdpTx,
    /// Frames that an XDP program sent elsewhere.
    XdpRedirect,
    /// Frames with which an XDP program failed.
    XdpAborted,
}

impl DevStat {
    /// All of them with their names, as `ethtool -S` prints them.
    pub const NAMED: [(DevStat, &str); DevStat::COUNT] = [
        (DevStat::RxPackets, "rx_packets"),
        (DevStat::RxBytes, "rx_bytes"),
        (DevStat::RxErrors, "rx_errors"),
        (DevStat::RxDropped, "rx_dropped"),
        (DevStat::Multicast, "multicast"),
        (DevStat::RxLengthErrors, "rx_length_errors"),
        (DevStat::RxOverErrors, "rx_over_errors"),
        (DevStat::RxCrcErrors, "rx_crc_errors"),
        (DevStat::RxFrameErrors, "rx_frame_errors"),
        (DevStat::RxFifoErrors, "rx_fifo_errors"),
        (DevStat::RxMissedErrors, "rx_missed_errors"),
        (DevStat::RxOtherhostDropped, "rx_otherhost_dropped"),
        (DevStat::TxPackets, "tx_packets"),
        (DevStat::TxBytes, "tx_bytes"),
        (DevStat::TxErrors, "tx_errors"),
        (DevStat::TxDropped, "tx_dropped"),
        (DevStat::XdpPass, "rx_xdp_pass"),
        (DevStat::XdpDrop, "rx_xdp_drop"),
        (DevStat::XdpTx, "rx_xdp_tx"),
        (DevStat::XdpRedirect, "rx_xdp_redirect"),
        (DevStat::XdpAborted, "rx_xdp_aborted"),
    ];

    /// How many figures there are.
    pub const COUNT: usize = DevStat::XdpAborted as usize + 1;
}

/// So many packets went through the core (`softnet_stat`'s first column). A frame of a VLAN device counts twice.
#[inline(always)]
pub fn count_processed(cx: &Cx, packets: u64) {
    cx.count_n(Counter::SoftnetProcessed, packets);
}

/// One interface's figures, in a line of its own per 8 of them.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Row([AtomicU64; DevStat::COUNT]);

/// One Cpu's shard of the statistics of all interfaces.
#[derive(Debug)]
pub struct DevShard {
    /// By index of the interface; row 0 takes what belongs to no known interface.
    rows: Box<[Row]>,
}

impl DevShard {
    /// A shard for the interfaces 1 to `interfaces`. Figures of interfaces beyond are gathered in row 0.
    pub fn new(interfaces: u16) -> DevShard {
        DevShard { rows: (0..=interfaces).map(|_| Row::default()).collect() }
    }

    #[inline(always)]
    fn row_of(&self, ifindex: u16) -> &Row {
        self.rows.get(usize::from(ifindex)).unwrap_or(&self.rows[0])
    }

    /// Adds `n`; for the shard's Cpu only.
    #[inline(always)]
    pub fn add(&self, ifindex: u16, stat: DevStat, n: u64) {
        let value = &self.row_of(ifindex).0[stat as usize];
        value.store(value.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The driver handed up `packets` frames of `bytes` bytes together.
    #[inline(always)]
    pub fn received(&self, ifindex: u16, packets: u64, bytes: u64) {
        self.add(ifindex, DevStat::RxPackets, packets);
        self.add(ifindex, DevStat::RxBytes, bytes);
    }

    /// The device took `packets` frames of `bytes` bytes together.
    #[inline(always)]
    pub fn transmitted(&self, ifindex: u16, packets: u64, bytes: u64) {
        self.add(ifindex, DevStat::TxPackets, packets);
        self.add(ifindex, DevStat::TxBytes, bytes);
    }

    /// This shard's figures of one interface.
    pub fn row(&self, ifindex: u16) -> DevStats {
        let mut stats = DevStats::default();
        for (value, shared) in stats.0.iter_mut().zip(&self.row_of(ifindex).0) {
            *value = shared.load(Relaxed);
        }
        stats
    }
}

/// The figures of one interface at one moment, of one Cpu or with `+` of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevStats([u64; DevStat::COUNT]);

impl Index<DevStat> for DevStats {
    type Output = u64;

    fn index(&self, stat: DevStat) -> &u64 {
        &self.0[stat as usize]
    }
}

impl AddAssign for DevStats {
    fn add_assign(&mut self, other: DevStats) {
        for (value, more) in self.0.iter_mut().zip(other.0) {
            *value = value.wrapping_add(more);
        }
    }
}

impl Add for DevStats {
    type Output = DevStats;

    fn add(mut self, other: DevStats) -> DevStats {
        self += other;
        self
    }
}

impl Sum for DevStats {
    fn sum<I: Iterator<Item = DevStats>>(shards: I) -> DevStats {
        shards.fold(DevStats::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_sum_and_strangers_are_gathered_in_row_zero() {
        let (one, two) = (DevShard::new(2), DevShard::new(2));
        one.received(2, 3, 300);
        two.received(2, 1, 60);
        two.transmitted(1, 2, 120);
        two.add(9, DevStat::RxDropped, 5);
        let sum: DevStats = [&one, &two].into_iter().map(|shard| shard.row(2)).sum();
        assert_eq!((sum[DevStat::RxPackets], sum[DevStat::RxBytes]), (4, 360));
        assert_eq!((two.row(1)[DevStat::TxPackets], two.row(1)[DevStat::TxBytes]), (2, 120));
        assert_eq!(two.row(0)[DevStat::RxDropped], 5);
        assert_eq!(one.row(0), DevStats::default());
    }
}
