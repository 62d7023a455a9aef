//! The lock on real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[test]
fn the_two_kinds_of_owner_exclude_each_other() {
    let lock = SockLock::new(1);
    let user = lock.user();
    assert!(lock.try_user().is_none());
    assert!(!user.backlogged());
    assert!(lock.softirq().is_none());
    assert!(lock.softirq().is_none(), "again, with the mark already there");
    assert!(user.backlogged());
    assert!(user.release(), "a softirq was turned away");
    assert!(!lock.user().release(), "once");
    let softirq = lock.softirq();
    assert!(softirq.is_some() && lock.try_user().is_none());
    drop(softirq);
    assert!(lock.try_user().is_some());
}

#[test]
fn the_value_is_reached_in_every_way() {
    let mut lock = SockLock::new(vec![1]);
    lock.user().push(2);
    if let Some(mut value) = lock.softirq() {
        value.push(3);
    }
    lock.get_mut().push(4);
    assert_eq!(lock.into_inner(), [1, 2, 3, 4]);
}

#[test]
fn users_and_softirqs_on_many_threads_lose_nothing() {
    const ROUNDS: u64 = 20_000;
    let lock = Arc::new(SockLock::new((0u64, 0u64)));
    let deferred = Arc::new(AtomicU64::new(0));
    let told = Arc::new(AtomicU64::new(0));
    let softirq = {
        let (lock, deferred) = (lock.clone(), deferred.clone());
        std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                match lock.softirq() {
                    Some(mut value) => {
                        value.0 += 1;
                        value.1 += 1;
                    }
                    None => {
                        deferred.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })
    };
    let users: Vec<_> = (0..3)
        .map(|_| {
            let (lock, told) = (lock.clone(), told.clone());
            std::thread::spawn(move || {
                for i in 0..ROUNDS {
                    let mut value = lock.user();
                    value.0 += 1;
                    if i % 64 == 0 {
                        std::thread::yield_now();
                    }
                    value.1 += 1;
                    assert_eq!(value.0, value.1);
                    told.fetch_add(u64::from(value.release()), Ordering::Relaxed);
                }
            })
        })
        .collect();
    softirq.join().expect("the softirq ends");
    for user in users {
        user.join().expect("users end");
    }
    let (deferred, told) = (deferred.load(Ordering::Relaxed), told.load(Ordering::Relaxed));
    let total = lock.user().0;
    assert_eq!(total + deferred, 4 * ROUNDS);
    assert!(told <= deferred && (told > 0) == (deferred > 0), "told {told} of {deferred}");
}
