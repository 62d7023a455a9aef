//! The application's own memory as fragments of packets that are sent (`MSG_ZEROCOPY`).
//!
//! Such a fragment is a head slot whose buffer holds a reference to the owner of the bytes, in place of the bytes. It is
//! read like any other and never written. It is always a fragment, never the head of a packet, and the reference goes when
//! the packet ends, wherever that is. A clone does not take part: it gets a copy, so that nobody who keeps clones (a packet
//! socket, whose reader may never come) keeps the application's memory (`skb_orphan_frags`).

use std::sync::Arc;

use super::{OfPacket, Skb};
use crate::pool::PagePool;
use crate::slot::{Link, SHARED, SlotPtr, VIEW};

/// Memory that the application lends to packets.
pub trait UserPages: Send + Sync {
    /// The bytes: always the same, for as long as this is referred to.
    fn bytes(&self) -> &[u8];

    /// Some of them had to be copied after all.
    fn note_copied(&self);
}

/// The flags of a slot whose data is the application's: a view is never marked as shared.
pub(crate) const USER_PAGES: u8 = SHARED | VIEW;

/// True if the data of a slot is the application's.
#[inline(always)]
pub(super) fn is_user_pages(link: &Link) -> bool {
    link.flags.get() & USER_PAGES == USER_PAGES
}

type Pages = Arc<dyn UserPages>;

const _: () = assert!(align_of::<Pages>() <= crate::slot::LINE && size_of::<Pages>() <= 256);

impl Skb {
    /// Appends `len` of the application's bytes, from `from` on, as a fragment: `pages` is referred to until the packet
    /// ends. False, and nothing done, if `pool` is dry or another one's than the packet's, if there are not as many bytes, or
    /// more than 65,535, or if they lie beyond 2 GiB.
    #[must_use = "false means that nothing was added"]
    pub fn add_user_pages(&mut self, pool: &mut PagePool, pages: Pages, from: usize, len: usize) -> bool {
        let (Ok(data_off), Ok(short)) = (i32::try_from(from), u16::try_from(len)) else { return false };
        if !pool.owns(self) || pages.bytes().len() < from.saturating_add(len) {
            return false;
        }
        let Some(mut piece) = pool.alloc_head() else { return false };
        let place = piece.slot().buffer().cast::<Pages>();
        // SAFETY: the slot is the piece's alone, its buffer holds no data, is long enough and aligned to a line. From here on
        // the flags say what lies there.
        unsafe { place.write(pages) };
        let link = piece.link_mut();
        (link.data_off, link.len) = (data_off, short);
        link.flags.set(USER_PAGES);
        self.add_frag(piece).map_err(|refused| pool.free(refused)).is_ok()
    }

    /// True if fragments are the application's.
    pub fn has_user_pages(&self) -> bool {
        self.pages().next().is_some()
    }

    /// Bytes of the packet were copied: whoever lent some of them is told.
    pub fn note_copied(&self) {
        self.pages().for_each(UserPages::note_copied);
    }

    fn pages(&self) -> impl Iterator<Item = &dyn UserPages> {
        let slots = std::iter::successors(self.first_frag(), |slot| super::fragments::next_of(*slot));
        // SAFETY: fragments belong to this packet, which is borrowed.
        slots.filter(|slot| is_user_pages(unsafe { slot.link() })).map(|slot| unsafe { owner(slot) })
    }
}

/// Who lends the data of a slot.
///
/// # Safety
/// The slot's data is the application's, and it is part of a packet that is alive for `'a`.
pub(super) unsafe fn owner<'a>(slot: SlotPtr) -> &'a dyn UserPages {
    // SAFETY: by the caller's promise the reference lies there, and stays until the packet ends.
    let pages: &'a Pages = unsafe { &*slot.buffer().cast::<Pages>() };
    &**pages
}

/// The data of a slot that the application lends.
///
/// # Safety
/// As for `owner`; the packet is what `of` borrows.
#[cold]
pub(super) unsafe fn lent<'a>(slot: SlotPtr, _of: OfPacket<'a>) -> &'a [u8] {
    // SAFETY: by the caller's promise.
    let link = unsafe { slot.link() };
    // SAFETY: likewise.
    let owner = unsafe { owner(slot) };
    let from = link.data_off as usize;
    owner.bytes().get(from..from + usize::from(link.len)).unwrap_or_default()
}

/// The packet ends: the reference that a slot holds goes.
///
/// # Safety
/// The slot's data is the application's, the caller owns the slot, and does not use its data any more.
#[cold]
pub(super) unsafe fn let_go(slot: SlotPtr) {
    // SAFETY: by the caller's promise the reference lies there and is not used again.
    drop(unsafe { slot.buffer().cast::<Pages>().read() });
}

#[cfg(all(test, not(loom)))]
mod tests;
