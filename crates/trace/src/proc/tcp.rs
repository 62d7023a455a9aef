//! `/proc/net/tcp`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::event::TcpState;

/// Each line is padded to this many characters, the line feed not counted.
const WIDTH: usize = 149;

const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

/// Which timer runs, by the kernel's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpTimer {
    /// None.
    #[default]
    Off = 0,
    /// Retransmission, loss probe or reordering.
    Retransmit = 1,
    /// Keep-alive.
    KeepAlive = 2,
    /// TIME-WAIT.
    TimeWait = 3,
    /// Zero-window probe.
    Probe = 4,
}

/// A socket's line of `/proc/net/tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpRow {
    /// Local address and port.
    pub local: SocketAddr,
    /// The peer's address and port; unspecified and 0 for a listener.
    pub remote: SocketAddr,
    /// The state; a request ([`TcpState::NewSynRecv`]) is printed as SYN-RECEIVED.
    pub state: TcpState,
    /// Bytes not yet acknowledged by the peer, those not yet sent included.
    pub tx_queue: u32,
    /// Bytes that the application has not read, a FIN included; of a listener, connections to accept.
    pub rx_queue: u32,
    /// Which timer runs.
    pub timer: TcpTimer,
    /// In how many hundredths of a second it runs out.
    pub when: u32,
    /// Retransmissions without an answer.
    pub retransmits: u32,
    /// The user who owns it.
    pub uid: u32,
    /// Probes without an answer.
    pub probes: u32,
    /// The inode's number; 0 if no application holds it.
    pub inode: u64,
    /// References to the socket.
    pub refs: u32,
    /// A number that tells sockets apart (the kernel prints a scrambled pointer).
    pub cookie: u64,
    /// What only a full socket has: `None` for a request and for TIME-WAIT.
    pub conn: Option<Conn>,
}

/// The last columns of a full socket's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn {
    /// Retransmission timeout in hundredths of a second.
    pub rto: u32,
    /// Delayed-ACK timeout in hundredths of a second.
    pub ato: u32,
    /// ACKs left in quick-ACK mode.
    pub quick: u32,
    /// Whether the connection is interactive (pingpong mode).
    pub pingpong: bool,
    /// Congestion window in segments.
    pub cwnd: u32,
    /// Slow-start threshold in segments; -1 in the initial slow start. Of a listener, the length of its fast-open queue.
    pub ssthresh: i32,
}

/// The text of `/proc/net/tcp`: a heading, then the IPv4 sockets in the order given (the kernel prints listeners first).
/// Rows with an IPv6 address are left out; an IPv6-mapped IPv4 address is one.
pub fn tcp(rows: &[TcpRow]) -> String {
    let mut text = format!("{HEADER:<WIDTH$}\n");
    let mut slot = 0;
    for row in rows {
        if let (IpAddr::V4(local), IpAddr::V4(remote)) = (row.local.ip(), row.remote.ip()) {
            let line = line(slot, row, local, remote);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line:<WIDTH$}");
            slot += 1;
        }
    }
    text
}

fn line(slot: usize, row: &TcpRow, local: Ipv4Addr, remote: Ipv4Addr) -> String {
    let state = match row.state {
        TcpState::NewSynRecv => TcpState::SynRecv,
        state => state,
    };
    let mut line = format!(
        "{slot:4}: {:08X}:{:04X} {:08X}:{:04X} {:02X} {:08X}:{:08X} {:02X}:{:08X} {:08X} {:5} {:8} {} {} {:016x}",
        address_word(local),
        row.local.port(),
        address_word(remote),
        row.remote.port(),
        state as u8,
        row.tx_queue,
        row.rx_queue,
        row.timer as u8,
        row.when,
        row.retransmits,
        row.uid,
        row.probes,
        row.inode,
        row.refs,
        row.cookie,
    );
    if let Some(conn) = row.conn {
        let quick_pingpong = conn.quick.wrapping_shl(1) | u32::from(conn.pingpong);
        let Conn { rto, ato, cwnd, ssthresh, .. } = conn;
        let _ = write!(line, " {rto} {ato} {quick_pingpong} {cwnd} {ssthresh}");
    }
    line
}

/// The kernel prints the word in network order as a number of the host: 127.0.0.1 is 0100007F on a little-endian one.
fn address_word(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

#[cfg(test)]
mod tests;
