//! Sleeping until there is something to do: a doorbell, an interrupt, a deadline.
//!
//! Linux has a sleeper that also wakes for interrupts by file descriptor; the portable one is compiled everywhere, so
//! that a change cannot break it unseen, and used elsewhere.

#[cfg(target_os = "linux")]
mod linux;
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "used where there is no epoll, and under test"))]
mod portable;
#[cfg(test)]
mod tests;

#[cfg(target_os = "linux")]
pub(super) use self::linux::{Bell, Sleeper};
#[cfg(not(target_os = "linux"))]
pub(super) use self::portable::{Bell, Sleeper};
