//! The report of a case that differs: both runs side by side, the first difference marked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rxpath_wire::{SeqNum, TcpFlags};

use super::case::{CLIENT_ISN, CLIENT_PORT, Defect, Layout, Report, SERVER_PORT};
use super::compare::{Difference, Row, rows};
use super::frames::{Pair, Seen};
use super::record::{Event, Number, Recording, Sent, What};
use super::words;

/// Characters of the kernel's column.
const COLUMN: usize = 64;

/// Both runs, row by row, then the counters that differ.
pub fn side_by_side(kernel: &Recording, stack: &Recording, differences: &[Difference]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "    {:<COLUMN$}  stack", "kernel");
    let mut isns = Default::default();
    for (index, row) in rows(kernel, stack).into_iter().enumerate() {
        let wrong: Vec<&Difference> = differences.iter().filter(|difference| difference.row == Some(index)).collect();
        let first = differences.first().is_some_and(|difference| difference.row == Some(index));
        let mark = if first {
            ">>> "
        } else if wrong.is_empty() {
            "    "
        } else {
            " *  "
        };
        let _ = writeln!(text, "{mark}{}", line(row, &mut isns));
        for difference in wrong {
            let _ = writeln!(text, "        ^ {}", difference.what);
        }
    }
    for difference in differences.iter().filter(|difference| difference.row.is_none()) {
        let _ = writeln!(text, "    {}", difference.what);
    }
    text
}

fn line(row: Row<'_>, isns: &mut (Isns, Isns)) -> String {
    let left = row.kernel.map(|event| describe(event, &mut isns.0)).unwrap_or_default();
    match (row.kernel, row.stack) {
        // A step is the same on both sides, unless a call gave something else.
        (Some(kernel), Some(stack)) if !is_emitted(kernel) && kernel.what == stack.what => left,
        (_, stack) => {
            let right = stack.map(|event| describe(event, &mut isns.1)).unwrap_or_else(|| "-".to_owned());
            let left = if left.is_empty() { "-".to_owned() } else { left };
            format!("{left:<COLUMN$}  {right}")
        }
    }
}

fn is_emitted(event: &Event) -> bool {
    matches!(event.what, What::Emitted { .. })
}

/// What sequence numbers of each connection are relative to.
type Isns = BTreeMap<Pair, u32>;

/// One event in one line.
fn describe(event: &Event, isns: &mut Isns) -> String {
    let at = event.at as f64 / 1e6;
    match &event.what {
        What::Sent(sent) => format!("{at:>9.3}  > {}", segment(sent)),
        What::Fed { link, frame } => format!("{at:>9.3}  > {link}: {}", words::of(frame)),
        What::Reported(report, seq) => {
            let Report { kind, code, rest, sport, dport, quoted, .. } = *report;
            let seq = match seq {
                Number::Server(offset) => format!("{}", offset.cast_signed()),
                Number::Plain(number) => format!("={number}"),
            };
            format!("{at:>9.3}  > icmp {kind}/{code} {rest:#x} [{seq}, {quoted} bytes]{}", ports((sport, dport)))
        }
        What::Called(call, gave) => format!("{at:>9.3}  * {call} = {gave}"),
        What::Emitted { link, frame, prompt } => {
            let late = if *prompt { ' ' } else { '~' };
            let seen = Seen::of(frame);
            let Some(seen) = seen else { return format!("{at:>9.3} {late}< {link}: {}", words::of(frame)) };
            if seen.flags.syn() {
                isns.insert(seen.pair(), seen.seq.0);
            }
            let isn = isns.get(&seen.pair()).copied().unwrap_or(0);
            format!("{at:>9.3} {late}< {}{}", emitted(&seen, isn), ports(seen.pair()))
        }
    }
}

/// Flags as tcpdump writes them.
fn flags(flags: TcpFlags) -> String {
    let (ece, cwr) = (flags.contains(TcpFlags::ECE), flags.contains(TcpFlags::CWR));
    let names = [
        (flags.syn(), 'S'),
        (flags.fin(), 'F'),
        (flags.rst(), 'R'),
        (flags.psh(), 'P'),
        (flags.contains(TcpFlags::URG), 'U'),
        (ece, 'E'),
        (cwr, 'W'),
        (flags.ack(), '.'),
    ];
    let text: String = names.into_iter().filter(|&(set, _)| set).map(|(_, name)| name).collect();
    if text.is_empty() { "none".to_owned() } else { text }
}

fn emitted(seen: &Seen, isn: u32) -> String {
    let seq = seen.seq.0.wrapping_sub(isn).cast_signed();
    let mut text = format!("{} {seq}:{}", flags(seen.flags), seq.wrapping_add_unsigned(seen.len));
    if seen.flags.ack() {
        let _ = write!(text, " ack {}", seen.ack.0.wrapping_sub(CLIENT_ISN).cast_signed());
    }
    let _ = write!(text, " win {}", seen.window);
    if let Some(mss) = seen.options.mss {
        let _ = write!(text, " mss {mss}");
    }
    if let Some(shift) = seen.options.wscale {
        let _ = write!(text, " ws {shift}");
    }
    if let Some((_, echo)) = seen.options.timestamps {
        let _ = write!(text, " ecr {echo}");
    }
    if seen.flags.contains(TcpFlags::URG) || seen.urgent != 0 {
        let _ = write!(text, " urg {}", seen.urgent);
    }
    let relative = |edge: SeqNum| edge.0.wrapping_sub(CLIENT_ISN).cast_signed();
    blocks(&mut text, seen.options.sack_blocks().iter().map(|&(from, to)| (relative(from), relative(to))));
    text
}

/// SACK blocks.
fn blocks(text: &mut String, blocks: impl Iterator<Item = (i32, i32)>) {
    for (index, (from, to)) in blocks.enumerate() {
        let _ = write!(text, "{}{from}:{to}", if index == 0 { " sack " } else { "," });
    }
}

fn segment(sent: &Sent) -> String {
    let seq = sent.seq.wrapping_sub(CLIENT_ISN).cast_signed();
    let set = TcpFlags(sent.flags);
    let mut text = format!("{} {seq}:{}", flags(set), seq.wrapping_add_unsigned(u32::from(sent.len)));
    if set.ack() {
        match sent.ack {
            Number::Server(offset) => drop(write!(text, " ack {}", offset.cast_signed())),
            Number::Plain(number) => drop(write!(text, " ack ={number}")),
        }
    }
    let _ = write!(text, " win {}", sent.window);
    if let Some(mss) = sent.mss {
        let _ = write!(text, " mss {mss}");
    }
    if let Some(shift) = sent.wscale {
        let _ = write!(text, " ws {shift}");
    }
    if let Some((tsval, echo)) = sent.stamp {
        let _ = match echo {
            Number::Server(0) => write!(text, " val {tsval}"),
            Number::Server(offset) => write!(text, " val {tsval} ecr {:+}", offset.cast_signed()),
            Number::Plain(number) => write!(text, " val {tsval} ecr ={number}"),
        };
    }
    if sent.sack_permitted {
        text.push_str(" sackOK");
    }
    if set.contains(TcpFlags::URG) || sent.urgent != 0 {
        let _ = write!(text, " urg {}", sent.urgent);
    }
    blocks(&mut text, sent.sack.iter().map(|&(from, to)| (from.cast_signed(), to.cast_signed())));
    if sent.tos != 0 {
        let _ = write!(text, " tos {:#04x}", sent.tos);
    }
    match sent.defect {
        Defect::None => {}
        Defect::Checksum => text.push_str(" BAD CHECKSUM"),
        Defect::Offset(words) => drop(write!(text, " OFFSET {words}")),
        Defect::Cut(len) => drop(write!(text, " CUT TO {len}")),
    }
    if let [kind, _, cookie @ ..] = &sent.fast_open[..] {
        let _ = write!(text, " tfo {kind} {cookie:02x?}");
    }
    if sent.layout != Layout::Usual {
        let _ = write!(text, " {:?}", sent.layout);
    }
    text + &ports((sent.sport, sent.dport))
}

/// Ports, where they are not the usual ones.
fn ports(pair: Pair) -> String {
    let (client, server) = pair;
    if pair == (CLIENT_PORT, SERVER_PORT) { String::new() } else { format!(" (:{client} :{server})") }
}
