//! Fast Open against the running kernel, over a TAP in a private namespace: its clients and our listener, our clients and
//! its listener.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as KernelListener, TcpStream as KernelStream};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};
use rxpath::device::netns::{self, Rtnl};
use rxpath::device::tap::{Tap, TapConfig};
use rxpath::net::{TcpListener, TcpStream};
use rxpath::rxpath_core::tcp::{FastOpenFail, SockOptions};
use rxpath::rxpath_trace::Counter;
use rxpath::{Device, Interface, Stack};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// `MSG_FASTOPEN`.
const FASTOPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);
/// The kernel's client and server, and all of its listeners.
const KERNEL_FLAGS: &str = "1027";
/// The byte that ends a request.
const LAST: u8 = 255;
const KEY: &str = "00010203-04050607-08090a0b-0c0d0e0f";

/// A stack on a TAP whose other end is the kernel's, both with Fast Open; None, having said so, where that is not allowed.
fn stack() -> Option<Stack> {
    if let Err(error) = netns::enter_private() {
        rxpath_testkit::skip(&format!("no private namespace: {error}"));
        return None;
    }
    let tap = match Tap::open(TapConfig::default()) {
        Ok(tap) => tap,
        Err(error) => {
            rxpath_testkit::skip(&format!("no TAP: {error}"));
            return None;
        }
    };
    for (name, value) in [("tcp_fastopen", KERNEL_FLAGS), ("tcp_fastopen_key", KEY)] {
        netns::set_sysctl(&format!("net.ipv4.{name}"), value).expect("a sysctl of the namespace");
    }
    let mut rtnl = Rtnl::open().expect("netlink");
    rtnl.add_address(tap.name(), KERNEL, 24).expect("the kernel's address");
    rtnl.set_up(tap.name()).expect("up");
    let device: Box<dyn Device> = Box::new(tap);
    let interface = Interface::boxed(device).address("10.9.0.1/24").expect("an address");
    let builder = Stack::builder().interface(interface);
    let builder = builder.sysctl("net.ipv4.tcp_fastopen", "3").and_then(|b| b.sysctl("net.ipv4.tcp_fastopen_key", KEY));
    Some(builder.expect("sysctls").build().expect("a stack"))
}

/// The kernel's counter of this name.
fn kernel_counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").expect("the kernel's counters");
    let lines: Vec<&str> = text.lines().collect();
    let place = lines.chunks(2).find_map(|pair| {
        let at = pair[0].split_whitespace().position(|word| word == name)?;
        pair[1].split_whitespace().nth(at)?.parse().ok()
    });
    place.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Waits for the last FINs, then checks that every packet is accounted for.
fn settle(stack: &Stack) {
    thread::sleep(Duration::from_millis(300));
    stack.shutdown();
    let ledger = stack.ledger();
    ledger.check().unwrap_or_else(|imbalance| panic!("{imbalance}\n{}", ledger.details()));
}

/// A connection of the kernel's that is opened with data.
fn kernel_connects(port: u16, data: &[u8]) -> KernelStream {
    let client = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let sent = sendto(&client, data, FASTOPEN, &SocketAddr::from((OURS, port))).expect("our listener");
    assert_eq!(sent, data.len());
    let stream = KernelStream::from(client);
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

#[test]
fn a_kernel_client_opens_fast() {
    let Some(stack) = stack() else { return };
    let listener = TcpListener::bind(&stack, SocketAddr::from((OURS, 80))).expect("a free port");
    listener.set_fastopen(16);
    let server = thread::spawn(move || {
        let fast = |listener: &TcpListener| {
            let (mut service, _) = listener.accept().expect("a client");
            let mut request = [0; 5];
            service.read_exact(&mut request).expect("a request");
            let told = service.info();
            service.write_all(&request).expect("an answer");
            let mut rest = Vec::new();
            service.read_to_end(&mut rest).expect("up to the client's FIN");
            (told.tfo_child, told.syn_data, rest.len())
        };
        [(); 3].map(|()| fast(&listener))
    });
    for len in [5, 5, 70_000] {
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let mut client = kernel_connects(80, &data);
        let mut answer = [0; 5];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, data[..5]);
        client.shutdown(std::net::Shutdown::Write).expect("half-close");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the end");
    }
    let outcomes = server.join().expect("the server");
    assert_eq!(outcomes, [(false, false, 0), (true, true, 0), (true, true, 69_995)]);
    let ours = stack.snapshot();
    let counted = [
        Counter::TcpExtTCPFastOpenCookieReqd,
        Counter::TcpExtTCPFastOpenPassive,
        Counter::TcpExtTCPFastOpenPassiveFail,
    ];
    assert_eq!(counted.map(|counter| ours[counter]), [1, 2, 0]);
    assert_eq!((kernel_counter("TCPFastOpenActive"), kernel_counter("TCPFastOpenActiveFail")), (2, 0));
    settle(&stack);
}

#[test]
fn a_kernel_server_is_opened_fast() {
    let Some(stack) = stack() else { return };
    let listener = KernelListener::bind((KERNEL, 80)).expect("a free port");
    let server = thread::spawn(move || {
        for _ in 0..4 {
            let (mut service, _) = listener.accept().expect("a client");
            let (mut request, mut buf) = (Vec::new(), [0; 4_096]);
            while request.last() != Some(&LAST) {
                let count = service.read(&mut buf).expect("more of the request");
                assert!(count > 0, "the end of the request");
                request.extend_from_slice(&buf[..count]);
            }
            service.write_all(&request).expect("an answer");
            assert_eq!(service.read(&mut buf).expect("the client's FIN"), 0);
        }
        (kernel_counter("TCPFastOpenCookieReqd"), kernel_counter("TCPFastOpenPassive"))
    });
    let remote = SocketAddr::from((KERNEL, 80));
    // Who ends a direction before the handshake has ended gives the attempt up, so the answer comes first.
    let finish = |mut stream: TcpStream, data: &[u8]| {
        let mut answer = vec![0; data.len()];
        stream.read_exact(&mut answer).expect("an answer");
        assert!(answer == data, "{} bytes", data.len());
        let told = stream.info();
        (told.syn_data, told.fastopen_client_fail)
    };
    let connect = |len: usize| {
        let data: Vec<u8> = (1..=len).map(|at| if at == len { LAST } else { (at % 251) as u8 }).collect();
        let stream = TcpStream::connect_with_data(&stack, remote, &data, &SockOptions::default()).expect("a server");
        finish(stream, &data)
    };
    assert_eq!(connect(100), (false, FastOpenFail::CookieUnavailable));
    assert_eq!(connect(100), (true, FastOpenFail::None));
    assert_eq!(connect(70_000), (true, FastOpenFail::None));
    let mut options = SockOptions::default();
    options.fastopen_connect = true;
    let mut stream = TcpStream::connect_with(&stack, remote, &options).expect("at once");
    assert_eq!(stack.snapshot()[Counter::TcpActiveOpens], 3, "nothing is sent before the first write");
    let first = [b'1', LAST];
    stream.write_all(&first).expect("taken");
    assert_eq!(finish(stream, &first), (true, FastOpenFail::None));
    assert_eq!(server.join().expect("the server"), (1, 3));
    assert_eq!(stack.snapshot()[Counter::TcpExtTCPFastOpenActive], 3);
    settle(&stack);
}
