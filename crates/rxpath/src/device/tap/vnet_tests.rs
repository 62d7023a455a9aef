use proptest::prelude::*;

use super::*;

/// Ethernet, IPv4 without options, TCP with timestamps (doff 8), then `payload` bytes. All checksums zero.
fn tcp_frame(payload: usize) -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 32 + payload];
    frame[12..14].copy_from_slice(&EtherType::IPV4.to_be_bytes());
    frame[14] = 0x45;
    frame[23] = IpProto::TCP;
    frame[34 + TCP_DATA_OFFSET] = 0x80;
    frame
}

fn header_for(flags: u8, gso_type: u8, gso_size: u16) -> VnetHeader {
    VnetHeader { flags, gso_type, hdr_len: 66, gso_size, csum_start: 34, csum_offset: 16, num_buffers: 0 }
}

#[test]
fn the_bytes_are_those_of_virtio() {
    let header = VnetHeader {
        flags: 1,
        gso_type: 4,
        hdr_len: 0x0203,
        gso_size: 0x0405,
        csum_start: 0x0607,
        csum_offset: 0x0809,
        num_buffers: 0x0a0b,
    };
    assert_eq!(header.to_bytes(), [1, 4, 3, 2, 5, 4, 7, 6, 9, 8, 0xb, 0xa]);
}

#[test]
fn an_open_tcp_checksum_is_partial() {
    let frame = tcp_frame(100);
    let meaning = received(header_for(NEEDS_CSUM, GSO_NONE, 0), &frame, frame.len());
    assert_eq!(meaning, Received { csum: IpSummed::Partial, ..Received::default() });
}

#[test]
fn a_valid_checksum_is_unnecessary_to_verify_and_silence_says_nothing() {
    let frame = tcp_frame(100);
    assert_eq!(received(header_for(DATA_VALID, GSO_NONE, 0), &frame, frame.len()).csum, IpSummed::Unnecessary);
    assert_eq!(received(VnetHeader::default(), &frame, frame.len()), Received::default());
}

#[test]
fn a_super_frame_has_its_segments_counted() {
    let frame = tcp_frame(1_000);
    let whole = 66 + 1_448 * 3 + 1;
    for gso_type in [GSO_TCPV4, GSO_TCPV4 | GSO_ECN] {
        let meaning = received(header_for(NEEDS_CSUM, gso_type, 1_448), &frame, whole);
        let expected = Received { csum: IpSummed::Partial, gso_size: 1_448, gso_segs: 4, fill: None };
        assert_eq!(meaning, expected);
    }
}

#[test]
fn one_segment_is_no_super_frame() {
    let frame = tcp_frame(1_448);
    let meaning = received(header_for(NEEDS_CSUM, GSO_TCPV4, 1_448), &frame, frame.len());
    assert_eq!((meaning.gso_size, meaning.gso_segs), (0, 0));
}

#[test]
fn an_ipv6_super_frame_is_recognised() {
    let mut frame = vec![0; 14 + 40 + 20 + 3_000];
    frame[12..14].copy_from_slice(&EtherType::IPV6.to_be_bytes());
    frame[14 + 6] = IpProto::TCP;
    frame[54 + TCP_DATA_OFFSET] = 0x50;
    let header = VnetHeader { csum_start: 54, ..header_for(NEEDS_CSUM, GSO_TCPV6, 1_000) };
    let meaning = received(header, &frame, frame.len());
    assert_eq!((meaning.csum, meaning.gso_size, meaning.gso_segs), (IpSummed::Partial, 1_000, 3));
}

#[test]
fn a_checksum_beyond_the_frame_has_no_say() {
    let frame = tcp_frame(0);
    let header = VnetHeader { csum_start: 65, csum_offset: 0, ..header_for(NEEDS_CSUM, GSO_NONE, 0) };
    assert_eq!(received(header, &frame, frame.len()), Received::default());
}

#[test]
fn an_open_checksum_elsewhere_is_filled_in() {
    // Protocol 47 with a checksum 4 bytes into it, a pseudo-header's sum of 0x1234 in its place.
    let mut whole = tcp_frame(101);
    whole[23] = 47;
    for (i, byte) in whole[34..].iter_mut().enumerate() {
        *byte = i as u8;
    }
    whole[38..40].copy_from_slice(&0x1234u16.to_be_bytes());
    let header = VnetHeader { csum_offset: 4, ..header_for(NEEDS_CSUM, GSO_NONE, 0) };
    let meaning = received(header, &whole, whole.len());
    assert_eq!(meaning.csum, IpSummed::None);
    let open = meaning.fill.expect("nobody else knows where this checksum is");

    let mut words: u32 =
        whole[34..].chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |&b| u32::from(b))).sum();
    words = (words & 0xffff) + (words >> 16);
    words = (words & 0xffff) + (words >> 16);
    let expected = !(words as u16);
    // However the frame is cut in two, behind the checksum: at odd places too.
    for cut in 40..=whole.len() {
        let (mut head, rest) = (whole[..cut].to_vec(), &whole[cut..]);
        fill(open, &mut head, rest);
        assert_eq!(head[38..40], expected.to_be_bytes(), "cut at {cut}");
    }
}

#[test]
fn a_plain_frame_leaves_with_an_empty_header() {
    for summed in [IpSummed::None, IpSummed::Unnecessary, IpSummed::Complete] {
        assert_eq!(for_transmit(summed, 0, 34, &tcp_frame(10), 76), Some(VnetHeader::default()));
    }
}

#[test]
fn an_open_checksum_leaves_with_its_place() {
    let header = for_transmit(IpSummed::Partial, 0, 34, &tcp_frame(10), 76);
    assert_eq!(
        header,
        Some(VnetHeader { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..VnetHeader::default() })
    );
    let mut udp = tcp_frame(10);
    udp[23] = IpProto::UDP;
    let header = for_transmit(IpSummed::Partial, 0, 34, &udp, 76);
    assert_eq!(header, Some(VnetHeader { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 6, ..VnetHeader::default() }));
}

#[test]
fn a_super_frame_leaves_with_its_segment_size() {
    let header = for_transmit(IpSummed::Partial, 1_448, 34, &tcp_frame(100), 66 + 4_000);
    assert_eq!(header, Some(header_for(NEEDS_CSUM, GSO_TCPV4, 1_448)));
    let mut told = tcp_frame(0);
    told[47] |= TCP_CWR;
    let header = for_transmit(IpSummed::Partial, 1_448, 34, &told, 5_000);
    assert_eq!(header, Some(header_for(NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 1_448)), "CWR is for the first segment alone");
}

#[test]
fn a_super_frame_of_one_segment_leaves_as_an_ordinary_frame() {
    let header = for_transmit(IpSummed::Partial, 1_448, 34, &tcp_frame(100), 166);
    assert_eq!(header.map(|h| (h.gso_type, h.gso_size)), Some((GSO_NONE, 0)));
}

#[test]
fn what_cannot_be_expressed_is_refused() {
    assert_eq!(for_transmit(IpSummed::None, 1_448, 34, &tcp_frame(0), 5_000), None, "super-frame with a checksum");
    assert_eq!(for_transmit(IpSummed::Partial, 0, 30, &tcp_frame(0), 66), None, "transport header elsewhere");
    let mut other = tcp_frame(0);
    other[23] = 47;
    assert_eq!(for_transmit(IpSummed::Partial, 0, 34, &other, 66), None, "no known place for the checksum");
    other[23] = IpProto::UDP;
    assert_eq!(for_transmit(IpSummed::Partial, 1_448, 34, &other, 5_000), None, "super-frame that is not TCP");
    assert_eq!(for_transmit(IpSummed::Partial, 0, 34, &tcp_frame(0)[..40], 40), None, "header cut short");
}

proptest! {
    #[test]
    fn bytes_and_fields_are_the_same(bytes: [u8; LEN]) {
        prop_assert_eq!(VnetHeader::from_bytes(&bytes).to_bytes(), bytes);
    }

    /// Whatever header and frame come, nothing panics, and what is said fits the frame.
    #[test]
    fn no_header_does_harm(bytes: [u8; LEN], frame in proptest::collection::vec(any::<u8>(), 0..200), more in 0usize..70_000) {
        let len = frame.len() + more;
        let meaning = received(VnetHeader::from_bytes(&bytes), &frame, len);
        prop_assert_eq!(meaning.gso_size == 0, meaning.gso_segs == 0);
        prop_assert!(usize::from(meaning.gso_size) < len.max(1));
        if let Some(open) = meaning.fill {
            fill(open, &mut frame.clone(), &[1, 2, 3]);
        }
    }

    /// What a transmitted frame says is understood by a receiver as it was meant.
    #[test]
    fn transmit_and_receive_agree(payload in 1usize..60_000, mss in 500u16..1_500) {
        let (frame, len) = (tcp_frame(0), 66 + payload);
        let header = for_transmit(IpSummed::Partial, mss, 34, &frame, len).expect("a TCP frame");
        let meaning = received(VnetHeader::from_bytes(&header.to_bytes()), &frame, len);
        prop_assert_eq!(meaning.csum, IpSummed::Partial);
        let segments = payload.div_ceil(usize::from(mss));
        prop_assert_eq!(usize::from(meaning.gso_segs), if segments > 1 { segments } else { 0 });
    }

    /// No frame makes transmission panic.
    #[test]
    fn no_frame_does_harm(frame in proptest::collection::vec(any::<u8>(), 0..100), start in 0usize..200, gso: u16) {
        if let Some(header) = for_transmit(IpSummed::Partial, gso, start, &frame, frame.len()) {
            prop_assert!(usize::from(header.csum_start + header.csum_offset) + 2 <= frame.len());
        }
    }
}
