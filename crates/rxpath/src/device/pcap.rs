//! A device whose frames come from a capture, at the capture's own times on the stack's clock.
//!
//! [`Pcap`] plays a [`Source`]: whenever the stack's clock reaches the time of the next frame ([`DeviceQueue::next_event`]
//! tells it), the frame is written into the ring that its flow is steered to, and that queue's interrupt is raised. On a
//! virtual clock a capture of an hour is played as fast as the stack takes it, and every run is the same.
//!
//! [`Recorded`] is the source for most: all packets of a capture but those that the host with this interface sent, each
//! made into the Ethernet frame that a card would have received ([`crate::capture`] says how). Others implement
//! [`Source`].
//!
//! What the stack sends is counted and forgotten, unless the source looks at it ([`Source::sent`]): nobody is at the other
//! end. Each frame interrupts; moderation has nothing to gather, as the times are those at which the capturing host had
//! the frames already.
//!
//! Nothing here panics, whatever the capture holds.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rxpath_core::nic::{Device, DeviceInfo, DeviceQueue, Features, IrqLine, RxAttach, Steering, TruesizeModel, Xmit};
use rxpath_mem::{PagePool, RxDesc, RxDma, RxErrors, Skb};
use rxpath_trace::{PacketId, Time};
use rxpath_wire::{EthernetHeader, MacAddr};

use crate::capture::{self, CaptureReader, Direction, Link, LinkKind};

/// Longest frame that the device takes: an IP packet of 65,535 bytes behind an Ethernet header with two VLAN tags.
const FRAME_MAX: usize = 65_535 + EthernetHeader::LEN + 8;

/// A frame on its way into the device.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What the descriptor says of it; length, time and steering hash are filled in.
    pub desc: RxDesc,
}

/// Where the frames of a [`Pcap`] come from.
pub trait Source: Send {
    /// When the next frame arrives, on the stack's clock; nothing if there is none (yet). Times do not go back.
    fn next_at(&self) -> Option<Time>;

    /// Writes the next frame into `frame`, whose contents are of no use. False if there is none after all.
    fn take(&mut self, frame: &mut Frame) -> bool;

    /// The frame that was taken last has this identity; `queue` is the receive queue that it went to.
    fn arrived(&mut self, id: PacketId, queue: u16) {
        let _ = (id, queue);
    }

    /// The stack sent a frame.
    fn sent(&mut self, now: Time, frame: &Skb) {
        let _ = (now, frame);
    }
}

/// What the device is like.
#[derive(Clone, Debug)]
pub struct PcapConfig {
    /// Name of the interface, at most 15 bytes.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddr,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Receive queues, at least 1.
    pub queues: u16,
}

impl Default for PcapConfig {
    /// `pcap0`, 02:72:78:00:00:01, MTU 1,500, one queue.
    fn default() -> PcapConfig {
        PcapConfig { name: "pcap0".to_owned(), mac: MacAddr([0x02, 0x72, 0x78, 0, 0, 1]), mtu: 1_500, queues: 1 }
    }
}

/// A device that plays a [`Source`].
pub struct Pcap {
    config: PcapConfig,
    source: Box<dyn Source>,
}

impl std::fmt::Debug for Pcap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pcap").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Pcap {
    /// A device that plays `source`.
    pub fn new(config: PcapConfig, source: impl Source + 'static) -> Pcap {
        Pcap { config, source: Box::new(source) }
    }
}

/// What the queues share.
struct Shared {
    source: Box<dyn Source>,
    steering: Steering,
    rings: Vec<(RxDma, IrqLine)>,
    frame: Frame,
}

impl Device for Pcap {
    fn info(&self) -> DeviceInfo {
        let PcapConfig { name, mac, mtu, queues } = self.config.clone();
        // What the stack sends is never really on a wire, so everything may be left to the device.
        let features = Features { rx_csum: false, tx_csum: true, tso: true };
        DeviceInfo { name, mac, mtu, queues: queues.max(1), features, truesize: TruesizeModel::Kernel }
    }

    fn open(self: Box<Self>, queues: Vec<RxAttach>, steering: Steering) -> io::Result<Vec<Box<dyn DeviceQueue>>> {
        let Pcap { config, source } = *self;
        let count = queues.len();
        if count != usize::from(config.queues.max(1)) {
            let what = format!("{}: {} queues, and {count} rings for them", config.name, config.queues);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let rings = queues.into_iter().map(|RxAttach { dma, irq }| (dma, irq)).collect();
        let shared = Arc::new(Mutex::new(Some(Shared { source, steering, rings, frame: Frame::default() })));
        let queue = |index| -> Box<dyn DeviceQueue> { Box::new(PcapQueue { index, shared: Arc::clone(&shared) }) };
        Ok((0..count).map(queue).collect())
    }
}

/// One queue in service. The first plays for all.
struct PcapQueue {
    index: usize,
    /// Nothing once the stack has closed a queue: no frame may be written that nobody would count.
    shared: Arc<Mutex<Option<Shared>>>,
}

impl PcapQueue {
    fn shared(&self) -> MutexGuard<'_, Option<Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PcapQueue {
    fn drop(&mut self) {
        *self.shared() = None;
    }
}

impl DeviceQueue for PcapQueue {
    fn dma(&mut self, now: Time, _pool: &mut PagePool, budget: usize) -> usize {
        if self.index > 0 {
            return 0;
        }
        let mut shared = self.shared();
        let Some(shared) = shared.as_mut() else { return 0 };
        let mut moved = 0;
        while moved < budget && shared.source.next_at().is_some_and(|at| at <= now) && shared.play(now) {
            moved += 1;
        }
        moved
    }

    fn xmit(&mut self, now: Time, skb: &Skb) -> Xmit {
        if skb.len() > FRAME_MAX {
            return Xmit::Failed;
        }
        if let Some(shared) = self.shared().as_mut() {
            shared.source.sent(now, skb);
        }
        Xmit::Sent
    }

    fn flush(&mut self, _now: Time) {}

    fn next_event(&self) -> Option<Time> {
        if self.index > 0 {
            return None;
        }
        self.shared().as_ref()?.source.next_at()
    }
}

impl Shared {
    /// Writes the next frame into the ring of its flow. False if there was none.
    fn play(&mut self, now: Time) -> bool {
        let at = self.source.next_at().unwrap_or(now);
        if !self.source.take(&mut self.frame) {
            return false;
        }
        let Frame { bytes, desc } = &mut self.frame;
        let mut desc = RxDesc { at, ..*desc };
        desc.errors |= length_errors(bytes.len());
        let queue = match self.rings.len() {
            1 => 0,
            rings => {
                let (queue, hash) = self.steering.queue_of(bytes);
                desc.hash = hash;
                usize::from(queue) % rings
            }
        };
        let Some((dma, irq)) = self.rings.get_mut(queue) else { return false };
        let id = match dma.write_frame(bytes, desc) {
            Ok(id) => id,
            // Counted by the ring; its driver learns of it.
            Err(missed) => missed.id,
        };
        // The queue that is being polled sees its own frames in this very poll.
        if queue > 0 {
            irq.raise(now, 1);
        }
        self.source.arrived(id, queue as u16);
        true
    }
}

/// What a card says of a frame for its length alone.
fn length_errors(len: usize) -> RxErrors {
    match len {
        0..EthernetHeader::LEN => RxErrors::RUNT,
        EthernetHeader::LEN..=FRAME_MAX => RxErrors::NONE,
        _ => RxErrors::OVERSIZE,
    }
}

/// What became of the packets of a capture that [`Recorded`] went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Packets in the capture so far.
    pub packets: u64,
    /// Those that went into the device.
    pub fed: u64,
    /// Those that the host itself sent.
    pub outbound: u64,
    /// Those of which no frame could be made: of an unknown link type, or with cut headers.
    pub unreadable: u64,
    /// Those that were older than one before them; they arrive together with that one.
    pub back_in_time: u64,
}

/// What [`Recorded`] says of itself while a device has it.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<(Played, Option<String>)>>);

impl Watch {
    fn lock(&self) -> MutexGuard<'_, (Played, Option<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts so far.
    pub fn played(&self) -> Played {
        self.lock().0
    }

    /// What ended the capture before its end, with the place.
    pub fn fault(&self) -> Option<String> {
        self.lock().1.clone()
    }
}

/// The packets of a capture that an interface received, from the stack's time `start` on.
///
/// ```
/// use rxpath::capture::CaptureReader;
/// use rxpath::clock::ManualClock;
/// use rxpath::device::pcap::{Pcap, PcapConfig, Recorded};
/// use rxpath::rxpath_trace::Time;
/// use rxpath::{Interface, Mode, Stack};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A pcap file (Ethernet) with one packet, an ARP request for 10.0.0.1, two seconds after the epoch.
/// let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
/// file.extend([2, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 42, 0, 0, 0]);
/// file.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
/// file.extend([2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
///
/// let clock = ManualClock::new();
/// let config = PcapConfig::default();
/// let recorded = Recorded::new(CaptureReader::new(std::io::Cursor::new(file))?, &config, Time::from_millis(2_000));
/// let device = Interface::new(Pcap::new(config, recorded)).address("10.0.0.1/24")?;
/// let stack = Stack::builder().interface(device).mode(Mode::Polled).clock(clock.clone()).build()?;
/// stack.run_for(std::time::Duration::from_secs(5))?;
/// let ledger = stack.ledger();
/// assert_eq!((ledger.offered(), ledger.transmitted()), (1, 1), "the question, and the answer");
/// ledger.check()?;
/// # Ok(()) }
/// ```
pub struct Recorded<R> {
    reader: CaptureReader<R>,
    config: PcapConfig,
    start: Time,
    /// Time of the first packet, in nanoseconds since 1970.
    first: Option<i64>,
    /// The frame that comes next, and when.
    next: Option<(Time, Frame)>,
    spare: Frame,
    last: Time,
    played: Played,
    watch: Watch,
}

impl<R: Read + Send> Recorded<R> {
    /// The packets that an interface with this address received: all but those from its own address, and those that the
    /// capture calls outbound. The first arrives at `start`.
    pub fn new(reader: CaptureReader<R>, config: &PcapConfig, start: Time) -> Recorded<R> {
        let mut recorded = Recorded {
            reader,
            config: config.clone(),
            start,
            first: None,
            next: None,
            spare: Frame::default(),
            last: start,
            played: Played::default(),
            watch: Watch::default(),
        };
        recorded.advance();
        recorded
    }

    /// A handle on counts and faults, for when a device has this.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Reads on to the next packet that was received.
    fn advance(&mut self) {
        self.next = None;
        let fault = loop {
            match self.reader.next_packet() {
                Ok(None) => break None,
                Err(fault) => break Some(fault.to_string()),
                Ok(Some(_)) => {}
            }
            if self.look() {
                break None;
            }
        };
        let mut watch = self.watch.lock();
        watch.0 = self.played;
        if fault.is_some() {
            watch.1 = fault;
        }
    }

    /// Looks at the packet that was read last; true if it is a frame for the device.
    fn look(&mut self) -> bool {
        let Some(packet) = self.reader.last_packet() else { return false };
        self.played.packets += 1;
        let interface = packet.interface.and_then(|index| self.reader.interfaces().get(index));
        let link = interface.map_or(Link::Other(u16::MAX), |interface| interface.link);
        let fcs_len = packet.fcs_len().or(interface.map(|interface| interface.fcs_len)).unwrap_or(0);
        let Ok(peeled) = capture::peel(link, packet.data) else {
            self.played.unreadable += 1;
            return false;
        };
        let from_us = link == Link::Ethernet && peeled.src == Some(self.config.mac);
        if from_us || peeled.kind == Some(LinkKind::Outgoing) || packet.direction() == Some(Direction::Outbound) {
            self.played.outbound += 1;
            return false;
        }
        let mut frame = std::mem::take(&mut self.spare);
        capture::to_ethernet(link, &peeled, packet.data, self.config.mac, &mut frame.bytes);
        let missing = packet.wire_len as usize - packet.data.len();
        let prepared = capture::prepare(&mut frame.bytes, missing, fcs_len, self.config.mtu, None, packet.flags);
        let Ok(arrival) = prepared else {
            self.played.unreadable += 1;
            self.spare = frame;
            return false;
        };
        frame.desc = arrival.desc();
        let time = packet.time.unwrap_or(self.first.unwrap_or(0));
        let first = *self.first.get_or_insert(time);
        let at = self.start + time.saturating_sub(first).max(0).cast_unsigned();
        if at < self.last {
            self.played.back_in_time += 1;
        }
        self.last = self.last.max(at);
        self.next = Some((self.last, frame));
        true
    }
}

impl<R: Read + Send> Source for Recorded<R> {
    fn next_at(&self) -> Option<Time> {
        self.next.as_ref().map(|(at, _)| *at)
    }

    fn take(&mut self, frame: &mut Frame) -> bool {
        let Some((_, next)) = self.next.take() else { return false };
        self.spare = std::mem::replace(frame, next);
        self.played.fed += 1;
        self.advance();
        true
    }
}
