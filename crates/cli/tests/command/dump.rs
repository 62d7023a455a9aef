//! `rxpath dump` of a running `rxpath serve`, by clients inside its namespace.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rxpath::capture::{CaptureReader, Direction};
use rxpath::rxpath_wire::frame::flow_of;
use rxpath_testkit::{need_netns, need_tool, need_tun};
use serde_json::Value;

use crate::inside::INSIDE;
use crate::machine::{Folder, Ran, is_balanced_ledger, last_line, ran, run, rxpath};
use crate::serve::{HOST, serve};

/// Set to the folder of the control socket where a test runs inside.
const FOLDER: &str = "RXPATH_TEST_DUMP";

/// Runs a test of this program inside.
fn inside(folder: &Folder, test: &str) -> Ran {
    let program = std::env::current_exe().expect("this program has a path");
    let exec = [program.to_str().expect("UTF-8"), "--exact", "--nocapture", test];
    let ran =
        ran(serve(folder, HOST, &exec).env(INSIDE, "1").env(FOLDER, folder.path("")).output().expect("it starts"));
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("1 passed"), "{}", ran.out);
    assert!(is_balanced_ledger(last_line(&ran.err)), "{}", ran.err);
    ran
}

/// A path in the folder, for a test inside.
fn path(name: &str) -> Option<String> {
    std::env::var(FOLDER).ok().map(|folder| format!("{folder}{name}"))
}

/// A dump that watches already, and what it says after that.
struct Dump {
    child: Child,
    err: BufReader<std::process::ChildStderr>,
}

impl Dump {
    fn start(arguments: &[&str]) -> Dump {
        let control = path("rx.sock").expect("inside");
        let mut command = rxpath(&["dump", "--control", &control]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut err = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        err.read_line(&mut line).expect("a line");
        assert_eq!(line, "watching eth0; Ctrl-C ends it\n");
        Dump { child, err }
    }

    /// Ends it with a signal. Gives standard output, and the summary.
    fn interrupt(self) -> (Vec<u8>, String) {
        let kill = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill starts");
        assert!(kill.success());
        self.end()
    }

    /// Waits for its end.
    fn end(mut self) -> (Vec<u8>, String) {
        let mut summary = String::new();
        let output = std::thread::scope(|scope| {
            let reading = scope.spawn(|| self.err.read_to_string(&mut summary));
            let output = self.child.wait_with_output().expect("it ends");
            reading.join().expect("read").expect("UTF-8");
            output
        });
        assert_eq!(output.status.code(), Some(0), "{summary}");
        (output.stdout, summary)
    }
}

fn connect(port: u16) -> TcpStream {
    let at = SocketAddr::from(([10, 9, 0, 1], port));
    TcpStream::connect_timeout(&at, Duration::from_secs(20)).expect("it connects")
}

/// Sends bytes to the discard service, which reads them all.
fn discard(bytes: usize) {
    let mut stream = connect(9);
    stream.write_all(&vec![7; bytes]).expect("taken");
    stream.shutdown(Shutdown::Write).expect("a FIN");
    assert_eq!(stream.read(&mut [0; 16]).expect("it ends, too"), 0);
}

/// Sends bytes to the echo service and reads them back.
fn echo(bytes: usize) {
    let mut stream = connect(7);
    stream.write_all(&vec![7; bytes]).expect("taken");
    stream.shutdown(Shutdown::Write).expect("a FIN");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("read");
    assert_eq!(back.len(), bytes);
}

#[test]
fn client_of_dump_to_a_file() {
    let Some(file) = path("all.pcapng") else { return };
    let dump = Dump::start(&["-w", &file, "-i", "eth0", "tcp", "port", "7"]);
    echo(5_000);
    std::thread::sleep(Duration::from_millis(300));
    let (out, summary) = dump.interrupt();
    assert!(out.is_empty());
    let mut capture = CaptureReader::new(File::open(&file).expect("the file")).expect("a capture");
    let (mut packets, mut syn, mut payload, mut last) = (0, [0; 2], [0; 2], 0);
    while let Some(packet) = capture.next_packet().expect("a whole record") {
        packets += 1;
        let flow = flow_of(packet.data).expect("TCP over IPv4");
        let outbound = packet.direction().expect("it says so") == Direction::Outbound;
        assert_eq!((if outbound { flow.sport } else { flow.dport }, packet.lost), (7, 0));
        assert_eq!(packet.wire_len as usize, packet.data.len());
        let time = packet.time.expect("it has one");
        assert!(time >= last && time > 1_600_000_000_000_000_000, "nanoseconds since 1970");
        last = time;
        syn[usize::from(outbound)] += usize::from(flow.tcp_flags & 2 != 0);
        let header = 14 + 20 + usize::from(packet.data[46] >> 4) * 4;
        payload[usize::from(outbound)] +=
            usize::from(u16::from_be_bytes([packet.data[16], packet.data[17]])) + 14 - header;
    }
    assert_eq!((syn, payload), ([1, 1], [5_000, 5_000]), "both directions, whole");
    assert_eq!(capture.interfaces()[0].name.as_deref(), Some("eth0"));
    assert_eq!(summary, format!("{packets} packets captured, 0 dropped by the buffer\n"));
}

#[test]
fn client_of_dump_in_lines() {
    if path("").is_none() {
        return;
    }
    let dump = Dump::start(&["-c", "2", "tcp", "and", "flags", "syn"]);
    echo(10);
    let (out, summary) = dump.end();
    let out = String::from_utf8(out).expect("text");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines[0].contains(" eth0 in: 10.9.0.254:") && lines[0].contains(" > 10.9.0.1:7 TCP SYN seq "), "{out}");
    assert!(
        lines[1].contains(" eth0 out: 10.9.0.1:7 > 10.9.0.254:") && lines[1].contains(" TCP SYN|ACK seq "),
        "{out}"
    );
    assert_eq!(summary, "2 packets captured, 0 dropped by the buffer\n");

    // JSON, and a snap length.
    let dump = Dump::start(&["-c", "3", "-s", "20", "--json", "tcp"]);
    echo(10);
    let (out, _) = dump.end();
    let rows: Vec<Value> =
        String::from_utf8(out).expect("text").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[0]["to"], rows[0]["data"].as_str().map(str::len)), (&"host".into(), Some(40)));
    assert!(rows[0]["len"].as_u64() > Some(60), "{}", rows[0]);
}

#[test]
fn client_of_dump_that_nobody_takes() {
    if path("").is_none() {
        return;
    }
    // Nobody reads standard output: the pipe fills, then the sockets, then the buffer, which is as small as there is.
    let dump = Dump::start(&["-w", "-", "-B", "4"]);
    discard(12 << 20);
    let (out, summary) = dump.interrupt();
    let mut capture = CaptureReader::new(&out[..]).expect("a capture");
    let (mut packets, mut lost) = (0, 0);
    while let Some(packet) = capture.next_packet().expect("a whole record") {
        packets += 1;
        lost += packet.lost;
    }
    let (captured, rest) = summary.split_once(" packets captured, ").expect("a summary");
    assert_eq!(captured.parse(), Ok(packets), "{summary}");
    let dropped: u64 = rest.trim_end().trim_end_matches(" dropped by the buffer").parse().expect("a number");
    assert!(dropped > 0 && lost <= dropped, "{summary}: {lost} lost before those that came");
}

#[test]
fn client_of_dump_into_tcpdump() {
    if path("").is_none() {
        return;
    }
    let dump = Dump::start(&["-w", "-", "-c", "3", "tcp"]);
    echo(10);
    let (out, summary) = dump.end();
    assert_eq!(summary, "3 packets captured, 0 dropped by the buffer\n");
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-r", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tcpdump = tcpdump.spawn().expect("tcpdump starts");
    tcpdump.stdin.take().expect("piped").write_all(&out).expect("taken");
    let read = ran(tcpdump.wait_with_output().expect("it ends"));
    assert_eq!((read.code, read.out.lines().count()), (0, 3), "{}", read.err);
    assert!(read.out.lines().next().is_some_and(|line| line.contains("> 10.9.0.1.7: Flags [S]")), "{}", read.out);
}

#[test]
fn client_of_dump_that_is_refused() {
    let Some(control) = path("rx.sock") else { return };
    let refused = |arguments: &[&str]| {
        let ran = ran(rxpath(&["dump", "--control", &control]).args(arguments).output().expect("it starts"));
        assert!(ran.out.is_empty());
        (ran.code, ran.err)
    };
    let (code, err) = refused(&["-i", "eth9"]);
    assert_eq!(code, 1);
    assert!(err.contains("no interface \"eth9\"; there is: eth0"), "{err}");
    let (code, err) = refused(&["-w", "/no/such/folder/x.pcapng"]);
    assert_eq!(code, 1);
    assert!(err.contains("-w /no/such/folder/x.pcapng: No such file"), "{err}");
}

#[test]
fn packets_of_a_running_stack_are_captured() {
    if !(need_tun() && need_netns() && need_tool("kill")) {
        return;
    }
    let folder = Folder::new();
    inside(&folder, "dump::client_of_dump_to_a_file");
    inside(&folder, "dump::client_of_dump_in_lines");
    inside(&folder, "dump::client_of_dump_that_is_refused");
    inside(&folder, "dump::client_of_dump_that_nobody_takes");
    // What was captured is a capture for the other commands, too.
    let replayed = run(&["replay", &folder.path("all.pcapng"), "--config", &folder.path("host.toml")]);
    assert_eq!(replayed.code, 0, "{}", replayed.err);
}

#[test]
fn tcpdump_reads_what_dump_writes() {
    if !(need_tun() && need_netns() && need_tool("kill") && need_tool("tcpdump")) {
        return;
    }
    inside(&Folder::new(), "dump::client_of_dump_into_tcpdump");
}

#[test]
fn what_cannot_be_dumped_is_told_with_the_mend() {
    let nobody = run(&["dump", "--control", "/no/such/rx.sock"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.err.contains("no stack is reached at /no/such/rx.sock: start `rxpath serve`"), "{}", nobody.err);
    let filter = run(&["dump", "--control", "/no/such/rx.sock", "tcp", "prot", "80"]);
    assert_eq!(filter.code, 2);
    assert!(filter.err.contains("tcp prot 80\n    ^^^^"), "{}", filter.err);
    assert_eq!(run(&["dump", "-c", "0"]).code, 2);
}
