//! TCP-AO (RFC 5925) with a peer that signs by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions, TcpRepr};

use super::icmp::told;
use super::lab::{ACK, FIN_ACK, Lab, PEER, PSH_ACK, Peer, SYN, SYN_ACK};
use super::signing::{AoPeer, md5_segment};
use crate::socket::{Listener, Sock, post};
use crate::stack::ConnectError;
use crate::tcp::{
    AoAlgorithm, AoCounters, AoInfo, AoKey, AoSettings, AuthKeys, KeyError, KeyMisfit, Peers, Secret, SockError,
    SockOptions, State,
};

const SECRET: &[u8] = b"secret";
const RST: TcpFlags = TcpFlags::RST;

fn peers() -> Peers {
    Peers::one(PEER).expect("an address")
}

/// The key that a peer has.
fn key_of(peer: &AoPeer) -> AoKey {
    AoKey {
        send_id: peer.rnext,
        recv_id: peer.key_id,
        algorithm: if peer.aes { AoAlgorithm::Aes128Cmac } else { AoAlgorithm::HmacSha1 },
        mac_len: peer.mac_len as u8,
        exclude_options: peer.exclude_options,
        ..AoKey::new(peers(), 0, Secret::new(peer.secret).expect("a secret"))
    }
}

fn listen(lab: &mut Lab, keys: &[AoPeer]) -> Arc<Listener> {
    let listener = lab.listen(80, 8);
    for key in keys {
        listener.auth.change(|keys| keys.add_ao(key_of(key))).expect("a key");
    }
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

/// A connection to a listener.
fn connect(lab: &mut Lab, listener: &Arc<Listener>, ao: &mut AoPeer, peer: &mut Peer) -> Arc<Sock> {
    ao.isns.0 = peer.seq;
    ao.segment(lab, syn(peer), &[]);
    let answer = ao.expect(lab, SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    peer.note(&answer);
    ao.segment(lab, peer.repr(ACK), &[]);
    lab.stack.accept(listener).expect("the handshake is complete")
}

fn data(lab: &mut Lab, ao: &AoPeer, peer: &mut Peer, payload: &[u8]) {
    ao.segment(lab, peer.repr(PSH_ACK), payload);
    peer.seq += payload.len() as u32;
}

fn info(lab: &Lab, sock: &Arc<Sock>) -> AoInfo {
    lab.stack.with(sock, 0, lab.now, |sk| sk.ao_info()).expect("it is authenticated")
}

/// Good, bad, unknown, missing.
fn counts(lab: &Lab) -> [u64; 4] {
    [Counter::TcpExtTCPAOGood, Counter::TcpExtTCPAOBad, Counter::TcpExtTCPAOKeyNotFound, Counter::TcpExtTCPAORequired]
        .map(|counter| lab.count(counter))
}

fn dropped(lab: &Lab) -> [u64; 3] {
    [DropReason::TcpAofailure, DropReason::TcpAokeynotfound, DropReason::TcpAonotfound]
        .map(|reason| lab.dropped(reason))
}

#[test]
fn authenticated_connections_carry_data_both_ways_and_close() {
    let sixteen = b"0123456789abcdef";
    let first = AoPeer::new(SECRET, 61, 84);
    for mut ao in [
        first,
        AoPeer { exclude_options: true, ..first },
        AoPeer { aes: true, ..first },
        AoPeer { aes: true, exclude_options: true, secret: sixteen, ..first },
        AoPeer { mac_len: 16, secret: &[7; 80], ..first },
        AoPeer { mac_len: 1, ..first },
    ] {
        let mut lab = Lab::new();
        let listener = listen(&mut lab, &[ao]);
        let mut peer = Peer::new(40_000, 80);
        (peer.stamps, peer.sack) = (Some((77, 0)), true);
        let sock = connect(&mut lab, &listener, &mut ao, &mut peer);
        data(&mut lab, &ao, &mut peer, b"hello");
        assert_eq!(ao.expect(&mut lab, ACK).ack, peer.seq);
        assert_eq!(lab.recv(&sock, 100).expect("data"), b"hello");
        let mut ahead = peer.repr(ACK);
        for hole in [100, 200] {
            ahead.seq = peer.seq + hole;
            ao.segment(&mut lab, ahead, &[1; 10]);
            let option_len = (4 + ao.mac_len).next_multiple_of(4);
            let fitting = (40 - 12 - option_len).saturating_sub(4) / 8;
            let blocks = ao.expect(&mut lab, ACK).options.sack_count;
            assert_eq!(usize::from(blocks), (hole as usize / 100).min(fitting));
        }
        ao.segment(&mut lab, peer.repr(ACK), &[2; 210]);
        peer.seq += 210;
        ao.expect(&mut lab, ACK);
        lab.recv(&sock, 1_000).expect("data");
        lab.send(&sock, &[7; 3_000]);
        let mut sent = 0;
        while sent < 3_000 {
            let flags = if sent > 2_000 { PSH_ACK } else { ACK };
            sent += ao.expect(&mut lab, flags).payload.len();
        }
        peer.ack += 3_000;
        ao.segment(&mut lab, peer.repr(ACK), &[]);
        lab.close(&sock);
        ao.expect(&mut lab, FIN_ACK);
        peer.ack += 1;
        ao.segment(&mut lab, peer.repr(FIN_ACK), &[]);
        peer.seq += 1;
        assert_eq!(ao.expect(&mut lab, ACK).ack, peer.seq, "the mini-socket signs");
        ao.segment(&mut lab, peer.repr(FIN_ACK), &[]);
        ao.expect(&mut lab, ACK);
        assert_eq!(counts(&lab)[1..], [0, 0, 0]);
        assert_eq!(counts(&lab)[0], 8, "but for what the mini-socket got");
    }
}

#[test]
fn what_is_not_authenticated_as_agreed_is_dropped_by_name() {
    let mut lab = Lab::new();
    let mut ao = AoPeer::new(SECRET, 1, 2);
    let listener = listen(&mut lab, &[ao]);
    let mut peer = Peer::new(40_000, 80);
    let wrong = [AoPeer { secret: b"another", ..ao }, AoPeer { mac_len: 11, ..ao }, AoPeer { sne: (1, 0), ..ao }];
    for ao in wrong {
        AoPeer { isns: (peer.seq, SeqNum(0)), ..ao }.segment(&mut lab, syn(&peer), &[]);
    }
    AoPeer { key_id: 3, ..ao }.segment(&mut lab, syn(&peer), &[]);
    lab.segment(syn(&peer), &[]);
    lab.expect_nothing();
    assert_eq!(counts(&lab), [0, 3, 1, 1]);
    let expected = AoCounters { good: 0, bad: 3, key_not_found: 1, required: 1, dropped_icmps: 0 };
    assert_eq!(listener.auth.ao_counters(), expected);
    let sock = connect(&mut lab, &listener, &mut ao, &mut peer);
    AoPeer { secret: b"another", ..ao }.segment(&mut lab, peer.repr(PSH_ACK), b"forged");
    AoPeer { key_id: 3, ..ao }.segment(&mut lab, peer.repr(PSH_ACK), b"forged");
    lab.segment(peer.repr(PSH_ACK), b"forged");
    md5_segment(&mut lab, peer.repr(PSH_ACK), b"forged", SECRET);
    lab.expect_nothing();
    assert_eq!(lab.state(&sock), State::Established);
    assert_eq!(dropped(&lab), [4, 2, 2]);
    assert_eq!(lab.dropped(DropReason::TcpMd5unexpected), 1);
    let expected = AoCounters { good: 0, bad: 1, key_not_found: 1, required: 1, dropped_icmps: 0 };
    assert_eq!(info(&lab, &sock).counters, expected);
    assert_eq!(listener.auth.ao_counters().good, 2, "the handshake is the listener's");
    let keys = lab.stack.with(&sock, 0, lab.now, |sk| sk.ao_keys());
    assert_eq!(
        keys.iter().map(|key| (key.good, key.bad, key.is_current, key.is_rnext)).collect::<Vec<_>>(),
        [(0, 1, true, true)]
    );
    data(&mut lab, &ao, &mut peer, b"good");
    ao.expect(&mut lab, ACK);
}

#[test]
fn a_code_that_nobody_asked_for_passes_unread_unless_another_kind_is_due() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let ao = AoPeer::new(SECRET, 1, 2);
    let peer = Peer::new(40_000, 80);
    ao.segment(&mut lab, syn(&peer), &[]);
    lab.expect(SYN_ACK);
    let md5 = crate::tcp::Md5Key { peers: peers(), secret: Secret::new(SECRET).expect("a secret") };
    listener.auth.change(|keys| keys.add_md5(md5)).expect("a key");
    ao.segment(&mut lab, syn(&Peer::new(40_001, 80)), &[]);
    lab.expect_nothing();
    assert_eq!(lab.dropped(DropReason::TcpAounexpected), 1);
    listener.auth.change(|keys| {
        keys.remove_md5(peers()).expect("it was there");
        keys.settings.required = true;
    });
    lab.segment(syn(&Peer::new(40_002, 80)), &[]);
    ao.segment(&mut lab, syn(&Peer::new(40_003, 80)), &[]);
    lab.expect_nothing();
    assert_eq!(dropped(&lab), [0, 1, 1], "it is required although there is no key");
}

#[test]
fn the_peer_chooses_the_key_that_we_sign_with() {
    let mut lab = Lab::new();
    let mut first = AoPeer::new(SECRET, 1, 11);
    let second = AoPeer { aes: true, mac_len: 16, ..AoPeer::new(b"second", 2, 12) };
    let listener = listen(&mut lab, &[first, second]);
    let mut peer = Peer::new(40_000, 80);
    let sock = connect(&mut lab, &listener, &mut first, &mut peer);
    let mut second = AoPeer { isns: first.isns, ..second };
    assert_eq!((info(&lab, &sock).current, info(&lab, &sock).rnext), (11, 1));
    // Signed with the first, it asks for the second: from then on we use that, and still ask for the first.
    data(&mut lab, &AoPeer { rnext: 12, ..first }, &mut peer, b"change over");
    let mut mixed = AoPeer { key_id: 1, ..second };
    mixed.expect(&mut lab, ACK);
    lab.send(&sock, &[7; 1_441]);
    assert_eq!(mixed.expect(&mut lab, ACK).payload.len(), 1_440, "its code is longer");
    mixed.expect(&mut lab, PSH_ACK);
    peer.ack += 1_441;
    // One that was late asks for the former: that is no harm.
    first.segment(&mut lab, peer.repr(ACK), &[]);
    assert_eq!(info(&lab, &sock).current, 11);
    // A number that we do not have changes nothing.
    AoPeer { rnext: 99, ..first }.segment(&mut lab, peer.repr(ACK), &[]);
    assert_eq!(info(&lab, &sock).current, 11);
    let change = |lab: &Lab, change: &dyn Fn(&mut crate::tcp::TcpSock) -> Result<(), KeyError>| {
        lab.stack.change_keys(&sock, lab.now, change)
    };
    assert_eq!(change(&lab, &|sk| sk.choose_ao_keys(None, Some(3))), Err(KeyError::NotFound));
    change(&lab, &|sk| sk.choose_ao_keys(Some(12), Some(2))).expect("both are there");
    lab.send(&sock, b"x");
    second.expect(&mut lab, PSH_ACK);
    peer.ack += 1;
    data(&mut lab, &second, &mut peer, b"we agree");
    lab.wait(300);
    second.expect(&mut lab, ACK);
}

#[test]
fn a_syn_ack_is_signed_as_the_peer_asked_or_does_not_go() {
    let mut lab = Lab::new();
    let first = AoPeer::new(SECRET, 1, 11);
    let second = AoPeer::new(b"second", 2, 12);
    let listener = listen(&mut lab, &[first, second]);
    let peer = Peer::new(40_000, 80);
    let isns = (peer.seq, SeqNum(0));
    AoPeer { rnext: 99, isns, ..first }.segment(&mut lab, syn(&peer), &[]);
    lab.expect_nothing();
    assert_eq!(listener.requests(), 1);
    let mut peer = Peer::new(40_001, 80);
    let mut crossed = AoPeer { rnext: 12, isns, ..first };
    crossed.segment(&mut lab, syn(&peer), &[]);
    let mut answer = AoPeer { key_id: 1, isns, ..second };
    let sent = answer.expect(&mut lab, SYN_ACK);
    crossed.isns = answer.isns;
    (peer.seq, peer.ack) = (peer.seq + 1, sent.seq + 1);
    crossed.segment(&mut lab, peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("a connection");
    assert_eq!((info(&lab, &sock).current, info(&lab, &sock).rnext), (12, 1));
    // A listener's key that goes takes half-open connections with it, not those that stand.
    let peer = Peer::new(40_002, 80);
    AoPeer { isns, ..first }.segment(&mut lab, syn(&peer), &[]);
    lab.expect(SYN_ACK);
    listener.auth.change(|keys| keys.remove_ao(peers(), 11, 1)).expect("it was there");
    lab.wait(1_010);
    lab.expect_nothing();
}

#[test]
fn extensions_count_the_turns_of_sequence_numbers() {
    let mut lab = Lab::new();
    let mut ao = AoPeer::new(SECRET, 1, 2);
    let listener = listen(&mut lab, &[ao]);
    let mut peer = Peer::new(40_000, 80);
    peer.seq = SeqNum(0xffff_fff0);
    let sock = connect(&mut lab, &listener, &mut ao, &mut peer);
    let turned = AoPeer { sne: (1, 0), ..ao };
    // Beyond the turn before what lies on this side of it.
    let mut ahead = peer.repr(ACK);
    ahead.seq = SeqNum(0);
    turned.segment(&mut lab, ahead, &[2; 10]);
    ao.expect(&mut lab, ACK);
    ao.segment(&mut lab, ahead, &[2; 10]);
    assert_eq!(dropped(&lab), [1, 0, 0]);
    data(&mut lab, &ao, &mut peer, &[1; 15]);
    ao.expect(&mut lab, ACK);
    peer.seq = SeqNum(10);
    data(&mut lab, &turned, &mut peer, &[3; 10]);
    assert_eq!(lab.recv(&sock, 100).expect("data"), [[1; 15].as_slice(), &[2; 10], &[3; 10]].concat());
    while lab.sent().is_some() {}
    // What was sent again from before the turn.
    let mut old = peer.repr(PSH_ACK);
    old.seq = SeqNum(0xffff_fff1);
    ao.segment(&mut lab, old, &[1; 15]);
    ao.expect(&mut lab, ACK);
    assert_eq!(dropped(&lab), [1, 0, 0]);
}

fn open(lab: &mut Lab, keys: &AuthKeys) -> Result<Arc<Sock>, ConnectError> {
    let remote = SocketAddr::from((PEER, 90));
    let sock = lab.stack.connect_signed(Some(5_000), remote, &SockOptions::default(), keys, lab.now)?;
    lab.run();
    Ok(sock)
}

#[test]
fn an_active_open_is_authenticated_from_its_syn_on() {
    let mut lab = Lab::new();
    let mut ao = AoPeer::new(SECRET, 1, 2);
    let mut keys = AuthKeys::new();
    keys.add_ao(key_of(&AoPeer::new(b"unused", 3, 4))).expect("a key");
    keys.add_ao(key_of(&ao)).expect("a key");
    (keys.current, keys.rnext) = (Some(2), Some(1));
    let sock = open(&mut lab, &keys).expect("a way");
    let mut peer = Peer::new(90, 5_000);
    ao.isns.0 = SeqNum(0);
    let ours = ao.expect(&mut lab, SYN);
    assert!(ours.options.timestamps.is_some() && ours.options.sack_permitted, "they fit");
    ao.isns.0 = peer.seq;
    peer.ack = ours.seq + 1;
    peer.stamps = ours.options.timestamps.map(|(tsval, _)| (9, tsval));
    let answer = TcpRepr {
        options: TcpOptions { mss: Some(1_460), timestamps: peer.stamps, ..TcpOptions::default() },
        ..peer.repr(SYN_ACK)
    };
    lab.segment(answer, &[]);
    lab.segment(TcpRepr { flags: TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0), ..answer }, &[]);
    assert_eq!((lab.state(&sock), dropped(&lab)), (State::SynSent, [0, 0, 2]));
    ao.segment(&mut lab, answer, &[]);
    peer.seq += 1;
    assert_eq!(ao.expect(&mut lab, ACK).ack, peer.seq);
    assert_eq!(lab.state(&sock), State::Established);
    data(&mut lab, &ao, &mut peer, b"hello");
    ao.expect(&mut lab, ACK);
    lab.stack.abort(&sock, lab.now);
    lab.run();
    ao.expect(&mut lab, TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0));
}

#[test]
fn crossed_syns_are_authenticated_too() {
    let mut lab = Lab::new();
    let mut ao = AoPeer::new(SECRET, 1, 2);
    let mut keys = AuthKeys::new();
    keys.add_ao(key_of(&ao)).expect("a key");
    let sock = open(&mut lab, &keys).expect("a way");
    let ours = ao.expect(&mut lab, SYN);
    let mut peer = Peer::new(90, 5_000);
    ao.isns.0 = peer.seq;
    ao.segment(&mut lab, syn(&peer), &[]);
    ao.expect(&mut lab, SYN_ACK);
    peer.ack = ours.seq + 1;
    ao.segment(&mut lab, peer.repr(SYN_ACK), &[]);
    ao.expect(&mut lab, ACK);
    assert_eq!(lab.state(&sock), State::Established);
}

#[test]
fn who_must_authenticate_and_cannot_does_not_connect() {
    let mut lab = Lab::new();
    let refused = |lab: &mut Lab, keys: &AuthKeys| match open(lab, keys) {
        Err(ConnectError::Key(error)) => error,
        _ => panic!("it must not connect"),
    };
    let mut keys = AuthKeys::new();
    keys.settings.required = true;
    assert_eq!(refused(&mut lab, &keys), KeyError::OtherKind);
    keys.add_ao(key_of(&AoPeer::new(SECRET, 1, 2))).expect("a key");
    keys.current = Some(1);
    assert_eq!(refused(&mut lab, &keys), KeyError::NotFound, "that is the peer's number");
    keys.current = Some(2);
    open(&mut lab, &keys).expect("a way");
    lab.expect(SYN);
    lab.expect_nothing();
}

#[test]
fn keys_come_and_go_by_the_rules_of_linux() {
    let mut lab = Lab::new();
    let mut ao = AoPeer::new(SECRET, 1, 11);
    let second = AoPeer::new(b"second", 2, 12);
    let listener = listen(&mut lab, &[ao]);
    let mut peer = Peer::new(40_000, 80);
    let sock = connect(&mut lab, &listener, &mut ao, &mut peer);
    let change = |change: &dyn Fn(&mut crate::tcp::TcpSock) -> Result<(), KeyError>| {
        lab.stack.change_keys(&sock, lab.now, change)
    };
    let (known, new) = (key_of(&ao), key_of(&second));
    let secret = new.secret;
    assert_eq!(change(&|sk| sk.add_md5_key(crate::tcp::Md5Key { peers: peers(), secret })), Err(KeyError::OtherKind));
    assert_eq!(change(&|sk| sk.add_ao_key(known)), Err(KeyError::Exists));
    let elsewhere = Peers::one([10, 0, 0, 9]).expect("an address");
    assert_eq!(
        change(&|sk| sk.add_ao_key(AoKey { peers: elsewhere, ..new })),
        Err(KeyError::Invalid(KeyMisfit::OtherPeer))
    );
    assert_eq!(
        change(&|sk| sk.add_ao_key(AoKey { mac_len: 17, ..new })),
        Err(KeyError::Invalid(KeyMisfit::MacLen(17)))
    );
    assert_eq!(change(&|sk| sk.remove_ao_key((11, 1), None, None)), Err(KeyError::InUse), "the last one stays");
    change(&|sk| sk.add_ao_key(new)).expect("a key");
    assert_eq!(change(&|sk| sk.remove_ao_key((11, 2), None, None)), Err(KeyError::NotFound));
    assert_eq!(change(&|sk| sk.remove_ao_key((11, 1), Some(12), None)), Err(KeyError::InUse), "it is asked for");
    change(&|sk| sk.remove_ao_key((11, 1), Some(12), Some(2))).expect("others take its place");
    change(&|sk| sk.set_ao(None, Some(AoCounters::default()))).expect("it is authenticated");
    ao.segment(&mut lab, peer.repr(PSH_ACK), b"old key");
    assert_eq!(dropped(&lab), [0, 1, 0]);
    let mut second = AoPeer { isns: ao.isns, ..second };
    data(&mut lab, &second, &mut peer, b"new key");
    second.expect(&mut lab, ACK);
    let expected = AoCounters { good: 1, bad: 0, key_not_found: 1, required: 0, dropped_icmps: 0 };
    assert_eq!(info(&lab, &sock).counters, expected);
    let mut plain = Peer::new(40_001, 80);
    listener.auth.change(|keys| keys.remove_ao(peers(), 11, 1)).expect("it was there");
    let sock = plain.connect(&mut lab, &listener);
    let refused = lab.stack.change_keys(&sock, lab.now, |sk| sk.add_ao_key(new));
    assert_eq!(refused, Err(KeyError::OtherKind), "a connection that stands does not begin with it");
}

#[test]
fn hard_errors_of_icmp_are_not_believed() {
    for accept_icmps in [false, true] {
        let mut lab = Lab::new();
        let mut ao = AoPeer::new(SECRET, 1, 2);
        let listener = listen(&mut lab, &[ao]);
        listener.auth.change(|keys| keys.settings = AoSettings { accept_icmps, ..keys.settings });
        let mut peer = Peer::new(40_000, 80);
        let sock = connect(&mut lab, &listener, &mut ao, &mut peer);
        lab.send(&sock, b"data");
        let sent = ao.expect(&mut lab, PSH_ACK);
        let told = |lab: &mut Lab, code| told(lab, (3, code, 0), (80, 40_000), sent.seq);
        let soft = |sock: &Arc<Sock>| sock.lock.user().user.error_soft;
        told(&mut lab, 3);
        assert_eq!(soft(&sock), accept_icmps.then_some(SockError::Refused));
        let owned = sock.lock.user();
        told(&mut lab, 2);
        assert!(owned.release());
        lab.stack.kick(&sock, post::BACKLOG, lab.now);
        assert_eq!(soft(&sock), accept_icmps.then_some(SockError::NoProtocol));
        let ignored = if accept_icmps { 0 } else { 2 };
        assert_eq!(lab.count(Counter::TcpExtTCPAODroppedIcmps), ignored);
        assert_eq!(info(&lab, &sock).counters.dropped_icmps, ignored);
        told(&mut lab, 1);
        assert_eq!(soft(&sock), Some(SockError::Unreachable), "others may pass");
    }
}

#[test]
fn cookies_come_back_authenticated() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_syncookies = 2);
    let mut ao = AoPeer::new(SECRET, 1, 2);
    let listener = listen(&mut lab, &[ao]);
    let mut peer = Peer::new(40_000, 80);
    ao.isns.0 = peer.seq;
    ao.segment(&mut lab, syn(&peer), &[]);
    let answer = ao.expect(&mut lab, SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!((lab.count(Counter::TcpExtSyncookiesRecv), dropped(&lab)), (0, [0, 0, 1]));
    ao.segment(&mut lab, peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("a connection");
    data(&mut lab, &ao, &mut peer, b"hello");
    ao.expect(&mut lab, ACK);
    assert_eq!(info(&lab, &sock).counters.good, 1);
}

#[test]
fn resets_go_where_the_connection_is_known() {
    let mut lab = Lab::new();
    let mut ao = AoPeer::new(SECRET, 1, 2);
    let _listener = listen(&mut lab, &[ao]);
    let mut peer = Peer::new(40_000, 80);
    ao.isns.0 = peer.seq;
    ao.segment(&mut lab, syn(&peer), &[]);
    let answer = ao.expect(&mut lab, SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    let mut wrong = peer.repr(ACK);
    wrong.ack += 99;
    ao.segment(&mut lab, wrong, &[]);
    assert_eq!(ao.expect(&mut lab, RST).seq, wrong.ack, "of a half-open connection");
    // To a port that nobody listens on: only one that is authenticated would be believed.
    let mut nobody = Peer::new(40_000, 81);
    nobody.ack = SeqNum(77);
    let long = TcpRepr { options: TcpOptions { mss: Some(1_460), ..TcpOptions::default() }, ..nobody.repr(ACK) };
    ao.segment(&mut lab, long, &[]);
    lab.expect_nothing();
    assert_eq!(lab.dropped(DropReason::NoSocket), 1);
}
