//! The device that plays captures.
#![cfg(feature = "pcap")]

use std::io::Cursor;
use std::time::Duration;

use rxpath::capture::CaptureReader;
use rxpath::clock::ManualClock;
use rxpath::device::pcap::{Pcap, PcapConfig, Played, Recorded, Watch};
use rxpath::rxpath_trace::{EventKind, Selector, Time};
use rxpath::rxpath_wire::{ArpRepr, EtherType, EthernetRepr, MacAddr, arp, ethernet};
use rxpath::{Interface, Mode, Stack};

const MAC: MacAddr = MacAddr([2, 0x72, 0x78, 0, 0, 1]);

/// An ARP request for 10.0.0.1 by station `n`, or by ourselves for somebody else if it is 1.
fn request(n: u8) -> Vec<u8> {
    let mac = MacAddr([2, 0x72, 0x78, 0, 0, n]);
    let mut frame = vec![0; 42];
    ethernet::emit(&mut frame, EthernetRepr { dst: MacAddr::BROADCAST, src: mac, ethertype: EtherType::ARP });
    let repr = ArpRepr {
        operation: arp::REQUEST,
        sender_mac: mac,
        sender_ip: [10, 0, 0, n].into(),
        target_mac: MacAddr::ZERO,
        target_ip: [10, 0, 0, if n == 1 { 9 } else { 1 }].into(),
    };
    arp::emit(&mut frame[14..], repr);
    frame
}

/// A pcap file in microseconds.
fn capture(packets: &[(u32, &[u8])]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (millis, bytes) in packets {
        let len = (bytes.len() as u32).to_le_bytes();
        for word in [(millis / 1_000).to_le_bytes(), (millis % 1_000 * 1_000).to_le_bytes(), len, len] {
            file.extend(word);
        }
        file.extend_from_slice(bytes);
    }
    file
}

fn stack(file: Vec<u8>, queues: u16) -> (Stack, Watch) {
    let config = PcapConfig { queues, ..PcapConfig::default() };
    let reader = CaptureReader::new(Cursor::new(file)).expect("a capture");
    let recorded = Recorded::new(reader, &config, Time::from_millis(2_000));
    let watch = recorded.watch();
    let interface = Interface::new(Pcap::new(config, recorded)).address("10.0.0.1/24").expect("an address");
    let builder = Stack::builder().interface(interface).cpus(queues).lives(Selector::All).seed(1);
    (builder.mode(Mode::Polled).clock(ManualClock::new()).build().expect("a stack"), watch)
}

#[test]
fn frames_arrive_at_the_captures_own_times() {
    for queues in [1, 3] {
        let requests = [request(7), request(8), request(1), request(9), request(5)];
        let times = [5_000, 5_040, 5_050, 5_020, 9_000];
        let packets: Vec<(u32, &[u8])> = times.into_iter().zip(requests.iter().map(Vec::as_slice)).collect();
        let (stack, watch) = stack(capture(&packets), queues);
        stack.run_for(Duration::from_secs(60)).expect("it is up");
        let offered = stack.take_events().into_iter().filter(|event| event.kind == EventKind::Offered);
        let at: Vec<u64> = offered.map(|event| event.at.as_millis()).collect();
        assert_eq!(at, [2_000, 2_040, 2_040, 6_000], "older ones come with those before");
        let played = Played { packets: 5, fed: 4, outbound: 1, back_in_time: 1, ..Played::default() };
        assert_eq!((watch.played(), watch.fault()), (played, None));
        let ledger = stack.ledger();
        assert_eq!((ledger.offered(), ledger.transmitted()), (4, 4));
        ledger.check().expect("it balances");
    }
}

#[test]
fn the_end_of_a_cut_capture_is_told_and_what_is_before_it_is_played() {
    let mut file = capture(&[(1, &request(7)), (2, &request(8))]);
    file.truncate(file.len() - 1);
    let (stack, watch) = stack(file, 1);
    stack.run_for(Duration::from_secs(5)).expect("it is up");
    assert_eq!(watch.played().fed, 1);
    assert_eq!(watch.fault().as_deref(), Some("byte 82: ends within a packet: 57 of 58 bytes are there"));
    stack.shutdown();
    stack.ledger().check().expect("it balances");
}

#[test]
fn what_is_no_frame_is_not_played() {
    let (stack, watch) = stack(capture(&[(1, &[1, 2, 3]), (2, &request(7))]), 1);
    stack.run_for(Duration::from_secs(5)).expect("it is up");
    assert_eq!((watch.played().unreadable, watch.played().fed), (1, 1));
    assert_eq!(stack.interfaces()[0].name, "pcap0");
    assert_eq!(stack.config().interfaces[0].mac, MAC);
    stack.ledger().check().expect("it balances");
}
