//! Fast Open (RFC 7413): data in SYNs, for peers that have a cookie of ours or of whom we have one.
//!
//! | file | does | kernel functions |
//! |---|---|---|
//! | `cookies` | makes and checks cookies | `tcp_fastopen_cookie_gen`, `tcp_fastopen_cookie_gen_check` |
//! | `passive` | sockets of listeners that begin with their SYN, until their handshakes end | `tcp_try_fastopen`, `tcp_fastopen_create_child`, `tcp_check_req`, `tcp_fastopen_synack_timer` |
//! | `active` | SYNs of ours that carry data, and what their answers say | `tcp_send_syn_data`, `tcp_rcv_fastopen_synack` |
//! | `peers` | what is known of peers, and whether Fast Open is paused | `tcp_fastopen_cache_get`, `tcp_fastopen_active_disable` |
//!
//! Cookies and options come from outside; nothing panics on what they say.

mod active;
mod cookies;
mod passive;
mod peers;

use rxpath_wire::tcp::FastOpen;

pub(super) use self::passive::admit;
pub use self::peers::FastOpenPeers;

/// Fast Open in connections from here (`net.ipv4.tcp_fastopen`).
pub const CLIENT: u32 = 0x1;
/// Fast Open in connections to listeners that want it.
pub const SERVER: u32 = 0x2;
/// Data without a cookie in connections from here.
pub const CLIENT_NO_COOKIE: u32 = 0x4;
/// Data without a cookie is taken.
pub const SERVER_NO_COOKIE: u32 = 0x200;
/// All listeners want it.
pub const ALL_LISTENERS: u32 = 0x400;

/// Why Fast Open did not spare a connection from here its round trip (`tcpi_fastopen_client_fail`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastOpenFail {
    /// It did, or was not tried.
    #[default]
    None,
    /// There was no cookie of the peer (`TFO_COOKIE_UNAVAILABLE`).
    CookieUnavailable,
    /// The answer to the SYN did not acknowledge its data (`TFO_DATA_NOT_ACKED`).
    DataNotAcked,
    /// The SYN had to be sent again, and its data was not acknowledged (`TFO_SYN_RETRANSMITTED`).
    SynRetransmitted,
}

/// What Fast Open is to a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastOpening {
    /// The application has connected, and the SYN waits for the first bytes (`defer_connect`).
    pub deferred: bool,
    /// We opened the connection and tried (`syn_fastopen`).
    pub tried: bool,
    /// It began with the peer's SYN (`syn_fastopen_ch` on the other side).
    pub child: bool,
    /// The data of a SYN was acknowledged by its answer (`syn_data_acked`).
    pub data_acked: bool,
    /// Why that failed.
    pub fail: FastOpenFail,
    /// Bytes that our SYN may carry.
    pub(super) room: u16,
    /// Bytes that it carries (`syn_data`).
    pub(super) carried: u16,
    /// Option of our SYN.
    pub(super) option: Option<FastOpen>,
}
