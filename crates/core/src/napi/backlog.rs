//! The per-Cpu backlog: packets that another Cpu's queue received and this Cpu owns (receive packet steering).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{Counter, DropReason, EventKind, Holder};

use crate::cx::Cx;
use crate::demux::stats::DevStat;
use crate::nic::owner_cpu;
use crate::tcp::FlowKey;

/// `input_pkt_queue` of one Cpu, filled by the others.
#[derive(Debug, Default)]
pub struct Backlog {
    queue: Mutex<SkbQueue>,
    /// Length, readable without the lock.
    len: AtomicUsize,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, SkbQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packets that wait.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// True if no packet waits.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `enqueue_to_backlog`: one more than the limit fits. Gives the length, or the packet when the queue is full.
    ///
    /// # Errors
    /// The packet, if `limit` is exceeded.
    pub fn push(&self, skb: Skb, limit: usize) -> Result<usize, Skb> {
        let mut queue = self.lock();
        if queue.len() > limit {
            return Err(skb);
        }
        queue.push_back(skb);
        let len = queue.len();
        self.len.store(len, Ordering::Release);
        Ok(len)
    }

    /// `process_backlog`: takes at most `weight` packets, in order.
    pub fn take(&self, weight: usize) -> SkbQueue {
        let mut queue = self.lock();
        let taken = queue.split_front_packets(weight);
        self.len.store(queue.len(), Ordering::Release);
        taken
    }
}

/// Finds the owner of packets and remembers the last flow, because packets of a flow come in runs.
#[derive(Debug, Default)]
pub struct Steer {
    last: FlowKey,
    hash: u32,
    owner: u16,
}

impl Steer {
    /// Sets the hash of every packet to that of its flow (0: no flow); true if another Cpu owns one of them.
    #[inline(always)]
    pub fn hash_all(&mut self, cx: &Cx, packets: &mut SkbQueue) -> bool {
        let mut foreign = false;
        packets.set_hashes(|skb| {
            let Some(key) = FlowKey::of(skb) else { return 0 };
            if key != self.last {
                self.last = key;
                self.hash = key.hash(&cx.net.hasher);
                self.owner = owner_cpu(self.hash, cx.net.cpus);
            }
            foreign |= self.owner != cx.cpu;
            self.hash
        });
        foreign
    }

    /// The owner of a packet whose hash is set (`get_rps_cpu`).
    #[inline]
    pub fn owner(&self, cx: &Cx, skb: &Skb) -> u16 {
        if skb.hash == 0 { cx.cpu } else { owner_cpu(skb.hash, cx.net.cpus) }
    }

    /// Hands a packet to the Cpu that owns its flow. True if that Cpu must be woken.
    pub fn hand_over(&self, cx: &mut Cx, to: &Backlog, owner: u16, skb: Skb) -> bool {
        let limit = cx.net.sysctl.netdev_max_backlog as usize;
        let (traced, id, ifindex) = (skb.traced(), skb.id, skb.ifindex);
        match to.push(skb, limit) {
            Ok(len) => {
                cx.hold(Holder::CpuBacklog);
                if traced {
                    let none = rxpath_trace::PacketId::NONE;
                    cx.record(id, EventKind::CpuBacklog, u32::from(owner), len as u32, none);
                }
                len == 1
            }
            Err(skb) => {
                cx.count(Counter::SoftnetDropped);
                cx.dev.add(ifindex, DevStat::RxDropped, 1);
                cx.drop_skb(skb, DropReason::CpuBacklog);
                false
            }
        }
    }
}
