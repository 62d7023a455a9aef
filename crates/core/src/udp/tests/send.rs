use std::net::Ipv4Addr;

use rxpath_trace::{Counter, lives};
use rxpath_trace::{DropReason, Selector};
use rxpath_wire::{IpProto, Ipv4Header, MacAddr, UdpHeader, ipv4, udp as wire_udp};

use super::{addr, bind, moved, put, read_all};
use crate::route::RouteError;
use crate::stack::SendError;
use crate::tcp::tests::lab::{Lab, PEER, PEER_MAC, US};
use crate::testing::frames::icmp;

/// A datagram that left: source and destination port, payload.
fn sent(lab: &mut Lab) -> (Ipv4Header, UdpHeader, Vec<u8>) {
    let frame = lab.raw().expect("a datagram");
    let (ip, packet) = Ipv4Header::parse(&frame[14..]).expect("an IP header");
    assert!(ipv4::verify(&frame[14..34]) && ip.protocol() == IpProto::UDP);
    let (header, payload) = UdpHeader::parse(packet).expect("a UDP header");
    if !ip.is_fragment() {
        assert!(wire_udp::verify(ip.src_addr(), ip.dst_addr(), packet), "the checksum");
    }
    (*ip, *header, payload.to_vec())
}

#[test]
fn a_datagram_leaves() {
    let mut lab = Lab::with(|config| config.lives = Selector::All);
    let sock = bind(&lab, Ipv4Addr::UNSPECIFIED, 7);
    let before = lab.stack.snapshot();
    let len = lab.stack.udp_send(&sock, b"hello", Some(addr(PEER, 9)), false, lab.now).expect("on the link");
    assert_eq!(len, 5);
    let (ip, header, payload) = sent(&mut lab);
    assert_eq!((ip.src(), ip.dst(), ip.ttl(), ip.dont_fragment()), (US, PEER, 64, true));
    assert_eq!((header.src_port(), header.dst_port(), payload.as_slice()), (7, 9, &b"hello"[..]));
    assert_eq!(moved(&lab, &before), [(Counter::UdpOutDatagrams, 1)]);
    let story = lives::group(lab.stack.take_events()).last().expect("its life").story();
    assert!(story.contains("a UDP datagram of 33 bytes") && story.contains("SENT"), "{story}");
    // Options.
    lab.stack.udp_set(&sock, |options| {
        (options.ttl, options.tos, options.no_checksum) = (Some(3), 0x10, true);
    });
    lab.stack.udp_send(&sock, b"", Some(addr(PEER, 9)), false, lab.now).expect("on the link");
    let (ip, header, payload) = sent(&mut lab);
    assert_eq!((ip.ttl(), ip.tos(), header.checksum(), payload.len()), (3, 0x10, 0, 0));
}

#[test]
fn what_is_too_long_for_the_link_leaves_in_fragments() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    let payload: Vec<u8> = (0..65_507u32).map(|i| (i * 7) as u8).collect();
    for (len, fragments) in [(1_472, 0), (1_473, 2), (65_507, 45)] {
        let before = lab.stack.snapshot();
        lab.stack.udp_send(&sock, &payload[..len], Some(addr(PEER, 9)), false, lab.now).expect("on the link");
        let counted = lab.stack.snapshot().diff(&before);
        assert_eq!((counted[Counter::IpOutRequests], counted[Counter::IpFragCreates]), (1, fragments));
        let mut whole = Vec::new();
        while let Some(frame) = lab.raw() {
            let (ip, bytes) = Ipv4Header::parse(&frame[14..]).expect("an IP header");
            assert_eq!(ip.dont_fragment(), fragments == 0);
            assert_eq!(usize::from(ip.fragment_offset()), whole.len());
            whole.extend_from_slice(bytes);
        }
        assert!(wire_udp::verify(US.into(), PEER.into(), &whole), "the checksum of {len} bytes");
        assert_eq!(whole[8..], payload[..len]);
    }
    let too_long = |lab: &Lab, len: usize| {
        let refused = lab.stack.udp_send(&sock, &vec![0; len], Some(addr(PEER, 9)), false, lab.now);
        assert!(matches!(refused, Err(SendError::TooLong)), "{refused:?}");
    };
    too_long(&lab, 65_508);
    too_long(&lab, 70_000);
    lab.stack.udp_set(&sock, |options| options.dont_fragment = true);
    too_long(&lab, 1_473);
}

#[test]
fn destinations_that_are_no_single_host() {
    let mut lab = Lab::new();
    let sock = bind(&lab, Ipv4Addr::UNSPECIFIED, 7);
    let subnet = addr(Ipv4Addr::new(10, 0, 0, 255), 9);
    let to = |lab: &Lab, host: std::net::SocketAddr| lab.stack.udp_send(&sock, b"x", Some(host), false, lab.now);
    assert!(matches!(to(&lab, subnet), Err(SendError::NotPermitted)));
    lab.stack.udp_set(&sock, |options| options.broadcast = true);
    to(&lab, subnet).expect("permitted");
    let frame = lab.raw().expect("a broadcast");
    assert_eq!(frame[..6], MacAddr::BROADCAST.0);
    assert_eq!((lab.count(Counter::IpExtOutBcastPkts), lab.count(Counter::IpExtOutBcastOctets)), (1, 29));
    // No route leads to all hosts of no link in particular, nor to a group; its own address names the link.
    let group = addr(Ipv4Addr::new(239, 1, 1, 1), 9);
    for host in [addr(Ipv4Addr::BROADCAST, 9), group] {
        let refused = to(&lab, host);
        assert!(matches!(refused, Err(SendError::Route(RouteError::NetUnreachable(_)))), "{refused:?}");
    }
    assert_eq!(lab.count(Counter::IpOutNoRoutes), 2);
    let own = bind(&lab, US, 8);
    lab.stack.udp_send(&own, b"x", Some(group), false, lab.now).expect("by the source's link");
    let frame = lab.raw().expect("a multicast");
    assert_eq!((&frame[..6], frame[22]), (&[1, 0, 0x5e, 1, 1, 1][..], 1), "its time to live is 1");
    assert_eq!((lab.count(Counter::IpExtOutMcastPkts), lab.count(Counter::IpExtOutMcastOctets)), (1, 29));
    let refused = lab.stack.udp_send(&own, b"x", Some(addr(PEER, 0)), false, lab.now);
    assert!(matches!(refused, Err(SendError::Invalid)));
    assert!(matches!(lab.stack.udp_send(&own, b"x", None, false, lab.now), Err(SendError::NoDestination)));
}

#[test]
fn what_this_host_sends_to_a_group_comes_back_to_its_members() {
    let mut lab = Lab::new();
    let (sender, member) = (bind(&lab, US, 7), bind(&lab, Ipv4Addr::UNSPECIFIED, 9));
    let group = Ipv4Addr::new(239, 1, 1, 1);
    let send = |lab: &mut Lab| {
        lab.stack.udp_send(&sender, b"x", Some(addr(group, 9)), false, lab.now).expect("a way");
        lab.run();
        assert!(lab.raw().is_some(), "it leaves in any case");
    };
    send(&mut lab);
    assert!(member.rx.is_empty(), "nobody joined");
    lab.stack.udp_join(&member, group, US).expect("joined");
    send(&mut lab);
    let read = super::recv(&lab, &member, 9).expect("looped back");
    assert_eq!((read.0, read.1.from), (b"x".to_vec(), addr(US, 7)));
    lab.stack.udp_set(&sender, |options| options.multicast_loop = false);
    send(&mut lab);
    assert!(member.rx.is_empty());
    // A broadcast comes back whatever is asked.
    lab.stack.udp_set(&sender, |options| options.broadcast = true);
    lab.stack.udp_send(&sender, b"all", Some(addr(Ipv4Addr::new(10, 0, 0, 255), 9)), false, lab.now).expect("a way");
    lab.run();
    assert_eq!(read_all(&lab, &member), [b"all"]);
}

#[test]
fn a_full_send_buffer_takes_nothing_until_the_cpu_has_sent() {
    let lab = Lab::new();
    let sock = bind(&lab, US, 7);
    sock.set_sndbuf(1, 1_000_000);
    assert_eq!(sock.sndbuf(), 4_608);
    // Somebody else runs the Cpu: nothing is sent meanwhile.
    lab.stack.clone().softirq(0, &mut || {
        let mut taken = 0;
        while lab.stack.udp_send(&sock, &[0; 1_000], Some(addr(PEER, 9)), false, lab.now).is_ok() {
            taken += 1;
            assert!(taken < 100);
        }
        // A frame of 1,042 bytes is charged 1,728.
        assert_eq!((taken, sock.wmem()), (3, 3 * 1_728));
        lab.now
    });
    assert_eq!(lab.count(Counter::UdpSndbufErrors), 1);
    lab.stack.poll(lab.now);
    assert_eq!((sock.wmem(), lab.count(Counter::UdpOutDatagrams)), (0, 3));
}

#[test]
fn an_error_that_came_back_is_told_by_the_next_send() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    lab.stack.udp_connect(&sock, addr(PEER, 9)).expect("on the link");
    lab.stack.udp_send(&sock, b"x", None, false, lab.now).expect("sent");
    let frame = lab.raw().expect("the datagram");
    put(&mut lab, &icmp(3, 3, 0, &frame[14..]));
    let refused = lab.stack.udp_send(&sock, b"x", None, false, lab.now);
    assert!(matches!(refused, Err(SendError::Failed(crate::tcp::SockError::Refused))), "{refused:?}");
    lab.stack.udp_send(&sock, b"x", None, false, lab.now).expect("once only");
    assert_eq!(lab.raw().expect("the datagram")[..6], PEER_MAC.0);
}

#[test]
fn who_does_not_answer_is_told_of_by_nothing_but_the_counters() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    let nobody = addr(Ipv4Addr::new(10, 0, 0, 77), 9);
    lab.stack.udp_send(&sock, b"x", Some(nobody), false, lab.now).expect("it waits for the neighbour");
    lab.wait(5_000);
    assert_eq!(lab.dropped(DropReason::NeighFailed), 1);
}

#[test]
fn a_payload_is_cut_into_datagrams_at_the_device() {
    let mut lab = Lab::with(|config| config.lives = Selector::All);
    let sock = bind(&lab, US, 7);
    let payload: Vec<u8> = (0..95).collect();
    let before = lab.stack.snapshot();
    let cut = |lab: &Lab, payload: &[u8], segment| {
        lab.stack.udp_send_cut(&sock, payload, Some(addr(PEER, 9)), Some(segment), false, lab.now)
    };
    assert_eq!(cut(&lab, &payload, 10).expect("on the link"), 95);
    // As Linux 6.18 counts: one packet, up to the device.
    let counted = lab.stack.snapshot().diff(&before);
    let ip = [Counter::IpOutRequests, Counter::IpOutTransmits, Counter::IpExtOutOctets, Counter::UdpOutDatagrams];
    assert_eq!(ip.map(|counter| counted[counter]), [1, 1, 123, 1]);
    let first = sent(&mut lab);
    let mut whole = first.2.clone();
    for index in 1..10 {
        let (ip, header, part) = sent(&mut lab);
        assert_eq!(ip.id(), first.0.id().wrapping_add(index));
        assert!(ip.dont_fragment());
        assert_eq!((header.dst_port(), part.len()), (9, if index == 9 { 5 } else { 10 }));
        whole.extend(part);
    }
    assert_eq!((whole, lab.raw()), (payload.clone(), None));
    let ledger = lab.stack.ledger();
    assert_eq!((ledger.made(), ledger.output()), (10, 2), "the packet, and the ARP reply before");
    // What is not longer than a segment is a datagram like others; the option of the socket does the same.
    assert_eq!(cut(&lab, &payload[..10], 10).expect("on the link"), 10);
    assert_eq!((sent(&mut lab).2.len(), lab.stack.ledger().made()), (10, 10));
    lab.stack.udp_set(&sock, |options| options.segment = 50);
    lab.stack.udp_send(&sock, &payload, Some(addr(PEER, 9)), false, lab.now).expect("on the link");
    assert_eq!((sent(&mut lab).2.len(), sent(&mut lab).2.len()), (50, 45));
    lab.stack.udp_send_cut(&sock, &payload, Some(addr(PEER, 9)), Some(0), false, lab.now).expect("on the link");
    assert_eq!(sent(&mut lab).2.len(), 95);
}

#[test]
fn what_is_cut_has_bounds() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    // Each asked of Linux 6.18 on a link of 1,500 bytes.
    let outcome = |lab: &mut Lab, len: usize, segment: u16| {
        let sent = lab.stack.udp_send_cut(&sock, &vec![0; len], Some(addr(PEER, 9)), Some(segment), false, lab.now);
        let frames = std::iter::from_fn(|| lab.raw()).count();
        match sent {
            Ok(sent) if sent == len => frames,
            Err(SendError::TooLong) => 1_000,
            Err(SendError::Invalid) => 2_000,
            other => panic!("{other:?}"),
        }
    };
    for (len, segment, frames) in [
        (1_280, 10, 128),
        (1_290, 10, 2_000),
        (128, 1, 128),
        (129, 1, 2_000),
        (3_000, 1_472, 3),
        (3_000, 1_473, 1_000),
        (1_000, 1_473, 1),
        (1_473, 1_473, 1_000),
        (0, 10, 1),
        (65_507, 1_472, 45),
        (65_508, 1_472, 1_000),
        (65_507, 511, 2_000),
        (65_507, 512, 128),
    ] {
        assert_eq!(outcome(&mut lab, len, segment), frames, "{len} bytes in {segment}");
    }
    // That it is longer than the link as a whole does not matter where it is not to be cut into fragments.
    lab.stack.udp_set(&sock, |options| options.dont_fragment = true);
    assert_eq!(outcome(&mut lab, 3_000, 1_000), 3);
    assert_eq!(outcome(&mut lab, 3_000, 0), 1_000);
    lab.stack.udp_set(&sock, |options| options.no_checksum = true);
    assert_eq!(outcome(&mut lab, 10, 10), 2_000);
    assert_eq!(outcome(&mut lab, 10, 0), 1);
}

#[test]
fn segments_come_back_from_a_group_one_by_one() {
    let mut lab = Lab::new();
    let (sender, member) = (bind(&lab, US, 7), bind(&lab, Ipv4Addr::UNSPECIFIED, 9));
    let group = Ipv4Addr::new(239, 1, 1, 1);
    lab.stack.udp_join(&member, group, US).expect("joined");
    lab.stack.udp_send_cut(&sender, b"abcdef", Some(addr(group, 9)), Some(4), false, lab.now).expect("a way");
    lab.run();
    assert_eq!(read_all(&lab, &member), [b"abcd".to_vec(), b"ef".to_vec()]);
    assert_eq!(std::iter::from_fn(|| lab.raw()).count(), 2);
}

#[test]
fn a_port_that_was_chosen_goes_with_the_connection() {
    // As Linux 6.18 names sockets.
    let lab = Lab::with(|config| {
        (config.sysctl.ip_local_port_range.low, config.sysctl.ip_local_port_range.high) = (39_999, 40_001);
        config.sysctl.set("net.ipv4.ip_local_reserved_ports", "39999").expect("a list");
    });
    let any = Ipv4Addr::UNSPECIFIED;
    let chosen = bind(&lab, any, 0);
    let name = |sock: &crate::udp::UdpSock| (sock.binding().local.v4(), sock.binding().port);
    assert!(name(&chosen).1 >= 40_000);
    lab.stack.udp_connect(&chosen, addr(PEER, 9)).expect("on the link");
    lab.stack.udp_disconnect(&chosen);
    assert_eq!(name(&chosen), (Some(any), 0));
    assert_eq!(lab.stack.udp_sockets().len(), 0, "in no table");
    let asked = bind(&lab, any, 5_555);
    lab.stack.udp_connect(&asked, addr(PEER, 9)).expect("on the link");
    lab.stack.udp_disconnect(&asked);
    assert_eq!(name(&asked), (Some(any), 5_555));
    let half = bind(&lab, US, 0);
    lab.stack.udp_connect(&half, addr(PEER, 9)).expect("on the link");
    lab.stack.udp_disconnect(&half);
    assert_eq!(name(&half), (Some(US), 0));
    // Both are given one again as they need it, as long as there is one.
    lab.stack.udp_send(&chosen, b"x", Some(addr(PEER, 9)), false, lab.now).expect("a port");
    lab.stack.udp_connect(&half, addr(PEER, 9)).expect("a port");
    assert_ne!(name(&chosen).1, name(&half).1);
    let third = lab.stack.udp_bind(addr(any, 0), Default::default());
    assert_eq!(third.map(|_| ()), Err(crate::stack::ListenError::InUse));
    lab.stack.udp_disconnect(&half);
    let other = bind(&lab, any, 0);
    let refused = lab.stack.udp_send(&half, b"x", Some(addr(PEER, 9)), false, lab.now);
    assert!(matches!(refused, Err(SendError::NoPort)), "{refused:?}");
    lab.stack.udp_close(&other, lab.now);
    lab.stack.udp_send(&half, b"x", Some(addr(PEER, 9)), false, lab.now).expect("a port");
    assert_eq!(lab.stack.udp_sockets().len(), 3);
}
