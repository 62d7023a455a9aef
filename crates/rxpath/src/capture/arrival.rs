//! What a capture leaves out of a frame, and what a network card would have said of it.
//!
//! | in the capture | what the interface gets |
//! |---|---|
//! | fewer bytes than on the wire, all headers there | the rest as zeros, the transport checksum taken as verified |
//! | fewer bytes, headers cut too | nothing: [`TooShort`] |
//! | a checksum of the pseudo-header alone | a frame whose checksum is still open, as between virtual machines |
//! | TCP segments longer than the MTU allows | a super-frame that a device merged, its checksum vouched for |
//! | a frame check sequence | the frame without it; marked as damaged if it does not verify |
//! | a padded short frame | the frame as it is: IP knows its own length |

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, RxDesc, RxErrors};
use rxpath_wire::{ArpPacket, EtherType, EthernetHeader, IpProto, Ipv4Header, TcpHeader};

/// Longest frame that is made of a packet: an IP packet of 65,535 bytes behind an Ethernet header with two tags.
const FRAME_MAX: usize = 65_535 + EthernetHeader::LEN + 8;
/// Header of an IPv6 packet.
const IPV6_HEADER: usize = 40;
const TAG: usize = 4;
/// Header of an ICMP message, and of a UDP datagram.
const SHORT_HEADER: usize = 8;

/// What was not as on the wire, and was made up for: bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notes(pub u8);

impl Notes {
    /// The payload was cut: zeros stand for it, and the checksum was taken as verified.
    pub const CUT: Notes = Notes(1);
    /// The checksum was left to a device that did not fill it in; it was taken as verified.
    pub const CSUM_OPEN: Notes = Notes(2);
    /// Longer than the MTU: several segments that a device or GRO merged; the checksum was taken as verified.
    pub const SUPER_FRAME: Notes = Notes(4);
    /// A frame check sequence was taken off.
    pub const FCS: Notes = Notes(8);

    /// Each note with what it says.
    pub const ALL: [(Notes, &'static str); 4] = [
        (Notes::CUT, "cut by the snap length: zeros stand for the rest, the checksum counts as verified"),
        (Notes::CSUM_OPEN, "its checksum was left to a device: counts as verified"),
        (
            Notes::SUPER_FRAME,
            "longer than the MTU: segments merged before the capture, the checksum counts as verified",
        ),
        (Notes::FCS, "the frame check sequence was taken off"),
    ];

    /// True if all of `other` is noted.
    pub const fn contains(self, other: Notes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds a note.
    pub fn add(&mut self, other: Notes) {
        self.0 |= other.0;
    }
}

/// What the descriptor of a frame is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What is known of the transport checksum.
    pub csum: IpSummed,
    /// Payload bytes per segment of a super-frame, else 0.
    pub gso_size: u16,
    /// Its segments, else 0.
    pub gso_segs: u16,
    /// What the capture says was wrong with it on the wire.
    pub errors: RxErrors,
    /// What was made up for.
    pub notes: Notes,
}

impl Arrival {
    /// The descriptor that says so.
    pub fn desc(&self) -> RxDesc {
        let Arrival { csum, gso_size, gso_segs, errors, .. } = *self;
        RxDesc { csum, gso_size, gso_segs, errors, ..RxDesc::default() }
    }
}

/// Not even the headers were captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort {
    /// Bytes that its headers have, the Ethernet header included.
    pub needed: usize,
}

/// Makes of an Ethernet frame as captured, of which `missing` bytes at its end were not, the one that a card hands over.
///
/// `fcs_len` is the length of the frame check sequence that it ends with on the wire; `mtu` that of the interface; `mss`
/// the payload of the flow's segments, if that is known; `flags` pcapng's `epb_flags`, whose upper half says what the
/// link layer found wrong.
///
/// # Errors
/// [`TooShort`] if its headers were cut.
pub fn prepare(
    frame: &mut Vec<u8>,
    missing: usize,
    fcs_len: u8,
    mtu: u16,
    mss: Option<u16>,
    flags: u32,
) -> Result<Arrival, TooShort> {
    let mut arrival =
        Arrival { csum: IpSummed::None, gso_size: 0, gso_segs: 0, errors: link_errors(flags), notes: Notes::default() };
    let missing = take_fcs_off(frame, missing, usize::from(fcs_len), &mut arrival);
    let Some(shape) = Shape::of(frame) else {
        if missing > 0 {
            return Err(TooShort { needed: EthernetHeader::LEN });
        }
        return Ok(arrival);
    };
    if missing > 0 {
        if frame.len() < shape.headers {
            return Err(TooShort { needed: shape.headers });
        }
        let whole = frame.len().saturating_add(missing).min(FRAME_MAX);
        frame.resize(whole.min(shape.whole.unwrap_or(whole)).max(frame.len()), 0);
        arrival.csum = IpSummed::Unnecessary;
        arrival.notes.add(Notes::CUT);
    }
    if let Some(segment) = shape.segment {
        segment.judge(frame, mtu, mss, &mut arrival);
    }
    Ok(arrival)
}

/// Bits 24 to 31 of `epb_flags`, as far as cards count them.
fn link_errors(flags: u32) -> RxErrors {
    let named = [(24, RxErrors::CRC), (25, RxErrors::OVERSIZE), (26, RxErrors::RUNT), (28, RxErrors::ALIGNMENT)];
    let set = named.into_iter().filter(|(bit, _)| flags >> bit & 1 == 1);
    set.fold(RxErrors::NONE, |errors, (_, error)| errors | error)
}

/// Takes the frame check sequence off, as far as it was captured, and verifies one that was captured whole. Gives how
/// many bytes of the frame itself are missing.
fn take_fcs_off(frame: &mut Vec<u8>, missing: usize, fcs_len: usize, arrival: &mut Arrival) -> usize {
    if fcs_len == 0 {
        return missing;
    }
    let there = fcs_len.saturating_sub(missing).min(frame.len());
    let (bytes, fcs) = frame.split_at(frame.len() - there);
    if let Some(fcs) = fcs.first_chunk::<4>().filter(|_| fcs_len == 4 && there == 4)
        && crc32(bytes) != u32::from_le_bytes(*fcs)
    {
        arrival.errors |= RxErrors::CRC;
    }
    frame.truncate(frame.len() - there);
    arrival.notes.add(Notes::FCS);
    missing.saturating_sub(fcs_len)
}

/// The CRC of IEEE 802.3 section 3.2.9, bit by bit: captures with a frame check sequence are rare.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// What a frame is, as far as it matters here.
struct Shape {
    /// Bytes of all headers that the path looks at.
    headers: usize,
    /// Bytes of the frame without padding, where the packet says it.
    whole: Option<usize>,
    /// Of an unfragmented TCP or UDP packet over IPv4.
    segment: Option<Segment>,
}

/// Where a transport packet lies in its frame.
#[derive(Clone, Copy)]
struct Segment {
    ip: usize,
    transport: usize,
    end: usize,
    protocol: u8,
}

impl Shape {
    /// Nothing if not even the Ethernet header is there.
    fn of(frame: &[u8]) -> Option<Shape> {
        let (header, _) = EthernetHeader::parse(frame)?;
        let (mut at, mut ethertype) = (EthernetHeader::LEN, header.ethertype());
        while matches!(ethertype, EtherType::VLAN | EtherType::QINQ) && at < EthernetHeader::LEN + 2 * TAG {
            let Some(tag) = frame.get(at..at + TAG) else { return Some(Shape::headers_only(at + TAG)) };
            ethertype = u16::from_be_bytes([tag[2], tag[3]]);
            at += TAG;
        }
        Some(match ethertype {
            EtherType::IPV4 => Shape::of_ipv4(frame, at),
            EtherType::IPV6 => Shape::headers_only(at + IPV6_HEADER),
            EtherType::ARP => Shape::headers_only(at + ArpPacket::LEN),
            _ => Shape::headers_only(at),
        })
    }

    fn headers_only(headers: usize) -> Shape {
        Shape { headers, whole: None, segment: None }
    }

    fn of_ipv4(frame: &[u8], at: usize) -> Shape {
        let Some((ip, _)) = frame.get(at..).and_then(Ipv4Header::parse) else {
            return Shape::headers_only(at + Ipv4Header::LEN);
        };
        let transport = at + ip.header_len().max(Ipv4Header::LEN);
        let whole = Some(at + usize::from(ip.total_len()));
        if ip.fragment_offset() > 0 {
            return Shape { headers: transport, whole, segment: None };
        }
        let tcp = frame.get(transport..).and_then(TcpHeader::parse);
        let headers = match ip.protocol() {
            IpProto::TCP => transport + tcp.map_or(TcpHeader::LEN, |(tcp, _)| tcp.header_len().max(TcpHeader::LEN)),
            IpProto::ICMP | IpProto::UDP => transport + SHORT_HEADER,
            _ => transport,
        };
        let end = at + usize::from(ip.total_len());
        let known = matches!(ip.protocol(), IpProto::TCP | IpProto::UDP) && !ip.is_fragment() && end >= headers;
        let segment = known.then_some(Segment { ip: at, transport, end, protocol: ip.protocol() });
        Shape { headers, whole, segment }
    }
}

impl Segment {
    /// Says of a whole frame what a card would: whether the checksum is open, and how many segments were merged.
    fn judge(self, frame: &[u8], mtu: u16, mss: Option<u16>, arrival: &mut Arrival) {
        let Segment { ip, transport, end, protocol } = self;
        let Some((header, _)) = frame.get(ip..).and_then(Ipv4Header::parse) else { return };
        let checksum_at = transport + if protocol == IpProto::TCP { 16 } else { 6 };
        let Some(field) = frame.get(checksum_at..checksum_at + 2) else { return };
        let pseudo = header.pseudo_sum(end - transport);
        let is_pseudo = u16::from_be_bytes([field[0], field[1]]) == pseudo;
        // One in 65,536 right checksums looks like an open one.
        let right = || frame.get(transport..end).is_some_and(|bytes| csum::sum_add(pseudo, csum::sum(bytes)) == 0xffff);
        if arrival.csum == IpSummed::None && is_pseudo && !right() {
            arrival.csum = IpSummed::Partial;
            arrival.notes.add(Notes::CSUM_OPEN);
        }
        if protocol != IpProto::TCP || end - ip <= usize::from(mtu) || frame.len() < end {
            return;
        }
        let Some((tcp, _)) = frame.get(transport..).and_then(TcpHeader::parse) else { return };
        let header_len = tcp.header_len();
        let fits = usize::from(mtu).saturating_sub(transport - ip + header_len).max(1);
        let size = mss.map_or(fits, |mss| fits.min(usize::from(mss).max(1)));
        let segments = (end - transport).saturating_sub(header_len).div_ceil(size);
        if segments > 1 {
            arrival.gso_size = u16::try_from(size).unwrap_or(u16::MAX);
            arrival.gso_segs = u16::try_from(segments).unwrap_or(u16::MAX);
            arrival.csum = IpSummed::Unnecessary;
            arrival.notes.add(Notes::SUPER_FRAME);
        }
    }
}
