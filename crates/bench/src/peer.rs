//! The peer: the other end of the connection. It opens it, writes segments as far as the window goes, and takes ACKs.

use std::sync::Arc;

use rxpath_wire::{
    Addr, ArpPacket, ArpRepr, EtherType, EthernetHeader, EthernetRepr, IpProto, Ipv4Header, MacAddr, SeqNum, TcpFlags,
    TcpHeader, TcpOptions, arp, ethernet, ipv4, tcp,
};

use crate::frames::{Frames, Numbers, PEER_IP, PEER_MAC, STACK_IP, STACK_MAC, segment};
use crate::heard::Heard;

/// The MSS that the peer announces.
const MSS: u16 = 1_460;
/// The window scale that the peer announces.
const WINDOW_SCALE: u8 = 7;

/// The other end.
#[derive(Debug)]
pub struct Peer {
    port: u16,
    frames: Frames,
    heard: Arc<Heard>,
    iss: SeqNum,
    next: Numbers,
    /// Index of the next prepared frame.
    index: usize,
    /// The stack's window scale.
    scale: u8,
    established: bool,
    segments: u64,
    /// Questions for its address that it has answered.
    found: u64,
}

impl Peer {
    /// A peer that connects from `port` and whose segments have `payload` bytes, which `seed` chooses.
    pub fn new(port: u16, payload: usize, seed: u64, heard: Arc<Heard>) -> Peer {
        let iss = SeqNum((seed as u32).wrapping_mul(0x9e37_79b9) | 0xfff0_0000);
        Peer {
            port,
            frames: Frames::new(port, payload, seed),
            heard,
            iss,
            next: Numbers { seq: iss + 1, ack: SeqNum(0), id: 1 },
            index: 0,
            scale: 0,
            established: false,
            segments: 0,
            found: 0,
        }
    }

    /// The prepared frames.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// What the peer hears.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Segments of data sent so far.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// How often the stack has asked where it is, and heard.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// The frames that open the conversation: who has the stack's address, and a SYN.
    pub fn opening(&self) -> [Vec<u8>; 2] {
        let options = TcpOptions { mss: Some(MSS), wscale: Some(WINDOW_SCALE), ..TcpOptions::default() };
        let question = arp_frame(MacAddr::BROADCAST, arp::REQUEST, MacAddr::ZERO);
        [question, segment(self.port, self.iss, SeqNum(0), TcpFlags::SYN, options, &[])]
    }

    /// Whether the handshake is done.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Looks at the frames that were kept; gives what the peer answers.
    ///
    /// # Panics
    /// If a frame is not what a right stack sends here.
    #[inline]
    pub fn listen(&mut self) -> Vec<Vec<u8>> {
        let kept = self.heard.take_kept();
        kept.iter().filter_map(|frame| self.hear(frame)).collect()
    }

    fn hear(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (header, packet) = EthernetHeader::parse(frame).expect("an Ethernet header");
        match header.ethertype() {
            EtherType::ARP => {
                let (question, _) = ArpPacket::parse(packet).expect("an ARP packet");
                let for_us = question.operation() == arp::REQUEST && question.target_ip() == PEER_IP;
                self.found += u64::from(for_us);
                for_us.then(|| arp_frame(STACK_MAC, arp::REPLY, STACK_MAC))
            }
            EtherType::IPV4 => self.hear_ip(packet),
            other => panic!("a frame of type {other:#06x}"),
        }
    }

    fn hear_ip(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let (ip, segment) = Ipv4Header::parse(packet).expect("an IPv4 header");
        assert!(ipv4::verify(&packet[..20]), "the IPv4 checksum is right");
        let segment = &segment[..usize::from(ip.total_len()) - 20];
        assert_eq!((ip.src(), ip.dst(), ip.protocol()), (STACK_IP, PEER_IP, IpProto::TCP));
        assert!(tcp::verify(Addr::from(STACK_IP), Addr::from(PEER_IP), segment), "the TCP checksum is right");
        let (header, options, payload) = TcpHeader::split(segment).expect("a TCP header");
        assert!(payload.is_empty() && !header.flags().fin() && !header.flags().rst(), "an ACK: {header:?}");
        if !header.flags().syn() {
            return None;
        }
        assert!(header.flags().ack() && header.ack() == self.iss + 1, "the handshake's second segment: {header:?}");
        self.scale = TcpOptions::parse(options).wscale.expect("a window scale, as we offered one");
        self.next.ack = header.seq() + 1;
        self.established = true;
        // The window of a SYN is not scaled, and a first burst is sent within it.
        let (ack, window) = (header.ack(), u32::from(header.window()) >> self.scale);
        self.heard.begin(ack.0, window);
        Some(self.answer())
    }

    /// The ACK that ends the handshake.
    fn answer(&self) -> Vec<u8> {
        segment(self.port, self.next.seq, self.next.ack, TcpFlags::ACK, TcpOptions::default(), &[])
    }

    /// Bytes that are not acknowledged.
    ///
    /// # Panics
    /// If the stack acknowledged what was never sent.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        let in_flight = self.next.seq - SeqNum(self.heard.ack());
        assert!(in_flight >= 0, "the stack acknowledged more than was sent");
        in_flight as u32
    }

    /// Whether the stack's window has room for `segments` more.
    #[inline]
    pub fn may_send(&self, segments: usize) -> bool {
        let window = self.heard.window() << self.scale;
        self.in_flight() as usize + segments * self.frames.payload() <= window as usize
    }

    /// Writes the next segment to the front of `to`; gives its length.
    #[inline(always)]
    pub fn write(&mut self, to: &mut [u8]) -> usize {
        let len = self.frames.write(self.index, self.next, to);
        self.index = self.frames.after(self.index);
        self.next.seq += self.frames.payload() as u32;
        self.next.id = self.next.id.wrapping_add(1);
        self.segments += 1;
        len
    }
}

fn arp_frame(to: MacAddr, operation: u16, target: MacAddr) -> Vec<u8> {
    let mut frame = vec![0; 42];
    ethernet::emit(&mut frame, EthernetRepr { dst: to, src: PEER_MAC, ethertype: EtherType::ARP });
    let repr = ArpRepr { operation, sender_mac: PEER_MAC, sender_ip: PEER_IP, target_mac: target, target_ip: STACK_IP };
    arp::emit(&mut frame[14..], repr);
    frame
}
