mod page;

use super::*;
use crate::counters::Counter;
use crate::event::{
    AckWhy, EventKind::*, GroPass, LookupKind, MadeHow, OutputWhat, SlowWhy, TcpState, device_word, ports_word,
};
use crate::ledger::Consumed as How;
use crate::reason::DropReason;
use crate::time::Time;

/// Writes the events of one packet, with the arguments that matter.
struct Pen {
    id: PacketId,
    at: u64,
    cpu: u8,
    events: Vec<Event>,
}

impl Pen {
    fn new(id: PacketId, us: u64) -> Pen {
        Pen { id, at: us * 1000, cpu: 0, events: Vec::new() }
    }

    fn at(mut self, us: u64) -> Pen {
        self.at = us * 1000;
        self
    }

    fn cpu(mut self, cpu: u8) -> Pen {
        self.cpu = cpu;
        self
    }

    fn write(self, kind: EventKind, a: u32, b: u32) -> Pen {
        self.with(kind, a, b, PacketId::NONE)
    }

    fn with(mut self, kind: EventKind, a: u32, b: u32, other: PacketId) -> Pen {
        self.events.push(Event { id: self.id, at: Time(self.at), other, a, b, kind, cpu: self.cpu });
        self
    }

    fn life(self) -> Life {
        let lives = group(self.events);
        assert_eq!(lives.len(), 1);
        lives.into_iter().next().expect("one life")
    }
}

fn r0(n: u64) -> PacketId {
    PacketId::of_ring(0, n)
}

fn c0(n: u64) -> PacketId {
    PacketId::of_cpu(0, n)
}

fn ip(address: [u8; 4]) -> u32 {
    u32::from_be_bytes(address)
}

/// From the ring to the transport protocol, as every segment for us goes.
fn received(pen: Pen, bytes: u32, payload: u32, flags: u32) -> Pen {
    let at = pen.at / 1000;
    pen.write(Offered, bytes, device_word(2, 0))
        .at(at + 3)
        .write(Harvested, 0x51cc_c178, 0)
        .write(EthTypeTrans, 0, 0x0800)
        .write(GroPassed, GroPass::NoPayload as u32, 0)
        .write(NetifReceive, 0, 0x0800)
        .write(IpRcv, bytes - 14, 64)
        .write(Addresses, ip([10, 0, 0, 2]), ip([10, 0, 0, 1]))
        .write(RouteLocal, 2, 0)
        .write(LocalDeliver, 6, 0)
        .at(at + 4)
        .write(TcpV4Rcv, 1000, payload)
        .write(Ports, ports_word(40_000, 80), flags)
}

fn names() -> Names {
    Names::new().device(2, "tap0")
}

#[test]
fn the_life_of_a_segment_with_a_bad_checksum() {
    let life = received(Pen::new(r0(17), 1_002_340), 66, 0, 0x10).write(Dropped, DropReason::TcpCsum as u32, 0).life();
    assert_eq!(life.status(), Status::Finished);
    assert_eq!(
        life.story_with(&names()),
        "\
packet r0:17, a TCP segment of 66 bytes from 10.0.0.2:40000 to 10.0.0.1:80, offered by tap0 queue 0 at 1.002340 s
  +0 us      NIC     the device wrote 66 bytes into a posted slot and set the done bit
  +3 us      NAPI    napi_poll took it from the ring, flow hash 0x51ccc178; eth_type_trans: for us, EtherType 0x0800;
                     napi_gro_receive passed it on (no payload)
  +3 us      demux   __netif_receive_skb_core: for us, EtherType 0x0800 -> ip_rcv
  +3 us      IP      ip_rcv: the header is sound, 52 bytes, TTL 64; 10.0.0.2 -> 10.0.0.1; ip_route_input_noref: for
                     this host
  +3 us      INPUT   ip_local_deliver_finish: protocol 6 -> tcp_v4_rcv
  +4 us      TCP     tcp_v4_rcv: seq 1000, no payload; port 40000 -> port 80, flags ack
  +4 us      DROPPED tcp_v4_rcv: TCP_CSUM, the TCP checksum does not verify; counters TcpInErrs, TcpInCsumErrors
"
    );
}

#[test]
fn the_life_of_data_that_is_read() {
    let life = received(Pen::new(r0(1), 0), 1514, 1448, 0x18)
        .write(LookupHit, LookupKind::Established as u32, 7)
        .write(FastPath, 1448, 0)
        .write(Queued, 1448, 2304)
        .write(AckDelayed, 40, 0)
        .write(Woken, 1448, 1)
        .at(40)
        .write(RecvPart, 1000, 1)
        .at(2_000_123)
        .write(Recv, 448, 2)
        .life();
    let story = life.story();
    let tail: Vec<&str> = story.lines().skip(8).collect();
    assert_eq!(
        tail,
        [
            "  +4 us      TCP     tcp_v4_rcv: seq 1000, 1448 bytes of payload; port 40000 -> port 80, flags psh+ack;",
            "                     __inet_lookup_skb found an established connection, socket 7",
            "  +4 us      socket  tcp_rcv_established: fast path, 1448 bytes; tcp_queue_rcv: 1448 bytes on the receive \
             queue, which",
            "                     holds 2304 of truesize; tcp_send_delayed_ack: the ACK waits for up to 40 ms; \
             sk_data_ready: 1448",
            "                     bytes to read, the reader is woken",
            "  +40 us     recv    tcp_recvmsg: the application read 1000 bytes of it (read 1 of this socket)",
            "  +2000.1 ms READ    tcp_recvmsg: the application read 448 bytes, its last (read 2 of this socket)",
        ]
    );
    assert!(story.starts_with("packet r0:1, a TCP segment of 1514 bytes from 10.0.0.2:40000 to 10.0.0.1:80, offered by device 2 queue 0 at 0.000000 s\n"));
}

#[test]
fn a_packet_that_moves_to_another_cpu_says_so() {
    let life = Pen::new(r0(2), 5)
        .cpu(1)
        .write(Offered, 60, device_word(2, 3))
        .write(CpuBacklog, 0, 1)
        .cpu(0)
        .write(CpuBacklogTaken, 0, 0)
        .write(Dropped, DropReason::UnhandledProto as u32, 0)
        .life();
    assert_eq!(
        life.story_with(&names()),
        "\
packet r0:2, a frame of 60 bytes, offered by tap0 queue 3 at 0.000005 s
  +0 us      NIC     the device wrote 60 bytes into a posted slot and set the done bit
  +0 us      NAPI    enqueue_to_backlog: its flow belongs to Cpu 0, on whose backlog it waits (1 waiting)
  +0 us      NAPI    (Cpu 0) process_backlog took it from the backlog (0 left)
  +0 us      DROPPED __netif_receive_skb_core: UNHANDLED_PROTO, nobody handles its EtherType or ICMP type
"
    );
}

#[test]
fn a_frame_that_met_a_full_ring_has_a_life_too() {
    let life =
        Pen::new(r0(3), 0).write(Missed, 1514, device_word(2, 1)).write(Dropped, DropReason::RxMissed as u32, 0).life();
    assert_eq!(
        life.story_with(&names()),
        "\
packet r0:3, a frame of 1514 bytes, for which tap0 queue 1 had no slot at 0.000000 s
  +0 us      NIC     the device had 1514 bytes and found no posted slot
  +0 us      DROPPED the device: RX_MISSED, the ring had no free slot when the frame came (rx_missed_errors)
"
    );
}

#[test]
fn a_drop_names_the_counters_of_its_place() {
    let pair = Counter::pair(Some(Counter::TcpInErrs), None);
    let life = received(Pen::new(r0(4), 0), 60, 0, 0x02).write(Dropped, DropReason::PktTooSmall as u32, pair).life();
    let story = life.story();
    assert!(story.starts_with("packet r0:4, a TCP SYN of 60 bytes "));
    assert!(story.ends_with(
        "  +4 us      DROPPED tcp_v4_rcv: PKT_TOO_SMALL, it is shorter than its headers say; counter TcpInErrs\n"
    ));
}

#[test]
fn what_the_stack_sends_has_a_life_with_a_cause() {
    let life = Pen::new(c0(9), 100)
        .with(OutputMade, OutputWhat::TcpSynAck as u32, 60, r0(1))
        .with(NeighHeld, ip([10, 0, 0, 2]), 1, c0(10))
        .at(350)
        .write(Transmitted, 74, device_word(2, 0))
        .life();
    assert_eq!(
        life.story_with(&names()),
        "\
packet c0:9, a TCP SYN-ACK of 60 bytes, made here because of r0:1 at 0.000100 s
  +0 us      output  alloc_skb: a TCP SYN-ACK of 60 bytes, because of r0:1; neigh_resolve_output: it waits for the
                     address of 10.0.0.2, which c0:10 asks for (1 waiting)
  +250 us    SENT    dev_hard_start_xmit: tap0 took 74 bytes on queue 0
"
    );
}

#[test]
fn merges_clones_and_reassembly_point_to_the_other_packet() {
    let merged = Pen::new(r0(5), 0)
        .write(Offered, 1514, device_word(2, 0))
        .write(Harvested, 0, 1)
        .with(GroMerged, 1448, 4, r0(2))
        .life();
    assert!(
        merged.story().ends_with(
            "  +0 us      MERGED  napi_gro_receive: merged into r0:2, 1448 bytes of payload, its segment 4\n"
        )
    );
    let joined =
        Pen::new(r0(6), 0).write(Offered, 1514, 0).with(Coalesced, 1448, 9000, r0(2)).write(Woken, 2896, 0).life();
    assert_eq!(joined.status(), Status::Finished, "a wake-up may follow the end");
    assert!(joined.story().ends_with(
        "  +0 us      JOINED  tcp_try_coalesce: its 1448 bytes went to the tail of the receive queue, r0:2\n  \
         +0 us      socket  sk_data_ready: 2896 bytes to read, nobody waits\n"
    ));
    let clone = Pen::new(c0(1), 0).with(Cloned, 96, 3, r0(2)).write(TapRead, 96, 3).life();
    assert_eq!(
        clone.story(),
        "\
packet c0:1, a frame of 96 bytes, a clone of r0:2 for a tap at 0.000000 s
  +0 us      demux   skb_clone: made from r0:2, 96 bytes for tap 3
  +0 us      READ    packet_recvmsg: the reader of tap 3 took 96 bytes
"
    );
    let whole = Pen::new(c0(2), 0)
        .with(Made, MadeHow::Reassembled as u32, 3000, r0(8))
        .write(IcmpRcv, 8, 0)
        .with(EventKind::Consumed, How::Answered as u32, 0, c0(3))
        .life();
    assert_eq!(
        whole.story(),
        "\
packet c0:2, an ICMP echo request of 3000 bytes, reassembled from fragments at 0.000000 s
  +0 us      IP      alloc_skb: reassembled from fragments, 3000 bytes, out of r0:8
  +0 us      INPUT   icmp_rcv: an echo request
  +0 us      DONE    icmp_rcv: it was a request, and was answered (c0:3)
"
    );
}

#[test]
fn a_life_without_a_beginning_or_an_end_is_told_as_far_as_it_goes() {
    let orphan = Pen::new(r0(7), 8).write(TcpV4Rcv, 5, 1).write(Queued, 1, 832).life();
    assert_eq!(orphan.status(), Status::Orphan);
    assert_eq!(
        orphan.story(),
        "\
packet r0:7, a TCP segment, whose beginning was not recorded; first seen at 0.000008 s
  +0 us      TCP     tcp_v4_rcv: seq 5, 1 bytes of payload
  +0 us      socket  tcp_queue_rcv: 1 bytes on the receive queue, which holds 832 of truesize
"
    );
    let held = Pen::new(r0(8), 0).write(Offered, 60, 0).write(GroHeld, 10, 2).life();
    assert_eq!(held.status(), Status::Unfinished);
    assert!(held.story().ends_with(
        "napi_gro_receive holds it, 10 bytes of payload, to merge others into it, one of 2 in its bucket\n  (on its \
         way still, or held: last seen in napi_gro_receive)\n"
    ));
    let twice = Pen::new(r0(9), 0)
        .write(Offered, 60, 0)
        .write(Recv, 0, 0)
        .write(Dropped, DropReason::QueuePurge as u32, 0)
        .life();
    assert_eq!(twice.status(), Status::Broken);
    assert!(twice.story().ends_with("  (the record is faulty: 1 births, 2 ends)\n"));
    let empty = Life { id: r0(1), events: Vec::new() };
    assert_eq!(empty.status(), Status::Orphan);
    assert_eq!(empty.story(), "packet r0:1, a frame, whose beginning was not recorded; first seen at 0.000000 s\n");
}

#[test]
fn grouping_sorts_out_packets_and_counts_what_is_missing() {
    let one = Pen::new(r0(1), 10).write(Offered, 60, 0).at(12).write(Recv, 0, 0);
    let other = Pen::new(r0(2), 10).write(Offered, 60, 0);
    let orphan = Pen::new(r0(3), 11).write(Recv, 0, 0);
    let reborn = Pen::new(r0(4), 9).write(Offered, 60, 0).write(Offered, 60, 0);
    let late = Pen::new(r0(5), 13).write(Harvested, 0, 0).at(14).write(Offered, 60, 0);
    let gap = Pen::new(PacketId::NONE, 11).write(Lost, 4, 0).write(Lost, 2, 0);
    let events: Vec<Event> = [one.events, orphan.events, other.events, gap.events, late.events, reborn.events].concat();
    assert_eq!(lost(&events), 6);
    let lives = group(events);
    let ids: Vec<PacketId> = lives.iter().map(|life| life.id).collect();
    assert_eq!(ids, [r0(4), r0(1), r0(2), r0(3), r0(5)]);
    let census = Census::of(&lives);
    assert_eq!(census, Census { finished: 1, unfinished: 1, orphans: 1, broken: 2 });
    assert_eq!(census.to_string(), "5 lives: 1 finished, 1 unfinished, 1 without a beginning, 2 broken");
    assert!(group([]).is_empty());
}

#[test]
fn events_of_one_moment_on_two_cpus_come_in_the_order_of_the_path() {
    // Shard 0 is collected first, though its part of the life is the later one.
    let later = Pen::new(r0(1), 5).cpu(0).write(CpuBacklogTaken, 0, 0).write(NetifReceive, 0, 0x800).write(Recv, 0, 0);
    let earlier = Pen::new(r0(1), 5).cpu(1).write(Offered, 60, 0).write(Harvested, 0, 0).write(CpuBacklog, 0, 1);
    let lives = group([later.events, earlier.events].concat());
    let kinds: Vec<EventKind> = lives[0].events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Offered, Harvested, CpuBacklog, CpuBacklogTaken, NetifReceive, Recv]);
    assert_eq!(lives[0].status(), Status::Finished);
}

#[test]
fn a_reader_whose_shard_comes_first_is_put_in_its_place() {
    let read = Pen::new(r0(1), 7).write(Recv, 0, 0);
    let rest = Pen::new(r0(1), 5).write(Offered, 60, 0).write(Queued, 0, 0);
    let lives = group([read.events, rest.events].concat());
    let kinds: Vec<EventKind> = lives[0].events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Offered, Queued, Recv]);
}

#[test]
fn every_kind_and_every_argument_has_words() {
    for &kind in EventKind::ALL {
        for (a, b) in [(0, 0), (1, 1), (2, 3), (200, 77), (u32::MAX, u32::MAX)] {
            for other in [PacketId::NONE, r0(3)] {
                let life = Life { id: r0(1), events: Pen::new(r0(1), 0).with(kind, a, b, other).events };
                let story = life.story();
                assert!(story.lines().count() >= 2 && !story.contains("  ;"), "{story}");
                assert!(story.lines().skip(1).all(|line| line.chars().count() <= 118), "{story}");
                let line: serde_json::Value = serde_json::from_str(&life.json_line()).expect("JSON");
                assert_eq!(line["events"][0]["kind"], kind.name());
            }
        }
    }
}

#[test]
fn arguments_are_told_in_words() {
    let said = |kind, a, b| words::say(&Pen::new(r0(1), 0).write(kind, a, b).events[0], None, &Names::new());
    for (kind, a, b, text) in [
        (
            SlowPath,
            SlowWhy::Window as u32,
            9,
            "tcp_rcv_established: slow path, as it reaches beyond the receive window",
        ),
        (SlowPath, 99, 9, "tcp_rcv_established: slow path, as reason 99"),
        (AckNow, 77, AckWhy::Challenge as u32, "tcp_send_ack: ACK 77 at once (a challenge ACK)"),
        (
            StateChange,
            TcpState::Established as u32,
            TcpState::CloseWait as u32,
            "tcp_set_state: ESTABLISHED -> CLOSE-WAIT",
        ),
        (Xdp, 3, 0, "bpf_prog_run_xdp: the native program says TX"),
        (Xdp, 9, 1, "bpf_prog_run_xdp: the generic program says action 9"),
        (VlanUntag, 5, 0x8100, "skb_vlan_untag: tag 0x8100, VLAN 5"),
        (VlanUntag, 0xe000, 0x88a8, "skb_vlan_untag: tag 0x88a8, VLAN 0, priority 7"),
        (VlanReceive, 2, 0, "vlan_do_receive: device 2 has it now, for us"),
        (Hook, 1, 0, "nf_hook_slow: LOCAL_IN says DROP"),
        (Hook, 9, 9, "nf_hook_slow: hook 9 says verdict 9"),
        (Hook, 3, 3 | 7 << 16, "nf_hook_slow: LOCAL_OUT says QUEUE 7"),
        (Reinjected, 0, 1, "nf_reinject: back at PRE_ROUTING with ACCEPT"),
        (ArpRcv, 1, 0x0a00_0001, "arp_rcv: a request by 10.0.0.1"),
        (ArpHeld, 0x0a00_0109, 532_100, "pneigh_enqueue: to be answered for 10.0.1.9 in 532 ms"),
        (GroFlushed, 3, 4344, "napi_gro_complete let it go with 3 segments, 4344 bytes of payload"),
        (Harvested, 0, 3, "napi_poll took it from the ring, checksum vouched for by the device"),
        (Ports, ports_word(1, 2), 0, "port 1 -> port 2, flags none"),
        (Dropped, 191, 0, "kfree_skb_reason: an unknown reason, 191"),
        (Lost, 3, 0, "the life ring was full: 3 events were lost"),
    ] {
        assert_eq!(said(kind, a, b), text);
    }
}

#[test]
fn times_keep_short() {
    for (ns, text) in [
        (0, "+0 us"),
        (999, "+999 ns"),
        (1_000, "+1 us"),
        (99_999_999, "+99999 us"),
        (100_000_000, "+100.0 ms"),
        (99_999_999_999, "+99999.9 ms"),
        (100_000_000_000, "+100 s"),
    ] {
        assert_eq!(story::elapsed(Time(ns), Time::ZERO), text);
    }
}

#[test]
fn a_json_line_holds_what_the_schema_says() {
    let life = received(Pen::new(r0(17), 1), 66, 0, 0x12).write(Dropped, DropReason::TcpCsum as u32, 0).life();
    let line = life.json_line();
    assert!(!line.contains('\n'));
    assert!(line.starts_with(
        "{\"id\":\"r0:17\",\"status\":\"finished\",\"what\":\"a TCP SYN-ACK\",\"bytes\":66,\"born_ns\":1000,\
         \"ifindex\":2,\"queue\":0,\"parent\":null,\"flow\":{\"src\":\"10.0.0.2\",\"dst\":\"10.0.0.1\",\"proto\":6,\
         \"sport\":40000,\"dport\":80,\"tcp_flags\":\"syn+ack\"},\"end\":{\"how\":\"dropped\",\"at_ns\":5000,\
         \"function\":\"tcp_v4_rcv\",\"reason\":\"TCP_CSUM\",\"describe\":\"the TCP checksum does not verify\",\
         \"counters\":[\"TcpInErrs\",\"TcpInCsumErrors\"],\"other\":null},\"events\":[{\"at_ns\":1000,\"cpu\":0,\
         \"phase\":\"NIC\",\"kind\":\"Offered\",\"function\":\"DMA\",\"a\":66,\"b\":131072,\"other\":null,\
         \"text\":\"the device wrote 66 bytes into a posted slot and set the done bit\"},"
    ));
}

#[test]
fn the_schema_names_every_key_and_no_other() {
    let merged = Pen::new(c0(1), 0)
        .with(OutputMade, 1, 52, r0(1))
        .write(Ports, 0, 0)
        .with(EventKind::Consumed, How::Split as u32, 0, c0(2))
        .life();
    let value: serde_json::Value = serde_json::from_str(&merged.json_line()).expect("JSON");
    assert_eq!(value["parent"], "r0:1");
    assert_eq!(value["end"]["how"], "consumed");
    assert_eq!(value["end"]["reason"], "split");
    assert_eq!(value["end"]["other"], "c0:2");

    let mut written = Vec::new();
    let object = value.as_object().expect("an object");
    for (key, value) in object {
        written.push(key.clone());
        let inner = if key == "events" { &value[0] } else { value };
        written.extend(inner.as_object().into_iter().flatten().map(|(key, _)| key.clone()));
    }
    let mut documented: Vec<String> = Vec::new();
    for line in SCHEMA.lines().skip(2) {
        // The keys are the words up to the first that no comma follows.
        for word in line.split_whitespace() {
            documented.push(word.trim_end_matches(',').to_string());
            if !word.ends_with(',') {
                break;
            }
        }
    }
    written.sort();
    documented.sort();
    assert_eq!(written, documented);
}

#[test]
fn ends_are_named_in_json() {
    for (kind, how) in
        [(Recv, "delivered"), (TapRead, "delivered"), (Transmitted, "transmitted"), (GroMerged, "consumed")]
    {
        let life = Pen::new(r0(1), 0).write(Offered, 60, 0).with(kind, 0, 0, PacketId::NONE).life();
        let value: serde_json::Value = serde_json::from_str(&life.json_line()).expect("JSON");
        assert_eq!(value["end"]["how"], how);
        assert_eq!(value["end"]["counters"], serde_json::json!([]));
        let reason = if kind == GroMerged { "merged by GRO".into() } else { serde_json::Value::Null };
        assert_eq!(value["end"]["reason"], reason);
    }
    let held = Pen::new(r0(1), 0).write(Offered, 60, 0).life();
    let value: serde_json::Value = serde_json::from_str(&held.json_line()).expect("JSON");
    assert!(value["end"].is_null() && value["flow"].is_null());
    assert_eq!(value["status"], "unfinished");
}

#[test]
fn what_is_done_on_the_side_is_not_where_a_packet_is_dropped() {
    let refused = received(Pen::new(r0(1), 0), 60, 0, 0x02)
        .write(LookupMiss, 0, 0)
        .with(RstSent, 0, 1001, c0(1))
        .write(Dropped, DropReason::NoSocket as u32, 0)
        .life();
    let story = refused.story();
    assert!(story.contains("tcp_v4_send_reset: a reset answers it, seq 0, ack 1001, in c0:1\n"), "{story}");
    assert!(story.contains(" DROPPED tcp_v4_rcv: NO_SOCKET, "), "{story}");
    let value: serde_json::Value = serde_json::from_str(&refused.json_line()).expect("JSON");
    assert_eq!(value["end"]["function"], "tcp_v4_rcv");
    let held = received(Pen::new(r0(2), 0), 60, 0, 0x10).write(StateChange, 3, 1).life();
    assert!(held.story().ends_with("last seen in tcp_v4_rcv)\n"), "{}", held.story());
}

/// Where the story says that a packet was dropped which was last seen in `station`.
fn dropped_in(station: (EventKind, u32, u32), reason: DropReason) -> String {
    let life = Pen::new(r0(1), 0)
        .write(Offered, 60, 0)
        .write(station.0, station.1, station.2)
        .write(Dropped, reason as u32, 0)
        .life();
    let value: serde_json::Value = serde_json::from_str(&life.json_line()).expect("JSON");
    let function = value["end"]["function"].as_str().expect("a name").to_owned();
    assert!(life.story().contains(&format!(" DROPPED {function}: {reason}, ")), "{}", life.story());
    function
}

#[test]
fn a_drop_is_told_in_the_function_that_drops() {
    use DropReason::*;
    let ip = (NetifReceive, 0, 0x0800);
    let found = |what: LookupKind| (LookupHit, what as u32, 0);
    let cases = [
        (ip, IpInhdr, "ip_rcv_core"),
        (ip, PktTooSmall, "ip_rcv_core"),
        ((IpRcv, 60, 64), IpInhdr, "ip_rcv_options"),
        ((NetifReceive, 1, 0x0806), PktTooSmall, "arp_rcv"),
        ((GroPassed, 0, 0), UnhandledProto, "__netif_receive_skb_core"),
        ((LocalDeliver, 1, 0), NotSpecified, "icmp_rcv"),
        ((LocalDeliver, 6, 0), PktTooSmall, "tcp_v4_rcv"),
        (found(LookupKind::Listener), DropReason::TcpFlags, "tcp_rcv_state_process"),
        (found(LookupKind::Listener), TcpListenOverflow, "tcp_conn_request"),
        (found(LookupKind::Request), TcpListenOverflow, "tcp_v4_syn_recv_sock"),
        (found(LookupKind::Request), TcpOverwindow, "tcp_check_req"),
        (found(LookupKind::TimeWait), TcpInvalidSyn, "tcp_timewait_state_process"),
        ((SlowPath, SlowWhy::Flags as u32, 0), TcpReset, "tcp_validate_incoming"),
        ((SlowPath, SlowWhy::Flags as u32, 0), ProtoMem, "tcp_data_queue"),
        ((SlowPath, SlowWhy::State as u32, 0), DropReason::TcpFlags, "tcp_rcv_state_process"),
        ((Queued, 1, 768), QueuePurge, "skb_queue_purge"),
        ((NeighHeld, 0, 1), NeighFailed, "arp_error_report"),
    ];
    for (station, reason, function) in cases {
        assert_eq!(dropped_in(station, reason), function, "{reason} behind {station:?}");
    }
}

#[test]
fn a_packet_of_ours_says_whence_and_whither() {
    let life = Pen::new(c0(3), 0)
        .with(OutputMade, OutputWhat::TcpAck as u32, 40, r0(7))
        .write(Addresses, ip([10, 0, 0, 1]), ip([10, 0, 0, 2]))
        .write(Ports, ports_word(80, 40_000), 0x10)
        .write(Transmitted, 54, device_word(2, 0))
        .life();
    assert_eq!(
        life.story_with(&names()),
        "\
packet c0:3, a TCP ACK of 40 bytes from 10.0.0.1:80 to 10.0.0.2:40000, made here because of r0:7 at 0.000000 s
  +0 us      output  alloc_skb: a TCP ACK of 40 bytes, because of r0:7; 10.0.0.1 -> 10.0.0.2; port 80 -> port 40000,
                     flags ack
  +0 us      SENT    dev_hard_start_xmit: tap0 took 54 bytes on queue 0
"
    );
    let wants = |text: &str| text.parse::<crate::Filter>().expect("a filter").matches(&life.flow());
    assert!(wants("tcp and src port 80 and dst port 40000 and flags ack and src 10.0.0.1"));
    assert!(wants("ip and port 80") && !wants("udp") && !wants("dst port 80") && !wants("arp"));
}

#[test]
fn a_flow_is_what_the_events_tell() {
    let wants = |life: &Life, text: &str| text.parse::<crate::Filter>().expect("a filter").matches(&life.flow());
    let segment = received(Pen::new(r0(1), 0), 60, 0, 0x02).life();
    assert!(wants(&segment, "tcp and dst port 80 and flags syn and net 10.0.0.0/24"));
    assert!(!wants(&segment, "src port 80") && !wants(&segment, "host 10.0.0.3"));
    let arp =
        Pen::new(r0(2), 0).write(Offered, 60, 0).write(NetifReceive, 1, 0x0806).write(ArpRcv, 1, ip([10, 0, 0, 2]));
    let arp = arp.write(Consumed, How::Answered as u32, 0).life();
    assert!(wants(&arp, "arp and src 10.0.0.2") && !wants(&arp, "tcp or udp or icmp"));
    let reply = Pen::new(c0(1), 0).write(OutputMade, OutputWhat::EchoReply as u32, 84).life();
    assert!(wants(&reply, "icmp") && !wants(&reply, "arp"));
}

#[test]
fn a_reader_on_the_spot_comes_behind_what_its_cpu_did() {
    // The application's shard is read last, or first: the order is the same.
    let cpu = received(Pen::new(r0(1), 5), 60, 4, 0x18).write(Queued, 4, 768).write(Woken, 4, 1).events;
    let reader = Pen::new(r0(1), 9).write(Recv, 4, 1).events;
    for events in [[cpu.clone(), reader.clone()], [reader, cpu]] {
        let lives = group(events.concat());
        assert_eq!(lives[0].status(), Status::Finished);
        let kinds: Vec<EventKind> = lives[0].events.iter().rev().take(2).map(|event| event.kind).collect();
        assert_eq!(kinds, [Recv, Woken]);
    }
}

fn any_event() -> impl proptest::strategy::Strategy<Value = Event> {
    use proptest::prelude::*;
    (0..4u64, 0..6u64, 0..3u8, 0..EventKind::ALL.len(), any::<u32>(), 0..300u32, any::<bool>()).prop_map(
        |(n, at, cpu, kind, a, b, small)| Event {
            id: r0(n + 1),
            at: Time(at),
            other: if small { PacketId::NONE } else { r0(9) },
            a: if small { a % 16 } else { a },
            b,
            kind: EventKind::ALL[kind],
            cpu,
        },
    )
}

proptest::proptest! {
    #[test]
    fn grouping_loses_nothing_and_keeps_each_cpus_order(
        events in proptest::collection::vec(any_event(), 0..60),
    ) {
        let lives = group(events.iter().copied());
        let told: Vec<&Event> = events.iter().filter(|event| event.kind != Lost).collect();
        proptest::prop_assert_eq!(lives.iter().map(|life| life.events.len()).sum::<usize>(), told.len());
        for life in &lives {
            proptest::prop_assert!(life.events.is_sorted_by_key(|event| event.at));
            for (cpu, reader) in (0..3).flat_map(|cpu| [(cpu, false), (cpu, true)]) {
                let of_cpu = |event: &&Event| event.id == life.id && recorder(event) == (cpu, reader);
                let mut recorded: Vec<Event> = told.iter().copied().filter(of_cpu).copied().collect();
                recorded.sort_by_key(|event| event.at);
                let grouped: Vec<Event> = life.events.iter().filter(of_cpu).copied().collect();
                proptest::prop_assert_eq!(grouped, recorded);
            }
            proptest::prop_assert!(life.story().lines().all(|line| !line.is_empty()));
            let value: serde_json::Value = serde_json::from_str(&life.json_line()).expect("JSON");
            proptest::prop_assert_eq!(&value["status"], life.status().name());
        }
    }
}
