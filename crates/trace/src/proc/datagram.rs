//! `/proc/net/udp` and `/proc/net/raw`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A line of `udp` is padded to this many characters, the line feed not counted; one of `raw` is not.
const WIDTH: usize = 127;

const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";

/// A datagram socket's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramRow {
    /// Local address and port; of a raw socket the port is the protocol number.
    pub local: SocketAddr,
    /// The peer's address and port; unspecified and 0 where there is none.
    pub remote: SocketAddr,
    /// Whether it is connected: state 01, else 07.
    pub connected: bool,
    /// Truesize of what waits to be sent.
    pub tx_queue: u32,
    /// Truesize of what waits to be read.
    pub rx_queue: u32,
    /// The user who owns it.
    pub uid: u32,
    /// The inode's number.
    pub inode: u64,
    /// References to the socket.
    pub refs: u32,
    /// A number that tells sockets apart (the kernel prints a scrambled pointer).
    pub cookie: u64,
    /// Datagrams that it dropped.
    pub drops: u32,
}

/// The text of `/proc/net/udp`: a heading, then the IPv4 sockets in the order given, each with its port for its place (in
/// the kernel that is its hash).
pub fn udp(rows: &[DatagramRow]) -> String {
    let mut text = format!(" {HEADER:<0$}\n", WIDTH - 1);
    for (row, local, remote) in rows.iter().filter_map(v4) {
        let line = format!("{:5}: {}", row.local.port(), columns(row, local, remote));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line:<WIDTH$}");
    }
    text
}

/// The text of `/proc/net/raw`.
pub fn raw(rows: &[DatagramRow]) -> String {
    let mut text = format!("{HEADER}\n");
    for (row, local, remote) in rows.iter().filter_map(v4) {
        let _ = writeln!(text, "{:4}: {}", row.local.port(), columns(row, local, remote));
    }
    text
}

fn v4(row: &DatagramRow) -> Option<(&DatagramRow, Ipv4Addr, Ipv4Addr)> {
    match (row.local.ip(), row.remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => Some((row, local, remote)),
        _ => None,
    }
}

fn columns(row: &DatagramRow, local: Ipv4Addr, remote: Ipv4Addr) -> String {
    format!(
        "{:08X}:{:04X} {:08X}:{:04X} {:02X} {:08X}:{:08X} 00:00000000 00000000 {:5}        0 {} {} {:016x} {}",
        u32::from_ne_bytes(local.octets()),
        row.local.port(),
        u32::from_ne_bytes(remote.octets()),
        row.remote.port(),
        if row.connected { 1 } else { 7 },
        row.tx_queue,
        row.rx_queue,
        row.uid,
        row.inode,
        row.refs,
        row.cookie,
        row.drops,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> DatagramRow {
        DatagramRow {
            local: "10.0.0.1:7000".parse().expect("an address"),
            remote: "0.0.0.0:0".parse().expect("an address"),
            connected: false,
            tx_queue: 0,
            rx_queue: 10_880,
            uid: 0,
            inode: 47_426,
            refs: 2,
            cookie: 0x6a5b_21e6,
            drops: 0,
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_udp_socket_is_the_kernels_line() {
        // Read off Linux 6.18, but for the place.
        let text = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n \
                    7000: 0100000A:1B58 00000000:0000 07 00000000:00002A80 00:00000000 00000000     0        0 47426 2 000000006a5b21e6 0         \n";
        assert_eq!(udp(&[row()]), text);
        let six = DatagramRow { local: "[::1]:1".parse().expect("an address"), ..row() };
        assert_eq!(udp(&[six, row()]), text);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_raw_socket_is_the_kernels_line() {
        let raw_row = DatagramRow {
            local: "10.0.0.1:253".parse().expect("an address"),
            remote: "10.0.0.2:0".parse().expect("an address"),
            connected: true,
            rx_queue: 0x16c0,
            inode: 88_272,
            cookie: 0x2ded_f44f,
            ..row()
        };
        assert_eq!(
            raw(&[raw_row]).lines().nth(1),
            Some(
                " 253: 0100000A:00FD 0200000A:0000 01 00000000:000016C0 00:00000000 00000000     0        0 88272 2 000000002dedf44f 0"
            )
        );
    }
}
