//! The life as a line of JSON.

use serde::Serialize;

use super::facts::Facts;
use super::{Life, Names, words};
use crate::event::{Event, EventKind};
use crate::ledger::Consumed;
use crate::packet_id::PacketId;
use crate::reason::DropReason;

/// What a line of JSON holds, for those who read it. New keys may be added; those that are there keep their meaning.
pub const SCHEMA: &str = "\
One JSON object per life, one life per line. Absent is null. Times are nanoseconds on the stack's clock.

id         string   the packet: r0:17 is the 17th frame of ring 0, c2:5 the 5th packet made by Cpu 2
status     string   finished | unfinished (no end recorded) | orphan (no birth recorded) | broken (several of either)
what       string   what it is, in words: \"a TCP segment\"
bytes      number   length at its birth: of a frame with its Ethernet header, else from the IP header on
born_ns    number   when it was born
ifindex    number   the interface that offered it
queue      number   that interface's queue
parent     string   the packet that it was cloned from, made of, or caused by
flow       object   addresses and ports as far as known:
  src, dst          string   IPv4 addresses
  proto             number   IP protocol
  sport, dport      number   ports
  tcp_flags         string   such as \"syn+ack\"; \"none\"
end        object   what became of it:
  how               string   delivered | transmitted | consumed | dropped
  at_ns             number   when
  function          string   the kernel function that does it
  reason            string   of a drop, the kernel's name: \"TCP_CSUM\"; of a packet consumed, how: \"merged by GRO\"
  describe          string   the reason in words
  counters          array    of a drop, the counters that moved with it: [\"TcpInErrs\", \"TcpInCsumErrors\"]
  other             string   the packet that it was merged into, or that answers it
events     array    all events in order:
  at_ns             number   when
  cpu               number   on which Cpu
  phase             string   NIC | NAPI | demux | IP | INPUT | TCP | socket | recv | output
  kind              string   the name of the kind of event: \"Offered\"
  function          string   the kernel function where it happens
  a, b              number   its arguments, by kind
  other             string   another packet that has to do with it
  text              string   the event in words
";

#[derive(Serialize)]
struct LifeLine {
    id: String,
    status: &'static str,
    what: String,
    bytes: Option<u32>,
    born_ns: Option<u64>,
    ifindex: Option<u16>,
    queue: Option<u16>,
    parent: Option<String>,
    flow: Option<FlowPart>,
    end: Option<EndPart>,
    events: Vec<EventPart>,
}

#[derive(Serialize)]
struct FlowPart {
    src: Option<String>,
    dst: Option<String>,
    proto: Option<u8>,
    sport: Option<u16>,
    dport: Option<u16>,
    tcp_flags: Option<String>,
}

#[derive(Serialize)]
struct EndPart {
    how: &'static str,
    at_ns: u64,
    function: &'static str,
    reason: Option<&'static str>,
    describe: Option<&'static str>,
    counters: Vec<String>,
    other: Option<String>,
}

#[derive(Serialize)]
struct EventPart {
    at_ns: u64,
    cpu: u8,
    phase: &'static str,
    kind: &'static str,
    function: &'static str,
    a: u32,
    b: u32,
    other: Option<String>,
    text: String,
}

pub(super) fn line(life: &Life) -> String {
    let facts = Facts::of(life);
    let birth = life.birth();
    let line = LifeLine {
        id: life.id.to_string(),
        status: life.status().name(),
        what: facts.what(),
        bytes: facts.bytes,
        born_ns: birth.map(|birth| birth.at.0),
        ifindex: facts.device.map(|(ifindex, _)| ifindex),
        queue: facts.device.map(|(_, queue)| queue),
        parent: birth.and_then(|birth| named(birth.other)),
        flow: flow(&facts),
        end: end(life),
        events: events(life),
    };
    // Serializing plain structs with string keys into memory has no way to fail.
    serde_json::to_string(&line).unwrap_or_default()
}

fn flow(facts: &Facts) -> Option<FlowPart> {
    if facts.addresses.is_none() && facts.ports.is_none() && facts.proto.is_none() {
        return None;
    }
    Some(FlowPart {
        src: facts.addresses.map(|(source, _)| source.to_string()),
        dst: facts.addresses.map(|(_, destination)| destination.to_string()),
        proto: facts.proto,
        sport: facts.ports.map(|(source, _, _)| source),
        dport: facts.ports.map(|(_, destination, _)| destination),
        tcp_flags: facts.ports.map(|(_, _, flags)| words::flag_names(flags)),
    })
}

fn end(life: &Life) -> Option<EndPart> {
    let place = life.events.iter().position(|event| event.kind.terminal())?;
    let event = &life.events[place];
    let station = life.events[..place].iter().rev().find(|event| !event.kind.aside());
    let (reason, describe) = match event.kind {
        EventKind::Dropped => {
            let reason = DropReason::from_number(event.a);
            (reason.map(DropReason::name), reason.map(DropReason::describe))
        }
        _ => {
            let how = consumed_how(event);
            (how.map(Consumed::name), how.map(Consumed::describe))
        }
    };
    let function = match event.kind {
        EventKind::Dropped => words::drop_function(event, station),
        EventKind::Consumed => words::next_function(event, station),
        kind => kind.function(),
    };
    let counters = match event.kind {
        EventKind::Dropped => words::drop_counters(event).iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let (at_ns, other) = (event.at.0, named(event.other));
    Some(EndPart { how: end_name(event.kind), at_ns, function, reason, describe, counters, other })
}

fn consumed_how(event: &Event) -> Option<Consumed> {
    match event.kind {
        EventKind::GroMerged => Some(Consumed::GroMerged),
        EventKind::Coalesced => Some(Consumed::Coalesced),
        EventKind::Consumed => Consumed::from_number(event.a),
        _ => None,
    }
}

fn end_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Dropped => "dropped",
        EventKind::Transmitted => "transmitted",
        EventKind::Recv | EventKind::DatagramRecv | EventKind::TapRead => "delivered",
        _ => "consumed",
    }
}

fn events(life: &Life) -> Vec<EventPart> {
    let mut station = None;
    let names = Names::new();
    let part = |event| {
        let text = words::say(event, station, &names);
        station = if event.kind.aside() { station } else { Some(event) };
        EventPart {
            at_ns: event.at.0,
            cpu: event.cpu,
            phase: event.phase().name(),
            kind: event.kind.name(),
            function: event.function(),
            a: event.a,
            b: event.b,
            other: named(event.other),
            text,
        }
    };
    life.events.iter().map(part).collect()
}

fn named(id: PacketId) -> Option<String> {
    (!id.is_none()).then(|| id.to_string())
}
