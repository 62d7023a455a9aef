//! The texts against those that Linux 6.18 printed.

use super::*;

#[test]
fn softnet_stat_is_the_kernels_text() {
    let rows = [
        SoftnetRow { processed: 0x5128, cpu: 0, ..SoftnetRow::default() },
        SoftnetRow { processed: 0x3af98, cpu: 1, ..SoftnetRow::default() },
    ];
    assert_eq!(softnet_stat(&rows), include_str!("../captured/softnet_stat"));
}

#[test]
fn softnet_columns_stand_where_the_kernel_has_them() {
    let row = SoftnetRow {
        processed: 1 << 32 | 0xabc,
        dropped: 2,
        time_squeeze: 3,
        received_rps: 10,
        flow_limit_count: 11,
        cpu: 13,
        input_qlen: 14,
        process_qlen: 15,
    };
    assert_eq!(
        softnet_stat(&[row]),
        "00000abc 00000002 00000003 00000000 00000000 00000000 00000000 00000000 00000000 0000000a 0000000b 0000001d \
         0000000d 0000000e 0000000f\n"
    );
}

#[test]
fn a_softnet_row_comes_from_the_shard() {
    let shard = Snapshot::of(&[
        (Counter::SoftnetProcessed, 5),
        (Counter::SoftnetDropped, 4),
        (Counter::SoftnetTimeSqueeze, 3),
        (Counter::SoftnetReceivedRps, 2),
        (Counter::SoftnetFlowLimitCount, 1),
    ]);
    let expected = SoftnetRow {
        processed: 5,
        dropped: 4,
        time_squeeze: 3,
        received_rps: 2,
        flow_limit_count: 1,
        cpu: 7,
        input_qlen: 0,
        process_qlen: 0,
    };
    assert_eq!(SoftnetRow::of(&shard, 7), expected);
}

#[test]
fn dev_is_the_kernels_text() {
    let device = |name: &str, bytes, packets| DevRow {
        name: name.to_string(),
        rx_bytes: bytes,
        rx_packets: packets,
        tx_bytes: bytes,
        tx_packets: packets,
        ..DevRow::default()
    };
    let rows = [device("lo", 120_061_266, 2050), device("v1", 90, 1), device("vethlongnam0", 90, 1)];
    assert_eq!(dev(&rows), include_str!("../captured/dev"));
}

#[test]
fn dev_columns_stand_where_the_kernel_has_them() {
    let row = DevRow {
        name: "tap0".to_string(),
        rx_bytes: 1,
        rx_packets: 2,
        rx_errors: 3,
        rx_dropped: 100,
        rx_missed_errors: 20,
        rx_fifo_errors: 5,
        rx_length_errors: 1000,
        rx_over_errors: 200,
        rx_crc_errors: 30,
        rx_frame_errors: 4,
        rx_compressed: 6,
        multicast: 7,
        tx_bytes: 8,
        tx_packets: 9,
        tx_errors: 10,
        tx_dropped: 11,
        tx_fifo_errors: 12,
        collisions: 13,
        tx_carrier_errors: 1000,
        tx_aborted_errors: 200,
        tx_window_errors: 30,
        tx_heartbeat_errors: 4,
        tx_compressed: 14,
    };
    let text = dev(&[row]);
    assert_eq!(
        text.lines().nth(2),
        Some(
            "  tap0:       1       2    3  120    5  1234          6         7        8       9   10   11   12    13    \
             1234         14"
        )
    );
}

#[test]
fn sockstat_is_the_kernels_text() {
    let stat = SockStat {
        sockets_used: 8,
        tcp_inuse: 5,
        tcp_orphan: 0,
        tcp_tw: 2,
        tcp_alloc: 6,
        tcp_mem: 194,
        udp_inuse: 2,
        raw_inuse: 1,
        ..SockStat::default()
    };
    assert_eq!(sockstat(&stat), include_str!("../captured/sockstat"));
}

#[test]
fn sockstat_values_stand_behind_their_names() {
    let stat = SockStat {
        sockets_used: 1,
        tcp_inuse: 2,
        tcp_orphan: 3,
        tcp_tw: 4,
        tcp_alloc: 5,
        tcp_mem: 6,
        udp_inuse: 7,
        udp_mem: 8,
        udplite_inuse: 9,
        raw_inuse: 10,
        frag_inuse: 11,
        frag_memory: 12,
    };
    assert_eq!(
        sockstat(&stat),
        "sockets: used 1\nTCP: inuse 2 orphan 3 tw 4 alloc 5 mem 6\nUDP: inuse 7 mem 8\nUDPLITE: inuse 9\nRAW: inuse \
         10\nFRAG: inuse 11 memory 12\n"
    );
}

#[test]
fn packet_is_the_kernels_text() {
    let row = |cookie, refs, kind, protocol, ifindex, rmem, inode| PacketRow {
        cookie,
        refs,
        kind,
        protocol,
        ifindex,
        running: protocol != 0,
        rmem,
        inode,
    };
    let rows = [
        row(0x7fcc_a7c1, 3, 3, 0x0800, 0, 0, 467_069),
        row(0x59f9_051f, 3, 2, 0x88b5, 0, 0, 467_070),
        row(0x31de_06b9, 3, 3, 0x0003, 0, 2_816, 467_071),
        row(0xff60_aa2d, 2, 3, 0x0000, 0, 0, 467_072),
        row(0xf632_e14f, 3, 3, 0x0003, 2, 7_040, 467_073),
        row(0xd76d_d858, 3, 3, 0x0003, 2, 0, 86_462),
    ];
    assert_eq!(packet(&rows), include_str!("../captured/packet"));
}

#[test]
fn ptype_is_the_kernels_text() {
    let row = |protocol, device, function| PtypeRow { protocol, device, function };
    let rows = [
        row(None, Some("tap0"), "packet_rcv"),
        row(None, None, "packet_rcv"),
        row(Some(0x88b5), None, "packet_rcv"),
        row(Some(0x0800), None, "packet_rcv"),
        row(Some(0x0800), None, "ip_rcv"),
        row(Some(0x0004), None, "llc_rcv"),
        row(Some(0x0806), None, "arp_rcv"),
        row(Some(0x86dd), None, "ipv6_rcv"),
    ];
    assert_eq!(ptype(&rows), include_str!("../captured/ptype"));
}
