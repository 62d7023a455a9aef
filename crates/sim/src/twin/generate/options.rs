//! IP options, sound and not, in packets that are answered with them.

use std::net::Ipv4Addr;

use rxpath_wire::{IpProto, TcpFlags};

use super::super::case::Case;
use super::Script;
use super::packets::{EXPERIMENT, OURS, Packet, echo, host, mac_of, segment};

const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const SECURITY: u8 = 130;
const LOOSE: u8 = 131;
const CIPSO: u8 = 134;
const STRICT: u8 = 137;
const ALERT: u8 = 148;

/// Longest field of options.
const ROOM: usize = 40;

/// Some 25 packets.
pub fn options(seed: u64) -> Case {
    let mut script = Script::new("options", seed, host());
    for _ in 0..10 + script.rng.below(30) {
        let frame = packet(&mut script).frame();
        script.send(0, frame);
    }
    script.case(seed, 2_000)
}

fn packet(script: &mut Script) -> Packet {
    let last = 2 + script.rng.below(2) as u8;
    let (src, from) = (Ipv4Addr::new(10, 9, 0, last), mac_of(0, last));
    let dst = match script.rng.below(12) {
        0 => [8, 8, 8, 8].into(),
        1 => [10, 9, 0, 255].into(),
        2 => OURS[1],
        _ => OURS[0],
    };
    let packet = match script.rng.below(10) {
        0 => Packet::new(EXPERIMENT, script.bytes(12)),
        1 => Packet::new(IpProto::TCP, segment(src, dst, TcpFlags::SYN, script.rng.next_u64() as u32)),
        _ => {
            let data = script.bytes(8);
            echo(8, script.rng.below(1_000) as u16, &data)
        }
    };
    Packet { src, dst, from, options: field(script), ..packet }
}

/// A field of options.
fn field(script: &mut Script) -> Vec<u8> {
    let mut field = Vec::new();
    for _ in 0..1 + script.rng.below(3) {
        if script.chance(25) {
            field.resize(field.len() + 1 + script.rng.below(3) as usize, NOP);
        }
        let mut option = option(script);
        if script.chance(25) {
            spoil(script, &mut option);
        }
        if field.len() + option.len() <= ROOM {
            field.extend(option);
        }
    }
    if script.chance(15) && field.len() < ROOM {
        // The end of the list, and what nobody reads behind it.
        field.push(0);
        field.resize(field.len().next_multiple_of(4), script.pick([0, 7, 255]));
    }
    // No route by way of a group: the kernel sends its errors there.
    if field.iter().any(|byte| [LOOSE, STRICT].contains(byte)) {
        field.iter_mut().filter(|byte| (224..240).contains(*byte)).for_each(|byte| *byte -= 220);
    }
    field
}

/// An option in good form.
fn option(script: &mut Script) -> Vec<u8> {
    match script.rng.below(20) {
        0..6 => {
            let places = 1 + script.rng.below(9) as usize;
            let used = script.rng.below(places as u32 + 1) as usize;
            filled(script, &[RECORD_ROUTE, (3 + 4 * places) as u8, (4 + 4 * used) as u8], 4 * places, 4 * used)
        }
        6..14 => timestamp(script),
        14..16 => {
            let hops = script.rng.below(4) as usize;
            let used = script.rng.below(hops as u32 + 1) as usize;
            let kind = script.pick([LOOSE, STRICT]);
            let mut option = filled(script, &[kind, (3 + 4 * hops) as u8, (4 + 4 * used) as u8], 4 * hops, 4 * hops);
            for hop in 0..hops {
                let by = script.pick([[10, 9, 0, 2], [10, 9, 0, 3], [10, 9, 0, 9], [8, 8, 8, 8]]);
                option[3 + 4 * hop..7 + 4 * hop].copy_from_slice(&by);
            }
            option
        }
        16 | 17 => vec![ALERT, 4, 0, script.pick([0, 0, 0, 1])],
        18 => {
            let len = 2 + script.rng.below(10) as u8;
            let kind = script.pick([SECURITY, CIPSO, 133, 136, 82, 25, 222]);
            filled(script, &[kind, len], usize::from(len) - 2, usize::from(len) - 2)
        }
        _ => vec![NOP],
    }
}

fn timestamp(script: &mut Script) -> Vec<u8> {
    let flag = script.pick([0, 0, 1, 1, 3, 3, 3, 2, 5]);
    let step: usize = if flag == 0 { 4 } else { 8 };
    let places = 1 + script.rng.below(if flag == 0 { 8 } else { 4 }) as usize;
    let used = script.rng.below(places as u32 + 1) as usize;
    let overflow = script.pick([0, 0, 0, 3, 14, 15]) << 4;
    let start = [TIMESTAMP, (4 + step * places) as u8, (5 + step * used) as u8, overflow | flag];
    let mut option = filled(script, &start, step * places, step * used);
    if flag == 3 {
        // Who is to enter his time.
        for place in used..places {
            let who = script.pick([
                OURS[0],
                OURS[0],
                OURS[1],
                Ipv4Addr::new(10, 9, 0, 9),
                [10, 9, 0, 255].into(),
                [224, 0, 0, 1].into(),
                Ipv4Addr::LOCALHOST,
            ]);
            option[4 + 8 * place..8 + 8 * place].copy_from_slice(&who.octets());
        }
    }
    option
}

/// The start of an option and `room` bytes, of which `used` are not zero.
fn filled(script: &mut Script, start: &[u8], room: usize, used: usize) -> Vec<u8> {
    let mut option = start.to_vec();
    option.extend(script.bytes(used));
    option.resize(start.len() + room, 0);
    option
}

/// Puts something wrong into an option: its length, its pointer, its flags, its end.
fn spoil(script: &mut Script, option: &mut Vec<u8>) {
    let len = option.len() as u8;
    let at = script.rng.below(4) as usize;
    let value = match at {
        0 => script.rng.below(256) as u8,
        1 => script.pick([0, 1, 2, 3, len.wrapping_sub(1), len + 1, len + 4, 255]),
        2 => script.pick([0, 1, 3, 4, 5, 6, len.wrapping_sub(2), len.wrapping_sub(1), len, len + 1, 255]),
        _ => script.rng.below(256) as u8,
    };
    if script.chance(15) {
        option.truncate(1 + script.rng.below(u32::from(len)) as usize);
    } else if let Some(byte) = option.get_mut(at) {
        *byte = value;
    }
}
