//! Toeplitz against the published verification vectors and its definition; SipHash against the siphasher crate.

use proptest::prelude::*;
use rxpath_wire::siphash::siphash13;
use rxpath_wire::toeplitz::MICROSOFT_KEY;
use rxpath_wire::{Addr, FlowHasher, Toeplitz, Tuple, toeplitz};
use siphasher::sip::SipHasher13;
use std::net::IpAddr;

/// Source, destination, hash of the addresses, hash of addresses and ports.
const VECTORS: [(&str, u16, &str, u16, u32, u32); 8] = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
    ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4b61_e985, 0x02d1_feef),
];

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// What the definition hashes: addresses in their own length, then ports.
fn pair_input(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    [octets(src), octets(dst)].concat()
}

fn quad_input(src: IpAddr, sport: u16, dst: IpAddr, dport: u16) -> Vec<u8> {
    [pair_input(src, dst), sport.to_be_bytes().to_vec(), dport.to_be_bytes().to_vec()].concat()
}

#[test]
fn toeplitz_gives_the_published_values() {
    let tables = Toeplitz::new(&MICROSOFT_KEY);
    for (src, sport, dst, dport, pair, quad) in VECTORS {
        let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
        assert_eq!(toeplitz(&MICROSOFT_KEY, &pair_input(src, dst)), pair, "{src} -> {dst}");
        assert_eq!(toeplitz(&MICROSOFT_KEY, &quad_input(src, sport, dst, dport)), quad, "{src} -> {dst}");
        assert_eq!(tables.hash_2tuple(src.into(), dst.into()), pair, "{src} -> {dst}");
        assert_eq!(tables.hash_4tuple(src.into(), dst.into(), sport, dport), quad, "{src} -> {dst}");
    }
}

#[test]
fn a_missing_key_counts_as_zeros() {
    assert_eq!(toeplitz(&[], b"anything"), 0);
    assert_eq!(toeplitz(&[0x80], &[0x80]), 0x8000_0000);
    assert_eq!(toeplitz(&[0x80], &[0x7f; 100]), 0);
    let (src, dst) = (Addr::from_v4([1, 2, 3, 4]), Addr::from_v4([5, 6, 7, 8]));
    assert_eq!(Toeplitz::new(&[]).hash_4tuple(src, dst, 9, 10), 0);
}

#[test]
fn debug_output_keeps_keys_secret() {
    assert_eq!(format!("{:?}", FlowHasher::new(0x1234, 0x5678)), "FlowHasher { .. }");
    assert_eq!(format!("{:?}", Toeplitz::new(&MICROSOFT_KEY)), "Toeplitz { .. }");
}

/// Test vector of the reference implementation's form: key 00..0f, input 00..0e.
#[test]
fn siphash_of_the_reference_input() {
    let k0 = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]);
    let k1 = u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]);
    let input: Vec<u8> = (0..64).collect();
    for len in 0..=input.len() {
        let oracle = SipHasher13::new_with_keys(k0, k1).hash(&input[..len]);
        assert_eq!(siphash13(k0, k1, &input[..len]), oracle, "{len} bytes");
    }
}

#[test]
fn a_flow_hash_is_never_zero() {
    // 2^32 tries would be needed to meet a zero by search, so the bound is checked where it is made: over many flows the
    // 32 bits are the lower half of the 64, raised to 1.
    let hasher = FlowHasher::new(7, 11);
    for port in 0..=u16::MAX {
        let tuple = Tuple {
            local: Addr::from_v4([10, 0, 0, 1]),
            remote: Addr::from_v4([10, 0, 0, 2]),
            local_port: 80,
            remote_port: port,
        };
        let hash = hasher.hash(&tuple);
        assert_ne!(hash, 0);
        assert_eq!(hash, (hasher.hash64(&tuple) as u32).max(1));
    }
}

#[test]
fn flows_spread_evenly_over_queues() {
    const QUEUES: usize = 16;
    let hasher = FlowHasher::new(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
    let mut queues = [0u32; QUEUES];
    for port in 0..16_384 {
        let tuple = Tuple {
            local: Addr::from_v4([10, 0, 0, 1]),
            remote: Addr::from_v4([10, 0, 0, 2]),
            local_port: 80,
            remote_port: port,
        };
        queues[hasher.hash(&tuple) as usize % QUEUES] += 1;
    }
    // 1,024 expected, standard deviation 31: seven of them are more than chance allows.
    assert!(queues.iter().all(|n| (800..1250).contains(n)), "{queues:?}");
}

proptest! {
    #[test]
    fn tables_equal_the_definition(
        key in prop::collection::vec(any::<u8>(), 0..60),
        v4: ([u8; 4], [u8; 4]),
        v6: ([u8; 16], [u8; 16]),
        sport: u16,
        dport: u16,
    ) {
        let tables = Toeplitz::new(&key);
        let pairs = [(IpAddr::from(v4.0), IpAddr::from(v4.1)), (IpAddr::from(v6.0), IpAddr::from(v6.1))];
        for (src, dst) in pairs {
            prop_assert_eq!(tables.hash_2tuple(src.into(), dst.into()), toeplitz(&key, &pair_input(src, dst)));
            let quad = quad_input(src, sport, dst, dport);
            prop_assert_eq!(tables.hash_4tuple(src.into(), dst.into(), sport, dport), toeplitz(&key, &quad));
        }
    }

    #[test]
    fn siphash_equals_siphasher(k0: u64, k1: u64, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(siphash13(k0, k1, &bytes), SipHasher13::new_with_keys(k0, k1).hash(&bytes));
    }

    #[test]
    fn flow_hash_is_siphash_of_the_documented_bytes(
        k0: u64,
        k1: u64,
        local in addr(),
        remote in addr(),
        local_port: u16,
        remote_port: u16,
    ) {
        let tuple = Tuple { local, remote, local_port, remote_port };
        let addresses = match (local.v4(), remote.v4()) {
            (Some(local), Some(remote)) => [local.octets(), remote.octets()].concat(),
            _ => [local.0, remote.0].concat(),
        };
        let bytes = [addresses, local_port.to_be_bytes().to_vec(), remote_port.to_be_bytes().to_vec()].concat();
        let oracle = SipHasher13::new_with_keys(k0, k1).hash(&bytes);
        prop_assert_eq!(FlowHasher::new(k0, k1).hash64(&tuple), oracle);
        prop_assert_eq!(FlowHasher { k0, k1 }.hash(&tuple), (oracle as u32).max(1));
    }
}

fn addr() -> impl Strategy<Value = Addr> {
    prop_oneof![any::<[u8; 4]>().prop_map(Addr::from_v4), any::<[u8; 16]>().prop_map(Addr)]
}
