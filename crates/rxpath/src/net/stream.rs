//! Connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::EventListener;
use rxpath_core::socket::{Lending, Payload, Readiness, Sock, WriteStep, post};
use rxpath_core::stack::RecvError;
use rxpath_core::tcp::{AuthKeys, Ending, SockError, SockOptions, State, TcpSock};

use super::SendFlags;
use super::busy::Busy;
use super::call::{block, check_timeout, connect_error, down, each_addr, invalid, no_buffers, sock_error};
use crate::runtime::Attempt;
use crate::stack::Stack;

/// A TCP connection, with the shape of [`std::net::TcpStream`]. Dropping the last handle closes it: with unread data
/// the peer is reset, else our FIN follows what was written.
///
/// ```
/// # use std::io::{Read, Write};
/// # use std::time::Duration;
/// # use rxpath::device::wire::{self, WireConfig};
/// # use rxpath::net::{TcpListener, TcpStream};
/// # use rxpath::{Interface, Stack};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
/// # let server = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
/// # let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
/// let listener = TcpListener::bind(&server, "10.0.0.1:80")?;
/// let mut request = TcpStream::connect(&client, "10.0.0.1:80")?;
/// request.write_all(b"GET /\r\n")?;
/// request.shutdown(std::net::Shutdown::Write)?;
///
/// let (mut service, _) = listener.accept()?;
/// let mut text = String::new();
/// service.read_to_string(&mut text)?;
/// assert_eq!(text, "GET /\r\n");
///
/// request.set_read_timeout(Some(Duration::from_millis(1)))?;
/// let silence = request.read(&mut [0; 16]).unwrap_err();
/// assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TcpStream(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) stack: Stack,
    pub(super) sock: Arc<Sock>,
    nonblocking: AtomicBool,
    options: Mutex<Options>,
    pub(super) busy: Busy,
}

/// What the application has set.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    linger: Option<Duration>,
    /// An error that came after a part of a write was taken: the next write reports it.
    write_error: Option<SockError>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tuple = &self.sock.tuple;
        f.debug_struct("Inner").field("local", &tuple.local_socket()).field("peer", &tuple.remote_socket()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(time) = self.options().linger {
            self.linger(time);
        }
        self.stack.core().close(&self.sock, self.stack.now());
    }
}

impl Inner {
    fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    /// Owns the socket, looks, and has requests carried out.
    pub(super) fn with<R>(&self, requests: u8, look: impl FnOnce(&mut TcpSock) -> R) -> R {
        self.stack.core().with(&self.sock, requests, self.stack.now(), look)
    }

    /// `SO_LINGER`: with no time close resets; else it waits until the peer has everything, our FIN too.
    fn linger(&self, time: Duration) {
        let core = self.stack.core();
        if time.is_zero() {
            self.with(0, |sk| sk.user.linger_reset = true);
            return;
        }
        if self.with(0, |sk| sk.readable() > 0) {
            return;
        }
        self.with(post::SHUTDOWN, |sk| sk.user.snd_shutdown = true);
        // As in the kernel it waits even where other calls do not. Time-out or a stack that is down: it is closed as it is.
        let _ = block(&self.stack, self.sock.cpu..self.sock.cpu + 1, false, Some(time), |register| {
            let (flying, waiter) = core.with(&self.sock, 0, self.stack.now(), |sk| {
                let flying = matches!(
                    sk.state,
                    State::Established | State::CloseWait | State::FinWait1 | State::Closing | State::LastAck
                );
                sk.user.wait_send |= flying && register;
                (flying, (flying && register).then(|| self.sock.send_wait.listen()))
            });
            if flying { Attempt::Pending(waiter) } else { Attempt::Done(Ok(())) }
        });
    }

    fn connected(&self, timeout: Option<Duration>) -> io::Result<()> {
        block(&self.stack, self.sock.cpu..self.sock.cpu + 1, false, timeout, |register| self.try_connected(register))
    }

    pub(super) fn try_connected(&self, register: bool) -> Attempt<io::Result<()>> {
        match self.stack.core().connected(&self.sock, register, self.stack.now()) {
            (Some(outcome), _) => Attempt::Done(outcome.map_err(sock_error)),
            (None, waiter) => Attempt::Pending(waiter),
        }
    }

    fn receive(
        &self,
        buf: &mut [u8],
        receive: impl Fn(&mut [u8], bool) -> Result<usize, RecvError>,
    ) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let timeout = self.options().read_timeout;
        self.block_reading(self.nonblocking(), timeout, |register| attempted(receive(buf, register)))
    }

    /// Waits as a reader: polling the queue that its packets come by, if it was told to.
    pub(super) fn block_reading<T>(
        &self,
        nonblocking: bool,
        timeout: Option<Duration>,
        attempt: impl FnMut(bool) -> Attempt<io::Result<T>>,
    ) -> io::Result<T> {
        let cpus = self.sock.cpu..self.sock.cpu + 1;
        self.busy.block(&self.stack, cpus, nonblocking, timeout, || self.napi_id(), attempt)
    }

    pub(super) fn napi_id(&self) -> u32 {
        self.with(0, |sk| sk.rx.napi_id)
    }

    pub(super) fn try_read(&self, buf: &mut [u8], register: bool) -> Attempt<io::Result<usize>> {
        attempted(self.stack.core().recv(&self.sock, buf, register, self.stack.now()))
    }

    pub(super) fn try_peek(&self, buf: &mut [u8], register: bool) -> Attempt<io::Result<usize>> {
        attempted(self.stack.core().peek(&self.sock, buf, register, self.stack.now()))
    }

    /// What fits, and nothing that is left of a former write.
    pub(super) fn try_write(&self, data: &[u8], register: bool) -> Attempt<io::Result<usize>> {
        if let Some(error) = self.options().write_error.take() {
            return Attempt::Done(Err(sock_error(error)));
        }
        written(self.stack.core().send(&self.sock, data, register, self.stack.now()))
    }

    /// As [`Inner::try_write`], without copying.
    pub(super) fn try_write_zerocopy(&self, payload: &Payload, register: bool) -> Attempt<io::Result<usize>> {
        if let Some(error) = self.options().write_error.take() {
            return Attempt::Done(Err(sock_error(error)));
        }
        written(self.stack.core().send_zerocopy(
            &self.sock,
            &mut None,
            payload,
            Ending::default(),
            register,
            self.stack.now(),
        ))
    }

    /// Readiness for reading; registers among the readers.
    pub(super) fn try_readable(&self, register: bool) -> Attempt<io::Result<Readiness>> {
        self.with(0, |sk| {
            let ready = Readiness::of(sk);
            if ready.readable || ready.priority || ready.error || ready.hangup {
                return Attempt::Done(Ok(ready));
            }
            sk.user.wait_recv |= register;
            self.unless_told(sk, register.then(|| self.sock.recv_wait.listen()))
        })
    }

    /// Readiness for writing; registers among the writers.
    pub(super) fn try_writable(&self, register: bool) -> Attempt<io::Result<Readiness>> {
        self.with(0, |sk| {
            let ready = Readiness::of(sk);
            if ready.writable || ready.error || ready.hangup {
                return Attempt::Done(Ok(ready));
            }
            sk.user.wait_send |= register;
            self.unless_told(sk, register.then(|| self.sock.send_wait.listen()))
        })
    }

    /// Waits, unless a notice has come meanwhile: those come without the socket's lock.
    fn unless_told(&self, sk: &TcpSock, waiter: Option<EventListener>) -> Attempt<io::Result<Readiness>> {
        let ready = Readiness::of(sk);
        if ready.error { Attempt::Done(Ok(ready)) } else { Attempt::Pending(waiter) }
    }

    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf, |buf, register| self.stack.core().recv(&self.sock, buf, register, self.stack.now()))
    }

    fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf, |buf, register| self.stack.core().peek(&self.sock, buf, register, self.stack.now()))
    }

    pub(super) fn write(&self, data: &[u8], flags: SendFlags) -> io::Result<usize> {
        let ending = Ending { more: flags.more, record: flags.end_of_record };
        self.write_in_steps(data.len(), flags.dont_wait, |taken, register| {
            self.stack.core().send_with(&self.sock, &data[taken..], ending, register, self.stack.now())
        })
    }

    pub(super) fn write_zerocopy(&self, payload: &Payload, flags: SendFlags) -> io::Result<usize> {
        let ending = Ending { more: flags.more, record: flags.end_of_record };
        let mut call: Option<Arc<Lending>> = None;
        self.write_in_steps(payload.len(), flags.dont_wait, |taken, register| {
            let rest = payload.slice(taken..payload.len());
            self.stack.core().send_zerocopy(&self.sock, &mut call, &rest, ending, register, self.stack.now())
        })
    }

    /// `tcp_sendmsg`: all of it, unless non-blocking; what was taken before an error counts.
    fn write_in_steps(
        &self,
        len: usize,
        dont_wait: bool,
        mut write: impl FnMut(usize, bool) -> WriteStep,
    ) -> io::Result<usize> {
        let timeout = {
            let mut options = self.options();
            if let Some(error) = options.write_error.take() {
                return Err(sock_error(error));
            }
            options.write_timeout
        };
        let mut taken = 0;
        let nonblocking = dont_wait || self.nonblocking();
        let outcome = block(&self.stack, self.sock.cpu..self.sock.cpu + 1, nonblocking, timeout, |register| {
            loop {
                match write(taken, register) {
                    WriteStep::Taken(count) => {
                        taken += count;
                        if taken == len {
                            return Attempt::Done(Ok(()));
                        }
                    }
                    WriteStep::Error(error) => {
                        if taken > 0 {
                            self.options().write_error = Some(error);
                        }
                        return Attempt::Done(Err(sock_error(error)));
                    }
                    other => {
                        return match written(other) {
                            Attempt::Done(outcome) => Attempt::Done(outcome.map(|_| ())),
                            Attempt::Pending(waiter) => Attempt::Pending(waiter),
                        };
                    }
                }
            }
        });
        match outcome {
            Err(error) if taken == 0 => Err(error),
            _ => Ok(taken),
        }
    }
}

/// What a step of a write came to.
fn written(step: WriteStep) -> Attempt<io::Result<usize>> {
    match step {
        WriteStep::Taken(count) => Attempt::Done(Ok(count)),
        WriteStep::Full(waiter) => Attempt::Pending(waiter),
        WriteStep::Error(error) => Attempt::Done(Err(sock_error(error))),
        WriteStep::Closed => Attempt::Done(Err(io::ErrorKind::BrokenPipe.into())),
        WriteStep::NoBuffers => Attempt::Done(Err(no_buffers())),
    }
}

/// What a read came to.
fn attempted(read: Result<usize, RecvError>) -> Attempt<io::Result<usize>> {
    match read {
        Ok(count) => Attempt::Done(Ok(count)),
        Err(RecvError::Empty(waiter)) => Attempt::Pending(waiter),
        Err(RecvError::Failed(error)) => Attempt::Done(Err(sock_error(error))),
        Err(RecvError::NotConnected) => Attempt::Done(Err(io::ErrorKind::NotConnected.into())),
        Err(RecvError::Down) => Attempt::Done(Err(down())),
    }
}

impl TcpStream {
    pub(super) fn of(stack: Stack, sock: Arc<Sock>) -> TcpStream {
        let busy = Busy::new(&stack);
        TcpStream(Arc::new(Inner { stack, sock, nonblocking: AtomicBool::new(false), options: Mutex::default(), busy }))
    }

    pub(super) fn begin(stack: &Stack, addr: SocketAddr, options: &SockOptions) -> io::Result<TcpStream> {
        TcpStream::begin_from(stack, None, addr, options)
    }

    fn begin_from(stack: &Stack, port: Option<u16>, addr: SocketAddr, options: &SockOptions) -> io::Result<TcpStream> {
        TcpStream::begin_signed(stack, port, addr, options, &AuthKeys::default())
    }

    pub(super) fn begin_signed(
        stack: &Stack,
        port: Option<u16>,
        addr: SocketAddr,
        options: &SockOptions,
        keys: &AuthKeys,
    ) -> io::Result<TcpStream> {
        options.check().map_err(invalid)?;
        let sock = stack.core().connect_signed(port, addr, options, keys, stack.now()).map_err(connect_error)?;
        Ok(TcpStream::of(stack.clone(), sock))
    }

    /// The connection, once it stands.
    pub(super) fn when_connected(self) -> io::Result<TcpStream> {
        self.0.connected(None)?;
        Ok(self)
    }

    /// Begins to connect, from this port or from a free one, and does not wait: the socket is non-blocking, and stands once
    /// it is writable ([`TcpStream::readiness`]) and no error is pending ([`TcpStream::take_error`]). As `connect` of a
    /// non-blocking socket that gives `EINPROGRESS`.
    ///
    /// # Errors
    /// `InvalidInput` if an option is out of its range, `AddrInUse` and `AddrNotAvailable` as [`TcpStream::connect_from`],
    /// `NetworkUnreachable` and `HostUnreachable` without a route, `NetworkDown`.
    pub fn connect_nonblocking(
        stack: &Stack,
        port: Option<u16>,
        addr: SocketAddr,
        options: &SockOptions,
    ) -> io::Result<TcpStream> {
        TcpStream::connect_signed_nonblocking(stack, port, addr, options, &AuthKeys::default())
    }

    /// As [`TcpStream::connect_with`], from a local port that is named (`bind(2)` with `SO_REUSEADDR` before). A connection
    /// with timestamps that is in TIME-WAIT there, between the same two places, makes way.
    ///
    /// # Errors
    /// `AddrInUse` if the port is a listener's or was given to another connection, `AddrNotAvailable` if there is one
    /// between the same two places; else as [`TcpStream::connect_with`].
    pub fn connect_from(
        stack: &Stack,
        port: u16,
        addrs: impl ToSocketAddrs,
        options: &SockOptions,
    ) -> io::Result<TcpStream> {
        each_addr(addrs, |addr| TcpStream::begin_from(stack, Some(port), addr, options)?.when_connected())
    }

    /// Connects to the first of `addrs` that answers, with options that the handshake must know: buffers, the window's
    /// clamp, segment size, retries, the interface. With `fastopen_connect`, and a cookie of the peer, it comes back at once: the SYN goes
    /// with the first write (`TCP_FASTOPEN_CONNECT`).
    ///
    /// # Errors
    /// `InvalidInput` if an option is out of its range; `Unsupported` if connections are not to be opened fast; else as
    /// [`TcpStream::connect`].
    pub fn connect_with(stack: &Stack, addrs: impl ToSocketAddrs, options: &SockOptions) -> io::Result<TcpStream> {
        each_addr(addrs, |addr| TcpStream::begin(stack, addr, options)?.when_connected())
    }

    pub(super) fn begin_with_data(
        stack: &Stack,
        addr: SocketAddr,
        data: &[u8],
        options: &SockOptions,
    ) -> io::Result<(TcpStream, usize)> {
        options.check().map_err(invalid)?;
        let begun = stack.core().connect_with_data(None, addr, data, options, stack.now());
        let (sock, taken) = begun.map_err(connect_error)?;
        Ok((TcpStream::of(stack.clone(), sock), taken))
    }

    /// Connects to the first of `addrs` that can be, and writes `data`: as much of it as fits goes with the SYN, if there is a
    /// cookie of the peer from an earlier connection (Fast Open, RFC 7413; `sendto` with `MSG_FASTOPEN`), and comes back at
    /// once if that is all. Otherwise it waits for the handshake, in which a cookie is asked for, and writes the rest. The peer
    /// may get the data of a SYN twice, if the network duplicates it. Until the handshake has ended, [`TcpStream::shutdown`]
    /// gives the attempt up.
    ///
    /// Of [`SockOptions`], `fastopen_no_cookie` sends data without a cookie; what became of it [`TcpStream::info`] tells:
    /// `syn_data`, `fastopen_client_fail`.
    ///
    /// # Errors
    /// As [`TcpStream::connect_with`]; `Unsupported` if `net.ipv4.tcp_fastopen` lacks its bit 0x1. Of a connection whose SYN
    /// has all of `data` the next call tells that it was refused.
    ///
    /// ```
    /// # use std::io::Read;
    /// # use rxpath::device::wire::{self, WireConfig};
    /// # use rxpath::net::{TcpListener, TcpStream};
    /// # use rxpath::rxpath_core::tcp::SockOptions;
    /// # use rxpath::{Interface, Stack};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    /// # let server = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?);
    /// # let server = server.sysctl("net.ipv4.tcp_fastopen", "3")?.build()?;
    /// # let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
    /// let listener = TcpListener::bind(&server, "10.0.0.1:80")?;
    /// listener.set_fastopen(16);
    /// for fast in [false, true] {
    ///     let request = TcpStream::connect_with_data(&client, "10.0.0.1:80", b"GET /", &SockOptions::default())?;
    ///     let (mut service, _) = listener.accept()?;
    ///     let mut text = [0; 5];
    ///     service.read_exact(&mut text)?;
    ///     assert_eq!(&text, b"GET /");
    ///     assert_eq!(service.info().syn_data, fast);
    /// #   drop(request);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn connect_with_data(
        stack: &Stack,
        addrs: impl ToSocketAddrs,
        data: &[u8],
        options: &SockOptions,
    ) -> io::Result<TcpStream> {
        let (stream, taken) = each_addr(addrs, |addr| {
            let (stream, taken) = TcpStream::begin_with_data(stack, addr, data, options)?;
            if taken < data.len() || data.is_empty() {
                stream.0.connected(None)?;
            }
            Ok((stream, taken))
        })?;
        (&stream).write_all(&data[taken..])?;
        Ok(stream)
    }

    /// Connects to the first of `addrs` that answers.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `HostUnreachable`, `NetworkUnreachable`, `AddrNotAvailable` if all ports are in
    /// use, `NetworkDown`.
    pub fn connect(stack: &Stack, addrs: impl ToSocketAddrs) -> io::Result<TcpStream> {
        TcpStream::connect_with(stack, addrs, &SockOptions::default())
    }

    /// Connects, waiting for at most `timeout`.
    ///
    /// # Errors
    /// As [`TcpStream::connect`]; `TimedOut` past the timeout, `InvalidInput` if it is zero.
    pub fn connect_timeout(stack: &Stack, addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        check_timeout(Some(timeout))?;
        let stream = TcpStream::begin(stack, *addr, &SockOptions::default())?;
        match stream.0.connected(Some(timeout)) {
            Ok(()) => Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out"))
            }
            Err(error) => Err(error),
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when the connection is over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let over = self.0.with(0, |sk| sk.state == State::Close);
        if over { Err(io::ErrorKind::NotConnected.into()) } else { Ok(self.0.sock.tuple.remote_socket()) }
    }

    /// Our address.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.sock.tuple.local_socket())
    }

    /// Ends reading, writing or both, whatever other handles there are.
    ///
    /// # Errors
    /// `NotConnected` when the connection is over, `NetworkDown`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
        if self.0.stack.is_down() {
            return Err(down());
        }
        let (over, opening) = self.0.with(0, |sk| (sk.state == State::Close, sk.state == State::SynSent));
        if write || opening {
            // An attempt to connect is given up, whatever direction is ended.
            self.0.with(post::SHUTDOWN, |sk| sk.user.snd_shutdown |= sk.state != State::SynSent);
        }
        if read && !opening {
            self.0.stack.core().shutdown_read(&self.0.sock, self.0.stack.now());
            // Who is blocked in a read may be the one who drives the stack.
            self.0.stack.0.runtime.polled();
        }
        if over { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    /// Another handle to the same connection.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(TcpStream(Arc::clone(&self.0)))
    }

    /// How long a read waits, `None` for ever; past that it gives `WouldBlock`. Holds for all handles.
    ///
    /// # Errors
    /// `InvalidInput` if it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        self.0.options().read_timeout = timeout;
        Ok(())
    }

    /// How long a write waits, `None` for ever; past that it gives what was taken or, if that is nothing, `WouldBlock`.
    /// Holds for all handles.
    ///
    /// # Errors
    /// `InvalidInput` if it is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        self.0.options().write_timeout = timeout;
        Ok(())
    }

    /// How long a read waits.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.options().read_timeout)
    }

    /// How long a write waits.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.options().write_timeout)
    }

    /// Reads without taking: the next read gives the same bytes.
    ///
    /// # Errors
    /// As a read.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buf)
    }

    /// What happens at the end (`SO_LINGER`): `None`, the rest is sent in the background; zero, the peer is reset and
    /// the rest discarded; else dropping the last handle waits until the peer has everything, for so long at most, also if
    /// calls do not wait otherwise: then so does a thread that runs tasks.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.0.options().linger = linger;
        Ok(())
    }

    /// What happens at the end.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.options().linger)
    }

    /// Whether small segments go out at once (`TCP_NODELAY`): no Nagle's algorithm. Switched on it sends what waits, also
    /// what a cork holds ([`TcpStream::set_cork`]).
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        let requests = if nodelay { post::PUSH } else { 0 };
        self.0.with(requests, |sk| sk.set_nodelay(nodelay));
        Ok(())
    }

    /// Whether small segments go out at once.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.0.with(0, |sk| sk.tx.nagle.off))
    }

    /// The pending error of the connection, which is taken (`SO_ERROR`).
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let pending = self.0.options().write_error.take();
        let error = pending.or_else(|| self.0.with(0, |sk| sk.user.error.take().or_else(|| sk.user.error_soft.take())));
        Ok(error.map(sock_error))
    }

    /// Whether calls give `WouldBlock` instead of waiting. Holds for all handles.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// The stack that the connection is of.
    pub fn stack(&self) -> &Stack {
        &self.0.stack
    }

    /// The socket behind this, for those who look into it.
    pub fn sock(&self) -> &Arc<Sock> {
        &self.0.sock
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data, SendFlags::default())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data, SendFlags::default())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
