//! How fast the network delivers (draft-cheng-iccrg-delivery-rate-estimation): segments delivered between the sending of a
//! segment and its acknowledgement, over the time that took. Neither how fast they were sent nor how fast ACKs came back
//! counts alone, but the slower of the two: ACKs that were held up and come at once prove nothing.
//!
//! A sample is marked when the application, not the network, was what held the sender back. [`super::congestion`]'s BBR
//! lives on these samples; `TCP_INFO` tells of the latest that counts. Here is what is remembered; `delivery` makes samples.
//!
//! Mirrors `tcp_rate_skb_sent`, `tcp_rate_skb_delivered`, `tcp_rate_gen`.

use rxpath_trace::Time;
use rxpath_wire::SeqNum;

/// What was known when a segment was last sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Segments that had been delivered.
    pub delivered: u32,
    /// When the last of them was.
    delivered_at: Time,
    /// When the segment was sent that this flight began with.
    first_sent: Time,
    /// The application held the sender back.
    app_limited: bool,
}

/// The connection's side of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    first_sent: Time,
    delivered_at: Time,
    /// Samples up to this number of delivered segments are the application's fault; 0 is none.
    app_limited: u32,
    /// Segments of the latest sample that counts, their time in nanoseconds, and whose fault it was.
    latest: Option<(u32, u64, bool)>,
}

/// The latest-sent of the segments that one ACK has delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    stamp: Stamp,
    sent_at: Time,
    end_seq: SeqNum,
    /// From the first of its flight to it.
    send_time: u64,
}

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Segments delivered over the interval.
    pub(super) delivered: u32,
    /// The interval, in nanoseconds.
    pub(super) interval: u64,
    /// Segments delivered before it.
    pub(super) prior_delivered: u32,
    /// The application held the sender back.
    pub(super) app_limited: bool,
}

impl Rate {
    /// A segment goes out, of a connection that has so many in flight and delivered.
    pub(super) fn sent(&mut self, now: Time, packets_out: u32, delivered: u32) -> Stamp {
        if packets_out == 0 {
            // The time in which nothing could be delivered does not count.
            (self.first_sent, self.delivered_at) = (now, now);
        }
        Stamp {
            delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            app_limited: self.app_limited != 0,
        }
    }

    /// A segment was delivered that ended here and was sent then.
    pub(super) fn delivered(&mut self, stamp: Stamp, sent_at: Time, end_seq: SeqNum, newest: &mut Option<Newest>) {
        let later = newest.is_none_or(|newest| {
            sent_at > newest.sent_at || (sent_at == newest.sent_at && end_seq.after(newest.end_seq))
        });
        if later {
            *newest = Some(Newest { stamp, sent_at, end_seq, send_time: sent_at - stamp.first_sent });
            self.first_sent = sent_at;
        }
    }

    /// An ACK: if it delivered something (`progress`), the next interval begins; and `delivered` segments in all may be the
    /// end of what was the application's fault.
    pub(super) fn acknowledged(&mut self, now: Time, delivered: u32, progress: bool) {
        if self.app_limited != 0 && (delivered.wrapping_sub(self.app_limited) as i32) > 0 {
            self.app_limited = 0;
        }
        if progress {
            self.delivered_at = now;
        }
    }

    /// Takes note of a sample, if it counts: one that was the application's fault only if it is the best.
    pub(super) fn note(&mut self, sample: &Sample) {
        let counts = !sample.app_limited
            || self.latest.is_none_or(|(delivered, time, _)| {
                u128::from(sample.delivered) * u128::from(time) >= u128::from(delivered) * u128::from(sample.interval)
            });
        if counts {
            self.latest = Some((sample.delivered, sample.interval, sample.app_limited));
        }
    }

    /// Until what is in flight now is delivered, the application is what limits.
    pub(super) fn limit_by_app(&mut self, delivered: u32, in_flight: u32) {
        self.app_limited = delivered.wrapping_add(in_flight).max(1);
    }

    /// The application, not the network, limits.
    pub fn is_app_limited(&self) -> bool {
        self.app_limited != 0
    }

    /// Segments and nanoseconds of the latest sample, and whether the application was what limited it.
    pub fn latest(&self) -> Option<(u32, u64, bool)> {
        self.latest
    }
}

impl Newest {
    /// The sample of an ACK that came now, when `delivered` segments were delivered in all.
    pub(super) fn sample(&self, now: Time, delivered: u32) -> Sample {
        Sample {
            delivered: delivered.wrapping_sub(self.stamp.delivered),
            interval: self.send_time.max(now - self.stamp.delivered_at),
            prior_delivered: self.stamp.delivered,
            app_limited: self.stamp.app_limited,
        }
    }
}
