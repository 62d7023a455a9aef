//! Packet memory of rxpath: where frames lie, who owns them, and how they change hands.
//!
//! - [`PagePool`] (the kernel's `page_pool`): one contiguous mapping per RX queue, cut into slots of three classes. Its
//!   owner allocates and frees without atomics; every other thread gives slots back through a lock-free ring, in
//!   batches ([`Returns`]).
//! - [`Skb`] (the kernel's `sk_buff`): an owned handle of 8 bytes to one packet. Its metadata is one cache line in
//!   front of the buffer; fragments are further slots chained behind; a clone shares data by count. What is sent may
//!   refer to memory of the application ([`UserPages`]).
//! - [`SkbQueue`] (`sk_buff_head`): a FIFO that links packets through their metadata and allocates nothing.
//! - [`rx_ring`]: the descriptor ring between a device ([`RxDma`]) and its driver ([`RxRing`]).
//! - [`SockLock`]: the socket lock with its two kinds of owner, softirq and user (`bh_lock_sock`, `lock_sock`).
//!
//! Below it lies only `rxpath-trace` (time and packet identity); above it the core, which contains no `unsafe`. This
//! crate does: every index protocol in it is a small core that loom checks, and everything that
//! touches packet memory is run against a model.
//!
//! Nothing that comes from the wire makes anything here panic. Programming errors do where going on would be worse:
//! [`Skb::put`] beyond the tailroom and [`Skb::push`] beyond the headroom (as the kernel's `skb_over_panic` and
//! `skb_under_panic`), writing to shared data, and, in debug builds, a packet that goes out of scope unended.

mod lines;
mod pool;
mod queue;
mod region;
mod returns;
mod ring;
mod share;
mod skb;
mod slot;
mod socklock;
mod sync;

pub use pool::{PagePool, PoolConfig, PoolStats};
pub use queue::{Iter, SkbMut, SkbQueue};
pub use returns::Returns;
pub use ring::{
    Alike, DmaSlot, FrameUser, Harvest, Missed, MissedFrame, Peek, RingStats, RxDesc, RxDma, RxErrors, RxRing, rx_ring,
};
pub use skb::{Fragments, Skb, Tail, UserPages};
pub use slot::{IpSummed, PktType, RX_HEADROOM, SkbMeta, SlotClass};
pub use socklock::{LockOwner, OwnedSoftirq, SockLock, SoftirqGuard, UserGuard};
