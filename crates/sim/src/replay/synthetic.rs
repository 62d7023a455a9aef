//! Captures made up from a seed, for tests and measurements: what a server's `tcpdump` would have written.
//!
//! The host is [`HOST`] with hardware address [`HOST_MAC`]; the peers talk to its port [`PORT`], one connection after the
//! other, each with a handshake, requests, answers, and an orderly end. Numbers and time stamps of both ends are of their
//! own, as on a real host.

use std::io::{self, Write};
use std::net::Ipv4Addr;

use rxpath_core::cx::Rng;
use rxpath_wire::{
    Addr, EtherType, EthernetRepr, IpProto, Ipv4Repr, MacAddr, SeqNum, TcpFlags, TcpOptions, TcpRepr, ethernet, ipv4,
    tcp,
};

/// Address of the host.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Its hardware address.
pub const HOST_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
/// Hardware address of all peers.
pub const PEER_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 9]);
/// The port that they talk to.
pub const PORT: u16 = 80;
/// `host.toml` of the host, with a service on [`PORT`].
pub const HOST_TOML: &str = "[[interface]]\nname = \"eth0\"\ndriver = \"pcap\"\nmac = \"52:54:00:00:00:01\"\n\
                             addresses = [\"10.9.0.1/24\"]\n[[service]]\nlisten = \"10.9.0.1:80\"\napp = \"discard\"\n";

/// Payload bytes of a request's segment, and of an answer.
const REQUEST: usize = 512;
const ANSWER: usize = 100;
/// Segments of a request.
const SEGMENTS: usize = 8;
/// Nanoseconds from one packet to the next.
const STEP: u64 = 20_000;
/// 2023-11-14, 22:13:20 UTC.
const BEGIN: u64 = 1_700_000_000_000_000_000;

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// The host sent it.
    pub outbound: bool,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Address.
    pub addr: Ipv4Addr,
    /// Hardware address.
    pub mac: MacAddr,
    /// Port.
    pub port: u16,
    /// Next sequence number to be sent.
    pub seq: SeqNum,
    /// What its time stamps are ahead of the capture's milliseconds.
    pub clock: u32,
}

/// A connection in the making.
pub struct Conversation {
    /// Who opened it.
    pub client: End,
    /// Whom it was opened to.
    pub server: End,
    /// The next packet's time.
    pub time: u64,
    /// Last time stamps of the client and of the server.
    last: [u32; 2],
    /// The frames so far.
    pub frames: Vec<Captured>,
}

impl Conversation {
    /// Between two ends, from `time` on.
    pub fn new(client: End, server: End, time: u64) -> Conversation {
        Conversation { client, server, time, last: [0; 2], frames: Vec::new() }
    }

    /// With a peer of this number as the client and the host as the server.
    pub fn with_peer(number: u32, rng: &mut Rng, time: u64) -> Conversation {
        let [_, _, high, low] = (number / 20_000).to_be_bytes();
        let client = End {
            addr: Ipv4Addr::new(10, 9, 0, 10 + (u16::from_be_bytes([high, low]) % 200) as u8),
            mac: PEER_MAC,
            port: 32_768 + (number % 20_000) as u16,
            seq: SeqNum(rng.next_u64() as u32),
            clock: rng.next_u64() as u32,
        };
        let (seq, clock) = (SeqNum(rng.next_u64() as u32), rng.next_u64() as u32);
        Conversation::new(client, End { addr: HOST, mac: HOST_MAC, port: PORT, seq, clock }, time)
    }

    /// One segment from the client, or from the server, with this payload.
    pub fn segment(&mut self, by_client: bool, flags: TcpFlags, payload: &[u8]) {
        let now = (self.time / 1_000_000) as u32;
        let (from, to) = if by_client { (self.client, self.server) } else { (self.server, self.client) };
        let side = usize::from(by_client);
        let tsval = now.wrapping_add(from.clock);
        let mut options = TcpOptions { timestamps: Some((tsval, self.last[side])), ..TcpOptions::default() };
        if flags.syn() {
            options.mss = Some(1_460);
            options.wscale = Some(7);
            options.sack_permitted = true;
        }
        let ack = if flags.ack() { to.seq } else { SeqNum(0) };
        let (window, urgent) = (if flags.syn() { 64_240 } else { 502 }, 0);
        let repr = TcpRepr { sport: from.port, dport: to.port, seq: from.seq, ack, flags, window, urgent, options };
        let bytes = frame(&from, &to, repr, payload);
        let outbound = from.mac == HOST_MAC;
        self.frames.push(Captured { time: self.time, bytes, outbound });
        self.time += STEP;
        self.last[1 - side] = tsval;
        let sender = if by_client { &mut self.client } else { &mut self.server };
        sender.seq = sender.seq + payload.len() as u32 + flags.seq_len();
    }

    /// The three segments that open it.
    pub fn handshake(&mut self) {
        self.segment(true, TcpFlags::SYN, &[]);
        self.segment(false, TcpFlags::SYN.union(TcpFlags::ACK), &[]);
        self.segment(true, TcpFlags::ACK, &[]);
    }

    /// A request in several segments, each second one acknowledged, and an answer.
    pub fn exchange(&mut self, fill: u8) {
        let data = TcpFlags::PSH.union(TcpFlags::ACK);
        for number in 0..SEGMENTS {
            self.segment(true, data, &[fill; REQUEST]);
            if number % 2 == 1 {
                self.segment(false, TcpFlags::ACK, &[]);
            }
        }
        self.segment(false, data, &[fill; ANSWER]);
        self.segment(true, TcpFlags::ACK, &[]);
    }

    /// The end, which the client begins.
    pub fn close(&mut self) {
        let fin = TcpFlags::FIN.union(TcpFlags::ACK);
        self.segment(true, fin, &[]);
        self.segment(false, fin, &[]);
        self.segment(true, TcpFlags::ACK, &[]);
    }
}

/// An Ethernet frame with a TCP segment, checksums right.
pub fn frame(from: &End, to: &End, repr: TcpRepr, payload: &[u8]) -> Vec<u8> {
    let header_len = repr.header_len();
    let total_len = 20 + header_len + payload.len();
    let mut bytes = vec![0; 14 + total_len];
    ethernet::emit(&mut bytes, EthernetRepr { dst: to.mac, src: from.mac, ethertype: EtherType::IPV4 });
    let (id, df, ttl, tos) = (repr.seq.0 as u16, true, 64, 0);
    let (src, dst, total_len) = (from.addr, to.addr, total_len as u16);
    ipv4::emit(&mut bytes[14..], Ipv4Repr { src, dst, proto: IpProto::TCP, ttl, tos, id, df, total_len });
    tcp::emit(&mut bytes[34..], repr);
    bytes[34 + header_len..].copy_from_slice(payload);
    tcp::fill_checksum(Addr::from(from.addr), Addr::from(to.addr), &mut bytes[34..]);
    bytes
}

/// The first `packets` frames of a server's life.
pub fn frames(packets: u64, seed: u64) -> impl Iterator<Item = Captured> {
    let mut rng = Rng::new(seed);
    let mut time = BEGIN;
    let conversations = (0_u32..).flat_map(move |number| {
        let mut conversation = Conversation::with_peer(number, &mut rng, time);
        conversation.handshake();
        for _ in 0..=rng.below(3) {
            conversation.exchange(number as u8);
        }
        conversation.close();
        time = conversation.time;
        conversation.frames
    });
    conversations.take(usize::try_from(packets).unwrap_or(usize::MAX))
}

/// The header of a pcap file in nanoseconds, little-endian, of this link type.
pub fn pcap_header(link: u16) -> Vec<u8> {
    let link = u32::from(link).to_le_bytes();
    [&[0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0][..], &[0; 8], &[0, 0, 4, 0], &link].concat()
}

/// A record of such a file.
pub fn pcap_record(time: u64, wire_len: usize, bytes: &[u8]) -> Vec<u8> {
    let word = |word: u64| (word as u32).to_le_bytes();
    let second = 1_000_000_000;
    let header = [word(time / second), word(time % second), word(bytes.len() as u64), word(wire_len as u64)];
    [&header.concat(), bytes].concat()
}

/// Writes the first `packets` frames of a server's life as a pcap file.
///
/// # Errors
/// The output does not take it.
pub fn write_pcap(mut output: impl Write, packets: u64, seed: u64) -> io::Result<()> {
    output.write_all(&pcap_header(1))?;
    for Captured { time, bytes, .. } in frames(packets, seed) {
        output.write_all(&pcap_record(time, bytes.len(), &bytes))?;
    }
    output.flush()
}
