//! Selective acknowledgements that this side sends: which blocks, when, and what becomes of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{SeqNum, TcpFlags};

use super::lab::{ACK, Lab, Peer, SYN_ACK, Sent};
use crate::cx::Rng;
use crate::socket::Sock;
use crate::stack::StackConfig;
use crate::tcp::State;

/// A connection whose peer offered SACK, with timestamps or without.
fn sacked(stamps: bool, change: impl FnOnce(&mut StackConfig)) -> (Lab, Arc<Sock>, Peer) {
    let mut lab = Lab::with(change);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.sack = true;
    peer.stamps = stamps.then_some((77, 0));
    let sock = peer.connect(&mut lab, &listener);
    (lab, sock, peer)
}

/// The blocks of a segment, relative to the peer's next byte.
fn blocks(sent: &Sent, peer: &Peer) -> Vec<(i32, i32)> {
    sent.options.sack_blocks().iter().map(|&(left, right)| (left - peer.seq, right - peer.seq)).collect()
}

#[test]
fn sack_is_agreed_only_when_both_offer_it() {
    for (peers, ours, agreed) in [(true, true, true), (false, true, false), (true, false, false)] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_sack = ours);
        let _listener = lab.listen(80, 8);
        let peer = Peer::new(40_000, 80);
        let mut syn = peer.repr(TcpFlags::SYN);
        syn.options.sack_permitted = peers;
        lab.segment(syn, &[]);
        assert_eq!(lab.expect(SYN_ACK).options.sack_permitted, agreed);
    }
    let mut lab = Lab::new();
    let sock = lab.stack.connect((super::lab::PEER, 80).into(), lab.now).expect("a way to the peer");
    lab.run();
    let syn = lab.expect(TcpFlags::SYN);
    assert!(syn.options.sack_permitted, "our own SYN offers it");
    let mut peer = Peer::new(80, syn.sport);
    peer.ack = syn.seq + 1;
    lab.segment(peer.repr(SYN_ACK), &[]);
    lab.expect(ACK);
    assert!(!sock.lock.user().opts.sack, "the peer did not");
}

#[test]
fn blocks_come_newest_first_and_as_many_as_fit() {
    for (stamps, most) in [(false, 4), (true, 3)] {
        let (mut lab, _sock, mut peer) = sacked(stamps, |_| {});
        let mut expected = Vec::new();
        for nth in 0..5 {
            peer.data_at(&mut lab, 100 + 200 * nth, &[7; 100]);
            expected.insert(0, (100 + 200 * nth, 200 + 200 * nth));
            expected.truncate(4);
            // Farther back than two, the last list is told before the new one, if ACKs were held.
            let ack = std::iter::from_fn(|| lab.sent()).last().unwrap_or_else(|| {
                lab.wait(5);
                lab.expect(ACK)
            });
            let told = &expected[..expected.len().min(most)];
            assert_eq!(blocks(&ack, &peer), told, "stamps {stamps}, block {nth}");
        }
        peer.data(&mut lab, &[7; 300]);
        let ack = lab.expect(ACK);
        // What is in order is no longer told, but for what came twice; of five ranges four are known.
        assert_eq!(blocks(&ack, &peer), [&[(-200, -100), (600, 700), (400, 500), (200, 300)][..most]].concat());
        assert_eq!(ack.ack, peer.seq + 100);
    }
}

#[test]
fn what_comes_twice_is_told_once_and_before_all_else() {
    let (mut lab, _sock, mut peer) = sacked(false, |_| {});
    peer.data(&mut lab, &[1; 100]);
    lab.expect(ACK);
    peer.data_at(&mut lab, -100, &[1; 100]);
    assert_eq!(blocks(&lab.expect(ACK), &peer), [(-100, 0)], "old data");
    assert_eq!(lab.count(Counter::TcpExtTCPDSACKOldSent), 1);
    peer.data_at(&mut lab, 100, &[1; 100]);
    assert_eq!(blocks(&lab.expect(ACK), &peer), [(100, 200)], "the D-SACK is gone");
    peer.data_at(&mut lab, 120, &[1; 50]);
    assert_eq!(blocks(&lab.expect(ACK), &peer), [(120, 170), (100, 200)], "the enclosing range follows");
    assert_eq!(lab.count(Counter::TcpExtTCPDSACKOfoSent), 1);
    assert_eq!(lab.dropped(DropReason::TcpOfomerge), 1);
    peer.data_at(&mut lab, 150, &[1; 100]);
    assert_eq!(blocks(&lab.expect(ACK), &peer), [(150, 200), (100, 250)], "the overlap came twice");
    peer.data(&mut lab, &[1; 150]);
    let ack = lab.expect(ACK);
    assert_eq!(ack.ack, peer.seq + 100);
    assert_eq!(blocks(&ack, &peer), [(-50, 0)], "what the segment in order has of what waited");
}

#[test]
fn each_overlap_on_the_way_counts_and_the_last_is_told() {
    let (mut lab, _sock, mut peer) = sacked(false, |config| config.sysctl.tcp_comp_sack_nr = 0);
    for offset in [100, 150] {
        peer.data_at(&mut lab, offset, &[1; 100]);
        lab.expect(ACK);
    }
    assert_eq!(lab.count(Counter::TcpExtTCPDSACKOfoSent), 1);
    peer.data_at(&mut lab, 180, &[1; 60]);
    assert_eq!(blocks(&lab.expect(ACK), &peer), [(180, 240), (100, 250)], "the second has all of it");
    assert_eq!(lab.count(Counter::TcpExtTCPDSACKOfoSent), 3);
    peer.data_at(&mut lab, 170, &[1; 100]);
    assert_eq!(blocks(&lab.expect(ACK), &peer), [(170, 250), (100, 270)]);
    assert_eq!(lab.count(Counter::TcpExtTCPDSACKOfoSent), 5);
    peer.data(&mut lab, &[1; 100]);
    lab.expect(ACK);
}

#[test]
fn a_fin_that_joins_what_waits_opens_the_window_by_two_segments() {
    for (gap, opened) in [(0, 2 * 1_460), (10, 0)] {
        let (mut lab, sock, mut peer) = sacked(false, |_| {});
        peer.data_at(&mut lab, 100, &[1; 100]);
        sock.lock.user().rx.rcv_ssthresh = 40_000;
        let mut fin = peer.repr(super::lab::FIN_ACK);
        fin.seq = peer.seq + 200 + gap;
        lab.segment(fin, &[]);
        assert_eq!(sock.lock.user().rx.rcv_ssthresh, 40_000 + opened, "{gap} bytes are missing before it");
        peer.data(&mut lab, &[1; 100]);
        while lab.sent().is_some() {}
    }
}

#[test]
fn without_tcp_dsack_nothing_is_told_twice() {
    let (mut lab, _sock, mut peer) = sacked(false, |config| config.sysctl.tcp_dsack = false);
    peer.data(&mut lab, &[1; 100]);
    lab.expect(ACK);
    peer.data_at(&mut lab, -100, &[1; 100]);
    assert_eq!(blocks(&lab.expect(ACK), &peer), []);
    assert_eq!(lab.count(Counter::TcpExtTCPDSACKOldSent), 0);
}

#[test]
fn duplicate_acks_beyond_three_are_held_and_one_stands_for_them() {
    let (mut lab, sock, mut peer) = sacked(false, |_| {});
    // A round trip is known, and quick ACKs are used up.
    for _ in 0..40 {
        peer.data(&mut lab, &[1; 1_000]);
        lab.now.0 += super::lab::MS;
    }
    while lab.sent().is_some() {}
    sock.lock.user().rx.rtt_us8 = 8 * 40_000;
    sock.lock.user().ack.quick = 0;
    sock.lock.user().rx.rcv_ssthresh = 1 << 30;
    let mut gone = 0;
    for nth in 0..10 {
        peer.data_at(&mut lab, 1_000 + 1_000 * nth, &[1; 1_000]);
        gone += std::iter::from_fn(|| lab.sent()).count();
    }
    assert_eq!(gone, 3, "what the sender counts goes at once");
    assert_eq!(sock.lock.user().ack.compressed, 7);
    lab.wait(3);
    assert_eq!(blocks(&lab.expect(ACK), &peer), [(1_000, 11_000)]);
    lab.expect_nothing();
    assert_eq!(lab.count(Counter::TcpExtTCPAckCompressed), 6, "one of them was sent after all");
    peer.data(&mut lab, &[1; 1_000]);
    assert_eq!(blocks(&lab.expect(ACK), &peer), [], "the hole is filled: at once");
}

#[test]
fn data_leaves_room_for_the_blocks_that_it_carries() {
    let (mut lab, sock, mut peer) = sacked(true, |_| {});
    peer.data_at(&mut lab, 1_000, &[1; 100]);
    lab.expect(ACK);
    assert_eq!(lab.send(&sock, &[9; 3_000]), 3_000);
    let first = lab.expect(ACK);
    assert_eq!(blocks(&first, &peer), [(1_000, 1_100)]);
    assert_eq!(first.payload.len(), 1_448 - 12, "one block and its padding are twelve bytes");
    peer.ack += 3_000;
    lab.segment(peer.repr(ACK), &[]);
}

#[test]
fn a_reset_at_the_end_of_the_farthest_range_is_believed() {
    for (offset, closed) in [(300, false), (500, true)] {
        let (mut lab, sock, mut peer) = sacked(false, |_| {});
        peer.data_at(&mut lab, 400, &[1; 100]);
        peer.data_at(&mut lab, 100, &[1; 100]);
        lab.segment(rxpath_wire::TcpRepr { seq: peer.seq + offset, ..peer.repr(TcpFlags::RST) }, &[]);
        assert_eq!(lab.state(&sock) == State::Close, closed, "{offset}");
        peer.seq += 1;
    }
}

/// Whatever comes in whatever order: what is told was received, is apart, is beyond the next byte, and the newest is
/// first.
#[test]
fn what_is_told_is_true_whatever_comes() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let stamps = rng.below(2) == 0;
        let (mut lab, sock, peer) = sacked(stamps, |_| {});
        let mut had = BTreeSet::new();
        for _ in 0..120 {
            let (start, len) = (rng.below(3_000), 1 + rng.below(200));
            let mut repr = peer.repr(ACK);
            repr.seq = peer.seq + start;
            lab.segment(repr, &vec![3; len as usize]);
            had.extend(start..start + len);
            let mut next = 0;
            while had.contains(&next) {
                next += 1;
            }
            for sent in std::iter::from_fn(|| lab.sent()).collect::<Vec<_>>() {
                assert!(sent.ack.at_or_before(peer.seq + next), "seed {seed}");
                for (left, right) in blocks(&sent, &peer) {
                    assert!(left < right, "seed {seed}: {left} to {right}");
                    assert!((left..right).all(|byte| had.contains(&(byte as u32))), "seed {seed}: {left} to {right}");
                }
            }
            let sk = sock.lock.user();
            assert_eq!(sk.rx.rcv_nxt, peer.seq + next, "seed {seed}");
            let ranges = sk.rx.sack.ranges();
            assert_eq!(ranges.is_empty(), sk.rx.ofo.is_empty(), "seed {seed}");
            for (at, &(left, right)) in ranges.iter().enumerate() {
                assert!(left.after(sk.rx.rcv_nxt) && right.after(left), "seed {seed}");
                let apart = |&(l, r): &(SeqNum, SeqNum)| r.before(left) || l.after(right);
                assert!(ranges[..at].iter().all(apart), "seed {seed}: {ranges:?}");
            }
            drop(sk);
        }
        while lab.recv(&sock, 10_000).is_ok_and(|bytes| !bytes.is_empty()) {}
    }
}
