//! After a retransmission timeout: everything in flight is lost, unless it turns out not to be (F-RTO, RFC 5682).

use rxpath_trace::{Counter, Time};

use super::super::{CaState, JIFFY, MS, TcpSock, XmitTimer, expiry};
use super::state::{AckSays, Resend};
use crate::cx::Cx;

impl TcpSock {
    /// Counts what the timeout ends (`tcp_retransmit_timer`).
    pub(in super::super) fn count_timeout(&self, cx: &Cx) {
        if self.rtt.retransmits > 0 {
            return;
        }
        let sack = self.opts.sack;
        let counter = match self.cong.state {
            CaState::Recovery if sack => Counter::TcpExtTCPSackRecoveryFail,
            CaState::Recovery => Counter::TcpExtTCPRenoRecoveryFail,
            CaState::Loss => Counter::TcpExtTCPLossFailures,
            CaState::Open | CaState::Cwr if self.cong.sacked_out == 0 => return,
            _ if sack => Counter::TcpExtTCPSackFailures,
            _ => Counter::TcpExtTCPRenoFailures,
        };
        cx.count(counter);
    }

    /// The retransmission timer fired (`tcp_enter_loss`).
    pub(in super::super) fn enter_loss(&mut self, cx: &Cx) {
        let state = self.cong.state;
        self.mark_all_lost(cx);
        let anew = state <= CaState::Disorder
            || !self.loss.high_seq.after(self.tx.snd_una)
            || (state == CaState::Loss && self.rtt.retransmits == 0);
        self.cong.collapse(anew, cx.now);
        if anew {
            self.init_undo();
        }
        self.cong.cwnd = self.cong.in_flight() + 1;
        let reordering = cx.net.sysctl.tcp_reordering;
        if state <= CaState::Disorder && self.cong.sacked_out >= reordering {
            self.loss.reordering = self.loss.reordering.min(reordering);
        }
        self.cong.state = CaState::Loss;
        self.loss.high_seq = self.tx.snd_nxt;
        self.loss.tlp_high_seq = None;
        self.ecn.queue_cwr();
        // A probe of the path's MTU may have been lost for its length: that is no mistake.
        let doubtful = state < CaState::Recovery || self.rtt.retransmits > 0;
        self.loss.frto = cx.net.sysctl.tcp_frto != 0 && doubtful && !self.tx.mtu.is_probing();
    }

    /// What was sent too short a time ago to be answered is not lost yet. If the oldest segment had been acknowledged
    /// selectively, the peer has forgotten what it promised, and all of that counts for nothing
    /// (`tcp_timeout_mark_lost`).
    fn mark_all_lost(&mut self, cx: &Cx) {
        let reneged = self.tx.segments.front().is_some_and(|head| head.sacked);
        if reneged {
            cx.count(Counter::TcpExtTCPSACKReneging);
            self.cong.sacked_out = 0;
        } else {
            self.reset_reno_sack();
        }
        for at in 0..self.tx.segments.len() {
            let record = &mut self.tx.segments[at];
            if reneged {
                record.sacked = false;
            } else if at > 0 && self.opts.sack {
                let record = *record;
                if !record.sacked && self.rack_time_left(cx.now, &record, 0).is_some() {
                    continue;
                }
            }
            self.mark_lost(cx, at);
        }
    }

    /// The oldest segment is acknowledged selectively although everything before it is acknowledged: that is soon taken
    /// for a promise not kept (`tcp_check_sack_reneging`). True if so.
    pub(super) fn check_sack_reneging(&mut self, cx: &Cx, says: &mut AckSays) -> bool {
        if !says.advanced {
            return false;
        }
        let delay = (self.rtt.srtt / 2).max(10 * MS).next_multiple_of(JIFFY);
        self.timers.retransmit = expiry(cx.now, delay);
        self.timers.pending = XmitTimer::Retransmit;
        says.restarts_timer = false;
        true
    }

    /// An ACK after a timeout (`tcp_process_loss`, RFC 5682 section 3.1).
    pub(super) fn process_loss(&mut self, cx: &mut Cx, says: &AckSays, dupacks: u32, resend: &mut Resend) {
        let recovered = !self.tx.snd_una.before(self.loss.high_seq);
        // What ends an early handshake advances nothing, but may answer the first SYN-ACK.
        if (says.advanced || self.request.is_some()) && self.try_undo_loss(cx, false) {
            return;
        }
        if self.loss.frto {
            // Step 3.b: something that was sent once has arrived.
            if says.original && self.try_undo_loss(cx, true) {
                return;
            }
            if self.tx.snd_nxt.after(self.loss.high_seq) {
                if says.sacked || dupacks > 0 {
                    // Step 3.a: the loss was real.
                    self.loss.frto = false;
                }
            } else if says.advanced && !recovered {
                // Step 2.b: new data tells.
                self.loss.high_seq = self.tx.snd_nxt;
                let window_open = (self.tx.snd_una + self.tx.snd_wnd).after(self.tx.snd_nxt);
                if self.send_end().after(self.tx.snd_nxt) && window_open {
                    *resend = Resend::New;
                    return;
                }
                self.loss.frto = false;
            }
        }
        if recovered {
            self.try_undo_recovery(cx);
            return;
        }
        if !self.opts.sack {
            if self.tx.snd_nxt.after(self.loss.high_seq) && dupacks > 0 {
                self.add_reno_sack(cx, dupacks);
            } else if says.advanced {
                self.reset_reno_sack();
            }
        }
        *resend = Resend::Lost;
    }

    /// Sends what an ACK has shown to be due (`tcp_xmit_recovery`).
    pub(super) fn xmit_recovery(&mut self, cx: &mut Cx, resend: Resend) {
        if resend == Resend::Nothing {
            return;
        }
        if resend == Resend::New {
            self.push_fin(cx);
            if self.tx.snd_nxt.after(self.loss.high_seq) {
                return;
            }
            self.loss.frto = false;
        }
        self.xmit_retransmit_queue(cx);
    }

    /// The retransmission timer from now on: a tail loss probe first, where one makes sense (`tcp_set_xmit_timer`).
    pub(super) fn set_xmit_timer(&mut self, cx: &Cx) {
        if !self.schedule_loss_probe(cx, true) {
            self.rearm_rto(cx);
        }
    }

    /// Time until the timeout of the oldest segment (`tcp_rto_delta_us`); 0 if it has passed.
    pub(super) fn rto_left(&self, now: Time) -> u64 {
        let head = self.tx.segments.front().map_or(now, |head| head.sent_at);
        (head.0 + self.rtt.backed_off()).saturating_sub(now.0)
    }
}
