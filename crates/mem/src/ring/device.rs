//! The device's side of the ring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rxpath_trace::{PacketId, Time};

use super::core::Device;
use super::missed::{Missed, MissedFrame, RingStats};
use super::{EOP, EXTRA, Report, RxDesc, RxErrors, Side, attach_extra};
use crate::skb::Skb;
use crate::slot::{RX_HEADROOM, SlotClass, SlotPtr};

/// Bytes of a frame that one posted slot takes.
const ROOM: usize = SlotClass::Frame.capacity() - RX_HEADROOM;

/// Bits of a [`PacketId`] below the ring's number.
const ID_SHIFT: u32 = 40;

/// The device's side of a descriptor ring: fills posted slots and reports them.
pub struct RxDma {
    device: Device<SlotPtr, Report>,
    side: Arc<Side>,
    /// Identity of the next frame.
    next_id: u64,
    /// Frames offered and missed so far.
    offered: u64,
    stats: Arc<RingStats>,
}

impl RxDma {
    pub(super) fn new(device: Device<SlotPtr, Report>, side: Arc<Side>, ring_id: u16) -> RxDma {
        // From 1 on, so that no frame has the identity 0, which means none.
        let stats = side.stats.clone();
        RxDma { device, side, next_id: u64::from(ring_id) << ID_SHIFT | 1, offered: 0, stats }
    }

    /// Posted slots that wait for frames.
    #[inline]
    pub fn available(&mut self) -> usize {
        self.device.available()
    }

    /// Bytes of a frame that one slot takes; longer ones span several.
    pub const fn slot_room(&self) -> usize {
        ROOM
    }

    /// The next posted slot. None if there is none: a device that has a frame then says [`RxDma::missed`].
    ///
    /// A slot that is not completed stays posted: nothing has happened.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "what it gives borrows from the ring: no Iterator can")]
    pub fn next(&mut self) -> Option<DmaSlot<'_>> {
        let slot = self.device.buffer(0)?;
        Some(DmaSlot { dma: self, slot })
    }

    /// A frame of `len` bytes found no descriptor at time `at`. It is counted, and the driver learns of it.
    #[cold]
    pub fn missed(&mut self, len: u32, at: Time) -> Missed {
        let id = self.mint();
        let no_buffer = self.side.starved.load(Ordering::Relaxed);
        self.stats.frame_missed(no_buffer);
        self.side.missed.push(MissedFrame { id, at, len, no_buffer });
        Missed { id }
    }

    /// Copies a whole frame into as many slots as it takes. `desc.len` is set to its length.
    ///
    /// # Errors
    /// [`Missed`], which has been counted, if fewer slots are posted.
    #[inline]
    pub fn write_frame(&mut self, frame: &[u8], desc: RxDesc) -> Result<PacketId, Missed> {
        if frame.len() <= ROOM
            && let Some(mut slot) = self.next()
        {
            slot.buf()[..frame.len()].copy_from_slice(frame);
            return Ok(slot.complete(frame.len(), desc));
        }
        self.write_parts(&[frame], desc)
    }

    /// Copies a frame that lies in several pieces into as many slots as it takes.
    ///
    /// # Errors
    /// As [`RxDma::write_frame`].
    pub fn write_parts(&mut self, parts: &[&[u8]], desc: RxDesc) -> Result<PacketId, Missed> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let places = len.div_ceil(ROOM).max(1);
        if self.device.buffer(places - 1).is_none() {
            return Err(self.missed(u32::try_from(len).unwrap_or(u32::MAX), desc.at));
        }
        let id = self.mint();
        let mut bytes = Gather { parts, part: 0, off: 0 };
        let mut left = len;
        for place in 0..places {
            let n = left.min(ROOM);
            left -= n;
            if let Some(slot) = self.device.buffer(place) {
                // SAFETY: the place is the device's, and each slot is visited once.
                bytes.copy_to(&mut unsafe { room(slot) }[..n]);
            }
            let flags = if left == 0 { EOP } else { 0 };
            self.device.report(place, Report::new(id, n as u16, flags, desc));
        }
        self.finish(places);
        Ok(id)
    }

    /// Counters of the ring.
    pub fn stats(&self) -> Arc<RingStats> {
        self.stats.clone()
    }

    #[inline(always)]
    fn mint(&mut self) -> PacketId {
        let id = PacketId(self.next_id);
        self.next_id += 1;
        self.offered += 1;
        self.stats.offered_so_far(self.offered);
        id
    }

    #[inline(always)]
    fn finish(&mut self, places: usize) {
        self.device.complete(places);
    }
}

impl std::fmt::Debug for RxDma {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RxDma").field("next_id", &self.next_id).field("stats", &self.stats).finish()
    }
}

/// The room for frame data in a posted slot.
///
/// # Safety
/// The slot is posted, its place belongs to the device, and no other reference to its buffer lives in `'a`.
#[inline(always)]
unsafe fn room<'a>(slot: SlotPtr) -> &'a mut [u8] {
    let start = slot.buffer().wrapping_add(RX_HEADROOM);
    // SAFETY: a posted slot is of the frame class and nobody else's; its buffer is initialised memory.
    unsafe { std::slice::from_raw_parts_mut(start, ROOM) }
}

/// A posted slot in the device's hands.
#[must_use = "a slot that is not completed stays posted"]
pub struct DmaSlot<'a> {
    dma: &'a mut RxDma,
    slot: SlotPtr,
}

impl DmaSlot<'_> {
    /// Where the frame goes: 2,166 bytes.
    #[inline(always)]
    pub fn buf(&mut self) -> &mut [u8] {
        // SAFETY: the place belongs to the device, which is borrowed by this.
        unsafe { room(self.slot) }
    }

    /// The identity that the frame will have.
    #[inline]
    pub fn id(&self) -> PacketId {
        PacketId(self.dma.next_id)
    }

    /// Reports a frame of `len` bytes in [`DmaSlot::buf`]. `desc.len` is set to it. A `len` beyond the buffer is cut,
    /// and the frame marked [`RxErrors::OVERSIZE`].
    #[inline(always)]
    pub fn complete(self, len: usize, desc: RxDesc) -> PacketId {
        let id = self.dma.mint();
        self.dma.device.report(0, single(id, len, EOP, desc));
        self.dma.finish(1);
        id
    }

    /// As [`DmaSlot::complete`], for a frame whose first `len` bytes are here and whose rest is the data of `extra`: a
    /// packet that the device got from the pool and filled, with a large slot as a rule.
    ///
    /// # Errors
    /// Gives `extra` back, nothing having happened, if it lies in another pool than the slot.
    pub fn complete_with(self, len: usize, desc: RxDesc, extra: Skb) -> Result<PacketId, Skb> {
        if extra.slot().base() != self.slot.base() {
            return Err(extra);
        }
        let id = self.dma.mint();
        // SAFETY: the place belongs to the device.
        unsafe { attach_extra(self.slot, extra) };
        self.dma.device.report(0, single(id, len, EOP | EXTRA, desc));
        self.dma.finish(1);
        Ok(id)
    }

    /// Copies a frame that lies in several pieces into this slot and as many after it as it takes.
    ///
    /// # Errors
    /// [`Missed`], which has been counted, if fewer slots are posted.
    pub fn complete_chain(self, parts: &[&[u8]], desc: RxDesc) -> Result<PacketId, Missed> {
        self.dma.write_parts(parts, desc)
    }
}

/// The report of a frame in one place.
#[inline(always)]
fn single(id: PacketId, len: usize, flags: u8, mut desc: RxDesc) -> Report {
    if len > ROOM {
        desc.errors |= RxErrors::OVERSIZE;
    }
    Report::new(id, len.min(ROOM) as u16, flags, desc)
}

/// Reads bytes from several pieces in order.
struct Gather<'a> {
    parts: &'a [&'a [u8]],
    part: usize,
    off: usize,
}

impl Gather<'_> {
    /// Fills `to`; the pieces have as many bytes left.
    fn copy_to(&mut self, mut to: &mut [u8]) {
        while !to.is_empty()
            && let Some(part) = self.parts.get(self.part)
        {
            let n = to.len().min(part.len() - self.off);
            let (now, later) = to.split_at_mut(n);
            now.copy_from_slice(&part[self.off..self.off + n]);
            to = later;
            self.off += n;
            if self.off == part.len() {
                self.part += 1;
                self.off = 0;
            }
        }
    }
}
