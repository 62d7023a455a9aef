//! Unit tests of the pool: accounting, reserve, sharing, and the end of its memory.

use std::collections::HashSet;
use std::sync::{Arc, Barrier, Mutex};

use super::*;
use crate::region::allocated;
use crate::slot::RX_HEADROOM;
use crate::{RxDesc, rx_ring};

const SMALL: PoolConfig = PoolConfig { slots: 8, head_slots: 6, large_slots: 2, reserve: 2 };

fn small() -> PagePool {
    PagePool::new(SMALL).expect("memory")
}

fn assert_send<T: Send>() {}

#[test]
fn sizes_are_what_the_design_says() {
    assert_eq!(size_of::<Skb>(), size_of::<usize>());
    assert_eq!(size_of::<Option<Skb>>(), size_of::<usize>());
    assert_eq!(size_of::<crate::slot::Line>(), 64);
    assert_eq!(SlotClass::ALL.map(SlotClass::stride), [2_304, 320, 65_792]);
    assert_send::<Skb>();
    assert_send::<PagePool>();
    assert_send::<Returns>();
    assert_send::<crate::SkbQueue>();
    assert_send::<crate::RxRing>();
    assert_send::<crate::RxDma>();
}

#[test]
fn a_fresh_packet_is_fresh_whatever_its_slot_was_before() {
    let mut pool = small();
    let mut skb = pool.alloc().expect("slots");
    skb.put(100).fill(1);
    (skb.seq, skb.hash, skb.tcp_flags, skb.truesize, skb.ifindex) = (1, 2, 3, 4, 5);
    skb.set_traced(true);
    skb.set_network_header_here();
    let frag = pool.alloc().expect("slots");
    skb.add_frag(frag).expect("the same pool");
    pool.free(skb);
    for class in SlotClass::ALL {
        let skb = pool.alloc_class(class).expect("slots");
        assert_eq!((skb.len(), skb.frag_count(), skb.data_offset()), (0, 0, RX_HEADROOM));
        assert_eq!((skb.seq, skb.hash, skb.tcp_flags, skb.ifindex, skb.network_off), (0, 0, 0, 0, 0));
        assert_eq!(skb.truesize as usize, class.stride());
        assert_eq!(skb.tailroom(), class.capacity() - RX_HEADROOM);
        assert!(!skb.traced() && !skb.is_shared());
        assert_eq!(skb.class(), class);
        pool.free(skb);
    }
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn ip_headers_are_aligned() {
    let mut pool = small();
    let mut skb = pool.alloc().expect("slots");
    skb.put(40);
    assert!(skb.pull(14));
    assert_eq!(skb.data().as_ptr().addr() % 8, 0);
    pool.free(skb);
}

#[test]
fn ordinary_allocations_leave_the_reserve() {
    let mut pool = small();
    let mut held: Vec<Skb> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((held.len(), pool.free_slots()), (6, 2));
    held.extend(std::iter::from_fn(|| pool.alloc_head()));
    assert_eq!((held.len(), pool.free_of(SlotClass::Head)), (10, 2));
    held.extend(std::iter::from_fn(|| pool.alloc_large()));
    assert_eq!((held.len(), pool.free_of(SlotClass::Large)), (12, 0));
    let reserved: Vec<Skb> = std::iter::from_fn(|| pool.alloc_reserved()).collect();
    assert_eq!(reserved.iter().map(Skb::class).collect::<Vec<_>>()[..], {
        use SlotClass::{Frame, Head};
        [Head, Head, Frame, Frame]
    });
    assert_eq!(pool.outstanding(), 16);
    for skb in held.into_iter().chain(reserved) {
        pool.free(skb);
    }
    assert_eq!(pool.outstanding(), 0);
    assert!(pool.stats().alloc_empty >= 3);
}

#[test]
fn returned_slots_are_found_when_the_stack_is_empty() {
    let mut pool = small();
    let mut returns = Returns::new();
    for round in 1..=20 {
        let held: Vec<Skb> = std::iter::from_fn(|| pool.alloc()).collect();
        assert_eq!(held.len(), 6, "round {round}");
        held.into_iter().for_each(|skb| returns.push(skb));
        assert_eq!((returns.len(), pool.outstanding()), (6, 6));
        returns.flush();
        assert_eq!((returns.is_empty(), pool.outstanding()), (true, 0));
    }
    pool.drain();
    let stats = pool.stats();
    assert_eq!((stats.recycle_ring, stats.recycle_cached, stats.alloc_refill), (120, 0, 20));
    assert_eq!((stats.alloc_fast, stats.alloc_slow, stats.alloc_empty), (101, 19, 20));
}

#[test]
fn packets_of_another_pool_go_home() {
    let (mut a, mut b) = (small(), small());
    let skb = a.alloc().expect("slots");
    assert!(a.owns(&skb) && !b.owns(&skb));
    assert_eq!((skb.pool_id(), a.id() == b.id()), (a.id(), false));
    b.free(skb);
    assert_eq!((a.outstanding(), b.outstanding()), (0, 0));
    assert_eq!((a.drain(), b.drain()), (1, 0));
    let mut returns = Returns::new();
    for _ in 0..3 {
        returns.push(a.alloc().expect("slots"));
        returns.push(b.alloc().expect("slots"));
    }
    drop(returns);
    assert_eq!((a.outstanding(), b.outstanding()), (0, 0));
}

#[test]
fn a_slot_stays_until_the_last_user_of_its_data_ends() {
    let mut pool = small();
    let mut skb = pool.alloc().expect("slots");
    skb.put(4).copy_from_slice(b"data");
    let first = skb.clone_shared(&mut pool).expect("heads");
    let second = first.clone_shared(&mut pool).expect("heads");
    assert!(skb.is_shared() && first.is_shared() && second.is_shared());
    assert_eq!((skb.headroom(), skb.tailroom(), first.tailroom(), second.last_tailroom()), (0, 0, 0, 0));
    assert!(!skb.append_bytes(b"x"));
    pool.free(skb);
    assert_eq!(pool.free_slots(), 7, "the data is in use");
    pool.free(first);
    assert_eq!((pool.free_slots(), second.data()), (7, &b"data"[..]));
    Returns::new().push(second);
    pool.drain();
    assert_eq!((pool.free_slots(), pool.outstanding()), (8, 0));

    let mut skb = pool.alloc().expect("slots");
    let clone = skb.clone_shared(&mut pool).expect("heads");
    pool.free(clone);
    assert!(!skb.is_shared(), "the only user may write again");
    skb.put(1);
    let clone = skb.clone_shared(&mut pool).expect("heads");
    assert!(skb.is_shared());
    pool.free(skb);
    pool.free(clone);
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn a_clone_that_does_not_fit_leaves_nothing_behind() {
    let mut pool = small();
    let mut skb = pool.alloc().expect("slots");
    for _ in 0..4 {
        let mut frag = pool.alloc().expect("slots");
        frag.put(10);
        skb.add_frag(frag).expect("the same pool");
    }
    // Five slots want five heads; six less the reserve are four.
    assert!(skb.clone_shared(&mut pool).is_none());
    assert_eq!(pool.outstanding(), 5);
    assert!(!skb.is_shared());
    pool.free(skb);
    assert_eq!(pool.outstanding(), 0);
}

#[test]
#[should_panic(expected = "writing to shared data")]
fn writing_to_shared_data_is_refused() {
    let mut pool = small();
    let mut skb = pool.alloc().expect("slots");
    skb.put(4);
    let _clone = skb.clone_shared(&mut pool).expect("heads");
    skb.data_mut()[0] = 1;
}

#[test]
#[should_panic(expected = "skb_over_panic")]
fn putting_beyond_the_tailroom_is_refused() {
    let mut pool = small();
    let mut skb = pool.alloc_head().expect("slots");
    skb.put(191);
}

#[test]
fn packets_that_nobody_ended_are_counted_and_come_home() {
    let mut pool = small();
    let lost = pool.alloc().expect("slots");
    let mut queue = crate::SkbQueue::new();
    for _ in 0..3 {
        queue.push_back(pool.alloc().expect("slots"));
    }
    let ends = [
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(lost))),
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(queue))),
    ];
    assert_eq!(ends.iter().all(Result::is_err), cfg!(debug_assertions), "debug builds say so loudly");
    assert_eq!((pool.stats().not_specified, pool.outstanding()), (4, 0));
}

#[test]
fn a_pool_that_does_not_fit_a_region_is_refused() {
    for slots in [REGION_SIZE / 2112 + 1, usize::MAX / 2, usize::MAX] {
        let refused = PagePool::new(PoolConfig { slots, ..SMALL });
        assert_eq!(refused.err().map(|error| error.kind()), Some(io::ErrorKind::InvalidInput));
    }
    let mut none = PagePool::new(PoolConfig { slots: 0, head_slots: 0, large_slots: 0, reserve: 0 }).expect("memory");
    assert!(none.alloc().is_none() && none.alloc_reserved().is_none());
}

/// Bases of the regions that [`watched`] pools gave back.
static RELEASED: Mutex<Option<HashSet<usize>>> = Mutex::new(None);

/// Remembers the base, and keeps the address from being used again, so that each can be told from all others.
///
/// # Safety
/// As every unmap function.
unsafe fn remember(base: NonNull<u8>, _: usize) {
    let new = RELEASED.lock().expect("no test fails here").get_or_insert_default().insert(base.addr().get());
    assert!(new, "released twice");
}

fn released(base: usize) -> bool {
    RELEASED.lock().expect("no test fails here").get_or_insert_default().contains(&base)
}

/// A pool whose end can be seen, and its base.
fn watched(config: PoolConfig) -> (PagePool, usize) {
    let geometry = Geometry::of(&config).expect("it fits");
    let region = Region::new(geometry.len).expect("memory").with_unmap(remember);
    let pool = PagePool::in_region(&config, geometry, region);
    let base = pool.base.addr().get();
    (pool, base)
}

#[test]
fn memory_is_released_when_the_owner_is_gone_and_all_slots_are_back() {
    let (mut pool, base) = watched(SMALL);
    let skb = pool.alloc().expect("slots");
    pool.free(skb);
    drop(pool);
    assert!(released(base), "nothing was lent");

    let (mut pool, base) = watched(SMALL);
    let mut lent = pool.alloc().expect("slots");
    lent.put(4).copy_from_slice(b"lent");
    let mut shared = pool.alloc().expect("slots");
    shared.put(6).copy_from_slice(b"shared");
    let clone = shared.clone_shared(&mut pool).expect("heads");
    let (mut ring, mut dma) = rx_ring(4, 0);
    ring.refill(&mut pool);
    assert!(dma.write_frame(b"frame", RxDesc::default()).is_ok());
    Returns::new().push(pool.alloc().expect("slots"));
    drop(pool);
    drop(ring);
    assert!(dma.write_frame(b"late", RxDesc::default()).is_ok());
    drop(dma);
    let mut returns = Returns::new();
    assert_eq!(lent.data(), b"lent");
    returns.push(lent);
    returns.push(shared);
    returns.flush();
    assert!(!released(base));
    assert_eq!(clone.data(), b"shared");
    let mut other = small();
    other.free(clone);
    assert!(released(base));
}

#[test]
fn the_allocators_memory_serves_as_well() {
    let geometry = Geometry::of(&SMALL).expect("it fits");
    let mut pool = PagePool::in_region(&SMALL, geometry, allocated(geometry.len).expect("memory"));
    let mut skb = pool.alloc().expect("slots");
    skb.put(3).copy_from_slice(b"abc");
    drop(pool);
    assert_eq!(skb.data(), b"abc");
    Returns::new().push(skb);
}

#[test]
fn owners_and_returning_threads_may_end_in_any_order() {
    for round in 0..300 {
        let (mut pool, base) = watched(PoolConfig { slots: 40, head_slots: 40, large_slots: 0, reserve: 0 });
        let start = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let mut held = Vec::new();
                for _ in 0..8 {
                    let mut skb = pool.alloc().expect("slots");
                    skb.put(2).fill(thread);
                    held.push(skb.clone_shared(&mut pool).expect("heads"));
                    held.push(skb);
                }
                let start = start.clone();
                std::thread::spawn(move || {
                    start.wait();
                    let mut returns = Returns::new();
                    for (i, skb) in held.into_iter().enumerate() {
                        assert_eq!(skb.data(), [thread; 2]);
                        returns.push(skb);
                        if (i + usize::from(thread) + round) % 3 == 0 {
                            returns.flush();
                        }
                    }
                })
            })
            .collect();
        start.wait();
        for _ in 0..round % 7 {
            pool.drain();
        }
        drop(pool);
        for thread in threads {
            thread.join().expect("no thread fails");
        }
        assert!(released(base), "round {round}");
    }
}

#[test]
fn the_owner_and_clones_on_other_threads_share_without_loss() {
    let mut pool = PagePool::new(PoolConfig { slots: 64, head_slots: 64, ..SMALL }).expect("memory");
    let (send, receive) = std::sync::mpsc::sync_channel::<Skb>(16);
    let taps = std::thread::spawn(move || {
        let mut returns = Returns::new();
        for skb in receive {
            assert!(skb.data().windows(2).all(|pair| pair[0] == pair[1]));
            returns.push(skb);
            returns.flush();
        }
    });
    for n in 0..20_000u32 {
        pool.drain();
        let Some(mut skb) = pool.alloc() else { continue };
        skb.put(64).fill(n as u8);
        if let Some(clone) = skb.clone_shared(&mut pool) {
            send.send(clone).expect("the tap listens");
        }
        if skb.make_writable(&mut pool) {
            skb.data_mut().fill(!(n as u8));
        }
        pool.free(skb);
    }
    drop(send);
    taps.join().expect("the data never changed under a clone");
    pool.drain();
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn a_priority_leaves_the_other_marks_alone() {
    let mut pool = small();
    let mut skb = pool.alloc().expect("a slot");
    assert_eq!(skb.priority(), 0);
    skb.put(1);
    skb.set_traced(true);
    skb.set_redirected();
    for priority in [15, 6, 0, 22] {
        skb.set_priority(priority);
        let marks = (skb.traced(), skb.redirected(), skb.is_shared());
        assert_eq!((skb.priority(), marks), (priority & 15, (true, true, false)));
    }
    let copy = skb.copy(&mut pool).expect("a slot");
    assert_eq!((copy.priority(), copy.traced()), (6, true));
    pool.free(copy);
    pool.free(skb);
    let fresh = pool.alloc().expect("a slot");
    assert_eq!(fresh.priority(), 0);
    pool.free(fresh);
}
