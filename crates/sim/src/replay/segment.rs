//! TCP segments in captured frames: what following a connection needs to read of them, and to change.

use rxpath_arch::csum;
use rxpath_trace::Flow;
use rxpath_wire::frame::flow_of;
use rxpath_wire::{
    Addr, ArpPacket, EtherType, EthernetHeader, IpProto, Ipv4Header, SeqNum, TcpFlags, TcpHeader, TcpOptions, Tuple,
};

const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMPS: u8 = 8;

/// An unfragmented IPv4 TCP segment in an Ethernet frame, its headers whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// The sender is `remote`, the destination `local`.
    pub(super) tuple: Tuple,
    pub(super) seq: SeqNum,
    pub(super) ack: SeqNum,
    pub(super) flags: TcpFlags,
    /// Time stamp and echo.
    pub(super) timestamps: Option<(u32, u32)>,
    pub(super) mss: Option<u16>,
    /// Where the TCP header begins in the frame, and where it ends.
    at: usize,
    payload_at: usize,
    /// Payload bytes, by the packet's own length.
    pub(super) payload: u32,
}

impl Segment {
    /// The segment in a frame; None if there is none.
    pub(super) fn of(frame: &[u8]) -> Option<Segment> {
        let (ethernet, packet) = EthernetHeader::parse(frame)?;
        if ethernet.ethertype() != EtherType::IPV4 {
            return None;
        }
        let (ip, _) = Ipv4Header::parse(packet)?;
        let ip_len = ip.header_len();
        if ip.version() != 4 || ip_len < Ipv4Header::LEN || ip.protocol() != IpProto::TCP || ip.is_fragment() {
            return None;
        }
        let (tcp, options, _) = TcpHeader::split(packet.get(ip_len..)?)?;
        let tcp_len = tcp.header_len();
        let payload = usize::from(ip.total_len()).checked_sub(ip_len + tcp_len)?;
        let options = TcpOptions::parse(options);
        let at = EthernetHeader::LEN + ip_len;
        Some(Segment {
            tuple: Tuple {
                local: ip.dst_addr(),
                remote: ip.src_addr(),
                local_port: tcp.dst_port(),
                remote_port: tcp.src_port(),
            },
            seq: tcp.seq(),
            ack: tcp.ack(),
            flags: tcp.flags(),
            timestamps: options.timestamps,
            mss: options.mss,
            at,
            payload_at: at + tcp_len,
            payload: payload as u32,
        })
    }

    /// The payload, as far as it is in the frame.
    pub(super) fn bytes<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let end = (self.payload_at + self.payload as usize).min(frame.len());
        frame.get(self.payload_at..end).unwrap_or_default()
    }

    /// Moves what the segment says of its receiver's numbers: the acknowledgement to `ack`, SACK blocks as far as that
    /// moved, the echoed time stamp to `echo`. The checksum follows (RFC 1624) if it is one over the whole segment, so
    /// that a wrong one stays wrong.
    pub(super) fn readdress(&self, frame: &mut [u8], ack: SeqNum, echo: Option<u32>, whole_checksum: bool) {
        let Some(header) = frame.get_mut(self.at..self.payload_at) else { return };
        let before = csum::sum(header);
        let moved = ack - self.ack;
        if let Some(word) = header.get_mut(8..12) {
            word.copy_from_slice(&ack.0.to_be_bytes());
        }
        if let Some(options) = header.get_mut(TcpHeader::LEN..) {
            readdress_options(options, moved, echo);
        }
        if whole_checksum && let Some(&[a, b]) = header.get(16..18).and_then(|field| field.first_chunk::<2>()) {
            let sum = csum::sum_add(!u16::from_be_bytes([a, b]), csum::sum_add(!before, csum::sum(header)));
            header[16..18].copy_from_slice(&(!sum).to_be_bytes());
        }
    }
}

fn readdress_options(mut options: &mut [u8], moved: i32, echo: Option<u32>) {
    loop {
        let len = match *options {
            [] | [KIND_END, ..] => return,
            [KIND_NOP, ..] => 1,
            [_, len, ..] if len >= 2 && usize::from(len) <= options.len() => usize::from(len),
            _ => return,
        };
        let (option, rest) = options.split_at_mut(len);
        match (option[0], echo) {
            (KIND_TIMESTAMPS, Some(echo)) if len == 10 => option[6..].copy_from_slice(&echo.to_be_bytes()),
            (KIND_SACK, _) => {
                for word in option[2..].chunks_exact_mut(4) {
                    let edge = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
                    word.copy_from_slice(&edge.wrapping_add_signed(moved).to_be_bytes());
                }
            }
            _ => {}
        }
        options = rest;
    }
}

/// What a filter sees of a frame.
pub(super) fn flow(frame: &[u8]) -> Flow {
    if let Some(parts) = flow_of(frame) {
        return Flow {
            src: parts.src.to_ip(),
            dst: parts.dst.to_ip(),
            proto: parts.proto,
            sport: parts.sport,
            dport: parts.dport,
            tcp_flags: parts.tcp_flags,
            ethertype: parts.ethertype,
        };
    }
    let Some((ethernet, packet)) = EthernetHeader::parse(frame) else { return Flow::default() };
    let ethertype = ethernet.ethertype();
    match ArpPacket::parse(packet).filter(|_| ethertype == EtherType::ARP) {
        Some((arp, _)) => {
            Flow { src: arp.sender_ip().into(), dst: arp.target_ip().into(), ethertype, ..Flow::default() }
        }
        None => Flow { ethertype, ..Flow::default() },
    }
}

/// Who a packet is from and to, if it is IPv4, or who asks for whom, if it is ARP.
pub(super) fn ends(frame: &[u8]) -> Option<(Addr, Addr)> {
    let (ethernet, packet) = EthernetHeader::parse(frame)?;
    match ethernet.ethertype() {
        EtherType::IPV4 => Ipv4Header::parse(packet).map(|(ip, _)| (ip.src_addr(), ip.dst_addr())),
        EtherType::ARP => ArpPacket::parse(packet).map(|(arp, _)| (arp.sender_ip().into(), arp.target_ip().into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rxpath_wire::{TcpRepr, ethernet, ipv4, tcp};

    use super::*;

    /// A segment with time stamps and a SACK block.
    fn frame() -> Vec<u8> {
        let mut options = TcpOptions { timestamps: Some((7, 100)), ..TcpOptions::default() };
        options.set_sack([(SeqNum(5_000), SeqNum(6_000))]);
        let repr = TcpRepr {
            sport: 40_000,
            dport: 80,
            seq: SeqNum(1),
            ack: SeqNum(4_000),
            flags: TcpFlags::ACK,
            window: 100,
            urgent: 0,
            options,
        };
        let (src, dst) = (Addr::from_v4([10, 0, 0, 9]), Addr::from_v4([10, 0, 0, 1]));
        let mut segment = vec![0; repr.header_len()];
        tcp::emit(&mut segment, repr);
        segment.extend_from_slice(b"odd");
        tcp::fill_checksum(src, dst, &mut segment);
        let mut frame = vec![0; 34];
        let dst_mac = rxpath_wire::MacAddr([2, 0, 0, 0, 0, 1]);
        let src_mac = rxpath_wire::MacAddr([2, 0, 0, 0, 0, 9]);
        let repr = rxpath_wire::EthernetRepr { dst: dst_mac, src: src_mac, ethertype: EtherType::IPV4 };
        ethernet::emit(&mut frame, repr);
        let total = (20 + segment.len() as u16).to_be_bytes();
        frame[14..34]
            .copy_from_slice(&[0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1]);
        ipv4::fill_checksum(&mut frame[14..34]);
        frame.extend(segment);
        frame
    }

    #[test]
    fn numbers_move_and_the_checksum_follows() {
        let mut frame = frame();
        let segment = Segment::of(&frame).expect("a segment");
        assert_eq!((segment.payload, segment.bytes(&frame)), (3, &b"odd"[..]));
        segment.readdress(&mut frame, SeqNum(3_000), Some(222), true);
        let moved = Segment::of(&frame).expect("a segment");
        assert_eq!((moved.ack, moved.timestamps), (SeqNum(3_000), Some((7, 222))));
        let (_, options, _) = TcpHeader::split(&frame[34..]).expect("a header");
        assert_eq!(TcpOptions::parse(options).sack_blocks(), [(SeqNum(4_000), SeqNum(5_000))]);
        assert!(tcp::verify(moved.tuple.remote, moved.tuple.local, &frame[34..]), "the checksum is right again");
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut frame = frame();
        frame[34 + 16] ^= 1;
        let segment = Segment::of(&frame).expect("a segment");
        segment.readdress(&mut frame, SeqNum(3_000), Some(222), true);
        assert!(!tcp::verify(segment.tuple.remote, segment.tuple.local, &frame[34..]));
    }

    #[test]
    fn filters_see_addresses_of_ip_and_arp() {
        let seen = flow(&frame());
        assert_eq!((seen.sport, seen.dport, seen.proto, seen.tcp_flags), (40_000, 80, 6, 0x10));
        assert_eq!(flow(&[0; 3]), Flow::default());
    }
}
