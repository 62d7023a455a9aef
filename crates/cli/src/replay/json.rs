//! The replay for machines.

use rxpath_sim::replay::{Fate, Summary, Told};
use rxpath_trace::Flow;
use serde_json::{Map, Value, json};

use super::{summary, words};
use crate::views::{LedgerRow, counter_rows};

/// What the lines of JSON hold.
pub const SCHEMA: &str = "\
One JSON object per line. With --packet or --filter there is a line for each packet that was chosen, with its life; without
them one for each packet of the capture. The last line is the summary. Absent is null. New keys may be added.

type       string   packet | summary

of a packet:
number     number   its number in the capture, from 1
offset     number   where its record begins, in bytes of the capture
time_ns    number   when it was captured, nanoseconds since 1970
bytes      number   its length on the wire
captured   number   how much of it was captured
flow       object   src, dst, proto, sport, dport, tcp_flags, ethertype; what it lacks is 0
fate       string   delivered | consumed | dropped | flow not followed | held | sent by this host | not fed
reason     string   of a drop the kernel's name, else a short name; null where the fate says all
describe   string   fate and reason in words
counters   array    of a drop, the counters that always move with it
with       number   the packet that it was merged into or joined to
notes      array    what was made up for, in words
id, queue           its identity in the stack, and the receive queue
life       object   its life, as `rxpath life --help` describes it

of the summary:
packets, fed, read_bytes, span_ns, lost_by_capture, back_in_time     numbers
fates      array    fate, reason, describe, packets
notes      array    what is worth knowing, in words
fault      object   offset, what: why the capture could not be read any further
counters   object   counters that moved, by name
ledger     object   offered, output, clones, made, delivered, transmitted, consumed, dropped, held, balanced, text
";

/// A packet.
pub fn packet(told: &Told) -> Value {
    let Flow { src, dst, proto, sport, dport, tcp_flags, ethertype } = told.flow;
    let life = told.life.as_ref().and_then(|life| serde_json::from_str::<Value>(&life.json_line()).ok());
    json!({
        "type": "packet",
        "number": told.number,
        "offset": told.offset,
        "time_ns": told.time,
        "bytes": told.wire_len,
        "captured": told.captured_len,
        "flow": {
            "src": src, "dst": dst, "proto": proto, "sport": sport, "dport": dport,
            "tcp_flags": tcp_flags, "ethertype": ethertype,
        },
        "fate": words::name(told.fate),
        "reason": words::reason(told.fate),
        "describe": words::describe(told.fate),
        "counters": counters_of(told.fate),
        "with": told.other,
        "notes": words::notes(told.notes).collect::<Vec<_>>(),
        "id": told.id.map(|(id, _)| id.to_string()),
        "queue": told.id.map(|(_, queue)| queue),
        "life": life,
    })
}

fn counters_of(fate: Fate) -> Vec<String> {
    match fate {
        Fate::Dropped(reason) => reason.counters().iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

/// The end.
pub fn summary(summary: &Summary) -> Value {
    let fates = summary.fates.iter().map(|(fate, n)| {
        json!({
            "fate": words::name(*fate),
            "reason": words::reason(*fate),
            "describe": words::describe(*fate),
            "packets": n,
        })
    });
    let moved = counter_rows(&summary.counters).into_iter().filter(|row| row.value != 0);
    let counters: Map<String, Value> = moved.map(|row| (row.name, row.value.into())).collect();
    let fault = summary.fault.as_ref().map(|fault| json!({ "offset": fault.offset, "what": fault.to_string() }));
    json!({
        "type": "summary",
        "packets": summary.packets,
        "fed": summary.fed,
        "read_bytes": summary.bytes,
        "span_ns": summary.span,
        "lost_by_capture": summary.lost,
        "back_in_time": summary.back_in_time.0,
        "fates": fates.collect::<Vec<_>>(),
        "notes": summary::remarks(summary),
        "fault": fault,
        "counters": counters,
        "ledger": LedgerRow::from(&summary.ledger),
    })
}
