//! UDP through a whole stack: frames in, frames out, sockets by their calls.

mod errors;
mod lookup;
mod ready;
mod receive;
mod send;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rxpath_trace::{Counter, Snapshot};
use rxpath_wire::{Addr, IpProto, UdpHeader, udp as wire_udp};

use super::UdpSock;
use crate::socket::NoDatagram;
use crate::stack::{BindOptions, Received};
use crate::tcp::tests::lab::{Lab, PEER, US};
use crate::testing::frames::{Ip, ip};

/// A datagram with its checksum.
pub(crate) fn datagram(src: Ipv4Addr, dst: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; UdpHeader::LEN];
    let len = (UdpHeader::LEN + payload.len()) as u16;
    wire_udp::emit(&mut bytes, wire_udp::UdpRepr { sport: ports.0, dport: ports.1, len });
    bytes.extend_from_slice(payload);
    wire_udp::fill_checksum(Addr::from(src), Addr::from(dst), &mut bytes);
    bytes
}

/// A datagram from the peer's port 5 to ours.
pub(crate) fn to_port(port: u16, payload: &[u8]) -> Ip {
    ip(IpProto::UDP, &datagram(PEER, US, (5, port), payload))
}

/// A datagram from the peer's port 5 to a port of another address.
pub(crate) fn to_addr(dst: [u8; 4], port: u16, payload: &[u8]) -> Ip {
    ip(IpProto::UDP, &datagram(PEER, dst.into(), (5, port), payload)).to(dst)
}

pub(crate) fn addr(host: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::from((host, port))
}

pub(crate) fn bind(lab: &Lab, host: Ipv4Addr, port: u16) -> Arc<UdpSock> {
    lab.stack.udp_bind(addr(host, port), BindOptions::default()).expect("a free port")
}

pub(crate) fn put(lab: &mut Lab, packet: &Ip) {
    lab.put(&packet.frame());
    lab.run();
}

/// Reads without waiting.
pub(crate) fn recv(lab: &Lab, sock: &Arc<UdpSock>, room: usize) -> Result<(Vec<u8>, Received), NoDatagram> {
    let mut buf = vec![0; room];
    let received = lab.stack.udp_recv(sock, &mut buf, false, false, lab.now)?;
    buf.truncate(received.len);
    Ok((buf, received))
}

/// What waits in a socket, read to its end.
pub(crate) fn read_all(lab: &Lab, sock: &Arc<UdpSock>) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| recv(lab, sock, 65_536).ok().map(|(bytes, _)| bytes)).collect()
}

/// Counters of UDP and ICMP that moved since `before`.
pub(crate) fn moved(lab: &Lab, before: &Snapshot) -> Vec<(Counter, u64)> {
    let ours = |counter: &Counter| {
        let name = counter.to_string();
        name.starts_with("Udp") || name.starts_with("Icmp") && !name.starts_with("IcmpMsg")
    };
    lab.stack.snapshot().diff(before).nonzero().filter(|(counter, _)| ours(counter)).collect()
}
