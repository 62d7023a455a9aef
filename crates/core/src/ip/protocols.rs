//! The table of transport protocols by number.

use std::fmt;

use rxpath_wire::IpProto;

use crate::cx::Cx;
use crate::demux::Taken;
use crate::icmp::IcmpError;
use crate::netns::ProtoHandler;

/// Who handles a packet, by its protocol number.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// [`crate::tcp`] (`tcp_v4_rcv`).
    Tcp,
    /// [`crate::udp`] (`udp_rcv`).
    Udp,
    /// [`crate::icmp`] (`icmp_rcv`).
    Icmp,
    /// A handler from outside.
    Registered(ProtoHandler),
}

/// Takes an ICMP error about a packet of its protocol that we sent (`net_protocol.err_handler`). False if it knows of no
/// socket that the packet belongs to: the error is counted as such then.
pub type ErrorHandler = fn(&mut Cx, &IcmpError) -> bool;

/// Handlers by IP protocol number (`inet_protos`).
#[derive(Clone)]
pub struct InetProtos {
    handlers: Box<[Option<Protocol>; 256]>,
    errors: Box<[Option<ErrorHandler>; 256]>,
}

impl fmt::Debug for InetProtos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handled = (0..=u8::MAX).filter_map(|number| Some((number, self.lookup(number)?)));
        f.debug_map().entries(handled).finish()
    }
}

impl Default for InetProtos {
    fn default() -> InetProtos {
        InetProtos::builtin()
    }
}

impl InetProtos {
    /// A table without handlers.
    pub fn new() -> InetProtos {
        InetProtos { handlers: Box::new([None; 256]), errors: Box::new([None; 256]) }
    }

    /// The table that a stack starts with: ICMP, TCP and UDP.
    pub fn builtin() -> InetProtos {
        let mut protos = InetProtos::new();
        protos.handlers[usize::from(IpProto::ICMP)] = Some(Protocol::Icmp);
        protos.handlers[usize::from(IpProto::TCP)] = Some(Protocol::Tcp);
        protos.handlers[usize::from(IpProto::UDP)] = Some(Protocol::Udp);
        protos
    }

    /// The handler of a protocol.
    #[inline(always)]
    pub fn lookup(&self, number: u8) -> Option<Protocol> {
        self.handlers[usize::from(number)]
    }

    /// Adds a handler (`inet_add_protocol`).
    ///
    /// # Errors
    /// The protocol has one already.
    pub fn register(&mut self, number: u8, handler: ProtoHandler) -> Result<(), Taken> {
        let place = &mut self.handlers[usize::from(number)];
        if place.is_some() {
            return Err(Taken { number: u16::from(number) });
        }
        *place = Some(Protocol::Registered(handler));
        Ok(())
    }

    /// Who takes ICMP errors about packets of the protocol, if somebody said so.
    pub fn error_handler(&self, number: u8) -> Option<ErrorHandler> {
        self.errors[usize::from(number)]
    }

    /// Says who takes ICMP errors about packets of the protocol, in place of whoever did.
    pub fn set_error_handler(&mut self, number: u8, handler: ErrorHandler) {
        self.errors[usize::from(number)] = Some(handler);
    }
}
