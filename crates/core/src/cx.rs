//! The context in which every room works: one per Cpu, handed down as `&mut Cx`.
//!
//! A room takes a packet and the context and gives a [`Fate`]; what it emits on the side (an ACK, an RST, an ICMP
//! answer, a wake-up) goes through the context. Ending a packet is one call that counts it, writes its last event and
//! frees its slot: [`Cx::end`].
//!
//! Neighbours: `path.rs` carries packets from room to room; [`crate::stack`] makes the context and empties what
//! rooms left in it. Nothing here panics on outside bytes.

use std::sync::Arc;

use rxpath_mem::{PagePool, Skb, SkbMeta, SkbQueue, SlotClass};
use rxpath_trace::event::{device_word, ports_word};
use rxpath_trace::{
    Consumed, Counter, Counters, DropReason, Event, EventKind, Flow, Holder, Ledger, LifeShard, OutputWhat, PacketId,
    Time,
};
use rxpath_wire::frame::{flow_of, flow_of_ipv4};
use rxpath_wire::{Addr, EtherType, FlowKeyParts, IpProto};

use crate::demux::stats::DevShard;
use crate::ip::FragTable;
use crate::neigh::NeighTable;
use crate::netns::NetConfig;
use crate::socket::{BindTable, ListenerCache, Sock, Wakeups};
use crate::tcp::TcpMemory;
use crate::tx::Outbox;
use crate::udp::{self, UdpTable};
use crate::xdp::Redirected;

/// What became of a packet in a room.
#[must_use]
#[derive(Debug)]
pub enum Fate<T = Skb> {
    /// The next room gets it, with what this room found out.
    Pass(T),
    /// Some queue owns it now (and has counted it in).
    Held,
    /// It ended well.
    Consumed(Skb, Consumed),
    /// It ended here, for this reason.
    Drop(Skb, DropReason),
}

/// What became of a packet in a room that passes nothing on.
pub type End = Fate<std::convert::Infallible>;

impl<T> Fate<T> {
    /// Splits "passed on" from "ended or held".
    #[inline(always)]
    pub fn split(self) -> Result<T, End> {
        match self {
            Fate::Pass(next) => Ok(next),
            Fate::Held => Err(End::Held),
            Fate::Consumed(skb, how) => Err(End::Consumed(skb, how)),
            Fate::Drop(skb, reason) => Err(End::Drop(skb, reason)),
        }
    }
}

impl End {
    /// The same end, of a room that passes packets on as others do.
    #[inline]
    pub fn into_fate<T>(self) -> Fate<T> {
        match self {
            Fate::Pass(never) => match never {},
            Fate::Held => Fate::Held,
            Fate::Consumed(skb, how) => Fate::Consumed(skb, how),
            Fate::Drop(skb, reason) => Fate::Drop(skb, reason),
        }
    }
}

/// The context of one Cpu.
pub struct Cx {
    /// The stack's clock, read once per softirq run.
    pub now: Time,
    /// Nanoseconds from one look of a write at what it may send to the next, and from one packet that is sent again to the next:
    /// 0, as the clock stands still, but where a machine is followed whose does not ([`crate::stack::Stack::set_write_time`]).
    pub takes: u64,
    /// Index of the Cpu.
    pub cpu: u16,
    /// Slots for frames that this Cpu makes, and the home of those that it received.
    pub pool: PagePool,
    /// This Cpu's shard of the counters.
    pub mib: Arc<Counters>,
    /// This Cpu's shard of the ledger.
    pub ledger: Arc<Ledger>,
    /// This Cpu's shard of the interfaces' statistics.
    pub dev: Arc<DevShard>,
    /// This Cpu's life records.
    pub life: LifeShard,
    /// The packet that is worked on, if its life is recorded: what is done because of it is told there
    /// ([`Cx::effect`]), and what is made because of it names it.
    pub cause: PacketId,
    /// Configuration: loaded once per softirq run.
    pub net: Arc<NetConfig>,
    /// Listeners, as they are at each look-up.
    pub listeners: ListenerCache,
    /// Local ports in use, shared by all Cpus.
    pub binds: Arc<BindTable>,
    /// The memory of TCP sockets, shared by all Cpus.
    pub tcp_memory: Arc<TcpMemory>,
    /// UDP sockets, shared by all Cpus.
    pub udp: Arc<UdpTable>,
    /// The UDP socket that was found last.
    pub udp_memo: udp::Memo,
    /// Neighbours, shared by all Cpus.
    pub neigh: Arc<NeighTable>,
    /// Datagrams that wait for fragments, shared by all Cpus.
    pub frags: Arc<FragTable>,
    /// Frames that wait for their device at the end of the poll.
    pub outbox: Outbox,
    /// Waiters to wake after all locks are released.
    pub wakeups: Wakeups,
    /// Packets that XDP programs sent to Cpus, until the end of the poll.
    pub redirected: Vec<Redirected>,
    /// What was sent to groups and to all, come back: until the end of the run.
    pub looped: SkbQueue,
    /// Datagrams that became whole here and belong to the Cpu that stands with them.
    pub reassembled: Vec<(u16, Skb)>,
    /// Connections whose listener closed while their handshake ended: to be reset.
    pub orphans: Vec<Arc<Sock>>,
    /// Source of ids for packets made here.
    pub ids: IdSource,
    /// Pseudo-random numbers from the stack's seed.
    pub rng: Rng,
}

impl Cx {
    /// Counts one event.
    #[inline(always)]
    pub fn count(&self, counter: Counter) {
        self.mib.inc(counter);
    }

    /// Counts `n` events or octets.
    #[inline(always)]
    pub fn count_n(&self, counter: Counter, n: u64) {
        self.mib.add(counter, n);
    }

    /// Writes an event into the life of `skb`, if that life is recorded.
    #[inline(always)]
    pub fn event(&mut self, skb: &Skb, kind: EventKind, a: u32, b: u32) {
        if skb.traced() {
            self.record(skb.id, kind, a, b, PacketId(0));
        }
    }

    /// As [`Cx::event`], naming another packet (a parent, a clone, what it merged into).
    #[inline(always)]
    pub fn event_with(&mut self, skb: &Skb, kind: EventKind, a: u32, b: u32, other: PacketId) {
        if skb.traced() {
            self.record(skb.id, kind, a, b, other);
        }
    }

    /// From now on it is this packet that is worked on.
    #[inline(always)]
    pub fn work_on(&mut self, skb: &Skb) {
        if self.life.on() {
            self.cause = if skb.traced() { skb.id } else { PacketId::NONE };
        }
    }

    /// No packet is worked on any more.
    #[inline(always)]
    pub fn work_done(&mut self) {
        self.cause = PacketId::NONE;
    }

    /// Writes what is done because of the packet that is worked on into its life, if that is recorded.
    #[inline(always)]
    pub fn effect(&mut self, kind: EventKind, a: u32, b: u32, other: PacketId) {
        if !self.cause.is_none() {
            self.record(self.cause, kind, a, b, other);
        }
    }

    /// Writes an event for a packet whose life is known to be recorded.
    #[cold]
    pub fn record(&mut self, id: PacketId, kind: EventKind, a: u32, b: u32, other: PacketId) {
        self.life.record(Event { id, at: self.now, kind, cpu: self.cpu as u8, a, b, other });
    }

    /// As [`Cx::record`], for what happened before now.
    ///
    /// A device may have stamped its frame after this run read the clock, which stands still until the run ends; such a
    /// frame is offered now, or its life would end before it began.
    #[cold]
    pub fn record_at(&mut self, at: Time, id: PacketId, kind: EventKind, a: u32, b: u32) {
        let at = at.min(self.now);
        self.life.record(Event { id, at, kind, cpu: self.cpu as u8, a, b, other: PacketId::NONE });
    }

    /// Ends a packet as its room decided: the one place where packets end on this Cpu.
    #[inline(always)]
    pub fn end(&mut self, end: End) {
        match end {
            Fate::Pass(never) => match never {},
            Fate::Held => {}
            Fate::Consumed(skb, how) => self.consume(skb, how),
            Fate::Drop(skb, reason) => self.drop_skb(skb, reason),
        }
    }

    /// Ends a packet that reached its purpose (`consume_skb`).
    #[inline]
    pub fn consume(&mut self, skb: Skb, how: Consumed) {
        self.ledger.consumed(how, 1);
        self.event(&skb, EventKind::Consumed, how as u32, 0);
        self.pool.free(skb);
    }

    /// Ends a packet for a reason (`kfree_skb_reason`).
    #[cold]
    pub fn drop_skb(&mut self, skb: Skb, reason: DropReason) {
        self.ledger.dropped(reason, 1);
        self.event(&skb, EventKind::Dropped, reason as u32, 0);
        self.pool.free(skb);
    }

    /// Ends a packet that a device took.
    #[inline]
    pub fn transmitted(&mut self, skb: Skb, ifindex: u16) {
        self.ledger.transmitted(1);
        self.event(&skb, EventKind::Transmitted, skb.len() as u32, device_word(ifindex, self.cpu));
        self.pool.free(skb);
    }

    /// A queue takes one packet.
    #[inline(always)]
    pub fn hold(&self, holder: Holder) {
        self.ledger.held_in(holder, 1);
    }

    /// A queue gave one packet back.
    #[inline(always)]
    pub fn release(&self, holder: Holder) {
        self.ledger.held_out(holder, 1);
    }

    /// A packet made here (`alloc_skb`): `size` bytes of linear room are promised behind the headroom for headers.
    ///
    /// Control packets (`reserved`) may dip into the pool's reserve. None when the pool is dry; the caller then does
    /// what it would do if the packet were lost on the wire.
    #[inline(always)]
    pub fn alloc_output(&mut self, what: OutputWhat, size: usize, reserved: bool) -> Option<Skb> {
        let mut skb = self.slot_for(size, reserved)?;
        self.ledger.output(1);
        skb.scratch = what as u8;
        Some(skb)
    }

    /// A copy of a packet that is to be sent, its data and all, to be received here.
    #[cold]
    pub fn clone_of_output(&mut self, skb: &Skb) -> Option<Skb> {
        let mut copy = self.alloc_output(OutputWhat::Udp, skb.headlen(), false)?;
        copy.scratch = skb.scratch;
        skb.note_copied();
        for piece in skb.fragments() {
            if !self.append(&mut copy, piece) {
                self.drop_skb(copy, DropReason::Nomem);
                return None;
            }
        }
        Some(copy)
    }

    /// Copies bytes behind the end of a packet, into further slots where they do not fit. False if the pool is dry.
    pub fn append(&mut self, skb: &mut Skb, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let room = skb.last_tailroom().min(bytes.len());
            let (fits, rest) = bytes.split_at(room);
            if !skb.append_bytes(fits) {
                return false;
            }
            bytes = rest;
            if !bytes.is_empty() {
                let Some(slot) = self.pool.alloc() else { return false };
                if let Err(refused) = skb.add_frag(slot) {
                    self.pool.free(refused);
                    return false;
                }
            }
        }
        true
    }

    /// A packet that is made out of another one, as [`Cx::alloc_output`] gives one that is new.
    pub fn alloc_part(&mut self, size: usize) -> Option<Skb> {
        let skb = self.slot_for(size, false)?;
        self.ledger.made(1);
        Some(skb)
    }

    #[inline(always)]
    fn slot_for(&mut self, size: usize, reserved: bool) -> Option<Skb> {
        let slot = if size <= HEAD_ROOM_FOR_PAYLOAD {
            self.pool.alloc_head().or_else(|| self.pool.alloc())
        } else if size <= SLOT_ROOM_FOR_PAYLOAD {
            self.pool.alloc()
        } else {
            self.pool.alloc_large()
        };
        let mut skb = match slot {
            Some(skb) => skb,
            None if reserved && size <= HEAD_ROOM_FOR_PAYLOAD => self.pool.alloc_reserved()?,
            None => return None,
        };
        let short = OUTPUT_HEADROOM.saturating_sub(skb.headroom());
        skb.reserve(short);
        skb.id = self.ids.mint();
        Some(skb)
    }

    /// Called once the headers of a packet made here are written: decides whether its life is recorded, and begins it.
    #[inline(always)]
    pub fn announce_output(&mut self, skb: &mut Skb) {
        if self.life.on() {
            self.output_birth(skb);
        }
    }

    #[cold]
    fn output_birth(&mut self, skb: &mut Skb) {
        let wanted = self.life.selects(skb.id, || flow_of_packet(skb.protocol, skb.data()));
        skb.set_traced(wanted);
        if wanted {
            self.record(skb.id, EventKind::OutputMade, u32::from(skb.scratch), skb.len() as u32, self.cause);
            self.record_headers(skb);
        }
    }

    /// What the headers of a packet made here say.
    fn record_headers(&mut self, skb: &Skb) {
        let parts = if skb.protocol == EtherType::IPV4 { flow_of_ipv4(skb.data()) } else { None };
        let Some(parts) = parts else { return };
        let word = |addr: Addr| addr.v4().map_or(0, u32::from);
        self.record(skb.id, EventKind::Addresses, word(parts.src), word(parts.dst), PacketId::NONE);
        if parts.proto == IpProto::TCP {
            let ports = ports_word(parts.sport, parts.dport);
            self.record(skb.id, EventKind::Ports, ports, u32::from(parts.tcp_flags), PacketId::NONE);
        }
    }

    /// Makes the linear data the packet's own, to be written ([`Skb::make_writable`]). False, and nothing done, if the pool
    /// is dry.
    pub fn make_writable(&mut self, skb: &mut Skb) -> bool {
        let copies = match (skb.is_shared(), self.pool.owns(skb)) {
            (false, _) => 0,
            (true, true) => skb.headlen(),
            (true, false) => skb.len(),
        };
        let done = skb.make_writable(&mut self.pool);
        if done && copies > 0 {
            self.count_n(Counter::CopiedUnshare, copies as u64);
        }
        done
    }

    /// A clone that shares the packet's data, or has a copy of it if that lies in another pool ([`Skb::clone_shared`]).
    pub fn clone_shared(&mut self, skb: &Skb) -> Option<Skb> {
        let clone = skb.clone_shared(&mut self.pool)?;
        if !self.pool.owns(skb) {
            self.count_n(Counter::CopiedUnshare, skb.len() as u64);
        }
        Some(clone)
    }

    /// True when more than half of the pool is in use: small payload that is queued is then copied densely.
    #[inline(always)]
    pub fn pool_is_low(&self) -> bool {
        self.pool_has_less_than(2)
    }

    /// True when less than a quarter of the pool is free: windows do not grow. Payload that nobody reads and that can be
    /// copied densely takes half of the pool at the most, and so does not hold others back.
    #[inline(always)]
    pub fn pool_is_tight(&self) -> bool {
        self.pool_has_less_than(4)
    }

    /// True when only an eighth of the pool is free: sockets that hold much receive no more.
    #[inline(always)]
    pub fn pool_is_short(&self) -> bool {
        self.pool_has_less_than(8)
    }

    /// True when nearly nothing is free.
    #[inline]
    pub fn pool_is_dry(&self) -> bool {
        self.pool_has_less_than(64)
    }

    /// True if less than one in `share` of the slots is free, of those for frames or of those for super-frames.
    #[inline(always)]
    fn pool_has_less_than(&self, share: usize) -> bool {
        let short = |class| self.pool.free_of(class) * share < self.pool.capacity_of(class);
        short(SlotClass::Frame) || short(SlotClass::Large)
    }

    /// When the pool runs low, moves a small payload into a small slot, so that the slot that the device needs is free
    /// again. What is known of the packet stays, but no header that was pulled.
    #[inline(always)]
    pub fn compact(&mut self, skb: Skb, at_most: usize) -> Skb {
        if skb.len() <= at_most && self.pool_is_low() { self.compact_now(skb) } else { skb }
    }

    #[cold]
    fn compact_now(&mut self, skb: Skb) -> Skb {
        if skb.class() == SlotClass::Head || skb.data_len() > 0 {
            return skb;
        }
        let Some(mut dense) = self.pool.alloc_head() else { return skb };
        if dense.tailroom() < skb.len() {
            self.pool.free(dense);
            return skb;
        }
        *dense = SkbMeta::clone(&skb);
        dense.put(skb.len()).copy_from_slice(skb.data());
        if usize::from(skb.network_off) == skb.data_offset() {
            dense.set_network_header_here();
        }
        self.count_n(Counter::CopiedDense, skb.len() as u64);
        dense.set_traced(skb.traced());
        self.pool.free(skb);
        dense
    }
}

/// What a filter sees of a frame.
pub(crate) fn flow_of_frame(frame: &[u8]) -> Flow {
    let ethertype = frame.get(12..14).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    flow_of(frame).map_or(Flow { ethertype, ..Flow::default() }, |parts| to_flow(&parts))
}

/// What a filter sees of a packet without its link header.
pub(crate) fn flow_of_packet(ethertype: u16, packet: &[u8]) -> Flow {
    let nobody = Flow { ethertype, ..Flow::default() };
    if ethertype != EtherType::IPV4 {
        return nobody;
    }
    flow_of_ipv4(packet).map_or(nobody, |parts| to_flow(&parts))
}

fn to_flow(parts: &FlowKeyParts) -> Flow {
    Flow {
        src: parts.src.to_ip(),
        dst: parts.dst.to_ip(),
        proto: parts.proto,
        sport: parts.sport,
        dport: parts.dport,
        tcp_flags: parts.tcp_flags,
        ethertype: parts.ethertype,
    }
}

/// Room that every packet made here keeps in front of its payload: Ethernet, IPv6 and the longest TCP header.
pub const OUTPUT_HEADROOM: usize = 128;
/// Payload bytes for which a small head slot (256 bytes of buffer) is enough.
const HEAD_ROOM_FOR_PAYLOAD: usize = 256 - OUTPUT_HEADROOM;
/// Payload bytes for which an ordinary slot (2,240 bytes of buffer) is enough.
const SLOT_ROOM_FOR_PAYLOAD: usize = 2_240 - OUTPUT_HEADROOM;

/// Mints ids for the packets that a Cpu makes.
#[derive(Debug)]
pub struct IdSource {
    cpu: u16,
    count: u64,
}

impl IdSource {
    /// The source of Cpu `cpu`.
    pub fn of_cpu(cpu: u16) -> IdSource {
        IdSource { cpu, count: 0 }
    }

    /// A fresh id.
    #[inline]
    pub fn mint(&mut self) -> PacketId {
        self.count += 1;
        PacketId::of_cpu(self.cpu, self.count)
    }
}

/// A small, fast, seeded generator (SplitMix64): for timer jitter, ports and identifiers that need no secrecy.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 for bound 0).
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u64() as u32) * u64::from(bound)) >> 32) as u32
    }
}
