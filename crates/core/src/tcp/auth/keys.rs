//! Keys that applications give: whom each is for, and which may stand beside which (`TCP_MD5SIG`, `TCP_AO_ADD_KEY`).

use std::fmt;
use std::net::IpAddr;

use rxpath_wire::Addr;

/// Longest secret, in bytes (`TCP_MD5SIG_MAXKEYLEN`, `TCP_AO_MAXKEYLEN`).
pub const SECRET_MAX: usize = 80;
/// Keys of each kind that one socket may have: as many as Linux has room for, which charges each 136 of the 131,072 bytes
/// that `net.core.optmem_max` gives.
pub const KEYS_MAX: usize = 963;
/// Bytes of an authentication code (RFC 5926 section 3.2): 96 bits.
pub const MAC_LEN_DEFAULT: u8 = 12;
/// Longest authentication code that leaves a SYN room for segment size, window scale and timestamps.
pub const MAC_LEN_MAX: u8 = 16;

/// Bits of an address.
const PREFIX_MAX: u8 = 32;

/// Why a key was not taken, or not removed; the numbers are Linux's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// Something of the key does not fit (`EINVAL`).
    Invalid(KeyMisfit),
    /// The socket has as many keys as it may have, [`KEYS_MAX`] (`ENOMEM`).
    TooMany,
    /// There is no such key (`ENOENT`).
    NotFound,
    /// A key for the same peer has the same number (RFC 5925 section 3.1) (`EEXIST`).
    Exists,
    /// The peer has a key of the other kind, or the connection stands and authenticates in another way, or not at all
    /// (`EKEYREJECTED`).
    OtherKind,
    /// The connection signs with the key, or asks its peer to, or has no other (`EBUSY`).
    InUse,
}

/// What of a key does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMisfit {
    /// Its secret has so many bytes, and not 1 to [`SECRET_MAX`].
    SecretLen(usize),
    /// The code is to have so many bytes, and not 1 to 16.
    MacLen(u8),
    /// Its peers are to have so many bits of their addresses in common, and not 0 to 32.
    PrefixLen(u8),
    /// Its peers are not of IPv4.
    NotV4,
    /// It is not for the peer of the connection.
    OtherPeer,
}

impl fmt::Display for KeyMisfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyMisfit::SecretLen(bytes) => write!(f, "the secret has {bytes} bytes, not 1 to {SECRET_MAX}"),
            KeyMisfit::MacLen(bytes) => write!(f, "the code is to have {bytes} bytes, not 1 to {MAC_LEN_MAX}"),
            KeyMisfit::PrefixLen(bits) => write!(f, "the prefix has {bits} bits, not 0 to {PREFIX_MAX}"),
            KeyMisfit::NotV4 => f.write_str("the peers of a key are of IPv4"),
            KeyMisfit::OtherPeer => f.write_str("the key is not for the peer"),
        }
    }
}

impl KeyError {
    /// Linux's number of it.
    pub fn errno(self) -> i32 {
        match self {
            KeyError::NotFound => 2,
            KeyError::TooMany => 12,
            KeyError::InUse => 16,
            KeyError::Exists => 17,
            KeyError::Invalid(_) => 22,
            KeyError::OtherKind => 129,
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::Invalid(misfit) => return misfit.fmt(f),
            KeyError::TooMany => "the socket has too many keys",
            KeyError::NotFound => "there is no such key",
            KeyError::Exists => "a key of the same number is for the same peer",
            KeyError::OtherKind => "the connection is authenticated in another way",
            KeyError::InUse => "the connection uses the key",
        })
    }
}

impl std::error::Error for KeyError {}

/// What both sides know: 1 to 80 bytes, which are never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    bytes: [u8; SECRET_MAX],
    len: u8,
}

impl Secret {
    /// These bytes.
    ///
    /// # Errors
    /// [`KeyMisfit::SecretLen`]: there are none, or more than [`SECRET_MAX`].
    pub fn new(secret: &[u8]) -> Result<Secret, KeyError> {
        let mut bytes = [0; SECRET_MAX];
        let place = bytes.get_mut(..secret.len()).filter(|place| !place.is_empty());
        let place = place.ok_or(KeyError::Invalid(KeyMisfit::SecretLen(secret.len())))?;
        place.copy_from_slice(secret);
        Ok(Secret { bytes, len: secret.len() as u8 })
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len)
    }
}

/// Peers that a key is for: a network of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    network: Addr,
    prefix: u8,
}

impl Peers {
    /// This peer alone.
    ///
    /// # Errors
    /// [`KeyMisfit::NotV4`].
    pub fn one(addr: impl Into<IpAddr>) -> Result<Peers, KeyError> {
        Peers::network(addr, PREFIX_MAX)
    }

    /// All whose addresses have the first `prefix` bits, 0 to 32, in common with this one.
    ///
    /// # Errors
    /// [`KeyMisfit::NotV4`], or [`KeyMisfit::PrefixLen`] if the prefix is longer than 32.
    pub fn network(addr: impl Into<IpAddr>, prefix: u8) -> Result<Peers, KeyError> {
        let addr = Addr::from(addr.into()).v4().ok_or(KeyError::Invalid(KeyMisfit::NotV4))?;
        if prefix > PREFIX_MAX {
            return Err(KeyError::Invalid(KeyMisfit::PrefixLen(prefix)));
        }
        let network = (u32::from(addr) & mask(prefix)).to_be_bytes();
        Ok(Peers { network: Addr::from_v4(network), prefix })
    }

    /// The first address, and the bits that all have in common.
    pub fn parts(&self) -> (IpAddr, u8) {
        (self.network.to_ip(), self.prefix)
    }

    /// Whether a peer is one of them.
    pub(super) fn has(&self, peer: Addr) -> bool {
        let (Some(network), Some(peer)) = (self.network.v4(), peer.v4()) else { return false };
        (u32::from(network) ^ u32::from(peer)) & mask(self.prefix) == 0
    }

    /// Whether there may be a peer that both have.
    fn overlap(&self, other: &Peers) -> bool {
        if self.prefix <= other.prefix { self.has(other.network) } else { other.has(self.network) }
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// A key of RFC 2385.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Md5Key {
    /// Whom it is for; of several keys the one with the longest prefix counts.
    pub peers: Peers,
    /// What is hashed behind the segment.
    pub secret: Secret,
}

/// How traffic keys are derived and codes computed (RFC 5926 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AoAlgorithm {
    /// KDF_HMAC_SHA1 and HMAC-SHA-1.
    #[default]
    HmacSha1,
    /// KDF_AES_128_CMAC and AES-128-CMAC.
    Aes128Cmac,
}

/// A master key tuple of RFC 5925 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AoKey {
    /// Whom it is for.
    pub peers: Peers,
    /// The number that segments signed with it carry.
    pub send_id: u8,
    /// The number that the peer's segments signed with it carry.
    pub recv_id: u8,
    /// How it is used.
    pub algorithm: AoAlgorithm,
    /// Bytes of the code in a segment, 1 to 16.
    pub mac_len: u8,
    /// Options other than the code itself are not covered (`TCP_AO_KEYF_EXCLUDE_OPT`).
    pub exclude_options: bool,
    /// What traffic keys are derived from.
    pub secret: Secret,
}

impl AoKey {
    /// A key for HMAC-SHA-1-96 that covers the options, with the same number for both directions.
    pub fn new(peers: Peers, id: u8, secret: Secret) -> AoKey {
        AoKey {
            peers,
            send_id: id,
            recv_id: id,
            algorithm: AoAlgorithm::default(),
            mac_len: MAC_LEN_DEFAULT,
            exclude_options: false,
            secret,
        }
    }

    /// Bytes of the option in a segment, in whole words.
    pub(super) fn option_len(&self) -> u8 {
        (4 + self.mac_len).next_multiple_of(4)
    }

    fn is_sound(&self) -> bool {
        (1..=MAC_LEN_MAX).contains(&self.mac_len)
    }

    /// Whether both may not stand beside one another (RFC 5925 section 3.1).
    fn collides(&self, other: &AoKey) -> bool {
        self.peers.overlap(&other.peers) && (self.send_id == other.send_id || self.recv_id == other.recv_id)
    }
}

/// What a socket with keys of TCP-AO does besides (`TCP_AO_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AoSettings {
    /// Segments without a code are dropped although no key is for the peer.
    pub required: bool,
    /// ICMP errors are believed on connections that stand (RFC 5925 section 7.8).
    pub accept_icmps: bool,
}

/// Keys of a listener, or of a connection before it begins. Connections of a listener inherit those for their peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthKeys {
    md5: Vec<Md5Key>,
    ao: Vec<AoKey>,
    /// What else is to be done about TCP-AO.
    pub settings: AoSettings,
    /// The number of the key that a connection signs its SYN with; the first for its peer by default.
    pub current: Option<u8>,
    /// The peer's number of the key that it is asked to sign with; the first by default.
    pub rnext: Option<u8>,
}

impl AuthKeys {
    /// No key.
    pub fn new() -> AuthKeys {
        AuthKeys::default()
    }

    /// Adds a key of RFC 2385, in place of one for exactly the same peers.
    ///
    /// # Errors
    /// [`KeyError::TooMany`]; [`KeyError::OtherKind`] if a key of TCP-AO is for some of the peers.
    pub fn add_md5(&mut self, key: Md5Key) -> Result<(), KeyError> {
        if self.ao.iter().any(|other| other.peers.overlap(&key.peers)) {
            return Err(KeyError::OtherKind);
        }
        if let Some(known) = self.md5.iter_mut().find(|known| known.peers == key.peers) {
            *known = key;
            return Ok(());
        }
        if self.md5.len() >= KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        self.md5.push(key);
        Ok(())
    }

    /// Removes the key for exactly these peers (in Linux, an empty one is set).
    ///
    /// # Errors
    /// There is none.
    pub fn remove_md5(&mut self, peers: Peers) -> Result<(), KeyError> {
        let at = self.md5.iter().position(|key| key.peers == peers).ok_or(KeyError::NotFound)?;
        self.md5.remove(at);
        Ok(())
    }

    /// Adds a master key tuple.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] for the length of its code, [`KeyError::Exists`] if one of its numbers is taken for some of its
    /// peers, [`KeyError::OtherKind`] if they have a key of RFC 2385, [`KeyError::TooMany`].
    pub fn add_ao(&mut self, key: AoKey) -> Result<(), KeyError> {
        if !key.is_sound() {
            return Err(KeyError::Invalid(KeyMisfit::MacLen(key.mac_len)));
        }
        if self.md5.iter().any(|other| other.peers.overlap(&key.peers)) {
            return Err(KeyError::OtherKind);
        }
        if self.ao.iter().any(|other| other.collides(&key)) {
            return Err(KeyError::Exists);
        }
        if self.ao.len() >= KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        self.ao.push(key);
        Ok(())
    }

    /// Removes the master key tuple with these numbers for exactly these peers.
    ///
    /// # Errors
    /// There is none.
    pub fn remove_ao(&mut self, peers: Peers, send_id: u8, recv_id: u8) -> Result<(), KeyError> {
        let is_meant = |key: &AoKey| (key.peers, key.send_id, key.recv_id) == (peers, send_id, recv_id);
        let at = self.ao.iter().position(is_meant).ok_or(KeyError::NotFound)?;
        self.ao.remove(at);
        Ok(())
    }

    /// The keys of RFC 2385, in the order in which they came.
    pub fn md5(&self) -> &[Md5Key] {
        &self.md5
    }

    /// The master key tuples, in the order in which they came.
    pub fn ao(&self) -> &[AoKey] {
        &self.ao
    }

    /// Whether segments need not be looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.md5.is_empty() && self.ao.is_empty() && !self.settings.required
    }

    /// The key of RFC 2385 for a peer: the longest prefix that has it (`tcp_md5_do_lookup`).
    pub(super) fn md5_for(&self, peer: Addr) -> Option<&Md5Key> {
        self.md5.iter().filter(|key| key.peers.has(peer)).max_by_key(|key| key.peers.prefix)
    }

    /// The master key tuples for a peer.
    pub(super) fn ao_for(&self, peer: Addr) -> impl Iterator<Item = &AoKey> {
        self.ao.iter().filter(move |key| key.peers.has(peer))
    }

    /// What a connection of a listener inherits of the keys of RFC 2385.
    pub(super) fn of_md5(key: Md5Key) -> AuthKeys {
        AuthKeys { md5: vec![key], ..AuthKeys::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(octets: [u8; 4], prefix: u8) -> Peers {
        Peers::network(octets, prefix).expect("a network")
    }

    fn md5(octets: [u8; 4], prefix: u8, secret: &[u8]) -> Md5Key {
        Md5Key { peers: peers(octets, prefix), secret: Secret::new(secret).expect("a secret") }
    }

    fn ao(octets: [u8; 4], prefix: u8, send_id: u8, recv_id: u8) -> AoKey {
        let secret = Secret::new(b"secret").expect("a secret");
        AoKey { recv_id, ..AoKey::new(peers(octets, prefix), send_id, secret) }
    }

    #[test]
    fn lengths_have_the_kernels_limits() {
        let wrong = |misfit| Err(KeyError::Invalid(misfit));
        assert_eq!(Secret::new(&[]), Err(KeyError::Invalid(KeyMisfit::SecretLen(0))));
        assert!(Secret::new(&[7; 80]).is_ok_and(|secret| secret.as_bytes() == [7; 80]));
        assert_eq!(Secret::new(&[7; 81]), Err(KeyError::Invalid(KeyMisfit::SecretLen(81))));
        assert_eq!(format!("{:?}", Secret::new(b"hush")), "Ok(Secret(4 bytes))");
        assert_eq!(Peers::network([10, 0, 0, 1], 33), Err(KeyError::Invalid(KeyMisfit::PrefixLen(33))));
        assert_eq!(Peers::one(std::net::Ipv6Addr::LOCALHOST), Err(KeyError::Invalid(KeyMisfit::NotV4)));
        let mut keys = AuthKeys::new();
        for (mac_len, taken) in [(0, false), (1, true), (16, true), (17, false)] {
            let key = AoKey { mac_len, ..ao([10, 0, 0, mac_len], 32, 1, 1) };
            assert_eq!(keys.add_ao(key), if taken { Ok(()) } else { wrong(KeyMisfit::MacLen(mac_len)) });
        }
        let says = [KeyMisfit::SecretLen(81), KeyMisfit::MacLen(17), KeyMisfit::PrefixLen(33), KeyMisfit::NotV4];
        assert_eq!(
            says.map(|misfit| KeyError::Invalid(misfit).to_string()),
            [
                "the secret has 81 bytes, not 1 to 80",
                "the code is to have 17 bytes, not 1 to 16",
                "the prefix has 33 bits, not 0 to 32",
                "the peers of a key are of IPv4"
            ]
        );
    }

    #[test]
    fn the_longest_prefix_counts_and_host_bits_do_not() {
        let mut keys = AuthKeys::new();
        for (octets, prefix, secret) in
            [([0; 4], 0, &b"all"[..]), ([10, 9, 0, 77], 24, b"net"), ([10, 9, 0, 3], 32, b"host")]
        {
            keys.add_md5(md5(octets, prefix, secret)).expect("there is room");
        }
        let key_of =
            |keys: &AuthKeys, octets| keys.md5_for(Addr::from_v4(octets)).map(|key| key.secret.as_bytes().to_vec());
        assert_eq!(key_of(&keys, [10, 9, 0, 1]), Some(b"net".to_vec()));
        assert_eq!(key_of(&keys, [10, 9, 0, 3]), Some(b"host".to_vec()));
        assert_eq!(key_of(&keys, [10, 9, 1, 3]), Some(b"all".to_vec()));
        keys.add_md5(md5([10, 9, 0, 1], 24, b"other")).expect("in place of the first");
        assert_eq!(key_of(&keys, [10, 9, 0, 1]), Some(b"other".to_vec()));
        assert_eq!(keys.remove_md5(peers([10, 9, 0, 1], 32)), Err(KeyError::NotFound));
        assert_eq!(keys.remove_md5(peers([0; 4], 0)), Ok(()));
        assert_eq!(key_of(&keys, [10, 9, 1, 3]), None);
    }

    #[test]
    fn keys_are_bounded_and_do_not_collide() {
        let mut keys = AuthKeys::new();
        for at in 0..KEYS_MAX {
            keys.add_md5(md5([10, 1, (at >> 8) as u8, at as u8], 32, b"k")).expect("there is room");
        }
        assert_eq!(keys.add_md5(md5([10, 2, 0, 0], 32, b"k")), Err(KeyError::TooMany));
        assert_eq!(keys.add_ao(ao([10, 1, 0, 0], 16, 1, 1)), Err(KeyError::OtherKind));
        assert_eq!(keys.add_ao(ao([10, 2, 0, 0], 16, 1, 2)), Ok(()));
        assert_eq!(keys.add_md5(md5([10, 2, 7, 0], 24, b"k")), Err(KeyError::OtherKind));
        assert_eq!(keys.add_ao(ao([10, 2, 3, 0], 24, 1, 3)), Err(KeyError::Exists), "so has the number that is sent");
        assert_eq!(keys.add_ao(ao([10, 2, 3, 0], 24, 3, 2)), Err(KeyError::Exists), "and the one that is received");
        assert_eq!(keys.add_ao(ao([10, 2, 3, 0], 24, 2, 1)), Ok(()));
        assert_eq!(keys.add_ao(ao([10, 3, 0, 0], 16, 1, 2)), Ok(()), "other peers may have the same");
        assert_eq!(keys.remove_ao(peers([10, 2, 0, 0], 16), 1, 1), Err(KeyError::NotFound));
        assert_eq!(keys.remove_ao(peers([10, 2, 0, 0], 16), 1, 2), Ok(()));
        assert_eq!(keys.ao_for(Addr::from_v4([10, 2, 3, 4])).count(), 1);
    }
}
