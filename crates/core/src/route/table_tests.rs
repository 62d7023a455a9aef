//! The table of IPv4 against a list that is searched from end to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use proptest::prelude::*;

use super::RouteKind;
use super::table::{Hop, Prefix4, Refused, Table, mask};
use crate::cx::Rng;

fn hop(via: u32, metric: u32) -> Hop {
    Hop {
        kind: RouteKind::Unicast,
        ifindex: 1,
        via,
        src: 0,
        metric,
        local_table: false,
        of_kernel: false,
        onlink: false,
    }
}

fn prefix(network: u32, len: u8) -> Prefix4 {
    Prefix4 { network: network & mask(len), len }
}

/// Routes as a list.
#[derive(Default)]
struct Model(Vec<(Prefix4, Hop)>);

impl Model {
    fn rank(hop: &Hop) -> (bool, u32) {
        (!hop.local_table, hop.metric)
    }

    fn place(&self, prefix: Prefix4, hop: &Hop) -> Option<usize> {
        self.0.iter().position(|(at, other)| *at == prefix && Model::rank(other) == Model::rank(hop))
    }

    fn insert(&mut self, prefix: Prefix4, hop: Hop, replace: bool) -> Result<Option<Hop>, Refused> {
        match self.place(prefix, &hop) {
            Some(_) if !replace => Err(Refused::Exists),
            Some(at) => Ok(Some(std::mem::replace(&mut self.0[at].1, hop))),
            None => {
                self.0.push((prefix, hop));
                Ok(None)
            }
        }
    }

    fn remove(&mut self, prefix: Prefix4, metric: u32) -> Option<Hop> {
        let mut of_it: Vec<Hop> = self.0.iter().filter(|(at, _)| *at == prefix).map(|(_, hop)| *hop).collect();
        of_it.sort_by_key(Model::rank);
        let first = of_it.into_iter().find(|hop| hop.metric == metric)?;
        let at = self.place(prefix, &first)?;
        Some(self.0.swap_remove(at).1)
    }

    fn lookup(&self, addr: u32) -> Option<Hop> {
        let matching = self.0.iter().filter(|(prefix, _)| addr & mask(prefix.len) == prefix.network);
        matching.min_by_key(|(prefix, hop)| (u8::MAX - prefix.len, Model::rank(hop))).map(|(_, hop)| *hop)
    }

    fn sorted(&self) -> Vec<(Prefix4, Hop)> {
        let mut all = self.0.clone();
        all.sort_by_key(|(prefix, hop)| (prefix.network, u8::MAX - prefix.len, Model::rank(hop)));
        all
    }
}

/// An address out of few, which share long and short beginnings.
fn few(bits: u32) -> u32 {
    let last = [0, 1, 2, 15, 16, 128, 255][bits as usize % 7];
    let third = [0, 1, 16, 240][(bits >> 8) as usize % 4];
    let second = [0, 64, 255][(bits >> 16) as usize % 3];
    let first = [10, 10, 192, 0][(bits >> 24) as usize % 4];
    u32::from_be_bytes([first, second, third, last])
}

#[derive(Clone, Debug)]
enum Step {
    Insert { bits: u32, len: u8, via: u32, metric: u32, local: bool, replace: bool },
    Remove { bits: u32, len: u8, metric: u32 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![Just(0u8), Just(8), Just(15), Just(16), Just(17), Just(20), Just(24), Just(28), 0u8..=32];
    let insert = (any::<u32>(), len.clone(), 1u32..5, 0u32..3, prop::bool::weighted(0.2), any::<bool>())
        .prop_map(|(bits, len, via, metric, local, replace)| Step::Insert { bits, len, via, metric, local, replace });
    let remove = (any::<u32>(), len, 0u32..3).prop_map(|(bits, len, metric)| Step::Remove { bits, len, metric });
    prop::collection::vec(prop_oneof![3 => insert, 2 => remove], 1..80)
}

proptest! {
    /// Whatever comes and goes, in whatever order.
    #[test]
    fn the_table_agrees_with_a_list(steps in steps(), probes in prop::collection::vec(any::<u32>(), 20)) {
        let table = Table::default();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Insert { bits, len, via, metric, local, replace } => {
                    let (prefix, hop) = (prefix(few(bits), len), Hop { local_table: local, ..hop(via, metric) });
                    prop_assert_eq!(table.insert(prefix, hop, replace), model.insert(prefix, hop, replace));
                }
                Step::Remove { bits, len, metric } => {
                    let prefix = prefix(few(bits), len);
                    prop_assert_eq!(table.remove(prefix, |hop| hop.metric == metric), model.remove(prefix, metric));
                }
            }
            for bits in probes.iter().chain(&[0, 1, 2, 3]) {
                for addr in [few(*bits), *bits] {
                    prop_assert_eq!(table.lookup(addr), model.lookup(addr), "{:#x}", addr);
                }
            }
        }
        prop_assert_eq!(table.routes(), model.sorted());
        for (prefix, hop) in model.0 {
            prop_assert_eq!(table.remove(prefix, |other| *other == hop), Some(hop));
        }
        prop_assert_eq!(table.in_use(), (0, 0), "nothing is left behind");
    }
}

#[test]
fn every_length_is_found_and_goes_without_a_trace() {
    let table = Table::default();
    for len in 0..=32 {
        assert_eq!(table.insert(prefix(0xc0a8_a5c3, len), hop(u32::from(len) + 1, 0), false), Ok(None));
        assert_eq!(table.lookup(0xc0a8_a5c3).map(|hop| hop.via), Some(u32::from(len) + 1));
    }
    for len in (0..=32).rev() {
        assert_eq!(table.lookup(0xc0a8_a5c3).map(|hop| hop.via), Some(u32::from(len) + 1));
        let beside = if len == 32 { 0xc0a8_a5c2 } else { 0xc0a8_a5c3 ^ 0x8000_0000u32.checked_shr(len.into()).unwrap_or(0) };
        assert_eq!(table.lookup(beside).map(|hop| hop.via), Some(if len == 32 { 32 } else { u32::from(len) + 1 }));
        assert!(table.remove(prefix(0xc0a8_a5c3, len), |_| true).is_some());
    }
    assert_eq!((table.lookup(0xc0a8_a5c3), table.in_use()), (None, (0, 0)));
}

/// A reader beside a writer sees the route of before or that of after, and never another's.
#[test]
fn readers_see_each_change_whole() {
    let table = Table::default();
    table.insert(prefix(0, 0), hop(1, 0), false).expect("room");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2u32 {
            let (table, stop) = (&table, &stop);
            scope.spawn(move || {
                let mut rng = Rng::new(u64::from(reader));
                while !stop.load(Ordering::Relaxed) {
                    let host = rng.below(64);
                    let found = table.lookup(0x0a00_0000 | host << 12 | host).expect("the default route at least");
                    assert!(found.via == 1 || found.via == 1_000 + host, "{host} got {found:?}");
                }
            });
        }
        let mut rng = Rng::new(7);
        for _ in 0..20_000 {
            let host = rng.below(64);
            let (to, hop) = (prefix(0x0a00_0000 | host << 12 | host, 32), hop(1_000 + host, 0));
            if table.insert(to, hop, false).is_err() {
                table.remove(to, |_| true);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Lengths as in the Internet's own table: six in ten are /24, few are longer.
fn of_the_internet(rng: &mut Rng) -> Prefix4 {
    let len = match rng.below(1_000) {
        0..600 => 24,
        600..700 => 23,
        700..810 => 22,
        810..860 => 21,
        860..905 => 20,
        905..930 => 19,
        930..945 => 18,
        945..955 => 17,
        955..970 => 16,
        970..975 => 8 + rng.below(8) as u8,
        975..985 => 25 + rng.below(7) as u8,
        _ => 32,
    };
    prefix(0x0100_0000 + rng.below(0xde00_0000), len)
}

fn ns_per(lookups: u32, mut lookup: impl FnMut(u32) -> u32) -> f64 {
    let begun = Instant::now();
    let sum = (0..lookups).fold(0u32, |sum, n| sum.wrapping_add(lookup(n)));
    std::hint::black_box(sum);
    begun.elapsed().as_nanos() as f64 / f64::from(lookups)
}

/// `cargo test --release -p rxpath-core --lib a_million_routes -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_million_routes() {
    let mut rng = Rng::new(1_000_000);
    let table = Table::default();
    let mut networks = Vec::new();
    let begun = Instant::now();
    while networks.len() < 1_000_000 {
        let prefix = of_the_internet(&mut rng);
        if table.insert(prefix, hop(1 + rng.below(64), 0), false).is_ok() {
            networks.push(prefix);
        }
    }
    println!("loaded {} routes in {:?}", networks.len(), begun.elapsed());
    let (looked_up, kept) = table.memory();
    println!("memory: {} MB to look up, {} MB to change", looked_up >> 20, kept >> 20);
    let spread: Vec<u32> = (0..1 << 20).map(|_| networks[rng.below(1_000_000) as usize].network).collect();
    let via = |addr: u32| table.lookup(addr).map_or(0, |hop| hop.via);
    println!("one destination: {:.1} ns", ns_per(10_000_000, |n| via(spread[0] ^ (n & 1))));
    println!("a thousand destinations: {:.1} ns", ns_per(10_000_000, |n| via(spread[n as usize & 1_023])));
    println!("a million destinations: {:.1} ns", ns_per(10_000_000, |n| via(spread[n as usize & ((1 << 20) - 1)])));
    let mut last = 0;
    println!("a thousand, each behind the other: {:.1} ns", ns_per(10_000_000, |n| {
        last = via(spread[(n + (last & 1)) as usize & 1_023]);
        last
    }));
    let begun = Instant::now();
    for prefix in &networks[..100_000] {
        table.insert(*prefix, hop(1 + rng.below(64), 0), true).expect("room");
    }
    println!("an update in place: {:?}", begun.elapsed() / 100_000);
    let begun = Instant::now();
    for prefix in &networks {
        table.remove(*prefix, |_| true).expect("it is there");
    }
    println!("removed all in {:?}", begun.elapsed());
    assert_eq!(table.in_use(), (0, 0));
}
