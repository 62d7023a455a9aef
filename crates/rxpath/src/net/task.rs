//! Sockets for tasks: calls that give `Pending` where those of `std` would block, and wake the task. They need no runtime
//! of their own, and run on any executor.
//!
//! - [`AsyncTcpListener`] and [`AsyncTcpStream`] wrap a [`TcpListener`] and a [`TcpStream`]; whatever those can do besides
//!   waiting is done through [`AsyncTcpStream::stream`]. [`AsyncUdpSocket`](super::AsyncUdpSocket) does the same for
//!   datagrams.
//! - The `poll_*` methods have the shapes that the traits of async runtimes want; the `async` ones stand on them.
//! - A task registers itself where a blocked thread would: in the socket's queue of waiters, when it has found nothing. Who
//!   never waits pays nothing.
//!
//! With [`Mode::Threads`](crate::Mode::Threads) the softirq threads wake tasks. In the other modes somebody has to run
//! softirqs while all tasks wait: an executor that has nothing to do calls [`Stack::poll`](crate::Stack::poll), and
//! [`Stack::wait`](crate::Stack::wait) until there is a reason to.

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use event_listener::EventListener;
use rxpath_core::socket::Readiness;
use rxpath_core::tcp::{AuthKeys, SockOptions};

use super::call::down;
use super::stream::Inner;
use super::{TcpListener, TcpStream};
use crate::runtime::Attempt;
use crate::stack::Stack;

/// Tries, and where that gives nothing sees to it that the task is woken when it may. `waiter` keeps the registration
/// between two polls; `cpu` is the one whose softirq may bring about what is waited for.
fn poll_attempt<T>(
    stack: &Stack,
    cpu: u16,
    waiter: &mut Option<EventListener>,
    cx: &mut Context<'_>,
    attempt: impl FnMut(bool) -> Attempt<io::Result<T>>,
) -> Poll<io::Result<T>> {
    poll_attempt_on(stack, cpu..cpu + 1, waiter, cx, attempt)
}

/// The same, where any of several Cpus may bring it about.
pub(super) fn poll_attempt_on<T>(
    stack: &Stack,
    cpus: Range<u16>,
    waiter: &mut Option<EventListener>,
    cx: &mut Context<'_>,
    mut attempt: impl FnMut(bool) -> Attempt<io::Result<T>>,
) -> Poll<io::Result<T>> {
    let handle = &*stack.0;
    let mut nudged = false;
    loop {
        let attempted = if handle.core.is_down() { Attempt::Done(Err(down())) } else { attempt(waiter.is_none()) };
        match attempted {
            Attempt::Done(outcome) => {
                *waiter = None;
                return Poll::Ready(outcome);
            }
            Attempt::Pending(None) => {}
            Attempt::Pending(listener) => *waiter = listener,
        }
        if !nudged {
            nudged = true;
            let nudge = |cpu| handle.runtime.nudge(&handle.core, &*handle.clock, cpu);
            if cpus.clone().fold(false, |any, cpu| any | nudge(cpu)) {
                continue;
            }
        }
        if let Some(listener) = waiter {
            ready!(Pin::new(listener).poll(cx));
            // It was notified since it was registered: look again, and register anew.
            *waiter = None;
        }
    }
}

/// A [`TcpListener`] for tasks.
#[derive(Debug)]
pub struct AsyncTcpListener {
    listener: TcpListener,
    waiter: Option<EventListener>,
}

impl From<TcpListener> for AsyncTcpListener {
    fn from(listener: TcpListener) -> AsyncTcpListener {
        AsyncTcpListener { listener, waiter: None }
    }
}

impl AsyncTcpListener {
    /// Listens on the first of `addrs` on which it can. Names among them are resolved at once, and block.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind(stack: &Stack, addrs: impl ToSocketAddrs) -> io::Result<AsyncTcpListener> {
        TcpListener::bind(stack, addrs).map(AsyncTcpListener::from)
    }

    /// The connection that has waited longest, or `Pending`.
    ///
    /// # Errors
    /// `NetworkDown`.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(AsyncTcpStream, SocketAddr)>> {
        let AsyncTcpListener { listener, waiter } = self;
        let accepted = ready!(poll_attempt(listener.stack(), 0, waiter, cx, |register| listener.try_accept(register)))?;
        Poll::Ready(Ok((accepted.0.into(), accepted.1)))
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// `NetworkDown`.
    pub async fn accept(&mut self) -> io::Result<(AsyncTcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The listener itself.
    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// The listener itself, for those who wait by blocking.
    pub fn into_inner(self) -> TcpListener {
        self.listener
    }
}

/// A [`TcpStream`] for tasks. One task reads and one writes, each with a handle of its own
/// ([`AsyncTcpStream::try_clone`]), or one task does both. Timeouts of the stream are those of blocking calls: a task sets
/// its own. Dropping the last handle closes the connection as with [`TcpStream`].
///
/// ```
/// use std::future::Future;
/// use std::pin::pin;
/// use std::sync::Arc;
/// use std::task::{Context, Poll, Wake};
///
/// use rxpath::device::wire::{self, WireConfig};
/// use rxpath::net::{AsyncTcpListener, AsyncTcpStream};
/// use rxpath::{Interface, Stack};
///
/// // Any executor will do; this is the smallest.
/// struct Unpark(std::thread::Thread);
/// impl Wake for Unpark {
///     fn wake(self: Arc<Unpark>) {
///         self.0.unpark();
///     }
/// }
/// fn block_on<T>(future: impl Future<Output = T>) -> T {
///     let waker = Arc::new(Unpark(std::thread::current())).into();
///     let mut future = pin!(future);
///     loop {
///         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
///             Poll::Ready(value) => return value,
///             Poll::Pending => std::thread::park(),
///         }
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
/// # let server = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24").unwrap()).build().unwrap();
/// # let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24").unwrap()).build().unwrap();
/// let mut listener = AsyncTcpListener::bind(&server, "10.0.0.1:7")?;
/// let echo = std::thread::spawn(move || {
///     block_on(async {
///         let (mut stream, _) = listener.accept().await?;
///         let mut buf = [0; 1024];
///         let count = stream.read(&mut buf).await?;
///         stream.write_all(&buf[..count]).await
///     })
/// });
/// block_on(async {
///     let mut stream = AsyncTcpStream::connect(&client, "10.0.0.1:7".parse().unwrap()).await?;
///     stream.write_all(b"hello").await?;
///     let mut buf = [0; 1024];
///     assert_eq!(stream.read(&mut buf).await?, 5);
///     Ok::<(), std::io::Error>(())
/// })?;
/// echo.join().expect("it echoed")?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AsyncTcpStream {
    stream: TcpStream,
    /// Waits for bytes.
    reader: Option<EventListener>,
    /// Waits for room or for the handshake.
    writer: Option<EventListener>,
}

impl From<TcpStream> for AsyncTcpStream {
    fn from(stream: TcpStream) -> AsyncTcpStream {
        AsyncTcpStream { stream, reader: None, writer: None }
    }
}

impl AsyncTcpStream {
    /// Connects. An address and no name, as resolving one would block.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub async fn connect(stack: &Stack, addr: SocketAddr) -> io::Result<AsyncTcpStream> {
        AsyncTcpStream::connect_with(stack, addr, &SockOptions::default()).await
    }

    /// As [`AsyncTcpStream::connect`], with options that the handshake must know.
    ///
    /// # Errors
    /// As [`TcpStream::connect_with`].
    pub async fn connect_with(stack: &Stack, addr: SocketAddr, options: &SockOptions) -> io::Result<AsyncTcpStream> {
        let mut stream = AsyncTcpStream::from(TcpStream::begin(stack, addr, options)?);
        poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(stream)
    }

    /// As [`AsyncTcpStream::connect_with`], with keys that sign and verify from the SYN on.
    ///
    /// # Errors
    /// As [`TcpStream::connect_signed`].
    pub async fn connect_signed(
        stack: &Stack,
        addr: SocketAddr,
        options: &SockOptions,
        keys: &AuthKeys,
    ) -> io::Result<AsyncTcpStream> {
        let mut stream = AsyncTcpStream::from(TcpStream::begin_signed(stack, None, addr, options, keys)?);
        poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(stream)
    }

    /// Connects and writes `data`, of which the SYN has as much as fits, if there is a cookie of the peer (Fast Open, RFC
    /// 7413); comes back at once if that is all.
    ///
    /// # Errors
    /// As [`TcpStream::connect_with_data`].
    pub async fn connect_with_data(
        stack: &Stack,
        addr: SocketAddr,
        data: &[u8],
        options: &SockOptions,
    ) -> io::Result<AsyncTcpStream> {
        let (stream, mut taken) = TcpStream::begin_with_data(stack, addr, data, options)?;
        let mut stream = AsyncTcpStream::from(stream);
        if taken < data.len() || data.is_empty() {
            poll_fn(|cx| stream.poll_connected(cx)).await?;
        }
        while taken < data.len() {
            taken += poll_fn(|cx| stream.poll_write(cx, &data[taken..])).await?;
        }
        Ok(stream)
    }

    /// Whether the handshake is done, or `Pending`.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &self.stream.0;
        poll_attempt(&inner.stack, inner.sock.cpu, &mut self.writer, cx, |register| inner.try_connected(register))
    }

    /// Reads at least one byte, or gives 0 at the end of the stream (or for an empty `buf`), or `Pending`.
    ///
    /// # Errors
    /// As [`TcpStream`]'s reads, without timeouts.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let inner = &self.stream.0;
        poll_attempt(&inner.stack, inner.sock.cpu, &mut self.reader, cx, |register| inner.try_read(buf, register))
    }

    /// As [`AsyncTcpStream::poll_read`]; the next read gives the same bytes.
    ///
    /// # Errors
    /// As [`AsyncTcpStream::poll_read`].
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let inner = &self.stream.0;
        poll_attempt(&inner.stack, inner.sock.cpu, &mut self.reader, cx, |register| inner.try_peek(buf, register))
    }

    /// Takes at least one byte of `data` into the send buffer, or gives `Pending` while that is full. What was taken is sent
    /// without being flushed.
    ///
    /// # Errors
    /// As [`TcpStream`]'s writes, without timeouts.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |inner, register| inner.try_write(data, register))
    }

    pub(super) fn poll_writing(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&Inner, bool) -> Attempt<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let inner = &self.stream.0;
        poll_attempt(&inner.stack, inner.sock.cpu, &mut self.writer, cx, |register| write(inner, register))
    }

    /// There is nothing to flush.
    ///
    /// # Errors
    /// None; as the traits of runtimes have it.
    pub fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends writing: our FIN follows what was written.
    ///
    /// # Errors
    /// As [`TcpStream::shutdown`].
    pub fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }

    /// What the stream is ready for, once a read would not wait: there are bytes, the end, an error or an urgent byte.
    ///
    /// # Errors
    /// `NetworkDown`.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        let inner = &self.stream.0;
        poll_attempt(&inner.stack, inner.sock.cpu, &mut self.reader, cx, |register| inner.try_readable(register))
    }

    /// What the stream is ready for, once a write would not wait: there is room, by the third that `poll(2)` wants, or an
    /// error.
    ///
    /// # Errors
    /// `NetworkDown`.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        let inner = &self.stream.0;
        poll_attempt(&inner.stack, inner.sock.cpu, &mut self.writer, cx, |register| inner.try_writable(register))
    }

    /// Waits for bytes: at least one, or 0 at the end of the stream.
    ///
    /// # Errors
    /// As [`AsyncTcpStream::poll_read`].
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Waits for bytes and leaves them.
    ///
    /// # Errors
    /// As [`AsyncTcpStream::poll_peek`].
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_peek(cx, buf)).await
    }

    /// Waits for room and writes what fits.
    ///
    /// # Errors
    /// As [`AsyncTcpStream::poll_write`].
    pub async fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, data)).await
    }

    /// Writes all of `data`. If the future is dropped before its end, a part may have been written.
    ///
    /// # Errors
    /// As [`AsyncTcpStream::poll_write`].
    pub async fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let count = self.write(data).await?;
            data = &data[count..];
        }
        Ok(())
    }

    /// Waits until a read would not wait.
    ///
    /// # Errors
    /// As [`AsyncTcpStream::poll_readable`].
    pub async fn readable(&mut self) -> io::Result<Readiness> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Waits until a write would not wait.
    ///
    /// # Errors
    /// As [`AsyncTcpStream::poll_writable`].
    pub async fn writable(&mut self) -> io::Result<Readiness> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// Another handle to the same connection, for another task.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn try_clone(&self) -> io::Result<AsyncTcpStream> {
        self.stream.try_clone().map(AsyncTcpStream::from)
    }

    /// The stream itself: addresses, options, `shutdown`.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The stream itself, for those who wait by blocking.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }
}
