use rxpath_mem::RxErrors;

use super::*;

fn parcel(n: u8) -> Parcel {
    Parcel {
        bytes: vec![n; 60],
        csum: IpSummed::Unnecessary,
        gso_size: 0,
        gso_segs: 0,
        transport: 34,
        errors: RxErrors::NONE,
        hash: 0,
    }
}

fn line(faults: Faults, seed: u64) -> (Line, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    (Line::new(faults, Rng::new(seed), counts.clone()), counts)
}

/// What comes out of frames 0, 1, 2, … offered a microsecond apart: arrival and first byte, unchanged or not.
fn run(faults: &Faults, seed: u64, frames: u64) -> (Vec<(Time, Vec<u8>)>, super::super::FaultCounts) {
    let (mut line, counts) = line(faults.clone(), seed);
    let mut out = Vec::new();
    for n in 0..frames {
        let now = Time(n * 1_000);
        line.offer(now, parcel(n as u8));
        while let Some(parcel) = line.take(now) {
            out.push((now, parcel.bytes));
        }
    }
    while let Some(at) = line.next_arrival() {
        out.push((at, line.take(at).expect("due").bytes));
    }
    (out, counts.snapshot())
}

#[test]
fn without_faults_every_frame_passes_at_once_and_in_order() {
    let (out, counts) = run(&Faults::NONE, 1, 500);
    let expected: Vec<_> = (0..500u64).map(|n| (Time(n * 1_000), vec![n as u8; 60])).collect();
    assert_eq!(out, expected);
    assert_eq!(counts, super::super::FaultCounts { offered: 500, ..Default::default() });
}

#[test]
fn the_same_seed_gives_the_same_faults_and_another_seed_gives_others() {
    let faults =
        Faults { delay: Duration::ZERO..=Duration::from_millis(2), rate: Some(1_000_000_000), ..Faults::ROUGH };
    let (one, counts) = run(&faults, 7, 3_000);
    assert_eq!((&one, counts), (&run(&faults, 7, 3_000).0, run(&faults, 7, 3_000).1));
    assert_ne!(one, run(&faults, 8, 3_000).0);
    assert_eq!(counts.offered - counts.lost + counts.duplicated - counts.overflowed, one.len() as u64);
}

#[test]
fn each_fault_comes_about_as_often_as_was_asked_for() {
    let faults = Faults { loss: 0.1, duplicate: 0.05, reorder: 0.2, corrupt: 0.02, ..Faults::NONE };
    let (_, counts) = run(&faults, 3, 20_000);
    let near = |n: u64, share: f64| (n as f64 - 20_000.0 * share).abs() < 20_000.0 * share * 0.2;
    assert!(near(counts.lost, 0.1), "{counts:?}");
    assert!(near(counts.duplicated, 0.9 * 0.05), "{counts:?}");
    assert!(near(counts.reordered, 0.9 * 0.2), "{counts:?}");
    assert!(near(counts.corrupted, 0.9 * 0.02), "{counts:?}");
}

#[test]
fn only_reordered_frames_change_places() {
    let jitter = Faults { delay: Duration::ZERO..=Duration::from_millis(5), ..Faults::NONE };
    let order = |out: Vec<(Time, Vec<u8>)>| out.into_iter().map(|(_, bytes)| bytes[0]).collect::<Vec<_>>();
    assert!(order(run(&jitter, 5, 200).0).is_sorted(), "delay alone keeps the order");
    assert!(!order(run(&Faults { reorder: 0.1, ..jitter }, 5, 200).0).is_sorted());
}

#[test]
fn a_rate_spaces_frames_and_a_full_queue_drops() {
    // 60 bytes at 480 bit/s: one frame a second.
    let (mut line, counts) = line(Faults { rate: Some(480), ..Faults::NONE }, 1);
    for n in 0..2_000u32 {
        line.offer(Time::ZERO, parcel(n as u8));
    }
    assert_eq!(line.next_arrival(), Some(Time::from_secs(1)));
    assert_eq!(line.take(Time(999_999_999)), None);
    let mut arrived = 0;
    while let Some(at) = line.next_arrival() {
        arrived += 1;
        assert_eq!(at, Time::from_secs(arrived));
        assert!(line.take(at).is_some());
    }
    assert_eq!(arrived, QUEUE_MAX as u64);
    assert_eq!(counts.snapshot().overflowed, 2_000 - QUEUE_MAX as u64);
}

#[test]
fn corruption_flips_bits_anywhere_and_voids_what_the_device_vouched_for() {
    let (mut line, _) = line(Faults { corrupt: 1.0, ..Faults::NONE }, 9);
    let mut seen = [false; 60];
    for _ in 0..2_000 {
        let original = Parcel { gso_size: 10, gso_segs: 2, ..parcel(0) };
        line.offer(Time::ZERO, original);
        let parcel = line.take(Time::ZERO).expect("passes at once");
        let flipped: u32 = parcel.bytes.iter().map(|byte| byte.count_ones()).sum();
        assert!((1..=3).contains(&flipped), "{flipped} bits flipped");
        assert_eq!(parcel.bytes.iter().filter(|&&byte| byte != 0).count(), 1, "all in one byte: no sum misses it");
        for (seen, byte) in seen.iter_mut().zip(&parcel.bytes) {
            *seen |= *byte != 0;
        }
        assert_eq!((parcel.csum, parcel.gso_size, parcel.gso_segs), (IpSummed::None, 0, 0));
    }
    assert!(seen.iter().all(|&seen| seen), "every byte was hit at some time");
}

#[test]
fn what_has_no_checksum_is_not_corrupted() {
    let (mut line, counts) = line(Faults { corrupt: 1.0, ..Faults::NONE }, 9);
    let mut arp = parcel(0);
    arp.bytes[12..14].copy_from_slice(&[0x08, 0x06]);
    line.offer(Time::ZERO, arp.clone());
    assert_eq!(line.take(Time::ZERO).map(|parcel| parcel.bytes), Some(arp.bytes));
    assert_eq!(counts.snapshot().corrupted, 0);
}

#[test]
fn an_empty_frame_survives_corruption() {
    let (mut line, _) = line(Faults { corrupt: 1.0, duplicate: 1.0, ..Faults::NONE }, 9);
    line.offer(Time::ZERO, Parcel { bytes: Vec::new(), csum: IpSummed::Partial, ..parcel(0) });
    assert_eq!(line.take(Time::ZERO).map(|parcel| parcel.bytes.len()), Some(0));
}
