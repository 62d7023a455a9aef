//! Counters by the kernel's names: read from its `/proc` texts, and from a stack.

use std::collections::BTreeMap;

use rxpath::Stack;
use rxpath_core::demux::stats::DevStat;
use rxpath_trace::Counter;
use rxpath_trace::counters::{COUNTED, Group};

/// Groups that both sides keep per namespace and a case can move.
const GROUPS: [Group; 7] =
    [Group::Ip, Group::Icmp, Group::IcmpMsg, Group::Tcp, Group::Udp, Group::TcpExt, Group::IpExt];

/// What both sides count, each by its own records of what is in flight.
const OWN: [Counter; 1] = [Counter::TcpExtTCPSackMerged];

/// Figures of interfaces that both sides keep.
const FIGURES: [&str; 7] =
    ["rx_packets", "rx_bytes", "rx_errors", "rx_dropped", "rx_otherhost_dropped", "tx_packets", "tx_bytes"];

/// Values of `/proc/net/snmp` or `netstat`: group and name in one.
pub fn parse(text: &str) -> BTreeMap<String, i64> {
    let mut values = BTreeMap::new();
    let mut lines = text.lines();
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let (Some((group, names)), Some((other, numbers))) = (names.split_once(": "), numbers.split_once(": ")) else {
            continue;
        };
        if group != other {
            continue;
        }
        for (name, number) in names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace()) {
            if let Ok(number) = number.parse() {
                values.insert(format!("{group}{name}"), number);
            }
        }
    }
    values
}

/// What rose, or fell, from `before` to `after`; what is missing in one of them is 0.
pub fn rises(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let value = |side: &BTreeMap<String, i64>, name: &String| side.get(name).copied().unwrap_or(0);
    let rise = |name: &String| (name.clone(), value(after, name) - value(before, name));
    before.keys().chain(after.keys()).map(rise).filter(|&(_, rise)| rise != 0).collect()
}

/// The counters of a stack, and the figures of its interfaces.
pub fn values_of(stack: &Stack) -> BTreeMap<String, i64> {
    let snapshot = stack.snapshot();
    let counted = snapshot.nonzero().map(|(counter, n)| (counter.to_string(), n.cast_signed()));
    let mut values: BTreeMap<String, i64> = counted.filter(|(name, _)| comparable(name)).collect();
    for interface in stack.interfaces() {
        let named = DevStat::NAMED.iter().filter(|(_, name)| FIGURES.contains(name));
        let pair = |&(stat, name): &(DevStat, &str)| {
            (format!("{} {name}", interface.name), interface.stats[stat].cast_signed())
        };
        values.extend(named.map(pair));
    }
    values
}

/// Whether a counter of this name is one that both sides count.
pub fn comparable(name: &str) -> bool {
    if let Some((_, figure)) = name.split_once(' ') {
        return FIGURES.contains(&figure);
    }
    Counter::from_name(name).is_some_and(|counter| {
        let numbered = counter.group() == Group::IcmpMsg;
        GROUPS.contains(&counter.group()) && !OWN.contains(&counter) && (numbered || COUNTED.contains(&counter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_under_their_names() {
        let text = "Tcp: InSegs CurrEstab\nTcp: 7 -1\nTcpExt: TW\nTcpExt: 2\nbroken\nIp: 1\nIcmp: A\nTcp: 3\n";
        let values = parse(text);
        let expected = [("TcpInSegs", 7), ("TcpCurrEstab", -1), ("TcpExtTW", 2)];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value)).into());
        let mut later = values.clone();
        later.insert("TcpInSegs".into(), 9);
        assert_eq!(rises(&values, &later), [("TcpInSegs".to_owned(), 2)].into());
        later.remove("TcpExtTW");
        assert_eq!(rises(&values, &later), [("TcpInSegs".to_owned(), 2), ("TcpExtTW".to_owned(), -2)].into());
    }

    #[test]
    fn what_is_not_counted_here_is_not_compared() {
        assert!(comparable("TcpExtTCPHPHits") && comparable("IcmpMsgInType8") && comparable("UdpInErrors"));
        assert!(
            !comparable("TcpExtTCPAutoCorking") && !comparable("UdpLiteInDatagrams") && !comparable("SoftnetProcessed")
        );
        assert!(comparable("twin0 rx_dropped") && !comparable("twin0 rx_nohandler"));
        assert!(!comparable("MPTcpExtMPCapableSYNRX"));
    }
}
