//! ARP packets received: learned from, and answered.

use rxpath_mem::{PktType, Skb};
use rxpath_trace::{Consumed, DropReason, EventKind};
use rxpath_wire::{Addr, ArpPacket, ArpRepr, arp as wire_arp};

use super::arp_out::{mac_of, send};
use super::output;
use crate::cx::{Cx, End};
use crate::route::{self, AddrType, InputRoute};

/// `arp_rcv`: answers for our addresses, and learns from what it hears of neighbours.
#[cold]
pub fn arp_rcv(cx: &mut Cx, skb: Skb) -> End {
    if matches!(skb.pkt_type, PktType::OtherHost | PktType::Loopback) {
        return End::Consumed(skb, Consumed::Noted);
    }
    let Some((packet, _)) = ArpPacket::parse(skb.data()) else { return End::Drop(skb, DropReason::PktTooSmall) };
    let packet = *packet;
    cx.event(&skb, EventKind::ArpRcv, u32::from(packet.operation()), u32::from(packet.sender_ip()));
    // For all of these the kernel has no finer reason.
    if !packet.is_ipv4_over_ethernet() || !is_wanted(cx, &packet) {
        return End::Drop(skb, DropReason::NotSpecified);
    }
    let how = if arp_process(cx, skb.ifindex, skb.pkt_type, &packet) { Consumed::Answered } else { Consumed::Noted };
    End::Consumed(skb, how)
}

/// Whether operation and target are such as make sense.
fn is_wanted(cx: &Cx, packet: &ArpPacket) -> bool {
    let target = packet.target_ip();
    matches!(packet.operation(), wire_arp::REQUEST | wire_arp::REPLY)
        && !target.is_multicast()
        && (!target.is_loopback() || cx.net.fib.policy().route_localnet)
}

/// `arp_process`; true if it answered.
fn arp_process(cx: &mut Cx, ifindex: u16, pkt_type: PktType, packet: &ArpPacket) -> bool {
    let (sender, target) = (Addr::from(packet.sender_ip()), Addr::from(packet.target_ip()));
    let is_request = packet.operation() == wire_arp::REQUEST;
    if sender.is_unspecified() {
        // RFC 5227 section 2.1.1: a probe for a duplicate address, which is defended; nothing is learnt from it.
        return is_request && cx.net.fib.addr_type(target) == AddrType::Local && reply(cx, ifindex, packet);
    }
    let key = (ifindex, sender);
    let mac = packet.sender_mac();
    if is_request && route::input(&cx.net, ifindex, sender, target) == Ok(InputRoute::Local) {
        // A broadcast address is nobody's, so there is nothing to learn about it; the kernel answers all the same.
        let nobody = cx.net.fib.addr_type(sender) != AddrType::Unicast;
        return (nobody || output::update(cx, key, mac, false, true, true)) && reply(cx, ifindex, packet);
    }
    let proof = !is_request && pkt_type == PktType::Host;
    output::update(cx, key, mac, proof, is_gratuitous(packet), false);
    false
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
