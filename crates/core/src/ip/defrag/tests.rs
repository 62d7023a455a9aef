use std::sync::Arc;

use proptest::prelude::*;
use rxpath_mem::Skb;
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Holder, Snapshot};
use rxpath_wire::ipv4;

use super::FragTable;
use crate::cx::{Cx, IdSource, Rng};
use crate::ip::defrag;
use crate::nic::TruesizeModel;
use crate::testing::frames::{Ip, echo, icmp_message, ip};
use crate::testing::{self, Ended, Rig};

const SECOND: u64 = 1_000_000_000;
const MORE: u16 = 0x2000;

/// A part of the payload of `whole`, from byte `from` to byte `to`.
fn part(whole: &Ip, from: usize, to: usize) -> Ip {
    let more = if to < whole.payload.len() { MORE } else { 0 };
    let fragment = whole.fragment | more | (from / 8) as u16;
    Ip { fragment, payload: whole.payload[from..to].to_vec(), ..whole.clone() }
}

/// All of it, in parts of `size` bytes.
fn parts(whole: &Ip, size: usize) -> Vec<Ip> {
    let len = whole.payload.len();
    (0..len).step_by(size).map(|from| part(whole, from, len.min(from + size))).collect()
}

fn counter(rig: &Rig, counter: Counter) -> u64 {
    rig.mib.snapshot()[counter]
}

/// Hands a fragment to the room alone.
fn give(cx: &mut Cx, packet: &Ip) -> Option<Skb> {
    let mut skb = testing::harvest(cx, &packet.frame(), false);
    skb.set_network_header_here();
    match defrag::defrag(cx, skb).split() {
        Ok(whole) => Some(whole),
        Err(end) => {
            cx.end(end);
            None
        }
    }
}

fn bytes(skb: &Skb) -> Vec<u8> {
    skb.fragments().flatten().copied().collect()
}

#[test]
fn an_echo_request_in_fragments_is_answered_once_all_are_there() {
    let data: Vec<u8> = (0..1_000u32).map(|n| n as u8).collect();
    let request = echo(&data);
    for backwards in [false, true] {
        let mut rig = Rig::new();
        rig.receive(&testing::frames::arp_request());
        rig.sent();
        rig.counted();
        let mut fragments = parts(&request, 248);
        if backwards {
            fragments.reverse();
        }
        let (last, first) = fragments.split_last().expect("more than one");
        for fragment in first {
            assert_eq!(rig.receive(&fragment.frame()), Ended::Held);
        }
        assert_eq!(rig.ledger().held_by(Holder::Reassembly), 4);
        assert_eq!(rig.receive(&last.frame()), Ended::Consumed(Consumed::Answered));
        let sent = rig.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(&sent[0][34..], icmp_message(0, 0, 0x1234_0001, &data));
        let counted = rig.counted();
        for (counter, n) in [
            (Counter::IpInReceives, 5),
            (Counter::IpReasmReqds, 5),
            (Counter::IpReasmOKs, 1),
            (Counter::IpReasmFails, 0),
            (Counter::IpInDelivers, 1),
            (Counter::IcmpInEchos, 1),
        ] {
            assert_eq!(counted[counter], n, "{counter}");
        }
        assert_eq!((rig.frags.datagrams(), rig.frags.memory(), rig.frags.packets()), (0, 0, 0));
    }
}

#[test]
fn a_life_names_its_parents_and_the_parents_their_child() {
    let mut rig = Rig::new();
    let fragments = parts(&echo(&[7; 40]), 24);
    rig.receive(&fragments[0].frame());
    rig.receive(&fragments[1].frame());
    let events = rig.events();
    let made = events.iter().find(|event| event.kind == EventKind::Made).expect("a birth");
    let ends: Vec<_> = events.iter().filter(|e| e.kind == EventKind::Consumed && e.other == made.id).collect();
    assert_eq!(ends.len(), 2);
    assert_eq!(made.other, ends[1].id, "the one that was missing");
    assert!(events.iter().any(|event| event.kind == EventKind::FragHeld && event.id == ends[0].id));
    assert!(events.iter().any(|event| event.kind == EventKind::IcmpRcv && event.id == made.id));
}

#[test]
fn a_header_cut_into_pieces_is_linear_again() {
    let mut rig = Rig::new();
    let whole = Ip { payload: (0..200).collect(), ..ip(6, &[]) };
    let mut fragments = parts(&whole, 8);
    fragments.reverse();
    let made = fragments.iter().filter_map(|fragment| give(&mut rig, fragment)).next().expect("it is whole");
    assert_eq!(made.headlen(), 20 + 128);
    assert_eq!(bytes(&made), whole.packet());
    assert_eq!(made.network_header(), made.data());
    // Nothing has room behind it here: 17 share pages with the first, and 7 are chained as they came.
    let charge = TruesizeModel::Kernel.charge(42);
    assert_eq!(made.truesize, charge + 17 * (charge - 256) + 7 * charge);
    rig.consume(made, Consumed::Noted);
}

#[test]
fn a_tap_that_shares_the_fragments_sees_them_unchanged() {
    let mut rig = Rig::new();
    let whole = ip(17, &[9; 64]);
    let mut clones = Vec::new();
    let mut made = None;
    for fragment in parts(&whole, 32) {
        let mut skb = testing::harvest(&mut rig, &fragment.frame(), false);
        skb.set_network_header_here();
        let clone = rig.clone_shared(&skb).expect("room for a clone");
        rig.ledger.clones(1);
        clones.push((clone, fragment.packet()));
        made = defrag::defrag(&mut rig, skb).split().ok();
    }
    let made = made.expect("it is whole");
    assert_eq!(bytes(&made), whole.packet());
    rig.consume(made, Consumed::Noted);
    for (clone, packet) in clones {
        assert_eq!(bytes(&clone), packet);
        rig.consume(clone, Consumed::Noted);
    }
}

#[test]
fn what_does_not_come_is_given_up_and_told_of_if_the_first_is_there() {
    for (first, messages) in [(true, 1), (false, 0)] {
        let mut rig = Rig::new();
        rig.receive(&testing::frames::arp_request());
        rig.sent();
        let fragment = if first { part(&echo(&[1; 80]), 0, 32) } else { part(&echo(&[1; 80]), 32, 64) };
        assert_eq!(rig.receive(&fragment.frame()), Ended::Held);
        rig.pass(30 * SECOND - 1);
        defrag::tick(&mut rig);
        assert_eq!(rig.frags.datagrams(), 1);
        rig.counted();
        rig.pass(1);
        assert_eq!(rig.frags.next_deadline(), Some(rig.now));
        defrag::tick(&mut rig);
        let counted = rig.counted();
        assert_eq!((counted[Counter::IpReasmTimeout], counted[Counter::IpReasmFails]), (1, 1));
        assert_eq!(rig.ledger().dropped_for(DropReason::FragReasmTimeout), 1);
        let sent = rig.sent();
        assert_eq!(sent.len(), messages);
        for message in sent {
            assert_eq!(message[34..36], [11, 1]);
            assert_eq!(message[42..], fragment.packet());
        }
        assert_eq!(rig.frags.next_deadline(), None);
    }
}

#[test]
fn an_overlap_in_part_ends_the_datagram() {
    let mut rig = Rig::new();
    let whole = echo(&[3; 92]);
    assert_eq!(rig.receive(&part(&whole, 0, 48).frame()), Ended::Held);
    assert_eq!(rig.receive(&part(&whole, 8, 40).frame()), Ended::Dropped(DropReason::DupFrag));
    assert_eq!(counter(&rig, Counter::IpReasmFails), 0);
    rig.receive(&part(&whole, 40, 100).frame());
    assert_eq!((counter(&rig, Counter::IpReasmFails), counter(&rig, Counter::IpExtReasmOverlaps)), (1, 1));
    assert_eq!(rig.ledger().dropped_for(DropReason::FragReasmTimeout), 2);
    assert_eq!(rig.frags.memory(), 0);
}

#[test]
fn nothing_reaches_beyond_the_end_and_no_fragment_is_empty() {
    let whole = echo(&[3; 92]);
    let empty = Ip { fragment: MORE, payload: vec![0; 7], ..whole.clone() };
    let beyond = Ip { fragment: MORE | 20, payload: vec![0; 16], ..whole.clone() };
    let other_end = Ip { fragment: 4, payload: vec![0; 16], ..whole.clone() };
    for bad in [empty, beyond, other_end] {
        let mut rig = Rig::new();
        rig.receive(&part(&whole, 80, 100).frame());
        rig.receive(&bad.frame());
        assert_eq!((counter(&rig, Counter::IpReasmFails), counter(&rig, Counter::IpExtReasmOverlaps)), (1, 0));
        assert_eq!(rig.frags.datagrams(), 0);
    }
}

#[test]
fn the_ping_of_death_is_seen_when_it_is_whole() {
    let mut rig = Rig::new();
    let payload = vec![0; 65_528 + 16];
    let whole = Ip { total_len: None, payload, ..ip(1, &[]) };
    for (from, to) in (0..65_528).step_by(1_400).map(|from| (from, 65_528.min(from + 1_400))).chain([(65_528, 65_544)])
    {
        let fragment = part(&whole, from, to);
        assert!(give(&mut rig, &fragment).is_none());
    }
    assert_eq!((counter(&rig, Counter::IpReasmFails), counter(&rig, Counter::IpReasmOKs)), (1, 0));
    assert_eq!(rig.frags.packets(), 0);
}

#[test]
fn congestion_marks_are_joined_and_contradictions_refused() {
    for (first, second, whole) in [
        (0, 0, Some(0)),
        (1, 1, Some(1)),
        (1, 2, Some(1)),
        (2, 3, Some(3)),
        (3, 1, Some(3)),
        (0, 1, None),
        (2, 0, None),
        (0, 3, None),
    ] {
        let mut rig = Rig::new();
        let fragments = parts(&ip(17, &[0; 40]), 32);
        assert!(give(&mut rig, &Ip { tos: 0x10 | first, ..fragments[0].clone() }).is_none());
        let made = give(&mut rig, &Ip { tos: 0x10 | second, ..fragments[1].clone() });
        let tos = made.as_ref().map(|skb| skb.data()[1]);
        assert_eq!(tos, whole.map(|ecn: u8| 0x10 | ecn), "{first} and {second}");
        if let Some(skb) = made {
            assert!(ipv4::verify(&skb.data()[..20]));
            rig.consume(skb, Consumed::Noted);
        }
        assert_eq!(counter(&rig, Counter::IpReasmFails), u64::from(whole.is_none()));
    }
}

#[test]
fn the_whole_is_not_to_be_cut_if_its_longest_part_was_not() {
    for (first, second, word) in [(0x4000, 0, [0x40, 0]), (0, 0x4000, [0, 0]), (0x4000, 0x4000, [0x40, 0])] {
        let mut rig = Rig::new();
        let fragments = parts(&ip(17, &[0; 40]), 32);
        let with = |fragment: &Ip, flag: u16| Ip { fragment: fragment.fragment | flag, ..fragment.clone() };
        assert!(give(&mut rig, &with(&fragments[0], first)).is_none());
        let whole = give(&mut rig, &with(&fragments[1], second)).expect("it is whole");
        assert_eq!(whole.data()[6..8], word);
        rig.consume(whole, Consumed::Noted);
    }
}

#[test]
fn a_flood_stays_within_the_bounds_and_is_over_after_the_time() {
    let mut rig = Rig::new();
    rig.reconfigure(|net| net.sysctl.ipfrag_high_thresh = 20_000);
    let mut rng = Rng::new(0xf1a6);
    for _ in 0..2_000 {
        let offset = rng.below(8_000) as u16;
        let src = [10, 0, 0, 3 + rng.below(200) as u8];
        let fragment = Ip { fragment: MORE | offset, payload: vec![0; 8], ..ip(17, &[]) }.from(src);
        rig.receive(&fragment.frame());
        assert!(rig.frags.memory() <= 20_000 + 832 + 200 && rig.frags.packets() <= 128);
    }
    assert!(rig.ledger().dropped_for(DropReason::Nomem) > 1_000);
    rig.pass(30 * SECOND);
    defrag::tick(&mut rig);
    assert_eq!((rig.frags.memory(), rig.frags.packets(), rig.frags.datagrams()), (0, 0, 0));
    assert_eq!(rig.receive(&part(&echo(&[0; 40]), 0, 24).frame()), Ended::Held, "room again");
}

#[test]
fn a_datagram_whose_sender_has_sent_much_since_begins_anew() {
    let mut rig = Rig::new();
    let whole = ip(17, &[0; 40]);
    for (others, restarted) in [(63, 0), (64, 1)] {
        let before = counter(&rig, Counter::IpReasmFails);
        assert!(give(&mut rig, &part(&whole, 0, 32)).is_none());
        for _ in 0..others / 2 {
            let other = Ip { proto: 99, ..whole.clone() };
            for fragment in parts(&other, 32) {
                give(&mut rig, &fragment).into_iter().for_each(|skb| rig.consume(skb, Consumed::Noted));
            }
        }
        if others % 2 == 1 {
            give(&mut rig, &part(&Ip { proto: 98, ..whole.clone() }, 0, 16));
        }
        let made = give(&mut rig, &part(&whole, 32, 40));
        assert_eq!(made.is_none(), restarted == 1, "{others} others");
        made.into_iter().for_each(|skb| rig.consume(skb, Consumed::Noted));
        assert_eq!(counter(&rig, Counter::IpReasmFails) - before, restarted);
    }
    assert_eq!(rig.ledger().dropped_for(DropReason::FragTooFar), 1);
}

#[test]
fn fragments_may_come_by_several_cpus() {
    let table = Arc::new(FragTable::new(64));
    let mut cpus: Vec<Cx> =
        (0..2).map(|cpu| Cx { cpu, ids: IdSource::of_cpu(cpu), frags: Arc::clone(&table), ..testing::cx() }).collect();
    let whole = Ip { payload: (0..=255).cycle().take(4_000).collect(), ..ip(17, &[]) };
    let mut made = Vec::new();
    for (index, fragment) in parts(&whole, 1_200).iter().rev().enumerate() {
        made.extend(give(&mut cpus[index % 2], fragment));
    }
    let made = made.pop().expect("it is whole");
    assert_eq!(bytes(&made), whole.packet());
    cpus[1].consume(made, Consumed::Noted);
    let ledger = cpus[0].ledger.snapshot() + cpus[1].ledger.snapshot();
    ledger.check().expect("the ledger of both balances");
    assert_eq!(ledger.held(), 0);
    for cx in &mut cpus {
        cx.pool.drain();
        assert_eq!(cx.pool.outstanding(), 0);
    }
}

/// What is known of a datagram, told apart from the code: the parts that count, each with the run that it is in.
#[derive(Default)]
struct Model {
    parts: Vec<(u32, u32, usize)>,
    bytes: Vec<u8>,
    known_len: u32,
    last: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Held,
    Whole,
    Duplicate,
    Overlap,
    Impossible,
}

impl Model {
    fn add(&mut self, from: u32, data: &[u8], more: bool) -> Expected {
        let to = if more { (from + data.len() as u32) / 8 * 8 } else { from + data.len() as u32 };
        let fits = if more {
            self.last.is_none_or(|last| to <= last)
        } else {
            to >= self.known_len && self.last.is_none_or(|last| to == last)
        };
        if !fits {
            return Expected::Impossible;
        }
        self.known_len = self.known_len.max(to);
        if !more {
            self.last = Some(to);
        }
        if to <= from {
            return Expected::Impossible;
        }
        let furthest = self.parts.iter().max_by_key(|part| part.1).copied();
        let touched = self.parts.iter().find(|part| part.0 < to && from < part.1).copied();
        if let Some((_, _, run)) = touched {
            let of_run = || self.parts.iter().filter(move |part| part.2 == run);
            let start = of_run().map(|part| part.0).min().unwrap_or(0);
            let end = of_run().map(|part| part.1).max().unwrap_or(0);
            return if start <= from && to <= end { Expected::Duplicate } else { Expected::Overlap };
        }
        let run = furthest.filter(|part| part.1 == from).map_or(self.parts.len() + 1_000, |part| part.2);
        self.parts.push((from, to, run));
        self.bytes.resize(self.bytes.len().max(to as usize), 0);
        self.bytes[from as usize..to as usize].copy_from_slice(&data[..(to - from) as usize]);
        let meat: u32 = self.parts.iter().map(|part| part.1 - part.0).sum();
        if self.last == Some(meat) { Expected::Whole } else { Expected::Held }
    }
}

fn failures(snapshot: &Snapshot) -> (u64, u64, u64) {
    (snapshot[Counter::IpReasmOKs], snapshot[Counter::IpReasmFails], snapshot[Counter::IpExtReasmOverlaps])
}

proptest! {
    /// Any order, repetition, overlap and contradiction of fragments, against the model.
    #[test]
    fn fragments_become_what_the_model_says(
        script in prop::collection::vec((0u16..14, 0usize..50, prop::bool::weighted(0.75), any::<u8>()), 1..60),
    ) {
        let mut rig = Rig::new();
        rig.reconfigure(|net| net.sysctl.ipfrag_max_dist = 0);
        let mut model = Model::default();
        for (offset, len, more, fill) in script {
            if !more && offset == 0 {
                continue;
            }
            let data: Vec<u8> = (0..len).map(|n| fill.wrapping_add(n as u8)).collect();
            let word = offset | if more { MORE } else { 0 };
            let expected = model.add(u32::from(offset) * 8, &data, more);
            let before = failures(&rig.mib.snapshot());
            let duplicates = rig.ledger().dropped_for(DropReason::DupFrag);
            let made = give(&mut rig, &Ip { fragment: word, payload: data, ..ip(17, &[]) });
            let after = failures(&rig.mib.snapshot());
            let moved = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
            let again = rig.ledger().dropped_for(DropReason::DupFrag) - duplicates;
            let (counts, dropped) = match expected {
                Expected::Held => ((0, 0, 0), 0),
                Expected::Whole => ((1, 0, 0), 0),
                Expected::Duplicate => ((0, 0, 0), 1),
                Expected::Overlap => ((0, 1, 1), 0),
                Expected::Impossible => ((0, 1, 0), 0),
            };
            prop_assert_eq!((moved, again), (counts, dropped), "{:?}", expected);
            if let Some(skb) = made {
                prop_assert_eq!(&bytes(&skb)[20..], &model.bytes[..]);
                rig.consume(skb, Consumed::Noted);
            }
            if matches!(expected, Expected::Whole | Expected::Overlap | Expected::Impossible) {
                prop_assert_eq!(rig.frags.memory(), 0);
                model = Model::default();
            }
            prop_assert!(rig.ledger().check().is_ok());
        }
    }

    /// A datagram that is cut anyhow and shuffled is the datagram.
    #[test]
    fn any_cut_and_order_gives_the_datagram(
        words in prop::collection::vec(any::<u64>(), 4..400), tail in 0usize..8, seed: u64, longest in 1u32..20,
    ) {
        let mut rig = Rig::new();
        let mut payload: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        payload.truncate(payload.len() - tail);
        let whole = ip(17, &payload);
        let mut rng = Rng::new(seed);
        let (mut from, mut fragments) = (0, Vec::new());
        while from < payload.len() {
            let step = if from == 0 { 8 } else { 8 + 8 * rng.below(longest) as usize };
            let to = payload.len().min(from + step);
            fragments.push(part(&whole, from, to));
            from = to;
        }
        prop_assume!(fragments.len() <= 100);
        for index in (1..fragments.len()).rev() {
            fragments.swap(index, rng.below(index as u32 + 1) as usize);
        }
        let (last, others) = fragments.split_last().expect("at least two");
        for fragment in others {
            prop_assert!(give(&mut rig, fragment).is_none());
        }
        let made = give(&mut rig, last).expect("it is whole");
        prop_assert_eq!(bytes(&made), whole.packet());
        rig.consume(made, Consumed::Noted);
    }
}
