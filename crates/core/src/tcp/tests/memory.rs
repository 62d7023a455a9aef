//! Memory is bounded: readers that never read cannot starve the others.

use rxpath_trace::{Counter, DropReason};

use super::lab::{Lab, PSH_ACK, Peer};
use crate::socket::WriteStep;
use crate::sysctl::Triple;
use crate::tcp::State;

/// Segments that each of the slow connections is sent.
const SEGMENTS: usize = 1_500;

#[test]
fn a_hundred_readers_that_never_read_leave_a_fresh_connection_alive() {
    let mut lab = Lab::with(|config| config.pool.slots = 1_024);
    let listener = lab.listen(80, 200);
    let mut slow = Vec::new();
    for n in 0..100 {
        let mut peer = Peer::new(30_000 + n, 80);
        let sock = peer.connect(&mut lab, &listener);
        slow.push((peer, sock));
    }
    for _ in 0..SEGMENTS {
        for (peer, _) in &mut slow {
            peer.data(&mut lab, b"x");
        }
        while lab.sent().is_some() {}
    }
    let charged: u64 = slow.iter().map(|(_, sock)| u64::from(sock.rmem())).sum();
    assert!(charged > 100 * 4_096, "{charged} bytes are charged to sockets that nobody reads");
    let mut fresh = Peer::new(50_000, 80);
    let sock = fresh.connect(&mut lab, &listener);
    let mut total = 0;
    for round in 0..2_000u32 {
        let payload = [round as u8; 1_448];
        fresh.data(&mut lab, &payload);
        while lab.sent().is_some() {}
        let got = lab.recv(&sock, 4_096).expect("every segment is delivered at once");
        assert_eq!(got, payload, "round {round}");
        total += got.len();
    }
    assert_eq!(total, 2_000 * 1_448);
    assert_eq!(lab.dropped(DropReason::RxNoBuffer) + lab.dropped(DropReason::RxMissed), 0);
    for (_, sock) in &slow {
        lab.stack.abort(sock, lab.now);
    }
    lab.run();
    while lab.sent().is_some() {}
    assert_eq!(lab.recv(&sock, 1).map_err(|_| ()), Err(()), "nothing more");
}

#[test]
fn out_of_order_data_is_given_up_before_the_socket_starves() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_rmem.max = 131_072);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    // Every second byte: each is a packet of its own, charged 704 bytes for one.
    for n in 0..400 {
        peer.data_at(&mut lab, 2 * n + 1, b"y");
        while lab.sent().is_some() {}
    }
    let refused = lab.dropped(DropReason::ProtoMem);
    assert!(refused > 0, "the highest is refused once the buffer is full");
    assert_eq!(lab.count(Counter::TcpExtTCPOFODrop), refused);
    assert!(sock.rmem() <= 140_000, "{} bytes charged", sock.rmem());
    peer.data(&mut lab, &[b'x'; 1_000]);
    assert!(lab.dropped(DropReason::TcpOfoQueuePrune) > 0, "what is next goes before what is far ahead");
    assert_eq!(lab.recv(&sock, 4_000).expect("what became contiguous").len(), 1_000);
    while lab.sent().is_some() {}
}

#[test]
fn a_copy_of_a_range_that_a_fin_ends_is_charged_for_all_of_it() {
    // Two segments out of order that overlap, the second with a FIN, which is not copied. The copy of the first has room
    // for both: up to 1,728 bytes lie in 2,304, which the buffer has, and the next size is too much for it.
    for (len, next) in [(577, 1_461), (578, 1)] {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        listener.set_options(crate::tcp::SockOptions { recv_buffer: Some(0), ..Default::default() });
        let mut peer = Peer::new(40_000, 80);
        let _sock = peer.connect(&mut lab, &listener);
        let mut fin = peer.repr(super::lab::FIN_ACK);
        fin.seq += 1_151;
        lab.segment(fin, &vec![2; len]);
        peer.data_at(&mut lab, 1, &[1; 1_460]);
        while lab.sent().is_some() {}
        peer.data(&mut lab, &[0]);
        let counts = [Counter::TcpExtTCPRcvCollapsed, Counter::TcpExtOfoPruned].map(|counter| lab.count(counter));
        assert_eq!(counts, [1, 1], "{len}");
        let ack = lab.expect(super::lab::ACK).ack;
        assert_eq!(ack - (peer.seq - 1), next, "{len}: the copy was kept if there was room for it");
    }
}

#[test]
fn a_buffer_that_begins_small_grows_from_what_it_can_offer() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_rmem = Triple { min: 4_096, default: 20_000, max: 6_291_456 });
    let listener = lab.listen(80, 8);
    let mut peer = Peer { sack: true, ..Peer::new(40_000, 80) };
    let sock = peer.connect(&mut lab, &listener);
    // Half of 20,000 less a segment; the window that was offered before was 6 segments.
    assert_eq!(sock.lock.user().rx.space, 10_000 - 1_460);
    peer.data_at(&mut lab, 1, &[1; 360]);
    assert_eq!(sock.lock.user().rx.rcvbuf, 2 * (2 * 8_540 + 361), "twice that, and what is out of order");
    while lab.sent().is_some() {}
}

/// As measured on Linux 6.18: what was read in the last round trip, less what is still queued, counts in a look, too.
#[test]
fn who_only_looks_makes_the_buffer_grow() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer { stamps: Some((9, 0)), ..Peer::new(40_000, 80) };
    let sock = peer.connect(&mut lab, &listener);
    let space = || {
        let sk = sock.lock.user();
        (sk.rx.space, sk.rx.rcvbuf)
    };
    let (before, rcvbuf) = space();
    lab.stack.with(&sock, 0, lab.now, |sk| sk.rx.space = 1_448);
    lab.wait(1);
    for _ in 0..30 {
        peer.data(&mut lab, &[1; 1_448]);
        assert_eq!(lab.recv(&sock, 2_000).expect("bytes").len(), 1_448);
    }
    while let Some(sent) = lab.sent() {
        peer.note(&sent);
    }
    peer.data(&mut lab, &[1; 100]);
    lab.wait(10);
    assert!(before > 0 && space().1 == rcvbuf);
    assert_eq!(lab.stack.peek(&sock, &mut [0; 200], false, lab.now).expect("bytes"), 100);
    let (grown, now) = space();
    assert!(grown > 1_448 && now > rcvbuf, "{grown} {now}");
    while lab.sent().is_some() {}
}

/// A stack whose sockets have few pages, each of which is told of at once.
fn poor(limits: Triple) -> Lab {
    Lab::with(|config| {
        config.sysctl.tcp_mem = limits;
        config.sysctl.mem_pcpu_rsv = 1;
    })
}

#[test]
fn sockets_share_the_memory_that_tcp_mem_gives() {
    let mut lab = poor(Triple { min: 15, default: 20, max: 28 });
    let listener = lab.listen(80, 8);
    let mut peers = Vec::new();
    for n in 0..3 {
        let mut peer = Peer::new(40_000 + n, 80);
        let sock = peer.connect(&mut lab, &listener);
        peers.push((peer, sock));
    }
    let pages = |lab: &Lab| lab.stack.proc_sockstat().lines().nth(1).map(str::to_owned).expect("the TCP line");
    assert_eq!(pages(&lab), "TCP: inuse 4 orphan 0 tw 0 alloc 4 mem 0");
    // The first one takes what it gets, until memory is under pressure.
    let mut taken = 0;
    while lab.count(Counter::TcpExtTCPMemoryPressures) == 0 && taken < 100 {
        peers[0].0.data(&mut lab, &[1; 1_400]);
        while lab.sent().is_some() {}
        taken += 1;
    }
    assert!((40..=46).contains(&taken), "{taken} segments of some 1,860 bytes in 20 pages");
    assert_eq!(lab.count(Counter::TcpExtTCPRcvQDrop), 1, "it has more than the average");
    let rich = peers[0].1.clone();
    let ceiling = lab.stack.with(&rich, 0, lab.now, |sk| sk.rx.rcv_ssthresh);
    assert!(ceiling <= 4 * 1_460, "four segments must do: {ceiling}");
    // One that has little still gets its share.
    let (peer, sock) = &mut peers[1];
    peer.data(&mut lab, b"a little");
    assert_eq!(lab.recv(sock, 100).expect("it was taken"), b"a little");
    while lab.recv(&rich, 65_536).is_ok_and(|bytes| !bytes.is_empty()) {}
    lab.wait(20);
    let (peer, _) = &mut peers[2];
    peer.data(&mut lab, b"more");
    assert!(lab.count(Counter::TcpExtTCPMemoryPressuresChrono) > 0, "pressure ended, and how long it was is counted");
    for (_, sock) in &peers {
        lab.stack.abort(sock, lab.now);
    }
    lab.run();
    while lab.sent().is_some() {}
    drop((peers, rich));
    assert_eq!(pages(&lab), "TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0", "every page came back");
}

#[test]
fn orphans_beyond_the_limit_are_reset() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_max_orphans = 1);
    let listener = lab.listen(80, 8);
    let mut open = |port| {
        let mut peer = Peer::new(port, 80);
        peer.connect(&mut lab, &listener)
    };
    let socks = [open(40_000), open(40_001)];
    lab.close(&socks[0]);
    assert_eq!(lab.expect(super::lab::FIN_ACK).dport, 40_000);
    lab.close(&socks[1]);
    lab.expect(super::lab::FIN_ACK);
    assert!(lab.sent().is_some_and(|reset| reset.flags.rst() && reset.dport == 40_001), "one too many");
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnMemory), 1);
    assert_eq!((lab.state(&socks[0]), lab.state(&socks[1])), (State::FinWait1, State::Close));
    assert!(lab.stack.proc_sockstat().contains("orphan 1 "), "{}", lab.stack.proc_sockstat());
}

/// Sends to a reader that does not read until there is no memory for it.
fn use_up(lab: &mut Lab, greedy: &mut Peer) {
    while lab.count(Counter::TcpExtTCPRcvQDrop) == 0 {
        greedy.data(lab, &[1; 1_400]);
        while lab.sent().is_some() {}
    }
}

#[test]
fn writers_wait_where_there_is_no_memory_to_send_from() {
    let mut lab = poor(Triple { min: 4, default: 6, max: 8 });
    let listener = lab.listen(80, 8);
    let (mut greedy, mut modest) = (Peer::new(40_000, 80), Peer::new(40_001, 80));
    let hoard = greedy.connect(&mut lab, &listener);
    let writer = modest.connect(&mut lab, &listener);
    let fixed = Peer::new(40_002, 80).connect(&mut lab, &listener);
    lab.stack.with(&fixed, 0, lab.now, |sk| sk.set_sndbuf(8_192, 65_536));
    lab.stack.with(&writer, 0, lab.now, |sk| sk.set_nodelay(true));
    use_up(&mut lab, &mut greedy);
    let write = |lab: &mut Lab, sock, register| {
        let step = lab.stack.send(sock, &[2; 1_000], register, lab.now);
        lab.run();
        step
    };
    let sndbuf = |sock: &crate::socket::Sock| sock.lock.user().tx.sndbuf;
    // What is left may be given to who has nothing; then it is over.
    let mut given = 0;
    while matches!(write(&mut lab, &writer, false), WriteStep::Taken(1_000)) {
        assert_eq!(lab.expect(PSH_ACK).payload.len(), 1_000);
        given += 1;
    }
    while lab.sent().is_some() {}
    assert!(given <= 4, "{given} writes in what was left of eight pages");
    assert!(matches!(write(&mut lab, &fixed, true), WriteStep::Full(Some(_))), "nobody gets more");
    lab.expect_nothing();
    assert_eq!(sndbuf(&fixed), 16_384, "a buffer that was set stays");
    assert!(sndbuf(&writer) < 16_384, "others shrink: {}", sndbuf(&writer));
    assert_eq!(lab.count(Counter::TcpExtTCPMemoryPressures), 1);
    // He is woken to try again, in vain, until somebody gives memory back.
    assert!(fixed.lock.user().user.wait_send);
    lab.wait(205);
    assert!(!fixed.lock.user().user.wait_send, "woken by time");
    assert!(matches!(write(&mut lab, &fixed, false), WriteStep::Full(None)));
    lab.wait(205);
    assert!(!fixed.lock.user().user.wait_send, "who does not wait is not woken");
    while lab.recv(&hoard, 65_536).is_ok_and(|bytes| !bytes.is_empty()) {}
    while lab.sent().is_some() {}
    assert!(matches!(write(&mut lab, &fixed, false), WriteStep::Taken(1_000)));
    assert_eq!(lab.expect(PSH_ACK).dport, 40_002);
    for sock in [&hoard, &writer, &fixed] {
        lab.stack.abort(sock, lab.now);
    }
    lab.run();
    while lab.sent().is_some() {}
}

#[test]
fn who_fills_his_buffer_gets_a_packet_more_than_there_is_memory_for() {
    let mut lab = poor(Triple { min: 1, default: 2, max: 2 });
    let listener = lab.listen(80, 8);
    let (mut greedy, mut peer) = (Peer::new(40_001, 80), Peer::new(40_000, 80));
    let hoard = greedy.connect(&mut lab, &listener);
    let sock = peer.connect(&mut lab, &listener);
    use_up(&mut lab, &mut greedy);
    let step = lab.stack.send(&sock, &[3; 100], true, lab.now);
    assert!(matches!(step, WriteStep::Full(Some(_))), "little: he waits for memory");
    assert_eq!(sock.lock.user().tx.sndbuf, 4_608);
    let step = lab.stack.send(&sock, &[3; 50_000], true, lab.now);
    assert!(matches!(step, WriteStep::Taken(4_608)), "so much that acknowledgements will wake him");
    lab.run();
    assert_eq!(std::iter::from_fn(|| lab.sent()).map(|sent| sent.payload.len()).sum::<usize>(), 4_608);
    peer.ack += 4_608;
    lab.segment(peer.repr(super::lab::ACK), &[]);
    lab.stack.abort(&sock, lab.now);
    lab.stack.abort(&hoard, lab.now);
    lab.run();
    while lab.sent().is_some() {}
}
