//! The softirq through the front door: weight, budget, time limit, steering, full rings.

use rxpath_trace::{Counter, DropReason, EventKind, Holder, PacketId, Selector, Time, lives};
use rxpath_wire::Addr;

use super::Ran;
use crate::nic::owner_cpu;
use crate::tcp::tests::lab::{ACK, Lab, PEER, Peer, US};

/// A stray segment that ends as NO_SOCKET.
fn stray(lab: &mut Lab, port: u16) -> Vec<u8> {
    let peer = Peer::new(port, 9);
    lab.frame(peer.repr(rxpath_wire::TcpFlags::RST), &[])
}

fn one_softirq(lab: &Lab) -> Ran {
    let now = lab.now;
    lab.stack.softirq(0, &mut || now).expect("the token is free")
}

#[test]
fn a_poll_takes_sixty_four_and_the_rest_waits_for_the_next_run() {
    let mut lab = Lab::new();
    for port in 0..150 {
        let frame = stray(&mut lab, 1_000 + port);
        lab.put(&frame);
    }
    assert_eq!(one_softirq(&lab), Ran { work: 64, again: true }, "full weight: polled again, at the end of the list");
    assert_eq!(one_softirq(&lab), Ran { work: 64, again: true });
    assert_eq!(one_softirq(&lab), Ran { work: 22, again: true }, "an interrupt came while the line was masked");
    assert_eq!(one_softirq(&lab), Ran { work: 0, again: false }, "looked once more, and unmasked");
    assert_eq!(lab.count(Counter::SoftnetTimeSqueeze), 0);
    assert_eq!(lab.dropped(DropReason::NoSocket), 150);
    assert_eq!(lab.count(Counter::SoftnetProcessed), 150 + 1);
}

#[test]
fn the_budget_ends_a_run_and_counts_a_squeeze() {
    let mut lab = Lab::with_queues(6, |_| {});
    for queue in 0..6 {
        for port in 0..64 {
            let frame = stray(&mut lab, 1_000 + port);
            assert!(lab.offer(queue, &frame));
        }
    }
    assert_eq!(one_softirq(&lab), Ran { work: 5 * 64, again: true }, "300 is passed with the fifth poll");
    assert_eq!(lab.count(Counter::SoftnetTimeSqueeze), 1);
    let row = lab.stack.proc_softnet_stat();
    assert_eq!(row.split(' ').nth(2), Some("00000001"), "column 3: {row}");
    assert_eq!(one_softirq(&lab).work, 64, "the queue that was not reached goes first");
    lab.run();
    assert_eq!(lab.count(Counter::SoftnetTimeSqueeze), 1);
    assert_eq!(lab.dropped(DropReason::NoSocket), 6 * 64);
}

#[test]
fn the_time_limit_ends_a_run_too() {
    let mut lab = Lab::new();
    for port in 0..200 {
        let frame = stray(&mut lab, 1_000 + port);
        lab.put(&frame);
    }
    let mut now = lab.now;
    let mut slow = || {
        now += 8_000_000;
        now
    };
    let ran = lab.stack.softirq(0, &mut slow).expect("the token is free");
    assert_eq!((ran.work, ran.again), (64, true));
    assert_eq!(lab.count(Counter::SoftnetTimeSqueeze), 1);
    lab.now += 100_000_000;
    lab.run();
}

#[test]
fn a_full_ring_loses_frames_under_their_name() {
    let mut lab = Lab::with(|config| {
        config.interfaces[0].ring = 16;
        config.lives = Selector::All;
    });
    let mut missed = 0;
    for port in 0..40 {
        let frame = stray(&mut lab, 1_000 + port);
        missed += u64::from(!lab.offer(0, &frame));
    }
    assert!((25..30).contains(&missed), "{missed} of 40 frames met a ring of 16 places");
    lab.run();
    assert_eq!(lab.dropped(DropReason::RxMissed), missed);
    assert_eq!(lab.stack.interfaces()[0].stats[crate::demux::stats::DevStat::RxMissedErrors], missed);
    let events = lab.stack.take_events();
    let lost = events.iter().filter(|event| event.kind == EventKind::Missed).count() as u64;
    assert_eq!(lost, missed, "a frame that meets a full ring has a life, too");
}

#[test]
fn a_frame_that_comes_after_the_run_read_the_clock_is_offered_before_its_life_goes_on() {
    let mut lab = Lab::with(|config| config.lives = Selector::All);
    let started = lab.now;
    lab.now += 700;
    let frame = stray(&mut lab, 1_000);
    lab.put(&frame);
    lab.stack.softirq(0, &mut || started).expect("the token is free");
    let lives = lives::group(lab.stack.take_events());
    let life = lives.iter().find(|life| life.id == PacketId::of_ring(0, 2)).expect("the frame after the ARP packet");
    assert_eq!((life.events[0].kind, life.events[0].at), (EventKind::Offered, started), "{life:?}");
    assert_eq!(life.status(), lives::Status::Finished);
    lab.run();
}

#[test]
fn a_dry_pool_is_told_from_a_slow_driver() {
    let mut lab = Lab::with(|config| {
        config.pool.slots = 80;
        config.pool.reserve = 8;
        config.interfaces[0].ring = 128;
    });
    let mut missed = 0;
    for port in 0..100 {
        let frame = stray(&mut lab, 1_000 + port);
        missed += u64::from(!lab.offer(0, &frame));
    }
    lab.run();
    assert!(missed > 20);
    assert_eq!(lab.dropped(DropReason::RxNoBuffer), missed);
}

/// A two-Cpu lab whose device puts everything on queue 0, and a port whose flow Cpu `owner` owns.
fn wrongly_steered(owner: u16) -> (Lab, u16) {
    let lab = Lab::with_queues(2, |config| config.cpus = 2);
    let hasher = lab.stack.config().hasher;
    let port = (2_000..3_000).find(|&port| {
        let tuple =
            rxpath_wire::Tuple { local: Addr::from(US), remote: Addr::from(PEER), local_port: 80, remote_port: port };
        owner_cpu(hasher.hash(&tuple), 2) == owner
    });
    (lab, port.expect("half of all ports"))
}

#[test]
fn packets_on_the_wrong_cpu_reach_their_owner_in_order() {
    let (mut lab, port) = wrongly_steered(1);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(port, 80);
    let sock = peer.connect(&mut lab, &listener);
    assert_eq!(sock.cpu, 1);
    let mut sent = Vec::new();
    for n in 0..100u8 {
        let frame = lab.frame(peer.repr(ACK), &[n; 10]);
        peer.seq += 10;
        sent.extend([n; 10]);
        lab.put(&frame);
    }
    lab.run();
    assert_eq!(lab.recv(&sock, 2_000).expect("all of it"), sent);
    assert_eq!(lab.count(Counter::TcpExtTCPOFOQueue), 0, "order is kept");
    assert!(lab.stack.snapshot_of(1)[Counter::SoftnetReceivedRps] > 0);
    assert_eq!(lab.stack.snapshot_of(0)[Counter::SoftnetReceivedRps], 0);
    while lab.sent().is_some() {}
}

#[test]
fn the_backlog_of_a_cpu_is_bounded_and_counted_in_column_two() {
    let (mut lab, port) = wrongly_steered(1);
    lab.stack.reconfigure(|net| {
        let mut sysctl = net.sysctl.clone();
        sysctl.netdev_max_backlog = 10;
        crate::netns::NetConfig { sysctl, ..net.clone() }
    });
    for n in 0..30u32 {
        let mut peer = Peer::new(port, 80);
        peer.seq += n * 3;
        let frame = lab.frame(peer.repr(rxpath_wire::TcpFlags::RST), &[]);
        lab.put(&frame);
    }
    one_softirq(&lab);
    assert_eq!(lab.stack.ledger().held_by(Holder::CpuBacklog), 11, "one more than the limit");
    assert_eq!(lab.dropped(DropReason::CpuBacklog), 19);
    let row = lab.stack.proc_softnet_stat();
    let first: Vec<&str> = row.lines().next().unwrap_or_default().split(' ').collect();
    assert_eq!(first[1], "00000013", "{row}");
    lab.run();
    assert_eq!(lab.stack.ledger().held(), 0);
}

#[test]
fn a_frame_for_a_device_of_another_cpu_leaves_through_its_owner() {
    let mut lab = Lab::with(|config| config.cpus = 2);
    let listener = lab.listen(80, 8);
    let mut on_both = [false; 2];
    for port in 2_000..2_020 {
        let mut peer = Peer::new(port, 80);
        let sock = peer.connect(&mut lab, &listener);
        on_both[usize::from(sock.cpu)] = true;
        lab.send(&sock, b"from either Cpu");
        assert_eq!(lab.sent().map(|sent| sent.payload), Some(b"from either Cpu".to_vec()));
        lab.stack.abort(&sock, lab.now);
        lab.run();
        lab.sent().expect("the reset");
    }
    assert_eq!(on_both, [true; 2]);
    assert_eq!(lab.stack.ledger().held_by(Holder::TxQueue), 0);
    assert!(lab.now > Time::ZERO);
}
