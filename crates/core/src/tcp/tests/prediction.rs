//! Header prediction: what it takes, and why it does not take the rest.

use rxpath_trace::{Counter, Event, EventKind, Selector, SlowWhy};
use rxpath_wire::{TcpFlags, TcpRepr};

use super::lab::{ACK, Lab, PSH_ACK, Peer};

/// The way that the last data segment took: None is the fast path.
fn way(lab: &Lab) -> Option<SlowWhy> {
    let took = |event: &Event| match event.kind {
        EventKind::FastPath => Some(None),
        EventKind::SlowPath => Some(SlowWhy::from_number(event.a)),
        _ => None,
    };
    lab.stack.take_events().iter().rev().find_map(took).expect("a segment for the socket")
}

/// Sends the next ten bytes, their header changed.
fn next(lab: &mut Lab, peer: &mut Peer, change: impl FnOnce(&mut TcpRepr)) -> Option<SlowWhy> {
    let mut repr = peer.repr(ACK);
    change(&mut repr);
    lab.segment(repr, &[7; 10]);
    while lab.sent().is_some() {}
    way(lab)
}

#[test]
fn header_prediction_takes_the_expected_segment_and_says_why_not_another() {
    for stamps in [None, Some((1_000, 0))] {
        let mut lab = Lab::with(|config| config.lives = Selector::All);
        let listener = lab.listen(80, 8);
        let mut peer = Peer::new(40_000, 80);
        peer.stamps = stamps;
        let sock = peer.connect(&mut lab, &listener);
        let mut taken = 0;
        let mut step = |lab: &mut Lab, peer: &mut Peer, change: &dyn Fn(&mut TcpRepr), expected: Option<SlowWhy>| {
            assert_eq!(next(lab, peer, change), expected, "segment {taken}, timestamps {stamps:?}");
            taken += 10;
            peer.seq += 10;
        };
        step(&mut lab, &mut peer, &|_| (), Some(SlowWhy::Memory));
        step(&mut lab, &mut peer, &|_| (), None);
        step(&mut lab, &mut peer, &|repr| repr.flags = PSH_ACK, None);
        step(&mut lab, &mut peer, &|repr| repr.flags = TcpFlags(TcpFlags::ECE.0 | ACK.0), Some(SlowWhy::Flags));
        // A window that is not the predicted one; then it is.
        peer.window -= 100;
        step(&mut lab, &mut peer, &|_| (), Some(SlowWhy::Flags));
        step(&mut lab, &mut peer, &|_| (), None);
        if stamps.is_some() {
            step(&mut lab, &mut peer, &|repr| repr.options.timestamps = Some((999, 0)), Some(SlowWhy::Timestamp));
            peer.stamps = Some((1_001, 0));
        }
        step(&mut lab, &mut peer, &|_| (), None);
        // Out of order, and with that prediction is off until the hole is filled.
        assert_eq!(next(&mut lab, &mut peer, |repr| repr.seq += 10), Some(SlowWhy::Sequence));
        assert_eq!(next(&mut lab, &mut peer, |repr| repr.seq += 20), Some(SlowWhy::Disabled));
        step(&mut lab, &mut peer, &|_| (), Some(SlowWhy::Disabled));
        peer.seq += 20;
        step(&mut lab, &mut peer, &|_| (), None);
        assert_eq!(lab.recv(&sock, 1_000).expect("all in order").len(), taken + 20);
        let fast = lab.count(Counter::TcpExtTCPHPHits);
        assert_eq!(fast, 5, "timestamps {stamps:?}");
    }
}

#[test]
fn data_whose_memory_is_to_be_accounted_first_is_no_last_word_on_a_window_that_a_later_segment_told_of() {
    let mut lab = Lab::with(|config| config.lives = Selector::All);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    // At the edge of the window, and not taken.
    let edge = sock.lock.user().rx.right_edge() - peer.seq;
    peer.data_at(&mut lab, edge, b"beyond");
    lab.expect(ACK);
    assert_eq!(next(&mut lab, &mut peer, |_| ()), Some(SlowWhy::Memory));
    peer.seq += 10;
    let before = sock.lock.user().tx.snd_wnd;
    peer.window -= 100;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(sock.lock.user().tx.snd_wnd, before, "measured on Linux 6.18");
}
