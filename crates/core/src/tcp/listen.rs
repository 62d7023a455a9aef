//! Passive open: a SYN for a listener becomes a request, the third segment of the handshake makes it a socket.

use std::sync::Arc;

use rxpath_mem::Skb;
use rxpath_trace::{AckWhy, Consumed, Counter, DropReason, EventKind, PacketId};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions, Tuple};

use super::auth::{AoIds, HalfOpen, Isns};
use super::challenge::may_challenge;
use super::cookie;
use super::ecn;
use super::ip_fields::{IpFields, without_ecn};
use super::isn::{first_ip_id, secure_tcp_seq, secure_ts_offset, tsval};
use super::reply::{self, Bare};
use super::window::select_initial_window;
use super::{
    MS, MSS_DEFAULT, RTO_INITIAL, Request, RtoStats, Segment, State, TSTAMP_ALIGNED, TcpSock, WriteQueue, fast_open,
    tick,
};
use crate::cx::{Cx, End, Fate};
use crate::route::{self, AddrType};
use crate::socket::{Listener, Sock};

/// A segment for a listener (`tcp_v4_do_rcv`, LISTEN): how it ends, or a request. `isn` is given when TIME-WAIT made way,
/// `ao` if the segment carried an authentication code, which is right.
pub(super) fn rcv(
    cx: &mut Cx,
    skb: Skb,
    seg: &Segment,
    tuple: Tuple,
    listener: &Arc<Listener>,
    (isn, ao): (Option<SeqNum>, Option<AoIds>),
) -> Result<(Skb, Request), End> {
    if seg.flags.ack() {
        // It was no cookie.
        let half_open = HalfOpen { tuple, isns: Isns { local: seg.ack - 1, remote: seg.seq - 1 }, ids: ao };
        if let Ok(signer) = listener.auth.signer(&half_open, seg.ack) {
            reply::reset(cx, &skb, seg, signer);
        }
        return Err(Fate::Drop(skb, DropReason::TcpFlags));
    }
    if seg.flags.rst() {
        return Err(Fate::Drop(skb, DropReason::TcpReset));
    }
    if !seg.flags.syn() || seg.flags.fin() {
        return Err(Fate::Drop(skb, DropReason::TcpFlags));
    }
    if is_for_many(cx, &tuple) {
        // RFC 9293 section 3.9.2.3 (MUST-57): `tcp_v4_conn_request`.
        cx.count(Counter::TcpExtListenDrops);
        return Err(Fate::Drop(skb, DropReason::NotSpecified));
    }
    conn_request(cx, skb, seg, tuple, listener, (isn, ao))
}

/// The segment came for all hosts of a network, or for a group.
fn is_for_many(cx: &Cx, tuple: &Tuple) -> bool {
    matches!(cx.net.fib.addr_type(tuple.local), AddrType::Broadcast | AddrType::Multicast)
}

/// `tcp_conn_request`: the limits, then the request. An `isn` that is given passes the limits.
fn conn_request(
    cx: &mut Cx,
    skb: Skb,
    seg: &Segment,
    tuple: Tuple,
    listener: &Arc<Listener>,
    (isn, ao): (Option<SeqNum>, Option<AoIds>),
) -> Result<(Skb, Request), End> {
    let wants_cookie = isn.is_none() && (cx.net.sysctl.tcp_syncookies == 2 || listener.request_queue_full());
    if wants_cookie && cx.net.sysctl.tcp_syncookies > 0 {
        cx.count(Counter::TcpExtTCPReqQFullDoCookies);
    } else if isn.is_none() && over_limits(cx, listener) {
        cx.count(Counter::TcpExtListenDrops);
        return Err(Fate::Drop(skb, DropReason::TcpListenOverflow));
    }
    if listener.accept_queue_full() {
        cx.count(Counter::TcpExtListenOverflows);
        cx.count(Counter::TcpExtListenDrops);
        return Err(Fate::Drop(skb, DropReason::TcpListenOverflow));
    }
    let options = seg.options(&skb);
    let Some(mut request) = Request::of_syn(cx, seg, &options, tuple, listener, isn) else {
        cx.count(Counter::IpOutNoRoutes);
        cx.count(Counter::TcpExtListenDrops);
        return Err(Fate::Drop(skb, DropReason::IpOutnoroutes));
    };
    request.tos = ecn::tos_of(&skb);
    request.ecn = ecn::wanted(cx.net.sysctl.tcp_ecn, seg.flags, request.tos);
    request.ao = ao;
    if !wants_cookie && request.sack && listener.auth.signs_md5(&tuple) {
        // Beside the signature and timestamps there is no room for what SACK has to say.
        request.ts_recent = None;
    }
    if wants_cookie {
        request.bake(cx);
        request.send_synack(cx);
        return Err(Fate::Consumed(skb, Consumed::Handshake));
    }
    let is_signed = ao.is_some() || listener.auth.signs_md5(&tuple);
    if !is_signed {
        let admitted = fast_open::admit(cx, &skb, seg, &tuple, listener);
        (request.early, request.fast_open) = (admitted.now, admitted.cookie);
    }
    Ok((skb, request))
}

/// The request queue is full, or, without cookies to fall back on, so nearly full that the rest is kept for peers that
/// are known.
fn over_limits(cx: &Cx, listener: &Listener) -> bool {
    if listener.request_queue_full() {
        cx.count(Counter::TcpExtTCPReqQFullDrop);
        return true;
    }
    if cx.net.sysctl.tcp_syncookies > 0 {
        return false;
    }
    let max = i64::from(cx.net.sysctl.tcp_max_syn_backlog);
    max - i64::from(listener.requests()) < max / 4
}

/// The request that an ACK for a listener answers, if it carries a cookie that is good (`cookie_v4_check`).
pub(super) fn cookie_check(
    cx: &Cx,
    skb: &Skb,
    seg: &Segment,
    tuple: Tuple,
    listener: &Arc<Listener>,
    ao: Option<AoIds>,
) -> Option<Request> {
    let net = &cx.net;
    if net.sysctl.tcp_syncookies == 0 || seg.flags.syn() || seg.flags.rst() || !listener.overflowed_recently(cx.now) {
        return None;
    }
    let (cookie, rcv_isn) = (seg.ack - 1, seg.seq - 1);
    let Some(mss) = cookie::check_sequence(&net.secret, &tuple, cookie, rcv_isn, cx.now) else {
        cx.count(Counter::TcpExtSyncookiesFailed);
        return None;
    };
    cx.count(Counter::TcpExtSyncookiesRecv);
    let stamps = seg.options(skb).timestamps.filter(|_| net.sysctl.tcp_timestamps != 0);
    // An echo of nothing is taken as it is, and so are our timestamps from then on.
    let masked = net.sysctl.tcp_timestamps == 1 && stamps.is_none_or(|(_, tsecr)| tsecr != 0);
    let offset = if masked { secure_ts_offset(net, &tuple) } else { 0 };
    let agreed = match stamps {
        Some((_, tsecr)) => cookie::decode_timestamp(&net.sysctl, tsecr.wrapping_sub(offset))?,
        None => cookie::Agreed::default(),
    };
    let timestamps = stamps.map(|(tsval, _)| (tsval, 0));
    let options = TcpOptions {
        mss: Some(mss),
        wscale: agreed.wscale,
        timestamps,
        sack_permitted: agreed.sack,
        ..TcpOptions::default()
    };
    let syn = Segment { seq: rcv_isn, ..*seg };
    let mut request = Request::of_syn(cx, &syn, &options, tuple, listener, Some(cookie))?;
    // What the application wants was looked at before, and the least that a cookie stands for may be more.
    request.mss = mss;
    // Here the kernel counts the window in segments of the peer's.
    request.select_window(cx, mss);
    request.ts_offset = offset;
    request.tos = ecn::tos_of(skb);
    request.ecn = agreed.ecn && net.sysctl.tcp_ecn != 0;
    request.ao = ao;
    request.answered(stamps.map(|(_, tsecr)| tsecr));
    Some(request)
}

/// The longest packet that the way to a peer carries; None if no way leads there.
fn mtu_to(cx: &Cx, tuple: &Tuple, listener: &Listener) -> Option<u16> {
    let bound = (listener.ifindex != 0).then_some(listener.ifindex);
    route::output_by(&cx.net, tuple.remote, Some(tuple.local), bound).ok().map(|route| route.mtu)
}

/// The listener that a request whose own is closed goes over to, if it does (`tcp_migrate_req`).
pub(super) fn heir_of(cx: &mut Cx, request: &Request) -> Option<Arc<Listener>> {
    if !request.listener.is_closed() { None } else { heir(cx, &request.listener, &request.tuple) }
}

fn heir(cx: &mut Cx, closed: &Listener, tuple: &Tuple) -> Option<Arc<Listener>> {
    if !cx.net.sysctl.tcp_migrate_req {
        return None;
    }
    let hash = cx.net.hasher.hash(&tuple.reversed());
    cx.listeners.successor(closed, hash).cloned()
}

/// Nobody is left whom a request might go over to.
pub(super) fn not_migrated(cx: &Cx, request: &Request) {
    if cx.net.sysctl.tcp_migrate_req && request.listener.shared {
        cx.count(Counter::TcpExtTCPMigrateReqFailure);
    }
}

/// A handshake has ended while its listener closed: the connection goes over to another one, or is reset.
#[cold]
pub(super) fn push_to_heir(cx: &mut Cx, closed: &Listener, sock: Arc<Sock>) {
    let migrates = cx.net.sysctl.tcp_migrate_req && closed.shared;
    let sock = match heir(cx, closed, &sock.tuple) {
        Some(heir) => match heir.push(sock) {
            Ok(()) => {
                cx.count(Counter::TcpExtTCPMigrateReqSuccess);
                return cx.wakeups.acceptor(&heir);
            }
            Err(sock) => sock,
        },
        None => sock,
    };
    if migrates {
        cx.count(Counter::TcpExtTCPMigrateReqFailure);
    }
    cx.orphans.push(sock);
}

/// What the third segment of a handshake does to a request.
pub(super) enum Checked {
    /// The segment ends; the request stays.
    Stay(End),
    /// The segment ends and the request with it.
    Remove(End),
    /// The segment acknowledges something else: it is the listener's to judge, who may know it for a cookie.
    Listener(Skb),
    /// The handshake is complete: the segment goes on to the new socket.
    Child(Skb),
}

impl Request {
    /// The request of a SYN with these options; our sequence number may be given. None if no way leads to the peer.
    pub(super) fn of_syn(
        cx: &Cx,
        seg: &Segment,
        options: &TcpOptions,
        tuple: Tuple,
        listener: &Arc<Listener>,
        isn: Option<SeqNum>,
    ) -> Option<Request> {
        let mtu = mtu_to(cx, &tuple, listener)?;
        let sysctl = &cx.net.sysctl;
        let ts_recent = options.timestamps.filter(|_| sysctl.tcp_timestamps != 0).map(|(tsval, _)| tsval);
        let snd_wscale = options.wscale.filter(|_| sysctl.tcp_window_scaling);
        let wanted = listener.options();
        let advmss = wanted.mss_clamp(mtu.saturating_sub(40));
        let stamps = if ts_recent.is_some() { u16::from(TSTAMP_ALIGNED) } else { 0 };
        let ts_offset = if sysctl.tcp_timestamps == 1 { secure_ts_offset(&cx.net, &tuple) } else { 0 };
        let now_ts = tsval(cx.now, ts_offset);
        let mut request = Request {
            tuple,
            listener: Arc::clone(listener),
            rcv_isn: seg.seq,
            rcv_nxt: seg.seq + 1,
            snt_isn: isn.unwrap_or_else(|| secure_tcp_seq(&cx.net, &tuple, cx.now)),
            mss: options.mss.filter(|&mss| mss != 0).map_or(MSS_DEFAULT, |mss| wanted.mss_clamp(mss)),
            advmss,
            rcv_wnd: 0,
            window_clamp: 0,
            wscale: snd_wscale.map(|snd| (snd, 0)),
            sack: options.sack_permitted && sysctl.tcp_sack,
            ts_recent,
            tos: 0,
            ecn: false,
            ts_offset,
            tsval_sent: (now_ts, now_ts),
            sent_at: cx.now,
            retransmits: 0,
            resent: false,
            total_retrans: 0,
            echoed: None,
            stray: None,
            deadline: cx.now + RTO_INITIAL,
            last_oow_ack: None,
            cookie: false,
            acked: false,
            fast_open: None,
            early: false,
            ao: None,
        };
        request.select_window(cx, advmss - stamps);
        Some(request)
    }

    /// The first window, in whole segments of `mss`, and the shift of those that follow (`tcp_select_initial_window`).
    fn select_window(&mut self, cx: &Cx, mss: u16) {
        let (sysctl, wanted) = (&cx.net.sysctl, self.listener.options());
        let space = wanted.rcvbuf(sysctl) / 2;
        let scale_space = sysctl.tcp_rmem.max.max(sysctl.rmem_max);
        let (window, clamp, shift) =
            select_initial_window(space, mss, self.wscale.is_some(), scale_space, wanted.clamp(space));
        (self.rcv_wnd, self.window_clamp) = (window, clamp);
        self.wscale = self.wscale.map(|(snd, _)| (snd, shift));
    }

    /// Puts what must be remembered into the SYN-ACK, so that the request can be forgotten (`cookie_init_sequence`).
    fn bake(&mut self, cx: &Cx) {
        self.listener.note_overflow(cx.now);
        if self.ts_recent.is_none() {
            // Without timestamps there is no place for options.
            self.wscale = None;
            self.sack = false;
            self.ecn = false;
        }
        (self.snt_isn, self.mss) = cookie::init_sequence(&cx.net.secret, &self.tuple, self.rcv_isn, self.mss, cx.now);
        self.cookie = true;
        cx.count(Counter::TcpExtSyncookiesSent);
    }

    /// The third segment is here, and echoes this timestamp, although nothing of the SYN-ACK is known any more.
    pub(super) fn answered(&mut self, tsecr: Option<u32>) {
        self.cookie = true;
        self.resent = true;
        self.echoed = tsecr.filter(|&tsecr| tsecr != 0);
    }

    /// Sends the SYN-ACK (`tcp_make_synack`): options in the order MSS, SACK-permitted with
    /// timestamps, window scale.
    pub(super) fn send_synack(&mut self, cx: &mut Cx) {
        let now_ts = if self.cookie {
            let peers = self.wscale.map(|(snd, _)| snd);
            cookie::init_timestamp(tsval(cx.now, 0), cookie::Agreed { wscale: peers, sack: self.sack, ecn: self.ecn })
                .wrapping_add(self.ts_offset)
        } else {
            tsval(cx.now, self.ts_offset)
        };
        self.tsval_sent.1 = now_ts;
        // The way may have become narrower since the SYN came.
        if self.resent
            && let Some(mtu) = mtu_to(cx, &self.tuple, &self.listener)
        {
            self.advmss = self.advmss.min(mtu.saturating_sub(40));
        }
        let ip = self.ip_fields(cx);
        let bare = Bare {
            seq: self.snt_isn,
            ack: self.rcv_nxt,
            flags: TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0 | if self.ecn { TcpFlags::ECE.0 } else { 0 }),
            window: self.rcv_wnd.min(65_535) as u16,
            options: TcpOptions {
                mss: Some(self.advmss),
                sack_permitted: self.sack,
                wscale: self.wscale.map(|(_, rcv)| rcv),
                timestamps: self.ts_recent.map(|recent| (now_ts, recent)),
                ..TcpOptions::default()
            },
            tos: ip.tos(),
            ttl: ip.ttl,
            ifindex: self.listener.ifindex,
        };
        match self.fast_open.take() {
            Some(option) => reply::send_fast_open(cx, &self.tuple, bare, &option),
            None => self.send(cx, bare),
        };
    }

    /// What the listener wants of IP headers, or of the type of service what the peer wants (`tcp_reflect_tos`).
    fn ip_fields(&self, cx: &Cx) -> IpFields {
        let ip = self.listener.options().ip;
        if cx.net.sysctl.tcp_reflect_tos { IpFields { tos: without_ecn(self.tos), ..ip } } else { ip }
    }

    /// Whether it takes what comes by this interface.
    pub(super) fn takes_link(&self, ifindex: u16) -> bool {
        self.listener.takes_link(ifindex)
    }

    /// What signatures of its segments depend on.
    pub(super) fn half_open(&self) -> HalfOpen {
        HalfOpen { tuple: self.tuple, isns: Isns { local: self.snt_isn, remote: self.rcv_isn }, ids: self.ao }
    }

    /// Sends a segment, signed if there is a key for the peer. None goes if there is not the key that the peer asked for.
    fn send(&self, cx: &mut Cx, bare: Bare) -> PacketId {
        match self.listener.auth.signer(&self.half_open(), bare.seq) {
            Ok(signer) => reply::send(cx, &self.tuple, bare, signer.as_ref()),
            Err(_) => PacketId::NONE,
        }
    }

    pub(super) fn reset(&self, cx: &mut Cx, skb: &Skb, seg: &Segment) {
        if let Ok(signer) = self.listener.auth.signer(&self.half_open(), seg.ack) {
            reply::reset(cx, skb, seg, signer);
        }
    }

    /// `tcp_check_req`, in its order. `heir` is the listener that the connection would go over to.
    pub(super) fn check(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, heir: Option<&Arc<Listener>>) -> Checked {
        let told = seg.options(&skb).timestamps;
        let stamps = self.ts_recent.and_then(|recent| told.map(|stamps| (recent, stamps)));
        let paws = self.is_of_the_past(stamps.map(|(recent, (tsval, _))| (recent, tsval)));
        let only_syn = seg.flags.syn() && !seg.flags.ack() && !seg.flags.rst();
        if only_syn && seg.seq == self.rcv_isn && !paws {
            return self.retransmitted_syn(cx, skb);
        }
        if seg.flags.ack() && !seg.flags.rst() && seg.ack != self.snt_isn + 1 {
            if self.ao.is_none() {
                return Checked::Listener(skb);
            }
            // It was signed for this connection, and the answer must be.
            self.reset(cx, &skb, seg);
            return Checked::Stay(Fate::Drop(skb, DropReason::TcpFlags));
        }
        let echo_wrong = stamps.is_some_and(|(_, (_, tsecr))| self.echo_wrong(tsecr));
        if paws || echo_wrong || !self.in_window(seg) {
            return Checked::Stay(self.out_of_window(cx, skb, seg, paws, echo_wrong));
        }
        self.echoed = stamps.map(|(_, (_, tsecr))| tsecr).filter(|&tsecr| tsecr != 0);
        // A SYN at the very start lies below the window: ignored.
        let syn = seg.flags.syn() && seg.seq != self.rcv_isn;
        if seg.flags.rst() && seg.seq != self.rcv_nxt {
            self.challenge(cx, &skb);
            return Checked::Stay(Fate::Drop(skb, DropReason::TcpReset));
        }
        if seg.flags.rst() || syn {
            cx.count(Counter::TcpAttemptFails);
            cx.count(Counter::TcpExtEmbryonicRsts);
            if syn {
                self.reset(cx, &skb, seg);
            }
            return Checked::Remove(Fate::Consumed(skb, Consumed::Handshake));
        }
        if !seg.flags.ack() {
            return Checked::Stay(Fate::Drop(skb, DropReason::TcpFlags));
        }
        let listener = heir.unwrap_or(&self.listener);
        if self.retransmits < listener.deferred() && seg.end_seq == self.rcv_isn + 1 {
            self.acked = true;
            cx.count(Counter::TcpExtTCPDeferAcceptDrop);
            return Checked::Stay(Fate::Drop(skb, DropReason::NotSpecified));
        }
        if listener.accept_queue_full() {
            if heir.is_some() {
                cx.count(Counter::TcpExtTCPMigrateReqFailure);
            }
            cx.count(Counter::TcpExtListenOverflows);
            cx.count(Counter::TcpExtListenDrops);
            if cx.net.sysctl.tcp_abort_on_overflow {
                self.reset(cx, &skb, seg);
                cx.count(Counter::TcpExtEmbryonicRsts);
                return Checked::Remove(Fate::Drop(skb, DropReason::TcpListenOverflow));
            }
            return Checked::Stay(Fate::Drop(skb, DropReason::TcpListenOverflow));
        }
        // Only what makes the connection moves its clock; that of a peer which offered no timestamps is kept apart.
        if let Some((tsval, _)) = told.filter(|_| !seg.seq.after(self.rcv_nxt)) {
            *if stamps.is_some() { &mut self.ts_recent } else { &mut self.stray } = Some(tsval);
        }
        Checked::Child(skb)
    }

    fn retransmitted_syn(&mut self, cx: &mut Cx, skb: Skb) -> Checked {
        if self.answer_again(cx) {
            self.deadline = cx.now + (RTO_INITIAL << self.retransmits.min(7));
        }
        Checked::Stay(Fate::Consumed(skb, Consumed::Handshake))
    }

    /// The SYN came again: so goes the SYN-ACK, unless the limit of such answers is reached.
    pub(super) fn answer_again(&mut self, cx: &mut Cx) -> bool {
        if self.rate_limited(cx, Counter::TcpExtTCPACKSkippedSynRecv) {
            return false;
        }
        cx.count(Counter::TcpRetransSegs);
        cx.count(Counter::TcpExtTCPSynRetrans);
        self.resent = true;
        self.total_retrans += 1;
        self.send_synack(cx);
        true
    }

    /// A timestamp, the second, is older than the one that is remembered.
    pub(super) fn is_of_the_past(&self, stamps: Option<(u32, u32)>) -> bool {
        stamps.is_some_and(|(recent, tsval)| recent.wrapping_sub(tsval) as i32 > 0)
    }

    fn echo_wrong(&self, tsecr: u32) -> bool {
        let (first, last) = self.tsval_sent;
        tsecr != 0 && ((tsecr.wrapping_sub(first) as i32) < 0 || (tsecr.wrapping_sub(last) as i32) > 0)
    }

    pub(super) fn in_window(&self, seg: &Segment) -> bool {
        let (start, end) = (self.rcv_nxt, self.rcv_nxt + self.rcv_wnd);
        seg.seq == start
            || (seg.end_seq.after(start) && seg.seq.before(end))
            || (seg.seq == end && seg.seq == seg.end_seq)
    }

    pub(super) fn out_of_window(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, paws: bool, echo_wrong: bool) -> End {
        // What consumes sequence numbers is always answered (`tcp_oow_rate_limited`).
        let exempt = (seg.len > 0 || seg.flags.fin()) && !seg.flags.syn();
        if !seg.flags.rst() && (exempt || !self.rate_limited(cx, Counter::TcpExtTCPACKSkippedSynRecv)) {
            self.ack(cx, &skb, if paws { AckWhy::OldTimestamp } else { AckWhy::OutOfWindow });
        }
        if paws {
            cx.count(Counter::TcpExtPAWSEstab);
            return Fate::Drop(skb, DropReason::TcpRfc7323Paws);
        }
        if echo_wrong {
            cx.count(Counter::TcpExtTSEcrRejected);
            return Fate::Drop(skb, DropReason::TcpRfc7323Tsecr);
        }
        Fate::Drop(skb, DropReason::TcpOverwindow)
    }

    pub(super) fn rate_limited(&mut self, cx: &Cx, counter: Counter) -> bool {
        super::ack_policy::oow_rate_limited(&mut self.last_oow_ack, cx, counter)
    }

    /// A reset that may be somebody else's is asked about, within the limits of such questions.
    pub(super) fn challenge(&mut self, cx: &mut Cx, skb: &Skb) {
        if may_challenge(&mut self.last_oow_ack, cx) {
            self.ack(cx, skb, AckWhy::Challenge);
        }
    }

    /// An ACK for the request as it stands, with the type of service of what it answers (`tcp_v4_reqsk_send_ack`).
    fn ack(&mut self, cx: &mut Cx, skb: &Skb, why: AckWhy) {
        let scale = self.wscale.map_or(0, |(_, rcv)| rcv);
        let bare = Bare {
            seq: self.snt_isn + 1,
            ack: self.rcv_nxt,
            flags: TcpFlags::ACK,
            window: (self.rcv_wnd >> scale).min(65_535) as u16,
            options: TcpOptions {
                timestamps: self.ts_recent.map(|recent| (tsval(cx.now, self.ts_offset), recent)),
                ..TcpOptions::default()
            },
            tos: without_ecn(ecn::tos_of(skb)),
            ttl: None,
            ifindex: self.listener.ifindex,
        };
        let sent = self.send(cx, bare);
        cx.effect(EventKind::AckNow, self.rcv_nxt.0, why as u32, sent);
    }

    /// It goes over to another listener, as its own is closed (`inet_reqsk_clone`).
    pub(super) fn migrate(&mut self, cx: &Cx, heir: Arc<Listener>) {
        cx.count(Counter::TcpExtTCPMigrateReqSuccess);
        self.listener.request_moved(&heir, self.retransmits == 0);
        self.listener = heir;
    }

    /// The SYN-ACK was not answered in time: again after 1, 2, 4, 8, 16 seconds; false when it is given up
    /// (`reqsk_timer_handler`).
    pub(super) fn timer(&mut self, cx: &mut Cx) -> bool {
        match heir_of(cx, self) {
            Some(heir) => self.migrate(cx, heir),
            None if self.listener.is_closed() => {
                not_migrated(cx, self);
                return false;
            }
            None => {}
        }
        let (retries, deferred) = (self.synack_retries(cx), self.listener.deferred());
        // A peer that has answered is waited for as long as the listener wants data.
        let waits = self.acked && self.retransmits < deferred;
        cx.count(Counter::TcpExtTCPTimeouts);
        if self.retransmits >= retries && !waits {
            return false;
        }
        let resends = !self.acked || deferred == 0 || self.retransmits + 1 >= deferred;
        if self.retransmits == 0 {
            self.listener.request_aged();
        }
        self.retransmits += 1;
        if !resends {
            self.deadline = cx.now + (RTO_INITIAL << self.retransmits.min(7));
            return true;
        }
        self.resent = true;
        self.total_retrans += 1;
        cx.count(Counter::TcpExtTCPSynRetrans);
        cx.count(Counter::TcpRetransSegs);
        self.send_synack(cx);
        self.deadline = cx.now + (RTO_INITIAL << self.retransmits.min(7));
        true
    }

    /// SYN-ACKs that are sent again: fewer while more than half of the queue is taken by peers that do not answer
    /// (`reqsk_timer_handler`).
    fn synack_retries(&self, cx: &Cx) -> u8 {
        let wanted = self.listener.options().syn_retries.unwrap_or(cx.net.sysctl.tcp_synack_retries);
        let (requests, mut young) = (self.listener.requests(), self.listener.young_requests() * 2);
        let mut retries = wanted;
        if requests * 2 > self.listener.backlog.max(8) {
            while retries > 2 && requests >= young {
                retries -= 1;
                young *= 2;
            }
        }
        retries
    }

    /// The socket that the completed handshake makes (`tcp_v4_syn_recv_sock`, `tcp_create_openreq_child`), in SYN-RECV.
    pub(super) fn child(&self, cx: &mut Cx) -> Option<TcpSock> {
        let mut sk = self.bare_child(cx)?;
        let echoed = |tsecr: u32| u64::from(tsval(cx.now, self.ts_offset).wrapping_sub(tsecr).max(1)) * MS;
        let sample = if self.resent { self.echoed.map(echoed) } else { Some(cx.now - self.sent_at) };
        match sample {
            Some(rtt) => sk.rtt.sample(rtt, sk.tx.snd_una, sk.tx.snd_nxt),
            None if !self.cookie => sk.rtt.no_sample(),
            None => {}
        }
        Some(sk)
    }

    /// The socket of a request, of which no round trip is known.
    pub(super) fn bare_child(&self, cx: &mut Cx) -> Option<TcpSock> {
        let ifindex = self.listener.ifindex;
        let bound = (ifindex != 0).then_some(ifindex);
        let route = route::output_by(&cx.net, self.tuple.remote, Some(self.tuple.local), bound).ok()?;
        let sysctl = &cx.net.sysctl;
        let mut sk = TcpSock::new(State::SynRecv, self.tuple, route, sysctl.tcp_rmem.default, 0);
        sk.set_options(&self.listener.options(), sysctl);
        sk.ifindex = ifindex;
        sk.ip = self.ip_fields(cx);
        sk.set_auth(self.listener.auth.child(&self.half_open()));
        sk.opts.timestamps = self.ts_recent.is_some();
        sk.opts.sack = self.sack;
        sk.ecn.ok = self.ecn;
        sk.opts.wscale = self.wscale.is_some();
        (sk.opts.snd_wscale, sk.opts.rcv_wscale) = self.wscale.unwrap_or((0, 0));
        if let Some(recent) = self.ts_recent {
            sk.store_ts_recent(cx.now, recent);
        } else {
            // Nobody looks at it until TIME-WAIT, whose ACKs echo it.
            sk.opts.ts_recent = self.stray.unwrap_or(0);
        }
        sk.loss.total_retrans = self.total_retrans;
        sk.loss.rto = RtoStats::of_synacks(self.retransmits, self.sent_at, cx.now);
        if self.retransmits > 0 {
            let first = self.ts_recent.map(|_| (self.tsval_sent.0, self.sent_at));
            sk.synacks_timed_out(self.snt_isn, first);
        }
        let start = self.rcv_isn + 1;
        sk.rx.rcv_nxt = start;
        sk.rx.rcv_wup = start;
        sk.rx.copied_seq = start;
        sk.rx.rcv_wnd = self.rcv_wnd;
        sk.rx.rcv_ssthresh = self.rcv_wnd;
        sk.rx.window_clamp = self.window_clamp;
        let first = self.snt_isn + 1;
        sk.tx.iss = self.snt_isn;
        sk.tx.snd_una = self.snt_isn;
        sk.tx.first_una = first;
        sk.tx.snd_nxt = first;
        sk.tx.write_seq = first;
        sk.tx.buffer_seq = first;
        sk.tx.queue = WriteQueue::starting_at(first);
        sk.tx.snd_sml = first;
        sk.tx.advmss = self.advmss;
        sk.tx.ts_offset = self.ts_offset;
        sk.tx.ip_id = first_ip_id(&cx.net, &self.tuple, cx.now);
        sk.tx.last_sent = cx.now;
        sk.ack.last_rcv = tick(cx.now);
        sk.rtt.rto_min = u64::from(sysctl.tcp_rto_min_us) * 1_000;
        sk.sync_mss(self.mss);
        sk.begin_keepalive(cx);
        cx.count(Counter::TcpPassiveOpens);
        Some(sk)
    }
}
