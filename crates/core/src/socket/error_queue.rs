//! What a socket is told of errors in detail (`IP_RECVERR`): each with whom it came from and what it is about. Datagram sockets
//! have a queue of them; a connection has one at the most, as the first ends the attempt to connect.
//!
//! Mirrors `ip_icmp_error`, `ip_local_error`, `sock_queue_err_skb`, `sock_dequeue_err_skb`, `ip_recv_error`.

use std::collections::VecDeque;

use rxpath_mem::Skb;
use rxpath_trace::Time;
use rxpath_wire::{Addr, IcmpHeader, Ipv4Header, icmp as wire_icmp};

use super::ErrorMeans;
use crate::cx::Cx;
use crate::icmp::IcmpError;
use crate::tcp::SockError;

/// What an error that was found here is charged, in bytes: the truesize of a packet with nothing but an IP header.
pub const LOCAL_ERROR: u32 = 832;

/// Who found out (`ee_origin`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorOrigin {
    /// This host (`SO_EE_ORIGIN_LOCAL`).
    Local,
    /// Another one, which told by ICMP (`SO_EE_ORIGIN_ICMP`).
    Icmp {
        /// Type of its message.
        kind: u8,
        /// Code of its message.
        code: u8,
        /// Who sent the message (`SO_EE_OFFENDER`).
        offender: Addr,
        /// The interface that it came by.
        ifindex: u16,
    },
}

/// An error in the queue (`struct sock_extended_err`, and what `MSG_ERRQUEUE` gives beside it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedError {
    /// What went wrong (`ee_errno`).
    pub error: SockError,
    /// Who found out.
    pub origin: ErrorOrigin,
    /// Of a packet that was too long: the longest that passes, in bytes; of one whose header made no sense: where in it, in
    /// bytes from its beginning; else 0 (`ee_info`).
    pub info: u32,
    /// Where the packet was to go.
    pub to: (Addr, u16),
    /// When the error came.
    pub at: Time,
    /// As much as came back of the datagram's payload, or of the segment with its header; nothing if the error was found here.
    pub payload: Box<[u8]>,
    /// What it is charged (`truesize`).
    pub(crate) charge: u32,
}

/// What of a packet that came back was the application's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Quoted {
    /// What lies so far behind its IP header.
    Behind(usize),
    /// All of it.
    Packet,
}

impl QueuedError {
    /// `ip_icmp_error`: the error, and what came back of the packet that went `to`; `skb` is the message.
    pub(crate) fn of_icmp(
        cx: &Cx,
        error: &IcmpError,
        means: ErrorMeans,
        to: (Addr, u16),
        skb: &Skb,
        quoted: Quoted,
    ) -> QueuedError {
        let ip = skb.data().get(IcmpHeader::LEN..).and_then(Ipv4Header::parse);
        let headers = IcmpHeader::LEN
            + match quoted {
                Quoted::Behind(len) => ip.map_or(Ipv4Header::LEN, |(ip, _)| ip.header_len()) + len,
                Quoted::Packet => 0,
            };
        let mut payload = vec![0; skb.len().saturating_sub(headers)];
        let came = skb.copy_to(headers, &mut payload);
        payload.truncate(came);
        QueuedError {
            error: means.error,
            origin: ErrorOrigin::Icmp {
                kind: error.kind,
                code: error.code,
                offender: error.from,
                ifindex: error.ifindex,
            },
            info: match error.kind {
                wire_icmp::PARAMETER_PROBLEM => u32::from(error.pointer()),
                _ if error.needs_fragments() => u32::from(error.mtu()),
                _ => 0,
            },
            to,
            at: cx.now,
            payload: payload.into_boxed_slice(),
            charge: skb.truesize,
        }
    }

    /// Whether the error is told by the next call, too.
    fn is_remote(&self) -> bool {
        matches!(self.origin, ErrorOrigin::Icmp { .. })
    }
}

/// The errors that nobody has read. They share the receive buffer with what is received; its owner keeps the sum.
#[derive(Default)]
pub(super) struct ErrorQueue(VecDeque<QueuedError>);

impl ErrorQueue {
    /// True if none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, error: QueuedError) {
        self.0.push_back(error);
    }

    /// The oldest, and what the next call is to tell then: the one behind, if another host told of it. None in the place of
    /// that leaves what is pending.
    pub(super) fn pop(&mut self) -> Option<(QueuedError, Option<Option<SockError>>)> {
        let first = self.0.pop_front()?;
        let next = self.0.front().filter(|next| next.is_remote()).map(|next| next.error);
        let pending = (next.is_some() || first.is_remote()).then_some(next);
        Some((first, pending))
    }

    /// Forgets all; gives what they were charged.
    pub(super) fn clear(&mut self) -> u32 {
        self.0.drain(..).map(|error| error.charge).sum()
    }
}
