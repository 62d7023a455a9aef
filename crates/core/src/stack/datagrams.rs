//! What applications call on UDP sockets: bind, connect, send, receive, join, close. Nothing here blocks; what would block
//! gives a registration to wait on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event_listener::EventListener;
use rxpath_mem::{Returns, Skb};
use rxpath_trace::{Counter, DropReason, Event, EventKind, Holder, PacketId, Time};
use rxpath_wire::{Addr, IpProto, Ipv4Header, UdpHeader};

use super::{BindOptions, ListenError, Mail, Stack, lock};
use crate::cx::Rng;
use crate::netns::NetConfig;
use crate::route::{self, AddrType, Reach, Route, RouteError};
use crate::socket::datagram::{Datagrams, NoDatagram, arrival};
use crate::socket::{ErrorOrigin, LOCAL_ERROR, QueuedError, Readiness, post};
use crate::tcp::SockError;
use crate::udp::{self, Binding, MAX_PAYLOAD, Pending, UdpOptions, UdpSock};

/// Why a datagram was not sent.
#[derive(Debug)]
pub enum SendError {
    /// No way to the destination.
    Route(RouteError),
    /// A pending error, now taken.
    Failed(SockError),
    /// It is longer than a datagram may be, or than the way allows where it must not be cut (`EMSGSIZE`).
    TooLong,
    /// The socket is not connected, and no destination was named (`EDESTADDRREQ`).
    NoDestination,
    /// The destination is all hosts of a link, which the socket may not send to (`EACCES`).
    NotPermitted,
    /// The destination's port is 0, or it is not of IPv4; or what is to be cut would be more datagrams than one call may
    /// send, or ones without a checksum (`EINVAL`).
    Invalid,
    /// The socket has no port, and none is free (`EAGAIN`).
    NoPort,
    /// The send buffer is full; with the registration that was asked for.
    Full(Option<EventListener>),
    /// The stack is down.
    Down,
}

/// Why a group could not be joined or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupError {
    /// The address is no group (`EINVAL`).
    NotMulticast,
    /// No interface has that address or leads to the group (`ENODEV`).
    NoInterface,
    /// The socket is in the group already (`EADDRINUSE`).
    Joined,
    /// The socket is not in the group (`EADDRNOTAVAIL`).
    NotJoined,
    /// The socket is in as many groups as it may be (`ENOBUFS`).
    TooMany,
}

/// A datagram that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes that the buffer took.
    pub len: usize,
    /// Bytes of payload; more than `len` if the buffer was too short.
    pub full_len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address that it was sent to.
    pub to: Addr,
    /// Its time to live (`IP_RECVTTL`).
    pub ttl: u8,
    /// Its type of service (`IP_RECVTOS`).
    pub tos: u8,
    /// When it came.
    pub at: Time,
    /// The interface that it came by.
    pub ifindex: u16,
    /// Bytes of each of the datagrams that it was merged of, but for the last; 0 for a single one.
    pub gso_size: u16,
}

impl Stack {
    /// A UDP socket bound to `addr`: an address of this host, a group, a broadcast address, or none in particular. Port 0
    /// chooses a free one.
    ///
    /// # Errors
    /// The address is taken or not local, or the stack is down.
    pub fn udp_bind(&self, addr: SocketAddr, options: BindOptions) -> Result<Arc<UdpSock>, ListenError> {
        if self.is_down() {
            return Err(ListenError::Down);
        }
        let net = self.config();
        let local = Addr::from(addr.ip());
        let known = matches!(net.fib.addr_type(local), AddrType::Unicast) || !local.is_v4();
        if known || options.ifindex.is_some_and(|ifindex| net.interface(ifindex).is_none()) {
            return Err(ListenError::NotLocal);
        }
        let number = self.0.sockets.fetch_add(1, Ordering::Relaxed);
        let rx = Datagrams::new(net.sysctl.rmem_default, Arc::clone(&self.0.udp.memory));
        let cpu = (number % u64::from(net.cpus)) as u16;
        let sock = Arc::new(UdpSock::new(number, cpu, rx, net.sysctl.wmem_default));
        let binding = Binding {
            local,
            port: addr.port(),
            remote: None,
            ifindex: options.ifindex.unwrap_or(0),
            reuse_addr: options.reuse_addr,
            reuse_port: options.reuse_port,
        };
        let mut rng = Rng::new(self.0.seed ^ (number + 1) << 20);
        if self.0.udp.bind(&sock, binding, &net.sysctl, &mut rng) { Ok(sock) } else { Err(ListenError::InUse) }
    }

    /// Connects a socket: it receives from this peer alone from now on, and is told of errors.
    ///
    /// # Errors
    /// There is no way to the peer, or it is all hosts of a link and the socket may not send there.
    pub fn udp_connect(&self, sock: &Arc<UdpSock>, remote: SocketAddr) -> Result<(), SendError> {
        let net = self.config();
        let dst = Addr::from(remote.ip());
        if !dst.is_v4() {
            return Err(SendError::Invalid);
        }
        let route = self.udp_route(&net, sock, dst)?;
        let _naming = lock(&sock.naming);
        self.udp_autobind(&net, sock)?;
        let asked = sock.asked();
        let local = if asked.local.is_unspecified() { route.0.src } else { asked.local };
        if net.fib.addr_type(local) != AddrType::Local {
            sock.set_source(route.0.src);
        }
        let binding = Binding { local, remote: Some((dst, remote.port())), ..asked };
        self.0.udp.rebind(sock, binding);
        Ok(())
    }

    /// Ends a connection (`connect` to `AF_UNSPEC`): the socket is what it was bound to. One whose port was chosen for it has
    /// none any more, and gets another one when it next sends or connects.
    pub fn udp_disconnect(&self, sock: &Arc<UdpSock>) {
        let _naming = lock(&sock.naming);
        if sock.has_auto_port() {
            self.0.udp.release_port(sock);
        } else {
            self.0.udp.rebind(sock, sock.asked());
        }
    }

    /// `inet_autobind`; the caller holds the socket's name.
    fn udp_autobind(&self, net: &NetConfig, sock: &Arc<UdpSock>) -> Result<(), SendError> {
        if sock.binding().port != 0 {
            return Ok(());
        }
        let turn = self.0.sockets.fetch_add(1, Ordering::Relaxed);
        let mut rng = Rng::new(self.0.seed ^ (turn + 1) << 20);
        let bound = self.0.udp.autobind(sock, &net.sysctl, &mut rng);
        if bound { Ok(()) } else { Err(SendError::NoPort) }
    }

    /// Sends a datagram to `to`, or to the peer of a connected socket. It waits in the send buffer for the socket's Cpu.
    ///
    /// # Errors
    /// As [`SendError`] lists them.
    pub fn udp_send(
        &self,
        sock: &Arc<UdpSock>,
        payload: &[u8],
        to: Option<SocketAddr>,
        register: bool,
        now: Time,
    ) -> Result<usize, SendError> {
        self.udp_send_cut(sock, payload, to, None, register, now)
    }

    /// As [`Stack::udp_send`], cut into datagrams of `segment` bytes, of which the last may be shorter (`UDP_SEGMENT`); 0 for
    /// one of whatever length, None for what the socket's options say. They go through the stack as one packet, up to the device.
    ///
    /// # Errors
    /// As [`SendError`] lists them.
    pub fn udp_send_cut(
        &self,
        sock: &Arc<UdpSock>,
        payload: &[u8],
        to: Option<SocketAddr>,
        segment: Option<u16>,
        register: bool,
        now: Time,
    ) -> Result<usize, SendError> {
        if self.is_down() {
            return Err(SendError::Down);
        }
        if payload.len() > usize::from(u16::MAX) {
            return Err(SendError::TooLong);
        }
        let binding = sock.binding();
        let to = match to {
            Some(to) if to.port() == 0 || !to.is_ipv4() => return Err(SendError::Invalid),
            Some(to) => (Addr::from(to.ip()), to.port()),
            // Even to port 0, if it is connected to that.
            None => binding.remote.ok_or(SendError::NoDestination)?,
        };
        let net = self.config();
        let (route, reach) = self.udp_route(&net, sock, to.0)?;
        let options = sock.options();
        let segment = segment.unwrap_or(options.segment);
        let too_long = options.dont_fragment && segment == 0 && payload.len() + HEADERS > usize::from(route.mtu);
        if payload.len() > MAX_PAYLOAD || too_long {
            self.udp_local_error(sock, (to.0, binding.remote.map_or(0, |(_, port)| port)), route.mtu, now);
            return Err(SendError::TooLong);
        }
        if let Some(error) = sock.rx.take_error() {
            self.count_by_user(sock.cpu, Counter::IpOutDiscards, 1);
            return Err(SendError::Failed(error));
        }
        check_segments(payload.len(), segment, &options, route.mtu)?;
        let binding = match binding.port {
            0 => {
                let _naming = lock(&sock.naming);
                self.udp_autobind(&net, sock)?;
                sock.binding()
            }
            _ => binding,
        };
        let ttl = match reach {
            Reach::Multicast => options.multicast_ttl,
            _ => options.ttl.unwrap_or(net.sysctl.ip_default_ttl),
        };
        let pending = Pending {
            len: payload.len() as u32,
            from: binding.port,
            to,
            route,
            ttl,
            tos: options.tos,
            no_checksum: options.no_checksum,
            dont_fragment: options.dont_fragment,
            segment: if payload.len() > usize::from(segment) { segment } else { 0 },
            to_all: reach != Reach::Unicast,
            looped: reach == Reach::Broadcast || options.multicast_loop,
        };
        match sock.enqueue(payload, pending, register) {
            udp::Send::Taken => {
                self.kick_mail(sock.cpu, sock.post(post::PUSH).then(|| Mail::Udp(Arc::clone(sock))), now);
                Ok(payload.len())
            }
            udp::Send::Full(waiter) => {
                if !register {
                    self.count_by_user(sock.cpu, Counter::UdpSndbufErrors, 1);
                }
                Err(SendError::Full(waiter))
            }
        }
    }

    /// `ip_local_error`: a datagram is longer than the way allows. `to`: where it was to go, with the port of the peer.
    fn udp_local_error(&self, sock: &UdpSock, to: (Addr, u16), mtu: u16, now: Time) {
        if sock.options().recv_errors {
            sock.rx.push_error(too_long(to, mtu, now));
        }
    }

    /// The way to a destination, as the socket's name and options allow; what was found last is kept.
    fn udp_route(&self, net: &NetConfig, sock: &UdpSock, dst: Addr) -> Result<(Route, Reach), SendError> {
        if let Some(route) = sock.route_to(dst, net) {
            return Ok((route, Reach::Unicast));
        }
        let (binding, options) = (sock.binding(), sock.options());
        let ours = net.fib.addr_type(binding.local) == AddrType::Local;
        let group_source = || options.multicast_source.filter(|_| dst.is_multicast());
        let source = if ours { Some(binding.local) } else { sock.source().or_else(group_source) };
        let bound = (binding.ifindex != 0).then_some(binding.ifindex);
        let ifindex = if dst.is_multicast() { options.multicast_if.or(bound) } else { bound };
        let found = route::output_datagram(net, dst, source, ifindex);
        let (route, reach) = found.map_err(|error| {
            if matches!(error, RouteError::NetUnreachable(_)) {
                self.count_by_user(sock.cpu, Counter::IpOutNoRoutes, 1);
            }
            SendError::Route(error)
        })?;
        if reach == Reach::Broadcast && !options.broadcast {
            return Err(SendError::NotPermitted);
        }
        if reach == Reach::Unicast {
            sock.keep_route(dst, route, net);
        }
        Ok((route, reach))
    }

    /// Reads the first datagram into `buf`; what has no room there is gone, unless it is only looked at (`peek`). A longer
    /// datagram is verified here: one that is not sound is dropped, and the next one read.
    ///
    /// # Errors
    /// [`NoDatagram::Empty`] if there is none; a pending error is told first.
    pub fn udp_recv(
        &self,
        sock: &Arc<UdpSock>,
        buf: &mut [u8],
        peek: bool,
        register: bool,
        now: Time,
    ) -> Result<Received, NoDatagram> {
        loop {
            if peek {
                match sock.rx.peek(register, udp::verify, |skb| copy_out(skb, buf))? {
                    Ok(received) => {
                        self.count_by_user(sock.cpu, Counter::CopiedPeek, received.len as u64);
                        return Ok(received);
                    }
                    Err(skb) => self.udp_unsound(sock, skb, now),
                }
                continue;
            }
            let skb = sock.rx.take(register)?;
            if !udp::verify(&skb) {
                self.udp_unsound(sock, skb, now);
                continue;
            }
            let received = copy_out(&skb, buf);
            self.count_by_user(sock.cpu, Counter::UdpInDatagrams, 1);
            self.end_read(sock.cpu, skb, received.len, IpProto::UDP, now);
            return Ok(received);
        }
    }

    /// What calls would do now without waiting (`udp_poll`). With `verify` a datagram that is not sound is dropped before it
    /// is told of, as for a socket that blocks.
    pub fn udp_readiness(&self, sock: &Arc<UdpSock>, verify: bool, now: Time) -> Readiness {
        while verify && let Some(skb) = sock.rx.take_unsound(udp::verify) {
            self.udp_unsound(sock, skb, now);
        }
        let (readable, error, _) = sock.rx.ready(false);
        Readiness { readable, error, writable: sock.is_writable(), ..Readiness::default() }
    }

    /// As [`Stack::udp_readiness`]; with `register` the caller waits for a datagram or an error if there is neither.
    pub fn udp_readable(&self, sock: &Arc<UdpSock>, register: bool, now: Time) -> (Readiness, Option<EventListener>) {
        let mut ready = self.udp_readiness(sock, true, now);
        let (readable, error, listener) = sock.rx.ready(register);
        (ready.readable, ready.error) = (readable, error);
        (ready, listener)
    }

    /// As [`Stack::udp_readiness`]; with `register` the caller waits for room to send if there is neither room nor an error.
    pub fn udp_writable(&self, sock: &Arc<UdpSock>, register: bool, now: Time) -> (Readiness, Option<EventListener>) {
        let mut ready = self.udp_readiness(sock, true, now);
        if ready.writable || ready.error {
            return (ready, None);
        }
        let listener = if register { sock.await_room() } else { None };
        ready.writable = register && listener.is_none();
        (ready, listener)
    }

    /// The oldest error that is told in detail (`MSG_ERRQUEUE`); never waits. None if there is none.
    pub fn udp_recv_error(&self, sock: &UdpSock) -> Option<QueuedError> {
        sock.rx.pop_error()
    }

    /// A reader found the checksum wrong (`__skb_checksum_complete` in `udp_recvmsg`).
    fn udp_unsound(&self, sock: &UdpSock, skb: Skb, now: Time) {
        sock.rx.count_drop();
        self.count_by_user(sock.cpu, Counter::UdpInCsumErrors, 1);
        self.count_by_user(sock.cpu, Counter::UdpInErrors, 1);
        self.0.user_ledger.held_out_shared(Holder::ReceiveQueue, 1);
        self.0.user_ledger.dropped_shared(DropReason::UdpCsum, 1);
        self.record_by_user(&skb, sock.cpu, now, EventKind::Dropped, (DropReason::UdpCsum as u32, 0));
        let mut returns = Returns::new();
        returns.push(skb);
    }

    /// Ends a datagram that was read.
    pub(super) fn end_read(&self, cpu: u16, skb: Skb, bytes: usize, protocol: u8, now: Time) {
        self.record_by_user(&skb, cpu, now, EventKind::DatagramRecv, (bytes as u32, u32::from(protocol)));
        if let Some(cell) = self.0.cpus.get(usize::from(cpu)) {
            cell.reads.add(1, bytes as u64);
        }
        let mut returns = Returns::new();
        returns.push(skb);
    }

    fn record_by_user(&self, skb: &Skb, cpu: u16, at: Time, kind: EventKind, (a, b): (u32, u32)) {
        if skb.traced() {
            let event = Event { id: skb.id, at, other: PacketId::NONE, a, b, kind, cpu: cpu as u8 };
            lock(&self.0.user_life).record(event);
        }
    }

    pub(super) fn count_by_user(&self, cpu: u16, counter: Counter, n: u64) {
        if let Some(cell) = self.0.cpus.get(usize::from(cpu)) {
            cell.user_mib.add_shared(counter, n);
        }
    }

    /// Changes the options of a socket.
    pub fn udp_set(&self, sock: &UdpSock, change: impl FnOnce(&mut UdpOptions)) {
        self.0.udp.set_options(sock, change);
        if !sock.options().recv_errors {
            sock.rx.forget_errors();
        }
        sock.forget_route();
    }

    /// Joins a group on the interface that has the address `interface`, or with none on the one that leads to the group.
    ///
    /// # Errors
    /// As [`GroupError`] lists them.
    pub fn udp_join(&self, sock: &UdpSock, group: Ipv4Addr, interface: Ipv4Addr) -> Result<(), GroupError> {
        let net = self.config();
        let ifindex = interface_for(&net, group, interface)?;
        sock.with_groups(|groups| {
            if groups.contains(&(ifindex, group)) {
                return Err(GroupError::Joined);
            }
            if groups.len() >= net.sysctl.igmp_max_memberships as usize {
                return Err(GroupError::TooMany);
            }
            groups.push((ifindex, group));
            // Cards with a filter are to let the group in.
            if net.groups.join(ifindex, group) {
                self.reconfigure(NetConfig::clone);
            }
            Ok(())
        })
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// As [`GroupError`] lists them.
    pub fn udp_leave(&self, sock: &UdpSock, group: Ipv4Addr, interface: Ipv4Addr) -> Result<(), GroupError> {
        let net = self.config();
        let ifindex = interface_for(&net, group, interface)?;
        sock.with_groups(|groups| {
            let place = groups.iter().position(|joined| *joined == (ifindex, group)).ok_or(GroupError::NotJoined)?;
            groups.swap_remove(place);
            if net.groups.leave(ifindex, group) {
                self.reconfigure(NetConfig::clone);
            }
            Ok(())
        })
    }

    /// The application lets go of the socket: what waits in it ends as `QUEUE_PURGE`.
    pub fn udp_close(&self, sock: &Arc<UdpSock>, now: Time) {
        self.0.udp.unbind(sock);
        let groups = sock.with_groups(std::mem::take);
        let net = self.config();
        let left = groups.into_iter().filter(|&(ifindex, group)| net.groups.leave(ifindex, group)).count();
        if left > 0 {
            self.reconfigure(NetConfig::clone);
        }
        sock.rx.close();
        self.udp_set(sock, |options| options.gro = false);
        self.kick_mail(sock.cpu, sock.post(post::CLOSE).then(|| Mail::Udp(Arc::clone(sock))), now);
        sock.rx.wait.wake_all();
        sock.send_wait.wake_all();
    }
}

/// Headers in front of the payload: IPv4, UDP.
const HEADERS: usize = Ipv4Header::LEN + UdpHeader::LEN;

/// Most datagrams that one call may send (`UDP_MAX_SEGMENTS`).
const MAX_SEGMENTS: usize = 128;

/// What `udp_send_skb` asks of a payload that is to be cut.
fn check_segments(len: usize, segment: u16, options: &UdpOptions, mtu: u16) -> Result<(), SendError> {
    let segment = usize::from(segment);
    if segment == 0 {
        return Ok(());
    }
    if HEADERS + len.min(segment) > usize::from(mtu) {
        return Err(SendError::TooLong);
    }
    if len > segment * MAX_SEGMENTS || options.no_checksum {
        return Err(SendError::Invalid);
    }
    Ok(())
}

/// `ip_mc_find_dev`.
fn interface_for(net: &NetConfig, group: Ipv4Addr, interface: Ipv4Addr) -> Result<u16, GroupError> {
    if !group.is_multicast() {
        return Err(GroupError::NotMulticast);
    }
    let found = if interface.is_unspecified() {
        route::output_datagram(net, Addr::from(group), None, None).ok().map(|(route, _)| route.ifindex)
    } else {
        net.interface_of(Addr::from(interface)).map(|interface| interface.ifindex)
    };
    found.ok_or(GroupError::NoInterface)
}

/// What a reader gets of a datagram whose data starts at the UDP header.
fn copy_out(skb: &Skb, buf: &mut [u8]) -> Received {
    let full_len = skb.len().saturating_sub(UdpHeader::LEN);
    let room = full_len.min(buf.len());
    let len = skb.copy_to(UdpHeader::LEN, &mut buf[..room]);
    let nobody = (Ipv4Addr::UNSPECIFIED, Addr::UNSPECIFIED_V4, 0, 0);
    let (from, to, ttl, tos) =
        Ipv4Header::parse(skb.network_header()).map_or(nobody, |(ip, _)| (ip.src(), ip.dst_addr(), ip.ttl(), ip.tos()));
    let port = UdpHeader::parse(skb.data()).map_or(0, |(header, _)| header.src_port());
    Received {
        len,
        full_len,
        from: SocketAddr::from((from, port)),
        to,
        ttl,
        tos,
        at: arrival(skb),
        ifindex: skb.ifindex,
        gso_size: skb.gso_size,
    }
}

/// A packet is longer than the way allows, as found here.
pub(super) fn too_long(to: (Addr, u16), mtu: u16, at: Time) -> QueuedError {
    let (error, origin, charge) = (SockError::MsgSize, ErrorOrigin::Local, LOCAL_ERROR);
    QueuedError { error, origin, info: u32::from(mtu), to, at, payload: Box::default(), charge }
}
