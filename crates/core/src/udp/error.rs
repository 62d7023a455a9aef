//! ICMP errors about datagrams that we sent.

use rxpath_mem::Skb;
use rxpath_wire::{UdpHeader, icmp as wire_icmp};

use super::name::UdpKey;
use crate::cx::Cx;
use crate::icmp::IcmpError;
use crate::route;
use crate::socket::{ErrorMeans, QueuedError, Quoted};

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
        sock.rx.push_error(QueuedError::of_icmp(cx, error, means, (key.remote, key.remote_port), skb, quoted));
    } else if !means.fatal || !sock.is_connected() {
        return true;
    }
    if let Some(queue) = sock.rx.fail(means.error) {
        cx.wakeups.queue(queue);
    }
    true
}
