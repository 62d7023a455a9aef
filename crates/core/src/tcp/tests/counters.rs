//! Counters that need a cause of their own: each is seen to move by it, and by nothing that is like it.

use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{Addr, TcpFlags, TcpRepr, ipv4, tcp as wire_tcp};

use super::lab::{ACK, FIN_ACK, Lab, PEER, PSH_ACK, Peer, SYN, SYN_ACK};
use crate::nic::Xmit;
use crate::socket::Sock;
use crate::stack::StackConfig;
use crate::tcp::SockOptions;

fn connected(change: impl FnOnce(&mut StackConfig), stamps: Option<(u32, u32)>) -> (Lab, Peer, Arc<Sock>) {
    let mut lab = Lab::with(change);
    let listener = lab.listen(80, 200);
    let mut peer = Peer { stamps, ..Peer::new(40_000, 80) };
    let sock = peer.connect(&mut lab, &listener);
    (lab, peer, sock)
}

fn counts<const N: usize>(lab: &Lab, counters: [Counter; N]) -> [u64; N] {
    counters.map(|counter| lab.count(counter))
}

/// As [`Lab::frame`], to another address than ours.
fn frame_to(lab: &mut Lab, dst: [u8; 4], repr: TcpRepr) -> Vec<u8> {
    let mut frame = lab.frame(repr, &[]);
    frame[30..34].copy_from_slice(&dst);
    ipv4::fill_checksum(&mut frame[14..34]);
    wire_tcp::fill_checksum(Addr::from(PEER), Addr::from_v4(dst), &mut frame[34..]);
    frame
}

#[test]
fn a_pool_that_is_dry_fails_retransmissions_and_resets() {
    let mut lab = Lab::with(|config| {
        config.pool = rxpath_mem::PoolConfig { slots: 400, head_slots: 64, large_slots: 8, reserve: 4 };
    });
    let listener = lab.listen(80, 200);
    let socks = [(); 20].map({
        let mut port = 40_000;
        let lab = &mut lab;
        move |()| {
            port += 1;
            Peer::new(port, 80).connect(lab, &listener)
        }
    });
    lab.send(&socks[0], b"nobody takes this");
    lab.expect(PSH_ACK);
    // Resets that the device does not take wait for it, and hold all that there is.
    lab.set_xmit(Xmit::Busy);
    let mut strange = Peer::new(50_000, 81);
    for _ in 0..2_000 {
        strange.seq += 1;
        let frame = lab.frame(strange.repr(SYN), &[]);
        if !lab.offer(0, &frame) {
            break;
        }
        lab.run();
    }
    let counters = [Counter::TcpExtTCPRetransFail, Counter::TcpRetransSegs, Counter::TcpExtTCPAbortFailed];
    assert_eq!(counts(&lab, counters), [0; 3]);
    lab.wait(300);
    assert_eq!(counts(&lab, counters), [1, 0, 0]);
    // A few resets find what is kept for such.
    for sock in &socks {
        lab.stack.abort(sock, lab.now);
        lab.run();
    }
    let failed = lab.count(Counter::TcpExtTCPAbortFailed);
    assert!((1..20).contains(&failed), "{failed} of twenty");
    lab.set_xmit(Xmit::Sent);
    lab.wait(10);
    let left = std::iter::from_fn(|| lab.sent()).filter(|sent| sent.sport == 80 && sent.flags.rst()).count() as u64;
    assert_eq!((left + failed, lab.count(Counter::TcpExtTCPAbortOnData)), (20, 20));
}

#[test]
fn a_window_that_closes_and_opens_is_counted() {
    let counters =
        [Counter::TcpExtTCPToZeroWindowAdv, Counter::TcpExtTCPFromZeroWindowAdv, Counter::TcpExtTCPWantZeroWindowAdv];
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    listener.set_options(SockOptions { recv_buffer: Some(4_096), ..SockOptions::default() });
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    // The windows are those that Linux 6.18 offered.
    for (window, to_zero) in [(2_920, 0), (1_460, 0), (0, 1), (0, 1)] {
        let before = lab.count(Counter::TcpExtBeyondWindow);
        lab.segment(peer.repr(PSH_ACK), &[1; 1_460]);
        lab.wait(60);
        assert_eq!(lab.expect(ACK).window, window);
        assert_eq!(counts(&lab, counters), [to_zero, 0, 0]);
        if lab.count(Counter::TcpExtBeyondWindow) == before {
            peer.seq += 1_460;
        }
    }
    assert_eq!(lab.recv(&sock, 100_000).unwrap().len(), 4_380);
    assert_eq!(lab.expect(ACK).window, 2_920);
    assert_eq!(counts(&lab, counters), [1, 1, 0]);
}

#[test]
fn a_window_that_should_be_closed_and_may_not_is_counted() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    listener.set_options(SockOptions { recv_buffer: Some(4_096), ..SockOptions::default() });
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    // Small segments cost more than the window says: the buffer is full before it is.
    for _ in 0..30 {
        let wants_none = {
            let sk = sock.lock.user();
            let free = (i64::from(sk.rx.rcvbuf) - i64::from(sk.rx.rmem_alloc)).max(0) as u32 / 2;
            free < u32::from(sk.ack.rcv_mss).min(sk.rx.rcvbuf / 2)
        };
        let (before, edge) = (lab.count(Counter::TcpExtTCPWantZeroWindowAdv), sock.lock.user().rx.right_edge());
        if wants_none {
            lab.segment(peer.repr(ACK), &[]);
            lab.stack.kick(&sock, crate::socket::post::ACK, lab.now);
            assert_eq!(lab.expect(ACK).window, (edge - peer.seq) as u16, "what was offered stands");
            assert_eq!(lab.count(Counter::TcpExtTCPWantZeroWindowAdv), before + 1);
            assert_eq!(lab.count(Counter::TcpExtTCPToZeroWindowAdv), 0);
            return;
        }
        peer.data(&mut lab, &[1; 100]);
        while lab.sent().is_some() {}
    }
    panic!("the buffer was never full");
}

#[test]
fn one_mini_socket_too_many_is_closed_at_once() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_max_tw_buckets = 1);
    let listener = lab.listen(80, 8);
    // As Linux 6.18 has it: the second FIN is acknowledged, and nothing is remembered of it.
    for (port, overflows) in [(40_000, 0), (40_001, 1)] {
        let mut peer = Peer::new(port, 80);
        let sock = peer.connect(&mut lab, &listener);
        lab.close(&sock);
        peer.ack = lab.expect(FIN_ACK).seq + 1;
        lab.segment(peer.repr(FIN_ACK), &[]);
        peer.seq += 1;
        assert_eq!(lab.expect(ACK).ack, peer.seq);
        assert_eq!(counts(&lab, [Counter::TcpExtTW, Counter::TcpExtTCPTimeWaitOverflow]), [1, overflows]);
        peer.seq -= 1;
        lab.segment(peer.repr(FIN_ACK), &[]);
        lab.expect(if overflows == 0 { ACK } else { TcpFlags::RST });
    }
}

#[test]
fn answers_to_what_is_out_of_place_are_limited_each_by_its_name() {
    let skipped =
        [Counter::TcpExtTCPACKSkippedSeq, Counter::TcpExtTCPACKSkippedPAWS, Counter::TcpExtTCPACKSkippedChallenge];
    let (mut lab, mut peer, _sock) = connected(|_| {}, Some((100_000, 0)));
    peer.data(&mut lab, b"x");
    peer.note(&lab.expect(ACK));
    let mut beyond = peer.repr(ACK);
    beyond.seq += 1 << 28;
    let mut past = peer.repr(ACK);
    past.options.timestamps = past.options.timestamps.map(|(tsval, echo)| (tsval - 50_000, echo));
    let mut reset = peer.repr(TcpFlags::RST);
    reset.seq += 100;
    for (nth, repr) in [beyond, past, reset].into_iter().enumerate() {
        let mut want = counts(&lab, skipped);
        lab.segment(repr, &[]);
        lab.expect(ACK);
        assert_eq!(counts(&lab, skipped), want);
        lab.segment(repr, &[]);
        lab.expect_nothing();
        want[nth] += 1;
        assert_eq!(counts(&lab, skipped), want);
        lab.wait(600);
    }
    assert_eq!(
        counts(&lab, [Counter::TcpExtBeyondWindow, Counter::TcpExtPAWSEstab, Counter::TcpExtTCPChallengeACK]),
        [2, 2, 1]
    );
}

#[test]
fn what_is_of_the_past_counts_by_what_it_meets() {
    let counters = [Counter::TcpExtPAWSOldAck, Counter::TcpExtPAWSEstab, Counter::TcpExtPAWSTimewait];
    let (mut lab, mut peer, sock) = connected(|_| {}, Some((100_000, 0)));
    peer.data(&mut lab, b"0123456789");
    peer.note(&lab.expect(ACK));
    // An acknowledgement from before that data, which something on the way held.
    let mut past = peer.repr(ACK);
    past.seq = peer.seq - 10;
    past.options.timestamps = Some((50_000, 0));
    lab.segment(past, &[]);
    lab.expect_nothing();
    assert_eq!((counts(&lab, counters), lab.dropped(DropReason::TcpRfc7323PawsAck)), ([1, 0, 0], 1));
    lab.recv(&sock, 100).unwrap();
    lab.close(&sock);
    peer.ack = lab.expect(FIN_ACK).seq + 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    let mut past = peer.repr(ACK);
    past.options.timestamps = Some((50_000, 0));
    lab.segment(past, &[]);
    assert_eq!(lab.expect(ACK).ack, peer.seq + 1);
    assert_eq!(counts(&lab, counters), [1, 0, 1]);
}

#[test]
fn an_acknowledgement_that_was_expected_takes_the_short_way() {
    let counters = [Counter::TcpExtTCPHPAcks, Counter::TcpExtTCPPureAcks];
    let (mut lab, mut peer, sock) = connected(|_| {}, None);
    let before = counts(&lab, counters);
    // One that tells of another window does not, and those behind it do again.
    for (window, hits, pure) in [(64_240, 1, 0), (64_240, 2, 0), (64_000, 2, 1), (64_000, 3, 1)] {
        peer.window = window;
        lab.send(&sock, b"words");
        lab.expect(PSH_ACK);
        peer.ack += 5;
        lab.segment(peer.repr(ACK), &[]);
        let now = counts(&lab, counters);
        assert_eq!([now[0] - before[0], now[1] - before[1]], [hits, pure]);
    }
}

#[test]
fn a_namespace_sends_so_many_challenges_in_a_second() {
    let (mut lab, _, _sock) = connected(
        |config| {
            config.sysctl.tcp_challenge_ack_limit = 1;
            config.sysctl.tcp_invalid_ratelimit = 0;
        },
        None,
    );
    // Of three connections, and of three that are half open: the first of each second.
    let listener = lab.listen(90, 8);
    let mut resets = Vec::new();
    for port in 0..3 {
        let mut peer = Peer::new(41_000 + port, 90);
        let _ = peer.connect(&mut lab, &listener);
        resets.push(TcpRepr { seq: peer.seq + 100, ..peer.repr(TcpFlags::RST) });
    }
    for port in 0..3 {
        let peer = Peer::new(42_000 + port, 90);
        lab.segment(peer.repr(SYN), &[]);
        lab.expect(SYN_ACK);
        resets.push(TcpRepr { seq: peer.seq + 100, ..peer.repr(TcpFlags::RST) });
    }
    for (second, turn) in [(2_000, 0), (3_000, 3)] {
        lab.now = rxpath_trace::Time::from_millis(second);
        resets.rotate_left(turn);
        for &reset in &resets {
            lab.segment(reset, &[]);
        }
        let challenged = std::iter::from_fn(|| lab.sent()).filter(|sent| sent.flags == ACK).count() as u64;
        assert_eq!((challenged, lab.count(Counter::TcpExtTCPChallengeACK)), (1, second / 1_000 - 1));
    }
    assert_eq!(lab.count(Counter::TcpExtTCPACKSkippedChallenge), 0, "that is of who sends too many of his own");
}

#[test]
fn a_syn_for_many_is_dropped_before_anything_else() {
    let counters = [
        Counter::TcpInSegs,
        Counter::TcpExtListenDrops,
        Counter::TcpExtTCPReqQFullDoCookies,
        Counter::IpOutNoRoutes,
        Counter::TcpOutSegs,
        Counter::TcpOutRsts,
    ];
    for (dst, cookies) in [([10, 0, 0, 255], 1), ([255; 4], 1), ([224, 0, 0, 1], 1), ([10, 0, 0, 255], 2)] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_syncookies = cookies);
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], 80));
        let listener = lab.stack.listen(any, 8).expect("the port is free");
        let mut peer = Peer::new(40_000, 80);
        // The frame is for us alone, or it would not be TCP's.
        for (flags, want) in [
            (SYN, [1, 1, 0, 0, 0, 0]),
            (TcpFlags::RST, [2, 1, 0, 0, 0, 0]),
            // The kernel counts a reset that it cannot send.
            (ACK, [3, 1, 0, 0, 1, 1]),
        ] {
            peer.ack.0 = 1;
            let frame = frame_to(&mut lab, dst, peer.repr(flags));
            lab.put(&frame);
            lab.run();
            assert_eq!(counts(&lab, counters), want, "{flags:?} to {dst:?}");
            assert_eq!(lab.raw(), None);
        }
        assert_eq!((listener.requests(), lab.dropped(DropReason::NotSpecified)), (0, 1));
        // Where nobody listens nothing is counted.
        peer.dport = 81;
        let frame = frame_to(&mut lab, dst, peer.repr(SYN));
        lab.put(&frame);
        lab.run();
        assert_eq!(counts(&lab, counters), [4, 1, 0, 0, 1, 1]);
        assert_eq!((lab.raw(), lab.dropped(DropReason::NoSocket)), (None, 1));
    }
}

#[test]
fn whom_the_accept_queue_has_no_room_for_may_be_reset() {
    let counters =
        [Counter::TcpExtListenOverflows, Counter::TcpExtListenDrops, Counter::TcpExtEmbryonicRsts, Counter::TcpOutRsts];
    for (aborts, answers) in [(false, 0), (true, 1)] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_abort_on_overflow = aborts);
        let listener = lab.listen(80, 1);
        let half_open = |lab: &mut Lab, port| {
            let mut peer = Peer::new(port, 80);
            lab.segment(peer.repr(SYN), &[]);
            (peer.ack, peer.seq) = (lab.expect(SYN_ACK).seq + 1, peer.seq + 1);
            peer
        };
        let [first, second] = [40_000, 40_001].map(|port| half_open(&mut lab, port));
        lab.segment(first.repr(ACK), &[]);
        let third = half_open(&mut lab, 40_002);
        lab.segment(second.repr(ACK), &[]);
        assert_eq!(counts(&lab, counters), [0; 4]);
        lab.segment(third.repr(ACK), &[]);
        assert_eq!(counts(&lab, counters), [1, 1, answers, answers]);
        assert_eq!(u64::from(listener.requests()), 1 - answers, "it waits for room, or is gone");
        if aborts {
            assert_eq!(lab.expect(TcpFlags::RST).seq, third.ack);
        }
        lab.expect_nothing();
        assert_eq!(lab.dropped(DropReason::TcpListenOverflow), 1);
    }
}

#[test]
fn a_window_shrinks_with_memory_where_it_may() {
    // Segments of 100 bytes that nobody reads: the windows that Linux 6.18 offered, without the tunable and with it.
    let offered = |shrinks: bool, scales: bool| {
        let mut lab = Lab::with(|config| {
            config.sysctl.tcp_shrink_window = shrinks;
            config.sysctl.tcp_window_scaling = scales;
        });
        let listener = lab.listen(80, 8);
        let mut peer = Peer::new(40_000, 80);
        let sock = peer.connect(&mut lab, &listener);
        let mut windows = Vec::new();
        for _ in 0..16 {
            lab.segment(peer.repr(ACK), &[1; 100]);
            peer.seq += 100;
            windows.push(u32::from(lab.expect(ACK).window) << sock.lock.user().opts.rcv_wscale);
        }
        windows
    };
    let steps = [(3, 64_512), (3, 63_488), (4, 62_464), (3, 61_440), (3, 60_416)];
    let shrunk: Vec<u32> = steps.iter().flat_map(|&(times, window)| vec![window; times]).collect();
    assert_eq!(offered(false, true), [64_512; 16]);
    assert_eq!(offered(true, true), shrunk);
    assert_eq!(offered(true, false), offered(false, false), "without scaling it does not");
}
