//! What names the flow of a packet before anybody parsed it: for steering, and for recognising the next one.

use rxpath_mem::Skb;
use rxpath_wire::frame::flow_of_ipv4;
use rxpath_wire::{Addr, EtherType, FlowHasher, IcmpHeader, IpProto, Ipv4Header, Tuple, VlanTag, icmp as wire_icmp};

use crate::demux::MAX_NEST;

/// Protocols whose header begins with two ports.
#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    protocol == IpProto::TCP || protocol == IpProto::UDP
}

/// What names the flow of an IPv4 packet of TCP or UDP, as it stands in the packet: cheap to read and to compare. An ICMP
/// error is of the flow that it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// Source and destination address.
    addrs: [u8; 8],
    /// Source and destination port.
    ports: [u8; 4],
}

impl FlowKey {
    /// The key of the packets that come for a connection; None for one that is not of IPv4.
    pub(super) fn incoming(tuple: &Tuple) -> Option<FlowKey> {
        let mut key = FlowKey::default();
        key.addrs[..4].copy_from_slice(&tuple.remote.v4()?.octets());
        key.addrs[4..].copy_from_slice(&tuple.local.v4()?.octets());
        key.ports[..2].copy_from_slice(&tuple.remote_port.to_be_bytes());
        key.ports[2..].copy_from_slice(&tuple.local_port.to_be_bytes());
        Some(key)
    }

    /// Whether it is that of a packet with these addresses and ports, as they stand in it behind one another.
    #[inline(always)]
    pub(super) fn is(&self, addrs_and_ports: &[u8; 12]) -> bool {
        let (addrs, ports) = addrs_and_ports.split_at(8);
        self.addrs == addrs && self.ports == ports
    }

    /// The key of a packet whose data begins at the IP header, or at VLAN tags; None for fragments and other protocols.
    #[inline(always)]
    pub fn of(skb: &Skb) -> Option<FlowKey> {
        if skb.protocol != EtherType::IPV4 {
            return FlowKey::of_tagged(skb);
        }
        let data = skb.data();
        let fixed = data.first_chunk::<24>()?;
        let fragmented = (fixed[6] & 0x3f) | fixed[7] != 0;
        if fixed[0] != 0x45 || !has_ports(fixed[9]) || fragmented {
            return FlowKey::of_unusual(data);
        }
        let (addrs, ports) = (fixed[12..20].try_into().ok()?, fixed[20..24].try_into().ok()?);
        Some(FlowKey { addrs, ports })
    }

    /// VLAN tags in front of the packet: at most as many as VLAN devices may stand on one another.
    #[cold]
    fn of_tagged(skb: &Skb) -> Option<FlowKey> {
        let (mut protocol, mut packet) = (skb.protocol, skb.data());
        for _ in 0..MAX_NEST {
            if !EtherType::is_tag(protocol) {
                break;
            }
            let ([_, _, high, low], behind) = packet.split_first_chunk::<{ VlanTag::LEN }>()?;
            (protocol, packet) = (u16::from_be_bytes([*high, *low]), behind);
        }
        if protocol == EtherType::IPV4 { FlowKey::of_unusual(packet) } else { None }
    }

    /// IP options in front of the ports.
    #[cold]
    pub(crate) fn of_unusual(packet: &[u8]) -> Option<FlowKey> {
        let flow = flow_of_ipv4(packet).filter(|flow| !flow.is_fragment)?;
        if flow.proto == IpProto::ICMP {
            return FlowKey::of_quotation(packet);
        }
        if !has_ports(flow.proto) {
            return None;
        }
        let mut key = FlowKey::default();
        key.addrs[..4].copy_from_slice(&flow.src.v4()?.octets());
        key.addrs[4..].copy_from_slice(&flow.dst.v4()?.octets());
        key.ports[..2].copy_from_slice(&flow.sport.to_be_bytes());
        key.ports[2..].copy_from_slice(&flow.dport.to_be_bytes());
        Some(key)
    }

    /// The flow of a packet of ours that an ICMP error quotes, as its peer's packets name it.
    fn of_quotation(packet: &[u8]) -> Option<FlowKey> {
        let (ip, _) = Ipv4Header::parse(packet)?;
        let (header, quoted) = IcmpHeader::parse(packet.get(ip.header_len()..)?)?;
        if !wire_icmp::is_error(header.kind()) {
            return None;
        }
        let (inner, _) = Ipv4Header::parse(quoted)?;
        let ports = quoted.get(inner.header_len()..)?.first_chunk::<4>()?;
        if !has_ports(inner.protocol()) || inner.fragment_offset() != 0 {
            return None;
        }
        let [a, b, c, d] = *ports;
        let mut key = FlowKey { addrs: [0; 8], ports: [c, d, a, b] };
        key.addrs[..4].copy_from_slice(&inner.dst().octets());
        key.addrs[4..].copy_from_slice(&inner.src().octets());
        Some(key)
    }

    /// The keyed hash of the tuple that this key stands for.
    #[inline]
    pub fn hash(&self, hasher: &FlowHasher) -> u32 {
        let [a, b, c, d, e, f, g, h] = self.addrs;
        let [i, j, k, l] = self.ports;
        hasher.hash(&Tuple {
            local: Addr::from_v4([e, f, g, h]),
            remote: Addr::from_v4([a, b, c, d]),
            local_port: u16::from_be_bytes([k, l]),
            remote_port: u16::from_be_bytes([i, j]),
        })
    }
}
