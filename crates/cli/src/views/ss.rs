//! `rxpath ss`: sockets, laid out as ss of iproute2 does.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use rxpath_trace::TcpState;
use serde::Serialize;

use super::{MemoryRow, Netid, ProcFiles, SocketRow};
use crate::failure::Failure;
use crate::out::Out;

/// Which sockets are shown, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show {
    /// TCP sockets. If no kind is named all are shown; if one is, without the Netid column.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// Raw sockets.
    pub raw: bool,
    /// Ports as numbers.
    pub numeric: bool,
    /// Listening sockets only.
    pub listening: bool,
    /// All states.
    pub all: bool,
    /// No heading.
    pub no_header: bool,
    /// Memory, below each socket.
    pub memory: bool,
    /// What connections tell of themselves, below them.
    pub info: bool,
    /// Timers, and what was agreed in the handshake.
    pub options: bool,
}

/// How ss writes a state.
pub const fn state_name(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTAB",
        TcpState::SynSent => "SYN-SENT",
        TcpState::SynRecv | TcpState::NewSynRecv => "SYN-RECV",
        TcpState::FinWait1 => "FIN-WAIT-1",
        TcpState::FinWait2 => "FIN-WAIT-2",
        TcpState::TimeWait => "TIME-WAIT",
        TcpState::Close => "UNCONN",
        TcpState::CloseWait => "CLOSE-WAIT",
        TcpState::LastAck => "LAST-ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

impl Show {
    /// How many kinds of sockets are named.
    fn kinds(&self) -> usize {
        [self.tcp, self.udp, self.raw].into_iter().filter(|named| *named).count()
    }

    /// Whether there can be more than one state: of datagram sockets only those that are connected are shown, unless asked.
    fn has_states(&self) -> bool {
        self.kinds() == 0 || self.tcp || self.all || self.listening
    }

    /// Whether ss shows a socket of this state.
    pub fn shows(&self, row: &SocketRow) -> bool {
        let of_kind = match row.netid {
            Netid::Raw => self.raw,
            Netid::Udp => self.udp,
            Netid::Tcp => self.tcp,
        };
        if !of_kind && self.kinds() > 0 {
            return false;
        }
        match row.state.as_str() {
            _ if self.all => true,
            "LISTEN" | "UNCONN" => self.listening,
            "SYN-RECV" | "TIME-WAIT" => false,
            _ => !self.listening,
        }
    }
}

/// Prints sockets. `services` names ports, as `/etc/services` does; it is asked only if names are wanted.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, rows: &[SocketRow], show: Show, services: &Services) -> Result<(), Failure> {
    let shown: Vec<&SocketRow> = rows.iter().filter(|row| show.shows(row)).collect();
    let cells: Vec<Cells> = shown.iter().map(|row| cells(row, show, services)).collect();
    let mut lines = lay_out(&cells, show).into_iter();
    if !show.no_header {
        lines.next().map_or(Ok(()), |heading| out.line(heading))?;
    }
    for (line, row) in lines.zip(shown) {
        out.line(line)?;
        let below = below(row, show);
        if !below.is_empty() {
            out.line(format_args!("\t {below}"))?;
        }
    }
    Ok(())
}

/// What stands below a socket.
fn below(row: &SocketRow, show: Show) -> String {
    let memory = row.memory.filter(|_| show.memory).map(|memory| skmem(&memory, row.drops));
    let info = row.info.as_ref().filter(|_| show.info);
    let options = info.filter(|_| show.options).map(|info| info.options.clone());
    let parts = [memory, options, info.map(|info| info.info.clone())];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The memory of a socket as ss writes it.
fn skmem(memory: &MemoryRow, drops: u32) -> String {
    let MemoryRow { rmem_alloc, rcvbuf, wmem_alloc, sndbuf, forward_alloc, wmem_queued, backlog } = memory;
    // `o` is what socket options and filters take, of which there are none here.
    format!(
        "skmem:(r{rmem_alloc},rb{rcvbuf},t{wmem_alloc},tb{sndbuf},f{forward_alloc},w{wmem_queued},o0,bl{backlog},d{drops})"
    )
}

/// Columns: Netid, State, Recv-Q, Send-Q, Local Address, Port, Peer Address, Port, Process.
const COLUMNS: usize = 9;
type Cells = [String; COLUMNS];

const HEADING: [&str; COLUMNS] =
    ["Netid", "State", "Recv-Q", "Send-Q", "Local Address:", "Port", "Peer Address:", "Port", "Process"];
/// What stands before a column that is not the first shown. Ports follow their addresses.
const BEFORE: [&str; COLUMNS] = ["", " ", " ", " ", " ", "", " ", "", ""];
/// Least widths: ss pads its queue lengths even without a heading.
const LEAST: [usize; COLUMNS] = [0, 0, 6, 6, 0, 0, 0, 0, 0];
/// Addresses stand at the right of their column.
const RIGHT: [bool; COLUMNS] = [false, false, false, false, true, false, true, false, false];

fn cells(row: &SocketRow, show: Show, services: &Services) -> Cells {
    let port = |addr: SocketAddr| match (addr.port(), show.numeric) {
        (0, _) => "*".to_owned(),
        (port, true) => port.to_string(),
        (port, false) => services.name(row.netid, port),
    };
    let netid = match row.netid {
        Netid::Raw => "raw",
        Netid::Udp => "udp",
        Netid::Tcp => "tcp",
    };
    [
        netid.to_owned(),
        row.state.clone(),
        row.recv_q.to_string(),
        row.send_q.to_string(),
        format!("{}:", row.local.ip()),
        port(row.local),
        format!("{}:", row.remote.ip()),
        port(row.remote),
        timer(row, show),
    ]
}

/// The timer that runs.
fn timer(row: &SocketRow, show: Show) -> String {
    match &row.info {
        Some(info) if show.options && !info.timer.is_empty() => format!(" {}", info.timer),
        _ => String::new(),
    }
}

fn lay_out(rows: &[Cells], show: Show) -> Vec<String> {
    let heading = !show.no_header;
    // The last column has a heading, and timers.
    let timers = rows.iter().any(|row| !row[COLUMNS - 1].is_empty());
    let used = |column: usize| match column {
        0 => show.kinds() != 1,
        1 => show.has_states(),
        8 => heading || timers,
        _ => true,
    };
    let heading: Option<Cells> = heading.then(|| HEADING.map(str::to_owned));
    let all: Vec<&Cells> = heading.iter().chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].len()).max().unwrap_or(0).max(LEAST[column]);
    let columns: Vec<(usize, usize)> = (0..COLUMNS).filter(|&c| used(c)).map(|c| (c, width(c))).collect();
    let line = |row: &&Cells| {
        let mut line = String::new();
        for (place, &(column, width)) in columns.iter().enumerate() {
            let cell = &row[column];
            line.push_str(if place == 0 { "" } else { BEFORE[column] });
            let is_last = place + 1 == columns.len() && column != 8;
            match (RIGHT[column], is_last) {
                (true, _) => line.push_str(&format!("{cell:>width$}")),
                (false, false) => line.push_str(&format!("{cell:<width$}")),
                (false, true) => line.push_str(cell),
            }
        }
        line
    };
    all.iter().map(line).collect()
}

/// Names of ports.
#[derive(Clone, Debug, Default)]
pub struct Services {
    tcp: HashMap<u16, String>,
    udp: HashMap<u16, String>,
}

impl Services {
    /// Reads the text of `/etc/services`; what is not understood there is passed over. Of several names the first holds.
    pub fn parse(text: &str) -> Services {
        let mut services = Services::default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
            let Some((port, protocol)) = port.split_once('/') else { continue };
            let names = match protocol {
                "tcp" => &mut services.tcp,
                "udp" => &mut services.udp,
                _ => continue,
            };
            if let Ok(port) = port.parse() {
                names.entry(port).or_insert_with(|| name.to_owned());
            }
        }
        services
    }

    fn name(&self, netid: Netid, port: u16) -> String {
        let name = match netid {
            Netid::Tcp => self.tcp.get(&port),
            Netid::Udp => self.udp.get(&port),
            Netid::Raw => None,
        };
        name.cloned().unwrap_or_else(|| port.to_string())
    }
}

/// The numbers of `ss -s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Sockets of all kinds.
    pub total: u64,
    /// TCP sockets, those in TIME-WAIT included.
    pub tcp: u64,
    /// Of those: connections in ESTABLISHED or CLOSE-WAIT.
    pub estab: u64,
    /// Those that are in no table of connections or listeners.
    pub closed: u64,
    /// Those that no application holds any more.
    pub orphaned: u64,
    /// Those in TIME-WAIT.
    pub timewait: u64,
    /// TCP sockets in use.
    pub tcp_inuse: u64,
    /// UDP sockets in use.
    pub udp_inuse: u64,
    /// Raw sockets in use.
    pub raw_inuse: u64,
    /// Reassemblies under way.
    pub frag_inuse: u64,
}

impl Summary {
    /// The numbers, from the same files that ss reads; what is not there is 0.
    pub fn of(files: &ProcFiles) -> Summary {
        let file = |name: &str| files.get(name).map(String::as_str).unwrap_or_default();
        let sockstat = |line: &str, key: &str| number_after(file("net/sockstat"), line, key);
        let (timewait, tcp_inuse) = (sockstat("TCP:", "tw"), sockstat("TCP:", "inuse"));
        let tcp = sockstat("TCP:", "alloc").saturating_add(timewait);
        Summary {
            total: sockstat("sockets:", "used"),
            tcp,
            estab: snmp_value(file("net/snmp"), "Tcp:", "CurrEstab"),
            closed: tcp.saturating_sub(tcp_inuse),
            orphaned: sockstat("TCP:", "orphan"),
            timewait,
            tcp_inuse,
            udp_inuse: sockstat("UDP:", "inuse"),
            raw_inuse: sockstat("RAW:", "inuse"),
            frag_inuse: sockstat("FRAG:", "inuse"),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { total, tcp, estab, closed, orphaned, timewait, tcp_inuse, udp_inuse, raw_inuse, .. } = self;
        writeln!(f, "Total: {total}")?;
        writeln!(f, "TCP:   {tcp} (estab {estab}, closed {closed}, orphaned {orphaned}, timewait {timewait})\n")?;
        writeln!(f, "Transport Total     IP        IPv6")?;
        let inet = tcp_inuse.saturating_add(*udp_inuse).saturating_add(*raw_inuse);
        let rows = [("RAW", *raw_inuse), ("UDP", *udp_inuse), ("TCP", *tcp_inuse), ("INET", inet)];
        for (name, n) in rows.into_iter().chain([("FRAG", self.frag_inuse)]) {
            writeln!(f, "{name}\t  {n:<9} {n:<9} {:<9}", 0)?;
        }
        writeln!(f)
    }
}

/// The number behind a word on the line that begins with another; 0 if it is not there.
fn number_after(text: &str, line: &str, key: &str) -> u64 {
    let words = text.lines().find_map(|text| text.strip_prefix(line)).unwrap_or_default();
    let mut words = words.split_ascii_whitespace().skip_while(|word| *word != key);
    words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The value below a name in the pair of lines of a group; 0 if it is not there.
fn snmp_value(text: &str, group: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let place = names.split(' ').position(|word| word == name);
    place.and_then(|place| values.split(' ').nth(place)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::tests::printed;

    fn row(state: TcpState, remote: &str, recv_q: u32, send_q: u32) -> SocketRow {
        let state = state_name(state).to_owned();
        let (local, remote) = ("10.9.0.1:80".parse().expect("address"), remote.parse().expect("address"));
        SocketRow {
            netid: Netid::Tcp,
            state,
            local,
            remote,
            recv_q,
            send_q,
            cpu: Some(0),
            drops: 2,
            memory: None,
            info: None,
        }
    }

    fn rows() -> Vec<SocketRow> {
        vec![
            SocketRow { local: "0.0.0.0:80".parse().expect("address"), ..row(TcpState::Listen, "0.0.0.0:0", 1, 0) },
            row(TcpState::Established, "10.9.0.254:50000", 7, 16),
            row(TcpState::TimeWait, "10.9.0.254:50001", 0, 0),
            row(TcpState::NewSynRecv, "10.9.0.254:50002", 0, 0),
            row(TcpState::FinWait1, "10.9.0.254:50003", 0, 16),
        ]
    }

    fn shown(show: Show) -> String {
        printed(|out| print(out, &rows(), show, &Services::parse("http  80/tcp www # web\nhttp3 80/tcp\nx 80/udp")))
    }

    #[test]
    fn memory_stands_below_its_socket() {
        let memory = MemoryRow {
            rmem_alloc: 837,
            rcvbuf: 131_072,
            wmem_alloc: 1,
            sndbuf: 87_040,
            forward_alloc: 3_259,
            wmem_queued: 4,
            backlog: 5,
        };
        let row = SocketRow { memory: Some(memory), ..row(TcpState::Established, "10.9.0.254:50000", 5, 0) };
        let show = Show { tcp: true, numeric: true, no_header: true, memory: true, ..Show::default() };
        assert_eq!(
            printed(|out| print(out, &[row], show, &Services::default())),
            "ESTAB 5      0      10.9.0.1:80 10.9.0.254:50000\n\t skmem:(r837,rb131072,t1,tb87040,f3259,w4,o0,bl5,d2)\n"
        );
    }

    #[test]
    fn connections_are_shown_as_ss_does() {
        let show = Show { tcp: true, numeric: true, ..Show::default() };
        assert_eq!(
            shown(show),
            "State      Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n\
             ESTAB      7      16          10.9.0.1:80     10.9.0.254:50000       \n\
             FIN-WAIT-1 0      16          10.9.0.1:80     10.9.0.254:50003       \n"
        );
        assert_eq!(
            shown(Show { no_header: true, ..show }),
            "ESTAB      7      16     10.9.0.1:80 10.9.0.254:50000\n\
             FIN-WAIT-1 0      16     10.9.0.1:80 10.9.0.254:50003\n"
        );
    }

    #[test]
    fn listeners_and_all_are_shown_as_ss_does() {
        assert_eq!(
            shown(Show { listening: true, tcp: true, ..Show::default() }),
            "State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n\
             LISTEN 1      0            0.0.0.0:http      0.0.0.0:*          \n"
        );
        let all = shown(Show { all: true, numeric: true, ..Show::default() });
        assert_eq!(all.lines().count(), 6);
        assert!(all.contains("tcp   SYN-RECV   0      0           10.9.0.1:80     10.9.0.254:50002       \n"), "{all}");
        assert!(all.starts_with("Netid State      Recv-Q"), "{all}");
    }

    #[test]
    fn datagram_sockets_are_shown_as_ss_does() {
        let udp = |state, local: &str, remote| {
            let local = local.parse().expect("address");
            SocketRow { netid: Netid::Udp, local, ..row(state, remote, 10_880, 0) }
        };
        let mut rows = rows();
        rows.insert(0, udp(TcpState::Close, "10.0.0.1:53", "0.0.0.0:0"));
        rows.insert(1, udp(TcpState::Established, "10.0.0.1:7000", "10.0.0.2:9"));
        let services = Services::parse("domain 53/tcp\ndomain 53/udp\n");
        let shown = |show: Show| printed(|out| print(out, &rows, show, &services));
        // As iproute2 prints them.
        assert_eq!(
            shown(Show { udp: true, numeric: true, all: true, ..Show::default() }),
            "State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n\
             UNCONN 10880  0           10.0.0.1:53        0.0.0.0:*          \n\
             ESTAB  10880  0           10.0.0.1:7000     10.0.0.2:9          \n"
        );
        assert_eq!(
            shown(Show { udp: true, numeric: true, ..Show::default() }),
            "Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n\
             10880  0           10.0.0.1:7000     10.0.0.2:9          \n"
        );
        assert_eq!(
            shown(Show { udp: true, listening: true, no_header: true, ..Show::default() }),
            "UNCONN 10880  0      10.0.0.1:domain 0.0.0.0:*\n"
        );
        let both = shown(Show { udp: true, tcp: true, all: true, numeric: true, ..Show::default() });
        assert!(both.starts_with("Netid State") && both.lines().count() == 8, "{both}");
        assert_eq!(shown(Show { raw: true, all: true, ..Show::default() }).lines().count(), 1);
    }

    #[test]
    fn the_summary_is_that_of_ss() {
        let sockstat = "sockets: used 5\nTCP: inuse 5 orphan 1 tw 2 alloc 6 mem 3\nUDP: inuse 0 mem 0\n\
                        RAW: inuse 0\nFRAG: inuse 0 memory 0\n";
        let snmp = "Ip: Forwarding\nIp: 2\nTcp: RtoAlgorithm CurrEstab\nTcp: 1 3\n";
        let files = [("net/sockstat", sockstat), ("net/snmp", snmp)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(
            Summary::of(&ProcFiles::from(files)).to_string(),
            "Total: 5\nTCP:   8 (estab 3, closed 3, orphaned 1, timewait 2)\n\n\
             Transport Total     IP        IPv6\n\
             RAW\t  0         0         0        \n\
             UDP\t  0         0         0        \n\
             TCP\t  5         5         0        \n\
             INET\t  5         5         0        \n\
             FRAG\t  0         0         0        \n\n"
        );
        assert!(Summary::of(&ProcFiles::new()).to_string().starts_with("Total: 0\n"));
    }
}
