//! A capture through a stack that stands in for the host that it was made on.
//!
//! [`Replay`] reads a capture packet by packet. What the host received goes into the stack's interface at the capture's own
//! times, in virtual time; what the host itself sent tells the stand-ins for its applications what to do (`flows.rs` says
//! how connections are followed). Every packet of the capture is told once, with what became of it
//! ([`Fate`]); [`Summary`] adds up, with the counters that moved and the ledger.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the drive: packets and timers in the order of time |
//! | `host.rs` | the stack, its interfaces, and which packets are its own |
//! | `feed.rs` | the device's end |
//! | `segment.rs` | TCP segments in frames |
//! | `flows.rs` | connections, followed |
//! | `datagrams.rs` | UDP sockets, as far as they are known |
//! | `fates.rs` | what became of each packet |
//! | `synthetic.rs` | captures made up from a seed |
//!
//! **What is not judged.** The neighbours' hardware addresses are those of the frames that come from them. Frames arrive one
//! at a time: what GRO merged on the capturing host is merged in the capture already. Packets of protocols that the
//! kernel has and this stack has not (IPv6, IGMP) are not given to it: its verdict would not be the kernel's. Nor are
//! datagrams of UDP for ports of which nothing tells whether the host had them open (`datagrams.rs`).
//!
//! Memory is bounded, whatever the length of the capture; nothing here panics, whatever it holds.

mod datagrams;
mod fates;
mod feed;
mod flows;
mod host;
mod segment;
pub mod synthetic;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::net::SocketAddr;

use rxpath::capture::{self, CaptureError, CaptureReader, Interface, Link, Notes, Packet, Peeled, Unreadable};
use rxpath::config::{HostConfig, Proto};
use rxpath_mem::IpSummed;
use rxpath_trace::{Filter, Flow, Holder, LedgerSnapshot, Snapshot, Time};
use rxpath_wire::{EtherType, EthernetHeader, IpProto, Ipv4Header, MacAddr};

pub use self::fates::{Fate, Told, Unfed};
pub use self::flows::Followed;

use self::datagrams::Datagrams;
use self::fates::Books;
use self::flows::Flows;
use self::host::{Host, Port, Way};
use self::segment::Segment;

/// The stack's time when the first packet arrives.
const START: Time = Time(1_000_000_000);
/// The longest time from the first packet on that is counted, a hundred years; later packets come at its end.
const SPAN_MAX: u64 = 100 * 365 * 86_400 * 1_000_000_000;
/// Rounds of softirqs at one moment, at most.
const ROUNDS: usize = 256;
/// Timers between two packets, at most.
const TIMERS: usize = 100_000;
/// Polls after which what they recorded is collected.
const COLLECT_EVERY: usize = 512;
/// Packets after which progress is told.
const PROGRESS_EVERY: u64 = 16_384;

/// What the link header of a frame tells that is shorter than one.
const RUNT: Peeled = Peeled { header: 0, ethertype: 0, src: None, kind: None };

/// Which lives are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Lives {
    /// None.
    #[default]
    None,
    /// That of the packet with this number.
    Packet(u64),
    /// Those of the packets that the filter matches.
    Filter(Filter),
}

/// What is to be told of each packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Its bytes.
    pub bytes: bool,
    /// Where the host listened, beyond what its configuration says.
    pub listen: Vec<(Proto, SocketAddr)>,
    /// Its life.
    pub lives: Lives,
}

/// What became of a capture.
#[derive(Debug)]
pub struct Summary {
    /// Packets in the capture, as far as it was read.
    pub packets: u64,
    /// Bytes of the capture that were read.
    pub bytes: u64,
    /// Packets that the stack was given.
    pub fed: u64,
    /// How many packets had each fate, the most frequent first.
    pub fates: Vec<(Fate, u64)>,
    /// How many packets were made up for, by why.
    pub notes: Vec<(Notes, u64)>,
    /// Packets that the capture itself lost.
    pub lost: u64,
    /// Packets older than one before them, and by how many nanoseconds at the most.
    pub back_in_time: (u64, u64),
    /// When the first packet was captured, and how many nanoseconds the capture spans.
    pub first: Option<i64>,
    /// From the first packet to the last.
    pub span: u64,
    /// What ended the capture before its end.
    pub fault: Option<CaptureError>,
    /// Interfaces whose hardware address was taken from the capture.
    pub learnt: Vec<(String, MacAddr)>,
    /// What following connections did.
    pub followed: Followed,
    /// Counters that moved.
    pub counters: Snapshot,
    /// Where every packet of the stack is, or how it ended.
    pub ledger: LedgerSnapshot,
    /// Records of lives that were lost, in which case fates may be wrong: 0, unless there is a fault.
    pub records_lost: u64,
}

/// A capture on its way through a stack.
pub struct Replay<R> {
    reader: CaptureReader<R>,
    options: Options,
    host: Host,
    flows: Flows,
    datagrams: Datagrams,
    books: Books,
    clock: Clock,
    polls: usize,
    fed: u64,
    lost: u64,
    notes: [u64; Notes::ALL.len()],
    fault: Option<CaptureError>,
}

/// The capture's times on the stack's clock.
#[derive(Default)]
struct Clock {
    first: Option<i64>,
    latest: Option<i64>,
    now: Time,
    back: u64,
    back_most: u64,
}

impl Clock {
    /// When a packet arrives. It never goes back: a packet without time, or older than one before it, comes with that.
    fn at(&mut self, time: Option<i64>) -> Time {
        let now = self.now.max(START);
        let Some(time) = time else { return now };
        let first = *self.first.get_or_insert(time);
        let latest = *self.latest.get_or_insert(time);
        if time < latest {
            self.back += 1;
            self.back_most = self.back_most.max(latest.abs_diff(time));
            return now;
        }
        self.latest = Some(time);
        (START + time.abs_diff(first).min(SPAN_MAX)).max(now)
    }
}

impl<R: Read> Replay<R> {
    /// A stack as `config` describes it, whose services listen, and a capture that has not begun.
    ///
    /// # Errors
    /// The stack could not be made, or a service cannot listen.
    pub fn new(config: &HostConfig, reader: CaptureReader<R>, options: Options) -> io::Result<Replay<R>> {
        let host = Host::new(config)?;
        let backlog = config.sysctls.somaxconn;
        let configured = config.services.iter().map(|service| (service.proto, service.listen));
        let (mut listeners, mut datagrams) = (Vec::new(), Datagrams::new(&host.stack));
        for (proto, addr) in configured.chain(options.listen.iter().copied()) {
            match proto {
                Proto::Tcp => {
                    let refused = |error| io::Error::other(format!("listening on {addr}: {error:?}"));
                    listeners.push(host.stack.listen(addr, backlog).map_err(refused)?);
                }
                Proto::Udp => datagrams.open(addr)?,
            }
        }
        let flows = Flows::new(&host.stack, listeners);
        let clock = Clock { now: START, ..Clock::default() };
        Ok(Replay {
            reader,
            options,
            host,
            flows,
            datagrams,
            books: Books::default(),
            clock,
            polls: 0,
            fed: 0,
            lost: 0,
            notes: [0; Notes::ALL.len()],
            fault: None,
        })
    }

    /// Replays the capture to its end, or to where it cannot be read any further. Each packet is told once, in the order of
    /// the capture, with the interfaces that were described so far; `progress` hears now and then how many packets and
    /// bytes were read.
    ///
    /// # Errors
    /// What `tell` gives ends the replay.
    pub fn run<E>(
        &mut self,
        mut tell: impl FnMut(Told, &[Interface]) -> Result<(), E>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Summary, E> {
        let mut packets = 0;
        while self.step() {
            packets += 1;
            if packets % PROGRESS_EVERY == 0 {
                progress(packets, self.reader.offset());
            }
            while let Some(told) = self.books.next(false) {
                tell(told, self.reader.interfaces())?;
            }
        }
        self.collect();
        while let Some(told) = self.books.next(true) {
            tell(told, self.reader.interfaces())?;
        }
        progress(packets, self.reader.offset());
        Ok(self.summary(packets))
    }

    /// The lives' names for interfaces.
    pub fn names(&self) -> rxpath_trace::Names {
        let ports = self.host.ports.iter();
        ports.fold(rxpath_trace::Names::new(), |names, port| names.device(port.ifindex, port.name.clone()))
    }

    fn summary(&mut self, packets: u64) -> Summary {
        let notes = Notes::ALL.iter().zip(self.notes).map(|((note, _), n)| (*note, n)).filter(|(_, n)| *n > 0);
        let learnt = self.host.ports.iter().filter_map(|port| Some((port.name.clone(), port.learnt?)));
        let Clock { first, latest, back, back_most, .. } = self.clock;
        Summary {
            packets,
            bytes: self.reader.offset(),
            fed: self.fed,
            fates: self.books.counts(),
            notes: notes.collect(),
            lost: self.lost,
            back_in_time: (back, back_most),
            first,
            span: first.zip(latest).map_or(0, |(first, latest)| latest.abs_diff(first)),
            fault: self.fault.take(),
            learnt: learnt.collect(),
            followed: self.flows.followed.clone(),
            counters: self.host.stack.snapshot(),
            ledger: self.host.stack.ledger(),
            records_lost: self.host.stack.lost_events(),
        }
    }

    /// The next packet; false at the end.
    fn step(&mut self) -> bool {
        match self.reader.next_packet() {
            Ok(Some(packet)) => {
                self.lost = self.lost.saturating_add(packet.lost);
                let at = self.clock.at(packet.time);
                self.advance(at);
                self.packet(at);
                true
            }
            Ok(None) => false,
            Err(fault) => {
                self.fault = Some(fault);
                false
            }
        }
    }

    /// Lets time pass: what is due happens.
    fn advance(&mut self, to: Time) {
        for _ in 0..TIMERS {
            match self.host.stack.next_deadline() {
                Some(due) if due < to => self.poll(due.max(self.clock.now)),
                _ => break,
            }
            if self.polls >= COLLECT_EVERY {
                self.collect();
            }
        }
        self.clock.now = to;
    }

    fn poll(&mut self, now: Time) {
        self.clock.now = now;
        for _ in 0..ROUNDS {
            self.polls += 1;
            if self.host.stack.poll(now).next.is_none_or(|next| next > now) {
                break;
            }
        }
    }

    fn collect(&mut self) {
        self.polls = 0;
        self.books.learn(&self.host.stack.take_events());
    }

    /// Looks at the packet that was read last.
    fn packet(&mut self, at: Time) {
        let Some(packet) = self.reader.last_packet() else { return };
        let interface = packet.interface.and_then(|index| self.reader.interfaces().get(index));
        let mut told = told(&packet, self.options.bytes);
        let Some(interface) = interface else { return self.books.enter(unfed(told, Unfed::NoInterface)) };
        let link = interface.link;
        let fcs_len = packet.fcs_len().unwrap_or(interface.fcs_len);
        let whole = packet.wire_len as usize == packet.data.len();
        let peeled = match capture::peel(link, packet.data) {
            Ok(peeled) => peeled,
            // Nothing was cut: it was too short on the wire, which is for the card to say.
            Err(Unreadable::Short) if whole && link == Link::Ethernet => RUNT,
            Err(Unreadable::Short) if whole => return self.books.enter(unfed(told, Unfed::LinkPayload)),
            Err(unreadable) => return self.books.enter(unfed(told, why(unreadable))),
        };
        let port = self.host.port_of(interface.name.as_deref(), link, packet.data);
        let Some(Port { feed, mac, mtu, .. }) = self.host.ports.get(port) else { return };
        let (feed, mac, mtu, flags) = (feed.clone(), *mac, *mtu, packet.flags);
        let mut frame = feed.spare();
        capture::to_ethernet(link, &peeled, packet.data, mac, &mut frame.bytes);
        told.flow = segment::flow(&frame.bytes);
        let segment = Segment::of(&frame.bytes);
        if self.host.way(port, &packet, link, &peeled, &frame.bytes) == Way::Out {
            if let Some(segment) = segment {
                self.flows.send(&frame.bytes, &segment, at);
                self.flows.opened(feed.opened());
            }
            self.datagrams.sent(&told.flow, at);
            return self.books.enter(Told { fate: Fate::Outbound, ..told });
        }
        if let Some(unfit) = self.not_modelled(port, &peeled, &told.flow, &frame.bytes) {
            return self.books.enter(unfed(told, unfit));
        }
        let missing = packet.wire_len as usize - packet.data.len();
        let mss = segment.as_ref().and_then(|segment| self.flows.mss(segment));
        let Ok(arrival) = capture::prepare(&mut frame.bytes, missing, fcs_len, mtu, mss, flags) else {
            return self.books.enter(unfed(told, Unfed::TooShort));
        };
        told.notes = arrival.notes;
        frame.desc = arrival.desc();
        if let Some(segment) = &segment {
            self.flows.receive(&mut frame.bytes, segment, arrival.csum == IpSummed::None, at);
        }
        self.feed(port, frame, told, segment, at);
    }

    /// Gives a frame to the stack, and lets it do what follows.
    fn feed(
        &mut self,
        port: usize,
        mut frame: rxpath::device::pcap::Frame,
        mut told: Told,
        segment: Option<Segment>,
        at: Time,
    ) {
        self.host.know_sender(port, &frame.bytes, at);
        let Some(interface) = self.host.ports.get(port) else { return };
        interface.readdress(&mut frame.bytes);
        let feed = interface.feed.clone();
        feed.put(at, frame);
        self.poll(at);
        for (count, (note, _)) in self.notes.iter_mut().zip(Notes::ALL) {
            *count += u64::from(told.notes.contains(note));
        }
        let wanted = match &self.options.lives {
            Lives::None => false,
            Lives::Packet(number) => *number == told.number,
            Lives::Filter(filter) => filter.matches(&told.flow),
        };
        let flow = told.flow;
        let Some((id, queue)) = feed.arrived() else { return self.books.enter(told) };
        self.fed += 1;
        told.id = Some((id, queue));
        self.books.enter_fed(told, id, wanted);
        self.flows.opened(feed.opened());
        if let Some(segment) = segment {
            self.flows.read(&segment.tuple, at);
        }
        self.datagrams.read(&flow, at);
        if self.polls >= COLLECT_EVERY || wanted {
            self.collect();
        }
    }

    /// Whether the kernel would have known what to do with a packet, and this stack has not the protocol or the sockets.
    fn not_modelled(&self, port: usize, peeled: &Peeled, flow: &Flow, frame: &[u8]) -> Option<Unfed> {
        let net = self.host.stack.config();
        if peeled.ethertype == EtherType::IPV6 && net.ptypes.lookup(EtherType::IPV6).is_none() {
            return Some(Unfed::Network(EtherType::IPV6));
        }
        let (header, packet) = EthernetHeader::parse(frame)?;
        if peeled.ethertype != EtherType::IPV4 {
            return None;
        }
        let (ip, _) = Ipv4Header::parse(packet)?;
        let is_kernels = matches!(ip.protocol(), IpProto::UDP | IpProto::UDPLITE | IpProto::IGMP);
        let for_us = header.dst().is_multicast() || self.host.ports.get(port)?.is_own(header.dst());
        let unknown = match ip.protocol() {
            IpProto::UDP => !self.datagrams.takes(flow),
            protocol => net.inet_protos.lookup(protocol).is_none(),
        };
        let missing = is_kernels && for_us && unknown;
        missing.then_some(Unfed::Transport(ip.protocol()))
    }
}

fn why(unreadable: Unreadable) -> Unfed {
    match unreadable {
        Unreadable::Short => Unfed::TooShort,
        Unreadable::LinkType(number) => Unfed::LinkType(number),
        Unreadable::Payload => Unfed::LinkPayload,
    }
}

fn unfed(told: Told, why: Unfed) -> Told {
    Told { fate: Fate::Unfed(why), ..told }
}

/// What there is to tell of a packet before anything became of it.
fn told(packet: &Packet<'_>, bytes: bool) -> Told {
    Told {
        number: packet.number,
        offset: packet.offset,
        time: packet.time,
        interface: packet.interface,
        wire_len: packet.wire_len,
        captured_len: packet.data.len() as u32,
        data: if bytes { packet.data.to_vec() } else { Vec::new() },
        flags: packet.flags,
        lost: packet.lost,
        flow: Flow::default(),
        notes: Notes::default(),
        id: None,
        fate: Fate::Held(Holder::RxRing),
        other: None,
        life: None,
    }
}
