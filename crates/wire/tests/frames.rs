//! What `frame::flow_of` reads off frames, against etherparse and on frames that it cannot build.

use etherparse::{IpNumber, LinkSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, VlanId};
use proptest::collection::vec;
use proptest::prelude::*;
use rxpath_wire::frame::{flow_of, flow_of_ipv4, flow_of_ipv6};
use rxpath_wire::*;

/// Flow of a frame as etherparse sees it: addresses, fragment or not, and ports and flags where there is a transport header.
type Oracle = (Addr, Addr, bool, Option<(u8, u16, u16, u8)>);

fn oracle(frame: &[u8]) -> Option<Oracle> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    assert!(matches!(packet.link, Some(LinkSlice::Ethernet2(_))));
    // Etherparse also looks behind MACsec, the tag type of old (0x9100) and a third tag, which Linux does not.
    let tags = packet.link_exts.len();
    let tag_types = frame[12..].as_chunks::<4>().0.iter().map(|tag| u16::from_be_bytes([tag[0], tag[1]]));
    if tags > 2 || !tag_types.take(tags).all(|tag| tag == EtherType::VLAN || tag == EtherType::QINQ) {
        return None;
    }
    let (src, dst, fragment) = match packet.net? {
        // Behind an authentication header in IPv4 we do not look.
        NetSlice::Ipv4(ip) if ip.extensions().auth.is_some() => return None,
        NetSlice::Ipv4(ip) => (
            Addr::from(ip.header().source_addr()),
            Addr::from(ip.header().destination_addr()),
            ip.header().is_fragmenting_payload(),
        ),
        // A payload length of 0 is read as "all there is" by etherparse, as nothing by Linux and us.
        NetSlice::Ipv6(ip) if ip.header().payload_length() == 0 => return None,
        NetSlice::Ipv6(ip) => (
            Addr::from(ip.header().source_addr()),
            Addr::from(ip.header().destination_addr()),
            ip.extensions().is_fragmenting_payload(),
        ),
        NetSlice::Arp(_) => return None,
    };
    let transport = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            Some((IpProto::TCP, tcp.source_port(), tcp.destination_port(), tcp.slice()[13]))
        }
        Some(TransportSlice::Udp(udp)) => Some((IpProto::UDP, udp.source_port(), udp.destination_port(), 0)),
        _ => None,
    };
    Some((src, dst, fragment, transport))
}

fn agrees(frame: &[u8]) -> Result<(), TestCaseError> {
    if let Some((src, dst, fragment, transport)) = oracle(frame) {
        let flow = flow_of(frame);
        prop_assert!(flow.is_some(), "no flow in {frame:02x?}");
        let flow = flow.unwrap();
        prop_assert_eq!((flow.src, flow.dst, flow.is_fragment), (src, dst, fragment));
        if let Some(transport) = transport {
            prop_assert_eq!((flow.proto, flow.sport, flow.dport, flow.tcp_flags), transport);
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Network {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

fn network() -> impl Strategy<Value = Network> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(src, dst)| Network::V4(src, dst)),
        any::<([u8; 16], [u8; 16])>().prop_map(|(src, dst)| Network::V6(src, dst)),
    ]
}

/// A frame with up to two VLAN tags, either family, TCP or UDP.
fn build(
    tags: u8,
    network: Network,
    tcp: bool,
    ports: (u16, u16),
    flags: (bool, bool, bool),
    payload: &[u8],
) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let vlan = |id| VlanId::try_new(id).unwrap();
    let ip = match (tags, network) {
        (0, Network::V4(src, dst)) => ethernet.ipv4(src, dst, 64),
        (0, Network::V6(src, dst)) => ethernet.ipv6(src, dst, 64),
        (1, Network::V4(src, dst)) => ethernet.single_vlan(vlan(5)).ipv4(src, dst, 64),
        (1, Network::V6(src, dst)) => ethernet.single_vlan(vlan(5)).ipv6(src, dst, 64),
        (_, Network::V4(src, dst)) => ethernet.double_vlan(vlan(5), vlan(6)).ipv4(src, dst, 64),
        (_, Network::V6(src, dst)) => ethernet.double_vlan(vlan(5), vlan(6)).ipv6(src, dst, 64),
    };
    let mut frame = Vec::new();
    if tcp {
        let mut segment = ip.tcp(ports.0, ports.1, 1, 2);
        if flags.0 {
            segment = segment.syn();
        }
        if flags.1 {
            segment = segment.ack(9);
        }
        if flags.2 {
            segment = segment.fin();
        }
        segment.write(&mut frame, payload).unwrap();
    } else {
        ip.udp(ports.0, ports.1).write(&mut frame, payload).unwrap();
    }
    frame
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    (0..3u8, network(), any::<bool>(), any::<(u16, u16)>(), any::<(bool, bool, bool)>(), vec(any::<u8>(), 0..40))
        .prop_map(|(tags, network, tcp, ports, flags, payload)| build(tags, network, tcp, ports, flags, &payload))
}

proptest! {
    #[test]
    fn flows_of_built_frames(
        tags in 0..3u8,
        network in network(),
        tcp: bool,
        ports: (u16, u16),
        flags: (bool, bool, bool),
        padding in 0..30usize,
    ) {
        let mut frame = build(tags, network.clone(), tcp, ports, flags, b"data");
        frame.resize(frame.len() + padding, 0);
        let (ethertype, src, dst) = match network {
            Network::V4(src, dst) => (EtherType::IPV4, Addr::from_v4(src), Addr::from_v4(dst)),
            Network::V6(src, dst) => (EtherType::IPV6, Addr(src), Addr(dst)),
        };
        let set = [(flags.0, TcpFlags::SYN), (flags.1, TcpFlags::ACK), (flags.2, TcpFlags::FIN)];
        let tcp_flags = set.iter().filter(|(set, _)| *set).fold(TcpFlags::NONE, |all, (_, flag)| all | *flag);
        let expected = FlowKeyParts {
            ethertype,
            src,
            dst,
            proto: if tcp { IpProto::TCP } else { IpProto::UDP },
            sport: ports.0,
            dport: ports.1,
            is_fragment: false,
            tcp_flags: if tcp { tcp_flags.0 } else { 0 },
        };
        prop_assert_eq!(flow_of(&frame), Some(expected));
        let network = 14 + 4 * usize::from(tags);
        let direct = if ethertype == EtherType::IPV4 { flow_of_ipv4(&frame[network..]) } else { flow_of_ipv6(&frame[network..]) };
        prop_assert_eq!(direct, Some(expected));
        agrees(&frame)?;
    }

    /// Cut anywhere, a frame gives its addresses or nothing, and never other ports.
    #[test]
    fn cut_frames(frame in frame(), at: prop::sample::Index) {
        let whole = flow_of(&frame).unwrap();
        let cut = &frame[..at.index(frame.len())];
        if let Some(flow) = flow_of(cut) {
            prop_assert_eq!((flow.src, flow.dst, flow.proto), (whole.src, whole.dst, whole.proto));
            prop_assert!((flow.sport, flow.dport) == (whole.sport, whole.dport) || (flow.sport, flow.dport) == (0, 0));
            prop_assert!(flow.tcp_flags == whole.tcp_flags || flow.tcp_flags == 0);
        }
    }

    #[test]
    fn damaged_frames(frame in frame(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let mut frame = frame;
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        agrees(&frame)?;
    }

    #[test]
    fn any_bytes_are_a_frame_or_none(bytes in vec(any::<u8>(), 0..200), ethertype in 0..4usize) {
        let mut bytes = bytes;
        if bytes.len() >= 15 {
            let (kind, first): ([u8; 2], u8) = [([8, 0], 0x45), ([0x86, 0xdd], 0x60), ([0x81, 0], 0), ([8, 6], 0)][ethertype];
            bytes[12..14].copy_from_slice(&kind);
            if first != 0 {
                bytes[14] = first | bytes[14] & 0xf;
            }
        }
        if let Some(flow) = flow_of(&bytes) {
            prop_assert_eq!(flow.ethertype == EtherType::IPV4, flow.src.is_v4() && flow.dst.is_v4());
        }
        agrees(&bytes)?;
    }
}

fn v4_frame() -> Vec<u8> {
    build(0, Network::V4([10, 0, 0, 1], [10, 0, 0, 2]), true, (1000, 80), (true, false, false), b"data")
}

#[test]
fn ipv4_fragments() {
    let mut first = v4_frame();
    first[20..22].copy_from_slice(&0x2000u16.to_be_bytes());
    let flow = flow_of(&first).unwrap();
    assert!(flow.is_fragment);
    assert_eq!((flow.sport, flow.dport, flow.tcp_flags), (1000, 80, TcpFlags::SYN.0));
    for word in [0x2001u16, 0x0001, 0x1fff] {
        let mut later = v4_frame();
        later[20..22].copy_from_slice(&word.to_be_bytes());
        let flow = flow_of(&later).unwrap();
        assert!(flow.is_fragment, "{word:#x}");
        assert_eq!((flow.proto, flow.sport, flow.dport, flow.tcp_flags), (IpProto::TCP, 0, 0, 0), "{word:#x}");
    }
    let mut whole = v4_frame();
    whole[20..22].copy_from_slice(&0xc000u16.to_be_bytes());
    assert!(!flow_of(&whole).unwrap().is_fragment, "neither DF nor the reserved bit makes a fragment");
}

#[test]
fn ports_are_read_within_the_packets_own_length() {
    // 60 bytes on the wire, of which the IP packet is a header and 2 bytes: the rest is padding.
    let mut frame = v4_frame();
    frame[16..18].copy_from_slice(&22u16.to_be_bytes());
    let flow = flow_of(&frame).unwrap();
    assert_eq!((flow.sport, flow.dport, flow.tcp_flags), (0, 0, 0));
    // Ports but not a whole TCP header.
    frame[16..18].copy_from_slice(&39u16.to_be_bytes());
    let flow = flow_of(&frame).unwrap();
    assert_eq!((flow.sport, flow.dport, flow.tcp_flags), (1000, 80, 0));
    // A total length below the header's.
    frame[16..18].copy_from_slice(&3u16.to_be_bytes());
    assert_eq!(flow_of(&frame).unwrap().sport, 0);
}

#[test]
fn headers_that_make_no_sense_give_nothing() {
    for first in [0x00, 0x35, 0x44, 0x55, 0x65] {
        let mut frame = v4_frame();
        frame[14] = first;
        assert_eq!(flow_of(&frame), None, "{first:#x}");
    }
    let mut arp = v4_frame();
    arp[12..14].copy_from_slice(&EtherType::ARP.to_be_bytes());
    assert_eq!(flow_of(&arp), None);
    assert_eq!(flow_of(&[]), None);
    // Three tags are one more than is looked behind.
    let mut tagged = v4_frame()[..12].to_vec();
    for _ in 0..3 {
        tagged.extend([0x81, 0, 0, 5]);
    }
    tagged.extend(&v4_frame()[12..]);
    assert_eq!(flow_of(&tagged), None);
    assert!(flow_of(&[&tagged[..12], &tagged[16..]].concat()).is_some());
}

#[test]
fn ipv4_options_are_skipped() {
    let mut frame = v4_frame();
    frame[14] = 0x47;
    let total = (frame.len() - 14 + 8) as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame.splice(34..34, [1; 8]);
    let flow = flow_of(&frame).unwrap();
    assert_eq!((flow.sport, flow.dport), (1000, 80));
}

#[test]
fn other_protocols_have_no_ports() {
    let mut frame = v4_frame();
    for proto in [IpProto::ICMP, IpProto::IGMP, 50, 132] {
        frame[23] = proto;
        let flow = flow_of(&frame).unwrap();
        assert_eq!((flow.proto, flow.sport, flow.dport, flow.tcp_flags), (proto, 0, 0, 0));
    }
    frame[23] = IpProto::UDPLITE;
    let flow = flow_of(&frame).unwrap();
    assert_eq!((flow.sport, flow.dport, flow.tcp_flags), (1000, 80, 0));
}

/// An IPv6 frame with a chain of extension headers, given by next header and bytes, in front of a TCP header.
fn v6_frame(chain: &[(u8, &[u8])]) -> Vec<u8> {
    let mut segment = vec![0; 20];
    tcp::emit(&mut segment, TcpRepr { sport: 1000, dport: 80, flags: TcpFlags::SYN, ..TcpRepr::default() });
    let mut behind = Vec::new();
    for (at, (_, extension)) in chain.iter().enumerate() {
        let next = chain.get(at + 1).map_or(IpProto::TCP, |(kind, _)| *kind);
        behind.push(next);
        behind.extend(&extension[1..]);
    }
    behind.extend(segment);
    let mut frame = vec![0; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((behind.len() as u16).to_be_bytes());
    frame.extend([chain.first().map_or(IpProto::TCP, |(kind, _)| *kind), 64]);
    frame.extend([0x20; 16]);
    frame.extend([0x21; 16]);
    frame.extend(behind);
    frame
}

#[test]
fn ipv6_extension_headers_are_walked() {
    const OPTIONS: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
    const LONG: &[u8] = &[0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const AUTH: &[u8] = &[0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    const ATOMIC: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 7];
    const FIRST: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 7];
    const LATER: &[u8] = &[0, 0, 0, 8, 0, 0, 0, 7];
    let flow = |chain: &[(u8, &[u8])]| {
        let frame = v6_frame(chain);
        agrees(&frame).unwrap();
        let flow = flow_of(&frame).unwrap();
        (flow.proto, flow.sport, flow.is_fragment)
    };
    assert_eq!(flow(&[]), (IpProto::TCP, 1000, false));
    assert_eq!(flow(&[(0, OPTIONS), (60, LONG), (43, OPTIONS)]), (IpProto::TCP, 1000, false));
    assert_eq!(flow(&[(51, AUTH)]), (IpProto::TCP, 1000, false));
    assert_eq!(flow(&[(44, ATOMIC)]), (IpProto::TCP, 1000, false), "an atomic fragment is whole");
    assert_eq!(flow(&[(44, FIRST)]), (IpProto::TCP, 1000, true));
    assert_eq!(flow(&[(44, LATER)]), (IpProto::TCP, 0, true));
    // A chain longer than is followed has addresses and no ports.
    let long = [(60, OPTIONS); 9];
    assert_eq!(flow_of(&v6_frame(&long)).unwrap().sport, 0);
    assert_eq!(flow_of(&v6_frame(&long[..7])).unwrap().sport, 1000);
    // A header that claims more than there is.
    let mut cut = v6_frame(&[(60, OPTIONS)]);
    cut[55] = 200;
    let flow = flow_of(&cut).unwrap();
    assert_eq!((flow.proto, flow.sport), (60, 0));
}

#[test]
fn protocol_numbers_are_the_registered_ones() {
    assert_eq!(IpProto::TCP, IpNumber::TCP.0);
    assert_eq!(IpProto::UDP, IpNumber::UDP.0);
    assert_eq!(IpProto::ICMP, IpNumber::ICMP.0);
    assert_eq!(IpProto::IGMP, IpNumber::IGMP.0);
    assert_eq!(IpProto::ICMPV6, IpNumber::IPV6_ICMP.0);
    assert_eq!(IpProto::UDPLITE, IpNumber::UDP_LITE.0);
    assert_eq!(EtherType::IPV4, etherparse::EtherType::IPV4.0);
    assert_eq!(EtherType::IPV6, etherparse::EtherType::IPV6.0);
    assert_eq!(EtherType::ARP, etherparse::EtherType::ARP.0);
    assert_eq!(EtherType::VLAN, etherparse::EtherType::VLAN_TAGGED_FRAME.0);
    assert_eq!(EtherType::QINQ, etherparse::EtherType::PROVIDER_BRIDGING.0);
}
