//! Losses where a tunable says how they are found, and what is done about them.

use rxpath_trace::Counter;

use super::super::lab::Lab;
use super::{CWND, MSS, NOTHING, Path, RTT};
use crate::tcp::{CaState, XmitTimer};

/// As [`Path::new`], on a host with this tunable.
fn tuned(name: &str, value: &str) -> Path {
    let lab = Lab::with(|config| config.sysctl.set(name, value).expect("there is such a tunable"));
    Path::over(lab, false, true)
}

#[test]
fn without_frto_no_new_data_is_asked_and_no_timeout_was_a_mistake() {
    let mut path = tuned("net.ipv4.tcp_frto", "0");
    path.send(4);
    path.lab.wait(2 * RTT + 12 + 400);
    path.sent();
    assert_eq!(path.state().0, CaState::Loss);
    path.ack(3, &[]);
    assert_eq!((path.count(Counter::TcpExtTCPSpuriousRTOs), path.count(Counter::TcpExtTCPLossUndo)), (0, 0));
    path.ack(1, &[]);
    let (state, cwnd, ssthresh) = path.state();
    assert_eq!((state, ssthresh), (CaState::Open, CWND * 717 / 1_024));
    assert!(cwnd < CWND, "the window stays cut: {cwnd}");
}

#[test]
fn more_segments_have_to_overtake_another_where_more_reordering_is_expected() {
    let mut path = tuned("net.ipv4.tcp_reordering", "5");
    path.send(10);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(1, 5)]), NOTHING, "four");
    assert_eq!(path.ack(0, &[(1, 6)]), [0], "five");
    let mut path = tuned("net.ipv4.tcp_max_reordering", "4");
    path.send(10);
    path.lab.wait(RTT);
    path.ack(0, &[(8, 9)]);
    path.ack(9, &[]);
    assert_eq!((path.count(Counter::TcpExtTCPSACKReorder), path.with(|sk| sk.loss.reordering)), (1, 4), "not eight");
}

#[test]
fn duplicate_acks_do_not_count_where_only_time_is_to() {
    let mut path = tuned("net.ipv4.tcp_recovery", "5");
    path.send(10);
    path.lab.wait(RTT);
    assert_eq!(path.ack(0, &[(1, 5)]), NOTHING);
    assert_eq!(path.with(|sk| sk.timers.pending), XmitTimer::Reorder);
    path.lab.wait(RTT / 4 + 12);
    let again = path.sent();
    assert_eq!(path.numbers(&again), [0], "a quarter of the round trip later");
}

#[test]
fn the_window_of_reordering_grows_with_dsacks_unless_it_must_not() {
    for (recovery, steps) in [("1", 2), ("3", 1)] {
        let mut path = tuned("net.ipv4.tcp_recovery", recovery);
        path.send(10);
        path.lab.wait(RTT);
        assert_eq!(path.ack(0, &[(1, 4)]), [0]);
        path.lab.wait(RTT);
        // It had not been lost: it came twice, on a path that is known to turn segments about.
        path.sock.lock.user().loss.reord_seen = 1;
        path.ack(4, &[(0, 1)]);
        path.ack(6, &[]);
        path.send(1);
        path.lab.wait(RTT);
        path.ack(1, &[]);
        assert_eq!(path.with(|sk| sk.loss.rack.steps), steps, "tcp_recovery {recovery}");
    }
}

#[test]
fn small_segments_are_joined_when_they_go_again_unless_they_must_not_be() {
    for (collapse, len) in [("1", 30), ("0", 10)] {
        let mut path = tuned("net.ipv4.tcp_retrans_collapse", collapse);
        path.sock.lock.user().set_nodelay(true);
        for _ in 0..3 {
            path.lab.send(&path.sock, &[1; 10]);
        }
        path.sent();
        path.lab.wait(2 * RTT + 12);
        path.sent();
        path.lab.wait(400);
        assert_eq!(path.sent()[0].payload.len(), len, "tcp_retrans_collapse {collapse}");
    }
}

#[test]
fn a_super_frame_waits_for_the_ack_that_is_about_to_come_unless_enough_of_the_window_is_free() {
    // Six segments are free of twenty: less than a third, more than a fourth, and more than three.
    for (divisor, goes) in [("3", false), ("4", true), ("0", true)] {
        let lab = Lab::with(|config| {
            config.sysctl.set("net.ipv4.tcp_tso_win_divisor", divisor).expect("there is such a tunable");
            // However far the peer, super-frames are long.
            config.sysctl.tcp_min_tso_segs = 20;
        });
        let mut path = Path::over(lab, false, true);
        path.sock.lock.user().route.features.tso = true;
        path.lab.send(&path.sock, &vec![5; (14 * MSS) as usize]);
        path.lab.wait(RTT - 1);
        // An acknowledgement of ours, so that the connection is busy.
        path.peer.data(&mut path.lab, b"data");
        while path.lab.raw().is_some() {}
        path.lab.send(&path.sock, &vec![5; (10 * MSS) as usize]);
        assert_eq!(path.lab.raw().is_some(), goes, "tcp_tso_win_divisor {divisor}");
        path.sock.lock.user().route.features.tso = false;
        while path.lab.raw().is_some() {}
    }
}

#[test]
fn timeouts_of_a_thin_stream_are_as_long_as_the_first_for_a_while() {
    for (thin, waits) in [("0", vec![2, 4, 8, 16]), ("1", vec![1, 1, 1, 1, 1, 1, 2])] {
        let mut path = tuned("net.ipv4.tcp_thin_linear_timeouts", thin);
        path.send(1);
        let mut timeouts = Vec::new();
        for _ in 0..20_000 {
            path.lab.wait(1);
            if timeouts.len() <= waits.len() && path.sent().len() == 1 && path.with(|sk| sk.rtt.retransmits) > 0 {
                timeouts.push(path.lab.now);
            }
        }
        let first = path.with(|sk| sk.rtt.rto);
        // The timer fires on whole ticks.
        let between = timeouts.windows(2).map(|pair| ((pair[1] - pair[0]) + first / 4) / first);
        assert_eq!(between.collect::<Vec<_>>(), waits, "tcp_thin_linear_timeouts {thin}");
    }
}
