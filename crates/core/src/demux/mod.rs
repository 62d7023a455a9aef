//! Phase 3: from the frame to its protocol.
//!
//! [`eth_type_trans`] reads the Ethernet header in the driver's poll. [`vlan_receive`] takes a tag out of the frame, which
//! then goes another round as its VLAN's device received it; [`netif_receive_skb_core`] shows the packet to the taps and
//! finds the handler of its EtherType in [`Ptypes`].
//!
//! Mirrors `eth_type_trans`, `skb_vlan_untag`, `__netif_receive_skb_core`, `vlan_do_receive`, `deliver_skb`,
//! `dev_add_pack`.
//!
//! A protocol has one handler, not a list.
//!
//! Neighbours: [`crate::napi`] and [`crate::gro`] before it, [`crate::ip`] and [`crate::neigh`] behind it. Nothing here
//! panics on received bytes.

mod eth;
mod ptype;
pub mod stats;
pub mod tap;
#[cfg(test)]
mod tests;
mod vlan;

use rxpath_mem::Skb;
use rxpath_trace::{Consumed, DropReason, EventKind};

pub use self::eth::eth_type_trans;
pub(crate) use self::eth::insert_vlan_tag;
pub use self::ptype::{PacketType, Ptypes, Taken};
use self::stats::DevStat;
pub use self::stats::count_processed;
pub use self::vlan::{
    EgressMap, IngressMap, MAX_NEST, Round, Vlan, Vlans, is_tagged, priority_of, vlan_gro_receive, vlan_receive,
};
use crate::cx::{Cx, Fate};

/// `__netif_receive_skb_core`: a packet without a tag goes to the taps, and on to the handler of its protocol.
#[inline(always)]
pub fn netif_receive_skb_core(cx: &mut Cx, skb: Skb) -> Fate<(Skb, PacketType)> {
    count_processed(cx, 1);
    if cx.net.ptypes.has_taps() {
        let seen = tap::deliver(cx, &skb, None);
        return deliver_watched(cx, skb, seen);
    }
    cx.event(&skb, EventKind::NetifReceive, skb.pkt_type as u32, u32::from(skb.protocol));
    match cx.net.ptypes.lookup(skb.protocol) {
        Some(handler) => Fate::Pass((skb, handler)),
        None => unhandled(cx, skb),
    }
}

/// On to the handler of its protocol, for a packet that the taps saw already: the end of `__netif_receive_skb_core`.
/// `seen`: one of them counts as having taken it.
#[cold]
pub fn deliver_watched(cx: &mut Cx, skb: Skb, seen: bool) -> Fate<(Skb, PacketType)> {
    cx.event(&skb, EventKind::NetifReceive, skb.pkt_type as u32, u32::from(skb.protocol));
    let seen = tap::deliver_by_protocol(cx, &skb) || seen;
    match cx.net.ptypes.lookup(skb.protocol) {
        Some(handler) => Fate::Pass((skb, handler)),
        None if seen => Fate::Consumed(skb, Consumed::Tapped),
        None => unhandled(cx, skb),
    }
}

/// Nobody takes this protocol: the device counts it as dropped.
#[cold]
fn unhandled(cx: &mut Cx, skb: Skb) -> Fate<(Skb, PacketType)> {
    cx.dev.add(skb.ifindex, DevStat::RxDropped, 1);
    Fate::Drop(skb, DropReason::UnhandledProto)
}
