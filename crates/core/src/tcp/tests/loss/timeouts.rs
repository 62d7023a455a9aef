//! What a connection does after a timeout, and what it tells of it. What is expected is what Linux 6.18 did and told in the same
//! situations.

use super::super::lab::{ACK, Lab, Peer, SYN, SYN_ACK};
use super::{MSS, NOTHING, Path, RTT};
use crate::socket::Sock;
use crate::sysctl::CongestionControl;
use crate::tcp::CaState;

/// Timeouts, recoveries, milliseconds of these, new hashes.
fn told(lab: &Lab, sock: &Sock) -> (u16, u16, u32, u32) {
    let info = sock.lock.user().info(lab.now);
    (info.total_rto, info.total_rto_recoveries, info.total_rto_time, info.rehash)
}

impl Path {
    fn told(&self) -> (u16, u16, u32, u32) {
        told(&self.lab, &self.sock)
    }

    /// Waits for so many timeouts.
    fn time_out(&mut self, timeouts: u16) {
        for _ in 0..5_000 {
            if self.told().0 == timeouts {
                return;
            }
            self.lab.wait(1);
        }
        panic!("no timeout");
    }
}

#[test]
fn a_recovery_is_timed_until_the_state_is_left_or_the_next_one_begins() {
    let mut path = Path::new(false);
    path.send(2);
    assert_eq!(path.told(), (0, 0, 0, 0));
    path.time_out(1);
    path.lab.wait(100);
    assert_eq!(path.told(), (1, 1, 100, 1));
    path.time_out(2);
    let spent = path.told().2;
    assert_eq!(path.told(), (2, 1, spent, 2), "the same recovery");
    // Something is acknowledged, but not all; what was spent before the next timeout is forgotten.
    path.ack(1, &[]);
    path.lab.wait(10);
    assert_eq!((path.told(), path.state().0), ((2, 1, spent + 10, 2), CaState::Loss));
    path.time_out(3);
    path.lab.wait(30);
    assert_eq!(path.told(), (3, 2, 30, 3));
    path.ack(1, &[]);
    path.lab.wait(500);
    assert_eq!((path.told(), path.state().0), ((3, 2, 30, 3), CaState::Open));
    path.send(1);
    path.time_out(4);
    path.lab.wait(20);
    assert_eq!(path.told(), (4, 3, 50, 4));
}

#[test]
fn without_selective_acknowledgements_a_recovery_lasts_until_something_beyond_is_acknowledged() {
    let mut path = Path::without_sack();
    path.send(1);
    path.time_out(1);
    path.lab.wait(10);
    path.ack(1, &[]);
    path.lab.wait(90);
    assert_eq!((path.told(), path.state().0), ((1, 1, 100, 1), CaState::Loss));
    path.send(1);
    path.lab.wait(RTT);
    path.ack(1, &[]);
    path.lab.wait(200);
    assert_eq!((path.told(), path.state().0), ((1, 1, 100 + RTT as u32, 1), CaState::Open));
}

#[test]
fn timeouts_while_the_window_is_closed_do_not_count() {
    let mut path = Path::new(false);
    path.send(2);
    path.peer.window = 0;
    path.ack(0, &[]);
    path.lab.wait(3_000);
    assert_eq!((path.told(), path.state().0), ((0, 0, 0, 0), CaState::Loss));
}

#[test]
fn those_of_the_handshake_count() {
    // Of a listener's SYN-ACKs all the time that the handshake took.
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    lab.wait(3_300);
    while lab.sent().is_some() {}
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("a connection");
    lab.wait(100);
    assert_eq!(told(&lab, &sock), (2, 1, 3_300, 0));
    // Of our SYNs from the first timeout on, until the state is left: at the latest when something is acknowledged.
    let remote = std::net::SocketAddr::from((super::super::lab::PEER, 81));
    let sock = lab.stack.connect(remote, lab.now).expect("a way");
    lab.run();
    let syn = lab.expect(SYN);
    lab.wait(1_400);
    let (timeouts, recoveries, spent, rehash) = told(&lab, &sock);
    assert_eq!((timeouts, recoveries, rehash), (1, 1, 1));
    assert!((390..=400).contains(&spent), "{spent} ms");
    while lab.sent().is_some() {}
    let mut peer = Peer::new(81, syn.sport);
    peer.ack = syn.seq + 1;
    lab.segment(peer.repr(SYN_ACK), &[]);
    lab.expect(ACK);
    lab.wait(100);
    assert_eq!(told(&lab, &sock), (1, 1, spent + 100, 1));
    lab.send(&sock, b"data");
    lab.wait(50);
    (peer.seq, peer.ack) = (peer.seq + 1, peer.ack + 4);
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(100);
    assert_eq!(told(&lab, &sock), (1, 1, spent + 150, 1));
}

#[test]
fn what_goes_again_ends_with_the_window() {
    // The window that the peer leaves behind what it acknowledges, in units of 128 bytes, and what goes again into it.
    for (window, expected) in [
        (0, &[(4, MSS)][..]),
        (1, &[(4, 128)]),
        (8, &[(4, 1_024)]),
        (12, &[(4, MSS), (5, 76)]),
        (25, &[(4, MSS), (5, MSS), (6, 280)]),
        (400, &[(4, MSS), (5, MSS), (6, MSS), (7, MSS), (8, MSS)]),
    ] {
        for super_frames in [false, true] {
            let mut path = Path::without_sack();
            if super_frames {
                path.send_super_frames(10 * MSS);
            } else {
                path.send(10);
            }
            path.time_out(1);
            path.sent();
            path.peer.window = window;
            path.peer.ack += 4 * MSS;
            path.lab.segment(path.peer.repr(ACK), &[]);
            path.check();
            let sent: Vec<_> = std::iter::from_fn(|| path.lab.sent()).collect();
            let again: Vec<_> =
                sent.iter().map(|one| ((one.seq - path.first) as u32 / MSS, one.payload.len() as u32)).collect();
            assert_eq!(again, expected, "{window}, {super_frames}");
        }
    }
}

/// As measured on Linux 6.18.
#[test]
fn what_follows_a_broken_promise_is_sent_again_in_order() {
    let broken = |blocks: &[&[(u32, u32)]], left: &[(u32, u32)]| {
        let mut path = Path::new(false);
        {
            let cong = &mut path.sock.lock.user().cong;
            cong.set_algorithm(CongestionControl::Reno);
            cong.cwnd = 10;
        }
        path.send(10);
        path.lab.wait(RTT);
        let fast: Vec<_> = blocks.iter().map(|blocks| path.ack(0, blocks)).collect();
        path.lab.wait(10);
        // The head is acknowledged up to what was promised.
        assert_eq!(path.ack(3, left), NOTHING);
        path.lab.wait(60);
        let sent = path.sent();
        (path.numbers(&sent), fast, path)
    };
    let (again, fast, mut path) = broken(&[&[(3, 6)]], &[]);
    assert_eq!((again, fast), (vec![3], vec![vec![0]]));
    assert_eq!(path.ack(1, &[]), [4, 5]);
    path.lab.wait(RTT);
    assert_eq!(path.ack(1, &[]), [6, 7]);

    let (again, fast, mut path) = broken(&[&[(3, 6)], &[(7, 8), (3, 6)]], &[(7, 8)]);
    assert_eq!((again, fast), (vec![3], vec![vec![0], vec![1, 2]]));
    assert_eq!(path.ack(1, &[(7, 8)]), [4, 5, 6]);
}

/// As measured on Linux 6.18.
#[test]
fn what_waits_for_a_window_that_a_timeout_closed_makes_it_grow() {
    let mut path = Path::new(false);
    path.sock.lock.user().cong.cwnd = 10;
    path.lab.send(&path.sock, &[5; 10]);
    path.lab.send(&path.sock, &[5; 4 * MSS as usize]);
    assert_eq!(path.sent().len(), 5);
    path.lab.wait(400);
    assert!(!path.sent().is_empty());
    assert_eq!((path.state().0, path.with(|sk| sk.rtt.retransmits)), (CaState::Loss, 1));
    path.lab.send(&path.sock, &[5; MSS as usize]);
    assert!(path.sent().is_empty());
    path.peer.ack += 10 + 4 * MSS;
    path.lab.segment(path.peer.repr(ACK), &[]);
    assert_eq!((path.sent().len(), path.state().1), (1, 15));
}

/// As measured on Linux 6.18: 321 ms are less than the timeout that an ACK of what was sent twice leaves doubled.
#[test]
fn a_window_is_not_filled_for_as_long_as_the_timeout_with_its_back_off() {
    let mut path = Path::new(false);
    path.sock.lock.user().cong.cwnd = 10;
    path.sock.lock.user().tx.nagle.off = true;
    path.lab.send(&path.sock, &[5; 10]);
    path.lab.send(&path.sock, &[5; 4 * MSS as usize]);
    path.lab.wait(400);
    path.lab.send(&path.sock, &[5; 10]);
    path.peer.ack += 10 + 4 * MSS;
    path.lab.segment(path.peer.repr(ACK), &[]);
    assert!(path.sent().len() > 5);
    assert_eq!((path.state().1, path.with(|sk| sk.rtt.backoff)), (15, 1));
    path.lab.wait(321);
    path.lab.send(&path.sock, &[5; 10]);
    assert_eq!(path.state(), (CaState::Open, 15, u32::MAX));
}

/// As measured on Linux 6.18.
#[test]
fn copies_that_were_not_found_lost_count_until_nothing_is_in_flight() {
    let mut path = Path::new(false);
    path.send(10);
    path.lab.wait(400);
    assert_eq!((path.sent().len(), path.with(|sk| sk.rtt.retransmits)), (2, 1));
    let selectively = |path: &mut Path, ack: u32, (left, right): (u32, u32)| {
        let mut repr = path.peer.repr(ACK);
        repr.ack = path.first + ack * MSS;
        repr.options.set_sack((right > 0).then(|| (path.first + left * MSS, path.first + right * MSS)));
        path.lab.segment(repr, &[]);
    };
    for right in 2..=6 {
        selectively(&mut path, 0, (1, right));
    }
    let told = |path: &Path| path.with(|sk| (sk.cong.state, sk.cong.lost_out, sk.cong.retrans_out));
    assert_eq!(told(&path), (CaState::Disorder, 0, 1), "the timeout was spurious");
    path.lab.wait(1_200);
    assert_eq!(told(&path), (CaState::Loss, 5, 2), "two copies of the head are under way");
    path.sent();
    selectively(&mut path, 1, (1, 6));
    assert_eq!(told(&path), (CaState::Loss, 4, 1), "one of them was acknowledged");
    selectively(&mut path, 6, (0, 0));
    assert_eq!(told(&path), (CaState::Loss, 4, 3));
    selectively(&mut path, 10, (0, 0));
    assert_eq!(told(&path), (CaState::Open, 0, 0));
}

/// As measured on Linux 6.18: which copy of what was sent twice has come nobody tells, also when it was told of before.
#[test]
fn what_is_acknowledged_with_what_was_sent_twice_gives_no_round_trip() {
    let mut path = Path::new(false);
    path.send(3);
    path.lab.wait(100);
    assert_eq!(path.sent().len(), 1, "the last, as a probe");
    path.lab.wait(300);
    assert_eq!(path.with(|sk| sk.rtt.retransmits), 1);
    path.sent();
    path.send(4);
    path.ack(0, &[(2, 3)]);
    assert_eq!(path.ack(1, &[(2, 3)]), [3, 4], "new data tells whether the timeout was spurious");
    let before = path.with(|sk| sk.rtt.srtt);
    path.lab.wait(5);
    path.ack(2, &[]);
    assert_eq!(path.with(|sk| sk.rtt.srtt), before);
}

/// As measured on Linux 6.18.
#[test]
fn a_fin_joins_what_is_sent_again_also_where_that_has_become_a_full_segment() {
    for short in [0, 1] {
        let mut path = Path::new(false);
        path.sock.lock.user().tx.nagle.off = true;
        let first = MSS as usize - 117 + 117 * short;
        path.lab.send(&path.sock, &vec![5; first]);
        path.lab.send(&path.sock, &[5; 117]);
        let sock = path.sock.clone();
        path.lab.close(&sock);
        assert_eq!(path.sent().len(), 3);
        path.lab.wait(400);
        let again = path.sent();
        let Some(last) = again.last() else { panic!("nothing was sent again") };
        // What was full at first joins nothing.
        assert_eq!((last.payload.len(), last.flags.fin()), (MSS as usize, short == 0), "{again:?}");
    }
}
