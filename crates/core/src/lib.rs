//! The Linux receive path: from a device's descriptor ring to a socket's receive queue, without an operating system.
//!
//! Time is an argument; nothing here reads a clock, starts a thread or makes a system call. The rooms, in the order of
//! the path: [`nic`], [`napi`], [`gro`], [`demux`], [`neigh`], [`ip`], [`netfilter`], [`route`], [`icmp`], [`tcp`],
//! [`udp`], [`raw`], [`socket`], [`tx`]; `path` carries packets from room to room and [`stack`] ties the rooms together.
#![forbid(unsafe_code)]

pub mod cx;
pub mod demux;
mod expect;
pub mod gro;
pub mod icmp;
pub mod ip;
pub mod napi;
pub mod neigh;
pub mod netfilter;
pub mod netns;
pub mod nic;
mod path;
pub mod raw;
pub mod route;
pub mod socket;
pub mod stack;
pub mod sysctl;
pub mod tcp;
#[cfg(test)]
pub(crate) mod testing;
pub mod timer;
pub mod tx;
pub mod udp;
pub mod xdp;
