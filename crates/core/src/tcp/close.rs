//! How the application ends a connection (`tcp_close`, `tcp_shutdown`).

use rxpath_trace::Counter;

use super::states::fin_wait2_part;
use super::{SockError, State, TIMEWAIT_LEN, TcpSock};
use crate::cx::Cx;

impl TcpSock {
    /// The application has written its last byte: our FIN follows what is queued.
    pub fn shutdown_send(&mut self, cx: &mut Cx) {
        if self.user.snd_shutdown && self.tx.fin {
            return;
        }
        self.user.snd_shutdown = true;
        match self.state {
            State::Established => self.queue_fin(cx, State::FinWait1),
            State::CloseWait => self.queue_fin(cx, State::LastAck),
            // Once the handshake is done.
            State::SynRecv => {}
            State::SynSent => self.give_up_opening(cx),
            _ => {}
        }
    }

    /// Whatever direction is ended while our SYN is not answered: the attempt is, and could be begun anew
    /// (`inet_shutdown`).
    fn give_up_opening(&mut self, cx: &mut Cx) {
        self.disconnect(cx);
        self.user.error = Some(SockError::Reset);
        (self.user.rcv_shutdown, self.user.snd_shutdown) = (false, false);
    }

    fn queue_fin(&mut self, cx: &mut Cx, next: State) {
        self.tx.fin = true;
        self.set_state(cx, next);
        self.push_fin(cx);
    }

    /// The application lets go: unread data or a zero linger resets the peer, otherwise our FIN goes out and the
    /// connection ends on its own.
    pub fn close(&mut self, cx: &mut Cx) {
        // A FIN before the last one, which joined what waited out of order, leaves a number and no byte.
        let unread = self.readable() > 0 && !self.rx.queue.is_empty();
        self.user.orphan = true;
        self.user.wait_recv = false;
        self.user.wait_send = false;
        self.user.rcv_shutdown = true;
        self.purge_receive_queue(cx);
        match self.state {
            State::Close => self.effects.closed = self.effects.timewait.is_none(),
            // Nobody has accepted it: the listener is gone (`inet_child_forget`), and nothing lost that anybody knows of.
            _ if !self.user.accepted => self.linger_zero(cx),
            _ if unread => {
                cx.count(Counter::TcpExtTCPAbortOnClose);
                self.abort(cx);
            }
            _ if self.user.linger_reset => {
                cx.count(Counter::TcpExtTCPAbortOnData);
                self.linger_zero(cx);
            }
            State::SynSent => self.disconnect(cx),
            State::FinWait2 => self.orphan_fin_wait2(cx),
            // The FIN does not wait for the rest of the handshake.
            State::SynRecv => {
                self.user.snd_shutdown = true;
                self.queue_fin(cx, State::FinWait1);
            }
            _ => self.shutdown_send(cx),
        }
        if self.state != State::Close {
            self.become_orphan(cx);
        }
    }

    /// The peer is not told where it has all that was written, and has ended, too (`tcp_disconnect`).
    fn linger_zero(&mut self, cx: &mut Cx) {
        let ended = matches!(self.state, State::Closing | State::LastAck);
        let silent = self.state == State::SynSent || (ended && !self.send_end().after(self.tx.snd_nxt));
        if silent { self.disconnect(cx) } else { self.abort(cx) }
    }

    /// The connection goes on by itself, unless there are too many such or too little memory.
    fn become_orphan(&mut self, cx: &mut Cx) {
        cx.tcp_memory.orphan_added();
        self.user.orphan_counted = true;
        if cx.tcp_memory.is_short_for(&cx.net.sysctl, self.rx.wmem_queued, 0) {
            cx.count(Counter::TcpExtTCPAbortOnMemory);
            self.abort(cx);
        }
    }

    /// Resets the peer and ends the connection (`tcp_send_active_reset`, `tcp_done`).
    pub fn abort(&mut self, cx: &mut Cx) {
        if !matches!(self.state, State::Close | State::SynSent | State::Listen) {
            self.send_active_reset(cx);
        }
        self.disconnect(cx);
    }

    /// Our FIN is acknowledged and nobody waits for the peer's: a mini-socket does.
    fn orphan_fin_wait2(&mut self, cx: &mut Cx) {
        let Some(len) = self.fin_timeout(cx) else {
            cx.count(Counter::TcpExtTCPAbortOnLinger);
            return self.abort(cx);
        };
        if len > TIMEWAIT_LEN {
            self.timers.keepalive = cx.now + fin_wait2_part(len);
        } else {
            self.time_wait(cx, State::FinWait2, len);
        }
    }

    /// The stack goes down: the connection ends without a word to the peer, and with it what it holds.
    pub fn stack_down(&mut self, cx: &mut Cx) {
        self.purge_receive_queue(cx);
        self.done(cx);
    }
}
