//! VLAN devices of two stacks on one cable: connections through tags.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use rxpath::device::wire::{self, WireConfig};
use rxpath::net::{TcpListener, TcpStream};
use rxpath::rxpath_core::demux::stats::DevStat;
use rxpath::rxpath_core::netns::IfAddr;
use rxpath::rxpath_trace::{Counter, DropReason};
use rxpath::rxpath_wire::{EtherType, MacAddr};
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
