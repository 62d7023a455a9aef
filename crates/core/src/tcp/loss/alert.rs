//! The states from Open to Recovery, as acknowledgements drive them (`tcp_fastretrans_alert`).

use rxpath_trace::{Counter, Time};
use rxpath_wire::SeqNum;

use super::super::congestion::BbrAck;
use super::super::rate::Sample;
use super::super::{CaState, TcpSock};
use super::state::{AckSays, Prior, Resend};
use crate::cx::Cx;

/// Bit of `tcp_recovery`: D-SACKs do not widen the window of reordering (`TCP_RACK_STATIC_REO_WND`).
const STATIC_REO_WND: u8 = 2;

impl TcpSock {
    /// What follows for the window and for what is sent again, of an ACK that was found to say `says`; the rest of
    /// `tcp_ack`. `prior` is where the sender stood before it.
    pub(in super::super) fn congestion_on_ack(&mut self, cx: &mut Cx, prior: Prior, mut says: AckSays) {
        if cx.net.sysctl.tcp_recovery & STATIC_REO_WND == 0 {
            self.loss.rack.update_window(says.delivered_before, self.cong.delivered);
        }
        if self.loss.tlp_high_seq.is_some() {
            self.process_tlp_ack(cx, &says);
        }
        let alert = says.sacked || says.dsack || says.ece;
        let mut resend = Resend::Nothing;
        if !says.is_not_dup() || alert || self.cong.state != CaState::Open {
            let dupack = !says.advanced && !says.is_not_dup() && !says.dsack;
            self.fastretrans_alert(cx, prior.una, u32::from(dupack), &mut says, &mut resend);
        }
        if says.restarts_timer && self.cong.packets_out > 0 {
            self.set_xmit_timer(cx);
        }
        let delivered = self.cong.delivered.wrapping_sub(prior.delivered);
        let sample = self.rate_sample(cx.now, prior, &says);
        if self.cong.has_own_control() {
            self.bbr_on_ack(cx, prior, sample, says.rtt);
        } else if self.cong.state.is_reducing() {
            self.cong.reduce(delivered, self.cong.lost != prior.lost, says.advanced);
        } else if delivered > 0 && self.may_raise_cwnd(cx, &says) {
            self.cong.avoid(delivered, cx.now);
            self.cong.stamp = super::super::tick(cx.now);
        }
        self.update_pacing_rate(&cx.net.sysctl);
        self.xmit_recovery(cx, resend);
    }

    /// An ACK while nothing is in flight: it may tell that what was sent again came twice, and so answer a tail loss probe or
    /// prove a cut of the window a mistake.
    pub(in super::super) fn alert_without_flight(&mut self, cx: &mut Cx, prior: Prior, mut says: AckSays) {
        if says.dsack {
            self.fastretrans_alert(cx, prior.una, 0, &mut says, &mut Resend::Nothing);
        }
        if self.loss.tlp_high_seq.is_some() {
            self.process_tlp_ack(cx, &says);
        }
    }

    /// An ACK that was overtaken by another: its blocks may be new.
    pub(in super::super) fn alert_on_old_ack(&mut self, cx: &mut Cx, prior: Prior, mut says: AckSays) {
        let mut resend = Resend::Nothing;
        self.fastretrans_alert(cx, prior.una, 0, &mut says, &mut resend);
        self.xmit_recovery(cx, resend);
    }

    /// BBR sets window and rate, whatever the state (`tcp_cong_control`).
    fn bbr_on_ack(&mut self, cx: &mut Cx, prior: Prior, sample: Option<Sample>, rtt: Option<u64>) {
        let cong = &self.cong;
        let ack = BbrAck {
            now: cx.now,
            sample,
            rtt,
            delivered: cong.delivered.wrapping_sub(prior.delivered),
            lost: cong.lost.wrapping_sub(prior.lost),
            in_flight_before: prior.in_flight,
            in_flight: cong.in_flight(),
            delivered_in_all: cong.delivered,
            mss: u32::from(self.tx.mss),
            quantum: self.tso_segs(&cx.net.sysctl, u32::from(self.current_mss())),
            state: cong.state,
            random: cx.rng.next_u64() as u32,
        };
        self.cong.bbr_on_ack(&ack);
    }

    /// After reordering was seen, anything that makes progress raises the window (`tcp_may_raise_cwnd`).
    fn may_raise_cwnd(&self, cx: &Cx, says: &AckSays) -> bool {
        says.acked || (self.loss.reordering > cx.net.sysctl.tcp_reordering && (says.sacked || says.advanced))
    }

    fn fastretrans_alert(
        &mut self,
        cx: &mut Cx,
        prior_una: SeqNum,
        dupacks: u32,
        says: &mut AckSays,
        resend: &mut Resend,
    ) {
        if self.cong.packets_out == 0 {
            self.cong.sacked_out = 0;
        }
        if says.ece {
            // Whatever else is found to have been a mistake, the mark was none.
            self.cong.prior_ssthresh = 0;
        }
        if says.reneging && self.check_sack_reneging(cx, says) {
            return;
        }
        if self.cong.state == CaState::Open {
            self.loss.retrans_stamp = None;
        } else if !self.tx.snd_una.before(self.loss.high_seq) && self.leave_state(cx) {
            return;
        }
        match self.cong.state {
            CaState::Recovery => {
                if !says.advanced {
                    self.add_reno_sack(cx, dupacks);
                } else if self.try_undo_partial(cx, prior_una) {
                    return;
                }
                if self.try_undo_dsack(cx) {
                    self.try_to_open(says.ece);
                }
                self.identify_packet_loss(cx, says);
                if self.cong.state != CaState::Recovery {
                    if self.cong.lost_out == 0 {
                        return;
                    }
                    self.enter_recovery(cx, says.ece);
                }
            }
            state => {
                if state == CaState::Loss {
                    self.process_loss(cx, says, dupacks, resend);
                    if self.cong.state != CaState::Loss {
                        self.loss.rto.recovered(cx.now);
                    }
                    let again = self.identify_packet_loss(cx, says);
                    if self.cong.state != CaState::Open && !again {
                        return;
                    }
                } else {
                    if says.advanced {
                        self.reset_reno_sack();
                    }
                    self.add_reno_sack(cx, dupacks);
                    if self.cong.state <= CaState::Disorder {
                        self.try_undo_dsack(cx);
                    }
                    self.identify_packet_loss(cx, says);
                }
                if self.cong.lost_out == 0 {
                    self.try_to_open(says.ece);
                    return;
                }
                if self.tx.mtu.enabled && self.mtu_probe_lost(cx) {
                    return;
                }
                self.enter_recovery(cx, says.ece);
            }
        }
        *resend = Resend::Lost;
    }

    /// What was outstanding when this state began is acknowledged. True if nothing more is to be done.
    fn leave_state(&mut self, cx: &mut Cx) -> bool {
        match self.cong.state {
            CaState::Cwr if self.tx.snd_una != self.loss.high_seq => {
                self.end_cwnd_reduction(cx.now);
                self.cong.state = CaState::Open;
            }
            CaState::Recovery => {
                self.reset_reno_sack();
                if self.try_undo_recovery(cx) {
                    return true;
                }
                self.end_cwnd_reduction(cx.now);
            }
            _ => {}
        }
        false
    }

    /// The window is where the reduction was to take it, unless that was undone (`tcp_end_cwnd_reduction`).
    pub(super) fn end_cwnd_reduction(&mut self, now: Time) {
        if self.cong.has_own_control() {
            return;
        }
        let meant = self.cong.state == CaState::Cwr || self.loss.undo_marker.is_some();
        if self.cong.ssthresh < u32::MAX && meant {
            self.cong.cwnd = self.cong.ssthresh;
            self.cong.stamp = super::super::tick(now);
        }
    }

    /// Marks what is lost: by time with SACK, by the number of duplicate ACKs without (`tcp_identify_packet_loss`). True
    /// if what was sent again is lost again.
    fn identify_packet_loss(&mut self, cx: &Cx, says: &mut AckSays) -> bool {
        if self.tx.segments.is_empty() {
            return false;
        }
        if !self.opts.sack {
            self.newreno_mark_lost(cx, says.advanced);
            return false;
        }
        let before = self.cong.retrans_out;
        if self.rack_mark_lost(cx) {
            says.restarts_timer = false;
        }
        before > self.cong.retrans_out
    }

    /// The first hole, after three duplicate ACKs or, in recovery, an ACK that advances (RFC 6582 section 3.2).
    fn newreno_mark_lost(&mut self, cx: &Cx, advanced: bool) {
        let state = self.cong.state;
        let due = (state < CaState::Recovery && self.cong.sacked_out >= self.loss.reordering)
            || (state == CaState::Recovery && advanced);
        if !due || self.tx.segments.front().is_none_or(|head| head.lost) {
            return;
        }
        let mss = u32::from(self.current_mss());
        self.split_record(0, mss, mss);
        self.mark_lost(cx, 0);
    }

    /// A loss is proven (`tcp_enter_recovery`).
    pub(super) fn enter_recovery(&mut self, cx: &Cx, congested: bool) {
        cx.count(if self.opts.sack { Counter::TcpExtTCPSackRecovery } else { Counter::TcpExtTCPRenoRecovery });
        self.cong.prior_ssthresh = 0;
        self.init_undo();
        if !self.cong.state.is_reducing() {
            if !congested {
                self.cong.prior_ssthresh = self.cong.current_ssthresh();
            }
            self.init_cwnd_reduction();
        }
        self.cong.state = CaState::Recovery;
    }

    /// `tcp_init_cwnd_reduction`.
    pub(super) fn init_cwnd_reduction(&mut self) {
        self.loss.high_seq = self.tx.snd_nxt;
        self.loss.tlp_high_seq = None;
        self.cong.begin_reduction();
        self.ecn.queue_cwr();
    }

    /// Nothing proves a loss, but a mark may tell of congestion (`tcp_try_to_open`).
    fn try_to_open(&mut self, ece: bool) {
        if !self.any_retransmitted() {
            self.loss.retrans_stamp = None;
        }
        if ece {
            self.enter_cwr();
        }
        if self.cong.state != CaState::Cwr {
            self.try_keep_open();
        }
    }

    /// The window goes down in the round trip that begins, although nothing was lost.
    pub(in super::super) fn begin_cwr(&mut self) {
        self.loss.undo_marker = None;
        self.init_cwnd_reduction();
        self.cong.state = CaState::Cwr;
    }

    /// Open or, while something came out of order or was sent again, Disorder (`tcp_try_keep_open`).
    pub(super) fn try_keep_open(&mut self) {
        let disorder = self.cong.left_out() > 0 || self.any_retransmitted();
        let state = if disorder { CaState::Disorder } else { CaState::Open };
        if self.cong.state != state {
            self.cong.state = state;
            self.loss.high_seq = self.tx.snd_nxt;
        }
    }

    /// Something that is outstanding was sent again (`tcp_any_retrans_done`).
    pub(super) fn any_retransmitted(&self) -> bool {
        self.cong.retrans_out > 0 || self.tx.segments.front().is_some_and(|head| head.retransmitted)
    }

    // ---- without SACK: duplicate ACKs stand for what left the network ----

    /// Duplicate ACKs came (`tcp_add_reno_sack`).
    pub(super) fn add_reno_sack(&mut self, cx: &Cx, dupacks: u32) {
        if self.opts.sack || dupacks == 0 {
            return;
        }
        let before = self.cong.sacked_out;
        self.cong.sacked_out += dupacks;
        self.check_reno_reordering(cx, 0);
        self.cong.delivered = self.cong.delivered.wrapping_add(self.cong.sacked_out.saturating_sub(before));
    }

    /// `acked` segments were acknowledged: those that duplicate ACKs stood for are among them (`tcp_remove_reno_sacks`).
    pub(in super::super) fn remove_reno_sacks(&mut self, cx: &Cx, acked: u32) {
        if acked > 0 {
            let new = acked.saturating_sub(self.cong.sacked_out).max(1);
            self.cong.delivered = self.cong.delivered.wrapping_add(new);
            self.cong.sacked_out = self.cong.sacked_out.saturating_sub(acked - 1);
        }
        self.check_reno_reordering(cx, acked);
    }

    pub(super) fn reset_reno_sack(&mut self) {
        if !self.opts.sack {
            self.cong.sacked_out = 0;
        }
    }

    /// More duplicate ACKs than segments that could cause them: packets overtook one another
    /// (`tcp_check_reno_reordering`).
    fn check_reno_reordering(&mut self, cx: &Cx, addend: u32) {
        let holes = self.cong.lost_out.max(1).min(self.cong.packets_out);
        if self.cong.sacked_out + holes <= self.cong.packets_out {
            return;
        }
        self.cong.sacked_out = self.cong.packets_out - holes;
        self.loss.reordering = (self.cong.packets_out + addend).min(cx.net.sysctl.tcp_max_reordering);
        self.loss.reord_seen = self.loss.reord_seen.saturating_add(1);
        cx.count(Counter::TcpExtTCPRenoReorder);
    }
}
