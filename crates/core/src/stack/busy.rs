//! Readers that poll the queues of their sockets (`sk_busy_loop`, `napi_busy_loop`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rxpath_mem::RingStats;
use rxpath_trace::Time;

use super::Stack;
use crate::napi::BusyPolled;
use crate::nic::{IrqLine, MIN_NAPI_ID};

/// A queue that a reader polls. Dropped, its interrupt is as before.
pub struct BusyQueue {
    stack: Stack,
    cpu: u16,
    name: (u16, u16),
    stats: Arc<RingStats>,
    irq: IrqLine,
    /// Its line is the reader's meanwhile.
    held: bool,
}

impl Stack {
    /// The queue of this number ([`crate::tcp::Receiver::napi_id`]). With `hold` its interrupt is masked for as long as it is
    /// polled, so that no softirq thread wakes for what the reader takes (`SO_PREFER_BUSY_POLL`). None if there is no such
    /// queue.
    pub fn busy_queue(&self, napi_id: u32, hold: bool) -> Option<BusyQueue> {
        let ring = usize::try_from(napi_id.checked_sub(MIN_NAPI_ID)?).ok()?;
        let (ifindex, queue, stats, irq) = self.0.rings.get(ring)?;
        Some(BusyQueue {
            stack: self.clone(),
            cpu: queue % self.cpus(),
            name: (*ifindex, *queue),
            stats: Arc::clone(stats),
            irq: irq.clone(),
            held: hold && irq.napi().schedule_prep(),
        })
    }

    /// The numbers of all queues.
    pub fn napi_ids(&self) -> impl Iterator<Item = u32> + use<> {
        MIN_NAPI_ID..MIN_NAPI_ID + self.0.rings.len() as u32
    }
}

impl BusyQueue {
    /// Polls once, for at most `budget` packets; gives how many that were. What the softirq was to do anyway is done, too.
    /// None if somebody else holds the Cpu's token: he polls.
    pub fn poll(&mut self, budget: u16, clock: &mut dyn FnMut() -> Time) -> Option<usize> {
        let cell = self.stack.0.cpus.get(usize::from(self.cpu))?;
        let mut guard = cell.token.try_lock().ok()?;
        self.stack.begin(cell, &mut guard, clock());
        let cpu = &mut *guard;
        let polled =
            cpu.softirq.busy_poll(&mut cpu.cx, &mut cpu.flows, self.name, usize::from(budget.max(1)), self.held);
        let (work, again) = match polled {
            BusyPolled::Done { work, left } => (work, left),
            BusyPolled::Scheduled => {
                let ran = cpu.softirq.net_rx_action(&mut cpu.cx, &mut cpu.flows, clock);
                (ran.work, ran.again)
            }
        };
        self.stack.end(cell, &mut guard);
        let earlier = self.stack.deadline(&guard).is_some_and(|at| at.0 < cell.asleep_until.load(Ordering::Relaxed));
        let mut wakeups = std::mem::take(&mut guard.cx.wakeups);
        drop(guard);
        // Somebody else may sleep for this Cpu: he must not oversleep.
        if again || earlier || cell.mail.load(Ordering::Acquire) {
            self.stack.ring(self.cpu);
        }
        wakeups.deliver();
        Some(work)
    }
}

impl Drop for BusyQueue {
    fn drop(&mut self) {
        if self.held {
            self.irq.release(self.stats.held() > 0);
        }
    }
}
