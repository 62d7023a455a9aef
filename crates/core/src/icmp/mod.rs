//! ICMP (RFC 792): echo and timestamp requests answered, errors taken and sent.
//!
//! | file | kernel functions |
//! |---|---|
//! | `receive` | `icmp_rcv`, `icmp_unreach`, `icmp_redirect`, `icmp_socket_deliver` |
//! | `reply` | `icmp_echo`, `icmp_timestamp`, `icmp_reply` |
//! | `error` | `icmp_send`, `__icmp_send`, `ipv4_link_failure`, `ip_rt_send_redirect` |
//! | `limit` | `icmp_global_allow`, `icmpv4_xrlim_allow`, `inet_peer_xrlim_allow` |
//!
//! Counters are those of Linux, its quirk included: a timestamp reply is counted as an echo reply. Sysctls besides
//! `icmp_echo_ignore_all` and the limits are Linux's defaults (`icmp_echo_ignore_broadcasts` 1, `icmp_echo_enable_probe`
//! 0). The clock has no relation to midnight, so a timestamp has its highest bit set, as RFC 792 asks then. A deviation:
//! a request from a broadcast address of a subnet of ours is not answered (RFC 1122 section 3.2.2: Linux broadcasts its
//! reply).
//!
//! Neighbours: [`crate::ip`] hands messages over and reports what it cannot deliver; [`crate::tx`] sends. Nothing here
//! panics on received bytes.

mod error;
mod limit;
mod receive;
mod reply;
#[cfg(test)]
mod tests;

use rxpath_mem::Skb;
use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{Addr, IpProto};

pub use self::error::{link_failure, send_error, send_redirect};
pub use self::limit::RateLimits;
pub use self::receive::{IcmpError, delivered, rcv};
use crate::cx::{Cx, Fate};
use crate::tx::IpFlow;

/// Type: slow down (RFC 6633 retired it).
const SOURCE_QUENCH: u8 = 4;
/// Type: which netmask?
const ADDRESS_MASK_REQUEST: u8 = 17;
/// Type: this netmask.
const ADDRESS_MASK_REPLY: u8 = 18;
/// Highest type of RFC 792 and RFC 950 (`NR_ICMP_TYPES`).
const LAST_TYPE: u8 = ADDRESS_MASK_REPLY;
/// Types of RFC 8335: which interfaces? The kernel judges the reply as it does an echo reply.
const EXTENDED_ECHO_REQUEST: u8 = 42;
const EXTENDED_ECHO_REPLY: u8 = 43;

/// The IP header of a message of ours. Identifications are drawn: nobody can tell from one what the next will be, nor
/// how many packets we send.
fn ip_flow(cx: &mut Cx, src: Addr, dst: Addr, tos: u8) -> IpFlow {
    IpFlow {
        src,
        dst,
        protocol: IpProto::ICMP,
        ttl: cx.net.sysctl.ip_default_ttl,
        tos,
        dont_fragment: false,
        ident: (cx.rng.next_u64() >> 48) as u16,
    }
}

/// Counts a message received, by its type (`ICMPMSGIN_INC_STATS`).
fn count_in(cx: &Cx, kind: u8) {
    cx.count(Counter::icmp_in(kind));
    let named = match kind {
        0 => Counter::IcmpInEchoReps,
        3 => Counter::IcmpInDestUnreachs,
        4 => Counter::IcmpInSrcQuenchs,
        5 => Counter::IcmpInRedirects,
        8 => Counter::IcmpInEchos,
        11 => Counter::IcmpInTimeExcds,
        12 => Counter::IcmpInParmProbs,
        13 => Counter::IcmpInTimestamps,
        14 => Counter::IcmpInTimestampReps,
        17 => Counter::IcmpInAddrMasks,
        18 => Counter::IcmpInAddrMaskReps,
        _ => return,
    };
    cx.count(named);
}

/// Drops a message as one in error.
fn in_error<T>(cx: &Cx, skb: Skb, reason: DropReason) -> Fate<T> {
    cx.count(Counter::IcmpInErrors);
    Fate::Drop(skb, reason)
}

/// Counts a message sent, by its type (`icmp_out_count`).
pub(crate) fn count_out(cx: &Cx, kind: u8) {
    cx.count(Counter::IcmpOutMsgs);
    cx.count(Counter::icmp_out(kind));
    let named = match kind {
        0 => Counter::IcmpOutEchoReps,
        3 => Counter::IcmpOutDestUnreachs,
        4 => Counter::IcmpOutSrcQuenchs,
        5 => Counter::IcmpOutRedirects,
        8 => Counter::IcmpOutEchos,
        11 => Counter::IcmpOutTimeExcds,
        12 => Counter::IcmpOutParmProbs,
        13 => Counter::IcmpOutTimestamps,
        14 => Counter::IcmpOutTimestampReps,
        17 => Counter::IcmpOutAddrMasks,
        18 => Counter::IcmpOutAddrMaskReps,
        _ => return,
    };
    cx.count(named);
}
