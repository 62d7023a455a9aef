//! Captures, good and bad.

use std::io::Cursor;

use rxpath_mem::{IpSummed, RxErrors};
use rxpath_wire::MacAddr;

use super::reader::nanoseconds;
use super::*;

/// A packet as the reader gave it: number, offset, time, interface, wire length, bytes, lost before.
type Seen = (u64, u64, Option<i64>, Option<usize>, u32, Vec<u8>, u64);

fn read(file: &[u8]) -> (Vec<Seen>, Option<String>) {
    let mut reader = match CaptureReader::new(Cursor::new(file)) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut seen = Vec::new();
    loop {
        match reader.next_packet() {
            Ok(None) => return (seen, None),
            Err(error) => {
                assert!(reader.next_packet().is_ok_and(|packet| packet.is_none()), "nothing follows an error");
                return (seen, Some(error.to_string()));
            }
            Ok(Some(p)) => {
                seen.push((p.number, p.offset, p.time, p.interface, p.wire_len, p.data.to_vec(), p.lost));
            }
        }
    }
}

/// The header of a pcap file.
fn header(magic: u32, big: bool, link: u32) -> Vec<u8> {
    let word = |word: u32| if big { word.to_be_bytes() } else { word.to_le_bytes() };
    let version = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    [word(magic), version, word(0), word(0), word(65_535), word(link)].concat()
}

fn record(big: bool, sec: u32, fraction: u32, wire: u32, data: &[u8]) -> Vec<u8> {
    let word = |word: u32| if big { word.to_be_bytes() } else { word.to_le_bytes() };
    [&word(sec), &word(fraction), &word(data.len() as u32), &word(wire), data].concat()
}

/// A pcapng block.
fn block(big: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let word = |word: u32| if big { word.to_be_bytes() } else { word.to_le_bytes() };
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let len = word(body.len() as u32 + 12);
    [&word(kind)[..], &len, &body, &len].concat()
}

fn section(big: bool) -> Vec<u8> {
    let magic = 0x1a2b_3c4d_u32;
    let body = match big {
        true => [&magic.to_be_bytes()[..], &[0, 1, 0, 0], &[0xff; 8]].concat(),
        false => [&magic.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat(),
    };
    block(big, 0x0a0d_0d0a, &body)
}

fn option(big: bool, code: u16, value: &[u8]) -> Vec<u8> {
    let half = |half: u16| if big { half.to_be_bytes() } else { half.to_le_bytes() };
    let mut bytes = [&half(code)[..], &half(value.len() as u16), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn interface(big: bool, link: u16, snaplen: u32, options: &[u8]) -> Vec<u8> {
    let half = |half: u16| if big { half.to_be_bytes() } else { half.to_le_bytes() };
    let word = |word: u32| if big { word.to_be_bytes() } else { word.to_le_bytes() };
    block(big, 1, &[&half(link)[..], &[0, 0], &word(snaplen), options].concat())
}

fn enhanced(big: bool, id: u32, stamp: u64, wire: u32, data: &[u8], options: &[u8]) -> Vec<u8> {
    let word = |word: u32| if big { word.to_be_bytes() } else { word.to_le_bytes() };
    let mut body =
        [word(id), word((stamp >> 32) as u32), word(stamp as u32), word(data.len() as u32), word(wire)].concat();
    body.extend_from_slice(data);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend_from_slice(options);
    block(big, 6, &body)
}

#[test]
fn pcap_of_every_byte_order_and_resolution() {
    let magics =
        [(0xa1b2_c3d4, false, 1_000), (0xa1b2_c3d4, true, 1_000), (0xa1b2_3c4d, false, 1), (0xa1b2_3c4d, true, 1)];
    for (magic, big, unit) in magics {
        let mut file = header(magic, big, 1);
        file.extend(record(big, 7, 5, 3, &[1, 2, 3]));
        file.extend(record(big, 0xffff_ffff, 6, 90, &[4]));
        let (seen, fault) = read(&file);
        assert_eq!(fault, None);
        assert_eq!(seen[0], (1, 24, Some(7_000_000_000 + 5 * unit), Some(0), 3, vec![1, 2, 3], 0));
        let late = 4_294_967_295_000_000_000 + 6 * unit;
        assert_eq!(seen[1], (2, 43, Some(late), Some(0), 90, vec![4], 0));
    }
}

#[test]
fn the_modified_pcap_has_longer_headers() {
    let mut file = header(0xa1b2_cd34, false, 1);
    let mut odd = record(false, 1, 0, 2, &[]);
    odd[8] = 2;
    odd.extend([0; 8]);
    odd.extend([9, 8]);
    file.extend(odd);
    assert_eq!(read(&file).0, [(1, 24, Some(1_000_000_000), Some(0), 2, vec![9, 8], 0)]);
}

#[test]
fn a_pcap_header_may_give_the_length_of_the_fcs() {
    // Two 16-bit words of FCS, and the bit that says so, above link type 1.
    let reader = CaptureReader::new(Cursor::new(header(0xa1b2_c3d4, false, 2 << 28 | 1 << 26 | 1))).expect("a header");
    assert_eq!((reader.interfaces()[0].link, reader.interfaces()[0].fcs_len), (Link::Ethernet, 4));
    assert_eq!(reader.format(), Format::Pcap);
}

#[test]
fn pcapng_with_sections_of_both_byte_orders_and_several_interfaces() {
    let mut file = Vec::new();
    for big in [false, true] {
        file.extend(section(big));
        let name = option(big, 2, b"eth0");
        let options = [name, option(big, 9, &[9]), option(big, 13, &[32]), option(big, 0, &[])].concat();
        file.extend(interface(big, 1, 0, &options));
        let behind = if big { 10_i64.to_be_bytes() } else { 10_i64.to_le_bytes() };
        file.extend(interface(big, 101, 4, &option(big, 14, &behind)));
        file.extend(block(big, 0xbad, &[0; 5]));
        let flags = if big { 2_u32.to_be_bytes() } else { 2_u32.to_le_bytes() };
        let lost = if big { 3_u64.to_be_bytes() } else { 3_u64.to_le_bytes() };
        let options = [option(big, 1, b"hello"), option(big, 2, &flags), option(big, 4, &lost)].concat();
        file.extend(enhanced(big, 0, 5_000_000_007, 60, &[1, 2, 3], &options));
        file.extend(enhanced(big, 1, 1_000_000, 1, &[0x45], &[]));
    }
    let mut reader = CaptureReader::new(Cursor::new(&file)).expect("a section");
    let mut times = Vec::new();
    while let Some(packet) = reader.next_packet().expect("sound") {
        times.push((packet.interface, packet.time, packet.direction(), packet.lost));
    }
    let first = |index| (Some(index), Some(5_000_000_007), Some(Direction::Outbound), 3);
    let second = |index| (Some(index), Some(11_000_000_000), None, 0);
    assert_eq!(times, [first(0), second(1), first(2), second(3)]);
    let named: Vec<_> = reader.interfaces().iter().map(|i| (i.name.as_deref(), i.link, i.fcs_len)).collect();
    let both = [(Some("eth0"), Link::Ethernet, 4), (None, Link::RawIp, 0)];
    assert_eq!(named, [both, both].concat());
}

#[test]
fn simple_and_obsolete_packet_blocks() {
    let mut file = section(false);
    file.extend(interface(false, 1, 3, &[]));
    file.extend(block(false, 3, &[&9_u32.to_le_bytes()[..], &[1, 2, 3]].concat()));
    let old = [0, 0, 7, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 8, 9];
    file.extend(block(false, 2, &old));
    let (seen, fault) = read(&file);
    assert_eq!(fault, None);
    assert_eq!((seen[0].2, seen[0].4, &seen[0].5[..]), (None, 9, &[1, 2, 3][..]));
    assert_eq!((seen[1].2, seen[1].4, &seen[1].5[..], seen[1].6), (Some(4_000), 2, &[8, 9][..], 7));
}

#[test]
fn time_in_every_resolution() {
    assert_eq!(nanoseconds(3, 0, 0), 3_000_000_000);
    assert_eq!(nanoseconds(3_000_001, 6, -3), 1_000);
    assert_eq!(nanoseconds(1 << 40, 12, 0), 1_099_511_627);
    assert_eq!(nanoseconds(u64::MAX, 127, 5), 5_000_000_000);
    assert_eq!(nanoseconds(3, 0x81, 0), 1_500_000_000);
    assert_eq!(nanoseconds(u64::MAX, 0xff, 0), 0);
    assert_eq!(nanoseconds(u64::MAX, 0, i64::MAX), i64::MAX);
    assert_eq!(nanoseconds(0, 6, i64::MIN), i64::MIN);
}

#[test]
fn what_is_no_capture_is_told_with_the_mend() {
    let told = |bytes: &[u8]| read(bytes).1.unwrap_or_default();
    assert_eq!(told(&[]), "is empty: not even the header of a capture is there");
    assert!(told(&[0x1f, 0x8b, 8, 0]).contains("gzip; undo that first: gunzip FILE"));
    assert!(told(b"GET / HTTP").contains("begins with 47 45 54 20"));
    assert_eq!(
        told(&header(0xa1b2_c3d4, false, 1)[..9]),
        "byte 0: ends within the header of the file: 9 of 24 bytes are there"
    );
    assert_eq!(told(&[0xd4, 0xc3]), "byte 0: ends within the header of the file: 2 of 24 bytes are there");
    assert_eq!(
        told(&[&[0x0a, 0x0d, 0x0d, 0x0a][..], &[0; 28]].concat()),
        "byte 0: a section header without a byte-order magic"
    );
}

#[test]
fn a_cut_capture_is_read_up_to_the_cut() {
    let mut file = header(0xa1b2_c3d4, false, 1);
    file.extend(record(false, 1, 0, 4, &[1, 2, 3, 4]));
    file.extend(record(false, 2, 0, 4, &[1, 2, 3, 4]));
    for cut in 45..64 {
        let (seen, fault) = read(&file[..cut]);
        let fault = fault.expect("cut");
        assert_eq!(seen.len(), 1);
        assert!(fault.starts_with("byte 44: ends within a packet: "), "{fault}");
    }
    let mut file = section(false);
    file.extend(interface(false, 1, 0, &[]));
    let whole = file.len();
    file.extend(block(false, 0xbad, &[0; 400_000]));
    let (seen, fault) = read(&file[..whole + 300_000]);
    assert_eq!(
        (seen.len(), fault),
        (0, Some(format!("byte {whole}: ends within a block: 300000 of 400012 bytes are there")))
    );
    assert_eq!(read(&file), (vec![], None));
}

#[test]
fn lengths_that_cannot_be_are_errors_and_take_no_memory() {
    let mut file = header(0xa1b2_c3d4, false, 1);
    let mut absurd = record(false, 1, 0, 4, &[]);
    absurd[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    file.extend(absurd);
    assert!(read(&file).1.is_some_and(|fault| fault.starts_with("byte 24: a packet claims 4294967295 bytes; ")));
    for (len, wrong) in [(11_u32, true), (13, true), (0, true), (0xffff_fffc, true), (12, false)] {
        let mut file = section(false);
        let odd = [&1_u32.to_le_bytes()[..], &len.to_le_bytes(), &len.to_le_bytes()].concat();
        file.extend(odd);
        let fault = read(&file).1.expect("a block like this cannot be");
        assert_eq!(fault.contains("claims"), wrong, "{fault}");
        assert!(fault.starts_with("byte 28: "), "{fault}");
    }
    let mut file = section(false);
    let mut differs = interface(false, 1, 0, &[]);
    differs[16] ^= 4;
    file.extend(differs);
    assert_eq!(read(&file).1.as_deref(), Some("byte 28: a block whose two lengths differ"));
}

#[test]
fn odd_packets_and_options_are_no_reason_to_stop() {
    let mut file = section(false);
    file.extend(interface(false, 1, 0, &[2, 0, 0xff, 0xff]));
    file.extend(enhanced(false, 9, 0, 1, &[1], &[]));
    file.extend(enhanced(false, 0, 0, 0, &[1, 2], &[2, 0, 3, 0, 1, 2, 3, 0]));
    let (seen, fault) = read(&file);
    assert_eq!(fault, None);
    assert_eq!((seen[0].3, seen[0].2), (None, None), "of an interface that nobody described");
    assert_eq!(seen[1].4, 2, "what was captured was on the wire");
    let mut longer = enhanced(false, 0, 0, 1, &[1], &[]);
    longer[20] = 200;
    file.extend(longer);
    assert!(read(&file).1.is_some_and(|fault| fault.ends_with("a packet that is longer than its block")));
}

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// An IPv4 TCP segment with this payload, checksums right.
fn segment(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1];
    packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(payload);
    let len = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&len);
    rxpath_wire::ipv4::fill_checksum(&mut packet[..20]);
    let (src, dst) = ([10, 0, 0, 9], [10, 0, 0, 1]);
    let (src, dst) = (rxpath_wire::Addr::from_v4(src), rxpath_wire::Addr::from_v4(dst));
    rxpath_wire::tcp::fill_checksum(src, dst, &mut packet[20..]);
    packet
}

fn framed(link: Link, front: &[u8], packet: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let data = [front, packet].concat();
    let mut frame = Vec::new();
    peel(link, &data).map(|peeled| {
        to_ethernet(link, &peeled, &data, MAC, &mut frame);
        frame
    })
}

#[test]
fn every_link_type_gives_an_ethernet_frame() {
    let packet = segment(b"hello");
    let made = |dst: MacAddr, src: MacAddr| [&dst.0[..], &src.0, &[8, 0], &packet].concat();
    let plain = made(MAC, link::NOBODY);
    assert_eq!(framed(Link::RawIp, &[], &packet), Ok(plain.clone()));
    assert_eq!(framed(Link::Null, &[2, 0, 0, 0], &packet), Ok(plain.clone()));
    assert_eq!(framed(Link::Null, &[0, 0, 0, 2], &packet), Ok(plain.clone()));
    assert_eq!(framed(Link::Loop, &[0, 0, 0, 2], &packet), Ok(plain.clone()));
    let sender = MacAddr([2, 0, 0, 0, 0, 9]);
    let cooked = |kind: u8| [0, kind, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0, 8, 0];
    assert_eq!(framed(Link::Sll, &cooked(0), &packet), Ok(made(MAC, sender)));
    assert_eq!(framed(Link::Sll, &cooked(1), &packet), Ok(made(MacAddr::BROADCAST, sender)));
    let cooked2 = [8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0];
    assert_eq!(framed(Link::Sll2, &cooked2, &packet), Ok(made(MAC, sender)));
    assert_eq!(framed(Link::Ethernet, &plain, &[]), Ok(plain));
    assert_eq!(peel(Link::Sll, &cooked(4)).map(|peeled| peeled.kind), Ok(Some(LinkKind::Outgoing)));
}

#[test]
fn link_headers_that_cannot_be_read_say_why() {
    assert_eq!(framed(Link::Other(147), &[], &[1]), Err(Unreadable::LinkType(147)));
    assert_eq!(framed(Link::Ethernet, &[], &[0; 13]), Err(Unreadable::Short));
    assert_eq!(framed(Link::RawIp, &[], &[]), Err(Unreadable::Short));
    assert_eq!(framed(Link::RawIp, &[], &[0x10]), Err(Unreadable::Payload));
    assert_eq!(framed(Link::Null, &[7, 0, 0, 0], &[]), Err(Unreadable::Payload));
    assert_eq!(framed(Link::Sll, &[0; 15], &[]), Err(Unreadable::Short));
    assert_eq!(framed(Link::Sll2, &[0; 20], &[]), Err(Unreadable::Payload));
}

/// The frame that an interface gets of an Ethernet frame with these bytes kept.
fn arrived(mut frame: Vec<u8>, keep: usize, fcs: u8) -> (Result<Arrival, TooShort>, Vec<u8>) {
    let missing = frame.len().saturating_sub(keep);
    frame.truncate(keep);
    let arrival = prepare(&mut frame, missing, fcs, 1_500, None, 0);
    (arrival, frame)
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    framed(Link::RawIp, &[], packet).expect("IP")
}

#[test]
fn a_cut_payload_is_made_up_for_and_a_cut_header_is_not() {
    let frame = ethernet(&segment(&[7; 100]));
    let (arrival, whole) = arrived(frame.clone(), frame.len(), 0);
    assert_eq!((arrival.map(|a| (a.csum, a.notes)), whole), (Ok((IpSummed::None, Notes::default())), frame.clone()));
    let (arrival, filled) = arrived(frame.clone(), 60, 0);
    assert_eq!(arrival.map(|a| (a.csum, a.notes)), Ok((IpSummed::Unnecessary, Notes::CUT)));
    assert_eq!((filled.len(), &filled[..60], &filled[60..]), (154, &frame[..60], &[0; 94][..]));
    assert_eq!(arrived(frame.clone(), 53, 0).0, Err(TooShort { needed: 54 }));
    assert_eq!(arrived(frame.clone(), 20, 0).0, Err(TooShort { needed: 34 }));
    assert_eq!(arrived(frame, 13, 0).0, Err(TooShort { needed: 14 }));
}

#[test]
fn an_absurd_length_on_the_wire_takes_no_memory() {
    let mut frame = ethernet(&segment(&[7; 100]));
    frame.truncate(80);
    let arrival = prepare(&mut frame, u32::MAX as usize, 0, 1_500, None, 0);
    assert!(arrival.is_ok_and(|arrival| arrival.notes == Notes::CUT));
    assert_eq!(frame.len(), 154, "no longer than the packet says itself");
}

#[test]
fn an_open_checksum_and_a_super_frame_are_known() {
    let mut frame = ethernet(&segment(b"hello"));
    let (src, dst) = (rxpath_wire::Addr::from_v4([10, 0, 0, 9]), rxpath_wire::Addr::from_v4([10, 0, 0, 1]));
    let pseudo = rxpath_wire::pseudo_sum(src, dst, 6, 25).to_be_bytes();
    frame[50..52].copy_from_slice(&pseudo);
    let (arrival, _) = arrived(frame.clone(), frame.len(), 0);
    assert_eq!(arrival.map(|a| (a.csum, a.notes)), Ok((IpSummed::Partial, Notes::CSUM_OPEN)));

    let mut merged = ethernet(&segment(&[1; 4_000]));
    let arrival = prepare(&mut merged, 0, 0, 1_500, Some(1_448), 0).expect("headers are there");
    assert_eq!((arrival.gso_size, arrival.gso_segs, arrival.notes), (1_448, 3, Notes::SUPER_FRAME));
    let guessed = prepare(&mut merged, 0, 0, 1_500, None, 0).expect("headers are there");
    assert_eq!((guessed.gso_size, guessed.gso_segs, guessed.csum), (1_460, 3, IpSummed::Unnecessary));
}

#[test]
fn a_frame_check_sequence_is_taken_off_and_verified() {
    let frame = ethernet(&segment(b"hello"));
    // CRC-32 of the frame by the bitwise rule, checked here against the residue that 802.3 promises.
    let crc = frame.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    let with = |fcs: [u8; 4]| [&frame[..], &fcs].concat();
    let (arrival, bare) = arrived(with((!crc).to_le_bytes()), frame.len() + 4, 4);
    assert_eq!((arrival.map(|a| (a.errors, a.notes)), bare), (Ok((RxErrors::NONE, Notes::FCS)), frame.clone()));
    let (arrival, _) = arrived(with([1, 2, 3, 4]), frame.len() + 4, 4);
    assert_eq!(arrival.map(|a| a.errors), Ok(RxErrors::CRC));
    let (arrival, bare) = arrived(with([1, 2, 3, 4]), frame.len() + 2, 4);
    assert_eq!((arrival.map(|a| a.errors), bare), (Ok(RxErrors::NONE), frame.clone()), "half of it tells nothing");
    let mut padded = [&frame[..], &[0; 6]].concat();
    let arrival = prepare(&mut padded, 0, 0, 1_500, None, 1 << 24).expect("whole");
    assert_eq!((arrival.errors, arrival.notes, padded.len()), (RxErrors::CRC, Notes::default(), frame.len() + 6));
}

#[test]
fn what_is_written_is_read_again() {
    let mut writer = CaptureWriter::new(Vec::new(), "rxpath").expect("memory takes everything");
    let named = Interface {
        link: Link::Sll2,
        snaplen: 96,
        name: Some("any".to_owned()),
        fcs_len: 4,
        resolution: 9,
        offset_s: 0,
    };
    writer.interface(&named).expect("memory takes everything");
    let packet = Written {
        interface: 0,
        time: 1_700_000_000_123_456_789,
        wire_len: 70,
        data: &[1, 2, 3, 4, 5],
        flags: 1,
        lost: 2,
        comment: "dropped: TCP_CSUM",
        id: Some(17),
        queue: Some(3),
        verdict: Some(Verdict::Drop),
    };
    writer.packet(&packet).expect("memory takes everything");
    let file = writer.finish().expect("memory takes everything");
    let mut reader = CaptureReader::new(Cursor::new(&file)).expect("a section");
    let read = reader.next_packet().expect("sound").expect("a packet");
    assert_eq!((read.time, read.wire_len, read.data), (Some(packet.time), 70, packet.data));
    assert_eq!((read.direction(), read.lost), (Some(Direction::Inbound), 2));
    assert!(reader.next_packet().expect("sound").is_none());
    assert_eq!(reader.interfaces(), [named]);

    let (_, block) = pcap_parser::parse_enhancedpacketblock_le(&file[file.len() - 124..]).expect("the last block");
    let options: Vec<(u16, Vec<u8>)> =
        block.options.iter().map(|o| (o.code.0, o.as_bytes().expect("whole").to_vec())).collect();
    assert_eq!(options[0], (1, b"dropped: TCP_CSUM".to_vec()));
    assert_eq!(options[3], (5, 17_u64.to_le_bytes().to_vec()));
    assert_eq!(options[4], (6, 3_u32.to_le_bytes().to_vec()));
    assert_eq!(options[5], (7, vec![2, 1, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(options[6].0, 0);
}
