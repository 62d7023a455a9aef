//! What is reported of data that came out of order (RFC 2018) or twice (RFC 2883), and when.
//!
//! The ranges are not the tree of [`super::ofo`]: the four that changed last are kept, newest first, grown and merged as
//! segments come, and forgotten once the next byte has passed them. A D-SACK stands before them, and is reported once.
//!
//! Duplicate ACKs are compressed: the first three for the same next byte go at once, because the sender counts them;
//! of those that follow, one in a while is enough, as it reports the newest ranges in any case.

use rxpath_trace::{AckWhy, Counter, Time};
use rxpath_wire::SeqNum;

use super::TcpSock;
use crate::cx::Cx;

/// A range of sequence numbers: the first one, and the one behind the last.
type Range = (SeqNum, SeqNum);

/// Ranges that are kept (`TCP_NUM_SACKS`).
const RANGES: usize = 4;
/// A range farther back than this in the list is news to the peer: it is told before the list changes
/// (`TCP_SACK_BLOCKS_EXPECTED`).
const EXPECTED: usize = 2;
/// Duplicate ACKs for one next byte that are never held back (`TCP_FASTRETRANS_THRESH`).
const AT_ONCE: u8 = 3;

/// The report of one connection.
#[derive(Clone, Debug, Default)]
pub struct SackReport {
    /// Blocks that the next segment has to say: the ranges and the D-SACK.
    pending: u8,
    /// How many of `ranges` count.
    count: u8,
    /// Duplicate ACKs that went at once since the next byte last changed.
    at_once: u8,
    /// Received out of order, newest first.
    ranges: [Range; RANGES],
    /// Received twice.
    dsack: Option<Range>,
    /// The next byte for which `at_once` counts.
    at_once_for: SeqNum,
}

/// Grows `range` by another that touches or overlaps it; false if that is apart (`tcp_sack_extend`).
fn extend(range: &mut Range, (seq, end_seq): Range) -> bool {
    let touches = seq.at_or_before(range.1) && range.0.at_or_before(end_seq);
    if touches {
        if seq.before(range.0) {
            range.0 = seq;
        }
        if end_seq.after(range.1) {
            range.1 = end_seq;
        }
    }
    touches
}

impl SackReport {
    /// True if segments carry no SACK option.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// The ranges that are known, newest first.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges[..usize::from(self.count).min(RANGES)]
    }

    /// Bytes that the option takes in a segment, behind `used` bytes of other options.
    #[inline]
    pub fn option_len(&self, used: usize) -> u16 {
        if self.is_empty() {
            return 0;
        }
        let room = (rxpath_wire::tcp::MAX_OPTIONS_LEN - used).saturating_sub(4) / 8;
        match usize::from(self.pending).min(room) {
            0 => 0,
            blocks => 4 + 8 * blocks as u16,
        }
    }

    /// The blocks of a segment that goes out now: the D-SACK, which is said once, then the ranges.
    pub(super) fn report(&mut self) -> impl Iterator<Item = Range> + use<> {
        let (dsack, ranges, count) = (self.dsack.take(), self.ranges, self.count);
        self.pending = count;
        dsack.into_iter().chain(ranges.into_iter().take(usize::from(count)))
    }

    /// Forgets everything: what was promised is not kept, or there is nothing more to come (`tcp_sack_reset`).
    pub(super) fn reset(&mut self) {
        self.dsack = None;
        self.set_count(0);
    }

    /// A range that came twice and was not told yet will not be told.
    #[inline(always)]
    pub(super) fn forget_dsack(&mut self) {
        if self.dsack.is_some() {
            self.dsack = None;
            self.pending = self.count;
        }
    }

    fn set_count(&mut self, count: usize) {
        self.count = count as u8;
        self.pending = self.count + u8::from(self.dsack.is_some());
    }

    /// A range by itself: nothing was out of order before.
    pub(super) fn begin(&mut self, range: Range) {
        self.ranges[0] = range;
        self.set_count(1);
    }

    /// Where `range` touches what is known: the place of the range that took it up.
    fn grow(&mut self, range: Range) -> Option<usize> {
        self.ranges.iter_mut().take(usize::from(self.count)).position(|known| extend(known, range))
    }

    /// Moves the range at `place` to the front and merges with it those that it has come to touch
    /// (`tcp_sack_maybe_coalesce`).
    fn bring_to_front(&mut self, place: usize) {
        self.ranges[..=place].rotate_right(1);
        let (mut kept, mut at) = (usize::from(self.count), 1);
        while at < kept {
            let other = self.ranges[at];
            if extend(&mut self.ranges[0], other) {
                self.ranges.copy_within(at + 1..kept, at);
                kept -= 1;
            } else {
                at += 1;
            }
        }
        self.set_count(kept);
    }

    /// A range that touches none: the oldest goes if there are too many.
    fn push_front(&mut self, range: Range) {
        self.ranges.rotate_right(1);
        self.ranges[0] = range;
        self.set_count((usize::from(self.count) + 1).min(RANGES));
    }

    /// Everything before `rcv_nxt` is in order: ranges that it has reached are old news (`tcp_sack_remove`).
    fn advance(&mut self, rcv_nxt: SeqNum) {
        let mut kept = 0;
        for at in 0..usize::from(self.count) {
            if rcv_nxt.before(self.ranges[at].0) {
                self.ranges[kept] = self.ranges[at];
                kept += 1;
            }
        }
        self.set_count(kept);
    }
}

impl TcpSock {
    /// A range came twice (`tcp_dsack_set`): the next segment says so.
    pub(super) fn dsack_set(&mut self, cx: &Cx, seq: SeqNum, end_seq: SeqNum) {
        if !self.opts.sack || !cx.net.sysctl.tcp_dsack {
            return;
        }
        let old = seq.before(self.rx.rcv_nxt);
        cx.count(if old { Counter::TcpExtTCPDSACKOldSent } else { Counter::TcpExtTCPDSACKOfoSent });
        self.rx.sack.dsack = Some((seq, end_seq));
        self.rx.sack.set_count(usize::from(self.rx.sack.count));
    }

    /// As `dsack_set`; one that was not told yet is grown by it if they touch (`tcp_dsack_extend`).
    pub(super) fn dsack_extend(&mut self, cx: &Cx, seq: SeqNum, end_seq: SeqNum) {
        match &mut self.rx.sack.dsack {
            Some(dsack) => {
                extend(dsack, (seq, end_seq));
            }
            None => self.dsack_set(cx, seq, end_seq),
        }
    }

    /// A range came out of order, of which some may have been there (`tcp_sack_new_ofo_skb`).
    pub(super) fn sack_new_ofo(&mut self, cx: &mut Cx, seq: SeqNum, end_seq: SeqNum) {
        if !self.opts.sack {
            return;
        }
        if self.rx.sack.count == 0 {
            return self.rx.sack.begin((seq, end_seq));
        }
        let place = self.rx.sack.grow((seq, end_seq));
        if place.unwrap_or(usize::from(self.rx.sack.count)) >= EXPECTED {
            self.send_compressed(cx);
        }
        match place {
            Some(place) => self.rx.sack.bring_to_front(place),
            None => self.rx.sack.push_front((seq, end_seq)),
        }
    }

    /// After the next byte has moved on.
    #[inline]
    pub(super) fn sack_advance(&mut self) {
        if self.rx.sack.count > 0 {
            let through = if self.rx.ofo.is_empty() { None } else { Some(self.rx.rcv_nxt) };
            match through {
                Some(rcv_nxt) => self.rx.sack.advance(rcv_nxt),
                None => self.rx.sack.set_count(0),
            }
        }
    }

    /// True if the duplicate ACK that is due had better wait (`__tcp_ack_snd_check`): then a timer sends the one that
    /// stands for all that are held.
    #[cold]
    pub(super) fn compresses_ack(&mut self, cx: &Cx) -> bool {
        let sysctl = &cx.net.sysctl;
        if !self.opts.sack || u32::from(self.ack.compressed) >= sysctl.tcp_comp_sack_nr {
            return false;
        }
        let report = &mut self.rx.sack;
        if report.at_once_for != self.rx.rcv_nxt {
            report.at_once_for = self.rx.rcv_nxt;
            report.at_once = 0;
        }
        if report.at_once < AT_ONCE {
            report.at_once += 1;
            return false;
        }
        self.ack.compressed += 1;
        if self.ack.compressed == 1 {
            let mut rtt = u64::from(self.rx.rtt_us8) * 125;
            if self.rtt.srtt != 0 {
                rtt = rtt.min(self.rtt.srtt);
            }
            let delay = (rtt / 20).min(u64::from(sysctl.tcp_comp_sack_delay_ns));
            self.timers.delack = cx.now + delay + u64::from(sysctl.tcp_comp_sack_slack_ns);
        }
        true
    }

    /// Sends the ACK that stands for those that were held, if there are any (`tcp_sack_compress_send_ack`).
    fn send_compressed(&mut self, cx: &mut Cx) {
        if self.ack.compressed > 0 {
            self.compressed_ack_kick(cx);
        }
    }

    /// ACKs were held for long enough (`tcp_compressed_ack_kick`): one goes, and the others are saved.
    pub(super) fn compressed_ack_kick(&mut self, cx: &mut Cx) {
        self.timers.delack = Time::MAX;
        self.ack.compressed -= 1;
        self.send_ack(cx, AckWhy::OutOfOrder);
    }

    /// A segment with an ACK goes out: it stands for all that were held.
    #[cold]
    pub(super) fn count_compressed(&mut self, cx: &Cx) {
        cx.count_n(Counter::TcpExtTCPAckCompressed, u64::from(self.ack.compressed));
        self.ack.compressed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(seq: u32, end_seq: u32) -> Range {
        (SeqNum(seq), SeqNum(end_seq))
    }

    /// As `sack_new_ofo` does it.
    fn note(report: &mut SackReport, new: Range) {
        match report.grow(new) {
            Some(place) => report.bring_to_front(place),
            None => report.push_front(new),
        }
    }

    fn blocks(report: &mut SackReport) -> Vec<(u32, u32)> {
        report.report().map(|(seq, end_seq)| (seq.0, end_seq.0)).collect()
    }

    #[test]
    fn the_newest_of_four_comes_first_and_neighbours_merge() {
        let mut report = SackReport::default();
        for seq in [100, 300, 500, 700, 900] {
            note(&mut report, range(seq, seq + 50));
        }
        assert_eq!(blocks(&mut report), [(900, 950), (700, 750), (500, 550), (300, 350)]);
        note(&mut report, range(350, 500));
        assert_eq!(blocks(&mut report), [(300, 550), (900, 950), (700, 750)]);
        report.advance(SeqNum(700));
        assert_eq!(blocks(&mut report), [(900, 950)]);
    }

    #[test]
    fn a_dsack_is_said_once_and_counts_among_those_that_fit() {
        let mut report = SackReport::default();
        report.begin(range(10, 20));
        report.dsack = Some(range(1, 5));
        report.set_count(1);
        assert_eq!((report.option_len(12), report.option_len(0)), (20, 20));
        assert_eq!(blocks(&mut report), [(1, 5), (10, 20)]);
        assert_eq!(blocks(&mut report), [(10, 20)]);
        for seq in [100, 300, 500, 700] {
            note(&mut report, range(seq, seq + 50));
        }
        assert_eq!((report.option_len(12), report.option_len(0)), (28, 36));
        report.reset();
        assert_eq!(report.option_len(0), 0);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut report = SackReport::default();
        report.begin(range(u32::MAX - 9, 10));
        note(&mut report, range(10, 30));
        assert_eq!(blocks(&mut report), [(u32::MAX - 9, 30)]);
        report.advance(SeqNum(u32::MAX - 10));
        assert_eq!(report.ranges().len(), 1);
        report.advance(SeqNum(0));
        assert!(report.is_empty());
    }
}
