//! From a transport segment to a frame.

use std::net::Ipv4Addr;

use rxpath_mem::{IpSummed, PktType, Skb};
use rxpath_trace::{Counter, DropReason, Holder};
use rxpath_wire::{Addr, EtherType, EthernetHeader, IpProto, Ipv4Header, Ipv4Repr, TcpHeader, Tuple, UdpHeader, ipv4};

use super::bare::Numbers;
use super::outbox::{TX_QUEUE_LEN, dev_queue_xmit, enqueue, push_ethernet};
use super::split::{cut, too_big};
use crate::cx::{Cx, Fate};
use crate::neigh;
use crate::netfilter::{self, HookPoint, Onward};
use crate::nic::TruesizeModel;
use crate::route::{self, AddrType, Forward, Route};

/// What the IP header of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpFlow {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Transport protocol, of [`rxpath_wire::IpProto`].
    pub protocol: u8,
    /// Time to live, in hops.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Routers may not cut the packet.
    pub dont_fragment: bool,
    /// Identification; of a packet that the device cuts, that of the first segment.
    pub ident: u16,
}

/// `ip_queue_xmit`: sends a segment whose data starts at its transport header, checksum filled in or `Partial`, by a route
/// that was found before. A route that is not current any more is looked up again; without one the segment is dropped.
#[inline]
pub fn ip_queue_xmit(cx: &mut Cx, skb: Skb, flow: &IpFlow, route: &mut Route) {
    ip_build_and_send(cx, skb, flow, &[], route);
}

/// [`ip_queue_xmit`] with IP options, at most 40 bytes in whole words.
#[inline(always)]
pub(crate) fn ip_build_and_send(cx: &mut Cx, mut skb: Skb, flow: &IpFlow, options: &[u8], route: &mut Route) {
    if !route.is_current(&cx.net) && !reroute(cx, flow, route) {
        return no_route(cx, skb);
    }
    let (Some(src), Some(dst)) = (flow.src.v4(), flow.dst.v4()) else { return no_route(cx, skb) };
    let header_len = Ipv4Header::LEN + options.len();
    let Ok(total_len) = u16::try_from(skb.len() + header_len) else { return too_big(cx, skb) };
    skb.set_transport_header_here();
    push_header(&mut skb, flow, (src, dst), options, total_len);
    skb.set_network_header_here();
    skb.protocol = EtherType::IPV4;
    skb.ifindex = route.ifindex;
    cx.announce_output(&mut skb);
    cx.count(Counter::IpOutRequests);
    ip_local_out(cx, skb, route);
}

/// `ip_mc_output`: as [`ip_queue_xmit`], to a group or to all hosts of a link. What goes to a group that this host is in
/// comes back to it, unless the sender wants it otherwise (`looped`); what goes to all always does.
#[cold]
pub(crate) fn ip_mc_output(cx: &mut Cx, skb: Skb, flow: &IpFlow, route: &mut Route, looped: bool) {
    let multicast = flow.dst.is_multicast();
    let member = flow.dst.v4().is_some_and(|group| cx.net.groups.joined(route.ifindex, group));
    if looped && (!multicast || member) {
        loop_back(cx, &skb, flow, route);
    }
    // RFC 1112 section 6.1: it stays on this host. The kernel minds that of groups only that the host is in.
    if member && flow.ttl == 0 {
        return cx.drop_skb(skb, DropReason::NotSpecified);
    }
    let len = skb.len() + Ipv4Header::LEN;
    if len <= usize::from(route.mtu) {
        count_to_all(cx, multicast, len);
    }
    ip_build_and_send(cx, skb, flow, &[], route);
}

/// Counts a packet, or a fragment of one, that leaves for a group or for all hosts of a link.
fn count_to_all(cx: &mut Cx, multicast: bool, len: usize) {
    let (packets, octets) = match multicast {
        true => (Counter::IpExtOutMcastPkts, Counter::IpExtOutMcastOctets),
        false => (Counter::IpExtOutBcastPkts, Counter::IpExtOutBcastOctets),
    };
    cx.count(packets);
    cx.count_n(octets, len as u64);
}

/// `dev_loopback_xmit`: a copy of what is sent, as if it had come by the interface.
fn loop_back(cx: &mut Cx, skb: &Skb, flow: &IpFlow, route: &Route) {
    if cx.looped.len() > cx.net.sysctl.netdev_max_backlog as usize {
        return cx.count(Counter::SoftnetDropped);
    }
    let (Some(src), Some(dst)) = (flow.src.v4(), flow.dst.v4()) else { return };
    let Ok(total_len) = u16::try_from(skb.len() + Ipv4Header::LEN) else { return };
    let Some(mut copy) = cx.clone_of_output(skb) else { return };
    copy.set_transport_header_here();
    push_header(&mut copy, flow, (src, dst), &[], total_len);
    copy.set_network_header_here();
    (copy.protocol, copy.ifindex, copy.pkt_type) = (EtherType::IPV4, route.ifindex, PktType::Loopback);
    (copy.ip_summed, copy.gso_size) = (IpSummed::Unnecessary, skb.gso_size);
    copy.truesize = TruesizeModel::Kernel.charge(u32::from(total_len) + EthernetHeader::LEN as u32);
    cx.announce_output(&mut copy);
    cx.hold(Holder::CpuBacklog);
    cx.looped.push_back(copy);
}

#[inline(always)]
fn push_header(skb: &mut Skb, flow: &IpFlow, (src, dst): (Ipv4Addr, Ipv4Addr), options: &[u8], total_len: u16) {
    let repr = Ipv4Repr {
        src,
        dst,
        proto: flow.protocol,
        ttl: flow.ttl,
        tos: flow.tos,
        id: flow.ident,
        df: flow.dont_fragment,
        total_len,
    };
    let header = skb.push(Ipv4Header::LEN + options.len());
    ipv4::emit(header, repr);
    if !options.is_empty() {
        header[0] = 0x40 | (header.len() / 4) as u8;
        header[Ipv4Header::LEN..].copy_from_slice(options);
        ipv4::fill_checksum(header);
    }
}

/// Sends a packet that has its IP header, of `header_len` bytes, by a route (`raw_send_hdrinc`): no request of IP's.
pub(crate) fn ip_send_made(cx: &mut Cx, mut skb: Skb, header_len: usize, route: &mut Route) {
    skb.set_network_header_here();
    skb.transport_off = skb.network_off + header_len as u16;
    skb.protocol = EtherType::IPV4;
    skb.ifindex = route.ifindex;
    cx.announce_output(&mut skb);
    ip_local_out(cx, skb, route);
}

/// Looks the way up again after the configuration changed; what was kept of the next hop goes with the old way.
#[cold]
fn reroute(cx: &Cx, flow: &IpFlow, route: &mut Route) -> bool {
    match route::output_by(&cx.net, flow.dst, Some(flow.src), route.bound_to()) {
        Ok(found) => {
            *route = found;
            true
        }
        Err(_) => false,
    }
}

#[cold]
fn no_route(cx: &mut Cx, skb: Skb) {
    cx.count(Counter::IpOutNoRoutes);
    cx.drop_skb(skb, DropReason::IpOutnoroutes);
}

/// `ip_local_out`: the OUTPUT hook, then [`ip_output`].
#[inline(always)]
fn ip_local_out(cx: &mut Cx, skb: Skb, route: &mut Route) {
    let skb = match pass_hook(cx, HookPoint::LocalOut, skb, || Onward::Output(*route)) {
        Some(skb) => skb,
        None => return,
    };
    ip_output(cx, skb, route);
}

/// `ip_output`: the POSTROUTING hook, then the link.
#[inline(always)]
fn ip_output(cx: &mut Cx, skb: Skb, route: &mut Route) {
    let skb = match pass_hook(cx, HookPoint::PostRouting, skb, || Onward::Finish(*route)) {
        Some(skb) => skb,
        None => return,
    };
    ip_finish_output(cx, skb, route);
}

/// [`ip_output`] of a packet that was kept at the OUTPUT hook. Its destination may have been changed there, and so may the
/// configuration meanwhile: the way is looked up again then (`nf_reroute`).
#[cold]
pub(crate) fn ip_output_again(cx: &mut Cx, mut skb: Skb, mut route: Route) {
    let Some((src, dst)) = Ipv4Header::parse(skb.data()).map(|(header, _)| (header.src_addr(), header.dst_addr()))
    else {
        return cx.drop_skb(skb, DropReason::IpInhdr);
    };
    let direct = dst == route.nexthop || dst.is_multicast();
    if !direct || !route.is_current(&cx.net) {
        match route::output_by(&cx.net, dst, Some(src), route.bound_to()) {
            Ok(found) => route = found,
            Err(_) => return no_route(cx, skb),
        }
    }
    skb.ifindex = route.ifindex;
    ip_output(cx, skb, &mut route);
}

/// `ip_finish_output`: as it is, or in parts.
#[inline(always)]
pub(crate) fn ip_finish_output(cx: &mut Cx, skb: Skb, route: &mut Route) {
    if skb.len() > usize::from(route.mtu) && !segments_fit(&skb, route.mtu) {
        return ip_finish_output_slow(cx, skb, route);
    }
    ip_finish_output2(cx, skb, route);
}

/// `ip_output` of a packet for another host, which passed the FORWARD hook: the POSTROUTING hook, then the link.
#[cold]
pub(crate) fn ip_forward_output(cx: &mut Cx, mut skb: Skb, way: &Forward) {
    let Some(interface) = cx.net.interface(way.ifindex) else { return cx.drop_skb(skb, DropReason::DevReady) };
    let nexthop = Addr::from(way.nexthop);
    let mut route = Route {
        nexthop,
        src: nexthop,
        generation: cx.net.generation,
        mac: None,
        ifindex: way.ifindex,
        mtu: interface.mtu,
        features: interface.features,
        confirm: false,
        bound: false,
    };
    skb.ifindex = way.ifindex;
    let Some(skb) = pass_hook(cx, HookPoint::PostRouting, skb, || Onward::ForwardFinish(route)) else { return };
    ip_forward_finish(cx, skb, &mut route);
}

/// `ip_finish_output` of a packet for another host.
#[cold]
pub(crate) fn ip_forward_finish(cx: &mut Cx, skb: Skb, route: &mut Route) {
    let merged = skb.gso_size > 0;
    let cut_by_device = merged && route.features.tso && fits_in_segments(&skb, route.mtu);
    let fits = cut_by_device || (!merged && skb.len() <= usize::from(route.mtu));
    let open = skb.ip_summed == IpSummed::Partial && !merged && !route.features.tx_csum;
    if fits && !open {
        ip_finish_output2(cx, skb, route);
    } else {
        ip_finish_output_slow(cx, skb, route);
    }
}

/// `ip_finish_output` for a packet that cannot leave as it is.
#[cold]
fn ip_finish_output_slow(cx: &mut Cx, skb: Skb, route: &mut Route) {
    let multicast = match cx.net.fib.addr_type(route.nexthop) {
        AddrType::Multicast => Some(true),
        AddrType::Broadcast => Some(false),
        _ => None,
    };
    let mut parts = cut(cx, skb, usize::from(route.mtu));
    while let Some(part) = parts.pop_front() {
        if let Some(multicast) = multicast {
            count_to_all(cx, multicast, part.len());
        }
        ip_finish_output2(cx, part, route);
    }
}

/// Whether a packet that is longer than the interface allows leaves in segments that are not. TCP keeps its own to the way's
/// length; a segment of UDP has a header more.
#[inline(always)]
fn segments_fit(skb: &Skb, mtu: u16) -> bool {
    const HEADERS: usize = Ipv4Header::LEN + UdpHeader::LEN;
    skb.gso_size > 0 && HEADERS + usize::from(skb.gso_size) <= usize::from(mtu)
}

/// Whether each segment of a merged packet is short enough.
fn fits_in_segments(skb: &Skb, mtu: u16) -> bool {
    let network = usize::from(skb.transport_off.saturating_sub(skb.network_off));
    let is_tcp = Ipv4Header::parse(skb.data()).is_some_and(|(ip, _)| ip.protocol() == IpProto::TCP);
    let tcp = skb.data().get(network..).and_then(TcpHeader::parse).filter(|_| is_tcp);
    let transport = tcp.map_or(UdpHeader::LEN, |(tcp, _)| tcp.header_len());
    network + transport + usize::from(skb.gso_size) <= usize::from(mtu)
}

/// The packet, if the hooks of the point let it go on; else it has ended or is held.
#[inline(always)]
fn pass_hook(cx: &mut Cx, point: HookPoint, skb: Skb, onward: impl FnOnce() -> Onward) -> Option<Skb> {
    match netfilter::hook(cx, point, skb, onward) {
        Fate::Pass(skb) => Some(skb),
        ended => {
            if let Err(end) = ended.split() {
                cx.end(end);
            }
            None
        }
    }
}

/// `ip_finish_output2`: the Ethernet header, from the route if it has it, else by way of the neighbour table.
#[inline(always)]
fn ip_finish_output2(cx: &mut Cx, mut skb: Skb, route: &mut Route) {
    cx.count(Counter::IpOutTransmits);
    cx.count_n(Counter::IpExtOutOctets, skb.len() as u64);
    if let Some((mac, generation)) = route.mac
        && generation == cx.neigh.generation()
    {
        push_ethernet(cx, &mut skb, route.ifindex, mac, EtherType::IPV4);
        return dev_queue_xmit(cx, skb, route.ifindex);
    }
    let confirm = std::mem::take(&mut route.confirm);
    route.mac = neigh::resolve_output(cx, skb, route.ifindex, route.nexthop, confirm);
}

/// Whether somebody on the way out wants to see every packet.
#[inline(always)]
fn is_watched(cx: &Cx) -> bool {
    let hooked = cx.net.hooks.any_at(HookPoint::LocalOut) || cx.net.hooks.any_at(HookPoint::PostRouting);
    hooked || cx.net.ptypes.has_taps() || cx.life.on()
}

/// Sends a segment without payload or urgent pointer, in an empty packet, as the one before it was sent: as
/// [`ip_queue_xmit`] does behind a TCP header. Gives the packet back if it is not like that one.
#[inline(always)]
pub(crate) fn xmit_bare(cx: &mut Cx, mut skb: Skb, tuple: &Tuple, numbers: &Numbers, route: &Route) -> Result<(), Skb> {
    let is_like = cx.outbox.bare.is_like(cx, tuple, numbers, route);
    if !is_like || is_watched(cx) || cx.outbox.len_of(route.ifindex) >= TX_QUEUE_LEN {
        return Err(skb);
    }
    cx.outbox.bare.write(&mut skb, numbers);
    cx.count(Counter::IpOutRequests);
    cx.count(Counter::IpOutTransmits);
    cx.count_n(Counter::IpExtOutOctets, (skb.len() - EthernetHeader::LEN) as u64);
    enqueue(cx, skb, route.ifindex);
    Ok(())
}

/// A segment without payload went the whole way.
#[inline(never)]
pub(crate) fn sent_bare(cx: &mut Cx, tuple: &Tuple, numbers: &Numbers, route: &Route) {
    let mut bare = std::mem::take(&mut cx.outbox.bare);
    bare.note(cx, tuple, numbers, route);
    cx.outbox.bare = bare;
}
