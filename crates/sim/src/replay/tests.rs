//! Whole replays.

use std::convert::Infallible;
use std::io::Cursor;

use rxpath::capture::{CaptureReader, CaptureWriter, Interface, Link, Written};
use rxpath::config::HostConfig;
use rxpath_core::cx::Rng;
use rxpath_trace::{Consumed, Counter, DropReason};
use rxpath_wire::{Addr, EtherType, EthernetRepr, IpProto, Ipv4Repr, SeqNum, TcpFlags, ethernet, ipv4, tcp, udp};

use super::synthetic::{
    Captured, Conversation, End, HOST, HOST_MAC, HOST_TOML, PEER_MAC, PORT, pcap_header, pcap_record,
};
use super::*;

fn host(toml: &str) -> HostConfig {
    HostConfig::parse("host.toml", toml).expect("a sound configuration")
}

fn replay_of(toml: &str, file: &[u8], options: Options) -> (Vec<Told>, Summary) {
    let reader = CaptureReader::new(Cursor::new(file)).expect("a capture");
    let mut replay = Replay::new(&host(toml), reader, options).expect("a stack");
    let mut told = Vec::new();
    let tell = |one: Told, _: &[Interface]| -> Result<(), Infallible> {
        told.push(one);
        Ok(())
    };
    let summary = replay.run(tell, |_, _| {}).unwrap_or_else(|never| match never {});
    check(&told, &summary);
    (told, summary)
}

/// What holds for every replay.
#[track_caller]
fn check(told: &[Told], summary: &Summary) {
    summary.ledger.check().expect("the ledger balances");
    assert_eq!(summary.records_lost, 0);
    assert_eq!(told.len() as u64, summary.packets);
    let numbers: Vec<u64> = told.iter().map(|one| one.number).collect();
    assert_eq!(numbers, (1..=summary.packets).collect::<Vec<_>>(), "each packet is told once, in order");
    assert_eq!(summary.fates.iter().map(|(_, n)| n).sum::<u64>(), summary.packets);
    let given = told.iter().filter(|one| one.id.is_some()).count() as u64;
    assert_eq!((given, summary.ledger.offered()), (summary.fed, summary.fed), "whatever was fed was offered");
}

fn pcap(frames: &[Captured]) -> Vec<u8> {
    let mut file = pcap_header(1);
    frames.iter().for_each(|frame| file.extend(pcap_record(frame.time, frame.bytes.len(), &frame.bytes)));
    file
}

fn fates(told: &[Told]) -> Vec<Fate> {
    told.iter().map(|one| one.fate).collect()
}

fn conversation(seed: u64) -> Conversation {
    Conversation::with_peer(7, &mut Rng::new(seed), 1_700_000_000_000_000_000)
}

const HANDSHAKE: Fate = Fate::Consumed(Consumed::Handshake);

#[test]
fn a_connection_is_followed_from_its_beginning_to_its_end() {
    for seed in 0..20 {
        let mut talk = conversation(seed);
        talk.handshake();
        talk.exchange(1);
        talk.exchange(2);
        talk.close();
        let (told, summary) = replay_of(HOST_TOML, &pcap(&talk.frames), Options::default());
        for (one, frame) in told.iter().zip(&talk.frames) {
            assert_eq!(one.fate == Fate::Outbound, frame.outbound, "seed {seed}: {one:?}");
            let well = matches!(one.fate, Fate::Outbound | Fate::Delivered | Fate::Consumed(_));
            assert!(well, "seed {seed}: packet {}: {:?}", one.number, one.fate);
        }
        assert_eq!(fates(&told)[..3], [HANDSHAKE, Fate::Outbound, Fate::Consumed(Consumed::AckOnly)]);
        let followed = Followed { begun: 1, established: 1, ..Followed::default() };
        assert_eq!(summary.followed, followed, "seed {seed}");
        assert_eq!(summary.counters[Counter::TcpPassiveOpens], 1);
        assert_eq!((summary.counters[Counter::TcpCurrEstab], summary.counters[Counter::TcpOutRsts]), (0, 0));
        assert_eq!(summary.ledger.held(), 0, "{:?}", summary.ledger);
    }
}

#[test]
fn what_the_host_sent_need_not_be_in_the_capture() {
    let mut talk = conversation(3);
    talk.handshake();
    talk.exchange(1);
    talk.exchange(2);
    let received: Vec<Captured> = talk.frames.into_iter().filter(|frame| !frame.outbound).collect();
    let (told, summary) = replay_of(HOST_TOML, &pcap(&received), Options::default());
    assert!(told.iter().all(|one| matches!(one.fate, Fate::Delivered | Fate::Consumed(_))), "{:?}", fates(&told));
    assert_eq!((summary.followed.established, summary.followed.capped), (1, 0));
}

#[test]
fn a_connection_that_began_before_the_capture_is_not_followed_and_not_reset() {
    let mut talk = conversation(3);
    talk.handshake();
    talk.exchange(1);
    talk.segment(true, TcpFlags::RST, &[]);
    let mut frames = talk.frames.split_off(3);
    // A checksum is judged before the socket is looked for.
    frames[0].bytes[50] ^= 1;
    let (told, summary) = replay_of(HOST_TOML, &pcap(&frames), Options::default());
    assert_eq!(told[0].fate, Fate::Dropped(DropReason::TcpCsum));
    for one in &told[1..] {
        assert!(matches!(one.fate, Fate::Outbound | Fate::NotFollowed), "{:?}", one.fate);
    }
    assert_eq!((summary.counters[Counter::TcpOutRsts], summary.ledger.output()), (0, 0));
    assert_eq!(summary.counters[Counter::TcpInSegs], summary.fed);
}

#[test]
fn a_port_without_a_service_refuses_and_the_capture_tells_that_the_host_did_not() {
    let mut talk = conversation(3);
    talk.server.port = 22;
    talk.handshake();
    let (told, summary) = replay_of(HOST_TOML, &pcap(&talk.frames), Options::default());
    assert_eq!(fates(&told), [Fate::Dropped(DropReason::NoSocket), Fate::Outbound, Fate::NotFollowed]);
    assert_eq!(summary.counters[Counter::TcpOutRsts], 1);
    let unserved: Vec<String> = summary.followed.unserved.iter().map(ToString::to_string).collect();
    assert_eq!(unserved, ["10.9.0.1:22"]);
}

#[test]
fn a_connection_that_the_host_opened_is_followed_too() {
    let host = End { addr: HOST, mac: HOST_MAC, port: 45_678, seq: SeqNum(77), clock: 5 };
    let peer = End { addr: [10, 9, 0, 30].into(), mac: PEER_MAC, port: 443, seq: SeqNum(9_999), clock: 123_456 };
    // The peer's hardware address is known from what it sent before.
    let mut early = Conversation::new(End { port: 9, ..peer }, End { port: 9, ..host }, 1_700_000_000_000_000_000);
    early.segment(true, TcpFlags::ACK, &[]);
    let mut talk = Conversation::new(host, peer, early.time);
    talk.handshake();
    talk.exchange(5);
    talk.segment(false, TcpFlags::PSH.union(TcpFlags::ACK), &[1; 700]);
    talk.segment(true, TcpFlags::ACK, &[]);
    let (told, summary) = replay_of(HOST_TOML, &pcap(&[early.frames, talk.frames].concat()), Options::default());
    assert_eq!(told[0].fate, Fate::NotFollowed);
    let received: Vec<Fate> = fates(&told[1..]).into_iter().filter(|fate| *fate != Fate::Outbound).collect();
    assert_eq!(received[0], HANDSHAKE);
    assert!(received.iter().all(|fate| matches!(fate, Fate::Delivered | Fate::Consumed(_))), "{received:?}");
    assert_eq!((summary.counters[Counter::TcpActiveOpens], summary.followed.capped), (1, 0));
}

#[test]
fn a_lost_segment_is_waited_for_and_a_life_is_kept() {
    let mut talk = conversation(3);
    talk.handshake();
    talk.exchange(1);
    talk.frames.remove(3);
    let options = Options {
        bytes: true,
        lives: Lives::Filter("tcp and src port 32775".parse().expect("a filter")),
        ..Options::default()
    };
    let (told, _) = replay_of(HOST_TOML, &pcap(&talk.frames), options);
    assert_eq!(told[3].fate, Fate::Held(Holder::OutOfOrder));
    let life = told[3].life.as_ref().expect("it was asked for");
    assert!(life.story().contains("tcp_data_queue_ofo"), "{}", life.story());
    assert_eq!(told[3].data, talk.frames[3].bytes);
    assert!(told[1].life.is_none(), "the host sent it");
}

#[test]
fn packets_that_are_cut_or_foreign_are_listed_as_such() {
    let mut talk = conversation(3);
    talk.handshake();
    talk.exchange(1);
    let mut file = pcap_header(1);
    let first = talk.frames[0].time;
    for (index, frame) in talk.frames.iter().enumerate() {
        let keep = if index == 4 { 40 } else { frame.bytes.len().min(96) };
        file.extend(pcap_record(frame.time, frame.bytes.len(), &frame.bytes[..keep]));
    }
    let udp = {
        let mut bytes = talk.frames[0].bytes.clone();
        bytes[23] = 17;
        ipv4::fill_checksum(&mut bytes[14..34]);
        bytes
    };
    file.extend(pcap_record(first, udp.len(), &udp));
    let ipv6 = [&talk.frames[0].bytes[..12], &[0x86, 0xdd, 0x60, 0, 0, 0], &[0; 60]].concat();
    file.extend(pcap_record(first, ipv6.len(), &ipv6));
    let (told, summary) = replay_of(HOST_TOML, &file, Options::default());
    assert_eq!(told[4].fate, Fate::Unfed(Unfed::TooShort));
    let ends: Vec<Fate> = fates(&told[told.len() - 2..]);
    assert_eq!(ends, [Fate::Unfed(Unfed::Transport(17)), Fate::Unfed(Unfed::Network(0x86dd))]);
    assert_eq!(summary.back_in_time.0, 2);
    let cut = summary.notes.iter().find(|(note, _)| *note == Notes::CUT);
    assert!(cut.is_some_and(|(_, n)| *n > 0), "{:?}", summary.notes);
    assert!(told.iter().any(|one| one.notes.contains(Notes::CUT) && one.fate == Fate::Held(Holder::OutOfOrder)));
}

/// A datagram between the peer's port 5353 and the host's port 53.
fn datagram(talk: &mut Conversation, port: u16, outbound: bool, payload: &[u8]) -> Captured {
    let (peer, mut repr) = (talk.client, udp::UdpRepr { sport: 5_353, dport: port, len: 8 + payload.len() as u16 });
    let (mut src, mut dst) = ((peer.addr, PEER_MAC), (HOST, HOST_MAC));
    if outbound {
        (repr.sport, repr.dport) = (repr.dport, repr.sport);
        std::mem::swap(&mut src, &mut dst);
    }
    let mut bytes = vec![0; 14 + 20 + 8];
    ethernet::emit(&mut bytes, EthernetRepr { dst: dst.1, src: src.1, ethertype: EtherType::IPV4 });
    let total_len = 28 + payload.len() as u16;
    let ip = Ipv4Repr { src: src.0, dst: dst.0, proto: IpProto::UDP, ttl: 64, tos: 0, id: 1, df: true, total_len };
    ipv4::emit(&mut bytes[14..], ip);
    udp::emit(&mut bytes[34..], repr);
    bytes.extend_from_slice(payload);
    udp::fill_checksum(Addr::from(src.0), Addr::from(dst.0), &mut bytes[34..]);
    talk.time += 20_000;
    Captured { time: talk.time, bytes, outbound }
}

#[test]
fn datagrams_go_to_the_sockets_that_are_known() {
    let mut talk = conversation(3);
    let frames = [
        datagram(&mut talk, 53, false, b"before anything is known"),
        datagram(&mut talk, 53, true, b"the host has a socket"),
        datagram(&mut talk, 53, false, b"which gets this"),
        datagram(&mut talk, 54, false, b"of this nothing is known"),
    ];
    let file = pcap(&frames);
    let unknown = Fate::Unfed(Unfed::Transport(17));
    let (told, summary) = replay_of(HOST_TOML, &file, Options::default());
    assert_eq!(fates(&told), [unknown, Fate::Outbound, Fate::Delivered, unknown]);
    assert_eq!(summary.counters[Counter::UdpInDatagrams], 1);
    // A service makes it known which ports are open, and which are not; so does an option.
    let toml = format!("{HOST_TOML}[[service]]\nlisten = \"10.9.0.1:53\"\napp = \"echo\"\nproto = \"udp\"\n");
    let listen = vec![(Proto::Udp, "0.0.0.0:53".parse().expect("an address"))];
    let refused = Fate::Dropped(DropReason::NoSocket);
    for (toml, options) in
        [(&toml, Options::default()), (&HOST_TOML.to_owned(), Options { listen, ..Options::default() })]
    {
        let (told, summary) = replay_of(toml, &file, options);
        assert_eq!(fates(&told), [Fate::Delivered, Fate::Outbound, Fate::Delivered, refused]);
        let (read, nobody) = (Counter::UdpInDatagrams, Counter::UdpNoPorts);
        assert_eq!((summary.counters[read], summary.counters[nobody]), (2, 1));
    }
    // A damaged one is counted as such, and one in fragments is delivered as a whole.
    let mut damaged = datagram(&mut talk, 53, false, &[7; 100]);
    damaged.bytes[60] ^= 1;
    let whole = datagram(&mut talk, 53, false, &[7; 100]);
    let fragment = |at: usize, len: usize, word: u16| {
        let mut bytes = whole.bytes[..34].to_vec();
        bytes.extend_from_slice(&whole.bytes[34 + at..34 + at + len]);
        bytes[16..18].copy_from_slice(&(20 + len as u16).to_be_bytes());
        bytes[20..22].copy_from_slice(&word.to_be_bytes());
        ipv4::fill_checksum(&mut bytes[14..34]);
        Captured { bytes, ..whole.clone() }
    };
    let frames = [damaged, fragment(0, 64, ipv4::MORE_FRAGMENTS), fragment(64, 44, 8)];
    let (told, summary) = replay_of(&toml, &pcap(&frames), Options::default());
    let joined = Fate::Consumed(Consumed::Reassembled);
    assert_eq!(fates(&told)[0], Fate::Dropped(DropReason::UdpCsum));
    assert!(fates(&told)[1..].iter().all(|fate| [joined, Fate::Delivered].contains(fate)), "{told:?}");
    assert_eq!((summary.counters[Counter::UdpInDatagrams], summary.counters[Counter::IpReasmOKs]), (1, 1));
}

#[test]
fn link_types_without_hardware_addresses_are_told_by_their_own_words() {
    let mut talk = conversation(3);
    talk.handshake();
    talk.exchange(1);
    talk.close();
    let cooked = |frame: &Captured| {
        let mac = &frame.bytes[6..12];
        [&[0, if frame.outbound { 4 } else { 0 }, 0, 1, 0, 6][..], mac, &[0, 0, 8, 0], &frame.bytes[14..]].concat()
    };
    let cooked2 = |frame: &Captured| {
        let kind = if frame.outbound { 4 } else { 0 };
        let mac = &frame.bytes[6..12];
        [&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, kind, 6][..], mac, &[0, 0], &frame.bytes[14..]].concat()
    };
    let null = |frame: &Captured| [&[2, 0, 0, 0], &frame.bytes[14..]].concat();
    let raw = |frame: &Captured| frame.bytes[14..].to_vec();
    type Make<'a> = &'a dyn Fn(&Captured) -> Vec<u8>;
    let makers: [(u16, Make<'_>); 5] = [(113, &cooked), (276, &cooked2), (0, &null), (101, &raw), (228, &raw)];
    for (link, make) in makers {
        let mut file = pcap_header(link);
        talk.frames.iter().for_each(|frame| {
            let bytes = make(frame);
            file.extend(pcap_record(frame.time, bytes.len(), &bytes));
        });
        let (told, summary) = replay_of(HOST_TOML, &file, Options::default());
        for (one, frame) in told.iter().zip(&talk.frames) {
            assert_eq!(one.fate == Fate::Outbound, frame.outbound, "link type {link}: {one:?}");
        }
        assert_eq!((summary.followed.established, summary.ledger.dropped()), (1, 0), "link type {link}");
    }
}

#[test]
fn a_hardware_address_that_is_not_configured_is_the_captures() {
    let mut talk = conversation(3);
    talk.handshake();
    talk.exchange(1);
    let toml = HOST_TOML.replace("mac = \"52:54:00:00:00:01\"\n", "");
    let (told, summary) = replay_of(&toml, &pcap(&talk.frames), Options::default());
    assert_eq!(summary.learnt, [("eth0".to_owned(), HOST_MAC)]);
    assert!(told.iter().all(|one| matches!(one.fate, Fate::Outbound | Fate::Delivered | Fate::Consumed(_))));
    let other = HOST_TOML.replace("52:54:00:00:00:01", "52:54:00:00:00:77");
    let (told, _) = replay_of(&other, &pcap(&talk.frames[..1]), Options::default());
    assert_eq!(fates(&told), [Fate::Dropped(DropReason::Otherhost)], "what is configured counts");
}

#[test]
fn the_interface_is_that_of_the_captures_name() {
    let toml = format!("{HOST_TOML}[[interface]]\nname = \"eth1\"\ndriver = \"pcap\"\naddresses = [\"10.8.0.1/24\"]\n");
    let mut talk = conversation(3);
    talk.segment(true, TcpFlags::SYN, &[]);
    let frame = &talk.frames[0];
    let mut writer = CaptureWriter::new(Vec::new(), "test").expect("memory takes everything");
    for name in ["eth1", "eth0"] {
        let (link, name) = (Link::Ethernet, Some(name.to_owned()));
        let described = Interface { link, snaplen: 0, name, fcs_len: 0, resolution: 9, offset_s: 0 };
        writer.interface(&described).expect("memory takes everything");
    }
    for interface in [0, 1] {
        let packet = Written {
            interface,
            time: frame.time as i64,
            wire_len: frame.bytes.len() as u32,
            data: &frame.bytes,
            flags: 1,
            lost: 4,
            comment: "",
            id: None,
            queue: None,
            verdict: None,
        };
        writer.packet(&packet).expect("memory takes everything");
    }
    let file = writer.finish().expect("memory takes everything");
    let (told, summary) = replay_of(&toml, &file, Options::default());
    assert_eq!(fates(&told), [Fate::Dropped(DropReason::Otherhost), HANDSHAKE]);
    assert_eq!(summary.lost, 8);
    assert_eq!(told[1].id.map(|(_, queue)| queue), Some(0));
}

#[test]
fn a_thousand_packets_of_a_server_are_all_accounted_for() {
    for (toml, packets) in [
        (HOST_TOML.to_owned(), 3_000),
        (HOST_TOML.replace("addresses", "queues = 3\naddresses") + "[stack]\ncpus = 3\n", 1_000),
    ] {
        let mut file = Vec::new();
        synthetic::write_pcap(&mut file, packets, 11).expect("memory takes everything");
        let (told, summary) = replay_of(&toml, &file, Options::default());
        assert_eq!(summary.packets, packets);
        assert_eq!((summary.ledger.dropped(), summary.followed.capped), (0, 0), "{:?}", summary.ledger);
        assert!(summary.followed.established > 20);
        assert!(told.iter().all(|one| matches!(one.fate, Fate::Outbound | Fate::Delivered | Fate::Consumed(_))));
    }
}

#[test]
fn replaying_twice_gives_the_same() {
    let mut file = Vec::new();
    synthetic::write_pcap(&mut file, 500, 5).expect("memory takes everything");
    let run = || {
        let (told, summary) = replay_of(HOST_TOML, &file, Options { lives: Lives::Packet(31), ..Options::default() });
        (fates(&told), told[30].life.clone(), summary.counters, summary.ledger.to_string())
    };
    assert_eq!(run(), run());
}

#[test]
fn acknowledgements_of_what_nobody_sent_do_not_make_memory_grow() {
    let mut rng = Rng::new(9);
    let mut frames = Vec::new();
    for number in 0..300 {
        let time = 1_700_000_000_000_000_000 + u64::from(number) * 1_000_000;
        let mut talk = Conversation::with_peer(number, &mut rng, time);
        talk.handshake();
        talk.server.seq += 400_000_000;
        talk.segment(true, TcpFlags::ACK, &[]);
        frames.extend(talk.frames);
    }
    let file = pcap(&frames);
    let reader = CaptureReader::new(Cursor::new(&file)).expect("a capture");
    let mut replay = Replay::new(&host(HOST_TOML), reader, Options::default()).expect("a stack");
    let summary = replay.run(|_, _| Ok::<(), Infallible>(()), |_, _| {}).unwrap_or_else(|never| match never {});
    assert_eq!((summary.followed.established, summary.followed.capped), (300, 300));
    let buffered = replay.flows.buffered;
    let most = flows::BUFFERED_MAX + u64::from(flows::MADE_UP_MAX);
    assert!((flows::BUFFERED_MAX / 2..=most).contains(&buffered), "{buffered}");
    summary.ledger.check().expect("it balances");
}

#[test]
fn a_runt_is_the_cards_to_refuse() {
    for (link, want) in [(1, Fate::Dropped(DropReason::RxRunt)), (113, Fate::Unfed(Unfed::LinkPayload))] {
        let mut file = pcap_header(link);
        file.extend(pcap_record(1, 5, &[1, 2, 3, 4, 5]));
        file.extend(pcap_record(2, 0, &[]));
        file.extend(pcap_record(3, 60, &[1, 2, 3]));
        let (told, _) = replay_of(HOST_TOML, &file, Options::default());
        assert_eq!(fates(&told), [want, want, Fate::Unfed(Unfed::TooShort)]);
    }
}

/// Changes a capture: bits, lengths, cuts, repetitions.
fn mutated(file: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=rng.below(4) {
        let len = bytes.len() as u32;
        if len < 8 {
            break;
        }
        // One in eight hits the header, or the first blocks.
        let most = if rng.below(8) == 0 { 8 } else { len - 4 };
        let at = rng.below(most) as usize;
        match rng.below(6) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at..at + 4].copy_from_slice(&[0xff; 4]),
            2 => bytes.truncate(at),
            3 => bytes[at..at + 4].copy_from_slice(&(rng.next_u64() as u32 % 5_000).to_le_bytes()),
            4 => {
                let end = (at + rng.below(200) as usize).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let end = (at + rng.below(60) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

/// The same packets as pcapng.
fn pcapng(frames: &[Captured]) -> Vec<u8> {
    let mut writer = CaptureWriter::new(Vec::new(), "test").expect("memory takes everything");
    let name = Some("eth0".to_owned());
    let described = Interface { link: Link::Ethernet, snaplen: 0, name, fcs_len: 0, resolution: 9, offset_s: 0 };
    writer.interface(&described).expect("memory takes everything");
    for frame in frames {
        let packet = Written {
            interface: 0,
            time: frame.time as i64,
            wire_len: frame.bytes.len() as u32,
            data: &frame.bytes,
            flags: if frame.outbound { 2 } else { 1 },
            lost: 0,
            comment: "a comment",
            id: Some(1),
            queue: None,
            verdict: None,
        };
        writer.packet(&packet).expect("memory takes everything");
    }
    writer.finish().expect("memory takes everything")
}

#[test]
#[expect(clippy::print_stdout, reason = "a failure is to show its seed")]
fn two_hundred_malformed_captures_give_clean_errors_or_clean_results() {
    let seed = std::env::var("RXPATH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    println!("RXPATH_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut frames: Vec<Captured> = synthetic::frames(60, seed).collect();
    let mut talk = conversation(seed);
    frames.extend((0..6).map(|number| datagram(&mut talk, 53, number % 3 == 2, &[number; 300])));
    let good = [pcap(&frames), pcapng(&frames)];
    let (mut refused, mut cut, mut whole) = (0, 0, 0);
    for number in 0..200 {
        let file = mutated(&good[number % 2], &mut rng);
        let Ok(reader) = CaptureReader::new(Cursor::new(&file)) else {
            refused += 1;
            continue;
        };
        let options =
            Options { bytes: true, lives: Lives::Filter("not arp".parse().expect("a filter")), ..Options::default() };
        let mut replay = Replay::new(&host(HOST_TOML), reader, options).expect("a stack");
        let mut told = Vec::new();
        let tell = |one: Told, _: &[Interface]| -> Result<(), Infallible> {
            told.push(one);
            Ok(())
        };
        let summary = replay.run(tell, |_, _| {}).unwrap_or_else(|never| match never {});
        check(&told, &summary);
        match &summary.fault {
            Some(fault) => {
                assert!(fault.offset <= file.len() as u64, "{fault}");
                assert!(!fault.to_string().is_empty());
                cut += 1;
            }
            None => whole += 1,
        }
    }
    assert!(refused > 0 && cut > 20 && whole > 20, "refused {refused}, cut {cut}, whole {whole}");
}

#[test]
fn segments_longer_than_the_mtu_are_super_frames() {
    let mut talk = conversation(3);
    talk.handshake();
    talk.segment(true, TcpFlags::ACK, &[7; 20_000]);
    talk.segment(false, TcpFlags::ACK, &[]);
    let frame = talk.frames[3].bytes.clone();
    assert!(tcp::verify(Addr::from(talk.client.addr), HOST.into(), &frame[34..]));
    let (told, summary) = replay_of(HOST_TOML, &pcap(&talk.frames), Options::default());
    assert!(told[3].notes.contains(Notes::SUPER_FRAME));
    assert_eq!(told[3].fate, Fate::Delivered);
    assert_eq!((summary.counters[Counter::TcpInSegs], PORT), (3, 80), "a super-frame counts once, as in the kernel");
}
