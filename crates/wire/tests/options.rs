//! TCP options: the layouts that Linux sends, its leniency with what others send, and round trips.

use proptest::prelude::*;
use rxpath_wire::tcp::{MAX_OPTIONS_LEN, MAX_WSCALE};
use rxpath_wire::{SeqNum, TcpOptions, TcpOptionsWriter};

fn emitted(options: &TcpOptions) -> Vec<u8> {
    let mut buf = [0xee; MAX_OPTIONS_LEN];
    let len = options.emit(&mut buf);
    assert_eq!(len, options.emitted_len());
    assert!(buf[len..].iter().all(|&byte| byte == 0xee), "wrote beyond {len}");
    buf[..len].to_vec()
}

fn sack(blocks: &[(u32, u32)]) -> TcpOptions {
    let mut options = TcpOptions::default();
    options.set_sack(blocks.iter().map(|&(left, right)| (SeqNum(left), SeqNum(right))));
    options
}

#[test]
fn a_syn_ack_has_the_kernels_layout() {
    let syn = TcpOptions {
        mss: Some(1460),
        wscale: Some(10),
        timestamps: Some((0x0102_0304, 0x0506_0708)),
        sack_permitted: true,
        ..TcpOptions::default()
    };
    let bytes = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 10];
    assert_eq!(emitted(&syn), bytes);
    assert_eq!(TcpOptions::parse(&bytes), syn);
}

#[test]
fn partial_sets_are_padded_with_nops() {
    let none = TcpOptions::default();
    assert_eq!(emitted(&none), []);
    let timestamps = TcpOptions { timestamps: Some((1, 2)), ..none };
    assert_eq!(emitted(&timestamps), [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    let sack_only = TcpOptions { mss: Some(536), sack_permitted: true, wscale: Some(7), ..none };
    assert_eq!(emitted(&sack_only), [2, 4, 2, 24, 1, 1, 4, 2, 1, 3, 3, 7]);
    assert_eq!(emitted(&sack(&[(1, 2)])), [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
}

#[test]
fn as_many_sack_blocks_as_fit() {
    let blocks = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)];
    assert_eq!(sack(&blocks).sack_blocks().len(), 4);
    assert_eq!(emitted(&sack(&blocks)).len(), 36);
    let with_timestamps = TcpOptions { timestamps: Some((1, 2)), ..sack(&blocks) };
    let bytes = emitted(&with_timestamps);
    assert_eq!(bytes.len(), 40);
    let parsed = TcpOptions::parse(&bytes);
    assert_eq!(parsed.timestamps, Some((1, 2)));
    assert_eq!(parsed.sack_blocks(), &with_timestamps.sack_blocks()[..3]);
    let all = TcpOptions { mss: Some(1), wscale: Some(1), sack_permitted: true, ..with_timestamps };
    assert_eq!(TcpOptions::parse(&emitted(&all)).sack_blocks().len(), 2);
}

#[test]
fn the_fast_path_takes_exactly_nop_nop_ts() {
    let field = [1, 1, 8, 10, 0x80, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(TcpOptions::only_timestamps(&field), Some((0x8000_0001, u32::MAX)));
    assert_eq!(TcpOptions::parse(&field).timestamps, Some((0x8000_0001, u32::MAX)));
    for at in 0..4 {
        let mut other = field;
        other[at] ^= 0x40;
        assert_eq!(TcpOptions::only_timestamps(&other), None, "byte {at} changed");
    }
    assert_eq!(TcpOptions::only_timestamps(&field[..11]), None);
    assert_eq!(TcpOptions::only_timestamps(&[&field[..], &[0]].concat()), None);
    // The same option behind other padding goes the slow way to the same end.
    let trailing = [8, 10, 0x80, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1, 1];
    assert_eq!(TcpOptions::only_timestamps(&trailing), None);
    assert_eq!(TcpOptions::parse(&trailing), TcpOptions::parse(&field));
}

#[test]
fn malformed_options_end_the_reading_and_keep_what_came_before() {
    let mss = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
    let cases: [&[u8]; 7] = [
        &[3],                // no length
        &[3, 0],             // length 0 would never end
        &[3, 1, 7],          // length below its own two bytes
        &[3, 4, 7],          // reaches beyond the field
        &[0, 3, 3, 7],       // behind the end of options
        &[8, 10, 0, 0, 0],   // cut timestamps
        &[77, 255, 3, 3, 7], // unknown and too long
    ];
    for tail in cases {
        assert_eq!(TcpOptions::parse(&[&[2, 4, 0x05, 0xb4], tail].concat()), mss, "{tail:?}");
    }
}

#[test]
fn unknown_options_and_wrong_lengths_are_skipped() {
    let wscale = TcpOptions { wscale: Some(7), ..TcpOptions::default() };
    let cases: [&[u8]; 9] = [
        &[77, 2],
        &[77, 5, 1, 2, 3],
        &[254, 4, 0xf9, 0x89],
        &[2, 3, 5],                                   // MSS of one byte
        &[3, 2],                                      // window scale of none
        &[4, 3, 0],                                   // SACK-permitted with a value
        &[8, 9, 1, 2, 3, 4, 5, 6, 7],                 // timestamps of seven
        &[5, 2],                                      // SACK without a block
        &[5, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff], // SACK of a block and a bit
    ];
    for head in cases {
        assert_eq!(TcpOptions::parse(&[head, &[3, 3, 7]].concat()), wscale, "{head:?}");
    }
}

#[test]
fn values_at_the_limits() {
    assert_eq!(TcpOptions::parse(&[3, 3, 15]).wscale, Some(MAX_WSCALE));
    assert_eq!(TcpOptions::parse(&[3, 3, 255]).wscale, Some(MAX_WSCALE));
    assert_eq!(TcpOptions::parse(&[3, 3, 14]).wscale, Some(14));
    assert_eq!(TcpOptions::parse(&[2, 4, 0, 0]).mss, Some(0));
    assert_eq!(TcpOptions::parse(&[3, 3, 2, 3, 3, 5]).wscale, Some(5), "the last counts");
    assert_eq!(TcpOptions::parse(&[]), TcpOptions::default());
    // More blocks than a header has room for, in a field that no header could carry.
    let mut long = vec![5, 2 + 8 * 6];
    long.extend([9; 48]);
    assert_eq!(TcpOptions::parse(&long).sack_blocks().len(), 4);
}

#[test]
fn a_count_that_outside_code_set_too_high_is_harmless() {
    let options = TcpOptions { sack_count: 200, ..TcpOptions::default() };
    assert_eq!(options.sack_blocks().len(), 4);
    assert_eq!(emitted(&options).len(), 36);
}

#[test]
#[should_panic(expected = "44 bytes of TCP options")]
fn the_writer_refuses_more_than_fits() {
    let mut writer = TcpOptionsWriter::new();
    for _ in 0..11 {
        writer.mss(536);
    }
}

fn any_options() -> impl Strategy<Value = TcpOptions> {
    (
        any::<Option<u16>>(),
        prop::option::of(0..=MAX_WSCALE),
        any::<Option<(u32, u32)>>(),
        any::<bool>(),
        prop::collection::vec(any::<(u32, u32)>(), 0..=4),
    )
        .prop_map(|(mss, wscale, timestamps, sack_permitted, blocks)| TcpOptions {
            mss,
            wscale,
            timestamps,
            sack_permitted,
            ..sack(&blocks)
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(options in any_options()) {
        let bytes = emitted(&options);
        prop_assert!(bytes.len() <= MAX_OPTIONS_LEN && bytes.len().is_multiple_of(4));
        let parsed = TcpOptions::parse(&bytes);
        let fitting = parsed.sack_blocks().len();
        prop_assert_eq!(parsed.sack_blocks(), &options.sack_blocks()[..fitting]);
        prop_assert!(fitting == options.sack_blocks().len() || bytes.len() + 8 > MAX_OPTIONS_LEN);
        let (sack, sack_count) = (options.sack, options.sack_count);
        prop_assert_eq!(TcpOptions { sack, sack_count, ..parsed }, options);
    }

    #[test]
    fn any_bytes_parse(field in prop::collection::vec(any::<u8>(), 0..100)) {
        let options = TcpOptions::parse(&field);
        prop_assert!(options.wscale.is_none_or(|shift| shift <= MAX_WSCALE));
        prop_assert!(options.sack_count <= 4);
        // What was understood can be said again and means the same.
        let again = TcpOptions::parse(&emitted(&options));
        prop_assert_eq!((again.mss, again.wscale, again.timestamps), (options.mss, options.wscale, options.timestamps));
    }

    /// Bytes near the known kinds reach deeper than uniform ones.
    #[test]
    fn any_likely_bytes_parse(field in prop::collection::vec(prop_oneof![0..12u8, any::<u8>()], 0..=40)) {
        let options = TcpOptions::parse(&field);
        prop_assert!(options.emitted_len() <= MAX_OPTIONS_LEN);
    }
}
