use super::*;
use crate::testing::{self, interface};

/// Milliseconds that the tests stamp with.
const STAMP: [u8; 4] = [0x80, 0, 0x12, 0x34];

/// A header with these options, from 10.0.0.2 to 10.0.0.1.
fn header(options: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0, "whole words");
    let mut header = vec![0; 20];
    header[0] = 0x45 + (options.len() / 4) as u8;
    header[12..16].copy_from_slice(&[10, 0, 0, 2]);
    header[16..20].copy_from_slice(&[10, 0, 0, 1]);
    header.extend_from_slice(options);
    header
}

fn with_own<R>(run: impl FnOnce(&Own) -> R) -> R {
    let net = testing::net(vec![interface()], &[]);
    run(&Own::new(&net, Ipv4Addr::new(10, 0, 0, 1), Time::from_millis(0x1234)))
}

fn received(options: &[u8]) -> (Result<(), Problem>, Vec<u8>) {
    let mut header = header(options);
    let result = with_own(|own| receive(&mut header, own));
    (result, header.split_off(20))
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Options, and what Linux 6.18 sends back in an echo reply where our stamp is its.
#[test]
fn options_come_back_as_linux_sends_them_back() {
    let us = [10, 0, 0, 1];
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("rr with two places", bytes(&[&[7, 11, 4], &[0; 9]]), bytes(&[&[7, 11, 12], &us, &us, &[0]])),
        ("rr that is full", bytes(&[&[7, 11, 12], &[0; 9]]), bytes(&[&[7, 11, 12], &[0; 9]])),
        ("rr with three places", bytes(&[&[7, 15, 4], &[0; 13]]), bytes(&[&[7, 15, 12], &us, &us, &[0; 5]])),
        ("rr behind no-operations", bytes(&[&[1, 1, 7, 11, 4], &[0; 11]]), bytes(&[&[7, 11, 12], &us, &us, &[0]])),
        ("ts with one place", vec![68, 8, 5, 0, 0, 0, 0, 0], bytes(&[&[68, 8, 9, 0], &STAMP])),
        ("ts with two places", bytes(&[&[68, 12, 5, 0], &[0; 8]]), bytes(&[&[68, 12, 13, 0], &STAMP, &STAMP])),
        ("ts without a place", vec![68, 4, 5, 0], vec![68, 4, 5, 0x10]),
        ("ts that is full", vec![68, 8, 13, 0, 0, 0, 0, 0], vec![68, 8, 13, 0x10, 0, 0, 0, 0]),
        ("ts with 15 left out", vec![68, 8, 5, 0xf0, 0, 0, 0, 0], bytes(&[&[68, 8, 9, 0xf0], &STAMP])),
        ("ts of no meaning", vec![68, 8, 5, 2, 0, 0, 0, 0], vec![68, 8, 5, 2, 0, 0, 0, 0]),
        ("ts and address", bytes(&[&[68, 12, 5, 1], &[0; 8]]), bytes(&[&[68, 12, 13, 1], &us, &STAMP])),
        (
            "two times ts and address",
            bytes(&[&[68, 20, 5, 1], &[0; 16]]),
            bytes(&[&[68, 20, 21, 1], &us, &STAMP, &us, &STAMP]),
        ),
        (
            "ts of ours twice",
            bytes(&[&[68, 20, 5, 3], &us, &[0; 4], &us, &[0; 4]]),
            bytes(&[&[68, 20, 21, 3], &us, &STAMP, &us, &STAMP]),
        ),
        (
            "ts of another",
            bytes(&[&[68, 12, 5, 3], &[10, 0, 0, 0x63], &[0; 4]]),
            bytes(&[&[68, 12, 5, 3], &[10, 0, 0, 0x63], &[0; 4]]),
        ),
        (
            "rr and ts",
            bytes(&[&[7, 7, 4, 0, 0, 0, 0], &[68, 8, 5, 0, 0, 0, 0, 0], &[1]]),
            bytes(&[&[7, 7, 8], &us, &[68, 8, 9, 0], &STAMP, &[0]]),
        ),
        ("nothing that comes back", vec![1, 148, 4, 0, 0, 0x55, 2, 0], vec![]),
        ("only the end", vec![0, 7, 0, 0], vec![]),
    ];
    for (name, options, expected) in cases {
        let mut header = header(&options);
        let echoed = with_own(|own| {
            assert_eq!(receive(&mut header, own), Ok(()), "{name}");
            echo(&header, own, None).expect("there is an answer")
        });
        assert_eq!(echoed.as_slice(), expected, "{name}");
    }
}

/// Options, and where in the packet Linux 6.18 says the fault is.
#[test]
fn faults_are_found_where_linux_finds_them() {
    let cases: &[(&str, &[u8], u8)] = &[
        ("a length of 0", &[7, 0, 0, 0], 20),
        ("a length of 1", &[0x55, 1, 0, 0], 20),
        ("a length beyond the header", &[1, 7, 11, 4], 21),
        ("no room for a length", &[1, 1, 1, 7], 23),
        ("rr with a pointer into itself", &[7, 11, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0], 22),
        ("rr without a pointer", &[7, 2, 0, 0], 21),
        ("rr with half a place", &[7, 11, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0], 22),
        ("rr twice", &[7, 7, 4, 0, 0, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0, 0], 27),
        ("ts overflown 16 times", &[68, 8, 9, 0xf0, 0, 0, 0, 0], 23),
        ("ts with a pointer into itself", &[68, 8, 4, 0, 0, 0, 0, 0], 22),
        ("ts with a crooked pointer", &[68, 8, 6, 0, 0, 0, 0, 0], 22),
        ("ts with half a place", &[68, 6, 5, 0, 0, 0, 1, 1], 22),
        ("ts without room for an address", &[68, 8, 5, 1, 0, 0, 0, 0], 22),
        ("ts without room for another's", &[68, 8, 5, 3, 0, 0, 0, 0], 22),
        ("ts without flags", &[68, 3, 5, 0], 21),
        ("ts twice", &[68, 8, 5, 0, 0, 0, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0], 28),
        ("lsrr without a pointer", &[131, 2, 0, 0], 21),
        ("lsrr with a pointer into itself", &[131, 7, 3, 10, 0, 0, 3, 0], 22),
        ("lsrr twice", &[131, 7, 4, 10, 0, 0, 3, 131, 7, 4, 10, 0, 0, 3, 0, 0], 27),
        ("ssrr behind lsrr", &[131, 7, 4, 10, 0, 0, 3, 137, 7, 4, 10, 0, 0, 3, 0, 0], 27),
        ("lsrr twice, the second crooked", &[131, 7, 4, 10, 0, 0, 3, 131, 7, 1, 10, 0, 0, 3, 0, 0], 29),
        ("what follows an lsrr", &[131, 6, 4, 10, 0, 0, 3, 0], 26),
        ("a short router alert", &[148, 3, 0, 0], 21),
        ("a security label", &[134, 6, 0, 0, 0, 1, 0, 0], 21),
    ];
    for &(name, options, pointer) in cases {
        assert_eq!(received(options).0, Err(Problem::Malformed { pointer }), "{name}");
    }
}

#[test]
fn a_source_route_is_recognised_even_when_it_is_used_up() {
    for options in [[131, 3, 4, 0, 0, 0, 0, 0], [137, 7, 8, 10, 0, 0, 3, 0], [131, 7, 4, 10, 0, 0, 3, 0]] {
        assert_eq!(received(&options).0, Err(Problem::SourceRoute));
    }
    // A fault behind it counts more.
    assert_eq!(received(&[131, 7, 4, 10, 0, 0, 3, 148, 3, 0, 0, 0]).0, Err(Problem::Malformed { pointer: 28 }));
}

#[test]
fn what_is_malformed_does_not_come_back() {
    with_own(|own| {
        for options in
            [&[7, 11, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[7, 0, 0, 0], &[68, 8, 4, 0, 0, 0, 0, 0], &[68, 3, 5, 0]]
        {
            assert!(
                echo(&header(options), own, None).is_some_and(|echoed| echoed.as_slice().is_empty()),
                "{options:?}"
            );
        }
        assert!(echo(&[], own, None).is_some_and(|echoed| echoed.as_slice().is_empty()));
        assert!(
            echo(&[0x4f; 24], own, None).is_some_and(|echoed| echoed.as_slice().is_empty()),
            "a header longer than its bytes"
        );
    });
}

/// What an answer to these options carries; `offence` as in [`echo`].
fn echoed(options: &[u8], offence: Option<u8>) -> Option<Vec<u8>> {
    with_own(|own| echo(&header(options), own, offence).map(|echoed| echoed.as_slice().to_vec()))
}

#[test]
fn what_stands_before_a_fault_comes_back_and_the_faulty_does_not() {
    let recorded = [7, 7, 8, 10, 0, 0, 0x63];
    let options = bytes(&[&recorded, &[7, 7, 4, 0, 0, 0, 0], &[0, 0]]);
    assert_eq!(echoed(&options, Some(27)), Some(bytes(&[&recorded, &[0]])));
    assert_eq!(echoed(&[7, 7, 6, 10, 0, 0, 0x63, 0], Some(22)), Some(vec![]));
    // A label that nobody understands goes back to who wrote it.
    assert_eq!(echoed(&[134, 6, 0, 0, 0, 1, 0, 0], Some(21)), Some(vec![134, 6, 0, 0, 0, 1, 0, 0]));
}

#[test]
fn an_answer_goes_back_along_the_route_of_its_sender() {
    let route = |options: &[u8]| {
        let mut header = header(options);
        header[12..16].copy_from_slice(&[10, 0, 0, 2]);
        route_back(&header, Some(60)).map(|back| (back.first.octets(), back.bytes[..back.len].to_vec()))
    };
    let (a, b) = ([10, 0, 0, 7], [10, 0, 0, 8]);
    let passed = bytes(&[&[131, 15, 12], &a, &b, &[9, 9, 9, 9], &[0]]);
    assert_eq!(route(&passed), Some((b, bytes(&[&[131, 11, 4], &a, &[10, 0, 0, 2]]))));
    assert_eq!(route(&bytes(&[&[137, 7, 8], &a, &[0]])), Some((a, bytes(&[&[137, 7, 4], &[10, 0, 0, 2]]))));
    let own = bytes(&[&[131, 11, 12], &[10, 0, 0, 2], &b, &[0]]);
    assert_eq!(route(&own), Some((b, vec![131, 7, 4, 10, 0, 0, 2])), "the sender is not visited twice");
    assert_eq!(route(&bytes(&[&[131, 7, 4], &a, &[0]])), None, "nobody was passed");
    assert_eq!(route(&[7, 7, 8, 1, 2, 3, 4, 0]), None);
}

#[test]
fn options_with_half_a_place_left_have_no_answer() {
    for options in [[7, 9, 8, 1, 2, 3, 4, 0, 0, 0, 0, 0], [68, 10, 9, 0, 1, 2, 3, 4, 0, 0, 0, 0]] {
        assert_eq!(echoed(&options, None), None, "{options:?}");
    }
    // Of certain hosts' times there is one without.
    let named = [68, 12, 9, 3, 1, 2, 3, 4, 0, 0, 0, 0];
    assert_eq!(echoed(&named, None), Some(named.to_vec()));
}

#[test]
fn nothing_stays_behind_the_end_of_the_list() {
    let mut header = header(&[1, 0, 7, 255]);
    assert_eq!(with_own(|own| receive(&mut header, own)), Ok(()));
    assert_eq!(header[20..], [1, 0, 0, 0]);
}

#[test]
fn named_hosts_that_have_no_room_are_not_counted() {
    let mut full = header(&[68, 12, 13, 0xf3, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(with_own(|own| receive(&mut full, own)), Ok(()));
    assert_eq!(full[23], 0xf3);
}

#[test]
fn random_options_never_leave_their_bounds() {
    let mut rng = crate::cx::Rng::new(0x0b7);
    with_own(|own| {
        for _ in 0..50_000 {
            let len = 4 * (1 + rng.below(10) as usize);
            let mut options: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
            let kind = [7, 68, 131, 137, 148, 1][rng.below(6) as usize];
            options[0] = kind;
            options[1] = rng.below(len as u32 + 2) as u8;
            if len > 4 {
                options[2] = rng.below(len as u32 + 8) as u8;
            }
            let mut header = header(&options);
            let before = header[..20].to_vec();
            let _ = receive(&mut header, own);
            assert_eq!(&header[..20], before, "the fixed part is not touched");
            assert_eq!(header.len(), 20 + len);
            assert!(echo(&header, own, None).is_none_or(|echoed| echoed.as_slice().len() <= MAX_OPTIONS_LEN));
        }
    });
}
