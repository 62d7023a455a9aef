//! The slot: one metadata line and a buffer, and how they lie in a pool's region.
//!
//! ```text
//! region (aligned to REGION_SIZE) : header | frame class … | head class … | large class …
//! slot                            : metadata line (64) | buffer (2,240, 256 or 65,728)
//! ```
//!
//! The strides are no powers of two: at a stride of 2,048 the same bytes of all packets would compete for the same cache
//! sets.
//!
//! A [`SlotPtr`] is a plain address. Whoever owns a slot (a pool's stack, a descriptor ring, an [`crate::Skb`]) owns
//! its line and, unless the data is shared by count, its buffer; everything here that dereferences is `unsafe` and says
//! so.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use rxpath_trace::PacketId;

use crate::pool::Header;
use crate::returns::Token;

/// Bytes in front of the data of a fresh packet.
///
/// 64 leave room for the headers of a tunnel or of a forwarding device. 10 more put the IP header behind a 14-byte Ethernet
/// header on an 8-byte boundary (2 do in the kernel, `NET_IP_ALIGN`), and the payload behind headers of TCP without options
/// at the beginning of a cache line, where vectors are copied without touching two.
pub const RX_HEADROOM: usize = 74;

/// Size and alignment of a region: from the address of a slot follows the address of its pool.
#[cfg(all(unix, target_pointer_width = "64"))]
pub(crate) const REGION_SIZE: usize = 1 << 30;
/// Size and alignment of a region: from the address of a slot follows the address of its pool.
#[cfg(not(all(unix, target_pointer_width = "64")))]
pub(crate) const REGION_SIZE: usize = 1 << 26;

/// Bytes of the metadata line, and the unit of offsets in a region.
pub(crate) const LINE: usize = 64;

/// Bytes of a buffer of the frame class.
const FRAME: usize = 2_240;

/// The size classes of a pool's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotClass {
    /// 2,240 bytes: one Ethernet frame, or a small one and what is copied behind it: a burst of 32 segments of 64 bytes.
    Frame = 0,
    /// 256 bytes: control segments, ARP, and the heads of clones.
    Head = 1,
    /// 64 KiB: the payload of a super-frame.
    Large = 2,
}

impl SlotClass {
    /// All classes, in the order in which they lie in the region.
    pub const ALL: [SlotClass; 3] = [SlotClass::Frame, SlotClass::Head, SlotClass::Large];

    /// Bytes from one slot of the class to the next.
    #[inline(always)]
    pub const fn stride(self) -> usize {
        match self {
            SlotClass::Frame => LINE + FRAME,
            SlotClass::Head => LINE + 256,
            SlotClass::Large => LINE + 65_536 + 192,
        }
    }

    /// Bytes of the buffer that may be used. 65,535 in the large class, so that every length fits 16 bits.
    #[inline(always)]
    pub const fn capacity(self) -> usize {
        match self {
            SlotClass::Frame => FRAME,
            SlotClass::Head => 256,
            SlotClass::Large => 65_535,
        }
    }
}

/// To whom a frame was addressed on its link (`skb->pkt_type`, `PACKET_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PktType {
    /// To us.
    #[default]
    Host = 0,
    /// To all.
    Broadcast = 1,
    /// To a group.
    Multicast = 2,
    /// To another station.
    OtherHost = 3,
    /// From us.
    Outgoing = 4,
    /// Looped back.
    Loopback = 5,
}

/// What is known of the transport checksum (`skb->ip_summed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum IpSummed {
    /// Nothing: it must be verified.
    #[default]
    None = 0,
    /// The device verified it.
    Unnecessary = 1,
    /// The device summed the whole packet.
    Complete = 2,
    /// It is still to be filled in: the packet has not left a host yet.
    Partial = 3,
}

impl IpSummed {
    /// Whether somebody verified the checksum already, or will fill it in.
    #[inline(always)]
    pub fn is_known_good(self) -> bool {
        matches!(self, IpSummed::Unnecessary | IpSummed::Partial)
    }
}

/// Public metadata of a packet, in the same cache line as its lengths: plain fields, reached through [`crate::Skb`].
#[derive(Clone, Debug)]
#[repr(C)]
pub struct SkbMeta {
    /// EtherType, host order.
    pub protocol: u16,
    /// Index of the interface that the packet came from or goes to.
    pub ifindex: u16,
    /// Flow hash: the device's, later the stack's. 0: none.
    pub hash: u32,
    /// Identity of the packet.
    pub id: PacketId,
    /// Payload bytes per segment of a merged or still to be cut packet. 0: an ordinary packet.
    pub gso_size: u16,
    /// Segments of such a packet.
    pub gso_segs: u16,
    /// TCP: sequence number of the first byte, host order.
    pub seq: u32,
    /// TCP: sequence number behind the last byte, SYN and FIN counted.
    pub end_seq: u32,
    /// What the packet is charged to a socket for, in bytes. A fresh packet has the stride of its slot.
    pub truesize: u32,
    /// Offset of the network header in the buffer.
    pub network_off: u16,
    /// Offset of the transport header in the buffer.
    pub transport_off: u16,
    /// To whom the frame was addressed.
    pub pkt_type: PktType,
    /// What is known of the transport checksum.
    pub ip_summed: IpSummed,
    /// TCP: control bits.
    pub tcp_flags: u8,
    /// For whoever holds the packet; 0 in a fresh one. Says nothing across rooms.
    pub scratch: u8,
}

impl SkbMeta {
    /// Metadata of a fresh packet in a slot of `class`.
    #[inline(always)]
    pub(crate) const fn fresh(class: SlotClass) -> SkbMeta {
        SkbMeta {
            id: PacketId(0),
            hash: 0,
            seq: 0,
            end_seq: 0,
            truesize: class.stride() as u32,
            network_off: 0,
            transport_off: 0,
            protocol: 0,
            ifindex: 0,
            gso_size: 0,
            gso_segs: 0,
            pkt_type: PktType::Host,
            ip_summed: IpSummed::None,
            tcp_flags: 0,
            scratch: 0,
        }
    }
}

/// The buffer has, or had, more than one user: the pool's share count says how many.
pub(crate) const SHARED: u8 = 1;
/// The data lies in another slot, whose offset is in this slot's buffer.
pub(crate) const VIEW: u8 = 2;
/// The packet's life is recorded.
pub(crate) const TRACED: u8 = 4;

/// A program sent the packet here: none of its kind looks at it again.
pub(crate) const REDIRECTED: u8 = 8;
/// Where the packet's priority begins, which takes the upper bits.
pub(crate) const PRIORITY_SHIFT: u32 = 4;

/// The private half of the metadata line.
#[repr(C)]
pub(crate) struct Link {
    /// The next packet of the queue that this one is on. In the first fragment of a chain: the last fragment.
    pub(crate) queue_next: Option<SlotPtr>,
    /// Offset of the next fragment's slot in the region, in lines. 0: none.
    pub(crate) frag_next: u32,
    /// Start of the linear data, in bytes from this line. Lies in another slot if this is a view.
    pub(crate) data_off: i32,
    /// Bytes in the fragments.
    pub(crate) data_len: u32,
    /// Bytes of linear data.
    pub(crate) len: u16,
    /// The slot's class.
    pub(crate) class: SlotClass,
    /// [`SHARED`], [`VIEW`], [`TRACED`], [`REDIRECTED`], and the priority. A cell, because cloning marks the original as shared.
    pub(crate) flags: Cell<u8>,
}

/// The metadata line as words, possibly padding.
type Image = [MaybeUninit<u64>; LINE / 8];

/// The metadata line.
#[repr(C, align(64))]
pub(crate) struct Line {
    pub(crate) link: Link,
    pub(crate) meta: SkbMeta,
}

const _: () = assert!(size_of::<Line>() == LINE && align_of::<Line>() == LINE);
const _: () = assert!(SlotClass::Frame.stride() == 2_304 && SlotClass::Head.stride() == 320);
const _: () = assert!(SlotClass::Large.stride().is_multiple_of(LINE));

impl Line {
    /// The line of a fresh, empty packet, as words: copied in a few wide stores, where its fields would be many narrow
    /// ones.
    const fn image(class: SlotClass) -> Image {
        let line = Line {
            link: Link {
                queue_next: None,
                frag_next: 0,
                data_off: (LINE + RX_HEADROOM) as i32,
                data_len: 0,
                len: 0,
                class,
                flags: Cell::new(0),
            },
            meta: SkbMeta::fresh(class),
        };
        // SAFETY: of the same size, and the words may be uninitialised, as padding is.
        unsafe { std::mem::transmute::<Line, Image>(line) }
    }
}

/// Address of a slot: of its metadata line. Carries no ownership by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct SlotPtr(NonNull<Line>);

// SAFETY: an address; every use of what lies there is `unsafe` and asks for ownership of the slot, which is what moves
// between threads together with the address. Deliberately not Sync: two threads with `&Skb` could race on the flags.
unsafe impl Send for SlotPtr {}

impl SlotPtr {
    /// An address that is never used.
    pub(crate) const DANGLING: SlotPtr = SlotPtr(NonNull::dangling());

    /// The slot `off` lines behind the base of the region at `base`.
    ///
    /// # Safety
    /// `base` is the base of a region (with its provenance), `off` the offset of one of its slots.
    #[inline(always)]
    pub(crate) unsafe fn at(base: NonNull<Header>, off: u32) -> SlotPtr {
        // SAFETY: by the caller's promise the offset stays within the region's allocation.
        SlotPtr(unsafe { base.cast::<u8>().add(off as usize * LINE) }.cast())
    }

    /// The region that the slot lies in.
    #[inline(always)]
    pub(crate) fn base(self) -> NonNull<Header> {
        let base = self.0.as_ptr().map_addr(|addr| addr & !(REGION_SIZE - 1));
        // SAFETY: regions begin at a multiple of REGION_SIZE above 0, so the base of a slot's region is not null.
        unsafe { NonNull::new_unchecked(base.cast()) }
    }

    /// Offset in the region, in lines. Never 0: the header lies there.
    #[inline(always)]
    pub(crate) fn offset(self) -> u32 {
        ((self.0.addr().get() & (REGION_SIZE - 1)) / LINE) as u32
    }

    /// The slot `off` lines behind the base of the same region; None for 0.
    ///
    /// # Safety
    /// `off` is 0 or the offset of a slot of the same region.
    #[inline(always)]
    pub(crate) unsafe fn sibling(self, off: u32) -> Option<SlotPtr> {
        if off == 0 {
            return None;
        }
        // SAFETY: `base` has the provenance of the region, and the caller vouches for the offset.
        Some(unsafe { SlotPtr::at(self.base(), off) })
    }

    /// The byte `off` behind the start of the line.
    #[inline(always)]
    pub(crate) fn byte(self, off: i32) -> *mut u8 {
        self.0.as_ptr().cast::<u8>().wrapping_offset(off as isize)
    }

    /// The slot's buffer.
    #[inline(always)]
    pub(crate) fn buffer(self) -> *mut u8 {
        self.byte(LINE as i32)
    }

    /// Writes the whole line: what makes an empty packet of a free slot.
    ///
    /// # Safety
    /// The caller owns the slot, which is of class `class`, and no reference to its line lives.
    #[inline(always)]
    pub(crate) unsafe fn init_fresh(self, class: SlotClass) {
        let image = match class {
            SlotClass::Frame => const { Line::image(SlotClass::Frame) },
            SlotClass::Head => const { Line::image(SlotClass::Head) },
            SlotClass::Large => const { Line::image(SlotClass::Large) },
        };
        // SAFETY: the line lies in a live region, aligned, and is the caller's alone.
        unsafe { self.0.cast::<Image>().write(image) };
    }

    /// Writes the private half of the line: what makes a fragment of a free slot for frames, with `len` bytes of
    /// data from `data_off` on, counted from the line.
    ///
    /// # Safety
    /// The caller owns the slot, and no reference to its line lives. The data lies in the slot's buffer.
    #[inline(always)]
    pub(crate) unsafe fn init_fragment(self, data_off: i32, len: u16) {
        let class = SlotClass::Frame;
        let link = Link { queue_next: None, frag_next: 0, data_off, data_len: 0, len, class, flags: Cell::new(0) };
        // SAFETY: a field projection within the slot: no reference comes into being.
        let place = unsafe { &raw mut (*self.0.as_ptr()).link };
        // SAFETY: by the caller's promise the line is the caller's alone.
        unsafe { place.write(link) };
    }

    /// The private half of the line.
    ///
    /// # Safety
    /// The line is initialised and the caller owns the slot for `'a`, or owns the packet that it is part of, and no
    /// `&mut` to this half lives in that time.
    #[inline(always)]
    pub(crate) unsafe fn link<'a>(self) -> &'a Link {
        // SAFETY: by the caller's promise.
        unsafe { &(*self.0.as_ptr()).link }
    }

    /// The private half of the line, for writing.
    ///
    /// # Safety
    /// As [`SlotPtr::link`], and no other reference to this half lives in `'a`.
    #[inline(always)]
    pub(crate) unsafe fn link_mut<'a>(self) -> &'a mut Link {
        // SAFETY: by the caller's promise. A field projection: no reference to the public half comes into being.
        unsafe { &mut (*self.0.as_ptr()).link }
    }

    /// The public half of the line.
    ///
    /// # Safety
    /// As [`SlotPtr::link`], for the public half.
    #[inline(always)]
    pub(crate) unsafe fn meta<'a>(self) -> &'a SkbMeta {
        // SAFETY: by the caller's promise.
        unsafe { &(*self.0.as_ptr()).meta }
    }

    /// The public half of the line, for writing.
    ///
    /// # Safety
    /// As [`SlotPtr::link_mut`], for the public half.
    #[inline(always)]
    pub(crate) unsafe fn meta_mut<'a>(self) -> &'a mut SkbMeta {
        // SAFETY: by the caller's promise.
        unsafe { &mut (*self.0.as_ptr()).meta }
    }

    /// Of a view: the slot in whose buffer the data lies. Kept in the view's own, otherwise unused buffer.
    ///
    /// # Safety
    /// The caller owns the slot, and it is a view.
    #[inline]
    pub(crate) unsafe fn owner_of_view(self) -> Token {
        // SAFETY: a view's buffer begins with the owner's token, written when the view was made (aligned: buffers are).
        unsafe { self.buffer().cast::<Token>().read() }
    }

    /// Makes `owner` the slot in whose buffer the data lies.
    ///
    /// # Safety
    /// The caller owns the slot, and its buffer holds no data.
    #[inline]
    pub(crate) unsafe fn set_owner_of_view(self, owner: Token) {
        // SAFETY: the buffer is the caller's, longer than a token and aligned to a line.
        unsafe { self.buffer().cast::<Token>().write(owner) };
    }
}
