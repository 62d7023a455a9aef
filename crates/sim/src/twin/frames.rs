//! The client's frames, and what can be read off the server's.

use std::net::Ipv4Addr;

use rxpath_wire::{
    Addr, ArpPacket, ArpRepr, EtherType, EthernetHeader, EthernetRepr, IpProto, Ipv4Header, Ipv4Repr, MacAddr, SeqNum,
    TcpFlags, TcpHeader, TcpOptions, TcpRepr, arp, ethernet, ipv4, tcp,
};

use super::case::{Ack, CLIENT_ISN, CLIENT_PORT, Defect, Echo, Peer, Segment, Seq};
use super::record::{Number, Sent};

/// The server's hardware address on the first link, on either side.
pub const SERVER_MAC: MacAddr = MacAddr([0x02, 0x72, 0x78, 0, 0, 1]);
/// The client's hardware address.
pub const CLIENT_MAC: MacAddr = MacAddr([0x02, 0x72, 0x78, 0, 0, 2]);
/// The server's address, in a network of 24 bits.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

const ETHERNET: usize = EthernetHeader::LEN;
const IP: usize = Ipv4Header::LEN;

/// An ARP packet in a frame.
pub fn arp_frame(to: MacAddr, from: MacAddr, repr: ArpRepr) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + ArpPacket::LEN];
    ethernet::emit(&mut frame, EthernetRepr { dst: to, src: from, ethertype: EtherType::ARP });
    arp::emit(&mut frame[ETHERNET..], repr);
    frame
}

/// A host on a link asks for the hardware address of `host`, which so learns that of the asking one.
pub fn introduction(peer: &Peer, host: Ipv4Addr) -> Vec<u8> {
    let mac = MacAddr(peer.mac);
    let repr = ArpRepr {
        operation: arp::REQUEST,
        sender_mac: mac,
        sender_ip: peer.addr,
        target_mac: MacAddr::ZERO,
        target_ip: host,
    };
    arp_frame(MacAddr::BROADCAST, mac, repr)
}

/// The EtherType of a frame.
pub fn ethertype(frame: &[u8]) -> Option<u16> {
    EthernetHeader::parse(frame).map(|(header, _)| header.ethertype())
}

/// What the client knows of the server: it fills in what a case leaves open.
#[derive(Clone, Debug, Default)]
pub struct ClientView {
    /// The server's initial sequence number; 0 before there is one.
    pub isn: u32,
    /// What the client expects next of the server, relative to `isn`.
    pub next: u32,
    /// The server's last timestamp.
    pub tsval: u32,
    /// Right edge of the server's window, relative to the client's initial sequence number.
    pub edge: u32,
    /// Shift of the server's windows.
    wscale: u8,
}

impl ClientView {
    /// Takes note of a frame of the server's.
    pub fn saw(&mut self, frame: &[u8]) {
        let Some(seen) = Seen::of(frame).filter(|seen| seen.dport == CLIENT_PORT) else { return };
        if seen.flags.rst() {
            return;
        }
        if let Some((tsval, _)) = seen.options.timestamps {
            self.tsval = tsval;
        }
        let mut shift = self.wscale;
        if seen.flags.syn() {
            (self.isn, self.next) = (seen.seq.0, 1);
            self.wscale = seen.options.wscale.unwrap_or(0);
            shift = 0;
        } else {
            let (from, to) = (seen.seq.0.wrapping_sub(self.isn), seen.end_seq().0.wrapping_sub(self.isn));
            if (from.wrapping_sub(self.next) as i32) <= 0 && (to.wrapping_sub(self.next) as i32) > 0 {
                self.next = to;
            }
        }
        if seen.flags.ack() {
            let acked = seen.ack.0.wrapping_sub(CLIENT_ISN);
            self.edge = acked.wrapping_add(u32::from(seen.window) << shift);
        }
    }

    /// Fills in what a segment of the case leaves open.
    pub fn resolve(&self, segment: &Segment) -> Sent {
        let seq = match segment.seq {
            Seq::At(offset) => offset,
            Seq::Edge(offset) => self.edge.wrapping_add_signed(offset),
        };
        let ack = match segment.ack {
            Ack::Latest => Number::Server(self.next),
            Ack::Beside(offset) => Number::Server(self.next.wrapping_add_signed(offset)),
            Ack::Number(number) => Number::Plain(number),
        };
        let stamp = segment.stamp.map(|stamp| {
            let echo = match stamp.echo {
                Echo::Latest => Number::Server(0),
                Echo::Beside(offset) => Number::Server(0u32.wrapping_add_signed(offset)),
                Echo::Number(number) => Number::Plain(number),
            };
            (stamp.tsval, echo)
        });
        let Segment { sport, dport, flags, window, mss, wscale, len, tos, defect, .. } = *segment;
        let seq = CLIENT_ISN.wrapping_add(seq);
        Sent { sport, dport, flags, seq, ack, window, mss, wscale, stamp, len, tos, defect }
    }

    /// The frame of a segment, towards this server.
    pub fn frame(&self, sent: &Sent) -> Vec<u8> {
        let flags = TcpFlags(sent.flags);
        let repr = TcpRepr {
            sport: sent.sport,
            dport: sent.dport,
            seq: SeqNum(sent.seq),
            ack: SeqNum(if flags.ack() { sent.ack.resolve(self.isn) } else { 0 }),
            flags,
            window: sent.window,
            urgent: 0,
            options: TcpOptions {
                mss: sent.mss,
                wscale: sent.wscale,
                timestamps: sent.stamp.map(|(tsval, echo)| (tsval, echo.resolve(self.tsval))),
                ..TcpOptions::default()
            },
        };
        let header_len = repr.header_len();
        let mut frame = vec![0; ETHERNET + IP + header_len + usize::from(sent.len)];
        for (index, byte) in frame[ETHERNET + IP + header_len..].iter_mut().enumerate() {
            *byte = payload_byte(sent.seq.wrapping_add(index as u32));
        }
        tcp::emit(&mut frame[ETHERNET + IP..], repr);
        if let Defect::Offset(words) = sent.defect {
            let byte = &mut frame[ETHERNET + IP + 12];
            *byte = *byte & 0x0f | words << 4;
        }
        if let Defect::Cut(len) = sent.defect {
            frame.truncate(ETHERNET + IP + usize::from(len));
        }
        finish(&mut frame, sent.tos, sent.defect);
        frame
    }
}

/// The byte of the client's stream at this sequence number.
fn payload_byte(seq: u32) -> u8 {
    (seq.wrapping_mul(31) >> 2) as u8
}

/// Fills in the headers in front of the segment, and its checksum.
fn finish(frame: &mut [u8], tos: u8, defect: Defect) {
    let (client, server) = (Addr::from_v4(CLIENT.octets()), Addr::from_v4(SERVER.octets()));
    let ethernet = EthernetRepr { dst: SERVER_MAC, src: CLIENT_MAC, ethertype: EtherType::IPV4 };
    ethernet::emit(frame, ethernet);
    let total_len = (frame.len() - ETHERNET) as u16;
    let (proto, ttl, df) = (IpProto::TCP, 64, true);
    ipv4::emit(&mut frame[ETHERNET..], Ipv4Repr { src: CLIENT, dst: SERVER, proto, ttl, tos, id: 1, df, total_len });
    let segment = &mut frame[ETHERNET + IP..];
    if segment.len() >= TcpHeader::LEN {
        tcp::fill_checksum(client, server, segment);
        if defect == Defect::Checksum {
            segment[16] ^= 0x40;
        }
    }
}

/// The TCP segment of a frame.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The receiver's port.
    pub dport: u16,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window, as it stands in the header.
    pub window: u16,
    /// Options.
    pub options: TcpOptions,
    /// Payload bytes.
    pub len: u32,
    /// IP identification.
    pub id: u16,
    /// Both checksums are right.
    pub sound: bool,
}

impl Seen {
    /// None if the frame is no TCP segment.
    pub fn of(frame: &[u8]) -> Option<Seen> {
        let (ethernet, packet) = EthernetHeader::parse(frame)?;
        let (ip, _) = Ipv4Header::parse(packet).filter(|_| ethernet.ethertype() == EtherType::IPV4)?;
        let headers = packet.get(..ip.header_len())?;
        let segment = packet.get(ip.header_len()..usize::from(ip.total_len()))?;
        let (header, _) = TcpHeader::parse(segment).filter(|_| ip.protocol() == IpProto::TCP)?;
        let options = segment.get(TcpHeader::LEN..header.header_len())?;
        Some(Seen {
            dport: header.dst_port(),
            seq: header.seq(),
            ack: header.ack(),
            flags: header.flags(),
            window: header.window(),
            options: TcpOptions::parse(options),
            len: (segment.len() - header.header_len()) as u32,
            id: ip.id(),
            sound: ipv4::verify(headers) && tcp::verify(ip.src_addr(), ip.dst_addr(), segment),
        })
    }

    /// Behind the last sequence number that the segment takes.
    pub fn end_seq(&self) -> SeqNum {
        let control = u32::from(self.flags.syn()) + u32::from(self.flags.fin());
        self.seq + (self.len + control)
    }
}
