//! Views, emission and checksums against etherparse, an independent decoder.

use etherparse::{
    ArpHardwareId, ArpPacketSlice, Ethernet2HeaderSlice, Icmpv4Slice, Ipv4HeaderSlice, Ipv4Slice, NetSlice,
    PacketBuilder, SlicedPacket, TcpHeaderSlice, TcpOptionElement, TcpSlice, TransportSlice, UdpHeaderSlice,
};
use proptest::collection::vec;
use proptest::prelude::*;
use rxpath_arch::csum;
use rxpath_wire::*;
use std::net::Ipv4Addr;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..100)
}

/// Bytes of which the first is likely to open an IPv4 header.
fn ipv4_bytes() -> impl Strategy<Value = Vec<u8>> {
    (0x40..0x50u8, bytes(), any::<bool>()).prop_map(|(first, mut bytes, fit)| {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        if fit && bytes.len() >= 4 {
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
        }
        bytes
    })
}

fn tcp_repr() -> impl Strategy<Value = TcpRepr> {
    let options = (any::<Option<u16>>(), prop::option::of(0..=14u8), any::<Option<(u32, u32)>>(), any::<bool>());
    let blocks = vec(any::<(u32, u32)>(), 0..=2);
    (any::<(u16, u16, u32, u32, u8, u16, u16)>(), options, blocks).prop_map(|(fields, options, blocks)| {
        let (sport, dport, seq, ack, flags, window, urgent) = fields;
        let (mss, wscale, timestamps, sack_permitted) = options;
        let mut options = TcpOptions { mss, wscale, timestamps, sack_permitted, ..TcpOptions::default() };
        options.set_sack(blocks.into_iter().map(|(left, right)| (SeqNum(left), SeqNum(right))));
        let (seq, ack, flags) = (SeqNum(seq), SeqNum(ack), TcpFlags(flags));
        TcpRepr { sport, dport, seq, ack, flags, window, urgent, options }
    })
}

proptest! {
    #[test]
    fn ethernet_view(bytes in bytes()) {
        let ours = EthernetHeader::parse(&bytes);
        match Ethernet2HeaderSlice::from_slice(&bytes) {
            Err(_) => prop_assert!(ours.is_none()),
            Ok(theirs) => {
                let (header, rest) = ours.unwrap();
                prop_assert_eq!(header.dst().0, theirs.destination());
                prop_assert_eq!(header.src().0, theirs.source());
                prop_assert_eq!(header.ethertype(), theirs.ether_type().0);
                prop_assert_eq!(rest, &bytes[14..]);
                let mut emitted = [0; 14];
                let repr = EthernetRepr { dst: header.dst(), src: header.src(), ethertype: header.ethertype() };
                prop_assert_eq!(ethernet::emit(&mut emitted, repr), 14);
                prop_assert_eq!(&emitted[..], &bytes[..14]);
            }
        }
    }

    #[test]
    fn arp_view(bytes in bytes()) {
        let mut bytes = bytes;
        if bytes.len() > 5 {
            (bytes[4], bytes[5]) = (6, 4);
        }
        let ours = ArpPacket::parse(&bytes);
        match ArpPacketSlice::from_slice(&bytes) {
            Err(_) => prop_assert!(ours.is_none()),
            Ok(theirs) => {
                let (packet, rest) = ours.unwrap();
                prop_assert_eq!(packet.hardware(), theirs.hw_addr_type().0);
                prop_assert_eq!(packet.protocol(), theirs.proto_addr_type().0);
                prop_assert_eq!((packet.hardware_len(), packet.protocol_len()), (6, 4));
                prop_assert_eq!(packet.operation(), theirs.operation().0);
                prop_assert_eq!(&packet.sender_mac().0[..], theirs.sender_hw_addr());
                prop_assert_eq!(&packet.sender_ip().octets()[..], theirs.sender_protocol_addr());
                prop_assert_eq!(&packet.target_mac().0[..], theirs.target_hw_addr());
                prop_assert_eq!(&packet.target_ip().octets()[..], theirs.target_protocol_addr());
                prop_assert_eq!(rest, &bytes[28..]);
            }
        }
    }

    #[test]
    fn emitted_arp(operation: u16, macs: ([u8; 6], [u8; 6]), ips: (Ipv4Addr, Ipv4Addr)) {
        let repr = ArpRepr {
            operation,
            sender_mac: MacAddr(macs.0),
            sender_ip: ips.0,
            target_mac: MacAddr(macs.1),
            target_ip: ips.1,
        };
        let mut buf = [0xee; 40];
        prop_assert_eq!(arp::emit(&mut buf, repr), 28);
        let theirs = ArpPacketSlice::from_slice(&buf[..28]).unwrap().to_packet().try_eth_ipv4().unwrap();
        prop_assert_eq!(theirs.operation.0, operation);
        prop_assert_eq!((theirs.sender_mac, theirs.target_mac), macs);
        prop_assert_eq!((theirs.sender_ipv4_addr(), theirs.target_ipv4_addr()), ips);
        prop_assert!(ArpPacket::parse(&buf).unwrap().0.is_ipv4_over_ethernet());
        prop_assert!(buf[28..].iter().all(|&byte| byte == 0xee));
    }

    #[test]
    fn ipv4_view(bytes in ipv4_bytes()) {
        let Ok(theirs) = Ipv4HeaderSlice::from_slice(&bytes) else {
            // What etherparse refuses is too short, or its header length says so.
            let short = Ipv4Header::parse(&bytes).is_none_or(|(header, _)| header.ihl() < 5 || header.header_len() > bytes.len());
            prop_assert!(short);
            prop_assert!(Ipv4Header::split(&bytes).is_none());
            return Ok(());
        };
        let (header, rest) = Ipv4Header::parse(&bytes).unwrap();
        prop_assert_eq!(header.version(), theirs.version());
        prop_assert_eq!(header.ihl(), theirs.ihl());
        prop_assert_eq!(header.version_ihl(), bytes[0]);
        prop_assert_eq!(header.header_len(), theirs.slice().len());
        prop_assert_eq!(header.tos() >> 2, theirs.dcp().value());
        prop_assert_eq!(header.ecn(), theirs.ecn().value());
        prop_assert_eq!(header.total_len(), theirs.total_len());
        prop_assert_eq!(header.id(), theirs.identification());
        prop_assert_eq!(header.dont_fragment(), theirs.dont_fragment());
        prop_assert_eq!(header.more_fragments(), theirs.more_fragments());
        prop_assert_eq!(header.fragment_offset(), theirs.fragments_offset().value() * 8);
        prop_assert_eq!(header.is_fragment(), theirs.is_fragmenting_payload());
        prop_assert_eq!(header.ttl(), theirs.ttl());
        prop_assert_eq!(header.protocol(), theirs.protocol().0);
        prop_assert_eq!(header.checksum(), theirs.header_checksum());
        prop_assert_eq!(header.src(), theirs.source_addr());
        prop_assert_eq!(header.dst(), theirs.destination_addr());
        prop_assert_eq!((header.src_addr().v4(), header.dst_addr().v4()), (Some(header.src()), Some(header.dst())));
        prop_assert_eq!(header.sum(), csum::sum(&bytes[..20]));
        prop_assert_eq!(rest, &bytes[20..]);

        // Etherparse knows no reserved bit and leaves it out of its sum.
        let reserved = header.fragment_word() & 0x8000;
        let right = !csum::sum_add(!theirs.to_header().calc_header_checksum(), reserved);
        prop_assert_eq!(ipv4::verify(theirs.slice()), header.checksum() == right);
        let mut filled = theirs.slice().to_vec();
        ipv4::fill_checksum(&mut filled);
        prop_assert!(ipv4::verify(&filled));
        prop_assert_eq!(Ipv4Header::parse(&filled).unwrap().0.checksum(), right);

        let fits = (theirs.slice().len()..=bytes.len()).contains(&usize::from(header.total_len()));
        match Ipv4Header::split(&bytes) {
            None => prop_assert!(!fits),
            Some((again, options, payload)) => {
                prop_assert!(fits);
                prop_assert_eq!(again, header);
                prop_assert_eq!(options, theirs.options());
                prop_assert_eq!(payload, &bytes[header.header_len()..usize::from(header.total_len())]);
                // Etherparse looks behind authentication headers, where a payload does not begin for us.
                if let Ok(packet) = Ipv4Slice::from_slice(&bytes) && packet.extensions().auth.is_none() {
                    prop_assert_eq!(payload, packet.payload().payload);
                }
            }
        }
    }

    #[test]
    fn ipv4_setters_write_what_getters_read(bytes in vec(any::<u8>(), 20..24), fields: (u16, u8, u16, u16, u8, u16), addrs: (Ipv4Addr, Ipv4Addr)) {
        let mut bytes = bytes;
        let (total_len, tos, id, fragment, ttl, checksum) = fields;
        let before = bytes.clone();
        let (header, rest) = Ipv4Header::parse_mut(&mut bytes).unwrap();
        prop_assert_eq!(&*rest, &before[20..]);
        header.set_total_len(total_len);
        header.set_tos(tos);
        header.set_id(id);
        header.set_fragment_word(fragment);
        header.set_ttl(ttl);
        header.set_checksum(checksum);
        header.set_src(addrs.0);
        header.set_dst(addrs.1);
        let header = *header;
        prop_assert_eq!((header.total_len(), header.tos(), header.id()), (total_len, tos, id));
        prop_assert_eq!((header.fragment_word(), header.ttl(), header.checksum()), (fragment, ttl, checksum));
        prop_assert_eq!((header.src(), header.dst()), addrs);
        prop_assert_eq!((bytes[0], bytes[9], &bytes[20..]), (before[0], before[9], &before[20..]));
    }

    #[test]
    fn tcp_view(bytes in bytes()) {
        let Ok(theirs) = TcpHeaderSlice::from_slice(&bytes) else {
            prop_assert!(TcpHeader::split(&bytes).is_none());
            prop_assert_eq!(TcpHeader::parse(&bytes).is_none(), bytes.len() < 20);
            return Ok(());
        };
        let (header, options, payload) = TcpHeader::split(&bytes).unwrap();
        prop_assert_eq!(TcpHeader::parse(&bytes), Some((header, &bytes[20..])));
        prop_assert_eq!(header.src_port(), theirs.source_port());
        prop_assert_eq!(header.dst_port(), theirs.destination_port());
        prop_assert_eq!(header.seq().0, theirs.sequence_number());
        prop_assert_eq!(header.ack().0, theirs.acknowledgment_number());
        prop_assert_eq!(header.doff(), theirs.data_offset());
        prop_assert_eq!(header.header_len(), theirs.slice().len());
        let flags = header.flags();
        prop_assert_eq!(
            (flags.fin(), flags.syn(), flags.rst(), flags.psh()),
            (theirs.fin(), theirs.syn(), theirs.rst(), theirs.psh())
        );
        prop_assert_eq!((flags.ack(), flags.urg()), (theirs.ack(), theirs.urg()));
        prop_assert_eq!(flags.contains(TcpFlags::ECE), theirs.ece());
        prop_assert_eq!(flags.contains(TcpFlags::CWR), theirs.cwr());
        prop_assert_eq!(header.window(), theirs.window_size());
        prop_assert_eq!(header.checksum(), theirs.checksum());
        prop_assert_eq!(header.urgent(), theirs.urgent_pointer());
        prop_assert_eq!(header.flag_word(), u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]));
        prop_assert_eq!(options, theirs.options());
        prop_assert_eq!(payload, &bytes[header.header_len()..]);
    }

    #[test]
    fn tcp_setters_write_what_getters_read(bytes in vec(any::<u8>(), 20), fields: (u32, u16, u16, u16, u16, u8)) {
        let mut bytes = bytes;
        let (ack, window, checksum, sport, dport, flags) = fields;
        let before = *TcpHeader::parse(&bytes).unwrap().0;
        let header = TcpHeader::parse_mut(&mut bytes).unwrap().0;
        header.set_ack(SeqNum(ack));
        header.set_window(window);
        header.set_checksum(checksum);
        header.set_src_port(sport);
        header.set_dst_port(dport);
        header.add_flags(TcpFlags(flags));
        prop_assert_eq!((header.ack(), header.window(), header.checksum()), (SeqNum(ack), window, checksum));
        prop_assert_eq!((header.src_port(), header.dst_port()), (sport, dport));
        prop_assert_eq!(header.flags(), before.flags() | TcpFlags(flags));
        prop_assert_eq!((header.seq(), header.doff(), header.urgent()), (before.seq(), before.doff(), before.urgent()));
    }

    #[test]
    fn udp_and_icmp_views(bytes in bytes()) {
        let ours = UdpHeader::parse(&bytes);
        match UdpHeaderSlice::from_slice(&bytes) {
            Err(_) => prop_assert!(ours.is_none()),
            Ok(theirs) => {
                let (header, rest) = ours.unwrap();
                prop_assert_eq!((header.src_port(), header.dst_port()), (theirs.source_port(), theirs.destination_port()));
                prop_assert_eq!((header.length(), header.checksum()), (theirs.length(), theirs.checksum()));
                prop_assert_eq!(rest, &bytes[8..]);
            }
        }
        let icmp = IcmpHeader::parse(&bytes);
        prop_assert_eq!(icmp.is_none(), bytes.len() < 8);
        if let (Some((header, rest)), Ok(theirs)) = (icmp, Icmpv4Slice::from_slice(&bytes)) {
            prop_assert_eq!((header.kind(), header.code()), (theirs.type_u8(), theirs.code_u8()));
            prop_assert_eq!(header.checksum(), theirs.checksum());
            prop_assert_eq!(header.rest().to_be_bytes(), theirs.bytes5to8());
            prop_assert_eq!(u32::from(header.echo_id()) << 16 | u32::from(header.echo_seq()), header.rest());
            prop_assert_eq!(header.next_hop_mtu(), header.echo_seq());
            prop_assert_eq!(rest, &bytes[8..]);
        }
    }

    /// A whole frame as the stack emits it, taken apart by etherparse, its checksums computed by etherparse.
    #[test]
    fn emitted_tcp_frame(
        repr in tcp_repr(),
        addrs: (Ipv4Addr, Ipv4Addr),
        ip: (u8, u8, u16, bool),
        macs: ([u8; 6], [u8; 6]),
        payload in vec(any::<u8>(), 0..1500),
    ) {
        let (ttl, tos, id, df) = ip;
        let tcp_len = repr.header_len();
        let total_len = (20 + tcp_len + payload.len()) as u16;
        let mut frame = vec![0xee; 14 + usize::from(total_len)];
        let (dst, src) = (MacAddr(macs.0), MacAddr(macs.1));
        prop_assert_eq!(ethernet::emit(&mut frame, EthernetRepr { dst, src, ethertype: EtherType::IPV4 }), 14);
        let ip = Ipv4Repr { src: addrs.0, dst: addrs.1, proto: IpProto::TCP, ttl, tos, id, df, total_len };
        prop_assert_eq!(ipv4::emit(&mut frame[14..], ip), 20);
        prop_assert_eq!(tcp::emit(&mut frame[34..], repr), tcp_len);
        frame[34 + tcp_len..].copy_from_slice(&payload);
        let (src, dst) = (Addr::from(addrs.0), Addr::from(addrs.1));
        tcp::fill_checksum(src, dst, &mut frame[34..]);
        prop_assert!(tcp::verify(src, dst, &frame[34..]));

        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv4(network)) = &packet.net else { panic!("not IPv4") };
        let header = network.header();
        prop_assert_eq!((header.source_addr(), header.destination_addr()), addrs);
        prop_assert_eq!((header.ttl(), header.identification(), header.dont_fragment()), (ttl, id, df));
        prop_assert_eq!(header.dcp().value() << 2 | header.ecn().value(), tos);
        prop_assert_eq!(header.total_len(), total_len);
        prop_assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
        let Some(TransportSlice::Tcp(segment)) = &packet.transport else { panic!("not TCP") };
        check_segment(segment, &repr)?;
        prop_assert_eq!(segment.payload(), &payload[..]);
        let checksum = segment.to_header().calc_checksum_ipv4_raw(addrs.0.octets(), addrs.1.octets(), &payload).unwrap();
        prop_assert_eq!(segment.checksum(), checksum);

        // The other ways to the same bytes: half first, then the rest; and from the payload's sum.
        let mut halves = frame[34..].to_vec();
        let len = halves.len();
        tcp::fill_pseudo(src, dst, &mut halves, len);
        prop_assert_eq!(TcpHeader::parse(&halves).unwrap().0.checksum(), pseudo_sum(src, dst, IpProto::TCP, len));
        tcp::complete(&mut halves);
        prop_assert_eq!(&halves[..], &frame[34..]);
        let mut summed = vec![0xee; tcp_len];
        let sum = csum::sum(&payload);
        prop_assert_eq!(tcp::emit_summed(&mut summed, repr, src, dst, payload.len(), sum), tcp_len);
        prop_assert_eq!(&summed[..], &frame[34..34 + tcp_len]);

        // And what we read back is what we wrote.
        let (_, options, _) = TcpHeader::split(&frame[34..]).unwrap();
        prop_assert_eq!(TcpOptions::parse(options), repr.options);
    }

    /// Segments over IPv6 have only the pseudo-header different.
    #[test]
    fn tcp_checksum_over_ipv6(repr in tcp_repr(), addrs: ([u8; 16], [u8; 16]), payload in vec(any::<u8>(), 0..200)) {
        let (src, dst) = (Addr(addrs.0), Addr(addrs.1));
        let mut segment = vec![0; repr.header_len()];
        tcp::emit_summed(&mut segment, repr, src, dst, payload.len(), csum::sum(&payload));
        segment.extend(&payload);
        let theirs = TcpSlice::from_slice(&segment).unwrap();
        let checksum = theirs.to_header().calc_checksum_ipv6_raw(addrs.0, addrs.1, &payload).unwrap();
        prop_assert_eq!(theirs.checksum(), checksum);
        prop_assert!(tcp::verify(src, dst, &segment));
    }

    /// One flipped bit anywhere is noticed.
    #[test]
    fn checksums_notice_a_flipped_bit(payload in vec(any::<u8>(), 1..300), at: prop::sample::Index, bit in 0..8u32) {
        let (src, dst) = (Addr::from_v4([192, 0, 2, 1]), Addr::from_v4([192, 0, 2, 2]));
        let mut segment = vec![0; 20];
        tcp::emit(&mut segment, TcpRepr::default());
        segment.extend(&payload);
        tcp::fill_checksum(src, dst, &mut segment);
        prop_assert!(tcp::verify(src, dst, &segment));
        let at = at.index(segment.len());
        segment[at] ^= 1u8 << bit;
        prop_assert!(!tcp::verify(src, dst, &segment));
    }

    #[test]
    fn emitted_udp(ports: (u16, u16), addrs: (Ipv4Addr, Ipv4Addr), payload in vec(any::<u8>(), 0..200)) {
        let len = (8 + payload.len()) as u16;
        let mut datagram = vec![0xee; 8];
        prop_assert_eq!(udp::emit(&mut datagram, UdpRepr { sport: ports.0, dport: ports.1, len }), 8);
        datagram.extend(&payload);
        let (src, dst) = (Addr::from(addrs.0), Addr::from(addrs.1));
        prop_assert!(udp::verify(src, dst, &datagram), "no checksum is a right one over IPv4");
        prop_assert!(!udp::verify(Addr::UNSPECIFIED_V6, Addr::UNSPECIFIED_V6, &datagram), "and none over IPv6");
        udp::fill_checksum(src, dst, &mut datagram);
        prop_assert!(udp::verify(src, dst, &datagram));
        let theirs = UdpHeaderSlice::from_slice(&datagram).unwrap();
        prop_assert_eq!((theirs.source_port(), theirs.destination_port(), theirs.length()), (ports.0, ports.1, len));
        let checksum = theirs.to_header().calc_checksum_ipv4_raw(addrs.0.octets(), addrs.1.octets(), &payload).unwrap();
        prop_assert_eq!(theirs.checksum(), checksum);
    }

    #[test]
    fn emitted_icmp(kind: u8, code: u8, rest: u32, payload in vec(any::<u8>(), 0..200)) {
        let mut message = vec![0xee; 8];
        prop_assert_eq!(icmp::emit(&mut message, IcmpRepr { kind, code, rest }), 8);
        message.extend(&payload);
        icmp::fill_checksum(&mut message);
        prop_assert!(icmp::verify(&message));
        let header = IcmpHeader::parse(&message).unwrap().0;
        prop_assert_eq!((header.kind(), header.code(), header.rest()), (kind, code, rest));
        if let Ok(theirs) = Icmpv4Slice::from_slice(&message) {
            prop_assert_eq!((theirs.type_u8(), theirs.code_u8(), theirs.bytes5to8()), (kind, code, rest.to_be_bytes()));
        }
    }

    /// A pseudo-header written out and summed as bytes.
    #[test]
    fn pseudo_header_sum(v4: ([u8; 4], [u8; 4]), v6: ([u8; 16], [u8; 16]), proto: u8, len in 0..200_000usize) {
        let tail = u32::from(proto).to_be_bytes();
        let long = (len as u32).to_be_bytes();
        let bytes = [&v4.0[..], &v4.1, &tail, &long].concat();
        let (src, dst) = (Addr::from_v4(v4.0), Addr::from_v4(v4.1));
        // The mapped prefix is the other zero of ones' complement, so where all else is zero the zeros may differ.
        prop_assert_eq!(pseudo_sum(src, dst, proto, len) % 0xffff, csum::sum(&bytes) % 0xffff);
        let mut packet = [0; 20];
        let repr = Ipv4Repr { src: v4.0.into(), dst: v4.1.into(), proto, ttl: 1, tos: 0, id: 0, df: false, total_len: 20 };
        ipv4::emit(&mut packet, repr);
        let header = Ipv4Header::parse(&packet).unwrap().0;
        prop_assert_eq!(header.pseudo_sum(len), csum::sum(&bytes));
        let bytes = [&v6.0[..], &v6.1, &tail, &long].concat();
        prop_assert_eq!(pseudo_sum(Addr(v6.0), Addr(v6.1), proto, len), csum::sum(&bytes));
    }
}

fn check_segment(segment: &TcpSlice, repr: &TcpRepr) -> Result<(), TestCaseError> {
    prop_assert_eq!((segment.source_port(), segment.destination_port()), (repr.sport, repr.dport));
    prop_assert_eq!((segment.sequence_number(), segment.acknowledgment_number()), (repr.seq.0, repr.ack.0));
    prop_assert_eq!(segment.slice()[13], repr.flags.0);
    prop_assert_eq!((segment.window_size(), segment.urgent_pointer()), (repr.window, repr.urgent));
    let mut expected = Vec::new();
    if let Some(mss) = repr.options.mss {
        expected.push(TcpOptionElement::MaximumSegmentSize(mss));
    }
    if repr.options.sack_permitted {
        expected.push(TcpOptionElement::SelectiveAcknowledgementPermitted);
    }
    if let Some((tsval, tsecr)) = repr.options.timestamps {
        expected.push(TcpOptionElement::Timestamp(tsval, tsecr));
    }
    if let Some(shift) = repr.options.wscale {
        expected.push(TcpOptionElement::WindowScale(shift));
    }
    if let [first, others @ ..] = repr.options.sack_blocks() {
        let mut more = [None; 3];
        for (slot, block) in more.iter_mut().zip(others) {
            *slot = Some((block.0.0, block.1.0));
        }
        expected.push(TcpOptionElement::SelectiveAcknowledgement((first.0.0, first.1.0), more));
    }
    let read: Vec<_> = segment.options_iterator().map(|option| option.unwrap()).collect();
    let read: Vec<_> = read.into_iter().filter(|option| *option != TcpOptionElement::Noop).collect();
    prop_assert_eq!(read, expected);
    Ok(())
}

#[test]
fn raw_options_are_padded_with_ends() {
    let mut buf = [0xee; 60];
    assert_eq!(tcp::emit_raw(&mut buf, TcpRepr::default(), &[3, 3, 7]), 24);
    let (header, options, _) = TcpHeader::split(&buf[..24]).unwrap();
    assert_eq!((header.doff(), options), (6, &[3, 3, 7, 0][..]));
    assert_eq!(tcp::emit_raw(&mut buf, TcpRepr::default(), &[1; 40]), 60);
    assert_eq!(tcp::emit_raw(&mut buf, TcpRepr::default(), &[]), 20);
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    let (src, dst) = (Addr::UNSPECIFIED_V4, Addr::UNSPECIFIED_V4);
    // Protocol 17 and twice length 10 leave 0xffda for the payload to make up.
    let mut datagram = [0, 0, 0, 0, 0, 10, 0, 0, 0xff, 0xda];
    udp::fill_checksum(src, dst, &mut datagram);
    assert_eq!(&datagram[6..8], &[0xff, 0xff]);
    assert!(udp::verify(src, dst, &datagram));
    assert!(!udp::verify(src, dst, &datagram[..7]));
}

#[test]
fn arp_with_other_types_or_lengths_is_not_ours() {
    let repr = ArpRepr {
        operation: arp::REQUEST,
        sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        sender_ip: [10, 0, 0, 1].into(),
        target_mac: MacAddr::ZERO,
        target_ip: [10, 0, 0, 2].into(),
    };
    let mut buf = [0; 28];
    arp::emit(&mut buf, repr);
    for (at, value, ours) in [(1, 6, true), (1, 2, false), (0, 1, false), (3, 1, false), (4, 8, false), (5, 16, false)]
    {
        let mut other = buf;
        other[at] = value;
        assert_eq!(ArpPacket::parse(&other).unwrap().0.is_ipv4_over_ethernet(), ours, "byte {at} = {value}");
    }
    assert_eq!(ArpHardwareId::ETHERNET.0, arp::HARDWARE_ETHERNET);
}

#[test]
fn a_packet_built_by_etherparse_verifies() {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .tcp(1234, 80, 1000, 4096)
        .ack(77)
        .psh();
    let mut frame = Vec::new();
    builder.write(&mut frame, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let (ip, _, segment) = Ipv4Header::split(&frame[14..]).unwrap();
    assert_eq!(ip.sum(), 0xffff);
    assert!(ipv4::verify(&frame[14..34]));
    assert!(tcp::verify(ip.src_addr(), ip.dst_addr(), segment));
    assert_eq!(ip.pseudo_sum(segment.len()), pseudo_sum(ip.src_addr(), ip.dst_addr(), 6, segment.len()));
    let (header, options, payload) = TcpHeader::split(segment).unwrap();
    assert_eq!(
        (header.flags(), options.len(), payload),
        (TcpFlags::ACK | TcpFlags::PSH, 0, &b"GET / HTTP/1.0\r\n\r\n"[..])
    );
}

#[test]
fn flags_combine_and_print() {
    let flags = TcpFlags::SYN | TcpFlags::ACK;
    assert_eq!(flags.to_string(), "SYN|ACK");
    assert_eq!(format!("{:?}", TcpFlags::NONE), "none");
    assert_eq!(format!("{:>5}", TcpFlags::FIN), "  FIN");
    assert!(flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::SYN | TcpFlags::FIN));
    assert!(flags.intersects(TcpFlags::SYN | TcpFlags::FIN) && !flags.intersects(TcpFlags::RST));
    assert_eq!(flags & !TcpFlags::ACK, TcpFlags::SYN);
    assert_eq!((TcpFlags::SYN | TcpFlags::FIN).seq_len(), 2);
    assert_eq!((TcpFlags::ACK | TcpFlags::PSH).seq_len(), 0);
    let mut grown = TcpFlags::NONE;
    grown |= TcpFlags::URG;
    assert!(grown.urg());
}
