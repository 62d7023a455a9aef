//! The tools of others inside: curl, ping, and ss and nstat of iproute2 over our files, which must print what ours print.

use rxpath_testkit::{need_netns, need_tool, need_tun};
use serde_json::Value;

use crate::machine::{Folder, Ran, is_balanced_ledger, last_line, ran, rxpath};
use crate::serve::{HOST, serve};

/// Runs a script inside, in which `$rx` is our command and `$dir` a folder.
fn script(host: &str, text: &str) -> Ran {
    let folder = Folder::new();
    let mut command = serve(&folder, host, &["bash", "-euc", text]);
    command.env("rx", env!("CARGO_BIN_EXE_rxpath")).env("dir", folder.path("proc"));
    command.env("RXPATH_CONTROL", folder.path("rx.sock")).env("NSTAT_HISTORY", folder.path("history"));
    let ran = ran(command.output().expect("it starts"));
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(is_balanced_ledger(last_line(&ran.err)), "{}", ran.err);
    ran
}

/// The parts of an output between lines of `=====`.
fn parts(text: &str) -> Vec<&str> {
    text.split("=====\n").collect()
}

#[test]
fn curl_gets_a_page_and_bulk_data() {
    if !(need_tun() && need_netns() && need_tool("curl") && need_tool("bash")) {
        return;
    }
    let text = "curl -sS http://10.9.0.1/ http://10.9.0.1/; echo =====; curl -sS http://10.9.0.1/bytes/5000000 | md5sum; \
                echo =====; curl -sS -o /dev/null -w '%{http_code}' http://10.9.0.1/nothing";
    let ran = script(HOST, text);
    let parts = parts(&ran.out);
    assert_eq!(parts[0].matches("<!DOCTYPE html>").count(), 2, "over one connection: {}", ran.out);
    assert!(parts[0].contains("ledger: offered "), "{}", parts[0]);
    assert_eq!((parts[1], parts[2]), ("56b64a5e11fdaf3b8b378463fa83761f  -\n", "404"));
}

#[test]
fn the_kernels_end_has_the_address_that_it_was_given() {
    if !(need_tun() && need_netns() && need_tool("ip")) {
        return;
    }
    let folder = Folder::new();
    let (config, control) = (folder.file("host.toml", HOST), folder.path("rx.sock"));
    let mut arguments = vec!["serve", "--config", &config, "--control", &control, "--in-namespace"];
    arguments.extend(["--kernel-address", "10.9.0.77/24", "--exec", "ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
    let ran = ran(rxpath(&arguments).output().expect("it starts"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("inet 10.9.0.77/24 "), "{}", ran.out);
    assert!(ran.err.contains("the kernel's end of eth0 is 10.9.0.77/24"), "{}", ran.err);
}

#[test]
fn ping_is_answered() {
    if !(need_tun() && need_netns() && need_tool("ping") && need_tool("bash")) {
        return;
    }
    let ran = script(HOST, "ping -c 3 -i 0.2 -W 5 10.9.0.1; echo =====; $rx nstat -z 'Icmp*'");
    assert!(ran.out.contains("3 packets transmitted, 3 received, 0% packet loss"), "{}", ran.out);
    let counted = parts(&ran.out)[1];
    for counter in ["IcmpInEchos", "IcmpOutEchoReps", "IcmpMsgInType8", "IcmpMsgOutType0"] {
        assert!(counted.contains(&format!("{counter:<32}3 ")), "{counted}");
    }
}

#[test]
fn ss_of_iproute2_prints_what_ours_prints() {
    if !(need_tun() && need_netns() && need_tool("ss") && need_tool("bash")) {
        return;
    }
    // Nobody reads at chargen: 7 bytes stay in its receive queue. What it sends fills the client's window.
    let text = "exec 5<>/dev/tcp/10.9.0.1/19; printf unread! >&5; exec 6<>/dev/tcp/10.9.0.1/9; \
                for i in $(seq 100); do [ \"$($rx ss -tnH | grep -c ' 7  ')\" = 1 ] && break; sleep 0.1; done; sleep 0.5; \
                $rx proc --dir $dir >/dev/null; export PROC_ROOT=$dir; \
                ss -tn; echo =====; $rx ss -tn; echo =====; ss -s; echo =====; $rx ss -s; echo =====; \
                ss -tnlH | sort; echo =====; $rx ss -tnlH | sort";
    let ran = script(HOST, text);
    let parts = parts(&ran.out);
    assert_eq!(parts[0], parts[1], "ss -tn");
    assert_eq!(parts[2], parts[3], "ss -s");
    let unread = parts[0].lines().find(|line| line.contains("10.9.0.1:19 ")).expect("the connection is listed");
    let columns: Vec<&str> = unread.split_ascii_whitespace().collect();
    assert_eq!(columns[..2], ["ESTAB", "7"], "unread bytes are Recv-Q: {unread}");
    // /proc has no backlog, which ss shows as Send-Q of a listener where it asks the kernel.
    assert_eq!(parts[4], parts[5].replace(" 128 ", " 0   "), "ss -tnl");
    assert_eq!(parts[4].lines().count(), 4);
}

/// What `ss -tinmo` can say of a connection, in its order.
const SAYS: [&str; 52] = [
    "skmem",
    "ts",
    "sack",
    "ecn",
    "ecnseen",
    "cc",
    "wscale",
    "rto",
    "backoff",
    "rtt",
    "ato",
    "mss",
    "pmtu",
    "rcvmss",
    "advmss",
    "cwnd",
    "ssthresh",
    "bytes_sent",
    "bytes_retrans",
    "bytes_acked",
    "bytes_received",
    "segs_out",
    "segs_in",
    "data_segs_out",
    "data_segs_in",
    "bbr",
    "send",
    "lastsnd",
    "lastrcv",
    "lastack",
    "pacing_rate",
    "delivery_rate",
    "delivered",
    "delivered_ce",
    "app_limited",
    "busy",
    "rwnd_limited",
    "sndbuf_limited",
    "unacked",
    "retrans",
    "lost",
    "sacked",
    "dsack_dups",
    "reordering",
    "reord_seen",
    "rcv_rtt",
    "rcv_space",
    "rcv_ssthresh",
    "notsent",
    "minrtt",
    "rcv_ooopack",
    "snd_wnd",
];

/// The words below a socket: what each is about, and its form.
fn said(line: &str) -> Vec<(&str, String)> {
    let mut words = line.split_ascii_whitespace().peekable();
    let mut said = Vec::new();
    while let Some(word) = words.next() {
        let (about, value) = word.split_once(':').unwrap_or((word, ""));
        let value = match about {
            "send" | "pacing_rate" | "delivery_rate" => words.next().unwrap_or_default(),
            _ => value,
        };
        let form: String = value.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let form = form.split("0").filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("0");
        let about = if matches!(word, "cubic" | "reno" | "bbr") { "cc" } else { about };
        said.push((about, form));
    }
    said
}

#[test]
fn connections_tell_of_themselves_in_the_words_of_ss() {
    if !(need_tun() && need_netns() && need_tool("ss") && need_tool("bash")) {
        return;
    }
    // The client's end is the kernel's, the server's is ours. Nobody reads what chargen sends.
    let text = "exec 5<>/dev/tcp/10.9.0.1/7; printf hello >&5; head -c 5 <&5; exec 6<>/dev/tcp/10.9.0.1/19; sleep 0.7; \
                ss -tinmoH; echo =====; $rx ss -tinmoH; echo =====; $rx ss -tiH; echo =====; $rx ss -tn";
    let ran = script(HOST, text);
    let parts = parts(&ran.out);
    let place = |about: &str| SAYS.iter().position(|known| *known == about).unwrap_or_else(|| panic!("{about}?"));
    let mut forms = std::collections::BTreeMap::new();
    for (who, text) in ["the kernel", "rxpath"].into_iter().zip(&parts) {
        let below: Vec<&str> = text.lines().filter(|line| line.starts_with("\t ")).collect();
        assert_eq!(below.len(), 2, "{text}");
        for line in below {
            let said = said(line);
            let places: Vec<usize> = said.iter().map(|(about, _)| place(about)).collect();
            assert!(places.is_sorted(), "{who}: {line}");
            assert!(
                ["ts", "sack", "cc", "wscale", "rtt", "mss", "send"]
                    .iter()
                    .all(|must| said.iter().any(|(about, _)| about == must)),
                "{line}"
            );
            for (about, form) in said {
                let known = forms.entry(about).or_insert_with(|| form.clone());
                assert!(about == "bbr" || *known == form, "{about}: {known} and {form} of {who}");
            }
        }
    }
    // The window of the reader that does not read is closed: chargen probes it.
    let full = parts[1].lines().find(|line| line.contains("10.9.0.1:19 ")).expect("the connection is listed");
    assert!(full.contains(" timer:(persist,"), "{full}");
    assert!(parts[1].contains("rwnd_limited:") && parts[1].contains("notsent:"), "{}", parts[1]);
    assert!(
        !parts[2].contains(" sack ") && !parts[2].contains("timer:") && parts[2].contains(" cubic "),
        "{}",
        parts[2]
    );
    assert!(!parts[3].contains("rtt:"), "{}", parts[3]);
}

#[test]
fn datagram_sockets_are_shown_as_ss_of_iproute2_does() {
    if !(need_tun() && need_netns() && need_tool("ss") && need_tool("bash")) {
        return;
    }
    let services = "[[service]]\nlisten = \"0.0.0.0:7\"\napp = \"echo\"\nproto = \"udp\"\n\
                    [[service]]\nlisten = \"10.9.0.1:9\"\napp = \"discard\"\nproto = \"udp\"\n";
    let config = format!("{HOST}{services}");
    let text = "exec 5<>/dev/udp/10.9.0.1/7; printf hello >&5; head -c 5 <&5; echo; echo =====; \
                printf gone >/dev/udp/10.9.0.1/9; printf nobody >/dev/udp/10.9.0.1/99; \
                for i in $(seq 100); do [ \"$($rx nstat -z UdpInDatagrams | grep -c ' 2 ')\" = 1 ] && break; sleep 0.1; done; \
                $rx proc --dir $dir >/dev/null; export PROC_ROOT=$dir; \
                ss -uan; echo =====; $rx ss -uan; echo =====; ss -uanH; echo =====; $rx ss -uanH; echo =====; \
                ss -un; echo =====; $rx ss -un; echo =====; $rx nstat 'Udp*'";
    let ran = script(&config, text);
    let parts = parts(&ran.out);
    assert_eq!(parts[0], "hello\n");
    for pair in parts[1..7].chunks(2) {
        let [theirs, ours] = pair else { panic!("pairs") };
        assert_eq!(theirs, ours);
    }
    assert_eq!(parts[3].lines().count(), 2, "{}", parts[3]);
    for counted in [
        "UdpInDatagrams                  2 ",
        "UdpOutDatagrams                 1 ",
        "UdpNoPorts                      1 ",
    ] {
        assert!(parts[7].contains(counted), "{}", parts[7]);
    }
}

#[test]
fn nstat_of_iproute2_prints_what_ours_prints() {
    if !(need_tun() && need_netns() && need_tool("nstat") && need_tool("curl") && need_tool("bash")) {
        return;
    }
    // Until the connection has ended and nothing moves any more.
    let quiet =
        "for i in $(seq 100); do a=$($rx nstat -az); sleep 0.3; [ \"$a\" = \"$($rx nstat -az)\" ] && break; done";
    let text = format!(
        "curl -sS http://10.9.0.1/ >/dev/null; {quiet}; $rx proc --dir $dir >/dev/null; export PROC_ROOT=$dir; \
         nstat -az; echo =====; $rx nstat -az; echo =====; nstat -az --json; echo; echo =====; $rx nstat -az --json; echo =====; \
         nstat -a 'TcpExt*'; echo =====; $rx nstat 'TcpExt*'"
    );
    let ran = script(HOST, &text);
    let parts = parts(&ran.out);
    assert_eq!(parts[0], parts[1], "nstat -az");
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(json(parts[2]), json(parts[3]), "nstat --json");
    assert_eq!(parts[4], parts[5], "nstat with a pattern");
    assert!(parts[0].contains("TcpPassiveOpens                 1 "), "{}", parts[0]);
}

#[test]
fn an_interface_shows_what_its_rings_took() {
    if !(need_tun() && need_netns() && need_tool("curl") && need_tool("bash")) {
        return;
    }
    let text = "curl -sS http://10.9.0.1/ >/dev/null; $rx ethtool -S eth0; echo =====; $rx ethtool -S eth0 --json; \
                echo =====; $rx ethtool -S eth7 2>&1 || true";
    let ran = script(HOST, text);
    let parts = parts(&ran.out);
    let value = |name: &str| -> u64 {
        let line = parts[0].lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {}", parts[0]))
    };
    assert!(parts[0].starts_with("NIC statistics:\n"), "{}", parts[0]);
    assert!(value("rx_packets") >= 5 && value("rx_packets") == value("rx_queue_0_packets"), "{}", parts[0]);
    assert_eq!((value("rx_missed_errors"), value("rx_no_buffer_count"), value("rx_queue_0_drops")), (0, 0, 0));
    assert!(value("rx_pp_alloc_fast") > value("rx_packets"), "the ring was filled: {}", parts[0]);
    assert!(value("rx_pp_recycle_cached") >= 1, "handshakes gave slots back: {}", parts[0]);
    let rows: Vec<Value> = serde_json::from_str(parts[1]).expect("JSON");
    assert_eq!(rows[0]["name"], "rx_packets");
    assert!(parts[2].contains("no interface \"eth7\"; there is: eth0"), "{}", parts[2]);
}

#[test]
fn views_whose_output_is_not_taken_fail() {
    if !(need_tun() && need_netns() && need_tool("bash")) {
        return;
    }
    // To a full disk with a word, to a reader that went away without one.
    let views = "life 'life --json' drops 'ss -tnl' 'nstat -az' softnet 'ethtool -S eth0' route \"proc --dir $dir\"";
    let text = format!(
        "$rx life --select all >/dev/null; : 2>/dev/null >/dev/tcp/10.9.0.1/81 || true; sleep 0.3; for view in {views}; do $rx $view >/dev/full 2>$dir.err && exit 9; \
         grep -q 'writing the output: No space left on device' $dir.err || {{ echo $view; cat $dir.err; exit 8; }}; \
         set +o pipefail; {{ sleep 0.2; $rx $view || echo $? >$dir.code; }} 2>$dir.err | true; \
         [ \"$(cat $dir.code)\" = 1 ] && [ ! -s $dir.err ] || {{ echo $view; cat $dir.code $dir.err; exit 7; }}; done"
    );
    let ran = script(HOST, &text);
    assert_eq!(ran.out, "");
}

#[test]
fn lives_drops_and_softirqs_are_seen_from_outside() {
    if !(need_tun() && need_netns() && need_tool("curl") && need_tool("bash")) {
        return;
    }
    let text = "$rx life; echo =====; $rx life --select all; curl -sS http://10.9.0.1/ >/dev/null; \
                curl -sS http://10.9.0.1:81/ 2>/dev/null || true; sleep 0.3; echo =====; $rx life --last 100 --json; echo =====; \
                $rx life --dropped --filter tcp; echo =====; $rx drops; echo =====; $rx softnet; echo =====; $rx softnet --json; \
                echo =====; $rx life --last 100 --json --filter 'port 81 and tcp'; \
                echo =====; $rx life --select 'tcp and dst port 80'; $rx life --filter udp";
    let ran = script(HOST, text);
    let parts = parts(&ran.out);
    assert!(parts[0].starts_with("no lives (none is being recorded: "), "{}", parts[0]);
    assert_eq!(parts[1], "recorded from now on: all\n");
    let lives: Vec<Value> = parts[2].lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lives.len() > 8, "{}", parts[2]);
    assert!(lives.iter().any(|life| life["end"]["how"] == "delivered"), "{}", parts[2]);
    assert!(lives.iter().all(|life| life["status"] == "finished"), "{}", parts[2]);
    assert_eq!(parts[3].matches("DROPPED").count(), 1, "{}", parts[3]);
    assert!(parts[3].contains("NO_SOCKET"), "{}", parts[3]);
    assert!(parts[4].contains("1  NO_SOCKET ") && is_balanced_ledger(last_line(parts[4])), "{}", parts[4]);
    assert!(parts[5].starts_with("CPU  PROCESSED ") && parts[5].lines().count() == 3, "{}", parts[5]);
    let copied = last_line(parts[5]);
    assert!(copied.starts_with("payload bytes copied: recv ") && copied.ends_with(", unshare 0, split 0"), "{copied}");
    let softnet: Value = serde_json::from_str(parts[6]).expect("JSON");
    assert_eq!(softnet[0]["cpu"], 0);
    // The knock at the closed port, and its answer, which names it.
    let knock: Vec<Value> = parts[7].lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ends: Vec<&Value> = knock.iter().map(|life| &life["end"]["how"]).collect();
    assert_eq!(ends, ["dropped", "transmitted"], "{}", parts[7]);
    assert_eq!((&knock[0]["flow"]["dport"], &knock[1]["parent"]), (&81.into(), &knock[0]["id"]), "{}", parts[7]);
    assert!(
        parts[8].starts_with("recorded from now on: tcp and dst port 80\nno lives (none has ended that fits"),
        "{}",
        parts[8]
    );
}

#[test]
fn routes_are_shown_in_iproute2s_words_and_in_the_kernels() {
    if !(need_tun() && need_netns() && need_tool("bash")) {
        return;
    }
    let routes = "[[route]]\nto = \"192.0.2.0/24\"\nvia = \"10.9.0.254\"\nmetric = 5\n\
                  [[route]]\nto = \"198.51.100.0/24\"\ntype = \"unreachable\"\n";
    let text = "$rx route; echo =====; $rx route --table local; echo =====; $rx route --json; echo =====; \
                $rx proc --dir $dir >/dev/null; cat $dir/net/route";
    let ran = script(&format!("{HOST}{routes}"), text);
    let parts = parts(&ran.out);
    let main = "10.9.0.0/24 dev eth0 proto kernel scope link src 10.9.0.1 \n\
                192.0.2.0/24 via 10.9.0.254 dev eth0 metric 5 \n\
                unreachable 198.51.100.0/24 \n";
    let local = "local 10.9.0.1 dev eth0 proto kernel scope host src 10.9.0.1 \n\
                 broadcast 10.9.0.255 dev eth0 proto kernel scope link src 10.9.0.1 \n";
    assert_eq!((parts[0], parts[1]), (main, local));
    let rows: Vec<Value> = serde_json::from_str(parts[2]).expect("JSON");
    assert_eq!((rows.len(), &rows[0]["type"], &rows[0]["dst"]), (5, &"unicast".into(), &"10.9.0.0/24".into()));
    let lines: Vec<&str> = parts[3].lines().map(str::trim_end).collect();
    assert_eq!(lines[1], "eth0\t0000090A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0");
    assert_eq!(lines[2], "eth0\t000200C0\tFE00090A\t0003\t0\t0\t5\t00FFFFFF\t0\t0\t0");
    assert_eq!(lines[3], "*\t006433C6\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0");
}
