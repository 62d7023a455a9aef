//! The counters, one by one (`docs/counters.md`): each test brings a cause about, has the tool read our files that people
//! use for it, and sees the right number move by the right amount.
//!
//! Tools that know `PROC_ROOT` (ss, nstat) are pointed at a folder; netstat knows none, and finds the folder bound over
//! `/proc/net` in a mount namespace of its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rxpath::clock::ManualClock;
use rxpath::device::wire::{self, Port, WireConfig};
use rxpath::net::UdpSocket;
use rxpath::rxpath_mem::RxDesc;
use rxpath::{Interface, Mode, Stack};
use rxpath_testkit::{need_netns, need_tool, tool};
use rxpath_trace::{DropReason, Selector};
use rxpath_wire::{
    Addr, EtherType, EthernetRepr, IpProto, Ipv4Repr, MacAddr, SeqNum, TcpFlags, TcpOptions, TcpRepr, UdpRepr,
    ethernet, ipv4, tcp, udp,
};

use super::Drops;
use super::ss::{self, Services, Show};
use crate::control::window::Window;
use crate::out::tests::printed;

const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ETHERNET: usize = 14;
const IP: usize = 20;

/// A stack whose cable ends at the test.
struct Host {
    stack: Stack,
    port: Port,
    window: Window,
    folder: PathBuf,
}

impl Host {
    fn new(cpus: u16, ring: usize, sysctls: &[(&str, &str)]) -> Host {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (wire, port) = wire::port(WireConfig::named("eth0").queues(cpus));
        let interface = Interface::new(wire).ring(ring).address("10.0.0.1/24").expect("an address");
        let builder = Stack::builder().cpus(cpus).mode(Mode::Polled).clock(ManualClock::new()).seed(1);
        let builder = sysctls.iter().fold(builder.interface(interface), |builder, (name, value)| {
            builder.sysctl(name, value).expect("a sysctl")
        });
        let stack = builder.build().expect("a stack");
        let window = Window::new(stack.clone(), Selector::Off);
        let name = format!("rxpath-proved-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Host { stack, port, window, folder: std::env::temp_dir().join(name) }
    }

    fn send(&self, frame: &[u8]) -> bool {
        self.port.send(self.stack.now(), frame).is_ok()
    }

    fn poll(&self) {
        while self.stack.poll(self.stack.now()).work > 0 {}
    }

    /// Writes the files as `rxpath proc --dir` does; gives the folder.
    fn proc(&self) -> &str {
        for (path, text) in &self.window.proc_files() {
            let file = self.folder.join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder is made");
            std::fs::write(file, text).expect("the file is written");
        }
        self.folder.to_str().expect("UTF-8")
    }

    /// What a shell prints in which `$dir` is the folder with the files.
    fn shell(&self, script: &str) -> String {
        let dir = self.proc();
        let mut command = Command::new("bash");
        command.args(["-euc", script]).env("dir", dir).env("PROC_ROOT", dir);
        command.env("NSTAT_HISTORY", self.folder.join("history"));
        let output = command.output().expect("bash starts");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// `nstat -az`, by name.
    fn nstat(&self) -> HashMap<String, u64> {
        let text = self.shell("nstat -az");
        let row = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        };
        text.lines().filter_map(row).collect()
    }

    /// `rxpath ethtool -S eth0`, by name.
    fn ethtool(&self) -> HashMap<String, i64> {
        let rows = self.window.interface("eth0").expect("the interface");
        rows.into_iter().map(|row| (row.name, row.value)).collect()
    }

    /// Columns of a line of softnet_stat, as the file has them.
    fn softnet(&self, cpu: usize) -> Vec<u64> {
        let text = self.shell("cat $dir/net/softnet_stat");
        let line = text.lines().nth(cpu).expect("a line for each Cpu");
        line.split(' ').map(|column| u64::from_str_radix(column, 16).expect("hexadecimal")).collect()
    }

    fn check(&self) {
        self.stack.ledger().check().unwrap_or_else(|imbalance| panic!("{imbalance}"));
        assert_eq!(self.stack.ledger().dropped_for(DropReason::NotSpecified), 0);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An IPv4 packet of the peer around a transport segment.
fn packet(proto: u8, segment: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + IP];
    let (dst, src) = (MacAddr([2, 0x72, 0x78, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    ethernet::emit(&mut frame, EthernetRepr { dst, src, ethertype: EtherType::IPV4 });
    let total_len = (IP + segment.len()) as u16;
    let repr = Ipv4Repr { src: PEER, dst: US, proto, ttl: 64, tos: 0, id: 1, df: true, total_len };
    ipv4::emit(&mut frame[ETHERNET..], repr);
    frame.extend_from_slice(segment);
    frame
}

/// A bare ACK of the peer from a port, for a connection that is not there.
fn stray(sport: u16) -> Vec<u8> {
    let mut segment = vec![0; 20];
    let repr = TcpRepr {
        sport,
        dport: 80,
        seq: SeqNum(1),
        ack: SeqNum(1),
        flags: TcpFlags::ACK,
        window: 1_000,
        urgent: 0,
        options: TcpOptions::default(),
    };
    tcp::emit(&mut segment, repr);
    tcp::fill_checksum(Addr::from(PEER), Addr::from(US), &mut segment);
    packet(IpProto::TCP, &segment)
}

/// A datagram of the peer to port 53.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 8];
    udp::emit(&mut segment, UdpRepr { sport: 1_000, dport: 53, len: (8 + payload.len()) as u16 });
    segment.extend_from_slice(payload);
    udp::fill_checksum(Addr::from(PEER), Addr::from(US), &mut segment);
    packet(IpProto::UDP, &segment)
}

/// 300 frames at once for a ring of 256 places, of which 255 can be posted.
#[test]
fn a_full_ring_is_seen_by_ethtool_and_in_dev() {
    if !need_tool("bash") {
        return;
    }
    let host = Host::new(1, 256, &[]);
    let taken = (0..300).filter(|_| host.send(&stray(1_000))).count();
    host.poll();
    assert_eq!(taken, 255);
    let stats = host.ethtool();
    let of = |name: &str| stats[name];
    assert_eq!((of("rx_missed_errors"), of("rx_queue_0_drops"), of("rx_no_buffer_count")), (45, 45, 0));
    assert_eq!((of("rx_packets"), of("rx_queue_0_packets")), (255, 255));
    let dev = host.shell("grep eth0: $dir/net/dev");
    let columns: Vec<&str> = dev.split_ascii_whitespace().collect();
    assert_eq!((columns[2], columns[4]), ("255", "45"), "packets and drop: {dev}");
    assert_eq!(host.stack.ledger().dropped_for(DropReason::RxMissed), 45);
    host.check();
}

/// Forty frames of forty flows come by queue 0; those whose flows Cpu 1 owns go to its backlog, which may have ten and one.
#[test]
fn a_full_backlog_is_column_two() {
    if !need_tool("bash") {
        return;
    }
    let host = Host::new(2, 256, &[("net.core.netdev_max_backlog", "10")]);
    let before = [host.softnet(0), host.softnet(1)];
    for sport in 1..=40 {
        host.port.send_to(0, host.stack.now(), &stray(sport), RxDesc::default()).expect("there is room");
    }
    host.poll();
    let after = [host.softnet(0), host.softnet(1)];
    let rise = |cpu: usize, column: usize| after[cpu][column - 1] - before[cpu][column - 1];
    let dropped = host.stack.ledger().dropped_for(DropReason::CpuBacklog);
    assert!(dropped > 0);
    assert_eq!((rise(0, 2), rise(1, 2)), (dropped, 0), "the Cpu that could not hand over counts");
    assert_eq!((rise(0, 10), rise(1, 10)), (0, 11), "what the other one took");
    assert_eq!(rise(0, 1) + rise(1, 1) + dropped, 40);
    host.check();
}

/// Thirty frames, and a budget of ten: a poll takes as many as its weight allows, and the round ends squeezed.
#[test]
fn a_budget_that_is_used_up_is_column_three() {
    if !need_tool("bash") {
        return;
    }
    let host = Host::new(1, 256, &[("net.core.netdev_budget", "10")]);
    (0..30).for_each(|_| assert!(host.send(&stray(1_000))));
    host.stack.poll(host.stack.now());
    assert_eq!(host.softnet(0)[..3], [30, 0, 1], "processed, dropped, time_squeeze");
    host.check();
}

/// One segment each: good for nobody, damaged, too short a header; one packet each: damaged, for another host, cut short.
#[test]
fn ip_and_tcp_errors_are_seen_by_nstat_and_in_snmp() {
    if !(need_tool("bash") && need_tool("nstat")) {
        return;
    }
    let host = Host::new(1, 256, &[]);
    let change = |at: usize, to: fn(u8) -> u8| {
        let mut frame = stray(1_000);
        frame[at] = to(frame[at]);
        frame
    };
    let tcp_damaged = change(ETHERNET + IP + 16, |byte| byte ^ 1);
    let tcp_header = change(ETHERNET + IP + 12, |_| 0x40);
    let ip_damaged = change(ETHERNET + 10, |byte| byte ^ 1);
    let mut for_another = change(ETHERNET + 19, |_| 99);
    ipv4::fill_checksum(&mut for_another[ETHERNET..ETHERNET + IP]);
    let mut cut_short = stray(1_000);
    cut_short.truncate(ETHERNET + IP + 10);
    for frame in [&stray(1_000), &tcp_damaged, &tcp_header, &ip_damaged, &for_another, &cut_short] {
        assert!(host.send(frame));
    }
    host.poll();
    let counters = host.nstat();
    let of = |name: &str| counters[name];
    assert_eq!((of("TcpInSegs"), of("TcpInErrs"), of("TcpInCsumErrors")), (3, 2, 1));
    assert_eq!((of("TcpOutRsts"), of("TcpOutSegs"), of("TcpRetransSegs")), (1, 1, 0), "the one that was in order");
    assert_eq!((of("IpInReceives"), of("IpInDelivers")), (6, 3));
    assert_eq!((of("IpInHdrErrors"), of("IpExtInCsumErrors")), (1, 1));
    assert_eq!((of("IpInAddrErrors"), of("IpExtInTruncatedPkts")), (1, 1));
    let lines = host.shell(r#"cat $dir/net/snmp | grep -E "^(Tcp|Ip):""#);
    assert_eq!(lines.lines().count(), 4, "{lines}");
    host.check();
}

/// The same by netstat, which knows no other folder than /proc.
#[test]
fn errors_are_seen_by_netstat() {
    if !(need_tool("bash") && need_tool("netstat") && need_tool("unshare") && need_netns()) {
        return;
    }
    let host = Host::new(1, 256, &[]);
    let mut damaged = stray(1_000);
    damaged[ETHERNET + IP + 16] ^= 1;
    for frame in [&stray(1_000), &stray(1_001), &damaged] {
        assert!(host.send(frame));
    }
    host.poll();
    let netstat = tool("netstat").expect("it was asked for");
    // The folder: what is bound over single files below /proc/net is gone with the next look-up.
    let bound = format!("mount --bind $dir/net /proc/$$/net && exec {} -s", netstat.display());
    let script = format!("unshare --user --map-root-user --mount bash -euc '{bound}'");
    let text = host.shell(&script);
    for line in [
        "3 segments received",
        "2 segments sent out",
        "0 segments retransmitted",
        "1 bad segments received",
        "2 resets sent",
        "3 total packets received",
    ] {
        assert!(text.lines().any(|found| found.trim() == line), "no {line:?} in:\n{text}");
    }
    host.check();
}

/// 400 datagrams for a socket that nobody reads, which may hold 212,992 bytes of truesize, 768 for each of them.
#[test]
fn a_full_receive_buffer_is_counted_and_known_to_its_socket() {
    if !(need_tool("bash") && need_tool("nstat")) {
        return;
    }
    let host = Host::new(1, 1_024, &[]);
    let socket = UdpSocket::bind(&host.stack, SocketAddr::from((US, 53))).expect("the port is free");
    (0..400).for_each(|_| assert!(host.send(&datagram(&[0; 64]))));
    host.poll();
    let counters = host.nstat();
    let lost = 400 - 212_992 / 768;
    assert_eq!((counters["UdpRcvbufErrors"], counters["UdpInErrors"], counters["UdpInDatagrams"]), (lost, lost, 0));
    assert_eq!(u64::from(socket.drops()), lost);
    assert_eq!(host.stack.ledger().dropped_for(DropReason::SocketRcvbuff), lost);
    let rows = host.window.sockets();
    let show = Show { udp: true, all: true, no_header: true, numeric: true, memory: true, ..Show::default() };
    let text = printed(|out| ss::print(out, &rows, show, &Services::default()));
    let memory = format!("skmem:(r{},rb212992,t0,tb212992,f0,w0,o0,bl0,d{lost})", (400 - lost) * 768);
    assert!(text.contains(&memory), "no {memory} in {text}");
    // Read, and counted as delivered only now.
    socket.set_nonblocking(true).expect("it is there");
    let read = std::iter::from_fn(|| socket.recv_from(&mut [0; 64]).ok()).count() as u64;
    assert_eq!(read + lost, 400);
    assert_eq!(host.nstat()["UdpInDatagrams"], read);
    host.check();
}

/// Every reason that packets were dropped for has its line, with how many.
#[test]
fn drops_are_listed_by_their_reasons() {
    let host = Host::new(1, 256, &[]);
    let mut damaged = stray(1_000);
    damaged[ETHERNET + IP + 16] ^= 1;
    for frame in [&stray(1_000), &damaged, &damaged, &datagram(b"nobody")] {
        assert!(host.send(frame));
    }
    host.poll();
    let drops = Drops::of(&host.stack.ledger());
    let mut rows: Vec<(&str, u64)> = drops.reasons.iter().map(|row| (row.reason.as_str(), row.packets)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [("NO_SOCKET", 2), ("TCP_CSUM", 2)]);
    assert!(drops.ledger.balanced && drops.ledger.dropped == 4, "{}", drops.ledger.text);
    host.check();
}
