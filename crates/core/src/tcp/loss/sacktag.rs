//! SACK blocks of the peer onto the scoreboard (`tcp_sacktag_write_queue`).

use rxpath_trace::Counter;
use rxpath_wire::SeqNum;

use super::super::write_queue::PACKET_CHARGE;
use super::super::{CaState, SentSegment, TcpSock};
use super::state::AckSays;
use crate::cx::Cx;

/// A block: its first sequence number, and the one behind its last.
type Block = (SeqNum, SeqNum);

impl TcpSock {
    /// Takes the blocks of an acknowledgement of `ack`; `prior_una` is what was acknowledged before.
    pub(in super::super) fn sacktag_write_queue(
        &mut self,
        cx: &Cx,
        blocks: &[Block],
        ack: SeqNum,
        prior_una: SeqNum,
        says: &mut AckSays,
    ) {
        let Some(&first) = blocks.first() else { return };
        if self.cong.sacked_out == 0 {
            self.loss.high_sack = self.tx.snd_una;
        }
        let dsack = self.check_dsack(cx, first, blocks.get(1), ack, prior_una, says);
        // An ACK from so far back says nothing new.
        let too_old = ack.before(prior_una - self.tx.max_window);
        if !too_old && self.cong.packets_out > 0 {
            let mut known = [(SeqNum(0), SeqNum(0), false); 4];
            let mut count = 0;
            for (nth, &(start, end)) in blocks.iter().enumerate().take(known.len()) {
                let twice = dsack && nth == 0;
                if !self.is_sackblock_valid(twice, start, end) {
                    self.count_discarded(cx, twice, (start, end), ack);
                } else if twice || end.after(prior_una) {
                    known[count] = (start, end, twice);
                    count += 1;
                }
            }
            let una = self.tx.snd_una;
            known[..count].sort_by_key(|&(start, ..)| start - una);
            let mut done = None;
            for (at, &(start, end, twice)) in known[..count].iter().enumerate() {
                // What came twice is looked at on the way through the range that it lies in.
                let next = known[..count].get(at + 1);
                let within = next.filter(|&&(.., twice)| twice).map(|&(left, right, _)| (left, right));
                let from = done.filter(|done: &SeqNum| twice && done.after(start)).unwrap_or(start);
                if from.before(end) {
                    self.sacktag_block(cx, (from, end), twice, within, says);
                }
                done = within.map(|_| end);
            }
            if self.cong.state != CaState::Loss || self.loss.undo_marker.is_some() {
                self.check_sack_reordering(cx, says.reordered, false);
            }
        }
    }

    /// Whether the first block tells of something that came twice: it lies below the acknowledgement, or within the
    /// block behind it (RFC 2883 section 4, `tcp_check_dsack`).
    fn check_dsack(
        &mut self,
        cx: &Cx,
        (start, end): Block,
        second: Option<&Block>,
        ack: SeqNum,
        prior_una: SeqNum,
        says: &mut AckSays,
    ) -> bool {
        let counter = if start.before(ack) {
            Counter::TcpExtTCPDSACKRecv
        } else if second.is_some_and(|&(left, right)| !end.after(right) && !start.before(left)) {
            Counter::TcpExtTCPDSACKOfoRecv
        } else {
            return false;
        };
        cx.count(counter);
        let Some(segments) = self.dsack_seen(start, end, says) else {
            cx.count(Counter::TcpExtTCPDSACKIgnoredDubious);
            return false;
        };
        cx.count_n(Counter::TcpExtTCPDSACKRecvSegs, u64::from(segments));
        if let (Some(marker), Some(left)) = (self.loss.undo_marker, self.loss.undo_retrans)
            && !end.after(prior_una)
            && end.after(marker)
        {
            self.loss.undo_retrans = Some(left.saturating_sub(segments));
        }
        true
    }

    /// Segments that a D-SACK tells of, if it can be true: no more than were ever sent again (`tcp_dsack_seen`).
    fn dsack_seen(&mut self, start: SeqNum, end: SeqNum, says: &mut AckSays) -> Option<u32> {
        let len = u32::try_from(end - start).ok().filter(|len| (1..=self.tx.max_window).contains(len))?;
        let mss = u32::from(self.tx.mss);
        let mut segments = 1;
        if len > mss {
            segments = len.div_ceil(mss);
        } else if self.loss.tlp_high_seq == Some(end) {
            says.dsack_of_probe = true;
        }
        self.loss.dsack_dups = self.loss.dsack_dups.saturating_add(segments);
        if self.loss.dsack_dups > self.loss.total_retrans {
            return None;
        }
        if self.loss.reord_seen > 0 && !says.dsack_of_probe {
            self.loss.rack.dsack_seen = true;
        }
        says.dsack = true;
        self.cong.delivered = self.cong.delivered.wrapping_add(segments);
        Some(segments)
    }

    /// A block must lie in what was sent and not acknowledged; one that tells of something twice, in what was sent since
    /// the window was cut (`tcp_is_sackblock_valid`).
    fn is_sackblock_valid(&self, twice: bool, start: SeqNum, end: SeqNum) -> bool {
        let tx = &self.tx;
        if end.after(tx.snd_nxt) || !start.before(end) || !start.before(tx.snd_nxt) {
            return false;
        }
        if start.after(tx.snd_una) {
            return true;
        }
        match self.loss.undo_marker {
            Some(marker) if twice && !end.after(tx.snd_una) => {
                !start.before(marker) || (end.after(marker) && !start.before(end - tx.max_window))
            }
            _ => false,
        }
    }

    fn count_discarded(&self, cx: &Cx, twice: bool, (_, end): Block, ack: SeqNum) {
        let counter = match (twice, self.loss.undo_marker) {
            (true, None) => Counter::TcpExtTCPDSACKIgnoredNoUndo,
            (true, Some(_)) => Counter::TcpExtTCPDSACKIgnoredOld,
            // Old ACKs that were overtaken do no harm.
            (false, _) if ack != self.tx.snd_una && !end.after(self.tx.snd_una) => return,
            (false, _) => Counter::TcpExtTCPSACKDiscard,
        };
        cx.count(counter);
    }

    /// Marks the records in a block (`tcp_sacktag_walk`). Those that came twice are of the block `within` it.
    fn sacktag_block(&mut self, cx: &Cx, (start, end): Block, twice: bool, within: Option<Block>, says: &mut AckSays) {
        let mut at = self.tx.segments.partition_point(|record| record.end_seq.at_or_before(start));
        while let Some(record) = self.tx.segments.get(at).copied() {
            if !record.seq.before(end) {
                break;
            }
            let came_twice = within.is_some_and(|within| {
                record.seq.before(within.1) && matches!(self.cut_to_block(at, &record, within, true), Cut::Fits)
            });
            let Some(record) = self.tx.segments.get(at).copied() else { break };
            if came_twice {
                self.sacktag_one(cx, at, &record, true, says);
                at += 1;
                continue;
            }
            at += match self.cut_to_block(at, &record, (start, end), twice) {
                Cut::Before => 1,
                Cut::Not => {
                    at += 1;
                    continue;
                }
                Cut::Fits => 0,
            };
            let Some(record) = self.tx.segments.get(at).copied() else { break };
            if record.sacked && !twice {
                at += 1;
                continue;
            }
            self.sacktag_one(cx, at, &record, twice, says);
            at = self.join_sacked(cx, at) + 1;
        }
    }

    /// Cuts a record where a block begins or ends in it, so that blocks cover whole segments (`tcp_match_skb_to_sack`).
    /// One that was acknowledged selectively before is cut only by what came `twice`.
    fn cut_to_block(&mut self, at: usize, record: &SentSegment, (start, end): Block, twice: bool) -> Cut {
        let begins = !start.after(record.seq);
        if begins && !end.before(record.end_seq) {
            return Cut::Fits;
        }
        let mss = record.packet_len();
        if record.pcount <= 1 || (record.sacked && !twice) || record.len() <= mss {
            return Cut::Not;
        }
        let within = if begins { (end - record.seq) as u32 } else { ((start - record.seq) as u32).max(mss) };
        if within < mss {
            return Cut::Not;
        }
        let mut first = within / mss * mss;
        if !begins && first < within {
            first += mss;
        }
        if first >= record.len() {
            return if begins { Cut::Fits } else { Cut::Not };
        }
        self.split_record(at, first, mss);
        if begins {
            return Cut::Fits;
        }
        // What lies behind the cut may have to be cut again where the block ends.
        let Some(rest) = self.tx.segments.get(at + 1).copied() else { return Cut::Not };
        if end.before(rest.end_seq) && rest.pcount > 1 {
            let within = (end - rest.seq).max(0) as u32 / mss * mss;
            if within == 0 {
                return Cut::Not;
            }
            if within < rest.len() {
                self.split_record(at + 1, within, mss);
            }
        } else if end.before(rest.end_seq) {
            return Cut::Not;
        }
        Cut::Before
    }

    /// One record that lies wholly in a block (`tcp_sacktag_one`).
    fn sacktag_one(&mut self, cx: &Cx, at: usize, record: &SentSegment, twice: bool, says: &mut AckSays) {
        if twice && record.retransmitted {
            if let (Some(marker), Some(left)) = (self.loss.undo_marker, self.loss.undo_retrans)
                && record.end_seq.after(marker)
            {
                self.loss.undo_retrans = Some(left.saturating_sub(record.pcount));
            }
            if record.sacked && record.seq.before(says.reordered) {
                says.reordered = record.seq;
            }
        }
        if !record.end_seq.after(self.tx.snd_una) {
            // It is about to be forgotten.
            return;
        }
        let mut marked = *record;
        if !record.sacked {
            self.rack_advance(cx.now, record, says);
            self.cong.rate.delivered(record.stamp, record.sent_at, record.end_seq, &mut says.newest);
            if record.retrans {
                if record.lost {
                    // The retransmission was lost or not, but the segment was delivered.
                    marked.lost = false;
                    marked.retrans = false;
                    self.cong.lost_out = self.cong.lost_out.saturating_sub(record.pcount);
                    self.cong.retrans_out = self.cong.retrans_out.saturating_sub(record.pcount);
                }
            } else {
                if !record.retransmitted {
                    self.note_original(record, says);
                }
                if std::mem::take(&mut marked.lost) {
                    self.cong.lost_out = self.cong.lost_out.saturating_sub(record.pcount);
                }
            }
            marked.sacked = true;
            says.sacked = true;
            self.cong.sacked_out += record.pcount;
            self.cong.delivered = self.cong.delivered.wrapping_add(record.pcount);
            if record.end_seq.after(self.loss.high_sack) {
                self.loss.high_sack = record.end_seq;
            }
        }
        if twice && std::mem::take(&mut marked.retrans) {
            self.cong.retrans_out = self.cong.retrans_out.saturating_sub(record.pcount);
        }
        if let Some(slot) = self.tx.segments.get_mut(at) {
            *slot = marked;
        }
    }

    /// A segment that was sent once was delivered: it tells the round trip, and, below others, that it was overtaken.
    fn note_original(&self, record: &SentSegment, says: &mut AckSays) {
        if record.seq.before(self.loss.high_sack) && record.seq.before(says.reordered) {
            says.reordered = record.seq;
        }
        says.original |= !record.end_seq.after(self.loss.high_seq);
        let (first, _) = says.sack_sent.unwrap_or((record.sent_at, record.sent_at));
        says.sack_sent = Some((first, record.sent_at));
    }

    /// Joins a record that was just acknowledged selectively to the one before it, if that was, too, and both to the one
    /// behind, whose hole it may have filled; gives its place (`tcp_shift_skb_data`). It joins none behind it alone.
    fn join_sacked(&mut self, cx: &Cx, at: usize) -> usize {
        if at == 0 || !self.join_pair(cx, at - 1) {
            return at;
        }
        self.join_pair(cx, at - 1);
        at - 1
    }

    fn join_pair(&mut self, cx: &Cx, at: usize) -> bool {
        let [Some(first), Some(second)] = [at, at + 1].map(|at| self.tx.segments.get(at).copied()) else {
            return false;
        };
        let plain =
            |record: &SentSegment| record.sacked && !record.lost && !record.retrans && !record.fin && !record.syn;
        let mss = first.packet_len();
        if first.eor || !(plain(&first) && plain(&second) && first.end_seq == second.seq && mss == second.packet_len())
        {
            return false;
        }
        if let Some(record) = self.tx.segments.get_mut(at) {
            record.mss = mss as u16;
            record.end_seq = second.end_seq;
            record.pcount += second.pcount;
            record.charge += second.charge.saturating_sub(PACKET_CHARGE);
            record.retransmitted |= second.retransmitted;
            record.psh |= second.psh;
            record.eor = second.eor;
        }
        self.tx.segments.remove(at + 1);
        self.rx.uncharge_output(PACKET_CHARGE.min(second.charge));
        cx.count(Counter::TcpExtTCPSackMerged);
        true
    }

    /// Packets overtook one another by more than was known: losses are to be found later (`tcp_check_sack_reordering`).
    pub(in super::super) fn check_sack_reordering(&mut self, cx: &Cx, low: SeqNum, by_timestamp: bool) {
        let high = if self.cong.sacked_out > 0 { self.loss.high_sack } else { self.tx.snd_una };
        if !low.before(high) {
            return;
        }
        let (distance, mss) = ((high - low) as u32, u32::from(self.tx.mss));
        if distance > self.loss.reordering.saturating_mul(mss) {
            self.loss.reordering = distance.div_ceil(mss).min(cx.net.sysctl.tcp_max_reordering);
        }
        self.loss.reord_seen = self.loss.reord_seen.saturating_add(1);
        cx.count(if by_timestamp { Counter::TcpExtTCPTSReorder } else { Counter::TcpExtTCPSACKReorder });
    }
}

/// How a record was cut to a block.
enum Cut {
    /// The record is in the block.
    Fits,
    /// The record behind it is.
    Before,
    /// It cannot be cut: the block covers no whole segment of it.
    Not,
}
