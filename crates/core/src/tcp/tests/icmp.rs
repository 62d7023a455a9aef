//! ICMP errors about segments of ours.

use std::net::SocketAddr;
use std::sync::Arc;

use event_listener::Listener as _;
use rxpath_trace::Counter;
use rxpath_wire::{SeqNum, icmp as wire_icmp};

use super::lab::{ACK, Lab, PEER, PSH_ACK, Peer, SYN, SYN_ACK, Sent, US};
use crate::netns::NetConfig;
use crate::route::{self, RouteSpec};
use crate::socket::{ErrorOrigin, Sock, WriteStep};
use crate::stack::RecvError;
use crate::tcp::{MtuDiscover, SockError, SockOptions, State};
use crate::testing::frames::{icmp, ip};
use crate::udp::tests::{addr, bind, put};

/// An error about a segment of ours with this sequence number.
pub(super) fn told(lab: &mut Lab, (kind, code, info): (u8, u8, u32), ports: (u16, u16), seq: SeqNum) {
    let mut transport = [0; 8];
    transport[..2].copy_from_slice(&ports.0.to_be_bytes());
    transport[2..4].copy_from_slice(&ports.1.to_be_bytes());
    transport[4..].copy_from_slice(&seq.0.to_be_bytes());
    let quote = ip(6, &transport).from(US.octets()).to(PEER.octets()).packet();
    put(lab, &icmp(kind, code, info, &quote));
}

fn connecting(lab: &mut Lab) -> (Arc<Sock>, Sent) {
    let sock = lab.stack.connect(SocketAddr::from((PEER, 80)), lab.now).expect("a way");
    lab.run();
    let syn = lab.expect(SYN);
    (sock, syn)
}

/// Types and codes, and what they are to an application (`icmp_err_convert`).
const ERRORS: [(u8, u8, SockError); 7] = [
    (3, 0, SockError::NetUnreachable),
    (3, 1, SockError::Unreachable),
    (3, 2, SockError::NoProtocol),
    (3, 3, SockError::Refused),
    (3, 13, SockError::Unreachable),
    (11, 0, SockError::Unreachable),
    (12, 0, SockError::Protocol),
];

#[test]
fn an_attempt_to_connect_ends_with_the_first_error() {
    // Measured on Linux 6.18: unlike in an established connection each of them ends it.
    for (kind, code, error) in ERRORS {
        let mut lab = Lab::new();
        let (sock, syn) = connecting(&mut lab);
        told(&mut lab, (kind, code, 20 << 24), (syn.sport, 80), syn.seq);
        assert_eq!(lab.stack.connected(&sock, false, lab.now).0, Some(Err(error)), "type {kind} code {code}");
        assert_eq!((lab.count(Counter::TcpAttemptFails), lab.count(Counter::IcmpInErrors)), (1, 0));
        assert!(lab.stack.readiness(&sock, lab.now).error, "it was told, and shows all the same");
        let told = lab.stack.recv_error(&sock, lab.now).expect("in detail, asked for or not");
        let origin = ErrorOrigin::Icmp { kind, code, offender: PEER.into(), ifindex: 1 };
        assert_eq!((told.error, told.origin, told.to), (error, origin, (PEER.into(), 80)));
        assert_eq!(told.info, if kind == 12 { 20 } else { 0 }, "where the header makes no sense");
        assert_eq!(told.payload[..4], [syn.sport.to_be_bytes(), [0, 80]].concat(), "from the segment's header on");
        assert!(!lab.stack.readiness(&sock, lab.now).error && lab.stack.recv_error(&sock, lab.now).is_none());
    }
}

/// As measured on Linux 6.18.
#[test]
fn what_is_told_in_detail_is_told_once() {
    let refused = |lab: &mut Lab| {
        let (sock, syn) = connecting(lab);
        told(lab, (3, 3, 0), (syn.sport, 80), syn.seq);
        sock
    };
    // Who reads it there is not told by the next call.
    let mut lab = Lab::new();
    let sock = refused(&mut lab);
    assert!(lab.stack.recv_error(&sock, lab.now).is_some());
    assert!(matches!(lab.stack.recv(&sock, &mut [0; 8], false, lab.now), Ok(0)));
    // It is forgotten with the option, but for what the next call tells.
    let sock = refused(&mut lab);
    lab.stack.with(&sock, 0, lab.now, |sk| sk.set_recv_errors(false));
    assert!(lab.stack.recv_error(&sock, lab.now).is_none() && lab.stack.readiness(&sock, lab.now).error);
    let read = lab.stack.recv(&sock, &mut [0; 8], false, lab.now);
    assert!(matches!(read, Err(RecvError::Failed(SockError::Refused))), "{read:?}");
    // What the receive buffer has no room for is told by the next call alone.
    let (sock, syn) = connecting(&mut lab);
    lab.stack.with(&sock, 0, lab.now, |sk| sk.rx.rcvbuf = 700);
    told(&mut lab, (3, 3, 0), (syn.sport, 80), syn.seq);
    assert!(lab.stack.recv_error(&sock, lab.now).is_none() && lab.stack.readiness(&sock, lab.now).error);
}

/// As measured on Linux 6.18: nothing is told in detail once the connection stands.
#[test]
fn who_asks_for_errors_is_told_while_the_connection_goes_on() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 1);
    listener.set_options(SockOptions { recv_errors: true, ..SockOptions::default() });
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, b"data");
    let seq = lab.sent().expect("the data").seq;
    let recv = |lab: &Lab| lab.stack.recv(&sock, &mut [0; 8], false, lab.now);
    for (kind, code, error) in ERRORS {
        told(&mut lab, (kind, code, 0), (80, 40_000), seq);
        assert!(lab.stack.readiness(&sock, lab.now).error, "type {kind} code {code}");
        assert!(lab.stack.recv_error(&sock, lab.now).is_none());
        let read = recv(&lab);
        assert!(matches!(read, Err(RecvError::Failed(told)) if told == error), "type {kind} code {code}: {read:?}");
        assert!(matches!(recv(&lab), Err(RecvError::Empty(_))), "once");
        assert_eq!((lab.state(&sock), lab.stack.readiness(&sock, lab.now).error), (State::Established, false));
    }
    // Neither of a narrow way, nor of a better gateway, nor of what means nothing, nor of what was never sent.
    for (kind, code, seq) in [(3, 4, seq), (5, 1, seq), (4, 0, seq), (3, 1, seq - 1)] {
        told(&mut lab, (kind, code, 1_400), (80, 40_000), seq);
        assert!(!lab.stack.readiness(&sock, lab.now).error, "type {kind} code {code}");
    }
    // What came is read first; a writer is told, the next write goes on.
    told(&mut lab, (3, 1, 0), (80, 40_000), seq);
    peer.data(&mut lab, b"more");
    assert!(matches!(recv(&lab), Ok(4)));
    assert!(matches!(lab.stack.send(&sock, b"x", false, lab.now), WriteStep::Error(SockError::Unreachable)));
    assert!(matches!(lab.stack.send(&sock, b"x", false, lab.now), WriteStep::Taken(1)));
    // Who waits is woken.
    let Err(RecvError::Empty(Some(waiter))) = lab.stack.recv(&sock, &mut [0; 8], true, lab.now) else {
        panic!("nothing to read");
    };
    told(&mut lab, (3, 1, 0), (80, 40_000), seq);
    assert!(waiter.wait_timeout(std::time::Duration::ZERO).is_some());
    // Taken back, what is pending stays so, and the next one waits for the connection to give up.
    lab.stack.with(&sock, 0, lab.now, |sk| sk.set_recv_errors(false));
    assert!(matches!(recv(&lab), Err(RecvError::Failed(SockError::Unreachable))));
    told(&mut lab, (3, 1, 0), (80, 40_000), seq);
    assert!(matches!(recv(&lab), Err(RecvError::Empty(_))));
    // While the application has the socket no more than what went wrong is kept.
    lab.stack.with(&sock, 0, lab.now, |sk| sk.set_recv_errors(true));
    let (stack, now) = (lab.stack.clone(), lab.now);
    stack.with(&sock, 0, now, |_| told(&mut lab, (3, 1, 0), (80, 40_000), seq));
    assert!(matches!(recv(&lab), Err(RecvError::Empty(_))));
    assert_eq!(lab.count(Counter::TcpExtLockDroppedIcmps), 1);
}

#[test]
fn an_error_must_be_about_what_is_in_flight() {
    let mut lab = Lab::new();
    let (sock, syn) = connecting(&mut lab);
    for seq in [syn.seq - 1, syn.seq + 2] {
        told(&mut lab, (3, 3, 0), (syn.sport, 80), seq);
    }
    assert_eq!((lab.count(Counter::TcpExtOutOfWindowIcmps), lab.state(&sock)), (2, State::SynSent));
    told(&mut lab, (3, 3, 0), (syn.sport, 81), syn.seq);
    assert_eq!(lab.count(Counter::IcmpInErrors), 1, "nobody has that connection");
    told(&mut lab, (4, 0, 0), (syn.sport, 80), syn.seq);
    assert_eq!(lab.state(&sock), State::SynSent, "source quench means nothing");
}

#[test]
fn an_established_connection_goes_on_and_remembers() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 1);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, b"data");
    let sent = lab.expect(PSH_ACK);
    told(&mut lab, (3, 1, 0), (80, 40_000), sent.seq);
    assert_eq!(lab.state(&sock), State::Established);
    lab.stack.with(&sock, 0, lab.now, |sk| {
        assert_eq!((sk.user.error, sk.user.error_soft), (None, Some(SockError::Unreachable)));
    });
    peer.ack += 4;
    lab.segment(peer.repr(ACK), &[]);
    lab.stack.with(&sock, 0, lab.now, |sk| assert_eq!(sk.user.error_soft, None, "something gets through"));
    // So it is with the first data, whose memory is to be accounted.
    told(&mut lab, (3, 1, 0), (80, 40_000), sent.seq + 4);
    lab.stack.with(&sock, 0, lab.now, |sk| assert_eq!(sk.user.error_soft, Some(SockError::Unreachable)));
    peer.data(&mut lab, b"data");
    lab.stack.with(&sock, 0, lab.now, |sk| assert_eq!(sk.user.error_soft, None));
    assert_eq!(lab.recv(&sock, 10).expect("it has come"), b"data");
    while lab.sent().is_some() {}
    lab.send(&sock, b"more");
    let sent = lab.expect(PSH_ACK);
    told(&mut lab, (3, 1, 0), (80, 40_000), sent.seq);
    // It is what the application is told when nothing comes any more.
    lab.wait(1_000_000);
    lab.stack.with(&sock, 0, lab.now, |sk| assert_eq!(sk.user.error, Some(SockError::Unreachable)));
}

/// When something is sent within so many milliseconds, in milliseconds from now.
fn sent_within(lab: &mut Lab, ms: u64) -> Vec<u64> {
    let mut at = Vec::new();
    for passed in 1..=ms {
        lab.wait(1);
        while lab.sent().is_some() {
            at.push(passed);
        }
    }
    at
}

/// Linux 6.18, first timeout 224 ms: sent at 225 and 689; told at 800, at 1137, 2065 and 3889; told at 1200, then at once,
/// 2109 and 3933; told at 750, 760 and 770, at 910, 1386 and 2318. RFC 6069 section 4.2.
#[test]
fn a_timeout_for_which_there_was_no_way_does_not_double_the_next() {
    let run = |errors: &[(u64, u8, u32)]| {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 1);
        let mut peer = Peer::new(40_000, 80);
        let sock = peer.connect(&mut lab, &listener);
        lab.send(&sock, &[1; 1_000]);
        let seq = lab.expect(PSH_ACK).seq;
        let first = sent_within(&mut lab, 250)[0];
        let second = 250 + (1..400).find(|_| !sent_within(&mut lab, 1).is_empty()).expect("a second one");
        let timeout = (second - first) / 2;
        let (mut now, mut sent) = (second, Vec::new());
        let quarters = |at: u64| ((at - second) * 4 + timeout / 2) / timeout;
        for &(quarter, code, back) in errors {
            let until = second + timeout * quarter / 4;
            sent.extend(sent_within(&mut lab, until - now).into_iter().map(|at| quarters(now + at)));
            now = until;
            told(&mut lab, (3, code, 0), (80, 40_000), seq + back);
            if lab.sent().is_some() {
                sent.push(quarters(now));
            }
        }
        sent.extend(sent_within(&mut lab, second + timeout * 15 - now).into_iter().map(|at| quarters(now + at)));
        sent
    };
    // Quarters of the first timeout since the second retransmission.
    assert_eq!(run(&[]), [16, 48]);
    assert_eq!(run(&[(2, 1, 0)]), [8, 24, 56]);
    assert_eq!(run(&[(10, 0, 0)]), [10, 26, 58]);
    assert_eq!(run(&[(1, 1, 0), (2, 1, 0), (3, 1, 0)]), [4, 12, 28, 60]);
    // A tick that has begun has passed.
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let sock = Peer::new(40_000, 80).connect(&mut lab, &listener);
    lab.send(&sock, &[1; 100]);
    let seq = lab.expect(PSH_ACK).seq;
    let first = sent_within(&mut lab, 250)[0];
    assert!(first < 250 && lab.sent().is_none());
    let (sent_at, timeout) = {
        let sk = sock.lock.user();
        (sk.tx.segments[0].sent_at, sk.rtt.backed_off() / 2)
    };
    lab.now = sent_at + (timeout - 1);
    told(&mut lab, (3, 1, 0), (80, 40_000), seq);
    assert!(lab.sent().is_some());
    // Of something else, or about another segment.
    for error in [(10, 3, 0), (10, 5, 0), (10, 13, 0), (10, 1, 1)] {
        assert_eq!(run(&[error]), [16, 48]);
    }
}

/// As measured on Linux 6.18.
#[test]
fn a_syn_for_which_there_was_no_way_is_sent_again_before_the_attempt_ends() {
    // Milliseconds until the error, further SYNs that it brings, what the application is told and what it may ask for.
    let cases = [
        (0, 5, 1_500, 0, [Some(SockError::Unreachable), None]),
        (0, 5, 2_500, 1, [Some(SockError::Unreachable), None]),
        // The attempt has been given up when the error comes to it.
        (0, 1, 2_500, 0, [Some(SockError::TimedOut), Some(SockError::Unreachable)]),
        // Timeouts that did not double the next have nothing to take back.
        (2, 5, 1_800, 0, [Some(SockError::Unreachable), None]),
        (2, 5, 4_500, 1, [Some(SockError::Unreachable), None]),
    ];
    for (linear, retries, at, more, errors) in cases {
        let mut lab = Lab::with(|config| {
            (config.sysctl.tcp_syn_linear_timeouts, config.sysctl.tcp_syn_retries) = (linear, retries);
        });
        let (sock, syn) = connecting(&mut lab);
        lab.wait(at);
        while lab.sent().is_some() {}
        told(&mut lab, (3, 1, 0), (syn.sport, 80), syn.seq);
        assert_eq!(std::iter::from_fn(|| lab.sent()).count(), more, "{linear} {retries} {at}");
        let told = lab.stack.with(&sock, 0, lab.now, |sk| [sk.user.error, sk.user.error_soft]);
        assert_eq!((told, lab.state(&sock)), (errors, State::Close), "{linear} {retries} {at}");
        let given_up = u64::from(errors[0] == Some(SockError::TimedOut));
        assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), given_up);
    }
}

#[test]
fn a_half_open_connection_ends_where_its_peer_cannot_be_reached() {
    let mut lab = Lab::new();
    lab.listen(80, 1);
    let peer = Peer::new(40_000, 80);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    told(&mut lab, (3, 1, 0), (80, 40_000), answer.seq + 1);
    assert_eq!(lab.count(Counter::TcpExtOutOfWindowIcmps), 1);
    told(&mut lab, (3, 3, 0), (80, 40_000), answer.seq);
    assert_eq!(lab.stack.sockets(lab.now).len(), 2, "a closed port is no such error");
    told(&mut lab, (3, 1, 0), (80, 40_000), answer.seq);
    assert_eq!((lab.stack.sockets(lab.now).len(), lab.count(Counter::TcpExtListenDrops)), (1, 1));
}

#[test]
fn a_narrow_path_makes_segments_smaller_and_sends_them_again() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 1);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, &[7; 4_000]);
    let first: Vec<Sent> = std::iter::from_fn(|| lab.sent()).collect();
    assert_eq!(first.iter().map(|sent| sent.payload.len()).collect::<Vec<_>>(), [1_460, 1_460, 1_080]);
    let narrow = (3, wire_icmp::FRAGMENTATION_NEEDED, 1_000);
    told(&mut lab, narrow, (80, 40_000), first[0].seq);
    let again: Vec<Sent> = std::iter::from_fn(|| lab.sent()).collect();
    assert!(!again.is_empty() && again.iter().all(|sent| sent.payload.len() <= 960), "{again:?}");
    assert_eq!(again[0].seq, first[0].seq);
    // It all arrives, in small segments.
    let mut got = vec![None; 4_000];
    let mut take = |sent: &[Sent]| {
        for segment in sent {
            let at = (segment.seq - first[0].seq) as usize;
            got[at..at + segment.payload.len()].fill(Some(()));
        }
        got.iter().position(Option::is_none).unwrap_or(4_000)
    };
    let mut done = take(&again);
    for _ in 0..50 {
        peer.ack = first[0].seq + done as u32;
        lab.segment(peer.repr(ACK), &[]);
        lab.wait(300);
        let more: Vec<Sent> = std::iter::from_fn(|| lab.sent()).collect();
        assert!(more.iter().all(|sent| sent.payload.len() <= 960), "{more:?}");
        done = take(&more);
    }
    assert_eq!(done, 4_000);
    assert_eq!((lab.state(&sock), lab.count(Counter::IcmpInErrors)), (State::Established, 0));
    // A new connection begins with what is known; after ten minutes it is forgotten.
    let mtu = |lab: &Lab| route::output(&lab.stack.config(), PEER.into(), None).expect("a way").mtu;
    assert_eq!(mtu(&lab), 1_000);
    lab.wait(600_000);
    assert_eq!(mtu(&lab), 1_500);
    // So does the one that there is, which sends full segments again.
    lab.send(&sock, &[8; 1_460]);
    assert_eq!(lab.sent().expect("a segment").payload.len(), 1_460);
}

#[test]
fn an_error_for_an_owned_connection_waits_for_its_release() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 1);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, &[7; 2_920]);
    let first: Vec<Sent> = std::iter::from_fn(|| lab.sent()).collect();
    assert_eq!(first.len(), 2);
    let (stack, now) = (lab.stack.clone(), lab.now);
    // The application is in the middle of a call.
    stack.with(&sock, 0, now, |sk| {
        told(&mut lab, (3, 1, 0), (80, 40_000), first[0].seq);
        told(&mut lab, (3, 1, 0), (80, 40_000), first[0].seq - 1);
        told(&mut lab, (5, 1, u32::from_be_bytes([10, 0, 0, 3])), (80, 40_000), first[0].seq);
        assert_eq!((lab.count(Counter::TcpExtLockDroppedIcmps), sk.user.error_soft), (3, None));
        told(&mut lab, (3, wire_icmp::FRAGMENTATION_NEEDED, 1_000), (80, 40_000), first[0].seq);
        assert_eq!((lab.count(Counter::TcpExtLockDroppedIcmps), sk.tx.mss), (3, 1_460));
        lab.expect_nothing();
    });
    // It lets go: segments get smaller, and what was too long is sent again.
    let again: Vec<Sent> = std::iter::from_fn(|| lab.sent()).collect();
    assert!(!again.is_empty() && again.iter().all(|sent| sent.payload.len() <= 960), "{again:?}");
    assert_eq!(again[0].seq, first[0].seq);
    assert_eq!(lab.count(Counter::TcpExtOutOfWindowIcmps), 1, "the newest of each kind is looked at");
    // An attempt to connect that is owned does not end with the error, but remembers it.
    let (sock, syn) = connecting(&mut lab);
    stack.with(&sock, 0, now, |_| told(&mut lab, (3, 3, 0), (syn.sport, 80), syn.seq));
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpExtLockDroppedIcmps)), (State::SynSent, 4));
    stack.with(&sock, 0, now, |sk| assert_eq!(sk.user.error_soft, Some(SockError::Refused)));
}

/// As measured on Linux 6.18.
#[test]
fn who_lets_packets_be_cut_hears_of_narrow_ways_later() {
    for discover in MtuDiscover::ALL {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 1);
        listener.set_options(SockOptions { mtu_discover: discover, ..SockOptions::default() });
        let mut peer = Peer::new(40_000, 80);
        let sock = peer.connect(&mut lab, &listener);
        let uncut = matches!(discover, MtuDiscover::Want | MtuDiscover::Do);
        // Bit 6 of byte 6 of the IP header.
        let df = |frame: &[u8]| frame[14 + 6] & 0x40 != 0;
        lab.send(&sock, &[7; 2_920]);
        for _ in 0..2 {
            let (sent, frame) = lab.sent_as_frame().expect("a segment");
            assert_eq!((sent.payload.len(), df(&frame)), (1_460, uncut), "{discover:?}");
        }
        // Acknowledgements, too, however many there are in a row.
        for _ in 0..3 {
            peer.data(&mut lab, b"data");
            assert_eq!(lab.sent_as_frame().map(|(_, frame)| df(&frame)), Some(uncut), "{discover:?}");
        }
        told(&mut lab, (3, 4, 1_000), (80, 40_000), peer.ack);
        let at_once = discover == MtuDiscover::Probe || uncut;
        let again: Vec<usize> = std::iter::from_fn(|| lab.sent()).map(|sent| sent.payload.len()).collect();
        let (most, mss) = if at_once { (960, 960) } else { (0, 1_460) };
        assert_eq!(again.iter().copied().max().unwrap_or(0), most, "{discover:?}");
        let told_of = |sock: &Sock| {
            let sk = sock.lock.user();
            (sk.route.mtu, sk.tx.mss)
        };
        assert_eq!(told_of(&sock), (1_000, mss), "{discover:?}");
        lab.wait(500);
        let later: Vec<usize> = std::iter::from_fn(|| lab.sent()).map(|sent| sent.payload.len()).collect();
        assert!(!later.is_empty() && later.iter().all(|&len| len <= 960), "{discover:?}: {later:?}");
        assert_eq!(told_of(&sock), (1_000, 960));
    }
}

#[test]
fn datagrams_to_a_narrow_path_leave_in_smaller_fragments() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    let send = |lab: &mut Lab| -> Vec<usize> {
        lab.stack.udp_send(&sock, &[0; 1_200], Some(addr(PEER, 9)), false, lab.now).expect("sent");
        std::iter::from_fn(|| lab.raw()).map(|frame| frame.len()).collect()
    };
    assert_eq!(send(&mut lab), [1_242]);
    lab.stack.udp_send(&sock, &[0; 1_200], Some(addr(PEER, 9)), false, lab.now).expect("sent");
    let frame = lab.raw().expect("the datagram");
    put(&mut lab, &icmp(3, 4, 800, &frame[14..]));
    assert_eq!(send(&mut lab), [14 + 796, 14 + 20 + 432]);
    lab.stack.udp_set(&sock, |options| options.dont_fragment = true);
    let refused = lab.stack.udp_send(&sock, &[0; 1_200], Some(addr(PEER, 9)), false, lab.now);
    assert!(matches!(refused, Err(crate::stack::SendError::TooLong)));
}

#[test]
fn a_gateway_that_knows_a_better_one_is_believed() {
    let far = [192, 0, 2, 7];
    let lab = &mut Lab::with(|config| {
        let via = Some(PEER.into());
        config.routes.push(RouteSpec { via, ..RouteSpec::new(rxpath_wire::Addr::from_v4([192, 0, 2, 0]), 24) });
    });
    let sock = bind(lab, US, 7);
    let nexthop = |lab: &Lab| {
        let net: Arc<NetConfig> = lab.stack.config();
        route::output(&net, rxpath_wire::Addr::from_v4(far), None).expect("a way").nexthop
    };
    lab.stack.udp_send(&sock, b"x", Some(addr(far.into(), 9)), false, lab.now).expect("sent");
    let frame = lab.raw().expect("the datagram");
    let redirect = |gateway: [u8; 4]| icmp(5, 1, u32::from_be_bytes(gateway), &frame[14..]);
    let better = [10, 0, 0, 3];
    // Not of somebody else, not to somewhere else, not to a group.
    put(lab, &redirect(better).from([10, 0, 0, 4]));
    put(lab, &redirect([172, 16, 0, 1]));
    put(lab, &redirect([224, 0, 0, 9]));
    assert_eq!(nexthop(lab).v4(), Some(PEER));
    put(lab, &redirect(better));
    assert_eq!(nexthop(lab).v4(), Some(better.into()));
    assert_eq!((lab.count(Counter::IcmpInRedirects), lab.count(Counter::IcmpInErrors)), (4, 0));
    // The socket sends by it: its address is asked for.
    lab.stack.udp_send(&sock, b"x", Some(addr(far.into(), 9)), false, lab.now).expect("sent");
    let asked = lab.raw().expect("an ARP request");
    assert_eq!((asked[13], &asked[38..42]), (6, &better[..]));
    lab.wait(600_000);
    assert_eq!(nexthop(lab).v4(), Some(PEER));
}

/// As measured on Linux 6.18.
#[test]
fn so_does_a_syn_ack() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let half_open = Peer::new(40_000, 80);
    lab.segment(half_open.repr(SYN), &[]);
    assert_eq!(lab.expect(SYN_ACK).options.mss, Some(1_460));
    let sock = Peer::new(40_001, 80).connect(&mut lab, &listener);
    lab.send(&sock, &[7; 1_000]);
    let seq = lab.expect(PSH_ACK).seq;
    told(&mut lab, (3, wire_icmp::FRAGMENTATION_NEEDED, 700), (80, 40_001), seq);
    lab.wait(1_010);
    let again = std::iter::from_fn(|| lab.sent()).find(|sent| sent.flags == SYN_ACK);
    assert_eq!(again.map(|sent| sent.options.mss), Some(Some(660)));
}

#[test]
fn a_syn_that_is_sent_again_announces_no_more_than_is_known_to_pass() {
    let mut lab = Lab::new();
    let (_sock, syn) = connecting(&mut lab);
    assert_eq!(syn.options.mss, Some(1_460));
    told(&mut lab, (3, 4, 700), (syn.sport, 80), syn.seq);
    lab.wait(1_050);
    assert_eq!(lab.expect(SYN).options.mss, Some(660));
}

#[test]
fn segments_that_are_small_enough_are_not_sent_again_for_a_smaller_path() {
    for (mss, again) in [(500, 0), (1_460, 2)] {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 1);
        let mut peer = Peer::new(40_000, 80);
        let mut syn = peer.repr(SYN);
        syn.options.mss = Some(mss);
        lab.segment(syn, &[]);
        let answer = lab.expect(SYN_ACK);
        (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
        lab.segment(peer.repr(ACK), &[]);
        let sock = lab.stack.accept(&listener).expect("the handshake is complete");
        lab.send(&sock, &[7; 1_000]);
        while lab.sent().is_some() {}
        told(&mut lab, (3, 4, 700), (80, 40_000), peer.ack);
        assert_eq!(std::iter::from_fn(|| lab.sent()).count(), again, "mss {mss}");
    }
}
