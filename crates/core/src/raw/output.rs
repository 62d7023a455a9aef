//! Sending: with an IP header made here, or with the application's own.

use rxpath_mem::Skb;
use rxpath_trace::{Counter, DropReason, OutputWhat};
use rxpath_wire::{Addr, IpProto, Ipv4Header, ipv4};

use super::sock::RawOptions;
use crate::cx::Cx;
use crate::icmp;
use crate::route::{Reach, Route};
use crate::tx::{self, IpFlow};

/// A packet that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Payload, or all from the IP header on.
    pub bytes: &'a [u8],
    /// Protocol, where the header is made here.
    pub protocol: u8,
    /// Destination.
    pub dst: Addr,
    /// The way there, and to whom it leads.
    pub route: (Route, Reach),
    /// Options of the socket.
    pub options: RawOptions,
}

/// `raw_sendmsg`: sends a packet; false if the pool is dry. A header that the application brings was looked at before.
pub fn send(cx: &mut Cx, outgoing: &Outgoing<'_>) -> bool {
    let Some(skb) = packet(cx, outgoing.bytes) else {
        cx.count(Counter::IpOutDiscards);
        return false;
    };
    if let Some(kind) = icmp_type(outgoing) {
        icmp::count_out(cx, kind);
    }
    let (mut route, reach) = outgoing.route;
    if outgoing.options.header_included {
        send_hdrinc(cx, skb, &mut route);
        return true;
    }
    let fits = skb.len() + Ipv4Header::LEN <= usize::from(route.mtu);
    let default_ttl = if reach == Reach::Multicast { 1 } else { cx.net.sysctl.ip_default_ttl };
    let flow = IpFlow {
        src: route.src,
        dst: outgoing.dst,
        protocol: outgoing.protocol,
        ttl: outgoing.options.ttl.unwrap_or(default_ttl),
        tos: outgoing.options.tos,
        dont_fragment: fits,
        ident: (cx.rng.next_u64() >> 48) as u16,
    };
    match reach {
        Reach::Unicast => tx::ip_queue_xmit(cx, skb, &flow, &mut route),
        Reach::Multicast | Reach::Broadcast => tx::ip_mc_output(cx, skb, &flow, &mut route, true),
    }
    true
}

/// The type of the ICMP message that is sent, if it is one.
fn icmp_type(outgoing: &Outgoing<'_>) -> Option<u8> {
    if !outgoing.options.header_included {
        return outgoing.bytes.first().copied().filter(|_| outgoing.protocol == IpProto::ICMP);
    }
    let (header, _) = Ipv4Header::parse(outgoing.bytes)?;
    outgoing.bytes.get(header.header_len()).copied().filter(|_| header.protocol() == IpProto::ICMP)
}

/// A packet of these bytes.
fn packet(cx: &mut Cx, bytes: &[u8]) -> Option<Skb> {
    let mut skb = cx.alloc_output(OutputWhat::Other, bytes.len().min(LINEAR), false)?;
    if cx.append(&mut skb, bytes) {
        return Some(skb);
    }
    cx.drop_skb(skb, DropReason::Nomem);
    None
}

/// Bytes of a packet in its first slot; what is longer goes on in further ones.
const LINEAR: usize = 1_900;

/// `raw_send_hdrinc`: what the application left out of the header is filled in: source, identification, length, checksum.
fn send_hdrinc(cx: &mut Cx, mut skb: Skb, route: &mut Route) {
    let total_len = skb.len() as u16;
    let ident = (cx.rng.next_u64() >> 48) as u16;
    let src = route.src.v4();
    let Some(header_len) = Ipv4Header::parse(skb.data()).map(|(header, _)| header.header_len()) else {
        return cx.drop_skb(skb, DropReason::NotSpecified);
    };
    if let (Some((header, _)), Some(src)) = (Ipv4Header::parse_mut(skb.data_mut()), src) {
        if header.src().is_unspecified() {
            header.set_src(src);
        }
        if header.id() == 0 {
            header.set_id(ident);
        }
        header.set_total_len(total_len);
    }
    if let Some(header) = skb.data_mut().get_mut(..header_len) {
        ipv4::fill_checksum(header);
    }
    tx::ip_send_made(cx, skb, header_len, route);
}
