//! VLAN devices, on both ways.

use rxpath_mem::{PagePool, PktType, PoolConfig, Skb};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind};
use rxpath_wire::{Addr, EtherType, EthernetHeader, MacAddr, VlanTag};

use crate::cx::{Cx, End, Fate};
use crate::demux::stats::DevStat;
use crate::demux::{EgressMap, IngressMap, Vlan, Vlans, is_tagged, netif_receive_skb_core};
use crate::netfilter::{Hook, HookPoint, HookState, Priority, Verdict};
use crate::netns::{IfAddr, Interface};
use crate::nic::Xmit;
use crate::testing::frames::{self, ethernet};
use crate::testing::{Ended, MAC, PEER_MAC, Rig, interface, net};
use crate::tx::TX_QUEUE_LEN;
use crate::xdp::{Action, Door, Program};

/// Hardware address of the VLAN device `eth0.5`.
const FIVE: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);

fn vlan(ifindex: u16, name: &str, mac: MacAddr, vlan: Vlan, addr: [u8; 4]) -> Interface {
    let addresses = vec![IfAddr { addr: Addr::from_v4(addr), prefix: 24 }];
    Interface { ifindex, name: name.to_owned(), mac, addresses, vlan: Some(vlan), ..interface() }
}

/// `eth0`, its VLAN 5 with an address of its own, its service VLAN 9, and VLAN 7 within that.
fn rig() -> Rig {
    let interfaces = vec![
        interface(),
        vlan(2, "eth0.5", FIVE, Vlan { parent: 1, tpid: EtherType::VLAN, id: 5 }, [10, 0, 5, 1]),
        vlan(3, "s9", MAC, Vlan { parent: 1, tpid: EtherType::QINQ, id: 9 }, [10, 0, 9, 1]),
        vlan(4, "s9.7", MAC, Vlan { parent: 3, tpid: EtherType::VLAN, id: 7 }, [10, 0, 7, 1]),
    ];
    Rig::with_net(net(interfaces, &[]))
}

/// A frame to `dst` with these tags, the outer one first, in front of `ethertype`.
fn tagged(dst: MacAddr, tags: &[VlanTag], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(dst, ethertype, packet);
    for tag in tags.iter().rev() {
        let [a, b] = tag.tpid.to_be_bytes();
        let [c, d] = tag.tci.to_be_bytes();
        frame.splice(12..12, [a, b, c, d]);
    }
    frame
}

fn tag(tci: u16) -> VlanTag {
    VlanTag { tpid: EtherType::VLAN, tci }
}

fn service(tci: u16) -> VlanTag {
    VlanTag { tpid: EtherType::QINQ, tci }
}

fn stats(rig: &Rig, ifindex: u16, which: &[DevStat]) -> Vec<u64> {
    which.iter().map(|stat| rig.dev.row(ifindex)[*stat]).collect()
}

const RX: &[DevStat] = &[DevStat::RxPackets, DevStat::RxBytes, DevStat::Multicast, DevStat::RxOtherhostDropped];
const TX: &[DevStat] = &[DevStat::TxPackets, DevStat::TxBytes, DevStat::TxDropped];

#[test]
fn a_tag_leads_to_the_device_of_its_vlan() {
    let mut rig = rig();
    let packet = frames::tcp().to([10, 0, 5, 1]).packet();
    // To the VLAN device's own address, which on the parent is another station's; to the parent's, which is ours, too.
    assert_eq!(rig.receive(&tagged(FIVE, &[tag(0xa005)], EtherType::IPV4, &packet)), Ended::Tcp);
    assert_eq!(rig.receive(&tagged(MAC, &[tag(5)], EtherType::IPV4, &packet)), Ended::Tcp);
    // To neither; and without the tag, where the VLAN's address is nobody's.
    let other = MacAddr([2, 0, 0, 0, 0, 0x99]);
    let foreign = tagged(other, &[tag(5)], EtherType::IPV4, &packet);
    assert_eq!(rig.receive(&foreign), Ended::Dropped(DropReason::Otherhost));
    assert_eq!(rig.receive(&ethernet(FIVE, EtherType::IPV4, &packet)), Ended::Dropped(DropReason::Otherhost));
    assert_eq!(stats(&rig, 2, RX), [3, 3 * packet.len() as u64, 0, 1], "bytes without the link header");
    assert_eq!(stats(&rig, 1, RX)[3], 1);
    // A frame goes through the core once for each device.
    assert_eq!(rig.counted()[Counter::SoftnetProcessed], 3 * 2 + 1);
}

#[test]
fn a_group_on_a_vlan_is_counted_there() {
    let mut rig = rig();
    let packet = frames::tcp().to([224, 0, 0, 1]).packet();
    let all_hosts = MacAddr([1, 0, 0x5e, 0, 0, 1]);
    rig.receive(&tagged(all_hosts, &[tag(5)], EtherType::IPV4, &packet));
    assert_eq!(stats(&rig, 2, RX)[2], 1);
}

#[test]
fn the_other_ids_are_somebody_elses_and_each_protocol_has_its_own() {
    let mut rig = rig();
    let packet = frames::tcp().packet();
    let vlans = [
        vec![tag(6)],
        vec![service(5)],
        vec![tag(9)],
        // Behind a tag of nobody's nothing is looked at; behind a priority tag the next one counts.
        vec![tag(0), tag(6)],
    ];
    for tags in &vlans {
        let frame = tagged(MAC, tags, EtherType::IPV4, &packet);
        assert_eq!(rig.receive(&frame), Ended::Dropped(DropReason::Otherhost), "{tags:?}");
    }
    assert_eq!(stats(&rig, 1, RX)[3], vlans.len() as u64);
    let nested = tagged(MAC, &[tag(6), tag(5)], EtherType::IPV4, &packet);
    assert_eq!(rig.receive(&nested), Ended::Dropped(DropReason::UnhandledProto));
    assert_eq!(rig.dev_stat(DevStat::RxDropped), 1);
    assert_eq!(stats(&rig, 2, RX)[0], 0, "VLAN 5 saw nothing");
}

#[test]
fn tags_lead_through_vlans_on_vlans_and_behind_priorities() {
    let mut rig = rig();
    let packet = frames::tcp().to([10, 0, 7, 1]).packet();
    assert_eq!(rig.receive(&tagged(MAC, &[service(9), tag(7)], EtherType::IPV4, &packet)), Ended::Tcp);
    assert_eq!(stats(&rig, 3, RX)[..2], [1, packet.len() as u64 + 4]);
    assert_eq!(stats(&rig, 4, RX)[..2], [1, packet.len() as u64]);
    assert_eq!(rig.counted()[Counter::SoftnetProcessed], 3);
    let packet = frames::tcp().to([10, 0, 5, 1]).packet();
    assert_eq!(rig.receive(&tagged(FIVE, &[tag(0xe000), tag(5)], EtherType::IPV4, &packet)), Ended::Tcp);
    assert_eq!(stats(&rig, 2, RX)[0], 1);
    // A tag within a VLAN device that nothing stands on.
    let nobody = tagged(MAC, &[service(9), tag(8)], EtherType::IPV4, &packet);
    assert_eq!(rig.receive(&nobody), Ended::Dropped(DropReason::Otherhost));
    assert_eq!(stats(&rig, 3, RX)[3], 1, "the VLAN device says so");
    let endless = tagged(MAC, &[tag(0); 300], EtherType::IPV4, &packet);
    assert_eq!(rig.receive(&endless), Ended::Tcp, "as many priorities as fit the frame");
}

#[test]
fn frames_with_a_length_are_typed_within_vlans_too() {
    fn handler(_: &mut Cx, skb: Skb) -> End {
        assert_eq!((skb.ifindex, skb.pkt_type, skb.data()), (2, PktType::Host, &[0x42, 0x42, 3][..]));
        End::Consumed(skb, Consumed::Noted)
    }
    let mut rig = rig();
    rig.reconfigure(|net| net.ptypes.register(EtherType::LLC_802_2, handler).expect("free"));
    let llc = tagged(FIVE, &[tag(5)], 3, &[0x42, 0x42, 3]);
    assert_eq!(rig.receive(&llc), Ended::Consumed(Consumed::Noted));
    let raw = tagged(FIVE, &[tag(5)], 3, &[0xff, 0xff, 3]);
    assert_eq!(rig.receive(&raw), Ended::Dropped(DropReason::UnhandledProto));
    assert_eq!(rig.dev.row(2)[DevStat::RxDropped], 1, "the VLAN device counts it");
}

#[test]
fn a_vlan_device_answers_with_its_tag_and_its_address() {
    let mut rig = rig();
    let mut request = frames::arp_request();
    request[38..42].copy_from_slice(&[10, 0, 5, 1]);
    request.splice(12..12, [0x81, 0, 0, 5]);
    assert_eq!(rig.receive(&request), Ended::Consumed(Consumed::Answered));
    let sent = rig.sent();
    let reply = &sent[0];
    assert_eq!(reply[..18], [&PEER_MAC.0[..], &FIVE.0, &[0x81, 0, 0, 5, 8, 6]].concat());
    assert_eq!((&reply[26..32], &reply[32..36]), (&FIVE.0[..], &[10, 0, 5, 1][..]), "who has it");
    assert_eq!(stats(&rig, 2, TX), [1, 42, 0], "the frame without its tag");
    assert_eq!(stats(&rig, 1, TX), [1, 46, 0]);
}

/// An ARP frame as it waits for interface `ifindex`.
fn output(rig: &mut Rig, ifindex: u16) {
    use rxpath_trace::OutputWhat;
    let mut skb = rig.alloc_output(OutputWhat::ArpRequest, 28, true).expect("a slot");
    skb.put(28).fill(7);
    crate::tx::push_ethernet(rig, &mut skb, ifindex, PEER_MAC, EtherType::ARP);
    crate::tx::dev_queue_xmit(rig, skb, ifindex);
}

#[test]
fn what_leaves_by_a_vlan_within_a_vlan_has_both_tags() {
    let mut rig = rig();
    output(&mut rig, 4);
    let expected = tagged(PEER_MAC, &[service(9), tag(7)], EtherType::ARP, &[7; 28]);
    let sent = rig.sent();
    assert_eq!((&sent[0][..6], &sent[0][12..]), (&expected[..6], &expected[12..]));
    assert_eq!((&sent[0][6..12], sent[0].len()), (&MAC.0[..], EthernetHeader::LEN + 8 + 28));
    assert_eq!([4, 3, 1].map(|ifindex| stats(&rig, ifindex, TX)[1]), [42, 46, 50]);
}

#[test]
fn the_type_of_service_becomes_the_priority_of_the_tag() {
    let mut rig = rig();
    let mut map = EgressMap::default();
    assert!(map.set(2, 1) && map.set(6, 5) && map.set(15, 7) && !map.set(16, 0) && !map.set(0, 8));
    rig.reconfigure(|net| net.interfaces[1].egress = map);
    let mut priority = |tos: u8| {
        let mut packet = frames::ip(6, &[0; 20]);
        packet.tos = tos;
        let mut skb = rig.alloc_output(rxpath_trace::OutputWhat::Frame, 200, false).expect("a slot");
        let packet = packet.packet();
        skb.put(packet.len()).copy_from_slice(&packet);
        skb.set_network_header_here();
        skb.protocol = EtherType::IPV4;
        crate::tx::push_ethernet(&rig, &mut skb, 2, PEER_MAC, EtherType::IPV4);
        crate::tx::dev_queue_xmit(&mut rig, skb, 2);
        let sent = rig.sent().remove(0);
        assert_eq!((&sent[12..14], sent[14] & 0x0f, sent[15]), (&[0x81, 0][..], 0, 5));
        sent[14] >> 5
    };
    // tc-prio(8): bulk, interactive, both, neither, and what ECN and the precedence do not change.
    assert_eq!([0x08, 0x10, 0x18, 0x00, 0x0a, 0xb0].map(&mut priority), [1, 5, 0, 0, 1, 5]);
    // What is no packet of IPv4 has none.
    output(&mut rig, 2);
    assert_eq!(rig.sent()[0][14] >> 5, 0);
}

/// Notes the priority of what it sees.
struct Priorities(std::sync::Mutex<Vec<u8>>);

impl Hook for Priorities {
    fn name(&self) -> &str {
        "priorities"
    }

    fn decide(&self, _: &mut Cx, _: &HookState, skb: Skb) -> Verdict {
        self.0.lock().expect("no panic").push(skb.priority());
        Verdict::Accept(skb)
    }
}

#[test]
fn the_priority_of_the_tag_becomes_the_packets() {
    let mut rig = rig();
    let seen = std::sync::Arc::new(Priorities(Default::default()));
    let hook = std::sync::Arc::clone(&seen);
    let mut map = IngressMap::default();
    assert!(map.set(5, 6) && map.set(7, 15) && !map.set(8, 0) && !map.set(0, 16));
    rig.reconfigure(|net| {
        net.interfaces[1].ingress = map;
        net.hooks.register(HookPoint::PreRouting, Priority::FILTER, hook);
    });
    let packet = frames::tcp().to([10, 0, 5, 1]).packet();
    for priority in [0, 5, 7] {
        let frame = tagged(FIVE, &[tag(priority << 13 | 5)], EtherType::IPV4, &packet);
        assert_eq!(rig.receive(&frame), Ended::Tcp);
    }
    // Another device has another map, and what has no tag no priority.
    let frame = tagged(MAC, &[service(5 << 13 | 9)], EtherType::IPV4, &frames::tcp().to([10, 0, 9, 1]).packet());
    assert_eq!((rig.receive(&frame), rig.receive(&frames::tcp().frame())), (Ended::Tcp, Ended::Tcp));
    assert_eq!(*seen.0.lock().expect("no panic"), [0, 6, 15, 0, 0]);
}

#[test]
fn a_full_queue_of_the_parent_is_the_vlan_devices_drop() {
    let mut rig = rig();
    rig.pool = PagePool::new(PoolConfig { slots: 2_048, ..PoolConfig::default() }).expect("memory for a pool");
    rig.device.answers = vec![Xmit::Busy];
    output(&mut rig, 2);
    assert!(rig.sent().is_empty());
    for _ in 1..TX_QUEUE_LEN {
        output(&mut rig, 1);
    }
    assert_eq!((rig.outbox.len_of(1), rig.outbox.len_of(2)), (TX_QUEUE_LEN, 0), "it waits for the parent's device");
    output(&mut rig, 4);
    assert_eq!((stats(&rig, 4, TX), stats(&rig, 3, TX)), (vec![0, 0, 1], vec![0, 0, 0]));
    assert_eq!(rig.ledger().dropped_for(DropReason::TxRingFull), 1);
    assert_eq!(rig.sent().len(), TX_QUEUE_LEN);
}

#[test]
fn a_program_on_a_vlan_device_sees_its_frames_without_the_tag() {
    let mut rig = rig();
    rig.reconfigure(|net| {
        let program = Program::new("drop", |frame: &mut _| {
            let frame: &mut crate::xdp::Frame<'_> = frame;
            if frame.data()[12..14] == [8, 0] { Action::Drop } else { Action::Aborted }
        });
        assert!(!net.attach_xdp(2, Door::Native, Some(program.clone())), "no driver has that door");
        assert!(net.attach_xdp(2, Door::Generic, Some(program)));
    });
    let packet = frames::tcp().to([10, 0, 5, 1]).packet();
    assert_eq!(rig.receive(&tagged(FIVE, &[tag(5)], EtherType::IPV4, &packet)), Ended::Dropped(DropReason::Xdp));
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp, "the parent's frames are not its own");
    assert_eq!(rig.dev.row(2)[DevStat::XdpDrop], 1);
}

#[test]
fn a_life_tells_of_tags_and_vlans() {
    let mut rig = rig();
    let packet = frames::tcp().to([10, 0, 5, 1]).packet();
    rig.receive(&tagged(FIVE, &[tag(0xa005)], EtherType::IPV4, &packet));
    let events = rig.events();
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    use EventKind::{Addresses, Consumed, EthTypeTrans, IpRcv, LocalDeliver, NetifReceive, RouteLocal};
    let expected =
        [EthTypeTrans, EventKind::VlanUntag, EventKind::VlanReceive, NetifReceive, IpRcv, Addresses, RouteLocal];
    assert_eq!(kinds, [&expected[..], &[LocalDeliver, Consumed]].concat());
    assert_eq!((events[1].a, events[1].b), (0xa005, 0x8100));
    assert_eq!((events[2].a, events[2].b), (2, PktType::Host as u32));
}

#[test]
fn devices_are_found_by_parent_protocol_and_id() {
    let rig = rig();
    let vlans = Vlans::of(&rig.net.interfaces);
    assert_eq!(vlans.find(1, tag(0xf005)), Some(2), "whatever the priority");
    assert_eq!((vlans.find(1, service(9)), vlans.find(3, tag(7))), (Some(3), Some(4)));
    assert_eq!((vlans.find(1, tag(7)), vlans.find(1, service(5)), vlans.find(2, tag(5))), (None, None, None));
    assert_eq!([1, 2, 3, 4, 9].map(|ifindex| rig.net.root_of(ifindex)), [1, 1, 1, 1, 9]);
    assert_eq!(rig.net.devices, 1);
}

#[test]
fn garbage_behind_tags_ends_with_a_name() {
    let mut rig = rig();
    let mut random = crate::cx::Rng::new(0x5eed);
    for _ in 0..4_000 {
        let mut frame = ethernet(if random.below(2) == 0 { MAC } else { FIVE }, EtherType::VLAN, &[]);
        for _ in 0..random.below(4) {
            let tpid = if random.below(3) == 0 { EtherType::QINQ } else { EtherType::VLAN };
            let id = [0, 5, 7, 9, 6][random.below(5) as usize];
            frame.truncate(frame.len() - 2);
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&[(random.below(8) << 5) as u8, id]);
            frame.extend_from_slice(&[EtherType::IPV4, EtherType::ARP, 46][random.below(3) as usize].to_be_bytes());
        }
        let rest = random.below(60) as usize;
        frame.extend((0..rest).map(|_| random.next_u64() as u8));
        let skb = rig.frame(&frame);
        let fate = if is_tagged(&skb) {
            crate::path::vlan_rounds(&mut rig, skb)
        } else {
            netif_receive_skb_core(&mut rig, skb)
        };
        match fate {
            Fate::Pass((skb, _)) => rig.drop_skb(skb, DropReason::NotSpecified),
            ended => {
                if let Err(end) = ended.split() {
                    rig.end(end);
                }
            }
        }
        rig.events();
    }
}
