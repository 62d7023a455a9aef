//! What a test needs of the machine, named in one way by the tests of all crates.
//!
//! A test that needs root, `/dev/net/tun`, a namespace or a tool asks first and returns when the answer is no:
//!
//! ```
//! use rxpath_testkit::{need_root, need_tool, need_tun};
//!
//! fn curl_gets_a_page() {
//!     if !(need_root() && need_tun() && need_tool("curl")) {
//!         return;
//!     }
//!     // …
//! }
//! ```
//!
//! Each `need_*` that says no has already written one line past the test harness's capture, so that it is seen without
//! `--nocapture`:
//!
//! ```text
//! skipped: tap::curl_gets_a_page: curl is not installed (crates/rxpath/tests/tap.rs:12); 3 skipped in this run
//! ```
//!
//! The last number counts over the whole `cargo test`. With `RXPATH_NO_SKIP=1` (continuous integration sets it) a test
//! that would be skipped fails instead: nothing is left out unseen.
#![forbid(unsafe_code)]

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment variable under which a skipped test is a failed one, when set to anything but `0` or nothing.
pub const NO_SKIP: &str = "RXPATH_NO_SKIP";

/// Says that the calling test cannot run here, and why. The test returns after it.
///
/// # Panics
/// Under [`NO_SKIP`]: the test fails.
#[track_caller]
pub fn skip(why: &str) {
    let notice = Notice { test: running_test(), why, at: Location::caller() };
    let forbidden = env::var(NO_SKIP).is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    assert!(!forbidden, "must not be skipped while {NO_SKIP} is set: {}", notice.text());
    let total = count_in_run(&notice.text());
    // Not eprintln!: the harness captures that, and a skipped test passes, so nobody would see it.
    let line = format!("{}; {total} skipped in this run\n", notice.text());
    io::stderr().write_all(line.as_bytes()).expect("stderr takes the notice of a skipped test");
}

/// Whether the test runs as root; says so if not.
#[track_caller]
pub fn need_root() -> bool {
    is_root() || said("it needs root")
}

/// Whether `/dev/net/tun` can be opened; says so if not. Making an interface with it needs root, or a namespace of the
/// test's own ([`need_netns`]).
#[track_caller]
pub fn need_tun() -> bool {
    match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => true,
        Err(error) => said(&format!("/dev/net/tun cannot be opened: {error}")),
    }
}

/// Whether this process may have a network namespace of its own (as root, or inside a user namespace); says so if not.
#[track_caller]
pub fn need_netns() -> bool {
    if !need_tool("unshare") {
        return false;
    }
    let mut unshare = Command::new("unshare");
    unshare.arg("--net");
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let made = unshare.arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
    made.is_ok_and(|status| status.success()) || said("no private network namespace is allowed here")
}

/// Whether a program of this name is installed; says so if not.
#[track_caller]
pub fn need_tool(name: &str) -> bool {
    tool(name).is_some() || said(&format!("{name} is not installed"))
}

/// Where a program is: `PATH`, then the folders of system tools that an ordinary user's `PATH` leaves out.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

#[track_caller]
fn said(why: &str) -> bool {
    skip(why);
    false
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_uid(&status) == Some(0)
}

/// The second number of `Uid:` in the text of `/proc/self/status`: real, effective, saved, file system.
fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(file: &Path) -> bool {
    file.is_file()
}

struct Notice<'a> {
    test: String,
    why: &'a str,
    at: &'static Location<'static>,
}

impl Notice<'_> {
    fn text(&self) -> String {
        format!("skipped: {}: {} ({}:{})", self.test, self.why, self.at.file(), self.at.line())
    }
}

/// The name of the running test: the harness names its threads so.
fn running_test() -> String {
    std::thread::current().name().unwrap_or("a thread of a test").to_owned()
}

/// Adds the notice to the run's list and counts the list. A run is one `cargo test`: all its test programs have the
/// same parent. The list lies beside the test programs, in the target folder; where it cannot be kept, the count is 1.
fn count_in_run(notice: &str) -> usize {
    let Some(list) = list_of_run() else { return 1 };
    let kept = OpenOptions::new().create(true).append(true).open(&list).and_then(|mut file| writeln!(file, "{notice}"));
    match kept.and_then(|()| fs::read_to_string(&list)) {
        Ok(notices) => notices.lines().count(),
        Err(_) => 1,
    }
}

fn list_of_run() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?.join("skipped");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join(format!("run-{}", parent_id())))
}

/// The parent's process id and start time, so that a later run whose parent has the same id begins a new list.
#[cfg(unix)]
fn parent_id() -> String {
    let parent = std::os::unix::process::parent_id();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    // The second field is the program's name in parentheses, which may hold anything; the start time is the 22nd.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    format!("{parent}-{}", after_name.split_ascii_whitespace().nth(19).unwrap_or("0"))
}

#[cfg(not(unix))]
fn parent_id() -> String {
    std::process::id().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_uid_is_the_second_number() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1000\t7\t1000\t1000\n"), Some(7));
        assert_eq!(effective_uid("Name:\tx\n"), None);
        assert_eq!(effective_uid("Uid:\t1000\n"), None);
    }

    #[test]
    fn a_tool_is_found_only_if_it_can_be_run() {
        assert!(tool("sh").is_some_and(|file| file.is_absolute()));
        assert_eq!(tool("no-such-tool-on-any-machine"), None);
        assert!(!is_executable(Path::new("/etc/passwd")));
        assert!(!is_executable(Path::new("/etc")));
    }

    #[test]
    fn a_notice_names_test_reason_and_place() {
        let notice = Notice { test: running_test(), why: "the moon is wrong", at: Location::caller() };
        let text = notice.text();
        assert!(
            text.starts_with("skipped: tests::a_notice_names_test_reason_and_place: the moon is wrong ("),
            "{text}"
        );
        assert!(text.contains("testkit/src/lib.rs:"), "{text}");
    }

    /// Runs the test `skipped_by_itself` of this program in a process of its own, as `cargo test` would.
    fn skipping_run(no_skip: &str) -> (bool, String) {
        let run = Command::new(env::current_exe().expect("a test program has a path"))
            .args(["tests::skipped_by_itself", "--exact"])
            .env(NO_SKIP, no_skip)
            .env("RXPATH_TESTKIT_SKIPS", "1")
            .output()
            .expect("the test program runs");
        (run.status.success(), String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned())
    }

    /// Skips itself, but only when the two tests below run it; otherwise checks that a tool that is there is there.
    #[test]
    fn skipped_by_itself() {
        if env::var_os("RXPATH_TESTKIT_SKIPS").is_some() {
            assert!(!need_tool("no-such-tool-on-any-machine"));
            return;
        }
        assert!(need_tool("sh"));
    }

    #[test]
    fn a_skipped_test_passes_and_is_seen_without_nocapture() {
        let (passed, text) = skipping_run("0");
        assert!(passed, "{text}");
        let notice = "skipped: tests::skipped_by_itself: no-such-tool-on-any-machine is not installed (";
        assert!(text.contains(notice), "{text}");
        assert!(text.contains(" skipped in this run\n"), "{text}");
    }

    #[test]
    fn a_skipped_test_fails_where_nothing_may_be_skipped() {
        let (passed, text) = skipping_run("1");
        assert!(!passed, "{text}");
        assert!(text.contains("must not be skipped while RXPATH_NO_SKIP is set"), "{text}");
    }
}
