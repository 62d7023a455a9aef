//! How sockets are bound, and why they were not.

/// How a UDP socket or a listener is to be bound, beyond its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Others that say so, too, may have the same address (`SO_REUSEADDR`); the youngest gets what goes to single hosts.
    pub reuse_addr: bool,
    /// It shares its address with others that say so (`SO_REUSEPORT`); each flow goes to one of them.
    pub reuse_port: bool,
    /// The interface that it is bound to (`SO_BINDTODEVICE`).
    pub ifindex: Option<u16>,
}

/// Why a listener could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// Another listener has the address (`EADDRINUSE`).
    InUse,
    /// The address is not ours (`EADDRNOTAVAIL`).
    NotLocal,
    /// The stack is down.
    Down,
}
