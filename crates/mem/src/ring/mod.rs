//! The RX descriptor ring between a device and its driver.
//!
//! The driver ([`RxRing`]) posts empty slots; the device ([`RxDma`]) writes frames straight into them and reports
//! each with a descriptor ([`RxDesc`]). A frame that is longer than a slot spans several, or brings a large slot along;
//! all its places are handed over at once, so that the driver never sees half a frame. Metadata lines are written when
//! a frame is *taken*, with everything that the descriptor says: one line per packet, once. A frame that is merged
//! elsewhere while it still lies in the ring ([`RxRing::peek`]) gets none at all.
//!
//! The identity of a frame is minted when the device offers it, so that a frame that finds no descriptor has one too.

mod core;
mod device;
mod driver;
mod missed;

use std::sync::Arc;

use rxpath_trace::{PacketId, Time};

pub use self::device::{DmaSlot, RxDma};
pub use self::driver::{Alike, FrameUser, Harvest, Peek, RxRing};
pub use self::missed::{Missed, MissedFrame, RingStats};
use crate::returns::give_slot_back;
use crate::skb::Skb;
use crate::slot::{IpSummed, SlotClass, SlotPtr};

/// What is wrong with a received frame, as the device saw it: bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RxErrors(pub u8);

impl RxErrors {
    /// Nothing.
    pub const NONE: RxErrors = RxErrors(0);
    /// The frame check sequence is wrong (`rx_crc_errors`).
    pub const CRC: RxErrors = RxErrors(1);
    /// Shorter than the shortest frame (`rx_short_length_errors`).
    pub const RUNT: RxErrors = RxErrors(2);
    /// Longer than the device takes (`rx_long_length_errors`).
    pub const OVERSIZE: RxErrors = RxErrors(4);
    /// The length in the frame and the length of the frame disagree (`rx_length_errors`).
    pub const LENGTH: RxErrors = RxErrors(8);
    /// Not a whole number of octets (`rx_align_errors`).
    pub const ALIGNMENT: RxErrors = RxErrors(16);
    /// The device lost part of it (`rx_fifo_errors`).
    pub const FIFO: RxErrors = RxErrors(32);

    /// True if nothing is wrong.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if all of `other` is set.
    #[inline(always)]
    pub const fn contains(self, other: RxErrors) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for RxErrors {
    type Output = RxErrors;

    #[inline(always)]
    fn bitor(self, other: RxErrors) -> RxErrors {
        RxErrors(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for RxErrors {
    #[inline(always)]
    fn bitor_assign(&mut self, other: RxErrors) {
        self.0 |= other.0;
    }
}

/// What a device reports of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxDesc {
    /// Length of the frame in bytes. The ring sets it to what was written.
    pub len: u32,
    /// Flow hash of the device; 0: none.
    pub hash: u32,
    /// What the device knows of the transport checksum.
    pub csum: IpSummed,
    /// Payload bytes per segment of a super-frame; 0: an ordinary frame.
    pub gso_size: u16,
    /// Segments of a super-frame.
    pub gso_segs: u16,
    /// What is wrong with the frame.
    pub errors: RxErrors,
    /// When it arrived.
    pub at: Time,
}

impl Default for RxDesc {
    fn default() -> RxDesc {
        RxDesc { len: 0, hash: 0, csum: IpSummed::None, gso_size: 0, gso_segs: 0, errors: RxErrors::NONE, at: Time(0) }
    }
}

/// A descriptor as it lies in the ring: two to a cache line. What frames of one flow have in common are its first eight
/// bytes; from the hash on, its fields are [`crate::SkbMeta`]'s, in the same order, so that they move over in one piece.
#[derive(Clone, Copy)]
#[repr(C)]
struct Report {
    /// Bytes in this place's slot; the frame's length is the sum over its places.
    len: u16,
    flags: u8,
    errors: RxErrors,
    hash: u32,
    id: PacketId,
    gso_size: u16,
    gso_segs: u16,
    at: Time,
}

const _: () = assert!(size_of::<Report>() == 32);

/// The frame ends here.
const EOP: u8 = 1;
/// The slot's line points to a filled slot that follows it.
const EXTRA: u8 = 2;
/// A super-frame, or what says that it is one.
const SEGMENTED: u8 = 4;
/// The upper bits: what is known of the checksum.
const CSUM_SHIFT: u32 = 6;

impl Report {
    const NONE: Report = Report::new(PacketId(0), 0, 0, NO_DESC);

    #[inline(always)]
    const fn new(id: PacketId, len: u16, flags: u8, desc: RxDesc) -> Report {
        let segmented = if desc.gso_size == 0 && desc.gso_segs == 0 { 0 } else { SEGMENTED };
        Report {
            at: desc.at,
            id,
            hash: desc.hash,
            gso_size: desc.gso_size,
            gso_segs: desc.gso_segs,
            len,
            errors: desc.errors,
            flags: flags | segmented | (desc.csum as u8) << CSUM_SHIFT,
        }
    }

    /// What is known of the checksum.
    #[inline(always)]
    fn csum(&self) -> IpSummed {
        const STATES: [IpSummed; 4] = [IpSummed::None, IpSummed::Unnecessary, IpSummed::Complete, IpSummed::Partial];
        STATES[usize::from(self.flags >> CSUM_SHIFT)]
    }

    #[inline(always)]
    fn desc(&self, len: u32) -> RxDesc {
        RxDesc {
            len,
            hash: self.hash,
            csum: self.csum(),
            gso_size: self.gso_size,
            gso_segs: self.gso_segs,
            errors: self.errors,
            at: self.at,
        }
    }

    /// A whole frame in one slot, with nothing wrong.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.flags & (EOP | EXTRA) == EOP && self.errors.is_empty()
    }

    /// What all plain frames have in common that are of this length, with this hash and of the same checksum state, and no
    /// super-frames: put so that one comparison of neighbouring fields comes of it.
    #[inline(always)]
    fn likeness(&self) -> u64 {
        let of_frame = u32::from(self.len) | u32::from(self.flags) << 16 | u32::from(self.errors.0) << 24;
        u64::from(of_frame) | u64::from(self.hash) << 32
    }
}

const NO_DESC: RxDesc =
    RxDesc { len: 0, hash: 0, csum: IpSummed::None, gso_size: 0, gso_segs: 0, errors: RxErrors::NONE, at: Time(0) };

/// What both sides share besides the places.
struct Side {
    stats: Arc<RingStats>,
    missed: missed::MissedList,
    /// The last refill found the pool dry.
    starved: std::sync::atomic::AtomicBool,
}

/// A descriptor ring of `size` places, of which `size - 1` can be posted. `ring_id` goes into the packets' identities.
///
/// # Panics
/// If `size` is not a power of two of at least 2.
pub fn rx_ring(size: usize, ring_id: u16) -> (RxRing, RxDma) {
    let (driver, device) = core::split(size, SlotPtr::DANGLING, Report::NONE, reclaim);
    let side = Arc::new(Side {
        stats: Arc::default(),
        missed: missed::MissedList::new(),
        starved: std::sync::atomic::AtomicBool::new(false),
    });
    (RxRing::new(driver, side.clone()), RxDma::new(device, side, ring_id))
}

/// Gives a slot back that was left in the ring when both sides went.
fn reclaim(slot: SlotPtr, report: Option<Report>) {
    if report.is_some_and(|report| report.flags & EXTRA != 0) {
        // SAFETY: nobody else has the slot any more, and the flag says that a packet is attached.
        crate::Returns::new().push(unsafe { take_extra(slot) });
    }
    // SAFETY: what is in the ring is owned by the ring: slots for frames.
    unsafe { give_slot_back(slot, SlotClass::Frame) };
}

/// Attaches a packet to a slot in the ring, through the line that is otherwise not used there.
///
/// # Safety
/// The caller owns the slot.
unsafe fn attach_extra(slot: SlotPtr, extra: Skb) {
    // SAFETY: the caller owns the slot, no reference to its line lives.
    unsafe { slot.init_fresh(SlotClass::Frame) };
    // SAFETY: as above; initialised.
    unsafe { slot.link_mut() }.queue_next = Some(extra.into_slot());
}

/// Takes the packet back that [`attach_extra`] attached.
///
/// # Safety
/// The caller owns the slot, and a packet is attached to it.
unsafe fn take_extra(slot: SlotPtr) -> Skb {
    // SAFETY: by the caller's promise.
    let extra = unsafe { slot.link_mut() }.queue_next.take();
    // SAFETY: `attach_extra` dissolved the packet; its ownership is taken up again here, once.
    extra.map(|extra| unsafe { Skb::from_slot(extra) }).expect("a packet is attached")
}
