//! What comes while the application has the socket, and how it is acknowledged when that lets go.

use std::sync::Arc;

use rxpath_trace::{Counter, DropReason, Holder, Snapshot};
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, PSH_ACK, Peer, Sent};
use crate::socket::{Sock, post};

#[test]
fn a_segment_for_an_owned_socket_waits_on_the_backlog() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let owned = sock.lock.user();
    peer.data(&mut lab, b"while ");
    peer.data(&mut lab, b"owned");
    assert_eq!(lab.stack.ledger().held_by(Holder::SocketBacklog), 1, "the second joined the first");
    assert_eq!(lab.count(Counter::TcpExtTCPBacklogCoalesce), 1);
    lab.expect_nothing();
    assert!(owned.release(), "the owner learns of the backlog");
    lab.stack.kick(&sock, post::BACKLOG, lab.now);
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"while owned");
}

#[test]
fn a_delayed_ack_whose_time_comes_while_the_socket_is_owned_is_sent_at_release() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    // In the middle of an interactive exchange acknowledgements wait.
    peer.data(&mut lab, b"question");
    lab.expect(ACK);
    lab.send(&sock, b"answer");
    peer.ack = lab.expect(PSH_ACK).seq + 6;
    peer.data(&mut lab, b"thanks");
    lab.expect_nothing();
    let owned = sock.lock.user();
    lab.wait(100);
    lab.expect_nothing();
    assert!(owned.release(), "the owner learns of it");
    lab.stack.kick(&sock, post::BACKLOG, lab.now);
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    let (locked, sent) = (Counter::TcpExtDelayedACKLocked, Counter::TcpExtDelayedACKs);
    assert_eq!((lab.count(locked), lab.count(sent)), (1, 1));
    lab.wait(1_000);
    assert_eq!((lab.count(locked), lab.count(sent)), (1, 1), "each time it fires counts once");
}

#[test]
fn the_backlog_is_bounded() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let owned = sock.lock.user();
    // Every other byte, so that nothing can be joined.
    for index in 0..2_000 {
        peer.data_at(&mut lab, index * 2, b"x");
    }
    let held = lab.stack.ledger().held_by(Holder::SocketBacklog);
    let dropped = lab.dropped(DropReason::SocketBacklog);
    assert_eq!(lab.count(Counter::TcpExtTCPBacklogDrop), dropped);
    assert_eq!(held as u64 + dropped, 2_000);
    assert!((450..500).contains(&held), "{held} packets of 704 bytes fit about 328 KiB");
    let _ = owned.release();
    lab.stack.kick(&sock, post::BACKLOG, lab.now);
    lab.run();
    while lab.sent().is_some() {}
}

/// What the stack sends, and counts, of segments that come while the socket is owned: of a connection that acknowledges
/// each segment at once, or of one that no longer does.
fn of_backlog(
    defers: bool,
    is_quick: bool,
    put: impl FnOnce(&mut Lab, &mut Peer),
) -> (Vec<Sent>, Snapshot, Peer, Lab, Arc<Sock>) {
    let mut lab = Lab::with(|config| config.sysctl.tcp_backlog_ack_defer = defers);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, &[0; 10]);
    assert_eq!(lab.recv(&sock, 100).unwrap().len(), 10);
    while lab.sent().is_some() {}
    let before = lab.stack.snapshot();
    let mut owned = sock.lock.user();
    if !is_quick {
        owned.ack.quick = 0;
    }
    put(&mut lab, &mut peer);
    lab.expect_nothing();
    assert!(owned.release(), "the owner learns of the backlog");
    lab.stack.kick(&sock, post::BACKLOG, lab.now);
    let sent = std::iter::from_fn(|| lab.sent()).collect();
    (sent, lab.stack.snapshot().diff(&before), peer, lab, sock)
}

/// Full segments of which none joins another: every other one has four bytes of options.
fn unjoinable(lab: &mut Lab, peer: &mut Peer, count: u32) {
    for index in 0..count {
        let mut repr = peer.repr(ACK);
        repr.options.timestamps = (index % 2 == 1).then_some((1, 1));
        lab.segment(repr, &[7; 1_460]);
        peer.seq += 1_460;
    }
}

fn acks(sent: &[Sent], peer: &Peer) -> Vec<i32> {
    sent.iter().map(|ack| ack.ack - peer.seq).collect()
}

#[test]
fn one_ack_stands_for_a_whole_backlog() {
    // As Linux 6.18 sends them, with the tunable and without.
    for (defers, is_quick, want) in
        [(true, true, &[0][..]), (true, false, &[0]), (false, true, &[-4_380, -2_920, -1_460, 0])]
    {
        let (sent, seen, peer, ..) = of_backlog(defers, is_quick, |lab, peer| unjoinable(lab, peer, 4));
        assert_eq!(acks(&sent, &peer), want);
        assert_eq!((seen[Counter::TcpOutSegs], seen[Counter::TcpExtTCPBacklogCoalesce]), (want.len() as u64, 0));
    }
}

#[test]
fn the_end_of_the_stream_is_acknowledged_with_the_backlog() {
    let data_and_fin = |lab: &mut Lab, peer: &mut Peer| {
        unjoinable(lab, peer, 2);
        lab.segment(peer.repr(FIN_ACK), &[]);
        peer.seq += 1;
    };
    let (sent, _, peer, ..) = of_backlog(true, true, data_and_fin);
    assert_eq!(acks(&sent, &peer), [0]);
}

#[test]
fn a_gap_in_the_backlog_is_told_at_once_and_its_end_with_the_rest() {
    let gap = |lab: &mut Lab, peer: &mut Peer| {
        peer.data_at(lab, 100, &[2; 100]);
        peer.data(lab, &[1; 100]);
        peer.seq += 100;
    };
    let (sent, seen, peer, ..) = of_backlog(true, false, gap);
    assert_eq!(acks(&sent, &peer), [-200, 0]);
    assert_eq!(seen[Counter::TcpExtTCPOFOQueue], 1);
    // Of who acknowledges each segment at once the gap waits, too.
    let gaps = |lab: &mut Lab, peer: &mut Peer| (0..5).for_each(|n| peer.data_at(lab, 1_000 + 200 * n, &[2; 100]));
    let (sent, ..) = of_backlog(true, true, gaps);
    assert_eq!(sent.len(), 1);
    let (sent, ..) = of_backlog(false, true, gaps);
    assert_eq!(sent.len(), 5);
}

#[test]
fn what_is_not_acceptable_is_answered_out_of_turn() {
    let blind = |lab: &mut Lab, peer: &mut Peer| {
        let mut reset = peer.repr(TcpFlags::RST);
        reset.seq += 100;
        lab.segment(reset, &[]);
        unjoinable(lab, peer, 2);
    };
    let (sent, seen, peer, ..) = of_backlog(true, true, blind);
    assert_eq!(acks(&sent, &peer), [-2_920, 0]);
    assert_eq!(seen[Counter::TcpExtTCPChallengeACK], 1);
    // An answer to what lies beyond the window stands for what was put off before it.
    let beyond = |lab: &mut Lab, peer: &mut Peer| {
        unjoinable(lab, peer, 1);
        peer.data_at(lab, 1_000_000, b"e");
    };
    let (sent, seen, peer, ..) = of_backlog(true, true, beyond);
    assert_eq!((acks(&sent, &peer), seen[Counter::TcpExtBeyondWindow]), (vec![0], 1));
}

#[test]
fn what_joins_on_the_backlog_counts_as_what_it_was() {
    // Read off Linux 6.18 by `ss -tinm`: truesize, the size of segments and how many there were.
    for (lens, rmem, rcv_mss) in
        [(&[800; 3][..], 4_096, 800), (&[100, 800, 300], 2_880, 800), (&[300, 800], 2_304, 800)]
    {
        let put = |lab: &mut Lab, peer: &mut Peer| lens.iter().for_each(|&len| peer.data(lab, &vec![1; len]));
        let (_, seen, _, mut lab, sock) = of_backlog(true, true, put);
        assert_eq!(seen[Counter::TcpExtTCPBacklogCoalesce], lens.len() as u64 - 1);
        let sk = sock.lock.user();
        assert_eq!((sk.rx.rmem_alloc, sk.ack.rcv_mss), (rmem, rcv_mss), "{lens:?}");
        assert_eq!(sk.rx.data_segs_in, 1 + lens.len() as u32);
        assert_eq!(sk.rx.backlog_len, 0);
        drop(sk);
        lab.run();
    }
}

#[test]
fn what_joins_is_charged_to_the_backlog() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let owned = sock.lock.user();
    let limit = sock.backlog_limit();
    // Each costs 1920 bytes where it joins, and 2176 where the packet before it is full.
    for _ in 0..limit / 1_920 + 20 {
        peer.data(&mut lab, &[3; 1_460]);
    }
    assert!(lab.dropped(DropReason::SocketBacklog) > 0);
    assert_eq!(lab.count(Counter::TcpExtTCPBacklogDrop), lab.dropped(DropReason::SocketBacklog));
    let _ = owned.release();
    lab.stack.kick(&sock, post::BACKLOG, lab.now);
    while lab.sent().is_some() {}
}
