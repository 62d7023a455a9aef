//! Clients inside the namespace of `rxpath serve --in-namespace`: tests of this program, which `--exec` starts there.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Set where a test runs as a client.
pub const INSIDE: &str = "RXPATH_TEST_INSIDE";
/// Longest wait of a client.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether this is a client; as a test of its own there is nothing to do.
fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([10, 9, 0, 1], port)), PATIENCE).expect("it connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream
}

/// Bytes that tell their place.
fn bytes(seed: u64, n: usize) -> Vec<u8> {
    (0..n as u64).map(|i| ((i ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn client_of_echo() {
    if !is_inside() {
        return;
    }
    let clients: Vec<_> = (0..8).map(|seed| std::thread::spawn(move || echo(seed))).collect();
    clients.into_iter().for_each(|client| client.join().expect("each client got its bytes back"));
}

fn echo(seed: u64) {
    let sent = bytes(seed, 1 << 20);
    let mut stream = connect(7);
    let mut writing = stream.try_clone().expect("a second handle");
    let written = sent.clone();
    let writer = std::thread::spawn(move || {
        writing.write_all(&written).expect("all is written");
        writing.shutdown(Shutdown::Write).expect("writing ends");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("all is read");
    writer.join().expect("the writer ends");
    assert_eq!(back.len(), sent.len(), "client {seed}");
    let differ: Vec<usize> = (0..sent.len()).filter(|&at| back[at] != sent[at]).collect();
    let some: Vec<_> = differ.iter().take(8).map(|&at| (at, sent[at], back[at])).collect();
    assert!(differ.is_empty(), "client {seed}: {} bytes differ, of them (place, sent, came) {some:?}", differ.len());
}

#[test]
fn client_of_discard_and_chargen() {
    if !is_inside() {
        return;
    }
    let mut discard = connect(9);
    discard.write_all(&bytes(1, 3 << 20)).expect("all is taken");
    discard.shutdown(Shutdown::Write).expect("writing ends");
    assert_eq!(discard.read(&mut [0; 16]).expect("it ends, too"), 0);

    let mut text = vec![0; 200_000];
    connect(19).read_exact(&mut text).expect("characters come");
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    assert!(lines[0].starts_with(b" !\"#$%&'()*+,-./0123456789"));
    assert!(lines[..lines.len() - 1].iter().all(|line| line.len() == 73 && line.ends_with(b"\r")));
    assert_eq!(lines[95], lines[0]);
}

#[test]
fn client_of_http() {
    if !is_inside() {
        return;
    }
    let mut stream = connect(80);
    let request = "GET /bytes/100000 HTTP/1.1\r\nHost: 10.9.0.1\r\n\r\n";
    let last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all([request, request, last.as_str()].concat().as_bytes()).expect("three requests in a row");
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("the answers");
    let heads = answers.windows(15).filter(|window| window == b"HTTP/1.1 200 OK").count();
    assert_eq!(heads, 3);
    assert!(answers.len() > 300_000 && answers.len() < 302_000, "{}", answers.len());

    let error = TcpStream::connect_timeout(&SocketAddr::from(([10, 9, 0, 1], 81)), PATIENCE).expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
