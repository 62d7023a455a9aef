//! Packets on their way to a neighbour: sent, waiting, or given up.

use std::sync::Arc;

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{DropReason, EventKind, Holder};
use rxpath_wire::{Addr, EtherType, Ipv4Header, MacAddr};

use super::arp_out;
use super::entry::{Entry, Key, Nud, Send};
use super::table::NeighTable;
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
    let Some(mut locked) = table.lock_or_make((ifindex, nexthop), cx.now, &cx.net) else {
        cx.drop_skb(skb, DropReason::NeighCreatefail);
        return None;
    };
    let entry = locked.entry();
    match entry.send(cx.now, &table.parms(&cx.net, ifindex), confirm) {
        Send::To(mac) => {
            let keep = entry.state.is_connected().then(|| (mac, table.generation()));
            drop(locked);
            send_to(cx, skb, ifindex, mac);
            keep
        }
        Send::Wait(whom) => {
            let overflow = wait(cx, entry, skb, ifindex, nexthop);
            let src = source_of_waiting(entry);
            drop(locked);
            end_all(cx, overflow, DropReason::NeighQueuefull);
            if let Some(whom) = whom {
                arp_out::solicit(cx, ifindex, nexthop, whom, src);
            }
            None
        }
        Send::Never => {
            drop(locked);
            cx.drop_skb(skb, DropReason::NeighFailed);
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
fn wait(cx: &mut Cx, entry: &mut Entry, skb: Skb, ifindex: u16, nexthop: Addr) -> SkbQueue {
    let limit = u64::from(cx.net.neigh(ifindex).unres_qlen_bytes);
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
pub(super) fn source_of_waiting(entry: &Entry) -> Option<Addr> {
    let (header, _) = Ipv4Header::parse(entry.pending.back()?.network_header())?;
    Some(header.src_addr())
}

/// Ends packets that waited.
pub(super) fn end_all(cx: &mut Cx, mut queue: SkbQueue, reason: DropReason) {
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
    let locked = if make { table.lock_or_make(key, cx.now, &cx.net) } else { table.lock_known(key, cx.now) };
    let Some(mut locked) = locked else { return false };
    let entry = locked.entry();
    let updated = entry.update(mac, proof, overrides, cx.now, &table.parms(&cx.net, key.0));
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

/// What is configured of a neighbour (`struct ndmsg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighSpec {
    /// Interface.
    pub ifindex: u16,
    /// Address.
    pub addr: Addr,
    /// Hardware address. None leaves the one that is known.
    pub mac: Option<MacAddr>,
    /// State to begin with. `INCOMPLETE` is as `FAILED`.
    pub state: Nud,
}

/// Whether a neighbour must, may or must not be there when it is configured (`NLM_F_CREATE`, `NLM_F_EXCL`, `NLM_F_REPLACE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It must not be there (`ip neigh add`).
    Add,
    /// It must be there (`ip neigh change`).
    Change,
    /// Either (`ip neigh replace`).
    Replace,
}

/// Why a neighbour was not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighError {
    /// It is there already (`EEXIST`).
    Exists,
    /// It is not there (`ENOENT`).
    Unknown,
    /// The table is full (`ENOBUFS`).
    Full,
    /// A state in which there is a hardware address, and none (`EINVAL`).
    NoMac,
}

impl std::fmt::Display for NeighError {
    /// As iproute2 tells it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NeighError::Exists => "RTNETLINK answers: File exists",
            NeighError::Unknown => "RTNETLINK answers: No such file or directory",
            NeighError::Full => "RTNETLINK answers: No buffer space available",
            NeighError::NoMac => "Error: No link layer address given.",
        })
    }
}

impl std::error::Error for NeighError {}

/// Configures a neighbour (`neigh_add`); what waits for its address goes, or ends as `NEIGH_FAILED`.
///
/// # Errors
/// As [`NeighError`] lists them; nothing is changed then.
pub fn configure(cx: &mut Cx, spec: NeighSpec, mode: Mode) -> Result<(), NeighError> {
    let table = Arc::clone(&cx.neigh);
    let key = (spec.ifindex, spec.addr);
    let known = table.lock_known(key, cx.now).map(|mut known| known.entry().state);
    match (mode, known) {
        (Mode::Add, Some(_)) => return Err(NeighError::Exists),
        (Mode::Change, None) => return Err(NeighError::Unknown),
        _ => {}
    }
    let has_mac = spec.mac.is_some() || known.is_some_and(Nud::is_valid);
    if spec.state.is_valid() && !has_mac {
        return Err(NeighError::NoMac);
    }
    let locked = match spec.state {
        Nud::Permanent => Some(table.lock_made(key, cx.now, &cx.net)),
        _ => table.lock_or_make(key, cx.now, &cx.net),
    };
    let Some(mut locked) = locked else { return Err(NeighError::Full) };
    let entry = locked.entry();
    let was = entry.state == Nud::Permanent;
    entry.configure(spec.mac, spec.state, cx.now, &table.parms(&cx.net, spec.ifindex));
    table.count_permanent(was, spec.state == Nud::Permanent);
    let (mac, waiting) = (entry.mac, entry.take_pending());
    table.invalidate();
    drop(locked);
    if spec.state.is_valid() {
        send_all(cx, waiting, spec.ifindex, mac);
    } else {
        end_all(cx, waiting, DropReason::NeighFailed);
    }
    Ok(())
}

/// Makes this host answer for `addr` on an interface, or no more (`ip neigh add proxy`, `ip neigh del proxy`). False if
/// nothing changed.
pub fn set_proxy(table: &NeighTable, ifindex: u16, addr: Addr, on: bool) -> bool {
    let key = (ifindex, addr);
    if on { table.proxies.add(key) } else { table.proxies.remove(&key) }
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
