//! `rxpath replay`: a capture through a stack that stands in for the host, and what became of each packet.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | files in, files out, progress |
//! | `words.rs` | fates in words |
//! | `summary.rs` | what is printed at the end |
//! | `json.rs` | the same for machines |
//! | `annotate.rs` | the capture written anew |

mod annotate;
mod json;
mod summary;
mod words;

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rxpath::capture::{CaptureReader, Interface};
use rxpath::config::HostConfig;
use rxpath_sim::replay::{Lives, Options, Replay, Summary, Told};
use rxpath_trace::Names;

use crate::args::ReplayArgs;
use crate::failure::Failure;
use crate::out::{BAD, Out, STRONG, note};
use crate::views::lives::coloured;
use annotate::Annotated;

pub use json::SCHEMA;

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// `rxpath replay`.
///
/// # Errors
/// The configuration is wrong (2); the capture cannot be read at all, the ledger does not balance, the output is not
/// taken (1).
pub fn run(out: &mut Out, args: &ReplayArgs, json: bool) -> Result<(), Failure> {
    let config = HostConfig::load(&args.config)?;
    let named = args.capture.display().to_string();
    let (input, size) = open(&args.capture)?;
    let reader = CaptureReader::new(input).map_err(|fault| anyhow!("{named} {fault}"))?;
    let lives = match (args.packet, &args.filter) {
        (Some(number), _) => Lives::Packet(number),
        (None, Some(filter)) => Lives::Filter(filter.clone()),
        (None, None) => Lives::None,
    };
    let listen = args.listen.iter().map(|listen| (listen.proto, listen.addr)).collect();
    let options = Options { bytes: args.pcapng.is_some(), listen, lives };
    let mut replay = Replay::new(&config, reader, options).context("making the host's stack")?;
    refuse_overwriting(args)?;
    let mut annotated = args.pcapng.as_deref().map(Annotated::create).transpose()?;
    let mut teller = Teller { out, args, json, names: replay.names(), first: None, told: 0 };
    let mut progress = Progress::new(size);
    let tell = |told: Told, interfaces: &[Interface]| -> Result<(), Failure> {
        if let Some(annotated) = &mut annotated {
            annotated.write(&told, interfaces)?;
        }
        teller.tell(&told)
    };
    let summary = replay.run(tell, |packets, bytes| progress.show(packets, bytes))?;
    progress.clear();
    if let Some(annotated) = annotated {
        annotated.finish()?;
    }
    let told = teller.told;
    end(out, args, &named, &summary, told, json)
}

/// The capture is read while the other file is written.
fn refuse_overwriting(args: &ReplayArgs) -> Result<(), Failure> {
    let Some(path) = &args.pcapng else { return Ok(()) };
    match (path.canonicalize(), args.capture.canonicalize()) {
        (Ok(to), Ok(from)) if to == from => {
            Err(Failure::Usage(format!("--pcapng {}: is the capture itself; name another file", path.display())))
        }
        _ => Ok(()),
    }
}

/// Opens the capture; gives its length, too, where that is known.
fn open(path: &Path) -> anyhow::Result<(Box<dyn Read>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let named = || path.display().to_string();
    let file = File::open(path).with_context(named)?;
    let about = file.metadata().with_context(named)?;
    if about.is_dir() {
        return Err(anyhow!("{}: is a folder, not a capture", named()));
    }
    let size = about.is_file().then_some(about.len());
    Ok((Box::new(file), size))
}

/// Tells packets as they are done.
struct Teller<'a> {
    out: &'a mut Out,
    args: &'a ReplayArgs,
    json: bool,
    names: Names,
    /// When the first packet was captured.
    first: Option<i64>,
    /// Packets that were asked for and told.
    told: u64,
}

impl Teller<'_> {
    fn tell(&mut self, told: &Told) -> Result<(), Failure> {
        self.first = self.first.or(told.time);
        let (packet, filter) = (self.args.packet, &self.args.filter);
        let chosen = packet.map(|number| told.number == number);
        let chosen = chosen.or_else(|| filter.as_ref().map(|filter| filter.matches(&told.flow)));
        if !chosen.unwrap_or(self.json) {
            return Ok(());
        }
        self.told += 1;
        if self.json {
            return self.out.json(&json::packet(told));
        }
        let since =
            told.since(self.first).map_or_else(String::new, |since| format!(" at +{:.6} s", since.0 as f64 / 1e9));
        let fate = words::sentence(told);
        self.out.line(format_args!("{STRONG}packet {} of the capture{since}{STRONG:#}: {fate}", told.number))?;
        if let Some(life) = &told.life {
            self.out.line(coloured(&life.story_with(&self.names)))?;
        }
        Ok(())
    }
}

/// Prints the end, and judges it.
fn end(out: &mut Out, args: &ReplayArgs, named: &str, summary: &Summary, told: u64, json: bool) -> Result<(), Failure> {
    if let Some(fault) = &summary.fault {
        if summary.packets == 0 {
            return Err(anyhow!("{named} {fault}").into());
        }
        let read = summary.packets;
        note(format_args!("{BAD}warning:{BAD:#} {named} {fault}; the {read} packets before that were replayed"));
    }
    if let Some(number) = args.packet.filter(|_| told == 0) {
        let count = summary.packets;
        return Err(anyhow!("{named} has no packet {number}: it has {count}").into());
    }
    if json {
        out.json(&json::summary(summary))?;
    } else if args.packet.is_none() {
        summary::print(out, summary)?;
    } else {
        out.line(&summary.ledger)?;
    }
    let sound = summary.ledger.check().is_ok() && summary.records_lost == 0;
    if sound { Ok(()) } else { Err(Failure::told()) }
}

/// Progress on standard error, where that is a terminal.
struct Progress {
    size: Option<u64>,
    shown: Option<Instant>,
    wanted: bool,
}

impl Progress {
    fn new(size: Option<u64>) -> Progress {
        Progress { size, shown: None, wanted: io::stderr().is_terminal() }
    }

    fn show(&mut self, packets: u64, bytes: u64) {
        if !self.wanted || self.shown.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let part = self.size.filter(|size| *size > 0).map(|size| format!(" ({} %)", bytes * 100 / size));
        // Nobody can be told if standard error is gone.
        let _ = write!(io::stderr(), "\r{packets} packets{}\x1b[K", part.unwrap_or_default());
    }

    fn clear(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
