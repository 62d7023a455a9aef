//! One copy of the payload between the ring and `recv`, counted.

use rxpath_trace::Counter;
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, Peer};
use crate::stack::StackConfig;

const PLACES: [Counter; 5] =
    [Counter::CopiedRecv, Counter::CopiedPeek, Counter::CopiedGro, Counter::CopiedDense, Counter::CopiedUnshare];

/// Payload bytes copied so far: by recv, by peek, by GRO, under pressure, to unshare.
fn copies(lab: &Lab) -> [u64; 5] {
    let counters = lab.stack.snapshot();
    PLACES.map(|place| counters[place])
}

/// Sends `segments` of `len` bytes, a burst of eight at a time, and reads them after each burst. Gives the bytes read.
fn transfer(lab: &mut Lab, segments: usize, len: usize) -> u64 {
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(lab, &listener);
    let mut read = 0;
    for _ in 0..segments / 8 {
        for _ in 0..8 {
            let frame = lab.frame(peer.repr(ACK), &vec![7; len]);
            lab.put(&frame);
            peer.seq += len as u32;
        }
        lab.run();
        while lab.sent().is_some() {}
        read += lab.recv(&sock, 100_000).expect("the burst").len() as u64;
    }
    assert_eq!(read, (segments * len) as u64);
    read
}

fn with_gro(config: &mut StackConfig) {
    config.interfaces[0].gro = true;
}

#[test]
fn full_segments_are_copied_once_by_recv() {
    for gro in [false, true] {
        let mut lab = Lab::with(|config| config.interfaces[0].gro = gro);
        let read = transfer(&mut lab, 400, 1_448);
        assert_eq!(copies(&lab), [read, 0, 0, 0, 0], "merged: {gro}");
    }
}

#[test]
fn short_segments_are_copied_by_gro_and_by_recv() {
    let mut lab = Lab::with(with_gro);
    let read = transfer(&mut lab, 800, 64);
    // The first of each burst of eight is the one that the others are merged into, where it lies.
    assert_eq!(copies(&lab), [read, 0, read / 8 * 7, 0, 0]);
}

#[test]
fn short_segments_without_gro_are_copied_behind_each_other() {
    let mut lab = Lab::with(|config| config.interfaces[0].gro = false);
    let read = transfer(&mut lab, 800, 64);
    assert_eq!(copies(&lab), [read, 0, 0, 0, 0]);
    let joined = lab.stack.snapshot()[Counter::CopiedCoalesce];
    assert!(joined > 0 && joined < read && joined.is_multiple_of(64), "{joined} of {read}");
}

#[test]
fn recorded_segments_are_copied_as_others_are() {
    let mut lab = Lab::with(|config| {
        with_gro(config);
        config.lives = rxpath_trace::Selector::All;
    });
    let read = transfer(&mut lab, 80, 64);
    assert_eq!(copies(&lab), [read, 0, read / 8 * 7, 0, 0], "each frame is a packet of its own before it is merged");
}

#[test]
fn a_look_is_a_copy_too() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, &[1; 500]);
    assert_eq!(lab.stack.peek(&sock, &mut [0; 300], false, lab.now).expect("data"), 300);
    lab.recv(&sock, 200).expect("a part");
    lab.recv(&sock, 1_000).expect("the rest");
    assert_eq!(copies(&lab), [500, 300, 0, 0, 0]);
}

#[test]
fn payload_that_is_moved_for_want_of_slots_is_counted() {
    let mut lab = Lab::with(|config| config.pool.slots = 512);
    let listener = lab.listen(80, 8);
    let mut peers: Vec<Peer> = (0..3).map(|n| Peer::new(40_000 + n, 80)).collect();
    let socks: Vec<_> = peers.iter_mut().map(|peer| peer.connect(&mut lab, &listener)).collect();
    let mut sent = 0;
    for round in 0..40 {
        for peer in &mut peers {
            peer.data(&mut lab, &[round; 100]);
            sent += 100;
        }
        while lab.sent().is_some() {}
    }
    let before = copies(&lab);
    assert_eq!((before[0], before[3] % 100), (0, 0));
    assert!((100..=sent).contains(&before[3]), "{before:?} of {sent}");
    let read: usize = socks.iter().map(|sock| lab.recv(sock, 100_000).expect("all").len()).sum();
    assert_eq!(copies(&lab), [read as u64, 0, 0, before[3], 0]);
}

#[test]
fn what_is_lent_is_not_copied_and_closes_the_window_until_it_comes_back() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let sent: Vec<u8> = (0..20_000u32).map(|n| (n * 7) as u8).collect();
    for piece in sent.chunks(1_000) {
        peer.data(&mut lab, piece);
    }
    while lab.sent().is_some() {}
    assert_eq!(lab.recv(&sock, 300).expect("bytes"), sent[..300], "a read leaves a packet that was read in part");
    let copied = lab.count(Counter::CopiedRecv);
    let charged = sock.rmem();
    let lent = lab.stack.lend(&sock, 1, false, lab.now).expect("one packet at the least");
    let bytes: Vec<u8> = lent.pieces().flatten().copied().collect();
    assert_eq!((bytes.len(), &bytes[..]), (lent.len(), &sent[300..300 + lent.len()]));
    assert!(lent.pieces().count() > 1, "segments that were joined lie where they came");
    assert_eq!(sock.rmem(), charged, "they are charged for as long as they are lent");
    let rest = lab.stack.lend(&sock, 1 << 20, false, lab.now).expect("the rest");
    let more: Vec<u8> = rest.pieces().flatten().copied().collect();
    assert_eq!([&sent[..300], &bytes, &more].concat(), sent);
    assert!(lab.stack.lend(&sock, 1, false, lab.now).is_err(), "nothing is left");
    lab.stack.take_back(&sock, rest, lab.now);
    lab.stack.take_back(&sock, lent, lab.now);
    lab.run();
    assert_eq!((sock.rmem(), lab.count(Counter::CopiedRecv)), (0, copied));
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert!(lab.stack.lend(&sock, 1, false, lab.now).is_ok_and(|end| end.is_empty()), "the end of the stream");
    while lab.sent().is_some() {}
}

#[test]
fn what_is_lent_may_outlive_its_connection() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, &[9; 1_000]);
    while lab.sent().is_some() {}
    let lent = lab.stack.lend(&sock, 1 << 20, false, lab.now).expect("bytes");
    lab.segment(peer.repr(TcpFlags::RST), &[]);
    lab.close(&sock);
    assert!(lent.pieces().flatten().all(|byte| *byte == 9));
    lab.stack.take_back(&sock, lent, lab.now);
    assert_eq!(sock.rmem(), 0);
}
