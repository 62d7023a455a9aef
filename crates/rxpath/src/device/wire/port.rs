//! The bare end of a cable.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rxpath_mem::{IpSummed, RxDesc, RxDma};
use rxpath_trace::{PacketId, Time};
use rxpath_wire::MacAddr;

use super::inlet::{Carrier, Inlet, size_errors};
use super::offload;

/// Why a frame did not get into the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// No descriptor was posted: the stack counts it as `rx_missed` under this identity.
    Missed(PacketId),
    /// It is addressed to nobody that the stack's card lets in ([`WireConfig::filter`](super::WireConfig::filter)).
    Filtered,
    /// The cable is pulled out, or the other end is in no stack (any more).
    NoCarrier,
}

impl std::fmt::Display for NotTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotTaken::Missed(id) => write!(f, "frame {id} found no descriptor"),
            NotTaken::Filtered => f.write_str("the card does not let frames to this address in"),
            NotTaken::NoCarrier => f.write_str("nobody is at the other end of the cable"),
        }
    }
}

impl std::error::Error for NotTaken {}

/// A frame that the stack transmitted, as it left the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The bytes, Ethernet header first.
    pub bytes: Vec<u8>,
    /// Payload bytes per segment of a super-frame, else 0.
    pub gso_size: u16,
    /// The transport checksum holds only the pseudo-header's share.
    pub partial: bool,
    /// When it was transmitted.
    pub at: Time,
}

impl Frame {
    /// Fills in an open checksum.
    pub fn complete(&mut self) {
        if std::mem::take(&mut self.partial) {
            offload::complete(&mut self.bytes);
        }
    }
}

/// What a port has seen of the stack's transmissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames, those that overflowed included.
    pub frames: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
    /// Frames that were lost because nobody took those before.
    pub overflow: u64,
}

/// Where frames wait that the stack transmitted.
#[derive(Debug)]
pub(super) struct Outlet {
    capacity: usize,
    discard: bool,
    frames: AtomicU64,
    bytes: AtomicU64,
    overflow: AtomicU64,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

/// Buffers that are kept for frames to come.
const SPARE_MAX: usize = 64;

impl Outlet {
    pub(super) fn new(capacity: usize, discard: bool) -> Outlet {
        Outlet {
            capacity,
            discard,
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            overflow: AtomicU64::new(0),
            waiting: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push<'a>(
        &self,
        at: Time,
        len: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
        gso_size: u16,
        partial: bool,
    ) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        if self.discard {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.frames.len() >= self.capacity {
            self.overflow.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut bytes = waiting.spare.pop().unwrap_or_default();
        bytes.clear();
        pieces.for_each(|piece| bytes.extend_from_slice(piece));
        waiting.frames.push_back(Frame { bytes, gso_size, partial, at });
        drop(waiting);
        self.arrived.notify_one();
    }
}

/// The bare end of a cable: frames go in and come out by hand. Cloning gives another handle to the same end.
///
/// Times that are passed in are the stack's clock.
#[derive(Clone, Debug)]
pub struct Port {
    inlet: Arc<Inlet>,
    outlet: Arc<Outlet>,
    rx_csum: bool,
    mac: MacAddr,
}

impl Port {
    pub(super) fn new(inlet: Arc<Inlet>, outlet: Arc<Outlet>, rx_csum: bool, mac: MacAddr) -> Port {
        Port { inlet, outlet, rx_csum, mac }
    }

    /// Hardware address of the stack's end.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Puts a frame onto the cable: it is in the stack's ring, and the interrupt raised, when this returns.
    ///
    /// If the stack's end has `rx_csum`, the checksum is verified as a card would.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn send(&self, now: Time, frame: &[u8]) -> Result<PacketId, NotTaken> {
        self.send_with(now, frame, self.desc_of(frame))
    }

    /// As [`Port::send`], with what the descriptor says of the frame: checksum state, segments, errors, hash (0: the
    /// steering's). Its length and time are filled in.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn send_with(&self, now: Time, frame: &[u8], desc: RxDesc) -> Result<PacketId, NotTaken> {
        self.write(now, frame, desc, None)
    }

    /// As [`Port::send_with`], into a queue of the caller's choice (modulo their number).
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn send_to(&self, queue: u16, now: Time, frame: &[u8], desc: RxDesc) -> Result<PacketId, NotTaken> {
        self.write(now, frame, desc, Some(queue))
    }

    /// Puts frames onto the cable and then raises each interrupt once; gives how many were taken.
    pub fn send_batch<'a>(&self, now: Time, frames: impl IntoIterator<Item = &'a [u8]>) -> usize {
        self.write_batch(now, frames.into_iter().map(|frame| (frame, self.desc_of(frame))))
    }

    /// As [`Port::send_batch`], with one descriptor's say for all frames.
    pub fn send_batch_with<'a>(&self, now: Time, desc: RxDesc, frames: impl IntoIterator<Item = &'a [u8]>) -> usize {
        self.write_batch(now, frames.into_iter().map(|frame| (frame, desc)))
    }

    fn desc_of(&self, frame: &[u8]) -> RxDesc {
        let verified = self.rx_csum && offload::verifies(frame);
        let csum = if verified { IpSummed::Unnecessary } else { IpSummed::None };
        RxDesc { csum, ..RxDesc::default() }
    }

    fn write(&self, now: Time, frame: &[u8], mut desc: RxDesc, queue: Option<u16>) -> Result<PacketId, NotTaken> {
        let attached = self.inlet.attached.get().filter(|_| self.inlet.carrier.is_up()).ok_or(NotTaken::NoCarrier)?;
        if attached.filters_out(frame) {
            return Err(NotTaken::Filtered);
        }
        let steered = attached.steer(frame, &mut desc);
        let index = queue.map_or(steered, |queue| usize::from(queue) % attached.queues.len());
        let queue = &attached.queues[index];
        let mut guard = queue.dma();
        let dma = guard.as_mut().ok_or(NotTaken::NoCarrier)?;
        let written = write_one(dma, now, frame, desc);
        drop(guard);
        queue.irq.raise(now, 1);
        written
    }

    fn write_batch<'a>(&self, now: Time, frames: impl Iterator<Item = (&'a [u8], RxDesc)>) -> usize {
        let Some(attached) = self.inlet.attached.get().filter(|_| self.inlet.carrier.is_up()) else { return 0 };
        let (mut taken, mut offered) = (0, 0u32);
        let mut at = usize::MAX;
        let mut guard: Option<MutexGuard<'_, Option<RxDma>>> = None;
        for (frame, mut desc) in frames.filter(|(frame, _)| !attached.filters_out(frame)) {
            let index = attached.steer(frame, &mut desc);
            if index != at {
                guard = None;
                if let Some(queue) = attached.queues.get(at).filter(|_| offered > 0) {
                    queue.irq.raise(now, offered);
                }
                (at, offered) = (index, 0);
            }
            let dma = guard.get_or_insert_with(|| attached.queues[index].dma());
            let Some(dma) = dma.as_mut() else { return taken };
            offered += 1;
            taken += usize::from(write_one(dma, now, frame, desc).is_ok());
        }
        drop(guard);
        if let Some(queue) = attached.queues.get(at).filter(|_| offered > 0) {
            queue.irq.raise(now, offered);
        }
        taken
    }

    /// Descriptors that are posted on a queue of the stack, as of now.
    pub fn available(&self, queue: u16) -> usize {
        let queue = self.inlet.queue(usize::from(queue));
        queue.map_or(0, |queue| queue.dma().as_mut().map_or(0, RxDma::available))
    }

    /// The next frame that the stack transmitted, its checksum complete.
    pub fn recv(&self) -> Option<Vec<u8>> {
        self.recv_frame().map(|mut frame| {
            frame.complete();
            frame.bytes
        })
    }

    /// As [`Port::recv`], into a buffer that is used again: it is swapped for the frame's own, so that nothing is
    /// allocated. False if there is no frame.
    pub fn recv_into(&self, buf: &mut Vec<u8>) -> bool {
        let mut waiting = self.outlet.waiting();
        let Some(mut frame) = waiting.frames.pop_front() else { return false };
        std::mem::swap(buf, &mut frame.bytes);
        if waiting.spare.len() < SPARE_MAX {
            waiting.spare.push(frame.bytes);
        }
        drop(waiting);
        if frame.partial {
            offload::complete(buf);
        }
        true
    }

    /// The next frame that the stack transmitted, as it left the stack.
    pub fn recv_frame(&self) -> Option<Frame> {
        self.outlet.waiting().frames.pop_front()
    }

    /// As [`Port::recv`], waiting for at most `timeout` of real time: for stacks that run on threads.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + timeout;
        let mut waiting = self.outlet.waiting();
        loop {
            if let Some(mut frame) = waiting.frames.pop_front() {
                drop(waiting);
                frame.complete();
                return Some(frame.bytes);
            }
            let left = end.checked_duration_since(Instant::now())?;
            waiting = self.outlet.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Frames that wait to be received.
    pub fn pending(&self) -> usize {
        self.outlet.waiting().frames.len()
    }

    /// What the stack transmitted so far.
    pub fn stats(&self) -> PortStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PortStats {
            frames: load(&self.outlet.frames),
            bytes: load(&self.outlet.bytes),
            overflow: load(&self.outlet.overflow),
        }
    }

    /// Pulls the plug, or puts it back in.
    pub fn set_link(&self, up: bool) {
        self.inlet.carrier.set(up);
    }

    /// The plug.
    pub fn carrier(&self) -> Carrier {
        self.inlet.carrier.clone()
    }
}

fn write_one(dma: &mut RxDma, now: Time, frame: &[u8], mut desc: RxDesc) -> Result<PacketId, NotTaken> {
    desc.at = now;
    desc.errors |= size_errors(frame.len());
    dma.write_frame(frame, desc).map_err(|missed| NotTaken::Missed(missed.id))
}
