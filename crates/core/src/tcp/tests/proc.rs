//! What `/proc` says of what happened on the wire.

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::TcpFlags;

use super::lab::{ACK, Lab, Peer, SYN};

/// The value that a text in the form of `/proc/net/snmp` gives under a group and a name.
fn value(text: &str, group: &str, name: &str) -> u64 {
    let lines: Vec<&str> = text.lines().filter(|line| line.split(':').next() == Some(group)).collect();
    let [names, values] = lines[..] else { panic!("{group}: {} lines\n{text}", lines.len()) };
    let column = names.split_ascii_whitespace().position(|word| word == name).expect("the counter is printed");
    values.split_ascii_whitespace().nth(column).and_then(|value| value.parse().ok()).expect("a number")
}

/// The row of a connection in `/proc/net/tcp`, by the peer's port: its columns.
fn row(lab: &Lab, port: u16) -> Vec<String> {
    let text = lab.stack.proc_tcp(lab.now);
    let remote = format!(":{port:04X}");
    let of_port = |line: &&str| line.split_ascii_whitespace().nth(2).is_some_and(|address| address.ends_with(&remote));
    let line = text.lines().skip(1).find(of_port).expect("the connection is listed");
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

#[test]
fn snmp_and_netstat_tell_what_happened() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    // Data, a segment that is broken, one for a port where nobody listens, and a packet with a broken IP header.
    peer.data(&mut lab, b"data");
    let mut broken = lab.frame(peer.repr(ACK), b"broken");
    broken[34 + 16] ^= 1;
    lab.put(&broken);
    lab.segment(Peer::new(40_001, 81).repr(SYN), &[]);
    let mut header = lab.frame(peer.repr(ACK), b"header");
    header[14 + 10] ^= 1;
    lab.put(&header);
    lab.run();
    // And data of ours that is lost.
    lab.send(&sock, b"answer");
    lab.wait(300);
    let snmp = lab.stack.proc_snmp();
    let of = |group, name| value(&snmp, group, name);
    assert_eq!((of("Ip", "InReceives"), of("Ip", "InHdrErrors"), of("Ip", "InDelivers")), (6, 1, 5));
    assert_eq!((of("Tcp", "PassiveOpens"), of("Tcp", "CurrEstab")), (1, 1));
    assert_eq!((of("Tcp", "InSegs"), of("Tcp", "InErrs"), of("Tcp", "InCsumErrors")), (5, 1, 1));
    assert_eq!((of("Tcp", "OutRsts"), of("Tcp", "RetransSegs")), (1, 1));
    let sent_again = of("Tcp", "RetransSegs");
    assert_eq!(of("Ip", "OutRequests"), of("Tcp", "OutSegs") + sent_again, "what is sent again counts apart");
    let netstat = lab.stack.proc_netstat();
    assert_eq!(value(&netstat, "TcpExt", "TCPTimeouts"), 1);
    assert_eq!(value(&netstat, "TcpExt", "TCPOrigDataSent"), 1);
    assert_eq!(value(&netstat, "IpExt", "InCsumErrors"), 1);
    assert_eq!(value(&netstat, "IpExt", "InOctets"), lab.count(Counter::IpExtInOctets));
}

#[test]
fn the_receive_queue_is_as_deep_as_what_nobody_read() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let depth = |lab: &Lab| row(lab, 40_000)[4].clone();
    assert_eq!(depth(&lab), "00000000:00000000");
    peer.data(&mut lab, b"seven !");
    peer.data_at(&mut lab, 5, b"not in order");
    assert_eq!(depth(&lab), "00000000:00000007", "what waits out of order cannot be read");
    lab.recv(&sock, 3).expect("a part");
    assert_eq!(depth(&lab), "00000000:00000004");
    lab.recv(&sock, 100).expect("the rest");
    lab.send(&sock, b"five!");
    assert_eq!(depth(&lab), "00000005:00000000", "and what the peer did not acknowledge");
    let mut second = Peer::new(40_001, 80);
    lab.segment(second.repr(SYN), &[]);
    let synack = std::iter::from_fn(|| lab.sent()).last().expect("a SYN-ACK");
    (second.seq, second.ack) = (second.seq + 1, synack.seq + 1);
    lab.segment(second.repr(ACK), &[]);
    let listening = lab.stack.proc_tcp(lab.now).lines().nth(1).expect("the listener comes first").to_owned();
    assert!(listening.contains(" 0A 00000000:00000001 "), "one connection waits to be accepted: {listening}");
}

#[test]
fn what_a_socket_drops_is_counted_as_its_own() {
    let mut lab = Lab::with(|config| config.sysctl.set("net.ipv4.tcp_rmem", "4096 8192 8192").expect("a sysctl"));
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let mut other = Peer::new(40_001, 80);
    let _other = other.connect(&mut lab, &listener);
    let drops = |lab: &Lab, port: u16| {
        let sockets = lab.stack.sockets(lab.now);
        sockets.iter().find(|view| view.row.remote.port() == port).map(|view| view.drops).expect("the connection")
    };
    // Out of window, a reset that is not exact, old data: three drops of its own.
    peer.data_at(&mut lab, 1_000_000, b"far away");
    let mut reset = peer.repr(TcpFlags::RST);
    reset.seq += 5;
    lab.segment(reset, &[]);
    peer.data(&mut lab, b"fresh");
    peer.data_at(&mut lab, -5, b"fresh");
    assert_eq!((drops(&lab, 40_000), drops(&lab, 40_001)), (3, 0));
    // Nobody reads: what does not fit the buffer any more is refused.
    let (before, all) = (drops(&lab, 40_000), lab.stack.ledger().dropped());
    for _ in 0..40 {
        let offered = sock.lock.user().rx.offered();
        let len = (offered as usize).clamp(1, 1_000);
        peer.data(&mut lab, &vec![1; len]);
        if drops(&lab, 40_000) > before {
            break;
        }
    }
    let refused = lab.stack.ledger().dropped() - all;
    assert_eq!((refused > 0, u64::from(drops(&lab, 40_000) - before)), (true, refused));
    // The application owns the socket, and the backlog is full.
    let before = drops(&lab, 40_000);
    let owned = sock.lock.user();
    for _ in 0..400 {
        let mut repr = peer.repr(ACK);
        repr.seq += 1;
        lab.segment(repr, &[1; 1_000]);
        peer.seq += 2;
    }
    let _ = owned.release();
    let full = lab.dropped(DropReason::SocketBacklog);
    assert_eq!((full > 0, lab.count(Counter::TcpExtTCPBacklogDrop)), (true, full));
    assert!(u64::from(drops(&lab, 40_000) - before) >= full);
    assert_eq!(drops(&lab, 40_001), 0);
    while lab.sent().is_some() {}
}
