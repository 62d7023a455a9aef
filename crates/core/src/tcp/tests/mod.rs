//! TCP through the front door: frames on the wire, calls of the application.

mod ao;
mod backlog;
mod busy;
mod cookies;
mod copies;
mod cork;
mod corners;
mod counters;
mod data;
mod ecn;
mod ends;
mod fast_open;
mod icmp;
mod interfaces;
mod ip_fields;
mod keepalive;
pub(crate) mod lab;
mod listening;
mod lives;
mod loss;
mod md5;
mod memory;
mod merged;
mod mtu_probe;
mod options;
mod orphans;
mod ports;
mod prediction;
mod proc;
mod recorded;
mod requests;
mod sack;
mod sender;
pub(crate) mod signing;
mod streak;
mod transitions;
mod urgent;
mod zerocopy;

use std::net::{IpAddr, SocketAddr};

use lab::{ACK, FIN_ACK, Lab, MS, PEER, PSH_ACK, Peer, SYN, SYN_ACK};
use rxpath_trace::{Counter, DropReason, Holder};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions, TcpRepr};

use crate::stack::RecvError;
use crate::tcp::{SockError, State};

#[test]
fn a_connection_opens_carries_data_both_ways_and_closes() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    assert_eq!(lab.count(Counter::TcpCurrEstab), 1);
    peer.data(&mut lab, b"hello");
    let ack = lab.expect(ACK);
    assert_eq!(ack.ack, peer.seq, "the first segments are acknowledged at once");
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"hello");
    assert_eq!(lab.send(&sock, b"world!"), 6);
    let data = lab.expect(PSH_ACK);
    assert_eq!((data.seq, data.payload.as_slice()), (peer.ack, &b"world!"[..]));
    peer.ack += 6;
    lab.segment(peer.repr(FIN_ACK), &[]);
    peer.seq += 1;
    assert_eq!(lab.state(&sock), State::CloseWait);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"", "the end of the stream");
    lab.wait(300);
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    lab.close(&sock);
    let fin = lab.expect(FIN_ACK);
    peer.ack = fin.seq + 1;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.state(&sock), State::Close);
    assert_eq!(lab.count(Counter::TcpCurrEstab), 0);
    lab.expect_nothing();
}

#[test]
fn the_syn_ack_is_the_kernels() {
    let mut lab = Lab::new();
    let _listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((77, 0));
    let mut syn = peer.repr(SYN);
    syn.options = TcpOptions { mss: Some(1_460), wscale: Some(7), timestamps: Some((77, 0)), ..TcpOptions::default() };
    lab.segment(syn, &[]);
    let answer = lab.expect(SYN_ACK);
    assert_eq!(answer.window, 65_160);
    assert_eq!((answer.options.mss, answer.options.wscale), (Some(1_460), Some(10)));
    assert_eq!(answer.options.timestamps.map(|(_, echo)| echo), Some(77));
    lab.wait(1_010);
    assert_eq!(lab.expect(SYN_ACK).seq, answer.seq, "sent again after a second");
    lab.wait(2_010);
    lab.expect(SYN_ACK);
    assert_eq!(lab.count(Counter::TcpExtTCPSynRetrans), 2);
    assert_eq!(lab.count(Counter::TcpRetransSegs), 2);
}

#[test]
fn a_closed_port_answers_with_a_reset_in_both_forms() {
    let mut lab = Lab::new();
    let mut peer = Peer::new(40_000, 81);
    lab.segment(peer.repr(SYN), &[]);
    let rst = lab.expect(TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0));
    assert_eq!((rst.seq, rst.ack, rst.window), (SeqNum(0), peer.seq + 1, 0));
    peer.ack = SeqNum(4_711);
    lab.segment(peer.repr(ACK), b"stray");
    let rst = lab.expect(TcpFlags::RST);
    assert_eq!((rst.seq, rst.ack), (SeqNum(4_711), SeqNum(0)));
    lab.segment(peer.repr(TcpFlags::RST), &[]);
    lab.expect_nothing();
    assert_eq!(lab.dropped(DropReason::NoSocket), 3);
    assert_eq!(lab.count(Counter::TcpOutRsts), 2);
}

#[test]
fn a_reset_brings_the_options_back_and_no_congestion_marks() {
    let mut lab = Lab::new();
    let peer = Peer::new(40_000, 81);
    let plain = lab.frame(peer.repr(SYN), &[]);
    let (front, segment) = plain.split_at(34);
    let mut frame = [front, &[7, 7, 4, 0, 0, 0, 0, 0], segment].concat();
    (frame[14], frame[15], frame[17]) = (0x47, 0xcb, frame[17] + 8);
    rxpath_wire::ipv4::fill_checksum(&mut frame[14..42]);
    lab.put(&frame);
    lab.run();
    let sent = lab.raw().expect("a reset");
    let us = &sent[26..30];
    assert_eq!((sent[14], sent[15]), (0x47, 0xc8));
    assert_eq!(sent[34..42], [&[7, 7, 8][..], us, &[0]].concat());
    assert_eq!(lab.count(Counter::TcpOutRsts), 1);
}

#[test]
fn header_errors_have_the_kernels_counters() {
    let mut lab = Lab::new();
    let peer = Peer::new(1, 2);
    let good = lab.frame(peer.repr(SYN), &[]);
    let mut bad_sum = good.clone();
    bad_sum[34 + 16] ^= 1;
    lab.put(&bad_sum);
    lab.run();
    assert_eq!((lab.count(Counter::TcpInErrs), lab.count(Counter::TcpInCsumErrors)), (1, 1));
    assert_eq!(lab.dropped(DropReason::TcpCsum), 1);
    let mut short_offset = good.clone();
    short_offset[34 + 12] = 0x40;
    lab.put(&short_offset);
    lab.run();
    assert_eq!(lab.count(Counter::TcpInErrs), 2);
    let mut long_offset = good;
    long_offset[34 + 12] = 0xf0;
    lab.put(&long_offset);
    lab.run();
    assert_eq!(lab.count(Counter::TcpInErrs), 2, "a header longer than the segment counts nothing");
    assert_eq!(lab.dropped(DropReason::PktTooSmall), 2);
    assert_eq!(lab.count(Counter::TcpInSegs), 3);
    lab.expect_nothing();
}

#[test]
fn segments_out_of_order_wait_and_are_delivered_in_order() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data_at(&mut lab, 10, b"klmnopqrst");
    assert_eq!(lab.expect(ACK).ack, peer.seq, "a duplicate ACK at once");
    peer.data_at(&mut lab, 30, b"EFGHIJKLMN");
    lab.expect(ACK);
    peer.data_at(&mut lab, 5, b"fghijklm");
    lab.expect(ACK);
    assert_eq!(lab.stack.ledger().held_by(Holder::OutOfOrder), 3);
    assert_eq!(lab.count(Counter::TcpExtTCPOFOQueue), 3);
    peer.data_at(&mut lab, 0, b"abcdefg");
    assert_eq!(lab.expect(ACK).ack, peer.seq + 20);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"abcdefghijklmnopqrst");
    peer.data_at(&mut lab, 20, b"uvwxyzABCD");
    assert_eq!(lab.expect(ACK).ack, peer.seq + 40, "the hole is filled");
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"uvwxyzABCDEFGHIJKLMN");
    assert_eq!(lab.stack.ledger().held(), 0);
}

#[test]
fn old_data_is_acknowledged_at_once_and_dropped() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, b"0123456789");
    lab.expect(ACK);
    peer.data_at(&mut lab, -10, b"0123456789");
    lab.expect(ACK);
    // Before the last window update the segment is out of the window; within it, it is old data.
    assert_eq!(lab.dropped(DropReason::TcpOldSequence) + lab.dropped(DropReason::TcpOldData), 1);
    assert_eq!(lab.count(Counter::TcpExtDelayedACKLost), 1);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"0123456789");
}

#[test]
fn resets_obey_rfc_5961() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let mut rst = peer.repr(TcpFlags::RST);
    rst.seq = peer.seq + 100;
    lab.segment(rst, &[]);
    lab.expect(ACK);
    assert_eq!(lab.count(Counter::TcpExtTCPChallengeACK), 1);
    assert_eq!(lab.state(&sock), State::Established);
    rst.seq = peer.seq - 100_000;
    lab.segment(rst, &[]);
    lab.expect_nothing();
    lab.segment(peer.repr(SYN), &[]);
    assert_eq!(lab.count(Counter::TcpExtTCPSYNChallenge), 1);
    lab.expect_nothing();
    rst.seq = peer.seq;
    lab.segment(rst, &[]);
    assert_eq!(lab.state(&sock), State::Close);
    assert!(matches!(lab.recv(&sock, 1), Err(RecvError::Failed(SockError::Reset))));
    assert_eq!(lab.recv(&sock, 1).unwrap(), b"", "the error is told once");
    assert_eq!(lab.count(Counter::TcpEstabResets), 1);
}

#[test]
fn unread_data_at_close_resets_the_peer() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, b"nobody reads this");
    lab.expect(ACK);
    lab.close(&sock);
    let rst = lab.expect(TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0));
    assert_eq!(rst.ack, peer.seq);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnClose), 1);
    assert_eq!(lab.dropped(DropReason::QueuePurge), 1);
}

#[test]
fn data_is_sent_again_with_back_off_and_acknowledged_once() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, b"again");
    let first = lab.expect(PSH_ACK);
    lab.wait(210);
    assert_eq!(lab.expect(PSH_ACK).seq, first.seq);
    lab.wait(300);
    lab.expect_nothing();
    lab.wait(110);
    lab.expect(PSH_ACK);
    assert_eq!(lab.count(Counter::TcpRetransSegs), 2);
    assert_eq!(lab.count(Counter::TcpExtTCPTimeouts), 2);
    peer.ack += 5;
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(5_000);
    lab.expect_nothing();
    assert_eq!(sock.lock.user().tx.segments.len(), 0);
}

#[test]
fn three_duplicate_acks_bring_a_fast_retransmit() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    assert_eq!(lab.send(&sock, &[7; 1_460 * 8]), 1_460 * 8);
    let first = lab.sent().expect("data");
    for _ in 1..8 {
        lab.sent().expect("data within the initial window");
    }
    for _ in 0..3 {
        lab.expect_nothing();
        lab.segment(peer.repr(ACK), &[]);
    }
    let again = lab.sent().expect("the lost segment");
    assert_eq!((again.seq, again.payload.len()), (first.seq, 1_460));
    assert_eq!(lab.count(Counter::TcpExtTCPFastRetrans), 1);
    peer.ack += 1_460 * 8;
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(1_000);
    lab.expect_nothing();
}

#[test]
fn the_accept_queue_holds_one_more_than_its_backlog() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_syncookies = 0);
    let listener = lab.listen(80, 1);
    let mut peers: Vec<Peer> = (0..3).map(|n| Peer::new(40_000 + n, 80)).collect();
    for peer in &mut peers {
        lab.segment(peer.repr(SYN), &[]);
        if let Some(answer) = lab.sent() {
            peer.seq += 1;
            peer.ack = answer.seq + 1;
        }
    }
    assert_eq!(listener.requests(), 2, "two half-open connections");
    assert_eq!(lab.count(Counter::TcpExtTCPReqQFullDrop), 1);
    for peer in &peers[..2] {
        lab.segment(peer.repr(ACK), &[]);
    }
    assert_eq!(listener.accept_queue_len(), 2);
    lab.segment(peers[2].repr(SYN), &[]);
    lab.expect_nothing();
    assert_eq!(lab.count(Counter::TcpExtListenOverflows), 1);
    assert_eq!(lab.count(Counter::TcpExtListenDrops), 2);
    lab.stack.close_listener(&listener, lab.now);
    lab.run();
    assert_eq!(lab.count(Counter::TcpOutRsts), 2, "whom nobody accepted is reset");
    while lab.sent().is_some() {}
}

#[test]
fn an_active_open_completes_and_a_refused_one_says_so() {
    let mut lab = Lab::new();
    let remote = SocketAddr::new(IpAddr::V4(PEER), 80);
    let sock = lab.stack.connect(remote, lab.now).expect("a route");
    lab.run();
    let syn = lab.expect(SYN);
    assert_eq!((syn.options.mss, syn.window), (Some(1_460), 64_240));
    let mut peer = Peer::new(80, syn.sport);
    peer.ack = syn.seq + 1;
    let mut answer = peer.repr(SYN_ACK);
    answer.options = TcpOptions { mss: Some(1_000), wscale: Some(3), ..TcpOptions::default() };
    lab.segment(answer, &[]);
    peer.seq += 1;
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    assert_eq!(lab.state(&sock), State::Established);
    lab.send(&sock, &[1; 1_500]);
    assert_eq!(lab.sent().map(|sent| sent.payload.len()), Some(1_000), "the peer's MSS");
    let refused = lab.stack.connect(remote, lab.now).expect("a route");
    lab.run();
    let syn = loop {
        let sent = lab.sent().expect("the SYN");
        if sent.flags == SYN {
            break sent;
        }
    };
    let mut peer = Peer::new(80, syn.sport);
    peer.ack = syn.seq + 1;
    lab.segment(peer.repr(TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0)), &[]);
    assert_eq!(lab.stack.connected(&refused, false, lab.now).0, Some(Err(SockError::Refused)));
    assert_eq!(lab.count(Counter::TcpAttemptFails), 1);
    lab.close(&refused);
    lab.close(&sock);
    while lab.sent().is_some() {}
}

#[test]
fn both_sides_closing_leaves_time_wait_which_ends() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.close(&sock);
    let fin = lab.expect(FIN_ACK);
    peer.ack = fin.seq + 1;
    lab.segment(peer.repr(ACK), &[]);
    lab.segment(peer.repr(FIN_ACK), &[]);
    peer.seq += 1;
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    assert_eq!(lab.count(Counter::TcpExtTW), 1);
    // The peer did not see our ACK.
    let mut again = peer.repr(FIN_ACK);
    again.seq = peer.seq - 1;
    lab.wait(500);
    lab.segment(again, &[]);
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    assert_eq!(lab.stack.sockets(lab.now).len(), 2, "the listener and the mini-socket");
    lab.wait(61_000);
    assert_eq!(lab.stack.sockets(lab.now).len(), 1);
    lab.segment(peer.repr(ACK), &[]);
    lab.expect(TcpFlags::RST);
}

#[test]
fn a_slow_reader_closes_the_window_and_opens_it_again() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let mut last = None;
    for _ in 0..200 {
        peer.data(&mut lab, &[5; 1_460]);
        while let Some(sent) = lab.sent() {
            last = Some(sent);
        }
        let offered = sock.lock.user().rx.offered();
        if offered < 1_460 {
            break;
        }
    }
    lab.wait(300);
    while let Some(sent) = lab.sent() {
        last = Some(sent);
    }
    let window = last.map_or(u16::MAX, |sent| sent.window);
    assert!(window <= 2, "{window} KiB offered to a full buffer");
    let mut total = 0;
    while let Ok(data) = lab.recv(&sock, 16_384) {
        total += data.len();
    }
    assert_eq!(total as u32, peer.seq.0.wrapping_sub(1_001));
    let update = std::iter::from_fn(|| lab.sent()).last().expect("a window update");
    assert!(update.window > 30, "{} KiB", update.window);
}

#[test]
fn a_repeated_acknowledgement_does_not_outrun_the_last_word_on_the_window() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, b"abc");
    peer.ack = lab.expect(PSH_ACK).seq + 3;
    peer.window = 0;
    lab.segment(peer.repr(ACK), &[]);
    lab.send(&sock, b"must wait");
    // From the far end of the receive window: no later segment of less sequence changes the window.
    let mut ahead = peer.repr(ACK);
    ahead.seq += 60_000;
    lab.segment(ahead, &[]);
    // A predicted segment, and one that would open the window if it were news.
    lab.segment(peer.repr(ACK), &[]);
    peer.window = 1_000;
    lab.segment(peer.repr(ACK), &[]);
    lab.expect_nothing();
    ahead.window = 1_000;
    lab.segment(ahead, &[]);
    assert_eq!(lab.expect(PSH_ACK).payload, b"must wait");
}

#[test]
fn a_zero_window_is_probed_until_it_opens() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.window = 0;
    lab.segment(peer.repr(ACK), &[]);
    lab.send(&sock, b"waiting");
    lab.expect_nothing();
    lab.wait(250);
    let probe = lab.expect(ACK);
    assert_eq!(probe.seq, peer.ack - 1);
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(500);
    lab.expect(ACK);
    assert_eq!(lab.count(Counter::TcpExtTCPWinProbe), 2);
    peer.window = 1_000;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.expect(PSH_ACK).payload, b"waiting");
}

#[test]
fn the_delayed_ack_comes_after_forty_milliseconds() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    for _ in 0..16 {
        peer.data(&mut lab, b"quick");
        lab.expect(ACK);
    }
    peer.data(&mut lab, b"slow");
    lab.expect_nothing();
    lab.wait(39);
    lab.expect_nothing();
    lab.wait(10);
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    assert_eq!(lab.count(Counter::TcpExtDelayedACKs), 1);
    assert_eq!(lab.recv(&sock, 200).unwrap().len(), 84);
}

#[test]
fn timestamps_protect_against_old_segments() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((5_000, 0));
    let sock = peer.connect(&mut lab, &listener);
    peer.stamps = peer.stamps.map(|(_, echo)| (5_100, echo));
    peer.data(&mut lab, b"new");
    let ack = lab.expect(ACK);
    assert_eq!(ack.options.timestamps.map(|(_, echo)| echo), Some(5_100));
    peer.stamps = peer.stamps.map(|(_, echo)| (5_050, echo));
    lab.segment(peer.repr(PSH_ACK), b"old");
    lab.expect(ACK);
    assert_eq!(lab.count(Counter::TcpExtPAWSEstab), 1);
    assert_eq!(lab.dropped(DropReason::TcpRfc7323Paws), 1);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"new");
}

#[test]
fn an_old_timestamp_is_forgiven_where_the_segment_could_not_change_the_window() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((5_000, 0));
    let _sock = peer.connect(&mut lab, &listener);
    let stamp = |lab: &mut Lab, peer: &mut Peer, tsval: u32, window: u16| {
        peer.stamps = peer.stamps.map(|(_, echo)| (tsval, echo));
        lab.segment(TcpRepr { window, ..peer.repr(ACK) }, &[]);
        while lab.sent().is_some() {}
        lab.count(Counter::TcpExtPAWSEstab)
    };
    peer.stamps = peer.stamps.map(|(_, echo)| (5_100, echo));
    peer.data(&mut lab, b"new");
    assert_eq!(stamp(&mut lab, &mut peer, 5_090, 64_240), 1, "nothing behind the data has said what the window is");
    assert_eq!(stamp(&mut lab, &mut peer, 5_100, 64_240), 1);
    assert_eq!(stamp(&mut lab, &mut peer, 5_090, 64_240), 1, "a repetition");
    assert_eq!(stamp(&mut lab, &mut peer, 5_090, 60_000), 1, "less room may be old news");
    assert_eq!(stamp(&mut lab, &mut peer, 5_090, 64_241), 2, "more room is not");
    assert_eq!(stamp(&mut lab, &mut peer, 5_090, 0), 3, "nor is none");
}

#[test]
fn the_state_of_a_connection_survives_two_minutes_of_silence_from_the_peer() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, b"?");
    lab.wait(120_000);
    assert_eq!(lab.state(&sock), State::Established);
    lab.wait(1_500 * 1_000);
    assert_eq!(lab.state(&sock), State::Close, "given up after tcp_retries2");
    assert!(matches!(lab.recv(&sock, 1), Err(RecvError::Failed(SockError::TimedOut))));
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1);
    while lab.sent().is_some() {}
    assert_eq!(lab.now.0 % MS, 0);
}
