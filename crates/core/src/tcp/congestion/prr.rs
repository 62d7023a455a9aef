//! Proportional rate reduction (RFC 9937): over a round trip the window goes down to the threshold in step with what the
//! peer says has left the network, instead of halting the sender.

/// The reduction under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prr {
    /// Segments delivered since it began.
    delivered: u32,
    /// Segments sent since it began.
    out: u32,
}

impl Prr {
    /// Segments that may be sent now that `delivered` more have left the network. With `progress`, ACKs advance and
    /// nothing more was lost, so that slow start may fill up to the threshold.
    pub(super) fn quota(
        &mut self,
        delivered: u32,
        in_flight: u32,
        ssthresh: u32,
        prior_cwnd: u32,
        progress: bool,
    ) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let quota = if in_flight > ssthresh {
            let share = (u64::from(ssthresh) * u64::from(self.delivered)).div_ceil(u64::from(prior_cwnd.max(1)));
            (share as u32).saturating_sub(self.out)
        } else {
            let owed = self.delivered.saturating_sub(self.out).max(delivered) + u32::from(progress);
            owed.min(ssthresh - in_flight)
        };
        // The first retransmission goes at once.
        quota.max(u32::from(self.out == 0))
    }

    /// Segments went out.
    pub(super) fn sent(&mut self, segments: u32) {
        self.out = self.out.saturating_add(segments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_in_flight_become_ten_in_one_round_trip() {
        // One of twenty was lost; the others come back one by one.
        let (mut prr, mut in_flight, mut sent) = (Prr::default(), 19, 0);
        for _ in 0..19 {
            in_flight -= 1;
            let quota = prr.quota(1, in_flight, 10, 20, false);
            prr.sent(quota);
            in_flight += quota;
            sent += quota;
        }
        assert_eq!((in_flight, sent), (10, 10));
    }

    #[test]
    fn after_many_losses_the_window_fills_up_as_slow_start_would() {
        let mut prr = Prr::default();
        assert_eq!(prr.quota(1, 2, 10, 20, false), 1);
        prr.sent(1);
        assert_eq!(prr.quota(1, 2, 10, 20, true), 2, "an ACK that advances, and no new loss");
        prr.sent(2);
        assert_eq!(prr.quota(30, 8, 10, 20, false), 2, "not beyond the threshold");
    }
}
