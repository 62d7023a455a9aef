//! A connection whose every packet passes a decider outside of the stack.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rxpath::device::wire::{self, WireConfig};
use rxpath::net::{Answer, NetfilterQueue, QueueOptions, TcpListener, TcpStream, ToQueue};
use rxpath::rxpath_core::netfilter::{Decision, HookPoint, Hooks, Priority, Rule};
use rxpath::rxpath_trace::{DropReason, Holder};
use rxpath::{Interface, Stack};

const BYTES: usize = 300_000;

/// Queue `n` for point `n`.
fn all_points() -> Hooks {
    let mut hooks = Hooks::new();
    for point in HookPoint::ALL {
        let rule = Rule::new("queue", |point, _| Decision::Queue(ToQueue::number(point as u16)));
        hooks.register(point, Priority::FILTER, Arc::new(rule));
    }
    hooks
}

#[test]
fn a_connection_leads_through_deciders_at_all_points() {
    let (a, b) = wire::pair(WireConfig { queues: 2, ..WireConfig::default() }, WireConfig::default());
    let server = Stack::builder()
        .interface(Interface::new(a).address("10.0.0.1/24").expect("an address"))
        .cpus(2)
        .hooks(all_points())
        .build()
        .expect("a stack");
    let client = Stack::builder()
        .interface(Interface::new(b).address("10.0.0.2/24").expect("an address"))
        .build()
        .expect("a stack");
    let queues: Vec<NetfilterQueue> = HookPoint::ALL
        .iter()
        .map(|point| NetfilterQueue::open(&server, *point as u16, QueueOptions::default()).expect("nobody listens yet"))
        .collect();
    let deciders: Vec<_> = queues
        .iter()
        .cloned()
        .map(|queue| {
            thread::spawn(move || {
                let (mut packets, mut buf) = (0, [0; 2_048]);
                // Ends when the stack goes down.
                while let Ok((bytes, packet)) = queue.recv(&mut buf) {
                    packets += 1;
                    let whole = bytes == packet.len && !packet.checksum_open;
                    // Every third is given back as if it had been changed.
                    let done = match packets % 3 {
                        0 if whole => queue.verdict_with(packet.id, Answer::Accept, &buf[..bytes]),
                        _ => queue.verdict(packet.id, Answer::Accept),
                    };
                    done.expect("it waits for this verdict");
                }
                packets
            })
        })
        .collect();

    let listener = TcpListener::bind(&server, "10.0.0.1:80").expect("a listener");
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = vec![0; BYTES];
        stream.read_exact(&mut bytes).expect("all bytes");
        stream.write_all(&bytes).expect("room");
        drop(stream);
    });
    let mut stream = TcpStream::connect(&client, "10.0.0.1:80").expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
    let bytes: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
    stream.write_all(&bytes).expect("room");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("the end");
    assert!(back == bytes, "{} bytes came back", back.len());
    echo.join().expect("no panic");

    server.shutdown();
    let decided: Vec<u64> = deciders.into_iter().map(|decider| decider.join().expect("no panic")).collect();
    let forward = HookPoint::Forward as usize;
    assert!(decided.iter().enumerate().all(|(point, packets)| (*packets == 0) == (point == forward)), "{decided:?}");
    let ledger = server.ledger();
    ledger.check().expect("the ledger balances");
    assert_eq!((ledger.held_by(Holder::Netfilter), ledger.dropped_for(DropReason::NetfilterDrop)), (0, 0));
}
