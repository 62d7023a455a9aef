//! Listeners and connections that are bound to an interface. What is expected is what Linux 6.18 did.

use std::net::SocketAddr;
use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::TcpFlags;

use super::icmp::told;
use super::lab::{ACK, FIN_ACK, Lab, PEER, Peer, SYN, US};
use crate::socket::{Listener, Sock};
use crate::stack::{BindOptions, ConnectError, ListenError, RecvError};
use crate::tcp::{SockError, SockOptions, State};

const RST_ACK: TcpFlags = TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0);

fn listen(lab: &Lab, ifindex: u16) -> Result<Arc<Listener>, ListenError> {
    let options = BindOptions { ifindex: Some(ifindex), ..BindOptions::default() };
    lab.stack.listen_with(SocketAddr::from((US, 80)), 8, options)
}

/// A connection of a listener that is bound to the first of two interfaces.
fn connected() -> (Lab, Arc<Sock>, Peer) {
    let mut lab = Lab::with_two_interfaces();
    let listener = listen(&lab, 1).expect("the port is free");
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    (lab, sock, peer)
}

fn bind(lab: &Lab, sock: &Arc<Sock>, ifindex: Option<u16>) {
    assert!(lab.stack.bind_to_interface(sock, ifindex, lab.now));
}

#[test]
fn a_listener_takes_what_comes_by_its_interface_alone() {
    let mut lab = Lab::with_two_interfaces();
    let other = listen(&lab, 2).expect("the port is free");
    lab.segment(Peer::new(40_000, 80).repr(SYN), &[]);
    lab.expect(RST_ACK);
    assert_eq!((other.requests(), lab.dropped(DropReason::NoSocket)), (0, 1));
    let listener = listen(&lab, 1).expect("of another interface");
    assert_eq!(listen(&lab, 1).err(), Some(ListenError::InUse));
    assert_eq!(lab.stack.listen(SocketAddr::from((US, 80)), 8).err(), Some(ListenError::InUse));
    assert_eq!(listen(&lab, 9).err(), Some(ListenError::NotLocal));
    let sock = Peer::new(40_000, 80).connect(&mut lab, &listener);
    let sk = sock.lock.user();
    assert_eq!((sk.ifindex, sk.route.bound_to()), (1, Some(1)), "its connections have its interface");
}

#[test]
fn a_connection_takes_what_comes_by_its_interface_alone() {
    let (mut lab, sock, mut peer) = connected();
    bind(&lab, &sock, Some(2));
    for _ in 0..2 {
        lab.segment(peer.repr(ACK), b"data");
        lab.expect(TcpFlags::RST);
    }
    assert_eq!((lab.dropped(DropReason::NoSocket), lab.count(Counter::TcpOutRsts)), (2, 2));
    assert!(matches!(lab.recv(&sock, 8), Err(RecvError::Empty(_))));
    // Neither does an error concern it that comes by another.
    lab.stack.with(&sock, 0, lab.now, |sk| sk.set_recv_errors(true));
    let seq = sock.lock.user().tx.snd_nxt;
    told(&mut lab, (3, 1, 0), (80, 40_000), seq);
    assert_eq!((lab.count(Counter::IcmpInErrors), sock.lock.user().user.error), (1, None));
    for ifindex in [Some(1), None] {
        bind(&lab, &sock, ifindex);
        peer.data(&mut lab, b"data");
        assert_eq!(lab.recv(&sock, 8).expect("it takes it"), b"data");
        while lab.sent().is_some() {}
    }
    told(&mut lab, (3, 1, 0), (80, 40_000), seq);
    assert_eq!(lab.stack.with(&sock, 0, lab.now, |sk| sk.user.error.take()), Some(SockError::Unreachable));
    assert!(!lab.stack.bind_to_interface(&sock, Some(9), lab.now), "there is no such interface");
    assert_eq!(sock.lock.user().ifindex, 0);
}

#[test]
fn what_a_connection_sends_leaves_by_its_interface() {
    let (mut lab, sock, _) = connected();
    bind(&lab, &sock, Some(2));
    lab.send(&sock, b"data");
    assert_eq!(lab.raw(), None);
    // The peer is taken to be on its link.
    let asked = lab.raw_of_second().expect("an ARP request");
    assert_eq!((&asked[12..14], &asked[38..42]), (&[8, 6][..], &PEER.octets()[..]));
    // It does so when the configuration has changed, too.
    lab.stack.reconfigure(|net| net.clone());
    lab.wait(300);
    assert_eq!(sock.lock.user().route.bound_to(), Some(2));
    assert_eq!(lab.raw(), None);
    bind(&lab, &sock, None);
    lab.wait(1_000);
    assert_eq!(lab.sent().map(|sent| sent.payload), Some(b"data".to_vec()), "it is sent again by the other one");
    while lab.sent().is_some() {}
}

#[test]
fn mini_sockets_keep_the_interface() {
    let (mut lab, sock, mut peer) = connected();
    lab.stack.shutdown_write(&sock, lab.now);
    lab.run();
    peer.ack = lab.expect(FIN_ACK).seq + 1;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.state(&sock), State::FinWait2);
    bind(&lab, &sock, Some(2));
    lab.close(&sock);
    lab.segment(peer.repr(FIN_ACK), &[]);
    lab.expect(TcpFlags::RST);
    assert_eq!(lab.dropped(DropReason::NoSocket), 1);
}

#[test]
fn who_connects_goes_by_the_interface_that_is_asked_for() {
    let mut lab = Lab::with_two_interfaces();
    let remote = SocketAddr::from((PEER, 80));
    let connect = |lab: &Lab, ifindex| {
        let options = SockOptions { ifindex: Some(ifindex), ..SockOptions::default() };
        lab.stack.connect_with(None, remote, &options, lab.now)
    };
    let sock = connect(&lab, 1).expect("a way");
    lab.run();
    lab.expect(SYN);
    let bound = lab.stack.with(&sock, 0, lab.now, |sk| (sk.ifindex, sk.route.bound_to()));
    assert_eq!(bound, (1, Some(1)));
    assert_eq!(connect(&lab, 9).err(), Some(ConnectError::NoInterface));
}
