//! What a connection tells of itself (`TCP_INFO`).

use rxpath_trace::Time;

use super::{CaState, MS, State, TcpSock};

/// The fields of Linux's `struct tcp_info` that this stack has; names and units are Linux's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// State of the connection.
    pub state: State,
    /// State of congestion control.
    pub ca_state: CaState,
    /// Timeouts since the peer last acknowledged something new.
    pub retransmits: u8,
    /// Keepalive or window probes without an answer.
    pub probes: u8,
    /// Doublings of the timeout.
    pub backoff: u8,
    /// Timestamps are in use.
    pub timestamps: bool,
    /// Selective acknowledgements are in use.
    pub sack: bool,
    /// Shifts of the windows that are received and sent, if scaling is in use.
    pub wscale: Option<(u8, u8)>,
    /// Retransmission timeout, microseconds.
    pub rto: u32,
    /// Delayed-ACK timeout, microseconds.
    pub ato: u32,
    /// Payload of a segment that is sent now, bytes.
    pub snd_mss: u32,
    /// Estimate of the peer's segment size, bytes.
    pub rcv_mss: u32,
    /// Segments in flight.
    pub unacked: u32,
    /// Of those, acknowledged selectively.
    pub sacked: u32,
    /// … lost.
    pub lost: u32,
    /// … sent again and under way.
    pub retrans: u32,
    /// Milliseconds since data was last sent.
    pub last_data_sent: u32,
    /// Milliseconds since data last came.
    pub last_data_recv: u32,
    /// Milliseconds since an ACK last came.
    pub last_ack_recv: u32,
    /// MTU of the path, bytes.
    pub pmtu: u32,
    /// Ceiling of the advertised window, bytes.
    pub rcv_ssthresh: u32,
    /// Smoothed round-trip time, microseconds.
    pub rtt: u32,
    /// Its deviation, microseconds.
    pub rttvar: u32,
    /// Slow-start threshold, segments; `u32::MAX` before the first loss.
    pub snd_ssthresh: u32,
    /// Congestion window, segments.
    pub snd_cwnd: u32,
    /// MSS that was announced, less our options, bytes.
    pub advmss: u32,
    /// Segments by which packets overtake one another.
    pub reordering: u32,
    /// Receiver-side round-trip time, microseconds.
    pub rcv_rtt: u32,
    /// Bytes that the reader took in a round trip.
    pub rcv_space: u32,
    /// Segments sent again in all.
    pub total_retrans: u32,
    /// Smallest round-trip time, microseconds; `u32::MAX` before the first sample.
    pub min_rtt: u32,
    /// Segments delivered in all.
    pub delivered: u32,
    /// Times that reordering was seen.
    pub reord_seen: u32,
    /// Window of the peer, bytes.
    pub snd_wnd: u32,
    /// Window last advertised, bytes.
    pub rcv_wnd: u32,
    /// Bytes that were written and not sent.
    pub notsent_bytes: u32,
}

impl TcpSock {
    /// `tcp_get_info`.
    pub fn info(&self, now: Time) -> TcpInfo {
        let us = |ns: u64| u32::try_from(ns / 1_000).unwrap_or(u32::MAX);
        let ms_since = |at: Time| ((now - at) / MS).min(u64::from(u32::MAX)) as u32;
        let probing = self.timers.probing();
        TcpInfo {
            state: self.state,
            ca_state: self.cong.state,
            retransmits: self.rtt.retransmits,
            probes: if probing { self.rtt.backoff } else { self.live.probes_out },
            backoff: self.rtt.backoff,
            timestamps: self.opts.timestamps,
            sack: self.opts.sack,
            wscale: self.opts.wscale.then_some((self.opts.snd_wscale, self.opts.rcv_wscale)),
            rto: us(self.rtt.backed_off()),
            ato: us(self.ack.ato),
            snd_mss: u32::from(self.tx.mss),
            rcv_mss: u32::from(self.ack.rcv_mss),
            unacked: self.cong.packets_out,
            sacked: self.cong.sacked_out,
            lost: self.cong.lost_out,
            retrans: self.cong.retrans_out,
            last_data_sent: ms_since(self.tx.last_sent),
            last_data_recv: ms_since(self.ack.last_rcv),
            last_ack_recv: ms_since(self.live.last_ack),
            pmtu: u32::from(self.route.mtu),
            rcv_ssthresh: self.rx.rcv_ssthresh,
            rtt: us(self.rtt.srtt),
            rttvar: us(self.rtt.rttvar / 4),
            snd_ssthresh: self.cong.ssthresh,
            snd_cwnd: self.cong.cwnd,
            advmss: u32::from(self.tx.advmss),
            reordering: self.loss.reordering,
            rcv_rtt: self.rx.rtt_us8 / 8,
            rcv_space: self.rx.space,
            total_retrans: self.loss.total_retrans,
            min_rtt: us(self.rtt.min_rtt),
            delivered: self.cong.delivered,
            reord_seen: self.loss.reord_seen,
            snd_wnd: self.tx.snd_wnd,
            rcv_wnd: self.rx.rcv_wnd,
            notsent_bytes: (self.tx.write_seq - self.tx.snd_nxt).max(0) as u32,
        }
    }
}
