//! The checksum at every level against the definition in RFC 1071: all lengths, all alignments,
//! extreme contents.

use rxpath_arch::csum;
use rxpath_arch::{Level, available, level};

const SEED: u64 = 0x5eed_c5a1_0000_0001;

/// RFC 1071 to the letter: big-endian words, end-around carry after each addition.
fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// xorshift64*: the same bytes in every run.
fn random_bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    (0..n).map(|_| (next() >> 56) as u8).collect()
}

/// Contents that stress carries, signs and zeros, beside random ones.
fn contents(n: usize) -> Vec<(&'static str, Vec<u8>)> {
    let alternating = |even, odd| (0..n).map(|i| if i % 2 == 0 { even } else { odd }).collect();
    vec![
        ("random", random_bytes(n, SEED)),
        ("zeros", vec![0; n]),
        ("ones", vec![0xff; n]),
        ("top bits", vec![0x80; n]),
        ("80 00", alternating(0x80, 0)),
        ("00 80", alternating(0, 0x80)),
        ("7f ff", alternating(0x7f, 0xff)),
        ("ff 7f", alternating(0xff, 0x7f)),
    ]
}

#[test]
fn every_length_and_alignment_at_every_level() {
    for (what, bytes) in contents(2048 + 32) {
        for len in 0..=2048 {
            // All alignments for the lengths where heads and tails matter; two otherwise.
            let offsets: &[usize] = if len <= 300 || len > 2000 {
                &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 24, 30, 31, 32]
            } else {
                &[0, 13]
            };
            for &offset in offsets {
                let slice = &bytes[offset..offset + len];
                let expected = naive(slice);
                assert_eq!(csum::sum(slice), expected, "sum of {what}, {offset}+{len}");
                for &level in available() {
                    assert_eq!(csum::sum_at(level, slice), expected, "{level} sum of {what}, {offset}+{len}");
                }
            }
        }
    }
}

#[test]
fn copies_carry_every_byte_and_touch_no_other() {
    let src = random_bytes(2048 + 32, SEED);
    let levels = available().iter().map(|&level| Some(level)).chain([None]);
    for level in levels {
        for len in 0..=2048 {
            for (from, to) in [(0, 0), (1, 0), (0, 1), (7, 18), (31, 2)] {
                let slice = &src[from..from + len];
                let mut dst = vec![0xa5; len + 64];
                let target = &mut dst[to..to + len];
                let sum = match level {
                    Some(level) => csum::copy_and_sum_at(level, target, slice),
                    None => csum::copy_and_sum(target, slice),
                };
                assert_eq!(sum, naive(slice), "{level:?} {from}->{to} {len}");
                assert_eq!(&dst[to..to + len], slice, "{level:?} {from}->{to} {len}");
                let outside = dst[..to].iter().chain(&dst[to + len..]);
                assert!(outside.copied().all(|b| b == 0xa5), "{level:?} {from}->{to} {len} wrote outside");
            }
        }
    }
}

#[test]
fn large_inputs_do_not_overflow_a_lane() {
    for n in [(1 << 19) - 1, 1 << 19, (1 << 19) + 33, (1 << 20) + 1, 3 * (1 << 20) + 17] {
        for (what, bytes) in contents(n) {
            let expected = naive(&bytes);
            let mut copy = vec![0; n];
            for &level in available() {
                assert_eq!(csum::sum_at(level, &bytes), expected, "{level} {what} {n}");
                assert_eq!(csum::copy_and_sum_at(level, &mut copy, &bytes), expected, "{level} {what} {n}");
                assert!(copy == bytes, "{level} {what} {n}");
            }
        }
    }
}

#[test]
fn levels_above_the_machine_fall_back() {
    let bytes = random_bytes(777, SEED);
    assert_eq!(csum::sum_at(Level::Avx2, &bytes), naive(&bytes));
    assert_eq!(available().last(), Some(&level()));
    assert_eq!(available().first(), Some(&Level::Scalar));
}

#[test]
fn rfc_1071_section_3_example() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(csum::sum(&bytes), 0xddf2);
    assert_eq!(csum::sum_array(&bytes), 0xddf2);
}

#[test]
fn parts_combine_at_any_cut() {
    let bytes = random_bytes(301, SEED);
    let whole = csum::sum(&bytes);
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(csum::combine(csum::sum(a), csum::sum(b), cut % 2 == 1), whole, "cut at {cut}");
    }
}

#[test]
fn addition_and_subtraction_are_ones_complement() {
    for a in (0..=u16::MAX).step_by(127).chain([u16::MAX]) {
        for b in (0..=u16::MAX).step_by(251).chain([u16::MAX]) {
            let sum = u32::from(a) + u32::from(b);
            let expected = if sum > 0xffff { sum - 0xffff } else { sum };
            assert_eq!(u32::from(csum::sum_add(a, b)), expected);
            // The two zeros of ones' complement are one number.
            let back = csum::sum_sub(csum::sum_add(a, b), b);
            assert_eq!(back % 0xffff, a % 0xffff, "{a:#x} + {b:#x} - {b:#x}");
        }
    }
}

#[test]
fn fold_is_the_remainder_with_a_nonzero_zero() {
    let wide = random_bytes(8 * 4096, SEED);
    let extremes = [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX - 1, u64::MAX];
    let random = wide.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk));
    for value in extremes.into_iter().chain(random) {
        let expected = match value % 0xffff {
            0 if value != 0 => 0xffff,
            rest => rest as u16,
        };
        assert_eq!(csum::fold(value), expected, "{value:#x}");
    }
}

#[test]
fn an_updated_checksum_equals_a_fresh_one() {
    let mut header = random_bytes(20, SEED);
    header[10..12].fill(0);
    let checksum = !csum::sum(&header);
    for word in (0..20).step_by(2).filter(|&at| at != 10) {
        for new in [0u16, 1, 0x8000, 0xfffe, 0xffff, 0x1234] {
            let mut changed = header.clone();
            let old = u16::from_be_bytes([changed[word], changed[word + 1]]);
            changed[word..word + 2].copy_from_slice(&new.to_be_bytes());
            assert_eq!(csum::update(checksum, old, new), !csum::sum(&changed), "word {word} to {new:#x}");
        }
    }
}

#[test]
#[should_panic(expected = "different lengths")]
fn copying_between_different_lengths_is_refused() {
    csum::copy_and_sum(&mut [0; 3], &[0; 4]);
}

#[test]
fn hints_and_counters_are_callable_on_anything() {
    rxpath_arch::prefetch::read(&[]);
    rxpath_arch::prefetch::read(&[1, 2, 3]);
    rxpath_arch::prefetch::line(&SEED);
    rxpath_arch::prefetch::line("a string");
    let (first, second) = (rxpath_arch::cycles(), rxpath_arch::cycles());
    if cfg!(target_arch = "x86_64") {
        assert!(second > first, "the time-stamp counter stands still");
    } else {
        assert_eq!((first, second), (0, 0));
    }
}
