//! Fast Open between two stacks over a wire that loses, reorders, doubles and damages frames.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rxpath::device::wire::{self, WireConfig};
use rxpath::net::{TcpListener, TcpStream};
use rxpath::rxpath_core::tcp::SockOptions;
use rxpath::rxpath_trace::Counter;
use rxpath::{Device, Interface, Stack};
use rxpath_sim::faults::{Faults, Faulty};

/// The byte that ends a request.
const LAST: u8 = 255;
const CLIENTS: u64 = 8;
const REQUESTS: u64 = 12;

fn stack(device: impl Device + 'static, address: &str, seed: u64) -> Stack {
    let device: Box<dyn Device> = Box::new(Faulty::new(Box::new(device), Faults::ROUGH, seed));
    let interface = Interface::boxed(device).address(address).expect("an address");
    let builder = Stack::builder().interface(interface);
    builder.sysctl("net.ipv4.tcp_fastopen", "3").expect("a sysctl").build().expect("a stack")
}

/// Answers a request with itself. The network doubles SYNs, so there are some that nobody waits for the answer to.
fn answer(mut service: TcpStream) {
    let (mut request, mut buf) = (Vec::new(), [0; 4_096]);
    while request.last() != Some(&LAST) {
        match service.read(&mut buf) {
            Ok(count @ 1..) => request.extend_from_slice(&buf[..count]),
            _ => return,
        }
    }
    if service.write_all(&request).is_ok() {
        let _ = service.read(&mut buf);
    }
}

/// Sends requests of many lengths, in both ways to open fast; how many began with their SYN.
fn ask(stack: &Stack, remote: SocketAddr, client: u64) -> u64 {
    let mut fast = 0;
    for request in 0..REQUESTS {
        let len = 1 + (client * 977 + request * 3_301) as usize % 9_000;
        let data: Vec<u8> =
            (1..=len).map(|at| if at == len { LAST } else { (at as u64 + client + request) as u8 % 251 }).collect();
        let mut options = SockOptions::default();
        options.fastopen_connect = request % 2 == 1;
        let mut stream = if options.fastopen_connect {
            let mut stream = TcpStream::connect_with(stack, remote, &options).expect("a server");
            stream.write_all(&data).expect("taken");
            stream
        } else {
            TcpStream::connect_with_data(stack, remote, &data, &options).expect("a server")
        };
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
        let mut answer = vec![0; len];
        stream.read_exact(&mut answer).expect("an answer");
        assert!(answer == data, "request {request} of client {client}, {len} bytes");
        fast += u64::from(stream.info().syn_data);
    }
    fast
}

#[test]
fn requests_that_go_with_their_syn_are_answered_whole_over_a_rough_wire() {
    let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    let (server, client) = (stack(a, "10.0.0.1/24", 5), stack(b, "10.0.0.2/24", 6));
    let remote = SocketAddr::from(([10, 0, 0, 1], 80));
    let listener = TcpListener::bind(&server, remote).expect("a free port");
    listener.set_fastopen(64);
    listener.set_fastopen_key([7; 16], Some([8; 16]));
    assert_eq!((listener.fastopen(), listener.fastopen_key()), (64, Some(([7; 16], Some([8; 16])))));
    thread::spawn(move || {
        while let Ok((service, _)) = listener.accept() {
            thread::spawn(|| answer(service));
        }
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = client.clone();
            thread::spawn(move || ask(&client, remote, number))
        })
        .collect();
    let fast: u64 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    assert!(fast > CLIENTS * REQUESTS / 3, "{fast} of {}", CLIENTS * REQUESTS);
    assert!(server.snapshot()[Counter::TcpExtTCPFastOpenPassive] >= fast, "what was acknowledged was taken");
    assert!(client.snapshot()[Counter::TcpExtTCPFastOpenActive] >= fast);
    thread::sleep(Duration::from_millis(300));
    for stack in [client, server] {
        stack.shutdown();
        let ledger = stack.ledger();
        ledger.check().unwrap_or_else(|imbalance| panic!("{imbalance}\n{}", ledger.details()));
    }
}
