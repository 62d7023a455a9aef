//! The one packet of the many (`ip_frag_reasm`).

use rxpath_mem::{IpSummed, RX_HEADROOM, Skb, SkbMeta, SkbQueue, SlotClass};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Holder, MadeHow, PacketId};
use rxpath_wire::{Ipv4Header, ipv4};

use super::end_all;
use super::queue::FragQueue;
use crate::cx::{Cx, Fate};
use crate::nic::Joins;

/// Bytes behind the IP header that protocols find in one piece: the longest headers, and those that an ICMP error quotes.
const IN_ONE_PIECE: usize = 128;
/// Longest IP packet.
const MAX_LEN: usize = 65_535;
/// ECN fields as bits, `1 << field` (RFC 3168 section 5).
const NOT_ECT: u8 = 1 << 0;
const CE: u8 = 1 << 3;

/// Makes the packet; `last` is the fragment that was missing, which came by interface `ifindex`.
pub(super) fn reassemble(cx: &mut Cx, queue: FragQueue, last: PacketId, ifindex: u16) -> Fate<Skb> {
    let (seen, len, dont_fragment) = (queue.ecn(), queue.len() as usize, queue.dont_fragment());
    let pieces = queue.into_pieces();
    // RFC 3168 section 5.3: fragments that disagree on being capable of ECN are none of one datagram.
    let ecn_agrees = seen & NOT_ECT == 0 || seen == NOT_ECT;
    let header_len = pieces.front().map_or(0, header_len_of);
    let total_len = header_len + len;
    if !ecn_agrees || total_len > MAX_LEN {
        return failed(cx, pieces, DropReason::FragReasmTimeout);
    }
    let (count, traced) = (pieces.len() as u64, pieces.iter().any(Skb::traced));
    let parents: Vec<PacketId> =
        if traced { pieces.iter().filter(|p| p.traced()).map(|p| p.id).collect() } else { Vec::new() };
    let mut whole = match join(cx, pieces, header_len + IN_ONE_PIECE.min(len)) {
        Ok(whole) => whole,
        Err(pieces) => return failed(cx, pieces, DropReason::Nomem),
    };
    whole.id = cx.ids.mint();
    whole.ifindex = ifindex;
    (whole.hash, whole.gso_size, whole.gso_segs) = (0, 0, 0);
    whole.set_traced(traced);
    rewrite(whole.data_mut(), total_len as u16, dont_fragment, seen & CE != 0);
    cx.ledger.held_out(Holder::Reassembly, count);
    cx.ledger.consumed(Consumed::Reassembled, count);
    cx.ledger.made(1);
    cx.count(Counter::IpReasmOKs);
    for parent in parents {
        cx.record(parent, EventKind::Consumed, Consumed::Reassembled as u32, 0, whole.id);
    }
    cx.event_with(&whole, EventKind::Made, MadeHow::Reassembled as u32, total_len as u32, last);
    Fate::Pass(whole)
}

fn failed(cx: &mut Cx, pieces: SkbQueue, reason: DropReason) -> Fate<Skb> {
    cx.count(Counter::IpReasmFails);
    end_all(cx, pieces, reason);
    Fate::Held
}

fn header_len_of(piece: &Skb) -> usize {
    Ipv4Header::parse(piece.data()).map_or(0, |(header, _)| header.header_len())
}

/// Writes the header of the whole into that of the first fragment.
fn rewrite(packet: &mut [u8], total_len: u16, dont_fragment: bool, congestion: bool) {
    let Some((header, _)) = Ipv4Header::parse_mut(packet) else { return };
    header.set_total_len(total_len);
    header.set_fragment_word(if dont_fragment { ipv4::DONT_FRAGMENT } else { 0 });
    if congestion {
        header.set_tos(header.tos() | 3);
    }
    let header_len = header.header_len();
    if let Some(header) = packet.get_mut(..header_len) {
        ipv4::fill_checksum(header);
    }
}

/// Chains the fragments' payload behind the first one, the first `linear` bytes of the packet in one piece.
///
/// # Errors
/// All fragments, as they were or copied, if the pool is dry.
fn join(cx: &mut Cx, mut pieces: SkbQueue, linear: usize) -> Result<Skb, SkbQueue> {
    let summed = common_sum(&pieces);
    let mut ours = SkbQueue::new();
    while let Some(piece) = pieces.pop_front() {
        match in_our_pool(cx, piece) {
            Ok(piece) => ours.push_back(piece),
            Err(piece) => {
                ours.push_back(piece);
                ours.append(&mut pieces);
                return Err(ours);
            }
        }
    }
    let Some(first) = ours.pop_front() else { return Err(ours) };
    let mut whole = match with_room(cx, first, linear) {
        Ok(first) => first,
        Err(first) => {
            ours.push_front(first);
            return Err(ours);
        }
    };
    let mut charge = Charge::of(&whole);
    while let Some(mut piece) = ours.pop_front() {
        piece.consume_front(header_len_of(&piece));
        charge.join(&piece);
        let missing = linear.saturating_sub(whole.headlen()).min(whole.tailroom()).min(piece.len());
        if missing > 0 {
            piece.copy_to(0, whole.put(missing));
            piece.consume_front(missing);
            cx.count_n(Counter::CopiedUnshare, missing as u64);
        }
        // Empty or not: its slot and its charge go with the packet.
        if let Err(piece) = whole.add_frag(piece) {
            debug_assert!(false, "all lie in one pool, and 64 KiB fit");
            cx.pool.free(piece);
        }
    }
    whole.ip_summed = summed;
    (whole.truesize, whole.scratch) = (charge.truesize, charge.joins.unwrap_or(Joins::FULL).0);
    Ok(whole)
}

/// What the whole is charged: pieces that fit behind the first, or share pages with it, cost less than alone
/// (`skb_try_coalesce`); behind one that does not, each is charged what it was.
struct Charge {
    truesize: u32,
    /// None once a piece was chained as it was.
    joins: Option<Joins>,
}

impl Charge {
    fn of(first: &Skb) -> Charge {
        Charge { truesize: first.truesize, joins: Some(Joins(first.scratch)) }
    }

    fn join(&mut self, piece: &Skb) {
        let join = |joins: Joins| joins.join(piece.len() as u32, piece.truesize, Joins(piece.scratch));
        let joined = self.joins.and_then(join);
        self.truesize += joined.map_or(piece.truesize, |(charge, _)| charge);
        self.joins = joined.map(|(_, joins)| joins);
    }
}

/// What is known of the checksums of all: a sum over a part says nothing of the whole.
fn common_sum(pieces: &SkbQueue) -> IpSummed {
    let first = pieces.front().map_or(IpSummed::None, |piece| piece.ip_summed);
    let common = first != IpSummed::Complete && pieces.iter().all(|piece| piece.ip_summed == first);
    if common { first } else { IpSummed::None }
}

/// Slots are chained within a pool only: what another Cpu received is copied.
fn in_our_pool(cx: &mut Cx, piece: Skb) -> Result<Skb, Skb> {
    if cx.pool.owns(&piece) {
        return Ok(piece);
    }
    let Some(copy) = piece.copy(&mut cx.pool) else { return Err(piece) };
    cx.count_n(Counter::CopiedUnshare, piece.len() as u64);
    cx.pool.free(piece);
    Ok(copy)
}

/// The first fragment, writable and with room for `linear` bytes in one piece.
fn with_room(cx: &mut Cx, mut first: Skb, linear: usize) -> Result<Skb, Skb> {
    if first.headlen() >= linear {
        return if cx.make_writable(&mut first) { Ok(first) } else { Err(first) };
    }
    if first.headlen() + first.tailroom() >= linear {
        return Ok(first);
    }
    // Shared, or in a small slot, or with little of it in front.
    let len = first.len();
    let fits = len + IN_ONE_PIECE + RX_HEADROOM <= SlotClass::Frame.capacity();
    let Some(mut roomy) = (if fits { cx.pool.alloc() } else { cx.pool.alloc_large() }) else { return Err(first) };
    if roomy.tailroom() < len + IN_ONE_PIECE {
        cx.pool.free(roomy);
        return Err(first);
    }
    *roomy = SkbMeta::clone(&first);
    first.copy_to(0, roomy.put(len));
    roomy.set_network_header_here();
    cx.count_n(Counter::CopiedUnshare, len as u64);
    cx.pool.free(first);
    Ok(roomy)
}
