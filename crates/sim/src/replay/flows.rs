//! TCP connections of the capture, followed: the stack's socket stands in for the one that the host had.
//!
//! The stack chooses its own initial sequence number and time stamps, and knows nothing of what the application wrote. So
//! that the segments of the capture make sense to it,
//!
//! * what a segment says of the host's numbers (acknowledgement, SACK blocks, echoed time stamp) is moved by the difference
//!   between the host's numbers and the stack's, which its SYN or SYN-ACK in the capture gives, or else the first
//!   acknowledgement;
//! * the application is stood in for: it accepts and reads at once, and writes, shuts down and aborts when the capture
//!   shows the host sending data, FIN or RST. What the capture lacks is written as zeros when the peer acknowledges it;
//! * an acknowledgement of what the stack could not send yet (its congestion window may be smaller than the host's was) is
//!   capped at what it has sent.
//!
//! What is received, its order, timing and contents, is never changed. Connections whose beginning is not in the capture
//! cannot be followed: their segments end at the look-up, as `FLOW_NOT_FOLLOWED`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use rxpath_core::socket::{Listener, Sock, WriteStep};
use rxpath_core::stack::{RecvError, Stack};
use rxpath_core::tcp::TcpSock;
use rxpath_trace::Time;
use rxpath_wire::{SeqNum, TcpFlags, Tuple};

use super::feed::Opened;
use super::segment::Segment;

/// Connections that are followed at a time; the oldest gives way.
const FLOWS_MAX: usize = 65_536;
/// Bytes in all send buffers together beyond which nothing more is written.
pub(super) const BUFFERED_MAX: u64 = 256 << 20;
/// Bytes that are made up for one acknowledgement at most.
pub(super) const MADE_UP_MAX: u32 = 1 << 20;
/// Bytes that a stand-in may have written and not yet had acknowledged.
const SEND_BUFFER: usize = 4 << 20;
/// Bytes that are read or made up at a time.
const SCRATCH: usize = 1 << 16;
/// What is written where the capture does not show what the host sent.
static ZEROS: [u8; SCRATCH] = [0; SCRATCH];
/// Nanoseconds of a tick of TCP's time stamps.
const TICK: u64 = 1_000_000;
/// Addresses without a listener that are told.
const UNSERVED_MAX: usize = 16;

/// What following did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Connections whose beginning was seen.
    pub begun: u64,
    /// Of those, the ones that the stack established.
    pub established: u64,
    /// Acknowledgements that were capped at what the stack had sent.
    pub capped: u64,
    /// Where the capture shows the host accepting connections and the configuration has no service.
    pub unserved: BTreeSet<SocketAddr>,
}

#[derive(Default)]
struct FollowedFlow {
    /// Sequence number of the peer's or the host's SYN.
    syn: SeqNum,
    /// Whether the host opened it.
    by_host: bool,
    /// The stack's numbers.
    ours: Option<Opened>,
    /// The host's: initial sequence number, and time stamp.
    theirs: Option<(SeqNum, Option<u32>)>,
    sock: Option<Arc<Sock>>,
    /// Next of the host's bytes that the stand-in has not written, in the host's numbers.
    next: SeqNum,
    /// Payload of a full segment towards the host, as far as its SYN told.
    mss: Option<u16>,
    /// Bytes in the stack's send buffer.
    buffered: u64,
    /// The host's FIN was seen.
    fin: bool,
    established: bool,
}

/// All connections that are followed.
pub(super) struct Flows {
    stack: Stack,
    listeners: Vec<Arc<Listener>>,
    flows: HashMap<Tuple, FollowedFlow>,
    order: VecDeque<Tuple>,
    scratch: Vec<u8>,
    /// Sum of what is in all send buffers.
    pub(super) buffered: u64,
    pub(super) followed: Followed,
}

impl Flows {
    pub(super) fn new(stack: &Stack, listeners: Vec<Arc<Listener>>) -> Flows {
        Flows {
            stack: stack.clone(),
            listeners,
            flows: HashMap::new(),
            order: VecDeque::new(),
            scratch: vec![0; SCRATCH],
            buffered: 0,
            followed: Followed::default(),
        }
    }

    /// Payload of a full segment of this connection, if it is known.
    pub(super) fn mss(&self, segment: &Segment) -> Option<u16> {
        self.flows.get(&segment.tuple)?.mss
    }

    /// Makes a segment that the host received fit the stack's numbers.
    pub(super) fn receive(&mut self, frame: &mut [u8], segment: &Segment, whole_checksum: bool, now: Time) {
        if segment.flags.syn() && !segment.flags.ack() {
            return self.begin(segment.tuple, segment.seq, false, now);
        }
        let Some(flow) = self.flows.get_mut(&segment.tuple) else { return };
        if !segment.flags.ack() {
            return;
        }
        let Some(ours) = flow.ours else { return };
        let echo = segment.timestamps.map(|(_, echo)| echo);
        let (isn, tsval) = *flow.theirs.get_or_insert_with(|| {
            flow.next = segment.ack;
            (segment.ack - 1, echo)
        });
        if self.buffered < BUFFERED_MAX {
            catch_up(&self.stack, flow, segment.ack, now);
        }
        let moved = ours.isn - isn;
        let wanted = segment.ack + moved.cast_unsigned();
        let sent = flow.sock.as_ref().map_or(ours.isn + 1, |sock| {
            let mut snd_nxt = ours.isn + 1;
            self.stack.with(sock, 0, now, |sk| snd_nxt = sk.tx.snd_nxt);
            snd_nxt
        });
        let ack = if wanted.after(sent) { sent } else { wanted };
        self.followed.capped += u64::from(ack != wanted);
        let echo = echo.map(|echo| move_echo(echo, tsval, &ours, now));
        segment.readdress(frame, ack, echo, whole_checksum);
    }

    /// What the stack opened.
    pub(super) fn opened(&mut self, opened: impl IntoIterator<Item = Opened>) {
        for opened in opened {
            if let Some(flow) = self.flows.get_mut(&opened.tuple) {
                flow.ours = Some(opened);
            }
        }
    }

    /// The stand-in's turn, after the stack has taken a segment: accepts and reads.
    pub(super) fn read(&mut self, tuple: &Tuple, now: Time) {
        let Some(flow) = self.flows.get(tuple) else { return };
        if flow.sock.is_none() && flow.ours.is_some() && !flow.established {
            self.accept(now);
        }
        let Some(flow) = self.flows.get_mut(tuple) else { return };
        let Some(sock) = flow.sock.clone() else { return };
        loop {
            match self.stack.recv(&sock, &mut self.scratch, false, now) {
                Ok(0) if flow.fin => {
                    self.stack.close(&sock, now);
                    flow.sock = None;
                }
                Ok(0) | Err(RecvError::Empty(_)) => {}
                Ok(_) => continue,
                Err(_) => flow.sock = None,
            }
            break;
        }
        if flow.buffered > 0 || flow.sock.is_some() {
            flow.settle(&self.stack, &mut self.buffered, now);
        }
    }

    fn accept(&mut self, now: Time) {
        for listener in &self.listeners {
            while let Some(sock) = self.stack.accept(listener) {
                self.stack.with(&sock, 0, now, stand_in);
                match self.flows.get_mut(&sock.tuple) {
                    Some(flow) => {
                        flow.established = true;
                        flow.sock = Some(sock);
                        self.followed.established += 1;
                    }
                    None => self.stack.abort(&sock, now),
                }
            }
        }
    }

    /// A segment that the host sent, by `local` of the reversed tuple: the stand-in does what made the host send it.
    pub(super) fn send(&mut self, frame: &[u8], segment: &Segment, now: Time) {
        let tuple = segment.tuple.reversed();
        let theirs = (segment.seq, segment.timestamps.map(|(tsval, _)| tsval));
        if segment.flags.syn() && !segment.flags.ack() {
            self.begin(tuple, segment.seq, true, now);
            if let Some(flow) = self.flows.get_mut(&tuple) {
                flow.host_opened(segment, theirs);
            }
            return;
        }
        let Some(flow) = self.flows.get_mut(&tuple) else { return };
        if segment.flags.syn() {
            flow.host_opened(segment, theirs);
            let local = tuple.local_socket();
            let served = self.listeners.iter().any(|listener| {
                listener.port == tuple.local_port && (listener.addr.is_unspecified() || listener.addr == tuple.local)
            });
            if !served && self.followed.unserved.len() < UNSERVED_MAX {
                self.followed.unserved.insert(local);
            }
            return;
        }
        if flow.theirs.is_none() {
            return;
        }
        if segment.flags.contains(TcpFlags::RST) {
            if let Some(sock) = flow.sock.take() {
                self.stack.abort(&sock, now);
            }
            return flow.settle(&self.stack, &mut self.buffered, now);
        }
        if self.buffered < BUFFERED_MAX && segment.payload > 0 {
            write(&self.stack, flow, segment.seq, segment.payload, segment.bytes(frame), now);
            flow.settle(&self.stack, &mut self.buffered, now);
        }
        let end = segment.seq + segment.payload;
        if segment.flags.fin() && !flow.fin && !flow.next.after(end) {
            flow.fin = true;
            if let Some(sock) = &flow.sock {
                self.stack.shutdown_write(sock, now);
            }
            if flow.next == end {
                flow.next = end + 1;
            }
        }
    }

    /// A connection begins, or its SYN came again.
    fn begin(&mut self, tuple: Tuple, syn: SeqNum, by_host: bool, now: Time) {
        let again = |flow: &FollowedFlow| flow.syn == syn && flow.by_host == by_host;
        // A SYN inside a connection that lives begins none: the stack judges it.
        let lives = |flow: &FollowedFlow| flow.sock.is_some() && !flow.fin;
        if self.flows.get(&tuple).is_some_and(|flow| again(flow) || lives(flow)) {
            return;
        }
        let mut flow = FollowedFlow { syn, by_host, ..FollowedFlow::default() };
        if by_host {
            // Without a route, or with the port in use, the host could not have done it: it is not followed.
            let Ok(sock) = self.stack.connect_from(Some(tuple.local_port), tuple.remote_socket(), now) else { return };
            self.stack.with(&sock, 0, now, stand_in);
            if sock.tuple != tuple {
                self.stack.abort(&sock, now);
                return;
            }
            flow.sock = Some(sock);
            flow.established = true;
            self.followed.established += 1;
        }
        self.followed.begun += 1;
        match self.flows.insert(tuple, flow) {
            Some(before) => self.let_go(before, now),
            None => self.order.push_back(tuple),
        }
        if self.flows.len() > FLOWS_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(flow) = self.flows.remove(&oldest)
        {
            self.let_go(flow, now);
        }
    }

    fn let_go(&mut self, mut flow: FollowedFlow, now: Time) {
        if let Some(sock) = flow.sock.take() {
            self.stack.abort(&sock, now);
        }
        flow.settle(&self.stack, &mut self.buffered, now);
    }
}

impl FollowedFlow {
    /// The host's SYN or SYN-ACK was seen, perhaps again.
    fn host_opened(&mut self, syn: &Segment, theirs: (SeqNum, Option<u32>)) {
        if self.theirs.is_some_and(|(isn, _)| isn == theirs.0) {
            return;
        }
        self.theirs = Some(theirs);
        self.next = syn.seq + 1;
        self.mss = full_segment(syn);
    }

    /// Brings the sum of what is in send buffers up to date.
    fn settle(&mut self, stack: &Stack, sum: &mut u64, now: Time) {
        let mut buffered = 0;
        if let Some(sock) = &self.sock {
            stack.with(sock, 0, now, |sk| buffered = sk.tx.buffer.len() as u64);
        }
        *sum = *sum + buffered - self.buffered;
        self.buffered = buffered;
    }
}

/// What the host sent is sent at once: the capture shows when, so that neither Nagle nor a small buffer may hold it.
fn stand_in(sk: &mut TcpSock) {
    sk.tx.sndbuf = SEND_BUFFER;
    sk.set_nodelay(true);
}

/// The host must have sent what its peer acknowledges: what the capture did not show of it is written now.
fn catch_up(stack: &Stack, flow: &mut FollowedFlow, ack: SeqNum, now: Time) {
    // A FIN is acknowledged by one more.
    let end = if flow.fin { ack - 1 } else { ack };
    if end.after(flow.next) {
        let (next, missing) = (flow.next, (end - flow.next).cast_unsigned());
        write(stack, flow, next, missing.min(MADE_UP_MAX), &[], now);
    }
}

/// Writes what the host sent, `len` bytes from `seq` on, of which `bytes` are known, as far as it is new.
fn write(stack: &Stack, flow: &mut FollowedFlow, seq: SeqNum, len: u32, bytes: &[u8], now: Time) {
    let Some(sock) = flow.sock.clone() else { return };
    let end = seq + len;
    while end.after(flow.next) {
        let left = (end - flow.next).cast_unsigned() as usize;
        let offset = usize::try_from(flow.next - seq).ok();
        let known = offset.and_then(|offset| bytes.get(offset..)).filter(|known| !known.is_empty());
        // Up to where the known bytes begin, and behind where they end, there are zeros.
        let gap = usize::try_from(seq - flow.next).ok().filter(|gap| *gap > 0).unwrap_or(left);
        let piece = known.unwrap_or(&ZEROS[..gap.min(left).min(SCRATCH)]);
        match stack.send(&sock, piece, false, now) {
            WriteStep::Taken(taken @ 1..) => flow.next += taken as u32,
            _ => return,
        }
    }
}

/// The time stamp that the stack would have had echoed: as much later than its SYN's as the host's was than its own. Not
/// later than the stack's clock, whose ticks may begin a little after the host's.
fn move_echo(echo: u32, tsval: Option<u32>, ours: &Opened, now: Time) -> u32 {
    let (Some(theirs), Some(first)) = (tsval, ours.tsval) else { return echo };
    let since = echo.wrapping_sub(theirs).cast_signed();
    let latest = ((now - ours.at) / TICK) as i64;
    first.wrapping_add_signed(i64::from(since).min(latest) as i32)
}

/// Payload of a full segment towards whoever sent this SYN.
fn full_segment(syn: &Segment) -> Option<u16> {
    let options = if syn.timestamps.is_some() { 12 } else { 0 };
    syn.mss.map(|mss| mss.saturating_sub(options).max(1))
}
