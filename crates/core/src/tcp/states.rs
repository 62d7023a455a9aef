//! The state machine beyond ESTABLISHED: handshakes, FIN, RST (`tcp_rcv_state_process`).

use rxpath_mem::Skb;
use rxpath_trace::{AckWhy, Consumed, Counter, DropReason, EventKind, PacketId, SlowWhy, Time};
use rxpath_wire::TcpFlags;

use super::ack::Acked;
use super::ip_fields::came_too_far;
use super::{MSS_DEFAULT, Segment, SockError, State, TIMEWAIT_LEN, TcpSock, reply, tick};
use crate::cx::{Cx, End, Fate};

impl TcpSock {
    /// One segment for a socket in any state; the caller holds the lock.
    #[inline(always)]
    pub fn do_rcv(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        if came_too_far(cx, &skb, self.ip.min_ttl) {
            return Fate::Drop(skb, DropReason::TcpMinttl);
        }
        if self.auth_len > 0
            && let Err(reason) = self.inbound_hash(cx, &skb, seg)
        {
            return Fate::Drop(skb, reason);
        }
        self.do_rcv_verified(cx, skb, seg)
    }

    /// [`TcpSock::do_rcv`] of a segment that needs no verification, or had it.
    #[inline(always)]
    pub(super) fn do_rcv_verified(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        let segments = u32::from(skb.gso_segs.max(1));
        self.rx.segs_in = self.rx.segs_in.wrapping_add(segments);
        self.rx.data_segs_in = self.rx.data_segs_in.wrapping_add(if seg.len > 0 { segments } else { 0 });
        if self.state == State::Established {
            return self.rcv_established(cx, skb, seg);
        }
        self.rcv_state_process(cx, skb, seg)
    }

    /// Ends a segment that this socket judged; what it drops is counted as its own (`tcp_drop_reason`).
    #[inline(always)]
    pub(super) fn end(&mut self, cx: &mut Cx, end: End) {
        if let Fate::Drop(skb, reason) = end {
            self.user.drops += 1;
            return cx.drop_skb(skb, reason);
        }
        cx.end(end);
    }

    fn rcv_state_process(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        cx.event(&skb, EventKind::SlowPath, SlowWhy::State as u32, seg.len);
        match self.state {
            State::Close => return Fate::Drop(skb, DropReason::TcpClose),
            State::SynSent => return self.rcv_synsent(cx, skb, seg),
            _ => {}
        }
        let skb = match self.check_request(cx, skb, seg) {
            Ok(skb) => skb,
            Err(end) => return end,
        };
        if !seg.flags.intersects(TcpFlags(TcpFlags::ACK.0 | TcpFlags::RST.0 | TcpFlags::SYN.0)) {
            return Fate::Drop(skb, DropReason::TcpFlags);
        }
        let options = seg.options(&skb);
        let stamps = if self.opts.timestamps { options.timestamps } else { None };
        if let Err(refused) = self.validate_incoming(cx, seg, stamps) {
            return refused.end(skb);
        }
        if !seg.flags.ack() {
            return Fate::Drop(skb, DropReason::TcpFlags);
        }
        if let Some((tsval, _)) = stamps
            && seg.ack.between(self.tx.snd_una, self.tx.snd_nxt)
        {
            self.replace_ts_recent(cx.now, tsval, seg.seq);
        }
        let outcome = self.tcp_ack(cx, seg, self.heard(&options), true);
        if self.state == State::SynRecv && !matches!(outcome, Ok(Acked::Fine)) {
            // RFC 9293 section 3.10.7.4, fifth check: an unacceptable ACK in SYN-RECEIVED is answered by RST.
            self.answer_with_reset(cx, &skb, seg);
            return Fate::Drop(skb, outcome.err().unwrap_or(DropReason::TcpOldAck));
        }
        if let Err(reason) = outcome {
            self.send_challenge_ack(cx);
            return Fate::Drop(skb, reason);
        }
        if let Ok(Acked::Fine) = outcome {
            self.accept_cwr(seg);
        }
        if let Err(end) = self.advance_state(cx, seg, stamps) {
            return end.end(cx, self, skb, seg);
        }
        self.state_data(cx, skb, seg)
    }

    /// Resets the peer for a segment that makes no sense; signed if segments are, or not at all while that cannot be.
    fn answer_with_reset(&self, cx: &mut Cx, skb: &Skb, seg: &Segment) {
        let signer = self.signer(seg.ack, false);
        if self.auth_len == 0 || signer.is_some() {
            reply::reset(cx, skb, seg, signer);
        }
    }

    /// What the acknowledgement does to the state.
    fn advance_state(&mut self, cx: &mut Cx, seg: &Segment, stamps: Option<(u32, u32)>) -> Result<(), Ended> {
        let early = self.request_done(cx, stamps.map(|(_, tsecr)| tsecr));
        let fin_acked = self.tx.fin && self.tx.snd_una == self.send_end();
        match self.state {
            State::SynRecv => self.finish_handshake(cx, seg, stamps, early),
            State::FinWait1 if fin_acked => return self.enter_fin_wait2(cx, seg),
            State::Closing if fin_acked => {
                self.time_wait(cx, State::TimeWait, TIMEWAIT_LEN);
                return Err(Ended::Absorbed);
            }
            State::LastAck if fin_acked => {
                self.done(cx);
                return Err(Ended::Absorbed);
            }
            _ => {}
        }
        Ok(())
    }

    /// SYN-RECV is over. A socket that began `early` is in the accept queue already, or was accepted.
    fn finish_handshake(&mut self, cx: &mut Cx, seg: &Segment, stamps: Option<(u32, u32)>, early: bool) {
        self.set_state(cx, State::Established);
        self.try_undo_spurious_synack(stamps);
        self.effects.established |= !early;
        self.effects.wake_send = true;
        // That of a SYN-ACK is not scaled (RFC 7323 section 2.2). The kernel does, and sends what the peer has no room for.
        self.tx.snd_wnd = self.window_of(seg);
        if self.tx.snd_wnd > self.tx.max_window {
            self.max_window_grows(self.tx.snd_wnd);
        }
        self.tx.snd_wl1 = seg.seq;
        if !early {
            self.init_transfer(cx);
        }
        if self.user.accepted && self.rtt.srtt == 0 {
            // A crossed open, and nothing of ours was acknowledged: what the peer echoes is believed, whatever it is.
            match stamps.and_then(|(_, tsecr)| self.echoed_rtt(cx.now, tsecr)) {
                Some(rtt) => self.rtt.sample(rtt, self.tx.snd_una, self.tx.snd_nxt),
                None => self.rtt.no_sample(),
            }
        }
        self.fast_path_on();
        // The application may have closed its side while the handshake was under way.
        if self.user.snd_shutdown {
            self.shutdown_send(cx);
        }
    }

    /// Our FIN is acknowledged; an orphan goes on as a mini-socket.
    fn enter_fin_wait2(&mut self, cx: &mut Cx, seg: &Segment) -> Result<(), Ended> {
        self.set_state(cx, State::FinWait2);
        self.user.snd_shutdown = true;
        if !self.user.orphan {
            self.effects.wake_send = true;
            return Ok(());
        }
        if self.has_new_data(seg) {
            // Nobody will read it.
            cx.count(Counter::TcpExtTCPAbortOnData);
            return Err(Ended::AbortOnData);
        }
        let Some(len) = self.fin_timeout(cx) else {
            cx.count(Counter::TcpExtTCPAbortOnData);
            return Err(Ended::AbortOnData);
        };
        if len > TIMEWAIT_LEN || seg.flags.fin() {
            self.timers.keepalive = cx.now + fin_wait2_part(len);
            return Ok(());
        }
        self.time_wait(cx, State::FinWait2, len);
        Err(Ended::Absorbed)
    }

    /// Bytes that were not received before, or a FIN behind such.
    fn has_new_data(&self, seg: &Segment) -> bool {
        seg.end_seq != seg.seq && (seg.end_seq - u32::from(seg.flags.fin())).after(self.rx.rcv_nxt)
    }

    /// How long an orphan waits for the peer's FIN (`tcp_fin_time`); None if not at all.
    pub(super) fn fin_timeout(&self, cx: &Cx) -> Option<u64> {
        self.linger2(&cx.net.sysctl).map(|time| time.max(self.rtt.backed_off() * 7 / 2))
    }

    /// The sixth to eighth step: data in the states that take it.
    fn state_data(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        self.tcp_urg(cx, &skb, seg);
        match self.state {
            State::CloseWait | State::Closing | State::LastAck if seg.seq.at_or_after(self.rx.rcv_nxt) => {
                // Nothing can follow the FIN that was taken: ignored without an answer.
                let end = if seg.len > 0 || seg.flags.fin() {
                    Fate::Drop(skb, DropReason::NotSpecified)
                } else {
                    Fate::Consumed(skb, Consumed::AckOnly)
                };
                self.data_snd_check(cx);
                self.ack_snd_check(cx);
                return end;
            }
            State::Established => {}
            // Nobody will read it: RFC 1122 section 4.2.2.13 wants a reset.
            _ if self.user.rcv_shutdown && self.has_new_data(seg) => {
                cx.count(Counter::TcpExtTCPAbortOnData);
                return Ended::AbortOnData.end(cx, self, skb, seg);
            }
            _ => {}
        }
        // The receiver's round trip is measured in ESTABLISHED only, and so not by the ACK that ends the handshake.
        let end = self.data_queue(cx, skb, seg);
        if self.state != State::Close {
            self.data_snd_check(cx);
            self.ack_snd_check(cx);
        }
        end
    }

    /// SYN-SENT (RFC 9293 section 3.10.7.3, `tcp_rcv_synsent_state_process`).
    fn rcv_synsent(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        let options = seg.options(&skb);
        let stamps = options.timestamps.filter(|_| cx.net.sysctl.tcp_timestamps != 0);
        if seg.flags.ack() {
            if !seg.ack.after(self.tx.snd_una) || seg.ack.after(self.tx.snd_nxt) {
                // The peer remembers another connection: reset it and try again soon, also if it was a reset itself.
                if self.rtt.retransmits == 0 {
                    self.timers.retransmit = cx.now + 8 * super::MS;
                }
                self.answer_with_reset(cx, &skb, seg);
                return Fate::Drop(skb, DropReason::TcpInvalidAckSequence);
            }
            if let Some((_, tsecr)) = stamps
                && tsecr != 0
                && !self.echo_plausible(cx.now, tsecr)
            {
                cx.count(Counter::TcpExtPAWSActive);
                self.answer_with_reset(cx, &skb, seg);
                return Fate::Drop(skb, DropReason::TcpRfc7323Paws);
            }
            if seg.flags.rst() {
                self.reset(cx);
                return Fate::Consumed(skb, Consumed::Reset);
            }
            if !seg.flags.syn() {
                return Fate::Drop(skb, DropReason::TcpFlags);
            }
            return self.synsent_synack(cx, skb, seg, &options);
        }
        if seg.flags.rst() {
            return Fate::Drop(skb, DropReason::TcpReset);
        }
        // What the peer said before, where the connection goes on from TIME-WAIT.
        let recent = self.opts.ts_recent;
        if stamps.is_some_and(|(tsval, _)| recent != 0 && recent.wrapping_sub(tsval) as i32 > 0) {
            return Fate::Drop(skb, DropReason::TcpRfc7323Paws);
        }
        if seg.flags.syn() {
            return self.synsent_crossed(cx, skb, seg, &options);
        }
        Fate::Drop(skb, DropReason::TcpFlags)
    }

    /// The echo must lie between the first SYN and now.
    fn echo_plausible(&self, now: Time, tsecr: u32) -> bool {
        let stamp = |at: Time| super::isn::tsval(at, self.tx.ts_offset);
        let (first, newest) = (stamp(self.tx.last_sent), stamp(now));
        tsecr.wrapping_sub(first) <= newest.wrapping_sub(first)
    }

    /// The SYN-ACK: the connection is established.
    fn synsent_synack(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, options: &rxpath_wire::TcpOptions) -> End {
        self.take_syn_options(cx, options);
        self.ecn.answered(seg.flags);
        self.establish_auth(seg.seq);
        self.set_state(cx, State::Established);
        let stamps = if self.opts.timestamps { options.timestamps } else { None };
        self.rx.rcv_nxt = seg.seq + 1;
        self.rx.rcv_wup = seg.seq + 1;
        self.rx.copied_seq = self.rx.rcv_nxt;
        self.tx.snd_wl1 = seg.seq;
        self.ack.last_rcv = tick(cx.now);
        let cwnd = self.cong.cwnd;
        let _ = self.tcp_ack(cx, seg, self.heard(options), true);
        self.tx.snd_wnd = u32::from(seg.window);
        self.tx.max_window = self.tx.snd_wnd;
        let rate = self.first_pacing_rate(cx, cwnd);
        if let Some((tsval, _)) = stamps {
            self.store_ts_recent(cx.now, tsval);
        }
        self.try_undo_spurious_syn(super::isn::tsval(self.tx.last_sent, self.tx.ts_offset), stamps);
        self.init_transfer(cx);
        self.pace(rate);
        if self.rtt.srtt == 0 {
            self.rtt.no_sample();
        }
        self.begin_keepalive(cx);
        if self.tx.mtu.enabled {
            self.sync_mss(self.tx.mss_clamp);
        }
        self.fast_path_on();
        self.effects.wake_send = true;
        self.fast_open_answered(cx, &skb, seg);
        let end = self.take_synack_data(cx, skb, seg);
        if self.send_end().after(self.tx.snd_nxt) {
            // Data waits: it will carry the ACK.
            self.push(cx);
        }
        if self.tx.segments.is_empty() {
            self.send_ack(cx, AckWhy::Handshake);
        }
        end
    }

    /// A SYN in SYN-SENT: simultaneous open.
    fn synsent_crossed(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, options: &rxpath_wire::TcpOptions) -> End {
        self.establish_auth(seg.seq);
        self.set_state(cx, State::SynRecv);
        let own_scale = self.opts.rcv_wscale;
        self.take_syn_options(cx, options);
        // Our SYN-ACK offers what our SYN did, and our windows are scaled as it said, whatever the peer offers.
        self.opts.rcv_wscale = own_scale;
        self.ecn.crossed(seg.flags);
        if let (true, Some((tsval, _))) = (self.opts.timestamps, options.timestamps) {
            self.store_ts_recent(cx.now, tsval);
        }
        self.rx.rcv_nxt = seg.seq + 1;
        self.rx.copied_seq = self.rx.rcv_nxt;
        self.rx.rcv_wup = seg.seq + 1;
        self.tx.snd_wnd = u32::from(seg.window);
        self.tx.snd_wl1 = seg.seq;
        self.tx.max_window = self.tx.snd_wnd;
        self.send_syn(cx);
        // The round trip is that of the SYN-ACK.
        if let Some(sent) = self.tx.segments.front_mut() {
            sent.sent_at = cx.now;
        }
        Fate::Consumed(skb, Consumed::Handshake)
    }

    /// What the peer's SYN offers of what ours offered.
    fn take_syn_options(&mut self, cx: &Cx, options: &rxpath_wire::TcpOptions) {
        let sysctl = &cx.net.sysctl;
        self.opts.timestamps = options.timestamps.is_some() && sysctl.tcp_timestamps != 0;
        self.opts.sack = options.sack_permitted && sysctl.tcp_sack;
        self.opts.wscale = options.wscale.is_some() && sysctl.tcp_window_scaling;
        if self.opts.wscale {
            self.opts.snd_wscale = options.wscale.unwrap_or(0);
        } else {
            self.opts.snd_wscale = 0;
            self.opts.rcv_wscale = 0;
            self.rx.window_clamp = self.rx.window_clamp.min(65_535);
        }
        // Of a peer that says nothing the application is believed, also if it says more.
        let own = if self.tx.user_mss > 0 { self.tx.user_mss } else { u16::MAX };
        let unsaid = if self.tx.user_mss > 0 { self.tx.user_mss } else { MSS_DEFAULT };
        self.sync_mss(options.mss.filter(|&mss| mss != 0).map_or(unsaid, |mss| mss.min(own)));
    }

    /// Both directions are open: estimates that need a peer begin (`tcp_init_transfer`).
    pub(super) fn init_transfer(&mut self, cx: &Cx) {
        if self.opts.timestamps {
            self.tx.advmss -= u16::from(super::TSTAMP_ALIGNED);
        }
        self.init_buffer_space();
        self.mtu_search_begin(&cx.net.sysctl, cx.now);
        self.init_cwnd();
        // What handshakes lost says nothing about what the path carries.
        self.cong.ssthresh = u32::MAX;
        self.cong.begin(u32::from(self.tx.mss), self.rtt.srtt);
        self.update_pacing_rate(&cx.net.sysctl);
        self.ack.rcv_mss = self.initial_rcv_mss();
        self.rx.space_time = cx.now;
        self.rx.space_seq = self.rx.copied_seq;
        self.rx.space = self.rx.rcv_ssthresh.min(self.rx.rcv_wnd).min(10 * u32::from(self.tx.advmss));
        self.expand_sndbuf(cx.net.sysctl.tcp_wmem.max);
    }

    /// First guess of the peer's segment size (`tcp_initialize_rcv_mss`).
    fn initial_rcv_mss(&self) -> u16 {
        let hint = u32::from(self.tx.advmss.min(self.tx.mss)).min(self.rx.rcv_wnd / 2);
        hint.min(u32::from(MSS_DEFAULT)).max(u32::from(super::MSS_MIN)) as u16
    }

    /// The peer's FIN, in order (`tcp_fin`). Its sequence number has been counted into `rcv_nxt`.
    pub(super) fn fin_received(&mut self, cx: &mut Cx) {
        self.ack.scheduled = true;
        self.user.rcv_shutdown = true;
        self.user.done = true;
        self.rx.fin = true;
        match self.state {
            State::SynRecv | State::Established => {
                self.set_state(cx, State::CloseWait);
                self.ack.pingpong = true;
            }
            State::FinWait1 => {
                self.send_ack(cx, AckWhy::Fin);
                self.set_state(cx, State::Closing);
            }
            State::FinWait2 => {
                self.send_ack(cx, AckWhy::Fin);
                self.time_wait(cx, State::TimeWait, TIMEWAIT_LEN);
            }
            _ => {}
        }
        self.purge_ofo(cx);
        self.rx.sack.reset();
        if self.user.wait_recv {
            self.wake_reader(cx);
        }
        self.effects.wake_send |= self.user.wait_send;
    }

    /// An acceptable RST, or what is answered by one (`tcp_reset`).
    pub(super) fn reset(&mut self, cx: &mut Cx) {
        let error = match self.state {
            State::SynSent => SockError::Refused,
            State::CloseWait => SockError::BrokenPipe,
            State::Close => return,
            _ => SockError::Reset,
        };
        self.user.error = Some(error);
        self.done(cx);
    }

    /// The one place where the state changes (`tcp_set_state`): the gauge of established connections follows.
    pub(super) fn set_state(&mut self, cx: &mut Cx, state: State) {
        cx.effect(EventKind::StateChange, self.state as u32, state as u32, PacketId::NONE);
        self.change_state(cx, state);
    }

    fn change_state(&mut self, cx: &Cx, state: State) {
        let counted = |state| matches!(state, State::Established | State::CloseWait);
        match (counted(self.state), counted(state)) {
            (false, true) => cx.count(Counter::TcpCurrEstab),
            (true, false) => {
                cx.mib.sub(Counter::TcpCurrEstab, 1);
                if state == State::Close {
                    cx.count(Counter::TcpEstabResets);
                }
            }
            _ => {}
        }
        self.state = state;
    }

    /// The connection is over: timers off, everybody woken (`tcp_done`).
    pub(super) fn done(&mut self, cx: &mut Cx) {
        if matches!(self.state, State::SynSent | State::SynRecv) {
            cx.count(Counter::TcpAttemptFails);
        }
        self.disconnect(cx);
    }

    /// The same, as the application wants it: an attempt has not failed then (`tcp_disconnect`).
    pub(super) fn disconnect(&mut self, cx: &mut Cx) {
        if self.state != State::Close {
            cx.effect(EventKind::StateChange, self.state as u32, State::Close as u32, PacketId::NONE);
        }
        self.leave(cx);
        self.effects.closed = true;
    }

    /// The socket's part is done; a mini-socket answers the peer from now on (`tcp_time_wait`).
    pub(super) fn time_wait(&mut self, cx: &mut Cx, state: State, len: u64) {
        if state != self.state {
            cx.effect(EventKind::StateChange, self.state as u32, state as u32, PacketId::NONE);
        }
        self.leave(cx);
        self.effects.timewait = Some((state, len));
    }

    fn leave(&mut self, cx: &mut Cx) {
        self.change_state(cx, State::Close);
        if std::mem::take(&mut self.user.orphan_counted) {
            cx.tcp_memory.orphan_removed();
        }
        self.timers.clear();
        self.forget_request();
        self.fast_open_over(cx);
        self.drop_deferred(cx);
        self.purge_ofo(cx);
        self.user.rcv_shutdown = true;
        self.user.snd_shutdown = true;
        self.effects.wake_recv = true;
        self.effects.wake_send = true;
        self.tx.segments.clear();
        self.tx.queue.clear();
        self.tx.buffer.clear();
        self.forget_flight();
        self.rtt.backoff = 0;
        if self.user.orphan {
            self.purge_receive_queue(cx);
        }
    }
}

/// How long an orphan stays in FIN-WAIT-2, and how long its mini-socket does then, of a wait of `len` nanoseconds: what is more than
/// the time of TIME-WAIT, where it is more (`tcp_keepalive_timer`).
pub(super) fn fin_wait2_part(len: u64) -> u64 {
    if len > TIMEWAIT_LEN { len - TIMEWAIT_LEN } else { len }
}

/// Why the processing of a segment ends before its data is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It did its work.
    Absorbed,
    /// Data for an application that has gone, or one that does not wait for the peer's FIN: the peer is reset.
    AbortOnData,
}

impl Ended {
    fn end(self, cx: &mut Cx, sk: &mut TcpSock, skb: Skb, seg: &Segment) -> End {
        match self {
            Ended::Absorbed => Fate::Consumed(skb, Consumed::AckOnly),
            Ended::AbortOnData => {
                sk.answer_with_reset(cx, &skb, seg);
                sk.reset(cx);
                Fate::Drop(skb, DropReason::TcpAbortOnData)
            }
        }
    }
}
