//! Path MTU discovery without the help of the path (RFC 4821): a segment that is longer than the others is sent, and if it
//! arrives, all may be as long. Where ICMP errors are not passed on, nothing else tells.
//!
//! With `tcp_mtu_probing` 2 a connection that was opened here begins with segments of `tcp_base_mss`, and every connection
//! searches from there; with 1 a search begins when the same segment was lost for as long as `tcp_retries1` retransmissions
//! take, as if by a black hole. Then segments get shorter with each further timeout. A probe is real data: it is sent when
//! enough is written behind it for its loss to be noticed, and its loss costs no window.
//!
//! Mirrors `tcp_mtup_init`, `tcp_mtu_probe`, `tcp_mtup_probe_success`, `tcp_mtup_probe_failed`, `tcp_mtu_check_reprobe`,
//! `tcp_mtu_probing`.

use rxpath_trace::{Counter, Time};
use rxpath_wire::SeqNum;

use super::liveness::SECOND;
use super::{CaState, TSTAMP_ALIGNED, TcpSock};
use crate::cx::Cx;
use crate::sysctl::Sysctls;

/// IP and TCP header.
const HEADERS: u32 = 40;
/// Below this window a probe is too large a part of it.
const CWND_MIN: u32 = 11;
/// Default of `tcp_min_snd_mss`.
const MSS_FLOOR: u16 = 48;

/// The search of one connection; sizes are of IP packets (`icsk_mtup`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuSearch {
    /// It is on.
    pub(super) enabled: bool,
    /// Smallest segment that is sent, however little the peer takes, options included (`tcp_min_snd_mss`).
    pub(super) floor: u16,
    /// The longest packet that may pass.
    high: u32,
    /// The longest that is known to.
    low: u32,
    /// The probe that is under way.
    probe: Option<Probe>,
    /// When the search began last.
    since: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probe {
    size: u32,
    seq: SeqNum,
    end_seq: SeqNum,
}

impl Default for MtuSearch {
    fn default() -> MtuSearch {
        MtuSearch { enabled: false, floor: MSS_FLOOR, high: u32::MAX, low: 0, probe: None, since: Time::ZERO }
    }
}

impl MtuSearch {
    /// A probe is under way.
    pub(super) fn is_probing(&self) -> bool {
        self.probe.is_some()
    }
}

/// What became of an attempt to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// Nothing is to be probed now.
    Not,
    /// There will be room for a probe soon: nothing else is sent meanwhile.
    Wait,
    /// A probe left.
    Sent,
}

impl TcpSock {
    fn option_len(&self) -> u32 {
        if self.opts.timestamps { u32::from(TSTAMP_ALIGNED) } else { 0 }
    }

    /// The payload of packets of this size (`tcp_mtu_to_mss`).
    fn mtu_to_mss(&self, mtu: u32) -> u32 {
        let least = u32::from(self.tx.mtu.floor);
        let most = u32::from(self.tx.mss_clamp).max(least);
        mtu.saturating_sub(HEADERS).clamp(least, most).saturating_sub(self.option_len()).max(1)
    }

    /// The size of packets with this payload (`tcp_mss_to_mtu`).
    fn mss_to_mtu(&self, mss: u32) -> u32 {
        mss + HEADERS + self.option_len()
    }

    /// The largest packet that the peer and the next hop take.
    fn mtu_max(&self) -> u32 {
        (u32::from(self.tx.mss_clamp) + HEADERS).min(u32::from(self.route.mtu))
    }

    /// Both directions are open (`tcp_mtup_init`).
    pub(super) fn mtu_search_begin(&mut self, sysctl: &Sysctls, now: Time) {
        let (high, low) = (self.mtu_max(), self.mss_to_mtu(sysctl.tcp_base_mss));
        let enabled = sysctl.tcp_mtu_probing > 1;
        self.tx.mtu = MtuSearch { enabled, high, low, probe: None, since: now, ..self.tx.mtu };
    }

    /// Bounds the search by what the way takes, and gives the most that a segment may have for it (`tcp_sync_mss`).
    pub(super) fn bound_by_search(&mut self) -> u16 {
        self.tx.mtu.high = self.tx.mtu.high.min(u32::from(self.route.mtu));
        if !self.tx.mtu.enabled {
            return u16::MAX;
        }
        self.mtu_to_mss(self.tx.mtu.low).min(u32::from(u16::MAX)) as u16
    }

    /// Sends a probe if one is due and possible (`tcp_mtu_probe`).
    #[cold]
    pub(super) fn mtu_probe(&mut self, cx: &mut Cx) -> Probed {
        let (search, cong) = (self.tx.mtu, &self.cong);
        let quiet = cong.state == CaState::Open && self.rx.sack.is_empty() && self.tx.snd_up.is_none();
        if !search.enabled || search.probe.is_some() || cong.cwnd < CWND_MIN || !quiet {
            return Probed::Not;
        }
        let len = self.mtu_to_mss(u32::midpoint(search.high, search.low));
        let searched = search.high.saturating_sub(search.low) < cx.net.sysctl.tcp_probe_threshold;
        if len > self.mtu_to_mss(search.high) || searched {
            self.mtu_check_reprobe(cx);
            return Probed::Not;
        }
        // What follows must be enough to tell the probe's loss.
        let needed = len + (self.loss.reordering + 1) * u32::from(self.tx.mss);
        let tx = &self.tx;
        if self.unsent() < needed || tx.snd_wnd < needed {
            return Probed::Not;
        }
        if (tx.snd_nxt + needed).after(tx.snd_una + tx.snd_wnd) {
            return Probed::Wait;
        }
        if cong.in_flight() + 2 > cong.cwnd {
            return if cong.in_flight() == 0 { Probed::Not } else { Probed::Wait };
        }
        let (seq, size) = (tx.snd_nxt, self.mss_to_mtu(len));
        if !self.send_mtu_probe(cx, len) {
            return Probed::Not;
        }
        self.tx.mtu.probe = Some(Probe { size, seq, end_seq: seq + len });
        Probed::Sent
    }

    /// What was found holds for `tcp_probe_interval`; then the search begins anew from there.
    fn mtu_check_reprobe(&mut self, cx: &Cx) {
        if cx.now - self.tx.mtu.since < u64::from(cx.net.sysctl.tcp_probe_interval) * SECOND {
            return;
        }
        let (high, low) = (self.mtu_max(), self.mss_to_mtu(u32::from(self.tx.mss)));
        self.tx.mtu = MtuSearch { high, low, probe: None, since: cx.now, ..self.tx.mtu };
    }

    /// `snd_una` has moved: if the probe has arrived, segments are as long from now on (`tcp_mtup_probe_success`).
    #[cold]
    pub(super) fn mtu_probe_acked(&mut self, cx: &Cx) {
        let Some(probe) = self.tx.mtu.probe.filter(|probe| !probe.end_seq.after(self.tx.snd_una)) else { return };
        let before = self.mss_to_mtu(u32::from(self.tx.mss));
        // As many bytes may be in flight as before, in fewer segments.
        let cwnd = u64::from(self.cong.cwnd) * u64::from(before) / u64::from(probe.size.max(1));
        self.cong.cwnd = (cwnd as u32).max(1);
        (self.tx.mtu.low, self.tx.mtu.probe) = (probe.size, None);
        self.sync_mss(self.tx.mss_clamp);
        cx.count(Counter::TcpExtTCPMTUPSuccess);
    }

    /// A loss is proven: if it is the probe's, the path does not carry it, and nothing else is wrong. True if so
    /// (`tcp_mtup_probe_failed`).
    #[cold]
    pub(super) fn mtu_probe_lost(&mut self, cx: &mut Cx) -> bool {
        let Some(probe) = self.tx.mtu.probe else { return false };
        if self.cong.state >= CaState::Cwr || self.tx.snd_una != probe.seq {
            return false;
        }
        (self.tx.mtu.high, self.tx.mtu.probe) = (probe.size - 1, None);
        self.cong.cwnd += 1;
        cx.count(Counter::TcpExtTCPMTUPFail);
        self.simple_retransmit(cx);
        true
    }

    /// The retransmission timer fired. If that lasts for `patience`, as long as `tcp_retries1` retransmissions take, the segment
    /// may be lost for its length (RFC 4821 section 7.7, `tcp_mtu_probing`).
    pub(super) fn mtu_black_hole(&mut self, cx: &Cx, patience: u64) {
        let sysctl = &cx.net.sysctl;
        let waited = self.live.timeouts_since.filter(|_| self.rtt.retransmits > 0).map(|since| cx.now - since);
        if sysctl.tcp_mtu_probing == 0 || waited.is_none_or(|waited| waited < patience) {
            return;
        }
        if self.tx.mtu.enabled {
            let half = self.mtu_to_mss(self.tx.mtu.low) / 2;
            let least = sysctl.tcp_mtu_probe_floor.max(sysctl.tcp_min_snd_mss);
            self.tx.mtu.low = self.mss_to_mtu(half.min(sysctl.tcp_base_mss).max(least));
        } else {
            (self.tx.mtu.enabled, self.tx.mtu.since) = (true, cx.now);
        }
        self.sync_mss(self.tx.mss_clamp);
    }
}
