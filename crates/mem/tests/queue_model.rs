//! Queues against `VecDeque`, and what must hold when packets on a queue are changed, replaced or leaked.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use rxpath_mem::{PagePool, PoolConfig, Skb, SkbQueue};

fn pool(slots: usize) -> PagePool {
    PagePool::new(PoolConfig { slots, head_slots: 0, large_slots: 0, reserve: 0 }).expect("memory")
}

fn packet(pool: &mut PagePool, seq: u32, len: usize) -> Option<Skb> {
    let mut skb = pool.alloc()?;
    skb.seq = seq;
    skb.put(len).fill(seq as u8);
    Some(skb)
}

fn free_all(pool: &mut PagePool, queue: &mut SkbQueue) {
    while let Some(skb) = queue.pop_front() {
        pool.free(skb);
    }
}

#[derive(Clone, Debug)]
enum Op {
    PushBack(usize),
    PushFront(usize),
    PopFront,
    Grow { back: bool, by: usize },
    Replace { back: bool, len: usize },
    SplitPackets { n: usize, in_front: bool },
    SplitBytes { n: usize, in_front: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let len = 0..500usize;
    prop_oneof![
        4 => len.clone().prop_map(Op::PushBack),
        2 => len.clone().prop_map(Op::PushFront),
        3 => Just(Op::PopFront),
        2 => (any::<bool>(), 0..100usize).prop_map(|(back, by)| Op::Grow { back, by }),
        2 => (any::<bool>(), len).prop_map(|(back, len)| Op::Replace { back, len }),
        1 => (0..8usize, any::<bool>()).prop_map(|(n, in_front)| Op::SplitPackets { n, in_front }),
        1 => (0..1500usize, any::<bool>()).prop_map(|(n, in_front)| Op::SplitBytes { n, in_front }),
    ]
}

/// Sequence number and length of each packet.
type Model = VecDeque<(u32, usize)>;

/// Puts a front that was split off back where it was, or behind the rest.
fn rejoin(queue: &mut SkbQueue, mut front: SkbQueue, model: &mut Model, n: usize, in_front: bool) {
    let mut taken: Model = model.drain(..n).collect();
    assert_eq!((front.len(), front.bytes()), (n, taken.iter().map(|(_, len)| len).sum()));
    assert_eq!((queue.len(), queue.bytes()), (model.len(), model.iter().map(|(_, len)| len).sum()));
    if in_front {
        front.append(queue);
        std::mem::swap(queue, &mut front);
        taken.append(model);
        *model = taken;
    } else {
        queue.append(&mut front);
        model.append(&mut taken);
    }
    assert!(front.is_empty() && front.pop_front().is_none());
}

fn check(queue: &SkbQueue, model: &Model) {
    assert_eq!(queue.iter().map(|skb| (skb.seq, skb.len())).collect::<Model>(), *model);
    assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
    assert_eq!(queue.bytes(), model.iter().map(|(_, len)| len).sum::<usize>());
    assert_eq!(queue.front().map(|skb| skb.seq), model.front().map(|(seq, _)| *seq));
    assert_eq!(queue.back().map(|skb| skb.seq), model.back().map(|(seq, _)| *seq));
}

proptest! {
    #[test]
    fn a_queue_is_a_deque(ops in vec(op(), 1..100)) {
        let mut pool = pool(16);
        let mut queue = SkbQueue::new();
        let mut model = Model::new();
        for (seq, op) in (1u32..).zip(ops) {
            match op {
                Op::PushBack(len) => {
                    if let Some(skb) = packet(&mut pool, seq, len) {
                        queue.push_back(skb);
                        model.push_back((seq, len));
                    }
                }
                Op::PushFront(len) => {
                    if let Some(skb) = packet(&mut pool, seq, len) {
                        queue.push_front(skb);
                        model.push_front((seq, len));
                    }
                }
                Op::PopFront => {
                    let skb = queue.pop_front();
                    assert_eq!(skb.as_ref().map(|skb| (skb.seq, skb.len())), model.pop_front());
                    if let Some(skb) = skb {
                        pool.free(skb);
                    }
                }
                Op::Grow { back, by } => {
                    let lent = if back { queue.back_mut() } else { queue.front_mut() };
                    let item = if back { model.back_mut() } else { model.front_mut() };
                    assert_eq!(lent.is_some(), item.is_some());
                    if let (Some(mut lent), Some(item)) = (lent, item)
                        && lent.append_bytes(&vec![0; by])
                    {
                        item.1 += by;
                    }
                }
                Op::Replace { back, len } => {
                    let lent = if back { queue.back_mut() } else { queue.front_mut() };
                    let item = if back { model.back_mut() } else { model.front_mut() };
                    if let (Some(mut lent), Some(item)) = (lent, item)
                        && let Some(other) = packet(&mut pool, seq, len)
                    {
                        pool.free(std::mem::replace(&mut *lent, other));
                        *item = (seq, len);
                    }
                }
                Op::SplitPackets { n, in_front } => {
                    let front = queue.split_front_packets(n);
                    let n = n.min(model.len());
                    rejoin(&mut queue, front, &mut model, n, in_front);
                }
                Op::SplitBytes { n, in_front } => {
                    let mut sum = 0;
                    let front = queue.split_front_while(|skb| { sum += skb.len(); sum <= n });
                    let mut sum = 0;
                    let taken = model.iter().take_while(|(_, len)| { sum += len; sum <= n }).count();
                    rejoin(&mut queue, front, &mut model, taken, in_front);
                }
            }
            check(&queue, &model);
        }
        free_all(&mut pool, &mut queue);
        assert_eq!(pool.outstanding(), 0);
    }
}

#[test]
fn a_lent_packet_that_was_on_another_queue_meanwhile_is_linked_again() {
    let mut pool = pool(8);
    let mut queue = SkbQueue::new();
    for seq in 0..3 {
        queue.extend_with(packet(&mut pool, seq, 10));
    }
    let mut other = SkbQueue::new();
    {
        let mut front = queue.front_mut().expect("three packets");
        let stand_in = packet(&mut pool, 99, 1).expect("slots");
        let lent = std::mem::replace(&mut *front, stand_in);
        other.push_back(lent);
        other.extend_with(packet(&mut pool, 100, 1));
        let lent = other.pop_front().expect("it was pushed");
        pool.free(std::mem::replace(&mut *front, lent));
    }
    assert_eq!(queue.iter().map(|skb| skb.seq).collect::<Vec<_>>(), [0, 1, 2]);
    free_all(&mut pool, &mut queue);
    free_all(&mut pool, &mut other);
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn packets_of_two_queues_can_be_swapped_in_place() {
    let mut pool = pool(8);
    let (mut a, mut b) = (SkbQueue::new(), SkbQueue::new());
    for seq in 0..3 {
        a.extend_with(packet(&mut pool, seq, 10));
        b.extend_with(packet(&mut pool, 10 + seq, 20));
    }
    if let (Some(mut x), Some(mut y)) = (a.back_mut(), b.front_mut()) {
        std::mem::swap(&mut *x, &mut *y);
    }
    assert_eq!(a.iter().map(|skb| skb.seq).collect::<Vec<_>>(), [0, 1, 10]);
    assert_eq!(b.iter().map(|skb| skb.seq).collect::<Vec<_>>(), [2, 11, 12]);
    assert_eq!((a.bytes(), b.bytes()), (40, 50));
    free_all(&mut pool, &mut a);
    free_all(&mut pool, &mut b);
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn a_leaked_loan_leaks_the_packets_and_leaves_an_empty_queue() {
    let mut pool = pool(8);
    let mut queue = SkbQueue::new();
    for seq in 0..3 {
        queue.extend_with(packet(&mut pool, seq, 10));
    }
    std::mem::forget(queue.back_mut());
    assert!(queue.is_empty() && queue.bytes() == 0);
    queue.extend_with(packet(&mut pool, 7, 1));
    free_all(&mut pool, &mut queue);
    assert_eq!(pool.outstanding(), 3);
}

/// A queue that takes what may not be there.
trait ExtendWith {
    fn extend_with(&mut self, skb: Option<Skb>);
}

impl ExtendWith for SkbQueue {
    fn extend_with(&mut self, skb: Option<Skb>) {
        self.push_back(skb.expect("slots"));
    }
}
