//! Segments of a connection with keys: signed, and verified (`tcp_inbound_hash`); keys that come and go.

use rxpath_mem::Skb;
use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{SeqNum, icmp as wire_icmp};

use super::super::{Segment, SockError, State, TcpSock};
use super::ao::{AoCounters, AoInfo, AoKeyInfo};
use super::conn::{Kind, SockAuth};
use super::keys::{AoKey, AoSettings, KeyError, Md5Key, Peers};
use super::md5::{inbound_md5_hash, received, unexpected_md5};
use super::option::{self, Auth};
use super::signer::{MD5_ALIGNED, Signer};
use crate::cx::Cx;

/// Codes of unreachable destinations (RFC 792).
const PROTOCOL_UNREACHABLE: u8 = 2;
const PORT_UNREACHABLE: u8 = 3;

impl TcpSock {
    /// The connection has these keys from now on.
    pub fn set_auth(&mut self, auth: Option<SockAuth>) {
        self.auth = auth.map(Box::new);
        self.sync_auth();
    }

    /// Our initial sequence number is chosen.
    pub(in super::super) fn begin_auth(&mut self) {
        let iss = self.tx.iss;
        if let Some(Kind::Ao(ao)) = self.auth_kind() {
            ao.begin(iss);
        }
    }

    /// The peer's initial sequence number is known, and believed.
    pub(in super::super) fn establish_auth(&mut self, irs: SeqNum) {
        let tuple = self.tuple;
        if let Some(Kind::Ao(ao)) = self.auth_kind() {
            ao.establish(&tuple, irs);
        }
    }

    fn auth_kind(&mut self) -> Option<&mut Kind> {
        self.auth.as_deref_mut().map(|auth| &mut auth.0)
    }

    /// How much room signatures take follows from the keys, and whether segments can be predicted: none that is signed is.
    fn sync_auth(&mut self) {
        let len = match self.auth.as_deref().map(|auth| &auth.0) {
            Some(Kind::Md5(keys)) if keys.md5_for(self.tuple.remote).is_some() => MD5_ALIGNED,
            Some(Kind::Ao(ao)) => ao.option_len(),
            _ => 0,
        };
        if std::mem::replace(&mut self.auth_len, len) == len {
            return;
        }
        if len > 0 {
            self.pred_flags = 0;
        } else if self.state == State::Established {
            self.fast_path_check();
        }
    }

    /// What the segment at `seq` is signed with; a SYN `opens` without ACK. None without keys, or if nothing but a SYN
    /// can be signed yet.
    pub(in super::super) fn signer(&self, seq: SeqNum, opens: bool) -> Option<Signer> {
        match &self.auth.as_deref()?.0 {
            Kind::Md5(keys) => keys.md5_for(self.tuple.remote).map(|key| Signer::Md5(key.secret)),
            Kind::Ao(ao) => ao.signer(&self.tuple, seq, self.tx.snd_una, opens).map(Signer::Ao),
        }
    }

    /// `tcp_inbound_hash`: whether a segment for this connection is signed as agreed.
    #[cold]
    pub(in super::super) fn inbound_hash(&mut self, cx: &Cx, skb: &Skb, seg: &Segment) -> Result<(), DropReason> {
        let (tuple, snd_una, rcv_nxt) = (self.tuple, self.tx.snd_una, self.rx.rcv_nxt);
        let Some(kind) = self.auth_kind() else { return Ok(()) };
        let Some(segment) = received(&tuple, skb, seg) else { return Err(DropReason::PktTooSmall) };
        let outcome = match kind {
            Kind::Md5(keys) => match keys.md5_for(tuple.remote) {
                Some(key) => inbound_md5_hash(cx, key, &segment, option::parse(seg.option_bytes(skb))?),
                None => Ok(()),
            },
            Kind::Ao(ao) => match option::parse_all(seg.option_bytes(skb))? {
                Auth::Ao(option) => {
                    ao.advance(snd_una, rcv_nxt);
                    let opens = seg.flags.syn() && !seg.flags.ack();
                    ao.inbound_hash(cx, &tuple, (seg.seq, opens), &segment, &option)
                }
                Auth::Md5(_) => Err(unexpected_md5(cx)),
                Auth::None => Err(ao.refuse_unsigned(cx)),
            },
        };
        // The peer may have asked for another key.
        self.sync_auth();
        outcome
    }

    /// Whether the connection does not believe an ICMP error (RFC 5925 section 7.8, `tcp_ao_ignore_icmp`); counts it then.
    pub(in super::super) fn ignores_icmp(&mut self, cx: &Cx, kind: u8, code: u8) -> bool {
        let is_hard = kind == wire_icmp::DEST_UNREACHABLE
            && matches!(code, PROTOCOL_UNREACHABLE | PORT_UNREACHABLE | wire_icmp::FRAGMENTATION_NEEDED);
        is_hard && self.ignores_hard_errors(cx)
    }

    /// As [`TcpSock::ignores_icmp`], of an error whose meaning alone was kept.
    pub(in super::super) fn ignores_error(&mut self, cx: &Cx, error: SockError) -> bool {
        matches!(error, SockError::NoProtocol | SockError::Refused) && self.ignores_hard_errors(cx)
    }

    fn ignores_hard_errors(&mut self, cx: &Cx) -> bool {
        let stands = !matches!(self.state, State::SynSent | State::SynRecv | State::Listen | State::Close);
        match self.auth_kind() {
            Some(Kind::Ao(ao)) if stands && !ao.settings.accept_icmps => {
                cx.count(Counter::TcpExtTCPAODroppedIcmps);
                ao.counters.dropped_icmps += 1;
                true
            }
            _ => false,
        }
    }

    /// Adds a key of RFC 2385, in place of one for exactly the same peers. If it is the one for the peer, segments are
    /// signed with it from now on, and must be.
    ///
    /// # Errors
    /// [`KeyError::TooMany`]; [`KeyError::OtherKind`] on a connection of TCP-AO.
    pub fn add_md5_key(&mut self, key: Md5Key) -> Result<(), KeyError> {
        match self.auth_kind() {
            None => self.auth = Some(Box::new(SockAuth::of_md5(key))),
            Some(Kind::Md5(keys)) => keys.add_md5(key)?,
            Some(Kind::Ao(_)) => return Err(KeyError::OtherKind),
        }
        self.sync_auth();
        Ok(())
    }

    /// Removes the key of RFC 2385 for exactly these peers.
    ///
    /// # Errors
    /// [`KeyError::NotFound`].
    pub fn remove_md5_key(&mut self, peers: Peers) -> Result<(), KeyError> {
        match self.auth_kind() {
            Some(Kind::Md5(keys)) => keys.remove_md5(peers)?,
            _ => return Err(KeyError::NotFound),
        }
        self.sync_auth();
        Ok(())
    }

    /// Adds a master key tuple to a connection of TCP-AO.
    ///
    /// # Errors
    /// [`KeyError::OtherKind`] if it is none; [`KeyError::Invalid`] if the key is not for its peer, or its code has an
    /// impossible length; [`KeyError::Exists`] if one of its numbers is taken; [`KeyError::TooMany`].
    pub fn add_ao_key(&mut self, key: AoKey) -> Result<(), KeyError> {
        let tuple = self.tuple;
        match self.auth_kind() {
            Some(Kind::Ao(ao)) => ao.add(key, &tuple),
            _ => Err(KeyError::OtherKind),
        }
    }

    /// Removes the master key tuple of these numbers. One that is in use goes only if others are named in its place: one
    /// to sign with, by our number, and one to ask for, by the peer's.
    ///
    /// # Errors
    /// [`KeyError::NotFound`], [`KeyError::InUse`]; [`KeyError::OtherKind`] if it is no connection of TCP-AO.
    pub fn remove_ao_key(
        &mut self,
        (send_id, recv_id): (u8, u8),
        current: Option<u8>,
        rnext: Option<u8>,
    ) -> Result<(), KeyError> {
        self.change_ao(|ao| ao.remove(send_id, recv_id, current, rnext))
    }

    /// Chooses the key to sign with, by our number, and the one that the peer is asked to sign with, by its number.
    ///
    /// # Errors
    /// [`KeyError::NotFound`]; [`KeyError::OtherKind`] if it is no connection of TCP-AO.
    pub fn choose_ao_keys(&mut self, current: Option<u8>, rnext: Option<u8>) -> Result<(), KeyError> {
        self.change_ao(|ao| ao.choose(current, rnext))
    }

    /// Sets what else a connection of TCP-AO does, and its counters.
    ///
    /// # Errors
    /// [`KeyError::OtherKind`] if it is none.
    pub fn set_ao(&mut self, settings: Option<AoSettings>, counters: Option<AoCounters>) -> Result<(), KeyError> {
        self.change_ao(|ao| {
            ao.settings = settings.unwrap_or(ao.settings);
            ao.counters = counters.unwrap_or(ao.counters);
            Ok(())
        })
    }

    fn change_ao(&mut self, change: impl FnOnce(&mut super::ao::Ao) -> Result<(), KeyError>) -> Result<(), KeyError> {
        match self.auth_kind() {
            Some(Kind::Ao(ao)) => change(ao)?,
            _ => return Err(KeyError::OtherKind),
        }
        self.sync_auth();
        Ok(())
    }

    /// What the connection tells of TCP-AO; None if it does not use it.
    pub fn ao_info(&self) -> Option<AoInfo> {
        match &self.auth.as_deref()?.0 {
            Kind::Ao(ao) => ao.info(),
            Kind::Md5(_) => None,
        }
    }

    /// The master key tuples of the connection, in the order in which they came.
    pub fn ao_keys(&self) -> Vec<AoKeyInfo> {
        match self.auth.as_deref().map(|auth| &auth.0) {
            Some(Kind::Ao(ao)) => ao.keys(),
            _ => Vec::new(),
        }
    }

    /// The keys of RFC 2385 of the connection.
    pub fn md5_keys(&self) -> &[Md5Key] {
        match self.auth.as_deref().map(|auth| &auth.0) {
            Some(Kind::Md5(keys)) => keys.md5(),
            _ => &[],
        }
    }
}
