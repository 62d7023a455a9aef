//! Corners of sending and receiving data that the kernel twin found: writes and send buffers, urgent bytes on their way
//! out, probes, what is pushed, and FINs at the edge of the window.

use std::sync::Arc;

use rxpath_trace::{Counter, DropReason, Time};
use rxpath_wire::{SeqNum, TcpFlags};

use super::lab::{ACK, FIN_ACK, Lab, MS, PSH_ACK, Peer, Sent};
use crate::socket::Sock;
use crate::tcp::{Ending, State, TcpInfo};

const MSS: u32 = 1_460;

/// A connection that a peer with SACK opened that is so many milliseconds away.
fn connected(mut lab: Lab, rtt_ms: u64) -> (Lab, Arc<Sock>, Peer) {
    let listener = lab.listen(80, 8);
    let mut peer = Peer { sack: true, ..Peer::new(40_000, 80) };
    let sock = peer.connect_from_afar(&mut lab, &listener, rtt_ms);
    peer.window = 60_000;
    (lab, sock, peer)
}

fn sent(lab: &mut Lab) -> Vec<Sent> {
    std::iter::from_fn(|| lab.sent()).collect()
}

fn info(lab: &Lab, sock: &Sock) -> TcpInfo {
    sock.lock.user().info(lab.now)
}

#[test]
fn looks_move_on_where_they_are_to_and_reads_bring_them_back() {
    // As Linux 6.18 does it with SO_PEEK_OFF.
    let (mut lab, sock, mut peer) = connected(Lab::new(), 10);
    let look = |lab: &Lab, len: usize| {
        let mut buf = vec![0; len];
        let count = lab.stack.peek(&sock, &mut buf, false, lab.now).ok()?;
        buf.truncate(count);
        Some(String::from_utf8_lossy(&buf).into_owned())
    };
    let offset = |lab: &Lab| lab.stack.with(&sock, 0, lab.now, |sk| sk.user.peek_off);
    let set = |lab: &Lab, offset| lab.stack.with(&sock, 0, lab.now, |sk| sk.user.peek_off = offset);
    peer.data(&mut lab, b"01234");
    peer.data(&mut lab, &[b'5'; 300]);
    assert_eq!([look(&lab, 3), look(&lab, 3)], [Some("012".into()), Some("012".into())]);
    set(&lab, Some(0));
    assert_eq!([look(&lab, 3), look(&lab, 3)], [Some("012".into()), Some("345".into())]);
    assert_eq!(offset(&lab), Some(6));
    assert_eq!(lab.recv(&sock, 2).expect("bytes"), b"01");
    assert_eq!((look(&lab, 2), offset(&lab)), (Some("55".into()), Some(6)));
    set(&lab, Some(303));
    assert_eq!((look(&lab, 2), offset(&lab)), (None, Some(303)), "nothing yet");
    peer.data(&mut lab, b"x");
    assert_eq!((look(&lab, 20), offset(&lab)), (Some("x".into()), Some(304)));
    assert_eq!(lab.recv(&sock, 1_000).expect("bytes").len(), 304);
    assert_eq!(offset(&lab), Some(0));
    // The mark stops a look, and the next passes over the urgent byte.
    let mut urgent = peer.repr(PSH_ACK);
    (urgent.flags, urgent.urgent) = (TcpFlags(PSH_ACK.0 | TcpFlags::URG.0), 4);
    lab.segment(urgent, b"abcUdef");
    peer.seq += 7;
    assert_eq!((look(&lab, 10), offset(&lab)), (Some("abc".into()), Some(3)));
    assert_eq!((look(&lab, 10), offset(&lab)), (Some("def".into()), Some(6)));
    assert_eq!((look(&lab, 10), offset(&lab)), (Some("f".into()), Some(7)));
    assert_eq!(look(&lab, 10), None);
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert_eq!(look(&lab, 10), Some(String::new()), "the end");
    sent(&mut lab);
}

#[test]
fn a_write_fills_packets_to_their_ends_while_less_is_charged_than_the_send_buffer_has() {
    let (mut lab, sock, _) = connected(Lab::new(), 10);
    sock.lock.user().set_sndbuf(5_000, u32::MAX);
    let goal = sock.lock.user().size_goal() as usize;
    let went = 10 * MSS as usize;
    assert_eq!(
        lab.send(&sock, &vec![1; 100_000]),
        goal + went,
        "one packet, however large, and as much as its rest lacks"
    );
    assert_eq!(lab.send(&sock, &[1; 10]), 0, "then what is charged is more than the buffer");
    sent(&mut lab);
    let (mut lab, sock, _) = connected(Lab::new(), 10);
    assert_eq!(
        sock.lock.user().tx.sndbuf,
        2 * 10 * (2_048 + 256),
        "for ten packets, each in a buffer of 2 KiB, and again"
    );
    sock.lock.user().set_sndbuf(5_000, u32::MAX);
    assert_eq!(
        (lab.send(&sock, &[1; 100]), lab.send(&sock, &[1; 8_000])),
        (100, 8_000),
        "the last packet is filled up"
    );
    assert!(!lab.stack.readiness(&sock, lab.now).writable);
    sent(&mut lab);
}

#[test]
fn urgent_bytes_leave_in_segments_of_their_own_and_at_once() {
    let (mut lab, sock, mut peer) = connected(Lab::new(), 10);
    lab.send(&sock, &[0; 2_000]);
    sent(&mut lab);
    lab.wait(20);
    lab.stack.send_urgent(&sock, &vec![1; 3 * MSS as usize], false, lab.now);
    let urgent = sent(&mut lab);
    let psh = |one: &Sent| one.flags.contains(TcpFlags::PSH);
    assert_eq!(urgent.iter().map(psh).collect::<Vec<_>>(), [false, false, true], "no super-frame ends before the last");
    assert!(urgent.iter().all(|one| one.flags.contains(TcpFlags::URG) && one.payload.len() == MSS as usize));
    // Beyond the mark segments are single as well, until the mark is acknowledged.
    lab.send(&sock, &vec![2; 2 * MSS as usize]);
    assert_eq!(sent(&mut lab).iter().map(|one| one.flags).collect::<Vec<_>>(), [ACK, PSH_ACK]);
    peer.ack = sock.lock.user().tx.snd_nxt;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(info(&lab, &sock).unacked, 0);
}

#[test]
fn the_pointer_names_the_urgent_byte_itself_where_the_host_is_told_so() {
    for (stdurg, byte) in [(false, b'b'), (true, b'c')] {
        let (mut lab, sock, peer) = connected(Lab::with(|config| config.sysctl.tcp_stdurg = stdurg), 0);
        let mut repr = peer.repr(TcpFlags(TcpFlags::URG.0 | TcpFlags::ACK.0));
        repr.urgent = 2;
        lab.segment(repr, b"abcd");
        assert_eq!(lab.stack.recv_urgent(&sock, false, lab.now), Ok(byte));
        sent(&mut lab);
    }
}

#[test]
fn a_peek_stops_at_the_mark_of_an_inline_byte_and_acknowledges_as_a_read_does() {
    let (mut lab, sock, mut peer) = connected(Lab::new(), 0);
    sock.lock.user().rx.urgent.inline = true;
    let mut repr = peer.repr(TcpFlags(TcpFlags::URG.0 | TcpFlags::ACK.0));
    repr.urgent = 3;
    lab.segment(repr, b"abcd");
    peer.seq += 4;
    let mut buf = [0; 10];
    assert_eq!(lab.stack.peek(&sock, &mut buf, false, lab.now).ok(), Some(2));
    assert_eq!(lab.recv(&sock, 10).unwrap(), b"ab");
    assert_eq!(lab.stack.peek(&sock, &mut buf, false, lab.now).ok(), Some(2), "there it is read on");
    lab.recv(&sock, 10).unwrap();
    sent(&mut lab);
    // More than a segment's worth that nobody has acknowledged.
    sock.lock.user().ack.pingpong = true;
    peer.data(&mut lab, &[1; 150]);
    lab.expect_nothing();
    sock.lock.user().ack.rcv_mss = 100;
    assert_eq!(lab.stack.peek(&sock, &mut buf, false, lab.now).ok(), Some(10));
    assert_eq!(lab.expect(ACK).ack, peer.seq);
}

#[test]
fn quick_acks_are_as_many_as_half_a_window_has_segments_and_two_if_it_has_none() {
    let (_lab, sock, _) = connected(Lab::new(), 0);
    let mut sk = sock.lock.user();
    for (window, granted) in [(2_896, 1), (2_895, 2), (28_960, 10), (65_535, 16)] {
        (sk.ack.quick, sk.ack.rcv_mss, sk.rx.rcv_wnd) = (0, 1_448, window);
        sk.incr_quickack(16);
        assert_eq!(sk.ack.quick, granted, "of a window of {window}");
    }
}

#[test]
fn a_fin_may_stand_just_behind_the_edge_of_the_window() {
    for (beyond, taken) in [(0, true), (1, false)] {
        let (mut lab, sock, mut peer) = connected(Lab::new(), 0);
        peer.data(&mut lab, &[1; 100]);
        sent(&mut lab);
        let edge = sock.lock.user().rx.right_edge();
        let mut repr = peer.repr(FIN_ACK);
        repr.seq = edge - 10 + beyond;
        lab.segment(repr, &[2; 10]);
        assert_eq!(!sock.lock.user().rx.ofo.is_empty(), taken, "the data ends {beyond} bytes behind the edge");
        assert_eq!(lab.dropped(DropReason::TcpInvalidEndSequence), u64::from(!taken));
        assert_eq!(lab.count(Counter::TcpExtBeyondWindow), u64::from(!taken));
        sent(&mut lab);
    }
}

#[test]
fn a_probe_is_no_repair_and_pushes_only_what_was_pushed() {
    let (mut lab, sock, mut peer) = connected(Lab::new(), 10);
    let at = |lab: &Lab| info(lab, &sock);
    lab.send(&sock, &vec![1; 2 * MSS as usize]);
    sent(&mut lab);
    lab.wait(40);
    assert_eq!(sent(&mut lab).len(), 1, "the last segment again");
    assert_eq!((at(&lab).retrans, at(&lab).total_retrans, at(&lab).unacked), (0, 1, 2), "nothing is known to be lost");
    peer.ack += 2 * MSS;
    lab.segment(peer.repr(ACK), &[]);
    // More than the congestion window: the probe is new data, and the call does not end there.
    let (mut lab, sock, _) = connected(Lab::new(), 10);
    lab.send(&sock, &vec![1; 20 * MSS as usize]);
    assert_eq!(sent(&mut lab).len(), 10);
    lab.wait(40);
    let probe = sent(&mut lab);
    assert_eq!(probe.iter().map(|one| one.flags).collect::<Vec<_>>(), [ACK]);
    let (mut lab, sock, _) = connected(Lab::with(|config| config.sysctl.tcp_early_retrans = 0), 10);
    lab.send(&sock, &[1; 100]);
    sent(&mut lab);
    lab.wait(40);
    lab.expect_nothing();
    assert_eq!(info(&lab, &sock).snd_ssthresh, TcpInfo::NO_SSTHRESH);
}

#[test]
fn the_end_of_a_super_frame_is_not_pushed_when_it_goes_again_by_itself() {
    let (mut lab, sock, peer) = connected(Lab::new(), 10);
    lab.send(&sock, &vec![1; 10 * MSS as usize]);
    let first = sent(&mut lab);
    let pushed = first.iter().position(|one| one.flags.contains(TcpFlags::PSH)).expect("the first super-frame ends");
    assert!(pushed < 9);
    lab.wait(10);
    let mut repr = peer.repr(ACK);
    repr.options.set_sack([(peer.ack + 5 * MSS, peer.ack + 10 * MSS)]);
    lab.segment(repr, &[]);
    lab.wait(300);
    let again = sent(&mut lab);
    assert!(again.len() > 1 && again.iter().all(|one| one.flags == ACK), "{:?}", again.first());
}

#[test]
fn a_doubtful_duplicate_counts_as_received_and_as_doubtful() {
    let (mut lab, _sock, peer) = connected(Lab::new(), 10);
    let mut repr = peer.repr(ACK);
    repr.options.set_sack([(SeqNum(peer.ack.0.wrapping_sub(500)), peer.ack)]);
    lab.segment(repr, &[]);
    let counts = [Counter::TcpExtTCPDSACKRecv, Counter::TcpExtTCPDSACKIgnoredDubious, Counter::TcpExtTCPDSACKRecvSegs];
    assert_eq!(counts.map(|counter| lab.count(counter)), [1, 1, 0]);
}

#[test]
fn a_closed_window_does_not_keep_urgency_from_the_peer() {
    const URG_ACK: TcpFlags = TcpFlags(TcpFlags::URG.0 | TcpFlags::ACK.0);
    for (before, expected) in [(65_534, vec![(0, URG_ACK), (-1, URG_ACK)]), (65_535, vec![(-1, URG_ACK)])] {
        let (mut lab, sock, mut peer) = connected(Lab::new(), 10);
        sock.lock.user().tx.sndbuf = 1 << 20;
        peer.window = 0;
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!(lab.send(&sock, &vec![1; before]), before);
        lab.stack.send_urgent(&sock, b"!", false, lab.now);
        lab.wait(230);
        let probes: Vec<_> = sent(&mut lab).iter().map(|one| (one.seq - peer.ack, one.flags)).collect();
        assert_eq!(probes, expected, "so far as the pointer reaches");
        assert_eq!(lab.count(Counter::TcpExtTCPWinProbe), expected.len() as u64);
    }
}

#[test]
fn what_a_probe_leaves_of_its_packet_is_pushed() {
    let (mut lab, sock, mut peer) = connected(Lab::new(), 10);
    for window in [0, 1] {
        peer.window = window;
        lab.segment(peer.repr(ACK), &[]);
    }
    // More is said to follow: nothing else would push it.
    let more = Ending { more: true, record: false };
    lab.stack.send_with(&sock, &[1; 1_000], more, false, lab.now);
    lab.run();
    assert_eq!(sent(&mut lab), []);
    lab.wait(250);
    let probe = sent(&mut lab).pop().expect("a window of so many bytes");
    assert_eq!((probe.payload.len(), probe.flags), (128, PSH_ACK));
    (peer.ack, peer.window) = (probe.seq + 128, 60_000);
    lab.segment(peer.repr(ACK), &[]);
    let rest: Vec<_> = sent(&mut lab).iter().map(|one| (one.payload.len(), one.flags)).collect();
    assert_eq!(rest, [(872, PSH_ACK)]);
}

/// How long the stack waits, in turn, before it sends so many segments by itself.
fn waits(lab: &mut Lab, count: usize) -> Vec<u64> {
    let mut last = lab.now;
    std::iter::from_fn(|| {
        while lab.sent().is_none() {
            lab.wait(1);
        }
        let waited = (lab.now - last) / MS;
        last = lab.now;
        Some(waited)
    })
    .take(count)
    .collect()
}

#[test]
fn doublings_by_timeouts_count_for_probes_of_the_window_again() {
    let (mut lab, sock, mut peer) = connected(Lab::with(|config| config.sysctl.tcp_early_retrans = 0), 0);
    lab.send(&sock, &[1; 100]);
    sent(&mut lab);
    lab.wait(250);
    assert_eq!(sent(&mut lab).len(), 1, "a timeout, of which the acknowledgement is no sample");
    peer.ack += 100;
    peer.window = 0;
    lab.segment(peer.repr(ACK), &[]);
    lab.send(&sock, &[1; 100]);
    let waited = waits(&mut lab, 3);
    let like = |waited: u64, doublings: u64| (200 * doublings..212 * doublings).contains(&waited);
    assert!(like(waited[0], 2) && like(waited[1], 8) && like(waited[2], 16), "{waited:?}");
    // What finds room waits as if there had been no probes.
    sock.lock.user().tx.snd_wnd = 10;
    while info(&lab, &sock).unacked == 0 {
        lab.wait(1);
    }
    assert_eq!((sent(&mut lab).len(), info(&lab, &sock).backoff, info(&lab, &sock).probes), (1, 0, 0));
    let waited = waits(&mut lab, 1);
    assert!(like(waited[0], 2), "{waited:?}");
}

#[test]
fn idleness_is_seen_when_something_is_written_and_when_the_window_changes_under_it() {
    let cwnd = |lab: &Lab, sock: &Sock| info(lab, sock).snd_cwnd;
    // The window is too small for the segment, which goes in part as a probe.
    let closed = || {
        let (mut lab, sock, mut peer) = connected(Lab::new(), 10);
        for window in [0, 1] {
            peer.window = window;
            lab.segment(peer.repr(ACK), &[]);
        }
        // Nothing has grown, or the window would shrink for not being used.
        (sock.lock.user().cong.cwnd, sock.lock.user().cong.stamp) = (14, lab.now);
        (lab, sock, peer)
    };
    let (mut lab, sock, _) = closed();
    lab.send(&sock, &[1; 1_000]);
    lab.wait(240);
    assert_eq!(sent(&mut lab).iter().map(|one| one.payload.len()).collect::<Vec<_>>(), [128]);
    assert_eq!(cwnd(&lab, &sock), 14, "written at once, sent late");
    let (mut lab, sock, _) = closed();
    lab.wait(240);
    lab.send(&sock, &[1; 1_000]);
    assert_eq!(cwnd(&lab, &sock), 10, "written late");
    let (mut lab, sock, mut peer) = closed();
    lab.send(&sock, &[1; 1_000]);
    sock.lock.user().tx.last_sent = Time(lab.now.0.saturating_sub(300 * MS));
    peer.window = 2;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(cwnd(&lab, &sock), 10, "the window changes late");
    sent(&mut lab);
}

#[test]
fn new_bytes_behind_old_ones_find_a_closed_window_closed() {
    let (mut lab, sock, mut peer) = connected(Lab::new(), 0);
    peer.data(&mut lab, &[1; 100]);
    sent(&mut lab);
    {
        let mut sk = sock.lock.user();
        (sk.rx.rcv_wnd, sk.rx.rcv_wup) = (0, sk.rx.rcv_nxt);
        sk.rx.rcv_ssthresh = 0;
        sk.pred_flags = 0;
    }
    peer.data_at(&mut lab, -10, &[2; 10]);
    assert_eq!(lab.count(Counter::TcpExtTCPZeroWindowDrop), 0, "nothing new in it");
    lab.recv(&sock, 1_000).expect("bytes");
    peer.data_at(&mut lab, -10, &[2; 20]);
    assert_eq!(lab.count(Counter::TcpExtTCPZeroWindowDrop), 1);
    assert_eq!(lab.dropped(DropReason::TcpZerowindow), 1);
    sent(&mut lab);
}

#[test]
fn whether_a_near_peer_is_waited_for_hangs_on_the_time_that_a_write_takes() {
    for (nanoseconds, segments) in [(0, 6), (12_000, 4)] {
        let (mut lab, sock, _) = narrow(Lab::new(), MSS as u16);
        lab.stack.set_write_time(nanoseconds);
        sock.lock.user().rtt.sample(20_000, SeqNum(0), SeqNum(1));
        lab.send(&sock, &[1; 8_760]);
        assert_eq!(sent(&mut lab).len(), segments);
    }
}

#[test]
fn probes_count_until_the_window_takes_the_whole_packet_or_nothing_is_left_to_send() {
    for (opens, backoff) in [(4, 1), (5, 0)] {
        let (mut lab, sock, mut peer) = connected(Lab::new(), 0);
        peer.window = 0;
        lab.segment(peer.repr(ACK), &[]);
        lab.send(&sock, &[1; 600]);
        lab.wait(250);
        assert_eq!((sent(&mut lab).len(), info(&lab, &sock).backoff), (1, 1));
        // In units of 128 bytes.
        peer.window = opens;
        sock.lock.user().tx.mss = 500;
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!(info(&lab, &sock).backoff, backoff);
        let mut reset = peer.repr(TcpFlags::RST);
        reset.seq = peer.seq;
        lab.segment(reset, &[]);
        assert_eq!((lab.state(&sock), info(&lab, &sock).backoff), (State::Close, 0));
        sent(&mut lab);
    }
}

#[test]
fn a_fin_that_joins_what_waits_out_of_order_is_worth_a_larger_window() {
    for (gap, worth) in [(0, 2 * MSS), (10, 0)] {
        let (mut lab, sock, mut peer) = connected(Lab::new(), 0);
        peer.data_at(&mut lab, 100, &[1; 1_000]);
        let before = sock.lock.user().rx.rcv_ssthresh;
        let mut repr = peer.repr(FIN_ACK);
        repr.seq = peer.seq + 1_100 + gap;
        lab.segment(repr, &[]);
        assert_eq!(sock.lock.user().rx.rcv_ssthresh - before, worth, "{gap} bytes behind it");
        sent(&mut lab);
    }
}

/// A connection whose peer takes so little at a time that packets have two segments, or as many as `mss` fits.
fn narrow(lab: Lab, mss: u16) -> (Lab, Arc<Sock>, Peer) {
    let (lab, sock, mut peer) = connected(lab, 0);
    peer.window = 64;
    {
        let mut sk = sock.lock.user();
        (sk.tx.mss, sk.tx.max_window, sk.tx.snd_wnd) = (mss, 8_192, 8_192);
    }
    (lab, sock, peer)
}

#[test]
fn what_the_first_packet_tells_of_leaves_no_room_in_those_behind_it() {
    // However often the write goes on.
    for lowat in [u32::MAX, 1] {
        let (mut lab, sock, mut peer) = narrow(Lab::new(), MSS as u16);
        sock.lock.user().tx.notsent_lowat = lowat;
        peer.data(&mut lab, &[1; 100]);
        sent(&mut lab);
        (sock.lock.user().ack.quick, sock.lock.user().ack.pingpong) = (0, true);
        peer.data_at(&mut lab, -10, &[1; 20]);
        lab.expect_nothing();
        lab.send(&sock, &vec![2; 4 * MSS as usize]);
        let all = sent(&mut lab);
        let told: Vec<_> = all.iter().map(|one| (one.options.sack_count, one.payload.len())).collect();
        assert_eq!(told, [(1, 1_448), (0, 1_448), (0, 1_448), (0, 1_448), (0, 48)]);
    }
}

#[test]
fn a_write_that_waits_for_what_is_unsent_goes_on_once_it_is_sent() {
    let (mut lab, sock, peer) = narrow(Lab::new(), 536);
    sock.lock.user().tx.notsent_lowat = 1;
    assert_eq!(lab.send(&sock, &[1; 7_375]), 7_375);
    let ends = |lab: &mut Lab| -> Vec<i32> {
        let pushed =
            |one: &Sent| one.flags.contains(TcpFlags::PSH).then(|| one.seq - peer.ack + one.payload.len() as i32);
        sent(lab).iter().filter_map(pushed).collect()
    };
    assert_eq!(ends(&mut lab), [5 * 536, 10 * 536], "super-frames of half the congestion window, and no call ended");
    assert_eq!(lab.send(&sock, &[1; 8_000]), 7 * 536 - 2_015, "the packet is filled, and no other begun");
    assert_eq!(lab.send(&sock, &[1]), 0);
    assert!(ends(&mut lab).is_empty());
    assert_eq!(sock.lock.user().tx.queue.front().map(|packet| packet.psh), Some(true), "there the call has ended");
}

#[test]
fn a_packet_is_filled_before_what_is_unsent_lets_another_begin() {
    let (mut lab, sock, _) = narrow(Lab::new(), MSS as u16);
    sock.lock.user().tx.notsent_lowat = 1_910;
    let full = MSS as usize;
    assert_eq!(lab.send(&sock, &vec![1; 5 * full]), 5 * full);
    assert_eq!(sent(&mut lab).len(), 5);
    assert_eq!(lab.send(&sock, &vec![1; full]), full);
    assert!(sent(&mut lab).is_empty(), "beyond the window");
    assert_eq!(lab.send(&sock, &vec![1; 4 * full]), full, "as much as a packet of two segments lacks");
}

#[test]
fn the_last_quick_acknowledgement_makes_the_data_that_carries_it_an_answer() {
    for (quick, answer) in [(1, true), (2, false)] {
        let (mut lab, sock, _) = connected(Lab::new(), 0);
        {
            // A segment out of order has come that lets the window grow, and its acknowledgement is owed.
            let mut sk = sock.lock.user();
            assert_eq!(sk.ack.ato, 0);
            (sk.ack.quick, sk.ack.scheduled) = (quick, true);
        }
        assert_eq!(lab.send(&sock, &[1; 10]), 10);
        assert_eq!(sent(&mut lab).len(), 1);
        assert_eq!(sock.lock.user().ack.pingpong, answer, "{quick} quick ones");
    }
}
