//! What a network device must do to be driven by the stack.

use std::any::Any;
use std::io;
use std::sync::Arc;

use rxpath_mem::{PagePool, RxDma, Skb};
use rxpath_trace::Time;
use rxpath_wire::MacAddr;

use super::{IrqLine, RxMode, Steering, TruesizeModel};

/// What a device takes over from the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The device verifies TCP and UDP checksums and says so in the descriptor.
    pub rx_csum: bool,
    /// The device fills in the TCP checksum of a frame that leaves as `IpSummed::Partial`.
    pub tx_csum: bool,
    /// The device cuts a TCP super-frame (up to 64 KiB) into segments of `gso_size`.
    pub tso: bool,
}

/// How a device presents itself when the stack takes it.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Interface name, at most 15 bytes, as `ip link` would show it.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddr,
    /// Largest IP packet in bytes (without the Ethernet header).
    pub mtu: u16,
    /// Number of receive and transmit queue pairs, at least 1.
    pub queues: u16,
    /// Offloads.
    pub features: Features,
    /// How a frame of this device is charged to a socket's memory.
    pub truesize: TruesizeModel,
}

/// The receive side of one queue, handed to the device when it is opened.
#[derive(Debug)]
pub struct RxAttach {
    /// The device half of the descriptor ring: posted slots go in here, filled.
    pub dma: RxDma,
    /// The interrupt of this queue: raised after descriptors were completed.
    pub irq: IrqLine,
}

/// What became of a frame that was handed to the device for transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xmit {
    /// The device took the frame.
    Sent,
    /// The transmit queue is full: offer the frame again after the device made room.
    Busy,
    /// The device refused the frame for good; it is dropped as `TX_ERROR`.
    Failed,
}

/// What the runtime waits on for an interrupt. The core hands it on without knowing what it is: on Unix an `OwnedFd`
/// whose readability is the interrupt.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<dyn Any + Send + Sync>);

impl Readiness {
    /// Wraps what the runtime knows how to wait on.
    pub fn new<T: Any + Send + Sync>(handle: Arc<T>) -> Readiness {
        Readiness(handle)
    }

    /// What was wrapped, if it is a `T`.
    pub fn handle<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.0).downcast().ok()
    }
}

/// A network device. Implement this to drive the stack from a source of Ethernet frames of your own.
pub trait Device: Send {
    /// Name, address, sizes and offloads.
    fn info(&self) -> DeviceInfo;

    /// Takes the device into service: one [`RxAttach`] per queue comes in, one driver handle per queue goes out.
    ///
    /// # Errors
    /// Whatever keeps the device from working; the message names the mend.
    fn open(self: Box<Self>, queues: Vec<RxAttach>, steering: Steering) -> io::Result<Vec<Box<dyn DeviceQueue>>>;
}

/// One queue pair of an open device, driven by the Cpu that owns it.
pub trait DeviceQueue: Send {
    /// Moves at most `budget` frames that wait inside the device into posted descriptors and gives the number moved.
    ///
    /// A device that writes into its ring by itself (as real hardware does) moves nothing here. Called at the start of
    /// every NAPI poll and when [`DeviceQueue::next_event`] has come.
    fn dma(&mut self, now: Time, pool: &mut PagePool, budget: usize) -> usize;

    /// Takes one frame for transmission; the frame is read only during the call.
    fn xmit(&mut self, now: Time, skb: &Skb) -> Xmit;

    /// Ends a burst of [`DeviceQueue::xmit`]: rings the peer, writes what was gathered.
    fn flush(&mut self, now: Time);

    /// When the device wants [`DeviceQueue::dma`] to be called although nothing arrives (delay lines, rate limits).
    fn next_event(&self) -> Option<Time> {
        None
    }

    /// What the device is to let in from now on (`ndo_set_rx_mode`). A software device hands up everything, and does
    /// nothing here.
    fn set_rx_mode(&mut self, mode: &RxMode) {
        let _ = mode;
    }

    /// What is to be waited on for this queue's interrupt, of a device that cannot raise it by itself.
    fn readiness(&self) -> Option<Readiness> {
        None
    }
}
