//! The way back: slots that end on a thread without their pool.
//!
//! [`ReturnRing`] is a bounded array with many producers and one consumer. Its capacity is at least the number of slots
//! of the pool, and a slot is in it at most once, so it is never full and no producer ever waits. A producer reserves
//! `n` places with one `fetch_add` and then fills them; the consumer takes places in order until it meets an empty one.
//!
//! When the owner of the pool is gone (`close`), producers are told so by a bit in the very word that they reserve
//! with; they then count down instead of storing, and whoever brings the last slot home releases the memory.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::pool::Header;
use crate::skb::{Skb, release};
use crate::slot::{SHARED, SlotClass, SlotPtr, VIEW};
use crate::sync::{AtomicI64, AtomicU32, AtomicU64, Backoff, Ordering};

/// A slot on its way home: its offset in the region in lines, its class in the two highest bits. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Token(u32);

const CLASS_SHIFT: u32 = 30;

impl Token {
    #[inline(always)]
    pub(crate) const fn new(offset: u32, class: SlotClass) -> Token {
        Token(offset | (class as u32) << CLASS_SHIFT)
    }

    #[inline(always)]
    pub(crate) const fn offset(self) -> u32 {
        self.0 & ((1 << CLASS_SHIFT) - 1)
    }

    /// The class, as the index of its stack.
    #[inline(always)]
    pub(crate) const fn class(self) -> usize {
        (self.0 >> CLASS_SHIFT) as usize
    }
}

/// Set in `tail` when the owner is gone.
const CLOSED: u64 = 1 << 63;

/// The return ring of a pool.
pub(crate) struct ReturnRing {
    /// The places; 0 is an empty one.
    places: Box<[AtomicU32]>,
    /// Places reserved so far, and [`CLOSED`].
    tail: AtomicU64,
    /// After closing: slots that are still out. Producers may count down before the owner has counted up.
    out: AtomicI64,
}

impl ReturnRing {
    /// A ring for a pool of `slots` slots.
    pub(crate) fn new(slots: usize) -> ReturnRing {
        let places = (0..slots.max(1).next_power_of_two()).map(|_| AtomicU32::new(0)).collect();
        ReturnRing { places, tail: AtomicU64::new(0), out: AtomicI64::new(0) }
    }

    /// Brings slots home. True if the owner is gone and these were the last: the caller must then release the pool.
    ///
    /// Takes a pointer, because another thread may release the pool the moment that the last of these slots is home,
    /// while this function still runs: after that it touches nothing, and no reference of it covers more than an
    /// atomic.
    ///
    /// # Safety
    /// `this` is live, and the tokens' slots are out, owned by the caller, and part of this ring's pool.
    #[must_use]
    pub(crate) unsafe fn push(this: NonNull<ReturnRing>, tokens: &[Token]) -> bool {
        let this = this.as_ptr();
        let n = tokens.len();
        if n == 0 {
            return false;
        }
        // SAFETY: as long as the caller owns slots the ring lives; this reference ends before they are given up.
        let places: NonNull<[AtomicU32]> = NonNull::from(unsafe { &*(*this).places });
        let mask = places.len() as u64 - 1;
        // SAFETY: as above. AcqRel chains the producers: place p of the next round is reserved after a slot from this
        // round has gone through the consumer, which emptied p before; the chain makes that order visible.
        let pos = unsafe { &(*this).tail }.fetch_add(n as u64, Ordering::AcqRel);
        if pos & CLOSED != 0 {
            // SAFETY: as above; the slots are not given up before this very instruction.
            let out = unsafe { &(*this).out }.fetch_sub(n as i64, Ordering::AcqRel);
            return out == n as i64;
        }
        let first = places.cast::<AtomicU32>();
        for (i, token) in tokens.iter().enumerate() {
            let place = ((pos + i as u64) & mask) as usize;
            // SAFETY: the index is within the places.
            let place = unsafe { first.add(place) };
            // SAFETY: the ring lives until all reserved places are filled, and this one is not yet.
            unsafe { place.as_ref() }.store(token.0, Ordering::Release);
        }
        false
    }

    /// Takes the slot at `head`, the consumer's position, if it has arrived.
    #[inline]
    pub(crate) fn pop(&self, head: u64) -> Option<Token> {
        let place = &self.places[(head & (self.places.len() as u64 - 1)) as usize];
        let token = place.load(Ordering::Acquire);
        if token == 0 {
            return None;
        }
        place.store(0, Ordering::Relaxed);
        Some(Token(token))
    }

    /// Slots in the ring, seen from the consumer at `head`; others may be adding.
    pub(crate) fn len(&self, head: u64) -> u64 {
        self.tail.load(Ordering::Relaxed).saturating_sub(head)
    }

    /// The owner goes: takes what was reserved before, counts what is still out, and says whether that is nothing, in
    /// which case the owner must release the pool.
    ///
    /// `head` is the consumer's position, `out` the number of slots that were not on the owner's stacks. A pointer for
    /// the same reason as in [`ReturnRing::push`].
    ///
    /// # Safety
    /// `this` is live, the caller is the consumer, and calls this once, as its last use of the ring unless it returns
    /// true.
    #[must_use]
    pub(crate) unsafe fn close(this: NonNull<ReturnRing>, mut head: u64, out: usize) -> bool {
        // SAFETY: the pool cannot be released before `out` is counted up below; this reference is not used after that.
        let ring = unsafe { this.as_ref() };
        let end = ring.tail.fetch_or(CLOSED, Ordering::AcqRel);
        let mut home = 0;
        let mut backoff = Backoff::new();
        while head != end {
            // A place that is reserved but empty belongs to a producer between two instructions.
            match ring.pop(head) {
                Some(_) => {
                    head += 1;
                    home += 1;
                }
                None => backoff.wait(),
            }
        }
        let still_out = out as i64 - home;
        // SAFETY: as above.
        let counter = unsafe { &(*this.as_ptr()).out };
        counter.fetch_add(still_out, Ordering::AcqRel) + still_out == 0
    }
}

/// Slots per publication.
const BATCH: usize = 64;

/// Gives packets back from a thread that has no pool, one publication per batch.
///
/// For readers: push what was copied out, and [`Returns::flush`] at the end of the call (dropping it does the same).
/// Packets of several pools may be mixed; a change of pool publishes what was gathered.
pub struct Returns {
    /// The pool of the gathered slots.
    base: Option<NonNull<Header>>,
    len: usize,
    /// The first `len` are written.
    tokens: [MaybeUninit<Token>; BATCH],
}

// SAFETY: it owns the slots that it gathered; headers are shared by all threads.
unsafe impl Send for Returns {}

impl Returns {
    /// An empty batch.
    pub const fn new() -> Returns {
        Returns { base: None, len: 0, tokens: [const { MaybeUninit::uninit() }; BATCH] }
    }

    /// Ends a packet: all its slots go home, at the latest with the next [`Returns::flush`].
    #[inline(always)]
    pub fn push(&mut self, skb: Skb) {
        let slot = skb.into_slot();
        // SAFETY: the packet was handed over, so its line is this function's.
        let link = unsafe { slot.link() };
        let simple = link.frag_next == 0 && link.flags.get() & (SHARED | VIEW) == 0;
        if simple {
            self.gather(slot.base(), Token::new(slot.offset(), link.class));
        } else {
            // SAFETY: the packet was handed over.
            unsafe { release(slot, |base, token| self.gather(base, token)) };
        }
    }

    /// Publishes what was gathered.
    #[inline]
    pub fn flush(&mut self) {
        let Some(base) = self.base.filter(|_| self.len > 0) else { return };
        // SAFETY: the first `len` places are written.
        let tokens = unsafe { self.tokens[..self.len].assume_init_ref() };
        // SAFETY: the gathered slots are owned by this batch, so the pool lives; they are given up here.
        unsafe { Header::give_back(base, tokens) };
        self.len = 0;
    }

    /// Slots gathered and not yet published.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nothing waits to be published.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn gather(&mut self, base: NonNull<Header>, token: Token) {
        if self.base != Some(base) || self.len == BATCH {
            self.flush();
            self.base = Some(base);
        }
        self.tokens[self.len].write(token);
        self.len += 1;
    }
}

impl Default for Returns {
    fn default() -> Returns {
        Returns::new()
    }
}

impl Drop for Returns {
    #[inline]
    fn drop(&mut self) {
        self.flush();
    }
}

/// Ends a free slot that is not part of a packet, from any thread.
///
/// # Safety
/// The caller owns the slot of class `class`, and gives it up.
pub(crate) unsafe fn give_slot_back(slot: SlotPtr, class: SlotClass) {
    let token = Token::new(slot.offset(), class);
    // SAFETY: by the caller's promise.
    unsafe { Header::give_back(slot.base(), &[token]) };
}

#[cfg(all(test, loom))]
mod loom_tests;
