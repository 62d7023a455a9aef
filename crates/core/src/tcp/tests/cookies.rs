//! Handshakes of which nothing is remembered, and those that are not accepted at once.

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions, TcpRepr};

use super::lab::{ACK, Lab, PSH_ACK, Peer, SYN, SYN_ACK, Sent};
use crate::stack::StackConfig;

/// A listener whose queue of requests is full.
fn flooded(change: impl FnOnce(&mut StackConfig)) -> (Lab, std::sync::Arc<crate::socket::Listener>) {
    let mut lab = Lab::with(change);
    let listener = lab.listen(80, 1);
    for port in 1..=2 {
        let peer = Peer::new(50_000 + port, 80);
        lab.segment(peer.repr(SYN), &[]);
        lab.expect(SYN_ACK);
    }
    (lab, listener)
}

fn syn(peer: &Peer) -> TcpRepr {
    let mut syn = peer.repr(SYN);
    syn.options = TcpOptions {
        mss: Some(1_400),
        wscale: Some(7),
        timestamps: peer.stamps,
        sack_permitted: true,
        ..TcpOptions::default()
    };
    syn
}

fn answer(lab: &mut Lab, peer: &mut Peer) -> Sent {
    lab.segment(syn(peer), &[]);
    let answer = lab.expect(SYN_ACK);
    peer.seq += 1;
    peer.ack = answer.seq + 1;
    peer.note(&answer);
    answer
}

#[test]
fn a_cookie_that_comes_back_makes_a_connection_with_the_options_of_its_timestamp() {
    for stamps in [Some((77, 0)), None] {
        let (mut lab, listener) = flooded(|_| {});
        let mut peer = Peer::new(40_000, 80);
        peer.stamps = stamps;
        let answer = answer(&mut lab, &mut peer);
        assert_eq!(answer.options.sack_permitted, stamps.is_some());
        assert_eq!(answer.options.wscale.is_some(), stamps.is_some());
        assert_eq!(listener.requests(), 2, "nothing is remembered of it");
        assert_eq!(lab.count(Counter::TcpExtSyncookiesSent), 1);
        assert_eq!(lab.count(Counter::TcpExtTCPReqQFullDoCookies), 1);
        lab.wait(900);
        while lab.sent().is_some() {}
        peer.data(&mut lab, b"request");
        assert_eq!(lab.count(Counter::TcpExtSyncookiesRecv), 1);
        let sock = lab.stack.accept(&listener).expect("the handshake is complete");
        assert_eq!(lab.recv(&sock, 100).expect("data"), b"request");
        let sk = sock.lock.user();
        assert_eq!(
            (sk.opts.sack, sk.opts.wscale, sk.opts.timestamps),
            (stamps.is_some(), stamps.is_some(), stamps.is_some())
        );
        assert_eq!(sk.opts.snd_wscale, if stamps.is_some() { 7 } else { 0 });
        let options = if stamps.is_some() { 12 } else { 0 };
        assert_eq!(sk.tx.mss, 1_300 - options, "the largest of the table that the peer takes");
        drop(sk);
        while lab.sent().is_some() {}
    }
}

#[test]
fn what_is_no_cookie_is_reset() {
    let (mut lab, _listener) = flooded(|_| {});
    let mut peer = Peer::new(40_000, 80);
    answer(&mut lab, &mut peer);
    peer.ack += 100;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.expect(TcpFlags::RST).seq, peer.ack);
    assert_eq!(lab.count(Counter::TcpExtSyncookiesFailed), 1);
    assert_eq!(lab.dropped(DropReason::TcpFlags), 1);
    // Too late: for two minutes the queue has not been full.
    peer.ack -= 100;
    lab.wait(121_000);
    while lab.sent().is_some() {}
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.count(Counter::TcpOutRsts), 2, "it waits for the peer's hardware address");
    assert_eq!(lab.count(Counter::TcpExtSyncookiesFailed), 1, "not even looked at");
    assert_eq!(lab.count(Counter::TcpExtSyncookiesRecv), 0);
}

#[test]
fn cookies_may_be_off_or_always() {
    let (mut lab, _listener) = flooded(|config| config.sysctl.tcp_syncookies = 0);
    lab.segment(syn(&Peer::new(40_000, 80)), &[]);
    lab.expect_nothing();
    assert_eq!((lab.count(Counter::TcpExtTCPReqQFullDrop), lab.count(Counter::TcpExtListenDrops)), (1, 1));
    let mut lab = Lab::with(|config| config.sysctl.tcp_syncookies = 2);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    answer(&mut lab, &mut peer);
    assert_eq!(listener.requests(), 0);
    lab.segment(peer.repr(ACK), &[]);
    assert!(lab.stack.accept(&listener).is_some());
}

#[test]
fn a_good_cookie_for_a_full_accept_queue_is_dropped_in_silence() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_syncookies = 2);
    let _listener = lab.listen(80, 0);
    let mut peers = [Peer::new(40_000, 80), Peer::new(40_001, 80)];
    for peer in &mut peers {
        answer(&mut lab, peer);
    }
    for peer in &peers {
        lab.segment(peer.repr(ACK), &[]);
    }
    lab.expect_nothing();
    assert_eq!(lab.count(Counter::TcpExtSyncookiesRecv), 2);
    assert_eq!((lab.count(Counter::TcpExtListenOverflows), lab.count(Counter::TcpExtListenDrops)), (1, 1));
    assert_eq!(lab.dropped(DropReason::TcpListenOverflow), 1);
}

#[test]
fn a_deferring_listener_accepts_with_data_or_when_its_time_is_over() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    assert_eq!(listener.set_defer_accept(2), 3, "one second and two");
    let mut peers = [Peer::new(40_000, 80), Peer::new(40_001, 80)];
    for peer in &mut peers {
        answer(&mut lab, peer);
        lab.segment(peer.repr(ACK), &[]);
    }
    assert_eq!(lab.count(Counter::TcpExtTCPDeferAcceptDrop), 2);
    assert!(lab.stack.accept(&listener).is_none());
    let [first, second] = &mut peers;
    lab.segment(first.repr(PSH_ACK), b"data");
    let sock = lab.stack.accept(&listener).expect("with data");
    lab.recv(&sock, 10).expect("data");
    while lab.sent().is_some() {}
    lab.wait(1_500);
    lab.expect_nothing();
    lab.wait(2_000);
    lab.expect(SYN_ACK);
    lab.segment(second.repr(ACK), &[]);
    assert!(lab.stack.accept(&listener).is_some(), "the last chance");
}

#[test]
fn the_window_of_a_cookie_is_whole_segments_of_the_peers() {
    let (mut lab, listener) = flooded(|_| {});
    let mut peer = Peer::new(40_000, 80);
    answer(&mut lab, &mut peer);
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("the handshake is complete");
    assert_eq!(sock.lock.user().rx.rcv_wnd, 65_000, "fifty of 1,300 bytes");
}

#[test]
fn an_acknowledgement_that_is_not_the_requests_may_be_a_cookie() {
    let (mut lab, _listener) = flooded(|_| {});
    let mut flooding = Peer::new(40_000, 80);
    answer(&mut lab, &mut flooding);
    // One of those whose requests are remembered.
    let mut peer = Peer::new(50_001, 80);
    (peer.seq, peer.ack) = (peer.seq + 1, SeqNum(77));
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.expect(TcpFlags::RST).seq, peer.ack);
    assert_eq!(lab.count(Counter::TcpExtSyncookiesFailed), 1);
}

#[test]
fn timestamps_that_nobody_wants_do_not_spoil_a_cookie() {
    let (mut lab, listener) = flooded(|config| config.sysctl.tcp_timestamps = 0);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((77, 0));
    answer(&mut lab, &mut peer);
    peer.stamps = Some((78, 0xdead_beef));
    lab.segment(peer.repr(ACK), &[]);
    assert!(lab.stack.accept(&listener).is_some());
}

#[test]
fn a_cookie_that_echoes_no_timestamp_loses_the_offset_of_its_clock() {
    let clock = |lab: &Lab| (lab.now.0 / super::lab::MS) as u32;
    for echoes in [true, false] {
        let (mut lab, listener) = flooded(|_| {});
        let mut peer = Peer::new(40_000, 80);
        peer.stamps = Some((77, 0));
        let first = answer(&mut lab, &mut peer).options.timestamps.expect("as asked for").0;
        let offset = first.wrapping_sub(clock(&lab));
        if !echoes {
            peer.stamps = Some((78, 0));
        }
        peer.data(&mut lab, b"request");
        let sock = lab.stack.accept(&listener).expect("the handshake is complete");
        lab.recv(&sock, 100).expect("data");
        let told = lab.expect(ACK).options.timestamps.expect("agreed").0;
        // The lowest six bits of the first said something else.
        let jump = told.wrapping_sub(clock(&lab));
        assert_eq!((jump == 0, offset.wrapping_sub(jump).wrapping_add(64) <= 128), (!echoes, echoes));
        // What the cookie's timestamp would have told is not known.
        assert_eq!(sock.lock.user().opts.sack, echoes);
    }
    // A handshake that ends without timestamps has none.
    let (mut lab, listener) = flooded(|_| {});
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((77, 0));
    answer(&mut lab, &mut peer);
    peer.stamps = None;
    peer.data(&mut lab, b"request");
    assert_eq!(lab.expect(ACK).options, TcpOptions::default());
    assert!(!lab.stack.accept(&listener).expect("the handshake is complete").lock.user().opts.timestamps);
}
