//! Sockets of listeners that begin with their SYN: the application may have them, and answer, before the handshake ends.
//!
//! Such a socket is in SYN-RECV (or FIN-WAIT-1, if the application closes it early) and keeps its request, against which
//! each segment is held first, until one acknowledges the SYN-ACK. Its timer sends the SYN-ACK again, and nothing else.

use rxpath_mem::Skb;
use rxpath_trace::{Consumed, Counter, DropReason, Time};
use rxpath_wire::tcp::FastOpen;
use rxpath_wire::{SeqNum, TcpFlags, Tuple};

use super::super::isn::tsval;
use super::super::{CaState, RTO_INITIAL, Request, Segment, State, TcpSock, XmitTimer, expiry};
use super::cookies::{self, Worth};
use super::{SERVER, SERVER_NO_COOKIE};
use crate::cx::{Cx, End, Fate};
use crate::socket::Listener;
use crate::socket::fast_open::Admission;

/// What Fast Open makes of a SYN for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Admitted {
    /// The socket begins now.
    pub(in super::super) now: bool,
    /// A cookie for the peer, with the SYN-ACK.
    pub(in super::super) cookie: Option<FastOpen>,
}

impl Admitted {
    const NOT: Admitted = Admitted { now: false, cookie: None };
}

/// The checks of `tcp_try_fastopen`, in its order.
pub(in super::super) fn admit(cx: &Cx, skb: &Skb, seg: &Segment, tuple: &Tuple, listener: &Listener) -> Admitted {
    let option = FastOpen::parse(seg.option_bytes(skb));
    if option.is_some_and(|option| option.is_request()) {
        cx.count(Counter::TcpExtTCPFastOpenCookieReqd);
    }
    let (flags, queue) = (cx.net.sysctl.tcp_fastopen, &listener.fast_open);
    if flags & SERVER == 0 || (seg.len == 0 && option.is_none()) {
        return Admitted::NOT;
    }
    match queue.admits(cx.now) {
        Admission::Room => {}
        Admission::Off => return Admitted::NOT,
        Admission::Full => {
            cx.count(Counter::TcpExtTCPFastOpenListenOverflow);
            return Admitted::NOT;
        }
    }
    if flags & SERVER_NO_COOKIE != 0 || queue.no_cookie() {
        return Admitted { now: true, cookie: None };
    }
    let Some(option) = option else { return Admitted::NOT };
    let keys = cookies::keys(&cx.net, queue);
    let cookie = FastOpen::with_cookie(&cookies::make(keys.current, tuple), option.experimental);
    if option.is_request() {
        return Admitted { now: false, cookie };
    }
    match cookies::judge(&keys, tuple, &option) {
        Worth::Good => Admitted { now: true, cookie: None },
        Worth::Old => {
            cx.count(Counter::TcpExtTCPFastOpenPassiveAltKey);
            Admitted { now: true, cookie }
        }
        Worth::Nothing => {
            cx.count(Counter::TcpExtTCPFastOpenPassiveFail);
            Admitted { now: false, cookie }
        }
    }
}

impl Request {
    /// The socket that begins with the SYN (`tcp_fastopen_create_child`); None if no way leads to the peer.
    pub(in super::super) fn early_child(&self, cx: &mut Cx, seg: &Segment) -> Option<TcpSock> {
        let mut sk = self.bare_child(cx)?;
        sk.rtt.no_sample();
        let first = self.snt_isn + 1;
        (sk.tx.snd_una, sk.tx.snd_wl1) = (first, seg.seq);
        (sk.tx.snd_wnd, sk.tx.max_window) = (u32::from(seg.window), u32::from(seg.window));
        sk.init_transfer(cx);
        sk.fast.child = true;
        cx.count(Counter::TcpExtTCPFastOpenPassive);
        Some(sk)
    }

    /// `tcp_check_req` for a socket that has begun: the segment, if it is for the socket to judge.
    fn check_early(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> Result<Skb, Early> {
        let tsval = self.ts_recent.and_then(|recent| Some((recent, seg.options(&skb).timestamps?.0)));
        let paws = self.is_of_the_past(tsval);
        let refused = |skb| Early::Stay(Fate::Drop(skb, DropReason::TcpFastopen));
        if seg.flags.syn() && !seg.flags.ack() && !seg.flags.rst() && seg.seq == self.rcv_isn && !paws {
            self.answer_again(cx);
            return Err(refused(skb));
        }
        if paws || !self.in_window(seg) {
            return Err(Early::Stay(self.out_of_window(cx, skb, seg, paws, false)));
        }
        if seg.flags.rst() && seg.seq != self.rcv_nxt {
            self.challenge(cx, &skb);
            return Err(refused(skb));
        }
        // The SYN is the one that it began with: the socket judges the rest.
        if seg.flags.rst() || (seg.flags.syn() && seg.seq != self.rcv_isn) {
            cx.count(Counter::TcpAttemptFails);
            if seg.flags.rst() {
                return Err(Early::Reset(Fate::Drop(skb, DropReason::TcpFastopen)));
            }
            self.reset(cx, &skb, seg);
            return Err(refused(skb));
        }
        if !seg.flags.ack() {
            return Err(refused(skb));
        }
        if let Some((_, tsval)) = tsval
            && !seg.seq.after(self.rcv_nxt)
        {
            self.ts_recent = Some(tsval);
        }
        Ok(skb)
    }
}

/// How a segment ends that is not for the socket to judge.
enum Early {
    /// The socket stays.
    Stay(End),
    /// It is reset.
    Reset(End),
}

impl TcpSock {
    /// Begins with the SYN: its data is queued, and acknowledged by the SYN-ACK.
    #[cold]
    pub(in super::super) fn open_early(
        &mut self,
        cx: &mut Cx,
        skb: Skb,
        seg: &Segment,
        mut request: Box<Request>,
    ) -> End {
        self.rx.segs_in = u32::from(skb.gso_segs.max(1));
        self.rx.data_segs_in = if seg.len > 0 { self.rx.segs_in } else { 0 };
        let end = if seg.len > 0 {
            // The SYN itself is counted already.
            let flags = TcpFlags(seg.flags.0 & !TcpFlags::SYN.0);
            let data = Segment { seq: seg.seq + 1, flags, ..*seg };
            self.rx.schedule(skb.truesize);
            self.fast.data_acked = true;
            self.queue_rcv(cx, skb, &data)
        } else {
            Fate::Consumed(skb, Consumed::Handshake)
        };
        self.rx.rcv_wup = self.rx.rcv_nxt;
        request.rcv_nxt = self.rx.rcv_nxt;
        request.listener.fast_open.enter();
        request.send_synack(cx);
        self.timers.pending = XmitTimer::SynAck;
        self.timers.retransmit = expiry(cx.now, RTO_INITIAL);
        self.request = Some(request);
        self.effects.established = true;
        end
    }

    /// A segment for a socket whose handshake has not ended is held against its request first: how it ends, if it is not
    /// for the socket to judge.
    pub(in super::super) fn check_request(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> Result<Skb, End> {
        let Some(request) = &mut self.request else { return Ok(skb) };
        match request.check_early(cx, skb, seg) {
            Ok(skb) => Ok(skb),
            Err(Early::Stay(end)) => Err(end),
            Err(Early::Reset(end)) => {
                if self.user.accepted
                    && let Some(request) = self.request.take()
                {
                    request.listener.fast_open.leave_reset(cx.now);
                }
                self.reset(cx);
                Err(end)
            }
        }
    }

    /// The SYN-ACK is acknowledged (`tcp_rcv_synrecv_state_fastopen`); false if the socket did not begin with its SYN.
    pub(in super::super) fn request_done(&mut self, cx: &Cx, tsecr: Option<u32>) -> bool {
        let Some(request) = self.request.take() else { return false };
        request.listener.fast_open.leave();
        let rtt = match request.resent {
            true => tsecr.and_then(|tsecr| self.echoed_rtt(cx.now, tsecr)),
            false => Some(cx.now - request.sent_at),
        };
        if let Some(rtt) = rtt {
            self.rtt.sample(rtt, self.tx.snd_una, self.tx.snd_nxt);
        }
        // With nothing in flight no ACK would end it.
        if self.cong.state == CaState::Loss && self.tx.segments.is_empty() {
            self.try_undo_recovery(cx);
        }
        self.rtt.retransmits = 0;
        self.loss.rto.recovered(cx.now);
        self.update_pacing_rate(&cx.net.sysctl);
        // The timer was the SYN-ACK's; what was sent meanwhile waits from now on.
        (self.timers.pending, self.timers.retransmit) = (XmitTimer::Retransmit, Time::MAX);
        self.arm_for_output(cx);
        true
    }

    /// The connection ends before its handshake.
    pub(in super::super) fn forget_request(&mut self) {
        if let Some(request) = self.request.take() {
            request.listener.fast_open.leave();
        }
    }

    /// The SYN-ACK was not answered in time (`tcp_fastopen_synack_timer`): again after 1, 2, 4… seconds, once more often than
    /// those of requests.
    pub(in super::super) fn synack_timer(&mut self, cx: &mut Cx) {
        let limit = self.live.syn_retries.unwrap_or(cx.net.sysctl.tcp_synack_retries.saturating_add(1));
        cx.count(Counter::TcpExtTCPTimeouts);
        let Some(request) = &mut self.request else { return };
        if request.retransmits >= limit {
            return self.give_up(cx);
        }
        request.retransmits += 1;
        request.resent = true;
        cx.count(Counter::TcpExtTCPSynRetrans);
        cx.count(Counter::TcpRetransSegs);
        request.send_synack(cx);
        let doublings = request.retransmits;
        if doublings == 2 {
            // That a SYN-ACK is lost may happen. Once two are, what was sent behind them will hardly have arrived.
            self.enter_loss(cx);
        }
        self.loss.retransmits(tsval(cx.now, self.tx.ts_offset), cx.now);
        self.loss.rto.timed_out(self.rtt.retransmits, cx.now);
        self.rtt.retransmits = self.rtt.retransmits.saturating_add(1);
        self.timers.pending = XmitTimer::SynAck;
        self.timers.retransmit = expiry(cx.now, RTO_INITIAL << doublings.min(7));
    }

    /// Where an ICMP error may be about: the SYN-ACK, too, while it is not acknowledged.
    pub(in super::super) fn oldest_in_flight(&self) -> SeqNum {
        if self.request.is_some() { self.tx.iss } else { self.tx.snd_una }
    }

    /// In SYN-RECV with data to send and to read: begun with the peer's SYN.
    pub(crate) fn is_early(&self) -> bool {
        self.state == State::SynRecv && self.request.is_some()
    }
}
