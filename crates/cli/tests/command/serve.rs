//! `rxpath serve` in a namespace of its own, and its clients there.

use std::io::{BufRead as _, BufReader, Read as _, pipe};
use std::process::{Child, Command, Stdio};

use rxpath_testkit::{need_netns, need_tool, need_tun};
use serde_json::Value;

use crate::inside::INSIDE;
use crate::machine::{Folder, Ran, is_balanced_ledger, last_line, ran, rxpath};

/// A host with all services.
pub const HOST: &str = "\
[[interface]]
name = \"eth0\"
driver = \"tap\"
addresses = [\"10.9.0.1/24\"]

[[service]]
listen = \"0.0.0.0:80\"
app = \"http\"

[[service]]
listen = \"10.9.0.1:7\"
app = \"echo\"

[[service]]
listen = \"0.0.0.0:9\"
app = \"discard\"

[[service]]
listen = \"0.0.0.0:19\"
app = \"chargen\"
";

/// `rxpath serve` in a namespace, with a command that runs there.
pub fn serve(folder: &Folder, host: &str, exec: &[&str]) -> Command {
    let (config, control) = (folder.file("host.toml", host), folder.path("rx.sock"));
    let mut arguments = vec!["serve", "--config", &config, "--control", &control, "--in-namespace"];
    if !exec.is_empty() {
        arguments.push("--exec");
        arguments.extend(exec);
    }
    rxpath(&arguments)
}

/// Runs a test of this program inside.
fn inside(host: &str, test: &str) -> Ran {
    let folder = Folder::new();
    let program = std::env::current_exe().expect("this program has a path");
    let exec = [program.to_str().expect("UTF-8"), "--exact", "--nocapture", test];
    let ran = ran(serve(&folder, host, &exec).env(INSIDE, "1").output().expect("it starts"));
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("1 passed"), "{}", ran.out);
    assert!(is_balanced_ledger(last_line(&ran.err)), "{}", ran.err);
    ran
}

#[test]
fn services_serve_the_kernels_clients() {
    if !(need_tun() && need_netns()) {
        return;
    }
    inside(HOST, "inside::client_of_echo");
    inside(HOST, "inside::client_of_discard_and_chargen");
    inside(HOST, "inside::client_of_http");
}

#[test]
fn two_queues_and_two_cpus_serve_as_well() {
    if !(need_tun() && need_netns()) {
        return;
    }
    let host = HOST.replace("addresses", "queues = 2\nring = 1024\naddresses");
    inside(&format!("{host}\n[stack]\ncpus = 2\n"), "inside::client_of_echo");
}

#[test]
fn data_arrives_whole_over_a_rough_cable() {
    if !(need_tun() && need_netns()) {
        return;
    }
    let faults = "faults = { loss = 0.02, reorder = 0.02, duplicate = 0.01, corrupt = 0.005 }\naddresses";
    inside(&format!("{}\n[stack]\nseed = 7\n", HOST.replace("addresses", faults)), "inside::client_of_echo");
}

#[test]
fn the_end_of_the_command_is_the_end() {
    if !(need_tun() && need_netns()) {
        return;
    }
    let folder = Folder::new();
    let run = |exec: &[&str]| ran(serve(&folder, HOST, exec).output().expect("it starts"));
    assert_eq!(run(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).code, 128 + 9);
    let missing = run(&["/no/such/program"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("--exec /no/such/program: No such file"), "{}", missing.err);
    let said = run(&["echo", "only this"]);
    assert_eq!((said.code, said.out.as_str()), (0, "only this\n"), "standard output is the command's");
    assert!(!std::path::Path::new(&folder.path("rx.sock")).exists());
}

/// A server without a command, once it serves.
struct Serving {
    child: Child,
    first_lines: Vec<String>,
    rest: BufReader<std::process::ChildStdout>,
}

impl Serving {
    fn start(mut command: Command, lines: usize) -> Serving {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut rest = BufReader::new(child.stdout.take().expect("piped"));
        let read = |_| {
            let mut line = String::new();
            rest.read_line(&mut line).expect("a line");
            line.trim_end().to_owned()
        };
        let first_lines = (0..lines).map(read).collect();
        Serving { child, first_lines, rest }
    }

    fn end(mut self, signal: &str) -> (i32, String) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill starts");
        assert!(kill.success());
        let mut text = String::new();
        self.rest.read_to_string(&mut text).expect("the rest");
        let output = self.child.wait_with_output().expect("it ends");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or_else(|| panic!("ended by {}: {err}", output.status)), text)
    }
}

#[test]
fn signals_end_it_with_a_summary() {
    if !(need_tun() && need_netns() && need_tool("kill")) {
        return;
    }
    for signal in ["-TERM", "-INT"] {
        let folder = Folder::new();
        let serving = Serving::start(serve(&folder, HOST, &[]), 3);
        assert_eq!(
            serving.first_lines[..2],
            [
                "serving http on 0.0.0.0:80, echo on 10.9.0.1:7, discard on 0.0.0.0:9, chargen on 0.0.0.0:19",
                "the kernel's end of eth0 is 10.9.0.254/24"
            ]
        );
        let control = folder.path("rx.sock");
        assert_eq!(serving.first_lines[2], format!("control socket {control}"));
        let second = ran(serve(&folder, HOST, &[]).output().expect("it starts"));
        assert_eq!(second.code, 1);
        assert!(second.err.contains("another rxpath answers there"), "{}", second.err);
        let (code, text) = serving.end(signal);
        assert_eq!(code, 0, "{text}");
        assert!(text.starts_with("served for ") && is_balanced_ledger(last_line(&text)), "{text}");
        assert!(!std::path::Path::new(&control).exists());
    }
}

#[test]
fn json_tells_beginning_and_end() {
    if !(need_tun() && need_netns() && need_tool("kill")) {
        return;
    }
    let folder = Folder::new();
    let mut command = serve(&folder, HOST, &[]);
    command.arg("--json");
    let serving = Serving::start(command, 1);
    let begun: Value = serde_json::from_str(&serving.first_lines[0]).expect("JSON");
    assert_eq!((&begun["event"], &begun["services"][0]["app"]), (&"serving".into(), &"http".into()));
    let (code, text) = serving.end("-TERM");
    let ended: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &ended["event"], &ended["ledger"]["balanced"]), (0, &"ended".into(), &true.into()));
}

#[test]
fn following_lives_ends_with_its_reader_and_with_the_stack() {
    if !(need_tun() && need_netns() && need_tool("kill")) {
        return;
    }
    let folder = Folder::new();
    let serving = Serving::start(serve(&folder, HOST, &[]), 3);
    let control = folder.path("rx.sock");
    let follow = || rxpath(&["life", "--follow", "--control", &control]);
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let unread = ran(follow().stdout(writer).output().expect("it starts"));
    assert_eq!(unread.code, 1);

    let mut followed = follow().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // It says so once it is answered.
    let mut hint = String::new();
    let mut err = BufReader::new(followed.stderr.take().expect("piped"));
    err.read_line(&mut hint).expect("a line");
    assert_eq!(hint, "none is being recorded: `rxpath life --select all` begins\n");
    let (code, _) = serving.end("-TERM");
    assert_eq!(code, 0);
    let followed = ran(followed.wait_with_output().expect("it ends"));
    assert_eq!((followed.code, followed.out.as_str()), (0, ""));
}
