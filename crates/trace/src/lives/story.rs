//! The life as a story.

use std::fmt::Write as _;

use super::facts::Facts;
use super::{Life, Names, Status, words};
use crate::event::{DatagramFound, Event, EventKind, MadeHow};
use crate::time::Time;

/// Where the text of a line begins, and where it is broken.
const INDENT: usize = 21;
const WIDTH: usize = 118;

pub(super) fn tell(life: &Life, names: &Names) -> String {
    let mut story = headline(life, names);
    story.push('\n');
    let Some(first) = life.events.first() else { return story };
    let origin = life.birth().map_or(first.at, |birth| birth.at);
    for line in lines(life, names) {
        let since = elapsed(line.at, origin);
        write_wrapped(&mut story, &format!("  {since:<10} {:<7} ", line.label), &line.text);
    }
    match life.status() {
        Status::Unfinished => {
            let last = life.events.iter().rev().find(|event| !event.kind.aside()).unwrap_or(first);
            let _ = writeln!(story, "  (on its way still, or held: last seen in {})", last.function());
        }
        Status::Broken => {
            let births = life.events.iter().filter(|event| event.kind.birth()).count();
            let ends = life.events.iter().filter(|event| event.kind.terminal()).count();
            let _ = writeln!(story, "  (the record is faulty: {births} births, {ends} ends)");
        }
        Status::Finished | Status::Orphan => {}
    }
    story
}

/// `packet r0:17, a TCP segment of 66 bytes from … to …, offered by tap0 queue 0 at 1.002340 s`
fn headline(life: &Life, names: &Names) -> String {
    let facts = Facts::of(life);
    let what = facts.what();
    let of_bytes = facts.bytes.map_or(String::new(), |bytes| format!(" of {bytes} bytes"));
    let from_to = facts.whence_whither();
    let Some(birth) = life.birth() else {
        let since = life.events.first().map_or(Time::ZERO, |event| event.at);
        return format!("packet {}, {what}{from_to}, whose beginning was not recorded; first seen at {since}", life.id);
    };
    let queue = facts.device.map(|(ifindex, queue)| format!("{} queue {queue}", names.device_name(ifindex)));
    let origin = match (birth.kind, queue) {
        (EventKind::Missed, Some(queue)) => format!("for which {queue} had no slot"),
        (_, Some(queue)) => format!("offered by {queue}"),
        (EventKind::Cloned, _) => format!("a clone of {} for a tap", birth.other),
        (EventKind::Made, _) => MadeHow::from_number(birth.a).map_or("made here", MadeHow::words).to_string(),
        _ if birth.other.is_none() => "made here".to_string(),
        _ => format!("made here because of {}", birth.other),
    };
    format!("packet {}, {what}{of_bytes}{from_to}, {origin} at {}", life.id, birth.at)
}

/// One line: events of one phase at one moment.
struct Line {
    at: Time,
    label: &'static str,
    text: String,
    cpu: u8,
}

fn lines(life: &Life, names: &Names) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut station = None;
    let mut own_line = false;
    for event in &life.events {
        let said = words::say(event, station, names);
        station = if event.kind.aside() { station } else { Some(event) };
        let label = match event.kind {
            // What is said of a packet that the stack made belongs to its making.
            EventKind::Addresses | EventKind::Ports => lines.last().map_or(label(event), |line| line.label),
            _ => label(event),
        };
        let alone = event.kind.terminal();
        match lines.last_mut() {
            Some(last)
                if last.at == event.at && last.label == label && last.cpu == event.cpu && !alone && !own_line =>
            {
                last.text.push_str("; ");
                last.text.push_str(&said);
            }
            last => {
                let moved = last.is_some_and(|last| last.cpu != event.cpu);
                let text = if moved { format!("(Cpu {}) {said}", event.cpu) } else { said };
                lines.push(Line { at: event.at, label, text, cpu: event.cpu });
            }
        }
        own_line = alone;
    }
    lines
}

/// The phase; of an end, what became of the packet, in capitals.
fn label(event: &Event) -> &'static str {
    match event.kind {
        EventKind::Dropped => "DROPPED",
        EventKind::GroMerged => "MERGED",
        EventKind::Coalesced => "JOINED",
        EventKind::Consumed => "DONE",
        EventKind::Transmitted => "SENT",
        EventKind::Recv | EventKind::DatagramRecv | EventKind::TapRead => "READ",
        EventKind::DatagramLookup if event.a == DatagramFound::Raw as u32 => "raw",
        EventKind::UdpRcv | EventKind::DatagramLookup => "UDP",
        kind => kind.phase().name(),
    }
}

/// `+3 us`, in a unit that keeps it short.
pub(super) fn elapsed(at: Time, origin: Time) -> String {
    match at - origin {
        ns @ 1..1_000 => format!("+{ns} ns"),
        ns @ 0..100_000_000 => format!("+{} us", ns / 1_000),
        ns @ 0..100_000_000_000 => format!("+{}.{} ms", ns / 1_000_000, ns / 100_000 % 10),
        ns => format!("+{} s", ns / 1_000_000_000),
    }
}

/// Writes the text behind its heading, broken between words where it is too wide.
fn write_wrapped(story: &mut String, heading: &str, text: &str) {
    story.push_str(heading);
    let mut column = heading.chars().count();
    for (i, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if i > 0 && column + 1 + width > WIDTH {
            story.push('\n');
            story.push_str(&" ".repeat(INDENT));
            column = INDENT;
        } else if i > 0 {
            story.push(' ');
            column += 1;
        }
        story.push_str(word);
        column += width;
    }
    story.push('\n');
}
