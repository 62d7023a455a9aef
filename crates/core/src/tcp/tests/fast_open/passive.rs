//! SYNs with data for a listener.

use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::tcp::FastOpen;
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions, TcpRepr, icmp as wire_icmp};

use super::super::lab::{ACK, FIN_ACK, Lab, PSH_ACK, Peer, SYN, SYN_ACK, Sent};
use super::{KEY, REQUEST, counts, lab, raw_segment, segment, sent, with};
use crate::socket::{Listener, Sock};
use crate::stack::RecvError;
use crate::sysctl::FastOpenKeys;
use crate::tcp::{CaState, SockError, State, TcpInfo};
use crate::testing::frames::icmp;

const RST: TcpFlags = TcpFlags::RST;
const RST_ACK: TcpFlags = TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0);

fn listening(limit: u32) -> (Lab, Arc<Listener>) {
    let mut lab = lab(3);
    let listener = lab.listen(80, 8);
    lab.stack.set_fast_open(&listener, limit);
    (lab, listener)
}

/// The cookie that the listener gives.
fn cookie(lab: &mut Lab) -> FastOpen {
    let peer = Peer::new(39_000, 80);
    segment(lab, peer.repr(SYN), Some(REQUEST), &[]);
    let (answer, option) = sent(lab);
    assert_eq!((answer.flags, answer.ack), (SYN_ACK, peer.seq + 1));
    let mut rst = peer.repr(RST);
    rst.seq += 1;
    lab.segment(rst, &[]);
    option.expect("a cookie")
}

/// A SYN with a good cookie and data; gives the SYN-ACK.
fn open(lab: &mut Lab, peer: &mut Peer, option: FastOpen, data: &[u8]) -> Sent {
    let mut syn = peer.repr(SYN);
    syn.options.sack_permitted = peer.sack;
    segment(lab, syn, Some(option), data);
    let (answer, _) = sent(lab);
    assert_eq!((answer.flags, answer.ack), (SYN_ACK, peer.seq + 1 + data.len() as u32));
    peer.seq = answer.ack;
    peer.ack = answer.seq + 1;
    peer.note(&answer);
    answer
}

fn accept(lab: &Lab, listener: &Listener) -> Arc<Sock> {
    lab.stack.accept(listener).expect("it need not wait for the handshake")
}

#[test]
fn a_cookie_is_given_to_who_asks_in_the_form_in_which_it_asks() {
    let (mut lab, _listener) = listening(5);
    let mut cookies = Vec::new();
    for (port, experimental) in [(1, false), (2, true)] {
        let peer = Peer { stamps: Some((7, 0)), ..Peer::new(port, 80) };
        segment(&mut lab, peer.repr(SYN), Some(FastOpen::request(experimental)), b"data is not taken");
        let (answer, option) = sent(&mut lab);
        assert_eq!((answer.flags, answer.ack), (SYN_ACK, peer.seq + 1));
        let option = option.expect("a cookie");
        assert_eq!((option.cookie().len(), option.experimental), (8, experimental));
        cookies.push(option.cookie().to_vec());
        lab.wait(1_010);
        let (again, option) = sent(&mut lab);
        assert_eq!((again.flags, option), (SYN_ACK, None), "only the first answer has it");
    }
    assert_eq!(cookies[0], cookies[1], "whatever the port");
    assert_eq!(lab.count(Counter::TcpExtTCPFastOpenCookieReqd), 2);
}

#[test]
fn data_in_a_syn_is_read_and_answered_before_the_handshake_ends() {
    for stamps in [None, Some((100, 0))] {
        let (mut lab, listener) = listening(5);
        let cookie = cookie(&mut lab);
        let mut peer = Peer { stamps, ..Peer::new(40_000, 80) };
        let answer = open(&mut lab, &mut peer, cookie, b"hello");
        assert_eq!((answer.window, answer.payload.len()), (if stamps.is_some() { 65_160 } else { 64_240 }, 0));
        let sock = accept(&lab, &listener);
        assert_eq!(lab.state(&sock), State::SynRecv);
        assert_eq!(
            counts(&lab, [Counter::TcpExtTCPFastOpenPassive, Counter::TcpPassiveOpens, Counter::TcpCurrEstab]),
            [1, 1, 0]
        );
        let ready = lab.stack.readiness(&sock, lab.now);
        assert!(ready.readable && ready.writable);
        assert_eq!(lab.recv(&sock, 100).unwrap(), b"hello");
        assert!(matches!(lab.recv(&sock, 100), Err(RecvError::Empty(_))));
        assert_eq!(lab.send(&sock, b"world"), 5);
        let data = lab.expect(PSH_ACK);
        assert_eq!((data.seq, data.ack, &data.payload[..]), (peer.ack, peer.seq, &b"world"[..]));
        assert_eq!(lab.count(Counter::TcpExtTCPOrigDataSent), 1);
        let info = sock.lock.user().info(lab.now);
        assert!(info.syn_data && info.tfo_child);
        lab.wait(5);
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!((lab.state(&sock), lab.count(Counter::TcpCurrEstab)), (State::Established, 1));
        // What was sent early is waited for from now on.
        lab.expect_nothing();
        lab.wait(230);
        assert_eq!(lab.expect(PSH_ACK).payload, b"world");
        peer.ack += 5;
        lab.segment(peer.repr(ACK), &[]);
        peer.data(&mut lab, b"more");
        lab.expect(ACK);
        assert_eq!(lab.recv(&sock, 100).unwrap(), b"more");
        assert_eq!((listener.fast_open.taken(), listener.accept_queue_len()), (0, 0));
        lab.close(&sock);
        lab.expect(FIN_ACK);
    }
}

#[test]
fn a_good_cookie_without_data_opens_early_too() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    open(&mut lab, &mut peer, cookie, &[]);
    let sock = accept(&lab, &listener);
    assert_eq!(lab.state(&sock), State::SynRecv);
    let info = sock.lock.user().info(lab.now);
    assert!(!info.syn_data && info.tfo_child);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.state(&sock), State::Established);
    assert!(lab.stack.accept(&listener).is_none(), "it is in the queue once");
}

#[test]
fn what_is_no_good_cookie_gets_a_good_one_and_its_data_is_left() {
    let (mut lab, listener) = listening(5);
    let good = cookie(&mut lab);
    let failed = Counter::TcpExtTCPFastOpenPassiveFail;
    let mut port = 40_000;
    let mut answer = |lab: &mut Lab, option: &[u8]| {
        port += 1;
        let peer = Peer::new(port, 80);
        raw_segment(lab, peer.repr(SYN), option, b"hello");
        let (answer, option) = sent(lab);
        assert_eq!((answer.flags, answer.ack), (SYN_ACK, peer.seq + 1));
        let mut rst = peer.repr(RST);
        rst.seq += 1;
        lab.segment(rst, &[]);
        option
    };
    for (failures, len) in [4, 6, 8, 10, 16].into_iter().enumerate() {
        let option = [&[34, 2 + len as u8][..], &vec![b'1'; len], &[1, 1][..(4 - (2 + len) % 4) % 4]].concat();
        assert_eq!(answer(&mut lab, &option), Some(good), "{len} bytes");
        assert_eq!(lab.count(failed), failures as u64 + 1);
    }
    // What cannot be a cookie is as if it were not there.
    for len in [1, 2, 3, 5, 7, 9, 17, 18] {
        let mut option = [&[34, 2 + len as u8][..], &vec![b'1'; len]].concat();
        option.resize(option.len().next_multiple_of(4), 1);
        assert_eq!(answer(&mut lab, &option), None, "{len} bytes");
    }
    assert_eq!(answer(&mut lab, &[]), None);
    assert_eq!(lab.count(failed), 5);
    assert_eq!(lab.count(Counter::TcpExtTCPFastOpenPassive), 0);
    assert!(lab.stack.accept(&listener).is_none());
}

#[test]
fn who_may_open_early_is_a_matter_of_tunables_and_the_listener() {
    // Flags, the listener's limit, whether it wants no cookie, what the SYN has; whether it opens early.
    let no_option = None;
    let bad = Some(with(*b"12345678"));
    for (flags, limit, no_cookie, option, data, early) in [
        (0x3, 5, false, no_option, &b"data"[..], false),
        (0x3, 0, true, no_option, b"data", false),
        (0x1, 5, true, no_option, b"data", false),
        (0x3, 5, true, no_option, b"data", true),
        (0x3, 5, true, Some(REQUEST), b"data", true),
        (0x3, 5, true, bad, b"data", true),
        (0x203, 5, false, no_option, b"data", true),
        (0x203, 5, false, no_option, b"", false),
        (0x203, 5, false, Some(REQUEST), b"", true),
        (0x203, 5, false, bad, b"data", true),
        (0x203, 0, false, no_option, b"data", false),
    ] {
        let mut lab = lab(flags);
        let listener = lab.listen(80, 8);
        lab.stack.set_fast_open(&listener, limit);
        listener.fast_open.set_no_cookie(no_cookie);
        let peer = Peer::new(40_000, 80);
        segment(&mut lab, peer.repr(SYN), option, data);
        let (answer, _) = sent(&mut lab);
        let case = format!("{flags:#x} {limit} {no_cookie} {option:?} {data:?}");
        assert_eq!(answer.ack, peer.seq + 1 + if early { data.len() as u32 } else { 0 }, "{case}");
        assert_eq!(lab.stack.accept(&listener).is_some(), early, "{case}");
        assert_eq!(lab.count(Counter::TcpExtTCPFastOpenPassive), u64::from(early), "{case}");
        assert_eq!(lab.count(Counter::TcpExtTCPFastOpenPassiveFail), 0, "{case}");
    }
    // All listeners.
    let mut lab = lab(0x403);
    assert_eq!(lab.listen(80, 8).fast_open.limit(), 8);
    let mut lab = super::lab(0x401);
    let listener = lab.listen(80, 8);
    assert_eq!(listener.fast_open.limit(), 0, "the server's bit is missing");
    lab.stack.set_fast_open(&listener, 100_000);
    assert_eq!(listener.fast_open.limit(), 4_096, "somaxconn");
}

#[test]
fn cookies_of_the_key_before_are_good_and_replaced() {
    let (mut lab, listener) = listening(5);
    let old = cookie(&mut lab);
    lab.stack.reconfigure(|net| {
        let mut net = net.clone();
        net.sysctl.set("net.ipv4.tcp_fastopen_key", &format!("1-2-3-4,{KEY}")).expect("two keys");
        net
    });
    let new = cookie(&mut lab);
    assert_ne!(new, old);
    let peer = Peer::new(40_000, 80);
    segment(&mut lab, peer.repr(SYN), Some(old), b"hello");
    let (answer, option) = sent(&mut lab);
    assert_eq!((answer.ack, option), (peer.seq + 6, Some(new)));
    let counters = [Counter::TcpExtTCPFastOpenPassive, Counter::TcpExtTCPFastOpenPassiveAltKey];
    assert_eq!(counts(&lab, counters), [1, 1]);
    // A listener with a key of its own knows neither.
    let own = crate::sysctl::FastOpenKey::from_bytes([9; 16]);
    listener.fast_open.set_keys(FastOpenKeys { current: own, backup: None });
    let peer = Peer::new(40_001, 80);
    segment(&mut lab, peer.repr(SYN), Some(new), b"hello");
    let (answer, option) = sent(&mut lab);
    assert_eq!(answer.ack, peer.seq + 1);
    assert!(option.is_some_and(|option| option != new && option != old));
    assert_eq!(lab.count(Counter::TcpExtTCPFastOpenPassiveFail), 1);
}

#[test]
fn no_more_than_the_limit_open_early_and_those_that_were_reset_count_for_a_minute() {
    let (mut lab, listener) = listening(2);
    let cookie = cookie(&mut lab);
    let mut peers: Vec<Peer> = (0..2).map(|n| Peer::new(40_000 + n, 80)).collect();
    for peer in &mut peers {
        open(&mut lab, peer, cookie, b"hello");
    }
    let overflow = Counter::TcpExtTCPFastOpenListenOverflow;
    let late = |lab: &mut Lab, port, option| {
        let peer = Peer::new(port, 80);
        segment(lab, peer.repr(SYN), Some(option), b"hello");
        let (answer, option) = sent(lab);
        let early = answer.ack != peer.seq + 1;
        let mut rst = peer.repr(RST);
        rst.seq = answer.ack;
        lab.segment(rst, &[]);
        (early, option)
    };
    assert_eq!(late(&mut lab, 1, cookie), (false, None));
    assert_eq!(late(&mut lab, 2, REQUEST), (false, None), "not even a cookie");
    assert_eq!(counts(&lab, [overflow, Counter::TcpExtTCPFastOpenPassive]), [2, 2]);
    // The end of a handshake makes room, and a reset of what nobody has accepted.
    lab.segment(peers[0].repr(ACK), &[]);
    assert_eq!(late(&mut lab, 3, cookie), (true, None));
    assert_eq!(listener.fast_open.taken(), 1);
    // A reset of what was accepted does not, for a minute.
    let [first, second] = [(); 2].map(|()| accept(&lab, &listener));
    assert_eq!((lab.state(&first), lab.state(&second)), (State::Established, State::SynRecv));
    lab.segment(peers[1].repr(RST), &[]);
    assert_eq!(listener.fast_open.taken(), 1);
    lab.close(&second);
    assert_eq!(late(&mut lab, 4, cookie), (true, None));
    let mut peer = Peer::new(40_010, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    assert_eq!(late(&mut lab, 5, cookie), (false, None));
    lab.segment(peer.repr(ACK), &[]);
    lab.stack.set_fast_open(&listener, 1);
    assert_eq!(late(&mut lab, 6, cookie), (false, None));
    lab.wait(60_000);
    while lab.sent().is_some() {}
    assert_eq!(late(&mut lab, 7, cookie), (true, None));
    assert_eq!(lab.count(overflow), 4);
}

#[test]
fn a_reset_ends_it_and_what_was_read_of_it_stays() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    for accepted in [false, true] {
        let failed = lab.count(Counter::TcpAttemptFails);
        let mut peer = Peer::new(40_000 + u16::from(accepted), 80);
        open(&mut lab, &mut peer, cookie, b"hello");
        let sock = accepted.then(|| accept(&lab, &listener));
        let mut rst = peer.repr(RST);
        rst.seq += 100;
        lab.segment(rst, &[]);
        assert_eq!(lab.expect(ACK).ack, peer.seq, "a challenge");
        lab.segment(peer.repr(RST), &[]);
        lab.expect_nothing();
        assert_eq!(lab.count(Counter::TcpAttemptFails) - failed, 2, "as the kernel counts it");
        let sock = sock.unwrap_or_else(|| accept(&lab, &listener));
        assert_eq!(lab.state(&sock), State::Close);
        assert_eq!(lab.recv(&sock, 100).unwrap(), b"hello");
        assert!(matches!(lab.recv(&sock, 100), Err(RecvError::Failed(SockError::Reset))));
    }
    assert_eq!(lab.dropped(DropReason::TcpFastopen), 4);
    assert_eq!(lab.count(Counter::TcpExtTCPChallengeACK), 2);
    assert_eq!(lab.count(Counter::TcpExtEmbryonicRsts), 1, "that was the request for the cookie");
}

#[test]
fn segments_are_held_against_the_request_until_the_handshake_ends() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    let isn = peer.seq;
    let answer = open(&mut lab, &mut peer, cookie, b"hello");
    let sock = accept(&lab, &listener);
    // The SYN again: so is the answer, but not twice within half a second.
    let mut syn = peer.repr(SYN);
    syn.seq = isn;
    for again in [true, false] {
        segment(&mut lab, syn, Some(cookie), b"hello");
        assert_eq!(
            lab.sent().map(|sent| (sent.flags, sent.seq, sent.ack)),
            again.then_some((SYN_ACK, answer.seq, peer.seq))
        );
    }
    assert_eq!(counts(&lab, [Counter::TcpExtTCPSynRetrans, Counter::TcpExtTCPACKSkippedSynRecv]), [1, 1]);
    lab.wait(600);
    // Out of the window, a SYN in it, no ACK.
    let mut far = peer.repr(ACK);
    far.seq += 100_000;
    lab.segment(far, &[]);
    assert_eq!((lab.expect(ACK).ack, lab.dropped(DropReason::TcpOverwindow)), (peer.seq, 1));
    let mut inside = peer.repr(SYN);
    inside.seq += 10;
    lab.segment(inside, &[]);
    assert_eq!(lab.expect(RST_ACK).ack, inside.seq + 1);
    lab.segment(peer.repr(TcpFlags::PSH), b"x");
    lab.segment(peer.repr(TcpFlags::FIN), &[]);
    lab.expect_nothing();
    assert_eq!(lab.dropped(DropReason::TcpFastopen), 5);
    // Acknowledgements of what was not sent, or of nothing.
    for (ack, reason) in [(peer.ack + 100, DropReason::TcpAckUnsentData), (answer.seq, DropReason::TcpTooOldAck)] {
        let mut wrong = peer.repr(ACK);
        wrong.ack = ack;
        lab.segment(wrong, &[]);
        assert_eq!((lab.expect(RST).seq, lab.dropped(reason)), (ack, 1));
    }
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpAttemptFails)), (State::SynRecv, 2));
    // A segment of which the front is missing ends the handshake, and waits.
    peer.data_at(&mut lab, 4, b"later");
    assert_eq!((lab.state(&sock), lab.expect(ACK).ack), (State::Established, peer.seq));
    peer.data(&mut lab, b"more");
    assert_eq!(lab.expect(ACK).ack, peer.seq + 5);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"hellomorelater");
}

#[test]
fn a_syn_ack_in_the_place_of_the_syn_is_for_the_socket_to_judge() {
    // Measured on Linux 6.18: where the SYN was it is challenged, whatever it acknowledges; elsewhere it is answered by a reset.
    for (offset, answered) in [(0, [1, 0, 0]), (1, [0, 1, 1])] {
        let (mut lab, listener) = listening(5);
        let cookie = cookie(&mut lab);
        let mut peer = Peer::new(40_000, 80);
        let begun = peer.seq;
        open(&mut lab, &mut peer, cookie, &[]);
        let _sock = accept(&lab, &listener);
        let counters = [Counter::TcpExtTCPSYNChallenge, Counter::TcpAttemptFails, Counter::TcpOutRsts];
        let before = counts(&lab, counters);
        lab.segment(TcpRepr { seq: begun + offset, ack: SeqNum(0), ..peer.repr(SYN_ACK) }, &[0; 1_000]);
        let rose = std::array::from_fn(|of| counts(&lab, counters)[of] - before[of]);
        assert_eq!(rose, answered, "{offset}");
        while lab.sent().is_some() {}
    }
}

#[test]
fn the_syn_ack_is_sent_again_until_the_connection_is_given_up() {
    let (mut lab, listener) = listening(5);
    lab.stack.reconfigure(|net| {
        let mut net = net.clone();
        net.sysctl.tcp_synack_retries = 1;
        net
    });
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    let answer = open(&mut lab, &mut peer, cookie, b"hello");
    let sock = accept(&lab, &listener);
    lab.send(&sock, b"reply");
    lab.expect(PSH_ACK);
    for ms in [1_010, 2_010] {
        lab.wait(ms);
        let again = lab.expect(SYN_ACK);
        assert_eq!((again.seq, again.ack, again.payload.len()), (answer.seq, peer.seq, 0));
        lab.expect_nothing();
    }
    lab.wait(3_900);
    assert_eq!(lab.state(&sock), State::SynRecv);
    lab.wait(200);
    assert_eq!(lab.state(&sock), State::Close);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"hello");
    assert!(matches!(lab.recv(&sock, 100), Err(RecvError::Failed(SockError::TimedOut))));
    let counters = [
        Counter::TcpExtTCPTimeouts,
        Counter::TcpExtTCPSynRetrans,
        Counter::TcpRetransSegs,
        Counter::TcpExtTCPAbortOnTimeout,
    ];
    assert_eq!(counts(&lab, counters), [3, 2, 2, 1]);
    assert_eq!(listener.fast_open.taken(), 0);
}

#[test]
fn data_behind_a_lost_syn_ack_follows_once_the_handshake_ends() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    let sock = accept(&lab, &listener);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"hello");
    lab.send(&sock, b"bye");
    lab.expect(PSH_ACK);
    lab.close(&sock);
    assert_eq!(lab.expect(FIN_ACK).seq, peer.ack + 3, "the FIN does not wait");
    assert_eq!(lab.state(&sock), State::FinWait1);
    lab.wait(1_010);
    lab.expect(SYN_ACK);
    lab.wait(500);
    lab.expect_nothing();
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(2_990);
    lab.expect_nothing();
    lab.wait(20);
    let again = lab.sent().expect("one lost SYN-ACK says nothing of what followed it");
    assert_eq!((again.seq, &again.payload[..]), (peer.ack, &b"bye"[..]));
    assert_eq!(lab.count(Counter::TcpExtTCPSlowStartRetrans), 0);
    assert_eq!(listener.fast_open.taken(), 0);
    peer.ack += 4;
    lab.segment(peer.repr(FIN_ACK), &[]);
    assert_eq!(lab.state(&sock), State::Close);
}

/// As measured on Linux 6.18.
#[test]
fn once_two_syn_acks_are_lost_what_followed_them_is_lost_too() {
    // Bytes that are written, timestamps, an ACK of the first SYN-ACK (of the last), selective acknowledgements.
    let cases = [(0, false, false), (3_000, false, false), (0, true, true), (3_000, true, true), (0, true, false)];
    for ((written, stamped, first), sack) in cases.into_iter().flat_map(|case| [(case, false), (case, true)]) {
        let (mut lab, listener) = listening(5);
        let cookie = cookie(&mut lab);
        let mut peer = Peer { stamps: stamped.then_some((9, 0)), sack, ..Peer::new(40_000, 80) };
        let before = open(&mut lab, &mut peer, cookie, b"hello");
        let sock = accept(&lab, &listener);
        lab.send(&sock, &vec![7; written]);
        while lab.sent().is_some() {}
        let told = |lab: &Lab| {
            let info = sock.lock.user().info(lab.now);
            (info.ca_state, info.lost, info.retransmits, info.snd_cwnd, info.snd_ssthresh == TcpInfo::NO_SSTHRESH)
        };
        lab.wait(1_010);
        lab.expect(SYN_ACK);
        assert_eq!(told(&lab), (CaState::Open, 0, 1, 10, true));
        lab.wait(2_010);
        let last = lab.expect(SYN_ACK);
        let lost = written.div_ceil(1_460) as u32;
        assert_eq!(told(&lab), (CaState::Loss, lost, 2, 1, false));
        peer.note(if first { &before } else { &last });
        lab.segment(peer.repr(ACK), &[]);
        let again: Vec<_> = std::iter::from_fn(|| lab.sent()).collect();
        // Who does not acknowledge selectively holds the state until more is acknowledged.
        let over = if sack { CaState::Open } else { CaState::Loss };
        if first {
            assert_eq!((told(&lab), again.len()), ((over, 0, 0, 10, true), 0), "it was only late");
            assert_eq!(lab.count(Counter::TcpExtTCPLossUndo), 1);
            continue;
        }
        assert_eq!(again.len(), usize::from(lost > 0), "the window allows one");
        assert!(again.iter().all(|sent| sent.seq == peer.ack));
        assert_eq!(told(&lab), (if lost > 0 { CaState::Loss } else { over }, lost, 0, 1, false));
        assert_eq!(lab.count(Counter::TcpExtTCPSlowStartRetrans), u64::from(lost > 0));
    }
}

#[test]
fn the_application_may_end_it_before_the_handshake_does() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let begin = |lab: &mut Lab, port, read| {
        let mut peer = Peer::new(port, 80);
        open(lab, &mut peer, cookie, b"hello");
        let sock = accept(lab, &listener);
        if read {
            lab.recv(&sock, 100).unwrap();
        }
        (peer, sock)
    };
    // Only writing is over: the FIN waits, what was written does not.
    let (mut peer, sock) = begin(&mut lab, 1, true);
    lab.send(&sock, b"bye");
    assert_eq!(lab.expect(PSH_ACK).payload, b"bye");
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    lab.expect_nothing();
    assert_eq!(lab.state(&sock), State::SynRecv);
    lab.segment(peer.repr(ACK), &[]);
    let fin = lab.expect(FIN_ACK);
    assert_eq!((fin.seq, lab.state(&sock)), (peer.ack + 3, State::FinWait1));
    peer.ack = fin.seq + 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    // Data that nobody read.
    let (peer, sock) = begin(&mut lab, 2, false);
    lab.close(&sock);
    assert_eq!(lab.expect(RST_ACK).seq, peer.ack);
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnClose), 1);
    lab.segment(peer.repr(ACK), &[]);
    lab.expect(RST);
    // Nobody has accepted it, and the listener closes.
    let mut peer = Peer::new(3, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    lab.stack.close_listener(&listener, lab.now);
    lab.run();
    assert_eq!(lab.expect(RST_ACK).seq, peer.ack);
    assert_eq!(counts(&lab, [Counter::TcpExtTCPAbortOnClose, Counter::TcpExtTCPAbortOnData]), [1, 0]);
}

#[test]
fn a_peer_may_end_the_handshake_with_data_or_a_fin() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    peer.data(&mut lab, b", world");
    let answer = lab.expect(ACK);
    assert_eq!((answer.ack, answer.window), (peer.seq, 64_240 - 7), "the window began behind the data of the SYN");
    let sock = accept(&lab, &listener);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"hello, world");
    let mut peer = Peer::new(40_001, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    lab.segment(peer.repr(FIN_ACK), b"abc");
    let sock = accept(&lab, &listener);
    assert_eq!(lab.state(&sock), State::CloseWait);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"helloabc");
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"");
    // A SYN with FIN is nothing.
    let peer = Peer::new(40_002, 80);
    segment(&mut lab, peer.repr(TcpFlags(SYN.0 | TcpFlags::FIN.0)), Some(cookie), b"hello");
    while let Some(sent) = lab.sent() {
        assert!(!sent.flags.syn(), "{sent:?}");
    }
    assert_eq!(lab.dropped(DropReason::TcpFlags), 1);
}

#[test]
fn a_large_answer_fills_the_initial_window_and_a_closed_window_holds_it() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    let sock = accept(&lab, &listener);
    lab.send(&sock, &[7; 15_000]);
    let sent: Vec<Sent> = std::iter::from_fn(|| lab.sent()).collect();
    assert_eq!(sent.len(), 10);
    peer.ack += 4 * 1_460;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.count(Counter::TcpExtTCPDelivered), 4);
    assert_eq!(lab.sent().map(|sent| sent.seq), Some(sent[9].seq + 1_460));
    while lab.sent().is_some() {}
    let mut peer = Peer { window: 0, ..Peer::new(40_001, 80) };
    open(&mut lab, &mut peer, cookie, b"hello");
    let sock = accept(&lab, &listener);
    lab.send(&sock, b"0123456789");
    lab.expect_nothing();
    peer.window = 1_000;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.expect(PSH_ACK).payload, b"0123456789");
}

#[test]
fn syn_cookies_go_before_and_a_full_accept_queue_drops() {
    let mut lab = Lab::with(|config| {
        config.sysctl.tcp_fastopen = 3;
        config.sysctl.tcp_syncookies = 2;
    });
    let listener = lab.listen(80, 1);
    lab.stack.set_fast_open(&listener, 50);
    let peer = Peer::new(40_000, 80);
    segment(&mut lab, peer.repr(SYN), Some(REQUEST), b"hello");
    let (answer, option) = sent(&mut lab);
    assert_eq!((answer.ack, option), (peer.seq + 1, None));
    assert_eq!(counts(&lab, [Counter::TcpExtSyncookiesSent, Counter::TcpExtTCPFastOpenCookieReqd]), [1, 0]);
    lab.stack.reconfigure(|net| {
        let mut net = net.clone();
        net.sysctl.tcp_syncookies = 1;
        net
    });
    let cookie = cookie(&mut lab);
    for port in 1..=2 {
        open(&mut lab, &mut Peer::new(port, 80), cookie, b"hello");
    }
    segment(&mut lab, Peer::new(3, 80).repr(SYN), Some(cookie), b"hello");
    lab.expect_nothing();
    assert_eq!(counts(&lab, [Counter::TcpExtListenOverflows, Counter::TcpExtListenDrops]), [1, 1]);
    assert_eq!(lab.dropped(DropReason::TcpListenOverflow), 1);
}

#[test]
fn a_deferring_listener_does_not_defer_what_opens_early() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    listener.set_defer_accept(3);
    let mut peer = Peer::new(40_000, 80);
    open(&mut lab, &mut peer, cookie, &[]);
    let sock = accept(&lab, &listener);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!((lab.state(&sock), lab.count(Counter::TcpExtTCPDeferAcceptDrop)), (State::Established, 0));
}

#[test]
fn time_wait_makes_way_for_one_that_opens_early() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    let sock = accept(&lab, &listener);
    lab.recv(&sock, 10).unwrap();
    lab.segment(peer.repr(ACK), &[]);
    lab.close(&sock);
    peer.ack = lab.expect(FIN_ACK).seq + 1;
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(ACK);
    assert_eq!(lab.count(Counter::TcpExtTW), 1);
    peer.seq += 1_000;
    let answer = open(&mut lab, &mut peer, cookie, b"again");
    let sock = accept(&lab, &listener);
    assert_eq!((lab.recv(&sock, 10).unwrap(), answer.seq + 1), (b"again".to_vec(), peer.ack));
}

#[test]
fn an_icmp_error_ends_what_nobody_has_accepted() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    for accepted in [false, true] {
        let mut peer = Peer::new(40_000 + u16::from(accepted), 80);
        segment(&mut lab, peer.repr(SYN), Some(cookie), b"hello");
        let (answer, frame) = lab.sent_as_frame().expect("the SYN-ACK");
        peer.ack = answer.seq + 1;
        let sock = accepted.then(|| accept(&lab, &listener));
        let error = icmp(wire_icmp::DEST_UNREACHABLE, wire_icmp::HOST_UNREACHABLE, 0, &frame[14..]);
        lab.put(&error.frame());
        lab.run();
        let sock = sock.unwrap_or_else(|| accept(&lab, &listener));
        assert_eq!(lab.state(&sock), if accepted { State::SynRecv } else { State::Close });
        lab.recv(&sock, 10).unwrap();
        if !accepted {
            assert!(matches!(lab.recv(&sock, 100), Err(RecvError::Failed(SockError::Unreachable))));
        }
    }
    assert_eq!(lab.count(Counter::TcpExtOutOfWindowIcmps), 0);
    assert_eq!(listener.fast_open.taken(), 1);
}

#[test]
fn options_and_ecn_are_agreed_as_ever_and_old_timestamps_are_refused() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let mut peer = Peer { stamps: Some((1_000, 0)), ..Peer::new(40_000, 80) };
    let mut syn = peer.repr(TcpFlags(SYN.0 | TcpFlags::ECE.0 | TcpFlags::CWR.0));
    syn.options =
        TcpOptions { wscale: Some(7), sack_permitted: true, timestamps: peer.stamps, ..TcpOptions::default() };
    segment(&mut lab, syn, Some(cookie), b"hello");
    let (answer, _) = sent(&mut lab);
    assert!(answer.flags.contains(TcpFlags::ECE) && answer.options.sack_permitted && answer.options.wscale.is_some());
    (peer.seq, peer.ack) = (answer.ack, answer.seq + 1);
    let sock = accept(&lab, &listener);
    {
        let sk = sock.lock.user();
        assert_eq!((sk.opts.snd_wscale, sk.opts.sack, sk.opts.timestamps, sk.ecn.ok), (7, true, true, true));
        assert_eq!(sk.tx.snd_wnd, 64_240, "a window that is not scaled");
    }
    peer.stamps = Some((500, answer.options.timestamps.expect("stamps").0));
    lab.segment(peer.repr(ACK), &[]);
    lab.expect(ACK);
    assert_eq!((lab.count(Counter::TcpExtPAWSEstab), lab.dropped(DropReason::TcpRfc7323Paws)), (1, 1));
    // Whatever it echoes.
    peer.stamps = Some((1_001, 77));
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.state(&sock), State::Established);
    assert_eq!(sock.lock.user().tx.snd_wnd, 64_240 << 7);
}

#[test]
fn three_timeouts_of_a_connection_whose_syn_had_data_pause_fast_open() {
    let (mut lab, listener) = listening(5);
    lab.stack.reconfigure(|net| {
        let mut net = net.clone();
        net.sysctl.tcp_fastopen_blackhole_timeout_sec = 6;
        net
    });
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    let sock = accept(&lab, &listener);
    lab.segment(peer.repr(ACK), &[]);
    lab.send(&sock, b"data");
    lab.wait(700);
    assert_eq!(lab.count(Counter::TcpExtTCPFastOpenBlackhole), 0);
    lab.wait(1_000);
    let counters = [Counter::TcpExtTCPFastOpenBlackhole, Counter::TcpExtTCPFastOpenActiveFail];
    assert_eq!(counts(&lab, counters), [1, 1]);
    while lab.sent().is_some() {}
}

/// As Linux 6.18 tells it.
#[test]
fn timeouts_of_the_syn_ack_are_told_of() {
    let (mut lab, listener) = listening(5);
    let cookie = cookie(&mut lab);
    let mut peer = Peer::new(40_000, 80);
    open(&mut lab, &mut peer, cookie, b"hello");
    let sock = accept(&lab, &listener);
    let told = |lab: &Lab| {
        let info = sock.lock.user().info(lab.now);
        (info.total_rto, info.total_rto_recoveries, info.total_rto_time, info.rehash)
    };
    lab.wait(1_500);
    let (timeouts, recoveries, spent, rehash) = told(&lab);
    assert_eq!((timeouts, recoveries, rehash), (1, 1, 0));
    assert!((490..=500).contains(&spent), "since the first timeout: {spent} ms");
    lab.wait(2_000);
    while lab.sent().is_some() {}
    lab.segment(peer.repr(ACK), &[]);
    lab.wait(200);
    assert_eq!(told(&lab), (2, 1, spent + 2_000, 0));
}
