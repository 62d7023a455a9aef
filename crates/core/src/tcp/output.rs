//! Segments that leave a socket: data, ACKs, FIN, probes.

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, Skb};
use rxpath_trace::{Counter, OutputWhat, PacketId, Time};
use rxpath_wire::{
    Addr, IpProto, SeqNum, TcpFlags, TcpHeader, TcpOptions, TcpOptionsWriter, TcpRepr, Tuple, pseudo_sum,
    tcp as wire_tcp,
};

use super::auth::Signer;
use super::chrono::Held;
use super::isn::tsval;
use super::mtu_probe::Probed;
use super::nagle::Hold;
use super::write_queue::{Filled, PACKET_CHARGE, Unsent};
use super::{HEADER_MAX, MSS_DEFAULT, SentSegment, State, TSTAMP_ALIGNED, TcpSock, XmitTimer, expiry, tick};
use crate::cx::Cx;
use crate::route::{self, Route};
use crate::tx::{self, IpFlow};

/// Largest payload of one super-frame: below 64 KiB with every header.
const GSO_MAX: u32 = 65_535 - 20 - HEADER_MAX as u32;

/// What is to be sent of the write queue.
#[derive(Clone, Copy, Debug)]
struct Next {
    /// Payload bytes.
    len: u32,
    /// With the FIN.
    fin: bool,
    /// With PSH.
    psh: bool,
    /// A record ends with it.
    eor: bool,
}

/// How the packets of the write queue are offered to the network.
#[derive(Clone, Copy, Debug)]
struct Offer {
    /// No more than one frame.
    one: bool,
    /// What may hold the last one back.
    hold: Hold,
    /// It is a tail loss probe: one segment goes even if the congestion window is full.
    probe: bool,
    /// Payload bytes of a segment, as they were when the offer was made: what the first packet has told of for once
    /// leaves no room to the others (`mss_now`).
    mss: u32,
}

impl Offer {
    /// All that may go, in segments of `mss` bytes.
    fn all(hold: Hold, mss: u32) -> Offer {
        Offer { one: false, hold, probe: false, mss }
    }
}

/// Finishes a segment whose payload lies in `skb`: header, checksum, then down to IP.
///
/// `repr.sport`/`dport` are taken as given. Without a checksum offload the checksum is filled in here.
#[inline(always)]
pub(super) fn transmit_segment(cx: &mut Cx, skb: Skb, repr: &TcpRepr, route: &mut Route, flow: &IpFlow) {
    transmit_with_options(cx, skb, repr, route, flow, &[]);
}

/// [`transmit_segment`] with IP options, at most 40 bytes in whole words.
#[inline(always)]
pub(super) fn transmit_with_options(
    cx: &mut Cx,
    mut skb: Skb,
    repr: &TcpRepr,
    route: &mut Route,
    flow: &IpFlow,
    options: &[u8],
) {
    let payload = skb.len();
    let header_len = repr.header_len();
    let header = skb.push(header_len);
    let (src, dst): (Addr, Addr) = (flow.src, flow.dst);
    if payload == 0 {
        wire_tcp::emit_summed(header, *repr, src, dst, 0, 0);
    } else {
        wire_tcp::emit(header, *repr);
    }
    if route.features.tx_csum || skb.gso_size > 0 {
        skb.ip_summed = IpSummed::Partial;
        wire_tcp::fill_pseudo(src, dst, skb.data_mut(), header_len + payload);
    } else if payload > skb.headlen() - header_len {
        fill_checksum_of_pieces(&mut skb, src, dst);
    } else if payload > 0 {
        wire_tcp::fill_checksum(src, dst, skb.data_mut());
    }
    send_segment(cx, skb, repr, route, flow, options);
}

/// [`transmit_with_options`] for a segment that is signed: of the same options, those of TCP that fit behind the signature.
pub(super) fn transmit_signed(
    cx: &mut Cx,
    mut skb: Skb,
    repr: &TcpRepr,
    route: &mut Route,
    flow: &IpFlow,
    options: &[u8],
    signer: &Signer,
) {
    let mut field = TcpOptionsWriter::new();
    signer.write(&mut field);
    field.append(&repr.options);
    let header_len = TcpHeader::LEN + field.as_bytes().len();
    wire_tcp::emit_raw(skb.push(header_len), *repr, field.as_bytes());
    signer.sign(flow.src, flow.dst, skb.data_mut(), header_len);
    send_unsummed(cx, skb, repr, route, flow, options);
}

/// [`send_segment`] for a segment in one piece that has no checksum yet.
fn send_unsummed(cx: &mut Cx, mut skb: Skb, repr: &TcpRepr, route: &mut Route, flow: &IpFlow, options: &[u8]) {
    if route.features.tx_csum {
        skb.ip_summed = IpSummed::Partial;
        let len = skb.len();
        wire_tcp::fill_pseudo(flow.src, flow.dst, skb.data_mut(), len);
    } else {
        wire_tcp::fill_checksum(flow.src, flow.dst, skb.data_mut());
    }
    send_segment(cx, skb, repr, route, flow, options);
}

/// Hands a segment whose header is complete to IP.
#[inline(always)]
fn send_segment(cx: &mut Cx, mut skb: Skb, repr: &TcpRepr, route: &mut Route, flow: &IpFlow, options: &[u8]) {
    skb.set_transport_header_here();
    skb.seq = repr.seq.0;
    skb.tcp_flags = repr.flags.0;
    if repr.flags.contains(TcpFlags::RST) {
        cx.count(Counter::TcpOutRsts);
    }
    tx::ip_build_and_send(cx, skb, flow, options, route);
}

/// The checksum of a segment that lies in several pieces (`skb_checksum_help`).
#[cold]
fn fill_checksum_of_pieces(skb: &mut Skb, src: Addr, dst: Addr) {
    const CHECKSUM: std::ops::Range<usize> = 16..18;
    let pseudo = pseudo_sum(src, dst, IpProto::TCP, skb.len());
    let (sum, _) = skb.fragments().fold((pseudo, false), |(sum, odd), piece| {
        (csum::combine(sum, csum::sum(piece), odd), odd ^ (piece.len() % 2 == 1))
    });
    if let Some(field) = skb.data_mut().get_mut(CHECKSUM) {
        field.copy_from_slice(&(!sum).to_be_bytes());
    }
}

/// [`transmit_segment`] with TCP options as they are, whatever `repr` says of them; at most 40 bytes in whole words.
#[cold]
pub(super) fn transmit_raw(
    cx: &mut Cx,
    mut skb: Skb,
    repr: &TcpRepr,
    route: &mut Route,
    flow: &IpFlow,
    options: &[u8],
) {
    let header = skb.push(TcpHeader::LEN + options.len());
    wire_tcp::emit_raw(header, *repr, options);
    send_unsummed(cx, skb, repr, route, flow, &[]);
}

impl TcpSock {
    /// Options of every segment after the handshake.
    fn established_options(&mut self, now: Time) -> TcpOptions {
        let timestamps = self.opts.timestamps.then(|| (tsval(now, self.tx.ts_offset), self.opts.ts_recent));
        let mut options = TcpOptions { timestamps, ..TcpOptions::default() };
        if !self.rx.sack.is_empty() {
            options.set_sack(self.rx.sack.report());
        }
        options
    }

    /// Payload of a segment that goes out now: signature and SACK blocks take their share (`tcp_current_mss`).
    #[inline]
    pub(super) fn current_mss(&self) -> u16 {
        let used = if self.opts.timestamps { usize::from(TSTAMP_ALIGNED) } else { 0 };
        let signature = u16::from(self.auth_len);
        let sack = self.rx.sack.option_len(used + usize::from(signature));
        self.tx.mss.saturating_sub(signature + sack).max(1)
    }

    /// The identification of a packet that is cut into `segments`, each of which takes one.
    #[inline(always)]
    fn next_ident(&mut self, segments: u16) -> u16 {
        let ident = self.tx.ip_id;
        self.tx.ip_id = ident.wrapping_add(segments.max(1));
        ident
    }

    /// Sends what `skb` holds as the segment at `seq`: [`TcpSock::transmit_skb`] as a function of its own.
    fn transmit(&mut self, cx: &mut Cx, skb: Skb, seq: SeqNum, flags: TcpFlags, options: TcpOptions) {
        self.transmit_skb(cx, skb, seq, flags, options);
    }

    /// `__tcp_transmit_skb`. Inlined where the flags are known and segments are many: half of it falls away for an ACK.
    #[inline(always)]
    fn transmit_skb(&mut self, cx: &mut Cx, skb: Skb, seq: SeqNum, flags: TcpFlags, options: TcpOptions) {
        let window =
            if flags.contains(TcpFlags::SYN) { self.rx.rcv_wnd.min(65_535) as u16 } else { self.select_window(cx) };
        let acks = flags.contains(TcpFlags::ACK);
        let urgent = self.tx.snd_up.and_then(|up| self.urgent_pointer(seq, up));
        let flags = if urgent.is_some() { TcpFlags(flags.0 | TcpFlags::URG.0) } else { flags };
        let (flags, tos) = if self.ecn.ok && !flags.syn() {
            let new_data = !skb.is_empty() && !seq.before(self.tx.snd_nxt);
            self.ecn.send(flags, new_data)
        } else {
            (flags, 0)
        };
        let ack = if acks { self.rx.rcv_nxt } else { SeqNum(0) };
        if acks {
            if self.ack.compressed > 0 {
                self.count_compressed(cx);
            }
            self.event_ack_sent();
        }
        self.tx.last_transmit = cx.now;
        // What goes again is no new segment.
        let end_seq = seq + (skb.len() as u32 + u32::from(flags.syn()) + u32::from(flags.fin()));
        let (segments, bytes) = (u32::from(skb.gso_segs.max(1)), skb.len() as u32);
        if end_seq == seq || end_seq.after(self.tx.snd_nxt) {
            cx.count_n(Counter::TcpOutSegs, u64::from(segments));
        }
        self.tx.segs_out = self.tx.segs_out.wrapping_add(segments);
        if bytes > 0 {
            self.tx.data_segs_out = self.tx.data_segs_out.wrapping_add(segments);
            self.tx.bytes_sent += u64::from(bytes);
            self.paced(cx.now, bytes);
        }
        let (ident, ttl) = (self.next_ident(skb.gso_segs), self.ip.ttl.unwrap_or(cx.net.sysctl.ip_default_ttl));
        let tos = tos | self.ip.tos();
        let dont_fragment = self.user.mtu_discover.dont_fragment();
        let is_bare = skb.is_empty()
            && !flags.intersects(TcpFlags(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0))
            && options.sack_count == 0
            && urgent.is_none()
            && self.auth_len == 0
            && dont_fragment;
        let numbers = tx::Numbers { seq, ack, flags, window, timestamps: options.timestamps, tos, ttl, ident };
        let skb = if is_bare {
            match tx::xmit_bare(cx, skb, &self.tuple, &numbers, &self.route) {
                Ok(()) => return,
                Err(skb) => skb,
            }
        } else {
            skb
        };
        let Tuple { local, remote, local_port, remote_port } = self.tuple;
        let urgent = urgent.unwrap_or(0);
        let repr = TcpRepr { sport: local_port, dport: remote_port, seq, ack, flags, window, urgent, options };
        let protocol = rxpath_wire::IpProto::TCP;
        let flow = IpFlow { src: local, dst: remote, protocol, ttl, tos, dont_fragment, ident };
        if self.auth_len > 0 {
            return self.sign_and_transmit(cx, skb, &repr, &flow);
        }
        if flags.syn()
            && let (_, Some(option)) = self.syn_extras()
        {
            let mut options = TcpOptionsWriter::all(&repr.options);
            return transmit_raw(cx, skb, &repr, &mut self.route, &flow, options.fast_open(&option).as_bytes());
        }
        transmit_segment(cx, skb, &repr, &mut self.route, &flow);
        if is_bare {
            tx::sent_bare(cx, &self.tuple, &numbers, &self.route);
        }
    }

    /// The end of [`TcpSock::transmit_skb`] for segments that are signed.
    #[cold]
    fn sign_and_transmit(&mut self, cx: &mut Cx, skb: Skb, repr: &TcpRepr, flow: &IpFlow) {
        let opens = repr.flags.syn() && !repr.flags.ack();
        match self.signer(repr.seq, opens) {
            Some(signer) => transmit_signed(cx, skb, repr, &mut self.route, flow, &[], &signer),
            // Nothing but a SYN can be signed before the peer has answered.
            None => cx.drop_skb(skb, rxpath_trace::DropReason::TxError),
        }
    }

    /// Whether what is longer than a segment goes as one packet that the device cuts.
    fn takes_super_frames(&self) -> bool {
        self.route.features.tso && self.tx.snd_up.is_none() && self.auth_len == 0
    }

    /// Sends a pure ACK and gives the packet; None if the pool had no slot for it.
    pub(super) fn transmit_ack(&mut self, cx: &mut Cx) -> Option<PacketId> {
        let skb = cx.alloc_output(OutputWhat::TcpAck, 0, true)?;
        let id = skb.id;
        let seq = self.acceptable_seq();
        let options = self.established_options(cx.now);
        self.transmit_skb(cx, skb, seq, TcpFlags::ACK, options);
        Some(id)
    }

    /// Sequence number of a segment without data: the peer must find it in its window (`tcp_acceptable_seq`).
    fn acceptable_seq(&self) -> SeqNum {
        // A listener's connection begins behind its SYN-ACK, also while that is not acknowledged.
        let una = if self.tx.snd_una.before(self.tx.first_una) { self.tx.first_una } else { self.tx.snd_una };
        let end = una + self.tx.snd_wnd;
        let unit = if self.opts.wscale { 1i32 << self.opts.rcv_wscale } else { 1 };
        if end.before(self.tx.snd_nxt) && (self.tx.snd_nxt - end) >= unit { end } else { self.tx.snd_nxt }
    }

    /// Aborts towards the peer (`tcp_send_active_reset`).
    pub(super) fn send_active_reset(&mut self, cx: &mut Cx) {
        let Some(skb) = cx.alloc_output(OutputWhat::TcpRst, 0, true) else {
            return cx.count(Counter::TcpExtTCPAbortFailed);
        };
        let seq = self.acceptable_seq();
        let options = self.established_options(cx.now);
        self.transmit(cx, skb, seq, TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0), options);
    }

    /// Options of our SYN or, with `ack`, of the SYN-ACK of a simultaneous open, in the kernel's order.
    fn syn_options(&self, cx: &Cx) -> TcpOptions {
        let sysctl = &cx.net.sysctl;
        // Beside an MD5 signature there is no room for timestamps, and later for what SACK has to say.
        let squeezed = self.auth_len > 0 && matches!(self.signer(self.tx.iss, true), Some(Signer::Md5(_)));
        let (stamps, scale) = (sysctl.tcp_timestamps != 0 && !squeezed, sysctl.tcp_window_scaling);
        TcpOptions {
            mss: Some(self.tx.advmss),
            sack_permitted: sysctl.tcp_sack,
            wscale: scale.then_some(self.opts.rcv_wscale),
            timestamps: stamps.then(|| (tsval(cx.now, self.tx.ts_offset), self.opts.ts_recent)),
            ..TcpOptions::default()
        }
    }

    /// Sends our SYN, for the first time or again. Once the peer's has come it is a SYN-ACK, also if an acknowledgement of
    /// nothing has opened the connection meanwhile.
    pub(super) fn send_syn(&mut self, cx: &mut Cx) {
        let ack = self.state != State::SynSent;
        let what = if ack { OutputWhat::TcpSynAck } else { OutputWhat::TcpSyn };
        let (len, _) = self.syn_extras();
        let Some(mut skb) = cx.alloc_output(what, len, len == 0) else { return };
        if len > 0 {
            let copied = self.tx.buffer.copy_to(0, skb.put(len));
            debug_assert!(copied, "the data of the SYN is all that is in the buffer");
        }
        // Nor is the peer to send more at a time than is known to pass (`tcp_advertise_mss`).
        self.tx.advmss = self.tx.advmss.min(self.route.mtu.saturating_sub(40));
        let options = self.syn_options(cx);
        let flags = match (ack, self.ecn.ok) {
            (true, true) => TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0 | TcpFlags::ECE.0),
            (true, false) => TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0),
            (false, _) => self.ecn.syn_flags(),
        };
        let seq = self.tx.iss;
        self.transmit(cx, skb, seq, flags, options);
    }

    /// Sends what window, congestion window, Nagle's algorithm and cork allow (`tcp_push_pending_frames`).
    pub fn push(&mut self, cx: &mut Cx) {
        if !self.may_transmit_data() {
            return;
        }
        if self.tx.pmtu != self.route.mtu || !self.route.is_current(&cx.net) {
            self.sync_route(cx);
        }
        // A call that was just cut has been offered at its end; what waits is joined once for each time it is offered.
        if !self.push_calls(cx) {
            self.write_xmit(cx, Offer::all(self.hold(), u32::from(self.current_mss())));
        }
        self.arm_for_output(cx);
    }

    /// Sends what the windows allow, however little it is: nothing will follow the FIN (`tcp_send_fin`).
    pub(super) fn push_fin(&mut self, cx: &mut Cx) {
        if !self.may_transmit_data() {
            return;
        }
        self.push_calls(cx);
        self.write_xmit(cx, Offer::all(Hold::NOTHING, u32::from(self.current_mss())));
        self.arm_for_output(cx);
    }

    /// Cuts what was written into packets, of which full ones may go before the call that filled them has ended, and
    /// sends; false if nothing was written.
    fn push_calls(&mut self, cx: &mut Cx) -> bool {
        let mut called = false;
        let restart = TcpSock::restart(cx);
        while let Some(mut call) = self.next_call() {
            self.tx.chrono.start(Held::ByNothing, cx.now);
            while let Some(filled) = self.fill(&mut call, restart) {
                let one = filled == Filled::One;
                if !one || self.tx.queue.len() == 1 {
                    self.write_xmit(cx, Offer { one, ..Offer::all(Hold::NOTHING, call.cut.mss) });
                    cx.now += cx.takes;
                }
            }
            if let Some(hold) = self.call_ends(&call) {
                self.write_xmit(cx, Offer::all(hold, call.cut.mss));
            }
            called = true;
        }
        called
    }

    /// Sends packets of the write queue for as long as they may go (`tcp_write_xmit`).
    fn write_xmit(&mut self, cx: &mut Cx, offer: Offer) {
        let (before, mut limited) = (self.cong.packets_out, false);
        let waits = self.tx.queue.front().is_some() || self.fin_follows();
        if self.tx.mtu.enabled && self.auth_len == 0 && !offer.one && self.mtu_probe(cx) == Probed::Wait {
            return;
        }
        while !self.pacing_holds(cx.now)
            && let Some(next) = self.next_to_send(cx, offer, &mut limited)
        {
            if !self.send_packet(cx, next, offer.mss) {
                break;
            }
            if offer.one {
                break;
            }
        }
        let sent = self.cong.packets_out.saturating_sub(before);
        if sent > 0 {
            self.cong.reduction_sent(sent);
            if before == 0 || self.timers.pending == XmitTimer::LossProbe {
                self.rearm_rto(cx);
            }
            if !offer.probe {
                self.schedule_loss_probe(cx, false);
            }
        }
        // A full window limits nobody who has nothing to send.
        limited |= waits && self.cong.in_flight() >= self.cong.cwnd;
        if sent > 0 || limited {
            let shrinks = cx.net.sysctl.tcp_slow_start_after_idle;
            self.cong.validate(limited, (self.tx.snd_una, self.tx.snd_nxt), cx.now, self.rtt.backed_off(), shrinks);
        }
        if self.tx.queue.is_empty() && self.user.wait_send && self.takes_data() {
            self.tx.chrono.start(Held::SendBuffer, cx.now);
        }
    }

    fn may_transmit_data(&self) -> bool {
        match self.state {
            State::SynRecv => self.is_early(),
            state => !matches!(state, State::SynSent | State::Close | State::Listen | State::TimeWait),
        }
    }

    /// Our FIN follows the last packet of the write queue.
    pub(super) fn fin_follows(&self) -> bool {
        self.tx.fin
            && self.tx.queue.ends_at(self.tx.write_seq)
            && self.tx.snd_nxt.at_or_before(self.tx.write_seq)
            && self.state != State::SynRecv
    }

    /// What of the write queue goes next; None if nothing may go now. `limited` becomes true if that is because of the
    /// congestion window.
    fn next_to_send(&mut self, cx: &Cx, offer: Offer, limited: &mut bool) -> Option<Next> {
        let mss = offer.mss;
        let fin_unsent = self.fin_follows();
        if self.tx.queue.front().is_none() && !fin_unsent {
            return None;
        }
        let segs = self.tso_segs(&cx.net.sysctl, mss);
        let open = self.cong.quota().max(u32::from(offer.probe));
        let quota = open.min((self.cong.cwnd / 2).max(1)).min(segs).min(GSO_MAX / mss);
        if open == 0 {
            return None;
        }
        if self.tx.queue.join(quota * mss) {
            self.rx.uncharge_output(PACKET_CHARGE);
        }
        let Unsent { len, psh, eor } = self.tx.queue.front().unwrap_or_default();
        let last = self.tx.queue.len() <= 1;
        let fin = fin_unsent && last;
        let tx = &self.tx;
        let window = ((tx.snd_una + tx.snd_wnd) - tx.snd_nxt).max(0) as u32;
        let first = if len > mss { mss } else { len + u32::from(fin) };
        if first > window {
            self.tx.chrono.start(Held::PeerWindow, cx.now);
            return None;
        }
        self.tx.chrono.stop(Held::PeerWindow, false, cx.now);
        let small_in_flight = self.small_in_flight();
        if len <= mss {
            let small = len > 0 && len < mss && !fin && last && self.tx.snd_up.is_none();
            return (!(small && offer.hold.holds_small(small_in_flight))).then_some(Next { len, fin, psh, eor });
        }
        if !offer.one && self.defers(cx, (mss, segs), (len, last, fin || eor), window, limited) {
            return None;
        }
        // What has an urgent pointer goes in single segments: each has its own (`tcp_write_xmit`).
        let limit = if self.tx.snd_up.is_some() {
            mss
        } else {
            self.split_point(len, window, (mss, quota), last, offer.hold.holds_rest(small_in_flight))
        };
        let (all, with_fin) = (limit >= len, len < window);
        Some(Next { len: len.min(limit), fin: fin && all && with_fin, psh: psh && all, eor: eor && all })
    }

    /// Sends one packet of the write queue, or its front, in segments of `mss` bytes; false if the pool is dry. A super-frame
    /// pushes its end, so that the peer does not wait for more (`__tcp_transmit_skb`). Where the device takes none it goes
    /// in pieces.
    fn send_packet(&mut self, cx: &mut Cx, next: Next, mss: u32) -> bool {
        let long = next.len > mss;
        if self.takes_super_frames() {
            return self.send_new(cx, next, mss, long);
        }
        let mut left = next.len;
        loop {
            let len = left.min(mss);
            left -= len;
            let last = left == 0;
            let piece = Next { len, fin: next.fin && last, psh: next.psh && last, eor: next.eor && last };
            if !self.send_new(cx, piece, mss, long && last) {
                return false;
            }
            if last {
                return true;
            }
        }
    }

    /// Sends new bytes (and the FIN) in segments of `mss`; false if the pool is dry. What ends a super-frame is pushed this
    /// once: sent again by itself it is not.
    fn send_new(&mut self, cx: &mut Cx, next: Next, mss: u32, ends_long: bool) -> bool {
        let Next { len, fin, psh, eor } = next;
        let seq = self.tx.snd_nxt;
        if !self.send_segments(cx, (seq, len), (fin, psh || ends_long), mss) {
            return false;
        }
        let end_seq = seq + (len + u32::from(fin));
        let pcount = len.div_ceil(mss).max(1);
        if !len.is_multiple_of(mss) {
            self.tx.snd_sml = end_seq;
        }
        if self.tx.queue.sent(len) {
            self.rx.charge_output(PACKET_CHARGE);
        }
        let charge = if len > 0 { PACKET_CHARGE + len } else { 0 };
        let stamp = self.cong.rate.sent(cx.now, self.cong.packets_out, self.cong.delivered);
        let sent = SentSegment::new(seq, end_seq, pcount, cx.now, stamp);
        self.tx.segments.push_back(SentSegment { charge, fin, psh, eor, mss: mss as u16, ..sent });
        self.cong.packets_out += pcount;
        self.tx.snd_nxt = end_seq;
        cx.count_n(Counter::TcpExtTCPOrigDataSent, u64::from(pcount));
        true
    }

    /// Sends the next `len` bytes of what waits as one segment, however the application's calls cut them: a probe of the path's
    /// MTU. False if there are not as many, or no slot.
    pub(super) fn send_mtu_probe(&mut self, cx: &mut Cx, len: u32) -> bool {
        let seq = self.tx.snd_nxt;
        let Some((packets, Unsent { psh, eor, .. })) = self.tx.queue.holds(len) else { return false };
        if !self.send_segments(cx, (seq, len), (false, psh), len) {
            return false;
        }
        self.tx.queue.take(len);
        match packets {
            0 => self.rx.charge_output(PACKET_CHARGE),
            packets => self.rx.uncharge_output((packets - 1) * PACKET_CHARGE),
        }
        let stamp = self.cong.rate.sent(cx.now, self.cong.packets_out, self.cong.delivered);
        let sent = SentSegment::new(seq, seq + len, 1, cx.now, stamp);
        self.tx.segments.push_back(SentSegment { charge: PACKET_CHARGE + len, psh, eor, ..sent });
        self.cong.packets_out += 1;
        // It stands for a segment and for what it is longer.
        self.cong.cwnd -= 1;
        self.tx.snd_nxt = seq + len;
        cx.count(Counter::TcpExtTCPOrigDataSent);
        true
    }

    /// Sends bytes that were sent before: as one packet, or in pieces where the device takes no super-frames. False if not
    /// even the first left.
    pub(super) fn send_pieces(&mut self, cx: &mut Cx, seq: SeqNum, len: u32, fin: bool, psh: bool) -> bool {
        let mss = u32::from(self.current_mss());
        if len <= mss || self.takes_super_frames() {
            return self.send_range(cx, seq, len, fin, psh);
        }
        let mut done = 0;
        while done < len {
            let piece = mss.min(len - done);
            let last = done + piece == len;
            if !self.send_range(cx, seq + done, piece, fin && last, psh && last) {
                // What did not leave will be found missing.
                return done > 0;
            }
            done += piece;
        }
        true
    }

    /// Puts the bytes `seq..seq+len` into a packet and sends it.
    pub(super) fn send_range(&mut self, cx: &mut Cx, seq: SeqNum, len: u32, fin: bool, psh: bool) -> bool {
        let mss = u32::from(self.current_mss());
        self.send_segments(cx, (seq, len), (fin, psh), mss)
    }

    /// [`TcpSock::send_range`] as segments of `mss` bytes.
    pub(super) fn send_segments(
        &mut self,
        cx: &mut Cx,
        (seq, len): (SeqNum, u32),
        (fin, psh): (bool, bool),
        mss: u32,
    ) -> bool {
        let what = if len > 0 { OutputWhat::TcpData } else { OutputWhat::TcpFin };
        let offset = (seq - self.tx.buffer_seq).max(0) as usize;
        // A signature is of what goes: the application must not change it in between, so it is copied.
        let is_lent = self.auth_len == 0 && self.tx.buffer.is_lent(offset, len as usize);
        let made = match is_lent {
            true => self.packet_of_lent(cx, offset, len as usize),
            false => cx.alloc_output(what, len as usize, false),
        };
        let Some(mut skb) = made else { return false };
        if len > 0 && !is_lent && !self.tx.buffer.copy_to(offset, skb.put(len as usize)) {
            // The bytes were acknowledged meanwhile: nothing to send.
            cx.drop_skb(skb, rxpath_trace::DropReason::TxError);
            return false;
        }
        if len > mss {
            skb.gso_size = mss as u16;
            skb.gso_segs = len.div_ceil(mss) as u16;
        }
        let mut flags = TcpFlags::ACK;
        if psh {
            flags = TcpFlags(flags.0 | TcpFlags::PSH.0);
        }
        if fin {
            flags = TcpFlags(flags.0 | TcpFlags::FIN.0);
        }
        self.event_data_sent(cx, len);
        let options = self.established_options(cx.now);
        self.transmit(cx, skb, seq, flags, options);
        // If it answers what came a short while ago, the connection is interactive. How short the while is, the acknowledgement that
        // it carried may have set (`tcp_event_ack_sent`).
        self.ack.pingpong |= len > 0 && tick(cx.now) - self.ack.last_rcv < self.ack.ato;
        true
    }

    /// Data leaves (`tcp_event_data_sent`).
    fn event_data_sent(&mut self, cx: &Cx, len: u32) {
        if len == 0 {
            return;
        }
        let now = cx.now;
        if self.nothing_in_flight() {
            self.cong.starts_sending(now - self.tx.last_sent, now);
        }
        self.tx.last_sent = now;
    }

    /// Arms the retransmission timer for what is in flight, or the probe timer for what a zero window holds back.
    pub(super) fn arm_for_output(&mut self, cx: &Cx) {
        if self.timers.retransmit != Time::MAX {
            return;
        }
        if !self.tx.segments.is_empty() {
            self.timers.pending = XmitTimer::Retransmit;
            self.timers.retransmit = expiry(cx.now, self.rtt.backed_off());
        } else if self.send_end().after(self.tx.snd_nxt) && self.may_transmit_data() {
            self.timers.pending = XmitTimer::WindowProbe;
            self.timers.retransmit = expiry(cx.now, self.rtt.backed_off().max(self.rtt.rto_min));
        }
    }

    /// A probe of a closed window: one byte before what the peer expects, or, when it has room, the next bytes
    /// (`tcp_write_wakeup`). A peer that is to hear of urgent data is told of it from what it expects on, too, where a
    /// pointer reaches that far. False if the pool had no slot for it.
    pub(super) fn write_wakeup(&mut self, cx: &mut Cx) -> bool {
        let tx = &self.tx;
        let window = ((tx.snd_una + tx.snd_wnd) - tx.snd_nxt).max(0) as u32;
        let packet = tx.queue.front().unwrap_or_default();
        let mss = u32::from(self.current_mss());
        let len = packet.len.min(window).min(mss);
        if len > 0 {
            // So is what a small window leaves of the packet.
            self.tx.queue.push_front();
            // Nagle's algorithm does not count it among the small ones.
            let small = self.tx.snd_sml;
            let next = Next { len, fin: false, psh: true, eor: packet.eor && len == packet.len };
            let sent = self.send_new(cx, next, mss, false);
            self.tx.snd_sml = small;
            return sent;
        }
        cx.count(Counter::TcpExtTCPWinProbe);
        let una = self.tx.snd_una;
        if self.tx.snd_up.is_some_and(|up| (1..=i32::from(u16::MAX)).contains(&(up - una))) {
            cx.count(Counter::TcpExtTCPWinProbe);
            self.send_probe_at(cx, una);
        }
        self.send_window_probe(cx)
    }

    /// The next of what was not sent, as a tail loss probe: as much as the congestion window has room for, and one segment at
    /// the least (`tcp_send_loss_probe`). False if nothing went.
    pub(super) fn send_probe(&mut self, cx: &mut Cx) -> bool {
        let before = self.cong.packets_out;
        let mss = u32::from(self.current_mss());
        self.write_xmit(cx, Offer { one: true, probe: true, ..Offer::all(Hold::NOTHING, mss) });
        self.cong.packets_out > before
    }

    /// An ACK from one byte before what the peer expects, which it answers; false if the pool had no slot for it
    /// (`tcp_xmit_probe_skb`).
    pub(super) fn send_window_probe(&mut self, cx: &mut Cx) -> bool {
        self.send_probe_at(cx, self.tx.snd_una - 1)
    }

    fn send_probe_at(&mut self, cx: &mut Cx, seq: SeqNum) -> bool {
        let Some(skb) = cx.alloc_output(OutputWhat::TcpProbe, 0, true) else { return false };
        let options = self.established_options(cx.now);
        self.transmit(cx, skb, seq, TcpFlags::ACK, options);
        true
    }

    /// The way may have become narrower or wider, or be another one: segments follow (`tcp_current_mss`). Where there is no
    /// way at the moment, they stay as they are.
    #[cold]
    pub(super) fn sync_route(&mut self, cx: &Cx) {
        if !self.route.is_current(&cx.net)
            && let Ok(found) =
                route::output_by(&cx.net, self.tuple.remote, Some(self.tuple.local), self.route.bound_to())
        {
            self.route = found;
        }
        if self.route.mtu != self.tx.pmtu {
            self.sync_mss(self.tx.mss_clamp);
        }
    }

    /// Segment size towards the peer: what it announced, what the path carries, less our options (`tcp_sync_mss`).
    pub(super) fn sync_mss(&mut self, peer_mss: u16) {
        (self.tx.mss_clamp, self.tx.pmtu) = (peer_mss, self.route.mtu);
        let options = if self.opts.timestamps { u16::from(TSTAMP_ALIGNED) } else { 0 };
        let most = self.bound_by_search();
        self.tx.mss = self.mss_less(options).clamp(1, most.max(1));
    }

    /// What peer, path and window let a segment have besides so many bytes of options.
    pub(super) fn mss_less(&self, options: u16) -> u16 {
        let path = self.tx.pmtu.saturating_sub(40);
        let mss = self.tx.mss_clamp.min(path).max(self.tx.mtu.floor).saturating_sub(options);
        self.bound_to_half_window(mss)
    }

    /// A window that is small is to have room for two segments (`tcp_bound_to_half_wnd`).
    fn bound_to_half_window(&self, mss: u16) -> u16 {
        /// Smallest segment for a small window's sake, headers included.
        const LEAST: u16 = 68;
        let largest = self.tx.max_window;
        let cutoff = if largest > u32::from(MSS_DEFAULT) { largest / 2 } else { largest };
        if cutoff == 0 || u32::from(mss) <= cutoff {
            return mss;
        }
        let headers = TcpHeader::LEN as u16 + if self.opts.timestamps { u16::from(TSTAMP_ALIGNED) } else { 0 };
        (cutoff as u16).max(LEAST - headers)
    }

    /// The peer has more room than it ever had: longer segments may go.
    #[cold]
    pub(super) fn max_window_grows(&mut self, window: u32) {
        self.tx.max_window = window;
        self.sync_mss(self.tx.mss_clamp);
    }
}
