//! Received segments as signatures see them, and those of RFC 2385 (`tcp_inbound_md5_hash`).

use rxpath_mem::Skb;
use rxpath_trace::{Counter, DropReason};
use rxpath_wire::Tuple;

use super::super::Segment;
use super::keys::Md5Key;
use super::mac::{Signed, is_same, md5_hash};
use super::option::Auth;
use crate::cx::Cx;

/// A received segment, whose payload `skb` has.
pub(super) fn received<'a>(
    tuple: &Tuple,
    skb: &'a Skb,
    seg: &Segment,
) -> Option<Signed<'a, impl Iterator<Item = &'a [u8]> + Clone + use<'a>>> {
    let header = skb.transport_header().get(..usize::from(seg.header_len))?;
    Some(Signed { ends: (tuple.remote, tuple.local), header, payload: skb.fragments() })
}

/// `tcp_inbound_md5_hash` of a socket that has a key for the peer.
pub(super) fn inbound_md5_hash<'a>(
    cx: &Cx,
    key: &Md5Key,
    segment: &Signed<'a, impl Iterator<Item = &'a [u8]> + Clone>,
    option: Auth<'_>,
) -> Result<(), DropReason> {
    match option {
        Auth::Md5(digest) if is_same(&md5_hash(&key.secret, segment), digest) => Ok(()),
        Auth::Md5(_) => {
            cx.count(Counter::TcpExtTCPMD5Failure);
            Err(DropReason::TcpMd5failure)
        }
        Auth::Ao(_) => Err(DropReason::TcpAounexpected),
        Auth::None => {
            cx.count(Counter::TcpExtTCPMD5NotFound);
            Err(DropReason::TcpMd5notfound)
        }
    }
}

/// A signature of RFC 2385 that nobody has agreed to.
pub(in super::super) fn unexpected_md5(cx: &Cx) -> DropReason {
    cx.count(Counter::TcpExtTCPMD5Unexpected);
    DropReason::TcpMd5unexpected
}
