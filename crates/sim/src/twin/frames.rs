//! The client's frames, and what can be read off the server's.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use rxpath_wire::tcp::{FastOpen, MAX_OPTIONS_LEN};
use rxpath_wire::{
    Addr, ArpPacket, ArpRepr, EtherType, EthernetHeader, EthernetRepr, IpProto, Ipv4Header, Ipv4Repr, MacAddr, SeqNum,
    TcpFlags, TcpHeader, TcpOptions, TcpRepr, arp, ethernet, icmp, ipv4, tcp,
};

use super::case::{
    Ack, Arrival, CLIENT_ISN, Cookie, Defect, Echo, FastOpening, Layout, Peer, Report, Sack, Segment, Seq,
};
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

/// Ports of a connection: the client's and the server's.
pub type Pair = (u16, u16);

/// What the client knows of the server: it fills in what a case leaves open.
#[derive(Clone, Debug, Default)]
pub struct ClientView {
    connections: BTreeMap<Pair, Connection>,
    /// The cookie that the server gave last: it is the same for all connections.
    cookie: Vec<u8>,
}

impl ClientView {
    /// Takes note of a frame of the server's.
    pub fn saw(&mut self, frame: &[u8]) {
        if let Some(seen) = Seen::of(frame).filter(|seen| !seen.flags.rst()) {
            self.connections.entry(seen.pair()).or_default().saw(&seen);
            if let Some(option) = seen.fast_open {
                self.cookie = option.cookie().to_vec();
            }
        }
    }

    /// Takes note of a segment of the client's.
    pub fn sent(&mut self, sent: &Sent) {
        if sent.flags & TcpFlags::SYN.0 != 0 {
            self.connections.entry((sent.sport, sent.dport)).or_default().offered = Some(sent.wscale.is_some());
        }
    }

    fn of(&self, pair: Pair) -> Connection {
        self.connections.get(&pair).cloned().unwrap_or_default()
    }

    /// Fills in what a segment of the case leaves open.
    pub fn resolve(&mut self, segment: &Segment) -> Sent {
        let fast_open = segment.fast_open.map_or_else(Vec::new, |option| self.fast_open(option));
        let sent = self.connections.entry((segment.sport, segment.dport)).or_default().resolve(segment);
        Sent { fast_open, ..sent }
    }

    /// A Fast Open option, from its kind on.
    fn fast_open(&self, option: FastOpening) -> Vec<u8> {
        const COOKIE: usize = 8;
        let mut cookie = self.cookie.clone();
        cookie.resize(COOKIE, 0);
        match option.cookie {
            Cookie::Request => cookie.clear(),
            Cookie::Latest => {}
            Cookie::Spoilt => cookie[0] ^= 0x10,
            Cookie::Cut(len) => cookie.resize(usize::from(len), 0),
        }
        let (kind, magic): (u8, &[u8]) = if option.experimental { (254, &[0xf9, 0x89]) } else { (34, &[]) };
        let len = (2 + magic.len() + cookie.len()) as u8;
        [&[kind, len], magic, &cookie].concat()
    }

    /// The sequence number that a report quotes.
    pub fn seq_of(&self, report: &Report) -> Number {
        let connection = self.of((report.sport, report.dport));
        let next = connection.next;
        match report.seq {
            Ack::Latest => Number::Server(next),
            Ack::Beside(offset) => Number::Server(next.wrapping_add_signed(offset)),
            Ack::Number(number) => Number::Plain(number),
            Ack::At(offset) => Number::Server(offset),
            Ack::Arrived(_) => Number::Server(connection.inbox.next),
        }
    }

    /// The frame of a report about a segment of this server's with this sequence number.
    pub fn report_frame(&self, report: &Report, seq: Number) -> Vec<u8> {
        const ICMP: usize = 8;
        const BEHIND: usize = ETHERNET + IP + ICMP;
        let quoted = usize::from(report.quoted);
        let mut frame = vec![0; BEHIND + IP + TcpHeader::LEN];
        let (proto, ttl, df) = (IpProto::TCP, 64, true);
        let quote = Ipv4Repr { src: SERVER, dst: CLIENT, proto, ttl, tos: 0, id: 1, df, total_len: 60 };
        ipv4::emit(&mut frame[BEHIND..], quote);
        let repr = TcpRepr {
            sport: report.dport,
            dport: report.sport,
            seq: SeqNum(seq.resolve(self.of((report.sport, report.dport)).isn)),
            ack: SeqNum(0),
            flags: TcpFlags::SYN,
            window: 0,
            urgent: 0,
            options: TcpOptions::default(),
        };
        tcp::emit(&mut frame[BEHIND + IP..], repr);
        frame.truncate(BEHIND + IP + quoted);
        frame[ETHERNET + IP..][..2].copy_from_slice(&[report.kind, report.code]);
        frame[ETHERNET + IP + 4..][..4].copy_from_slice(&report.rest.to_be_bytes());
        icmp::fill_checksum(&mut frame[ETHERNET + IP..]);
        let ethernet = EthernetRepr { dst: SERVER_MAC, src: CLIENT_MAC, ethertype: EtherType::IPV4 };
        ethernet::emit(&mut frame, ethernet);
        let total_len = (frame.len() - ETHERNET) as u16;
        let proto = IpProto::ICMP;
        ipv4::emit(
            &mut frame[ETHERNET..],
            Ipv4Repr { src: CLIENT, dst: SERVER, proto, ttl, tos: 0, id: 1, df: false, total_len },
        );
        frame
    }

    /// The frame of a segment, towards this server.
    pub fn frame(&self, sent: &Sent) -> Vec<u8> {
        self.of((sent.sport, sent.dport)).frame(sent)
    }
}

/// What the client knows of a connection.
#[derive(Clone, Debug, Default)]
struct Connection {
    /// The server's initial sequence number; 0 before there is one.
    isn: u32,
    /// What the client expects next of the server, relative to `isn`.
    next: u32,
    /// The server's last timestamp.
    tsval: u32,
    /// Right edge of the server's window, relative to the client's initial sequence number.
    edge: u32,
    /// Shift of the server's windows.
    wscale: u8,
    /// Whether the client's last SYN had the option for it.
    offered: Option<bool>,
    /// What has come to the client.
    inbox: Inbox,
}

/// The receiving half of the client, for cases in which segments of the server's are lost or come late. Numbers are
/// relative to the server's initial one.
#[derive(Clone, Debug, Default)]
struct Inbox {
    /// Segments under way: from and to.
    under_way: VecDeque<(u32, u32)>,
    /// What the client expects next.
    next: u32,
    /// What it has beyond, the newest first; no two touch.
    held: Vec<(u32, u32)>,
    /// What came a second time since the last acknowledgement.
    twice: Option<(u32, u32)>,
}

/// Segments that may be under way to the client.
const UNDER_WAY: usize = 1_024;

impl Inbox {
    fn sent(&mut self, from: u32, to: u32) {
        if self.under_way.len() < UNDER_WAY {
            self.under_way.push_back((from, to));
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        self.next = self.next.max(1);
        for _ in 0..arrival.lost {
            self.under_way.pop_front();
        }
        for _ in 0..arrival.come {
            let Some((from, to)) = self.under_way.remove(usize::from(arrival.late)) else { break };
            self.take(from, to);
        }
    }

    fn take(&mut self, mut from: u32, mut to: u32) {
        let again = self.held.iter().any(|&(start, end)| start <= from && to <= end);
        if to <= self.next || again {
            self.twice = Some((from, to));
            return;
        }
        if from > self.next {
            self.held.retain(|&(start, end)| {
                let touches = start <= to && from <= end;
                if touches {
                    (from, to) = (from.min(start), to.max(end));
                }
                !touches
            });
            self.held.insert(0, (from, to));
            return;
        }
        self.next = to;
        while let Some(at) = self.held.iter().position(|&(start, _)| start <= self.next) {
            self.next = self.next.max(self.held.remove(at).1);
        }
    }

    /// All that is under way has come.
    fn catch_up(&mut self, next: u32) {
        *self = Inbox { next, ..Inbox::default() };
    }

    fn blocks(&mut self) -> Vec<(u32, u32)> {
        self.twice.take().into_iter().chain(self.held.iter().copied()).collect()
    }
}

impl Connection {
    fn saw(&mut self, seen: &Seen) {
        if let Some((tsval, _)) = seen.options.timestamps {
            self.tsval = tsval;
        }
        let mut shift = if self.offered == Some(false) { 0 } else { self.wscale };
        if seen.flags.syn() {
            (self.isn, self.next) = (seen.seq.0, 1);
            self.inbox.catch_up(1);
            self.wscale = seen.options.wscale.unwrap_or(0);
            shift = 0;
        } else {
            let (from, to) = (seen.seq.0.wrapping_sub(self.isn), seen.end_seq().0.wrapping_sub(self.isn));
            if (from.wrapping_sub(self.next) as i32) <= 0 && (to.wrapping_sub(self.next) as i32) > 0 {
                self.next = to;
            }
            if to != from && (from as i32) > 0 {
                self.inbox.sent(from, to);
            }
        }
        if seen.flags.ack() {
            let acked = seen.ack.0.wrapping_sub(CLIENT_ISN);
            self.edge = acked.wrapping_add(u32::from(seen.window) << shift);
        }
    }

    fn resolve(&mut self, segment: &Segment) -> Sent {
        let seq = match segment.seq {
            Seq::At(offset) => offset,
            Seq::Edge(offset) => self.edge.wrapping_add_signed(offset),
        };
        let ack = match segment.ack {
            Ack::Latest => {
                self.inbox.catch_up(self.next);
                Number::Server(self.next)
            }
            Ack::Beside(offset) => Number::Server(self.next.wrapping_add_signed(offset)),
            Ack::Number(number) => Number::Plain(number),
            Ack::At(offset) => Number::Server(offset),
            Ack::Arrived(arrival) => {
                self.inbox.arrive(arrival);
                Number::Server(self.inbox.next)
            }
        };
        let back = |offset: i32| self.next.wrapping_sub(offset.cast_unsigned());
        let sack = match &segment.sack {
            Sack::None => Vec::new(),
            Sack::Held => self.inbox.blocks(),
            Sack::At(blocks) => blocks.clone(),
            Sack::Back(blocks) => blocks.iter().map(|&(from, to)| (back(from), back(to))).collect(),
        };
        let stamp = segment.stamp.map(|stamp| {
            let echo = match stamp.echo {
                Echo::Latest => Number::Server(0),
                Echo::Beside(offset) => Number::Server(0u32.wrapping_add_signed(offset)),
                Echo::Number(number) => Number::Plain(number),
            };
            (stamp.tsval, echo)
        });
        let Segment {
            sport, dport, flags, window, mss, wscale, sack_permitted, urgent, layout, len, tos, defect, ..
        } = *segment;
        let seq = CLIENT_ISN.wrapping_add(seq);
        Sent {
            sport,
            dport,
            flags,
            seq,
            ack,
            window,
            mss,
            wscale,
            stamp,
            sack_permitted,
            sack,
            urgent,
            fast_open: Vec::new(),
            layout,
            len,
            tos,
            defect,
        }
    }

    fn frame(&self, sent: &Sent) -> Vec<u8> {
        let flags = TcpFlags(sent.flags);
        let mut repr = TcpRepr {
            sport: sent.sport,
            dport: sent.dport,
            seq: SeqNum(sent.seq),
            ack: SeqNum(if flags.ack() { sent.ack.resolve(self.isn) } else { 0 }),
            flags,
            window: sent.window,
            urgent: sent.urgent,
            options: TcpOptions {
                mss: sent.mss,
                wscale: sent.wscale,
                timestamps: sent.stamp.map(|(tsval, echo)| (tsval, echo.resolve(self.tsval))),
                sack_permitted: sent.sack_permitted,
                ..TcpOptions::default()
            },
        };
        // As many as there is room for.
        let room = if sent.stamp.is_some() { 3 } else { 4 };
        let edge = |offset: u32| SeqNum(self.isn.wrapping_add(offset));
        repr.options.set_sack(sent.sack.iter().take(room).map(|&(from, to)| (edge(from), edge(to))));
        let mut frame = vec![0; ETHERNET + IP + TcpHeader::LEN + MAX_OPTIONS_LEN + usize::from(sent.len)];
        let header_len = match sent.layout {
            Layout::Usual if sent.fast_open.is_empty() => tcp::emit(&mut frame[ETHERNET + IP..], repr),
            layout => {
                let mut options = [options_in(layout, &repr.options), sent.fast_open.clone()].concat();
                options.truncate(MAX_OPTIONS_LEN);
                tcp::emit_raw(&mut frame[ETHERNET + IP..], repr, &options)
            }
        };
        let end = ETHERNET + IP + header_len + usize::from(sent.len);
        frame.truncate(end);
        for (index, byte) in frame[ETHERNET + IP + header_len..].iter_mut().enumerate() {
            *byte = payload_byte(sent.seq.wrapping_add(index as u32));
        }
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

/// Options of a segment as bytes that lie otherwise than Linux would have them.
fn options_in(layout: Layout, options: &TcpOptions) -> Vec<u8> {
    const UNKNOWN: [u8; 4] = [253, 4, 0x12, 0x34];
    let mut each: Vec<Vec<u8>> = Vec::new();
    if let Some(mss) = options.mss {
        each.push([&[2, 4][..], &mss.to_be_bytes()].concat());
    }
    if let Some(shift) = options.wscale {
        each.push(vec![3, 3, shift]);
    }
    if options.sack_permitted {
        each.push(vec![4, 2]);
    }
    if let Some((tsval, tsecr)) = options.timestamps {
        each.push([&[8, 10][..], &tsval.to_be_bytes(), &tsecr.to_be_bytes()].concat());
    }
    let mut bytes = match layout {
        Layout::Usual => each.concat(),
        Layout::Reversed => each.into_iter().rev().flatten().collect(),
        Layout::Unknown => each.iter().flat_map(|option| UNKNOWN.iter().chain(option).copied()).collect(),
        Layout::BehindEnd => [vec![1, 0], each.concat()].concat(),
        Layout::Doubled => [each.concat(), vec![2, 4, 2, 3]].concat(),
    };
    bytes.truncate(MAX_OPTIONS_LEN);
    bytes
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
    /// The sender's port.
    pub sport: u16,
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
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
    /// Fast Open option.
    pub fast_open: Option<FastOpen>,
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
            sport: header.src_port(),
            dport: header.dst_port(),
            seq: header.seq(),
            ack: header.ack(),
            flags: header.flags(),
            window: header.window(),
            urgent: header.urgent(),
            options: TcpOptions::parse(options),
            fast_open: FastOpen::parse(options),
            len: (segment.len() - header.header_len()) as u32,
            id: ip.id(),
            sound: ipv4::verify(headers) && tcp::verify(ip.src_addr(), ip.dst_addr(), segment),
        })
    }

    /// The connection that it belongs to, if the server sent it.
    pub fn pair(&self) -> Pair {
        (self.dport, self.sport)
    }

    /// Behind the last sequence number that the segment takes.
    pub fn end_seq(&self) -> SeqNum {
        let control = u32::from(self.flags.syn()) + u32::from(self.flags.fin());
        self.seq + (self.len + control)
    }
}
