//! smoltcp as a side of a comparison.
//!
//! Its device holds a burst in slots laid out as rxpath's are, of which smoltcp reads in place; fewer and therefore
//! hotter ones than rxpath's ring has. Its socket has buffers of 256 KiB; everything else is at its defaults.

use std::sync::Arc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address};

use crate::case::BURST;
use crate::drive::Side;
use crate::frames::{STACK_IP, STACK_MAC, STACK_PORT};
use crate::heard::Heard;
use crate::peer::Peer;

/// Bytes of each of the socket's buffers.
const SOCKET_BUFFER: usize = 256 * 1_024;
/// The port that the peer connects from.
const PEER_PORT: u16 = 40_000;
/// Bytes in front of a frame in its slot, as in rxpath's: the metadata line and the headroom.
const FRONT: usize = 64 + 66;

/// A slot of the device.
#[derive(Clone)]
#[repr(align(64))]
struct Slot([u8; 2_112]);

/// The device: slots `taken..len` hold frames that smoltcp has not seen.
struct Port {
    slots: Vec<Slot>,
    lens: [usize; BURST],
    len: usize,
    taken: usize,
    sent: [u8; 1_514],
    heard: Arc<Heard>,
}

struct Rx<'a>(&'a [u8]);

struct Tx<'a> {
    room: &'a mut [u8],
    heard: &'a Heard,
}

impl phy::RxToken for Rx<'_> {
    #[inline(always)]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    #[inline(always)]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = &mut self.room[..len];
        let result = f(frame);
        self.heard.note(frame);
        result
    }
}

impl Port {
    /// Room for the next frame; [`Port::complete`] hands it over.
    #[inline(always)]
    fn room(&mut self) -> &mut [u8] {
        if self.taken == self.len {
            (self.taken, self.len) = (0, 0);
        }
        &mut self.slots[self.len].0[FRONT..]
    }

    #[inline(always)]
    fn complete(&mut self, len: usize) {
        self.lens[self.len] = len;
        self.len += 1;
    }
}

impl phy::Device for Port {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    #[inline(always)]
    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        if self.taken == self.len {
            return None;
        }
        let frame = &self.slots[self.taken].0[FRONT..FRONT + self.lens[self.taken]];
        self.taken += 1;
        Some((Rx(frame), Tx { room: &mut self.sent, heard: &self.heard }))
    }

    #[inline(always)]
    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx { room: &mut self.sent, heard: &self.heard })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1_514;
        // Checksums are at their default: computed and verified.
        capabilities
    }
}

/// A stack with one listening socket.
pub struct SmolTcp {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl SmolTcp {
    /// The stack, listening.
    pub fn new(seed: u64) -> SmolTcp {
        let heard = Arc::default();
        let slots = vec![Slot([0; 2_112]); BURST];
        let mut port = Port { slots, lens: [0; BURST], len: 0, taken: 0, sent: [0; 1_514], heard };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(STACK_MAC.0)));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut port, Instant::ZERO);
        interface.update_ip_addrs(|addrs| {
            let address = IpCidr::new(Ipv4Address::from(STACK_IP.octets()).into(), 24);
            addrs.push(address).expect("room for one address");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; SOCKET_BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(STACK_PORT).expect("a fresh socket listens");
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        SmolTcp { port, interface, sockets, handle }
    }
}

#[inline(always)]
fn instant(now: u64) -> Instant {
    Instant::from_micros((now / 1_000) as i64)
}

impl Side for SmolTcp {
    fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.port.heard)
    }

    fn peer_port(&self) -> u16 {
        PEER_PORT
    }

    fn offer_frame(&mut self, frame: &[u8], _: u64) {
        self.port.room()[..frame.len()].copy_from_slice(frame);
        self.port.complete(frame.len());
    }

    #[inline(always)]
    fn offer(&mut self, peer: &mut Peer, segments: usize, _: u64) {
        for _ in 0..segments {
            let len = peer.write(self.port.room());
            self.port.complete(len);
        }
    }

    #[inline(always)]
    fn poll(&mut self, now: u64) {
        self.interface.poll(instant(now), &mut self.port, &mut self.sockets);
    }

    fn accept(&mut self) -> bool {
        self.sockets.get::<tcp::Socket>(self.handle).state() == tcp::State::Established
    }

    #[inline(always)]
    fn recv(&mut self, buf: &mut [u8], _: u64) -> usize {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        socket.recv_slice(buf).expect("an open connection")
    }
}
