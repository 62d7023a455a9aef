mod gc;
mod nud;
mod proxy;

use std::sync::Arc;

use rxpath_mem::Skb;
use rxpath_trace::{Consumed, DropReason, EventKind, Holder, LedgerSnapshot, OutputWhat, Snapshot, Time};
use rxpath_wire::{Addr, ArpPacket, EthernetHeader, IpProto, MacAddr, arp as wire_arp};

use super::entry::Entry;
use super::{NeighTable, Nud, resolve_output};
use crate::cx::{Cx, IdSource, Rng};
use crate::neigh;
use crate::netns::IfAddr;
use crate::route::{self, Route};
use crate::testing::frames::{arp_frame, arp_reply, arp_request};
use crate::testing::{self, ADDR, Ended, MAC, PEER, PEER_MAC, Rig, Sink};
use crate::tx::{self, IpFlow};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// `base_reachable_time_ms`.
const BASE_REACHABLE: u64 = 30 * SECOND;
const ANSWERED: Ended = Ended::Consumed(Consumed::Answered);
const NOTED: Ended = Ended::Consumed(Consumed::Noted);
const M3: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const M4: MacAddr = MacAddr([2, 0, 0, 0, 0, 4]);

fn peer() -> Addr {
    Addr::from(PEER)
}

/// State and address of the peer's entry.
fn entry(rig: &Rig) -> Option<(Nud, MacAddr)> {
    rig.neigh.row(1, peer()).map(|row| (row.state, row.mac))
}

/// The peer, with this hardware address, asks for our address.
fn request(mac: MacAddr) -> Vec<u8> {
    arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (mac, PEER), (MacAddr::ZERO, ADDR))
}

/// The peer, with this hardware address, asks for somebody else.
fn request_for_another(mac: MacAddr) -> Vec<u8> {
    arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (mac, PEER), (MacAddr::ZERO, [10, 0, 0, 9].into()))
}

fn reply_from(mac: MacAddr) -> Vec<u8> {
    arp_frame(MAC, wire_arp::REPLY, (mac, PEER), (MAC, ADDR))
}

fn gratuitous(mac: MacAddr) -> Vec<u8> {
    arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (mac, PEER), (MacAddr::ZERO, PEER))
}

/// Sends a packet to an address on the link, by way of a route; the payload tells packets apart.
fn send(rig: &mut Cx, route: &mut Route, payload: &[u8]) {
    let mut skb = rig.alloc_output(OutputWhat::TcpData, payload.len(), true).expect("a slot");
    skb.put(payload.len()).copy_from_slice(payload);
    let flow = IpFlow {
        src: route.src,
        dst: route.nexthop,
        protocol: IpProto::TCP,
        ttl: 64,
        tos: 0,
        dont_fragment: true,
        ident: 0,
    };
    tx::ip_queue_xmit(rig, skb, &flow, route);
}

fn route_to(rig: &Rig, dst: Addr) -> Route {
    route::output(&rig.net, dst, None).expect("on the link")
}

/// What a frame that we sent is: an ARP operation with the stations that it goes to and asks for, or a payload.
#[derive(Debug, PartialEq, Eq)]
enum Out {
    Arp { operation: u16, to: MacAddr, target: [u8; 4] },
    Ip { to: MacAddr, payload: Vec<u8> },
}

fn ask(to: MacAddr) -> Out {
    Out::Arp { operation: wire_arp::REQUEST, to, target: PEER.octets() }
}

fn answer(to: MacAddr) -> Out {
    Out::Arp { operation: wire_arp::REPLY, to, target: PEER.octets() }
}

fn packet(to: MacAddr, payload: &[u8]) -> Out {
    Out::Ip { to, payload: payload.to_vec() }
}

fn out(rig: &mut Rig) -> Vec<Out> {
    let read = |frame: Vec<u8>| {
        let (header, rest) = EthernetHeader::parse(&frame).expect("a frame");
        assert_eq!(header.src(), MAC);
        if header.ethertype() == 0x0800 {
            return Out::Ip { to: header.dst(), payload: rest[20..].to_vec() };
        }
        let (arp, tail) = ArpPacket::parse(rest).expect("an ARP packet");
        assert!(arp.is_ipv4_over_ethernet() && tail.is_empty());
        assert_eq!((arp.sender_mac(), arp.sender_ip()), (MAC, ADDR));
        let target_mac = if arp.operation() == wire_arp::REPLY { header.dst() } else { MacAddr::ZERO };
        assert_eq!(arp.target_mac(), target_mac);
        Out::Arp { operation: arp.operation(), to: header.dst(), target: arp.target_ip().octets() }
    };
    rig.sent().into_iter().map(read).collect()
}

#[test]
fn our_address_is_told_and_the_asker_remembered_as_stale() {
    let mut rig = Rig::new();
    assert_eq!(rig.receive(&arp_request()), ANSWERED);
    assert_eq!(out(&mut rig), [answer(PEER_MAC)]);
    assert_eq!(entry(&rig), Some((Nud::Stale, PEER_MAC)));
    let rcv = rig.events().into_iter().find(|event| event.kind == EventKind::ArpRcv).expect("the event");
    assert_eq!((rcv.a, rcv.b), (1, u32::from(PEER)));
    let mut padded = arp_request();
    padded.resize(60, 0);
    assert_eq!(rig.receive(&padded), ANSWERED);
    let counted = rig.counted();
    assert_eq!(counted, Snapshot::of(&[(rxpath_trace::Counter::SoftnetProcessed, 2)]), "ARP counts nothing");
}

#[test]
fn an_asker_that_is_not_on_the_link_is_answered_and_remembered() {
    let mut rig = Rig::new();
    let stranger = [172, 16, 0, 1].into();
    let frame = arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, stranger), (MacAddr::ZERO, ADDR));
    assert_eq!(rig.receive(&frame), ANSWERED);
    assert_eq!(out(&mut rig), [Out::Arp { operation: wire_arp::REPLY, to: M3, target: [172, 16, 0, 1] }]);
    assert_eq!(rig.neigh.row(1, Addr::from(stranger)).map(|row| row.state), Some(Nud::Stale));
}

#[test]
fn who_is_answered_without_being_remembered() {
    let mut rig = Rig::new();
    for sender in [[0, 0, 0, 0], [10, 0, 0, 255]] {
        let frame = arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, sender.into()), (MacAddr::ZERO, ADDR));
        assert_eq!(rig.receive(&frame), ANSWERED, "{sender:?}");
        assert_eq!(out(&mut rig), [Out::Arp { operation: wire_arp::REPLY, to: M3, target: sender }]);
    }
    assert!(rig.neigh.is_empty());
}

#[test]
fn what_is_neither_answered_nor_learnt_from() {
    let mut rig = Rig::new();
    let ours = (MacAddr::ZERO, ADDR);
    let nowhere = (MacAddr::ZERO, [10, 0, 0, 9].into());
    for (name, frame) in [
        ("for somebody else", request_for_another(PEER_MAC)),
        ("in our name", arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, ADDR), ours)),
        ("a group asks", arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, [224, 0, 0, 5].into()), ours)),
        ("nobody asks for another", arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, [0; 4].into()), nowhere)),
        ("nobody replies", arp_frame(MAC, wire_arp::REPLY, (M3, [0; 4].into()), (MAC, ADDR))),
        ("an unasked reply", arp_reply()),
        ("a gratuitous request", gratuitous(PEER_MAC)),
        ("in another's frame", {
            let mut frame = arp_request();
            frame[..6].copy_from_slice(&M4.0);
            frame
        }),
    ] {
        assert_eq!(rig.receive(&frame), NOTED, "{name}");
        assert!(out(&mut rig).is_empty() && rig.neigh.is_empty(), "{name}");
    }
}

#[test]
fn requests_are_passed_over_as_arp_ignore_says() {
    let second = [192, 168, 0, 1];
    let ask = |mode: u8, sender: [u8; 4], target: [u8; 4]| {
        let mut rig = Rig::new();
        rig.reconfigure(|net| {
            net.sysctl.conf.all.arp_ignore = mode;
            let mut other = net.interfaces[0].clone();
            (other.ifindex, other.name) = (2, "eth1".to_owned());
            other.addresses = vec![IfAddr { addr: Addr::from_v4(second), prefix: 24 }];
            net.interfaces.push(other);
            net.fib = testing::net(net.interfaces.clone(), &[]).fib;
        });
        let frame =
            arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, sender.into()), (MacAddr::ZERO, target.into()));
        let answered = rig.receive(&frame) == ANSWERED;
        let known = rig.neigh.row(1, Addr::from_v4(sender)).is_some();
        assert_eq!(known, answered && sender != [0; 4], "whoever is passed over is not remembered");
        rig.sent();
        answered
    };
    let (near, far, probe, ours) = ([10, 0, 0, 3], [172, 16, 0, 1], [0; 4], ADDR.octets());
    let asked = [(near, ours), (near, second), (far, ours), (probe, ours)];
    let answered = |mode: u8| asked.map(|(sender, target)| ask(mode, sender, target));
    assert_eq!(answered(0), [true; 4]);
    assert_eq!(answered(1), [true, false, true, true]);
    assert_eq!(answered(2), [true, false, false, true]);
    assert_eq!(answered(3), [true; 4]);
    assert_eq!(answered(8), [false; 4]);
}

#[test]
fn what_hosts_tell_of_themselves_is_taken_as_the_tunables_say() {
    let told = |accept: u8, drop: bool, frame: Vec<u8>, sender: [u8; 4]| {
        let mut rig = Rig::new();
        rig.reconfigure(|net| {
            (net.sysctl.conf.all.arp_accept, net.sysctl.conf.all.drop_gratuitous_arp) = (accept, drop)
        });
        let ended = rig.receive(&frame);
        assert_eq!(ended == Ended::Dropped(DropReason::NotSpecified), drop, "{ended:?}");
        rig.neigh.row(1, Addr::from_v4(sender)).map(|row| row.state)
    };
    let (peer, far) = (PEER.octets(), [172, 16, 0, 1]);
    let stranger = arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, far.into()), (MacAddr::ZERO, far.into()));
    assert_eq!(told(0, false, gratuitous(M3), peer), None);
    assert_eq!(told(1, false, gratuitous(M3), peer), Some(Nud::Stale));
    assert_eq!(told(1, false, reply_from(M3), peer), Some(Nud::Reachable));
    assert_eq!(told(1, false, request_for_another(M3), peer), None);
    assert_eq!(told(1, false, stranger.clone(), far), Some(Nud::Stale));
    assert_eq!(told(2, false, stranger, far), None);
    assert_eq!(told(2, false, gratuitous(M3), peer), Some(Nud::Stale));
    assert_eq!(told(1, true, gratuitous(M3), peer), None);
}

#[test]
fn malformed_packets_are_dropped() {
    let mut rig = Rig::new();
    let sound = arp_request();
    for len in [14, 20, 41] {
        assert_eq!(rig.receive(&sound[..len]), Ended::Dropped(DropReason::PktTooSmall), "{len} bytes");
    }
    // Hardware type, protocol, address lengths, operation; the last byte of each.
    for (at, value) in [(15, 2), (16, 9), (18, 5), (19, 6), (21, 0), (21, 3)] {
        let mut frame = sound.clone();
        frame[at] = value;
        assert_eq!(rig.receive(&frame), Ended::Dropped(DropReason::NotSpecified), "byte {at}");
    }
    for target in [[224, 0, 0, 1], [127, 0, 0, 1]] {
        let frame = arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (PEER_MAC, PEER), (MacAddr::ZERO, target.into()));
        assert_eq!(rig.receive(&frame), Ended::Dropped(DropReason::NotSpecified), "{target:?}");
    }
    let mut ieee802 = sound;
    ieee802[15] = 6;
    assert_eq!(rig.receive(&ieee802), ANSWERED, "hardware type 6 is Ethernet too");
}

/// The table of the kernel's behaviour, step by step as it was observed.
#[test]
fn a_known_neighbour_changes_as_linux_changes_it() {
    let mut rig = Rig::new();
    let mut step = |wait: u64, frame: Vec<u8>, state: Nud, mac: MacAddr| {
        rig.pass(wait);
        rig.receive(&frame);
        assert_eq!(entry(&rig), Some((state, mac)));
    };
    let broadcast_reply = |mac: MacAddr, target: MacAddr, ip: std::net::Ipv4Addr| {
        arp_frame(MacAddr::BROADCAST, wire_arp::REPLY, (mac, PEER), (target, ip))
    };
    step(0, request(PEER_MAC), Nud::Stale, PEER_MAC);
    step(0, request(M3), Nud::Stale, M3);
    step(0, reply_from(PEER_MAC), Nud::Stale, M3);
    step(0, reply_from(M3), Nud::Reachable, M3);
    step(0, request(M3), Nud::Reachable, M3);
    step(0, request_for_another(M3), Nud::Reachable, M3);
    step(SECOND, request_for_another(M4), Nud::Reachable, M3);
    step(MS, request_for_another(M4), Nud::Stale, M4);
    step(0, gratuitous(PEER_MAC), Nud::Stale, PEER_MAC);
    // Broadcast, but the target's hardware address is not the sender's: no gratuitous reply.
    step(0, broadcast_reply(M3, MacAddr::BROADCAST, PEER), Nud::Stale, PEER_MAC);
    step(0, broadcast_reply(M3, M3, PEER), Nud::Stale, M3);
    step(0, reply_from(M3), Nud::Reachable, M3);
    step(0, broadcast_reply(M4, MAC, ADDR), Nud::Reachable, M3);
    step(SECOND + 1, broadcast_reply(M4, MAC, ADDR), Nud::Stale, M4);
    step(SECOND + 1, reply_from(PEER_MAC), Nud::Reachable, PEER_MAC);
    step(0, broadcast_reply(PEER_MAC, MAC, ADDR), Nud::Reachable, PEER_MAC);
}

#[test]
fn a_configured_neighbour_stays_as_it_is_and_is_answered() {
    let mut rig = Rig::new();
    assert!(testing::set_permanent(&mut rig, 1, peer(), PEER_MAC));
    for frame in [gratuitous(M3), reply_from(M3)] {
        assert_eq!(rig.receive(&frame), NOTED);
    }
    assert_eq!(rig.receive(&request(M3)), ANSWERED);
    assert_eq!(out(&mut rig), [answer(M3)]);
    assert_eq!(entry(&rig), Some((Nud::Permanent, PEER_MAC)));
    assert!(neigh::remove(&mut rig, 1, peer()) && !neigh::remove(&mut rig, 1, peer()));
    assert_eq!(entry(&rig), None);
}

#[test]
fn packets_wait_for_the_address_and_go_in_order_when_it_comes() {
    let mut rig = Rig::new();
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    send(&mut rig, &mut route, b"2");
    assert_eq!(out(&mut rig), [ask(MacAddr::BROADCAST)]);
    assert_eq!(rig.neigh.rows().iter().map(|row| (row.state, row.pending)).collect::<Vec<_>>(), [(Nud::Incomplete, 2)]);
    assert_eq!(rig.ledger().held_by(Holder::Neighbour), 2);
    let held: Vec<u32> =
        rig.events().iter().filter(|event| event.kind == EventKind::NeighHeld).map(|event| event.b).collect();
    assert_eq!(held, [1, 2]);
    assert_eq!(rig.receive(&arp_reply()), NOTED);
    assert_eq!(out(&mut rig), [packet(PEER_MAC, b"1"), packet(PEER_MAC, b"2")]);
    assert_eq!(entry(&rig), Some((Nud::Reachable, PEER_MAC)));
    assert_eq!(route.mac, None, "the sender has not been told yet");
    send(&mut rig, &mut route, b"3");
    assert_eq!(route.mac, Some((PEER_MAC, rig.neigh.generation())));
    assert_eq!(out(&mut rig), [packet(PEER_MAC, b"3")]);
}

#[test]
fn a_request_of_the_neighbour_releases_what_waits_before_it_is_answered() {
    for (frame, answers) in [(request(M3), 1), (gratuitous(M3), 0), (request_for_another(M3), 0)] {
        let mut rig = Rig::new();
        let mut route = route_to(&rig, peer());
        send(&mut rig, &mut route, b"1");
        out(&mut rig);
        rig.receive(&frame);
        let sent = out(&mut rig);
        assert_eq!(sent[0], packet(M3, b"1"));
        assert_eq!(sent.len(), 1 + answers);
        assert_eq!(entry(&rig), Some((Nud::Delay, M3)), "used while stale");
    }
}

#[test]
fn an_address_is_asked_for_three_times_and_then_given_up() {
    let mut rig = Rig::new();
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    assert_eq!(out(&mut rig), [ask(MacAddr::BROADCAST)]);
    for _ in 0..2 {
        assert_eq!(rig.neigh.next_deadline(), Some(rig.now + SECOND));
        rig.pass(SECOND - 1);
        neigh::tick(&mut rig, |_, _| {});
        assert!(out(&mut rig).is_empty());
        rig.pass(1);
        neigh::tick(&mut rig, |_, _| {});
        assert_eq!(out(&mut rig), [ask(MacAddr::BROADCAST)]);
    }
    send(&mut rig, &mut route, b"2");
    assert!(out(&mut rig).is_empty(), "it is being asked for");
    rig.pass(SECOND);
    neigh::tick(&mut rig, |_, _| {});
    assert_eq!(entry(&rig).map(|(state, _)| state), Some(Nud::Failed));
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighFailed), 2);
    assert_eq!(rig.neigh.next_deadline(), None);
    // The next packet asks again.
    send(&mut rig, &mut route, b"3");
    assert_eq!(out(&mut rig), [ask(MacAddr::BROADCAST)]);
    assert_eq!(entry(&rig).map(|(state, _)| state), Some(Nud::Incomplete));
}

#[test]
fn a_word_about_a_neighbour_that_failed_makes_it_stale() {
    let mut rig = Rig::new();
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    for _ in 0..3 {
        rig.pass(SECOND);
        neigh::tick(&mut rig, |_, _| {});
    }
    assert_eq!(entry(&rig).map(|(state, _)| state), Some(Nud::Failed));
    assert_eq!(rig.receive(&gratuitous(M3)), NOTED);
    assert_eq!(entry(&rig), Some((Nud::Stale, M3)));
}

#[test]
fn a_stale_neighbour_that_is_used_is_probed_after_five_seconds() {
    let mut rig = Rig::new();
    rig.receive(&arp_request());
    out(&mut rig);
    // Stale for longer than a confirmation would count.
    rig.pass(10 * SECOND);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    assert_eq!(out(&mut rig), [packet(PEER_MAC, b"1")]);
    assert_eq!((entry(&rig), route.mac), (Some((Nud::Delay, PEER_MAC)), None));
    rig.pass(5 * SECOND);
    neigh::tick(&mut rig, |_, _| {});
    assert_eq!(out(&mut rig), [ask(PEER_MAC)], "asked alone, not broadcast");
    assert_eq!(entry(&rig), Some((Nud::Probe, PEER_MAC)));
    send(&mut rig, &mut route, b"2");
    assert_eq!(out(&mut rig), [packet(PEER_MAC, b"2")], "traffic goes on");
    for _ in 0..2 {
        rig.pass(SECOND);
        neigh::tick(&mut rig, |_, _| {});
        assert_eq!(out(&mut rig), [ask(PEER_MAC)]);
    }
    rig.pass(SECOND);
    neigh::tick(&mut rig, |_, _| {});
    assert!(out(&mut rig).is_empty());
    assert_eq!(entry(&rig).map(|(state, _)| state), Some(Nud::Failed));
}

#[test]
fn a_probe_that_is_answered_makes_it_reachable() {
    let mut rig = Rig::new();
    rig.receive(&arp_request());
    rig.pass(10 * SECOND);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    rig.pass(5 * SECOND);
    neigh::tick(&mut rig, |_, _| {});
    out(&mut rig);
    assert_eq!(rig.receive(&arp_reply()), NOTED);
    assert_eq!(entry(&rig), Some((Nud::Reachable, PEER_MAC)));
    send(&mut rig, &mut route, b"2");
    assert_eq!(route.mac, Some((PEER_MAC, rig.neigh.generation())));
}

#[test]
fn a_sender_with_proof_spares_the_probe() {
    let mut rig = Rig::new();
    rig.receive(&arp_request());
    rig.pass(10 * SECOND);
    let mut route = route_to(&rig, peer());
    route.confirm = true;
    send(&mut rig, &mut route, b"1");
    assert_eq!(entry(&rig), Some((Nud::Reachable, PEER_MAC)));
    assert!(route.mac.is_some() && !route.confirm, "the proof has had its effect");
    // The same while it is delayed.
    let mut rig = Rig::new();
    rig.receive(&arp_request());
    rig.pass(10 * SECOND);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    route.confirm = true;
    send(&mut rig, &mut route, b"2");
    assert_eq!(entry(&rig), Some((Nud::Reachable, PEER_MAC)));
    out(&mut rig);
    rig.pass(6 * SECOND);
    neigh::tick(&mut rig, |_, _| {});
    assert!(out(&mut rig).is_empty());
}

/// When the next timer runs out, once that of the solicitation, which is not taken back, has passed without effect.
fn next_timer(rig: &mut Rig) -> Time {
    rig.pass(SECOND);
    neigh::tick(rig, |_, _| {});
    rig.neigh.next_deadline().expect("a timer")
}

#[test]
fn a_reachable_neighbour_goes_stale_and_senders_look_again() {
    let mut rig = Rig::new();
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    rig.receive(&arp_reply());
    send(&mut rig, &mut route, b"2");
    let (_, generation) = route.mac.expect("kept");
    let confirmed = rig.now;
    let deadline = next_timer(&mut rig);
    let lasts = deadline - confirmed;
    assert!((BASE_REACHABLE / 2..BASE_REACHABLE * 3 / 2).contains(&lasts), "{lasts}");
    rig.now = deadline;
    neigh::tick(&mut rig, |_, _| {});
    assert_eq!(entry(&rig), Some((Nud::Stale, PEER_MAC)));
    assert_ne!(rig.neigh.generation(), generation);
    send(&mut rig, &mut route, b"3");
    assert_eq!((entry(&rig), route.mac), (Some((Nud::Delay, PEER_MAC)), None));
}

#[test]
fn a_confirmation_within_the_reachable_time_prolongs_it() {
    let mut rig = Rig::new();
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    rig.receive(&arp_reply());
    let confirmed = rig.now;
    let first = next_timer(&mut rig);
    rig.now = confirmed + 10 * SECOND;
    rig.receive(&arp_reply());
    rig.now = first;
    neigh::tick(&mut rig, |_, _| {});
    assert_eq!(entry(&rig), Some((Nud::Reachable, PEER_MAC)));
    assert_eq!(rig.neigh.next_deadline(), Some(first + 10 * SECOND));
}

#[test]
fn senders_look_again_when_the_hardware_address_changes() {
    let mut rig = Rig::new();
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    rig.receive(&arp_reply());
    send(&mut rig, &mut route, b"2");
    out(&mut rig);
    rig.receive(&gratuitous(M3));
    send(&mut rig, &mut route, b"3");
    assert_eq!(out(&mut rig), [packet(M3, b"3")]);
}

#[test]
fn the_queue_is_bounded_by_truesize_and_drops_the_oldest() {
    let mut rig = Rig::new();
    rig.reconfigure(|net| net.sysctl.neigh.default.unres_qlen_bytes = 1_000);
    let mut route = route_to(&rig, peer());
    // A head slot is charged 320 bytes.
    for payload in [b"1", b"2", b"3", b"4", b"5"] {
        send(&mut rig, &mut route, payload);
    }
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighQueuefull), 2);
    assert_eq!(rig.ledger().held_by(Holder::Neighbour), 3);
    out(&mut rig);
    rig.receive(&arp_reply());
    assert_eq!(out(&mut rig), [packet(PEER_MAC, b"3"), packet(PEER_MAC, b"4"), packet(PEER_MAC, b"5")]);
    // A packet larger than the bound waits alone.
    rig.reconfigure(|net| net.sysctl.neigh.default.unres_qlen_bytes = 10);
    let mut route = route_to(&rig, Addr::from_v4([10, 0, 0, 3]));
    send(&mut rig, &mut route, b"1");
    send(&mut rig, &mut route, b"2");
    assert_eq!(rig.ledger().held_by(Holder::Neighbour), 1);
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighQueuefull), 3);
}

#[test]
fn a_neighbour_that_is_forgotten_takes_its_packets_with_it() {
    let mut rig = Rig::new();
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    assert!(neigh::remove(&mut rig, 1, peer()));
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighDead), 1);
    // Configuring one while packets wait sends them.
    send(&mut rig, &mut route, b"2");
    out(&mut rig);
    assert!(testing::set_permanent(&mut rig, 1, peer(), M3));
    assert_eq!(out(&mut rig), [packet(M3, b"2")]);
}

fn probe_packet(rig: &mut Rig) -> Skb {
    let mut skb = rig.alloc_output(OutputWhat::TcpData, 1, true).expect("a slot");
    skb.put(1)[0] = 0;
    skb.protocol = 0x0800;
    skb
}

#[test]
fn ipv6_next_hops_are_not_resolved() {
    let mut rig = Rig::new();
    let skb = probe_packet(&mut rig);
    let hop = Addr::from(std::net::Ipv6Addr::LOCALHOST);
    assert_eq!(resolve_output(&mut rig, skb, 1, hop, false), None);
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighFailed), 1);
    assert!(rig.neigh.is_empty());
}

#[test]
fn solicitations_come_from_the_address_that_waits() {
    let mut rig = Rig::new();
    let second = Addr::from_v4([10, 0, 0, 5]);
    rig.reconfigure(|net| {
        net.interfaces[0].addresses.push(crate::netns::IfAddr { addr: second, prefix: 24 });
        net.fib = route::Fib::build(&net.interfaces, &[]).expect("a fib");
    });
    let mut route = route::output(&rig.net, peer(), Some(second)).expect("on the link");
    send(&mut rig, &mut route, b"1");
    let frame = rig.sent().remove(0);
    let (arp, _) = ArpPacket::parse(&frame[14..]).expect("an ARP packet");
    assert_eq!(arp.sender_ip().octets(), [10, 0, 0, 5]);
}

#[test]
fn timers_of_many_neighbours_run_in_a_fixed_order() {
    let run = || {
        let mut rig = Rig::new();
        for d in [9, 3, 7, 200, 18] {
            let mut route = route_to(&rig, Addr::from_v4([10, 0, 0, d]));
            send(&mut rig, &mut route, b"x");
        }
        rig.sent();
        rig.pass(SECOND);
        neigh::tick(&mut rig, |_, _| {});
        rig.sent()
    };
    let once = run();
    assert_eq!(once.len(), 5);
    assert_eq!(once, run());
}

/// One Cpu's share of the test below: packets to a few neighbours, words about them, timers.
fn busy_cpu(cpu: u16, table: Arc<NeighTable>) -> Cx {
    let mut cx = testing::cx();
    cx.cpu = cpu;
    cx.ids = IdSource::of_cpu(cpu);
    cx.neigh = table;
    // Ten packets for each neighbour, so that what waits cannot use a pool up.
    let net = Arc::get_mut(&mut cx.net).expect("nobody else has it");
    testing::set_sysctls(net, &[("net.ipv4.neigh.default.unres_qlen_bytes", "3200")]);
    let mut rng = Rng::new(0xa49 + u64::from(cpu));
    let mut device = Sink::default();
    let mut routes: Vec<Route> =
        (2..12).map(|d| route::output(&cx.net, Addr::from_v4([10, 0, 0, d]), None).expect("on the link")).collect();
    for _ in 0..5_000 {
        let d = rng.below(10) as usize;
        match rng.below(8) {
            0 => {
                let operation = 1 + rng.below(2) as u16;
                let mac = MacAddr([2, 0, 0, 0, rng.below(2) as u8, d as u8]);
                let frame = arp_frame(MAC, operation, (mac, [10, 0, 0, d as u8 + 2].into()), (MAC, ADDR));
                let skb = testing::harvest(&mut cx, &frame, false);
                let end = neigh::arp_rcv(&mut cx, skb);
                cx.end(end);
            }
            1 => {
                cx.now += u64::from(rng.below(1_000)) * MS;
                neigh::tick(&mut cx, |_, _| {});
            }
            _ => send(&mut cx, &mut routes[d], b"x"),
        }
        tx::flush(&mut cx, &mut device);
        device.frames.clear();
    }
    cx
}

#[test]
fn cpus_share_the_table_and_lose_no_packet() {
    let table = Arc::new(NeighTable::new(1));
    let threads: Vec<_> = (0..4)
        .map(|cpu| {
            let table = Arc::clone(&table);
            std::thread::spawn(move || busy_cpu(cpu, table))
        })
        .collect();
    let mut cpus: Vec<Cx> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    let sum = |cpus: &[Cx]| cpus.iter().map(|cx| cx.ledger.snapshot()).sum::<LedgerSnapshot>();
    sum(&cpus).check().expect("the ledger of all Cpus balances");
    neigh::purge(&mut cpus[0], DropReason::StackShutdown);
    let ledger = sum(&cpus);
    ledger.check().expect("the ledger balances with empty queues");
    assert_eq!(ledger.held(), 0, "{ledger:?}");
    assert!(ledger.transmitted() > 1_000 && table.is_empty(), "{ledger:?}");
    for cx in &mut cpus {
        cx.pool.drain();
        assert_eq!(cx.pool.outstanding(), 0, "all slots are back, whichever Cpu freed them");
    }
}

#[test]
fn states_have_the_kernels_names_and_numbers() {
    let all =
        [Nud::Incomplete, Nud::Reachable, Nud::Stale, Nud::Delay, Nud::Probe, Nud::Failed, Nud::Noarp, Nud::Permanent];
    let listed: Vec<(u8, &str, bool, bool)> =
        all.iter().map(|state| (*state as u8, state.name(), state.is_valid(), state.is_connected())).collect();
    assert_eq!(
        listed,
        [
            (0x01, "INCOMPLETE", false, false),
            (0x02, "REACHABLE", true, true),
            (0x04, "STALE", true, false),
            (0x08, "DELAY", true, false),
            (0x10, "PROBE", true, false),
            (0x20, "FAILED", false, false),
            (0x40, "NOARP", true, true),
            (0x80, "PERMANENT", true, true),
        ]
    );
    let fresh = Entry::new(Time::ZERO, 0);
    assert_eq!((fresh.state, fresh.timer), (Nud::Failed, Time::MAX));
}
