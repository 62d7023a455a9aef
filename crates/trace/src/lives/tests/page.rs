//! `docs/lives.md`, written from the code.

use std::fmt::Write as _;

use super::*;
use crate::filter::Filter;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lives.md");

/// Filters with what they choose.
const FILTERS: [(&str, &str); 9] = [
    ("host 10.0.0.1", "that address at either end; of ARP, sender or target"),
    ("src net 10.0.0.0/8", "sources within the prefix; `dst` for destinations, neither for both"),
    ("port 80", "TCP or UDP with that port at either end"),
    ("dst port 1000-1999", "a range of ports, of one side"),
    ("tcp", "one IP protocol: `tcp`, `udp`, `icmp`, `icmp6`, or `proto 132`"),
    ("arp", "one EtherType: `ip`, `ip6`, `arp`, or `ethertype 0x88cc`"),
    ("flags syn+ack", "TCP with all of these flags, others allowed"),
    ("flags =syn", "TCP with these flags and no others"),
    ("tcp and not (port 22 or src 10.0.0.7)", "`not` binds most, then `and`, then `or`"),
];

const INTRODUCTION: &str = "\
A life is the run of events of one packet, from its birth to exactly one end. Lives are recorded for chosen packets, in a
ring of each Cpu that is allocated when the stack begins; nothing is formatted before somebody reads. Records that find
the ring full are counted, and the count is an event, too (`Lost`).

`rxpath life` shows the lives of a running stack, `rxpath demo` and `rxpath replay` those of their packets. In a program,
`StackBuilder::lives` chooses, `Stack::take_events` gives events, and `rxpath_trace::lives::group` makes lives of them.
";

const CHOOSING: &str = "\
`off`, `all`, `1/100` (one frame in so many, of each ring) or a filter, in `[life] select` of `host.toml`, `rxpath life
--select` and `Selector`. `rxpath life --filter` takes a filter, too, and asks it of lives that were recorded.
";

fn page() -> String {
    let life = Pen::new(r0(17), 1_000_000)
        .write(Offered, 1_514, device_word(2, 0))
        .at(1_000_003)
        .write(Harvested, 0x51cc_c178, 1)
        .write(EthTypeTrans, 0, 0x0800)
        .write(GroPassed, GroPass::Final as u32, 0)
        .write(NetifReceive, 0, 0x0800)
        .write(IpRcv, 1_500, 64)
        .write(Addresses, ip([10, 0, 0, 2]), ip([10, 0, 0, 1]))
        .write(RouteLocal, 2, 0)
        .write(LocalDeliver, 6, 0)
        .write(TcpV4Rcv, 1_000, 1_448)
        .write(Ports, ports_word(40_000, 80), 0x18)
        .write(LookupHit, LookupKind::Established as u32, 0)
        .write(FastPath, 1_448, 0)
        .write(Queued, 1_448, 2_304)
        .with(AckNow, 2_448, AckWhy::Quick as u32, c0(5))
        .write(Woken, 1_448, 1)
        .at(1_000_090)
        .write(Recv, 1_448, 1)
        .life();
    let mut text = format!(
        "# Lives of packets\n\n<!-- Written by RXPATH_BLESS=1 cargo test -p rxpath-trace the_page_of_lives -->\n\n\
         {INTRODUCTION}\n## Choosing packets\n\n{CHOOSING}\n| filter | chooses |\n|---|---|\n"
    );
    for (filter, chooses) in FILTERS {
        let _ = writeln!(text, "| `{filter}` | {chooses} |");
    }
    let _ = write!(text, "\n## As a story\n\n```text\n{}```\n", life.story());
    let _ = write!(
        text,
        "\n## As JSON lines\n\n```text\n{SCHEMA}```\n\nThe life above:\n\n```json\n{}\n```\n",
        life.json_line()
    );
    text.push_str(
        "\n## Kinds of events\n\nA birth begins a life, an end ends it; a station is where the packet goes; what is told \
         aside happens while it stays.\n\n| kind | is | phase | kernel function | what |\n|---|---|---|---|---|\n",
    );
    for kind in EventKind::ALL {
        let is = match kind {
            EventKind::Lost => "no packet's",
            kind if kind.birth() => "birth",
            kind if kind.terminal() => "end",
            kind if kind.aside() => "aside",
            _ => "station",
        };
        let (name, phase, function, what) = (kind.name(), kind.phase().name(), kind.function(), meaning(kind.name()));
        let _ = writeln!(text, "| `{name}` | {is} | {phase} | `{function}` | {what} |");
    }
    text
}

/// What the source says at a variant of [`EventKind`], in one line and without links.
fn meaning(kind: &str) -> String {
    let lines: Vec<&str> = include_str!("../../event.rs").lines().map(str::trim).collect();
    let place_of = |line: &str| {
        let mut words = line.split(' ');
        words.next() == Some(kind)
            && words.next().is_some_and(|word| ["Birth", "Middle", "Aside", "End"].contains(&word))
    };
    let at = lines.iter().position(|line| place_of(line)).unwrap_or_else(|| panic!("{kind} is declared"));
    let said = lines[..at].iter().rev().map_while(|line| line.strip_prefix("/// "));
    let mut said: Vec<&str> = said.collect();
    said.reverse();
    let mut text = said.join(" ");
    assert!(text.contains("`a`"), "{kind}: {text}");
    // A link with a target of its own, then those to what is named.
    while let Some(end) = text.find("](") {
        let close = end + text[end..].find(')').expect("a link ends");
        text.replace_range(end + 1..=close, "");
    }
    text.replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

#[test]
fn the_page_of_lives_is_what_is_written() {
    let now = page();
    if std::env::var_os("RXPATH_BLESS").is_some() {
        std::fs::write(PAGE, &now).expect("the page is written");
    }
    let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differing = now.lines().zip(committed.lines()).find(|(now, committed)| now != committed);
    assert!(now == committed, "run RXPATH_BLESS=1 cargo test -p rxpath-trace the_page_of_lives: {differing:?}");
}

#[test]
fn every_filter_of_the_page_is_understood() {
    for (filter, _) in FILTERS {
        Filter::parse(filter).unwrap_or_else(|error| panic!("{}", error.explain(filter)));
    }
}
