//! Keepalive (RFC 1122 section 4.2.3.6): whether a silent peer is still there; and how long an application waits for one
//! that does not acknowledge (RFC 5482, `TCP_USER_TIMEOUT`).

use rxpath_trace::{Counter, Time};

use super::liveness::Keepalive;
use super::states::fin_wait2_part;
use super::timers::RESOURCE_PROBE_INTERVAL;
use super::{OutOfRange, SockError, State, TcpSock, tick};
use crate::cx::Cx;
use crate::sysctl::Sysctls;

impl TcpSock {
    /// Switches keepalive on or off, or changes when it probes. Silence counts from when it is switched on, and what it has
    /// lasted already where that is only changed (`tcp_set_keepalive`, `tcp_sock_set_keepidle`).
    ///
    /// # Errors
    /// A value is out of its range; nothing is changed then.
    pub fn set_keepalive(&mut self, on: Option<Keepalive>, sysctl: &Sysctls, now: Time) -> Result<(), OutOfRange> {
        if let Some(settings) = on {
            settings.check()?;
        }
        let was_on = std::mem::replace(&mut self.live.on, on.is_some());
        self.live.settings = on.unwrap_or_default();
        if matches!(self.state, State::Close | State::Listen) || (self.state == State::FinWait2 && self.user.orphan) {
            return Ok(());
        }
        let lasted = if was_on { self.silence(now) } else { 0 };
        self.timers.keepalive = match on {
            Some(_) => now + self.live.idle(sysctl).saturating_sub(lasted).max(1),
            None => Time::MAX,
        };
        Ok(())
    }

    /// The connection stands, or a listener's has begun. That of a crossed open is not probed, as in the kernel, unless it is
    /// wanted once more.
    pub(super) fn begin_keepalive(&mut self, cx: &Cx) {
        if self.live.on {
            self.timers.keepalive = cx.now + self.live.idle(&cx.net.sysctl);
        }
    }

    /// For how long nothing has been heard of the peer (`keepalive_time_elapsed`).
    fn silence(&self, now: Time) -> u64 {
        (tick(now) - self.ack.last_rcv).min(tick(now) - tick(self.live.last_ack))
    }

    /// The keepalive timer, which is also the end of an orphan's FIN-WAIT-2 (`tcp_keepalive_timer`).
    pub(super) fn keepalive_timer(&mut self, cx: &mut Cx) {
        if self.state == State::FinWait2 && self.user.orphan {
            let Some(left) = self.fin_timeout(cx) else { return self.abort(cx) };
            return self.time_wait(cx, State::FinWait2, fin_wait2_part(left));
        }
        if !self.live.on || matches!(self.state, State::Close | State::SynSent) {
            return;
        }
        let idle = self.live.idle(&cx.net.sysctl);
        let waits = !self.tx.segments.is_empty() || self.send_end().after(self.tx.snd_nxt);
        let silence = self.silence(cx.now);
        let next = if waits {
            // Retransmissions find out, too.
            idle
        } else if silence < idle {
            idle - silence
        } else {
            let limit = self.live.settings.probes.unwrap_or(cx.net.sysctl.tcp_keepalive_probes);
            let dead = match self.live.user_timeout() {
                Some(timeout) => silence >= timeout && self.live.probes_out > 0,
                None => self.live.probes_out >= limit,
            };
            if dead {
                self.send_active_reset(cx);
                return self.give_up(cx);
            }
            cx.count(Counter::TcpExtTCPKeepAlive);
            if self.send_window_probe(cx) {
                self.live.probes_out = self.live.probes_out.saturating_add(1);
                self.live.interval(&cx.net.sysctl)
            } else {
                RESOURCE_PROBE_INTERVAL
            }
        };
        self.timers.keepalive = cx.now + next;
    }

    /// The application has waited long enough: for an acknowledgement since the first timeout, or for a closed window to open
    /// since the first probe.
    pub(super) fn user_timed_out(&self, now: Time, since: Option<Time>) -> bool {
        self.live.user_timeout().zip(since).is_some_and(|(timeout, since)| now - since >= timeout)
    }

    /// A timer ends no later than the user's patience (`tcp_clamp_rto_to_user_timeout`).
    pub(super) fn within_user_timeout(&self, now: Time, since: Option<Time>, timer: u64) -> u64 {
        match self.live.user_timeout().zip(since) {
            Some((timeout, since)) => timer.min(timeout.saturating_sub(now - since).max(1)),
            None => timer,
        }
    }

    /// Nobody answers: the connection is over (`tcp_write_err`).
    pub(super) fn give_up(&mut self, cx: &mut Cx) {
        cx.count(Counter::TcpExtTCPAbortOnTimeout);
        self.user.error = Some(self.user.error_soft.unwrap_or(SockError::TimedOut));
        self.done(cx);
    }
}
