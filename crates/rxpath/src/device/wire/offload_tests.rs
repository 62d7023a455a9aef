use std::net::Ipv4Addr;

use proptest::prelude::*;
use rxpath_wire::{EthernetRepr, Ipv4Repr, MacAddr, SeqNum, TcpOptions, TcpRepr, ethernet};

use super::*;

const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A TCP frame whose checksum is open, behind a VLAN tag if asked for.
fn open_frame(vlan: bool, timestamps: bool, seq: u32, id: u16, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    let options = TcpOptions { timestamps: timestamps.then_some((7, 8)), ..TcpOptions::default() };
    let repr = TcpRepr { sport: 80, dport: 5_000, seq: SeqNum(seq), flags, window: 99, options, ..TcpRepr::default() };
    let tcp_len = repr.header_len() + payload.len();
    let total_len = (Ipv4Header::LEN + tcp_len) as u16;
    let mut frame = vec![0; EthernetHeader::LEN];
    let ethertype = if vlan { EtherType::VLAN } else { EtherType::IPV4 };
    ethernet::emit(&mut frame, EthernetRepr { dst: MacAddr::BROADCAST, src: MacAddr([2; 6]), ethertype });
    if vlan {
        frame.extend_from_slice(&[0, 5]);
        frame.extend_from_slice(&EtherType::IPV4.to_be_bytes());
    }
    let ip = frame.len();
    frame.resize(ip + Ipv4Header::LEN + repr.header_len(), 0);
    let header = Ipv4Repr { src: SRC, dst: DST, proto: IpProto::TCP, ttl: 64, tos: 0, id, df: true, total_len };
    ipv4::emit(&mut frame[ip..], header);
    tcp::emit(&mut frame[ip + Ipv4Header::LEN..], repr);
    frame.extend_from_slice(payload);
    tcp::fill_pseudo(SRC.into(), DST.into(), &mut frame[ip + Ipv4Header::LEN..], tcp_len);
    frame
}

proptest! {
    #[test]
    fn segments_say_together_what_the_super_frame_said(
        vlan: bool,
        timestamps: bool,
        seq: u32,
        id: u16,
        gso_size in 1u16..3_000,
        payload in prop::collection::vec(any::<u8>(), 1..9_000),
        fin: bool,
    ) {
        let mut flags = TcpFlags::ACK.union(TcpFlags::PSH).union(TcpFlags::CWR);
        if fin {
            flags = flags.union(TcpFlags::FIN);
        }
        let frame = open_frame(vlan, timestamps, seq, id, flags, &payload);
        prop_assert!(!verifies(&frame), "open");
        let (mut scratch, mut seen) = (Vec::new(), Vec::new());
        let mut count = 0u16;
        let last = payload.len().div_ceil(usize::from(gso_size)) as u16 - 1;
        let cut = segment(&frame, gso_size, &mut scratch, |piece| {
            assert!(verifies(piece), "complete");
            let at = layout(piece).expect("a sound frame");
            let (ip, _) = Ipv4Header::parse(&piece[at.ip..]).expect("a header");
            assert!(ipv4::verify(&piece[at.ip..at.transport]));
            assert_eq!(ip.id(), id.wrapping_add(count));
            assert_eq!(at.end, piece.len(), "no padding");
            let (tcp, _) = TcpHeader::parse(&piece[at.transport..]).expect("a header");
            assert_eq!(tcp.seq(), SeqNum(seq) + seen.len() as u32);
            assert_eq!(tcp.flags().fin(), fin && count == last);
            assert_eq!(tcp.flags().psh(), count == last);
            assert_eq!(tcp.flags().contains(TcpFlags::CWR), count == 0);
            assert!(tcp.flags().ack());
            let bytes = &piece[at.transport + tcp.header_len()..];
            assert!(bytes.len() == usize::from(gso_size) || count == last);
            seen.extend_from_slice(bytes);
            count += 1;
        });
        prop_assert!(cut);
        prop_assert_eq!(count, last + 1);
        prop_assert_eq!(seen, payload);
    }

    #[test]
    fn an_open_checksum_is_completed(vlan: bool, payload in prop::collection::vec(any::<u8>(), 0..3_000)) {
        let mut frame = open_frame(vlan, true, 1, 1, TcpFlags::ACK, &payload);
        frame.extend_from_slice(&[0; 5]);
        complete(&mut frame);
        prop_assert!(verifies(&frame), "padding does not count");
        let at = frame.len() - 6;
        frame[at] ^= 1;
        prop_assert!(!verifies(&frame), "a flipped bit is noticed");
    }

    #[test]
    fn any_bytes_are_borne(mut bytes in prop::collection::vec(any::<u8>(), 0..120), ip: bool, gso_size: u16) {
        if ip && bytes.len() > 34 {
            bytes[12..14].copy_from_slice(&EtherType::IPV4.to_be_bytes());
            bytes[14] = 0x40 | bytes[14] & 15;
            bytes[16] = 0;
            bytes[17] &= 127;
            bytes[20] = 0;
            bytes[21] = 0;
            bytes[23] = IpProto::TCP;
        }
        let before = bytes.len();
        verifies(&bytes);
        let mut scratch = Vec::new();
        segment(&bytes, gso_size, &mut scratch, |piece| assert!(piece.len() <= before));
        complete(&mut bytes);
        prop_assert_eq!(bytes.len(), before);
    }
}
