//! A held packet: the comparison with the next segment, the merge, and the header that the merged packet gets.
//!
//! Mirrors `inet_gro_flush`, the tests of `tcp_gro_receive`, `skb_gro_receive` and `tcp4_gro_complete`.

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, Skb};
use rxpath_trace::{Consumed, Counter, EventKind, PacketId, Time};
use rxpath_wire::{IpProto, TcpFlags};

use super::flow::Flow;
use super::inet::frame;
use super::segment::Segment;
use super::{COPY_MAX, MAX_PACKET};
use crate::cx::Cx;
use crate::expect::{ETHERNET, FIXED, at, be32};

/// A packet that waits for its continuation, with what the comparison needs beside it, so that the packet's own lines
/// are touched only to append.
#[derive(Debug)]
pub(super) struct Held {
    pub skb: Skb,
    pub notes: Box<Notes>,
}

/// What is noted of a held packet. Apart from it: of the next packet of the flow nearly the same is noted. Written with
/// each packet, so on lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Notes {
    /// What its segments have in common, and the one that comes next.
    pub flow: Flow,
    /// FIN and PSH of the segments merged behind the first.
    marks: u8,
    /// Segments so far.
    pub segs: u16,
    /// IPv4 total length so far.
    pub packet_len: u32,
    /// Memory charged for a frame of the expected length.
    pub truesize_each: u32,
    /// When the first segment came (`age`).
    since: Time,
}

impl Held {
    /// A packet becomes the head of a possible merge. `notes` are written anew.
    pub fn new(skb: Skb, segment: &Segment, mut notes: Box<Notes>, now: Time) -> Held {
        notes.flow = Flow::of(&skb, segment);
        Held::first(skb, notes, now)
    }

    /// As [`Held::new`], for the packet that the flow of the notes expects.
    #[inline(always)]
    pub fn going_on(skb: Skb, mut notes: Box<Notes>, now: Time) -> Held {
        notes.flow.begin_anew(&skb);
        Held::first(skb, notes, now)
    }

    #[inline(always)]
    fn first(skb: Skb, mut notes: Box<Notes>, now: Time) -> Held {
        (notes.packet_len, notes.truesize_each) = (skb.len() as u32, skb.truesize);
        (notes.marks, notes.segs, notes.since) = (0, 1, now);
        Held { skb, notes }
    }

    /// Whether a segment of the same flow goes on where the held packet ends, with nothing changed on the way.
    pub fn continued_by(&self, skb: &Skb, segment: &Segment) -> bool {
        let Some(new) = frame(skb) else { return false };
        let own = &self.notes.flow.header;
        // Type of service, time to live, don't-fragment.
        let network = own[15] == new[15] && own[22] == new[22] && own[20..22] == new[20..22];
        let id = segment.id == self.notes.flow.next.id
            || (self.notes.segs == 1 && segment.id == self.notes.flow.next.id.wrapping_sub(1));
        // Acknowledgement number; data offset, flags and window; options. FIN and PSH may come in.
        let differing_flags = (own[at::FLAGS] ^ new[at::FLAGS]) & !(TcpFlags::FIN.0 | TcpFlags::PSH.0);
        let transport = own[at::ACK..at::FLAGS] == new[at::ACK..at::FLAGS]
            && differing_flags == 0
            && own[at::WINDOW..at::CHECKSUM] == new[at::WINDOW..at::CHECKSUM]
            && own[FIXED..].get(..segment.header_len - FIXED) == new.get(FIXED..segment.header_len);
        let in_order = segment.seq == self.notes.flow.next.seq
            && (1..=self.notes.flow.mss).contains(&segment.len)
            && self.notes.packet_len + segment.len <= MAX_PACKET;
        !segment.alone && network && id && transport && in_order
    }

    /// Merges a segment that continues this packet.
    pub fn merge_segment(&mut self, cx: &mut Cx, skb: Skb, segment: &Segment) -> Result<(), Skb> {
        let is_constant = segment.id != self.notes.flow.next.id;
        self.merge(cx, skb, segment.len, segment.flags)?;
        if is_constant {
            (self.notes.flow.next.id_step, self.notes.flow.next.id) = (0, segment.id);
        }
        self.notes.flow.count_anew();
        self.notes.marks |= segment.flags.0 & (TcpFlags::FIN.0 | TcpFlags::PSH.0);
        Ok(())
    }

    /// `skb_gro_receive`: takes over the `len` bytes of payload of a segment that continues this packet and whose headers
    /// are as long. The segment ends here: copied and its slot freed if it is short, chained otherwise. It comes back if
    /// its slot belongs to another pool.
    pub fn merge(&mut self, cx: &mut Cx, mut skb: Skb, len: u32, flags: TcpFlags) -> Result<(), Skb> {
        let (id, traced) = (skb.id, skb.traced());
        let headers = usize::from(self.notes.flow.header_len) - ETHERNET;
        let short = len as usize <= COPY_MAX && skb.data_len() == 0;
        if short && skb.data().get(headers..).is_some_and(|payload| self.skb.append_bytes(payload)) {
            self.skb.truesize += skb.truesize;
            cx.count_n(Counter::CopiedGro, u64::from(len));
            cx.pool.free(skb);
        } else {
            if !skb.pull(headers) {
                return Err(skb);
            }
            if let Err(mut other) = self.skb.add_frag(skb) {
                let _ = other.unpull(headers);
                return Err(other);
            }
        }
        self.advance(len);
        cx.ledger.consumed(Consumed::GroMerged, 1);
        if traced {
            self.record_merged(cx, id, len, flags);
        }
        Ok(())
    }

    /// The end of a segment that was merged here. Rooms that read its headers get to see only what it was merged into, so
    /// what they say is told now.
    #[cold]
    pub fn record_merged(&self, cx: &mut Cx, id: PacketId, len: u32, flags: TcpFlags) {
        let [src, dst, ports] = [0, 4, 8].map(|offset| be32(&self.notes.flow.header, at::TUPLE + offset));
        cx.record(id, EventKind::Addresses, src, dst, PacketId::NONE);
        cx.record(id, EventKind::Ports, ports, u32::from(flags.0), PacketId::NONE);
        cx.record(id, EventKind::GroMerged, len, u32::from(self.notes.segs), self.skb.id);
    }

    /// Flags of the first segment.
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.notes.flow.header[at::FLAGS])
    }

    /// Moves on by one merged segment of `len` payload bytes.
    #[inline(always)]
    pub fn advance(&mut self, len: u32) {
        self.notes.flow.next.advance(1, len);
        self.notes.packet_len += len;
        self.notes.segs += 1;
    }

    /// Whether a segment that was just merged ends the packet: shorter than the first, or in haste.
    pub fn is_full_stop(&self, segment: &Segment) -> bool {
        segment.len < self.notes.flow.mss || segment.is_urgent()
    }

    /// Payload bytes so far.
    pub fn payload_len(&self) -> u32 {
        self.notes.packet_len + ETHERNET as u32 - u32::from(self.notes.flow.header_len)
    }

    /// Whether the head came before `then`.
    pub fn is_older_than(&self, then: Time) -> bool {
        self.notes.since < then
    }

    /// `tcp4_gro_complete`: the packet as the stack gets it. One that nothing was merged into is as it came; another
    /// has its length and checksums rewritten, keeps the first identification, and says how it was cut.
    pub fn finish(&mut self) {
        if self.notes.segs > 1 {
            self.rewrite();
            self.skb.gso_size = self.notes.flow.mss as u16;
            self.skb.gso_segs = self.notes.segs;
            self.skb.ip_summed = IpSummed::Unnecessary;
        }
    }

    fn rewrite(&mut self) {
        let packet_len = self.notes.packet_len;
        let Some(headers) = self.skb.data_mut().first_chunk_mut::<{ FIXED - ETHERNET }>() else { return };
        let before = u16::from_be_bytes([headers[2], headers[3]]);
        let checksum = csum::update(u16::from_be_bytes([headers[10], headers[11]]), before, packet_len as u16);
        headers[2..4].copy_from_slice(&(packet_len as u16).to_be_bytes());
        headers[10..12].copy_from_slice(&checksum.to_be_bytes());
        headers[33] |= self.notes.marks;
        // What `CHECKSUM_PARTIAL` leaves in the field: the sum of the pseudo-header, not complemented.
        let length = u16::from(IpProto::TCP) + (packet_len - 20) as u16;
        let addresses = headers[12..20].first_chunk::<8>().map_or(0, csum::sum_array);
        headers[36..38].copy_from_slice(&csum::sum_add(addresses, length).to_be_bytes());
    }
}
