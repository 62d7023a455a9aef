//! A million routes: how long they take to load, to look up and to change. `cargo bench -p rxpath-bench --bench routes`.
#![allow(clippy::print_stdout, reason = "a report")]

use std::time::Instant;

use rxpath_core::cx::Rng;
use rxpath_core::netns::{IfAddr, Interface};
use rxpath_core::nic::{Features, TruesizeModel};
use rxpath_core::route::{Fib, RouteSpec};
use rxpath_wire::{Addr, MacAddr};

const ROUTES: usize = 1_000_000;
const LOOKUPS: u32 = 20_000_000;
const GATEWAYS: u32 = 64;

fn v4(word: u32) -> Addr {
    Addr::from_v4(word.to_be_bytes())
}

fn interface() -> Interface {
    Interface {
        xdp: Default::default(),
        ifindex: 1,
        name: "eth0".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1_500,
        queues: 1,
        features: Features::default(),
        truesize: TruesizeModel::Kernel,
        gro: false,
        addresses: vec![IfAddr { addr: v4(0x0a00_0001), prefix: 24 }],
        vlan: None,
        egress: Default::default(),
        ingress: Default::default(),
        promiscuity: Default::default(),
        conf: Default::default(),
        neigh: Default::default(),
    }
}

/// Lengths as in the Internet's own table: six in ten are /24, few are longer.
fn of_the_internet(rng: &mut Rng) -> RouteSpec {
    let prefix = match rng.below(1_000) {
        0..600 => 24,
        600..700 => 23,
        700..810 => 22,
        810..860 => 21,
        860..905 => 20,
        905..930 => 19,
        930..945 => 18,
        945..955 => 17,
        955..970 => 16,
        970..975 => 8 + rng.below(8) as u8,
        975..985 => 25 + rng.below(7) as u8,
        _ => 32,
    };
    let network = (0x0b00_0000 + rng.below(0xd400_0000)) & (u32::MAX << (32 - prefix));
    RouteSpec { via: Some(gateway(rng)), ..RouteSpec::new(v4(network), prefix) }
}

fn gateway(rng: &mut Rng) -> Addr {
    v4(0x0a00_0002 + rng.below(GATEWAYS))
}

fn report(what: &str, mut lookup: impl FnMut(u32) -> u32) {
    let begun = Instant::now();
    let sum = (0..LOOKUPS).fold(0u32, |sum, n| sum.wrapping_add(lookup(n)));
    std::hint::black_box(sum);
    println!("look-up, {what}: {:.1} ns", begun.elapsed().as_nanos() as f64 / f64::from(LOOKUPS));
}

fn main() {
    let (mut rng, interfaces) = (Rng::new(1_000_000), [interface()]);
    let Ok(mut fib) = Fib::build(&interfaces, &[]) else { return };
    let mut routes = Vec::new();
    let begun = Instant::now();
    while routes.len() < ROUTES {
        let route = of_the_internet(&mut rng);
        if fib.add_route(&interfaces, &route).is_ok() {
            routes.push(route);
        }
    }
    println!("{ROUTES} routes loaded in {:?}", begun.elapsed());
    let (looked_up, kept) = fib.memory();
    println!("memory: {} MiB for look-ups, {} MiB for changes", looked_up >> 20, kept >> 20);
    let word = |route: &RouteSpec| route.to.v4().map_or(0, u32::from);
    let spread: Vec<u32> = (0..1 << 20).map(|_| word(&routes[rng.below(ROUTES as u32) as usize])).collect();
    let via = |addr: u32| fib.lookup_v4(addr).map_or(0, |hop| hop.via);
    report("one destination", |n| via(spread[0] ^ (n & 1)));
    report("64 destinations", |n| via(spread[n as usize & 63]));
    report("1,024 destinations", |n| via(spread[n as usize & 1_023]));
    report("a million destinations", |n| via(spread[n as usize & ((1 << 20) - 1)]));
    let mut last = 0;
    report("64 destinations, each known when the one before is", |n| {
        last = via(spread[(n + (last & 1)) as usize & 63]);
        last
    });
    let begun = Instant::now();
    for route in &routes[..100_000] {
        let route = RouteSpec { via: Some(gateway(&mut rng)), ..*route };
        std::hint::black_box(fib.replace_route(&interfaces, &route).is_ok());
    }
    println!("a route replaced in place: {:?}", begun.elapsed() / 100_000);
    let begun = Instant::now();
    for route in &routes {
        std::hint::black_box(fib.remove_route(&RouteSpec { via: None, ..*route }).is_some());
    }
    println!("all removed in {:?}", begun.elapsed());
}
