//! Packet sockets: frames as they come and go, and frames sent as they are.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use rxpath_core::demux::tap::{
    Captured as PacketInfo, Glance, TapChecksum as PacketChecksum, TapFilter as PacketFilter, TapKind as PacketKind,
    TapStats as PacketStatistics,
};
use rxpath_core::demux::tap::{Tap, TapConfig};
use rxpath_core::stack::{Outgoing, PacketError, RecvError};
use rxpath_wire::{EtherType, MacAddr};

use super::call::{block, check_timeout, down};
use crate::runtime::Attempt;
use crate::stack::Stack;

/// The smallest receive buffer (`SOCK_MIN_RCVBUF`), in bytes of truesize.
const RCVBUF_MIN: u32 = 2_304;

/// What a packet socket is to see: what `socket`, `bind` and `setsockopt` say of it before the first packet comes.
#[derive(Clone, Debug)]
pub struct PacketOptions {
    /// From where it sees packets: from the link header on (`SOCK_RAW`, the default), or from the network header on
    /// (`SOCK_DGRAM`).
    pub kind: PacketKind,
    /// Packets of this EtherType, and only inbound ones; [`EtherType::ALL`] (the default) for all, those that this host
    /// sends, too; 0 for none, of a socket that only sends.
    pub protocol: u16,
    /// The name of the interface; None (the default) for all.
    pub interface: Option<String>,
    /// Bytes of truesize that may wait to be read, in the kernel's way of counting (`sk_rcvbuf`, twice what `SO_RCVBUF` is
    /// given); 212,992 by default, 2,304 at least.
    pub receive_buffer: u32,
    /// Frames to other stations, too, where the interface's card would not let them in (`PACKET_MR_PROMISC`); for the time
    /// that the socket is open. Needs an interface.
    pub promiscuous: bool,
    /// Which packets, and how much of them (`SO_ATTACH_FILTER`); None (the default) for all of all.
    pub filter: Option<PacketFilter>,
}

impl Default for PacketOptions {
    fn default() -> PacketOptions {
        let TapConfig { kind, protocol, rcvbuf: receive_buffer, .. } = TapConfig::default();
        PacketOptions { kind, protocol, interface: None, receive_buffer, promiscuous: false, filter: None }
    }
}

/// A packet socket (`AF_PACKET`): it sees packets before the stack does, and those that the stack sends, and sends frames
/// as they are. The bytes are shared with the stack until they are read; what is not read in time is dropped
/// (`PACKET_SOCK_ERROR`) and counted. Dropping the last handle closes it.
///
/// ```
/// use rxpath::device::wire::{self, WireConfig};
/// use rxpath::net::{PacketFilter, PacketOptions, PacketSocket};
/// use rxpath::{Interface, Mode, Stack};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (wire, port) = wire::port(WireConfig::named("eth0"));
/// let interface = Interface::new(wire).address("10.0.0.1/24")?;
/// let stack = Stack::builder().interface(interface).mode(Mode::Polled).build()?;
/// // The first 64 bytes of frames that are not ARP.
/// let filter = PacketFilter::expression("not arp".parse()?, 64);
/// let socket = PacketSocket::open(&stack, PacketOptions { filter: Some(filter), ..PacketOptions::default() })?;
/// socket.set_nonblocking(true)?;
///
/// let mut frame = [0; 100];
/// frame[12..14].copy_from_slice(&[0x88, 0xb5]);
/// port.send(stack.now(), &frame).expect("a place in the ring");
/// stack.poll(stack.now());
/// let mut buf = [0; 2_048];
/// let (bytes, seen) = socket.recv(&mut buf)?;
/// assert_eq!((bytes, seen.snaplen, seen.len), (64, 64, 100));
/// assert_eq!(socket.statistics().packets, 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PacketSocket(Arc<Inner>);

struct Inner {
    stack: Stack,
    tap: Arc<Tap>,
    promiscuous: bool,
    nonblocking: AtomicBool,
    read_timeout: Mutex<Option<Duration>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("tap", &self.tap).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(ifindex) = self.tap.config().ifindex.filter(|_| self.promiscuous) {
            self.stack.core().set_promiscuity(ifindex, false);
        }
        self.stack.core().close_tap(&self.tap, self.stack.now());
    }
}

/// The index of an interface by its name.
fn index_of(stack: &Stack, name: &str) -> io::Result<u16> {
    let net = stack.config();
    if let Some(interface) = net.interfaces.iter().find(|interface| interface.name == name) {
        return Ok(interface.ifindex);
    }
    let names: Vec<&str> = net.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    let what = format!("no interface {name:?}; there is: {}", names.join(", "));
    Err(io::Error::new(io::ErrorKind::NotFound, what))
}

fn packet_error(error: PacketError) -> io::Error {
    let kind = match error {
        PacketError::NoDevice => io::ErrorKind::NotFound,
        PacketError::TooShort | PacketError::TooLong { .. } => io::ErrorKind::InvalidInput,
        PacketError::NoBuffer => io::ErrorKind::OutOfMemory,
        PacketError::Down => return down(),
    };
    io::Error::new(kind, error)
}

impl PacketSocket {
    /// Opens a socket. It sees packets from now on.
    ///
    /// # Errors
    /// `NotFound` if there is no such interface, with the names of those that there are; `InvalidInput` if it is to be
    /// promiscuous on none; `NetworkDown`.
    pub fn open(stack: &Stack, options: PacketOptions) -> io::Result<PacketSocket> {
        if stack.is_down() {
            return Err(down());
        }
        let PacketOptions { kind, protocol, interface, receive_buffer, promiscuous, filter } = options;
        let ifindex = interface.map(|name| index_of(stack, &name)).transpose()?;
        if promiscuous && !ifindex.is_some_and(|ifindex| stack.core().set_promiscuity(ifindex, true)) {
            let what = "promiscuous mode is an interface's; name one in PacketOptions";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let rcvbuf = receive_buffer.max(RCVBUF_MIN);
        let tap = stack.core().open_tap(TapConfig { number: 0, kind, protocol, ifindex, rcvbuf, filter });
        let inner = Inner {
            stack: stack.clone(),
            tap,
            promiscuous,
            nonblocking: AtomicBool::new(false),
            read_timeout: Mutex::default(),
        };
        Ok(PacketSocket(Arc::new(inner)))
    }

    /// Takes the packet that has waited longest, and waits for one if there is none. Gives the bytes that fit `buf`, and
    /// what is known of the packet; what does not fit is gone ([`PacketInfo::snaplen`] tells how much there was).
    ///
    /// # Errors
    /// `WouldBlock` on a non-blocking socket or past the time-out, `NetworkDown`.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<(usize, PacketInfo)> {
        let Inner { stack, tap, nonblocking, .. } = &*self.0;
        let timeout = *self.0.read_timeout.lock().unwrap_or_else(PoisonError::into_inner);
        block(stack, 0..stack.cpus(), nonblocking.load(Ordering::Relaxed), timeout, |register| {
            match stack.core().tap_recv(tap, buf, register, stack.now()) {
                Ok(read) => Attempt::Done(Ok(read)),
                Err(RecvError::Empty(waiter)) => Attempt::Pending(waiter),
                Err(_) => Attempt::Done(Err(down())),
            }
        })
    }

    /// Sends a frame, with its Ethernet header, by the interface that the socket is bound to. Other packet sockets see it,
    /// this one does not.
    ///
    /// # Errors
    /// `AddrNotAvailable` if it is bound to none; `InvalidInput` if the frame is shorter than its header or longer than
    /// the interface takes; `OutOfMemory` if no buffer is free; `NetworkDown`.
    pub fn send(&self, frame: &[u8]) -> io::Result<usize> {
        self.transmit(Outgoing::Frame(frame))
    }

    /// Sends a packet in a frame to `dst`, by the interface that the socket is bound to.
    ///
    /// # Errors
    /// As [`PacketSocket::send`].
    pub fn send_to(&self, payload: &[u8], dst: MacAddr, protocol: u16) -> io::Result<usize> {
        self.transmit(Outgoing::Packet { dst, protocol, payload }).map(|_| payload.len())
    }

    fn transmit(&self, what: Outgoing<'_>) -> io::Result<usize> {
        let Inner { stack, tap, .. } = &*self.0;
        let Some(ifindex) = tap.config().ifindex else {
            let what = "the packet socket is bound to no interface; name one in PacketOptions";
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, what));
        };
        stack.core().packet_send(tap, ifindex, what, stack.now()).map_err(packet_error)
    }

    /// What it was offered and what it had no room for, since this was asked last (`PACKET_STATISTICS`): reading clears,
    /// and the packets include the drops.
    pub fn statistics(&self) -> PacketStatistics {
        self.0.tap.statistics()
    }

    /// The EtherType that it sees; [`EtherType::ALL`] for all.
    pub fn protocol(&self) -> u16 {
        self.0.tap.config().protocol
    }

    /// Whether it sees packets of all protocols, those that this host sends, too.
    pub fn sees_all(&self) -> bool {
        self.protocol() == EtherType::ALL
    }

    /// The index of the interface that it is bound to; None for all.
    pub fn ifindex(&self) -> Option<u16> {
        self.0.tap.config().ifindex
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn try_clone(&self) -> io::Result<PacketSocket> {
        Ok(PacketSocket(Arc::clone(&self.0)))
    }

    /// Whether [`PacketSocket::recv`] gives `WouldBlock` instead of waiting. Holds for all handles.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// How long [`PacketSocket::recv`] waits, `None` for ever; past that it gives `WouldBlock`. Holds for all handles.
    ///
    /// # Errors
    /// `InvalidInput` if it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        *self.0.read_timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
        Ok(())
    }

    /// How long [`PacketSocket::recv`] waits.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(*self.0.read_timeout.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The stack that it watches.
    pub fn stack(&self) -> &Stack {
        &self.0.stack
    }
}
