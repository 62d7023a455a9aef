//! `/proc/net/arp`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The entry has a hardware address (`ATF_COM`).
const COMPLETE: u8 = 2;
/// It was configured (`ATF_PERM`).
const PERMANENT: u8 = 4;

/// A line of `/proc/net/arp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArpRow {
    /// The neighbour's address.
    pub addr: Ipv4Addr,
    /// Its hardware address; None if it is not known.
    pub mac: Option<[u8; 6]>,
    /// It was configured.
    pub permanent: bool,
    /// The interface.
    pub interface: String,
}

/// The text of `/proc/net/arp`.
pub fn arp(rows: &[ArpRow]) -> String {
    let mut text = "IP address       HW type     Flags       HW address            Mask     Device\n".to_owned();
    for row in rows {
        let flags = match row.mac {
            Some(_) => COMPLETE | if row.permanent { PERMANENT } else { 0 },
            None => 0,
        };
        let mac = row.mac.unwrap_or_default().map(|byte| format!("{byte:02x}")).join(":");
        let addr = row.addr.to_string();
        let _ = writeln!(text, "{addr:<16} 0x1         0x{flags:<10x}{mac}     *        {}", row.interface);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 printed a neighbour that is known, one that is asked for and one that was configured.
    #[test]
    fn the_arp_file_is_the_kernels() {
        let row = |last: u8, mac: Option<[u8; 6]>, permanent: bool| ArpRow {
            addr: Ipv4Addr::new(10, 9, 0, last),
            mac,
            permanent,
            interface: "t0".to_owned(),
        };
        let rows = [
            row(2, Some([2, 0x72, 0x78, 1, 0, 2]), false),
            row(3, None, false),
            row(7, Some([2, 0, 0, 0, 0, 7]), true),
        ];
        let expected = "\
IP address       HW type     Flags       HW address            Mask     Device
10.9.0.2         0x1         0x2         02:72:78:01:00:02     *        t0
10.9.0.3         0x1         0x0         00:00:00:00:00:00     *        t0
10.9.0.7         0x1         0x6         02:00:00:00:00:07     *        t0
";
        assert_eq!(arp(&rows), expected);
    }
}
