//! The texts against those that Linux 6.18 printed after a run of ICMP of many types, TCP and UDP over its loopback; of
//! the captured files only the UdpLite and MPTcpExt lines, which the stack has nothing of, were cut.

use super::*;
use crate::counters::{COUNTED, Counter};

const LINUX_SNMP: &str = include_str!("../captured/snmp");
const LINUX_NETSTAT: &str = include_str!("../captured/netstat");

/// The counters that a text in the kernel's format shows.
fn read(text: &str) -> Snapshot {
    let mut counters = Vec::new();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (group, names) = names.split_once(": ").expect("a prefix");
        let (again, values) = values.split_once(": ").expect("a prefix");
        assert_eq!(group, again);
        assert_eq!(names.split(' ').count(), values.split(' ').count());
        for (name, value) in names.split(' ').zip(values.split(' ')) {
            if let Some(counter) = Counter::from_name(&format!("{group}{name}")) {
                counters.push((counter, value.parse().expect("a number")));
            } else {
                let constants = ["Forwarding", "DefaultTTL", "RtoAlgorithm", "RtoMin", "RtoMax", "MaxConn"];
                assert!(constants.contains(&name), "{group}{name} is no counter");
            }
        }
    }
    Snapshot::of(&counters)
}

#[test]
fn snmp_with_all_counters_is_the_kernels_text() {
    assert_eq!(snmp_of(&read(LINUX_SNMP), &Counter::ALL, false, 64), LINUX_SNMP);
}

#[test]
fn netstat_with_all_counters_is_the_kernels_text() {
    assert_eq!(netstat_of(&read(LINUX_NETSTAT), &Counter::ALL), LINUX_NETSTAT);
}

#[test]
fn every_counter_of_the_kernels_files_is_there_and_no_other() {
    let names = |text: &str| -> Vec<String> {
        let heads = text.lines().step_by(2).filter(|line| !line.starts_with("IcmpMsg"));
        heads
            .flat_map(|line| {
                let (group, names) = line.split_once(": ").expect("a prefix");
                names.split(' ').map(move |name| format!("{group}{name}")).collect::<Vec<_>>()
            })
            .collect()
    };
    let theirs: Vec<String> = [names(LINUX_SNMP), names(LINUX_NETSTAT)]
        .concat()
        .into_iter()
        .filter(|name| Counter::from_name(name).is_some())
        .collect();
    let ours: Vec<String> = Counter::ALL
        .iter()
        .filter(|counter| !matches!(counter.group(), Group::IcmpMsg | Group::Softnet | Group::Copied))
        .map(Counter::to_string)
        .collect();
    assert_eq!(theirs, ours);
}

/// A stack that counts little: the lines must not depend on what else is counted one day.
const FEW: &[Counter] = &[
    Counter::IpInReceives,
    Counter::IpOutTransmits,
    Counter::IcmpInMsgs,
    Counter::TcpInSegs,
    Counter::TcpInCsumErrors,
    Counter::TcpExtTCPHPHits,
    Counter::TcpExtTCPPureAcks,
    Counter::IpExtInTruncatedPkts,
    Counter::IpExtInOctets,
];

#[test]
fn only_what_is_counted_is_printed() {
    let snapshot = Snapshot::of(&[
        (Counter::IpInReceives, 7),
        (Counter::IpForwDatagrams, 99),
        (Counter::UdpInDatagrams, 99),
        (Counter::IcmpInMsgs, 2),
        (Counter::icmp_in(8), 2),
        (Counter::icmp_out(0), 1),
        (Counter::TcpInSegs, 5),
        (Counter::TcpInCsumErrors, 1),
    ]);
    assert_eq!(
        snmp_of(&snapshot, FEW, true, 255),
        "Ip: Forwarding DefaultTTL InReceives OutTransmits\n\
         Ip: 1 255 7 0\n\
         Icmp: InMsgs\n\
         Icmp: 2\n\
         IcmpMsg: InType8 OutType0\n\
         IcmpMsg: 2 1\n\
         Tcp: RtoAlgorithm RtoMin RtoMax MaxConn InSegs InCsumErrors\n\
         Tcp: 1 200 120000 -1 5 1\n"
    );
    let snapshot =
        Snapshot::of(&[(Counter::TcpExtTCPHPHits, 3), (Counter::TcpExtTW, 99), (Counter::IpExtInOctets, 1500)]);
    assert_eq!(
        netstat_of(&snapshot, FEW),
        "TcpExt: TCPHPHits TCPPureAcks\nTcpExt: 3 0\nIpExt: InTruncatedPkts InOctets\nIpExt: 0 1500\n"
    );
}

#[test]
fn what_is_counted_is_printed_in_the_kernels_order() {
    let counts: Vec<(Counter, u64)> = Counter::ALL.iter().map(|counter| (*counter, 1)).collect();
    let (ours, theirs) = (netstat(&Snapshot::of(&counts)), LINUX_NETSTAT.lines().step_by(2));
    for (ours, theirs) in ours.lines().step_by(2).zip(theirs) {
        let kernel: Vec<&str> = theirs.split(' ').collect();
        let names: Vec<&str> = ours.split(' ').collect();
        let places: Vec<usize> =
            names.iter().map(|name| kernel.iter().position(|word| word == name).expect(name)).collect();
        assert!(places.is_sorted() && names.len() > 10, "{ours}");
        let group = names[0].trim_end_matches(':');
        let counted = |name: &str| COUNTED.iter().any(|counter| counter.to_string() == format!("{group}{name}"));
        assert!(names[1..].iter().all(|name| counted(name)), "{ours}");
    }
}

#[test]
fn a_first_run_prints_no_icmp_types() {
    let text = snmp(&Snapshot::new(), false, 64);
    assert!(!text.contains("IcmpMsg"));
    assert!(text.contains("\nTcp: 1 200 120000 -1 0 0 0 0 0 0 0 0 0 0 0\n"));
}
