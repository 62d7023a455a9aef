//! What a run of a case was: frames in, frames out and calls, in order and with their times, and what the counters did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::case::{Call, Defect, Gave, Host, Layout, Report};

/// A segment that was sent, all of it numbers: the server's part of them relative to what the server chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The client's port.
    pub sport: u16,
    /// The server's port.
    pub dport: u16,
    /// Control bits.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: Number,
    /// Window, as it stands in the header.
    pub window: u16,
    /// Maximum segment size option.
    pub mss: Option<u16>,
    /// Window scale option.
    pub wscale: Option<u8>,
    /// Timestamp option: value and echo.
    pub stamp: Option<(u32, Number)>,
    /// The option that permits selective acknowledgements.
    #[serde(default)]
    pub sack_permitted: bool,
    /// Selective acknowledgements, relative to the server's initial sequence number.
    #[serde(default)]
    pub sack: Vec<(u32, u32)>,
    /// Urgent pointer.
    #[serde(default)]
    pub urgent: u16,
    /// Fast Open option, from its kind on.
    #[serde(default)]
    pub fast_open: Vec<u8>,
    /// How its options lie.
    pub layout: Layout,
    /// Payload bytes.
    pub len: u16,
    /// Type of service of its packet.
    pub tos: u8,
    /// What is wrong with it.
    pub defect: Defect,
}

/// A number of the server's, or one that has nothing to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Number {
    /// So much after what the server chose: its initial sequence number, or its last timestamp.
    Server(u32),
    /// As it is.
    Plain(u32),
}

impl Number {
    /// The number, where the server chose `base`.
    pub fn resolve(self, base: u32) -> u32 {
        match self {
            Number::Server(offset) => base.wrapping_add(offset),
            Number::Plain(number) => number,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the beginning of the run.
    pub at: u64,
    /// Nanoseconds that a step took: at what moment in them it was the server's turn is not known.
    #[serde(default)]
    pub took: u64,
    /// What.
    pub what: What,
    /// How much each counter rose in this step, if the case is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rose: Option<BTreeMap<String, i64>>,
}

impl Event {
    /// An event whose counters nobody looked at.
    pub fn new(at: u64, what: What) -> Event {
        Event { at, took: 0, what, rose: None }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The client sent a segment.
    Sent(Sent),
    /// Somebody sent a frame.
    Fed {
        /// The link.
        link: u8,
        /// The frame, from its Ethernet header on.
        #[serde(with = "hex")]
        frame: Vec<u8>,
    },
    /// Somebody told of an error with a segment of the server's; its sequence number is a number now.
    Reported(Report, Number),
    /// The application called.
    Called(Call, Gave),
    /// The host emitted a frame.
    Emitted {
        /// The link.
        #[serde(default)]
        link: u8,
        /// The frame, from its Ethernet header on.
        #[serde(with = "hex")]
        frame: Vec<u8>,
        /// It was there when the step before it returned; otherwise a timer sent it.
        prompt: bool,
    },
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// What it happened to.
    pub host: Host,
    /// In order.
    pub events: Vec<Event>,
    /// How much each counter rose, by the kernel's names (`TcpExtTCPHPHits`), those of interfaces behind the interface's
    /// (`twin0 rx_dropped`); those that did not are left out.
    pub counters: BTreeMap<String, i64>,
    /// Tunables of the namespace, by Linux's names, as far as a stack has them.
    pub sysctls: BTreeMap<String, String>,
    /// Nanoseconds after which the run was over.
    pub end: u64,
    /// Why the times are not to be relied on: the machine was late.
    pub disturbed: Option<String>,
}

/// Frames as hexadecimal digits.
pub(super) mod hex {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&digits)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let digits = String::deserialize(from)?;
        let nibble = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> = pairs.iter().map(|&[a, b]| Some(nibble(a)? << 4 | nibble(b)?)).collect();
        bytes.filter(|_| rest.is_empty()).ok_or_else(|| D::Error::custom("not a row of hexadecimal digits"))
    }
}
