mod tap;
mod vlan;

use rxpath_mem::{PktType, Skb};
use rxpath_trace::{Consumed, Counter, DropReason};
use rxpath_wire::{EtherType, MacAddr};

use crate::cx::{Cx, End};
use crate::demux::stats::DevStat;
use crate::demux::{PacketType, Ptypes, Taken};
use crate::testing::frames::{self, ethernet};
use crate::testing::{Ended, MAC, Rig};

const GROUP: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);

#[test]
fn eth_type_trans_tells_to_whom_a_frame_is_addressed() {
    let mut rig = Rig::new();
    for (dst, expected) in [
        (MAC, PktType::Host),
        (MacAddr::BROADCAST, PktType::Broadcast),
        (GROUP, PktType::Multicast),
        (OTHER, PktType::OtherHost),
    ] {
        let skb = rig.frame(&ethernet(dst, 0x1234, b"payload"));
        assert_eq!(skb.pkt_type, expected);
        assert_eq!((skb.protocol, skb.ifindex, skb.data()), (0x1234, 1, &b"payload"[..]));
        assert_eq!(usize::from(skb.network_off), skb.data_offset());
        rig.drop_skb(skb, DropReason::UnhandledProto);
    }
    assert_eq!(rig.dev_stat(DevStat::Multicast), 1, "broadcast is not counted as multicast");
}

#[test]
fn a_length_field_is_no_ethertype() {
    let mut rig = Rig::new();
    for (field, payload, expected) in [
        (46, [0u8; 46], EtherType::LLC_802_2),
        (46, [0xff; 46], EtherType::RAW_802_3),
        (0x05ff, [0; 46], EtherType::LLC_802_2),
        (0x0600, [0; 46], 0x0600),
    ] {
        let skb = rig.frame(&ethernet(MAC, field, &payload));
        assert_eq!(skb.protocol, expected);
        rig.drop_skb(skb, DropReason::UnhandledProto);
    }
}

#[test]
fn a_frame_shorter_than_its_header_is_refused() {
    let mut rig = Rig::new();
    let Some(mut skb) = rig.pool.alloc() else { panic!("a slot") };
    skb.put(13).fill(0);
    rig.ledger.offered(1);
    assert!(!crate::demux::eth_type_trans(&mut rig, &mut skb, 1, MAC));
    assert_eq!(skb.len(), 13, "nothing was done");
    rig.drop_skb(skb, DropReason::DevHdr);
}

#[test]
fn an_unknown_ethertype_is_dropped_and_counted_by_the_device() {
    let mut rig = Rig::new();
    for frame in [ethernet(MAC, 0x1234, &[0; 50]), ethernet(OTHER, 0x1234, &[0; 50]), ethernet(MAC, 46, &[0; 46])] {
        assert_eq!(rig.receive(&frame), Ended::Dropped(DropReason::UnhandledProto));
    }
    rig.assert_counted(&[(Counter::SoftnetProcessed, 3)]);
    assert_eq!(rig.dev_stat(DevStat::RxDropped), 3);
}

#[test]
fn a_registered_handler_gets_its_ethertype() {
    fn handler(_: &mut Cx, skb: Skb) -> End {
        assert_eq!(skb.data(), b"mine");
        End::Consumed(skb, Consumed::Noted)
    }
    let mut rig = Rig::new();
    rig.reconfigure(|net| {
        net.ptypes.register(0x88b5, handler).expect("a free EtherType");
        assert_eq!(net.ptypes.register(0x88b5, handler), Err(Taken { number: 0x88b5 }));
        assert_eq!(net.ptypes.register(EtherType::IPV4, handler), Err(Taken { number: 0x0800 }));
    });
    assert_eq!(rig.receive(&ethernet(MAC, 0x88b5, b"mine")), Ended::Consumed(Consumed::Noted));
    assert!(matches!(Ptypes::builtin().lookup(EtherType::ARP), Some(PacketType::Arp)));
    assert!(Ptypes::new().lookup(EtherType::IPV4).is_none());
    assert_eq!(
        Taken { number: 0x0800 }.to_string(),
        "protocol 2048 (0x0800) has a handler already; there can be only one"
    );
}

fn tagged(ids: &[u16], inner: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        let next = if i + 1 == ids.len() { EtherType::IPV4 } else { EtherType::VLAN };
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&next.to_be_bytes());
    }
    payload.extend_from_slice(inner);
    ethernet(MAC, EtherType::VLAN, &payload)
}

#[test]
fn a_priority_tag_is_taken_off_and_a_vlan_is_somebody_elses() {
    let mut rig = Rig::new();
    let packet = frames::tcp().packet();
    assert_eq!(rig.receive(&tagged(&[0], &packet)), Ended::Tcp);
    assert_eq!(rig.receive(&tagged(&[0xe000], &packet)), Ended::Tcp, "priority 7, id 0");
    assert_eq!(rig.receive(&tagged(&[0, 0], &packet)), Ended::Tcp);
    assert_eq!(rig.receive(&tagged(&[0; 20], &packet)), Ended::Tcp);
    assert_eq!(rig.receive(&tagged(&[5], &packet)), Ended::Dropped(DropReason::Otherhost));
    assert_eq!(rig.receive(&tagged(&[0, 5], &packet)), Ended::Dropped(DropReason::Otherhost));
    rig.assert_counted(&[
        (Counter::SoftnetProcessed, 6),
        (Counter::IpInReceives, 4),
        (Counter::IpInDelivers, 4),
        (Counter::IpExtInOctets, 160),
        (Counter::IpExtInNoECTPkts, 4),
    ]);
}

#[test]
fn a_vlan_tag_that_is_cut_short_is_dropped_without_a_counter() {
    let mut rig = Rig::new();
    let whole = tagged(&[0], &[0x45, 0]);
    for len in [14, 16, 18, 19] {
        assert_eq!(rig.receive(&whole[..len]), Ended::Dropped(DropReason::NotSpecified), "{len} bytes");
    }
    assert_eq!(rig.receive(&whole), Ended::Dropped(DropReason::IpInhdr), "the kernel wants two bytes behind the tag");
    let doubly = tagged(&[0, 0], &[]);
    assert_eq!(rig.receive(&doubly), Ended::Dropped(DropReason::NotSpecified));
}

#[test]
fn garbage_of_all_lengths_ends_with_a_name() {
    let mut rig = Rig::new();
    let mut random = crate::cx::Rng::new(0x5eed);
    for round in 0..4_000u32 {
        let len = 14 + random.below(80) as usize;
        let mut frame: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        frame[..6].copy_from_slice(&MAC.0);
        let ethertype =
            [EtherType::IPV4, EtherType::ARP, EtherType::VLAN, random.below(65_536) as u16][round as usize % 4];
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        if ethertype == EtherType::IPV4 && len >= 34 && round % 8 < 4 {
            frame[14] = 0x40 | (5 + random.below(3)) as u8;
            frame[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
        }
        rig.receive(&frame);
        rig.sent();
        rig.events();
    }
}
