//! Readers that never read, in virtual time through the public API: what they leave unread slows nobody down.

use std::io::{Read, Write};
use std::time::Duration;

use rxpath::clock::{Clock, ManualClock};
use rxpath::device::wire::{self, WireConfig};
use rxpath::net::{TcpListener, TcpStream};
use rxpath::rxpath_mem::PoolConfig;
use rxpath::{Interface, Mode, Stack};
use rxpath_sim::faults::{Faults, Faulty};

const READERS: usize = 100;
/// One-byte segments to each of them.
const BYTES: usize = 60;
/// What the fresh connection carries.
const BULK: usize = 2 << 20;

/// A server with little memory and a client, on a cable of 100 Mbit/s and 2 ms.
fn world(clock: &ManualClock) -> (Stack, Stack) {
    let (left, right) = wire::pair(WireConfig::named("left"), WireConfig::named("right"));
    let delay = Duration::from_millis(2);
    let cable = Faults { delay: delay..=delay, rate: Some(100_000_000), ..Faults::NONE };
    let stack = |device, address: &str, seed, slots| {
        let device = Faulty::new(Box::new(device), cable.clone(), seed);
        let interface = Interface::new(device).ring(512).address(address).expect("an address");
        let pool = PoolConfig { slots, head_slots: 1_024, large_slots: 16, reserve: 64 };
        let builder = Stack::builder().mode(Mode::Polled).clock(clock.clone()).seed(seed).pool(pool);
        builder.interface(interface).build().expect("a stack")
    };
    (stack(left, "10.0.0.1/24", 1, 2_048), stack(right, "10.0.0.2/24", 2, 16_384))
}

/// How long a fresh connection takes for its bytes, where `bytes` one-byte segments wait at each of the readers that
/// never read; and how much waits there.
fn time_of_a_fresh_connection(bytes: usize) -> (Duration, u64) {
    let clock = ManualClock::new();
    let (server, client) = world(&clock);
    let idle = TcpListener::bind(&server, "10.0.0.1:9").expect("a free port");
    let busy = TcpListener::bind(&server, "10.0.0.1:80").expect("a free port");
    let mut outcome = (Duration::ZERO, 0);
    clock.run(vec![
        Box::new(|| {
            let kept: Vec<_> = (0..READERS).map(|_| idle.accept().expect("a client").0).collect();
            let (mut stream, _) = busy.accept().expect("the fresh connection");
            let mut buf = vec![0; 1 << 16];
            let mut total = 0;
            while let n @ 1.. = stream.read(&mut buf).expect("data") {
                assert!(buf[..n].iter().all(|byte| *byte == 7));
                total += n;
            }
            assert_eq!(total, BULK);
            drop(kept);
        }),
        Box::new(|| {
            let connect = |port| TcpStream::connect(&client, format!("10.0.0.1:{port}")).expect("a listener");
            let mut slow: Vec<TcpStream> = (0..READERS).map(|_| connect(9)).collect();
            for _ in 0..bytes {
                for stream in &mut slow {
                    stream.set_nodelay(true).expect("an option");
                    stream.write_all(b"x").expect("it is taken");
                }
                clock.sleep(Duration::from_millis(5)).expect("time passes");
            }
            clock.sleep(Duration::from_secs(5)).expect("time passes");
            let unread = server.sockets().iter().map(|socket| u64::from(socket.row.rx_queue)).sum();
            let begun = clock.now();
            let mut fresh = connect(80);
            fresh.write_all(&vec![7; BULK]).expect("it is read");
            fresh.shutdown(std::net::Shutdown::Write).expect("it is open");
            assert_eq!(fresh.read(&mut [0; 1]).expect("the end"), 0);
            outcome = (Duration::from_nanos(clock.now() - begun), unread);
        }),
    ]);
    for stack in [&server, &client] {
        stack.shutdown();
        stack.ledger().check().expect("the books");
        assert_eq!(stack.ledger().held(), 0);
    }
    outcome
}

#[test]
fn a_fresh_connection_is_as_fast_beside_a_hundred_readers_that_never_read() {
    let (alone, nothing) = time_of_a_fresh_connection(0);
    let (beside, unread) = time_of_a_fresh_connection(BYTES);
    assert_eq!((nothing, unread), (0, (READERS * BYTES) as u64), "every byte waits");
    // 2 MiB at 100 Mbit/s take 168 ms at the least.
    assert!(alone > Duration::from_millis(168), "{alone:?}");
    assert!(beside <= alone + alone / 50, "{beside:?} instead of {alone:?}");
}
