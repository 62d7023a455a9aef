//! What TCP does with a segment can be read in its life: frames on the wire, lives read.

use rxpath_trace::lives::{self, Census, Status};
use rxpath_trace::{
    AckWhy, DropReason, Event, EventKind, Filter, Life, LookupKind, OutputWhat, PacketId, Selector, SlowWhy, TcpState,
};
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, Peer, SYN};
use crate::stack::StackConfig;

/// A lab that records lives.
fn recording(change: impl FnOnce(&mut StackConfig)) -> Lab {
    Lab::with(|config| {
        config.lives = Selector::All;
        config.life_capacity = 16_384;
        change(config);
    })
}

/// The lives recorded since the last call.
fn lives_of(lab: &Lab) -> Vec<Life> {
    lives::group(lab.stack.take_events())
}

/// The lives that a filter chooses, as `rxpath life --filter` does.
fn chosen<'a>(lives: &'a [Life], filter: &str) -> Vec<&'a Life> {
    let filter: Filter = filter.parse().expect("a filter");
    lives.iter().filter(|life| filter.matches(&life.flow())).collect()
}

/// The one life that a filter chooses.
#[track_caller]
fn the_one(lives: &[Life], filter: &str) -> Life {
    let chosen = chosen(lives, filter);
    assert_eq!(chosen.len(), 1, "{}", lives.iter().map(Life::story).collect::<String>());
    chosen[0].clone()
}

/// The events of a life from its socket on.
fn from_the_socket(life: &Life) -> Vec<EventKind> {
    let kinds: Vec<EventKind> = life.events.iter().map(|event| event.kind).collect();
    let found = kinds.iter().position(|&kind| kind == EventKind::LookupHit).expect("a socket");
    kinds[found + 1..].to_vec()
}

#[track_caller]
fn event(life: &Life, kind: EventKind) -> Event {
    let found = life.events.iter().find(|event| event.kind == kind);
    *found.unwrap_or_else(|| panic!("{kind:?} is missing: {}", life.story()))
}

#[test]
fn data_that_wakes_a_reader_and_is_acknowledged_at_once() {
    let mut lab = recording(|_| {});
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, b"first");
    lab.recv(&sock, 100).expect("the first data");
    lives_of(&lab);
    assert!(lab.stack.recv(&sock, &mut [0; 100], true, lab.now).is_err(), "nothing yet: the reader is registered");
    peer.data(&mut lab, b"hello");
    lab.now += 3_000;
    lab.recv(&sock, 100).expect("the data");
    let all = lives_of(&lab);

    let life = the_one(&all, "src port 40000 and dst port 80 and flags psh+ack and src 10.0.0.2");
    use EventKind::*;
    assert_eq!(from_the_socket(&life), [SlowPath, Queued, Woken, AckNow, Recv]);
    assert_eq!(event(&life, SlowPath).a, SlowWhy::Memory as u32, "the read had given all pages back");
    let ack = event(&life, AckNow);
    assert_eq!((ack.a, ack.b), (peer.seq.0, AckWhy::Quick as u32));
    let (woken, recv) = (event(&life, Woken), event(&life, Recv));
    assert_eq!((woken.a, woken.b), (5, 1));
    assert_eq!((recv.a, recv.b, recv.at), (5, 2, lab.now), "the second read of the socket took it");

    let answer = the_one(&all, "src port 80 and dst port 40000");
    assert_eq!((answer.id, answer.status()), (ack.other, Status::Finished));
    let made = event(&answer, OutputMade);
    assert_eq!((made.a, made.other), (OutputWhat::TcpAck as u32, life.id), "the ACK names what it answers");
    assert!(life.story().contains(&format!("at once (quick-ACK mode), in {}", answer.id)), "{}", life.story());
}

#[test]
fn data_whose_ack_waits_and_that_is_read_in_parts() {
    let mut lab = recording(|_| {});
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, b"first");
    lab.recv(&sock, 100).expect("the first data");
    sock.lock.user().ack.pingpong = true;
    lives_of(&lab);
    peer.data(&mut lab, b"hello");
    lab.recv(&sock, 2).expect("a part");
    lab.recv(&sock, 2).expect("a part");
    lab.recv(&sock, 2).expect("the rest");
    let life = the_one(&lives_of(&lab), "tcp and src 10.0.0.2");
    use EventKind::*;
    assert_eq!(from_the_socket(&life), [SlowPath, Queued, Woken, AckDelayed, RecvPart, RecvPart, Recv]);
    let reads: Vec<(u32, u32)> = life.events.iter().rev().take(3).rev().map(|event| (event.a, event.b)).collect();
    assert_eq!(reads, [(2, 2), (2, 3), (1, 4)]);
    assert_eq!(event(&life, Woken).b, 0, "nobody waits");
    assert!((40..=48).contains(&event(&life, AckDelayed).a), "{}", life.story());
    let at = |kind| event(&life, kind).cpu;
    assert_eq!(at(Recv), at(Queued), "the reader's events belong to the Cpu of the flow");
    // The delayed ACK goes out on its own.
    lab.wait(300);
    let late = the_one(&lives_of(&lab), "src port 80");
    assert_eq!(event(&late, OutputMade).other, PacketId::NONE, "a timer made it, no packet");
}

#[test]
fn bytes_joined_to_an_earlier_packet_follow_it() {
    let mut lab = recording(|_| {});
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, &[1; 100]);
    peer.data(&mut lab, &[2; 100]);
    lab.recv(&sock, 300).expect("both");
    let all = lives_of(&lab);
    let data = chosen(&all, "flags psh+ack and src 10.0.0.2");
    let [first, second] = data[..] else { panic!("two segments of data, not {}", data.len()) };
    let joined = event(second, EventKind::Coalesced);
    assert_eq!((joined.other, joined.a), (first.id, 100));
    assert_eq!(event(first, EventKind::Recv).a, 200, "the packet that they were joined to is read whole");
    use EventKind::*;
    let kinds = from_the_socket(second);
    assert_eq!(kinds, [FastPath, Coalesced, AckNow, Woken], "what follows is told behind the end");
    assert_eq!(second.status(), Status::Finished);
}

#[test]
fn data_out_of_order_and_what_fills_the_hole() {
    let mut lab = recording(|_| {});
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, b"first");
    lab.recv(&sock, 100).expect("the first data");
    sock.lock.user().ack.pingpong = true;
    lives_of(&lab);
    peer.data_at(&mut lab, 3, b"lo");
    peer.data(&mut lab, b"hel");
    peer.seq += 2;
    lab.recv(&sock, 100).expect("both");
    let all = lives_of(&lab);
    use EventKind::*;
    let early = the_one(&all, "flags ack and not flags psh and src 10.0.0.2");
    assert_eq!(from_the_socket(&early)[..3], [SlowPath, OutOfOrder, AckNow]);
    assert_eq!(event(&early, SlowPath).a, SlowWhy::Sequence as u32);
    assert_eq!(event(&early, AckNow).b, AckWhy::OutOfOrder as u32);
    assert!(early.events.iter().any(|event| event.kind == OfoDrained), "{}", early.story());
    let filling = the_one(&all, "flags psh and src 10.0.0.2");
    assert_eq!(event(&filling, SlowPath).a, SlowWhy::Disabled as u32, "{}", filling.story());
    assert_eq!(event(&filling, AckNow).b, AckWhy::HoleFilled as u32);
}

#[test]
fn a_segment_that_waits_for_the_owner_tells_what_it_did_then() {
    let mut lab = recording(|_| {});
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    peer.data(&mut lab, b"first");
    lab.recv(&sock, 100).expect("the first data");
    lives_of(&lab);
    let owned = sock.lock.user();
    peer.data(&mut lab, b"owned");
    assert!(owned.release(), "a segment waits");
    peer.data(&mut lab, b"later");
    lab.recv(&sock, 100).expect("both");
    let all = lives_of(&lab);
    let data = chosen(&all, "src 10.0.0.2 and flags psh");
    let [waited, came] = data[..] else { panic!("two segments, not {}", data.len()) };
    use EventKind::*;
    assert_eq!(from_the_socket(waited)[..5], [SocketBacklog, SocketBacklogTaken, SlowPath, Queued, Woken]);
    assert_eq!(from_the_socket(came)[..2], [FastPath, Coalesced], "its own events are its own: {}", came.story());
    let answered: Vec<PacketId> = data.iter().map(|life| event(life, AckNow).other).collect();
    let made: Vec<PacketId> = answered
        .iter()
        .map(|id| event(all.iter().find(|life| life.id == *id).expect("its ACK"), OutputMade).other)
        .collect();
    assert_eq!(made, [waited.id, came.id]);
}

#[test]
fn a_reset_that_answers_is_named() {
    let mut lab = recording(|_| {});
    let mut peer = Peer::new(40_000, 81);
    lab.segment(peer.repr(SYN), &[]);
    peer.ack.0 = 4_711;
    lab.segment(peer.repr(ACK), b"stray");
    let all = lives_of(&lab);
    let syn = the_one(&all, "dst port 81 and flags syn");
    let sent = event(&syn, EventKind::RstSent);
    assert_eq!((sent.a, sent.b), (0, peer.seq.0 + 1));
    let rst = the_one(&all, "src port 81 and flags rst+ack");
    assert_eq!((rst.id, event(&rst, EventKind::OutputMade).other), (sent.other, syn.id));
    assert!(syn.story().contains(" DROPPED tcp_v4_rcv: NO_SOCKET, "), "{}", syn.story());
    let stray = the_one(&all, "dst port 81 and flags ack and not flags syn");
    let sent = event(&stray, EventKind::RstSent);
    assert_eq!((sent.a, sent.b), (4_711, 0));
}

/// The states between which a life says that its socket changed.
fn changes(life: &Life) -> Vec<(TcpState, TcpState)> {
    let state = |number| TcpState::from_number(number).expect("a state");
    let of = |event: &Event| (event.kind == EventKind::StateChange).then(|| (state(event.a), state(event.b)));
    life.events.iter().filter_map(of).collect()
}

#[test]
fn states_change_in_the_lives_of_the_segments_that_change_them() {
    let mut lab = recording(|_| {});
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let all = lives_of(&lab);
    let syn = the_one(&all, "src 10.0.0.2 and flags syn");
    assert_eq!(event(&syn, EventKind::LookupHit).a, LookupKind::Listener as u32);
    assert_eq!(event(&the_one(&all, "flags syn+ack"), EventKind::OutputMade).other, syn.id);
    let third = the_one(&all, "tcp and src 10.0.0.2 and not flags syn");
    assert_eq!(changes(&third), [(TcpState::SynRecv, TcpState::Established)]);
    assert_eq!(event(&third, EventKind::AckTaken).a, 1, "our SYN");

    lab.close(&sock);
    peer.ack += 1;
    lives_of(&lab);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(changes(&the_one(&lives_of(&lab), "src 10.0.0.2")), [(TcpState::FinWait1, TcpState::FinWait2)]);
    lab.segment(peer.repr(FIN_ACK), &[]);
    let all = lives_of(&lab);
    let fin = the_one(&all, "src 10.0.0.2 and flags fin");
    assert_eq!(changes(&fin).last(), Some(&(TcpState::FinWait2, TcpState::TimeWait)), "{}", fin.story());
    let ack = event(&fin, EventKind::AckNow);
    assert_eq!(ack.other, the_one(&all, "src 10.0.0.1").id);
    lab.segment(peer.repr(FIN_ACK), &[]);
    let again = the_one(&lives_of(&lab), "src 10.0.0.2");
    assert_eq!(event(&again, EventKind::AckNow).b, AckWhy::TimeWait as u32);
}

#[test]
fn a_fin_of_the_peer_wakes_the_reader() {
    let mut lab = recording(|_| {});
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    assert!(lab.stack.recv(&sock, &mut [0; 9], true, lab.now).is_err());
    lives_of(&lab);
    lab.segment(peer.repr(FIN_ACK), &[]);
    let fin = the_one(&lives_of(&lab), "src 10.0.0.2");
    assert_eq!(changes(&fin), [(TcpState::Established, TcpState::CloseWait)]);
    let woken: Vec<(u32, u32)> =
        fin.events.iter().filter(|event| event.kind == EventKind::Woken).map(|event| (event.a, event.b)).collect();
    assert_eq!(woken, [(0, 1)], "once, with nothing to read but the end");
    peer.seq += 1;
    // A challenge is told by whose it is: a SYN inside the connection.
    let mut syn = peer.repr(SYN);
    syn.seq = peer.seq;
    lab.segment(syn, &[]);
    let syn = the_one(&lives_of(&lab), "src 10.0.0.2");
    assert_eq!(event(&syn, EventKind::AckNow).b, AckWhy::Challenge as u32);
    assert!(syn.story().contains(" DROPPED tcp_validate_incoming: TCP_INVALID_SYN, "), "{}", syn.story());
}

#[test]
fn an_acknowledgement_of_ours_is_told_and_what_it_lets_go() {
    let mut lab = recording(|_| {});
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.send(&sock, &[7; 100]);
    lab.send(&sock, &[8; 50]);
    lives_of(&lab);
    peer.ack += 100;
    lab.segment(peer.repr(ACK), &[]);
    let all = lives_of(&lab);
    let ack = the_one(&all, "src 10.0.0.2");
    assert_eq!((event(&ack, EventKind::AckTaken).a, event(&ack, EventKind::AckTaken).b), (100, 64_240 << 7));
    let data = the_one(&all, "src 10.0.0.1");
    let made = event(&data, EventKind::OutputMade);
    assert_eq!((made.a, made.other), (OutputWhat::TcpData as u32, ack.id), "Nagle's algorithm had held it back");
}

#[test]
fn a_segment_that_never_reaches_its_socket_has_ports_too() {
    let mut lab = recording(|config| config.interfaces[0].gro = true);
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lives_of(&lab);
    let frames: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let frame = lab.frame(peer.repr(ACK), &[5; 64]);
            peer.seq += 64;
            frame
        })
        .collect();
    let mut bad = lab.frame(peer.repr(ACK), &[5; 64]);
    bad[34 + 16] ^= 1;
    for frame in frames.iter().chain([&bad]) {
        lab.put(frame);
    }
    lab.run();
    assert_eq!(lab.recv(&sock, 1_000).expect("the data").len(), 192);
    let all = lives_of(&lab);
    let segments = chosen(&all, "src 10.0.0.2 and src port 40000 and dst port 80 and flags ack and tcp");
    let ends: Vec<EventKind> = segments.iter().map(|life| life.end().expect("an end").kind).collect();
    use EventKind::*;
    assert_eq!(ends, [Recv, GroMerged, GroMerged, Dropped], "three segments in one packet, and the bad one");
    assert_eq!(event(segments[3], Dropped).a, DropReason::TcpCsum as u32);
    assert_eq!(event(segments[1], GroMerged).other, segments[0].id);
    assert_eq!(event(segments[0], SlowPath).b, 192);
}

#[test]
fn what_is_not_recorded_leaves_no_trace_in_what_is() {
    let mut lab = recording(|config| config.lives = "src port 40000".parse().expect("a filter"));
    let listener = lab.listen(80, 8);
    let mut told = Peer::new(40_000, 80);
    let mut silent = Peer::new(40_001, 80);
    let (one, other) = (told.connect(&mut lab, &listener), silent.connect(&mut lab, &listener));
    for _ in 0..4 {
        // One burst with both flows, so that what is done for one could be told of the other.
        let frames = [lab.frame(told.repr(ACK), b"loud"), lab.frame(silent.repr(ACK), b"hush")];
        frames.iter().for_each(|frame| lab.put(frame));
        lab.run();
        told.seq += 4;
        silent.seq += 4;
    }
    lab.segment(silent.repr(FIN_ACK), &[]);
    lab.recv(&one, 100).expect("data");
    lab.recv(&other, 100).expect("data");
    let all = lives_of(&lab);
    assert_eq!(all.len(), 2 + 4, "handshake and data of one flow, and nothing else");
    assert_eq!(Census::of(&all).finished, 6);
    for life in &all {
        assert_eq!(life.flow().sport, 40_000, "{}", life.story());
        for event in &life.events {
            let of_the_silent = event.kind == EventKind::Woken && event.a > 16;
            assert!(!of_the_silent, "{}", life.story());
        }
        assert!(changes(life).iter().all(|&(_, to)| to != TcpState::CloseWait), "{}", life.story());
    }
}

#[test]
fn a_drop_before_the_transport_is_told_in_the_right_function() {
    let mut lab = recording(|_| {});
    let peer = Peer::new(40_000, 80);
    let good = lab.frame(peer.repr(TcpFlags::SYN), &[]);
    let mut version = good.clone();
    version[14] = 0x65;
    lab.put(&version);
    lab.run();
    let all = lives_of(&lab);
    let frame = all.iter().find(|life| life.id.count() == 2).expect("the frame behind the peer's ARP request");
    assert!(frame.story().contains(" DROPPED ip_rcv_core: IP_INHDR, "), "{}", frame.story());
}
