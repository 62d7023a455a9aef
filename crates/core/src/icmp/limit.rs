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

#[derive(Debug)]
struct Buckets {
    /// Tokens of the whole host, and when they were last filled up.
    credit: u32,
    filled: Time,
    hosts: BTreeMap<Addr, HostBucket>,
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
        let buckets = Buckets { credit: config.msgs_burst, filled: Time::ZERO, hosts: BTreeMap::new() };
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
        if self.config.ratelimit_ms != 0 && !buckets.take_of_host(dst, u64::from(self.config.ratelimit_ms) * MS, now) {
            return Err(Counter::IcmpOutRateLimitHost);
        }
        // One token, and up to two more by chance.
        buckets.credit = buckets.credit.saturating_sub(1 + rng.below(3));
        Ok(())
    }
}

impl Buckets {
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

    fn take_of_host(&mut self, dst: Addr, cost: u64, now: Time) -> bool {
        let most = cost * HOST_BURST;
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&dst) {
            self.hosts.retain(|_, host| host.tokens + (now - host.filled) < most);
            if self.hosts.len() >= MAX_HOSTS {
                return false;
            }
        }
        let host = self.hosts.entry(dst).or_insert(HostBucket { tokens: most, filled: now });
        host.tokens = (host.tokens + (now - host.filled)).min(most);
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
