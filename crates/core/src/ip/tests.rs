use rxpath_mem::Skb;
use rxpath_trace::{Consumed, Counter, DropReason, EventKind};
use rxpath_wire::MacAddr;

use super::InetProtos;
use crate::cx::{Cx, End};
use crate::demux;
use crate::demux::stats::DevStat;
use crate::testing::frames::{self, Ip, echo, ethernet, tcp};
use crate::testing::{self, Ended, MAC, Rig, interface};
use crate::udp;

/// Receives a frame and checks how it ended and which counters moved, besides the core's own.
#[track_caller]
fn check_frame(rig: &mut Rig, frame: &[u8], ended: Ended, counters: &[(Counter, u64)]) {
    assert_eq!(rig.receive(frame), ended);
    let mut expected = vec![(Counter::SoftnetProcessed, 1)];
    expected.extend_from_slice(counters);
    rig.assert_counted(&expected);
}

/// As [`check_frame`], for a packet that `ip_rcv` counts as received, with its octets.
#[track_caller]
fn check(packet: &Ip, ended: Ended, counters: &[(Counter, u64)]) {
    let mut rig = Rig::new();
    let octets = packet.packet().len() as u64;
    let mut expected = vec![(Counter::IpInReceives, 1), (Counter::IpExtInOctets, octets)];
    expected.extend_from_slice(counters);
    check_frame(&mut rig, &packet.frame(), ended, &expected);
}

const NO_ECT: (Counter, u64) = (Counter::IpExtInNoECTPkts, 1);
const DELIVERED: (Counter, u64) = (Counter::IpInDelivers, 1);

fn dropped(reason: DropReason) -> Ended {
    Ended::Dropped(reason)
}

#[test]
fn a_sound_packet_is_delivered() {
    check(&tcp(), Ended::Tcp, &[NO_ECT, DELIVERED]);
}

#[test]
fn another_hosts_frame_is_counted_by_the_device_alone() {
    let mut rig = Rig::new();
    let frame = tcp().in_frame_to(MacAddr([2, 0, 0, 0, 0, 0x99])).frame();
    check_frame(&mut rig, &frame, dropped(DropReason::Otherhost), &[]);
    assert_eq!(rig.dev_stat(DevStat::RxOtherhostDropped), 1);
}

#[test]
fn a_packet_shorter_than_the_fixed_header() {
    for len in [0, 1, 19] {
        let mut rig = Rig::new();
        let frame = ethernet(MAC, 0x0800, &tcp().packet()[..len]);
        let counters = [(Counter::IpInReceives, 1), (Counter::IpExtInOctets, len as u64), (Counter::IpInHdrErrors, 1)];
        check_frame(&mut rig, &frame, dropped(DropReason::IpInhdr), &counters);
    }
}

#[test]
fn version_and_header_length_are_judged_before_ecn() {
    for first in [0x65, 0x44, 0x40, 0x05] {
        let packet = Ip { version_ihl: Some(first), ..tcp() };
        check(&packet, dropped(DropReason::IpInhdr), &[(Counter::IpInHdrErrors, 1)]);
    }
}

#[test]
fn a_header_longer_than_the_packet_is_judged_behind_ecn() {
    let packet = Ip { version_ihl: Some(0x4f), payload: vec![0; 10], ..tcp() };
    check(&packet, dropped(DropReason::IpInhdr), &[NO_ECT, (Counter::IpInHdrErrors, 1)]);
}

#[test]
fn a_bad_checksum_is_an_error_twice_over() {
    for (offset, options) in [(8, &[][..]), (25, &[1, 1, 1, 0][..]), (12, &[1, 1, 1, 0][..])] {
        let mut rig = Rig::new();
        let mut frame = tcp().options(options).frame();
        let at = 14 + offset.min(19 + options.len());
        frame[at] ^= 1;
        let counters = [
            (Counter::IpInReceives, 1),
            (Counter::IpExtInOctets, frame.len() as u64 - 14),
            NO_ECT,
            (Counter::IpInHdrErrors, 1),
            (Counter::IpExtInCsumErrors, 1),
        ];
        check_frame(&mut rig, &frame, dropped(DropReason::IpCsum), &counters);
    }
}

#[test]
fn every_single_bit_of_the_header_is_covered_by_the_checksum() {
    let mut rig = Rig::new();
    let sound = tcp().frame();
    for bit in 0..160 {
        let mut frame = sound.clone();
        frame[14 + bit / 8] ^= 0x80 >> (bit % 8);
        let ended = rig.receive(&frame);
        let expected = if bit < 8 { DropReason::IpInhdr } else { DropReason::IpCsum };
        // Among the flips of the first byte are two that leave a longer header, whose checksum is wrong then.
        assert!(
            ended == dropped(expected) || (bit < 8 && ended == dropped(DropReason::IpCsum)),
            "bit {bit}: {ended:?}"
        );
    }
}

#[test]
fn the_ecn_field_is_counted_by_its_value() {
    for (tos, counter) in [
        (0xfc, Counter::IpExtInNoECTPkts),
        (1, Counter::IpExtInECT1Pkts),
        (2, Counter::IpExtInECT0Pkts),
        (0xff, Counter::IpExtInCEPkts),
    ] {
        check(&Ip { tos, ..tcp() }, Ended::Tcp, &[(counter, 1), DELIVERED]);
        let options = Ip { tos, ..tcp().options(&[1, 1, 1, 0]) };
        check(&options, Ended::Tcp, &[(counter, 1), DELIVERED]);
    }
}

#[test]
fn a_merged_packet_counts_once_but_its_ecn_for_each_segment() {
    let mut rig = Rig::new();
    let mut skb = rig.frame(&Ip { tos: 2, ..tcp() }.frame());
    skb.gso_segs = 5;
    let passed = super::rcv(&mut rig, skb).split().expect("sound");
    rig.drop_skb(passed, DropReason::QueuePurge);
    rig.assert_counted(&[(Counter::IpInReceives, 1), (Counter::IpExtInOctets, 40), (Counter::IpExtInECT0Pkts, 5)]);
}

#[test]
fn a_packet_shorter_than_its_total_length_is_truncated_and_no_header_error() {
    let packet = Ip { total_len: Some(200), ..tcp() };
    check(&packet, dropped(DropReason::PktTooSmall), &[NO_ECT, (Counter::IpExtInTruncatedPkts, 1)]);
}

#[test]
fn a_total_length_shorter_than_the_header() {
    for total_len in [0, 19] {
        let packet = Ip { total_len: Some(total_len), ..tcp() };
        check(&packet, dropped(DropReason::IpInhdr), &[NO_ECT, (Counter::IpInHdrErrors, 1)]);
    }
    let packet = Ip { total_len: Some(23), ..tcp().options(&[1, 1, 1, 0]) };
    check(&packet, dropped(DropReason::IpInhdr), &[NO_ECT, (Counter::IpInHdrErrors, 1)]);
}

#[test]
fn padding_is_cut_but_counted_in_the_octets() {
    let mut rig = Rig::new();
    let mut frame = tcp().frame();
    frame.resize(80, 0xaa);
    let skb = rig.frame(&frame);
    let skb = super::rcv(&mut rig, skb).split().expect("sound");
    assert_eq!((skb.len(), usize::from(skb.network_off)), (40, skb.data_offset()));
    let (skb, _) = super::local_deliver_finish(&mut rig, skb, false).split().expect("for TCP");
    assert_eq!((skb.len(), usize::from(skb.transport_off)), (20, skb.data_offset()));
    assert_eq!(skb.network_header().len(), 40);
    rig.drop_skb(skb, DropReason::QueuePurge);
    rig.assert_counted(&[(Counter::IpInReceives, 1), (Counter::IpExtInOctets, 66), NO_ECT, DELIVERED]);
}

#[test]
fn time_to_live_and_the_evil_bit_do_not_matter_here() {
    check(&Ip { ttl: 0, ..tcp() }, Ended::Tcp, &[NO_ECT, DELIVERED]);
    check(&Ip { fragment: 0x8000, ..tcp() }, Ended::Tcp, &[NO_ECT, DELIVERED]);
    check(&Ip { fragment: 0x4000, ..tcp() }, Ended::Tcp, &[NO_ECT, DELIVERED]);
}

#[test]
fn sources_and_destinations_that_cannot_be() {
    for (packet, reason) in [
        (tcp().from([224, 0, 0, 5]), DropReason::IpInvalidSource),
        (tcp().from([255, 255, 255, 255]), DropReason::IpInvalidSource),
        (tcp().from([0, 0, 0, 0]), DropReason::IpInvalidSource),
        (tcp().from([127, 0, 0, 1]), DropReason::IpLocalnet),
        (tcp().to([127, 0, 0, 1]), DropReason::IpLocalnet),
        (tcp().to([0, 0, 0, 0]), DropReason::IpInvalidDest),
        (tcp().from([10, 0, 0, 1]), DropReason::IpLocalSource),
        (tcp().to([224, 0, 0, 9]), DropReason::NotSpecified),
    ] {
        check(&packet, dropped(reason), &[NO_ECT]);
    }
}

#[test]
fn a_packet_for_somebody_else_is_an_address_error() {
    for dst in [[10, 0, 0, 77], [8, 8, 8, 8], [10, 0, 0, 0]] {
        let counters = [NO_ECT, (Counter::IpInAddrErrors, 1)];
        check(&tcp().to(dst), dropped(DropReason::IpInaddrerrors), &counters);
    }
}

#[test]
fn unusual_sources_that_linux_takes() {
    for src in [[0, 1, 2, 3], [240, 0, 0, 1], [10, 0, 0, 255], [10, 0, 0, 0], [255, 255, 255, 254]] {
        check(&tcp().from(src), Ended::Tcp, &[NO_ECT, DELIVERED]);
    }
}

#[test]
fn broadcast_and_multicast_are_counted_by_packets_and_octets() {
    let broadcast = [NO_ECT, DELIVERED, (Counter::IpExtInBcastPkts, 1), (Counter::IpExtInBcastOctets, 40)];
    for packet in [
        tcp().to([10, 0, 0, 255]),
        tcp().to([255, 255, 255, 255]),
        tcp().to([10, 0, 0, 255]).in_frame_to(MacAddr::BROADCAST),
        tcp().to([255, 255, 255, 255]).from([0, 0, 0, 0]),
        tcp().to([0, 0, 0, 0]).from([0, 0, 0, 0]),
    ] {
        check(&packet, Ended::Tcp, &broadcast);
    }
    let multicast = [NO_ECT, DELIVERED, (Counter::IpExtInMcastPkts, 1), (Counter::IpExtInMcastOctets, 40)];
    check(&tcp().to([224, 0, 0, 1]), Ended::Tcp, &multicast);
}

#[test]
fn unicast_in_a_broadcast_frame_is_taken_unless_policy_forbids() {
    check(&tcp().in_frame_to(MacAddr::BROADCAST), Ended::Tcp, &[NO_ECT, DELIVERED]);
    let forbids = [("net.ipv4.conf.eth0.drop_unicast_in_l2_multicast", "1")];
    let mut rig = Rig::with_net(testing::net_with(vec![interface()], &[], &forbids));
    let frame = tcp().in_frame_to(MacAddr::BROADCAST).frame();
    assert_eq!(rig.receive(&frame), dropped(DropReason::UnicastInL2Multicast));
    let broadcast = tcp().to([10, 0, 0, 255]).in_frame_to(MacAddr::BROADCAST).frame();
    assert_eq!(rig.receive(&broadcast), Ended::Tcp);
}

#[test]
fn the_reverse_path_filter_has_a_counter_of_its_own() {
    let strict = [("net.ipv4.conf.eth0.rp_filter", "1")];
    let mut rig = Rig::with_net(testing::net_with(vec![interface()], &[], &strict));
    let frame = tcp().from([172, 16, 0, 9]).frame();
    let counters =
        [(Counter::IpInReceives, 1), (Counter::IpExtInOctets, 40), NO_ECT, (Counter::TcpExtIPReversePathFilter, 1)];
    check_frame(&mut rig, &frame, dropped(DropReason::IpRpfilter), &counters);
    assert_eq!(rig.receive(&tcp().frame()), Ended::Tcp);
}

#[test]
fn an_unknown_protocol_is_told_to_the_sender() {
    let mut rig = Rig::new();
    let packet = Ip { tos: 0x1f, proto: 99, ..tcp() };
    assert_eq!(rig.receive(&packet.frame()), dropped(DropReason::IpNoproto));
    rig.assert_counted(&[
        (Counter::SoftnetProcessed, 1),
        (Counter::IpInReceives, 1),
        (Counter::IpExtInOctets, 40),
        (Counter::IpExtInCEPkts, 1),
        (Counter::IpInUnknownProtos, 1),
        (Counter::IpOutRequests, 1),
        (Counter::IpOutTransmits, 1),
        (Counter::IpExtOutOctets, 68),
        (Counter::IcmpOutMsgs, 1),
        (Counter::IcmpOutDestUnreachs, 1),
        (Counter::icmp_out(3), 1),
    ]);
}

#[test]
fn a_registered_protocol_gets_its_packets() {
    fn handler(cx: &mut Cx, skb: Skb) -> End {
        assert_eq!(skb.data(), b"datagram");
        assert_eq!(cx.net.cpus, 1);
        End::Consumed(skb, Consumed::Noted)
    }
    let mut rig = Rig::new();
    rig.reconfigure(|net| {
        net.inet_protos.register(200, handler).expect("a free number");
        assert!(net.inet_protos.register(200, handler).is_err() && net.inet_protos.register(6, handler).is_err());
    });
    assert_eq!(rig.receive(&frames::ip(200, b"datagram").frame()), Ended::Consumed(Consumed::Noted));
    assert_eq!(rig.counted()[Counter::IpInDelivers], 1);
    assert!(InetProtos::new().lookup(6).is_none() && InetProtos::new().error_handler(6).is_none());
    let listed = format!("{:?}", InetProtos::default());
    assert!(listed.contains("Icmp") && listed.contains("Tcp"), "{listed}");
}

/// What is told of a malformed option: the counters that move.
const PARAMETER_PROBLEM: [(Counter, u64); 6] = [
    (Counter::IpInHdrErrors, 1),
    (Counter::IpOutRequests, 1),
    (Counter::IpOutTransmits, 1),
    (Counter::IcmpOutMsgs, 1),
    (Counter::IcmpOutParmProbs, 1),
    (Counter::IcmpMsgOutType12, 1),
];

#[test]
fn a_malformed_option_is_told_to_the_sender() {
    let bad = echo(&[]).options(&[7, 0, 0, 0]);
    let mut counters = vec![NO_ECT, (Counter::IpExtOutOctets, 60)];
    counters.extend_from_slice(&PARAMETER_PROBLEM);
    check(&bad, dropped(DropReason::IpInhdr), &counters);
    // A packet for somebody else is looked at before it is refused.
    check(&bad.clone().to([10, 0, 0, 77]), dropped(DropReason::IpInhdr), &counters);
    let silent = [NO_ECT, (Counter::IpInHdrErrors, 1)];
    check(&bad.in_frame_to(MacAddr::BROADCAST), dropped(DropReason::IpInhdr), &silent);
}

#[test]
fn a_source_route_is_refused_without_a_word() {
    for options in [[131, 7, 4, 10, 0, 0, 3, 0], [137, 7, 8, 10, 0, 0, 3, 0]] {
        check(&tcp().options(&options), dropped(DropReason::NotSpecified), &[NO_ECT]);
    }
}

#[test]
fn harmless_options_pass() {
    for options in [[1, 1, 1, 0], [0, 7, 0, 0], [148, 4, 0, 0], [0x55, 4, 0, 0], [130, 4, 0, 0]] {
        check(&tcp().options(&options), Ended::Tcp, &[NO_ECT, DELIVERED]);
    }
}

#[test]
fn a_life_tells_lengths_and_addresses() {
    let mut rig = Rig::new();
    assert_eq!(rig.receive(&tcp().to([10, 0, 0, 255]).frame()), Ended::Tcp);
    let events = rig.events();
    let of = |kind| events.iter().find(|event| event.kind == kind).map(|event| (event.a, event.b));
    assert_eq!(of(EventKind::IpRcv), Some((40, 64)));
    assert_eq!(of(EventKind::Addresses), Some((0x0a00_0002, 0x0a00_00ff)));
    assert_eq!(of(EventKind::RouteLocal), Some((3, 0)), "a broadcast route");
    assert_eq!(of(EventKind::LocalDeliver), Some((6, 0)));
}

#[test]
fn a_shared_packet_whose_options_cannot_be_written_is_discarded() {
    let mut rig = Rig::new();
    let record_route = tcp().options(&[7, 7, 4, 0, 0, 0, 0, 0]).frame();
    for (is_dry, discarded) in [(false, 0), (true, 1)] {
        let skb = rig.frame(&record_route);
        let clone = rig.clone_shared(&skb).expect("a slot");
        let mut held = Vec::new();
        if is_dry {
            held.extend(std::iter::from_fn(|| rig.pool.alloc_head().or_else(|| rig.pool.alloc())));
        }
        let Ok((skb, _)) = demux::netif_receive_skb_core(&mut rig, skb).split() else { panic!("a packet of IP") };
        let Ok(skb) = super::rcv(&mut rig, skb).split() else { panic!("a sound packet") };
        match super::rcv_finish(&mut rig, skb, udp::early_demux).split() {
            Ok((skb, _)) => rig.consume(skb, Consumed::Noted),
            Err(end) => rig.end(end),
        }
        assert_eq!(rig.counted()[Counter::IpInDiscards], discarded);
        assert_eq!(rig.ledger().dropped_for(DropReason::Nomem), discarded);
        held.into_iter().chain([clone]).for_each(|skb| rig.pool.free(skb));
    }
}
