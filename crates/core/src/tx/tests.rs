use rxpath_mem::{IpSummed, Skb};
use rxpath_trace::{Counter, DropReason, EventKind, Holder, OutputWhat};
use rxpath_wire::{Addr, IpProto, Ipv4Header, MacAddr, ipv4};

use super::{IpFlow, Outbox, TX_QUEUE_LEN, dev_queue_xmit, ip_build_and_send, ip_queue_xmit};
use crate::demux::stats::DevStat;
use crate::netfilter::{Hook, HookPoint, HookState, Priority, Verdict};
use crate::netns::IfAddr;
use crate::nic::Xmit;
use crate::route::{self, Fib, Route};
use crate::testing::{self, ADDR, MAC, PEER, PEER_MAC, Rig};

fn flow() -> IpFlow {
    IpFlow {
        src: Addr::from(ADDR),
        dst: Addr::from(PEER),
        protocol: IpProto::TCP,
        ttl: 64,
        tos: 0x10,
        dont_fragment: true,
        ident: 0x1234,
    }
}

/// A rig that knows its peer for good, and the route to it.
fn rig() -> (Rig, Route) {
    let mut rig = Rig::new();
    assert!(testing::set_permanent(&mut rig, 1, Addr::from(PEER), PEER_MAC));
    let route = route::output(&rig.net, Addr::from(PEER), None).expect("on the link");
    (rig, route)
}

fn segment(rig: &mut Rig, payload: &[u8]) -> Skb {
    let mut skb = rig.alloc_output(OutputWhat::TcpData, payload.len(), false).expect("a slot");
    skb.put(payload.len()).copy_from_slice(payload);
    skb
}

#[test]
fn a_segment_becomes_a_frame() {
    let (mut rig, mut route) = rig();
    let skb = segment(&mut rig, b"segment");
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    assert_eq!(rig.ledger().held_by(Holder::TxQueue), 1);
    let frames = rig.sent();
    let [frame] = frames.as_slice() else { panic!("one frame: {frames:?}") };
    assert_eq!(frame[..14], [PEER_MAC.0.as_slice(), &MAC.0, &[8, 0]].concat());
    let (header, payload) = Ipv4Header::parse(&frame[14..]).expect("a header");
    assert!(ipv4::verify(&frame[14..34]));
    assert_eq!((header.src(), header.dst(), header.protocol()), (ADDR, PEER, IpProto::TCP));
    assert_eq!((header.ttl(), header.tos(), header.id(), header.total_len()), (64, 0x10, 0x1234, 27));
    assert!(header.dont_fragment() && header.ihl() == 5);
    assert_eq!(payload, b"segment");
    rig.assert_counted(&[(Counter::IpOutRequests, 1), (Counter::IpOutTransmits, 1), (Counter::IpExtOutOctets, 27)]);
    assert_eq!((rig.dev_stat(DevStat::TxPackets), rig.dev_stat(DevStat::TxBytes)), (1, 41));
    assert_eq!((rig.ledger().output(), rig.ledger().transmitted(), rig.device.flushes), (1, 1, 1));
    let kinds: Vec<EventKind> = rig.events().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::OutputMade, EventKind::Addresses, EventKind::Ports, EventKind::Transmitted]);
}

#[test]
fn the_device_finds_the_headers_where_the_packet_says() {
    let (mut rig, mut route) = rig();
    let mut skb = segment(&mut rig, b"segment");
    skb.ip_summed = IpSummed::Partial;
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    let skb = rig.outbox.take(1).pop_front().expect("the frame");
    assert_eq!(skb.network_header()[0], 0x45);
    assert_eq!(skb.transport_header(), b"segment");
    assert_eq!((skb.protocol, skb.ifindex, skb.ip_summed), (0x0800, 1, IpSummed::Partial));
    rig.release(Holder::TxQueue);
    rig.drop_skb(skb, DropReason::TxError);
}

#[test]
fn options_lengthen_the_header() {
    let (mut rig, mut route) = rig();
    let skb = segment(&mut rig, b"segment");
    ip_build_and_send(&mut rig, skb, &flow(), &[7, 7, 8, 10, 0, 0, 1, 0], &mut route);
    let frame = rig.sent().remove(0);
    let (header, options, payload) = Ipv4Header::split(&frame[14..]).expect("a header");
    assert!(ipv4::verify(&frame[14..42]));
    assert_eq!((header.ihl(), header.total_len()), (7, 35));
    assert_eq!((options, payload), (&[7, 7, 8, 10, 0, 0, 1, 0][..], &b"segment"[..]));
}

#[test]
fn the_route_keeps_the_next_hops_address_until_it_may_be_wrong() {
    let (mut rig, mut route) = rig();
    let skb = segment(&mut rig, b"1");
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    assert_eq!(route.mac, Some((PEER_MAC, rig.neigh.generation())));
    let moved = MacAddr([2, 0, 0, 0, 0, 0x77]);
    let skb = segment(&mut rig, b"2");
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    assert!(testing::set_permanent(&mut rig, 1, Addr::from(PEER), moved));
    let skb = segment(&mut rig, b"3");
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    let to: Vec<Vec<u8>> = rig.sent().iter().map(|frame| frame[..6].to_vec()).collect();
    assert_eq!(to, [PEER_MAC.0, PEER_MAC.0, moved.0]);
    assert_eq!(route.mac.map(|(mac, _)| mac), Some(moved));
}

#[test]
fn a_route_is_looked_up_again_when_the_configuration_changes() {
    let (mut rig, mut route) = rig();
    rig.reconfigure(|net| net.interfaces[0].mtu = 1_400);
    let skb = segment(&mut rig, b"1");
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    assert_eq!((route.mtu, route.generation), (1_400, 2));
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn a_segment_without_a_route_any_more_is_counted() {
    let (mut rig, mut route) = rig();
    rig.reconfigure(|net| {
        net.interfaces[0].addresses = vec![IfAddr { addr: Addr::from_v4([10, 9, 0, 1]), prefix: 24 }];
        net.fib = Fib::build(&net.interfaces, &[]).expect("a fib");
    });
    let skb = segment(&mut rig, b"1");
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    rig.assert_counted(&[(Counter::IpOutNoRoutes, 1)]);
    assert_eq!(rig.ledger().dropped_for(DropReason::IpOutnoroutes), 1);
}

#[test]
fn ipv6_addresses_have_no_way_out_yet() {
    let (mut rig, mut route) = rig();
    let skb = segment(&mut rig, b"1");
    let six = IpFlow { dst: Addr::from(std::net::Ipv6Addr::LOCALHOST), ..flow() };
    ip_queue_xmit(&mut rig, skb, &six, &mut route);
    assert_eq!(rig.ledger().dropped_for(DropReason::IpOutnoroutes), 1);
}

#[test]
fn a_packet_larger_than_the_interface_allows_must_be_for_the_device_to_cut() {
    let (mut rig, mut route) = rig();
    let fits = segment(&mut rig, &[7; 1_480]);
    ip_queue_xmit(&mut rig, fits, &flow(), &mut route);
    let large = segment(&mut rig, &[7; 1_481]);
    ip_queue_xmit(&mut rig, large, &flow(), &mut route);
    assert_eq!(rig.ledger().dropped_for(DropReason::PktTooBig), 1);
    assert_eq!(rig.counted()[Counter::IpFragFails], 1);
    let mut to_cut = segment(&mut rig, &[7; 4_000]);
    to_cut.gso_size = 1_448;
    ip_queue_xmit(&mut rig, to_cut, &flow(), &mut route);
    let lens: Vec<usize> = rig.sent().iter().map(Vec::len).collect();
    assert_eq!(lens, [1_514, 4_034]);
}

#[test]
fn a_packet_that_no_header_can_describe() {
    let (mut rig, mut route) = rig();
    let mut skb = segment(&mut rig, &[7; 60_000]);
    let more = segment(&mut rig, &[7; 10_000]);
    rig.ledger.consumed(rxpath_trace::Consumed::Split, 1);
    skb.add_frag(more).expect("of the same pool");
    skb.gso_size = 1_448;
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    assert_eq!(rig.ledger().dropped_for(DropReason::PktTooBig), 1);
}

#[test]
fn a_full_queue_drops_the_newest() {
    let (mut rig, mut route) = rig();
    rig.pool =
        rxpath_mem::PagePool::new(rxpath_mem::PoolConfig { head_slots: 2_000, ..Default::default() }).expect("memory");
    for _ in 0..TX_QUEUE_LEN + 3 {
        let skb = segment(&mut rig, b"x");
        ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    }
    assert_eq!((rig.outbox.len(), rig.outbox.len_of(1), rig.outbox.len_of(9)), (TX_QUEUE_LEN, TX_QUEUE_LEN, 0));
    assert_eq!(rig.ledger().dropped_for(DropReason::TxRingFull), 3);
    assert_eq!(rig.dev_stat(DevStat::TxDropped), 3);
    assert_eq!(rig.sent().len(), TX_QUEUE_LEN);
    assert!(rig.outbox.is_empty());
}

#[test]
fn a_busy_device_gets_the_same_frame_first_the_next_time() {
    let (mut rig, mut route) = rig();
    for payload in [b"1", b"2", b"3"] {
        let skb = segment(&mut rig, payload);
        ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    }
    rig.device.answers = vec![Xmit::Sent, Xmit::Busy];
    let payloads = |frames: Vec<Vec<u8>>| -> Vec<u8> { frames.iter().map(|frame| frame[34]).collect() };
    assert_eq!(payloads(rig.sent()), b"1");
    assert_eq!((rig.outbox.len(), rig.ledger().held_by(Holder::TxQueue)), (2, 2));
    rig.device.answers = vec![Xmit::Busy];
    assert_eq!(payloads(rig.sent()), b"");
    assert_eq!(rig.device.flushes, 1, "no burst, no flush");
    assert_eq!(payloads(rig.sent()), b"23");
}

#[test]
fn a_frame_that_the_device_refuses_is_an_error_of_its() {
    let (mut rig, mut route) = rig();
    for payload in [b"1", b"2"] {
        let skb = segment(&mut rig, payload);
        ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    }
    rig.device.answers = vec![Xmit::Failed];
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(rig.ledger().dropped_for(DropReason::TxError), 1);
    assert_eq!((rig.dev_stat(DevStat::TxErrors), rig.dev_stat(DevStat::TxPackets)), (1, 1));
}

#[test]
fn a_device_that_is_gone_takes_its_frames_with_it() {
    let (mut rig, mut route) = rig();
    let skb = segment(&mut rig, b"1");
    ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
    rig.device.gone = true;
    assert!(rig.sent().is_empty());
    assert_eq!(rig.ledger().dropped_for(DropReason::DevReady), 1);
    let skb = segment(&mut rig, b"2");
    dev_queue_xmit(&mut rig, skb, 7);
    assert_eq!(rig.outbox.len_of(7), 1);
    Outbox::purge(&mut rig, DropReason::StackShutdown);
    assert_eq!(rig.ledger().dropped_for(DropReason::StackShutdown), 1);
}

/// Drops what it sees at one point.
struct Wall(HookPoint);

impl Hook for Wall {
    fn name(&self) -> &str {
        "wall"
    }

    fn decide(&self, _: &mut crate::cx::Cx, at: &HookState, skb: Skb) -> Verdict {
        assert_eq!(skb.data()[0], 0x45, "from the IP header on");
        if at.point() == self.0 { Verdict::Drop(skb) } else { Verdict::Accept(skb) }
    }
}

#[test]
fn the_hooks_on_the_way_out_see_what_is_sent() {
    for wall in [HookPoint::LocalOut, HookPoint::PostRouting, HookPoint::Forward] {
        let (mut rig, mut route) = rig();
        rig.reconfigure(|net| {
            for point in HookPoint::ALL {
                net.hooks.register(point, Priority::FILTER, std::sync::Arc::new(Wall(wall)));
            }
        });
        let skb = segment(&mut rig, b"1");
        ip_queue_xmit(&mut rig, skb, &flow(), &mut route);
        let passes = wall == HookPoint::Forward;
        assert_eq!(rig.sent().len(), usize::from(passes));
        assert_eq!(rig.ledger().dropped_for(DropReason::NetfilterDrop), u64::from(!passes));
        let counted = rig.counted();
        assert_eq!((counted[Counter::IpOutRequests], counted[Counter::IpOutTransmits]), (1, u64::from(passes)));
    }
}
