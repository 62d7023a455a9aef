//! The Linux receive path as a Rust library.
#![deny(unsafe_code)]

pub mod config;
pub mod device;
