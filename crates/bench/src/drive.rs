//! What is timed: a burst from the peer into the device, through the stack, to the application's buffer.

use std::sync::Arc;
use std::time::Instant;

use crate::case::BURST;
use crate::clock::thread_ns;
use crate::heard::Heard;
use crate::peer::Peer;

/// A stack under test with one listening socket and a device that the peer writes into.
pub trait Side {
    /// What the stack sends is heard here.
    fn heard(&self) -> Arc<Heard>;

    /// The port that the peer is to connect from.
    fn peer_port(&self) -> u16;

    /// Frames that are not data arrive at `now`.
    fn offer_frame(&mut self, frame: &[u8], now: u64);

    /// `segments` segments of the peer arrive at `now`, all at once: into the device's memory, and no further.
    fn offer(&mut self, peer: &mut Peer, segments: usize, now: u64);

    /// The stack works until it has nothing left to do. `now` in nanoseconds.
    fn poll(&mut self, now: u64);

    /// The listener's connection is there: from now on it is the one that is read.
    fn accept(&mut self) -> bool;

    /// The application reads; 0 when there is nothing.
    fn recv(&mut self, buf: &mut [u8], now: u64) -> usize;
}

/// Bytes of the application's buffer.
const BUFFER: usize = 65_536;
/// Nanoseconds per byte on a wire of 10 Gbit/s, as a fraction of 5.
const NS_PER_5_BYTES: u64 = 4;
/// Seconds after which a stack has asked for an address again that nobody confirmed: 45 and 5, and a little.
const SETTLED: u32 = 55;
/// Preamble, frame check sequence and gap between frames.
const WIRE_OVERHEAD: usize = 24;

/// One side with its peer and its application, on lines that the runner of another queue does not write.
#[repr(align(128))]
pub struct Runner<S> {
    side: S,
    peer: Peer,
    buffer: Vec<u8>,
    /// The stack's clock, in nanoseconds.
    now: u64,
    /// Nanoseconds that a burst takes on the wire.
    burst_ns: u64,
    /// Bytes that the application has read.
    read: u64,
    /// Times that the window had no room for a burst.
    stalls: u64,
    /// Segments sent until the connection had settled.
    settled: u64,
}

impl<S: Side> Runner<S> {
    /// Opens a connection over which segments of `payload` bytes will come.
    ///
    /// # Panics
    /// If there is none after a second on the stack's clock.
    pub fn connect(side: S, payload: usize, seed: u64) -> Runner<S> {
        let peer = Peer::new(side.peer_port(), payload, seed, side.heard());
        let wire_bytes = (peer.frames().frame_len() + WIRE_OVERHEAD) * BURST;
        let burst_ns = wire_bytes as u64 * NS_PER_5_BYTES / 5;
        let mut runner = Runner {
            side,
            peer,
            buffer: vec![0; BUFFER],
            now: 1_000_000_000,
            burst_ns,
            read: 0,
            stalls: 0,
            settled: 0,
        };
        for frame in runner.peer.opening() {
            runner.side.offer_frame(&frame, runner.now);
            runner.side.poll(runner.now);
        }
        for _ in 0..100 {
            runner.pass(10_000_000);
            if runner.peer.is_established() && runner.side.accept() {
                runner.settle();
                runner.settled = runner.peer.segments();
                return runner;
            }
        }
        panic!("no connection: the peer is {:?}", runner.peer);
    }

    /// A connection is older than a moment in most of its life, and its neighbour's address was confirmed lately: data comes in
    /// until what the handshake proved has expired, and the stack has asked anew. A stack that learns addresses from every
    /// packet does not ask, nor one that another connection has just made ask.
    fn settle(&mut self) {
        let found = self.peer.found();
        for _ in 0..SETTLED {
            self.timed(1);
            self.pass(1_000_000_000);
            if self.peer.found() > found {
                return;
            }
        }
    }

    /// Time passes, and frames that are not data go to and fro.
    fn pass(&mut self, ns: u64) {
        self.now += ns;
        for answer in self.peer.listen() {
            self.side.offer_frame(&answer, self.now);
        }
        self.side.poll(self.now);
    }

    /// One burst, all the way. `check` sees what the application read, and from which offset of the stream on; it says
    /// whether that is right.
    #[inline(always)]
    fn burst(&mut self, check: impl Fn(&Peer, u64, &[u8]) -> bool) {
        self.before_burst();
        self.side.offer(&mut self.peer, BURST, self.now);
        self.after_offer(check);
    }

    #[inline(always)]
    fn before_burst(&mut self) {
        if !self.peer.may_send(BURST) {
            self.wait_for_window();
        }
    }

    #[inline(always)]
    fn after_offer(&mut self, check: impl Fn(&Peer, u64, &[u8]) -> bool) {
        self.side.poll(self.now);
        let expected = BURST * self.peer.frames().payload();
        let mut got = 0;
        while got < expected {
            let n = self.side.recv(&mut self.buffer, self.now);
            assert!(n > 0, "{} of a burst's {expected} bytes were not to be had", expected - got);
            assert!(check(&self.peer, self.read, &self.buffer[..n]), "other bytes than sent, from {} on", self.read);
            got += n;
            self.read += n as u64;
        }
        self.now += self.burst_ns;
    }

    #[cold]
    fn wait_for_window(&mut self) {
        self.stalls += 1;
        for _ in 0..100 {
            self.pass(10_000_000);
            if self.peer.may_send(BURST) {
                return;
            }
        }
        panic!("the window does not open: {:?}", self.peer.heard());
    }

    /// Runs `bursts` bursts; gives the nanoseconds that they took, the peer's work included. Of what the application
    /// read, only the ends of each piece are compared.
    #[inline(never)]
    pub fn timed(&mut self, bursts: usize) -> f64 {
        let start = thread_ns();
        for _ in 0..bursts {
            self.burst(|peer, offset, got| peer.frames().ends_match(offset, got));
        }
        (thread_ns() - start) as f64
    }

    /// Runs `bursts` bursts; gives the nanoseconds of the peer's work for each: writing a burst into the device.
    #[inline(never)]
    pub fn generator(&mut self, bursts: usize, took: &mut Vec<f64>) {
        for _ in 0..bursts {
            self.before_burst();
            let start = Instant::now();
            self.side.offer(&mut self.peer, BURST, self.now);
            took.push(start.elapsed().as_nanos() as f64);
            self.after_offer(|peer, offset, got| peer.frames().ends_match(offset, got));
        }
    }

    /// Runs `bursts` bursts and compares every byte; every frame that the stack sends is verified, too.
    #[inline(never)]
    pub fn checked(&mut self, bursts: usize) {
        self.peer.heard().set_strict(true);
        for _ in 0..bursts {
            self.burst(|peer, offset, got| peer.frames().stream(offset, got.len()) == got);
            for answer in self.peer.listen() {
                self.side.offer_frame(&answer, self.now);
            }
        }
        self.peer.heard().set_strict(false);
    }

    /// Segments sent so far.
    pub fn segments(&self) -> u64 {
        self.peer.segments()
    }

    /// Times that the window had no room for a burst.
    pub fn stalls(&self) -> u64 {
        self.stalls
    }

    /// Bare ACKs so far.
    pub fn acks(&self) -> u64 {
        self.peer.heard().acks()
    }

    /// Ends: a second passes, and everything must have been read and acknowledged. Gives the segments sent since the
    /// connection had settled.
    ///
    /// # Panics
    /// If bytes are missing or not acknowledged.
    pub fn finish(&mut self) -> u64 {
        for _ in 0..100 {
            self.pass(10_000_000);
        }
        assert_eq!(self.side.recv(&mut self.buffer, self.now), 0, "nothing was sent twice");
        assert_eq!(self.read, self.peer.segments() * self.peer.frames().payload() as u64, "all bytes were read");
        assert_eq!(self.peer.in_flight(), 0, "all bytes are acknowledged");
        self.peer.segments() - self.settled
    }
}
