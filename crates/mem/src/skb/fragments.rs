//! The chain: fragments behind the head, and what reads or shortens a packet across them.

use std::marker::PhantomData;

use super::user_pages::{is_user_pages, lent};
use super::{OfPacket, Skb, linear, linear_tailroom, slot_is_shared};
use crate::slot::{Link, SHARED, SlotPtr, VIEW};

impl Skb {
    /// Appends another packet's data behind this one's: its slots become fragments (`skb_shinfo(skb)->frag_list`).
    ///
    /// Lengths and truesizes add up; the other's metadata ends here, and the caller accounts for its end.
    ///
    /// # Errors
    /// Gives the other back if it lies in another pool or the sum does not fit 32 bits.
    #[inline]
    pub fn add_frag(&mut self, other: Skb) -> Result<(), Skb> {
        let Some(data_len) = (self.data_len() as u32).checked_add(other.len() as u32) else { return Err(other) };
        if !self.same_pool(&other) {
            return Err(other);
        }
        let truesize = other.truesize;
        let mut other = other;
        let first_of_other = other.first_frag();
        let tail_of_other = match first_of_other {
            // SAFETY: the first fragment belongs to `other`; it holds the tail.
            Some(first) => unsafe { first.link() }.queue_next.unwrap_or(first),
            None => other.slot(),
        };
        other.link_mut().data_len = 0;
        let added = other.into_slot();
        match self.first_frag() {
            None => {
                // SAFETY: the slot was handed over, and belongs to this packet now.
                unsafe { added.link_mut() }.queue_next = Some(tail_of_other);
                self.link_mut().frag_next = added.offset();
            }
            Some(first) => {
                // SAFETY: the first fragment belongs to this packet, and `&mut self` excludes others.
                let last = unsafe { first.link_mut() }.queue_next.replace(tail_of_other).unwrap_or(first);
                // SAFETY: so does the last.
                unsafe { last.link_mut() }.frag_next = added.offset();
            }
        }
        self.link_mut().data_len = data_len;
        self.truesize = self.truesize.wrapping_add(truesize);
        Ok(())
    }

    /// The data, piece by piece: linear first, then the fragments in order. Empty pieces are left out.
    #[inline]
    pub fn fragments(&self) -> Fragments<'_> {
        Fragments { next: Some(self.slot()), packet: PhantomData }
    }

    /// Number of fragments behind the head, empty ones included.
    pub fn frag_count(&self) -> usize {
        std::iter::successors(self.first_frag(), |slot| next_of(*slot)).count()
    }

    #[inline(always)]
    pub(super) fn first_frag(&self) -> Option<SlotPtr> {
        next_of(self.slot())
    }

    /// The last slot of the chain.
    #[inline(always)]
    pub(super) fn last_slot(&self) -> SlotPtr {
        match self.first_frag() {
            None => self.slot(),
            // SAFETY: the first fragment belongs to this packet; it holds the tail.
            Some(first) => unsafe { first.link() }.queue_next.unwrap_or(first),
        }
    }

    /// Bytes that [`Skb::extend_tail`] may take: behind the last fragment, or behind the linear data if there is none.
    #[inline]
    pub fn last_tailroom(&self) -> usize {
        let last = self.last_slot();
        // SAFETY: the last slot belongs to this packet.
        let link = unsafe { last.link() };
        if link.flags.get() & (SHARED | VIEW) != 0 && slot_is_shared(last, link) { 0 } else { linear_tailroom(link) }
    }

    /// Adds `n` bytes at the very end of the packet, in the last slot's tailroom, and gives them for writing, with
    /// whatever they contain. None, and nothing done, if [`Skb::last_tailroom`] is less.
    ///
    /// [`Skb::trim`] takes back what turns out to be wrong (a fused copy and checksum that fails).
    #[inline]
    pub fn extend_tail(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.last_tailroom() {
            return None;
        }
        let last = self.last_slot();
        if last != self.slot() {
            let data_len = self.link().data_len.checked_add(n as u32)?;
            self.link_mut().data_len = data_len;
        }
        // SAFETY: the last slot belongs to this packet, and `&mut self` excludes others.
        let link = unsafe { last.link_mut() };
        let end = link.data_off + i32::from(link.len);
        link.len += n as u16;
        // SAFETY: the bytes lie within the capacity of the slot's own, unshared buffer, which is initialised memory.
        Some(unsafe { std::slice::from_raw_parts_mut(last.byte(end), n) })
    }

    /// Copies `bytes` behind the end of the packet. False, and nothing done, if [`Skb::last_tailroom`] is less.
    #[inline]
    #[must_use = "false means that nothing was copied"]
    pub fn append_bytes(&mut self, bytes: &[u8]) -> bool {
        match self.extend_tail(bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Cuts the packet to `new_len` bytes (`pskb_trim`); does nothing if it is not longer. Fragments that become empty
    /// stay in the chain.
    #[inline]
    pub fn trim(&mut self, new_len: usize) {
        let head = self.headlen();
        if new_len >= self.len() {
            return;
        }
        if self.data_len() == 0 {
            self.link_mut().len = new_len as u16;
            return;
        }
        let link = self.link_mut();
        link.len = head.min(new_len) as u16;
        link.data_len = new_len.saturating_sub(head) as u32;
        let mut left = new_len.saturating_sub(head);
        self.for_each_frag(|frag| {
            let keep = left.min(usize::from(frag.len));
            frag.len = keep as u16;
            left -= keep;
            true
        });
    }

    /// Drops `n` bytes off the front, across fragments (`__pskb_pull` without the copy); all, if there are fewer.
    /// Fragments that become empty stay in the chain.
    #[inline]
    pub fn consume_front(&mut self, n: usize) {
        let head = self.headlen();
        if n <= head {
            advance(self.link_mut(), n);
            return;
        }
        advance(self.link_mut(), head);
        let mut left = (n - head).min(self.data_len());
        self.link_mut().data_len -= left as u32;
        self.for_each_frag(|frag| {
            let step = left.min(usize::from(frag.len));
            advance(frag, step);
            left -= step;
            left > 0
        });
    }

    /// Runs `f` over the fragments until it says false.
    fn for_each_frag(&mut self, mut f: impl FnMut(&mut Link) -> bool) {
        let mut next = self.first_frag();
        while let Some(slot) = next {
            // SAFETY: fragments belong to this packet, `&mut self` excludes others, and the reference ends with `f`.
            if !f(unsafe { slot.link_mut() }) {
                return;
            }
            next = next_of(slot);
        }
    }

    /// Copies bytes from `off` on into `to` (`skb_copy_bits`); gives how many there were.
    pub fn copy_to(&self, off: usize, to: &mut [u8]) -> usize {
        let mut skip = off;
        let mut done = 0;
        for piece in self.fragments() {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let n = (piece.len() - skip).min(to.len() - done);
            to[done..done + n].copy_from_slice(&piece[skip..skip + n]);
            skip = 0;
            done += n;
            if done == to.len() {
                break;
            }
        }
        done
    }
}

/// Takes `n` bytes off the front of one slot's data; there are as many.
#[inline(always)]
fn advance(link: &mut Link, n: usize) {
    link.len -= n as u16;
    link.data_off += n as i32;
}

/// The slot behind `slot` in the chain of a packet that the caller holds.
#[inline(always)]
pub(super) fn next_of(slot: SlotPtr) -> Option<SlotPtr> {
    // SAFETY: the callers, all in this module's parent, hold the packet that `slot` belongs to, and no `&mut` to a
    // link.
    let next = unsafe { slot.link() }.frag_next;
    // SAFETY: chains link slots of one region.
    unsafe { slot.sibling(next) }
}

/// The pieces of a packet's data, see [`Skb::fragments`].
#[derive(Clone)]
pub struct Fragments<'a> {
    next: Option<SlotPtr>,
    packet: OfPacket<'a>,
}

impl<'a> Iterator for Fragments<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while let Some(slot) = self.next {
            self.next = next_of(slot);
            // SAFETY: the slot belongs to the packet, which is borrowed for 'a.
            let is_lent = is_user_pages(unsafe { slot.link() });
            // SAFETY: as above, and the flags were looked at.
            let piece: &'a [u8] = if is_lent { unsafe { lent(slot, self.packet) } } else { unsafe { linear(slot) } };
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    }
}
