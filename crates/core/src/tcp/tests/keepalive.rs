//! Peers that fall silent.

use rxpath_trace::{Counter, Time};
use rxpath_wire::TcpFlags;

use super::lab::{ACK, Lab, PSH_ACK, Peer};
use crate::stack::RecvError;
use crate::sysctl::Sysctls;
use crate::tcp::{Keepalive, SockError};

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
    lab.stack.with(sock, crate::socket::post::PUSH, now, |sk| sk.set_keepalive(on, &Sysctls::default(), now));
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
