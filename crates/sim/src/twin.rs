//! The kernel twin: the same frames and calls into the running kernel and into a stack, and what differs.
//!
//! A case ([`case`]) is made from a seed, each kind of cases in its own way ([`generate`]): a host with interfaces, routes
//! and tunables, and what is sent to it and called of it. It runs against the kernel first (`kernel`): TAPs in a network
//! namespace of its own, raw frames on one end, the kernel on the other, in real time; everything that happens is recorded
//! ([`record`]). Then the same frames and calls go into a stack at the very same times, in virtual time ([`replay`]).
//! Frames, results of calls and rises of counters are compared ([`compare`], [`choices`]) after a few normalisations, each
//! of which is counted.
//!
//! The kernel is right by definition. Cases run in processes of their own ([`child_main`]), several at a time, since they
//! mostly sleep; a recording in which the machine was late is thrown away and made again.
//!
//! What a recording cannot tell is at which moment within a step, some microseconds long, the server looked at its clock,
//! nor how long a write took from one packet to the next, which decides whether a peer that is so near will answer meanwhile.
//! Where runs differ and the stack itself does different things at different moments within the steps, the recording is
//! no evidence, and another one is made. The same is done where the kernel, asked again, does not repeat itself. Runs
//! agree only if they agree in all, whatever the recording.

pub mod case;
pub mod choices;
pub mod compare;
pub mod generate;
pub mod record;
pub mod report;

pub mod datagram;
pub mod stream;

mod application;
mod child;
mod counters;
mod frames;
mod kernel;
mod lateness;
pub mod replay;
mod tick;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use rxpath_core::cx::Rng;

use self::case::{Call, Case};
use self::child::Worker;
use self::compare::{Difference, Normalised};
use self::record::{Event, Recording, What};
use self::replay::Replayed;
use self::stream::TcpCall;

pub use self::child::ENVIRONMENT;

/// Recordings of one case that may be disturbed before the case counts as one that could not be recorded.
const ATTEMPTS: u32 = 60;
/// Recordings of one case that may be no evidence before the case counts as one that differs.
const UNCERTAIN: u64 = 12;
/// The same, where what differs is a frame of a timer: then the case is left undecided.
const LATE: u64 = 4;
/// Runs with other choices about late timers before the case counts as one that differs.
const CHOICES: u64 = 16;
/// Stacks with other keys before a case with a group of listeners counts as one that differs.
const KEYS: u64 = 200;
/// How often the kernel must do again, alone, what it did where the stack differs.
const REPEATS: u64 = 3;
/// Runs at other moments within the steps that tell whether a recording is evidence.
const MOMENTS: u64 = 64;
/// What a write may take from one packet to the next: nanoseconds. The clock of a stack stands still meanwhile.
const WRITE_TIMES: [u64; 4] = [3_000, 8_000, 16_000, 40_000];

/// What kind of cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// TCP over IPv4 without selective acknowledgements: one connection to a server, and stray segments.
    #[default]
    TcpBasic,
    /// The same with explicit congestion notification.
    TcpEcn,
    /// How connections are opened.
    TcpOpen,
    /// How connections are taken.
    TcpListen,
    /// Handshakes of which nothing is remembered.
    TcpCookies,
    /// How connections end.
    TcpClose,
    /// What comes to TIME-WAIT.
    TcpTimewait,
    /// Resets in every state.
    TcpReset,
    /// Every combination of control bits in every state.
    TcpFlags,
    /// Ethernet frames: types, packet types, lengths.
    Eth,
    /// ARP packets, and what the host learns from them.
    Arp,
    /// IP headers and addresses.
    Ip,
    /// IP options.
    Options,
    /// Fragments.
    Frag,
    /// ICMP messages, and what draws errors.
    Icmp,
    /// Packets that are sent on.
    Forward,
    /// Datagrams to sockets, and what applications do with them.
    Udp,
    /// TCP: windows of both sides.
    TcpWindow,
    /// TCP: selective acknowledgements in both directions.
    TcpSack,
    /// TCP: urgent data in both directions.
    TcpUrgent,
    /// TCP: reads, writes and acknowledgements.
    TcpData,
    /// TCP: receive buffers that run out.
    TcpMemory,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 22] = [
        Kind::TcpBasic,
        Kind::TcpEcn,
        Kind::TcpOpen,
        Kind::TcpListen,
        Kind::TcpCookies,
        Kind::TcpClose,
        Kind::TcpTimewait,
        Kind::TcpReset,
        Kind::TcpFlags,
        Kind::Eth,
        Kind::Arp,
        Kind::Ip,
        Kind::Options,
        Kind::Frag,
        Kind::Icmp,
        Kind::Forward,
        Kind::Udp,
        Kind::TcpWindow,
        Kind::TcpSack,
        Kind::TcpUrgent,
        Kind::TcpData,
        Kind::TcpMemory,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::TcpBasic => "tcp-basic",
            Kind::TcpEcn => "tcp-ecn",
            Kind::TcpOpen => "tcp-open",
            Kind::TcpListen => "tcp-listen",
            Kind::TcpCookies => "tcp-cookies",
            Kind::TcpClose => "tcp-close",
            Kind::TcpTimewait => "tcp-timewait",
            Kind::TcpReset => "tcp-reset",
            Kind::TcpFlags => "tcp-flags",
            Kind::Eth => "eth",
            Kind::Arp => "arp",
            Kind::Ip => "ip",
            Kind::Options => "options",
            Kind::Frag => "frag",
            Kind::Icmp => "icmp",
            Kind::Forward => "forward",
            Kind::Udp => "udp",
            Kind::TcpWindow => "tcp-window",
            Kind::TcpSack => "tcp-sack",
            Kind::TcpUrgent => "tcp-urgent",
            Kind::TcpData => "tcp-data",
            Kind::TcpMemory => "tcp-memory",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The case of a seed.
    pub fn case(self, seed: u64) -> Case {
        match self {
            Kind::TcpBasic => generate::tcp_basic(seed),
            Kind::TcpEcn => generate::tcp_ecn(seed),
            Kind::TcpOpen => generate::tcp_open(seed),
            Kind::TcpListen => generate::tcp_listen(seed),
            Kind::TcpCookies => generate::tcp_cookies(seed),
            Kind::TcpClose => generate::tcp_close(seed),
            Kind::TcpTimewait => generate::tcp_timewait(seed),
            Kind::TcpReset => generate::tcp_reset(seed),
            Kind::TcpFlags => generate::tcp_flags(seed),
            Kind::Eth => generate::eth(seed),
            Kind::Arp => generate::arp(seed),
            Kind::Ip => generate::ip(seed),
            Kind::Options => generate::options(seed),
            Kind::Frag => generate::frag(seed),
            Kind::Icmp => generate::icmp(seed),
            Kind::Forward => generate::forward(seed),
            Kind::Udp => generate::udp(seed),
            Kind::TcpWindow => generate::tcp_window(seed),
            Kind::TcpSack => generate::tcp_sack(seed),
            Kind::TcpUrgent => generate::tcp_urgent(seed),
            Kind::TcpData => generate::tcp_data(seed),
            Kind::TcpMemory => generate::tcp_memory(seed),
        }
    }
}

/// What is to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinOptions {
    /// Seed of the first case of each kind; the others follow it.
    pub seed: u64,
    /// Number of cases of each kind.
    pub cases: u64,
    /// Kinds of the cases.
    pub kinds: Vec<Kind>,
    /// Cases that run at the same time, at least 1.
    pub jobs: usize,
    /// Arguments with which this program, started again, calls [`child_main`].
    pub child: Vec<OsString>,
}

impl Default for TwinOptions {
    /// 200 cases of the first kind from seed 1 on, 16 at a time; the program is started again as `twin --child`.
    fn default() -> TwinOptions {
        let child = ["twin", "--child"].map(OsString::from).into();
        TwinOptions { seed: 1, cases: 200, kinds: vec![Kind::default()], jobs: 16, child }
    }
}

/// A case in which kernel and stack differ.
#[derive(Clone, Debug)]
pub struct Diff {
    /// Its kind.
    pub kind: Kind,
    /// Its seed.
    pub seed: u64,
    /// What differs, the first difference first.
    pub differences: Vec<Difference>,
    /// Both runs side by side.
    pub text: String,
    /// The command that runs this case again.
    pub replay: String,
}

/// What came of the comparison.
#[derive(Clone, Debug, Default)]
pub struct TwinReport {
    /// Cases in which both sides did the same, by kind.
    pub agreed: BTreeMap<Kind, u64>,
    /// Cases in which they did not, by kind and seed.
    pub differed: Vec<Diff>,
    /// Cases in which what differed hung on how late the kernel's timers were, every time that it was asked.
    pub undecided: Vec<Diff>,
    /// Cases that could not be recorded, by kind and seed, as the machine was late every time; with what was late last.
    pub unrecorded: Vec<(Kind, u64, String)>,
    /// How often each normalisation was needed, by its name.
    pub normalised: BTreeMap<&'static str, u64>,
    /// Counters that the kernel moved and the stack does not count, with how much they rose.
    pub uncounted: BTreeMap<String, i64>,
    /// Recordings that were thrown away because the machine was late.
    pub disturbed: u64,
    /// Recordings that were thrown away because what differed hung on moments that they do not tell.
    pub uncertain: u64,
    /// Recordings that were thrown away because the kernel did not do the same again.
    pub varied: u64,
}

impl TwinReport {
    /// Cases in which both sides did the same.
    pub fn all_agreed(&self) -> u64 {
        self.agreed.values().sum()
    }

    /// True if no case differed.
    pub fn all_agree(&self) -> bool {
        self.differed.is_empty()
    }
}

impl std::fmt::Display for TwinReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for diff in &self.differed {
            writeln!(f, "{} seed {} differs ({})\n{}", diff.kind.name(), diff.seed, diff.replay, diff.text)?;
        }
        for (kind, _, why) in &self.unrecorded {
            writeln!(f, "{} {why}", kind.name())?;
        }
        for kind in Kind::ALL {
            let agreed = self.agreed.get(&kind).copied().unwrap_or(0);
            let others = self.differed.iter().chain(&self.undecided).filter(|diff| diff.kind == kind);
            let unrecorded = self.unrecorded.iter().filter(|(of, ..)| *of == kind).count();
            let cases = agreed + (others.count() + unrecorded) as u64;
            if cases > 0 {
                writeln!(f, "{}: {agreed} of {cases} cases agree", kind.name())?;
            }
        }
        let undecided = self.undecided.iter().map(|diff| format!("{} {}", diff.kind.name(), diff.seed));
        let undecided: Vec<String> = undecided.collect();
        let mut list = |what: &str, counts: Vec<String>| match counts.is_empty() {
            true => Ok(()),
            false => writeln!(f, "{what}: {}", counts.join(", ")),
        };
        list("undecided, as they hang on how late the kernel's timers were", undecided)?;
        list("normalised", self.normalised.iter().map(|(name, n)| format!("{name} {n}")).collect())?;
        list("not counted by the stack", self.uncounted.iter().map(|(name, n)| format!("{name} {n}")).collect())?;
        if self.disturbed > 0 {
            writeln!(f, "recorded again because the machine was late: {}", self.disturbed)?;
        }
        if self.uncertain > 0 {
            writeln!(f, "recorded again because the moment within a step decided: {}", self.uncertain)?;
        }
        if self.varied > 0 {
            writeln!(f, "recorded again because the kernel did not repeat itself: {}", self.varied)?;
        }
        Ok(())
    }
}

/// Whether the kernel's side can run here.
///
/// # Errors
/// Names what is missing and the mend.
pub fn kernel_available() -> Result<(), String> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    tun.map_err(|error| format!("/dev/net/tun: {error}; load the module tun, or give this user access to it"))?;
    if rustix::process::geteuid().is_root() {
        // In a thread that ends: only that thread enters the namespace.
        let entered = std::thread::spawn(rxpath::device::netns::enter_private).join();
        return match entered {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("a private network namespace could not be tried".to_owned()),
        };
    }
    for limit in ["max_user_namespaces", "max_net_namespaces"] {
        let path = format!("/proc/sys/user/{limit}");
        let value = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        if value.trim() == "0" {
            return Err(format!("user.{limit} is 0: raise it, or run as root"));
        }
    }
    let switch = std::fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").unwrap_or_default();
    if switch.trim() == "0" {
        return Err("kernel.unprivileged_userns_clone is 0: set it to 1, or run as root".to_owned());
    }
    Ok(())
}

/// What the process does that [`run`] starts: it runs cases against the kernel until its input ends.
///
/// # Errors
/// Its input or output failed.
pub fn child_main() -> io::Result<()> {
    child::serve()
}

/// Runs the cases and compares.
///
/// # Errors
/// The kernel's side does not run here.
pub fn run(options: &TwinOptions) -> io::Result<TwinReport> {
    let (next, kinds) = (AtomicU64::new(0), options.kinds.len() as u64);
    let cases = options.cases * kinds;
    let outcome = Mutex::new((TwinReport::default(), None));
    let outcome_of = || outcome.lock().unwrap_or_else(PoisonError::into_inner);
    let busy = RwLock::new(());
    let work = || -> io::Result<()> {
        let mut worker = Worker::start(&options.child)?;
        while outcome_of().1.is_none() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= cases {
                break;
            }
            // Kinds take turns: the slow ones among them wait while others run.
            let (kind, seed) = (options.kinds[(index % kinds) as usize], options.seed.wrapping_add(index / kinds));
            let case = Case { watched: options.cases == 1, ..kind.case(seed) };
            match one(&mut worker, &busy, kind, &case) {
                Ok(compared) => compared.enter(kind, &mut outcome_of().0),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    outcome_of().0.unrecorded.push((kind, seed, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, cases.max(1) as usize) {
            scope.spawn(|| {
                if let Err(error) = work() {
                    outcome_of().1.get_or_insert(error);
                }
            });
        }
    });
    let (mut report, failed) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.differed.sort_by_key(|diff| (diff.kind, diff.seed));
    report.undecided.sort_by_key(|diff| (diff.kind, diff.seed));
    report.unrecorded.sort();
    failed.map_or(Ok(report), Err)
}

/// Compares one case that was recorded before with a stack.
///
/// # Errors
/// The stack could not be made.
pub fn compare_recording(kind: Kind, seed: u64, kernel: &Recording) -> io::Result<Compared> {
    let (replayed, differences, mut normalised) = best_replay(kernel, seed)?;
    if replayed.held > 0 {
        normalised.insert("timer held", replayed.held);
    }
    let late = !kernel.host.is_exact() && compare::hangs_on_a_timer(kernel, &replayed.recording, &differences);
    let uncounted = kernel.counters.iter().filter(|(name, _)| !counters::comparable(name));
    let uncounted = uncounted.map(|(name, rise)| (name.clone(), *rise)).collect();
    let text = if differences.is_empty() {
        String::new()
    } else {
        report::side_by_side(kernel, &replayed.recording, &differences)
    };
    let replay = format!("rxpath twin --kind {} --seed {seed} --cases 1", kind.name());
    // A timer of the kernel's may once have been later than all that is reckoned with.
    let late_once = differences.iter().all(Difference::is_of_time);
    let diff = (!differences.is_empty()).then_some(Diff { kind, seed, differences, text, replay });
    let uncertain = diff.is_some() && (late_once || hangs_on_moments(seed, kernel, &replayed.recording)?);
    Ok(Compared { diff, normalised, uncounted, uncertain, late, again: Again::default() })
}

/// Replays a recording with the likely choices about timers of which it does not tell, and if that differs with others, and
/// with writes that take some time; gives the run that agrees, or else the first one.
fn best_replay(kernel: &Recording, seed: u64) -> io::Result<(Replayed, Vec<Difference>, Normalised)> {
    let attempt = |seed, choices, write_time| -> io::Result<_> {
        let replayed = replay::replay(kernel, seed, choices, write_time)?;
        let mut normalised = Normalised::new();
        let differences = compare::compare(kernel, &replayed.recording, &mut normalised);
        Ok((replayed, differences, normalised))
    };
    let first = attempt(seed, None, 0)?;
    if first.1.is_empty() {
        return Ok(first);
    }
    let keys = if has_group(kernel) { KEYS } else { 0 };
    for key in 1..=keys {
        let (replayed, differences, mut normalised) = attempt(seed ^ key << 32, None, 0)?;
        if differences.is_empty() {
            normalised.insert("listener of a group chosen", 1);
            return Ok((replayed, differences, normalised));
        }
    }
    let choices = if first.0.chosen > 0 { CHOICES } else { 0 };
    let drawn = (0..choices).map(|choices| (Some(choices), 0));
    let slower = WRITE_TIMES.into_iter().flat_map(|time| (0..choices.max(1)).map(move |drawn| (drawn, time)));
    let slower = slower.map(|(drawn, time)| ((choices > 0).then_some(drawn), time));
    for (choices, write_time) in drawn.chain(slower) {
        let (replayed, differences, mut normalised) = attempt(seed, choices, write_time)?;
        if differences.is_empty() {
            if choices.is_some() {
                normalised.insert("timer's turn chosen", replayed.chosen);
            }
            normalised.insert("time of a write", u64::from(write_time > 0));
            return Ok((replayed, differences, normalised));
        }
    }
    Ok(first)
}

/// Several listeners share a port: which of them has a connection is a matter of a hash whose key is secret on both sides.
fn has_group(kernel: &Recording) -> bool {
    let shares = |call: &Call| matches!(call, Call::Stream(_, TcpCall::ListenShared(..)));
    kernel.events.iter().any(|event| matches!(&event.what, What::Called(call, _) if shares(call)))
}

/// True if the stack does not always do what it did in `first`, when steps take place at other moments within the time
/// that they took, and time passes within them.
fn hangs_on_moments(seed: u64, kernel: &Recording, first: &Recording) -> io::Result<bool> {
    // Without the care for ticks that a server needs, a step may also be one of the kernel's ticks earlier or later.
    let tick = if kernel.host.is_exact() { 0 } else { tick::TICK };
    let steps = kernel.events.len() as u32;
    for attempt in 0..MOMENTS {
        let mut rng = Rng::new(attempt);
        // From some step on, time has passed more slowly, or faster, by a part of a tick.
        let mut part = || u64::from(rng.below(tick as u32 + 1));
        let (before, after) = (part(), part());
        let (turn, mut step) = (rng.below(steps + 1), 0);
        let write_time = u64::from(rng.below(WRITE_TIMES[WRITE_TIMES.len() - 1] as u32));
        let later = |took: u64| {
            step += 1;
            u64::from(rng.below((took as u32).saturating_add(1))) + if step < turn { before } else { after }
        };
        // Half of them have the frames of the kernel's timers earlier, too.
        let noticed = if attempt % 2 == 0 { kernel } else { &noticed_late(kernel, attempt) };
        let replayed = replay::replay_at(noticed, seed, None, write_time, later)?;
        if !compare::compare(first, &replayed.recording, &mut Normalised::new()).is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The recording, if frames of the kernel's timers had been noticed late by a part of a tick: whoever waits for them has to
/// be given a processor first. None comes before what was before it.
fn noticed_late(kernel: &Recording, seed: u64) -> Recording {
    let by_timer = |event: &Event| matches!(event.what, What::Emitted { prompt: false, .. });
    let mut rng = Rng::new(seed);
    let mut noticed = kernel.clone();
    for index in 1..noticed.events.len() {
        let (before, event) = (&kernel.events[index - 1], &kernel.events[index]);
        if by_timer(event) {
            // What was noticed together left together.
            let together = by_timer(before) && before.at == event.at;
            let floor = noticed.events[index - 1].at + before.took;
            let late = u64::from(rng.below(tick::TICK as u32 + 1)).min(event.at.saturating_sub(floor));
            noticed.events[index].at = if together { floor } else { event.at - late };
        }
    }
    noticed
}

/// What came of one case.
#[derive(Clone, Debug)]
pub struct Compared {
    /// None if both sides did the same.
    pub diff: Option<Diff>,
    /// How often each normalisation was needed.
    pub normalised: Normalised,
    /// Counters that only the kernel has.
    pub uncounted: BTreeMap<String, i64>,
    /// The difference may come from what the recording cannot tell: the moments within its steps.
    pub uncertain: bool,
    /// What differs first is a frame of a timer, on a host without a server.
    pub late: bool,
    /// Recordings that were thrown away before.
    again: Again,
}

impl Compared {
    fn enter(self, kind: Kind, report: &mut TwinReport) {
        for (name, n) in self.normalised.into_iter().filter(|&(_, n)| n > 0) {
            *report.normalised.entry(name).or_default() += n;
        }
        for (name, rise) in self.uncounted {
            *report.uncounted.entry(name).or_default() += rise;
        }
        report.disturbed += self.again.disturbed;
        report.uncertain += self.again.uncertain;
        report.varied += self.again.varied;
        match self.diff {
            Some(diff) if self.late => report.undecided.push(diff),
            Some(diff) => report.differed.push(diff),
            None => *report.agreed.entry(kind).or_default() += 1,
        }
    }
}

/// Records a case against the kernel, as [`run`] does for each of its cases.
///
/// # Errors
/// The kernel's side does not run here, or the machine is too busy.
pub fn record_one(options: &TwinOptions, kind: Kind, seed: u64) -> io::Result<Recording> {
    let mut worker = Worker::start(&options.child)?;
    record_in_time(&mut worker, &kind.case(seed)).map(|(recording, _)| recording)
}

/// Records a case until the machine is not late; gives how often it was.
fn record_in_time(worker: &mut Worker, case: &Case) -> io::Result<(Recording, u64)> {
    let mut late = String::new();
    for attempt in 0..ATTEMPTS {
        if let Some(wait) = tick::until_cookies_count(tick::clock()) {
            std::thread::sleep(wait);
        }
        let kernel = worker.run(case)?;
        match kernel.disturbed {
            // What keeps the machine busy may be the other cases: they are given time to end.
            Some(why) => {
                late = why;
                std::thread::sleep(Duration::from_millis(u64::from(attempt.min(30)) * 10));
            }
            None => return Ok((kernel, u64::from(attempt))),
        }
    }
    let seed = case.seed;
    let what = format!("seed {seed}: the machine is too busy: {late}, {ATTEMPTS} times in a row; give fewer jobs");
    Err(io::Error::new(io::ErrorKind::TimedOut, what))
}

/// Recordings of a case that were thrown away, by why.
#[derive(Clone, Copy, Debug, Default)]
struct Again {
    disturbed: u64,
    uncertain: u64,
    varied: u64,
}

/// Records a case until the recording is evidence, and compares it. While several are recorded at a time, each holds `busy`
/// for reading; one that differed is recorded again alone, so that the machine has nothing else to do.
fn one(worker: &mut Worker, busy: &RwLock<()>, kind: Kind, case: &Case) -> io::Result<Compared> {
    let mut again = Again::default();
    let (mut kernel, disturbed) = {
        let _shared = busy.read().unwrap_or_else(PoisonError::into_inner);
        record_in_time(worker, case)?
    };
    again.disturbed += disturbed;
    let mut repeated = 0;
    loop {
        let compared = compare_recording(kind, case.seed, &kernel)?;
        let most = if compared.late { LATE } else { UNCERTAIN };
        if compared.diff.is_none() || again.uncertain + again.varied >= most {
            return Ok(Compared { again, ..compared });
        }
        let (next, disturbed) = {
            let _alone = busy.write().unwrap_or_else(PoisonError::into_inner);
            record_in_time(worker, case)?
        };
        again.disturbed += disturbed;
        if compared.uncertain || compared.late {
            again.uncertain += 1;
        } else if !compare::compare(&kernel, &next, &mut Normalised::new()).is_empty() {
            again.varied += 1;
        } else {
            // What hangs on a microsecond may come out the same twice.
            repeated += 1;
            if repeated == REPEATS {
                return Ok(Compared { again, ..compared });
            }
        }
        kernel = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_timers_may_have_been_noticed_late_and_nothing_else() {
        let frame = |at, prompt| Event::new(at, What::Emitted { link: 0, frame: vec![1], prompt });
        let times = [(10, true), (20_000_000, false), (20_000_000, false), (20_000_100, true), (20_000_200, false)];
        let kernel = Recording { events: times.map(|(at, prompt)| frame(at, prompt)).into(), ..Recording::default() };
        for seed in 0..32 {
            let at: Vec<u64> = noticed_late(&kernel, seed).events.iter().map(|event| event.at).collect();
            assert_eq!((at[0], at[3], at[1] == at[2]), (10, 20_000_100, true));
            assert!((16_000_000..=20_000_000).contains(&at[1]) && (20_000_100..=20_000_200).contains(&at[4]), "{at:?}");
        }
    }
}
