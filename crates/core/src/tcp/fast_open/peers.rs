//! What is known of peers that Fast Open was tried with, and whether it is paused because something on the way swallows it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_trace::{Counter, Time};
use rxpath_wire::Addr;
use rxpath_wire::tcp::FastOpen;

use crate::cx::Cx;

/// Peers that are remembered; of more, those go that were not asked for the longest.
const MAX_PEERS: usize = 1_024;
/// How often the time of a pause doubles at most.
const MAX_DOUBLINGS: u32 = 6;

/// What connections from here know of each other's Fast Opens.
#[derive(Debug, Default)]
pub struct FastOpenPeers {
    peers: Mutex<Peers>,
    /// How often something was found to swallow Fast Opens since it last did not.
    blackholes: AtomicU32,
    /// When that was last, in nanoseconds.
    paused_at: AtomicU64,
}

#[derive(Debug, Default)]
struct Peers {
    /// By our address and the peer's.
    known: HashMap<(Addr, Addr), Entry>,
    /// Counts look-ups and answers, as a clock.
    uses: u64,
}

#[derive(Debug, Default)]
struct Entry {
    peer: Peer,
    used: u64,
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Peer {
    /// What it announced as the most that it takes; 0 if nothing is known.
    pub(in super::super) mss: u16,
    /// Its cookie.
    pub(in super::super) cookie: Option<FastOpen>,
    /// How it was asked for one in vain.
    silent: Silence,
}

/// Which option a peer did not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Silence {
    /// None so far.
    #[default]
    None,
    /// The one that has a number.
    Numbered,
    /// Nor the experimental one.
    Both,
}

impl Peer {
    /// How it is asked for a cookie: as an experiment if it once did not answer to the number.
    pub(in super::super) fn request(&self) -> FastOpen {
        FastOpen::request(self.silent == Silence::Numbered)
    }

    fn answered(&mut self, asked: Option<FastOpen>, answer: Option<FastOpen>) {
        match (asked, answer) {
            (_, Some(answer)) if !answer.is_request() => self.cookie = Some(answer),
            (Some(asked), None) if asked.is_request() => {
                self.silent = match (asked.experimental, self.silent) {
                    (true, _) => Silence::Both,
                    (false, Silence::None) => Silence::Numbered,
                    (false, silent) => silent,
                };
            }
            _ => {}
        }
    }
}

impl Peers {
    /// The entry of a peer, which is made if need be.
    fn entry(&mut self, between: (Addr, Addr)) -> &mut Entry {
        if self.known.len() >= MAX_PEERS && !self.known.contains_key(&between) {
            let oldest = self.known.iter().min_by_key(|(_, entry)| entry.used).map(|(between, _)| *between);
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
        self.uses += 1;
        let used = self.uses;
        let entry = self.known.entry(between).or_default();
        entry.used = used;
        entry
    }
}

impl FastOpenPeers {
    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the peer of a connection, ours first (`tcp_fastopen_cache_get`).
    pub(in super::super) fn look_up(&self, between: (Addr, Addr)) -> Peer {
        let mut peers = self.lock();
        if peers.known.contains_key(&between) { peers.entry(between).peer } else { Peer::default() }
    }

    /// The answer to a SYN: the peer's segment size, and what it said to the option that it was sent
    /// (`tcp_fastopen_cache_set`).
    pub(super) fn learn(&self, between: (Addr, Addr), mss: u16, asked: Option<FastOpen>, answer: Option<FastOpen>) {
        let mut peers = self.lock();
        let peer = &mut peers.entry(between).peer;
        peer.mss = mss;
        peer.answered(asked, answer);
    }

    /// Peers that are remembered.
    pub fn len(&self) -> usize {
        self.lock().known.len()
    }

    /// True if none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether Fast Open is paused (`tcp_fastopen_active_should_disable`). `timeout_s` is what the first pause lasts.
    pub(in super::super) fn is_paused(&self, now: Time, timeout_s: u32) -> bool {
        let times = self.blackholes.load(Ordering::Acquire);
        if timeout_s == 0 || times == 0 {
            return false;
        }
        let length = (u64::from(timeout_s) * 1_000_000_000) << (times - 1).min(MAX_DOUBLINGS);
        now.0 < self.paused_at.load(Ordering::Relaxed).saturating_add(length)
    }

    /// Something on the way swallows Fast Opens: none from here for a while (`tcp_fastopen_active_disable`).
    pub(super) fn pause(&self, cx: &Cx) {
        if cx.net.sysctl.tcp_fastopen_blackhole_timeout_sec == 0 {
            return;
        }
        self.paused_at.store(cx.now.0, Ordering::Relaxed);
        self.blackholes.fetch_add(1, Ordering::AcqRel);
        cx.count(Counter::TcpExtTCPFastOpenBlackhole);
    }

    /// One went well, with data from the peer: the next pause is a short one.
    pub(super) fn went_well(&self) {
        if self.blackholes.load(Ordering::Relaxed) > 0 {
            self.blackholes.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(last: [u8; 2]) -> (Addr, Addr) {
        (Addr::from_v4([10, 0, 0, 1]), Addr::from_v4([10, 1, last[0], last[1]]))
    }

    #[test]
    fn a_peer_that_does_not_answer_to_the_number_is_asked_once_as_an_experiment() {
        let peers = FastOpenPeers::default();
        let who = between([0, 1]);
        let asked = |_| {
            let request = peers.look_up(who).request();
            peers.learn(who, 1_400, Some(request), None);
            request.experimental
        };
        assert_eq!([0, 1, 2, 3].map(asked), [false, true, false, false]);
        let cookie = FastOpen::with_cookie(&[1; 8], true);
        peers.learn(who, 1_300, None, cookie);
        peers.learn(who, 1_200, cookie, None);
        let known = peers.look_up(who);
        assert_eq!((known.mss, known.cookie), (1_200, cookie), "a cookie is kept until there is another");
        // Who answers with an empty option knows it.
        let who = between([0, 2]);
        peers.learn(who, 1_400, Some(FastOpen::request(false)), Some(FastOpen::request(false)));
        assert_eq!(peers.look_up(who).request(), FastOpen::request(false));
    }

    #[test]
    fn many_peers_take_bounded_memory_and_those_in_use_stay() {
        let peers = FastOpenPeers::default();
        let cookie = FastOpen::with_cookie(&[2; 8], false);
        peers.learn(between([0, 0]), 1_000, None, cookie);
        for index in 1..=3_000u16 {
            peers.learn(between(index.to_be_bytes()), 1_460, None, cookie);
            assert_eq!(peers.look_up(between([0, 0])).mss, 1_000);
        }
        assert_eq!(peers.len(), MAX_PEERS);
        assert_eq!(peers.look_up(between([0, 1])), Peer::default(), "forgotten, and not remembered by being asked for");
        assert_eq!(peers.len(), MAX_PEERS);
    }

    #[test]
    fn pauses_double_six_times_and_end() {
        let peers = FastOpenPeers::default();
        assert!(!peers.is_paused(Time::from_secs(1), 5));
        for times in 1..=10u32 {
            peers.blackholes.store(times, Ordering::Relaxed);
            peers.paused_at.store(Time::from_secs(100).0, Ordering::Relaxed);
            let length = 5 << (times - 1).min(6);
            assert!(peers.is_paused(Time::from_secs(100 + length - 1), 5));
            assert!(!peers.is_paused(Time::from_secs(100 + length), 5));
            assert!(!peers.is_paused(Time::from_secs(100), 0), "switched off");
        }
        peers.went_well();
        assert!(!peers.is_paused(Time::from_secs(100), 5));
    }
}
