//! Two runs side by side: what is made equal before they are compared, and what is not equal then.
//!
//! What is normalised, each with a count in the report:
//!
//! - **Initial sequence number**: sequence numbers of a connection are compared relative to its SYN-ACK's.
//! - **IP identification**: where it is a counter (not 0), relative to the first one.
//! - **Timestamps**: relative to the SYN-ACK's; the stack's clock may lag by [`CLOCK_SLACK_MS`].
//! - **Time of a timer**: a frame that a timer sent must stand at the same place among the steps, within [`TIMER_SLACK`] and an eighth
//!   of the time since the connection's last frame of the kernel's: its timers have a tick of 4 ms and coarser ones further ahead,
//!   and the machine is late.
//! - **Order of timers**: frames that timers sent between two steps, for different connections if they are of such: the
//!   kernel's timers that are due within one of its coarse ticks run in any order.
//! - **Timer held** (`super::lateness`): where the kernel's timer fired late and a step came in between, the stack's
//!   is held until after the step.
//! - **Urgent byte of a header**: one that stands just before a segment the kernel takes from its header; what follows such a read
//!   is not compared.
//! - **Timer's turn chosen**: whether a timer was as late as that nobody saw; of the runs that chance makes one agrees.
//!
//! Checksums follow from the rest: both sides' are verified. Frames of hosts without a server are compared by what is
//! free in them ([`super::choices`]).
//!
//! Frames that leave by different links between two steps have no order among each other.

use std::collections::{BTreeMap, BTreeSet};

use rxpath_wire::{EthernetHeader, Ipv4Header, SeqNum, TcpFlags};

use super::case::{Call, Gave, Host, digest};
use super::choices::{self, Identifications};
use super::counters::comparable;
use super::frames::{ClientView, Pair, Seen};
use super::lateness::LATE_MAX;
use super::record::{Event, Recording, Sent, What};
use super::stream::TcpCall;

/// What a read of an urgent byte gives that has not come (`EAGAIN`).
const PENDING: &str = "errno 11";
/// Where the TCP header of a frame of the client's begins.
const TCP: usize = EthernetHeader::LEN + Ipv4Header::LEN;
/// Milliseconds by which timestamps may differ.
pub const CLOCK_SLACK_MS: u32 = 20;
/// Nanoseconds by which a timer's frame may differ.
pub const TIMER_SLACK: u64 = LATE_MAX + 4_000_000;

/// Milliseconds by which those of a host may differ that bakes cookies: they have something else in their lowest bits.
const COOKIE_SLACK_MS: u32 = 64;

fn clock_slack(host: &Host) -> u32 {
    CLOCK_SLACK_MS + if bakes(host) { COOKIE_SLACK_MS } else { 0 }
}

/// The host may bake cookies.
fn bakes(host: &Host) -> bool {
    host.sysctls.iter().any(|(name, _)| name == "net.ipv4.tcp_syncookies")
}

/// How often each normalisation was needed.
pub type Normalised = BTreeMap<&'static str, u64>;

/// A difference between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Row of [`rows`] that it is in; None if it is about the whole run.
    pub row: Option<usize>,
    /// What differs.
    pub what: String,
}

impl Difference {
    /// What a frame that comes at another time begins with.
    const APART: &str = "sent ";

    /// Nothing differs but when a timer's frame came.
    pub fn is_of_time(&self) -> bool {
        self.what.starts_with(Difference::APART)
    }
}

/// Events of both runs that belong together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row<'a> {
    /// The kernel's.
    pub kernel: Option<&'a Event>,
    /// The stack's.
    pub stack: Option<&'a Event>,
}

/// True if what differs first is a frame that a timer sent on one side or on both. The kernel's timers are late by as much as
/// an eighth of their time, one after the other: whether the last of them still fires before a run ends, and how far a
/// limit has recovered by then, the recording decides and not the host.
pub fn hangs_on_a_timer(kernel: &Recording, stack: &Recording, differences: &[Difference]) -> bool {
    let by_timer = |event: &Event| matches!(event.what, What::Emitted { prompt: false, .. });
    let first = differences.iter().find_map(|difference| difference.row);
    first
        .and_then(|row| rows(kernel, stack).get(row).copied())
        .is_some_and(|row| row.kernel.is_none_or(by_timer) && row.stack.is_none_or(by_timer))
}

/// Puts two runs of one script side by side: the steps in the same rows, and between them frame by frame on each link.
pub fn rows<'a>(kernel: &'a Recording, stack: &'a Recording) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let (mut left, mut right) = (&kernel.events[..], &stack.events[..]);
    while !left.is_empty() || !right.is_empty() {
        let (one, mut other) = (take_emitted(&mut left), take_emitted(&mut right));
        in_order_of(&kernel.host, &one, &mut other);
        rows.extend(between(one, other));
        let row = Row { kernel: left.split_off_first(), stack: right.split_off_first() };
        if row.kernel.is_some() || row.stack.is_some() {
            rows.push(row);
        }
    }
    rows
}

/// Takes the frames up to the next step, link by link.
fn take_emitted<'a>(events: &mut &'a [Event]) -> Vec<(u8, &'a Event)> {
    let mut emitted = Vec::new();
    while let Some((event @ Event { what: What::Emitted { link, .. }, .. }, rest)) = events.split_first() {
        emitted.push((*link, event));
        *events = rest;
    }
    emitted.sort_by_key(|&(link, _)| link);
    emitted
}

/// Puts frames that timers of the stack's sent in the order in which those of the kernel's sent the same ones.
fn in_order_of(host: &Host, kernel: &[(u8, &Event)], stack: &mut Vec<(u8, &Event)>) {
    let late = |&(_, event): &(u8, &Event)| matches!(event.what, What::Emitted { prompt: false, .. });
    let (mut rest, prompt) = std::mem::take(stack).into_iter().partition::<Vec<_>, _>(late);
    *stack = prompt;
    for &(link, event) in kernel.iter().filter(|of| late(of)) {
        let same = |&(on, other): &(u8, &Event)| on == link && are_alike(host, event, other);
        if let Some(at) = rest.iter().position(same) {
            stack.push(rest.remove(at));
        }
    }
    stack.append(&mut rest);
    stack.sort_by_key(|&(link, _)| link);
}

/// Frames that may be one and the same; of connections all that go to the same place, since timers of one keep their order.
fn are_alike(host: &Host, one: &Event, other: &Event) -> bool {
    match (&one.what, &other.what) {
        (What::Emitted { frame, .. }, What::Emitted { frame: other, .. }) if host.is_exact() => {
            Seen::of(frame).map(|seen| seen.pair()) == Seen::of(other).map(|seen| seen.pair())
        }
        (What::Emitted { frame, .. }, What::Emitted { frame: other, .. }) => choices::are_alike(frame, other),
        _ => false,
    }
}

/// Rows of frames that leave between two steps.
fn between<'a>(left: Vec<(u8, &'a Event)>, right: Vec<(u8, &'a Event)>) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let link = match (left.peek(), right.peek()) {
            (None, None) => return rows,
            (Some(&(link, _)), None) | (None, Some(&(link, _))) => link,
            (Some(&(one, _)), Some(&(other, _))) => one.min(other),
        };
        let kernel = left.next_if(|&(on, _)| on == link).map(|(_, event)| event);
        let stack = right.next_if(|&(on, _)| on == link).map(|(_, event)| event);
        rows.push(Row { kernel, stack });
    }
}

fn is_emitted(event: &Event) -> bool {
    matches!(event.what, What::Emitted { .. })
}

/// Compares two runs.
pub fn compare(kernel: &Recording, stack: &Recording, normalised: &mut Normalised) -> Vec<Difference> {
    let host = &kernel.host;
    let mut differences = Vec::new();
    let mut sides = Sides::default();
    let mut latest = 0;
    for (index, row) in rows(kernel, stack).iter().enumerate() {
        let wrong = match (row.kernel, row.stack) {
            (Some(kernel), Some(stack)) => {
                let wrong = sides.compare(host, kernel, stack, normalised);
                if is_emitted(stack) && stack.at < latest {
                    *normalised.entry("order of timers").or_default() += 1;
                }
                latest = stack.at;
                wrong.or_else(|| compare_step_counters(kernel, stack, host.is_exact()))
            }
            (Some(_), None) => Some("the stack has nothing here".to_owned()),
            (None, _) => Some("the kernel has nothing here".to_owned()),
        };
        differences.extend(wrong.map(|what| Difference { row: Some(index), what }));
        if sides.over {
            return differences;
        }
    }
    differences.extend(compare_counters(kernel, stack));
    differences
}

fn compare_counters(kernel: &Recording, stack: &Recording) -> Vec<Difference> {
    let different = different_rises(&kernel.counters, &stack.counters, kernel.host.is_exact());
    different.into_iter().map(|what| Difference { row: None, what }).collect()
}

/// Counters of a step that is watched.
fn compare_step_counters(kernel: &Event, stack: &Event, exact: bool) -> Option<String> {
    let (Some(one), Some(other)) = (&kernel.rose, &stack.rose) else { return None };
    let different = different_rises(one, other, exact);
    (!different.is_empty()).then(|| different.join("; "))
}

/// Counters that rose differently. `exact`: the kernel cuts super-frames in software before it counts them on their way
/// out, the stack hands them to its device.
fn different_rises(kernel: &BTreeMap<String, i64>, stack: &BTreeMap<String, i64>, exact: bool) -> Vec<String> {
    let compared = |name: &&String| comparable(name) && !(exact && name.contains(" tx_"));
    let names: BTreeSet<&String> = kernel.keys().chain(stack.keys()).filter(compared).collect();
    let rise = |side: &BTreeMap<String, i64>, name: &String| side.get(name).copied().unwrap_or(0);
    let pairs = names.into_iter().map(|name| (name, rise(kernel, name), rise(stack, name)));
    let different = pairs.filter(|(_, one, other)| one != other);
    different.map(|(name, one, other)| format!("{name}: kernel {one:+}, stack {other:+}")).collect()
}

/// What both sides have chosen so far.
#[derive(Clone, Debug, Default)]
struct Sides {
    kernel: Bases,
    stack: Bases,
    ids: Identifications,
    /// What the client knows of the kernel.
    view: ClientView,
    /// Bytes of the TCP headers of its segments.
    headers: BTreeSet<u8>,
    /// When something of a connection was last sent in the kernel's run.
    last: BTreeMap<Pair, u64>,
    /// The kernel has given away a byte of these: from here on the runs are different ones.
    over: bool,
}

impl Sides {
    fn compare(&mut self, host: &Host, kernel: &Event, stack: &Event, normalised: &mut Normalised) -> Option<String> {
        match (&kernel.what, &stack.what) {
            (
                What::Sent(_) | What::Fed { .. } | What::Reported(..),
                What::Sent(_) | What::Fed { .. } | What::Reported(..),
            ) => {
                if let What::Sent(sent) = &kernel.what {
                    self.note_header(sent);
                    self.since_last((sent.sport, sent.dport), kernel.at);
                    if bakes(host) {
                        self.ended_by(sent);
                    }
                }
                (kernel.what != stack.what).then(|| "not the same frame was sent".to_owned())
            }
            (What::Called(one, gave), What::Called(other, got)) => {
                if one != other {
                    return Some("not the same call was made".to_owned());
                }
                if gave == got {
                    return None;
                }
                if matches!(one, Call::Stream(_, TcpCall::RecvUrgent(_))) && self.is_of_a_header(gave, got) {
                    *normalised.entry("urgent byte of a header").or_default() += 1;
                    self.over = true;
                    return None;
                }
                Some(format!("{one}: kernel {gave}, stack {got}"))
            }
            (What::Emitted { frame, prompt, .. }, What::Emitted { frame: other, .. }) => {
                self.view.saw(frame);
                let apart = TIMER_SLACK + Seen::of(frame).map_or(0, |seen| self.since_last(seen.pair(), kernel.at) / 8);
                let wrong = if host.is_exact() {
                    compare_frames(host, frame, other, (&mut self.kernel, &mut self.stack), normalised)
                } else {
                    self.ids.compare(host, frame, other, normalised)
                };
                wrong.or_else(|| if *prompt { None } else { compare_times(kernel.at, stack.at, apart, normalised) })
            }
            _ => Some("one side is at another step".to_owned()),
        }
    }
}

impl Sides {
    /// Nanoseconds since something of the connection was sent, which it is again now.
    fn since_last(&mut self, pair: Pair, now: u64) -> u64 {
        now.saturating_sub(self.last.insert(pair, now).unwrap_or(now))
    }

    /// The client sends a segment.
    fn note_header(&mut self, sent: &Sent) {
        let frame = self.view.frame(sent);
        let tcp = frame.get(TCP..).unwrap_or_default();
        let len = tcp.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4);
        self.headers.extend(&tcp[..len.min(tcp.len())]);
        self.view.sent(sent);
    }

    /// The kernel gives such a byte where the stack knows that the true one has not come.
    fn is_of_a_header(&self, kernel: &Gave, stack: &Gave) -> bool {
        let taken = matches!(kernel, Gave::Bytes(1, sum) if self.headers.iter().any(|&byte| digest(&[byte]) == *sum));
        taken && matches!(stack, Gave::Error(error) if error == PENDING)
    }

    /// The client resets, or may have acknowledged the host's FIN: what follows may be another socket's, which a cookie makes without
    /// a SYN.
    fn ended_by(&mut self, sent: &Sent) {
        for side in [&mut self.kernel, &mut self.stack] {
            let base = side.entry((sent.sport, sent.dport)).or_default();
            if sent.flags & TcpFlags::RST.0 != 0 || base.fin {
                base.id = None;
            }
        }
    }
}

/// A frame that a timer sent: not the same instant, but near it, `most` nanoseconds apart.
fn compare_times(kernel: u64, stack: u64, most: u64, normalised: &mut Normalised) -> Option<String> {
    if kernel != stack {
        *normalised.entry("time of a timer").or_default() += 1;
    }
    let apart = kernel.abs_diff(stack);
    let ms = |ns: u64| ns as f64 / 1e6;
    (apart > most).then(|| {
        format!("{}{:.1} ms apart: kernel {:.1}, stack {:.1}", Difference::APART, ms(apart), ms(kernel), ms(stack))
    })
}

/// What one side chose by itself, by connection.
type Bases = BTreeMap<Pair, Base>;

/// What one side chose by itself for a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Base {
    isn: u32,
    id: Option<u16>,
    tsval: Option<u32>,
    /// The side has sent a FIN.
    fin: bool,
}

impl Base {
    /// Takes note of what a frame begins. `counted` tells whether its identification is a counter's on either side.
    fn note(&mut self, seen: &Seen, counted: bool) {
        if seen.flags.syn() {
            self.isn = seen.seq.0;
            self.tsval = seen.options.timestamps.map(|(tsval, _)| tsval);
            (self.id, self.fin) = (None, false);
        }
        // Without timestamps of the handshake's, from the first on.
        self.tsval = self.tsval.or(seen.options.timestamps.map(|(tsval, _)| tsval));
        if self.id.is_none() && counted {
            self.id = Some(seen.id);
        }
    }

    /// A frame that was compared may have been the last of its socket.
    fn end(&mut self, seen: &Seen) {
        if seen.flags.rst() {
            // What follows is another's, which a cookie may have made without a SYN.
            self.id = None;
        }
        self.fin |= seen.flags.fin();
    }
}

fn compare_frames(
    host: &Host,
    kernel: &[u8],
    stack: &[u8],
    (left, right): (&mut Bases, &mut Bases),
    normalised: &mut Normalised,
) -> Option<String> {
    let (Some(one), Some(other)) = (Seen::of(kernel), Seen::of(stack)) else {
        return (kernel != stack).then(|| "the frames differ".to_owned());
    };
    let (left, right) = (left.entry(one.pair()).or_default(), right.entry(other.pair()).or_default());
    let counted = one.id != 0 || other.id != 0;
    left.note(&one, counted);
    right.note(&other, counted);
    if !(one.sound && other.sound) {
        return Some(format!("checksum wrong: {}", if one.sound { "stack" } else { "kernel" }));
    }
    let mut count = |what, needed: bool| *normalised.entry(what).or_default() += u64::from(needed);
    let relative = |seen: &Seen, base: &Base| seen.seq - SeqNum(base.isn);
    let same_seq = one.seq == other.seq || relative(&one, left) == relative(&other, right);
    if !same_seq {
        let (one, other) = (relative(&one, left), relative(&other, right));
        return Some(format!("sequence number: kernel {one}, stack {other}"));
    }
    count("initial sequence number", one.seq != other.seq);
    // 0 is no counter's, unless it has come round to it.
    let id = |seen: &Seen, base: &Base| base.id.map(|first| seen.id.wrapping_sub(first));
    let (id_one, id_other) = (id(&one, left), id(&other, right));
    if counted && id_one != id_other {
        return Some(format!("IP identification: kernel {} {id_one:?}, stack {} {id_other:?}", one.id, other.id));
    }
    count("IP identification", one.id != other.id);
    if counted {
        left.end(&one);
        right.end(&other);
    }
    if let (Some((a, _)), Some((b, _))) = (one.options.timestamps, other.options.timestamps) {
        let since = |tsval: u32, base: &Base| tsval.wrapping_sub(base.tsval.unwrap_or(0));
        let apart = since(a, left).wrapping_sub(since(b, right)).cast_signed();
        if apart.unsigned_abs() > clock_slack(host) {
            return Some(format!("timestamp: the kernel's is {apart} ms ahead"));
        }
        count("timestamp offset", a != b);
        count("timestamp by a millisecond or more", apart != 0);
    }
    let (one, other) = (without_choices(kernel), without_choices(stack));
    (one != other).then(|| first_difference(&one, &other))
}

/// The frame without what was compared apart: identification, sequence number, own timestamp, checksums.
fn without_choices(frame: &[u8]) -> Vec<u8> {
    const IP: usize = 14;
    let mut frame = frame.to_vec();
    let mut clear = |from: usize, len: usize| {
        if let Some(bytes) = frame.get_mut(from..from + len) {
            bytes.fill(0);
        }
    };
    clear(IP + 4, 2);
    clear(IP + 10, 2);
    let tcp = IP + usize::from(frame.get(IP).copied().unwrap_or(0) & 0x0f) * 4;
    let mut clear = |from: usize, len: usize| {
        if let Some(bytes) = frame.get_mut(from..from + len) {
            bytes.fill(0);
        }
    };
    clear(tcp + 4, 4);
    clear(tcp + 16, 2);
    if let Some(at) = stamp_at(&frame, tcp) {
        frame[at..at + 4].fill(0);
    }
    frame
}

/// Where the value of the timestamp option stands.
fn stamp_at(frame: &[u8], tcp: usize) -> Option<usize> {
    let end = tcp + usize::from(frame.get(tcp + 12)? >> 4) * 4;
    let mut at = tcp + 20;
    while at < end {
        match *frame.get(at)? {
            0 => return None,
            1 => at += 1,
            8 => return (at + 10 <= end.min(frame.len())).then_some(at + 2),
            _ => at += usize::from(*frame.get(at + 1)?).max(2),
        }
    }
    None
}

/// Names the first byte that differs.
fn first_difference(one: &[u8], other: &[u8]) -> String {
    if one.len() != other.len() {
        return format!("length: kernel {}, stack {}", one.len(), other.len());
    }
    let at = one.iter().zip(other).position(|(a, b)| a != b).unwrap_or(0);
    let (a, b) = (one.get(at).copied().unwrap_or(0), other.get(at).copied().unwrap_or(0));
    let field = match at {
        0..14 => "Ethernet header",
        15 => "type of service",
        16..18 => "IP length",
        20..22 => "fragment word",
        22 => "time to live",
        14..34 => "IP header",
        34..38 => "ports",
        42..46 => "acknowledgement number",
        46 => "data offset",
        47 => "flags",
        48..50 => "window",
        52..54 => "urgent pointer",
        _ => "options or payload",
    };
    format!("{field}: byte {at} is {a:#04x} from the kernel and {b:#04x} from the stack")
}

#[cfg(test)]
mod tests {
    use rxpath_wire::{Addr, IpProto, Ipv4Repr, ipv4};

    use super::super::case::{Defect, Layout};
    use super::super::frames::{CLIENT, SERVER};
    use super::super::record::Number;
    use super::*;

    fn segment(flags: TcpFlags) -> Sent {
        Sent {
            sport: 40_000,
            dport: 80,
            flags: flags.0,
            seq: 1,
            ack: Number::Plain(1),
            window: 1,
            mss: None,
            wscale: None,
            stamp: None,
            sack_permitted: false,
            sack: Vec::new(),
            urgent: 0,
            fast_open: Vec::new(),
            layout: Layout::Usual,
            len: 0,
            tos: 0,
            defect: Defect::None,
        }
    }

    /// A segment of the host's with this identification.
    fn emitted(id: u16) -> Event {
        emitted_with(id, TcpFlags::ACK, None)
    }

    fn emitted_with(id: u16, flags: TcpFlags, tsval: Option<u32>) -> Event {
        let stamp = tsval.map(|tsval| (tsval, Number::Plain(0)));
        let sent = Sent { sport: 80, dport: 40_000, stamp, ..segment(flags) };
        let mut frame = ClientView::default().frame(&sent);
        let (proto, total_len) = (IpProto::TCP, (frame.len() - 14) as u16);
        let (src, dst) = (SERVER, CLIENT);
        ipv4::emit(&mut frame[14..], Ipv4Repr { src, dst, proto, ttl: 64, tos: 0, id, df: true, total_len });
        rxpath_wire::tcp::fill_checksum(Addr::from_v4(src.octets()), Addr::from_v4(dst.octets()), &mut frame[34..]);
        Event::new(0, What::Emitted { link: 0, frame, prompt: true })
    }

    #[test]
    fn what_follows_an_urgent_byte_of_a_header_is_another_run() {
        let run = |gave: Gave, id| {
            let echo = Sent { stamp: Some((7, Number::Server(0))), ..segment(TcpFlags::ACK) };
            let read = Call::Stream(1, TcpCall::RecvUrgent(false));
            let events = vec![
                emitted_with(1, TcpFlags::ACK, Some(0xa1a2_a3a4)),
                Event::new(1, What::Sent(echo)),
                Event::new(2, What::Called(read, gave)),
                emitted(id),
            ];
            let counters = BTreeMap::from([("TcpOutSegs".to_owned(), i64::from(id))]);
            Recording { host: Host { streams: true, ..Host::default() }, events, counters, ..Recording::default() }
        };
        let byte = |byte: u8| Gave::Bytes(1, digest(&[byte]));
        let (none, mut normalised) = (Gave::Error(PENDING.to_owned()), Normalised::new());
        assert_eq!(compare(&run(byte(0xa2), 2), &run(none.clone(), 9), &mut normalised), []);
        assert_eq!(normalised.get("urgent byte of a header"), Some(&1));
        // Of no header, the stack's, or where the true one has come.
        assert!(!compare(&run(byte(0xa2), 2), &run(byte(0xc2), 2), &mut normalised).is_empty());
        assert_eq!(compare(&run(byte(0xb2), 2), &run(none.clone(), 2), &mut normalised).len(), 1);
        assert_eq!(compare(&run(none, 2), &run(byte(0xa2), 2), &mut normalised).len(), 1);
    }

    #[test]
    fn timers_may_be_apart_by_an_eighth_of_their_time() {
        let late = |at: u64| {
            let What::Emitted { link, frame, .. } = emitted(7).what else { panic!("it is a frame") };
            Event::new(at * 1_000_000, What::Emitted { link, frame, prompt: false })
        };
        let run = |first: u64, second: u64| Recording {
            host: Host { streams: true, ..Host::default() },
            events: vec![late(first), late(second)],
            ..Recording::default()
        };
        let apart = |kernel: Recording, stack: Recording| compare(&kernel, &stack, &mut Normalised::new()).len();
        assert_eq!([apart(run(100, 120), run(119, 120)), apart(run(100, 130), run(121, 130))], [0, 1]);
        assert_eq!([apart(run(0, 1_000), run(0, 860)), apart(run(0, 1_000), run(0, 850))], [0, 1]);
    }

    /// What differs where a frame of the host's, a segment of the client's and another frame with one of these identifications
    /// follow each other.
    fn differences(bakes: bool, (ends, by): (TcpFlags, TcpFlags), [one, other]: [u16; 2]) -> usize {
        let mut host = Host { streams: true, ..Host::default() };
        if bakes {
            host.sysctls.push(("net.ipv4.tcp_syncookies".to_owned(), "2".to_owned()));
        }
        let run = |id: u16| Recording {
            host: host.clone(),
            events: vec![emitted_with(7, ends, None), Event::new(0, What::Sent(segment(by))), emitted(id)],
            ..Recording::default()
        };
        compare(&run(one), &run(other), &mut Normalised::new()).len()
    }

    #[test]
    fn who_comes_after_the_end_may_be_another_only_where_cookies_are_baked() {
        const FIN: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);
        for end in [(TcpFlags::ACK, TcpFlags::RST), (FIN, TcpFlags::ACK)] {
            assert_eq!([differences(false, end, [8, 8]), differences(true, end, [8, 8])], [0, 0]);
            assert_eq!([differences(false, end, [8, 9]), differences(true, end, [8, 9])], [1, 0]);
        }
        assert_eq!(differences(true, (TcpFlags::ACK, TcpFlags::ACK), [8, 9]), 1, "it goes on");
    }
}
