//! What applications say about how long they wait: keepalive, `TCP_USER_TIMEOUT`, `TCP_LINGER2` and `TCP_SYNCNT`, with
//! the seconds in which that shows.

use super::super::super::stream::{Knob, Patience, Probing, TcpCall};
use super::{LISTENER, Life};

/// What the application of a case wants.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waits {
    pub patience: Patience,
    /// `TCP_LINGER2`, where it is said.
    linger2: Option<u32>,
    /// It is said of the listener, and its connections inherit it.
    inherited: bool,
}

impl Life {
    /// One of some, of the draws that came later.
    pub(super) fn later_pick<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[self.later.below(N as u32) as usize]
    }

    /// True so many times out of a hundred, of the draws that came later.
    pub(super) fn later_chance(&mut self, percent: u32) -> bool {
        self.later.below(100) < percent
    }

    /// So many applications out of a hundred say how long they wait.
    pub(super) fn may_wait(&mut self, percent: u32) {
        if self.later_chance(percent) {
            let inherited = self.later_chance(40);
            self.will_wait(inherited);
        }
    }

    /// The application says how long it waits, of its listener or of the connection.
    pub(super) fn will_wait(&mut self, inherited: bool) {
        let mut waits = Waits { inherited, ..Waits::default() };
        if self.later_chance(60) {
            waits.patience.keepalive = Some(self.probing());
        }
        if self.later_chance(60) {
            waits.patience.user_timeout_ms = self.later_pick([1, 100, 200, 500, 1_000, 1_500, 3_000]);
        }
        if self.later_chance(25) {
            waits.linger2 = Some(self.later_pick([(-1i32).cast_unsigned(), 0, 1, 2, 61, 90]));
        }
        self.waits = Some(waits);
    }

    /// Of those that wait some say how often their SYN is sent again.
    pub(super) fn may_retry(&mut self) {
        let linear = self.later_pick([0, 0, 1]);
        let retries = self.later_pick([None, Some(1), Some(2)]);
        if let Some(waits) = &mut self.waits {
            waits.patience.syn_retries = retries;
            self.set("net.ipv4.tcp_syn_linear_timeouts", linear);
        }
    }

    fn probing(&mut self) -> Probing {
        let (idle_s, interval_s, probes) = (1 + self.later.below(2), 1 + self.later.below(2), 1 + self.later.below(3));
        Probing { idle_s: idle_s as u8, interval_s: interval_s as u8, probes: probes as u8 }
    }

    /// Says it, of the listener or of the connection.
    pub(super) fn wait_from(&mut self, socket: u8) {
        let Some(Waits { patience, inherited, .. }) = self.waits else { return };
        if inherited != (socket == LISTENER) {
            return;
        }
        if patience.user_timeout_ms > 0 {
            self.on(socket, TcpCall::Set(Knob::UserTimeout, patience.user_timeout_ms));
        }
        if patience.keepalive.is_some() {
            self.on(socket, TcpCall::Keepalive(patience.keepalive));
        }
        self.linger2(socket);
    }

    pub(super) fn linger2(&mut self, socket: u8) {
        if let Some(value) = self.waits.and_then(|waits| waits.linger2) {
            self.on(socket, TcpCall::Set(Knob::Linger2, value));
        }
    }

    /// Microseconds by which a pause is longer where it matters how long the application waits.
    pub(super) fn wait_more(&mut self) -> u32 {
        if self.waits.is_none() || !self.later_chance(12) {
            return 0;
        }
        700_000 + self.later.below(700_000)
    }

    /// The same at the end.
    pub(super) fn stay(&mut self) -> u32 {
        if self.waits.is_none() { 0 } else { self.later_pick([0, 1_200_000, 2_400_000, 4_000_000]) }
    }

    /// The application thinks otherwise.
    pub(super) fn may_wait_otherwise(&mut self) {
        if self.waits.is_none() || !self.later_chance(15) {
            return;
        }
        let timeout_ms = self.later_pick([0, 1, 300, 1_000]);
        let probing = self.later_chance(50).then(|| self.probing());
        let call = self.later_pick([TcpCall::Set(Knob::UserTimeout, timeout_ms), TcpCall::Keepalive(probing)]);
        self.app(call);
    }
}
