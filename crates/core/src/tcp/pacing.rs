//! Pacing: not more than so many bytes in a second, spread evenly, and super-frames as large as that allows.
//!
//! Every connection knows its rate, from the window and the round trip (twice as much in slow start, a fifth more later), and
//! cuts its super-frames to what leaves in about a millisecond. Only BBR, and who has set `SO_MAX_PACING_RATE`, also waits
//! between them; with the other algorithms ACKs are the clock.
//!
//! Deviation: the kernel's timer is exact, that of this stack fires on whole milliseconds. What is sent late is made up for,
//! but for no more than that millisecond, so that the rate is right on average.
//!
//! Mirrors `tcp_update_pacing_rate`, `tcp_pacing_check`, `tcp_update_skb_after_send`, `tcp_tso_autosize`.

use rxpath_trace::Time;

use super::{MS, MSS_DEFAULT, TSTAMP_ALIGNED, TcpSock, write_queue};
use crate::cx::Cx;
use crate::sysctl::{CongestionControl, Sysctls};

const SECOND: u64 = 1_000 * MS;
/// Segments that leave before pacing begins.
const UNPACED: u32 = 10;
/// The part of a second in which a super-frame leaves: 1/1024 (`sk_pacing_shift`).
const SHIFT: u32 = 10;

/// State of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    /// Bytes in a second; `u64::MAX` while nothing is known.
    pub rate: u64,
    /// The most that the application wants (`SO_MAX_PACING_RATE`).
    pub max: u64,
    /// When the next segment may leave.
    next: Time,
}

impl Default for Pacing {
    fn default() -> Pacing {
        Pacing { rate: u64::MAX, max: u64::MAX, next: Time::ZERO }
    }
}

impl TcpSock {
    /// Most bytes in a second (`SO_MAX_PACING_RATE`); `u64::MAX` is no limit.
    pub fn set_max_pacing_rate(&mut self, bytes: u64) {
        self.cong.pacing.max = bytes;
        self.cong.pacing.rate = self.cong.pacing.rate.min(bytes);
    }

    /// Segments wait for their time.
    #[inline]
    fn is_paced(&self) -> bool {
        self.cong.algorithm == CongestionControl::Bbr || self.cong.pacing.max != u64::MAX
    }

    /// The rate follows window and round trip (`tcp_update_pacing_rate`), unless the algorithm has one of its own.
    pub(super) fn update_pacing_rate(&mut self, sysctl: &Sysctls) {
        self.pace(self.pacing_rate(sysctl, self.tx.mss, self.cong.cwnd));
    }

    /// The rate of a connection whose SYN is answered: the window is still that of the SYN, one segment if it was sent again,
    /// and segments have room for the options that the SYN had, whatever the peer thinks of them.
    pub(super) fn first_pacing_rate(&self, cx: &Cx, cwnd: u32) -> u64 {
        let options = if cx.net.sysctl.tcp_timestamps != 0 { u16::from(TSTAMP_ALIGNED) } else { 0 };
        // A window tells how long segments may be, and none nothing.
        let mss = if self.tx.max_window == 0 { MSS_DEFAULT - options } else { self.mss_less(options) };
        self.pacing_rate(&cx.net.sysctl, mss, cwnd)
    }

    fn pacing_rate(&self, sysctl: &Sysctls, mss: u16, cwnd: u32) -> u64 {
        let cong = &self.cong;
        let percent = if cwnd < cong.ssthresh / 2 { sysctl.tcp_pacing_ss_ratio } else { sysctl.tcp_pacing_ca_ratio };
        let window = u64::from(mss) * u64::from(cwnd.max(cong.packets_out));
        let per_round = window.saturating_mul(u64::from(percent)) / 100;
        let srtt_us = (self.rtt.srtt / 1_000).max(1);
        if self.rtt.srtt == 0 { u64::MAX } else { per_round.saturating_mul(1_000_000) / srtt_us }
    }

    /// Sends at this rate from now on, unless the algorithm has one of its own.
    pub(super) fn pace(&mut self, rate: u64) {
        if self.cong.algorithm != CongestionControl::Bbr {
            self.cong.pacing.rate = rate.min(self.cong.pacing.max);
        }
    }

    /// Segments of `mss` bytes that one super-frame may have: what leaves in about a millisecond, more where the peer is near
    /// (`tcp_tso_autosize`).
    pub(super) fn tso_segs(&self, sysctl: &Sysctls, mss: u32) -> u32 {
        if self.auth_len > 0 {
            // Each is signed for itself (`sk_gso_disable`).
            return 1;
        }
        let mss = u64::from(mss.max(1));
        let goal = u64::from(write_queue::GSO_GOAL);
        let distance = (self.rtt.min_rtt / 1_000).checked_shr(sysctl.tcp_tso_rtt_log).unwrap_or(0);
        let near = if sysctl.tcp_tso_rtt_log > 0 && distance < 32 { goal >> distance } else { 0 };
        let bytes = (self.cong.pacing.rate >> SHIFT).saturating_add(near).min(goal);
        ((bytes / mss) as u32).max(self.cong.tso_segs_min(sysctl.tcp_min_tso_segs))
    }

    /// True if nothing may leave yet; then the timer is set (`tcp_pacing_check`).
    #[inline]
    pub(super) fn pacing_holds(&mut self, now: Time) -> bool {
        if !self.is_paced() || self.cong.pacing.next <= now {
            return false;
        }
        self.timers.pace = self.cong.pacing.next;
        true
    }

    /// So many bytes have left: the next wait for as long as these take.
    #[inline]
    pub(super) fn paced(&mut self, now: Time, bytes: u32) {
        if !self.is_paced() || self.tx.data_segs_out < UNPACED {
            return;
        }
        let pacing = &mut self.cong.pacing;
        if pacing.rate == u64::MAX || pacing.rate == 0 {
            return;
        }
        let takes = u64::from(bytes) * SECOND / pacing.rate;
        let from = pacing.next.max(Time(now.0.saturating_sub(MS)));
        pacing.next = from + takes;
    }

    /// The time of the next segment has come (`tcp_pace_kick`).
    pub(super) fn pace_timer(&mut self, cx: &mut Cx) {
        self.timers.pace = Time::MAX;
        if self.cong.lost_out > self.cong.retrans_out && self.cong.quota() > 0 {
            self.xmit_retransmit_queue(cx);
        }
        self.push(cx);
    }
}
