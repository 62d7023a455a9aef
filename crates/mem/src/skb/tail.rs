//! The end of a packet, for growing it piece by piece.

use std::marker::PhantomData;

use super::{Skb, linear_tailroom, slot_is_shared};
use crate::slot::{LINE, RX_HEADROOM, SHARED, SlotClass, SlotPtr, VIEW};

/// The end of a packet, borrowed for many appends: bytes into the room of its last slot, and whole slots behind it
/// ([`crate::RxRing::use_in_place`]). The packet's lengths are written when this goes.
#[derive(Debug)]
pub struct Tail<'a> {
    head: SlotPtr,
    first: Option<SlotPtr>,
    last: SlotPtr,
    /// Behind the last byte of the last slot.
    end: *mut u8,
    /// Bytes that the last slot may still take.
    room: usize,
    /// Bytes that it might when its length was written last.
    room_before: usize,
    /// Bytes that were taken in slots whose length says so.
    committed: usize,
    /// Bytes that the packet has grown by in fragments.
    grown: u32,
    /// The packet's length may come near to what fits 32 bits: it grows no more.
    is_full: bool,
    packet: PhantomData<&'a mut Skb>,
}

impl Skb {
    /// The end of the packet, for many appends. See [`Skb::extend_tail`] and [`Skb::add_frag`] for single ones.
    #[inline]
    pub fn tail(&mut self) -> Tail<'_> {
        let (head, first, last) = (self.slot(), self.first_frag(), self.last_slot());
        // SAFETY: the last slot belongs to this packet.
        let link = unsafe { last.link() };
        let is_shared = link.flags.get() & (SHARED | VIEW) != 0 && slot_is_shared(last, link);
        let is_full = self.link().data_len > u32::MAX / 2;
        let room = if is_shared || is_full { 0 } else { linear_tailroom(link) };
        let end = last.byte(link.data_off + i32::from(link.len));
        Tail { head, first, last, end, room, room_before: room, committed: 0, grown: 0, is_full, packet: PhantomData }
    }
}

impl Tail<'_> {
    /// How many pieces of `len` bytes, at most `most`, the last slot may still take.
    #[inline(always)]
    pub(crate) fn pieces(&self, len: usize, most: usize) -> usize {
        // A division costs as much as the comparison of a frame, and is needed for the last few pieces only.
        if most.saturating_mul(len) <= self.room { most } else { (self.room as u32 / (len as u32).max(1)) as usize }
    }

    /// The `i`-th piece of `len` bytes behind the packet, for writing, with whatever it contains. It belongs to the packet
    /// once it is taken.
    ///
    /// # Safety
    /// There are more than `i` [`Tail::pieces`].
    #[inline(always)]
    pub(crate) unsafe fn piece(&mut self, i: usize, len: usize) -> &mut [u8] {
        // SAFETY: by the caller's promise the bytes lie within the capacity of the slot's own, unshared buffer, which is
        // initialised memory; the packet is borrowed mutably as long as this.
        unsafe { std::slice::from_raw_parts_mut(self.end.wrapping_add(i * len), len) }
    }

    /// The next `n` bytes belong to the packet; all that are left, if there are fewer.
    #[inline(always)]
    pub(crate) fn take(&mut self, n: usize) {
        let n = n.min(self.room);
        self.end = self.end.wrapping_add(n);
        self.room -= n;
    }

    /// Bytes that were taken so far, in whichever slot.
    #[inline]
    pub fn bytes_taken(&self) -> usize {
        self.committed + (self.room_before - self.room)
    }

    /// Appends a slot with a frame of `len` bytes as a fragment, without the frame's first `skip` bytes. False, and nothing
    /// done, if it lies in another pool, the frame is not as long, or the packet is full.
    ///
    /// # Safety
    /// The caller owns the slot, one for frames out of a ring, and passes it on if the answer is true. No reference to its
    /// line lives.
    #[inline(always)]
    pub(crate) unsafe fn chain(&mut self, slot: SlotPtr, len: usize, skip: usize) -> bool {
        if self.is_full || skip > len || slot.base() != self.head.base() {
            return false;
        }
        self.commit();
        let start = LINE + RX_HEADROOM + skip;
        // SAFETY: by the caller's promise; the data lies in the slot, as frames in a ring do.
        unsafe { slot.init_fragment(start as i32, (len - skip) as u16) };
        // SAFETY: the last slot belongs to the packet, which is borrowed mutably, and no reference to its line lives.
        unsafe { self.last.link_mut() }.frag_next = slot.offset();
        self.first.get_or_insert(slot);
        self.last = slot;
        self.end = slot.byte((LINE + RX_HEADROOM + len) as i32);
        self.room = SlotClass::Frame.capacity() - RX_HEADROOM - len;
        self.room_before = self.room;
        self.grown += (len - skip) as u32;
        true
    }

    /// Writes the length of the last slot.
    #[inline(always)]
    fn commit(&mut self) {
        let taken = self.room_before - self.room;
        self.room_before = self.room;
        self.committed += taken;
        // SAFETY: the last slot belongs to the packet, which is borrowed mutably, and no reference to its line lives.
        unsafe { self.last.link_mut() }.len += taken as u16;
        if self.last != self.head {
            self.grown += taken as u32;
        }
    }
}

impl Drop for Tail<'_> {
    #[inline]
    fn drop(&mut self) {
        self.commit();
        if let Some(first) = self.first {
            // SAFETY: the head belongs to the packet, which is borrowed mutably, and no reference to its line lives.
            unsafe { self.head.link_mut() }.data_len += self.grown;
            // SAFETY: so does the first fragment.
            unsafe { first.link_mut() }.queue_next = Some(self.last);
        }
    }
}
