//! The texts of `/proc/net` against those of the kernel that the test runs on: what it prints is taken apart and printed
//! again.
#![cfg(target_os = "linux")]

use std::fs;

use rxpath::rxpath_trace::proc::{self, DevRow, PacketRow, PtypeRow};

fn kernels(file: &str) -> String {
    fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_else(|error| panic!("/proc/net/{file}: {error}"))
}

#[test]
fn dev_is_what_this_kernel_prints() {
    let text = kernels("dev");
    let row = |line: &str| {
        let (name, numbers) = line.split_once(':').expect("a name");
        let mut numbers = numbers.split_ascii_whitespace().map(|number| number.parse::<u64>().expect("a number"));
        let mut next = || numbers.next().expect("sixteen columns");
        // Columns that are sums of several figures are given to one of them.
        let row = DevRow {
            name: name.trim_start().to_owned(),
            rx_bytes: next(),
            rx_packets: next(),
            rx_errors: next(),
            rx_dropped: next(),
            rx_fifo_errors: next(),
            rx_frame_errors: next(),
            rx_compressed: next(),
            multicast: next(),
            tx_bytes: next(),
            tx_packets: next(),
            tx_errors: next(),
            tx_dropped: next(),
            tx_fifo_errors: next(),
            collisions: next(),
            tx_carrier_errors: next(),
            tx_compressed: next(),
            ..DevRow::default()
        };
        assert_eq!(numbers.next(), None, "{line}");
        row
    };
    let rows: Vec<DevRow> = text.lines().skip(2).map(row).collect();
    assert_eq!(proc::dev(&rows), text);
}

#[test]
fn ptype_is_what_this_kernel_prints() {
    let text = kernels("ptype");
    let row = |line| {
        let words: Vec<&str> = str::split_ascii_whitespace(line).collect();
        let (device, function) = match words[1..] {
            [function] => (None, function),
            [device, function] => (Some(device), function),
            _ => panic!("{line}"),
        };
        PtypeRow { protocol: u16::from_str_radix(words[0], 16).ok(), device, function }
    };
    let rows: Vec<PtypeRow<'_>> = text.lines().skip(1).map(row).collect();
    assert_eq!(proc::ptype(&rows), text);
}

#[test]
fn packet_is_what_this_kernel_prints() {
    let text = kernels("packet");
    let row = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |place: usize| words[place].parse::<u64>().expect("a number");
        PacketRow {
            cookie: u64::from_str_radix(words[0], 16).expect("hex"),
            refs: number(1) as u32,
            kind: number(2) as u32,
            protocol: u16::from_str_radix(words[3], 16).expect("hex"),
            ifindex: number(4) as u16,
            running: number(5) == 1,
            rmem: number(6),
            inode: number(8),
        }
    };
    let rows: Vec<PacketRow> = text.lines().skip(1).map(row).collect();
    assert_eq!(proc::packet(&rows), text);
}
