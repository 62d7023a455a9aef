//! Listening sockets.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rxpath_core::socket::Listener;
use rxpath_core::stack::BindOptions;
use rxpath_core::sysctl::{FastOpenKey, FastOpenKeys};
use rxpath_core::tcp::SockOptions;

use super::call::{block, byte, each_addr, invalid, listen_error};
use super::stream::TcpStream;
use crate::runtime::Attempt;
use crate::stack::Stack;

/// Connections that may wait to be accepted, as `std` has it (`listen(fd, 128)`; one more fits).
const BACKLOG: u32 = 128;

/// A listening TCP socket, with the shape of [`std::net::TcpListener`]. Dropping the last handle closes it: connections
/// that were not accepted are reset.
#[derive(Debug)]
pub struct TcpListener(Arc<Inner>);

struct Inner {
    stack: Stack,
    listener: Arc<Listener>,
    nonblocking: AtomicBool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("addr", &self.addr()).finish_non_exhaustive()
    }
}

impl Inner {
    fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.listener.addr.to_ip(), self.listener.port)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stack.core().close_listener(&self.listener, self.stack.now());
    }
}

impl TcpListener {
    /// Listens on the first of `addrs` on which it can. Port 0 chooses a free one.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` if the address is not the stack's, `NetworkDown`.
    pub fn bind(stack: &Stack, addrs: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::bind_with(stack, addrs, BACKLOG)
    }

    /// As [`TcpListener::bind`], with another limit of connections that wait, which `net.core.somaxconn` cuts: `backlog`
    /// and one more fit.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind_with(stack: &Stack, addrs: impl ToSocketAddrs, backlog: u32) -> io::Result<TcpListener> {
        TcpListener::bind_to(stack, addrs, backlog, BindOptions::default())
    }

    /// As [`TcpListener::bind_with`], for one of several listeners on the same address (`SO_REUSEPORT`): each connection
    /// comes to the one that the hash of its addresses and ports names. Half-open connections of one that is closed are
    /// reset, as are those that it did not accept; with `net.ipv4.tcp_migrate_req` both go over to another one.
    ///
    /// # Errors
    /// As [`TcpListener::bind`]; `AddrInUse` if one that does not share listens there.
    pub fn bind_shared(stack: &Stack, addrs: impl ToSocketAddrs, backlog: u32) -> io::Result<TcpListener> {
        TcpListener::bind_to(stack, addrs, backlog, BindOptions { reuse_port: true, ..BindOptions::default() })
    }

    /// As [`TcpListener::bind_with`], sharing the address with others, or bound to an interface: it takes connections by that
    /// alone, and they go by that, whatever routes say (`SO_BINDTODEVICE`). Listeners of different interfaces may have the same
    /// address. What comes by an interface is for the newest of those that take it, or for that one's group, as in Linux.
    /// `reuse_addr` makes no difference to a listener.
    ///
    /// # Errors
    /// As [`TcpListener::bind_shared`]; `AddrNotAvailable`, too, if there is no such interface.
    pub fn bind_to(
        stack: &Stack,
        addrs: impl ToSocketAddrs,
        backlog: u32,
        options: BindOptions,
    ) -> io::Result<TcpListener> {
        each_addr(addrs, |addr| {
            let listener = stack.core().listen_with(addr, backlog, options).map_err(listen_error)?;
            Ok(TcpListener(Arc::new(Inner { stack: stack.clone(), listener, nonblocking: AtomicBool::new(false) })))
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.addr())
    }

    /// Gives connections only once data has come, for about so many seconds after their handshake
    /// (`TCP_DEFER_ACCEPT`); 0 gives them at once. Returns the seconds that it comes to: those after which a SYN-ACK is
    /// sent again.
    pub fn set_defer_accept(&self, seconds: u32) -> u32 {
        self.0.listener.set_defer_accept(seconds)
    }

    /// How many connections may begin with data in their SYN at a time, before their handshakes end (Fast Open, RFC 7413;
    /// `TCP_FASTOPEN`); 0 for none. It is cut to `net.core.somaxconn`, and needs bit 0x2 of `net.ipv4.tcp_fastopen`. Such
    /// connections may be accepted, read and answered at once. The data may be a duplicate, so it must do no harm twice.
    pub fn set_fastopen(&self, limit: u32) {
        self.0.stack.core().set_fast_open(&self.0.listener, limit);
    }

    /// How many connections may begin with data in their SYN at a time.
    pub fn fastopen(&self) -> u32 {
        self.0.listener.fast_open.limit()
    }

    /// Whether data in a SYN is taken without a cookie (`TCP_FASTOPEN_NO_COOKIE`): for networks in which nobody lies about
    /// addresses.
    pub fn set_fastopen_no_cookie(&self, on: bool) {
        self.0.listener.fast_open.set_no_cookie(on);
    }

    /// Whether data in a SYN is taken without a cookie.
    pub fn fastopen_no_cookie(&self) -> bool {
        self.0.listener.fast_open.no_cookie()
    }

    /// The key that cookies are made with, and one whose cookies are still good, in the place of
    /// `net.ipv4.tcp_fastopen_key` (`TCP_FASTOPEN_KEY`).
    pub fn set_fastopen_key(&self, current: [u8; 16], backup: Option<[u8; 16]>) {
        let backup = backup.map(FastOpenKey::from_bytes);
        self.0.listener.fast_open.set_keys(FastOpenKeys { current: FastOpenKey::from_bytes(current), backup });
    }

    /// The keys of its own, if it has any: the current one, and the one before.
    pub fn fastopen_key(&self) -> Option<([u8; 16], Option<[u8; 16]>)> {
        let keys = self.0.listener.fast_open.keys()?;
        Some((keys.current.to_bytes(), keys.backup.map(FastOpenKey::to_bytes)))
    }

    /// Of those that share its address, it wants the connections that begin on this Cpu (`SO_INCOMING_CPU`): the hash names one
    /// of them, and the next from there on that wants the Cpu is taken, or the one that was named if none does. A connection
    /// stays on the Cpu on which it began, so that with a listener for each Cpu applications can do so, too.
    pub fn set_incoming_cpu(&self, cpu: Option<u16>) {
        self.0.listener.set_incoming_cpu(cpu);
    }

    /// The Cpu whose connections it wants, if it does.
    pub fn incoming_cpu(&self) -> Option<u16> {
        self.0.listener.incoming_cpu()
    }

    /// The interface that it is bound to, if it is.
    pub fn interface(&self) -> Option<u16> {
        Some(self.0.listener.ifindex).filter(|&ifindex| ifindex != 0)
    }

    pub(super) fn core(&self) -> &Listener {
        &self.0.listener
    }

    /// What its connections inherit, from now on; [`SockOptions::syn_retries`] is how often its SYN-ACKs are sent again.
    ///
    /// # Errors
    /// `InvalidInput` if an option is out of its range; nothing is changed then.
    pub fn set_options(&self, options: SockOptions) -> io::Result<()> {
        options.check().map_err(invalid)?;
        self.0.listener.set_options(options);
        Ok(())
    }

    /// Time to live of what its connections send, 1 to 255, SYN-ACKs included (`IP_TTL`).
    ///
    /// # Errors
    /// `InvalidInput` if it is out of that range.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let mut options = self.options();
        options.ip.ttl = Some(byte("IP_TTL", ttl)?);
        self.set_options(options)
    }

    /// Time to live of what its connections send.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn ttl(&self) -> io::Result<u32> {
        let default = self.0.stack.core().config().sysctl.ip_default_ttl;
        Ok(u32::from(self.options().ip.ttl.unwrap_or(default)))
    }

    /// What its connections inherit.
    pub fn options(&self) -> SockOptions {
        self.0.listener.options()
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Ok(TcpListener(Arc::clone(&self.0)))
    }

    /// Takes the connection that has waited longest, and waits for one if there is none.
    ///
    /// # Errors
    /// `WouldBlock` on a non-blocking socket, `NetworkDown`.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Inner { stack, nonblocking, .. } = &*self.0;
        block(stack, 0..1, nonblocking.load(Ordering::Relaxed), None, |register| self.try_accept(register))
    }

    pub(super) fn try_accept(&self, register: bool) -> Attempt<io::Result<(TcpStream, SocketAddr)>> {
        let Inner { stack, listener, .. } = &*self.0;
        // Registered first, so that no connection comes unnoticed in between.
        let waiter = register.then(|| listener.wait.listen());
        match stack.core().accept(listener) {
            Some(sock) => {
                let peer = sock.tuple.remote_socket();
                Attempt::Done(Ok((TcpStream::of(stack.clone(), sock), peer)))
            }
            None => Attempt::Pending(waiter),
        }
    }

    /// Accepts for ever.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }

    /// Whether [`TcpListener::accept`] gives `WouldBlock` instead of waiting. Holds for all handles.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// The pending error of the socket: a listener has none.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// The stack that it listens on.
    pub fn stack(&self) -> &Stack {
        &self.0.stack
    }
}

/// Connections as they come ([`TcpListener::incoming`]); never ends.
#[derive(Debug)]
pub struct Incoming<'a>(&'a TcpListener);

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.0.accept().map(|(stream, _)| stream))
    }
}

impl std::iter::FusedIterator for Incoming<'_> {}
