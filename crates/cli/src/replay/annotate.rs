//! The capture written anew, with what became of each packet beside it.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rxpath::capture::{CaptureWriter, Interface, Link, Verdict, Written};
use rxpath_sim::replay::{Fate, Told};

use super::words;

/// What packets are written under whose interface the capture does not describe.
const NOWHERE: Interface =
    Interface { link: Link::Other(u16::MAX), snaplen: 0, name: None, fcs_len: 0, resolution: 9, offset_s: 0 };

/// A file in the making.
pub struct Annotated {
    path: PathBuf,
    writer: CaptureWriter<BufWriter<File>>,
    /// The file's number of each interface of the capture, in the order of the capture's.
    described: Vec<u32>,
    nowhere: Option<u32>,
    interfaces: u32,
    /// Time of the last packet: for those that have none.
    last: i64,
}

impl Annotated {
    /// Begins the file.
    ///
    /// # Errors
    /// It cannot be written; so for all methods here.
    pub fn create(path: &Path) -> anyhow::Result<Annotated> {
        let named = || format!("--pcapng {}", path.display());
        let file = File::create(path).with_context(named)?;
        let application = concat!("rxpath ", env!("CARGO_PKG_VERSION"));
        let writer = CaptureWriter::new(BufWriter::new(file), application).with_context(named)?;
        Ok(Annotated { path: path.to_owned(), writer, described: Vec::new(), nowhere: None, interfaces: 0, last: 0 })
    }

    /// Writes a packet.
    pub fn write(&mut self, told: &Told, interfaces: &[Interface]) -> anyhow::Result<()> {
        self.try_write(told, interfaces).with_context(|| format!("--pcapng {}", self.path.display()))
    }

    fn try_write(&mut self, told: &Told, interfaces: &[Interface]) -> std::io::Result<()> {
        for interface in interfaces.iter().skip(self.described.len()) {
            self.described.push(self.interfaces);
            self.describe(interface)?;
        }
        let known = told.interface.and_then(|index| self.described.get(index).copied());
        let interface = match known.or(self.nowhere) {
            Some(number) => number,
            None => {
                let number = self.interfaces;
                self.nowhere = Some(number);
                self.describe(&NOWHERE)?;
                number
            }
        };
        self.last = told.time.unwrap_or(self.last);
        let comment = words::sentence(told);
        self.writer.packet(&Written {
            interface,
            time: self.last,
            wire_len: told.wire_len,
            data: &told.data,
            flags: told.flags,
            lost: told.lost,
            comment: &comment,
            id: told.id.map(|(id, _)| id.0),
            queue: told.id.map(|(_, queue)| u32::from(queue)),
            verdict: verdict(told.fate),
        })
    }

    fn describe(&mut self, interface: &Interface) -> std::io::Result<()> {
        self.interfaces += 1;
        self.writer.interface(interface)
    }

    /// Ends the file.
    pub fn finish(self) -> anyhow::Result<()> {
        let Annotated { path, writer, .. } = self;
        writer.finish().map(drop).with_context(|| format!("--pcapng {}", path.display()))
    }
}

fn verdict(fate: Fate) -> Option<Verdict> {
    match fate {
        Fate::Dropped(_) => Some(Verdict::Drop),
        Fate::Delivered | Fate::Consumed(_) | Fate::Held(_) => Some(Verdict::Pass),
        Fate::Outbound => Some(Verdict::Tx),
        Fate::NotFollowed | Fate::Unfed(_) => None,
    }
}
