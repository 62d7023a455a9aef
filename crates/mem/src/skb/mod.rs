//! The packet handle (`struct sk_buff`).
//!
//! An [`Skb`] owns a chain of slots of one pool: the head, whose line holds the metadata and whose buffer holds the
//! linear data, and fragments behind it, of which only the lengths and the place of the data matter. Every line in the
//! chain belongs to this packet alone, always; only *buffers* are ever shared, by views (`copy.rs`). Of packets that are sent,
//! fragments may lie in the application's memory (`user_pages.rs`).
//!
//! Places in the linear buffer are told by offset from its start (`skb->head`), so header offsets stay right however
//! much is pulled.

mod copy;
mod fragments;
mod tail;
mod user_pages;

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

pub use fragments::Fragments;
pub use tail::Tail;
pub use user_pages::UserPages;

use crate::pool::Header;
use crate::returns::{Returns, Token};
use crate::slot::{
    LINE, Link, PRIORITY_SHIFT, REDIRECTED, REGION_SIZE, SHARED, SkbMeta, SlotClass, SlotPtr, TRACED, VIEW,
};

/// An owned packet: eight bytes, moved from room to room.
///
/// Public metadata are plain fields of [`SkbMeta`], reached by dereferencing. A packet must be ended: by
/// [`crate::PagePool::free`], [`crate::Returns::push`], or by adding it to another. One that goes out of scope instead
/// still gives its slots back, but panics in debug builds (unless already unwinding) and is counted in
/// [`crate::PoolStats::not_specified`].
#[must_use = "a packet must be ended: freed to a pool, pushed to Returns, or added to another"]
#[repr(transparent)]
pub struct Skb(SlotPtr);

const _: () = assert!(size_of::<Option<Skb>>() == size_of::<usize>());

impl Deref for Skb {
    type Target = SkbMeta;

    #[inline(always)]
    fn deref(&self) -> &SkbMeta {
        // SAFETY: this handle owns the line; references to the public half come only from here and from `deref_mut`.
        unsafe { self.0.meta() }
    }
}

impl DerefMut for Skb {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut SkbMeta {
        // SAFETY: as in `deref`, and `&mut self` excludes all others.
        unsafe { self.0.meta_mut() }
    }
}

impl Skb {
    /// Makes a handle of a slot.
    ///
    /// # Safety
    /// The slot's line is initialised; the caller owns the slot and all that is chained behind it, and passes them on.
    #[inline(always)]
    pub(crate) unsafe fn from_slot(slot: SlotPtr) -> Skb {
        Skb(slot)
    }

    /// Dissolves the handle: the caller now owns the chain.
    #[inline(always)]
    pub(crate) fn into_slot(self) -> SlotPtr {
        let slot = self.0;
        std::mem::forget(self);
        slot
    }

    #[inline(always)]
    pub(crate) fn slot(&self) -> SlotPtr {
        self.0
    }

    #[inline(always)]
    pub(crate) fn link(&self) -> &Link {
        // SAFETY: this handle owns the line; `&mut` to this half comes only from `link_mut`.
        unsafe { self.0.link() }
    }

    #[inline(always)]
    pub(crate) fn link_mut(&mut self) -> &mut Link {
        // SAFETY: this handle owns the line, and `&mut self` excludes all other references that it gave out.
        unsafe { self.0.link_mut() }
    }

    // ---- lengths ----

    /// Bytes in the packet: linear and fragments (`skb->len`).
    #[inline(always)]
    pub fn len(&self) -> usize {
        let link = self.link();
        usize::from(link.len) + link.data_len as usize
    }

    /// True if there is no byte.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of linear data (`skb_headlen`).
    #[inline(always)]
    pub fn headlen(&self) -> usize {
        usize::from(self.link().len)
    }

    /// Bytes in fragments (`skb->data_len`).
    #[inline(always)]
    pub fn data_len(&self) -> usize {
        self.link().data_len as usize
    }

    /// Bytes that [`Skb::push`] may take: 0 if the data is shared (`skb_headroom`).
    #[inline]
    pub fn headroom(&self) -> usize {
        if self.is_shared() { 0 } else { self.data_offset() }
    }

    /// Bytes that [`Skb::put`] may take: 0 if the data is shared or fragments follow (`skb_tailroom`).
    #[inline]
    pub fn tailroom(&self) -> usize {
        if self.data_len() != 0 || self.is_shared() { 0 } else { linear_tailroom(self.link()) }
    }

    // ---- linear data ----

    /// The linear data (`skb->data`).
    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        // SAFETY: this packet is a user of the data; writers need `&mut self` and unshared data.
        unsafe { linear(self.0) }
    }

    /// The linear data, for writing.
    ///
    /// # Panics
    /// If the data is shared ([`Skb::is_shared`]): [`Skb::make_writable`] comes first.
    #[inline(always)]
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.assert_unshared();
        let (at, len) = (self.0.byte(self.link().data_off), self.headlen());
        // SAFETY: the data lies in this packet's own buffer (a view counts as shared), nobody else uses it, and it is
        // initialised memory; `&mut self` excludes other references from this handle.
        unsafe { std::slice::from_raw_parts_mut(at, len) }
    }

    /// Offset of the linear data in its buffer: what the header offsets are relative to.
    #[inline(always)]
    pub fn data_offset(&self) -> usize {
        let link = self.link();
        if link.flags.get() & VIEW == 0 { (link.data_off - LINE as i32) as usize } else { self.data_offset_of_view() }
    }

    #[cold]
    fn data_offset_of_view(&self) -> usize {
        self.0.byte(self.link().data_off).addr() - self.buffer().addr()
    }

    /// Start of the buffer that the linear data lies in.
    #[inline(always)]
    fn buffer(&self) -> *mut u8 {
        if self.link().flags.get() & VIEW == 0 {
            return self.0.buffer();
        }
        // SAFETY: this handle owns the slot, and it is a view.
        let owner = unsafe { self.0.owner_of_view() };
        // SAFETY: a view's owner lies in the same region.
        unsafe { SlotPtr::at(self.0.base(), owner.offset()) }.buffer()
    }

    /// Moves the start of an empty packet's data back by `n`, for headers to be pushed (`skb_reserve`).
    ///
    /// # Panics
    /// If the packet is not empty or there is less room.
    #[inline]
    pub fn reserve(&mut self, n: usize) {
        assert!(self.is_empty() && n <= self.tailroom(), "skb_reserve: {n} bytes do not fit");
        self.link_mut().data_off += n as i32;
    }

    /// Adds `n` bytes at the end and gives them, with whatever they contain (`skb_put`).
    ///
    /// # Panics
    /// If [`Skb::tailroom`] is less (`skb_over_panic`).
    #[inline]
    pub fn put(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.tailroom(), "skb_over_panic: {n} bytes do not fit");
        let link = self.link_mut();
        let end = link.data_off + i32::from(link.len);
        link.len += n as u16;
        // SAFETY: the bytes lie within the capacity of the packet's own, unshared buffer, which is initialised memory.
        unsafe { std::slice::from_raw_parts_mut(self.0.byte(end), n) }
    }

    /// Adds `n` bytes at the front and gives them (`skb_push`).
    ///
    /// # Panics
    /// If [`Skb::headroom`] is less (`skb_under_panic`).
    #[inline]
    pub fn push(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.headroom(), "skb_under_panic: {n} bytes do not fit");
        let link = self.link_mut();
        link.data_off -= n as i32;
        link.len += n as u16;
        let start = link.data_off;
        // SAFETY: the bytes lie within the packet's own, unshared buffer, which is initialised memory.
        unsafe { std::slice::from_raw_parts_mut(self.0.byte(start), n) }
    }

    /// Takes `n` bytes off the front of the linear data (`skb_pull`). False, and nothing done, if there are fewer.
    #[inline(always)]
    #[must_use = "false means that nothing was pulled"]
    pub fn pull(&mut self, n: usize) -> bool {
        let link = self.link_mut();
        if n > usize::from(link.len) {
            return false;
        }
        link.len -= n as u16;
        link.data_off += n as i32;
        true
    }

    /// Brings `n` bytes that were pulled back to the front, without touching them: also for shared data (what a packet
    /// socket does to see the link header again). False, and nothing done, if the buffer does not reach that far.
    #[inline]
    #[must_use = "false means that nothing was brought back"]
    pub fn unpull(&mut self, n: usize) -> bool {
        if n > self.data_offset() {
            return false;
        }
        let link = self.link_mut();
        link.len += n as u16;
        link.data_off -= n as i32;
        true
    }

    // ---- headers ----

    /// Up to `len` bytes at `from_off` of the buffer, pulled or not; what lies behind the linear data is cut off.
    #[inline]
    pub fn head_bytes(&self, from_off: u16, len: usize) -> &[u8] {
        let all = self.at_offset(from_off);
        &all[..len.min(all.len())]
    }

    /// The buffer from `off` to the end of the linear data.
    #[inline(always)]
    fn at_offset(&self, off: u16) -> &[u8] {
        let end = self.data_offset() + self.headlen();
        let from = usize::from(off).min(end);
        let start = self.buffer().wrapping_add(from);
        // SAFETY: `from..end` lies within the buffer that this packet is a user of; initialised memory, and writers
        // need `&mut self` and unshared data.
        unsafe { std::slice::from_raw_parts(start, end - from) }
    }

    /// As `at_offset`, for writing.
    #[inline]
    fn at_offset_mut(&mut self, off: u16) -> &mut [u8] {
        self.assert_unshared();
        let end = self.data_offset() + self.headlen();
        let from = usize::from(off).min(end);
        let start = self.buffer().wrapping_add(from);
        // SAFETY: as in `at_offset`; unshared, and `&mut self` excludes other references.
        unsafe { std::slice::from_raw_parts_mut(start, end - from) }
    }

    /// From the network header to the end of the linear data (`skb_network_header`).
    #[inline(always)]
    pub fn network_header(&self) -> &[u8] {
        self.at_offset(self.network_off)
    }

    /// From the transport header to the end of the linear data (`skb_transport_header`).
    #[inline(always)]
    pub fn transport_header(&self) -> &[u8] {
        self.at_offset(self.transport_off)
    }

    /// As [`Skb::network_header`], for writing.
    ///
    /// # Panics
    /// If the data is shared.
    #[inline]
    pub fn network_header_mut(&mut self) -> &mut [u8] {
        self.at_offset_mut(self.network_off)
    }

    /// As [`Skb::transport_header`], for writing.
    ///
    /// # Panics
    /// If the data is shared.
    #[inline]
    pub fn transport_header_mut(&mut self) -> &mut [u8] {
        self.at_offset_mut(self.transport_off)
    }

    /// The network header begins where the data begins now (`skb_reset_network_header`).
    #[inline(always)]
    pub fn set_network_header_here(&mut self) {
        self.network_off = self.data_offset() as u16;
    }

    /// The transport header begins where the data begins now (`skb_reset_transport_header`).
    #[inline(always)]
    pub fn set_transport_header_here(&mut self) {
        self.transport_off = self.data_offset() as u16;
    }

    // ---- sharing and identity ----

    /// True if another packet uses the linear data too, or the data lies in another packet's buffer (`skb_cloned`).
    #[inline(always)]
    pub fn is_shared(&self) -> bool {
        self.link().flags.get() & (SHARED | VIEW) != 0 && slot_is_shared(self.0, self.link())
    }

    #[inline(always)]
    fn assert_unshared(&self) {
        assert!(!self.is_shared(), "writing to shared data: make_writable comes first");
    }

    /// True if the packet's life is recorded.
    #[inline(always)]
    pub fn traced(&self) -> bool {
        self.link().flags.get() & TRACED != 0
    }

    /// Says whether the packet's life is recorded.
    #[inline(always)]
    pub fn set_traced(&mut self, traced: bool) {
        let flags = self.link_mut().flags.get_mut();
        *flags = *flags & !TRACED | if traced { TRACED } else { 0 };
    }

    /// True if a program sent the packet here from elsewhere (`skb_is_redirected`).
    #[inline(always)]
    pub fn redirected(&self) -> bool {
        self.link().flags.get() & REDIRECTED != 0
    }

    /// What programs noted of the packet, 0 in a fresh one (`skb_metadata`). It lies where TCP keeps sequence numbers: whoever
    /// comes before TCP may read it, and nobody behind.
    #[inline(always)]
    pub fn metadata(&self) -> u64 {
        u64::from(self.seq) << 32 | u64::from(self.end_seq)
    }

    /// Notes something of the packet for those who see it later, before TCP has it.
    #[inline(always)]
    pub fn set_metadata(&mut self, word: u64) {
        (self.seq, self.end_seq) = ((word >> 32) as u32, word as u32);
    }

    /// Says that a program sent the packet elsewhere (`skb_set_redirected`); it stays so.
    #[inline(always)]
    pub fn set_redirected(&mut self) {
        *self.link_mut().flags.get_mut() |= REDIRECTED;
    }

    /// The packet's priority (`skb->priority`), 0 to 15 (`TC_PRIO_MAX`); 0 in a fresh one, and in a clone.
    pub fn priority(&self) -> u8 {
        self.link().flags.get() >> PRIORITY_SHIFT
    }

    /// Gives the packet a priority; of one beyond 15, the lower four bits.
    pub fn set_priority(&mut self, priority: u8) {
        let flags = self.link_mut().flags.get_mut();
        *flags = *flags & !(u8::MAX << PRIORITY_SHIFT) | priority << PRIORITY_SHIFT;
    }

    /// Identity of the pool that the packet lies in: unique among live pools.
    #[inline]
    pub fn pool_id(&self) -> usize {
        self.0.base().addr().get() / REGION_SIZE
    }

    /// True if both packets lie in the same pool.
    #[inline(always)]
    pub fn same_pool(&self, other: &Skb) -> bool {
        self.0.base() == other.0.base()
    }

    /// Size class of the packet's head slot.
    #[inline]
    pub fn class(&self) -> SlotClass {
        self.link().class
    }
}

impl Drop for Skb {
    #[inline(always)]
    fn drop(&mut self) {
        // By value: a handle whose address is taken in some cold corner cannot live in a register anywhere else.
        abandon(self.0);
    }
}

/// Ends a packet that went out of scope.
#[cold]
#[inline(never)]
fn abandon(slot: SlotPtr) {
    // SAFETY: the handle went out of scope with this call; nothing uses the slots after it.
    let skb = unsafe { Skb::from_slot(slot) };
    let id = skb.id;
    // SAFETY: the packet keeps its region alive.
    unsafe { Header::count_not_specified(slot.base()) };
    Returns::new().push(skb);
    if cfg!(debug_assertions) && !std::thread::panicking() {
        panic!("packet {id:?} went out of scope without having been ended");
    }
}

impl std::fmt::Debug for Skb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Skb")
            .field("len", &self.len())
            .field("data_len", &self.data_len())
            .field("data_offset", &self.data_offset())
            .field("class", &self.class())
            .field("shared", &self.is_shared())
            .field("meta", &**self)
            .finish()
    }
}

/// Bytes behind the linear data of a slot that is no view.
#[inline(always)]
fn linear_tailroom(link: &Link) -> usize {
    LINE + link.class.capacity() - link.data_off as usize - usize::from(link.len)
}

/// The linear data of one slot.
///
/// # Safety
/// The slot is part of a packet that is alive for `'a`, its data is not written in that time.
#[inline(always)]
unsafe fn linear<'a>(slot: SlotPtr) -> &'a [u8] {
    // SAFETY: by the caller's promise the line is initialised and not written.
    let link = unsafe { slot.link() };
    // SAFETY: `data_off` and `len` lie within one buffer of the region by construction; initialised memory.
    unsafe { std::slice::from_raw_parts(slot.byte(link.data_off), usize::from(link.len)) }
}

/// True if the data of a slot with [`SHARED`] or [`VIEW`] may not be written. `link` is the slot's.
#[cold]
fn slot_is_shared(slot: SlotPtr, link: &Link) -> bool {
    // A view is never written, even when it is the last user: its room is another slot's.
    // SAFETY: whoever has `link` has the packet, which is a user of the slot.
    link.flags.get() & VIEW != 0 || !unsafe { Header::alone(slot.base(), Token::new(slot.offset(), link.class)) }
}

/// Dissolves a packet: hands every slot that has no user left to `give`.
///
/// # Safety
/// The caller owns the chain that begins at `slot`, and gives it up; `give` takes ownership of what it is given.
pub(crate) unsafe fn release(slot: SlotPtr, mut give: impl FnMut(NonNull<Header>, Token)) {
    let base = slot.base();
    let mut next = Some(slot);
    while let Some(slot) = next {
        // SAFETY: the caller owns the chain; nothing of this slot is used once it is given.
        let link = unsafe { slot.link() };
        let flags = link.flags.get();
        let token = Token::new(slot.offset(), link.class);
        // SAFETY: chains link slots of one region.
        next = unsafe { slot.sibling(link.frag_next) };
        if user_pages::is_user_pages(link) {
            // SAFETY: the caller owns the slot and gives it up.
            unsafe { user_pages::let_go(slot) };
            give(base, token);
        } else if flags & VIEW != 0 {
            // SAFETY: the slot is a view that the caller owns.
            let owner = unsafe { slot.owner_of_view() };
            // SAFETY: the view is a user of its owner's slot, and ends here. Its own slot keeps the region alive.
            if unsafe { Header::leave_shared(base, owner) } {
                give(base, owner);
            }
            give(base, token);
        } else if flags & SHARED == 0 {
            give(base, token);
        } else {
            // SAFETY: the packet is a user of its slot, and ends here.
            if unsafe { Header::leave_shared(base, token) } {
                give(base, token);
            }
        }
    }
}

/// Ties what borrows from a packet to it.
pub(crate) type OfPacket<'a> = PhantomData<&'a Skb>;
