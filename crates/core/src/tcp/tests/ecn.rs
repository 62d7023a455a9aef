//! Explicit congestion notification: who agrees to it, what is marked, what a mark does on either side. The expectations
//! are what Linux 6.18 does.

use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::{SeqNum, TcpFlags, TcpOptions};

use super::lab::{ACK, Lab, PSH_ACK, Peer, SYN, SYN_ACK, Sent};
use crate::socket::Sock;
use crate::stack::StackConfig;
use crate::tcp::{CaState, State};

const ECE: TcpFlags = TcpFlags::ECE;
const CWR: TcpFlags = TcpFlags::CWR;
const ECT0: u8 = 2;
const CE: u8 = 3;
const MSS: u32 = 1_460;

fn with(flags: TcpFlags, more: TcpFlags) -> TcpFlags {
    TcpFlags(flags.0 | more.0)
}

fn asking() -> TcpFlags {
    TcpFlags(SYN.0 | ECE.0 | CWR.0)
}

fn tcp_ecn(mode: u8) -> impl FnOnce(&mut StackConfig) {
    move |config| config.sysctl.tcp_ecn = mode
}

/// The answer to a SYN with these flags and this type of service.
fn answer(mode: u8, flags: TcpFlags, tos: u8) -> Sent {
    let mut lab = Lab::with(tcp_ecn(mode));
    let _listener = lab.listen(80, 8);
    lab.tos = tos;
    lab.segment(Peer::new(40_000, 80).repr(flags), &[]);
    lab.sent().expect("a SYN-ACK")
}

#[test]
fn a_listener_agrees_with_one_bit_unless_it_is_told_not_to() {
    for (mode, flags, tos, agrees) in [
        (0, asking(), 0, false),
        (1, asking(), 0, true),
        (2, asking(), 0, true),
        (2, asking(), ECT0, false),
        (2, asking(), CE, false),
        (2, with(SYN, ECE), 0, false),
        (2, SYN, 0, false),
    ] {
        let answer = answer(mode, flags, tos);
        let expected = if agrees { with(SYN_ACK, ECE) } else { SYN_ACK };
        assert_eq!((answer.flags, answer.tos), (expected, 0), "{mode} {flags:?} {tos}");
    }
}

/// A connection that the peer opened and that is capable, whose first segments are behind it.
struct Pair {
    lab: Lab,
    sock: Arc<Sock>,
    peer: Peer,
}

impl Pair {
    fn new() -> Pair {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        let mut peer = Peer { sack: true, ..Peer::new(40_000, 80) };
        let mut syn = peer.repr(asking());
        syn.options = TcpOptions { mss: Some(MSS as u16), sack_permitted: true, ..TcpOptions::default() };
        lab.segment(syn, &[]);
        let answer = lab.expect(with(SYN_ACK, ECE));
        peer.seq += 1;
        peer.ack = answer.seq + 1;
        lab.wait(40);
        lab.segment(peer.repr(ACK), &[]);
        let sock = lab.stack.accept(&listener).expect("the handshake is complete");
        Pair { lab, sock, peer }
    }

    /// The peer sends 100 bytes marked so, and the stack's segments until now and 50 ms later are given.
    fn data(&mut self, tos: u8, flags: TcpFlags) -> Vec<Sent> {
        self.lab.tos = tos;
        self.lab.segment(self.peer.repr(flags), &[1; 100]);
        self.peer.seq += 100;
        self.answers()
    }

    fn answers(&mut self) -> Vec<Sent> {
        self.lab.wait(50);
        std::iter::from_fn(|| self.lab.sent()).collect()
    }

    /// Whether the answer to that data tells of a mark.
    fn echo(&mut self, tos: u8, flags: TcpFlags) -> bool {
        let answers = self.data(tos, flags);
        assert!(answers.len() == 1 && answers[0].tos == 0, "one ACK, which is not capable: {answers:?}");
        answers[0].flags.contains(ECE)
    }

    /// The peer acknowledges so many segments.
    fn ack(&mut self, segments: u32, flags: TcpFlags) -> Vec<Sent> {
        self.lab.tos = 0;
        self.peer.ack += segments * MSS;
        self.lab.segment(self.peer.repr(flags), &[]);
        std::iter::from_fn(|| self.lab.sent()).collect()
    }

    fn state(&self) -> (CaState, u32) {
        let sk = self.sock.lock.user();
        (sk.cong.state, sk.cong.cwnd)
    }
}

#[test]
fn a_mark_is_echoed_until_the_peer_has_slowed_down() {
    let mut pair = Pair::new();
    assert!(!pair.echo(ECT0, PSH_ACK));
    assert!(pair.echo(CE, PSH_ACK));
    assert!(pair.echo(ECT0, PSH_ACK), "until CWR");
    assert!(!pair.echo(ECT0, with(PSH_ACK, CWR)));
    assert!(pair.echo(CE, with(PSH_ACK, CWR)), "a new mark on the very segment");
    pair.lab.segment(pair.peer.repr(with(ACK, CWR)), &[]);
    assert!(pair.answers().is_empty());
    assert!(!pair.echo(ECT0, PSH_ACK), "a bare ACK may say so, too");
    // Measured on Linux 6.18: who acknowledges what was never sent is not believed this either.
    assert!(pair.echo(CE, PSH_ACK));
    pair.peer.ack += 3_000;
    pair.lab.segment(pair.peer.repr(with(ACK, CWR)), &[1; 10]);
    assert!(pair.answers().iter().all(|one| one.flags.contains(ECE)));
    pair.peer.ack -= 3_000;
    assert!(pair.echo(ECT0, PSH_ACK));
    assert!(!pair.echo(ECT0, with(PSH_ACK, CWR)));
    // Nor is one who acknowledges less than before.
    assert_eq!(pair.lab.send(&pair.sock, &[2; MSS as usize]), MSS as usize);
    pair.ack(1, ACK);
    assert!(pair.echo(CE, PSH_ACK));
    for (ahead, len) in [(0, 0), (0, 10), (500, 0), (500, 10)] {
        let mut old = pair.peer.repr(with(ACK, CWR));
        old.seq += ahead;
        old.ack -= 500;
        pair.lab.segment(old, &vec![1; len]);
        pair.peer.seq += if ahead == 0 { len as u32 } else { 0 };
        assert!(pair.answers().iter().all(|one| one.flags.contains(ECE)), "{ahead} {len}");
        assert!(pair.data(ECT0, PSH_ACK).iter().all(|one| one.flags.contains(ECE)), "{ahead} {len}");
    }
    let ce = pair.lab.count(Counter::IpExtInCEPkts);
    assert!(ce >= 2 && pair.lab.count(Counter::IpExtInECT0Pkts) >= 4, "{ce}");
}

#[test]
fn only_data_that_is_new_can_be_marked() {
    let mut pair = Pair::new();
    assert!(!pair.echo(ECT0, PSH_ACK));
    pair.lab.tos = CE;
    pair.lab.segment(pair.peer.repr(ACK), &[]);
    pair.peer.data_at(&mut pair.lab, -100, &[1; 100]);
    let answers = pair.answers();
    assert!(answers.iter().all(|sent| !sent.flags.contains(ECE)), "{answers:?}");
    pair.peer.data_at(&mut pair.lab, 200, &[1; 100]);
    let answers = pair.answers();
    assert!(answers.iter().all(|sent| sent.flags.contains(ECE)) && !answers.is_empty(), "out of order: {answers:?}");
}

#[test]
fn marks_mean_nothing_where_nobody_agreed() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.tos = CE;
    peer.data(&mut lab, &[1; 100]);
    lab.wait(50);
    assert_eq!(lab.expect(ACK).tos, 0);
    lab.segment(peer.repr(with(ACK, ECE)), &[]);
    assert_eq!(lab.send(&sock, &[2; 100]), 100);
    assert_eq!(lab.expect(PSH_ACK).tos, 0);
    assert_eq!(lab.count(Counter::TcpExtTCPDeliveredCE), 0);
}

#[test]
fn an_echo_cuts_the_window_once_in_a_round_trip_and_new_data_says_so() {
    let mut pair = Pair::new();
    assert_eq!(pair.lab.send(&pair.sock, &vec![3; (20 * MSS) as usize]), (20 * MSS) as usize);
    let sent = pair.answers();
    // The tail loss probe may be among them, which is new data, too.
    assert!(sent.len() >= 10 && sent.iter().all(|one| one.tos == ECT0), "{sent:?}");
    let out = sent.len() as u32;
    pair.ack(1, ACK);
    let before = pair.state().1;
    let next = pair.ack(1, with(ACK, ECE));
    assert_eq!(pair.state().0, CaState::Cwr);
    let cut = before * 717 / 1_024;
    assert_eq!(pair.sock.lock.user().cong.ssthresh, cut, "as for a loss");
    assert_eq!(pair.lab.count(Counter::TcpExtTCPDeliveredCE), 1);
    let mut told: Vec<Sent> = next;
    for _ in 2..out {
        told.extend(pair.ack(1, with(ACK, ECE)));
    }
    let cwr: Vec<bool> = told.iter().map(|one| one.flags.contains(CWR)).collect();
    assert!(cwr.len() > 1 && cwr[0] && !cwr[1..].contains(&true), "once: {cwr:?}");
    assert_eq!(pair.sock.lock.user().cong.ssthresh, cut, "the echoes of one round trip are one");
    let rest = (pair.sock.lock.user().tx.snd_nxt - pair.peer.ack) as u32 / MSS;
    pair.ack(rest, ACK);
    assert_eq!(pair.state().0, CaState::Open);
    assert_eq!(pair.sock.lock.user().loss.total_retrans, 0);
}

#[test]
fn what_is_sent_again_is_not_capable_and_the_next_new_data_tells_of_the_timeout() {
    let mut pair = Pair::new();
    assert_eq!(pair.lab.send(&pair.sock, &[4; 100]), 100);
    assert_eq!(pair.lab.sent().map(|one| one.tos), Some(ECT0));
    pair.lab.wait(2_000);
    let again: Vec<Sent> = std::iter::from_fn(|| pair.lab.sent()).collect();
    assert!(!again.is_empty() && again.iter().all(|one| one.tos == 0 && !one.flags.contains(CWR)), "{again:?}");
    pair.lab.tos = 0;
    pair.peer.ack += 100;
    pair.lab.segment(pair.peer.repr(ACK), &[]);
    assert_eq!(pair.lab.send(&pair.sock, &[4; 100]), 100);
    let new = pair.lab.sent().expect("new data");
    assert_eq!((new.tos, new.flags), (ECT0, with(PSH_ACK, CWR)));
}

/// Opens a connection from here; the peer answers the SYN that comes after `wait_ms` with these flags.
fn open(fallback: bool, wait_ms: u64, flags: TcpFlags) -> (Vec<TcpFlags>, u8) {
    let mut lab = Lab::with(|config| {
        config.sysctl.tcp_ecn = 1;
        config.sysctl.tcp_ecn_fallback = fallback;
    });
    let peer = std::net::SocketAddr::from((super::lab::PEER, 5_000));
    let sock = lab.stack.connect(peer, lab.now).expect("a way");
    lab.run();
    lab.wait(wait_ms);
    let syns: Vec<Sent> = std::iter::from_fn(|| lab.sent()).collect();
    let mut peer = Peer::new(5_000, syns[0].sport);
    peer.ack = syns[0].seq + 1;
    lab.segment(peer.repr(flags), &[]);
    assert_eq!(lab.state(&sock), State::Established);
    assert_eq!(lab.expect(ACK).tos, 0);
    assert_eq!(lab.send(&sock, &[5; 10]), 10);
    let tos = lab.sent().expect("data").tos;
    (syns.iter().map(|syn| syn.flags).collect(), tos)
}

#[test]
fn who_opens_asks_in_the_first_syn_and_takes_one_bit_for_an_answer() {
    assert_eq!(open(true, 0, with(SYN_ACK, ECE)), (vec![asking()], ECT0));
    assert_eq!(open(true, 0, SYN_ACK), (vec![asking()], 0));
    assert_eq!(open(true, 0, TcpFlags(SYN_ACK.0 | ECE.0 | CWR.0)), (vec![asking()], 0), "an echo is no answer");
    assert_eq!(open(true, 1_100, with(SYN_ACK, ECE)), (vec![asking(), SYN], ECT0), "the second SYN is plain");
    assert_eq!(open(false, 1_100, with(SYN_ACK, ECE)), (vec![asking(), asking()], ECT0));
}

#[test]
fn a_cookie_remembers_it_where_timestamps_are_in_use() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_syncookies = 2);
    let listener = lab.listen(80, 8);
    for (port, stamps, agreed) in [(40_000, Some((77, 0)), true), (40_001, None, false)] {
        let mut peer = Peer { stamps, ..Peer::new(port, 80) };
        lab.segment(peer.repr(asking()), &[]);
        let answer = lab.expect(if agreed { with(SYN_ACK, ECE) } else { SYN_ACK });
        peer.seq = SeqNum(1_001);
        peer.ack = answer.seq + 1;
        peer.note(&answer);
        lab.segment(peer.repr(ACK), &[]);
        let sock = lab.stack.accept(&listener).expect("the cookie is good");
        assert_eq!(sock.lock.user().ecn.ok, agreed);
    }
}
