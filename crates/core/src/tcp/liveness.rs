//! What the application wants to know of a silent peer, and what is known of it; `keepalive` acts on it.

use rxpath_trace::Time;

use super::MS;
use crate::sysctl::Sysctls;

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000 * MS;

/// What the application wants; None is the stack's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Seconds of silence before the first probe, 1 to 32,767 (`TCP_KEEPIDLE`).
    pub idle_s: Option<u32>,
    /// Seconds between probes, 1 to 32,767 (`TCP_KEEPINTVL`).
    pub interval_s: Option<u32>,
    /// Probes without an answer after which the connection is over, 1 to 127 (`TCP_KEEPCNT`).
    pub probes: Option<u8>,
}

/// State of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Liveness {
    /// Probes are sent (`SO_KEEPALIVE`).
    pub on: bool,
    /// When and how many.
    pub settings: Keepalive,
    /// Milliseconds for which unacknowledged data, or a closed window, is put up with; 0 sets no limit but the usual one.
    pub user_timeout_ms: u32,
    /// SYNs, or SYN-ACKs, that are sent again (`TCP_SYNCNT`); None is the stack's default.
    pub syn_retries: Option<u8>,
    /// Probes since the peer was last heard of (`icsk_probes_out`).
    pub(super) probes_out: u8,
    /// When the last acknowledgement came.
    pub(super) last_ack: Time,
    /// When the first retransmission timeout of a row came; of an attempt to connect, when its SYN went out first.
    pub(super) timeouts_since: Option<Time>,
    /// When the first probe of a closed window went out (`icsk_probes_tstamp`).
    pub(super) probing_since: Option<Time>,
}

impl Liveness {
    pub(super) fn idle(&self, sysctl: &Sysctls) -> u64 {
        u64::from(self.settings.idle_s.unwrap_or(sysctl.tcp_keepalive_time)) * SECOND
    }

    pub(super) fn interval(&self, sysctl: &Sysctls) -> u64 {
        u64::from(self.settings.interval_s.unwrap_or(sysctl.tcp_keepalive_intvl)) * SECOND
    }

    /// `TCP_USER_TIMEOUT` in nanoseconds, if there is one.
    pub(super) fn user_timeout(&self) -> Option<u64> {
        (self.user_timeout_ms > 0).then(|| u64::from(self.user_timeout_ms) * MS)
    }
}
