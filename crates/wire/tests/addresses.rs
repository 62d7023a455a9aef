//! Addresses, tuples and sequence numbers.

use proptest::prelude::*;
use rxpath_wire::{Addr, MacAddr, SeqNum, Tuple};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn mac_addresses_read_and_write() {
    let mac: MacAddr = "02:00:00:00:aa:01".parse().unwrap();
    assert_eq!(mac, MacAddr([2, 0, 0, 0, 0xaa, 1]));
    assert_eq!(mac.to_string(), "02:00:00:00:aa:01");
    assert_eq!(format!("{mac:?}"), "02:00:00:00:aa:01");
    assert_eq!("2-0-0-0-AA-1".parse(), Ok(mac));
    assert!(mac.is_unicast() && !mac.is_multicast() && !mac.is_broadcast());
    assert!(MacAddr::BROADCAST.is_broadcast() && MacAddr::BROADCAST.is_multicast());
    assert!(MacAddr([1, 0, 0x5e, 0, 0, 1]).is_multicast());
    assert!(!MacAddr::ZERO.is_unicast() && !MacAddr::ZERO.is_multicast());
}

#[test]
fn texts_that_are_no_mac_address_say_what_is() {
    for text in ["", ":::::", "02:00:00:00:aa", "02:00:00:00:aa:01:02", "02:00:00:00:aa:0g", "02:00:00:00:aa:+1"] {
        let error = text.parse::<MacAddr>().expect_err(text).to_string();
        assert!(error.contains(&format!("{text:?}")) && error.contains("02:00:00:00:aa:01"), "{error}");
    }
    for text in ["002:0:0:0:0:1", "02:00-00:00:aa:01", "02:00:00:00:aa: 1", "020000 00aa01", "é:0:0:0:0:0"] {
        assert!(text.parse::<MacAddr>().is_err(), "{text}");
    }
    let long = "x".repeat(10_000);
    assert!(long.parse::<MacAddr>().unwrap_err().to_string().len() < 200);
}

#[test]
fn addresses_know_their_family() {
    let v4 = Addr::from(Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(v4.v4(), Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(v4.to_string(), "10.0.0.1");
    assert_eq!(v4.to_ip(), IpAddr::from([10, 0, 0, 1]));
    let v6 = Addr::from("2001:db8::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!((v6.is_v4(), v6.v4()), (false, None));
    assert_eq!(v6.to_string(), "2001:db8::1");
    // The mapped form is the IPv4 address; its neighbours are not.
    assert_eq!(Addr::from("::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap()), v4);
    assert!(!Addr::from("::fffe:10.0.0.1".parse::<Ipv6Addr>().unwrap()).is_v4());
    assert!(!Addr::from("::10.0.0.1".parse::<Ipv6Addr>().unwrap()).is_v4());
    assert!(!Addr::from("1::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap()).is_v4());
}

#[test]
fn special_addresses() {
    assert_eq!(Addr::default(), Addr::from(Ipv4Addr::UNSPECIFIED));
    for (text, unspecified, multicast) in [
        ("0.0.0.0", true, false),
        ("::", true, false),
        ("0.0.0.1", false, false),
        ("223.255.255.255", false, false),
        ("224.0.0.1", false, true),
        ("239.255.255.255", false, true),
        ("240.0.0.0", false, false),
        ("ff02::1", false, true),
        ("fe80::1", false, false),
    ] {
        let addr = Addr::from(text.parse::<IpAddr>().unwrap());
        assert_eq!((addr.is_unspecified(), addr.is_multicast()), (unspecified, multicast), "{text}");
    }
}

#[test]
fn tuples_print_both_ends() {
    let v4 = Tuple {
        local: Addr::from_v4([10, 0, 0, 1]),
        remote: Addr::from_v4([10, 0, 0, 2]),
        local_port: 80,
        remote_port: 40_000,
    };
    assert_eq!(v4.to_string(), "10.0.0.1:80 <-> 10.0.0.2:40000");
    assert_eq!(v4.reversed().to_string(), "10.0.0.2:40000 <-> 10.0.0.1:80");
    let v6 = Tuple { local: Addr::UNSPECIFIED_V6, ..v4 };
    assert_eq!(v6.to_string(), "[::]:80 <-> 10.0.0.2:40000");
}

fn addr() -> impl Strategy<Value = Addr> {
    prop_oneof![any::<[u8; 4]>().prop_map(Addr::from_v4), any::<[u8; 16]>().prop_map(Addr)]
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (addr(), addr(), any::<u16>(), any::<u16>()).prop_map(|(local, remote, local_port, remote_port)| Tuple {
        local,
        remote,
        local_port,
        remote_port,
    })
}

proptest! {
    #[test]
    fn mac_text_round_trips(octets: [u8; 6]) {
        let mac = MacAddr(octets);
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
    }

    #[test]
    fn any_text_parses_or_errs(text in ".{0,40}") {
        if let Ok(mac) = text.parse::<MacAddr>() {
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        }
    }

    #[test]
    fn std_addresses_round_trip(v4: Ipv4Addr, v6: Ipv6Addr) {
        prop_assert_eq!(Addr::from(v4).to_ip(), IpAddr::V4(v4));
        prop_assert_eq!(IpAddr::from(Addr::from(v6)), IpAddr::V6(v6).to_canonical());
        prop_assert_eq!(Addr::from(v6).0, v6.octets());
    }

    /// Equality is that of the four fields, and hashing agrees with it.
    #[test]
    fn tuple_equality(a in tuple(), field in 0..5, bit in 0..128u32) {
        let mut b = a;
        match field {
            0 => b.local.0[bit as usize / 8] ^= 1 << (bit % 8),
            1 => b.remote.0[bit as usize / 8] ^= 1 << (bit % 8),
            2 => b.local_port ^= 1 << (bit % 16),
            3 => b.remote_port ^= 1 << (bit % 16),
            _ => {}
        }
        prop_assert_eq!(a == b, field == 4);
        prop_assert_eq!(a.reversed() == b.reversed(), field == 4);
        prop_assert_eq!(a.reversed().reversed(), a);
        if a == b {
            prop_assert_eq!(hash_of(a), hash_of(b));
        }
        prop_assert_eq!(HashSet::from([a, b]).len(), if field == 4 { 1 } else { 2 });
    }

    /// Within half of the circle, serial order is the order of the offsets, wherever the circle is entered.
    #[test]
    fn sequence_order_is_independent_of_the_origin(origin: u32, a in 0..0x4000_0000u32, b in 0..0x4000_0000u32) {
        let (x, y) = (SeqNum(origin) + a, SeqNum(origin) + b);
        prop_assert_eq!(x.before(y), a < b);
        prop_assert_eq!(x.after(y), a > b);
        prop_assert_eq!(x.at_or_before(y), a <= b);
        prop_assert_eq!(x.at_or_after(y), a >= b);
        prop_assert_eq!(x.max(y), SeqNum(origin) + a.max(b));
        prop_assert_eq!(x.min(y), SeqNum(origin) + a.min(b));
        prop_assert_eq!(x - y, a as i32 - b as i32);
        prop_assert_eq!(x.diff(y), -(y.diff(x)));
    }

    #[test]
    fn sequence_arithmetic_undoes_itself(s: u32, n: u32) {
        let s = SeqNum(s);
        prop_assert_eq!(s + n - n, s);
        prop_assert_eq!((s + n) - s, n as i32);
        let mut t = s;
        t += n;
        prop_assert_eq!(t, s + n);
        t -= n;
        prop_assert_eq!(t, s);
        prop_assert_eq!(SeqNum::from(s.0).to_string(), s.0.to_string());
    }

    /// `between` is exactly membership of the closed arc from `lo` up to `hi`.
    #[test]
    fn between_is_an_arc(lo: u32, len: u32, at: u32) {
        let (lo_s, hi) = (SeqNum(lo), SeqNum(lo) + len);
        prop_assert_eq!((lo_s + at).between(lo_s, hi), at <= len);
        prop_assert!(lo_s.between(lo_s, hi) && hi.between(lo_s, hi));
    }
}

#[test]
fn sequence_numbers_at_the_seams() {
    let (last, first) = (SeqNum(u32::MAX), SeqNum(0));
    assert!(last.before(first) && first.after(last));
    assert_eq!(last + 1, first);
    assert_eq!(first - last, 1);
    assert_eq!(last.max(first), first);
    assert!(first.between(last, SeqNum(1)) && !SeqNum(2).between(last, SeqNum(1)));
    // Half of the circle apart there is no order: each is before the other, as the type's documentation says.
    let opposite = SeqNum(1 << 31);
    assert!(first.before(opposite) && opposite.before(first));
    assert!(!first.at_or_before(opposite));
}
