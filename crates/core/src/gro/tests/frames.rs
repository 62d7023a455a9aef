//! Frames and streams of frames.

use proptest::prelude::*;
use rxpath_mem::{IpSummed, RxDesc};

use super::Step;

/// A frame as it lies in the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub hash: u32,
    pub csum: IpSummed,
    pub gso_size: u16,
    pub ifindex: u16,
    /// Bytes at which the device went on to a further descriptor.
    pub splits: Vec<usize>,
    /// No candidate for merging, which may overtake what is held.
    pub stray: bool,
}

impl Frame {
    pub fn desc(&self) -> RxDesc {
        RxDesc {
            len: self.bytes.len() as u32,
            hash: self.hash,
            csum: self.csum,
            gso_size: self.gso_size,
            ..RxDesc::default()
        }
    }
}

/// A TCP segment over IPv4, to be written.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub src_mac: u8,
    pub host: u8,
    pub port: u16,
    pub seq: u32,
    pub ack: u32,
    pub id: u16,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub ttl: u8,
    pub tos: u8,
    /// Flags and fragment offset.
    pub fragment: u16,
    pub ip_options: Vec<u8>,
    pub options: Vec<u8>,
    pub payload: usize,
    pub hash: u32,
}

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;
pub const DF: u16 = 0x4000;

impl Tcp {
    /// Data of flow number `flow`.
    pub fn flow(flow: u16) -> Tcp {
        Tcp {
            src_mac: 2,
            host: 1 + (flow / 3) as u8,
            port: 1_000 + flow,
            seq: 0xffff_ff00_u32.wrapping_add(u32::from(flow) * 100),
            ack: 7_777,
            id: 0xfff8_u16.wrapping_add(flow),
            flags: ACK,
            window: 500,
            urgent: 0,
            ttl: 64,
            tos: 0,
            fragment: DF,
            ip_options: Vec::new(),
            options: Vec::new(),
            payload: 100,
            hash: 0x1234_5600 | u32::from(flow + 1),
        }
    }

    /// Moves on to the segment that follows.
    pub fn advance(&mut self) {
        self.seq = self.seq.wrapping_add(self.payload as u32);
        self.id = self.id.wrapping_add(1);
    }

    /// The frame, with right checksums. The payload follows from sequence number and flow, so that a byte in the wrong
    /// place shows.
    pub fn frame(&self) -> Frame {
        let tcp = self.segment();
        let header_len = 20 + self.ip_options.len();
        let total_len = header_len + tcp.len();
        let mut ip = vec![0x40 | (header_len / 4) as u8, self.tos];
        ip.extend((total_len as u16).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, 6, 0, 0]);
        ip.extend(self.addresses());
        ip.extend(&self.ip_options);
        let checksum = checksum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());

        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, self.src_mac, 0x08, 0x00];
        bytes.extend(ip);
        bytes.extend(tcp);
        Frame {
            bytes,
            hash: self.hash,
            csum: IpSummed::None,
            gso_size: 0,
            ifindex: 1,
            splits: Vec::new(),
            stray: false,
        }
    }

    fn addresses(&self) -> [u8; 8] {
        [10, 0, 0, self.host, 10, 0, 1, 1]
    }

    fn segment(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.port.to_be_bytes());
        tcp.extend(80u16.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([((20 + self.options.len()) / 4 * 16) as u8, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(&self.options);
        for i in 0..self.payload as u32 {
            let place = self.seq.wrapping_add(i).wrapping_add(u32::from(self.port) << 16);
            tcp.push((place.wrapping_mul(0x9e37_79b9) >> 24) as u8);
        }
        let checksum = tcp_checksum(&self.addresses(), &tcp);
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        tcp
    }
}

/// The checksum field that belongs to a TCP segment whose field is zero; of a right one as it stands, 0.
pub fn tcp_checksum(addresses: &[u8], tcp: &[u8]) -> u16 {
    let mut covered = addresses.to_vec();
    covered.extend([0, 6]);
    covered.extend((tcp.len() as u16).to_be_bytes());
    covered.extend(tcp);
    checksum(&covered)
}

/// RFC 1071, as it is defined.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// How the next frame of a stream differs from plain continuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Flags(u8),
    Window,
    Ack,
    Tos,
    Ttl,
    DontFragment,
    Reserved,
    SameId,
    IdJump,
    Gap,
    Repeat,
    Shorter,
    Longer,
    Empty,
    Stamp,
    OtherOptions,
    OtherMac,
    OtherHash,
    OtherDevice,
    OffloadOff,
    Padded,
    /// As padded, but the trailing bytes lie in a descriptor of their own.
    PaddedBehind,
    Split,
    SplitTwice,
    SuperFrame,
    /// A super-frame as long as an ordinary frame.
    SmallSuperFrame,
    Verified,
    VerifiedByDeviceThoughWrong,
    UrgentPointer,
    BadTcpChecksum,
    BadIpChecksum,
    Fragment,
    IpOptions,
    ShortHeader,
    Udp,
    Arp,
    /// One bit of the frame is the other way round; with checksums that fit it, or as they were.
    Flip {
        byte: usize,
        bit: u8,
        mended: bool,
    },
    /// Only so many bytes arrived.
    Cut(usize),
}

impl Kind {
    fn is_stray(self) -> bool {
        use Kind::{Arp, BadIpChecksum, BadTcpChecksum, Fragment, IpOptions, ShortHeader, Udp};
        matches!(self, Arp | BadIpChecksum | BadTcpChecksum | Fragment | IpOptions | ShortHeader | Udp)
    }

    /// Whether cutting a merged packet again gives this frame byte for byte.
    pub fn is_kept(self) -> bool {
        use Kind::{Cut, Flip, UrgentPointer, VerifiedByDeviceThoughWrong};
        !matches!(self, Cut(_) | Flip { .. } | UrgentPointer | VerifiedByDeviceThoughWrong)
    }
}

/// How a flow is.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub mss: usize,
    /// Bytes of TCP options, a multiple of 4.
    pub options: usize,
    pub counts_ids: bool,
}

/// Writes the frames of a few flows, each kind of change upon the state that the frames before left.
pub struct Writer {
    flows: Vec<(Flow, Tcp)>,
}

impl Writer {
    pub fn new(flows: &[Flow], one_bucket: bool) -> Writer {
        let make = |(number, flow): (usize, &Flow)| {
            let mut tcp = Tcp::flow(number as u16);
            tcp.options = vec![1; flow.options];
            if flow.options >= 12 {
                tcp.options[2..4].copy_from_slice(&[8, 10]);
            }
            if one_bucket {
                tcp.hash = (number as u32 + 1) * 8;
            }
            (*flow, tcp)
        };
        Writer { flows: flows.iter().enumerate().map(make).collect() }
    }

    /// The next frame of a flow.
    pub fn write(&mut self, flow: usize, kind: Kind) -> Frame {
        let count = self.flows.len();
        let (flow, tcp) = &mut self.flows[flow % count];
        tcp.payload = flow.mss;
        // What stays changed for the rest of the flow.
        match kind {
            Kind::Window => tcp.window += 1,
            Kind::Ack => tcp.ack += 1,
            Kind::Tos => tcp.tos ^= 2,
            Kind::Ttl => tcp.ttl ^= 1,
            Kind::DontFragment => tcp.fragment ^= DF,
            Kind::SameId => tcp.id = tcp.id.wrapping_sub(1),
            Kind::IdJump => tcp.id = tcp.id.wrapping_add(1),
            Kind::Gap => tcp.seq = tcp.seq.wrapping_add(1),
            Kind::Repeat => tcp.seq = tcp.seq.wrapping_sub(flow.mss as u32),
            Kind::Shorter => tcp.payload = flow.mss.div_ceil(2),
            Kind::Longer => tcp.payload = flow.mss + 1,
            Kind::Empty => tcp.payload = 0,
            Kind::Stamp if flow.options >= 12 => tcp.options[7] = tcp.options[7].wrapping_add(1),
            Kind::SuperFrame => tcp.payload = flow.mss * 2,
            _ => {}
        }
        let frame = one_frame(tcp.clone(), kind, flow.mss as u16);
        let sent = !matches!(kind, Kind::Udp | Kind::Arp);
        if sent {
            tcp.advance();
        }
        if !flow.counts_ids {
            tcp.id = tcp.id.wrapping_sub(u16::from(sent));
        }
        frame
    }
}

/// The frame of one segment, with what is peculiar to it alone.
fn one_frame(mut tcp: Tcp, kind: Kind, mss: u16) -> Frame {
    match kind {
        Kind::Flags(flags) => tcp.flags ^= flags,
        Kind::Reserved => tcp.fragment |= 0x8000,
        Kind::OtherOptions => tcp.options = vec![1; (tcp.options.len() + 4) % 44],
        Kind::OtherMac => tcp.src_mac = 3,
        Kind::OtherHash => tcp.hash ^= 0x100,
        Kind::UrgentPointer => tcp.urgent = 9,
        Kind::Fragment => tcp.fragment |= 0x2000,
        Kind::IpOptions => tcp.ip_options = vec![1; 4],
        _ => {}
    }
    let mut frame = tcp.frame();
    frame.stray = kind.is_stray();
    let last = frame.bytes.len() - 1;
    match kind {
        Kind::OtherDevice => frame.ifindex = 2,
        Kind::OffloadOff => frame.ifindex = 3,
        Kind::Padded => frame.bytes.extend([0; 6]),
        Kind::PaddedBehind => {
            frame.splits = vec![frame.bytes.len()];
            frame.bytes.extend([0; 6]);
        }
        Kind::Split if last > 94 => frame.splits = vec![94 + (last - 94) / 2],
        Kind::SplitTwice if last > 99 => frame.splits = vec![95, 98],
        Kind::SuperFrame | Kind::SmallSuperFrame => {
            frame.gso_size = if kind == Kind::SuperFrame { mss } else { mss.div_ceil(2) };
            frame.csum = IpSummed::Unnecessary;
        }
        Kind::Verified => frame.csum = IpSummed::Unnecessary,
        Kind::VerifiedByDeviceThoughWrong => {
            frame.csum = IpSummed::Partial;
            frame.bytes[50] ^= 0x55;
        }
        Kind::BadTcpChecksum => frame.bytes[last] ^= 0x40,
        Kind::BadIpChecksum => frame.bytes[24] ^= 0x01,
        Kind::ShortHeader => frame.bytes[46] = 0x40,
        Kind::Udp => {
            frame.bytes[23] = 17;
            mend(&mut frame.bytes);
        }
        Kind::Arp => frame.bytes[12..14].copy_from_slice(&[0x08, 0x06]),
        Kind::Flip { byte, bit, mended } => {
            let at = byte % frame.bytes.len();
            frame.bytes[at] ^= 1 << (bit % 8);
            if mended {
                mend(&mut frame.bytes);
            }
        }
        Kind::Cut(len) => frame.bytes.truncate(len.clamp(14, last)),
        _ => {}
    }
    frame
}

/// Makes the checksums of a frame right again, headers of the usual lengths assumed.
fn mend(bytes: &mut [u8]) {
    bytes[24..26].fill(0);
    let sum = checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes[50..52].fill(0);
    let (headers, tcp) = bytes.split_at_mut(34);
    let sum = tcp_checksum(&headers[26..34], tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// Kinds of frames, most of them plain.
fn kind() -> impl Strategy<Value = Kind> {
    let rare = prop::sample::select(vec![
        Kind::Flags(FIN),
        Kind::Flags(SYN),
        Kind::Flags(RST),
        Kind::Flags(PSH),
        Kind::Flags(FIN | PSH),
        Kind::Flags(ACK),
        Kind::Flags(URG),
        Kind::Flags(ECE),
        Kind::Flags(CWR),
        Kind::Window,
        Kind::Ack,
        Kind::Tos,
        Kind::Ttl,
        Kind::DontFragment,
        Kind::Reserved,
        Kind::SameId,
        Kind::IdJump,
        Kind::Gap,
        Kind::Repeat,
        Kind::Shorter,
        Kind::Longer,
        Kind::Empty,
        Kind::Stamp,
        Kind::OtherOptions,
        Kind::OtherMac,
        Kind::OtherHash,
        Kind::OtherDevice,
        Kind::OffloadOff,
        Kind::Padded,
        Kind::PaddedBehind,
        Kind::Split,
        Kind::SplitTwice,
        Kind::SuperFrame,
        Kind::SmallSuperFrame,
        Kind::Verified,
        Kind::VerifiedByDeviceThoughWrong,
        Kind::UrgentPointer,
        Kind::BadTcpChecksum,
        Kind::BadIpChecksum,
        Kind::Fragment,
        Kind::IpOptions,
        Kind::ShortHeader,
        Kind::Udp,
        Kind::Arp,
    ]);
    let byte = prop_oneof![4 => 0..54usize, 1 => 0..2_000usize];
    let flip = (byte, 0..8u8, any::<bool>()).prop_map(|(byte, bit, mended)| Kind::Flip { byte, bit, mended });
    prop_oneof![4 => Just(Kind::Plain), 4 => rare, 1 => flip, 1 => (14..120usize).prop_map(Kind::Cut)]
}

fn flow() -> impl Strategy<Value = Flow> {
    let mss = prop::sample::select(vec![1, 2, 3, 10, 63, 64, 65, 128, 255, 256, 257, 536, 1_400]);
    let options = prop::sample::select(vec![0, 0, 12, 12, 4, 24, 40]);
    (mss, options, any::<bool>()).prop_map(|(mss, options, counts_ids)| Flow { mss, options, counts_ids })
}

/// What a random run does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Frames of one flow in a row: how many plain ones, then one of a kind.
    Frames {
        flow: usize,
        plain: usize,
        kind: Kind,
        more: bool,
    },
    Wait(u64),
    Flush(Option<u64>),
}

fn act() -> impl Strategy<Value = Act> {
    let frames = (any::<prop::sample::Index>(), 0..4usize, kind(), prop::bool::weighted(0.9));
    let frames = frames.prop_map(|(flow, plain, kind, more)| Act::Frames { flow: flow.index(64), plain, kind, more });
    prop_oneof![
        20 => frames,
        2 => (0..3u64).prop_map(Act::Wait),
        1 => prop::option::of(0..4u64).prop_map(Act::Flush),
    ]
}

/// Random runs over up to `flows` flows, of frames for which `wanted` holds.
pub fn steps(flows: usize, wanted: fn(Kind) -> bool) -> impl Strategy<Value = Vec<Step>> {
    let flows = prop::collection::vec(flow(), 1..=flows);
    (flows, any::<bool>(), prop::collection::vec(act(), 1..60)).prop_map(move |(flows, one_bucket, acts)| {
        let mut writer = Writer::new(&flows, one_bucket);
        let mut steps = Vec::new();
        for act in acts {
            match act {
                Act::Frames { flow, plain, kind, more } => {
                    for _ in 0..plain {
                        steps.push(Step::Frame { frame: writer.write(flow, Kind::Plain), more: true });
                    }
                    if wanted(kind) {
                        steps.push(Step::Frame { frame: writer.write(flow, kind), more });
                    }
                }
                Act::Wait(nanoseconds) => steps.push(Step::Wait(nanoseconds)),
                Act::Flush(age) => steps.push(Step::Flush(age)),
            }
        }
        steps
    })
}
