//! What loss detection and recovery remember, and what is found out about one ACK.

use rxpath_trace::Time;
use rxpath_wire::SeqNum;

use super::super::rate::Newest;
use super::RtoStats;

/// Recoveries for which a widened window of reordering lasts (`TCP_RACK_RECOVERY_THRESH`).
const PERSIST: u8 = 16;
/// Duplicate ACKs that mean a loss while no reordering was seen (RFC 5681 section 3.2), before `tcp_reordering` has its say.
const REORDERING: u32 = 3;

/// Loss detection and recovery of one connection.
#[derive(Clone, Debug)]
pub struct Loss {
    /// `snd_nxt` when recovery began: it ends when this is acknowledged.
    pub high_seq: SeqNum,
    /// End of the farthest segment that was acknowledged selectively; only while there is one.
    pub(in super::super) high_sack: SeqNum,
    /// What the latest selective acknowledgement told of.
    pub(super) told: Told,
    /// Segments by which packets are known to overtake one another.
    pub reordering: u32,
    /// How often that was seen.
    pub reord_seen: u32,
    /// `snd_una` when the window was cut, as long as the cut can be undone.
    pub(super) undo_marker: Option<SeqNum>,
    /// Retransmissions that no D-SACK has told of yet; None if there were none since `undo_marker`.
    pub(super) undo_retrans: Option<u32>,
    /// When the first retransmission of this recovery went out: our timestamp clock, and the time.
    pub(in super::super) retrans_stamp: Option<(u32, Time)>,
    /// The timestamp that the latest ACK echoed.
    pub(in super::super) last_tsecr: Option<u32>,
    /// Segments sent again in all.
    pub total_retrans: u32,
    /// Its timeouts.
    pub rto: RtoStats,
    /// Segments that D-SACKs told of in all.
    pub(super) dsack_dups: u32,
    /// The timeout may have been spurious: new data is sent to find out (F-RTO).
    pub(super) frto: bool,
    /// `snd_nxt` when the tail loss probe went out that was not answered yet.
    pub(super) tlp_high_seq: Option<SeqNum>,
    /// That probe was a retransmission.
    pub(super) tlp_retrans: bool,
    /// Detection by time.
    pub(in super::super) rack: Rack,
}

impl Loss {
    /// Segments that D-SACKs told of in all.
    pub fn dsack_dups(&self) -> u32 {
        self.dsack_dups
    }
}

impl Default for Loss {
    fn default() -> Loss {
        Loss {
            high_seq: SeqNum(0),
            high_sack: SeqNum(0),
            told: Told::default(),
            reordering: REORDERING,
            reord_seen: 0,
            undo_marker: None,
            undo_retrans: None,
            retrans_stamp: None,
            last_tsecr: None,
            total_retrans: 0,
            rto: RtoStats::default(),
            dsack_dups: 0,
            frto: false,
            tlp_high_seq: None,
            tlp_retrans: false,
            rack: Rack::default(),
        }
    }
}

/// A block of selective acknowledgement: its first sequence number, and the one behind its last.
pub(super) type Block = (SeqNum, SeqNum);

/// The blocks of an acknowledgement, in order (`recv_sack_cache`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    blocks: [Block; Told::MOST],
    count: usize,
}

impl Told {
    /// As many as an option has room for.
    pub(super) const MOST: usize = 4;

    pub(super) fn push(&mut self, block: Block) {
        if let Some(free) = self.blocks.get_mut(self.count) {
            *free = block;
            self.count += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[Block] {
        self.blocks.get(..self.count).unwrap_or_default()
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Block] {
        self.blocks.get_mut(..self.count).unwrap_or_default()
    }
}

/// What an ACK has been found to say, in the kernel's terms (`FLAG_…`).
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct AckSays {
    /// It came with payload.
    pub data: bool,
    /// It changed the window.
    pub window: bool,
    /// It tells of a mark (ECE).
    pub ece: bool,
    /// `snd_una` moved.
    pub advanced: bool,
    /// Segments were acknowledged.
    pub acked: bool,
    /// Segments were acknowledged selectively for the first time.
    pub sacked: bool,
    /// The peer received something twice.
    pub dsack: bool,
    /// … which was the tail loss probe.
    pub dsack_of_probe: bool,
    /// Among what was acknowledged in either way is something below `high_seq` that was sent once.
    pub original: bool,
    /// Something that was sent again was acknowledged.
    pub retransmitted: bool,
    /// The peer took back what it had acknowledged selectively.
    pub reneging: bool,
    /// The retransmission timer starts anew.
    pub restarts_timer: bool,
    /// When the first and the last segment were sent that were acknowledged selectively.
    pub sack_sent: Option<(Time, Time)>,
    /// The lowest sequence number that came later than others behind it; `snd_nxt` or more is none.
    pub reordered: SeqNum,
    /// Segments delivered before the one was sent that was delivered last.
    pub delivered_before: Option<u32>,
    /// The latest-sent of what was delivered.
    pub newest: Option<Newest>,
    /// A round trip was measured.
    pub rtt: Option<u64>,
}

impl AckSays {
    /// Nothing yet, on a connection that has sent up to `snd_nxt`.
    pub(in super::super) fn new(snd_nxt: SeqNum) -> AckSays {
        AckSays { reordered: snd_nxt, ..AckSays::default() }
    }

    /// It says more than a duplicate ACK does (`FLAG_NOT_DUP`).
    pub(super) fn is_not_dup(&self) -> bool {
        self.data | self.window | self.acked
    }
}

/// What is to be sent once the window is known (`REXMIT_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    /// Nothing in particular.
    Nothing,
    /// What was lost.
    Lost,
    /// New data, to see whether the timeout was spurious.
    New,
}

/// State of the detection; times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rack {
    /// When the latest-sent of all delivered segments was sent, and where it ended.
    pub(super) sent_at: Time,
    pub(super) end_seq: SeqNum,
    /// Its round trip.
    pub(super) rtt: u64,
    /// A segment was delivered since losses were last looked for.
    pub(super) advanced: bool,
    /// A D-SACK told of a retransmission that was needless.
    pub(super) dsack_seen: bool,
    /// Quarters of the smallest round trip in the window of reordering.
    pub(in super::super) steps: u8,
    /// Recoveries until that is one again.
    persist: u8,
    /// Segments delivered when it last grew.
    grown_at: u32,
}

impl Default for Rack {
    fn default() -> Rack {
        Rack {
            sent_at: Time::ZERO,
            end_seq: SeqNum(0),
            rtt: 0,
            advanced: false,
            dsack_seen: false,
            steps: 1,
            persist: 0,
            grown_at: 0,
        }
    }
}

impl Rack {
    /// True if the delivered segment was sent after this one; of two that were sent at once, the later in sequence.
    pub(super) fn is_after(&self, sent_at: Time, end_seq: SeqNum) -> bool {
        sent_at < self.sent_at || (sent_at == self.sent_at && end_seq.before(self.end_seq))
    }

    /// A recovery ended: what D-SACKs taught fades (RFC 8985 section 6.2 step 4).
    pub(super) fn recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
    }

    /// A recovery was found to be needless: it fades later.
    pub(super) fn mistaken(&mut self) {
        self.persist = (self.persist + 1).min(PERSIST);
        self.advanced = true;
    }

    /// The window of reordering follows the D-SACKs, once in a round trip (`tcp_rack_update_reo_wnd`).
    pub(super) fn update_window(&mut self, delivered_before: Option<u32>, delivered: u32) {
        let Some(before) = delivered_before else { return };
        if (before.wrapping_sub(self.grown_at) as i32) < 0 {
            self.dsack_seen = false;
        }
        if std::mem::take(&mut self.dsack_seen) {
            self.steps = self.steps.saturating_add(1);
            self.grown_at = delivered;
            self.persist = PERSIST;
        } else if self.persist == 0 {
            self.steps = 1;
        }
    }
}

/// Where the sender stood before an ACK.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Prior {
    /// `snd_una`.
    pub una: SeqNum,
    /// Segments delivered.
    pub delivered: u32,
    /// Segments found to be lost in all.
    pub lost: u32,
    /// Segments in flight.
    pub in_flight: u32,
}
