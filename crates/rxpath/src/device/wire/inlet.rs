//! The receiving side of an end that a stack has: its rings, into which whoever sends writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use rxpath_core::nic::{IrqLine, RxMode, Steering};
use rxpath_mem::{RxDesc, RxDma, RxErrors};
use rxpath_trace::Time;
use rxpath_wire::EthernetHeader;

/// Largest frame: an IP packet of 65,535 bytes behind an Ethernet header with a VLAN tag.
pub(super) const FRAME_MAX: usize = 65_535 + EthernetHeader::LEN + 4;

/// Whether the cable is plugged in. Cloning gives another handle to the same cable.
#[derive(Clone, Debug)]
pub struct Carrier(Arc<AtomicBool>);

impl Carrier {
    pub(super) fn up() -> Carrier {
        Carrier(Arc::new(AtomicBool::new(true)))
    }

    /// Pulls the plug, or puts it back in. Without carrier no frame passes: a stack's end as `TX_ERROR`, a port's are
    /// [`NotTaken::NoCarrier`](super::NotTaken::NoCarrier).
    pub fn set(&self, up: bool) {
        self.0.store(up, Ordering::Release);
    }

    /// True while plugged in.
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The receiving side of an end that a stack has.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) carrier: Carrier,
    pub(super) rx_csum: bool,
    pub(super) attached: OnceLock<Attached>,
}

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) steering: Steering,
    /// What a card with a filter lets in.
    pub(super) filter: Option<RwLock<RxMode>>,
    pub(super) queues: Box<[RxQueue]>,
}

#[derive(Debug)]
pub(super) struct RxQueue {
    /// None when the stack has left.
    pub(super) dma: Mutex<Option<RxDma>>,
    pub(super) irq: IrqLine,
    /// Queues of the far end that wait for descriptors, one bit each (modulo 64).
    pub(super) waiting: AtomicU64,
}

impl RxQueue {
    pub(super) fn dma(&self) -> MutexGuard<'_, Option<RxDma>> {
        self.dma.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a frame on the cable.
pub(super) enum Passed {
    Taken(usize),
    Full(usize),
    Nobody,
}

impl Inlet {
    pub(super) fn new(rx_csum: bool, carrier: &Carrier) -> Arc<Inlet> {
        Arc::new(Inlet { carrier: carrier.clone(), rx_csum, attached: OnceLock::new() })
    }

    /// Writes a frame into the ring that its flow is steered to, if there is room or `force` (missed otherwise).
    pub(super) fn write(&self, now: Time, parts: &[&[u8]], mut desc: RxDesc, force: bool) -> Passed {
        let Some(attached) = self.attached.get() else { return Passed::Nobody };
        let head = parts.first().copied().unwrap_or_default();
        if attached.filters_out(head) {
            return Passed::Nobody;
        }
        let index = attached.steer(head, &mut desc);
        let Some(queue) = attached.queues.get(index) else { return Passed::Nobody };
        let mut dma = queue.dma();
        let Some(dma) = dma.as_mut() else { return Passed::Nobody };
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if !force && dma.available() * dma.slot_room() < len {
            return Passed::Full(index);
        }
        desc.at = now;
        desc.errors |= size_errors(len);
        // A missed frame has been counted by the ring, and its driver is to learn of it.
        let _ = if let [frame] = parts { dma.write_frame(frame, desc) } else { dma.write_parts(parts, desc) };
        Passed::Taken(index)
    }

    pub(super) fn queue(&self, index: usize) -> Option<&RxQueue> {
        self.attached.get()?.queues.get(index)
    }
}

impl Attached {
    /// Whether the card does not let the frame in: nobody hears of it then.
    #[inline]
    pub(super) fn filters_out(&self, frame: &[u8]) -> bool {
        let Some(filter) = &self.filter else { return false };
        let Some((header, _)) = EthernetHeader::parse(frame) else { return false };
        !filter.read().unwrap_or_else(PoisonError::into_inner).lets_in(header.dst())
    }

    /// The queue of a frame. A card with one queue computes no hash.
    #[inline]
    pub(super) fn steer(&self, frame: &[u8], desc: &mut RxDesc) -> usize {
        if self.queues.len() == 1 {
            return 0;
        }
        let (queue, hash) = self.steering.queue_of(frame);
        if desc.hash == 0 {
            desc.hash = hash;
        }
        usize::from(queue) % self.queues.len()
    }
}

/// What a card says of a frame for its length alone.
pub(super) fn size_errors(len: usize) -> RxErrors {
    match len {
        0..EthernetHeader::LEN => RxErrors::RUNT,
        EthernetHeader::LEN..=FRAME_MAX => RxErrors::NONE,
        _ => RxErrors::OVERSIZE,
    }
}
