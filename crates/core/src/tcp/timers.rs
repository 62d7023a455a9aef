//! What the timers of a socket do when their deadline has come.

use rxpath_trace::{Counter, Time};

use super::{RTO_MAX, State, TcpSock, XmitTimer, expiry};
use crate::cx::Cx;

/// Retransmissions of an orphan's data before it is given up (`tcp_orphan_retries` 0 means 8).
const ORPHAN_RETRIES: u8 = 8;

/// How soon a probe that found no memory is tried again.
const RESOURCE_PROBE_INTERVAL: u64 = 500 * super::MS;

/// SYNs that are sent again without doubling the timeout.
const SYN_LINEAR_TIMEOUTS: u8 = 4;

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
            }
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
        let since = self.first_retransmission();
        if self.rtt.retransmits >= self.retries(cx) || (self.rtt.retransmits > 0 && self.user_timed_out(cx.now, since))
        {
            self.give_up(cx);
            return;
        }
        cx.count(Counter::TcpExtTCPTimeouts);
        if matches!(self.state, State::SynSent | State::SynRecv) {
            cx.count(Counter::TcpExtTCPSynRetrans);
        }
        self.count_timeout(cx);
        self.enter_loss(cx);
        self.retransmit_head(cx);
        self.rtt.back_off();
        self.timers.pending = XmitTimer::Retransmit;
        let timeout = if self.state == State::SynSent { self.syn_timeout() } else { self.rtt.backed_off() };
        let timeout = self.within_user_timeout(cx.now, self.first_retransmission(), timeout);
        self.timers.retransmit = expiry(cx.now, timeout);
    }

    /// The first SYNs follow each other at the initial timeout, then the distance doubles (`tcp_syn_linear_timeouts`).
    fn syn_timeout(&self) -> u64 {
        let doublings = self.rtt.retransmits.saturating_sub(SYN_LINEAR_TIMEOUTS);
        (self.rtt.rto << doublings.min(7)).min(RTO_MAX)
    }

    /// The peer shrank its window under data in flight: the head is sent as a probe, for as long as the peer answers.
    fn retransmit_into_zero_window(&mut self, cx: &mut Cx) {
        let silent = cx.now - self.ack.last_rcv.max(self.tx.last_sent);
        if self.rtt.retransmits > 0 && silent > RTO_MAX {
            self.give_up(cx);
            return;
        }
        self.enter_loss(cx);
        self.retransmit_head(cx);
        self.rtt.back_off();
        self.timers.retransmit = expiry(cx.now, self.rtt.backed_off());
    }

    /// How often the state allows to retransmit.
    fn retries(&self, cx: &Cx) -> u8 {
        match self.state {
            State::SynSent => {
                self.live.syn_retries.unwrap_or(cx.net.sysctl.tcp_syn_retries).saturating_add(SYN_LINEAR_TIMEOUTS)
            }
            State::SynRecv => self.live.syn_retries.unwrap_or(cx.net.sysctl.tcp_synack_retries),
            _ if self.user.orphan => ORPHAN_RETRIES,
            _ => cx.net.sysctl.tcp_retries2,
        }
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
        let patience = if self.user.orphan { ORPHAN_RETRIES } else { retries2 };
        let tired = self.user.orphan && self.rtt.backed_off() >= RTO_MAX;
        if tired || self.live.probes_out >= patience || self.user_timed_out(cx.now, Some(since)) {
            self.give_up(cx);
            return;
        }
        let sent = self.write_wakeup(cx);
        let still = self.tx.segments.is_empty();
        self.timers.pending = if still { XmitTimer::WindowProbe } else { XmitTimer::Retransmit };
        self.live.probes_out = if still { self.live.probes_out.saturating_add(1) } else { 0 };
        let timeout = if sent || !still {
            if self.rtt.backoff < retries2 {
                self.rtt.backoff += 1;
            }
            self.rtt.backed_off().max(self.rtt.rto_min)
        } else {
            // There was no memory: soon again.
            RESOURCE_PROBE_INTERVAL
        };
        self.timers.retransmit = expiry(cx.now, self.within_user_timeout(cx.now, Some(since), timeout));
    }
}
