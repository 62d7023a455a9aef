//! Readers that poll the queue of their socket.

use std::sync::Arc;

use rxpath_trace::Counter;

use super::lab::{Lab, PSH_ACK, Peer};
use crate::nic::MIN_NAPI_ID;
use crate::socket::Sock;
use crate::stack::RecvError;
use crate::udp::tests::{bind, put, to_port};

fn connection() -> (Lab, Peer, Arc<Sock>) {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    (lab, peer, sock)
}

fn next_frame(lab: &mut Lab, peer: &mut Peer) -> Vec<u8> {
    let frame = lab.frame(peer.repr(PSH_ACK), b"ten bytes.");
    peer.seq += 10;
    frame
}

fn read(lab: &mut Lab, sock: &Arc<Sock>) -> usize {
    match lab.recv(sock, 1_000) {
        Ok(bytes) => bytes.len(),
        Err(RecvError::Empty(_)) => 0,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn sockets_know_the_queue_that_their_packets_come_by() {
    let (mut lab, _, sock) = connection();
    assert_eq!(sock.lock.user().rx.napi_id, MIN_NAPI_ID, "the third segment of the handshake came by the first queue");
    assert_eq!(lab.stack.napi_ids().collect::<Vec<_>>(), [MIN_NAPI_ID]);
    let udp = bind(&lab, super::lab::US, 7);
    assert_eq!(udp.rx.napi_id(), 0);
    put(&mut lab, &to_port(7, b"x"));
    assert_eq!(udp.rx.napi_id(), MIN_NAPI_ID);
    assert!(lab.stack.busy_queue(0, true).is_none() && lab.stack.busy_queue(MIN_NAPI_ID + 1, true).is_none());
}

#[test]
fn a_reader_takes_what_no_interrupt_has_told_of() {
    let (mut lab, mut peer, sock) = connection();
    for _ in 0..10 {
        let frame = next_frame(&mut lab, &mut peer);
        lab.put_quietly(&frame);
    }
    lab.run();
    assert_eq!(read(&mut lab, &sock), 0, "nobody knows of them");
    let now = lab.now;
    let mut queue = lab.stack.busy_queue(MIN_NAPI_ID, false).expect("the queue");
    assert_eq!(queue.poll(8, &mut || now), Some(8));
    assert_eq!(lab.count(Counter::TcpExtBusyPollRxPackets), 8);
    let first = read(&mut lab, &sock);
    assert!((80..=100).contains(&first), "{first} bytes");
    // What the budget left, the softirq takes.
    lab.run();
    assert_eq!(first + read(&mut lab, &sock), 100);
    assert_eq!((lab.count(Counter::TcpExtBusyPollRxPackets), queue.poll(8, &mut || now)), (8, Some(0)));
    // The interrupt is as before.
    let frame = next_frame(&mut lab, &mut peer);
    lab.put(&frame);
    lab.run();
    assert_eq!(read(&mut lab, &sock), 10);
    while lab.sent().is_some() {}
}

#[test]
fn an_interrupt_that_came_first_is_the_softirqs() {
    let (mut lab, mut peer, sock) = connection();
    let frame = next_frame(&mut lab, &mut peer);
    lab.put(&frame);
    let now = lab.now;
    let mut queue = lab.stack.busy_queue(MIN_NAPI_ID, true).expect("the queue");
    assert_eq!(queue.poll(8, &mut || now), Some(1));
    assert_eq!((read(&mut lab, &sock), lab.count(Counter::TcpExtBusyPollRxPackets)), (10, 0));
    while lab.sent().is_some() {}
}

#[test]
fn who_prefers_to_poll_is_not_interrupted() {
    let (mut lab, mut peer, sock) = connection();
    let now = lab.now;
    let mut queue = lab.stack.busy_queue(MIN_NAPI_ID, true).expect("the queue");
    let frame = next_frame(&mut lab, &mut peer);
    lab.put(&frame);
    lab.run();
    assert_eq!(read(&mut lab, &sock), 0, "the line is masked");
    assert_eq!(queue.poll(8, &mut || now), Some(1));
    assert_eq!((read(&mut lab, &sock), lab.count(Counter::TcpExtBusyPollRxPackets)), (10, 1));
    // What comes when he leaves is not lost.
    let frame = next_frame(&mut lab, &mut peer);
    lab.put(&frame);
    drop(queue);
    lab.run();
    assert_eq!(read(&mut lab, &sock), 10);
    let queue = lab.stack.busy_queue(MIN_NAPI_ID, true).expect("the queue");
    let frame = next_frame(&mut lab, &mut peer);
    lab.put_quietly(&frame);
    drop(queue);
    lab.run();
    assert_eq!((read(&mut lab, &sock), lab.count(Counter::TcpExtBusyPollRxPackets)), (10, 1));
    while lab.sent().is_some() {}
}
