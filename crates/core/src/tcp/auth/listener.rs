//! Keys of a listener: segments for it and its half-open connections are verified and answered with them. Half-open
//! connections have no keys of their own: they are looked up anew for each segment, as in Linux.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_mem::Skb;
use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{SeqNum, Tuple};

use super::super::Segment;
use super::ao::{AoCounters, AoIds, Isns, verify_code};
use super::conn::SockAuth;
use super::keys::{AoKey, AuthKeys, KeyError};
use super::mac::{TrafficKey, is_same, md5_hash};
use super::md5::{inbound_md5_hash, received, unexpected_md5};
use super::option::{self, AoOption, Auth};
use super::signer::{AoSigner, Signer};
use super::sne::Extended;
use crate::cx::Cx;

/// The keys of a listener, and what it has seen of TCP-AO.
#[derive(Debug, Default)]
pub struct ListenerAuth {
    /// There are keys.
    keyed: AtomicBool,
    state: Mutex<(AuthKeys, AoCounters)>,
}

/// A half-open connection, as far as signatures depend on it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct HalfOpen {
    pub(in super::super) tuple: Tuple,
    pub(in super::super) isns: Isns,
    /// The numbers of the peer's SYN, if it carried a code.
    pub(in super::super) ids: Option<AoIds>,
}

/// What is known of the connection of a segment.
#[derive(Clone, Copy)]
enum Known<'a> {
    Nothing(&'a Tuple),
    HalfOpen(&'a HalfOpen),
}

impl ListenerAuth {
    fn state(&self) -> MutexGuard<'_, (AuthKeys, AoCounters)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the keys: those that were not accepted yet may have the old ones.
    pub fn change<R>(&self, change: impl FnOnce(&mut AuthKeys) -> R) -> R {
        let mut state = self.state();
        let changed = change(&mut state.0);
        self.keyed.store(!state.0.is_empty(), Ordering::Release);
        changed
    }

    /// The keys as they are now.
    pub fn keys(&self) -> AuthKeys {
        self.state().0.clone()
    }

    /// What was seen of TCP-AO in handshakes.
    pub fn ao_counters(&self) -> AoCounters {
        self.state().1
    }

    #[inline(always)]
    fn is_keyed(&self) -> bool {
        self.keyed.load(Ordering::Acquire)
    }

    /// `tcp_inbound_hash` of a listener: a segment of nobody's. Gives the numbers of the code that it carries, if that is
    /// verified.
    #[inline]
    pub(in super::super) fn inbound_hash(
        &self,
        cx: &Cx,
        skb: &Skb,
        seg: &Segment,
        tuple: &Tuple,
    ) -> Result<Option<AoIds>, DropReason> {
        if !self.is_keyed() && !option::may_carry(seg) {
            return Ok(None);
        }
        self.judge(cx, skb, seg, Known::Nothing(tuple))
    }

    /// The same of a half-open connection.
    #[inline]
    pub(in super::super) fn inbound_hash_of(
        &self,
        cx: &Cx,
        skb: &Skb,
        seg: &Segment,
        half_open: &HalfOpen,
    ) -> Result<(), DropReason> {
        if !self.is_keyed() && !option::may_carry(seg) && half_open.ids.is_none() {
            return Ok(());
        }
        self.judge(cx, skb, seg, Known::HalfOpen(half_open)).map(|_| ())
    }

    #[cold]
    fn judge(&self, cx: &Cx, skb: &Skb, seg: &Segment, known: Known<'_>) -> Result<Option<AoIds>, DropReason> {
        let mut state = self.state();
        let (keys, counters) = &mut *state;
        let (tuple, ids) = match known {
            Known::Nothing(tuple) => (tuple, None),
            Known::HalfOpen(half_open) => (&half_open.tuple, half_open.ids),
        };
        let segment = received(tuple, skb, seg).ok_or(DropReason::PktTooSmall)?;
        let knows_ao = !keys.ao().is_empty() || keys.settings.required || ids.is_some();
        let options = seg.option_bytes(skb);
        let option = if knows_ao { option::parse_all(options)? } else { option::parse(options)? };
        if let Some(key) = keys.md5_for(tuple.remote) {
            return inbound_md5_hash(cx, key, &segment, option).map(|()| None);
        }
        match option {
            Auth::Md5(_) => Err(unexpected_md5(cx)),
            Auth::None if keys.settings.required || ids.is_some() || keys.ao_for(tuple.remote).next().is_some() => {
                cx.count(Counter::TcpExtTCPAORequired);
                counters.required += 1;
                Err(DropReason::TcpAonotfound)
            }
            Auth::None => Ok(None),
            // RFC 5925 section 7.3: who has no keys takes no notice.
            Auth::Ao(_) if !knows_ao => Ok(None),
            Auth::Ao(_) if ids.is_none() && matches!(known, Known::HalfOpen(_)) => Err(DropReason::TcpAounexpected),
            Auth::Ao(option) => {
                let Some(key) = keys.ao_for(tuple.remote).find(|key| key.recv_id == option.key_id) else {
                    cx.count(Counter::TcpExtTCPAOKeyNotFound);
                    counters.key_not_found += 1;
                    return Err(DropReason::TcpAokeynotfound);
                };
                let traffic = traffic_key(key, seg, known);
                if !verify_code(cx, key, (&traffic.0, traffic.1), &segment, option.mac) {
                    counters.bad += 1;
                    return Err(DropReason::TcpAofailure);
                }
                counters.good += 1;
                let AoOption { key_id, rnext, .. } = option;
                Ok(Some(AoIds { key_id, rnext }))
            }
        }
    }

    /// What an answer for a half-open connection at `seq` is signed with.
    ///
    /// # Errors
    /// It cannot be signed as the peer wants it, and must not go.
    pub(in super::super) fn signer(&self, half_open: &HalfOpen, seq: SeqNum) -> Result<Option<Signer>, KeyError> {
        if !self.is_keyed() && half_open.ids.is_none() {
            return Ok(None);
        }
        let HalfOpen { tuple, isns, ids } = half_open;
        let state = self.state();
        let keys = &state.0;
        let Some(ids) = ids else {
            return Ok(keys.md5_for(tuple.remote).map(|key| Signer::Md5(key.secret)));
        };
        // RFC 5925 section 7.4: the peer asked for this key, or none at all would be believed.
        let key = keys.ao_for(tuple.remote).find(|key| key.send_id == ids.rnext).ok_or(KeyError::NotFound)?;
        let traffic = TrafficKey::derive(key, &isns.outgoing(tuple));
        let sne = Extended::starting_at(isns.local).of(seq);
        Ok(Some(Signer::Ao(AoSigner::new(key, traffic, ids.key_id, sne))))
    }

    /// Whether the peer's segments carry signatures of RFC 2385.
    pub(in super::super) fn signs_md5(&self, tuple: &Tuple) -> bool {
        self.is_keyed() && self.state().0.md5_for(tuple.remote).is_some()
    }

    /// The key with which a segment of nobody's is signed, if it is: the answer is believed with the same.
    pub(in super::super) fn signer_of_stray(
        &self,
        skb: &Skb,
        seg: &Segment,
        tuple: &Tuple,
        digest: &[u8],
    ) -> Option<Signer> {
        let state = self.state();
        let key = state.0.md5_for(tuple.remote)?;
        let segment = received(tuple, skb, seg)?;
        is_same(&md5_hash(&key.secret, &segment), digest).then_some(Signer::Md5(key.secret))
    }

    /// What the connection inherits that a half-open one becomes.
    pub(in super::super) fn child(&self, half_open: &HalfOpen) -> Option<SockAuth> {
        if !self.is_keyed() && half_open.ids.is_none() {
            return None;
        }
        SockAuth::accepted(&self.state().0, half_open.ids, &half_open.tuple, half_open.isns)
    }
}

/// The traffic key of a received segment, and the extension of its sequence number.
fn traffic_key(key: &AoKey, seg: &Segment, known: Known<'_>) -> (TrafficKey, u32) {
    let opens = seg.flags.syn() && !seg.flags.ack();
    let (tuple, mut isns) = match known {
        Known::HalfOpen(half_open) => (&half_open.tuple, half_open.isns),
        // What is no SYN may answer a SYN-ACK of which nothing was remembered.
        Known::Nothing(tuple) if !opens => (tuple, Isns { local: seg.ack - 1, remote: seg.seq - 1 }),
        Known::Nothing(tuple) => (tuple, Isns { local: SeqNum(0), remote: seg.seq }),
    };
    if opens {
        isns.local = SeqNum(0);
    }
    let sne = Extended::starting_at(isns.remote).of(seg.seq);
    (TrafficKey::derive(key, &isns.incoming(tuple)), sne)
}
