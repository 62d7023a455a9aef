//! Routes that come and go while packets look them up.

use std::sync::atomic::{AtomicBool, Ordering};

use rxpath::device::wire::{self, WireConfig};
use rxpath::rxpath_core::cx::Rng;
use rxpath::rxpath_core::route::{self, FibError, RouteKind, RouteSpec};
use rxpath::rxpath_wire::Addr;
use rxpath::{Interface, Mode, Stack};

fn stack(routes: &[RouteSpec]) -> Stack {
    let (eth0, _) = wire::port(WireConfig::named("d0"));
    let (eth1, _) = wire::port(WireConfig::named("d1"));
    let mut builder = Stack::builder()
        .interface(Interface::new(eth0).address("10.0.0.1/24").expect("an address"))
        .interface(Interface::new(eth1).address("192.168.0.1/16").expect("an address"))
        .mode(Mode::Polled);
    for route in routes {
        builder = builder.route(*route);
    }
    builder.build().expect("a stack")
}

fn v4(octets: [u8; 4]) -> Addr {
    Addr::from_v4(octets)
}

fn via(to: [u8; 4], prefix: u8, gateway: [u8; 4]) -> RouteSpec {
    RouteSpec { via: Some(v4(gateway)), ..RouteSpec::new(v4(to), prefix) }
}

#[test]
fn a_route_is_added_replaced_and_removed_while_the_stack_runs() {
    let stack = stack(&[]);
    let nexthop = || route::output(&stack.config(), v4([8, 8, 8, 8]), None).map(|route| route.nexthop).ok();
    assert_eq!(nexthop(), None);
    let before = stack.config();
    let first = via([0, 0, 0, 0], 0, [10, 0, 0, 254]);
    stack.change_routes(|fib, interfaces| fib.add_route(interfaces, &first)).expect("a route");
    assert_eq!(nexthop(), first.via);
    let kept = route::output(&stack.config(), v4([8, 8, 8, 8]), None).expect("a way");
    assert!(kept.is_current(&stack.config()) && !kept.is_current(&before));
    let second = via([0, 0, 0, 0], 0, [10, 0, 0, 253]);
    let refused = stack.change_routes(|fib, interfaces| fib.add_route(interfaces, &second));
    assert_eq!(refused, Err(FibError::Duplicate(second)));
    let replaced = stack.change_routes(|fib, interfaces| fib.replace_route(interfaces, &second));
    assert_eq!(replaced.expect("a route").and_then(|old| old.via), first.via);
    assert_eq!(nexthop(), second.via);
    assert!(!kept.is_current(&stack.config()), "who keeps a route looks again");
    let worse = RouteSpec { metric: 100, ..first };
    stack.change_routes(|fib, interfaces| fib.add_route(interfaces, &worse)).expect("another metric");
    assert_eq!(nexthop(), second.via);
    assert_eq!(stack.change_routes(|fib, _| fib.remove_route(&first)), None, "it has another gateway by now");
    assert!(stack.change_routes(|fib, _| fib.remove_route(&second)).is_some());
    assert_eq!(nexthop(), worse.via);
    let connected = RouteSpec::new(v4([10, 0, 0, 0]), 24);
    assert_eq!(stack.change_routes(|fib, _| fib.remove_route(&connected)), None, "the address's own route stays");
    let hole = RouteSpec { kind: RouteKind::Blackhole, ..via([9, 0, 0, 0], 8, [10, 0, 0, 2]) };
    let refused = stack.change_routes(|fib, interfaces| fib.add_route(interfaces, &hole));
    assert!(refused.expect_err("no gateway").to_string().contains("leave via out"));
}

/// A reader beside a writer finds the route of before or that of after, and never another's.
#[test]
fn readers_see_each_change_whole() {
    const SEED: u64 = 7;
    let stack = stack(&[via([0, 0, 0, 0], 0, [10, 0, 0, 254])]);
    let host = |n: u32| 0x1400_0000 | n << 12 | n;
    let gateway = |n: u32| [10, 0, 0, 2 + n as u8];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (config, stop) = (stack.config(), &stop);
            scope.spawn(move || {
                let mut rng = Rng::new(reader);
                while !stop.load(Ordering::Relaxed) {
                    let n = rng.below(64);
                    let found = config.fib.lookup_v4(host(n)).expect("the default route at least").via;
                    let expected = [u32::from_be_bytes(gateway(n)), u32::from_be_bytes([10, 0, 0, 254])];
                    assert!(expected.contains(&found), "{n} got {found:#x}");
                }
            });
        }
        let mut rng = Rng::new(SEED);
        stack.change_routes(|fib, interfaces| {
            for _ in 0..50_000 {
                let n = rng.below(64);
                let route = via(host(n).to_be_bytes(), 32, gateway(n));
                if fib.remove_route(&route).is_none() {
                    fib.add_route(interfaces, &route).expect("room");
                }
            }
        });
        stop.store(true, Ordering::Relaxed);
    });
}

/// The routes that Linux 6.18 was given when it printed the text below.
fn printed_by_the_kernel() -> Vec<RouteSpec> {
    let of = |kind, to, metric| RouteSpec { kind, metric, ..RouteSpec::new(v4(to), 8) };
    vec![
        via([198, 51, 100, 0], 24, [10, 0, 0, 254]),
        via([0, 0, 0, 0], 0, [10, 0, 0, 254]),
        RouteSpec { metric: 100, ..via([0, 0, 0, 0], 0, [10, 0, 0, 253]) },
        RouteSpec { src: Some(v4([192, 168, 0, 1])), ..via([8, 0, 0, 0], 8, [192, 168, 7, 9]) },
        RouteSpec { ifindex: Some(2), ..RouteSpec::new(v4([8, 8, 0, 0]), 16) },
        via([8, 8, 8, 8], 32, [10, 0, 0, 253]),
        of(RouteKind::Blackhole, [20, 0, 0, 0], 0),
        of(RouteKind::Unreachable, [21, 0, 0, 0], 0),
        of(RouteKind::Prohibit, [22, 0, 0, 0], 7),
        RouteSpec { ifindex: Some(2), onlink: true, ..via([23, 0, 0, 0], 8, [9, 9, 9, 9]) },
        RouteSpec { ifindex: Some(1), ..RouteSpec::new(v4([8, 0, 0, 0]), 24) },
    ]
}

#[test]
fn the_route_file_is_the_kernels() {
    let lines = [
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
        "d0\t00000000\tFE00000A\t0003\t0\t0\t0\t00000000\t0\t0\t0",
        "d0\t00000000\tFD00000A\t0003\t0\t0\t100\t00000000\t0\t0\t0",
        "d0\t00000008\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
        "d1\t00000008\t0907A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0",
        "d1\t00000808\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0",
        "d0\t08080808\tFD00000A\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0",
        "d0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
        "*\t00000014\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0",
        "*\t00000015\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0",
        "*\t00000016\t00000000\t0201\t0\t0\t7\t000000FF\t0\t0\t0",
        "d1\t00000017\t09090909\t0003\t0\t0\t0\t000000FF\t0\t0\t0",
        "d1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0",
        "d0\t006433C6\tFE00000A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0",
    ];
    let expected: String = lines.iter().map(|line| format!("{line:127}\n")).collect();
    assert_eq!(stack(&printed_by_the_kernel()).proc().route(), expected);
}
