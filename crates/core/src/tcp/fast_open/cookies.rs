//! Cookies: a keyed hash of the peer's address and ours, so that a peer who has one was reached at its address before
//! (RFC 7413 section 4.1.2).

use rxpath_wire::Tuple;
use rxpath_wire::siphash::siphash24;
use rxpath_wire::tcp::FastOpen;

use crate::netns::NetConfig;
use crate::socket::fast_open::FastOpenQueue;
use crate::sysctl::{FastOpenKey, FastOpenKeys};

/// What a cookie is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It was made with the current key.
    Good,
    /// It was made with the one before.
    Old,
    /// None of ours.
    Nothing,
}

/// The keys that hold for a listener: its own, else those of the tunable, else one that nobody knows.
pub(super) fn keys(net: &NetConfig, listener: &FastOpenQueue) -> FastOpenKeys {
    listener.keys().unwrap_or_else(|| match net.sysctl.tcp_fastopen_key {
        FastOpenKeys::NONE => secret(net),
        keys => keys,
    })
}

fn secret(net: &NetConfig) -> FastOpenKeys {
    let half = |label: &[u8]| siphash24(net.secret.k0, net.secret.k1, label);
    let (first, second) = (half(b"fast open, first"), half(b"fast open, second"));
    let words = [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32];
    FastOpenKeys { current: FastOpenKey(words), backup: None }
}

/// The cookie for a peer.
pub(super) fn make(key: FastOpenKey, tuple: &Tuple) -> [u8; 8] {
    let (k0, k1) = key.halves();
    let bytes = match (tuple.remote.v4(), tuple.local.v4()) {
        (Some(peer), Some(own)) => [peer.octets(), own.octets()].concat(),
        _ => [tuple.remote.0, tuple.local.0].concat(),
    };
    siphash24(k0, k1, &bytes).to_le_bytes()
}

/// What the cookie of a SYN is worth.
pub(super) fn judge(keys: &FastOpenKeys, tuple: &Tuple, option: &FastOpen) -> Worth {
    if option.cookie() == make(keys.current, tuple) {
        return Worth::Good;
    }
    match keys.backup {
        Some(backup) if option.cookie() == make(backup, tuple) => Worth::Old,
        _ => Worth::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use rxpath_wire::Addr;

    use super::*;

    fn tuple() -> Tuple {
        let addr = Addr::from_v4;
        Tuple { local: addr([10, 9, 0, 2]), remote: addr([10, 9, 0, 1]), local_port: 80, remote_port: 1_000 }
    }

    #[test]
    fn cookies_are_the_kernels() {
        // Of the running kernel, with the key a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d5.
        let key = FastOpenKey([0xa1a1_a1a1, 0xb2b2_b2b2, 0xc3c3_c3c3, 0xd4d4_d4d5]);
        assert_eq!(make(key, &tuple()), [0xd8, 0x3f, 0x93, 0x79, 0x4f, 0xa3, 0x1f, 0x69]);
        let key = FastOpenKey::from_bytes(std::array::from_fn(|at| at as u8));
        assert_eq!(make(key, &tuple()), [0x6e, 0x25, 0x7a, 0xeb, 0xb6, 0x07, 0x9e, 0x44]);
    }

    #[test]
    fn a_cookie_is_worth_something_to_who_has_its_key_whatever_the_ports() {
        let [old, new, other] = [1, 2, 3].map(|word| FastOpenKey([word; 4]));
        let cookie = |key| FastOpen::with_cookie(&make(key, &tuple()), false).expect("eight bytes");
        let keys = FastOpenKeys { current: new, backup: Some(old) };
        let judged = |key| judge(&keys, &Tuple { remote_port: 7, ..tuple() }, &cookie(key));
        assert_eq!([new, old, other].map(judged), [Worth::Good, Worth::Old, Worth::Nothing]);
        let elsewhere = Tuple { remote: Addr::from_v4([10, 9, 0, 3]), ..tuple() };
        assert_eq!(judge(&keys, &elsewhere, &cookie(new)), Worth::Nothing);
        let short = FastOpen::with_cookie(&make(new, &tuple())[..4], false).expect("four bytes");
        assert_eq!(judge(&keys, &tuple(), &short), Worth::Nothing);
    }
}
