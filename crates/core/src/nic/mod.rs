//! Phase 1: the network card as the stack sees it.
//!
//! A [`Device`] brings queues; each queue owns the device half of a descriptor ring ([`rxpath_mem::RxDma`]) and an
//! [`IrqLine`]. The driver half of the ring belongs to the Cpu that polls the queue ([`crate::napi`]).
//!
//! Neighbours: [`crate::napi`] takes what the device wrote; [`crate::tx`] hands frames to [`DeviceQueue::xmit`].
//! Nothing here panics on what a device delivers.

mod device;
mod filter;
mod irq;
mod napi_id;
mod steering;
mod truesize;

pub use device::{Device, DeviceInfo, DeviceQueue, Features, Readiness, RxAttach, Xmit};
pub use filter::{Promiscuity, RxMode};
pub use irq::{Doorbell, IrqLine, IrqStats, Moderation, NapiState, NoDoorbell};
pub use napi_id::{MIN_NAPI_ID, napi_id};
pub use steering::{Steering, owner_cpu};
pub use truesize::{DENSE_MAX, Dense, Joins, TruesizeModel};
