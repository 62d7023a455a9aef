//! What goes wrong with a connection, or with what a datagram socket sends, by Linux's numbers.

use std::io;

/// Why a connection ended against the application's will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SockError {
    /// Reset by the peer (`ECONNRESET`).
    Reset,
    /// Nobody listens there (`ECONNREFUSED`).
    Refused,
    /// Reset after the peer's FIN (`EPIPE`).
    BrokenPipe,
    /// No answer in time (`ETIMEDOUT`).
    TimedOut,
    /// No route to the peer (`EHOSTUNREACH`).
    Unreachable,
    /// The connection was aborted here (`ECONNABORTED`).
    Aborted,
    /// No route to the peer's network (`ENETUNREACH`).
    NetUnreachable,
    /// The peer does not know the protocol (`ENOPROTOOPT`).
    NoProtocol,
    /// The peer is down (`EHOSTDOWN`).
    HostDown,
    /// The peer is cut off from its network (`ENONET`).
    NoNet,
    /// A header of ours made no sense to somebody (`EPROTO`).
    Protocol,
    /// The datagram was too long for the way (`EMSGSIZE`).
    MsgSize,
    /// The source route does not lead there (`EOPNOTSUPP`).
    NotSupported,
    /// The connection is there already, opened by the peer (`EADDRNOTAVAIL`).
    NotAvailable,
}

impl SockError {
    /// As std's networking gives it.
    pub fn kind(self) -> io::ErrorKind {
        match self {
            SockError::Reset => io::ErrorKind::ConnectionReset,
            SockError::Refused => io::ErrorKind::ConnectionRefused,
            SockError::BrokenPipe => io::ErrorKind::BrokenPipe,
            SockError::TimedOut => io::ErrorKind::TimedOut,
            SockError::Unreachable => io::ErrorKind::HostUnreachable,
            SockError::Aborted => io::ErrorKind::ConnectionAborted,
            SockError::NetUnreachable => io::ErrorKind::NetworkUnreachable,
            SockError::NotSupported => io::ErrorKind::Unsupported,
            SockError::NotAvailable => io::ErrorKind::AddrNotAvailable,
            SockError::NoProtocol
            | SockError::HostDown
            | SockError::NoNet
            | SockError::Protocol
            | SockError::MsgSize => io::ErrorKind::Other,
        }
    }

    /// Linux's number of it (`errno`).
    pub fn errno(self) -> i32 {
        match self {
            SockError::BrokenPipe => 32,
            SockError::NoNet => 64,
            SockError::Protocol => 71,
            SockError::MsgSize => 90,
            SockError::NoProtocol => 92,
            SockError::NotSupported => 95,
            SockError::NotAvailable => 99,
            SockError::NetUnreachable => 101,
            SockError::Aborted => 103,
            SockError::Reset => 104,
            SockError::TimedOut => 110,
            SockError::Refused => 111,
            SockError::HostDown => 112,
            SockError::Unreachable => 113,
        }
    }
}
