//! How many messages go out: token buckets for the whole host and for each destination.
//!
//! Only types of the mask are limited (by default the errors 3, 4, 11 and 12), and "fragmentation needed" never. The
//! host's bucket is filled and emptied with a jitter, so that nobody can measure with it what others draw from it
//! (CVE-2020-25705).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rxpath_trace::{Counter, Time};
use rxpath_wire::{Addr, icmp as wire_icmp};

use crate::cx::{Cx, Rng};

const MS: u64 = 1_000_000;
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

/// The limits, by the names and with the defaults of the sysctls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    /// `net.ipv4.icmp_msgs_per_sec`: messages a second from the whole host.
    pub msgs_per_sec: u32,
    /// `net.ipv4.icmp_msgs_burst`: messages at once from the whole host.
    pub msgs_burst: u32,
    /// `net.ipv4.icmp_ratelimit`: milliseconds between two messages to a destination; 0 sets no limit.
    pub ratelimit_ms: u32,
    /// `net.ipv4.icmp_ratemask`: bit `n` limits messages of type `n`.
    pub ratemask: u32,
}

impl Default for LimitConfig {
    fn default() -> LimitConfig {
        LimitConfig { msgs_per_sec: 1_000, msgs_burst: 50, ratelimit_ms: 1_000, ratemask: 6_168 }
    }
}

/// The buckets, shared by all Cpus; touched only by messages that are limited.
#[derive(Debug)]
pub struct RateLimits {
    config: LimitConfig,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// Tokens of the whole host, and when they were last filled up.
    credit: u32,
    filled: Time,
    hosts: BTreeMap<Addr, HostBucket>,
    redirected: BTreeMap<Addr, Redirected>,
}

/// A sender that was told of better ways.
#[derive(Clone, Copy, Debug)]
struct Redirected {
    told: u32,
    last: Time,
}

/// One destination's bucket; tokens are nanoseconds of patience.
#[derive(Clone, Copy, Debug)]
struct HostBucket {
    tokens: u64,
    filled: Time,
}

impl Default for RateLimits {
    fn default() -> RateLimits {
        RateLimits::new(LimitConfig::default())
    }
}

impl RateLimits {
    /// Full buckets.
    pub fn new(config: LimitConfig) -> RateLimits {
        let buckets = Buckets { credit: config.msgs_burst, filled: Time::ZERO, ..Buckets::default() };
        RateLimits { config, buckets: Mutex::new(buckets) }
    }

    /// The limits.
    pub fn config(&self) -> &LimitConfig {
        &self.config
    }

    /// Whether a type and code are limited at all.
    fn limits(&self, kind: u8, code: u8) -> bool {
        let free = kind == wire_icmp::DEST_UNREACHABLE && code == wire_icmp::FRAGMENTATION_NEEDED;
        kind < 32 && self.config.ratemask & 1 << kind != 0 && !free
    }

    /// Takes a token of the host's and one of the destination's bucket, or none.
    ///
    /// # Errors
    /// The counter of the bucket that is empty.
    pub(super) fn take(&self, dst: Addr, now: Time, rng: &mut Rng) -> Result<(), Counter> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.fill(&self.config, now);
        if buckets.credit == 0 {
            return Err(Counter::IcmpOutRateLimitGlobal);
        }
        let cost = u64::from(self.config.ratelimit_ms) * MS;
        let burst = cost * HOST_BURST;
        if self.config.ratelimit_ms != 0 && !buckets.take_of_host(dst, cost, burst, burst, now) {
            return Err(Counter::IcmpOutRateLimitHost);
        }
        // One token, and up to two more by chance.
        buckets.credit = buckets.credit.saturating_sub(1 + rng.below(3));
        Ok(())
    }
}

impl RateLimits {
    /// Whether a sender may be told once more that there is no way for what it sends (`ip_error`): out of the same bucket
    /// as all messages to it.
    pub fn take_route_error(&self, src: Addr, now: Time) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let most = u64::from(self.config.ratelimit_ms) * MS * HOST_BURST;
        buckets.take_of_host(src, ROUTE_ERROR_COST, ROUTE_ERROR_BURST, most.max(ROUTE_ERROR_BURST), now)
    }

    /// Whether a sender may be told once more of a better way.
    pub(super) fn take_redirect(&self, src: Addr, now: Time) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take_redirect(src, now)
    }
}

impl Buckets {
    fn take_redirect(&mut self, src: Addr, now: Time) -> bool {
        let silent = |known: &Redirected| now - known.last > REDIRECT_SILENCE;
        if self.redirected.len() >= MAX_HOSTS && !self.redirected.contains_key(&src) {
            self.redirected.retain(|_, known| !silent(known));
            if self.redirected.len() >= MAX_HOSTS {
                return false;
            }
        }
        let known = self.redirected.entry(src).or_insert(Redirected { told: 0, last: now });
        if silent(known) {
            known.told = 0;
        }
        if known.told >= REDIRECTS {
            // It does not listen; as long as it goes on, nothing is forgotten.
            known.last = now;
            return false;
        }
        let due = known.told == 0 || now - known.last > REDIRECT_GAP << known.told;
        if due {
            (known.told, known.last) = (known.told + 1, now);
        }
        due
    }

    fn fill(&mut self, config: &LimitConfig, now: Time) {
        let passed = now - self.filled;
        if passed < REFILL {
            return;
        }
        let earned = u64::from(config.msgs_per_sec) * passed.min(1_000 * MS) / (1_000 * MS);
        if earned > 0 {
            self.credit = self.credit.saturating_add(earned as u32).min(config.msgs_burst);
            self.filled = now;
        }
    }

    /// Takes `cost` out of a bucket that holds at most `burst` now. What has `full` may be forgotten.
    fn take_of_host(&mut self, dst: Addr, cost: u64, burst: u64, full: u64, now: Time) -> bool {
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&dst) {
            self.hosts.retain(|_, host| host.tokens + (now - host.filled) < full);
            if self.hosts.len() >= MAX_HOSTS {
                return false;
            }
        }
        let host = self.hosts.entry(dst).or_insert(HostBucket { tokens: burst, filled: now });
        host.tokens = (host.tokens + (now - host.filled)).min(burst);
        host.filled = now;
        let enough = host.tokens >= cost;
        if enough {
            host.tokens -= cost;
        }
        enough
    }
}

/// Whether a message of this type and code may go to `dst` now; counts it if not.
pub(super) fn allows(cx: &mut Cx, kind: u8, code: u8, dst: Addr) -> bool {
    let limits = &cx.net.icmp_limits;
    if !limits.limits(kind, code) {
        return true;
    }
    match limits.take(dst, cx.now, &mut cx.rng) {
        Ok(()) => true,
        Err(counter) => {
            cx.count(counter);
            false
        }
    }
}
