//! Packet sockets as applications have them: opened, read, sent by, closed; and their lines in `/proc`.

use std::fmt;
use std::sync::Arc;

use event_listener::EventListener;
use rxpath_trace::proc::{self, PacketRow, PtypeRow};
use rxpath_trace::{Counter, DropReason, Event, EventKind, Ledger, LedgerSnapshot, OutputWhat, PacketId, Time};
use rxpath_wire::{EtherType, EthernetHeader, EthernetRepr, MacAddr, VlanTag, ethernet};

use super::{Cpu, RecvError, Stack, lock};
use crate::demux::tap::{Captured, Tap, TapConfig};
use crate::netns::{Interface, NetConfig};
use crate::tx;

/// The taps of a stack.
#[derive(Default)]
pub(super) struct Taps {
    /// In the order in which they were opened.
    open: Vec<Arc<Tap>>,
    /// How many were opened ever.
    opened: u32,
    /// What those that are closed entered into the ledger.
    closed: LedgerSnapshot,
}

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// There is no such interface (`ENODEV`).
    NoDevice,
    /// The frame is shorter than its Ethernet header (`EINVAL`).
    TooShort,
    /// The frame is longer than the interface takes: its MTU, the header, and a tag if it has one (`EMSGSIZE`).
    TooLong {
        /// The longest that it takes, in bytes.
        most: usize,
    },
    /// No buffer is free (`ENOBUFS`).
    NoBuffer,
    /// The stack is down.
    Down,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketError::NoDevice => f.write_str("there is no such interface"),
            PacketError::TooShort => f.write_str("a frame begins with 14 bytes of Ethernet header"),
            PacketError::TooLong { most } => write!(f, "the interface takes frames of at most {most} bytes"),
            PacketError::NoBuffer => f.write_str("no buffer is free"),
            PacketError::Down => f.write_str("the stack was shut down"),
        }
    }
}

impl std::error::Error for PacketError {}

/// A frame to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing<'a> {
    /// With its Ethernet header.
    Frame(&'a [u8]),
    /// What stands behind the Ethernet header.
    Packet {
        /// To whom.
        dst: MacAddr,
        /// EtherType.
        protocol: u16,
        /// The bytes.
        payload: &'a [u8],
    },
}

impl Outgoing<'_> {
    fn len(&self) -> usize {
        match self {
            Outgoing::Frame(frame) => frame.len(),
            Outgoing::Packet { payload, .. } => EthernetHeader::LEN + payload.len(),
        }
    }

    /// Writes the frame, as one from `src`, and gives the EtherType in its header.
    fn write(&self, frame: &mut [u8], src: MacAddr) -> u16 {
        match self {
            Outgoing::Frame(bytes) => frame.copy_from_slice(bytes),
            &Outgoing::Packet { dst, protocol, payload } => {
                ethernet::emit(frame, EthernetRepr { dst, src, ethertype: protocol });
                frame[EthernetHeader::LEN..].copy_from_slice(payload);
            }
        }
        EthernetHeader::parse(frame).map_or(0, |(header, _)| header.ethertype())
    }
}

impl Stack {
    /// Opens a packet socket (`socket(AF_PACKET, …)` and `bind`): it sees packets from each Cpu's next softirq run on. The
    /// number in `config` is replaced by one of its own.
    pub fn open_tap(&self, config: TapConfig) -> Arc<Tap> {
        let mut taps = lock(&self.0.taps);
        taps.opened += 1;
        let tap = Tap::new(TapConfig { number: taps.opened, ..config }, Arc::new(Ledger::new()));
        taps.open.push(Arc::clone(&tap));
        drop(taps);
        if tap.config().protocol != 0 {
            self.change_taps(|net| net.ptypes.add_tap(Arc::clone(&tap)));
        }
        tap
    }

    /// Closes a packet socket: what waits for its reader ends as `QUEUE_PURGE`.
    pub fn close_tap(&self, tap: &Arc<Tap>, now: Time) {
        let mut taps = lock(&self.0.taps);
        let Some(place) = taps.open.iter().position(|open| Arc::ptr_eq(open, tap)) else { return };
        taps.open.remove(place);
        let recorded = tap.close();
        taps.closed = std::mem::take(&mut taps.closed) + tap.ledger().snapshot();
        drop(taps);
        if tap.config().protocol != 0 {
            self.change_taps(|net| {
                net.ptypes.remove_tap(tap);
            });
        }
        for id in recorded {
            self.record_tap(tap, id, EventKind::Dropped, DropReason::QueuePurge as u32, 0, now);
        }
        tap.wake();
    }

    fn change_taps(&self, change: impl FnOnce(&mut NetConfig)) {
        self.reconfigure(|net| {
            let mut changed = net.clone();
            change(&mut changed);
            changed
        });
    }

    /// Closes all packet sockets: the stack goes down.
    pub(super) fn close_taps(&self, now: Time) {
        let open = lock(&self.0.taps).open.clone();
        for tap in open {
            self.close_tap(&tap, now);
        }
    }

    /// What packet sockets entered into the ledger.
    pub(super) fn tap_ledger(&self) -> LedgerSnapshot {
        let taps = lock(&self.0.taps);
        taps.open.iter().fold(taps.closed.clone(), |sum, tap| sum + tap.ledger().snapshot())
    }

    fn record_tap(&self, _tap: &Tap, id: PacketId, kind: EventKind, a: u32, b: u32, now: Time) {
        let event = Event { id, at: now, other: PacketId::NONE, a, b, kind, cpu: 0 };
        lock(&self.0.user_life).record(event);
    }

    /// Reads the next packet of a packet socket into `buf` and gives the bytes that were copied; of a longer one the rest
    /// is gone.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is nothing yet.
    pub fn tap_recv(
        &self,
        tap: &Arc<Tap>,
        buf: &mut [u8],
        register: bool,
        now: Time,
    ) -> Result<(usize, Captured), RecvError> {
        // Registered first, so that no packet comes unnoticed in between.
        let listener: Option<EventListener> = register.then(|| tap.listen());
        let Some(read) = tap.read(buf) else {
            return Err(if self.is_down() { RecvError::Down } else { RecvError::Empty(listener) });
        };
        if let Some(cell) = self.0.cpus.first() {
            cell.user_mib.add_shared(Counter::CopiedTap, read.copied as u64);
        }
        if let Some(id) = read.recorded {
            self.record_tap(tap, id, EventKind::TapRead, read.copied as u32, tap.config().number, now);
        }
        Ok((read.copied, read.captured))
    }

    /// Sends a frame by an interface, as it is (`packet_snd`). Other packet sockets see it, that of `sender` does not.
    /// Waits for the token of a Cpu.
    ///
    /// # Errors
    /// [`PacketError`] says what does not fit.
    pub fn packet_send(&self, sender: &Tap, ifindex: u16, what: Outgoing<'_>, now: Time) -> Result<usize, PacketError> {
        if self.is_down() {
            return Err(PacketError::Down);
        }
        let net = self.config();
        let there = net.interface(ifindex).filter(|interface| !interface.is_gone());
        let interface = there.ok_or(PacketError::NoDevice)?;
        check(&what, interface)?;
        let Some(cell) = self.0.cpus.first() else { return Err(PacketError::Down) };
        let mut guard = lock(&cell.token);
        self.begin(cell, &mut guard, now);
        let done = xmit(&mut guard, sender.config().number, interface, what);
        self.end(cell, &mut guard);
        let mut wakeups = std::mem::take(&mut guard.cx.wakeups);
        drop(guard);
        wakeups.deliver();
        done
    }

    /// `/proc/net/packet`.
    pub fn proc_packet(&self) -> String {
        let row = |tap: &Arc<Tap>| {
            let TapConfig { number, kind, protocol, ifindex, .. } = tap.config();
            PacketRow {
                cookie: u64::from(*number),
                // Bound to a protocol, the table has a handle to it, too.
                refs: if *protocol == 0 { 2 } else { 3 },
                kind: kind.number(),
                protocol: *protocol,
                ifindex: ifindex.unwrap_or(0),
                running: *protocol != 0,
                rmem: tap.rmem(),
                inode: u64::from(*number),
            }
        };
        proc::packet(&lock(&self.0.taps).open.iter().map(row).collect::<Vec<_>>())
    }

    /// `/proc/net/ptype`. As in the kernel, packet sockets for one protocol and one interface are not in it.
    pub fn proc_ptype(&self) -> String {
        let net = self.config();
        fn row<'a>(tap: &Tap, device: Option<&'a str>) -> PtypeRow<'a> {
            let protocol = tap.config().protocol;
            PtypeRow { protocol: (protocol != EtherType::ALL).then_some(protocol), device, function: "packet_rcv" }
        }
        let taps = || net.ptypes.taps().iter();
        let is_all = |tap: &&Arc<Tap>| tap.config().protocol == EtherType::ALL;
        let mut rows = Vec::new();
        for Interface { ifindex, name, .. } in net.interfaces.iter().filter(|interface| !interface.is_gone()) {
            let of_this = taps().filter(is_all).filter(|tap| tap.config().ifindex == Some(*ifindex));
            rows.extend(of_this.map(|tap| row(tap, Some(name))));
        }
        let unbound = || taps().filter(|tap| tap.config().ifindex.is_none());
        rows.extend(unbound().filter(is_all).map(|tap| row(tap, None)));
        rows.extend(unbound().filter(|tap| !is_all(tap)).map(|tap| row(tap, None)));
        let handler = |(ethertype, function)| PtypeRow { protocol: Some(ethertype), device: None, function };
        rows.extend(net.ptypes.handlers().into_iter().map(handler));
        proc::ptype(&rows)
    }
}

/// Whether the interface takes a frame of this length.
fn check(what: &Outgoing<'_>, interface: &Interface) -> Result<(), PacketError> {
    let tagged = match what {
        Outgoing::Frame(frame) => {
            let (header, _) = EthernetHeader::parse(frame).ok_or(PacketError::TooShort)?;
            EtherType::is_tag(header.ethertype())
        }
        Outgoing::Packet { .. } => false,
    };
    let most = usize::from(interface.mtu) + EthernetHeader::LEN + if tagged { VlanTag::LEN } else { 0 };
    if what.len() > most { Err(PacketError::TooLong { most }) } else { Ok(()) }
}

/// Makes the frame on this Cpu and hands it to the interface.
fn xmit(cpu: &mut Cpu, sender: u32, interface: &Interface, what: Outgoing<'_>) -> Result<usize, PacketError> {
    let (cx, len) = (&mut cpu.cx, what.len());
    let mut skb = cx.alloc_output(OutputWhat::Frame, len, false).ok_or(PacketError::NoBuffer)?;
    if skb.tailroom() < len {
        cx.drop_skb(skb, DropReason::Nomem);
        return Err(PacketError::NoBuffer);
    }
    skb.protocol = what.write(skb.put(len), interface.mac);
    // A life begins with what stands behind the link header.
    let pulled = skb.pull(EthernetHeader::LEN);
    skb.set_network_header_here();
    cx.announce_output(&mut skb);
    let whole = skb.unpull(EthernetHeader::LEN);
    debug_assert!(pulled && whole, "the header was checked");
    tx::packet_xmit(cx, skb, interface.ifindex, sender);
    Ok(len)
}
