//! A stack between two wires, as a router: frames in on one, frames out on the other, and what is counted. Frames,
//! counters and drop reasons are those of Linux 6.18 where it was given the same frames.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use rxpath::clock::ManualClock;
use rxpath::device::wire::{self, Port, WireConfig};
use rxpath::net::{TcpListener, TcpStream};
use rxpath::rxpath_core::cx::Cx;
use rxpath::rxpath_core::netfilter::{Answer, Hook, HookPoint, HookState, Hooks, Priority, Stolen, Verdict};
use rxpath::rxpath_core::route::{RouteKind, RouteSpec};
use rxpath::rxpath_mem::{IpSummed, RxDesc, Skb};
use rxpath::rxpath_trace::{Counter, DropReason, Holder, Snapshot, Time};
use rxpath::rxpath_wire::{
    Addr, ArpPacket, ArpRepr, EtherType, EthernetHeader, EthernetRepr, IpProto, Ipv4Header, MacAddr, SeqNum, TcpFlags,
    TcpRepr, arp, ethernet, ipv4, tcp,
};
use rxpath::{Interface, Mode, Stack};

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const A_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const B_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 10]);
const ETH0: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ETH1: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SECOND: u64 = 1_000_000_000;

/// Frames that leave by eth0 and by eth1.
type Out = [Vec<Vec<u8>>; 2];

/// The router: 10.0.0.1/24 on eth0, where A is, and 192.168.0.1/16 on eth1, where B is and packets are at most 1,000 long.
struct Router {
    stack: Stack,
    a: Port,
    b: Port,
    now: Time,
    counted: Snapshot,
    /// Stations that do not answer ARP.
    silent: Vec<Ipv4Addr>,
}

fn route(to: [u8; 4], prefix: u8) -> RouteSpec {
    RouteSpec::new(Addr::from_v4(to), prefix)
}

fn routes() -> Vec<RouteSpec> {
    let via = |to, prefix, gateway: Ipv4Addr| RouteSpec { via: Some(gateway.into()), ..route(to, prefix) };
    let of = |kind, to| RouteSpec { kind, ..route(to, 8) };
    vec![
        via([30, 0, 0, 0], 8, GATEWAY),
        via([31, 0, 0, 0], 8, GATEWAY),
        of(RouteKind::Blackhole, [20, 0, 0, 0]),
        of(RouteKind::Unreachable, [21, 0, 0, 0]),
        of(RouteKind::Prohibit, [22, 0, 0, 0]),
        RouteSpec { ifindex: Some(2), ..of(RouteKind::Local, [26, 0, 0, 0]) },
    ]
}

impl Router {
    fn new() -> Router {
        Router::with("1", Hooks::new(), WireConfig::named("eth0"), WireConfig::named("eth1"))
    }

    fn with(forward: &str, hooks: Hooks, eth0: WireConfig, eth1: WireConfig) -> Router {
        let (wire_a, a) = wire::port(eth0.mac(ETH0));
        let (wire_b, b) = wire::port(WireConfig { mtu: 1_000, ..eth1.mac(ETH1) });
        let mut builder = Stack::builder()
            .interface(Interface::new(wire_a).address("10.0.0.1/24").expect("an address"))
            .interface(Interface::new(wire_b).address("192.168.0.1/16").expect("an address"))
            .mode(Mode::Polled)
            .clock(ManualClock::new())
            .hooks(hooks)
            .seed(1);
        for route in routes() {
            builder = builder.route(route);
        }
        let stack = builder.sysctl("net.ipv4.ip_forward", forward).expect("a sysctl").build().expect("a stack");
        Router { stack, a, b, now: Time(5 * SECOND), counted: Snapshot::new(), silent: Vec::new() }
    }

    /// Frames of IPv4 that leave, by interface, after all that is due has been done and ARP was answered.
    fn settle(&mut self) -> Out {
        let mut out = [Vec::new(), Vec::new()];
        loop {
            let again = self.stack.poll(self.now).next.is_some_and(|at| at <= self.now);
            let mut asked = false;
            for (port, mac, side) in [(&self.a, A_MAC, 0), (&self.b, B_MAC, 1)] {
                while let Some(frame) = port.recv() {
                    if frame[12..14] == [8, 0] {
                        out[side].push(frame);
                    } else if let Some(answer) = arp_answer(&frame, mac, &self.silent) {
                        port.send(self.now, &answer).expect("a descriptor");
                        asked = true;
                    }
                }
            }
            if !again && !asked {
                self.stack.ledger().check().expect("the books");
                return out;
            }
        }
    }

    /// A packet from A; what leaves, and the counters that move (those of the way in left out).
    fn forward(&mut self, frame: &[u8]) -> (Out, Vec<(Counter, u64)>) {
        self.settle();
        self.counted = self.stack.snapshot();
        self.a.send(self.now, frame).expect("a descriptor");
        let out = self.settle();
        let since = self.stack.snapshot().diff(&self.counted);
        let of_the_way_in = |counter: Counter| {
            let name = counter.to_string();
            ["InReceives", "InNoECTPkts", "Octets", "Softnet", "Copied"].iter().any(|part| name.contains(part))
        };
        let moved = Counter::ALL.iter().map(|counter| (*counter, since[*counter]));
        (out, moved.filter(|(counter, n)| *n > 0 && !of_the_way_in(*counter)).collect())
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.stack.ledger().dropped_for(reason)
    }
}

fn arp_answer(frame: &[u8], mac: MacAddr, silent: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let (request, _) = ArpPacket::parse(frame.get(14..)?)?;
    if request.operation() != arp::REQUEST || silent.contains(&request.target_ip()) {
        return None;
    }
    let mut answer = vec![0; EthernetHeader::LEN + ArpPacket::LEN];
    let at =
        ethernet::emit(&mut answer, EthernetRepr { dst: request.sender_mac(), src: mac, ethertype: EtherType::ARP });
    let repr = ArpRepr {
        operation: arp::REPLY,
        sender_mac: mac,
        sender_ip: request.target_ip(),
        target_mac: request.sender_mac(),
        target_ip: request.sender_ip(),
    };
    arp::emit(&mut answer[at..], repr);
    Some(answer)
}

/// A packet with identification 0x1234, as the experiments with the kernel used it.
#[derive(Clone)]
struct Packet {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ttl: u8,
    word: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
    to: MacAddr,
}

fn packet(dst: impl Into<Ipv4Addr>, len: usize) -> Packet {
    let payload = (0..200u8).cycle().take(len).collect();
    Packet { src: A, dst: dst.into(), ttl: 64, word: 0, options: Vec::new(), payload, to: ETH0 }
}

impl Packet {
    fn ip(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut ip = vec![0; header_len];
        ip[0] = 0x40 | (header_len / 4) as u8;
        ip[2..4].copy_from_slice(&((header_len + self.payload.len()) as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&[0x12, 0x34]);
        ip[6..8].copy_from_slice(&self.word.to_be_bytes());
        (ip[8], ip[9]) = (self.ttl, IpProto::UDP);
        ip[12..16].copy_from_slice(&self.src.octets());
        ip[16..20].copy_from_slice(&self.dst.octets());
        ip[20..].copy_from_slice(&self.options);
        ipv4::fill_checksum(&mut ip);
        [ip, self.payload.clone()].concat()
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 14];
        ethernet::emit(&mut frame, EthernetRepr { dst: self.to, src: A_MAC, ethertype: EtherType::IPV4 });
        [frame, self.ip()].concat()
    }

    /// The same packet one hop on.
    fn on(&self) -> Packet {
        Packet { ttl: self.ttl - 1, ..self.clone() }
    }
}

/// An ICMP message to A: type, code, the last word of its header, and what it quotes.
#[track_caller]
fn icmp(frames: &[Vec<u8>]) -> (u8, u8, [u8; 4], &[u8]) {
    let [frame] = frames else { panic!("one message: {frames:?}") };
    let (header, _) = Ipv4Header::parse(&frame[14..]).expect("a header");
    assert_eq!((header.src(), header.dst(), header.protocol()), (Ipv4Addr::new(10, 0, 0, 1), A, IpProto::ICMP));
    assert_eq!((header.tos(), header.ttl()), (0xc0, 64));
    (frame[34], frame[35], frame[38..42].try_into().expect("a word"), &frame[42..])
}

const FORWARDED: (Counter, u64) = (Counter::IpForwDatagrams, 1);
const REQUESTED: (Counter, u64) = (Counter::IpOutRequests, 1);
const SENT: (Counter, u64) = (Counter::IpOutTransmits, 1);
const MESSAGE: (Counter, u64) = (Counter::IcmpOutMsgs, 1);

#[test]
fn a_packet_goes_on_with_one_hop_less() {
    let mut router = Router::new();
    let sent = packet(B, 30);
    let ([back, on], counted) = router.forward(&sent.frame());
    assert_eq!(counted, [FORWARDED, SENT]);
    assert!(back.is_empty());
    assert_eq!(on, [[&B_MAC.0[..], &ETH1.0, &[8, 0], &sent.on().ip()].concat()]);
    assert_eq!(router.stack.snapshot()[Counter::IpInDelivers], 0);
    // Class E and "this network" are ordinary here, as they are there.
    let odd = Packet { src: Ipv4Addr::new(0, 0, 0, 9), ..sent };
    let ([_, on], _) = router.forward(&odd.frame());
    assert_eq!(on[0][14..], odd.on().ip());
    assert!(router.stack.proc().snmp().starts_with("Ip: Forwarding DefaultTTL"));
    assert!(router.stack.proc().snmp().contains("\nIp: 1 64 "));
}

#[test]
fn the_last_hop_is_told_of() {
    for ttl in [0, 1] {
        let mut router = Router::new();
        let sent = Packet { ttl, ..packet(B, 30) };
        let ([back, on], counted) = router.forward(&sent.frame());
        let [hdr, exceeded] = [Counter::IpInHdrErrors, Counter::IcmpOutTimeExcds].map(|counter| (counter, 1));
        assert_eq!(counted, [hdr, REQUESTED, SENT, MESSAGE, exceeded, (Counter::icmp_out(11), 1)]);
        assert_eq!(icmp(&back), (11, 0, [0; 4], &sent.ip()[..]));
        assert!(on.is_empty());
        assert_eq!(router.dropped(DropReason::IpInhdr), 1);
    }
}

#[test]
fn what_is_too_long_and_must_not_be_cut_is_told_with_the_mtu() {
    let mut router = Router::new();
    let sent = Packet { word: ipv4::DONT_FRAGMENT, ..packet(B, 1_200) };
    let ([back, on], counted) = router.forward(&sent.frame());
    let [fails, unreach] = [Counter::IpFragFails, Counter::IcmpOutDestUnreachs].map(|counter| (counter, 1));
    assert_eq!(counted, [FORWARDED, REQUESTED, fails, SENT, MESSAGE, unreach, (Counter::icmp_out(3), 1)]);
    assert_eq!(icmp(&back), (3, 4, [0, 0, 3, 0xe8], &sent.ip()[..548]));
    assert!(on.is_empty());
    assert_eq!(router.dropped(DropReason::PktTooBig), 1);
}

/// The fragments of a packet as they leave: fragment word, options, payload.
fn fragments(frames: &[Vec<u8>]) -> Vec<(u16, Vec<u8>, Vec<u8>)> {
    let fragment = |frame: &Vec<u8>| {
        let (header, options, payload) = Ipv4Header::split(&frame[14..]).expect("a header");
        assert!(ipv4::verify(&frame[14..14 + header.header_len()]) && header.id() == 0x1234 && header.ttl() == 63);
        assert_eq!(usize::from(header.total_len()), frame.len() - 14);
        (header.fragment_word(), options.to_vec(), payload.to_vec())
    };
    frames.iter().map(fragment).collect()
}

#[test]
fn what_is_too_long_is_cut() {
    let recorded = [7, 7, 8, 192, 168, 0, 1, 1];
    for (word, options, first_options, second_options, words, at) in [
        (0, vec![], vec![], vec![], [0x2000, 0x007a], 976),
        (0x200a, vec![], vec![], vec![], [0x200a, 0x2084], 976),
        (0, vec![7, 7, 4, 0, 0, 0, 0, 1], recorded.to_vec(), vec![1; 8], [0x2000, 0x0079], 968),
        (
            0,
            vec![7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0],
            [&recorded[..], &[148, 4, 0, 0]].concat(),
            [&[1; 8][..], &[148, 4, 0, 0]].concat(),
            [0x2000, 0x0079],
            968,
        ),
    ] {
        let mut router = Router::new();
        let sent = Packet { word, options, ..packet(B, 1_200) };
        let ([back, on], counted) = router.forward(&sent.frame());
        let [oks, creates, transmits] =
            [(Counter::IpFragOKs, 1), (Counter::IpFragCreates, 2), (Counter::IpOutTransmits, 2)];
        assert_eq!(counted, [FORWARDED, oks, creates, transmits]);
        assert!(back.is_empty());
        let (first, second) = sent.payload.split_at(at);
        let expected = [(words[0], first_options, first.to_vec()), (words[1], second_options, second.to_vec())];
        assert_eq!(fragments(&on), expected);
        let ledger = router.stack.ledger();
        assert_eq!((ledger.made(), router.stack.snapshot()[Counter::CopiedSplit] > 1_200), (2, true));
    }
}

#[test]
fn a_frame_to_all_is_not_sent_on() {
    let mut router = Router::new();
    let sent = Packet { to: MacAddr::BROADCAST, ..packet(B, 30) };
    let (out, counted) = router.forward(&sent.frame());
    assert_eq!((out, counted), ([vec![], vec![]], vec![]));
    assert_eq!(router.dropped(DropReason::NotSpecified), 1);
}

#[test]
fn a_sender_on_the_same_link_is_told_of_the_better_way() {
    let mut router = Router::new();
    let sent = packet([30, 0, 0, 2], 30);
    let ([back, on], counted) = router.forward(&sent.frame());
    let redirected = (Counter::IcmpOutRedirects, 1);
    assert_eq!(
        counted,
        [FORWARDED, REQUESTED, (Counter::IpOutTransmits, 2), MESSAGE, redirected, (Counter::icmp_out(5), 1)]
    );
    assert!(on.is_empty());
    // The message and the packet wait for two different stations: which is first is the link's matter.
    let (messages, packets): (Vec<_>, Vec<_>) = back.into_iter().partition(|frame| frame[23] == IpProto::ICMP);
    assert_eq!(icmp(&messages), (5, 1, GATEWAY.octets(), &sent.on().ip()[..]));
    assert_eq!(packets[0][14..], sent.on().ip());
    // From behind a gateway nobody could take the better way.
    let far = Packet { src: Ipv4Addr::new(31, 0, 0, 2), ..sent.clone() };
    let ([back, _], counted) = router.forward(&far.frame());
    assert_eq!((back.len(), counted), (1, vec![FORWARDED, SENT]));
    // Nine times at most, in ever longer gaps, until it was silent for long enough.
    let mut told = 1;
    for _ in 0..60 {
        router.now += SECOND;
        let (_, counted) = router.forward(&sent.frame());
        told += usize::from(counted.contains(&redirected));
    }
    assert_eq!(told, 9);
    router.now += 21 * SECOND;
    assert!(router.forward(&sent.frame()).1.contains(&redirected));
}

#[test]
fn where_no_way_leads() {
    let mut router = Router::new();
    let unreach = (Counter::IcmpOutDestUnreachs, 1);
    let told = [REQUESTED, SENT, MESSAGE, unreach, (Counter::icmp_out(3), 1)];
    for (dst, code) in [([21, 0, 0, 2], 1), ([22, 0, 0, 2], 13)] {
        let sent = packet(dst, 30);
        let ([back, on], counted) = router.forward(&sent.frame());
        assert_eq!((counted, on), (told.to_vec(), vec![]));
        assert_eq!(icmp(&back), (3, code, [0; 4], &sent.ip()[..]));
        router.now += 10 * SECOND;
    }
    let (out, counted) = router.forward(&packet([20, 0, 0, 2], 30).frame());
    assert_eq!((out, counted), ([vec![], vec![]], vec![]));
    assert_eq!(router.dropped(DropReason::NotSpecified), 3);
    let sent = packet([40, 0, 0, 2], 30);
    let ([back, on], counted) = router.forward(&sent.frame());
    assert_eq!(counted, [&told[..], &[(Counter::IpExtInNoRoutes, 1)]].concat());
    assert_eq!((icmp(&back), on), ((3, 0, [0; 4], &sent.ip()[..]), vec![]));
    // Each message costs twice what it costs otherwise, and at last nothing is even asked for.
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (_, counted) = router.forward(&sent.frame());
        seen.push(counted.iter().map(|(counter, _)| *counter).find(|c| *c != Counter::IpExtInNoRoutes));
    }
    assert_eq!(seen.iter().filter(|what| **what == Some(Counter::IpOutRequests)).count(), 1);
    assert_eq!(seen.last(), Some(&None));
    assert_eq!(router.dropped(DropReason::IpInnoroutes), 7);
}

#[test]
fn what_is_for_this_host_is_not_sent_on() {
    let mut router = Router::new();
    for dst in [[10, 0, 0, 1], [192, 168, 0, 1], [192, 168, 255, 255], [26, 1, 2, 3]] {
        let (_, counted) = router.forward(&packet(dst, 30).frame());
        assert!(!counted.contains(&FORWARDED), "{dst:?}: {counted:?}");
        assert!(counted.contains(&(Counter::IpInDelivers, 1)), "{dst:?}: {counted:?}");
    }
    let ours = Packet { src: Ipv4Addr::new(26, 0, 0, 1), ..packet(B, 30) };
    assert_eq!(router.forward(&ours.frame()), ([vec![], vec![]], vec![]));
    assert_eq!(router.dropped(DropReason::IpLocalSource), 1);
}

#[test]
fn a_host_sends_nothing_on() {
    let mut host = Router::with("0", Hooks::new(), WireConfig::named("eth0"), WireConfig::named("eth1"));
    for dst in [B, Ipv4Addr::new(40, 0, 0, 2), Ipv4Addr::new(20, 0, 0, 2)] {
        let (out, counted) = host.forward(&packet(dst, 30).frame());
        assert_eq!((out, counted), ([vec![], vec![]], vec![(Counter::IpInAddrErrors, 1)]));
    }
    assert_eq!(host.dropped(DropReason::IpInaddrerrors), 3);
    assert!(host.stack.proc().snmp().contains("\nIp: 2 64 "));
}

#[test]
fn a_next_hop_that_does_not_answer_is_told_of() {
    let mut router = Router::new();
    router.silent.push(B);
    let sent = packet(B, 30);
    let ([back, on], counted) = router.forward(&sent.frame());
    assert_eq!((back, on, counted), (vec![], vec![], vec![FORWARDED, SENT]));
    assert_eq!(router.stack.ledger().held_by(Holder::Neighbour), 1);
    let mut told = Vec::new();
    for _ in 0..4 {
        router.now += SECOND;
        let [back, _] = router.settle();
        told.extend(back);
    }
    assert_eq!(icmp(&told), (3, 1, [0; 4], &sent.on().ip()[..]));
    assert_eq!((router.dropped(DropReason::NeighFailed), router.stack.ledger().held_by(Holder::Neighbour)), (1, 0));
}

/// Refuses what it sees, and notes where.
struct Refuse(HookPoint);

impl Hook for Refuse {
    fn name(&self) -> &str {
        "refuse"
    }

    fn decide(&self, _: &mut Cx, at: &HookState, skb: Skb) -> Verdict {
        let (header, _) = Ipv4Header::parse(skb.data()).expect("a header");
        assert_eq!((at.point(), header.ttl()), (self.0, 63), "behind the hop");
        Verdict::Drop(skb)
    }
}

#[test]
fn hooks_are_asked_between_the_interfaces() {
    for (point, counted_before) in [(HookPoint::Forward, vec![FORWARDED]), (HookPoint::PostRouting, vec![FORWARDED])] {
        let mut hooks = Hooks::new();
        hooks.register(point, Priority::FILTER, Arc::new(Refuse(point)));
        let mut router = Router::with("1", hooks, WireConfig::named("eth0"), WireConfig::named("eth1"));
        let ([_, on], counted) = router.forward(&packet(B, 30).frame());
        assert_eq!((on, counted), (vec![], counted_before));
        assert_eq!(router.dropped(DropReason::NetfilterDrop), 1);
    }
}

/// Keeps what it sees.
#[derive(Default)]
struct Keep(Mutex<Vec<Stolen>>);

impl Hook for Keep {
    fn name(&self) -> &str {
        "keep"
    }

    fn decide(&self, cx: &mut Cx, at: &HookState, skb: Skb) -> Verdict {
        let stolen = at.steal(cx, skb);
        self.0.lock().expect("no panic").push(stolen);
        Verdict::Stolen
    }
}

#[test]
fn what_a_hook_kept_between_the_interfaces_goes_on() {
    for point in [HookPoint::PreRouting, HookPoint::Forward, HookPoint::PostRouting] {
        let (mut hooks, keep) = (Hooks::new(), Arc::new(Keep::default()));
        hooks.register(point, Priority::FILTER, keep.clone());
        let mut router = Router::with("1", hooks, WireConfig::named("eth0"), WireConfig::named("eth1"));
        let ([_, on], _) = router.forward(&packet(B, 30).frame());
        assert_eq!((on.len(), router.stack.ledger().held_by(Holder::Netfilter)), (0, 1));
        let kept = keep.0.lock().expect("no panic").pop().expect("the packet");
        let leaves = (point != HookPoint::PreRouting).then_some(2);
        assert_eq!((kept.state().point(), kept.state().leaves_by()), (point, leaves));
        router.stack.core().reinject(kept, Answer::Accept, None, router.now).expect("as it was");
        let [_, on] = router.settle();
        assert_eq!((on.len(), &on[0][14..]), (1, &packet(B, 30).on().frame()[14..]), "at {point:?}");
    }
}

/// A TCP segment from A to B with an open checksum, as a device with offloads hands it over.
fn open_segment(payload: &[u8]) -> Vec<u8> {
    let flags = TcpFlags::ACK.union(TcpFlags::PSH);
    let repr = TcpRepr { sport: 1_000, dport: 80, seq: SeqNum(7), flags, window: 9, ..TcpRepr::default() };
    let mut segment = vec![0; repr.header_len() + payload.len()];
    tcp::emit(&mut segment, repr);
    let header_len = repr.header_len();
    segment[header_len..].copy_from_slice(payload);
    let len = segment.len();
    tcp::fill_pseudo(A.into(), B.into(), &mut segment, len);
    let mut frame = Packet { payload: segment, word: ipv4::DONT_FRAGMENT, ..packet(B, 0) }.frame();
    frame[14 + 9] = IpProto::TCP;
    ipv4::fill_checksum(&mut frame[14..34]);
    frame
}

#[test]
fn an_open_checksum_is_closed_for_a_device_that_cannot() {
    let mut router =
        Router::with("1", Hooks::new(), WireConfig::named("eth0").offload(true), WireConfig::named("eth1"));
    router.settle();
    let desc = RxDesc { csum: IpSummed::Partial, ..RxDesc::default() };
    router.a.send_with(router.now, &open_segment(b"odd"), desc).expect("a descriptor");
    let [_, on] = router.settle();
    assert!(tcp::verify(A.into(), B.into(), &on[0][34..]));
    assert_eq!(on[0][54..], *b"odd");
}

#[test]
fn a_super_frame_is_cut_for_a_device_that_cannot() {
    let payload: Vec<u8> = (0..=255).cycle().take(4_000).collect();
    let mut router =
        Router::with("1", Hooks::new(), WireConfig::named("eth0").offload(true), WireConfig::named("eth1"));
    router.settle();
    let desc = RxDesc { csum: IpSummed::Partial, gso_size: 900, gso_segs: 5, ..RxDesc::default() };
    router.a.send_with(router.now, &open_segment(&payload), desc).expect("a descriptor");
    let [_, on] = router.settle();
    assert_eq!(on.len(), 5);
    let mut got = Vec::new();
    for (index, frame) in on.iter().enumerate() {
        assert!(tcp::verify(A.into(), B.into(), &frame[34..]) && ipv4::verify(&frame[14..34]));
        assert_eq!(frame[18..20], (0x1234 + index as u16).to_be_bytes());
        assert_eq!(frame[38..42], (7 + 900 * index as u32).to_be_bytes());
        assert_eq!(frame[47], if index == 4 { 0x18 } else { 0x10 }, "PSH stays with the last");
        got.extend_from_slice(&frame[54..]);
    }
    assert_eq!(got, payload);
    assert_eq!(router.stack.ledger().made(), 5);
    // Too long even so, and not to be cut: the sender is told.
    let desc = RxDesc { csum: IpSummed::Partial, gso_size: 1_000, gso_segs: 4, ..RxDesc::default() };
    router.a.send_with(router.now, &open_segment(&payload), desc).expect("a descriptor");
    let [back, on] = router.settle();
    assert_eq!((on.len(), icmp(&back).1), (0, 4));
}

/// A client and a server on two wires, and the router between them; the stream must come whole.
fn through_a_router(offload: bool) {
    let wire = |name: &str, last: u8| WireConfig::named(name).mac(MacAddr([2, 0, 0, 0, 1, last])).offload(offload);
    let (client_wire, router_a) = wire::pair(wire("eth0", 1), wire("eth0", 2));
    let (router_b, server_wire) = wire::pair(wire("eth1", 3), wire("eth0", 4));
    let host = |device, address: &str, gateway: &str, seed| {
        let all = "0.0.0.0/0".parse().expect("a network");
        let interface = Interface::new(device).address(address).expect("an address");
        let builder = Stack::builder().interface(interface).route_via(all, gateway.parse().expect("an address"));
        builder.seed(seed).build().expect("a stack")
    };
    let client = host(client_wire, "10.0.0.2/24", "10.0.0.1", 1);
    let server = host(server_wire, "192.168.0.2/24", "192.168.0.1", 2);
    let router = Stack::builder()
        .interface(Interface::new(router_a).address("10.0.0.1/24").expect("an address"))
        .interface(Interface::new(router_b).address("192.168.0.1/24").expect("an address"))
        .sysctl("net.ipv4.ip_forward", "1")
        .expect("a sysctl")
        .cpus(2)
        .build()
        .expect("a stack");
    let listener = TcpListener::bind(&server, "192.168.0.2:80").expect("a listener");
    let data: Vec<u8> = (0..2_000_000u32).map(|n| n.wrapping_mul(2_654_435_761) as u8).collect();
    std::thread::scope(|scope| {
        let data = &data;
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("the stream");
            assert!(got == *data, "the stream as it was sent");
            stream.write_all(b"all of it").expect("room");
        });
        let mut stream = TcpStream::connect(&client, "192.168.0.2:80").expect("a connection");
        stream.write_all(data).expect("room");
        stream.shutdown(std::net::Shutdown::Write).expect("an open stream");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer");
        assert_eq!(answer, "all of it");
    });
    let counted = router.snapshot();
    assert!(counted[Counter::IpForwDatagrams] > 50 && counted[Counter::IpFragFails] == 0);
    assert_eq!((counted[Counter::IpInDelivers], counted[Counter::TcpInSegs]), (0, 0));
    for stack in [&client, &router, &server] {
        stack.shutdown();
        stack.ledger().check().expect("the books");
    }
}

#[test]
fn a_connection_leads_through_a_router() {
    through_a_router(false);
}

#[test]
fn super_frames_lead_through_a_router() {
    through_a_router(true);
}
