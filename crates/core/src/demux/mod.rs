//! Phase 3: from the frame to its protocol.
//!
//! [`eth_type_trans`] reads the Ethernet header in the driver's poll; [`netif_receive_skb_core`] strips VLAN tags, shows
//! the packet to the taps and finds the handler of its EtherType in [`Ptypes`].
//!
//! Mirrors `eth_type_trans`, `skb_vlan_untag`, `__netif_receive_skb_core`, `deliver_skb`, `dev_add_pack`.
//!
//! There are no VLAN devices: a frame with a VLAN id is somebody else's (`OTHERHOST`), a priority tag (id 0) is taken off.
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

use rxpath_mem::{PktType, Skb};
use rxpath_trace::{Counter, DropReason, EventKind};
use rxpath_wire::EtherType;

pub use self::eth::eth_type_trans;
pub use self::ptype::{PacketType, Ptypes, Taken};
use self::stats::DevStat;
use crate::cx::{Cx, Fate};

/// `__netif_receive_skb_core`: the packet goes to the taps, and on to the handler of its protocol.
#[inline(always)]
pub fn netif_receive_skb_core(cx: &mut Cx, mut skb: Skb) -> Fate<(Skb, PacketType)> {
    count_processed(cx, 1);
    if is_vlan(skb.protocol) {
        match vlan_receive(cx, skb) {
            Ok(untagged) => skb = untagged,
            Err(malformed) => return Fate::Drop(malformed, DropReason::NotSpecified),
        }
    } else if cx.net.ptypes.has_taps() {
        tap::deliver(cx, &skb);
    }
    cx.event(&skb, EventKind::NetifReceive, skb.pkt_type as u32, u32::from(skb.protocol));
    match cx.net.ptypes.lookup(skb.protocol) {
        Some(handler) => Fate::Pass((skb, handler)),
        None => unhandled(cx, skb),
    }
}

/// So many packets came this far.
#[inline(always)]
pub fn count_processed(cx: &Cx, packets: u64) {
    cx.count_n(Counter::SoftnetProcessed, packets);
}

#[inline(always)]
fn is_vlan(protocol: u16) -> bool {
    // Nearly every packet is IPv4, which one comparison finds out.
    protocol != EtherType::IPV4 && (protocol == EtherType::VLAN || protocol == EtherType::QINQ)
}

/// A tagged frame: the tag comes off before the taps see it; its id decides afterwards whose frame it is. Gives the
/// packet back as an error if the tag is cut short, for which the kernel has no finer reason than `NOT_SPECIFIED`.
#[cold]
fn vlan_receive(cx: &mut Cx, mut skb: Skb) -> Result<Skb, Skb> {
    let Some(mut id) = eth::skb_vlan_untag(cx, &mut skb) else { return Err(skb) };
    if cx.net.ptypes.has_taps() {
        tap::deliver(cx, &skb);
    }
    // A priority tag (id 0) may be followed by a further tag; the frame's length bounds how many.
    while id == 0 && is_vlan(skb.protocol) {
        match eth::skb_vlan_untag(cx, &mut skb) {
            Some(inner) => id = inner,
            None => return Err(skb),
        }
    }
    if id != 0 {
        skb.pkt_type = PktType::OtherHost;
    }
    Ok(skb)
}

/// Nobody takes this protocol: the device counts it as dropped.
#[cold]
fn unhandled(cx: &mut Cx, skb: Skb) -> Fate<(Skb, PacketType)> {
    cx.dev.add(skb.ifindex, DevStat::RxDropped, 1);
    Fate::Drop(skb, DropReason::UnhandledProto)
}
