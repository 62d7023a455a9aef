use std::collections::BTreeMap;
use std::io::ErrorKind;

use rxpath_wire::{Addr, MacAddr};

use super::{AddrType, Fib, FibError, InputRoute, Reject, RouteError, RouteKind, RouteSpec, input, output, output_by};
use crate::cx::Rng;
use crate::netns::{IfAddr, Interface, NetConfig};
use crate::testing::{self, interface};

fn v4(a: u8, b: u8, c: u8, d: u8) -> Addr {
    Addr::from_v4([a, b, c, d])
}

fn two_interfaces() -> Vec<Interface> {
    let second = Interface {
        ifindex: 2,
        name: "eth1".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 9]),
        mtu: 9_000,
        addresses: vec![
            IfAddr { addr: v4(192, 168, 0, 1), prefix: 16 },
            IfAddr { addr: v4(192, 168, 7, 1), prefix: 24 },
            IfAddr { addr: v4(172, 16, 0, 1), prefix: 31 },
            IfAddr { addr: v4(203, 0, 113, 7), prefix: 32 },
        ],
        ..interface()
    };
    vec![interface(), second]
}

fn net(routes: &[RouteSpec]) -> NetConfig {
    testing::net(two_interfaces(), routes)
}

fn net_with(routes: &[RouteSpec], sysctls: &[(&str, &str)]) -> NetConfig {
    testing::net_with(two_interfaces(), routes, sysctls)
}

fn via(to: Addr, prefix: u8, gateway: Addr) -> RouteSpec {
    RouteSpec { via: Some(gateway), ..RouteSpec::new(to, prefix) }
}

fn of_kind(kind: RouteKind, to: Addr, prefix: u8) -> RouteSpec {
    RouteSpec { kind, ..RouteSpec::new(to, prefix) }
}

#[test]
fn addresses_are_what_they_are() {
    let net = net(&[]);
    for (addr, expected) in [
        (v4(10, 0, 0, 1), AddrType::Local),
        (v4(203, 0, 113, 7), AddrType::Local),
        (v4(10, 0, 0, 255), AddrType::Broadcast),
        (v4(192, 168, 255, 255), AddrType::Broadcast),
        (v4(192, 168, 7, 255), AddrType::Broadcast),
        (v4(10, 0, 0, 0), AddrType::Unicast),
        (v4(172, 16, 0, 0), AddrType::Unicast),
        (v4(255, 255, 255, 255), AddrType::Broadcast),
        (v4(224, 0, 0, 1), AddrType::Multicast),
        (v4(0, 0, 0, 0), AddrType::Unspecified),
        (Addr::UNSPECIFIED_V6, AddrType::Unspecified),
        (v4(240, 0, 0, 1), AddrType::Unicast),
    ] {
        assert_eq!(net.fib.addr_type(addr), expected, "{addr}");
    }
    // More addresses than fit the places that are compared without a look-up.
    for own in [[10, 0, 0, 1], [192, 168, 0, 1], [192, 168, 7, 1], [172, 16, 0, 1], [203, 0, 113, 7]] {
        assert!(net.fib.is_own_v4(u32::from_be_bytes(own)), "{own:?}");
    }
    for foreign in [[10, 0, 0, 2], [0, 0, 0, 0], [10, 0, 0, 255]] {
        assert!(!net.fib.is_own_v4(u32::from_be_bytes(foreign)), "{foreign:?}");
    }
    assert!(!Fib::default().is_own_v4(0), "unused places are nobody's address");
}

#[test]
fn the_way_out_follows_the_longest_prefix() {
    let routes = [
        via(v4(0, 0, 0, 0), 0, v4(10, 0, 0, 254)),
        via(v4(8, 0, 0, 0), 8, v4(192, 168, 7, 9)),
        via(v4(8, 8, 8, 8), 32, v4(10, 0, 0, 253)),
    ];
    let net = net(&routes);
    for (dst, nexthop, ifindex, src) in [
        (v4(10, 0, 0, 77), v4(10, 0, 0, 77), 1, v4(10, 0, 0, 1)),
        (v4(1, 2, 3, 4), v4(10, 0, 0, 254), 1, v4(10, 0, 0, 1)),
        (v4(8, 1, 1, 1), v4(192, 168, 7, 9), 2, v4(192, 168, 0, 1)),
        (v4(8, 8, 8, 8), v4(10, 0, 0, 253), 1, v4(10, 0, 0, 1)),
        (v4(192, 168, 7, 3), v4(192, 168, 7, 3), 2, v4(192, 168, 7, 1)),
        (v4(192, 168, 9, 3), v4(192, 168, 9, 3), 2, v4(192, 168, 0, 1)),
        (v4(172, 16, 0, 0), v4(172, 16, 0, 0), 2, v4(172, 16, 0, 1)),
    ] {
        let route = output(&net, dst, None).unwrap_or_else(|error| panic!("{dst}: {error}"));
        assert_eq!((route.nexthop, route.ifindex, route.src), (nexthop, ifindex, src), "{dst}");
        assert_eq!((route.mac, route.generation, route.confirm), (None, 1, false));
    }
    assert_eq!(output(&net, v4(8, 1, 1, 1), None).map(|route| route.mtu), Ok(9_000));
    let bound = output(&net, v4(1, 2, 3, 4), Some(v4(203, 0, 113, 7)));
    assert_eq!(bound.map(|route| route.src), Ok(v4(203, 0, 113, 7)), "any address of ours may be a source");
}

#[test]
fn a_gateways_subnet_decides_over_the_source() {
    let net = net(&[via(v4(8, 0, 0, 0), 8, v4(192, 168, 7, 9))]);
    // 192.168.7.9 lies in both subnets of the interface; the first address that shares one with it is taken.
    assert_eq!(output(&net, v4(8, 8, 8, 8), None).map(|route| route.src), Ok(v4(192, 168, 0, 1)));
    let mut explicit = via(v4(9, 0, 0, 0), 8, v4(192, 168, 7, 9));
    explicit.src = Some(v4(192, 168, 7, 1));
    let net = self::net(&[explicit]);
    assert_eq!(output(&net, v4(9, 9, 9, 9), None).map(|route| route.src), Ok(v4(192, 168, 7, 1)));
}

#[test]
fn why_there_is_no_way_out() {
    let routes = [
        of_kind(RouteKind::Unreachable, v4(20, 0, 0, 0), 8),
        of_kind(RouteKind::Prohibit, v4(21, 0, 0, 0), 8),
        of_kind(RouteKind::Blackhole, v4(22, 0, 0, 0), 8),
    ];
    let net = net(&routes);
    for (dst, expected, kind) in [
        (v4(9, 9, 9, 9), RouteError::NetUnreachable as fn(Addr) -> RouteError, ErrorKind::NetworkUnreachable),
        (v4(20, 0, 0, 1), RouteError::HostUnreachable, ErrorKind::HostUnreachable),
        (v4(21, 0, 0, 1), RouteError::Prohibited, ErrorKind::PermissionDenied),
        (v4(22, 0, 0, 1), RouteError::Blackhole, ErrorKind::InvalidInput),
        (v4(10, 0, 0, 1), RouteError::Local, ErrorKind::Unsupported),
        (v4(10, 0, 0, 255), RouteError::NotUnicast, ErrorKind::NetworkUnreachable),
        (v4(224, 0, 0, 1), RouteError::NotUnicast, ErrorKind::NetworkUnreachable),
        (v4(0, 0, 0, 0), RouteError::NotUnicast, ErrorKind::NetworkUnreachable),
        (Addr::from(std::net::Ipv6Addr::LOCALHOST), RouteError::NetUnreachable, ErrorKind::NetworkUnreachable),
    ] {
        let error = output(&net, dst, None).expect_err("no way");
        assert_eq!((error, error.io_kind()), (expected(dst), kind));
        assert!(error.to_string().contains(&dst.to_string()), "{error}");
        assert_eq!(std::io::Error::from(error).kind(), kind);
    }
    assert_eq!(output(&net, v4(10, 0, 0, 2), Some(v4(10, 0, 0, 9))), Err(RouteError::SourceNotLocal(v4(10, 0, 0, 9))));
}

#[test]
fn the_lowest_metric_is_used() {
    let mut worse = via(v4(8, 0, 0, 0), 8, v4(10, 0, 0, 254));
    worse.metric = 100;
    let better = via(v4(8, 0, 0, 0), 8, v4(192, 168, 0, 254));
    for routes in [[worse, better], [better, worse]] {
        assert_eq!(output(&net(&routes), v4(8, 8, 8, 8), None).map(|route| route.ifindex), Ok(2));
    }
}

#[test]
fn routes_that_do_not_hold_together_are_refused_with_the_mend() {
    let refuse = |route: RouteSpec, expected: fn(RouteSpec) -> FibError, words: &str| {
        let error = Fib::build(&two_interfaces(), &[route]).expect_err("refused");
        assert_eq!(error, expected(route));
        assert!(error.to_string().contains(words), "{error}");
    };
    let net8 = v4(8, 0, 0, 0);
    refuse(RouteSpec::new(net8, 8), FibError::NoInterface, "name a gateway (via) or an interface (dev)");
    refuse(via(net8, 8, v4(9, 9, 9, 9)), FibError::ViaUnreachable, "not on the link");
    refuse(via(net8, 8, v4(10, 0, 0, 1)), FibError::ViaUnreachable, "not on the link");
    refuse(RouteSpec { ifindex: Some(9), ..RouteSpec::new(net8, 8) }, FibError::UnknownInterface, "no such interface");
    refuse(
        RouteSpec { ifindex: Some(2), ..via(net8, 8, v4(10, 0, 0, 254)) },
        FibError::ViaUnreachable,
        "not on the link",
    );
    refuse(
        RouteSpec { src: Some(v4(1, 1, 1, 1)), ..via(net8, 8, v4(10, 0, 0, 254)) },
        FibError::SourceNotLocal,
        "no address of an interface",
    );
    refuse(via(net8, 8, Addr::from(std::net::Ipv6Addr::LOCALHOST)), FibError::Families, "IPv4 and IPv6 do not mix");
    let bits = via(v4(8, 8, 0, 0), 8, v4(10, 0, 0, 254));
    let error = Fib::build(&two_interfaces(), &[bits]).expect_err("host bits");
    assert_eq!(error, FibError::HostBits(bits, net8));
    assert!(error.to_string().contains("8.0.0.0/8 is meant?"), "{error}");
    let twice = [via(net8, 8, v4(10, 0, 0, 254)), via(net8, 8, v4(10, 0, 0, 253))];
    let error = Fib::build(&two_interfaces(), &twice).expect_err("twice");
    assert_eq!(error, FibError::Duplicate(twice[1]));
    let long = RouteSpec::new(net8, 33);
    let error = Fib::build(&two_interfaces(), &[long]).expect_err("33 bits");
    assert_eq!(error.to_string(), "8.0.0.0/33: a prefix has at most 32 bits");
    for addr in [v4(224, 0, 0, 1), v4(127, 0, 0, 1), v4(0, 0, 0, 0), v4(255, 255, 255, 255)] {
        let bad = Interface { addresses: vec![IfAddr { addr, prefix: 24 }], ..interface() };
        assert_eq!(Fib::build(&[bad], &[]).expect_err("no host"), FibError::BadAddress(addr));
    }
}

#[test]
fn an_onlink_gateway_needs_no_subnet() {
    let route = RouteSpec { ifindex: Some(2), onlink: true, ..via(v4(0, 0, 0, 0), 0, v4(9, 9, 9, 9)) };
    let found = output(&net(&[route]), v4(1, 1, 1, 1), None).expect("a way");
    assert_eq!((found.nexthop, found.ifindex), (v4(9, 9, 9, 9), 2));
    assert_eq!(route.to_string(), "default via 9.9.9.9");
}

#[test]
fn ipv6_keys_are_looked_up_in_the_same_table() {
    let six = |text: &str| Addr::from(text.parse::<std::net::Ipv6Addr>().expect("an address"));
    let mut interfaces = two_interfaces();
    interfaces[0].addresses.push(IfAddr { addr: six("2001:db8::1"), prefix: 64 });
    let routes = [via(six("::"), 0, six("2001:db8::fe")), via(v4(0, 0, 0, 0), 0, v4(10, 0, 0, 254))];
    let net = testing::net(interfaces, &routes);
    assert_eq!(net.fib.addr_type(six("2001:db8::1")), AddrType::Local);
    let near = output(&net, six("2001:db8::7"), None).expect("on the link");
    assert_eq!((near.nexthop, near.src), (six("2001:db8::7"), six("2001:db8::1")));
    assert_eq!(output(&net, six("2001:db9::7"), None).map(|route| route.nexthop), Ok(six("2001:db8::fe")));
    assert_eq!(output(&net, v4(8, 8, 8, 8), None).map(|route| route.nexthop), Ok(v4(10, 0, 0, 254)));
    let only_six = testing::net(
        vec![Interface { addresses: vec![IfAddr { addr: six("2001:db8::1"), prefix: 64 }], ..interface() }],
        &[via(six("::"), 0, six("2001:db8::fe"))],
    );
    assert_eq!(
        output(&only_six, v4(8, 8, 8, 8), None),
        Err(RouteError::NetUnreachable(v4(8, 8, 8, 8))),
        "the default route of IPv6 is none of IPv4"
    );
}

#[test]
fn lookups_agree_with_a_scan_of_all_routes() {
    const SEED: u64 = 0xf1b;
    let mut rng = Rng::new(SEED);
    let mut routes: BTreeMap<(u32, u8), RouteSpec> = BTreeMap::new();
    for _ in 0..400 {
        let prefix = rng.below(33) as u8;
        let mask = if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) };
        let network = (rng.next_u64() as u32 & 0x0f0f_ffff | 0x2000_0000) & mask;
        let gateway = v4(10, 0, 0, 2 + rng.below(200) as u8);
        routes.insert((network, prefix), via(Addr::from_v4(network.to_be_bytes()), prefix, gateway));
    }
    let specs: Vec<RouteSpec> = routes.values().copied().collect();
    let net = net(&specs);
    for _ in 0..20_000 {
        let addr = rng.next_u64() as u32 & 0x0f0f_ffff | 0x2000_0000;
        let expected = routes
            .iter()
            .filter(|((network, prefix), _)| *prefix == 0 || (addr ^ network) >> (32 - prefix) == 0)
            .max_by_key(|((_, prefix), _)| *prefix)
            .and_then(|(_, route)| route.via);
        let found = net.fib.lookup(Addr::from_v4(addr.to_be_bytes())).and_then(|entry| entry.via);
        assert_eq!(found, expected, "{:?} with seed {SEED}", std::net::Ipv4Addr::from(addr));
    }
}

#[test]
fn where_received_packets_belong() {
    let net = net(&[]);
    let (us, peer, zero, all) = (v4(10, 0, 0, 1), v4(10, 0, 0, 2), v4(0, 0, 0, 0), v4(255, 255, 255, 255));
    let (subnet, group, lo) = (v4(10, 0, 0, 255), v4(224, 0, 0, 1), v4(127, 0, 0, 1));
    use InputRoute::{Broadcast, Local, Multicast};
    // As Linux 6.18 answers, frame by frame.
    for (src, dst, expected) in [
        (peer, us, Ok(Local)),
        (peer, v4(203, 0, 113, 7), Ok(Local)),
        (v4(0, 1, 2, 3), us, Ok(Local)),
        (v4(240, 0, 0, 1), us, Ok(Local)),
        (subnet, us, Ok(Local)),
        (v4(10, 0, 0, 0), us, Ok(Local)),
        (v4(224, 0, 0, 5), us, Err(Reject::InvalidSource)),
        (all, us, Err(Reject::InvalidSource)),
        (zero, us, Err(Reject::InvalidSource)),
        (zero, all, Ok(Broadcast)),
        (zero, zero, Ok(Broadcast)),
        (peer, all, Ok(Broadcast)),
        (peer, subnet, Ok(Broadcast)),
        (lo, us, Err(Reject::LocalNet)),
        (peer, lo, Err(Reject::LocalNet)),
        (peer, zero, Err(Reject::InvalidDestination)),
        (us, us, Err(Reject::LocalSource)),
        (us, all, Err(Reject::LocalSource)),
        (us, subnet, Err(Reject::LocalSource)),
        (peer, v4(10, 0, 0, 77), Err(Reject::NotOurs)),
        (peer, v4(8, 8, 8, 8), Err(Reject::NotOurs)),
        (peer, v4(10, 0, 0, 0), Err(Reject::NotOurs)),
        (peer, group, Ok(Multicast)),
        (zero, group, Ok(Multicast)),
        (peer, v4(224, 0, 0, 9), Err(Reject::NotJoined)),
        (v4(224, 1, 1, 1), group, Err(Reject::InvalidSource)),
        (us, group, Err(Reject::LocalSource)),
        (lo, group, Err(Reject::LocalNet)),
    ] {
        assert_eq!(input(&net, 1, src, dst), expected, "{src} to {dst}");
    }
}

#[test]
fn the_reverse_path_filter() {
    let (us, off_link, subnet) = (v4(10, 0, 0, 1), v4(100, 64, 0, 9), v4(10, 0, 0, 255));
    let strict = net_with(&[], &[("net.ipv4.conf.all.rp_filter", "1")]);
    for (src, dst, ifindex, expected) in [
        (v4(10, 0, 0, 2), us, 1, Ok(InputRoute::Local)),
        (v4(10, 0, 0, 2), us, 2, Err(Reject::ReversePath)),
        (off_link, us, 1, Err(Reject::ReversePath)),
        (off_link, subnet, 1, Err(Reject::ReversePath)),
        (off_link, v4(224, 0, 0, 1), 1, Err(Reject::ReversePath)),
        (subnet, us, 1, Err(Reject::InvalidSource)),
        (us, us, 1, Err(Reject::LocalSource)),
    ] {
        assert_eq!(input(&strict, ifindex, src, dst), expected, "{src} to {dst} on {ifindex}");
    }
    let loose = net_with(&[], &[("net.ipv4.conf.all.rp_filter", "2")]);
    assert_eq!(input(&loose, 2, v4(10, 0, 0, 2), us), Ok(InputRoute::Local));
    assert_eq!(input(&loose, 1, off_link, us), Err(Reject::ReversePath));
    let hole = of_kind(RouteKind::Blackhole, v4(100, 64, 0, 0), 10);
    let loose = net_with(&[hole], &[("net.ipv4.conf.default.rp_filter", "2")]);
    assert_eq!(input(&loose, 1, off_link, us), Err(Reject::ReversePath), "a blackhole is no way back");
    // The larger of the two settings counts, each interface for itself.
    let mixed = net_with(&[], &[("net.ipv4.conf.all.rp_filter", "1"), ("net.ipv4.conf.eth1.rp_filter", "2")]);
    assert_eq!(input(&mixed, 2, v4(10, 0, 0, 2), us), Ok(InputRoute::Local));
    assert_eq!(input(&mixed, 1, v4(192, 168, 0, 2), us), Err(Reject::ReversePath));
    let one = net_with(&[], &[("net.ipv4.conf.eth1.rp_filter", "1")]);
    assert_eq!(input(&one, 1, v4(192, 168, 0, 2), us), Ok(InputRoute::Local));
    assert_eq!(input(&one, 2, v4(10, 0, 0, 2), us), Err(Reject::ReversePath));
}

#[test]
fn tunables_let_local_sources_and_the_loopback_net_in() {
    let net = net_with(&[], &[("net.ipv4.conf.eth0.accept_local", "1"), ("net.ipv4.conf.all.route_localnet", "1")]);
    assert_eq!(input(&net, 2, v4(10, 0, 0, 1), v4(10, 0, 0, 1)), Err(Reject::LocalSource), "the other interface");
    assert_eq!(input(&net, 1, v4(10, 0, 0, 1), v4(10, 0, 0, 1)), Ok(InputRoute::Local));
    assert_eq!(input(&net, 1, v4(127, 0, 0, 2), v4(10, 0, 0, 1)), Ok(InputRoute::Local));
    assert_eq!(input(&net, 1, v4(10, 0, 0, 2), v4(127, 0, 0, 1)), Err(Reject::NotOurs), "no interface has it");
}

#[test]
fn each_interface_forwards_by_its_own_word() {
    let from = |ifindex: u16| (ifindex, v4(10, 0, 0, 2), v4(192, 168, 0, 9));
    let judged = |net: &NetConfig, (ifindex, src, dst)| input(net, ifindex, src, dst).map(InputRoute::number);
    let forward = Ok(1);
    let by_one = net_with(&[], &[("net.ipv4.conf.eth0.forwarding", "1")]);
    assert_eq!([1, 2].map(|ifindex| judged(&by_one, from(ifindex))), [forward, Err(Reject::NotOurs)]);
    let but_one = net_with(&[], &[("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.eth0.forwarding", "0")]);
    assert_eq!([1, 2].map(|ifindex| judged(&but_one, from(ifindex))), [Err(Reject::NotOurs), forward]);
}

#[test]
fn redirects_are_sent_and_taken_as_the_interface_says() {
    let (gateway, better, far) = (v4(10, 0, 0, 254), v4(10, 0, 0, 253), v4(8, 8, 8, 8));
    let default = via(v4(0, 0, 0, 0), 0, gateway);
    let now = rxpath_trace::Time::from_secs(1);
    let taken = |sysctls: &[(&str, &str)], routes: &[RouteSpec]| {
        super::do_redirect(&net_with(routes, sysctls), far, (gateway, better), now).is_some()
    };
    let off = ("net.ipv4.conf.eth0.accept_redirects", "0");
    let all_off = ("net.ipv4.conf.all.accept_redirects", "0");
    assert!(taken(&[], &[default]));
    assert!(taken(&[off], &[default]) && taken(&[all_off], &[default]), "either will do");
    assert!(!taken(&[off, all_off], &[default]));
    assert!(!taken(&[("net.ipv4.conf.eth0.forwarding", "1"), off], &[default]), "a router asks both");
    // Without shared media the new gateway must be of the old one's network and, as a rule, one that routes lead by.
    let apart = [("net.ipv4.conf.all.shared_media", "0"), ("net.ipv4.conf.eth0.shared_media", "0")];
    assert!(!taken(&apart, &[default]));
    let known = via(v4(9, 0, 0, 0), 8, better);
    assert!(taken(&apart, &[default, known]));
    let trusting = ["all", "eth0"].map(|scope| format!("net.ipv4.conf.{scope}.secure_redirects"));
    let [a, b] = trusting.each_ref().map(|name| (name.as_str(), "0"));
    assert!(taken(&[apart[0], apart[1], a, b], &[default]));
    // And what we send ourselves.
    let told = |sysctls: &[(&str, &str)]| {
        let mut with = vec![("net.ipv4.ip_forward", "1")];
        with.extend(sysctls);
        match input(&net_with(&[default], &with), 1, v4(10, 0, 0, 2), far) {
            Ok(InputRoute::Forward(way)) => way.redirect,
            other => panic!("{other:?}"),
        }
    };
    assert!(told(&[]) && told(&apart), "sender and gateway are of one network");
    assert!(!told(&[("net.ipv4.conf.all.send_redirects", "0"), ("net.ipv4.conf.eth0.send_redirects", "0")]));
}

/// As Linux 6.18 sent for sockets that were bound to an interface.
#[test]
fn who_asks_for_an_interface_goes_by_it_whatever_routes_say() {
    let net = net(&[
        via(v4(0, 0, 0, 0), 0, v4(10, 0, 0, 2)),
        via(v4(1, 2, 3, 0), 24, v4(192, 168, 0, 2)),
        of_kind(RouteKind::Unreachable, v4(7, 7, 7, 0), 24),
    ]);
    let (first, second) = (v4(10, 0, 0, 1), v4(192, 168, 0, 1));
    for (dst, ifindex, nexthop, src) in [
        (v4(8, 8, 8, 8), 1, v4(10, 0, 0, 2), first),
        // No route leads there by it, so it is on its link.
        (v4(8, 8, 8, 8), 2, v4(8, 8, 8, 8), second),
        (v4(10, 0, 0, 9), 2, v4(10, 0, 0, 9), second),
        // The longest prefix leads by another one, a shorter one by it.
        (v4(1, 2, 3, 4), 2, v4(192, 168, 0, 2), second),
        (v4(1, 2, 3, 4), 1, v4(10, 0, 0, 2), first),
        (v4(192, 168, 3, 3), 1, v4(10, 0, 0, 2), first),
        // What leads nowhere ends the search.
        (v4(7, 7, 7, 7), 1, v4(7, 7, 7, 7), first),
    ] {
        let route = output_by(&net, dst, None, Some(ifindex)).expect("a way");
        assert_eq!((route.ifindex, route.nexthop, route.src), (ifindex, nexthop, src), "{dst} by {ifindex}");
        assert_eq!(route.bound_to(), Some(ifindex));
        let theirs = output_by(&net, dst, Some(second), Some(ifindex)).expect("a way");
        assert_eq!((theirs.ifindex, theirs.src), (ifindex, second), "whose address it is makes no difference");
    }
    assert_eq!(output(&net, v4(8, 8, 8, 8), None).map(|route| route.bound_to()), Ok(None));
    assert_eq!(output_by(&net, v4(8, 8, 8, 8), None, Some(3)), Err(RouteError::NetUnreachable(v4(8, 8, 8, 8))));
    assert_eq!(output_by(&net, first, None, Some(2)), Err(RouteError::Local(first)));
}
