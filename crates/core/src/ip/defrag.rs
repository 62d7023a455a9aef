//! Fragments become datagrams again (`ip_defrag`; RFC 791 section 3.2, RFC 815).
//!
//! | file | kernel functions |
//! |---|---|
//! | `queue` | `ip_frag_queue`, `inet_frag_queue_insert`: one datagram, as pure decisions |
//! | `table` | `ip_find`, `inet_frag_find`, `ip_frag_too_far`: all datagrams that wait, and what they cost |
//! | `assemble` | `ip_frag_reasm`: the one packet of the many |
//!
//! The table is shared by all Cpus, as the fragments of a datagram may come by any queue, and is locked by shard. Its
//! bounds: `ipfrag_high_thresh` in truesize, as in Linux, and a quarter of a page pool in packets. What comes beyond is
//! dropped, and nothing that waits is thrown out for it; everything goes after `ipfrag_time`.
//!
//! Any fragment that overlaps another in part ends the whole datagram (RFC 5722 for IPv6, and Linux for both); one that
//! lies within what came already ends alone.
//!
//! Where the kernel drops without a reason, there is one here: `NOMEM` beyond the bounds, `FRAG_REASM_TIMEOUT` for the
//! fragment that makes a datagram impossible, as for those that it takes along.

mod assemble;
mod queue;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{Counter, DropReason, EventKind, Holder};
use rxpath_wire::{Ipv4Header, icmp as wire_icmp};

use self::assemble::reassemble;
use self::queue::{FragQueue, Outcome, Piece};
pub use self::table::FragTable;
use self::table::Key;
use crate::cx::{Cx, Fate};
use crate::icmp;

/// Code of "time exceeded": while fragments were waited for.
const REASSEMBLY_TIME: u8 = 1;
/// Longest fragment that is moved into a small slot when the pool runs low.
const SMALL: usize = 224;

/// Whether the packet, whose data starts at the IP header, is a part of a datagram (`ip_is_fragment`).
#[inline(always)]
pub fn is_fragment(skb: &Skb) -> bool {
    matches!(Ipv4Header::parse(skb.data()), Some((header, _)) if header.is_fragment())
}

/// `ip_defrag`: takes a fragment, and passes the datagram once it is whole: a packet of its own, from the IP header on,
/// with at least 128 bytes behind that header in one piece, as far as there are so many.
#[cold]
pub fn defrag(cx: &mut Cx, skb: Skb) -> Fate<Skb> {
    cx.count(Counter::IpReasmReqds);
    let Some((header, _)) = Ipv4Header::parse(skb.data()) else { return Fate::Drop(skb, DropReason::IpInhdr) };
    let (key, piece) = (Key::of(header), Piece::of(header, skb.len()));
    let table = Arc::clone(&cx.frags);
    if table.is_full(&cx.net.sysctl) || cx.pool_is_short() {
        cx.count(Counter::IpReasmFails);
        return Fate::Drop(skb, DropReason::Nomem);
    }
    let skb = cx.compact(skb, SMALL);
    let (id, ifindex, traced) = (skb.id, skb.ifindex, skb.traced());
    cx.hold(Holder::Reassembly);
    let taken = table.take_in(key, &piece, skb, cx.now, &cx.net.sysctl);
    if !taken.too_far.is_empty() {
        cx.count(Counter::IpReasmFails);
        end_all(cx, taken.too_far, DropReason::FragTooFar);
    }
    match taken.outcome {
        Outcome::Held => {
            if traced {
                let other = rxpath_trace::PacketId::NONE;
                cx.record(id, EventKind::FragHeld, piece.offset, piece.len, other);
            }
            Fate::Held
        }
        Outcome::Whole(queue) => reassemble(cx, *queue, id, ifindex),
        Outcome::Duplicate(skb) => {
            cx.release(Holder::Reassembly);
            Fate::Drop(skb, DropReason::DupFrag)
        }
        Outcome::Impossible { pieces, overlap } => {
            cx.count(Counter::IpReasmFails);
            if overlap {
                cx.count(Counter::IpExtReasmOverlaps);
            }
            end_all(cx, pieces, DropReason::FragReasmTimeout);
            Fate::Held
        }
    }
}

/// `ip_expire`: gives up the datagrams that waited too long; see [`FragTable::next_deadline`]. Any Cpu may, at any time.
#[cold]
pub fn tick(cx: &mut Cx) {
    let table = Arc::clone(&cx.frags);
    for queue in table.take_due(cx.now) {
        expire(cx, queue);
    }
}

/// The sender is told, if there is a header to tell it with (RFC 792: not without fragment zero).
fn expire(cx: &mut Cx, queue: FragQueue) {
    cx.count(Counter::IpReasmFails);
    cx.count(Counter::IpReasmTimeout);
    let with_first = queue.has_first();
    let pieces = queue.into_pieces();
    if let Some(first) = pieces.front().filter(|_| with_first) {
        icmp::send_error(cx, first, wire_icmp::TIME_EXCEEDED, REASSEMBLY_TIME, 0);
    }
    end_all(cx, pieces, DropReason::FragReasmTimeout);
}

/// Empties the table, for `reason`: when the stack goes.
pub fn purge(cx: &mut Cx, reason: DropReason) {
    let table = Arc::clone(&cx.frags);
    for queue in table.drain() {
        end_all(cx, queue.into_pieces(), reason);
    }
}

/// Ends fragments that waited.
fn end_all(cx: &mut Cx, mut pieces: SkbQueue, reason: DropReason) {
    while let Some(piece) = pieces.pop_front() {
        cx.release(Holder::Reassembly);
        cx.drop_skb(piece, reason);
    }
}
