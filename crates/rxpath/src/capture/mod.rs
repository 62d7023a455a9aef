//! Capture files: pcap and pcapng, read as a stream, and pcapng written anew with what became of each packet.
//!
//! The formats are those of draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. Headers, blocks and options are taken
//! apart by the `pcap-parser` library; what is here is what lies around it: a window of bounded memory over any input,
//! byte offsets in every complaint, time in every resolution, the way from a link type to an Ethernet frame, and the
//! three blocks of the output.
//!
//! | file | holds |
//! |---|---|
//! | `reader.rs` | [`CaptureReader`]: packets one after the other, whatever the format |
//! | `classic.rs`, `blocks.rs` | the two formats |
//! | `window.rs` | the part of the input that is in memory |
//! | `error.rs` | what can be wrong with a capture, where, and the mend |
//! | `link.rs` | link types: which header stands in front of the packet, and what it tells |
//! | `arrival.rs` | what a capture leaves out or a card would have done: cut payloads, checksums, super-frames, FCS |
//! | `writer.rs` | [`CaptureWriter`]: pcapng with comments and verdicts |
//!
//! Nothing here panics, whatever the input holds, and memory stays below some [`MAX_RECORD`] bytes.

mod arrival;
mod blocks;
mod classic;
mod error;
mod link;
mod reader;
#[cfg(test)]
mod tests;
mod window;
mod writer;

pub use arrival::{Arrival, Notes, TooShort, prepare};
pub use error::{CaptureError, Fault};
pub use link::{Link, LinkKind, Peeled, Unreadable, peel, to_ethernet};
pub use reader::{CaptureReader, Direction, Format, Interface, Packet};
pub use writer::{CaptureWriter, Verdict, Written};

/// The longest packet, with the header of its record, that is read, in bytes; a longer one is an error. Blocks without
/// packets may be of any length.
pub const MAX_RECORD: usize = 4 << 20;
