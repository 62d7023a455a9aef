//! Local ports in use, shared by all Cpus; touched when a socket is bound, connected or closed.
//!
//! A port belongs either to those who asked for it (listeners, connections from a port that was named) or to connections that
//! were given it, which share it as long as their peers differ (`inet_csk_get_port`, `__inet_hash_connect`). Which port a
//! connection is given: RFC 6056's double-hash selection (section 3.3.4), in the half of the range whose ports are even if its
//! lowest is; listeners without a port are given one of the other half first, so that neither stands in the other's way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rxpath_trace::Time;
use rxpath_wire::{Addr, Tuple};

use super::Listener;
use crate::cx::Rng;
use crate::route::is_loopback;
use crate::sysctl::Sysctls;

/// Places of the table that holds how far selection has come (RFC 6056: the more, the less destinations tell of each other).
const PERTURBATIONS: usize = 1_024;

/// The table.
#[derive(Debug)]
pub struct BindTable(Mutex<Binds>);

#[derive(Debug)]
struct Binds {
    /// Ports with listeners: the addresses and interfaces (0 for any) that they listen on, and whether they share them
    /// (`SO_REUSEPORT`).
    listening: HashMap<u16, Vec<(Addr, u16, bool)>>,
    /// Listeners that are closed: their port is kept by the connections that they gave.
    left: HashMap<u16, Vec<Weak<Listener>>>,
    /// Connections that we opened.
    connected: HashMap<Tuple, Conn>,
    /// Ports of these.
    ports: HashMap<u16, Vec<Users>>,
    /// How far selection has come, by a hash of where the connection goes.
    perturb: Box<[u32]>,
}

/// A connection that we opened.
#[derive(Debug)]
struct Conn {
    named: bool,
    /// Only a mini-socket is left of it.
    rest: Option<Rest>,
}

/// What of a mini-socket says whether its port may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// When it came to be what it is.
    pub since: Time,
    /// Timestamps are in use.
    pub stamps: bool,
    /// The peer's FIN has not come yet.
    pub fin_wait2: bool,
}

/// Connections from one address and port.
#[derive(Debug)]
struct Users {
    addr: Addr,
    named: u32,
    given: u32,
}

/// Where a connection is to come from and go to.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Our address.
    pub local: Addr,
    /// Our port, if it is named: as with `bind(2)` and `SO_REUSEADDR`.
    pub port: Option<u16>,
    /// The peer.
    pub remote: (Addr, u16),
    /// A keyed hash of address and peer.
    pub hash: u64,
    /// Now.
    pub now: Time,
}

/// Why there is no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPort {
    /// The one that was named is another's (`EADDRINUSE`).
    InUse,
    /// All that there are have a connection to this peer, or are others' (`EADDRNOTAVAIL`).
    NoneFree,
}

impl BindTable {
    /// No port is in use; selection begins somewhere.
    pub fn new(rng: &mut Rng) -> BindTable {
        BindTable(Mutex::new(Binds {
            listening: HashMap::new(),
            left: HashMap::new(),
            connected: HashMap::new(),
            ports: HashMap::new(),
            perturb: (0..PERTURBATIONS).map(|_| rng.next_u64() as u32).collect(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Binds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a port for a listener; false if another one listens there, unless both share it or are of different
    /// interfaces (`ifindex`; 0 for any), or the port was given to a connection (`EADDRINUSE`).
    pub fn listen(&self, addr: Addr, port: u16, ifindex: u16, shared: bool) -> bool {
        self.lock().listen(addr, port, ifindex, shared)
    }

    /// Reserves a free port of the range for a listener (`inet_csk_find_open_port`).
    pub fn listen_any(&self, addr: Addr, ifindex: u16, sysctl: &Sysctls, shared: bool, rng: &mut Rng) -> Option<u16> {
        let mut binds = self.lock();
        let start = rng.next_u64() as u32;
        scan(sysctl, start, 1).map(|(port, _)| port).find(|&port| binds.listen(addr, port, ifindex, shared))
    }

    /// Gives a listener's port back; what it has accepted keeps the port from being given to others.
    pub fn unlisten(&self, listener: &Arc<Listener>) {
        let (addr, port) = (listener.addr, listener.port);
        let mut binds = self.lock();
        if let Some(taken) = binds.listening.get_mut(&port) {
            if let Some(index) = taken.iter().position(|(other, link, _)| (*other, *link) == (addr, listener.ifindex)) {
                taken.swap_remove(index);
            }
            if taken.is_empty() {
                binds.listening.remove(&port);
            }
        }
        let left = binds.left.entry(port).or_default();
        left.retain(|listener| listener.strong_count() > 0);
        left.push(Arc::downgrade(listener));
    }

    /// Reserves a local port for a connection (`__inet_hash_connect`, `__inet_check_established`). One whose last connection
    /// to the same place is in TIME-WAIT may be taken over.
    ///
    /// # Errors
    /// As [`NoPort`] lists them.
    pub fn connect(&self, wanted: &Wanted, sysctl: &Sysctls, rng: &mut Rng) -> Result<Tuple, NoPort> {
        let mut binds = self.lock();
        let Wanted { local, remote, .. } = *wanted;
        let tuple_of = |port| Tuple { local, remote: remote.0, local_port: port, remote_port: remote.1 };
        if let Some(port) = wanted.port {
            if binds.listening.contains_key(&port) || binds.is_given(local, port) {
                return Err(NoPort::InUse);
            }
            let tuple = tuple_of(port);
            return if binds.insert(tuple, true, wanted.now, sysctl) { Ok(tuple) } else { Err(NoPort::NoneFree) };
        }
        let place = (wanted.hash as usize) % PERTURBATIONS;
        let start = binds.perturb[place].wrapping_add((wanted.hash >> 32) as u32);
        let found = scan(sysctl, start, 0).find_map(|(port, steps)| {
            let tuple = tuple_of(port);
            let free = !binds.is_anothers(port) && binds.insert(tuple, false, wanted.now, sysctl);
            free.then_some((tuple, steps))
        });
        let (tuple, steps) = found.ok_or(NoPort::NoneFree)?;
        // The next one does not follow at once (RFC 6056 section 3.3.5).
        let advance = steps + 2 * (rng.below(8) + 1);
        binds.perturb[place] = binds.perturb[place].wrapping_add(advance);
        Ok(tuple)
    }

    /// Connections that have a local port of ours.
    pub fn connections(&self) -> usize {
        self.lock().connected.len()
    }

    /// Gives a connection's port back.
    pub fn disconnect(&self, tuple: &Tuple) {
        self.lock().remove(tuple);
    }

    /// Only a mini-socket is left of a connection, or it has become another.
    pub fn wait(&self, tuple: &Tuple, rest: Rest) {
        if let Some(conn) = self.lock().connected.get_mut(tuple) {
            conn.rest = Some(rest);
        }
    }

    /// The mini-socket is over: its port is given back, if no other connection has it yet.
    pub fn forget(&self, tuple: &Tuple) {
        let mut binds = self.lock();
        if binds.connected.get(tuple).is_some_and(|conn| conn.rest.is_some()) {
            binds.remove(tuple);
        }
    }
}

impl Binds {
    fn listen(&mut self, addr: Addr, port: u16, ifindex: u16, shared: bool) -> bool {
        if self.is_given(addr, port) {
            return false;
        }
        let taken = self.listening.entry(port).or_default();
        let clash = taken.iter().any(|(other, link, both)| {
            let same_link = *link == 0 || ifindex == 0 || *link == ifindex;
            overlap(*other, addr) && same_link && !(shared && *both)
        });
        if !clash {
            taken.push((addr, ifindex, shared));
        }
        !clash
    }

    /// Connections that were given the port have it.
    fn is_given(&self, addr: Addr, port: u16) -> bool {
        self.ports.get(&port).is_some_and(|users| users.iter().any(|one| one.given > 0 && overlap(one.addr, addr)))
    }

    /// Somebody has asked for the port: it is given to nobody else.
    fn is_anothers(&self, port: u16) -> bool {
        self.listening.contains_key(&port)
            || self.ports.get(&port).is_some_and(|users| users.iter().any(|one| one.named > 0))
            || self.left.get(&port).is_some_and(|left| left.iter().any(|one| one.strong_count() > 0))
    }

    fn insert(&mut self, tuple: Tuple, named: bool, now: Time, sysctl: &Sysctls) -> bool {
        if let Some(conn) = self.connected.get(&tuple) {
            let taken = conn.rest.is_some_and(|rest| gives_way(&rest, &tuple, named, now, sysctl));
            if !taken {
                return false;
            }
            self.remove(&tuple);
        }
        self.connected.insert(tuple, Conn { named, rest: None });
        let users = self.ports.entry(tuple.local_port).or_default();
        let place = users.iter().position(|one| one.addr == tuple.local).unwrap_or_else(|| {
            users.push(Users { addr: tuple.local, named: 0, given: 0 });
            users.len() - 1
        });
        let count = if named { &mut users[place].named } else { &mut users[place].given };
        *count += 1;
        true
    }

    fn remove(&mut self, tuple: &Tuple) {
        let Some(conn) = self.connected.remove(tuple) else { return };
        let Some(users) = self.ports.get_mut(&tuple.local_port) else { return };
        if let Some(one) = users.iter_mut().find(|one| one.addr == tuple.local) {
            let count = if conn.named { &mut one.named } else { &mut one.given };
            *count -= 1;
        }
        users.retain(|one| one.named + one.given > 0);
        if users.is_empty() {
            self.ports.remove(&tuple.local_port);
        }
    }
}

/// Addresses that one listener may not have beside the other.
fn overlap(a: Addr, b: Addr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

/// Whether a new connection may take the place of a mini-socket (`tcp_twsk_unique`): its timestamps tell segments of both
/// apart. Who has named the port need not ask further; others wait for TIME-WAIT to be `tcp_tw_reuse_delay` old.
fn gives_way(rest: &Rest, tuple: &Tuple, named: bool, now: Time, sysctl: &Sysctls) -> bool {
    const MS: u64 = 1_000_000;
    if !rest.stamps || named {
        return rest.stamps;
    }
    let allowed = match sysctl.tcp_tw_reuse {
        0 => false,
        1 => true,
        _ => is_loopback(tuple.local) || is_loopback(tuple.remote),
    };
    let delay_ms = match sysctl.tcp_tw_reuse_delay {
        0 => 1_000,
        delay_ms => delay_ms,
    };
    allowed && !rest.fin_wait2 && now - rest.since >= u64::from(delay_ms) * MS
}

/// The ports of the range, from `start` on: first those as even, or odd, as the lowest (`first` 0) or as the one above it
/// (`first` 1), then the others; reserved ones are left out. With each, how far from the beginning of its half it lies.
fn scan(sysctl: &Sysctls, start: u32, first: u32) -> impl Iterator<Item = (u16, u32)> + '_ {
    let (low, high) = (u32::from(sysctl.ip_local_port_range.low), u32::from(sysctl.ip_local_port_range.high));
    let count = high - low + 1;
    // An odd one out at the end is no start, but is passed over from below.
    let even = if count > 1 { count & !1 } else { count };
    let start = ((start % even) & !1) + if even > 1 { first } else { 0 };
    let half = move |offset: u32| {
        let ports = (0..even).step_by(2).map(move |step| (low + offset + step, step));
        ports.map(move |(port, step)| (if port > high { port - even } else { port }, step))
    };
    // A range of one port has no other half.
    let other = (even > 1).then_some(start ^ 1);
    let ports = half(start).chain(other.into_iter().flat_map(half)).map(|(port, step)| (port as u16, step));
    ports.filter(|(port, _)| !sysctl.ip_local_reserved_ports.contains(*port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::sysctl::PortRange;

    const LOCAL: Addr = Addr::from_v4([10, 0, 0, 1]);
    const PEER: Addr = Addr::from_v4([10, 0, 0, 2]);
    const MS: u64 = 1_000_000;

    fn table() -> BindTable {
        BindTable::new(&mut Rng::new(1))
    }

    fn range(low: u16, high: u16) -> Sysctls {
        Sysctls { ip_local_port_range: PortRange { low, high }, ..Sysctls::default() }
    }

    fn to(port: u16) -> Wanted {
        Wanted { local: LOCAL, port: None, remote: (PEER, port), hash: 77, now: Time::ZERO }
    }

    fn given(binds: &BindTable, sysctl: &Sysctls, wanted: &Wanted, rng: &mut Rng) -> Option<u16> {
        binds.connect(wanted, sysctl, rng).ok().map(|tuple| tuple.local_port)
    }

    fn listener(addr: Addr, shared: bool) -> Arc<Listener> {
        Arc::new(Listener::new(addr, 80, 1, shared, 0))
    }

    #[test]
    fn a_port_is_given_to_one_listener_per_address() {
        let binds = table();
        assert!(binds.listen(LOCAL, 80, 0, false));
        assert!(!binds.listen(LOCAL, 80, 0, false));
        assert!(!binds.listen(Addr::UNSPECIFIED_V4, 80, 0, false), "the wildcard clashes with every address");
        assert!(binds.listen(PEER, 80, 0, false), "another address does not");
        binds.unlisten(&listener(LOCAL, false));
        binds.unlisten(&listener(PEER, false));
        assert!(binds.listen(Addr::UNSPECIFIED_V4, 80, 0, false));
    }

    #[test]
    fn those_who_share_a_port_share_it_with_each_other_alone() {
        let binds = table();
        assert!(binds.listen(LOCAL, 80, 0, true) && binds.listen(LOCAL, 80, 0, true));
        assert!(binds.listen(Addr::UNSPECIFIED_V4, 80, 0, true));
        assert!(!binds.listen(LOCAL, 80, 0, false));
        binds.unlisten(&listener(LOCAL, true));
        assert!(!binds.listen(LOCAL, 80, 0, false), "one is left");
    }

    /// As Linux 6.18 lets them listen.
    #[test]
    fn listeners_of_different_interfaces_do_not_stand_in_each_others_way() {
        const ANY: Addr = Addr::UNSPECIFIED_V4;
        for (first, second, beside) in [
            ((LOCAL, 0), (LOCAL, 1), false),
            ((LOCAL, 1), (LOCAL, 0), false),
            ((LOCAL, 1), (LOCAL, 1), false),
            ((LOCAL, 1), (LOCAL, 2), true),
            ((ANY, 1), (LOCAL, 0), false),
            ((ANY, 1), (LOCAL, 2), true),
            ((ANY, 0), (ANY, 1), false),
        ] {
            for shared in [false, true] {
                let binds = table();
                assert!(binds.listen(first.0, 80, first.1, shared));
                assert_eq!(binds.listen(second.0, 80, second.1, shared), beside || shared, "{first:?} {second:?}");
            }
        }
        let binds = table();
        assert!(binds.listen(LOCAL, 80, 1, false) && binds.listen(LOCAL, 80, 2, false));
        binds.unlisten(&Arc::new(Listener::new(LOCAL, 80, 1, false, 2)));
        assert!(!binds.listen(LOCAL, 80, 1, false) && binds.listen(LOCAL, 80, 2, false));
    }

    #[test]
    fn every_port_of_the_range_is_found_and_none_twice() {
        let (binds, sysctl, mut rng) = (table(), range(100, 110), Rng::new(1));
        let mut seen = HashSet::new();
        for n in 0..11 {
            let port = given(&binds, &sysctl, &to(80), &mut rng).expect("a free port");
            assert!(seen.insert(port));
            assert!(n >= 5 || port.is_multiple_of(2), "the first ones are even, as the lowest is");
        }
        assert_eq!(binds.connect(&to(80), &sysctl, &mut rng), Err(NoPort::NoneFree));
        assert!(given(&binds, &sysctl, &to(81), &mut rng).is_some(), "but not towards another port");
        binds.disconnect(&Tuple { local: LOCAL, remote: PEER, local_port: 105, remote_port: 80 });
        assert_eq!(given(&binds, &sysctl, &to(80), &mut rng), Some(105));
    }

    #[test]
    fn ranges_are_gone_through_as_by_the_kernel() {
        let ports = |low, high, start, first| -> Vec<u16> {
            scan(&range(low, high), start, first).map(|(port, _)| port).collect()
        };
        assert_eq!(ports(100, 103, 2, 0), [102, 100, 103, 101]);
        assert_eq!(ports(101, 104, 0, 1), [102, 104, 101, 103]);
        assert_eq!(ports(101, 105, 2, 0), [103, 105, 104, 102], "of an odd number of ports, one is not come to");
        assert_eq!(ports(7, 7, 9, 0), [7]);
        assert_eq!(ports(7, 7, 9, 1), [7]);
        assert_eq!(ports(7, 8, 9, 1), [8, 7]);
        let mut sysctl = range(100, 109);
        sysctl.set("net.ipv4.ip_local_reserved_ports", "100-103,109").expect("a list");
        let ports: Vec<u16> = scan(&sysctl, 4, 0).map(|(port, _)| port).collect();
        assert_eq!(ports, [104, 106, 108, 105, 107]);
    }

    #[test]
    fn connections_to_one_place_lie_a_few_ports_apart() {
        let (binds, sysctl, mut rng) = (table(), Sysctls::default(), Rng::new(1));
        let ports: Vec<u16> = (0..100).filter_map(|_| given(&binds, &sysctl, &to(80), &mut rng)).collect();
        for pair in ports.windows(2) {
            let step = (i32::from(pair[1]) - i32::from(pair[0])).rem_euclid(28_232);
            assert!((2..=16).contains(&step) && step % 2 == 0, "{pair:?}");
        }
        let elsewhere = Wanted { hash: 77 | 5 << 32, ..to(81) };
        let port = given(&binds, &sysctl, &elsewhere, &mut rng).expect("a free port");
        assert!(port.abs_diff(ports[99]) <= 22, "what has the same place of the table goes on with it");
    }

    #[test]
    fn a_port_is_for_those_who_name_it_or_for_those_who_are_given_it() {
        let (binds, sysctl, mut rng) = (table(), range(80, 80), Rng::new(1));
        let named = |port| Wanted { port: Some(80), ..to(port) };
        let other = binds.connect(&named(1), &sysctl, &mut rng).expect("it is free");
        assert_eq!(binds.connect(&named(1), &sysctl, &mut rng), Err(NoPort::NoneFree));
        assert!(binds.connect(&named(2), &sysctl, &mut rng).is_ok());
        assert_eq!(binds.connect(&to(3), &sysctl, &mut rng), Err(NoPort::NoneFree));
        binds.disconnect(&other);
        binds.disconnect(&Tuple { remote_port: 2, ..other });
        assert!(binds.connect(&to(3), &sysctl, &mut rng).is_ok());
        assert_eq!(binds.connect(&named(1), &sysctl, &mut rng), Err(NoPort::InUse));
        assert!(!binds.listen(LOCAL, 80, 0, true) && !binds.listen(Addr::UNSPECIFIED_V4, 80, 0, false));
        assert!(binds.listen(PEER, 80, 0, false), "at another address");
        assert_eq!(binds.connect(&to(4), &sysctl, &mut rng), Err(NoPort::NoneFree), "somebody listens");
        let gone = listener(PEER, false);
        binds.unlisten(&gone);
        assert_eq!(binds.connect(&to(4), &sysctl, &mut rng), Err(NoPort::NoneFree), "somebody has what it accepted");
        drop(gone);
        assert!(binds.connect(&to(4), &sysctl, &mut rng).is_ok());
    }

    #[test]
    fn a_port_is_taken_from_time_wait_by_the_kernels_rules() {
        let rest = Rest { since: Time::ZERO, stamps: true, fin_wait2: false };
        let taken = |mode, delay_ms, named, at_ms, rest| {
            let (binds, mut rng) = (table(), Rng::new(1));
            let sysctl = Sysctls { tcp_tw_reuse: mode, tcp_tw_reuse_delay: delay_ms, ..range(80, 80) };
            let wanted = Wanted { port: named, ..to(1) };
            let tuple = binds.connect(&wanted, &sysctl, &mut rng).expect("it is free");
            binds.wait(&tuple, rest);
            let again = binds.connect(&Wanted { now: Time(at_ms * MS), ..wanted }, &sysctl, &mut rng);
            binds.forget(&tuple);
            assert_eq!(binds.connections(), usize::from(again.is_ok()), "only the mini-socket is forgotten");
            again
        };
        let (old, fin_wait2) = (Rest { stamps: false, ..rest }, Rest { fin_wait2: true, ..rest });
        let none = Err(NoPort::NoneFree);
        assert_eq!(taken(0, 1_000, None, 5_000, rest), none);
        assert_eq!(taken(1, 1_000, None, 999, rest), none);
        assert!(taken(1, 1_000, None, 1_000, rest).is_ok() && taken(1, 100, None, 100, rest).is_ok());
        assert_eq!(taken(1, 0, None, 999, rest), none);
        assert_eq!(taken(2, 1_000, None, 5_000, rest), none, "it leads to another host");
        assert_eq!((taken(1, 1_000, None, 5_000, old), taken(1, 1_000, None, 5_000, fin_wait2)), (none, none));
        assert!(taken(0, 1_000, Some(80), 0, rest).is_ok() && taken(0, 1_000, Some(80), 0, fin_wait2).is_ok());
        assert_eq!(taken(1, 1_000, Some(80), 5_000, old), none);
    }

    #[test]
    fn within_the_loopback_time_wait_is_no_obstacle() {
        let (binds, mut rng, sysctl) = (table(), Rng::new(1), range(80, 80));
        let here = Addr::from_v4([127, 0, 0, 1]);
        let wanted = Wanted { local: here, remote: (here, 1), ..to(1) };
        let tuple = binds.connect(&wanted, &sysctl, &mut rng).expect("it is free");
        binds.wait(&tuple, Rest { since: Time::ZERO, stamps: true, fin_wait2: false });
        assert!(binds.connect(&Wanted { now: Time(1_000 * MS), ..wanted }, &sysctl, &mut rng).is_ok());
    }
}
