//! What applications call on raw sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rxpath_mem::Skb;
use rxpath_trace::proc::{self, DatagramRow};
use rxpath_trace::{DropReason, Holder, Time};
use rxpath_wire::{Addr, Ipv4Header};

use super::datagrams::too_long;
use super::{DatagramView, ListenError, MemView, Received, SendError, Stack, lock};
use crate::cx::Cx;
use crate::netns::NetConfig;
use crate::raw::{self, Outgoing, RawName, RawSock, RawSocks};
use crate::route::{self, AddrType, Reach};
use crate::socket::QueuedError;
use crate::socket::datagram::{Datagrams, NoDatagram, arrival};

impl Stack {
    /// Opens a raw socket: it is given every IP packet of `protocol` for this host, from each Cpu's next softirq run on. What
    /// is sent by one of protocol 255 brings its own IP header.
    ///
    /// # Errors
    /// Protocol 0 is none (`NotLocal`); the stack is down.
    pub fn raw_open(&self, protocol: u8) -> Result<Arc<RawSock>, ListenError> {
        if self.is_down() {
            return Err(ListenError::Down);
        }
        if protocol == 0 {
            return Err(ListenError::NotLocal);
        }
        let net = self.config();
        let number = self.0.sockets.fetch_add(1, Ordering::Relaxed);
        let rx = Datagrams::new(net.sysctl.rmem_default, Arc::default());
        let sock = Arc::new(RawSock::new(number, protocol, (number % u64::from(net.cpus)) as u16, rx));
        self.change_raw(|raw| raw.with(&sock));
        Ok(sock)
    }

    fn change_raw(&self, change: impl FnOnce(&RawSocks) -> RawSocks) {
        self.reconfigure(|net| NetConfig { raw: change(&net.raw), ..net.clone() });
    }

    /// Binds a socket to an address of this host, a group or a broadcast address: it is given what is sent there alone.
    ///
    /// # Errors
    /// The address is not of this host.
    pub fn raw_bind(&self, sock: &RawSock, addr: Ipv4Addr) -> Result<(), ListenError> {
        let local = Addr::from(addr);
        if self.config().fib.addr_type(local) == AddrType::Unicast {
            return Err(ListenError::NotLocal);
        }
        sock.set_name(|name| name.local = local);
        Ok(())
    }

    /// Connects a socket: it is given what comes from this peer alone, and is told of errors.
    ///
    /// # Errors
    /// There is no way to the peer.
    pub fn raw_connect(&self, sock: &RawSock, peer: Ipv4Addr) -> Result<(), SendError> {
        let (route, _) = raw_route(&self.config(), sock, Addr::from(peer))?;
        sock.set_name(|name| {
            name.remote = Some(Addr::from(peer));
            if name.local.is_unspecified() {
                name.local = route.src;
            }
        });
        Ok(())
    }

    /// Sends a packet: `bytes` behind an IP header that is made here, or with an IP header of their own, to `to` or to the
    /// peer. Waits for the token of a Cpu.
    ///
    /// # Errors
    /// As [`SendError`] lists them; a header of its own must be whole ([`SendError::Invalid`]).
    pub fn raw_send(&self, sock: &RawSock, bytes: &[u8], to: Option<Ipv4Addr>, now: Time) -> Result<usize, SendError> {
        if self.is_down() {
            return Err(SendError::Down);
        }
        let dst = to.map(Addr::from).or(sock.name().remote).ok_or(SendError::NoDestination)?;
        let (net, options) = (self.config(), sock.options());
        let route = raw_route(&net, sock, dst)?;
        let most = if options.header_included { usize::from(route.0.mtu) } else { MAX_LEN - Ipv4Header::LEN };
        if bytes.len() > most {
            if options.header_included && options.recv_errors {
                sock.rx.push_error(too_long((dst, 0), route.0.mtu, now));
            }
            return Err(SendError::TooLong);
        }
        let whole = || {
            let parsed = Ipv4Header::parse(bytes);
            parsed.is_some_and(|(header, _)| header.ihl() >= 5 && header.header_len() <= bytes.len())
        };
        if options.header_included && !whole() {
            return Err(SendError::Invalid);
        }
        if let Some(error) = sock.rx.take_error() {
            return Err(SendError::Failed(error));
        }
        let Some(cell) = self.0.cpus.get(usize::from(sock.cpu)) else { return Err(SendError::Down) };
        let mut guard = lock(&cell.token);
        self.begin(cell, &mut guard, now);
        let outgoing = Outgoing { bytes, protocol: sock.protocol, dst, route, options };
        let sent = raw::send(&mut guard.cx, &outgoing);
        self.end(cell, &mut guard);
        let mut wakeups = std::mem::take(&mut guard.cx.wakeups);
        drop(guard);
        wakeups.deliver();
        self.ring(sock.cpu);
        if sent { Ok(bytes.len()) } else { Err(SendError::Full(None)) }
    }

    /// Reads the first packet, from its IP header on, into `buf`; what has no room there is gone, unless it is only looked at.
    ///
    /// # Errors
    /// [`NoDatagram::Empty`] if there is none; a pending error is told first.
    pub fn raw_recv(
        &self,
        sock: &RawSock,
        buf: &mut [u8],
        peek: bool,
        register: bool,
        now: Time,
    ) -> Result<Received, NoDatagram> {
        if peek {
            return match sock.rx.peek(register, |_| true, |skb| copy_out(skb, buf))? {
                Ok(received) => Ok(received),
                Err(skb) => {
                    self.end_read(sock.cpu, skb, 0, sock.protocol, now);
                    Err(NoDatagram::Empty(None))
                }
            };
        }
        let skb = sock.rx.take(register)?;
        let received = copy_out(&skb, buf);
        self.end_read(sock.cpu, skb, received.len, sock.protocol, now);
        Ok(received)
    }

    /// The oldest error that is told in detail (`MSG_ERRQUEUE`); never waits. None if there is none.
    pub fn raw_recv_error(&self, sock: &RawSock) -> Option<QueuedError> {
        sock.rx.pop_error()
    }

    /// The application lets go of the socket: what waits in it ends as `QUEUE_PURGE`.
    pub fn raw_close(&self, sock: &Arc<RawSock>) {
        self.change_raw(|raw| raw.without(sock));
        sock.rx.close();
        if let Some(cell) = self.0.cpus.get(usize::from(sock.cpu)) {
            purge(&mut lock(&cell.token).cx, sock);
        }
        sock.rx.wait.wake_all();
    }

    /// Raw sockets, as `ss -w` shows them: the protocol stands in the place of the local port.
    pub fn raw_sockets(&self) -> Vec<DatagramView> {
        let view = |sock: &Arc<RawSock>| {
            let RawName { local, remote, .. } = sock.name();
            let row = DatagramRow {
                local: SocketAddr::new(local.to_ip(), u16::from(sock.protocol)),
                remote: SocketAddr::new(remote.unwrap_or(Addr::UNSPECIFIED_V4).to_ip(), 0),
                connected: remote.is_some(),
                tx_queue: 0,
                rx_queue: sock.rx.rmem(),
                uid: 0,
                inode: 0,
                refs: 2,
                cookie: sock.number,
                drops: sock.rx.drops(),
            };
            let (rmem_alloc, rcvbuf) = (row.rx_queue, sock.rx.rcvbuf());
            DatagramView { row, cpu: sock.cpu, mem: MemView { rmem_alloc, rcvbuf, ..MemView::default() } }
        };
        self.config().raw.all().iter().map(view).collect()
    }

    /// `/proc/net/raw`.
    pub fn proc_raw(&self) -> String {
        let mut rows: Vec<DatagramRow> = self.raw_sockets().into_iter().map(|view| view.row).collect();
        rows.sort_by_key(|row| row.local.port());
        proc::raw(&rows)
    }
}

/// The longest IP packet.
const MAX_LEN: usize = 65_535;

/// The way to a destination, as the socket's name and options allow.
fn raw_route(net: &NetConfig, sock: &RawSock, dst: Addr) -> Result<(route::Route, Reach), SendError> {
    let (name, options) = (sock.name(), sock.options());
    let ours = net.fib.addr_type(name.local) == AddrType::Local;
    let bound = (name.ifindex != 0).then_some(name.ifindex);
    let found = route::output_datagram(net, dst, ours.then_some(name.local), bound).map_err(SendError::Route)?;
    if found.1 == Reach::Broadcast && !options.broadcast {
        return Err(SendError::NotPermitted);
    }
    Ok(found)
}

/// Ends what a socket holds.
pub(super) fn purge(cx: &mut Cx, sock: &RawSock) {
    sock.rx.close();
    let mut left = sock.rx.drain();
    while let Some(skb) = left.pop_front() {
        cx.release(Holder::ReceiveQueue);
        cx.drop_skb(skb, DropReason::QueuePurge);
    }
}

/// What a reader gets of a packet whose data starts at the IP header.
fn copy_out(skb: &Skb, buf: &mut [u8]) -> Received {
    let (full_len, room) = (skb.len(), skb.len().min(buf.len()));
    let len = skb.copy_to(0, &mut buf[..room]);
    let nobody = (Ipv4Addr::UNSPECIFIED, Addr::UNSPECIFIED_V4, 0, 0);
    let (from, to, ttl, tos) =
        Ipv4Header::parse(skb.network_header()).map_or(nobody, |(ip, _)| (ip.src(), ip.dst_addr(), ip.ttl(), ip.tos()));
    Received {
        len,
        full_len,
        from: SocketAddr::from((from, 0)),
        to,
        ttl,
        tos,
        at: arrival(skb),
        ifindex: skb.ifindex,
        gso_size: 0,
    }
}
