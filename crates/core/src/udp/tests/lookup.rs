use std::sync::Arc;

use proptest::prelude::*;
use rxpath_wire::{Addr, FlowHasher};

use crate::cx::Rng;
use crate::socket::Datagrams;
use crate::sysctl::{PortRange, Sysctls};
use crate::udp::{Binding, Memo, UdpKey, UdpSock, UdpTable};

fn sysctl(low: u16, high: u16) -> Sysctls {
    Sysctls { ip_local_port_range: PortRange { low, high }, ..Sysctls::default() }
}

const HOSTS: [Addr; 3] = [Addr::UNSPECIFIED_V4, Addr::from_v4([10, 0, 0, 1]), Addr::from_v4([10, 0, 0, 2])];

fn sock(number: u64) -> Arc<UdpSock> {
    Arc::new(UdpSock::new(number, 0, Datagrams::new(1_000, Arc::default()), 1_000))
}

/// A socket as the model keeps it: in a list, the oldest first.
type Model = Vec<(Binding, Arc<UdpSock>)>;

/// `compute_score`, in the words of `udp(7)` and of what the kernel does: over all sockets, one after the other.
fn score(binding: &Binding, key: &UdpKey) -> Option<u32> {
    let fits = binding.port == key.local_port
        && (binding.local == key.local || binding.local.is_unspecified())
        && binding.remote.is_none_or(|remote| remote == (key.remote, key.remote_port))
        && (binding.ifindex == 0 || binding.ifindex == key.ifindex);
    let exact = u32::from(!binding.local.is_unspecified()) * 100;
    let connected = u32::from(binding.remote.is_some()) * 10;
    fits.then_some(exact + connected + u32::from(binding.ifindex != 0))
}

fn expected(model: &Model, key: &UdpKey, hasher: &FlowHasher) -> Option<u64> {
    let scored = model.iter().filter_map(|(binding, sock)| Some((score(binding, key)?, binding, sock)));
    let (_, binding, sock) = scored.max_by_key(|(score, ..)| *score)?;
    if !binding.reuse_port || binding.remote.is_some() {
        return Some(sock.number);
    }
    let group: Vec<u64> = model.iter().filter(|(other, _)| other == binding).map(|(_, sock)| sock.number).collect();
    let chosen = (u64::from(key.hash(hasher)) * group.len() as u64) >> 32;
    group.get(chosen as usize).copied()
}

fn wants(binding: &Binding, key: &UdpKey) -> bool {
    score(binding, key).is_some()
}

#[derive(Clone, Debug)]
enum Step {
    Bind { host: usize, port: u16, ifindex: u16, reuse: u8 },
    Connect { which: usize, remote: u8 },
    Close { which: usize },
    Look { host: usize, port: u16, remote: u8, ifindex: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3usize, 1..4u16, 0..3u16, 0..3u8)
            .prop_map(|(host, port, ifindex, reuse)| Step::Bind { host, port, ifindex, reuse }),
        2 => (0..16usize, 1..4u8).prop_map(|(which, remote)| Step::Connect { which, remote }),
        1 => (0..16usize).prop_map(|which| Step::Close { which }),
        6 => (1..3usize, 1..4u16, 1..4u8, 1..3u16)
            .prop_map(|(host, port, remote, ifindex)| Step::Look { host, port, remote, ifindex }),
    ]
}

proptest! {
    #[test]
    fn the_table_finds_what_a_search_through_all_sockets_finds(steps in proptest::collection::vec(step(), 1..60)) {
        let (table, hasher) = (UdpTable::default(), FlowHasher::new(1, 2));
        let mut model = Model::new();
        let mut memo = Memo::default();
        let mut rng = Rng::new(1);
        let peer = |remote: u8| (Addr::from_v4([10, 0, 0, 100 + remote]), u16::from(remote));
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Bind { host, port, ifindex, reuse } => {
                    let binding = Binding {
                        local: HOSTS[host], port, remote: None, ifindex, reuse_addr: reuse == 1, reuse_port: reuse == 2,
                    };
                    let clash = model.iter().any(|(other, _)| {
                        let overlap = other.local == binding.local
                            || other.local.is_unspecified() || binding.local.is_unspecified();
                        let link = other.ifindex == ifindex || other.ifindex == 0 || ifindex == 0;
                        let shared = (other.reuse_addr && binding.reuse_addr) || (other.reuse_port && binding.reuse_port);
                        other.port == port && overlap && link && !shared
                    });
                    let sock = sock(number as u64);
                    prop_assert_eq!(table.bind(&sock, binding, &sysctl(1, 1), &mut rng), !clash);
                    if !clash {
                        model.push((binding, sock));
                    }
                }
                Step::Connect { which, remote } if !model.is_empty() => {
                    let place = which % model.len();
                    let (old, sock) = model.remove(place);
                    let local = if old.local.is_unspecified() { HOSTS[1] } else { old.local };
                    let binding = Binding { local, remote: Some(peer(remote)), ..old };
                    table.rebind(&sock, binding);
                    // Who keeps his local address keeps his age.
                    let place = if old.local == local { place } else { model.len() };
                    model.insert(place, (binding, sock));
                }
                Step::Close { which } if !model.is_empty() => {
                    let (_, sock) = model.remove(which % model.len());
                    table.unbind(&sock);
                }
                Step::Look { host, port, remote, ifindex } => {
                    let (remote, remote_port) = peer(remote);
                    let key = UdpKey { local: HOSTS[host], remote, local_port: port, remote_port, ifindex };
                    let wanted = expected(&model, &key, &hasher);
                    prop_assert_eq!(table.lookup(&key, &hasher).map(|sock| sock.number), wanted);
                    prop_assert_eq!(memo.lookup(&table, &key, &hasher).map(|sock| sock.number), wanted);
                    prop_assert_eq!(memo.lookup(&table, &key, &hasher).map(|sock| sock.number), wanted);
                    let connected = model.iter().filter(|(b, _)| b.remote.is_some() && wants(b, &key));
                    prop_assert_eq!(table.lookup_connected(&key).is_some(), connected.count() > 0);
                    let mut all: Vec<u64> = table.lookup_all(&key).iter().map(|sock| sock.number).collect();
                    all.sort_unstable();
                    let mut named: Vec<u64> =
                        model.iter().filter(|(b, _)| wants(b, &key)).map(|(_, sock)| sock.number).collect();
                    named.sort_unstable();
                    prop_assert_eq!(all, named);
                }
                Step::Connect { .. } | Step::Close { .. } => {}
            }
            prop_assert_eq!(table.len(), model.len());
        }
    }
}

#[test]
fn every_port_of_the_range_is_found_and_none_twice() {
    let (table, mut rng) = (UdpTable::default(), Rng::new(3));
    let any = |port| Binding {
        local: Addr::UNSPECIFIED_V4,
        port,
        remote: None,
        ifindex: 0,
        reuse_addr: false,
        reuse_port: false,
    };
    let socks: Vec<_> = (0..11).map(sock).collect();
    for sock in &socks {
        assert!(table.bind(sock, any(0), &sysctl(100, 110), &mut rng));
    }
    let mut ports: Vec<u16> = socks.iter().map(|sock| sock.binding().port).collect();
    ports.sort_unstable();
    assert_eq!(ports, (100..=110).collect::<Vec<u16>>());
    assert!(!table.bind(&sock(99), any(0), &sysctl(100, 110), &mut rng), "the range is used up");
    table.unbind(&socks[4]);
    assert!(table.bind(&sock(99), any(0), &sysctl(100, 110), &mut rng));
    assert_eq!(table.len(), 11);
}
