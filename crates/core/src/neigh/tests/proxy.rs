//! Answers for other hosts, and who is asked in whose name. Each row was seen on Linux 6.18, with two TAPs in a namespace of
//! its own.

use super::*;
use crate::netns::Interface;

const SECOND_NET: [u8; 4] = [10, 0, 1, 1];

/// A router between 10.0.0/24 and 10.0.1/24, with these tunables of its first interface.
fn router(sysctls: &[(&str, &str)]) -> Rig {
    let second = Interface {
        ifindex: 2,
        name: "eth1".to_owned(),
        mac: M4,
        addresses: vec![IfAddr { addr: Addr::from_v4(SECOND_NET), prefix: 24 }],
        ..testing::interface()
    };
    let mut rig = Rig::with_net(testing::net(vec![testing::interface(), second], &[]));
    rig.reconfigure(|net| {
        net.sysctl.set("net.ipv4.ip_forward", "1").expect("a tunable");
        for (name, value) in sysctls {
            net.sysctl.set(name, value).expect("a tunable");
        }
    });
    rig
}

const PROXY: (&str, &str) = ("net.ipv4.conf.eth0.proxy_arp", "1");
const PVLAN: (&str, &str) = ("net.ipv4.conf.eth0.proxy_arp_pvlan", "1");
const AT_ONCE: (&str, &str) = ("net.ipv4.neigh.eth0.proxy_delay", "0");

fn ask_for(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, sender.into()), (MacAddr::ZERO, target.into()))
}

/// Whom the router answers for in the frames that it sent.
fn answered(rig: &mut Rig) -> Vec<[u8; 4]> {
    let read = |frame: Vec<u8>| {
        let (arp, _) = ArpPacket::parse(&frame[14..]).expect("an ARP packet");
        assert_eq!((arp.operation(), arp.sender_mac()), (wire_arp::REPLY, MAC));
        arp.sender_ip().octets()
    };
    rig.sent().into_iter().map(read).collect()
}

const NEAR: [u8; 4] = [10, 0, 0, 2];
const NEAR_TOO: [u8; 4] = [10, 0, 0, 9];
const FAR: [u8; 4] = [10, 0, 1, 9];

/// Whether a request is answered, and whether the asker is known then.
fn answers(sysctls: &[(&str, &str)], sender: [u8; 4], target: [u8; 4]) -> bool {
    let mut rig = router(sysctls);
    let ended = rig.receive(&ask_for(sender, target));
    let told = answered(&mut rig);
    assert_eq!(ended == ANSWERED, told == [target], "{ended:?} {told:?}");
    let known = rig.neigh.row(1, Addr::from_v4(sender)).map(|row| (row.state, row.mac));
    assert_eq!(known, (ended == ANSWERED).then_some((Nud::Stale, M3)));
    ended == ANSWERED
}

#[test]
fn a_router_answers_for_hosts_behind_another_interface() {
    let proxy = [PROXY, AT_ONCE];
    assert!(answers(&proxy, NEAR, FAR));
    assert!(answers(&[AT_ONCE, ("net.ipv4.conf.all.proxy_arp", "1")], NEAR, FAR));
    assert!(answers(&proxy, [192, 168, 0, 1], FAR), "whoever asks");
    assert!(answers(&proxy, FAR, FAR), "even the very host");
    assert!(!answers(&[AT_ONCE], NEAR, FAR));
    assert!(!answers(&[AT_ONCE, ("net.ipv4.conf.eth1.proxy_arp", "1")], NEAR, FAR), "the asker's interface counts");
    assert!(!answers(&[PROXY, AT_ONCE, ("net.ipv4.conf.eth0.forwarding", "0")], NEAR, FAR));
    assert!(answers(&[PROXY, AT_ONCE, ("net.ipv4.conf.eth1.forwarding", "0")], NEAR, FAR));
    for target in [NEAR_TOO, [10, 0, 1, 255], [8, 8, 8, 8]] {
        assert!(!answers(&proxy, NEAR, target), "{target:?}");
    }
    // A probe for a duplicate address is not answered for others.
    let mut rig = router(&proxy);
    assert_eq!(rig.receive(&ask_for([0; 4], FAR)), NOTED);
    assert!(rig.sent().is_empty() && rig.neigh.is_empty());
}

#[test]
fn interfaces_of_one_medium_are_no_proxies_for_each_other() {
    let with = |near: &str, far: &str| {
        let media = [("net.ipv4.conf.eth0.medium_id", near), ("net.ipv4.conf.eth1.medium_id", far)];
        answers(&[PROXY, AT_ONCE, media[0], media[1]], NEAR, FAR)
    };
    assert!(with("0", "0") && with("1", "0") && with("0", "1") && with("1", "2"));
    assert!(!with("1", "1"));
}

#[test]
fn hosts_of_a_private_vlan_are_answered_for_one_another() {
    assert!(answers(&[PVLAN, AT_ONCE], NEAR, NEAR_TOO));
    assert!(answers(&[("net.ipv4.conf.all.proxy_arp_pvlan", "1"), AT_ONCE], NEAR, NEAR_TOO));
    assert!(!answers(&[PVLAN, AT_ONCE], NEAR, NEAR), "who looks for another with his address");
    assert!(!answers(&[PVLAN, AT_ONCE], NEAR, FAR), "that is proxy_arp's");
    assert!(!answers(&[PVLAN, AT_ONCE, ("net.ipv4.conf.eth0.forwarding", "0")], NEAR, NEAR_TOO));
}

#[test]
fn proxies_may_be_configured_one_by_one() {
    let with = |rig: &mut Rig, target: [u8; 4]| {
        let ended = rig.receive(&ask_for(NEAR, target));
        rig.sent();
        ended == ANSWERED
    };
    let mut rig = router(&[AT_ONCE]);
    let far = |last: u8| Addr::from_v4([10, 0, 1, last]);
    for (ifindex, addr) in [(1, far(7)), (1, Addr::from_v4([10, 0, 0, 7])), (2, far(6))] {
        assert!(
            neigh::set_proxy(&rig.neigh, ifindex, addr, true) && !neigh::set_proxy(&rig.neigh, ifindex, addr, true)
        );
    }
    assert_eq!(rig.neigh.proxies(), [(1, Addr::from_v4([10, 0, 0, 7])), (1, far(7)), (2, far(6))]);
    assert!(with(&mut rig, [10, 0, 1, 7]));
    assert!(!with(&mut rig, [10, 0, 0, 7]), "it is on the very link");
    assert!(!with(&mut rig, [10, 0, 1, 6]), "that is for the other interface");
    rig.reconfigure(|net| net.sysctl.conf.all.arp_ignore = 8);
    assert!(with(&mut rig, [10, 0, 1, 7]), "arp_ignore is about our own addresses");
    rig.reconfigure(|net| net.sysctl.conf.set_forwarding(false));
    assert!(!with(&mut rig, [10, 0, 1, 7]));
    rig.reconfigure(|net| net.sysctl.conf.set_forwarding(true));
    assert!(neigh::set_proxy(&rig.neigh, 1, far(7), false) && !neigh::set_proxy(&rig.neigh, 1, far(7), false));
    assert!(!with(&mut rig, [10, 0, 1, 7]));
}

/// Linux: answers to broadcasts come after a random time of up to `proxy_delay` (0.8 s), in the order of those times; the
/// asker is known at once. Who asks in a frame to the router alone is answered at once.
#[test]
fn answers_for_others_come_after_a_random_delay() {
    let mut rig = router(&[PROXY]);
    let targets: Vec<[u8; 4]> = (20..40).map(|last| [10, 0, 1, last]).collect();
    for target in &targets {
        assert_eq!(rig.receive(&ask_for(NEAR, *target)), Ended::Held);
    }
    let held: Vec<(u32, u32)> =
        rig.events().iter().filter(|e| e.kind == EventKind::ArpHeld).map(|e| (e.a, e.b)).collect();
    assert_eq!((held.len(), held[0].0), (20, u32::from_be_bytes(targets[0])));
    assert!(held.iter().all(|(_, delay_us)| *delay_us < 800_000), "{held:?}");
    assert_eq!(rig.neigh.row(1, peer()).map(|row| row.state), Some(Nud::Stale));
    assert_eq!(rig.ledger().held_by(Holder::Neighbour), 20);
    assert!(rig.sent().is_empty());
    let mut order = Vec::new();
    while let Some(at) = rig.neigh.next_deadline() {
        rig.now = at;
        neigh::tick(&mut rig, |_, _| {});
        order.extend(answered(&mut rig));
    }
    assert_ne!(order, targets);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, targets);
    assert_eq!(rig.ledger().held(), 0);
    let mut alone = ask_for(NEAR, FAR);
    alone[..6].copy_from_slice(&MAC.0);
    assert_eq!(rig.receive(&alone), ANSWERED);
    assert_eq!(answered(&mut rig), [FAR]);
}

/// Linux: of 100 requests 65 are answered with `proxy_qlen` 64, 6 with 5 and one with 0.
#[test]
fn so_many_requests_wait_and_one_more() {
    for (qlen, waits) in [("64", 65), ("5", 6), ("0", 1)] {
        let mut rig = router(&[PROXY, ("net.ipv4.neigh.eth0.proxy_qlen", qlen)]);
        for last in 20..120 {
            rig.receive(&ask_for(NEAR, [10, 0, 1, last]));
        }
        assert_eq!(rig.ledger().held_by(Holder::Neighbour), waits);
        assert_eq!(rig.ledger().dropped_for(DropReason::NotSpecified) as i64, 100 - waits);
        rig.pass(800 * MS);
        neigh::tick(&mut rig, |_, _| {});
        assert_eq!(answered(&mut rig).len() as i64, waits);
        assert_eq!(rig.receive(&ask_for(NEAR, FAR)), Ended::Held, "there is room again");
        neigh::purge(&mut rig, DropReason::QueuePurge);
        assert_eq!(rig.ledger().dropped_for(DropReason::QueuePurge), 1);
    }
}

/// Linux: `proxy_arp` was turned off while requests waited, and none was answered.
#[test]
fn who_is_no_proxy_any_more_answers_nothing_that_waits() {
    let mut rig = router(&[PROXY]);
    assert_eq!(rig.receive(&ask_for(NEAR, FAR)), Ended::Held);
    rig.reconfigure(|net| net.sysctl.set("net.ipv4.conf.eth0.proxy_arp", "0").expect("a tunable"));
    rig.pass(SECOND);
    neigh::tick(&mut rig, |_, _| {});
    assert!(rig.sent().is_empty());
    assert_eq!((rig.ledger().held(), rig.neigh.next_deadline()), (0, None));
}

/// Linux, `arp_filter` on the interface that is asked by, or `all`: whether an answer comes, and what `TcpExtArpFilter`
/// counts.
#[test]
fn arp_filter_answers_where_packets_to_the_asker_leave() {
    let ask = |scope: &str, sender: [u8; 4], target: [u8; 4], more: &[(&str, &str)]| {
        let name = format!("net.ipv4.conf.{scope}.arp_filter");
        let mut sysctls = vec![(name.as_str(), "1")];
        sysctls.extend(more);
        let mut rig = router(&sysctls);
        let ended = rig.receive(&ask_for(sender, target));
        rig.sent();
        (ended == ANSWERED, rig.counted()[rxpath_trace::Counter::TcpExtArpFilter])
    };
    let (ours, ours_too) = (ADDR.octets(), SECOND_NET);
    for (what, sender, target, expected) in [
        ("on the link", NEAR, ours, (true, 0)),
        ("an address of the other interface", NEAR, ours_too, (true, 0)),
        ("the asker is behind the other interface", [10, 0, 1, 5], ours, (false, 1)),
        ("no way to the asker", [8, 8, 8, 8], ours, (false, 0)),
        ("a probe", [0; 4], ours, (true, 0)),
        ("in our own name", ours_too, ours, (false, 0)),
        ("in all hosts' name", [10, 0, 0, 255], ours, (true, 0)),
    ] {
        assert_eq!(ask("eth0", sender, target, &[]), expected, "{what}");
    }
    assert_eq!(ask("all", [10, 0, 1, 5], ours, &[]), (false, 1));
    assert_eq!(ask("eth1", [10, 0, 1, 5], ours, &[]), (true, 0));
    let ignored = [("net.ipv4.conf.eth0.arp_ignore", "1")];
    assert_eq!(ask("eth0", [10, 0, 1, 5], ours_too, &ignored), (false, 0), "passed over for another reason");
    assert_eq!(ask("eth0", [10, 0, 1, 5], FAR, &[PROXY, AT_ONCE]), (true, 0), "not about proxies");
}

/// Linux, an interface with 10.0.0.1/24 and, behind another, 10.0.1.1: in whose name 10.0.0.9 is asked for when a packet
/// from that other address waits.
#[test]
fn arp_announce_says_in_whose_name_is_asked() {
    let own = Addr::from(ADDR);
    let second = Addr::from_v4([10, 0, 0, 7]);
    let asked = |mode: &str, src: Addr| {
        let mut rig = router(&[("net.ipv4.conf.eth0.arp_announce", mode)]);
        rig.reconfigure(|net| {
            net.interfaces[0].addresses.push(IfAddr { addr: second, prefix: 24 });
            net.fib = route::Fib::build(&net.interfaces, &[]).expect("a fib");
        });
        let mut route = route::output(&rig.net, Addr::from_v4(NEAR_TOO), Some(src)).expect("on the link");
        send(&mut rig, &mut route, b"1");
        let frame = rig.sent().remove(0);
        let (arp, _) = ArpPacket::parse(&frame[14..]).expect("an ARP packet");
        Addr::from(arp.sender_ip())
    };
    let other = Addr::from_v4(SECOND_NET);
    assert_eq!([own, second, other].map(|src| asked("0", src)), [own, second, other]);
    assert_eq!([own, second, other].map(|src| asked("1", src)), [own, second, own]);
    assert_eq!([own, second, other].map(|src| asked("2", src)), [own, own, own]);
}
