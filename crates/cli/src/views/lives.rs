//! `rxpath life`: lives as stories, and the choice among them.

use rxpath_trace::{EventKind, Filter, Life, Names};

use super::{LifeRow, Lives};
use crate::failure::Failure;
use crate::out::{BAD, FAINT, GOOD, Out, STRONG};

/// Where the label of a story's line begins and how wide it is; before it stands the time.
const LABEL_AT: usize = 13;
const LABEL_WIDTH: usize = 7;

/// Why there is nothing to see, and the mend.
pub const NONE_RECORDED: &str = "none is being recorded: `rxpath life --select all` begins";

/// Which lives are meant.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Those that the filter matches; all without one.
    pub filter: Option<Filter>,
    /// Those that ended in a drop.
    pub dropped: bool,
}

impl Wanted {
    /// Whether a life is meant.
    pub fn wants(&self, life: &Life) -> bool {
        let dropped = || life.end().is_some_and(|end| end.kind == EventKind::Dropped);
        (!self.dropped || dropped()) && self.filter.as_ref().is_none_or(|filter| filter.matches(&life.flow()))
    }
}

/// A life as data.
pub fn row(life: &Life, names: &Names) -> LifeRow {
    // What json_line makes is JSON; null would say that it is not.
    LifeRow { story: life.story_with(names), life: serde_json::from_str(&life.json_line()).unwrap_or_default() }
}

/// Prints a life: a story and a blank line, or a line of JSON.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, life: &LifeRow, json: bool) -> Result<(), Failure> {
    if json {
        return out.json(&life.life);
    }
    out.line(coloured(&life.story))
}

/// Prints the answer to what was asked, and why it may be short.
///
/// # Errors
/// The output is not taken.
pub fn print_all(out: &mut Out, answer: &Lives, json: bool) -> Result<(), Failure> {
    answer.lives.iter().try_for_each(|life| print(out, life, json))?;
    if json {
        return Ok(());
    }
    if answer.lives.is_empty() {
        let hint = match answer.selected.as_str() {
            "off" => NONE_RECORDED,
            _ => "none has ended that fits",
        };
        out.line(format_args!("no lives ({hint}; recorded: {})", answer.selected))?;
    }
    match answer.lost {
        0 => Ok(()),
        lost => out.line(format_args!(
            "{lost} records were lost because the life ring was full; fewer packets fit: --select 1/100, or a filter"
        )),
    }
}

/// The story with its headline and the ends in colour.
pub fn coloured(story: &str) -> String {
    let mut text = String::with_capacity(story.len() + 256);
    for (number, line) in story.lines().enumerate() {
        match (number, line.get(..LABEL_AT), line.get(LABEL_AT..LABEL_AT + LABEL_WIDTH)) {
            (0, ..) => text.push_str(&format!("{STRONG}{line}{STRONG:#}")),
            (_, Some(time), Some(label)) => {
                let style = match label.trim_end() {
                    "DROPPED" => BAD,
                    "SENT" | "READ" | "DONE" | "MERGED" | "JOINED" => GOOD,
                    _ => anstyle::Style::new(),
                };
                let rest = &line[LABEL_AT + LABEL_WIDTH..];
                text.push_str(&format!("{FAINT}{time}{FAINT:#}{style}{label}{style:#}{rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use rxpath_trace::event::{device_word, ports_word};
    use rxpath_trace::{DropReason, Event, PacketId, Time, lives};

    use super::*;
    use crate::out::tests::printed;

    fn events(n: u64, dport: u16, end: EventKind, reason: u32) -> Vec<Event> {
        let event = |at: u64, kind: EventKind, a: u32, b: u32| Event {
            id: PacketId::of_ring(0, n),
            at: Time(n * 1_000_000 + at),
            other: PacketId::NONE,
            a,
            b,
            kind,
            cpu: 0,
        };
        vec![
            event(0, EventKind::Offered, 66, device_word(1, 0)),
            event(1_000, EventKind::NetifReceive, 0, 0x0800),
            event(1_000, EventKind::Addresses, 0x0a09_00fe, 0x0a09_0001),
            event(1_000, EventKind::LocalDeliver, 6, 0),
            event(1_000, EventKind::TcpV4Rcv, 7, 12),
            event(1_000, EventKind::Ports, ports_word(40_000, dport), 0x18),
            event(2_000, end, reason, 0),
        ]
    }

    fn two() -> Vec<Life> {
        let dropped = events(2, 81, EventKind::Dropped, DropReason::NoSocket as u32);
        lives::group(events(1, 80, EventKind::Recv, 12).into_iter().chain(dropped))
    }

    fn chosen(filter: &str, dropped: bool) -> Vec<u64> {
        let filter = (!filter.is_empty()).then(|| filter.parse().expect("a filter"));
        let wanted = Wanted { filter, dropped };
        two().iter().filter(|life| wanted.wants(life)).map(|life| life.id.count()).collect()
    }

    #[test]
    fn filters_look_at_what_the_events_tell() {
        assert_eq!(chosen("", false), [1, 2]);
        assert_eq!(chosen("dst port 80", false), [1]);
        assert_eq!(chosen("src 10.9.0.254 and tcp and flags psh+ack", false), [1, 2]);
        assert_eq!(chosen("udp or arp", false), [0; 0]);
        assert_eq!(chosen("", true), [2]);
        assert_eq!(chosen("port 80", true), [0; 0]);
    }

    #[test]
    fn colours_change_no_letter() {
        let story = two()[1].story();
        let coloured = coloured(&story);
        assert!(coloured.contains(&format!("{BAD}DROPPED{BAD:#} ")), "{coloured}");
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), story);
    }

    #[test]
    fn an_empty_answer_says_how_to_get_a_fuller_one() {
        let none = Lives { lives: Vec::new(), selected: "off".to_owned(), lost: 3 };
        let text = printed(|out| print_all(out, &none, false));
        assert!(text.contains("`rxpath life --select all` begins") && text.contains("\n3 records were lost"), "{text}");
        assert_eq!(printed(|out| print_all(out, &none, true)), "");
    }

    #[test]
    fn json_is_a_line_for_each_life() {
        let rows = two().iter().map(|life| row(life, &Names::new())).collect();
        let answer = Lives { lives: rows, selected: "all".to_owned(), lost: 0 };
        let text = printed(|out| print_all(out, &answer, true));
        let ids: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!([&ids[0]["id"], &ids[1]["id"]], ["r0:1", "r0:2"]);
        assert_eq!(ids[1]["end"]["reason"], "NO_SOCKET");
    }
}
