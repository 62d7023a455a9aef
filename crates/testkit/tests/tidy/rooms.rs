//! The rooms of the core: who imports whom, and that none reaches the operating system.

use crate::paths::{Import, imports, is_for_tests, module_of};
use crate::tree::Source;

/// The core's modules from the ground up; one may import those of the lines before it, and those of its own line, which
/// are two sides of one thing. This is not the order of the path, which ARCHITECTURE.md has: a room never calls the next
/// one, and what several rooms stand on comes first.
const FROM_THE_GROUND_UP: [&[&str]; 16] = [
    &["sysctl"],
    &["expect"],
    &["timer"],
    &["nic"],
    &["route"],
    &["netfilter"],
    &["demux"],
    &["neigh", "tx"],
    &["ip", "icmp"],
    &["socket", "tcp"],
    &["udp", "raw"],
    &["xdp"],
    &["gro"],
    &["path"],
    &["napi"],
    &["stack"],
];

/// The context and the configuration name the rooms' state, and the rooms name them in their signatures: the one circle.
pub const SHARED: [&str; 2] = ["cx", "netns"];

/// What carries packets between rooms, and what drives it: no room imports these.
const ABOVE_ROOMS: [&str; 3] = ["path", "napi", "stack"];

/// Imports between rooms that the order does not allow.
pub fn findings(core: &[&Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in core {
        let module = module_of(&source.path);
        let Some(room) = module.first().filter(|_| !is_for_tests(&module)) else { continue };
        if !SHARED.contains(&room.as_str()) && rank(room).is_none() {
            findings.push(format!("{}: {room:?} is a new room; give it its place in {}", source.path, file!()));
            continue;
        }
        match imports(source) {
            Ok(imports) => findings.extend(imports.iter().filter_map(|import| wrong(source, room, import))),
            Err(error) => findings.push(error),
        }
    }
    findings
}

fn wrong(source: &Source, room: &str, import: &Import) -> Option<String> {
    let [root, imported, ..] = import.segments.as_slice() else { return None };
    if root != "crate" || imported == room || SHARED.contains(&imported.as_str()) {
        return None;
    }
    let place = format!("{}:{}", source.path, import.line);
    if ABOVE_ROOMS.contains(&imported.as_str()) && !ABOVE_ROOMS.contains(&room) {
        return Some(format!("{place}: {room} imports {imported}; a room returns a fate and never carries packets on"));
    }
    match (rank(imported), rank(room)) {
        // Not a module of the list: a macro or an item of the crate's root. Shared modules name the state of all rooms.
        (None, _) | (_, None) => None,
        (Some(below), Some(above)) if below <= above => None,
        _ => Some(format!("{place}: {room} imports {imported}, which stands above it; imports run one way")),
    }
}

fn rank(room: &str) -> Option<usize> {
    FROM_THE_GROUND_UP.iter().position(|line| line.contains(&room))
}

/// Uses of the clock, threads, files, environment, sockets or system calls.
pub fn system_use(core: &[&Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in core {
        let imports = match imports(source) {
            Ok(imports) => imports,
            Err(error) => return vec![error],
        };
        for import in imports.iter().filter(|import| reaches_system(&import.segments)) {
            let path = import.segments.join("::");
            findings.push(format!(
                "{}:{}: {path}: the core reaches no system; time and frames are handed in",
                source.path, import.line
            ));
        }
    }
    findings
}

fn reaches_system(segments: &[String]) -> bool {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let has = |pair: [&str; 2]| segments.windows(2).any(|window| window == pair);
    let first_is = |names: &[&str]| segments.first().is_some_and(|first| names.contains(first));
    let calls = ["spawn", "scope", "Builder", "sleep", "park", "park_timeout"];
    first_is(&["libc", "rustix", "nix", "tokio"])
        || ["fs", "env", "process", "os"].iter().any(|module| has(["std", module]))
        || ["TcpStream", "TcpListener", "UdpSocket"].iter().any(|socket| has(["net", socket]))
        || calls.iter().any(|call| has(["thread", call]))
        || segments.iter().any(|segment| ["Instant", "SystemTime"].contains(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, text: &str) -> Vec<String> {
        findings(&[&Source::sample(path, text)])
    }

    fn system(text: &str) -> usize {
        system_use(&[&Source::sample("crates/core/src/tcp/mod.rs", text)]).len()
    }

    #[test]
    fn an_import_against_the_order_is_found_in_every_form() {
        let wrong = "crates/core/src/demux/mod.rs:1: demux imports tx, which stands above it; imports run one way";
        assert_eq!(of("crates/core/src/demux/mod.rs", "use crate::tx::Outbox;"), [wrong]);
        assert_eq!(of("crates/core/src/demux/mod.rs", "use crate::{cx::Cx, route, tx::{A, B as C}};").len(), 2);
        assert_eq!(of("crates/core/src/demux/mod.rs", "use super::tx;"), [wrong]);
        assert_eq!(of("crates/core/src/demux/table.rs", "use super::super::tx::*;").len(), 1);
        assert_eq!(of("crates/core/src/demux/table.rs", "fn a(x: &crate::tx::A) { crate::tx::b(x) }").len(), 2);
        assert_eq!(of("crates/core/src/demux.rs", "use crate::tx as t;").len(), 1);
    }

    #[test]
    fn what_the_order_allows_is_not_found() {
        assert_eq!(
            of("crates/core/src/tx/mod.rs", "use crate::{cx::Cx, neigh::A, netns::B};\nuse super::route;"),
            [""; 0]
        );
        assert_eq!(
            of("crates/core/src/demux/table.rs", "use super::A;\nuse self::b::C;\nuse crate::demux::D;"),
            [""; 0]
        );
        assert_eq!(
            of("crates/core/src/demux/mod.rs", "//! [`crate::tx`]\n#[cfg(test)]\nmod tests { use crate::tx; }"),
            [""; 0]
        );
        assert_eq!(of("crates/core/src/cx.rs", "use crate::tx::Outbox;"), [""; 0]);
        assert_eq!(of("crates/core/src/stack.rs", "use crate::{path, tcp};"), [""; 0]);
    }

    #[test]
    fn a_room_that_carries_packets_on_is_found() {
        let found = of("crates/core/src/ip/mod.rs", "fn a() { crate::path::carry() }");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("ip imports path; a room returns a fate"), "{found:?}");
    }

    #[test]
    fn a_room_without_a_place_is_found() {
        assert_eq!(of("crates/core/src/attic/mod.rs", "").len(), 1);
    }

    #[test]
    fn reaching_the_system_is_found() {
        assert_eq!(system("use std::time::Instant;"), 1);
        assert_eq!(system("fn a() { let t = std::time::SystemTime::now(); }"), 1);
        assert_eq!(system("use std::{fs::File, net::TcpStream, process};"), 3);
        assert_eq!(system("use std::thread; fn a() { thread::spawn(b); thread::sleep(c) }"), 2);
        assert_eq!(system("use rustix::net;"), 1);
        assert_eq!(system("use std::net::{IpAddr, Ipv4Addr}; use std::time::Duration; use std::sync::Arc;"), 0);
        assert_eq!(system("#[cfg(test)]\nmod tests { use std::time::Instant; }"), 0);
    }
}
