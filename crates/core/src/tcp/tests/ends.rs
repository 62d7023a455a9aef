//! Ends of connections, and attempts to open one that end, as the running kernel was seen to make them.

use std::net::SocketAddr;
use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, MS, PEER, PSH_ACK, Peer, SYN, SYN_ACK};
use crate::socket::{Sock, WriteStep, post};
use crate::stack::RecvError;
use crate::sysctl::CongestionControl;
use crate::tcp::isn::tsval;
use crate::tcp::{Linger2, SockError, SockOptions, State, TcpSock};

/// Our end of an attempt to connect, whose SYN has gone out, and the peer.
fn opening(lab: &mut Lab) -> (Arc<Sock>, Peer) {
    let remote = SocketAddr::from((PEER, 40_000));
    let sock = lab.stack.connect_from(Some(2_000), remote, lab.now).expect("there is a way");
    lab.run();
    let syn = lab.expect(SYN);
    let mut peer = Peer::new(40_000, 2_000);
    peer.ack = syn.seq + 1;
    (sock, peer)
}

#[test]
fn a_zero_linger_resets_nobody_who_has_all_and_has_ended_too() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    lab.expect(FIN_ACK);
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    assert_eq!(lab.state(&sock), State::Closing);
    lab.stack.abort(&sock, lab.now);
    lab.run();
    lab.expect_nothing();
    assert_eq!(lab.state(&sock), State::Close);
    assert_eq!((lab.count(Counter::TcpOutRsts), lab.count(Counter::TcpExtTCPAbortOnData)), (0, 1));
}

#[test]
fn a_shutdown_gives_up_an_attempt_to_connect() {
    let mut lab = Lab::new();
    let (sock, peer) = opening(&mut lab);
    lab.stack.with(&sock, post::SHUTDOWN, lab.now, |_| ());
    lab.run();
    assert_eq!(lab.state(&sock), State::Close);
    assert_eq!(lab.count(Counter::TcpAttemptFails), 0, "it was given up, it did not fail");
    assert!(matches!(lab.recv(&sock, 1), Err(RecvError::Failed(SockError::Reset))));
    assert!(matches!(lab.recv(&sock, 1), Err(RecvError::NotConnected)), "nor was anything shut down");
    lab.segment(peer.repr(SYN_ACK), &[]);
    lab.expect(TcpFlags::RST);
    lab.wait(10_000);
    lab.expect_nothing();
}

#[test]
fn an_attempt_that_is_closed_has_not_failed() {
    let mut lab = Lab::new();
    let (sock, _) = opening(&mut lab);
    lab.close(&sock);
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpAttemptFails)), (State::Close, 0));
}

#[test]
fn an_answer_to_another_connection_has_the_syn_sent_again_soon_even_if_it_is_a_reset() {
    let rst_ack = TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0);
    for (flags, ahead, reset) in [(ACK, 0, 1), (ACK, 10_000, 1), (rst_ack, 0, 0), (rst_ack, 10_000, 0)] {
        let mut lab = Lab::new();
        let (_sock, mut peer) = opening(&mut lab);
        peer.ack = peer.ack - 1 + ahead;
        lab.segment(peer.repr(flags), &[]);
        assert_eq!(std::iter::from_fn(|| lab.sent()).filter(|sent| sent.flags.rst()).count(), reset);
        lab.wait(20);
        lab.expect(SYN);
        // Once it was sent again the peer may say so as often as it likes.
        lab.segment(peer.repr(rst_ack), &[]);
        lab.wait(500);
        lab.expect_nothing();
    }
}

#[test]
fn an_echo_from_before_our_syn_is_of_another_connection() {
    let mut lab = Lab::new();
    let (sock, mut peer) = opening(&mut lab);
    peer.stamps = Some((77, 1));
    lab.segment(peer.repr(SYN_ACK), &[]);
    lab.expect(TcpFlags::RST);
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpExtPAWSActive)), (State::SynSent, 1));
}

#[test]
fn the_syn_ack_of_a_crossed_open_offers_what_the_syn_did() {
    let mut lab = Lab::new();
    let (_sock, mut peer) = opening(&mut lab);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    let options = answer.options;
    assert!(options.wscale.is_some() && options.sack_permitted, "{options:?}");
    assert_eq!(options.timestamps.map(|(_, echo)| echo), Some(0), "there is nothing to echo");
    peer.seq += 1;
    lab.segment(peer.repr(PSH_ACK), b"data");
    let ack = lab.expect(ACK);
    let scale = options.wscale.unwrap_or(0);
    assert!(ack.window <= 64_240 >> scale << 1, "windows are scaled as offered: {}", ack.window);
    assert_eq!(ack.options.timestamps, None, "but what the peer did not offer is not used");
}

#[test]
fn syn_acks_of_a_crossed_open_count_as_syns_when_they_are_sent_again() {
    let mut lab = Lab::new();
    let (_sock, peer) = opening(&mut lab);
    lab.segment(peer.repr(SYN), &[]);
    lab.expect(SYN_ACK);
    lab.wait(1_100);
    lab.expect(SYN_ACK);
    assert_eq!(lab.count(Counter::TcpExtTCPSynRetrans), 1);
}

#[test]
fn a_short_wait_in_fin_wait_2_is_counted_apart() {
    for (seconds, counts) in [(2, (0, 1)), (30, (1, 0))] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_fin_timeout = seconds);
        let listener = lab.listen(80, 8);
        let mut peer = Peer::new(40_000, 80);
        let sock = peer.connect(&mut lab, &listener);
        lab.close(&sock);
        peer.ack = lab.expect(FIN_ACK).seq + 1;
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!((lab.count(Counter::TcpExtTW), lab.count(Counter::TcpExtTWKilled)), counts);
    }
}

/// Linux 6.18, `TCP_LINGER2` 61 and 63: what is longer than a minute the socket waits itself, and then a mini-socket as long again.
#[test]
fn a_wait_of_more_than_a_minute_is_waited_twice_for_what_is_more() {
    for over_s in [1, 3] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_fin_timeout = 60 + over_s as u32);
        let listener = lab.listen(80, 8);
        let mut peer = Peer::new(40_000, 80);
        let sock = peer.connect(&mut lab, &listener);
        lab.close(&sock);
        peer.ack = lab.expect(FIN_ACK).seq + 1;
        lab.segment(peer.repr(ACK), &[]);
        let told = |lab: &Lab| {
            let minis = lab.stack.sockets(lab.now).len() - 1;
            (minis, lab.count(Counter::TcpExtTW), lab.count(Counter::TcpExtTWKilled))
        };
        lab.wait(over_s * 1_000 - 100);
        assert_eq!((told(&lab), lab.state(&sock)), ((1, 0, 0), State::FinWait2));
        lab.wait(200);
        assert_eq!((told(&lab), lab.state(&sock)), ((1, 0, 1), State::Close));
        lab.wait(over_s * 1_000);
        assert_eq!(told(&lab), (0, 0, 1));
    }
}

/// As measured on Linux 6.18.
#[test]
fn a_mini_socket_offers_what_was_left_of_the_window() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, &[7; 1_460]);
    let offered = lab.expect(ACK).window;
    lab.recv(&sock, 2_000).expect("it is there");
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    peer.ack = lab.expect(FIN_ACK).seq + 1;
    sock.lock.user().ack.pingpong = true;
    peer.data(&mut lab, &[7]);
    lab.recv(&sock, 2_000).expect("it is there");
    lab.expect_nothing();
    lab.close(&sock);
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert_eq!(lab.expect(ACK).window, offered - 1, "a byte less, by a scale");
}

#[test]
fn a_fin_behind_small_segments_is_acknowledged_when_it_is_read() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((5_000, 0));
    let sock = peer.connect(&mut lab, &listener);
    // As many as have the peer's segments taken for that small, and the last not acknowledged.
    for _ in 0..32 {
        lab.segment(peer.repr(ACK), &[7; 200]);
        peer.seq += 200;
        lab.recv(&sock, 1_000).expect("it is there");
        while lab.sent().is_some() {}
    }
    let owed = |sock: &Sock| {
        let sk = sock.lock.user();
        let owed = (sk.rx.rcv_nxt - sk.rx.rcv_wup, i32::from(sk.ack.rcv_mss));
        assert!(!sk.release(), "nothing has come meanwhile");
        owed
    };
    if owed(&sock).0 == 0 {
        lab.segment(peer.repr(ACK), &[7; 200]);
        peer.seq += 200;
        lab.recv(&sock, 1_000).expect("it is there");
    }
    assert_eq!(owed(&sock), (200, 200));
    lab.expect_nothing();
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect_nothing();
    assert_eq!(lab.recv(&sock, 1_000).expect("the end"), b"");
    assert_eq!(lab.expect(ACK).ack, peer.seq + 1);
}

#[test]
fn a_zero_linger_on_an_attempt_to_connect_is_counted() {
    let mut lab = Lab::new();
    let (sock, _) = opening(&mut lab);
    lab.stack.abort(&sock, lab.now);
    lab.run();
    lab.expect_nothing();
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpExtTCPAbortOnData)), (State::Close, 1));
}

#[test]
fn each_syn_that_could_open_anew_is_answered_where_nobody_listens() {
    let mut lab = Lab::new();
    let (sock, mut peer) = opening(&mut lab);
    lab.segment(peer.repr(SYN_ACK), &[]);
    peer.seq += 1;
    lab.expect(ACK);
    lab.close(&sock);
    peer.ack = lab.expect(FIN_ACK).seq + 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    for _ in 0..3 {
        peer.seq += 5;
        lab.segment(peer.repr(SYN), &[]);
        lab.expect(ACK);
    }
    assert_eq!(lab.count(Counter::TcpExtTCPACKSkippedTimeWait), 0);
}

#[test]
fn one_syn_that_was_sent_again_does_not_cost_the_window() {
    for (times, cwnd) in [(1, 10), (2, 1)] {
        let mut lab = Lab::new();
        let (sock, peer) = opening(&mut lab);
        for _ in 0..times {
            lab.wait(1_050);
            lab.expect(SYN);
        }
        lab.segment(peer.repr(SYN_ACK), &[]);
        lab.expect(ACK);
        assert_eq!(sock.lock.user().cong.cwnd, cwnd);
    }
}

#[test]
fn syns_may_double_their_timeout_from_the_first_on_and_the_last_timeout_counts() {
    let mut lab = Lab::with(|config| {
        (config.sysctl.tcp_syn_linear_timeouts, config.sysctl.tcp_syn_retries) = (0, 1);
    });
    let (sock, _) = opening(&mut lab);
    lab.wait(1_100);
    lab.expect(SYN);
    lab.wait(2_100);
    lab.expect_nothing();
    assert!(matches!(lab.recv(&sock, 1), Err(RecvError::Failed(SockError::TimedOut))));
    assert_eq!(lab.count(Counter::TcpExtTCPTimeouts), 2);
}

#[test]
fn the_round_trip_of_a_crossed_open_begins_with_the_syn_ack() {
    let mut lab = Lab::new();
    let (sock, mut peer) = opening(&mut lab);
    lab.wait(100);
    lab.segment(peer.repr(SYN), &[]);
    lab.expect(SYN_ACK);
    peer.seq += 1;
    lab.wait(20);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(sock.lock.user().rtt.srtt / MS, 20);
}

/// As measured on Linux 6.18: 30 ms behind the SYN-ACK the peer acknowledges nothing new, and echoes what was never sent.
#[test]
fn what_the_peer_echoes_is_the_round_trip_of_a_crossed_open_that_nothing_acknowledges() {
    for (echoed_before, srtt_ms, rto_ms) in [
        (0, 30, 232),
        (10_000, 10_030, 30_092),
        (119_000, 119_030, 357_092),
        (2_148_000, 0, 3_000),
        (u32::MAX - 99, 0, 3_000),
    ] {
        let mut lab = Lab::new();
        let (sock, mut peer) = opening(&mut lab);
        peer.stamps = Some((5_000, 0));
        lab.segment(peer.repr(SYN), &[]);
        let ours = lab.expect(SYN_ACK).options.timestamps.expect("agreed").0;
        lab.wait(30);
        peer.seq += 1;
        peer.ack -= 1;
        peer.stamps = Some((5_030, ours.wrapping_sub(echoed_before)));
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!(lab.state(&sock), State::Established);
        let rtt = sock.lock.user().rtt.clone();
        assert_eq!((rtt.srtt / MS, rtt.backed_off() / MS), (srtt_ms, rto_ms.min(120_000)), "{echoed_before}");
    }
}

#[test]
fn what_carries_nothing_lies_in_the_peers_window_to_the_byte_where_windows_are_not_scaled() {
    let mut lab = Lab::new();
    let (_sock, mut peer) = opening(&mut lab);
    peer.window = 0;
    lab.segment(peer.repr(SYN), &[]);
    let first = lab.expect(SYN_ACK).seq;
    peer.seq += 1;
    // A SYN in the window is challenged: the answer begins where the peer's window ends.
    lab.segment(peer.repr(SYN), &[]);
    assert_eq!(lab.expect(ACK).seq, first);
    // A listener's connection has its SYN-ACK behind it.
    let _listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_001, 80);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    peer.ack = answer.seq + 1;
    lab.segment(peer.repr(TcpFlags(SYN.0 | FIN_ACK.0)), &[7; 20]);
    assert_eq!(lab.expect(ACK).seq, answer.seq + 1);
}

#[test]
fn a_syn_that_was_sent_again_makes_the_first_super_frames_small() {
    // Measured on Linux 6.18: the rate is two windows in a round trip, of segments that have room for timestamps.
    for (times, stamps, window, cwnd) in
        [(0, true, 64_240, 10), (0, false, 64_240, 10), (1, true, 64_240, 1), (1, false, 64_240, 1), (0, true, 0, 10)]
    {
        let mut lab = Lab::with(|config| config.sysctl.tcp_congestion_control = CongestionControl::Reno);
        let (sock, mut peer) = opening(&mut lab);
        for _ in 0..times {
            lab.wait(1_050);
            lab.expect(SYN);
        }
        lab.wait(20);
        let stamp = |sk: &TcpSock| tsval(sk.tx.last_sent, sk.tx.ts_offset);
        peer.stamps = stamps.then(|| (77, stamp(&sock.lock.user())));
        let mut answer = peer.repr(SYN_ACK);
        (answer.window, answer.options.mss) = (window, Some(1_000));
        lab.segment(answer, &[]);
        lab.expect(ACK);
        let sk = sock.lock.user();
        let (round, mss) = (sk.rtt.srtt, if window == 0 { 524 } else { 988 });
        let expected = (2 * cwnd * mss * 1_000 * MS).checked_div(round).unwrap_or(u64::MAX);
        assert!(sk.cong.pacing.rate.abs_diff(expected) <= 1_000, "{} {expected}", sk.cong.pacing.rate);
        assert_eq!(sk.rtt.rto == 3_000 * MS, round == 0, "and so without a sample");
        assert_eq!((sk.cong.cwnd, sk.cong.ssthresh), (10, u32::MAX));
    }
}

#[test]
fn an_attempt_to_connect_takes_no_longer_than_the_user_waits() {
    // Measured on Linux 6.18: it is looked at with the second timeout, which comes no later.
    for (timeout_ms, syns, over) in [(300, 2, 1_100), (1_500, 2, 1_600), (2_500, 3, 2_600)] {
        let mut lab = Lab::new();
        let options = SockOptions { user_timeout_ms: timeout_ms, ..SockOptions::default() };
        let remote = SocketAddr::from((PEER, 40_000));
        let sock = lab.stack.connect_with(None, remote, &options, lab.now).expect("there is a way");
        lab.run();
        lab.wait(over - 120);
        assert_eq!(lab.state(&sock), State::SynSent, "{timeout_ms}");
        lab.wait(120);
        assert_eq!(lab.state(&sock), State::Close, "{timeout_ms}");
        assert_eq!(std::iter::from_fn(|| lab.sent()).filter(|sent| sent.flags == SYN).count(), syns);
        assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1);
    }
}

#[test]
fn who_does_not_wait_for_the_peers_end_resets_it_with_the_acknowledgement_of_its_own() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.stack.with(&sock, 0, lab.now, |sk| sk.user.linger2 = Linger2::Never);
    lab.close(&sock);
    peer.ack = lab.expect(FIN_ACK).seq + 1;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.expect(TcpFlags::RST).seq, peer.ack);
    assert_eq!((lab.count(Counter::TcpExtTCPAbortOnData), lab.count(Counter::TcpOutRsts)), (1, 1));
}

#[test]
fn segments_are_as_small_as_the_peer_asks_down_to_eight_bytes() {
    for (mss, sent) in [(64, 64), (1, 48)] {
        let mut lab = Lab::new();
        let (sock, mut peer) = opening(&mut lab);
        let mut answer = peer.repr(SYN_ACK);
        answer.options.mss = Some(mss);
        lab.segment(answer, &[]);
        peer.seq += 1;
        lab.expect(ACK);
        assert_eq!(sock.lock.user().tx.mss, sent);
    }
}

#[test]
fn a_reset_that_does_not_end_time_wait_moves_the_clock() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_rfc1337 = true);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((5_000, 0));
    let sock = peer.connect(&mut lab, &listener);
    lab.close(&sock);
    peer.ack = lab.expect(FIN_ACK).seq + 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    peer.seq += 1;
    lab.expect(ACK);
    peer.stamps = Some((6_000, 0));
    lab.segment(peer.repr(TcpFlags::RST), &[]);
    lab.expect_nothing();
    peer.stamps = Some((6_001, 0));
    peer.seq -= 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert_eq!(lab.expect(ACK).options.timestamps.map(|(_, echo)| echo), Some(6_000));
}

#[test]
fn a_crossed_open_is_closed_with_a_fin_behind_the_syn_ack() {
    let mut lab = Lab::new();
    let (sock, mut peer) = opening(&mut lab);
    lab.segment(peer.repr(SYN), &[]);
    lab.expect(SYN_ACK);
    lab.close(&sock);
    let fin = lab.expect(FIN_ACK);
    assert_eq!((fin.seq, lab.state(&sock)), (peer.ack, State::FinWait1));
    peer.seq += 1;
    peer.ack = fin.seq + 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    assert_eq!(lab.count(Counter::TcpExtTW), 1);
}

#[test]
fn a_crossed_open_that_is_shut_down_ends_once_it_is_open() {
    let mut lab = Lab::new();
    let (sock, mut peer) = opening(&mut lab);
    lab.segment(peer.repr(SYN), &[]);
    lab.expect(SYN_ACK);
    lab.stack.with(&sock, post::SHUTDOWN, lab.now, |sk| sk.user.snd_shutdown = true);
    lab.run();
    lab.expect_nothing();
    let write = |lab: &Lab| lab.stack.send(&sock, b"late", false, lab.now);
    assert!(matches!(write(&lab), WriteStep::Full(None)), "not before the handshake is over");
    peer.seq += 1;
    lab.segment(peer.repr(ACK), &[]);
    lab.expect(FIN_ACK);
    assert!(matches!(write(&lab), WriteStep::Closed));
    assert_eq!(lab.state(&sock), State::FinWait1);
}

#[test]
fn a_lost_syn_is_not_undone() {
    let mut lab = Lab::new();
    let (sock, mut peer) = opening(&mut lab);
    lab.wait(1_050);
    let syn = lab.expect(SYN);
    // It echoes the first one, or nearly so.
    peer.stamps = syn.options.timestamps.map(|(tsval, _)| (77, tsval - 500));
    lab.segment(peer.repr(SYN_ACK), &[]);
    lab.expect(ACK);
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpExtTCPLossUndo)), (State::Established, 0));
}

#[test]
fn a_connection_whose_syn_was_lost_waits_for_more_before_it_is_well_again_without_sack() {
    for sack in [false, true] {
        let mut lab = Lab::new();
        let (sock, peer) = opening(&mut lab);
        lab.wait(1_050);
        lab.expect(SYN);
        let mut answer = peer.repr(SYN_ACK);
        answer.options.sack_permitted = sack;
        lab.segment(answer, &[]);
        lab.expect(ACK);
        lab.send(&sock, b"lost");
        lab.expect(PSH_ACK);
        lab.wait(3_100);
        while lab.sent().is_some() {}
        // Without SACK the timeout of the SYN lasts until something beyond it is acknowledged (RFC 6582).
        assert_eq!(lab.count(Counter::TcpExtTCPLossFailures), u64::from(!sack));
    }
}

#[test]
fn what_is_written_after_a_handshake_answers_it() {
    let mut lab = Lab::new();
    let (sock, mut peer) = opening(&mut lab);
    lab.segment(peer.repr(SYN_ACK), &[]);
    lab.expect(ACK);
    // A repetition has everything acknowledged at once, until our data carries the acknowledgements.
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    lab.send(&sock, b"hello");
    lab.expect(PSH_ACK);
    peer.seq += 1;
    peer.ack += 5;
    peer.data(&mut lab, b"answer");
    lab.expect_nothing();
    lab.wait(100);
    lab.expect(ACK);
}

#[test]
fn a_crossed_open_that_was_opened_by_an_ack_of_nothing_sends_its_syn_ack_again() {
    let mut lab = Lab::new();
    let (sock, mut peer) = opening(&mut lab);
    lab.segment(peer.repr(SYN), &[]);
    lab.expect(SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, peer.ack - 1);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.state(&sock), State::Established);
    lab.wait(1_100);
    assert_eq!(lab.expect(SYN_ACK).ack, peer.seq);
    assert_eq!(lab.count(Counter::TcpExtTCPSynRetrans), 1);
    peer.ack += 1;
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(5_000);
    lab.expect_nothing();
}

#[test]
fn segments_are_at_most_half_a_small_window() {
    // Measured on Linux 6.18: the whole of a window of up to 536 bytes, and never less than 68 bytes with the headers.
    for (window, first) in [(1_000, 500), (537, 268), (536, 536), (100, 100), (10, 48)] {
        let mut lab = Lab::new();
        let (sock, mut peer) = opening(&mut lab);
        peer.window = window;
        let mut answer = peer.repr(SYN_ACK);
        answer.options.mss = Some(1_460);
        lab.segment(answer, &[]);
        lab.expect(ACK);
        assert_eq!(sock.lock.user().tx.mss, first, "a window of {window} bytes");
        peer.window = 5_000;
        peer.seq += 1;
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!(sock.lock.user().tx.mss, 1_460, "longer ones go once there is room");
    }
}

#[test]
fn a_fin_that_joins_another_out_of_order_leaves_nothing_unread() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer { sack: true, ..Peer::new(40_000, 80) };
    let sock = peer.connect(&mut lab, &listener);
    // Data, a FIN, and data with a FIN behind it, before what comes first.
    peer.data_at(&mut lab, 10, &[2; 10]);
    for (offset, len) in [(20, 0), (21, 5)] {
        let mut fin = peer.repr(FIN_ACK);
        fin.seq += offset;
        lab.segment(fin, &[3; 5][..len]);
    }
    while lab.sent().is_some() {}
    peer.data(&mut lab, &[1; 10]);
    assert_eq!(lab.expect(ACK).ack - peer.seq, 17);
    assert_eq!(lab.recv(&sock, 100).unwrap().len(), 25);
    lab.close(&sock);
    lab.expect(FIN_ACK);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnClose), 0);
}
