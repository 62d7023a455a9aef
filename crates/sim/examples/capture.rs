//! Writes a capture made up from a seed, to measure `rxpath replay` with, and the `host.toml` of its host beside it.
//!
//! ```text
//! cargo run --release -p rxpath-sim --example capture -- 1000000 /tmp/server.pcap
//! time target/release/rxpath replay /tmp/server.pcap --config /tmp/server.toml
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;

use rxpath_sim::replay::synthetic;

const USAGE: &str = "usage: capture PACKETS FILE.pcap [SEED]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (packets, file, seed) = match arguments.as_slice() {
        [packets, file] => (packets, file, 1),
        [packets, file, seed] => (packets, file, seed.parse()?),
        _ => return Err(USAGE.into()),
    };
    let path = PathBuf::from(file);
    synthetic::write_pcap(BufWriter::new(File::create(&path)?), packets.parse()?, seed)?;
    fs::write(path.with_extension("toml"), synthetic::HOST_TOML)?;
    Ok(())
}
