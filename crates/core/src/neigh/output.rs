//! Packets on their way to a neighbour: sent, waiting, or given up.

use std::sync::Arc;

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{DropReason, EventKind, Holder};
use rxpath_wire::{Addr, EtherType, Ipv4Header, MacAddr};

use super::arp_out;
use super::entry::{Entry, Send, Timed};
use super::table::Key;
use crate::cx::Cx;
use crate::route::AddrType;
use crate::tx;

/// `neigh_resolve_output`: sends an IP packet to `nexthop` by interface `ifindex`, at once or when the hardware address is
/// known. `confirm`: the transport has proof that the neighbour receives what is sent to it.
///
/// Gives the address and the table's generation if a sender may keep them.
#[cold]
pub fn resolve_output(cx: &mut Cx, skb: Skb, ifindex: u16, nexthop: Addr, confirm: bool) -> Option<(MacAddr, u64)> {
    if !nexthop.is_v4() {
        // ARP cannot ask for it, so nobody would answer.
        cx.drop_skb(skb, DropReason::NeighFailed);
        return None;
    }
    let table = Arc::clone(&cx.neigh);
    if let Some(mac) = group_mac(cx, nexthop) {
        send_to(cx, skb, ifindex, mac);
        return Some((mac, table.generation()));
    }
    let Some(mut locked) = table.lock_or_make((ifindex, nexthop), cx.now) else {
        cx.drop_skb(skb, DropReason::NeighCreatefail);
        return None;
    };
    let entry = locked.entry();
    match entry.send(cx.now, table.reachable(), confirm) {
        Send::To(mac) => {
            let keep = entry.state.is_connected().then(|| (mac, table.generation()));
            drop(locked);
            send_to(cx, skb, ifindex, mac);
            keep
        }
        Send::Wait { solicit } => {
            let overflow = wait(cx, entry, skb, nexthop);
            let src = source_of_waiting(entry);
            drop(locked);
            end_all(cx, overflow, DropReason::NeighQueuefull);
            if solicit {
                arp_out::solicit(cx, ifindex, nexthop, None, src);
            }
            None
        }
    }
}

/// `arp_mc_map`: the address of a group (RFC 1112 section 6.4) or of all stations, which nobody needs to be asked for.
fn group_mac(cx: &Cx, nexthop: Addr) -> Option<MacAddr> {
    match cx.net.fib.addr_type(nexthop) {
        AddrType::Multicast => Some(MacAddr::of_group(nexthop.v4()?)),
        AddrType::Broadcast => Some(MacAddr::BROADCAST),
        AddrType::Unicast | AddrType::Local | AddrType::Unspecified => None,
    }
}

/// Puts the Ethernet header in front of an IP packet and hands it to the device.
fn send_to(cx: &mut Cx, mut skb: Skb, ifindex: u16, mac: MacAddr) {
    let ethertype = skb.protocol;
    debug_assert!(matches!(ethertype, EtherType::IPV4 | EtherType::IPV6));
    tx::push_ethernet(cx, &mut skb, ifindex, mac, ethertype);
    tx::dev_queue_xmit(cx, skb, ifindex);
}

/// Lets a packet wait for the address; gives those that have to make room for it, the oldest.
fn wait(cx: &mut Cx, entry: &mut Entry, skb: Skb, nexthop: Addr) -> SkbQueue {
    let limit = u64::from(cx.net.sysctl.neigh_unres_qlen_bytes);
    let mut overflow = SkbQueue::new();
    while entry.pending_bytes + u64::from(skb.truesize) > limit {
        let Some(oldest) = entry.pending.pop_front() else { break };
        entry.pending_bytes -= u64::from(oldest.truesize);
        overflow.push_back(oldest);
    }
    let nexthop = nexthop.v4().map_or(0, u32::from);
    cx.event(&skb, EventKind::NeighHeld, nexthop, entry.pending.len() as u32 + 1);
    cx.hold(Holder::Neighbour);
    entry.pending_bytes += u64::from(skb.truesize);
    entry.pending.push_back(skb);
    overflow
}

/// The source address of the packet that came last: what a solicitation is sent from if it is ours.
fn source_of_waiting(entry: &Entry) -> Option<Addr> {
    let (header, _) = Ipv4Header::parse(entry.pending.back()?.network_header())?;
    Some(header.src_addr())
}

/// Ends packets that waited.
fn end_all(cx: &mut Cx, mut queue: SkbQueue, reason: DropReason) {
    while let Some(skb) = queue.pop_front() {
        cx.release(Holder::Neighbour);
        cx.drop_skb(skb, reason);
    }
}

/// `neigh_update`: somebody says that the neighbour `key` has address `mac`; what waits for it goes. `proof`: it answered
/// us. `overrides`: the word counts against an address that is known, whatever its age. With `make`, the entry is made if
/// it is not there. False if there is none.
pub(super) fn update(cx: &mut Cx, key: Key, mac: MacAddr, proof: bool, overrides: bool, make: bool) -> bool {
    let table = Arc::clone(&cx.neigh);
    let locked = if make { table.lock_or_make(key, cx.now) } else { table.lock_known(key, cx.now) };
    let Some(mut locked) = locked else { return false };
    let entry = locked.entry();
    let updated = entry.update(mac, proof, overrides, cx.now, table.reachable());
    if updated.invalidate {
        table.invalidate();
    }
    let released = if updated.release { entry.take_pending() } else { SkbQueue::new() };
    drop(locked);
    send_all(cx, released, key.0, mac);
    true
}

fn send_all(cx: &mut Cx, mut queue: SkbQueue, ifindex: u16, mac: MacAddr) {
    while let Some(skb) = queue.pop_front() {
        cx.release(Holder::Neighbour);
        send_to(cx, skb, ifindex, mac);
    }
}

/// Configures a neighbour for good (`ip neigh replace … nud permanent`). False if the table is full.
pub fn set_permanent(cx: &mut Cx, ifindex: u16, addr: Addr, mac: MacAddr) -> bool {
    let table = Arc::clone(&cx.neigh);
    let Some(mut locked) = table.lock_or_make((ifindex, addr), cx.now) else { return false };
    let entry = locked.entry();
    entry.make_permanent(mac, cx.now);
    let released = entry.take_pending();
    table.invalidate();
    drop(locked);
    send_all(cx, released, ifindex, mac);
    true
}

/// Forgets a neighbour (`ip neigh del`); what waits for it ends as `NEIGH_DEAD`. False if it is not there.
pub fn remove(cx: &mut Cx, ifindex: u16, addr: Addr) -> bool {
    let table = Arc::clone(&cx.neigh);
    match table.remove((ifindex, addr)) {
        Some(mut entry) => {
            end_all(cx, entry.take_pending(), DropReason::NeighDead);
            true
        }
        None => false,
    }
}

/// Runs the timers that are due: see [`NeighTable::next_deadline`](super::NeighTable::next_deadline). Any Cpu may, at any
/// time. `link_failure` is told of each packet whose next hop does not answer, before it ends (`arp_error_report`).
pub fn tick(cx: &mut Cx, link_failure: fn(&mut Cx, &Skb)) {
    let table = Arc::clone(&cx.neigh);
    if !table.take_due(cx.now) {
        return;
    }
    table.redraw_reachable(cx.now, &mut cx.rng);
    table.collect_old(cx.now);
    let mut solicitations: Vec<(Key, Option<MacAddr>, Option<Addr>)> = Vec::new();
    let mut failed = SkbQueue::new();
    for mut shard in table.shards() {
        for (key, entry) in shard.iter_mut() {
            if entry.timer <= cx.now {
                match entry.timer_expired(cx.now, table.reachable()) {
                    Timed::Nothing => {}
                    Timed::Invalidate => table.invalidate(),
                    Timed::Solicit(mac) => solicitations.push((*key, mac, source_of_waiting(entry))),
                    Timed::Failed => failed.append(&mut entry.take_pending()),
                }
            }
            table.arm(entry.timer);
        }
    }
    while let Some(skb) = failed.pop_front() {
        cx.release(Holder::Neighbour);
        link_failure(cx, &skb);
        cx.drop_skb(skb, DropReason::NeighFailed);
    }
    for ((ifindex, target), mac, src) in solicitations {
        arp_out::solicit(cx, ifindex, target, mac, src);
    }
}

/// Empties the table, for `reason`: when the stack goes.
pub fn purge(cx: &mut Cx, reason: DropReason) {
    let table = Arc::clone(&cx.neigh);
    for mut entry in table.drain() {
        end_all(cx, entry.take_pending(), reason);
    }
}
