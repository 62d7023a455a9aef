//! ARP packets of every form, and echo requests: to which hardware address a reply goes shows what was learnt.

use std::net::Ipv4Addr;

use rxpath_wire::{ArpRepr, MacAddr, arp as wire};

use super::super::case::{Case, host_mac};
use super::super::frames::arp_frame;
use super::Script;
use super::packets::{OURS, Packet, echo, host, mac_of};

/// Some 20 packets in up to three seconds, in which `locktime` runs out once or twice.
pub fn arp(seed: u64) -> Case {
    let mut script = Script::new("arp", seed, host());
    script.host.links[0].peers.clear();
    match script.rng.below(10) {
        0 | 1 => {
            let mode = script.pick([1, 2, 3, 8]);
            script.set("net.ipv4.conf.all.arp_ignore", mode);
        }
        2 | 3 => {
            let mode = script.pick([1, 2]);
            script.set("net.ipv4.conf.all.arp_accept", mode);
        }
        4 => script.set("net.ipv4.conf.all.drop_gratuitous_arp", 1),
        _ => {}
    }
    let mut passed_ms = 0;
    for _ in 0..8 + script.rng.below(24) {
        let wait_ms = match script.rng.below(24) {
            0 if passed_ms < 1_400 => 1_100 + script.rng.below(200),
            1 if passed_ms < 1_400 => 400 + script.rng.below(100),
            2..6 => 1 + script.rng.below(20),
            _ => 0,
        };
        passed_ms += wait_ms;
        script.wait_us(wait_ms * 1_000);
        let frame = frame(&mut script);
        script.send(0, frame);
    }
    // Nobody waits for three seconds, after which the kernel would tell itself that a host is unreachable.
    script.case(seed, 3_000)
}

fn frame(script: &mut Script) -> Vec<u8> {
    match script.rng.below(20) {
        0..7 => spoken(script),
        7..15 => packet(script),
        _ => broken(script),
    }
}

/// Hosts: three on the link, one elsewhere. Each has two hardware addresses, the second for its rivals.
fn somebody(script: &mut Script) -> (Ipv4Addr, MacAddr) {
    let last = 2 + script.rng.below(3) as u8;
    let mac = mac_of(0, last + if script.chance(25) { 0x20 } else { 0 });
    match script.rng.below(12) {
        0 => (Ipv4Addr::new(172, 16, 0, 1), mac),
        1 => (Ipv4Addr::new(192, 168, 7, last), mac),
        _ => (Ipv4Addr::new(10, 9, 0, last), mac),
    }
}

/// An echo request.
fn spoken(script: &mut Script) -> Vec<u8> {
    let (src, from) = somebody(script);
    let dst = script.pick([OURS[0], OURS[0], OURS[0], OURS[1]]);
    Packet { from, src, dst, ..echo(8, script.rng.below(1_000) as u16, b"twin") }.frame()
}

/// An ARP packet in good form, though not always one that makes sense.
fn packet(script: &mut Script) -> Vec<u8> {
    let (mut sender_ip, sender_mac) = somebody(script);
    let mut target_ip = script.pick([OURS[0], OURS[0], OURS[0], OURS[1]]);
    let operation = if script.chance(60) { wire::REQUEST } else { wire::REPLY };
    let request = operation == wire::REQUEST;
    let mut target_mac = if request { MacAddr::ZERO } else { host_mac(0) };
    match script.rng.below(16) {
        // Gratuitous: a request or a reply about itself.
        0 | 1 => {
            target_ip = sender_ip;
            target_mac = script.pick([MacAddr::ZERO, sender_mac, MacAddr::BROADCAST, host_mac(0)]);
        }
        2 => sender_ip = Ipv4Addr::UNSPECIFIED,
        3 => sender_ip = script.pick(OURS),
        4 => target_ip = script.pick([[10, 9, 0, 77], [10, 9, 0, 2], [8, 8, 8, 8], [0; 4], [10, 9, 0, 255]]).into(),
        5 => target_ip = script.pick([[224, 0, 0, 1], [127, 0, 0, 1], [255; 4], [239, 1, 1, 1], [10, 9, 0, 0]]).into(),
        6 => sender_ip = script.pick([[10, 9, 0, 255], [224, 0, 0, 5], [127, 0, 0, 2], [255; 4], [0, 0, 0, 9]]).into(),
        7 => target_mac = script.pick([MacAddr::BROADCAST, host_mac(0), mac_of(0, 9)]),
        _ => {}
    }
    let mut to = if request { MacAddr::BROADCAST } else { host_mac(0) };
    if script.chance(15) {
        let group = MacAddr([0x01, 0x00, 0x5e, 0, 0, 1]);
        to = script.pick([host_mac(0), MacAddr::BROADCAST, group, mac_of(0, 9)]);
    }
    let from = if script.chance(10) { mac_of(0, 0x50) } else { sender_mac };
    let mut frame = arp_frame(to, from, ArpRepr { operation, sender_mac, sender_ip, target_mac, target_ip });
    if script.chance(30) {
        frame.resize(60, 0);
    }
    frame
}

/// An ARP packet with something wrong in its fixed part or its length.
fn broken(script: &mut Script) -> Vec<u8> {
    let mut frame = packet(script);
    let (at, value) = match script.rng.below(12) {
        0 => (15, 6),
        1 => (15, script.pick([0, 2, 7, 24])),
        2 => (14, 1),
        3 => (16, 0x86),
        4 => (17, 0x06),
        5 => (18, script.pick([0, 5, 7, 8])),
        6 => (19, script.pick([0, 3, 5, 16])),
        7 => (21, script.pick([0, 3, 4, 8, 9, 23])),
        8 => (20, 1),
        9 => (22, 0xff),
        _ => {
            frame.truncate(14 + script.rng.below(29) as usize);
            return frame;
        }
    };
    frame[at] = value;
    frame
}
