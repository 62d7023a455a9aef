//! What this host was told about ways by ICMP: links on them that take less (RFC 1191), and better gateways (RFC 1122
//! section 3.2.2.2).
//!
//! Kept by destination, bounded, in shards behind a lock each. Nothing is looked up here as long as nothing was told.
//!
//! Mirrors `update_or_create_fnhe`, `__ip_rt_update_pmtu`, `__ip_do_redirect`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_trace::Time;
use rxpath_wire::Addr;

use super::Route;

/// Number of shards: a power of two.
const SHARDS: usize = 64;
/// Destinations of a shard. A new one takes the place of the one that expires first.
const PER_SHARD: usize = 128;
/// The least path MTU that is believed (`net.ipv4.route.min_pmtu`).
pub const MIN_PMTU: u16 = 552;
/// How long what was told holds: 600 s (`net.ipv4.route.mtu_expires`).
pub const EXPIRES: u64 = 600_000_000_000;

/// What is known of one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exception {
    mtu: Option<u16>,
    gateway: Option<Addr>,
    expires: Time,
}

/// The table; shared by all Cpus, and kept when the configuration changes.
#[derive(Debug)]
pub struct Exceptions {
    shards: Box<[Mutex<HashMap<Addr, Exception>>]>,
    len: AtomicUsize,
    /// When the next one expires, or earlier; `u64::MAX` without any.
    next: AtomicU64,
    /// Grows with every change.
    changes: AtomicU64,
}

impl Default for Exceptions {
    fn default() -> Exceptions {
        Exceptions {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            next: AtomicU64::new(u64::MAX),
            changes: AtomicU64::new(0),
        }
    }
}

impl Exceptions {
    fn shard(&self, dst: Addr) -> MutexGuard<'_, HashMap<Addr, Exception>> {
        let word = dst.0.iter().fold(0u32, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte));
        self.shards[(word >> 8 ^ word) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Destinations that something is known of.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// True if nothing was told.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often anything changed: who keeps a way looks it up anew then.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// When [`Exceptions::expire`] is to be called, if ever.
    pub fn next_deadline(&self) -> Option<Time> {
        let next = self.next.load(Ordering::Relaxed);
        (next != u64::MAX).then_some(Time(next))
    }

    /// `ip_rt_update_pmtu`: a link on the way to `dst` takes packets of `mtu` bytes at most, and until now we believed in
    /// `current`. Gives what is believed from now on; None if nothing changes.
    pub fn update_pmtu(&self, dst: Addr, mtu: u16, current: u16, now: Time) -> Option<u16> {
        if mtu > current {
            return None;
        }
        let mtu = if mtu < MIN_PMTU { MIN_PMTU.min(current) } else { mtu };
        self.change(dst, now, |exception| exception.mtu = Some(mtu));
        Some(mtu)
    }

    /// The way to `dst` leads by `gateway` from now on.
    pub fn redirect(&self, dst: Addr, gateway: Addr, now: Time) {
        self.change(dst, now, |exception| exception.gateway = Some(gateway));
    }

    fn change(&self, dst: Addr, now: Time, change: impl FnOnce(&mut Exception)) {
        let expires = now + EXPIRES;
        let mut shard = self.shard(dst);
        if shard.len() >= PER_SHARD
            && !shard.contains_key(&dst)
            && let Some(oldest) = shard.iter().min_by_key(|(_, known)| known.expires).map(|(dst, _)| *dst)
        {
            shard.remove(&oldest);
            self.len.fetch_sub(1, Ordering::Release);
        }
        let fresh = !shard.contains_key(&dst);
        let exception = shard.entry(dst).or_insert(Exception { mtu: None, gateway: None, expires });
        change(exception);
        exception.expires = expires;
        self.len.fetch_add(usize::from(fresh), Ordering::Release);
        self.next.fetch_min(expires.0, Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Forgets what has expired. True if anything did: who keeps a way looks it up anew then.
    pub fn expire(&self, now: Time) -> bool {
        let mut next = u64::MAX;
        let mut gone = 0;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|_, exception| exception.expires > now);
            gone += before - shard.len();
            next = shard.values().fold(next, |next, exception| next.min(exception.expires.0));
        }
        self.len.fetch_sub(gone, Ordering::Release);
        self.next.store(next, Ordering::Relaxed);
        if gone > 0 {
            self.changes.fetch_add(1, Ordering::Release);
        }
        gone > 0
    }

    /// Changes a way that was found as it was told.
    #[cold]
    pub(super) fn apply(&self, dst: Addr, route: &mut Route) {
        if let Some(exception) = self.shard(dst).get(&dst) {
            route.mtu = exception.mtu.map_or(route.mtu, |mtu| mtu.min(route.mtu));
            route.nexthop = exception.gateway.unwrap_or(route.nexthop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> Addr {
        Addr::from_v4((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn a_path_gets_narrower_only_and_not_below_the_least() {
        let table = Exceptions::default();
        let at = Time::from_secs(1);
        assert_eq!(table.update_pmtu(host(1), 1_400, 1_500, at), Some(1_400));
        assert_eq!(table.update_pmtu(host(1), 1_450, 1_400, at), None, "it does not get wider");
        assert_eq!(table.update_pmtu(host(1), 68, 1_400, at), Some(552));
        assert_eq!(table.update_pmtu(host(2), 68, 500, at), Some(500), "the link itself takes less");
        assert_eq!((table.len(), table.changes()), (2, 3));
    }

    #[test]
    fn what_was_told_holds_for_ten_minutes() {
        let table = Exceptions::default();
        assert_eq!(table.next_deadline(), None);
        table.update_pmtu(host(1), 1_400, 1_500, Time::from_secs(1));
        table.redirect(host(2), host(9), Time::from_secs(2));
        assert_eq!(table.next_deadline(), Some(Time::from_secs(601)));
        assert!(table.expire(Time::from_secs(601)));
        assert_eq!((table.len(), table.next_deadline()), (1, Some(Time::from_secs(602))));
        assert!(table.expire(Time::from_secs(700)) && !table.expire(Time::from_secs(701)));
        assert!(table.is_empty() && table.next_deadline().is_none());
    }

    #[test]
    fn many_destinations_take_bounded_memory() {
        let table = Exceptions::default();
        for n in 0..100_000 {
            table.update_pmtu(host(n), 1_400, 1_500, Time(u64::from(n)));
        }
        assert!(table.len() <= SHARDS * PER_SHARD, "{}", table.len());
        assert!(table.len() > SHARDS * PER_SHARD / 2, "spread over the shards: {}", table.len());
    }
}
