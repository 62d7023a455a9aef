//! Signatures of RFC 2385 against those of the running kernel (`TCP_MD5SIG_EXT`), over a TAP in a private namespace. The
//! kernel's side is a script: sockets of `std` have no such option.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rxpath::device::netns::{self, Rtnl};
use rxpath::device::tap::{Tap, TapConfig};
use rxpath::net::{AuthKeys, Md5Key, Peers, Secret, SockOptions, TcpListener, TcpStream};
use rxpath::rxpath_trace::Counter;
use rxpath::{Interface, Stack};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const BYTES: usize = 3 << 20;
/// What the script's exit code says of a kernel that has no such option.
const NO_OPTION: i32 = 77;

/// `struct tcp_md5sig` of `tcp(7)`: an address of 128 bytes, flags, prefix, length of the key, interface, key.
const SCRIPT: &str = r#"
import errno, socket, struct, sys
role, port, key = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
sock = socket.socket()
peer = struct.pack("=HH4s120x", socket.AF_INET, 0, socket.inet_aton("10.9.0.0"))
try:
    sock.setsockopt(socket.IPPROTO_TCP, 32, peer + struct.pack("=BBHi80s", 1, 24, len(key), 0, key))
except OSError as error:
    sys.exit(77 if error.errno == errno.ENOPROTOOPT else 1)
if role == "listen":
    sock.bind(("10.9.0.2", port))
    sock.listen(8)
    print("listens", flush=True)
    stream, _ = sock.accept()
    while data := stream.recv(1 << 16):
        stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)
    sys.exit(0)
sock.settimeout(float(sys.argv[4]))
try:
    sock.connect(("10.9.0.1", port))
except TimeoutError:
    print("silence", flush=True)
    sys.exit(0)
data = bytes(i * 7 % 251 for i in range(1 << 16)) * int(sys.argv[5])
import threading
def send():
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
back = b""
while more := sock.recv(1 << 16):
    back += more
print("echo" if back == data else "damage", flush=True)
"#;

/// A stack on a TAP whose other end is the kernel's; None, having said so, where that cannot be.
fn stack() -> Option<Stack> {
    if !rxpath_testkit::need_tool("python3") {
        return None;
    }
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
    let mut rtnl = Rtnl::open().expect("netlink");
    rtnl.add_address(tap.name(), KERNEL, 24).expect("the kernel's address");
    rtnl.set_up(tap.name()).expect("up");
    let interface = Interface::boxed(Box::new(tap)).address("10.9.0.1/24").expect("an address");
    Some(Stack::builder().interface(interface).build().expect("a stack"))
}

fn script(args: &[&str]) -> Child {
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]).args(args).stdout(Stdio::piped());
    command.spawn().expect("the script runs")
}

/// What the script said; None, having said so, if the kernel has no such option.
fn said(child: Child) -> Option<String> {
    let output = child.wait_with_output().expect("it ends");
    if output.status.code() == Some(NO_OPTION) {
        rxpath_testkit::skip("the kernel has no TCP_MD5SIG");
        return None;
    }
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).expect("text"))
}

fn key() -> Md5Key {
    Md5Key { peers: Peers::one(KERNEL).expect("an address"), secret: Secret::new(b"secret").expect("a secret") }
}

/// Waits for the last segments, then checks that every packet is accounted for, and which kinds of signatures were refused.
fn settle(stack: &Stack, refused: [u64; 3]) {
    thread::sleep(Duration::from_millis(300));
    let counters = stack.snapshot();
    let counted = [Counter::TcpExtTCPMD5NotFound, Counter::TcpExtTCPMD5Unexpected, Counter::TcpExtTCPMD5Failure]
        .map(|counter| counters[counter]);
    stack.shutdown();
    let ledger = stack.ledger();
    ledger.check().unwrap_or_else(|imbalance| panic!("{imbalance}\n{}", ledger.details()));
    assert_eq!(counted.map(|count| count > 0), refused.map(|count| count > 0), "{counted:?}");
}

#[test]
fn the_kernel_connects_with_the_key_and_not_with_another() {
    let Some(stack) = stack() else { return };
    let listener = TcpListener::bind(&stack, SocketAddr::from((OURS, 179))).expect("a free port");
    listener.change_keys(|keys| keys.add_md5(key())).expect("a key");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut buf = vec![0; 1 << 16];
            while let Ok(count @ 1..) = stream.read(&mut buf) {
                stream.write_all(&buf[..count]).expect("taken");
            }
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    let Some(wrong) = said(script(&["connect", "179", "another", "1.5", "1"])) else { return };
    assert_eq!(wrong, "silence\n");
    assert_eq!(said(script(&["connect", "179", "secret", "60", "48"])).as_deref(), Some("echo\n"));
    settle(&stack, [0, 0, 1]);
}

#[test]
fn a_signed_connection_to_the_kernel_carries_data_both_ways() {
    let Some(stack) = stack() else { return };
    let mut child = script(&["listen", "179", "secret"]);
    let mut line = [0; 8];
    if child.stdout.as_mut().expect("it is piped").read_exact(&mut line).is_err() {
        said(child);
        return;
    }
    let to = SocketAddr::from((KERNEL, 179));
    let mut keys = AuthKeys::new();
    keys.add_md5(key()).expect("a key");
    let stream = TcpStream::connect_signed(&stack, to, &SockOptions::default(), &keys).expect("the same key");
    let (mut writing, mut reading) = (stream.try_clone().expect("a handle"), stream);
    reading.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let data: Vec<u8> = (0..BYTES).map(|at| (at * 7 % 251) as u8).collect();
    let sent = data.clone();
    let writer = thread::spawn(move || {
        writing.write_all(&sent).expect("all is taken");
        writing.shutdown(Shutdown::Write).expect("half-close");
    });
    let mut back = Vec::new();
    reading.read_to_end(&mut back).expect("up to the FIN");
    writer.join().expect("the writer");
    assert!(back == data, "{} bytes came back", back.len());
    assert_eq!(said(child).as_deref(), Some(""), "and it ended well");
    drop(reading);
    settle(&stack, [0, 0, 0]);
}

#[test]
fn a_signed_syn_of_the_kernel_for_a_closed_port_is_not_answered() {
    let Some(stack) = stack() else { return };
    let listener = TcpListener::bind(&stack, SocketAddr::from((OURS, 181))).expect("a free port");
    listener.change_keys(|keys| keys.add_md5(key())).expect("a key");
    let Some(silence) = said(script(&["connect", "182", "secret", "1.2", "1"])) else { return };
    assert_eq!(silence, "silence\n", "no listener on the kernel's port has the key");
    assert_eq!(stack.snapshot()[Counter::TcpOutRsts], 0);
    settle(&stack, [0, 0, 0]);
}
