//! ICMP errors about segments that we sent (`tcp_v4_err`).

use std::sync::Arc;

use rxpath_mem::{OwnedSoftirq, Skb};
use rxpath_trace::{Counter, Time};
use rxpath_wire::{SeqNum, Tuple, icmp as wire_icmp};

use super::receive::{let_go, remove_request};
use super::{State, TcpSock};
use crate::cx::Cx;
use crate::icmp::IcmpError;
use crate::route;
use crate::socket::{Deferred, ErrorMeans, FlowEntry, FlowTable, QueuedError, Quoted, Sock, post};

/// `tcp_v4_err`: an error about a segment, to its connection; `skb` is the message. False if there is none.
#[cold]
pub fn v4_err(cx: &mut Cx, flows: &mut FlowTable, error: &IcmpError, skb: &Skb) -> bool {
    let [a, b, c, d, seq @ ..] = error.transport;
    let tuple = Tuple {
        local: error.src,
        remote: error.dst,
        local_port: u16::from_be_bytes([a, b]),
        remote_port: u16::from_be_bytes([c, d]),
    };
    let seq = SeqNum(u32::from_be_bytes(seq));
    let Some(id) = flows.lookup(cx.net.hasher.hash(&tuple), &tuple) else { return false };
    match flows.get_mut(id) {
        Some(FlowEntry::Sock(entry)) => {
            let Some(sock) = entry.sock.take() else { return true };
            if !sock.takes_link(error.ifindex) {
                entry.sock = Some(sock);
                return false;
            }
            match OwnedSoftirq::lock(sock) {
                Ok(mut sk) => {
                    sk.icmp_error(cx, error, seq, skb);
                    let_go(cx, flows, id, sk);
                }
                Err(sock) => {
                    defer(cx, &sock, error, seq);
                    entry.sock = Some(sock);
                }
            }
        }
        Some(FlowEntry::Request(request)) => {
            // `tcp_req_err`
            if !request.takes_link(error.ifindex) {
                return false;
            }
            if seq != request.snt_isn {
                cx.count(Counter::TcpExtOutOfWindowIcmps);
            } else if ends_request(error) {
                let listener = Arc::clone(&request.listener);
                cx.count(Counter::TcpExtListenDrops);
                remove_request(flows, id);
                drop(listener);
            }
        }
        Some(FlowEntry::TimeWait(tw)) => return tw.takes_link(error.ifindex),
        None => {}
    }
    true
}

/// The application has the socket. That a link is narrow is seen to when it lets go, as in the kernel; of other errors no
/// more than what went wrong is kept. The kernel looks at once whether the segment is in flight, here that is looked at
/// later, too, before anything else is done.
fn defer(cx: &Cx, sock: &Sock, error: &IcmpError, seq: SeqNum) {
    let narrow = error.needs_fragments();
    if !narrow {
        cx.count(Counter::TcpExtLockDroppedIcmps);
    }
    // A redirect is forgotten.
    let Some(means) = ErrorMeans::of(error.kind, error.code) else { return };
    sock.errors.put(|deferred| match narrow {
        true => deferred.narrow = Some((*error, seq)),
        false => deferred.soft = Some((means.error, error.ttl, seq)),
    });
    sock.defer(post::ERROR);
}

/// Whether an error ends the attempt of a peer to connect.
fn ends_request(error: &IcmpError) -> bool {
    error.no_way() || matches!(error.kind, wire_icmp::PARAMETER_PROBLEM | wire_icmp::TIME_EXCEEDED)
}

impl TcpSock {
    fn icmp_error(&mut self, cx: &mut Cx, error: &IcmpError, seq: SeqNum, skb: &Skb) {
        if self.state == State::Close || self.ip.is_too_low(cx, error.ttl) {
            return;
        }
        if !self.in_flight(cx, seq) || self.ignores_icmp(cx, error.kind, error.code) {
            return;
        }
        if error.kind == wire_icmp::REDIRECT {
            if let Some(gateway) = route::do_redirect(&cx.net, error.dst, (error.from, error.gateway()), cx.now) {
                (self.route.nexthop, self.route.mac) = (gateway, None);
            }
            return;
        }
        if error.needs_fragments() {
            return self.mtu_reduced(cx, error);
        }
        let Some(means) = ErrorMeans::of(error.kind, error.code) else { return };
        if error.no_way() && seq == self.tx.snd_una && !self.is_early() {
            self.revert_timeout(cx);
        }
        match self.state {
            // Who has been accepted already is as good as connected.
            State::SynSent | State::SynRecv if !(self.is_early() && self.user.accepted) => {
                let to = (self.tuple.remote, self.tuple.remote_port);
                let told = QueuedError::of_icmp(cx, error, means, to, skb, Quoted::Behind(0));
                if self.rx.rmem_alloc.saturating_add(told.charge) < self.rx.rcvbuf {
                    self.user.error_told = Some(Box::new(told));
                }
                self.user.error = Some(means.error);
                self.done(cx);
            }
            // The connection stands all the same; of this no details are kept.
            _ if self.user.recv_errors => {
                self.user.error = Some(means.error);
                self.effects.wake_recv = true;
                self.effects.wake_send = true;
            }
            // It may pass: the application hears of it only if the connection gives up.
            _ => self.user.error_soft = Some(means.error),
        }
    }

    /// Whether ICMP errors are told at once (`IP_RECVERR`). Taken back, what nobody read in detail is forgotten.
    pub fn set_recv_errors(&mut self, recv_errors: bool) {
        self.user.recv_errors = recv_errors;
        if !recv_errors {
            self.user.error_told = None;
        }
    }

    /// `ip_recv_error`: the error that ended the attempt to connect, in detail, if nobody has read it. The next call does not
    /// tell of it any more.
    pub fn take_told_error(&mut self) -> Option<QueuedError> {
        let told = self.user.error_told.take()?;
        self.user.error = None;
        Some(*told)
    }

    /// Whether an error is about something in flight; counts it if not.
    fn in_flight(&self, cx: &Cx, seq: SeqNum) -> bool {
        let known = seq.at_or_after(self.oldest_in_flight()) && self.tx.snd_nxt.at_or_after(seq);
        if !known {
            cx.count(Counter::TcpExtOutOfWindowIcmps);
        }
        known
    }

    /// Of the errors that came while the application owned the socket those that are about something in flight.
    pub(super) fn judge_deferred(&mut self, cx: &Cx, deferred: Deferred) -> Deferred {
        let open = self.state != State::Close;
        Deferred {
            narrow: deferred.narrow.filter(|(error, seq)| {
                open && !self.ip.is_too_low(cx, error.ttl)
                    && self.in_flight(cx, *seq)
                    && !self.ignores_icmp(cx, error.kind, error.code)
            }),
            soft: deferred.soft.filter(|(error, ttl, seq)| {
                open && !self.ip.is_too_low(cx, *ttl) && self.in_flight(cx, *seq) && !self.ignores_error(cx, *error)
            }),
        }
    }

    /// The application has let go (`tcp_release_cb`): what was put off is done.
    pub(super) fn deferred_errors(&mut self, cx: &mut Cx, deferred: Deferred) {
        if self.state == State::Close {
            return;
        }
        if let Some((error, ..)) = deferred.soft {
            self.user.error_soft = Some(error);
        }
        if let Some((error, _)) = deferred.narrow {
            self.mtu_reduced(cx, &error);
        }
    }

    /// `tcp_v4_mtu_reduced`: segments get smaller, and those that were too long are sent again at once, unless the application
    /// does not want that. Then they get smaller when next something is sent.
    fn mtu_reduced(&mut self, cx: &mut Cx, error: &IcmpError) {
        let believed = route::update_pmtu(&cx.net, error.dst, error.mtu(), cx.now);
        let Some(mtu) = believed.filter(|mtu| *mtu < self.tx.pmtu) else { return };
        self.route.mtu = mtu;
        if !self.user.mtu_discover.sends_again() {
            return;
        }
        let before = self.tx.mss;
        self.sync_mss(self.tx.mss_clamp);
        // What is small enough as it is has not been lost.
        if self.tx.mss < before {
            self.simple_retransmit(cx);
        }
        if !self.tx.segments.is_empty() && self.timers.retransmit == Time::MAX {
            self.arm_for_output(cx);
        }
    }
}
