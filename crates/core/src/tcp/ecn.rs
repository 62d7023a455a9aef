//! Explicit congestion notification (RFC 3168): a router that is about to drop marks packets instead, the receiver tells
//! the sender, and the sender slows down as if one had been lost.
//!
//! Who may is agreed in the handshake (`tcp_ecn`). From then on new data leaves as capable (ECT(0)); nothing else does, so
//! that a mark is never about what carries no data, or about what may come twice. A mark on data that is new is echoed
//! (ECE) in every segment until the peer says that it has reduced its window (CWR). In the other direction an echo cuts
//! the window once for what is in flight (state [`super::CaState::Cwr`]), and the next new data says so.
//!
//! Mirrors `tcp_ecn_create_request`, `tcp_ecn_rcv_synack`, `tcp_ecn_send`, `tcp_data_ecn_check`, `tcp_ecn_accept_cwr`.
//! Deviation: accurate ECN (RFC 9768) is never offered; a SYN that asks for it gets RFC 3168, as with `tcp_ecn` 1 and 2.

use rxpath_mem::Skb;
use rxpath_wire::TcpFlags;

use super::{Segment, TcpSock};

/// The ECN field of a type of service, and its values (RFC 3168 section 5).
const MASK: u8 = 3;
const NOT_ECT: u8 = 0;
const ECT1: u8 = 1;
const ECT0: u8 = 2;
const CE: u8 = 3;
/// Quick ACKs that a mark, or the end of them, asks for.
const QUICK: u8 = 2;
/// What a SYN asks with. The answer has but one of them: a host that only sends back what it got does not agree.
const ASKS: TcpFlags = TcpFlags(TcpFlags::ECE.0 | TcpFlags::CWR.0);

/// State of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ecn {
    /// Both sides are capable; before the handshake is done: we are.
    pub ok: bool,
    /// The peer has sent data that was capable.
    pub seen: bool,
    /// Our SYN asks for it.
    pub(super) asks: bool,
    /// The peer is to be told of a mark until it answers.
    demand_cwr: bool,
    /// The peer is to be told that the window was cut.
    queue_cwr: bool,
}

/// True if a SYN asks for ECN and may have it: with `tcp_ecn` 0 none may, and one whose own header is marked as capable
/// comes from somebody who reads the RFC otherwise (RFC 3168 section 6.1.1, `tcp_ecn_create_request`).
pub(super) fn wanted(tcp_ecn: u8, flags: TcpFlags, tos: u8) -> bool {
    tcp_ecn != 0 && flags.contains(ASKS) && tos & MASK == NOT_ECT
}

/// The type of service of a packet.
pub(super) fn tos_of(skb: &Skb) -> u8 {
    skb.network_header().get(1).copied().unwrap_or(0)
}

impl Ecn {
    /// Our SYN is about to go out (`tcp_ecn_send_syn`).
    pub(super) fn open(&mut self, tcp_ecn: u8) {
        *self = Ecn { ok: tcp_ecn == 1, asks: tcp_ecn == 1, ..Ecn::default() };
    }

    /// The flags of our SYN.
    pub(super) fn syn_flags(&self) -> TcpFlags {
        if self.asks { TcpFlags(TcpFlags::SYN.0 | ASKS.0) } else { TcpFlags::SYN }
    }

    /// The peer answered our SYN, with one bit if it agrees (`tcp_ecn_rcv_synack`).
    pub(super) fn answered(&mut self, flags: TcpFlags) {
        self.ok &= flags.0 & ASKS.0 == TcpFlags::ECE.0;
    }

    /// The peer's SYN crossed ours (`tcp_ecn_rcv_syn`).
    pub(super) fn crossed(&mut self, flags: TcpFlags) {
        self.ok &= flags.contains(ASKS);
    }

    /// The window was cut: the next new data says so (`tcp_ecn_queue_cwr`).
    pub(super) fn queue_cwr(&mut self) {
        self.queue_cwr = self.ok;
    }

    /// The cut was undone before the peer was told of it (`tcp_ecn_withdraw_cwr`).
    pub(super) fn withdraw_cwr(&mut self) {
        self.queue_cwr = false;
    }

    /// The peer tells of a mark (`tcp_ecn_rcv_ecn_echo`).
    pub(super) fn echoed(&self, flags: TcpFlags) -> bool {
        self.ok && flags.0 & (TcpFlags::ECE.0 | TcpFlags::SYN.0) == TcpFlags::ECE.0
    }

    /// What goes into a segment with `flags` that is no SYN, and into its IP header: only what is sent for the first time
    /// can be marked (RFC 3168 sections 6.1.2 to 6.1.5, `tcp_ecn_send`).
    pub(super) fn send(&mut self, flags: TcpFlags, new_data: bool) -> (TcpFlags, u8) {
        let mut flags = flags.0;
        if new_data && std::mem::take(&mut self.queue_cwr) {
            flags |= TcpFlags::CWR.0;
        }
        if self.demand_cwr {
            flags |= TcpFlags::ECE.0;
        }
        (TcpFlags(flags), if new_data { ECT0 } else { NOT_ECT })
    }

    /// Data that is marked so tells nothing new.
    pub(super) fn is_quiet(&self, tos: u8) -> bool {
        !self.ok || (self.seen && matches!(tos & MASK, ECT0 | ECT1))
    }
}

impl TcpSock {
    /// How data is marked, where that is of interest.
    #[inline(always)]
    pub(super) fn ecn_mark(&self, skb: &Skb) -> Option<u8> {
        self.ecn.ok.then(|| tos_of(skb) & MASK)
    }

    /// Data came that was marked so. After a mark, and after data that is not capable any more, some ACKs go at once
    /// (`tcp_data_ecn_check`).
    #[inline(always)]
    pub(super) fn ecn_check(&mut self, mark: Option<u8>) {
        if let Some(mark) = mark {
            self.take_mark(mark);
        }
    }

    fn take_mark(&mut self, mark: u8) {
        if mark == NOT_ECT {
            if self.ecn.seen {
                self.enter_quickack_mode(QUICK);
            }
            return;
        }
        self.ecn.seen = true;
        if mark == CE && !std::mem::replace(&mut self.ecn.demand_cwr, true) {
            self.enter_quickack_mode(QUICK);
        }
    }

    /// If the peer has cut its window, that is enough of echoes (`tcp_ecn_accept_cwr`). A segment that acknowledges what it
    /// may not, or less than is acknowledged, says nothing of it.
    #[inline]
    pub(super) fn accept_cwr(&mut self, seg: &Segment) {
        if seg.has(TcpFlags::CWR) {
            self.ecn.demand_cwr = false;
            self.ack.now |= seg.seq != seg.end_seq && self.ecn.ok;
        }
    }

    /// The window shrinks for another reason than loss (`tcp_enter_cwr`); that is never a mistake.
    pub(super) fn enter_cwr(&mut self) {
        self.cong.prior_ssthresh = 0;
        if self.cong.state < super::CaState::Cwr {
            self.begin_cwr();
        }
    }
}
