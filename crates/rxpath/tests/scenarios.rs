//! The same scenarios in all four ways of running a stack: two Cpus with softirq threads, application threads, a poll
//! loop, virtual time. After each, both ledgers balance and nothing is missing.
#![allow(clippy::print_stderr, reason = "a test that hangs says where")]

mod world;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use rxpath::Stack;
use rxpath::clock::Clock;
use rxpath::net::{Keepalive, RecvFlags, SendFlags, SockOptions, TcpListener, TcpStream};
use rxpath::rxpath_trace::Counter;

use world::{Setup, Way, World, server};

/// Runs one scenario in each way.
macro_rules! four_ways {
    ($($(#[$doc:meta])* $name:ident $(with $setup:expr)?;)*) => {$(
        mod $name {
            use super::*;

            fn run(way: Way) {
                #[allow(unused_mut, unused_assignments)]
                let mut setup = Setup::default();
                $(setup = $setup;)?
                let world = World::new(way, setup);
                scenario::$name(&world);
                if !world.server.is_down() {
                    world.check();
                }
            }

            #[test]
            fn two_cpus() {
                run(Way::Threads);
            }

            #[test]
            fn application_threads() {
                run(Way::AppThreads);
            }

            #[test]
            fn poll_mode() {
                run(Way::Polled);
            }

            #[test]
            fn simulation() {
                run(Way::Simulation);
            }
        }
    )*};
}

four_ways! {
    echo;
    busy_readers;
    refused;
    bulk;
    bulk_offload with Setup { offload: true, ..Setup::default() };
    half_close;
    unread_data_resets;
    zero_linger_resets;
    linger_waits;
    reads_wait_and_end;
    read_timeout;
    write_timeout;
    connect_timeout;
    many_connections;
    non_blocking;
    peek;
    options_and_their_ranges;
    flags_of_reads;
    flags_of_writes;
    urgent_bytes;
    listener_closes;
    write_to_a_closed_peer;
    clones_work_side_by_side;
    shutdown_ends_blocked_calls;
    lossy_ring with Setup { ring: 16, pause: false, ..Setup::default() };
    one_queue_for_two_cpus with Setup { cpus: Some(2), queues: Some(1), ..Setup::default() };
    missteered with Setup { missteered: true, ..Setup::default() };
    slow_reader with Setup { rmem: "4096 16384 16384", ..Setup::default() };
}

/// The byte at `offset` of a stream.
fn pattern(offset: usize) -> u8 {
    (offset as u32).wrapping_mul(2_654_435_761).rotate_right(13) as u8
}

fn send_pattern(mut stream: &TcpStream, len: usize, chunk: usize) {
    let mut sent = 0;
    while sent < len {
        let bytes: Vec<u8> = (sent..len.min(sent + chunk)).map(pattern).collect();
        stream.write_all(&bytes).expect("the peer reads");
        sent += bytes.len();
    }
}

fn expect_pattern(mut stream: &TcpStream, len: usize, chunk: usize) {
    let mut buf = vec![0; chunk];
    let mut got = 0;
    while got < len {
        let count = stream.read(&mut buf).expect("the peer writes");
        assert!(count > 0, "the stream ends at {got} of {len}");
        for (index, &byte) in buf[..count].iter().enumerate() {
            assert_eq!(byte, pattern(got + index), "byte {} of the stream", got + index);
        }
        got += count;
    }
    assert_eq!(got, len);
}

fn expect_eof(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).expect("the end of the stream"), 0);
}

mod scenario {
    use super::*;

    const MIB: usize = 1 << 20;

    pub fn echo(world: &World) {
        let listener = TcpListener::bind(&world.server, server(7)).expect("a listener");
        assert_eq!(listener.local_addr().expect("an address"), server(7));
        world.run(vec![
            Box::new(|| {
                let (mut stream, peer) = listener.accept().expect("a connection");
                assert_eq!(stream.peer_addr().expect("connected"), peer);
                assert_eq!(stream.local_addr().expect("an address"), server(7));
                let mut word = [0; 5];
                stream.read_exact(&mut word).expect("a word");
                stream.write_all(&word).expect("room");
                expect_eof(&stream);
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(7)).expect("a connection");
                assert_eq!(stream.peer_addr().expect("connected"), server(7));
                assert_eq!(stream.local_addr().expect("an address").ip().to_string(), "10.0.0.2");
                assert!(stream.take_error().expect("always").is_none());
                stream.write_all(b"hello").expect("room");
                let mut word = [0; 5];
                stream.read_exact(&mut word).expect("the echo");
                assert_eq!(&word, b"hello");
            }),
        ]);
    }

    pub fn refused(world: &World) {
        world.run(vec![Box::new(|| {
            let error = TcpStream::connect(&world.client, server(81)).expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let own = TcpStream::connect(&world.client, "10.0.0.2:81").expect_err("there is no loopback interface");
            assert_eq!(own.kind(), ErrorKind::Unsupported);
            let far = TcpStream::connect(&world.client, "192.0.2.1:81").expect_err("there is no route");
            assert_eq!(far.kind(), ErrorKind::NetworkUnreachable);
        })]);
        let listener = TcpListener::bind(&world.server, server(82)).expect("a listener");
        let again = TcpListener::bind(&world.server, server(82)).expect_err("taken");
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
        let other = TcpListener::bind(&world.server, "10.9.9.9:82").expect_err("not ours");
        assert_eq!(other.kind(), ErrorKind::AddrNotAvailable);
        drop(listener);
        let listener = TcpListener::bind(&world.server, server(82)).expect("free again");
        world.run(vec![Box::new(|| {
            let options = SockOptions::default();
            let first = TcpStream::connect_from(&world.client, 50_000, server(82), &options).expect("a connection");
            assert_eq!(first.local_addr().expect("it stands").port(), 50_000);
            let taken =
                TcpStream::connect_from(&world.client, 50_000, server(82), &options).expect_err("between the same two");
            assert_eq!(taken.kind(), ErrorKind::AddrNotAvailable);
            let given = TcpStream::connect(&world.client, server(82)).expect("another port");
            let port = given.local_addr().expect("it stands").port();
            let taken =
                TcpStream::connect_from(&world.client, port, server(82), &options).expect_err("given to another");
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        })]);
        drop(listener);
    }

    pub fn busy_readers(world: &World) {
        const ROUNDS: usize = 200;
        // Where other threads receive, too, it may take some rounds until a reader is the first.
        const MOST: usize = 100 * ROUNDS;
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        let taken = |stack: &Stack| stack.snapshot()[Counter::TcpExtBusyPollRxPackets];
        let polled = || world.way == Way::Simulation || taken(&world.client) + taken(&world.server) > 0;
        let busy = |stream: &TcpStream| {
            stream.set_busy_poll(Duration::from_millis(5)).expect("not too long");
            stream.set_prefer_busy_poll(true);
            stream.set_busy_poll_budget(16);
            assert_eq!(stream.busy_poll(), Duration::from_millis(5));
            assert_ne!(stream.incoming_napi_id(), 0, "the handshake came by some queue");
        };
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                busy(&stream);
                let mut word = [0; 5];
                loop {
                    match stream.read_exact(&mut word) {
                        Ok(()) => stream.write_all(&word).expect("room"),
                        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
                        Err(error) => panic!("a question: {error}"),
                    }
                }
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                busy(&stream);
                let mut word = [0; 5];
                for _ in (0..MOST).take_while(|&round| round < ROUNDS || !polled()) {
                    stream.write_all(b"hello").expect("room");
                    stream.read_exact(&mut word).expect("the echo");
                }
                stream.shutdown(Shutdown::Write).expect("it stands");
                assert_eq!(stream.read(&mut word).expect("the end"), 0);
            }),
        ]);
        assert!(polled(), "readers have polled");
    }

    pub fn bulk(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (stream, _) = listener.accept().expect("a connection");
                expect_pattern(&stream, MIB, 10_000);
                send_pattern(&stream, MIB, 50_000);
                expect_eof(&stream);
            }),
            Box::new(|| {
                let stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                send_pattern(&stream, MIB, 65_536);
                expect_pattern(&stream, MIB, 4_096);
            }),
        ]);
    }

    pub fn bulk_offload(world: &World) {
        bulk(world);
        let frames: u64 = world.client.ledger().transmitted();
        assert!(frames < 2_000, "{frames} frames: super-frames carry more than one segment");
    }

    pub fn half_close(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut text = String::new();
                stream.read_to_string(&mut text).expect("up to the FIN");
                assert_eq!(text, "request");
                send_pattern(&stream, 100_000, 3_000);
                stream.shutdown(Shutdown::Write).expect("open until now");
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                stream.write_all(b"request").expect("room");
                stream.shutdown(Shutdown::Write).expect("open until now");
                let late = stream.write(b"more").expect_err("writing is over");
                assert_eq!(late.kind(), ErrorKind::BrokenPipe);
                expect_pattern(&stream, 100_000, 1_000);
                expect_eof(&stream);
                expect_eof(&stream);
            }),
        ]);
    }

    pub fn unread_data_resets(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut first = [0];
                stream.read_exact(&mut first).expect("the first byte");
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                stream.write_all(b"two words").expect("room");
                let error = stream.read(&mut [0; 16]).expect_err("the peer went without reading all");
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                assert_eq!(stream.read(&mut [0; 16]).expect("the error is told once"), 0);
                assert_eq!(stream.peer_addr().expect_err("over").kind(), ErrorKind::NotConnected);
                assert_eq!(stream.write(b"x").expect_err("over").kind(), ErrorKind::BrokenPipe);
                assert_eq!(stream.shutdown(Shutdown::Both).expect_err("over").kind(), ErrorKind::NotConnected);
            }),
        ]);
    }

    pub fn zero_linger_resets(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let error = stream.read(&mut [0; 16]).expect_err("a reset");
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }),
            Box::new(|| {
                let stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                stream.set_linger(Some(Duration::ZERO)).expect("always");
                assert_eq!(stream.linger().expect("always"), Some(Duration::ZERO));
            }),
        ]);
    }

    pub fn linger_waits(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (stream, _) = listener.accept().expect("a connection");
                expect_pattern(&stream, 300_000, 10_000);
                expect_eof(&stream);
            }),
            Box::new(|| {
                let stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                stream.set_linger(Some(Duration::from_secs(60))).expect("always");
                send_pattern(&stream, 300_000, 100_000);
                stream.set_nonblocking(true).expect("always");
                let sock = stream.sock().clone();
                drop(stream);
                let left = world.client.core().with(&sock, 0, world.client.now(), |sk| sk.unacknowledged());
                assert_eq!(left, 0, "the peer has everything, whether calls wait or not");
            }),
        ]);
    }

    pub fn reads_wait_and_end(world: &World) {
        const PAUSE: Duration = Duration::from_millis(30);
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut buf = [0; 2];
                for last in [false, true] {
                    let before = world.server.now();
                    stream.write_all(b"go").expect("room");
                    let count = stream.read(&mut buf).expect("bytes, or the end");
                    assert!(world.server.now() - before >= PAUSE.as_nanos() as u64, "it waited for what was to come");
                    if last {
                        assert_eq!(count, 0, "the end");
                    } else {
                        assert_eq!(&buf[..count], b"ab", "as much as there is room for");
                        let count = stream.read(&mut buf).expect("what is there is there at once");
                        assert_eq!(&buf[..count], b"c");
                    }
                }
                assert_eq!(stream.read(&mut buf).expect("the end stays the end"), 0);
                assert_eq!(stream.read(&mut []).expect("nothing asked for"), 0);
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                let mut go = [0; 2];
                for last in [false, true] {
                    stream.set_read_timeout(None).expect("none");
                    stream.read_exact(&mut go).expect("the reader is there");
                    stream.set_read_timeout(Some(PAUSE)).expect("a timeout");
                    assert_eq!(stream.read(&mut go).expect_err("nothing").kind(), ErrorKind::WouldBlock);
                    if last {
                        stream.shutdown(Shutdown::Write).expect("connected");
                    } else {
                        stream.write_all(b"abc").expect("room");
                    }
                }
            }),
        ]);
    }

    pub fn read_timeout(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                expect_eof(&stream);
                assert_eq!(stream.write(b"").expect("nothing"), 0);
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                assert_eq!(
                    stream.set_read_timeout(Some(Duration::ZERO)).expect_err("zero").kind(),
                    ErrorKind::InvalidInput
                );
                let timeout = Duration::from_millis(30);
                stream.set_read_timeout(Some(timeout)).expect("a timeout");
                assert_eq!(stream.read_timeout().expect("always"), Some(timeout));
                let before = world.client.now();
                let error = stream.read(&mut [0; 16]).expect_err("nothing comes");
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(world.client.now() - before >= 30_000_000, "not before its time");
            }),
        ]);
    }

    pub fn write_timeout(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                // Waits for the writer to have given up, then reads what it got rid of.
                let mut len = [0; 8];
                let (mut control, _) = listener.accept().expect("a second connection");
                control.read_exact(&mut len).expect("a number");
                let len = u64::from_be_bytes(len) as usize;
                expect_pattern(&stream, len, 65_536);
                assert_eq!(stream.read(&mut [0; 1]).expect("the end"), 0);
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                stream.set_write_timeout(Some(Duration::from_millis(50))).expect("a timeout");
                let mut sent = 0;
                let error = loop {
                    let bytes: Vec<u8> = (sent..sent + MIB).map(pattern).collect();
                    match stream.write(&bytes) {
                        Ok(count) => sent += count,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(sent > 64 * 1_024, "{sent} bytes fitted");
                let mut control = TcpStream::connect(&world.client, server(9)).expect("a second connection");
                control.write_all(&(sent as u64).to_be_bytes()).expect("room");
            }),
        ]);
    }

    pub fn connect_timeout(world: &World) {
        world.run(vec![Box::new(|| {
            let nobody = "10.0.0.77:80".parse().expect("an address");
            let before = world.client.now();
            let error =
                TcpStream::connect_timeout(&world.client, &nobody, Duration::from_millis(40)).expect_err("nobody");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(world.client.now() - before >= 40_000_000, "not before its time");
            let zero = TcpStream::connect_timeout(&world.client, &nobody, Duration::ZERO).expect_err("zero");
            assert_eq!(zero.kind(), ErrorKind::InvalidInput);
            // What waits for the neighbour's address ends when that is given up.
            world.client.run_for(Duration::from_secs(4)).expect("the stack is up");
        })]);
    }

    pub fn many_connections(world: &World) {
        const COUNT: usize = 60;
        let listener = TcpListener::bind(&world.server, "0.0.0.0:9").expect("a listener");
        world.run(vec![
            Box::new(|| {
                for stream in listener.incoming().take(COUNT) {
                    let mut stream = stream.expect("a connection");
                    let mut number = [0; 4];
                    stream.read_exact(&mut number).expect("a number");
                    stream.write_all(&number).expect("room");
                }
            }),
            Box::new(|| {
                let connect = |number: usize| {
                    let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                    stream.write_all(&(number as u32).to_be_bytes()).expect("room");
                    stream
                };
                let streams: Vec<TcpStream> = (0..COUNT).map(connect).collect();
                for (number, mut stream) in streams.into_iter().enumerate() {
                    let mut answer = [0; 4];
                    stream.read_exact(&mut answer).expect("the answer");
                    assert_eq!(u32::from_be_bytes(answer) as usize, number);
                    expect_eof(&stream);
                }
            }),
        ]);
    }

    pub fn non_blocking(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        listener.set_nonblocking(true).expect("always");
        assert_eq!(listener.accept().expect_err("nobody yet").kind(), ErrorKind::WouldBlock);
        let wait = |stack: &rxpath::Stack| stack.run_for(Duration::from_millis(1)).expect("the stack is up");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = loop {
                    match listener.accept() {
                        Ok(accepted) => break accepted,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                    wait(&world.server);
                };
                stream.set_nonblocking(true).expect("always");
                let (mut got, mut buf) = (0, [0; 5_000]);
                loop {
                    match stream.read(&mut buf) {
                        Ok(0) => break,
                        Ok(count) => {
                            assert!(buf[..count].iter().enumerate().all(|(i, &byte)| byte == pattern(got + i)));
                            got += count;
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            wait(&world.server);
                        }
                    }
                }
                assert_eq!(got, MIB);
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                stream.set_nonblocking(true).expect("always");
                assert_eq!(stream.read(&mut [0; 1]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
                let bytes: Vec<u8> = (0..MIB).map(pattern).collect();
                let (mut sent, mut refused) = (0, 0);
                while sent < MIB {
                    match stream.write(&bytes[sent..]) {
                        Ok(count) => sent += count,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            refused += 1;
                            wait(&world.client);
                        }
                    }
                }
                assert!(refused > 0, "a mebibyte does not fit the send buffer at once");
            }),
        ]);
    }

    pub fn peek(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut buf = [0; 3];
                assert_eq!(stream.peek(&mut buf).expect("bytes"), 3);
                assert_eq!(&buf, b"abc");
                assert_eq!(stream.peek(&mut buf).expect("the same bytes"), 3);
                assert_eq!(&buf, b"abc");
                let mut all = String::new();
                stream.read_to_string(&mut all).expect("all");
                assert_eq!(all, "abcdef");
                assert_eq!(stream.peek(&mut buf).expect("the end"), 0);
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                stream.set_nodelay(true).expect("always");
                assert!(stream.nodelay().expect("always"));
                stream.write_all(b"abcdef").expect("room");
            }),
        ]);
    }

    pub fn options_and_their_ranges(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        assert_eq!(listener.ttl().expect("always"), 64);
        listener.set_ttl(70).expect("a time to live");
        assert_eq!(listener.set_ttl(0).expect_err("none").kind(), ErrorKind::InvalidInput);
        assert_eq!(listener.ttl().expect("always"), 70);
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                assert_eq!(stream.ttl().expect("always"), 70);
                assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
            }),
            Box::new(|| {
                let stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                assert_eq!(stream.ttl().expect("always"), 64);
                stream.set_ttl(33).expect("a time to live");
                assert_eq!(stream.ttl().expect("always"), 33);
                for ttl in [0, 256] {
                    let error = stream.set_ttl(ttl).expect_err("out of range");
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert!(error.to_string().starts_with("IP_TTL"), "{error}");
                }
                stream.set_tos(0x2f);
                stream.set_min_ttl(7);
                assert_eq!((stream.tos(), stream.min_ttl()), (0x2c, 7));
                stream.set_peek_offset(Some(3));
                assert_eq!(stream.peek_offset(), Some(3));
                stream.set_peek_offset(None);
                let keepalive = Keepalive { idle_s: Some(0), ..Keepalive::default() };
                let refused = [
                    stream.set_keepalive(Some(keepalive)),
                    stream.set_user_timeout(Some(Duration::from_secs(1 << 22))),
                    stream.set_window_clamp(0),
                ];
                for (refused, option) in
                    refused.into_iter().zip(["TCP_KEEPIDLE", "TCP_USER_TIMEOUT", "TCP_WINDOW_CLAMP"])
                {
                    let error = refused.expect_err("out of range");
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert!(error.to_string().starts_with(option), "{error}");
                }
            }),
        ]);
    }

    /// Reads that wait for all they want, look without taking, throw away, or do not wait.
    pub fn flags_of_reads(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        let (all, look) = (RecvFlags { wait_all: true, ..RecvFlags::default() }, true);
        world.run(vec![
            Box::new(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut buf = [0; 9];
                let flags = RecvFlags { peek: look, ..all };
                assert_eq!(stream.recv_with(&mut buf, flags).expect("all of it"), 9);
                assert_eq!(&buf, b"abcdefghi");
                let flags = RecvFlags { discard: true, ..all };
                assert_eq!(stream.recv_with(&mut buf[..4], flags).expect("thrown away"), 4);
                stream.set_recv_lowat(5);
                assert_eq!(stream.recv_with(&mut buf, RecvFlags::default()).expect("five at least"), 5);
                assert_eq!(&buf[..5], b"efghi");
                let flags = RecvFlags { dont_wait: true, ..RecvFlags::default() };
                assert_eq!(stream.recv_with(&mut buf, flags).expect_err("nothing").kind(), ErrorKind::WouldBlock);
                stream.write_all(b"go").expect("room");
                assert_eq!(stream.recv_with(&mut buf, all).expect("what came before the end"), 1);
                assert_eq!(stream.recv_with(&mut buf, all).expect("the end"), 0);
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                for part in ["abc", "def", "ghi"] {
                    stream.write_all(part.as_bytes()).expect("room");
                }
                let mut go = [0; 2];
                stream.read_exact(&mut go).expect("a word");
                stream.write_all(b"z").expect("room");
            }),
        ]);
    }

    /// Writes that say what follows, and options that have nothing to do with that.
    pub fn flags_of_writes(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut all = String::new();
                stream.read_to_string(&mut all).expect("all");
                assert_eq!(all, "abcdefghi");
            }),
            Box::new(|| {
                let stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                stream.send_with(b"abc", SendFlags { more: true, ..SendFlags::default() }).expect("room");
                stream.set_send_buffer_size(20_000);
                stream.set_recv_lowat(1);
                stream.set_keepalive(None).expect("none is in every range");
                stream.send_with(b"def", SendFlags::default()).expect("room");
                // In real time the probe timer may have come between.
                if world.clock.is_some() {
                    assert_eq!(stream.info().data_segs_out, 1);
                }
                stream.set_cork(true);
                assert!(stream.cork());
                let flags = SendFlags { end_of_record: true, dont_wait: true, ..SendFlags::default() };
                assert_eq!(stream.send_with(b"ghi", flags).expect("room"), 3);
            }),
        ]);
    }

    pub fn urgent_bytes(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let all = RecvFlags { wait_all: true, ..RecvFlags::default() };
                let mut buf = [0; 10];
                let count = stream.recv_with(&mut buf, all).expect("what stands before the mark");
                assert_eq!(&buf[..count], b"abc");
                assert!(stream.at_mark() && stream.readiness().priority);
                assert_eq!(stream.recv_urgent(false).expect("the byte"), Some(b'!'));
                assert_eq!(stream.recv_urgent(false).expect_err("once").kind(), ErrorKind::InvalidInput);
                stream.write_all(b"go").expect("room");
                let count = stream.recv_with(&mut buf, all).expect("the rest");
                assert_eq!(&buf[..count], b"xyz");
                assert!(!stream.at_mark());
            }),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                assert_eq!(stream.send_urgent(b"abc!").expect("room"), 4);
                let mut go = [0; 2];
                stream.read_exact(&mut go).expect("a word");
                stream.write_all(b"xyz").expect("room");
            }),
        ]);
    }

    pub fn listener_closes(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![Box::new(move || {
            let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection that nobody accepts");
            drop(listener);
            let error = stream.read(&mut [0; 16]).expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            let error = TcpStream::connect(&world.client, server(9)).expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        })]);
    }

    pub fn write_to_a_closed_peer(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| drop(listener.accept().expect("a connection"))),
            Box::new(|| {
                let mut stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                expect_eof(&stream);
                stream.write_all(b"to nobody").expect("the first is taken");
                let error = loop {
                    world.client.run_for(Duration::from_millis(1)).expect("the stack is up");
                    if let Err(error) = stream.write_all(b"x") {
                        break error;
                    }
                };
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            }),
        ]);
    }

    pub fn clones_work_side_by_side(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        let second = listener.try_clone().expect("always");
        let (from_server, to_server) = std::sync::mpsc::channel();
        let (from_client, to_client) = std::sync::mpsc::channel();
        world.run(vec![
            Box::new(move || {
                let (stream, _) = second.accept().expect("a connection");
                from_server.send(stream.try_clone().expect("always")).expect("the other program");
                send_pattern(&stream, MIB, 30_000);
                stream.shutdown(Shutdown::Write).expect("open");
            }),
            Box::new(move || {
                let stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                from_client.send(stream.try_clone().expect("always")).expect("the other program");
                send_pattern(&stream, MIB, 70_000);
                stream.shutdown(Shutdown::Write).expect("open");
            }),
            Box::new(move || {
                let stream = receive_stream(world, &to_server);
                expect_pattern(&stream, MIB, 20_000);
                expect_eof(&stream);
            }),
            Box::new(move || {
                let stream = receive_stream(world, &to_client);
                expect_pattern(&stream, MIB, 9_999);
                expect_eof(&stream);
            }),
        ]);
    }

    /// In virtual time nobody may wait outside of it.
    fn receive_stream(world: &World, from: &std::sync::mpsc::Receiver<TcpStream>) -> TcpStream {
        loop {
            match from.try_recv() {
                Ok(stream) => return stream,
                Err(_) => world.client.run_for(Duration::from_millis(1)).expect("the stack is up"),
            }
        }
    }

    pub fn shutdown_ends_blocked_calls(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        let other = TcpListener::bind(&world.server, server(10)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let error = stream.read(&mut [0; 16]).expect_err("the stack goes");
                assert!(matches!(error.kind(), ErrorKind::NetworkDown | ErrorKind::ConnectionAborted), "{error}");
                assert_eq!(stream.read(&mut [0; 16]).expect_err("gone").kind(), ErrorKind::NetworkDown);
                assert_eq!(stream.write(b"x").expect_err("gone").kind(), ErrorKind::NetworkDown);
            }),
            Box::new(|| {
                let error = other.accept().expect_err("the stack goes");
                assert_eq!(error.kind(), ErrorKind::NetworkDown);
            }),
            Box::new(|| {
                let error = world.server.run_for(Duration::from_secs(3_600)).expect_err("the stack goes");
                assert_eq!(error.kind(), ErrorKind::NetworkDown);
            }),
            Box::new(|| {
                let error = TcpStream::connect(&world.server, "10.0.0.99:1").expect_err("the stack goes");
                assert!(matches!(error.kind(), ErrorKind::NetworkDown | ErrorKind::ConnectionAborted), "{error}");
            }),
            Box::new(|| {
                let stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                world.client.run_for(Duration::from_millis(50)).expect("this stack is up");
                world.server.shutdown();
                assert!(world.server.is_down());
                let again = TcpListener::bind(&world.server, server(11)).expect_err("gone");
                assert_eq!(again.kind(), ErrorKind::NetworkDown);
                assert!(!world.client.is_down());
                stream.set_linger(Some(Duration::ZERO)).expect("always");
            }),
        ]);
        assert_eq!(world.server.ledger().held(), 0);
        world.server.ledger().check().expect("the books of a stack that went");
        world.client.shutdown();
        assert_eq!(world.client.ledger().held(), 0);
        world.client.ledger().check().expect("the books of a stack that went");
    }

    pub fn lossy_ring(world: &World) {
        bulk(world);
    }

    pub fn one_queue_for_two_cpus(world: &World) {
        many_connections(world);
        bulk(world);
        let handed_over = world.server.snapshot()[Counter::SoftnetReceivedRps];
        assert!(handed_over > 0, "the Cpu without a queue has flows, too");
    }

    pub fn missteered(world: &World) {
        many_connections(world);
        bulk(world);
        let handed_over = world.server.snapshot()[Counter::SoftnetReceivedRps];
        assert_eq!(handed_over > 0, world.server.cpus() > 1, "{handed_over} packets came over the backlog");
    }

    pub fn slow_reader(world: &World) {
        let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
        world.run(vec![
            Box::new(|| {
                let (stream, _) = listener.accept().expect("a connection");
                for piece in 0..20 {
                    world.server.run_for(Duration::from_millis(2)).expect("the stack is up");
                    let mut buf = vec![0; 10_000];
                    (&stream).read_exact(&mut buf).expect("bytes");
                    assert!(buf.iter().enumerate().all(|(i, &byte)| byte == pattern(piece * 10_000 + i)));
                }
                expect_eof(&stream);
            }),
            Box::new(|| {
                let stream = TcpStream::connect(&world.client, server(9)).expect("a connection");
                send_pattern(&stream, 200_000, 200_000);
            }),
        ]);
    }
}

#[test]
fn the_same_program_gives_the_same_run_in_virtual_time() {
    let run = || {
        let world = World::new(Way::Simulation, Setup { ring: 16, pause: false, ..Setup::default() });
        scenario::bulk(&world);
        world.check();
        let texts = world.stacks().map(|stack| format!("{:?} {}", stack.snapshot(), stack.ledger()));
        (texts, world.clock.as_ref().map(|clock| clock.now()))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_call_that_nobody_can_satisfy_ends_in_virtual_time() {
    let world = World::new(Way::Simulation, Setup::default());
    let listener = TcpListener::bind(&world.server, server(9)).expect("a listener");
    world.run(vec![Box::new(|| {
        assert_eq!(listener.accept().expect_err("nobody connects").kind(), ErrorKind::Deadlock);
    })]);
}
