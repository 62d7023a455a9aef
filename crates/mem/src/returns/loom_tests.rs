//! The return ring under loom: every interleaving of producers, consumer and closing owner.

use std::sync::Arc;

use super::*;
use crate::sync::{Mutex, SharedCell};

/// The ring and the memory that it guards: the region as a whole, and each slot.
struct Pool {
    ring: ReturnRing,
    memory: SharedCell<u32>,
    slots: Vec<SharedCell<u32>>,
}

impl Pool {
    /// Writes to a slot, as its owner may.
    fn write(&self, token: Token) {
        // SAFETY: the caller owns the slot; loom checks it.
        self.slots[token.offset() as usize].with_mut(|p| unsafe { *p += 1 });
    }

    /// The consumer takes a slot and uses it.
    fn pop(&self, head: u64) -> Option<Token> {
        let token = self.ring.pop(head);
        token.inspect(|token| self.write(*token))
    }
}

// SAFETY: the protocol under test guards the cell; loom reports where it fails to.
unsafe impl Sync for Pool {}
// SAFETY: nothing in it is bound to a thread.
unsafe impl Send for Pool {}

fn token(n: u32) -> Token {
    Token::new(n, SlotClass::Frame)
}

/// Uses the memory, brings slots home, and releases the memory if told to. 1 if so.
fn bring_home(pool: &Pool, tokens: &[Token]) -> u32 {
    // SAFETY: whoever has a slot out may use the memory; loom checks that nobody releases it.
    pool.memory.with(|p| assert_eq!(unsafe { *p }, 7));
    tokens.iter().for_each(|token| pool.write(*token));
    // SAFETY: the slots are out.
    let last = unsafe { ReturnRing::push(NonNull::from(&pool.ring), tokens) };
    if last { release_memory(pool) } else { 0 }
}

fn release_memory(pool: &Pool) -> u32 {
    // SAFETY: whoever is told to release is alone; loom checks it.
    pool.memory.with_mut(|p| unsafe { *p = 0 });
    1
}

fn pool(slots: usize) -> Arc<Pool> {
    let slots_and_none = (0..=slots).map(|_| SharedCell::new(0)).collect();
    Arc::new(Pool { ring: ReturnRing::new(slots), memory: SharedCell::new(7), slots: slots_and_none })
}

#[test]
fn loom_two_producers_and_a_closing_owner_release_once() {
    loom::model(|| {
        let pool = pool(3);
        let (a, b) = (pool.clone(), pool.clone());
        let a = loom::thread::spawn(move || bring_home(&a, &[token(1), token(2)]));
        let b = loom::thread::spawn(move || bring_home(&b, &[token(3)]));
        let mut head = 0;
        if pool.pop(head).is_some() {
            head += 1;
        }
        // SAFETY: the one consumer, once.
        let closed = unsafe { ReturnRing::close(NonNull::from(&pool.ring), head, 3 - head as usize) };
        let mine = if closed { release_memory(&pool) } else { 0 };
        assert_eq!(mine + a.join().unwrap() + b.join().unwrap(), 1);
    });
}

#[test]
fn loom_an_owner_that_goes_before_all_leaves_it_to_the_last() {
    loom::model(|| {
        let pool = pool(2);
        let (a, b) = (pool.clone(), pool.clone());
        let a = loom::thread::spawn(move || bring_home(&a, &[token(1)]));
        let b = loom::thread::spawn(move || bring_home(&b, &[token(2)]));
        // SAFETY: the one consumer, once.
        let closed = unsafe { ReturnRing::close(NonNull::from(&pool.ring), 0, 2) };
        let mine = if closed { release_memory(&pool) } else { 0 };
        assert_eq!(mine + a.join().unwrap() + b.join().unwrap(), 1);
    });
}

#[test]
fn loom_every_token_arrives_once_while_others_add() {
    loom::model(|| {
        let pool = pool(3);
        let (a, b) = (pool.clone(), pool.clone());
        let a = loom::thread::spawn(move || bring_home(&a, &[token(1), token(2)]));
        let b = loom::thread::spawn(move || bring_home(&b, &[token(3)]));
        let mut seen = Vec::new();
        while seen.len() < 3 {
            match pool.pop(seen.len() as u64) {
                Some(token) => seen.push(token.offset()),
                None => loom::thread::yield_now(),
            }
        }
        assert!(pool.pop(3).is_none());
        a.join().unwrap();
        b.join().unwrap();
        let at = |n| seen.iter().position(|token| *token == n);
        assert!(at(1) < at(2), "a batch keeps its order");
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

/// The places are used again and again: two slots in a ring of two, of which one comes back twice.
#[test]
fn loom_a_place_that_is_used_again_loses_nothing() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let pool = pool(2);
        let lent = Arc::new(Mutex::new(vec![token(1)]));
        let (a, to_a) = (pool.clone(), lent.clone());
        let a = loom::thread::spawn(move || {
            let mut brought = 0;
            while brought < 2 {
                let next = to_a.lock().unwrap().pop();
                match next {
                    Some(token) => {
                        bring_home(&a, &[token]);
                        brought += 1;
                    }
                    None => loom::thread::yield_now(),
                }
            }
        });
        let b = pool.clone();
        let b = loom::thread::spawn(move || bring_home(&b, &[token(2)]));
        let (mut head, mut ones, mut twos) = (0, 0, 0);
        while head < 3 {
            match pool.pop(head).map(Token::offset) {
                Some(1) => {
                    ones += 1;
                    head += 1;
                    if ones == 1 {
                        lent.lock().unwrap().push(token(1));
                    }
                }
                Some(other) => {
                    assert_eq!(other, 2);
                    twos += 1;
                    head += 1;
                }
                None => loom::thread::yield_now(),
            }
        }
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!((ones, twos), (2, 1));
        assert!(pool.pop(3).is_none());
    });
}
