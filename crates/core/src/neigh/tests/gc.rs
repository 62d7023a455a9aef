//! Which neighbours are collected, and when the table is full. Each row was seen on Linux 6.18, in a namespace of its own
//! with the thresholds at their defaults (128, 512, 1024) and the counts of `/proc/net/stat/arp_cache`.

use super::*;
use crate::neigh::{Mode, NeighError, NeighSpec};

/// Host `n` of 172.16/16.
fn host(n: usize) -> Addr {
    let [.., c, d] = (n as u32).to_be_bytes();
    Addr::from_v4([172, 16, c, d])
}

/// Host `n` asks for our address: it is stale from then on.
fn hear(rig: &mut Rig, n: usize) -> Ended {
    let sender = host(n).v4().expect("of IPv4");
    let frame = arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M3, sender), (MacAddr::ZERO, ADDR));
    let ended = rig.receive(&frame);
    rig.sent();
    rig.events();
    ended
}

fn configure(rig: &mut Rig, n: usize, state: Nud) -> Result<(), NeighError> {
    let spec = NeighSpec { ifindex: 1, addr: host(n), mac: Some(M3), state };
    neigh::configure(rig, spec, Mode::Add)
}

fn count(rig: &Rig, state: Nud) -> usize {
    rig.neigh.rows().iter().filter(|row| row.state == state).count()
}

/// Lets seconds pass, one by one, as the stack does.
fn wait(rig: &mut Rig, seconds: u64) {
    for _ in 0..seconds {
        rig.pass(SECOND);
        neigh::tick(rig, |_, _| {});
    }
    rig.sent();
}

/// Linux: 100 entries in FAILED stayed for 40 s, and longer.
#[test]
fn below_the_first_threshold_nothing_is_collected() {
    let mut rig = Rig::new();
    for n in 0..100 {
        assert_eq!(configure(&mut rig, n, Nud::Failed), Ok(()));
    }
    assert_eq!(rig.neigh.next_deadline(), None);
    wait(&mut rig, 200);
    assert_eq!(count(&rig, Nud::Failed), 100);
}

/// Linux: of 150 in FAILED, 60 in STALE, 5 in PERMANENT and 5 in REACHABLE the first were gone with the next collection,
/// which comes every 15 s, and the others stayed: by then there were too few for another.
#[test]
fn who_failed_goes_with_the_next_collection() {
    let mut rig = Rig::new();
    for n in 0..60 {
        hear(&mut rig, n);
    }
    for (from, number, state) in [(100, 5, Nud::Permanent), (110, 5, Nud::Reachable), (200, 150, Nud::Failed)] {
        for n in from..from + number {
            assert_eq!(configure(&mut rig, n, state), Ok(()));
        }
    }
    wait(&mut rig, 14);
    assert_eq!(count(&rig, Nud::Failed), 150);
    wait(&mut rig, 1);
    assert_eq!(count(&rig, Nud::Failed), 0);
    let left = [Nud::Stale, Nud::Permanent].map(|state| count(&rig, state));
    assert_eq!((left, rig.neigh.len()), ([60, 5], 70));
    wait(&mut rig, 300);
    assert_eq!(rig.neigh.len(), 70, "too few for another collection");
}

/// Linux, `gc_stale_time` 20, 160 in STALE, collections at 7.9 and 23 s: all gone with the second, those that somebody
/// spoke of again at 12 s, too; NOARP as well; PERMANENT and REACHABLE stayed.
#[test]
fn who_is_not_used_goes_after_gc_stale_time() {
    let mut rig = Rig::new();
    rig.reconfigure(|net| {
        net.sysctl.set("net.ipv4.neigh.eth0.gc_stale_time", "20").expect("a tunable");
        net.sysctl.set("net.ipv4.neigh.eth0.base_reachable_time_ms", "200000").expect("a tunable");
    });
    for n in 0..160 {
        hear(&mut rig, n);
    }
    for (n, state) in [(300, Nud::Permanent), (301, Nud::Noarp), (302, Nud::Reachable)] {
        assert_eq!(configure(&mut rig, n, state), Ok(()));
    }
    wait(&mut rig, 12);
    for n in 0..10 {
        let sender = host(n).v4().expect("of IPv4");
        rig.receive(&arp_frame(MacAddr::BROADCAST, wire_arp::REQUEST, (M4, sender), (MacAddr::ZERO, sender)));
    }
    assert_eq!(rig.neigh.row(1, host(0)).map(|row| row.mac), Some(M4));
    wait(&mut rig, 17);
    assert_eq!(rig.neigh.len(), 163, "collected at 15 s, when nobody was old enough");
    wait(&mut rig, 1);
    let left: Vec<Nud> = rig.neigh.rows().iter().map(|row| row.state).collect();
    assert_eq!(left, [Nud::Permanent, Nud::Reachable]);
}

/// Linux: 300 stale ones of an age of six seconds, 40 in REACHABLE and NOARP and 300 in PERMANENT, then new ones without
/// end: collected at 512 counted ones (none was one too many), at 1024 (the old ones in STALE went, REACHABLE stayed), then
/// full at 1024, PERMANENT apart. Six seconds later the oldest made room.
#[test]
fn a_full_table_makes_room_by_age_and_refuses_who_finds_none() {
    let mut rig = Rig::new();
    rig.reconfigure(|net| net.sysctl.neigh.default.base_reachable_time_ms = 600_000);
    for n in 0..300 {
        assert_eq!(configure(&mut rig, 50_000 + n, Nud::Permanent), Ok(()));
    }
    for n in 0..20 {
        assert_eq!(configure(&mut rig, 60_000 + n, Nud::Reachable), Ok(()));
        assert_eq!(configure(&mut rig, 61_000 + n, Nud::Noarp), Ok(()));
    }
    for n in 0..300 {
        assert_eq!(hear(&mut rig, n), ANSWERED);
    }
    rig.pass(6 * SECOND);
    for n in 300..984 {
        assert_eq!(hear(&mut rig, n), ANSWERED);
    }
    // 984 in STALE and 40 others are counted; the next one finds 320 that can go.
    assert_eq!((count(&rig, Nud::Stale), rig.neigh.len()), (984, 1_324));
    assert_eq!(hear(&mut rig, 984), ANSWERED);
    let states = [Nud::Stale, Nud::Noarp, Nud::Reachable, Nud::Permanent];
    assert_eq!(states.map(|state| count(&rig, state)), [685, 0, 20, 300]);
    let mut n = 985;
    while hear(&mut rig, n) == ANSWERED {
        n += 1;
    }
    assert_eq!(states.map(|state| count(&rig, state)), [1_004, 0, 20, 300]);
    // What is full for a word is full for a packet and for who configures, unless it is for good.
    let skb = probe_packet(&mut rig);
    assert_eq!(resolve_output(&mut rig, skb, 1, Addr::from_v4([10, 0, 0, 99]), false), None);
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighCreatefail), 1);
    assert_eq!(configure(&mut rig, 5_000, Nud::Stale), Err(NeighError::Full));
    assert_eq!(configure(&mut rig, 5_000, Nud::Permanent), Ok(()));
    // Six seconds later as many go as are above the second threshold, the oldest first.
    rig.pass(6 * SECOND);
    assert_eq!(hear(&mut rig, 40_000), ANSWERED);
    assert_eq!(states.map(|state| count(&rig, state)), [493, 0, 20, 301]);
    let oldest = (300..n).find(|n| rig.neigh.row(1, host(*n)).is_some());
    assert_eq!(oldest, Some(300 + 512));
}

/// Linux: at 512 counted ones a new one has as many collected as there are above 512: none; the next such collection is
/// five seconds later at the earliest.
#[test]
fn above_the_second_threshold_the_table_is_pruned_every_five_seconds() {
    let mut rig = Rig::new();
    for n in 0..512 {
        hear(&mut rig, n);
    }
    rig.pass(6 * SECOND);
    for n in 512..600 {
        hear(&mut rig, n);
    }
    assert_eq!(rig.neigh.len(), 600, "the first found none too many, the second comes too early");
    rig.pass(6 * SECOND);
    hear(&mut rig, 600);
    assert_eq!(rig.neigh.len(), 513);
    let left: Vec<usize> = (0..601).filter(|n| rig.neigh.row(1, host(*n)).is_some()).collect();
    assert_eq!(left, (88..601).collect::<Vec<_>>());
}

/// A neighbour that a packet waits for, or that is being asked, is needed.
#[test]
fn who_is_being_asked_for_is_never_collected() {
    let mut rig = Rig::new();
    rig.reconfigure(|net| {
        net.sysctl.neigh_gc_thresh1 = 1;
        net.sysctl.neigh_gc_thresh2 = 1;
        net.sysctl.neigh_gc_thresh3 = 2;
        net.sysctl.neigh.default.mcast_solicit = 100;
    });
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    hear(&mut rig, 1);
    wait(&mut rig, 80);
    assert_eq!(rig.neigh.rows().iter().map(|row| row.state).collect::<Vec<_>>(), [Nud::Incomplete]);
    assert_eq!(rig.ledger().held_by(Holder::Neighbour), 1);
}
