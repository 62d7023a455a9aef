//! Sequence number extensions of TCP-AO (RFC 5925 section 6.2).
//!
//! As in Linux, a sequence number is taken to be the one that is nearest to where its direction stands (`snd_una`,
//! `rcv_nxt`): that tells before or behind which turn of the 32 bits it is.

use rxpath_wire::SeqNum;

/// How often the sequence numbers of a direction have turned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extended {
    sne: u32,
    at: SeqNum,
}

impl Extended {
    /// A direction begins.
    pub fn starting_at(isn: SeqNum) -> Extended {
        Extended { sne: 0, at: isn }
    }

    /// The direction has come to `seq`, less than half a turn from where it was.
    pub fn advance(&mut self, seq: SeqNum) {
        if seq.after(self.at) {
            self.sne = self.of(seq);
            self.at = seq;
        }
    }

    /// The extension of a sequence number (`tcp_ao_compute_sne`).
    pub fn of(&self, seq: SeqNum) -> u32 {
        if seq.after(self.at) && seq.0 < self.at.0 {
            self.sne.wrapping_add(1)
        } else if seq.before(self.at) && seq.0 > self.at.0 {
            self.sne.wrapping_sub(1)
        } else {
            self.sne
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_follow_the_turns_of_the_sequence_numbers() {
        let mut at = Extended::starting_at(SeqNum(0xffff_fff0));
        assert_eq!(at.of(SeqNum(0xffff_ffff)), 0);
        assert_eq!(at.of(SeqNum(0)), 1, "a segment from behind the turn");
        at.advance(SeqNum(0xffff_ffe0));
        assert_eq!(at.of(SeqNum(5)), 1, "nothing goes back");
        at.advance(SeqNum(5));
        assert_eq!(at.of(SeqNum(0xffff_fff0)), 0, "one that was sent again from before it");
        assert_eq!(at.of(SeqNum(6)), 1);
        for turn in 1..=3u32 {
            for quarter in 1..=4u32 {
                at.advance(SeqNum(quarter.wrapping_mul(0x4000_0000)));
            }
            assert_eq!(at.of(SeqNum(1)), turn + 1);
        }
    }
}
