//! What applications call: listen, accept, connect, read, write, close. Nothing here blocks; what would block gives a
//! registration to wait on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use event_listener::EventListener;
use rxpath_mem::{OwnedSoftirq, Returns};
use rxpath_trace::{Counter, Event, EventKind, PacketId, Time};
use rxpath_wire::{Addr, MacAddr};

use super::{BindOptions, CpuCell, ListenError, Mail, Stack, lock};
use crate::cx::{Cx, Rng};
use crate::neigh::{self, NeighError, NeighSpec, Nud};
use crate::netns::NetConfig;
use crate::nic::owner_cpu;
use crate::route::{self, RouteError};
use crate::socket::{
    FlowEntry, FlowId, FlowTable, Lending, Lent, Listener, NoPort, Nothing, Part, Payload, QueuedError, Readiness,
    Sock, Taken, Wanted, WriteStep, ZerocopyNotice, post,
};
use crate::tcp::{AuthKeys, Ending, KeyError, NoUrgent, SockAuth, SockError, SockOptions, State, TcpSock, fast_open};

/// Why a connection could not be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No way to the peer.
    Route(RouteError),
    /// There is no such interface as it is to be bound to (`ENODEV`).
    NoInterface,
    /// All local ports towards this peer are in use (`EADDRNOTAVAIL`).
    NoPort,
    /// The local port that was named is a listener's, or was given to another connection (`EADDRINUSE`).
    PortInUse,
    /// `net.ipv4.tcp_fastopen` does not allow connections from here to be opened fast (`EOPNOTSUPP`).
    FastOpenOff,
    /// TCP-AO is wanted and there is no such key for the peer (`EKEYREJECTED`).
    Key(KeyError),
    /// The stack is down.
    Down,
}

/// Why a read gave no bytes.
#[derive(Debug)]
pub enum RecvError {
    /// Nothing there; with the registration that was asked for.
    Empty(Option<EventListener>),
    /// The connection failed.
    Failed(SockError),
    /// There is no connection.
    NotConnected,
    /// The stack is down.
    Down,
}

impl Stack {
    /// Listens on `addr`; port 0 chooses a free one. `backlog` is cut to `somaxconn`.
    ///
    /// # Errors
    /// The address is taken or not local, or the stack is down.
    pub fn listen(&self, addr: SocketAddr, backlog: u32) -> Result<Arc<Listener>, ListenError> {
        self.listen_with(addr, backlog, BindOptions::default())
    }

    /// As [`Stack::listen`], sharing the address with others, over which connections are spread by their hash
    /// (`SO_REUSEPORT`), or bound to an interface. `reuse_addr` makes no difference to a listener.
    ///
    /// # Errors
    /// As [`Stack::listen`]; it is not local, too, if there is no such interface.
    pub fn listen_with(
        &self,
        addr: SocketAddr,
        backlog: u32,
        options: BindOptions,
    ) -> Result<Arc<Listener>, ListenError> {
        if self.is_down() {
            return Err(ListenError::Down);
        }
        let net = self.config();
        let (local, shared, ifindex) = (Addr::from(addr.ip()), options.reuse_port, options.ifindex.unwrap_or(0));
        let known = local.is_unspecified() || net.interface_of(local).is_some();
        if !known || (ifindex != 0 && net.interface(ifindex).is_none()) {
            return Err(ListenError::NotLocal);
        }
        let port = match addr.port() {
            0 => {
                let mut rng = Rng::new(self.0.seed ^ self.0.listeners.changes() << 17);
                self.0.binds.listen_any(local, ifindex, &net.sysctl, shared, &mut rng).ok_or(ListenError::InUse)?
            }
            port if self.0.binds.listen(local, port, ifindex, shared) => port,
            _ => return Err(ListenError::InUse),
        };
        let backlog = backlog.min(net.sysctl.somaxconn);
        let listener = Listener::new(local, port, backlog, shared, ifindex);
        let all = fast_open::SERVER | fast_open::ALL_LISTENERS;
        if net.sysctl.tcp_fastopen & all == all {
            listener.fast_open.set_limit(backlog);
        }
        let listener = self.0.listeners.change(|map| map.insert(listener));
        self.0.tcp_memory.socket_added();
        Ok(listener)
    }

    /// Closes a listener: half-open connections fade, those that nobody accepted are reset. With `tcp_migrate_req` both go
    /// over to another listener that shares its address, however many that has (`inet_csk_listen_stop`).
    pub fn close_listener(&self, listener: &Arc<Listener>, now: Time) {
        self.0.listeners.change(|map| map.remove(listener));
        self.0.binds.unlisten(listener);
        self.0.tcp_memory.socket_removed();
        let net = self.config();
        let migrates = net.sysctl.tcp_migrate_req && listener.shared;
        let others = self.0.listeners.map();
        for sock in listener.close() {
            let hash = net.hasher.hash(&sock.tuple.reversed());
            let heir = others.successor(listener, hash).filter(|_| migrates);
            let left = match heir.map(|heir| (heir, heir.push(Arc::clone(&sock)))) {
                Some((heir, Ok(()))) => {
                    heir.wait.wake_all();
                    None
                }
                _ => Some(&sock),
            };
            if migrates && let Some(cell) = self.0.cpus.get(usize::from(sock.cpu)) {
                let counter = match left {
                    None => Counter::TcpExtTCPMigrateReqSuccess,
                    Some(_) => Counter::TcpExtTCPMigrateReqFailure,
                };
                cell.user_mib.add_shared(counter, 1);
            }
            if let Some(sock) = left {
                self.abort(sock, now);
            }
        }
        listener.wait.wake_all();
    }

    /// How many connections of a listener may begin with data in their SYN at a time, before their handshakes end; 0 for none
    /// (`TCP_FASTOPEN`). It is cut to `somaxconn`.
    pub fn set_fast_open(&self, listener: &Listener, limit: u32) {
        listener.fast_open.set_limit(limit.min(self.config().sysctl.somaxconn));
    }

    /// The next connection of a listener: established, or one that began with its SYN.
    pub fn accept(&self, listener: &Listener) -> Option<Arc<Sock>> {
        let sock = listener.pop()?;
        let mut sk = sock.lock.user();
        sk.user.accepted = true;
        if sk.release() {
            self.leave_mail(&sock, post::BACKLOG);
            self.ring(sock.cpu);
        }
        Some(sock)
    }

    /// Begins a connection to `remote`: the SYN goes out, or waits for the neighbour's address.
    ///
    /// # Errors
    /// There is no route or no free port, or the stack is down.
    pub fn connect(&self, remote: SocketAddr, now: Time) -> Result<Arc<Sock>, ConnectError> {
        self.connect_from(None, remote, now)
    }

    /// As [`Stack::connect`], from this local port if one is given: as with `bind(2)` and `SO_REUSEADDR` before.
    ///
    /// # Errors
    /// As [`Stack::connect`]; there is no free port, too, if the one given is in use towards `remote`, and it is in use if
    /// it is a listener's or was given to another connection.
    pub fn connect_from(&self, port: Option<u16>, remote: SocketAddr, now: Time) -> Result<Arc<Sock>, ConnectError> {
        self.connect_with(port, remote, &SockOptions::default(), now)
    }

    /// As [`Stack::connect_from`], with options that are set before the SYN goes out; they are not checked here.
    ///
    /// # Errors
    /// As [`Stack::connect_from`]; with [`SockOptions::fastopen_connect`] that Fast Open is off, too.
    pub fn connect_with(
        &self,
        port: Option<u16>,
        remote: SocketAddr,
        options: &SockOptions,
        now: Time,
    ) -> Result<Arc<Sock>, ConnectError> {
        let (net, mut sk) = self.new_connection(port, remote, options, now)?;
        if options.fastopen_connect {
            allow_fast_open(&net, &sk, self)?;
            sk.fast.deferred = sk.plan_fast_open(&net, options.fastopen_no_cookie, now);
        }
        let begins = !sk.fast.deferred;
        let sock = self.own(&net, sk);
        if begins {
            self.kick(&sock, post::CONNECT, now);
        }
        Ok(sock)
    }

    /// As [`Stack::connect_with`], with the first bytes: if there is a cookie of the peer, the SYN carries as many of them as
    /// fit (RFC 7413, `MSG_FASTOPEN`). How many it has; the others, or all, are to be written once the connection stands.
    ///
    /// # Errors
    /// As [`Stack::connect_with`]; that Fast Open is off.
    pub fn connect_with_data(
        &self,
        port: Option<u16>,
        remote: SocketAddr,
        data: &[u8],
        options: &SockOptions,
        now: Time,
    ) -> Result<(Arc<Sock>, usize), ConnectError> {
        let (net, mut sk) = self.new_connection(port, remote, options, now)?;
        allow_fast_open(&net, &sk, self)?;
        let may = sk.plan_fast_open(&net, options.fastopen_no_cookie, now);
        let taken = if may { sk.take_for_syn(data) } else { 0 };
        let sock = self.own(&net, sk);
        self.kick(&sock, post::CONNECT, now);
        Ok((sock, taken))
    }

    /// As [`Stack::connect_with`], with keys, of which those for `remote` sign and verify from the SYN on: of TCP-AO if there
    /// are such, else of RFC 2385. What is signed is not opened fast: SYNs have no room for both.
    ///
    /// # Errors
    /// As [`Stack::connect_from`]; [`ConnectError::Key`] if the keys require TCP-AO, or ask for a key, and there is none
    /// such for `remote`.
    pub fn connect_signed(
        &self,
        port: Option<u16>,
        remote: SocketAddr,
        options: &SockOptions,
        keys: &AuthKeys,
        now: Time,
    ) -> Result<Arc<Sock>, ConnectError> {
        let auth = SockAuth::opening(keys, Addr::from(remote.ip())).map_err(ConnectError::Key)?;
        if auth.is_none() {
            return self.connect_with(port, remote, options, now);
        }
        let (net, mut sk) = self.new_connection(port, remote, options, now)?;
        sk.set_auth(auth);
        let sock = self.own(&net, sk);
        self.kick(&sock, post::CONNECT, now);
        Ok(sock)
    }

    /// The socket of a connection that is about to be opened; its port is taken.
    fn new_connection(
        &self,
        port: Option<u16>,
        remote: SocketAddr,
        options: &SockOptions,
        now: Time,
    ) -> Result<(Arc<NetConfig>, TcpSock), ConnectError> {
        if self.is_down() {
            return Err(ConnectError::Down);
        }
        let net = self.config();
        let peer = Addr::from(remote.ip());
        if options.ifindex.is_some_and(|ifindex| net.interface(ifindex).is_none()) {
            return Err(ConnectError::NoInterface);
        }
        let route = route::output_by(&net, peer, None, options.ifindex).map_err(ConnectError::Route)?;
        let hash = net.secret.hash64(&rxpath_wire::Tuple {
            local: route.src,
            remote: peer,
            local_port: 0,
            remote_port: remote.port(),
        });
        let mut rng = Rng::new(hash ^ now.0);
        let wanted = Wanted { local: route.src, port, remote: (peer, remote.port()), hash, now };
        let tuple = self.0.binds.connect(&wanted, &net.sysctl, &mut rng).map_err(|error| match error {
            NoPort::InUse => ConnectError::PortInUse,
            NoPort::NoneFree => ConnectError::NoPort,
        })?;
        // Not CLOSED, which would be an outcome: the attempt is under way, although its owner may not know yet.
        let mut sk = TcpSock::new(State::SynSent, tuple, route, 0, 0);
        sk.set_options(options, &net.sysctl);
        sk.user.accepted = true;
        Ok((net, sk))
    }

    /// Gives a connection to the Cpu that its flow belongs to.
    fn own(&self, net: &NetConfig, sk: TcpSock) -> Arc<Sock> {
        let hash = net.hasher.hash(&sk.tuple);
        Arc::new(Sock::new(sk, hash, owner_cpu(hash, net.cpus), None, &self.0.tcp_memory))
    }

    /// Configures the hardware address of a neighbour (`ip neigh replace … nud permanent`), or with None forgets it
    /// (`ip neigh del`). False if the table is full, or has no such entry. Waits for the token of a Cpu.
    pub fn set_neighbour(&self, ifindex: u16, addr: Addr, mac: Option<MacAddr>, now: Time) -> bool {
        if mac.is_some() {
            let spec = NeighSpec { ifindex, addr, mac, state: Nud::Permanent };
            return self.configure_neighbour(spec, neigh::Mode::Replace, now).is_ok();
        }
        let Some(cell) = self.0.cpus.first() else { return false };
        let mut guard = lock(&cell.token);
        self.begin(cell, &mut guard, now);
        let done = neigh::remove(&mut guard.cx, ifindex, addr);
        self.end(cell, &mut guard);
        done
    }

    /// Configures a neighbour (`ip neigh add`, `change`, `replace`). Waits for the token of a Cpu.
    ///
    /// # Errors
    /// As [`NeighError`] lists them.
    pub fn configure_neighbour(&self, spec: NeighSpec, mode: neigh::Mode, now: Time) -> Result<(), NeighError> {
        let Some(cell) = self.0.cpus.first() else { return Err(NeighError::Full) };
        let mut guard = lock(&cell.token);
        self.begin(cell, &mut guard, now);
        let done = neigh::configure(&mut guard.cx, spec, mode);
        self.end(cell, &mut guard);
        done
    }

    /// Makes the stack answer ARP requests for an address on an interface that forwards, or no more (`ip neigh add proxy`,
    /// `ip neigh del proxy`). False if nothing changed.
    pub fn set_proxy_neighbour(&self, ifindex: u16, addr: Addr, on: bool) -> bool {
        neigh::set_proxy(&self.0.neigh, ifindex, addr, on)
    }

    /// Where a connection attempt stands: None while it is under way.
    pub fn connected(
        &self,
        sock: &Arc<Sock>,
        register: bool,
        now: Time,
    ) -> (Option<Result<(), SockError>>, Option<EventListener>) {
        let (outcome, listener, requests) = sock.connect_outcome(register);
        self.kick(sock, requests, now);
        (outcome, listener)
    }

    /// Reads into `buf`: at least one byte, or 0 at the end of the stream.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is nothing yet.
    pub fn recv(&self, sock: &Arc<Sock>, buf: &mut [u8], register: bool, now: Time) -> Result<usize, RecvError> {
        if buf.is_empty() {
            return Ok(0);
        }
        let rcvbuf_max = self.0.rcvbuf_max.load(Ordering::Relaxed);
        let (taken, requests) = sock.take(buf, register, now, rcvbuf_max);
        let result = match taken {
            Ok(taken) => Ok(self.deliver(sock, taken, buf, now)),
            Err(nothing) => self.no_bytes(nothing),
        };
        self.kick(sock, requests, now);
        result
    }

    /// Copies what was taken to the application, and ends its packets.
    #[inline]
    fn deliver(&self, sock: &Arc<Sock>, taken: Taken, buf: &mut [u8], now: Time) -> usize {
        let copied = taken.copy_to(buf);
        self.end_taken(sock, taken, copied, now);
        copied
    }

    /// Ends the packets that were read; `copied` bytes of them were copied, and not yet counted.
    #[inline]
    fn end_taken(&self, sock: &Arc<Sock>, taken: Taken, copied: usize, now: Time) {
        let mut returns = Returns::new();
        let delivered = taken.end(&mut returns, |part| {
            let kind = if part.whole { EventKind::Recv } else { EventKind::RecvPart };
            let (id, other, cpu) = (part.id, PacketId::NONE, sock.cpu as u8);
            let event = Event { id, at: now, other, a: part.bytes, b: part.read, kind, cpu };
            lock(&self.0.user_life).record(event);
        });
        returns.flush();
        if let Some(cell) = self.0.cpus.get(usize::from(sock.cpu)) {
            cell.reads.add(delivered, copied as u64);
        }
    }

    /// Lends the packets at the front of the stream, of at most `most` bytes, or one if that has more; nothing at the end
    /// of the stream. They must come back by [`Stack::take_back`].
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is nothing yet.
    pub fn lend(&self, sock: &Arc<Sock>, most: usize, register: bool, now: Time) -> Result<Lent, RecvError> {
        let rcvbuf_max = self.0.rcvbuf_max.load(Ordering::Relaxed);
        let (lent, requests) = sock.lend(most, register, now, rcvbuf_max);
        if let (Ok(lent), Some(cell)) = (&lent, self.0.cpus.get(usize::from(sock.cpu)))
            && lent.copied() > 0
        {
            cell.reads.add(0, lent.copied() as u64);
        }
        let result = lent.or_else(|nothing| self.no_bytes(nothing).map(|_| Lent::nothing()));
        self.kick(sock, requests, now);
        result
    }

    /// Takes back what was lent: slots are free again, and the window opens.
    pub fn take_back(&self, sock: &Arc<Sock>, lent: Lent, now: Time) {
        let requests = sock.give_back(&lent);
        self.end_taken(sock, lent.into_taken(), 0, now);
        self.kick(sock, requests, now);
    }

    /// Reads without taking (`MSG_PEEK`).
    ///
    /// # Errors
    /// As [`Stack::recv`].
    pub fn peek(&self, sock: &Arc<Sock>, buf: &mut [u8], register: bool, now: Time) -> Result<usize, RecvError> {
        let rcvbuf_max = self.0.rcvbuf_max.load(Ordering::Relaxed);
        let (peeked, requests) = sock.peek(buf, register, now, rcvbuf_max);
        if let (Ok(copied), Some(cell)) = (&peeked, self.0.cpus.get(usize::from(sock.cpu))) {
            cell.user_mib.add_shared(Counter::CopiedPeek, *copied as u64);
        }
        let result = peeked.or_else(|nothing| self.no_bytes(nothing));
        self.kick(sock, requests, now);
        result
    }

    /// Takes at most `len` bytes without copying them (`MSG_TRUNC` on TCP): how many, or 0 at the end of the stream.
    ///
    /// # Errors
    /// As [`Stack::recv`].
    pub fn discard(&self, sock: &Arc<Sock>, len: usize, register: bool, now: Time) -> Result<usize, RecvError> {
        if len == 0 {
            return Ok(0);
        }
        let rcvbuf_max = self.0.rcvbuf_max.load(Ordering::Relaxed);
        let (taken, requests) = sock.discard(len, register, now, rcvbuf_max);
        let result = taken
            .map(|taken| {
                let count = taken.len();
                self.end_taken(sock, taken, 0, now);
                count
            })
            .or_else(|nothing| self.no_bytes(nothing));
        self.kick(sock, requests, now);
        result
    }

    /// The urgent byte (`MSG_OOB`); with `peek` it stays to be read again.
    ///
    /// # Errors
    /// There is none, or it has not come.
    pub fn recv_urgent(&self, sock: &Arc<Sock>, peek: bool, now: Time) -> Result<u8, NoUrgent> {
        self.with(sock, 0, now, |sk| sk.recv_urg(peek))
    }

    /// What the socket is ready for (`poll(2)`).
    pub fn readiness(&self, sock: &Arc<Sock>, now: Time) -> Readiness {
        let (ready, requests) = sock.readiness();
        self.kick(sock, requests, now);
        ready
    }

    fn no_bytes(&self, nothing: Nothing) -> Result<usize, RecvError> {
        match nothing {
            Nothing::Eof => Ok(0),
            Nothing::Error(error) => Err(RecvError::Failed(error)),
            _ if self.is_down() => Err(RecvError::Down),
            Nothing::NotConnected => Err(RecvError::NotConnected),
            Nothing::Empty(listener) => Err(RecvError::Empty(listener)),
        }
    }

    /// Writes as much of `data` as the send buffer takes.
    pub fn send(&self, sock: &Arc<Sock>, data: &[u8], register: bool, now: Time) -> WriteStep {
        self.send_with(sock, data, Ending::default(), register, now)
    }

    /// As [`Stack::send`], with what follows (`MSG_MORE`, `MSG_EOR`).
    pub fn send_with(&self, sock: &Arc<Sock>, data: &[u8], ending: Ending, register: bool, now: Time) -> WriteStep {
        self.in_parts(sock, data.len(), register, now, |taken, part| sock.write(&data[taken..], ending, part))
    }

    /// A call that writes `len` bytes: as many as there is room for, which may leave at once and so make room for more, and so
    /// on. `write` is told how many were taken before.
    #[inline(always)]
    fn in_parts(
        &self,
        sock: &Arc<Sock>,
        len: usize,
        register: bool,
        now: Time,
        mut write: impl FnMut(usize, Part) -> (WriteStep, u8),
    ) -> WriteStep {
        let (mut taken, mut part) = (0, Part::First { register });
        loop {
            let (step, requests) = write(taken, part);
            self.kick(sock, requests, now);
            match step {
                WriteStep::Taken(count) if count > 0 => taken += count,
                _ if taken > 0 => return WriteStep::Taken(taken),
                nothing => return nothing,
            }
            if taken >= len {
                return WriteStep::Taken(taken);
            }
            part = Part::Rest;
        }
    }

    /// As [`Stack::send_with`], without copying ([`Sock::write_zerocopy`]).
    pub fn send_zerocopy(
        &self,
        sock: &Arc<Sock>,
        call: &mut Option<Arc<Lending>>,
        payload: &Payload,
        ending: Ending,
        register: bool,
        now: Time,
    ) -> WriteStep {
        let optmem_max = self.config().sysctl.optmem_max;
        self.in_parts(sock, payload.len(), register, now, |taken, part| {
            sock.write_zerocopy(call, &payload.slice(taken..payload.len()), ending, part, optmem_max)
        })
    }

    /// The oldest notice of calls whose memory is the application's again; None if none waits.
    pub fn recv_notice(&self, sock: &Arc<Sock>, now: Time) -> Option<ZerocopyNotice> {
        let (notice, requests) = sock.read_notice();
        self.kick(sock, requests, now);
        notice
    }

    /// The ICMP error that ended an attempt to connect, in detail (`MSG_ERRQUEUE`); never waits. None if there is none.
    pub fn recv_error(&self, sock: &Arc<Sock>, now: Time) -> Option<QueuedError> {
        self.with(sock, 0, now, TcpSock::take_told_error)
    }

    /// As [`Stack::send`]; the last byte that is taken is urgent (`MSG_OOB`).
    pub fn send_urgent(&self, sock: &Arc<Sock>, data: &[u8], register: bool, now: Time) -> WriteStep {
        self.in_parts(sock, data.len(), register, now, |taken, part| sock.write_urgent(&data[taken..], part))
    }

    /// Owns the socket and looks at its state or sets its options; then `requests` ([`post`]) are carried out.
    pub fn with<R>(&self, sock: &Arc<Sock>, requests: u8, now: Time, look: impl FnOnce(&mut TcpSock) -> R) -> R {
        let mut sk = sock.lock.user();
        let seen = look(&mut sk);
        let backlog = if sk.release() { post::BACKLOG } else { 0 };
        self.kick(sock, requests | backlog, now);
        seen
    }

    /// As [`Stack::with`], to change the keys of a connection.
    pub fn change_keys<R>(&self, sock: &Arc<Sock>, now: Time, change: impl FnOnce(&mut TcpSock) -> R) -> R {
        self.with(sock, 0, now, |sk| {
            let changed = change(sk);
            sock.publish_keys(sk);
            changed
        })
    }

    /// Binds a connection to an interface, or to none (`SO_BINDTODEVICE`): it goes by that from now on, and takes what comes by
    /// that alone. False if there is no such interface.
    pub fn bind_to_interface(&self, sock: &Arc<Sock>, ifindex: Option<u16>, now: Time) -> bool {
        let net = self.config();
        let known = ifindex.is_none_or(|ifindex| net.interface(ifindex).is_some());
        if known {
            self.with(sock, 0, now, |sk| {
                sk.bind_to_interface(&net, ifindex);
                sock.publish_interface(sk);
            });
        }
        known
    }

    /// Ends writing: our FIN follows what is queued.
    pub fn shutdown_write(&self, sock: &Arc<Sock>, now: Time) {
        self.kick(sock, post::SHUTDOWN, now);
    }

    /// Ends reading: further reads give 0.
    pub fn shutdown_read(&self, sock: &Arc<Sock>, now: Time) {
        let mut sk = sock.lock.user();
        sk.user.rcv_shutdown = true;
        let backlog = sk.release();
        sock.recv_wait.wake_all();
        if backlog {
            self.kick(sock, post::BACKLOG, now);
        }
    }

    /// The application lets go of the socket.
    pub fn close(&self, sock: &Arc<Sock>, now: Time) {
        self.kick(sock, post::CLOSE, now);
    }

    /// The application lets go and the peer is reset.
    pub fn abort(&self, sock: &Arc<Sock>, now: Time) {
        let mut sk = sock.lock.user();
        sk.user.linger_reset = true;
        let backlog = if sk.release() { post::BACKLOG } else { 0 };
        self.kick(sock, post::CLOSE | backlog, now);
    }

    /// Posts requests for the owner's Cpu, and carries them out at once if nobody holds its token.
    pub fn kick(&self, sock: &Arc<Sock>, requests: u8, now: Time) {
        if requests == 0 {
            return;
        }
        self.leave_mail(sock, requests);
        if !self.serve_mail(sock.cpu, now) {
            self.ring(sock.cpu);
        }
    }

    /// Posts requests for the owner's Cpu.
    fn leave_mail(&self, sock: &Arc<Sock>, requests: u8) {
        let Some(cell) = self.0.cpus.get(usize::from(sock.cpu)) else { return };
        if sock.post(requests) {
            put_mail(cell, Mail::Tcp(Arc::clone(sock)));
        }
    }

    /// Posts what a datagram socket asks for, unless it is posted already, and carries it out at once if nobody holds the
    /// Cpu's token.
    pub(super) fn kick_mail(&self, cpu: u16, mail: Option<Mail>, now: Time) {
        let Some(cell) = self.0.cpus.get(usize::from(cpu)) else { return };
        if let Some(mail) = mail {
            put_mail(cell, mail);
        }
        if !self.serve_mail(cpu, now) {
            self.ring(cpu);
        }
    }

    /// Runs a Cpu's mailbox and sends what comes of it; false if somebody else holds the token.
    fn serve_mail(&self, cpu: u16, now: Time) -> bool {
        let cell = &self.0.cpus[usize::from(cpu)];
        loop {
            let Ok(mut guard) = cell.token.try_lock() else { return false };
            self.begin(cell, &mut guard, now);
            self.end(cell, &mut guard);
            let promised = cell.asleep_until.load(Ordering::Relaxed);
            let earlier = self.deadline(&guard).is_some_and(|at| at.0 < promised);
            let mut wakeups = std::mem::take(&mut guard.cx.wakeups);
            drop(guard);
            // The softirq thread must not oversleep a timer; and whoever drives the stack for itself may be among those
            // who are woken.
            if earlier || !wakeups.is_empty() {
                self.ring(cpu);
            }
            wakeups.deliver();
            fence(Ordering::SeqCst);
            if !cell.mail.load(Ordering::Acquire) {
                return true;
            }
        }
    }
}

/// Whether a connection from here may be opened fast; if not, its port is free again.
fn allow_fast_open(net: &NetConfig, sk: &TcpSock, stack: &Stack) -> Result<(), ConnectError> {
    if net.sysctl.tcp_fastopen & fast_open::CLIENT != 0 {
        return Ok(());
    }
    stack.0.binds.disconnect(&sk.tuple);
    Err(ConnectError::FastOpenOff)
}

fn put_mail(cell: &CpuCell, mail: Mail) {
    let full = {
        let mut mailbox = lock(&cell.mailbox);
        mailbox.push_back(mail);
        cell.mail.store(true, Ordering::Release);
        mailbox.len() > super::MAILBOX_LIMIT
    };
    // Either we get the token, or its holder sees the mail when it has let go.
    fence(Ordering::SeqCst);
    if full {
        // The owner does not keep up: wait for it, so that the mailbox stays bounded.
        drop(lock(&cell.token));
    }
}

/// Ends a flow without a word to the peer: the stack goes down.
pub(super) fn abort_flow(cx: &mut Cx, flows: &mut FlowTable, id: FlowId) {
    let Some(FlowEntry::Sock(entry)) = flows.get_mut(id) else {
        flows.remove(id);
        return;
    };
    let Some(sock) = entry.sock.take() else { return };
    match OwnedSoftirq::lock(sock) {
        Ok(mut sk) => {
            sk.user.error = Some(SockError::Aborted);
            sk.stack_down(cx);
            crate::tcp::let_go(cx, flows, id, sk);
        }
        Err(sock) => {
            sock.recv_wait.wake_all();
            sock.send_wait.wake_all();
            entry.sock = Some(sock);
        }
    }
}

/// Connections that had ended before anybody accepted them are in no table, and may hold what was never read.
pub(super) fn purge_unaccepted(cx: &mut Cx, socks: &[Arc<Sock>]) {
    let cpu = cx.cpu;
    for sock in socks.iter().filter(|sock| sock.cpu == cpu) {
        // Nobody else has it, as it was not accepted.
        if let Ok(mut sk) = OwnedSoftirq::lock(Arc::clone(sock)) {
            sk.purge_receive_queue(cx);
            sk.release();
        }
    }
}
