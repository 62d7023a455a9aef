use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error: FilterError| panic!("{}", error.explain(text)))
}

fn tcp(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16, tcp_flags: u8) -> Flow {
    Flow { src: src.into(), dst: dst.into(), proto: TCP, sport, dport, tcp_flags, ethertype: ETHERTYPE_IP }
}

/// Whether each of the texts matches a SYN from 10.0.0.1:40000 to 192.168.1.2:80.
fn check(cases: &[(&str, bool)]) {
    let syn = tcp([10, 0, 0, 1], 40_000, [192, 168, 1, 2], 80, 0x02);
    for (text, expected) in cases {
        assert_eq!(parsed(text).matches(&syn), *expected, "{text}");
    }
}

#[test]
fn addresses_match_by_side() {
    check(&[
        ("host 10.0.0.1", true),
        ("10.0.0.1", true),
        ("host 192.168.1.2", true),
        ("src 10.0.0.1", true),
        ("src host 10.0.0.1", true),
        ("dst 10.0.0.1", false),
        ("dst host 192.168.1.2", true),
        ("host 10.0.0.2", false),
        ("host ::ffff:10.0.0.1", true),
        ("host ::1", false),
    ]);
}

#[test]
fn prefixes_match_by_side_and_family() {
    check(&[
        ("net 10.0.0.0/8", true),
        ("10.0.0.0/8", true),
        ("src net 10.0.0.0/31", true),
        ("src net 10.0.0.0/32", false),
        ("src 10.0.0.1/32", true),
        ("dst net 10.0.0.0/8", false),
        ("dst 192.168.0.0/16", true),
        ("net 0.0.0.0/0", true),
        ("net ::/0", false),
        ("net ::ffff:10.0.0.0/104", true),
    ]);
    let six = Flow {
        src: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        dst: Ipv6Addr::LOCALHOST.into(),
        ethertype: ETHERTYPE_IP6,
        ..Flow::default()
    };
    assert!(parsed("net 2001:db8::/32").matches(&six));
    assert!(parsed("dst net ::/0 and dst ::1/128").matches(&six));
    assert!(!parsed("dst net 2001:db8::/32").matches(&six));
    assert!(!parsed("net 0.0.0.0/0").matches(&six));
}

#[test]
fn ports_match_by_side_and_range() {
    check(&[
        ("port 80", true),
        ("dst port 80", true),
        ("src port 80", false),
        ("src port 40000", true),
        ("port 79-81", true),
        ("port 81-100", false),
        ("port 0-65535", true),
        ("tcp port 80", true),
        ("udp port 80", false),
        ("tcp dst port 80", true),
        ("tcp src port 80", false),
    ]);
}

#[test]
fn protocols_and_ethertypes_match() {
    check(&[
        ("tcp", true),
        ("TCP", true),
        ("udp", false),
        ("icmp", false),
        ("proto 6", true),
        ("proto tcp", true),
        ("proto 47", false),
        ("ip", true),
        ("ip6", false),
        ("arp", false),
        ("ethertype 0x0800", true),
        ("ethertype 2048", true),
        ("ethertype 0X86DD", false),
    ]);
}

#[test]
fn flags_match_as_at_least_or_exactly() {
    check(&[
        ("flags syn", true),
        ("flags =syn", true),
        ("flags syn+ack", false),
        ("flags ack", false),
        ("not flags ack", true),
    ]);
    let syn_ack = tcp([1, 1, 1, 1], 1, [2, 2, 2, 2], 2, 0x12);
    for (text, expected) in
        [("flags syn", true), ("flags =syn", false), ("flags ACK+SYN", true), ("flags =syn+ack", true)]
    {
        assert_eq!(parsed(text).matches(&syn_ack), expected, "{text}");
    }
    let udp = Flow { proto: UDP, ..syn_ack };
    assert!(!parsed("flags syn").matches(&udp));
}

#[test]
fn not_binds_before_and_before_or() {
    check(&[
        ("udp or tcp and port 80", true),
        ("tcp or udp and port 81", true),
        ("(tcp or udp) and port 81", false),
        ("not udp and port 80", true),
        ("not (udp or port 80)", false),
        ("! udp && !(port 81) || arp", true),
        ("not not tcp", true),
        ("NOT udp AND port 80", true),
        ("src 10.0.0.1 and dst port 80 and tcp and flags syn", true),
    ]);
}

#[test]
fn what_a_packet_lacks_does_not_match() {
    let lldp = Flow { ethertype: 0x88cc, ..Flow::default() };
    for text in ["host 0.0.0.0", "net 0.0.0.0/0", "port 0", "proto 0", "flags fin", "ip", "tcp"] {
        assert!(!parsed(text).matches(&lldp), "{text}");
        assert!(parsed(&format!("not {text}")).matches(&lldp), "{text}");
    }
    assert!(parsed("ethertype 0x88cc").matches(&lldp));

    let arp =
        Flow { src: [10, 0, 0, 1].into(), dst: [10, 0, 0, 2].into(), ethertype: ETHERTYPE_ARP, ..Flow::default() };
    assert!(parsed("arp and src 10.0.0.1 and dst 10.0.0.2").matches(&arp));
    assert!(!parsed("port 0").matches(&arp));
    let icmp = Flow { proto: 1, ethertype: ETHERTYPE_IP, ..arp };
    assert!(parsed("icmp").matches(&icmp) && !parsed("port 0").matches(&icmp));
}

#[test]
fn mapped_addresses_in_a_flow_are_ipv4() {
    let src = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
    let flow = Flow { src: src.into(), ethertype: ETHERTYPE_IP, ..Flow::default() };
    assert!(parsed("src 10.0.0.1").matches(&flow));
    assert!(parsed("src net 10.0.0.0/8").matches(&flow));
}

#[test]
fn is_shown_in_one_spelling() {
    for (text, shown) in [
        ("10.0.0.1", "host 10.0.0.1"),
        ("src ::FFFF:10.0.0.1", "src host 10.0.0.1"),
        ("10.0.0.0/8", "net 10.0.0.0/8"),
        ("tcp dst port 80", "tcp and dst port 80"),
        ("port 80-80", "port 80"),
        ("proto 17", "udp"),
        ("ethertype 34525", "ip6"),
        ("ethertype 0x88CC", "ethertype 0x88cc"),
        ("flags ACK+SYN", "flags syn+ack"),
        ("flags =rst", "flags =rst"),
        ("((tcp)) && (udp && (icmp))", "tcp and udp and icmp"),
        ("(tcp or udp) and not (ip or arp)", "(tcp or udp) and not (ip or arp)"),
        ("tcp and udp or ip", "tcp and udp or ip"),
        ("!!tcp", "not not tcp"),
    ] {
        assert_eq!(parsed(text).to_string(), shown, "{text}");
        assert_eq!(parsed(shown), parsed(text), "{text}");
    }
}

#[test]
fn an_error_says_where_what_and_what_was_expected() {
    for (text, at, found, expected) in [
        ("", 0, "", "a condition: host, net"),
        ("   ", 3, "", "a condition: host, net"),
        ("tpc", 0, "tpc", "a condition: host, net"),
        ("tcp and", 7, "", "a condition: host, net"),
        ("tcp udp", 4, "udp", "`and`, `or`, or the end"),
        ("tcp )", 4, ")", "`and`, `or`, or the end: no parenthesis is open here"),
        ("(tcp", 4, "", "`)`, or `and` or `or` and another condition"),
        ("(tcp udp)", 5, "udp", "`)`, or `and` or `or`"),
        ("host", 4, "", "an address, such as `host 10.0.0.1`"),
        ("host example.org", 5, "example.org", "an address"),
        ("host 10.0.0.256", 5, "10.0.0.256", "an address"),
        ("src tcp", 4, "tcp", "`host`, `net`, `port` or an address"),
        ("net 10.0.0.0", 4, "10.0.0.0", "a prefix, such as `net 10.0.0.0/8`"),
        ("net 10.0.0.0/33", 4, "10.0.0.0/33", "a prefix length from 0 to 32"),
        ("net ::/129", 4, "::/129", "a prefix length from 0 to 128"),
        ("net 10.0.0.1/8", 4, "10.0.0.1/8", "`10.0.0.0/8`: the prefix has bits set behind its length"),
        ("net 2001:db8::1/32", 4, "2001:db8::1/32", "`2001:db8::/32`"),
        ("port", 4, "", "a port from 0 to 65535"),
        ("dst port http", 9, "http", "a port from 0 to 65535"),
        ("port 65536", 5, "65536", "a port from 0 to 65535"),
        ("port +80", 5, "+80", "a port from 0 to 65535"),
        ("port 80-", 5, "80-", "a port from 0 to 65535"),
        ("port 90-80", 5, "90-80", "the lower port first: `port 80-90`"),
        ("proto 256", 6, "256", "an IP protocol"),
        ("proto", 5, "", "an IP protocol"),
        ("ethertype 0x10000", 10, "0x10000", "an EtherType"),
        ("ethertype 0x+1", 10, "0x+1", "an EtherType"),
        ("flags", 5, "", "TCP flags: fin, syn"),
        ("flags syn+", 6, "syn+", "TCP flags: fin, syn"),
        ("flags syn,ack", 6, "syn,ack", "TCP flags: fin, syn"),
        ("tcp and\u{a0}é", 9, "é", "a condition"),
    ] {
        let error = text.parse::<Filter>().expect_err(text);
        assert_eq!((error.at, error.found.as_str()), (at, found), "{text}");
        assert!(error.expected.starts_with(expected), "{text}: {}", error.expected);
        assert!(error.explain(text).starts_with(text));
    }
}

#[test]
fn an_error_reads_well() {
    let text = "dst port http and tcp";
    let error = text.parse::<Filter>().expect_err(text);
    assert_eq!(
        error.explain(text),
        "dst port http and tcp\n         ^^^^\nfilter, byte 9: found `http`, expected a port from 0 to 65535 or a \
         range, such as `port 80` or `port 1000-1999`"
    );
    let error = "not".parse::<Filter>().expect_err("it ends too soon");
    assert!(error.to_string().starts_with("filter, byte 3: the text ends where it needs a condition: host, "));
}

#[test]
fn texts_without_bound_are_refused_and_long_ones_are_read() {
    let error = " ".repeat(MAX + 1).parse::<Filter>().expect_err("too long");
    assert_eq!((error.at, error.found.as_str()), (MAX, "more"));
    let many = format!("{}tcp", "port 80 or ".repeat(370));
    assert!(many.len() <= MAX);
    check(&[(&many, true)]);
    let nested = |n| format!("{}tcp{}", "(".repeat(n), ")".repeat(n));
    check(&[(&nested(32), true)]);
    assert!(nested(33).parse::<Filter>().expect_err("too deep").expected.starts_with("fewer parentheses"));
    check(&[(&format!("{}tcp", "not ".repeat(32)), true)]);
    for not in ["not ", "NOT ", "! "] {
        let error = format!("{}tcp", not.repeat(1000)).parse::<Filter>().expect_err("too deep");
        assert!(error.expected.starts_with("fewer parentheses"), "{not}");
    }
}

const MAX: usize = 4096;

/// Conditions of any shape, as text.
fn texts() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (prop_oneof!["", "src ", "dst "], any::<[u8; 4]>())
            .prop_map(|(side, ip)| format!("{side}host {}", Ipv4Addr::from(ip))),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| format!("src port {}-{}", a.min(b), a.max(b))),
        any::<u8>().prop_map(|proto| format!("proto {proto}")),
        any::<u16>().prop_map(|ethertype| format!("ethertype {ethertype:#x}")),
        (0u8..=32, any::<u32>()).prop_map(|(len, ip)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            format!("dst net {}/{len}", Ipv4Addr::from(ip & mask))
        }),
        (0usize..8, 0usize..8).prop_map(|(a, b)| format!("flags {}+{}", FLAG_NAMES[a], FLAG_NAMES[b])),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|text| format!("not ({text})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) || {b}")),
        ]
    })
}

fn flows() -> impl Strategy<Value = Flow> {
    (any::<[u8; 4]>(), any::<[u8; 4]>(), 0u8..20, any::<u16>(), any::<u16>(), any::<u8>(), 0usize..3).prop_map(
        |(src, dst, proto, sport, dport, tcp_flags, ethertype)| Flow {
            src: src.into(),
            dst: dst.into(),
            proto,
            sport,
            dport,
            tcp_flags,
            ethertype: ETHERTYPE_NAMES[ethertype].1,
        },
    )
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_at_a_place_in_it(text in "\\PC{0,80}") {
        if let Err(error) = text.parse::<Filter>() {
            prop_assert!(text.is_char_boundary(error.at));
            prop_assert!(text[error.at..].starts_with(&error.found));
        }
    }

    #[test]
    fn words_in_any_order_never_panic(words in proptest::collection::vec(
        prop_oneof!["src", "dst", "host", "net", "port", "not", "and", "or", "\\(", "\\)", "tcp", "flags", "=syn",
                    "10.0.0.1", "10.0.0.0/8", "80", "1-2", "proto", "ethertype", "0x"], 0..20)) {
        let text = words.join(" ");
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
        }
    }

    #[test]
    fn what_is_shown_means_the_same(text in texts(), flow in flows()) {
        let filter = parsed(&text);
        let again = parsed(&filter.to_string());
        prop_assert_eq!(&again, &filter);
        prop_assert_eq!(again.matches(&flow), filter.matches(&flow));
    }

    #[test]
    fn boolean_laws_hold(a in texts(), b in texts(), flow in flows()) {
        let says = |text: String| parsed(&text).matches(&flow);
        let (is_a, is_b) = (says(a.clone()), says(b.clone()));
        prop_assert_eq!(says(format!("({a}) and ({b})")), is_a && is_b);
        prop_assert_eq!(says(format!("({a}) or ({b})")), is_a || is_b);
        prop_assert_eq!(says(format!("not ({a})")), !is_a);
        prop_assert_eq!(says(format!("not (({a}) or ({b}))")), says(format!("not ({a}) and not ({b})")));
    }
}
