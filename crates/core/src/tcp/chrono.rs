//! What the time was spent on while there was something to send: sending, waiting for the peer's window, or waiting for an
//! application that waits for room in its send buffer (`tcp_chrono_start`, `tcp_chrono_stop`); in ticks.

use rxpath_trace::Time;

use super::tick;

/// What holds the sender back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    /// There is nothing to send.
    #[default]
    Idle,
    /// Nothing: it sends.
    ByNothing,
    /// The peer's window.
    PeerWindow,
    /// The send buffer.
    SendBuffer,
}

/// The times of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chrono {
    now: Held,
    since: Time,
    spent: [u64; 3],
}

impl Chrono {
    fn become_(&mut self, kind: Held, now: Time) {
        let now = tick(now);
        if let Some(spent) = (self.now as usize).checked_sub(1).and_then(|at| self.spent.get_mut(at)) {
            *spent += now - self.since;
        }
        (self.now, self.since) = (kind, now);
    }

    /// This holds it back from now on, unless something else already does that counts more.
    pub(super) fn start(&mut self, kind: Held, now: Time) {
        if kind > self.now {
            self.become_(kind, now);
        }
    }

    /// This no longer does.
    pub(super) fn stop(&mut self, kind: Held, nothing_left: bool, now: Time) {
        if nothing_left && self.now != Held::Idle {
            self.become_(Held::Idle, now);
        } else if kind == self.now && kind != Held::ByNothing {
            self.become_(Held::ByNothing, now);
        }
    }

    /// Nanoseconds in which there was something to send; of those, waiting for the peer's window, and for the send buffer.
    pub fn spent(&self, now: Time) -> (u64, u64, u64) {
        let mut whole = *self;
        whole.become_(self.now, now);
        let [busy, window, buffer] = whole.spent;
        (busy + window + buffer, window, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_what_counts_most() {
        let at = Time::from_millis;
        let mut chrono = Chrono::default();
        chrono.start(Held::ByNothing, at(100));
        chrono.start(Held::PeerWindow, at(120));
        chrono.start(Held::ByNothing, at(140));
        chrono.stop(Held::PeerWindow, false, at(160));
        chrono.stop(Held::ByNothing, true, at(200));
        chrono.stop(Held::ByNothing, true, at(300));
        const MS: u64 = 1_000_000;
        assert_eq!(chrono.spent(at(900)), (100 * MS, 40 * MS, 0));
    }
}
