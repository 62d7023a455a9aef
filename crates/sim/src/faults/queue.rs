//! One queue of a faulty device: drives the queue inside, and is driven by the stack.

use std::io;
use std::sync::Arc;

use rxpath_core::nic::{DeviceQueue, Doorbell, IrqLine, Readiness, RxAttach, RxMode, Steering, Xmit};
use rxpath_mem::{PagePool, RxDesc, RxDma, Skb};
use rxpath_trace::Time;

use super::Count;
use super::line::Line;
use crate::driven::{Driven, Half, Parcel};

/// After this time a frame that the device inside did not take is offered again: 1 ms.
const RETRY_NS: u64 = 1_000_000;

/// The interrupt of the device inside is the interrupt of the device outside.
struct Forward(IrqLine);

impl Doorbell for Forward {
    fn ring(&self) {
        self.0.fire();
    }
}

/// What a queue has besides the queue inside.
pub(super) struct Outer {
    attach: RxAttach,
    half: Half,
}

/// A ring and a pool for each queue of the device inside.
pub(super) fn rings(outer: Vec<RxAttach>) -> io::Result<(Vec<RxAttach>, Vec<Outer>)> {
    let mut made = (Vec::new(), Vec::new());
    for (index, attach) in outer.into_iter().enumerate() {
        let (half, inner) = Half::new(index as u16, Arc::new(Forward(attach.irq.clone())))?;
        made.0.push(inner);
        made.1.push(Outer { attach, half });
    }
    Ok(made)
}

/// A queue in service.
pub(super) struct FaultyQueue {
    inner: Driven,
    dma: RxDma,
    irq: IrqLine,
    rx: Line,
    tx: Line,
    steering: Steering,
    /// A frame that the device inside had no room for, and when it is offered again.
    stuck: Option<(Time, Parcel)>,
}

impl FaultyQueue {
    pub(super) fn new(
        inner: Box<dyn DeviceQueue>,
        outer: Outer,
        (rx, tx): (Line, Line),
        steering: Steering,
    ) -> FaultyQueue {
        let Outer { attach: RxAttach { dma, irq }, half } = outer;
        FaultyQueue { inner: half.drive(inner), dma, irq, rx, tx, steering, stuck: None }
    }

    /// Moves frames that have arrived into the stack's ring.
    fn deliver(&mut self, now: Time, budget: usize) -> usize {
        let mut moved = 0;
        while moved < budget
            && self.dma.available() > 0
            && let Some(parcel) = self.rx.take(now)
        {
            // The bytes may have changed, and with them the flow that a hash stands for.
            let hash = if parcel.hash == 0 { 0 } else { self.steering.queue_of(&parcel.bytes).1 };
            let Parcel { bytes, csum, gso_size, gso_segs, errors, .. } = parcel;
            let desc = RxDesc { hash, csum, gso_size, gso_segs, errors, at: now, ..RxDesc::default() };
            // A frame that finds too few descriptors has been counted by the ring.
            let _ = self.dma.write_frame(&bytes, desc);
            moved += 1;
        }
        self.rx.count(Count::Passed, moved as u64);
        moved
    }

    /// Hands frames that are due to the device inside. True if it was given any.
    fn send_due(&mut self, now: Time) -> bool {
        let mut sent = false;
        loop {
            let parcel = match self.stuck.take() {
                Some((at, parcel)) if at > now => {
                    self.stuck = Some((at, parcel));
                    return sent;
                }
                Some((_, parcel)) => parcel,
                None => match self.tx.take(now) {
                    Some(parcel) => parcel,
                    None => return sent,
                },
            };
            match self.inner.xmit(now, &parcel) {
                Xmit::Sent => self.tx.count(Count::Passed, 1),
                Xmit::Failed => self.tx.count(Count::Refused, 1),
                Xmit::Busy => {
                    let at = self.inner.queue.next_event().unwrap_or(now + RETRY_NS).max(now + 1);
                    self.stuck = Some((at, parcel));
                    return sent;
                }
            }
            sent = true;
        }
    }
}

impl DeviceQueue for FaultyQueue {
    fn dma(&mut self, now: Time, _pool: &mut PagePool, budget: usize) -> usize {
        if self.send_due(now) {
            self.inner.queue.flush(now);
        }
        let missed = self.inner.take(now, |parcel| self.rx.offer(now, parcel));
        self.rx.count(Count::Refused, missed);
        let moved = self.deliver(now, budget);
        if moved > 0 && !self.irq.napi().is_scheduled() {
            self.irq.raise(now, moved as u32);
        }
        moved
    }

    fn xmit(&mut self, now: Time, skb: &Skb) -> Xmit {
        self.tx.offer(now, Parcel::leaving(skb));
        self.send_due(now);
        Xmit::Sent
    }

    fn flush(&mut self, now: Time) {
        self.send_due(now);
        self.inner.queue.flush(now);
    }

    fn next_event(&self) -> Option<Time> {
        // What could not be taken over in one go is due at once.
        let unfinished = self.inner.interrupted().then_some(Time::ZERO);
        // Behind a frame that is stuck the others wait, too.
        let leaving = self.stuck.as_ref().map(|&(at, _)| at).or_else(|| self.tx.next_arrival());
        let inner = self.inner.queue.next_event();
        [unfinished, leaving, self.rx.next_arrival(), inner].into_iter().flatten().min()
    }

    fn set_rx_mode(&mut self, mode: &RxMode) {
        self.inner.queue.set_rx_mode(mode);
    }

    fn readiness(&self) -> Option<Readiness> {
        self.inner.queue.readiness()
    }
}
