//! SYN cookies: when the queue of requests is full, what must be remembered of a SYN goes into the sequence number and the
//! timestamp of the SYN-ACK, and comes back with the third segment of the handshake.
//!
//! The sequence number is a keyed hash of the tuple, plus the peer's own, plus the minute in the highest byte, plus the
//! index of the MSS hidden in a second hash that the minute goes into. The six lowest bits of the timestamp say which
//! options were agreed; without timestamps there are none (`cookie_v4_init_sequence`, `cookie_v4_check`).
//!
//! Cookies are valid for less than two minutes, and only while the queue was full within the last two: a flood of made-up
//! ACKs at other times costs nothing but resets.

use rxpath_trace::Time;
use rxpath_wire::{FlowHasher, SeqNum, Tuple, siphash};

use crate::sysctl::Sysctls;

/// MSS values that a cookie can name.
const MSS_TABLE: [u16; 4] = [536, 1_300, 1_440, 1_460];
/// How long one count lasts.
const PERIOD: u64 = 60_000_000_000;
/// Counts for which a cookie is valid.
const AGE_MAX: u32 = 2;
/// Bits of the second hash.
const HASH_MASK: u32 = 0xff_ffff;
/// Bits of a timestamp that say which options were agreed.
const OPTION_BITS: u32 = 6;
const WSCALE_MASK: u32 = 0xf;
/// Selective acknowledgements were agreed.
const SACK: u32 = 1 << 4;
/// ECN was agreed.
const ECN: u32 = 1 << 5;

/// The counter in a cookie.
fn count(now: Time) -> u32 {
    (now.0 / PERIOD) as u32
}

/// The two hashes of a tuple, of which the second depends on the count (`cookie_hash`).
fn hashes(secret: &FlowHasher, tuple: &Tuple, count: u32) -> (u32, u32) {
    let first = secret.hash64(tuple);
    let second = siphash::siphash13(first, secret.hash64(&tuple.reversed()), &count.to_be_bytes());
    ((first >> 32) as u32, second as u32)
}

/// The cookie for a peer that began at `rcv_isn`, and the MSS that it stands for: the largest of the table that the peer
/// takes.
pub(super) fn init_sequence(secret: &FlowHasher, tuple: &Tuple, rcv_isn: SeqNum, mss: u16, now: Time) -> (SeqNum, u16) {
    let index = MSS_TABLE.iter().rposition(|&known| known <= mss).unwrap_or(0);
    let count = count(now);
    let (first, second) = hashes(secret, tuple, count);
    let hidden = second.wrapping_add(index as u32) & HASH_MASK;
    let cookie = first.wrapping_add(rcv_isn.0).wrapping_add(count << 24).wrapping_add(hidden);
    (SeqNum(cookie), MSS_TABLE[index])
}

/// The MSS that a cookie stands for; None if it is none of ours, or too old (`__cookie_v4_check`).
pub(super) fn check_sequence(
    secret: &FlowHasher,
    tuple: &Tuple,
    cookie: SeqNum,
    rcv_isn: SeqNum,
    now: Time,
) -> Option<u16> {
    let count = count(now);
    let (first, _) = hashes(secret, tuple, count);
    let rest = cookie.0.wrapping_sub(first).wrapping_sub(rcv_isn.0);
    let age = count.wrapping_sub(rest >> 24) & 0xff;
    if age >= AGE_MAX {
        return None;
    }
    let (_, second) = hashes(secret, tuple, count.wrapping_sub(age));
    MSS_TABLE.get((rest.wrapping_sub(second) & HASH_MASK) as usize).copied()
}

/// What a timestamp says of the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The peer's window scale; None without scaling.
    pub(super) wscale: Option<u8>,
    /// Selective acknowledgements.
    pub(super) sack: bool,
    /// ECN.
    pub(super) ecn: bool,
}

/// Our timestamp clock, before the connection's offset, with what was agreed in its lowest bits: the latest such value
/// that is not ahead of it (`cookie_init_timestamp`).
pub(super) fn init_timestamp(clock: u32, agreed: Agreed) -> u32 {
    let Agreed { wscale, sack, ecn } = agreed;
    let agreed = wscale.map_or(WSCALE_MASK, u32::from) | if sack { SACK } else { 0 } | if ecn { ECN } else { 0 };
    let stamp = clock >> OPTION_BITS << OPTION_BITS | agreed;
    if stamp > clock { stamp.wrapping_sub(1 << OPTION_BITS) } else { stamp }
}

/// What a timestamp says was agreed. None if we cannot have said that (`cookie_timestamp_decode`).
pub(super) fn decode_timestamp(sysctl: &Sysctls, stamp: u32) -> Option<Agreed> {
    let (sack, ecn) = (stamp & SACK != 0, stamp & ECN != 0);
    let wscale = Some((stamp & WSCALE_MASK) as u8).filter(|&scale| u32::from(scale) != WSCALE_MASK);
    let ours =
        sysctl.tcp_timestamps != 0 && (!sack || sysctl.tcp_sack) && (wscale.is_none() || sysctl.tcp_window_scaling);
    ours.then_some(Agreed { wscale, sack, ecn })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rxpath_wire::Addr;

    use super::*;

    fn tuple() -> Tuple {
        Tuple {
            local: Addr::from(Ipv4Addr::new(10, 0, 0, 1)),
            remote: Addr::from(Ipv4Addr::new(10, 0, 0, 2)),
            local_port: 80,
            remote_port: 40_000,
        }
    }

    #[test]
    fn a_cookie_names_the_mss_for_less_than_two_minutes() {
        let secret = FlowHasher::new(1, 2);
        let at = |seconds| Time::from_secs(seconds);
        for (peers, named) in [(100, 536), (536, 536), (1_299, 536), (1_300, 1_300), (1_459, 1_440), (9_000, 1_460)] {
            let (cookie, mss) = init_sequence(&secret, &tuple(), SeqNum(77), peers, at(119));
            assert_eq!(mss, named);
            let check = |cookie, isn, now| check_sequence(&secret, &tuple(), cookie, SeqNum(isn), now);
            assert_eq!(check(cookie, 77, at(119)), Some(named));
            assert_eq!(check(cookie, 77, at(179)), Some(named), "the next count");
            assert_eq!(check(cookie, 77, at(180)), None, "too old");
            assert_eq!(check(cookie + 4, 77, at(119)), None);
            assert_eq!(check(cookie, 67, at(119)), None, "another SYN");
            let other = Tuple { remote_port: 40_001, ..tuple() };
            assert_eq!(check_sequence(&secret, &other, cookie, SeqNum(77), at(119)), None);
        }
    }

    #[test]
    fn a_timestamp_says_what_was_agreed_and_is_not_ahead_of_the_clock() {
        let sysctl = Sysctls::default();
        for clock in [64, 1_000, 1_023, 1_024, 4_000_000_000] {
            for wscale in [None, Some(0), Some(7), Some(14)] {
                for (sack, ecn) in [(false, false), (true, false), (true, true)] {
                    let agreed = Agreed { wscale, sack, ecn };
                    let stamp = init_timestamp(clock, agreed);
                    assert!(stamp <= clock && clock - stamp < 64, "{clock} {stamp}");
                    assert_eq!(decode_timestamp(&sysctl, stamp), Some(agreed));
                }
            }
        }
    }
}
