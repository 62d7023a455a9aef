//! What a socket is ready for (`tcp_poll`).

use super::Sock;
use crate::tcp::{State, TcpSock};

/// What calls would do now without waiting; several at once. The names are those of `poll(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read gives bytes, the end of the stream, or an error (`POLLIN`).
    pub readable: bool,
    /// A write takes bytes or gives an error (`POLLOUT`).
    pub writable: bool,
    /// An urgent byte waits (`POLLPRI`).
    pub priority: bool,
    /// The peer writes no more, or reading was ended here (`POLLRDHUP`).
    pub read_hangup: bool,
    /// Both directions are over (`POLLHUP`).
    pub hangup: bool,
    /// An error is pending, or one that is told in detail or a notice waits in the error queue (`POLLERR`).
    pub error: bool,
}

impl Readiness {
    /// By Linux's rules: enough to read is `SO_RCVLOWAT`, and one more where the reader stands at an urgent byte; room to
    /// write is a third of the send buffer.
    pub fn of(sk: &TcpSock) -> Readiness {
        let shut = sk.user.rcv_shutdown;
        let closed = sk.state == State::Close;
        let mut ready = Readiness {
            read_hangup: shut,
            readable: shut,
            hangup: closed || (shut && sk.user.snd_shutdown),
            error: sk.user.error.is_some() || sk.user.error_told.is_some() || sk.has_notice(),
            ..Readiness::default()
        };
        if matches!(sk.state, State::SynSent | State::SynRecv) && !sk.takes_data() {
            // The SYN goes with the first write.
            ready.writable = sk.fast.deferred;
            return ready;
        }
        let skipped = u32::from(sk.at_mark() && !sk.rx.urgent.inline);
        ready.readable |= sk.has_readable(skipped);
        ready.writable = sk.user.snd_shutdown || closed || sk.has_send_room();
        ready.priority = sk.rx.urgent.shows();
        ready
    }
}

impl Sock {
    /// What the socket is ready for.
    pub fn readiness(&self) -> (Readiness, u8) {
        let sk = self.lock.user();
        let ready = Readiness::of(&sk);
        (ready, if sk.release() { super::post::BACKLOG } else { 0 })
    }
}
