//! The running kernel's TCP, through `std::net`, against applications on rxpath over a TAP in a private namespace.
#![cfg(target_os = "linux")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream as KernelStream};
use std::thread;
use std::time::Duration;

use rxpath::device::netns::{self, Rtnl};
use rxpath::device::tap::{Tap, TapConfig};
use rxpath::net::TcpListener;
use rxpath::rxpath_mem::PoolConfig;
use rxpath::{Device, Interface, Stack, StackBuilder};
use rxpath_sim::faults::{Faults, Faulty};
use sha2::{Digest, Sha256};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const MIB: usize = 1 << 20;

/// A stack on a TAP whose other end is the kernel's, in a namespace of this thread's own; None, having said so, where
/// that is not allowed.
fn stack(cpus: u16, faults: Option<(Faults, u64)>) -> Option<Stack> {
    Some(builder(cpus, faults)?.build().expect("a stack"))
}

fn builder(cpus: u16, faults: Option<(Faults, u64)>) -> Option<StackBuilder> {
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
    let device: Box<dyn Device> = match faults {
        Some((faults, seed)) => Box::new(Faulty::new(Box::new(tap), faults, seed)),
        None => Box::new(tap),
    };
    let interface = Interface::boxed(device).address("10.9.0.1/24").expect("an address");
    Some(Stack::builder().cpus(cpus).interface(interface))
}

/// Answers each connection on `port` with what it sends, until the stack goes down.
fn echo(stack: &Stack, port: u16) {
    let listener = TcpListener::bind(stack, SocketAddr::from((OURS, port))).expect("a free port");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut buf = vec![0; 128 * 1_024];
                while let Ok(n @ 1..) = stream.read(&mut buf) {
                    if stream.write_all(&buf[..n]).is_err() {
                        return;
                    }
                }
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
}

fn connect(port: u16) -> KernelStream {
    let stream = KernelStream::connect((OURS, port)).expect("a listener");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
    stream
}

/// Bytes that differ from connection to connection.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Sends `len` bytes and reads them back, both at the same time; the digests must be equal.
fn exchange(port: u16, seed: u64, len: usize) {
    let mut stream = connect(port);
    let data = pattern(seed, len);
    let sent = Sha256::digest(&data);
    let mut writing = stream.try_clone().expect("a second handle");
    let writer = thread::spawn(move || {
        writing.write_all(&data).expect("all of it is taken");
        writing.shutdown(Shutdown::Write).expect("half-close");
    });
    let (mut digest, mut total) = (Sha256::new(), 0);
    let mut buf = vec![0; 128 * 1_024];
    loop {
        match stream.read(&mut buf).expect("the echo goes on") {
            0 => break,
            n => {
                digest.update(&buf[..n]);
                total += n;
            }
        }
    }
    writer.join().expect("the writer");
    assert_eq!(total, len, "connection {seed}");
    assert_eq!(digest.finalize(), sent, "connection {seed}");
}

fn exchange_all(port: u16, connections: u64, len: usize) {
    let clients: Vec<_> = (0..connections).map(|seed| thread::spawn(move || exchange(port, seed, len))).collect();
    for client in clients {
        client.join().expect("a client");
    }
}

/// Waits for the last FINs, then checks that every packet is accounted for.
fn settle(stack: &Stack) {
    thread::sleep(Duration::from_millis(300));
    stack.shutdown();
    let ledger = stack.ledger();
    ledger.check().unwrap_or_else(|imbalance| panic!("{imbalance}\n{}", ledger.details()));
}

#[test]
fn sixty_four_connections_carry_sixteen_mebibytes_both_ways() {
    let Some(stack) = stack(2, None) else { return };
    echo(&stack, 7);
    exchange_all(7, 64, 16 * MIB);
    settle(&stack);
}

#[test]
fn data_arrive_whole_through_loss_reordering_duplication_and_corruption() {
    let Some(stack) = stack(1, Some((Faults::ROUGH, 11))) else { return };
    echo(&stack, 7);
    exchange_all(7, 8, MIB / 2);
    settle(&stack);
}

#[test]
fn a_hundred_readers_that_never_read_leave_a_fresh_connection_whole_and_alive() {
    // So little memory that they would take three times all of it, were each byte a slot.
    let pool = PoolConfig { slots: 2_048, head_slots: 1_024, large_slots: 64, reserve: 64 };
    let Some(stack) = builder(1, None).map(|builder| builder.pool(pool).build().expect("a stack")) else { return };
    let listener = TcpListener::bind(&stack, SocketAddr::from((OURS, 9))).expect("a free port");
    let mut kept = Vec::new();
    for _ in 0..100 {
        let client = connect(9);
        client.set_nodelay(true).expect("an option");
        kept.push((client, listener.accept().expect("a client").0));
    }
    // One byte at a time, and time in between, so that the kernel has nothing to put together.
    for _ in 0..60 {
        for (client, _) in &mut kept {
            client.write_all(b"x").expect("it is taken");
        }
        thread::sleep(Duration::from_millis(3));
    }
    let sent = 60 * kept.len() as u64;
    let unread = || stack.sockets().iter().map(|socket| u64::from(socket.row.rx_queue)).sum::<u64>();
    // What a busy machine lost on the way the kernel sends again, in its own time.
    for _ in 0..12_000 {
        if unread() == sent {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(unread(), sent, "all of it is kept");
    echo(&stack, 7);
    exchange(7, 1, 8 * MIB);
    assert_eq!(unread(), sent);
    drop(kept);
    settle(&stack);
}

#[test]
fn a_closed_port_refuses() {
    let Some(stack) = stack(1, None) else { return };
    let error = KernelStream::connect((OURS, 81)).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    settle(&stack);
}

#[test]
fn each_side_may_close_its_half() {
    let Some(stack) = stack(1, None) else { return };
    let listener = TcpListener::bind(&stack, SocketAddr::from((OURS, 80))).expect("a free port");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = Vec::new();
        stream.read_to_end(&mut request).expect("up to the client's FIN");
        stream.write_all(&request).expect("our half is still open");
        request.len()
    });
    let mut client = connect(80);
    client.write_all(&pattern(1, 100_000)).expect("taken");
    client.shutdown(Shutdown::Write).expect("half-close");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("up to the server's FIN");
    assert_eq!(server.join().expect("the server"), 100_000);
    assert_eq!(answer, pattern(1, 100_000));
    settle(&stack);
}

#[test]
fn closing_with_unread_data_resets_the_kernels_connection() {
    let Some(stack) = stack(1, None) else { return };
    let listener = TcpListener::bind(&stack, SocketAddr::from((OURS, 80))).expect("a free port");
    let mut client = connect(80);
    let (stream, _) = listener.accept().expect("a client");
    client.write_all(b"nobody reads this").expect("taken");
    let mut peeked = [0; 4];
    assert_eq!(stream.peek(&mut peeked).expect("it has arrived"), 4);
    drop(stream);
    let error = client.read(&mut [0; 10]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    settle(&stack);
}

#[test]
fn a_ping_pong_of_single_bytes_keeps_its_rhythm() {
    let Some(stack) = stack(1, None) else { return };
    echo(&stack, 7);
    let mut client = connect(7);
    client.set_nodelay(true).expect("an option");
    for round in 0..2_000u32 {
        let ping = [round as u8];
        client.write_all(&ping).expect("taken");
        let mut pong = [0];
        client.read_exact(&mut pong).expect("an answer");
        assert_eq!(pong, ping, "round {round}");
    }
    drop(client);
    settle(&stack);
}
