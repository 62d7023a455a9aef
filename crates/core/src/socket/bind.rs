//! Local ports in use, shared by all Cpus; touched when a socket is bound, connected or closed.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_wire::{Addr, Tuple};

use crate::cx::Rng;

/// The table.
#[derive(Debug, Default)]
pub struct BindTable(Mutex<Binds>);

#[derive(Debug, Default)]
struct Binds {
    /// Ports with listeners: the addresses that they listen on, and whether they share them (`SO_REUSEPORT`).
    listening: HashMap<u16, Vec<(Addr, bool)>>,
    /// Connections that we opened.
    connected: HashSet<Tuple>,
}

impl BindTable {
    fn lock(&self) -> MutexGuard<'_, Binds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a port for a listener; false if another one listens there, unless both share it (`EADDRINUSE`).
    pub fn listen(&self, addr: Addr, port: u16, shared: bool) -> bool {
        let mut binds = self.lock();
        let taken = binds.listening.entry(port).or_default();
        let clash = taken.iter().any(|(other, both)| {
            let overlap = *other == addr || other.is_unspecified() || addr.is_unspecified();
            overlap && !(shared && *both)
        });
        if !clash {
            taken.push((addr, shared));
        }
        !clash
    }

    /// Reserves a free port of `low..=high` for a listener, starting at a random one.
    pub fn listen_any(&self, addr: Addr, (low, high): (u16, u16), shared: bool, rng: &mut Rng) -> Option<u16> {
        ports(low, high, rng).find(|&port| self.listen(addr, port, shared))
    }

    /// Gives a listener's port back.
    pub fn unlisten(&self, addr: Addr, port: u16) {
        let mut binds = self.lock();
        if let Some(taken) = binds.listening.get_mut(&port) {
            if let Some(index) = taken.iter().position(|(other, _)| *other == addr) {
                taken.swap_remove(index);
            }
            if taken.is_empty() {
                binds.listening.remove(&port);
            }
        }
    }

    /// Reserves a local port for a connection to `remote`: one on which nobody listens and that has no connection to
    /// the same place.
    pub fn connect(&self, local: Addr, remote: (Addr, u16), low: u16, high: u16, rng: &mut Rng) -> Option<Tuple> {
        let mut binds = self.lock();
        ports(low, high, rng).find_map(|port| {
            let tuple = Tuple { local, remote: remote.0, local_port: port, remote_port: remote.1 };
            (!binds.listening.contains_key(&port) && binds.connected.insert(tuple)).then_some(tuple)
        })
    }

    /// Connections that have a local port of ours.
    pub fn connections(&self) -> usize {
        self.lock().connected.len()
    }

    /// Gives a connection's port back.
    pub fn disconnect(&self, tuple: &Tuple) {
        self.lock().connected.remove(tuple);
    }
}

/// All ports of a range, from a random one on, once around.
fn ports(low: u16, high: u16, rng: &mut Rng) -> impl Iterator<Item = u16> + use<> {
    let count = u32::from(high.saturating_sub(low)) + 1;
    let start = rng.below(count);
    (0..count).map(move |step| low + ((start + step) % count) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Addr = Addr::from_v4([10, 0, 0, 1]);
    const PEER: Addr = Addr::from_v4([10, 0, 0, 2]);

    #[test]
    fn a_port_is_given_to_one_listener_per_address() {
        let binds = BindTable::default();
        assert!(binds.listen(LOCAL, 80, false));
        assert!(!binds.listen(LOCAL, 80, false));
        assert!(!binds.listen(Addr::UNSPECIFIED_V4, 80, false), "the wildcard clashes with every address");
        assert!(binds.listen(PEER, 80, false), "another address does not");
        binds.unlisten(LOCAL, 80);
        binds.unlisten(PEER, 80);
        assert!(binds.listen(Addr::UNSPECIFIED_V4, 80, false));
    }

    #[test]
    fn those_who_share_a_port_share_it_with_each_other_alone() {
        let binds = BindTable::default();
        assert!(binds.listen(LOCAL, 80, true) && binds.listen(LOCAL, 80, true));
        assert!(binds.listen(Addr::UNSPECIFIED_V4, 80, true));
        assert!(!binds.listen(LOCAL, 80, false));
        binds.unlisten(LOCAL, 80);
        assert!(!binds.listen(LOCAL, 80, false), "one is left");
    }

    #[test]
    fn every_port_of_the_range_is_found_and_none_twice() {
        let binds = BindTable::default();
        let mut rng = Rng::new(1);
        let mut seen = HashSet::new();
        for _ in 0..11 {
            let tuple = binds.connect(LOCAL, (PEER, 80), 100, 110, &mut rng).expect("a free port");
            assert!(seen.insert(tuple.local_port));
        }
        assert!(binds.connect(LOCAL, (PEER, 80), 100, 110, &mut rng).is_none(), "the range is used up");
        assert!(binds.connect(LOCAL, (PEER, 81), 100, 110, &mut rng).is_some(), "but not towards another port");
        binds.disconnect(&Tuple { local: LOCAL, remote: PEER, local_port: 105, remote_port: 80 });
        let again = binds.connect(LOCAL, (PEER, 80), 100, 110, &mut rng).map(|tuple| tuple.local_port);
        assert_eq!(again, Some(105));
    }
}
