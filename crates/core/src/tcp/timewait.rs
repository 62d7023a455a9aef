//! TIME-WAIT, and the FIN-WAIT-2 of an orphan: a mini-socket that answers for a connection that is over
//! (RFC 9293 section 3.10.7.4, RFC 6191, `tcp_timewait_state_process`).

use rxpath_mem::Skb;
use rxpath_trace::{AckWhy, Consumed, Counter, DropReason, EventKind, PacketId, Time};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions, Tuple};

use super::auth::Signer;
use super::isn::tsval;
use super::{Segment, State, TIMEWAIT_LEN, TcpSock, reply};
use crate::cx::{Cx, End, Fate};
use crate::socket::Rest;

/// The mini-socket.
#[derive(Clone, Debug)]
pub struct TimeWait {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// TIME-WAIT, or FIN-WAIT-2 while the peer's FIN is still to come.
    pub substate: State,
    /// Next sequence number expected.
    pub rcv_nxt: SeqNum,
    /// Our next sequence number.
    pub snd_nxt: SeqNum,
    /// Window offered when the connection ended, in bytes.
    pub rcv_wnd: u32,
    /// Shift of that window.
    pub rcv_wscale: u8,
    /// Last timestamp of the peer, which is echoed; None if there was none.
    pub ts_recent: Option<u32>,
    /// Timestamps were agreed: those of the peer are looked at.
    pub stamped: bool,
    /// Offset of our timestamps.
    pub ts_offset: u32,
    /// When it is over.
    pub deadline: Time,
    /// Type of service of its acknowledgements.
    pub tos: u8,
    /// The interface that it is bound to; 0 for none.
    pub ifindex: u16,
    /// When the last rate-limited ACK went out.
    pub last_oow_ack: Option<Time>,
    /// We opened the connection: its port is in the table of local ports.
    pub opened_here: bool,
    /// What its acknowledgements are signed with.
    pub(crate) signer: Option<Box<Signer>>,
}

/// What becomes of a segment for a mini-socket, and of the mini-socket.
pub(super) enum Verdict {
    /// The segment ends; the mini-socket stays.
    Stay(End),
    /// The segment ends and the mini-socket with it.
    Kill(End),
    /// A new connection may take the place: our sequence number for it.
    Reopen(Skb, SeqNum),
}

impl TimeWait {
    /// What a socket leaves behind.
    pub(super) fn of(sk: &TcpSock, substate: State, deadline: Time, opened_here: bool) -> TimeWait {
        TimeWait {
            tuple: sk.tuple,
            substate,
            rcv_nxt: sk.rx.rcv_nxt,
            snd_nxt: sk.tx.snd_nxt,
            rcv_wnd: sk.rx.offered(),
            rcv_wscale: sk.opts.rcv_wscale,
            // A stray one in the third segment of the handshake is remembered, too.
            ts_recent: (sk.opts.timestamps || sk.opts.ts_recent != 0).then_some(sk.opts.ts_recent),
            stamped: sk.opts.timestamps,
            ts_offset: sk.tx.ts_offset,
            deadline,
            tos: sk.ip.tos(),
            ifindex: sk.ifindex,
            last_oow_ack: None,
            opened_here,
            signer: sk.signer(sk.tx.snd_nxt, false).map(Box::new),
        }
    }

    /// Tells the table of local ports what is left of the connection.
    pub(super) fn tell_binds(&self, cx: &Cx) {
        if self.opened_here {
            let (stamps, fin_wait2) = (self.stamped, self.substate == State::FinWait2);
            cx.binds.wait(&self.tuple, Rest { since: cx.now, stamps, fin_wait2 });
        }
    }

    /// Whether it takes what comes by this interface.
    pub(super) fn takes_link(&self, ifindex: u16) -> bool {
        self.ifindex == 0 || self.ifindex == ifindex
    }

    /// One segment.
    pub(super) fn process(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> Verdict {
        let stamps = if self.stamped { seg.options(&skb).timestamps } else { None };
        let paws_reject = match (stamps, self.ts_recent) {
            (Some((tsval, _)), Some(recent)) => recent.wrapping_sub(tsval) as i32 > 0 && recent != 0,
            _ => false,
        };
        if self.substate == State::FinWait2 {
            return self.fin_wait2(cx, skb, seg, paws_reject, stamps);
        }
        self.time_wait(cx, skb, seg, paws_reject, stamps)
    }

    /// The peer's FIN is still to come; nobody will read data.
    fn fin_wait2(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, paws: bool, stamps: Option<(u32, u32)>) -> Verdict {
        if paws || !self.in_window(seg) {
            return self.answer_out_of_window(cx, skb, seg, Counter::TcpExtTCPACKSkippedFinWait2);
        }
        if seg.flags.rst() {
            return Verdict::Kill(Fate::Consumed(skb, Consumed::TimeWait));
        }
        if seg.flags.syn() && !seg.seq.before(self.rcv_nxt) {
            reply::reset(cx, &skb, seg, None);
            return Verdict::Kill(Fate::Drop(skb, DropReason::TcpInvalidSyn));
        }
        if !seg.flags.ack() || !seg.end_seq.after(self.rcv_nxt) || seg.end_seq == seg.seq {
            return Verdict::Stay(Fate::Consumed(skb, Consumed::TimeWait));
        }
        if !seg.flags.fin() || seg.end_seq != self.rcv_nxt + 1 {
            reply::reset(cx, &skb, seg, None);
            return Verdict::Kill(Fate::Drop(skb, DropReason::TcpAbortOnData));
        }
        self.substate = State::TimeWait;
        let (from, to) = (State::FinWait2 as u32, State::TimeWait as u32);
        cx.effect(EventKind::StateChange, from, to, PacketId::NONE);
        self.rcv_nxt = seg.end_seq;
        if let Some((tsval, _)) = stamps {
            self.ts_recent = Some(tsval);
        }
        self.deadline = cx.now + TIMEWAIT_LEN;
        self.tell_binds(cx);
        self.ack(cx);
        Verdict::Stay(Fate::Consumed(skb, Consumed::TimeWait))
    }

    fn time_wait(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, paws: bool, stamps: Option<(u32, u32)>) -> Verdict {
        let exact = seg.seq == self.rcv_nxt && (seg.seq == seg.end_seq || seg.flags.rst());
        if !paws && exact {
            // RFC 1337 section 3: an old duplicate must not end TIME-WAIT.
            if seg.flags.rst() && !cx.net.sysctl.tcp_rfc1337 {
                return Verdict::Kill(Fate::Consumed(skb, Consumed::TimeWait));
            }
            if !seg.flags.rst() {
                self.deadline = cx.now + TIMEWAIT_LEN;
            }
            if let Some((tsval, _)) = stamps {
                self.ts_recent = Some(tsval);
            }
            return Verdict::Stay(Fate::Consumed(skb, Consumed::TimeWait));
        }
        if seg.flags.syn() && !seg.flags.rst() && !seg.flags.ack() && !paws && self.reopens(seg, stamps) {
            return Verdict::Reopen(skb, self.next_isn());
        }
        if paws {
            cx.count(Counter::TcpExtPAWSTimewait);
        }
        if seg.flags.rst() {
            return Verdict::Stay(Fate::Drop(skb, DropReason::TcpReset));
        }
        if paws || seg.flags.ack() {
            self.deadline = cx.now + TIMEWAIT_LEN;
        }
        self.answer_out_of_window(cx, skb, seg, Counter::TcpExtTCPACKSkippedTimeWait)
    }

    /// A SYN that could open a new connection, but nobody listens any more: answered each time.
    pub(super) fn answer_syn(&mut self, cx: &mut Cx, skb: Skb) -> End {
        self.ack(cx);
        Fate::Consumed(skb, Consumed::TimeWait)
    }

    /// Our first sequence number of a connection that takes the place: beyond any window of this one.
    pub(super) fn next_isn(&self) -> SeqNum {
        let isn = self.snd_nxt + 65_537;
        if isn.0 == 0 { SeqNum(1) } else { isn }
    }

    /// RFC 6191: a SYN that cannot be an old one.
    fn reopens(&self, seg: &Segment, stamps: Option<(u32, u32)>) -> bool {
        seg.seq.after(self.rcv_nxt)
            || matches!((stamps, self.ts_recent), (Some((tsval, _)), Some(recent)) if (tsval.wrapping_sub(recent) as i32) > 0)
    }

    fn in_window(&self, seg: &Segment) -> bool {
        let end = self.rcv_nxt + self.rcv_wnd;
        if seg.seq == self.rcv_nxt {
            return true;
        }
        (seg.end_seq.after(self.rcv_nxt) && seg.seq.before(end)) || (seg.seq == end && seg.seq == seg.end_seq)
    }

    fn answer_out_of_window(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, skipped: Counter) -> Verdict {
        let exempt = (seg.len > 0 || seg.flags.fin()) && !seg.flags.syn();
        if exempt || !super::ack_policy::oow_rate_limited(&mut self.last_oow_ack, cx, skipped) {
            self.ack(cx);
        }
        Verdict::Stay(Fate::Consumed(skb, Consumed::TimeWait))
    }

    fn ack(&mut self, cx: &mut Cx) {
        let bare = reply::Bare {
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: TcpFlags::ACK,
            // Without scaling the window may be more than the field holds: the kernel, too, sends its low bits.
            window: (self.rcv_wnd >> self.rcv_wscale) as u16,
            options: TcpOptions {
                timestamps: self
                    .ts_recent
                    .filter(|&recent| recent != 0)
                    .map(|recent| (tsval(cx.now, self.ts_offset), recent)),
                ..TcpOptions::default()
            },
            tos: self.tos,
            ttl: None,
            ifindex: self.ifindex,
        };
        let sent = reply::send(cx, &self.tuple, bare, self.signer.as_deref());
        cx.effect(EventKind::AckNow, self.rcv_nxt.0, AckWhy::TimeWait as u32, sent);
    }
}
