//! Signatures of RFC 2385, as Linux 6.18 handles them.

use std::net::SocketAddr;
use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions, TcpRepr};

use super::lab::{ACK, FIN_ACK, Lab, PEER, PSH_ACK, Peer, SYN, SYN_ACK};
use super::signing::{expect_md5, is_md5, md5_frame, md5_segment};
use crate::socket::{Listener, Sock, post};
use crate::tcp::{AuthKeys, KeyError, Md5Key, Peers, Secret, SockOptions, State};

const KEY: &[u8] = b"secret";
const RST: TcpFlags = TcpFlags::RST;
const RST_ACK: TcpFlags = TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0);

fn key_for(octets: [u8; 4], prefix: u8, secret: &[u8]) -> Md5Key {
    let peers = Peers::network(octets, prefix).expect("a network");
    Md5Key { peers, secret: Secret::new(secret).expect("a secret") }
}

fn key() -> Md5Key {
    key_for(PEER.octets(), 32, KEY)
}

fn listen(lab: &mut Lab, port: u16) -> Arc<Listener> {
    let listener = lab.listen(port, 8);
    listener.auth.change(|keys| keys.add_md5(key())).expect("a key");
    listener
}

fn syn(peer: &Peer) -> TcpRepr {
    let mut syn = peer.repr(SYN);
    syn.options = TcpOptions {
        mss: Some(1_460),
        wscale: Some(7),
        timestamps: peer.stamps,
        sack_permitted: peer.sack,
        ..TcpOptions::default()
    };
    syn
}

/// A signed connection to a listener.
fn connect(lab: &mut Lab, listener: &Arc<Listener>, peer: &mut Peer) -> Arc<Sock> {
    md5_segment(lab, syn(peer), &[], KEY);
    let answer = expect_md5(lab, SYN_ACK, KEY);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    if answer.options.timestamps.is_none() {
        peer.stamps = None;
    }
    md5_segment(lab, peer.repr(ACK), &[], KEY);
    lab.stack.accept(listener).expect("the handshake is complete")
}

fn data(lab: &mut Lab, peer: &mut Peer, payload: &[u8]) {
    md5_segment(lab, peer.repr(PSH_ACK), payload, KEY);
    peer.seq += payload.len() as u32;
}

fn counts(lab: &Lab) -> [u64; 3] {
    [Counter::TcpExtTCPMD5NotFound, Counter::TcpExtTCPMD5Unexpected, Counter::TcpExtTCPMD5Failure]
        .map(|counter| lab.count(counter))
}

#[test]
fn a_listener_takes_from_a_peer_what_is_signed_with_its_key() {
    let mut lab = Lab::new();
    let listener = listen(&mut lab, 80);
    let peer = Peer::new(40_000, 80);
    lab.segment(syn(&peer), &[]);
    md5_segment(&mut lab, syn(&peer), &[], b"another");
    lab.expect_nothing();
    assert_eq!(counts(&lab), [1, 0, 1]);
    listener.auth.change(|keys| keys.remove_md5(key().peers)).expect("there was one");
    listener.auth.change(|keys| keys.add_md5(key_for([10, 0, 0, 3], 32, KEY))).expect("for somebody else");
    md5_segment(&mut lab, syn(&peer), &[], KEY);
    lab.expect_nothing();
    assert_eq!(counts(&lab), [1, 1, 1]);
    lab.segment(syn(&peer), &[]);
    lab.expect(SYN_ACK);
    let reasons = [DropReason::TcpMd5notfound, DropReason::TcpMd5unexpected, DropReason::TcpMd5failure];
    assert_eq!(reasons.map(|reason| lab.dropped(reason)), [1, 1, 1]);
}

#[test]
fn a_signed_connection_carries_data_both_ways_and_closes() {
    let mut lab = Lab::new();
    let listener = listen(&mut lab, 80);
    let mut peer = Peer::new(40_000, 80);
    peer.sack = true;
    let sock = connect(&mut lab, &listener, &mut peer);
    let predicted = lab.count(Counter::TcpExtTCPHPHits);
    for _ in 0..3 {
        data(&mut lab, &mut peer, b"hello");
        assert_eq!(expect_md5(&mut lab, ACK, KEY).ack, peer.seq);
    }
    assert_eq!(lab.recv(&sock, 100).expect("data"), b"hellohellohello");
    assert_eq!(lab.count(Counter::TcpExtTCPHPHits), predicted, "nothing that is signed is predicted");
    lab.send(&sock, &[7; 3_000]);
    let sent: Vec<_> = [ACK, ACK, PSH_ACK].map(|flags| expect_md5(&mut lab, flags, KEY).payload.len()).to_vec();
    assert_eq!(sent, [1_440, 1_440, 120], "the signature takes its share");
    peer.ack += 3_000;
    md5_segment(&mut lab, peer.repr(ACK), &[], KEY);
    lab.close(&sock);
    assert_eq!(expect_md5(&mut lab, FIN_ACK, KEY).seq, peer.ack);
    peer.ack += 1;
    md5_segment(&mut lab, peer.repr(FIN_ACK), &[], KEY);
    peer.seq += 1;
    assert_eq!(expect_md5(&mut lab, ACK, KEY).ack, peer.seq, "the mini-socket signs");
    // It asks for no signature, as in Linux.
    lab.segment(peer.repr(PSH_ACK), b"late");
    assert_eq!(expect_md5(&mut lab, ACK, KEY).ack, peer.seq);
    assert_eq!(counts(&lab), [0, 0, 0]);
}

#[test]
fn options_are_squeezed_as_linux_squeezes_them() {
    let mut lab = Lab::new();
    let listener = listen(&mut lab, 80);
    let mut answer = |stamps: Option<(u32, u32)>, sack| {
        let mut peer = Peer::new(if sack { 40_000 } else { 40_001 }, 80);
        (peer.stamps, peer.sack) = (stamps, sack);
        md5_segment(&mut lab, syn(&peer), &[], KEY);
        let answer = expect_md5(&mut lab, SYN_ACK, KEY);
        (answer.window, answer.options.timestamps.is_some(), answer.options.sack_permitted, answer.options.mss)
    };
    assert_eq!(answer(Some((77, 0)), false), (65_160, true, false, Some(1_460)));
    assert_eq!(answer(Some((77, 0)), true), (65_160, false, true, Some(1_460)), "SACK goes before timestamps");
    let mut peer = Peer::new(40_002, 80);
    peer.sack = true;
    let sock = connect(&mut lab, &listener, &mut peer);
    for hole in 1..=3 {
        let mut repr = peer.repr(ACK);
        repr.seq += 100 * hole;
        md5_segment(&mut lab, repr, &[1; 10], KEY);
        let blocks = expect_md5(&mut lab, ACK, KEY).options.sack_count;
        assert_eq!(blocks, hole.min(2) as u8, "two blocks fit");
    }
    lab.send(&sock, &[7; 1_421]);
    assert_eq!(expect_md5(&mut lab, ACK, KEY).payload.len(), 1_420, "they take their share");
}

#[test]
fn a_cookie_keeps_timestamps_and_the_connection_its_key() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_syncookies = 2);
    let listener = listen(&mut lab, 80);
    let mut peer = Peer::new(40_000, 80);
    (peer.stamps, peer.sack) = (Some((77, 0)), true);
    md5_segment(&mut lab, syn(&peer), &[], KEY);
    let answer = expect_md5(&mut lab, SYN_ACK, KEY);
    assert!(answer.options.timestamps.is_some() && answer.options.sack_permitted);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    peer.note(&answer);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!((counts(&lab), lab.count(Counter::TcpExtSyncookiesRecv)), ([1, 0, 0], 0));
    md5_segment(&mut lab, peer.repr(ACK), &[], KEY);
    assert_eq!(lab.count(Counter::TcpExtSyncookiesRecv), 1);
    let sock = lab.stack.accept(&listener).expect("a connection");
    data(&mut lab, &mut peer, b"signed");
    expect_md5(&mut lab, ACK, KEY);
    assert_eq!(lab.recv(&sock, 10).expect("data"), b"signed");
}

#[test]
fn what_answers_a_half_open_connection_is_signed() {
    let mut lab = Lab::new();
    let _listener = listen(&mut lab, 80);
    let mut peer = Peer::new(40_000, 80);
    md5_segment(&mut lab, syn(&peer), &[], KEY);
    let answer = expect_md5(&mut lab, SYN_ACK, KEY);
    md5_segment(&mut lab, syn(&peer), &[], KEY);
    assert_eq!(expect_md5(&mut lab, SYN_ACK, KEY).seq, answer.seq, "again");
    lab.wait(1_010);
    expect_md5(&mut lab, SYN_ACK, KEY);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    let mut far = peer.repr(ACK);
    far.seq += 900_000;
    md5_segment(&mut lab, far, b"x", KEY);
    expect_md5(&mut lab, ACK, KEY);
    let mut wrong = peer.repr(ACK);
    wrong.ack += 99;
    md5_segment(&mut lab, wrong, &[], KEY);
    assert_eq!(expect_md5(&mut lab, RST, KEY).seq, wrong.ack);
    lab.segment(peer.repr(ACK), &[]);
    md5_segment(&mut lab, peer.repr(ACK), &[], b"another");
    lab.expect_nothing();
    assert_eq!(counts(&lab), [1, 0, 1]);
}

#[test]
fn a_reset_is_signed_by_a_listener_with_the_key_or_does_not_go() {
    let mut lab = Lab::new();
    let _listener = listen(&mut lab, 80);
    let stray = |sport, dport| TcpRepr { ack: SeqNum(77), ..Peer::new(sport, dport).repr(ACK) };
    md5_segment(&mut lab, stray(40_000, 80), &[], KEY);
    assert_eq!(expect_md5(&mut lab, RST, KEY).seq, SeqNum(77), "that on the port itself");
    md5_segment(&mut lab, stray(80, 81), &[], KEY);
    assert_eq!(expect_md5(&mut lab, RST, KEY).seq, SeqNum(77), "or that on the port that the peer uses");
    md5_segment(&mut lab, Peer::new(80, 81).repr(SYN), &[], KEY);
    assert_eq!(expect_md5(&mut lab, RST_ACK, KEY).ack, SeqNum(1_001));
    md5_segment(&mut lab, stray(80, 81), &[], b"another");
    md5_segment(&mut lab, stray(40_000, 81), &[], KEY);
    lab.expect_nothing();
    lab.segment(stray(40_000, 81), &[]);
    lab.expect(RST);
    assert_eq!(counts(&lab), [0, 0, 0], "nobody asked for a signature");
}

#[test]
fn an_active_open_signs_its_syn_and_wants_a_signed_answer() {
    let mut lab = Lab::new();
    let mut keys = AuthKeys::new();
    keys.add_md5(key()).expect("a key");
    let remote = SocketAddr::from((PEER, 90));
    let sock = lab.stack.connect_signed(Some(5_000), remote, &SockOptions::default(), &keys, lab.now).expect("a way");
    lab.run();
    let syn = expect_md5(&mut lab, SYN, KEY);
    let options = TcpOptions { mss: Some(1_460), sack_permitted: true, wscale: Some(10), ..TcpOptions::default() };
    assert_eq!((syn.options, syn.window), (options, 64_240));
    let mut peer = Peer::new(90, 5_000);
    (peer.seq, peer.ack) = (SeqNum(500), syn.seq + 1);
    let answer = TcpRepr { options, ..peer.repr(SYN_ACK) };
    lab.segment(answer, &[]);
    lab.segment(peer.repr(RST_ACK), &[]);
    md5_segment(&mut lab, answer, &[], b"another");
    assert_eq!((lab.state(&sock), counts(&lab)), (State::SynSent, [2, 0, 1]));
    md5_segment(&mut lab, TcpRepr { ack: syn.seq + 5, ..answer }, &[], KEY);
    assert_eq!(expect_md5(&mut lab, RST, KEY).seq, syn.seq + 5);
    md5_segment(&mut lab, answer, &[], KEY);
    peer.seq += 1;
    assert_eq!(expect_md5(&mut lab, ACK, KEY).ack, peer.seq);
    assert_eq!(lab.state(&sock), State::Established);
    lab.stack.abort(&sock, lab.now);
    lab.run();
    expect_md5(&mut lab, RST_ACK, KEY);
}

#[test]
fn crossed_syns_are_signed_too() {
    let mut lab = Lab::new();
    let mut keys = AuthKeys::new();
    keys.add_md5(key()).expect("a key");
    let remote = SocketAddr::from((PEER, 90));
    let sock = lab.stack.connect_signed(Some(5_000), remote, &SockOptions::default(), &keys, lab.now).expect("a way");
    lab.run();
    let ours = expect_md5(&mut lab, SYN, KEY);
    let mut peer = Peer::new(90, 5_000);
    md5_segment(&mut lab, syn(&peer), &[], KEY);
    expect_md5(&mut lab, SYN_ACK, KEY);
    peer.ack = ours.seq + 1;
    md5_segment(&mut lab, peer.repr(SYN_ACK), &[], KEY);
    expect_md5(&mut lab, ACK, KEY);
    assert_eq!(lab.state(&sock), State::Established);
}

#[test]
fn keys_of_a_connection_that_stands_come_and_go() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let change = |lab: &Lab, change: &dyn Fn(&mut crate::tcp::TcpSock) -> Result<(), KeyError>| {
        lab.stack.change_keys(&sock, lab.now, change)
    };
    md5_segment(&mut lab, peer.repr(PSH_ACK), b"unasked", KEY);
    assert_eq!(counts(&lab), [0, 1, 0]);
    change(&lab, &|sk| sk.add_md5_key(key())).expect("a key");
    lab.segment(peer.repr(PSH_ACK), b"unsigned");
    assert_eq!(counts(&lab), [1, 1, 0]);
    data(&mut lab, &mut peer, b"signed");
    assert_eq!(expect_md5(&mut lab, ACK, KEY).ack, peer.seq);
    change(&lab, &|sk| sk.add_md5_key(key_for(PEER.octets(), 32, b"new"))).expect("in its place");
    lab.send(&sock, b"x");
    expect_md5(&mut lab, PSH_ACK, b"new");
    peer.ack += 1;
    md5_segment(&mut lab, peer.repr(ACK), &[], KEY);
    assert_eq!(counts(&lab), [1, 1, 1]);
    change(&lab, &|sk| sk.add_md5_key(key_for([10, 0, 0, 0], 8, b"wide"))).expect("of less weight");
    assert_eq!(change(&lab, &|sk| sk.remove_md5_key(key_for([10, 0, 0, 0], 9, b"x").peers)), Err(KeyError::NotFound));
    change(&lab, &|sk| sk.remove_md5_key(key().peers)).expect("it was there");
    md5_segment(&mut lab, peer.repr(PSH_ACK), b"wide", b"wide");
    peer.seq += 4;
    lab.wait(300);
    assert_eq!(expect_md5(&mut lab, ACK, b"wide").ack, peer.seq);
    change(&lab, &|sk| sk.remove_md5_key(key_for([10, 0, 0, 0], 8, b"x").peers)).expect("it was there");
    peer.data(&mut lab, b"unsigned");
    lab.wait(300);
    assert_eq!(lab.expect(ACK).ack, peer.seq);
    assert_eq!(counts(&lab), [1, 1, 1]);
}

#[test]
fn a_listeners_key_that_goes_stays_with_its_connections() {
    let mut lab = Lab::new();
    let listener = listen(&mut lab, 80);
    let mut peer = Peer::new(40_000, 80);
    let _sock = connect(&mut lab, &listener, &mut peer);
    listener.auth.change(|keys| keys.remove_md5(key().peers)).expect("there was one");
    data(&mut lab, &mut peer, b"signed");
    expect_md5(&mut lab, ACK, KEY);
    assert_eq!(counts(&lab), [0, 0, 0]);
}

#[test]
fn every_segment_has_its_own_signature_whatever_the_device_could_cut() {
    let mut lab = Lab::offloading();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let mut syn = peer.repr(SYN);
    syn.options.mss = Some(1_460);
    lab.segment(syn, &[]);
    let answer = lab.expect(SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("a connection");
    lab.stack.change_keys(&sock, lab.now, |sk| sk.add_md5_key(key())).expect("a key");
    lab.send(&sock, &[7; 10_000]);
    let frames: Vec<_> = std::iter::from_fn(|| lab.raw()).collect();
    assert_eq!(
        frames.iter().map(|frame| frame.len() - 74).collect::<Vec<_>>(),
        [[1_440; 6].as_slice(), &[1_360]].concat()
    );
    assert!(frames.iter().all(|frame| is_md5(frame, KEY)));
    // None was acknowledged: the first is sent again by itself.
    lab.wait(300);
    let again = lab.raw().expect("a retransmission");
    assert_eq!((again.len(), is_md5(&again, KEY)), (74 + 1_440, true));
}

#[test]
fn short_ways_are_shut_for_signed_connections() {
    for gro in [true, false] {
        let mut lab = Lab::with(|config| config.interfaces[0].gro = gro);
        let listener = listen(&mut lab, 80);
        let mut peer = Peer::new(40_000, 80);
        let sock = connect(&mut lab, &listener, &mut peer);
        data(&mut lab, &mut peer, &[1; 100]);
        expect_md5(&mut lab, ACK, KEY);
        let (signed, plain) = (peer.seq, peer.seq);
        let frame = |lab: &mut Lab, at: SeqNum| {
            let repr = TcpRepr { seq: at, ..peer.repr(ACK) };
            lab.frame(repr, &[2; 100])
        };
        let frames: Vec<_> = (0..8).map(|at| frame(&mut lab, plain + 100 * at)).collect();
        frames.iter().for_each(|frame| lab.put(frame));
        lab.run();
        lab.expect_nothing();
        let merged = if gro { 1 } else { 8 };
        assert_eq!(counts(&lab), [merged, 0, 0]);
        let frames: Vec<_> = (0..8)
            .map(|at| {
                let repr = TcpRepr { seq: signed + 100 * at, ..peer.repr(ACK) };
                md5_frame(&mut lab, repr, &[3; 100], KEY)
            })
            .collect();
        frames.iter().for_each(|frame| lab.put(frame));
        lab.run();
        assert_eq!(lab.recv(&sock, 2_000).expect("data"), [[1; 100].as_slice(), &[3; 800]].concat());
        assert_eq!(counts(&lab), [merged, 0, 0]);
        while let Some((_, frame)) = lab.sent_as_frame() {
            assert!(is_md5(&frame, KEY));
        }
    }
}

#[test]
fn what_waited_for_the_application_is_verified_when_it_lets_go() {
    let mut lab = Lab::new();
    let listener = listen(&mut lab, 80);
    let mut peer = Peer::new(40_000, 80);
    let sock = connect(&mut lab, &listener, &mut peer);
    let owned = sock.lock.user();
    md5_segment(&mut lab, peer.repr(PSH_ACK), b"forged", b"another");
    lab.segment(peer.repr(PSH_ACK), b"plain!");
    data(&mut lab, &mut peer, b"signed");
    lab.expect_nothing();
    assert!(owned.release(), "the owner learns of the backlog");
    lab.stack.kick(&sock, post::BACKLOG, lab.now);
    assert_eq!(lab.recv(&sock, 100).expect("data"), b"signed");
    assert_eq!(counts(&lab), [1, 0, 1]);
    assert_eq!(sock.lock.user().user.drops, 2, "they are the socket's own");
}
