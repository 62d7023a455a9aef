//! Packet sockets on a stack: what they see of a connection, how they wait, how they lose, what they send.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use rxpath::clock::ManualClock;
use rxpath::device::wire::{self, Port, WireConfig};
use rxpath::net::{
    PacketChecksum, PacketFilter, PacketInfo, PacketKind, PacketOptions, PacketSocket, PacketStatistics, TcpListener,
    TcpStream,
};
use rxpath::rxpath_mem::PktType;
use rxpath::rxpath_trace::{Counter, DropReason, EventKind, Holder, Selector, lives};
use rxpath::rxpath_wire::{EtherType, MacAddr, VlanTag};
use rxpath::{Interface, Mode, Stack, VlanConfig};

const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A stack in virtual time with a VLAN device, and the bare end of its cable.
fn stack() -> (Stack, Port, ManualClock) {
    let (wire, port) = wire::port(WireConfig::named("eth0"));
    let clock = ManualClock::new();
    let interface = Interface::new(wire).address("10.0.0.1/24").expect("an address");
    let builder = Stack::builder().interface(interface).vlan(VlanConfig::new("eth0", 5)).lives(Selector::All);
    (builder.mode(Mode::Polled).clock(clock.clone()).build().expect("a stack"), port, clock)
}

/// A frame of an EtherType that nobody has.
fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; len];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    frame
}

fn put(stack: &Stack, port: &Port, frame: &[u8]) {
    port.send(stack.now(), frame).expect("a descriptor");
    stack.poll(stack.now());
}

fn next(socket: &PacketSocket) -> Option<(PacketInfo, Vec<u8>)> {
    let mut buf = vec![0; 70_000];
    match socket.recv(&mut buf) {
        Ok((bytes, seen)) => {
            buf.truncate(bytes);
            Some((seen, buf))
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            None
        }
    }
}

fn open(stack: &Stack, options: PacketOptions) -> PacketSocket {
    let socket = PacketSocket::open(stack, options).expect("a socket");
    socket.set_nonblocking(true).expect("it is");
    socket
}

#[test]
fn a_connection_is_seen_in_both_directions() {
    let (left, right) = wire::pair(WireConfig::named("eth0"), WireConfig::named("eth0"));
    let host = |wire, address: &str| {
        let interface = Interface::new(wire).address(address).expect("an address");
        Stack::builder().cpus(2).interface(interface).build().expect("a stack")
    };
    let (server, client) = (host(left, "10.0.0.1/24"), host(right, "10.0.0.2/24"));
    let filter = Some(PacketFilter::expression("tcp port 80".parse().expect("a filter"), usize::MAX));
    let options = PacketOptions { filter, receive_buffer: 64 << 20, ..PacketOptions::default() };
    let socket = PacketSocket::open(&server, options).expect("a socket");
    let listener = TcpListener::bind(&server, "10.0.0.1:80").expect("an address");
    let sent: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
    let watcher = thread::spawn(move || {
        let mut seen: Vec<(PacketInfo, Vec<u8>)> = Vec::new();
        let mut buf = vec![0; 70_000];
        loop {
            let (bytes, info) = socket.recv(&mut buf).expect("a packet");
            assert_eq!((bytes, info.net, info.vlan), (info.len, 14, None));
            seen.push((info, buf[..bytes].to_vec()));
            // The FIN of the client.
            if info.pkt_type == PktType::Host && buf[47] & 1 == 1 {
                return (seen, socket.statistics());
            }
        }
    });
    let mut out = TcpStream::connect(&client, "10.0.0.1:80").expect("a connection");
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut received = vec![0; sent.len()];
    thread::scope(|scope| {
        scope.spawn(|| out.write_all(&sent).expect("taken"));
        stream.read_exact(&mut received).expect("read");
    });
    drop(out);
    let (seen, statistics) = watcher.join().expect("the watcher saw the end");
    assert_eq!(received, sent);
    let of = |pkt_type| seen.iter().filter(move |(info, _)| info.pkt_type == pkt_type);
    let payload: Vec<u8> = of(PktType::Host).flat_map(|(_, bytes)| &bytes[14 + 20 + 32..]).copied().collect();
    // A SYN has more options; nothing else was cut, doubled or lost on this cable.
    assert!(payload.ends_with(&sent[sent.len() - 1_000..]), "the bytes of the stream");
    assert!(of(PktType::Outgoing).count() > 1, "the SYN-ACK, and ACKs");
    assert!(seen.iter().all(|(info, _)| info.dropped_before == 0));
    assert!(
        of(PktType::Outgoing).all(|(info, _)| info.checksum != PacketChecksum::Valid),
        "of what is sent nobody says"
    );
    assert_eq!((statistics.packets, statistics.drops), (seen.len() as u64, 0));
    let bytes: usize = seen.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(server.snapshot()[Counter::CopiedTap], bytes as u64, "copied once, by the reader");
    drop(stream);
    for _ in 0..2_000 {
        if server.ledger().check().is_ok() && server.ledger().held_by(Holder::TapQueue) == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let ledger = server.ledger();
    ledger.check().expect("balanced, with the socket closed");
    assert_eq!((ledger.held_by(Holder::TapQueue), ledger.clones() >= statistics.packets), (0, true));
}

#[test]
fn reading_waits_times_out_and_ends_with_the_stack() {
    let (wire, port) = wire::port(WireConfig::named("eth0"));
    let stack = Stack::builder().interface(Interface::new(wire)).build().expect("a stack");
    let socket = PacketSocket::open(&stack, PacketOptions::default()).expect("a socket");
    let mut buf = [0; 100];
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time");
    assert_eq!(socket.recv(&mut buf).expect_err("nothing comes").kind(), ErrorKind::WouldBlock);
    assert_eq!(socket.set_read_timeout(Some(Duration::ZERO)).expect_err("no time").kind(), ErrorKind::InvalidInput);
    socket.set_read_timeout(None).expect("for ever");
    thread::scope(|scope| {
        let reader = scope.spawn(|| socket.recv(&mut [0; 100]).expect("a frame").0);
        thread::sleep(Duration::from_millis(20));
        port.send(stack.now(), &frame(60)).expect("a descriptor");
        assert_eq!(reader.join().expect("it read"), 60);
        let other = socket.try_clone().expect("a handle");
        let reader = scope.spawn(move || other.recv(&mut [0; 100]).expect_err("the end").kind());
        thread::sleep(Duration::from_millis(20));
        stack.shutdown();
        assert_eq!(reader.join().expect("it ended"), ErrorKind::NetworkDown);
    });
    assert_eq!(socket.recv(&mut buf).expect_err("down").kind(), ErrorKind::NetworkDown);
    assert_eq!(socket.send(&frame(60)).expect_err("bound to none").kind(), ErrorKind::AddrNotAvailable);
    let again = PacketSocket::open(&stack, PacketOptions::default());
    assert_eq!(again.expect_err("down").kind(), ErrorKind::NetworkDown);
    drop(socket);
    stack.ledger().check().expect("balanced");
}

#[test]
fn statistics_are_cleared_and_include_the_drops() {
    let (stack, port, _clock) = stack();
    let small = open(&stack, PacketOptions { receive_buffer: 1, ..PacketOptions::default() });
    let large = open(&stack, PacketOptions::default());
    for _ in 0..10 {
        put(&stack, &port, &frame(60));
    }
    // The kernel's figures for ten such frames and a receive buffer as small as there is.
    assert_eq!(small.statistics(), PacketStatistics { packets: 10, drops: 6 });
    assert_eq!(small.statistics(), PacketStatistics::default());
    assert_eq!(large.statistics(), PacketStatistics { packets: 10, drops: 0 });
    assert_eq!(std::iter::from_fn(|| next(&small)).count(), 4);
    assert_eq!(stack.ledger().dropped_for(DropReason::PacketSockError), 6);
    assert_eq!(stack.ledger().held_by(Holder::TapQueue), 10);
    drop(large);
    let ledger = stack.ledger();
    assert_eq!((ledger.dropped_for(DropReason::QueuePurge), ledger.held_by(Holder::TapQueue)), (10, 0));
    assert_eq!((ledger.clones(), ledger.delivered()), (20, 4));
    ledger.check().expect("balanced");
    let told = lives::group(stack.take_events());
    let clones: Vec<_> = told.iter().filter(|life| life.events[0].kind == EventKind::Cloned).collect();
    let end = |kind| clones.iter().filter(|life| life.events.last().map(|event| event.kind) == Some(kind)).count();
    assert_eq!((clones.len(), end(EventKind::TapRead), end(EventKind::Dropped)), (20, 4, 16));
    assert!(clones.iter().all(|life| !life.events[0].other.is_none()), "each has a parent");
}

#[test]
fn frames_are_sent_as_they_are_within_the_interfaces_bounds() {
    let (stack, port, _clock) = stack();
    let on = |interface: &str, kind| PacketOptions {
        interface: Some(interface.to_owned()),
        kind,
        ..PacketOptions::default()
    };
    let (raw, other) = (open(&stack, on("eth0", PacketKind::Raw)), open(&stack, PacketOptions::default()));
    let sent = frame(61);
    assert_eq!(raw.send(&sent).expect("sent"), 61);
    assert_eq!(port.recv().expect("on the cable"), sent);
    assert!(next(&raw).is_none(), "not its own");
    let (seen, bytes) = next(&other).expect("others see it");
    assert_eq!((seen.pkt_type, seen.protocol, bytes), (PktType::Outgoing, 0x88b5, sent));
    // Linux's bounds: a header at least, the MTU at most, and a tag besides.
    let mut tagged = frame(1_518);
    tagged[12..14].copy_from_slice(&EtherType::VLAN.to_be_bytes());
    for (what, outcome) in [(vec![], false), (frame(14)[..13].to_vec(), false), (frame(14), true), (frame(1_514), true)]
    {
        assert_eq!(raw.send(&what).map_err(|error| error.kind()).ok(), outcome.then_some(what.len()), "{}", what.len());
    }
    assert_eq!(
        raw.send(&frame(1_515)).expect_err("too long").to_string(),
        "the interface takes frames of at most 1514 bytes"
    );
    assert_eq!(raw.send(&tagged).expect("a tag is not counted"), 1_518);
    // A datagram gets its header; by a VLAN device the tag as well.
    let dgram = open(&stack, on("eth0.5", PacketKind::Dgram));
    std::iter::from_fn(|| port.recv()).for_each(drop);
    std::iter::from_fn(|| next(&other)).for_each(drop);
    assert_eq!(dgram.send_to(b"hello", PEER_MAC, 0x88b6).expect("sent"), 5);
    let on_wire = port.recv().expect("on the cable");
    let mac = stack.config().interfaces[1].mac;
    assert_eq!(on_wire, [&PEER_MAC.0[..], &mac.0, &[0x81, 0, 0, 5, 0x88, 0xb6], b"hello"].concat());
    let seen: Vec<(u16, u16, usize)> =
        std::iter::from_fn(|| next(&other)).map(|(seen, _)| (seen.ifindex, seen.protocol, seen.len)).collect();
    assert_eq!(seen, [(2, 0x88b6, 19), (1, EtherType::VLAN, 23)], "on the VLAN device, then on what it stands on");
    let missing = PacketSocket::open(&stack, on("eth9", PacketKind::Raw)).expect_err("no such interface");
    assert_eq!(missing.to_string(), "no interface \"eth9\"; there is: eth0, eth0.5");
    stack.ledger().check().expect("balanced");
    drop((raw, dgram, other));
    stack.ledger().check().expect("balanced");
}

#[test]
fn a_vlans_frames_are_seen_with_the_tag_told_and_again_on_its_device() {
    let (stack, port, _clock) = stack();
    let all = open(&stack, PacketOptions::default());
    let vlan = PacketOptions { interface: Some("eth0.5".to_owned()), protocol: 0x88b5, ..PacketOptions::default() };
    let vlan = open(&stack, vlan);
    let mut tagged = frame(60);
    tagged.splice(12..12, [0x81, 0, 0x60, 5]);
    put(&stack, &port, &tagged);
    let seen: Vec<_> =
        std::iter::from_fn(|| next(&all)).map(|(seen, bytes)| (seen.ifindex, seen.vlan, bytes)).collect();
    let tag = VlanTag { tpid: EtherType::VLAN, tci: 0x6005 };
    assert_eq!(seen, [(1, Some(tag), frame(60)), (2, None, frame(60))]);
    assert_eq!(next(&vlan).map(|(seen, bytes)| (seen.ifindex, bytes)), Some((2, frame(60))));
    assert_eq!(stack.ledger().dropped(), 0, "somebody wanted it");
    stack.ledger().check().expect("balanced");
}

#[test]
fn packet_and_ptype_list_the_sockets_as_the_kernel_does() {
    let (stack, port, _clock) = stack();
    let dgram = PacketOptions { kind: PacketKind::Dgram, protocol: 0x88b5, ..PacketOptions::default() };
    let of = |protocol, interface: Option<&str>| {
        let interface = interface.map(str::to_owned);
        open(&stack, PacketOptions { protocol, interface, ..PacketOptions::default() })
    };
    let ip = of(EtherType::IPV4, None);
    let dgram = open(&stack, dgram);
    let small = open(&stack, PacketOptions { receive_buffer: 1, ..PacketOptions::default() });
    let sockets = (ip, dgram, small, of(0, None), of(EtherType::ALL, Some("eth0")), of(EtherType::ARP, Some("eth0")));
    put(&stack, &port, &frame(60));
    assert_eq!(
        stack.proc().packet(),
        "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
         0000000000000001 3      3    0800   0     1 0      0      1     \n\
         0000000000000002 3      2    88b5   0     1 704    0      2     \n\
         0000000000000003 3      3    0003   0     1 704    0      3     \n\
         0000000000000004 2      3    0000   0     0 0      0      4     \n\
         0000000000000005 3      3    0003   1     1 704    0      5     \n\
         0000000000000006 3      3    0806   1     1 0      0      6     \n"
    );
    assert_eq!(
        stack.proc().ptype(),
        "Type Device      Function\n\
         ALL  eth0     packet_rcv\n\
         ALL           packet_rcv\n\
         88b5          packet_rcv\n\
         0800          packet_rcv\n\
         0800          ip_rcv\n\
         0806          arp_rcv\n"
    );
    drop(sockets);
    assert_eq!(stack.proc().packet().lines().count(), 1);
    stack.ledger().check().expect("balanced");
}

#[test]
fn a_card_with_a_filter_lets_in_what_it_was_told() {
    let (wire, port) = wire::port(WireConfig { filter: true, ..WireConfig::named("eth0") });
    let clock = ManualClock::new();
    let interface = Interface::new(wire).address("10.0.0.1/24").expect("an address");
    let vlan = VlanConfig { mac: Some(MacAddr([2, 0, 0, 0, 0, 5])), ..VlanConfig::new("eth0", 5) };
    let stack = Stack::builder().interface(interface).vlan(vlan).mode(Mode::Polled).clock(clock).build();
    let stack = stack.expect("a stack");
    let group = MacAddr::of_group([239, 1, 1, 1].into());
    let other = MacAddr([2, 0, 0, 0, 0, 9]);
    let everybody = [port.mac(), MacAddr([2, 0, 0, 0, 0, 5]), MacAddr::BROADCAST, group, other];
    let let_in = || {
        stack.poll(stack.now());
        everybody.map(|dst| {
            let mut frame = frame(60);
            frame[..6].copy_from_slice(&dst.0);
            port.send(stack.now(), &frame).is_ok()
        })
    };
    assert_eq!(let_in(), [true, true, true, false, false]);
    let socket = rxpath::net::UdpSocket::bind(&stack, "0.0.0.0:5000").expect("a socket");
    socket.join_multicast_v4(&[239, 1, 1, 1].into(), &[10, 0, 0, 1].into()).expect("joined");
    assert_eq!(let_in(), [true, true, true, true, false]);
    drop(socket);
    assert_eq!(let_in(), [true, true, true, false, false], "left with the socket");

    // Promiscuous mode changes what comes in, not whose it is.
    let options = PacketOptions { promiscuous: true, ..PacketOptions::default() };
    let nowhere = PacketSocket::open(&stack, options.clone()).expect_err("on no interface");
    assert_eq!(nowhere.kind(), ErrorKind::InvalidInput);
    // A VLAN device takes the card along that it stands on.
    let socket = open(&stack, PacketOptions { interface: Some("eth0.5".to_owned()), ..options.clone() });
    assert_eq!(let_in(), [true; 5]);
    drop(socket);
    let socket = open(&stack, PacketOptions { interface: Some("eth0".to_owned()), ..options });
    assert_eq!(let_in(), [true; 5]);
    stack.poll(stack.now());
    let seen: Vec<PktType> = std::iter::from_fn(|| next(&socket)).map(|(seen, _)| seen.pkt_type).collect();
    use PktType::{Broadcast, Host, Multicast, OtherHost};
    assert_eq!(seen[seen.len() - 5..], [Host, OtherHost, Broadcast, Multicast, OtherHost]);
    drop(socket);
    assert_eq!(let_in(), [true, true, true, false, false]);
    stack.poll(stack.now());
    stack.ledger().check().expect("balanced");
}
