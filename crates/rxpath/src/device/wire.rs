//! An in-memory Ethernet cable.
//!
//! - [`pair`] connects two stacks.
//! - [`port`] gives one stack and a [`Port`]: the bare end of the cable, for tests, oracles and benchmarks.
//!
//! A frame is written straight into the posted slots of the receiving stack, as a network card's DMA does, by whoever
//! sends it; then the interrupt of the queue is raised. The receiving device's steering chooses the queue.
//!
//! **Offloads.** A frame that the sending stack leaves with an open checksum
//! ([`IpSummed::Partial`]), super-frames included, is taken over as it is by a receiver
//! whose [`Features::rx_csum`] is set: the bytes never were on a real wire, as between two virtual machines of one host;
//! a super-frame then spans several descriptors. For other receivers the sending card does what a card does: it cuts
//! super-frames into segments and completes checksums. [`WireConfig::cut`] makes it cut always.
//! Frames with a complete checksum are verified for a receiver with `rx_csum`, which sees
//! [`IpSummed::Unnecessary`] if they are right and [`IpSummed::None`] if not.
//!
//! **A full ring.** With [`WireConfig::pause`] a sending stack is held back while the receiver has no descriptors, as
//! by Ethernet's PAUSE frames, for at most [`PAUSE_MAX_NS`]; after that, and without `pause`, the frame is `rx_missed`
//! at the receiver. A [`Port`] is never held back.
//!
//! No byte on the wire makes anything here panic.

mod inlet;
mod offload;
mod port;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rxpath_core::nic::{Device, DeviceInfo, DeviceQueue, Features, RxAttach, RxMode, Steering, TruesizeModel, Xmit};
use rxpath_mem::{IpSummed, PagePool, RxDesc, RxDma, Skb};
use rxpath_trace::Time;
use rxpath_wire::MacAddr;

pub use self::inlet::Carrier;
use self::inlet::{Attached, FRAME_MAX, Inlet, Passed, RxQueue};
use self::port::Outlet;
pub use self::port::{Frame, NotTaken, Port, PortStats};

/// Pieces of a frame that are handed over without gathering them first.
const PIECES: usize = 24;
/// After this time a sender that is held back looks again, whether it was called or not.
const RETRY_NS: u64 = 1_000_000;
/// The longest time that a sender is held back, 10 ms: then its frame is missed.
pub const PAUSE_MAX_NS: u64 = 10 * RETRY_NS;

/// What one end of a cable is like.
#[derive(Clone, Debug)]
pub struct WireConfig {
    /// Name of the interface, at most 15 bytes.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Queues, at least 1.
    pub queues: u16,
    /// Offloads: `tx_csum` and `tso` as a sender, `rx_csum` as a receiver. `tso` needs `tx_csum`.
    pub features: Features,
    /// How frames are charged to sockets.
    pub truesize: TruesizeModel,
    /// Super-frames that this end sends are cut into segments on the wire, also where the receiver would take them.
    pub cut: bool,
    /// This end waits while the receiver has no descriptors, for a short time. Not with a [`Port`] as the receiver.
    pub pause: bool,
    /// As a receiver, this end lets in what a network card would: frames to its own address and those of VLAN devices on it,
    /// to all, and to groups that were joined; all frames in promiscuous mode. Without it, as a software device, everything.
    pub filter: bool,
    /// With a [`Port`] as the receiver: frames that may wait there. More are lost, and counted as
    /// [`PortStats::overflow`].
    pub capacity: usize,
    /// With a [`Port`] as the receiver: count frames and forget them.
    pub discard: bool,
}

impl Default for WireConfig {
    /// `wire0`, 02:72:78:00:00:01, MTU 1,500, one queue, no offload, the kernel's truesizes, pause on, 1,024 frames.
    fn default() -> WireConfig {
        WireConfig {
            name: "wire0".to_owned(),
            mac: MacAddr([0x02, 0x72, 0x78, 0, 0, 1]),
            mtu: 1_500,
            queues: 1,
            features: Features::default(),
            truesize: TruesizeModel::Kernel,
            cut: false,
            pause: true,
            filter: false,
            capacity: 1_024,
            discard: false,
        }
    }
}

impl WireConfig {
    /// The default with this name.
    pub fn named(name: &str) -> WireConfig {
        WireConfig { name: name.to_owned(), ..WireConfig::default() }
    }

    /// With this hardware address.
    pub fn mac(self, mac: MacAddr) -> WireConfig {
        WireConfig { mac, ..self }
    }

    /// With this number of queues.
    pub fn queues(self, queues: u16) -> WireConfig {
        WireConfig { queues: queues.max(1), ..self }
    }

    /// With every offload, or without any.
    pub fn offload(self, on: bool) -> WireConfig {
        WireConfig { features: Features { rx_csum: on, tx_csum: on, tso: on }, ..self }
    }
}

/// A cable between two stacks. If both ends were given one hardware address, the second differs in its last bit.
pub fn pair(a: WireConfig, mut b: WireConfig) -> (Wire, Wire) {
    if a.mac == b.mac {
        b.mac.0[5] ^= 1;
    }
    let carrier = Carrier::up();
    let (inlet_a, inlet_b) = (Inlet::new(a.features.rx_csum, &carrier), Inlet::new(b.features.rx_csum, &carrier));
    let wire_a = Wire { config: a, own: inlet_a.clone(), far: Far::Stack(inlet_b.clone()) };
    let wire_b = Wire { config: b, own: inlet_b, far: Far::Stack(inlet_a) };
    (wire_a, wire_b)
}

/// A cable whose other end is bare.
pub fn port(config: WireConfig) -> (Wire, Port) {
    let inlet = Inlet::new(config.features.rx_csum, &Carrier::up());
    let outlet = Arc::new(Outlet::new(config.capacity, config.discard));
    let port = Port::new(inlet.clone(), outlet.clone(), config.features.rx_csum, config.mac);
    (Wire { config, own: inlet, far: Far::Port(outlet) }, port)
}

/// One end of a cable, to be given to a stack.
#[derive(Debug)]
pub struct Wire {
    config: WireConfig,
    own: Arc<Inlet>,
    far: Far,
}

impl Wire {
    /// The plug, for tests that pull it.
    pub fn carrier(&self) -> Carrier {
        self.own.carrier.clone()
    }
}

#[derive(Clone, Debug)]
enum Far {
    Stack(Arc<Inlet>),
    Port(Arc<Outlet>),
}

impl Device for Wire {
    fn info(&self) -> DeviceInfo {
        let WireConfig { name, mac, mtu, queues, features, truesize, .. } = self.config.clone();
        let tso = features.tso && features.tx_csum;
        DeviceInfo { name, mac, mtu, queues: queues.max(1), features: Features { tso, ..features }, truesize }
    }

    fn open(self: Box<Self>, queues: Vec<RxAttach>, steering: Steering) -> io::Result<Vec<Box<dyn DeviceQueue>>> {
        let Wire { config, own, far } = *self;
        let count = queues.len();
        if count != usize::from(config.queues.max(1)) {
            let what = format!("wire {}: {} queues, and {count} rings for them", config.name, config.queues);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let ring = |RxAttach { dma, irq }| RxQueue { dma: Mutex::new(Some(dma)), irq, waiting: AtomicU64::new(0) };
        let filter = config.filter.then(RwLock::default);
        let attached = Attached { steering, filter, queues: queues.into_iter().map(ring).collect() };
        if own.attached.set(attached).is_err() {
            let what = format!("wire {}: this end has a stack", config.name);
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
        }
        let queue = |index| -> Box<dyn DeviceQueue> {
            let far_queues = far.queues();
            Box::new(WireQueue {
                index,
                own: own.clone(),
                far: far.clone(),
                cut: config.cut,
                pause: config.pause,
                held: None,
                retry_at: None,
                written: vec![0; far_queues],
                gathered: Vec::new(),
                built: Vec::new(),
            })
        };
        Ok((0..count).map(queue).collect())
    }
}

impl Far {
    /// Queues of the far end, as far as is known.
    fn queues(&self) -> usize {
        match self {
            Far::Stack(inlet) => inlet.attached.get().map_or(1, |attached| attached.queues.len()),
            Far::Port(_) => 0,
        }
    }
}

/// One queue in service.
struct WireQueue {
    index: usize,
    own: Arc<Inlet>,
    far: Far,
    cut: bool,
    pause: bool,
    /// Since when the sender is held back.
    held: Option<Time>,
    retry_at: Option<Time>,
    /// Frames written to each queue of the far end and not yet announced.
    written: Vec<u32>,
    /// A frame in one piece.
    gathered: Vec<u8>,
    /// One segment of it.
    built: Vec<u8>,
}

impl Drop for WireQueue {
    fn drop(&mut self) {
        // The slots that are posted go home, although the far end keeps the cable.
        if let Some(queue) = self.own.queue(self.index) {
            *queue.dma() = None;
        }
    }
}

impl DeviceQueue for WireQueue {
    fn dma(&mut self, now: Time, _pool: &mut PagePool, _budget: usize) -> usize {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        self.call_waiting();
        0
    }

    fn xmit(&mut self, now: Time, skb: &Skb) -> Xmit {
        if !self.own.carrier.is_up() || skb.len() > FRAME_MAX {
            return Xmit::Failed;
        }
        match self.far.clone() {
            Far::Stack(inlet) => self.send_to_stack(&inlet, now, skb),
            Far::Port(outlet) => self.send_to_port(&outlet, now, skb),
        }
    }

    fn flush(&mut self, now: Time) {
        let Far::Stack(inlet) = &self.far else { return };
        for (index, frames) in self.written.iter_mut().enumerate() {
            if *frames > 0 {
                if let Some(queue) = inlet.queue(index) {
                    queue.irq.raise(now, *frames);
                }
                *frames = 0;
            }
        }
    }

    fn set_rx_mode(&mut self, mode: &RxMode) {
        if let Some(filter) = self.own.attached.get().and_then(|attached| attached.filter.as_ref()) {
            filter.write().unwrap_or_else(PoisonError::into_inner).clone_from(mode);
        }
    }

    fn next_event(&self) -> Option<Time> {
        self.retry_at
    }
}

impl WireQueue {
    /// Senders that wait for descriptors of ours are called when there are some again.
    fn call_waiting(&self) {
        let (Some(queue), Far::Stack(far)) = (self.own.queue(self.index), &self.far) else { return };
        if queue.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let posted = queue.dma().as_mut().map_or(0, RxDma::available);
        if posted == 0 {
            return;
        }
        let bits = queue.waiting.swap(0, Ordering::AcqRel);
        let Some(attached) = far.attached.get() else { return };
        for (index, sender) in attached.queues.iter().enumerate() {
            if bits & 1 << (index % 64) != 0 {
                sender.irq.fire();
            }
        }
    }

    fn send_to_stack(&mut self, inlet: &Inlet, now: Time, skb: &Skb) -> Xmit {
        let partial = skb.ip_summed == IpSummed::Partial;
        let cut = skb.gso_size > 0 && (self.cut || !inlet.rx_csum);
        let desc = RxDesc { csum: skb.ip_summed, gso_size: skb.gso_size, gso_segs: skb.gso_segs, ..RxDesc::default() };
        if cut {
            return self.send_cut(inlet, now, skb);
        }
        if partial && inlet.rx_csum {
            return self.send_pieces(inlet, now, skb, desc);
        }
        if !partial && !inlet.rx_csum {
            return self.send_pieces(inlet, now, skb, RxDesc { csum: IpSummed::None, ..desc });
        }
        self.gather(skb);
        let csum = if partial {
            offload::complete(&mut self.gathered);
            IpSummed::None
        } else if offload::verifies(&self.gathered) {
            IpSummed::Unnecessary
        } else {
            IpSummed::None
        };
        let gathered = std::mem::take(&mut self.gathered);
        let sent = self.pass(inlet, now, &[&gathered], RxDesc { csum, ..desc });
        self.gathered = gathered;
        sent
    }

    fn send_pieces(&mut self, inlet: &Inlet, now: Time, skb: &Skb, desc: RxDesc) -> Xmit {
        let mut pieces: [&[u8]; PIECES] = [&[]; PIECES];
        let mut count = 0;
        for piece in skb.fragments() {
            if count == PIECES {
                self.gather(skb);
                let gathered = std::mem::take(&mut self.gathered);
                let sent = self.pass(inlet, now, &[&gathered], desc);
                self.gathered = gathered;
                return sent;
            }
            pieces[count] = piece;
            count += 1;
        }
        self.pass(inlet, now, &pieces[..count], desc)
    }

    /// Segments of one super-frame are not held back one by one: the first decides for all.
    fn send_cut(&mut self, inlet: &Inlet, now: Time, skb: &Skb) -> Xmit {
        self.gather(skb);
        let (gathered, mut built) = (std::mem::take(&mut self.gathered), std::mem::take(&mut self.built));
        let csum = if inlet.rx_csum { IpSummed::Unnecessary } else { IpSummed::None };
        let desc = RxDesc { csum, ..RxDesc::default() };
        let mut sent = None;
        let cut = offload::segment(&gathered, skb.gso_size, &mut built, |frame| match sent {
            None => sent = Some(self.pass(inlet, now, &[frame], desc)),
            Some(Xmit::Sent) => self.pass_forced(inlet, now, frame, desc),
            Some(_) => {}
        });
        (self.gathered, self.built) = (gathered, built);
        sent.filter(|_| cut).unwrap_or(Xmit::Failed)
    }

    fn pass(&mut self, inlet: &Inlet, now: Time, parts: &[&[u8]], desc: RxDesc) -> Xmit {
        let patient = self.pause && self.held.is_none_or(|since| now - since < PAUSE_MAX_NS);
        match inlet.write(now, parts, desc, !patient) {
            Passed::Taken(index) => {
                self.held = None;
                self.retry_at = None;
                self.announce(index);
                Xmit::Sent
            }
            // Nobody is there to hear it: it is on the wire all the same.
            Passed::Nobody => Xmit::Sent,
            Passed::Full(index) => {
                self.held.get_or_insert(now);
                self.retry_at = Some(now + RETRY_NS);
                if let Some(queue) = inlet.queue(index) {
                    queue.waiting.fetch_or(1 << (self.index % 64), Ordering::AcqRel);
                    // The receiver polls once more after this, and so sees that somebody waits.
                    queue.irq.fire();
                }
                Xmit::Busy
            }
        }
    }

    fn pass_forced(&mut self, inlet: &Inlet, now: Time, frame: &[u8], desc: RxDesc) {
        if let Passed::Taken(index) = inlet.write(now, &[frame], desc, true) {
            self.announce(index);
        }
    }

    fn announce(&mut self, index: usize) {
        if index >= self.written.len() {
            self.written.resize(index + 1, 0);
        }
        self.written[index] += 1;
    }

    fn send_to_port(&mut self, outlet: &Outlet, now: Time, skb: &Skb) -> Xmit {
        if self.cut && skb.gso_size > 0 {
            self.gather(skb);
            let plain = |frame: &[u8]| outlet.push(now, frame.len(), [frame].into_iter(), 0, false);
            let cut = offload::segment(&self.gathered, skb.gso_size, &mut self.built, plain);
            return if cut { Xmit::Sent } else { Xmit::Failed };
        }
        outlet.push(now, skb.len(), skb.fragments(), skb.gso_size, skb.ip_summed == IpSummed::Partial);
        Xmit::Sent
    }

    /// The whole frame in one piece.
    fn gather(&mut self, skb: &Skb) {
        self.gathered.clear();
        for piece in skb.fragments() {
            self.gathered.extend_from_slice(piece);
        }
    }
}
