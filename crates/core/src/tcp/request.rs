//! What is known of a connection between its SYN and the end of its handshake (`struct tcp_request_sock`). What is done with
//! it stands in `listen`, and in `fast_open` where its socket has begun already.

use std::sync::Arc;

use rxpath_trace::Time;
use rxpath_wire::tcp::FastOpen;
use rxpath_wire::{SeqNum, Tuple};

use super::auth::AoIds;
use crate::socket::Listener;

/// A connection request: what must be remembered between SYN and the third segment, and no more.
#[derive(Clone, Debug)]
pub struct Request {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// The listener that answers.
    pub listener: Arc<Listener>,
    /// The peer's initial sequence number.
    pub rcv_isn: SeqNum,
    /// What is expected next: behind the SYN, and behind its data if that was taken.
    pub rcv_nxt: SeqNum,
    /// Ours.
    pub snt_isn: SeqNum,
    /// The peer's MSS.
    pub mss: u16,
    /// MSS that we announced.
    pub advmss: u16,
    /// Window that the SYN-ACK offers.
    pub rcv_wnd: u32,
    /// Largest window that may be offered.
    pub window_clamp: u32,
    /// Shifts for the windows that we receive and send; None without scaling.
    pub wscale: Option<(u8, u8)>,
    /// Selective acknowledgements were offered and are welcome.
    pub sack: bool,
    /// The peer's latest timestamp; None without timestamps.
    pub ts_recent: Option<u32>,
    /// Type of service of the SYN, or of the segment that answers a cookie.
    pub tos: u8,
    /// ECN was asked for and is welcome.
    pub ecn: bool,
    /// Offset of our timestamps.
    pub ts_offset: u32,
    /// Timestamps of our first and latest SYN-ACK.
    pub tsval_sent: (u32, u32),
    /// When the first SYN-ACK went out.
    pub sent_at: Time,
    /// SYN-ACKs sent again on time-out.
    pub retransmits: u8,
    /// The SYN-ACK was sent more than once, for whatever reason: which one was answered only a timestamp tells.
    pub resent: bool,
    /// How often it was.
    pub total_retrans: u32,
    /// The timestamp that the third segment echoes.
    pub echoed: Option<u32>,
    /// The timestamp of the third segment of a peer that did not offer any.
    pub stray: Option<u32>,
    /// When the SYN-ACK is sent again.
    pub deadline: Time,
    /// When the last rate-limited answer went out.
    pub last_oow_ack: Option<Time>,
    /// It is not remembered: the SYN-ACK carries what must be.
    pub cookie: bool,
    /// The third segment came without data, which the listener waits for (`TCP_DEFER_ACCEPT`).
    pub acked: bool,
    /// A cookie for the peer, which the first SYN-ACK carries (RFC 7413).
    pub fast_open: Option<FastOpen>,
    /// The socket begins now, with what the SYN carries.
    pub early: bool,
    /// The numbers of the SYN's authentication code, if it carried one.
    pub(super) ao: Option<AoIds>,
}
