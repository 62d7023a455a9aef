//! Packets that `ip_rcv` and the routing of received packets judge.

use std::net::Ipv4Addr;

use rxpath_wire::{IpProto, MacAddr, TcpFlags};

use super::super::case::{Case, host_mac};
use super::Script;
use super::packets::{EXPERIMENT, OURS, PEER, Packet, echo, host, mac_of, segment};

/// Addresses in every class that matters.
const ADDRESSES: [[u8; 4]; 29] = [
    [10, 9, 0, 1],
    [10, 9, 0, 2],
    [10, 9, 0, 3],
    [10, 9, 0, 0],
    [10, 9, 0, 255],
    [10, 9, 1, 1],
    [192, 168, 7, 1],
    [192, 168, 7, 0],
    [192, 168, 7, 15],
    [192, 168, 7, 5],
    [192, 168, 7, 16],
    [0, 0, 0, 0],
    [0, 0, 0, 7],
    [0, 1, 2, 3],
    [127, 0, 0, 0],
    [127, 0, 0, 1],
    [127, 1, 2, 3],
    [127, 255, 255, 254],
    [127, 255, 255, 255],
    [224, 0, 0, 1],
    [224, 0, 0, 2],
    [224, 0, 0, 251],
    [239, 255, 255, 250],
    [240, 0, 0, 1],
    [255, 255, 255, 254],
    [255, 255, 255, 255],
    [8, 8, 8, 8],
    [172, 16, 0, 1],
    [169, 254, 1, 1],
];

/// Protocols that a kernel may have and the stack has not: IGMP, other transports, tunnels.
const FOREIGN: [u8; 13] = [2, 4, 17, 33, 41, 47, 50, 51, 103, 108, 115, 132, 136];

/// Sources that are all hosts of a network of the host's: the kernel broadcasts its answers.
const ALL_HOSTS: [[u8; 4]; 4] = [[10, 9, 0, 0], [10, 9, 0, 255], [192, 168, 7, 0], [192, 168, 7, 15]];

/// Some 40 packets.
pub fn ip(seed: u64) -> Case {
    let mut script = Script::new("ip", seed, host());
    if script.chance(15) {
        return pairs(script, seed);
    }
    for _ in 0..15 + script.rng.below(40) {
        let mut packet = sound(&mut script);
        for _ in 0..script.pick([0, 1, 1, 1, 2]) {
            change(&mut script, &mut packet);
        }
        script.send(0, packet.frame());
    }
    script.case(seed, 2_000)
}

/// Sources and destinations of every class together, under one policy about sources.
fn pairs(mut script: Script, seed: u64) -> Case {
    if script.chance(60) {
        // Not those that let in what the kernel answers over its loopback interface.
        let (scope, mode) = (script.pick(["all", "twin0"]), script.pick([1, 2]));
        script.set(&format!("net.ipv4.conf.{scope}.rp_filter"), mode);
    }
    for number in 0..60 {
        let mut packet = echo(8, number, b"pairs");
        (packet.src, packet.dst) = (script.pick(ADDRESSES).into(), script.pick(ADDRESSES).into());
        if ALL_HOSTS.contains(&packet.src.octets()) {
            packet.src = PEER;
        }
        packet.to = script.pick([host_mac(0), host_mac(0), MacAddr::BROADCAST, MacAddr([0x01, 0x00, 0x5e, 0, 0, 1])]);
        script.send(0, packet.frame());
    }
    script.case(seed, 2_000)
}

/// A packet that is answered.
fn sound(script: &mut Script) -> Packet {
    let last = 2 + script.rng.below(2) as u8;
    let (src, from) = (Ipv4Addr::new(10, 9, 0, last), mac_of(0, last));
    let dst = script.pick([OURS[0], OURS[0], OURS[1]]);
    let packet = match script.rng.below(8) {
        0 => {
            let len = script.rng.below(100) as usize;
            Packet::new(script.pick([EXPERIMENT, 3, 54, 254, 255]), script.bytes(len))
        }
        1 | 2 => {
            let flags = script.pick([TcpFlags::SYN, TcpFlags::ACK, TcpFlags(0x12), TcpFlags::FIN, TcpFlags::RST]);
            Packet::new(IpProto::TCP, segment(src, dst, flags, script.rng.next_u64() as u32))
        }
        _ => {
            let len = script.pick([0, 1, 8, 56, 57, 500, 1_472]);
            let data = script.bytes(len);
            echo(8, script.rng.below(1_000) as u16, &data)
        }
    };
    Packet { src, dst, from, ..packet }
}

/// One thing is not as usual.
fn change(script: &mut Script, packet: &mut Packet) {
    match script.rng.below(26) {
        0 => packet.version = script.pick([0, 3, 5, 6, 15]),
        1 => packet.ihl = Some(script.pick([0, 1, 4, 6, 15])),
        2 => packet.spoilt = true,
        3 => packet.total_len = Some(script.pick([0, 1, 19, 20, 21, 27, 28, 65_535])),
        4 => packet.total_len = Some((20 + packet.payload.len() as u16).saturating_sub(script.pick([1, 2, 8]))),
        5 => packet.total_len = Some(20 + packet.payload.len() as u16 + script.pick([1, 2, 100])),
        6 => packet.cut = script.pick([1, 2, 7, 20, 24, 27, 30]),
        7 | 8 => packet.padding = script.pick([1, 2, 18, 46]),
        9 => packet.ttl = script.pick([0, 1, 2, 255]),
        10 | 11 => packet.tos = script.rng.below(256) as u8,
        // Don't fragment, and the bit that is reserved for evil.
        12 => packet.word = script.pick([0x4000, 0x8000, 0xc000]),
        13..17 => packet.dst = script.pick(ADDRESSES).into(),
        17..21 => packet.src = script.pick(ADDRESSES).into(),
        21 => (packet.src, packet.dst) = (script.pick(ADDRESSES).into(), script.pick(ADDRESSES).into()),
        22 => packet.to = MacAddr::BROADCAST,
        23 => packet.to = MacAddr([0x01, 0x00, 0x5e, 0, 0, script.pick([1, 2, 251])]),
        24 => packet.to = script.pick([mac_of(0, 9), host_mac(1)]),
        _ => (packet.src, packet.proto) = (PEER, script.rng.below(256) as u8),
    }
    if ALL_HOSTS.contains(&packet.src.octets()) {
        packet.src = PEER;
    }
    if packet.ihl.is_some() && OURS.contains(&packet.src) {
        // The kernel would tell itself what is wrong with the options.
        packet.src = PEER;
    }
    if FOREIGN.contains(&packet.proto) {
        packet.proto = EXPERIMENT;
    }
}
