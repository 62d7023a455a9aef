//! What applications set, as it shows on the wire.

use rxpath_trace::Counter;
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, Peer, SYN, SYN_ACK};
use crate::stack::RecvError;
use crate::sysctl::Sysctls;
use crate::tcp::{Keepalive, Linger2, OutOfRange, SockError, SockOptions, State};

fn inherited(options: SockOptions) -> (Lab, std::sync::Arc<crate::socket::Sock>, Peer) {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    listener.set_options(options);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    (lab, sock, peer)
}

#[test]
fn a_small_buffer_bounds_the_first_window_and_its_scale() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    listener.set_options(SockOptions { recv_buffer: Some(2_000), ..SockOptions::default() });
    let mut syn = Peer::new(40_000, 80).repr(SYN);
    syn.options.mss = Some(1_460);
    syn.options.wscale = Some(7);
    lab.segment(syn, &[]);
    let answer = lab.expect(SYN_ACK);
    // As Linux answers with SO_RCVBUF 2000.
    assert_eq!((answer.window, answer.options.wscale), (1_460, Some(0)));
}

#[test]
fn the_largest_segment_is_announced_and_kept() {
    let options = SockOptions { max_segment: Some(600), ..SockOptions::default() };
    let (mut lab, sock, _) = inherited(options);
    assert_eq!(lab.send(&sock, &[7; 1_500]), 1_500);
    let lengths: Vec<_> = std::iter::from_fn(|| lab.sent()).map(|sent| sent.payload.len()).collect();
    assert_eq!(lengths, [600, 600, 300]);
    let remote = std::net::SocketAddr::from((super::lab::PEER, 81));
    let _sock = lab.stack.connect_with(Some(5_000), remote, &options, lab.now).expect("a way");
    lab.run();
    assert_eq!(lab.expect(SYN).options.mss, Some(600));
}

#[test]
fn what_a_peer_says_of_its_segments_is_bounded_and_what_it_does_not_say_is_not() {
    // Measured on Linux 6.18; what is set on a connection that stands changes nothing.
    for (announced, longest) in [(Some(1_460), 300), (Some(200), 200), (None, 536)] {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        listener.set_options(SockOptions { max_segment: Some(300), ..SockOptions::default() });
        let mut peer = Peer::new(40_000, 80);
        let mut syn = peer.repr(SYN);
        syn.options.mss = announced;
        lab.segment(syn, &[]);
        let answer = lab.expect(SYN_ACK);
        assert_eq!(answer.options.mss, Some(300));
        (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
        lab.segment(peer.repr(ACK), &[]);
        let sock = lab.stack.accept(&listener).expect("a connection");
        lab.stack.with(&sock, 0, lab.now, |sk| sk.set_max_segment(100)).expect("it is in range");
        assert_eq!(lab.send(&sock, &[7; 1_500]), 1_500);
        assert_eq!(lab.sent().map(|sent| sent.payload.len()), Some(longest), "of a peer that says {announced:?}");
        while lab.sent().is_some() {}
    }
}

#[test]
fn who_connects_is_believed_of_segments_where_the_peer_says_nothing() {
    // Measured on Linux 6.18: what is said, the peer says, and what comes of it.
    let cases = [(0, None, 536), (0, Some(200), 200), (300, None, 300), (300, Some(1_460), 300)];
    for (own, announced, longest) in cases.into_iter().chain([(300, Some(200), 200), (1_000, None, 1_000)]) {
        let mut lab = Lab::new();
        let options = SockOptions { max_segment: Some(own), ..SockOptions::default() };
        let remote = std::net::SocketAddr::from((super::lab::PEER, 81));
        let sock = lab.stack.connect_with(None, remote, &options, lab.now).expect("a way");
        lab.run();
        let syn = lab.expect(SYN);
        let mut peer = Peer::new(81, syn.sport);
        peer.ack = syn.seq + 1;
        let mut answer = peer.repr(SYN_ACK);
        answer.options.mss = announced;
        lab.segment(answer, &[]);
        lab.expect(ACK);
        assert_eq!(lab.send(&sock, &[7; 1_500]), 1_500);
        let first = lab.sent().map(|sent| sent.payload.len());
        assert_eq!(first, Some(longest), "{own}, of a peer that says {announced:?}");
        while lab.sent().is_some() {}
    }
}

#[test]
fn a_cookie_remembers_no_segment_below_536_bytes() {
    // Measured on Linux 6.18.
    let mut lab =
        Lab::with(|config| config.sysctl.set("net.ipv4.tcp_syncookies", "2").expect("there is such a tunable"));
    for (own, announced) in [(100, Some(1_460)), (300, None), (1_000, Some(1_460)), (0, Some(200))] {
        let listener = lab.listen(80, 8);
        listener.set_options(SockOptions { max_segment: Some(own), ..SockOptions::default() });
        let mut peer = Peer::new(40_000 + own, 80);
        let mut syn = peer.repr(SYN);
        syn.options.mss = announced;
        lab.segment(syn, &[]);
        (peer.seq, peer.ack) = (peer.seq + 1, lab.expect(SYN_ACK).seq + 1);
        lab.segment(peer.repr(ACK), &[]);
        let sock = lab.stack.accept(&listener).expect("a connection");
        assert_eq!(lab.send(&sock, &[7; 1_500]), 1_500);
        assert_eq!(lab.sent().map(|sent| sent.payload.len()), Some(536), "{own}, of a peer that says {announced:?}");
        while lab.sent().is_some() {}
        lab.stack.close_listener(&listener, lab.now);
    }
}

#[test]
fn syns_are_sent_again_as_often_as_the_application_wants() {
    let mut lab = Lab::new();
    let options = SockOptions { syn_retries: Some(1), ..SockOptions::default() };
    let remote = std::net::SocketAddr::from((super::lab::PEER, 81));
    let sock = lab.stack.connect_with(None, remote, &options, lab.now).expect("a way");
    lab.wait(60_000);
    // One, and the four that are sent again without doubling the timeout.
    assert_eq!(std::iter::from_fn(|| lab.sent()).filter(|sent| sent.flags == SYN).count(), 1 + 1 + 4);
    let outcome = lab.stack.connected(&sock, false, lab.now).0;
    assert_eq!(outcome, Some(Err(SockError::TimedOut)));
    let listener = lab.listen(80, 8);
    listener.set_options(options);
    lab.segment(Peer::new(40_000, 80).repr(SYN), &[]);
    lab.wait(60_000);
    assert_eq!(std::iter::from_fn(|| lab.sent()).filter(|sent| sent.flags == SYN_ACK).count(), 2);
}

#[test]
fn linger2_says_how_long_an_orphan_waits() {
    let orphan = |linger2| {
        let (mut lab, sock, mut peer) = inherited(SockOptions { linger2, ..SockOptions::default() });
        lab.stack.shutdown_write(&sock, lab.now);
        lab.run();
        peer.ack = lab.expect(FIN_ACK).seq + 1;
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!(lab.state(&sock), State::FinWait2);
        lab.close(&sock);
        (lab, peer)
    };
    let (mut lab, _) = orphan(Linger2::Never);
    assert!(lab.sent().is_some_and(|sent| sent.flags.rst()));
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnLinger), 1);
    let (mut lab, peer) = orphan(Linger2::Seconds(5));
    lab.wait(4_900);
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    let (mut lab, peer) = orphan(Linger2::Seconds(5));
    lab.wait(5_100);
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(TcpFlags::RST);
    let (mut lab, peer) = orphan(Linger2::Seconds(0));
    lab.wait(59_000);
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
}

#[test]
fn a_connection_that_stands_refuses_what_is_out_of_range_and_keeps_what_it_has() {
    let (lab, sock, _) = inherited(SockOptions::default());
    let (now, sysctl) = (lab.now, Sysctls::default());
    let fine = Keepalive { idle_s: Some(32_767), interval_s: Some(1), probes: Some(127) };
    lab.stack.with(&sock, 0, now, |sk| {
        assert_eq!(sk.set_keepalive(Some(fine), &sysctl, now), Ok(()));
        for (wrong, option, value, range) in [
            (Keepalive { idle_s: Some(0), ..fine }, "TCP_KEEPIDLE", 0, (1, 32_767)),
            (Keepalive { interval_s: Some(32_768), ..fine }, "TCP_KEEPINTVL", 32_768, (1, 32_767)),
            (Keepalive { probes: Some(128), ..fine }, "TCP_KEEPCNT", 128, (1, 127)),
        ] {
            assert_eq!(sk.set_keepalive(Some(wrong), &sysctl, now), Err(OutOfRange { option, value, range }));
        }
        assert_eq!((sk.live.on, sk.live.settings), (true, fine));
        assert_eq!(sk.set_user_timeout(i32::MAX as u32), Ok(()));
        assert!(sk.set_user_timeout(1 << 31).is_err());
        assert_eq!(sk.live.user_timeout_ms, i32::MAX as u32);
        let clamp = sk.rx.window_clamp;
        assert!(sk.clamp_window_to(0).is_err());
        assert_eq!(sk.rx.window_clamp, clamp);
        assert_eq!(sk.set_max_segment(0), Ok(()));
        assert!(sk.set_max_segment(87).is_err());
    });
}

#[test]
fn a_clamp_bounds_what_the_handshake_offers() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    listener.set_options(SockOptions { window_clamp: Some(8_192), ..SockOptions::default() });
    let mut peer = Peer::new(40_000, 80);
    let mut syn = peer.repr(SYN);
    syn.options.mss = Some(1_460);
    syn.options.wscale = Some(7);
    lab.segment(syn, &[]);
    let answer = lab.expect(SYN_ACK);
    assert_eq!((answer.window, answer.options.wscale), (7_300, Some(0)));
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("a connection");
    // Once segments tell how much of a charge is payload, the clamp is derived anew: so it is in Linux 6.18.
    peer.data(&mut lab, &[1; 1_400]);
    assert_eq!(lab.expect(ACK).window, 9_800);
    let clamp = |lab: &Lab, bytes| {
        lab.stack.with(&sock, 0, lab.now, |sk| {
            sk.set_window_clamp(bytes);
            (sk.rx.window_clamp, sk.rx.rcv_ssthresh)
        })
    };
    assert_eq!(clamp(&lab, 3_000), (3_000, 3_000), "on a connection that stands it binds at once");
    assert_eq!(clamp(&lab, 1), (1_152, 1_152));
    assert_eq!(clamp(&lab, 100_000), (100_000, 9_800), "and lets go up to what is offered");
}

#[test]
fn a_buffer_that_was_set_stays_and_others_grow() {
    for set in [false, true] {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        let mut peer = Peer { stamps: Some((100, 0)), ..Peer::new(40_000, 80) };
        let sock = peer.connect_from_afar(&mut lab, &listener, 10);
        if set {
            lab.stack.with(&sock, 0, lab.now, |sk| sk.set_rcvbuf(65_536, u32::MAX));
        }
        for round in 0..40u32 {
            lab.wait(10);
            for _ in 0..(round + 10).min(30) {
                peer.data(&mut lab, &[1; 1_448]);
            }
            while let Some(sent) = lab.sent() {
                peer.note(&sent);
            }
            peer.stamps = peer.stamps.map(|(own, echo)| (own + 10, echo));
            while lab.recv(&sock, 65_536).is_ok_and(|bytes| !bytes.is_empty()) {}
            while lab.sent().is_some() {}
        }
        let rcvbuf = lab.stack.with(&sock, 0, lab.now, |sk| sk.rx.rcvbuf);
        assert_eq!(rcvbuf == 131_072, set, "{rcvbuf} bytes");
    }
}

#[test]
fn writers_wait_for_what_was_not_sent() {
    let (mut lab, sock, mut peer) = inherited(SockOptions { notsent_lowat: Some(3_000), ..SockOptions::default() });
    peer.window = 0;
    lab.segment(peer.repr(ACK), &[]);
    let goal = lab.stack.with(&sock, 0, lab.now, |sk| sk.size_goal());
    assert_eq!(lab.send(&sock, &[1; 80_000]), goal as usize, "a packet is not cut for it");
    assert_eq!(lab.send(&sock, &[1; 10_000]), 0);
    let ready = |lab: &Lab| lab.stack.readiness(&sock, lab.now).writable;
    assert!(!ready(&lab));
    assert_eq!(lab.stack.with(&sock, 0, lab.now, |sk| (sk.outq(), sk.outq_unsent())), (goal, goal));
    peer.window = 64_240;
    for _ in 0..4 {
        lab.segment(peer.repr(ACK), &[]);
        while let Some(sent) = lab.sent() {
            peer.ack = sent.seq + sent.payload.len() as u32;
        }
    }
    assert!(ready(&lab));
    assert_eq!(lab.stack.with(&sock, 0, lab.now, |sk| sk.outq_unsent()), 0);
    lab.stack.with(&sock, 0, lab.now, |sk| sk.set_notsent_lowat(0, &Sysctls::default()));
    assert!(ready(&lab), "of its own accord it sets no limit");
}

#[test]
fn quick_acknowledgements_are_a_choice() {
    let (mut lab, sock, mut peer) = inherited(SockOptions::default());
    let now = lab.now;
    lab.stack.with(&sock, 0, now, |sk| sk.set_quickack(false));
    assert!(!lab.stack.with(&sock, 0, now, |sk| sk.quickack()));
    peer.data(&mut lab, b"one");
    lab.expect_nothing();
    assert_eq!(lab.recv(&sock, 10).expect("bytes"), b"one");
    lab.expect_nothing();
    assert!(lab.stack.with(&sock, 0, now, |sk| sk.set_quickack(true)), "the ACK that is owed is due");
    lab.stack.with(&sock, crate::socket::post::ACK, now, |_| ());
    lab.run();
    lab.expect(ACK);
}

#[test]
fn our_fin_is_among_what_was_not_acknowledged() {
    let (mut lab, sock, mut peer) = inherited(SockOptions::default());
    let waits = |lab: &Lab| lab.stack.with(&sock, 0, lab.now, |sk| (sk.outq(), sk.outq_unsent()));
    peer.window = 0;
    peer.data(&mut lab, b"the window is closed");
    lab.expect(ACK);
    assert_eq!(lab.send(&sock, &[1; 100]), 100);
    assert_eq!(waits(&lab), (100, 100));
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    assert_eq!(waits(&lab), (101, 101));
    peer.window = 1_000;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.sent().expect("all of it").payload.len(), 100);
    assert_eq!(waits(&lab), (101, 0));
    peer.ack += 101;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(waits(&lab), (0, 0));
    let remote = std::net::SocketAddr::from((super::lab::PEER, 81));
    let opening = lab.stack.connect(remote, lab.now).expect("a route");
    lab.run();
    lab.expect(SYN);
    assert_eq!(opening.lock.user().outq(), 0, "our SYN is none of it");
}

#[test]
fn what_is_left_to_read_is_told_and_so_is_the_end() {
    let (mut lab, sock, mut peer) = inherited(SockOptions::default());
    let hint = |lab: &Lab| lab.stack.with(&sock, 0, lab.now, |sk| sk.inq_hint());
    peer.data(&mut lab, b"abc");
    lab.expect(ACK);
    assert_eq!(hint(&lab), 3);
    assert_eq!(lab.recv(&sock, 2).expect("bytes"), b"ab");
    assert_eq!(hint(&lab), 1);
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert_eq!(hint(&lab), 2, "the end counts as one more");
    assert_eq!(sock.lock.user().inq(), 1, "but not as a byte");
    assert_eq!(lab.recv(&sock, 2).expect("bytes"), b"c");
    assert_eq!(hint(&lab), 1, "the end is still to be read");
    assert!(matches!(lab.recv(&sock, 2), Ok(end) if end.is_empty()));
    assert!(!matches!(lab.recv(&sock, 2), Err(RecvError::Empty(_))));
    while lab.sent().is_some() {}
}
