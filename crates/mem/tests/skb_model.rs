//! Packets against a plain model: whatever is done to an `Skb`, its bytes are those of three vectors.
#![forbid(unsafe_code)]

use proptest::collection::vec;
use proptest::prelude::*;
use rxpath_mem::{PagePool, PoolConfig, Returns, Skb, SlotClass};

/// What a packet should contain.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Bytes in front of the data that are known: what was pulled.
    pulled: Vec<u8>,
    linear: Vec<u8>,
    rest: Vec<u8>,
    seq: u32,
}

impl Model {
    fn bytes(&self) -> Vec<u8> {
        [&self.linear[..], &self.rest[..]].concat()
    }

    fn consume_linear(&mut self, n: usize) {
        self.pulled.extend(self.linear.drain(..n));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Alloc { pool: usize, class: usize, reserve: usize },
    Put(usize, Vec<u8>),
    Push(usize, Vec<u8>),
    Pull(usize, usize),
    Unpull(usize, usize),
    Trim(usize, usize),
    ConsumeFront(usize, usize),
    Append(usize, Vec<u8>),
    AddFrag(usize, usize),
    Clone { of: usize, pool: usize },
    Copy { of: usize, pool: usize },
    MakeWritable { of: usize, pool: usize },
    Write { of: usize, at: usize, byte: u8 },
    Free { of: usize, pool: usize },
    Return(usize),
    Flush,
    Drain(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..8usize;
    let pool = 0..2usize;
    prop_oneof![
        4 => (pool.clone(), 0..3usize, 0..100usize)
            .prop_map(|(pool, class, reserve)| Op::Alloc { pool, class, reserve }),
        4 => (n.clone(), vec(any::<u8>(), 0..300)).prop_map(|(i, b)| Op::Put(i, b)),
        1 => (n.clone(), vec(any::<u8>(), 1900..2000)).prop_map(|(i, b)| Op::Put(i, b)),
        2 => (n.clone(), vec(any::<u8>(), 0..80)).prop_map(|(i, b)| Op::Push(i, b)),
        2 => (n.clone(), 0..200usize).prop_map(|(i, k)| Op::Pull(i, k)),
        2 => (n.clone(), 0..200usize).prop_map(|(i, k)| Op::Unpull(i, k)),
        2 => (n.clone(), 0..1200usize).prop_map(|(i, k)| Op::Trim(i, k)),
        2 => (n.clone(), 0..900usize).prop_map(|(i, k)| Op::ConsumeFront(i, k)),
        3 => (n.clone(), vec(any::<u8>(), 0..300)).prop_map(|(i, b)| Op::Append(i, b)),
        4 => (n.clone(), n.clone()).prop_map(|(i, j)| Op::AddFrag(i, j)),
        3 => (n.clone(), pool.clone()).prop_map(|(of, pool)| Op::Clone { of, pool }),
        1 => (n.clone(), pool.clone()).prop_map(|(of, pool)| Op::Copy { of, pool }),
        2 => (n.clone(), pool.clone()).prop_map(|(of, pool)| Op::MakeWritable { of, pool }),
        2 => (n.clone(), any::<usize>(), any::<u8>()).prop_map(|(of, at, byte)| Op::Write { of, at, byte }),
        2 => (n.clone(), pool.clone()).prop_map(|(of, pool)| Op::Free { of, pool }),
        1 => n.prop_map(Op::Return),
        1 => Just(Op::Flush),
        1 => pool.prop_map(Op::Drain),
    ]
}

const CLASSES: [SlotClass; 3] = SlotClass::ALL;

/// Two pools and the packets that live in them, each beside its model.
struct World {
    pools: [PagePool; 2],
    returns: Returns,
    live: Vec<(Skb, Model)>,
    minted: u32,
}

impl World {
    fn new() -> World {
        let config = PoolConfig { slots: 12, head_slots: 10, large_slots: 3, reserve: 1 };
        let pool = || PagePool::new(config).expect("memory");
        World { pools: [pool(), pool()], returns: Returns::new(), live: Vec::new(), minted: 0 }
    }

    fn alloc(&mut self, pool: usize, class: usize, reserve: usize) {
        if self.live.len() == 8 {
            return;
        }
        let pool = &mut self.pools[pool];
        let skb = match CLASSES[class] {
            SlotClass::Frame => pool.alloc(),
            SlotClass::Head => pool.alloc_head(),
            SlotClass::Large => pool.alloc_large(),
        };
        let floor = if CLASSES[class] == SlotClass::Large { 0 } else { 1 };
        match skb {
            Some(mut skb) => {
                assert!(skb.is_empty() && skb.headroom() == rxpath_mem::RX_HEADROOM);
                skb.reserve(reserve);
                self.minted += 1;
                skb.seq = self.minted;
                self.live.push((skb, Model { seq: self.minted, ..Model::default() }));
            }
            None => assert!(pool.free_of(CLASSES[class]) <= floor, "refused with slots left"),
        }
    }

    fn adopt(&mut self, skb: Option<Skb>, model: Model) {
        if let Some(skb) = skb {
            self.live.push((skb, model));
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Alloc { pool, class, reserve } => self.alloc(pool, class, reserve),
            Op::Flush => self.returns.flush(),
            Op::Drain(pool) => {
                self.pools[pool].drain();
            }
            Op::AddFrag(i, j) => self.add_frag(i, j),
            Op::Clone { of, .. } | Op::Copy { of, .. } if of >= self.live.len() || self.live.len() == 8 => {}
            Op::Clone { of, pool } => {
                let clone = self.live[of].0.clone_shared(&mut self.pools[pool]);
                let model = self.live[of].1.clone();
                if let Some(clone) = &clone {
                    assert_eq!(clone.is_shared(), self.pools[pool].owns(&self.live[of].0));
                }
                self.adopt(clone, model);
            }
            Op::Copy { of, pool } => {
                let copy = self.live[of].0.copy(&mut self.pools[pool]);
                let model = self.live[of].1.clone();
                assert!(copy.as_ref().is_none_or(|copy| !copy.is_shared()));
                self.adopt(copy, model);
            }
            Op::Free { of, pool } if of < self.live.len() => {
                let (skb, _) = self.live.swap_remove(of);
                self.pools[pool].free(skb);
            }
            Op::Return(of) if of < self.live.len() => {
                let (skb, _) = self.live.swap_remove(of);
                self.returns.push(skb);
            }
            Op::MakeWritable { of, pool } if of < self.live.len() => {
                let skb = &mut self.live[of].0;
                if skb.make_writable(&mut self.pools[pool]) {
                    assert!(!skb.is_shared());
                }
            }
            op => self.change(op),
        }
    }

    fn add_frag(&mut self, i: usize, j: usize) {
        if i == j || i.max(j) >= self.live.len() {
            return;
        }
        let (other, model) = self.live.remove(j);
        let (skb, mine) = &mut self.live[if j < i { i - 1 } else { i }];
        let truesize = skb.truesize + other.truesize;
        let same_pool = skb.same_pool(&other);
        match skb.add_frag(other) {
            Ok(()) => {
                assert!(same_pool && skb.truesize == truesize);
                mine.rest.extend(model.bytes());
            }
            Err(other) => {
                assert!(!same_pool, "refused in the same pool");
                self.live.push((other, model));
            }
        }
    }

    /// Operations on one packet.
    fn change(&mut self, op: Op) {
        let (Op::Put(i, _)
        | Op::Push(i, _)
        | Op::Pull(i, _)
        | Op::Unpull(i, _)
        | Op::Trim(i, _)
        | Op::ConsumeFront(i, _)
        | Op::Append(i, _)
        | Op::Write { of: i, .. }) = op
        else {
            return;
        };
        let Some((skb, model)) = self.live.get_mut(i) else { return };
        match op {
            Op::Put(_, bytes) if bytes.len() <= skb.tailroom() => {
                skb.put(bytes.len()).copy_from_slice(&bytes);
                model.linear.extend(bytes);
            }
            Op::Push(_, bytes) if bytes.len() <= skb.headroom() => {
                skb.push(bytes.len()).copy_from_slice(&bytes);
                model.pulled.truncate(model.pulled.len().saturating_sub(bytes.len()));
                model.linear.splice(0..0, bytes);
            }
            Op::Pull(_, n) => {
                assert_eq!(skb.pull(n), n <= model.linear.len());
                if n <= model.linear.len() {
                    model.consume_linear(n);
                }
            }
            Op::Unpull(_, n) if n <= model.pulled.len() => {
                assert!(skb.unpull(n));
                let back = model.pulled.split_off(model.pulled.len() - n);
                model.linear.splice(0..0, back);
            }
            Op::Trim(_, n) => {
                skb.trim(n);
                model.rest.truncate(n.saturating_sub(model.linear.len()));
                model.linear.truncate(n);
            }
            Op::ConsumeFront(_, n) => {
                skb.consume_front(n);
                let head = n.min(model.linear.len());
                model.consume_linear(head);
                model.rest.drain(..(n - head).min(model.rest.len()));
            }
            Op::Append(_, bytes) => {
                let room = skb.last_tailroom();
                let chained = skb.frag_count() > 0;
                assert_eq!(skb.append_bytes(&bytes), bytes.len() <= room);
                if bytes.len() <= room {
                    if chained { &mut model.rest } else { &mut model.linear }.extend(bytes);
                }
            }
            Op::Write { at, byte, .. } if !skb.is_shared() && !model.linear.is_empty() => {
                let at = at % model.linear.len();
                skb.data_mut()[at] = byte;
                model.linear[at] = byte;
            }
            _ => {}
        }
    }

    fn check(&self) {
        for (skb, model) in &self.live {
            let bytes = model.bytes();
            assert_eq!(skb.seq, model.seq);
            assert_eq!(skb.data(), &model.linear[..]);
            assert_eq!((skb.len(), skb.headlen(), skb.data_len()), (bytes.len(), model.linear.len(), model.rest.len()));
            assert_eq!(skb.fragments().flatten().copied().collect::<Vec<u8>>(), bytes);
            let known = model.pulled.len();
            let before = skb.head_bytes((skb.data_offset() - known) as u16, known);
            assert_eq!(before, &model.pulled[..], "what was pulled is still there");
            let mut out = vec![0; 64];
            let from = bytes.len() / 3;
            let n = skb.copy_to(from, &mut out);
            assert_eq!(out[..n], bytes[from..(from + 64).min(bytes.len())]);
        }
    }

    /// Everything ends, and nothing is missing.
    fn end(mut self) {
        while let Some((skb, _)) = self.live.pop() {
            self.pools[0].free(skb);
        }
        self.returns.flush();
        for pool in &mut self.pools {
            pool.drain();
            assert_eq!(pool.outstanding(), 0);
            assert_eq!(SlotClass::ALL.map(|class| pool.free_of(class)), [12, 10, 3]);
            let stats = pool.stats();
            assert_eq!(stats.alloc_fast + stats.alloc_slow, stats.recycle_cached + stats.recycle_ring);
            assert_eq!(stats.not_specified, 0);
        }
    }
}

proptest! {
    #[test]
    fn a_packet_is_its_model(ops in vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
        world.end();
    }
}
