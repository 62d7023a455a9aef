//! A UDP socket.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::EventListener;
use rxpath_wire::Addr;

use super::name::Binding;
use crate::cx::Rng;
use crate::netns::NetConfig;
use crate::nic::TruesizeModel;
#[cfg(doc)]
use crate::route::Exceptions;
use crate::route::{InputRoute, Route};
use crate::socket::{Datagrams, WaitQueue};

/// Most bytes of payload in a datagram over IPv4 without options.
pub const MAX_PAYLOAD: usize = 65_535 - 20 - 8;
/// Headers in front of the payload: Ethernet, IPv4, UDP.
const HEADERS: u32 = 14 + 20 + 8;

/// Options of a socket that matter to what it sends and to what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// It may send to all hosts of a link (`SO_BROADCAST`).
    pub broadcast: bool,
    /// Time to live of what goes to single hosts; None for the stack's default (`IP_TTL`).
    pub ttl: Option<u8>,
    /// Time to live of what goes to groups (`IP_MULTICAST_TTL`).
    pub multicast_ttl: u8,
    /// What it sends to a group that this host is in comes back to it (`IP_MULTICAST_LOOP`).
    pub multicast_loop: bool,
    /// The interface by which groups are reached (`IP_MULTICAST_IF`); None to let routing decide.
    pub multicast_if: Option<u16>,
    /// From which address groups are sent to, if the socket's own does not say it: that by which the interface was named.
    pub multicast_source: Option<Addr>,
    /// Type of service (`IP_TOS`).
    pub tos: u8,
    /// What it sends carries no checksum (`SO_NO_CHECK`).
    pub no_checksum: bool,
    /// What is longer than the way allows is refused instead of being cut (`IP_MTU_DISCOVER`, `IP_PMTUDISC_DO`).
    pub dont_fragment: bool,
    /// It takes datagrams of a flow merged (`UDP_GRO`).
    pub gro: bool,
    /// Errors are told in detail, passing ones and those of a socket without a peer too (`IP_RECVERR`).
    pub recv_errors: bool,
    /// What it sends is cut into datagrams of so many bytes (`UDP_SEGMENT`); 0 for what it is.
    pub segment: u16,
}

impl Default for UdpOptions {
    fn default() -> UdpOptions {
        UdpOptions {
            broadcast: false,
            ttl: None,
            multicast_ttl: 1,
            multicast_loop: true,
            multicast_if: None,
            multicast_source: None,
            tos: 0,
            no_checksum: false,
            dont_fragment: false,
            gro: false,
            recv_errors: false,
            segment: 0,
        }
    }
}

/// Where a datagram that waits to be sent goes.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Bytes of payload.
    pub len: u32,
    /// Local port.
    pub from: u16,
    /// Destination.
    pub to: (Addr, u16),
    /// The way there.
    pub route: Route,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// It carries no checksum.
    pub no_checksum: bool,
    /// It is not to be cut on its way.
    pub dont_fragment: bool,
    /// It is cut into datagrams of so many bytes; 0 if it is one.
    pub segment: u16,
    /// It is for a group or for all hosts of a link.
    pub to_all: bool,
    /// It comes back to this host, if it is for it too.
    pub looped: bool,
}

impl Pending {
    fn charge(&self) -> u32 {
        TruesizeModel::Kernel.charge(self.len + HEADERS)
    }
}

/// What became of a datagram that was to be sent.
#[derive(Debug)]
pub enum Send {
    /// It waits for the Cpu.
    Taken,
    /// The send buffer is full; with the registration that was asked for.
    Full(Option<EventListener>),
}

#[derive(Debug, Default)]
struct Sending {
    bytes: VecDeque<u8>,
    queue: VecDeque<Pending>,
    /// What waits, by truesize (`sk_wmem_alloc`).
    wmem: u32,
    sndbuf: u32,
    waiting: bool,
    /// The way that was found last, for which destination, and of which count of changes ([`Exceptions::changes`]).
    route: Option<(Addr, Route, u64)>,
}

/// A socket. Softirqs of all Cpus deliver to it; what it sends is sent by one.
#[derive(Debug)]
pub struct UdpSock {
    /// Tells sockets apart, in the order of their making.
    pub number: u64,
    /// The Cpu that sends for it.
    pub cpu: u16,
    /// What came.
    pub rx: Datagrams,
    /// Threads and tasks that wait for room in the send buffer.
    pub send_wait: Arc<WaitQueue>,
    names: Mutex<Names>,
    sending: Mutex<Sending>,
    /// Held while its port is given and taken.
    pub(crate) naming: Mutex<()>,
    gro: AtomicBool,
    connected: AtomicBool,
    /// Identification of the next packet while it is connected; 0 before the first one is drawn.
    ident: AtomicU16,
    /// Requests not yet carried out.
    posted: AtomicU8,
    /// The generation of the configuration in which a datagram was found to be for this host, or for a group of its own, and
    /// the interface that it came by (`sk_rx_dst`).
    rx_route: AtomicU64,
}

#[derive(Debug)]
struct Names {
    binding: Binding,
    /// What it was bound to, before it was connected.
    asked: Binding,
    /// The port was chosen for it, and goes with the connection (no `SOCK_BINDPORT_LOCK`).
    auto_port: bool,
    /// From where it sends, bound to a group or to all hosts, since it was connected (`inet_saddr`).
    source: Option<Addr>,
    options: UdpOptions,
    groups: Vec<(u16, std::net::Ipv4Addr)>,
}

impl UdpSock {
    /// A socket that is not bound yet.
    pub fn new(number: u64, cpu: u16, rx: Datagrams, sndbuf: u32) -> UdpSock {
        let any = Addr::UNSPECIFIED_V4;
        let binding = Binding { local: any, port: 0, remote: None, ifindex: 0, reuse_addr: false, reuse_port: false };
        UdpSock {
            number,
            cpu,
            rx,
            send_wait: Arc::default(),
            names: Mutex::new(Names {
                binding,
                asked: binding,
                auto_port: false,
                source: None,
                options: UdpOptions::default(),
                groups: Vec::new(),
            }),
            naming: Mutex::new(()),
            sending: Mutex::new(Sending { sndbuf, ..Sending::default() }),
            gro: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            ident: AtomicU16::new(0),
            posted: AtomicU8::new(0),
            rx_route: AtomicU64::new(0),
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name in the table.
    pub fn binding(&self) -> Binding {
        self.names().binding
    }

    pub(super) fn set_binding(&self, binding: Binding) {
        let mut names = self.names();
        names.binding = binding;
        if names.asked.port == 0 {
            names.asked = binding;
        }
        self.connected.store(binding.remote.is_some(), Ordering::Relaxed);
    }

    /// Notes that its port was chosen for it.
    pub(super) fn set_auto_port(&self) {
        self.names().auto_port = true;
    }

    /// Whether its port was chosen for it.
    pub fn has_auto_port(&self) -> bool {
        self.names().auto_port
    }

    /// It has no port any more: gives what it is named now.
    pub(super) fn lose_port(&self) -> Binding {
        let mut names = self.names();
        names.asked.port = 0;
        names.binding = names.asked;
        self.connected.store(false, Ordering::Relaxed);
        self.rx_route.store(0, Ordering::Relaxed);
        names.binding
    }

    /// Whether it has a peer.
    #[inline]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// The name that it was bound to before it was connected.
    pub fn asked(&self) -> Binding {
        self.names().asked
    }

    /// From where it sends if the address that it is bound to is none of this host's: what its first connection was given.
    pub fn source(&self) -> Option<Addr> {
        self.names().source
    }

    /// It has been connected, and would send from `source`.
    pub fn set_source(&self, source: Addr) {
        self.names().source.get_or_insert(source);
    }

    /// Its options.
    pub fn options(&self) -> UdpOptions {
        self.names().options
    }

    /// Changes its options; gives whether it took merged datagrams before, and whether it does now.
    pub(super) fn set_options(&self, change: impl FnOnce(&mut UdpOptions)) -> (bool, bool) {
        let mut names = self.names();
        change(&mut names.options);
        let gro = names.options.gro;
        (self.gro.swap(gro, Ordering::Relaxed), gro)
    }

    /// Whether it takes merged datagrams.
    #[inline]
    pub fn wants_merged(&self) -> bool {
        self.gro.load(Ordering::Relaxed)
    }

    /// The groups that it is in, each with the interface.
    pub fn groups(&self) -> Vec<(u16, std::net::Ipv4Addr)> {
        self.names().groups.clone()
    }

    /// Changes the groups that it is in.
    pub fn with_groups<R>(&self, change: impl FnOnce(&mut Vec<(u16, std::net::Ipv4Addr)>) -> R) -> R {
        change(&mut self.names().groups)
    }

    /// Adds requests ([`crate::socket::post`]); true if none were posted, so that the caller must put the socket into the
    /// mailbox.
    pub fn post(&self, bits: u8) -> bool {
        self.posted.fetch_or(bits, Ordering::AcqRel) == 0
    }

    /// Takes all requests.
    pub fn take_posted(&self) -> u8 {
        self.posted.swap(0, Ordering::AcqRel)
    }

    /// Whether it remembers that what comes by this interface is for this host alone.
    #[inline]
    pub(super) fn knows_local(&self, generation: u64, ifindex: u16) -> bool {
        self.rx_route.load(Ordering::Relaxed) == route_word(generation, ifindex, InputRoute::Local)
    }

    /// What it remembers of where what comes by this interface belongs.
    pub(super) fn known_route(&self, generation: u64, ifindex: u16) -> Option<InputRoute> {
        let word = self.rx_route.load(Ordering::Relaxed);
        let places = [InputRoute::Local, InputRoute::Multicast];
        places.into_iter().find(|&place| word == route_word(generation, ifindex, place))
    }

    /// Remembers where a datagram belonged that came by this interface.
    pub(super) fn learn_route(&self, generation: u64, ifindex: u16, place: InputRoute) {
        self.rx_route.store(route_word(generation, ifindex, place), Ordering::Relaxed);
    }

    // ---- sending ----

    /// Identification of the next packet: a connected socket counts from a number that is drawn (`inet_id`); of the others
    /// each is drawn, so that nobody can tell from one what the next will be. Never 0.
    pub(super) fn next_ident(&self, rng: &mut Rng) -> u16 {
        let known = if self.is_connected() { self.ident.load(Ordering::Relaxed) } else { 0 };
        let ident = if known == 0 { 1 + rng.below(u32::from(u16::MAX)) as u16 } else { known };
        self.ident.store(ident.wrapping_add(1), Ordering::Relaxed);
        ident
    }

    /// Puts a datagram into the send buffer, which takes one as long as it is not full (`sock_alloc_send_pskb`).
    pub fn enqueue(&self, payload: &[u8], pending: Pending, register: bool) -> Send {
        let mut sending = self.sending();
        if sending.wmem >= sending.sndbuf {
            return Send::Full(register.then(|| {
                sending.waiting = true;
                self.send_wait.listen()
            }));
        }
        sending.bytes.extend(payload);
        sending.wmem += pending.charge();
        sending.queue.push_back(pending);
        Send::Taken
    }

    /// Room for a datagram worth a wake-up (`sock_writeable`): half of the send buffer.
    pub fn is_writable(&self) -> bool {
        self.sending().is_writable()
    }

    /// Waits for that; None if there is such room.
    pub fn await_room(&self) -> Option<EventListener> {
        let mut sending = self.sending();
        if sending.is_writable() {
            return None;
        }
        sending.waiting = true;
        Some(self.send_wait.listen())
    }

    /// Takes the datagram that waits longest; its payload goes to `take`, in one piece or two. Gives who waits for room,
    /// too.
    pub(super) fn dequeue<R>(
        &self,
        take: impl FnOnce(&Pending, (&[u8], &[u8])) -> R,
    ) -> Option<(Pending, R, Option<&Arc<WaitQueue>>)> {
        let mut sending = self.sending();
        let pending = sending.queue.pop_front()?;
        let len = pending.len as usize;
        let (front, back) = sending.bytes.as_slices();
        let (first, second) = (front.len().min(len), len.saturating_sub(front.len()));
        let taken = take(&pending, (&front[..first], &back[..second.min(back.len())]));
        sending.bytes.drain(..len);
        sending.wmem -= pending.charge();
        let wake = sending.wmem < sending.sndbuf && std::mem::take(&mut sending.waiting);
        Some((pending, taken, wake.then_some(&self.send_wait)))
    }

    /// What waits to be sent, by truesize (`sk_wmem_alloc`).
    pub fn wmem(&self) -> u32 {
        self.sending().wmem
    }

    /// Size of the send buffer.
    pub fn sndbuf(&self) -> u32 {
        self.sending().sndbuf
    }

    /// `SO_SNDBUF`: twice what is asked for, within `wmem_max`.
    pub fn set_sndbuf(&self, bytes: u32, wmem_max: u32) {
        self.sending().sndbuf = bytes.min(wmem_max).saturating_mul(2).max(SNDBUF_MIN);
    }

    /// The way that was found last, if it leads to `dst` and is still right.
    pub fn route_to(&self, dst: Addr, net: &NetConfig) -> Option<Route> {
        let (known, route, changes) = self.sending().route?;
        (known == dst && route.is_current(net) && changes == net.exceptions.changes()).then_some(route)
    }

    /// Keeps the way to `dst`.
    pub fn keep_route(&self, dst: Addr, route: Route, net: &NetConfig) {
        self.sending().route = Some((dst, route, net.exceptions.changes()));
    }

    /// Forgets the way that was found last.
    pub fn forget_route(&self) {
        self.sending().route = None;
    }

    /// Throws away what waits to be sent.
    pub(super) fn discard_unsent(&self) {
        let mut sending = self.sending();
        sending.queue.clear();
        sending.bytes.clear();
        sending.wmem = 0;
    }
}

impl Sending {
    fn is_writable(&self) -> bool {
        self.wmem < self.sndbuf / 2
    }
}

/// Least send buffer (`SOCK_MIN_SNDBUF`).
const SNDBUF_MIN: u32 = 4_608;

/// 0 is nobody's: places are numbered from 2 on.
fn route_word(generation: u64, ifindex: u16, place: InputRoute) -> u64 {
    generation << 24 | u64::from(ifindex) << 8 | u64::from(place.number())
}
