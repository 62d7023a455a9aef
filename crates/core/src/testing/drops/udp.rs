//! UDP.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rxpath_trace::DropReason;
use rxpath_wire::{IpProto, MacAddr};

use super::{Cause, Scene};
use crate::testing::frames::{Ip, ip};
use crate::testing::{ADDR, PEER};
use crate::udp::UdpSock;
use crate::udp::tests::{bind, datagram, recv, to_addr, to_port};

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        reason: DropReason::UdpCsum,
        what: "a datagram of at most 76 bytes has a wrong checksum: it is verified when it comes",
        run: || to_socket(&[unsound(20)]).0,
    },
    Cause {
        reason: DropReason::UdpCsum,
        what: "a longer datagram has a wrong checksum: only its reader finds out",
        run: || {
            let (scene, sock) = to_socket(&[unsound(200)]);
            assert!(recv(&scene.lab, &sock, 1_000).is_err(), "there is nothing else to be read");
            scene
        },
    },
    Cause {
        reason: DropReason::NoSocket,
        what: "a datagram comes for a port that nobody has; the answer is an ICMP error (3/3)",
        run: || to_socket(&[to_port(9, b"anybody?")]).0,
    },
    Cause {
        reason: DropReason::PktTooSmall,
        what: "a UDP header claims more bytes than came",
        run: || {
            let mut bytes = datagram(PEER, ADDR, (5, 7), b"abc");
            bytes[4..6].copy_from_slice(&100u16.to_be_bytes());
            to_socket(&[ip(IpProto::UDP, &bytes)]).0
        },
    },
    Cause {
        reason: DropReason::NotSpecified,
        what: "a datagram is shorter than the UDP header",
        run: || to_socket(&[ip(IpProto::UDP, b"1234567")]).0,
    },
    Cause {
        reason: DropReason::NotSpecified,
        what: "a datagram to all hosts comes for a port that nobody has",
        run: || to_socket(&[to_addr([10, 0, 0, 255], 9, b"to all").in_frame_to(MacAddr::BROADCAST)]).0,
    },
    Cause {
        reason: DropReason::SocketRcvbuff,
        what: "the application reads nothing, and more datagrams come than its receive buffer holds",
        run: || {
            let scene = Scene::new();
            let sock = bind(&scene.lab, ADDR, 7);
            sock.rx.set_rcvbuf(0, 0);
            packets(scene, &[to_port(7, &[0; 1_000]), to_port(7, &[0; 1_000])])
        },
    },
    Cause {
        reason: DropReason::ProtoMem,
        what: "the receive queues of all UDP sockets together hold as much as `udp_mem` allows",
        run: || {
            let scene = Scene::with(|config| config.sysctl.set("net.ipv4.udp_mem", "1 1 1").expect("a tunable"));
            let _sock = bind(&scene.lab, ADDR, 7);
            let datagrams: Vec<Ip> = (0..8).map(|_| to_port(7, &[0; 1_000])).collect();
            packets(scene, &datagrams)
        },
    },
    Cause {
        reason: DropReason::QueuePurge,
        what: "a socket is closed with a datagram that nobody read",
        run: || {
            let (scene, sock) = to_socket(&[to_port(7, b"unread")]);
            scene.lab.stack.udp_close(&sock, scene.lab.now);
            scene
        },
    },
];

/// A datagram to port 7 with so many bytes of payload and a wrong checksum.
fn unsound(len: usize) -> Ip {
    let mut bytes = datagram(PEER, ADDR, (5, 7), &vec![0; len]);
    bytes[6] ^= 1;
    ip(IpProto::UDP, &bytes)
}

/// Packets come while a socket is bound to port 7.
fn to_socket(packets: &[Ip]) -> (Scene, Arc<UdpSock>) {
    let scene = Scene::new();
    let sock = bind(&scene.lab, Ipv4Addr::UNSPECIFIED, 7);
    (self::packets(scene, packets), sock)
}

fn packets(mut scene: Scene, packets: &[Ip]) -> Scene {
    for packet in packets {
        scene.frame(&packet.frame());
    }
    scene
}
