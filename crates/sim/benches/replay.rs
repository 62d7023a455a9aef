//! A capture of a million packets, made as it is read, through `rxpath replay`'s stack: how long that takes.
//! `cargo bench -p rxpath-sim --bench replay`; a number as an argument is another count.
#![allow(clippy::print_stdout, reason = "a report")]

use std::convert::Infallible;
use std::io::Read;
use std::time::Instant;

use rxpath::capture::CaptureReader;
use rxpath::config::HostConfig;
use rxpath_sim::replay::synthetic::{self, Captured, HOST_TOML, pcap_header, pcap_record};
use rxpath_sim::replay::{Fate, Options, Replay};

const PACKETS: u64 = 1_000_000;

/// A capture that is nowhere as a whole.
struct Made<I> {
    frames: I,
    bytes: Vec<u8>,
    at: usize,
}

impl<I: Iterator<Item = Captured>> Read for Made<I> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.bytes.len() {
            let Some(frame) = self.frames.next() else { return Ok(0) };
            (self.bytes, self.at) = (pcap_record(frame.time, frame.bytes.len(), &frame.bytes), 0);
        }
        let len = buf.len().min(self.bytes.len() - self.at);
        buf[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let packets = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(PACKETS);
    let capture = Made { frames: synthetic::frames(packets, 7), bytes: pcap_header(1), at: 0 };
    let config = HostConfig::parse("host.toml", HOST_TOML)?;
    let begun = Instant::now();
    let mut replay = Replay::new(&config, CaptureReader::new(capture)?, Options::default())?;
    let mut told = 0u64;
    let tell = |_, _: &[_]| -> Result<(), Infallible> {
        told += 1;
        Ok(())
    };
    let summary = replay.run(tell, |_, _| {})?;
    let took = begun.elapsed();
    summary.ledger.check()?;
    assert_eq!((summary.packets, told, summary.records_lost), (packets, packets, 0), "each packet is told once");
    let delivered = summary.fates.iter().filter(|(fate, _)| *fate == Fate::Delivered).map(|(_, n)| n).sum::<u64>();
    println!(
        "{packets} packets replayed in {:.2} s, {:.0} ns each",
        took.as_secs_f64(),
        took.as_nanos() as f64 / packets as f64
    );
    println!("{} given to the stack, {delivered} of them delivered", summary.fed);
    println!("{}", summary.ledger);
    Ok(())
}
