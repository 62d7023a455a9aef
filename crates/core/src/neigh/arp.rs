//! ARP packets received: learned from, and answered.

use rxpath_mem::{PktType, Skb};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind};
use rxpath_wire::{Addr, ArpPacket, ArpRepr, arp as wire_arp};

use super::arp_out::{mac_of, send};
use super::{output, proxy};
use crate::cx::{Cx, End};
use crate::netns::{IfAddr, NetConfig};
use crate::route::{self, AddrType, InputRoute, RouteKind};

/// `arp_rcv`: answers for our addresses and for those that we are a proxy of, and learns from what it hears of neighbours.
#[cold]
pub fn arp_rcv(cx: &mut Cx, skb: Skb) -> End {
    if matches!(skb.pkt_type, PktType::OtherHost | PktType::Loopback) {
        return End::Consumed(skb, Consumed::Noted);
    }
    let Some((packet, _)) = ArpPacket::parse(skb.data()) else { return End::Drop(skb, DropReason::PktTooSmall) };
    let packet = *packet;
    cx.event(&skb, EventKind::ArpRcv, u32::from(packet.operation()), u32::from(packet.sender_ip()));
    // For all of these the kernel has no finer reason.
    if !packet.is_ipv4_over_ethernet() || !is_wanted(&cx.net, skb.ifindex, &packet) {
        return End::Drop(skb, DropReason::NotSpecified);
    }
    let at_once = skb.pkt_type == PktType::Host || cx.net.neigh(skb.ifindex).proxy_delay == 0;
    match arp_process(cx, skb.ifindex, skb.pkt_type, &packet, at_once) {
        Processed::Answered => End::Consumed(skb, Consumed::Answered),
        Processed::Noted => End::Consumed(skb, Consumed::Noted),
        Processed::Later => proxy::enqueue(cx, skb, u32::from(packet.target_ip())),
    }
}

/// `parp_redo`: a request whose time has come to be answered for another host, if that is still to be done.
pub(super) fn redo(cx: &mut Cx, skb: Skb) -> End {
    let Some((packet, _)) = ArpPacket::parse(skb.data()) else { return End::Drop(skb, DropReason::PktTooSmall) };
    let packet = *packet;
    let how = match arp_process(cx, skb.ifindex, skb.pkt_type, &packet, true) {
        Processed::Answered => Consumed::Answered,
        Processed::Noted | Processed::Later => Consumed::Noted,
    };
    End::Consumed(skb, how)
}

/// What became of an ARP packet.
enum Processed {
    Answered,
    Noted,
    /// It is to be answered for another host, but not yet.
    Later,
}

impl Processed {
    fn answered(answered: bool) -> Processed {
        if answered { Processed::Answered } else { Processed::Noted }
    }
}

/// Whether operation and target are such as make sense.
fn is_wanted(net: &NetConfig, ifindex: u16, packet: &ArpPacket) -> bool {
    let (conf, target) = (net.conf(ifindex), packet.target_ip());
    matches!(packet.operation(), wire_arp::REQUEST | wire_arp::REPLY)
        && !target.is_multicast()
        && (!target.is_loopback() || conf.route_localnet)
        && !(conf.drop_gratuitous_arp && packet.sender_ip() == target)
}

/// `arp_ignore`: whether a request of `sender` for `target`, an address of ours, is passed over (`ip-sysctl`).
fn arp_ignore(net: &NetConfig, ifindex: u16, sender: Addr, target: Addr) -> bool {
    let has = |own: &IfAddr| own.addr == target;
    let of_interface = || net.interface(ifindex).and_then(|interface| interface.addresses.iter().find(|own| has(own)));
    match net.conf(ifindex).arp_ignore {
        1 => of_interface().is_none(),
        2 => of_interface().is_none_or(|own| !own.reaches(sender) && !sender.is_unspecified()),
        3 => net.interface_of(target).is_none(),
        8 => true,
        _ => false,
    }
}

/// `arp_accept`: whether a host that is unknown and not asked for becomes a neighbour by what it tells of itself.
fn arp_accept(net: &NetConfig, ifindex: u16, sender: Addr) -> bool {
    match net.conf(ifindex).arp_accept {
        1 => true,
        2 => net.interface(ifindex).is_some_and(|interface| interface.addresses.iter().any(|own| own.reaches(sender))),
        _ => false,
    }
}

/// `arp_filter`: whether a request of `sender` is passed over since packets to it do not leave by the interface.
fn arp_filter(cx: &Cx, ifindex: u16, sender: Addr) -> bool {
    if !cx.net.conf(ifindex).arp_filter {
        return false;
    }
    match cx.net.fib.lookup(sender).map(|way| (way.kind, way.ifindex)) {
        Some((RouteKind::Unicast | RouteKind::Broadcast, way)) if way == ifindex => false,
        Some((RouteKind::Unicast | RouteKind::Broadcast | RouteKind::Local, _)) => {
            cx.count(Counter::TcpExtArpFilter);
            true
        }
        _ => true,
    }
}

/// `arp_process`. Unless `at_once`, an answer for another host is for later.
fn arp_process(cx: &mut Cx, ifindex: u16, pkt_type: PktType, packet: &ArpPacket, at_once: bool) -> Processed {
    let (sender, target) = (Addr::from(packet.sender_ip()), Addr::from(packet.target_ip()));
    let is_request = packet.operation() == wire_arp::REQUEST;
    if sender.is_unspecified() {
        // RFC 5227 section 2.1.1: a probe for a duplicate address, which is defended; nothing is learnt from it.
        let ours = is_request && cx.net.fib.addr_type(target) == AddrType::Local;
        let answered = ours && !arp_ignore(&cx.net, ifindex, sender, target) && reply(cx, ifindex, packet);
        return Processed::answered(answered);
    }
    let key = (ifindex, sender);
    let mac = packet.sender_mac();
    let place = if is_request { route::input(&cx.net, ifindex, sender, target).ok() } else { None };
    match place {
        Some(InputRoute::Local) => {
            if arp_ignore(&cx.net, ifindex, sender, target) || arp_filter(cx, ifindex, sender) {
                return Processed::Noted;
            }
            // A broadcast address is nobody's, so there is nothing to learn about it; the kernel answers all the same.
            let nobody = cx.net.fib.addr_type(sender) != AddrType::Unicast;
            let known = nobody || output::update(cx, key, mac, false, true, true);
            return Processed::answered(known && reply(cx, ifindex, packet));
        }
        Some(InputRoute::Forward(way))
            if proxy::answers(&cx.net, &cx.neigh.proxies, ifindex, (sender, target), way) =>
        {
            output::update(cx, key, mac, false, true, true);
            return if at_once { Processed::answered(reply(cx, ifindex, packet)) } else { Processed::Later };
        }
        _ => {}
    }
    let proof = !is_request && pkt_type == PktType::Host;
    let gratuitous = is_gratuitous(packet);
    let about_itself = gratuitous || !is_request && cx.net.fib.addr_type(sender) == AddrType::Unicast;
    let make = about_itself && arp_accept(&cx.net, ifindex, sender);
    output::update(cx, key, mac, proof, gratuitous, make);
    Processed::Noted
}

/// RFC 5944 section 4.6: a request for the sender's own address, or a reply to itself.
fn is_gratuitous(packet: &ArpPacket) -> bool {
    let own = packet.sender_ip() == packet.target_ip();
    own && (packet.operation() == wire_arp::REQUEST || packet.target_mac() == packet.sender_mac())
}

/// Answers a request.
fn reply(cx: &mut Cx, ifindex: u16, request: &ArpPacket) -> bool {
    let to = request.sender_mac();
    let repr = ArpRepr {
        operation: wire_arp::REPLY,
        sender_mac: mac_of(cx, ifindex),
        sender_ip: request.target_ip(),
        target_mac: to,
        target_ip: request.sender_ip(),
    };
    send(cx, ifindex, to, repr)
}
