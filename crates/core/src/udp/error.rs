//! ICMP errors about datagrams that we sent.

use rxpath_wire::icmp as wire_icmp;

use super::name::UdpKey;
use crate::cx::Cx;
use crate::icmp::IcmpError;
use crate::route;
use crate::socket::ErrorMeans;

/// `udp_err`: reports the error to the socket that sent the datagram, if that is connected and the error is no passing one.
/// False if there is no such socket.
pub fn err(cx: &mut Cx, error: &IcmpError) -> bool {
    let [a, b, c, d, ..] = error.transport;
    let key = UdpKey {
        local: error.src,
        remote: error.dst,
        local_port: u16::from_be_bytes([a, b]),
        remote_port: u16::from_be_bytes([c, d]),
        ifindex: error.ifindex,
    };
    let Some(sock) = cx.udp.lookup(&key, &cx.net.hasher) else { return false };
    let means = ErrorMeans::of(error.kind, error.code);
    if error.needs_fragments() {
        route::update_pmtu(&cx.net, error.dst, error.mtu(), cx.now);
    } else if error.kind == wire_icmp::REDIRECT {
        route::do_redirect(&cx.net, error.dst, (error.from, error.gateway()), cx.now);
    }
    if let Some(ErrorMeans { error, fatal: true }) = means
        && sock.is_connected()
        && let Some(queue) = sock.rx.fail(error)
    {
        cx.wakeups.queue(queue);
    }
    true
}
