//! Bulk sending by copy and without, in turns of one run, over an in-memory wire: throughput, and time of all Cpus for it.
//!
//! ```text
//! cargo run --release -p rxpath --example zerocopy
//! ```
//!
//! The wire copies each byte into the receiver's ring, as a card's DMA would, and the reader copies it out of there; what
//! zero copy saves are the two copies before these, into the send buffer and out of it.
#![allow(clippy::print_stdout, reason = "an example tells what it found")]

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rxpath::device::wire::{self, WireConfig};
use rxpath::net::{Payload, TcpListener, TcpStream};
use rxpath::{Interface, Stack};

/// Bytes of a call, and calls of a turn.
const CALL: usize = 256 * 1_024;
const CALLS: usize = 4_000;
const TURNS: usize = 5;

#[derive(Clone, Copy, PartialEq)]
enum How {
    Copy,
    Zerocopy,
}

/// What one turn took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    let server = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
    let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
    let listener = TcpListener::bind(&server, "10.0.0.1:80")?;
    let mut costs = [Vec::new(), Vec::new()];
    // The first turn of each warms up.
    for turn in 0..=TURNS {
        for (how, costs) in [How::Copy, How::Zerocopy].into_iter().zip(&mut costs) {
            let cost = transfer(&listener, &client, how)?;
            if turn > 0 {
                costs.push(cost);
            }
        }
    }
    let gib = (CALL * CALLS) as f64 / (1u64 << 30) as f64;
    println!("{TURNS} turns of {gib:.2} GiB each way, in calls of {} KiB", CALL / 1_024);
    for (name, costs) in ["copy", "zero copy"].into_iter().zip(&costs) {
        let median = |of: fn(&Cost) -> Duration| {
            let mut all: Vec<Duration> = costs.iter().map(of).collect();
            all.sort();
            (all[0], all[all.len() / 2], all[all.len() - 1])
        };
        let (wall, cpu) = (median(|cost| cost.wall), median(|cost| cost.cpu));
        let rate = |time: Duration| gib / time.as_secs_f64();
        println!(
            "{name:>9}: {:.2} GiB/s (slowest {:.2}, fastest {:.2}), {:.3} s of Cpu time per GiB",
            rate(wall.1),
            rate(wall.2),
            rate(wall.0),
            cpu.1.as_secs_f64() / gib,
        );
    }
    Ok(())
}

/// One connection that carries a turn's bytes.
fn transfer(listener: &TcpListener, client: &Stack, how: How) -> io::Result<Cost> {
    let mut stream = TcpStream::connect(client, "10.0.0.1:80")?;
    let (mut service, _) = listener.accept()?;
    let reader = std::thread::spawn(move || -> io::Result<()> {
        let mut buf = vec![0; 1 << 20];
        while service.read(&mut buf)? > 0 {}
        Ok(())
    });
    stream.set_zerocopy(how == How::Zerocopy);
    let data: Arc<[u8]> = vec![0x5a; CALL].into();
    let payload = Payload::new(Arc::clone(&data));
    let (began, cpu) = (Instant::now(), cpu_time()?);
    let mut told = 0;
    for _ in 0..CALLS {
        match how {
            How::Copy => stream.write_all(&data)?,
            How::Zerocopy => {
                stream.send_zerocopy(&payload)?;
                while let Ok(notice) = stream.recv_zerocopy() {
                    assert!(!notice.copied, "nothing on this way copies");
                    told = notice.last + 1;
                }
            }
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    reader.join().expect("the reader does not panic")?;
    while how == How::Zerocopy && told < CALLS as u32 {
        match stream.recv_zerocopy() {
            Ok(notice) => told = notice.last + 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    Ok(Cost { wall: began.elapsed(), cpu: cpu_time()?.saturating_sub(cpu) })
}

/// What the process has used of all Cpus, in the 10 ms units of `/proc/self/stat`.
fn cpu_time() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
