//! Digests and codes over segments: MD5 (RFC 2385 section 2.0), traffic keys and codes of TCP-AO (RFC 5925 section 5,
//! RFC 5926 section 3).

use aes::Aes128;
use cmac::Cmac;
use hmac::{Hmac, Mac as _};
use md5::{Digest as _, Md5};
use rxpath_wire::{Addr, IpProto, SeqNum, TcpHeader, Tuple};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::keys::{AoAlgorithm, AoKey, Secret};
use super::option::AO;

/// Where the checksum lies in a header.
const CHECKSUM: std::ops::Range<usize> = 16..18;

/// A segment that is signed, or whose signature is checked.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a, P> {
    /// Addresses of the sender and of the receiver.
    pub ends: (Addr, Addr),
    /// The header with its options.
    pub header: &'a [u8],
    /// The payload, in pieces.
    pub payload: P,
}

impl<'a, P: Iterator<Item = &'a [u8]> + Clone> Signed<'a, P> {
    fn payload_len(&self) -> usize {
        self.payload.clone().map(<[u8]>::len).sum()
    }

    /// The pseudo-header and the fixed part of the header, its checksum zero.
    fn feed_headers(&self, feed: &mut dyn FnMut(&[u8])) {
        let len = self.header.len() + self.payload_len();
        match (self.ends.0.v4(), self.ends.1.v4()) {
            (Some(src), Some(dst)) => {
                feed(&src.octets());
                feed(&dst.octets());
                feed(&[0, IpProto::TCP]);
                feed(&(len as u16).to_be_bytes());
            }
            // RFC 8200 section 8.1.
            _ => {
                feed(&octets(self.ends.0));
                feed(&octets(self.ends.1));
                feed(&(len as u32).to_be_bytes());
                feed(&[0, 0, 0, IpProto::TCP]);
            }
        }
        let mut fixed = [0; TcpHeader::LEN];
        if let Some(header) = self.header.first_chunk() {
            fixed = *header;
        }
        fixed[CHECKSUM].fill(0);
        feed(&fixed);
    }

    fn feed_payload(&self, feed: &mut dyn FnMut(&[u8])) {
        self.payload.clone().for_each(feed);
    }

    /// The options with zeros in place of the code; all, or the code's alone.
    fn feed_options(&self, alone: bool, feed: &mut dyn FnMut(&[u8])) {
        let mut options = [0; rxpath_wire::tcp::MAX_OPTIONS_LEN];
        let field = self.header.get(TcpHeader::LEN..).unwrap_or_default();
        let Some(copy) = options.get_mut(..field.len()) else { return };
        copy.copy_from_slice(field);
        let Some((at, len)) = place_of_code(copy) else { return };
        copy[at + 4..at + len].fill(0);
        feed(if alone { &copy[at..at + len] } else { copy });
    }
}

fn octets(addr: Addr) -> [u8; 16] {
    match addr.to_ip() {
        std::net::IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(addr) => addr.octets(),
    }
}

/// Where the option with the code begins, and its length.
fn place_of_code(options: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        match *options.get(at)? {
            0 => return None,
            1 => at += 1,
            kind => {
                let len = usize::from(*options.get(at + 1)?);
                if len < 2 || at + len > options.len() {
                    return None;
                }
                if kind == AO {
                    return (len >= 4).then_some((at, len));
                }
                at += len;
            }
        }
    }
}

/// The signature of RFC 2385: over pseudo-header, header without options, payload and secret.
pub(super) fn md5_hash<'a>(secret: &Secret, segment: &Signed<'a, impl Iterator<Item = &'a [u8]> + Clone>) -> [u8; 16] {
    let mut md5 = Md5::new();
    segment.feed_headers(&mut |bytes| md5.update(bytes));
    segment.feed_payload(&mut |bytes| md5.update(bytes));
    md5.update(secret.as_bytes());
    md5.finalize().into()
}

/// Whether a signature is right; how long that takes does not tell where it is wrong.
pub(super) fn is_same(computed: &[u8], received: &[u8]) -> bool {
    bool::from(computed.ct_eq(received))
}

/// What a traffic key is derived for: a direction of a connection (RFC 5925 section 5.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    /// The sender's address and port first.
    pub tuple: Tuple,
    /// The sender's initial sequence number.
    pub sisn: SeqNum,
    /// The receiver's; 0 in a SYN.
    pub disn: SeqNum,
}

impl Direction {
    /// Label, context and length as RFC 5926 section 3.1 lays them out.
    fn feed(&self, bits: u16, feed: &mut dyn FnMut(&[u8])) {
        let Tuple { local, remote, local_port, remote_port } = self.tuple;
        feed(&[1]);
        feed(b"TCP-AO");
        match (local.v4(), remote.v4()) {
            (Some(src), Some(dst)) => {
                feed(&src.octets());
                feed(&dst.octets());
            }
            _ => {
                feed(&octets(local));
                feed(&octets(remote));
            }
        }
        feed(&local_port.to_be_bytes());
        feed(&remote_port.to_be_bytes());
        feed(&self.sisn.0.to_be_bytes());
        feed(&self.disn.0.to_be_bytes());
        feed(&bits.to_be_bytes());
    }
}

/// What codes of one direction of a connection are computed with.
#[derive(Clone, Copy)]
pub(super) struct TrafficKey {
    algorithm: AoAlgorithm,
    exclude_options: bool,
    bytes: [u8; 20],
}

impl std::fmt::Debug for TrafficKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TrafficKey({:?})", self.algorithm)
    }
}

impl TrafficKey {
    /// Derives a key from a master key (RFC 5926 section 3.1.1).
    pub fn derive(key: &AoKey, direction: &Direction) -> TrafficKey {
        let mut bytes = [0; 20];
        match key.algorithm {
            AoAlgorithm::HmacSha1 => bytes = hmac_sha1(key.secret.as_bytes(), |feed| direction.feed(160, feed)),
            AoAlgorithm::Aes128Cmac => {
                // RFC 4615: a secret of another length than 128 bits becomes one of that.
                let secret = key.secret.as_bytes();
                let master = match secret.try_into() {
                    Ok(master) => master,
                    Err(_) => aes_cmac(&[0; 16], |feed| feed(secret)),
                };
                bytes[..16].copy_from_slice(&aes_cmac(&master, |feed| direction.feed(128, feed)));
            }
        }
        TrafficKey { algorithm: key.algorithm, exclude_options: key.exclude_options, bytes }
    }

    /// The code of a segment (RFC 5925 section 5.1), of which as many bytes count as the key says. The header has the option
    /// in which it is to stand.
    pub fn code<'a>(&self, sne: u32, segment: &Signed<'a, impl Iterator<Item = &'a [u8]> + Clone>) -> [u8; 20] {
        let all = |feed: &mut dyn FnMut(&[u8])| {
            feed(&sne.to_be_bytes());
            segment.feed_headers(feed);
            segment.feed_options(self.exclude_options, feed);
            segment.feed_payload(feed);
        };
        match self.algorithm {
            AoAlgorithm::HmacSha1 => hmac_sha1(&self.bytes, all),
            AoAlgorithm::Aes128Cmac => {
                let mut code = [0; 20];
                let key = self.bytes.first_chunk().copied().unwrap_or_default();
                code[..16].copy_from_slice(&aes_cmac(&key, all));
                code
            }
        }
    }

    #[cfg(test)]
    fn as_bytes(&self) -> &[u8] {
        match self.algorithm {
            AoAlgorithm::HmacSha1 => &self.bytes,
            AoAlgorithm::Aes128Cmac => &self.bytes[..16],
        }
    }
}

fn hmac_sha1(key: &[u8], message: impl FnOnce(&mut dyn FnMut(&[u8]))) -> [u8; 20] {
    // RFC 2104: a key shorter than a block is one with zeros behind it, a longer one its hash.
    let mut block = [0; 64];
    match block.get_mut(..key.len()) {
        Some(place) => place.copy_from_slice(key),
        None => block[..20].copy_from_slice(&Sha1::digest(key)),
    }
    let mut mac = <Hmac<Sha1> as hmac::digest::KeyInit>::new(&block.into());
    message(&mut |bytes| mac.update(bytes));
    mac.finalize().into_bytes().into()
}

fn aes_cmac(key: &[u8; 16], message: impl FnOnce(&mut dyn FnMut(&[u8]))) -> [u8; 16] {
    let mut mac = <Cmac<Aes128> as hmac::digest::KeyInit>::new(key.into());
    message(&mut |bytes| mac.update(bytes));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
#[path = "vectors.rs"]
mod vectors;
