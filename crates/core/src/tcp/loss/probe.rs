//! Tail loss probes (RFC 8985 section 7): when the last segments of a flight are lost nothing tells of it but a timeout;
//! so one segment more is sent after two round trips.

use rxpath_trace::Counter;

use super::super::{CaState, JIFFY, MS, RTO_INITIAL, TcpSock, XmitTimer, expiry};
use super::state::AckSays;
use crate::cx::Cx;

impl TcpSock {
    /// Arms the probe's timer in the place of the retransmission timer (`tcp_schedule_loss_probe`). With `advancing`,
    /// the timeout would start anew, too. False where a probe makes no sense.
    pub(in super::super) fn schedule_loss_probe(&mut self, cx: &Cx, advancing: bool) -> bool {
        let eligible = self.opts.sack
            && cx.net.sysctl.tcp_early_retrans >= 3
            && self.cong.packets_out > 0
            && matches!(self.cong.state, CaState::Open | CaState::Cwr)
            && self.cong.sacked_out == 0
            && self.timers.pending != XmitTimer::SynAck;
        if !eligible {
            return false;
        }
        let timeout = match self.rtt.srtt {
            0 => RTO_INITIAL,
            // The peer may delay its ACK of a single segment.
            srtt if self.cong.packets_out == 1 => 2 * srtt + self.rtt.rto_min,
            srtt => 2 * srtt + 2 * MS,
        };
        let mut timeout = timeout.next_multiple_of(JIFFY);
        let rto = if advancing { self.rtt.backed_off() } else { self.rto_left(cx.now) };
        if rto > 0 {
            timeout = timeout.min(rto.next_multiple_of(JIFFY));
        }
        self.timers.pending = XmitTimer::LossProbe;
        self.timers.retransmit = expiry(cx.now, timeout);
        true
    }

    /// The timer fired: new data if there is any and the peer takes it, or else the last segment again
    /// (`tcp_send_loss_probe`). Only one probe is under way.
    pub(in super::super) fn loss_probe_timer(&mut self, cx: &mut Cx) {
        self.timers.pending = XmitTimer::Retransmit;
        let mut sent = false;
        if self.loss.tlp_high_seq.is_none() && !self.tx.segments.is_empty() {
            self.loss.tlp_retrans = false;
            sent = if self.probe_is_new() { self.send_probe(cx) } else { self.resend_tail(cx) };
            if sent {
                self.loss.tlp_high_seq = Some(self.tx.snd_nxt);
                cx.count(Counter::TcpExtTCPLossProbes);
            }
        }
        // The timeout has its time from the probe on; without one it was only put off.
        self.arm_rto(cx, !sent);
    }

    /// The next segment, or the FIN, fits the peer's window.
    fn probe_is_new(&self) -> bool {
        let len = match self.tx.queue.front() {
            Some(packet) => packet.len.min(u32::from(self.current_mss())),
            None => u32::from(self.fin_follows()),
        };
        len > 0 && (self.tx.snd_nxt + len).at_or_before(self.tx.snd_una + self.tx.snd_wnd)
    }

    fn resend_tail(&mut self, cx: &mut Cx) -> bool {
        let Some(last) = self.tx.segments.len().checked_sub(1) else { return false };
        let mss = u32::from(self.current_mss());
        let record = self.tx.segments[last];
        let mut at = last;
        if record.pcount > 1 && record.len() > (record.pcount - 1) * mss {
            self.split_record(last, (record.pcount - 1) * mss, mss);
            at = self.tx.segments.len() - 1;
        }
        // It is no repair: nothing is known to be lost.
        let sent = self.retransmit_once(cx, at, 1);
        self.loss.tlp_retrans = sent;
        sent
    }

    /// An ACK while a probe is under way (`tcp_process_tlp_ack`, RFC 8985 section 7.4.2).
    pub(super) fn process_tlp_ack(&mut self, cx: &Cx, says: &AckSays) {
        let Some(high_seq) = self.loss.tlp_high_seq else { return };
        let ack = self.tx.snd_una;
        if ack.before(high_seq) {
            return;
        }
        if !self.loss.tlp_retrans || says.dsack_of_probe {
            // It was new data, or came twice: nothing was lost.
            self.loss.tlp_high_seq = None;
        } else if ack.after(high_seq) {
            // Nothing came twice, so the probe has repaired a loss: the window is cut for it.
            self.init_cwnd_reduction();
            self.cong.state = CaState::Cwr;
            self.end_cwnd_reduction(cx.now);
            self.try_keep_open();
            cx.count(Counter::TcpExtTCPLossProbeRecovery);
        } else if !(says.advanced || says.is_not_dup() || says.sacked) {
            // A duplicate ACK: both copies arrived.
            self.loss.tlp_high_seq = None;
        }
    }
}
