//! Netfilter's hooks: where something from outside may look at a packet and decide over it.
//!
//! The five points of IPv4 and their priorities are the kernel's. A point without hooks costs one test of a bit.
//!
//! A hook may keep a packet: for a decider outside, by way of a queue with a number ([`PacketQueue`]), or for itself
//! ([`HookState::steal`]). What is kept stands in the ledger as held by netfilter, and goes on behind the hook that kept it
//! once its owner says so ([`crate::stack::Stack::reinject`]).
//!
//! Mirrors `nf_hook`, `nf_hook_slow`, `nf_register_net_hook`, `nf_queue`, `nf_reinject`.
//!
//! Neighbours: `path` calls at PREROUTING, INPUT and FORWARD, [`crate::tx`] at OUTPUT and POSTROUTING. Nothing here panics
//! on received bytes; what a hook does is its own.

mod held;
mod queue;
#[cfg(test)]
mod tests;

pub use held::{Answer, HookState, Stolen};
pub(crate) use held::{Onward, reinject};
pub use queue::{PacketQueue, QueueOptions, QueueStats, QueuedPacket};

use std::fmt;
use std::sync::Arc;

use rxpath_mem::Skb;
use rxpath_trace::{DropReason, EventKind, PacketId};

use crate::cx::{Cx, Fate};

/// A point of the path, with the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum HookPoint {
    /// After the header was found sound, before routing (`NF_INET_PRE_ROUTING`).
    PreRouting = 0,
    /// Before delivery to this host's protocols (`NF_INET_LOCAL_IN`).
    LocalIn = 1,
    /// Between the interfaces (`NF_INET_FORWARD`).
    Forward = 2,
    /// Behind this host's protocols (`NF_INET_LOCAL_OUT`).
    LocalOut = 3,
    /// Before an interface (`NF_INET_POST_ROUTING`).
    PostRouting = 4,
}

impl HookPoint {
    /// All points, by number.
    pub const ALL: [HookPoint; 5] =
        [HookPoint::PreRouting, HookPoint::LocalIn, HookPoint::Forward, HookPoint::LocalOut, HookPoint::PostRouting];

    /// The kernel's short name.
    pub const fn name(self) -> &'static str {
        match self {
            HookPoint::PreRouting => "PREROUTING",
            HookPoint::LocalIn => "INPUT",
            HookPoint::Forward => "FORWARD",
            HookPoint::LocalOut => "OUTPUT",
            HookPoint::PostRouting => "POSTROUTING",
        }
    }
}

/// Where a hook stands among those of its point: lower ones go first (`NF_IP_PRI_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub i32);

impl Priority {
    /// Before fragments are put together.
    pub const RAW_BEFORE_DEFRAG: Priority = Priority(-450);
    /// Where conntrack puts fragments together.
    pub const CONNTRACK_DEFRAG: Priority = Priority(-400);
    /// The raw table.
    pub const RAW: Priority = Priority(-300);
    /// Connection tracking.
    pub const CONNTRACK: Priority = Priority(-200);
    /// The mangle table.
    pub const MANGLE: Priority = Priority(-150);
    /// Destination NAT.
    pub const NAT_DST: Priority = Priority(-100);
    /// The filter table.
    pub const FILTER: Priority = Priority(0);
    /// The security table.
    pub const SECURITY: Priority = Priority(50);
    /// Source NAT.
    pub const NAT_SRC: Priority = Priority(100);
    /// Connection tracking's helpers.
    pub const CONNTRACK_HELPER: Priority = Priority(300);
    /// Where conntrack confirms new connections: last of all.
    pub const CONNTRACK_CONFIRM: Priority = Priority(i32::MAX);
}

/// The queue that a packet is for (`NFQUEUE --queue-num`, `queue to` of nft).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToQueue {
    /// Its number.
    pub number: u16,
    /// Where nobody listens to it, the packet goes on instead of being dropped (`--queue-bypass`).
    pub bypass: bool,
}

impl ToQueue {
    /// The queue of this number; where nobody listens, the packet is dropped.
    pub const fn number(number: u16) -> ToQueue {
        ToQueue { number, bypass: false }
    }

    /// As [`ToQueue::number`]; where nobody listens, the packet goes on.
    pub const fn bypass(number: u16) -> ToQueue {
        ToQueue { number, bypass: true }
    }
}

/// What a hook decides. Whoever gives the packet back keeps nothing of it.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// It is dropped (`NF_DROP`).
    Drop(Skb),
    /// It goes on (`NF_ACCEPT`).
    Accept(Skb),
    /// The hook keeps it ([`HookState::steal`]), or has ended it (`NF_STOLEN`).
    Stolen,
    /// It is for a queue to a decider outside (`NF_QUEUE`).
    Queue(Skb, ToQueue),
    /// This hook wants to see it again (`NF_REPEAT`).
    Repeat(Skb),
}

impl Verdict {
    /// The kernel's number, which the events of lives carry.
    fn number(&self) -> u32 {
        match self {
            Verdict::Drop(_) => 0,
            Verdict::Accept(_) => 1,
            Verdict::Stolen => 2,
            // The upper half is the queue's number, as in the kernel's verdicts.
            Verdict::Queue(_, to) => 3 | u32::from(to.number) << 16,
            Verdict::Repeat(_) => 4,
        }
    }
}

/// Something that decides over packets. Called on every Cpu, by several at a time.
pub trait Hook: Send + Sync {
    /// A name for listings.
    fn name(&self) -> &str;

    /// Decides over a packet that has come to `at`. Inbound, its data starts at the IP header; so it does outbound.
    fn decide(&self, cx: &mut Cx, at: &HookState, skb: Skb) -> Verdict;
}

/// What a [`Rule`] says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
    /// It is for a queue to a decider outside.
    Queue(ToQueue),
}

/// A hook that is a closure over the bytes of the packet, from its IP header on, as far as they lie in one piece: the
/// headers always do. What is to keep packets or to change them implements [`Hook`].
///
/// ```
/// use std::sync::Arc;
/// use rxpath_core::netfilter::{Decision, HookPoint, Hooks, Priority, Rule};
///
/// let telnet = Rule::new("no telnet", |_, packet| {
///     let to_port = packet.get(22..24).filter(|_| packet[0] == 0x45 && packet[9] == 6);
///     if to_port == Some(&23u16.to_be_bytes()[..]) { Decision::Drop } else { Decision::Accept }
/// });
/// let mut hooks = Hooks::new();
/// hooks.register(HookPoint::LocalIn, Priority::FILTER, Arc::new(telnet));
/// assert!(hooks.any_at(HookPoint::LocalIn));
/// ```
pub struct Rule<F> {
    name: String,
    decide: F,
}

impl<F: Fn(HookPoint, &[u8]) -> Decision + Send + Sync> Rule<F> {
    /// A rule of this name, for listings.
    pub fn new(name: &str, decide: F) -> Rule<F> {
        Rule { name: name.to_owned(), decide }
    }
}

impl<F: Fn(HookPoint, &[u8]) -> Decision + Send + Sync> Hook for Rule<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn decide(&self, _: &mut Cx, at: &HookState, skb: Skb) -> Verdict {
        match (self.decide)(at.point(), skb.data()) {
            Decision::Accept => Verdict::Accept(skb),
            Decision::Drop => Verdict::Drop(skb),
            Decision::Queue(to) => Verdict::Queue(skb, to),
        }
    }
}

/// How often one hook may ask to see the same packet again; after that the packet is dropped. (The kernel sets no limit
/// and loops.)
const MAX_REPEATS: u32 = 16;

type List = Arc<[(Priority, Arc<dyn Hook>)]>;

/// The hooks of all points.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Bit `n`: point `n` has a hook.
    active: u8,
    lists: [Option<List>; HookPoint::ALL.len()],
    /// Queues that somebody listens to, by number.
    queues: Vec<Arc<PacketQueue>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for point in HookPoint::ALL {
            let names: Vec<_> = self.at(point).iter().map(|(priority, hook)| (priority.0, hook.name())).collect();
            map.entry(&point.name(), &names);
        }
        map.finish()
    }
}

impl Hooks {
    /// No hooks.
    pub fn new() -> Hooks {
        Hooks::default()
    }

    /// Whether the point has a hook.
    #[inline(always)]
    pub fn any_at(&self, point: HookPoint) -> bool {
        self.active & 1 << point as u8 != 0
    }

    /// The hooks of a point, in the order in which they are asked.
    pub fn at(&self, point: HookPoint) -> &[(Priority, Arc<dyn Hook>)] {
        self.lists[point as usize].as_deref().unwrap_or_default()
    }

    /// Adds a hook (`nf_register_net_hook`): behind those of the same point with the same or a lower priority.
    pub fn register(&mut self, point: HookPoint, priority: Priority, hook: Arc<dyn Hook>) {
        let mut list = self.at(point).to_vec();
        let place = list.partition_point(|(other, _)| *other <= priority);
        list.insert(place, (priority, hook));
        self.lists[point as usize] = Some(list.into());
        self.active |= 1 << point as u8;
    }

    /// Removes a hook from a point. False if it was not there.
    pub fn unregister(&mut self, point: HookPoint, hook: &Arc<dyn Hook>) -> bool {
        let kept: Vec<_> = self.at(point).iter().filter(|(_, other)| !Arc::ptr_eq(other, hook)).cloned().collect();
        if kept.len() == self.at(point).len() {
            return false;
        }
        if kept.is_empty() {
            self.lists[point as usize] = None;
            self.active &= !(1 << point as u8);
        } else {
            self.lists[point as usize] = Some(kept.into());
        }
        true
    }

    /// The queue of this number, if somebody listens to it.
    pub fn queue(&self, number: u16) -> Option<&Arc<PacketQueue>> {
        let place = self.queues.binary_search_by_key(&number, |queue| queue.number()).ok()?;
        self.queues.get(place)
    }

    /// All queues that somebody listens to, by number.
    pub fn queues(&self) -> &[Arc<PacketQueue>] {
        &self.queues
    }

    /// Somebody listens to a queue. False if somebody else does already.
    pub(crate) fn bind(&mut self, queue: &Arc<PacketQueue>) -> bool {
        match self.queues.binary_search_by_key(&queue.number(), |queue| queue.number()) {
            Ok(_) => false,
            Err(place) => {
                self.queues.insert(place, Arc::clone(queue));
                true
            }
        }
    }

    /// Nobody listens to it any more.
    pub(crate) fn unbind(&mut self, queue: &Arc<PacketQueue>) {
        self.queues.retain(|other| !Arc::ptr_eq(other, queue));
    }
}

/// `nf_hook`: asks the hooks of a point; `onward` says how a packet goes on that one of them keeps for a while.
#[inline(always)]
pub(crate) fn hook(cx: &mut Cx, point: HookPoint, skb: Skb, onward: impl FnOnce() -> Onward) -> Fate<Skb> {
    if cx.net.hooks.any_at(point) { hook_slow(cx, point, skb, onward()) } else { Fate::Pass(skb) }
}

/// `nf_hook_slow`: the hooks one after the other, until one does not accept.
#[cold]
fn hook_slow(cx: &mut Cx, point: HookPoint, skb: Skb, onward: Onward) -> Fate<Skb> {
    let Some(list) = cx.net.hooks.lists[point as usize].clone() else { return Fate::Pass(skb) };
    let mut state = HookState::new(point, onward, list);
    iterate(cx, &mut state, 0, skb)
}

/// `nf_iterate`: asks the hooks of a point from the one at `from` on.
fn iterate(cx: &mut Cx, state: &mut HookState, from: usize, mut skb: Skb) -> Fate<Skb> {
    let list = Arc::clone(&state.list);
    for (index, (_, hook)) in list.iter().enumerate().skip(from) {
        state.index = index;
        let life = skb.traced().then_some(skb.id);
        let verdict = ask(cx, state, hook.as_ref(), skb);
        let number = verdict.number();
        let fate = match verdict {
            Verdict::Accept(accepted) => {
                skb = accepted;
                continue;
            }
            Verdict::Queue(queued, to) => nf_queue(cx, state, queued, to),
            Verdict::Stolen => Fate::Held,
            Verdict::Drop(skb) | Verdict::Repeat(skb) => Fate::Drop(skb, DropReason::NetfilterDrop),
        };
        if let Some(id) = life {
            cx.record(id, EventKind::Hook, state.point as u32, number, PacketId::NONE);
        }
        match fate {
            Fate::Pass(passed) => skb = passed,
            ended => return ended,
        }
    }
    cx.event(&skb, EventKind::Hook, state.point as u32, 1);
    Fate::Pass(skb)
}

/// `nf_queue`: the packet goes to whoever listens to the queue. Where nobody does, it goes on or is dropped, as the verdict
/// has it; where there is no room, as the queue has it.
fn nf_queue(cx: &mut Cx, state: &HookState, skb: Skb, to: ToQueue) -> Fate<Skb> {
    match cx.net.hooks.queue(to.number).cloned() {
        Some(queue) => queue.enqueue(cx, state, skb, to.bypass),
        None if to.bypass => Fate::Pass(skb),
        None => Fate::Drop(skb, DropReason::NetfilterDrop),
    }
}

/// Asks one hook, as often as it wants within the limit.
fn ask(cx: &mut Cx, state: &HookState, hook: &dyn Hook, mut skb: Skb) -> Verdict {
    for _ in 0..MAX_REPEATS {
        match hook.decide(cx, state, skb) {
            Verdict::Repeat(again) => skb = again,
            decided => return decided,
        }
    }
    Verdict::Repeat(skb)
}
