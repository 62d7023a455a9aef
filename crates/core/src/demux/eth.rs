//! The Ethernet header and the VLAN tag.

use rxpath_mem::{PktType, Skb};
use rxpath_trace::EventKind;
use rxpath_wire::{EtherType, EthernetHeader, MacAddr};

use super::stats::DevStat;
use crate::cx::Cx;

/// Bytes of a VLAN tag: control information and the EtherType behind it.
const VLAN_HLEN: usize = 4;

/// `eth_type_trans`: reads the Ethernet header of a frame from interface `ifindex`, whose address is `mac`, and pulls it.
///
/// Sets `ifindex`, `pkt_type`, `protocol` and the network header. False, and nothing done, if the frame is shorter than
/// the header: the driver drops it as `DEV_HDR`.
#[inline(always)]
pub fn eth_type_trans(cx: &mut Cx, skb: &mut Skb, ifindex: u16, mac: MacAddr) -> bool {
    let Some((header, payload)) = EthernetHeader::parse(skb.data()) else { return false };
    let dst = header.dst();
    let mut protocol = header.ethertype();
    if protocol < EtherType::MIN {
        protocol = protocol_of_length_field(payload);
    }
    let pkt_type = if dst == mac { PktType::Host } else { pkt_type_of_foreign(cx, ifindex, dst) };
    skb.ifindex = ifindex;
    skb.protocol = protocol;
    skb.pkt_type = pkt_type;
    let pulled = skb.pull(EthernetHeader::LEN);
    debug_assert!(pulled, "the header was parsed");
    skb.set_network_header_here();
    cx.event(skb, EventKind::EthTypeTrans, pkt_type as u32, u32::from(protocol));
    true
}

/// The packet type of a frame whose destination is not the interface's own address.
fn pkt_type_of_foreign(cx: &Cx, ifindex: u16, dst: MacAddr) -> PktType {
    if dst.is_broadcast() {
        PktType::Broadcast
    } else if dst.is_multicast() {
        cx.dev.add(ifindex, DevStat::Multicast, 1);
        PktType::Multicast
    } else {
        PktType::OtherHost
    }
}

/// 802.3 frames carry a length where Ethernet II has a type; Novell's raw form begins with a checksum of all ones.
#[cold]
fn protocol_of_length_field(payload: &[u8]) -> u16 {
    if payload.starts_with(&[0xff, 0xff]) { EtherType::RAW_802_3 } else { EtherType::LLC_802_2 }
}

/// `skb_vlan_untag`: takes the tag out of a frame whose data starts behind the tag's EtherType, and gives the VLAN id.
///
/// The addresses move up, so that the Ethernet header stays in front of the network header. None if the frame ends
/// within two bytes of the tag, or there is no memory to write it.
pub(super) fn skb_vlan_untag(cx: &mut Cx, skb: &mut Skb) -> Option<u16> {
    let &[tag_high, tag_low, type_high, type_low, ..] = skb.data().first_chunk::<{ VLAN_HLEN + 2 }>()?;
    let inner = u16::from_be_bytes([type_high, type_low]);
    if !cx.make_writable(skb) || !skb.unpull(EthernetHeader::LEN) {
        return None;
    }
    skb.data_mut().copy_within(0..2 * size_of::<MacAddr>(), VLAN_HLEN);
    let pulled = skb.pull(VLAN_HLEN + EthernetHeader::LEN);
    debug_assert!(pulled, "the tag and the header were there");
    skb.set_network_header_here();
    skb.protocol = if inner < EtherType::MIN { protocol_of_length_field(skb.data()) } else { inner };
    Some(u16::from_be_bytes([tag_high, tag_low]) & 0x0fff)
}
