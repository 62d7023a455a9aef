//! The options of the IPv4 header (RFC 791 section 3.1): read and filled in on receipt, sent back in ICMP messages.
//!
//! Record Route and Timestamp are obeyed; a source route is recognised so that it can be refused; Router Alert is
//! checked; others are skipped. The offset that a parameter problem points at is the one that Linux gives.

use std::net::Ipv4Addr;

use rxpath_trace::Time;
use rxpath_wire::Addr;

use crate::netns::NetConfig;
use crate::route::{self, AddrType};

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const CIPSO: u8 = 134;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// Bytes of the header's fixed part.
const FIXED: usize = 20;
/// Longest options field.
const MAX_OPTIONS_LEN: usize = 40;

/// Why options are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// They make no sense at this offset from the start of the IP header.
    Malformed { pointer: u8 },
    /// They ask for a route of the sender's choice.
    SourceRoute,
}

/// What we have to enter in options.
#[derive(Debug)]
pub(crate) struct Own<'a> {
    net: &'a NetConfig,
    /// What Record Route records.
    local: [u8; 4],
    /// What stands before a time.
    stamped: [u8; 4],
    stamp: u32,
}

impl<'a> Own<'a> {
    /// Our address as the packet met or leaves it, and the time in milliseconds. The clock has no relation to midnight
    /// UT, which the highest bit of the time says (RFC 791).
    pub(crate) fn new(net: &'a NetConfig, local: Ipv4Addr, now: Time) -> Own<'a> {
        let local = local.octets();
        Own { net, local, stamped: local, stamp: now.as_millis() as u32 | 1 << 31 }
    }

    /// With this address before a time: the one by which the packet came, where it leaves by another.
    pub(crate) fn stamped(self, addr: Ipv4Addr) -> Own<'a> {
        Own { stamped: addr.octets(), ..self }
    }
}

/// Reads the options of a received header that is `ihl` words long by its own account; `header` may be longer. Enters
/// our address and the time where asked.
pub(super) fn receive(header: &mut [u8], own: &Own) -> Result<(), Problem> {
    let Some(first) = header.first() else { return Ok(()) };
    let end = header.len().min(usize::from(first & 0xf) * 4);
    let mut reader = Reader { own, seen: Seen::default() };
    let mut at = FIXED;
    while at < end {
        match header[at] {
            END => {
                // What stands behind the end of the list is nobody's.
                header[at..end].fill(END);
                break;
            }
            NOP => at += 1,
            _ => {
                let len = length(&header[at..end]).ok_or(malformed(at))?;
                reader.option(&mut header[at..at + len]).map_err(|offset| malformed(at + offset))?;
                at += len;
            }
        }
    }
    if reader.seen.source_route { Err(Problem::SourceRoute) } else { Ok(()) }
}

fn malformed(pointer: usize) -> Problem {
    Problem::Malformed { pointer: pointer as u8 }
}

/// Length of the option at the front of `options`, if it has one that fits.
fn length(options: &[u8]) -> Option<usize> {
    let len = usize::from(*options.get(1)?);
    (2..=options.len()).contains(&len).then_some(len)
}

/// Options that may come once.
#[derive(Default)]
struct Seen {
    record_route: bool,
    timestamp: bool,
    source_route: bool,
}

struct Reader<'a> {
    own: &'a Own<'a>,
    seen: Seen,
}

impl Reader<'_> {
    /// One option with a length that fits.
    ///
    /// # Errors
    /// The offset of the offence within it.
    fn option(&mut self, option: &mut [u8]) -> Result<(), usize> {
        match option[0] {
            RECORD_ROUTE => self.record_route(option),
            TIMESTAMP => self.timestamp(option),
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => {
                pointer(option, 4)?;
                once(&mut self.seen.source_route)
            }
            ROUTER_ALERT if option.len() < 4 => Err(1),
            // A security label of a domain that is not configured, since none can be; too short a one is told as such.
            CIPSO => Err(if option.len() < 8 { 1 } else { 2 }),
            _ => Ok(()),
        }
    }

    fn record_route(&mut self, option: &mut [u8]) -> Result<(), usize> {
        once(&mut self.seen.record_route)?;
        let free = pointer(option, 4)?;
        if free > option.len() {
            return Ok(());
        }
        if free + 3 > option.len() {
            return Err(2);
        }
        self.own.record_address(option, free);
        Ok(())
    }

    fn timestamp(&mut self, option: &mut [u8]) -> Result<(), usize> {
        once(&mut self.seen.timestamp)?;
        if option.len() < 4 {
            return Err(1);
        }
        let free = pointer(option, 5)?;
        if free > option.len() {
            // No room: the upper half of the flag byte counts the hosts that found none, unless they were named.
            if option[3] & 0xf == PRESPECIFIED {
                return Ok(());
            }
            if option[3] >> 4 == 15 {
                return Err(3);
            }
            option[3] += 0x10;
            return Ok(());
        }
        let need = if matches!(option[3] & 0xf, WITH_ADDRESS | PRESPECIFIED) { 7 } else { 3 };
        if free + need > option.len() {
            return Err(2);
        }
        self.own.record_time(option, free);
        Ok(())
    }
}

fn once(seen: &mut bool) -> Result<(), usize> {
    if std::mem::replace(seen, true) { Err(0) } else { Ok(()) }
}

/// The pointer of an option that has one: the number, from 1, of its first free byte. At least `least`.
fn pointer(option: &[u8], least: u8) -> Result<usize, usize> {
    match option.get(2) {
        None => Err(1),
        Some(&pointer) if pointer < least => Err(2),
        Some(&pointer) => Ok(usize::from(pointer)),
    }
}

/// Flag of a Timestamp option: addresses and times.
const WITH_ADDRESS: u8 = 1;
/// Flag of a Timestamp option: times of the hosts whose addresses are there already.
const PRESPECIFIED: u8 = 3;

impl Own<'_> {
    /// Whether an address is of a single host that is not this one.
    fn is_of_another(&self, addr: Addr) -> bool {
        self.net.fib.addr_type(addr) == AddrType::Unicast && !route::is_loopback(addr)
    }

    /// Enters our address at the free byte (from 1); there are 4.
    fn record_address(&self, option: &mut [u8], free: usize) {
        option[free - 1..free + 3].copy_from_slice(&self.local);
        option[2] += 4;
    }

    /// Enters the time as the flags ask; there is room for it. Flags of no meaning are let be.
    fn record_time(&self, option: &mut [u8], free: usize) {
        let time_at = match option[3] & 0xf {
            0 => free - 1,
            WITH_ADDRESS => {
                option[free - 1..free + 3].copy_from_slice(&self.stamped);
                free + 3
            }
            PRESPECIFIED => {
                let asked = option[free - 1..].first_chunk::<4>().map_or([0; 4], |octets| *octets);
                if self.is_of_another(Addr::from_v4(asked)) {
                    return;
                }
                free + 3
            }
            _ => return,
        };
        option[time_at..time_at + 4].copy_from_slice(&self.stamp.to_be_bytes());
        option[2] = (time_at + 5) as u8;
    }
}

/// An options field, padded to whole words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionBytes {
    bytes: [u8; MAX_OPTIONS_LEN],
    len: usize,
}

impl OptionBytes {
    /// No options.
    pub(crate) const NONE: OptionBytes = OptionBytes { bytes: [0; MAX_OPTIONS_LEN], len: 0 };

    /// The bytes, a multiple of 4.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// `ip_options_echo` and `ip_options_build`: what an ICMP message in answer to the packet with this header carries. Record
/// Route and Timestamp come back, with our address and the time entered once more where there is room.
///
/// Of options that were not accepted, those before the offence at `offence`, an offset from the start of the header, come
/// back.
///
/// None if there is no answer: an option has room left, but not enough for an entry.
pub(crate) fn echo(header: &[u8], own: &Own, offence: Option<u8>) -> Option<OptionBytes> {
    let mut echoed = OptionBytes::NONE;
    let ihl = header.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    let Some(options) = header.get(FIXED..ihl) else { return Some(echoed) };
    let (options, offending) = options.split_at(offence.map_or(options.len(), |at| accepted(options, at)));
    for kind in [RECORD_ROUTE, TIMESTAMP] {
        let Some(option) = find(options, kind) else { continue };
        let place = &mut echoed.bytes[echoed.len..echoed.len + option.len()];
        place.copy_from_slice(option);
        own.enter_again(place)?;
        echoed.len += option.len();
    }
    if let Some(back) = route_back(header, offence) {
        let place = &mut echoed.bytes[echoed.len..echoed.len + back.len];
        place.copy_from_slice(&back.bytes[..back.len]);
        echoed.len += back.len;
    }
    if offending.first() == Some(&CIPSO)
        && let Some(len) = length(offending)
    {
        // The label that nobody here understands goes back to who wrote it.
        echoed.bytes[echoed.len..echoed.len + len].copy_from_slice(&offending[..len]);
        echoed.len += len;
    }
    // The end-of-list byte is 0, and so is the padding.
    echoed.len = echoed.len.next_multiple_of(4);
    Some(echoed)
}

impl Own<'_> {
    /// Enters address or time in an option whose pointer is not below its least, if there is room. None if what room
    /// there is does not do.
    fn enter_again(&self, option: &mut [u8]) -> Option<()> {
        let free = usize::from(option[2]);
        let timestamp = option[0] == TIMESTAMP;
        let wide = timestamp && matches!(option[3] & 0xf, WITH_ADDRESS | PRESPECIFIED);
        let need = if wide { 7 } else { 3 };
        if free > option.len() {
            return Some(());
        }
        // Who asks for the times of certain hosts gets an answer without ours, if it is another's turn or there is no room.
        let named = timestamp && option[3] & 0xf == PRESPECIFIED;
        if free + if named { 3 } else { need } > option.len() {
            return None;
        }
        if free + need > option.len() {
            return Some(());
        }
        if timestamp {
            self.record_time(option, free)
        } else {
            self.record_address(option, free)
        }
        Some(())
    }
}

/// The source route of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteBack {
    /// Where the answer is sent first.
    pub(crate) first: Ipv4Addr,
    bytes: [u8; MAX_OPTIONS_LEN],
    len: usize,
}

/// The way back along a source route that was accepted before the offence: the stations passed, from the last to the
/// first, and then the sender (RFC 1122 section 3.2.1.8). None if there is no such route, or it passed nobody but the
/// sender.
pub(crate) fn route_back(header: &[u8], offence: Option<u8>) -> Option<RouteBack> {
    let ihl = usize::from(header.first()? & 0xf) * 4;
    let sender = *header.get(12..16)?.first_chunk::<4>()?;
    let options = header.get(FIXED..ihl)?;
    let options = &options[..offence.map_or(options.len(), |at| accepted(options, at))];
    let option = find(options, LOOSE_SOURCE_ROUTE).or_else(|| find(options, STRICT_SOURCE_ROUTE))?;
    // Up to the pointer, which may stand behind the end; the first that was passed comes last.
    let passed = option.get(3..usize::from(option[2]).min(option.len() + 1) - 1)?;
    let mut stations = passed.rchunks_exact(4);
    let first = *stations.next()?.first_chunk::<4>()?;
    let mut back = RouteBack { first: first.into(), bytes: [0; MAX_OPTIONS_LEN], len: 3 };
    let mut nearest = first;
    for station in stations {
        back.bytes[back.len..back.len + 4].copy_from_slice(station);
        back.len += 4;
        nearest = *station.first_chunk::<4>()?;
    }
    // RFC 1812 section 5.2.4.1: whoever put himself into his route is not visited twice.
    if nearest == sender {
        back.len = back.len.checked_sub(4).filter(|&len| len >= 3)?;
    }
    back.bytes[back.len..back.len + 4].copy_from_slice(&sender);
    back.len += 4;
    back.bytes[..3].copy_from_slice(&[option[0], back.len as u8, 4]);
    Some(back)
}

/// Length of the options that end before the offence at this offset from the start of the header.
fn accepted(options: &[u8], offence: u8) -> usize {
    let offence = usize::from(offence).saturating_sub(FIXED);
    let mut at = 0;
    while at < options.len() {
        let len = if options[at] == NOP { Some(1) } else { length(&options[at..]) };
        match len {
            Some(len) if at + len <= offence => at += len,
            _ => break,
        }
    }
    at
}

/// The first option of a kind, Record Route, Timestamp or a source route, in a field that may be malformed; None if it is itself.
fn find(mut options: &[u8], kind: u8) -> Option<&[u8]> {
    let (shortest, least) = if kind == TIMESTAMP { (4, 5) } else { (3, 4) };
    loop {
        match *options.first()? {
            END => return None,
            NOP => options = &options[1..],
            found => {
                let (option, rest) = options.split_at(length(options)?);
                if found == kind {
                    return (option.len() >= shortest && option[2] >= least).then_some(option);
                }
                options = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests;
