//! The device that rxpath is fed through: frames are written straight into the posted slots, as a card does it.
//!
//! The stack opens the [`Feed`] and hands it the device's halves of its rings; they come out at [`Ports`], where the
//! peer writes. What the stack transmits is heard and gone.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rxpath_core::nic::{Device, DeviceInfo, DeviceQueue, Features, RxAttach, Steering, TruesizeModel, Xmit};
use rxpath_mem::{PagePool, Skb};
use rxpath_trace::Time;

use crate::frames::STACK_MAC;
use crate::heard::Heard;

/// What the stack hands to a device that it opens.
type Handed = Arc<Mutex<Option<(Vec<RxAttach>, Steering)>>>;

/// A device without offloads, one [`Heard`] per queue.
pub struct Feed {
    heard: Vec<Arc<Heard>>,
    handed: Handed,
}

/// Where the rings come out when the stack has opened the device.
pub struct Ports(Handed);

impl Feed {
    /// A device with as many queues as there are ears.
    pub fn new(heard: Vec<Arc<Heard>>) -> (Feed, Ports) {
        let handed = Handed::default();
        (Feed { heard, handed: Arc::clone(&handed) }, Ports(handed))
    }
}

impl Ports {
    /// The device's halves, one per queue, and how frames are to be spread over them. None before the device was
    /// opened, and the second time.
    pub fn take(&self) -> Option<(Vec<RxAttach>, Steering)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Device for Feed {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            name: "feed0".to_owned(),
            mac: STACK_MAC,
            mtu: 1_500,
            queues: self.heard.len() as u16,
            features: Features::default(),
            truesize: TruesizeModel::Kernel,
        }
    }

    fn open(self: Box<Self>, queues: Vec<RxAttach>, steering: Steering) -> io::Result<Vec<Box<dyn DeviceQueue>>> {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = Some((queues, steering));
        let opened = self.heard.iter().map(|heard| {
            let queue: Box<dyn DeviceQueue> = Box::new(FeedQueue { heard: Arc::clone(heard) });
            queue
        });
        Ok(opened.collect())
    }
}

struct FeedQueue {
    heard: Arc<Heard>,
}

impl DeviceQueue for FeedQueue {
    fn dma(&mut self, _: Time, _: &mut PagePool, _: usize) -> usize {
        0
    }

    fn xmit(&mut self, _: Time, skb: &Skb) -> Xmit {
        self.heard.note(skb.data());
        Xmit::Sent
    }

    fn flush(&mut self, _: Time) {}
}
