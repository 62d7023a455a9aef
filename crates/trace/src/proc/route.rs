//! `/proc/net/route`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The route can be used (`RTF_UP`).
const UP: u16 = 1;
/// It leads to a gateway (`RTF_GATEWAY`).
const GATEWAY: u16 = 2;
/// It leads to a single host (`RTF_HOST`).
const HOST: u16 = 4;
/// Its packets are refused (`RTF_REJECT`).
const REJECT: u16 = 0x200;
/// Columns to which each line is filled up.
const WIDTH: usize = 127;

/// A line of `/proc/net/route`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    /// Interface; none for routes that lead nowhere.
    pub interface: Option<String>,
    /// Destination network.
    pub to: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
    /// Gateway.
    pub via: Option<Ipv4Addr>,
    /// Whether its packets are refused: `unreachable` and `prohibit`, but not `blackhole`.
    pub rejects: bool,
    /// Preference.
    pub metric: u32,
}

impl RouteRow {
    fn flags(&self) -> u16 {
        let flag = |on: bool, flag: u16| if on { flag } else { 0 };
        UP | flag(self.via.is_some(), GATEWAY) | flag(self.prefix == 32, HOST) | flag(self.rejects, REJECT)
    }
}

/// The text of `/proc/net/route`. Addresses are the words of the packet, printed as numbers of a little-endian machine.
pub fn route(rows: &[RouteRow]) -> String {
    let word = |addr: Ipv4Addr| u32::from_le_bytes(addr.octets());
    let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    let mut text = format!("{header:WIDTH$}\n");
    for row in rows {
        let mask = u32::MAX.checked_shl(32 - u32::from(row.prefix.min(32))).unwrap_or(0);
        let line = format!(
            "{}\t{:08X}\t{:08X}\t{:04X}\t0\t0\t{}\t{:08X}\t0\t0\t0",
            row.interface.as_deref().unwrap_or("*"),
            word(row.to),
            row.via.map_or(0, word),
            row.flags(),
            row.metric.cast_signed(),
            mask.swap_bytes(),
        );
        let _ = writeln!(text, "{line:WIDTH$}");
    }
    text
}
