//! How the application writes (`tcp_sendmsg_locked`): bytes go into the send buffer, the owner's Cpu sends them.

use event_listener::EventListener;

use super::{Sock, post};
use crate::tcp::{SockError, State};

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
}

impl Sock {
    /// Puts as much of `data` into the send buffer as fits, and gives the requests for the owner's Cpu.
    pub fn write(&self, data: &[u8], register: bool) -> (WriteStep, u8) {
        self.write_all(data, register, false)
    }

    #[inline(always)]
    fn write_all(&self, data: &[u8], register: bool, urgent: bool) -> (WriteStep, u8) {
        let mut sk = self.lock.user();
        let step = if let Some(error) = sk.user.error.take() {
            WriteStep::Error(error)
        } else if sk.user.snd_shutdown || sk.state == State::Close {
            WriteStep::Closed
        } else if !sk.state.can_send() || (sk.send_room() == 0 && !data.is_empty()) {
            WriteStep::Full(register.then(|| {
                sk.user.wait_send = true;
                self.send_wait.listen()
            }))
        } else {
            let limit = sk.tx.buffer.len() + sk.send_room();
            let taken = sk.tx.buffer.append(data, limit);
            sk.wrote(taken as u32);
            if urgent && taken == data.len() && taken > 0 {
                sk.mark_urgent();
            }
            WriteStep::Taken(taken)
        };
        let mut requests = if matches!(step, WriteStep::Taken(n) if n > 0) { post::PUSH } else { 0 };
        if sk.release() {
            requests |= post::BACKLOG;
        }
        (step, requests)
    }

    /// As [`Sock::write`]; the last byte that is taken is urgent (`MSG_OOB`).
    pub fn write_urgent(&self, data: &[u8], register: bool) -> (WriteStep, u8) {
        self.write_all(data, register, true)
    }

    /// Where a connection attempt stands: None while it is under way.
    pub fn connect_outcome(&self, register: bool) -> (Option<Result<(), SockError>>, Option<EventListener>, u8) {
        let mut sk = self.lock.user();
        let outcome = match sk.state {
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
