//! Which queue a frame goes to: receive-side scaling as a device does it.
//!
//! A device's choice is a hint. The owner of a flow is decided by the stack's keyed hash; a frame that a device put on
//! another Cpu's queue is handed on through the owner's backlog ([`crate::napi`], receive packet steering).

use rxpath_wire::frame::flow_of;
use rxpath_wire::{FlowHasher, Toeplitz, Tuple};

/// The Cpu, of `cpus`, that owns flows with this hash: `(hash * cpus) >> 32`, as RPS chooses from its map.
#[inline]
pub fn owner_cpu(hash: u32, cpus: u16) -> u16 {
    ((u64::from(hash) * u64::from(cpus)) >> 32) as u16
}

/// How a multi-queue device chooses the queue of a frame.
#[derive(Clone, Debug)]
pub enum Steering {
    /// Toeplitz hash and indirection table, the default of hardware: entry = hash mod table size.
    Toeplitz {
        /// The hash function with its key.
        hash: Box<Toeplitz>,
        /// Queue numbers; 128 entries by convention, entry `i` is `i mod queues`.
        indirection: Vec<u16>,
    },
    /// The stack's own keyed hash, as a device with programmable filters would be told: each flow meets its owner.
    Owner {
        /// The stack's flow hash.
        hasher: FlowHasher,
        /// Number of Cpus, which is the number of queues.
        cpus: u16,
    },
    /// Every frame to one queue, whatever its flow.
    Fixed(u16),
}

impl Steering {
    /// Toeplitz with the conventional indirection table of 128 entries for `queues` queues.
    pub fn toeplitz(key: &[u8; 40], queues: u16) -> Steering {
        let indirection = (0..128u16).map(|i| i % queues.max(1)).collect();
        Steering::Toeplitz { hash: Box::new(Toeplitz::new(key)), indirection }
    }

    /// Queue and receive hash for an Ethernet frame. Frames without a flow (ARP, short frames) give queue 0, hash 0.
    pub fn queue_of(&self, frame: &[u8]) -> (u16, u32) {
        let Some(flow) = flow_of(frame) else {
            return (if let Steering::Fixed(queue) = self { *queue } else { 0 }, 0);
        };
        match self {
            Steering::Toeplitz { hash, indirection } => {
                let value = if (flow.sport != 0 || flow.dport != 0) && !flow.is_fragment {
                    hash.hash_4tuple(flow.src, flow.dst, flow.sport, flow.dport)
                } else {
                    hash.hash_2tuple(flow.src, flow.dst)
                };
                (indirection[value as usize % indirection.len()], value)
            }
            Steering::Owner { hasher, cpus } => {
                let tuple =
                    Tuple { local: flow.dst, remote: flow.src, local_port: flow.dport, remote_port: flow.sport };
                let value = hasher.hash(&tuple);
                (owner_cpu(value, *cpus), value)
            }
            Steering::Fixed(queue) => (*queue, 1),
        }
    }
}
