//! What sockets are called, and what datagrams ask for.

use rxpath_wire::{Addr, FlowHasher, Tuple};

/// What names a socket in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Local address; unspecified takes every one.
    pub local: Addr,
    /// Local port.
    pub port: u16,
    /// The peer of a connected socket.
    pub remote: Option<(Addr, u16)>,
    /// The interface that it is bound to (`SO_BINDTODEVICE`); 0 for none.
    pub ifindex: u16,
    /// Others that say so, too, may have the same address (`SO_REUSEADDR`).
    pub reuse_addr: bool,
    /// It shares its address with others that say so (`SO_REUSEPORT`): each datagram goes to one of them, by its flow.
    pub reuse_port: bool,
}

impl Binding {
    /// `inet_rcv_saddr_equal` and what may be shared: whether two sockets cannot have the same port.
    pub(super) fn clashes(&self, other: &Binding) -> bool {
        let overlap = self.local == other.local || self.local.is_unspecified() || other.local.is_unspecified();
        let same_link = self.ifindex == 0 || other.ifindex == 0 || self.ifindex == other.ifindex;
        let shared = (self.reuse_addr && other.reuse_addr) || (self.reuse_port && other.reuse_port);
        overlap && same_link && !shared
    }

    pub(super) fn takes_link(&self, ifindex: u16) -> bool {
        self.ifindex == 0 || self.ifindex == ifindex
    }

    /// `__udp_is_mcast_sock`: whether the socket wants what `key` names, sent to a group or to all.
    pub(super) fn wants(&self, key: &UdpKey) -> bool {
        self.remote.is_none_or(|remote| remote == (key.remote, key.remote_port))
            && (self.local.is_unspecified() || self.local == key.local)
            && self.takes_link(key.ifindex)
    }
}

/// What a datagram is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpKey {
    /// Destination address.
    pub local: Addr,
    /// Source address.
    pub remote: Addr,
    /// Destination port.
    pub local_port: u16,
    /// Source port.
    pub remote_port: u16,
    /// Interface that it came by.
    pub ifindex: u16,
}

impl UdpKey {
    /// The keyed hash of the flow.
    pub fn hash(&self, hasher: &FlowHasher) -> u32 {
        hasher.hash(&Tuple {
            local: self.local,
            remote: self.remote,
            local_port: self.local_port,
            remote_port: self.remote_port,
        })
    }
}
