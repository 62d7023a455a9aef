//! The table of protocol handlers by EtherType, and the taps.

use std::fmt;
use std::sync::Arc;

use rxpath_wire::EtherType;

use super::tap::Tap;
use crate::netns::ProtoHandler;

/// Who handles a packet, by its EtherType.
#[derive(Clone, Copy, Debug)]
pub enum PacketType {
    /// [`crate::ip`] (`ip_rcv`).
    Ip,
    /// [`crate::neigh`] (`arp_rcv`).
    Arp,
    /// A handler from outside.
    Registered(ProtoHandler),
}

impl PacketType {
    /// The kernel function that it mirrors; of a handler from outside, a word.
    pub const fn function(self) -> &'static str {
        match self {
            PacketType::Ip => "ip_rcv",
            PacketType::Arp => "arp_rcv",
            PacketType::Registered(_) => "registered",
        }
    }
}

/// An EtherType or a protocol number that has a handler already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The number.
    pub number: u16,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {0} ({0:#06x}) has a handler already; there can be only one", self.number)
    }
}

impl std::error::Error for Taken {}

/// Handlers by EtherType (`ptype_base`), and the taps, which see everything (`ptype_all`).
#[derive(Clone, Debug, Default)]
pub struct Ptypes {
    /// Whether IPv4, which nearly every packet is, has the built-in handler.
    ip: bool,
    /// All other EtherTypes.
    handlers: Vec<(u16, PacketType)>,
    taps: Vec<Arc<Tap>>,
}

impl Ptypes {
    /// A table without handlers.
    pub fn new() -> Ptypes {
        Ptypes::default()
    }

    /// The table that a stack starts with: IPv4 and ARP.
    pub fn builtin() -> Ptypes {
        Ptypes { ip: true, handlers: vec![(EtherType::ARP, PacketType::Arp)], taps: Vec::new() }
    }

    /// The handler of an EtherType.
    #[inline(always)]
    pub fn lookup(&self, ethertype: u16) -> Option<PacketType> {
        if ethertype == EtherType::IPV4 && self.ip { Some(PacketType::Ip) } else { self.lookup_slow(ethertype) }
    }

    fn lookup_slow(&self, ethertype: u16) -> Option<PacketType> {
        self.handlers.iter().find(|(known, _)| *known == ethertype).map(|&(_, handler)| handler)
    }

    /// Adds a handler (`dev_add_pack`).
    ///
    /// # Errors
    /// The EtherType has one already.
    pub fn register(&mut self, ethertype: u16, handler: ProtoHandler) -> Result<(), Taken> {
        if self.lookup(ethertype).is_some() {
            return Err(Taken { number: ethertype });
        }
        self.handlers.push((ethertype, PacketType::Registered(handler)));
        Ok(())
    }

    /// Whether anybody watches.
    #[inline(always)]
    pub fn has_taps(&self) -> bool {
        !self.taps.is_empty()
    }

    /// The taps, in the order in which they are served.
    pub fn taps(&self) -> &[Arc<Tap>] {
        &self.taps
    }

    /// Adds a tap, which sees packets from now on, before those that were there already (`dev_add_pack`).
    pub fn add_tap(&mut self, tap: Arc<Tap>) {
        self.taps.insert(0, tap);
    }

    /// The EtherTypes that have a handler, with the kernel's name for it, in the order of the kernel's table: by their last
    /// four bits.
    pub fn handlers(&self) -> Vec<(u16, &'static str)> {
        let mut handlers: Vec<(u16, &'static str)> =
            self.ip.then_some((EtherType::IPV4, "ip_rcv")).into_iter().collect();
        handlers.extend(self.handlers.iter().map(|(ethertype, handler)| (*ethertype, handler.function())));
        handlers.sort_by_key(|(ethertype, _)| ethertype & 15);
        handlers
    }

    /// Removes a tap; what it holds stays readable. False if it was not there.
    pub fn remove_tap(&mut self, tap: &Arc<Tap>) -> bool {
        let before = self.taps.len();
        self.taps.retain(|known| !Arc::ptr_eq(known, tap));
        self.taps.len() < before
    }
}
