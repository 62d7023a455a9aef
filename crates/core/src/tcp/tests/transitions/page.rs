//! The transition table as a page: cells of one outcome in one row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use rxpath_wire::TcpFlags;

use super::{Acks, Class, Outcome, PLACES, Place, Start, flags_of};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tcp-states.md");

type Cells = BTreeMap<Class, Outcome>;
/// Place and data.
type Spot = (Place, bool);
/// What has an outcome: spots, and the acknowledgements unless any will do.
type Product<'a> = (Vec<Spot>, Option<Vec<Acks>>, &'a Outcome);

const HEAD: &str = "# TCP: every state by every class of segments

<!-- Written by RXPATH_BLESS=1 cargo test -p rxpath-core the_page_of_states -->

What becomes of one segment in each state of a connection, as it happens: every cell is run as a test, a fresh stack, one
frame on the wire. Rows gather the cells that have one outcome.

* **flags**: of FIN (`F`), SYN (`S`), RST (`R`) and ACK (`A`); `-` is none of them. PSH and URG change no state.
* **seq**: *below*, all of it was received before; *across*, it begins before `rcv_nxt`, one before it or with data that
  reaches behind it; *next*, at `rcv_nxt`; *window*, behind that, in the window; *edge*, at the right edge of the window, or
  with data that reaches beyond it; *beyond*, outside. `+d` with data alone, `-d` without alone.
* **ack**: *nxt*, all that was sent; *una*, nothing of what is in flight; *old*, one less than was acknowledged; *ancient*, a
  million less; *future*, what was never sent.
* **then**: the state afterwards, and the error that the application is told.
* **sent**: what leaves at once, with its numbers; *ACK later* is a delayed one.
* **segment**: how it ends, by drop reason where it is dropped.
* **counters**: of TCP that move, beyond segments that came and left.

Timestamps and selective acknowledgements were agreed on. *Stale* rows have a timestamp of the past. Where the kernel
limits the rate of an answer, this is the first.
";

/// The page.
pub fn page(tables: &[(Start, Cells)]) -> String {
    let mut page = String::from(HEAD);
    for (start, cells) in tables {
        let _ = write!(page, "\n## {}\n\n{}\n\n", start.name(), start.about());
        page.push_str("| flags | seq | ack | then | sent | segment | counters |\n|---|---|---|---|---|---|---|\n");
        for stale in [false, true] {
            for row in rows(cells, stale) {
                let _ = writeln!(page, "{row}");
            }
        }
    }
    page
}

/// Compares with what is committed, or writes it.
pub fn check(now: &str) {
    if std::env::var_os("RXPATH_BLESS").is_some() {
        std::fs::write(PAGE, now).expect("the page is written");
    }
    let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differing = now.lines().zip(committed.lines()).find(|(now, committed)| now != committed);
    assert!(
        now == committed,
        "run RXPATH_BLESS=1 cargo test -p rxpath-core the_page_of_states, and review what has changed: {differing:?}"
    );
}

/// The rows of a table: for each outcome the products of spots and acknowledgements that it has, flags that agree in all
/// of that together.
fn rows(cells: &Cells, stale: bool) -> Vec<String> {
    let all_acks: BTreeSet<Acks> = cells.keys().filter(|class| class.stale == stale).map(|class| class.acks).collect();
    let mut found: BTreeMap<Product<'_>, Vec<u8>> = BTreeMap::new();
    for number in 0..16 {
        let flags = flags_of(number);
        let mut spots: BTreeMap<(&Outcome, Acks), Vec<Spot>> = BTreeMap::new();
        for (class, outcome) in cells.iter().filter(|(class, _)| class.flags == flags && class.stale == stale) {
            spots.entry((outcome, class.acks)).or_default().push((class.place, class.data));
        }
        let mut products: BTreeMap<(&Outcome, Vec<Spot>), Vec<Acks>> = BTreeMap::new();
        for ((outcome, acks), spots) in spots {
            products.entry((outcome, spots)).or_default().push(acks);
        }
        let has_ack = flags & TcpFlags::ACK.0 != 0;
        for ((outcome, spots), acks) in products {
            // Whatever a segment without ACK says is as good as any.
            let all = !has_ack || acks.len() == all_acks.len();
            found.entry((spots, (!all).then_some(acks), outcome)).or_default().push(number);
        }
    }
    let mut rows: Vec<(Vec<u8>, String)> = found
        .into_iter()
        .map(|((spots, acks, outcome), flags)| {
            let acks = acks.map_or_else(|| "any".to_owned(), |acks| words(acks.iter().map(|acks| format!("{acks:?}"))));
            let Outcome { state, sent, end, counters } = outcome;
            let (when, stale) = (tell_spots(&spots), if stale { "stale: " } else { "" });
            let row =
                format!("| {stale}{} | {when} | {acks} | {state} | {sent} | {end} | {counters} |", tell_flags(&flags));
            (flags, row)
        })
        .collect();
    rows.sort();
    rows.into_iter().map(|(_, row)| row).collect()
}

fn words(words: impl Iterator<Item = String>) -> String {
    words.map(|word| word.to_lowercase()).collect::<Vec<_>>().join(", ")
}

/// Combinations of flags by letters.
fn tell_flags(numbers: &[u8]) -> String {
    if numbers.len() == 16 {
        return "any".to_owned();
    }
    let name = |&number: &u8| {
        let flags = flags_of(number);
        let letters = [(TcpFlags::SYN, 'S'), (TcpFlags::FIN, 'F'), (TcpFlags::RST, 'R'), (TcpFlags::ACK, 'A')];
        let text: String = letters.iter().filter(|(flag, _)| flags & flag.0 != 0).map(|(_, letter)| *letter).collect();
        if text.is_empty() { "-".to_owned() } else { text }
    };
    numbers.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn tell_spots(spots: &[Spot]) -> String {
    if spots.len() == 2 * PLACES.len() {
        return "any".to_owned();
    }
    let with = PLACES.iter().filter(|place| spots.contains(&(**place, true)));
    if with.clone().count() == PLACES.len() && spots.len() == PLACES.len() {
        return "any +d".to_owned();
    }
    if with.count() == 0 && spots.len() == PLACES.len() {
        return "any -d".to_owned();
    }
    let word = |place: &Place| {
        let (without, with) = (spots.contains(&(*place, false)), spots.contains(&(*place, true)));
        let name = format!("{place:?}").to_lowercase();
        match (without, with) {
            (true, true) => Some(name),
            (true, false) => Some(format!("{name} -d")),
            (false, true) => Some(format!("{name} +d")),
            (false, false) => None,
        }
    };
    PLACES.iter().filter_map(word).collect::<Vec<_>>().join(", ")
}

/// Flags of a segment that was sent.
pub fn flag_names(flags: u8) -> String {
    let names = [
        (TcpFlags::SYN, "SYN"),
        (TcpFlags::FIN, "FIN"),
        (TcpFlags::RST, "RST"),
        (TcpFlags::PSH, "PSH"),
        (TcpFlags::ACK, "ACK"),
    ];
    names.iter().filter(|(flag, _)| flags & flag.0 != 0).map(|(_, name)| *name).collect::<Vec<_>>().join("-")
}

/// A state's name as the RFC spells it.
pub fn kernel_name(state: &str) -> String {
    let mut name = String::new();
    for (index, letter) in state.char_indices() {
        if index > 0 && (letter.is_uppercase() || letter.is_ascii_digit()) {
            name.push('-');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
