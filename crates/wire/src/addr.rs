//! Addresses of both layers and the tuple that names a connection.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An Ethernet address (EUI-48), in the order of transmission.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`, every station.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `00:00:00:00:00:00`, which names nobody.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Whether the group bit is set; broadcast is a multicast address too (IEEE 802-2014, 8.2.2).
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address that packets to an IPv4 group are sent to: the group's last 23 bits (RFC 1112 section 6.4).
    pub const fn of_group(group: Ipv4Addr) -> MacAddr {
        let [_, a, b, c] = group.octets();
        MacAddr([0x01, 0x00, 0x5e, a & 0x7f, b, c])
    }

    /// Whether this is [`MacAddr::BROADCAST`].
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == MacAddr::BROADCAST
    }

    /// Whether a single station may have this address: neither a group nor zero (kernel:
    /// `is_valid_ether_addr`).
    #[inline]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != MacAddr::ZERO
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(octets: [u8; 6]) -> Self {
        MacAddr(octets)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseMacAddrError {
    text: String,
}

impl fmt::Display for ParseMacAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an Ethernet address: write six bytes in hex, as in 02:00:00:00:aa:01", self.text)
    }
}

impl std::error::Error for ParseMacAddrError {}

impl FromStr for MacAddr {
    type Err = ParseMacAddrError;

    /// Reads six bytes of one or two hex digits, with `:` or `-` between them (one of the two
    /// throughout).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacAddrError { text: text.chars().take(64).collect() };
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            // `from_str_radix` alone would let a sign through.
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(MacAddr(octets)) }
    }
}

/// An IP address of either family in 16 bytes; IPv4 is held in its mapped form, `::ffff:a.b.c.d`
/// (RFC 4291 section 2.5.5.2). The mapped form read as IPv6 and the plain IPv4 address are thus the
/// same `Addr`, as they are for a dual-stack socket.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// `0.0.0.0`: any IPv4 address.
    pub const UNSPECIFIED_V4: Addr = Addr::from_v4([0; 4]);
    /// `::`: any IPv6 address.
    pub const UNSPECIFIED_V6: Addr = Addr([0; 16]);

    /// The mapped form of the IPv4 address with these octets.
    #[inline]
    pub const fn from_v4(octets: [u8; 4]) -> Addr {
        // As one number: put together byte by byte, it would be stored in pieces and compared in words, which stalls.
        Addr((0xffff_0000_0000 | u32::from_be_bytes(octets) as u128).to_be_bytes())
    }

    /// The 16 bytes as two native words: for comparing and hashing.
    #[inline]
    pub(crate) const fn words(&self) -> (u64, u64) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p]))
    }

    /// The octets of an IPv4 address; of an IPv6 address they mean nothing.
    #[inline]
    pub(crate) const fn low_octets(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        const PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        self.0[..12] == PREFIX
    }

    /// The IPv4 address, if it is one.
    #[inline]
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.is_v4().then(|| Ipv4Addr::from(self.low_octets()))
    }

    /// The address in the standard library's form.
    #[inline]
    pub fn to_ip(&self) -> IpAddr {
        match self.v4() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from(self.0)),
        }
    }

    /// Whether this is `0.0.0.0` or `::`.
    #[inline]
    pub fn is_unspecified(&self) -> bool {
        *self == Addr::UNSPECIFIED_V4 || *self == Addr::UNSPECIFIED_V6
    }

    /// Whether this names a group (224.0.0.0/4, ff00::/8).
    #[inline]
    pub fn is_multicast(&self) -> bool {
        if self.is_v4() { self.0[12] & 0xf0 == 0xe0 } else { self.0[0] == 0xff }
    }
}

impl Default for Addr {
    /// `0.0.0.0`.
    fn default() -> Self {
        Addr::UNSPECIFIED_V4
    }
}

impl From<Ipv4Addr> for Addr {
    #[inline]
    fn from(addr: Ipv4Addr) -> Self {
        Addr::from_v4(addr.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    #[inline]
    fn from(addr: Ipv6Addr) -> Self {
        Addr(addr.octets())
    }
}

impl From<IpAddr> for Addr {
    #[inline]
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    #[inline]
    fn from(addr: Addr) -> Self {
        addr.to_ip()
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The four values that name a connection, as this host sees it: of a received packet the
/// destination is local.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Tuple {
    /// This host's address.
    pub local: Addr,
    /// The peer's address.
    pub remote: Addr,
    /// This host's port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

const _: () = assert!(size_of::<Tuple>() == 36);

impl Tuple {
    /// The same connection as the peer sees it.
    #[inline]
    pub const fn reversed(self) -> Tuple {
        Tuple { local: self.remote, remote: self.local, local_port: self.remote_port, remote_port: self.local_port }
    }

    /// The local address and port.
    pub fn local_socket(&self) -> SocketAddr {
        SocketAddr::new(self.local.to_ip(), self.local_port)
    }

    /// The peer's address and port.
    pub fn remote_socket(&self) -> SocketAddr {
        SocketAddr::new(self.remote.to_ip(), self.remote_port)
    }

    #[inline]
    const fn ports(&self) -> u32 {
        (self.local_port as u32) << 16 | self.remote_port as u32
    }
}

impl PartialEq for Tuple {
    /// One comparison without a branch a field: in a table lookup the answer is nearly always yes.
    #[inline(always)]
    fn eq(&self, other: &Tuple) -> bool {
        let ((a, b), (c, d)) = (self.local.words(), self.remote.words());
        let ((e, f), (g, h)) = (other.local.words(), other.remote.words());
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) | u64::from(self.ports() ^ other.ports()) == 0
    }
}

impl Eq for Tuple {}

impl Hash for Tuple {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ((a, b), (c, d)) = (self.local.words(), self.remote.words());
        state.write_u64(a);
        state.write_u64(b);
        state.write_u64(c);
        state.write_u64(d);
        state.write_u32(self.ports());
    }
}

impl fmt::Display for Tuple {
    /// `local:port <-> remote:port`, IPv6 addresses in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <-> {}", self.local_socket(), self.remote_socket())
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
