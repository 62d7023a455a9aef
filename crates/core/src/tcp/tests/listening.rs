//! Queues of half-open connections, and listeners that share an address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, MS, PSH_ACK, Peer, SYN, SYN_ACK, US};
use crate::socket::Listener;
use crate::stack::BindOptions;

const SHARED: BindOptions = BindOptions { reuse_addr: false, reuse_port: true, ifindex: None };

#[test]
fn connections_are_spread_over_listeners_that_share_an_address() {
    let mut lab = Lab::new();
    let addr = SocketAddr::from((US, 80));
    let group: Vec<_> = (0..4).map(|_| lab.stack.listen_with(addr, 200, SHARED).expect("they share")).collect();
    assert!(lab.stack.listen(addr, 8).is_err(), "but with no other");
    for port in 0..200 {
        let mut peer = Peer::new(10_000 + port, 80);
        lab.segment(peer.repr(SYN), &[]);
        let answer = lab.expect(SYN_ACK);
        (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
        lab.segment(peer.repr(ACK), &[]);
    }
    let waiting: Vec<_> = group.iter().map(|listener| listener.accept_queue_len()).collect();
    assert_eq!(waiting.iter().sum::<usize>(), 200);
    assert!(waiting.iter().all(|count| (25..=75).contains(count)), "{waiting:?}");
    for listener in &group {
        lab.stack.close_listener(listener, lab.now);
    }
    lab.run();
    let resets = std::iter::from_fn(|| lab.sent()).filter(|sent| sent.flags.rst()).count();
    assert_eq!(resets, 200, "what nobody accepted is reset");
}

#[test]
fn each_cpu_has_its_own_listener_where_they_ask_for_it() {
    let mut lab = Lab::with_queues(2, |config| config.cpus = 2);
    let addr = SocketAddr::from((US, 80));
    let group: Vec<_> = (0..2).map(|_| lab.stack.listen_with(addr, 200, SHARED).expect("they share")).collect();
    group.iter().zip(0..).for_each(|(listener, cpu)| listener.set_incoming_cpu(Some(cpu)));
    for port in 0..40 {
        let mut peer = Peer::new(10_000 + port, 80);
        lab.segment(peer.repr(SYN), &[]);
        let answer = lab.expect(SYN_ACK);
        (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
        lab.segment(peer.repr(ACK), &[]);
    }
    for (listener, cpu) in group.iter().zip(0..) {
        let cpus: Vec<_> = std::iter::from_fn(|| lab.stack.accept(listener)).map(|sock| sock.cpu).collect();
        assert!(cpus.len() > 8 && cpus.iter().all(|one| *one == cpu), "of {cpu}: {cpus:?}");
    }
}

#[test]
fn requests_of_a_listener_that_closes_are_reset_although_another_shares_its_address() {
    let mut lab = Lab::new();
    let addr = SocketAddr::from((US, 80));
    let group: Vec<_> = (0..2).map(|_| lab.stack.listen_with(addr, 8, SHARED).expect("they share")).collect();
    let mut peer = Peer::new(40_000, 80);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    let chosen = group.iter().find(|listener| listener.requests() == 1).expect("one of them has the request");
    lab.stack.close_listener(chosen, lab.now);
    lab.segment(peer.repr(ACK), &[]);
    lab.expect(TcpFlags::RST);
    assert_eq!(lab.dropped(DropReason::TcpFlags), 1, "the other one takes it for a stray acknowledgement");
    assert_eq!((chosen.requests(), lab.count(Counter::TcpPassiveOpens)), (0, 0));
    // A new attempt comes to the one that is left.
    let mut peer = Peer::new(40_000, 80);
    let left = group.iter().find(|listener| !listener.is_closed()).expect("one is open");
    peer.connect(&mut lab, left);
}

/// A listener, and a peer with timestamps whose SYN was answered: the request is there.
fn requested(lab: &mut Lab) -> (std::sync::Arc<crate::socket::Listener>, Peer) {
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    peer.stamps = Some((5_000, 0));
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    peer.note(&answer);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    (listener, peer)
}

#[test]
fn a_third_segment_need_not_echo_a_timestamp_but_may_not_echo_a_wrong_one() {
    for (wrong, accepted) in [(None, true), (Some(100_000), false)] {
        let mut lab = Lab::new();
        let (listener, mut peer) = requested(&mut lab);
        peer.stamps = peer.stamps.map(|(value, echo)| (value, wrong.map_or(0, |by: u32| echo.wrapping_add(by))));
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!(lab.stack.accept(&listener).is_some(), accepted);
        assert_eq!(lab.count(Counter::TcpExtTSEcrRejected), u64::from(!accepted));
    }
    // Whatever the segment is.
    let mut lab = Lab::new();
    let (_listener, mut peer) = requested(&mut lab);
    peer.stamps = peer.stamps.map(|(value, echo)| (value, echo.wrapping_add(100_000)));
    lab.segment(peer.repr(TcpFlags::RST), &[]);
    assert_eq!((lab.count(Counter::TcpExtTSEcrRejected), lab.count(Counter::TcpExtEmbryonicRsts)), (1, 0));
}

#[test]
fn only_what_completes_the_handshake_moves_the_peers_clock() {
    let mut lab = Lab::new();
    let (listener, mut peer) = requested(&mut lab);
    let echo = peer.stamps.map_or(0, |(_, echo)| echo);
    // Neither acknowledges nor resets: from the future.
    peer.stamps = Some((9_000, echo));
    lab.segment(peer.repr(TcpFlags(0)), &[]);
    peer.stamps = Some((5_001, echo));
    lab.segment(peer.repr(ACK), &[]);
    assert!(lab.stack.accept(&listener).is_some(), "what it said is no reason to refuse this one");
    assert_eq!(lab.count(Counter::TcpExtPAWSEstab), 0);
}

/// Two listeners on one address, of which the first has a request; with the peer that waits to be let in.
fn group(migrates: bool, backlog: u32) -> (Lab, [Arc<Listener>; 2], Peer) {
    let mut lab = Lab::with(|config| config.sysctl.tcp_migrate_req = migrates);
    let addr = SocketAddr::from((US, 80));
    let mut group = [0, 1].map(|_| lab.stack.listen_with(addr, backlog, SHARED).expect("they share"));
    let mut peer = Peer::new(40_000, 80);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    group.sort_by_key(|listener| listener.requests() == 0);
    assert_eq!(group[0].requests(), 1);
    (lab, group, peer)
}

fn migrated(lab: &Lab) -> (u64, u64) {
    (lab.count(Counter::TcpExtTCPMigrateReqSuccess), lab.count(Counter::TcpExtTCPMigrateReqFailure))
}

#[test]
fn a_request_goes_over_to_another_listener_with_its_last_segment() {
    let (mut lab, [closed, heir], peer) = group(true, 8);
    lab.stack.close_listener(&closed, lab.now);
    lab.run();
    lab.expect_nothing();
    // The SYN again is answered by the request as it is.
    let mut syn = peer.repr(SYN);
    syn.seq = peer.seq - 1;
    lab.segment(syn, &[]);
    assert_eq!(lab.expect(SYN_ACK).seq + 1, peer.ack);
    assert_eq!((migrated(&lab), closed.requests()), ((0, 0), 1));
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&heir).expect("it is the other one's");
    assert_eq!((migrated(&lab), closed.requests(), heir.requests()), ((1, 0), 0, 0));
    lab.close(&sock);
    lab.expect(FIN_ACK);
}

#[test]
fn a_request_goes_over_to_another_listener_with_its_timer() {
    let (mut lab, [closed, heir], peer) = group(true, 8);
    lab.stack.close_listener(&closed, lab.now);
    lab.wait(1_000);
    lab.expect(SYN_ACK);
    assert_eq!((migrated(&lab), closed.requests(), heir.requests()), ((1, 0), 0, 1));
    assert_eq!(heir.young_requests(), 0, "its SYN-ACK was sent twice");
    lab.wait(2_000);
    lab.expect(SYN_ACK);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!((migrated(&lab), heir.accept_queue_len()), ((1, 0), 1), "it goes over once");
}

#[test]
fn a_request_finds_the_queue_of_its_heir_full_and_stays() {
    let (mut lab, [closed, heir], peer) = group(true, 0);
    let mut other = Peer::new(0, 80);
    while heir.accept_queue_len() == 0 {
        other = Peer::new(other.sport + 1, 80);
        lab.segment(other.repr(SYN), &[]);
        if lab.sent().is_some_and(|answer| {
            (other.seq, other.ack) = (other.seq + 1, answer.seq + 1);
            heir.requests() == 1
        }) {
            lab.segment(other.repr(ACK), &[]);
        }
    }
    lab.stack.close_listener(&closed, lab.now);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(migrated(&lab), (0, 1));
    assert_eq!((lab.count(Counter::TcpExtListenOverflows), lab.dropped(DropReason::TcpListenOverflow)), (1, 1));
    lab.wait(1_000);
    assert!(migrated(&lab).0 >= 1 && closed.requests() == 0, "by its timer it goes over");
    assert!(lab.stack.accept(&heir).is_some());
    lab.segment(peer.repr(ACK), &[]);
    assert!(lab.stack.accept(&heir).is_some(), "there is room now");
    while lab.sent().is_some() {}
}

#[test]
fn what_nobody_has_accepted_goes_over_however_full_the_other_queue_is() {
    for (migrates, left, resets) in [(true, 2, 0), (false, 1, 1)] {
        let (mut lab, [closed, heir], peer) = group(migrates, 0);
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!(closed.accept_queue_len(), 1);
        let mut port = 1;
        while heir.accept_queue_len() == 0 {
            let mut other = Peer::new(port, 80);
            lab.segment(other.repr(SYN), &[]);
            if let Some(answer) = lab.sent() {
                (other.seq, other.ack) = (other.seq + 1, answer.seq + 1);
                lab.segment(other.repr(ACK), &[]);
            }
            port += 1;
        }
        while lab.sent().is_some() {}
        lab.stack.close_listener(&closed, lab.now);
        lab.run();
        assert_eq!(heir.accept_queue_len(), left);
        let reset = std::iter::from_fn(|| lab.sent()).filter(|sent| sent.flags.rst()).count();
        assert_eq!((reset, lab.count(Counter::TcpEstabResets)), (resets, resets as u64));
        assert_eq!(migrated(&lab), (u64::from(migrates), 0));
        assert_eq!(lab.count(Counter::TcpExtTCPAbortOnData), 0, "nobody has aborted it");
        lab.stack.close_listener(&heir, lab.now);
        lab.run();
        assert_eq!(migrated(&lab).1, if migrates { 2 } else { 0 }, "nobody is left");
        while lab.sent().is_some() {}
    }
}

#[test]
fn a_request_without_an_heir_fades() {
    let (mut lab, [closed, last], peer) = group(true, 8);
    lab.stack.close_listener(&last, lab.now);
    lab.stack.close_listener(&closed, lab.now);
    lab.segment(peer.repr(ACK), &[]);
    lab.expect(TcpFlags::RST);
    assert_eq!(migrated(&lab), (0, 1));
    let (mut lab, [closed, last], _) = group(true, 8);
    lab.stack.close_listener(&last, lab.now);
    lab.stack.close_listener(&closed, lab.now);
    lab.wait(5_000);
    lab.expect_nothing();
    assert_eq!((migrated(&lab), closed.requests()), ((0, 1), 0));
    // As measured on Linux 6.18: who comes when the last of a group has gone is of another one.
    let (mut lab, [closed, last], peer) = group(true, 8);
    lab.stack.close_listener(&closed, lab.now);
    lab.stack.close_listener(&last, lab.now);
    let late = lab.stack.listen_with(SocketAddr::from((US, 80)), 8, SHARED).expect("nobody has it");
    lab.segment(peer.repr(ACK), &[]);
    lab.expect(TcpFlags::RST);
    assert_eq!((migrated(&lab), late.accept_queue_len()), ((0, 1), 0));
    // Whoever shares no address is nobody's heir, and it is not asked for one.
    let mut lab = Lab::with(|config| config.sysctl.tcp_migrate_req = true);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.segment(Peer::new(40_001, 80).repr(SYN), &[]);
    lab.stack.close_listener(&listener, lab.now);
    lab.wait(5_000);
    assert_eq!(migrated(&lab), (0, 0));
    lab.send(&sock, b"still there");
    while lab.sent().is_some_and(|sent| sent.flags != PSH_ACK) {}
}

#[test]
fn old_requests_are_given_up_early_where_they_take_more_than_half_of_the_queue() {
    // As Linux 6.18 counted them: how many were sent three SYN-ACKs, and six; the young ones come after 6.6 seconds.
    for (backlog, old, young, early, all) in [
        (8, 3, 0, 0, 3),
        (8, 5, 0, 1, 4),
        (8, 9, 0, 5, 4),
        (16, 8, 0, 0, 8),
        (3, 3, 0, 0, 3),
        (32, 8, 12, 4, 16),
        (16, 8, 4, 4, 8),
        (16, 8, 2, 2, 8),
    ] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_syncookies = 0);
        let _listener = lab.listen(80, backlog);
        let ask = |lab: &mut Lab, ports: std::ops::Range<u16>| {
            ports.for_each(|port| lab.segment(Peer::new(port, 80).repr(SYN), &[]));
        };
        let began = lab.now;
        ask(&mut lab, 1..1 + old);
        lab.wait(6_600);
        ask(&mut lab, 1_000..1_000 + young);
        lab.wait(66_000);
        let mut sent: BTreeMap<u16, usize> = BTreeMap::new();
        while let Some(answer) = lab.sent() {
            *sent.entry(answer.dport).or_default() += 1;
        }
        let times = |count| sent.values().filter(|&&times| times == count).count();
        assert_eq!((times(3), times(6)), (early, all), "{backlog} {old} {young}");
        assert_eq!(sent.len(), early + all);
        assert!(lab.now > began + 70_000 * MS);
        assert_eq!(lab.stack.sockets(lab.now).len(), 1, "the listener");
    }
}

#[test]
fn a_connection_that_was_reset_with_data_before_it_was_accepted_ends_with_the_stack() {
    let mut lab = Lab::new();
    let _listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    lab.segment(peer.repr(SYN), &[]);
    let answer = lab.expect(SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    peer.data(&mut lab, b"nobody reads this");
    lab.expect(ACK);
    lab.segment(peer.repr(TcpFlags::RST), &[]);
    lab.stack.shutdown();
    assert_eq!(lab.dropped(DropReason::QueuePurge), 1);
}

#[test]
fn a_full_accept_queue_may_abort_what_it_has_no_room_for() {
    for aborts in [false, true] {
        let mut lab = Lab::with(|config| config.sysctl.tcp_abort_on_overflow = aborts);
        let listener = lab.listen(80, 0);
        let mut last = Peer::new(40_000, 80);
        lab.segment(last.repr(SYN), &[]);
        (last.seq, last.ack) = (last.seq + 1, lab.expect(SYN_ACK).seq + 1);
        let mut first = Peer::new(40_001, 80);
        lab.segment(first.repr(SYN), &[]);
        if let Some(answer) = lab.sent() {
            (first.seq, first.ack) = (first.seq + 1, answer.seq + 1);
            lab.segment(first.repr(ACK), &[]);
        }
        let requests = listener.requests();
        lab.segment(last.repr(ACK), &[]);
        let counted = [Counter::TcpExtListenOverflows, Counter::TcpExtEmbryonicRsts].map(|counter| lab.count(counter));
        assert_eq!(counted, [1, u64::from(aborts)]);
        if aborts {
            assert_eq!(lab.expect(TcpFlags::RST).seq, last.ack);
        } else {
            lab.expect_nothing();
        }
        assert_eq!(listener.requests(), requests - u32::from(aborts));
    }
}
