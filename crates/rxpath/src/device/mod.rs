//! Devices that come with the stack: sources and sinks of Ethernet frames behind [`rxpath_core::nic::Device`].
//!
//! - [`wire`]: an in-memory cable, to another stack or to a bare end.
//! - [`tap`]: a Linux TAP interface, the cable to the running kernel.
//! - [`netns`]: a private network namespace around it, made by system calls alone.
//! - `pcap` (feature `pcap`): frames of a capture, at the capture's own times on the stack's clock.
//!
//! The TAP and the namespace need Linux and are absent elsewhere.

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "system calls that have no safe form")]
pub mod netns;
#[cfg(feature = "pcap")]
pub mod pcap;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "ioctls that have no safe form")]
pub mod tap;
pub mod wire;
