//! The lock under loom: exclusion, no lost backlog mark, no lost wake-up.

use std::sync::Arc;

use super::*;

fn model(f: impl Fn() + Sync + Send + 'static) {
    bounded(3, f);
}

fn bounded(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(f);
}

/// One packet: 1 if it went to the backlog.
fn softirq(lock: &SockLock<u32>) -> u32 {
    match lock.softirq() {
        Some(mut value) => {
            *value += 1;
            0
        }
        None => 1,
    }
}

/// One call: 1 if there was a backlog at release.
fn user(lock: &SockLock<u32>) -> u32 {
    let mut value = lock.user();
    *value += 1;
    u32::from(value.release())
}

#[test]
fn loom_a_user_learns_of_every_softirq_that_it_turned_away() {
    model(|| {
        let lock = Arc::new(SockLock::new(0));
        let theirs = lock.clone();
        let packet = loom::thread::spawn(move || softirq(&theirs));
        let told = user(&lock);
        let deferred = packet.join().unwrap();
        assert_eq!(told, deferred);
        assert_eq!(*lock.user() + deferred, 2);
    });
}

#[test]
fn loom_a_mark_that_comes_late_is_seen_by_the_next_user() {
    model(|| {
        let lock = Arc::new(SockLock::new(0));
        let theirs = lock.clone();
        let packets = loom::thread::spawn(move || softirq(&theirs) + softirq(&theirs));
        let told = user(&lock) + user(&lock);
        let deferred = packets.join().unwrap();
        assert!(told <= deferred && (told > 0) == (deferred > 0));
        assert_eq!(*lock.user() + deferred, 4);
    });
}

#[test]
fn loom_two_softirqs_take_turns() {
    model(|| {
        let lock = Arc::new(SockLock::new(0));
        let theirs = lock.clone();
        let packet = loom::thread::spawn(move || softirq(&theirs));
        let deferred = softirq(&lock) + packet.join().unwrap();
        assert_eq!((deferred, *lock.user()), (0, 2));
    });
}

#[test]
fn loom_two_users_take_turns() {
    model(|| {
        let lock = Arc::new(SockLock::new(0));
        let theirs = lock.clone();
        let other = loom::thread::spawn(move || user(&theirs) + user(&theirs));
        let told = user(&lock) + other.join().unwrap();
        assert_eq!((told, *lock.user()), (0, 3));
    });
}

#[test]
fn loom_three_users_are_all_woken() {
    model(|| {
        let lock = Arc::new(SockLock::new(0));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let lock = lock.clone();
                loom::thread::spawn(move || user(&lock))
            })
            .collect();
        user(&lock);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(*lock.user(), 3);
    });
}

#[test]
fn loom_two_users_and_a_softirq() {
    // With a third preemption two spinners can pass the turn to each other for ever, past the softirq that they wait
    // for.
    bounded(2, || {
        let lock = Arc::new(SockLock::new(0));
        let (theirs, packets) = (lock.clone(), lock.clone());
        let other = loom::thread::spawn(move || user(&theirs));
        let packet = loom::thread::spawn(move || softirq(&packets));
        let told = user(&lock) + other.join().unwrap();
        let deferred = packet.join().unwrap();
        assert_eq!(told, deferred);
        assert_eq!(*lock.user() + deferred, 3);
    });
}
