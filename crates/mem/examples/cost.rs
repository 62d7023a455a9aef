//! What the operations of the hot path cost on this machine, in nanoseconds: `cargo run --release --example cost`.
//!
//! A measurement for people, not a test: machines change speed, so compare lines of one run only.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the output of this program")]

use std::hint::black_box;
use std::time::Instant;

use rxpath_mem::{Harvest, PagePool, PoolConfig, Returns, RxDesc, Skb, SkbQueue, SockLock, rx_ring};

const ROUNDS: usize = 20_000;
const BATCH: usize = 32;

/// Median and least nanoseconds per operation over eleven runs of `ROUNDS` batches.
fn report(name: &str, mut batch: impl FnMut()) {
    let mut runs: Vec<f64> = (0..11)
        .map(|_| {
            let start = Instant::now();
            (0..ROUNDS).for_each(|_| batch());
            start.elapsed().as_nanos() as f64 / (ROUNDS * BATCH) as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{name:<58} {:6.2} ns  [{:.2}]", runs[5], runs[0]);
}

fn pool() -> PagePool {
    PagePool::new(PoolConfig { slots: 4096, head_slots: 1024, large_slots: 8, reserve: 16 }).expect("memory")
}

fn main() {
    println!("per packet, batches of {BATCH}: median [least]");
    let mut owner = pool();
    report("alloc + free, one at a time", || {
        for _ in 0..BATCH {
            let skb = black_box(owner.alloc()).expect("slots");
            owner.free(skb);
        }
    });
    report("alloc + free, a batch of each", || {
        let mut queue: [Option<Skb>; BATCH] = std::array::from_fn(|_| owner.alloc());
        for skb in black_box(&mut queue) {
            owner.free(skb.take().expect("slots"));
        }
    });
    let mut returns = Returns::new();
    report("alloc + Returns::push, flush per batch, drain", || {
        let mut queue: [Option<Skb>; BATCH] = std::array::from_fn(|_| owner.alloc());
        for skb in black_box(&mut queue) {
            returns.push(skb.take().expect("slots"));
        }
        returns.flush();
        owner.drain();
    });
    report("alloc, queue push + pop, free", || {
        let mut queue = SkbQueue::new();
        for _ in 0..BATCH {
            queue.push_back(owner.alloc().expect("slots"));
        }
        while let Some(skb) = black_box(&mut queue).pop_front() {
            owner.free(skb);
        }
    });
    report("alloc_head + put 54 + free", || {
        for _ in 0..BATCH {
            let mut skb = owner.alloc_head().expect("slots");
            black_box(skb.put(54));
            owner.free(skb);
        }
    });
    ring("ring 64: write 60 B + complete + take + free", 64, 60);
    ring("ring 512: write 60 B + complete + take + free", 512, 60);
    ring("ring 512: write 1,514 B + complete + take + free", 512, 1514);
    let lock = SockLock::new(0u64);
    report("SockLock::softirq + release", || {
        for _ in 0..BATCH {
            if let Some(mut guard) = black_box(&lock).softirq() {
                *guard += 1;
            }
        }
    });
    report("SockLock::user + release", || {
        for _ in 0..BATCH {
            let mut guard = black_box(&lock).user();
            *guard += 1;
            let _ = black_box(guard.release());
        }
    });
}

fn ring(name: &str, places: usize, len: usize) {
    let mut pool = pool();
    let (mut ring, mut dma) = rx_ring(places, 0);
    let frame = vec![7u8; len];
    ring.refill(&mut pool);
    report(name, || {
        for i in 0..BATCH as u32 {
            let written = dma.write_frame(black_box(&frame), RxDesc { hash: i, ..RxDesc::default() });
            assert!(written.is_ok());
        }
        while let Some(Harvest::Frame(skb)) = ring.take() {
            black_box((skb.data()[0], skb.hash));
            pool.free(skb);
        }
        ring.refill(&mut pool);
    });
}
