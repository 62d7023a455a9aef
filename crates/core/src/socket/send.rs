//! How the application writes (`tcp_sendmsg_locked`): bytes go into the send buffer, the owner's Cpu sends them.

use std::sync::Arc;

use event_listener::EventListener;

use super::{Lending, Notices, Payload, Sock, ZerocopyNotice, post};
use crate::tcp::{Ending, SockError, State, TcpSock};

/// Which part of the application's call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What it begins with. With `register`, who finds no room is woken once there is.
    First {
        /// Whether.
        register: bool,
    },
    /// What there was no room for before.
    Rest,
}

/// What became of a write.
pub enum WriteStep {
    /// So many bytes were taken.
    Taken(usize),
    /// The buffer is full, or the handshake is not done. With the registration that was asked for.
    Full(Option<EventListener>),
    /// A pending error, now taken.
    Error(SockError),
    /// The connection takes no more bytes (`EPIPE`).
    Closed,
    /// Too many calls lent their memory and were not told of, or nobody reads the notices (`ENOBUFS`).
    NoBuffers,
}

impl Sock {
    /// Puts as much of `data` into the send buffer as fits, and gives the requests for the owner's Cpu. What is said to follow
    /// holds if all of it fits; if not, the call goes on once these are carried out.
    pub fn write(&self, data: &[u8], ending: Ending, of: Part) -> (WriteStep, u8) {
        self.write_all(data, ending, of, false)
    }

    #[inline(always)]
    fn write_all(&self, data: &[u8], ending: Ending, of: Part, urgent: bool) -> (WriteStep, u8) {
        self.write_with((data.len(), urgent), of, |sk, room| {
            if sk.fast.deferred {
                return WriteStep::Taken(sk.take_for_syn(&data[..data.len().min(room)]));
            }
            let limit = sk.tx.buffer.len() + room;
            let taken = sk.tx.buffer.append(data, limit);
            sk.wrote(taken as u32, (taken == data.len()).then_some(ending));
            if urgent && taken > 0 {
                sk.mark_urgent();
            }
            WriteStep::Taken(taken)
        })
    }

    /// Has `take` write some of `len` bytes, which are urgent or not, for as many of which there is room.
    #[inline(always)]
    fn write_with(
        &self,
        (len, urgent): (usize, bool),
        of: Part,
        take: impl FnOnce(&mut TcpSock, usize) -> WriteStep,
    ) -> (WriteStep, u8) {
        let mut sk = self.lock.user();
        let (rest, register) = (of == Part::Rest, of == Part::First { register: true });
        if rest && (sk.user.error.is_some() || !sk.takes_data() || sk.send_room(urgent) == 0) {
            // What was taken counts; an error is for the next call.
            let mut requests = if sk.wrote_all() { post::PUSH } else { 0 };
            if sk.release() {
                requests |= post::BACKLOG;
            }
            return (WriteStep::Full(None), requests);
        }
        let step = if let Some(error) = sk.user.error.take() {
            WriteStep::Error(error)
        } else if sk.state == State::Close || (sk.user.snd_shutdown && sk.state != State::SynRecv) {
            // While the handshake is under way a writer waits for it all the same.
            WriteStep::Closed
        } else {
            let ready = sk.takes_data() || sk.fast.deferred;
            let room = if ready { sk.send_room(urgent) } else { 0 };
            let admitted = sk.admitted(&self.memory, len.min(room));
            if !ready || (admitted == 0 && len > 0) {
                // For memory he waits in another way: nobody who gives some back knows of him.
                sk.user.wait_memory = register && room > 0;
                WriteStep::Full(register.then(|| {
                    sk.user.wait_send = true;
                    self.send_wait.listen()
                }))
            } else {
                take(&mut sk, admitted)
            }
        };
        let mut requests = match step {
            WriteStep::Full(_) if sk.wrote_all() => post::PUSH,
            // It is the first write of one whose SYN waits for that.
            WriteStep::Taken(1..) if sk.state == State::SynSent => post::CONNECT,
            WriteStep::Taken(1..) => post::PUSH,
            _ if sk.user.wait_memory => post::PUSH,
            _ => 0,
        };
        if sk.release() {
            requests |= post::BACKLOG;
        }
        (step, requests)
    }

    /// As [`Sock::write`], but what is taken of `payload` is not copied: the send buffer and packets refer to it, until the
    /// notice of the call comes (`MSG_ZEROCOPY`). `call` is None when a call begins and is kept by whoever makes it in steps.
    /// What is said to follow holds if all fits. On a socket that was not told to (`SO_ZEROCOPY`), and of nothing at all, it is
    /// a plain write. What calls are charged
    /// until their notices are read is bounded by `optmem_max`, in bytes.
    pub fn write_zerocopy(
        self: &Arc<Self>,
        call: &mut Option<Arc<Lending>>,
        payload: &Payload,
        ending: Ending,
        of: Part,
        optmem_max: u32,
    ) -> (WriteStep, u8) {
        self.write_with((payload.len(), false), of, |sk, room| {
            let len = payload.len().min(room);
            if sk.fast.deferred {
                // What goes with a SYN is copied.
                return WriteStep::Taken(sk.take_for_syn(&payload.as_ref()[..len]));
            }
            if !sk.user.zerocopy || len == 0 {
                let limit = sk.tx.buffer.len() + room;
                let taken = sk.tx.buffer.append(payload.as_ref(), limit);
                sk.wrote(taken as u32, (taken == payload.len()).then_some(ending));
                return WriteStep::Taken(taken);
            }
            let notices = || self.notices();
            if sk.lend(call, payload, len, ending, optmem_max, notices) {
                WriteStep::Taken(len)
            } else {
                WriteStep::NoBuffers
            }
        })
    }

    /// Where notices go; all who wait for the socket are woken by them (`sk_error_report`).
    fn notices(self: &Arc<Self>) -> Arc<Notices> {
        let sock = Arc::downgrade(self);
        Notices::new(move || {
            if let Some(sock) = sock.upgrade() {
                sock.recv_wait.wake_all();
                sock.send_wait.wake_all();
            }
        })
    }

    /// The oldest notice that nobody has read (`MSG_ERRQUEUE`), with the requests for the owner's Cpu.
    pub fn read_notice(&self) -> (Option<ZerocopyNotice>, u8) {
        let sk = self.lock.user();
        let notice = sk.tx.zerocopy.as_ref().and_then(|zerocopy| zerocopy.notices.pop());
        (notice, if sk.release() { post::BACKLOG } else { 0 })
    }

    /// As [`Sock::write`]; the last byte that is taken is urgent (`MSG_OOB`), and packets are single segments.
    pub fn write_urgent(&self, data: &[u8], of: Part) -> (WriteStep, u8) {
        self.write_all(data, Ending::default(), of, true)
    }

    /// Where a connection attempt stands: None while it is under way.
    pub fn connect_outcome(&self, register: bool) -> (Option<Result<(), SockError>>, Option<EventListener>, u8) {
        let mut sk = self.lock.user();
        let outcome = match sk.state {
            State::SynSent if sk.fast.deferred => Some(Ok(())),
            State::SynSent | State::SynRecv => None,
            State::Close => Some(Err(sk.user.error.take().unwrap_or(SockError::Aborted))),
            _ => Some(Ok(())),
        };
        let listener = (outcome.is_none() && register).then(|| {
            sk.user.wait_send = true;
            self.send_wait.listen()
        });
        let requests = if sk.release() { post::BACKLOG } else { 0 };
        (outcome, listener, requests)
    }
}
