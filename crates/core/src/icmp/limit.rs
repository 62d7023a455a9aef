//! How many messages go out: token buckets for the whole host and for each destination.
//!
//! Only types of the mask are limited (by default the errors 3, 4, 11 and 12), and "fragmentation needed" never. The
//! host's bucket is filled and emptied with a jitter, so that nobody can measure with it what others draw from it
//! (CVE-2020-25705).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_trace::{Counter, Time};
use rxpath_wire::{Addr, icmp as wire_icmp};

use crate::cx::{Cx, Rng};
use crate::sysctl::Sysctls;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Least time between two fillings of the host's bucket.
const REFILL: u64 = 20 * MS;
/// Messages that a destination may draw at once (`XRLIM_BURST_FACTOR`).
const HOST_BURST: u64 = 6;
/// Destinations that are remembered. One is forgotten when its bucket is full again, after 6 s by default, and the host's
/// bucket gives tokens for some 6,000 destinations in that time.
pub(super) const MAX_HOSTS: usize = 8_192;

/// What telling of a packet without a route costs its sender, and what he can save up (`net.ipv4.route.error_cost`,
/// `error_burst`).
const ROUTE_ERROR_COST: u64 = 1_000 * MS;
const ROUTE_ERROR_BURST: u64 = 5 * ROUTE_ERROR_COST;
/// Redirects that one sender is told (`net.ipv4.route.redirect_number`), the first gap between two of them, which doubles
/// each time (`redirect_load`), and the silence after which all is forgotten (`redirect_silence`).
const REDIRECTS: u32 = 9;
const REDIRECT_GAP: u64 = 20 * MS;
const REDIRECT_SILENCE: u64 = REDIRECT_GAP << (REDIRECTS + 1);

/// What a destination has saved up that was never told anything.
const SAVED_UP: u64 = 60 * SECOND;
/// Silence after which a destination has saved up what it can by default.
const FORGOTTEN: u64 = HOST_BURST * SECOND;

/// The buckets, shared by all Cpus; touched only by messages that are limited. How much they hold is said by the sysctls
/// `icmp_msgs_per_sec`, `icmp_msgs_burst` and `icmp_ratelimit`.
#[derive(Debug, Default)]
pub struct RateLimits(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// Tokens of the whole host, and when they were last filled up; None before the first.
    credit: u32,
    filled: Option<Time>,
    hosts: BTreeMap<Addr, Host>,
}

/// A host that was told something (`inet_peer`): one bucket for messages, for "no way there" and, in that it empties it,
/// for redirects. Tokens are nanoseconds of patience.
#[derive(Clone, Copy, Debug)]
struct Host {
    tokens: u64,
    last: Time,
    /// Redirects that it was told.
    redirected: u32,
}

/// Whether a type and code are limited at all (`icmp_ratemask`).
fn is_limited(sysctl: &Sysctls, kind: u8, code: u8) -> bool {
    let free = kind == wire_icmp::DEST_UNREACHABLE && code == wire_icmp::FRAGMENTATION_NEEDED;
    kind < 32 && sysctl.icmp_ratemask & 1 << kind != 0 && !free
}

impl RateLimits {
    /// Takes a token of the host's and one of the destination's bucket, or none.
    ///
    /// # Errors
    /// The counter of the bucket that is empty.
    pub(super) fn take(&self, sysctl: &Sysctls, dst: Addr, now: Time, rng: &mut Rng) -> Result<(), Counter> {
        let mut buckets = self.lock();
        buckets.fill(sysctl, now);
        if buckets.credit == 0 {
            return Err(Counter::IcmpOutRateLimitGlobal);
        }
        let cost = u64::from(sysctl.icmp_ratelimit) * MS;
        if cost != 0 && !buckets.host(dst, now).is_some_and(|host| host.take(cost, cost * HOST_BURST, now)) {
            return Err(Counter::IcmpOutRateLimitHost);
        }
        // One token, and up to two more by chance.
        buckets.credit = buckets.credit.saturating_sub(1 + rng.below(3));
        Ok(())
    }

    /// Whether a sender may be told once more that there is no way for what it sends (`ip_error`): out of the same bucket
    /// as all messages to it.
    pub fn take_route_error(&self, src: Addr, now: Time) -> bool {
        self.lock().host(src, now).is_some_and(|host| host.take(ROUTE_ERROR_COST, ROUTE_ERROR_BURST, now))
    }

    /// Whether a sender may be told once more of a better way.
    pub(super) fn take_redirect(&self, src: Addr, now: Time) -> bool {
        self.lock().host(src, now).is_some_and(|host| host.take_redirect(now))
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn fill(&mut self, sysctl: &Sysctls, now: Time) {
        // A host that never sent anything has waited for long enough.
        let passed = self.filled.map_or(SECOND, |filled| now - filled);
        if passed < REFILL {
            return;
        }
        let earned = u64::from(sysctl.icmp_msgs_per_sec) * passed.min(SECOND) / SECOND;
        if earned > 0 {
            self.credit = self.credit.saturating_add(earned as u32).min(sysctl.icmp_msgs_burst);
            self.filled = Some(now);
        }
    }

    /// What is known of a destination; None if it is one too many.
    fn host(&mut self, addr: Addr, now: Time) -> Option<&mut Host> {
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&addr) {
            self.hosts.retain(|_, host| now - host.last < host.memory());
            if self.hosts.len() >= MAX_HOSTS {
                return None;
            }
        }
        // One that was never told anything has saved up for as long as it can.
        Some(self.hosts.entry(addr).or_insert(Host { tokens: SAVED_UP, last: now, redirected: 0 }))
    }
}

impl Host {
    /// How long after its last message a destination is no different from an unknown one.
    fn memory(&self) -> u64 {
        if self.redirected > 0 { REDIRECT_SILENCE } else { FORGOTTEN }
    }

    /// Takes `cost` out of the bucket, which holds at most `burst` now (`inet_peer_xrlim_allow`).
    fn take(&mut self, cost: u64, burst: u64, now: Time) -> bool {
        self.tokens = (self.tokens + (now - self.last)).min(burst);
        self.last = now;
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }

    fn take_redirect(&mut self, now: Time) -> bool {
        let fresh = self.tokens == SAVED_UP;
        if fresh || now - self.last > REDIRECT_SILENCE {
            (self.tokens, self.redirected) = (0, 0);
        }
        if self.redirected >= REDIRECTS {
            // It does not listen; as long as it goes on, nothing is forgotten.
            self.last = now;
            return false;
        }
        let due = self.redirected == 0 || now - self.last > REDIRECT_GAP << self.redirected;
        if due {
            (self.redirected, self.last) = (self.redirected + 1, now);
        }
        due
    }
}

/// Whether a message of this type and code may go to `dst` now; counts it if not.
pub(super) fn allows(cx: &mut Cx, kind: u8, code: u8, dst: Addr) -> bool {
    if !is_limited(&cx.net.sysctl, kind, code) {
        return true;
    }
    match cx.net.icmp_limits.take(&cx.net.sysctl, dst, cx.now, &mut cx.rng) {
        Ok(()) => true,
        Err(counter) => {
            cx.count(counter);
            false
        }
    }
}
