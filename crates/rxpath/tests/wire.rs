//! The in-memory cable: its bare end against a stack, and the device alone against its contract.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rxpath::clock::{Clock, ManualClock};
use rxpath::device::wire::{self, NotTaken, PAUSE_MAX_NS, Port, PortStats, Wire, WireConfig};
use rxpath::rxpath_core::demux::stats::DevStat;
use rxpath::rxpath_core::nic::{
    Device, DeviceQueue, Features, IrqLine, Moderation, NoDoorbell, RxAttach, Steering, Xmit,
};
use rxpath::rxpath_core::stack::SteeringChoice;
use rxpath::rxpath_mem::{Harvest, IpSummed, PagePool, PoolConfig, RxDesc, RxErrors, RxRing, Skb, rx_ring};
use rxpath::rxpath_trace::{Counter, DropReason, Holder, Time};
use rxpath::rxpath_wire::{
    ArpPacket, ArpRepr, EtherType, EthernetHeader, EthernetRepr, IpProto, Ipv4Header, Ipv4Repr, MacAddr, SeqNum,
    TcpFlags, TcpRepr, arp, ethernet, ipv4, tcp,
};
use rxpath::{Interface, Mode, Stack};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const NOW: Time = Time(5_000_000_000);

/// A stack in virtual time with the bare end of its cable.
fn stack(config: WireConfig, ring: usize) -> (Stack, Port, ManualClock) {
    let (wire, port) = wire::port(config);
    let clock = ManualClock::new();
    let interface = Interface::new(wire).ring(ring).address("10.0.0.1/24").expect("an address");
    let builder = Stack::builder().interface(interface).mode(Mode::Polled).clock(clock.clone()).seed(1);
    (builder.build().expect("a stack"), port, clock)
}

fn who_has(addr: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; EthernetHeader::LEN + ArpPacket::LEN];
    let header = EthernetRepr { dst: MacAddr::BROADCAST, src: PEER_MAC, ethertype: EtherType::ARP };
    let at = ethernet::emit(&mut frame, header);
    let repr = ArpRepr {
        operation: arp::REQUEST,
        sender_mac: PEER_MAC,
        sender_ip: PEER,
        target_mac: MacAddr::ZERO,
        target_ip: addr,
    };
    arp::emit(&mut frame[at..], repr);
    frame
}

/// A TCP frame; with `open` its checksum holds only the pseudo-header's share.
fn segment(sport: u16, payload: &[u8], open: bool) -> Vec<u8> {
    let repr = TcpRepr { sport, dport: 80, seq: SeqNum(7), flags: TcpFlags::ACK, window: 9, ..TcpRepr::default() };
    let tcp_at = EthernetHeader::LEN + Ipv4Header::LEN;
    let mut frame = vec![0; tcp_at + repr.header_len() + payload.len()];
    let header = EthernetRepr { dst: MacAddr([2, 0x72, 0x78, 0, 0, 1]), src: PEER_MAC, ethertype: EtherType::IPV4 };
    ethernet::emit(&mut frame, header);
    let total_len = (frame.len() - EthernetHeader::LEN) as u16;
    let ip = Ipv4Repr { src: PEER, dst: OURS, proto: IpProto::TCP, ttl: 64, tos: 0, id: 1, df: true, total_len };
    ipv4::emit(&mut frame[EthernetHeader::LEN..], ip);
    tcp::emit(&mut frame[tcp_at..], repr);
    frame[tcp_at + repr.header_len()..].copy_from_slice(payload);
    let len = repr.header_len() + payload.len();
    if open {
        tcp::fill_pseudo(PEER.into(), OURS.into(), &mut frame[tcp_at..], len);
    } else {
        tcp::fill_checksum(PEER.into(), OURS.into(), &mut frame[tcp_at..]);
    }
    frame
}

fn verifies(frame: &[u8]) -> bool {
    tcp::verify(PEER.into(), OURS.into(), &frame[EthernetHeader::LEN + Ipv4Header::LEN..])
}

#[test]
fn a_question_is_answered_on_the_bare_end() {
    let (stack, port, clock) = stack(WireConfig::default(), 256);
    port.send(clock.now(), &who_has(OURS)).expect("a descriptor");
    assert!(port.recv().is_none(), "nothing happens before the poll");
    let polled = stack.poll(clock.now());
    assert_eq!(polled.work, 1);
    let answer = port.recv().expect("an answer");
    let (header, body) = EthernetHeader::parse(&answer).expect("a frame");
    assert_eq!((header.dst(), header.src()), (PEER_MAC, port.mac()));
    let (body, _) = ArpPacket::parse(body).expect("an ARP packet");
    assert_eq!((body.operation(), body.sender_ip()), (arp::REPLY, OURS));
    assert_eq!(port.stats(), PortStats { frames: 1, bytes: answer.len() as u64, overflow: 0 });
    stack.ledger().check().expect("the books");
}

/// The packet in a frame, without IP options, in fragments of eight bytes, the last one first.
fn fragments(frame: &[u8]) -> Vec<Vec<u8>> {
    let at = EthernetHeader::LEN + Ipv4Header::LEN;
    let (headers, payload) = frame.split_at(at);
    let mut fragments: Vec<Vec<u8>> = Vec::new();
    for (index, piece) in payload.chunks(8).enumerate() {
        let mut fragment = [headers, piece].concat();
        let header = &mut fragment[EthernetHeader::LEN..at];
        let (fields, _) = Ipv4Header::parse_mut(header).expect("a header");
        fields.set_total_len((Ipv4Header::LEN + piece.len()) as u16);
        let more = if (index + 1) * 8 < payload.len() { ipv4::MORE_FRAGMENTS } else { 0 };
        fields.set_fragment_word(more | index as u16);
        ipv4::fill_checksum(header);
        fragments.push(fragment);
    }
    fragments.reverse();
    fragments
}

#[test]
fn segments_in_fragments_find_the_cpu_that_owns_their_flow() {
    let (wire, port) = wire::port(WireConfig::default().queues(2));
    let clock = ManualClock::new();
    let interface = Interface::new(wire).steering(SteeringChoice::Fixed(0)).address("10.0.0.1/24").expect("an address");
    let builder = Stack::builder().cpus(2).interface(interface).mode(Mode::Polled).clock(clock.clone()).seed(1);
    let stack = builder.build().expect("a stack");
    port.send(clock.now(), &who_has(OURS)).expect("a descriptor");
    for sport in 1_000..1_032 {
        for fragment in fragments(&segment(sport, b"in pieces", false)) {
            port.send(clock.now(), &fragment).expect("a descriptor");
        }
        while stack.poll(clock.now()).next.is_some_and(|at| at <= clock.now()) {}
        let answers: Vec<_> = std::iter::from_fn(|| port.recv()).filter(|frame| frame[12..14] == [8, 0]).collect();
        assert_eq!(answers.len(), 1, "port {sport}: nobody listens, which a reset says");
        assert!(verifies(&answers[0]) && answers[0][36..38] == u16::to_be_bytes(sport));
    }
    let counted = stack.snapshot();
    assert_eq!((counted[Counter::IpReasmOKs], counted[Counter::IpReasmFails]), (32, 0));
    let handed_over = counted[Counter::SoftnetReceivedRps];
    assert!((4..=28).contains(&handed_over), "{handed_over} of 32 belong to the Cpu that does not receive");
    let ledger = stack.ledger();
    ledger.check().expect("the books");
    assert_eq!((ledger.made(), ledger.held_by(Holder::Reassembly), ledger.held_by(Holder::CpuBacklog)), (32, 0, 0));
}

#[test]
fn a_datagram_that_stays_in_pieces_is_given_up_by_the_stacks_own_timer() {
    let (stack, port, clock) = stack(WireConfig::default(), 256);
    let begun = clock.now();
    port.send(begun, &who_has(OURS)).expect("a descriptor");
    let mut pieces = fragments(&segment(1_000, b"in pieces", false));
    let first = pieces.pop().expect("the first one, as the last comes first");
    port.send(begun, &first).expect("a descriptor");
    let mut next = stack.poll(begun).next;
    assert_eq!(stack.ledger().held_by(Holder::Reassembly), 1);
    assert_eq!(port.recv().expect("the ARP answer")[12..14], [8, 6]);
    let given_up = Time(begun.0 + 30_000_000_000);
    let mut now = begun;
    while now < given_up {
        assert!(port.recv().is_none(), "nothing is said before the time is over, at {now:?}");
        now = next.expect("the datagram's timer").max(Time(now.0 + 1));
        assert!(now <= given_up, "slept too long: {now:?}");
        next = stack.poll(now).next;
    }
    let told = port.recv().expect("time exceeded");
    assert_eq!((&told[12..14], &told[34..36]), (&[8, 0][..], &[11, 1][..]));
    assert_eq!(told[42..], first[14..42], "the header and the eight bytes that came");
    let counted = stack.snapshot();
    assert_eq!((counted[Counter::IpReasmTimeout], counted[Counter::IpReasmFails]), (1, 1));
    let ledger = stack.ledger();
    ledger.check().expect("the books");
    assert_eq!((ledger.dropped_for(DropReason::FragReasmTimeout), ledger.held_by(Holder::Reassembly)), (1, 0));
}

#[test]
fn fragments_that_wait_when_the_stack_goes_down_are_purged() {
    let (stack, port, clock) = stack(WireConfig::default(), 256);
    for piece in &fragments(&segment(1_000, b"in pieces", false))[1..] {
        port.send(clock.now(), piece).expect("a descriptor");
    }
    stack.poll(clock.now());
    assert_eq!(stack.ledger().held_by(Holder::Reassembly), 3);
    stack.shutdown();
    let ledger = stack.ledger();
    ledger.check().expect("the books");
    assert_eq!((ledger.dropped_for(DropReason::QueuePurge), ledger.held_by(Holder::Reassembly)), (3, 0));
}

#[test]
fn frames_for_a_full_ring_are_missed_by_name() {
    let (stack, port, clock) = stack(WireConfig::default(), 16);
    let frame = who_has(Ipv4Addr::new(10, 0, 0, 9));
    assert_eq!(port.available(0), 15);
    for _ in 0..15 {
        port.send(clock.now(), &frame).expect("a descriptor");
    }
    let Err(NotTaken::Missed(id)) = port.send(clock.now(), &frame) else { panic!("the ring is full") };
    assert_ne!(id.0, 0);
    stack.poll(clock.now());
    let ledger = stack.ledger();
    ledger.check().expect("the books");
    assert_eq!((ledger.offered(), ledger.dropped_for(DropReason::RxMissed)), (16, 1));
    let dev = &stack.interfaces()[0].stats;
    assert_eq!((dev[DevStat::RxPackets], dev[DevStat::RxMissedErrors]), (15, 1));
    assert_eq!(port.available(0), 15, "posted again");
}

#[test]
fn without_carrier_nothing_passes() {
    let (stack, port, clock) = stack(WireConfig::default(), 16);
    port.set_link(false);
    assert_eq!(port.send(clock.now(), &who_has(OURS)), Err(NotTaken::NoCarrier));
    assert_eq!(port.send_batch(clock.now(), [&who_has(OURS)[..]]), 0);
    assert_eq!(stack.poll(clock.now()).work, 0);
    port.set_link(true);
    port.send(clock.now(), &who_has(OURS)).expect("plugged in again");
    port.carrier().set(false);
    stack.poll(clock.now());
    assert!(port.recv().is_none());
    assert_eq!(stack.ledger().dropped_for(DropReason::TxError), 1, "the answer");
    stack.ledger().check().expect("the books");
}

#[test]
fn a_stack_that_went_leaves_the_end_bare() {
    let (stack, port, clock) = stack(WireConfig::default(), 16);
    stack.shutdown();
    assert_eq!(port.send(clock.now(), &who_has(OURS)), Err(NotTaken::NoCarrier));
    stack.ledger().check().expect("the books");
}

#[test]
fn a_port_that_nobody_reads_overflows_and_one_that_discards_counts() {
    let (stack, port, clock) = stack(WireConfig { capacity: 2, ..WireConfig::default() }, 16);
    for _ in 0..5 {
        port.send(clock.now(), &who_has(OURS)).expect("a descriptor");
    }
    stack.poll(clock.now());
    assert_eq!((port.pending(), port.stats().frames, port.stats().overflow), (2, 5, 3));

    let (stack, port, clock) = self::stack(WireConfig { discard: true, ..WireConfig::default() }, 16);
    for _ in 0..5 {
        port.send(clock.now(), &who_has(OURS)).expect("a descriptor");
    }
    stack.poll(clock.now());
    assert_eq!((port.pending(), port.stats()), (0, PortStats { frames: 5, bytes: 5 * 42, overflow: 0 }));
}

#[test]
fn receiving_into_a_buffer_goes_round_with_two() {
    let (stack, port, clock) = stack(WireConfig::default(), 16);
    let mut buf = Vec::new();
    assert!(!port.recv_into(&mut buf));
    let mut addresses = std::collections::HashSet::new();
    for _ in 0..10 {
        port.send(clock.now(), &who_has(OURS)).expect("a descriptor");
        stack.poll(clock.now());
        assert!(port.recv_into(&mut buf));
        assert_eq!(buf.len(), 42);
        addresses.insert(buf.as_ptr() as usize);
    }
    assert!(addresses.len() <= 2, "buffers are used again");
}

#[test]
fn waiting_for_a_frame_ends() {
    let (wire, port) = wire::port(WireConfig::default());
    let stack = Stack::builder().interface(Interface::new(wire).address("10.0.0.1/24").expect("an address"));
    let stack = stack.build().expect("a stack on threads");
    assert!(port.recv_timeout(Duration::from_millis(1)).is_none());
    port.send(stack.now(), &who_has(OURS)).expect("a descriptor");
    assert!(port.recv_timeout(Duration::from_secs(60)).is_some());
}

/// A device in service without a stack: the tests are its driver.
struct Bench {
    pool: PagePool,
    rings: Vec<RxRing>,
    irqs: Vec<IrqLine>,
    queues: Vec<Box<dyn DeviceQueue>>,
}

impl Bench {
    fn new(wire: Wire, ring: usize, steering: Steering) -> Bench {
        let config = PoolConfig { slots: 256, head_slots: 64, large_slots: 2, reserve: 0 };
        let mut pool = PagePool::new(config).expect("memory");
        let (mut rings, mut irqs, mut attached) = (Vec::new(), Vec::new(), Vec::new());
        for id in 0..wire.info().queues {
            let (mut driver, dma) = rx_ring(ring, id);
            driver.refill(&mut pool);
            let irq = IrqLine::new(Moderation::default(), Arc::new(NoDoorbell));
            attached.push(RxAttach { dma, irq: irq.clone() });
            rings.push(driver);
            irqs.push(irq);
        }
        let queues = Box::new(wire).open(attached, steering).expect("a device");
        Bench { pool, rings, irqs, queues }
    }

    /// The next frame of a queue.
    fn take(&mut self, queue: usize) -> Option<(Vec<u8>, RxDesc)> {
        let (Harvest::Frame(skb) | Harvest::Error(skb)) = self.rings[queue].take()?;
        let desc = self.rings[queue].taken_desc();
        let mut bytes = vec![0; skb.len()];
        skb.copy_to(0, &mut bytes);
        self.pool.free(skb);
        Some((bytes, desc))
    }

    /// A packet as the stack hands it to the device, linear and in a large slot if it is long.
    fn packet(&mut self, frame: &[u8], open: bool, gso_size: u16) -> Skb {
        let slot = if frame.len() > 1_900 { self.pool.alloc_large() } else { self.pool.alloc() };
        let mut skb = slot.expect("a slot");
        skb.put(frame.len()).copy_from_slice(frame);
        skb.ip_summed = if open { IpSummed::Partial } else { IpSummed::None };
        skb.gso_size = gso_size;
        skb
    }

    fn xmit(&mut self, now: Time, frame: &[u8], open: bool, gso_size: u16) -> Xmit {
        let skb = self.packet(frame, open, gso_size);
        let sent = self.queues[0].xmit(now, &skb);
        self.pool.free(skb);
        sent
    }
}

fn single() -> Steering {
    Steering::Fixed(0)
}

#[test]
fn a_batch_raises_one_interrupt() {
    let (wire, port) = wire::port(WireConfig::default());
    let bench = Bench::new(wire, 64, single());
    let frame = segment(1, b"x", false);
    assert_eq!(port.send_batch(NOW, (0..10).map(|_| &frame[..])), 10);
    let stats = bench.irqs[0].stats();
    assert_eq!((stats.fired, stats.masked), (1, 0));
    for _ in 0..3 {
        port.send(NOW, &frame).expect("a descriptor");
    }
    assert_eq!(bench.irqs[0].stats().masked, 3, "one each while it is masked");
}

#[test]
fn moderation_gathers_frames_until_there_are_enough_or_the_first_has_waited_long_enough() {
    let (wire, port) = wire::port(WireConfig::default());
    let clock = ManualClock::new();
    let interface = Interface::new(wire).moderation(50, 4).address("10.0.0.1/24").expect("an address");
    let stack = Stack::builder().interface(interface).mode(Mode::Polled).clock(clock.clone()).seed(1);
    let stack = stack.build().expect("a stack");
    let begun = clock.now();
    for _ in 0..3 {
        port.send(clock.now(), &who_has(OURS)).expect("a descriptor");
        clock.advance(Duration::from_micros(10));
    }
    let polled = stack.poll(clock.now());
    assert_eq!((polled.work, polled.next), (0, Some(begun + 50_000)), "three of four, 30 us after the first");
    assert_eq!((stack.poll(begun + 49_999).work, stack.poll(begun + 50_000).work), (0, 3));
    clock.advance_to(begun + 60_000);
    for sent in 1..=4 {
        assert_eq!(stack.poll(clock.now()).work, 0, "{sent} frames are not enough");
        port.send(clock.now(), &who_has(OURS)).expect("a descriptor");
    }
    assert_eq!(stack.poll(clock.now()).work, 4, "enough, however young");
    assert_eq!(std::iter::from_fn(|| port.recv()).count(), 7, "every question is answered");
    stack.shutdown();
    stack.ledger().check().expect("the books");
}

#[test]
fn flows_go_where_they_are_steered() {
    let (wire, port) = wire::port(WireConfig::default().queues(4));
    let steering = Steering::toeplitz(&rxpath::rxpath_wire::toeplitz::MICROSOFT_KEY, 4);
    let mut bench = Bench::new(wire, 64, steering.clone());
    let frames: Vec<Vec<u8>> = (1..41).map(|port| segment(port, b"x", false)).collect();
    assert_eq!(port.send_batch(NOW, frames.iter().map(Vec::as_slice)), 40);
    let mut expected = vec![Vec::new(); 4];
    for frame in &frames {
        let (queue, hash) = steering.queue_of(frame);
        expected[usize::from(queue)].push((frame.clone(), hash));
    }
    assert!(expected.iter().all(|flows| !flows.is_empty()), "forty flows reach every queue");
    for (queue, flows) in expected.into_iter().enumerate() {
        for (frame, hash) in flows {
            let (bytes, desc) = bench.take(queue).expect("a frame");
            assert_eq!((bytes, desc.hash, desc.at), (frame, hash, NOW));
        }
        assert!(bench.take(queue).is_none());
    }
    port.send_to(3, NOW, &frames[0], RxDesc { hash: 77, ..RxDesc::default() }).expect("a descriptor");
    assert_eq!(bench.take(3).map(|(_, desc)| desc.hash), Some(77), "as the caller chose");
}

#[test]
fn a_card_that_verifies_says_what_it_saw() {
    let (wire, port) = wire::port(WireConfig::default().offload(true));
    let mut bench = Bench::new(wire, 64, single());
    let mut frame = segment(1, b"payload", false);
    port.send(NOW, &frame).expect("a descriptor");
    frame[60] ^= 1;
    port.send(NOW, &frame).expect("a descriptor");
    port.send(NOW, &who_has(OURS)).expect("a descriptor");
    port.send(NOW, &[0; 10]).expect("a descriptor");
    let desc = RxDesc { csum: IpSummed::Partial, gso_size: 100, gso_segs: 2, ..RxDesc::default() };
    port.send_with(NOW, &frame, desc).expect("a descriptor");
    let descs: Vec<RxDesc> = std::iter::from_fn(|| bench.take(0)).map(|(_, desc)| desc).collect();
    let csums: Vec<IpSummed> = descs.iter().map(|desc| desc.csum).collect();
    let (none, good, open) = (IpSummed::None, IpSummed::Unnecessary, IpSummed::Partial);
    assert_eq!(csums, [good, none, none, none, open]);
    assert_eq!(descs[3].errors, RxErrors::RUNT);
    assert_eq!((descs[4].gso_size, descs[4].gso_segs), (100, 2));
}

#[test]
fn a_super_frame_reaches_the_port_whole_or_cut() {
    let payload: Vec<u8> = (0..5_000u32).map(|i| (i % 251) as u8).collect();
    let frame = segment(1, &payload, true);

    let (wire, port) = wire::port(WireConfig::default().offload(true));
    let mut bench = Bench::new(wire, 64, single());
    assert_eq!(bench.xmit(NOW, &frame, true, 1_448), Xmit::Sent);
    let whole = port.recv_frame().expect("a frame");
    assert_eq!((whole.gso_size, whole.partial, whole.at), (1_448, true, NOW));
    assert_eq!(whole.bytes, frame);
    assert_eq!(bench.xmit(NOW, &frame, true, 1_448), Xmit::Sent);
    assert!(verifies(&port.recv().expect("a frame")), "completed for who looks at bytes");

    let (wire, port) = wire::port(WireConfig { cut: true, ..WireConfig::default().offload(true) });
    let mut bench = Bench::new(wire, 64, single());
    assert_eq!(bench.xmit(NOW, &frame, true, 1_448), Xmit::Sent);
    let pieces: Vec<Vec<u8>> = std::iter::from_fn(|| port.recv()).collect();
    assert_eq!(pieces.len(), 4);
    assert!(pieces.iter().all(|piece| verifies(piece)));
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece[54..].to_vec()).collect();
    assert_eq!(bytes, payload);
}

/// What the far end of a cable sees of frames that this end leaves open.
fn across(sender: Features, receiver: Features, cut: bool, frame: &[u8], gso_size: u16) -> Vec<(Vec<u8>, RxDesc)> {
    let config = |features, cut| WireConfig { features, cut, ..WireConfig::default() };
    let (left, right) = wire::pair(config(sender, cut), config(receiver, false));
    assert_ne!(left.info().mac, right.info().mac);
    let (mut left, mut right) = (Bench::new(left, 64, single()), Bench::new(right, 64, single()));
    assert_eq!(left.xmit(NOW, frame, true, gso_size), Xmit::Sent);
    assert_eq!(right.irqs[0].stats().fired, 0, "not before the burst ends");
    left.queues[0].flush(NOW);
    assert_eq!(right.irqs[0].stats().fired, 1);
    std::iter::from_fn(|| right.take(0)).collect()
}

#[test]
fn an_open_frame_crosses_the_cable_as_the_receiver_takes_it() {
    let all = Features { rx_csum: true, tx_csum: true, tso: true };
    let none = Features::default();
    let payload: Vec<u8> = (0..5_000u32).map(|i| (i % 251) as u8).collect();
    let frame = segment(1, &payload, true);

    let whole = across(all, all, false, &frame, 1_448);
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].0, frame);
    assert_eq!((whole[0].1.csum, whole[0].1.gso_size), (IpSummed::Partial, 1_448));

    for (receiver, cut, csum) in [(none, false, IpSummed::None), (all, true, IpSummed::Unnecessary)] {
        let pieces = across(all, receiver, cut, &frame, 1_448);
        assert_eq!(pieces.len(), 4);
        assert!(pieces.iter().all(|(piece, desc)| verifies(piece) && desc.csum == csum && desc.gso_size == 0));
    }

    let small = across(all, none, false, &segment(1, b"small", true), 0);
    assert!(verifies(&small[0].0));
    assert_eq!(small[0].1.csum, IpSummed::None);
}

#[test]
fn a_sender_is_held_back_and_called_again() {
    let (left, right) = wire::pair(WireConfig::default(), WireConfig::default());
    let (mut left, mut right) = (Bench::new(left, 16, single()), Bench::new(right, 16, single()));
    let frame = segment(1, b"x", false);
    for _ in 0..15 {
        assert_eq!(left.xmit(NOW, &frame, false, 0), Xmit::Sent);
    }
    assert_eq!(left.xmit(NOW, &frame, false, 0), Xmit::Busy);
    assert_eq!(left.queues[0].next_event(), Some(NOW + 1_000_000), "it looks again by itself");
    assert!(right.irqs[0].take_pending(), "the receiver is told that somebody waits");

    right.queues[0].dma(NOW, &mut right.pool, 64);
    assert!(!left.irqs[0].take_pending(), "nothing is posted yet");
    while right.take(0).is_some() {}
    right.rings[0].refill(&mut right.pool);
    right.queues[0].dma(NOW, &mut right.pool, 64);
    assert!(left.irqs[0].take_pending(), "the sender is called");
    assert_eq!(left.xmit(NOW, &frame, false, 0), Xmit::Sent);
    assert_eq!(left.queues[0].next_event(), None);
}

#[test]
fn patience_with_a_full_ring_ends() {
    let (left, right) = wire::pair(WireConfig::default(), WireConfig::default());
    let (mut left, right) = (Bench::new(left, 16, single()), Bench::new(right, 16, single()));
    let frame = segment(1, b"x", false);
    for _ in 0..15 {
        assert_eq!(left.xmit(NOW, &frame, false, 0), Xmit::Sent);
    }
    assert_eq!(left.xmit(NOW, &frame, false, 0), Xmit::Busy);
    assert_eq!(left.xmit(NOW + (PAUSE_MAX_NS - 1), &frame, false, 0), Xmit::Busy);
    assert_eq!(left.xmit(NOW + PAUSE_MAX_NS, &frame, false, 0), Xmit::Sent);
    assert_eq!(right.rings[0].stats().missed(), 1);

    let impatient = WireConfig { pause: false, ..WireConfig::default() };
    let (left, right) = wire::pair(impatient, WireConfig::default());
    let (mut left, right) = (Bench::new(left, 16, single()), Bench::new(right, 16, single()));
    for _ in 0..16 {
        assert_eq!(left.xmit(NOW, &frame, false, 0), Xmit::Sent);
    }
    assert_eq!(right.rings[0].stats().missed(), 1);
}

#[test]
fn a_device_that_goes_gives_its_slots_back() {
    let (wire, port) = wire::port(WireConfig::default());
    let mut bench = Bench::new(wire, 16, single());
    assert_eq!(bench.pool.outstanding(), 15);
    port.send(NOW, &segment(1, b"x", false)).expect("a descriptor");
    bench.queues.clear();
    assert_eq!(port.send(NOW, &segment(1, b"x", false)), Err(NotTaken::NoCarrier));
    bench.rings.clear();
    assert_eq!(bench.pool.outstanding(), 0);
}

#[test]
fn the_number_of_rings_must_fit() {
    let (wire, _port) = wire::port(WireConfig::default().queues(2));
    let Err(error) = Box::new(wire).open(Vec::new(), single()) else { panic!("two queues, no rings") };
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
