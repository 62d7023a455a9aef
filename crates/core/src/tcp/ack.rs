//! What an acknowledgement does to the sender (`tcp_ack`).

use rxpath_trace::{Counter, DropReason, EventKind, PacketId, Time};
use rxpath_wire::{SeqNum, TcpOptions};

use super::chrono::Held;
use super::loss::{AckSays, Prior};
use super::{MS, Segment, SentSegment, TcpSock, XmitTimer, expiry};
use crate::cx::Cx;

/// What an acceptable ACK was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// Nothing wrong; new data may have been acknowledged.
    Fine,
    /// Older than what was acknowledged before, within what the peer may still send.
    Old,
}

/// What a segment's options say to the sender.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The timestamp of ours that it echoes.
    pub tsecr: Option<u32>,
    /// Its selective acknowledgements.
    pub sack: &'a [(SeqNum, SeqNum)],
}

impl TcpSock {
    /// What the options of a segment say to the sender, as far as it was agreed.
    pub(super) fn heard<'a>(&self, options: &'a TcpOptions) -> Heard<'a> {
        let tsecr = options.timestamps.filter(|_| self.opts.timestamps).map(|(_, tsecr)| tsecr);
        Heard { tsecr, sack: if self.opts.sack { options.sack_blocks() } else { &[] } }
    }

    /// As [`TcpSock::heard`], of a segment that was predicted: it has timestamps or nothing.
    #[inline(always)]
    pub(super) fn predicted(&self, tsecr: u32) -> Heard<'static> {
        Heard { tsecr: self.opts.timestamps.then_some(tsecr), sack: &[] }
    }

    /// Takes the acknowledgement of `seg`. `slow` is false on the predicted path, where the window cannot have changed.
    ///
    /// # Errors
    /// The reason for which the whole segment must be dropped; the challenge ACK is not sent here.
    #[inline]
    pub fn tcp_ack(&mut self, cx: &mut Cx, seg: &Segment, heard: Heard<'_>, slow: bool) -> Result<Acked, DropReason> {
        let cong = &self.cong;
        let prior =
            Prior { una: self.tx.snd_una, delivered: cong.delivered, lost: cong.lost, in_flight: cong.in_flight() };
        if seg.ack.before(prior.una) {
            let acked = (prior.una - self.tx.first_una).max(0) as u32;
            let oldest = prior.una - self.tx.max_window.min(acked);
            // RFC 5961 section 5.2.
            if seg.ack.before(oldest) {
                return Err(DropReason::TcpTooOldAck);
            }
            if !heard.sack.is_empty() {
                self.old_ack(cx, seg, &heard, prior);
            }
            return Ok(Acked::Old);
        }
        if seg.ack.after(self.tx.snd_nxt) {
            return Err(DropReason::TcpAckUnsentData);
        }
        let advanced = seg.ack.after(prior.una);
        let data = seg.end_seq != seg.seq;
        if !slow && advanced {
            cx.count(Counter::TcpExtTCPHPAcks);
        } else if !data {
            cx.count(Counter::TcpExtTCPPureAcks);
        }
        let ece = slow && self.ecn.echoed(seg.flags);
        let mut says = AckSays { data, advanced, ece, ..AckSays::new(self.tx.snd_nxt) };
        // Predicted or not, a repetition makes no segment the last word on the window that an earlier one outruns.
        if slow || !advanced {
            says.window = self.ack_update_window(cx, seg);
        } else {
            self.tx.snd_wl1 = seg.seq;
        }
        // Before this ACK moves it: what is acknowledged in order overtook nothing.
        let high_sack = self.high_sack();
        self.tx.snd_una = seg.ack;
        self.loss.last_tsecr = heard.tsecr;
        self.live.last_ack = cx.now;
        self.live.probes_out = 0;
        if self.user.error_soft.is_some() {
            // Something gets through.
            self.user.error_soft = None;
        }
        if advanced {
            self.rtt.retransmits = 0;
            let acked = (seg.ack - prior.una) as u32;
            // Of who answered the SYN, its own counts for nothing.
            let from = if prior.una.before(self.tx.first_una) { self.tx.first_una } else { prior.una };
            self.tx.bytes_acked += (seg.ack - from).max(0) as u64;
            cx.effect(EventKind::AckTaken, acked, self.tx.snd_wnd, PacketId::NONE);
        }
        if self.tx.snd_up.is_some_and(|up| !up.after(seg.ack)) {
            self.tx.snd_up = None;
        }
        if !heard.sack.is_empty() {
            self.sacktag_write_queue(cx, heard.sack, seg.ack, prior.una, &mut says);
        }
        // Forward progress proves that the next hop takes what we send (`sk_dst_confirm`): that of our SYN-ACK, too.
        self.route.confirm |= advanced;
        if self.tx.segments.is_empty() {
            self.ack_probe(cx);
            self.alert_without_flight(cx, prior, says);
            self.count_delivered(cx, prior, ece);
            return Ok(Acked::Fine);
        }
        if advanced || says.sack_sent.is_some() {
            self.clean_rtx_queue(cx, heard.tsecr, high_sack, &mut says);
        }
        self.congestion_on_ack(cx, prior, says);
        self.count_delivered(cx, prior, ece);
        Ok(Acked::Fine)
    }

    /// An old acknowledgement may still bring selective ones that are new. They tell of losses; the window stays as it is, and
    /// nobody counts what they delivered.
    #[cold]
    fn old_ack(&mut self, cx: &mut Cx, seg: &Segment, heard: &Heard<'_>, prior: Prior) {
        let mut says = AckSays { data: seg.end_seq != seg.seq, ..AckSays::new(self.tx.snd_nxt) };
        self.sacktag_write_queue(cx, heard.sack, seg.ack, prior.una, &mut says);
        self.alert_on_old_ack(cx, prior, says);
    }

    #[inline]
    fn count_delivered(&mut self, cx: &Cx, prior: Prior, ece: bool) {
        let delivered = self.cong.delivered.wrapping_sub(prior.delivered);
        if delivered > 0 {
            cx.count_n(Counter::TcpExtTCPDelivered, u64::from(delivered));
            if ece {
                self.cong.delivered_ce = self.cong.delivered_ce.wrapping_add(delivered);
                cx.count_n(Counter::TcpExtTCPDeliveredCE, u64::from(delivered));
            }
        }
    }

    /// The window that a segment offers, in bytes: that of a SYN is never scaled (RFC 7323 section 2.2). The kernel scales
    /// it where the SYN-ACK ends a simultaneous open, and then sends more than the peer has room for.
    #[inline]
    pub(super) fn window_of(&self, seg: &Segment) -> u32 {
        if seg.flags.syn() { u32::from(seg.window) } else { u32::from(seg.window) << self.opts.snd_wscale }
    }

    /// Whether a segment that acknowledges nothing older has the last word on the window, if it is `window` bytes: it is newer
    /// than what had it, or as new and has more room, or none (RFC 9293 section 3.10.7.4, fifth check, with Linux's
    /// exceptions, `tcp_may_update_window`).
    pub(super) fn may_update_window(&self, seg: &Segment, window: u32) -> bool {
        seg.ack.after(self.tx.snd_una)
            || seg.seq.after(self.tx.snd_wl1)
            || (seg.seq == self.tx.snd_wl1 && (window > self.tx.snd_wnd || window == 0))
    }

    /// Takes the window of a segment that has a say in it; gives whether it had (`tcp_ack_update_window`).
    fn ack_update_window(&mut self, cx: &Cx, seg: &Segment) -> bool {
        let window = self.window_of(seg);
        if !self.may_update_window(seg, window) {
            return false;
        }
        self.tx.snd_wl1 = seg.seq;
        if self.tx.snd_wnd != window {
            self.tx.snd_wnd = window;
            self.pred_flags = 0;
            self.fast_path_check();
            if self.send_end().after(self.tx.snd_nxt) {
                self.slow_start_after_idle(TcpSock::restart(cx));
            }
            if window > self.tx.max_window {
                self.max_window_grows(window);
            }
        }
        true
    }

    /// Forgets what was acknowledged and samples the round-trip time (`tcp_clean_rtx_queue`). Part of a single segment is
    /// as good as nothing. `high_sack` is where the farthest selective acknowledgement ended before this one.
    fn clean_rtx_queue(&mut self, cx: &mut Cx, tsecr: Option<u32>, high_sack: SeqNum, says: &mut AckSays) {
        let una = self.tx.snd_una;
        let (mut acked, mut reordered) = (0, self.tx.snd_nxt);
        let mut sent = None;
        while let Some(segment) = self.tx.segments.front().copied() {
            let mut segment = segment;
            let whole = segment.end_seq.at_or_before(una);
            // Of a record that is acknowledged in parts, all that was left of it counts as overtaken.
            let first = segment.seq;
            let mut charge = segment.charge;
            let mut pcount = segment.pcount;
            if !whole {
                if segment.pcount == 1 || una.at_or_before(segment.seq) {
                    break;
                }
                charge = segment.trim(una);
                pcount -= segment.pcount;
                if let Some(front) = self.tx.segments.front_mut() {
                    *front = segment;
                }
                if pcount == 0 {
                    self.rx.uncharge_output(charge);
                    break;
                }
            }
            if segment.syn {
                // That it was sent again is nothing that could be undone.
                self.loss.forget_retransmission();
            }
            acked += pcount;
            self.forget_segment(cx.now, &segment, pcount, says);
            if !segment.retransmitted && !segment.sacked {
                let (oldest, _) = sent.unwrap_or((segment.sent_at, segment.sent_at));
                sent = Some((oldest, segment.sent_at));
                says.original |= !segment.end_seq.after(self.loss.high_seq);
                if first.before(reordered) {
                    reordered = first;
                }
            }
            self.rx.uncharge_output(charge);
            if !whole {
                break;
            }
            self.tx.segments.pop_front();
        }
        let end = una.min(self.tx.write_seq);
        let bytes = (end - self.tx.buffer_seq).max(0) as usize;
        self.tx.buffer.advance(bytes);
        self.tx.buffer_seq += bytes as u32;
        says.reneging = self.tx.segments.front().is_some_and(|head| head.sacked);
        let measured = self.ack_update_rtt(cx, sent.filter(|_| !says.retransmitted), tsecr, acked, says);
        if acked > 0 {
            if self.tx.mtu.enabled {
                self.mtu_probe_acked(cx);
            }
            says.acked = true;
            says.restarts_timer = true;
            if !self.opts.sack {
                self.remove_reno_sacks(cx, acked);
                if says.retransmitted {
                    says.original = false;
                }
            } else if reordered.before(high_sack) {
                self.check_sack_reordering(cx, reordered, false);
            }
            if self.tx.segments.is_empty() {
                // Copies that were sent again before they were lost have counted until now.
                self.cong.retrans_out = 0;
                self.tx.chrono.stop(Held::ByNothing, self.tx.queue.is_empty(), cx.now);
                self.timers.retransmit = Time::MAX;
                self.arm_for_output(cx);
            }
        } else if measured && let (Some(head), Some((first, _))) = (self.tx.segments.front(), says.sack_sent) {
            // What was sent after the oldest segment has arrived: that one has waited long enough for its own answer.
            says.restarts_timer = head.sent_at > first;
        }
        self.write_space(cx);
    }

    /// Takes a segment, or `pcount` of it, off the sums of what is in flight.
    fn forget_segment(&mut self, now: Time, segment: &SentSegment, pcount: u32, says: &mut AckSays) {
        let cong = &mut self.cong;
        cong.packets_out = cong.packets_out.saturating_sub(pcount);
        if segment.lost {
            cong.lost_out = cong.lost_out.saturating_sub(pcount);
        }
        if segment.retrans {
            cong.retrans_out = cong.retrans_out.saturating_sub(pcount);
        }
        // Also what was acknowledged selectively long ago: nobody tells which of its copies this answers.
        says.retransmitted |= segment.retransmitted;
        if segment.sacked {
            cong.sacked_out = cong.sacked_out.saturating_sub(pcount);
            return;
        }
        cong.rate.delivered(segment.stamp, segment.sent_at, segment.end_seq, &mut says.newest);
        if self.opts.sack {
            cong.delivered = cong.delivered.wrapping_add(pcount);
            self.rack_advance(now, segment, says);
        }
    }

    /// From the segments' own times where they were sent once (Karn), acknowledged in order or selectively, else from the
    /// echoed timestamp. The oldest segment that was acknowledged tells how long to wait for the next, the youngest how
    /// far the peer is. False without a sample.
    fn ack_update_rtt(
        &mut self,
        cx: &Cx,
        sent: Option<(Time, Time)>,
        tsecr: Option<u32>,
        acked: u32,
        says: &mut AckSays,
    ) -> bool {
        let now = cx.now;
        let (rtt, least) = match (sent.or(says.sack_sent), tsecr) {
            (Some((first, last)), _) => (now - first, now - says.sack_sent.map_or(last, |(_, last)| last)),
            (None, Some(tsecr)) if acked > 0 => {
                let Some(rtt) = self.echoed_rtt(now, tsecr) else { return false };
                (rtt, rtt)
            }
            _ => return false,
        };
        says.rtt = Some(least);
        self.rtt.note_least(least);
        self.rtt.sample(rtt, self.tx.snd_una, self.tx.snd_nxt);
        if sent.or(says.sack_sent).is_some() {
            let spacing = self.ack_spacing();
            self.cong.rtt_sampled(cx, least, self.tx.snd_una, self.tx.snd_nxt, spacing);
        }
        true
    }

    /// The round trip by an echoed timestamp; None where the peer echoed none that can be (`tcp_rtt_tsopt_us`).
    pub(super) fn echoed_rtt(&self, now: Time, tsecr: u32) -> Option<u64> {
        let elapsed_ms = self.echoed_after(now, tsecr).filter(|_| tsecr != 0)?;
        Some(u64::from(elapsed_ms.max(1)) * MS)
    }

    /// Milliseconds since a timestamp that is echoed. More than fit into microseconds with a sign are no time that has passed.
    #[inline]
    pub(super) fn echoed_after(&self, now: Time, tsecr: u32) -> Option<u32> {
        let elapsed_ms = super::isn::tsval(now, self.tx.ts_offset).wrapping_sub(tsecr);
        (elapsed_ms < i32::MAX as u32 / 1_000).then_some(elapsed_ms)
    }

    /// Nothing was in flight: the window of the peer may have opened (`tcp_ack_probe`).
    fn ack_probe(&mut self, cx: &Cx) {
        if !self.timers.probing() {
            return;
        }
        // A super-frame that is ready must fit as a whole.
        let last = self.tx.queue.len() <= 1;
        let next = self.tx.queue.front().map_or(0, |packet| packet.len) + u32::from(last && self.fin_follows());
        let needed = self.tx.snd_nxt + next;
        if needed.at_or_before(self.tx.snd_una + self.tx.snd_wnd) {
            self.rtt.backoff = 0;
            self.live.probing_since = None;
            self.timers.pending = XmitTimer::Retransmit;
            self.timers.retransmit = Time::MAX;
        } else {
            let timeout = self.within_user_timeout(cx.now, self.live.probing_since, self.rtt.until_probe());
            self.timers.retransmit = expiry(cx.now, timeout);
        }
    }

    /// Room in the send buffer: grow it with the congestion window, wake the writer (`tcp_new_space`).
    pub(super) fn write_space(&mut self, cx: &Cx) {
        if self.user.wait_send && self.has_send_room() {
            self.effects.wake_send = true;
            self.tx.chrono.stop(Held::SendBuffer, false, cx.now);
        }
    }

    /// The window with which a connection begins: one segment if even the SYN was lost more than once (RFC 6298 section
    /// 5.7, RFC 6928).
    pub(super) fn init_cwnd(&mut self) {
        self.cong.cwnd = if self.handshake_was_lossy() { 1 } else { super::congestion::INITIAL_CWND };
    }

    /// Nothing is in flight any more.
    pub(super) fn forget_flight(&mut self) {
        let cong = &mut self.cong;
        (cong.packets_out, cong.sacked_out, cong.lost_out, cong.retrans_out) = (0, 0, 0, 0);
    }

    /// Where the farthest segment that was acknowledged selectively ended; `snd_una` if there is none
    /// (`tcp_highest_sack_seq`).
    pub(super) fn high_sack(&self) -> SeqNum {
        if self.cong.sacked_out > 0 && self.opts.sack { self.loss.high_sack } else { self.tx.snd_una }
    }

    /// The least time between ACKs of two super-frames at the rate of the connection (`hystart_ack_delay`).
    fn ack_spacing(&self) -> u64 {
        let window = u64::from(self.cong.cwnd) * u64::from(self.tx.mss) * 2;
        (4 * 65_536 * self.rtt.srtt / window.max(1)).min(MS)
    }

    /// Room for twice the congestion window, or what reordering needs, as packets that each take a buffer of a power of two,
    /// within `tcp_wmem` (`tcp_sndbuf_expand`).
    pub(super) fn expand_sndbuf(&mut self, wmem_max: u32) {
        /// Headers and the packet's own end beside its payload; the packet itself.
        const BESIDE: (usize, usize) = (256 + 320, 256);
        if self.tx.sndbuf_locked || self.rx.pressure {
            return;
        }
        let payload = usize::from(self.tx.mss_clamp.max(self.tx.mss));
        let packet = (payload + BESIDE.0).next_power_of_two() + BESIDE.1;
        let packets = self.cong.cwnd.max(10).max(self.loss.reordering + 1) as usize;
        self.tx.sndbuf = self.tx.sndbuf.max((2 * packets * packet).min(wmem_max as usize));
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
