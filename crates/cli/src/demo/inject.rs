//! Frames that no sane sender sends.

use std::net::SocketAddrV4;

use rxpath_wire::ethernet::{self, EtherType, EthernetRepr};
use rxpath_wire::ipv4::{self, IpProto, Ipv4Header, Ipv4Repr};
use rxpath_wire::tcp::{self, TcpFlags, TcpHeader, TcpRepr};
use rxpath_wire::{Addr, EthernetHeader, MacAddr, SeqNum};

/// Where the injector sits on its cable.
const INJECTOR: MacAddr = MacAddr([0x02, 0x72, 0x78, 0, 0xee, 2]);
/// How far beyond what the stack expects: more than any receive window.
const FAR: u32 = 1 << 30;
/// What injected segments carry.
const PAYLOAD: &[u8] = b"never to be read";

/// Whose segments are forged.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The client.
    pub src: SocketAddrV4,
    /// The stack.
    pub dst: SocketAddrV4,
}

/// Three frames, each wrong in its own way, with what is wrong: forged into a connection from whose client the stack
/// expects sequence number `rcv_nxt`.
pub fn bad_frames(flow: Flow, stack: MacAddr, rcv_nxt: u32) -> Vec<(&'static str, Vec<u8>)> {
    let sound = segment(flow, stack, rcv_nxt);
    let mut wrong_checksum = sound.clone();
    if let Some(byte) = wrong_checksum.last_mut() {
        *byte ^= 1;
    }
    let mut short_header = sound;
    short_header[EthernetHeader::LEN] = 0x44;
    ipv4::fill_checksum(&mut short_header[EthernetHeader::LEN..EthernetHeader::LEN + Ipv4Header::LEN]);
    vec![
        ("a wrong TCP checksum", wrong_checksum),
        ("a short IP header", short_header),
        ("a segment beyond the window", segment(flow, stack, rcv_nxt.wrapping_add(FAR))),
    ]
}

/// A segment with some payload.
fn segment(flow: Flow, stack: MacAddr, seq: u32) -> Vec<u8> {
    let tcp_at = EthernetHeader::LEN + Ipv4Header::LEN;
    let payload_at = tcp_at + TcpHeader::LEN;
    let mut frame = vec![0; payload_at + PAYLOAD.len()];
    ethernet::emit(&mut frame, EthernetRepr { dst: stack, src: INJECTOR, ethertype: EtherType::IPV4 });
    let total_len = (frame.len() - EthernetHeader::LEN) as u16;
    let (src, dst) = (*flow.src.ip(), *flow.dst.ip());
    let ip = Ipv4Repr { src, dst, proto: IpProto::TCP, ttl: 64, tos: 0, id: 1, df: true, total_len };
    ipv4::emit(&mut frame[EthernetHeader::LEN..], ip);
    let header = TcpRepr {
        sport: flow.src.port(),
        dport: flow.dst.port(),
        seq: SeqNum(seq),
        ack: SeqNum(0),
        flags: TcpFlags::ACK.union(TcpFlags::PSH),
        window: 64,
        ..TcpRepr::default()
    };
    tcp::emit(&mut frame[tcp_at..], header);
    frame[payload_at..].copy_from_slice(PAYLOAD);
    tcp::fill_checksum(Addr::from(src), Addr::from(dst), &mut frame[tcp_at..]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_is_wrong_in_one_way() {
        let flow =
            Flow { src: "10.9.0.2:40000".parse().expect("address"), dst: "10.9.0.1:80".parse().expect("address") };
        let frames = bad_frames(flow, MacAddr([2, 0, 0, 0, 0, 1]), 7);
        let found: Vec<(bool, u8, bool, u32)> = frames
            .iter()
            .map(|(_, frame)| {
                let ip = &frame[EthernetHeader::LEN..];
                let (header, _) = Ipv4Header::parse(ip).expect("long enough");
                let tcp = &ip[Ipv4Header::LEN..];
                let (segment, _) = TcpHeader::parse(tcp).expect("long enough");
                let verifies = tcp::verify(header.src_addr(), header.dst_addr(), tcp);
                (ipv4::verify(&ip[..Ipv4Header::LEN]), header.ihl(), verifies, segment.seq().0)
            })
            .collect();
        assert_eq!(found, [(true, 5, false, 7), (true, 4, true, 7), (true, 5, true, 7 + FAR)]);
    }
}
