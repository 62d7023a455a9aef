//! What the timers of a socket do when their deadline has come.

use rxpath_trace::{Counter, Time};

use super::{JIFFY, RTO_MAX, State, TIMEWAIT_LEN, TcpSock, XmitTimer, expiry};
use crate::cx::Cx;
use crate::sysctl::Sysctls;

/// Retransmissions of an orphan's data before it is given up, where `tcp_orphan_retries` is 0.
const ORPHAN_RETRIES: u8 = 8;

/// The first timeout that retries are reckoned with, whatever it really is (`TCP_RTO_MIN`).
const RTO_BASE: u64 = 200 * super::MS;

/// Doublings of that until it is [`RTO_MAX`].
const DOUBLINGS: u8 = (RTO_MAX / RTO_BASE).ilog2() as u8;

/// A stream with fewer segments in flight is thin.
const THIN_SEGMENTS: u32 = 4;

/// Timeouts of a thin stream that do not double the next (`TCP_THIN_LINEAR_RETRIES`).
const THIN_LINEAR_RETRIES: u8 = 6;

/// How soon a probe that found no memory is tried again (`TCP_RESOURCE_PROBE_INTERVAL`).
pub(super) const RESOURCE_PROBE_INTERVAL: u64 = 500 * super::MS;

impl TcpSock {
    /// Runs every timer whose deadline has come. The caller holds the lock and rearms the wheel afterwards.
    pub fn run_timers(&mut self, cx: &mut Cx) {
        if self.timers.delack <= cx.now {
            self.delack_timer(cx);
        }
        if self.timers.retransmit <= cx.now {
            self.timers.retransmit = Time::MAX;
            match self.timers.pending {
                XmitTimer::WindowProbe => self.probe_timer(cx),
                XmitTimer::Retransmit => self.retransmit_timer(cx),
                XmitTimer::LossProbe => self.loss_probe_timer(cx),
                XmitTimer::Reorder => self.reorder_timer(cx),
                XmitTimer::SynAck => self.synack_timer(cx),
            }
        }
        if self.timers.memory <= cx.now {
            self.timers.memory = Time::MAX;
            self.effects.wake_send |= self.user.wait_send;
        }
        if self.timers.pace <= cx.now {
            self.pace_timer(cx);
        }
        if self.timers.keepalive <= cx.now {
            self.timers.keepalive = Time::MAX;
            self.keepalive_timer(cx);
        }
    }

    /// `tcp_retransmit_timer`: RFC 6298 section 5.4 to 5.6.
    fn retransmit_timer(&mut self, cx: &mut Cx) {
        if self.tx.segments.is_empty() || self.state == State::Close {
            return;
        }
        if self.tx.snd_wnd == 0 && !matches!(self.state, State::SynSent | State::SynRecv) && !self.user.orphan {
            self.retransmit_into_zero_window(cx);
            return;
        }
        cx.count(Counter::TcpExtTCPTimeouts);
        if self.rtt.retransmits == 0 && !matches!(self.state, State::SynSent | State::SynRecv) {
            self.live.timeouts_since = Some(cx.now);
        }
        if self.user.orphan {
            let lively = self.rtt.backed_off() < RTO_MAX || !self.tried_for_long(cx);
            if self.out_of_resources(cx, lively) {
                return;
            }
        }
        let last = self.tried_for_long(cx);
        self.fast_open_timed_out(cx, last);
        if last {
            self.give_up(cx);
            return;
        }
        // The kernel gives the flow another hash, in case it leads by another path.
        cx.count(Counter::TcpExtTcpTimeoutRehash);
        self.loss.rto.rehash = self.loss.rto.rehash.wrapping_add(1);
        self.loss.rto.timed_out(self.rtt.retransmits, cx.now);
        self.count_timeout(cx);
        if !matches!(self.state, State::SynSent | State::SynRecv) {
            self.mtu_black_hole(cx, time_of_retries(cx.net.sysctl.tcp_retries1));
        }
        self.enter_loss(cx);
        self.retransmit_head(cx);
        if self.repeats_timeout(cx) {
            self.rtt.repeat();
        } else {
            self.rtt.back_off();
        }
        self.timers.pending = XmitTimer::Retransmit;
        let timeout = self.within_user_timeout(cx.now, self.live.timeouts_since, self.rtt.backed_off());
        self.timers.retransmit = expiry(cx.now, timeout);
    }

    /// A router has no way for what was sent again (`tcp_ld_RTO_revert`, RFC 6069 section 4.2): it is lost for another reason
    /// than congestion, and the last timeout has not doubled the next. What is due by that is sent at once.
    pub(super) fn revert_timeout(&mut self, cx: &mut Cx) {
        if self.rtt.retransmits == 0 || self.rtt.backoff == 0 || self.tx.segments.is_empty() {
            return;
        }
        self.rtt.revert();
        let oldest = self.tx.segments.front().map_or(cx.now, |head| head.sent_at);
        // In ticks, of which one that has begun has passed.
        let left = self.rtt.backed_off().saturating_sub((cx.now - oldest).next_multiple_of(JIFFY));
        self.timers.pending = XmitTimer::Retransmit;
        if left > 0 {
            self.timers.retransmit = expiry(cx.now, left);
        } else {
            self.timers.retransmit = Time::MAX;
            self.retransmit_timer(cx);
        }
    }

    /// The first SYNs follow each other at the initial timeout (`tcp_syn_linear_timeouts`), and a thin stream may time out
    /// some times without being taken for the cause of congestion (`tcp_stream_is_thin`).
    fn repeats_timeout(&self, cx: &Cx) -> bool {
        if self.state == State::SynSent {
            return self.rtt.retransmits < cx.net.sysctl.tcp_syn_linear_timeouts;
        }
        let thin = self.cong.packets_out < THIN_SEGMENTS && self.cong.ssthresh < u32::MAX;
        let wanted = cx.net.sysctl.tcp_thin_linear_timeouts != 0 && self.state == State::Established;
        wanted && thin && self.rtt.retransmits < THIN_LINEAR_RETRIES
    }

    /// The peer shrank its window under data in flight: the head is sent as a probe, until the peer has been silent for twice
    /// the longest timeout, or for as long as the user has patience since the first one (`tcp_rtx_probe0_timed_out`). It is no
    /// retransmission to be counted.
    fn retransmit_into_zero_window(&mut self, cx: &mut Cx) {
        let since = self.loss.retrans_stamp.map(|(_, at)| at);
        let dead = match self.live.user_timeout() {
            Some(_) => self.user_timed_out(cx.now, since),
            None => since.is_some_and(|since| cx.now - since.max(self.live.last_ack) > 2 * RTO_MAX),
        };
        if dead {
            self.give_up(cx);
            return;
        }
        self.enter_loss(cx);
        self.retransmit_head(cx);
        self.rtt.double();
        let since = self.loss.retrans_stamp.map(|(_, at)| at);
        self.timers.retransmit = expiry(cx.now, self.within_user_timeout(cx.now, since, self.rtt.backed_off()));
    }

    /// Nobody has answered for as long as the state allows (`tcp_write_timeout`): handshakes count their retransmissions,
    /// others look at the time since the first timeout (RFC 1122 section 4.2.3.5).
    fn tried_for_long(&self, cx: &Cx) -> bool {
        let retransmits = self.rtt.retransmits;
        let retries = match self.state {
            State::SynSent => {
                let Sysctls { tcp_syn_retries, tcp_syn_linear_timeouts, .. } = cx.net.sysctl;
                self.live.syn_retries.unwrap_or(tcp_syn_retries).saturating_add(tcp_syn_linear_timeouts)
            }
            State::SynRecv => self.live.syn_retries.unwrap_or(cx.net.sysctl.tcp_synack_retries),
            _ if self.user.orphan => self.orphan_retries(cx, self.rtt.backed_off()),
            _ => cx.net.sysctl.tcp_retries2,
        };
        let waited = self.live.timeouts_since.filter(|_| retransmits > 0).map(|since| cx.now - since);
        let user = self.live.user_timeout();
        if matches!(self.state, State::SynSent | State::SynRecv) {
            return retransmits >= retries || user.zip(waited).is_some_and(|(timeout, waited)| waited >= timeout);
        }
        waited.is_some_and(|waited| waited >= user.unwrap_or_else(|| time_of_retries(retries)))
    }

    /// As many as `tcp_orphan_retries` says; none once the timeout has grown to its most, if it says 0.
    fn orphan_retries(&self, cx: &Cx, timeout: u64) -> u8 {
        match cx.net.sysctl.tcp_orphan_retries {
            0 if timeout < RTO_MAX => ORPHAN_RETRIES,
            retries => retries,
        }
    }

    /// An orphan that is one too many, or for which there is no memory, is over (`tcp_out_of_resources`). It counts for more
    /// the less there is to be hoped for. True if it is over; its peer is told where that may hear it, or hear of it too late.
    fn out_of_resources(&mut self, cx: &mut Cx, lively: bool) -> bool {
        let silence = cx.now - self.tx.last_sent;
        let weight = u32::from(!lively || silence > 2 * RTO_MAX) + u32::from(self.user.error_soft.is_some());
        if !cx.tcp_memory.is_short_for(&cx.net.sysctl, self.rx.wmem_queued, weight) {
            return false;
        }
        cx.count(Counter::TcpExtTCPAbortOnMemory);
        let window_closed = self.tx.snd_wnd == 0 && self.tx.segments.is_empty();
        if lively || silence <= TIMEWAIT_LEN || window_closed {
            self.abort(cx);
        } else {
            self.done(cx);
        }
        true
    }

    /// `tcp_probe_timer`: RFC 9293 section 3.8.6.1.
    fn probe_timer(&mut self, cx: &mut Cx) {
        if !self.tx.segments.is_empty() || !self.send_end().after(self.tx.snd_nxt) {
            self.timers.pending = XmitTimer::Retransmit;
            self.arm_for_output(cx);
            return;
        }
        let since = *self.live.probing_since.get_or_insert(cx.now);
        let retries2 = cx.net.sysctl.tcp_retries2;
        // RFC 1122 section 4.2.2.17: for as long as the peer answers, its window may stay closed. An orphan is not put up
        // with beyond the longest timeout.
        let timeout = self.rtt.until_probe();
        let patience = if self.user.orphan { self.orphan_retries(cx, timeout) } else { retries2 };
        let tired = self.user.orphan && timeout >= RTO_MAX && self.rtt.backoff >= patience;
        if self.user.orphan && !tired && self.out_of_resources(cx, true) {
            return;
        }
        if tired || self.live.probes_out >= patience || self.user_timed_out(cx.now, Some(since)) {
            self.give_up(cx);
            return;
        }
        let sent = self.write_wakeup(cx);
        let still = self.tx.segments.is_empty();
        self.timers.pending = if still { XmitTimer::WindowProbe } else { XmitTimer::Retransmit };
        self.live.probes_out = if still { self.live.probes_out.saturating_add(1) } else { 0 };
        if !still {
            // It was no window that held it back, and it waits for its acknowledgement as if it had not waited before.
            (self.rtt.backoff, self.live.probing_since) = (0, None);
            self.timers.retransmit = expiry(cx.now, self.rtt.backed_off());
            return;
        }
        let timeout = if sent {
            if self.rtt.backoff < retries2 {
                self.rtt.backoff += 1;
            }
            self.rtt.until_probe()
        } else {
            // There was no memory: soon again.
            RESOURCE_PROBE_INTERVAL
        };
        self.timers.retransmit = expiry(cx.now, self.within_user_timeout(cx.now, Some(since), timeout));
    }
}

/// How long so many retransmissions take, from the first one to the timeout of the last (`model_timeout`).
fn time_of_retries(retries: u8) -> u64 {
    let doubled = (RTO_BASE << (1 + retries.min(DOUBLINGS))) - RTO_BASE;
    doubled + u64::from(retries.saturating_sub(DOUBLINGS)) * RTO_MAX
}

#[cfg(test)]
mod tests {
    use super::super::MS;
    use super::*;

    #[test]
    fn retries_take_as_long_as_the_kernels_documentation_says() {
        assert_eq!([0, 3, 8, 15].map(time_of_retries), [200, 3_000, 102_200, 924_600].map(|ms| ms * MS));
    }
}
