//! Errors told in detail. What is expected is what Linux 6.18 did.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::{Addr, icmp as wire_icmp};

use super::{addr, bind, put, recv};
use crate::socket::{ErrorOrigin, NoDatagram};
use crate::stack::SendError;
use crate::tcp::SockError;
use crate::tcp::tests::lab::{Lab, PEER, US};
use crate::testing::frames::icmp;
use crate::udp::UdpSock;

const ROUTER: [u8; 4] = [10, 0, 0, 254];

fn listening(lab: &Lab) -> Arc<UdpSock> {
    let sock = bind(lab, US, 7);
    lab.stack.udp_set(&sock, |options| options.recv_errors = true);
    sock
}

/// Sends `payload`, of which an error comes back from a router.
fn refused(lab: &mut Lab, sock: &Arc<UdpSock>, payload: &[u8], (kind, code, info): (u8, u8, u32)) {
    lab.stack.udp_send(sock, payload, Some(addr(PEER, 9)), false, lab.now).expect("on the link");
    let frame = lab.raw().expect("the datagram");
    put(lab, &icmp(kind, code, info, &frame[14..]).from(ROUTER));
}

const PORT: (u8, u8, u32) = (wire_icmp::DEST_UNREACHABLE, 3, 0);
const TTL: (u8, u8, u32) = (wire_icmp::TIME_EXCEEDED, 0, 0);

fn origin((kind, code, _): (u8, u8, u32)) -> ErrorOrigin {
    ErrorOrigin::Icmp { kind, code, offender: Addr::from_v4(ROUTER), ifindex: 1 }
}

#[test]
fn an_error_is_told_with_the_payload_that_came_back() {
    let mut lab = Lab::new();
    let sock = listening(&lab);
    refused(&mut lab, &sock, &[b'x'; 100], PORT);
    let told = lab.stack.udp_recv_error(&sock).expect("told in detail");
    assert_eq!((told.error, told.origin, told.info), (SockError::Refused, origin(PORT), 0));
    assert_eq!((told.to, &told.payload[..]), ((Addr::from(PEER), 9), &[b'x'; 100][..]));
    assert_eq!(sock.rx.take_error(), None, "it was the last");
    // Passing errors are told, too, and by the next call if nobody reads them.
    refused(&mut lab, &sock, b"y", TTL);
    assert!(matches!(recv(&lab, &sock, 9), Err(NoDatagram::Failed(SockError::Unreachable))));
    assert!(matches!(recv(&lab, &sock, 9), Err(NoDatagram::Empty(_))));
    let told = lab.stack.udp_recv_error(&sock).expect("still there");
    assert_eq!((told.error, told.origin, &told.payload[..]), (SockError::Unreachable, origin(TTL), &b"y"[..]));
    assert!(lab.stack.udp_recv_error(&sock).is_none());
    // The link is narrower than the datagram.
    refused(&mut lab, &sock, b"z", (wire_icmp::DEST_UNREACHABLE, wire_icmp::FRAGMENTATION_NEEDED, 600));
    assert_eq!(lab.stack.udp_recv_error(&sock).expect("told").info, 600);
    // Its header made no sense at its twentieth byte.
    refused(&mut lab, &sock, b"z", (wire_icmp::PARAMETER_PROBLEM, 0, 20 << 24));
    assert_eq!(lab.stack.udp_recv_error(&sock).expect("told").info, 20);
    assert_eq!((sock.rx.rmem(), lab.count(Counter::IcmpInErrors)), (0, 0));
}

#[test]
fn the_next_call_tells_of_the_next_error() {
    let mut lab = Lab::new();
    let sock = listening(&lab);
    refused(&mut lab, &sock, b"1", PORT);
    assert_eq!(sock.rx.take_error(), Some(SockError::Refused));
    refused(&mut lab, &sock, b"2", TTL);
    assert_eq!(sock.rx.take_error(), Some(SockError::Unreachable));
    assert_eq!(&lab.stack.udp_recv_error(&sock).expect("the first").payload[..], b"1");
    assert_eq!(sock.rx.take_error(), Some(SockError::Unreachable), "that of the second");
    assert_eq!(&lab.stack.udp_recv_error(&sock).expect("the second").payload[..], b"2");
    assert_eq!(sock.rx.take_error(), None);
}

#[test]
fn what_this_host_finds_is_told_without_failing_the_next_call() {
    let lab = Lab::new();
    let sock = listening(&lab);
    let too_long = |len: usize| {
        let sent = lab.stack.udp_send(&sock, &vec![0; len], Some(addr(PEER, 9)), false, lab.now);
        assert!(matches!(sent, Err(SendError::TooLong)));
        lab.stack.udp_recv_error(&sock).map(|told| (told.error, told.origin, told.info, told.to, told.payload.len()))
    };
    let told = (SockError::MsgSize, ErrorOrigin::Local, 1_500, (Addr::from(PEER), 0), 0);
    assert_eq!((too_long(65_508), too_long(65_536)), (Some(told), None));
    lab.stack.udp_connect(&sock, addr(PEER, 9)).expect("on the link");
    lab.stack.udp_set(&sock, |options| options.dont_fragment = true);
    assert_eq!(too_long(1_473), Some((told.0, told.1, told.2, (Addr::from(PEER), 9), 0)));
    assert_eq!(sock.rx.take_error(), None);
}

#[test]
fn the_queue_is_bounded_by_the_receive_buffer_and_forgotten_with_the_option() {
    let mut lab = Lab::new();
    let sock = listening(&lab);
    sock.rx.set_rcvbuf(5_000, 1 << 20);
    lab.stack.udp_set(&sock, |options| options.dont_fragment = true);
    for _ in 0..50 {
        let sent = lab.stack.udp_send(&sock, &[0; 1_473], Some(addr(PEER, 9)), false, lab.now);
        assert!(matches!(sent, Err(SendError::TooLong)));
    }
    assert_eq!(sock.rx.rmem(), 12 * 832);
    // One that another host tells of fails the next call all the same.
    refused(&mut lab, &sock, b"x", PORT);
    assert_eq!((sock.rx.rmem(), sock.rx.take_error()), (12 * 832, Some(SockError::Refused)));
    assert!(sock.rx.has_errors());
    lab.stack.udp_set(&sock, |options| options.recv_errors = false);
    assert_eq!((sock.rx.rmem(), sock.rx.has_errors()), (0, false));
    // A stranger's errors are nobody's.
    let stranger = icmp(3, 3, 0, &crate::testing::frames::ip(17, &[0, 99, 0, 9, 0, 8, 0, 0]).packet());
    put(&mut lab, &stranger.from(Ipv4Addr::from(ROUTER).octets()));
    assert_eq!(lab.count(Counter::IcmpInErrors), 1);
}

#[test]
fn a_call_that_fails_for_an_error_of_before_discards_its_datagram() {
    let mut lab = Lab::new();
    let sock = listening(&lab);
    refused(&mut lab, &sock, b"1", PORT);
    assert_eq!(lab.count(Counter::IpOutDiscards), 0);
    let failed = lab.stack.udp_send(&sock, b"2", Some(addr(PEER, 9)), false, lab.now);
    assert!(matches!(failed, Err(SendError::Failed(SockError::Refused))));
    assert_eq!((lab.count(Counter::IpOutDiscards), lab.raw()), (1, None));
    assert!(lab.stack.udp_send(&sock, b"3", Some(addr(PEER, 9)), false, lab.now).is_ok());
    assert_eq!((lab.count(Counter::IpOutDiscards), lab.raw().is_some()), (1, true));
}
