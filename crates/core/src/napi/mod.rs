//! Phase 2: from the interrupt to a list of packets (NAPI, the NET_RX softirq, the per-Cpu backlog).
//!
//! | file | kernel functions |
//! |---|---|
//! | `poll` | a driver's `poll`, `napi_gro_receive`, `napi_complete_done` |
//! | `poll_list` | `list_add_tail`, `list_splice_tail` on a Cpu's `poll_list` |
//! | `softirq` | `net_rx_action`, `napi_poll`, `napi_schedule` |
//! | `busy` | `napi_busy_loop` |
//! | `backlog` | `enqueue_to_backlog`, `process_backlog`, `get_rps_cpu` |
//!
//! The hard-interrupt handler is [`crate::nic::IrqLine`]: it only schedules. A Cpu's softirq runs wherever its token is
//! held. Neighbours: [`crate::nic`] before it, [`crate::gro`] beside it, `path.rs` behind it. Nothing here panics
//! on what a device delivers.

mod backlog;
mod busy;
mod poll;
mod poll_list;
mod softirq;
#[cfg(test)]
mod tests;

pub use backlog::{Backlog, Steer};
pub use busy::{BUSY_POLL_BUDGET, BusyPolled};
pub use poll::{Napi, NapiSetup};
pub use softirq::{Inbox, Ran, Softirq};
