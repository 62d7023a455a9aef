//! What sockets are ready for. What is expected is what `poll(2)` said on Linux 6.18.

use rxpath_trace::Counter;
use rxpath_wire::{Addr, icmp as wire_icmp};

use super::receive::unsound;
use super::{addr, bind, put, read_all, to_port};
use crate::route;
use crate::socket::Readiness;
use crate::tcp::SockError;
use crate::tcp::tests::lab::{Lab, PEER, US};
use crate::testing::frames::icmp;
use crate::udp::{Pending, Send, UdpSock};

const IDLE: Readiness =
    Readiness { readable: false, writable: true, priority: false, read_hangup: false, hangup: false, error: false };

#[test]
fn datagrams_and_errors_make_a_socket_ready() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    let ready = |lab: &Lab| lab.stack.udp_readiness(&sock, true, lab.now);
    assert_eq!(ready(&lab), IDLE);
    put(&mut lab, &to_port(7, b"x"));
    assert_eq!(ready(&lab), Readiness { readable: true, ..IDLE });
    assert_eq!(read_all(&lab, &sock), [b"x"]);
    assert_eq!(ready(&lab), IDLE);
    let refused = |lab: &mut Lab| {
        lab.stack.udp_send(&sock, b"y", None, false, lab.now).expect("on the link");
        let frame = lab.raw().expect("the datagram");
        put(lab, &icmp(wire_icmp::DEST_UNREACHABLE, 3, 0, &frame[14..]));
    };
    lab.stack.udp_connect(&sock, addr(PEER, 9)).expect("on the link");
    refused(&mut lab);
    assert_eq!(ready(&lab), Readiness { error: true, ..IDLE });
    assert_eq!(sock.rx.take_error(), Some(SockError::Refused));
    assert_eq!(ready(&lab), IDLE);
    // An error that is told in detail counts until it is read, whatever the next call has told.
    lab.stack.udp_set(&sock, |options| options.recv_errors = true);
    refused(&mut lab);
    assert_eq!(sock.rx.take_error(), Some(SockError::Refused));
    assert_eq!(ready(&lab), Readiness { error: true, ..IDLE });
    assert!(lab.stack.udp_recv_error(&sock).is_some());
    assert_eq!(ready(&lab), IDLE);
}

#[test]
fn who_blocks_is_told_of_sound_datagrams_alone() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    put(&mut lab, &unsound(7, 100));
    assert!(lab.stack.udp_readiness(&sock, false, lab.now).readable, "nobody has looked at it");
    assert_eq!(lab.stack.udp_readiness(&sock, true, lab.now), IDLE);
    assert_eq!((lab.count(Counter::UdpInCsumErrors), sock.rx.len()), (1, 0));
    put(&mut lab, &unsound(7, 100));
    put(&mut lab, &to_port(7, &[1; 100]));
    assert!(lab.stack.udp_readable(&sock, true, lab.now).0.readable);
    assert_eq!((lab.count(Counter::UdpInCsumErrors), read_all(&lab, &sock).len()), (2, 1));
}

/// Puts datagrams into the send buffer, which nobody sends, while `more`.
fn fill(lab: &Lab, sock: &UdpSock, more: impl Fn() -> bool) {
    let route = route::output(&lab.stack.config(), Addr::from(PEER), None).expect("on the link");
    let pending = Pending {
        len: 500,
        from: 7,
        to: (Addr::from(PEER), 9),
        route,
        ttl: 64,
        tos: 0,
        no_checksum: false,
        dont_fragment: false,
        segment: 0,
        to_all: false,
        looped: false,
    };
    while more() {
        assert!(matches!(sock.enqueue(&[2; 500], pending, false), Send::Taken));
    }
}

#[test]
fn half_of_the_send_buffer_is_room_to_write() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    sock.set_sndbuf(10_000, 1_000_000);
    fill(&lab, &sock, || sock.is_writable());
    assert!((10_000..20_000).contains(&sock.wmem()), "half of it, and one datagram");
    let (ready, listener) = lab.stack.udp_writable(&sock, true, lab.now);
    assert_eq!((ready, listener.is_some()), (Readiness { writable: false, ..IDLE }, true));
    lab.stack.udp_send(&sock, b"the last", Some(addr(PEER, 9)), false, lab.now).expect("there is room for it");
    lab.run();
    let (ready, listener) = lab.stack.udp_writable(&sock, true, lab.now);
    assert_eq!((ready, listener.is_none()), (IDLE, true), "all left");
    assert!(sock.send_wait.wakeups() > 0);
}
