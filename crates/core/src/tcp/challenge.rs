//! How many challenge ACKs a namespace sends in a second (RFC 5961 section 7, `tcp_challenge_ack_limit`), beside what each
//! connection may.

use std::sync::{Mutex, PoisonError};

use rxpath_trace::{Counter, Time};

use super::{MS, ack_policy};
use crate::cx::{Cx, Rng};

/// What is left of the present second's challenge ACKs, shared by all Cpus.
#[derive(Debug, Default)]
pub struct ChallengeAcks(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    /// Which second of the stack's clock, plus one; 0 before the first.
    number: u64,
    left: u32,
}

impl ChallengeAcks {
    /// Takes one of the second's, or there is none. The most, `limit`, is drawn anew for each second, from half of it to
    /// one and a half, so that counting those that come tells nobody how many others were sent. The largest number sets
    /// no limit; nor do 0 and what is below, as in the kernel.
    fn take(&self, limit: i32, now: Time, rng: &mut Rng) -> bool {
        let Some(limit) = u32::try_from(limit).ok().filter(|limit| (1..i32::MAX as u32).contains(limit)) else {
            return true;
        };
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.0 / (1_000 * MS) + 1;
        if second.number != number {
            *second = Second { number, left: limit.div_ceil(2).saturating_add(rng.below(limit)) };
        }
        let taken = second.left > 0;
        second.left = second.left.saturating_sub(1);
        taken
    }
}

/// Whether a challenge ACK may go now: one for each `tcp_invalid_ratelimit` and connection, whose last answer of the kind
/// was at `last`, and then as many as the namespace has left.
pub(super) fn may_challenge(last: &mut Option<Time>, cx: &mut Cx) -> bool {
    if ack_policy::oow_rate_limited(last, cx, Counter::TcpExtTCPACKSkippedChallenge) {
        return false;
    }
    let may = cx.net.challenge_acks.take(cx.net.sysctl.tcp_challenge_ack_limit, cx.now, &mut cx.rng);
    if may {
        cx.count(Counter::TcpExtTCPChallengeACK);
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_in_a_second(acks: &ChallengeAcks, limit: i32, second: u64, rng: &mut Rng) -> u32 {
        (0..40).map(|nth| u32::from(acks.take(limit, Time::from_millis(1_000 * second + nth), rng))).sum()
    }

    #[test]
    fn a_second_has_from_half_of_the_limit_to_one_and_a_half() {
        // As Linux 6.18 sent them: limit, least, most.
        let limited = [(1, 1, 1), (2, 1, 2), (3, 2, 4), (10, 5, 14), (11, 6, 16)];
        let free = [0, i32::MAX, -1, -5, i32::MIN].map(|limit| (limit, 40, 40));
        for (limit, least, most) in limited.into_iter().chain(free) {
            let (acks, mut rng) = (ChallengeAcks::default(), Rng::new(1));
            let seen: Vec<_> = (0..200).map(|second| taken_in_a_second(&acks, limit, second, &mut rng)).collect();
            assert_eq!((seen.iter().min(), seen.iter().max()), (Some(&least), Some(&most)), "limit {limit}");
        }
    }
}
