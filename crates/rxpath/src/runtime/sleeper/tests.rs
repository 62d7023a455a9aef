//! Every sleeper that this system can have, through the same tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rxpath_core::nic::Doorbell;
use rxpath_core::stack::{Stack as Core, StackConfig};

/// Far beyond what any of this takes: who sleeps that long was not woken.
const AGES: Duration = Duration::from_secs(60);
/// Rings that two threads exchange.
const ROUNDS: u32 = 2_000;

macro_rules! sleepers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        mod $name {
            use super::super::$name::{Bell, Sleeper};
            use super::*;

            fn sleeper() -> (Arc<Bell>, Sleeper) {
                let core = Core::new(StackConfig::default()).expect("a stack without interfaces");
                let bell = Arc::new(Bell::new().expect("a bell"));
                let sleeper = Sleeper::new(&core, 0..core.cpus(), Arc::clone(&bell)).expect("a sleeper");
                (bell, sleeper)
            }

            #[test]
            fn a_bell_that_rang_before_allows_no_sleep() {
                let (bell, mut sleeper) = sleeper();
                let begin = Instant::now();
                for _ in 0..3 {
                    bell.ring();
                    bell.ring();
                    sleeper.sleep(Some(AGES)).expect("it returns");
                }
                assert!(begin.elapsed() < AGES, "it slept");
            }

            #[test]
            fn sleep_ends_with_its_time() {
                let (_bell, mut sleeper) = sleeper();
                sleeper.sleep(Some(Duration::ZERO)).expect("it returns");
                sleeper.sleep(Some(Duration::from_millis(5))).expect("it returns");
            }

            #[test]
            fn no_ring_is_lost_between_two_threads() {
                let (there, mut there_sleeps) = sleeper();
                let (here, mut here_sleeps) = sleeper();
                let ball = AtomicU32::new(0);
                // Each plays the ball when its number is its own, even or odd, and otherwise sleeps.
                let play = |mine: u32, sleeper: &mut Sleeper, other: &Bell| {
                    let begin = Instant::now();
                    loop {
                        let number = ball.load(Ordering::Acquire);
                        if number % 2 == mine && number < ROUNDS {
                            ball.store(number + 1, Ordering::Release);
                            other.ring();
                        }
                        if number >= ROUNDS {
                            return;
                        }
                        sleeper.sleep(Some(AGES)).expect("it returns");
                        assert!(begin.elapsed() < AGES, "a ring was lost at ball {number}");
                    }
                };
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        play(1, &mut there_sleeps, &here);
                        here.ring();
                    });
                    play(0, &mut here_sleeps, &there);
                    there.ring();
                });
                assert_eq!(ball.into_inner(), ROUNDS);
            }
        }
    )*};
}

sleepers! {
    #[cfg(target_os = "linux")]
    linux;
    portable;
}
