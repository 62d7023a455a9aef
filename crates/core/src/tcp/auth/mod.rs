//! Authentication of segments: TCP MD5 signatures (RFC 2385) and TCP-AO (RFC 5925, RFC 5926).
//!
//! | file | is | kernel functions |
//! |---|---|---|
//! | `option` | the option in a segment | `tcp_parse_auth_options` |
//! | `keys` | what applications give | `tcp_md5_do_add`, `tcp_ao_add_cmd` |
//! | `mac` | digests, traffic keys and codes | `tcp_v4_md5_hash_skb`, `tcp_ao_hash_skb`, `tcp_v4_ao_calc_key` |
//! | `md5` | received segments, and those signed with MD5 | `tcp_inbound_md5_hash` |
//! | `signer` | what a segment is signed with | `tcp_ao_transmit_skb` |
//! | `sne` | sequence number extensions | `tcp_ao_compute_sne` |
//! | `ao`, `conn` | the keys of a connection | `tcp_ao_connect_init`, `tcp_ao_finish_connect` |
//! | `sock` | segments of a connection | `tcp_inbound_hash`, `tcp_ao_ignore_icmp` |
//! | `listener` | segments of listeners and half-open connections | `tcp_inbound_hash`, `tcp_ao_copy_all_matching` |
//!
//! Connections without keys pay nothing: that segments are to be signed shows in one byte beside the state
//! ([`TcpSock::auth_len`](super::TcpSock)), and segments of connections with keys are never predicted. They are verified when
//! the socket's lock is held, so that one that waits on the backlog is verified when it leaves it; the kernel does that
//! before.

mod ao;
mod conn;
mod keys;
mod listener;
mod mac;
mod md5;
mod option;
mod signer;
mod sne;
mod sock;

pub use ao::{AoCounters, AoInfo, AoKeyInfo};
pub(super) use ao::{AoIds, Isns};
pub use conn::SockAuth;
pub use keys::{
    AoAlgorithm, AoKey, AoSettings, AuthKeys, KEYS_MAX, KeyError, KeyMisfit, Md5Key, Peers, SECRET_MAX, Secret,
};
pub(super) use listener::HalfOpen;
pub use listener::ListenerAuth;
pub(super) use md5::unexpected_md5;
pub(super) use option::{Auth, may_carry, parse};
pub(super) use signer::Signer;
