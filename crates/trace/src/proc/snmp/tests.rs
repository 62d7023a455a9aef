//! The texts against those that Linux 6.18 printed after a run of ICMP of many types, TCP and UDP over its loopback; of
//! the captured files only the UdpLite and MPTcpExt lines, which the stack has nothing of, were cut.

use super::*;
use crate::counters::Counter;

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
        snmp(&snapshot, true, 255),
        "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors InUnknownProtos InDiscards InDelivers \
         OutRequests OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragFails OutTransmits\n\
         Ip: 1 255 7 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
         Icmp: InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos \
         InEchoReps InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal \
         OutRateLimitHost OutDestUnreachs OutTimeExcds OutParmProbs OutEchoReps\n\
         Icmp: 2 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
         IcmpMsg: InType8 OutType0\n\
         IcmpMsg: 2 1\n\
         Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs \
         OutSegs RetransSegs InErrs OutRsts InCsumErrors\n\
         Tcp: 1 200 120000 -1 0 0 0 0 0 5 0 0 0 0 1\n"
    );
}

#[test]
fn netstat_prints_what_is_counted_in_the_kernels_order() {
    let snapshot = Snapshot::of(&[
        (Counter::TcpExtTCPHPHits, 3),
        (Counter::TcpExtTCPSACKReneging, 99),
        (Counter::IpExtInOctets, 1500),
    ]);
    let text = netstat(&snapshot);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("TcpExt: EmbryonicRsts PruneCalled RcvPruned OfoPruned TW PAWSActive "));
    assert!(!lines[0].contains("TCPSACKReneging"));
    assert_eq!(lines[1].split(' ').filter(|value| *value == "3").count(), 1);
    assert_eq!(
        lines[2],
        "IpExt: InTruncatedPkts InMcastPkts InBcastPkts InOctets OutOctets InMcastOctets InBcastOctets \
         InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps"
    );
    assert_eq!(lines[3], "IpExt: 0 0 0 1500 0 0 0 0 0 0 0 0 0");
    let kernel: Vec<&str> = LINUX_NETSTAT.lines().next().unwrap_or("").split(' ').collect();
    let places: Vec<usize> =
        lines[0].split(' ').map(|name| kernel.iter().position(|word| *word == name).expect(name)).collect();
    assert!(places.is_sorted());
}

#[test]
fn a_first_run_prints_no_icmp_types() {
    let text = snmp(&Snapshot::new(), false, 64);
    assert!(!text.contains("IcmpMsg"));
    assert!(!text.contains("Udp"));
    assert!(text.ends_with("\nTcp: 1 200 120000 -1 0 0 0 0 0 0 0 0 0 0 0\n"));
}
