//! Cuts of the window that were mistakes: by the timestamps that are echoed (Eifel, RFC 3522), or by D-SACKs for all that
//! was sent again (RFC 3708).

use rxpath_trace::{Counter, Time};
use rxpath_wire::SeqNum;

use super::super::{CaState, Loss, TcpSock};
use crate::cx::Cx;

impl Loss {
    /// When the first retransmission was does not matter any more.
    pub(in super::super) fn forget_retransmission(&mut self) {
        self.retrans_stamp = None;
    }

    /// Something is sent again now, when our clock for timestamps shows `tsval`: what is echoed from before answers the first copy.
    pub(in super::super) fn retransmits(&mut self, tsval: u32, now: Time) {
        self.retrans_stamp.get_or_insert((tsval, now));
    }
}

impl TcpSock {
    /// A new connection whose SYN-ACK was sent again on time-out; with timestamps, what the first one said and when.
    pub(in super::super) fn synacks_timed_out(&mut self, isn: SeqNum, first: Option<(u32, Time)>) {
        self.loss.undo_marker = Some(isn);
        self.loss.retrans_stamp = first;
    }

    /// The peer echoes the first SYN: it was sent again for nothing (`tcp_try_undo_spurious_syn`).
    pub(in super::super) fn try_undo_spurious_syn(&mut self, first: u32, stamps: Option<(u32, u32)>) {
        if stamps.is_some_and(|(_, tsecr)| tsecr == first) {
            self.loss.undo_marker = None;
        }
    }

    /// The same of a SYN-ACK.
    pub(in super::super) fn try_undo_spurious_synack(&mut self, stamps: Option<(u32, u32)>) {
        if let Some((first, _)) = self.loss.retrans_stamp.take() {
            self.try_undo_spurious_syn(first, stamps);
        }
    }

    /// SYNs or SYN-ACKs were lost, more than one, as far as is known.
    pub(in super::super) fn handshake_was_lossy(&self) -> bool {
        self.loss.total_retrans > 1 && self.loss.undo_marker.is_some()
    }

    /// From here on a cut may be undone (`tcp_init_undo`).
    pub(super) fn init_undo(&mut self) {
        self.loss.undo_marker = Some(self.tx.snd_una);
        // What is under way again may be told of by D-SACKs later; so may the tail loss probe.
        let probe = u32::from(self.loss.tlp_high_seq.is_some() && self.loss.tlp_retrans);
        self.loss.undo_retrans = Some(self.cong.retrans_out + probe).filter(|&count| count > 0);
    }

    /// The latest ACK echoes a timestamp from before anything was sent again: it answers the first copy
    /// (`tcp_packet_delayed`).
    fn packet_delayed(&self) -> bool {
        self.loss
            .retrans_stamp
            .zip(self.loss.last_tsecr)
            .is_some_and(|((stamp, _), tsecr)| tsecr != 0 && (tsecr.wrapping_sub(stamp) as i32) < 0)
    }

    fn may_undo(&self) -> bool {
        self.loss.undo_marker.is_some() && (self.loss.undo_retrans == Some(0) || self.packet_delayed())
    }

    fn undo_cwnd_reduction(&mut self, cx: &Cx, unmark: bool) {
        if unmark {
            for record in &mut self.tx.segments {
                record.lost = false;
            }
            self.cong.lost_out = 0;
        }
        if self.cong.prior_ssthresh > self.cong.ssthresh {
            self.ecn.withdraw_cwr();
        }
        self.cong.undo(cx.now);
        self.loss.undo_marker = None;
        self.loss.rack.advanced = true;
    }

    /// Recovery has come to its end (`tcp_try_undo_recovery`). True if it is not to be left yet: without SACK, ACKs for
    /// `high_seq` that are still under way would look like a new loss.
    pub(in super::super) fn try_undo_recovery(&mut self, cx: &Cx) -> bool {
        if self.may_undo() {
            let after_timeout = self.cong.state == CaState::Loss;
            self.undo_cwnd_reduction(cx, false);
            cx.count(if after_timeout { Counter::TcpExtTCPLossUndo } else { Counter::TcpExtTCPFullUndo });
        } else {
            self.loss.rack.recovered();
        }
        if self.holds_old_state() {
            return true;
        }
        self.cong.state = CaState::Open;
        false
    }

    /// `tcp_is_non_sack_preventing_reopen`.
    fn holds_old_state(&mut self) -> bool {
        let holds = self.tx.snd_una == self.loss.high_seq && !self.opts.sack;
        if holds && !self.any_retransmitted() {
            self.loss.retrans_stamp = None;
        }
        holds
    }

    /// All that was sent again came twice (`tcp_try_undo_dsack`).
    pub(super) fn try_undo_dsack(&mut self, cx: &Cx) -> bool {
        if self.loss.undo_marker.is_none() || self.loss.undo_retrans != Some(0) {
            return false;
        }
        self.loss.rack.mistaken();
        self.undo_cwnd_reduction(cx, false);
        cx.count(Counter::TcpExtTCPDSACKUndo);
        true
    }

    /// A hole in recovery was filled by the first copy (`tcp_try_undo_partial`). True if the rest of what was sent again
    /// is to be waited for.
    pub(super) fn try_undo_partial(&mut self, cx: &Cx, prior_una: SeqNum) -> bool {
        if self.loss.undo_marker.is_none() || !self.packet_delayed() {
            return false;
        }
        self.check_sack_reordering(cx, prior_una, true);
        if self.cong.retrans_out > 0 {
            return true;
        }
        if !self.any_retransmitted() {
            self.loss.retrans_stamp = None;
        }
        self.undo_cwnd_reduction(cx, true);
        cx.count(Counter::TcpExtTCPPartialUndo);
        self.try_keep_open();
        false
    }

    /// The timeout was a mistake (`tcp_try_undo_loss`).
    pub(super) fn try_undo_loss(&mut self, cx: &Cx, by_frto: bool) -> bool {
        if !by_frto && !self.may_undo() {
            return false;
        }
        self.undo_cwnd_reduction(cx, true);
        cx.count(Counter::TcpExtTCPLossUndo);
        if by_frto {
            cx.count(Counter::TcpExtTCPSpuriousRTOs);
        }
        self.rtt.retransmits = 0;
        if !self.holds_old_state() && (by_frto || self.opts.sack) {
            self.cong.state = CaState::Open;
        }
        true
    }
}
