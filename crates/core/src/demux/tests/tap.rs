//! Taps: what they see, how much they keep, and how they lose it.

use std::sync::Arc;

use rxpath_mem::{IpSummed, PktType};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Holder, Ledger, lives};
use rxpath_wire::{EtherType, VlanTag};

use super::{OTHER, tagged};
use crate::demux::stats::DevStat;
use crate::demux::tap::{Captured, Glance, Tap, TapChecksum, TapConfig, TapFilter, TapKind, TapStats};
use crate::testing::frames::{self, ethernet};
use crate::testing::{Ended, MAC, PEER_MAC, Rig};
use crate::tx;

fn tap(rig: &mut Rig, config: TapConfig) -> Arc<Tap> {
    let ledger = Arc::new(Ledger::new());
    rig.ledgers.push(Arc::clone(&ledger));
    let tap = Tap::new(config, ledger);
    let added = Arc::clone(&tap);
    rig.reconfigure(|net| net.ptypes.add_tap(added));
    tap
}

/// The next packet with what was let in of it.
fn read(tap: &Tap) -> Option<(Captured, Vec<u8>)> {
    let mut buf = vec![0; 2_000];
    let read = tap.read(&mut buf)?;
    buf.truncate(read.copied);
    Some((read.captured, buf))
}

/// The bytes of all that waits.
fn all(tap: &Tap) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| read(tap)).map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_tap_sees_frames_that_fail_every_check_and_our_own() {
    let mut rig = Rig::new();
    let tap = tap(&mut rig, TapConfig::default());
    let bad = ethernet(OTHER, EtherType::IPV4, b"not IP");
    assert_eq!(rig.receive(&bad), Ended::Dropped(DropReason::Otherhost));
    let request = frames::arp_request();
    assert_eq!(rig.receive(&request), Ended::Consumed(Consumed::Answered));
    assert_eq!(rig.ledger().held_by(Holder::TapQueue), 3);

    let (first, bytes) = read(&tap).expect("a frame");
    assert_eq!((bytes.as_slice(), first.pkt_type, first.len), (bad.as_slice(), PktType::OtherHost, bad.len()));
    assert_eq!((first.at, first.ifindex, first.protocol), (rig.now, 1, EtherType::IPV4));
    assert_eq!((first.source, first.net, first.snaplen), (Some(PEER_MAC), 14, bad.len()));
    let (second, bytes) = read(&tap).expect("a frame");
    assert_eq!((bytes.as_slice(), second.pkt_type), (request.as_slice(), PktType::Broadcast));
    let (third, bytes) = read(&tap).expect("a frame");
    assert_eq!((third.pkt_type, third.source), (PktType::Outgoing, Some(MAC)));
    assert_eq!(vec![bytes], rig.sent(), "as the device gets it");
    assert!(read(&tap).is_none());
    assert_eq!(tap.statistics(), TapStats { packets: 3, drops: 0 });
    assert_eq!(tap.statistics(), TapStats::default(), "read, and cleared");
    assert_eq!((rig.ledger().clones(), rig.ledger().delivered(), tap.rmem()), (3, 3, 0));
}

/// The kernel's figures for the same frames, from packet sockets on a TAP of Linux 6.18: bytes, length, snap length, offset
/// of the network header, control information, EtherType of the tag, status.
#[test]
fn auxdata_is_the_kernels() {
    let mut rig = Rig::new();
    let raw = tap(&mut rig, TapConfig::default());
    let dgram = tap(&mut rig, TapConfig { number: 2, kind: TapKind::Dgram, ..TapConfig::default() });
    let packet = frames::icmp(8, 0, 1, b"abcdefgh").packet();
    assert_eq!(rig.receive(&tagged(&[0xa005], &packet)), Ended::Dropped(DropReason::Otherhost));
    let of = |seen: &Captured| {
        let VlanTag { tci, tpid } = seen.vlan.unwrap_or(VlanTag { tci: 0, tpid: 0 });
        (seen.len, seen.snaplen, seen.net, tci, tpid, seen.status())
    };
    let (seen, bytes) = read(&raw).expect("the frame");
    assert_eq!(bytes, ethernet(MAC, EtherType::IPV4, &packet), "the tag is not in it");
    assert_eq!(of(&seen), (50, 50, 14, 0xa005, 0x8100, 0x51));
    assert_eq!((seen.pkt_type, seen.protocol), (PktType::Host, EtherType::IPV4), "taps come before the VLAN's verdict");
    let (seen, bytes) = read(&dgram).expect("the packet");
    assert_eq!((bytes, of(&seen)), (packet.clone(), (36, 36, 0, 0xa005, 0x8100, 0x51)));
    assert_eq!(seen.source, Some(PEER_MAC));
    // A second tag is part of the frame, whose EtherType it is.
    assert_eq!(rig.receive(&tagged(&[6, 5], &packet)), Ended::Dropped(DropReason::UnhandledProto));
    let (seen, bytes) = read(&raw).expect("the frame");
    assert_eq!((seen.protocol, of(&seen)), (EtherType::VLAN, (54, 54, 14, 6, 0x8100, 0x51)));
    assert_eq!(bytes[12..18], [0x81, 0, 0, 5, 8, 0]);
    // No tag: nothing is said of one. Frames that a tag does not fit into nobody sees.
    assert_eq!(rig.receive(&ethernet(MAC, 5, &[0x42, 0x42, 3, 0, 0])), Ended::Consumed(Consumed::Tapped));
    let (seen, _) = read(&raw).expect("the frame");
    assert_eq!((seen.protocol, of(&seen)), (EtherType::LLC_802_2, (19, 19, 14, 0, 0, 1)));
    assert_eq!(rig.receive(&tagged(&[5], &packet)[..18]), Ended::Dropped(DropReason::NotSpecified));
    assert!(raw.is_empty());
    dgram.close();
}

#[test]
fn what_is_known_of_a_checksum_is_told() {
    let mut rig = Rig::new();
    let tap = tap(&mut rig, TapConfig::default());
    let frame = frames::tcp().frame();
    for (summed, merged, checksum, status) in [
        (IpSummed::None, 0, TapChecksum::Unknown, 0x1),
        (IpSummed::Unnecessary, 0, TapChecksum::Valid, 0x81),
        (IpSummed::Complete, 0, TapChecksum::Valid, 0x81),
        (IpSummed::Partial, 0, TapChecksum::NotReady, 0x9),
        (IpSummed::Unnecessary, 1_000, TapChecksum::NotReady, 0x109),
    ] {
        let mut skb = rig.frame(&frame);
        skb.ip_summed = summed;
        skb.gso_size = merged;
        super::super::tap::deliver(&mut rig, &skb, None);
        rig.drop_skb(skb, DropReason::NotSpecified);
        let (seen, _) = read(&tap).expect("a frame");
        assert_eq!((seen.checksum, seen.status()), (checksum, status), "{summed:?}");
    }
}

#[test]
fn a_tap_for_a_protocol_comes_behind_vlans_and_sees_nothing_outbound() {
    let mut rig = Rig::new();
    let ip = tap(&mut rig, TapConfig { protocol: EtherType::IPV4, ..TapConfig::default() });
    let vlan = tap(&mut rig, TapConfig { protocol: EtherType::VLAN, ..TapConfig::default() });
    let elsewhere = TapConfig { protocol: EtherType::IPV4, ifindex: Some(2), ..TapConfig::default() };
    let elsewhere = tap(&mut rig, elsewhere);
    let packet = frames::tcp().packet();
    assert_eq!(rig.receive(&tagged(&[5], &packet)), Ended::Dropped(DropReason::Otherhost));
    let (seen, bytes) = read(&ip).expect("the frame");
    assert_eq!((seen.pkt_type, seen.vlan), (PktType::OtherHost, None), "the tag is gone, and has decided");
    assert_eq!(bytes, ethernet(MAC, EtherType::IPV4, &packet));
    // Of two tags the inner one is the protocol, for which a packet socket is a handler.
    assert_eq!(rig.receive(&tagged(&[6, 5], &packet)), Ended::Consumed(Consumed::Tapped));
    assert_eq!((vlan.len(), rig.dev_stat(DevStat::RxDropped)), (1, 0));
    assert_eq!(rig.receive(&frames::arp_request()), Ended::Consumed(Consumed::Answered));
    assert_eq!(rig.sent().len(), 1);
    assert_eq!((ip.len(), elsewhere.len()), (0, 0), "neither ARP nor our answer");
    vlan.close();
}

#[test]
fn a_protocol_that_only_taps_want_is_not_dropped() {
    let mut rig = Rig::new();
    let unknown = ethernet(MAC, 0x88b5, &[0; 46]);
    assert_eq!(rig.receive(&unknown), Ended::Dropped(DropReason::UnhandledProto));
    // Whatever its filter says, as the last handler in the kernel gets the packet itself.
    let nothing = TapConfig { filter: Some(TapFilter::snap(0)), ..TapConfig::default() };
    let nothing = tap(&mut rig, nothing);
    assert_eq!(rig.receive(&unknown), Ended::Consumed(Consumed::Tapped));
    assert_eq!((rig.dev_stat(DevStat::RxDropped), nothing.statistics()), (1, TapStats::default()));
    // A tag is judged by those behind it.
    assert_eq!(rig.receive(&tagged(&[5, 5], &[0; 46])), Ended::Dropped(DropReason::UnhandledProto));
    assert_eq!(rig.dev_stat(DevStat::RxDropped), 2);
}

#[test]
fn a_filter_says_how_much_of_which_packets() {
    let mut rig = Rig::new();
    let seen = |glance: &Glance<'_>| {
        assert_eq!((glance.len, glance.kind, glance.ifindex), (glance.data.len(), TapKind::Raw, 1));
        if glance.pkt_type == PktType::Host && glance.data[12..14] == [8, 0] { 20 } else { 0 }
    };
    let some = tap(&mut rig, TapConfig { filter: Some(TapFilter::new(seen)), ..TapConfig::default() });
    let arp = TapFilter::expression("arp".parse().expect("a filter"), usize::MAX);
    let arp = tap(&mut rig, TapConfig { number: 2, filter: Some(arp), ..TapConfig::default() });
    let from_peer = TapFilter::expression("src 10.0.0.2 and tcp".parse().expect("a filter"), 30);
    let from_peer = TapConfig { number: 3, kind: TapKind::Dgram, filter: Some(from_peer), ..TapConfig::default() };
    let from_peer = tap(&mut rig, from_peer);
    let frame = frames::tcp().frame();
    assert_eq!(rig.receive(&frame), Ended::Tcp);
    assert_eq!(rig.receive(&frames::arp_request()), Ended::Consumed(Consumed::Answered));
    let (cut, bytes) = read(&some).expect("a part");
    assert_eq!((bytes.as_slice(), cut.len, cut.snaplen), (&frame[..20], frame.len(), 20));
    assert_eq!((some.len(), some.statistics().packets), (0, 1), "what is ignored is not counted");
    assert_eq!(all(&arp).len(), 2, "the request, and our reply");
    assert_eq!(all(&from_peer), [&frame[14..44]]);
    // A short buffer cuts, too.
    assert_eq!(rig.receive(&frame), Ended::Tcp);
    let mut buf = [0; 5];
    let read = some.read(&mut buf).expect("a part");
    assert_eq!((read.copied, read.captured.snaplen, &buf[..]), (5, 20, &frame[..5]));
    from_peer.close();
    rig.sent();
}

#[test]
fn a_sender_does_not_see_its_own_frame() {
    let mut rig = Rig::new();
    let (sender, other) = (tap(&mut rig, TapConfig { number: 7, ..TapConfig::default() }), TapConfig::default());
    let other = tap(&mut rig, other);
    let what = rxpath_trace::OutputWhat::Frame;
    let mut skb = rig.alloc_output(what, 60, false).expect("a slot");
    skb.put(60).fill(9);
    tx::packet_xmit(&mut rig, skb, 1, 7);
    assert_eq!((sender.len(), all(&other)), (0, vec![vec![9; 60]]));
    assert_eq!(rig.sent(), [[9; 60]]);
}

#[test]
fn a_clone_is_no_copy_but_who_writes_what_is_shared_pays() {
    let mut rig = Rig::new();
    let tap = tap(&mut rig, TapConfig::default());
    rig.receive(&frames::tcp().frame());
    assert_eq!((tap.len(), rig.counted()[Counter::CopiedUnshare]), (1, 0));
    // Another holder shares the frame, whose tag is taken out of it.
    let frame = tagged(&[0], &frames::tcp().frame());
    let mut skb = rig.frame(&frame);
    let clone = rig.clone_shared(&skb).expect("a slot");
    let linear = skb.headlen() as u64;
    assert!(rig.make_writable(&mut skb) && rig.make_writable(&mut skb));
    assert_eq!(rig.counted()[Counter::CopiedUnshare], linear, "once");
    rig.pool.free(clone);
    rig.drop_skb(skb, DropReason::NotSpecified);
    // And a packet of another Cpu's pool is copied, not shared.
    let mut foreign = crate::testing::cx();
    let mut skb = foreign.pool.alloc().expect("a slot");
    skb.put(300).fill(1);
    let copy = rig.clone_shared(&skb).expect("a slot");
    assert_eq!(rig.counted()[Counter::CopiedUnshare], 300);
    rig.pool.free(copy);
    foreign.pool.free(skb);
    tap.close();
}

#[test]
fn a_full_tap_counts_and_drops() {
    let mut rig = Rig::new();
    let tap = tap(&mut rig, TapConfig { rcvbuf: 2_304, ..TapConfig::default() });
    for _ in 0..10 {
        assert_eq!(rig.receive(&ethernet(MAC, EtherType::ARP, &[0x78; 46])), Ended::Dropped(DropReason::NotSpecified));
    }
    // 704 bytes of truesize each: the fourth is taken because the third left room, as in the kernel.
    assert_eq!((tap.rmem(), tap.statistics()), (2_816, TapStats { packets: 10, drops: 6 }));
    assert_eq!((tap.len(), rig.ledger().clones()), (4, 10));
    assert_eq!(rig.ledger().dropped_for(DropReason::PacketSockError), 6);
    let (first, _) = read(&tap).expect("a frame");
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp);
    assert_eq!(tap.statistics(), TapStats { packets: 1, drops: 0 }, "room again");
    let seen: Vec<u64> = std::iter::from_fn(|| read(&tap)).map(|(seen, _)| seen.dropped_before).collect();
    assert_eq!((first.dropped_before, seen), (0, vec![0, 0, 0, 6]), "lost before the last");
    rig.receive(&frames::tcp().frame());
    tap.close();
    assert!(tap.is_empty());
    assert_eq!(rig.ledger().dropped_for(DropReason::QueuePurge), 1);
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp);
    assert_eq!(tap.statistics().packets, 1, "closed");
}

#[test]
fn a_tap_without_memory_for_a_clone_drops() {
    let mut rig = Rig::new();
    let tap = tap(&mut rig, TapConfig::default());
    let skb = rig.frame(&frames::tcp().frame());
    let taken: Vec<_> = std::iter::from_fn(|| rig.pool.alloc_head().or_else(|| rig.pool.alloc())).collect();
    super::super::tap::deliver(&mut rig, &skb, None);
    assert_eq!((tap.len(), tap.statistics()), (0, TapStats { packets: 1, drops: 1 }));
    taken.into_iter().for_each(|slot| rig.pool.free(slot));
    rig.drop_skb(skb, DropReason::NotSpecified);
}

#[test]
fn a_tap_bound_to_an_interface_sees_no_other() {
    let mut rig = Rig::new();
    let other = tap(&mut rig, TapConfig { ifindex: Some(2), ..TapConfig::default() });
    let ours = tap(&mut rig, TapConfig { ifindex: Some(1), ..TapConfig::default() });
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp);
    assert_eq!((other.len(), ours.len()), (0, 1));
    rig.reconfigure(|net| assert!(net.ptypes.remove_tap(&ours) && !net.ptypes.remove_tap(&ours)));
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp);
    assert_eq!(ours.len(), 1);
    ours.close();
}

#[test]
fn the_life_of_a_clone_begins_with_its_parent() {
    let mut rig = Rig::new();
    let tap = tap(&mut rig, TapConfig { number: 7, rcvbuf: 700, ..TapConfig::default() });
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp);
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp, "no room for this one's clone");
    let told = lives::group(rig.events());
    let kinds = |life: &rxpath_trace::Life| life.events.iter().map(|event| event.kind).collect::<Vec<_>>();
    use EventKind::{Addresses, Cloned, EthTypeTrans, IpRcv, LocalDeliver, NetifReceive, RouteLocal, TapClone};
    let way = [EthTypeTrans, TapClone, NetifReceive, IpRcv, Addresses, RouteLocal, LocalDeliver, EventKind::Consumed];
    let of = |begins: EventKind| told.iter().filter(|life| life.events[0].kind == begins).collect::<Vec<_>>();
    let (originals, clones) = (of(EthTypeTrans), of(Cloned));
    assert_eq!((kinds(originals[0]), kinds(originals[1])), (way.to_vec(), way.to_vec()));
    assert_eq!((kinds(clones[0]), kinds(clones[1])), (vec![Cloned], vec![Cloned, EventKind::Dropped]));
    for (original, clone) in originals.iter().zip(&clones) {
        assert_eq!((original.events[1].other, clone.events[0].other), (clone.id, original.id));
        assert_eq!((original.events[1].a, original.events[1].b, clone.events[0].a), (54, 7, 54));
    }
    assert_eq!(clones[1].events[1].a, DropReason::PacketSockError as u32);
    let mut buf = [0; 100];
    assert_eq!(
        tap.read(&mut buf).and_then(|read| read.recorded),
        Some(clones[0].id),
        "its end is the reader's to tell"
    );
}
