//! Segments of headers alone that follow one another: the acknowledgements of one connection.
//!
//! The headers of such a segment are those of the one before but for a few numbers, and so are its checksums. So the frame
//! of the last one is kept, with what its checksums come to without those numbers, and the next is a copy with its own
//! numbers entered ([`xmit_bare`](super::xmit_bare)): link, network and transport at one go. The kernel keeps the link header alone
//! (`neigh_hh_output`).
//!
//! That goes as long as nothing on the way out would look at the packet, or treat it in another way than the last: the same
//! configuration, route and neighbour, no hook, no tap, no recorded life.

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, Skb};
use rxpath_wire::{
    Addr, EtherType, EthernetHeader, EthernetRepr, IpProto, Ipv4Header, Ipv4Repr, MacAddr, SeqNum, TcpFlags,
    TcpOptions, TcpRepr, Tuple, ethernet, ipv4, pseudo_sum, tcp as wire_tcp,
};

use crate::cx::Cx;
use crate::expect::{FIXED, STAMPED, at};
use crate::route::Route;

/// Where the timestamps lie: the value, and behind it the echo.
const TSVAL: usize = FIXED + 4;
/// The numbers of a segment without payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window, as it goes into the header.
    pub window: u16,
    /// Timestamps, the only option there may be.
    pub timestamps: Option<(u32, u32)>,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub ident: u16,
}

/// The segment without payload that went last from a Cpu.
#[derive(Debug)]
pub(super) struct Bare {
    /// Whose it was.
    tuple: Tuple,
    /// Its frame, the numbers that change left out. Good to `len`, which is 0 if nothing is known of it: it is made for
    /// the second of two segments of one flow.
    frame: [u8; STAMPED],
    len: usize,
    ttl: u8,
    data_offset: u8,
    /// Totals of what stands in the headers, the pseudo-header with TCP's.
    ip: u32,
    tcp: u32,
    /// What stands in place of a checksum that the device computes: the sum of the pseudo-header.
    open: Option<u16>,
    ifindex: u16,
    /// The configuration, and the address of the neighbour with the generation of its table.
    generation: u64,
    mac: Option<(MacAddr, u64)>,
}

impl Default for Bare {
    fn default() -> Bare {
        Bare {
            tuple: Tuple { local: Addr::UNSPECIFIED_V6, remote: Addr::UNSPECIFIED_V6, local_port: 0, remote_port: 0 },
            ttl: 0,
            data_offset: 0,
            frame: [0; STAMPED],
            len: 0,
            ip: 0,
            tcp: 0,
            open: None,
            ifindex: 0,
            generation: 0,
            mac: None,
        }
    }
}

/// Of a number, the total of its two words.
#[inline(always)]
fn words(number: u32) -> u32 {
    (number >> 16) + (number & 0xffff)
}

impl Bare {
    /// Whether a segment is like the last one.
    #[inline(always)]
    pub fn is_like(&self, cx: &Cx, tuple: &Tuple, numbers: &Numbers, route: &Route) -> bool {
        let len = if numbers.timestamps.is_some() { STAMPED } else { FIXED };
        let same_way = self.generation == cx.net.generation
            && route.is_current(&cx.net)
            && route.ifindex == self.ifindex
            && route.mac == self.mac
            && self.mac.is_some_and(|(_, generation)| generation == cx.neigh.generation());
        same_way && len == self.len && numbers.ttl == self.ttl && self.tuple == *tuple
    }

    /// Writes the frame of a segment that is like the last one.
    #[inline(always)]
    fn write_headers<const N: usize>(&self, frame: &mut [u8; N], numbers: &Numbers) {
        let Some(last) = self.frame.first_chunk() else { return };
        *frame = *last;
        let Numbers { seq, ack, flags, window, timestamps, tos, ident, .. } = *numbers;
        frame[TOS] = tos;
        frame[at::ID..][..2].copy_from_slice(&ident.to_be_bytes());
        let ip = self.ip + u32::from(tos) + u32::from(ident);
        frame[at::IP_CHECKSUM..][..2].copy_from_slice(&(!csum::fold(u64::from(ip))).to_be_bytes());
        let word = u32::from(self.data_offset) << 24 | u32::from(flags.0) << 16 | u32::from(window);
        let mut tcp = self.tcp + words(seq.0) + words(ack.0) + words(word);
        frame[at::SEQ..][..4].copy_from_slice(&seq.0.to_be_bytes());
        frame[at::ACK..][..4].copy_from_slice(&ack.0.to_be_bytes());
        frame[at::DATA_OFFSET..][..4].copy_from_slice(&word.to_be_bytes());
        if N == STAMPED
            && let Some((tsval, tsecr)) = timestamps
        {
            tcp += words(tsval) + words(tsecr);
            frame[TSVAL..][..4].copy_from_slice(&tsval.to_be_bytes());
            frame[TSVAL + 4..][..4].copy_from_slice(&tsecr.to_be_bytes());
        }
        let checksum = self.open.unwrap_or(!csum::fold(u64::from(tcp)));
        frame[at::CHECKSUM..][..2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Puts the headers of a segment that is like the last one into an empty packet, link header first.
    #[inline(always)]
    pub fn write(&self, skb: &mut Skb, numbers: &Numbers) {
        let frame = skb.push(self.len);
        if let Some(frame) = frame.first_chunk_mut::<STAMPED>() {
            self.write_headers(frame, numbers);
        } else if let Some(frame) = frame.first_chunk_mut::<FIXED>() {
            self.write_headers(frame, numbers);
        }
        if self.open.is_some() {
            skb.ip_summed = IpSummed::Partial;
        }
        let start = skb.data_offset() as u16;
        skb.network_off = start + EthernetHeader::LEN as u16;
        skb.transport_off = start + at::PORTS as u16;
        (skb.protocol, skb.ifindex) = (EtherType::IPV4, self.ifindex);
        (skb.seq, skb.tcp_flags) = (numbers.seq.0, numbers.flags.0);
    }

    /// A segment went the whole way: the second of a flow is the example for those that follow.
    pub fn note(&mut self, cx: &Cx, tuple: &Tuple, numbers: &Numbers, route: &Route) {
        if self.tuple == *tuple {
            self.make(cx, numbers, route);
        } else {
            (self.tuple, self.len) = (*tuple, 0);
        }
    }

    /// Makes the frame for segments like this one.
    fn make(&mut self, cx: &Cx, numbers: &Numbers, route: &Route) {
        self.len = 0;
        let Some(interface) = cx.net.interface(route.ifindex).filter(|_| route.ifindex <= cx.net.devices) else {
            return;
        };
        let Tuple { local, remote, local_port, remote_port } = self.tuple;
        let (Some(src), Some(dst), Some((mac, _))) = (local.v4(), remote.v4(), route.mac) else { return };
        let options = TcpOptions { timestamps: numbers.timestamps.map(|_| (0, 0)), ..TcpOptions::default() };
        let repr = TcpRepr { sport: local_port, dport: remote_port, options, ..TcpRepr::default() };
        let tcp_len = repr.header_len();
        let total_len = (Ipv4Header::LEN + tcp_len) as u16;
        let mut frame = [0; STAMPED];
        ethernet::emit(&mut frame, EthernetRepr { dst: mac, src: interface.mac, ethertype: EtherType::IPV4 });
        let header = Ipv4Repr { src, dst, proto: IpProto::TCP, ttl: numbers.ttl, tos: 0, id: 0, df: true, total_len };
        ipv4::emit(&mut frame[EthernetHeader::LEN..], header);
        wire_tcp::emit(&mut frame[at::PORTS..], repr);
        // What is entered for each has no share in the totals.
        frame[at::IP_CHECKSUM..][..2].fill(0);
        self.data_offset = std::mem::take(&mut frame[at::DATA_OFFSET]);
        let pseudo = pseudo_sum(local, remote, IpProto::TCP, tcp_len);
        self.ip = u32::from(csum::sum(&frame[EthernetHeader::LEN..at::PORTS]));
        self.tcp = u32::from(pseudo) + u32::from(csum::sum(&frame[at::PORTS..at::PORTS + tcp_len]));
        self.open = route.features.tx_csum.then_some(pseudo);
        (self.frame, self.len, self.ttl) = (frame, at::PORTS + tcp_len, numbers.ttl);
        (self.ifindex, self.generation, self.mac) = (route.ifindex, cx.net.generation, route.mac);
    }
}

/// Where the type of service lies in a frame.
const TOS: usize = EthernetHeader::LEN + 1;
