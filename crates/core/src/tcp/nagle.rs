//! What keeps a segment that is not full from leaving: Nagle's algorithm, corks, and what is said to follow a write.
//!
//! - Nagle's algorithm, in Minshall's variant, lets one small segment be in flight at a time (RFC 9293 section 3.7.4); with
//!   `TCP_NODELAY` it is off.
//! - `TCP_CORK` holds the last segment until it is full, whatever is in flight; `MSG_MORE` does so for as long as nothing
//!   else has the socket send. Where nothing is in flight, the probe timer lets what is held go: after the retransmission
//!   timeout, 200 ms at the least.
//! - Taking out the cork, and setting `TCP_NODELAY` even with the cork in, sends what was held.
//!
//! Our FIN, urgent data and tail loss probes wait for none of it.
//!
//! Mirrors `tcp_nagle_check`, `tcp_nagle_test`, `tcp_minshall_check`, `__tcp_sock_set_cork`, `__tcp_sock_set_nodelay`.
//! Neighbours: `write_queue` cuts what is written into packets and asks here how far they may go, `output` sends them.

use super::TcpSock;

/// What an application wants to happen to small segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nagle {
    /// Nagle's algorithm is off (`TCP_NODELAY`).
    pub off: bool,
    /// A segment waits until it is full (`TCP_CORK`).
    pub cork: bool,
}

/// What is said to follow a write (flags of `send(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// More will be written at once: a segment that is not full waits for it, and is not pushed (`MSG_MORE`).
    pub more: bool,
    /// A record ends here: no packet has bytes from both sides of its end (`MSG_EOR`).
    pub record: bool,
}

/// What may hold a small segment back when packets are offered to the network (`nonagle`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    /// What the socket is set to, or a write says.
    pub nagle: Nagle,
    /// What is there goes all the same (`TCP_NAGLE_PUSH`).
    pub push: bool,
}

impl Hold {
    /// Nothing is held.
    pub const NOTHING: Hold = Hold { nagle: Nagle { off: true, cork: false }, push: true };
    /// More was said to follow.
    pub const MORE: Hold = Hold { nagle: Nagle { off: false, cork: true }, push: false };

    /// True if what is left behind full segments of the last packet waits (`tcp_nagle_check`). Of a packet that goes in spite
    /// of a cork it goes by itself.
    pub fn holds_rest(self, small_in_flight: bool) -> bool {
        self.nagle.cork || (!self.nagle.off && !self.push && small_in_flight)
    }

    /// True if the last packet, which is smaller than a segment, waits (`tcp_nagle_test`).
    pub fn holds_small(self, small_in_flight: bool) -> bool {
        !self.push && self.holds_rest(small_in_flight)
    }
}

impl TcpSock {
    /// Small segments go out at once, or do not (`TCP_NODELAY`). Switched on it sends what waits, the cork notwithstanding,
    /// with the next [`TcpSock::push`].
    pub fn set_nodelay(&mut self, on: bool) {
        self.tx.nagle.off = on;
        if on {
            self.offer_what_waits(true);
        }
    }

    /// The last segment waits until it is full, or does not (`TCP_CORK`). Taken out it sends what waits, as far as Nagle's
    /// algorithm lets it, with the next [`TcpSock::push`].
    pub fn set_cork(&mut self, on: bool) {
        self.tx.nagle.cork = on;
        if !on {
            self.offer_what_waits(self.tx.nagle.off);
        }
    }

    /// A segment that was not full is in flight (`tcp_minshall_check`).
    pub(super) fn small_in_flight(&self) -> bool {
        let tx = &self.tx;
        let small = tx.snd_sml.after(tx.snd_una) && tx.snd_sml.at_or_before(tx.snd_nxt);
        self.cong.packets_out > 0 && small
    }
}
