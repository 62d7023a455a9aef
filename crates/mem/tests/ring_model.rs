//! The descriptor ring against a list of frames: order, contents, identities, counts, and no slot lost, wherever the
//! two sides end.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use rxpath_mem::{
    Alike, FrameUser, Harvest, IpSummed, PagePool, PoolConfig, RX_HEADROOM, RxDesc, RxDma, RxErrors, RxRing, rx_ring,
};
use rxpath_trace::{PacketId, Time};

const SIZE: usize = 16;
/// Bytes of a frame per slot.
const ROOM: usize = 2_240 - RX_HEADROOM;

#[derive(Clone, Debug)]
enum Op {
    Write { len: usize, errors: u8 },
    WriteAlike { len: usize, count: usize },
    WriteParts(Vec<usize>),
    WithLarge { head: usize, rest: usize },
    Abandon,
    Peek,
    UseInPlace { limit: usize, start: usize, skip: usize, copied: bool, useless: usize },
    Take,
    Refill,
    DrainMissed,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..1600usize, 0..40u8).prop_map(|(len, errors)| Op::Write { len, errors: errors & (errors >> 1) }),
        1 => (0..9000usize).prop_map(|len| Op::Write { len, errors: 0 }),
        4 => (0..1000usize, 1..6usize).prop_map(|(len, count)| Op::WriteAlike { len, count }),
        1 => vec(0..1500usize, 0..5).prop_map(Op::WriteParts),
        1 => (0..ROOM, 0..40_000usize).prop_map(|(head, rest)| Op::WithLarge { head, rest }),
        1 => Just(Op::Abandon),
        3 => Just(Op::Peek),
        4 => (0..6usize, 0..1900usize, 0..90usize, any::<bool>(), 0..8usize).prop_map(
            |(limit, start, skip, copied, useless)| Op::UseInPlace { limit, start, skip, copied, useless }
        ),
        6 => Just(Op::Take),
        3 => Just(Op::Refill),
        1 => Just(Op::DrainMissed),
    ]
}

struct Frame {
    id: PacketId,
    bytes: Vec<u8>,
    desc: RxDesc,
    places: usize,
    chained: bool,
}

/// Who uses frames in place: all but the one that is useless.
struct Model<'a> {
    frames: &'a VecDeque<Frame>,
    skip: usize,
    useless: usize,
    expected: Vec<u8>,
    copied: usize,
    chained: usize,
    stopped: bool,
}

impl Model<'_> {
    fn is_of_use(&mut self, bytes: &[u8], is_good: bool) -> bool {
        let index = self.copied + self.chained;
        let frame = &self.frames[index];
        assert_eq!((bytes, is_good), (&frame.bytes[..], frame.desc.csum.is_known_good()));
        self.stopped = index == self.useless;
        if !self.stopped {
            self.expected.extend(&bytes[self.skip..]);
        }
        !self.stopped
    }
}

impl FrameUser for Model<'_> {
    fn copy(&mut self, bytes: &[u8], is_good: bool, to: &mut [u8]) -> bool {
        to.copy_from_slice(&bytes[self.skip..]);
        let is_of_use = self.is_of_use(bytes, is_good);
        self.copied += usize::from(is_of_use);
        is_of_use
    }

    fn chain(&mut self, bytes: &[u8], is_good: bool) -> bool {
        let is_of_use = self.is_of_use(bytes, is_good);
        self.chained += usize::from(is_of_use);
        is_of_use
    }
}

struct World {
    pool: PagePool,
    ring: RxRing,
    dma: RxDma,
    /// Written and not taken.
    frames: VecDeque<Frame>,
    missed: Vec<(PacketId, Time, u32)>,
    /// Posted places, done or not.
    posted: usize,
    minted: u64,
    harvested: u64,
    /// The hash of frames that are alike, while such are written.
    alike: Option<u32>,
}

impl World {
    fn new() -> World {
        let pool = PagePool::new(PoolConfig { slots: 24, head_slots: 0, large_slots: 4, reserve: 2 }).expect("memory");
        let (ring, dma) = rx_ring(SIZE, 3);
        let (frames, missed) = (VecDeque::new(), Vec::new());
        World { pool, ring, dma, frames, missed, posted: 0, minted: 0, harvested: 0, alike: None }
    }

    fn next_id(&mut self) -> PacketId {
        self.minted += 1;
        PacketId(3 << 40 | self.minted)
    }

    fn places_used(&self) -> usize {
        self.frames.iter().map(|frame| frame.places).sum()
    }

    fn desc(&self, len: usize, errors: u8) -> RxDesc {
        let n = self.minted as u32;
        RxDesc {
            len: len as u32,
            hash: self.alike.unwrap_or(n).wrapping_mul(0x9e37_79b9),
            csum: if n.is_multiple_of(2) { IpSummed::Unnecessary } else { IpSummed::None },
            gso_size: if self.alike.is_some() { 0 } else { n as u16 },
            gso_segs: (n >> 1) as u16,
            errors: RxErrors(errors),
            at: Time(u64::from(n) * 1000),
        }
    }

    fn payload(&self, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i as u64 * 7 + self.minted) as u8).collect()
    }

    fn write(&mut self, parts: &[usize], errors: u8) {
        let len = parts.iter().sum();
        let (bytes, desc) = (self.payload(len), self.desc(len, errors));
        let mut rest = &bytes[..];
        let parts: Vec<&[u8]> = parts.iter().map(|n| rest.split_off(..*n).expect("the sum")).collect();
        let wrong_len = RxDesc { len: 1, ..desc };
        let result = match &parts[..] {
            [one] => self.dma.write_frame(one, wrong_len),
            many => match self.dma.next() {
                Some(slot) => slot.complete_chain(many, wrong_len),
                None => Err(self.dma.missed(len as u32, desc.at)),
            },
        };
        let places = len.div_ceil(ROOM).max(1);
        let fits = places <= self.posted - self.places_used();
        let id = self.next_id();
        match result {
            Ok(got) => {
                assert!(fits && got == id);
                self.frames.push_back(Frame { id, bytes, desc, places, chained: false });
            }
            Err(missed) => {
                assert!(!fits && missed.id == id);
                self.missed.push((id, desc.at, len as u32));
            }
        }
    }

    fn write_with_large(&mut self, head: usize, rest: usize) {
        let Some(mut extra) = self.pool.alloc_large() else { return };
        let (bytes, desc) = (self.payload(head + rest), self.desc(head + rest, 0));
        extra.put(rest).copy_from_slice(&bytes[head..]);
        let Some(mut slot) = self.dma.next() else {
            self.pool.free(extra);
            return;
        };
        slot.buf()[..head].copy_from_slice(&bytes[..head]);
        let expected = slot.id();
        let got = slot.complete_with(head, desc, extra).expect("the same pool");
        let id = self.next_id();
        assert!(got == id && expected == id);
        self.frames.push_back(Frame { id, bytes, desc, places: 1, chained: true });
    }

    fn peekable(&self) -> bool {
        self.frames.front().is_some_and(|frame| frame.places == 1 && !frame.chained && frame.desc.errors.is_empty())
    }

    fn take(&mut self) {
        let harvest = self.ring.take();
        let frame = self.frames.pop_front();
        assert_eq!(harvest.is_some(), frame.is_some());
        let (Some(harvest), Some(frame)) = (harvest, frame) else { return };
        self.posted -= frame.places;
        self.harvested += 1;
        let desc = self.ring.taken_desc();
        let skb = match harvest {
            Harvest::Frame(skb) => {
                assert!(desc.errors.is_empty());
                skb
            }
            Harvest::Error(skb) => {
                assert!(!desc.errors.is_empty());
                skb
            }
        };
        assert_eq!((desc, skb.id), (frame.desc, frame.id));
        assert_eq!(skb.fragments().flatten().copied().collect::<Vec<u8>>(), frame.bytes);
        assert_eq!((skb.hash, skb.ip_summed), (desc.hash, desc.csum));
        assert_eq!((skb.gso_size, skb.gso_segs, skb.data_offset()), (desc.gso_size, desc.gso_segs, RX_HEADROOM));
        assert_eq!((skb.seq, skb.protocol, skb.network_off, skb.traced()), (0, 0, 0, false));
        self.pool.free(skb);
    }

    /// Frames like the first one are copied behind a packet as long as they fit its last slot, or chained to it, without
    /// their first bytes, up to one that is of no use.
    fn use_in_place(&mut self, limit: usize, start: usize, skip: usize, copied: bool, useless: usize) {
        let Some(mut skb) = self.pool.alloc() else { return };
        skb.put(start).fill(0x55);
        let (len, hash) = self.frames.front().map_or((0, 0), |frame| (frame.bytes.len() as u16, frame.desc.hash));
        let kind = Alike { len, hash, skip: skip as u16, copied };
        let model = std::mem::take(&mut self.frames);
        let mut user =
            Model { frames: &model, skip, useless, expected: vec![0x55; start], copied: 0, chained: 0, stopped: false };
        let mut tail = skb.tail();
        let used = self.ring.use_in_place(limit, &kind, &mut tail, &mut user);
        let tail_took = tail.bytes_taken();
        drop(tail);
        let Model { mut expected, copied: n_copied, chained, stopped, .. } = user;
        assert_eq!(used, n_copied + chained);
        assert_eq!(tail_took, n_copied * usize::from(len).saturating_sub(skip));
        assert!(copied || n_copied == 0);
        let kind_of = |frame: &Frame| (frame.bytes.len(), RxDesc { at: Time(0), ..frame.desc });
        let first = model.front().map(kind_of);
        self.frames = model;
        self.frames.drain(..used);
        let next_is_wanted = usize::from(len) > skip
            && self.peekable()
            && self.frames.front().map(kind_of) == first
            && first.is_some_and(|(_, desc)| (desc.gso_size, desc.gso_segs) == (0, 0));
        assert!(used == limit || stopped || !next_is_wanted, "stopped at a frame that could be used");
        (self.posted, self.harvested) = (self.posted - used + n_copied, self.harvested + used as u64);
        // What was grown can be read, grown on, cut and freed as any other packet.
        assert!(skb.last_tailroom() == 0 || skb.append_bytes(&[0xaa]));
        expected.resize(skb.len(), 0xaa);
        assert_eq!(skb.fragments().flatten().copied().collect::<Vec<u8>>(), expected);
        assert_eq!((skb.len() - skb.headlen(), skb.frag_count()), (skb.data_len(), chained));
        skb.trim(expected.len() / 2);
        assert_eq!(skb.fragments().flatten().copied().collect::<Vec<u8>>(), expected[..expected.len() / 2]);
        self.pool.free(skb);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Write { len, errors } => self.write(&[len], errors),
            Op::WriteAlike { len, count } => {
                self.alike = Some(self.minted as u32);
                for _ in 0..count {
                    self.write(&[len], 0);
                }
                self.alike = None;
            }
            Op::WriteParts(parts) => self.write(&parts, 0),
            Op::WithLarge { head, rest } => self.write_with_large(head, rest),
            Op::Abandon => {
                if let Some(mut slot) = self.dma.next() {
                    slot.buf().fill(0xee);
                }
            }
            Op::Peek => {
                let expected = self.peekable().then(|| &self.frames[0]).map(|f| (f.bytes.clone(), f.desc, f.id));
                let seen = self.ring.peek().map(|peek| (peek.bytes.to_vec(), peek.desc, peek.id));
                assert_eq!(seen, expected);
                assert_eq!(self.ring.hash_at(0), self.frames.front().map(|frame| frame.desc.hash));
            }
            Op::UseInPlace { limit, start, skip, copied, useless } => {
                self.use_in_place(limit, start, skip, copied, useless);
            }
            Op::Take => self.take(),
            Op::Refill => {
                let room = SIZE - 1 - self.posted;
                let posted = self.ring.refill(&mut self.pool);
                assert!(posted <= room && (posted > 0 || room < SIZE / 4), "posted {posted} of {room}");
                self.posted += posted;
            }
            Op::DrainMissed => {
                let mut seen = Vec::new();
                assert_eq!(self.ring.drain_missed(|id, at, len| seen.push((id, at, len))), 0);
                assert_eq!(seen, std::mem::take(&mut self.missed));
            }
        }
    }

    fn check(&mut self, missed_so_far: u64) {
        let stats = self.ring.stats();
        assert_eq!(stats.offered(), self.minted);
        assert_eq!(stats.harvested(), self.harvested);
        assert_eq!(stats.held(), self.frames.len() as u64);
        assert_eq!(stats.missed(), missed_so_far);
        assert_eq!(self.ring.posted(), self.posted);
        assert_eq!(self.ring.pending(), self.places_used());
        assert_eq!(self.dma.available(), self.posted - self.places_used());
        assert!(self.ring.done_count_hint() <= self.ring.pending());
    }
}

proptest! {
    #[test]
    fn a_ring_is_a_list_of_frames(ops in vec(op(), 1..150), driver_goes_first in any::<bool>()) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            let missed = world.minted - world.harvested - world.frames.len() as u64;
            world.check(missed);
        }
        let World { mut pool, ring, mut dma, .. } = world;
        if driver_goes_first {
            drop(ring);
            // The device may go on for a while.
            let _ = dma.write_frame(b"late", RxDesc::default());
            drop(dma);
        } else {
            drop(dma);
            drop(ring);
        }
        pool.drain();
        prop_assert_eq!(pool.outstanding(), 0);
    }
}

#[test]
fn a_frame_that_finds_the_pool_dry_says_so() {
    let mut pool = PagePool::new(PoolConfig { slots: 4, head_slots: 0, large_slots: 0, reserve: 0 }).expect("memory");
    let (mut ring, mut dma) = rx_ring(8, 0);
    assert!(dma.write_frame(b"too early", RxDesc::default()).is_err());
    assert_eq!(ring.refill(&mut pool), 4);
    for _ in 0..4 {
        assert!(dma.write_frame(b"frame", RxDesc::default()).is_ok());
    }
    assert!(dma.write_frame(b"dry", RxDesc::default()).is_err());
    let mut seen = Vec::new();
    ring.drain_missed_frames(|frame| seen.push((frame.len, frame.no_buffer)));
    assert_eq!(seen, [(9, false), (3, true)]);
    let stats = ring.stats();
    assert_eq!((stats.missed(), stats.no_buffer(), stats.alloc_failed(), ring.alloc_failed()), (2, 1, 1, 1));
}

#[test]
fn missed_frames_beyond_the_list_are_counted() {
    let (mut ring, mut dma) = rx_ring(2, 9);
    for n in 0..300 {
        let missed = dma.missed(n, Time(u64::from(n)));
        assert_eq!(missed.id, PacketId(9 << 40 | u64::from(n + 1)));
    }
    let mut seen = 0;
    let lost = ring.drain_missed(|_, at, len| {
        assert_eq!(at, Time(u64::from(len)));
        seen += 1;
    });
    assert_eq!((seen, lost, ring.stats().missed()), (256, 44, 300));
    assert_eq!(ring.drain_missed(|_, _, _| seen += 1), 0);
    assert_eq!(seen, 256);
}

#[test]
fn a_length_beyond_the_slot_is_cut_and_marked() {
    let mut pool = PagePool::new(PoolConfig { slots: 4, head_slots: 0, large_slots: 0, reserve: 0 }).expect("memory");
    let (mut ring, mut dma) = rx_ring(2, 0);
    ring.refill(&mut pool);
    let slot = dma.next().expect("posted");
    slot.complete(70_000, RxDesc::default());
    let Some(Harvest::Error(skb)) = ring.take() else { panic!("an error is expected") };
    let desc = ring.taken_desc();
    assert!(desc.errors.contains(RxErrors::OVERSIZE) && desc.len as usize == ROOM && skb.len() == ROOM);
    pool.free(skb);
}

#[test]
fn a_large_slot_of_another_pool_is_refused() {
    let config = PoolConfig { slots: 4, head_slots: 0, large_slots: 1, reserve: 0 };
    let mut pool = PagePool::new(config).expect("memory");
    let mut other = PagePool::new(config).expect("memory");
    let (mut ring, mut dma) = rx_ring(2, 0);
    ring.refill(&mut pool);
    let extra = other.alloc_large().expect("slots");
    let back = dma.next().expect("posted").complete_with(10, RxDesc::default(), extra).expect_err("another pool");
    other.free(back);
    assert!(ring.take().is_none());
    assert_eq!(ring.stats().offered(), 0);
}

#[test]
#[should_panic(expected = "one pool at a time")]
fn a_ring_refuses_a_second_pool_while_slots_of_the_first_are_posted() {
    let config = PoolConfig { slots: 8, head_slots: 0, large_slots: 0, reserve: 0 };
    let mut pools = [PagePool::new(config).expect("memory"), PagePool::new(config).expect("memory")];
    let (mut ring, mut dma) = rx_ring(4, 0);
    ring.refill(&mut pools[0]);
    assert!(dma.write_frame(b"one", RxDesc::default()).is_ok());
    let Some(Harvest::Frame(skb)) = ring.take() else { panic!("a frame was written") };
    pools[0].free(skb);
    ring.refill(&mut pools[1]);
}

#[test]
fn frames_cross_threads_in_order_and_whole() {
    let mut pool = PagePool::new(PoolConfig { slots: 256, ..PoolConfig::default() }).expect("memory");
    let (mut ring, mut dma) = rx_ring(64, 1);
    ring.refill(&mut pool);
    const FRAMES: u64 = 20_000;
    let device = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < FRAMES {
            if dma.available() < 3 {
                std::thread::yield_now();
                continue;
            }
            let len = 8 + (sent as usize * 37) % 4000;
            let frame: Vec<u8> =
                sent.to_be_bytes().into_iter().chain((8..len).map(|i| (i as u64 + sent) as u8)).collect();
            dma.write_frame(&frame, RxDesc { hash: sent as u32, ..RxDesc::default() }).expect("three places");
            sent += 1;
        }
    });
    let mut seen = 0u64;
    while seen < FRAMES {
        match ring.take() {
            Some(Harvest::Frame(skb)) => {
                let desc = ring.taken_desc();
                let bytes: Vec<u8> = skb.fragments().flatten().copied().collect();
                assert_eq!(bytes[..8], seen.to_be_bytes());
                assert!(bytes[8..].iter().enumerate().all(|(i, byte)| *byte == (i as u64 + 8 + seen) as u8));
                assert_eq!(desc.hash, seen as u32);
                pool.free(skb);
                seen += 1;
            }
            Some(Harvest::Error(_)) => panic!("no frame has errors"),
            None => std::thread::yield_now(),
        }
        ring.refill(&mut pool);
    }
    device.join().expect("the device is done");
    drop(ring);
    pool.drain();
    assert_eq!(pool.outstanding(), 0);
}
