//! Sockets with the shape of [`std::net`]: the same methods, the same errors.
//!
//! - [`TcpListener`], [`TcpStream`] and [`UdpSocket`] take a [`Stack`](crate::Stack) where those of `std` take the kernel for
//!   granted; everything else is as there, down to the [`ErrorKind`](std::io::ErrorKind)s that Linux brings about.
//! - [`PacketSocket`] sees packets before the stack does, as `AF_PACKET` of Linux does, which `std` has not;
//!   [`NetfilterQueue`] decides over them in the middle of the path, as `nfnetlink_queue` lets programs do.
//! - [`AsyncTcpListener`], [`AsyncTcpStream`] and [`AsyncUdpSocket`] are for tasks: `poll_*` methods and `async` ones, on any executor.
//! - Calls on a stack that was shut down, and those that were blocked on it, fail with `NetworkDown`.
//!
//! A blocking `write` returns when all bytes are in the send buffer, as Linux's does. Sockets of one stack can be used
//! from any number of threads.

mod auth;
mod busy;
mod call;
mod chunks;
mod listener;
mod nfqueue;
mod options;
mod packet;
mod raw;
mod stream;
mod task;
mod task_udp;
mod udp;
mod zerocopy;

pub use self::chunks::Chunks;
pub use self::listener::{Incoming, TcpListener};
pub use self::nfqueue::{Answer, NetfilterQueue, QueueOptions, QueueStats, QueuedPacket, ToQueue};
pub use self::options::{RecvFlags, SendFlags};
pub use self::packet::{
    Glance, PacketChecksum, PacketFilter, PacketInfo, PacketKind, PacketOptions, PacketSocket, PacketStatistics,
};
pub use self::raw::RawSocket;
pub use self::stream::TcpStream;
pub use self::task::{AsyncTcpListener, AsyncTcpStream};
pub use self::task_udp::AsyncUdpSocket;
pub use self::udp::{ErrorMessage, ErrorOrigin, Message, UdpSocket};
pub use rxpath_core::socket::{Payload, Readiness, ZerocopyNotice};
pub use rxpath_core::stack::BindOptions;
pub use rxpath_core::sysctl::CongestionControl;
pub use rxpath_core::tcp::{
    AoAlgorithm, AoCounters, AoInfo, AoKey, AoKeyInfo, AoSettings, AuthKeys, KEYS_MAX, KeyError, KeyMisfit, Md5Key,
    Peers, SECRET_MAX, Secret,
};
pub use rxpath_core::tcp::{IpFields, Keepalive, Linger2, MtuDiscover, SockError, SockOptions, TCP_INFO_LEN, TcpInfo};
