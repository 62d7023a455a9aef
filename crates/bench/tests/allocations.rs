//! In the steady state rxpath's receive path allocates nothing: not per segment, not per burst, not per ACK.

use std::alloc::System;

use rxpath_bench::Case;
use rxpath_bench::drive::Runner;
use rxpath_bench::rx::{RxPath, Setup};
use rxpath_trace::Ledger;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test for all cases: another one in a thread beside it would be counted with it.
#[test]
fn ten_thousand_segments_take_no_allocation() {
    for case in [Case::Tcp64, Case::Tcp64NoGro, Case::Tcp1448] {
        let setup = Setup { queues: 1, gro: case.gro(), seed: 3 };
        let side = RxPath::queues(&setup, case.payload()).remove(0);
        let mut runner = Runner::connect(side, case.payload(), 3);
        // The stack's clock must pass every slot of the timer wheel's first levels, whose vectors grow once.
        runner.timed(4_000);
        let before = runner.segments();
        let region = Region::new(HEAP);
        runner.timed(320);
        let change = region.change();
        assert_eq!(runner.segments() - before, 10_240);
        assert_eq!((books(&change), change.reallocations), (change.allocations, 0), "{case}: {change:?}");
        runner.finish();
    }
}

/// In a debug build each softirq run checks the stack's books, for which it copies them to the heap: so many of the
/// allocations. None in a release build.
fn books(change: &Stats) -> usize {
    if !cfg!(debug_assertions) {
        return 0;
    }
    let ledger = Ledger::new();
    let region = Region::new(HEAP);
    let copy = ledger.snapshot();
    let bytes = region.change().bytes_allocated;
    drop(copy);
    change.bytes_allocated / bytes
}

/// The counter is one that counts.
#[test]
fn an_allocation_is_seen() {
    let region = Region::new(HEAP);
    let boxed = std::hint::black_box(Box::new([0u8; 64]));
    assert!(region.change().allocations > 0, "{boxed:?}");
}
