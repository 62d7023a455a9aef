//! What connections have beyond `std`, under Linux's names: keepalive, timeouts, congestion control, urgent data, flags of
//! reads, and what a connection tells of itself.

use std::io;
use std::time::Duration;

use rxpath_core::socket::{Readiness, WriteStep, post};
use rxpath_core::stack::RecvError;
use rxpath_core::sysctl::CongestionControl;
use rxpath_core::tcp::{IpFields, Keepalive, Linger2, MtuDiscover, NoUrgent, State, TcpInfo, TcpSock};

use super::call::{byte, down, invalid, no_buffers, no_interface, sock_error};
use super::stream::Inner;
use super::{ErrorMessage, TcpStream};
use crate::runtime::Attempt;

/// How a read is to be done ([`TcpStream::recv_with`]): the flags of `recv(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvFlags {
    /// The bytes stay to be read again (`MSG_PEEK`).
    pub peek: bool,
    /// Waits until the buffer is full, unless the stream ends, fails, comes to an urgent byte, or the time is over
    /// (`MSG_WAITALL`).
    pub wait_all: bool,
    /// Does not wait, whatever the socket is set to (`MSG_DONTWAIT`).
    pub dont_wait: bool,
    /// The bytes are taken and thrown away, the buffer only says how many (`MSG_TRUNC`); not with `peek`.
    pub discard: bool,
}

/// How a write is to be done ([`TcpStream::send_with`]): the flags of `send(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFlags {
    /// More will be written at once: a segment that is not full waits for it, and is not pushed (`MSG_MORE`). It waits for as
    /// long as one behind a cork does ([`TcpStream::set_cork`]), or until an acknowledgement comes and Nagle's algorithm lets
    /// it go.
    pub more: bool,
    /// A record ends here: no packet has bytes from both sides of its end (`MSG_EOR`). The reader is not told of it.
    pub end_of_record: bool,
    /// Does not wait, whatever the socket is set to (`MSG_DONTWAIT`).
    pub dont_wait: bool,
}

/// Whether a read that wants more than it has is to go on.
enum More {
    /// There is more to read.
    Here,
    /// No more will come, or not in this read.
    Never,
    /// It is to be waited for.
    Later(Option<event_listener::EventListener>),
}

impl Inner {
    fn step(&self, buf: &mut [u8], flags: RecvFlags, register: bool) -> Result<usize, RecvError> {
        let (core, now) = (self.stack.core(), self.stack.now());
        match flags {
            RecvFlags { peek: true, .. } => core.peek(&self.sock, buf, register, now),
            RecvFlags { discard: true, .. } => core.discard(&self.sock, buf.len(), register, now),
            _ => core.recv(&self.sock, buf, register, now),
        }
    }

    /// Looks for bytes beyond `have`. An error stays pending: what was read before it counts.
    fn more(&self, have: u32, register: bool) -> More {
        self.with(0, |sk| {
            let over = sk.user.done || sk.user.rcv_shutdown || sk.user.error.is_some() || sk.state == State::Close;
            if sk.at_mark() || (sk.readable_to_mark() < sk.readable() && sk.readable_to_mark() <= have) {
                return More::Never;
            }
            match sk.readable() > have {
                true => More::Here,
                false if over => More::Never,
                false => More::Later(register.then(|| {
                    sk.user.wait_recv = true;
                    self.sock.recv_wait.listen()
                })),
            }
        })
    }

    /// One attempt at a read that wants `target` bytes and has `done`.
    fn attempt(
        &self,
        buf: &mut [u8],
        done: &mut usize,
        target: usize,
        flags: RecvFlags,
        register: bool,
    ) -> Attempt<io::Result<()>> {
        loop {
            let offset = if flags.peek { self.with(0, |sk| sk.user.peek_off) } else { None };
            if *done > 0 {
                let have = if flags.peek { offset.unwrap_or(*done as u32) } else { 0 };
                match self.more(have, register) {
                    More::Here => {}
                    More::Never => return Attempt::Done(Ok(())),
                    More::Later(waiter) => return Attempt::Pending(waiter),
                }
            }
            // What was looked at is looked at again, unless looks move on.
            let start = if flags.peek && offset.is_none() { 0 } else { *done };
            match self.step(&mut buf[start..], flags, register) {
                Ok(0) => return Attempt::Done(Ok(())),
                Ok(count) => {
                    *done = start + count;
                    if *done >= target {
                        return Attempt::Done(Ok(()));
                    }
                }
                Err(RecvError::Empty(waiter)) => return Attempt::Pending(waiter),
                Err(RecvError::Failed(error)) => return Attempt::Done(Err(sock_error(error))),
                Err(RecvError::NotConnected) => return Attempt::Done(Err(io::ErrorKind::NotConnected.into())),
                Err(RecvError::Down) => return Attempt::Done(Err(down())),
            }
        }
    }
}

impl TcpStream {
    /// Reads as `flags` say: how many bytes, 0 at the end of the stream. Waits for as many as the buffer or
    /// [`TcpStream::set_recv_lowat`] wants; fewer come when the stream ends or fails in between, and the error with the
    /// next read. A reader that has taken some of them is woken, as in Linux, only when as many as that wants have come anew.
    ///
    /// # Errors
    /// As a read.
    pub fn recv_with(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let inner = &*self.0;
        let nonblocking = flags.dont_wait || inner.nonblocking();
        let target = match flags.wait_all {
            _ if nonblocking => 1,
            true => buf.len(),
            false => (inner.with(0, |sk| sk.rx.lowat) as usize).clamp(1, buf.len()),
        };
        let mut done = 0;
        let outcome = inner.block_reading(nonblocking, self.read_timeout()?, |register| {
            inner.attempt(buf, &mut done, target, flags, register)
        });
        match outcome {
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    /// The urgent byte (`MSG_OOB`); with `peek` it stays to be read again. None if the stream has ended without it.
    ///
    /// # Errors
    /// `InvalidInput` if none was announced or it was read or is inline, `WouldBlock` if it has not come yet,
    /// `NotConnected`.
    pub fn recv_urgent(&self, peek: bool) -> io::Result<Option<u8>> {
        match self.0.stack.core().recv_urgent(&self.0.sock, peek, self.0.stack.now()) {
            Ok(byte) => Ok(Some(byte)),
            Err(NoUrgent::Eof) => Ok(None),
            Err(NoUrgent::Invalid) => Err(io::ErrorKind::InvalidInput.into()),
            Err(NoUrgent::Pending) => Err(io::ErrorKind::WouldBlock.into()),
            Err(NoUrgent::NotConnected) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Writes without waiting; if all is taken its last byte is urgent (`MSG_OOB`). Gives the bytes that were taken.
    ///
    /// # Errors
    /// As a write; `WouldBlock` if the send buffer is full.
    pub fn send_urgent(&self, data: &[u8]) -> io::Result<usize> {
        match self.0.stack.core().send_urgent(&self.0.sock, data, false, self.0.stack.now()) {
            WriteStep::Taken(count) => Ok(count),
            WriteStep::Full(_) => Err(io::ErrorKind::WouldBlock.into()),
            WriteStep::Error(error) => Err(sock_error(error)),
            WriteStep::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            WriteStep::NoBuffers => Err(no_buffers()),
        }
    }

    /// Writes as `flags` say, and gives the bytes that were taken: all, unless it does not wait or the connection fails.
    /// If it was not all, `more` and `end_of_record` do not hold.
    ///
    /// ```
    /// # use std::io::Read;
    /// # use rxpath::device::wire::{self, WireConfig};
    /// # use rxpath::net::{SendFlags, TcpListener, TcpStream};
    /// # use rxpath::{Interface, Stack};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    /// # let server = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
    /// # let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
    /// # let listener = TcpListener::bind(&server, "10.0.0.1:80")?;
    /// # let stream = TcpStream::connect(&client, "10.0.0.1:80")?;
    /// # let (mut service, _) = listener.accept()?;
    /// // The header leaves in one segment with the body.
    /// stream.send_with(b"length: 5\n", SendFlags { more: true, ..SendFlags::default() })?;
    /// stream.send_with(b"hello", SendFlags::default())?;
    /// # let mut text = [0; 15];
    /// # service.read_exact(&mut text)?;
    /// # assert_eq!(&text, b"length: 5\nhello");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As a write.
    pub fn send_with(&self, data: &[u8], flags: SendFlags) -> io::Result<usize> {
        self.0.write(data, flags)
    }

    /// Whether the last segment waits until it is full (`TCP_CORK`). Taking the cork out sends it, as do ending the stream and
    /// [`TcpStream::set_nodelay`]. Where nothing is in flight it waits for a retransmission timeout at the longest, 200 ms at
    /// the least; else a tail loss probe, two round trips after what was sent last, may take it along.
    pub fn set_cork(&self, cork: bool) {
        let requests = if cork { 0 } else { post::PUSH };
        self.0.with(requests, |sk| sk.set_cork(cork));
    }

    /// Whether the last segment waits until it is full.
    pub fn cork(&self) -> bool {
        self.look(|sk| sk.tx.nagle.cork)
    }

    /// Whether urgent bytes stay in the stream (`SO_OOBINLINE`).
    pub fn set_urgent_inline(&self, inline: bool) {
        self.look(|sk| sk.rx.urgent.inline = inline);
    }

    /// Whether urgent bytes stay in the stream.
    pub fn urgent_inline(&self) -> bool {
        self.look(|sk| sk.rx.urgent.inline)
    }

    /// Whether the next byte is the urgent one (`sockatmark`).
    pub fn at_mark(&self) -> bool {
        self.look(|sk| sk.at_mark())
    }

    /// From now on looks ([`TcpStream::peek`]) begin so many bytes behind the next one that a read gives, and each further
    /// one where the last ended; reads bring that place nearer (`SO_PEEK_OFF`). None has every look begin at the next byte.
    pub fn set_peek_offset(&self, offset: Option<u32>) {
        self.look(|sk| sk.user.peek_off = offset);
    }

    /// Where the next look begins.
    pub fn peek_offset(&self) -> Option<u32> {
        self.look(|sk| sk.user.peek_off)
    }

    /// Time to live of what is sent, 1 to 255 (`IP_TTL`).
    ///
    /// # Errors
    /// `InvalidInput` if it is out of that range.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = Some(byte("IP_TTL", ttl)?);
        self.change_ip(|ip| ip.ttl = ttl)
    }

    /// Time to live of what is sent.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn ttl(&self) -> io::Result<u32> {
        let default = self.0.stack.core().config().sysctl.ip_default_ttl;
        Ok(u32::from(self.look(|sk| sk.ip.ttl.unwrap_or(default))))
    }

    /// Type of service of what is sent (`IP_TOS`); its lowest two bits, which are for congestion, stay the stack's.
    pub fn set_tos(&self, tos: u8) {
        self.look(|sk| sk.ip.tos = tos);
    }

    /// Type of service of what is sent.
    pub fn tos(&self) -> u8 {
        self.look(|sk| sk.ip.tos & !3)
    }

    /// Segments of the peer with a lower time to live are dropped (`TCP_MINTTL`), and ICMP errors about such of ours passed
    /// over (`IP_MINTTL`, RFC 5082); 0 takes all. Half-open connections are not asked.
    pub fn set_min_ttl(&self, min_ttl: u8) {
        self.look(|sk| sk.ip.min_ttl = min_ttl);
    }

    /// The lowest time to live of the peer's segments that are taken.
    pub fn min_ttl(&self) -> u8 {
        self.look(|sk| sk.ip.min_ttl)
    }

    /// Bytes that a read would give now, up to an urgent one (`SIOCINQ`); 0 before the handshake has ended.
    pub fn available(&self) -> usize {
        self.look(|sk| sk.inq()) as usize
    }

    /// What calls would do now without waiting, by the rules of `poll(2)`.
    pub fn readiness(&self) -> Readiness {
        self.0.stack.core().readiness(&self.0.sock, self.0.stack.now())
    }

    /// Bytes that are worth a wake-up of a reader and that [`TcpStream::recv_with`] waits for (`SO_RCVLOWAT`); at most half of
    /// what the receive buffer may become, 0 counts as 1.
    pub fn set_recv_lowat(&self, bytes: u32) {
        let most = self.0.stack.core().config().sysctl.tcp_rmem.max;
        self.0.with(post::BACKLOG, |sk| sk.set_rcvlowat(bytes, most));
    }

    /// Bytes that are worth a wake-up of a reader.
    pub fn recv_lowat(&self) -> u32 {
        self.look(|sk| sk.rx.lowat)
    }

    /// Probes a silent peer (`SO_KEEPALIVE`, `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`), or does not.
    ///
    /// # Errors
    /// `InvalidInput` if a value is out of its range ([`Keepalive`]); nothing is changed then.
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        let config = self.0.stack.core().config();
        let now = self.0.stack.now();
        self.0.with(post::BACKLOG, |sk| sk.set_keepalive(keepalive, &config.sysctl, now)).map_err(invalid)
    }

    /// Whether and when a silent peer is probed.
    pub fn keepalive(&self) -> Option<Keepalive> {
        self.look(|sk| sk.live.on.then_some(sk.live.settings))
    }

    /// How long data may stay unacknowledged, or the peer's window closed, before the connection is given up with
    /// `TimedOut` (`TCP_USER_TIMEOUT`), in whole milliseconds; None leaves it to the number of retransmissions.
    ///
    /// # Errors
    /// `InvalidInput` above 2,147,483,647 milliseconds.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        let ms = timeout.map_or(0, |timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        self.look(|sk| sk.set_user_timeout(ms)).map_err(invalid)
    }

    /// How the congestion window grows and how far it falls (`TCP_CONGESTION`).
    pub fn set_congestion_control(&self, algorithm: CongestionControl) {
        self.look(|sk| sk.cong.set_algorithm(algorithm));
    }

    /// How the congestion window grows and how far it falls.
    pub fn congestion_control(&self) -> CongestionControl {
        self.look(|sk| sk.cong.algorithm)
    }

    /// Most bytes per second that are sent, spread evenly (`SO_MAX_PACING_RATE`); None sets no limit.
    pub fn set_max_pacing_rate(&self, bytes: Option<u64>) {
        self.look(|sk| sk.set_max_pacing_rate(bytes.unwrap_or(u64::MAX)));
    }

    /// How long a read that finds nothing polls the queue of the device that packets came by last, before it sleeps
    /// (`SO_BUSY_POLL`), to the microsecond; at first what `net.core.busy_read` says. A non-blocking read polls once. So do
    /// reads in virtual time.
    ///
    /// # Errors
    /// `InvalidInput` beyond 2^31 microseconds.
    pub fn set_busy_poll(&self, time: Duration) -> io::Result<()> {
        self.0.busy.set_time(time)
    }

    /// How long that is.
    pub fn busy_poll(&self) -> Duration {
        self.0.busy.time()
    }

    /// Whether the queue's interrupt is masked while it is polled so, and no softirq thread wakes for what comes
    /// (`SO_PREFER_BUSY_POLL`).
    pub fn set_prefer_busy_poll(&self, prefer: bool) {
        self.0.busy.prefer(prefer);
    }

    /// Most packets that one such poll takes (`SO_BUSY_POLL_BUDGET`); 8 at first.
    pub fn set_busy_poll_budget(&self, packets: u16) {
        self.0.busy.set_budget(packets);
    }

    /// The queue that packets came by last (`SO_INCOMING_NAPI_ID`), of those of [`rxpath_core::stack::Stack::napi_ids`]; 0
    /// before there were any.
    pub fn incoming_napi_id(&self) -> u32 {
        self.0.napi_id()
    }

    /// The Cpu that its last segment came to (`SO_INCOMING_CPU`); None before there was one. It is the same for all of them.
    pub fn incoming_cpu(&self) -> Option<u16> {
        let came = self.look(|sk| sk.rx.segs_in > 0 || sk.user.delivered > 0);
        came.then_some(self.0.sock.cpu)
    }

    /// Binds the connection to an interface, or to none: it goes by that from now on, whatever routes say, and takes what
    /// comes by that alone (`SO_BINDTODEVICE`). Where no route leads by it, the peer is taken to be on its link. For what is
    /// to hold from the SYN on there are [`SockOptions::ifindex`](super::SockOptions::ifindex) and
    /// [`TcpListener::bind_to`](super::TcpListener::bind_to). Unlike in Linux two connections cannot differ by their
    /// interfaces alone.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface.
    pub fn set_interface(&self, ifindex: Option<u16>) -> io::Result<()> {
        match self.0.stack.core().bind_to_interface(&self.0.sock, ifindex, self.0.stack.now()) {
            true => Ok(()),
            false => Err(no_interface()),
        }
    }

    /// The interface that it is bound to, if it is.
    pub fn interface(&self) -> Option<u16> {
        self.look(|sk| Some(sk.ifindex).filter(|&ifindex| ifindex != 0))
    }

    /// What the connection tells of itself (`TCP_INFO`).
    pub fn info(&self) -> TcpInfo {
        let now = self.0.stack.now();
        self.look(|sk| sk.info(now))
    }

    /// Receive buffer (`SO_RCVBUF`): it becomes twice `bytes`, at most twice `net.core.rmem_max` and at least 2,304, and does
    /// not tune itself any more.
    pub fn set_recv_buffer_size(&self, bytes: u32) {
        let most = self.0.stack.core().config().sysctl.rmem_max;
        self.look(|sk| sk.set_rcvbuf(bytes, most));
    }

    /// As [`TcpStream::set_recv_buffer_size`], whatever `net.core.rmem_max` says (`SO_RCVBUFFORCE`).
    pub fn force_recv_buffer_size(&self, bytes: u32) {
        self.look(|sk| sk.set_rcvbuf(bytes, u32::MAX));
    }

    /// Bytes of the receive buffer.
    pub fn recv_buffer_size(&self) -> u32 {
        self.look(|sk| sk.rx.rcvbuf)
    }

    /// Send buffer (`SO_SNDBUF`): it becomes twice `bytes`, at most twice `net.core.wmem_max` and at least 4,608, and does not
    /// tune itself any more.
    pub fn set_send_buffer_size(&self, bytes: u32) {
        let most = self.0.stack.core().config().sysctl.wmem_max;
        self.0.with(post::BACKLOG, |sk| sk.set_sndbuf(bytes, most));
    }

    /// As [`TcpStream::set_send_buffer_size`], whatever `net.core.wmem_max` says (`SO_SNDBUFFORCE`).
    pub fn force_send_buffer_size(&self, bytes: u32) {
        self.0.with(post::BACKLOG, |sk| sk.set_sndbuf(bytes, u32::MAX));
    }

    /// Bytes of the send buffer.
    pub fn send_buffer_size(&self) -> u32 {
        self.look(|sk| sk.tx.sndbuf) as u32
    }

    /// Most that the window may offer from now on, at least 1,152 bytes (`TCP_WINDOW_CLAMP`).
    ///
    /// # Errors
    /// `InvalidInput` if it is 0: a connection that stands keeps its clamp.
    pub fn set_window_clamp(&self, bytes: u32) -> io::Result<()> {
        self.look(|sk| sk.clamp_window_to(bytes)).map_err(invalid)
    }

    /// Most that the window may offer.
    pub fn window_clamp(&self) -> u32 {
        self.look(|sk| sk.rx.window_clamp)
    }

    /// Largest segment, 88 to 32,767 bytes, or 0 for no limit (`TCP_MAXSEG`). It is settled with the handshake, for which
    /// [`SockOptions::max_segment`](super::SockOptions::max_segment) is: as in Linux, here it bounds nothing any more.
    ///
    /// # Errors
    /// `InvalidInput` if it is out of that range.
    pub fn set_max_segment(&self, bytes: u16) -> io::Result<()> {
        self.look(|sk| sk.set_max_segment(bytes)).map_err(invalid)
    }

    /// Payload of a segment that would be sent now, without options that come and go (`TCP_MAXSEG`).
    pub fn max_segment(&self) -> u16 {
        self.look(|sk| sk.tx.mss)
    }

    /// The path's MTU, as far as it is known: of the next hop, of a narrower one further on that said so (`IP_MTU`).
    pub fn path_mtu(&self) -> u16 {
        self.look(|sk| sk.route.mtu)
    }

    /// What is done about the MTU of the path (`IP_MTU_DISCOVER`).
    pub fn set_mtu_discover(&self, discover: MtuDiscover) {
        self.look(|sk| sk.user.mtu_discover = discover);
    }

    /// What is done about the MTU of the path.
    pub fn mtu_discover(&self) -> MtuDiscover {
        self.look(|sk| sk.user.mtu_discover)
    }

    /// Whether ICMP errors about what is in flight are told at once (`IP_RECVERR`): the next call fails with what went wrong,
    /// and the connection goes on. Otherwise that is told if the connection gives up. Connections of a listener have it from
    /// [`SockOptions::recv_errors`](super::SockOptions::recv_errors). Taken back, what [`TcpStream::recv_error`] would give is
    /// forgotten.
    pub fn set_recv_errors(&self, recv_errors: bool) {
        self.look(|sk| sk.set_recv_errors(recv_errors));
    }

    /// Whether ICMP errors are told at once.
    pub fn recv_errors(&self) -> bool {
        self.look(|sk| sk.user.recv_errors)
    }

    /// The ICMP error that ended the attempt to connect, in detail (`MSG_ERRQUEUE`), and into `buf` what came back of the
    /// segment, from its header on. Never waits. As in Linux it is there whether or not it was asked for, and read here it is
    /// not told by the next call any more; of errors while the connection stands there are no details.
    ///
    /// ```
    /// # use rxpath::device::wire::{self, WireConfig};
    /// # use rxpath::net::{ErrorOrigin, SockOptions, TcpStream};
    /// # use rxpath::{Interface, Stack};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    /// # let router = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?);
    /// # let router = router.sysctl("net.ipv4.ip_forward", "1")?.build()?;
    /// # let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?);
    /// # let client = client.route_via("0.0.0.0/0".parse()?, [10, 0, 0, 1].into()).build()?;
    /// // The router knows no way there.
    /// let stream = TcpStream::connect_nonblocking(&client, None, "192.0.2.1:80".parse()?, &SockOptions::default())?;
    /// while !stream.readiness().error {
    ///     std::thread::yield_now();
    /// }
    /// let told = stream.recv_error(&mut [0; 64])?;
    /// assert!(matches!(told.origin, ErrorOrigin::Icmp { kind: 3, code: 0, .. }));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn recv_error(&self, buf: &mut [u8]) -> io::Result<ErrorMessage> {
        let told = self.0.stack.core().recv_error(&self.0.sock, self.0.stack.now());
        told.map(|told| ErrorMessage::of(&told, buf)).ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Acknowledges at once, or lets our data carry the acknowledgements (`TCP_QUICKACK`). Neither lasts: the connection
    /// changes over by itself.
    pub fn set_quickack(&self, on: bool) {
        if self.look(|sk| sk.set_quickack(on)) {
            self.0.with(post::ACK, |_| ());
        }
    }

    /// Whether acknowledgements go out at once.
    pub fn quickack(&self) -> bool {
        self.look(|sk| sk.quickack())
    }

    /// Bytes that may wait unsent before a writer has to wait (`TCP_NOTSENT_LOWAT`); `u32::MAX` sets no limit, 0 is as
    /// `net.ipv4.tcp_notsent_lowat` says. A writer is woken at half of it. What is in the buffer already stays; a segment is
    /// not cut for it.
    pub fn set_notsent_lowat(&self, bytes: u32) {
        let config = self.0.stack.core().config();
        self.look(|sk| sk.set_notsent_lowat(bytes, &config.sysctl));
    }

    /// Bytes that may wait unsent before a writer has to wait.
    pub fn notsent_lowat(&self) -> u32 {
        self.look(|sk| sk.tx.notsent_lowat)
    }

    /// How long the connection waits for the peer's FIN once the application has let go (`TCP_LINGER2`).
    pub fn set_linger2(&self, linger: Linger2) {
        self.look(|sk| sk.user.linger2 = linger);
    }

    /// Bytes that were written and not acknowledged, our FIN counted (`SIOCOUTQ`); 0 before the handshake has ended.
    pub fn unacknowledged(&self) -> u32 {
        self.look(|sk| sk.outq())
    }

    /// Of those, what was not sent (`SIOCOUTQNSD`).
    pub fn unsent(&self) -> u32 {
        self.look(|sk| sk.outq_unsent())
    }

    /// As a read, and tells how many bytes are left to be read (`TCP_INQ`), urgent ones counted. The end of the stream counts
    /// as one more, so that the reader comes for it.
    ///
    /// # Errors
    /// As a read.
    pub fn recv_inq(&self, buf: &mut [u8]) -> io::Result<(usize, u32)> {
        let count = self.0.read(buf)?;
        Ok((count, self.look(|sk| sk.inq_hint())))
    }

    fn change_ip(&self, change: impl FnOnce(&mut IpFields)) -> io::Result<()> {
        self.look(|sk| {
            let mut ip = sk.ip;
            change(&mut ip);
            sk.set_ip_fields(ip)
        })
        .map_err(invalid)
    }

    fn look<R>(&self, look: impl FnOnce(&mut TcpSock) -> R) -> R {
        self.0.with(0, look)
    }
}
