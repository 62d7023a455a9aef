//! The transition table: every state by every class of segments, as it happens. `docs/tcp-states.md` is written from here.
//!
//! A cell is a fresh stack that is brought into the state by frames and calls, and one segment: sixteen combinations of
//! FIN, SYN, RST and ACK, in six places of the sequence space, with the acknowledgements that are worth telling apart,
//! with data and without; then the same places with a timestamp of the past. Cells of one outcome are told together.

mod page;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rxpath_mem::PoolConfig;
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Group, Selector, TcpState, Time, lives};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions};

use super::lab::{ACK, FIN_ACK, Lab, PEER, Peer, SYN, SYN_ACK, Sent};
use crate::socket::{Listener, Sock};

/// Payload of a segment with data.
const DATA: &[u8; 8] = b"01234567";
/// Port that is listened on, unless the state is that nobody listens.
const PORT: u16 = 80;
/// Connections of one stack: the ports of the peer from the first on, and ours where we open.
const FIRST_PORTS: (u16, u16) = (40_000, 2_000);
/// What the peer's clock says now, and what it said in the past.
const STAMPS: [u32; 2] = [5_000, 4_000];

/// Where a cell begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    Closed,
    Listen,
    NewSynRecv,
    SynSent,
    SynRecv,
    Established,
    FinWait1,
    FinWait1Orphan,
    FinWait2,
    FinWait2Mini,
    Closing,
    TimeWait,
    CloseWait,
    LastAck,
}

const STARTS: [Start; 14] = [
    Start::Closed,
    Start::Listen,
    Start::NewSynRecv,
    Start::SynSent,
    Start::SynRecv,
    Start::Established,
    Start::FinWait1,
    Start::FinWait1Orphan,
    Start::FinWait2,
    Start::FinWait2Mini,
    Start::Closing,
    Start::TimeWait,
    Start::CloseWait,
    Start::LastAck,
];

/// Where a segment lies: without data, and with eight bytes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// All of it was received before.
    Below,
    /// It begins before `rcv_nxt`: one before, or data that reaches behind it.
    Across,
    /// At `rcv_nxt`.
    Next,
    /// Behind that, in the window.
    Window,
    /// At the right edge; data begins two before it and reaches beyond.
    Edge,
    /// Beyond the window.
    Beyond,
}

const PLACES: [Place; 6] = [Place::Below, Place::Across, Place::Next, Place::Window, Place::Edge, Place::Beyond];

/// What a segment acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Acks {
    /// Everything that was sent.
    Nxt,
    /// Nothing of what is in flight.
    Una,
    /// Less than was acknowledged before.
    Old,
    /// Less than any window ago.
    Ancient,
    /// What was never sent.
    Future,
}

const ACKS: [Acks; 5] = [Acks::Nxt, Acks::Una, Acks::Old, Acks::Ancient, Acks::Future];

/// One segment, before its numbers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    flags: u8,
    place: Place,
    data: bool,
    acks: Acks,
    /// Its timestamp is of the past.
    stale: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Outcome {
    state: String,
    sent: String,
    end: String,
    counters: String,
}

/// Numbers of the connection before the segment.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    una: SeqNum,
    nxt: SeqNum,
    rcv_nxt: SeqNum,
    wnd: u32,
    /// The peer's numbers are not known yet.
    unsynchronised: bool,
}

/// A stack on which connections are brought into a state, one after the other.
struct Stage {
    lab: Lab,
    start: Start,
    listener: Option<Arc<Listener>>,
    connections: u16,
}

/// A connection in the state.
struct Scene {
    peer: Peer,
    sock: Option<Arc<Sock>>,
    numbers: Numbers,
}

impl Start {
    fn name(self) -> &'static str {
        match self {
            Start::Closed => "CLOSED",
            Start::Listen => "LISTEN",
            Start::NewSynRecv => "NEW-SYN-RECV",
            Start::SynSent => "SYN-SENT",
            Start::SynRecv => "SYN-RECV",
            Start::Established => "ESTABLISHED",
            Start::FinWait1 => "FIN-WAIT-1",
            Start::FinWait1Orphan => "FIN-WAIT-1, orphaned",
            Start::FinWait2 => "FIN-WAIT-2",
            Start::FinWait2Mini => "FIN-WAIT-2, orphaned: a mini-socket",
            Start::Closing => "CLOSING",
            Start::TimeWait => "TIME-WAIT",
            Start::CloseWait => "CLOSE-WAIT",
            Start::LastAck => "LAST-ACK",
        }
    }

    /// What is there when the segment comes.
    fn about(self) -> &'static str {
        match self {
            Start::Closed => "Nobody listens.",
            Start::Listen => "A listener with room.",
            Start::NewSynRecv => "A request: the peer's SYN was answered.",
            Start::SynSent => "Our SYN is out.",
            Start::SynRecv => "Simultaneous open: our SYN and the peer's crossed, and our SYN-ACK is out.",
            Start::Established => "A hundred bytes of ours are in flight; nothing waits to be read.",
            Start::FinWait1 => "The application has ended writing; our FIN is in flight. It still reads.",
            Start::FinWait1Orphan => "The application has closed the socket; our FIN is in flight.",
            Start::FinWait2 => "The application has ended writing, and our FIN was acknowledged. It still reads.",
            Start::FinWait2Mini => "The application has closed the socket, and our FIN was acknowledged.",
            Start::Closing => "Both FINs crossed; ours is in flight.",
            Start::TimeWait => "Our FIN was acknowledged, and then the peer's came.",
            Start::CloseWait => "The peer's FIN came; a hundred bytes of ours are in flight.",
            Start::LastAck => "The peer's FIN came, and ours is in flight.",
        }
    }

    /// States in which timestamps were agreed on.
    fn knows_timestamps(self) -> bool {
        !matches!(self, Start::Closed | Start::Listen | Start::SynSent)
    }
}

impl Stage {
    fn new(start: Start) -> Stage {
        let mut lab = Lab::with(|config| {
            config.lives = Selector::All;
            config.life_capacity = 1_024;
            config.pool = PoolConfig { slots: 512, head_slots: 512, large_slots: 8, reserve: 16 };
        });
        let listener = (start != Start::Closed).then(|| lab.listen(PORT, 512));
        Stage { lab, start, listener, connections: 0 }
    }

    /// One more connection.
    fn scene(&mut self) -> Scene {
        let Stage { lab, start, listener, connections } = self;
        while lab.raw().is_some() {}
        let mut peer = Peer::new(FIRST_PORTS.0 + *connections, PORT);
        let local_port = FIRST_PORTS.1 + *connections;
        *connections += 1;
        (peer.stamps, peer.sack) = (Some((STAMPS[0], 0)), true);
        let mut numbers = Numbers {
            una: SeqNum(900_000),
            nxt: SeqNum(900_000),
            rcv_nxt: peer.seq,
            wnd: 10_000,
            unsynchronised: true,
        };
        let sock = match start {
            Start::Closed | Start::Listen => None,
            Start::NewSynRecv => {
                lab.segment(opening(&peer, SYN), &[]);
                let answer = lab.expect(SYN_ACK);
                peer.note(&answer);
                let (nxt, wnd) = (answer.seq + 1, u32::from(answer.window));
                numbers = Numbers { una: nxt, nxt, rcv_nxt: peer.seq + 1, wnd, unsynchronised: false };
                None
            }
            Start::SynSent | Start::SynRecv => Some(start.open_ours(lab, &mut peer, local_port, &mut numbers)),
            _ => {
                let listener = listener.as_ref().expect("a listener");
                Some(start.open_theirs(lab, &mut peer, listener, &mut numbers))
            }
        };
        lab.now += 1_000;
        Scene { peer, sock, numbers }
    }
}

impl Start {
    fn open_ours(self, lab: &mut Lab, peer: &mut Peer, local_port: u16, numbers: &mut Numbers) -> Arc<Sock> {
        let remote = SocketAddr::new(IpAddr::V4(PEER), peer.sport);
        peer.dport = local_port;
        let sock = lab.stack.connect_from(Some(local_port), remote, lab.now).expect("a route");
        lab.run();
        let syn = lab.expect(SYN);
        peer.note(&syn);
        (numbers.una, numbers.nxt) = (syn.seq, syn.seq + 1);
        if self == Start::SynRecv {
            lab.segment(opening(peer, SYN), &[]);
            let crossed = lab.expect(SYN_ACK);
            peer.note(&crossed);
            *numbers = known(&sock);
        }
        sock
    }

    fn open_theirs(self, lab: &mut Lab, peer: &mut Peer, listener: &Arc<Listener>, numbers: &mut Numbers) -> Arc<Sock> {
        let sock = peer.connect(lab, listener);
        if matches!(self, Start::CloseWait | Start::LastAck) {
            lab.segment(peer.repr(FIN_ACK), &[]);
            peer.seq += 1;
            lab.wait(300);
        }
        match self {
            Start::Established | Start::CloseWait => {
                lab.send(&sock, &[7; 100]);
            }
            Start::FinWait1 | Start::FinWait2 | Start::Closing | Start::TimeWait => {
                lab.stack.shutdown_write(&sock, lab.now);
                lab.run();
            }
            _ => lab.close(&sock),
        }
        *numbers = known(&sock);
        peer.ack = numbers.nxt;
        while let Some(sent) = lab.sent() {
            peer.note(&sent);
        }
        if matches!(self, Start::FinWait2 | Start::FinWait2Mini | Start::TimeWait) {
            lab.segment(peer.repr(ACK), &[]);
            numbers.una = numbers.nxt;
        }
        if matches!(self, Start::Closing | Start::TimeWait) {
            if self == Start::Closing {
                peer.ack = numbers.una;
            }
            lab.segment(peer.repr(FIN_ACK), &[]);
            peer.seq += 1;
            numbers.rcv_nxt += 1;
            numbers.wnd -= 1;
            while let Some(sent) = lab.sent() {
                peer.note(&sent);
                numbers.wnd = u32::from(sent.window) << 10;
            }
        }
        sock
    }
}

/// The numbers of a full socket.
fn known(sock: &Sock) -> Numbers {
    let sk = sock.lock.user();
    Numbers {
        una: sk.tx.snd_una,
        nxt: sk.tx.snd_nxt,
        rcv_nxt: sk.rx.rcv_nxt,
        wnd: sk.rx.offered(),
        unsynchronised: false,
    }
}

/// A segment with the options of a handshake.
fn opening(peer: &Peer, flags: TcpFlags) -> rxpath_wire::TcpRepr {
    let mut repr = peer.repr(flags);
    repr.options = TcpOptions {
        mss: Some(1_460),
        wscale: Some(7),
        timestamps: peer.stamps,
        sack_permitted: true,
        ..TcpOptions::default()
    };
    repr
}

impl Numbers {
    fn seq(&self, class: &Class) -> SeqNum {
        let Numbers { rcv_nxt, wnd, .. } = *self;
        match (class.place, class.data) {
            (Place::Below, _) => rcv_nxt - 50,
            (Place::Across, false) => rcv_nxt - 1,
            (Place::Across, true) => rcv_nxt - 3,
            (Place::Next, _) => rcv_nxt,
            (Place::Window, _) => rcv_nxt + 100,
            (Place::Edge, false) => rcv_nxt + wnd,
            (Place::Edge, true) => rcv_nxt + wnd - 2,
            (Place::Beyond, _) => rcv_nxt + wnd + 500,
        }
    }

    fn ack(&self, acks: Acks) -> SeqNum {
        match acks {
            Acks::Nxt => self.nxt,
            Acks::Una => self.una,
            Acks::Old => self.una - 1,
            Acks::Ancient => self.una - 1_000_000,
            Acks::Future => self.nxt + 100,
        }
    }
}

/// Every class of segments with these flags; `flying` if something of ours is in flight.
fn classes(start: Start, flags: u8, flying: bool) -> Vec<Class> {
    let mut classes = Vec::new();
    for stale in [false, true] {
        for place in PLACES {
            for data in [false, true] {
                for acks in ACKS {
                    // What a segment without ACK says is not looked at, and a timestamp of the past is judged before.
                    let told = acks == Acks::Nxt || (flags & ACK.0 != 0 && !stale);
                    if told && (acks != Acks::Una || flying) && (!stale || start.knows_timestamps()) {
                        classes.push(Class { flags, place, data, acks, stale });
                    }
                }
            }
        }
    }
    classes
}

/// The combination of FIN, SYN, RST and ACK with this number.
fn flags_of(number: u8) -> u8 {
    let bit = |index: u8, flag: TcpFlags| if number >> index & 1 == 1 { flag.0 } else { 0 };
    bit(0, ACK) | bit(1, TcpFlags::FIN) | bit(2, SYN) | bit(3, TcpFlags::RST)
}

/// One cell; `more` are flags beyond those of the class.
fn happens(stage: &mut Stage, class: &Class, more: u8) -> Outcome {
    let Scene { mut peer, sock, numbers } = stage.scene();
    let Stage { lab, start, listener, .. } = stage;
    while lab.raw().is_some() {}
    lab.stack.take_events();
    let before = (lab.stack.snapshot(), row(lab, peer.sport));
    let flags = TcpFlags(class.flags | more);
    if let Some((tsval, _)) = &mut peer.stamps {
        *tsval = STAMPS[usize::from(class.stale)];
    }
    (peer.seq, peer.ack) = (numbers.seq(class), numbers.ack(class.acks));
    let repr = if flags.syn() { opening(&peer, flags) } else { peer.repr(flags) };
    lab.segment(repr, if class.data { DATA } else { &[] });
    let seg_end = peer.seq + if class.data { 8 } else { 0 } + u32::from(flags.syn()) + u32::from(flags.fin());
    let mut sent: Vec<String> = Vec::new();
    while let Some(segment) = lab.sent() {
        sent.push(tell_sent(&segment, &numbers, &peer, seg_end));
    }
    // What a request became is accepted.
    let sock = sock.or_else(|| listener.as_ref().and_then(|listener| lab.stack.accept(listener)));
    let later = sock.as_ref().is_some_and(|sock| sock.lock.user().timers.delack != Time::MAX);
    if later && sent.is_empty() {
        sent.push("ACK later".to_owned());
    }
    let after = row(lab, peer.sport);
    let outcome = Outcome {
        state: tell_state(*start, &before.1, &after, sock.as_deref()),
        sent: if sent.is_empty() { "—".to_owned() } else { sent.join(", ") },
        end: tell_end(lab),
        counters: tell_counters(lab, &before.0),
    };
    if let Some(sock) = sock {
        lab.stack.abort(&sock, lab.now);
        lab.run();
    }
    outcome
}

/// What the connection is, if there is one: its state, and whether it is a full socket.
fn row(lab: &Lab, port: u16) -> Option<(TcpState, bool)> {
    let rows = lab.stack.sockets(lab.now);
    let found = rows.iter().find(|view| view.row.remote.port() == port);
    found.map(|view| (view.row.state, view.mem.is_some()))
}

fn tell_state(
    start: Start,
    before: &Option<(TcpState, bool)>,
    after: &Option<(TcpState, bool)>,
    sock: Option<&Sock>,
) -> String {
    let error = sock.and_then(|sock| sock.lock.user().user.error);
    let mut text = match after {
        _ if before == after => "stays".to_owned(),
        None if start == Start::Listen => "LISTEN".to_owned(),
        None => "CLOSED".to_owned(),
        Some((state, full)) => {
            let name = format!("{state:?}");
            let mini = if !full && *state == TcpState::FinWait2 { " (mini)" } else { "" };
            format!("{}{mini}", page::kernel_name(&name))
        }
    };
    if let Some(error) = error {
        let _ = write!(text, " ({error:?})");
    }
    text
}

/// `seg`: the numbers of the segment that is answered.
fn tell_sent(sent: &Sent, numbers: &Numbers, seg: &Peer, seg_end: SeqNum) -> String {
    let Numbers { una, nxt, rcv_nxt, .. } = *numbers;
    let bare_rst = sent.flags.rst() && !sent.flags.ack();
    let seq = match sent.seq {
        seq if bare_rst && seq == seg.ack => "seg.ack",
        seq if seq == nxt => "snd_nxt",
        seq if seq == una => "snd_una",
        seq if sent.flags.syn() && seq + 1 == una => "iss",
        SeqNum(0) => "0",
        _ => "new",
    };
    let mut text = format!("{} seq {seq}", page::flag_names(sent.flags.0));
    if sent.flags.ack() {
        let ack = match sent.ack {
            ack if ack == seg.seq + 1 && (sent.flags.syn() || numbers.unsynchronised) => "seg.seq+1".to_owned(),
            ack if ack == rcv_nxt => "rcv_nxt".to_owned(),
            ack if ack == seg_end => "seg.end".to_owned(),
            ack => format!("rcv_nxt{:+}", ack - rcv_nxt),
        };
        let _ = write!(text, " ack {ack}");
    }
    let blocks = sent.options.sack_blocks();
    if !blocks.is_empty() {
        let twice = blocks[0].1.at_or_before(sent.ack);
        text.push_str(if twice { " D-SACK" } else { " SACK" });
    }
    if !sent.payload.is_empty() {
        text.push_str(" data");
    }
    text
}

/// How the segment ended: the life that began with a frame.
fn tell_end(lab: &Lab) -> String {
    let lives = lives::group(lab.stack.take_events());
    let life = lives.iter().find(|life| life.events[0].kind == EventKind::Offered).expect("the segment's life");
    let last = life.events.last().expect("an event");
    if life.status() == lives::Status::Unfinished {
        let waits = |kind| life.events.iter().any(|event| event.kind == kind);
        return if waits(EventKind::Queued) { "queued".to_owned() } else { "waits out of order".to_owned() };
    }
    match last.kind {
        EventKind::Dropped => DropReason::from_number(last.a).map_or("?", DropReason::name).to_owned(),
        EventKind::Consumed => {
            let how = Consumed::ALL.into_iter().find(|how| *how as u32 == last.a);
            format!("taken ({})", how.map_or_else(String::new, |how| format!("{how:?}")))
        }
        kind => format!("{kind:?}"),
    }
}

/// Counters of TCP that moved, beyond segments that came and left.
fn tell_counters(lab: &Lab, before: &rxpath_trace::Snapshot) -> String {
    let moved = lab.stack.snapshot().diff(before);
    let told = |counter: Counter| {
        matches!(counter.group(), Group::Tcp | Group::TcpExt)
            && !matches!(counter, Counter::TcpInSegs | Counter::TcpOutSegs | Counter::TcpOutRsts)
    };
    let names: Vec<&str> =
        moved.nonzero().filter(|(counter, _)| told(*counter)).map(|(counter, _)| counter.name()).collect();
    if names.is_empty() { "—".to_owned() } else { names.join(", ") }
}

/// All cells of a state. A stack for each combination of flags: they cost more than the connections.
fn cells(start: Start) -> BTreeMap<Class, Outcome> {
    let mut cells = BTreeMap::new();
    for flags in (0..16).map(flags_of) {
        let mut stage = Stage::new(start);
        let numbers = stage.scene().numbers;
        for class in classes(start, flags, numbers.una != numbers.nxt) {
            cells.insert(class, happens(&mut stage, &class, 0));
        }
    }
    cells
}

#[test]
fn the_page_of_states_is_what_happens() {
    let tables = std::thread::scope(|scope| {
        let running = STARTS.map(|start| scope.spawn(move || (start, cells(start))));
        running.map(|thread| thread.join().expect("every cell ends"))
    });
    page::check(&page::page(&tables));
}

#[test]
fn every_start_is_where_it_says() {
    for start in STARTS {
        let mut stage = Stage::new(start);
        let port = stage.scene().peer.sport;
        let state = row(&stage.lab, port).map(|(state, _)| page::kernel_name(&format!("{state:?}")));
        let expected = match start {
            Start::Closed | Start::Listen => None,
            _ => Some(start.name().split(',').next().expect("a name").to_owned()),
        };
        assert_eq!(state, expected, "{start:?}");
    }
}

#[test]
fn psh_and_urg_change_no_state() {
    for start in STARTS {
        let mut stage = Stage::new(start);
        for flags in (0..16).map(flags_of) {
            let class = Class { flags, place: Place::Next, data: true, acks: Acks::Nxt, stale: false };
            let plain = happens(&mut stage, &class, 0);
            for more in [TcpFlags::PSH.0, TcpFlags::URG.0, TcpFlags::PSH.0 | TcpFlags::URG.0] {
                let with = happens(&mut stage, &class, more);
                let seen = |outcome: &Outcome| (outcome.state.clone(), outcome.end.clone());
                assert_eq!(seen(&with), seen(&plain), "{start:?} {class:?} with {more:#x}");
            }
        }
    }
}
