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

use rxpath_arch::csum;
use rxpath_arch::expect::Pattern;
use rxpath_arch::vector::{Simd, Vectorized, vectorized};
use rxpath_mem::{FrameUser, IpSummed, RxRing, Skb, Tail, Use};
use rxpath_trace::{Consumed, Counter};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions};

use super::recovery::CaState;
use super::{State, TcpSock};
use crate::cx::Cx;
use crate::expect::{ETHERNET, FIXED, IpSum, LONGEST, STAMPED, TcpSum, at, be32, pattern};
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
        if !self.expects_only_data() || cx.pool_is_low() {
            return None;
        }
        let peek = source.ring.peek()?;
        let (frame_len, hash) = (peek.bytes.len(), peek.desc.hash);
        let (headers, header_len) = headers_of(self.rx.queue.back()?, source.ifindex)?;
        let payload = frame_len.checked_sub(header_len).filter(|len| *len > 0)? as u32;
        let stamps = self.predicts(&headers, header_len)?;
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
            let place = Place { ring: source.ring, like: (frame_len as u16, hash), tail: &mut tail, limit };
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
        cx.ledger.consumed(Consumed::Coalesced, frames as u64);
        cx.count_n(Counter::TcpInSegs, frames as u64);
        cx.count_n(Counter::TcpExtTCPRcvCoalesce, frames as u64);
        Some(Taken { frames, frame_len, tos: headers[ETHERNET + 1] })
    }

    /// Nothing is under way but what the peer sends in order, so that no segment has to do more than to bring its bytes.
    fn expects_only_data(&self) -> bool {
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
    like: (u16, u32),
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
        let Streak { segments, place: Place { ring, like, tail, limit } } = self;
        let headers = segments.headers;
        let Some(pattern) = pattern::<N>(headers) else { return Ended { frames: 0, charge: 0, joins: segments.joins } };
        let mut predicted = Predicted { segments, pattern, simd };
        let mut end = tail.tail();
        let frames = ring.use_in_place(limit, like, &mut end, &mut predicted);
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
    pattern: Pattern<'a, N>,
    simd: S,
}

impl<S: Simd, const N: usize> FrameUser for Predicted<'_, S, N> {
    #[inline(always)]
    fn use_frame(&mut self, tail: &mut Tail<'_>, frame: &[u8], summed: IpSummed) -> Use {
        let Predicted { segments, pattern, simd } = self;
        let Some((fixed, len)) = frame.first_chunk::<FIXED>().zip(frame.len().checked_sub(N)) else { return Use::None };
        if be32(fixed, at::SEQ) != segments.sk.rx.rcv_nxt.0 || !segments.ip_sum.is_right(fixed) {
            return Use::None;
        }
        let Some((charge, joins, hit)) = segments.fits() else { return Use::None };
        let is_good = summed.is_known_good();
        let used = if len <= COPY_MAX
            && let Some(room) = tail.room(len)
        {
            // What was copied and is not taken is nothing.
            let Some(payload) = pattern.copy_behind(*simd, frame, room) else { return Use::None };
            if !is_good && !segments.tcp_sum.is_right(fixed, payload) {
                return Use::None;
            }
            tail.take(len);
            Use::Copied
        } else if pattern.matches(frame) && (is_good || segments.tcp_sum.is_right(fixed, csum::total(&frame[N..]))) {
            Use::Chained { skip: N }
        } else {
            return Use::None;
        };
        segments.joins = joins;
        segments.take::<N>(charge, hit, TcpFlags(fixed[at::FLAGS]).psh());
        used
    }
}

impl Segments<'_> {
    /// Whether the next segment lies in the window and in the socket's memory: its charge, what may join after it, and
    /// whether its memory was accounted before, which makes it a hit of header prediction.
    #[inline(always)]
    fn fits(&self) -> Option<(u32, Joins, bool)> {
        let rx = &self.sk.rx;
        let in_window = self.payload <= rx.offered();
        let hit = i64::from(self.truesize) <= i64::from(rx.forward_alloc);
        let in_memory = hit || (rx.rmem_alloc <= rx.rcvbuf && !self.cx.pool_is_short());
        // A window that was closed meanwhile sends every segment the slow way.
        if !in_window || !in_memory || self.sk.pred_flags == 0 {
            return None;
        }
        let (charge, joins) = self.joins.join(self.payload, self.truesize, self.alone)?;
        Some((charge, joins, hit))
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
        sk.event_data_recv(cx, *payload, *payload, (N - at::PORTS) as u8, pushed, *truesize);
        sk.tx.snd_wl1 = seq;
        sk.ack_snd_check(cx);
        sk.data_ready(cx, false);
    }
}
