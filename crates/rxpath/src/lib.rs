//! The Linux receive path as a Rust library: a TCP/IP stack in user space in which a packet lives the same life as in
//! the kernel, from the network card's descriptor ring to the application's `read`, and in which every packet is
//! accounted for.
//!
//! - [`Stack`] is built from devices, addresses, routes and Linux's sysctls ([`Stack::builder`]). Its softirqs run on
//!   threads of their own, on the application's threads, or when it is polled ([`Mode`]).
//! - [`net`] has `TcpListener`, `TcpStream` and `UdpSocket` with the methods and errors of [`std::net`], and `AsyncTcpListener`
//!   and `AsyncTcpStream` for tasks on any executor.
//! - [`device`] has the devices: an in-memory cable ([`device::wire`]) and, on Linux, a TAP. Others implement
//!   [`Device`].
//! - [`clock`] is where time comes from. With a [`clock::ManualClock`] everything happens in virtual time: the same
//!   program gives the same run.
//! - [`config`] reads `host.toml`.
//! - `capture` (feature `pcap`, on by default) reads and writes pcap and pcapng files; `device::pcap` plays them.
//!
//! What became of a packet: [`Stack::ledger`] balances all packets by how they ended, [`Stack::snapshot`] and
//! [`Stack::proc`] give the kernel's counters, and [`Stack::take_events`] the lives of chosen packets, event by event.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! use rxpath::device::wire::{self, WireConfig};
//! use rxpath::net::{TcpListener, TcpStream};
//! use rxpath::{Interface, Stack};
//!
//! // Two hosts on a cable.
//! let (left, right) = wire::pair(WireConfig::named("left"), WireConfig::named("right"));
//! let server = Stack::builder().interface(Interface::new(left).address("10.0.0.1/24")?).build()?;
//! let client = Stack::builder().interface(Interface::new(right).address("10.0.0.2/24")?).build()?;
//!
//! let listener = TcpListener::bind(&server, "10.0.0.1:80")?;
//! let greeter = std::thread::spawn(move || listener.accept()?.0.write_all(b"hello"));
//! let mut text = String::new();
//! TcpStream::connect(&client, "10.0.0.1:80")?.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! greeter.join().expect("it greeted")?;
//!
//! // Every packet that the server met is accounted for.
//! server.shutdown();
//! assert!(server.ledger().balanced(), "{}", server.ledger());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The README's first screen has what is not supported.
#![deny(unsafe_code)]

#[cfg(feature = "pcap")]
pub mod capture;
pub mod clock;
pub mod config;
pub mod device;
pub mod net;
mod runtime;
mod stack;

pub use rxpath_core::nic::Device;
pub use rxpath_core::stack::VlanConfig;
pub use rxpath_core::xdp;
pub use {rxpath_core, rxpath_mem, rxpath_trace, rxpath_wire};

pub use self::runtime::Mode;
pub use self::stack::{Interface, Polled, ProcView, Stack, StackBuilder};

/// The README's code, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
