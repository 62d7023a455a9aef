//! What retransmission timeouts a connection has had, for those who ask (`tcp_update_rto_stats`, `tcp_update_rto_time`).

use rxpath_trace::Time;

use super::super::MS;

/// Timeouts of one connection, those of its SYN or SYN-ACK too, but for those while the peer's window is closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RtoStats {
    /// All of them (`total_rto`); wraps.
    pub total: u16,
    /// Those with which recovery began (`total_rto_recoveries`): something new was acknowledged before, or nothing was sent;
    /// wraps.
    pub recoveries: u16,
    /// Milliseconds of the recoveries that have ended (`total_rto_time`).
    ended_ms: u32,
    /// When the last one began that has not ended (`rto_stamp`).
    since: Option<Time>,
    /// Those for which the kernel hashes the flow anew, so that it may take another way (`timeout_rehash`).
    pub rehash: u32,
}

impl RtoStats {
    /// A timeout more, behind so many in a row. Where something was acknowledged in between, but not all, what was spent so far
    /// is not counted.
    pub(in super::super) fn timed_out(&mut self, retransmits: u8, now: Time) {
        self.total = self.total.wrapping_add(1);
        if retransmits == 0 {
            self.recoveries = self.recoveries.wrapping_add(1);
            self.since = Some(now);
        }
    }

    /// The handshake took so many timeouts of its SYN-ACK, the first of which went out at `since`.
    pub(in super::super) fn of_synacks(timeouts: u8, since: Time, now: Time) -> RtoStats {
        if timeouts == 0 {
            return RtoStats::default();
        }
        RtoStats { total: timeouts.into(), recoveries: 1, ended_ms: ms(since, now), ..RtoStats::default() }
    }

    /// The recovery has ended, if there was one.
    pub(in super::super) fn recovered(&mut self, now: Time) {
        self.ended_ms = self.total_ms(now);
        self.since = None;
    }

    /// Milliseconds that recoveries took, up to now of one that has not ended (`total_rto_time`); wraps.
    pub fn total_ms(&self, now: Time) -> u32 {
        self.ended_ms.wrapping_add(self.since.map_or(0, |since| ms(since, now)))
    }
}

/// By a clock of whole milliseconds.
fn ms(since: Time, now: Time) -> u32 {
    (now.0 / MS).wrapping_sub(since.0 / MS) as u32
}
