//! Initial sequence numbers and timestamp offsets: unpredictable to others, monotonic for one peer (RFC 6528).

use rxpath_trace::Time;
use rxpath_wire::{SeqNum, Tuple};

use crate::netns::NetConfig;

/// `secure_tcp_seq`: a keyed hash of the tuple plus a clock that ticks every 64 ns.
pub(super) fn secure_tcp_seq(net: &NetConfig, tuple: &Tuple, now: Time) -> SeqNum {
    SeqNum(net.secret.hash(tuple).wrapping_add((now.0 >> 6) as u32))
}

/// `secure_tcp_ts_off`: where the timestamps of this pair of hosts start.
pub(super) fn secure_ts_offset(net: &NetConfig, tuple: &Tuple) -> u32 {
    net.secret.hash(&Tuple { local_port: 0, remote_port: 0, ..*tuple })
}

/// The first IP identification of a connection; it counts up from there.
pub(super) fn first_ip_id(net: &NetConfig, tuple: &Tuple, now: Time) -> u16 {
    (net.secret.hash(&tuple.reversed()) ^ (now.0 >> 10) as u32) as u16
}

/// Our timestamp clock: milliseconds plus the connection's offset.
#[inline(always)]
pub(super) fn tsval(now: Time, offset: u32) -> u32 {
    ((now.0 / 1_000_000) as u32).wrapping_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_clock_ticks_in_milliseconds_from_its_offset() {
        assert_eq!(tsval(Time(5_999_999), 100), 105);
        assert_eq!(tsval(Time(6_000_000), u32::MAX), 5);
    }
}
