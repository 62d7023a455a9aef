//! Frames that the Ethernet layer judges: whose they are, what is in them, how long they are.

use rxpath_wire::{ArpRepr, MacAddr, arp};

use super::super::case::{Case, host_mac};
use super::super::frames::arp_frame;
use super::Script;
use super::packets::{OURS, PEER, Packet, echo, host, mac_of};

/// EtherTypes that nobody handles, and lengths of 802.3 frames.
const TYPES: [u16; 16] = [
    0x0600, 0x0601, 0x0805, 0x0807, 0x1234, 0x22f3, 0x8035, 0x809b, 0x8137, 0x8847, 0x8863, 0x8864, 0x88cc, 0x88f7,
    0x9000, 0xffff,
];

/// Some 40 frames.
pub fn eth(seed: u64) -> Case {
    let mut script = Script::new("eth", seed, host());
    for _ in 0..20 + script.rng.below(40) {
        let frame = frame(&mut script);
        script.send(0, frame);
    }
    script.case(seed, 2_000)
}

fn destination(script: &mut Script) -> MacAddr {
    match script.rng.below(20) {
        0..10 => host_mac(0),
        10..12 => MacAddr::BROADCAST,
        12 => MacAddr([0x01, 0x00, 0x5e, 0, 0, 1]),
        13 => MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        14 => MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e]),
        15 => mac_of(0, 9),
        // One bit beside ours, and ours of another link.
        16 => MacAddr([0x02, 0x72, 0x78, 0, 0, 3]),
        17 => host_mac(1),
        18 => MacAddr([0x03, 0x72, 0x78, 0, 0, 1]),
        _ => MacAddr::ZERO,
    }
}

fn source(script: &mut Script) -> MacAddr {
    match script.rng.below(10) {
        0 => host_mac(0),
        1 => MacAddr::BROADCAST,
        2 => mac_of(0, 7),
        _ => mac_of(0, 2),
    }
}

fn frame(script: &mut Script) -> Vec<u8> {
    let (to, from) = (destination(script), source(script));
    let mut frame = match script.rng.below(12) {
        0..4 => {
            let data = script.rng.below(60) as usize;
            let data = script.bytes(data);
            Packet { to, from, ..echo(8, script.rng.below(1_000) as u16, &data) }.frame()
        }
        4 => asked(to, from),
        5..7 => typed(script, to, from),
        7..9 => return tagged(script, to, from),
        _ => with_length(script, to, from),
    };
    match script.rng.below(12) {
        // As short as cards never hand over, but other devices do.
        0 => {
            let length_field = u16::from_be_bytes([frame[12], frame[13]]) < 0x0600;
            frame.truncate(if length_field { 16 } else { 14 } + script.rng.below(20) as usize);
        }
        1 | 2 => frame.resize(frame.len().max(60), 0),
        3 => frame.resize(frame.len() + script.rng.below(9) as usize, 0x55),
        _ => {}
    }
    frame
}

fn asked(to: MacAddr, from: MacAddr) -> Vec<u8> {
    let repr = ArpRepr {
        operation: arp::REQUEST,
        sender_mac: mac_of(0, 2),
        sender_ip: PEER,
        target_mac: MacAddr::ZERO,
        target_ip: OURS[0],
    };
    arp_frame(to, from, repr)
}

fn headed(to: MacAddr, from: MacAddr, word: u16) -> Vec<u8> {
    [&to.0[..], &from.0, &word.to_be_bytes()].concat()
}

/// A frame with one tag of 802.1Q's or 802.1ad's or several, whole or not.
fn tagged(script: &mut Script, to: MacAddr, from: MacAddr) -> Vec<u8> {
    let kind = script.rng.below(6);
    let mut frame = match kind {
        0 => asked(to, from),
        1 => typed(script, to, from),
        // Whole: without its first bytes it would be 802.2.
        2 => with_length(script, to, from),
        _ => {
            let data = script.bytes(24);
            Packet { to, from, ..echo(8, script.rng.below(1_000) as u16, &data) }.frame()
        }
    };
    for _ in 0..script.pick([1, 1, 1, 1, 2, 2, 3]) {
        // Priority alone mostly, as no interface has a VLAN.
        let vid = script.pick([0, 0, 0, 0, 1, 5, 4_094, 4_095]);
        let word = vid | script.pick([0, 0, 0x1000, 0x2000, 0xa000, 0xf000]);
        let tpid = script.pick([0x8100u16, 0x8100, 0x8100, 0x88a8, 0x9100]);
        let tag = [tpid.to_be_bytes(), u16::to_be_bytes(word)].concat();
        frame.splice(12..12, tag);
    }
    if kind != 2 && script.chance(15) {
        frame.truncate(14 + script.rng.below(12) as usize);
    }
    if script.chance(20) {
        frame.resize(frame.len() + script.rng.below(9) as usize, 0x55);
    }
    frame
}

fn typed(script: &mut Script, to: MacAddr, from: MacAddr) -> Vec<u8> {
    let mut frame = headed(to, from, script.pick(TYPES));
    let len = script.rng.below(80) as usize;
    frame.extend(script.bytes(len));
    frame
}

/// An 802.3 frame: a length in the place of a type, right or not, and Novell's form behind it.
fn with_length(script: &mut Script, to: MacAddr, from: MacAddr) -> Vec<u8> {
    let len = 2 + script.rng.below(68) as usize;
    let word = match script.rng.below(8) {
        0 => 0,
        1 => 0x05ff,
        2 => 1_500,
        3 => len as u16 + 1,
        _ => len as u16,
    };
    let mut frame = headed(to, from, word);
    let mut data = script.bytes(len);
    // What is not Novell's is 802.2, which kernels have a module for or not.
    data[..2].fill(0xff);
    frame.extend(data);
    frame
}
