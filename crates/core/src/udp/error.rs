//! ICMP errors about datagrams that we sent.

use rxpath_mem::Skb;
use rxpath_wire::{Addr, IcmpHeader, Ipv4Header, UdpHeader, icmp as wire_icmp};

use super::name::UdpKey;
use crate::cx::Cx;
use crate::icmp::IcmpError;
use crate::route;
use crate::socket::{ErrorMeans, ErrorOrigin, QueuedError};

/// `udp_err`: reports the error to the socket that sent the datagram, if that is connected and the error is no passing one,
/// or if it wants to be told of all. `skb` is the message. False if there is no such socket.
pub fn err(cx: &mut Cx, error: &IcmpError, skb: &Skb) -> bool {
    let [a, b, c, d, ..] = error.transport;
    let key = UdpKey {
        local: error.src,
        remote: error.dst,
        local_port: u16::from_be_bytes([a, b]),
        remote_port: u16::from_be_bytes([c, d]),
        ifindex: error.ifindex,
    };
    let Some(sock) = cx.udp.lookup_last(&key, &cx.net.hasher) else { return false };
    if error.needs_fragments() {
        route::update_pmtu(&cx.net, error.dst, error.mtu(), cx.now);
    } else if error.kind == wire_icmp::REDIRECT {
        route::do_redirect(&cx.net, error.dst, (error.from, error.gateway()), cx.now);
    }
    let Some(means) = ErrorMeans::of(error.kind, error.code) else { return true };
    if sock.options().recv_errors {
        // What does not fit is told by the next call all the same.
        let quoted = Quoted::Behind(UdpHeader::LEN);
        sock.rx.push_error(in_detail(cx, error, means, (key.remote, key.remote_port), skb, quoted));
    } else if !means.fatal || !sock.is_connected() {
        return true;
    }
    if let Some(queue) = sock.rx.fail(means.error) {
        cx.wakeups.queue(queue);
    }
    true
}

/// What of a packet that came back was the application's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Quoted {
    /// What lies so far behind its IP header.
    Behind(usize),
    /// All of it.
    Packet,
}

/// `ip_icmp_error`: the error, and what came back of the datagram.
pub(crate) fn in_detail(
    cx: &Cx,
    error: &IcmpError,
    means: ErrorMeans,
    to: (Addr, u16),
    skb: &Skb,
    quoted: Quoted,
) -> QueuedError {
    let ip = skb.data().get(IcmpHeader::LEN..).and_then(Ipv4Header::parse);
    let headers = IcmpHeader::LEN
        + match quoted {
            Quoted::Behind(len) => ip.map_or(Ipv4Header::LEN, |(ip, _)| ip.header_len()) + len,
            Quoted::Packet => 0,
        };
    let mut payload = vec![0; skb.len().saturating_sub(headers)];
    let came = skb.copy_to(headers, &mut payload);
    payload.truncate(came);
    QueuedError {
        error: means.error,
        origin: ErrorOrigin::Icmp { kind: error.kind, code: error.code, offender: error.from, ifindex: error.ifindex },
        info: if error.needs_fragments() { u32::from(error.mtu()) } else { 0 },
        to,
        at: cx.now,
        payload: payload.into_boxed_slice(),
        charge: skb.truesize,
    }
}
