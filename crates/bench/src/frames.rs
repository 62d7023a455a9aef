//! The frames of a stream, prepared: what is sent again and again with other numbers in it.
//!
//! The payload is random and repeats after 37 segments, which is no multiple of a burst: a burst that were lost,
//! doubled or swapped with its neighbour would show.

use std::net::Ipv4Addr;

use rxpath_arch::csum;
use rxpath_core::cx::Rng;
use rxpath_wire::{
    Addr, EtherType, EthernetRepr, IpProto, Ipv4Repr, MacAddr, SeqNum, TcpFlags, TcpOptions, TcpRepr, ethernet, ipv4,
    tcp,
};

/// Segments after which the payload repeats.
const PERIOD: usize = 37;
/// Bytes of Ethernet, IPv4 and TCP header.
pub const HEADERS: usize = 54;
/// Where the TCP header begins.
const TCP: usize = 34;

/// Hardware address of the stack under test.
pub const STACK_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// Hardware address of the peer.
pub const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// Address of the stack under test.
pub const STACK_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Address of the peer.
pub const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Port that the stack under test listens on.
pub const STACK_PORT: u16 = 80;
/// Window of the peer as it stands in the header.
const PEER_WINDOW: u16 = 0x7000;

/// One segment of the peer, its checksums right.
pub fn segment(port: u16, seq: SeqNum, ack: SeqNum, flags: TcpFlags, options: TcpOptions, payload: &[u8]) -> Vec<u8> {
    let repr = TcpRepr { sport: port, dport: STACK_PORT, seq, ack, flags, window: PEER_WINDOW, urgent: 0, options };
    let tcp_len = repr.header_len() + payload.len();
    let mut frame = vec![0; TCP + tcp_len];
    ethernet::emit(&mut frame, EthernetRepr { dst: STACK_MAC, src: PEER_MAC, ethertype: EtherType::IPV4 });
    let ip = Ipv4Repr {
        src: PEER_IP,
        dst: STACK_IP,
        proto: IpProto::TCP,
        ttl: 64,
        tos: 0,
        id: 0,
        df: true,
        total_len: (20 + tcp_len) as u16,
    };
    ipv4::emit(&mut frame[14..], ip);
    let header = tcp::emit(&mut frame[TCP..], repr);
    frame[TCP + header..].copy_from_slice(payload);
    tcp::fill_checksum(Addr::from(PEER_IP), Addr::from(STACK_IP), &mut frame[TCP..]);
    frame
}

/// What changes from segment to segment.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number.
    pub ack: SeqNum,
    /// IPv4 identification.
    pub id: u16,
}

/// The prepared frames of one connection.
#[derive(Debug)]
pub struct Frames {
    frames: Vec<Prepared>,
    /// The stream, twice its period long, so that a piece from any place of the period is in one piece.
    stream: Vec<u8>,
    payload: usize,
}

#[derive(Debug)]
struct Prepared {
    bytes: Vec<u8>,
    /// Sum of the IPv4 header without identification and checksum.
    ip_sum: u16,
    /// Sum of pseudo-header and segment without sequence number, acknowledgement number and checksum.
    tcp_sum: u16,
}

impl Frames {
    /// Segments from the peer's `port` with `payload` bytes each, which `seed` chooses.
    pub fn new(port: u16, payload: usize, seed: u64) -> Frames {
        let mut rng = Rng::new(seed);
        let period: Vec<u8> = (0..PERIOD * payload).map(|_| rng.next_u64() as u8).collect();
        let frames = period.chunks(payload).map(|piece| {
            let bytes = segment(port, SeqNum(0), SeqNum(0), TcpFlags::ACK, TcpOptions::default(), piece);
            // All of a right segment sums to all ones, so what the checksum field says is the sum of the others.
            let (ip_sum, tcp_sum) = (!be16(&bytes, 24), !be16(&bytes, TCP + 16));
            Prepared { bytes, ip_sum, tcp_sum }
        });
        let frames = frames.collect();
        Frames { frames, stream: period.repeat(2), payload }
    }

    /// Payload bytes of a segment.
    pub fn payload(&self) -> usize {
        self.payload
    }

    /// Bytes of a frame.
    pub fn frame_len(&self) -> usize {
        HEADERS + self.payload
    }

    /// Writes the segment that begins at `offset` of the stream to the front of `to`, and gives its length.
    #[inline(always)]
    pub fn write(&self, index: usize, numbers: Numbers, to: &mut [u8]) -> usize {
        let Prepared { bytes, ip_sum, tcp_sum } = &self.frames[index];
        let to = &mut to[..bytes.len()];
        to.copy_from_slice(bytes);
        let Some(headers) = to.first_chunk_mut::<HEADERS>() else { return 0 };
        let (seq, ack) = (numbers.seq.0, numbers.ack.0);
        headers[18..20].copy_from_slice(&numbers.id.to_be_bytes());
        headers[24..26].copy_from_slice(&(!csum::sum_add(*ip_sum, numbers.id)).to_be_bytes());
        headers[38..42].copy_from_slice(&seq.to_be_bytes());
        headers[42..46].copy_from_slice(&ack.to_be_bytes());
        let numbers = u64::from(seq) + u64::from(ack) + u64::from(*tcp_sum);
        headers[50..52].copy_from_slice(&(!csum::fold(numbers)).to_be_bytes());
        bytes.len()
    }

    /// Index of the segment behind `index`.
    #[inline(always)]
    pub fn after(&self, index: usize) -> usize {
        if index + 1 == self.frames.len() { 0 } else { index + 1 }
    }

    /// The `len` bytes of the stream from `offset` on; at most a period.
    pub fn stream(&self, offset: u64, len: usize) -> &[u8] {
        let period = self.stream.len() / 2;
        let start = (offset % period as u64) as usize;
        &self.stream[start..start + len]
    }

    /// Whether `got`, read from `offset` on, begins and ends as the stream does there: cheap enough for a timed loop.
    #[inline(always)]
    pub fn ends_match(&self, offset: u64, got: &[u8]) -> bool {
        let expected = self.stream(offset, got.len());
        expected.first_chunk::<8>() == got.first_chunk::<8>() && expected.last_chunk::<8>() == got.last_chunk::<8>()
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rxpath_wire::{Ipv4Header, TcpHeader};

    #[test]
    fn a_written_segment_is_right_and_carries_its_piece_of_the_stream() {
        let frames = Frames::new(4_242, 64, 7);
        let (mut index, mut room) = (0, [0xff; 2_048]);
        for n in 0..100u32 {
            let numbers =
                Numbers { seq: SeqNum(0xffff_ff00) + n * 64, ack: SeqNum(0x1234_fffe), id: (n * 1_201) as u16 };
            let len = frames.write(index, numbers, &mut room);
            assert_eq!(len, frames.frame_len());
            let (packet, segment) = (&room[14..34], &room[34..len]);
            assert!(ipv4::verify(packet), "IPv4 checksum of segment {n}");
            assert!(tcp::verify(Addr::from(PEER_IP), Addr::from(STACK_IP), segment), "TCP checksum of segment {n}");
            let (ip, _) = Ipv4Header::parse(packet).expect("20 bytes");
            let (header, payload) = TcpHeader::parse(segment).expect("20 bytes");
            assert_eq!((ip.id(), header.seq(), header.ack()), (numbers.id, numbers.seq, numbers.ack));
            assert_eq!(payload, frames.stream(u64::from(n) * 64, 64));
            index = frames.after(index);
        }
    }

    #[test]
    fn the_ends_tell_pieces_apart() {
        let frames = Frames::new(4_242, 64, 7);
        let piece = frames.stream(128, 2_048).to_vec();
        assert!(frames.ends_match(128, &piece));
        assert!(!frames.ends_match(192, &piece), "another place");
        let mut holed = piece.clone();
        holed.remove(1_000);
        assert!(!frames.ends_match(128, &holed), "a byte is missing in the middle: other last bytes");
        assert!(frames.ends_match(128 + 37 * 64, &piece), "a period on it is the same again");
    }
}
