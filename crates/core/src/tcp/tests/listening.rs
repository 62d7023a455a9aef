//! Listeners that share an address.

use std::net::SocketAddr;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::TcpFlags;

use super::lab::{ACK, Lab, Peer, SYN, SYN_ACK, US};

#[test]
fn connections_are_spread_over_listeners_that_share_an_address() {
    let mut lab = Lab::new();
    let addr = SocketAddr::from((US, 80));
    let group: Vec<_> = (0..4).map(|_| lab.stack.listen_with(addr, 200, true).expect("they share")).collect();
    assert!(lab.stack.listen(addr, 8).is_err(), "but with no other");
    for port in 0..200 {
        let mut peer = Peer::new(10_000 + port, 80);
        lab.segment(peer.repr(SYN), &[]);
        let answer = lab.expect(SYN_ACK);
        (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
        lab.segment(peer.repr(ACK), &[]);
    }
    let waiting: Vec<_> = group.iter().map(|listener| listener.accept_queue_len()).collect();
    assert_eq!(waiting.iter().sum::<usize>(), 200);
    assert!(waiting.iter().all(|count| (25..=75).contains(count)), "{waiting:?}");
    for listener in &group {
        lab.stack.close_listener(listener, lab.now);
    }
    lab.run();
    let resets = std::iter::from_fn(|| lab.sent()).filter(|sent| sent.flags.rst()).count();
    assert_eq!(resets, 200, "what nobody accepted is reset");
}

#[test]
fn requests_of_a_listener_that_closes_are_reset_although_another_shares_its_address() {
    let mut lab = Lab::new();
    let addr = SocketAddr::from((US, 80));
    let group: Vec<_> = (0..2).map(|_| lab.stack.listen_with(addr, 8, true).expect("they share")).collect();
    let mut peer = Peer::new(40_000, 80);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    let chosen = group.iter().find(|listener| listener.requests() == 1).expect("one of them has the request");
    lab.stack.close_listener(chosen, lab.now);
    lab.segment(peer.repr(ACK), &[]);
    lab.expect(TcpFlags::RST);
    assert_eq!(lab.dropped(DropReason::TcpFlags), 1, "the other one takes it for a stray acknowledgement");
    assert_eq!((chosen.requests(), lab.count(Counter::TcpPassiveOpens)), (0, 0));
    // A new attempt comes to the one that is left.
    let mut peer = Peer::new(40_000, 80);
    let left = group.iter().find(|listener| !listener.is_closed()).expect("one is open");
    peer.connect(&mut lab, left);
}

/// A listener, and a peer with timestamps whose SYN was answered: the request is there.
fn requested(lab: &mut Lab) -> (std::sync::Arc<crate::socket::Listener>, Peer) {
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
fn a_third_segment_need_not_echo_a_timestamp_but_may_not_echo_a_wrong_one() {
    for (wrong, accepted) in [(None, true), (Some(100_000), false)] {
        let mut lab = Lab::new();
        let (listener, mut peer) = requested(&mut lab);
        peer.stamps = peer.stamps.map(|(value, echo)| (value, wrong.map_or(0, |by: u32| echo.wrapping_add(by))));
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!(lab.stack.accept(&listener).is_some(), accepted);
        assert_eq!(lab.count(Counter::TcpExtTSEcrRejected), u64::from(!accepted));
    }
    // Whatever the segment is.
    let mut lab = Lab::new();
    let (_listener, mut peer) = requested(&mut lab);
    peer.stamps = peer.stamps.map(|(value, echo)| (value, echo.wrapping_add(100_000)));
    lab.segment(peer.repr(TcpFlags::RST), &[]);
    assert_eq!((lab.count(Counter::TcpExtTSEcrRejected), lab.count(Counter::TcpExtEmbryonicRsts)), (1, 0));
}

#[test]
fn only_what_completes_the_handshake_moves_the_peers_clock() {
    let mut lab = Lab::new();
    let (listener, mut peer) = requested(&mut lab);
    let echo = peer.stamps.map_or(0, |(_, echo)| echo);
    // Neither acknowledges nor resets: from the future.
    peer.stamps = Some((9_000, echo));
    lab.segment(peer.repr(TcpFlags(0)), &[]);
    peer.stamps = Some((5_001, echo));
    lab.segment(peer.repr(ACK), &[]);
    assert!(lab.stack.accept(&listener).is_some(), "what it said is no reason to refuse this one");
    assert_eq!(lab.count(Counter::TcpExtPAWSEstab), 0);
}
