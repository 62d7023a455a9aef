//! FIFO of packets, linked through their metadata (`sk_buff_head`).

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use crate::pool::{Header, PagePool};
use crate::returns::Returns;
use crate::skb::Skb;
use crate::slot::Link;
use crate::slot::{SkbMeta, SlotPtr};

/// A FIFO of packets. Allocates nothing; knows its packets and bytes.
///
/// Empty it before it goes out of scope: packets left on it end as an [`Skb`] does that goes out of scope.
#[derive(Default)]
#[must_use = "packets on a queue must be ended"]
pub struct SkbQueue {
    head: Option<SlotPtr>,
    tail: Option<SlotPtr>,
    packets: usize,
    bytes: usize,
}

impl SkbQueue {
    /// An empty queue.
    #[inline]
    pub const fn new() -> SkbQueue {
        SkbQueue { head: None, tail: None, packets: 0, bytes: 0 }
    }

    /// Packets on the queue.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Bytes on the queue: the sum of [`Skb::len`].
    #[inline(always)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if there is no packet.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Adds a packet at the end (`__skb_queue_tail`).
    #[inline]
    pub fn push_back(&mut self, skb: Skb) {
        self.bytes += skb.len();
        self.packets += 1;
        let slot = skb.into_slot();
        link_mut(self, slot).queue_next = None;
        match self.tail.replace(slot) {
            Some(tail) => link_mut(self, tail).queue_next = Some(slot),
            None => self.head = Some(slot),
        }
    }

    /// Adds a packet at the front (`__skb_queue_head`).
    #[inline]
    pub fn push_front(&mut self, skb: Skb) {
        self.bytes += skb.len();
        self.packets += 1;
        let slot = skb.into_slot();
        link_mut(self, slot).queue_next = self.head;
        self.head = Some(slot);
        self.tail.get_or_insert(slot);
    }

    /// Takes the first packet (`__skb_dequeue`).
    #[inline]
    pub fn pop_front(&mut self) -> Option<Skb> {
        let slot = self.head?;
        self.head = next_of(self, slot);
        if self.head.is_none() {
            self.tail = None;
        }
        self.packets -= 1;
        // SAFETY: the queue owned the packet, which is not on it any more.
        let skb = unsafe { Skb::from_slot(slot) };
        self.bytes -= skb.len();
        Some(skb)
    }

    /// The first packet (`skb_peek`).
    #[inline]
    pub fn front(&self) -> Option<&Skb> {
        self.head.as_ref().map(|slot| lent(self, slot))
    }

    /// The last packet (`skb_peek_tail`).
    #[inline]
    pub fn back(&self) -> Option<&Skb> {
        self.tail.as_ref().map(|slot| lent(self, slot))
    }

    /// The first packet, for changing.
    #[inline]
    pub fn front_mut(&mut self) -> Option<SkbMut<'_>> {
        let slot = self.head?;
        Some(SkbMut::lend(self, slot))
    }

    /// The last packet, for changing: what is coalesced goes here.
    #[inline]
    pub fn back_mut(&mut self) -> Option<SkbMut<'_>> {
        let slot = self.tail?;
        Some(SkbMut::lend(self, slot))
    }

    /// Chains a packet behind the last one, as [`Skb::add_frag`] does, and gives that one's metadata
    /// (`skb_try_coalesce`). The caller accounts for the end of the packet's own.
    ///
    /// # Errors
    /// Gives the packet back if the queue is empty or [`Skb::add_frag`] does.
    #[inline(always)]
    pub fn chain_back(&mut self, skb: Skb) -> Result<&mut SkbMeta, Skb> {
        let Some(slot) = self.tail else { return Err(skb) };
        let len = skb.len();
        // SAFETY: the queue owns the packet; the handle is dissolved before the queue is used again, and what
        // `add_frag` changes of the line are lengths and fragments, which no link of the queue depends on.
        let mut tail = ManuallyDrop::new(unsafe { Skb::from_slot(slot) });
        tail.add_frag(skb)?;
        self.bytes += len;
        // SAFETY: the packet belongs to the queue, which is borrowed mutably as long as the result.
        Ok(unsafe { slot.meta_mut() })
    }

    /// As [`SkbQueue::chain_back`], but copies the packet's bytes into the room behind the last one's, if there is as much,
    /// and frees its slot. The charges add up either way. Gives how many bytes were copied, too.
    ///
    /// # Errors
    /// As [`SkbQueue::chain_back`].
    #[cold]
    pub fn append_back(&mut self, skb: Skb, pool: &mut PagePool) -> Result<(&mut SkbMeta, usize), Skb> {
        let Some(slot) = self.tail else { return Err(skb) };
        let mut tail = SkbMut::lend(self, slot);
        let copied = skb.data_len() == 0 && tail.append_bytes(skb.data());
        if copied {
            tail.truesize = tail.truesize.wrapping_add(skb.truesize);
        }
        drop(tail);
        if !copied {
            return self.chain_back(skb).map(|tail| (tail, 0));
        }
        let len = skb.len();
        pool.free(skb);
        // SAFETY: the packet belongs to the queue, which is borrowed mutably as long as the result.
        Ok((unsafe { slot.meta_mut() }, len))
    }

    /// Gives every packet the hash that `f` finds for it, first to last.
    #[inline(always)]
    pub fn set_hashes(&mut self, mut f: impl FnMut(&Skb) -> u32) {
        let mut next = self.head;
        while let Some(slot) = next {
            let hash = f(lent(self, &slot));
            // SAFETY: the packet belongs to the queue, which is borrowed mutably, and the handle that was lent is gone.
            unsafe { slot.meta_mut() }.hash = hash;
            next = next_of(self, slot);
        }
    }

    /// Moves all packets of `other` behind these (`skb_queue_splice_tail_init`).
    #[inline]
    pub fn append(&mut self, other: &mut SkbQueue) {
        let other = ManuallyDrop::new(std::mem::take(other));
        match self.tail {
            Some(tail) => link_mut(self, tail).queue_next = other.head,
            None => self.head = other.head,
        }
        self.tail = other.tail.or(self.tail);
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    /// Takes the first `n` packets, or all if there are fewer.
    pub fn split_front_packets(&mut self, n: usize) -> SkbQueue {
        let mut left = n;
        self.split_front_while(|_| {
            let more = left > 0;
            left = left.saturating_sub(1);
            more
        })
    }

    /// Takes packets off the front as long as each is `wanted`, and all if all are.
    #[inline]
    pub fn split_front_while(&mut self, mut wanted: impl FnMut(&Skb) -> bool) -> SkbQueue {
        let mut front = SkbQueue::new();
        let mut next = self.head;
        while let Some(slot) = next.filter(|slot| wanted(lent(self, slot))) {
            front.packets += 1;
            front.bytes += lent(self, &slot).len();
            front.tail = Some(slot);
            next = next_of(self, slot);
        }
        if let Some(last) = front.tail {
            front.head = self.head;
            link_mut(self, last).queue_next = None;
            self.head = next;
            self.tail = self.tail.filter(|_| next.is_some());
            self.packets -= front.packets;
            self.bytes -= front.bytes;
        }
        front
    }

    /// The packets, first to last.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter { queue: self, next: self.head.as_ref() }
    }
}

impl Drop for SkbQueue {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.is_empty() {
            // By value: a queue whose address is taken in some cold corner cannot live in registers anywhere else.
            abandon(std::mem::take(self));
        }
    }
}

/// Ends what nobody ended, all of it before the panic.
#[cold]
#[inline(never)]
fn abandon(mut queue: SkbQueue) {
    let packets = queue.packets;
    let mut returns = Returns::new();
    while let Some(skb) = queue.pop_front() {
        // SAFETY: the packet keeps its region alive.
        unsafe { Header::count_not_specified(skb.slot().base()) };
        returns.push(skb);
    }
    drop(returns);
    if cfg!(debug_assertions) && !std::thread::panicking() {
        panic!("a queue went out of scope with {packets} packets that had not been ended");
    }
}

impl std::fmt::Debug for SkbQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a SkbQueue {
    type Item = &'a Skb;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The private half of a queued packet's line, for writing. `slot` is on `queue`, or about to be.
#[inline(always)]
fn link_mut(_queue: &mut SkbQueue, slot: SlotPtr) -> &mut Link {
    // SAFETY: packets on a queue belong to it, and `&mut` on the queue excludes all references that it lent.
    unsafe { slot.link_mut() }
}

/// What follows `slot`, which is on `queue`.
#[inline(always)]
fn next_of(_queue: &SkbQueue, slot: SlotPtr) -> Option<SlotPtr> {
    // SAFETY: packets on a queue belong to it; writers have `&mut` on the queue.
    unsafe { slot.link() }.queue_next
}

/// Lends the handle of a packet on `queue`.
#[inline(always)]
fn lent<'a>(_queue: &SkbQueue, slot: &'a SlotPtr) -> &'a Skb {
    let handle: *const SlotPtr = slot;
    // SAFETY: an Skb is a transparent wrapper of a SlotPtr; the packet belongs to the queue, which is borrowed as long
    // as the result: `slot` itself lies in it, or in one of its packets, or does not outlive the borrow.
    unsafe { &*handle.cast::<Skb>() }
}

/// Packets of a queue, first to last.
pub struct Iter<'a> {
    queue: &'a SkbQueue,
    next: Option<&'a SlotPtr>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Skb;

    #[inline]
    fn next(&mut self) -> Option<&'a Skb> {
        let slot = self.next?;
        // SAFETY: packets on a queue belong to it, and it is borrowed for 'a.
        let link: &'a Link = unsafe { slot.link() };
        self.next = link.queue_next.as_ref();
        Some(lent(self.queue, slot))
    }
}

/// The first or last packet of a queue, lent for changing.
///
/// Dereferences to the [`Skb`]. The packet may be changed in every way, even replaced by another: when this goes out of
/// scope, whatever packet is here is linked in its place and the queue's bytes are right again. While it lives the
/// queue counts as empty, so that one that is leaked takes the packets with it and leaves nothing dangling.
pub struct SkbMut<'a> {
    queue: &'a mut SkbQueue,
    /// The queue's contents.
    all: ManuallyDrop<SkbQueue>,
    skb: ManuallyDrop<Skb>,
    /// What the packet was when it was lent.
    was: SlotPtr,
    len: usize,
    next: Option<SlotPtr>,
}

impl<'a> SkbMut<'a> {
    #[inline]
    fn lend(queue: &'a mut SkbQueue, slot: SlotPtr) -> SkbMut<'a> {
        let next = next_of(queue, slot);
        let all = ManuallyDrop::new(std::mem::take(queue));
        // SAFETY: the queue owned the packet and is empty now; it gets it back when this goes out of scope.
        let skb = ManuallyDrop::new(unsafe { Skb::from_slot(slot) });
        let len = skb.len();
        SkbMut { queue, all, skb, was: slot, len, next }
    }

    /// Links another packet where the lent one was.
    #[cold]
    fn replace(&mut self, slot: SlotPtr) {
        let all = &mut *self.all;
        if all.tail == Some(self.was) {
            all.tail = Some(slot);
        }
        if all.head == Some(self.was) {
            all.head = Some(slot);
            return;
        }
        let mut at = all.head;
        while let Some(before) = at {
            at = next_of(all, before);
            if at == Some(self.was) {
                link_mut(all, before).queue_next = Some(slot);
                return;
            }
        }
    }
}

impl Drop for SkbMut<'_> {
    #[inline]
    fn drop(&mut self) {
        let slot = self.skb.slot();
        self.all.bytes = self.all.bytes - self.len + self.skb.len();
        // It may have been on another queue meanwhile.
        self.skb.link_mut().queue_next = self.next;
        if slot != self.was {
            self.replace(slot);
        }
        std::mem::swap(self.queue, &mut self.all);
    }
}

impl Deref for SkbMut<'_> {
    type Target = Skb;

    #[inline(always)]
    fn deref(&self) -> &Skb {
        &self.skb
    }
}

impl DerefMut for SkbMut<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Skb {
        &mut self.skb
    }
}
