//! What an acknowledgement does to the sender (`tcp_ack`).

use rxpath_trace::{Counter, DropReason, EventKind, PacketId, Time};
use rxpath_wire::SeqNum;

use super::{MS, Segment, TcpSock, expiry};
use crate::cx::Cx;

/// What an acceptable ACK was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// Nothing wrong; new data may have been acknowledged.
    Fine,
    /// Older than what was acknowledged before, within what the peer may still send.
    Old,
}

impl TcpSock {
    /// Takes the acknowledgement of `seg`. `slow` is false on the predicted path, where the window cannot have changed.
    ///
    /// # Errors
    /// The reason for which the whole segment must be dropped; the challenge ACK is not sent here.
    #[inline]
    pub fn tcp_ack(&mut self, cx: &mut Cx, seg: &Segment, tsecr: Option<u32>, slow: bool) -> Result<Acked, DropReason> {
        let prior_una = self.tx.snd_una;
        if seg.ack.before(prior_una) {
            let acked = (prior_una - self.tx.first_una).max(0) as u32;
            let oldest = prior_una - self.tx.max_window.min(acked);
            // RFC 5961 section 5.2.
            return if seg.ack.before(oldest) { Err(DropReason::TcpTooOldAck) } else { Ok(Acked::Old) };
        }
        if seg.ack.after(self.tx.snd_nxt) {
            return Err(DropReason::TcpAckUnsentData);
        }
        let window_before = self.tx.snd_wnd;
        let advanced = seg.ack.after(prior_una);
        if !slow && advanced {
            cx.count(Counter::TcpExtTCPHPAcks);
        } else if seg.end_seq == seg.seq {
            cx.count(Counter::TcpExtTCPPureAcks);
        }
        // Predicted or not, a repetition makes no segment the last word on the window that an earlier one outruns.
        if slow || !advanced {
            self.ack_update_window(seg);
        } else {
            self.tx.snd_wl1 = seg.seq;
        }
        self.tx.snd_una = seg.ack;
        if advanced {
            self.rtt.retransmits = 0;
            let acked = (seg.ack - prior_una) as u32;
            cx.effect(EventKind::AckTaken, acked, self.tx.snd_wnd, PacketId::NONE);
        }
        if self.tx.segments.is_empty() {
            self.ack_probe(cx);
            return Ok(Acked::Fine);
        }
        // Forward progress proves that the next hop takes what we send (`dst_confirm`).
        self.route.confirm |= advanced;
        let dupack = !advanced && seg.len == 0 && window_before == self.tx.snd_wnd && !seg.flags.fin();
        let acked = if advanced { self.clean_rtx_queue(cx, tsecr) } else { 0 };
        if acked > 0 || dupack || self.cong.state != super::recovery::CaState::Open {
            self.congestion_on_ack(cx, acked, dupack);
        }
        Ok(Acked::Fine)
    }

    /// RFC 9293 section 3.10.7.4, fifth check, with Linux's exceptions (`tcp_ack_update_window`).
    fn ack_update_window(&mut self, seg: &Segment) {
        let window = u32::from(seg.window) << self.opts.snd_wscale;
        let newer = seg.ack.after(self.tx.snd_una)
            || seg.seq.after(self.tx.snd_wl1)
            || (seg.seq == self.tx.snd_wl1 && (window > self.tx.snd_wnd || window == 0));
        if !newer {
            return;
        }
        self.tx.snd_wl1 = seg.seq;
        if self.tx.snd_wnd != window {
            self.tx.snd_wnd = window;
            self.pred_flags = 0;
            self.fast_path_check();
            self.tx.max_window = self.tx.max_window.max(window);
        }
    }

    /// Forgets what was acknowledged, samples the round-trip time, re-arms the timer; gives the segments acknowledged
    /// (`tcp_clean_rtx_queue`). Part of a single segment is as good as nothing.
    fn clean_rtx_queue(&mut self, cx: &mut Cx, tsecr: Option<u32>) -> u32 {
        let una = self.tx.snd_una;
        let mut acked = 0;
        let (mut first, mut last) = (None, None);
        let mut retransmitted = false;
        while let Some(segment) = self.tx.segments.front_mut() {
            let whole = segment.end_seq.at_or_before(una);
            let mut pcount = u32::from(segment.pcount);
            if !whole {
                if segment.pcount == 1 || una.at_or_before(segment.seq) {
                    break;
                }
                self.rx.uncharge_output(segment.trim(una, self.tx.mss));
                pcount -= u32::from(segment.pcount);
                if pcount == 0 {
                    break;
                }
            }
            acked += pcount;
            self.cong.packets_out = self.cong.packets_out.saturating_sub(pcount);
            if segment.lost {
                self.cong.lost_out = self.cong.lost_out.saturating_sub(pcount);
            }
            retransmitted |= segment.retransmitted;
            if !segment.retransmitted {
                first.get_or_insert(segment.sent_at);
                last = Some(segment.sent_at);
            }
            if !whole {
                break;
            }
            let charge = segment.charge;
            self.rx.uncharge_output(charge);
            self.tx.segments.pop_front();
        }
        let end = una.min(self.tx.write_seq);
        let bytes = (end - self.tx.buffer_seq).max(0) as usize;
        self.tx.buffer.advance(bytes);
        self.tx.buffer_seq += bytes as u32;
        if acked > 0 {
            cx.count_n(Counter::TcpExtTCPDelivered, u64::from(acked));
            let sent = first.zip(last).filter(|_| !retransmitted);
            self.ack_update_rtt(cx.now, sent, tsecr);
            self.timers.retransmit = Time::MAX;
            self.arm_for_output(cx);
        }
        self.write_space();
        acked
    }

    /// From the segments' own times where they were sent once (Karn), else from the echoed timestamp. The oldest segment
    /// that was acknowledged tells how long to wait for the next, the youngest how far the peer is.
    fn ack_update_rtt(&mut self, now: Time, sent: Option<(Time, Time)>, tsecr: Option<u32>) {
        let (rtt, least) = match (sent, tsecr) {
            (Some((first, last)), _) => (now - first, now - last),
            (None, Some(tsecr)) if tsecr != 0 => {
                let elapsed_ms = super::isn::tsval(now, self.tx.ts_offset).wrapping_sub(tsecr);
                if elapsed_ms > 120_000 {
                    return;
                }
                let rtt = u64::from(elapsed_ms.max(1)) * MS;
                (rtt, rtt)
            }
            _ => return,
        };
        self.rtt.note_least(least);
        self.rtt.sample(rtt, self.tx.snd_una, self.tx.snd_nxt);
    }

    /// Nothing was in flight: the window of the peer may have opened (`tcp_ack_probe`).
    fn ack_probe(&mut self, cx: &Cx) {
        if !self.timers.probing {
            return;
        }
        let needed = self.tx.snd_nxt + (self.send_end() - self.tx.snd_nxt).clamp(0, i32::from(self.tx.mss)) as u32;
        if needed.at_or_before(self.tx.snd_una + self.tx.snd_wnd) {
            self.rtt.backoff = 0;
            self.timers.probing = false;
            self.timers.retransmit = Time::MAX;
        } else {
            self.timers.retransmit = expiry(cx.now, self.rtt.backed_off().max(self.rtt.rto_min));
        }
    }

    /// Room in the send buffer: grow it with the congestion window, wake the writer (`tcp_new_space`).
    pub(super) fn write_space(&mut self) {
        if self.user.wait_send && self.send_room() * 3 >= self.tx.sndbuf {
            self.effects.wake_send = true;
        }
    }

    /// Twice the congestion window, within `tcp_wmem` (`tcp_sndbuf_expand`).
    pub(super) fn expand_sndbuf(&mut self, wmem_max: u32) {
        let wanted = self.cong.cwnd as usize * usize::from(self.tx.mss) * 2;
        self.tx.sndbuf = self.tx.sndbuf.max(wanted.min(wmem_max as usize));
    }

    /// `tcp_replace_ts_recent`: only a segment that covers the last ACK's edge updates the echo (RFC 7323 section 4.3).
    #[inline]
    pub(super) fn replace_ts_recent(&mut self, now: Time, tsval: u32, seq: SeqNum) {
        if seq.at_or_before(self.rx.rcv_wup) {
            let newer = tsval.wrapping_sub(self.opts.ts_recent) as i32 >= 0;
            let expired = self.ts_recent_expired(now);
            if newer || expired || self.opts.ts_recent == 0 {
                self.store_ts_recent(now, tsval);
            }
        }
    }

    /// Remembers a timestamp for the echo.
    #[inline]
    pub(super) fn store_ts_recent(&mut self, now: Time, tsval: u32) {
        self.opts.ts_recent = tsval;
        self.opts.ts_recent_stamp = now.0 / 1_000_000_000 + 1;
    }

    /// After 24 days the remembered timestamp proves nothing (RFC 7323 section 5.5).
    pub(super) fn ts_recent_expired(&self, now: Time) -> bool {
        const PAWS_24DAYS: u64 = 60 * 60 * 24 * 24;
        now.0 / 1_000_000_000 + 1 >= self.opts.ts_recent_stamp + PAWS_24DAYS
    }
}
