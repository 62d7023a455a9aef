//! Segments that are taken straight from the ring: those of the run under way that look like the one before.
//!
//! Where receive offload is off, every segment is a packet of its own to TCP: its own sequence check, charge,
//! measurement and acknowledgement. But what becomes of its headers on the way is known from the packet before it, and
//! its bytes join the tail of the receive queue in any case. So the frame is compared with the headers of that tail, its
//! checksums are verified, and its payload goes where it would have gone: copied into the tail's room if it is short
//! (as `skb_try_coalesce` does), chained otherwise.
//!
//! What is here is header prediction (`tcp_rcv_established`) with what follows from it; whatever is not exactly as
//! predicted is left in the ring and goes the whole way.

use rxpath_arch::expect::{Expect, Series};
use rxpath_arch::vector::{Simd, Vectorized, vectorized};
use rxpath_mem::{Alike, FrameUser, RxRing, Skb};
use rxpath_trace::{Consumed, Counter};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions};

use super::{CaState, State, TcpSock};
use crate::cx::Cx;
use crate::expect::{CONSTANT, ETHERNET, FIXED, Headers, IpSum, LONGEST, STAMPED, TcpSum, at, be32};
use crate::nic::{Joins, TruesizeModel};

/// Payloads up to this many bytes are copied behind the tail's; longer ones keep their slot and are chained.
const COPY_MAX: usize = 256;

/// The ring that a streak takes frames from.
pub struct Source<'a> {
    /// The ring.
    pub ring: &'a mut RxRing,
    /// The interface that it belongs to.
    pub ifindex: u16,
    /// Memory charge of its frames.
    pub truesize: TruesizeModel,
}

/// Frames that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many.
    pub frames: usize,
    /// Bytes of each, Ethernet header included.
    pub frame_len: usize,
    /// Type of service of all of them.
    pub tos: u8,
}

impl TcpSock {
    /// Takes at most `limit` of the next frames off the ring: segments of this connection that are predicted and look like
    /// the tail of the receive queue. None if the first frame is none.
    pub(super) fn streak(&mut self, cx: &mut Cx, source: &mut Source<'_>, limit: usize) -> Option<Taken> {
        let elsewhere = self.ifindex != 0 && self.ifindex != source.ifindex;
        if elsewhere || !self.expects_only_data() || cx.pool_is_low() || self.ip.min_ttl > 0 {
            return None;
        }
        let peek = source.ring.peek()?;
        let (frame_len, hash) = (peek.bytes.len(), peek.desc.hash);
        let (mut headers, header_len) = headers_of(self.rx.queue.back()?, source.ifindex)?;
        let payload = frame_len.checked_sub(header_len).filter(|len| *len > 0)? as u32;
        let stamps = self.predicts(&headers, header_len)?;
        if !self.ecn.is_quiet(headers[ETHERNET + 1]) {
            return None;
        }
        headers[at::SEQ..at::ACK].copy_from_slice(&self.rx.rcv_nxt.0.to_be_bytes());
        let mut queue = std::mem::take(&mut self.rx.queue);
        let taken = queue.back_mut().map(|mut tail| {
            let segments = Segments {
                sk: self,
                cx,
                headers: &headers,
                ip_sum: IpSum::of(&headers),
                tcp_sum: TcpSum::of(&headers, header_len, payload),
                stamps,
                payload,
                truesize: source.truesize.charge(frame_len as u32),
                alone: source.truesize.joins(frame_len as u32),
                joins: Joins(tail.scratch),
                charge: 0,
            };
            let copied = payload as usize <= COPY_MAX;
            let kind = Alike { len: frame_len as u16, hash, skip: header_len as u16, copied };
            let place = Place { ring: source.ring, kind, tail: &mut tail, limit };
            let ended = if header_len == FIXED {
                vectorized(Streak::<FIXED> { segments, place })
            } else {
                vectorized(Streak::<STAMPED> { segments, place })
            };
            tail.truesize += ended.charge;
            tail.scratch = ended.joins.0;
            tail.end_seq = self.rx.rcv_nxt.0;
            ended.frames
        });
        self.rx.queue = queue;
        let frames = taken.filter(|frames| *frames > 0)?;
        self.rx.segs_in = self.rx.segs_in.wrapping_add(frames as u32);
        self.rx.data_segs_in = self.rx.data_segs_in.wrapping_add(frames as u32);
        cx.ledger.consumed(Consumed::Coalesced, frames as u64);
        cx.count_n(Counter::TcpInSegs, frames as u64);
        cx.count_n(Counter::TcpExtTCPRcvCoalesce, frames as u64);
        Some(Taken { frames, frame_len, tos: headers[ETHERNET + 1] })
    }

    /// Nothing is under way but what the peer sends in order, so that no segment has to do more than to bring its bytes.
    #[inline(always)]
    pub(super) fn expects_only_data(&self) -> bool {
        self.state == State::Established
            && self.rx.ofo.is_empty()
            && self.tx.segments.is_empty()
            && self.send_end() == self.tx.snd_nxt
            && self.cong.state == CaState::Open
            && !self.user.wait_send
    }

    /// Whether header prediction expects segments with these headers; with the timestamps that they carry, if any.
    fn predicts(&self, headers: &[u8; LONGEST], header_len: usize) -> Option<Option<(u32, u32)>> {
        let word = be32(headers, at::DATA_OFFSET) & !super::established::PRED_IGNORED;
        if word != self.pred_flags || SeqNum(be32(headers, at::ACK)) != self.tx.snd_una {
            return None;
        }
        if !self.opts.timestamps {
            return (header_len == FIXED).then_some(None);
        }
        let (tsval, tsecr) = TcpOptions::only_timestamps(&headers[FIXED..header_len])?;
        let is_old = (tsval.wrapping_sub(self.opts.ts_recent) as i32) < 0;
        (header_len == STAMPED && !is_old).then_some(Some((tsval, tsecr)))
    }
}

/// The headers of a queued packet from the Ethernet header on, and their length: if it came by this interface, and they
/// are of the usual lengths.
fn headers_of(skb: &Skb, ifindex: u16) -> Option<([u8; LONGEST], usize)> {
    let start = skb.network_off.checked_sub(ETHERNET as u16)?;
    if skb.ifindex != ifindex || usize::from(skb.transport_off - skb.network_off) != at::PORTS - ETHERNET {
        return None;
    }
    let bytes = skb.head_bytes(start, LONGEST);
    let mut headers = [0; LONGEST];
    headers.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let header_len = at::PORTS + usize::from(headers[at::DATA_OFFSET] >> 4) * 4;
    let is_usual = matches!(header_len, FIXED | STAMPED) && bytes.len() >= header_len;
    is_usual.then_some((headers, header_len))
}

/// Where frames come from, and where their bytes go.
struct Place<'a> {
    ring: &'a mut RxRing,
    kind: Alike,
    tail: &'a mut Skb,
    limit: usize,
}

/// The loop over the frames of a ring whose headers have `N` bytes.
struct Streak<'a, const N: usize> {
    segments: Segments<'a>,
    place: Place<'a>,
}

/// What a streak came to.
struct Ended {
    frames: usize,
    /// What the tail is charged for them.
    charge: u32,
    /// What may still join the tail.
    joins: Joins,
}

impl<const N: usize> Vectorized for Streak<'_, N> {
    type Output = Ended;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Ended {
        let Streak { segments, place: Place { ring, kind, tail, limit } } = self;
        let Some(series) = segments.series::<N>() else {
            return Ended { frames: 0, charge: 0, joins: segments.joins };
        };
        let expect = simd.expect(&series);
        let mut predicted = Predicted::<S, N> { segments, expect };
        let mut end = tail.tail();
        let frames = ring.use_in_place(limit, &kind, &mut end, &mut predicted);
        let copied = end.bytes_taken();
        drop(end);
        if copied > 0 {
            predicted.segments.cx.count_n(Counter::CopiedCoalesce, copied as u64);
        }
        Ended { frames, charge: predicted.segments.charge, joins: predicted.segments.joins }
    }
}

/// The segments that the connection takes.
struct Segments<'a> {
    sk: &'a mut TcpSock,
    cx: &'a mut Cx,
    headers: &'a [u8; LONGEST],
    ip_sum: IpSum,
    tcp_sum: TcpSum,
    stamps: Option<(u32, u32)>,
    /// Bytes of payload of each.
    payload: u32,
    /// Charge of each by itself.
    truesize: u32,
    /// What may join each by itself.
    alone: Joins,
    joins: Joins,
    charge: u32,
}

/// The segment that is predicted next, as it lies in a ring.
struct Predicted<'a, S: Simd, const N: usize> {
    segments: Segments<'a>,
    expect: S::Expect<N>,
}

impl<S: Simd, const N: usize> FrameUser for Predicted<'_, S, N> {
    #[inline(always)]
    fn copy(&mut self, frame: &[u8], is_good: bool, to: &mut [u8]) -> bool {
        let Some(fixed) = frame.first_chunk::<FIXED>() else { return false };
        let Some(fit) = self.segments.fit(fixed) else { return false };
        let Some(total) = self.expect.copy_next(frame, to) else { return false };
        let is_right = is_good || self.segments.tcp_sum.is_right(total);
        if is_right {
            self.take(fit, fixed);
        }
        is_right
    }

    #[inline(always)]
    fn chain(&mut self, frame: &[u8], is_good: bool) -> bool {
        let Some(fixed) = frame.first_chunk::<FIXED>() else { return false };
        let Some(fit) = self.segments.fit(fixed) else { return false };
        let Some(total) = self.expect.is_next(frame) else { return false };
        let is_right = is_good || self.segments.tcp_sum.is_right_with(total, &frame[N..]);
        if is_right {
            self.take(fit, fixed);
        }
        is_right
    }
}

impl<S: Simd, const N: usize> Predicted<'_, S, N> {
    #[inline(always)]
    fn take(&mut self, fit: Fit, fixed: &[u8; FIXED]) {
        self.segments.joins = fit.joins;
        self.segments.take::<N>(fit.charge, fit.hit, TcpFlags(fixed[at::FLAGS]).psh());
        self.expect.advance();
    }
}

/// How a segment fits the socket's window and memory.
struct Fit {
    /// Its charge.
    charge: u32,
    /// What may join after it.
    joins: Joins,
    /// Its memory was accounted before, which makes it a hit of header prediction.
    hit: bool,
}

impl Segments<'_> {
    /// The headers of the segment that is predicted next and of those behind it, if headers have `N` bytes.
    #[inline(always)]
    fn series<const N: usize>(&self) -> Option<Series<'_, N>> {
        Some(Series {
            header: self.headers.first_chunk()?,
            ahead: 0,
            mask: const { &Headers::<N>::COMMON },
            words: &CONSTANT,
            dwords: const { &Headers::<N>::SEQ },
            by: self.payload,
            summed: const { &Headers::<N>::SUMMED },
        })
    }

    /// Whether the IPv4 header's checksum is right, and the next segment lies in the window and in the socket's memory.
    #[inline(always)]
    fn fit(&self, frame: &[u8; FIXED]) -> Option<Fit> {
        if !self.ip_sum.is_right(frame) {
            return None;
        }
        let rx = &self.sk.rx;
        let in_window = self.payload <= rx.offered();
        let hit = i64::from(self.truesize) <= i64::from(rx.forward_alloc);
        let tight = || self.cx.pool_is_short() || self.cx.tcp_memory.is_tight(self.cx.net.sysctl.tcp_mem);
        let in_memory = hit || (rx.rmem_alloc <= rx.rcvbuf && !tight());
        // A window that was closed meanwhile sends every segment the slow way.
        if !in_window || !in_memory || self.sk.pred_flags == 0 {
            return None;
        }
        let (charge, joins) = self.joins.join(self.payload, self.truesize, self.alone)?;
        Some(Fit { charge, joins, hit })
    }

    /// What `fast_data` and, where memory is to be accounted first, the slow path do with a segment in order.
    #[inline(always)]
    fn take<const N: usize>(&mut self, charge: u32, hit: bool, pushed: bool) {
        let Segments { sk, cx, payload, truesize, .. } = self;
        let seq = sk.rx.rcv_nxt;
        if let Some((tsval, tsecr)) = self.stamps {
            if sk.rx.rcv_nxt == sk.rx.rcv_wup {
                sk.store_ts_recent(cx.now, tsval);
            }
            sk.measure_rcv_rtt_ts(cx.now, tsecr, *payload);
        }
        if hit {
            cx.count(Counter::TcpExtTCPHPHits);
        } else {
            sk.rx.schedule(*truesize);
        }
        sk.rx.rcv_nxt = seq + *payload;
        sk.rx.charge(charge);
        self.charge += charge;
        let flags = if pushed { TcpFlags::PSH } else { TcpFlags::ACK };
        sk.event_data_recv(cx, *payload, *payload, (N - at::PORTS) as u8, flags, *truesize);
        sk.grow_window_for(cx, *payload, *truesize);
        sk.tx.snd_wl1 = seq;
        sk.ack_snd_check(cx);
        sk.data_ready(cx, false);
    }
}
