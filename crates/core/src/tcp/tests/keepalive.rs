//! Peers that fall silent.

use rxpath_trace::{Counter, Time};
use rxpath_wire::{Addr, TcpFlags};

use super::lab::{ACK, Lab, MS, PEER, PEER_MAC, PSH_ACK, Peer, SYN, SYN_ACK};
use crate::stack::RecvError;
use crate::sysctl::Sysctls;
use crate::tcp::{Keepalive, SockError, SockOptions, State};

const RST_ACK: TcpFlags = TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0);

fn connection() -> (Lab, std::sync::Arc<crate::socket::Sock>, Peer) {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    (lab, sock, peer)
}

fn set(lab: &mut Lab, sock: &std::sync::Arc<crate::socket::Sock>, on: Option<Keepalive>) {
    let now = lab.now;
    lab.stack
        .with(sock, crate::socket::post::BACKLOG, now, |sk| sk.set_keepalive(on, &Sysctls::default(), now))
        .expect("within the ranges");
    lab.run();
}

#[test]
fn a_silent_peer_is_probed_and_given_up() {
    let (mut lab, sock, peer) = connection();
    set(&mut lab, &sock, Some(Keepalive { idle_s: Some(10), interval_s: Some(2), probes: Some(3) }));
    lab.wait(9_900);
    lab.expect_nothing();
    lab.wait(200);
    let probe = lab.expect(ACK);
    assert_eq!((probe.seq, probe.payload.len()), (peer.ack - 1, 0), "one byte before what the peer expects");
    // It answers: the count begins anew.
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(9_900);
    lab.expect_nothing();
    lab.wait(200);
    lab.expect(ACK);
    for _ in 0..2 {
        lab.wait(2_000);
        lab.expect(ACK);
        lab.expect_nothing();
    }
    lab.wait(2_000);
    lab.expect(RST_ACK);
    assert_eq!(lab.count(Counter::TcpExtTCPKeepAlive), 4);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1);
    assert!(matches!(lab.recv(&sock, 1), Err(RecvError::Failed(SockError::TimedOut))));
}

/// Linux 6.18: a peer whose ARP request made the entry, which completes a handshake and says nothing from then on. With the
/// first probe its entry is REACHABLE; where nothing is sent after the handshake it goes from DELAY to PROBE.
#[test]
fn the_acknowledgement_of_a_syn_ack_proves_the_next_hop() {
    let (mut lab, sock, _) = connection();
    let proof = |sock: &crate::socket::Sock| sock.lock.user().route.confirm;
    assert!(proof(&sock), "for the next packet");
    set(&mut lab, &sock, Some(Keepalive { idle_s: Some(1), interval_s: Some(2), probes: Some(3) }));
    lab.wait(1_100);
    lab.expect(ACK);
    assert!(!proof(&sock), "it has had its effect");
}

#[test]
fn silence_counts_from_when_keepalive_is_switched_on() {
    // Measured on Linux 6.18: what is asked for, after how many milliseconds, and when the probe goes from then on.
    let idle = |seconds| Some(Keepalive { idle_s: Some(seconds), interval_s: Some(5), probes: Some(3) });
    for (before, wanted, left) in [(None, 1, 1_000), (idle(1), 1, 300), (idle(1), 2, 1_300), (idle(2), 1, 300)] {
        let (mut lab, sock, _peer) = connection();
        set(&mut lab, &sock, before);
        lab.wait(700);
        set(&mut lab, &sock, idle(wanted));
        lab.wait(left - 10);
        assert_eq!(lab.count(Counter::TcpExtTCPKeepAlive), 0, "{before:?}, then {wanted} s");
        lab.wait(20);
        assert_eq!(lab.count(Counter::TcpExtTCPKeepAlive), 1, "{before:?}, then {wanted} s");
        while lab.sent().is_some() {}
    }
}

#[test]
fn keepalive_can_be_switched_off_and_leaves_no_timer() {
    let (mut lab, sock, _peer) = connection();
    set(&mut lab, &sock, Some(Keepalive::default()));
    assert_eq!(sock.lock.user().timers.keepalive, lab.now + 7_200_000_000_000);
    set(&mut lab, &sock, None);
    assert_eq!(sock.lock.user().timers.next(), Time::MAX);
}

#[test]
fn data_that_nobody_acknowledges_is_put_up_with_for_the_users_timeout() {
    let (mut lab, sock, _peer) = connection();
    sock.lock.user().live.user_timeout_ms = 1_000;
    lab.send(&sock, b"anybody?");
    lab.wait(1_150);
    assert!(lab.count(Counter::TcpRetransSegs) >= 2);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 0);
    lab.wait(200);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1, "a second after the first retransmission");
    assert!(matches!(lab.recv(&sock, 1), Err(RecvError::Failed(SockError::TimedOut))));
    while lab.sent().is_some() {}
}

#[test]
fn so_is_a_closed_window() {
    let (mut lab, sock, mut peer) = connection();
    sock.lock.user().live.user_timeout_ms = 3_000;
    lab.send(&sock, b"first");
    lab.expect(PSH_ACK);
    (peer.ack, peer.window) = (peer.ack + 5, 0);
    lab.segment(peer.repr(ACK), &[]);
    lab.send(&sock, b"second");
    for _ in 0..29 {
        lab.wait(100);
        if lab.sent().is_some() {
            lab.segment(peer.repr(ACK), &[]);
        }
    }
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 0);
    lab.wait(2_000);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1, "although the peer answers each probe");
    while lab.sent().is_some() {}
}

/// As measured on Linux 6.18: an impatient user is one from the peer's next answer on.
#[test]
fn patience_with_a_closed_window_may_end_later() {
    let (mut lab, sock, peer) = shut_window(15);
    lab.wait(3_500);
    while lab.sent().is_some() {}
    sock.lock.user().live.user_timeout_ms = 1_000;
    lab.wait(100);
    assert_eq!((lab.count(Counter::TcpExtTCPAbortOnTimeout), lab.state(&sock)), (0, State::Established));
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(20);
    assert_eq!((lab.count(Counter::TcpExtTCPAbortOnTimeout), lab.state(&sock)), (1, State::Close));
}

/// Linux 6.18: what is sent again into a window that was shrunk under it counts as no retransmission of the timer's, though the
/// time doubles, and the user's patience begins with the first one; that the peer answers does not prolong it.
#[test]
fn so_is_a_window_that_was_shrunk_under_what_is_in_flight() {
    let (mut lab, sock, mut peer) = connection();
    sock.lock.user().live.user_timeout_ms = 1_600;
    lab.send(&sock, &[0; 1_960]);
    let first = lab.expect(ACK);
    lab.expect(PSH_ACK);
    (peer.ack, peer.window) = (peer.ack + first.payload.len() as u32, 0);
    lab.segment(peer.repr(ACK), &[]);
    let mut retransmissions = Vec::new();
    for waited in 0..1_790_u64 {
        lab.wait(1);
        if lab.sent().is_some() {
            let info = sock.lock.user().info(lab.now);
            retransmissions.push((waited + 1, info.retransmits, info.backoff));
            lab.segment(peer.repr(ACK), &[]);
        }
    }
    let [(once, 0, 1), (twice, 0, 2), (thrice, 0, 3)] = retransmissions[..] else { panic!("{retransmissions:?}") };
    assert!((thrice - twice).abs_diff(2 * (twice - once)) <= 4, "doubled, but for a tick: {retransmissions:?}");
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 0);
    lab.wait(once + 1_600 + 4 - 1_790);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1);
    assert!(matches!(lab.recv(&sock, 1), Err(RecvError::Failed(SockError::TimedOut))));
    while lab.sent().is_some() {}
}

/// Linux 6.18 gave up after 334.6, 334.6 and 455.5 s, where peers answered for so long: the timeout that comes when the silence has
/// lasted for 240 s is the last.
#[test]
fn a_window_that_was_shrunk_is_put_up_with_until_the_peer_has_been_silent_for_long() {
    for (answers_s, ends_s) in [(0, 325), (30, 325), (200, 445)] {
        let (mut lab, sock, mut peer) = connection();
        assert!(lab.stack.set_neighbour(1, Addr::from(PEER), Some(PEER_MAC), lab.now));
        lab.send(&sock, &[0; 1_960]);
        let first = lab.expect(ACK);
        lab.expect(PSH_ACK);
        (peer.ack, peer.window) = (peer.ack + first.payload.len() as u32, 0);
        lab.segment(peer.repr(ACK), &[]);
        let mut waited = 0;
        while lab.state(&sock) == State::Established && waited < 600_000 {
            lab.wait(100);
            waited += 100;
            if lab.sent().is_some() && waited < answers_s * 1_000 {
                lab.segment(peer.repr(ACK), &[]);
            }
        }
        assert_eq!(waited / 10_000, ends_s / 10, "{answers_s} s: {waited} ms");
        assert!(matches!(lab.recv(&sock, 1), Err(RecvError::Failed(SockError::TimedOut))));
    }
}

#[test]
fn a_connection_tells_of_itself() {
    let (mut lab, sock, mut peer) = connection();
    lab.send(&sock, b"data");
    lab.expect(PSH_ACK);
    lab.wait(40);
    let info = sock.lock.user().info(lab.now);
    assert_eq!((info.unacked, info.snd_cwnd, info.snd_mss, info.pmtu), (1, 10, 1_460, 1_500));
    assert_eq!((info.last_data_sent, info.sack, info.wscale), (40, false, Some((7, 10))));
    peer.ack += 4;
    lab.segment(peer.repr(ACK), &[]);
    let info = sock.lock.user().info(lab.now);
    assert_eq!((info.unacked, info.delivered, info.last_ack_recv), (0, 1, 0));
    assert!(info.rtt > 0 && info.rto >= 200_000);
}

/// A connection whose peer has closed its window over bytes that wait.
fn shut_window(retries2: u8) -> (Lab, std::sync::Arc<crate::socket::Sock>, Peer) {
    let mut lab = Lab::with(|config| config.sysctl.tcp_retries2 = retries2);
    // Minutes will pass, and the peer answers no ARP request.
    assert!(lab.stack.set_neighbour(1, Addr::from(PEER), Some(PEER_MAC), lab.now));
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.window = 0;
    lab.segment(peer.repr(ACK), &[]);
    lab.send(&sock, &[7; 100]);
    lab.expect_nothing();
    (lab, sock, peer)
}

#[test]
fn a_closed_window_is_put_up_with_for_as_long_as_the_peer_answers() {
    let (mut lab, sock, peer) = shut_window(3);
    for _ in 0..1_000 {
        lab.wait(100);
        if lab.sent().is_some() {
            lab.segment(peer.repr(ACK), &[]);
        }
    }
    assert_eq!(lab.state(&sock), State::Established);
    let before = lab.count(Counter::TcpExtTCPWinProbe);
    assert!(before > 12, "probes go on: {before}");
    lab.wait(60_000);
    assert_eq!(sock.lock.user().user.error, Some(SockError::TimedOut), "three probes without an answer");
    assert_eq!(lab.count(Counter::TcpExtTCPWinProbe) - before, 3);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1);
    while lab.sent().is_some() {}
}

#[test]
fn an_orphan_before_a_closed_window_lasts_until_the_timeout_is_the_longest() {
    let (mut lab, sock, peer) = shut_window(15);
    lab.close(&sock);
    let begun = lab.now;
    let mut probes = 0;
    while lab.state(&sock) != State::Close {
        lab.wait(100);
        if lab.sent().is_some() {
            probes += 1;
            lab.segment(peer.repr(ACK), &[]);
        }
        assert!(lab.now - begun < 400_000 * MS, "it ends");
    }
    // The timeout doubles from 200 ms, and the first that would be more than two minutes is the last.
    assert_eq!(probes, 10);
    assert!((300_000 * MS..330_000 * MS).contains(&(lab.now - begun)), "{}", (lab.now - begun) / MS);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1);
}

#[test]
fn what_was_wanted_before_holds_for_who_is_answered_and_not_for_who_crosses() {
    // Measured on Linux 6.18.
    for (crossed, probes) in [(false, 1), (true, 0)] {
        let mut lab = Lab::new();
        let keepalive = Some(Keepalive { idle_s: Some(1), interval_s: Some(5), probes: Some(3) });
        let options = SockOptions { keepalive, ..SockOptions::default() };
        let remote = std::net::SocketAddr::from((PEER, 81));
        let sock = lab.stack.connect_with(Some(2_000), remote, &options, lab.now).expect("a way");
        lab.run();
        let mut peer = Peer::new(81, 2_000);
        peer.ack = lab.expect(SYN).seq + 1;
        lab.segment(peer.repr(if crossed { SYN } else { SYN_ACK }), &[]);
        peer.seq += 1;
        lab.segment(peer.repr(ACK), &[]);
        while lab.sent().is_some() {}
        assert_eq!(lab.state(&sock), State::Established);
        lab.wait(1_500);
        assert_eq!(lab.count(Counter::TcpExtTCPKeepAlive), probes);
        while lab.sent().is_some() {}
    }
}
