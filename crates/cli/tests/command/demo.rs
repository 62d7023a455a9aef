//! `rxpath demo`.

use std::process::Command;

use rxpath_testkit::{need_netns, need_tool, need_tun};
use serde_json::Value;

use crate::machine::{is_balanced_ledger, last_line, ran, run};

/// What the injector's frames and the knock end as.
const REASONS: [&str; 4] = ["NO_SOCKET", "TCP_CSUM", "IP_INHDR", "TCP_INVALID_SEQUENCE"];

#[track_caller]
fn check_text(text: &str, err: &str) {
    assert!(text.contains("GET http://10.9.0.1/ -> 200 OK"), "{text}\n{err}");
    assert!(text.contains("32 MiB sent in ") && text.contains("connection refused, as it should be"), "{text}");
    assert!(text.contains("tcp_recvmsg: the application read "), "no life of a delivered packet: {text}");
    for reason in REASONS {
        assert!(text.contains(&format!(": {reason}, ")), "no life of a packet dropped as {reason}: {text}");
    }
    for counter in ["TcpInCsumErrors", "IpInHdrErrors", "TcpExtBeyondWindow", "TcpOutRsts"] {
        let moved = text.split("counters that moved").last().unwrap_or_default();
        let mut words = moved.split_ascii_whitespace().skip_while(|word| *word != counter);
        let value = words.nth(1).and_then(|value| value.parse::<u64>().ok());
        // Bulk data in a hurry may move them, too.
        assert!(value >= Some(1), "{counter}: {text}");
    }
    assert!(text.contains("lives, ledger and counters agree"), "{text}");
    assert!(is_balanced_ledger(last_line(text)), "{}", last_line(text));
}

#[track_caller]
fn check_json(text: &str, setting: &str) {
    let told: Value = serde_json::from_str(text).expect("one JSON object");
    assert_eq!((&told["ok"], &told["setting"]), (&true.into(), &setting.into()), "{told}");
    let acts: Vec<&Value> = told["acts"].as_array().expect("acts").iter().map(|act| &act["name"]).collect();
    assert_eq!(acts, ["page", "bulk", "knock", "inject"]);
    let dropped = told["dropped"].as_array().expect("lives");
    let reasons: Vec<&Value> = dropped.iter().map(|life| &life["end"]["reason"]).collect();
    // A machine in a hurry may add duplicates of its own.
    assert!(REASONS.iter().all(|reason| reasons.contains(&&Value::from(*reason))), "{reasons:?}");
    assert_eq!(told["delivered"]["end"]["how"], "delivered");
    assert_eq!((&told["faults"], &told["lives"]["records_lost"]), (&Value::Array(Vec::new()), &0.into()));
    assert_eq!((&told["ledger"]["balanced"], &told["ledger"]["held"]), (&true.into(), &0.into()));
}

#[test]
fn on_the_wire_everything_agrees() {
    let shown = run(&["demo", "--wire"]);
    check_text(&shown.out, &shown.err);
    assert!(shown.out.contains("in-memory wire") && shown.out.contains("--wire asks for"), "{}", shown.out);
    assert_eq!(shown.code, 0);
    let shown = run(&["demo", "--wire", "--json"]);
    check_json(&shown.out, "wire");
    assert_eq!(shown.code, 0);
}

#[test]
fn on_a_tap_everything_agrees() {
    if !(need_tun() && need_netns()) {
        return;
    }
    let shown = run(&["demo"]);
    check_text(&shown.out, &shown.err);
    assert!(shown.out.contains("in a private namespace; its clients are the kernel's own TCP"), "{}", shown.out);
    assert_eq!(shown.code, 0);
    let shown = run(&["demo", "--json"]);
    check_json(&shown.out, "tap");
    assert_eq!(shown.code, 0);
}

#[test]
fn where_no_tap_is_allowed_it_says_why_and_goes_on() {
    if !(need_netns() && need_tool("setpriv")) {
        return;
    }
    // A user without rights, in a namespace in which no further ones may be made.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_net_namespaces \
                  && exec setpriv --bounding-set=-all --inh-caps=-all -- \"$0\" demo";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, env!("CARGO_BIN_EXE_rxpath")]);
    let shown = ran(command.output().expect("unshare starts"));
    assert!(shown.out.contains("(no TAP in a private namespace: "), "{}\n{}", shown.out, shown.err);
    check_text(&shown.out, &shown.err);
    assert_eq!(shown.code, 0);
}
