//! A Linux TAP interface as a device: the stack on one end of the cable, the running kernel on the other.
//!
//! - [`TapConfig`] says what is wanted, [`Tap::open`] makes the interface, [`Device::open`] puts it into service with one
//!   [`DeviceQueue`] per queue.
//! - Frames travel with a virtio-net header (`IFF_VNET_HDR`): a checksum that the kernel left open arrives as
//!   [`IpSummed::Partial`](rxpath_mem::IpSummed::Partial), a TCP super-frame with its `gso_size`; the same holds for
//!   frames that leave.
//! - What a NIC's DMA does is a `readv` here: virtio header, posted slot, and a large slot for what exceeds the posted
//!   one. The large slot is used again as long as no frame needed it.
//! - The interrupt is the readability of the queue's file descriptor ([`DeviceQueue::readiness`]).
//!
//! Frames wait in the kernel's queue of the interface while no descriptor is posted, and are dropped there when it is
//! full (`tx_dropped` of the interface in `/proc/net/dev`); a super-frame that finds no large slot needs several
//! descriptors, and is `rx_missed` if there are not enough.
//!
//! The interface is not persistent: it vanishes when the last queue is closed. Which of several queues a flow arrives on
//! is the kernel's choice (the one on which the flow was last sent), a hint like every device's.
//!
//! `unsafe` is confined to the ioctls. No received byte, and nothing in a virtio header, makes anything here panic.

mod ioctl;
mod vnet;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, readv, writev};
use rxpath_core::nic::{
    Device, DeviceInfo, DeviceQueue, Features, IrqLine, Readiness, RxAttach, Steering, TruesizeModel, Xmit,
};
use rxpath_mem::{PagePool, Returns, RxDesc, RxDma, RxErrors, Skb};
use rxpath_trace::Time;
use rxpath_wire::{EthernetHeader, MacAddr};

use super::netns::Rtnl;

/// Largest frame: an IP packet of 65,535 bytes behind an Ethernet header with a VLAN tag.
const FRAME_MAX: usize = 65_535 + EthernetHeader::LEN + 4;
/// Smallest MTU that IPv4 can work with (RFC 791 section 3.2).
const MTU_MIN: u16 = 68;
/// Bytes behind the posted slot that tell that a frame did not fit, where none that long is expected.
const OVERRUN: usize = 64;
/// Pieces of a transmitted frame that are written without gathering them first, the virtio header included.
const PIECES: usize = 24;

/// What a TAP is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// Name of the interface, 1 to 15 bytes; the kernel replaces `%d` by the first free number.
    pub name: String,
    /// Queues, at least 1. More than one makes a multi-queue interface.
    pub queues: u16,
    /// A virtio-net header in front of every frame. Without it there is no offload.
    pub vnet_hdr: bool,
    /// Open checksums and TCP super-frames in both directions (`TUNSETOFFLOAD`). Needs `vnet_hdr`.
    pub offload: bool,
    /// Hardware address of the stack's end of the cable. By default `02:72:78` and the last three bytes of the kernel
    /// end's address.
    pub mac: Option<MacAddr>,
    /// Largest IP packet on both ends of the cable, in bytes, at least 68 (RFC 791). By default what the interface has,
    /// 1,500 if it is a new one.
    pub mtu: Option<u16>,
}

impl Default for TapConfig {
    /// `rxpath%d`, one queue, with header and offload.
    fn default() -> TapConfig {
        TapConfig { name: "rxpath%d".to_owned(), queues: 1, vnet_hdr: true, offload: true, mac: None, mtu: None }
    }
}

impl TapConfig {
    fn check(&self) -> io::Result<()> {
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let name = &self.name;
        let bad = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
        if name.is_empty() || name.len() > ioctl::NAME_MAX || name.contains(bad) || name == "." || name == ".." {
            return wrong(format!("TAP name {name:?}: give 1 to 15 bytes without '/', ':' and white space"));
        }
        if self.queues == 0 {
            return wrong(format!("TAP {name}: give at least one queue"));
        }
        if self.offload && !self.vnet_hdr {
            return wrong(format!("TAP {name}: offload needs vnet_hdr; switch it on, or offload off"));
        }
        if let Some(mac) = self.mac.filter(|mac| !mac.is_unicast() || *mac == MacAddr::ZERO) {
            return wrong(format!("TAP {name}: {mac} is no unicast address; give one such as 02:00:00:00:aa:01"));
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < MTU_MIN) {
            return wrong(format!("TAP {name}: an MTU of {mtu} is too small for IPv4; give at least {MTU_MIN}"));
        }
        Ok(())
    }
}

/// A TAP interface that exists and is not in service yet.
#[derive(Debug)]
pub struct Tap {
    fds: Vec<OwnedFd>,
    name: String,
    mac: MacAddr,
    kernel_mac: MacAddr,
    mtu: u16,
    vnet_hdr: bool,
    offload: bool,
}

impl Tap {
    /// Makes the interface, or attaches to one of that name that this user may use, with all its queues.
    ///
    /// It is down, without address: [`crate::device::netns::Rtnl`] changes that, before or after.
    ///
    /// # Errors
    /// `InvalidInput` for a configuration that makes no sense, or an MTU that the kernel does not give; `NotFound` or `PermissionDenied` for `/dev/net/tun`;
    /// `PermissionDenied` without the right to make interfaces; `ResourceBusy` if another program has it. All name the
    /// mend.
    pub fn open(config: TapConfig) -> io::Result<Tap> {
        config.check()?;
        let TapConfig { mut name, queues, vnet_hdr, offload, mac, mtu: wanted } = config;
        let mut fds = Vec::with_capacity(usize::from(queues));
        for _ in 0..queues {
            let fd = ioctl::open()?;
            name = ioctl::attach(&fd, &name, queues > 1, vnet_hdr)?;
            if vnet_hdr {
                ioctl::set_vnet_header(&fd, vnet::LEN as i32)?;
            }
            ioctl::set_offload(&fd, offload)?;
            ioctl::forget_when_closed(&fd)?;
            fds.push(fd);
        }
        let kernel_mac = ioctl::kernel_mac(&fds[0])?;
        let mac = mac.unwrap_or_else(|| opposite(kernel_mac));
        let mut mtu = ioctl::mtu(&name)?.min(u32::from(u16::MAX)) as u16;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != mtu) {
            Rtnl::open()?.set_mtu(&name, u32::from(wanted))?;
            mtu = wanted;
        }
        Ok(Tap { fds, name, mac, kernel_mac, mtu, vnet_hdr, offload })
    }

    /// Name of the interface, `%d` replaced.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hardware address of the stack's end.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Hardware address of the kernel's end.
    pub fn kernel_mac(&self) -> MacAddr {
        self.kernel_mac
    }
}

/// An address for our end that differs from the kernel's.
fn opposite(kernel: MacAddr) -> MacAddr {
    let [.., a, b, c] = kernel.0;
    let ours = MacAddr([0x02, 0x72, 0x78, a, b, c]);
    if ours == kernel { MacAddr([0x02, 0x72, 0x79, a, b, c]) } else { ours }
}

impl Device for Tap {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            name: self.name.clone(),
            mac: self.mac,
            mtu: self.mtu,
            queues: self.fds.len() as u16,
            features: Features { rx_csum: self.offload, tx_csum: self.offload, tso: self.offload },
            truesize: TruesizeModel::Kernel,
        }
    }

    fn open(self: Box<Self>, queues: Vec<RxAttach>, steering: Steering) -> io::Result<Vec<Box<dyn DeviceQueue>>> {
        if queues.len() != self.fds.len() {
            let what = format!("TAP {}: {} queues, and {} rings for them", self.name, self.fds.len(), queues.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let (vnet_hdr, mtu) = (self.vnet_hdr, usize::from(self.mtu));
        let wide = |dma: &RxDma| self.offload || mtu + EthernetHeader::LEN + 4 > dma.slot_room();
        let queues = self.fds.into_iter().zip(queues).map(|(fd, RxAttach { dma, irq })| {
            let bounce = if wide(&dma) { FRAME_MAX } else { OVERRUN };
            let (wide, bounce) = (wide(&dma), vec![0; bounce].into_boxed_slice());
            let fd = Arc::new(fd);
            let queue = TapQueue { fd, dma, irq, steering: steering.clone(), vnet_hdr, wide, spill: None, bounce };
            Box::new(queue) as Box<dyn DeviceQueue>
        });
        Ok(queues.collect())
    }
}

/// One queue in service.
struct TapQueue {
    fd: Arc<OwnedFd>,
    dma: RxDma,
    irq: IrqLine,
    /// For the receive hash alone: the kernel has chosen the queue.
    steering: Steering,
    vnet_hdr: bool,
    /// Frames longer than a posted slot are to be expected.
    wide: bool,
    /// A large slot, all of it put, for what exceeds the posted one.
    spill: Option<Skb>,
    /// For long frames when the pool has no large slot, and for gathering frames of many pieces.
    bounce: Box<[u8]>,
}

impl Drop for TapQueue {
    fn drop(&mut self) {
        if let Some(spill) = self.spill.take() {
            Returns::new().push(spill);
        }
    }
}

impl DeviceQueue for TapQueue {
    fn dma(&mut self, now: Time, pool: &mut PagePool, budget: usize) -> usize {
        let mut moved = 0;
        while moved < budget && self.dma.available() > 0 {
            if self.wide && self.spill.is_none() {
                self.spill = pool.alloc_large().map(|mut spill| {
                    let room = spill.tailroom();
                    spill.put(room);
                    spill
                });
            }
            let received =
                if self.wide && self.spill.is_none() { self.receive_bounced(now) } else { self.receive(now) };
            match received {
                Ok(()) => moved += 1,
                Err(Errno::INTR) => {}
                // Nothing there; or the interface is gone, which the next transmission will say.
                Err(_) => break,
            }
        }
        // During a poll the frames are about to be seen; a further interrupt would only make it poll once more.
        if moved > 0 && !self.irq.napi().is_scheduled() {
            self.irq.raise(now, moved as u32);
        }
        moved
    }

    fn xmit(&mut self, _now: Time, skb: &Skb) -> Xmit {
        let header = if self.vnet_hdr {
            let csum_start = usize::from(skb.transport_off).saturating_sub(skb.data_offset());
            match vnet::for_transmit(skb.ip_summed, skb.gso_size, csum_start, skb.data(), skb.len()) {
                Some(header) => header.to_bytes(),
                None => return Xmit::Failed,
            }
        } else if skb.ip_summed == rxpath_mem::IpSummed::Partial || skb.gso_size > 0 {
            return Xmit::Failed;
        } else {
            [0; vnet::LEN]
        };
        let header = &header[..if self.vnet_hdr { vnet::LEN } else { 0 }];
        loop {
            match self.write(header, skb) {
                Ok(()) => return Xmit::Sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Xmit::Busy,
                Err(_) => return Xmit::Failed,
            }
        }
    }

    fn flush(&mut self, _now: Time) {}

    fn readiness(&self) -> Option<Readiness> {
        Some(Readiness::new(Arc::clone(&self.fd)))
    }
}

impl TapQueue {
    /// Reads one frame into the next posted slot and, what exceeds it, into the large slot (or, where no long frame is
    /// expected, into a few bytes that only tell). The caller has seen that a slot is posted.
    fn receive(&mut self, now: Time) -> Result<(), Errno> {
        let Some(mut slot) = self.dma.next() else { return Err(Errno::AGAIN) };
        let mut header = [0; vnet::LEN];
        let header_len = if self.vnet_hdr { vnet::LEN } else { 0 };
        let first = slot.buf();
        let room = first.len();
        let with_spill = self.spill.is_some();
        let over = match &mut self.spill {
            Some(spill) => spill.data_mut(),
            None => &mut self.bounce[..],
        };
        let mut pieces = [IoSliceMut::new(&mut header[..header_len]), IoSliceMut::new(first), IoSliceMut::new(over)];
        let read = readv(&self.fd, &mut pieces)?;
        let len = read.saturating_sub(header_len);
        let (head, rest) = (&mut slot.buf()[..len.min(room)], &over[..len.saturating_sub(room)]);
        let desc = describe(&header, head, rest, now, &self.steering);
        let rest = rest.len();
        if rest == 0 || !with_spill {
            // Longer than the slot without a large one: the ring cuts it and marks it OVERSIZE.
            slot.complete(len, desc);
            return Ok(());
        }
        if let Some(mut spill) = self.spill.take() {
            spill.trim(rest);
            if let Err(foreign) = slot.complete_with(room, desc, spill) {
                // A ring that is refilled from another pool cannot take the large slot.
                Returns::new().push(foreign);
                self.dma.missed(len as u32, now);
            }
        }
        Ok(())
    }

    /// Reads one frame that may be long while the pool has no large slot: into the bounce buffer, and from there into as
    /// many posted slots as it takes. A frame that finds too few is missed, and counted as that.
    fn receive_bounced(&mut self, now: Time) -> Result<(), Errno> {
        let mut header = [0; vnet::LEN];
        let header_len = if self.vnet_hdr { vnet::LEN } else { 0 };
        let mut pieces = [IoSliceMut::new(&mut header[..header_len]), IoSliceMut::new(&mut self.bounce)];
        let read = readv(&self.fd, &mut pieces)?;
        let len = read.saturating_sub(header_len);
        let frame = &mut self.bounce[..len];
        let desc = describe(&header, frame, &[], now, &self.steering);
        // A missed frame has been counted by the ring.
        let _ = self.dma.write_frame(frame, desc);
        Ok(())
    }

    /// Writes one frame, as a whole.
    fn write(&mut self, header: &[u8], skb: &Skb) -> Result<(), Errno> {
        let total = header.len() + skb.len();
        let mut pieces = [IoSlice::new(&[]); PIECES];
        pieces[0] = IoSlice::new(header);
        let mut used = 1;
        for bytes in skb.fragments() {
            if used == PIECES {
                return self.write_gathered(header, skb);
            }
            pieces[used] = IoSlice::new(bytes);
            used += 1;
        }
        whole(writev(&self.fd, &pieces[..used])?, total)
    }

    /// As [`TapQueue::write`], for a frame of very many pieces.
    #[cold]
    fn write_gathered(&mut self, header: &[u8], skb: &Skb) -> Result<(), Errno> {
        if skb.len() > FRAME_MAX {
            return Err(Errno::MSGSIZE);
        }
        let mut frame = vec![0; skb.len()];
        skb.copy_to(0, &mut frame);
        whole(writev(&self.fd, &[IoSlice::new(header), IoSlice::new(&frame)])?, header.len() + frame.len())
    }
}

/// A TAP takes frames whole; anything else is a frame lost.
fn whole(written: usize, total: usize) -> Result<(), Errno> {
    if written == total { Ok(()) } else { Err(Errno::IO) }
}

/// The descriptor of a received frame that lies in two pieces. Fills a checksum in that the stack could not place.
fn describe(header: &[u8; vnet::LEN], head: &mut [u8], rest: &[u8], now: Time, steering: &Steering) -> RxDesc {
    let len = head.len() + rest.len();
    let meaning = vnet::received(vnet::VnetHeader::from_bytes(header), head, len);
    if let Some(open) = meaning.fill {
        vnet::fill(open, head, rest);
    }
    let (_, hash) = steering.queue_of(head);
    let errors = if len < EthernetHeader::LEN { RxErrors::RUNT } else { RxErrors::NONE };
    RxDesc {
        len: len as u32,
        hash,
        csum: meaning.csum,
        gso_size: meaning.gso_size,
        gso_segs: meaning.gso_segs,
        errors,
        at: now,
    }
}
