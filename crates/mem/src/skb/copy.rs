//! Clones and copies.
//!
//! A clone owns its metadata and shares the data: for every slot of the original's chain it has a head slot whose line
//! points into that slot's buffer, a *view*. The slot that the data lies in (its *owner*) counts its users in the
//! pool's side array, and stays until the last of them ends, be it the original or a view. A view of a view is a view
//! of the owner.

use std::marker::PhantomData;

use crate::pool::{Header, PagePool};
use crate::returns::{Returns, Token};
use crate::skb::Skb;
use crate::skb::fragments::next_of;
use crate::skb::user_pages::{is_user_pages, lent, owner};
use crate::slot::{LINE, RX_HEADROOM, SHARED, SkbMeta, SlotClass, SlotPtr, VIEW};

impl Skb {
    /// A clone: own metadata (a copy, identity included), shared data (`skb_clone`).
    ///
    /// Takes one head slot per slot of this packet from `pool`. If the packet lies in another pool, the data is copied
    /// instead ([`Skb::copy`]), and so is what the application lent ([`Skb::add_user_pages`]). None if the pool runs dry.
    pub fn clone_shared(&self, pool: &mut PagePool) -> Option<Skb> {
        if !pool.owns(self) {
            return self.copy(pool);
        }
        let mut clone = view(self.slot(), pool)?;
        *clone = SkbMeta::clone(self);
        let truesize = clone.truesize;
        let mut next = self.first_frag();
        while let Some(slot) = next {
            next = next_of(slot);
            if !chain(&mut clone, view_or_copy(slot, pool), pool) {
                pool.free(clone);
                return None;
            }
        }
        clone.truesize = truesize;
        clone.set_traced(self.traced());
        Some(clone)
    }

    /// A copy: own metadata and own data, fragment by fragment, header offsets preserved (`skb_copy`).
    ///
    /// None if `pool` runs dry.
    pub fn copy(&self, pool: &mut PagePool) -> Option<Skb> {
        let mut copy = self.copy_head(pool)?;
        self.note_copied();
        for piece in self.fragments().skip(usize::from(self.headlen() != 0)) {
            if !chain(&mut copy, copy_piece(piece, pool), pool) {
                pool.free(copy);
                return None;
            }
        }
        copy.truesize = self.truesize;
        Some(copy)
    }

    /// Makes the linear data this packet's own, by copying it if it is shared (`skb_unclone`, `skb_cow`).
    ///
    /// False, and nothing done, if `pool` runs dry. Fragments stay shared: only linear data is ever written in place.
    pub fn make_writable(&mut self, pool: &mut PagePool) -> bool {
        if !self.is_shared() {
            return true;
        }
        if !pool.owns(self) {
            let Some(copy) = self.copy(pool) else { return false };
            Returns::new().push(std::mem::replace(self, copy));
            return true;
        }
        let Some(mut copy) = self.copy_head(pool) else { return false };
        copy.link_mut().frag_next = std::mem::take(&mut self.link_mut().frag_next);
        copy.link_mut().data_len = std::mem::take(&mut self.link_mut().data_len);
        copy.truesize = self.truesize;
        pool.free(std::mem::replace(self, copy));
        true
    }

    /// A packet with this one's metadata and a copy of its buffer up to the end of the linear data.
    fn copy_head(&self, pool: &mut PagePool) -> Option<Skb> {
        let start = self.data_offset();
        let end = start + self.headlen();
        let mut copy = pool.alloc_class(smallest(end)?)?;
        *copy = SkbMeta::clone(self);
        copy.set_traced(self.traced());
        copy.set_priority(self.priority());
        copy.link_mut().data_off = LINE as i32;
        copy.put(end).copy_from_slice(self.head_bytes(0, end));
        advance_to(&mut copy, start);
        Some(copy)
    }
}

/// Leaves the first `start` bytes behind: headers that were pulled.
fn advance_to(copy: &mut Skb, start: usize) {
    let pulled = copy.pull(start);
    debug_assert!(pulled, "the data begins within the buffer");
}

/// The smallest class whose buffer holds `len` bytes.
fn smallest(len: usize) -> Option<SlotClass> {
    [SlotClass::Head, SlotClass::Frame, SlotClass::Large].into_iter().find(|class| len <= class.capacity())
}

/// One fragment's bytes in a slot of its own.
fn copy_piece(piece: &[u8], pool: &mut PagePool) -> Option<Skb> {
    let headroom = if piece.len() + RX_HEADROOM <= SlotClass::Large.capacity() { RX_HEADROOM } else { 0 };
    let mut copy = pool.alloc_class(smallest(piece.len() + headroom)?)?;
    copy.link_mut().data_off = (LINE + headroom) as i32;
    copy.put(piece.len()).copy_from_slice(piece);
    Some(copy)
}

/// Chains a fragment from the same pool behind `skb`. False if there is none; one that does not fit is freed.
fn chain(skb: &mut Skb, fragment: Option<Skb>, pool: &mut PagePool) -> bool {
    fragment.is_some_and(|fragment| skb.add_frag(fragment).map_err(|refused| pool.free(refused)).is_ok())
}

/// A view of the data of one fragment of a packet in `pool` that the caller holds; a copy, if it is the application's.
fn view_or_copy(of: SlotPtr, pool: &mut PagePool) -> Option<Skb> {
    // SAFETY: the caller holds the packet that `of` belongs to, so its line is stable.
    if !is_user_pages(unsafe { of.link() }) {
        return view(of, pool);
    }
    // SAFETY: as above, and the flags were looked at.
    unsafe { owner(of) }.note_copied();
    // SAFETY: as above, and the packet stays as it is until this returns.
    copy_piece(unsafe { lent(of, PhantomData) }, pool)
}

/// A view of the data of one slot of a packet in `pool` that the caller holds.
fn view(of: SlotPtr, pool: &mut PagePool) -> Option<Skb> {
    // SAFETY: the callers hold the packet that `of` belongs to, so its line is stable.
    let link = unsafe { of.link() };
    let mut view = pool.alloc_head()?;
    let is_view = link.flags.get() & VIEW != 0;
    let owner = if is_view {
        // SAFETY: `of` is a view in a packet that the caller holds.
        unsafe { of.owner_of_view() }
    } else {
        Token::new(of.offset(), link.class)
    };
    let first = !is_view && link.flags.get() & SHARED == 0;
    // SAFETY: the packet is a user of that slot; the only one if it is its own and was never shared.
    unsafe { Header::join_shared(of.base(), owner, first) };
    if !is_view {
        link.flags.set(link.flags.get() | SHARED);
    }
    let slot = view.slot();
    let distance = of.byte(link.data_off).addr() as isize - slot.byte(0).addr() as isize;
    let mine = view.link_mut();
    mine.data_off = distance as i32;
    mine.len = link.len;
    mine.flags.set(VIEW);
    // SAFETY: the head slot is the view's alone, and its buffer stays empty.
    unsafe { slot.set_owner_of_view(owner) };
    Some(view)
}
