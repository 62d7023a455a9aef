//! What clients do to the stack, and whether it went as it should.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rxpath::config::{App, Proto, ServiceConfig};
use rxpath::net::TcpListener;
use serde::Serialize;

use super::inject;
use super::stage::{Connection, PATIENCE, STACK, Stage};
use crate::serve::running::Running;

/// Where the page is.
pub const HTTP: u16 = 80;
/// Where bulk data goes.
const BULK: u16 = 5_001;
/// Where nobody listens.
const CLOSED: u16 = 81;
/// Bytes of bulk data.
pub const BULK_BYTES: u64 = 32 << 20;
/// Bytes that are written and compared at a time.
const CHUNK: usize = 64 << 10;
/// What the page consists of.
const PAGE: &str = "<!DOCTYPE html>\n<title>rxpath</title>\n<p>This page came out of a TCP/IP stack in user space.\n";

/// One thing that was done.
#[derive(Clone, Debug, Serialize)]
pub struct Act {
    /// A short name.
    pub name: &'static str,
    /// What happened.
    pub what: String,
    /// Whether it went as it should.
    pub ok: bool,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

impl Act {
    /// Does something that says what happened.
    pub fn perform(name: &'static str, perform: impl FnOnce() -> anyhow::Result<String>) -> Act {
        let begun = Instant::now();
        let done = perform();
        let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        match done {
            Ok(what) => Act { name, what, ok: true, took_us },
            Err(error) => Act { name, what: format!("{error:#}"), ok: false, took_us },
        }
    }
}

/// Starts the http service.
///
/// # Errors
/// The stack does not let it.
pub fn start_http(stage: &Stage) -> anyhow::Result<Running> {
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTP));
    let page: crate::serve::running::Page = Arc::new(|| PAGE.to_owned());
    Running::start(&stage.stack, &[ServiceConfig { listen, app: App::Http, proto: Proto::Tcp }], &page)
}

/// A client fetches the page.
///
/// # Errors
/// It does not come, or not as it was sent; so for all acts.
pub fn fetch_page(stage: &Stage) -> anyhow::Result<String> {
    let begun = Instant::now();
    let mut connection = stage.clients.connect(HTTP).context("connecting")?;
    fetch(&mut connection, "close")?;
    Ok(format!("GET http://{STACK}/ -> 200 OK, {} bytes in {}", PAGE.len(), shown(begun.elapsed())))
}

/// Fetches the page over a connection, which stays open unless `then` is `close`.
fn fetch(connection: &mut Connection, then: &str) -> anyhow::Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {STACK}\r\nConnection: {then}\r\n\r\n");
    connection.write_all(request.as_bytes()).context("asking for the page")?;
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    while !answer.ends_with(PAGE.as_bytes()) {
        match connection.read(&mut piece).context("reading the page")? {
            0 => bail!("the page ended early: {:?}", String::from_utf8_lossy(&answer)),
            n => answer.extend_from_slice(&piece[..n]),
        }
        ensure!(answer.len() < 2 * piece.len(), "the page does not end");
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "the page is refused: {:?}", String::from_utf8_lossy(&answer));
    if then == "close" {
        ensure!(connection.read(&mut piece).context("waiting for the end")? == 0, "something follows the page");
    }
    Ok(())
}

/// A client sends bulk data; the reader on the stack compares each byte.
pub fn send_bulk(stage: &Stage) -> anyhow::Result<String> {
    let listener = TcpListener::bind(&stage.stack, (STACK, BULK)).context("listening")?;
    let reader = thread::Builder::new().name("bulk".to_owned()).spawn(move || read_bulk(&listener))?;
    let begun = Instant::now();
    let written = write_bulk(stage);
    let Ok(read) = reader.join() else { bail!("the reader panicked") };
    let read = read.context("reading on the stack");
    // What the reader found tells more than what the writer noticed of it.
    let read = read.and_then(|n| written.context("writing").map(|()| n))?;
    ensure!(read == BULK_BYTES, "{read} bytes came of {BULK_BYTES}");
    let took = begun.elapsed();
    let mbit = read as f64 * 8.0 / took.as_secs_f64() / 1e6;
    Ok(format!("{} MiB sent in {} ({mbit:.0} Mbit/s), each byte compared by the reader", read >> 20, shown(took)))
}

fn write_bulk(stage: &Stage) -> io::Result<()> {
    let mut connection = stage.clients.connect(BULK)?;
    let mut chunk = vec![0; CHUNK];
    for at in (0..BULK_BYTES).step_by(CHUNK) {
        fill(&mut chunk, at);
        connection.write_all(&chunk)?;
    }
    connection.finish()?;
    // The reader's end says that all was read.
    match connection.read(&mut chunk)? {
        0 => Ok(()),
        n => Err(io::Error::other(format!("{n} bytes came back"))),
    }
}

fn read_bulk(listener: &TcpListener) -> anyhow::Result<u64> {
    let (mut stream, _) = listener.accept().context("accepting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    loop {
        // Whole words, so that what is expected begins with one.
        let want = CHUNK - (at % 8) as usize;
        let n = stream.read(&mut chunk[..want])?;
        if n == 0 {
            return Ok(at);
        }
        let skip = (at % 8) as usize;
        fill(&mut expected, at - skip as u64);
        if let Some(differs) = (0..n).find(|&i| chunk[i] != expected[skip + i]) {
            bail!("byte {} is not the one that was sent", at + differs as u64);
        }
        at += n as u64;
    }
}

/// Fills with the bytes at `at`, a multiple of 8, and after: words that tell their place, so that nothing that is lost,
/// doubled or moved goes unseen.
fn fill(chunk: &mut [u8], at: u64) {
    for (word, bytes) in (at / 8..).zip(chunk.chunks_mut(8)) {
        let mixed = (word + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).to_le_bytes();
        bytes.copy_from_slice(&mixed[..bytes.len()]);
    }
}

/// A client knocks where nobody listens.
pub fn knock(stage: &Stage) -> anyhow::Result<String> {
    match stage.clients.connect(CLOSED) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Ok(format!("port {CLOSED}: connection refused, as it should be"))
        }
        Err(error) => Err(error).with_context(|| format!("port {CLOSED} is closed, which should refuse")),
        Ok(_) => bail!("somebody answers on port {CLOSED}"),
    }
}

/// The injector sends what is malformed into a live connection, which must live on. `rcv_nxt` tells what the stack
/// expects next from it.
pub fn inject_around(stage: &Stage, rcv_nxt: &mut dyn FnMut() -> Option<u32>) -> anyhow::Result<String> {
    let mut connection = stage.clients.connect(HTTP).context("connecting")?;
    fetch(&mut connection, "keep-alive")?;
    let SocketAddr::V4(client) = connection.local_addr()? else { bail!("the client has an IPv6 address") };
    let expected = rcv_nxt().context("the lives do not tell the connection's next sequence number")?;
    let flow = inject::Flow { src: client, dst: SocketAddrV4::new(STACK, HTTP) };
    for (what, frame) in inject::bad_frames(flow, stage.injector.mac(), expected) {
        let sent = stage.injector.send(stage.stack.now(), &frame);
        sent.with_context(|| format!("the injector could not send {what}"))?;
    }
    fetch(&mut connection, "close").context("after the injection the connection is dead")?;
    Ok("a wrong TCP checksum, an IP header of 16 bytes, a segment beyond the window; the live connection lived on"
        .to_owned())
}

/// A time in the unit that keeps it short.
fn shown(time: Duration) -> String {
    match time.as_micros() {
        us @ 0..10_000 => format!("{us} us"),
        us @ 10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_data_tells_its_place() {
        let mut whole = vec![0; 4_096];
        fill(&mut whole, 0);
        let mut part = vec![0; 1_000];
        fill(&mut part, 2_048);
        assert_eq!(part, whole[2_048..3_048]);
        let words: std::collections::HashSet<&[u8]> = whole.chunks(8).collect();
        assert_eq!(words.len(), 512, "no word comes twice");
    }

    #[test]
    fn an_act_that_fails_says_why() {
        let act = Act::perform("x", || bail!("no"));
        assert!(!act.ok && act.what == "no");
        assert!(Act::perform("x", || Ok("done".to_owned())).ok);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(shown(Duration::from_micros(9_999)), "9999 us");
        assert_eq!(shown(Duration::from_micros(12_345)), "12 ms");
        assert_eq!(shown(Duration::from_millis(1_234)), "1.23 s");
    }
}
