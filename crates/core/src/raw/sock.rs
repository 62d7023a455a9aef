//! A raw socket.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rxpath_wire::Addr;

use crate::socket::Datagrams;

/// All raw sockets of a stack: replaced whole when one comes or goes.
#[derive(Clone, Debug, Default)]
pub struct RawSocks(Arc<[Arc<RawSock>]>);

impl RawSocks {
    /// Whether there is any.
    #[inline(always)]
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// All of them, in the order in which they were opened.
    pub fn all(&self) -> &[Arc<RawSock>] {
        &self.0
    }

    /// The same and one more.
    #[must_use]
    pub fn with(&self, sock: &Arc<RawSock>) -> RawSocks {
        RawSocks(self.0.iter().chain([sock]).cloned().collect())
    }

    /// The same without one.
    #[must_use]
    pub fn without(&self, sock: &Arc<RawSock>) -> RawSocks {
        RawSocks(self.0.iter().filter(|other| !Arc::ptr_eq(other, sock)).cloned().collect())
    }
}

/// What a socket is bound and connected to; unspecified and 0 for nothing in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawName {
    /// Local address.
    pub local: Addr,
    /// The peer.
    pub remote: Option<Addr>,
    /// Interface.
    pub ifindex: u16,
}

/// Options that matter to what a socket sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawOptions {
    /// What is sent begins with an IP header (`IP_HDRINCL`); always so for protocol 255.
    pub header_included: bool,
    /// It may send to all hosts of a link (`SO_BROADCAST`).
    pub broadcast: bool,
    /// Time to live; None for the stack's default (`IP_TTL`).
    pub ttl: Option<u8>,
    /// Type of service (`IP_TOS`).
    pub tos: u8,
    /// Errors are told in detail (`IP_RECVERR`).
    pub recv_errors: bool,
}

/// A socket.
#[derive(Debug)]
pub struct RawSock {
    /// Tells sockets apart, in the order of their making.
    pub number: u64,
    /// The protocol that it gets packets of.
    pub protocol: u8,
    /// The Cpu that sends for it.
    pub cpu: u16,
    /// What came: whole packets, from the IP header on.
    pub rx: Datagrams,
    state: Mutex<(RawName, RawOptions)>,
    /// ICMP types that it does not want, as bits (`ICMP_FILTER`).
    filter: AtomicU32,
}

impl RawSock {
    /// A socket that is bound to nothing.
    pub fn new(number: u64, protocol: u8, cpu: u16, rx: Datagrams) -> RawSock {
        let name = RawName { local: Addr::UNSPECIFIED_V4, remote: None, ifindex: 0 };
        let options = RawOptions { header_included: protocol == IPPROTO_RAW, ..RawOptions::default() };
        RawSock { number, protocol, cpu, rx, state: Mutex::new((name, options)), filter: AtomicU32::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, (RawName, RawOptions)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is bound and connected to.
    pub fn name(&self) -> RawName {
        self.state().0
    }

    /// Changes what it is bound and connected to.
    pub fn set_name(&self, change: impl FnOnce(&mut RawName)) {
        change(&mut self.state().0);
    }

    /// Its options.
    pub fn options(&self) -> RawOptions {
        self.state().1
    }

    /// Changes its options.
    pub fn set_options(&self, change: impl FnOnce(&mut RawOptions)) {
        change(&mut self.state().1);
    }

    /// ICMP types that it does not want: bit `n` for type `n`, of the first 32.
    pub fn set_icmp_filter(&self, types: u32) {
        self.filter.store(types, Ordering::Relaxed);
    }

    pub(super) fn filters(&self, kind: u8) -> bool {
        kind < 32 && self.filter.load(Ordering::Relaxed) & 1 << kind != 0
    }

    /// `raw_v4_match`: whether it is concerned with packets between these addresses.
    pub(super) fn matches(&self, protocol: u8, local: Addr, remote: Addr, ifindex: u16) -> bool {
        if self.protocol != protocol {
            return false;
        }
        let name = self.name();
        name.remote.is_none_or(|peer| peer == remote)
            && (name.local.is_unspecified() || name.local == local)
            && (name.ifindex == 0 || name.ifindex == ifindex)
    }
}

/// The protocol of packets that bring their header (`IPPROTO_RAW`).
const IPPROTO_RAW: u8 = 255;
