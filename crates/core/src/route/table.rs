//! All routes of IPv4: looked up by packets without a lock, changed in place by one writer at a time.
//!
//! A prefix has a list of routes, of which the first counts: those of the `local` table stand before those of `main`
//! (Linux keeps both in one trie, where the longest prefix wins over both, as long as no policy rules part them), lower
//! metrics before higher ones. Routes that say the same share one [`Hop`], as `fib_info` does.
//!
//! Mirrors `fib_table_insert`, `fib_table_delete`, `fib_table_lookup`, `fib_create_info`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::kind::RouteKind;
use super::trie::{Code, Pairs, Reuses, Spare, Trie};

/// Look-ups that are tried again before one waits for the writer.
const RETRIES: usize = 4;

/// Where a route leads: what a packet needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// What becomes of the packets.
    pub kind: RouteKind,
    /// Interface; 0 if the packets go nowhere.
    pub ifindex: u16,
    /// Gateway as a word in host order; 0 if the destination is on the link.
    pub via: u32,
    /// Source address asked for, as a word in host order; 0 to choose one.
    pub src: u32,
    /// Preference, lower first.
    pub metric: u32,
    /// It is of the table `local`, not of `main`.
    pub local_table: bool,
    /// It follows from an interface's address (`proto kernel`).
    pub of_kernel: bool,
    /// The gateway is on the link whatever the addresses say.
    pub onlink: bool,
}

impl Hop {
    fn pack(&self) -> [u64; 2] {
        let flags = u64::from(self.local_table) | u64::from(self.of_kernel) << 1 | u64::from(self.onlink) << 2;
        let first = self.kind as u64 | flags << 8 | u64::from(self.ifindex) << 16 | u64::from(self.metric) << 32;
        [first, u64::from(self.via) | u64::from(self.src) << 32]
    }

    #[inline(always)]
    fn unpack([first, second]: [u64; 2]) -> Hop {
        Hop {
            kind: RouteKind::of_number(first as u8),
            ifindex: (first >> 16) as u16,
            via: second as u32,
            src: (second >> 32) as u32,
            metric: (first >> 32) as u32,
            local_table: first & 1 << 8 != 0,
            of_kernel: first & 1 << 9 != 0,
            onlink: first & 1 << 10 != 0,
        }
    }

    /// Place among the routes of one prefix.
    fn rank(&self) -> (bool, u32) {
        (!self.local_table, self.metric)
    }
}

/// A prefix of IPv4: network as a word in host order, no bits set behind `len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prefix4 {
    pub(super) network: u32,
    pub(super) len: u8,
}

/// Why a route was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is one to the same network in the same table with the same metric.
    Exists,
    /// There is no room for more.
    Full,
}

/// The routes of one prefix, in their order.
#[derive(Debug)]
enum Aliases {
    One(Code),
    Many(Vec<Code>),
}

impl Aliases {
    fn codes(&self) -> &[Code] {
        match self {
            Aliases::One(code) => std::slice::from_ref(code),
            Aliases::Many(codes) => codes,
        }
    }
}

/// What only a writer needs.
#[derive(Debug, Default)]
struct Writer {
    prefixes: HashMap<Prefix4, Aliases>,
    /// Each [`Hop`] with the number of routes that share it.
    hops: HashMap<Hop, (Code, u32)>,
    nodes: Spare,
    pairs: Spare,
}

/// The routes.
#[derive(Debug)]
pub(super) struct Table {
    trie: Trie,
    pairs: Pairs,
    reuses: Reuses,
    writer: Mutex<Writer>,
}

impl Default for Table {
    fn default() -> Table {
        Table { trie: Trie::new(), pairs: Pairs::new(), reuses: Reuses::default(), writer: Mutex::default() }
    }
}

impl Table {
    /// `fib_table_lookup`: the best route to an address.
    #[inline]
    pub(super) fn lookup(&self, addr: u32) -> Option<Hop> {
        for _ in 0..RETRIES {
            let before = self.reuses.before();
            let found = self.pairs.read(self.trie.lookup(addr));
            if self.reuses.unchanged(before) {
                return found.map(Hop::unpack);
            }
        }
        self.lookup_locked(addr)
    }

    /// Routes come and go so fast that no look-up is through in between.
    #[cold]
    fn lookup_locked(&self, addr: u32) -> Option<Hop> {
        let _writer = self.lock();
        self.pairs.read(self.trie.lookup(addr)).map(Hop::unpack)
    }

    /// As [`Table::lookup`], of those that lead by this interface; what leads nowhere ends the search.
    #[cold]
    pub(super) fn lookup_by(&self, addr: u32, ifindex: u16) -> Option<Hop> {
        let writer = self.lock();
        for len in (0..=32).rev() {
            let network = addr & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            let aliases = writer.prefixes.get(&Prefix4 { network, len });
            let hops =
                aliases.into_iter().flat_map(|aliases| aliases.codes()).filter_map(|code| self.pairs.read(*code));
            for hop in hops.map(Hop::unpack) {
                match hop.kind {
                    RouteKind::Unicast if hop.ifindex == ifindex => return Some(hop),
                    RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Blackhole => return None,
                    _ => {}
                }
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a route leads by this gateway. Looks through what routes lead to, which many of them share.
    pub(super) fn has_gateway(&self, via: u32, ifindex: u16) -> bool {
        self.lock().hops.keys().any(|hop| hop.via == via && hop.ifindex == ifindex)
    }

    /// `fib_table_insert`: adds a route. One to the same network in the same table with the same metric is replaced if
    /// `replace` says so, and given back.
    ///
    /// # Errors
    /// [`Refused::Exists`], if it is not to be replaced; [`Refused::Full`].
    pub(super) fn insert(&self, prefix: Prefix4, hop: Hop, replace: bool) -> Result<Option<Hop>, Refused> {
        let mut guard = self.lock();
        let writer = &mut *guard;
        let codes = writer.prefixes.get(&prefix).map_or(&[][..], Aliases::codes);
        let at = codes.partition_point(|code| self.hop(*code).is_some_and(|other| other.rank() < hop.rank()));
        let same = codes.get(at).copied().filter(|code| self.hop(*code).is_some_and(|old| old.rank() == hop.rank()));
        let many = codes.len();
        if same.is_some() && !replace {
            return Err(Refused::Exists);
        }
        if !Trie::has_room(&writer.nodes) {
            return Err(Refused::Full);
        }
        let code = self.intern(writer, hop).ok_or(Refused::Full)?;
        match (writer.prefixes.entry(prefix), same) {
            (Entry::Vacant(place), _) => {
                place.insert(Aliases::One(code));
            }
            (Entry::Occupied(mut place), same) => {
                let mut codes = place.get().codes().to_vec();
                match same {
                    Some(_) => codes[at] = code,
                    None => codes.insert(at, code),
                }
                place.insert(if many == 1 && same.is_some() { Aliases::One(code) } else { Aliases::Many(codes) });
            }
        }
        if at == 0 {
            self.trie.set(&mut writer.nodes, &self.reuses, prefix.network, prefix.len, code);
        }
        // Readers are led to the new one by now.
        let old = same.and_then(|code| self.hop(code));
        if let Some(old) = old {
            self.let_go(writer, old);
        }
        Ok(old)
    }

    /// `fib_table_delete`: removes the first route to a network that `which` accepts, and gives it.
    pub(super) fn remove(&self, prefix: Prefix4, which: impl Fn(&Hop) -> bool) -> Option<Hop> {
        let mut guard = self.lock();
        let writer = &mut *guard;
        let mut codes = writer.prefixes.get(&prefix)?.codes().to_vec();
        let at = codes.iter().position(|code| self.hop(*code).is_some_and(|hop| which(&hop)))?;
        let removed = self.hop(codes.remove(at))?;
        match codes.as_slice() {
            [] => {
                writer.prefixes.remove(&prefix);
                let covering = Trie::shorter_on_level(prefix.len).find_map(|len| {
                    let network = prefix.network & mask(len);
                    let code = *writer.prefixes.get(&Prefix4 { network, len })?.codes().first()?;
                    Some((code, len))
                });
                self.trie.clear(&mut writer.nodes, prefix.network, prefix.len, covering);
            }
            [first, ..] => {
                if at == 0 {
                    self.trie.set(&mut writer.nodes, &self.reuses, prefix.network, prefix.len, *first);
                }
                let left = if let [only] = codes[..] { Aliases::One(only) } else { Aliases::Many(codes) };
                writer.prefixes.insert(prefix, left);
            }
        }
        self.let_go(writer, removed);
        Some(removed)
    }

    /// All routes, by network, the longest prefix first, in the order in which they count.
    pub(super) fn routes(&self) -> Vec<(Prefix4, Hop)> {
        let writer = self.lock();
        let mut prefixes: Vec<(&Prefix4, &Aliases)> = writer.prefixes.iter().collect();
        prefixes.sort_unstable_by_key(|(prefix, _)| (prefix.network, u8::MAX - prefix.len));
        let hops = |(prefix, aliases): (&Prefix4, &Aliases)| {
            let prefix = *prefix;
            let hops: Vec<_> = aliases.codes().iter().filter_map(|code| Some((prefix, self.hop(*code)?))).collect();
            hops
        };
        prefixes.into_iter().flat_map(hops).collect()
    }

    /// Bytes that the routes take: what is looked up, and what only a writer needs.
    pub(super) fn memory(&self) -> (usize, usize) {
        let writer = self.lock();
        let tree = (3 << 19) + self.trie.pages() * 2_048 + writer.nodes.reached() * 128;
        let looked_up = tree + writer.pairs.reached() * 16;
        let kept = writer.prefixes.capacity() * (size_of::<(Prefix4, Aliases)>() + 1);
        (looked_up, kept)
    }

    fn hop(&self, code: Code) -> Option<Hop> {
        self.pairs.read(code).map(Hop::unpack)
    }

    /// The place of a hop, shared with all routes that say the same.
    fn intern(&self, writer: &mut Writer, hop: Hop) -> Option<Code> {
        match writer.hops.entry(hop) {
            Entry::Occupied(mut place) => {
                place.get_mut().1 += 1;
                Some(place.get().0)
            }
            Entry::Vacant(place) => {
                let code = self.pairs.put(&mut writer.pairs, &self.reuses, hop.pack())?;
                place.insert((code, 1));
                Some(code)
            }
        }
    }

    /// One route less shares a hop.
    fn let_go(&self, writer: &mut Writer, hop: Hop) {
        let Entry::Occupied(mut place) = writer.hops.entry(hop) else { return };
        place.get_mut().1 -= 1;
        if place.get().1 == 0 {
            let (_, (code, _)) = place.remove_entry();
            Pairs::give_back(&mut writer.pairs, code);
        }
    }

    /// Nodes and hops in use: none are lost.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> (usize, usize) {
        let writer = self.lock();
        (writer.nodes.in_use(), writer.pairs.in_use())
    }
}

/// The mask of a prefix of that length.
pub(super) fn mask(len: u8) -> u32 {
    if len == 0 { 0 } else { u32::MAX << (32 - len) }
}
