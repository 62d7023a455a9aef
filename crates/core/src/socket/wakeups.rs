//! Whom to wake once all locks are released.

use std::sync::Arc;

use super::{Listener, Sock, WaitQueue};
use crate::demux::tap::Tap;
use crate::netfilter::PacketQueue;

/// Whom to wake when the locks are released.
#[derive(Default)]
pub struct Wakeups {
    readers: Vec<Arc<Sock>>,
    writers: Vec<Arc<Sock>>,
    acceptors: Vec<Arc<Listener>>,
    taps: Vec<Arc<Tap>>,
    deciders: Vec<Arc<PacketQueue>>,
    queues: Vec<Arc<WaitQueue>>,
}

impl Wakeups {
    /// The readers of a socket.
    pub fn reader(&mut self, sock: &Arc<Sock>) {
        self.readers.push(Arc::clone(sock));
    }

    /// The writers of a socket.
    pub fn writer(&mut self, sock: &Arc<Sock>) {
        self.writers.push(Arc::clone(sock));
    }

    /// Those who accept on a listener.
    pub fn acceptor(&mut self, listener: &Arc<Listener>) {
        self.acceptors.push(Arc::clone(listener));
    }

    /// The readers of a tap.
    pub fn tap(&mut self, tap: &Arc<Tap>) {
        self.taps.push(Arc::clone(tap));
    }

    /// Who listens to a netfilter queue.
    pub fn decider(&mut self, queue: &Arc<PacketQueue>) {
        self.deciders.push(Arc::clone(queue));
    }

    /// Those who wait at a datagram socket.
    pub fn queue(&mut self, queue: &Arc<WaitQueue>) {
        self.queues.push(Arc::clone(queue));
    }

    /// True if nobody is to be woken.
    pub fn is_empty(&self) -> bool {
        let sockets = self.readers.is_empty() && self.writers.is_empty() && self.acceptors.is_empty();
        sockets && self.taps.is_empty() && self.deciders.is_empty() && self.queues.is_empty()
    }

    /// Wakes them all.
    pub fn deliver(&mut self) {
        for sock in self.readers.drain(..) {
            sock.recv_wait.wake_all();
        }
        for sock in self.writers.drain(..) {
            sock.send_wait.wake_all();
        }
        for listener in self.acceptors.drain(..) {
            listener.wait.wake_all();
        }
        for tap in self.taps.drain(..) {
            tap.wake();
        }
        for queue in self.deciders.drain(..) {
            queue.wake();
        }
        for queue in self.queues.drain(..) {
            queue.wake_all();
        }
    }
}
