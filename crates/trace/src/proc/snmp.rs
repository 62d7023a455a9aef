//! `/proc/net/snmp` and `/proc/net/netstat`: pairs of lines, names above values.

use std::fmt::{Display, Write as _};

use crate::counters::{COUNTED, Counter, Group, Snapshot};

/// Numbered ICMP types in one pair of lines, as the kernel breaks them.
const ICMP_TYPES_PER_LINE: usize = 16;

/// The values of the Tcp line that are no counters: RtoAlgorithm (1, other), RtoMin and RtoMax in milliseconds, MaxConn
/// (-1, no limit).
const TCP_CONSTANTS: [(&str, i64); 4] = [("RtoAlgorithm", 1), ("RtoMin", 200), ("RtoMax", 120_000), ("MaxConn", -1)];

/// The text of `/proc/net/snmp`: what is counted of Ip, Icmp, IcmpMsg (the types that occurred), Tcp and Udp.
///
/// `forwarding`: whether the stack forwards (`Forwarding` is 1 if so, else 2). `default_ttl`: net.ipv4.ip_default_ttl.
pub fn snmp(snapshot: &Snapshot, forwarding: bool, default_ttl: u8) -> String {
    snmp_of(snapshot, COUNTED, forwarding, default_ttl)
}

/// The text of `/proc/net/netstat`: what is counted of TcpExt and IpExt.
pub fn netstat(snapshot: &Snapshot) -> String {
    netstat_of(snapshot, COUNTED)
}

fn snmp_of(snapshot: &Snapshot, counted: &[Counter], forwarding: bool, default_ttl: u8) -> String {
    let mut text = String::new();
    let ip = [("Forwarding", if forwarding { 1 } else { 2 }), ("DefaultTTL", i64::from(default_ttl))];
    write_group(&mut text, Group::Ip, &ip, snapshot, counted);
    write_group(&mut text, Group::Icmp, &[], snapshot, counted);
    write_icmp_types(&mut text, snapshot);
    write_group(&mut text, Group::Tcp, &TCP_CONSTANTS, snapshot, counted);
    write_group(&mut text, Group::Udp, &[], snapshot, counted);
    text
}

fn netstat_of(snapshot: &Snapshot, counted: &[Counter]) -> String {
    let mut text = String::new();
    write_group(&mut text, Group::TcpExt, &[], snapshot, counted);
    write_group(&mut text, Group::IpExt, &[], snapshot, counted);
    text
}

/// One group's two lines; nothing if nothing of it is counted.
fn write_group(text: &mut String, group: Group, constants: &[(&str, i64)], snapshot: &Snapshot, counted: &[Counter]) {
    let of_group: Vec<Counter> = counted.iter().copied().filter(|counter| counter.group() == group).collect();
    if of_group.is_empty() {
        return;
    }
    let names = constants.iter().map(|&(name, _)| name).chain(of_group.iter().map(|counter| counter.name()));
    write_line(text, group, names);
    write_values(text, group, constants, of_group.iter().map(|&counter| snapshot[counter]));
}

/// The types that occurred, received ones first, sixteen to a pair of lines.
fn write_icmp_types(text: &mut String, snapshot: &Snapshot) {
    let of_group = snapshot.nonzero().filter(|(counter, _)| counter.group() == Group::IcmpMsg);
    let occurred: Vec<(Counter, u64)> = of_group.collect();
    for some in occurred.chunks(ICMP_TYPES_PER_LINE) {
        write_line(text, Group::IcmpMsg, some.iter().map(|(counter, _)| counter.name()));
        write_values(text, Group::IcmpMsg, &[], some.iter().map(|&(_, value)| value));
    }
}

fn write_values(text: &mut String, group: Group, constants: &[(&str, i64)], values: impl Iterator<Item = u64>) {
    let constants = constants.iter().map(|(_, value)| value.to_string());
    write_line(text, group, constants.chain(values.map(|value| value.to_string())));
}

fn write_line(text: &mut String, group: Group, words: impl Iterator<Item = impl Display>) {
    text.push_str(group.name());
    text.push(':');
    for word in words {
        // Writing to a String cannot fail.
        let _ = write!(text, " {word}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests;
