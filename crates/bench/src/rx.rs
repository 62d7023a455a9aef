//! rxpath as a side of a comparison: a stack with one listener, driven by whoever calls.

use std::net::SocketAddr;
use std::sync::Arc;

use rxpath_core::netns::IfAddr;
use rxpath_core::nic::{RxAttach, Steering};
use rxpath_core::socket::{Listener, Sock};
use rxpath_core::stack::{InterfaceConfig, RecvError, Stack, StackConfig};
use rxpath_mem::RxDesc;
use rxpath_trace::Time;
use rxpath_wire::{Addr, SeqNum, TcpFlags, TcpOptions};

use crate::drive::Side;
use crate::feed::Feed;
use crate::frames::{STACK_IP, STACK_PORT, segment};
use crate::heard::Heard;
use crate::peer::Peer;

/// First port that the peers connect from.
const FIRST_PORT: u16 = 40_000;

/// How the stack is set up; everything else is at its defaults.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Queues of the device and Cpus of the stack.
    pub queues: u16,
    /// Whether GRO merges.
    pub gro: bool,
    /// The stack's seed.
    pub seed: u64,
}

/// One queue of a stack, the Cpu that polls it, and the connection that it brings.
pub struct RxPath {
    stack: Stack,
    listener: Arc<Listener>,
    cpu: u16,
    port: u16,
    /// The flow hash that the device reports, as any card does.
    hash: u32,
    attach: RxAttach,
    heard: Arc<Heard>,
    sock: Option<Arc<Sock>>,
}

impl RxPath {
    /// A stack, one side for each of its queues: their connections come from ports that the device steers there.
    pub fn queues(setup: &Setup, payload: usize) -> Vec<RxPath> {
        let heard: Vec<Arc<Heard>> = (0..setup.queues).map(|_| Arc::default()).collect();
        let (feed, ports) = Feed::new(heard.clone());
        let addresses = vec![IfAddr { addr: Addr::from(STACK_IP), prefix: 24 }];
        let interface = InterfaceConfig { addresses, gro: setup.gro, ..InterfaceConfig::new(Box::new(feed)) };
        let config =
            StackConfig { cpus: setup.queues, seed: setup.seed, interfaces: vec![interface], ..StackConfig::default() };
        let stack = Stack::new(config).expect("a stack of defaults and one interface");
        let listen = SocketAddr::from((STACK_IP, STACK_PORT));
        let listener = stack.listen(listen, 16).expect("the port is free");
        let (attached, steering) = ports.take().expect("the stack opened the device");
        let sides = attached.into_iter().zip(heard).enumerate().map(|(queue, (attach, heard))| {
            let cpu = queue as u16;
            let (port, hash) = port_of_queue(&steering, cpu, payload);
            let (stack, listener) = (stack.clone(), Arc::clone(&listener));
            RxPath { stack, listener, cpu, port, hash, attach, heard, sock: None }
        });
        sides.collect()
    }

    /// The stack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }
}

/// A port of the peer whose flow the device steers to `queue`, and the hash that it reports for it.
fn port_of_queue(steering: &Steering, queue: u16, payload: usize) -> (u16, u32) {
    let payload = vec![0; payload];
    let steered = (FIRST_PORT..u16::MAX).find_map(|port| {
        let frame = segment(port, SeqNum(0), SeqNum(0), TcpFlags::ACK, TcpOptions::default(), &payload);
        let (found, hash) = steering.queue_of(&frame);
        (found == queue).then_some((port, hash))
    });
    steered.expect("one of 25,000 flows goes to the queue")
}

impl Side for RxPath {
    fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }

    fn peer_port(&self) -> u16 {
        self.port
    }

    fn offer_frame(&mut self, frame: &[u8], now: u64) {
        let desc = RxDesc { at: Time(now), ..RxDesc::default() };
        self.attach.dma.write_frame(frame, desc).expect("a posted slot");
        self.attach.irq.raise(Time(now), 1);
    }

    #[inline(always)]
    fn offer(&mut self, peer: &mut Peer, segments: usize, now: u64) {
        let desc = RxDesc { hash: self.hash, at: Time(now), ..RxDesc::default() };
        for _ in 0..segments {
            let mut slot = self.attach.dma.next().expect("a posted slot");
            let len = peer.write(slot.buf());
            slot.complete(len, desc);
        }
        self.attach.irq.raise(Time(now), segments as u32);
    }

    #[inline(always)]
    fn poll(&mut self, now: u64) {
        let clock = &mut || Time(now);
        while self.stack.softirq(self.cpu, clock).is_some_and(|ran| ran.again) {}
    }

    fn accept(&mut self) -> bool {
        self.sock = self.stack.accept(&self.listener);
        self.sock.is_some()
    }

    #[inline(always)]
    fn recv(&mut self, buf: &mut [u8], now: u64) -> usize {
        let Some(sock) = &self.sock else { return 0 };
        match self.stack.recv(sock, buf, false, Time(now)) {
            Ok(n) => n,
            Err(RecvError::Empty(_)) => 0,
            Err(error) => panic!("the connection broke: {error:?}"),
        }
    }
}
