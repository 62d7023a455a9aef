//! The link: Ethernet headers, the transmit queues, and their way into the devices.

use std::sync::Arc;

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{DropReason, Holder};
use rxpath_wire::{EtherType, EthernetHeader, EthernetRepr, IpProto, Ipv4Header, MacAddr, ethernet};

use super::bare::Bare;
use super::split::gso_segment;
use crate::cx::Cx;
use crate::demux::stats::DevStat;
use crate::demux::{insert_vlan_tag, priority_of, tap};
use crate::netns::NetConfig;
use crate::nic::{DeviceQueue, Xmit};

/// Frames that may wait for one device (`txqueuelen`).
pub const TX_QUEUE_LEN: usize = 1_000;
/// The number of no packet socket.
const NOBODY: u32 = 0;

/// The frames that wait for one device, on lines that no other Cpu writes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct TxQueue(SkbQueue);

/// Frames of one Cpu that wait for their device, complete with their Ethernet header.
#[derive(Debug, Default)]
pub struct Outbox {
    /// By index of the interface, from 1. Grows to the highest index that was used.
    queues: Vec<TxQueue>,
    /// Frames in all queues.
    waiting: usize,
    /// The segment of headers alone that was sent last.
    pub(super) bare: Bare,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// Frames that wait, for whatever device.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// True if no frame waits.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Frames that wait for the device of one interface, 0 to [`TX_QUEUE_LEN`].
    #[inline(always)]
    pub fn len_of(&self, ifindex: u16) -> usize {
        self.queues.get(usize::from(ifindex)).map_or(0, |queue| queue.0.len())
    }

    #[inline(always)]
    fn queue(&mut self, ifindex: u16) -> &mut SkbQueue {
        let place = usize::from(ifindex);
        if place >= self.queues.len() {
            self.grow(place);
        }
        &mut self.queues[place].0
    }

    #[cold]
    fn grow(&mut self, place: usize) {
        self.queues.resize_with(place + 1, TxQueue::default);
    }

    /// Takes all that waits for a device.
    #[inline(always)]
    pub(super) fn take(&mut self, ifindex: u16) -> SkbQueue {
        let queue = std::mem::take(self.queue(ifindex));
        self.waiting -= queue.len();
        queue
    }

    /// The frame that a device is to send next.
    #[inline(always)]
    fn front(&self, ifindex: u16) -> Option<&Skb> {
        self.queues.get(usize::from(ifindex))?.0.front()
    }

    /// Takes that frame.
    #[inline(always)]
    fn pop_front(&mut self, ifindex: u16) -> Option<Skb> {
        let skb = self.queues.get_mut(usize::from(ifindex))?.0.pop_front()?;
        self.waiting -= 1;
        Some(skb)
    }
}

/// Where the devices of a Cpu are to be found, by interface.
pub trait Devices {
    /// This Cpu's queue of the interface's device; None if it has none.
    fn device(&mut self, ifindex: u16) -> Option<&mut dyn DeviceQueue>;

    /// Hands a frame to a Cpu that has a queue of the device. Gives it back with the reason if there is no such Cpu, or
    /// if it does not keep up.
    ///
    /// # Errors
    /// The frame, and why it cannot leave.
    fn forward(&mut self, net: &NetConfig, ifindex: u16, skb: Skb) -> Result<(), (Skb, DropReason)> {
        let _ = (net, ifindex);
        Err((skb, DropReason::DevReady))
    }
}

/// `dev_hard_header`: puts the Ethernet header in front of what an interface is to send.
#[inline(always)]
pub(crate) fn push_ethernet(cx: &Cx, skb: &mut Skb, ifindex: u16, dst: MacAddr, ethertype: u16) {
    let src = cx.net.interface(ifindex).map_or(MacAddr::ZERO, |interface| interface.mac);
    ethernet::emit(skb.push(EthernetHeader::LEN), EthernetRepr { dst, src, ethertype });
}

/// `dev_queue_xmit`: a frame, Ethernet header first, waits for the device of `ifindex`. A full queue drops it.
#[inline]
pub fn dev_queue_xmit(cx: &mut Cx, mut skb: Skb, ifindex: u16) {
    skb.ifindex = ifindex;
    if skb.gso_size > 0 && is_udp(&skb) {
        return xmit_segments(cx, skb, ifindex);
    }
    if ifindex > cx.net.devices {
        return vlan_xmit(cx, skb, Some(NOBODY));
    }
    if cx.outbox.queue(ifindex).len() >= TX_QUEUE_LEN {
        return overflow(cx, skb, ifindex);
    }
    if cx.net.ptypes.has_taps() {
        tap::deliver_outgoing(cx, &skb, NOBODY);
    }
    enqueue(cx, skb, ifindex);
}

/// Whether a frame is of UDP over IPv4.
fn is_udp(skb: &Skb) -> bool {
    let packet = skb.data().get(EthernetHeader::LEN..).and_then(Ipv4Header::parse);
    packet.is_some_and(|(ip, _)| ip.version() == 4 && ip.protocol() == IpProto::UDP)
}

/// `validate_xmit_skb`: no device of ours cuts datagrams, so that is done here.
#[cold]
fn xmit_segments(cx: &mut Cx, mut skb: Skb, ifindex: u16) {
    let link = skb.data().first_chunk::<{ EthernetHeader::LEN }>().copied();
    let Some(link) = link.filter(|_| skb.pull(EthernetHeader::LEN)) else {
        return cx.drop_skb(skb, DropReason::SkbGsoSeg);
    };
    let mut segments = gso_segment(cx, skb);
    while let Some(mut segment) = segments.pop_front() {
        segment.push(EthernetHeader::LEN).copy_from_slice(&link);
        dev_queue_xmit(cx, segment, ifindex);
    }
}

/// `packet_xmit`: as [`dev_queue_xmit`], for a frame of the packet socket of number `sender`, which does not see it.
pub fn packet_xmit(cx: &mut Cx, mut skb: Skb, ifindex: u16, sender: u32) {
    skb.ifindex = ifindex;
    if ifindex > cx.net.devices {
        return vlan_xmit(cx, skb, Some(sender));
    }
    if cx.outbox.queue(ifindex).len() >= TX_QUEUE_LEN {
        return overflow(cx, skb, ifindex);
    }
    tap::deliver_outgoing(cx, &skb, sender);
    enqueue(cx, skb, ifindex);
}

#[inline(always)]
pub(super) fn enqueue(cx: &mut Cx, skb: Skb, ifindex: u16) {
    cx.hold(Holder::TxQueue);
    cx.outbox.queue(ifindex).push_back(skb);
    cx.outbox.waiting += 1;
}

/// `ndo_xdp_xmit`, `generic_xdp_tx`: as [`dev_queue_xmit`], for a frame that is not of the stack: no tap sees it.
pub fn xdp_xmit(cx: &mut Cx, mut skb: Skb, ifindex: u16) {
    skb.ifindex = ifindex;
    if ifindex > cx.net.devices {
        return vlan_xmit(cx, skb, None);
    }
    if cx.outbox.queue(ifindex).len() >= TX_QUEUE_LEN {
        return overflow(cx, skb, ifindex);
    }
    enqueue(cx, skb, ifindex);
}

/// The priority of a packet that this host sends (`skb->priority`): its own, as a hook may have given it one, or that of its
/// type of service.
fn priority(skb: &Skb) -> u8 {
    match Ipv4Header::parse(skb.network_header()) {
        _ if skb.priority() != 0 => skb.priority(),
        Some((ip, _)) if skb.protocol == EtherType::IPV4 => priority_of(ip.tos()),
        _ => 0,
    }
}

/// `vlan_dev_hard_start_xmit`: each VLAN device on the way down puts its tag into the frame, which then waits for the
/// device that they stand on. Taps see it on each, but for the sender's own; none do without a `sender`.
#[cold]
fn vlan_xmit(cx: &mut Cx, mut skb: Skb, sender: Option<u32>) {
    let net = Arc::clone(&cx.net);
    let mut ifindex = skb.ifindex;
    let priority = if sender == Some(NOBODY) { priority(&skb) } else { 0 };
    let sender = sender.filter(|_| net.ptypes.has_taps());
    while let Some((vlan, egress)) =
        net.interface(ifindex).and_then(|interface| Some((interface.vlan?, interface.egress)))
    {
        if let Some(sender) = sender {
            tap::deliver_outgoing(cx, &skb, sender);
        }
        let len = skb.len() as u64;
        let reason = if cx.outbox.len_of(net.root_of(ifindex)) >= TX_QUEUE_LEN {
            Some(DropReason::TxRingFull)
        } else if !insert_vlan_tag(cx, &mut skb, vlan.tag(egress.tag_of(priority))) {
            Some(DropReason::Nomem)
        } else {
            None
        };
        if let Some(reason) = reason {
            cx.dev.add(ifindex, DevStat::TxDropped, 1);
            return cx.drop_skb(skb, reason);
        }
        cx.dev.transmitted(ifindex, 1, len);
        ifindex = vlan.parent;
        skb.ifindex = ifindex;
    }
    if cx.outbox.len_of(ifindex) >= TX_QUEUE_LEN {
        return overflow(cx, skb, ifindex);
    }
    if let Some(sender) = sender {
        tap::deliver_outgoing(cx, &skb, sender);
    }
    enqueue(cx, skb, ifindex);
}

#[cold]
fn overflow(cx: &mut Cx, skb: Skb, ifindex: u16) {
    cx.dev.add(ifindex, DevStat::TxDropped, 1);
    cx.drop_skb(skb, DropReason::TxRingFull);
}

/// Hands what waits to the devices (`__qdisc_run`), at the end of a poll. What a busy device leaves goes first the next
/// time.
#[inline]
pub fn flush<D: Devices + ?Sized>(cx: &mut Cx, devices: &mut D) {
    if cx.outbox.is_empty() {
        return;
    }
    for place in 0..cx.outbox.queues.len() {
        if !cx.outbox.queues[place].0.is_empty() {
            flush_one(cx, devices, place as u16);
        }
    }
}

fn flush_one<D: Devices + ?Sized>(cx: &mut Cx, devices: &mut D, ifindex: u16) {
    let Some(device) = devices.device(ifindex) else { return forward_all(cx, devices, ifindex) };
    let (mut sent, mut bytes) = (0, 0);
    while let Some(front) = cx.outbox.front(ifindex) {
        let outcome = device.xmit(cx.now, front);
        if outcome == Xmit::Busy {
            break;
        }
        let Some(skb) = cx.outbox.pop_front(ifindex) else { break };
        cx.release(Holder::TxQueue);
        if outcome == Xmit::Sent {
            sent += 1;
            bytes += skb.len() as u64;
            cx.transmitted(skb, ifindex);
        } else {
            cx.dev.add(ifindex, DevStat::TxErrors, 1);
            cx.drop_skb(skb, DropReason::TxError);
        }
    }
    if sent > 0 {
        cx.dev.transmitted(ifindex, sent, bytes);
        device.flush(cx.now);
    }
}

/// Hands what waits to the Cpu that has a queue of the device; it stays held until that Cpu sends it.
#[cold]
fn forward_all<D: Devices + ?Sized>(cx: &mut Cx, devices: &mut D, ifindex: u16) {
    let mut queue = cx.outbox.take(ifindex);
    while let Some(skb) = queue.pop_front() {
        if let Err((skb, reason)) = devices.forward(&cx.net, ifindex, skb) {
            cx.release(Holder::TxQueue);
            cx.dev.add(ifindex, DevStat::TxDropped, 1);
            cx.drop_skb(skb, reason);
        }
    }
}

impl Outbox {
    /// Takes a frame that another Cpu forwarded. It is held already.
    pub fn take_over(&mut self, skb: Skb) {
        let ifindex = skb.ifindex;
        self.queue(ifindex).push_back(skb);
        self.waiting += 1;
    }
}

/// Drops what waits for a device that is not there.
#[cold]
fn purge_one(cx: &mut Cx, ifindex: u16, reason: DropReason) {
    let mut queue = cx.outbox.take(ifindex);
    while let Some(skb) = queue.pop_front() {
        cx.release(Holder::TxQueue);
        cx.dev.add(ifindex, DevStat::TxDropped, 1);
        cx.drop_skb(skb, reason);
    }
}

impl Outbox {
    /// Drops all that waits, for `reason`: when the stack goes.
    pub fn purge(cx: &mut Cx, reason: DropReason) {
        for place in 0..cx.outbox.queues.len() {
            purge_one(cx, place as u16, reason);
        }
    }
}
