//! The sender's side of loss: what the peer's acknowledgements, or their absence, make it send again, and what that does
//! to the congestion window.

mod timeouts;
mod told;
mod tuned;

use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::{SeqNum, TcpOptions};

use super::lab::{ACK, FIN_ACK, Lab, Peer, Sent};
use crate::cx::Rng;
use crate::socket::Sock;
use crate::sysctl::CongestionControl;
use crate::tcp::congestion::INITIAL_CWND;
use crate::tcp::{CaState, State, TcpSock, XmitTimer};

/// A connection with SACK on which the stack sends, to a peer that is 40 ms away.
struct Path {
    lab: Lab,
    sock: Arc<Sock>,
    peer: Peer,
    /// The stack's first byte.
    first: SeqNum,
}

const RTT: u64 = 40;
const MSS: u32 = 1_460;
const NOTHING: [u32; 0] = [];
/// Congestion window of a path, twice what most tests fill.
const CWND: u32 = 20;

impl Path {
    fn new(stamps: bool) -> Path {
        Path::over(Lab::new(), stamps, true)
    }

    fn without_sack() -> Path {
        Path::over(Lab::new(), false, false)
    }

    fn over(mut lab: Lab, stamps: bool, sack: bool) -> Path {
        let listener = lab.listen(80, 8);
        let mut peer = Peer::new(40_000, 80);
        peer.sack = sack;
        peer.stamps = stamps.then_some((77, 0));
        let sock = peer.connect_from_afar(&mut lab, &listener, RTT);
        let first = peer.ack;
        let mut path = Path { lab, sock, peer, first };
        path.peer.window = 60_000;
        let mut sk = path.sock.lock.user();
        sk.cong.cwnd = CWND;
        sk.cong.stamp = path.lab.now;
        drop(sk);
        path
    }

    /// Payload bytes of a full segment.
    fn mss(&self) -> u32 {
        if self.peer.stamps.is_some() { MSS - 12 } else { MSS }
    }

    /// Writes so many full segments and takes what goes out.
    fn send(&mut self, segments: u32) -> Vec<Sent> {
        let data = vec![5; (segments * self.mss()) as usize];
        assert_eq!(self.lab.send(&self.sock, &data), data.len());
        self.sent()
    }

    /// Writes so many bytes; they leave as packets of two segments that the device is to cut.
    fn send_super_frames(&mut self, len: u32) {
        self.sock.lock.user().route.features.tso = true;
        assert_eq!(self.lab.send(&self.sock, &vec![5; len as usize]), len as usize);
        self.sock.lock.user().route.features.tso = false;
        while self.lab.raw().is_some() {}
        assert!(self.with(|sk| sk.tx.segments.iter().all(|one| one.pcount == 2)));
    }

    fn sent(&mut self) -> Vec<Sent> {
        let sent: Vec<_> = std::iter::from_fn(|| self.lab.sent()).collect();
        for one in &sent {
            self.peer.note(one);
        }
        sent
    }

    /// Which segments these are, from 0.
    fn numbers(&self, sent: &[Sent]) -> Vec<u32> {
        sent.iter().map(|one| (one.seq - self.first) as u32 / self.mss()).collect()
    }

    /// The peer acknowledges `segments` more and, selectively, these; gives the numbers of what goes out for that.
    fn ack(&mut self, segments: u32, blocks: &[(u32, u32)]) -> Vec<u32> {
        self.peer.ack += segments * self.mss();
        let at = |nth: u32| self.first + nth * self.mss();
        let blocks: Vec<_> = blocks.iter().map(|&(left, right)| (at(left), at(right))).collect();
        self.ack_blocks(blocks)
    }

    fn ack_blocks(&mut self, blocks: impl IntoIterator<Item = (SeqNum, SeqNum)>) -> Vec<u32> {
        let mut repr = self.peer.repr(ACK);
        let mut options = TcpOptions { timestamps: self.peer.stamps, ..TcpOptions::default() };
        options.set_sack(blocks);
        repr.options = options;
        self.lab.segment(repr, &[]);
        self.check();
        let sent = self.sent();
        self.numbers(&sent)
    }

    fn with<R>(&self, look: impl FnOnce(&TcpSock) -> R) -> R {
        look(&self.sock.lock.user())
    }

    fn state(&self) -> (CaState, u32, u32) {
        self.with(|sk| (sk.cong.state, sk.cong.cwnd, sk.cong.ssthresh))
    }

    fn check(&self) {
        self.with(check_sums);
    }

    fn count(&self, counter: Counter) -> u64 {
        self.lab.count(counter)
    }
}

/// The sums are those of the records, which are in order and without a gap.
fn check_sums(sk: &TcpSock) {
    let (mut out, mut sacked, mut lost, mut retrans) = (0, 0, 0, 0);
    let mut next = None;
    for record in &sk.tx.segments {
        assert!(record.seq.before(record.end_seq) && next.is_none_or(|next| next == record.seq), "{record:?}");
        next = Some(record.end_seq);
        let counted = |yes: bool| if yes { record.pcount } else { 0 };
        out += record.pcount;
        sacked += counted(record.sacked);
        lost += counted(record.lost);
        retrans += counted(record.retrans);
        assert!(!(record.sacked && record.lost), "{record:?}");
    }
    assert!(next.is_none_or(|next| next == sk.tx.snd_nxt));
    let cong = &sk.cong;
    assert_eq!((cong.packets_out, cong.lost_out, cong.retrans_out), (out, lost, retrans));
    if sk.opts.sack {
        assert_eq!(cong.sacked_out, sacked);
    }
}

#[test]
fn only_the_hole_is_sent_again_and_the_window_is_cut_once() {
    let mut path = Path::new(false);
    assert_eq!(path.send(10).len(), 10);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(1, 2)]), NOTHING);
    assert_eq!(path.state().0, CaState::Disorder);
    assert_eq!(path.ack(0, &[(1, 3)]), NOTHING);
    let again = path.ack(0, &[(1, 4)]);
    assert_eq!(again, [0], "three segments overtook it");
    assert_eq!(path.state().0, CaState::Recovery);
    assert_eq!((path.count(Counter::TcpExtTCPSackRecovery), path.count(Counter::TcpExtTCPFastRetrans)), (1, 1));
    assert_eq!(path.ack(0, &[(1, 10)]), NOTHING);
    path.lab.wait(RTT);
    path.ack(10, &[]);
    let cut = CWND * 717 / 1_024;
    assert_eq!(path.state(), (CaState::Open, cut, cut), "CUBIC keeps seven tenths");
    assert_eq!(path.count(Counter::TcpRetransSegs), 1);
    assert_eq!(path.with(|sk| sk.timers.retransmit), rxpath_trace::Time::MAX);
}

#[test]
fn reno_is_a_choice() {
    let mut path = Path::new(false);
    path.sock.lock.user().cong.set_algorithm(CongestionControl::Reno);
    path.send(10);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(2, 5)]), [0, 1], "two holes");
    path.lab.wait(RTT);
    path.ack(10, &[]);
    assert_eq!(path.state(), (CaState::Open, CWND / 2, CWND / 2));
}

#[test]
fn what_is_sent_again_and_lost_again_is_found_by_time() {
    let mut path = Path::new(false);
    path.send(10);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(1, 4)]), [0]);
    path.lab.wait(2);
    assert_eq!(path.ack(0, &[(1, 10)]), NOTHING);
    let new = path.send(2);
    assert_eq!(path.numbers(&new), [10, 11], "the window has room for new data");
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(1, 12)]), [0], "lost again: something that was sent later arrived");
    assert_eq!(path.count(Counter::TcpExtTCPLostRetransmit), 1);
    path.lab.wait(RTT);
    path.ack(12, &[]);
    assert_eq!(path.state().0, CaState::Open);
}

#[test]
fn a_segment_that_was_only_overtaken_teaches_patience() {
    let mut path = Path::new(false);
    path.send(10);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(1, 2)]), NOTHING);
    assert_eq!(path.ack(3, &[]), NOTHING, "it came after all");
    assert_eq!(path.count(Counter::TcpExtTCPSACKReorder), 1);
    assert_eq!(path.with(|sk| sk.loss.reord_seen), 1);
    // From now on three are not enough: a quarter of the round trip is waited.
    assert_eq!(path.ack(0, &[(4, 8)]), NOTHING);
    assert_eq!(path.with(|sk| sk.timers.pending), XmitTimer::Reorder);
    path.lab.wait(RTT / 4 + 12);
    let again = path.sent();
    assert_eq!(path.numbers(&again), [3], "the timer of reordering");
    path.lab.wait(RTT);
    path.ack(7, &[]);
    assert_eq!(path.state().0, CaState::Open);
}

#[test]
fn the_tail_is_probed_after_two_round_trips() {
    let mut path = Path::new(false);
    path.send(3);
    assert_eq!(path.with(|sk| sk.timers.pending), XmitTimer::LossProbe);
    path.lab.wait(2 * RTT + 12);
    let probe = path.sent();
    assert_eq!(path.numbers(&probe), [2], "the last segment");
    assert_eq!(path.count(Counter::TcpExtTCPLossProbes), 1);
    path.lab.wait(RTT);
    // Both copies came: nothing was lost.
    path.ack(3, &[(2, 3)]);
    assert_eq!(path.count(Counter::TcpExtTCPDSACKRecv), 1);
    assert_eq!(path.count(Counter::TcpExtTCPLossProbeRecovery), 0);
    let (state, cwnd, _) = path.state();
    assert_eq!((state, cwnd >= CWND), (CaState::Open, true));
}

#[test]
fn a_probe_that_repaired_a_loss_costs_the_window() {
    let mut path = Path::new(false);
    path.send(3);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1);
    path.lab.wait(RTT);
    path.ack(3, &[]);
    path.send(1);
    path.lab.wait(RTT);
    path.ack(1, &[]);
    assert_eq!(path.count(Counter::TcpExtTCPLossProbeRecovery), 1);
    assert!(path.state().1 < CWND, "{:?}", path.state());
}

#[test]
fn new_data_is_a_probe_where_there_is_some() {
    let mut path = Path::new(false);
    path.sock.lock.user().cong.cwnd = 8;
    let sent = path.send(12).len() as u32;
    assert!(sent <= 8, "the rest waits behind the congestion window");
    path.lab.wait(2 * RTT + 12);
    let probe = path.sent();
    assert_eq!(path.numbers(&probe), [sent]);
    path.ack(sent + 1, &[]);
    assert_eq!(path.count(Counter::TcpExtTCPLossProbes), 1);
    assert_eq!(path.count(Counter::TcpRetransSegs), 0);
}

#[test]
fn a_timeout_that_was_a_mistake_is_undone_by_what_was_sent_once() {
    let mut path = Path::new(false);
    path.send(4);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1, "the probe");
    path.lab.wait(400);
    let again = path.sent();
    assert_eq!(path.numbers(&again)[0], 0, "the timeout");
    assert_eq!(path.state().0, CaState::Loss);
    // The peer had them all, late.
    path.ack(3, &[]);
    assert_eq!(path.count(Counter::TcpExtTCPSpuriousRTOs), 1, "F-RTO: the second was sent once");
    assert_eq!(path.count(Counter::TcpExtTCPLossUndo), 1);
    path.ack(1, &[]);
    let (state, cwnd, _) = path.state();
    assert_eq!((state, cwnd >= CWND), (CaState::Open, true));
}

#[test]
fn what_a_timeout_sent_by_mistake_is_found_overdue_once() {
    let mut path = Path::new(false);
    path.send(4);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1, "the probe");
    path.lab.wait(400);
    assert_eq!(path.sent().len(), 1, "the timeout");
    path.ack(0, &[(1, 2)]);
    assert_eq!(path.count(Counter::TcpExtTCPLossUndo), 1);
    let head = |path: &Path| path.with(|sk| sk.tx.segments.front().map(|head| (head.lost, head.retrans)));
    assert_eq!(head(&path), Some((false, true)));
    path.send(3);
    path.lab.wait(2 * RTT);
    path.sent();
    for last in 5..=7 {
        assert!(!path.ack(0, &[(1, last)]).contains(&0), "up to {last}");
        assert_eq!(head(&path), Some((true, true)), "up to {last}");
    }
    assert_eq!(path.count(Counter::TcpExtTCPLostRetransmit), 0);
}

#[test]
fn a_timeout_that_was_none_is_not_undone() {
    let mut path = Path::new(false);
    path.send(4);
    path.lab.wait(2 * RTT + 12 + 400);
    path.sent();
    path.lab.wait(RTT);
    let again = path.ack(1, &[]);
    assert_eq!(again, [1, 2], "slow start: two for one");
    path.lab.wait(RTT);
    path.ack(3, &[]);
    assert_eq!(path.count(Counter::TcpExtTCPSpuriousRTOs), 0);
    assert_eq!(path.state().0, CaState::Open);
    assert_eq!(path.count(Counter::TcpExtTCPTimeouts), 1);
}

#[test]
fn a_recovery_that_was_a_mistake_is_undone_by_timestamps_or_dsacks() {
    for stamps in [true, false] {
        let mut path = Path::new(stamps);
        path.send(10);
        let early = path.peer.stamps;
        path.lab.wait(RTT);
        assert_eq!(path.ack(0, &[(1, 4)]), [0]);
        path.lab.wait(2);
        if stamps {
            // The first copy was only late: the ACK echoes what it carried.
            path.peer.stamps = early;
            path.ack(10, &[]);
            assert_eq!(path.count(Counter::TcpExtTCPFullUndo), 1);
        } else {
            // … and the second came, too.
            path.ack(4, &[]);
            path.ack(0, &[(0, 1)]);
            assert_eq!(path.count(Counter::TcpExtTCPDSACKUndo), 1);
            path.ack(6, &[]);
        }
        let (state, cwnd, _) = path.state();
        assert_eq!((state, cwnd >= CWND), (CaState::Open, true), "stamps {stamps}");
    }
}

#[test]
fn promises_that_are_not_kept_count_for_nothing_after_the_timeout() {
    let mut path = Path::new(false);
    path.send(4);
    path.lab.wait(RTT);
    path.ack(0, &[(1, 4)]);
    // The head is acknowledged, and the next, which was promised, is not.
    path.ack(1, &[]);
    assert_eq!(path.count(Counter::TcpExtTCPSACKReneging), 0, "it may be a race");
    path.lab.wait(60);
    assert_eq!(path.count(Counter::TcpExtTCPSACKReneging), 1);
    let again = path.sent();
    assert_eq!(path.numbers(&again).last(), Some(&1));
    path.check();
    path.lab.wait(RTT);
    assert_eq!(path.ack(1, &[]), [2, 3]);
    path.ack(2, &[]);
    assert_eq!(path.state().0, CaState::Open);
}

#[test]
fn blocks_that_cannot_be_true_are_counted_and_ignored() {
    let mut path = Path::new(false);
    path.send(4);
    path.ack(0, &[(7, 9)]);
    assert_eq!(path.count(Counter::TcpExtTCPSACKDiscard), 1, "never sent");
    path.ack(0, &[(2, 3), (1, 1)]);
    assert_eq!(path.count(Counter::TcpExtTCPSACKDiscard), 2, "empty");
    path.ack(2, &[(0, 1)]);
    assert_eq!(path.count(Counter::TcpExtTCPDSACKIgnoredDubious), 1, "nothing was sent again");
    assert_eq!(path.with(|sk| sk.cong.packets_out), 2);
    path.ack(2, &[]);
}

#[test]
fn a_duplicate_ack_of_all_ends_the_probe() {
    let mut path = Path::new(false);
    path.send(3);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1);
    path.lab.wait(RTT);
    path.ack(3, &[]);
    // The second copy came, too; nothing is in flight any more.
    path.ack(0, &[]);
    path.send(1);
    path.lab.wait(RTT);
    path.ack(1, &[]);
    assert_eq!(path.count(Counter::TcpExtTCPLossProbeRecovery), 0);
    assert!(path.state().1 >= CWND, "{:?}", path.state());
}

#[test]
fn a_probe_takes_as_much_new_data_as_the_window_does() {
    let mut path = Path::new(false);
    path.sock.lock.user().cong.cwnd = 10;
    path.send(7);
    path.lab.wait(RTT);
    // At such a rate super-frames are long.
    path.sock.lock.user().cong.pacing.rate = 1 << 40;
    path.send(1);
    assert_eq!(path.send(3).len(), 0, "a super-frame of three waits for the next ACK, which is due");
    path.lab.wait(2 * RTT + 12);
    let probe = path.sent();
    assert_eq!(path.numbers(&probe), [8, 9]);
    assert_eq!(path.count(Counter::TcpExtTCPLossProbes), 1);
}

#[test]
fn a_fin_that_waits_is_a_probe() {
    let mut path = Path::new(false);
    path.sock.lock.user().cong.cwnd = 3;
    assert_eq!(path.send(3).len(), 3);
    path.lab.close(&path.sock);
    assert_eq!(path.sent().len(), 0, "the congestion window is full");
    path.lab.wait(2 * RTT + 12);
    let probe = path.sent();
    assert_eq!((path.numbers(&probe), probe[0].flags), (vec![3], FIN_ACK));
    assert_eq!(path.count(Counter::TcpRetransSegs), 0);
}

#[test]
fn a_probe_that_is_not_sent_does_not_put_off_the_timeout() {
    let mut path = Path::new(false);
    path.send(4);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1, "one probe");
    path.lab.wait(4);
    path.ack(1, &[]);
    assert_eq!(path.with(|sk| sk.timers.pending), XmitTimer::LossProbe, "another is to come, and does not");
    let timeout = path.with(|sk| sk.rtt.backed_off()) / super::lab::MS;
    path.lab.wait(timeout - (2 * RTT + 12 + 4) - 8);
    assert_eq!(path.sent().len(), 0);
    path.lab.wait(16);
    let again = path.sent();
    assert_eq!(path.numbers(&again), [1], "the timeout of the oldest, from when it was sent");
    assert_eq!((path.count(Counter::TcpExtTCPTimeouts), path.count(Counter::TcpExtTCPLossProbes)), (1, 1));
}

#[test]
fn d_sacks_undo_a_cut_although_nothing_is_in_flight() {
    let mut path = Path::new(false);
    path.send(10);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(1, 4)]), [0]);
    path.lab.wait(RTT);
    path.ack(10, &[]);
    let (state, cwnd, _) = path.state();
    assert_eq!((state, cwnd < CWND), (CaState::Open, true));
    path.ack(0, &[(0, 1)]);
    assert_eq!(path.count(Counter::TcpExtTCPDSACKUndo), 1);
    assert_eq!(path.state().1, CWND);
}

#[test]
fn what_came_twice_within_a_range_was_overtaken() {
    let mut path = Path::new(false);
    path.send_super_frames(6 * MSS);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1, "the last is sent again");
    path.ack(1, &[]);
    path.ack(0, &[(4, 5)]);
    path.ack(0, &[(4, 6)]);
    assert_eq!(path.with(|sk| sk.cong.sacked_out), 2);
    path.ack(0, &[(5, 6), (4, 6)]);
    assert_eq!(path.count(Counter::TcpExtTCPDSACKOfoRecv), 1);
    assert_eq!(path.count(Counter::TcpExtTCPSACKReorder), 1);
}

#[test]
fn what_came_twice_and_is_told_of_when_all_has_come_was_overtaken() {
    let mut path = Path::new(false);
    path.send(6);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1, "the last is sent again");
    for sacked in 2..=6 {
        path.ack(0, &[(1, sacked)]);
    }
    path.ack(0, &[(1, 6)]);
    assert_eq!(path.count(Counter::TcpExtTCPSACKReorder), 0);
    path.ack(6, &[(5, 6)]);
    assert_eq!((path.count(Counter::TcpExtTCPDSACKRecv), path.count(Counter::TcpExtTCPSACKReorder)), (1, 1));
}

#[test]
fn a_record_joins_the_one_before_it_and_only_then_the_one_behind() {
    let mut path = Path::new(false);
    path.send_super_frames(6 * MSS);
    let sacked =
        |path: &Path| path.with(|sk| sk.tx.segments.iter().map(|one| (one.pcount, one.sacked)).collect::<Vec<_>>());
    path.ack(0, &[(4, 5)]);
    path.ack(0, &[(3, 5)]);
    assert_eq!(sacked(&path), [(2, false), (1, false), (1, true), (1, true), (1, false)], "not the one behind alone");
    path.ack(0, &[(1, 2), (3, 5)]);
    path.ack(0, &[(1, 5)]);
    assert_eq!(sacked(&path), [(1, false), (3, true), (1, true), (1, false)], "a hole was filled");
}

#[test]
fn what_is_acknowledged_in_parts_was_overtaken_as_a_whole() {
    let mut path = Path::new(false);
    path.send_super_frames(4 * MSS);
    path.ack(0, &[(3, 4)]);
    assert_eq!(path.with(|sk| sk.loss.reordering), 3);
    path.ack(1, &[(3, 4)]);
    assert_eq!(path.with(|sk| sk.loss.reordering), 4, "from where the record began");
}

#[test]
fn blocks_are_of_segments_as_they_were_sent() {
    let mut path = Path::new(false);
    // What came out of order has a block in each segment, which is shorter for that.
    path.peer.data_at(&mut path.lab, 100, &[1; 50]);
    path.sent();
    let short = MSS - 12;
    path.send_super_frames(2 * short);
    path.peer.data(&mut path.lab, &[1; 100]);
    path.peer.seq += 50;
    path.sent();
    assert_eq!(path.with(|sk| u32::from(sk.current_mss())), MSS);
    path.ack_blocks([(path.first + short, path.first + 2 * short)]);
    let records = path.with(|sk| sk.tx.segments.iter().map(|one| (one.len(), one.sacked)).collect::<Vec<_>>());
    assert_eq!(records, [(short, false), (short, true)]);
}

#[test]
fn an_old_ack_tells_what_came_and_nobody_counts_it() {
    let mut path = Path::new(false);
    path.send(6);
    path.lab.wait(RTT);
    path.ack(2, &[]);
    let delivered = path.count(Counter::TcpExtTCPDelivered);
    path.peer.ack = path.first;
    path.ack(0, &[(4, 5)]);
    assert_eq!((path.with(|sk| sk.cong.sacked_out), path.state().0), (1, CaState::Disorder));
    assert_eq!(path.count(Counter::TcpExtTCPDelivered), delivered);
}

#[test]
fn what_is_lost_while_a_hole_is_filled_holds_the_window_back() {
    let mut path = Path::new(false);
    path.send(5);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(3, 4)]), NOTHING);
    path.lab.wait(RTT / 4 + 12);
    let again = path.sent();
    assert_eq!(path.numbers(&again), [0], "the timer of reordering");
    path.lab.wait(RTT);
    assert_eq!(path.ack(1, &[(3, 4)]), [1], "now the last is lost, too: one for one");
}

#[test]
fn idleness_counts_until_the_application_writes() {
    let mut path = Path::new(false);
    path.send(2);
    path.lab.wait(RTT);
    path.peer.window = 0;
    path.ack(2, &[]);
    let cwnd = path.state().1;
    assert_eq!(path.send(1).len(), 0, "the peer takes nothing");
    path.lab.wait(150);
    path.peer.window = 60_000;
    assert_eq!(path.ack(0, &[]), [2]);
    assert_eq!(path.state().1, cwnd, "it was not idle when it wrote, nor when the window opened");
    path.ack(1, &[]);
    path.lab.wait(2_000);
    path.send(1);
    assert_eq!(path.state().1, INITIAL_CWND, "now it was idle");
}

#[test]
fn without_sack_a_recovery_is_not_left_at_its_end_but_behind_it() {
    let mut path = Path::without_sack();
    path.send(5);
    path.lab.wait(RTT);
    assert_eq!([path.ack(0, &[]), path.ack(0, &[]), path.ack(0, &[])].concat(), [0]);
    path.lab.wait(RTT);
    path.ack(5, &[]);
    assert_eq!(path.state().0, CaState::Recovery, "more duplicates may be under way");
    path.send(1);
    path.lab.wait(RTT);
    path.ack(1, &[]);
    assert_eq!(path.state().0, CaState::Open);
    assert_eq!(path.count(Counter::TcpExtTCPRenoRecovery), 1);
}

#[test]
fn without_sack_reordering_is_what_was_in_flight() {
    let mut path = Path::without_sack();
    path.send(2);
    path.lab.wait(RTT);
    path.ack(0, &[]);
    path.ack(0, &[]);
    assert_eq!(path.count(Counter::TcpExtTCPRenoReorder), 1, "two duplicates of two segments");
    assert_eq!(path.with(|sk| sk.loss.reordering), 2);
}

/// Counters of recoveries and timeouts that did not end well.
const FAILURES: [Counter; 5] = [
    Counter::TcpExtTCPSackRecoveryFail,
    Counter::TcpExtTCPRenoRecoveryFail,
    Counter::TcpExtTCPSackFailures,
    Counter::TcpExtTCPRenoFailures,
    Counter::TcpExtTCPLossFailures,
];

#[test]
fn a_timeout_counts_by_what_it_ends() {
    let timed_out = |path: &mut Path| {
        assert_eq!(FAILURES.map(|counter| path.count(counter)), [0; 5]);
        path.lab.wait(500);
        path.sent();
        assert_eq!(path.count(Counter::TcpExtTCPTimeouts), 1);
        FAILURES.map(|counter| path.count(counter))
    };
    // Recoveries whose retransmission is lost, too.
    let mut path = Path::new(false);
    path.send(10);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(1, 4)]), [0]);
    assert_eq!(timed_out(&mut path), [1, 0, 0, 0, 0]);
    let mut path = Path::without_sack();
    path.send(5);
    path.lab.wait(RTT);
    assert_eq!([path.ack(0, &[]), path.ack(0, &[]), path.ack(0, &[])].concat(), [0]);
    assert_eq!(timed_out(&mut path), [0, 1, 0, 0, 0]);
    // Something arrived out of order, too little for a recovery: the probe of the tail, or one of few.
    let mut path = Path::new(false);
    path.send(2);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1);
    path.lab.wait(10);
    assert_eq!(path.ack(0, &[(1, 2)]), NOTHING);
    assert_eq!(path.state().0, CaState::Disorder);
    assert_eq!(timed_out(&mut path), [0, 0, 1, 0, 0]);
    let mut path = Path::without_sack();
    path.send(5);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[]), NOTHING);
    assert_eq!(timed_out(&mut path), [0, 0, 0, 1, 0]);
    // Nothing came at all.
    let mut path = Path::new(false);
    path.send(2);
    assert_eq!(timed_out(&mut path), [0; 5]);
}

#[test]
fn a_hole_that_the_first_copy_fills_undoes_the_cut_before_the_end() {
    let counters = [Counter::TcpExtTCPTSReorder, Counter::TcpExtTCPPartialUndo, Counter::TcpExtTCPFullUndo];
    for echoes_first in [true, false] {
        let mut path = Path::new(true);
        path.send(10);
        let early = path.peer.stamps;
        path.lab.wait(RTT);
        assert_eq!(path.ack(0, &[(1, 4)]), [0]);
        path.lab.wait(2);
        if echoes_first {
            path.peer.stamps = early;
        }
        path.ack(4, &[]);
        let (state, cwnd, _) = path.state();
        if echoes_first {
            assert_eq!(counters.map(|counter| path.count(counter)), [1, 1, 0]);
            assert_eq!((state, cwnd >= CWND), (CaState::Open, true));
        } else {
            assert_eq!(counters.map(|counter| path.count(counter)), [0; 3]);
            assert_eq!(state, CaState::Recovery);
        }
    }
}

#[test]
fn d_sacks_of_what_the_cut_is_not_about_are_ignored() {
    let counters =
        [Counter::TcpExtTCPDSACKRecv, Counter::TcpExtTCPDSACKIgnoredOld, Counter::TcpExtTCPDSACKIgnoredNoUndo];
    // What was acknowledged before the recovery began.
    let mut path = Path::new(false);
    path.send(10);
    path.lab.wait(RTT);
    path.ack(2, &[]);
    assert_eq!(path.ack(0, &[(3, 6)]), [2]);
    path.ack(0, &[(0, 1), (3, 6)]);
    assert_eq!(counters.map(|counter| path.count(counter)), [1, 1, 0]);
    // Without a cut there is nothing to undo: the second copy is the probe's.
    let mut path = Path::new(false);
    path.send(3);
    path.lab.wait(2 * RTT + 12);
    assert_eq!(path.sent().len(), 1);
    path.ack(3, &[(2, 3)]);
    assert_eq!(counters.map(|counter| path.count(counter)), [1, 0, 1]);
}

#[test]
fn what_is_acknowledged_selectively_side_by_side_is_one_record() {
    let mut path = Path::new(false);
    path.send(6);
    path.lab.wait(RTT);
    path.ack(0, &[(2, 3)]);
    assert_eq!((path.count(Counter::TcpExtTCPSackMerged), path.with(|sk| sk.tx.segments.len())), (0, 6));
    path.ack(0, &[(2, 4)]);
    assert_eq!((path.count(Counter::TcpExtTCPSackMerged), path.with(|sk| sk.tx.segments.len())), (1, 5));
}

#[test]
fn slow_start_that_ends_early_tells_by_what_and_where() {
    let counters = [
        Counter::TcpExtTCPHystartDelayDetect,
        Counter::TcpExtTCPHystartDelayCwnd,
        Counter::TcpExtTCPHystartTrainDetect,
        Counter::TcpExtTCPHystartTrainCwnd,
    ];
    // A round trip that takes half as long again as the shortest.
    let mut path = Path::new(false);
    for (rtt, segments) in [(RTT, 20), (RTT + RTT / 2, 20)] {
        assert_eq!(counters.map(|counter| path.count(counter)), [0; 4]);
        path.send(segments);
        path.lab.wait(rtt);
        (0..segments).for_each(|_| _ = path.ack(1, &[]));
    }
    let threshold = u64::from(path.state().2);
    assert_eq!(counters.map(|counter| path.count(counter)), [1, threshold, 0, 0]);
    // Acknowledgements that follow one another for more than half of a round trip.
    let mut path = Path::new(false);
    path.sock.lock.user().cong.cwnd = 40;
    path.send(35);
    path.lab.wait(RTT);
    for _ in 0..35 {
        path.ack(1, &[]);
        path.lab.wait(1);
    }
    let threshold = u64::from(path.state().2);
    assert_eq!(counters.map(|counter| path.count(counter)), [0, 0, 1, threshold]);
}

/// A peer that acknowledges selectively whatever it likes: the scoreboard stays consistent and no longer than the flight,
/// and once everything is acknowledged the connection closes and no timer is left.
#[test]
fn a_hostile_peer_does_no_harm() {
    for seed in 0..80 {
        let mut rng = Rng::new(seed);
        let mut path = Path::new(rng.below(2) == 0);
        let mut written = 0;
        for _ in 0..150 {
            if written < 400_000 && rng.below(3) == 0 {
                let data = vec![1; 1 + rng.below(20_000) as usize];
                written += path.lab.send(&path.sock, &data);
            }
            path.lab.wait(u64::from(rng.below(60)));
            path.sent();
            let (una, nxt) = path.with(|sk| (sk.tx.snd_una, sk.tx.snd_nxt));
            let flight = (nxt - una) as u32;
            let step = match rng.below(4) {
                0 => rng.below(flight + 1),
                1 => flight.min(path.mss()),
                _ => 0,
            };
            path.peer.ack = una + step;
            let mut options = TcpOptions { timestamps: path.peer.stamps, ..TcpOptions::default() };
            let around = |rng: &mut Rng| una + rng.below(flight + 3_000) - 1_500;
            options.set_sack((0..rng.below(5)).map(|_| {
                let left = around(&mut rng);
                (left, if rng.below(4) == 0 { around(&mut rng) } else { left + rng.below(4_000) })
            }));
            let mut repr = path.peer.repr(ACK);
            repr.options = options;
            path.lab.segment(repr, &[]);
            path.check();
            path.with(|sk| assert!(sk.tx.segments.len() <= sk.cong.packets_out as usize + 1, "seed {seed}"));
        }
        path.lab.close(&path.sock);
        for _ in 0..400 {
            path.sent();
            path.peer.ack = path.with(|sk| sk.tx.snd_nxt);
            path.lab.segment(path.peer.repr(ACK), &[]);
            if path.with(|sk| sk.send_end() == sk.tx.snd_una) {
                break;
            }
            path.lab.wait(300);
        }
        path.lab.segment(path.peer.repr(FIN_ACK), &[]);
        path.sent();
        assert_eq!(path.lab.state(&path.sock), State::Close, "seed {seed}");
        path.with(|sk| assert_eq!(sk.timers.next(), rxpath_trace::Time::MAX, "seed {seed}"));
    }
}
