//! The page pool: the kernel's `page_pool`, with the packet's metadata in front of each page.
//!
//! A [`PagePool`] is the owner's handle: one per Cpu, for the RX queues that it polls. It keeps the free
//! slots of each class on a private stack (last freed, first used: what is hot stays in use) and takes in what other
//! threads returned ([`crate::Returns`]) at every refill of a ring and whenever a stack runs low. It never grows. The
//! last `reserve` slots are kept for [`PagePool::alloc_reserved`], so that acknowledgements and ARP go out when data
//! has filled everything else.
//!
//! The memory outlives the handle: it is released when the owner is gone *and* the last slot is back.

use std::io;
use std::ptr::NonNull;

use crate::region::Region;
use crate::returns::{ReturnRing, Returns, Token};
use crate::share::ShareCounts;
use crate::skb::{Skb, release};
use crate::slot::{LINE, REGION_SIZE, SHARED, SlotClass, SlotPtr, VIEW};
use crate::sync::{AtomicU64, Ordering};

/// How many slots a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Slots for frames, 2,304 bytes each with metadata: what is posted to the RX ring.
    pub slots: usize,
    /// Slots of 256 bytes, 320 each: control segments, heads of clones.
    pub head_slots: usize,
    /// Slots of 64 KiB, 65,792 each: payload of super-frames.
    pub large_slots: usize,
    /// Slots of the frame class, and as many of the 256-byte class, that only [`PagePool::alloc_reserved`] may take.
    pub reserve: usize,
}

impl Default for PoolConfig {
    /// 16,384 frames (34.6 MB), 8,192 heads (2.6 MB), 1,024 large ones (67 MB), a reserve of 64. What is not used is
    /// address space only.
    fn default() -> PoolConfig {
        PoolConfig { slots: 16_384, head_slots: 8_192, large_slots: 1_024, reserve: 64 }
    }
}

/// What a pool did, under the kernel's names (`page_pool_alloc_stats`, `page_pool_recycle_stats`) where it has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Allocations from the private stack.
    pub alloc_fast: u64,
    /// Allocations that first had to look into the return ring.
    pub alloc_slow: u64,
    /// Allocations that found nothing above the reserve: refused, or served from it if they may.
    pub alloc_empty: u64,
    /// Times that the return ring had something for the stacks.
    pub alloc_refill: u64,
    /// Slots freed onto the private stack.
    pub recycle_cached: u64,
    /// Slots taken from the return ring.
    pub recycle_ring: u64,
    /// Packets that went out of scope without having been ended: a bug in the program
    /// (`SKB_DROP_REASON_NOT_SPECIFIED`).
    pub not_specified: u64,
}

/// What lies at the base of a region, for all threads to see.
pub(crate) struct Header {
    ring: ReturnRing,
    counts: ShareCounts,
    geometry: Geometry,
    region: Region,
    not_specified: AtomicU64,
}

/// Where the classes lie in the region.
#[derive(Clone, Copy)]
struct Geometry {
    /// Slots per class.
    slots: [usize; 3],
    /// First byte of each class.
    start: [usize; 3],
    /// Bytes in all.
    len: usize,
}

impl Geometry {
    /// None if the slots do not fit a region.
    fn of(config: &PoolConfig) -> Option<Geometry> {
        let slots = [config.slots, config.head_slots, config.large_slots];
        let mut start = [0; 3];
        let mut len = size_of::<Header>().next_multiple_of(4096);
        for class in SlotClass::ALL {
            let c = class as usize;
            start[c] = len;
            len = slots[c].checked_mul(class.stride())?.checked_add(len).filter(|len| *len <= REGION_SIZE)?;
        }
        Some(Geometry { slots, start, len })
    }

    /// Ordinal of a slot over all classes.
    fn ordinal(&self, slot: Token) -> usize {
        let c = slot.class();
        let before: usize = self.slots[..c].iter().sum();
        before + (slot.offset() as usize * LINE - self.start[c]) / SlotClass::ALL[c].stride()
    }
}

const _: () = assert!(size_of::<Header>() <= 4096);

impl Header {
    /// Brings slots home, and releases the region if they were the last and the owner is gone.
    ///
    /// # Safety
    /// The slots belong to the region at `base`; the caller owns them and gives them up.
    pub(crate) unsafe fn give_back(base: NonNull<Header>, tokens: &[Token]) {
        // SAFETY: the region lives as long as the caller owns slots of it. A projection, no reference.
        let ring = unsafe { &raw mut (*base.as_ptr()).ring };
        // SAFETY: a field of a live header is not null.
        let ring = unsafe { NonNull::new_unchecked(ring) };
        // SAFETY: the caller's promise is the one asked for.
        if unsafe { ReturnRing::push(ring, tokens) } {
            // SAFETY: the owner is gone and all slots are home.
            unsafe { Header::unmap(base) };
        }
    }

    /// One user less of a shared slot. True if the caller now owns it.
    ///
    /// # Safety
    /// The caller is a user of the shared slot, which lies in the region at `base`, and gives that up.
    pub(crate) unsafe fn leave_shared(base: NonNull<Header>, slot: Token) -> bool {
        // SAFETY: the caller is a user, so the region lives; not used after it left.
        let header = unsafe { base.as_ref() };
        let ordinal = header.geometry.ordinal(slot);
        // SAFETY: by the caller's promise.
        unsafe { ShareCounts::leave(NonNull::from(&header.counts), ordinal) }
    }

    /// One more user of the slot: the first besides its owner if `first`.
    ///
    /// # Safety
    /// The caller is a user of the slot, which lies in the region at `base`; the only one, if `first`.
    pub(crate) unsafe fn join_shared(base: NonNull<Header>, slot: Token, first: bool) {
        // SAFETY: the caller is a user, so the region lives.
        let header = unsafe { base.as_ref() };
        let ordinal = header.geometry.ordinal(slot);
        if first { header.counts.begin(ordinal) } else { header.counts.join(ordinal) }
    }

    /// True if the caller is the only user of a shared slot.
    ///
    /// # Safety
    /// The caller is a user of the slot, which lies in the region at `base`.
    pub(crate) unsafe fn alone(base: NonNull<Header>, slot: Token) -> bool {
        // SAFETY: the caller is a user, so the region lives.
        let header = unsafe { base.as_ref() };
        header.counts.alone(header.geometry.ordinal(slot))
    }

    /// Counts a packet that nobody ended.
    ///
    /// # Safety
    /// The caller owns a slot of the region at `base`.
    pub(crate) unsafe fn count_not_specified(base: NonNull<Header>) {
        // SAFETY: the caller owns a slot, so the region lives.
        unsafe { base.as_ref() }.not_specified.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the region.
    ///
    /// # Safety
    /// The owner is gone, all slots are home, and this is called once.
    unsafe fn unmap(base: NonNull<Header>) {
        // SAFETY: nobody else refers to the header any more, and it is not used in place after this.
        let header = unsafe { base.read() };
        let Header { region, .. } = header;
        // SAFETY: all slots are home and the header has been moved out.
        unsafe { region.release() };
    }
}

/// The free slots of one class, as offsets in the region.
struct Stack {
    free: Box<[u32]>,
    top: usize,
    /// Ordinary allocations stop here.
    floor: usize,
}

/// Owner's handle of a pool of packet slots.
///
/// Send but not Sync: it belongs to one Cpu at a time.
pub struct PagePool {
    base: NonNull<Header>,
    stacks: [Stack; 3],
    /// The consumer's position in the return ring.
    head: u64,
    stats: PoolStats,
}

// SAFETY: the stacks are owned, and the header is made for all threads. Slots move between threads with their packets.
unsafe impl Send for PagePool {}

impl PagePool {
    /// Maps and cuts a pool. Huge pages are asked for; memory is used when it is first touched.
    ///
    /// # Errors
    /// `InvalidInput` if the slots exceed 1 GiB (64 MiB where there is no mmap or addresses have 32 bits); else what
    /// the system says to the mapping.
    pub fn new(config: PoolConfig) -> io::Result<PagePool> {
        let geometry = Geometry::of(&config).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("a pool may have {REGION_SIZE} bytes: {config:?}"))
        })?;
        Ok(PagePool::in_region(&config, geometry, Region::new(geometry.len)?))
    }

    fn in_region(config: &PoolConfig, geometry: Geometry, region: Region) -> PagePool {
        let total = geometry.slots.iter().sum();
        let base: NonNull<Header> = region.base().cast();
        let header = Header {
            ring: ReturnRing::new(total),
            counts: ShareCounts::new(total),
            geometry,
            region,
            not_specified: AtomicU64::new(0),
        };
        // SAFETY: the base is aligned far beyond a header's needs, the region has room for it, and it is ours alone.
        unsafe { base.write(header) };
        let stacks = SlotClass::ALL.map(|class| {
            let (c, stride) = (class as usize, class.stride() / LINE);
            let (start, slots) = (geometry.start[c] / LINE, geometry.slots[c]);
            // The lowest address on top: a pool that is not full stays dense.
            let free = (0..slots).rev().map(|i| (start + i * stride) as u32).collect();
            let floor = if class == SlotClass::Large { 0 } else { config.reserve };
            Stack { free, top: slots, floor }
        });
        PagePool { base, stacks, head: 0, stats: PoolStats::default() }
    }

    /// An empty packet in a slot for a frame, its data starting at [`crate::RX_HEADROOM`] (`__alloc_skb`). None below the
    /// reserve.
    #[inline]
    pub fn alloc(&mut self) -> Option<Skb> {
        self.alloc_class(SlotClass::Frame)
    }

    /// An empty packet in a 256-byte slot: 182 bytes behind the headroom. None below the reserve.
    #[inline]
    pub fn alloc_head(&mut self) -> Option<Skb> {
        self.alloc_class(SlotClass::Head)
    }

    /// An empty packet in a 64 KiB slot: 65,461 bytes behind the headroom.
    #[inline]
    pub fn alloc_large(&mut self) -> Option<Skb> {
        self.alloc_class(SlotClass::Large)
    }

    /// An empty packet for a control segment or ARP: as [`PagePool::alloc_head`], else [`PagePool::alloc`], but down to
    /// the very last slot.
    #[inline]
    pub fn alloc_reserved(&mut self) -> Option<Skb> {
        self.alloc_class(SlotClass::Head).or_else(|| self.alloc_from_reserve())
    }

    #[cold]
    fn alloc_from_reserve(&mut self) -> Option<Skb> {
        for class in [SlotClass::Head, SlotClass::Frame] {
            let stack = &mut self.stacks[class as usize];
            if stack.top > 0 {
                stack.top -= 1;
                let offset = stack.free[stack.top];
                self.stats.alloc_slow += 1;
                return Some(self.fresh(offset, class));
            }
        }
        None
    }

    #[inline(always)]
    pub(crate) fn alloc_class(&mut self, class: SlotClass) -> Option<Skb> {
        let offset = self.pop(class)?;
        Some(self.fresh(offset, class))
    }

    #[inline(always)]
    fn fresh(&self, offset: u32, class: SlotClass) -> Skb {
        // SAFETY: offsets on the stacks are those of this region's slots.
        let slot = unsafe { SlotPtr::at(self.base, offset) };
        // SAFETY: what is on a stack is owned by the pool, and passes to the packet.
        unsafe { slot.init_fresh(class) };
        // SAFETY: the line was just initialised, and the slot left the stack.
        unsafe { Skb::from_slot(slot) }
    }

    /// Gives up to `n` slots for frames as such, their lines unwritten, the most recently freed first: for the RX ring, after a
    /// drain. There are less than `n` if there are not as many above the reserve. The caller takes all that are given.
    #[inline(always)]
    pub(crate) fn pop_frames(&mut self, n: usize) -> impl ExactSizeIterator<Item = SlotPtr> {
        let stack = &mut self.stacks[SlotClass::Frame as usize];
        let n = n.min(stack.top.saturating_sub(stack.floor));
        let (base, rest) = (self.base, stack.top - n);
        let popped = &stack.free[rest..stack.top];
        stack.top = rest;
        self.stats.alloc_fast += n as u64;
        // SAFETY: offsets on the stacks are those of this region's slots.
        popped.iter().rev().map(move |offset| unsafe { SlotPtr::at(base, *offset) })
    }

    #[inline(always)]
    fn pop(&mut self, class: SlotClass) -> Option<u32> {
        let stack = &mut self.stacks[class as usize];
        if stack.top > stack.floor {
            stack.top -= 1;
            self.stats.alloc_fast += 1;
            Some(stack.free[stack.top])
        } else {
            self.pop_slow(class)
        }
    }

    #[cold]
    fn pop_slow(&mut self, class: SlotClass) -> Option<u32> {
        self.drain();
        let stack = &mut self.stacks[class as usize];
        if stack.top > stack.floor {
            stack.top -= 1;
            self.stats.alloc_slow += 1;
            Some(stack.free[stack.top])
        } else {
            self.stats.alloc_empty += 1;
            None
        }
    }

    /// Counts a refill that found nothing above the reserve.
    pub(crate) fn count_empty(&mut self) {
        self.stats.alloc_empty += 1;
    }

    /// Ends a packet: its slots go onto the private stacks, or, if it is another pool's, into that pool's return ring.
    #[inline]
    pub fn free(&mut self, skb: Skb) {
        let slot = skb.into_slot();
        // SAFETY: the packet was handed over, so its line is this function's.
        let link = unsafe { slot.link() };
        let simple = link.frag_next == 0 && link.flags.get() & (SHARED | VIEW) == 0;
        if simple && slot.base() == self.base {
            self.give(Token::new(slot.offset(), link.class));
        } else {
            self.free_slow(slot);
        }
    }

    #[inline(never)]
    fn free_slow(&mut self, slot: SlotPtr) {
        if slot.base() == self.base {
            // SAFETY: the packet was handed over to `free`; all slots of a packet are of one region, here this one.
            unsafe { release(slot, |_, token| self.give(token)) };
        } else {
            // SAFETY: the packet was handed over to `free`.
            Returns::new().push(unsafe { Skb::from_slot(slot) });
        }
    }

    #[inline(always)]
    fn give(&mut self, token: Token) {
        let stack = &mut self.stacks[token.class()];
        stack.free[stack.top] = token.offset();
        stack.top += 1;
    }

    /// Takes in what other threads returned; gives the number of slots. Costs one load if there is nothing.
    ///
    /// Rings do this at every refill, allocations when a stack is empty.
    #[inline]
    pub fn drain(&mut self) -> usize {
        // SAFETY: the owner keeps the region alive.
        let ring = unsafe { &self.base.as_ref().ring };
        let mut taken = 0;
        while let Some(token) = ring.pop(self.head) {
            let stack = &mut self.stacks[token.class()];
            stack.free[stack.top] = token.offset();
            stack.top += 1;
            self.head += 1;
            taken += 1;
        }
        if taken > 0 {
            self.stats.alloc_refill += 1;
            self.stats.recycle_ring += taken;
        }
        taken as usize
    }

    /// True if `skb` lies in this pool.
    #[inline(always)]
    pub fn owns(&self, skb: &Skb) -> bool {
        skb.slot().base() == self.base
    }

    /// Identity of the pool, as [`Skb::pool_id`]: unique among live pools.
    #[inline]
    pub fn id(&self) -> usize {
        self.base.addr().get() / REGION_SIZE
    }

    /// What the pool did so far.
    pub fn stats(&self) -> PoolStats {
        // SAFETY: the owner keeps the region alive.
        let header = unsafe { self.base.as_ref() };
        let left = self.stats.alloc_fast + self.stats.alloc_slow;
        PoolStats {
            // What left the stacks and is neither out nor came back by the ring came back here: free of charge per
            // slot.
            recycle_cached: left - self.stats.recycle_ring - self.off_stack() as u64,
            not_specified: header.not_specified.load(Ordering::Relaxed),
            ..self.stats
        }
    }

    /// Slots of all classes that are neither on a private stack nor on their way back: in packets, in rings, with
    /// readers.
    pub fn outstanding(&self) -> usize {
        // SAFETY: the owner keeps the region alive.
        let header = unsafe { self.base.as_ref() };
        self.off_stack() - header.ring.len(self.head) as usize
    }

    /// Slots that are not on a private stack.
    fn off_stack(&self) -> usize {
        self.stacks.iter().map(|stack| stack.free.len() - stack.top).sum()
    }

    /// Free slots for frames on the private stack, the reserve included. What other threads returned counts once drained.
    #[inline]
    pub fn free_slots(&self) -> usize {
        self.free_of(SlotClass::Frame)
    }

    /// As [`PagePool::free_slots`], for any class.
    #[inline]
    pub fn free_of(&self, class: SlotClass) -> usize {
        self.stacks[class as usize].top
    }

    /// Slots of a class, free or not.
    #[inline]
    pub fn capacity_of(&self, class: SlotClass) -> usize {
        self.stacks[class as usize].free.len()
    }
}

impl Drop for PagePool {
    fn drop(&mut self) {
        // SAFETY: the owner keeps the region alive up to the end of this function. A projection, no reference.
        let ring = unsafe { &raw mut (*self.base.as_ptr()).ring };
        // SAFETY: a field of a live header is not null.
        let ring = unsafe { NonNull::new_unchecked(ring) };
        // SAFETY: this handle is the consumer and does not use the ring afterwards.
        if unsafe { ReturnRing::close(ring, self.head, self.off_stack()) } {
            // SAFETY: the owner goes here, and all slots are home.
            unsafe { Header::unmap(self.base) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
