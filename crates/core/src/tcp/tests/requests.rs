//! Requests and what becomes of them, as the running kernel was seen to treat them.

use std::sync::Arc;

use rxpath_trace::Counter;

use super::lab::{ACK, FIN_ACK, Lab, Peer, SYN, SYN_ACK};
use crate::socket::Listener;

/// A listener, and a peer with timestamps whose SYN was answered: the request is there.
fn requested(lab: &mut Lab) -> (Arc<Listener>, Peer) {
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((5_000, 0));
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    peer.note(&answer);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    (listener, peer)
}

#[test]
fn the_limit_of_unproven_peers_may_be_passed_by_one() {
    let mut lab = Lab::with(|config| (config.sysctl.tcp_syncookies, config.sysctl.tcp_max_syn_backlog) = (0, 1));
    let listener = lab.listen(80, 8);
    for port in 0..4 {
        lab.segment(Peer::new(40_000 + port, 80).repr(SYN), &[]);
    }
    assert_eq!((listener.requests(), lab.count(Counter::TcpExtListenDrops)), (2, 2));
    while lab.sent().is_some() {}
}

#[test]
fn each_timeout_of_a_request_counts_also_its_last() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_synack_retries = 0);
    let (listener, _) = requested(&mut lab);
    lab.wait(1_100);
    lab.expect_nothing();
    assert_eq!((listener.requests(), lab.count(Counter::TcpExtTCPTimeouts)), (0, 1));
}

#[test]
fn what_nobody_accepted_is_reset_without_being_counted_as_lost() {
    let mut lab = Lab::new();
    let (listener, mut peer) = requested(&mut lab);
    peer.data(&mut lab, b"nobody reads this");
    lab.expect(ACK);
    lab.stack.close_listener(&listener, lab.now);
    lab.run();
    assert!(lab.sent().is_some_and(|sent| sent.flags.rst()));
    let lost = [Counter::TcpExtTCPAbortOnData, Counter::TcpExtTCPAbortOnClose].map(|counter| lab.count(counter));
    assert_eq!(lost, [0, 0]);
}

#[test]
fn timestamps_that_were_not_offered_are_echoed_from_time_wait_all_the_same() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    assert_eq!(answer.options.timestamps, None);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    peer.stamps = Some((4_711, 0));
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("the handshake is complete");
    lab.close(&sock);
    let fin = lab.expect(FIN_ACK);
    assert_eq!(fin.options.timestamps, None);
    peer.ack = fin.seq + 1;
    lab.segment(peer.repr(ACK), &[]);
    lab.segment(peer.repr(FIN_ACK), &[]);
    let last = lab.expect(ACK);
    assert_eq!(last.options.timestamps.map(|(_, echo)| echo), Some(4_711));
}

#[test]
fn syn_acks_that_were_sent_again_cost_the_window_unless_it_was_for_nothing() {
    for (first, cwnd) in [(true, 10), (false, 1)] {
        let mut lab = Lab::new();
        let (listener, mut peer) = requested(&mut lab);
        let echo = peer.stamps.map_or(0, |(_, echo)| echo);
        for _ in 0..2 {
            lab.wait(2_100);
            let again = lab.expect(SYN_ACK);
            peer.note(&again);
        }
        if first {
            peer.stamps = Some((5_000, echo));
        }
        lab.segment(peer.repr(ACK), &[]);
        let sock = lab.stack.accept(&listener).expect("the handshake is complete");
        assert_eq!(sock.lock.user().cong.cwnd, cwnd);
    }
}
