//! Sending without a copy, under Linux's names: `SO_ZEROCOPY`, `MSG_ZEROCOPY`, and notices from the error queue.

use std::io;
use std::task::{Context, Poll};

use rxpath_core::socket::{Payload, ZerocopyNotice};

use super::{AsyncTcpStream, SendFlags, TcpStream};

impl TcpStream {
    /// Whether [`TcpStream::send_zerocopy`] lends the memory (`SO_ZEROCOPY`); it copies otherwise. Connections of a listener
    /// have it from [`SockOptions::zerocopy`](super::SockOptions::zerocopy).
    pub fn set_zerocopy(&self, zerocopy: bool) {
        self.0.with(0, |sk| sk.user.zerocopy = zerocopy);
    }

    /// Whether memory can be lent.
    pub fn zerocopy(&self) -> bool {
        self.0.with(0, |sk| sk.user.zerocopy)
    }

    /// As a write, but the bytes are not copied (`MSG_ZEROCOPY`): the stack refers to them until the peer has acknowledged
    /// them and no device needs them any more. Then [`TcpStream::recv_zerocopy`] gives the notice of the call. Calls are
    /// numbered from 0, but for those that take nothing. Gives the bytes that were taken: all, unless the socket is
    /// non-blocking or the connection fails.
    ///
    /// The memory can be read all the while. Who wants to write into it again waits for the notice: then the stack has no
    /// reference left, and `Arc::get_mut` gives a buffer that was lent as an `Arc<[u8]>`.
    ///
    /// ```
    /// # use std::io::Read;
    /// # use std::sync::Arc;
    /// # use rxpath::device::wire::{self, WireConfig};
    /// # use rxpath::net::{Payload, TcpListener, TcpStream};
    /// # use rxpath::{Interface, Stack};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    /// # let server = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
    /// # let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
    /// # let listener = TcpListener::bind(&server, "10.0.0.1:80")?;
    /// let stream = TcpStream::connect(&client, "10.0.0.1:80")?;
    /// stream.set_zerocopy(true);
    /// let mut buffer: Arc<[u8]> = vec![7; 100_000].into();
    /// let reader = std::thread::spawn(move || listener.accept().and_then(|(mut stream, _)| stream.read_exact(&mut [0; 100_000])));
    /// stream.send_zerocopy(&Payload::new(Arc::clone(&buffer)))?;
    /// reader.join().expect("it reads")?;
    /// let notice = loop {
    ///     match stream.recv_zerocopy() {
    ///         Ok(notice) => break notice,
    ///         Err(_) => std::thread::yield_now(),
    ///     }
    /// };
    /// assert_eq!((notice.first, notice.last, notice.copied), (0, 0, false));
    /// assert!(Arc::get_mut(&mut buffer).is_some(), "it is ours alone");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As a write; `OutOfMemory` (`ENOBUFS`) if the calls that were not told of, and the notices that nobody has read, are
    /// charged more than `net.core.optmem_max`, 832 bytes each.
    pub fn send_zerocopy(&self, payload: &Payload) -> io::Result<usize> {
        self.send_zerocopy_with(payload, SendFlags::default())
    }

    /// As [`TcpStream::send_zerocopy`], and as `flags` say ([`TcpStream::send_with`]): calls that say that more follows share
    /// packets with what does, lent or copied, and each is told of once all of it came.
    ///
    /// # Errors
    /// As [`TcpStream::send_zerocopy`].
    pub fn send_zerocopy_with(&self, payload: &Payload, flags: SendFlags) -> io::Result<usize> {
        self.0.write_zerocopy(payload, flags)
    }

    /// The oldest notice that nobody has read (`MSG_ERRQUEUE`, `SO_EE_ORIGIN_ZEROCOPY`). Never waits: that one is there is what
    /// [`Readiness::error`](super::Readiness::error) says, and [`AsyncTcpStream::poll_readable`] wakes for it. Notices come in the
    /// order of the calls, but where something was sent again and a device still has the first copy: then that of a later call may
    /// come before, as in Linux.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn recv_zerocopy(&self) -> io::Result<ZerocopyNotice> {
        let notice = self.0.stack.core().recv_notice(&self.0.sock, self.0.stack.now());
        notice.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl AsyncTcpStream {
    /// As [`AsyncTcpStream::poll_write`], without copying ([`TcpStream::send_zerocopy`]): each time that bytes are taken is a
    /// call of its own.
    ///
    /// # Errors
    /// As [`TcpStream::send_zerocopy`], without timeouts.
    pub fn poll_send_zerocopy(&mut self, cx: &mut Context<'_>, payload: &Payload) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |inner, register| inner.try_write_zerocopy(payload, register))
    }

    /// Waits until some of the bytes are taken, which are not copied.
    ///
    /// # Errors
    /// As [`AsyncTcpStream::poll_send_zerocopy`].
    pub async fn send_zerocopy(&mut self, payload: &Payload) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_send_zerocopy(cx, payload)).await
    }
}
