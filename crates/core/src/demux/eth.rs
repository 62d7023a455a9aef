//! The Ethernet header and the VLAN tag.

use rxpath_mem::{PktType, Skb};
use rxpath_trace::EventKind;
use rxpath_wire::{EtherType, EthernetHeader, MacAddr, VlanTag};

use super::stats::DevStat;
use crate::cx::Cx;

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

/// `skb_vlan_untag`: takes the tag out of a frame whose data starts behind the EtherType that says that a tag follows.
///
/// The addresses move up, so that the Ethernet header stays in front of the network header. None if the frame ends
/// within two bytes of the tag, or there is no memory to write it.
pub(super) fn skb_vlan_untag(cx: &mut Cx, skb: &mut Skb) -> Option<VlanTag> {
    let &[tag_high, tag_low, type_high, type_low, ..] = skb.data().first_chunk::<{ VlanTag::LEN + 2 }>()?;
    let tag = VlanTag { tpid: skb.protocol, tci: u16::from_be_bytes([tag_high, tag_low]) };
    let inner = u16::from_be_bytes([type_high, type_low]);
    if !cx.make_writable(skb) || !skb.unpull(EthernetHeader::LEN) {
        return None;
    }
    skb.data_mut().copy_within(0..2 * size_of::<MacAddr>(), VlanTag::LEN);
    let pulled = skb.pull(VlanTag::LEN + EthernetHeader::LEN);
    debug_assert!(pulled, "the tag and the header were there");
    skb.set_network_header_here();
    skb.protocol = if inner < EtherType::MIN { protocol_of_length_field(skb.data()) } else { inner };
    cx.event(skb, EventKind::VlanUntag, u32::from(tag.tci), u32::from(tag.tpid));
    Some(tag)
}

/// `__vlan_insert_tag`: puts a tag between the addresses and the EtherType of a frame. False, and nothing done, if there is
/// no room for it, or no memory to write it.
pub(crate) fn insert_vlan_tag(cx: &mut Cx, skb: &mut Skb, tag: VlanTag) -> bool {
    const ADDRESSES: usize = 2 * size_of::<MacAddr>();
    if skb.headlen() < EthernetHeader::LEN || !cx.make_writable(skb) || skb.headroom() < VlanTag::LEN {
        return false;
    }
    skb.push(VlanTag::LEN);
    let frame = skb.data_mut();
    frame.copy_within(VlanTag::LEN..VlanTag::LEN + ADDRESSES, 0);
    frame[ADDRESSES..ADDRESSES + 2].copy_from_slice(&tag.tpid.to_be_bytes());
    frame[ADDRESSES + 2..ADDRESSES + VlanTag::LEN].copy_from_slice(&tag.tci.to_be_bytes());
    skb.protocol = tag.tpid;
    true
}
