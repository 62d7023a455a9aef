//! The states of a neighbour under tunables other than the defaults. Each row was seen on Linux 6.18: a TAP in a namespace
//! of its own, frames with times, `ip -s neigh`.

use super::*;
use crate::neigh::{Mode, NeighError, NeighSpec};

/// A rig with tunables of `net.ipv4.neigh.eth0`.
fn rig(sysctls: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::new();
    rig.reconfigure(|net| {
        for (name, value) in sysctls {
            net.sysctl.set(&format!("net.ipv4.neigh.eth0.{name}"), value).expect("a tunable");
        }
    });
    rig
}

fn state(rig: &Rig) -> Option<Nud> {
    entry(rig).map(|(state, _)| state)
}

/// Something, and after how many milliseconds.
type At<T> = (u64, T);

/// What is asked in so many milliseconds, each with its time, and the states that are passed through.
fn watch(rig: &mut Rig, ms: u64) -> (Vec<At<Out>>, Vec<At<Nud>>) {
    let (mut asked, mut states) = (Vec::new(), Vec::new());
    let (start, end) = (rig.now, rig.now + ms * MS);
    let mut last = None;
    loop {
        neigh::tick(rig, |_, _| {});
        let at = (rig.now - start) / MS;
        asked.extend(out(rig).into_iter().map(|frame| (at, frame)));
        if state(rig) != last {
            last = state(rig);
            states.extend(last.map(|state| (at, state)));
        }
        if rig.now >= end {
            return (asked, states);
        }
        rig.now = rig.neigh.next_deadline().map_or(end, |at| at.min(end)).max(rig.now);
    }
}

/// Makes the peer known and reachable.
fn make_reachable(rig: &mut Rig) -> Route {
    let mut route = route_to(rig, peer());
    send(rig, &mut route, b"1");
    rig.receive(&arp_reply());
    out(rig);
    assert_eq!(state(rig), Some(Nud::Reachable));
    route_to(rig, peer())
}

/// Linux, `retrans_time_ms` 200: requests at 0, 206 and 410 ms, FAILED at 610.
#[test]
fn solicitations_are_retrans_time_apart() {
    let mut rig = rig(&[("retrans_time_ms", "200")]);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    let (asked, states) = watch(&mut rig, 1_000);
    assert_eq!(asked, [0, 200, 400].map(|at| (at, ask(MacAddr::BROADCAST))));
    assert_eq!(states, [(0, Nud::Incomplete), (600, Nud::Failed)]);
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighFailed), 1);
}

/// Linux, `retrans_time_ms` 0: requests 10 to 12 ms apart.
#[test]
fn solicitations_are_ten_milliseconds_apart_at_the_least() {
    let mut rig = rig(&[("retrans_time_ms", "0")]);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    let (asked, _) = watch(&mut rig, 100);
    assert_eq!(asked.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 10, 20]);
}

/// Linux, `ucast_solicit` 1, `app_solicit` 2, `mcast_solicit` 1, `mcast_resolicit` 2, 200 ms apart: an unknown neighbour is
/// asked for at 412 ms, once; one that was known is asked alone, then, 616 and 824 ms later, of all.
#[test]
fn a_daemon_that_is_not_there_takes_its_time_between_the_neighbour_and_all() {
    let mut rig = rig(&[
        ("ucast_solicit", "1"),
        ("app_solicit", "2"),
        ("mcast_solicit", "1"),
        ("mcast_resolicit", "2"),
        ("retrans_time_ms", "200"),
        ("delay_first_probe_time", "1"),
        ("base_reachable_time_ms", "500"),
    ]);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    let (asked, states) = watch(&mut rig, 1_000);
    assert_eq!(asked, [(400, ask(MacAddr::BROADCAST))]);
    assert_eq!(states, [(0, Nud::Incomplete), (600, Nud::Failed)]);
    let mut route = make_reachable(&mut rig);
    rig.pass(3 * SECOND);
    watch(&mut rig, 3_000);
    rig.receive(&gratuitous(PEER_MAC));
    send(&mut rig, &mut route, b"2");
    out(&mut rig);
    let (asked, states) = watch(&mut rig, 2_500);
    let all = || ask(MacAddr::BROADCAST);
    assert_eq!(asked, [(1_000, ask(PEER_MAC)), (1_600, all()), (1_800, all())]);
    assert_eq!(states, [(0, Nud::Delay), (1_000, Nud::Probe), (2_000, Nud::Failed)]);
}

/// Linux, `mcast_solicit` 0 and `app_solicit` 0: no request; FAILED at once.
#[test]
fn who_is_never_asked_for_fails_at_once() {
    let mut rig = rig(&[("mcast_solicit", "0")]);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    assert!(out(&mut rig).is_empty());
    assert_eq!(state(&rig), Some(Nud::Failed));
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighFailed), 1);
    assert_eq!(rig.neigh.next_deadline(), None);
}

/// Linux, `ucast_solicit` 0: FAILED at the end of DELAY, without a request.
#[test]
fn without_solicitations_the_end_of_the_delay_is_the_end() {
    let mut rig = rig(&[("ucast_solicit", "0"), ("delay_first_probe_time", "1")]);
    rig.receive(&arp_request());
    out(&mut rig);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    out(&mut rig);
    let (asked, states) = watch(&mut rig, 1_500);
    assert_eq!((asked, states), (Vec::new(), vec![(0, Nud::Delay), (1_000, Nud::Failed)]));
}

/// Linux: an entry that a request of the neighbour made is probed at the end of DELAY, however fresh it is: a word without
/// proof confirms nothing.
#[test]
fn a_neighbour_that_only_spoke_of_itself_is_probed() {
    let mut rig = Rig::new();
    rig.receive(&arp_request());
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    out(&mut rig);
    rig.pass(5 * SECOND);
    neigh::tick(&mut rig, |_, _| {});
    assert_eq!((state(&rig), out(&mut rig)), (Some(Nud::Probe), vec![ask(PEER_MAC)]));
}

/// Linux, `base_reachable_time_ms` 1000 and `delay_first_probe_time` 5: REACHABLE, at 1.3 s DELAY, at 6.4 s PROBE: it was
/// used within the delay. Used earlier than that it goes to STALE, however much is sent while it is reachable.
#[test]
fn the_end_of_reachable_is_delay_for_who_was_used_lately() {
    let mut rig = rig(&[("base_reachable_time_ms", "1000")]);
    make_reachable(&mut rig);
    let (asked, states) = watch(&mut rig, 7_000);
    let (&(_, first), end) = (states.first().expect("a state"), states[1].0);
    assert_eq!(first, Nud::Reachable);
    assert!((500..1_500).contains(&end), "{end}");
    assert_eq!(states[1..], [(end, Nud::Delay), (end + 5_000, Nud::Probe)]);
    assert_eq!(asked[0], (end + 5_000, ask(PEER_MAC)));
    let mut rig = self::rig(&[("base_reachable_time_ms", "20000")]);
    let mut route = make_reachable(&mut rig);
    for _ in 0..9 {
        rig.pass(SECOND);
        send(&mut rig, &mut route, b"2");
    }
    let (_, states) = watch(&mut rig, 30_000);
    assert_eq!(states.iter().map(|(_, state)| *state).collect::<Vec<_>>(), [Nud::Reachable, Nud::Stale]);
}

/// Linux, `base_reachable_time_ms` 0: DELAY at once. With `delay_first_probe_time` 0 a stale one is asked as it is used.
#[test]
fn times_may_be_nothing() {
    let mut rig = rig(&[("base_reachable_time_ms", "0")]);
    make_reachable(&mut rig);
    let (_, states) = watch(&mut rig, 10);
    assert_eq!(states, [(0, Nud::Delay)]);
    let mut rig = self::rig(&[("delay_first_probe_time", "0")]);
    rig.receive(&arp_request());
    out(&mut rig);
    let mut route = route_to(&rig, peer());
    send(&mut rig, &mut route, b"1");
    out(&mut rig);
    let (asked, _) = watch(&mut rig, 10);
    assert_eq!(asked, [(0, ask(PEER_MAC))]);
}

/// Linux, `locktime` 50: a word 400 ms after the last change is nothing, one 600 ms after it counts.
#[test]
fn an_address_stands_for_locktime() {
    let mut rig = rig(&[("locktime", "50")]);
    rig.receive(&request(PEER_MAC));
    rig.pass(400 * MS);
    rig.receive(&request_for_another(M3));
    assert_eq!(entry(&rig), Some((Nud::Stale, PEER_MAC)));
    rig.pass(200 * MS);
    rig.receive(&request_for_another(M4));
    assert_eq!(entry(&rig), Some((Nud::Stale, M4)));
}

#[test]
fn the_reachable_time_is_drawn_anew_every_five_minutes_for_each_interface() {
    let rig = Rig::new();
    let table = NeighTable::new(7);
    let mut rng = Rng::new(8);
    let reachable = |ifindex: u16| table.parms(&rig.net, ifindex).reachable;
    let first = reachable(1);
    assert_ne!(reachable(2), first, "each interface has its own");
    table.redraw_reachable(Time(299 * SECOND), &mut rng);
    assert_eq!(reachable(1), first);
    table.redraw_reachable(Time(300 * SECOND), &mut rng);
    let second = reachable(1);
    assert_ne!(second, first);
    table.redraw_reachable(Time(599 * SECOND), &mut rng);
    assert_eq!(reachable(1), second);
    for seed in 0..1_000 {
        let drawn = NeighTable::new(seed).parms(&rig.net, 1).reachable;
        assert!((BASE_REACHABLE / 2..BASE_REACHABLE * 3 / 2).contains(&drawn), "{drawn}");
    }
}

/// `ip neigh add 10.0.0.2 lladdr … dev … nud STATE` on Linux, and what a request of the neighbour with another hardware
/// address, and then 1.6 s of silence, make of it.
#[test]
fn what_is_configured_goes_on_as_in_linux() {
    let configured = |state: Nud| {
        let mut rig = rig(&[("retrans_time_ms", "200"), ("delay_first_probe_time", "1")]);
        let spec = NeighSpec { ifindex: 1, addr: peer(), mac: Some(PEER_MAC), state };
        assert_eq!(neigh::configure(&mut rig, spec, Mode::Add), Ok(()));
        let (asked, states) = watch(&mut rig, 1_600);
        let silent: Vec<Nud> = states.into_iter().map(|(_, state)| state).collect();
        rig.receive(&request(M3));
        rig.sent();
        (asked.len(), silent, entry(&rig))
    };
    let changed = Some((Nud::Stale, M3));
    for (state, asked, silent, after) in [
        (Nud::Permanent, 0, vec![Nud::Permanent], Some((Nud::Permanent, PEER_MAC))),
        (Nud::Noarp, 0, vec![Nud::Noarp], Some((Nud::Noarp, PEER_MAC))),
        (Nud::Reachable, 0, vec![Nud::Reachable], changed),
        (Nud::Stale, 0, vec![Nud::Stale], changed),
        (Nud::Delay, 3, vec![Nud::Probe, Nud::Failed], changed),
        (Nud::Probe, 3, vec![Nud::Probe, Nud::Failed], changed),
        (Nud::Failed, 0, vec![Nud::Failed], changed),
    ] {
        assert_eq!(configured(state), (asked, silent, after), "{state:?}");
    }
}

/// iproute2 on Linux: `add` of one that is there gives EEXIST, `change` of one that is not ENOENT, a valid state without
/// an address EINVAL.
#[test]
fn configuring_says_why_not() {
    let mut rig = Rig::new();
    let spec = |mac: Option<MacAddr>, state: Nud| NeighSpec { ifindex: 1, addr: peer(), mac, state };
    let known = spec(Some(PEER_MAC), Nud::Stale);
    assert_eq!(neigh::configure(&mut rig, known, Mode::Change), Err(NeighError::Unknown));
    assert_eq!(neigh::configure(&mut rig, spec(None, Nud::Stale), Mode::Add), Err(NeighError::NoMac));
    assert!(rig.neigh.is_empty());
    assert_eq!(neigh::configure(&mut rig, known, Mode::Add), Ok(()));
    assert_eq!(neigh::configure(&mut rig, known, Mode::Add), Err(NeighError::Exists));
    assert_eq!(neigh::configure(&mut rig, spec(None, Nud::Permanent), Mode::Change), Ok(()));
    assert_eq!(entry(&rig), Some((Nud::Permanent, PEER_MAC)), "the address that it had");
    assert_eq!(neigh::configure(&mut rig, spec(Some(M3), Nud::Stale), Mode::Replace), Ok(()));
    assert_eq!(entry(&rig), Some((Nud::Stale, M3)));
    // What waits ends with one that is told to have failed.
    let mut route = route_to(&rig, Addr::from_v4([10, 0, 0, 9]));
    send(&mut rig, &mut route, b"1");
    let failed = NeighSpec { addr: Addr::from_v4([10, 0, 0, 9]), ..spec(None, Nud::Failed) };
    assert_eq!(neigh::configure(&mut rig, failed, Mode::Replace), Ok(()));
    assert_eq!(rig.ledger().dropped_for(DropReason::NeighFailed), 1);
    rig.sent();
}
