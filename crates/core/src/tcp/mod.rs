//! Phases 6 and 7: TCP.
//!
//! The way of a segment: [`v4_rcv`] validates it, [`deliver`] finds its socket and either runs the state machine under
//! the socket's lock or leaves the segment on the backlog. The state machine takes a parsed [`Segment`], the socket's
//! locked state [`TcpSock`] and the context; it knows neither devices nor locks.
//!
//! | file | kernel functions |
//! |---|---|
//! | `receive` | `tcp_v4_rcv`, `tcp_v4_do_rcv`, `tcp_v4_early_demux` |
//! | `auth/` | `tcp_inbound_hash`, `tcp_parse_auth_options`, `tcp_v4_md5_hash_skb`, `tcp_ao_transmit_skb` |
//! | `icmp` | `tcp_v4_err`, `tcp_v4_mtu_reduced`, `tcp_req_err` |
//! | `backlog` | `tcp_add_backlog`, `release_sock` |
//! | `reply` | `tcp_v4_send_reset`, `tcp_v4_send_ack` |
//! | `isn` | `secure_tcp_seq`, `secure_tcp_ts_off` |
//! | `listen`, `request` | `tcp_conn_request`, `tcp_check_req`, `tcp_v4_syn_recv_sock` |
//! | `fast_open/` | `tcp_try_fastopen`, `tcp_fastopen_create_child`, `tcp_send_syn_data`, `tcp_rcv_fastopen_synack` |
//! | `cookie` | `cookie_v4_init_sequence`, `cookie_v4_check`, `cookie_timestamp_decode` |
//! | `timewait` | `tcp_timewait_state_process`, `tcp_time_wait` |
//! | `established` | `tcp_rcv_established` (header prediction), `tcp_validate_incoming` |
//! | `states` | `tcp_rcv_state_process`, `tcp_rcv_synsent_state_process`, `tcp_fin`, `tcp_reset` |
//! | `ack` | `tcp_ack`, `tcp_clean_rtx_queue`, `tcp_ack_update_window` |
//! | `queue` | `tcp_data_queue`, `tcp_queue_rcv`, `tcp_try_coalesce`, `tcp_data_queue_ofo`, `tcp_ofo_queue` |
//! | `sack` | `tcp_sack_new_ofo_skb`, `tcp_dsack_set`, `tcp_compressed_ack_kick` |
//! | `options` | `do_tcp_setsockopt`, `tcp_set_window_clamp` |
//! | `ip_fields` | `do_ip_setsockopt`: `IP_TTL`, `IP_TOS`, `IP_MINTTL` |
//! | `prune` | `tcp_prune_queue`, `tcp_collapse`, `tcp_try_rmem_schedule` |
//! | `memory` | `__sk_mem_raise_allocated`, `tcp_enter_memory_pressure`, `tcp_check_oom` |
//! | `ofo` | the tree of `tcp_data_queue_ofo`: `rb_insert_color`, `rb_erase` |
//! | `urgent` | `tcp_urg`, `tcp_check_urg`, `tcp_recv_urg`, `tcp_mark_urg` |
//! | `window` | `__tcp_select_window`, `tcp_grow_window`, `tcp_rcv_space_adjust`, `tcp_measure_rcv_mss` |
//! | `ack_policy` | `__tcp_ack_snd_check`, `tcp_send_delayed_ack`, `tcp_event_data_recv`, `tcp_cleanup_rbuf` |
//! | `chrono` | `tcp_chrono_start`, `tcp_chrono_stop` |
//! | `rate`, `delivery` | `tcp_rate_gen`, `tcp_rate_skb_delivered`, `tcp_rate_check_app_limited` |
//! | `pacing` | `tcp_update_pacing_rate`, `tcp_pacing_check`, `tcp_tso_autosize` |
//! | `ecn` | `tcp_ecn_send`, `tcp_data_ecn_check`, `tcp_ecn_rcv_ecn_echo` |
//! | `write_queue` | `tcp_sendmsg_locked`, `tcp_xmit_size_goal`, `tcp_tso_autosize`, `tcp_mss_split_point` |
//! | `nagle` | `tcp_nagle_test`, `__tcp_sock_set_cork`, `__tcp_sock_set_nodelay` |
//! | `zerocopy` | `skb_zerocopy_iter_stream`, `msg_zerocopy_realloc` |
//! | `output` | `tcp_write_xmit`, `__tcp_transmit_skb`, `tcp_send_ack`, `tcp_make_synack` |
//! | `loss/` | `tcp_sacktag_write_queue`, `tcp_fastretrans_alert`, `tcp_rack_mark_lost`, `tcp_retransmit_skb` |
//! | `congestion/` | `tcp_cong_avoid_ai`, `bictcp_update`, `tcp_cwnd_reduction`, `tcp_cwnd_validate` |
//! | `mtu_probe` | `tcp_mtu_probe`, `tcp_mtup_probe_success`, `tcp_mtu_probing` |
//! | `rtt` | `tcp_rtt_estimator`, `tcp_set_rto` |
//! | `timers` | `tcp_retransmit_timer`, `tcp_ld_RTO_revert`, `tcp_delack_timer_handler`, `tcp_probe_timer` |
//! | `keepalive` | `tcp_keepalive_timer`, `tcp_clamp_rto_to_user_timeout` |
//! | `info` | `tcp_get_info` |
//! | `connect` | `tcp_v4_connect`, `tcp_connect` |
//! | `close` | `tcp_close`, `tcp_shutdown`, `tcp_done` |
//!
//! Nothing here panics on what the wire brings.

mod ack;
mod ack_policy;
mod auth;
mod backlog;
mod challenge;
mod chrono;
mod close;
mod congestion;
mod connect;
mod cookie;
mod delivery;
mod early_demux;
mod ecn;
mod error;
mod established;
pub mod fast_open;
mod flow_key;
mod icmp;
mod info;
mod ip_fields;
mod isn;
mod keepalive;
mod listen;
mod liveness;
mod loss;
mod memory;
mod mtu_probe;
mod nagle;
mod ofo;
mod options;
mod output;
mod pacing;
mod prune;
mod queue;
mod rate;
mod receive;
mod reply;
mod request;
mod rtt;
mod sack;
mod segment;
mod send_buffer;
mod sock;
mod states;
mod streak;
mod timers;
mod timewait;
mod urgent;
mod window;
mod write_queue;
mod zerocopy;

#[cfg(test)]
pub(crate) mod tests;

use rxpath_trace::Time;

pub use ack_policy::AckPolicy;
pub use auth::{
    AoAlgorithm, AoCounters, AoInfo, AoKey, AoKeyInfo, AoSettings, AuthKeys, KEYS_MAX, KeyError, KeyMisfit,
    ListenerAuth, Md5Key, Peers, SECRET_MAX, Secret, SockAuth,
};
pub use challenge::ChallengeAcks;
pub use chrono::Chrono;
pub use congestion::{CaState, Congestion};
pub use early_demux::{Known, early_demux};
pub use ecn::Ecn;
pub use error::SockError;
pub use fast_open::{FastOpenFail, FastOpenPeers, FastOpening};
pub use flow_key::FlowKey;
pub use icmp::v4_err;
pub use info::{BbrInfo, TCP_INFO_LEN, TcpInfo};
pub use ip_fields::IpFields;
pub use liveness::{Keepalive, Liveness};
pub use loss::{Loss, Rack, RtoStats};
pub use memory::{Owner, TcpMemory};
pub use mtu_probe::MtuSearch;
pub use nagle::{Ending, Nagle};
pub use options::{Linger2, MtuDiscover, OutOfRange, SockOptions};
pub use pacing::Pacing;
pub use rate::{Rate, Stamp};
pub(crate) use receive::let_go;
pub use receive::{Run, deliver, deliver_known, serve, timer_fired, v4_rcv};
pub use request::Request;
pub use rtt::RttEstimator;
pub use sack::SackReport;
pub use segment::{Incoming, Segment};
pub use send_buffer::SendBuffer;
pub use sock::{Deadlines, Effects, Receiver, Sender, SentSegment, TcpSock, UserSide, XmitTimer};
pub use streak::{Source, Taken};
pub use timewait::TimeWait;
pub use urgent::{NoUrgent, Urgent};
pub use write_queue::{Unsent, WriteQueue};
pub use zerocopy::Zerocopy;

/// The states of RFC 9293 section 3.3.2, with the numbers that `/proc/net/tcp` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Data flows both ways.
    Established = 1,
    /// We sent a SYN.
    SynSent = 2,
    /// We answered a SYN (simultaneous open, or a child whose handshake is being finished).
    SynRecv = 3,
    /// We sent our FIN.
    FinWait1 = 4,
    /// Our FIN was acknowledged.
    FinWait2 = 5,
    /// Both sides are done; old segments die out.
    TimeWait = 6,
    /// No connection.
    Close = 7,
    /// The peer sent its FIN.
    CloseWait = 8,
    /// The peer's FIN came first, ours is out.
    LastAck = 9,
    /// Waiting for connections.
    Listen = 10,
    /// Both FINs crossed.
    Closing = 11,
    /// A connection request that has no socket yet.
    NewSynRecv = 12,
}

impl State {
    /// True in a state in which our FIN has not been asked for and the handshake is done.
    pub fn can_send(self) -> bool {
        matches!(self, State::Established | State::CloseWait)
    }

    /// The name as `ss` prints it.
    pub fn name(self) -> &'static str {
        match self {
            State::Established => "ESTAB",
            State::SynSent => "SYN-SENT",
            State::SynRecv | State::NewSynRecv => "SYN-RECV",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::TimeWait => "TIME-WAIT",
            State::Close => "UNCONN",
            State::CloseWait => "CLOSE-WAIT",
            State::LastAck => "LAST-ACK",
            State::Listen => "LISTEN",
            State::Closing => "CLOSING",
        }
    }
}

/// Nanoseconds in a millisecond.
pub(crate) const MS: u64 = 1_000_000;
/// The kernel's tick at 250 Hz: what it keeps in jiffies is counted in these.
pub(crate) const JIFFY: u64 = 4 * MS;
/// Smallest delayed-ACK timeout (`TCP_DELACK_MIN`, `TCP_ATO_MIN`).
pub(crate) const ATO_MIN: u64 = 40 * MS;
/// Largest delayed-ACK timeout (`TCP_DELACK_MAX`).
pub(crate) const DELACK_MAX: u64 = 200 * MS;
/// Initial retransmission timeout (RFC 6298 section 2.1).
pub(crate) const RTO_INITIAL: u64 = 1_000 * MS;
/// Largest retransmission timeout.
pub(crate) const RTO_MAX: u64 = 120_000 * MS;
/// How long TIME-WAIT lasts.
pub(crate) const TIMEWAIT_LEN: u64 = 60_000 * MS;
/// Largest window scale (RFC 7323 section 2.3).
pub(crate) const MAX_WSCALE: u8 = 14;
/// MSS assumed when the peer names none (RFC 9293 section 3.7.1).
pub(crate) const MSS_DEFAULT: u16 = 536;
/// Smallest MSS believed.
pub(crate) const MSS_MIN: u16 = 88;
/// Longest TCP header: 20 bytes and 40 of options.
pub(crate) const HEADER_MAX: usize = 60;
/// Length of the timestamp option with its padding.
pub(crate) const TSTAMP_ALIGNED: u8 = 12;
/// Largest number of quick ACKs in a row.
pub(crate) const QUICKACKS_MAX: u8 = 16;
/// Smallest receive buffer (`SOCK_MIN_RCVBUF`).
pub(crate) const RCVBUF_MIN: u32 = 2_304;

/// The last tick before `now`, which is what the kernel's `jiffies` tell.
#[inline(always)]
pub(crate) fn tick(now: Time) -> Time {
    Time(now.0 / JIFFY * JIFFY)
}

/// When a timer that is set at `now` for whole ticks fires: with the tick after its own.
pub(crate) fn expiry(now: Time, timeout: u64) -> Time {
    tick(now) + (timeout + JIFFY)
}
