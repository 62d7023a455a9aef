//! VLAN devices: interfaces of the stack that have no device of their own, but the frames of another interface (their
//! parent) that carry their tag (`vlan_do_receive`).
//!
//! Tags are taken out in software, behind receive offload, which passes tagged frames on as they are. (The kernel merges
//! behind a tag, too; merged and unmerged segments have the same outcome.) Priorities are not mapped: what is received
//! loses that of its tag, what is sent has 0.

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
    /// The tag that it sends with.
    pub const fn tag(self) -> VlanTag {
        VlanTag { tpid: self.tpid, tci: self.id }
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
            vlan_do_receive(cx, &mut skb, device);
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

/// `vlan_do_receive`: from now on the frame is one that `device` received. Its own address may be another than the parent's,
/// to which the frame was somebody else's then.
fn vlan_do_receive(cx: &mut Cx, skb: &mut Skb, device: u16) {
    let Some(mac) = cx.net.interface(device).map(|interface| interface.mac) else { return };
    skb.ifindex = device;
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
