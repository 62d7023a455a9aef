//! Devices that come with the stack: sources and sinks of Ethernet frames behind [`rxpath_core::nic::Device`].
//!
//! - [`wire`]: an in-memory cable, to another stack or to a bare end.
//! - [`tap`]: a Linux TAP interface, the cable to the running kernel.
//! - [`netns`]: a private network namespace around it, made by system calls alone.
//!
//! The latter two need Linux and are absent elsewhere.

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "system calls that have no safe form")]
pub mod netns;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "ioctls that have no safe form")]
pub mod tap;
pub mod wire;
