//! A stack with one interface whose far end is the test: frames go in through the descriptor ring, frames come out of
//! the device, time is a number. Every lab checks at its end that the ledger balances and that nothing ended unnamed.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rxpath_mem::{IpSummed, PagePool, RxDesc, RxDma, Skb};
use rxpath_trace::{Counter, DropReason, Time};
use rxpath_wire::{
    Addr, EtherType, EthernetRepr, IpProto, Ipv4Header, Ipv4Repr, MacAddr, SeqNum, TcpFlags, TcpHeader, TcpOptions,
    TcpRepr, arp, ethernet, ipv4, tcp as wire_tcp,
};

use crate::netns::IfAddr;
use crate::nic::{Device, DeviceInfo, DeviceQueue, Features, IrqLine, RxAttach, Steering, TruesizeModel, Xmit};
use crate::socket::{Listener, Sock, WriteStep};
use crate::stack::{InterfaceConfig, RecvError, Stack, StackConfig};
use crate::tcp::State;

pub const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub const MS: u64 = 1_000_000;

pub const SYN: TcpFlags = TcpFlags::SYN;
pub const ACK: TcpFlags = TcpFlags::ACK;
pub const PSH_ACK: TcpFlags = TcpFlags(TcpFlags::PSH.0 | TcpFlags::ACK.0);
pub const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);
pub const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0);

type Emitted = Arc<Mutex<VecDeque<Vec<u8>>>>;
type Rings = Arc<Mutex<Vec<(RxDma, IrqLine)>>>;
type Answer = Arc<Mutex<Xmit>>;

struct Cable {
    emitted: Emitted,
    rings: Rings,
    xmit: Answer,
    queues: u16,
    features: Features,
}

struct CableQueue(Emitted, Answer);

impl Device for Cable {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            name: "lab0".to_owned(),
            mac: OUR_MAC,
            mtu: 1_500,
            queues: self.queues,
            features: self.features,
            truesize: TruesizeModel::Kernel,
        }
    }

    fn open(self: Box<Self>, queues: Vec<RxAttach>, _: Steering) -> io::Result<Vec<Box<dyn DeviceQueue>>> {
        for RxAttach { dma, irq } in queues {
            self.rings.lock().unwrap().push((dma, irq));
        }
        let queue =
            |_| -> Box<dyn DeviceQueue> { Box::new(CableQueue(Arc::clone(&self.emitted), Arc::clone(&self.xmit))) };
        Ok((0..self.queues).map(queue).collect())
    }
}

impl DeviceQueue for CableQueue {
    fn dma(&mut self, _: Time, _: &mut PagePool, _: usize) -> usize {
        0
    }

    fn xmit(&mut self, _: Time, skb: &Skb) -> Xmit {
        let answer = *self.1.lock().unwrap();
        if answer == Xmit::Sent {
            let mut frame: Vec<u8> = skb.fragments().flatten().copied().collect();
            if skb.ip_summed == IpSummed::Partial && skb.gso_size == 0 {
                let total = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
                wire_tcp::fill_checksum(Addr::from(US), Addr::from(PEER), &mut frame[34..total]);
            }
            self.0.lock().unwrap().push_back(frame);
        }
        answer
    }

    fn flush(&mut self, _: Time) {}
}

fn answer() -> Answer {
    Arc::new(Mutex::new(Xmit::Sent))
}

/// A segment that the stack sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Type of service of the packet.
    pub tos: u8,
    pub sport: u16,
    pub dport: u16,
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: TcpFlags,
    pub window: u16,
    pub options: TcpOptions,
    pub payload: Vec<u8>,
}

pub struct Lab {
    pub stack: Stack,
    pub now: Time,
    emitted: Emitted,
    /// What leaves by the second interface, if there is one.
    second: Emitted,
    rings: Rings,
    xmit: Answer,
    ip_id: u16,
    /// Type of service of the peer's packets.
    pub tos: u8,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut StackConfig)) -> Lab {
        Lab::with_queues(1, change)
    }

    /// A lab whose device has several queues; which frame goes to which is for the test to say.
    pub fn with_queues(queues: u16, change: impl FnOnce(&mut StackConfig)) -> Lab {
        Lab::build(queues, Emitted::default(), Features::default(), change)
    }

    /// A lab with a second interface, by which frames only leave.
    pub fn with_two_interfaces() -> Lab {
        let second = Emitted::default();
        let device = Cable {
            emitted: Arc::clone(&second),
            rings: Rings::default(),
            xmit: answer(),
            queues: 1,
            features: Features::default(),
        };
        Lab::build(1, second, Features::default(), |config| {
            config.interfaces.push(InterfaceConfig::new(Box::new(device)));
        })
    }

    /// A lab whose device takes super-frames, which [`Lab::raw`] gives as they are, their checksums open.
    pub fn offloading() -> Lab {
        Lab::build(1, Emitted::default(), Features { tx_csum: true, tso: true, ..Features::default() }, |_| {})
    }

    fn build(queues: u16, second: Emitted, features: Features, change: impl FnOnce(&mut StackConfig)) -> Lab {
        let (emitted, rings, xmit) = (Emitted::default(), Rings::default(), answer());
        let device = Cable {
            emitted: Arc::clone(&emitted),
            rings: Arc::clone(&rings),
            xmit: Arc::clone(&xmit),
            queues,
            features,
        };
        let mut interface = InterfaceConfig::new(Box::new(device));
        interface.addresses.push(IfAddr { addr: Addr::from(US), prefix: 24 });
        let mut config = StackConfig { interfaces: vec![interface], seed: 7, ..StackConfig::default() };
        change(&mut config);
        let stack = Stack::new(config).expect("the configuration is sound");
        let mut lab = Lab { stack, now: Time::from_millis(1_000), emitted, second, rings, xmit, ip_id: 0, tos: 0 };
        lab.introduce_peer();
        lab
    }

    /// The peer asks for our address, so that we know its own.
    fn introduce_peer(&mut self) {
        let mut frame = vec![0; 42];
        ethernet::emit(&mut frame, EthernetRepr { dst: MacAddr::BROADCAST, src: PEER_MAC, ethertype: EtherType::ARP });
        let repr = rxpath_wire::ArpRepr {
            operation: arp::REQUEST,
            sender_mac: PEER_MAC,
            sender_ip: PEER,
            target_mac: MacAddr::ZERO,
            target_ip: US,
        };
        arp::emit(&mut frame[14..], repr);
        self.put(&frame);
        self.run();
        assert_eq!(self.emitted.lock().unwrap().drain(..).count(), 1, "the ARP reply");
        // From now on it is known for good: who plays the peer answers segments, and need not answer ARP.
        assert!(self.stack.set_neighbour(1, Addr::from(PEER), Some(PEER_MAC), self.now));
    }

    /// Writes a frame into the ring and raises the interrupt.
    pub fn put(&mut self, frame: &[u8]) {
        assert!(self.offer(0, frame), "a posted slot");
    }

    /// As [`Lab::put`], into the ring of a queue; false if the ring is full.
    pub fn offer(&mut self, queue: usize, frame: &[u8]) -> bool {
        let mut rings = self.rings.lock().unwrap();
        let (dma, irq) = &mut rings[queue];
        // As a card does: one number for a flow, whatever it is.
        let ports = frame.get(34..38).filter(|_| frame[12..14] == EtherType::IPV4.to_be_bytes());
        let hash = ports.map_or(0, |ports| u32::from_be_bytes([ports[0], ports[1], ports[2], ports[3]]));
        let taken = dma.write_frame(frame, RxDesc { at: self.now, hash, ..RxDesc::default() }).is_ok();
        irq.raise(self.now, 1);
        taken
    }

    /// As [`Lab::put`], without the interrupt.
    pub fn put_quietly(&mut self, frame: &[u8]) {
        let mut rings = self.rings.lock().unwrap();
        let (dma, _) = &mut rings[0];
        dma.write_frame(frame, RxDesc { at: self.now, ..RxDesc::default() }).expect("a posted slot");
    }

    /// As [`Lab::put`], for a frame of which the device has something to report.
    pub fn put_reported(&mut self, frame: &[u8], desc: RxDesc) {
        let mut rings = self.rings.lock().unwrap();
        let (dma, irq) = &mut rings[0];
        dma.write_frame(frame, RxDesc { at: self.now, ..desc }).expect("a posted slot");
        irq.raise(self.now, 1);
    }

    /// What the device says to every frame from now on.
    pub fn set_xmit(&mut self, answer: Xmit) {
        *self.xmit.lock().unwrap() = answer;
    }

    /// Runs softirqs until nothing is left to do now.
    pub fn run(&mut self) {
        for _ in 0..1_000 {
            let polled = self.stack.poll(self.now);
            if polled.next != Some(self.now) {
                return;
            }
        }
        panic!("the stack does not come to rest");
    }

    /// Lets time pass, running every timer on its way.
    pub fn wait(&mut self, ms: u64) {
        let until = self.now + ms * MS;
        while let Some(next) = self.stack.next_deadline().filter(|&at| at <= until) {
            self.now = self.now.max(next);
            self.run();
        }
        self.now = until;
        self.run();
    }

    /// A segment from the peer, delivered and processed.
    pub fn segment(&mut self, repr: TcpRepr, payload: &[u8]) {
        let frame = self.frame(repr, payload);
        self.put(&frame);
        self.run();
    }

    pub fn frame(&mut self, repr: TcpRepr, payload: &[u8]) -> Vec<u8> {
        let header = repr.header_len();
        let total = 20 + header + payload.len();
        let mut frame = vec![0; 14 + total];
        self.ip_id = self.ip_id.wrapping_add(1);
        ethernet::emit(&mut frame, EthernetRepr { dst: OUR_MAC, src: PEER_MAC, ethertype: EtherType::IPV4 });
        let ip = Ipv4Repr {
            src: PEER,
            dst: US,
            proto: IpProto::TCP,
            ttl: 64,
            tos: self.tos,
            id: self.ip_id,
            df: true,
            total_len: total as u16,
        };
        ipv4::emit(&mut frame[14..], ip);
        wire_tcp::emit(&mut frame[34..], repr);
        frame[34 + header..].copy_from_slice(payload);
        wire_tcp::fill_checksum(Addr::from(PEER), Addr::from(US), &mut frame[34..]);
        frame
    }

    /// The next segment that the stack sent.
    pub fn sent(&mut self) -> Option<Sent> {
        self.sent_as_frame().map(|(sent, _)| sent)
    }

    /// The next segment that the stack sent, and its frame.
    pub fn sent_as_frame(&mut self) -> Option<(Sent, Vec<u8>)> {
        let frame = loop {
            let frame = self.emitted.lock().unwrap().pop_front()?;
            if frame[12..14] == EtherType::IPV4.to_be_bytes() {
                break frame;
            }
        };
        let (ip, _) = Ipv4Header::parse(&frame[14..]).expect("an IP header");
        let total = usize::from(ip.total_len());
        assert!(ipv4::verify(&frame[14..34]), "the IP checksum verifies");
        assert!(wire_tcp::verify(ip.src_addr(), ip.dst_addr(), &frame[34..14 + total]), "the TCP checksum verifies");
        let (header, options, payload) = TcpHeader::split(&frame[34..14 + total]).expect("a TCP header");
        let sent = Sent {
            tos: ip.tos(),
            sport: header.src_port(),
            dport: header.dst_port(),
            seq: header.seq(),
            ack: header.ack(),
            flags: header.flags(),
            window: header.window(),
            options: TcpOptions::parse(options),
            payload: payload.to_vec(),
        };
        Some((sent, frame))
    }

    pub fn expect(&mut self, flags: TcpFlags) -> Sent {
        let sent = self.sent().unwrap_or_else(|| panic!("nothing was sent where {flags:?} was expected"));
        assert_eq!(sent.flags, flags, "{sent:?}");
        sent
    }

    pub fn expect_nothing(&mut self) {
        assert_eq!(self.sent(), None);
    }

    /// The next frame that the stack sent, whatever it is.
    pub fn raw(&mut self) -> Option<Vec<u8>> {
        self.emitted.lock().unwrap().pop_front()
    }

    /// The next frame that left by the second interface.
    pub fn raw_of_second(&mut self) -> Option<Vec<u8>> {
        self.second.lock().unwrap().pop_front()
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.stack.snapshot()[counter]
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.stack.ledger().dropped_for(reason)
    }

    pub fn listen(&mut self, port: u16, backlog: u32) -> Arc<Listener> {
        self.stack.listen(SocketAddr::new(IpAddr::V4(US), port), backlog).expect("the port is free")
    }

    pub fn recv(&mut self, sock: &Arc<Sock>, len: usize) -> Result<Vec<u8>, RecvError> {
        let mut buf = vec![0; len];
        let got = self.stack.recv(sock, &mut buf, false, self.now)?;
        buf.truncate(got);
        self.run();
        Ok(buf)
    }

    pub fn send(&mut self, sock: &Arc<Sock>, data: &[u8]) -> usize {
        let step = self.stack.send(sock, data, false, self.now);
        self.run();
        match step {
            WriteStep::Taken(n) => n,
            _ => 0,
        }
    }

    pub fn close(&mut self, sock: &Arc<Sock>) {
        self.stack.close(sock, self.now);
        self.run();
    }

    pub fn state(&self, sock: &Sock) -> State {
        sock.lock.user().state
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let ledger = self.stack.ledger();
        ledger.check().unwrap_or_else(|imbalance| panic!("{imbalance}\n{}", ledger.details()));
        self.stack.shutdown();
        let ledger = self.stack.ledger();
        ledger.check().unwrap_or_else(|imbalance| panic!("after shutdown: {imbalance}\n{}", ledger.details()));
    }
}

/// The peer's end of one connection.
pub struct Peer {
    pub sport: u16,
    pub dport: u16,
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub window: u16,
    /// TSval of the next segment and the echo; None without timestamps.
    pub stamps: Option<(u32, u32)>,
    /// The SYN offers selective acknowledgements.
    pub sack: bool,
}

impl Peer {
    /// A peer that has not said anything yet.
    pub fn new(sport: u16, dport: u16) -> Peer {
        Peer { sport, dport, seq: SeqNum(1_000), ack: SeqNum(0), window: 64_240, stamps: None, sack: false }
    }

    pub fn repr(&self, flags: TcpFlags) -> TcpRepr {
        TcpRepr {
            sport: self.sport,
            dport: self.dport,
            seq: self.seq,
            ack: if flags.ack() { self.ack } else { SeqNum(0) },
            flags,
            window: self.window,
            urgent: 0,
            options: TcpOptions { timestamps: self.stamps, ..TcpOptions::default() },
        }
    }

    /// Opens a connection with the usual options and gives the accepted socket.
    pub fn connect(&mut self, lab: &mut Lab, listener: &Arc<Listener>) -> Arc<Sock> {
        self.connect_from_afar(lab, listener, 0)
    }

    /// As [`Peer::connect`], over a path with a round trip of so many milliseconds.
    pub fn connect_from_afar(&mut self, lab: &mut Lab, listener: &Arc<Listener>, rtt_ms: u64) -> Arc<Sock> {
        let mut syn = self.repr(SYN);
        syn.options = TcpOptions {
            mss: Some(1_460),
            wscale: Some(7),
            timestamps: self.stamps,
            sack_permitted: self.sack,
            ..TcpOptions::default()
        };
        lab.segment(syn, &[]);
        let answer = lab.expect(SYN_ACK);
        assert_eq!(answer.ack, self.seq + 1);
        self.seq += 1;
        self.ack = answer.seq + 1;
        self.note(&answer);
        lab.wait(rtt_ms);
        lab.segment(self.repr(ACK), &[]);
        lab.stack.accept(listener).expect("the handshake is complete")
    }

    /// Takes the echo from a segment of the stack.
    pub fn note(&mut self, sent: &Sent) {
        if let (Some((_, echo)), Some((tsval, _))) = (&mut self.stamps, sent.options.timestamps) {
            *echo = tsval;
        }
    }

    /// Sends in-order data.
    pub fn data(&mut self, lab: &mut Lab, payload: &[u8]) {
        lab.segment(self.repr(PSH_ACK), payload);
        self.seq += payload.len() as u32;
    }

    /// Sends data `offset` bytes ahead of the next.
    pub fn data_at(&mut self, lab: &mut Lab, offset: i32, payload: &[u8]) {
        let mut repr = self.repr(ACK);
        repr.seq = SeqNum(repr.seq.0.wrapping_add_signed(offset));
        lab.segment(repr, payload);
    }
}
