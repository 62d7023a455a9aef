//! Phase 6: from IP to a socket (`tcp_v4_rcv`), and what happens when the socket is let go again.

use std::sync::Arc;

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, OwnedSoftirq, PktType, Skb};
use rxpath_trace::event::ports_word;
use rxpath_trace::{AckWhy, Counter, DropReason, EventKind, LookupKind, PacketId, Time};
use rxpath_wire::{Ipv4Header, SeqNum, TcpHeader, Tuple};

use super::auth::{self, Auth};
use super::early_demux::Known;
use super::ip_fields::came_too_far;
use super::listen::{self, Checked};
use super::streak::{Source, Taken};
use super::timewait::Verdict;
use super::{Effects, Incoming, Request, Segment, SockError, State, TcpSock, TimeWait, backlog, reply};
use crate::cx::{Cx, Fate};
use crate::netns::Strangers;
use crate::socket::table::SockEntry;
use crate::socket::{Arrival, FlowEntry, FlowId, FlowTable, Listener, Sock};

/// The checks of `tcp_v4_rcv`, in its order; `skb` starts at the TCP header and leaves at the payload.
#[inline(always)]
pub fn v4_rcv(cx: &mut Cx, mut skb: Skb) -> Fate<Skb> {
    if skb.pkt_type != PktType::Host {
        return Fate::Drop(skb, DropReason::NotSpecified);
    }
    debug_assert_eq!(usize::from(skb.transport_off), skb.data_offset(), "IP delivery set the transport header");
    cx.count(Counter::TcpInSegs);
    let header_len = TcpHeader::parse(skb.data()).map(|(tcp, _)| tcp.header_len());
    let pseudo = Ipv4Header::parse(skb.network_header()).map(|(ip, _)| ip.pseudo_total(skb.len()));
    let Some((header_len, pseudo)) = header_len.zip(pseudo) else {
        return Fate::Drop(skb, DropReason::PktTooSmall);
    };
    if header_len < TcpHeader::LEN {
        cx.count(Counter::TcpInErrs);
        return bad_header(cx, skb, DropReason::PktTooSmall);
    }
    if skb.headlen() < header_len {
        return bad_header(cx, skb, DropReason::PktTooSmall);
    }
    if skb.ip_summed == IpSummed::None && !checksum_verifies(pseudo, &skb) {
        return bad_checksum(cx, skb);
    }
    let pulled = skb.pull(header_len);
    debug_assert!(pulled, "the header lies in the linear part");
    Fate::Pass(skb)
}

#[cold]
fn record(cx: &mut Cx, skb: &Skb, incoming: &Incoming) {
    let Incoming { seg, tuple } = incoming;
    let ports = ports_word(tuple.remote_port, tuple.local_port);
    cx.record(skb.id, EventKind::TcpV4Rcv, seg.seq.0, seg.len, PacketId::NONE);
    cx.record(skb.id, EventKind::Ports, ports, u32::from(seg.flags.0), PacketId::NONE);
}

/// Drops a segment for what its header says, of which the ports are told.
#[cold]
fn bad_header<T>(cx: &mut Cx, skb: Skb, reason: DropReason) -> Fate<T> {
    if let Some((header, _)) = TcpHeader::parse(skb.data()) {
        let (ports, flags) = (ports_word(header.src_port(), header.dst_port()), header.flags());
        cx.event(&skb, EventKind::Ports, ports, u32::from(flags.0));
    }
    Fate::Drop(skb, reason)
}

#[cold]
fn bad_checksum<T>(cx: &mut Cx, skb: Skb) -> Fate<T> {
    cx.count(Counter::TcpInCsumErrors);
    cx.count(Counter::TcpInErrs);
    bad_header(cx, skb, DropReason::TcpCsum)
}

/// The sum over pseudo-header, header and payload, fragments included, is all ones. `pseudo`: the total of the
/// pseudo-header, of little-endian words.
#[inline(always)]
fn checksum_verifies(pseudo: u64, skb: &Skb) -> bool {
    let fragments = if skb.data_len() > 0 { sum_of_fragments(skb) } else { 0 };
    csum::is_all_ones(skb.data(), pseudo + u64::from(fragments.swap_bytes()))
}

/// The sum of what lies behind the linear part, as it stands in the whole.
#[cold]
fn sum_of_fragments(skb: &Skb) -> u16 {
    let (mut sum, mut odd) = (0, skb.headlen() % 2 == 1);
    for fragment in skb.fragments().skip(1) {
        sum = csum::combine(sum, csum::sum(fragment), odd);
        odd ^= fragment.len() % 2 == 1;
    }
    sum
}

/// Consecutive packets of one flow: one look-up, one lock. Whoever starts a run must finish it.
pub struct Run {
    held: Option<OwnedSoftirq<Sock, TcpSock>>,
    id: FlowId,
    /// The interface that the first packet came by.
    ifindex: u16,
}

impl Run {
    /// No socket is held.
    pub fn none() -> Run {
        Run { held: None, id: FlowId::NONE, ifindex: 0 }
    }

    /// What is known of the flow's next packets, if its socket is held.
    #[inline]
    pub fn known(&self, cx: &Cx) -> Option<Known> {
        Known::of(cx, self.tuple()?, self.id, self.ifindex)
    }

    /// The tuple of its flow, if its socket is held.
    #[inline(always)]
    fn tuple(&self) -> Option<&Tuple> {
        Some(&self.held.as_ref()?.owner()?.tuple)
    }

    /// Whether it is of this flow, and its socket held.
    #[inline(always)]
    fn is_of(&self, tuple: &Tuple) -> bool {
        self.tuple() == Some(tuple)
    }

    /// Takes frames of the run's flow straight from a ring, those that look like the one before (`streak.rs`).
    #[inline]
    pub fn streak(&mut self, cx: &mut Cx, source: &mut Source<'_>, limit: usize) -> Option<Taken> {
        self.held.as_deref_mut()?.streak(cx, source, limit)
    }

    /// Lets the socket go and does what its packets asked for.
    #[inline]
    pub fn finish(&mut self, cx: &mut Cx, flows: &mut FlowTable) {
        if let Some(held) = self.held.take() {
            let_go(cx, flows, self.id, held);
        }
    }
}

/// Hands a validated segment to its socket, through the backlog if the application owns it.
#[inline(always)]
pub fn deliver(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, mut skb: Skb) {
    let Some(incoming) = Incoming::of(&skb) else { return cx.drop_skb(skb, DropReason::PktTooSmall) };
    skb.seq = incoming.seg.seq.0;
    skb.end_seq = incoming.seg.end_seq.0;
    if skb.traced() {
        record(cx, &skb, &incoming);
    }
    if auth::may_carry(&incoming.seg)
        && let Some(reason) = refusal(cx, flows, run, &skb, &incoming)
    {
        run.finish(cx, flows);
        return cx.drop_skb(skb, reason);
    }
    if run.is_of(&incoming.tuple) && run.ifindex == skb.ifindex {
        return go_on(cx, flows, run, skb, &incoming.seg);
    }
    run.finish(cx, flows);
    start_run(cx, flows, run, skb, &incoming);
}

/// The reason for which a segment is dropped whose authentication is malformed, or which is signed while the connection has
/// agreed to no signatures (`tcp_inbound_hash`). Who has keys, or may have, looks for himself; a mini-socket asks for no
/// authentication.
#[inline(never)]
fn refusal(cx: &mut Cx, flows: &mut FlowTable, run: &Run, skb: &Skb, incoming: &Incoming) -> Option<DropReason> {
    let malformed = match auth::parse(incoming.seg.option_bytes(skb)) {
        Ok(Auth::None | Auth::Ao(_)) => return None,
        Ok(Auth::Md5(_)) => None,
        Err(reason) => Some(reason),
    };
    let tuple = &incoming.tuple;
    let expects = run.held.as_deref().filter(|_| run.is_of(tuple)).map(|sk| sk.auth_len > 0);
    let id = flows.lookup(flow_hash(cx, skb, tuple), tuple);
    let entry = if expects.is_none() { id.and_then(|id| flows.get_mut(id)) } else { None };
    let expects = match entry {
        Some(FlowEntry::TimeWait(_)) => return None,
        Some(FlowEntry::Sock(entry)) => entry.sock.as_ref().is_some_and(|sock| sock.is_signed()),
        Some(FlowEntry::Request(_)) => true,
        None => expects.unwrap_or(true),
    };
    let is_nobodys = id.is_none() && listener_of(cx, skb, tuple).is_none();
    match malformed {
        Some(_) if is_nobodys => Some(DropReason::NoSocket),
        None if !expects => Some(auth::unexpected_md5(cx)),
        malformed => malformed,
    }
}

/// The keyed hash of a segment's flow: what steering computed, where it did.
#[inline(always)]
fn flow_hash(cx: &Cx, skb: &Skb, tuple: &Tuple) -> u32 {
    if skb.hash != 0 { skb.hash } else { cx.net.hasher.hash(tuple) }
}

/// A segment of another flow than the last one.
#[inline(never)]
fn start_run(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb, incoming: &Incoming) {
    let hash = flow_hash(cx, &skb, &incoming.tuple);
    let Some(id) = flows.lookup(hash, &incoming.tuple) else {
        return no_flow(cx, flows, hash, skb, incoming);
    };
    match flows.get_mut(id) {
        Some(FlowEntry::Sock(_)) => {
            cx.event(&skb, EventKind::LookupHit, LookupKind::Established as u32, 0);
            start_run_of(cx, flows, run, id, skb, &incoming.seg);
        }
        Some(FlowEntry::Request(_)) => request(cx, flows, id, hash, skb, incoming),
        Some(FlowEntry::TimeWait(_)) => time_wait(cx, flows, id, hash, skb, incoming),
        None => cx.drop_skb(skb, DropReason::NoSocket),
    }
}

/// The listener for a flow: where several share the address, the flow's hash decides (`inet_ehashfn`, with a key of its own
/// here, so that the Cpu that a flow belongs to says nothing of its listener).
fn listener_of(cx: &mut Cx, skb: &Skb, tuple: &Tuple) -> Option<Arc<Listener>> {
    let hasher = cx.net.hasher;
    let from = Arrival { ifindex: skb.ifindex, cpu: cx.cpu };
    cx.listeners.lookup(tuple.local, tuple.local_port, from, || hasher.hash(&tuple.reversed())).cloned()
}

/// The flow has a socket that is bound to another interface than the segment came by. It is nobody's: there are no two flows
/// here that differ by their interfaces alone.
#[cold]
fn of_other_link(cx: &mut Cx, skb: Skb, seg: &Segment) {
    cx.event(&skb, EventKind::LookupMiss, 0, 0);
    reply::reset_of_nobody(cx, &skb, seg);
    cx.drop_skb(skb, DropReason::NoSocket);
}

/// A segment of a flow that has a socket.
#[inline(always)]
fn start_run_of(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, id: FlowId, skb: Skb, seg: &Segment) {
    let Some(entry) = flows.sock_mut(id) else { return cx.drop_skb(skb, DropReason::NoSocket) };
    let Some(sock) = entry.sock.take() else { return cx.drop_skb(skb, DropReason::NoSocket) };
    if !sock.takes_link(skb.ifindex) {
        entry.sock = Some(sock);
        return of_other_link(cx, skb, seg);
    }
    match OwnedSoftirq::lock(sock) {
        Ok(mut sk) => {
            backlog::drain(cx, &mut sk, entry);
            let ifindex = skb.ifindex;
            sk.rx.mark_napi(skb.id);
            let end = sk.do_rcv(cx, skb, seg);
            sk.end(cx, end);
            *run = Run { held: Some(sk), id, ifindex };
            if run.held.as_ref().is_some_and(|sk| sk.effects.is_last()) {
                run.finish(cx, flows);
            }
        }
        Err(sock) => {
            let end = backlog::add(cx, &sock, entry, skb, seg);
            entry.sock = Some(sock);
            cx.end(end);
        }
    }
}

/// Hands a packet to the socket of its flow, which is known: it still begins at its IP header.
#[inline(always)]
pub fn deliver_known(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, id: FlowId, mut skb: Skb, seg: &Segment) {
    cx.count(Counter::TcpInSegs);
    let pulled = skb.pull(Ipv4Header::LEN + usize::from(seg.header_len));
    debug_assert!(pulled, "the headers lie in the linear part");
    skb.transport_off = skb.network_off + Ipv4Header::LEN as u16;
    (skb.seq, skb.end_seq) = (seg.seq.0, seg.end_seq.0);
    if run.held.is_some() && run.id == id && run.ifindex == skb.ifindex {
        return go_on(cx, flows, run, skb, seg);
    }
    run.finish(cx, flows);
    start_run_of(cx, flows, run, id, skb, seg);
}

/// A segment of the run's flow.
#[inline(always)]
fn go_on(cx: &mut Cx, flows: &mut FlowTable, run: &mut Run, skb: Skb, seg: &Segment) {
    let Some(sk) = run.held.as_deref_mut() else { return cx.drop_skb(skb, DropReason::NoSocket) };
    let end = sk.do_rcv(cx, skb, seg);
    let over = sk.effects.is_last();
    sk.end(cx, end);
    if over {
        run.finish(cx, flows);
    }
}

/// No flow has this tuple: a listener, or nobody.
fn no_flow(cx: &mut Cx, flows: &mut FlowTable, hash: u32, skb: Skb, incoming: &Incoming) {
    let Incoming { seg, tuple } = *incoming;
    let opens = seg.flags.syn() && !seg.flags.ack();
    if cx.net.strangers == Strangers::Leave && !opens {
        cx.event(&skb, EventKind::LookupMiss, 0, 0);
        return cx.drop_skb(skb, DropReason::FlowNotFollowed);
    }
    let Some(listener) = listener_of(cx, &skb, &tuple) else {
        cx.event(&skb, EventKind::LookupMiss, 0, 0);
        reply::reset_of_nobody(cx, &skb, &seg);
        return cx.drop_skb(skb, DropReason::NoSocket);
    };
    cx.event(&skb, EventKind::LookupHit, LookupKind::Listener as u32, 0);
    to_listener(cx, flows, hash, (skb, incoming), &listener, None);
}

/// A segment for a listener. `isn` is given when TIME-WAIT made way.
fn to_listener(
    cx: &mut Cx,
    flows: &mut FlowTable,
    hash: u32,
    (skb, incoming): (Skb, &Incoming),
    listener: &Arc<Listener>,
    isn: Option<SeqNum>,
) {
    let Incoming { seg, tuple } = *incoming;
    if came_too_far(cx, &skb, listener.min_ttl()) {
        return cx.drop_skb(skb, DropReason::TcpMinttl);
    }
    let ao = match listener.auth.inbound_hash(cx, &skb, &seg, &tuple) {
        Ok(ao) => ao,
        Err(reason) => return cx.drop_skb(skb, reason),
    };
    if isn.is_none()
        && seg.flags.ack()
        && let Some(request) = listen::cookie_check(cx, &skb, &seg, tuple, listener, ao)
    {
        return accept_cookie(cx, flows, hash, skb, &request, &seg);
    }
    match listen::rcv(cx, skb, &seg, tuple, listener, (isn, ao)) {
        Ok((skb, request)) => open_request(cx, flows, hash, skb, request, &seg),
        Err(end) => cx.end(end),
    }
}

/// The third segment of a handshake of which only the cookie was known (`tcp_get_cookie_sock`).
fn accept_cookie(cx: &mut Cx, flows: &mut FlowTable, hash: u32, skb: Skb, request: &Request, seg: &Segment) {
    if request.listener.accept_queue_full() {
        cx.count(Counter::TcpExtListenOverflows);
        cx.count(Counter::TcpExtListenDrops);
        return cx.drop_skb(skb, DropReason::TcpListenOverflow);
    }
    let Some(child) = request.child(cx) else {
        cx.count(Counter::IpOutNoRoutes);
        return cx.drop_skb(skb, DropReason::IpOutnoroutes);
    };
    let sock = Arc::new(Sock::new(child, hash, cx.cpu, Some(Arc::clone(&request.listener)), &cx.tcp_memory));
    let id = flows.insert(hash, request.tuple, FlowEntry::Sock(SockEntry::new(Arc::clone(&sock))));
    process_child(cx, flows, id, sock, skb, seg);
}

/// The SYN brought a good cookie: its socket begins now (`tcp_fastopen_create_child`).
#[cold]
fn open_early(cx: &mut Cx, flows: &mut FlowTable, hash: u32, skb: Skb, request: Request, seg: &Segment) {
    let Some(child) = request.early_child(cx, seg) else {
        cx.count(Counter::IpOutNoRoutes);
        return cx.drop_skb(skb, DropReason::IpOutnoroutes);
    };
    let sock = Arc::new(Sock::new(child, hash, cx.cpu, Some(Arc::clone(&request.listener)), &cx.tcp_memory));
    let id = flows.insert(hash, request.tuple, FlowEntry::Sock(SockEntry::new(Arc::clone(&sock))));
    match OwnedSoftirq::lock(sock) {
        Ok(mut sk) => {
            let end = sk.open_early(cx, skb, seg, Box::new(request));
            sk.end(cx, end);
            let_go(cx, flows, id, sk);
        }
        // Nobody else knows the socket yet.
        Err(_) => cx.drop_skb(skb, DropReason::SocketBacklog),
    }
}

/// Remembers the request and answers with the SYN-ACK; or does not wait for the rest of the handshake.
fn open_request(cx: &mut Cx, flows: &mut FlowTable, hash: u32, skb: Skb, mut request: Request, seg: &Segment) {
    if request.early {
        return open_early(cx, flows, hash, skb, request, seg);
    }
    request.listener.request_added();
    request.send_synack(cx);
    let (tuple, deadline) = (request.tuple, request.deadline);
    let id = flows.insert(hash, tuple, FlowEntry::Request(Box::new(request)));
    flows.arm(id, deadline);
    cx.consume(skb, rxpath_trace::Consumed::Handshake);
}

/// A segment for a connection request.
fn request(cx: &mut Cx, flows: &mut FlowTable, id: FlowId, hash: u32, skb: Skb, incoming: &Incoming) {
    cx.event(&skb, EventKind::LookupHit, LookupKind::Request as u32, 0);
    let Some(FlowEntry::Request(request)) = flows.get_mut(id) else { return };
    if !request.takes_link(skb.ifindex) {
        return of_other_link(cx, skb, &incoming.seg);
    }
    let heir = listen::heir_of(cx, request);
    if heir.is_none() && request.listener.is_closed() {
        // The listener is gone, and its requests with it: another one that shares the address knows nothing of them.
        listen::not_migrated(cx, request);
        remove_request(flows, id);
        return no_flow(cx, flows, hash, skb, incoming);
    }
    if let Err(reason) = request.listener.auth.inbound_hash_of(cx, &skb, &incoming.seg, &request.half_open()) {
        return cx.drop_skb(skb, reason);
    }
    match request.check(cx, skb, &incoming.seg, heir.as_ref()) {
        Checked::Stay(end) => cx.end(end),
        Checked::Listener(skb) => {
            let (listener, Incoming { seg, tuple }) = (Arc::clone(&request.listener), *incoming);
            if let Some(request) = listen::cookie_check(cx, &skb, &seg, tuple, &listener, None) {
                remove_request(flows, id);
                return accept_cookie(cx, flows, hash, skb, &request, &seg);
            }
            match listen::rcv(cx, skb, &seg, tuple, &listener, (None, None)) {
                Ok((skb, _)) => cx.drop_skb(skb, DropReason::TcpFlags),
                Err(end) => cx.end(end),
            }
        }
        Checked::Remove(end) => {
            remove_request(flows, id);
            cx.end(end);
        }
        Checked::Child(skb) => {
            if let Some(heir) = heir {
                request.migrate(cx, heir);
            }
            let (listener, young) = (Arc::clone(&request.listener), request.retransmits == 0);
            let Some(child) = request.child(cx) else {
                cx.count(Counter::IpOutNoRoutes);
                return cx.drop_skb(skb, DropReason::IpOutnoroutes);
            };
            listener.request_removed(young);
            let sock = Arc::new(Sock::new(child, hash, cx.cpu, Some(listener), &cx.tcp_memory));
            let entry = SockEntry::new(Arc::clone(&sock));
            flows.replace(id, FlowEntry::Sock(entry));
            process_child(cx, flows, id, sock, skb, &incoming.seg);
        }
    }
}

/// The third segment of the handshake is the first one that the new socket processes (`tcp_child_process`); the listener has
/// verified it.
fn process_child(cx: &mut Cx, flows: &mut FlowTable, id: FlowId, sock: Arc<Sock>, skb: Skb, seg: &Segment) {
    match OwnedSoftirq::lock(sock) {
        Ok(mut sk) => {
            sk.rx.mark_napi(skb.id);
            let end = sk.do_rcv_verified(cx, skb, seg);
            sk.end(cx, end);
            let_go(cx, flows, id, sk);
        }
        // Nobody else knows the socket yet.
        Err(_) => cx.drop_skb(skb, DropReason::SocketBacklog),
    }
}

pub(super) fn remove_request(flows: &mut FlowTable, id: FlowId) {
    if let Some(FlowEntry::Request(request)) = flows.remove(id) {
        request.listener.request_removed(request.retransmits == 0);
    }
}

/// A segment for a mini-socket.
fn time_wait(cx: &mut Cx, flows: &mut FlowTable, id: FlowId, hash: u32, skb: Skb, incoming: &Incoming) {
    let Incoming { seg, tuple } = *incoming;
    cx.event(&skb, EventKind::LookupHit, LookupKind::TimeWait as u32, 0);
    let Some(FlowEntry::TimeWait(tw)) = flows.get_mut(id) else { return };
    if !tw.takes_link(skb.ifindex) {
        return of_other_link(cx, skb, &seg);
    }
    match tw.process(cx, skb, &seg) {
        Verdict::Stay(end) => {
            let deadline = tw.deadline;
            cx.end(end);
            flows.arm(id, deadline);
        }
        Verdict::Kill(end) => {
            end_time_wait(cx, flows, id);
            cx.end(end);
        }
        Verdict::Reopen(skb, isn) => {
            let Some(listener) = listener_of(cx, &skb, &tuple) else {
                let Some(FlowEntry::TimeWait(tw)) = flows.get_mut(id) else { return };
                let end = tw.answer_syn(cx, skb);
                return cx.end(end);
            };
            end_time_wait(cx, flows, id);
            to_listener(cx, flows, hash, (skb, incoming), &listener, Some(isn));
        }
    }
}

fn end_time_wait(cx: &mut Cx, flows: &mut FlowTable, id: FlowId) {
    if let Some(FlowEntry::TimeWait(tw)) = flows.remove(id) {
        cx.tcp_memory.time_wait_removed();
        if tw.opened_here {
            cx.binds.forget(&tw.tuple);
        }
    }
}

/// Lets a socket go: frees the lock, puts the handle back, and does what the packets asked for: timers, wake-ups,
/// accept queue, mini-socket, removal.
pub(crate) fn let_go(cx: &mut Cx, flows: &mut FlowTable, id: FlowId, mut sk: OwnedSoftirq<Sock, TcpSock>) {
    let deadline = sk.timers.next();
    let untold = sk.rx.take_untold();
    if let Some(sock) = sk.owner() {
        sock.publish_memory(&sk, untold);
        if untold != 0 {
            cx.tcp_memory.tell_by_softirq(cx.cpu, untold);
        }
    }
    let left = if sk.effects.is_empty() { None } else { take_effect(cx, &mut sk) };
    if untold < 0 {
        cx.tcp_memory.gave_back(cx.net.sysctl.tcp_mem, cx.now);
    }
    let sock = sk.release();
    let known = match flows.sock_mut(id) {
        Some(entry) => {
            entry.sock = sock;
            let earlier = deadline < entry.timer_at;
            if earlier {
                entry.timer_at = deadline;
            }
            if earlier && deadline != Time::MAX {
                flows.arm(id, deadline);
            }
            true
        }
        None => false,
    };
    if let Some(left) = left.filter(|_| known) {
        leave_table(cx, flows, id, left);
    }
}

/// What a socket leaves in its place in the table.
enum Left {
    /// Nothing.
    Free,
    /// A mini-socket.
    TimeWait(Box<TimeWait>),
}

/// What the packets asked for; what the socket leaves, if it is to leave the table.
fn take_effect(cx: &mut Cx, sk: &mut OwnedSoftirq<Sock, TcpSock>) -> Option<Left> {
    let effects = std::mem::take(&mut sk.effects);
    let mini = effects.timewait.map(|(state, len)| {
        let opened_here = sk.owner().is_some_and(|sock| sock.listener.is_none());
        TimeWait::of(sk, state, cx.now + len, opened_here)
    });
    if effects.wake_recv {
        sk.user.wait_recv = false;
    }
    if effects.wake_send {
        sk.user.wait_send = false;
    }
    if let Some(sock) = sk.owner() {
        apply(cx, sock, &effects);
    }
    mini.map(|mini| Left::TimeWait(Box::new(mini))).or_else(|| effects.closed.then_some(Left::Free))
}

/// Wake-ups and the accept queue.
fn apply(cx: &mut Cx, sock: &Arc<Sock>, effects: &Effects) {
    if effects.wake_recv {
        cx.wakeups.reader(sock);
    }
    if effects.wake_send {
        cx.wakeups.writer(sock);
    }
    if effects.established
        && let Some(listener) = &sock.listener
    {
        match listener.push(Arc::clone(sock)) {
            Ok(()) => cx.wakeups.acceptor(listener),
            Err(sock) => listen::push_to_heir(cx, listener, sock),
        }
    }
}

/// Mini-sockets that stay no longer are counted apart (`__inet_twsk_schedule`).
const SHORT_TIMEWAIT: u64 = 4_000_000_000;

/// The socket is done: its place goes to the mini-socket, or is free.
fn leave_table(cx: &mut Cx, flows: &mut FlowTable, id: FlowId, left: Left) {
    let old = match left {
        Left::TimeWait(mini) if cx.tcp_memory.time_wait_added(cx.net.sysctl.tcp_max_tw_buckets) => {
            let deadline = mini.deadline;
            mini.tell_binds(cx);
            let short = deadline - cx.now <= SHORT_TIMEWAIT;
            cx.count(if short { Counter::TcpExtTWKilled } else { Counter::TcpExtTW });
            let old = flows.replace(id, FlowEntry::TimeWait(mini));
            flows.arm(id, deadline);
            old
        }
        Left::TimeWait(_) => {
            cx.count(Counter::TcpExtTCPTimeWaitOverflow);
            flows.remove(id)
        }
        Left::Free => flows.remove(id),
    };
    let Some(FlowEntry::Sock(mut entry)) = old else { return };
    backlog::purge(cx, &mut entry.backlog);
    if !matches!(flows.get_mut(id), Some(FlowEntry::TimeWait(_)))
        && let Some(sock) = &entry.sock
        && sock.listener.is_none()
    {
        cx.binds.disconnect(&sock.tuple);
    }
}

/// A deadline of the wheel has come.
pub fn timer_fired(cx: &mut Cx, flows: &mut FlowTable, id: FlowId) {
    let now = cx.now;
    match flows.get_mut(id) {
        Some(FlowEntry::Sock(entry)) => {
            entry.timer_at = Time::MAX;
            let Some(sock) = entry.sock.take() else { return };
            match OwnedSoftirq::lock(sock) {
                Ok(mut sk) => {
                    sk.run_timers(cx);
                    let_go(cx, flows, id, sk);
                }
                Err(sock) => {
                    // The application owns it: the timers run when it lets go.
                    sock.defer(crate::socket::post::TIMER);
                    entry.sock = Some(sock);
                }
            }
        }
        Some(FlowEntry::Request(request)) => {
            if request.deadline > now || request.timer(cx) {
                let deadline = request.deadline;
                flows.arm(id, deadline);
            } else {
                remove_request(flows, id);
            }
        }
        Some(FlowEntry::TimeWait(tw)) => {
            if tw.deadline > now {
                let deadline = tw.deadline;
                flows.arm(id, deadline);
            } else {
                end_time_wait(cx, flows, id);
            }
        }
        None => {}
    }
}

/// Carries out what other threads asked of a socket ([`crate::socket::post`]).
pub fn serve(cx: &mut Cx, flows: &mut FlowTable, sock: Arc<Sock>) {
    use crate::socket::post;
    let bits = sock.take_posted() | sock.take_deferred();
    let id = flows.lookup(sock.hash, &sock.tuple);
    let id = id.filter(|&id| {
        flows.sock_mut(id).and_then(|entry| entry.sock.as_ref()).is_some_and(|known| Arc::ptr_eq(known, &sock))
    });
    let mut sk = match OwnedSoftirq::lock(sock) {
        Ok(sk) => sk,
        Err(sock) => return sock.defer(bits),
    };
    if bits & post::CONNECT != 0 {
        return begin(cx, flows, sk, bits);
    }
    if bits & post::TIMER != 0 && sk.timers.delack <= cx.now {
        // `tcp_delack_timer` with the socket in use; which timer it was can only be looked at now.
        cx.count(Counter::TcpExtDelayedACKLocked);
    }
    let told = (bits & post::ERROR != 0).then(|| sk.owner().map(|sock| sock.errors.take()).unwrap_or_default());
    let told = told.map(|told| sk.judge_deferred(cx, told));
    if let Some(entry) = id.and_then(|id| flows.sock_mut(id)) {
        backlog::drain(cx, &mut sk, entry);
    }
    if let Some(told) = told {
        sk.deferred_errors(cx, told);
    }
    carry_out(cx, &mut sk, bits);
    match id {
        Some(id) => let_go(cx, flows, id, sk),
        None => let_go(cx, flows, FlowId { index: u32::MAX, generation: 0 }, sk),
    }
}

/// A connection that we open enters the table, in the place of the mini-socket of one before it if there is one.
fn begin(cx: &mut Cx, flows: &mut FlowTable, mut sk: OwnedSoftirq<Sock, TcpSock>, bits: u8) {
    let Some((hash, tuple)) = sk.owner().map(|sock| (sock.hash, sock.tuple)) else { return };
    let (id, before) = match flows.lookup(hash, &tuple) {
        None => (flows.insert(hash, tuple, FlowEntry::Sock(SockEntry::held())), None),
        Some(id) if matches!(flows.get_mut(id), Some(FlowEntry::TimeWait(_))) => {
            cx.tcp_memory.time_wait_removed();
            (id, flows.replace(id, FlowEntry::Sock(SockEntry::held())))
        }
        Some(_) => {
            // A peer has opened the same connection meanwhile, to a listener whose port this is.
            cx.binds.disconnect(&tuple);
            sk.user.error = Some(SockError::NotAvailable);
            sk.done(cx);
            return let_go(cx, flows, FlowId::NONE, sk);
        }
    };
    let before = match &before {
        Some(FlowEntry::TimeWait(tw)) => Some(&**tw),
        _ => None,
    };
    sk.connect(cx, before);
    carry_out(cx, &mut sk, bits);
    let_go(cx, flows, id, sk);
}

fn carry_out(cx: &mut Cx, sk: &mut TcpSock, bits: u8) {
    use crate::socket::post;
    sk.end_skipped(cx);
    if bits & post::TIMER != 0 {
        sk.run_timers(cx);
    }
    if bits & post::PUSH != 0 {
        sk.push(cx);
        sk.output_charged(cx);
        sk.await_memory(cx);
    }
    if bits & post::ACK != 0 && sk.state != State::Close {
        sk.send_ack(cx, AckWhy::WindowUpdate);
    }
    if bits & post::SHUTDOWN != 0 {
        sk.shutdown_send(cx);
    }
    if bits & post::CLOSE != 0 {
        sk.close(cx);
    }
}
