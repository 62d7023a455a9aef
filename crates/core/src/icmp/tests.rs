use rxpath_mem::IpSummed;
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Snapshot};
use rxpath_wire::{Addr, IpProto, Ipv4Header, MacAddr, icmp as wire_icmp, ipv4};

use super::{IcmpError, RateLimits, send_error};
use crate::sysctl::Sysctls;
use crate::testing::frames::{self, Ip, echo, icmp, icmp_message};
use crate::testing::{self, ADDR, Ended, PEER, PEER_MAC, Rig};

const MS: u64 = 1_000_000;

/// A rig that knows its peer for good.
fn rig() -> Rig {
    let mut rig = Rig::new();
    assert!(testing::set_permanent(&mut rig, 1, Addr::from(PEER), PEER_MAC));
    rig
}

/// The ICMP counters that moved.
fn icmp_counters(rig: &mut Rig) -> Vec<(Counter, u64)> {
    let is_icmp = |name: &str| name.starts_with("Icmp");
    rig.counted().nonzero().filter(|(counter, _)| is_icmp(&counter.to_string())).collect()
}

#[track_caller]
fn check(packet: &Ip, ended: Ended, counters: &[(Counter, u64)]) -> Vec<Vec<u8>> {
    let mut rig = rig();
    assert_eq!(rig.receive(&packet.frame()), ended);
    let mut expected = counters.to_vec();
    expected.push((Counter::IcmpInMsgs, 1));
    expected.sort();
    assert_eq!(icmp_counters(&mut rig), expected);
    rig.sent()
}

const NOTED: Ended = Ended::Consumed(Consumed::Noted);
const ANSWERED: Ended = Ended::Consumed(Consumed::Answered);
const IN_ERROR: (Counter, u64) = (Counter::IcmpInErrors, 1);
const REPLIED: [(Counter, u64); 3] =
    [(Counter::IcmpOutMsgs, 1), (Counter::IcmpOutEchoReps, 1), (Counter::IcmpMsgOutType0, 1)];
const IN_ECHO: [(Counter, u64); 2] = [(Counter::IcmpInEchos, 1), (Counter::IcmpMsgInType8, 1)];

fn all(parts: &[&[(Counter, u64)]]) -> Vec<(Counter, u64)> {
    parts.concat()
}

#[test]
fn an_echo_request_is_answered_as_linux_answers() {
    let mut rig = rig();
    let request = Ip { tos: 0x2d, ttl: 7, ..echo(b"abcdefgh") };
    assert_eq!(rig.receive(&request.frame()), ANSWERED);
    rig.assert_counted(&[
        (Counter::SoftnetProcessed, 1),
        (Counter::IpInReceives, 1),
        (Counter::IpInDelivers, 1),
        (Counter::IpOutRequests, 1),
        (Counter::IpOutTransmits, 1),
        (Counter::IcmpInMsgs, 1),
        (Counter::IcmpInEchos, 1),
        (Counter::IcmpOutMsgs, 1),
        (Counter::IcmpOutEchoReps, 1),
        (Counter::IcmpMsgInType8, 1),
        (Counter::IcmpMsgOutType0, 1),
        (Counter::IpExtInOctets, 36),
        (Counter::IpExtOutOctets, 36),
        (Counter::IpExtInECT1Pkts, 1),
    ]);
    let frame = rig.sent().remove(0);
    let (header, message) = Ipv4Header::parse(&frame[14..]).expect("a header");
    assert!(ipv4::verify(&frame[14..34]) && wire_icmp::verify(message));
    assert_eq!((header.src(), header.dst(), header.tos(), header.ttl()), (ADDR, PEER, 0x2d, 64));
    assert!(!header.dont_fragment());
    assert_eq!(message, icmp_message(0, 0, 0x1234_0001, b"abcdefgh"));
}

#[test]
fn the_reply_keeps_code_options_and_every_byte_of_the_data() {
    let frames = check(&icmp(8, 5, 7, b"odd"), ANSWERED, &all(&[&IN_ECHO, &REPLIED]));
    assert_eq!(frames[0][34..], icmp_message(0, 5, 7, b"odd"));
    let recorded = echo(b"").options(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let frames = check(&recorded, ANSWERED, &all(&[&IN_ECHO, &REPLIED]));
    let (_, options, _) = Ipv4Header::split(&frames[0][14..]).expect("a header");
    assert_eq!(options, [7, 11, 12, 10, 0, 0, 1, 10, 0, 0, 1, 0]);
    let data: Vec<u8> = (0..1_472u32).map(|i| (i * 7) as u8).collect();
    let frames = check(&echo(&data), ANSWERED, &all(&[&IN_ECHO, &REPLIED]));
    assert_eq!(frames[0][42..], data);
}

#[test]
fn a_reply_is_cut_where_the_way_back_is_narrower() {
    let mut rig = rig();
    let request = echo(&[7; 1_473]);
    assert_eq!(rig.receive(&request.frame()), Ended::Consumed(Consumed::Answered));
    let counted = rig.counted();
    assert_eq!((counted[Counter::IpFragOKs], counted[Counter::IpFragCreates]), (1, 2));
    assert_eq!((counted[Counter::IcmpOutMsgs], counted[Counter::IpOutTransmits]), (1, 2));
    let frames = rig.sent();
    let lens: Vec<usize> = frames.iter().map(Vec::len).collect();
    assert_eq!(lens, [14 + 1_500, 14 + 20 + 1]);
    assert_eq!((&frames[0][20..22], &frames[1][20..22]), (&[0x20, 0][..], &[0, 185][..]));
    assert_eq!([&frames[0][34..], &frames[1][34..]].concat(), icmp_message(0, 0, 0x1234_0001, &[7; 1_473]));
}

#[test]
fn a_message_in_several_pieces_is_summed_and_answered_over_all_of_them() {
    for cut in [35, 36, 41, 43, 48] {
        let mut rig = rig();
        let frame = echo(b"0123456789").frame();
        let mut skb = rig.frame(&frame[..cut]);
        let mut rest = rig.pool.alloc().expect("a slot");
        rest.put(frame.len() - cut).copy_from_slice(&frame[cut..]);
        skb.add_frag(rest).expect("of the same pool");
        let transport = skb.data_offset() as u16 + 20;
        assert!(skb.pull(20));
        skb.transport_off = transport;
        let end = super::rcv(&mut rig, skb);
        let answered = matches!(end, crate::cx::Fate::Consumed(_, Consumed::Answered));
        rig.end(end.split().expect_err("an end"));
        // The ICMP header must lie in one piece, as it does in what devices deliver.
        assert_eq!(answered, cut >= 42, "cut at {cut}");
        let sent = rig.sent();
        assert_eq!(sent.len(), usize::from(cut >= 42));
        assert!(sent.iter().all(|frame| frame[34..] == icmp_message(0, 0, 0x1234_0001, b"0123456789")));
    }
}

#[test]
fn requests_are_not_answered_to_all() {
    let kinds: [(Ip, Vec<(Counter, u64)>); 4] = [
        (echo(&[]), IN_ECHO.to_vec()),
        (icmp(13, 0, 0, &[0; 12]), vec![(Counter::IcmpInTimestamps, 1), (Counter::IcmpMsgInType13, 1)]),
        (icmp(9, 0, 0, &[0; 4]), vec![(Counter::IcmpMsgInType9, 1)]),
        (icmp(0, 0, 0, &[]), vec![(Counter::IcmpInEchoReps, 1), (Counter::IcmpMsgInType0, 1)]),
    ];
    for (packet, counters) in kinds {
        let expected = all(&[&counters, &[IN_ERROR]]);
        for dst in [[10, 0, 0, 255], [255, 255, 255, 255], [224, 0, 0, 1]] {
            let packet = packet.clone().to(dst).in_frame_to(MacAddr::BROADCAST);
            assert!(check(&packet, Ended::Dropped(DropReason::InvalidProto), &expected).is_empty());
        }
    }
    // Address masks are none of our business, to whomever they go.
    for (kind, named) in [(17, Counter::IcmpInAddrMasks), (18, Counter::IcmpInAddrMaskReps)] {
        let packet = icmp(kind, 0, 0, &[0; 4]).to([10, 0, 0, 255]);
        check(&packet, NOTED, &[(named, 1), (Counter::icmp_in(kind), 1)]);
    }
    // What counts is the address, not the frame.
    check(&echo(&[]).in_frame_to(MacAddr::BROADCAST), ANSWERED, &all(&[&IN_ECHO, &REPLIED]));
}

#[test]
fn echo_can_be_switched_off() {
    let mut rig = rig();
    rig.reconfigure(|net| net.sysctl.icmp_echo_ignore_all = true);
    assert_eq!(rig.receive(&echo(&[]).frame()), NOTED);
    assert!(rig.sent().is_empty());
    assert_eq!(
        icmp_counters(&mut rig),
        [(Counter::IcmpInMsgs, 1), (Counter::IcmpInEchos, 1), (Counter::IcmpMsgInType8, 1)]
    );
}

#[test]
fn a_request_from_where_no_way_leads_moves_no_counter() {
    for src in [[172, 16, 0, 9], [0, 1, 2, 3], [10, 0, 0, 255]] {
        assert!(check(&echo(&[]).from(src), NOTED, &IN_ECHO).is_empty());
    }
}

#[test]
fn malformed_messages() {
    let mut bad = echo(&[1, 2]);
    bad.payload[9] ^= 1;
    let csum = [IN_ERROR, (Counter::IcmpInCsumErrors, 1)];
    check(&bad, Ended::Dropped(DropReason::IcmpCsum), &csum);
    check(&Ip { payload: bad.payload[..4].to_vec(), ..echo(&[]) }, Ended::Dropped(DropReason::IcmpCsum), &csum);
    // Six bytes that sum to all ones.
    let short = frames::ip(IpProto::ICMP, &[8, 0, 0xf7, 0xff, 0, 0]);
    check(&short, Ended::Dropped(DropReason::NotSpecified), &[IN_ERROR]);
    for kind in [19, 41, 44, 255] {
        let counters = [IN_ERROR, (Counter::icmp_in(kind), 1)];
        check(&icmp(kind, 0, 0, &[]), Ended::Dropped(DropReason::UnhandledProto), &counters);
    }
    for kind in [1, 2, 6, 7, 9, 10, 14, 15, 16, 42, 43] {
        let mut expected = vec![(Counter::icmp_in(kind), 1)];
        if kind == 14 {
            expected.push((Counter::IcmpInTimestampReps, 1));
        }
        check(&icmp(kind, 0, 0, &[]), NOTED, &expected);
    }
    let reply = [(Counter::IcmpInEchoReps, 1), (Counter::IcmpMsgInType0, 1)];
    check(&icmp(0, 0, 0, &[]), Ended::Dropped(DropReason::NoSocket), &reply);
}

#[test]
fn a_checksum_that_the_device_verified_is_not_verified_again() {
    let mut rig = rig();
    let mut packet = echo(&[]);
    packet.payload[2] ^= 0xff;
    let mut skb = rig.frame(&packet.frame());
    skb.ip_summed = IpSummed::Unnecessary;
    assert!(skb.pull(20));
    let end = super::rcv(&mut rig, skb);
    rig.end(end.split().expect_err("an end"));
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn a_timestamp_request_is_answered_and_counted_as_an_echo() {
    let counters = all(&[&[(Counter::IcmpInTimestamps, 1), (Counter::IcmpMsgInType13, 1)], &REPLIED]);
    for data in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]] {
        let packet = Ip { tos: 0x10, ..icmp(13, 3, 0x0102_0304, data) };
        let frames = check(&packet, ANSWERED, &counters);
        let (header, message) = Ipv4Header::parse(&frames[0][14..]).expect("a header");
        assert_eq!((header.tos(), header.total_len()), (0x10, 40));
        // 100 seconds on a clock without relation to midnight.
        let ours = (100_000u32 | 1 << 31).to_be_bytes();
        assert_eq!(message, icmp_message(14, 0, 0x0102_0304, [[1, 2, 3, 4], ours, ours].as_flattened()));
    }
    let short = [(Counter::IcmpInTimestamps, 1), (Counter::IcmpMsgInType13, 1), IN_ERROR];
    for data in [&[][..], &[1, 2, 3]] {
        check(&icmp(13, 0, 0, data), Ended::Dropped(DropReason::PktTooSmall), &short);
    }
}

/// The packet of ours that an error quotes: to the peer, with eight bytes of a transport header.
fn quoted(proto: u8) -> Vec<u8> {
    Ip { src: ADDR, dst: PEER, payload: vec![0xab; 8], ..frames::ip(proto, &[]) }.packet()
}

#[test]
fn an_error_that_no_socket_knows_of_is_in_error() {
    let named = [
        (3, 1, Counter::IcmpInDestUnreachs),
        (3, 4, Counter::IcmpInDestUnreachs),
        (4, 0, Counter::IcmpInSrcQuenchs),
        (5, 1, Counter::IcmpInRedirects),
        (11, 0, Counter::IcmpInTimeExcds),
        (12, 0, Counter::IcmpInParmProbs),
    ];
    for (kind, code, counter) in named {
        let packet = icmp(kind, code, 0, &quoted(IpProto::TCP));
        let counters = [(counter, 1), (Counter::icmp_in(kind), 1)];
        assert!(check(&packet, NOTED, &all(&[&counters, &[IN_ERROR]])).is_empty());
        // A protocol that takes no errors has nothing to say against one.
        check(&icmp(kind, code, 0, &quoted(99)), NOTED, &counters);
        check(&icmp(kind, code, 0, &quoted(IpProto::ICMP)), NOTED, &counters);
    }
    let unreachable = [(Counter::IcmpInDestUnreachs, 1), (Counter::IcmpMsgInType3, 1)];
    check(&icmp(3, 16, 0, &quoted(IpProto::TCP)), NOTED, &unreachable);
    check(
        &icmp(3, 1, 0, &quoted(IpProto::TCP)).in_frame_to(MacAddr::BROADCAST),
        NOTED,
        &all(&[&unreachable, &[IN_ERROR]]),
    );
}

#[test]
fn what_the_kernel_takes_no_error_for() {
    let in_type = |kind: u8| (Counter::icmp_in(kind), 1);
    let exceeded = [(Counter::IcmpInTimeExcds, 1), in_type(11)];
    // A missing fragment says nothing of the way; protocol 255 is nobody's.
    assert!(check(&icmp(11, 1, 0, &quoted(IpProto::TCP)), NOTED, &exceeded).is_empty());
    check(&icmp(11, 0, 0, &quoted(255)), NOTED, &all(&[&exceeded, &[IN_ERROR]]));
    // RFC 8335: a request is passed over, a reply to all is as any message to all.
    check(&icmp(42, 0, 0, &[]).to([10, 0, 0, 255]), NOTED, &[in_type(42)]);
    check(&icmp(43, 0, 0, &[]), NOTED, &[in_type(43)]);
    check(&icmp(43, 0, 0, &[]).to([10, 0, 0, 255]), Ended::Dropped(DropReason::InvalidProto), &[in_type(43), IN_ERROR]);
}

#[test]
fn errors_are_sent_about_queries_alone() {
    for kind in 0..=45 {
        let mut rig = rig();
        let query = matches!(kind, 0 | 8 | 13..=18);
        assert_eq!(told(&mut rig, &icmp(kind, 0, 0, &[0; 16])).is_some(), query, "type {kind}");
    }
}

#[test]
fn a_redirect_empties_the_bucket_of_errors() {
    let mut rig = rig();
    rig.pass(1_000 * MS);
    let unknown = frames::ip(99, b"xxxx");
    let skb = rig.frame(&unknown.frame());
    super::send_redirect(&mut rig, &skb, [10, 0, 0, 9].into());
    rig.drop_skb(skb, DropReason::IpNoproto);
    assert_eq!(rig.sent().len(), 1);
    let told = |rig: &mut Rig| {
        assert_eq!(rig.receive(&unknown.frame()), Ended::Dropped(DropReason::IpNoproto));
        rig.sent().len()
    };
    assert_eq!(told(&mut rig), 0);
    rig.pass(999 * MS);
    assert_eq!(told(&mut rig), 0);
    rig.pass(MS);
    assert_eq!((told(&mut rig), told(&mut rig)), (1, 0));
    rig.counted();
}

#[test]
fn an_error_leaves_in_one_piece() {
    let mut rig = rig();
    rig.reconfigure(|net| net.interfaces[0].mtu = 296);
    let sent = told(&mut rig, &frames::ip(17, &[0x5a; 1_000])).expect("a message");
    assert_eq!(sent.len(), 296);
    rig.reconfigure(|net| net.interfaces[0].mtu = 48);
    assert_eq!(told(&mut rig, &frames::ip(17, &[0x5a; 1_000])), None, "no room for the header that is told of");
}

#[test]
fn an_error_that_quotes_too_little() {
    let unreachable = [(Counter::IcmpInDestUnreachs, 1), (Counter::IcmpMsgInType3, 1), IN_ERROR];
    let whole = quoted(IpProto::TCP);
    for len in [0, 10, 19] {
        check(&icmp(3, 1, 0, &whole[..len]), Ended::Dropped(DropReason::NotSpecified), &unreachable);
    }
    for len in [20, 24, 27] {
        check(&icmp(3, 1, 0, &whole[..len]), NOTED, &unreachable);
    }
    let mut short_header = whole.clone();
    short_header[0] = 0x44;
    check(&icmp(3, 1, 0, &short_header), Ended::Dropped(DropReason::IpInhdr), &unreachable);
}

#[test]
fn an_error_reaches_the_protocol_of_the_packet_that_it_quotes() {
    fn handler(_: &mut crate::cx::Cx, error: &IcmpError) -> bool {
        let expected = IcmpError {
            kind: 3,
            code: 4,
            info: 1_400,
            ifindex: 1,
            from: Addr::from(PEER),
            src: Addr::from(ADDR),
            dst: Addr::from(PEER),
            protocol: IpProto::TCP,
            ttl: 64,
            transport: [0xab; 8],
        };
        assert_eq!(*error, expected);
        true
    }
    let mut rig = rig();
    rig.reconfigure(|net| net.inet_protos.set_error_handler(IpProto::TCP, handler));
    assert_eq!(rig.receive(&icmp(3, 4, 1_400, &quoted(IpProto::TCP)).frame()), NOTED);
    assert_eq!(rig.counted()[Counter::IcmpInErrors], 0);
}

/// Sends an error about a packet and gives the message that went out, if one did.
fn told(rig: &mut Rig, packet: &Ip) -> Option<Vec<u8>> {
    let skb = rig.frame(&packet.frame());
    send_error(rig, &skb, 3, 3, 0x0102_0304);
    rig.drop_skb(skb, DropReason::NoSocket);
    rig.sent().pop().map(|frame| frame[14..].to_vec())
}

#[test]
fn an_error_quotes_the_packet_up_to_576_bytes() {
    let mut rig = rig();
    for (payload, quoted) in [(0, 20), (100, 120), (527, 547), (528, 548), (529, 548), (1_400, 548)] {
        rig.pass(2_000 * MS);
        let packet = Ip { tos: 0x3f, ..frames::ip(17, &vec![0x5a; payload]) };
        let sent = told(&mut rig, &packet).expect("a message");
        let (header, message) = Ipv4Header::parse(&sent).expect("a header");
        assert_eq!((header.src(), header.dst(), header.tos()), (ADDR, PEER, 0xde));
        assert!(wire_icmp::verify(message));
        assert_eq!(message[..2], [3, 3]);
        assert_eq!(message[4..8], [1, 2, 3, 4]);
        assert_eq!(message[8..], packet.packet()[..quoted], "{payload} bytes of payload");
    }
}

#[test]
fn an_error_about_a_packet_in_pieces_quotes_across_them() {
    let mut rig = rig();
    let packet = frames::ip(17, &(0..200).collect::<Vec<u8>>());
    let frame = packet.frame();
    let mut skb = rig.frame(&frame[..60]);
    let mut rest = rig.pool.alloc().expect("a slot");
    rest.put(frame.len() - 60).copy_from_slice(&frame[60..]);
    skb.add_frag(rest).expect("of the same pool");
    assert!(skb.pull(20), "as it is when a transport protocol has it");
    send_error(&mut rig, &skb, 3, 3, 0);
    rig.drop_skb(skb, DropReason::NoSocket);
    assert_eq!(rig.sent()[0][42..], packet.packet());
}

#[test]
fn no_error_is_sent_where_the_rfc_forbids_it() {
    let mut rig = rig();
    let udp = || frames::ip(17, &[0; 8]);
    for packet in [
        udp().in_frame_to(MacAddr::BROADCAST),
        udp().to([10, 0, 0, 255]),
        udp().to([224, 0, 0, 1]),
        udp().from([10, 0, 0, 255]),
        udp().from([224, 0, 0, 9]),
        udp().from([0, 0, 0, 0]),
        udp().from([172, 16, 0, 1]),
        Ip { fragment: 1, ..udp() },
        icmp(3, 1, 0, &[]),
        icmp(4, 0, 0, &[]),
        icmp(5, 0, 0, &[]),
        icmp(11, 0, 0, &[]),
        icmp(12, 0, 0, &[]),
        icmp(40, 0, 0, &[]),
        frames::ip(IpProto::ICMP, &[]),
    ] {
        assert_eq!(told(&mut rig, &packet), None, "{packet:?}");
    }
    assert_eq!(rig.counted(), Snapshot::new(), "nor is anything counted");
    for packet in [udp(), Ip { fragment: 0x2000, ..udp() }, echo(&[]), icmp(13, 0, 0, &[0; 12])] {
        assert!(told(&mut rig, &packet).is_some(), "{packet:?}");
    }
}

#[test]
fn an_error_about_a_packet_for_somebody_else_comes_from_an_address_of_ours() {
    let mut rig = rig();
    let sent = told(&mut rig, &frames::ip(17, &[0; 8]).to([10, 0, 0, 77])).expect("a message");
    assert_eq!(sent[12..20], [10, 0, 0, 1, 10, 0, 0, 2]);
}

#[test]
fn a_destination_gets_six_errors_at_once_and_then_one_a_second() {
    let mut rig = rig();
    let unknown = frames::ip(99, b"xxxx");
    let send = |rig: &mut Rig, times: usize| -> (usize, u64) {
        for _ in 0..times {
            assert_eq!(rig.receive(&unknown.frame()), Ended::Dropped(DropReason::IpNoproto));
        }
        (rig.sent().len(), rig.counted()[Counter::IcmpOutRateLimitHost])
    };
    assert_eq!(send(&mut rig, 8), (6, 2));
    rig.pass(999 * MS);
    assert_eq!(send(&mut rig, 1), (0, 1));
    rig.pass(MS);
    assert_eq!(send(&mut rig, 2), (1, 1));
    rig.pass(100_000 * MS);
    assert_eq!(send(&mut rig, 8), (6, 2), "no more is saved up than the burst");
    // Fragmentation needed and replies are never held back.
    for _ in 0..20 {
        let skb = rig.frame(&unknown.frame());
        send_error(&mut rig, &skb, 3, 4, 1_400);
        rig.drop_skb(skb, DropReason::PktTooBig);
        assert_eq!(rig.receive(&echo(&[]).frame()), ANSWERED);
    }
    assert_eq!(rig.sent().len(), 40);
}

#[test]
fn the_whole_host_sends_a_burst_of_fifty_at_the_most() {
    let mut rig = rig();
    rig.reconfigure(|net| net.sysctl.icmp_ratelimit = 0);
    let unknown = frames::ip(99, b"x").frame();
    let send = |rig: &mut Rig, times: u64| -> u64 {
        for _ in 0..times {
            assert_eq!(rig.receive(&unknown), Ended::Dropped(DropReason::IpNoproto));
            rig.sent();
        }
        let counted = rig.counted();
        assert_eq!(counted[Counter::IcmpOutMsgs] + counted[Counter::IcmpOutRateLimitGlobal], times);
        counted[Counter::IcmpOutMsgs]
    };
    // One to three tokens each.
    let first = send(&mut rig, 100);
    assert!((17..=50).contains(&first), "{first}");
    rig.pass(19 * MS);
    assert_eq!(send(&mut rig, 5), 0, "filled up every 20 ms");
    rig.pass(MS);
    let next = send(&mut rig, 100);
    assert!((7..=20).contains(&next), "{next}");
    let runs: Vec<u64> = (0..20)
        .map(|_| {
            rig.pass(1_000 * MS);
            send(&mut rig, 60)
        })
        .collect();
    assert!(runs.iter().any(|run| *run != runs[0]), "the burst cannot be told from outside: {runs:?}");
}

#[test]
fn the_limits_bound_their_memory() {
    let sysctl = Sysctls { icmp_msgs_per_sec: u32::MAX, icmp_msgs_burst: u32::MAX, ..Sysctls::default() };
    let limits = RateLimits::default();
    let mut rng = crate::cx::Rng::new(3);
    let mut now = rxpath_trace::Time::from_secs(1);
    let mut refused = 0;
    for n in 0..30_000u32 {
        let dst = Addr::from_v4(n.to_be_bytes());
        refused += u32::from(limits.take(&sysctl, dst, now, &mut rng) == Err(Counter::IcmpOutRateLimitHost));
        if n % 10_000 == 9_999 {
            now += 10_000 * MS;
        }
    }
    assert_eq!(refused, 3 * (10_000 - super::limit::MAX_HOSTS as u32), "a destination too many is refused");
}

#[test]
fn without_memory_a_request_stays_unanswered_and_says_so() {
    let mut rig = rig();
    let skb = rig.frame(&echo(&[]).frame());
    let mut hoard = Vec::new();
    while let Some(slot) = rig.pool.alloc_head().or_else(|| rig.pool.alloc()) {
        hoard.push(slot);
    }
    let end = super::rcv(&mut rig, {
        let mut skb = skb;
        assert!(skb.pull(20));
        skb
    });
    assert!(matches!(end, crate::cx::Fate::Drop(_, DropReason::Nomem)));
    rig.end(end.split().expect_err("an end"));
    assert_eq!(rig.counted()[Counter::IcmpOutErrors], 1);
    for slot in hoard {
        rig.pool.free(slot);
    }
}

#[test]
fn a_life_tells_of_request_and_answer() {
    let mut rig = rig();
    assert_eq!(rig.receive(&echo(&[]).frame()), ANSWERED);
    rig.sent();
    let events = rig.events();
    let asked = events.iter().find(|event| event.kind == EventKind::IcmpRcv).expect("the request");
    assert_eq!((asked.a, asked.b), (8, 0));
    assert!(events.iter().any(|event| event.kind == EventKind::Transmitted && event.id != asked.id));
}

#[test]
fn identifications_do_not_tell_how_many_packets_we_send() {
    let mut rig = rig();
    let ids: Vec<u16> = (0..32)
        .map(|_| {
            assert_eq!(rig.receive(&echo(&[]).frame()), ANSWERED);
            let frame = rig.sent().remove(0);
            u16::from_be_bytes([frame[18], frame[19]])
        })
        .collect();
    let steps = ids.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) < 64).count();
    assert!(steps < 8, "{ids:?}");
}
