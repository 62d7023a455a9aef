//! Packets for others, between two links.

use std::net::Ipv4Addr;

use rxpath_wire::{IpProto, MacAddr, TcpFlags};

use super::super::case::{Case, Host, Link, Route, Way, host_mac};
use super::Script;
use super::packets::{EXPERIMENT, OURS, Packet, echo, mac_of, message, peer, segment};

/// The host's address on the second link.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
/// A gateway that no address says is on the second link.
const BEYOND: Ipv4Addr = Ipv4Addr::new(192, 168, 99, 1);

/// Two links, routes of every type.
fn host() -> Host {
    let near = |last: u8| Ipv4Addr::new(10, 9, 0, last);
    let far = |last: u8| Ipv4Addr::new(10, 8, 0, last);
    let first = Link {
        addresses: vec![(OURS[0], 24), (OURS[1], 28)],
        mtu: 1_500,
        peers: vec![peer(0, near(2)), peer(0, near(3))],
    };
    let second = Link { addresses: vec![(SECOND, 24)], mtu: 1_500, peers: vec![peer(1, far(2)), peer(1, BEYOND)] };
    let net = |third: u8| (Ipv4Addr::new(10, third, 0, 0), 16);
    let routes = vec![
        Route { to: net(20), way: Way::Via(far(2), 1) },
        Route { to: net(21), way: Way::Via(near(3), 0) },
        Route { to: net(22), way: Way::Unreachable },
        Route { to: net(23), way: Way::Prohibit },
        Route { to: net(24), way: Way::Blackhole },
        Route { to: net(25), way: Way::On(1) },
        Route { to: net(26), way: Way::Onlink(BEYOND, 1) },
    ];
    let sysctls = vec![
        ("net.ipv4.ip_forward".to_owned(), "1".to_owned()),
        ("net.ipv4.icmp_msgs_burst".to_owned(), "100000".to_owned()),
    ];
    Host { links: vec![first, second], routes, sysctls, ..Host::default() }
}

/// Some 30 packets.
pub fn forward(seed: u64) -> Case {
    let mut script = Script::new("forward", seed, host());
    // One that does not answer: of two the kernel's timers would decide who fails first.
    let lost = script.pick([Ipv4Addr::new(10, 8, 0, 7), Ipv4Addr::new(10, 25, 0, 1)]);
    script.host.links[1].mtu = script.pick([1_500, 1_500, 1_400, 576, 296, 68]);
    for _ in 0..10 + script.rng.below(30) {
        if script.chance(10) {
            let wait_us = script.pick([25_000, 50_000, 400_000]);
            script.wait_us(wait_us);
        }
        let (link, packet) = packet(&mut script, lost);
        script.send(link, packet.frame());
    }
    // Now and then long enough for a next hop that does not answer to be given up.
    let quiet_us = if script.chance(15) { 3_300_000 } else { 3_000 };
    script.case(seed, quiet_us)
}

/// A packet, and the link that it comes by.
fn packet(script: &mut Script, lost: Ipv4Addr) -> (u8, Packet) {
    let link = u8::from(script.chance(25));
    let (src, from) = if link == 0 {
        let last = 2 + script.rng.below(2) as u8;
        (Ipv4Addr::new(10, 9, 0, last), mac_of(0, last))
    } else {
        (Ipv4Addr::new(10, 8, 0, 2), mac_of(1, 2))
    };
    let dst = destination(script, lost);
    let len = script.pick([0, 8, 40, 41, 48, 49, 268, 500, 548, 1_000, 1_400, 1_472]);
    let data = script.bytes(len);
    let content = match script.rng.below(8) {
        0 => Packet::new(EXPERIMENT, data),
        1 => Packet::new(IpProto::TCP, segment(src, dst, TcpFlags::SYN, 1)),
        2 => Packet::new(IpProto::ICMP, message(script.pick([0, 3, 5, 11, 13]), 0, 0, &data)),
        3 => Packet::new(17, data),
        _ => echo(8, script.rng.below(100) as u16, &data),
    };
    let id = script.rng.below(65_536) as u16;
    let mut packet = Packet { to: host_mac(usize::from(link)), from, src, dst, id, ..content };
    if script.chance(40) {
        change(script, &mut packet);
    }
    if packet.proto == 17 && packet.dst != dst {
        packet.proto = EXPERIMENT;
    }
    (link, packet)
}

fn destination(script: &mut Script, lost: Ipv4Addr) -> Ipv4Addr {
    let third = match script.rng.below(20) {
        0..5 => return Ipv4Addr::new(10, 8, 0, 2),
        5 => return lost,
        6..8 => return Ipv4Addr::new(10, 9, 0, 2 + script.rng.below(2) as u8),
        8..11 => 20,
        11..13 => 21,
        13 => 22,
        14 => 23,
        15 => 24,
        16 => return lost,
        17 => 26,
        _ => 77,
    };
    Ipv4Addr::new(10, third, 0, 1 + script.rng.below(3) as u8)
}

/// Whether a next hop of the script's is known to the host.
fn answers(dst: Ipv4Addr) -> bool {
    !matches!(dst.octets(), [10, 25, ..] | [10, 8, 0, 7])
}

fn change(script: &mut Script, packet: &mut Packet) {
    match script.rng.below(18) {
        0 | 1 => packet.ttl = script.pick([0, 1, 2, 255]),
        2..5 => packet.word = 0x4000,
        5 => packet.word = script.pick([0x2000, 0x2010, 0x0020, 0x6000, 0x8000]),
        6 => packet.tos = script.rng.below(256) as u8,
        7 => packet.to = script.pick([MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1]), mac_of(0, 9)]),
        // The kernel reads the options once more when a next hop does not answer.
        8..11 if !answers(packet.dst) => {}
        8 => packet.options = vec![7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        9 => packet.options = vec![68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        10 => packet.options = vec![148, 4, 0, 0, 1, 7, 3, 4],
        11 => packet.spoilt = true,
        12 => packet.src = script.pick([[8, 8, 8, 8], [240, 0, 0, 1], [0; 4], [127, 0, 0, 1]]).into(),
        13 => packet.src = script.pick([[10, 20, 0, 1], [10, 22, 0, 1], [10, 24, 0, 1], [224, 0, 0, 1]]).into(),
        14 => packet.padding = 12,
        15 => {
            packet.dst = script.pick([[10, 8, 0, 255], [255; 4], [224, 0, 0, 5], [240, 0, 0, 1], [0, 0, 0, 1]]).into()
        }
        16 => packet.dst = script.pick([OURS[0], SECOND]),
        _ => packet.cut = script.pick([1, 8, 25]),
    }
}
