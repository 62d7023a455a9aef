//! Memory is bounded: readers that never read cannot starve the others.

use rxpath_trace::{Counter, DropReason};

use super::lab::{Lab, Peer};

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
