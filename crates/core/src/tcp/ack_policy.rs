//! When to acknowledge: at once, in quick-ACK mode, or later (RFC 9293 section 3.8.6.3, RFC 5681 section 4.2).
//!
//! A new connection acknowledges its first segments at once (quick ACK), so that the peer's slow start is not held up;
//! an interactive one ("pingpong": our data carries the ACKs) delays; otherwise every second full-sized segment is
//! acknowledged and a timer covers the rest.

use rxpath_trace::{AckWhy, Counter, EventKind, PacketId, Time};
use rxpath_wire::TcpFlags;

use super::{ATO_MIN, DELACK_MAX, JIFFY, MS, QUICKACKS_MAX, Segment, State, TcpSock, tick};
use crate::cx::Cx;

/// State of the acknowledgement policy (`inet_csk(sk)->icsk_ack`).
#[derive(Clone, Debug)]
pub struct AckPolicy {
    /// An ACK is owed.
    pub scheduled: bool,
    /// A one-shot demand to acknowledge at the next check.
    pub now: bool,
    /// A small or pushed segment came since the last ACK.
    pub pushed: bool,
    /// … and another one.
    pub pushed_twice: bool,
    /// Whether what is due now waits for the end of the backlog (`TCP_ACK_DEFERRED`).
    pub deferral: Deferral,
    /// Duplicate ACKs that are held, for one to stand for all of them (`compressed_ack`).
    pub compressed: u8,
    /// ACKs left to be sent at once.
    pub quick: u8,
    /// Our data carries the ACKs.
    pub pingpong: bool,
    /// Delayed-ACK timeout in nanoseconds, whole ticks; 0 before the first segment.
    pub ato: u64,
    /// The tick before the last data segment came.
    pub last_rcv: Time,
    /// Estimate of the peer's segment size.
    pub rcv_mss: u16,
    /// Size of the last segment, if it was small.
    pub last_seg_size: u16,
}

/// Whether acknowledgements wait for the end of a backlog that is being worked off (`tcp_backlog_ack_defer`). What
/// answers a gap, or what is not acceptable, does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// They do not.
    Off,
    /// They do; none was due so far.
    On,
    /// One was due, last for this reason.
    Due(AckWhy),
}

impl Deferral {
    /// As the working off of a backlog begins.
    pub(super) fn begin(cx: &Cx) -> Deferral {
        if cx.net.sysctl.tcp_backlog_ack_defer { Deferral::On } else { Deferral::Off }
    }
}

impl Default for AckPolicy {
    fn default() -> AckPolicy {
        AckPolicy::new()
    }
}

impl AckPolicy {
    /// Nothing owed, nothing measured.
    pub fn new() -> AckPolicy {
        AckPolicy {
            scheduled: false,
            now: false,
            pushed: false,
            pushed_twice: false,
            deferral: Deferral::Off,
            compressed: 0,
            quick: 0,
            pingpong: false,
            ato: 0,
            last_rcv: Time::ZERO,
            rcv_mss: super::MSS_DEFAULT,
            last_seg_size: 0,
        }
    }

    /// True while ACKs go out at once.
    #[inline(always)]
    pub fn in_quickack_mode(&self) -> bool {
        self.quick > 0 && !self.pingpong
    }
}

impl TcpSock {
    /// Grants up to `max` quick ACKs: as many as half a window has segments, two if it has none (`tcp_incr_quickack`).
    pub fn incr_quickack(&mut self, max: u8) {
        let segments = match self.rx.rcv_wnd / (2 * u32::from(self.ack.rcv_mss).max(1)) {
            0 => 2,
            segments => segments,
        };
        let quick = segments.min(u32::from(max)) as u8;
        self.ack.quick = self.ack.quick.max(quick);
    }

    /// Leaves interactive mode and acknowledges at once for a while (`tcp_enter_quickack_mode`).
    pub fn enter_quickack_mode(&mut self, max: u8) {
        self.incr_quickack(max);
        self.ack.pingpong = false;
        self.ack.ato = ATO_MIN;
    }

    /// Data came, `len` bytes in segments of `mss_len`: an ACK is owed, and the timeout follows the gaps between
    /// packets (`tcp_event_data_recv`; the window may grow afterwards).
    #[inline(always)]
    pub fn event_data_recv(&mut self, cx: &Cx, len: u32, mss_len: u32, header_len: u8, flags: TcpFlags, truesize: u32) {
        self.ack.scheduled = true;
        self.measure_rcv_mss(mss_len, len, header_len, flags, truesize);
        self.measure_rcv_rtt(cx.now);
        let now = tick(cx.now);
        if self.ack.ato == 0 {
            self.incr_quickack(QUICKACKS_MAX);
            self.ack.ato = ATO_MIN;
        } else {
            let gap = now - self.ack.last_rcv;
            let half = self.ack.ato / (2 * JIFFY) * JIFFY;
            if gap <= ATO_MIN / 2 {
                self.ack.ato = half + ATO_MIN / 2;
            } else if gap < self.ack.ato {
                self.ack.ato = (half + gap).min(self.rtt.backed_off());
            } else if gap > self.rtt.backed_off() {
                self.incr_quickack(QUICKACKS_MAX);
            }
        }
        self.ack.last_rcv = now;
    }

    /// After data was taken: acknowledge now or later (`tcp_ack_snd_check`).
    #[inline(always)]
    pub fn ack_snd_check(&mut self, cx: &mut Cx) {
        if !self.ack.scheduled {
            return;
        }
        match self.ack_due_now() {
            Some(AckWhy::OutOfOrder) if self.compresses_ack(cx) => {}
            Some(why) if self.ack.deferral != Deferral::Off && why != AckWhy::OutOfOrder => {
                self.ack.deferral = Deferral::Due(why);
            }
            Some(why) => self.send_ack(cx, why),
            None => self.send_delayed_ack(cx),
        }
    }

    /// At the end of the backlog: one ACK for all that were due meanwhile, unless something has carried it.
    pub(super) fn send_deferred_ack(&mut self, cx: &mut Cx) {
        if let Deferral::Due(why) = std::mem::replace(&mut self.ack.deferral, Deferral::Off)
            && self.ack.scheduled
        {
            self.send_ack(cx, why);
        }
    }

    /// More than one full segment is unacknowledged and the window need not shrink; or the mode or a gap demands it.
    #[inline(always)]
    fn ack_due_now(&mut self) -> Option<AckWhy> {
        let owed = (self.rx.rcv_nxt - self.rx.rcv_wup).max(0) as u32;
        // The peer's FIN is something to read here.
        let unread = (self.rx.rcv_nxt - self.rx.copied_seq).max(0) as u32;
        if owed > u32::from(self.ack.rcv_mss) && (unread < self.rx.lowat || self.wanted_window() >= self.rx.rcv_wnd) {
            Some(AckWhy::TwoSegments)
        } else if self.ack.in_quickack_mode() {
            Some(AckWhy::Quick)
        } else if self.ack.now {
            Some(if self.rx.nomem { AckWhy::ZeroWindow } else { AckWhy::HoleFilled })
        } else {
            (!self.rx.ofo.is_empty()).then_some(AckWhy::OutOfOrder)
        }
    }

    /// Arms the delayed-ACK timer (`tcp_send_delayed_ack`): before the first data, as after a lone FIN, for the next tick.
    pub fn send_delayed_ack(&mut self, cx: &mut Cx) {
        let mut ato = self.ack.ato;
        if ato > ATO_MIN {
            let mut max = 500 * MS;
            if self.ack.pingpong || self.ack.pushed {
                max = DELACK_MAX;
            }
            if self.rtt.srtt != 0 {
                max = max.min(self.rtt.srtt.next_multiple_of(JIFFY).max(ATO_MIN));
            }
            ato = ato.min(max);
        }
        let ato = ato.min(DELACK_MAX);
        // A timer fires with the tick after its own.
        let mut deadline = tick(cx.now) + (ato + JIFFY);
        if self.timers.delack != Time::MAX {
            if self.timers.delack <= tick(cx.now) + (ato / (4 * JIFFY) * JIFFY + JIFFY) {
                return self.send_ack(cx, AckWhy::Timer);
            }
            deadline = deadline.min(self.timers.delack);
        }
        self.timers.delack = deadline;
        cx.effect(EventKind::AckDelayed, (deadline - cx.now).div_ceil(MS) as u32, 0, PacketId::NONE);
    }

    /// The delayed-ACK timer fired (`tcp_delack_timer_handler`).
    pub fn delack_timer(&mut self, cx: &mut Cx) {
        if self.ack.compressed > 0 {
            return self.compressed_ack_kick(cx);
        }
        self.timers.delack = Time::MAX;
        if matches!(self.state, State::Close | State::Listen) || !self.ack.scheduled {
            return;
        }
        if self.ack.pingpong {
            self.ack.pingpong = false;
            self.ack.ato = ATO_MIN;
        } else {
            self.ack.ato = (self.ack.ato * 2).min(self.rtt.backed_off());
        }
        cx.count(Counter::TcpExtDelayedACKs);
        self.send_ack(cx, AckWhy::Timer);
    }

    /// A segment with an ACK went out: nothing is owed any more (`tcp_event_ack_sent`).
    #[inline(always)]
    pub fn event_ack_sent(&mut self) {
        // Only an ACK that was owed counts: data that goes out in between does not use them up.
        if self.ack.quick > 0 && self.ack.scheduled {
            self.ack.quick -= 1;
            if self.ack.quick == 0 {
                self.ack.ato = ATO_MIN;
            }
        }
        self.ack.scheduled = false;
        self.ack.now = false;
        self.ack.pushed = false;
        self.ack.pushed_twice = false;
        self.timers.delack = Time::MAX;
    }

    /// After the application read `copied` bytes: true if an ACK or a window update is due (`tcp_cleanup_rbuf`).
    pub fn ack_due_after_read(&mut self, copied: u32) -> bool {
        if self.ack.scheduled {
            let owed = (self.rx.rcv_nxt - self.rx.rcv_wup).max(0) as u32;
            let emptied = copied > 0 && self.rx.rmem_alloc == 0;
            let small = self.ack.pushed_twice || (self.ack.pushed && !self.ack.pingpong);
            if owed > u32::from(self.ack.rcv_mss) || (emptied && small) {
                return true;
            }
        }
        if copied == 0 || self.user.rcv_shutdown {
            return false;
        }
        let offered = self.rx.offered();
        if u64::from(offered) * 2 > u64::from(self.rx.window_clamp) {
            return false;
        }
        let window = self.wanted_window();
        window > 0 && u64::from(window) >= 2 * u64::from(offered)
    }

    /// A pure ACK now (`tcp_send_ack`); its loss costs a delayed one.
    pub fn send_ack(&mut self, cx: &mut Cx, why: AckWhy) {
        if self.state == State::Close {
            return;
        }
        if let Some(sent) = self.transmit_ack(cx) {
            cx.effect(EventKind::AckNow, self.rx.rcv_nxt.0, why as u32, sent);
        } else {
            // The pool is dry: try again with the delayed-ACK timer.
            self.ack.scheduled = true;
            self.ack.ato = ATO_MIN;
            self.timers.delack = cx.now + DELACK_MAX;
        }
    }

    /// Counts down the limit on ACKs that answer segments outside the window (`tcp_oow_rate_limited`): true if this
    /// one must not be sent.
    pub fn oow_rate_limited(&mut self, cx: &Cx, consumes_sequence: bool, syn: bool, counter: Counter) -> bool {
        if consumes_sequence && !syn {
            return false;
        }
        oow_rate_limited(&mut self.tx.last_oow_ack, cx, counter)
    }

    /// An immediate duplicate ACK that answers a segment outside the window (`tcp_send_dupack`), with a D-SACK of what
    /// it has of old data.
    pub fn send_dupack(&mut self, cx: &mut Cx, seg: &Segment, why: AckWhy) {
        if seg.end_seq != seg.seq && seg.seq.before(self.rx.rcv_nxt) {
            cx.count(Counter::TcpExtDelayedACKLost);
            self.enter_quickack_mode(QUICKACKS_MAX);
            let end_seq = if seg.end_seq.after(self.rx.rcv_nxt) { self.rx.rcv_nxt } else { seg.end_seq };
            self.dsack_set(cx, seg.seq, end_seq);
        }
        self.send_ack(cx, why);
    }
}

/// `__tcp_oow_rate_limited`: at most one answer per `tcp_invalid_ratelimit`, in ticks.
pub(super) fn oow_rate_limited(last: &mut Option<Time>, cx: &Cx, counter: Counter) -> bool {
    let limit = u64::from(cx.net.sysctl.tcp_invalid_ratelimit) * MS;
    if last.is_some_and(|at| tick(cx.now) - at < limit) {
        cx.count(counter);
        return true;
    }
    *last = Some(tick(cx.now));
    false
}
