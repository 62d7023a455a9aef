//! SACK blocks of the peer onto the scoreboard (`tcp_sacktag_write_queue`).

use rxpath_trace::Counter;
use rxpath_wire::SeqNum;

use super::super::write_queue::PACKET_CHARGE;
use super::super::{CaState, SentSegment, TcpSock};
use super::state::{AckSays, Block, Told};
use crate::cx::Cx;

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
        if too_old || self.cong.packets_out == 0 {
            return;
        }
        let (mut told, mut first_twice) = (Told::default(), None);
        for (nth, &(start, end)) in blocks.iter().enumerate().take(Told::MOST) {
            let twice = dsack && nth == 0;
            if !self.is_sackblock_valid(twice, start, end) {
                self.count_discarded(cx, twice, (start, end), ack);
            } else if twice || end.after(prior_una) {
                first_twice = first_twice.or(twice.then_some((start, end)));
                told.push((start, end));
            }
        }
        let una = self.tx.snd_una;
        told.as_mut_slice().sort_by_key(|&(start, _)| start - una);
        // Of blocks that begin together the one that was told of first is in front.
        let twice_at = first_twice.and_then(|first| told.as_slice().iter().position(|&block| block == first));
        let before = std::mem::replace(&mut self.loss.told, told);
        let known = if self.cong.sacked_out == 0 { &[] } else { before.as_slice() };
        self.sacktag_blocks(cx, told.as_slice(), twice_at, known, says);
        if self.cong.state != CaState::Loss || self.loss.undo_marker.is_some() {
            self.check_sack_reordering(cx, says.reordered, false);
        }
    }

    /// Walks through `blocks`, in order, of which that at `twice` came a second time. What the blocks of the acknowledgement
    /// before told of is `known`, and is not looked at again, but for what came twice.
    fn sacktag_blocks(&mut self, cx: &Cx, blocks: &[Block], twice: Option<usize>, known: &[Block], says: &mut AckSays) {
        let (mut known, mut place) = (known.iter().copied().peekable(), None);
        for (at, &(start, end)) in blocks.iter().enumerate() {
            let is_twice = twice == Some(at);
            // What came twice is looked at on the way through the range that it lies in.
            let within = blocks.get(at + 1).copied().filter(|_| twice == Some(at + 1));
            loop {
                while known.next_if(|&(_, known_end)| !start.before(known_end)).is_some() {}
                let next = known.peek().copied().filter(|&(known_start, _)| !is_twice && end.after(known_start));
                let Some((known_start, known_end)) = next else {
                    place = self.sacktag_from(cx, place, (start, end), is_twice, within, says);
                    break;
                };
                if start.before(known_start) {
                    place = self.skip_to(place, start);
                    place = self.sacktag_block(cx, place, (start, known_start), false, within, says);
                }
                if !end.after(known_end) {
                    break;
                }
                if let Some(within) = within.filter(|within| within.0.before(known_end)) {
                    place = self.skip_to(place, within.0);
                    place = self.sacktag_block(cx, place, within, true, None, says);
                }
                known.next();
                if self.loss.high_sack == known_end {
                    place = self.skip_to(None, known_end);
                    place = self.sacktag_block(cx, place, (start, end), false, within, says);
                    break;
                }
                place = self.skip_to(place, known_end);
            }
        }
    }

    /// A block of which nothing was known, seen from `place`; gives the place behind it.
    fn sacktag_from(
        &mut self,
        cx: &Cx,
        place: Option<usize>,
        block: Block,
        twice: bool,
        within: Option<Block>,
        says: &mut AckSays,
    ) -> Option<usize> {
        let place = place.filter(|_| block.0.before(self.loss.high_sack));
        let place = self.skip_to(place, block.0);
        self.sacktag_block(cx, place, block, twice, within, says)
    }

    /// The record that has `seq`. It is not looked for before `place`, which is where the walk has come to; None where that was
    /// the end (`tcp_sacktag_skip`).
    fn skip_to(&self, place: Option<usize>, seq: SeqNum) -> Option<usize> {
        let records = &self.tx.segments;
        let beyond = place.filter(|&at| records.get(at).is_some_and(|record| record.seq.after(seq)));
        beyond.or_else(|| {
            let at = records.partition_point(|record| record.end_seq.at_or_before(seq));
            (at < records.len()).then_some(at)
        })
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

    /// Marks the records in a block, from that at `place` on, and gives the place behind it, or None at the end of all records
    /// (`tcp_sacktag_walk`). Those that came twice are of the block `within` it.
    fn sacktag_block(
        &mut self,
        cx: &Cx,
        place: Option<usize>,
        (start, end): Block,
        twice: bool,
        within: Option<Block>,
        says: &mut AckSays,
    ) -> Option<usize> {
        let mut at = place?;
        while let Some(record) = self.tx.segments.get(at).copied() {
            if !record.seq.before(end) {
                return Some(at);
            }
            if let Some(within) = within.filter(|within| record.seq.before(within.1)) {
                let cut = self.cut_to_block(at, within);
                if matches!(cut, Cut::Front) {
                    self.rx.charge_output(PACKET_CHARGE);
                }
                if matches!(cut, Cut::Fits | Cut::Front) {
                    self.sacktag_one(cx, at, true, says);
                    at += 1;
                    continue;
                }
            }
            match self.cut_to_block(at, (start, end)) {
                Cut::Not => {}
                Cut::Fits => {
                    self.sacktag_one(cx, at, twice, says);
                    at = self.join_sacked(cx, at);
                }
                Cut::Front => {
                    self.sacktag_one(cx, at, twice, says);
                    // What only changes from one record to the other costs nothing.
                    if at > 0 && self.join_pair(cx, at - 1) {
                        at -= 1;
                    } else {
                        self.rx.charge_output(PACKET_CHARGE);
                    }
                }
            }
            at += 1;
        }
        None
    }

    /// Cuts a record where a block begins or ends in it, so that blocks cover whole segments (`tcp_match_skb_to_sack`).
    fn cut_to_block(&mut self, at: usize, (start, end): Block) -> Cut {
        let Some(record) = self.tx.segments.get(at).copied() else { return Cut::Not };
        let begins = !start.after(record.seq);
        if begins && !end.before(record.end_seq) {
            return Cut::Fits;
        }
        let mss = record.packet_len();
        if record.pcount <= 1 || record.len() <= mss {
            return Cut::Not;
        }
        let within = if begins { (end - record.seq) as u32 } else { ((start - record.seq) as u32).max(mss) };
        let first = if begins { within / mss } else { within.div_ceil(mss) } * mss;
        if first == 0 || first >= record.len() {
            return Cut::Not;
        }
        if begins {
            self.cut_record(at, first, mss);
            return Cut::Front;
        }
        // The record behind the cut is the next that is looked at.
        self.split_record(at, first, mss);
        Cut::Not
    }

    /// One record that lies wholly in a block (`tcp_sacktag_one`).
    fn sacktag_one(&mut self, cx: &Cx, at: usize, twice: bool, says: &mut AckSays) {
        let Some(record) = self.tx.segments.get(at).copied() else { return };
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
        let mut marked = record;
        if !record.sacked {
            self.rack_advance(cx.now, &record, says);
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
                    self.note_original(&record, says);
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
        self.rx.uncharge_output(PACKET_CHARGE);
        if self.join_pair(cx, at - 1) {
            self.rx.uncharge_output(PACKET_CHARGE);
        }
        at - 1
    }

    /// Joins the record at `at` and the one behind it, if they can be one; what that one is charged as such is the caller's.
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
    /// Its front is, and a record of its own; the one behind it is not charged for as such.
    Front,
    /// It is not, or a part that is no whole segment.
    Not,
}
