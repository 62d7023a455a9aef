use std::net::Ipv4Addr;
use std::sync::Arc;

use rxpath_trace::{Counter, DropReason, Selector, lives};
use rxpath_wire::{Addr, IpProto, Ipv4Header, MacAddr, icmp as wire_icmp, ipv4};

use super::RawSock;
use crate::socket::{ErrorOrigin, NoDatagram};
use crate::stack::SendError;
use crate::tcp::SockError;
use crate::tcp::tests::lab::{Lab, PEER, SYN, US};
use crate::testing::frames::{Ip, echo, icmp, ip};
use crate::udp::tests::{put, to_port};

/// A protocol that nobody handles.
const OTHER: u8 = 253;

fn open(lab: &Lab, protocol: u8) -> Arc<RawSock> {
    lab.stack.raw_open(protocol).expect("a stack that is up")
}

/// What waits, read to its end: whole packets.
fn read_all(lab: &Lab, sock: &RawSock) -> Vec<Vec<u8>> {
    let mut buf = vec![0; 65_536];
    std::iter::from_fn(|| {
        let received = lab.stack.raw_recv(sock, &mut buf, false, false, lab.now).ok()?;
        Some(buf[..received.len].to_vec())
    })
    .collect()
}

#[test]
fn a_packet_of_a_protocol_that_only_a_raw_socket_knows_is_delivered() {
    let mut lab = Lab::with(|config| config.lives = Selector::All);
    let sock = open(&lab, OTHER);
    let packet = ip(OTHER, b"hello");
    put(&mut lab, &packet);
    assert_eq!((lab.count(Counter::IpInDelivers), lab.count(Counter::IpInUnknownProtos)), (1, 0));
    assert_eq!(lab.raw(), None, "nobody is told");
    let mut buf = [0; 64];
    let peeked = lab.stack.raw_recv(&sock, &mut buf, true, false, lab.now).expect("the packet");
    assert_eq!((peeked.len, peeked.from.ip(), peeked.from.port()), (25, PEER.into(), 0));
    assert_eq!(read_all(&lab, &sock), [packet.packet()]);
    let stories: String = lives::group(lab.stack.take_events()).iter().map(|life| life.story()).collect();
    assert!(stories.contains("raw     raw_local_deliver found a raw socket"), "{stories}");
    assert!(stories.contains("READ    raw_recvmsg: the application read 25 bytes"), "{stories}");
    lab.stack.raw_close(&sock);
    put(&mut lab, &packet);
    assert_eq!(lab.dropped(DropReason::IpNoproto), 1);
}

#[test]
fn the_protocols_own_handler_has_the_packet_too() {
    let mut lab = Lab::new();
    let (ping, udp, tcp) = (open(&lab, IpProto::ICMP), open(&lab, IpProto::UDP), open(&lab, IpProto::TCP));
    put(&mut lab, &echo(b"abc"));
    assert_eq!(lab.raw().expect("the reply")[34], wire_icmp::ECHO_REPLY);
    assert_eq!(read_all(&lab, &ping).len(), 1);
    put(&mut lab, &to_port(9, b"abc"));
    assert_eq!((lab.count(Counter::UdpNoPorts), read_all(&lab, &udp).len()), (1, 1));
    assert_eq!(lab.raw().expect("the error")[34], wire_icmp::DEST_UNREACHABLE);
    // What is wrong with it the handler finds out; the raw socket has it already.
    let mut wrong = echo(b"abc");
    wrong.payload[2] ^= 1;
    put(&mut lab, &wrong);
    assert_eq!((lab.dropped(DropReason::IcmpCsum), read_all(&lab, &ping).len()), (1, 1));
    lab.listen(80, 1);
    lab.segment(crate::tcp::tests::lab::Peer::new(40_000, 80).repr(SYN), &[]);
    assert_eq!((read_all(&lab, &tcp).len(), lab.count(Counter::TcpInSegs)), (1, 1));
    // `ICMP_FILTER`: requests are not wanted; they are answered all the same.
    ping.set_icmp_filter(1 << wire_icmp::ECHO_REQUEST);
    put(&mut lab, &echo(b"abc"));
    put(&mut lab, &icmp(wire_icmp::ECHO_REPLY, 0, 1, b"abc"));
    assert_eq!(read_all(&lab, &ping).len(), 1);
    assert_eq!(lab.count(Counter::IcmpOutEchoReps), 2);
}

#[test]
fn a_segment_that_would_take_the_short_way_is_seen() {
    let mut lab = Lab::with(|config| config.interfaces[0].gro = false);
    let listener = lab.listen(80, 1);
    let mut peer = crate::tcp::tests::lab::Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let raw = open(&lab, IpProto::TCP);
    for round in 0..20u8 {
        let frame = lab.frame(peer.repr(crate::tcp::tests::lab::ACK), &[round; 100]);
        peer.seq += 100;
        lab.put(&frame);
    }
    lab.run();
    assert_eq!(read_all(&lab, &raw).len(), 20);
    assert_eq!(lab.recv(&sock, 10_000).expect("the data").len(), 2_000);
}

#[test]
fn who_is_bound_or_connected_gets_less() {
    let mut lab = Lab::new();
    let (bound, connected) = (open(&lab, OTHER), open(&lab, OTHER));
    lab.stack.raw_bind(&bound, US).expect("our address");
    assert!(lab.stack.raw_bind(&bound, PEER).is_err());
    lab.stack.raw_connect(&connected, PEER).expect("on the link");
    let to_all = ip(OTHER, b"x").to([10, 0, 0, 255]).in_frame_to(MacAddr::BROADCAST);
    put(&mut lab, &to_all);
    assert_eq!((bound.rx.len(), connected.rx.len(), lab.count(Counter::IpInUnknownProtos)), (0, 0, 1));
    put(&mut lab, &ip(OTHER, b"x").from([10, 0, 0, 3]));
    assert_eq!((read_all(&lab, &bound).len(), connected.rx.len()), (1, 0));
    put(&mut lab, &ip(OTHER, b"x"));
    assert_eq!((read_all(&lab, &bound).len(), read_all(&lab, &connected).len()), (1, 1));
    let any = open(&lab, OTHER);
    put(&mut lab, &to_all);
    assert_eq!(read_all(&lab, &any).len(), 1);
}

#[test]
fn a_full_socket_does_not_want_a_packet() {
    let mut lab = Lab::new();
    let sock = open(&lab, OTHER);
    sock.rx.set_rcvbuf(2_304, 1 << 20);
    for _ in 0..8 {
        put(&mut lab, &ip(OTHER, b"x"));
    }
    // 704 each; the seventh goes beyond 4,608. What only a full socket wants nobody wants, as measured on Linux 6.18.
    assert_eq!((sock.rx.len(), sock.rx.drops(), lab.dropped(DropReason::IpNoproto)), (7, 1, 1));
    assert_eq!(lab.raw().expect("told")[34..36], [3, 2]);
    let line = lab.stack.proc_raw();
    assert!(line.lines().nth(1).expect("the socket").ends_with(" 1"), "{line}");
    assert_eq!(lab.stack.proc_sockstat().lines().nth(4), Some("RAW: inuse 1"));
    assert_eq!(read_all(&lab, &sock).len(), 7);
}

#[test]
fn fragments_come_whole() {
    let mut lab = Lab::new();
    let sock = open(&lab, OTHER);
    let piece = |payload: &[u8], fragment: u16| Ip { fragment, ..ip(OTHER, payload) };
    put(&mut lab, &piece(b"12345678", 0x2000));
    put(&mut lab, &piece(b"9", 1));
    let read = read_all(&lab, &sock);
    assert_eq!(read.len(), 1);
    assert_eq!(&read[0][20..], b"123456789");
}

fn header(frame: &[u8]) -> (Ipv4Header, &[u8]) {
    assert!(ipv4::verify(&frame[14..34]), "the header's checksum");
    let (header, payload) = Ipv4Header::parse(&frame[14..]).expect("a header");
    (*header, payload)
}

#[test]
fn what_is_sent_gets_a_header() {
    let mut lab = Lab::new();
    let sock = open(&lab, OTHER);
    let send = |lab: &Lab, bytes: &[u8], to: Ipv4Addr| lab.stack.raw_send(&sock, bytes, Some(to), lab.now);
    assert_eq!(send(&lab, b"payload", PEER).expect("sent"), 7);
    let frame = lab.raw().expect("the packet");
    let (ip, payload) = header(&frame);
    assert_eq!((ip.src(), ip.dst(), ip.protocol(), ip.ttl()), (US, PEER, OTHER, 64));
    assert!(ip.dont_fragment() && payload == b"payload");
    assert_eq!(lab.count(Counter::IpOutRequests), 1);
    // Longer than the link allows.
    send(&lab, &[7; 1_481], PEER).expect("in fragments");
    let (first, second) = (lab.raw().expect("a fragment"), lab.raw().expect("another"));
    assert_eq!((first.len(), second.len()), (1_514, 35));
    assert!(matches!(send(&lab, &[0; 65_516], PEER), Err(SendError::TooLong)));
    assert!(matches!(lab.stack.raw_send(&sock, b"x", None, lab.now), Err(SendError::NoDestination)));
    let all = Ipv4Addr::new(10, 0, 0, 255);
    assert!(matches!(send(&lab, b"x", all), Err(SendError::NotPermitted)));
    sock.set_options(|options| (options.broadcast, options.ttl, options.tos) = (true, Some(9), 4));
    send(&lab, b"x", all).expect("permitted");
    let frame = lab.raw().expect("a broadcast");
    assert_eq!((&frame[..6], frame[15], frame[22]), (&[0xff; 6][..], 4, 9));
    // It came back, too: to this very socket.
    assert_eq!(read_all(&lab, &sock).len(), 1);
}

#[test]
fn a_header_that_is_brought_is_completed() {
    let mut lab = Lab::new();
    let sock = open(&lab, 255);
    let send = |lab: &Lab, bytes: &[u8]| lab.stack.raw_send(&sock, bytes, Some(PEER), lab.now);
    let mut packet = ip(OTHER, b"data").from([0; 4]).to([10, 0, 0, 77]).packet();
    packet[2..6].fill(0);
    packet[10..12].copy_from_slice(&[0xab, 0xcd]);
    assert_eq!(send(&lab, &packet).expect("sent"), 24);
    let frame = lab.raw().expect("the packet");
    let (ip, payload) = header(&frame);
    // The destination is the application's word; the way is that to the peer.
    assert_eq!((ip.src(), ip.dst().octets()[3], ip.total_len(), payload), (US, 77, 24, &b"data"[..]));
    assert_eq!((lab.count(Counter::IpOutRequests), lab.count(Counter::IpOutTransmits)), (0, 1));
    let whole = crate::testing::frames::ip(OTHER, b"data").packet();
    let short_header = [&[0x44], &whole[1..]].concat();
    let long_header = [&[0x4f], &whole[1..]].concat();
    for wrong in [&whole[..11], &short_header, &long_header] {
        assert!(matches!(send(&lab, wrong), Err(SendError::Invalid)));
    }
    assert!(matches!(send(&lab, &[0x45; 1_501]), Err(SendError::TooLong)));
}

#[test]
fn errors_come_to_who_is_connected() {
    let mut lab = Lab::new();
    let (sock, other) = (open(&lab, OTHER), open(&lab, OTHER));
    lab.stack.raw_connect(&sock, PEER).expect("on the link");
    let quote = ip(OTHER, b"payload!").from(US.octets()).to(PEER.octets()).packet();
    put(&mut lab, &icmp(3, 3, 0, &quote));
    assert_eq!(other.rx.take_error(), None);
    let mut buf = [0; 9];
    let told = lab.stack.raw_recv(&sock, &mut buf, false, false, lab.now);
    assert!(matches!(told, Err(NoDatagram::Failed(SockError::Refused))), "{told:?}");
    put(&mut lab, &icmp(3, 1, 0, &quote));
    assert_eq!(sock.rx.take_error(), None, "that may pass");
    assert_eq!(lab.count(Counter::IcmpInErrors), 0);
}

#[test]
fn messages_of_icmp_are_counted_by_their_type() {
    let lab = Lab::new();
    let sock = open(&lab, IpProto::ICMP);
    let send = |bytes: &[u8]| lab.stack.raw_send(&sock, bytes, Some(PEER), lab.now).expect("on the link");
    for kind in [8, 13, 14, 17, 18, 4, 42] {
        send(&[kind, 0, 0, 0]);
    }
    sock.set_options(|options| options.header_included = true);
    send(&ip(IpProto::ICMP, &[8, 0, 0, 0]).from(US.octets()).to(PEER.octets()).packet());
    send(&ip(OTHER, &[8, 0, 0, 0]).from(US.octets()).to(PEER.octets()).packet());
    let count = |counter| lab.count(counter);
    assert_eq!((count(Counter::IcmpOutMsgs), count(Counter::IcmpOutEchos)), (8, 2));
    let others = [
        Counter::IcmpOutTimestamps,
        Counter::IcmpOutTimestampReps,
        Counter::IcmpOutAddrMasks,
        Counter::IcmpOutAddrMaskReps,
        Counter::IcmpOutSrcQuenchs,
    ];
    assert_eq!(others.map(count), [1; 5]);
    assert_eq!((count(Counter::icmp_out(8)), count(Counter::icmp_out(42))), (2, 1));
}

#[test]
fn errors_are_told_in_detail_to_who_asks_for_it() {
    // As Linux 6.18 did: what came back of the payload, or of the packet where the socket has made its header.
    let mut lab = Lab::new();
    let sock = open(&lab, OTHER);
    sock.set_options(|options| options.recv_errors = true);
    let packet = ip(OTHER, b"payload!").from(US.octets()).to(PEER.octets()).packet();
    put(&mut lab, &icmp(3, 1, 0, &packet));
    assert!(sock.rx.ready(false).1);
    assert_eq!(sock.rx.take_error(), Some(SockError::Unreachable), "connected or not, passing or not");
    let told = lab.stack.raw_recv_error(&sock).expect("told in detail");
    let origin = ErrorOrigin::Icmp { kind: 3, code: 1, offender: Addr::from(PEER), ifindex: 1 };
    assert_eq!((told.error, told.origin, told.info), (SockError::Unreachable, origin, 0));
    assert_eq!((told.to, &told.payload[..]), ((Addr::from(PEER), 0), &b"payload!"[..]));
    assert!(!sock.rx.ready(false).1 && lab.stack.raw_recv_error(&sock).is_none());
    sock.set_options(|options| options.header_included = true);
    put(&mut lab, &icmp(3, 3, 0, &packet));
    let told = lab.stack.raw_recv_error(&sock).expect("told in detail");
    assert_eq!((told.error, &told.payload[..]), (SockError::Refused, &packet[..]));
    // What is too long for the link is found here, and the next call is not told.
    let refused = lab.stack.raw_send(&sock, &[0x45; 1_501], Some(PEER), lab.now);
    assert!(matches!(refused, Err(SendError::TooLong)));
    assert_eq!(sock.rx.take_error(), None);
    let told = lab.stack.raw_recv_error(&sock).expect("told in detail");
    assert_eq!((told.error, told.origin, told.info), (SockError::MsgSize, ErrorOrigin::Local, 1_500));
}

#[test]
fn what_nobody_read_ends_with_the_stack() {
    let mut lab = Lab::new();
    let sock = open(&lab, OTHER);
    put(&mut lab, &ip(OTHER, b"x"));
    assert_eq!(sock.rx.len(), 1);
    lab.stack.shutdown();
    assert_eq!(lab.dropped(DropReason::QueuePurge), 1);
    assert!(lab.stack.raw_open(OTHER).is_err());
}
