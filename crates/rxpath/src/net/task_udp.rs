//! Datagrams for tasks.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};

use event_listener::EventListener;
use rxpath_core::socket::Readiness;

use super::task::poll_attempt_on;
use super::udp::{Inner, Message, UdpSocket};
use crate::runtime::Attempt;
use crate::stack::Stack;

/// A [`UdpSocket`] for tasks. One task reads and one sends, each with a handle of its own
/// ([`AsyncUdpSocket::try_clone`]), or one task does both. Timeouts of the socket are those of blocking calls.
///
/// ```
/// # use std::future::Future;
/// # use std::pin::pin;
/// # use std::sync::Arc;
/// # use std::task::{Context, Poll, Wake};
/// # use rxpath::device::wire::{self, WireConfig};
/// # use rxpath::net::{AsyncUdpSocket, UdpSocket};
/// # use rxpath::{Interface, Stack};
/// # struct Unpark(std::thread::Thread);
/// # impl Wake for Unpark {
/// #     fn wake(self: Arc<Unpark>) {
/// #         self.0.unpark();
/// #     }
/// # }
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let waker = Arc::new(Unpark(std::thread::current())).into();
/// #     let mut future = pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
/// #             Poll::Ready(value) => return value,
/// #             Poll::Pending => std::thread::park(),
/// #         }
/// #     }
/// # }
/// # fn main() -> std::io::Result<()> {
/// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
/// # let one = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24").unwrap()).build().unwrap();
/// # let other = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24").unwrap()).build().unwrap();
/// let mut server = AsyncUdpSocket::bind(&one, "10.0.0.1:7")?;
/// let client = UdpSocket::bind(&other, "10.0.0.2:0")?;
/// client.send_to(b"hello", "10.0.0.1:7")?;
/// block_on(async {
///     let mut buf = [0; 64];
///     let (len, from) = server.recv_from(&mut buf).await?;
///     server.send_to(&buf[..len], from).await
/// })?;
/// assert_eq!(client.recv(&mut [0; 64])?, 5);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AsyncUdpSocket {
    socket: UdpSocket,
    /// Waits for a datagram.
    reader: Option<EventListener>,
    /// Waits for room.
    writer: Option<EventListener>,
}

impl From<UdpSocket> for AsyncUdpSocket {
    fn from(socket: UdpSocket) -> AsyncUdpSocket {
        AsyncUdpSocket { socket, reader: None, writer: None }
    }
}

impl AsyncUdpSocket {
    /// Binds to the first of `addrs` to which it can. Names among them are resolved at once, and block.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn bind(stack: &Stack, addrs: impl ToSocketAddrs) -> io::Result<AsyncUdpSocket> {
        UdpSocket::bind(stack, addrs).map(AsyncUdpSocket::from)
    }

    fn read<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&Inner, bool) -> Attempt<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let inner = &*self.socket.0;
        poll_attempt_on(&inner.stack, inner.all_cpus(), &mut self.reader, cx, |register| attempt(inner, register))
    }

    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&Inner, bool) -> Attempt<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let inner = &*self.socket.0;
        let cpu = inner.sock.cpu;
        poll_attempt_on(&inner.stack, cpu..cpu + 1, &mut self.writer, cx, |register| attempt(inner, register))
    }

    /// Reads a datagram, with all that is known of it, or gives `Pending`. What `buf` has no room for is gone.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`], without timeouts.
    pub fn poll_recv_msg(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Message>> {
        self.read(cx, |inner, register| inner.try_recv(buf, false, register))
    }

    /// Reads a datagram and tells who sent it, or gives `Pending`.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_recv_msg`].
    pub fn poll_recv_from(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.poll_recv_msg(cx, buf).map_ok(|message| (message.len, message.from))
    }

    /// Reads a datagram, or gives `Pending`.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_recv_msg`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_recv_msg(cx, buf).map_ok(|message| message.len)
    }

    /// As [`AsyncUdpSocket::poll_recv_from`], and the datagram stays.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_recv_msg`].
    pub fn poll_peek_from(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.read(cx, |inner, register| inner.try_recv(buf, true, register))
            .map_ok(|message| (message.len, message.from))
    }

    /// Sends a datagram to `to`, or gives `Pending` while the send buffer is full.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`], without timeouts.
    pub fn poll_send_to(&mut self, cx: &mut Context<'_>, data: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        self.write(cx, |inner, register| inner.try_send(data, Some(to), None, register))
    }

    /// Sends a datagram to the peer of a connected socket, likewise.
    ///
    /// # Errors
    /// As [`UdpSocket::send`], without timeouts.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |inner, register| inner.try_send(data, None, None, register))
    }

    /// What the socket is ready for, once a datagram or an error waits, one that is told in detail too.
    ///
    /// # Errors
    /// `NetworkDown`.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        self.read(cx, Inner::try_readable)
    }

    /// What the socket is ready for, once half of the send buffer is free or an error waits.
    ///
    /// # Errors
    /// `NetworkDown`.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        self.write(cx, Inner::try_writable)
    }

    /// Waits for a datagram and tells who sent it.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_recv_msg`].
    pub async fn recv_from(&mut self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_recv_from(cx, buf)).await
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_recv_msg`].
    pub async fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_recv(cx, buf)).await
    }

    /// Waits for a datagram, with all that is known of it.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_recv_msg`].
    pub async fn recv_msg(&mut self, buf: &mut [u8]) -> io::Result<Message> {
        poll_fn(|cx| self.poll_recv_msg(cx, buf)).await
    }

    /// Waits for a datagram and leaves it.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_recv_msg`].
    pub async fn peek_from(&mut self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_peek_from(cx, buf)).await
    }

    /// Waits for room and sends a datagram to `to`.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_send_to`].
    pub async fn send_to(&mut self, data: &[u8], to: SocketAddr) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send_to(cx, data, to)).await
    }

    /// Waits for room and sends a datagram to the peer of a connected socket.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_send`].
    pub async fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send(cx, data)).await
    }

    /// Waits until a read would not wait, or an error is there to be read.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_readable`].
    pub async fn readable(&mut self) -> io::Result<Readiness> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Waits until half of the send buffer is free.
    ///
    /// # Errors
    /// As [`AsyncUdpSocket::poll_writable`].
    pub async fn writable(&mut self) -> io::Result<Readiness> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// Another handle to the same socket, for another task.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn try_clone(&self) -> io::Result<AsyncUdpSocket> {
        Ok(AsyncUdpSocket::from(UdpSocket(Arc::clone(&self.socket.0))))
    }

    /// The socket itself: addresses, options, groups, errors in detail.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// The socket itself, for those who wait by blocking.
    pub fn into_inner(self) -> UdpSocket {
        self.socket
    }
}
