//! The running kernel's UDP, through `std::net`, against applications on rxpath over a TAP in a private namespace.
#![cfg(target_os = "linux")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket as KernelSocket};
use std::thread;
use std::time::{Duration, Instant};

use rxpath::device::netns::{self, Rtnl};
use rxpath::device::tap::{Tap, TapConfig};
use rxpath::net::{RawSocket, TcpListener, UdpSocket};
use rxpath::{Interface, Stack};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const PATIENCE: Duration = Duration::from_secs(20);

/// A stack on a TAP whose other end is the kernel's, in a namespace of this thread's own; None, having said so, where
/// that is not allowed.
fn stack(cpus: u16) -> Option<Stack> {
    if let Err(error) = netns::enter_private() {
        rxpath_testkit::skip(&format!("no private namespace: {error}"));
        return None;
    }
    let tap = match Tap::open(TapConfig { queues: cpus, ..TapConfig::default() }) {
        Ok(tap) => tap,
        Err(error) => {
            rxpath_testkit::skip(&format!("no TAP: {error}"));
            return None;
        }
    };
    let mut rtnl = Rtnl::open().expect("netlink");
    rtnl.add_address(tap.name(), KERNEL, 24).expect("the kernel's address");
    rtnl.set_up(tap.name()).expect("up");
    let interface = Interface::new(tap).address("10.9.0.1/24").expect("an address");
    Some(Stack::builder().cpus(cpus).interface(interface).build().expect("a stack"))
}

fn kernel_socket() -> KernelSocket {
    let socket = KernelSocket::bind((KERNEL, 0)).expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn ours(stack: &Stack, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(stack, SocketAddr::from((OURS, port))).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Checks that every packet is accounted for.
fn settle(stack: &Stack) {
    thread::sleep(Duration::from_millis(100));
    stack.shutdown();
    let ledger = stack.ledger();
    ledger.check().unwrap_or_else(|imbalance| panic!("{imbalance}\n{}", ledger.details()));
}

/// Bytes that tell which datagram they are of.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + seed * 13) as u8).collect()
}

#[test]
fn datagrams_of_every_length_go_there_and_back() {
    let Some(stack) = stack(2) else { return };
    let server = ours(&stack, 7);
    let echo = thread::spawn(move || {
        let mut buf = vec![0; 65_536];
        loop {
            let (len, from) = server.recv_from(&mut buf).expect("a datagram");
            server.send_to(&buf[..len], from).expect("on the link");
            if len == 3 {
                return;
            }
        }
    });
    let client = kernel_socket();
    client.connect((OURS, 7)).expect("a peer");
    let mut buf = vec![0; 65_536];
    // Whole frames, and what leaves and comes in fragments.
    for (seed, len) in [0, 1, 68, 69, 1_000, 1_472, 1_473, 9_000, 40_000, 65_507].into_iter().enumerate() {
        let data = pattern(seed, len);
        client.send(&data).expect("sent");
        let back = client.recv(&mut buf).expect("the echo");
        assert_eq!(buf[..back], data, "{len} bytes");
    }
    client.send(b"end").expect("sent");
    assert_eq!(client.recv(&mut buf).expect("the echo"), 3);
    echo.join().expect("the server");
    settle(&stack);
}

#[test]
fn a_closed_port_refuses_in_both_directions() {
    let Some(stack) = stack(1) else { return };
    let client = kernel_socket();
    client.connect((OURS, 81)).expect("a peer");
    client.send(b"anybody?").expect("sent");
    assert_eq!(client.recv(&mut [0; 8]).expect_err("nobody").kind(), ErrorKind::ConnectionRefused);
    let mine = ours(&stack, 7);
    mine.connect((KERNEL, 82)).expect("a peer");
    mine.send(b"anybody?").expect("sent");
    let error = mine.recv(&mut [0; 8]).expect_err("nobody");
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::ConnectionRefused, Some(111)));
    // Told once; the next send goes out, and its error is told by the one after.
    mine.send(b"anybody?").expect("sent");
    let until = Instant::now() + PATIENCE;
    let error = loop {
        match mine.take_error().expect("no error of its own") {
            Some(error) => break error,
            None => assert!(Instant::now() < until, "no error came"),
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    settle(&stack);
}

#[test]
fn errors_are_those_of_std() {
    let Some(stack) = stack(1) else { return };
    let (mine, theirs) = (ours(&stack, 0), kernel_socket());
    // Each call on both kinds of socket: what fails must fail alike.
    let same = |what: &str, mine: std::io::Result<usize>, theirs: std::io::Result<usize>| {
        let (mine, theirs) = (mine.expect_err(what), theirs.expect_err(what));
        assert_eq!(mine.kind(), theirs.kind(), "{what}");
        // Some have words of their own in the place of a number.
        assert!(mine.raw_os_error().is_none_or(|number| Some(number) == theirs.raw_os_error()), "{what}: {mine}");
    };
    let peers = [SocketAddr::from((KERNEL, 9)), SocketAddr::from((OURS, 9))];
    same("not connected", mine.send(b"x"), theirs.send(b"x"));
    same("too long", mine.send_to(&[0; 65_508], peers[0]), theirs.send_to(&[0; 65_508], peers[1]));
    let all = SocketAddr::from(([10, 9, 0, 255], 9));
    same("broadcast", mine.send_to(b"x", all), theirs.send_to(b"x", all));
    same("broadcast", mine.connect(all).map(|()| 0), theirs.connect(all).map(|()| 0));
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 9));
    same("no route", mine.send_to(b"x", nowhere), theirs.send_to(b"x", nowhere));
    same("port 0", mine.send_to(b"x", (KERNEL, 0)), theirs.send_to(b"x", (OURS, 0)));
    same("no peer", mine.peer_addr().map(|_| 0), theirs.peer_addr().map(|_| 0));
    let bind_mine = |addr: (Ipv4Addr, u16)| UdpSocket::bind(&stack, addr).map(|_| 0);
    let bind_theirs = |addr: (Ipv4Addr, u16)| KernelSocket::bind(addr).map(|_| 0);
    let taken = |socket: SocketAddr| socket.port();
    same(
        "taken",
        bind_mine((OURS, taken(mine.local_addr().expect("bound")))),
        bind_theirs((KERNEL, taken(theirs.local_addr().expect("bound")))),
    );
    same("not local", bind_mine((Ipv4Addr::new(10, 9, 0, 77), 1)), bind_theirs((Ipv4Addr::new(10, 9, 0, 77), 1)));
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let twice_mine = || {
        mine.join_multicast_v4(&group, &OURS).expect("joined");
        mine.join_multicast_v4(&group, &OURS).map(|()| 0)
    };
    let twice_theirs = || {
        theirs.join_multicast_v4(&group, &KERNEL).expect("joined");
        theirs.join_multicast_v4(&group, &KERNEL).map(|()| 0)
    };
    same("joined", twice_mine(), twice_theirs());
    let other = Ipv4Addr::new(239, 9, 9, 9);
    let left_mine = mine.leave_multicast_v4(&other, &OURS).map(|()| 0);
    same("not joined", left_mine, theirs.leave_multicast_v4(&other, &KERNEL).map(|()| 0));
    let any = Ipv4Addr::UNSPECIFIED;
    same(
        "no way",
        mine.join_multicast_v4(&other, &any).map(|()| 0),
        theirs.join_multicast_v4(&other, &any).map(|()| 0),
    );
    let wrong_mine = mine.join_multicast_v4(&OURS, &OURS).map(|()| 0);
    same("no group", wrong_mine, theirs.join_multicast_v4(&OURS, &KERNEL).map(|()| 0));
    for socket_timeout in [mine.set_read_timeout(Some(Duration::ZERO)), theirs.set_read_timeout(Some(Duration::ZERO))] {
        assert_eq!(socket_timeout.expect_err("zero").kind(), ErrorKind::InvalidInput);
    }
    mine.set_nonblocking(true).expect("an option");
    theirs.set_nonblocking(true).expect("an option");
    same("nothing there", mine.recv(&mut [0; 9]), theirs.recv(&mut [0; 9]));
    settle(&stack);
}

#[test]
fn groups_and_broadcasts_reach_both_sides() {
    let Some(stack) = stack(1) else { return };
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let (mine, theirs) = (UdpSocket::bind(&stack, "0.0.0.0:700").expect("free"), KernelSocket::bind("0.0.0.0:700"));
    let theirs = theirs.expect("free");
    mine.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    theirs.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    mine.join_multicast_v4(&group, &OURS).expect("joined");
    theirs.join_multicast_v4(&group, &KERNEL).expect("joined");
    let (from_mine, from_theirs) = (ours(&stack, 0), kernel_socket());
    let mut buf = [0; 64];
    from_theirs.send_to(b"from the kernel", (group, 700)).expect("sent");
    let (len, from) = mine.recv_from(&mut buf).expect("the group's");
    assert_eq!((&buf[..len], from), (&b"from the kernel"[..], from_theirs.local_addr().expect("bound")));
    // It came back to the kernel's own member, too.
    assert_eq!(theirs.recv(&mut buf).expect("looped"), len);
    from_mine.send_to(b"from us", (group, 700)).expect("sent");
    for read in [mine.recv(&mut buf), theirs.recv(&mut buf)] {
        assert_eq!(read.expect("the group's"), 7);
    }
    from_mine.set_broadcast(true).expect("an option");
    from_theirs.set_broadcast(true).expect("an option");
    for (send, len) in
        [(from_mine.send_to(b"all", "10.9.0.255:700"), 3), (from_theirs.send_to(b"them all", "10.9.0.255:700"), 8)]
    {
        send.expect("permitted");
        for read in [mine.recv(&mut buf), theirs.recv(&mut buf)] {
            assert_eq!(read.expect("the broadcast"), len);
        }
    }
    settle(&stack);
}

#[test]
fn a_raw_socket_pings_the_kernel() {
    let Some(stack) = stack(1) else { return };
    let raw = RawSocket::open(&stack, 1).expect("ICMP");
    raw.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // Only echo replies, as ping does.
    raw.set_icmp_filter(!1);
    let mut request = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    request.extend_from_slice(&pattern(1, 56));
    let sum = request.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    request[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    raw.send_to(&request, KERNEL).expect("on the link");
    let mut buf = [0; 128];
    let (len, from) = raw.recv_from(&mut buf).expect("the reply");
    assert_eq!((len, from), (20 + 64, KERNEL.into()));
    assert_eq!((buf[20], &buf[24..28], &buf[28..len]), (0, &request[4..8], &request[8..]));
    drop(raw);
    settle(&stack);
}

#[test]
fn many_clients_are_served_at_once_beside_tcp() {
    let Some(stack) = stack(2) else { return };
    // A TCP listener at the same port is of no concern.
    let _listener = TcpListener::bind(&stack, SocketAddr::from((OURS, 7))).expect("free");
    let server = ours(&stack, 7);
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let server = server.try_clone().expect("a handle");
            thread::spawn(move || {
                let mut buf = [0; 2_048];
                while let Ok((len, from)) = server.recv_from(&mut buf) {
                    if server.send_to(&buf[..len], from).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    let clients: Vec<_> = (0..8)
        .map(|seed| {
            thread::spawn(move || {
                let client = kernel_socket();
                client.connect((OURS, 7)).expect("a peer");
                let mut buf = [0; 2_048];
                for round in 0..200 {
                    let data = pattern(seed * 1_000 + round, 16 + round);
                    client.send(&data).expect("sent");
                    let len = client.recv(&mut buf).expect("the echo");
                    assert_eq!(buf[..len], data);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    stack.shutdown();
    for worker in workers {
        worker.join().expect("a worker ends with the stack");
    }
    settle(&stack);
}
