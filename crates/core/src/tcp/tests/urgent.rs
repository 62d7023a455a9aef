//! Urgent data, and the ways to read that are not plain reads.

use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, PSH_ACK, Peer};
use crate::socket::{Sock, WriteStep};
use crate::stack::RecvError;
use crate::tcp::NoUrgent;

const URG_ACK: TcpFlags = TcpFlags(TcpFlags::URG.0 | TcpFlags::ACK.0);

fn connection() -> (Lab, Arc<Sock>, Peer) {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    (lab, sock, peer)
}

impl Peer {
    /// Sends in-order data whose urgent pointer is `pointer`.
    fn urgent(&mut self, lab: &mut Lab, payload: &[u8], pointer: u16) {
        let mut repr = self.repr(URG_ACK);
        repr.urgent = pointer;
        lab.segment(repr, payload);
        self.seq += payload.len() as u32;
    }
}

fn oob(lab: &Lab, sock: &Arc<Sock>) -> Result<u8, NoUrgent> {
    lab.stack.recv_urgent(sock, false, lab.now)
}

fn at_mark(sock: &Sock) -> bool {
    sock.lock.user().at_mark()
}

#[test]
fn the_urgent_byte_is_read_beside_the_stream_which_stops_at_its_mark() {
    let (mut lab, sock, mut peer) = connection();
    assert_eq!(oob(&lab, &sock), Err(NoUrgent::Invalid));
    peer.urgent(&mut lab, b"abcde", 3);
    assert!(lab.stack.readiness(&sock, lab.now).priority);
    assert_eq!(sock.lock.user().inq(), 2, "up to the mark");
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"ab", "a read stops at the mark");
    assert!(at_mark(&sock));
    assert_eq!(lab.stack.recv_urgent(&sock, true, lab.now), Ok(b'c'));
    assert_eq!(oob(&lab, &sock), Ok(b'c'));
    assert_eq!(oob(&lab, &sock), Err(NoUrgent::Invalid), "once");
    assert!(!lab.stack.readiness(&sock, lab.now).priority);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"de", "the byte is skipped");
    assert!(!at_mark(&sock));
    assert_ne!(sock.lock.user().pred_flags, 0, "header prediction is on again");
    while lab.sent().is_some() {}
}

#[test]
fn inline_the_byte_stays_in_the_stream() {
    let (mut lab, sock, mut peer) = connection();
    sock.lock.user().rx.urgent.inline = true;
    peer.urgent(&mut lab, b"abc", 2);
    assert_eq!(oob(&lab, &sock), Err(NoUrgent::Invalid));
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"a", "the mark stops a read all the same");
    assert!(at_mark(&sock));
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"bc");
    while lab.sent().is_some() {}
}

#[test]
fn a_byte_that_was_announced_may_come_later_and_a_newer_mark_replaces_it() {
    let (mut lab, sock, mut peer) = connection();
    peer.urgent(&mut lab, b"ab", 5);
    assert_eq!(oob(&lab, &sock), Err(NoUrgent::Pending));
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"ab");
    peer.data(&mut lab, b"cdef");
    assert_eq!(oob(&lab, &sock), Ok(b'e'));
    peer.urgent(&mut lab, b"ghi", 3);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"cdefgh", "the former byte is in the stream again");
    assert!(at_mark(&sock));
    assert!(matches!(lab.recv(&sock, 100), Err(RecvError::Empty(_))), "only the urgent byte is left");
    peer.data(&mut lab, b"jk");
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"jk");
    while lab.sent().is_some() {}
}

#[test]
fn a_mark_at_the_fin_is_passed_by_no_read() {
    let (mut lab, sock, mut peer) = connection();
    let mut fin = peer.repr(TcpFlags(URG_ACK.0 | TcpFlags::FIN.0));
    fin.urgent = 4;
    lab.segment(fin, b"abc");
    peer.seq += 4;
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"abc");
    assert_eq!(oob(&lab, &sock), Err(NoUrgent::Eof), "it was announced, and nothing more comes");
    while lab.sent().is_some() {}
}

/// As measured on Linux 6.18: a newer mark makes the reader skip the byte at the former one, and here that is the FIN.
#[test]
fn a_mark_at_the_fin_may_be_skipped_with_it() {
    let (mut lab, sock, mut peer) = connection();
    let mut fin = peer.repr(TcpFlags(URG_ACK.0 | TcpFlags::FIN.0));
    fin.urgent = 1;
    lab.segment(fin, &[]);
    peer.urgent(&mut lab, &[7; 211], 211);
    let inq = || sock.lock.user().inq();
    assert_eq!((inq(), lab.recv(&sock, 100).unwrap().len(), inq()), (0, 0, 0));
    let sk = sock.lock.user();
    assert_eq!((sk.rx.copied_seq - sk.rx.rcv_nxt, sk.rx.rmem_alloc), (0, 0));
    drop(sk);
    while lab.sent().is_some() {}
}

/// The kernel looks for the byte from the beginning of the header on, shows what stands there, and gives that. Here it shows, too, but
/// what is read is what the peer sent.
#[test]
fn what_stands_just_before_a_segment_shows_and_is_read_once_it_has_come() {
    for (ahead, shows) in [(2, true), (6, true), (21, true), (22, false)] {
        let (mut lab, sock, mut peer) = connection();
        peer.urgent(&mut lab, b"a", 3);
        assert_eq!(oob(&lab, &sock), Err(NoUrgent::Pending));
        peer.data_at(&mut lab, ahead, b"later");
        let priority = |lab: &Lab| lab.stack.readiness(&sock, lab.now).priority;
        assert_eq!(
            (priority(&lab), oob(&lab, &sock)),
            (shows, Err(NoUrgent::Pending)),
            "{ahead} bytes ahead of what is next"
        );
        peer.data(&mut lab, b"bc");
        assert_eq!((priority(&lab), oob(&lab, &sock), priority(&lab)), (true, Ok(b'c'), false));
        assert_eq!(lab.recv(&sock, 100).unwrap(), b"ab");
        while lab.sent().is_some() {}
    }
}

#[test]
fn peeking_stops_and_skips_as_reading_does() {
    let (mut lab, sock, mut peer) = connection();
    peer.urgent(&mut lab, b"abcde", 3);
    let peek = |lab: &Lab| {
        let mut buf = [0; 10];
        let count = lab.stack.peek(&sock, &mut buf, false, lab.now).expect("bytes");
        buf[..count].to_vec()
    };
    assert_eq!(peek(&lab), b"ab");
    assert_eq!(lab.recv(&sock, 2).unwrap(), b"ab");
    assert_eq!(peek(&lab), b"de");
    assert!(at_mark(&sock));
    assert_eq!(lab.recv(&sock, 10).unwrap(), b"de");
    while lab.sent().is_some() {}
}

#[test]
fn our_urgent_byte_is_pointed_at_until_it_is_acknowledged() {
    let (mut lab, sock, mut peer) = connection();
    lab.stack.send_urgent(&sock, b"stop", false, lab.now);
    let urg_psh = TcpFlags(URG_ACK.0 | TcpFlags::PSH.0);
    let sent = lab.raw().expect("a segment");
    let (header, _) = rxpath_wire::TcpHeader::parse(&sent[34..]).expect("a header");
    assert_eq!((header.flags(), header.urgent()), (urg_psh, 4), "behind the last byte");
    lab.wait(210);
    lab.expect(urg_psh);
    peer.ack += 4;
    lab.segment(peer.repr(ACK), &[]);
    lab.send(&sock, b"on");
    lab.expect(PSH_ACK);
    peer.ack += 2;
    lab.segment(peer.repr(ACK), &[]);
}

#[test]
fn room_for_urgent_bytes_is_reckoned_in_segments() {
    let (mut lab, sock, mut peer) = connection();
    lab.stack.with(&sock, 0, lab.now, |sk| sk.set_sndbuf(3_000, 1 << 20));
    peer.window = 0;
    peer.data(&mut lab, b"close");
    lab.expect(ACK);
    let urgent = |lab: &mut Lab, n: usize| match lab.stack.send_urgent(&sock, &vec![1; n], false, lab.now) {
        WriteStep::Taken(n) => n,
        _ => 0,
    };
    // Three segments with their charges are more than 6,000 bytes, two are not.
    assert_eq!(urgent(&mut lab, 20_000), 3 * 1_460, "what is taken ends with a segment");
    assert_eq!(urgent(&mut lab, 1), 0, "and the last is full");
    assert_eq!(lab.send(&sock, &[2; 9]), 9, "though it may become a super-frame");
    peer.window = 64_240;
    lab.segment(peer.repr(PSH_ACK), b"!");
    let pointers: Vec<(usize, u16)> = std::iter::from_fn(|| lab.sent_as_frame())
        .map(|(sent, frame)| {
            let (header, _) = rxpath_wire::TcpHeader::parse(&frame[34..]).expect("a header");
            (sent.payload.len(), header.urgent())
        })
        .collect();
    assert_eq!(pointers, [(1_460, 4_380), (1_460, 2_920), (1_460, 1_460), (9, 0)], "the last that was taken is urgent");
    peer.ack += 3 * 1_460 + 9;
    lab.segment(peer.repr(ACK), &[]);
}

#[test]
fn bytes_can_be_taken_without_being_copied() {
    let (mut lab, sock, mut peer) = connection();
    for _ in 0..3 {
        peer.data(&mut lab, &[1; 1_000]);
    }
    peer.data(&mut lab, b"the rest");
    assert_eq!(lab.stack.discard(&sock, 3_000, false, lab.now).expect("bytes"), 3_000);
    assert_eq!(lab.count(Counter::CopiedRecv), 0);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"the rest");
    assert!(matches!(lab.stack.discard(&sock, 1, false, lab.now), Err(RecvError::Empty(_))));
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert_eq!(lab.stack.discard(&sock, 1, false, lab.now).expect("the end"), 0);
    assert_eq!(sock.lock.user().rx.rmem_alloc, 0);
    while lab.sent().is_some() {}
}

#[test]
fn readiness_is_by_the_kernels_rules() {
    let (mut lab, sock, mut peer) = connection();
    let ready = |lab: &Lab| lab.stack.readiness(&sock, lab.now);
    assert!(!ready(&lab).readable && ready(&lab).writable);
    sock.lock.user().rx.lowat = 10;
    peer.data(&mut lab, b"four");
    assert!(!ready(&lab).readable, "less than SO_RCVLOWAT");
    peer.data(&mut lab, b"and more");
    assert!(ready(&lab).readable);
    lab.recv(&sock, 100).expect("bytes");
    lab.segment(peer.repr(FIN_ACK), &[]);
    peer.seq += 1;
    let end = ready(&lab);
    assert!(end.readable && end.read_hangup && !end.hangup);
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    assert!(ready(&lab).hangup);
    lab.segment(peer.repr(TcpFlags(TcpFlags::RST.0)), &[]);
    assert!(ready(&lab).error);
    while lab.sent().is_some() {}
}

#[test]
fn an_urgent_byte_that_is_all_there_is_keeps_no_memory() {
    let (mut lab, sock, mut peer) = connection();
    peer.urgent(&mut lab, b"abc", 3);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"ab");
    assert!(matches!(lab.recv(&sock, 100), Err(RecvError::Empty(_))), "only the urgent byte is left, and is skipped");
    assert_eq!(sock.lock.user().rx.rmem_alloc, 0, "or the window could be shut for good");
    assert_eq!(lab.stack.ledger().held(), 0);
    peer.urgent(&mut lab, b"x", 1);
    peer.urgent(&mut lab, b"y", 1);
    assert_eq!(sock.lock.user().rx.queue.len(), 1, "the former urgent byte is skipped, too");
    assert_eq!(oob(&lab, &sock), Ok(b'y'));
    while lab.sent().is_some() {}
}

#[test]
fn what_is_lent_stops_at_the_mark_and_is_copied_before_it() {
    let (mut lab, sock, mut peer) = connection();
    peer.urgent(&mut lab, b"abcde", 3);
    for (expected, copied) in [(&b"ab"[..], 2), (b"de", 2)] {
        let lent = lab.stack.lend(&sock, 100, false, lab.now).expect("bytes");
        assert_eq!(lent.pieces().collect::<Vec<_>>(), [expected]);
        lab.stack.take_back(&sock, lent, lab.now);
        assert_eq!(lab.count(Counter::CopiedRecv), copied);
    }
    assert_eq!(sock.lock.user().rx.rmem_alloc, 0);
    while lab.sent().is_some() {}
}
