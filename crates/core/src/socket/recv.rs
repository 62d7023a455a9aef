//! How the application reads (`tcp_recvmsg_locked`), in steps: own, take, copy, account, release.
//!
//! Where the kernel owns the socket while it copies, a reader here takes the packets that it will copy while it owns
//! the socket, copies them unowned, and then owns it again to account for them and to see whether an ACK or a window
//! update is due. The peer cannot tell the difference; a softirq on another core is not turned away for the time of
//! the copy. Between the steps anything may happen; readers are serialised among themselves.

use std::sync::PoisonError;

use event_listener::EventListener;
use rxpath_mem::{Returns, SkbQueue};
use rxpath_trace::{PacketId, Time};
use rxpath_wire::SeqNum;

use super::{Sock, post};
use crate::tcp::{SockError, State, TcpSock};

/// What the first step of a read found.
pub enum ReadStep {
    /// Packets to copy from.
    Data(Taken),
    /// The peer's FIN, or the end of reading by `shutdown`.
    Eof,
    /// A pending error, now taken.
    Error(SockError),
    /// No connection yet, or none any more.
    NotConnected,
    /// Nothing to read. With the registration that was asked for.
    Empty(Option<EventListener>),
}

/// Packets taken off a receive queue, to be copied from without owning the socket.
#[must_use = "what was taken must be accounted for by `Reader::finish`"]
pub struct Taken {
    packets: SkbQueue,
    /// Bytes of the first packet that were read before.
    skip: usize,
    /// Bytes to copy.
    len: usize,
}

impl Taken {
    /// Bytes to copy.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the bytes: the one copy between the ring and the application.
    pub fn copy_to(&self, buf: &mut [u8]) -> usize {
        let (mut done, mut skip) = (0, self.skip);
        let wanted = self.len.min(buf.len());
        for skb in &self.packets {
            if done == wanted {
                break;
            }
            done += skb.copy_to(skip, &mut buf[done..wanted]);
            skip = 0;
        }
        done
    }
}

/// What one read took of a packet whose life is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOf {
    /// The packet.
    pub id: PacketId,
    /// Bytes that were taken of it.
    pub bytes: u32,
    /// Nothing is left of it.
    pub whole: bool,
    /// Which read of the socket it was, from 1.
    pub read: u32,
}

/// The reading side of one call: serialises readers and gathers what the call must see to afterwards.
pub struct Reader<'a> {
    sock: &'a Sock,
    _alone: std::sync::MutexGuard<'a, ()>,
    /// Requests for the owner's Cpu ([`post`]).
    pub post: u8,
    /// Packets that were delivered whole.
    pub delivered: u64,
}

impl<'a> Reader<'a> {
    /// Becomes the one reader of `sock`.
    pub fn of(sock: &'a Sock) -> Reader<'a> {
        let alone = sock.readers.lock().unwrap_or_else(PoisonError::into_inner);
        Reader { sock, _alone: alone, post: 0, delivered: 0 }
    }

    fn released(&mut self, guard: rxpath_mem::UserGuard<'_, TcpSock>) {
        self.sock.publish_memory(&guard);
        if guard.release() {
            self.post |= post::BACKLOG;
        }
    }

    /// Owns the socket and takes what covers `want` bytes. If there is nothing and `register` is set, the caller is
    /// registered as a waiter before the socket is released, so that no wake-up is lost.
    pub fn take(&mut self, want: usize, register: bool) -> ReadStep {
        let mut sk = self.sock.lock.user();
        let readable = sk.readable() as usize;
        let step = if readable > 0 {
            let first = sk.rx.queue.front().map_or(sk.rx.copied_seq, |skb| SeqNum(skb.seq));
            let skip = (sk.rx.copied_seq - first).max(0) as usize;
            let packets = sk.rx.queue.split_front_bytes(want.saturating_add(skip));
            let len = packets.bytes().saturating_sub(skip).min(want);
            ReadStep::Data(Taken { packets, skip, len })
        } else {
            self.nothing_to_read(&mut sk, register)
        };
        self.released(sk);
        step
    }

    /// Copies without taking anything (`MSG_PEEK`). The socket is owned meanwhile.
    pub fn peek(&mut self, buf: &mut [u8], register: bool) -> Result<usize, ReadStep> {
        let mut sk = self.sock.lock.user();
        if sk.readable() == 0 {
            let step = self.nothing_to_read(&mut sk, register);
            self.released(sk);
            return Err(step);
        }
        let first = sk.rx.queue.front().map_or(sk.rx.copied_seq, |skb| SeqNum(skb.seq));
        let (mut skip, mut done) = ((sk.rx.copied_seq - first).max(0) as usize, 0);
        for skb in &sk.rx.queue {
            done += skb.copy_to(skip, &mut buf[done..]);
            skip = 0;
        }
        self.released(sk);
        Ok(done)
    }

    /// The order in which an empty queue is explained is the kernel's.
    fn nothing_to_read(&self, sk: &mut TcpSock, register: bool) -> ReadStep {
        if sk.user.done {
            sk.rx.fin_queued = false;
            return ReadStep::Eof;
        }
        if let Some(error) = sk.user.error.take() {
            return ReadStep::Error(error);
        }
        if sk.user.rcv_shutdown {
            sk.rx.fin_queued = false;
            return ReadStep::Eof;
        }
        if matches!(sk.state, State::Close | State::Listen) {
            return ReadStep::NotConnected;
        }
        ReadStep::Empty(register.then(|| {
            sk.user.wait_recv = true;
            self.sock.recv_wait.listen()
        }))
    }

    /// Owns the socket again and accounts for the bytes that were copied (`taken.len()` or fewer): memory is given
    /// back, the rest of the last packet goes back to the queue, and an ACK may be due. The emptied packets go into
    /// `returns`; `visit` is told what was read of those packets whose lives are recorded.
    pub fn finish(
        &mut self,
        taken: Taken,
        copied: usize,
        now: Time,
        rmem_max: u32,
        returns: &mut Returns,
        mut visit: impl FnMut(ReadOf),
    ) {
        let Taken { mut packets, skip, len } = taken;
        let copied = copied.min(len);
        let first = packets.front().map_or(0, |skb| skb.len().saturating_sub(skip)).min(copied);
        let mut left = copied + skip;
        let mut charge = 0u32;
        let mut rest = SkbQueue::new();
        let mut freed = SkbQueue::new();
        let mut part = None;
        while let Some(skb) = packets.pop_front() {
            let bytes = skb.len();
            if left < bytes {
                let read = left - if freed.is_empty() { skip.min(left) } else { 0 };
                if skb.traced() && read > 0 {
                    part = Some((skb.id, read as u32));
                }
                rest.push_back(skb);
                left = 0;
                continue;
            }
            left -= bytes;
            charge += skb.truesize;
            freed.push_back(skb);
        }
        let mut sk = self.sock.lock.user();
        // The kernel looks at the reader's pace after each packet, of which within one call only the first can tell
        // anything new; what is still queued then counts against it.
        sk.rx.copied_seq += first as u32;
        sk.rcv_space_adjust(now, rmem_max);
        sk.rx.copied_seq += (copied - first) as u32;
        sk.user.delivered += copied as u64;
        sk.user.reads = sk.user.reads.wrapping_add(1);
        let read = sk.user.reads;
        sk.rx.uncharge(charge);
        put_back(&mut sk, rest);
        if sk.ack_due_after_read(copied as u32) {
            self.post |= post::ACK;
        }
        self.released(sk);
        let mut known = skip;
        while let Some(skb) = freed.pop_front() {
            if skb.traced() {
                visit(ReadOf { id: skb.id, bytes: skb.len().saturating_sub(known) as u32, whole: true, read });
            }
            known = 0;
            self.delivered += 1;
            returns.push(skb);
        }
        if let Some((id, bytes)) = part {
            visit(ReadOf { id, bytes, whole: false, read });
        }
    }
}

/// What was taken and not read goes back in front of what came meanwhile.
fn put_back(sk: &mut TcpSock, mut rest: SkbQueue) {
    if !rest.is_empty() {
        rest.append(&mut sk.rx.queue);
        sk.rx.queue = rest;
    }
}
