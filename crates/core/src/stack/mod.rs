//! The network namespace: configuration in, the rooms tied together.
//!
//! A [`Stack`] has Cpus; each Cpu is a softirq context behind a token. Whoever holds the token runs [`Stack::softirq`]:
//! a softirq thread, a thread that polls ([`Stack::poll`]), a simulator. Application calls ([`calls`]) touch a socket
//! under its lock and post what remains to the owner's mailbox; if the token is free they run the mailbox at once.
//!
//! Lock order: token, socket, leaf locks (mailbox, backlog, accept queue, neighbours, fragments). Nobody waits for a
//! token while owning a socket.

mod binding;
mod build;
mod busy;
pub mod calls;
pub mod datagrams;
mod nfqueue;
mod packet;
pub mod raw;
mod reads;
pub mod views;
mod vlan;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use rxpath_mem::RingStats;
use rxpath_trace::{Counter, Counters, Event, Holder, Ledger, LedgerSnapshot, LifeReader, LifeShard, Snapshot, Time};

pub use binding::{BindOptions, ListenError};
pub use build::{BuildError, InterfaceConfig, StackConfig, SteeringChoice, VlanConfig};
pub use busy::BusyQueue;
pub use calls::{ConnectError, RecvError};
pub use datagrams::{GroupError, Received, SendError};
pub use nfqueue::QueueError;
pub use packet::{Outgoing, PacketError};
pub use views::{DatagramView, InterfaceView, ListenerView, MemView, PoolView, RingView, SocketView};

use self::reads::Reads;
use crate::cx::Cx;
use crate::demux::stats::DevShard;
use crate::ip::{self, FragTable};
use crate::napi::{Inbox, Ran, Softirq};
use crate::neigh::{self, NeighTable};
use crate::netfilter::Stolen;
use crate::netns::{Interface, NetConfig};
use crate::nic::{IrqLine, Readiness};
use crate::path;
use crate::route::Fib;
use crate::socket::{BindTable, FlowId, FlowTable, Listeners, Sock, WaitQueue};
use crate::sysctl::Sysctls;
use crate::tcp::TcpMemory;
use crate::udp::{UdpSock, UdpTable};
use crate::{icmp, tcp, tx, udp};

/// Requests that may wait in a mailbox before whoever posts carries them out himself.
const MAILBOX_LIMIT: usize = 4_096;

/// How often a stack that is shut down asks again for sockets that application threads own.
const SHUTDOWN_PATIENCE: usize = 10_000;

/// A TCP/IP stack. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Stack(Arc<Shared>);

/// What all Cpus and all application threads share.
struct Shared {
    cpus: Vec<CpuCell>,
    net: RwLock<Arc<NetConfig>>,
    listeners: Arc<Listeners>,
    /// Grows when the configuration changes: tells a Cpu to load it again.
    generation: AtomicU64,
    binds: Arc<BindTable>,
    tcp_memory: Arc<TcpMemory>,
    udp: Arc<UdpTable>,
    /// Datagram sockets that were ever made.
    sockets: AtomicU64,
    neigh: Arc<NeighTable>,
    frags: Arc<FragTable>,
    /// Packet sockets.
    taps: Mutex<packet::Taps>,
    /// One for each Cpu.
    inboxes: Arc<[Inbox]>,
    user_life: Mutex<LifeShard>,
    /// Packets that readers dropped: several writers.
    user_ledger: Ledger,
    lives: Mutex<LifeReader>,
    rings: Vec<(u16, u16, Arc<RingStats>, IrqLine)>,
    down: AtomicBool,
    /// Timers that are due wait ([`Stack::hold_timers`]).
    timers_held: AtomicBool,
    /// Those who wait for the stack to go down.
    down_wait: WaitQueue,
    seed: u64,
    /// Interfaces that statistics have room for.
    rows: usize,
    /// An eighth of a Cpu's pool: no receive buffer tunes itself beyond it, so that eight idle readers do not take all.
    pool_share: u32,
    /// Largest receive buffer that auto-tuning may reach, by the pool and by `tcp_rmem`: all that readers need to know of
    /// the configuration.
    rcvbuf_max: AtomicU32,
}

/// What waits for the holder of a Cpu's token.
enum Mail {
    /// A socket with requests.
    Tcp(Arc<Sock>),
    /// A socket with requests.
    Udp(Arc<UdpSock>),
    /// A packet that a netfilter hook kept, given back.
    Packet(Box<nfqueue::GivenBack>),
    /// One that was kept for a decider who is gone.
    Purged(Box<Stolen>),
}

/// A Cpu and what others may do with it, on lines that the next one does not write.
#[repr(align(128))]
struct CpuCell {
    token: Mutex<Cpu>,
    mailbox: Mutex<VecDeque<Mail>>,
    mail: AtomicBool,
    /// Until when its softirq thread sleeps, unless it is rung: `u64::MAX` for who made no promise.
    asleep_until: AtomicU64,
    mib: Arc<Counters>,
    ledger: Arc<Ledger>,
    /// What readers took off receive queues of this Cpu's sockets.
    reads: Reads,
    /// What application threads count of this Cpu's sockets: several writers.
    user_mib: Counters,
    dev: Arc<DevShard>,
}

/// A softirq context: everything that belongs to the holder of its token.
struct Cpu {
    cx: Cx,
    flows: FlowTable,
    softirq: Softirq,
    generation: u64,
    due: Vec<u64>,
}

/// What [`Stack::poll`] did and when it wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// Packets taken from rings and backlogs.
    pub work: usize,
    /// When the next timer is due; now if something is left to do; None if only a packet or a call can change anything.
    pub next: Option<Time>,
}

impl Mail {
    /// The packet that waits in it.
    fn packet(self) -> Option<Stolen> {
        match self {
            Mail::Tcp(_) | Mail::Udp(_) => None,
            Mail::Packet(back) => Some(back.held),
            Mail::Purged(held) => Some(*held),
        }
    }
}

/// How far receive buffers tune themselves: not at all where that is off.
fn rcvbuf_max(sysctl: &Sysctls, pool_share: u32) -> u32 {
    if sysctl.tcp_moderate_rcvbuf { sysctl.tcp_rmem.max.min(pool_share) } else { 0 }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stack {
    /// Number of Cpus.
    pub fn cpus(&self) -> u16 {
        self.0.cpus.len() as u16
    }

    /// The current configuration.
    pub fn config(&self) -> Arc<NetConfig> {
        Arc::clone(&self.0.net.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the configuration by what `change` makes of it; every Cpu sees it with its next softirq run.
    pub fn reconfigure(&self, change: impl FnOnce(&NetConfig) -> NetConfig) {
        let mut net = self.0.net.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = change(&net);
        changed.generation = net.generation + 1;
        changed.apply_sysctls();
        let rcvbuf_max = rcvbuf_max(&changed.sysctl, self.0.pool_share);
        self.0.rcvbuf_max.store(rcvbuf_max, Ordering::Relaxed);
        self.0.tcp_memory.configure(&changed.sysctl);
        *net = Arc::new(changed);
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// One more, or with false one less, wants all frames of an interface (`ip link set promisc on`): a card with a filter
    /// lets everything in meanwhile. False if there is no such interface.
    pub fn set_promiscuity(&self, ifindex: u16, more: bool) -> bool {
        let mut done = false;
        self.reconfigure(|net| {
            let mut changed = net.clone();
            done = changed.change_promiscuity(ifindex, more);
            changed
        });
        done
    }

    /// Changes the routes in place, one or a million at a go; those who keep one look it up anew then. Readers are not held
    /// up meanwhile, and see each change of a route as a whole.
    pub fn change_routes<T>(&self, change: impl FnOnce(&mut Fib, &[Interface]) -> T) -> T {
        let mut net = self.0.net.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = NetConfig::clone(&net);
        let done = change(&mut changed.fib, &changed.interfaces);
        changed.generation = net.generation + 1;
        *net = Arc::new(changed);
        self.0.generation.fetch_add(1, Ordering::Release);
        done
    }

    /// One softirq run of a Cpu: mailbox, timers, NAPI polls, transmission. `clock` gives the time, at the start and
    /// once per poll. None if somebody else holds the token.
    pub fn softirq(&self, cpu: u16, clock: &mut dyn FnMut() -> Time) -> Option<Ran> {
        let cell = self.0.cpus.get(usize::from(cpu))?;
        let mut guard = match cell.token.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        cell.asleep_until.store(u64::MAX, Ordering::Relaxed);
        let mut ran = self.run(cell, &mut guard, clock);
        let wakeups = (!guard.cx.wakeups.is_empty()).then(|| std::mem::take(&mut guard.cx.wakeups));
        drop(guard);
        if let Some(mut wakeups) = wakeups {
            wakeups.deliver();
        }
        // Who posted meanwhile and could not have the token has rung: if this look comes too early, another run follows.
        ran.again |= cell.mail.load(Ordering::Acquire);
        Some(ran)
    }

    /// Wakes whoever runs a Cpu's softirq.
    fn ring(&self, cpu: u16) {
        self.0.inboxes[usize::from(cpu)].bell.ring();
    }

    fn run(&self, cell: &CpuCell, cpu: &mut Cpu, clock: &mut dyn FnMut() -> Time) -> Ran {
        self.begin(cell, cpu, clock());
        let ran = cpu.softirq.net_rx_action(&mut cpu.cx, &mut cpu.flows, clock);
        self.end(cell, cpu);
        ran
    }

    /// What comes before packets: fresh configuration, requests, timers.
    fn begin(&self, cell: &CpuCell, cpu: &mut Cpu, now: Time) {
        let cx = &mut cpu.cx;
        cx.now = cx.now.max(now);
        let generation = self.0.generation.load(Ordering::Acquire);
        if generation != cpu.generation {
            cpu.generation = generation;
            cx.net = self.config();
            for napi in &mut cpu.softirq.napis {
                napi.queue.set_rx_mode(&cx.net.rx_mode(napi.ifindex));
            }
        }
        if cell.mail.load(Ordering::Acquire) {
            drain_mailbox(cell, cpu);
        }
        if !self.0.timers_held.load(Ordering::Relaxed) && run_timers(cpu) {
            // Connections keep their way until the configuration moves.
            self.reconfigure(NetConfig::clone);
        }
    }

    /// What comes after packets: frames leave, orphans are reset, the books are checked.
    fn end(&self, _cell: &CpuCell, cpu: &mut Cpu) {
        while let Some(sock) = cpu.cx.orphans.pop() {
            reset_orphan(&sock);
            tcp::serve(&mut cpu.cx, &mut cpu.flows, sock);
        }
        if !cpu.cx.looped.is_empty() {
            path::looped(&mut cpu.cx, &mut cpu.flows);
        }
        cpu.softirq.transmit(&mut cpu.cx);
        debug_assert!(
            cpu.cx.ledger.snapshot().out_by() == 0,
            "Cpu {} at the end of a softirq run: {}",
            cpu.cx.cpu,
            cpu.cx.ledger.snapshot().details()
        );
    }

    /// Drives every Cpu once at the time `now`, for those who bring their own loop. Devices whose interrupt is the
    /// readiness of a file descriptor are looked at whether it is ready or not.
    pub fn poll(&self, now: Time) -> Polled {
        let mut work = 0;
        let mut again = false;
        for (_, _, _, irq) in self.0.rings.iter() {
            irq.tick(now);
        }
        for cpu in 0..self.cpus() {
            self.fire_pollable(cpu);
            if let Some(ran) = self.softirq(cpu, &mut || now) {
                work += ran.work;
                again |= ran.again;
            }
        }
        let pending = again || self.0.cpus.iter().any(|cell| cell.mail.load(Ordering::Acquire));
        let waiting = self.0.inboxes.iter().any(|inbox| !inbox.is_empty());
        let next = if pending || waiting { Some(now) } else { self.next_deadline() };
        Polled { work, next }
    }

    /// Interrupts of queues that cannot raise them on their own are assumed to be due.
    fn fire_pollable(&self, cpu: u16) {
        let Some(cell) = self.0.cpus.get(usize::from(cpu)) else { return };
        let Ok(guard) = cell.token.try_lock() else { return };
        for napi in &guard.softirq.napis {
            if napi.queue.readiness().is_some() && !napi.irq.napi().is_scheduled() {
                napi.irq.fire();
            }
        }
    }

    /// When the next timer of any Cpu is due. Cpus whose token is taken are left out: their holder sees to them.
    pub fn next_deadline(&self) -> Option<Time> {
        (0..self.cpus()).filter_map(|cpu| self.next_deadline_of(cpu)).min()
    }

    /// When the next timer of one Cpu is due.
    pub fn next_deadline_of(&self, cpu: u16) -> Option<Time> {
        let guard = self.0.cpus.get(usize::from(cpu))?.token.try_lock().ok()?;
        self.deadline(&guard)
    }

    fn deadline(&self, cpu: &Cpu) -> Option<Time> {
        if self.0.timers_held.load(Ordering::Relaxed) {
            return cpu.softirq.next_event();
        }
        let (neigh, frags) = (self.0.neigh.next_deadline(), self.0.frags.next_deadline());
        let told = cpu.cx.net.exceptions.next_deadline();
        let timers = [cpu.flows.wheel.next_deadline(), neigh, frags, told, cpu.softirq.next_event()];
        timers.into_iter().flatten().min()
    }

    /// Has a write that is offered to the network in parts take so many nanoseconds for each, and each packet that is sent again:
    /// so a simulation can find out whether what the machine that it follows did hangs on it.
    pub fn set_write_time(&self, nanoseconds: u64) {
        for cell in &self.0.cpus {
            lock(&cell.token).cx.takes = nanoseconds;
        }
    }

    /// Keeps timers from firing, however long they have been due, or lets them: then they do at the next softirq run, at its
    /// time. So a simulation has them as late as those of the machine that it follows.
    pub fn hold_timers(&self, held: bool) {
        self.0.timers_held.store(held, Ordering::Relaxed);
    }

    /// Until when whoever runs this Cpu's softirq may sleep, [`Time::MAX`] for good: its doorbell rings if that becomes
    /// earlier. None if somebody else holds the token: there is no sleeping then.
    pub fn sleep_until(&self, cpu: u16) -> Option<Time> {
        let cell = self.0.cpus.get(usize::from(cpu))?;
        let guard = cell.token.try_lock().ok()?;
        let until = self.deadline(&guard).unwrap_or(Time::MAX);
        cell.asleep_until.store(until.0, Ordering::Relaxed);
        Some(until)
    }

    /// What is to be waited on for interrupts of this Cpu, with the line to fire.
    pub fn interrupts(&self, cpu: u16) -> Vec<(Readiness, IrqLine)> {
        let Some(cell) = self.0.cpus.get(usize::from(cpu)) else { return Vec::new() };
        let guard = lock(&cell.token);
        let lines = guard.softirq.napis.iter().filter_map(|napi| Some((napi.queue.readiness()?, napi.irq.clone())));
        lines.collect()
    }

    /// Counters of all Cpus and of the applications' threads, summed.
    pub fn snapshot(&self) -> Snapshot {
        self.0.cpus.iter().fold(self.0.tcp_memory.counters().snapshot(), |sum, cell| {
            let copied = Snapshot::of(&[(Counter::CopiedRecv, cell.reads.sums().1)]);
            sum + cell.user_mib.snapshot() + copied + cell.mib.snapshot()
        })
    }

    /// Counters of one Cpu.
    pub fn snapshot_of(&self, cpu: u16) -> Snapshot {
        self.0.cpus.get(usize::from(cpu)).map_or_else(Snapshot::default, |cell| cell.mib.snapshot())
    }

    /// The ledger of the whole stack. It balances whenever all Cpus and readers are quiet.
    pub fn ledger(&self) -> LedgerSnapshot {
        let mut sum = LedgerSnapshot::default();
        let waiting = Ledger::new();
        sum = sum + self.0.user_ledger.snapshot();
        for cell in &self.0.cpus {
            sum = sum + cell.ledger.snapshot();
            let (read, _) = cell.reads.sums();
            waiting.held_out(Holder::ReceiveQueue, read);
            waiting.delivered(read);
        }
        for (_, _, ring, _) in &self.0.rings {
            waiting.offered(ring.held());
            waiting.held_in(Holder::RxRing, ring.held());
        }
        sum + waiting.snapshot() + self.tap_ledger()
    }

    /// Life records written since the last call, in no particular order among Cpus; none twice.
    pub fn take_events(&self) -> Vec<Event> {
        lock(&self.0.lives).collect()
    }

    /// Life records that were lost because a ring was full.
    pub fn lost_events(&self) -> u64 {
        lock(&self.0.lives).lost()
    }

    /// Chooses anew which lives are recorded.
    pub fn select_lives(&self, selector: &rxpath_trace::Selector) {
        for cell in &self.0.cpus {
            lock(&cell.token).cx.life.set_selector(selector.clone());
        }
        lock(&self.0.user_life).set_selector(selector.clone());
    }

    /// True once [`Stack::shutdown`] was called.
    pub fn is_down(&self) -> bool {
        self.0.down.load(Ordering::Acquire)
    }

    /// Shuts the stack down: every blocked call ends with an error, every packet that is held ends as `QUEUE_PURGE`.
    pub fn shutdown(&self) {
        if self.0.down.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut unaccepted = Vec::new();
        for listener in self.0.listeners.map().iter() {
            unaccepted.extend(listener.close());
            listener.wait.wake_all();
        }
        self.close_queues(self.0.cpus.first().map_or(Time::ZERO, |cell| lock(&cell.token).cx.now));
        for cell in &self.0.cpus {
            let mut guard = lock(&cell.token);
            let cpu = &mut *guard;
            drain_mailbox(cell, cpu);
            for id in cpu.flows.ids() {
                calls::abort_flow(&mut cpu.cx, &mut cpu.flows, id);
            }
            // An application thread may own a socket at this moment; it does not for long, and does not need the token.
            for _ in 0..SHUTDOWN_PATIENCE {
                if cpu.flows.is_empty() {
                    break;
                }
                std::thread::yield_now();
                for id in cpu.flows.ids() {
                    calls::abort_flow(&mut cpu.cx, &mut cpu.flows, id);
                }
            }
            calls::purge_unaccepted(&mut cpu.cx, &unaccepted);
            close_datagram_sockets(&mut cpu.cx);
            cpu.softirq.purge(&mut cpu.cx);
            neigh::purge(&mut cpu.cx, rxpath_trace::DropReason::QueuePurge);
            ip::defrag::purge(&mut cpu.cx, rxpath_trace::DropReason::QueuePurge);
            tx::Outbox::purge(&mut cpu.cx, rxpath_trace::DropReason::QueuePurge);
            let mut wakeups = std::mem::take(&mut cpu.cx.wakeups);
            drop(guard);
            wakeups.deliver();
        }
        let now = self.0.cpus.iter().map(|cell| lock(&cell.token).cx.now).max().unwrap_or(Time::ZERO);
        self.close_taps(now);
        for inbox in self.0.inboxes.iter() {
            inbox.bell.ring();
        }
        self.0.down_wait.wake_all();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last handle is gone: what Cpus still hold must end, too.
        let net = self.net.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut kept: Vec<Stolen> = net.hooks.queues().iter().flat_map(|queue| queue.close()).collect();
        for cell in &mut self.cpus {
            let mailbox = cell.mailbox.get_mut().unwrap_or_else(PoisonError::into_inner);
            kept.extend(mailbox.drain(..).filter_map(Mail::packet));
        }
        for held in kept {
            if let Some(cell) = self.cpus.get_mut(usize::from(held.cpu)) {
                held.purge(&mut cell.token.get_mut().unwrap_or_else(PoisonError::into_inner).cx);
            }
        }
        let unaccepted: Vec<Arc<Sock>> = self.listeners.map().iter().flat_map(|listener| listener.close()).collect();
        for cell in &mut self.cpus {
            let cpu = cell.token.get_mut().unwrap_or_else(PoisonError::into_inner);
            for id in cpu.flows.ids() {
                calls::abort_flow(&mut cpu.cx, &mut cpu.flows, id);
            }
            calls::purge_unaccepted(&mut cpu.cx, &unaccepted);
            close_datagram_sockets(&mut cpu.cx);
            cpu.softirq.purge(&mut cpu.cx);
            neigh::purge(&mut cpu.cx, rxpath_trace::DropReason::QueuePurge);
            ip::defrag::purge(&mut cpu.cx, rxpath_trace::DropReason::QueuePurge);
            tx::Outbox::purge(&mut cpu.cx, rxpath_trace::DropReason::QueuePurge);
        }
    }
}

fn drain_mailbox(cell: &CpuCell, cpu: &mut Cpu) {
    loop {
        let next = {
            let mut mailbox = lock(&cell.mailbox);
            let next = mailbox.pop_front();
            if next.is_none() {
                cell.mail.store(false, Ordering::Release);
            }
            next
        };
        match next {
            Some(Mail::Tcp(sock)) => tcp::serve(&mut cpu.cx, &mut cpu.flows, sock),
            Some(Mail::Udp(sock)) => udp::serve(&mut cpu.cx, &sock),
            Some(Mail::Packet(back)) => {
                let nfqueue::GivenBack { held, answer, changed } = *back;
                path::nf_reinject(&mut cpu.cx, &mut cpu.flows, held, answer, changed.as_deref());
            }
            Some(Mail::Purged(held)) => held.purge(&mut cpu.cx),
            None => return,
        }
    }
}

/// Ends what the datagram sockets that this Cpu sends for hold: the stack goes.
fn close_datagram_sockets(cx: &mut Cx) {
    cx.udp_memo.forget();
    while let Some(skb) = cx.looped.pop_front() {
        cx.release(Holder::CpuBacklog);
        cx.drop_skb(skb, rxpath_trace::DropReason::QueuePurge);
    }
    let cpu = cx.cpu;
    let raw = cx.net.raw.clone();
    for sock in raw.all().iter().filter(|sock| sock.cpu == cpu) {
        raw::purge(cx, sock);
        cx.wakeups.queue(&sock.rx.wait);
    }
    for sock in cx.udp.all().into_iter().filter(|sock| sock.cpu == cpu) {
        udp::close(cx, &sock);
        cx.wakeups.queue(&sock.rx.wait);
        cx.wakeups.queue(&sock.send_wait);
    }
}

/// True if what was told of ways has expired.
fn run_timers(cpu: &mut Cpu) -> bool {
    cpu.flows.wheel.expire(cpu.cx.now, &mut cpu.due);
    for index in 0..cpu.due.len() {
        let id = FlowId::of_token(cpu.due[index]);
        tcp::timer_fired(&mut cpu.cx, &mut cpu.flows, id);
    }
    cpu.due.clear();
    if cpu.cx.neigh.next_deadline().is_some_and(|at| at <= cpu.cx.now) {
        neigh::tick(&mut cpu.cx, icmp::link_failure);
    }
    let told = &cpu.cx.net.exceptions;
    let expired = told.next_deadline().is_some_and(|at| at <= cpu.cx.now) && told.expire(cpu.cx.now);
    if cpu.cx.frags.next_deadline().is_some_and(|at| at <= cpu.cx.now) {
        ip::defrag::tick(&mut cpu.cx);
    }
    expired
}

/// Nobody will accept this connection: its close resets the peer.
fn reset_orphan(sock: &Arc<Sock>) {
    let mut sk = sock.lock.user();
    sk.user.linger_reset = true;
    drop(sk);
    sock.post(crate::socket::post::CLOSE);
}
