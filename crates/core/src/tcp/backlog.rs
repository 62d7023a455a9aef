//! The backlog of a socket: segments that came while the application owned it (`tcp_add_backlog`, `release_sock`).
//!
//! Only the holder of the owner Cpu's token touches a backlog, so it needs no lock of its own.

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Holder, PacketId};
use rxpath_wire::{TcpFlags, TcpHeader};

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
/// the newer acknowledgement and window, and FIN and PSH of both.
fn coalesce(cx: &mut Cx, entry: &mut SockEntry, skb: Skb, seg: &Segment) -> Result<(), Skb> {
    let Some(mut tail) = entry.backlog.back_mut() else { return Err(skb) };
    let Some(before) = Segment::of(&tail) else { return Err(skb) };
    let joins = before.end_seq == seg.seq
        && seg.flags.ack()
        && !before.flags.intersects(UNJOINABLE)
        && !seg.flags.intersects(UNJOINABLE)
        && !before.flags.fin()
        && (before.flags.0 ^ seg.flags.0) & EQUAL == 0
        && before.header_len == seg.header_len
        && before.option_bytes(&tail) == seg.option_bytes(&skb)
        && super::ecn::tos_of(&tail) == super::ecn::tos_of(&skb)
        && tail.same_pool(&skb);
    if !joins {
        return Err(skb);
    }
    let (traced, id, end_seq) = (skb.traced(), skb.id, skb.end_seq);
    tail.add_frag(skb)?;
    tail.end_seq = end_seq;
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

/// Works off a backlog, in order, by whoever holds both the token and the socket (`__release_sock`).
pub(super) fn drain(cx: &mut Cx, sk: &mut TcpSock, entry: &mut SockEntry) {
    let mut backlog = std::mem::take(&mut entry.backlog);
    entry.backlog_charge = 0;
    let cause = cx.cause;
    sk.ack.deferring = cx.net.sysctl.tcp_backlog_ack_defer && !backlog.is_empty();
    while let Some(skb) = backlog.pop_front() {
        cx.release(Holder::SocketBacklog);
        cx.event(&skb, EventKind::SocketBacklogTaken, 0, 0);
        cx.work_on(&skb);
        let end = match Segment::of(&skb) {
            Some(seg) => sk.do_rcv(cx, skb, &seg),
            None => Fate::Drop(skb, DropReason::PktTooSmall),
        };
        if backlog.is_empty() {
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
