//! The NET_RX softirq of one Cpu: `net_rx_action`.

use std::sync::Arc;

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{Counter, DropReason, EventKind, Holder, Time};

use super::poll::Upper;
use super::poll_list::{Links, PollList, Polled};
use super::{Backlog, Napi, Steer};
use crate::cx::Cx;
use crate::netns::NetConfig;
use crate::nic::{DeviceQueue, Doorbell};
use crate::path;
use crate::socket::FlowTable;
use crate::tcp::{Known, Run, Source, Taken};
use crate::tx::{self, Devices};
use crate::xdp::Redirected;

/// Frames of one poll (`NAPI_POLL_WEIGHT`).
const WEIGHT: usize = 64;

/// What a softirq run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Packets taken from rings and backlog.
    pub work: usize,
    /// Something is left to do: run again soon.
    pub again: bool,
}

/// What the other Cpus leave for one, and how it hears of that.
pub struct Inbox {
    /// Packets that they received for it.
    pub backlog: Backlog,
    /// Frames that they made for its devices.
    pub outgoing: Backlog,
    /// Datagrams that they made whole out of fragments.
    pub reassembled: Backlog,
    /// Its doorbell.
    pub bell: Arc<dyn Doorbell>,
}

impl Inbox {
    /// An empty one.
    pub fn new(bell: Arc<dyn Doorbell>) -> Inbox {
        let (backlog, outgoing, reassembled) = Default::default();
        Inbox { backlog, outgoing, reassembled, bell }
    }

    /// True if nothing waits at all.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        !self.has_packets() && self.outgoing.is_empty()
    }

    /// Whether packets wait to be received.
    #[inline(always)]
    fn has_packets(&self) -> bool {
        !self.backlog.is_empty() || !self.reassembled.is_empty()
    }
}

/// The softirq context of a Cpu.
pub struct Softirq {
    /// The Cpu's queues.
    pub napis: Vec<Napi>,
    poll_list: PollList,
    /// What follows the backlog on the list that it stands on.
    after_backlog: Option<Polled>,
    backlog_scheduled: bool,
    steer: Steer,
    known: Option<Known>,
    inboxes: Arc<[Inbox]>,
    cpu: u16,
}

/// What may stand on a Cpu's poll list.
struct Standing<'a> {
    napis: &'a mut [Napi],
    after_backlog: &'a mut Option<Polled>,
}

impl Links for Standing<'_> {
    #[inline(always)]
    fn after(&mut self, polled: Polled) -> Option<&mut Option<Polled>> {
        match polled {
            Polled::Queue(index) => self.napis.get_mut(index).map(|napi| &mut napi.after),
            Polled::Backlog => Some(self.after_backlog),
        }
    }
}

/// The devices of a Cpu, and the way to those of the others.
struct Ways<'a> {
    napis: &'a mut [Napi],
    inboxes: &'a [Inbox],
    cpu: u16,
}

impl Devices for Ways<'_> {
    fn device(&mut self, ifindex: u16) -> Option<&mut dyn DeviceQueue> {
        let napi = self.napis.iter_mut().find(|napi| napi.ifindex == ifindex)?;
        Some(&mut *napi.queue)
    }

    fn forward(&mut self, net: &NetConfig, ifindex: u16, skb: Skb) -> Result<(), (Skb, DropReason)> {
        let Some(interface) = net.interface(ifindex) else { return Err((skb, DropReason::DevReady)) };
        let owner = usize::from(self.cpu % interface.queues);
        let Some(inbox) = self.inboxes.get(owner).filter(|_| owner != usize::from(self.cpu)) else {
            return Err((skb, DropReason::DevReady));
        };
        match inbox.outgoing.push(skb, tx::TX_QUEUE_LEN) {
            Ok(1) => inbox.bell.ring(),
            Ok(_) => {}
            Err(skb) => return Err((skb, DropReason::TxRingFull)),
        }
        Ok(())
    }
}

impl Softirq {
    /// The context of Cpu `cpu`, without queues. There is an inbox for each Cpu.
    pub fn new(cpu: u16, inboxes: Arc<[Inbox]>) -> Softirq {
        Softirq {
            napis: Vec::new(),
            poll_list: PollList::default(),
            after_backlog: None,
            backlog_scheduled: false,
            steer: Steer::default(),
            known: None,
            inboxes,
            cpu,
        }
    }

    #[inline(always)]
    fn inbox(&self) -> &Inbox {
        &self.inboxes[usize::from(self.cpu)]
    }

    /// Lets the interrupts fire for which the time has come: moderated ones, and those of devices with events of their own.
    fn fire_due(&self, cx: &Cx) {
        for napi in &self.napis {
            napi.irq.tick(cx.now);
            if napi.queue.next_event().is_some_and(|at| at <= cx.now) && !napi.irq.napi().is_scheduled() {
                napi.irq.fire();
            }
        }
    }

    /// Puts on the poll list whatever interrupted, and the backlog if it holds packets.
    #[inline(always)]
    fn schedule(&mut self) {
        for index in 0..self.napis.len() {
            if self.napis[index].irq.take_pending() {
                self.put_on_poll_list(Polled::Queue(index));
            }
        }
        if !self.backlog_scheduled && self.inbox().has_packets() {
            self.backlog_scheduled = true;
            self.put_on_poll_list(Polled::Backlog);
        }
    }

    /// `net_rx_action`: polls round-robin until nothing is left, or until 300 packets or the time limit are used up,
    /// which counts as a squeeze. `clock` gives the time, once per poll.
    pub fn net_rx_action(&mut self, cx: &mut Cx, flows: &mut FlowTable, clock: &mut dyn FnMut() -> Time) -> Ran {
        let mut budget = i64::from(cx.net.sysctl.netdev_budget);
        let deadline = cx.now + u64::from(cx.net.sysctl.netdev_budget_usecs) * 1_000;
        let mut repoll = PollList::default();
        let mut ran = Ran::default();
        self.fire_due(cx);
        self.schedule();
        while let Some(polled) = self.take_from_poll_list() {
            let (work, again) = self.napi_poll(cx, flows, polled);
            ran.work += work;
            budget -= work as i64;
            self.transmit(cx);
            if again {
                repoll.push_back(&mut self.poll_list().1, polled);
            }
            cx.now = clock();
            if budget <= 0 || cx.now >= deadline {
                cx.count(Counter::SoftnetTimeSqueeze);
                break;
            }
            if self.poll_list.is_empty() {
                self.schedule();
            }
        }
        let (poll_list, mut standing) = self.poll_list();
        poll_list.append(&mut standing, repoll);
        ran.again = !self.poll_list.is_empty();
        ran
    }

    /// Hands what waits to the devices: this Cpu's frames, and those that others forwarded.
    #[inline(always)]
    pub fn transmit(&mut self, cx: &mut Cx) {
        if !self.inbox().outgoing.is_empty() {
            self.take_over(cx);
        }
        if !cx.outbox.is_empty() {
            let mut ways = Ways { napis: &mut self.napis, inboxes: &self.inboxes, cpu: self.cpu };
            tx::flush(cx, &mut ways);
        }
    }

    /// Frames that others forwarded wait with this Cpu's.
    #[cold]
    fn take_over(&self, cx: &mut Cx) {
        let mut frames = self.inbox().outgoing.take(tx::TX_QUEUE_LEN);
        while let Some(skb) = frames.pop_front() {
            cx.outbox.take_over(skb);
        }
    }

    /// One poll; false in the second place if it is complete and its interrupt unmasked.
    fn napi_poll(&mut self, cx: &mut Cx, flows: &mut FlowTable, polled: Polled) -> (usize, bool) {
        let index = match polled {
            Polled::Queue(index) => index,
            Polled::Backlog => return self.process_backlog(cx, flows),
        };
        let work = self.poll_queue(cx, flows, index, WEIGHT);
        let Some(napi) = self.napis.get_mut(index) else { return (0, false) };
        (work, work == WEIGHT || !napi.complete())
    }

    #[inline(always)]
    fn poll_list(&mut self) -> (&mut PollList, Standing<'_>) {
        (&mut self.poll_list, Standing { napis: &mut self.napis, after_backlog: &mut self.after_backlog })
    }

    /// Puts what is to be polled on the poll list, on which it does not stand: the backlog, or a queue whose line is masked.
    #[inline(always)]
    pub(super) fn put_on_poll_list(&mut self, polled: Polled) {
        let (poll_list, mut standing) = self.poll_list();
        poll_list.push_back(&mut standing, polled);
    }

    #[inline(always)]
    fn take_from_poll_list(&mut self) -> Option<Polled> {
        let (poll_list, mut standing) = self.poll_list();
        poll_list.pop_front(&mut standing)
    }

    /// Polls a queue for at most `weight` packets, and hands up what GRO holds.
    #[inline(always)]
    pub(super) fn poll_queue(&mut self, cx: &mut Cx, flows: &mut FlowTable, index: usize, weight: usize) -> usize {
        let Softirq { napis, steer, known, inboxes, .. } = self;
        let Some(napi) = napis.get_mut(index) else { return 0 };
        let mut up = Up { flows, run: Run::none(), steer, known, inboxes };
        let work = napi.poll(cx, weight, &mut up);
        // At full weight the poll is not over, but nothing may wait in GRO for it: jiffies are too long (HZ < 1000).
        napi.gro_flush(cx, &mut up);
        up.run.finish(cx, up.flows);
        if !cx.redirected.is_empty() {
            redirect(cx, steer, inboxes);
        }
        if !cx.reassembled.is_empty() {
            hand_over_reassembled(cx, inboxes);
        }
        work
    }

    /// `process_backlog`: packets that other Cpus received for us.
    fn process_backlog(&mut self, cx: &mut Cx, flows: &mut FlowTable) -> (usize, bool) {
        let backlog = &self.inboxes[usize::from(self.cpu)].backlog;
        let mut packets = backlog.take(cx.net.sysctl.dev_weight as usize);
        let work = packets.len();
        cx.ledger.held_out(Holder::CpuBacklog, work as u64);
        cx.count_n(Counter::SoftnetReceivedRps, work as u64);
        if cx.life.on() {
            let left = backlog.len() as u32;
            for skb in &packets {
                cx.event(skb, EventKind::CpuBacklogTaken, left, 0);
            }
        }
        // What a program sent here may have another owner.
        let Softirq { steer, known, inboxes, .. } = self;
        let mut up = Up { flows, run: Run::none(), steer, known, inboxes };
        up.receive(cx, &mut packets);
        up.run.finish(cx, up.flows);
        if !cx.redirected.is_empty() {
            redirect(cx, &self.steer, &self.inboxes);
        }
        let whole = self.process_reassembled(cx, flows);
        if !cx.reassembled.is_empty() {
            hand_over_reassembled(cx, &self.inboxes);
        }
        let more = self.inbox().has_packets();
        self.backlog_scheduled = more;
        (work + whole, more)
    }

    /// Datagrams that other Cpus made whole for us.
    fn process_reassembled(&self, cx: &mut Cx, flows: &mut FlowTable) -> usize {
        let waiting = &self.inbox().reassembled;
        if waiting.is_empty() {
            return 0;
        }
        let mut datagrams = waiting.take(cx.net.sysctl.dev_weight as usize);
        let work = datagrams.len();
        cx.ledger.held_out(Holder::CpuBacklog, work as u64);
        cx.count_n(Counter::SoftnetReceivedRps, work as u64);
        let left = waiting.len() as u32;
        for skb in &datagrams {
            cx.event(skb, EventKind::CpuBacklogTaken, left, 0);
        }
        path::reassembled(cx, flows, &mut datagrams);
        work
    }

    /// When this context must run although nobody rings: device events and moderated interrupts.
    pub fn next_event(&self) -> Option<Time> {
        let events = self.napis.iter().flat_map(|napi| [napi.queue.next_event(), napi.irq.deadline()]);
        events.flatten().min()
    }

    /// Ends everything that queues and backlog hold.
    pub fn purge(&mut self, cx: &mut Cx) {
        for napi in &mut self.napis {
            napi.purge(cx);
        }
        let mut packets = self.inbox().backlog.take(usize::MAX);
        packets.append(&mut self.inbox().reassembled.take(usize::MAX));
        while let Some(skb) = packets.pop_front() {
            cx.release(Holder::CpuBacklog);
            cx.drop_skb(skb, DropReason::QueuePurge);
        }
        let mut frames = self.inbox().outgoing.take(usize::MAX);
        while let Some(skb) = frames.pop_front() {
            cx.release(Holder::TxQueue);
            cx.drop_skb(skb, DropReason::QueuePurge);
        }
        self.poll_list = PollList::default();
    }
}

/// The way up from a poll. The run of the packet that went up last stays open until the poll is over.
struct Up<'a> {
    flows: &'a mut FlowTable,
    run: Run,
    steer: &'a mut Steer,
    /// The flow of the last run, if it was one of this Cpu.
    known: &'a mut Option<Known>,
    inboxes: &'a [Inbox],
}

impl Up<'_> {
    /// A list of one packet, which is of the flow of the last run. False, and nothing done, if it is none.
    #[inline(always)]
    fn receive_known(&mut self, cx: &mut Cx, ready: &mut SkbQueue) -> bool {
        let Some(known) = &*self.known else { return false };
        let Some(skb) = ready.pop_front() else { return false };
        match path::receive_known(cx, self.flows, &mut self.run, known, skb) {
            Ok(()) => true,
            Err(skb) => {
                ready.push_front(skb);
                false
            }
        }
    }
}

impl Upper for Up<'_> {
    /// `netif_receive_skb_list_internal`: packets that another Cpu owns go to its backlog, the others up the path.
    #[inline]
    fn receive(&mut self, cx: &mut Cx, ready: &mut SkbQueue) {
        if ready.len() == 1 && self.receive_known(cx, ready) {
            return;
        }
        if self.steer.hash_all(cx, ready) {
            send_away(cx, self.steer, self.inboxes, ready);
        }
        path::netif_receive_skb_list(cx, self.flows, &mut self.run, ready);
        *self.known = self.run.known(cx).or(*self.known);
    }

    #[inline]
    fn streak(&mut self, cx: &mut Cx, source: &mut Source<'_>, limit: usize) -> Option<Taken> {
        path::streak(cx, &mut self.run, source, limit)
    }
}

/// Packets that XDP programs sent to Cpus go to their backlogs (`cpu_map_enqueue`).
#[cold]
fn redirect(cx: &mut Cx, steer: &Steer, inboxes: &[Inbox]) {
    for Redirected { cpu, skb } in std::mem::take(&mut cx.redirected) {
        let to = &inboxes[usize::from(cpu)];
        if steer.hand_over(cx, &to.backlog, cpu, skb) {
            to.bell.ring();
        }
    }
}

/// Takes the packets that other Cpus own out of a list.
#[inline(never)]
fn send_away(cx: &mut Cx, steer: &Steer, inboxes: &[Inbox], ready: &mut SkbQueue) {
    let mut mine = SkbQueue::new();
    let mut woken = 0u64;
    while let Some(skb) = ready.pop_front() {
        let owner = steer.owner(cx, &skb);
        if owner == cx.cpu {
            mine.push_back(skb);
        } else if steer.hand_over(cx, &inboxes[usize::from(owner)].backlog, owner, skb) {
            woken |= 1 << (owner & 63);
        }
    }
    while woken != 0 {
        let owner = woken.trailing_zeros() as usize;
        woken &= woken - 1;
        inboxes[owner].bell.ring();
    }
    *ready = mine;
}

/// Datagrams that became whole on this Cpu go to the owners of their flows, as far as these have room for them. They are
/// held already.
#[cold]
fn hand_over_reassembled(cx: &mut Cx, inboxes: &[Inbox]) {
    let limit = cx.net.sysctl.netdev_max_backlog as usize;
    for (cpu, skb) in std::mem::take(&mut cx.reassembled) {
        let to = &inboxes[usize::from(cpu)];
        let waiting = to.reassembled.len() as u32 + 1;
        cx.event(&skb, EventKind::CpuBacklog, u32::from(cpu), waiting);
        match to.reassembled.push(skb, limit) {
            Ok(1) => to.bell.ring(),
            Ok(_) => {}
            Err(skb) => {
                cx.release(Holder::CpuBacklog);
                cx.count(Counter::SoftnetDropped);
                cx.drop_skb(skb, DropReason::CpuBacklog);
            }
        }
    }
}
