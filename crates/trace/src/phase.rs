//! The phases of the receive path.

use std::fmt;

/// A phase of a packet's life: the eight of the receive path, in their order, and the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// The device, its descriptor ring, the interrupt.
    Nic = 1,
    /// NAPI poll, softirq, GRO.
    Napi,
    /// Taps and the choice of a handler by EtherType; ARP.
    Demux,
    /// IP input up to the routing decision.
    Ip,
    /// Local delivery: the INPUT hook and the choice of a transport; ICMP.
    Input,
    /// TCP receive: validation and the search for a socket.
    Tcp,
    /// The TCP state machine and the socket's queues.
    Socket,
    /// The application reads.
    Recv,
    /// The way out: IP output, neighbour resolution, the device's TX queue.
    Output,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Phase; 9] = [
        Phase::Nic,
        Phase::Napi,
        Phase::Demux,
        Phase::Ip,
        Phase::Input,
        Phase::Tcp,
        Phase::Socket,
        Phase::Recv,
        Phase::Output,
    ];

    /// Its number: 1 to 8 along the receive path, 9 for the way out.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// A short name of at most 7 characters.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Nic => "NIC",
            Phase::Napi => "NAPI",
            Phase::Demux => "demux",
            Phase::Ip => "IP",
            Phase::Input => "INPUT",
            Phase::Tcp => "TCP",
            Phase::Socket => "socket",
            Phase::Recv => "recv",
            Phase::Output => "output",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_numbered_along_the_path() {
        for (i, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(phase.number()), i + 1);
            assert!(phase.name().len() <= 7);
        }
        assert_eq!(format!("[{:<7}]", Phase::Ip), "[IP     ]");
    }
}
