//! What holds a small segment back and what lets it go: corks, `MSG_MORE`, ends of records, Nagle's algorithm between them.

use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, Peer};
use crate::socket::{Part, Sock, WriteStep, post};
use crate::tcp::{Ending, SockOptions, State};

const FIN_PSH_ACK: TcpFlags = TcpFlags(FIN_ACK.0 | TcpFlags::PSH.0);
const MSS: usize = 1_460;
const MORE: Ending = Ending { more: true, record: false };
const RECORD: Ending = Ending { more: false, record: true };

fn connected() -> (Lab, Arc<Sock>, Peer) {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    (lab, sock, peer)
}

fn cork(lab: &mut Lab, sock: &Arc<Sock>, on: bool) {
    let requests = if on { 0 } else { post::PUSH };
    lab.stack.with(sock, requests, lab.now, |sk| sk.set_cork(on));
    lab.run();
}

fn nodelay(lab: &mut Lab, sock: &Arc<Sock>) {
    lab.stack.with(sock, post::PUSH, lab.now, |sk| sk.set_nodelay(true));
    lab.run();
}

fn send(lab: &mut Lab, sock: &Arc<Sock>, len: usize, ending: Ending) {
    let step = lab.stack.send_with(sock, &vec![7; len], ending, false, lab.now);
    assert!(matches!(step, WriteStep::Taken(taken) if taken == len));
    lab.run();
}

/// Payload and PSH of each segment that has left.
fn left(lab: &mut Lab) -> Vec<(usize, bool)> {
    std::iter::from_fn(|| lab.sent()).map(|sent| (sent.payload.len(), sent.flags.psh())).collect()
}

/// The peer acknowledges so many bytes more.
fn ack(lab: &mut Lab, peer: &mut Peer, bytes: usize) {
    peer.ack += bytes as u32;
    lab.segment(peer.repr(ACK), &[]);
}

#[test]
fn a_cork_holds_what_does_not_fill_a_segment_until_it_is_taken_out() {
    let (mut lab, sock, mut peer) = connected();
    cork(&mut lab, &sock, true);
    send(&mut lab, &sock, 100, Ending::default());
    send(&mut lab, &sock, 2 * MSS, Ending::default());
    assert_eq!(left(&mut lab), [(MSS, false), (MSS, true)]);
    ack(&mut lab, &mut peer, 2 * MSS);
    assert_eq!(left(&mut lab), [], "it waits although nothing is in flight");
    cork(&mut lab, &sock, false);
    assert_eq!(left(&mut lab), [(100, true)]);
}

#[test]
fn what_is_held_goes_with_the_probe_timer_or_as_a_tail_loss_probe() {
    let (mut lab, sock, mut peer) = connected();
    cork(&mut lab, &sock, true);
    send(&mut lab, &sock, 100, Ending::default());
    lab.wait(195);
    assert_eq!(left(&mut lab), []);
    // Whatever comes, it waits anew.
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(195);
    assert_eq!(left(&mut lab), []);
    lab.wait(20);
    assert_eq!(left(&mut lab), [(100, true)]);
    assert_eq!(lab.count(Counter::TcpExtTCPWinProbe), 0, "no window is closed");
    ack(&mut lab, &mut peer, 100);

    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer { sack: true, ..Peer::new(40_000, 80) };
    let sock = peer.connect_from_afar(&mut lab, &listener, 20);
    cork(&mut lab, &sock, true);
    send(&mut lab, &sock, 2 * MSS + 50, Ending::default());
    assert_eq!(left(&mut lab), [(MSS, false), (MSS, true)]);
    lab.wait(60);
    assert_eq!(left(&mut lab), [(50, true)], "two round trips later");
    assert_eq!(lab.count(Counter::TcpExtTCPLossProbes), 1);
}

/// As measured on Linux 6.18: a window that the timeout was no reason to reduce is as it was before.
#[test]
fn a_cork_that_held_nothing_makes_no_window_grow() {
    for corked in [false, true] {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        let mut peer = Peer { stamps: Some((9, 0)), ..Peer::new(40_000, 80) };
        let sock = peer.connect_from_afar(&mut lab, &listener, 20);
        send(&mut lab, &sock, 3 * 1_448, Ending::default());
        let sent: Vec<_> = std::iter::from_fn(|| lab.sent()).collect();
        let stamp = sent[0].options.timestamps.expect("agreed").0;
        lab.wait(300);
        assert_eq!(left(&mut lab).len(), 1, "sent again");
        if corked {
            cork(&mut lab, &sock, true);
            cork(&mut lab, &sock, false);
        }
        // What was sent at first has come, all of it.
        peer.stamps = Some((10, stamp));
        ack(&mut lab, &mut peer, 3 * 1_448);
        assert_eq!(lab.count(Counter::TcpExtTCPLossUndo), 1);
        assert_eq!(sock.lock.user().cong.cwnd, 10, "corked: {corked}");
    }
}

#[test]
fn nodelay_sends_what_a_cork_holds_and_the_next_packet_is_held_again() {
    let (mut lab, sock, mut peer) = connected();
    cork(&mut lab, &sock, true);
    send(&mut lab, &sock, 10, Ending::default());
    nodelay(&mut lab, &sock);
    assert_eq!(left(&mut lab), [(10, true)]);
    send(&mut lab, &sock, 20, Ending::default());
    assert_eq!(left(&mut lab), []);
    ack(&mut lab, &mut peer, 10);
    assert_eq!(left(&mut lab), []);
    cork(&mut lab, &sock, false);
    assert_eq!(left(&mut lab), [(20, true)]);
    send(&mut lab, &sock, 30, Ending::default());
    assert_eq!(left(&mut lab), [(30, true)], "without a cork nothing waits");
}

#[test]
fn our_fin_takes_along_what_a_cork_holds() {
    let (mut lab, sock, mut peer) = connected();
    cork(&mut lab, &sock, true);
    send(&mut lab, &sock, 100, Ending::default());
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    assert_eq!(lab.expect(FIN_PSH_ACK).payload.len(), 100);
    ack(&mut lab, &mut peer, 101);
    assert_eq!(lab.state(&sock), State::FinWait2);
}

#[test]
fn more_is_waited_for_as_behind_a_cork_and_is_not_pushed() {
    let (mut lab, sock, mut peer) = connected();
    send(&mut lab, &sock, 100, MORE);
    send(&mut lab, &sock, MSS, MORE);
    assert_eq!(left(&mut lab), [(MSS, false)]);
    send(&mut lab, &sock, 50, Ending::default());
    assert_eq!(left(&mut lab), [(150, true)], "no small segment is in flight");
    ack(&mut lab, &mut peer, MSS + 150);
    send(&mut lab, &sock, MSS, Ending::default());
    send(&mut lab, &sock, 20, MORE);
    assert_eq!(left(&mut lab), [(MSS, true)]);
    ack(&mut lab, &mut peer, MSS);
    assert_eq!(left(&mut lab), [(20, false)], "to an acknowledgement it is not corked");
}

#[test]
fn nothing_is_joined_to_the_end_of_a_record() {
    let (mut lab, sock, mut peer) = connected();
    cork(&mut lab, &sock, true);
    for ending in [RECORD, Ending::default(), RECORD, Ending::default()] {
        send(&mut lab, &sock, 10, ending);
    }
    assert_eq!(left(&mut lab), [(10, true), (20, true)], "the last one alone is held");
    let room = sock.lock.user().write_room(false);
    cork(&mut lab, &sock, false);
    assert_eq!(left(&mut lab), []);
    ack(&mut lab, &mut peer, 30);
    assert_eq!(left(&mut lab), [(10, true)]);
    // Sent again they stay apart, too.
    nodelay(&mut lab, &sock);
    ack(&mut lab, &mut peer, 10);
    send(&mut lab, &sock, 10, RECORD);
    send(&mut lab, &sock, 10, Ending::default());
    left(&mut lab);
    lab.wait(210);
    assert_eq!(left(&mut lab), [(10, true)]);
    assert_eq!(room % MSS, MSS - 10, "the packet that is open takes what it lacks");
    send(&mut lab, &sock, 10, RECORD);
    assert_eq!(sock.lock.user().write_room(false) % MSS, 0, "and nothing behind a record");
}

#[test]
fn a_probe_of_what_a_cork_held_is_no_small_segment_to_nagle() {
    let (mut lab, sock, _) = connected();
    cork(&mut lab, &sock, true);
    send(&mut lab, &sock, 100, Ending::default());
    lab.wait(210);
    assert_eq!(left(&mut lab), [(100, true)]);
    cork(&mut lab, &sock, false);
    send(&mut lab, &sock, 10, Ending::default());
    assert_eq!(left(&mut lab), [(10, true)]);
    send(&mut lab, &sock, 10, Ending::default());
    assert_eq!(left(&mut lab), [], "now there is one");
}

#[test]
fn a_cork_that_was_out_and_in_again_before_the_cpu_came_has_sent() {
    let (mut lab, sock, _) = connected();
    sock.lock.user().set_cork(true);
    // The Cpu is busy: of what follows it hears at once.
    let write = |len: usize| {
        let (step, _) = sock.write(&vec![1; len], Ending::default(), Part::First { register: false });
        assert!(matches!(step, WriteStep::Taken(_)));
    };
    write(10);
    {
        let mut sk = sock.lock.user();
        sk.set_cork(false);
        sk.set_cork(true);
    }
    write(20);
    lab.stack.kick(&sock, post::PUSH, lab.now);
    lab.run();
    assert_eq!(left(&mut lab), [(10, true)], "what came before it, and not what came after");
}

#[test]
fn connections_inherit_the_cork_of_their_listener() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    listener.set_options(SockOptions { cork: true, ..SockOptions::default() });
    let sock = Peer::new(40_000, 80).connect(&mut lab, &listener);
    send(&mut lab, &sock, 100, Ending::default());
    assert_eq!(left(&mut lab), []);
    nodelay(&mut lab, &sock);
    assert_eq!(left(&mut lab), [(100, true)]);
}
