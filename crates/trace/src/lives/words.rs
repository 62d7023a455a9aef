//! Each event in words.

use std::net::Ipv4Addr;

use super::Names;
use super::facts::halves;
use crate::counters::Counter;
use crate::event::{
    AckWhy, DatagramFound, Event, EventKind, GroPass, LookupKind, MadeHow, OutputWhat, SlowWhy, TcpState,
};
use crate::ledger::Consumed;
use crate::reason::DropReason;

/// What happened, as a clause that begins with the kernel's function. `station` is the last station before, for an end
/// that several functions may bring about.
pub(super) fn say(event: &Event, station: Option<&Event>, names: &Names) -> String {
    let &Event { a, b, kind, .. } = event;
    match kind {
        EventKind::Offered
        | EventKind::Missed
        | EventKind::OutputMade
        | EventKind::Made
        | EventKind::Cloned
        | EventKind::TapClone
        | EventKind::TapRead => birth_or_tap(event),
        EventKind::Harvested
        | EventKind::Xdp
        | EventKind::EthTypeTrans
        | EventKind::GroHeld
        | EventKind::GroMerged
        | EventKind::GroPassed
        | EventKind::GroFlushed
        | EventKind::CpuBacklog
        | EventKind::CpuBacklogTaken
        | EventKind::VlanUntag
        | EventKind::NetifReceive
        | EventKind::ArpRcv
        | EventKind::ArpHeld => napi_or_demux(event),
        EventKind::IpRcv
        | EventKind::Addresses
        | EventKind::Hook
        | EventKind::Reinjected
        | EventKind::EarlyDemux
        | EventKind::RouteLocal
        | EventKind::RouteForward
        | EventKind::FragHeld
        | EventKind::LocalDeliver
        | EventKind::IcmpRcv => ip(event),
        EventKind::TcpV4Rcv
        | EventKind::Ports
        | EventKind::LookupHit
        | EventKind::LookupMiss
        | EventKind::SocketBacklog
        | EventKind::SocketBacklogTaken
        | EventKind::RstSent => tcp(event),
        EventKind::FastPath
        | EventKind::SlowPath
        | EventKind::AckTaken
        | EventKind::StateChange
        | EventKind::Queued
        | EventKind::Coalesced
        | EventKind::OutOfOrder
        | EventKind::OfoDrained
        | EventKind::AckNow
        | EventKind::AckDelayed
        | EventKind::Woken => socket(event),
        EventKind::VlanReceive => {
            let (device, to) = (names.device_name(a as u16), pkt_type(b));
            format!("vlan_do_receive: {device} has it now, {to}")
        }
        EventKind::UdpRcv | EventKind::DatagramLookup | EventKind::DatagramQueued | EventKind::DatagramRecv => {
            datagram(event)
        }
        EventKind::RecvPart => format!("tcp_recvmsg: the application read {a} bytes of it (read {b} of this socket)"),
        EventKind::Recv => format!("tcp_recvmsg: the application read {a} bytes, its last (read {b} of this socket)"),
        EventKind::NeighHeld => {
            let asked = because(event, ", which ", " asks for");
            format!("neigh_resolve_output: it waits for the address of {}{asked} ({b} waiting)", Ipv4Addr::from_bits(a))
        }
        EventKind::Transmitted => {
            let (ifindex, queue) = halves(b);
            format!("dev_hard_start_xmit: {} took {a} bytes on queue {queue}", names.device_name(ifindex))
        }
        EventKind::Dropped => dropped(event, station),
        EventKind::Consumed => consumed(event, station),
        EventKind::Lost => format!("the life ring was full: {a} events were lost"),
    }
}

fn birth_or_tap(event: &Event) -> String {
    let &Event { a, b, other, .. } = event;
    match event.kind {
        EventKind::Offered => format!("the device wrote {a} bytes into a posted slot and set the done bit"),
        EventKind::Missed => format!("the device had {a} bytes and found no posted slot"),
        EventKind::OutputMade => {
            let what = or_number(OutputWhat::from_number(a).map(OutputWhat::words), "a packet of kind", a);
            format!("alloc_skb: {what} of {b} bytes{}", because(event, ", because of ", ""))
        }
        EventKind::Made => {
            let how = or_number(MadeHow::from_number(a).map(MadeHow::words), "made in way", a);
            format!("alloc_skb: {how}, {b} bytes{}", because(event, ", out of ", ""))
        }
        EventKind::Cloned => format!("skb_clone: made from {other}, {a} bytes for tap {b}"),
        EventKind::TapClone => format!("deliver_skb: tap {b} got a clone, {other}, of {a} bytes"),
        _ => format!("packet_recvmsg: the reader of tap {b} took {a} bytes"),
    }
}

/// The name of a netfilter hook point.
fn hook_point(number: u32) -> String {
    match number {
        0 => "PRE_ROUTING".to_string(),
        1 => "LOCAL_IN".to_string(),
        2 => "FORWARD".to_string(),
        3 => "LOCAL_OUT".to_string(),
        4 => "POST_ROUTING".to_string(),
        hook => format!("hook {hook}"),
    }
}

/// The name of a netfilter verdict; of QUEUE, with the queue's number.
fn verdict(number: u32) -> String {
    match (number & 0xffff, number >> 16) {
        (0, _) => "DROP".to_string(),
        (1, _) => "ACCEPT".to_string(),
        (2, _) => "STOLEN".to_string(),
        (3, queue) => format!("QUEUE {queue}"),
        (4, _) => "REPEAT".to_string(),
        (verdict, _) => format!("verdict {verdict}"),
    }
}

fn napi_or_demux(event: &Event) -> String {
    let &Event { a, b, other, .. } = event;
    match event.kind {
        EventKind::Harvested => {
            let hash = if a == 0 { String::new() } else { format!(", flow hash {a:#010x}") };
            let checksum = match b {
                1 => ", checksum verified by the device",
                2 => ", checksum computed by the device",
                3 => ", checksum vouched for by the device",
                _ => "",
            };
            format!("napi_poll took it from the ring{hash}{checksum}")
        }
        EventKind::Xdp => {
            let action = match a {
                0 => "ABORTED".to_string(),
                1 => "DROP".to_string(),
                2 => "PASS".to_string(),
                3 => "TX".to_string(),
                4 => "REDIRECT".to_string(),
                action => format!("action {action}"),
            };
            format!("bpf_prog_run_xdp: the {} program says {action}", if b == 0 { "native" } else { "generic" })
        }
        EventKind::EthTypeTrans => format!("eth_type_trans: {}, EtherType {b:#06x}", pkt_type(a)),
        EventKind::GroHeld => {
            let among = if b > 1 { format!(", one of {b} in its bucket") } else { String::new() };
            format!("napi_gro_receive holds it, {a} bytes of payload, to merge others into it{among}")
        }
        EventKind::GroMerged => {
            format!("napi_gro_receive: merged into {other}, {a} bytes of payload, its segment {b}")
        }
        EventKind::GroPassed => {
            let why = or_number(GroPass::from_number(a).map(GroPass::words), "reason", a);
            format!("napi_gro_receive passed it on ({why})")
        }
        EventKind::GroFlushed if a == 1 => format!("napi_gro_complete let it go alone, {b} bytes of payload"),
        EventKind::GroFlushed => format!("napi_gro_complete let it go with {a} segments, {b} bytes of payload"),
        EventKind::CpuBacklog => {
            format!("enqueue_to_backlog: its flow belongs to Cpu {a}, on whose backlog it waits ({b} waiting)")
        }
        EventKind::CpuBacklogTaken => format!("process_backlog took it from the backlog ({a} left)"),
        EventKind::VlanUntag => {
            let priority = if a >> 13 == 0 { String::new() } else { format!(", priority {}", a >> 13) };
            format!("skb_vlan_untag: tag {b:#06x}, VLAN {}{priority}", a & 0xfff)
        }
        EventKind::NetifReceive => format!(
            "__netif_receive_skb_core: {}, EtherType {b:#06x}{}",
            pkt_type(a),
            match b {
                0x0800 => " -> ip_rcv",
                0x0806 => " -> arp_rcv",
                0x86dd => " -> ipv6_rcv",
                _ => "",
            }
        ),
        EventKind::ArpHeld => {
            format!("pneigh_enqueue: to be answered for {} in {} ms", Ipv4Addr::from_bits(a), b / 1_000)
        }
        _ => {
            let sender = Ipv4Addr::from_bits(b);
            match a {
                1 => format!("arp_rcv: a request by {sender}"),
                2 => format!("arp_rcv: a reply by {sender}"),
                op => format!("arp_rcv: operation {op} by {sender}"),
            }
        }
    }
}

fn ip(event: &Event) -> String {
    let &Event { a, b, .. } = event;
    match event.kind {
        EventKind::IpRcv => format!("ip_rcv: the header is sound, {a} bytes, TTL {b}"),
        EventKind::Addresses => format!("{} -> {}", Ipv4Addr::from_bits(a), Ipv4Addr::from_bits(b)),
        EventKind::Hook => format!("nf_hook_slow: {} says {}", hook_point(a), verdict(b)),
        EventKind::Reinjected => format!("nf_reinject: back at {} with {}", hook_point(a), verdict(b)),
        EventKind::EarlyDemux if a == 0 => "tcp_v4_early_demux found its connection".to_string(),
        EventKind::EarlyDemux => format!("tcp_v4_early_demux found its connection, socket {a}"),
        EventKind::RouteLocal => {
            let to = match a {
                0 | 2 => "for this host".to_string(),
                3 => "broadcast, for this host too".to_string(),
                5 => "multicast, for this host too".to_string(),
                route => format!("route type {route}"),
            };
            let spared = if b == 1 { " (the connection remembers the route)" } else { "" };
            format!("ip_route_input_noref: {to}{spared}")
        }
        EventKind::RouteForward => {
            format!("ip_route_input_noref: for another host, by way of {} on interface {b}", Ipv4Addr::from_bits(a))
        }
        EventKind::FragHeld => {
            format!("ip_frag_queue holds it, {b} bytes of payload from byte {a} on, until the others are there")
        }
        EventKind::LocalDeliver => {
            let handler = match a {
                1 => " -> icmp_rcv".to_string(),
                6 => " -> tcp_v4_rcv".to_string(),
                17 => " -> udp_rcv".to_string(),
                _ => String::new(),
            };
            format!("ip_local_deliver_finish: protocol {a}{handler}")
        }
        _ => match (a, b) {
            (0, _) => "icmp_rcv: an echo reply".to_string(),
            (8, _) => "icmp_rcv: an echo request".to_string(),
            (ty, code) => format!("icmp_rcv: type {ty}, code {code}"),
        },
    }
}

fn tcp(event: &Event) -> String {
    let &Event { a, b, .. } = event;
    match event.kind {
        EventKind::TcpV4Rcv if b == 0 => format!("tcp_v4_rcv: seq {a}, no payload"),
        EventKind::TcpV4Rcv => format!("tcp_v4_rcv: seq {a}, {b} bytes of payload"),
        EventKind::Ports => {
            let (source, destination) = halves(a);
            format!("port {source} -> port {destination}, flags {}", flag_names(b as u8))
        }
        EventKind::LookupHit => {
            let found = or_number(LookupKind::from_number(a).map(LookupKind::words), "a socket of kind", a);
            let socket = if b == 0 { String::new() } else { format!(", socket {b}") };
            format!("__inet_lookup_skb found {found}{socket}")
        }
        EventKind::LookupMiss => "__inet_lookup_skb found no socket".to_string(),
        EventKind::SocketBacklog => {
            format!("tcp_add_backlog: the application holds the socket, so it waits ({a} bytes of truesize waiting)")
        }
        EventKind::SocketBacklogTaken => "__release_sock: the application let go, and it goes on".to_string(),
        _ => format!("tcp_v4_send_reset: a reset answers it, seq {a}, ack {b}{}", because(event, ", in ", "")),
    }
}

fn socket(event: &Event) -> String {
    let &Event { a, b, other, .. } = event;
    match event.kind {
        EventKind::FastPath => format!("tcp_rcv_established: fast path, {a} bytes"),
        EventKind::SlowPath => {
            let why = or_number(SlowWhy::from_number(a).map(SlowWhy::words), "reason", a);
            format!("{}: slow path, as {why}", event.function())
        }
        EventKind::AckTaken => format!("tcp_ack: {a} bytes newly acknowledged, the peer's window is {b}"),
        EventKind::StateChange => {
            let state = |n| or_number(TcpState::from_number(n).map(TcpState::words), "state", n);
            format!("tcp_set_state: {} -> {}", state(a), state(b))
        }
        EventKind::Queued => format!("tcp_queue_rcv: {a} bytes on the receive queue, which holds {b} of truesize"),
        EventKind::Coalesced => {
            format!("tcp_try_coalesce: its {a} bytes went to the tail of the receive queue, {other}")
        }
        EventKind::OutOfOrder => format!("tcp_data_queue_ofo: out of order, seq {a}, {b} bytes, it waits for the gap"),
        EventKind::OfoDrained => format!("tcp_ofo_queue: the gap before seq {a} is filled, {b} bytes in order"),
        EventKind::AckNow => {
            let why = or_number(AckWhy::from_number(b).map(AckWhy::words), "reason", b);
            format!("tcp_send_ack: ACK {a} at once ({why}){}", because(event, ", in ", ""))
        }
        EventKind::AckDelayed => format!("tcp_send_delayed_ack: the ACK waits for up to {a} ms"),
        _ if b == 0 => format!("sk_data_ready: {a} bytes to read, nobody waits"),
        _ => format!("sk_data_ready: {a} bytes to read, the reader is woken"),
    }
}

fn datagram(event: &Event) -> String {
    let &Event { a, b, .. } = event;
    match event.kind {
        EventKind::UdpRcv => {
            let (source, destination) = halves(a);
            format!("udp_rcv: port {source} -> port {destination}, {b} bytes of payload")
        }
        EventKind::DatagramLookup => {
            let found = or_number(DatagramFound::from_number(a).map(DatagramFound::words), "a socket of kind", a);
            let function = if a == DatagramFound::Raw as u32 { "raw_local_deliver" } else { event.function() };
            format!("{function} found {found}")
        }
        EventKind::DatagramQueued => {
            format!("__skb_queue_tail: {a} bytes on the receive queue, which holds {b} of truesize")
        }
        _ => format!("{}: the application read {a} bytes", event.function()),
    }
}

fn dropped(event: &Event, station: Option<&Event>) -> String {
    let Some(reason) = DropReason::from_number(event.a) else {
        return format!("kfree_skb_reason: an unknown reason, {}", event.a);
    };
    let counters: Vec<String> = drop_counters(event).iter().map(Counter::to_string).collect();
    let moved = match counters.len() {
        0 => String::new(),
        1 => format!("; counter {}", counters[0]),
        _ => format!("; counters {}", counters.join(", ")),
    };
    format!("{}: {reason}, {}{moved}", drop_function(event, station), reason.describe())
}

/// The function in which the packet was dropped: the reason's own, unless its last station tells better.
pub(super) fn drop_function(event: &Event, station: Option<&Event>) -> &'static str {
    let reason = DropReason::from_number(event.a);
    let particular = station.zip(reason).and_then(|(station, reason)| drop_at(station, reason));
    let own = || reason.and_then(DropReason::function);
    particular.or_else(own).unwrap_or_else(|| next_function(event, station))
}

/// Where a packet is dropped for a reason that has its foremost function elsewhere.
fn drop_at(station: &Event, reason: DropReason) -> Option<&'static str> {
    let found = LookupKind::from_number(station.a).filter(|_| station.kind == EventKind::LookupHit);
    match (station.kind, found, reason) {
        (EventKind::IpRcv, _, DropReason::IpInhdr) => Some("ip_rcv_options"),
        (EventKind::OutputMade, _, DropReason::PktTooBig) => Some("ip_finish_output"),
        (EventKind::DatagramLookup, _, DropReason::SocketRcvbuff | DropReason::ProtoMem) => Some(after(station)),
        (EventKind::SlowPath, _, DropReason::TcpReset) => Some("tcp_validate_incoming"),
        (_, Some(LookupKind::Listener), DropReason::TcpListenOverflow) => Some("tcp_conn_request"),
        (_, Some(LookupKind::Request), DropReason::TcpListenOverflow) => None,
        (_, Some(LookupKind::Request | LookupKind::TimeWait), _) => Some(after(station)),
        _ => None,
    }
}

/// The function that has the packet behind its last station; without one, that of the event itself.
pub(super) fn next_function(event: &Event, station: Option<&Event>) -> &'static str {
    station.map_or(event.function(), after)
}

/// The function that has the packet behind a station.
fn after(station: &Event) -> &'static str {
    match (station.kind, station.a, station.b) {
        (EventKind::GroPassed | EventKind::GroFlushed | EventKind::CpuBacklogTaken, ..) => "__netif_receive_skb_core",
        (EventKind::NetifReceive, _, 0x0800) => "ip_rcv_core",
        (EventKind::NetifReceive, _, 0x0806) => "arp_rcv",
        (EventKind::IpRcv, ..) => "ip_rcv_finish_core",
        (EventKind::RouteLocal, ..) => "ip_local_deliver",
        (EventKind::RouteForward, ..) => "ip_forward",
        (EventKind::LocalDeliver, 1, _) => "icmp_rcv",
        (EventKind::LocalDeliver, 17, _) | (EventKind::UdpRcv, ..) => "__udp4_lib_rcv",
        (EventKind::DatagramLookup, found, _) if found == DatagramFound::Raw as u32 => "raw_rcv",
        (EventKind::DatagramLookup, found, _) if found == DatagramFound::Nobody as u32 => "__udp4_lib_rcv",
        (EventKind::DatagramLookup, ..) => "__udp_enqueue_schedule_skb",
        (EventKind::DatagramQueued, ..) => "udp_recvmsg",
        (EventKind::LocalDeliver, 6, _) | (EventKind::LookupMiss, ..) => "tcp_v4_rcv",
        (EventKind::LookupHit, found, _) => match LookupKind::from_number(found) {
            Some(LookupKind::Listener) => "tcp_rcv_state_process",
            Some(LookupKind::Request) => "tcp_check_req",
            Some(LookupKind::TimeWait) => "tcp_timewait_state_process",
            _ => "tcp_v4_do_rcv",
        },
        (EventKind::SocketBacklog, ..) => "__release_sock",
        _ => station.function(),
    }
}

/// The counters that moved with a drop: those that the event names, else those that always move with the reason.
pub(super) fn drop_counters(event: &Event) -> Vec<Counter> {
    match DropReason::from_number(event.a) {
        Some(reason) if event.b == 0 => reason.counters().to_vec(),
        _ => Counter::unpair(event.b).collect(),
    }
}

fn consumed(event: &Event, station: Option<&Event>) -> String {
    let function = next_function(event, station);
    let by = because(event, " (", ")");
    match Consumed::from_number(event.a) {
        Some(how) => format!("{function}: it {}{by}", how.describe()),
        None => format!("{function}: it was consumed in way {}{by}", event.a),
    }
}

/// The other packet between two texts; nothing if there is none.
fn because(event: &Event, before: &str, after: &str) -> String {
    if event.other.is_none() { String::new() } else { format!("{before}{}{after}", event.other) }
}

/// The words, or for a number that means nothing, the number.
fn or_number(words: Option<&str>, kind: &str, number: u32) -> String {
    words.map_or_else(|| format!("{kind} {number}"), str::to_string)
}

fn pkt_type(number: u32) -> String {
    match number {
        0 => "for us".to_string(),
        1 => "broadcast".to_string(),
        2 => "multicast".to_string(),
        3 => "for another host".to_string(),
        4 => "sent by us".to_string(),
        5 => "looped back".to_string(),
        number => format!("packet type {number}"),
    }
}

/// `syn+ack`; `none` if no flag is set.
pub(super) fn flag_names(flags: u8) -> String {
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let set: Vec<&str> = (0..8).filter(|bit| flags >> bit & 1 == 1).map(|bit| NAMES[bit]).collect();
    if set.is_empty() { "none".to_string() } else { set.join("+") }
}
