//! ICMP messages of every type, and packets that draw errors.

use std::net::Ipv4Addr;

use rxpath_wire::{IpProto, MacAddr, TcpFlags};

use super::super::case::Case;
use super::Script;
use super::packets::{EXPERIMENT, OURS, PEER, Packet, host, mac_of, message, segment};

/// Some 40 messages; in some cases one sender asks for more errors than he gets.
pub fn icmp(seed: u64) -> Case {
    let mut script = Script::new("icmp", seed, host());
    match script.rng.below(12) {
        0 => script.set("net.ipv4.icmp_echo_ignore_all", 1),
        1 => script.set("net.ipv4.icmp_ratelimit", 0),
        2 => script.set("net.ipv4.icmp_ratelimit", 100),
        3 => script.set("net.ipv4.icmp_ratemask", 0x1fff_ffff),
        _ => {}
    }
    if script.chance(8) {
        return greedy(script, seed);
    }
    for _ in 0..15 + script.rng.below(40) {
        let packet = if script.chance(8) { unwanted(&mut script) } else { one(&mut script) };
        script.send(0, packet.frame());
    }
    script.case(seed, 2_000)
}

/// Packets of no known protocol, faster than their sender is answered.
fn greedy(mut script: Script, seed: u64) -> Case {
    for _ in 0..12 {
        if script.chance(20) {
            let wait_us = 900_000 + script.rng.below(500_000);
            script.wait_us(wait_us);
        }
        let frame = unwanted(&mut script).frame();
        script.send(0, frame);
    }
    script.case(seed, 2_000)
}

/// A packet of no known protocol.
fn unwanted(script: &mut Script) -> Packet {
    let len = script.pick([0, 4, 100, 576, 1_400]);
    Packet { tos: script.rng.below(256) as u8, ..Packet::new(EXPERIMENT, script.bytes(len)) }
}

fn one(script: &mut Script) -> Packet {
    let mut bytes = match script.rng.below(10) {
        0..3 => {
            let len = script.pick([0, 1, 8, 56, 1_000]);
            let data = script.bytes(len);
            message(8, code(script), script.rng.next_u64() as u32, &data)
        }
        3 => {
            let len = script.pick([0, 4, 11, 12, 13, 20]);
            let data = script.bytes(len);
            message(13, code(script), script.rng.next_u64() as u32, &data)
        }
        4 => {
            let kind = if script.chance(70) { script.rng.below(46) } else { script.rng.below(256) } as u8;
            let len = script.rng.below(40) as usize;
            let data = script.bytes(len);
            message(kind, code(script), script.rng.next_u64() as u32, &data)
        }
        _ => error(script),
    };
    match script.rng.below(16) {
        0 => bytes[2] ^= 0x11,
        1 => bytes.truncate(script.rng.below(9) as usize),
        2 => bytes.truncate(script.rng.below(bytes.len() as u32 + 1) as usize),
        _ => {}
    }
    let mut packet = Packet::new(IpProto::ICMP, bytes);
    match script.rng.below(16) {
        0 => packet.dst = [10, 9, 0, 255].into(),
        1 => packet.dst = [224, 0, 0, 1].into(),
        2 => packet.dst = [255; 4].into(),
        3 => packet.to = MacAddr::BROADCAST,
        4 => packet.src = [172, 16, 0, 9].into(),
        5 => packet.tos = script.rng.below(256) as u8,
        6 => (packet.src, packet.from) = ([10, 9, 0, 3].into(), mac_of(0, 3)),
        7 => packet.dst = OURS[1],
        _ => {}
    }
    packet
}

fn code(script: &mut Script) -> u8 {
    if script.chance(80) { 0 } else { script.rng.below(256) as u8 }
}

/// An error about a packet that we are said to have sent.
fn error(script: &mut Script) -> Vec<u8> {
    let kind = script.pick([3, 3, 3, 3, 4, 5, 5, 11, 11, 12]);
    let code = match kind {
        3 => script.rng.below(18),
        _ if script.chance(80) => script.rng.below(4),
        _ => script.rng.below(256),
    } as u8;
    let rest = match kind {
        // Paths of a lower MTU are for transports: the kernel would send its own messages by them, too.
        3 if code == 4 => script.pick([1_500, 9_000]),
        3 => script.pick([0, 68, 500, 576, 1_400, 1_500, 9_000]),
        5 => u32::from_be_bytes(script.pick([[10, 9, 0, 3], [10, 9, 0, 2], [8, 8, 8, 8], [10, 9, 0, 1]])),
        12 => u32::from(script.rng.below(64) as u8) << 24,
        _ => 0,
    };
    let mut quoted = quoted(script).frame().split_off(14);
    if script.chance(25) {
        quoted.truncate(script.rng.below(quoted.len() as u32 + 1) as usize);
    }
    message(kind, code, rest, &quoted)
}

/// The packet that an error is about.
fn quoted(script: &mut Script) -> Packet {
    let (src, dst) = (OURS[0], PEER);
    let inner = match script.rng.below(8) {
        0..3 => Packet::new(IpProto::TCP, segment(src, dst, TcpFlags::SYN, script.rng.next_u64() as u32)),
        3..5 => Packet::new(IpProto::ICMP, message(script.pick([0, 8, 3, 13]), 0, 7, b"quoted..")),
        5 => Packet::new(EXPERIMENT, script.bytes(20)),
        6 => Packet::new(script.pick([2, 3, 99, 255]), script.bytes(20)),
        _ => Packet::new(IpProto::TCP, script.bytes(20)),
    };
    let mut inner = Packet { src, dst, ..inner };
    match script.rng.below(14) {
        0 => inner.ihl = Some(script.pick([0, 4, 6, 15])),
        1 => inner.version = 6,
        2 => inner.src = Ipv4Addr::new(8, 8, 8, 8),
        3 => inner.dst = OURS[0],
        4 => inner.word = script.pick([0x2000, 0x0010]),
        5 => inner.spoilt = true,
        6 => inner.options = vec![1, 1, 1, 1],
        7 => inner.dst = [10, 9, 0, 255].into(),
        _ => {}
    }
    inner
}
