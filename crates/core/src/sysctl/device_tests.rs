use super::*;

fn with(settings: &[(&str, &str)]) -> Sysctls {
    let mut sysctls = Sysctls::default();
    for (name, value) in settings {
        sysctls.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    sysctls
}

/// As the running kernel had it: interfaces take what `default` says until something is set for them.
#[test]
fn interfaces_begin_with_the_default_and_keep_what_is_set_for_them() {
    let sysctls = with(&[
        ("net.ipv4.conf.eth1.arp_ignore", "1"),
        ("net.ipv4.conf.default.arp_ignore", "3"),
        ("net/ipv4/conf/eth0.5/arp_ignore", "8"),
    ]);
    let of = |name: &str| sysctls.conf.devices.of(name).arp_ignore;
    assert_eq!(["eth0", "eth1", "eth0.5"].map(of), [3, 1, 8]);
    assert_eq!(sysctls.interfaces(), ["eth0.5", "eth1"]);
    assert_eq!(sysctls.show("net.ipv4.conf.eth0/5.arp_ignore").as_deref(), Some("8"));
    assert_eq!(sysctls.show("net.ipv4.conf.eth7.arp_ignore").as_deref(), Some("3"));
    assert_eq!(sysctls.show("net.ipv4.conf.default.arp_ignore").as_deref(), Some("3"));
    assert_eq!(sysctls.show("net.ipv4.conf.all.arp_ignore").as_deref(), Some("0"));
}

/// The rule of each tunable, for every pair of values.
#[test]
fn all_and_own_settings_make_what_holds_as_linux_puts_them_together() {
    for DeviceKnob { knob, combine } in CONF_KNOBS {
        let most = knob.most.min(2);
        for all in 0..=most {
            for own in 0..=most {
                let mut sysctls = Sysctls::default();
                for (scope, value) in [("all", all), ("eth0", own)] {
                    let name = format!("net.ipv4.conf.{scope}.{}", knob.name);
                    sysctls.set(&name, &value.to_string()).expect("within bounds");
                }
                let effective = sysctls.conf.effective("eth0");
                let mut held = Sysctls::default();
                held.conf.all = effective;
                let expected = match combine {
                    Combine::Or | Combine::OrUnlessForwarding => i64::from(all + own > 0),
                    Combine::Max => all.max(own),
                    Combine::Own | Combine::Spread => own,
                };
                let shown = held.show(&format!("net.ipv4.conf.all.{}", knob.name));
                assert_eq!(shown, Some(expected.to_string()), "{} all {all} own {own}", knob.name);
            }
        }
    }
}

/// As the running kernel had it: `ip_forward` is written through to every interface, once, and takes `accept_redirects` of
/// `all` with it.
#[test]
fn a_router_forwards_by_all_interfaces_and_takes_no_redirects() {
    let mut sysctls = with(&[("net.ipv4.conf.eth1.forwarding", "0"), ("net.ipv4.ip_forward", "1")]);
    let forwards = |sysctls: &Sysctls| {
        let of = |name: &str| sysctls.conf.effective(name);
        ["eth0", "eth1"].map(|name| (of(name).forwarding, of(name).accept_redirects))
    };
    assert_eq!(forwards(&sysctls), [(true, false); 2]);
    assert_eq!(sysctls.show("net.ipv4.conf.all.forwarding").as_deref(), Some("1"));
    sysctls.set("net.ipv4.conf.eth1.forwarding", "0").expect("set");
    assert_eq!(
        forwards(&sysctls),
        [(true, false), (false, true)],
        "what does not forward takes redirects by its own word"
    );
    sysctls.set("net.ipv4.conf.all.forwarding", "1").expect("set");
    assert_eq!(forwards(&sysctls), [(true, false), (false, true)], "it was on already");
    sysctls.set("net.ipv4.conf.all.accept_redirects", "1").expect("set");
    assert_eq!(forwards(&sysctls), [(true, true), (false, true)], "both say so");
    sysctls.set("net/ipv4/ip_forward", "0").expect("set");
    assert_eq!(forwards(&sysctls), [(false, true); 2]);
}

#[test]
fn names_of_interfaces_are_told_and_wrong_ones_mended() {
    assert_eq!(
        canonical("net/ipv4/conf/eth0.5/rp_filter"),
        Some(("net.ipv4.conf.eth0.5.rp_filter".to_owned(), Some("eth0.5".to_owned())))
    );
    assert_eq!(canonical("net.ipv4.ip_forward"), Some(("net.ipv4.conf.all.forwarding".to_owned(), None)));
    assert_eq!(canonical("net.ipv4.tcp_sack"), Some(("net.ipv4.tcp_sack".to_owned(), None)));
    assert_eq!(canonical("net.ipv4.conf..rp_filter"), None);
    assert_eq!(canonical("net.ipv4.conf.rp_filter"), None);
    let mut sysctls = Sysctls::default();
    let mut error = |name: &str, value: &str| sysctls.set(name, value).expect_err("bad").to_string();
    assert_eq!(
        error("net.ipv4.conf.eth0.rp_fliter", "1"),
        r#"unknown sysctl "net.ipv4.conf.eth0.rp_fliter"; did you mean "net.ipv4.conf.eth0.rp_filter"?"#
    );
    assert_eq!(error("rp_filter", "1"), r#"unknown sysctl "rp_filter"; did you mean "net.ipv4.conf.all.rp_filter"?"#);
    assert_eq!(
        error("net.ipv4.conf.eth0.rp_filter", "3"),
        r#"net.ipv4.conf.eth0.rp_filter = "3": 3 is not within 0 to 2; the default is "0""#
    );
    assert_eq!(
        error("net.ipv4.ip_forward", "2"),
        r#"net.ipv4.conf.all.forwarding = "2": 2 is not within 0 to 1; the default is "0""#
    );
    assert_eq!(sysctls, Sysctls::default());
}

#[test]
fn every_tunable_of_interfaces_is_shown_and_accepted_and_within_its_bounds() {
    for name in names() {
        let shown = Sysctls::default().show(&name).expect("a knob is shown");
        let mut sysctls = Sysctls::default();
        sysctls.set(&name, &shown).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(sysctls, Sysctls::default(), "{name}");
    }
}

#[test]
fn neighbours_have_tunables_by_interface_and_by_default_and_none_for_all() {
    let sysctls = with(&[
        ("net.ipv4.neigh.default.retrans_time_ms", "500"),
        ("net.ipv4.neigh.eth1.retrans_time_ms", "200"),
        ("net.ipv4.neigh.eth1.gc_stale_time", "7"),
        ("net.ipv4.neigh.default.gc_thresh3", "2048"),
    ]);
    let of = |name: &str| (sysctls.neigh.of(name).retrans_time_ms, sysctls.neigh.of(name).gc_stale_time);
    assert_eq!((of("eth0"), of("eth1"), sysctls.neigh_gc_thresh3), ((500, 60), (200, 7), 2_048));
    assert_eq!(sysctls.interfaces(), ["eth1"]);
    assert_eq!(Sysctls::default().show("net.ipv4.neigh.all.retrans_time_ms"), None);
    assert_eq!(Sysctls::default().show("net.ipv4.neigh.eth0.gc_thresh3"), None, "that is of the table");
}

/// As the running kernel read and wrote them.
#[test]
fn older_names_of_neighbours_tunables_have_their_own_units() {
    for (old, value, new, expected) in [
        ("base_reachable_time", "7", "base_reachable_time_ms", "7000"),
        ("retrans_time", "250", "retrans_time_ms", "2500"),
        ("unres_qlen", "3", "unres_qlen_bytes", "6270"),
    ] {
        let name = |last: &str| format!("net.ipv4.neigh.eth0.{last}");
        let sysctls = with(&[(&name(old), value)]);
        assert_eq!(sysctls.show(&name(new)).as_deref(), Some(expected));
        assert_eq!(sysctls.show(&name(old)).as_deref(), Some(value));
    }
    assert_eq!(Sysctls::default().show("net.ipv4.neigh.default.unres_qlen").as_deref(), Some("101"));
    let error = Sysctls::default().set("net.ipv4.neigh.eth0.base_reachable_time", "2147484").expect_err("too long");
    assert_eq!(
        error.to_string(),
        r#"net.ipv4.neigh.eth0.base_reachable_time_ms = "2147484": 2147484 is not within 0 to 2147483; the default is "30""#
    );
}
