//! What a segment is signed with, and the signing (`tcp_v4_md5_hash_skb`, `tcp_ao_transmit_skb`).

use rxpath_wire::{Addr, TcpHeader, TcpOptionsWriter};

use super::keys::{AoKey, Secret};
use super::mac::{Signed, TrafficKey, md5_hash};
use super::option::{AO, MD5, MD5_LEN};

const NOP: u8 = 1;
/// The option of an MD5 signature behind two NOPs.
pub(super) const MD5_ALIGNED: u8 = 20;

/// What one segment is signed with.
#[derive(Clone, Debug)]
pub(crate) enum Signer {
    /// RFC 2385.
    Md5(Secret),
    /// RFC 5925.
    Ao(AoSigner),
}

/// A code of TCP-AO that is to be computed.
#[derive(Clone, Debug)]
pub(crate) struct AoSigner {
    pub(super) traffic: TrafficKey,
    /// The number of our key.
    pub(super) send_id: u8,
    /// The number of the key that the peer is asked to use.
    pub(super) rnext: u8,
    pub(super) mac_len: u8,
    /// The extension of the segment's sequence number.
    pub(super) sne: u32,
}

impl AoSigner {
    /// Signs with a key.
    pub(super) fn new(key: &AoKey, traffic: TrafficKey, rnext: u8, sne: u32) -> AoSigner {
        AoSigner { traffic, send_id: key.send_id, rnext, mac_len: key.mac_len, sne }
    }
}

impl Signer {
    /// Writes the option, zeros in place of the signature, which comes first of all options.
    pub(in super::super) fn write(&self, options: &mut TcpOptionsWriter) {
        match self {
            Signer::Md5(_) => {
                options.raw(&[NOP, NOP, MD5, MD5_LEN]).raw(&[0; 16]);
            }
            Signer::Ao(AoSigner { send_id, rnext, mac_len, .. }) => {
                let mac_len = usize::from(*mac_len).min(16);
                options.raw(&[AO, 4 + mac_len as u8, *send_id, *rnext]).raw(&[0; 16][..mac_len]);
                let padding = options.as_bytes().len().next_multiple_of(4) - options.as_bytes().len();
                options.raw(&[NOP; 3][..padding]);
            }
        }
    }

    /// Fills the signature of a segment in, header and payload: all of the header but the checksum stands.
    pub(in super::super) fn sign(&self, src: Addr, dst: Addr, segment: &mut [u8], header_len: usize) {
        let (header, payload) = segment.split_at(header_len);
        let signed = Signed { ends: (src, dst), header, payload: std::iter::once(payload) };
        let start = TcpHeader::LEN + 4;
        match self {
            Signer::Md5(secret) => {
                let digest = md5_hash(secret, &signed);
                segment[start..start + 16].copy_from_slice(&digest);
            }
            Signer::Ao(AoSigner { traffic, mac_len, sne, .. }) => {
                let code = traffic.code(*sne, &signed);
                let mac_len = usize::from(*mac_len).min(16);
                segment[start..start + mac_len].copy_from_slice(&code[..mac_len]);
            }
        }
    }
}
