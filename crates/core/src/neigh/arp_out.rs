//! ARP packets sent.

use rxpath_trace::OutputWhat;
use rxpath_wire::{Addr, ArpPacket, ArpRepr, EtherType, MacAddr, arp as wire_arp};

use super::entry::Whom;
use crate::cx::Cx;
use crate::route::{self, AddrType};
use crate::tx;

/// `arp_solicit`: asks for `target`. In whose name, of `src` (what waits is from) and the interface, `arp_announce` says.
pub(super) fn solicit(cx: &mut Cx, ifindex: u16, target: Addr, whom: Whom, src: Option<Addr>) {
    let to = match whom {
        Whom::Itself(mac) => mac,
        Whom::Everybody => MacAddr::BROADCAST,
        Whom::Daemon => return,
    };
    let known_to_target = |src: &Addr| match cx.net.conf(ifindex).arp_announce {
        0 => true,
        1 => route::share_network(&cx.net, ifindex, *src, target),
        _ => false,
    };
    let ours = src.filter(|src| cx.net.fib.addr_type(*src) == AddrType::Local && known_to_target(src));
    let chosen = ours.or_else(|| route::source_for(cx.net.interface(ifindex)?, target)).and_then(|src| src.v4());
    let (Some(src), Some(target)) = (chosen, target.v4()) else { return };
    let repr = ArpRepr {
        operation: wire_arp::REQUEST,
        sender_mac: mac_of(cx, ifindex),
        sender_ip: src,
        target_mac: MacAddr::ZERO,
        target_ip: target,
    };
    send(cx, ifindex, to, repr);
}

/// The hardware address of an interface of ours.
pub(super) fn mac_of(cx: &Cx, ifindex: u16) -> MacAddr {
    cx.net.interface(ifindex).map_or(MacAddr::ZERO, |interface| interface.mac)
}

/// `arp_send_dst`: a frame to `to`. False if there is no memory even in the reserve.
pub(super) fn send(cx: &mut Cx, ifindex: u16, to: MacAddr, repr: ArpRepr) -> bool {
    let what = if repr.operation == wire_arp::REPLY { OutputWhat::ArpReply } else { OutputWhat::ArpRequest };
    let Some(mut skb) = cx.alloc_output(what, ArpPacket::LEN, true) else { return false };
    wire_arp::emit(skb.put(ArpPacket::LEN), repr);
    skb.set_network_header_here();
    skb.protocol = EtherType::ARP;
    cx.announce_output(&mut skb);
    tx::push_ethernet(cx, &mut skb, ifindex, to, EtherType::ARP);
    tx::dev_queue_xmit(cx, skb, ifindex);
    true
}
