//! An address with the length of its prefix.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address with its prefix length, as in `10.9.0.1/24`: an interface's address with its network, or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

/// A text that is no address with a prefix length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseCidrError {
    /// No `/` and number after the address.
    NoPrefix(IpAddr),
    /// The part before the `/` is no address.
    BadAddress,
    /// The part after the `/` is no number of bits that such an address has.
    BadPrefix {
        /// Bits of such an address.
        most: u8,
    },
}

impl fmt::Display for ParseCidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseCidrError::NoPrefix(addr) => write!(f, "has no prefix length (write {addr}/{})", bits(*addr)),
            ParseCidrError::BadAddress => f.write_str("does not begin with an address"),
            ParseCidrError::BadPrefix { most } => write!(f, "has a prefix length that is not within 0 to {most}"),
        }
    }
}

impl std::error::Error for ParseCidrError {}

impl Cidr {
    /// Every IPv4 address.
    pub const ALL_V4: Cidr = Cidr { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 };

    /// An address with its prefix length; `None` if the length is above the bits of such an address (32 or 128).
    pub fn new(addr: IpAddr, prefix: u8) -> Option<Cidr> {
        (prefix <= bits(addr)).then_some(Cidr { addr, prefix })
    }

    /// The address, host bits included.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The prefix length, in bits of an address of this family.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network: the same prefix with all host bits 0.
    pub fn network(&self) -> Cidr {
        let addr = match self.addr {
            IpAddr::V4(addr) => IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() & self.mask_v4())),
            IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() & self.mask_v6())),
        };
        Cidr { addr, prefix: self.prefix }
    }

    /// The address with all host bits 1: of an IPv4 network with host bits to spare (a prefix up to 30), its broadcast
    /// address. `None` for others.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.addr {
            IpAddr::V4(addr) if self.prefix <= 30 => Some(Ipv4Addr::from_bits(addr.to_bits() | !self.mask_v4())),
            _ => None,
        }
    }

    /// Whether an address is within the prefix; those of the other family are not.
    pub fn contains(&self, addr: IpAddr) -> bool {
        Cidr::new(addr, self.prefix)
            .is_some_and(|other| self.addr.is_ipv4() == addr.is_ipv4() && other.network().addr == self.network().addr)
    }

    /// Whether any address is within both.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        let (wide, narrow) = if self.prefix <= other.prefix { (self, other) } else { (other, self) };
        wide.contains(narrow.addr)
    }

    fn mask_v4(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    fn mask_v6(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0)
    }
}

fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Cidr, ParseCidrError> {
        let Some((addr, prefix)) = text.split_once('/') else {
            return Err(text.parse().map_or(ParseCidrError::BadAddress, ParseCidrError::NoPrefix));
        };
        let addr: IpAddr = addr.parse().map_err(|_| ParseCidrError::BadAddress)?;
        let bad_prefix = ParseCidrError::BadPrefix { most: bits(addr) };
        // The number parser alone would let a sign through.
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad_prefix);
        }
        prefix.parse().ok().and_then(|prefix| Cidr::new(addr, prefix)).ok_or(bad_prefix)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn networks_and_broadcasts() {
        for (text, network, broadcast) in [
            ("10.9.0.77/24", "10.9.0.0/24", Some("10.9.0.255")),
            ("10.9.0.77/0", "0.0.0.0/0", Some("255.255.255.255")),
            ("10.9.0.77/30", "10.9.0.76/30", Some("10.9.0.79")),
            ("10.9.0.77/31", "10.9.0.76/31", None),
            ("10.9.0.77/32", "10.9.0.77/32", None),
            ("fd00::77/64", "fd00::/64", None),
            ("fd00::77/0", "::/0", None),
        ] {
            assert_eq!(cidr(text).network().to_string(), network);
            assert_eq!(cidr(text).broadcast().map(|b| b.to_string()).as_deref(), broadcast, "{text}");
        }
    }

    #[test]
    fn containing_and_overlapping() {
        let contains = |net: &str, addr: &str| cidr(net).contains(addr.parse().expect("an address"));
        assert!(contains("10.9.0.1/24", "10.9.0.255"));
        assert!(!contains("10.9.0.1/24", "10.9.1.0"));
        assert!(contains("0.0.0.0/0", "255.255.255.255"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(!contains("::/0", "10.0.0.1"));
        assert!(contains("fd00::1/127", "fd00::"));
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.9.0.1/24")));
        assert!(cidr("10.9.0.1/24").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.8.0.0/24").overlaps(&cidr("10.9.0.0/24")));
        assert!(!cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
    }

    #[test]
    fn texts_that_are_none() {
        for (text, want) in [
            ("10.9.0.1", "has no prefix length (write 10.9.0.1/32)"),
            ("fd00::1", "has no prefix length (write fd00::1/128)"),
            ("10.9.0.300/24", "does not begin with an address"),
            ("10.9.0/24", "does not begin with an address"),
            ("", "does not begin with an address"),
            ("10.9.0.1/33", "has a prefix length that is not within 0 to 32"),
            ("10.9.0.1/", "has a prefix length that is not within 0 to 32"),
            ("10.9.0.1/+8", "has a prefix length that is not within 0 to 32"),
            ("10.9.0.1/24/8", "has a prefix length that is not within 0 to 32"),
            ("fd00::1/129", "has a prefix length that is not within 0 to 128"),
        ] {
            assert_eq!(text.parse::<Cidr>().expect_err(text).to_string(), want, "{text}");
        }
    }
}
