//! A TCP segment as the merge sees it: positions, marks and a verified checksum.
//!
//! Offsets count from the Ethernet header of an IPv4 packet without options. Mirrors `tcp_gro_pull_header` and
//! `skb_gro_checksum_validate`.

use rxpath_arch::csum;
use rxpath_mem::Skb;
use rxpath_trace::GroPass;
use rxpath_wire::{IpProto, SeqNum, TcpFlags};

use crate::expect::{ETHERNET, FIXED, at, be16, be32};

/// A TCP segment over IPv4 that passed screening.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Bytes of all headers, Ethernet included: 54 to 94.
    pub header_len: usize,
    /// Payload bytes.
    pub len: u32,
    /// Sequence number.
    pub seq: SeqNum,
    /// IPv4 identification.
    pub id: u16,
    /// Control bits.
    pub flags: TcpFlags,
    /// The packet neither merges nor is held; of its flow it flushes what is.
    pub alone: bool,
    /// The checksum was computed here and is right.
    pub verified: bool,
}

impl Segment {
    /// Reads the TCP header in `frame`, the linear bytes of `skb` with the Ethernet header. The checksum of a packet that
    /// stays alone is left to TCP.
    ///
    /// # Errors
    /// Why the packet passes ahead of what is held: the header is short or the checksum is wrong.
    pub fn parse(skb: &Skb, frame: &[u8], alone: bool) -> Result<Segment, GroPass> {
        let fixed = frame.first_chunk::<FIXED>().ok_or(GroPass::IpHeader)?;
        let header_len = FIXED - 20 + usize::from(fixed[at::DATA_OFFSET] >> 4) * 4;
        let headers_fit = (FIXED..=frame.len()).contains(&header_len);
        if !headers_fit {
            return Err(GroPass::IpHeader);
        }
        let mut segment = Segment {
            header_len,
            len: (ETHERNET + skb.len() - header_len) as u32,
            seq: SeqNum(be32(fixed, at::SEQ)),
            id: be16(fixed, at::ID),
            flags: TcpFlags(fixed[at::FLAGS]),
            alone,
            verified: false,
        };
        if !alone && !skb.ip_summed.is_known_good() {
            if !sums_up(skb, frame) {
                return Err(GroPass::Checksum);
            }
            segment.verified = true;
        }
        Ok(segment)
    }

    /// Why the packet may not become the head of a merged one; None if it may.
    pub fn unholdable(&self) -> Option<GroPass> {
        if self.alone {
            return Some(GroPass::IpHeader);
        }
        if self.len == 0 {
            return Some(GroPass::NoPayload);
        }
        self.is_urgent().then_some(GroPass::Flags)
    }

    /// Whether a control bit asks for delivery at once.
    pub fn is_urgent(&self) -> bool {
        self.flags.0 & HASTE != 0
    }
}

/// Control bits after which nothing is merged.
const HASTE: u8 = TcpFlags::FIN.0 | TcpFlags::SYN.0 | TcpFlags::RST.0 | TcpFlags::PSH.0 | TcpFlags::URG.0;

/// Whether pseudo-header and segment, with its checksum, add up to all ones (RFC 9293 section 3.1). `frame` is the linear
/// part, from the Ethernet header on.
fn sums_up(skb: &Skb, frame: &[u8]) -> bool {
    let segment = &frame[at::TUPLE + 8..];
    let mut sum = csum::sum(segment);
    if skb.data_len() > 0 {
        sum = add_fragments(sum, segment.len(), skb);
    }
    let addresses = frame[at::TUPLE..].first_chunk::<8>().map_or(0, csum::sum_array);
    is_all_ones(u32::from(sum) + u32::from(addresses) + u32::from(IpProto::TCP) + (skb.len() - 20) as u32)
}

/// Whether a sum of at most 16 words, added as plain numbers, is all ones in ones' complement: a multiple of 65,535, but
/// not 0. One fold is enough: k times 65,535 is (k - 1) times 65,536 and 65,536 - k.
#[inline(always)]
pub(super) fn is_all_ones(sum: u32) -> bool {
    (sum >> 16) + (sum & 0xffff) == 0xffff
}

/// Adds the bytes behind the linear part to a sum over `len` bytes of it.
#[cold]
fn add_fragments(mut sum: u16, len: usize, skb: &Skb) -> u16 {
    let mut odd = len % 2 == 1;
    for fragment in skb.fragments().skip(1) {
        sum = csum::combine(sum, csum::sum(fragment), odd);
        odd ^= fragment.len() % 2 == 1;
    }
    sum
}
