//! What time brings: solicitations, neighbours given up or collected, requests answered for others; and the end.

use std::sync::Arc;

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{DropReason, Holder};
use rxpath_wire::Addr;

use super::entry::{Key, Timed, Whom};
use super::output::{end_all, source_of_waiting};
use super::{arp, arp_out};
use crate::cx::Cx;

/// Runs the timers that are due: see [`NeighTable::next_deadline`](super::NeighTable::next_deadline). Any Cpu may, at any
/// time. `link_failure` is told of each packet whose next hop does not answer, before it ends (`arp_error_report`).
pub fn tick(cx: &mut Cx, link_failure: fn(&mut Cx, &Skb)) {
    let table = Arc::clone(&cx.neigh);
    while let Some(skb) = table.proxies.pop_due(cx.now) {
        cx.release(Holder::Neighbour);
        let end = arp::redo(cx, skb);
        cx.end(end);
    }
    table.collect_old(cx.now, &cx.net);
    if !table.take_due(cx.now) {
        return;
    }
    table.redraw_reachable(cx.now, &mut cx.rng);
    let mut solicitations: Vec<(Key, Whom, Option<Addr>)> = Vec::new();
    let mut failed = SkbQueue::new();
    for mut shard in table.shards() {
        for (key, entry) in shard.iter_mut() {
            if entry.timer <= cx.now {
                match entry.timer_expired(cx.now, &table.parms(&cx.net, key.0)) {
                    Timed::Nothing => {}
                    Timed::Invalidate => table.invalidate(),
                    Timed::Solicit(whom) => solicitations.push((*key, whom, source_of_waiting(entry))),
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
    for ((ifindex, target), whom, src) in solicitations {
        arp_out::solicit(cx, ifindex, target, whom, src);
    }
}

/// Empties the table, for `reason`: when the stack goes.
pub fn purge(cx: &mut Cx, reason: DropReason) {
    let table = Arc::clone(&cx.neigh);
    for mut entry in table.drain() {
        end_all(cx, entry.take_pending(), reason);
    }
    for skb in table.proxies.drain() {
        cx.release(Holder::Neighbour);
        cx.drop_skb(skb, reason);
    }
}
