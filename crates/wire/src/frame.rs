//! What a NIC and a trace filter read off a raw frame: who talks to whom, without judging the
//! packet.

use crate::{Addr, EtherType, EthernetHeader, IpProto, Ipv4Header, TcpHeader};

/// VLAN tags that are looked behind: 802.1ad allows two.
const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are looked behind; a longer chain gives no ports.
const MAX_EXTENSIONS: usize = 8;
const IPV6_HEADER_LEN: usize = 40;

/// The parts of a frame that name its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKeyParts {
    /// The network protocol, [`EtherType::IPV4`] or [`EtherType::IPV6`], behind VLAN tags.
    pub ethertype: u16,
    /// The source address.
    pub src: Addr,
    /// The destination address.
    pub dst: Addr,
    /// The transport protocol; of an IPv6 packet the last header that was reached.
    pub proto: u8,
    /// The source port of TCP or UDP; 0 where the header is not there to be read. The first
    /// fragment of a datagram has ports, the others have not, so what must treat all fragments
    /// alike looks at `is_fragment` before it uses them.
    pub sport: u16,
    /// The destination port, as `sport`.
    pub dport: u16,
    /// Whether the packet is a part of a datagram.
    pub is_fragment: bool,
    /// The control bits of a TCP header; 0 where there is none.
    pub tcp_flags: u8,
}

/// Reads the flow off an Ethernet frame (kernel: `skb_flow_dissect`, of which this is a small
/// part). `None` when the frame is not IP, or too short or too malformed to have addresses. Bytes
/// beyond the IP packet's own length are not read.
#[inline]
pub fn flow_of(frame: &[u8]) -> Option<FlowKeyParts> {
    let (ethernet, mut packet) = EthernetHeader::parse(frame)?;
    let mut ethertype = ethernet.ethertype();
    for _ in 0..MAX_TAGS {
        if !EtherType::is_tag(ethertype) {
            break;
        }
        let ([_, _, high, low], behind) = packet.split_first_chunk::<4>()?;
        ethertype = u16::from_be_bytes([*high, *low]);
        packet = behind;
    }
    match ethertype {
        EtherType::IPV4 => flow_of_ipv4(packet),
        EtherType::IPV6 => flow_of_ipv6(packet),
        _ => None,
    }
}

/// [`flow_of`] for an IPv4 packet without its link header.
#[inline]
pub fn flow_of_ipv4(packet: &[u8]) -> Option<FlowKeyParts> {
    let (ip, _) = Ipv4Header::parse(packet)?;
    if ip.version() != 4 || ip.ihl() < 5 {
        return None;
    }
    let mut flow = FlowKeyParts {
        ethertype: EtherType::IPV4,
        src: ip.src_addr(),
        dst: ip.dst_addr(),
        proto: ip.protocol(),
        sport: 0,
        dport: 0,
        is_fragment: ip.is_fragment(),
        tcp_flags: 0,
    };
    if ip.fragment_offset() == 0 {
        let end = packet.len().min(usize::from(ip.total_len()));
        flow.read_transport(packet.get(ip.header_len()..end).unwrap_or_default());
    }
    Some(flow)
}

/// [`flow_of`] for an IPv6 packet without its link header.
pub fn flow_of_ipv6(packet: &[u8]) -> Option<FlowKeyParts> {
    let (header, rest) = packet.split_first_chunk::<IPV6_HEADER_LEN>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut flow = FlowKeyParts {
        ethertype: EtherType::IPV6,
        src: Addr(*header[8..].first_chunk()?),
        dst: Addr(*header[24..].first_chunk()?),
        proto: header[6],
        sport: 0,
        dport: 0,
        is_fragment: false,
        tcp_flags: 0,
    };
    flow.walk_extensions(&rest[..rest.len().min(payload_len)]);
    Some(flow)
}

impl FlowKeyParts {
    /// Follows the chain of IPv6 extension headers (RFC 8200 section 4) to the transport header, as
    /// far as the bytes go.
    fn walk_extensions(&mut self, mut rest: &[u8]) {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const AUTHENTICATION: u8 = 51;
        const DESTINATION: u8 = 60;
        for _ in 0..MAX_EXTENSIONS {
            let Some(&[next, len, offset_high, offset_low]) = rest.first_chunk::<4>() else {
                return;
            };
            let extension_len = match self.proto {
                HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(len) + 1) * 8,
                AUTHENTICATION => (usize::from(len) + 2) * 4,
                FRAGMENT => {
                    let word = u16::from_be_bytes([offset_high, offset_low]);
                    self.is_fragment |= word & 0xfff9 != 0;
                    if word & 0xfff8 != 0 {
                        // Behind the header of a later fragment comes the middle of something.
                        self.proto = next;
                        return;
                    }
                    8
                }
                _ => return self.read_transport(rest),
            };
            let Some(behind) = rest.get(extension_len..) else {
                return;
            };
            self.proto = next;
            rest = behind;
        }
    }

    #[inline]
    fn read_transport(&mut self, segment: &[u8]) {
        if !matches!(self.proto, IpProto::TCP | IpProto::UDP | IpProto::UDPLITE) {
            return;
        }
        let Some(&[a, b, c, d]) = segment.first_chunk::<4>() else {
            return;
        };
        self.sport = u16::from_be_bytes([a, b]);
        self.dport = u16::from_be_bytes([c, d]);
        if self.proto == IpProto::TCP
            && let Some((tcp, _)) = TcpHeader::parse(segment)
        {
            self.tcp_flags = tcp.flags().0;
        }
    }
}
