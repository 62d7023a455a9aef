//! Which socket a datagram is for: the sockets of all Cpus by local port.
//!
//! Ports are spread over shards, each behind a lock of its own that look-ups share. A Cpu remembers what it found last
//! ([`Memo`]), which is right as long as nothing was bound, connected or closed since.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rxpath_wire::{Addr, FlowHasher};

use super::name::{Binding, UdpKey};
use super::sock::{UdpOptions, UdpSock};
use crate::cx::Rng;
use crate::socket::datagram::ProtoMemory;
use crate::sysctl::{PortRange, Sysctls};

/// Number of shards: a power of two.
const SHARDS: usize = 256;
/// Where sockets are that have no port: no datagram is for it.
const NO_PORT: u16 = 0;

/// Sockets of a port among which one is looked for that alone wants a datagram.
const SOLE_AMONG: usize = 10;

struct Entry {
    binding: Binding,
    sock: Arc<UdpSock>,
    /// When it took its local address, by the table's count of changes: of equals the youngest is found.
    hashed: u64,
    /// When it was connected to the peer that it has.
    connected: u64,
}

/// The sockets of a port, each list in the order in which they came.
#[derive(Default)]
struct Port {
    bound: Vec<Entry>,
    connected: HashMap<(Addr, Addr, u16), Vec<Entry>>,
}

impl Port {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.bound.iter().chain(self.connected.values().flatten())
    }

    fn list(&mut self, binding: &Binding) -> &mut Vec<Entry> {
        match binding.remote {
            Some((remote, port)) => self.connected.entry((binding.local, remote, port)).or_default(),
            None => &mut self.bound,
        }
    }

    /// Takes a socket out; None if it was not there.
    fn remove(&mut self, binding: &Binding, sock: &Arc<UdpSock>) -> Option<Entry> {
        let list = self.list(binding);
        let place = list.iter().position(|entry| Arc::ptr_eq(&entry.sock, sock));
        let removed = place.map(|place| list.remove(place));
        if let (true, Some((remote, port))) = (list.is_empty(), binding.remote) {
            self.connected.remove(&(binding.local, remote, port));
        }
        removed
    }

    fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.connected.is_empty()
    }

    /// `udp4_lib_lookup2`, over the sockets of exactly this address and then over those of any: a connected socket goes
    /// before the others, one that is bound to the interface before one that is not, the youngest before older ones.
    fn lookup(&self, key: &UdpKey, hash: impl Fn() -> u32) -> Option<&Entry> {
        let connected = self.connected.get(&(key.local, key.remote, key.remote_port));
        let found = connected.and_then(|list| best(list.iter(), key));
        found.or_else(|| self.of_address(key.local, key, &hash)).or_else(|| {
            let any = if key.local.is_v4() { Addr::UNSPECIFIED_V4 } else { Addr::UNSPECIFIED_V6 };
            self.of_address(any, key, &hash)
        })
    }

    fn of_address(&self, local: Addr, key: &UdpKey, hash: impl Fn() -> u32) -> Option<&Entry> {
        let of_it = || self.bound.iter().filter(move |entry| entry.binding.local == local);
        let found = best(of_it(), key)?;
        if !found.binding.reuse_port {
            return Some(found);
        }
        // `reuseport_select_sock`: the flow decides among those that share the address.
        let shares = |entry: &&Entry| entry.binding == found.binding;
        let members = of_it().filter(shares).count() as u64;
        let chosen = (u64::from(hash()) * members) >> 32;
        of_it().filter(shares).nth(chosen as usize)
    }
}

/// The entry with the highest score; of several the one that took its address last.
fn best<'a>(entries: impl Iterator<Item = &'a Entry>, key: &UdpKey) -> Option<&'a Entry> {
    let takes = entries.filter(|entry| entry.binding.takes_link(key.ifindex));
    takes.max_by_key(|entry| (entry.binding.ifindex != 0, entry.hashed))
}

/// The table.
pub struct UdpTable {
    shards: Box<[RwLock<HashMap<u16, Port>>]>,
    /// Grows with every change, before it and after it.
    changes: AtomicU64,
    /// Sockets in the table.
    len: AtomicU64,
    /// Sockets that ask for merged datagrams.
    gro: AtomicU32,
    /// Memory of all receive queues.
    pub memory: Arc<ProtoMemory>,
}

impl Default for UdpTable {
    fn default() -> UdpTable {
        UdpTable {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            changes: AtomicU64::new(1),
            len: AtomicU64::new(0),
            gro: AtomicU32::new(0),
            memory: Arc::default(),
        }
    }
}

impl std::fmt::Debug for UdpTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpTable").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl UdpTable {
    fn read(&self, port: u16) -> RwLockReadGuard<'_, HashMap<u16, Port>> {
        self.shards[usize::from(port) % SHARDS].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, port: u16) -> RwLockWriteGuard<'_, HashMap<u16, Port>> {
        self.shards[usize::from(port) % SHARDS].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sockets in the table.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// True without sockets.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any socket asks for merged datagrams.
    #[inline(always)]
    pub fn wants_merged(&self) -> bool {
        self.gro.load(Ordering::Relaxed) > 0
    }

    /// Changes the options of a socket.
    pub fn set_options(&self, sock: &UdpSock, change: impl FnOnce(&mut UdpOptions)) {
        match sock.set_options(change) {
            (false, true) => self.gro.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.gro.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// `udp_lib_get_port`: binds a socket; port 0 takes a free one of the range, from a random one on. False, and
    /// nothing done, if the port is taken (`EADDRINUSE`) or none is free.
    pub fn bind(&self, sock: &Arc<UdpSock>, mut binding: Binding, sysctl: &Sysctls, rng: &mut Rng) -> bool {
        if binding.port != 0 {
            return self.try_bind(sock, binding);
        }
        sock.set_auto_port();
        let PortRange { low, high } = sysctl.ip_local_port_range;
        let count = u32::from(high.saturating_sub(low)) + 1;
        let start = rng.below(count);
        (0..count).any(|step| {
            binding.port = low + ((start + step) % count) as u16;
            !sysctl.ip_local_reserved_ports.contains(binding.port) && self.try_bind(sock, binding)
        })
    }

    fn try_bind(&self, sock: &Arc<UdpSock>, binding: Binding) -> bool {
        let mut shard = self.write(binding.port);
        let port = shard.entry(binding.port).or_default();
        if port.entries().any(|entry| entry.binding.clashes(&binding)) {
            return false;
        }
        let hashed = self.changes.fetch_add(1, Ordering::Release);
        port.list(&binding).push(Entry { binding, sock: Arc::clone(sock), hashed, connected: hashed });
        sock.set_binding(binding);
        self.changes.fetch_add(1, Ordering::Release);
        self.len.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// `udp_disconnect` of a socket whose port was chosen for it: it has none, and nothing is for it. It stays in the table,
    /// so that whoever closes all finds it.
    pub fn release_port(&self, sock: &Arc<UdpSock>) {
        self.unbind(sock);
        let binding = sock.lose_port();
        let mut shard = self.write(NO_PORT);
        let hashed = self.changes.load(Ordering::Relaxed);
        let entry = Entry { binding, sock: Arc::clone(sock), hashed, connected: hashed };
        shard.entry(NO_PORT).or_default().bound.push(entry);
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// `inet_autobind`: gives a socket without a port one. False if none is free (`EAGAIN`).
    pub fn autobind(&self, sock: &Arc<UdpSock>, sysctl: &Sysctls, rng: &mut Rng) -> bool {
        if sock.binding().port != NO_PORT {
            return true;
        }
        self.unbind(sock);
        if self.bind(sock, sock.asked(), sysctl, rng) {
            return true;
        }
        self.release_port(sock);
        false
    }

    /// `udp_lib_rehash`: gives a bound socket another name at the same port.
    pub fn rebind(&self, sock: &Arc<UdpSock>, binding: Binding) {
        let mut shard = self.write(binding.port);
        let Some(port) = shard.get_mut(&binding.port) else { return };
        let now = self.changes.fetch_add(1, Ordering::Release);
        let before = sock.binding();
        let known = port.remove(&before, sock);
        let known = known.as_ref().filter(|_| before.local == binding.local);
        let hashed = known.map_or(now, |entry| entry.hashed);
        let connected = known.filter(|_| before.remote == binding.remote).map_or(now, |entry| entry.connected);
        port.list(&binding).push(Entry { binding, sock: Arc::clone(sock), hashed, connected });
        sock.set_binding(binding);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// `udp_lib_unhash`.
    pub fn unbind(&self, sock: &Arc<UdpSock>) {
        let binding = sock.binding();
        let mut shard = self.write(binding.port);
        let Some(port) = shard.get_mut(&binding.port) else { return };
        self.changes.fetch_add(1, Ordering::Release);
        let removed = port.remove(&binding, sock);
        if port.is_empty() {
            shard.remove(&binding.port);
        }
        self.changes.fetch_add(1, Ordering::Release);
        self.len.fetch_sub(u64::from(removed.is_some()), Ordering::Relaxed);
    }

    /// `__udp4_lib_lookup`: the one socket that a datagram to a single host is for.
    pub fn lookup(&self, key: &UdpKey, hasher: &FlowHasher) -> Option<Arc<UdpSock>> {
        if key.local_port == NO_PORT {
            return None;
        }
        let shard = self.read(key.local_port);
        let found = shard.get(&key.local_port)?.lookup(key, || key.hash(hasher))?;
        Some(Arc::clone(&found.sock))
    }

    /// The connected socket of a flow; None if there is none.
    pub fn lookup_connected(&self, key: &UdpKey) -> Option<Arc<UdpSock>> {
        let shard = self.read(key.local_port);
        let list = shard.get(&key.local_port)?.connected.get(&(key.local, key.remote, key.remote_port))?;
        best(list.iter(), key).map(|entry| Arc::clone(&entry.sock))
    }

    /// As [`UdpTable::lookup`], but of those with the same name and peer the one that was connected last (`udp4_lib_lookup4`):
    /// so errors find who sent what they are about, and datagrams that nobody looked up before routing.
    pub fn lookup_last(&self, key: &UdpKey, hasher: &FlowHasher) -> Option<Arc<UdpSock>> {
        let last = {
            let shard = self.read(key.local_port);
            let flow = (key.local, key.remote, key.remote_port);
            let list = shard.get(&key.local_port).and_then(|port| port.connected.get(&flow)).into_iter().flatten();
            let takes = list.filter(|entry| entry.binding.takes_link(key.ifindex));
            takes.max_by_key(|entry| (entry.binding.ifindex != 0, entry.connected)).map(|entry| Arc::clone(&entry.sock))
        };
        last.or_else(|| self.lookup(key, hasher))
    }

    /// All sockets that want a datagram to a group or to all.
    pub fn lookup_all(&self, key: &UdpKey) -> Vec<Arc<UdpSock>> {
        if key.local_port == NO_PORT {
            return Vec::new();
        }
        let shard = self.read(key.local_port);
        let entries = shard.get(&key.local_port).into_iter().flat_map(Port::entries);
        entries.filter(|entry| entry.binding.wants(key)).map(|entry| Arc::clone(&entry.sock)).collect()
    }

    /// The one socket that wants a datagram to a group, if it is one alone and there are not many to ask.
    pub fn lookup_sole(&self, key: &UdpKey) -> Option<Arc<UdpSock>> {
        let shard = self.read(key.local_port);
        let port = shard.get(&key.local_port)?;
        let mut wanting = port.entries().take(SOLE_AMONG + 1).filter(|entry| entry.binding.wants(key));
        let (first, second) = (wanting.next()?, wanting.next());
        (second.is_none() && port.entries().nth(SOLE_AMONG).is_none()).then(|| Arc::clone(&first.sock))
    }

    /// Every socket, by port.
    pub fn all(&self) -> Vec<Arc<UdpSock>> {
        let mut all: Vec<(u16, Arc<UdpSock>)> = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            for (number, port) in shard.iter() {
                all.extend(port.entries().map(|entry| (*number, Arc::clone(&entry.sock))));
            }
        }
        all.sort_by_key(|(port, sock)| (*port, sock.number));
        all.into_iter().map(|(_, sock)| sock).collect()
    }
}

/// What one Cpu found last: consecutive datagrams of a flow are looked up once.
#[derive(Debug, Default)]
pub struct Memo {
    /// The table's count of changes when this was found; 0 before the first look-up.
    changes: u64,
    key: Option<UdpKey>,
    found: Option<Arc<UdpSock>>,
}

impl Memo {
    /// As [`UdpTable::lookup`].
    #[inline]
    pub fn lookup(&mut self, table: &UdpTable, key: &UdpKey, hasher: &FlowHasher) -> Option<&Arc<UdpSock>> {
        let changes = table.changes.load(Ordering::Acquire);
        if self.changes != changes || self.key.as_ref() != Some(key) {
            self.found = table.lookup(key, hasher);
            (self.changes, self.key) = (changes, Some(*key));
        }
        self.found.as_ref()
    }

    /// Remembers nothing.
    pub fn forget(&mut self) {
        *self = Memo::default();
    }
}
