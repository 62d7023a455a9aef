//! `rxpath replay` on captures made up from a seed.

use std::fs::File;
use std::io::{Cursor, Write as _};
use std::process::Stdio;

use rxpath::capture::CaptureReader;
use rxpath_sim::replay::synthetic::{self, HOST_TOML, pcap_header, pcap_record};

use crate::machine::{Folder, Ran, is_balanced_ledger, last_line, ran, run, rxpath};

/// A capture of a server's first packets, and the host.
fn scene(packets: u64) -> (Folder, String, String) {
    let folder = Folder::new();
    let capture = folder.path("server.pcap");
    let file = File::create(&capture).expect("the folder is there");
    synthetic::write_pcap(std::io::BufWriter::new(file), packets, 7).expect("the disk takes it");
    let host = folder.file("host.toml", HOST_TOML);
    (folder, capture, host)
}

fn replayed(arguments: &[&str]) -> Ran {
    let ran = run(&[&["replay"], arguments].concat());
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    ran
}

#[test]
fn a_capture_is_summed_up_and_the_ledger_is_the_last_line() {
    let (_folder, capture, host) = scene(600);
    let ran = replayed(&[&capture, "--config", &host]);
    assert!(ran.out.starts_with("600 packets in 0.0"), "{}", ran.out);
    for line in ["  delivered ", "  consumed ", "  sent by this host ", "\nTcpPassiveOpens "] {
        assert!(ran.out.contains(line), "no {line:?} in:\n{}", ran.out);
    }
    assert!(is_balanced_ledger(last_line(&ran.out)), "{}", ran.out);
    assert_eq!(ran.err, "");
}

#[test]
fn the_life_of_one_packet_is_told_by_its_number() {
    let (_folder, capture, host) = scene(100);
    let ran = replayed(&[&capture, "--config", &host, "--packet", "4"]);
    assert!(ran.out.starts_with("packet 4 of the capture at +0.000060 s: "), "{}", ran.out);
    assert!(ran.out.contains("tcp_v4_rcv") && ran.out.contains("offered by eth0 queue 0"), "{}", ran.out);
    let ran = replayed(&[&capture, "--config", &host, "--packet", "2"]);
    assert!(ran.out.contains(": sent by this host"), "{}", ran.out);
    let ran = run(&["replay", &capture, "--config", &host, "--packet", "101"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("has no packet 101: it has 100"), "{}", ran.err);
}

#[test]
fn a_filter_chooses_lives() {
    let (_folder, capture, host) = scene(100);
    let ran = replayed(&[&capture, "--config", &host, "--filter", "dst port 80 and flags =syn"]);
    let told = ran.out.matches(" of the capture at ").count();
    assert!(told >= 2 && ran.out.contains("+0 us      NIC"), "{}", ran.out);
    assert_eq!(told, ran.out.matches("was a step of a handshake, which was taken\n").count() / 2);
}

#[test]
fn machines_get_a_line_for_each_packet_and_the_summary() {
    let (_folder, capture, host) = scene(50);
    let ran = replayed(&[&capture, "--config", &host, "--json"]);
    let lines: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 51);
    assert_eq!((&lines[0]["fate"], &lines[0]["reason"]), (&"consumed".into(), &"handshake".into()));
    assert_eq!((&lines[1]["fate"], &lines[1]["id"]), (&"sent by this host".into(), &serde_json::Value::Null));
    assert_eq!((&lines[0]["number"], &lines[0]["flow"]["dport"]), (&1.into(), &80.into()));
    let summary = &lines[50];
    assert_eq!((&summary["type"], &summary["packets"]), (&"summary".into(), &50.into()));
    assert_eq!(summary["ledger"]["balanced"], true);
    assert_eq!(summary["ledger"]["offered"], summary["fed"]);
    let one = replayed(&[&capture, "--config", &host, "--json", "--packet", "1"]);
    let first: serde_json::Value = serde_json::from_str(one.out.lines().next().unwrap_or_default()).expect("JSON");
    assert_eq!(first["life"]["end"]["how"], "consumed");
    assert!(run(&["replay", "--help"]).out.contains("One JSON object per line."));
}

#[test]
fn the_capture_is_written_anew_with_every_fate() {
    let (folder, capture, host) = scene(80);
    let told = folder.path("told.pcapng");
    replayed(&[&capture, "--config", &host, "--pcapng", &told]);
    let original = std::fs::read(&capture).expect("the capture is there");
    let written = std::fs::read(&told).expect("the file was written");
    let mut before = CaptureReader::new(Cursor::new(&original)).expect("a capture");
    let mut after = CaptureReader::new(Cursor::new(&written)).expect("a capture");
    for _ in 0..80 {
        let before = before.next_packet().expect("sound").expect("a packet");
        let after = after.next_packet().expect("sound").expect("a packet");
        assert_eq!((before.data, before.time, before.wire_len), (after.data, after.time, after.wire_len));
    }
    assert!(after.next_packet().expect("sound").is_none());
    let has = |text: &str| written.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("consumed: handshake, it was a step of a handshake, which was taken"));
    assert!(has("sent by this host (evidence, not input)"));
    assert!(has("rxpath "));
    // What was told can be replayed again.
    assert!(is_balanced_ledger(last_line(&replayed(&[&told, "--config", &host]).out)));
}

#[test]
fn a_cut_capture_is_replayed_up_to_the_cut() {
    let (folder, capture, host) = scene(100);
    let whole = std::fs::read(&capture).expect("the capture is there");
    let cut = folder.path("cut.pcap");
    std::fs::write(&cut, &whole[..whole.len() - 10]).expect("the disk takes it");
    let ran = replayed(&[&cut, "--config", &host]);
    assert!(ran.out.starts_with("99 packets"), "{}", ran.out);
    let told = format!("warning: {cut} byte ");
    assert!(ran.err.contains(&told) && ran.err.contains("the 99 packets before that were replayed"), "{}", ran.err);
}

#[test]
fn what_cannot_be_read_at_all_is_an_error_with_its_mend() {
    let (folder, capture, host) = scene(1);
    let refused = |name: &str, bytes: &[u8], says: &str| {
        let path = folder.path(name);
        std::fs::write(&path, bytes).expect("the disk takes it");
        let ran = run(&["replay", &path, "--config", &host]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{name}");
        assert!(ran.err.contains(&path) && ran.err.contains(says), "{name}: {}", ran.err);
    };
    refused("empty", &[], "is empty");
    refused("gzip", &[0x1f, 0x8b, 8, 0], "undo that first: gunzip");
    refused("text", b"hello, world", "is no capture: it begins with 68 65 6c 6c");
    refused("header", &pcap_header(1)[..12], "ends within the header of the file: 12 of 24 bytes");
    refused("record", &[&pcap_header(1)[..], &[1, 2, 3]].concat(), "byte 24: ends within a packet: 3 of 16 bytes");
    let missing = folder.path("missing.pcap");
    let ran = run(&["replay", &missing, "--config", &host]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains(&missing) && ran.err.contains("No such file"), "{}", ran.err);
    let ran = run(&["replay", &capture, "--config", &missing]);
    assert_eq!(ran.code, 2);
    let ran = run(&["replay", &capture, "--config", &host, "--pcapng", &capture]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("is the capture itself"), "{}", ran.err);
    let ran = run(&["replay", &capture, "--config", &host, "--pcapng", &folder.path("no/such/folder")]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("--pcapng"), "{}", ran.err);
}

#[test]
fn an_unknown_link_type_is_listed_and_standard_input_is_read() {
    let (_folder, _, host) = scene(1);
    let mut file = pcap_header(147);
    file.extend(pcap_record(1_000_000_000, 4, &[1, 2, 3, 4]));
    let mut child = rxpath(&["replay", "-", "--config", &host])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    child.stdin.take().expect("it is piped").write_all(&file).expect("it is read");
    let ran = ran(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("1  not fed  link type 147"), "{}", ran.out);
    assert!(is_balanced_ledger(last_line(&ran.out)), "{}", ran.out);
}

#[test]
fn no_service_on_a_port_is_told_with_what_the_capture_shows() {
    let (folder, capture, _) = scene(40);
    let (host, _) = HOST_TOML.split_once("[[service]]").expect("it has a service");
    let host = folder.file("closed.toml", host);
    let ran = replayed(&[&capture, "--config", &host]);
    assert!(ran.out.contains("NO_SOCKET"), "{}", ran.out);
    assert!(ran.out.contains("accepts connections on 10.9.0.1:80, where the configuration has no [[service]]"));
    assert!(ran.out.contains("flow not followed"), "{}", ran.out);
}

#[test]
fn where_the_host_listened_can_be_named() {
    let folder = Folder::new();
    let header = [&[0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0][..], &[10, 9, 0, 2], &[10, 9, 0, 1]].concat();
    let datagram =
        [&[0x52, 0x54, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 9, 8, 0][..], &header, &[20, 233, 0, 53, 0, 12, 0, 0]];
    let mut frame = [&datagram.concat()[..], b"hey!"].concat();
    rxpath::rxpath_wire::ipv4::fill_checksum(&mut frame[14..34]);
    let mut file = pcap_header(1);
    file.extend(pcap_record(1_700_000_000_000_000_000, frame.len(), &frame));
    let capture = folder.path("one.pcap");
    std::fs::write(&capture, file).expect("the disk takes it");
    let host = folder.file("host.toml", HOST_TOML);
    let of =
        |listen: &[&str]| replayed(&[&[&capture as &str, "--config", &host, "--packet", "1"], listen].concat()).out;
    assert!(of(&[]).contains("name its sockets"), "{}", of(&[]));
    assert!(of(&["--listen", "udp:53"]).contains("udp_recvmsg"), "{}", of(&["--listen", "udp:53"]));
    assert!(of(&["--listen", "udp:10.9.0.1:54"]).contains("NO_SOCKET"));
    let wrong = run(&["replay", &capture, "--config", &host, "--listen", "udp:0"]);
    assert!(wrong.code == 2 && wrong.err.contains("is no port"), "{}", wrong.err);
}
