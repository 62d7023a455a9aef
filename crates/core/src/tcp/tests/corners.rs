//! Corners in which random cases found the kernel and the stack to differ, each pinned down by itself.

use std::net::{IpAddr, SocketAddr};

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, PEER, PSH_ACK, Peer, SYN, SYN_ACK};
use crate::tcp::{SockError, State};

const FIN_PSH_ACK: TcpFlags = TcpFlags(FIN_ACK.0 | TcpFlags::PSH.0);

/// Queues of the only connection as `/proc/net/tcp` shows them.
fn queues(lab: &Lab) -> String {
    let text = lab.stack.proc_tcp(lab.now);
    let line = text.lines().last().expect("the connection is listed");
    line.split_ascii_whitespace().nth(4).expect("the column of the queues").to_owned()
}

#[test]
fn what_is_sent_again_takes_along_what_follows_up_to_one_segment() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    sock.lock.user().set_nodelay(true);
    for len in [10, 20, 1_420, 30] {
        lab.send(&sock, &vec![len as u8; len]);
        assert_eq!(lab.expect(PSH_ACK).payload.len(), len);
    }
    lab.wait(210);
    let again = lab.expect(PSH_ACK);
    assert_eq!((again.seq, again.payload.len()), (peer.ack, 1_450), "1,480 bytes would be more than a segment");
    lab.expect_nothing();
    assert_eq!((lab.count(Counter::TcpRetransSegs), sock.lock.user().tx.segments.len()), (1, 2));
    peer.ack += 1_480;
    lab.segment(peer.repr(ACK), &[]);
    let sk = sock.lock.user();
    assert_eq!((sk.cong.packets_out, sk.cong.lost_out, sk.rx.rmem_alloc), (0, 0, 0));
    drop(sk);
}

#[test]
fn a_fin_that_is_lost_with_the_last_bytes_is_sent_again_with_them() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, b"the last");
    lab.expect(PSH_ACK);
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    lab.expect(FIN_ACK);
    lab.wait(210);
    assert_eq!(lab.expect(FIN_PSH_ACK).payload, b"the last");
    peer.ack += 9;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.state(&sock), State::FinWait2);
}

#[test]
fn a_shut_window_takes_nothing_along() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    sock.lock.user().set_nodelay(true);
    for len in [10, 20] {
        lab.send(&sock, &vec![1; len]);
        lab.expect(PSH_ACK);
    }
    peer.window = 0;
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(210);
    assert_eq!(lab.expect(PSH_ACK).payload.len(), 10);
}

#[test]
fn a_reset_beside_the_window_of_an_orphan_is_answered() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.close(&sock);
    lab.expect(FIN_ACK);
    peer.ack += 1;
    lab.segment(peer.repr(ACK), &[]);
    // Before what is expected, and behind the window. The second answer would come too soon after the first.
    for ahead in [-10, 70_000] {
        let mut reset = peer.repr(TcpFlags::RST);
        reset.seq = rxpath_wire::SeqNum(reset.seq.0.wrapping_add_signed(ahead));
        lab.segment(reset, &[]);
    }
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    lab.expect_nothing();
    assert_eq!(lab.count(Counter::TcpExtTCPACKSkippedFinWait2), 1);
    assert_eq!(lab.dropped(DropReason::TcpReset), 0);
    lab.segment(peer.repr(TcpFlags::RST), &[]);
    assert!(lab.stack.sockets(lab.now).iter().all(|view| view.row.remote.port() != 40_000), "the exact one ends it");
}

#[test]
fn a_fin_counts_as_unread_and_as_unacknowledged() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, b"abc");
    assert_eq!(lab.recv(&sock, 3).expect("data").len(), 3);
    lab.segment(peer.repr(FIN_ACK), &[]);
    peer.seq += 1;
    assert_eq!(queues(&lab), "00000000:00000001");
    assert!(sock.lock.user().rx.rmem_alloc > 0, "a FIN by itself is charged");
    assert_eq!(lab.recv(&sock, 10).expect("the end of the stream").len(), 0);
    assert_eq!((queues(&lab), sock.lock.user().rx.rmem_alloc), ("00000000:00000000".to_owned(), 0));
    assert_eq!(lab.recv(&sock, 10).expect("still the end").len(), 0);
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    assert_eq!(queues(&lab), "00000001:00000000");
    while lab.sent().is_some() {}
}

#[test]
fn a_fin_is_read_with_what_stands_before_it() {
    for (by_itself, room, left) in [(false, 3, 0), (true, 3, 1), (true, 4, 0)] {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        let mut peer = Peer::new(40_000, 80);
        let sock = peer.connect(&mut lab, &listener);
        if by_itself {
            // Behind a packet that was read the FIN has nothing to join.
            peer.data(&mut lab, b"a");
            lab.recv(&sock, 1).expect("data");
            lab.segment(peer.repr(ACK), b"abc");
            peer.seq += 3;
            let mut sk = sock.lock.user();
            sk.rx.queue.back_mut().expect("data").end_seq += 1;
            drop(sk);
            lab.segment(peer.repr(FIN_ACK), &[]);
        } else {
            lab.segment(peer.repr(FIN_ACK), b"abc");
        }
        assert_eq!(lab.recv(&sock, room).expect("data"), b"abc");
        assert_eq!(queues(&lab), format!("00000000:{left:08X}"), "by itself: {by_itself}, room for {room}");
        while lab.sent().is_some() {}
    }
}

#[test]
fn options_out_of_the_ordinary_count_into_the_size_of_a_segment() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, &[1; 1_460]);
    let mut sk = sock.lock.user();
    assert_eq!(sk.ack.rcv_mss, 1_460);
    // Two of one size are believed: 496 bytes behind 40 of options are as 536 behind none.
    sk.measure_rcv_mss(496, 496, 60, TcpFlags::ACK, 1_280);
    assert_eq!(sk.ack.rcv_mss, 1_460);
    sk.measure_rcv_mss(536, 536, 20, TcpFlags::ACK, 1_280);
    assert_eq!(sk.ack.rcv_mss, 536);
    // As measured on Linux 6.18: not what ends something, urgent data among it.
    for ends in [TcpFlags::URG, TcpFlags::PSH] {
        sk.measure_rcv_mss(403, 403, 20, ends, 1_280);
        sk.measure_rcv_mss(403, 403, 20, TcpFlags::ACK, 1_280);
        assert_eq!(sk.ack.rcv_mss, 536);
    }
    sk.measure_rcv_mss(403, 403, 20, TcpFlags::ACK, 1_280);
    assert_eq!(sk.ack.rcv_mss, 403);
    drop(sk);
    while lab.sent().is_some() {}
}

#[test]
fn packets_that_wait_are_joined_once_for_each_time_they_are_offered() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.window = 5_000;
    let sock = peer.connect(&mut lab, &listener);
    // Half the window is a packet: three go, and what waits is offered twice, at the sixth packet and at the end.
    sock.lock.user().opts.snd_wscale = 0;
    sock.lock.user().tx.max_window = 5_000;
    sock.lock.user().tx.snd_wnd = 5_000;
    lab.send(&sock, &[1; 8_802]);
    assert_eq!(std::iter::from_fn(|| lab.sent()).map(|sent| sent.payload.len()).sum::<usize>(), 3 * 1_460);
    let sk = sock.lock.user();
    assert_eq!((sk.tx.queue.len(), sk.tx.queue.front().map(|packet| packet.len)), (2, Some(3 * 1_460)));
    drop(sk);
    peer.ack += 3 * 1_460;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(std::iter::from_fn(|| lab.sent()).map(|sent| sent.payload.len()).sum::<usize>(), 3 * 1_460 + 42);
}

#[test]
fn a_syn_of_the_past_is_challenged_as_any_other() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((5_000, 0));
    let _sock = peer.connect(&mut lab, &listener);
    peer.stamps = Some((4_000, 0));
    lab.segment(peer.repr(SYN), &[]);
    lab.expect(ACK);
    assert_eq!((lab.count(Counter::TcpExtTCPSYNChallenge), lab.count(Counter::TcpExtPAWSEstab)), (1, 0));
    assert_eq!(lab.dropped(DropReason::TcpInvalidSyn), 1);
}

#[test]
fn a_syn_that_also_ends_the_stream_takes_the_place_of_time_wait_and_opens_nothing() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.close(&sock);
    peer.ack = lab.expect(FIN_ACK).seq + 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    peer.seq += 1_000;
    lab.segment(peer.repr(TcpFlags(SYN.0 | TcpFlags::FIN.0)), &[]);
    lab.expect_nothing();
    assert_eq!(lab.dropped(DropReason::TcpFlags), 1);
    assert_eq!(lab.stack.sockets(lab.now).len(), 1, "the listener alone");
}

#[test]
fn the_syn_ack_of_a_crossed_open_ends_it() {
    let mut lab = Lab::new();
    let mut peer = Peer::new(40_000, 81);
    let remote = SocketAddr::new(IpAddr::V4(PEER), peer.sport);
    let sock = lab.stack.connect_from(Some(peer.dport), remote, lab.now).expect("a route");
    lab.run();
    peer.ack = lab.expect(SYN).seq + 1;
    lab.segment(peer.repr(SYN), &[]);
    lab.expect(SYN_ACK);
    assert_eq!(lab.state(&sock), State::SynRecv);
    lab.segment(peer.repr(SYN_ACK), &[]);
    assert_eq!(lab.state(&sock), State::Established);
    assert_eq!(lab.expect(ACK).ack, peer.seq + 1);
    assert_eq!(lab.count(Counter::TcpExtTCPSYNChallenge), 0);
}

#[test]
fn data_behind_the_fin_breaks_the_connection_and_the_application_is_told() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.segment(peer.repr(FIN_ACK), &[]);
    peer.data_at(&mut lab, 0, b"before and behind");
    lab.expect(TcpFlags::RST);
    assert_eq!(sock.lock.user().user.error, Some(SockError::BrokenPipe));
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnData), 1);
}
