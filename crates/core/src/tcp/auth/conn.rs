//! What a connection authenticates its segments with.

use rxpath_wire::{Addr, Tuple};

use super::ao::{Ao, AoIds, Isns};
use super::keys::{AuthKeys, KeyError, Md5Key, Peers};

/// Keys of a connection: of one kind, which never changes to the other (RFC 5925 section 1).
#[derive(Clone, Debug)]
pub struct SockAuth(pub(super) Kind);

/// Which kind.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// RFC 2385: all keys that were given; the one for the peer counts.
    Md5(AuthKeys),
    /// RFC 5925.
    Ao(Box<Ao>),
}

impl SockAuth {
    /// Of a connection to be opened to this peer; None without keys.
    ///
    /// # Errors
    /// TCP-AO is required and no key of it is for the peer, or the keys that are asked for are not ([`KeyError`]).
    pub fn opening(keys: &AuthKeys, peer: Addr) -> Result<Option<SockAuth>, KeyError> {
        if keys.settings.required || keys.ao_for(peer).next().is_some() {
            return Ok(Some(SockAuth(Kind::Ao(Box::new(Ao::opening(keys, peer)?)))));
        }
        if keys.md5().is_empty() {
            return Ok(None);
        }
        let mut list = AuthKeys::new();
        keys.md5().iter().try_for_each(|key| list.add_md5(*key))?;
        Ok(Some(SockAuth(Kind::Md5(list))))
    }

    /// Of a connection that a listener with these keys made; `ids` are those of the peer's SYN, if it carried a code.
    pub(super) fn accepted(keys: &AuthKeys, ids: Option<AoIds>, tuple: &Tuple, isns: Isns) -> Option<SockAuth> {
        if let Some(ids) = ids {
            return Ao::accepted(keys, ids, tuple, isns).map(|ao| SockAuth(Kind::Ao(Box::new(ao))));
        }
        let key = keys.md5_for(tuple.remote)?;
        // It is for this peer alone, whatever network the listener has it for.
        let peers = Peers::one(tuple.remote.to_ip()).ok()?;
        Some(SockAuth::of_md5(Md5Key { peers, ..*key }))
    }

    /// With a key of RFC 2385.
    pub(super) fn of_md5(key: Md5Key) -> SockAuth {
        SockAuth(Kind::Md5(AuthKeys::of_md5(key)))
    }
}
