//! The TAP device against the running kernel, in a private network namespace that each test makes for itself.
//!
//! The kernel's own sockets (`std::net`) are the peer. There is no stack here: the tests drive the device's queue and the
//! descriptor ring by hand, so that what they see is what the device did.
//!
//! Where neither root nor a user namespace is to be had, or no `/dev/net/tun`, the tests say so and pass; with
//! `RXPATH_NO_SKIP=1` they fail.
#![cfg(target_os = "linux")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rxpath::device::netns::{self, Rtnl};
use rxpath::device::tap::{Tap, TapConfig};
use rxpath_core::nic::{Device, DeviceQueue, IrqLine, Moderation, NoDoorbell, RxAttach, Steering, Xmit};
use rxpath_mem::{
    Harvest, IpSummed, PagePool, PoolConfig, RX_HEADROOM, RxDesc, RxErrors, RxRing, Skb, SlotClass, rx_ring,
};
use rxpath_trace::Time;
use rxpath_wire::{
    Addr, EtherType, EthernetHeader, EthernetRepr, IpProto, Ipv4Header, Ipv4Repr, MacAddr, SeqNum, TcpFlags, TcpHeader,
    TcpOptions, TcpRepr, UdpHeader, ethernet, ipv4, tcp,
};

const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const CHILD: &str = "RXPATH_TAP_TEST_CHILD";

/// Bytes of a frame that a posted slot takes.
const ROOM: usize = SlotClass::Frame.capacity() - RX_HEADROOM;

/// True if the calling thread now is in a private namespace. Without the right to that, runs the test `name` again in a
/// process that has it.
fn in_private(name: &str) -> bool {
    let error = match netns::enter_private() {
        Ok(()) => match std::fs::metadata("/dev/net/tun") {
            Ok(_) => return true,
            Err(error) => error,
        },
        Err(error) if error.kind() == ErrorKind::InvalidInput && std::env::var_os(CHILD).is_none() => {
            let exe = std::env::current_exe().expect("own path");
            let mut command = Command::new(exe);
            command.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
            match netns::private_child(&mut command).status() {
                Ok(status) => assert!(status.success(), "{name} failed in its own process"),
                Err(error) => skip(name, &error),
            }
            return false;
        }
        Err(error) => error,
    };
    skip(name, &error);
    false
}

/// Passes over a test for which this machine lacks what is needed.
#[track_caller]
fn skip(name: &str, error: &std::io::Error) {
    rxpath_testkit::skip(&format!("{name}: {error}"));
}

/// A TAP in service between the kernel, which has 10.9.0.2/24, and us.
struct Cable {
    pool: PagePool,
    rings: Vec<RxRing>,
    queues: Vec<Box<dyn DeviceQueue>>,
    irqs: Vec<IrqLine>,
    mac: MacAddr,
    kernel_mac: MacAddr,
}

impl Cable {
    /// None, having said so, where a TAP may not be made.
    fn new(test: &str, config: TapConfig, pool: PoolConfig) -> Option<Cable> {
        let tap = match Tap::open(config) {
            Ok(tap) => tap,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                skip(test, &error);
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let (mac, kernel_mac) = (tap.mac(), tap.kernel_mac());
        assert_ne!(mac, kernel_mac);
        // Router solicitations would only be in the way; a kernel without IPv6 has no such sysctl.
        let _ = netns::set_sysctl(&format!("net.ipv6.conf.{}.disable_ipv6", tap.name()), "1");
        let mut rtnl = Rtnl::open().expect("netlink");
        rtnl.add_address(tap.name(), KERNEL, 24).expect("address");
        rtnl.set_up(tap.name()).expect("up");
        rtnl.add_neighbour(tap.name(), OURS, mac).expect("neighbour");

        let info = tap.info();
        let mut pool = PagePool::new(pool).expect("pool");
        let (mut rings, mut irqs, mut attach) = (Vec::new(), Vec::new(), Vec::new());
        for id in 0..info.queues {
            let (mut ring, dma) = rx_ring(256, id);
            let irq = IrqLine::new(Moderation::default(), Arc::new(NoDoorbell));
            ring.refill(&mut pool);
            rings.push(ring);
            irqs.push(irq.clone());
            attach.push(RxAttach { dma, irq });
        }
        let queues = Box::new(tap).open(attach, Steering::Fixed(0)).expect("into service");
        Some(Cable { pool, rings, queues, irqs, mac, kernel_mac })
    }

    /// The next frame on any queue that `wanted` accepts; others are freed.
    fn next(&mut self, wanted: impl Fn(&[u8]) -> bool) -> (usize, Skb, RxDesc) {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            for q in 0..self.queues.len() {
                self.rings[q].refill(&mut self.pool);
                self.queues[q].dma(Time(7), &mut self.pool, 1);
                while let Some(harvest) = self.rings[q].take() {
                    match harvest {
                        Harvest::Frame(skb) if wanted(skb.data()) => return (q, skb, self.rings[q].taken_desc()),
                        Harvest::Frame(skb) | Harvest::Error(skb) => self.pool.free(skb),
                    }
                }
            }
            std::thread::yield_now();
        }
        panic!("the frame did not come within ten seconds");
    }

    /// An Ethernet and IPv4 header in front of what `skb` holds, then out on the first queue.
    fn send(&mut self, mut skb: Skb, proto: u8) {
        skb.set_transport_header_here();
        let total_len = (20 + skb.len()) as u16;
        ipv4::emit(
            skb.push(20),
            Ipv4Repr { src: OURS, dst: KERNEL, proto, ttl: 64, tos: 0, id: 1, df: true, total_len },
        );
        skb.set_network_header_here();
        let link = EthernetRepr { dst: self.kernel_mac, src: self.mac, ethertype: EtherType::IPV4 };
        ethernet::emit(skb.push(EthernetHeader::LEN), link);
        assert_eq!(self.queues[0].xmit(Time(8), &skb), Xmit::Sent);
        self.queues[0].flush(Time(8));
        self.pool.free(skb);
    }

    /// A TCP segment without payload.
    fn send_segment(&mut self, repr: TcpRepr) {
        let mut skb = self.pool.alloc().expect("a slot");
        skb.reserve(64);
        let segment = skb.put(repr.header_len());
        tcp::emit(segment, repr);
        tcp::fill_checksum(Addr::from(OURS), Addr::from(KERNEL), segment);
        self.send(skb, IpProto::TCP);
    }
}

fn small_pool(large_slots: usize) -> PoolConfig {
    PoolConfig { slots: 1024, head_slots: 64, large_slots, reserve: 16 }
}

fn udp_frame(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let (ethernet, packet) = EthernetHeader::parse(frame)?;
    let (ip, _, segment) = (ethernet.ethertype() == EtherType::IPV4).then(|| Ipv4Header::split(packet))??;
    (ip.protocol() == IpProto::UDP && segment.len() >= 8).then(|| segment.split_at(8))
}

fn tcp_of(frame: &[u8]) -> Option<(&TcpHeader, &[u8])> {
    let (ethernet, packet) = EthernetHeader::parse(frame)?;
    let (ip, _) = (ethernet.ethertype() == EtherType::IPV4).then(|| Ipv4Header::parse(packet))??;
    let (header, _) = (ip.protocol() == IpProto::TCP).then(|| TcpHeader::parse(packet.get(ip.header_len()..)?))??;
    let payload = packet.get(ip.header_len() + header.header_len()..)?;
    Some((header, payload))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / 251) as u8).collect()
}

/// The bytes of a packet behind its first `skip`.
fn bytes_from(skb: &Skb, skip: usize) -> Vec<u8> {
    let mut bytes = vec![0; skb.len() - skip];
    assert_eq!(skb.copy_to(skip, &mut bytes), bytes.len());
    bytes
}

#[test]
fn a_datagram_of_the_kernel_arrives_and_one_of_ours_is_received() {
    for (vnet_hdr, offload) in [(true, true), (true, false), (false, false)] {
        if !in_private("a_datagram_of_the_kernel_arrives_and_one_of_ours_is_received") {
            return;
        }
        let config = TapConfig { vnet_hdr, offload, ..TapConfig::default() };
        let Some(mut cable) = Cable::new("datagram", config, small_pool(4)) else { return };
        let socket = UdpSocket::bind((KERNEL, 5000)).expect("socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        socket.send_to(b"from the kernel", (OURS, 6000)).expect("send");

        let (_, skb, desc) = cable.next(|frame| udp_frame(frame).is_some());
        let (header, payload) = udp_frame(skb.data()).expect("a datagram");
        let (udp, _) = UdpHeader::parse(header).expect("a header");
        assert_eq!((udp.src_port(), udp.dst_port(), payload), (5000, 6000, &b"from the kernel"[..]));
        assert_eq!(desc.len as usize, 14 + 20 + 8 + 15);
        assert_eq!((desc.at, desc.errors, desc.gso_size), (Time(7), RxErrors::NONE, 0));
        assert_eq!(skb.data()[..6], cable.mac.0);
        // Only where it may is the checksum left open.
        assert_eq!(desc.csum, if offload { IpSummed::Partial } else { IpSummed::None });
        assert!(cable.irqs[0].take_pending(), "the frame was moved outside of a poll: an interrupt");
        cable.pool.free(skb);

        // The answer with its checksum left open, where a header can say so; else without one (RFC 768).
        let mut skb = cable.pool.alloc().expect("a slot");
        skb.reserve(64);
        let datagram = skb.put(8 + 4);
        datagram[..8].copy_from_slice(&[0x17, 0x70, 0x13, 0x88, 0, 12, 0, 0]);
        datagram[8..].copy_from_slice(b"pong");
        if vnet_hdr {
            let pseudo = rxpath_wire::pseudo_sum(Addr::from(OURS), Addr::from(KERNEL), IpProto::UDP, 12);
            datagram[6..8].copy_from_slice(&pseudo.to_be_bytes());
            skb.ip_summed = IpSummed::Partial;
        }
        cable.send(skb, IpProto::UDP);
        let mut buf = [0; 64];
        let (n, from) = socket.recv_from(&mut buf).expect("the answer");
        assert_eq!((&buf[..n], from), (&b"pong"[..], SocketAddrV4::new(OURS, 6000).into()));
    }
}

/// Kernel's TCP writes `total` bytes; gives what arrived, by payload, and the largest frame's descriptor and number of
/// fragments.
fn receive_stream(cable: &mut Cable, total: usize) -> (Vec<u8>, RxDesc, usize) {
    let sent = pattern(total);
    let writer = std::thread::spawn(move || {
        let mut stream = TcpStream::connect((OURS, 80)).expect("connect");
        stream.write_all(&sent).expect("write");
        stream
    });
    let (_, skb, _) = cable.next(|frame| tcp_of(frame).is_some_and(|(tcp, _)| tcp.flags() == TcpFlags::SYN));
    let (syn, _) = tcp_of(skb.data()).expect("a SYN");
    let (port, first) = (syn.src_port(), syn.seq() + 1);
    cable.pool.free(skb);
    let base = TcpRepr {
        sport: 80,
        dport: port,
        seq: SeqNum(1_000),
        ack: first,
        flags: TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0),
        window: 65_535,
        urgent: 0,
        options: TcpOptions { mss: Some(1_460), ..TcpOptions::default() },
    };
    cable.send_segment(base);
    let ack = TcpRepr { seq: SeqNum(1_001), flags: TcpFlags::ACK, options: TcpOptions::default(), ..base };

    let (mut got, mut largest, mut frags) = (vec![0; total], RxDesc::default(), 0);
    let mut next = 0;
    while next < total {
        let (_, skb, desc) = cable.next(|frame| tcp_of(frame).is_some());
        assert_eq!(desc.len as usize, skb.len());
        let (header, _) = tcp_of(skb.data()).expect("a segment");
        let skip = 34 + header.header_len();
        let at = (header.seq() - first) as usize;
        let payload = bytes_from(&skb, skip);
        // Retransmissions may come when this machine is busy; what is beyond a gap cannot.
        if !payload.is_empty() && at <= next && at + payload.len() <= total {
            got[at..at + payload.len()].copy_from_slice(&payload);
            next = next.max(at + payload.len());
        }
        if desc.len > largest.len {
            (largest, frags) = (desc, skb.frag_count());
        }
        cable.pool.free(skb);
        cable.send_segment(TcpRepr { ack: first + next as u32, ..ack });
    }
    drop(writer.join().expect("the writer"));
    (got, largest, frags)
}

#[test]
fn super_frames_of_the_kernel_arrive_whole_in_a_large_slot() {
    if !in_private("super_frames_of_the_kernel_arrive_whole_in_a_large_slot") {
        return;
    }
    let Some(mut cable) = Cable::new("super-frames", TapConfig::default(), small_pool(4)) else { return };
    let (got, largest, frags) = receive_stream(&mut cable, 300_000);
    assert!(got == pattern(300_000), "the bytes are those that were written");
    assert!(largest.len as usize > ROOM, "no super-frame came: {largest:?}");
    assert_eq!((largest.gso_size, largest.csum), (1_460, IpSummed::Partial));
    assert_eq!(usize::from(largest.gso_segs), (largest.len as usize - 54).div_ceil(1_460));
    assert_eq!(frags, 1, "one large slot behind the posted one");
    assert_eq!(cable.rings[0].stats().missed(), 0);
}

#[test]
fn without_a_large_slot_super_frames_span_several_posted_ones() {
    if !in_private("without_a_large_slot_super_frames_span_several_posted_ones") {
        return;
    }
    let Some(mut cable) = Cable::new("no large slot", TapConfig::default(), small_pool(0)) else { return };
    let (got, largest, frags) = receive_stream(&mut cable, 300_000);
    assert!(got == pattern(300_000), "the bytes are those that were written");
    assert!(largest.len as usize > ROOM && largest.gso_size == 1_460, "no super-frame came: {largest:?}");
    assert_eq!(frags, (largest.len as usize).div_ceil(ROOM) - 1);
}

#[test]
fn a_super_frame_of_ours_reaches_the_kernel_reader_whole() {
    if !in_private("a_super_frame_of_ours_reaches_the_kernel_reader_whole") {
        return;
    }
    let Some(mut cable) = Cable::new("our super-frame", TapConfig::default(), small_pool(4)) else { return };
    let reader = std::thread::spawn(|| {
        let mut stream = TcpStream::connect((OURS, 80)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let mut bytes = vec![0; 40_000];
        stream.read_exact(&mut bytes).expect("read");
        bytes
    });
    let (_, skb, _) = cable.next(|frame| tcp_of(frame).is_some_and(|(tcp, _)| tcp.flags() == TcpFlags::SYN));
    let (syn, _) = tcp_of(skb.data()).expect("a SYN");
    let options = TcpOptions { mss: Some(1_460), ..TcpOptions::default() };
    let flags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0);
    let (dport, ack) = (syn.src_port(), syn.seq() + 1);
    let repr = TcpRepr { sport: 80, dport, seq: SeqNum(1_000), ack, flags, window: 65_535, urgent: 0, options };
    cable.pool.free(skb);
    cable.send_segment(repr);

    let payload = pattern(40_000);
    let mut data = cable.pool.alloc_large().expect("a large slot");
    data.put(payload.len()).copy_from_slice(&payload);
    let mut skb = cable.pool.alloc().expect("a slot");
    skb.reserve(64);
    let repr = TcpRepr { seq: SeqNum(1_001), flags: TcpFlags::ACK, options: TcpOptions::default(), ..repr };
    tcp::emit(skb.put(20), repr);
    tcp::fill_pseudo(Addr::from(OURS), Addr::from(KERNEL), skb.data_mut(), 20 + payload.len());
    assert!(skb.add_frag(data).is_ok());
    (skb.gso_size, skb.gso_segs, skb.ip_summed) = (1_460, 28, IpSummed::Partial);
    cable.send(skb, IpProto::TCP);
    assert!(reader.join().expect("the reader") == payload, "the bytes are those that were sent");
}

#[test]
fn a_frame_of_many_pieces_is_gathered() {
    if !in_private("a_frame_of_many_pieces_is_gathered") {
        return;
    }
    let Some(mut cable) = Cable::new("pieces", TapConfig::default(), small_pool(0)) else { return };
    let socket = UdpSocket::bind((KERNEL, 5000)).expect("socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    let payload = pattern(1_000);
    let mut skb = cable.pool.alloc().expect("a slot");
    skb.reserve(64);
    let [high, low] = (8 + payload.len() as u16).to_be_bytes();
    skb.put(8).copy_from_slice(&[0x17, 0x70, 0x13, 0x88, high, low, 0, 0]);
    for piece in payload.chunks(20) {
        let mut frag = cable.pool.alloc().expect("a slot");
        frag.put(piece.len()).copy_from_slice(piece);
        assert!(skb.add_frag(frag).is_ok());
    }
    assert_eq!(skb.frag_count(), 50);
    cable.send(skb, IpProto::UDP);
    let mut buf = [0; 2_000];
    let (n, _) = socket.recv_from(&mut buf).expect("the datagram");
    assert!(buf[..n] == payload[..]);
}

#[test]
fn every_queue_of_a_multi_queue_tap_is_served() {
    if !in_private("every_queue_of_a_multi_queue_tap_is_served") {
        return;
    }
    let config = TapConfig { queues: 4, name: "multi%d".to_owned(), ..TapConfig::default() };
    let Some(mut cable) = Cable::new("multi-queue", config, small_pool(4)) else { return };
    assert!(cable.queues.iter().all(|queue| queue.readiness().is_some()));
    let mut seen = [0; 4];
    for port in 5_000..5_064 {
        let socket = UdpSocket::bind((KERNEL, port)).expect("socket");
        socket.send_to(b"x", (OURS, 6000)).expect("send");
        let (queue, skb, _) = cable.next(|frame| udp_frame(frame).is_some());
        seen[queue] += 1;
        cable.pool.free(skb);
    }
    assert_eq!(seen.iter().sum::<u32>(), 64);
    assert!(seen.iter().filter(|&&n| n > 0).count() > 1, "64 flows on one queue of four: {seen:?}");
}

#[test]
fn frames_wait_in_the_interface_while_no_descriptor_is_posted() {
    if !in_private("frames_wait_in_the_interface_while_no_descriptor_is_posted") {
        return;
    }
    let Some(mut cable) = Cable::new("waiting", TapConfig::default(), small_pool(4)) else { return };
    let socket = UdpSocket::bind((KERNEL, 5000)).expect("socket");
    for i in 0..300u16 {
        socket.send_to(&i.to_be_bytes(), (OURS, 6000)).expect("send");
    }
    // 255 descriptors are posted; the budget is more.
    assert_eq!(cable.queues[0].dma(Time(1), &mut cable.pool, 1_000), 255);
    assert_eq!(cable.queues[0].dma(Time(2), &mut cable.pool, 1_000), 0);
    for i in 0..300u16 {
        let (_, skb, _) = cable.next(|frame| udp_frame(frame).is_some());
        assert_eq!(udp_frame(skb.data()).expect("a datagram").1, i.to_be_bytes());
        cable.pool.free(skb);
    }
    assert_eq!(cable.rings[0].stats().missed(), 0);
}

#[test]
fn a_large_slot_that_no_frame_needed_goes_back_to_its_pool() {
    if !in_private("a_large_slot_that_no_frame_needed_goes_back_to_its_pool") {
        return;
    }
    let Some(mut cable) = Cable::new("large slot", TapConfig::default(), small_pool(2)) else { return };
    cable.queues[0].dma(Time(1), &mut cable.pool, 8);
    while let Some(harvest) = cable.rings[0].take() {
        match harvest {
            Harvest::Frame(skb) | Harvest::Error(skb) => cable.pool.free(skb),
        }
    }
    assert_eq!(cable.pool.free_of(rxpath_mem::SlotClass::Large), 1, "the queue keeps one at hand");
    cable.queues.clear();
    cable.rings.clear();
    cable.pool.drain();
    assert_eq!(cable.pool.outstanding(), 0);
    assert_eq!(cable.pool.stats().not_specified, 0);
}

#[test]
fn an_interface_in_use_and_a_wrong_ring_count_are_refused_with_the_mend() {
    if !in_private("an_interface_in_use_and_a_wrong_ring_count_are_refused_with_the_mend") {
        return;
    }
    let config = TapConfig { name: "taken0".to_owned(), ..TapConfig::default() };
    let tap = match Tap::open(config.clone()) {
        Ok(tap) => tap,
        Err(error) => return skip("in use", &error),
    };
    assert_eq!(tap.name(), "taken0");
    assert_eq!(tap.info().mtu, 1_500);
    let error = Tap::open(config).expect_err("in use");
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("choose another name"), "{error}");
    let error = Box::new(tap).open(Vec::new(), Steering::Fixed(0)).err().expect("no ring for a queue");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let config = TapConfig::default;
    let wrong = [
        TapConfig { name: String::new(), ..config() },
        TapConfig { name: "sixteen_bytes_xx".to_owned(), ..config() },
        TapConfig { name: "a/b".to_owned(), ..config() },
        TapConfig { name: "a b".to_owned(), ..config() },
        TapConfig { queues: 0, ..config() },
        TapConfig { vnet_hdr: false, offload: true, ..config() },
        TapConfig { mac: Some(MacAddr::BROADCAST), ..config() },
        TapConfig { mac: Some(MacAddr::ZERO), ..config() },
        TapConfig { mtu: Some(67), ..config() },
    ];
    for config in wrong {
        let error = Tap::open(config.clone()).expect_err("makes no sense");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{config:?}: {error}");
    }
}

#[test]
fn both_ends_have_the_mtu_that_is_asked_for() {
    if !in_private("both_ends_have_the_mtu_that_is_asked_for") {
        return;
    }
    let config = TapConfig {
        name: "large0".to_owned(),
        mtu: Some(9_000),
        vnet_hdr: false,
        offload: false,
        ..TapConfig::default()
    };
    let Some(mut cable) = Cable::new("mtu", config, small_pool(4)) else { return };
    let of_kernel = std::fs::read_to_string("/sys/class/net/large0/mtu");
    // The files of another namespace may be mounted there: then only the datagram tells.
    if let Ok(of_kernel) = of_kernel {
        assert_eq!(of_kernel.trim(), "9000");
    }
    let socket = UdpSocket::bind((KERNEL, 5000)).expect("socket");
    let payload = pattern(8_000);
    socket.send_to(&payload, (OURS, 6000)).expect("it fits one packet");
    // Its payload goes on in another slot.
    let is_udp = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&IpProto::UDP);
    let (_, skb, _) = cable.next(is_udp);
    assert_eq!(bytes_from(&skb, 14 + 20 + 8), payload);
    cable.pool.free(skb);
}

#[test]
fn a_tap_says_its_mtu() {
    if !in_private("a_tap_says_its_mtu") {
        return;
    }
    let mtu = |mtu| match Tap::open(TapConfig { mtu, ..TapConfig::default() }) {
        Ok(tap) => Some(tap.info().mtu),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            skip("mtu", &error);
            None
        }
        Err(error) => panic!("{error}"),
    };
    let Some(usual) = mtu(None) else { return };
    assert_eq!((usual, mtu(Some(1_500)), mtu(Some(576))), (1_500, Some(1_500), Some(576)));
    let error = Tap::open(TapConfig { mtu: Some(u16::MAX), ..TapConfig::default() }).expect_err("no TAP has so much");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn netlink_gives_routes_and_says_what_is_wrong() {
    if !in_private("netlink_gives_routes_and_says_what_is_wrong") {
        return;
    }
    let mut rtnl = Rtnl::open().expect("netlink");
    let error = rtnl.set_up("nowhere0").expect_err("no such interface");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("nowhere0"), "{error}");
    assert_eq!(rtnl.add_address("lo", OURS, 33).expect_err("prefix").kind(), ErrorKind::InvalidInput);

    let tap = match Tap::open(TapConfig { name: "route0".to_owned(), ..TapConfig::default() }) {
        Ok(tap) => tap,
        Err(error) => return skip("routes", &error),
    };
    rtnl.add_address("route0", KERNEL, 24).expect("address");
    rtnl.add_address("route0", KERNEL, 24).expect("the same again");
    rtnl.set_mac("route0", MacAddr([2, 0, 0, 0, 0, 9])).expect("hardware address");
    rtnl.set_mtu("route0", 1_400).expect("mtu");
    rtnl.set_up("route0").expect("up");
    rtnl.add_route(Ipv4Addr::UNSPECIFIED, 0, Some(OURS), "route0").expect("default route");
    rtnl.add_route(Ipv4Addr::new(192, 168, 7, 0), 24, None, "route0").expect("route onto the link");
    let gateway = Some(Ipv4Addr::new(172, 16, 0, 1));
    assert!(rtnl.add_route(Ipv4Addr::new(192, 168, 8, 0), 24, gateway, "lo").is_err(), "gateway not to be reached");

    let routes = std::fs::read_to_string("/proc/thread-self/net/route").expect("the kernel's table");
    // Destination, gateway, flags (1 up, 2 gateway) and mask, in the byte order of the machine.
    let row = |to: u32, via: u32, flags: u32, mask: u32| {
        let hex = |v: u32| format!("{:08X}", u32::from_ne_bytes(v.to_be_bytes()));
        routes.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.len() > 7
                && fields[..4] == ["route0", &hex(to), &hex(via), &format!("{flags:04X}")]
                && fields[7] == hex(mask)
        })
    };
    assert!(row(0, u32::from(OURS), 3, 0), "default route: {routes}");
    assert!(row(u32::from(Ipv4Addr::new(192, 168, 7, 0)), 0, 1, 0xffff_ff00), "route onto the link: {routes}");
    drop(tap);
}

#[test]
fn only_sysctls_of_the_namespace_can_be_set() {
    if !in_private("only_sysctls_of_the_namespace_can_be_set") {
        return;
    }
    for name in ["kernel.hostname", "net..x", "net/../kernel.hostname", "vm.overcommit_memory", ""] {
        let error = netns::set_sysctl(name, "1").expect_err("not of the namespace");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
    }
    netns::set_sysctl("net.ipv4.ip_forward", "1").expect("the namespace's own");
    let value = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("read");
    assert_eq!(value.trim(), "1");
    assert_eq!(netns::set_sysctl("net.ipv4.nosuch", "1").expect_err("none").kind(), ErrorKind::NotFound);
}
