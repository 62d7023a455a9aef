//! Taps: packet sockets, which see packets before any check, in and out (`packet_rcv`, `dev_queue_xmit_nit`).
//!
//! A [`Tap`] is a bounded queue of clones, filled by the Cpus and emptied by whoever reads. One for all protocols sees
//! inbound packets as GRO made them, without their VLAN tag, before VLAN devices and all else; and outbound ones as the
//! device is to get them. One for a single protocol is a handler like others: it sees what its handler sees, after the tag
//! led somewhere, and nothing outbound.
//!
//! A clone shares the packet's bytes, which are copied once, by the reader. Of a packet that a tap's filter lets in there
//! is a clone in the ledger, even where the tap has no room for it: that one is dropped at once (`PACKET_SOCK_ERROR`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::{Event, EventListener};
use rxpath_mem::{IpSummed, PktType, Returns, Skb};
use rxpath_trace::{DropReason, EventKind, Filter, Holder, Ledger, PacketId, Time};
use rxpath_wire::{EtherType, EthernetHeader, IpProto, Ipv4Header, MacAddr, VlanTag};

use crate::cx::{Cx, flow_of_frame, flow_of_packet};

/// From where a tap sees packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TapKind {
    /// From the link header on (`SOCK_RAW`).
    #[default]
    Raw,
    /// From the network header on (`SOCK_DGRAM`).
    Dgram,
}

impl TapKind {
    /// The kernel's number of the socket type, as `/proc/net/packet` prints it.
    pub const fn number(self) -> u32 {
        match self {
            TapKind::Raw => 3,
            TapKind::Dgram => 2,
        }
    }
}

/// What a tap's filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Glance<'a> {
    /// The packet from where the tap sees it, as far as it lies in one piece: all of it, unless it came in pieces or was
    /// merged; then its headers at least.
    pub data: &'a [u8],
    /// Bytes of all of it.
    pub len: usize,
    /// From where that is.
    pub kind: TapKind,
    /// To whom it was addressed; `Outgoing` for our own.
    pub pkt_type: PktType,
    /// EtherType.
    pub protocol: u16,
    /// Index of the interface.
    pub ifindex: u16,
    /// The tag that was taken out of it.
    pub vlan: Option<VlanTag>,
}

/// Says how many bytes of a packet a tap keeps (the snap length): 0 ignores the packet, more than it has is all.
/// It runs for every packet, on the Cpu that has it, so it must be short, and must not panic.
#[derive(Clone)]
pub struct TapFilter(Arc<dyn Fn(&Glance<'_>) -> usize + Send + Sync>);

impl TapFilter {
    /// A filter that asks a function.
    pub fn new(filter: impl Fn(&Glance<'_>) -> usize + Send + Sync + 'static) -> TapFilter {
        TapFilter(Arc::new(filter))
    }

    /// A filter that keeps `snaplen` bytes of the packets that an expression matches.
    pub fn expression(expression: Filter, snaplen: usize) -> TapFilter {
        TapFilter::new(move |glance| {
            let flow = match glance.kind {
                TapKind::Raw => flow_of_frame(glance.data),
                TapKind::Dgram => flow_of_packet(glance.protocol, glance.data),
            };
            if expression.matches(&flow) { snaplen } else { 0 }
        })
    }

    /// A filter that keeps `snaplen` bytes of every packet.
    pub fn snap(snaplen: usize) -> TapFilter {
        TapFilter::new(move |_| snaplen)
    }
}

impl fmt::Debug for TapFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TapFilter")
    }
}

/// What a tap sees, and how much it may hold.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// The tap's number in the events of lives, above 0.
    pub number: u32,
    /// From where it sees packets.
    pub kind: TapKind,
    /// Only this EtherType; [`EtherType::ALL`] for all, 0 for none (a socket that only sends).
    pub protocol: u16,
    /// Only this interface; None for all.
    pub ifindex: Option<u16>,
    /// Bytes of truesize that may wait for the reader (`sk_rcvbuf`, twice what `SO_RCVBUF` was given): a packet is taken
    /// while less waits.
    pub rcvbuf: u32,
    /// Which packets it wants, and how much of them; None for all of all.
    pub filter: Option<TapFilter>,
}

impl Default for TapConfig {
    /// Raw, all protocols, all interfaces, 212,992 bytes as the kernel's `rmem_default`.
    fn default() -> TapConfig {
        TapConfig {
            number: 1,
            kind: TapKind::Raw,
            protocol: EtherType::ALL,
            ifindex: None,
            rcvbuf: 212_992,
            filter: None,
        }
    }
}

/// What a tap counted since this was read last (`PACKET_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapStats {
    /// Packets that it was offered, the dropped ones included (`tp_packets`).
    pub packets: u64,
    /// Packets that it had no room for (`tp_drops`).
    pub drops: u64,
}

/// What is known of a packet's checksum (`tp_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TapChecksum {
    /// Nothing.
    Unknown,
    /// It was verified (`TP_STATUS_CSUM_VALID`).
    Valid,
    /// It is not filled in: whoever sends the packet on would do that (`TP_STATUS_CSUMNOTREADY`). Of a merged packet, too.
    NotReady,
}

/// A packet that a tap saw, without its bytes (`sockaddr_ll` and `tpacket_auxdata`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The packet that was seen (the original, not the clone).
    pub id: PacketId,
    /// When.
    pub at: Time,
    /// On which interface.
    pub ifindex: u16,
    /// To whom it was addressed; `Outgoing` for our own.
    pub pkt_type: PktType,
    /// EtherType.
    pub protocol: u16,
    /// The sender's hardware address, if the packet has a link header.
    pub source: Option<MacAddr>,
    /// Bytes of the packet from where the tap sees it (`tp_len`).
    pub len: usize,
    /// Bytes of it that the filter let in, `len` at most (`tp_snaplen`).
    pub snaplen: usize,
    /// Where its network header begins: 14 of a frame without a tag, 0 for a tap that sees no link header (`tp_net`).
    pub net: usize,
    /// The tag that was taken out of it (`tp_vlan_tci`, `tp_vlan_tpid`).
    pub vlan: Option<VlanTag>,
    /// What is known of its checksum.
    pub checksum: TapChecksum,
    /// It stands for several packets of this IP protocol, merged or not yet cut (`TP_STATUS_GSO_TCP`).
    pub merged: Option<u8>,
    /// Packets that the tap had no room for, between the one before and this one.
    pub dropped_before: u64,
}

impl Captured {
    /// `tp_status` as `PACKET_AUXDATA` gives it.
    pub fn status(&self) -> u32 {
        const USER: u32 = 1;
        const CSUMNOTREADY: u32 = 1 << 3;
        const VLAN_VALID: u32 = 1 << 4;
        const VLAN_TPID_VALID: u32 = 1 << 6;
        const CSUM_VALID: u32 = 1 << 7;
        const GSO_TCP: u32 = 1 << 8;
        let checksum = match self.checksum {
            TapChecksum::Unknown => 0,
            TapChecksum::Valid => CSUM_VALID,
            TapChecksum::NotReady => CSUMNOTREADY,
        };
        let vlan = if self.vlan.is_some() { VLAN_VALID | VLAN_TPID_VALID } else { 0 };
        USER | checksum | vlan | if self.merged == Some(IpProto::TCP) { GSO_TCP } else { 0 }
    }
}

/// A clone that a reader took, with what is to be written into its life.
#[derive(Debug)]
pub struct TapRead {
    /// What is known of the packet.
    pub captured: Captured,
    /// Bytes that were copied: `captured.snaplen`, unless the reader's buffer was shorter.
    pub copied: usize,
    /// The clone, if its life is recorded.
    pub recorded: Option<PacketId>,
}

/// A packet socket's receive side.
pub struct Tap {
    config: TapConfig,
    queue: Mutex<Queue>,
    /// A shard that only holders of the lock write.
    ledger: Arc<Ledger>,
    /// Notified when a packet comes into an empty queue.
    arrived: Event,
}

struct Queue {
    frames: VecDeque<(Captured, Skb)>,
    /// Truesize of the frames.
    charged: u64,
    stats: TapStats,
    /// Drops since the last frame that was taken in.
    dropped: u64,
    closed: bool,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("config", &self.config).field("waiting", &self.len()).finish_non_exhaustive()
    }
}

impl Tap {
    /// A tap. `ledger` is a shard of its own, summed with those of the Cpus: what the Cpus enter as held by the tap is
    /// given out there.
    pub fn new(config: TapConfig, ledger: Arc<Ledger>) -> Arc<Tap> {
        let queue =
            Queue { frames: VecDeque::new(), charged: 0, stats: TapStats::default(), dropped: 0, closed: false };
        Arc::new(Tap { config, queue: Mutex::new(queue), ledger, arrived: Event::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A reader that panicked leaves the queue whole: nothing in here is done by halves.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it sees and may hold.
    pub fn config(&self) -> &TapConfig {
        &self.config
    }

    /// Its shard of the ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// `PACKET_STATISTICS`: what it counted since this was called last.
    pub fn statistics(&self) -> TapStats {
        std::mem::take(&mut self.lock().stats)
    }

    /// Packets that wait for the reader.
    pub fn len(&self) -> usize {
        self.lock().frames.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of truesize that wait (`sk_rmem_alloc`).
    pub fn rmem(&self) -> u64 {
        self.lock().charged
    }

    /// Registers the caller for the next packet that comes into the empty queue.
    pub fn listen(&self) -> EventListener {
        self.arrived.listen()
    }

    /// Wakes whoever waits for a packet.
    pub fn wake(&self) {
        self.arrived.notify(usize::MAX);
    }

    /// `packet_recvmsg`: the next packet, as much of it as `buf` has room for; the rest is gone. None if nothing waits.
    pub fn read(&self, buf: &mut [u8]) -> Option<TapRead> {
        let (captured, skb) = {
            let mut queue = self.lock();
            let (captured, skb) = queue.frames.pop_front()?;
            queue.charged -= u64::from(skb.truesize);
            self.ledger.held_out(Holder::TapQueue, 1);
            self.ledger.delivered(1);
            (captured, skb)
        };
        let room = buf.len().min(captured.snaplen);
        let copied = skb.copy_to(0, &mut buf[..room]);
        let recorded = skb.traced().then_some(skb.id);
        let mut returns = Returns::new();
        returns.push(skb);
        returns.flush();
        Some(TapRead { captured, copied, recorded })
    }

    /// Throws away what waits and takes nothing any more. Gives the clones whose lives are recorded, which end as
    /// `QUEUE_PURGE`.
    pub fn close(&self) -> Vec<PacketId> {
        let mut queue = self.lock();
        queue.closed = true;
        let mut returns = Returns::new();
        let mut recorded = Vec::new();
        while let Some((_, skb)) = queue.frames.pop_front() {
            self.ledger.held_out(Holder::TapQueue, 1);
            self.ledger.dropped(DropReason::QueuePurge, 1);
            recorded.extend(skb.traced().then_some(skb.id));
            returns.push(skb);
        }
        queue.charged = 0;
        returns.flush();
        recorded
    }

    fn is_for_all(&self) -> bool {
        self.config.protocol == EtherType::ALL
    }

    fn watches(&self, ifindex: u16) -> bool {
        self.config.ifindex.is_none_or(|only| only == ifindex)
    }

    /// `packet_rcv`: the filter, the room, the clone.
    fn offer(self: &Arc<Tap>, cx: &mut Cx, skb: &Skb, pkt_type: PktType, vlan: Option<VlanTag>) {
        let place = Place::of(skb, self.config.kind, pkt_type);
        let snaplen = self.snaplen(skb, place, pkt_type, vlan);
        if snaplen == 0 {
            return;
        }
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        queue.stats.packets += 1;
        let id = cx.ids.mint();
        cx.ledger.clones(1);
        if skb.traced() {
            let (len, number) = (snaplen as u32, self.config.number);
            cx.event_with(skb, EventKind::TapClone, len, number, id);
            cx.record(id, EventKind::Cloned, len, number, skb.id);
        }
        let has_room = queue.charged < u64::from(self.config.rcvbuf);
        let Some(clone) = has_room.then(|| clone_at(cx, skb, place, id)).flatten() else {
            queue.stats.drops += 1;
            queue.dropped += 1;
            cx.ledger.dropped(DropReason::PacketSockError, 1);
            if skb.traced() {
                cx.record(id, EventKind::Dropped, DropReason::PacketSockError as u32, 0, PacketId::NONE);
            }
            return;
        };
        let captured = Captured {
            id: skb.id,
            at: cx.now,
            ifindex: skb.ifindex,
            pkt_type,
            protocol: skb.protocol,
            source: place.source(skb),
            len: place.len,
            snaplen,
            net: place.network - place.start,
            vlan,
            checksum: checksum_of(skb, pkt_type),
            merged: (skb.gso_size > 0).then(|| place.protocol(skb)).flatten(),
            dropped_before: std::mem::take(&mut queue.dropped),
        };
        queue.charged += u64::from(clone.truesize);
        cx.hold(Holder::TapQueue);
        if queue.frames.is_empty() {
            cx.wakeups.tap(self);
        }
        queue.frames.push_back((captured, clone));
    }

    /// What the filter says, of the packet's length at most.
    fn snaplen(&self, skb: &Skb, place: Place, pkt_type: PktType, vlan: Option<VlanTag>) -> usize {
        let Some(TapFilter(filter)) = &self.config.filter else { return place.len };
        let glance = Glance {
            data: skb.head_bytes(place.start as u16, place.len),
            len: place.len,
            kind: self.config.kind,
            pkt_type,
            protocol: skb.protocol,
            ifindex: skb.ifindex,
            vlan,
        };
        filter(&glance).min(place.len)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where a tap sees a packet begin, in offsets of its buffer.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The link header.
    link: usize,
    /// The network header.
    network: usize,
    /// What the tap sees first.
    start: usize,
    /// Bytes from there on.
    len: usize,
}

impl Place {
    fn of(skb: &Skb, kind: TapKind, pkt_type: PktType) -> Place {
        let data = skb.data_offset();
        // A packet that came in has its link header pulled; one on its way out begins with it.
        let (link, network) = if pkt_type == PktType::Outgoing {
            (data, usize::from(skb.network_off).max(data + EthernetHeader::LEN))
        } else {
            (data.saturating_sub(EthernetHeader::LEN), data)
        };
        let start = match kind {
            TapKind::Raw => link,
            TapKind::Dgram => network,
        };
        Place { link, network, start, len: (data + skb.len()).saturating_sub(start) }
    }

    /// The IP protocol of an IPv4 packet.
    fn protocol(self, skb: &Skb) -> Option<u8> {
        Ipv4Header::parse(skb.head_bytes(self.network as u16, Ipv4Header::LEN)).map(|(ip, _)| ip.protocol())
    }

    fn source(self, skb: &Skb) -> Option<MacAddr> {
        let (header, _) = EthernetHeader::parse(skb.head_bytes(self.link as u16, EthernetHeader::LEN))?;
        Some(header.src())
    }
}

/// A clone of the packet whose data starts where the tap sees it begin. Its life is recorded if the packet's is.
fn clone_at(cx: &mut Cx, skb: &Skb, place: Place, id: PacketId) -> Option<Skb> {
    let mut clone = cx.clone_shared(skb)?;
    clone.id = id;
    let data = clone.data_offset();
    let moved = if place.start <= data { clone.unpull(data - place.start) } else { clone.pull(place.start - data) };
    debug_assert!(moved, "both headers lie in this buffer");
    Some(clone)
}

fn checksum_of(skb: &Skb, pkt_type: PktType) -> TapChecksum {
    match skb.ip_summed {
        IpSummed::Partial => TapChecksum::NotReady,
        // The kernel leaves the checksum of a packet that it merged open.
        _ if skb.gso_size > 0 => TapChecksum::NotReady,
        IpSummed::Unnecessary | IpSummed::Complete if pkt_type != PktType::Outgoing => TapChecksum::Valid,
        _ => TapChecksum::Unknown,
    }
}

/// Offers an inbound packet to the taps for all protocols. True if there is one for its interface, whatever its filter says:
/// then somebody took the packet (as the kernel has it, where the last tap gets the packet itself).
#[cold]
pub(crate) fn deliver(cx: &mut Cx, skb: &Skb, vlan: Option<VlanTag>) -> bool {
    let pkt_type = skb.pkt_type;
    offer_to(cx, skb, pkt_type, vlan, |tap| tap.is_for_all())
}

/// Offers an inbound packet to the taps for its protocol. True if there is one for its interface.
#[cold]
pub(crate) fn deliver_by_protocol(cx: &mut Cx, skb: &Skb) -> bool {
    let (pkt_type, protocol) = (skb.pkt_type, skb.protocol);
    offer_to(cx, skb, pkt_type, None, |tap| tap.config.protocol == protocol && !tap.is_for_all())
}

/// `dev_queue_xmit_nit`: offers an outbound frame to the taps for all protocols, but for that of number `sender`, which
/// sends it (0: none does).
#[cold]
pub(crate) fn deliver_outgoing(cx: &mut Cx, skb: &Skb, sender: u32) {
    offer_to(cx, skb, PktType::Outgoing, None, |tap| tap.is_for_all() && tap.config.number != sender);
}

fn offer_to(cx: &mut Cx, skb: &Skb, pkt_type: PktType, vlan: Option<VlanTag>, wants: impl Fn(&Tap) -> bool) -> bool {
    let net = Arc::clone(&cx.net);
    let mut seen = false;
    for tap in net.ptypes.taps() {
        if wants(tap) && tap.watches(skb.ifindex) {
            tap.offer(cx, skb, pkt_type, vlan);
            seen = true;
        }
    }
    seen
}
