//! The whole receive path on one screen.
//!
//! A room works on one packet and never calls the next room; this file carries packets on. A burst comes from GRO or
//! from the backlog ([`crate::napi`]); it is looked at once, to prefetch what its packets will touch, and then each
//! packet runs to completion. Consecutive packets of one flow are a [`Run`]: one look-up, one lock.

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::Holder;
use rxpath_wire::{EthernetHeader, IpProto};

use crate::cx::{Cx, Fate};
use crate::demux::{self, PacketType, Round};
use crate::icmp::IcmpError;
use crate::ip::{self, Protocol};
use crate::netfilter::{self, Answer, HookPoint, Onward, Stolen};
use crate::nic::owner_cpu;
use crate::route::Forward;
use crate::socket::FlowTable;
use crate::tcp::{self, FlowKey, Known, Run, Source, Taken};
use crate::{icmp, neigh, raw, tx, udp, xdp};

/// Goes on with what the room passed, or ends the packet as the room decided.
macro_rules! room {
    ($cx:expr, $fate:expr) => {
        match $fate.split() {
            Ok(next) => next,
            Err(end) => return $cx.end(end),
        }
    };
}

/// `netif_receive_skb_list`: phases 3 to 7 for a burst, in order. The run stays open: the caller finishes it.
pub(crate) fn netif_receive_skb_list(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, burst: &mut SkbQueue) {
    tcp::early_demux(cx, flows, burst);
    while let Some(skb) = burst.pop_front() {
        cx.work_on(&skb);
        netif_receive_skb(cx, flows, run, skb);
    }
    cx.work_done();
}

/// Frames in the ring that are as the packet before them in all that the rooms look at: they need not be asked again, as
/// long as nobody stands in the rooms who wants to see every packet.
pub(crate) fn streak(cx: &mut Cx, run: &mut Run, source: &mut Source<'_>, limit: usize) -> Option<Taken> {
    if is_watched(cx) {
        return None;
    }
    let taken = run.streak(cx, source, limit)?;
    let packet_len = taken.frame_len - EthernetHeader::LEN;
    demux::count_processed(cx, taken.frames as u64);
    ip::count_passed(cx, taken.frames as u64, packet_len as u64, taken.tos, taken.frames as u64);
    Some(taken)
}

/// A packet of the flow of the last run, of which it is known that the rooms before TCP pass it. Or gives it back.
#[inline]
pub(crate) fn receive_known(
    cx: &mut Cx,
    flows: &mut FlowTable,
    run: &mut Run,
    known: &Known,
    skb: Skb,
) -> Result<(), Skb> {
    if is_watched(cx) {
        return Err(skb);
    }
    let Some((seg, tos)) = known.recognise(cx, flows, &skb) else { return Err(skb) };
    demux::count_processed(cx, 1);
    ip::count_passed(cx, 1, skb.len() as u64, tos, u64::from(skb.gso_segs.max(1)));
    tcp::deliver_known(cx, flows, run, known.id(), skb, &seg);
    Ok(())
}

/// Whether somebody stands in the rooms who wants to see every packet.
#[inline(always)]
fn is_watched(cx: &Cx) -> bool {
    let hooked = cx.net.hooks.any_at(HookPoint::PreRouting) || cx.net.hooks.any_at(HookPoint::LocalIn);
    hooked || cx.net.xdp_generic || cx.net.ptypes.has_taps() || cx.net.raw.any() || cx.life.on()
}

/// One packet, from the device to its protocol.
#[inline(always)]
fn netif_receive_skb(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb) {
    let skb = if cx.net.xdp_generic { room!(cx, xdp::do_xdp_generic(cx, skb)) } else { skb };
    let (skb, ptype) =
        room!(cx, if demux::is_tagged(&skb) { vlan_rounds(cx, skb) } else { demux::netif_receive_skb_core(cx, skb) });
    match ptype {
        PacketType::Ip => ip_receive(cx, flows, run, skb),
        PacketType::Arp => {
            let end = neigh::arp_rcv(cx, skb);
            cx.end(end);
        }
        PacketType::Registered(handler) => {
            let end = handler(cx, skb);
            cx.end(end);
        }
    }
}

/// A tagged frame goes another round for each VLAN device that its tags lead to (`another_round`).
#[cold]
pub(crate) fn vlan_rounds(cx: &mut Cx, mut skb: Skb) -> Fate<(Skb, PacketType)> {
    while demux::is_tagged(&skb) {
        skb = match demux::vlan_receive(cx, skb).split() {
            Ok(Round::Here(skb)) => return demux::deliver_watched(cx, skb, false),
            Ok(Round::Again(skb)) => skb,
            Err(end) => return end.into_fate(),
        };
        if cx.net.xdp_generic {
            skb = match xdp::do_xdp_generic(cx, skb).split() {
                Ok(skb) => skb,
                Err(end) => return end.into_fate(),
            };
        }
    }
    demux::netif_receive_skb_core(cx, skb)
}

/// Phase 4: an IPv4 packet, to local delivery.
#[inline(always)]
fn ip_receive(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb) {
    let skb = room!(cx, ip::rcv(cx, skb));
    let skb = room!(cx, netfilter::hook(cx, HookPoint::PreRouting, skb, || Onward::Receive));
    ip_receive_finish(cx, flows, run, skb);
}

/// Behind PREROUTING.
#[inline(always)]
fn ip_receive_finish(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb) {
    let (skb, way_on) = room!(cx, ip::rcv_finish(cx, skb, udp::early_demux));
    if let Some(way) = way_on {
        return ip_forward(cx, skb, &way);
    }
    if ip::is_fragment(&skb) {
        return fragment_receive(cx, flows, run, skb);
    }
    ip_local_deliver(cx, flows, run, skb);
}

/// A packet for another host: on to the interface that leads there.
#[cold]
fn ip_forward(cx: &mut Cx, skb: Skb, way: &Forward) {
    let skb = room!(cx, ip::forward(cx, skb, way));
    let skb = room!(cx, netfilter::hook(cx, HookPoint::Forward, skb, || Onward::Forward(*way)));
    tx::ip_forward_output(cx, skb, way);
}

/// A fragment: it waits, or makes its datagram whole, which goes on if this Cpu owns its flow.
#[cold]
fn fragment_receive(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb) {
    let mut whole = room!(cx, ip::defrag(cx, skb));
    cx.work_on(&whole);
    whole.hash = FlowKey::of(&whole).map_or(0, |key| key.hash(&cx.net.hasher));
    let owner = if whole.hash == 0 { cx.cpu } else { owner_cpu(whole.hash, cx.net.cpus) };
    if owner == cx.cpu {
        return ip_local_deliver(cx, flows, run, whole);
    }
    cx.hold(Holder::CpuBacklog);
    cx.reassembled.push((owner, whole));
}

/// Datagrams that another Cpu made whole, for flows of this one.
pub(crate) fn reassembled(cx: &mut Cx, flows: &mut FlowTable, datagrams: &mut SkbQueue) {
    let mut run = Run::none();
    while let Some(skb) = datagrams.pop_front() {
        cx.work_on(&skb);
        ip_local_deliver(cx, flows, &mut run, skb);
    }
    run.finish(cx, flows);
    cx.work_done();
}

/// What this host sent to a group or to all, and is for it too. Its way is known.
#[cold]
pub(crate) fn looped(cx: &mut Cx, flows: &mut FlowTable) {
    let mut run = Run::none();
    let mut packets = std::mem::take(&mut cx.looped);
    while let Some(skb) = packets.pop_front() {
        cx.release(Holder::CpuBacklog);
        cx.work_on(&skb);
        demux::count_processed(cx, 1);
        looped_receive(cx, flows, &mut run, skb);
    }
    run.finish(cx, flows);
    cx.work_done();
}

fn looped_receive(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb) {
    let skb = room!(cx, ip::rcv(cx, skb));
    let skb = room!(cx, netfilter::hook(cx, HookPoint::PreRouting, skb, || Onward::Looped));
    looped_receive_finish(cx, flows, run, skb);
}

fn looped_receive_finish(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb) {
    let (skb, _) = room!(cx, ip::rcv_finish(cx, skb, ip::looped_place));
    ip_local_deliver(cx, flows, run, skb);
}

/// Phase 5: a whole packet for this host.
#[inline(always)]
fn ip_local_deliver(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb) {
    let skb = room!(cx, netfilter::hook(cx, HookPoint::LocalIn, skb, || Onward::Deliver));
    ip_local_deliver_finish(cx, flows, run, skb);
}

/// Behind INPUT.
#[inline(always)]
fn ip_local_deliver_finish(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb) {
    let seen = cx.net.raw.any() && raw::local_deliver(cx, &skb);
    let (skb, protocol) = room!(cx, ip::local_deliver_finish(cx, skb, seen));
    match protocol {
        Protocol::Tcp => {
            let skb = room!(cx, tcp::v4_rcv(cx, skb));
            tcp::deliver(cx, flows, run, skb);
        }
        Protocol::Udp => {
            let end = udp::rcv(cx, skb);
            cx.end(end);
        }
        Protocol::Icmp => {
            let (skb, error) = room!(cx, icmp::rcv(cx, skb));
            icmp_error(cx, flows, run, skb, &error);
        }
        Protocol::Registered(handler) => {
            let end = handler(cx, skb);
            cx.end(end);
        }
    }
}

/// A packet that somebody kept at a hook goes on where it was.
#[cold]
pub(crate) fn nf_reinject(cx: &mut Cx, flows: &mut FlowTable, held: Stolen, answer: Answer, changed: Option<&[u8]>) {
    let (skb, onward) = room!(cx, netfilter::reinject(cx, held, answer, changed));
    let mut run = Run::none();
    match onward {
        Onward::Receive => ip_receive_finish(cx, flows, &mut run, skb),
        Onward::Looped => looped_receive_finish(cx, flows, &mut run, skb),
        Onward::Deliver => ip_local_deliver_finish(cx, flows, &mut run, skb),
        Onward::Forward(way) => tx::ip_forward_output(cx, skb, &way),
        Onward::Output(route) => tx::ip_output_again(cx, skb, route),
        Onward::Finish(mut route) => tx::ip_finish_output(cx, skb, &mut route),
        Onward::ForwardFinish(mut route) => tx::ip_forward_finish(cx, skb, &mut route),
    }
    run.finish(cx, flows);
    cx.work_done();
}

/// An ICMP error, to whoever sent the packet that it is about.
#[cold]
fn icmp_error(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb, error: &IcmpError) {
    run.finish(cx, flows);
    raw::err(cx, error, &skb);
    let known = match (cx.net.inet_protos.error_handler(error.protocol), error.protocol) {
        (Some(handler), _) => handler(cx, error),
        (None, IpProto::TCP) => tcp::v4_err(cx, flows, error, &skb),
        (None, IpProto::UDP) => udp::err(cx, error, &skb),
        (None, _) => true,
    };
    let end = icmp::delivered(cx, skb, known);
    cx.end(end);
}
