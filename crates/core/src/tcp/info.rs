//! What a connection tells of itself (`TCP_INFO`).

use rxpath_trace::Time;

use super::{CaState, FastOpenFail, MS, State, TcpSock};

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
    /// ECN is in use.
    pub ecn: bool,
    /// The peer has sent data that was capable of it.
    pub ecn_seen: bool,
    /// The data of a SYN was acknowledged by its answer (`TCPI_OPT_SYN_DATA`).
    pub syn_data: bool,
    /// The connection began with the peer's SYN (`TCPI_OPT_TFO_CHILD`).
    pub tfo_child: bool,
    /// Why Fast Open did not spare the connection its round trip.
    pub fastopen_client_fail: FastOpenFail,
    /// Name of the congestion control.
    pub congestion: &'static str,
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
    /// Slow-start threshold, segments; [`TcpInfo::NO_SSTHRESH`] before the first loss.
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
    /// Bytes per second at which segments leave; `u64::MAX` while nothing is known.
    pub pacing_rate: u64,
    /// The most that the application wants; `u64::MAX` for no limit.
    pub max_pacing_rate: u64,
    /// Bytes per second that the network delivered lately; 0 while nothing is known.
    pub delivery_rate: u64,
    /// That was as much as the application had to send.
    pub delivery_rate_app_limited: bool,
    /// The application, not the network, limits now.
    pub app_limited: bool,
    /// Segments delivered by ACKs that told of a congestion mark.
    pub delivered_ce: u32,
    /// Payload bytes sent, those sent again counted again.
    pub bytes_sent: u64,
    /// Payload bytes sent again.
    pub bytes_retrans: u64,
    /// Bytes that the peer acknowledged; of who opened the connection the SYN is one.
    pub bytes_acked: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Segments sent; with data.
    pub segs_out: u32,
    /// Segments received.
    pub segs_in: u32,
    /// Segments with data sent.
    pub data_segs_out: u32,
    /// Segments with data received.
    pub data_segs_in: u32,
    /// Microseconds in which there was something to send.
    pub busy_us: u64,
    /// Of those, waiting for the peer's window.
    pub rwnd_limited_us: u64,
    /// … waiting for an application that waits for room in its send buffer.
    pub sndbuf_limited_us: u64,
    /// Segments that D-SACKs told of.
    pub dsack_dups: u32,
    /// Segments received out of order.
    pub rcv_ooopack: u32,
    /// Timeouts for which Linux hashes the flow anew, so that it may take another way: all but those of a listener's SYN-ACKs.
    pub rehash: u32,
    /// Retransmission timeouts in all, those of the handshake too, but for those while the peer's window is closed; wraps.
    pub total_rto: u16,
    /// Recoveries that began with one, the one that has not ended too; wraps.
    pub total_rto_recoveries: u16,
    /// Milliseconds of these recoveries, each from its first timeout, or a listener's first SYN-ACK, until the sender does not
    /// take all for lost any more; those that ended in another one do not count.
    pub total_rto_time: u32,
    /// What BBR knows of the path, where it is in use (`TCP_CC_INFO`).
    pub bbr: Option<BbrInfo>,
}

impl TcpInfo {
    /// Slow-start threshold of a connection that has lost nothing yet (`TCP_INFINITE_SSTHRESH`).
    pub const NO_SSTHRESH: u32 = 0x7fff_ffff;
}

/// Bytes of `struct tcp_info` up to `tcpi_total_rto_time`; what newer kernels append is of Accurate ECN.
pub const TCP_INFO_LEN: usize = 248;

/// Fields one behind the other, in the byte order of the machine.
struct Layout {
    bytes: [u8; TCP_INFO_LEN],
    at: usize,
}

impl Layout {
    fn put(&mut self, field: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.at..self.at + field.len()) {
            place.copy_from_slice(field);
        }
        self.at += field.len();
    }

    fn words(&mut self, fields: &[u32]) {
        fields.iter().for_each(|field| self.put(&field.to_ne_bytes()));
    }

    fn longs(&mut self, fields: &[u64]) {
        fields.iter().for_each(|field| self.put(&field.to_ne_bytes()));
    }
}

impl TcpInfo {
    /// As `getsockopt(2)` gives it (`struct tcp_info`), for what reads Linux's. Fields that nothing here counts are 0:
    /// forward acknowledgements, and the time of the last ACK sent.
    pub fn to_bytes(&self) -> [u8; TCP_INFO_LEN] {
        let options = [
            (self.timestamps, 1),
            (self.sack, 2),
            (self.wscale.is_some(), 4),
            (self.ecn, 8),
            (self.ecn_seen, 16),
            (self.syn_data, 32),
            (self.tfo_child, 128),
        ];
        let options = options.iter().filter(|(agreed, _)| *agreed).map(|(_, bit)| bit).sum();
        let (snd, rcv) = self.wscale.unwrap_or((0, 0));
        let last = u8::from(self.delivery_rate_app_limited) | (self.fastopen_client_fail as u8) << 1;
        let mut layout = Layout { bytes: [0; TCP_INFO_LEN], at: 0 };
        layout.put(&[self.state as u8, self.ca_state as u8, self.retransmits, self.probes]);
        layout.put(&[self.backoff, options, snd | rcv << 4, last]);
        layout.words(&[self.rto, self.ato, self.snd_mss, self.rcv_mss]);
        layout.words(&[self.unacked, self.sacked, self.lost, self.retrans, 0]);
        layout.words(&[self.last_data_sent, 0, self.last_data_recv, self.last_ack_recv]);
        layout.words(&[self.pmtu, self.rcv_ssthresh, self.rtt, self.rttvar]);
        layout.words(&[self.snd_ssthresh, self.snd_cwnd, self.advmss, self.reordering]);
        layout.words(&[self.rcv_rtt, self.rcv_space, self.total_retrans]);
        layout.longs(&[self.pacing_rate, self.max_pacing_rate, self.bytes_acked, self.bytes_received]);
        layout.words(&[self.segs_out, self.segs_in, self.notsent_bytes, self.min_rtt]);
        layout.words(&[self.data_segs_in, self.data_segs_out]);
        layout.longs(&[self.delivery_rate, self.busy_us, self.rwnd_limited_us, self.sndbuf_limited_us]);
        layout.words(&[self.delivered, self.delivered_ce]);
        layout.longs(&[self.bytes_sent, self.bytes_retrans]);
        layout.words(&[self.dsack_dups, self.reord_seen, self.rcv_ooopack, self.snd_wnd, self.rcv_wnd, self.rehash]);
        layout.put(&self.total_rto.to_ne_bytes());
        layout.put(&self.total_rto_recoveries.to_ne_bytes());
        layout.words(&[self.total_rto_time]);
        layout.bytes
    }
}

/// What BBR knows of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BbrInfo {
    /// Bytes per second that it carries; 0 while unknown.
    pub bandwidth: u64,
    /// Microseconds of a round trip over it without queues; 0 while unknown.
    pub min_rtt: u32,
    /// How many times the bandwidth is sent now, in 256ths.
    pub pacing_gain: u32,
    /// How many times what fills the path may be in flight, in 256ths.
    pub cwnd_gain: u32,
}

impl TcpSock {
    /// `tcp_get_info`.
    pub fn info(&self, now: Time) -> TcpInfo {
        let us = |ns: u64| u32::try_from(ns / 1_000).unwrap_or(u32::MAX);
        let ms_since = |at: Time| ((now - at) / MS).min(u64::from(u32::MAX)) as u32;
        let rate = self.cong.rate.latest();
        let delivery_rate = rate.map_or(0, |(segments, interval, _)| {
            let bytes = u128::from(segments) * u128::from(self.tx.mss) * 1_000_000_000;
            u64::try_from(bytes / u128::from(interval.max(1))).unwrap_or(u64::MAX)
        });
        let (busy, rwnd_limited, sndbuf_limited) = self.tx.chrono.spent(now);
        let bbr = self.cong.bbr().map(|(bandwidth, rtprop, pacing_gain, cwnd_gain)| BbrInfo {
            bandwidth,
            min_rtt: us(rtprop),
            pacing_gain,
            cwnd_gain,
        });
        TcpInfo {
            state: self.state,
            ca_state: self.cong.state,
            retransmits: self.rtt.retransmits,
            probes: self.live.probes_out,
            backoff: self.rtt.backoff,
            timestamps: self.opts.timestamps,
            sack: self.opts.sack,
            ecn: self.ecn.ok,
            ecn_seen: self.ecn.seen,
            syn_data: self.fast.data_acked,
            tfo_child: self.fast.child,
            fastopen_client_fail: self.fast.fail,
            congestion: self.cong.algorithm.name(),
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
            rttvar: us(self.rtt.mdev),
            snd_ssthresh: self.cong.ssthresh.min(TcpInfo::NO_SSTHRESH),
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
            notsent_bytes: self.unsent(),
            pacing_rate: self.cong.pacing.rate,
            max_pacing_rate: self.cong.pacing.max,
            delivery_rate,
            delivery_rate_app_limited: rate.is_some_and(|(_, _, app_limited)| app_limited),
            app_limited: self.cong.rate.is_app_limited(),
            delivered_ce: self.cong.delivered_ce,
            bytes_sent: self.tx.bytes_sent,
            bytes_retrans: self.tx.bytes_retrans,
            bytes_acked: self.tx.bytes_acked,
            bytes_received: self.user.delivered + u64::from(self.readable()),
            segs_out: self.tx.segs_out,
            segs_in: self.rx.segs_in,
            data_segs_out: self.tx.data_segs_out,
            data_segs_in: self.rx.data_segs_in,
            busy_us: busy / 1_000,
            rwnd_limited_us: rwnd_limited / 1_000,
            sndbuf_limited_us: sndbuf_limited / 1_000,
            dsack_dups: self.loss.dsack_dups(),
            rcv_ooopack: self.rx.ooopack,
            rehash: self.loss.rto.rehash,
            total_rto: self.loss.rto.total,
            total_rto_recoveries: self.loss.rto.recoveries,
            total_rto_time: self.loss.rto.total_ms(now),
            bbr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::lab::{Lab, Peer};
    use super::*;

    #[test]
    fn fields_lie_where_linux_has_them() {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        let mut peer = Peer { stamps: Some((77, 0)), sack: true, ..Peer::new(40_000, 80) };
        let sock = peer.connect_from_afar(&mut lab, &listener, 30);
        peer.data(&mut lab, &[1; 100]);
        lab.send(&sock, &[2; 2_000]);
        while lab.sent().is_some() {}
        let info = sock.lock.user().info(lab.now);
        let info = TcpInfo {
            delivery_rate_app_limited: true,
            fastopen_client_fail: FastOpenFail::DataNotAcked,
            rehash: 11,
            total_rto: 12,
            total_rto_recoveries: 13,
            total_rto_time: 14,
            ..info
        };
        let bytes = info.to_bytes();
        // Where they lie was read off 6.18, whose `getsockopt` was asked about connections of known numbers.
        assert_eq!(bytes[..8], [1, 0, 0, 0, 0, 7, 10 << 4 | 7, 1 | 2 << 1]);
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        for (at, value) in [
            (8, info.rto),
            (16, info.snd_mss),
            (24, info.unacked),
            (60, info.pmtu),
            (68, info.rtt),
            (80, info.snd_cwnd),
            (100, info.total_retrans),
            (128, info.bytes_received as u32),
            (136, info.segs_out),
            (148, info.min_rtt),
            (152, info.data_segs_in),
            (192, info.delivered),
            (200, info.bytes_sent as u32),
            (228, info.snd_wnd),
            (232, info.rcv_wnd),
        ] {
            assert_eq!(word(at), value, "at {at}");
        }
        assert_eq!((info.unacked, info.bytes_sent, info.bytes_received, info.snd_mss), (2, 2_000, 100, 1_448));
        assert_eq!(bytes[236..], [[11, 0, 0, 0], [12, 0, 13, 0], [14, 0, 0, 0]].concat());
    }
}
