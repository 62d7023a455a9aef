//! Requests to the kernel's routing netlink (`rtnetlink(7)`): written by hand, a few lines each.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use rxpath_wire::MacAddr;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_STATS64: u16 = 23;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTNH_F_ONLINK: u32 = 4;
const RTN_UNICAST: u8 = 1;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTN_PROHIBIT: u8 = 8;
const NUD_PERMANENT: u16 = 0x80;

/// Bytes of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// Bytes of `struct ifinfomsg`.
const IFINFOMSG_LEN: usize = 16;

/// The figures of an interface that [`Rtnl::statistics`] reads, with their place in `struct rtnl_link_stats64`.
const STATISTICS: [(&str, usize); 8] = [
    ("rx_packets", 0),
    ("tx_packets", 1),
    ("rx_bytes", 2),
    ("tx_bytes", 3),
    ("rx_errors", 4),
    ("rx_dropped", 6),
    ("rx_nohandler", 23),
    ("rx_otherhost_dropped", 24),
];

/// Where the packets of a route go that leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// They vanish.
    Blackhole,
    /// Their sender is told that the host is unreachable.
    Unreachable,
    /// Their sender is told that it is forbidden.
    Prohibit,
}

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    /// Header (its length is set when the message is sent) and the fixed part of the body.
    fn new(kind: u16, flags: u16, body: &[u8]) -> Message {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Message(bytes)
    }

    /// Appends an attribute, padded to 4 bytes.
    fn attr(mut self, kind: u16, value: &[u8]) -> Message {
        self.0.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// The finished bytes, numbered `seq`.
    fn finish(mut self, seq: u32) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&seq.to_ne_bytes());
        self.0
    }
}

/// A connection to the routing netlink of the namespace in which it was opened.
///
/// Needs `CAP_NET_ADMIN` in that namespace. Each call waits for the kernel's answer.
#[derive(Debug)]
pub struct Rtnl {
    socket: OwnedFd,
    seq: u32,
}

impl Rtnl {
    /// Opens a connection in the calling thread's namespace.
    ///
    /// # Errors
    /// What the kernel says to the socket.
    pub fn open() -> io::Result<Rtnl> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Rtnl { socket, seq: 0 })
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// `NotFound` without such an interface; `PermissionDenied`; else what the kernel says. So for all calls here.
    pub fn set_up(&mut self, interface: &str) -> io::Result<()> {
        let message = Message::new(RTM_NEWLINK, 0, &link_body(index_of(interface)?, IFF_UP, IFF_UP));
        self.call(message, || format!("bringing {interface} up"))
    }

    /// Sets the largest IP packet of an interface, in bytes.
    ///
    /// # Errors
    /// As [`Rtnl::set_up`]; `InvalidInput` if the interface cannot have it.
    pub fn set_mtu(&mut self, interface: &str, mtu: u32) -> io::Result<()> {
        let body = link_body(index_of(interface)?, 0, 0);
        let message = Message::new(RTM_NEWLINK, 0, &body).attr(IFLA_MTU, &mtu.to_ne_bytes());
        self.call(message, || format!("setting the MTU of {interface} to {mtu}"))
    }

    /// Sets the hardware address of an interface.
    ///
    /// # Errors
    /// As [`Rtnl::set_up`].
    pub fn set_mac(&mut self, interface: &str, mac: MacAddr) -> io::Result<()> {
        let body = link_body(index_of(interface)?, 0, 0);
        let message = Message::new(RTM_NEWLINK, 0, &body).attr(IFLA_ADDRESS, &mac.0);
        self.call(message, || format!("setting the address of {interface} to {mac}"))
    }

    /// Gives an interface an IPv4 address with a prefix of `prefix` bits; the route to the prefix comes with it once
    /// the interface is up. One that is there already is no error.
    ///
    /// # Errors
    /// As [`Rtnl::set_up`]; `InvalidInput` for a prefix of more than 32 bits.
    pub fn add_address(&mut self, interface: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        check_prefix(prefix)?;
        // struct ifaddrmsg: family, prefix length, flags, scope; index.
        let mut body = [AF_INET, prefix, 0, RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
        body[4..].copy_from_slice(&index_of(interface)?.to_ne_bytes());
        let message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attr(IFA_LOCAL, &address.octets())
            .attr(IFA_ADDRESS, &address.octets());
        self.call(message, || format!("giving {interface} the address {address}/{prefix}"))
    }

    /// Adds or replaces an IPv4 route to `network`/`prefix` (0.0.0.0/0 is the default route), through a gateway or
    /// straight onto the link.
    ///
    /// # Errors
    /// As [`Rtnl::set_up`]; `InvalidInput` for a prefix of more than 32 bits or bits beyond it; `NetworkUnreachable` if
    /// the gateway cannot be reached.
    pub fn add_route(
        &mut self,
        network: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        interface: &str,
    ) -> io::Result<()> {
        check_prefix(prefix)?;
        let scope = if gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
        // struct rtmsg: family, lengths of destination and source, TOS, table, origin, scope, type; flags.
        let body = [AF_INET, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0, 0, 0, 0];
        let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body);
        if prefix > 0 {
            message = message.attr(RTA_DST, &network.octets());
        }
        if let Some(gateway) = gateway {
            message = message.attr(RTA_GATEWAY, &gateway.octets());
        }
        message = message.attr(RTA_OIF, &index_of(interface)?.to_ne_bytes());
        self.call(message, || format!("adding the route to {network}/{prefix} on {interface}"))
    }

    /// Adds or replaces an IPv4 route to `network`/`prefix` through a gateway that is on the link whatever the
    /// interface's addresses say (`onlink`).
    ///
    /// # Errors
    /// As [`Rtnl::add_route`].
    pub fn add_onlink_route(
        &mut self,
        network: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
        interface: &str,
    ) -> io::Result<()> {
        check_prefix(prefix)?;
        let [a, b, c, d] = RTNH_F_ONLINK.to_ne_bytes();
        let body = [AF_INET, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, a, b, c, d];
        let message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attr(RTA_DST, &network.octets())
            .attr(RTA_GATEWAY, &gateway.octets())
            .attr(RTA_OIF, &index_of(interface)?.to_ne_bytes());
        self.call(message, || format!("adding the route to {network}/{prefix} on {interface}"))
    }

    /// Adds or replaces an IPv4 route that leads nowhere.
    ///
    /// # Errors
    /// As [`Rtnl::set_up`]; `InvalidInput` for a prefix of more than 32 bits or bits beyond it.
    pub fn add_refusal(&mut self, network: Ipv4Addr, prefix: u8, refusal: Refusal) -> io::Result<()> {
        check_prefix(prefix)?;
        let kind = match refusal {
            Refusal::Blackhole => RTN_BLACKHOLE,
            Refusal::Unreachable => RTN_UNREACHABLE,
            Refusal::Prohibit => RTN_PROHIBIT,
        };
        let body = [AF_INET, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, kind, 0, 0, 0, 0];
        let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body);
        if prefix > 0 {
            message = message.attr(RTA_DST, &network.octets());
        }
        self.call(message, || format!("adding the {refusal:?} route to {network}/{prefix}"))
    }

    /// The figures of an interface, by the names of `struct rtnl_link_stats64` (`ip -s -s link`): `rx_packets`,
    /// `tx_packets`, `rx_bytes`, `tx_bytes`, `rx_errors`, `rx_dropped`, `rx_nohandler` and `rx_otherhost_dropped`, as
    /// far as the kernel has them.
    ///
    /// # Errors
    /// As [`Rtnl::set_up`]; `InvalidData` if the answer has no figures.
    pub fn statistics(&mut self, interface: &str) -> io::Result<Vec<(&'static str, u64)>> {
        let message = Message::new(RTM_GETLINK, 0, &link_body(index_of(interface)?, 0, 0));
        let mut figures = None;
        self.request(
            message,
            |answer| figures = figures.take().or_else(|| stats64(answer)),
            || format!("asking for the statistics of {interface}"),
        )?;
        figures.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{interface}: no statistics")))
    }

    /// Enters a neighbour for good, so that the kernel never asks for it.
    ///
    /// # Errors
    /// As [`Rtnl::set_up`].
    pub fn add_neighbour(&mut self, interface: &str, address: Ipv4Addr, mac: MacAddr) -> io::Result<()> {
        // struct ndmsg: family, 3 of padding; index; state; flags, type.
        let mut body = [0; 12];
        body[0] = AF_INET;
        body[4..8].copy_from_slice(&index_of(interface)?.to_ne_bytes());
        body[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
        let message = Message::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attr(NDA_DST, &address.octets())
            .attr(NDA_LLADDR, &mac.0);
        self.call(message, || format!("entering the neighbour {address} on {interface}"))
    }

    /// Sends a request and waits for its acknowledgement.
    fn call(&mut self, message: Message, what: impl Fn() -> String) -> io::Result<()> {
        self.request(message, |_| (), what)
    }

    /// Sends a request, shows each datagram that answers to `visit`, and waits for the acknowledgement.
    fn request(&mut self, message: Message, mut visit: impl FnMut(&[u8]), what: impl Fn() -> String) -> io::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        let bytes = message.finish(self.seq);
        let failed = |errno: Errno| {
            let error = io::Error::from(errno);
            let mend = match errno {
                Errno::PERM | Errno::ACCESS => ": run as root or in a user and network namespace (unshare -Urn)",
                _ => "",
            };
            io::Error::new(error.kind(), format!("{}: {error}{mend}", what()))
        };
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).map_err(failed)?;
        loop {
            let mut answer = [0; 16_384];
            match recv(&self.socket, &mut answer[..], RecvFlags::empty()) {
                Ok((len, _)) => {
                    visit(&answer[..len]);
                    if let Some(verdict) = acknowledgement(&answer[..len], self.seq) {
                        return verdict.map_err(failed);
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
}

/// Finds the acknowledgement of request `seq` among the messages of a datagram.
fn acknowledgement(mut datagram: &[u8], seq: u32) -> Option<Result<(), Errno>> {
    loop {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(datagram.get(at..at + 4)?.try_into().ok()?));
        let len = u32_at(0)? as usize;
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        if kind == NLMSG_ERROR && u32_at(8)? == seq {
            let error = u32_at(HEADER_LEN)? as i32;
            return Some(if error == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(error.saturating_neg())) });
        }
        datagram = datagram.get(len.max(HEADER_LEN).next_multiple_of(4)..)?;
    }
}

/// The figures in an answer to `RTM_GETLINK`; None if it is another message.
fn stats64(answer: &[u8]) -> Option<Vec<(&'static str, u64)>> {
    let u16_at = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if u16_at(4)? != RTM_NEWLINK {
        return None;
    }
    let mut at = HEADER_LEN + IFINFOMSG_LEN;
    loop {
        let (len, kind) = (usize::from(u16_at(at)?), u16_at(at + 2)?);
        if kind == IFLA_STATS64 {
            let figures = answer.get(at + 4..at + len)?.as_chunks::<8>().0;
            let read = |&(name, place): &(&'static str, usize)| Some((name, u64::from_ne_bytes(*figures.get(place)?)));
            return Some(STATISTICS.iter().filter_map(read).collect());
        }
        at += len.max(4).next_multiple_of(4);
    }
}

/// `struct ifinfomsg`: family, padding, device type; index; flags; the flags to change.
fn link_body(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[0] = AF_UNSPEC;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..].copy_from_slice(&change.to_ne_bytes());
    body
}

fn check_prefix(prefix: u8) -> io::Result<()> {
    if prefix <= 32 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("/{prefix}: an IPv4 prefix has at most 32 bits")))
}

/// Index of an interface of the calling thread's namespace.
fn index_of(interface: &str) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::netdevice::name_to_index(&socket, interface).map_err(|errno| {
        let error = io::Error::from(errno);
        let kind = if errno == Errno::NODEV { io::ErrorKind::NotFound } else { error.kind() };
        io::Error::new(kind, format!("interface {interface}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_rtnetlink_wants_it() {
        let bytes = Message::new(RTM_NEWADDR, NLM_F_CREATE, &[AF_INET, 24, 0, 0, 7, 0, 0, 0])
            .attr(IFLA_ADDRESS, &[1, 2, 3, 4, 5, 6])
            .finish(9);
        assert_eq!(bytes.len(), 16 + 8 + 12, "header, body, attribute padded to 4");
        assert_eq!(bytes[..4], 36u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 20u16.to_ne_bytes());
        assert_eq!(bytes[6..8], 0x405u16.to_ne_bytes());
        assert_eq!(bytes[8..12], 9u32.to_ne_bytes());
        assert_eq!(bytes[24..26], 10u16.to_ne_bytes(), "an attribute's length excludes its padding");
        assert_eq!(bytes[34..], [0, 0]);
    }

    #[test]
    fn the_acknowledgement_is_found_behind_other_messages() {
        let message = |kind: u16, seq: u32, error: i32| {
            let mut bytes = Message::new(kind, 0, &error.to_ne_bytes()).finish(seq);
            bytes.extend_from_slice(&[0; 16]);
            let len = bytes.len() as u32;
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            bytes
        };
        let datagram = [message(RTM_NEWLINK, 3, 0), message(NLMSG_ERROR, 2, -1), message(NLMSG_ERROR, 3, -19)].concat();
        assert_eq!(acknowledgement(&datagram, 3), Some(Err(Errno::NODEV)));
        assert_eq!(acknowledgement(&datagram, 2), Some(Err(Errno::PERM)));
        assert_eq!(acknowledgement(&message(NLMSG_ERROR, 4, 0), 4), Some(Ok(())));
        assert_eq!(acknowledgement(&datagram, 8), None);
    }

    #[test]
    fn statistics_are_found_among_the_attributes_of_a_link() {
        let figures: Vec<u8> = (0..25u64).flat_map(|n| (n * 3).to_ne_bytes()).collect();
        let message = Message::new(RTM_NEWLINK, 0, &link_body(2, 0, 0)).attr(IFLA_MTU, &[1, 0, 0, 0]);
        let bytes = message.attr(IFLA_STATS64, &figures).finish(1);
        let read = stats64(&bytes).expect("there are some");
        assert_eq!(read[5], ("rx_dropped", 18));
        assert_eq!(read[7], ("rx_otherhost_dropped", 72));
        for len in 0..bytes.len() - figures.len() {
            assert_eq!(stats64(&bytes[..len]), None);
        }
        assert_eq!(stats64(&Message::new(RTM_NEWADDR, 0, &[0; 16]).finish(1)), None);
    }

    #[test]
    fn broken_answers_are_ignored() {
        for len in 0..40 {
            for fill in [0, 1, 0xff] {
                assert_eq!(acknowledgement(&vec![fill; len], 5), None, "{len} bytes of {fill}");
            }
        }
    }
}
