//! What IP headers have and must have, and what questions about resets are limited by. Measured on Linux 6.18.

use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{Addr, SeqNum, TcpFlags, TcpRepr, ipv4, tcp as wire_tcp};

use super::icmp::told;
use super::lab::{ACK, FIN_ACK, Lab, PEER, PSH_ACK, Peer, SYN, SYN_ACK};
use crate::socket::Listener;
use crate::tcp::{IpFields, OutOfRange, SockError, SockOptions, State};

const RST: TcpFlags = TcpFlags::RST;

fn listening(lab: &mut Lab, ip: IpFields) -> Arc<Listener> {
    let listener = lab.listen(80, 8);
    listener.set_options(SockOptions { ip, ..SockOptions::default() });
    listener
}

/// The next segment that the stack sent: its flags, time to live and type of service.
fn header(lab: &mut Lab) -> Option<(TcpFlags, u8, u8)> {
    lab.sent_as_frame().map(|(sent, frame)| (sent.flags, frame[22], sent.tos))
}

/// A segment of the peer with this time to live.
fn segment(lab: &mut Lab, repr: TcpRepr, payload: &[u8], ttl: u8) {
    let mut frame = lab.frame(repr, payload);
    frame[22] = ttl;
    ipv4::fill_checksum(&mut frame[14..34]);
    lab.put(&frame);
    lab.run();
}

#[test]
fn what_a_connection_sends_has_its_time_to_live_and_type_of_service() {
    let mut lab = Lab::new();
    let listener = listening(&mut lab, IpFields { ttl: Some(40), tos: 0x23, min_ttl: 0 });
    let mut peer = Peer::new(40_000, 80);
    lab.segment(peer.repr(SYN), &[]);
    let (answer, frame) = lab.sent_as_frame().expect("a SYN-ACK");
    assert_eq!((answer.flags, frame[22], answer.tos), (SYN_ACK, 40, 0x20), "the bits of congestion are not asked for");
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    // What answers a half-open connection's strays has nothing of the listener's.
    let mut stray = peer.repr(RST);
    stray.seq += 5;
    lab.tos = 0x4b;
    lab.segment(stray, &[]);
    assert_eq!(header(&mut lab), Some((ACK, 64, 0x48)));
    lab.tos = 0;
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("the handshake is complete");
    for _ in 0..3 {
        peer.data(&mut lab, &[1; 1_000]);
        assert_eq!(header(&mut lab), Some((ACK, 40, 0x20)), "also where headers are copied from the one before");
    }
    let changed = IpFields { ttl: None, tos: 0x48, min_ttl: 0 };
    assert_eq!(lab.stack.with(&sock, 0, lab.now, |sk| sk.set_ip_fields(changed)), Ok(()));
    let none = IpFields { ttl: Some(0), ..changed };
    let refused = lab.stack.with(&sock, 0, lab.now, |sk| sk.set_ip_fields(none));
    assert_eq!(refused, Err(OutOfRange { option: "IP_TTL", value: 0, range: (1, 255) }));
    for _ in 0..3 {
        peer.data(&mut lab, &[1; 1_000]);
        assert_eq!(header(&mut lab), Some((ACK, 64, 0x48)));
    }
    lab.recv(&sock, 10_000).expect("bytes");
    lab.stack.with(&sock, 0, lab.now, |sk| sk.ip.ttl = Some(20));
    lab.send(&sock, b"abc");
    assert_eq!(header(&mut lab), Some((PSH_ACK, 20, 0x48)));
    peer.ack += 3;
    lab.close(&sock);
    assert_eq!(header(&mut lab), Some((FIN_ACK, 20, 0x48)));
    peer.ack += 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert_eq!(header(&mut lab), Some((ACK, 20, 0x48)));
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert_eq!(header(&mut lab), Some((ACK, 64, 0x48)), "of the mini-socket nothing but the type of service is left");
}

#[test]
fn who_is_connected_to_has_what_the_option_says_from_the_syn_on() {
    let mut lab = Lab::new();
    let options = SockOptions { ip: IpFields { ttl: Some(1), tos: 0xff, min_ttl: 0 }, ..SockOptions::default() };
    let sock = lab.stack.connect_with(None, (PEER, 80).into(), &options, lab.now).expect("a way");
    lab.run();
    assert_eq!(header(&mut lab), Some((SYN, 1, 0xfc)));
    lab.close(&sock);
}

#[test]
fn the_type_of_service_of_a_syn_is_reflected_where_it_is_to_be() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_reflect_tos = true);
    let listener = listening(&mut lab, IpFields { ttl: Some(40), tos: 0x20, min_ttl: 0 });
    let mut peer = Peer::new(40_000, 80);
    lab.tos = 0x4b;
    lab.segment(peer.repr(SYN), &[]);
    let (answer, frame) = lab.sent_as_frame().expect("a SYN-ACK");
    assert_eq!((frame[22], answer.tos), (40, 0x48));
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    lab.tos = 0x88;
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("the handshake is complete");
    assert_eq!(sock.lock.user().ip, IpFields { ttl: Some(40), tos: 0x48, min_ttl: 0 });
}

#[test]
fn what_has_come_too_far_is_dropped_by_listeners_and_connections() {
    let mut lab = Lab::new();
    let listener = listening(&mut lab, IpFields { min_ttl: 50, ..IpFields::default() });
    let mut peer = Peer::new(40_000, 80);
    let drops = |lab: &Lab| (lab.count(Counter::TcpExtTCPMinTTLDrop), lab.dropped(DropReason::TcpMinttl));
    segment(&mut lab, peer.repr(SYN), &[], 49);
    lab.expect_nothing();
    assert_eq!(drops(&lab), (1, 1));
    segment(&mut lab, peer.repr(SYN), &[], 50);
    let answer = lab.expect(SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    // Half-open connections do not ask.
    segment(&mut lab, peer.repr(ACK), &[], 49);
    let sock = lab.stack.accept(&listener).expect("the handshake is complete");
    assert_eq!(drops(&lab), (1, 1));
    for near in [50, 51, 64] {
        segment(&mut lab, peer.repr(PSH_ACK), b"near", near);
        peer.seq += 4;
        lab.expect(ACK);
    }
    segment(&mut lab, peer.repr(PSH_ACK), b"far", 49);
    lab.expect_nothing();
    assert_eq!(drops(&lab), (2, 2));
    let mut reset = peer.repr(RST);
    reset.seq = peer.seq;
    segment(&mut lab, reset, &[], 1);
    assert_eq!((drops(&lab), lab.state(&sock)), ((3, 3), State::Established));
    assert_eq!(lab.recv(&sock, 100).expect("bytes"), b"nearnearnear");
    // An error quotes what was left of a segment's time to live.
    lab.send(&sock, b"data");
    let data = lab.expect(PSH_ACK);
    lab.stack.with(&sock, 0, lab.now, |sk| sk.ip.min_ttl = 65);
    told(&mut lab, (3, 1, 0), (80, 40_000), data.seq);
    let soft = |lab: &Lab| lab.stack.with(&sock, 0, lab.now, |sk| sk.user.error_soft);
    assert_eq!((soft(&lab), drops(&lab).0), (None, 4));
    let owned = sock.lock.user();
    told(&mut lab, (3, 1, 0), (80, 40_000), data.seq);
    assert!(owned.release(), "the owner learns of it");
    lab.stack.kick(&sock, crate::socket::post::BACKLOG, lab.now);
    lab.run();
    assert_eq!((soft(&lab), drops(&lab).0), (None, 5));
    lab.stack.with(&sock, 0, lab.now, |sk| sk.ip.min_ttl = 64);
    told(&mut lab, (3, 1, 0), (80, 40_000), data.seq);
    assert_eq!((soft(&lab), drops(&lab).0), (Some(SockError::Unreachable), 5));
    lab.stack.with(&sock, 0, lab.now, |sk| sk.ip.min_ttl = 0);
    lab.close(&sock);
    while lab.sent().is_some() {}
}

#[test]
fn nobody_connects_to_all() {
    for addr in [[10, 0, 0, 255], [255; 4], [224, 0, 0, 1]] {
        let mut lab = Lab::new();
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], 80));
        let _listener = lab.stack.listen(any, 8).expect("the port is free");
        let to_all = |lab: &mut Lab, port: u16, flags: TcpFlags| {
            let mut frame = lab.frame(Peer::new(40_000, port).repr(flags), &[]);
            frame[30..34].copy_from_slice(&addr);
            ipv4::fill_checksum(&mut frame[14..34]);
            wire_tcp::fill_checksum(Addr::from(PEER), Addr::from_v4(addr), &mut frame[34..]);
            lab.put(&frame);
            lab.run();
            lab.expect_nothing();
        };
        let counts = |lab: &Lab| {
            let counters = [Counter::TcpExtListenDrops, Counter::TcpOutRsts, Counter::TcpOutSegs];
            counters.map(|counter| lab.count(counter))
        };
        to_all(&mut lab, 80, SYN);
        assert_eq!(counts(&lab), [1, 0, 0], "{addr:?}");
        to_all(&mut lab, 80, ACK);
        assert_eq!(counts(&lab), [1, 1, 1], "the reset is counted, and has no way");
        to_all(&mut lab, 81, SYN);
        assert_eq!(counts(&lab), [1, 1, 1], "where nobody listens there is none");
        assert_eq!(lab.count(Counter::IpOutNoRoutes), 0);
    }
}

#[test]
fn challenges_of_all_connections_have_a_limit() {
    let mut lab = Lab::with(|config| {
        config.sysctl.tcp_challenge_ack_limit = 1;
        config.sysctl.tcp_invalid_ratelimit = 0;
    });
    let listener = lab.listen(80, 8);
    let mut established = Peer::new(40_000, 80);
    let _sock = established.connect(&mut lab, &listener);
    let mut half_open = Peer::new(40_001, 80);
    lab.segment(half_open.repr(SYN), &[]);
    lab.expect(SYN_ACK);
    half_open.seq += 1;
    for second in 1..=2 {
        for peer in [&established, &half_open, &established] {
            let mut inexact = peer.repr(RST);
            inexact.seq = SeqNum(inexact.seq.0 + 7);
            lab.segment(inexact, &[]);
        }
        lab.expect(ACK);
        lab.expect_nothing();
        assert_eq!(lab.count(Counter::TcpExtTCPChallengeACK), second);
        lab.wait(1_000);
        while lab.sent().is_some() {}
    }
    assert_eq!(lab.count(Counter::TcpExtTCPACKSkippedChallenge), 0, "each by itself may");
}
