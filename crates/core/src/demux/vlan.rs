//! VLAN devices: interfaces of the stack that have no device of their own, but the frames of another interface (their
//! parent) that carry their tag (`vlan_do_receive`).
//!
//! Tags are taken out in software: in front of receive offload, which then merges what is behind them
//! ([`vlan_gro_receive`]), or where somebody wants to see the tags, behind it. So the figures of a VLAN device count frames as
//! they came, where the kernel's count what was merged of them. The priority of what is sent comes from its type
//! of service, and by the device's map into the tag ([`EgressMap`]); that of a tag becomes the packet's by another
//! ([`IngressMap`]), for hooks and deciders to see: forwarding gives a packet that of its type of service, as in the kernel.

use rxpath_mem::{PktType, Skb};
use rxpath_trace::{DropReason, EventKind};
use rxpath_wire::{EtherType, EthernetHeader, MacAddr, VlanTag};

use super::stats::{DevStat, count_processed};
use super::{eth, tap};
use crate::cx::{Cx, Fate};
use crate::netns::Interface;

/// How many VLAN devices may stand on one another: 802.1ad has two tags.
pub const MAX_NEST: usize = 2;

/// Which frames of its parent are a VLAN device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vlan {
    /// Index of the parent.
    pub parent: u16,
    /// The tag's EtherType: [`EtherType::VLAN`] (802.1Q) or [`EtherType::QINQ`] (802.1ad).
    pub tpid: u16,
    /// The VLAN, 0 to 4,094.
    pub id: u16,
}

impl Vlan {
    /// The tag that it sends with, of this priority.
    pub const fn tag(self, priority: u8) -> VlanTag {
        VlanTag { tpid: self.tpid, tci: (priority as u16) << 13 | self.id }
    }
}

/// Which priority a VLAN device writes into its tags, by that of the packet (`egress-qos-map`): 0 where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressMap([u8; EgressMap::PRIORITIES]);

impl EgressMap {
    /// Priorities that packets have, from 0 on (`TC_PRIO_MAX`).
    pub const PRIORITIES: usize = 16;
    /// Priorities that a tag has.
    pub const TAG_PRIORITIES: u8 = 8;

    /// Packets of this priority get this one in their tag. False if there is no such priority.
    pub fn set(&mut self, priority: u8, tag: u8) -> bool {
        match self.0.get_mut(usize::from(priority)) {
            Some(entry) if tag < EgressMap::TAG_PRIORITIES => {
                *entry = tag;
                true
            }
            _ => false,
        }
    }

    /// The tag's priority for a packet.
    pub fn tag_of(&self, priority: u8) -> u8 {
        self.0.get(usize::from(priority)).copied().unwrap_or(0)
    }
}

/// Which priority a packet has, by that of the tag that it came with (`ingress-qos-map`): 0 where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngressMap([u8; EgressMap::TAG_PRIORITIES as usize]);

impl IngressMap {
    /// Packets whose tag has this priority get this one. False if there is no such priority.
    pub fn set(&mut self, tag: u8, priority: u8) -> bool {
        match self.0.get_mut(usize::from(tag)) {
            Some(entry) if usize::from(priority) < EgressMap::PRIORITIES => {
                *entry = priority;
                true
            }
            _ => false,
        }
    }

    /// A packet's priority by its tag (`vlan_get_ingress_priority`).
    pub fn priority_of(&self, tag: VlanTag) -> u8 {
        self.0[usize::from(tag.tci >> 13)]
    }
}

/// `rt_tos2priority`: the priority that a type of service gives a packet (tc-prio(8)).
pub const fn priority_of(tos: u8) -> u8 {
    const BEST_EFFORT: u8 = 0;
    const BULK: u8 = 2;
    const INTERACTIVE_BULK: u8 = 4;
    const INTERACTIVE: u8 = 6;
    match (tos >> 3) & 3 {
        0 => BEST_EFFORT,
        1 => BULK,
        2 => INTERACTIVE,
        _ => INTERACTIVE_BULK,
    }
}

/// The VLAN devices by their parents and tags.
#[derive(Clone, Debug, Default)]
pub struct Vlans(Vec<(Vlan, u16)>);

impl Vlans {
    /// Those among `interfaces`.
    pub fn of(interfaces: &[Interface]) -> Vlans {
        let mut vlans: Vec<(Vlan, u16)> =
            interfaces.iter().filter_map(|interface| Some((interface.vlan?, interface.ifindex))).collect();
        vlans.sort_unstable();
        Vlans(vlans)
    }

    /// `vlan_find_dev`: the device of a tag that came by interface `parent`.
    pub fn find(&self, parent: u16, tag: VlanTag) -> Option<u16> {
        let wanted = Vlan { parent, tpid: tag.tpid, id: tag.id() };
        let place = self.0.binary_search_by_key(&wanted, |(vlan, _)| *vlan).ok()?;
        Some(self.0[place].1)
    }
}

/// Where the tags of a frame led.
#[derive(Debug)]
pub enum Round {
    /// To a VLAN device: it is as if that had received the frame.
    Again(Skb),
    /// To none: the frame goes to its protocol's handler.
    Here(Skb),
}

/// Whether a tag is in front of the packet.
#[inline(always)]
pub fn is_tagged(skb: &Skb) -> bool {
    // Nearly every packet is IPv4, which one comparison finds out.
    skb.protocol != EtherType::IPV4 && EtherType::is_tag(skb.protocol)
}

/// The part of `__netif_receive_skb_core` that tagged frames go through: the tag comes off, the taps see the frame, and its
/// id says whose it is.
///
/// An id that no device has makes it somebody else's (`OTHERHOST`); a priority tag (id 0) is as if it were not there, and
/// the tag behind it counts. Dropped as `NOT_SPECIFIED`, for which the kernel has no finer reason either, if a tag is cut
/// short.
#[cold]
pub fn vlan_receive(cx: &mut Cx, mut skb: Skb) -> Fate<Round> {
    count_processed(cx, 1);
    let Some(mut tag) = eth::skb_vlan_untag(cx, &mut skb) else { return Fate::Drop(skb, DropReason::NotSpecified) };
    if cx.net.ptypes.has_taps() {
        // Having seen it, a tap has not taken it yet: the tag decides first.
        tap::deliver(cx, &skb, Some(tag));
    }
    loop {
        if let Some(device) = cx.net.vlans.find(skb.ifindex, tag) {
            vlan_do_receive(cx, &mut skb, device, tag);
            return Fate::Pass(Round::Again(skb));
        }
        if tag.id() != 0 {
            skb.pkt_type = PktType::OtherHost;
            return Fate::Pass(Round::Here(skb));
        }
        if !is_tagged(&skb) {
            return Fate::Pass(Round::Here(skb));
        }
        match eth::skb_vlan_untag(cx, &mut skb) {
            Some(inner) => tag = inner,
            None => return Fate::Drop(skb, DropReason::NotSpecified),
        }
    }
}

/// `vlan_gro_receive`: a frame that is to be merged goes to its VLAN device before that, as long as nobody wants to see it
/// with its tag: a packet socket, a program in the generic door. One whose tag leads to no device passes as it is.
#[cold]
pub fn vlan_gro_receive(cx: &mut Cx, mut skb: Skb) -> Fate<Skb> {
    if cx.net.ptypes.has_taps() || cx.net.xdp_generic {
        return Fate::Pass(skb);
    }
    while is_tagged(&skb) && leads_to_device(cx, &skb) {
        skb = match vlan_receive(cx, skb).split() {
            Ok(Round::Again(skb) | Round::Here(skb)) => skb,
            Err(end) => return end.into_fate(),
        };
    }
    Fate::Pass(skb)
}

/// Whether a VLAN device has the frames with this tag, which is not taken out yet.
fn leads_to_device(cx: &Cx, skb: &Skb) -> bool {
    let Some([high, low]) = skb.data().first_chunk() else { return false };
    let tag = VlanTag { tpid: skb.protocol, tci: u16::from_be_bytes([*high, *low]) };
    cx.net.vlans.find(skb.ifindex, tag).is_some()
}

/// `vlan_do_receive`: from now on the frame is one that `device` received. Its own address may be another than the parent's,
/// to which the frame was somebody else's then.
fn vlan_do_receive(cx: &mut Cx, skb: &mut Skb, device: u16, tag: VlanTag) {
    let Some((mac, ingress)) = cx.net.interface(device).map(|interface| (interface.mac, interface.ingress)) else {
        return;
    };
    skb.ifindex = device;
    skb.set_priority(ingress.priority_of(tag));
    if skb.pkt_type == PktType::OtherHost && destination(skb) == Some(mac) {
        skb.pkt_type = PktType::Host;
    }
    cx.dev.received(device, 1, skb.len() as u64);
    if skb.pkt_type == PktType::Multicast {
        cx.dev.add(device, DevStat::Multicast, 1);
    }
    cx.event(skb, EventKind::VlanReceive, u32::from(device), skb.pkt_type as u32);
}

/// The address in the Ethernet header in front of the network header.
fn destination(skb: &Skb) -> Option<MacAddr> {
    let start = skb.network_off.checked_sub(EthernetHeader::LEN as u16)?;
    let (header, _) = EthernetHeader::parse(skb.head_bytes(start, EthernetHeader::LEN))?;
    Some(header.dst())
}
