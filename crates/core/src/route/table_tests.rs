//! The table of IPv4 against a list that is searched from end to end.

use proptest::prelude::*;

use super::RouteKind;
use super::table::{Hop, Prefix4, Refused, Table, mask};

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
        let beside =
            if len == 32 { 0xc0a8_a5c2 } else { 0xc0a8_a5c3 ^ 0x8000_0000u32.checked_shr(len.into()).unwrap_or(0) };
        assert_eq!(table.lookup(beside).map(|hop| hop.via), Some(if len == 32 { 32 } else { u32::from(len) + 1 }));
        assert!(table.remove(prefix(0xc0a8_a5c3, len), |_| true).is_some());
    }
    assert_eq!((table.lookup(0xc0a8_a5c3), table.in_use()), (None, (0, 0)));
}
