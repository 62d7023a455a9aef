//! Samples of the delivery rate, one for an ACK, and when the application is what limits (`tcp_rate_gen`,
//! `tcp_rate_check_app_limited`).

use rxpath_trace::Time;

use super::TcpSock;
use super::loss::{AckSays, Prior};
use super::rate::Sample;

impl TcpSock {
    /// The sample of an ACK, if it is one: not after the peer took something back, and not faster than a round trip can be.
    pub(super) fn rate_sample(&mut self, now: Time, prior: Prior, says: &AckSays) -> Option<Sample> {
        let (rate, total) = (&mut self.cong.rate, self.cong.delivered);
        rate.acknowledged(now, total, total != prior.delivered);
        let sample = says.newest.filter(|_| !says.reneging)?.sample(now, total);
        if sample.interval == 0 || sample.interval < self.rtt.min_rtt {
            return None;
        }
        rate.note(&sample);
        Some(sample)
    }

    /// The application writes: if all that it wrote before is sent and the window has room, it was too slow.
    pub(super) fn check_app_limited(&mut self) {
        let tx = &self.tx;
        let cong = &mut self.cong;
        let in_flight = cong.in_flight();
        if ((tx.write_seq - tx.snd_nxt).max(0) as u32) < u32::from(tx.mss)
            && in_flight < cong.cwnd
            && cong.lost_out <= cong.retrans_out
        {
            cong.rate.limit_by_app(cong.delivered, in_flight);
        }
    }
}
