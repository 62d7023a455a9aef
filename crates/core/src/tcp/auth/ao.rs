//! TCP-AO of one connection (RFC 5925 section 4.4): its master key tuples with the traffic keys derived from them, which of
//! them is used in either direction, sequence number extensions, counters.

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{Addr, SeqNum, Tuple};

use super::keys::{AoKey, AoSettings, AuthKeys, KEYS_MAX, KeyError, KeyMisfit};
use super::mac::{Direction, Signed, TrafficKey, is_same};
use super::option::AoOption;
use super::signer::AoSigner;
use super::sne::Extended;
use crate::cx::Cx;

/// What a socket has seen of TCP-AO (`TCP_AO_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AoCounters {
    /// Segments with a right code (`pkt_good`).
    pub good: u64,
    /// Segments with a wrong code (`pkt_bad`).
    pub bad: u64,
    /// Segments signed with a key that is not known (`pkt_key_not_found`).
    pub key_not_found: u64,
    /// Segments without a code (`pkt_ao_required`).
    pub required: u64,
    /// ICMP errors that were not believed (`pkt_dropped_icmp`).
    pub dropped_icmps: u64,
}

/// TCP-AO of a connection, as it tells of it (`TCP_AO_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AoInfo {
    /// Our number of the key that we sign with (`current_key`).
    pub current: u8,
    /// The peer's number of the key that it is asked to sign with (`rnext`).
    pub rnext: u8,
    /// What else is done.
    pub settings: AoSettings,
    /// What was seen.
    pub counters: AoCounters,
}

/// A key of a connection (`TCP_AO_GET_KEYS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AoKeyInfo {
    /// The key.
    pub key: AoKey,
    /// We sign with it.
    pub is_current: bool,
    /// The peer is asked to sign with it.
    pub is_rnext: bool,
    /// Segments that it verified.
    pub good: u64,
    /// Segments that it did not.
    pub bad: u64,
}

/// The numbers in a code's option: the sender's own of its key, and of the key that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct AoIds {
    pub(in super::super) key_id: u8,
    pub(in super::super) rnext: u8,
}

/// Initial sequence numbers of both sides.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Isns {
    pub(in super::super) local: SeqNum,
    pub(in super::super) remote: SeqNum,
}

impl Isns {
    /// Of what the peer sends.
    pub(super) fn incoming(self, tuple: &Tuple) -> Direction {
        Direction { tuple: tuple.reversed(), sisn: self.remote, disn: self.local }
    }

    /// Of what we send.
    pub(super) fn outgoing(self, tuple: &Tuple) -> Direction {
        Direction { tuple: *tuple, sisn: self.local, disn: self.remote }
    }
}

/// Whether a received code is right (`tcp_ao_verify_hash`); counts it.
pub(super) fn verify_code<'a>(
    cx: &Cx,
    key: &AoKey,
    (traffic, sne): (&TrafficKey, u32),
    segment: &Signed<'a, impl Iterator<Item = &'a [u8]> + Clone>,
    mac: &[u8],
) -> bool {
    let is_good = mac.len() == usize::from(key.mac_len)
        && traffic.code(sne, segment).get(..mac.len()).is_some_and(|code| is_same(code, mac));
    cx.count(if is_good { Counter::TcpExtTCPAOGood } else { Counter::TcpExtTCPAOBad });
    is_good
}

/// A master key tuple of a connection.
#[derive(Clone, Debug)]
struct Mkt {
    key: AoKey,
    /// For what we send and for what we receive, once both initial sequence numbers are known.
    traffic: Option<(TrafficKey, TrafficKey)>,
    good: u64,
    bad: u64,
}

impl Mkt {
    fn of(key: AoKey) -> Mkt {
        Mkt { key, traffic: None, good: 0, bad: 0 }
    }
}

/// TCP-AO of a connection.
#[derive(Clone, Debug)]
pub(super) struct Ao {
    mkts: Vec<Mkt>,
    /// Where the key is that we sign with, and the one that we ask for.
    current: usize,
    rnext: usize,
    iss: SeqNum,
    irs: Option<SeqNum>,
    snd: Extended,
    rcv: Extended,
    pub settings: AoSettings,
    pub counters: AoCounters,
}

impl Ao {
    /// Of a connection to be opened to this peer: with those of its keys that are for the peer.
    ///
    /// # Errors
    /// There are none, or the ones that are asked for are not among them.
    pub fn opening(keys: &AuthKeys, peer: Addr) -> Result<Ao, KeyError> {
        let mut ao = Ao::of(keys, peer).ok_or(KeyError::OtherKind)?;
        ao.choose(keys.current, keys.rnext)?;
        Ok(ao)
    }

    /// Of a connection that a listener made: the peer's SYN named both keys (RFC 5925 section 7.5.1).
    pub fn accepted(keys: &AuthKeys, ids: AoIds, tuple: &Tuple, isns: Isns) -> Option<Ao> {
        let mut ao = Ao::of(keys, tuple.remote)?;
        ao.rnext = ao.by_recv_id(ids.key_id).ok()?;
        ao.current = ao.by_send_id(ids.rnext).unwrap_or(ao.rnext);
        ao.begin(isns.local);
        ao.establish(tuple, isns.remote);
        Some(ao)
    }

    /// With the keys that are for a peer, if there are any, of which the first is used.
    fn of(keys: &AuthKeys, peer: Addr) -> Option<Ao> {
        let mkts: Vec<_> = keys.ao_for(peer).copied().map(Mkt::of).collect();
        let nowhere = Extended::starting_at(SeqNum(0));
        (!mkts.is_empty()).then(|| Ao {
            mkts,
            current: 0,
            rnext: 0,
            iss: SeqNum(0),
            irs: None,
            snd: nowhere,
            rcv: nowhere,
            settings: keys.settings,
            counters: AoCounters::default(),
        })
    }

    /// Our initial sequence number is chosen.
    pub fn begin(&mut self, iss: SeqNum) {
        self.iss = iss;
        self.snd = Extended::starting_at(iss);
    }

    /// The peer's is known: traffic keys can be derived.
    pub fn establish(&mut self, tuple: &Tuple, irs: SeqNum) {
        self.irs = Some(irs);
        self.rcv = Extended::starting_at(irs);
        let isns = Isns { local: self.iss, remote: irs };
        for mkt in &mut self.mkts {
            mkt.traffic = Some(derive_both(&mkt.key, tuple, isns));
        }
    }

    /// Both directions have come so far.
    pub fn advance(&mut self, snd_una: SeqNum, rcv_nxt: SeqNum) {
        if self.irs.is_some() {
            self.snd.advance(snd_una);
            self.rcv.advance(rcv_nxt);
        }
    }

    fn current_key(&self) -> Option<&AoKey> {
        self.mkts.get(self.current).map(|mkt| &mkt.key)
    }

    /// Bytes of the option in what we send.
    pub fn option_len(&self) -> u8 {
        self.current_key().map_or(0, AoKey::option_len)
    }

    /// Signs a segment that we send; a SYN without ACK by what is known of the connection then (RFC 5925 section 5.2).
    /// None while nothing but a SYN can be signed.
    pub fn signer(&self, tuple: &Tuple, seq: SeqNum, snd_una: SeqNum, opens: bool) -> Option<AoSigner> {
        let (mkt, rnext) = (self.mkts.get(self.current)?, self.mkts.get(self.rnext)?.key.recv_id);
        if opens {
            let direction = Isns { local: self.iss, remote: SeqNum(0) }.outgoing(tuple);
            return Some(AoSigner::new(&mkt.key, TrafficKey::derive(&mkt.key, &direction), rnext, 0));
        }
        let mut snd = self.snd;
        snd.advance(snd_una);
        mkt.traffic.map(|(send, _)| AoSigner::new(&mkt.key, send, rnext, snd.of(seq)))
    }

    /// `tcp_inbound_ao_hash` of a connection: a segment that carries a code. `opens`: a SYN without ACK.
    pub fn inbound_hash<'a>(
        &mut self,
        cx: &Cx,
        tuple: &Tuple,
        (seq, opens): (SeqNum, bool),
        segment: &Signed<'a, impl Iterator<Item = &'a [u8]> + Clone>,
        option: &AoOption<'_>,
    ) -> Result<(), DropReason> {
        let Some(mkt) = self.mkts.iter_mut().find(|mkt| mkt.key.recv_id == option.key_id) else {
            cx.count(Counter::TcpExtTCPAOKeyNotFound);
            self.counters.key_not_found += 1;
            return Err(DropReason::TcpAokeynotfound);
        };
        let local = if opens { SeqNum(0) } else { self.iss };
        let (traffic, sne) = match mkt.traffic {
            Some((_, receive)) if !opens => (receive, self.rcv.of(seq)),
            // What comes before the connection stands begins the peer's numbers.
            _ => (TrafficKey::derive(&mkt.key, &Isns { local, remote: seq }.incoming(tuple)), 0),
        };
        if !verify_code(cx, &mkt.key, (&traffic, sne), segment, option.mac) {
            mkt.bad += 1;
            self.counters.bad += 1;
            return Err(DropReason::TcpAofailure);
        }
        mkt.good += 1;
        self.counters.good += 1;
        // RFC 5925 section 7.5.2 e: the peer asks for another key, and there is one.
        if let Some(wanted) = self.mkts.iter().position(|mkt| mkt.key.send_id == option.rnext) {
            self.current = wanted;
        }
        Ok(())
    }

    /// A segment without a code.
    pub fn refuse_unsigned(&mut self, cx: &Cx) -> DropReason {
        cx.count(Counter::TcpExtTCPAORequired);
        self.counters.required += 1;
        DropReason::TcpAonotfound
    }

    /// A key more, for the peer.
    pub fn add(&mut self, key: AoKey, tuple: &Tuple) -> Result<(), KeyError> {
        if !key.peers.has(tuple.remote) {
            return Err(KeyError::Invalid(KeyMisfit::OtherPeer));
        }
        if self.mkts.len() >= KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let mut all = AuthKeys::new();
        for known in self.mkts.iter().map(|mkt| &mkt.key).chain([&key]) {
            all.add_ao(*known)?;
        }
        let traffic = self.irs.map(|irs| derive_both(&key, tuple, Isns { local: self.iss, remote: irs }));
        self.mkts.push(Mkt { traffic, ..Mkt::of(key) });
        Ok(())
    }

    /// Removes a key; if the connection uses it, others must be named in its place, by our number and by the peer's.
    pub fn remove(&mut self, send_id: u8, recv_id: u8, current: Option<u8>, rnext: Option<u8>) -> Result<(), KeyError> {
        let is_it = |mkt: &Mkt| (mkt.key.send_id, mkt.key.recv_id) == (send_id, recv_id);
        let gone = self.mkts.iter().position(is_it).ok_or(KeyError::NotFound)?;
        let (mut now, mut next) = (self.current, self.rnext);
        if let Some(id) = current {
            now = self.by_send_id(id)?;
        }
        if let Some(id) = rnext {
            next = self.by_recv_id(id)?;
        }
        if now == gone || next == gone {
            return Err(KeyError::InUse);
        }
        self.mkts.remove(gone);
        let moved = |at: usize| if at > gone { at - 1 } else { at };
        (self.current, self.rnext) = (moved(now), moved(next));
        Ok(())
    }

    /// Chooses keys, by our number and by the peer's.
    pub fn choose(&mut self, current: Option<u8>, rnext: Option<u8>) -> Result<(), KeyError> {
        let now = current.map_or(Ok(self.current), |id| self.by_send_id(id))?;
        let next = rnext.map_or(Ok(self.rnext), |id| self.by_recv_id(id))?;
        (self.current, self.rnext) = (now, next);
        Ok(())
    }

    fn by_send_id(&self, id: u8) -> Result<usize, KeyError> {
        self.mkts.iter().position(|mkt| mkt.key.send_id == id).ok_or(KeyError::NotFound)
    }

    fn by_recv_id(&self, id: u8) -> Result<usize, KeyError> {
        self.mkts.iter().position(|mkt| mkt.key.recv_id == id).ok_or(KeyError::NotFound)
    }

    pub fn info(&self) -> Option<AoInfo> {
        let (current, rnext) = (self.mkts.get(self.current)?.key.send_id, self.mkts.get(self.rnext)?.key.recv_id);
        Some(AoInfo { current, rnext, settings: self.settings, counters: self.counters })
    }

    pub fn keys(&self) -> Vec<AoKeyInfo> {
        let tell = |(at, mkt): (usize, &Mkt)| AoKeyInfo {
            key: mkt.key,
            is_current: at == self.current,
            is_rnext: at == self.rnext,
            good: mkt.good,
            bad: mkt.bad,
        };
        self.mkts.iter().enumerate().map(tell).collect()
    }
}

/// Traffic keys of both directions of a connection that stands: what we send first.
fn derive_both(key: &AoKey, tuple: &Tuple, isns: Isns) -> (TrafficKey, TrafficKey) {
    (TrafficKey::derive(key, &isns.outgoing(tuple)), TrafficKey::derive(key, &isns.incoming(tuple)))
}
