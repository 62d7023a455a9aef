//! Sleeping until there is something to do: a doorbell, an interrupt, a deadline.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;

#[cfg(target_os = "linux")]
pub(super) use self::linux::{Bell, Sleeper};
#[cfg(not(target_os = "linux"))]
pub(super) use self::portable::{Bell, Sleeper};
