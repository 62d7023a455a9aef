//! SYNs of ours that carry a request for a cookie, or a cookie and data; and what their answers say.
//!
//! The data is a segment of its own behind the SYN's, although both go in one packet: a SYN that is not answered is sent
//! again alone, without the option, and the data follows once the connection stands (RFC 7413 section 4.2.1).

use rxpath_mem::Skb;
use rxpath_trace::{Consumed, Counter, Time};
use rxpath_wire::tcp::FastOpen;
use rxpath_wire::{Addr, TcpFlags};

use super::super::chrono::Held;
use super::super::write_queue::PACKET_CHARGE;
use super::super::{Segment, SentSegment, State, TcpSock, WriteQueue};
use super::{CLIENT_NO_COOKIE, FastOpenFail};
use crate::cx::{Cx, End, Fate};
use crate::netns::NetConfig;

/// Room that is left for options in a SYN with data (`MAX_TCP_OPTION_SPACE`).
const OPTION_SPACE: u16 = 40;
/// The third timeout in a row is taken for something that swallows Fast Opens.
const TIMEOUTS: u8 = 2;

impl TcpSock {
    /// Decides what the SYN carries (`tcp_fastopen_cookie_check`): true if it may carry data.
    pub(crate) fn plan_fast_open(&mut self, net: &NetConfig, no_cookie: bool, now: Time) -> bool {
        let sysctl = &net.sysctl;
        if net.fast_open.is_paused(now, sysctl.tcp_fastopen_blackhole_timeout_sec) {
            return false;
        }
        self.fast.tried = true;
        let peer = net.fast_open.look_up(self.between());
        let most = self.handshake_options().mss_clamp(self.route.mtu.saturating_sub(40));
        let most = if peer.mss > 0 { most.min(peer.mss) } else { most };
        self.fast.room = most.saturating_sub(OPTION_SPACE);
        if no_cookie || sysctl.tcp_fastopen & CLIENT_NO_COOKIE != 0 {
            return true;
        }
        self.fast.option = peer.cookie.or_else(|| Some(peer.request()));
        if peer.cookie.is_none() {
            self.fast.fail = FastOpenFail::CookieUnavailable;
        }
        peer.cookie.is_some()
    }

    fn between(&self) -> (Addr, Addr) {
        (self.tuple.local, self.tuple.remote)
    }

    /// Takes what the SYN is to carry of `data`: how many bytes. They are not in packets, and go when it does.
    pub(crate) fn take_for_syn(&mut self, data: &[u8]) -> usize {
        let taken = self.tx.buffer.append(data, usize::from(self.fast.room).min(self.tx.sndbuf));
        self.fast.carried = taken as u16;
        self.fast.deferred &= taken == 0;
        taken
    }

    /// The first SYN, with its data behind it (`tcp_send_syn_data`). The numbers of the connection are set, its first
    /// segment is in flight.
    pub(in super::super) fn send_first_syn(&mut self, cx: &mut Cx) {
        let (iss, len) = (self.tx.iss, u32::from(self.fast.carried));
        self.send_syn(cx);
        let end = iss + 1 + len;
        self.tx.snd_nxt = end;
        if len == 0 {
            return;
        }
        self.tx.write_seq = end;
        self.tx.queue = WriteQueue::starting_at(end);
        let charge = PACKET_CHARGE + len;
        self.rx.charge_output(charge);
        let stamp = self.cong.rate.sent(cx.now, 1, 0);
        let data = SentSegment::new(iss + 1, end, 1, cx.now, stamp);
        self.tx.segments.push_back(SentSegment { charge, psh: true, ..data });
        self.cong.packets_out += 1;
        self.tx.chrono.start(Held::ByNothing, cx.now);
        cx.count(Counter::TcpExtTCPOrigDataSent);
    }

    /// The payload and the option that a SYN has: none if it goes again.
    pub(in super::super) fn syn_extras(&self) -> (usize, Option<FastOpen>) {
        let first = self.tx.snd_nxt == self.tx.iss && self.state == State::SynSent;
        if first { (usize::from(self.fast.carried), self.fast.option) } else { (0, None) }
    }

    /// What the SYN-ACK says to our Fast Open (`tcp_rcv_fastopen_synack`). The connection stands, what is acknowledged is
    /// taken off.
    pub(in super::super) fn fast_open_answered(&mut self, cx: &mut Cx, skb: &Skb, seg: &Segment) {
        if !self.fast.tried {
            return;
        }
        let answer = FastOpen::parse(seg.option_bytes(skb));
        cx.net.fast_open.learn(self.between(), self.tx.mss_clamp, self.fast.option, answer);
        if self.fast.carried == 0 {
            return;
        }
        self.fast.data_acked = self.tx.snd_una == self.tx.snd_nxt;
        if self.fast.data_acked {
            return cx.count(Counter::TcpExtTCPFastOpenActive);
        }
        cx.count(Counter::TcpExtTCPFastOpenActiveFail);
        let again = self.loss.total_retrans > 0;
        self.fast.fail = if again { FastOpenFail::SynRetransmitted } else { FastOpenFail::DataNotAcked };
        if self.cong.retrans_out == 0 {
            self.resend_all(cx);
        }
    }

    /// Data, or a FIN, in the answer to a Fast Open is taken, unless the peer did not take ours.
    pub(in super::super) fn take_synack_data(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        let nothing = seg.len == 0 && !seg.flags.fin();
        if nothing || !self.fast.tried || self.tx.snd_una != self.tx.snd_nxt {
            return Fate::Consumed(skb, Consumed::Handshake);
        }
        self.fast.data_acked = true;
        let flags = TcpFlags(seg.flags.0 & !TcpFlags::SYN.0);
        let data = Segment { seq: seg.seq + 1, flags, ..*seg };
        self.rx.schedule(skb.truesize);
        let end = self.queue_rcv(cx, skb, &data);
        if seg.flags.fin() {
            self.fin_received(cx);
        }
        self.data_ready(cx, false);
        end
    }

    /// A timeout: the third in a row, or the last before the connection is given up, of one that was opened fast
    /// (`tcp_fastopen_active_detect_blackhole`).
    pub(in super::super) fn fast_open_timed_out(&self, cx: &Cx, last: bool) {
        let fast = &self.fast;
        let timeouts = self.rtt.retransmits;
        let due = timeouts == TIMEOUTS || (timeouts < TIMEOUTS && last);
        if due && (fast.tried || fast.data_acked) {
            cx.net.fast_open.pause(cx);
            cx.count(Counter::TcpExtTCPFastOpenActiveFail);
        }
    }

    /// A reset out of order, of a peer that has not sent a byte.
    pub(in super::super) fn fast_open_strange_reset(&self, cx: &Cx) {
        if self.fast.tried && self.rx.data_segs_in == 0 && self.state == State::Established {
            cx.net.fast_open.pause(cx);
        }
    }

    /// The connection ends (`tcp_fastopen_active_disable_ofo_check`): all that came is a FIN behind data that did not, or
    /// it was a good one.
    pub(in super::super) fn fast_open_over(&self, cx: &Cx) {
        if !self.fast.tried {
            return;
        }
        if self.rx.data_segs_in > 0 {
            cx.net.fast_open.went_well();
        } else if self.only_fin_waits() {
            cx.net.fast_open.pause(cx);
        }
    }

    /// Out of order there is a FIN by itself, and nothing else.
    fn only_fin_waits(&self) -> bool {
        let ofo = &self.rx.ofo;
        ofo.first().is_some_and(|first| ofo.next(first).is_none() && TcpFlags(ofo[first].tcp_flags).fin())
    }

    /// Who connects and ends without a byte leaves no trace on the wire: only the port is to be given back.
    pub(in super::super) fn drop_deferred(&mut self, cx: &mut Cx) {
        if std::mem::take(&mut self.fast.deferred) {
            cx.binds.disconnect(&self.tuple);
        }
    }
}
