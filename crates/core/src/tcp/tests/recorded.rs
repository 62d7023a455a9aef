//! Receive memory as Linux 6.18 was seen to keep it: segments that a TAP brought, in order, out of order and again, with
//! small buffers, and after each what `SO_MEMINFO` and the counters said.
//!
//! A line is what was done (`seg` at an offset with a length, `read` of so many bytes), and behind the colon charged
//! memory, its limit, what is accounted and not charged, drops, then the counters named below.

use std::fmt::Write as _;

use rxpath_trace::Counter;
use rxpath_wire::SeqNum;

use super::lab::{ACK, Lab, Peer};
use crate::tcp::SockOptions;

const COUNTERS: [Counter; 9] = [
    Counter::TcpExtPruneCalled,
    Counter::TcpExtRcvPruned,
    Counter::TcpExtOfoPruned,
    Counter::TcpExtTCPRcvCollapsed,
    Counter::TcpExtTCPRcvQDrop,
    Counter::TcpExtTCPOFODrop,
    Counter::TcpExtTCPOFOQueue,
    Counter::TcpExtTCPOFOMerge,
    Counter::TcpExtTCPRcvCoalesce,
];

/// Does what a recording did, and writes one of the stack.
fn replay(recording: &str) -> String {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let mut said = String::new();
    let mut lines = recording.lines();
    let open = lines.next().expect("what was opened");
    writeln!(said, "{open}").expect("text");
    let number = |name: &str| {
        let word = open.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.map(|digits| digits.parse::<u32>().expect("a number"))
    };
    listener.set_options(SockOptions { recv_buffer: number("listen_rcvbuf"), ..SockOptions::default() });
    peer.sack = number("sack").is_some();
    let sock = peer.connect(&mut lab, &listener);
    if let Some(bytes) = number("rcvbuf") {
        lab.stack.with(&sock, 0, lab.now, |sk| sk.set_rcvbuf(bytes, u32::MAX));
    }
    let start = peer.seq;
    for line in lines {
        let (done, _) = line.split_once(" : ").expect("what was done and seen");
        lab.wait(1);
        match *done.split(' ').collect::<Vec<_>>() {
            ["seg", offset, len] => {
                let mut repr = peer.repr(ACK);
                repr.seq = SeqNum(start.0.wrapping_add(offset.parse().expect("an offset")));
                lab.segment(repr, &vec![b'x'; len.parse().expect("a length")]);
            }
            ["read", len] => {
                let _ = lab.recv(&sock, len.parse().expect("a length"));
            }
            _ => panic!("{line}"),
        }
        while lab.sent().is_some() {}
        let seen = lab.stack.with(&sock, 0, lab.now, |sk| {
            format!("{} {} {} {}", sk.rx.rmem_alloc, sk.rx.rcvbuf, sk.rx.forward_alloc, sk.user.drops)
        });
        let counts = COUNTERS.map(|counter| lab.count(counter).to_string()).join(" ");
        writeln!(said, "{done} : {seen} {counts}").expect("text");
    }
    said
}

/// What was recorded: with small buffers that the application set on the listener or the connection.
const RECORDINGS: [(&str, &str); 10] = [
    ("small segments in order", include_str!("recorded/small_in_order.txt")),
    ("segments until the window closes", include_str!("recorded/until_the_window_closes.txt")),
    ("ranges out of order", include_str!("recorded/ranges_out_of_order.txt")),
    ("overlaps", include_str!("recorded/overlaps.txt")),
    ("all counters", include_str!("recorded/all_counters.txt")),
    ("large segments in order", include_str!("recorded/large_in_order.txt")),
    ("large segments in any order", include_str!("recorded/large_mixed.txt")),
    ("charges that are not accounted", include_str!("recorded/debts.txt")),
    ("ranges that are given up", include_str!("recorded/given_up.txt")),
    ("everything twice", include_str!("recorded/everything_twice.txt")),
];

#[test]
fn full_buffers_are_pruned_as_the_kernel_prunes_them() {
    for (name, recording) in RECORDINGS {
        let ours = replay(recording);
        for (number, (ours, kernels)) in ours.lines().zip(recording.lines()).enumerate() {
            assert_eq!(ours, kernels, "{name}, line {}", number + 1);
        }
    }
}

/// Segments of 1,448 bytes that came in one round trip of 50 ms and were read at its end, and then the receive buffer, what
/// the reader took in a round trip, and the ceiling of the window.
const TUNED: [(usize, u32, u32, u32); 8] = [
    (10, 131_072, 14_480, 79_640),
    (20, 476_223, 37_648, 84_320),
    (40, 476_223, 37_648, 200_160),
    (80, 476_223, 37_648, 280_201),
    (160, 476_223, 37_648, 304_596),
    (200, 476_223, 37_648, 312_246),
    (200, 476_223, 37_648, 314_796),
    (200, 476_223, 37_648, 314_796),
];

#[test]
fn receive_buffers_tune_themselves_as_the_kernels_do() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer { sack: true, window: 502, stamps: Some((100_000, 0)), ..Peer::new(40_000, 80) };
    let sock = peer.connect_from_afar(&mut lab, &listener, 50);
    let mut tuned = Vec::new();
    for (segments, ..) in TUNED {
        peer.stamps = peer.stamps.map(|(own, echo)| (own + 50, echo));
        for _ in 0..segments {
            lab.segment(peer.repr(ACK), &[1; 1_448]);
            peer.seq += 1_448;
        }
        while lab.recv(&sock, 1 << 20).is_ok_and(|bytes| !bytes.is_empty()) {}
        tuned.push(lab.stack.with(&sock, 0, lab.now, |sk| (segments, sk.rx.rcvbuf, sk.rx.space, sk.rx.rcv_ssthresh)));
        lab.wait(50);
        while let Some(sent) = lab.sent() {
            peer.note(&sent);
        }
    }
    assert_eq!(tuned, TUNED);
}
