//! `rxpath dump`: packets of a running stack, as they come and go, into a pcapng file or as lines.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow};
use rxpath::capture::{CaptureWriter, Interface, Link, Written};
use rxpath_trace::Filter;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::args::DumpArgs;
use crate::control::Ask;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::out::{Out, note};
use crate::views::dump::{DumpBatch, DumpPacket, DumpStart, from_hex, line};

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    /// Packets that were written or shown.
    captured: u64,
    /// Packets that the buffer had no room for.
    dropped: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let packets = |n: u64| if n == 1 { "1 packet".to_owned() } else { format!("{n} packets") };
        write!(f, "{} captured, {} dropped by the buffer", packets(self.captured), self.dropped)
    }
}

/// `rxpath dump`.
///
/// # Errors
/// The filter is not understood (2). No stack answers, there is no such interface, or what is captured cannot be written
/// (1): what was captured until then is in the file.
pub fn run(out: &mut Out, args: &DumpArgs, json: bool) -> Result<(), Failure> {
    let text = args.filter.join(" ");
    if !text.is_empty() {
        Filter::parse(&text).map_err(|error| Failure::Usage(format!("the filter:\n{}", error.explain(&text))))?;
    }
    let interrupted = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("watching for signals")?;
    }
    let mut client = Client::connect(args.control.control.as_deref())?;
    let start: DumpStart = client.ask(&Ask::Dump {
        interface: args.interface.clone(),
        filter: Some(text).filter(|text| !text.is_empty()),
        snaplen: args.snaplen,
        buffer_kib: args.buffer,
    })?;
    let mut sink = match &args.write {
        Some(path) => Sink::File(Box::new(Capture::create(path, args.snaplen, start.clone())?)),
        None if json => Sink::Json,
        None => Sink::Lines,
    };
    let names: Vec<&str> = start.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    note(format_args!("watching {}; Ctrl-C ends it", names.join(", ")));
    let mut summary = Summary::default();
    let watched = watch(&mut client, &mut sink, out, &start, args, &interrupted, &mut summary);
    let finished = sink.finish();
    match &args.write {
        Some(path) if json && path != Path::new("-") => out.json(&summary)?,
        _ => note(summary),
    }
    watched.and(finished)
}

/// Takes what comes until there is enough, a signal comes, or the stack goes away.
fn watch(
    client: &mut Client,
    sink: &mut Sink,
    out: &mut Out,
    start: &DumpStart,
    args: &DumpArgs,
    interrupted: &AtomicBool,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let enough = args.count.unwrap_or(u64::MAX);
    while summary.captured < enough && !interrupted.load(Ordering::Relaxed) {
        let Some(DumpBatch { packets, dropped }) = client.next()? else { return Ok(()) };
        summary.dropped = dropped;
        for packet in packets {
            if summary.captured == enough {
                break;
            }
            sink.packet(out, start, &packet)?;
            summary.captured += 1;
        }
        sink.flush(out)?;
    }
    Ok(())
}

/// Where packets go.
enum Sink {
    File(Box<Capture>),
    Json,
    Lines,
}

impl Sink {
    fn packet(&mut self, out: &mut Out, start: &DumpStart, packet: &DumpPacket) -> Result<(), Failure> {
        let frame = || from_hex(&packet.data).ok_or_else(|| anyhow!("packet {}: no bytes came with it", packet.packet));
        match self {
            Sink::File(capture) => capture.packet(packet, &frame()?),
            Sink::Json => out.json(packet),
            Sink::Lines => {
                let known = start.interfaces.iter().find(|interface| interface.ifindex == packet.ifindex);
                out.line(line(packet, &frame()?, known.map_or("?", |interface| &interface.name)))
            }
        }
    }

    /// Hands over what was written, and finds out whether somebody still reads it.
    fn flush(&mut self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Sink::File(capture) => capture.flush(),
            Sink::Json | Sink::Lines => {
                out.check_reader()?;
                out.flush()
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Sink::File(capture) => capture.finish(),
            Sink::Json | Sink::Lines => Ok(()),
        }
    }
}

/// A capture in the making.
struct Capture {
    /// As the command line has it.
    name: String,
    is_stdout: bool,
    writer: CaptureWriter<Box<dyn Write>>,
    start: DumpStart,
    written: u64,
}

impl Capture {
    fn create(path: &Path, snaplen: u32, start: DumpStart) -> Result<Capture, Failure> {
        let (name, is_stdout) = (format!("-w {}", path.display()), path == Path::new("-"));
        let output: Box<dyn Write> = if is_stdout {
            Box::new(BufWriter::new(io::stdout()))
        } else {
            let mend = "choose another file, in a folder that is there and yours";
            let file = File::create(path).map_err(|error| anyhow!("{name}: {error}; {mend}"))?;
            Box::new(BufWriter::with_capacity(1 << 16, file))
        };
        let application = concat!("rxpath ", env!("CARGO_PKG_VERSION"));
        let begun = CaptureWriter::new(output, application).and_then(|mut writer| {
            for interface in &start.interfaces {
                let name = Some(interface.name.clone());
                let link = Link::Ethernet;
                writer.interface(&Interface { link, snaplen, name, fcs_len: 0, resolution: 9, offset_s: 0 })?;
            }
            writer.flush()?;
            Ok(writer)
        });
        match begun {
            Ok(writer) => Ok(Capture { name, is_stdout, writer, start, written: 0 }),
            Err(error) => Err(failure(&name, is_stdout, 0, error)),
        }
    }

    fn packet(&mut self, packet: &DumpPacket, frame: &[u8]) -> Result<(), Failure> {
        let known = self.start.interfaces.iter().position(|interface| interface.ifindex == packet.ifindex);
        let time = self.start.epoch_ns.saturating_add_unsigned(packet.at);
        let written = self.writer.packet(&Written {
            interface: known.unwrap_or_default() as u32,
            time,
            wire_len: packet.len,
            data: frame,
            flags: packet.to.flags(),
            lost: packet.dropped_before,
            comment: "",
            id: Some(packet.id),
            queue: None,
            verdict: None,
        });
        written.map_err(|error| failure(&self.name, self.is_stdout, self.written, error))?;
        self.written += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| failure(&self.name, self.is_stdout, self.written, error))
    }

    fn finish(self) -> Result<(), Failure> {
        let Capture { name, is_stdout, writer, written, .. } = self;
        writer.finish().map(drop).map_err(|error| failure(&name, is_stdout, written, error))
    }
}

/// The output was not taken. Standard output of which the reader went away is no failure to tell of.
fn failure(name: &str, is_stdout: bool, written: u64, error: io::Error) -> Failure {
    if is_stdout && error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::ClosedPipe;
    }
    let mend = if error.kind() == io::ErrorKind::StorageFull { "; make room, or choose another place" } else { "" };
    Failure::Failed(anyhow!("{name}: {error}{mend} ({written} packets were given to it before)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::dump::{DumpInterface, To, to_hex};

    #[test]
    fn the_summary_counts() {
        let says = |captured, dropped| Summary { captured, dropped }.to_string();
        assert_eq!(says(1, 0), "1 packet captured, 0 dropped by the buffer");
        assert_eq!(says(2, 3), "2 packets captured, 3 dropped by the buffer");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_with_the_mend() {
        let start =
            || DumpStart { interfaces: vec![DumpInterface { ifindex: 1, name: "eth0".to_owned() }], epoch_ns: 0 };
        let missing = Capture::create(Path::new("/no/such/folder/x.pcapng"), 0, start()).err().expect("no folder");
        let text = missing.to_string();
        assert!(text.starts_with("-w /no/such/folder/x.pcapng: No such file"), "{text}");
        assert!(text.ends_with("choose another file, in a folder that is there and yours"), "{text}");
        if !Path::new("/dev/full").exists() {
            return;
        }
        let full = Capture::create(Path::new("/dev/full"), 0, start()).err().expect("a full disk");
        assert_eq!(
            full.to_string(),
            "-w /dev/full: No space left on device (os error 28); make room, or choose another place (0 packets were \
             given to it before)"
        );
    }

    #[test]
    fn what_is_no_hex_is_no_packet() {
        let start = DumpStart { interfaces: Vec::new(), epoch_ns: 0 };
        let packet = DumpPacket {
            at: 0,
            packet: "r0:1".to_owned(),
            id: 1,
            ifindex: 1,
            to: To::Host,
            len: 14,
            dropped_before: 0,
            checksum_open: false,
            data: to_hex(&[0; 14]) + "x",
        };
        let mut out = Out::to(Box::new(io::sink()));
        let error = Sink::Lines.packet(&mut out, &start, &packet).expect_err("odd");
        assert_eq!(error.to_string(), "packet r0:1: no bytes came with it");
    }
}
