//! What applications want of the IP headers of a connection: of ours (`IP_TTL`, `IP_TOS`) and of the peer's (`IP_MINTTL`, the
//! Generalized TTL Security Mechanism of RFC 5082).

use rxpath_mem::Skb;
use rxpath_trace::Counter;
use rxpath_wire::Ipv4Header;

use crate::cx::Cx;

/// The congestion bits of a type of service, which are the stack's (RFC 3168).
const ECN: u8 = 3;

/// Of a connection, and what a listener hands on to its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpFields {
    /// Time to live of what is sent, 1 to 255; None is as `net.ipv4.ip_default_ttl` says (`IP_TTL`).
    pub ttl: Option<u8>,
    /// Type of service of what is sent; its lowest two bits are left out (`IP_TOS`).
    pub tos: u8,
    /// Segments of the peer with a lower time to live are dropped as `TCP_MINTTL`; 0 takes all (`IP_MINTTL`). Who sends with
    /// 255 and takes nothing below it talks to neighbours alone.
    pub min_ttl: u8,
}

impl IpFields {
    /// The type of service without the congestion bits.
    pub(super) fn tos(&self) -> u8 {
        without_ecn(self.tos)
    }

    /// Whether a time to live is too low; counts it if so.
    pub(super) fn is_too_low(&self, cx: &Cx, ttl: u8) -> bool {
        is_too_low(cx, ttl, self.min_ttl)
    }
}

/// Whether a packet has come too far for who takes none with a lower time to live than `min_ttl`; counts it if so.
#[inline(always)]
pub(super) fn came_too_far(cx: &Cx, skb: &Skb, min_ttl: u8) -> bool {
    min_ttl > 0 && is_too_low(cx, ttl_of(skb), min_ttl)
}

#[cold]
fn ttl_of(skb: &Skb) -> u8 {
    Ipv4Header::parse(skb.network_header()).map_or(0, |(ip, _)| ip.ttl())
}

fn is_too_low(cx: &Cx, ttl: u8, min_ttl: u8) -> bool {
    let low = ttl < min_ttl;
    if low {
        cx.count(Counter::TcpExtTCPMinTTLDrop);
    }
    low
}

/// A type of service as it may be reflected.
pub(super) fn without_ecn(tos: u8) -> u8 {
    tos & !ECN
}
