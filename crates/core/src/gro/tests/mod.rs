//! Tests of receive offload: each rule by itself (`rules`), and random streams against a model and against the streams
//! themselves (`properties`).

mod frames;
mod model;
mod properties;
mod rules;

use std::sync::Arc;

use rxpath_mem::{Harvest, IpSummed, RxDma, RxRing, Skb, SkbQueue, rx_ring};
use rxpath_trace::{Event, EventKind, LifeReader, PacketId, Selector, Time};

use self::frames::Frame;
use super::Gro;
use crate::cx::Cx;
use crate::expect::ETHERNET;
use crate::testing;

/// What happens to the one under test.
#[derive(Clone, Debug)]
enum Step {
    /// A frame is ready, and perhaps a further one behind it.
    Frame { frame: Frame, more: bool },
    /// The clock moves, in nanoseconds.
    Wait(u64),
    /// Held packets are let go: all, or those that are older than so many nanoseconds.
    Flush(Option<u64>),
}

/// A packet that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Delivered {
    /// Number of the frame that is its head.
    head: usize,
    /// Ethernet header and IP packet.
    bytes: Vec<u8>,
    gso_size: u16,
    gso_segs: u16,
    verified: bool,
    truesize: u32,
}

/// How frames are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// All through [`Gro::receive`].
    Receive,
    /// As far as they come in one piece from a ring, where [`Gro::streak`] looks at them first.
    Streak,
}

/// One run of a [`Gro`] with its context.
struct Bench {
    cx: Cx,
    gro: Gro,
    ring: RxRing,
    dma: RxDma,
    mode: Mode,
    out: SkbQueue,
    delivered: Vec<Delivered>,
    offered: usize,
    /// Frames that the streak took.
    streaks: usize,
    /// Sum of the charges of all frames offered.
    charged: u64,
    lives: LifeReader,
}

impl Bench {
    fn new(mode: Mode) -> Bench {
        let mut cx = testing::cx();
        let net = Arc::get_mut(&mut cx.net).expect("nobody else has the configuration yet");
        let mut interface = net.interfaces[0].clone();
        interface.gro = true;
        net.interfaces = (1..=3).map(|ifindex| crate::netns::Interface { ifindex, ..interface.clone() }).collect();
        net.interfaces[2].gro = false;
        let out = SkbQueue::new();
        let mut lives = LifeReader::new();
        cx.life = lives.shard(0, 4_096, Selector::All);
        let (ring, dma) = rx_ring(2, 0);
        let gro = Gro::new();
        Bench { cx, gro, ring, dma, mode, out, delivered: Vec::new(), offered: 0, streaks: 0, charged: 0, lives }
    }

    /// Runs all steps and lets go of everything at the end.
    fn run(mode: Mode, steps: &[Step]) -> Bench {
        let mut bench = Bench::new(mode);
        for step in steps {
            bench.step(step);
        }
        bench.step(&Step::Flush(None));
        bench
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Frame { frame, more } => self.offer(frame, *more),
            Step::Wait(nanoseconds) => self.cx.now += *nanoseconds,
            Step::Flush(age) => {
                let older_than = age.map(|age| Time(self.cx.now.0.saturating_sub(age)));
                self.gro.flush(&mut self.cx, &mut self.out, older_than);
            }
        }
        assert_eq!(self.gro.held() as u64, self.held_by_ledger(), "the ledger knows what is held");
        self.collect();
    }

    fn offer(&mut self, frame: &Frame, more: bool) {
        self.offered += 1;
        let id = PacketId::of_ring(0, self.offered as u64);
        self.cx.ledger.offered(1);
        self.charged += u64::from(charge(frame));
        let in_one_piece = frame.splits.is_empty();
        if self.mode == Mode::Streak && in_one_piece && self.streak(frame) {
            self.streaks += 1;
            return;
        }
        let skb = self.skb(frame, id);
        self.gro.receive(&mut self.cx, skb, more, &mut self.out);
    }

    /// Puts a frame into the ring; true if the streak took it from there.
    fn streak(&mut self, frame: &Frame) -> bool {
        if frame.bytes.len() > 1_900 {
            return false;
        }
        self.ring.refill(&mut self.cx.pool);
        self.dma.write_frame(&frame.bytes, frame.desc()).expect("a posted slot");
        let (frames, bytes) = self.gro.streak(&self.cx, &mut self.ring, 1, frame.ifindex);
        if frames == 1 {
            assert_eq!(bytes, frame.bytes.len());
            self.ring.refill(&mut self.cx.pool);
            return true;
        }
        let Some(Harvest::Frame(skb) | Harvest::Error(skb)) = self.ring.take() else { panic!("a frame is there") };
        self.cx.pool.free(skb);
        false
    }

    /// A packet as the driver hands it over.
    fn skb(&mut self, frame: &Frame, id: PacketId) -> Skb {
        let mut pieces = Vec::new();
        let mut rest = frame.bytes.as_slice();
        for at in frame.splits.iter().rev() {
            let (before, piece) = rest.split_at(*at);
            pieces.push(piece);
            rest = before;
        }
        let mut skb =
            if rest.len() > 1_900 { self.cx.pool.alloc_large() } else { self.cx.pool.alloc() }.expect("a slot");
        skb.put(rest.len()).copy_from_slice(rest);
        while let Some(piece) = pieces.pop() {
            let mut fragment = self.cx.pool.alloc().expect("a slot");
            fragment.put(piece.len()).copy_from_slice(piece);
            assert!(skb.add_frag(fragment).is_ok(), "of the same pool");
        }
        assert!(skb.pull(ETHERNET), "an Ethernet header");
        skb.set_network_header_here();
        skb.id = id;
        skb.hash = frame.hash;
        skb.ip_summed = frame.csum;
        skb.ifindex = frame.ifindex;
        skb.gso_size = frame.gso_size;
        skb.protocol = u16::from_be_bytes([frame.bytes[12], frame.bytes[13]]);
        skb.truesize = charge(frame);
        skb.set_traced(true);
        skb
    }

    fn collect(&mut self) {
        while let Some(skb) = self.out.pop_front() {
            self.delivered.push(delivered(&skb));
            self.cx.ledger.delivered(1);
            self.cx.pool.free(skb);
        }
    }

    fn held_by_ledger(&self) -> u64 {
        self.cx.ledger.snapshot().held()
    }

    /// All that was recorded since the last call, but for when and where.
    fn events(&mut self) -> Vec<(u64, EventKind, u32, u32, u64)> {
        let told = |event: Event| (event.id.count(), event.kind, event.a, event.b, event.other.count());
        self.lives.collect().into_iter().map(told).collect()
    }

    /// The books at the end of a run: what came in went out or was merged, and no slot and no charge is missing.
    fn settle(&self) {
        self.cx.ledger.snapshot().check().expect("the ledger balances");
        let segments: usize = self.delivered.iter().map(|packet| usize::from(packet.gso_segs.max(1))).sum();
        assert_eq!(segments, self.offered, "each frame is a segment of one packet");
        let charged: u64 = self.delivered.iter().map(|packet| u64::from(packet.truesize)).sum();
        assert_eq!(charged, self.charged, "merging keeps the charge");
        assert_eq!(self.cx.pool.outstanding(), self.ring.posted(), "all slots are back");
    }
}

/// A charge that depends on the frame, as devices charge.
fn charge(frame: &Frame) -> u32 {
    512 + frame.bytes.len() as u32
}

fn delivered(skb: &Skb) -> Delivered {
    let mut bytes = skb.head_bytes(skb.network_off - ETHERNET as u16, ETHERNET).to_vec();
    let mut packet = vec![0; skb.len()];
    assert_eq!(skb.copy_to(0, &mut packet), packet.len());
    bytes.append(&mut packet);
    Delivered {
        head: skb.id.count() as usize - 1,
        bytes,
        gso_size: skb.gso_size,
        gso_segs: skb.gso_segs,
        verified: skb.ip_summed == IpSummed::Unnecessary,
        truesize: skb.truesize,
    }
}
