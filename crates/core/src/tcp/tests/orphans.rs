//! For how long a peer that is silent is put up with, and connections without an application when there are too many.

use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::TcpFlags;

use super::icmp;
use super::lab::{ACK, FIN_ACK, Lab, PSH_ACK, Peer};
use crate::netns::NetConfig;
use crate::socket::Sock;
use crate::tcp::State;

fn connection(lab: &mut Lab, rtt_ms: u64) -> (Peer, Arc<Sock>) {
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect_from_afar(lab, &listener, rtt_ms);
    (peer, sock)
}

/// Timeouts, and retransmissions, until the connection has been given up.
fn until_given_up(lab: &mut Lab, sock: &Sock) -> (u64, u64) {
    let end = lab.now + 1_000_000 * 1_000_000;
    while lab.state(sock) != State::Close && lab.now < end {
        lab.wait(50);
        while lab.sent().is_some() {}
    }
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1);
    (lab.count(Counter::TcpExtTCPTimeouts), lab.count(Counter::TcpRetransSegs))
}

#[test]
fn silence_is_put_up_with_for_the_time_that_retries_stand_for() {
    // As Linux 6.18 counted them for a peer that was gone.
    for (retries2, timeouts) in [(0, 2), (1, 3), (3, 5), (5, 6)] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_retries2 = retries2);
        let (_, sock) = connection(&mut lab, 0);
        lab.send(&sock, b"anybody?");
        lab.expect(PSH_ACK);
        assert_eq!(until_given_up(&mut lab, &sock), (timeouts, timeouts - 1), "tcp_retries2 {retries2}");
        assert_eq!(lab.count(Counter::TcpExtTcpTimeoutRehash), timeouts - 1);
    }
}

#[test]
fn the_users_patience_stands_in_the_place_of_retries() {
    for (retries2, patience_ms, timeouts) in [(1, 5_000, 5), (8, 1_000, 3), (8, 100, 2)] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_retries2 = retries2);
        let (_, sock) = connection(&mut lab, 0);
        sock.lock.user().live.user_timeout_ms = patience_ms;
        lab.send(&sock, b"anybody?");
        assert_eq!(until_given_up(&mut lab, &sock).0, timeouts, "{patience_ms} ms");
    }
}

#[test]
fn orphans_have_retries_of_their_own() {
    for (retries, timeouts) in [(0, 9), (1, 3), (3, 5)] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_orphan_retries = retries);
        let (_, sock) = connection(&mut lab, 0);
        lab.close(&sock);
        lab.expect(FIN_ACK);
        assert_eq!(until_given_up(&mut lab, &sock).0, timeouts, "tcp_orphan_retries {retries}");
    }
}

#[test]
fn an_orphan_behind_a_closed_window_is_probed_as_often() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_orphan_retries = 3);
    let (mut peer, sock) = connection(&mut lab, 0);
    peer.window = 0;
    lab.segment(peer.repr(ACK), &[]);
    lab.send(&sock, b"no room");
    lab.close(&sock);
    let mut probes = 0;
    while lab.state(&sock) != State::Close && probes < 20 {
        lab.wait(100);
        probes += u32::from(std::iter::from_fn(|| lab.sent()).count() > 0);
    }
    assert_eq!((probes, lab.count(Counter::TcpExtTCPAbortOnTimeout)), (3, 1));
}

fn allow_orphans(lab: &Lab, most: u32) {
    lab.stack.reconfigure(|net| {
        let mut changed = NetConfig::clone(net);
        changed.sysctl.tcp_max_orphans = most;
        changed
    });
}

/// The next frames of the stack within a while, as flags.
fn told(lab: &mut Lab, ms: u64) -> Vec<TcpFlags> {
    lab.wait(ms);
    std::iter::from_fn(|| lab.sent()).map(|sent| sent.flags).collect()
}

#[test]
fn an_orphan_counts_twice_once_its_peer_was_said_to_be_unreachable() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_max_orphans = 1);
    let (_, sock) = connection(&mut lab, 0);
    lab.close(&sock);
    let fin = lab.expect(FIN_ACK);
    assert_eq!(told(&mut lab, 1_000), [FIN_ACK; 2], "one is not too many");
    icmp::told(&mut lab, (3, 1, 0), (80, 40_000), fin.seq);
    assert!(sock.lock.user().user.error_soft.is_some());
    let flags = told(&mut lab, 2_000);
    assert!(flags.last().is_some_and(|flags| flags.rst()), "{flags:?}");
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpExtTCPAbortOnMemory)), (State::Close, 1));
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 0);
}

#[test]
fn too_many_orphans_end_at_their_next_timeout_and_silent_ones_silently() {
    let mut lab = Lab::new();
    let (_, sock) = connection(&mut lab, 0);
    lab.close(&sock);
    lab.expect(FIN_ACK);
    allow_orphans(&lab, 0);
    assert_eq!(told(&mut lab, 300), [TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0)]);
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpExtTCPAbortOnMemory)), (State::Close, 1));
    // One whose timeout is the longest, and that has been tried for long enough, is past hope.
    let mut lab = Lab::new();
    let (_, sock) = connection(&mut lab, 0);
    sock.lock.user().rtt.rto = crate::tcp::RTO_MAX;
    lab.close(&sock);
    lab.expect(FIN_ACK);
    assert_eq!(told(&mut lab, 130_000), [FIN_ACK]);
    allow_orphans(&lab, 0);
    assert_eq!(told(&mut lab, 130_000), []);
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpExtTCPAbortOnMemory)), (State::Close, 1));
}
