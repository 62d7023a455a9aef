//! Packets that somebody keeps at a hook, and how they go on.

use std::sync::Arc;

use rxpath_mem::{IpSummed, Skb};
use rxpath_trace::{Counter, DropReason, EventKind, Holder};
use rxpath_wire::Ipv4Header;

use super::{HookPoint, Hooks, List, ToQueue, iterate, nf_queue};
use crate::cx::{Cx, Fate};
use crate::route::{Forward, Route};

/// How a packet goes on whose hooks are through (`okfn`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Onward {
    /// From PREROUTING to the routing decision.
    Receive,
    /// From PREROUTING to this host's protocols: it was sent here, to all or to a group.
    Looped,
    /// From INPUT to this host's protocols.
    Deliver,
    /// From FORWARD to POSTROUTING.
    Forward(Forward),
    /// From OUTPUT to POSTROUTING.
    Output(Route),
    /// From POSTROUTING to the interface.
    Finish(Route),
    /// So, too, a packet for another host.
    ForwardFinish(Route),
}

/// Where a packet has come to: at which point, and at which of its hooks (`nf_hook_state`).
#[derive(Clone)]
pub struct HookState {
    pub(super) point: HookPoint,
    onward: Onward,
    pub(super) list: List,
    /// The hook that is asked.
    pub(super) index: usize,
}

impl std::fmt::Debug for HookState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hook = self.list.get(self.index).map(|(_, hook)| hook.name());
        f.debug_struct("HookState").field("point", &self.point).field("hook", &hook).finish_non_exhaustive()
    }
}

impl HookState {
    pub(super) fn new(point: HookPoint, onward: Onward, list: List) -> HookState {
        HookState { point, onward, list, index: 0 }
    }

    /// The point.
    pub fn point(&self) -> HookPoint {
        self.point
    }

    /// The interface by which the packet came, if it did and that is known here.
    pub fn came_by(&self, skb: &Skb) -> Option<u16> {
        matches!(self.onward, Onward::Receive | Onward::Looped | Onward::Deliver | Onward::Forward(_))
            .then_some(skb.ifindex)
    }

    /// The interface by which the packet is to leave, once that is known.
    pub fn leaves_by(&self) -> Option<u16> {
        match self.onward {
            Onward::Receive | Onward::Looped | Onward::Deliver => None,
            Onward::Forward(way) => Some(way.ifindex),
            Onward::Output(route) | Onward::Finish(route) | Onward::ForwardFinish(route) => Some(route.ifindex),
        }
    }

    /// The hook that is asked keeps the packet, and then says [`Stolen`](super::Verdict::Stolen). The ledger has it as held
    /// by netfilter until [`Stack::reinject`](crate::stack::Stack::reinject) gives it back.
    pub fn steal(&self, cx: &mut Cx, skb: Skb) -> Stolen {
        cx.hold(Holder::Netfilter);
        Stolen { skb, state: Box::new(self.clone()), cpu: cx.cpu }
    }

    /// Finds the hook that kept the packet among those that there are now. False if it is gone.
    fn refresh(&mut self, hooks: &Hooks) -> bool {
        let Some(now) = &hooks.lists[self.point as usize] else { return false };
        if Arc::ptr_eq(now, &self.list) {
            return true;
        }
        let Some((priority, keeper)) = self.list.get(self.index) else { return false };
        let Some(index) = now.iter().position(|(other, hook)| other == priority && Arc::ptr_eq(hook, keeper)) else {
            return false;
        };
        (self.list, self.index) = (Arc::clone(now), index);
        true
    }
}

/// A packet that somebody keeps at a hook. It must be given back
/// ([`Stack::reinject`](crate::stack::Stack::reinject)): as a packet that goes out of scope, one that is lost panics in
/// debug builds.
#[derive(Debug)]
#[must_use]
pub struct Stolen {
    skb: Skb,
    state: Box<HookState>,
    pub(crate) cpu: u16,
}

impl Stolen {
    /// The packet, from its IP header on.
    pub fn packet(&self) -> &Skb {
        &self.skb
    }

    /// Where it was when it was taken.
    pub fn state(&self) -> &HookState {
        &self.state
    }

    /// The stack goes: the packet ends on the Cpu that it is of.
    pub(crate) fn purge(self, cx: &mut Cx) {
        cx.release(Holder::Netfilter);
        cx.drop_skb(self.skb, DropReason::QueuePurge);
    }
}

/// What the owner of a packet that was kept says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// It is dropped (`NF_DROP`).
    Drop = 0,
    /// It goes on behind the hook that kept it (`NF_ACCEPT`).
    Accept = 1,
    /// It is for a queue (`NF_QUEUE`).
    Queue(ToQueue) = 3,
    /// The hook that kept it is to see it again (`NF_REPEAT`).
    Repeat = 4,
}

impl Answer {
    /// The kernel's number, which the events of lives carry; a queue's in the upper half.
    fn number(self) -> u32 {
        match self {
            Answer::Drop => 0,
            Answer::Accept => 1,
            Answer::Queue(to) => 3 | u32::from(to.number) << 16,
            Answer::Repeat => 4,
        }
    }
}

/// `nf_reinject`: a packet that was kept goes through the hooks behind the one that kept it, with other bytes if its owner
/// changed it (`nfqnl_mangle`). As in the kernel, it is dropped if that hook is not there any more.
#[cold]
pub(crate) fn reinject(cx: &mut Cx, held: Stolen, answer: Answer, changed: Option<&[u8]>) -> Fate<(Skb, Onward)> {
    let Stolen { mut skb, mut state, .. } = held;
    cx.release(Holder::Netfilter);
    cx.work_on(&skb);
    cx.event(&skb, EventKind::Reinjected, state.point as u32, answer.number());
    if let Some(bytes) = changed {
        skb = match replace(cx, skb, bytes) {
            Ok(skb) => skb,
            Err(skb) => return Fate::Drop(skb, DropReason::Nomem),
        };
    }
    if !state.refresh(&cx.net.hooks) {
        return Fate::Drop(skb, DropReason::NetfilterDrop);
    }
    let (keeper, again) = (state.index, answer == Answer::Repeat);
    let fate = match answer {
        Answer::Drop => Fate::Drop(skb, DropReason::NetfilterDrop),
        Answer::Accept | Answer::Repeat => iterate(cx, &mut state, keeper + usize::from(!again), skb),
        Answer::Queue(to) => match nf_queue(cx, &state, skb, to) {
            Fate::Pass(skb) => iterate(cx, &mut state, keeper + 1, skb),
            ended => ended,
        },
    };
    match fate.split() {
        Ok(skb) => Fate::Pass((skb, state.onward)),
        Err(end) => end.into_fate(),
    }
}

/// Gives the packet these bytes, a whole IP packet. What a device said of the old ones is forgotten. The packet comes back
/// as an error if the pool is dry.
fn replace(cx: &mut Cx, mut skb: Skb, bytes: &[u8]) -> Result<Skb, Skb> {
    if !cx.pool.owns(&skb) {
        // Bytes that are added lie in slots of this Cpu, and a packet in those of one.
        let Some(mut own) = skb.copy(&mut cx.pool) else { return Err(skb) };
        cx.count_n(Counter::CopiedUnshare, skb.len() as u64);
        own.set_traced(skb.traced());
        cx.pool.free(skb);
        skb = own;
    }
    if !cx.make_writable(&mut skb) {
        return Err(skb);
    }
    let (head, rest) = bytes.split_at(bytes.len().min(skb.headlen()));
    skb.data_mut()[..head.len()].copy_from_slice(head);
    skb.trim(head.len());
    if !cx.append(&mut skb, rest) {
        return Err(skb);
    }
    let header_len = Ipv4Header::parse(head).map_or(Ipv4Header::LEN, |(header, _)| header.header_len());
    skb.transport_off = skb.network_off + header_len as u16;
    (skb.ip_summed, skb.gso_size) = (IpSummed::None, 0);
    Ok(skb)
}
