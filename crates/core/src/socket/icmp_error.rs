//! What an ICMP error means to the socket whose packet it is about (`icmp_err_convert`).

use rxpath_wire::icmp as wire_icmp;

use crate::tcp::SockError;

/// An error for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorMeans {
    /// What the application is told.
    pub error: SockError,
    /// It does not pass by itself: a datagram socket tells of it at once.
    pub fatal: bool,
}

impl ErrorMeans {
    /// The meaning of a type and code; None for what is no error to a socket (redirects, source quench).
    pub fn of(kind: u8, code: u8) -> Option<ErrorMeans> {
        use SockError::{
            HostDown, MsgSize, NetUnreachable, NoNet, NoProtocol, NotSupported, Protocol, Refused, Unreachable,
        };
        let (error, fatal) = match (kind, code) {
            (wire_icmp::DEST_UNREACHABLE, code) => match code {
                0 | 11 => (NetUnreachable, false),
                2 => (NoProtocol, true),
                3 => (Refused, true),
                4 => (MsgSize, true),
                5 => (NotSupported, false),
                6 | 9 => (NetUnreachable, true),
                7 => (HostDown, true),
                8 => (NoNet, true),
                10 | 13 | 14 | 15 => (Unreachable, true),
                _ => (Unreachable, false),
            },
            (wire_icmp::PARAMETER_PROBLEM, _) => (Protocol, true),
            (wire_icmp::TIME_EXCEEDED, _) => (Unreachable, false),
            _ => return None,
        };
        Some(ErrorMeans { error, fatal })
    }
}
