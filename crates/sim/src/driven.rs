//! The driver's half of a device queue, outside of any stack: a descriptor ring, a pool, an interrupt line.
//!
//! What wraps a device ([`crate::faults`]) or uses one by hand (the kernel twin's TAP) moves whole frames through it.

use std::io;
use std::sync::Arc;

use rxpath_core::nic::{DeviceQueue, Doorbell, IrqLine, Moderation, RxAttach, Xmit};
use rxpath_mem::{Harvest, IpSummed, PagePool, PoolConfig, RxDesc, RxErrors, RxRing, Skb, rx_ring};
use rxpath_trace::Time;

/// Places of the ring that the device fills.
const RING: usize = 256;
/// Memory of one queue: what is posted, what is being looked at, and frames on their way out.
const POOL: PoolConfig = PoolConfig { slots: 2 * RING, head_slots: 0, large_slots: 4, reserve: 0 };
/// Rounds in which what the device has is taken, per call.
const ROUNDS: usize = 4;

/// A frame outside of any ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What is known of the transport checksum.
    pub csum: IpSummed,
    /// Payload bytes per segment of a super-frame, else 0.
    pub gso_size: u16,
    /// Segments of a super-frame.
    pub gso_segs: u16,
    /// Where the transport header begins, for frames on their way out.
    pub transport: usize,
    /// What the device found wrong with a received frame.
    pub errors: RxErrors,
    /// The device's hash of the flow.
    pub hash: u32,
}

impl Parcel {
    /// A frame whose checksums are complete.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "the twin sends such frames"))]
    pub(crate) fn plain(bytes: Vec<u8>) -> Parcel {
        let errors = RxErrors::NONE;
        Parcel { bytes, csum: IpSummed::None, gso_size: 0, gso_segs: 0, transport: 0, errors, hash: 0 }
    }

    /// A copy of a packet that is on its way out.
    pub(crate) fn leaving(skb: &Skb) -> Parcel {
        Parcel {
            bytes: gathered(skb),
            csum: skb.ip_summed,
            gso_size: skb.gso_size,
            gso_segs: skb.gso_segs,
            transport: usize::from(skb.transport_off).saturating_sub(skb.data_offset()),
            errors: RxErrors::NONE,
            hash: skb.hash,
        }
    }

    /// A copy of a received frame. A sum over the whole packet would have to follow every change of it: it is forgotten.
    fn received(skb: &Skb, desc: &RxDesc) -> Parcel {
        let csum = if desc.csum == IpSummed::Complete { IpSummed::None } else { desc.csum };
        let (gso_size, gso_segs, errors, hash) = (desc.gso_size, desc.gso_segs, desc.errors, desc.hash);
        Parcel { bytes: gathered(skb), csum, gso_size, gso_segs, transport: 0, errors, hash }
    }
}

fn gathered(skb: &Skb) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(skb.len());
    skb.fragments().for_each(|piece| bytes.extend_from_slice(piece));
    bytes
}

/// What the driver has before the device is open.
pub(crate) struct Half {
    ring: RxRing,
    pool: PagePool,
    irq: IrqLine,
}

impl Half {
    /// The two halves of queue `index`: the driver's, and what the device is opened with. `bell` is rung when the device
    /// interrupts.
    pub(crate) fn new(index: u16, bell: Arc<dyn Doorbell>) -> io::Result<(Half, RxAttach)> {
        let mut pool = PagePool::new(POOL)?;
        let irq = IrqLine::new(Moderation::default(), bell);
        let (mut ring, dma) = rx_ring(RING, index);
        ring.refill(&mut pool);
        let attach = RxAttach { dma, irq: irq.clone() };
        Ok((Half { ring, pool, irq }, attach))
    }

    /// The driver of the queue that the device gave.
    pub(crate) fn drive(self, queue: Box<dyn DeviceQueue>) -> Driven {
        Driven { half: self, queue }
    }
}

/// A device queue in service.
pub(crate) struct Driven {
    half: Half,
    pub(crate) queue: Box<dyn DeviceQueue>,
}

impl Driven {
    /// Takes whatever the device has received and hands each frame to `visit`; gives the number of frames that found no
    /// descriptor.
    pub(crate) fn take(&mut self, now: Time, mut visit: impl FnMut(Parcel)) -> u64 {
        let Half { ring, pool, irq } = &mut self.half;
        let mut missed = 0;
        for _ in 0..ROUNDS {
            self.queue.dma(now, pool, RING);
            while let Some(harvest) = ring.take() {
                let (Harvest::Frame(skb) | Harvest::Error(skb)) = harvest;
                visit(Parcel::received(&skb, &ring.taken_desc()));
                pool.free(skb);
            }
            missed += ring.drain_missed(|_, _, _| {});
            ring.refill(pool);
            irq.take_pending();
            if irq.napi().complete() && ring.pending() == 0 {
                break;
            }
        }
        missed
    }

    /// True while the interrupt is masked: the device has something, or the last [`Driven::take`] left something.
    pub(crate) fn interrupted(&self) -> bool {
        self.half.irq.napi().is_scheduled()
    }

    /// Hands a frame to the device.
    pub(crate) fn xmit(&mut self, now: Time, parcel: &Parcel) -> Xmit {
        let Some(skb) = self.packet(parcel) else { return Xmit::Failed };
        let verdict = self.queue.xmit(now, &skb);
        self.half.pool.free(skb);
        verdict
    }

    /// A frame as a packet: in one slot if it fits, else the rest in large ones.
    fn packet(&mut self, parcel: &Parcel) -> Option<Skb> {
        let pool = &mut self.half.pool;
        let mut skb = pool.alloc()?;
        let fits = skb.tailroom().min(parcel.bytes.len());
        let (head, mut rest) = parcel.bytes.split_at(fits);
        skb.put(head.len()).copy_from_slice(head);
        while !rest.is_empty() {
            let Some(mut large) = pool.alloc_large() else {
                pool.free(skb);
                return None;
            };
            let (part, after) = rest.split_at(large.tailroom().min(rest.len()));
            large.put(part.len()).copy_from_slice(part);
            rest = after;
            if let Err(large) = skb.add_frag(large) {
                pool.free(large);
                pool.free(skb);
                return None;
            }
        }
        skb.ip_summed = parcel.csum;
        (skb.gso_size, skb.gso_segs) = (parcel.gso_size, parcel.gso_segs);
        skb.transport_off = (skb.data_offset() + parcel.transport) as u16;
        Some(skb)
    }
}
