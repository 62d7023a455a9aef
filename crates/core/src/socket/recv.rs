//! How the application reads (`tcp_recvmsg_locked`): own the socket, take, account, release; then copy.
//!
//! Where the kernel owns the socket while it copies, a reader here takes the packets that it reads to their ends off the
//! queue and accounts for them at once (their memory, the window, whether an ACK is due), and copies them when the socket
//! is free again: a softirq on another core is not turned away for the time of the copy. The peer cannot tell the
//! difference. Of a packet that is read in part the rest stays in the queue, so its bytes are copied while the socket is
//! owned. Each call takes a span of its own, so readers need no lock among themselves.

use event_listener::EventListener;
use rxpath_mem::{Returns, Skb, SkbQueue, UserGuard};
use rxpath_trace::{PacketId, Time};
use rxpath_wire::SeqNum;

use super::{Sock, post};
use crate::tcp::{SockError, State, TcpSock};

/// What a read found where it found no bytes.
pub enum Nothing {
    /// The peer's FIN, or the end of reading by `shutdown`.
    Eof,
    /// A pending error, now taken.
    Error(SockError),
    /// No connection yet, or none any more.
    NotConnected,
    /// Nothing to read. With the registration that was asked for.
    Empty(Option<EventListener>),
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

/// What a read took: packets to be copied, and what became of the one that was read in part.
#[must_use = "the packets must be ended by `Taken::end`"]
pub struct Taken {
    /// Packets that were read to their ends.
    packets: SkbQueue,
    /// Bytes of the first packet that were read before.
    skip: u32,
    /// Bytes of the next packet that were copied already.
    part: u32,
    /// That packet if its life is recorded, [`PacketId::NONE`] otherwise.
    part_of: PacketId,
    /// Which read of the socket this was, from 1.
    read: u32,
}

impl Taken {
    /// Copies the packets to the buffer that was given to [`Sock::take`]: the one copy between the ring and the
    /// application. Gives the bytes that were read in all.
    pub fn copy_to(&self, buf: &mut [u8]) -> usize {
        let (mut done, mut skip) = (0, self.skip as usize);
        for skb in &self.packets {
            done += skb.copy_to(skip, &mut buf[done..]);
            skip = 0;
        }
        done + self.part as usize
    }

    /// Bytes that were taken.
    pub fn len(&self) -> usize {
        let whole: usize = self.packets.iter().map(Skb::len).sum();
        whole.saturating_sub(if self.packets.is_empty() { 0 } else { self.skip as usize }) + self.part as usize
    }

    /// True if nothing was taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The emptied packets go into `returns`; gives how many. `visit` is told what was read of packets whose lives are
    /// recorded.
    pub fn end(mut self, returns: &mut Returns, mut visit: impl FnMut(ReadOf)) -> u64 {
        let (read, mut known, mut delivered) = (self.read, self.skip as usize, 0);
        while let Some(skb) = self.packets.pop_front() {
            if skb.traced() {
                visit(ReadOf { id: skb.id, bytes: skb.len().saturating_sub(known) as u32, whole: true, read });
            }
            known = 0;
            delivered += 1;
            returns.push(skb);
        }
        if self.part_of != PacketId::NONE {
            visit(ReadOf { id: self.part_of, bytes: self.part, whole: false, read });
        }
        delivered
    }
}

/// Packets that are lent to the application: their bytes are read where they lie. What they are charged stays charged, and
/// the window closed by it, until they are given back ([`Sock::give_back`]).
#[must_use = "the packets must be given back"]
pub struct Lent {
    taken: Taken,
    /// Bytes up to an urgent one, which are copied.
    copied: Vec<u8>,
    charge: u32,
    len: u32,
}

impl Lent {
    /// Nothing: the stream has ended.
    pub fn nothing() -> Lent {
        let taken = Taken { packets: SkbQueue::new(), skip: 0, part: 0, part_of: PacketId::NONE, read: 0 };
        Lent { taken, copied: Vec::new(), charge: 0, len: 0 }
    }

    /// Bytes that are lent.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True at the end of the stream.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that had to be copied.
    pub fn copied(&self) -> usize {
        self.copied.len()
    }

    /// The bytes, piece by piece, each as the device wrote it.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.taken.skip as usize;
        let whole = if self.copied.is_empty() { usize::MAX } else { 0 };
        let lie = self.taken.packets.iter().take(whole).flat_map(Skb::fragments).map(move |piece| {
            let known = skip.min(piece.len());
            skip -= known;
            &piece[known..]
        });
        std::iter::once(&self.copied[..]).chain(lie).filter(|piece| !piece.is_empty())
    }

    /// The packets, to be ended as those of a read are.
    pub(crate) fn into_taken(self) -> Taken {
        self.taken
    }
}

impl Sock {
    /// Owns the socket and lends whole packets of at most `most` bytes, or one if that has more. Before an urgent byte the
    /// bytes are copied instead.
    pub fn lend(&self, most: usize, register: bool, now: Time, rmem_max: u32) -> (Result<Lent, Nothing>, u8) {
        let mut sk = self.lock.user();
        if sk.readable() == 0 {
            let (nothing, requests) = self.took_nothing(sk, register);
            return (Err(nothing), requests);
        }
        let wanted = if sk.rx.urgent.is_set() { sk.read_to_mark(most) } else { most };
        if sk.readable() == 0 {
            let (nothing, requests) = self.only_urgent(sk, register);
            return (nothing.map(|taken| Lent { taken, copied: Vec::new(), charge: 0, len: 0 }), requests);
        }
        let (lent, ack_due) = if sk.rx.urgent.is_set() {
            let mut copied = vec![0; wanted.min(sk.readable() as usize)];
            let (taken, ack_due) = take(&mut sk, &mut copied, now, rmem_max);
            taken.copy_to(&mut copied);
            let len = copied.len() as u32;
            (Lent { taken, copied, charge: 0, len }, ack_due)
        } else {
            lend(&mut sk, wanted, now, rmem_max)
        };
        let ack = if ack_due { post::ACK } else { 0 };
        (Ok(lent), ack | self.released(sk))
    }

    /// What was lent is not charged any more; the window may open. Gives the requests that follow.
    pub fn give_back(&self, lent: &Lent) -> u8 {
        let mut sk = self.lock.user();
        sk.rx.uncharge(lent.charge);
        let ack = if sk.ack_due_after_read(lent.len) { post::ACK } else { 0 };
        ack | self.released(sk)
    }

    /// Owns the socket and takes at most `buf.len()` bytes, which must not be 0, or says why there are none. With the
    /// requests for the owner's Cpu ([`post`]). If there is nothing and `register` is set, the caller is registered as a
    /// waiter before the socket is released, so that no wake-up is lost.
    pub fn take(&self, buf: &mut [u8], register: bool, now: Time, rmem_max: u32) -> (Result<Taken, Nothing>, u8) {
        let mut sk = self.lock.user();
        if sk.readable() == 0 {
            let (nothing, requests) = self.took_nothing(sk, register);
            return (Err(nothing), requests);
        }
        let wanted = if sk.rx.urgent.is_set() { sk.read_to_mark(buf.len()) } else { buf.len() };
        if sk.readable() == 0 {
            return self.only_urgent(sk, register);
        }
        let (taken, ack_due) = take(&mut sk, &mut buf[..wanted], now, rmem_max);
        let ack = if ack_due { post::ACK } else { 0 };
        (Ok(taken), ack | self.released(sk))
    }

    /// Copies without taking anything (`MSG_PEEK`), from where the last look ended if looks move on (`SO_PEEK_OFF`). The
    /// socket is owned meanwhile. An ACK may be due as after a read.
    pub fn peek(&self, buf: &mut [u8], register: bool, now: Time, rmem_max: u32) -> (Result<usize, Nothing>, u8) {
        let mut sk = self.lock.user();
        let offset = sk.user.peek_off.unwrap_or(0);
        if sk.readable() <= offset {
            let nothing = self.nothing_to_read(&mut sk, register);
            return (Err(nothing), self.released(sk));
        }
        let (mut skip, mut done) = (read_before(&sk) + offset as usize, 0);
        let buf = match sk.rx.urgent.mark(sk.rx.copied_seq + offset) {
            None => buf,
            Some(0) if sk.rx.urgent.inline => buf,
            Some(0) if sk.readable() == offset + 1 => {
                let nothing = self.nothing_to_read(&mut sk, register);
                return (Err(nothing), self.released(sk));
            }
            Some(0) => {
                skip += 1;
                buf
            }
            Some(ahead) => {
                let most = buf.len().min(ahead as usize);
                &mut buf[..most]
            }
        };
        for skb in &sk.rx.queue {
            if skip < skb.len() {
                done += skb.copy_to(skip, &mut buf[done..]);
            }
            skip = skip.saturating_sub(skb.len());
        }
        if let Some(offset) = &mut sk.user.peek_off {
            *offset = offset.saturating_add(done as u32);
        }
        // Who only looks keeps a pace, too.
        sk.rcv_space_adjust(now, rmem_max);
        let ack = if sk.ack_due_after_read(done as u32) { post::ACK } else { 0 };
        (Ok(done), ack | self.released(sk))
    }

    /// As [`Sock::take`], of at most `len` bytes that are not to be copied (`MSG_TRUNC`).
    pub fn discard(&self, len: usize, register: bool, now: Time, rmem_max: u32) -> (Result<Taken, Nothing>, u8) {
        let mut sk = self.lock.user();
        if sk.readable() == 0 {
            let (nothing, requests) = self.took_nothing(sk, register);
            return (Err(nothing), requests);
        }
        let wanted = if sk.rx.urgent.is_set() { sk.read_to_mark(len) } else { len };
        if sk.readable() == 0 {
            return self.only_urgent(sk, register);
        }
        let (taken, ack_due) = take_len(&mut sk, wanted, now, rmem_max, |_, _, _| ());
        let ack = if ack_due { post::ACK } else { 0 };
        (Ok(taken), ack | self.released(sk))
    }

    /// There are no bytes to take, at most the end of the stream: it is met, and what is owed may be due.
    #[cold]
    fn took_nothing(&self, mut sk: UserGuard<'_, TcpSock>, register: bool) -> (Nothing, u8) {
        let nothing = self.nothing_to_read(&mut sk, register);
        if matches!(nothing, Nothing::Eof) {
            sk.rx.eat_fin();
        }
        let ack = if sk.ack_due_after_read(0) { post::ACK } else { 0 };
        (nothing, ack | self.released(sk))
    }

    /// Nothing but the urgent byte was there, and the reader has passed it: its packet is to end, or its memory would keep
    /// the window shut.
    #[cold]
    fn only_urgent(&self, mut sk: UserGuard<'_, TcpSock>, register: bool) -> (Result<Taken, Nothing>, u8) {
        let nothing = self.nothing_to_read(&mut sk, register);
        if matches!(nothing, Nothing::Eof) {
            sk.rx.eat_fin();
        }
        (Err(nothing), self.released(sk) | post::BACKLOG)
    }

    /// Lets go of the socket; gives the requests that follow.
    fn released(&self, mut guard: UserGuard<'_, TcpSock>) -> u8 {
        let untold = guard.rx.take_untold();
        self.publish_memory(&guard, untold);
        self.tell_memory(untold);
        if guard.release() { post::BACKLOG } else { 0 }
    }

    /// The order in which an empty queue is explained is the kernel's.
    fn nothing_to_read(&self, sk: &mut TcpSock, register: bool) -> Nothing {
        if sk.user.done {
            return Nothing::Eof;
        }
        if let Some(error) = sk.user.error.take() {
            return Nothing::Error(error);
        }
        if sk.user.rcv_shutdown {
            return Nothing::Eof;
        }
        if matches!(sk.state, State::Close | State::Listen) {
            return Nothing::NotConnected;
        }
        Nothing::Empty(register.then(|| {
            sk.user.wait_recv = true;
            self.recv_wait.listen()
        }))
    }
}

/// Takes what fills `buf`, and accounts for it. Says whether an ACK is due.
#[inline(always)]
fn take(sk: &mut TcpSock, buf: &mut [u8], now: Time, rmem_max: u32) -> (Taken, bool) {
    take_len(sk, buf.len(), now, rmem_max, |skb, skip, whole| {
        skb.copy_to(skip, &mut buf[whole..]);
    })
}

/// Takes at most `len` bytes. Of the packet that is read in part, `copy` is given how much of it was read before, and how
/// many bytes lie in the packets before it.
#[inline(always)]
fn take_len(
    sk: &mut TcpSock,
    len: usize,
    now: Time,
    rmem_max: u32,
    mut copy: impl FnMut(&Skb, usize, usize),
) -> (Taken, bool) {
    let skip = read_before(sk);
    let (mut whole, mut first, mut charge) = (0, None, 0);
    let packets = sk.rx.queue.split_front_while(|skb| {
        let unread = skb.len().saturating_sub(if first.is_none() { skip } else { 0 });
        let fits = unread <= len - whole;
        if fits {
            whole += unread;
            first.get_or_insert(unread);
            charge += skb.truesize;
        }
        fits
    });
    let next_skip = if packets.is_empty() { skip } else { 0 };
    let next = sk.rx.queue.front().filter(|_| whole < len);
    let (part, part_of) = next.map_or((0, PacketId::NONE), |skb| {
        let part = skb.len().saturating_sub(next_skip).min(len - whole);
        copy(skb, next_skip, whole);
        (part, if skb.traced() { skb.id } else { PacketId::NONE })
    });
    let copied = (whole + part) as u32;
    let first = first.unwrap_or(part) as u32;
    // The kernel looks at the reader's pace after each packet, of which within one call only the first can tell anything
    // new; what is still queued then counts against it.
    sk.rx.copied_seq += first;
    sk.rcv_space_adjust(now, rmem_max);
    sk.rx.copied_seq += copied - first;
    sk.user.took(copied);
    sk.user.reads = sk.user.reads.wrapping_add(1);
    sk.rx.uncharge(charge);
    // A mark at the FIN stays: none passes it by reading.
    if sk.rx.urgent.is_set() {
        sk.passed_mark();
    }
    // A FIN that has no packet's end to stand at is met by those who look for more.
    if sk.rx.fin && sk.rx.queue.is_empty() && (sk.rx.fin_charge == 0 || (copied as usize) < len) {
        sk.rx.eat_fin();
    }
    let ack_due = sk.ack_due_after_read(copied);
    (Taken { packets, skip: skip as u32, part: part as u32, part_of, read: sk.user.reads }, ack_due)
}

/// Takes whole packets off the queue, and leaves them charged.
fn lend(sk: &mut TcpSock, most: usize, now: Time, rmem_max: u32) -> (Lent, bool) {
    let skip = read_before(sk);
    let (mut len, mut first, mut charge) = (0, None, 0);
    let packets = sk.rx.queue.split_front_while(|skb| {
        let unread = skb.len().saturating_sub(if first.is_none() { skip } else { 0 });
        let fits = first.is_none() || len + unread <= most;
        if fits {
            len += unread;
            first.get_or_insert(unread);
            charge += skb.truesize;
        }
        fits
    });
    let (len, first) = (len as u32, first.unwrap_or(0) as u32);
    // As in a read: the first packet tells the reader's pace.
    sk.rx.copied_seq += first;
    sk.rcv_space_adjust(now, rmem_max);
    sk.rx.copied_seq += len - first;
    sk.user.took(len);
    sk.user.reads = sk.user.reads.wrapping_add(1);
    if sk.rx.fin && sk.rx.queue.is_empty() && sk.rx.fin_charge == 0 {
        sk.rx.eat_fin();
    }
    let taken = Taken { packets, skip: skip as u32, part: 0, part_of: PacketId::NONE, read: sk.user.reads };
    let ack_due = sk.ack_due_after_read(len);
    (Lent { taken, copied: Vec::new(), charge, len }, ack_due)
}

/// Bytes of the first packet of the queue that were read before.
fn read_before(sk: &TcpSock) -> usize {
    let first = sk.rx.queue.front().map_or(sk.rx.copied_seq, |skb| SeqNum(skb.seq));
    (sk.rx.copied_seq - first).max(0) as usize
}
