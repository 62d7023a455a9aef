//! VLAN devices of two stacks on one cable: connections through tags.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use rxpath::device::wire::{self, WireConfig};
use rxpath::net::{PacketOptions, PacketSocket, TcpListener, TcpStream};
use rxpath::rxpath_core::demux::stats::DevStat;
use rxpath::rxpath_core::netns::IfAddr;
use rxpath::rxpath_core::route::RouteSpec;
use rxpath::rxpath_trace::{Consumed, Counter, DropReason};
use rxpath::rxpath_wire::{EtherType, IpProto, Ipv4Repr, MacAddr, SeqNum, TcpFlags, TcpRepr, ipv4, tcp};
use rxpath::{Interface, Mode, Stack, VlanConfig};

const BYTES: usize = 300_000;

/// A host with an address on its cable, one on VLAN 5 and one on VLAN 7 within the service VLAN 9. `own` gives the VLAN
/// devices hardware addresses of their own.
fn host(wire: wire::Wire, last: u8, own: bool) -> Stack {
    let address = |third| vec![IfAddr { addr: Ipv4Addr::new(10, 0, third, last).into(), prefix: 24 }];
    let mac = own.then_some(MacAddr([2, 0, 0, 0, 5, last]));
    let five = VlanConfig { addresses: address(5), mac, ..VlanConfig::new("eth0", 5) };
    let nine = VlanConfig { name: "s9".to_owned(), tpid: EtherType::QINQ, ..VlanConfig::new("eth0", 9) };
    let seven = VlanConfig { addresses: address(7), mtu: Some(1_400), ..VlanConfig::new("s9", 7) };
    let interface = Interface::new(wire).address(&format!("10.0.0.{last}/24")).expect("an address");
    let stack = Stack::builder().cpus(2).mode(Mode::Threads).interface(interface);
    stack.vlan(five).vlan(nine).vlan(seven).build().expect("a stack")
}

/// A host with 10.0.5.1 on VLAN 5, and VLAN 7 within the service VLAN 9, that runs when it is told to.
fn host_of(wire: wire::Wire, mode: Mode) -> Stack {
    let addresses = vec![IfAddr { addr: Ipv4Addr::new(10, 0, 5, 1).into(), prefix: 24 }];
    let five = VlanConfig { addresses, ..VlanConfig::new("eth0", 5) };
    let nine = VlanConfig { name: "s9".to_owned(), tpid: EtherType::QINQ, ..VlanConfig::new("eth0", 9) };
    let seven = VlanConfig::new("s9", 7);
    let interface = Interface::new(wire).address("10.0.0.1/24").expect("an address");
    let stack = Stack::builder().mode(mode).interface(interface);
    stack.vlan(five).vlan(nine).vlan(seven).build().expect("a stack")
}

/// The stack balances as soon as nothing is on its way any more.
fn settle(stack: &Stack) {
    for _ in 0..2_000 {
        if stack.ledger().check().is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{}", stack.ledger().details());
}

fn transfer(offload: bool, own: bool, network: u8) {
    let config = |name| WireConfig::named(name).queues(2).offload(offload);
    let (left, right) = wire::pair(config("eth0"), config("eth0"));
    let (server, client) = (host(left, 1, own), host(right, 2, own));
    let at = format!("10.0.{network}.1:80");
    let listener = TcpListener::bind(&server, at.as_str()).expect("an address of the host");
    let sent: Vec<u8> = (0..BYTES).map(|i| (i * 7) as u8).collect();
    // Some connections, so that both Cpus own one.
    thread::scope(|scope| {
        for _ in 0..8 {
            let (sent, client, at) = (&sent, &client, at.as_str());
            scope.spawn(move || {
                let mut stream = TcpStream::connect(client, at).expect("a connection");
                stream.write_all(sent).expect("taken");
                stream.shutdown(std::net::Shutdown::Write).expect("a FIN");
                let mut back = Vec::new();
                stream.read_to_end(&mut back).expect("read");
                assert_eq!(back, sent[..1_000]);
            });
        }
        for _ in 0..8 {
            let (mut stream, peer) = listener.accept().expect("a connection");
            let sent = &sent;
            scope.spawn(move || {
                assert_eq!(peer.ip().to_string(), format!("10.0.{network}.2"));
                let mut received = Vec::new();
                stream.read_to_end(&mut received).expect("read");
                assert_eq!(&received, sent);
                stream.write_all(&sent[..1_000]).expect("taken");
            });
        }
    });
    for stack in [&server, &client] {
        settle(stack);
        let ledger = stack.ledger();
        assert_eq!(ledger.dropped_for(DropReason::Otherhost), 0);
        assert_eq!(stack.snapshot()[Counter::TcpInCsumErrors], 0);
        let interfaces = stack.interfaces();
        let of = |name: &str| interfaces.iter().find(|interface| interface.name == name).expect("it").stats;
        let vlan = of(if network == 5 { "eth0.5" } else { "s9.7" });
        let (rx, tx) = (vlan[DevStat::RxPackets], vlan[DevStat::TxPackets]);
        assert!(rx > 0 && rx == of("eth0")[DevStat::RxPackets], "all frames were the VLAN's");
        assert!(tx > 0 && tx == of("eth0")[DevStat::TxPackets]);
        let tags = if network == 5 { 4 } else { 8 };
        assert_eq!(of("eth0")[DevStat::TxBytes], vlan[DevStat::TxBytes] + tags * tx);
        assert_eq!(of("eth0")[DevStat::RxBytes], vlan[DevStat::RxBytes] + (14 + tags) * rx);
    }
}

#[test]
fn connections_over_a_vlan_find_their_owners() {
    transfer(false, false, 5);
}

#[test]
fn a_vlan_device_has_a_hardware_address_of_its_own() {
    transfer(false, true, 5);
}

#[test]
fn checksums_behind_a_tag_are_the_devices() {
    transfer(true, false, 5);
}

#[test]
fn connections_over_a_vlan_within_a_vlan_find_their_owners() {
    transfer(true, false, 7);
}

/// Segments of a connection that nobody here has, in frames with these tags.
fn tagged_segments(tags: &[(u16, u16)], count: u32) -> Vec<Vec<u8>> {
    let (src, dst) = (Ipv4Addr::new(10, 0, 5, 2), Ipv4Addr::new(10, 0, 5, 1));
    let segment = |number: u32| {
        let flags = if number + 1 == count { TcpFlags::ACK.union(TcpFlags::PSH) } else { TcpFlags::ACK };
        let seq = SeqNum(1_000 + 100 * number);
        let repr = TcpRepr { sport: 4_000, dport: 80, seq, flags, window: 9, ..TcpRepr::default() };
        let mut bytes = vec![0; 20 + repr.header_len()];
        let total_len = (bytes.len() + 100) as u16;
        let ip = Ipv4Repr { src, dst, proto: IpProto::TCP, ttl: 64, tos: 0, id: number as u16, df: true, total_len };
        ipv4::emit(&mut bytes, ip);
        tcp::emit(&mut bytes[20..], repr);
        bytes.extend([7; 100]);
        tcp::fill_checksum(src.into(), dst.into(), &mut bytes[20..]);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (tpid, tci) in tags {
            frame.extend([tpid.to_be_bytes(), tci.to_be_bytes()].concat());
        }
        frame.extend([8, 0]);
        frame.extend(bytes);
        frame
    };
    (0..count).map(segment).collect()
}

#[test]
fn segments_are_merged_behind_their_tags() {
    const COUNT: u32 = 8;
    let of = |tags: &[(u16, u16)], watched: bool| {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let (wire, port) = wire::port(WireConfig::named("eth0").mac(mac));
        let stack = host_of(wire, Mode::Polled);
        let tap = watched.then(|| PacketSocket::open(&stack, PacketOptions::default()).expect("a packet socket"));
        for frame in tagged_segments(tags, COUNT) {
            port.send(stack.now(), &frame).expect("a place in the ring");
        }
        stack.poll(stack.now());
        drop(tap);
        let ledger = stack.ledger();
        ledger.check().expect("the ledger balances");
        (ledger.consumed_by(Consumed::GroMerged), stack.snapshot()[Counter::TcpInSegs])
    };
    let merged = (u64::from(COUNT) - 1, 1);
    assert_eq!(of(&[(EtherType::VLAN, 5)], false), merged);
    // A priority of the tag is no other VLAN; two tags lead to a VLAN device on another.
    assert_eq!(of(&[(EtherType::VLAN, 5 | 3 << 13)], false), merged);
    assert_eq!(of(&[(EtherType::QINQ, 9), (EtherType::VLAN, 7)], false), merged);
    // Whoever watches sees each frame with its tag.
    assert_eq!(of(&[(EtherType::VLAN, 5)], true), (0, u64::from(COUNT)));
    // Nobody has this VLAN.
    assert_eq!(of(&[(EtherType::VLAN, 6)], false), (0, 0));
}

#[test]
fn vlan_devices_come_and_go_while_the_stack_runs() {
    let (left, right) = wire::pair(WireConfig::named("eth0"), WireConfig::named("eth0"));
    let plain = |wire, last: u8| {
        let interface = Interface::new(wire).address(&format!("10.0.0.{last}/24")).expect("an address");
        Stack::builder().interface(interface).build().expect("a stack")
    };
    let (server, client) = (plain(left, 1), plain(right, 2));
    let vlan = |last: u8, parent: &str, id: u16| {
        let addr = Ipv4Addr::new(10, 0, id as u8, last).into();
        VlanConfig { addresses: vec![IfAddr { addr, prefix: 24 }], ..VlanConfig::new(parent, id) }
    };
    let listener = TcpListener::bind(&server, "0.0.0.0:80").expect("a port");
    let talk = |to: &str| {
        let mut stream = TcpStream::connect(&client, to)?;
        let (mut peer, _) = listener.accept()?;
        stream.write_all(b"hello")?;
        let mut word = [0; 5];
        peer.read_exact(&mut word)?;
        Ok::<_, std::io::Error>((stream, peer))
    };
    let unreachable = |to: &str| TcpStream::connect(&client, to).expect_err("no way").kind();
    assert_eq!(unreachable("10.0.5.1:80"), std::io::ErrorKind::NetworkUnreachable);
    for round in 0..3 {
        let made: Vec<u16> = [(&server, 1), (&client, 2)]
            .into_iter()
            .flat_map(|(stack, last)| {
                let five = stack.add_vlan(&vlan(last, "eth0", 5)).expect("a VLAN device");
                [five, stack.add_vlan(&vlan(last, "eth0.5", 7)).expect("one on it")]
            })
            .collect();
        let first = 2 + 2 * round;
        assert_eq!(made, [first, first + 1, first, first + 1], "no index is given twice");
        let five = talk("10.0.5.1:80").expect("a connection over the VLAN");
        talk("10.0.7.1:80").expect("a connection over the VLAN within it");
        talk("10.0.0.1:80").expect("a connection beside it");
        assert!(client.proc().arp().contains("eth0.5"), "{}", client.proc().arp());
        assert!(!client.remove_vlan("eth0") && !client.remove_vlan("eth0.9"), "no VLAN devices");
        // What stands on it goes with it.
        assert!(client.remove_vlan("eth0.5") && server.remove_vlan("eth0.5"));
        let names = |stack: &Stack| stack.interfaces().into_iter().map(|interface| interface.name).collect::<Vec<_>>();
        assert_eq!((names(&client), names(&server)), (vec!["eth0".to_owned()], vec!["eth0".to_owned()]));
        assert!(
            !client.proc().arp().contains("eth0.5") && client.proc().arp().contains("10.0.0.1"),
            "{}",
            client.proc().arp()
        );
        assert_eq!(unreachable("10.0.5.1:80"), std::io::ErrorKind::NetworkUnreachable);
        assert_eq!(unreachable("10.0.7.1:80"), std::io::ErrorKind::NetworkUnreachable);
        talk("10.0.0.1:80").expect("the other network is as before");
        drop(five);
    }
    // A route by the device goes with it, and so does one that has its address for a source.
    let route = |to: [u8; 4]| RouteSpec::new(Ipv4Addr::from(to).into(), 24);
    let routes = |stack: &Stack| stack.config().fib.routes().len();
    let before = routes(&client);
    let index = client.add_vlan(&vlan(2, "eth0", 5)).expect("a VLAN device");
    client.core().change_routes(|fib, interfaces| {
        let by = RouteSpec { ifindex: Some(index), ..route([192, 0, 2, 0]) };
        let from =
            RouteSpec { ifindex: Some(1), src: Some(Ipv4Addr::new(10, 0, 5, 2).into()), ..route([198, 51, 100, 0]) };
        fib.add_route(interfaces, &by).expect("a route");
        fib.add_route(interfaces, &from).expect("a route");
    });
    assert_eq!(routes(&client), before + 5);
    assert!(client.remove_vlan("eth0.5"));
    assert_eq!(routes(&client), before);
    assert!(client.add_vlan(&vlan(2, "eth1", 5)).is_err());
    let taken =
        VlanConfig { addresses: vec![IfAddr { addr: Ipv4Addr::BROADCAST.into(), prefix: 24 }], ..vlan(2, "eth0", 5) };
    assert!(client.add_vlan(&taken).is_err());
    assert_eq!((routes(&client), client.interfaces().len()), (before, 1), "nothing is left of it");
    for stack in [&server, &client] {
        settle(stack);
    }
}

#[test]
fn what_cannot_be_is_told_with_the_mend() {
    let says = |vlans: Vec<VlanConfig>| {
        let (wire, _port) = wire::port(WireConfig::named("eth0"));
        let stack = Stack::builder().interface(Interface::new(wire)).mode(Mode::Polled);
        let built = vlans.into_iter().fold(stack, |stack, vlan| stack.vlan(vlan)).build();
        built.map_or_else(|error| error.to_string(), |_| "nothing".to_owned())
    };
    let five = || VlanConfig::new("eth0", 5);
    let nested = |parent: &str, id| VlanConfig::new(parent, id);
    for (vlans, words) in [
        (vec![five(), nested("eth0.5", 7)], "nothing"),
        (vec![nested("eth1", 5)], "eth1.5: there is no interface eth1 before it: name one"),
        (vec![five(), five()], "eth0.5: a second interface has this name: give each its own"),
        (vec![nested("eth0", 4_095)], "eth0.4095: VLAN 4095: give an id from 0 to 4094"),
        (
            vec![VlanConfig { tpid: EtherType::IPV4, ..five() }],
            "eth0.5: 0x0800 is no tag: give 0x8100 (802.1Q) or 0x88a8 (802.1ad)",
        ),
        (
            vec![five(), VlanConfig { name: "other".to_owned(), ..five() }],
            "other: eth0.5 has VLAN 5 of eth0 already: remove one",
        ),
        (
            vec![five(), nested("eth0.5", 7), nested("eth0.5.7", 9)],
            "eth0.5.7.9: 3 VLAN devices stand on one another: 2 may",
        ),
        (
            vec![VlanConfig { mtu: Some(1_501), ..five() }],
            "eth0.5: an MTU of 1501 is more than the 1500 of eth0: make it smaller",
        ),
    ] {
        assert_eq!(says(vlans), words);
    }
}
