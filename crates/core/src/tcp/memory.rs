//! The memory of all TCP sockets of a stack, and each socket's account of its share (`sk_forward_alloc`,
//! `__sk_mem_raise_allocated`, `__sk_mem_reduce_allocated`, `tcp_enter_memory_pressure`).
//!
//! A socket has memory in whole pages: what its packets are charged comes out of them, and what is left of them is
//! [`Receiver::forward_alloc`]. The sum over all sockets is held against `tcp_mem`. Sockets tell of their pages when they
//! are let go, to the shard of their Cpu; only what a Cpu has gathered goes to the sum that all share, in steps of
//! `mem_pcpu_rsv` pages, so that this line of the cache is written rarely.
//!
//! What sockets are counted for is here, too: orphans (`tcp_max_orphans`) and mini-sockets (`tcp_max_tw_buckets`).

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use rxpath_trace::{Counter, Counters, Time};

use super::write_queue::PACKET_CHARGE;
use super::{MS, Receiver, TcpSock, expiry};
use crate::cx::Cx;
use crate::sysctl::{Sysctls, Triple};

/// Unit in which accounted memory is given to a socket.
pub(super) const PAGE: i32 = 4_096;

/// What all sockets have.
#[derive(Debug)]
pub struct TcpMemory {
    /// Pages of all sockets, but for what the shards have not told.
    allocated: AtomicI64,
    /// Since when memory has been under pressure, in nanoseconds plus one; 0 while it is not.
    pressure: AtomicU64,
    /// Sockets (`tcp_sockets_allocated`).
    sockets: AtomicI64,
    /// Connections whose application has let go.
    orphans: AtomicI64,
    /// Mini-sockets.
    time_waits: AtomicI64,
    /// By Cpu.
    shards: Box<[Shard]>,
    /// Pages that a shard keeps for itself (`mem_pcpu_rsv`).
    reserve: AtomicU32,
    /// `tcp_mem`, and what a socket may have to send whatever there is (`tcp_wmem`: the first number), for application
    /// threads, which have no configuration at hand.
    limits: [AtomicU32; 3],
    least_output: AtomicU32,
    /// What is counted here has several writers.
    mib: Box<Counters>,
}

/// Pages that the sockets of a Cpu got and gave back since it last told. Either part may be far from 0: packets come by
/// one and are read by the other.
#[derive(Debug, Default)]
struct Shard {
    /// By the holder of the Cpu's token, its single writer.
    softirq: Part,
    /// By application threads.
    threads: Part,
}

/// A part of a shard, on a line of its own (two, because of the adjacent-line prefetcher).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part(AtomicI64);

impl Shard {
    /// What the Cpu has not told.
    #[inline(always)]
    fn kept(&self) -> i64 {
        self.softirq.0.load(Ordering::Relaxed) + self.threads.0.load(Ordering::Relaxed)
    }
}

/// Who asks for memory.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Bytes that it has queued in the direction that it asks for.
    pub queued: u32,
    /// So much it may have under pressure (`tcp_rmem`, `tcp_wmem`: the first number).
    pub least: u32,
    /// Pages that it has already.
    pub pages: i32,
    /// Of those, pages that nobody was told of.
    pub untold: i32,
}

impl TcpMemory {
    /// Nothing is allocated.
    pub fn new(cpus: u16, sysctl: &Sysctls) -> TcpMemory {
        TcpMemory {
            allocated: AtomicI64::new(0),
            pressure: AtomicU64::new(0),
            sockets: AtomicI64::new(0),
            orphans: AtomicI64::new(0),
            time_waits: AtomicI64::new(0),
            shards: (0..cpus).map(|_| Shard::default()).collect(),
            reserve: AtomicU32::new(sysctl.mem_pcpu_rsv),
            limits: [sysctl.tcp_mem.min, sysctl.tcp_mem.default, sysctl.tcp_mem.max].map(AtomicU32::new),
            least_output: AtomicU32::new(sysctl.tcp_wmem.min),
            mib: Box::new(Counters::new()),
        }
    }

    /// The tunables have changed.
    pub fn configure(&self, sysctl: &Sysctls) {
        self.reserve.store(sysctl.mem_pcpu_rsv, Ordering::Relaxed);
        let Triple { min, default, max } = sysctl.tcp_mem;
        for (limit, value) in self.limits.iter().zip([min, default, max]) {
            limit.store(value, Ordering::Relaxed);
        }
        self.least_output.store(sysctl.tcp_wmem.min, Ordering::Relaxed);
    }

    /// Pages of all sockets, as decisions know them (`sk_memory_allocated`): what Cpus keep for themselves is missing.
    #[inline]
    pub fn allocated(&self) -> i64 {
        self.allocated.load(Ordering::Relaxed).max(0)
    }

    /// Pages of all sockets.
    pub fn pages(&self) -> u64 {
        let told = self.allocated.load(Ordering::Relaxed);
        let kept: i64 = self.shards.iter().map(Shard::kept).sum();
        u64::try_from(told + kept).unwrap_or(0)
    }

    /// A socket of this Cpu has so many pages more, or less, says a thread of the application.
    pub fn tell(&self, cpu: u16, pages: i32) {
        let Some(shard) = self.shards.get(usize::from(cpu)) else { return };
        shard.threads.0.fetch_add(i64::from(pages), Ordering::Relaxed);
        let kept = shard.kept();
        if self.is_to_be_told(kept) {
            shard.threads.0.fetch_sub(kept, Ordering::Relaxed);
            self.allocated.fetch_add(kept, Ordering::Relaxed);
        }
    }

    /// The same, says the holder of the Cpu's token: no other writes to its part.
    #[inline(always)]
    pub fn tell_by_softirq(&self, cpu: u16, pages: i32) {
        let Some(shard) = self.shards.get(usize::from(cpu)) else { return };
        let own = shard.softirq.0.load(Ordering::Relaxed) + i64::from(pages);
        shard.softirq.0.store(own, Ordering::Relaxed);
        let kept = own + shard.threads.0.load(Ordering::Relaxed);
        if self.is_to_be_told(kept) {
            shard.softirq.0.store(own - kept, Ordering::Relaxed);
            self.allocated.fetch_add(kept, Ordering::Relaxed);
        }
    }

    /// Whether a Cpu has gathered enough. If two of its writers find so at once, both tell, and the next makes it good: the
    /// sum over all is right at any time.
    #[inline(always)]
    fn is_to_be_told(&self, kept: i64) -> bool {
        kept.unsigned_abs() >= u64::from(self.reserve.load(Ordering::Relaxed))
    }

    /// Memory is under pressure.
    #[inline(always)]
    pub fn is_under_pressure(&self) -> bool {
        self.pressure.load(Ordering::Relaxed) != 0
    }

    /// True if a further page may be refused, so that it must be asked for.
    #[inline(always)]
    pub fn is_tight(&self, limits: Triple) -> bool {
        self.allocated.load(Ordering::Relaxed) > i64::from(limits.min)
    }

    /// Whether `owner` may have `more` pages; pressure begins and ends here (`__sk_mem_raise_allocated`).
    pub fn admits(&self, limits: Triple, now: Time, more: i32, owner: Owner) -> bool {
        let allocated = self.allocated() + i64::from(owner.untold) + i64::from(more);
        if allocated <= i64::from(limits.min) {
            self.leave_pressure(now);
            return true;
        }
        if allocated > i64::from(limits.default) {
            self.enter_pressure(now);
        }
        self.grants(limits, allocated, more, owner)
    }

    /// The same, above the first limit.
    fn grants(&self, limits: Triple, allocated: i64, more: i32, owner: Owner) -> bool {
        if allocated > i64::from(limits.max) {
            return false;
        }
        if owner.queued < owner.least || !self.is_under_pressure() {
            return true;
        }
        // Whoever has less than the average still gets something.
        let pages = i64::from(owner.pages) + i64::from(more);
        i64::from(limits.max) > self.sockets.load(Ordering::Relaxed) * pages
    }

    /// True if a page for what is to be sent may be refused.
    #[inline(always)]
    fn is_tight_for_output(&self) -> bool {
        self.allocated.load(Ordering::Relaxed) > i64::from(self.limits[0].load(Ordering::Relaxed))
    }

    /// Whether a socket with `queued` bytes to send may have `more` pages. The softirq that charges them looks at whether
    /// pressure begins.
    fn admits_output(&self, rx: &Receiver, queued: u32, more: i32) -> bool {
        let [min, default, max] = [0, 1, 2].map(|at: usize| self.limits[at].load(Ordering::Relaxed));
        let owner = rx.owner(queued, self.least_output.load(Ordering::Relaxed));
        let allocated = self.allocated() + i64::from(owner.untold) + i64::from(more);
        allocated <= i64::from(min) || self.grants(Triple { min, default, max }, allocated, more, owner)
    }

    /// Memory went back: pressure ends if there is enough (`__sk_mem_reduce_allocated`).
    pub fn gave_back(&self, limits: Triple, now: Time) {
        if self.is_under_pressure() && self.allocated() < i64::from(limits.min) {
            self.leave_pressure(now);
        }
    }

    fn enter_pressure(&self, now: Time) {
        let began = self.pressure.compare_exchange(0, now.0 + 1, Ordering::Relaxed, Ordering::Relaxed);
        if began.is_ok() {
            self.mib.add_shared(Counter::TcpExtTCPMemoryPressures, 1);
        }
    }

    fn leave_pressure(&self, now: Time) {
        if !self.is_under_pressure() {
            return;
        }
        let since = self.pressure.swap(0, Ordering::Relaxed);
        if since != 0 {
            let ms = (now - Time(since - 1)) / MS;
            self.mib.add_shared(Counter::TcpExtTCPMemoryPressuresChrono, ms);
        }
    }

    /// What was counted here.
    pub fn counters(&self) -> &Counters {
        &self.mib
    }

    /// A socket was made.
    pub fn socket_added(&self) {
        self.sockets.fetch_add(1, Ordering::Relaxed);
    }

    /// A socket is gone.
    pub fn socket_removed(&self) {
        self.sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sockets.
    pub fn sockets(&self) -> u64 {
        u64::try_from(self.sockets.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// An application let go of a connection that goes on.
    pub fn orphan_added(&self) {
        self.orphans.fetch_add(1, Ordering::Relaxed);
    }

    /// Such a connection is over.
    pub fn orphan_removed(&self) {
        self.orphans.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections whose application has let go.
    pub fn orphans(&self) -> u64 {
        u64::try_from(self.orphans.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// A place for a mini-socket, if there are fewer than `most`; given back by [`TcpMemory::time_wait_removed`].
    pub fn time_wait_added(&self, most: u32) -> bool {
        let before = self.time_waits.fetch_add(1, Ordering::Relaxed);
        if before >= i64::from(most) {
            self.time_waits.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// A mini-socket is gone.
    pub fn time_wait_removed(&self) {
        self.time_waits.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether an orphan is one too many, weighed `1 << shift` times, or has more to send than there is memory for
    /// (`tcp_check_oom`). The kernel looks at a number of orphans that is up to 100 ms old, this one is of now.
    pub fn is_short_for(&self, sysctl: &Sysctls, wmem_queued: u32, shift: u32) -> bool {
        let orphans = self.orphans() << shift;
        orphans > u64::from(sysctl.tcp_max_orphans)
            || (wmem_queued > SNDBUF_MIN && self.allocated() > i64::from(sysctl.tcp_mem.max))
    }
}

/// Within this time a writer for whom there was no memory tries again, besides two milliseconds.
const MEMORY_WAIT_MS: u32 = 200;

/// Smallest send buffer (`SOCK_MIN_SNDBUF`).
pub(super) const SNDBUF_MIN: u32 = 4_608;

impl Receiver {
    /// Charges a packet (`skb_set_owner_r`). What was not accounted before is a debt, which the next packet that is
    /// accounted makes good.
    #[inline(always)]
    pub fn charge(&mut self, truesize: u32) {
        self.rmem_alloc += truesize;
        self.forward_alloc -= truesize as i32;
    }

    /// Accounts for as much memory as a packet may come to be charged, by whole pages, whatever there is
    /// (`sk_forced_mem_schedule`).
    #[inline(always)]
    pub(super) fn schedule(&mut self, truesize: u32) {
        let missing = self.missing_for(truesize);
        if missing > 0 {
            self.extend(missing);
        }
    }

    /// Pages that are missing for a packet of this charge.
    #[inline(always)]
    pub(super) fn missing_for(&self, truesize: u32) -> i32 {
        (truesize as i32 - self.forward_alloc + PAGE - 1) / PAGE
    }

    /// The socket has so many pages more.
    #[inline(always)]
    pub(super) fn extend(&mut self, pages: i32) {
        self.forward_alloc += pages * PAGE;
        self.pages += pages;
    }

    /// Gives a packet's charge back; whole pages return to the stack (`sock_rfree`).
    #[inline(always)]
    pub fn uncharge(&mut self, truesize: u32) {
        // A read that empties no packet gives nothing back, not even pages that are there.
        if truesize > 0 {
            self.rmem_alloc = self.rmem_alloc.saturating_sub(truesize);
            self.forward_alloc += truesize as i32;
            self.reclaim();
        }
    }

    /// Gives whole pages that are not charged back (`sk_mem_reclaim`).
    #[inline(always)]
    pub(super) fn reclaim(&mut self) {
        let back = self.forward_alloc.max(0) / PAGE;
        self.forward_alloc -= back * PAGE;
        self.pages -= back;
    }

    /// Pages that the account of the stack was not told of; it is told now.
    #[inline(always)]
    pub fn take_untold(&mut self) -> i32 {
        self.pages - std::mem::replace(&mut self.told, self.pages)
    }

    /// Who asks, where `queued` bytes are there in the direction that memory is wanted for.
    pub(super) fn owner(&self, queued: u32, least: u32) -> Owner {
        Owner { queued, least, pages: self.pages, untold: self.pages - self.told }
    }
}

impl TcpSock {
    /// `SO_RCVBUF`, `SO_RCVBUFFORCE` (`most` is then [`u32::MAX`]): twice what is asked for, within twice `most`; the buffer
    /// does not tune itself any more.
    pub fn set_rcvbuf(&mut self, bytes: u32, most: u32) {
        self.rx.rcvbuf = doubled(bytes, most).max(super::RCVBUF_MIN);
        self.rx.rcvbuf_locked = true;
    }

    /// How many of `len` bytes there is memory to send for (`sk_stream_alloc_skb`, `sk_wmem_schedule`). Where there is none,
    /// the send buffer shrinks to half of what it holds (`sk_stream_moderate_sndbuf`); who has filled it gets a packet more,
    /// as his own acknowledgements will wake him.
    #[inline(always)]
    pub(crate) fn admitted(&mut self, memory: &TcpMemory, len: usize) -> usize {
        if memory.is_tight_for_output() && len > 0 { self.admitted_by(memory, len) } else { len }
    }

    #[cold]
    fn admitted_by(&mut self, memory: &TcpMemory, len: usize) -> usize {
        let goal = self.size_goal() as usize;
        let mut queued = self.rx.wmem_queued + self.tx.queue.uncut();
        let mut charge = self.tx.queue.uncut();
        let mut taken = 0;
        while taken < len {
            let part = goal.min(len - taken);
            charge += PACKET_CHARGE + part as u32;
            if !memory.admits_output(&self.rx, queued, self.rx.missing_for(charge).max(0)) {
                break;
            }
            queued += PACKET_CHARGE + part as u32;
            taken += part;
        }
        if taken > 0 {
            return taken;
        }
        if !self.tx.sndbuf_locked {
            self.tx.sndbuf = self.tx.sndbuf.min(queued as usize / 2).max(SNDBUF_MIN as usize);
        }
        let part = goal.min(len);
        if queued as usize + part >= self.tx.sndbuf {
            part.min(self.tx.sndbuf.saturating_sub(self.tx.buffer.len()))
        } else {
            0
        }
    }

    /// A writer waits for memory: he may try again before long, as whoever gives some back knows nothing of him
    /// (`sk_stream_wait_memory`).
    pub(super) fn await_memory(&mut self, cx: &mut Cx) {
        if std::mem::take(&mut self.user.wait_memory) {
            let wait_ms = 2 + u64::from(cx.rng.below(MEMORY_WAIT_MS));
            self.timers.memory = expiry(cx.now, wait_ms * MS);
        }
    }

    /// Pressure begins, or ends, with what was charged for sending.
    #[inline(always)]
    pub(super) fn output_charged(&self, cx: &Cx) {
        let limits = cx.net.sysctl.tcp_mem;
        if cx.tcp_memory.is_tight(limits) || cx.tcp_memory.is_under_pressure() {
            let owner = self.rx.owner(0, cx.net.sysctl.tcp_wmem.min);
            cx.tcp_memory.admits(limits, cx.now, 0, owner);
        }
    }

    /// `SO_SNDBUF`, `SO_SNDBUFFORCE`: likewise.
    pub fn set_sndbuf(&mut self, bytes: u32, most: u32) {
        self.tx.sndbuf = doubled(bytes, most).max(SNDBUF_MIN) as usize;
        self.tx.sndbuf_locked = true;
        self.effects.wake_send |= self.user.wait_send && self.has_send_room();
    }
}

/// A buffer's size as `setsockopt(2)` makes it: room for the kernel's own structures is counted in.
pub(crate) fn doubled(bytes: u32, most: u32) -> u32 {
    bytes.min(most).min(i32::MAX as u32 / 2) * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Triple = Triple { min: 10, default: 20, max: 30 };
    const POOR: Owner = Owner { queued: 0, least: 4_096, pages: 0, untold: 0 };
    const RICH: Owner = Owner { queued: 100_000, least: 4_096, pages: 25, untold: 0 };

    fn account(cpus: u16, reserve: u32) -> TcpMemory {
        TcpMemory::new(cpus, &Sysctls { mem_pcpu_rsv: reserve, ..Sysctls::default() })
    }

    fn with(pages: i32, sockets: usize) -> TcpMemory {
        let memory = account(1, 1);
        memory.tell(0, pages);
        (0..sockets).for_each(|_| memory.socket_added());
        memory
    }

    fn pressures(memory: &TcpMemory) -> (u64, u64) {
        let count = |counter| memory.counters().value(counter);
        (count(Counter::TcpExtTCPMemoryPressures), count(Counter::TcpExtTCPMemoryPressuresChrono))
    }

    #[test]
    fn pressure_begins_above_the_second_limit_and_ends_below_the_first() {
        let memory = with(18, 2);
        assert!(memory.admits(LIMITS, Time(0), 2, RICH), "up to the second limit there is no pressure");
        assert!(!memory.is_under_pressure());
        assert!(!memory.admits(LIMITS, Time(0), 3, RICH), "two have more than 30 together if one has 28");
        assert!(memory.is_under_pressure());
        assert!(memory.admits(LIMITS, Time(0), 3, POOR), "who has little gets more");
        assert!(!memory.admits(LIMITS, Time(0), 13, POOR), "but nobody beyond the last limit");
        memory.tell(0, -3);
        assert!(memory.admits(LIMITS, Time(0), 1, POOR), "between the limits it stays as it is");
        assert!(memory.is_under_pressure());
        memory.tell(0, -8);
        assert!(memory.admits(LIMITS, Time(7 * MS + 1), 1, RICH));
        assert!(!memory.is_under_pressure());
        assert_eq!(pressures(&memory), (1, 7));
    }

    #[test]
    fn pages_are_told_in_steps_and_none_is_lost() {
        let memory = account(2, 256);
        memory.tell(0, 255);
        memory.tell(1, 3);
        assert_eq!((memory.allocated(), memory.pages()), (0, 258));
        memory.tell(0, 1);
        assert_eq!((memory.allocated(), memory.pages()), (256, 259));
        memory.tell(0, -256);
        assert_eq!((memory.allocated(), memory.pages()), (0, 3));
    }

    #[test]
    fn places_for_mini_sockets_are_counted() {
        let memory = account(1, 1);
        assert!(memory.time_wait_added(1));
        assert!(!memory.time_wait_added(1));
        memory.time_wait_removed();
        assert!(memory.time_wait_added(1));
    }

    #[test]
    fn buffers_are_doubled_within_limits() {
        assert_eq!(doubled(4_096, 212_992), 8_192);
        assert_eq!(doubled(1_000_000, 212_992), 425_984);
        assert_eq!(doubled(u32::MAX, u32::MAX), i32::MAX as u32 - 1);
    }
}
