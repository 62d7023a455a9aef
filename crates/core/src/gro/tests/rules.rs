//! The rules, one by one.

use rxpath_mem::{IpSummed, PagePool, PoolConfig};
use rxpath_trace::{EventKind, GroPass, Holder};

use super::frames::{ACK, CWR, DF, ECE, FIN, Flow, Frame, Kind, PSH, RST, SYN, Tcp, URG, Writer, checksum};
use super::{Bench, Mode, Step};

/// A flow of 100-byte payloads without options.
const PLAIN: Flow = Flow { mss: 100, options: 0, counts_ids: true };

/// Runs frames of one flow, of these kinds.
fn run_flow(flow: Flow, kinds: &[Kind]) -> Bench {
    let mut writer = Writer::new(&[flow], false);
    let steps: Vec<Step> = kinds.iter().map(|kind| offer(writer.write(0, *kind))).collect();
    let bench = Bench::run(Mode::Receive, &steps);
    bench.settle();
    bench
}

fn offer(frame: Frame) -> Step {
    Step::Frame { frame, more: true }
}

/// What came out as (first frame, segments), a packet that nothing merged into counting as one segment.
fn shape(bench: &Bench) -> Vec<(usize, u16)> {
    bench.delivered.iter().map(|packet| (packet.head, packet.gso_segs.max(1))).collect()
}

#[test]
fn segments_in_order_become_one_packet_with_the_first_identification() {
    let bench = run_flow(PLAIN, &[Kind::Plain; 5]);
    assert_eq!(shape(&bench), [(0, 5)]);
    let packet = &bench.delivered[0];
    let first = Tcp::flow(0).frame();
    assert_eq!(packet.bytes.len(), 54 + 500);
    assert_eq!((packet.gso_size, packet.gso_segs, packet.verified), (100, 5, true));
    assert_eq!(packet.bytes[16..18], 540u16.to_be_bytes(), "total length");
    assert_eq!(packet.bytes[18..20], first.bytes[18..20], "identification of the first");
    assert_eq!(checksum(&packet.bytes[14..34]), 0, "header checksum");
    assert_eq!(packet.bytes[34..50], first.bytes[34..50], "the TCP header of the first");
    let mut stream = Tcp::flow(0);
    stream.payload = 500;
    assert_eq!(packet.bytes[54..], stream.frame().bytes[54..], "the payloads in order");
}

#[test]
fn a_packet_that_nothing_merged_into_goes_on_as_it_came() {
    let bench = run_flow(PLAIN, &[Kind::Plain]);
    assert_eq!(bench.delivered[0].bytes, Tcp::flow(0).frame().bytes);
    assert_eq!((bench.delivered[0].gso_size, bench.delivered[0].gso_segs), (0, 0));
}

#[test]
fn any_other_change_of_the_headers_starts_a_new_packet() {
    for kind in [Kind::Window, Kind::Ack, Kind::Tos, Kind::Ttl, Kind::DontFragment, Kind::Gap, Kind::Repeat] {
        let bench = run_flow(PLAIN, &[Kind::Plain, Kind::Plain, kind, Kind::Plain]);
        assert_eq!(shape(&bench), [(0, 2), (2, 2)], "{kind:?}");
    }
    for flags in [ECE, CWR, ACK] {
        let bench = run_flow(PLAIN, &[Kind::Plain, Kind::Plain, Kind::Flags(flags), Kind::Plain]);
        assert_eq!(shape(&bench), [(0, 2), (2, 1), (3, 1)], "flags {flags:#x}");
    }
    let stamped = Flow { options: 12, ..PLAIN };
    for kind in [Kind::Stamp, Kind::OtherOptions] {
        let bench = run_flow(stamped, &[Kind::Plain, Kind::Plain, kind]);
        assert_eq!(shape(&bench), [(0, 2), (2, 1)], "{kind:?}");
    }
}

#[test]
fn a_flag_that_all_segments_carry_does_not_part_them() {
    for flag in [ECE, CWR] {
        let bench = run_flow(PLAIN, &[Kind::Flags(flag), Kind::Flags(flag)]);
        assert_eq!(shape(&bench), [(0, 2)]);
    }
}

#[test]
fn push_and_fin_merge_and_then_flush() {
    for flags in [PSH, FIN, PSH | FIN] {
        let bench = run_flow(PLAIN, &[Kind::Plain, Kind::Plain, Kind::Flags(flags), Kind::Plain]);
        assert_eq!(shape(&bench), [(0, 3), (3, 1)], "flags {flags:#x}");
        assert_eq!(bench.delivered[0].bytes[47], ACK | flags, "the head shows them");
    }
}

#[test]
fn a_head_in_haste_is_not_held() {
    for flags in [PSH, FIN, SYN, RST, URG] {
        let bench = run_flow(PLAIN, &[Kind::Flags(flags), Kind::Plain, Kind::Plain]);
        assert_eq!(shape(&bench), [(0, 1), (1, 2)], "flags {flags:#x}");
    }
}

#[test]
fn an_acknowledgement_without_data_passes_alone_behind_what_it_flushes() {
    let bench = run_flow(PLAIN, &[Kind::Empty, Kind::Plain, Kind::Plain, Kind::Empty, Kind::Empty]);
    assert_eq!(shape(&bench), [(0, 1), (1, 2), (3, 1), (4, 1)]);
}

#[test]
fn a_shorter_segment_is_the_last_of_its_packet() {
    let bench = run_flow(PLAIN, &[Kind::Plain, Kind::Plain, Kind::Shorter, Kind::Plain]);
    assert_eq!(shape(&bench), [(0, 3), (3, 1)]);
}

#[test]
fn a_longer_segment_starts_a_new_packet() {
    let bench = run_flow(PLAIN, &[Kind::Plain, Kind::Plain, Kind::Longer, Kind::Plain]);
    assert_eq!(shape(&bench), [(0, 2), (2, 2)], "and the next, shorter than its head, ends that one");
}

#[test]
fn strays_pass_ahead_and_flush_nothing() {
    let strays = [
        Kind::BadTcpChecksum,
        Kind::BadIpChecksum,
        Kind::Fragment,
        Kind::IpOptions,
        Kind::ShortHeader,
        Kind::Udp,
        Kind::Arp,
    ];
    for kind in strays {
        let mut writer = Writer::new(&[PLAIN], false);
        let mut stray = Writer::new(&[PLAIN], false);
        stray.write(0, Kind::Plain);
        let frames = [writer.write(0, Kind::Plain), stray.write(0, kind), writer.write(0, Kind::Plain)];
        let bench = Bench::run(Mode::Receive, &frames.clone().map(offer));
        bench.settle();
        assert_eq!(shape(&bench), [(1, 1), (0, 2)], "{kind:?}");
        assert_eq!(bench.delivered[0].bytes, frames[1].bytes);
        assert!(!bench.delivered[0].verified, "{kind:?}");
    }
}

#[test]
fn trailing_bytes_and_the_reserved_bit_flush_the_flow() {
    for kind in [Kind::Padded, Kind::PaddedBehind, Kind::Reserved, Kind::SuperFrame, Kind::SmallSuperFrame] {
        let bench = run_flow(PLAIN, &[Kind::Plain, Kind::Plain, kind, Kind::Plain, Kind::Plain]);
        let shape: Vec<usize> = bench.delivered.iter().map(|packet| packet.head).collect();
        assert_eq!(shape, [0, 2, 3], "{kind:?}");
        assert_eq!(bench.delivered[2].gso_segs, 2);
    }
}

#[test]
fn the_second_segment_decides_how_identifications_go_on() {
    let fixed = Flow { counts_ids: false, ..PLAIN };
    assert_eq!(shape(&run_flow(fixed, &[Kind::Plain; 4])), [(0, 4)], "all the same");
    assert_eq!(shape(&run_flow(PLAIN, &[Kind::Plain; 12])), [(0, 12)], "counting, over the wrap");
    let bench = run_flow(PLAIN, &[Kind::Plain, Kind::Plain, Kind::SameId, Kind::Plain]);
    assert_eq!(shape(&bench), [(0, 2), (2, 2)], "counting, then the same");
    let bench = run_flow(fixed, &[Kind::Plain, Kind::Plain, Kind::IdJump, Kind::Plain]);
    assert_eq!(shape(&bench), [(0, 2), (2, 2)], "the same, then counting");
    let bench = run_flow(PLAIN, &[Kind::Plain, Kind::IdJump, Kind::Plain]);
    assert_eq!(shape(&bench), [(0, 1), (1, 2)], "neither");
}

#[test]
fn fixed_identifications_merge_without_dont_fragment() {
    let mut tcp = Tcp { fragment: 0, ..Tcp::flow(0) };
    let first = tcp.frame();
    tcp.seq = tcp.seq.wrapping_add(100);
    let bench = Bench::run(Mode::Receive, &[offer(first), offer(tcp.frame())]);
    assert_eq!(shape(&bench), [(0, 2)]);
    assert_eq!(tcp.fragment & DF, 0);
}

/// In ones' complement 0xffff and 0 are one number: where an identification wraps the checksum stays, and a checksum
/// leaves 0xffff out.
#[test]
fn a_checksum_that_counts_past_a_wrap_is_wrong() {
    // The second start makes the checksum wrap, the first the identification.
    let wraps = |id: u16| {
        let frames: Vec<Frame> = (0..8u16)
            .map(|n| Tcp { id: id.wrapping_add(n), seq: 1_000 + 100 * u32::from(n), ..Tcp::flow(0) }.frame())
            .collect();
        let at = |frame: &Frame| u16::from_be_bytes([frame.bytes[24], frame.bytes[25]]);
        let wrap = (1..8).find(|n| at(&frames[*n]) != at(&frames[*n - 1]).wrapping_sub(1)).expect("one wraps");
        (frames, wrap)
    };
    let start = Tcp { id: 0, ..Tcp::flow(0) }.frame();
    let checksum_of_0 = u16::from_be_bytes([start.bytes[24], start.bytes[25]]);
    for id in [0xfffc, checksum_of_0.wrapping_sub(3)] {
        for mode in [Mode::Receive, Mode::Streak] {
            let (mut frames, wrap) = wraps(id);
            let bench = Bench::run(mode, &frames.clone().into_iter().map(offer).collect::<Vec<_>>());
            assert_eq!(shape(&bench), [(0, 8)], "identification {id}, {mode:?}");
            bench.settle();
            // The one that wraps, with what a count would make of its checksum.
            let counted = u16::from_be_bytes([frames[wrap - 1].bytes[24], frames[wrap - 1].bytes[25]]).wrapping_sub(1);
            frames[wrap].bytes[24..26].copy_from_slice(&counted.to_be_bytes());
            let bench = Bench::run(mode, &frames.into_iter().map(offer).collect::<Vec<_>>());
            assert!(shape(&bench).contains(&(wrap, 1)), "identification {id}, {mode:?}: {:?}", shape(&bench));
            bench.settle();
        }
    }
}

#[test]
fn what_tells_flows_apart() {
    for kind in [Kind::OtherMac, Kind::OtherHash, Kind::OtherDevice] {
        let mut stranger = Writer::new(&[PLAIN], false);
        let mut writer = Writer::new(&[PLAIN], false);
        let (first, second) = (writer.write(0, Kind::Plain), writer.write(0, Kind::Plain));
        stranger.write(0, Kind::Plain);
        let frames = [first, stranger.write(0, kind), second];
        let bench = Bench::run(Mode::Receive, &frames.map(offer));
        bench.settle();
        let mut shape = shape(&bench);
        shape.sort_unstable();
        assert_eq!(shape, [(0, 2), (1, 1)], "{kind:?}");
    }
}

#[test]
fn the_length_stays_below_65536() {
    let flow = Flow { mss: 1_400, ..PLAIN };
    let bench = run_flow(flow, &[Kind::Plain; 50]);
    assert_eq!(shape(&bench), [(0, 46), (46, 4)]);
    for (last, merged) in [(1_095, 47), (1_096, 46)] {
        let mut tcp = Tcp { payload: 1_400, ..Tcp::flow(0) };
        let mut steps = Vec::new();
        for i in 0..47 {
            tcp.payload = if i == 46 { last } else { 1_400 };
            steps.push(offer(tcp.frame()));
            tcp.advance();
        }
        let bench = Bench::run(Mode::Receive, &steps);
        assert_eq!(bench.delivered[0].gso_segs, merged, "a last segment of {last} bytes");
        bench.settle();
    }
}

#[test]
fn the_ninth_flow_of_a_bucket_pushes_out_the_oldest() {
    let mut writer = Writer::new(&[PLAIN; 9], true);
    let mut steps: Vec<Step> = (0..8).map(|flow| offer(writer.write(flow, Kind::Plain))).collect();
    steps.push(offer(writer.write(0, Kind::Plain)));
    let mut bench = Bench::new(Mode::Receive);
    steps.iter().for_each(|step| bench.step(step));
    assert_eq!(bench.gro.held(), 8);
    assert!(bench.delivered.is_empty());
    bench.step(&offer(writer.write(8, Kind::Plain)));
    assert_eq!(bench.gro.held(), 8);
    assert_eq!(shape(&bench), [(0, 2)], "the oldest, though it merged last");
    bench.step(&offer(writer.write(1, Kind::Plain)));
    bench.step(&Step::Flush(None));
    assert_eq!(shape(&bench)[1..], [(1, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (9, 1)]);
    bench.settle();
}

#[test]
fn a_flush_by_age_lets_go_of_the_older_ones() {
    let mut writer = Writer::new(&[PLAIN; 3], true);
    let steps = [
        offer(writer.write(0, Kind::Plain)),
        Step::Wait(10),
        offer(writer.write(1, Kind::Plain)),
        offer(writer.write(0, Kind::Plain)),
        Step::Wait(10),
        offer(writer.write(2, Kind::Plain)),
        Step::Flush(Some(10)),
    ];
    let mut bench = Bench::new(Mode::Receive);
    steps.iter().for_each(|step| bench.step(step));
    assert_eq!(shape(&bench), [(0, 2)], "its age is that of its first segment");
    bench.step(&Step::Flush(Some(0)));
    assert_eq!(shape(&bench), [(0, 2), (1, 1)], "not the one that came now");
    bench.step(&Step::Flush(None));
    bench.step(&Step::Flush(None));
    assert_eq!(bench.gro.held(), 0);
    bench.settle();
}

#[test]
fn the_last_frame_of_a_burst_merges_but_is_not_held() {
    let mut writer = Writer::new(&[PLAIN], false);
    let mut bench = Bench::new(Mode::Receive);
    bench.step(&Step::Frame { frame: writer.write(0, Kind::Plain), more: false });
    assert_eq!((bench.gro.held(), shape(&bench)), (0, vec![(0, 1)]));
    bench.step(&offer(writer.write(0, Kind::Plain)));
    bench.step(&Step::Frame { frame: writer.write(0, Kind::Plain), more: false });
    assert_eq!(bench.gro.held(), 1, "merged, and held as before");
    bench.step(&Step::Frame { frame: writer.write(0, Kind::Gap), more: false });
    assert_eq!(shape(&bench), [(0, 1), (1, 2), (3, 1)], "flushed, and not held in its place");
    bench.settle();
}

#[test]
fn flows_without_a_hash_of_the_device_merge_too() {
    let mut writers = [Tcp::flow(0), Tcp::flow(1)];
    writers.iter_mut().for_each(|tcp| tcp.hash = 0);
    let mut steps = Vec::new();
    for _ in 0..3 {
        for tcp in &mut writers {
            steps.push(offer(tcp.frame()));
            tcp.advance();
        }
    }
    let bench = Bench::run(Mode::Receive, &steps);
    let mut shape = shape(&bench);
    shape.sort_unstable();
    assert_eq!(shape, [(0, 3), (1, 3)]);
    bench.settle();
}

#[test]
fn a_device_with_offload_switched_off_is_not_held_and_overtakes_nothing() {
    let bench = run_flow(PLAIN, &[Kind::Plain, Kind::OffloadOff, Kind::OffloadOff]);
    assert_eq!(shape(&bench), [(0, 1), (1, 1), (2, 1)]);
    assert!(!bench.delivered[1].verified, "not looked at");
}

#[test]
fn a_checksum_that_the_device_verified_is_believed() {
    let bench = run_flow(PLAIN, &[Kind::VerifiedByDeviceThoughWrong, Kind::Verified, Kind::Plain]);
    assert_eq!(shape(&bench), [(0, 3)]);
}

#[test]
fn short_payloads_are_copied_and_long_ones_chained() {
    for (mss, pieces) in [(64, 1), (256, 1), (257, 4), (1_400, 4)] {
        let mut writer = Writer::new(&[Flow { mss, ..PLAIN }], false);
        let mut bench = Bench::new(Mode::Receive);
        for _ in 0..4 {
            bench.offer(&writer.write(0, Kind::Plain), true);
        }
        bench.gro.flush(&mut bench.cx, &mut bench.out, None);
        let packet = bench.out.front().expect("one packet");
        assert_eq!(packet.fragments().count(), pieces, "payloads of {mss} bytes");
        bench.collect();
        bench.settle();
    }
}

#[test]
fn slots_of_another_pool_do_not_merge_by_chaining() {
    let mut bench = Bench::new(Mode::Receive);
    // Slots that go back to another pool than the one in use are seen by their owner at its next refill.
    let mut other = PagePool::new(PoolConfig { slots: 64, reserve: 0, ..PoolConfig::default() }).expect("a pool");
    let mut tcp = Tcp { payload: 1_000, ..Tcp::flow(0) };
    bench.offer(&tcp.frame(), true);
    tcp.advance();
    std::mem::swap(&mut bench.cx.pool, &mut other);
    bench.offer(&tcp.frame(), true);
    tcp.advance();
    bench.offer(&tcp.frame(), true);
    bench.step(&Step::Flush(None));
    assert_eq!(shape(&bench), [(0, 1), (1, 2)], "flushed and begun anew");
    bench.settle();
    std::mem::swap(&mut bench.cx.pool, &mut other);
    assert_eq!(bench.cx.pool.outstanding(), 0);
}

#[test]
fn the_life_of_a_merged_packet_names_the_packet_that_it_went_into() {
    let mut bench = Bench::new(Mode::Receive);
    let mut writer = Writer::new(&[PLAIN], false);
    for _ in 0..4 {
        bench.step(&offer(writer.write(0, Kind::Plain)));
    }
    bench.step(&Step::Flush(None));
    let expected = [
        (1, EventKind::GroHeld, 100, 1, 0),
        (2, EventKind::GroMerged, 100, 2, 1),
        (3, EventKind::GroMerged, 100, 3, 1),
        (4, EventKind::GroMerged, 100, 4, 1),
        (1, EventKind::GroFlushed, 4, 400, 0),
    ];
    let (asides, stations): (Vec<_>, Vec<_>) = bench.events().into_iter().partition(|event| event.1.aside());
    assert_eq!(stations, expected);
    let told: Vec<(u64, EventKind)> = asides.iter().map(|event| (event.0, event.1)).collect();
    let flow = |n| [(n, EventKind::Addresses), (n, EventKind::Ports)];
    assert_eq!(told, [flow(2), flow(3), flow(4)].concat(), "what no other room will tell of them");
    bench.settle();
}

#[test]
fn a_packet_that_passes_says_why() {
    let whys = [
        (Kind::Empty, GroPass::NoPayload),
        (Kind::OffloadOff, GroPass::Off),
        (Kind::Udp, GroPass::Protocol),
        (Kind::Arp, GroPass::Protocol),
        (Kind::BadTcpChecksum, GroPass::Checksum),
        (Kind::BadIpChecksum, GroPass::Checksum),
        (Kind::Fragment, GroPass::IpHeader),
        (Kind::IpOptions, GroPass::IpHeader),
        (Kind::ShortHeader, GroPass::IpHeader),
        (Kind::Padded, GroPass::IpHeader),
        (Kind::Flags(PSH), GroPass::Flags),
    ];
    for (kind, why) in whys {
        let mut bench = run_flow(PLAIN, &[kind]);
        assert_eq!(bench.events(), [(1, EventKind::GroPassed, why as u32, 0, 0)], "{kind:?}");
    }
    let mut bench = Bench::new(Mode::Receive);
    bench.step(&Step::Frame { frame: Tcp::flow(0).frame(), more: false });
    assert_eq!(bench.events(), [(1, EventKind::GroPassed, GroPass::Final as u32, 0, 0)]);
}

#[test]
fn frames_cut_at_any_byte_pass() {
    let stamped = Flow { options: 12, ..PLAIN };
    for mode in [Mode::Receive, Mode::Streak] {
        for len in 14..166 {
            let mut writer = Writer::new(&[stamped], false);
            let kinds = [Kind::Plain, Kind::Plain, Kind::Plain, Kind::Cut(len)];
            let bench = Bench::run(mode, &kinds.map(|kind| offer(writer.write(0, kind))));
            bench.settle();
            // Long enough to say whose it is: it flushes its flow.
            let expected = if len < 66 { [(3, 1), (0, 3)] } else { [(0, 3), (3, 1)] };
            assert_eq!(shape(&bench), expected, "{len} bytes");
        }
    }
}

#[test]
fn flows_that_take_turns_merge_each_for_itself() {
    let flow = Flow { mss: 1_000, options: 12, counts_ids: true };
    let mut writer = Writer::new(&[flow; 3], false);
    let steps: Vec<Step> = (0..30).map(|i| offer(writer.write(i % 3, Kind::Plain))).collect();
    let bench = Bench::run(Mode::Streak, &steps);
    bench.settle();
    assert_eq!(shape(&bench), [(0, 10), (1, 10), (2, 10)]);
}

#[test]
fn a_streak_follows_the_flow_that_merged_last() {
    for (turns, streaks) in [(&[0, 1, 0, 0, 1, 1][..], 2), (&[0, 0, 1, 1, 0, 0, 0], 4)] {
        let mut writer = Writer::new(&[PLAIN; 2], false);
        let steps: Vec<Step> = turns.iter().map(|flow| offer(writer.write(*flow, Kind::Plain))).collect();
        let bench = Bench::run(Mode::Streak, &steps);
        bench.settle();
        assert_eq!(bench.streaks, streaks, "{turns:?}");
    }
}

#[test]
fn a_frame_of_several_descriptors_merges_as_any_other() {
    for kind in [Kind::Split, Kind::SplitTwice] {
        let flow = Flow { mss: 200, ..PLAIN };
        let bench = run_flow(flow, &[kind, Kind::Plain, kind, kind]);
        assert_eq!(shape(&bench), [(0, 4)], "{kind:?}");
        let whole = Tcp { payload: 800, ..Tcp::flow(0) };
        assert_eq!(bench.delivered[0].bytes[54..], whole.frame().bytes[54..], "the payloads in order");
    }
}

#[test]
fn held_packets_are_in_the_ledger() {
    let mut bench = Bench::new(Mode::Receive);
    bench.step(&offer(Tcp::flow(0).frame()));
    bench.step(&offer(Tcp::flow(1).frame()));
    let snapshot = bench.cx.ledger.snapshot();
    assert_eq!(snapshot.held_by(Holder::Gro), 2);
    snapshot.check().expect("balanced while held");
    bench.step(&Step::Flush(None));
    bench.settle();
}

/// Offers frames of one flow with the streak first.
fn streak_flow(flow: Flow, kinds: &[Kind]) -> Bench {
    let mut writer = Writer::new(&[flow], false);
    let steps: Vec<Step> = kinds.iter().map(|kind| offer(writer.write(0, *kind))).collect();
    let bench = Bench::run(Mode::Streak, &steps);
    bench.settle();
    bench
}

#[test]
fn a_streak_takes_all_from_the_second_segment_on_and_without_counting_from_the_third() {
    for options in [0, 12] {
        for mss in [1, 64, 255, 256] {
            for counts_ids in [true, false] {
                let bench = streak_flow(Flow { mss, options, counts_ids }, &[Kind::Plain; 6]);
                let taken = if counts_ids { 5 } else { 4 };
                assert_eq!((bench.streaks, shape(&bench)), (taken, vec![(0, 6)]), "{mss} bytes, {options} of options");
            }
        }
    }
}

#[test]
fn a_streak_goes_on_in_the_next_slot_when_one_is_full() {
    let bench = streak_flow(Flow { mss: 64, ..PLAIN }, &[Kind::Plain; 400]);
    assert_eq!(shape(&bench), [(0, 400)]);
    assert_eq!(bench.streaks, 398, "those that begin a slot, too, but not the one whose identification wraps");
    let mut whole = Tcp::flow(0);
    whole.payload = 400 * 64;
    assert_eq!(bench.delivered[0].bytes[54..], whole.frame().bytes[54..], "the payloads in order");
}

#[test]
fn a_streak_keeps_the_length_below_65536() {
    let bench = streak_flow(Flow { mss: 255, ..PLAIN }, &[Kind::Plain; 260]);
    assert_eq!(shape(&bench), [(0, 256), (256, 4)], "256 x 255 + 40 = 65,320");
}

#[test]
fn a_streak_leaves_all_else_to_the_full_path() {
    let long = Flow { mss: 257, ..PLAIN };
    assert_eq!(streak_flow(long, &[Kind::Plain; 6]).streaks, 5, "payloads that are chained, too");
    assert_eq!(streak_flow(Flow { options: 4, ..PLAIN }, &[Kind::Plain; 6]).streaks, 0, "other options");
    let refused = [
        Kind::Flags(PSH),
        Kind::Flags(ECE),
        Kind::Window,
        Kind::Ack,
        Kind::Tos,
        Kind::Ttl,
        Kind::DontFragment,
        Kind::Reserved,
        Kind::SameId,
        Kind::IdJump,
        Kind::Gap,
        Kind::Repeat,
        Kind::Shorter,
        Kind::Longer,
        Kind::Empty,
        Kind::Stamp,
        Kind::OtherMac,
        Kind::OtherHash,
        Kind::OtherDevice,
        Kind::Padded,
        Kind::PaddedBehind,
        Kind::Split,
        Kind::SuperFrame,
        Kind::SmallSuperFrame,
        Kind::BadTcpChecksum,
        Kind::BadIpChecksum,
        Kind::Fragment,
        Kind::IpOptions,
        Kind::Udp,
        Kind::Arp,
    ];
    for kind in refused {
        let flow = Flow { options: 12, ..PLAIN };
        let bench = streak_flow(flow, &[Kind::Plain, Kind::Plain, Kind::Plain, kind]);
        assert_eq!(bench.streaks, 2, "{kind:?}");
    }
}

#[test]
fn a_wrong_checksum_leaves_a_streak_as_it_was() {
    for kind in [Kind::BadTcpChecksum, Kind::BadIpChecksum] {
        let mut writer = Writer::new(&[Flow { mss: 64, ..PLAIN }], false);
        let mut bench = Bench::new(Mode::Streak);
        for _ in 0..3 {
            bench.step(&offer(writer.write(0, Kind::Plain)));
        }
        let mut bad = writer.write(0, Kind::Plain);
        let good = bad.clone();
        bad.bytes[if kind == Kind::BadIpChecksum { 25 } else { 60 }] ^= 0x10;
        bench.step(&offer(bad));
        assert_eq!(shape(&bench), [(3, 1)], "{kind:?}: passes ahead");
        bench.step(&offer(good));
        bench.step(&Step::Flush(None));
        assert_eq!((bench.streaks, shape(&bench)), (3, vec![(3, 1), (0, 4)]), "{kind:?}: the right one goes on");
        bench.settle();
    }
}

#[test]
fn a_streak_ends_with_its_packet() {
    let mut writer = Writer::new(&[Flow { mss: 64, ..PLAIN }], false);
    let mut bench = Bench::new(Mode::Streak);
    for _ in 0..3 {
        bench.step(&offer(writer.write(0, Kind::Plain)));
    }
    bench.step(&Step::Flush(None));
    assert_eq!(bench.streaks, 2);
    for _ in 0..3 {
        bench.step(&offer(writer.write(0, Kind::Plain)));
    }
    bench.step(&Step::Flush(None));
    assert_eq!((bench.streaks, shape(&bench)), (4, vec![(0, 3), (3, 3)]));
    bench.settle();
}

#[test]
fn the_device_may_vouch_for_a_streak() {
    let mut writer = Writer::new(&[Flow { mss: 64, ..PLAIN }], false);
    let mut bench = Bench::new(Mode::Streak);
    for _ in 0..2 {
        bench.step(&offer(writer.write(0, Kind::Plain)));
    }
    for csum in [IpSummed::Unnecessary, IpSummed::Partial] {
        let mut frame = writer.write(0, Kind::Plain);
        frame.csum = csum;
        frame.bytes[50] ^= 0xff;
        bench.step(&offer(frame));
    }
    bench.step(&Step::Flush(None));
    assert_eq!((bench.streaks, shape(&bench)), (3, vec![(0, 4)]));
    bench.settle();
}
