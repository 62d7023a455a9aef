//! Local ports of connections that are opened here: which are given, and how one is taken over from TIME-WAIT.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::TcpFlags;

use super::lab::{ACK, FIN_ACK, Lab, PEER, Peer, SYN, SYN_ACK, Sent};
use crate::socket::Sock;
use crate::stack::{ConnectError, StackConfig};
use crate::sysctl::PortRange;
use crate::tcp::{SockError, State};

fn to(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(PEER), port)
}

/// A stack with one port for all connections.
fn lab(change: impl FnOnce(&mut StackConfig)) -> Lab {
    Lab::with(|config| {
        config.sysctl.ip_local_port_range = PortRange { low: 40_000, high: 40_000 };
        change(config);
    })
}

/// The peer answers a SYN of ours.
fn answer(lab: &mut Lab, syn: &Sent) -> Peer {
    let mut peer = Peer::new(syn.dport, syn.sport);
    peer.ack = syn.seq + 1;
    peer.stamps = syn.options.timestamps.map(|(tsval, _)| (7_000, tsval));
    let mut syn_ack = peer.repr(SYN_ACK);
    syn_ack.options.mss = Some(1_460);
    lab.segment(syn_ack, &[]);
    peer.seq += 1;
    lab.expect(ACK);
    peer
}

/// Opens a connection and ends it from here: what is left is FIN-WAIT-2, then TIME-WAIT. Its last segment is given, too.
fn closed(lab: &mut Lab, whole: bool) -> (Peer, Sent) {
    let sock = lab.stack.connect(to(80), lab.now).expect("a free port");
    lab.run();
    let syn = lab.expect(SYN);
    let mut peer = answer(lab, &syn);
    lab.close(&sock);
    let fin = lab.expect(FIN_ACK);
    peer.ack = fin.seq + 1;
    peer.note(&fin);
    lab.segment(peer.repr(ACK), &[]);
    if !whole {
        return (peer, fin);
    }
    lab.segment(peer.repr(FIN_ACK), &[]);
    peer.seq += 1;
    let last = lab.expect(ACK);
    (peer, last)
}

fn again(lab: &mut Lab) -> Result<Arc<Sock>, ConnectError> {
    let sock = lab.stack.connect(to(80), lab.now);
    lab.run();
    sock
}

#[test]
fn a_port_is_taken_over_from_time_wait_and_its_numbers_go_on() {
    let mut lab = lab(|config| config.sysctl.tcp_tw_reuse = 1);
    let (_, last) = closed(&mut lab, true);
    lab.wait(999);
    assert_eq!(again(&mut lab).err(), Some(ConnectError::NoPort));
    lab.wait(1);
    let sock = again(&mut lab).expect("TIME-WAIT makes way");
    let syn = lab.expect(SYN);
    assert_eq!((syn.sport, syn.seq), (40_000, last.seq + 65_537));
    let (tsval, tsecr) = syn.options.timestamps.expect("timestamps");
    let (before, _) = last.options.timestamps.expect("timestamps");
    assert_eq!((tsval.wrapping_sub(before), tsecr), (1_000, 7_000), "both go on, the peer's is echoed");
    assert_eq!((lab.count(Counter::TcpExtTWRecycled), lab.stack.bound_connections()), (1, 1));
    assert!(lab.stack.proc_sockstat().contains(" tw 0 "), "{}", lab.stack.proc_sockstat());
    answer(&mut lab, &syn);
    lab.wait(61_000);
    assert_eq!(lab.state(&sock), State::Established, "the timer of TIME-WAIT is nobody's");
    lab.stack.abort(&sock, lab.now);
    lab.run();
    assert_eq!(lab.stack.bound_connections(), 0);
    while lab.sent().is_some() {}
}

#[test]
fn time_wait_keeps_its_port_where_it_is_not_to_be_taken() {
    for mode in [0, 2] {
        let mut lab = lab(|config| config.sysctl.tcp_tw_reuse = mode);
        closed(&mut lab, true);
        lab.wait(59_000);
        assert_eq!(again(&mut lab).err(), Some(ConnectError::NoPort));
        lab.wait(2_000);
        assert!(again(&mut lab).is_ok(), "it is over");
        assert_ne!(lab.expect(SYN).options.timestamps.map(|(_, tsecr)| tsecr), Some(7_000));
        assert_eq!(lab.count(Counter::TcpExtTWRecycled), 0);
    }
}

#[test]
fn an_orphan_that_waits_for_a_fin_makes_way_for_who_names_its_port() {
    let mut lab = lab(|config| config.sysctl.tcp_tw_reuse = 1);
    let named = |lab: &mut Lab| {
        let sock = lab.stack.connect_from(Some(50_000), to(80), lab.now);
        lab.run();
        sock
    };
    let sock = named(&mut lab).expect("a free port");
    let syn = lab.expect(SYN);
    let mut peer = answer(&mut lab, &syn);
    assert_eq!(named(&mut lab).err(), Some(ConnectError::NoPort), "it stands");
    lab.close(&sock);
    let fin = lab.expect(FIN_ACK);
    peer.ack = fin.seq + 1;
    lab.segment(peer.repr(ACK), &[]);
    named(&mut lab).expect("FIN-WAIT-2 makes way");
    assert_eq!(lab.expect(SYN).seq, fin.seq + 1 + 65_537);
    assert_eq!(lab.count(Counter::TcpExtTWRecycled), 1);
    // One that was given its port waits, and it begins to count when the FIN has come.
    let (mut peer, _) = closed(&mut lab, false);
    lab.wait(1_500);
    while lab.sent().is_some() {}
    assert_eq!(again(&mut lab).err(), Some(ConnectError::NoPort));
    lab.segment(peer.repr(FIN_ACK), &[]);
    peer.seq += 1;
    lab.expect(ACK);
    lab.wait(900);
    assert_eq!(again(&mut lab).err(), Some(ConnectError::NoPort));
    lab.wait(100);
    assert!(again(&mut lab).is_ok());
    while lab.sent().is_some() {}
}

#[test]
fn a_port_that_was_given_is_not_named() {
    let mut lab = lab(|_| {});
    again(&mut lab).expect("a free port");
    lab.expect(SYN);
    assert_eq!(again(&mut lab).err(), Some(ConnectError::NoPort));
    let taken = lab.stack.connect_from(Some(40_000), to(81), lab.now);
    assert_eq!(taken.err(), Some(ConnectError::PortInUse));
    let other = lab.stack.connect(to(81), lab.now).expect("towards another place the port is free");
    lab.run();
    assert_eq!(lab.expect(SYN).sport, 40_000);
    assert_eq!(lab.stack.bound_connections(), 2);
    lab.close(&other);
    assert_eq!(lab.stack.bound_connections(), 1);
}

#[test]
fn a_connection_that_the_peer_has_opened_is_not_opened_again() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    lab.stack.close_listener(&listener, lab.now);
    let second = lab.stack.connect_from(Some(80), to(40_000), lab.now).expect("nobody listens there any more");
    lab.run();
    lab.expect_nothing();
    assert_eq!(lab.stack.connected(&second, false, lab.now).0, Some(Err(SockError::NotAvailable)));
    assert_eq!((lab.stack.bound_connections(), lab.count(Counter::TcpActiveOpens)), (0, 0));
    peer.data(&mut lab, b"still there");
    assert_eq!(lab.recv(&sock, 100).expect("the first one is as it was"), b"still there");
    lab.expect(ACK);
}

#[test]
fn a_reset_does_not_end_time_wait_where_rfc_1337_is_obeyed() {
    for (obeyed, left) in [(false, 0), (true, 1)] {
        let mut lab = lab(|config| config.sysctl.tcp_rfc1337 = obeyed);
        let (peer, _) = closed(&mut lab, true);
        lab.wait(2_000);
        lab.segment(peer.repr(TcpFlags::RST), &[]);
        lab.expect_nothing();
        assert_eq!(lab.stack.sockets(lab.now).len(), left);
        assert_eq!(lab.stack.bound_connections(), left);
        // The reset did not make it wait any longer.
        lab.wait(58_000);
        assert_eq!(lab.stack.sockets(lab.now).len(), 0);
    }
}
