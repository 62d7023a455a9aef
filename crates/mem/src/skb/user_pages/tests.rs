//! Packets with the application's memory against a model: every byte is read, and every reference goes with its packet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::{PoolConfig, Returns, SlotClass};

struct Lender {
    bytes: Vec<u8>,
    copied: AtomicUsize,
}

impl UserPages for Lender {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn note_copied(&self) {
        self.copied.fetch_add(1, Ordering::Relaxed);
    }
}

fn lender(len: usize) -> Arc<Lender> {
    Arc::new(Lender { bytes: (0..len).map(|i| (i * 7 + i / 251) as u8).collect(), copied: AtomicUsize::new(0) })
}

fn pool() -> PagePool {
    PagePool::new(PoolConfig { slots: 16, head_slots: 12, large_slots: 4, reserve: 0 }).expect("memory")
}

fn bytes_of(skb: &Skb) -> Vec<u8> {
    skb.fragments().flatten().copied().collect()
}

/// One thing done to a packet.
#[derive(Clone, Debug)]
enum Step {
    Lend(usize, usize),
    Own(usize),
    Trim(usize),
    Consume(usize),
    Clone,
    Copy,
    /// The front joins the packet behind it.
    Join,
    /// The oldest ends, elsewhere or here.
    End(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3_000, 0usize..3_000).prop_map(|(from, len)| Step::Lend(from, len)),
        2 => (1usize..150).prop_map(Step::Own),
        1 => (0usize..4_000).prop_map(Step::Trim),
        1 => (0usize..2_000).prop_map(Step::Consume),
        1 => Just(Step::Clone),
        1 => Just(Step::Copy),
        1 => Just(Step::Join),
        1 => any::<bool>().prop_map(Step::End),
    ]
}

fn apply(pool: &mut PagePool, packets: &mut Vec<(Skb, Vec<u8>)>, lender: &Arc<Lender>, step: Step) {
    if packets.is_empty() {
        packets.extend(pool.alloc_head().map(|skb| (skb, Vec::new())));
    }
    let Some((skb, model)) = packets.last_mut() else { return };
    match step {
        Step::Lend(from, len) => {
            if skb.add_user_pages(pool, Arc::clone(lender) as Arc<dyn UserPages>, from, len) {
                model.extend_from_slice(&lender.bytes[from..from + len]);
            } else {
                assert!(from + len > lender.bytes.len() || pool.free_of(SlotClass::Head) == 0);
            }
        }
        Step::Own(len) => {
            let mut piece = match pool.alloc() {
                Some(piece) => piece,
                None => return,
            };
            piece.put(len).fill(len as u8);
            skb.add_frag(piece).expect("the same pool");
            model.extend(std::iter::repeat_n(len as u8, len));
        }
        Step::Trim(len) => {
            skb.trim(len);
            model.truncate(len);
        }
        Step::Consume(n) => {
            skb.consume_front(n);
            model.drain(..n.min(model.len()));
        }
        Step::Clone | Step::Copy => {
            let (before, lends) = (lender.copied.load(Ordering::Relaxed), skb.has_user_pages());
            let twin = if matches!(step, Step::Clone) { skb.clone_shared(pool) } else { skb.copy(pool) };
            let Some(twin) = twin else { return };
            assert!(!twin.has_user_pages(), "whoever keeps it keeps nothing of the application's");
            assert_eq!(lender.copied.load(Ordering::Relaxed) > before, lends);
            let model = model.clone();
            packets.push((twin, model));
        }
        Step::Join => {
            if packets.len() < 2 {
                return;
            }
            let (first, bytes) = packets.remove(0);
            let (skb, model) = packets.last_mut().expect("there was another");
            skb.add_frag(first).expect("the same pool");
            model.extend(bytes);
        }
        Step::End(elsewhere) => {
            let (skb, _) = packets.remove(0);
            if elsewhere {
                std::thread::scope(|scope| scope.spawn(|| Returns::new().push(skb)).join()).expect("it ends");
            } else {
                pool.free(skb);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn lent_bytes_are_read_where_they_are_and_every_reference_goes(steps in prop::collection::vec(step(), 1..40)) {
        let (mut pool, lender) = (pool(), lender(4_000));
        let mut packets = Vec::new();
        for step in steps {
            apply(&mut pool, &mut packets, &lender, step);
            for (skb, model) in &packets {
                prop_assert_eq!(skb.len(), model.len());
                prop_assert_eq!(&bytes_of(skb), model);
            }
        }
        for (skb, _) in packets {
            pool.free(skb);
        }
        pool.drain();
        prop_assert_eq!((pool.outstanding(), Arc::strong_count(&lender)), (0, 1));
    }
}

#[test]
fn a_dry_pool_takes_no_reference() {
    let (mut pool, lender) = (pool(), lender(100));
    let mut skb = pool.alloc().expect("a slot");
    let mut added = 0;
    while skb.add_user_pages(&mut pool, Arc::clone(&lender) as Arc<dyn UserPages>, 0, 100) {
        added += 1;
    }
    assert_eq!((added, Arc::strong_count(&lender), skb.len()), (12, 13, 1_200));
    assert!(skb.clone_shared(&mut pool).is_none(), "there is no slot for a copy");
    pool.free(skb);
    assert_eq!((pool.outstanding(), Arc::strong_count(&lender)), (0, 1));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (mut pool, mut other, lender) = (pool(), self::pool(), lender(70_000));
    let mut skb = pool.alloc().expect("a slot");
    let mut add =
        |pool: &mut PagePool, from, len| skb.add_user_pages(pool, Arc::clone(&lender) as Arc<dyn UserPages>, from, len);
    assert!(!add(&mut pool, 0, 65_536), "a fragment has at most 65,535 bytes");
    assert!(!add(&mut pool, 69_999, 2) && !add(&mut pool, usize::MAX, 1), "there are not as many");
    assert!(!add(&mut other, 0, 1), "another pool's");
    assert!(add(&mut pool, 4_465, 65_535));
    assert_eq!(bytes_of(&skb), &lender.bytes[4_465..]);
    pool.free(skb);
    assert_eq!((pool.outstanding(), other.outstanding(), Arc::strong_count(&lender)), (0, 0, 1));
}

#[test]
fn references_go_although_the_pool_went_first() {
    let (mut pool, lender) = (pool(), lender(1_000));
    let mut skb = pool.alloc().expect("a slot");
    assert!(skb.add_user_pages(&mut pool, Arc::clone(&lender) as Arc<dyn UserPages>, 10, 900));
    drop(pool);
    assert_eq!(bytes_of(&skb), &lender.bytes[10..910]);
    Returns::new().push(skb);
    assert_eq!(Arc::strong_count(&lender), 1);
}
