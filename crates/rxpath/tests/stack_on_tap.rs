//! A whole stack against the running kernel's TCP, over a TAP in a private network namespace, in each mode that sleeps
//! on the TAP's readiness.
//!
//! Where neither root nor a user namespace is to be had, or no `/dev/net/tun`, the tests say so and pass; with
//! `RXPATH_NO_SKIP=1` they fail.
#![cfg(target_os = "linux")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener as KernelListener, TcpStream as KernelStream};
use std::process::Command;

use rxpath::device::netns::{self, Rtnl};
use rxpath::device::tap::{Tap, TapConfig};
use rxpath::net::{TcpListener, TcpStream};
use rxpath::{Interface, Mode, Stack};

const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const CHILD: &str = "RXPATH_TAP_TEST_CHILD";
const MIB: usize = 1 << 20;

/// True if the calling thread now is in a private namespace. Without the right to that, runs the test `name` again in a
/// process that has it.
fn in_private(name: &str) -> bool {
    let error = match netns::enter_private() {
        Ok(()) => match std::fs::metadata("/dev/net/tun") {
            Ok(_) => return true,
            Err(error) => error,
        },
        Err(error) if error.kind() == ErrorKind::InvalidInput && std::env::var_os(CHILD).is_none() => {
            let exe = std::env::current_exe().expect("own path");
            let mut command = Command::new(exe);
            command.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
            match netns::private_child(&mut command).status() {
                Ok(status) => assert!(status.success(), "{name} failed in its own process"),
                Err(error) => skip(name, &error),
            }
            return false;
        }
        Err(error) => error,
    };
    skip(name, &error);
    false
}

#[track_caller]
fn skip(name: &str, error: &io::Error) {
    rxpath_testkit::skip(&format!("{name}: {error}"));
}

fn stack(test: &str, mode: Mode, offload: bool) -> Option<Stack> {
    if !in_private(test) {
        return None;
    }
    let tap = match Tap::open(TapConfig { offload, ..TapConfig::default() }) {
        Ok(tap) => tap,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            skip(test, &error);
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let mut rtnl = Rtnl::open().expect("netlink");
    rtnl.add_address(tap.name(), KERNEL, 24).expect("an address");
    rtnl.set_up(tap.name()).expect("up");
    let interface = Interface::new(tap).address("10.9.0.1/24").expect("an address");
    Some(Stack::builder().mode(mode).interface(interface).build().expect("a stack"))
}

fn pattern(offset: usize) -> u8 {
    (offset as u32).wrapping_mul(2_654_435_761).rotate_right(13) as u8
}

fn check(bytes: &[u8]) {
    assert_eq!(bytes.len(), MIB);
    assert!(bytes.iter().enumerate().all(|(offset, &byte)| byte == pattern(offset)));
}

/// Echoes what comes until the end of the stream.
fn echo(stream: &mut (impl Read + Write)) {
    let mut buf = [0; 10_000];
    loop {
        match stream.read(&mut buf).expect("bytes") {
            0 => return,
            count => stream.write_all(&buf[..count]).expect("room"),
        }
    }
}

/// The kernel's client and our server, then our client and the kernel's server, a mebibyte there and back each.
fn talk(stack: &Stack) {
    let bytes: Vec<u8> = (0..MIB).map(pattern).collect();
    let listener = TcpListener::bind(stack, (OURS, 7)).expect("a listener");
    std::thread::scope(|scope| {
        scope.spawn(|| echo(&mut listener.accept().expect("a connection").0));
        let stream = KernelStream::connect((OURS, 7)).expect("a connection");
        let (sender, bytes) = (stream.try_clone().expect("a descriptor"), &bytes);
        scope.spawn(move || {
            (&sender).write_all(bytes).expect("room");
            sender.shutdown(Shutdown::Write).expect("open");
        });
        let mut answer = Vec::new();
        (&stream).read_to_end(&mut answer).expect("the echo");
        check(&answer);
    });
    let listener = KernelListener::bind((KERNEL, 7)).expect("a listener");
    std::thread::scope(|scope| {
        scope.spawn(|| echo(&mut listener.accept().expect("a connection").0));
        let stream = TcpStream::connect(stack, (KERNEL, 7)).expect("a connection");
        let sender = stream.try_clone().expect("always");
        scope.spawn(move || {
            (&sender).write_all(&bytes).expect("room");
            sender.shutdown(Shutdown::Write).expect("open");
        });
        let mut answer = Vec::new();
        (&stream).read_to_end(&mut answer).expect("the echo");
        check(&answer);
    });
    let refused = KernelStream::connect((OURS, 9)).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let refused = TcpStream::connect(stack, (KERNEL, 9)).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    stack.shutdown();
    let ledger = stack.ledger();
    ledger.check().expect("the books");
    assert_eq!(ledger.held(), 0, "{}", ledger.details());
}

/// Somebody must drive a stack without threads while the kernel alone is at work.
fn talk_driven(stack: &Stack) {
    std::thread::scope(|scope| {
        scope.spawn(|| while stack.run_for(std::time::Duration::from_secs(1)).is_ok() {});
        talk(stack);
    });
}

#[test]
fn on_threads() {
    if let Some(stack) = stack("on_threads", Mode::Threads, true) {
        talk(&stack);
    }
}

#[test]
fn on_threads_without_offload() {
    if let Some(stack) = stack("on_threads_without_offload", Mode::Threads, false) {
        talk(&stack);
    }
}

#[test]
fn on_application_threads() {
    if let Some(stack) = stack("on_application_threads", Mode::AppThreads, true) {
        talk_driven(&stack);
    }
}

#[test]
fn polled() {
    if let Some(stack) = stack("polled", Mode::Polled, true) {
        talk_driven(&stack);
    }
}
