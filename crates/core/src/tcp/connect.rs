//! Active open (`tcp_v4_connect`, `tcp_connect`).

use rxpath_trace::Counter;

use super::isn::{first_ip_id, secure_tcp_seq, secure_ts_offset};
use super::window::select_initial_window;
use super::{SentSegment, State, TSTAMP_ALIGNED, TcpSock, TimeWait, WriteQueue};
use crate::cx::Cx;

impl TcpSock {
    /// Begins the handshake: the first SYN goes out. Of a connection to the same place that was in TIME-WAIT the sequence
    /// numbers go on, and the timestamps tell the segments of both apart (RFC 6191, `tcp_twsk_unique`).
    pub fn connect(&mut self, cx: &mut Cx, before: Option<&TimeWait>) {
        let sysctl = &cx.net.sysctl;
        let options = self.handshake_options();
        let iss = match before {
            Some(tw) => {
                cx.count(Counter::TcpExtTWRecycled);
                self.opts.ts_recent = tw.ts_recent.unwrap_or(0);
                tw.next_isn()
            }
            None => secure_tcp_seq(&cx.net, &self.tuple, cx.now),
        };
        let tx = &mut self.tx;
        tx.iss = iss;
        tx.snd_una = iss;
        tx.first_una = iss;
        tx.snd_nxt = iss;
        tx.write_seq = iss + 1;
        tx.buffer_seq = iss + 1;
        tx.queue = WriteQueue::starting_at(iss + 1);
        tx.snd_sml = iss;
        tx.last_sent = cx.now;
        tx.advmss = options.mss_clamp(self.route.mtu.saturating_sub(40));
        tx.ts_offset = if sysctl.tcp_timestamps == 1 { secure_ts_offset(&cx.net, &self.tuple) } else { 0 };
        tx.ip_id = first_ip_id(&cx.net, &self.tuple, cx.now);
        let scale_space = sysctl.tcp_rmem.max.max(sysctl.rmem_max);
        let space = self.rx.full_space();
        // Where the peer is known to send timestamps, they are reckoned with.
        let stamps = if before.is_some_and(|tw| tw.stamped) { u16::from(TSTAMP_ALIGNED) } else { 0 };
        let mss = self.tx.advmss.saturating_sub(stamps);
        let (window, clamp, scale) =
            select_initial_window(space, mss, sysctl.tcp_window_scaling, scale_space, options.clamp(space));
        self.rtt.rto_min = u64::from(sysctl.tcp_rto_min_us) * 1_000;
        self.rx.rcv_wnd = window;
        self.rx.rcv_ssthresh = window;
        self.rx.window_clamp = clamp;
        self.opts.rcv_wscale = scale;
        self.sync_mss(self.tx.advmss);
        self.user.accepted = true;
        self.ecn.open(sysctl.tcp_ecn);
        self.begin_auth();
        self.set_state(cx, State::SynSent);
        cx.count(Counter::TcpActiveOpens);
        let syn =
            SentSegment { syn: true, ..SentSegment::new(iss, iss + 1, 1, cx.now, self.cong.rate.sent(cx.now, 0, 0)) };
        self.tx.segments.push_back(syn);
        self.cong.packets_out = 1;
        self.send_first_syn(cx);
        // The user's patience begins with the SYN.
        self.live.timeouts_since = Some(cx.now);
        self.arm_for_output(cx);
    }
}
