//! Datagrams in pieces.

use std::net::Ipv4Addr;

use rxpath_wire::IpProto;

use super::super::case::Case;
use super::Script;
use super::packets::{EXPERIMENT, OURS, Packet, host, mac_of, message};

const MORE: u16 = 0x2000;
const DONT: u16 = 0x4000;

/// Some datagrams, their fragments mixed; in some cases time runs out for those that stay incomplete.
pub fn frag(seed: u64) -> Case {
    let mut script = Script::new("frag", seed, host());
    script.set("net.ipv4.ipfrag_time", 1);
    match script.rng.below(20) {
        0 => script.set("net.ipv4.ipfrag_max_dist", 3),
        1 => script.set("net.ipv4.ipfrag_max_dist", 0),
        _ => {}
    }
    let mut pieces: Vec<(u32, Packet)> = Vec::new();
    for number in 0..1 + script.rng.below(6) {
        datagram(&mut script, number as u16, &mut pieces);
    }
    pieces.sort_by_key(|&(place, _)| place);
    for (_, piece) in pieces {
        script.send(0, piece.frame());
    }
    let quiet_us = if script.chance(30) { 1_400_000 } else { 3_000 };
    script.case(seed, quiet_us)
}

/// The pieces of one datagram, each with its place in the order of all.
fn datagram(script: &mut Script, number: u16, pieces: &mut Vec<(u32, Packet)>) {
    let last = 2 + script.rng.below(2) as u8;
    let (src, from) = (Ipv4Addr::new(10, 9, 0, last), mac_of(0, last));
    let len = script.pick([1usize, 8, 30, 64, 100, 333, 1_000, 2_000, 4_000]);
    let data = script.bytes(len);
    let experiment = script.chance(15);
    let proto = if experiment { EXPERIMENT } else { IpProto::ICMP };
    let whole = message(8, 0, u32::from(number), &data);
    let word = if script.chance(15) { DONT } else { 0 };
    let tos = script.pick([0, 0, 0, 1, 2, 3]);
    let options = if script.chance(10) { vec![7, 7, 4, 0, 0, 0, 0, 0] } else { Vec::new() };
    let id = if script.chance(5) { 0x4000 } else { 0x4000 + number };
    let dst = script.pick([OURS[0], OURS[0], OURS[0], OURS[1]]);
    let base = Packet { src, dst, from, id, word, tos, options, ..Packet::new(proto, Vec::new()) };
    let mut cuts = cut(script, whole.len());
    disturb(script, &mut cuts);
    let in_order = script.chance(40);
    for (index, piece) in cuts.into_iter().enumerate() {
        let payload = (piece.from..piece.to).map(|at| whole.get(at).copied().unwrap_or(at as u8)).collect();
        let more = if piece.more { MORE } else { 0 };
        let mut packet = Packet { payload, word: base.word | more | (piece.from / 8) as u16, ..base.clone() };
        odd(script, &mut packet);
        let place = if in_order { index as u32 * 1_000 } else { 0 } + script.rng.below(1_000);
        pieces.push((place, packet));
    }
}

/// Where a piece begins and ends.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: usize,
    to: usize,
    more: bool,
}

/// Cuts a datagram at multiples of 8.
fn cut(script: &mut Script, len: usize) -> Vec<Piece> {
    let wanted = 1 + script.rng.below(5) as usize;
    let step = (len / wanted).next_multiple_of(8).clamp(8, 1_400);
    let mut cuts: Vec<Piece> = Vec::new();
    let mut from = 0;
    while from < len {
        let to = (from + step).min(len);
        cuts.push(Piece { from, to, more: to < len });
        from = to;
    }
    cuts
}

/// Drops, doubles, stretches and shifts pieces.
fn disturb(script: &mut Script, cuts: &mut Vec<Piece>) {
    for _ in 0..script.pick([0, 0, 1, 1, 2]) {
        if cuts.is_empty() {
            return;
        }
        let index = script.rng.below(cuts.len() as u32) as usize;
        let piece = cuts[index];
        match script.rng.below(11) {
            0..3 => drop(cuts.remove(index)),
            3 => cuts.push(piece),
            // Within one, over both ends of one, over one end.
            4 => cuts.push(Piece { to: piece.from + (piece.to - piece.from) / 2, more: true, ..piece }),
            5 => cuts[index].to += 8,
            6 => cuts[index].from = piece.from.saturating_sub(8),
            // Nothing in it.
            7 => cuts.push(Piece { to: piece.from, ..piece }),
            // An end that is not one, or another end.
            8 => cuts[index].more = !piece.more,
            9 => cuts[index].to = piece.to.saturating_sub(3).max(piece.from),
            // Beyond what a packet can be.
            _ => cuts.push(Piece { from: script.pick([65_528, 65_512, 64_000]), to: 65_528 + 40, more: false }),
        }
    }
}

/// A piece that differs from its fellows.
fn odd(script: &mut Script, packet: &mut Packet) {
    match script.rng.below(30) {
        0 => packet.tos = script.pick([0, 1, 2, 3, 0x10]),
        1 => packet.word ^= DONT,
        2 => packet.options = vec![1, 1, 1, 1],
        3 => packet.padding = 10,
        4 => packet.spoilt = true,
        5 => packet.ttl = 1,
        _ => {}
    }
}
