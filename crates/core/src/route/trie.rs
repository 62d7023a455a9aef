//! The longest prefix of IPv4: words that readers walk without a lock, while one writer changes them in place.
//!
//! The first 16 bits of an address name a word of the root. Behind it may be a page of 256 words for the next eight bits,
//! and behind each of those nodes of 16 words, for four bits more each. A word holds the value of the longest prefix that
//! ends on its level and covers it, and that prefix's length. A prefix is written into all words of one level that it
//! covers, at most 65,536 and mostly not more than eight; longer ones lie deeper, so that no update touches what is
//! below. A reader keeps the last value that it saw on its way down: two loads for prefixes up to /24, four at most.
//!
//! For each address an update is one store, so a reader sees the prefix or does not. The one thing that can mislead him is
//! a node that was given back and is in use elsewhere before he has left it: a count of such reuses tells, and
//! [`Table`](super::table::Table) asks.
//!
//! Memory: 1.5 MiB for the root, 2 KiB for a page, which stays once it is there (at most 128 MiB), 128 bytes for a node,
//! at most [`MOST`] nodes. Nothing here panics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bits of an address that choose a word of the root.
const ROOT_BITS: u8 = 16;
/// Bits of an address before those that choose a word of a node.
const PAGE_END: u8 = 24;
/// Bits that choose a word of a node.
const NODE_BITS: u8 = 4;
/// Most places of a [`Slots`].
pub(super) const MOST: u32 = FIRST * ((1 << SEGMENTS) - 1);

/// Places of the first segment; each further one has twice as many as the one before.
const FIRST: u32 = 64;
const SEGMENTS: usize = 16;
/// Bits of a code that count within a segment.
const OFFSET_BITS: u32 = 21;
/// Bits of a code.
const CODE_BITS: u32 = 26;
const CODE_MASK: u64 = (1 << CODE_BITS) - 1;

/// Names a place; never 0.
pub(super) type Code = u32;

/// How many places were given out a second time: what a reader found across a change of it may be wrong.
#[derive(Debug, Default)]
pub(super) struct Reuses(AtomicU64);

impl Reuses {
    #[inline(always)]
    pub(super) fn before(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Whether what was read since [`Reuses::before`] gave this is sound.
    #[inline(always)]
    pub(super) fn unchanged(&self, before: u64) -> bool {
        // What was read is from before this, or the number has moved.
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == before
    }

    /// Before anything is written into a place: a reader who sees that sees this, too.
    fn announce(&self) {
        self.0.fetch_add(1, Ordering::Release);
        fence(Ordering::Release);
    }
}

/// Places that never move: there only ever come more.
#[derive(Debug)]
pub(super) struct Slots<const N: usize> {
    segments: [OnceLock<Box<[[AtomicU64; N]]>>; SEGMENTS],
}

/// What a writer knows of a [`Slots`].
#[derive(Debug, Default)]
pub(super) struct Spare {
    used: u32,
    free: Vec<Code>,
}

impl Spare {
    /// Places that can still be taken.
    pub(super) fn left(&self) -> usize {
        (MOST - self.used) as usize + self.free.len()
    }

    /// Places for which there is memory.
    pub(super) fn reached(&self) -> usize {
        let segments = (self.used.div_ceil(FIRST)).checked_ilog2().map_or(0, |n| n + 1);
        (FIRST * ((1 << segments) - 1)) as usize
    }

    /// Places in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.used as usize - self.free.len()
    }
}

impl<const N: usize> Slots<N> {
    fn new() -> Slots<N> {
        Slots { segments: std::array::from_fn(|_| OnceLock::new()) }
    }

    #[inline(always)]
    pub(super) fn at(&self, code: Code) -> Option<&[AtomicU64; N]> {
        let segment = (code >> OFFSET_BITS) as usize;
        self.segments.get(segment.wrapping_sub(1))?.get()?.get((code & ((1 << OFFSET_BITS) - 1)) as usize)
    }

    /// Takes a place; its words are as whoever gave it back left them, or 0. None if all are in use.
    fn take(&self, spare: &mut Spare, reuses: &Reuses) -> Option<Code> {
        if let Some(code) = spare.free.pop() {
            reuses.announce();
            return Some(code);
        }
        if spare.used == MOST {
            return None;
        }
        let segment = (spare.used / FIRST + 1).ilog2();
        let offset = spare.used - FIRST * ((1 << segment) - 1);
        let zeroes = || (0..FIRST << segment).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
        self.segments[segment as usize].get_or_init(zeroes);
        spare.used += 1;
        Some((segment + 1) << OFFSET_BITS | offset)
    }
}

/// A word: 26 bits of child, 26 bits of value, 6 bits of length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn new(value: Code, len: u8, child: Code) -> Word {
        Word(u64::from(child) | u64::from(value) << CODE_BITS | u64::from(len) << (2 * CODE_BITS))
    }

    #[inline(always)]
    fn child(self) -> Code {
        (self.0 & CODE_MASK) as Code
    }

    #[inline(always)]
    fn value(self) -> Code {
        (self.0 >> CODE_BITS & CODE_MASK) as Code
    }

    fn len(self) -> u8 {
        (self.0 >> (2 * CODE_BITS)) as u8
    }
}

/// Words for eight bits more.
type Page = OnceLock<Box<[AtomicU64; 256]>>;

/// Prefixes with their values.
#[derive(Debug)]
pub(super) struct Trie {
    /// For each beginning of 16 bits its word, and the page behind it.
    root: Box<[(AtomicU64, Page)]>,
    nodes: Slots<16>,
}

/// A value with the length of its prefix.
pub(super) type Covering = (Code, u8);

impl Trie {
    pub(super) fn new() -> Trie {
        let root = (0..1 << ROOT_BITS).map(|_| (AtomicU64::new(0), Page::new())).collect();
        Trie { root, nodes: Slots::new() }
    }

    /// The value of the longest prefix that `addr` is in, 0 if there is none.
    #[inline(always)]
    pub(super) fn lookup(&self, addr: u32) -> Code {
        let Some((word, page)) = self.root.get((addr >> 16) as usize) else { return 0 };
        let mut best = load(word).value();
        let Some(page) = page.get() else { return best };
        let mut word = load(&page[(addr >> 8 & 255) as usize]);
        best = if word.value() == 0 { best } else { word.value() };
        let mut shift = 32 - PAGE_END;
        while word.child() != 0
            && shift > 0
            && let Some(node) = self.nodes.at(word.child())
        {
            shift -= NODE_BITS;
            word = load(&node[(addr >> shift & 15) as usize]);
            best = if word.value() == 0 { best } else { word.value() };
        }
        best
    }

    /// Whether a prefix of any length can be set.
    pub(super) fn has_room(spare: &Spare) -> bool {
        spare.left() >= 2
    }

    /// Pages that there are.
    pub(super) fn pages(&self) -> usize {
        self.root.iter().filter(|(_, page)| page.get().is_some()).count()
    }

    /// Sets the value of a prefix, whether it has one or not. Nothing is done if there is no room for it.
    pub(super) fn set(&self, spare: &mut Spare, reuses: &Reuses, network: u32, len: u8, value: Code) {
        if len <= ROOT_BITS {
            return cover(self.root_words(network, len), len, value);
        }
        let Some((_, page)) = self.root.get((network >> 16) as usize) else { return };
        let zeroes = || Box::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let (mut words, mut end) = (&page.get_or_init(zeroes)[..], PAGE_END);
        while len > end {
            let word = &words[index(network, end)];
            let seen = load(word);
            let known = self.nodes.at(seen.child());
            let Some(node) = known.or_else(|| {
                let code = self.nodes.take(spare, reuses)?;
                store(word, Word::new(seen.value(), seen.len(), code));
                self.nodes.at(code)
            }) else {
                return;
            };
            (words, end) = (node, end + NODE_BITS);
        }
        cover(covered(words, network, len, end).iter(), len, value);
    }

    /// Takes a prefix's value away; `covering` is what the longest shorter prefix on the same level has.
    pub(super) fn clear(&self, spare: &mut Spare, network: u32, len: u8, covering: Option<Covering>) {
        if len <= ROOT_BITS {
            return uncover(self.root_words(network, len), len, covering);
        }
        let page = self.root.get((network >> 16) as usize).and_then(|(_, page)| page.get());
        let Some(page) = page else { return };
        let (mut words, mut end) = (&page[..], PAGE_END);
        let mut path: Vec<(&AtomicU64, Code)> = Vec::new();
        while len > end {
            let word = &words[index(network, end)];
            let child = load(word).child();
            let Some(node) = self.nodes.at(child) else { return };
            path.push((word, child));
            (words, end) = (node, end + NODE_BITS);
        }
        uncover(covered(words, network, len, end).iter(), len, covering);
        while let Some((word, code)) = path.pop()
            && self.nodes.at(code).is_some_and(|node| node.iter().all(|word| load(word) == Word(0)))
        {
            let seen = load(word);
            store(word, Word::new(seen.value(), seen.len(), 0));
            spare.free.push(code);
        }
    }

    /// The words of the root that a prefix covers.
    fn root_words(&self, network: u32, len: u8) -> impl Iterator<Item = &AtomicU64> {
        let first = (network >> 16) as usize;
        let words = self.root.get(first..first + (1 << (ROOT_BITS - len))).unwrap_or_default();
        words.iter().map(|(word, _)| word)
    }

    /// Lengths of prefixes that are shorter than `len` and end on the same level, longest first.
    pub(super) fn shorter_on_level(len: u8) -> impl Iterator<Item = u8> {
        let least = if len <= ROOT_BITS {
            0
        } else if len <= PAGE_END {
            ROOT_BITS + 1
        } else {
            (len - 1) / NODE_BITS * NODE_BITS + 1
        };
        (least..len).rev()
    }
}

/// Which word of a page or a node that ends at bit `end` covers an address.
fn index(addr: u32, end: u8) -> usize {
    let bits = if end == PAGE_END { PAGE_END - ROOT_BITS } else { NODE_BITS };
    (addr >> (32 - end)) as usize & ((1 << bits) - 1)
}

/// The words of a page or a node that ends at bit `end` that a prefix covers.
fn covered(words: &[AtomicU64], network: u32, len: u8, end: u8) -> &[AtomicU64] {
    let first = index(network, end);
    words.get(first..first + (1 << (end - len))).unwrap_or_default()
}

/// Writes a prefix's value where no longer one has its own.
fn cover<'a>(words: impl Iterator<Item = &'a AtomicU64>, len: u8, value: Code) {
    for word in words {
        let seen = load(word);
        if seen.value() == 0 || seen.len() <= len {
            store(word, Word::new(value, len, seen.child()));
        }
    }
}

/// Puts what covers a prefix in the place of its value.
fn uncover<'a>(words: impl Iterator<Item = &'a AtomicU64>, len: u8, covering: Option<Covering>) {
    let (value, covering_len) = covering.unwrap_or_default();
    for word in words {
        let seen = load(word);
        if seen.value() != 0 && seen.len() == len {
            store(word, Word::new(value, covering_len, seen.child()));
        }
    }
}

#[inline(always)]
fn load(word: &AtomicU64) -> Word {
    Word(word.load(Ordering::Acquire))
}

/// Whatever was written before is seen by whoever sees this.
fn store(word: &AtomicU64, new: Word) {
    word.store(new.0, Ordering::Release);
}

/// Values of two words each, to be read together with a prefix.
#[derive(Debug)]
pub(super) struct Pairs(Slots<2>);

impl Pairs {
    pub(super) fn new() -> Pairs {
        Pairs(Slots::new())
    }

    #[inline(always)]
    pub(super) fn read(&self, code: Code) -> Option<[u64; 2]> {
        self.0.at(code).map(|[a, b]| [a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)])
    }

    /// Puts a pair into a place of its own. None if all are in use.
    pub(super) fn put(&self, spare: &mut Spare, reuses: &Reuses, pair: [u64; 2]) -> Option<Code> {
        let code = self.0.take(spare, reuses)?;
        let [a, b] = self.0.at(code)?;
        a.store(pair[0], Ordering::Relaxed);
        b.store(pair[1], Ordering::Relaxed);
        Some(code)
    }

    /// Gives a place back that no prefix names any more.
    pub(super) fn give_back(spare: &mut Spare, code: Code) {
        spare.free.push(code);
    }
}
