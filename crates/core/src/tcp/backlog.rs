//! The backlog of a socket: segments that came while the application owned it (`tcp_add_backlog`, `release_sock`).
//!
//! Only the holder of the owner Cpu's token touches a backlog, so it needs no lock of its own. While one is worked off,
//! acknowledgements that become due wait for its end, so that one stands for all of them (`tcp_backlog_ack_defer`).

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Holder, PacketId};
use rxpath_wire::{TcpFlags, TcpHeader};

use super::ack_policy::Deferral;
use super::queue::joined;
use super::{Segment, TcpSock};
use crate::cx::{Cx, End, Fate};
use crate::socket::Sock;
use crate::socket::table::SockEntry;

/// Puts a segment on the backlog, joined to its tail where that is possible, or refuses it when the limit is reached.
pub(super) fn add(cx: &mut Cx, sock: &Sock, entry: &mut SockEntry, skb: Skb, seg: &Segment) -> End {
    let charge = u64::from(skb.truesize);
    let skb = match coalesce(cx, entry, skb, seg) {
        Ok(()) => return Fate::Held,
        Err(skb) => skb,
    };
    if entry.backlog_charge + u64::from(sock.rmem()) > sock.backlog_limit() {
        cx.count(Counter::TcpExtTCPBacklogDrop);
        sock.count_backlog_drop();
        return Fate::Drop(skb, DropReason::SocketBacklog);
    }
    entry.backlog_charge += charge;
    cx.event(&skb, EventKind::SocketBacklog, entry.backlog_charge as u32, 0);
    cx.hold(Holder::SocketBacklog);
    entry.backlog.push_back(skb);
    Fate::Held
}

/// Flags that must be absent on both sides of a join.
const UNJOINABLE: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::RST.0 | TcpFlags::URG.0);
/// Flags that must be equal on both sides.
const EQUAL: u8 = TcpFlags::ECE.0 | TcpFlags::CWR.0 | TcpFlags::ACK.0;

/// Joins a segment to the tail of the backlog if it continues it and says nothing else than it: the tail then carries
/// the newer acknowledgement and window, and FIN and PSH of both, and counts as the segments that it was. The charge is
/// what it would be in the receive queue; the limit is not asked.
fn coalesce(cx: &mut Cx, entry: &mut SockEntry, mut skb: Skb, seg: &Segment) -> Result<(), Skb> {
    let Some(mut tail) = entry.backlog.back_mut() else { return Err(skb) };
    let Some(before) = Segment::of(&tail) else { return Err(skb) };
    let may_join = before.end_seq == seg.seq
        && seg.flags.ack()
        && !before.flags.intersects(UNJOINABLE)
        && !seg.flags.intersects(UNJOINABLE)
        && !before.flags.fin()
        && (before.flags.0 ^ seg.flags.0) & EQUAL == 0
        && before.header_len == seg.header_len
        && before.option_bytes(&tail) == seg.option_bytes(&skb)
        && super::ecn::tos_of(&tail) == super::ecn::tos_of(&skb);
    let Some((charge, joins)) = may_join.then(|| joined(&tail, &skb)).flatten() else { return Err(skb) };
    let (traced, id, end_seq, truesize) = (skb.traced(), skb.id, skb.end_seq, skb.truesize);
    let (size, count) = (segment_size(&tail).max(segment_size(&skb)), segments(&tail).saturating_add(segments(&skb)));
    skb.truesize = charge;
    if let Err(mut skb) = tail.add_frag(skb) {
        skb.truesize = truesize;
        return Err(skb);
    }
    (tail.end_seq, tail.scratch, tail.gso_size, tail.gso_segs) = (end_seq, joins.0, size, count);
    entry.backlog_charge += u64::from(charge);
    if let Some((header, _)) = TcpHeader::parse_mut(tail.transport_header_mut()) {
        if seg.ack.at_or_after(before.ack) {
            header.set_ack(seg.ack);
            header.set_window(seg.window);
        }
        header.add_flags(TcpFlags(seg.flags.0 & (TcpFlags::FIN.0 | TcpFlags::PSH.0)));
    }
    cx.count(Counter::TcpExtTCPBacklogCoalesce);
    cx.ledger.consumed(Consumed::Absorbed, 1);
    if traced {
        cx.record(id, EventKind::Consumed, Consumed::Absorbed as u32, 0, PacketId(0));
    }
    Ok(())
}

/// Payload of its segments, the longest if they differ.
fn segment_size(skb: &Skb) -> u16 {
    if skb.gso_size > 0 { skb.gso_size } else { skb.len().min(usize::from(u16::MAX)) as u16 }
}

/// Segments that it came as.
fn segments(skb: &Skb) -> u16 {
    skb.gso_segs.max(1)
}

/// Works off a backlog, in order, by whoever holds both the token and the socket (`__release_sock`), and sends the one
/// acknowledgement that was put off meanwhile (`tcp_release_cb`). What waits takes room from the window until the end.
pub(super) fn drain(cx: &mut Cx, sk: &mut TcpSock, entry: &mut SockEntry) {
    if entry.backlog.is_empty() {
        return;
    }
    let mut backlog = std::mem::take(&mut entry.backlog);
    sk.rx.backlog_len = std::mem::take(&mut entry.backlog_charge).min(u64::from(u32::MAX)) as u32;
    sk.ack.deferral = Deferral::begin(cx);
    let cause = cx.cause;
    while let Some(skb) = backlog.pop_front() {
        cx.release(Holder::SocketBacklog);
        cx.event(&skb, EventKind::SocketBacklogTaken, 0, 0);
        cx.work_on(&skb);
        let end = match Segment::of(&skb) {
            Some(seg) => sk.do_rcv(cx, skb, &seg),
            None => Fate::Drop(skb, DropReason::PktTooSmall),
        };
        if backlog.is_empty() {
            sk.rx.backlog_len = 0;
            sk.send_deferred_ack(cx);
        }
        sk.end(cx, end);
    }
    cx.cause = cause;
}

/// Ends what a socket that is gone can no longer take.
pub(super) fn purge(cx: &mut Cx, backlog: &mut SkbQueue) {
    while let Some(skb) = backlog.pop_front() {
        cx.release(Holder::SocketBacklog);
        cx.drop_skb(skb, DropReason::SocketClose);
    }
}
