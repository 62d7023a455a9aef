//! One side of a connection: writes a stream, reads the other's in its own time, and ends as it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rxpath_core::cx::Rng;
use rxpath_core::socket::{Payload, Sock, WriteStep};
use rxpath_core::stack::{RecvError, Stack};
use rxpath_core::tcp::{self, Keepalive, SockError, State};
use rxpath_sim::simulation::Simulation;
use rxpath_trace::Time;

use super::stream::{Progress, Stream};

/// Most bytes of one write.
const WRITE: usize = 8_192;

/// How a side ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Ends writing when all is written, reads to the end, closes.
    Orderly,
    /// Reads to the end first, and writes then: a half-closed connection carries data.
    Answer,
    /// Closes as soon as all is written: nothing will come that it would read.
    Early,
    /// Aborts when so many bytes were written and read.
    Abort(usize),
}

/// What a side does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub ending: Ending,
    /// The connection may end in an error: somebody aborts it, or nobody listens.
    pub may_fail: bool,
    /// Bytes of a read, at most.
    pub gulp: usize,
    /// Pause between reads.
    pub pause: Duration,
    /// Urgent bytes are read in their place.
    pub inline: bool,
    /// Reads look first, or take without a look, now and then.
    pub flags: bool,
    /// Writes lend their memory, but for one in four.
    pub lends: bool,
}

/// A side at work.
pub struct Side {
    pub stack: usize,
    pub sock: Arc<Sock>,
    pub plan: Plan,
    outgoing: Stream,
    incoming: Progress,
    written: usize,
    shut: bool,
    eof: bool,
    pub closed: bool,
    /// Why it ended before its end.
    pub error: Option<SockError>,
    next_read: Time,
    rng: Rng,
    /// By its number, of each call that lent its memory and was not told of: where in the stream it ends, and the memory.
    lent: BTreeMap<u32, (u64, Weak<[u8]>)>,
    /// Calls that lent memory.
    calls: u32,
}

impl Side {
    pub fn new(sim: &Simulation, stack: usize, sock: Arc<Sock>, plan: Plan, streams: [Stream; 2], rng: Rng) -> Side {
        let [outgoing, incoming] = streams;
        let core = sim.stack(stack);
        let keepalive = Keepalive { idle_s: Some(20), interval_s: Some(5), probes: Some(3) };
        let sysctl = &core.config().sysctl;
        core.with(&sock, rxpath_core::socket::post::PUSH, sim.now(), |sk| {
            sk.rx.urgent.inline = plan.inline;
            sk.user.zerocopy = plan.lends;
            if plan.may_fail {
                // A reset that is lost on its way leaves a reader who waits for nobody: he asks.
                sk.set_keepalive(Some(keepalive), sysctl, sim.now()).expect("within the ranges");
            }
        });
        Side {
            stack,
            sock,
            incoming: Progress::new(incoming, plan.inline),
            plan,
            outgoing,
            written: 0,
            shut: false,
            eof: false,
            closed: false,
            error: None,
            next_read: Time::ZERO,
            rng,
            lent: BTreeMap::new(),
            calls: 0,
        }
    }

    /// Makes all the calls that are due; gives when the next read is.
    pub fn act(&mut self, sim: &Simulation) -> Option<Time> {
        let (stack, now) = (sim.stack(self.stack), sim.now());
        if self.closed || self.aborts(stack, now) {
            return None;
        }
        self.read_notices(stack, now);
        let outcome = self.write(stack, now).and_then(|()| self.read(stack, now));
        if let Err(error) = outcome {
            assert!(self.plan.may_fail, "{error:?} at {now}: {}", self.tell());
            self.error = Some(error);
            self.close(stack, now);
            return None;
        }
        let done = self.shut && self.eof || self.plan.ending == Ending::Early && self.written == self.outgoing.len;
        if !self.aborts(stack, now) && done {
            self.close(stack, now);
        }
        (!self.eof && !self.closed).then_some(self.next_read).filter(|&at| at > now)
    }

    /// Aborts, if it is to and has come so far.
    fn aborts(&mut self, stack: &Stack, now: Time) -> bool {
        let aborts = matches!(self.plan.ending, Ending::Abort(after) if self.written + self.incoming.at >= after);
        if aborts && !self.closed {
            self.closed = true;
            stack.abort(&self.sock, now);
        }
        aborts
    }

    fn close(&mut self, stack: &Stack, now: Time) {
        self.closed = true;
        stack.close(&self.sock, now);
    }

    fn write(&mut self, stack: &Stack, now: Time) -> Result<(), SockError> {
        if self.plan.ending == Ending::Answer && !self.eof {
            return Ok(());
        }
        while self.written < self.outgoing.len {
            let (chunk, urgent) = self.outgoing.chunk(self.written, WRITE);
            let lends = self.plan.lends && !urgent && !self.written.is_multiple_of(4);
            let step = match urgent {
                true => stack.send_urgent(&self.sock, &chunk, false, now),
                false if lends => self.lend(stack, &chunk, now),
                false => stack.send(&self.sock, &chunk, false, now),
            };
            match step {
                WriteStep::Taken(0) | WriteStep::Full(_) | WriteStep::NoBuffers => break,
                WriteStep::Taken(count) => self.written += count,
                WriteStep::Error(error) => return Err(error),
                WriteStep::Closed => return Err(SockError::BrokenPipe),
            }
        }
        // Before it is connected that would give the attempt up.
        let is_connected = self.sock.lock.user().state != State::SynSent;
        if self.written == self.outgoing.len && !self.shut && self.plan.ending != Ending::Early && is_connected {
            stack.shutdown_write(&self.sock, now);
            self.shut = true;
        }
        Ok(())
    }

    fn lend(&mut self, stack: &Stack, chunk: &[u8], now: Time) -> WriteStep {
        let memory: Arc<[u8]> = chunk.into();
        let lent = Arc::downgrade(&memory);
        let step =
            stack.send_zerocopy(&self.sock, &mut None, &Payload::new(memory), tcp::Ending::default(), false, now);
        if let WriteStep::Taken(count @ 1..) = step {
            self.lent.insert(self.calls, ((self.written + count) as u64, lent));
            self.calls += 1;
        }
        step
    }

    /// Reads notices: of each call once, and not before the peer has acknowledged it or the connection is over. The memory is
    /// nobody's then. A copy that was sent first and is still on its way makes a notice come after those of later calls.
    pub fn read_notices(&mut self, stack: &Stack, now: Time) {
        while let Some(notice) = stack.recv_notice(&self.sock, now) {
            assert!(!notice.copied, "{}", self.tell());
            let (acked, over) = stack.with(&self.sock, 0, now, |sk| (sk.tx.bytes_acked, sk.state == State::Close));
            for call in notice.first..=notice.last {
                let Some((end, memory)) = self.lent.remove(&call) else { panic!("told of twice: {}", self.tell()) };
                assert!(over || acked >= end, "told before it was acknowledged: {}", self.tell());
                assert_eq!(memory.strong_count(), 0, "somebody refers to it: {}", self.tell());
            }
        }
    }

    /// Calls that were not told of.
    pub fn untold(&self) -> usize {
        self.lent.len()
    }

    fn read(&mut self, stack: &Stack, now: Time) -> Result<(), SockError> {
        if self.incoming.has_urgent()
            && let Ok(byte) = stack.recv_urgent(&self.sock, self.rng.below(2) == 0, now)
        {
            self.incoming.urgent(byte);
        }
        while !self.eof && self.next_read <= now {
            match self.read_once(stack, now) {
                Ok(0) => {
                    self.incoming.end();
                    self.eof = true;
                }
                Ok(_) => self.next_read = now + self.plan.pause.as_nanos() as u64,
                Err(RecvError::Empty(_)) => return Ok(()),
                Err(RecvError::Failed(error)) => return Err(error),
                Err(RecvError::NotConnected) => return Err(SockError::Aborted),
                Err(RecvError::Down) => panic!("the stack is up"),
            }
        }
        // Who answers has waited for this.
        if self.eof && self.plan.ending == Ending::Answer { self.write(stack, now) } else { Ok(()) }
    }

    fn read_once(&mut self, stack: &Stack, now: Time) -> Result<usize, RecvError> {
        let mut buf = vec![0; self.plan.gulp];
        let flagged = self.plan.flags && !self.incoming.has_urgent();
        if flagged && self.rng.below(4) == 0 {
            let count = stack.discard(&self.sock, self.plan.gulp, false, now)?;
            self.incoming.skip(count);
            return Ok(count);
        }
        if flagged && self.rng.below(3) == 0 {
            let mut seen = vec![0; self.plan.gulp];
            let ahead = stack.peek(&self.sock, &mut seen, false, now)?;
            let count = stack.recv(&self.sock, &mut buf, false, now)?;
            assert_eq!(buf[..count], seen[..ahead], "what was seen is what is read");
            self.incoming.read(&buf[..count]);
            return Ok(count);
        }
        let count = stack.recv(&self.sock, &mut buf, false, now)?;
        self.incoming.read(&buf[..count]);
        Ok(count)
    }

    /// Where it stands, for who looks at a run that does not end.
    pub fn tell(&self) -> String {
        let Side { stack, plan, written, shut, eof, closed, error, .. } = self;
        let sk = self.sock.lock.user();
        format!(
            "stack {stack} {:?}: wrote {written} of {} (shut {shut}), read {} of {} (eof {eof}), closed {closed}, {error:?}, {plan:?}\n\
             \u{20} snd una {} nxt {} write {} wnd {} in flight {}; rcv nxt {} wup {} wnd {} queue {} ofo empty {}; {:?}",
            sk.state,
            self.outgoing.len,
            self.incoming.at,
            self.incoming.len(),
            sk.tx.snd_una.0,
            sk.tx.snd_nxt.0,
            sk.tx.write_seq.0,
            sk.tx.snd_wnd,
            sk.tx.segments.len(),
            sk.rx.rcv_nxt.0,
            sk.rx.rcv_wup.0,
            sk.rx.rcv_wnd,
            sk.rx.queue.len(),
            sk.rx.ofo.is_empty(),
            sk.timers,
        )
    }
}
