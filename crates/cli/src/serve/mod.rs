//! `rxpath serve`: a stack with services, until a signal or its command ends it.

mod host;
mod page;
pub mod running;

use std::ffi::OsString;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use rxpath::Stack;
use rxpath::config::{HostConfig, Proto, ServiceConfig};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::ServeArgs;
use crate::control::default_path;
use crate::control::server::Server;
use crate::control::window::Window;
use crate::failure::Failure;
use crate::out::{Out, STRONG, note};
use crate::services;
use crate::views::{Drops, LedgerRow, drops};
use host::{KernelEnd, KernelEnds};
use running::Running;

/// How often event rings are emptied.
const COLLECT_EVERY: Duration = Duration::from_millis(20);
/// How long the stack may take to fall quiet before it is shut down: delayed ACKs, last words.
const QUIET_WITHIN: Duration = Duration::from_millis(300);

/// Why serving ends.
enum Ending {
    /// SIGINT, SIGTERM or SIGHUP.
    Signal(i32),
    /// The command of `--exec` ended.
    Command(std::io::Result<ExitStatus>),
}

/// `rxpath serve`.
///
/// # Errors
/// The configuration is wrong (2); the system refuses, the ledger does not balance (1); the code of the command that was
/// run.
pub fn run(out: &mut Out, args: &ServeArgs, json: bool) -> Result<(), Failure> {
    let config = HostConfig::load(&args.config)?;
    if args.in_namespace {
        enter_namespace()?;
    }
    // Before any other thread: their masks come from here.
    let (sender, endings) = channel();
    watch_signals(sender.clone())?;
    let ends = KernelEnds { first: args.kernel_address, choose: args.in_namespace };
    let begun = Instant::now();
    let control = args.control.clone().or_else(|| config.stack.control.clone()).unwrap_or_else(default_path);
    let (stack, kernel_ends) = host::open(&config, ends)?;
    let window = Arc::new(Window::new(stack.clone(), config.life.select.clone()));
    let server = Server::start(&control, window.clone()).map_err(anyhow::Error::from)?;
    let running = Running::start(&stack, &config.services, &page::of(&stack))?;
    let collecting = collect(&window)?;

    announce(out, &running, &kernel_ends, &server, args, json)?;
    let ending = match args.exec.is_empty() {
        true => endings.recv().context("waiting for the end")?,
        false => run_command(&args.exec, sender, &endings)?,
    };

    drop(server);
    let accepted = running.accepted();
    settle(&stack);
    let before_end = stack.ledger();
    stack.shutdown();
    running.join();
    collecting.store(true, Ordering::Release);
    let served = begun.elapsed();
    let summary = Summary { served, accepted, drops: Drops::of(&before_end), after: (&stack.ledger()).into() };
    summary.print(out, args, json)?;
    match ending {
        Ending::Command(status) => command_result(status),
        Ending::Signal(_) if summary.after.balanced => Ok(()),
        Ending::Signal(_) => Err(Failure::told()),
    }
}

#[cfg(target_os = "linux")]
fn enter_namespace() -> anyhow::Result<()> {
    rxpath::device::netns::enter_private().context("--in-namespace")
}

#[cfg(not(target_os = "linux"))]
fn enter_namespace() -> anyhow::Result<()> {
    anyhow::bail!("--in-namespace: namespaces need Linux")
}

fn watch_signals(sender: Sender<Ending>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("watching for signals")?;
    let watch = move || {
        for signal in signals.forever() {
            // The receiver is gone: the end has begun already.
            let _ = sender.send(Ending::Signal(signal));
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).context("watching for signals")?;
    Ok(())
}

/// Empties event rings from now on, until the flag is set.
fn collect(window: &Arc<Window>) -> anyhow::Result<Arc<AtomicBool>> {
    let done = Arc::<AtomicBool>::default();
    let (window, until) = (Arc::clone(window), Arc::clone(&done));
    let collect = move || {
        while !until.load(Ordering::Acquire) {
            window.collect();
            thread::sleep(COLLECT_EVERY);
        }
    };
    thread::Builder::new().name("lives".to_owned()).spawn(collect).context("starting a thread")?;
    Ok(done)
}

/// Says where what is served. With `--exec` standard output is the command's.
fn announce(
    out: &mut Out,
    running: &Running,
    ends: &[KernelEnd],
    server: &Server,
    args: &ServeArgs,
    json: bool,
) -> Result<(), Failure> {
    let services = running.accepted();
    let text = if json {
        let list = services.iter().map(|(service, _)| service_json(service, None));
        let ends = ends
            .iter()
            .map(|end| json!({ "name": end.name, "address": end.address.map(|address| address.to_string()) }));
        json!({
            "event": "serving",
            "services": list.collect::<Vec<_>>(),
            "kernel": ends.collect::<Vec<_>>(),
            "control": server.path(),
        })
        .to_string()
    } else {
        let list = services.iter().map(|(service, _)| {
            let over = if service.proto == Proto::Udp { "udp " } else { "" };
            format!("{} on {over}{}", services::name(service.app), service.listen)
        });
        let list = list.collect::<Vec<_>>();
        let list = if list.is_empty() { "no services; ICMP echo is answered".to_owned() } else { list.join(", ") };
        let end = |end: &KernelEnd| match end.address {
            Some(address) => format!("the kernel's end of {} is {address}", end.name),
            None => format!("the kernel's end of {0} has no address: `ip addr add ADDRESS/LENGTH dev {0}`", end.name),
        };
        let mut lines = vec![format!("{STRONG}serving{STRONG:#} {list}")];
        lines.extend(ends.iter().map(end));
        lines.push(format!("control socket {}", server.path().display()));
        lines.join("\n")
    };
    if !args.exec.is_empty() {
        note(text);
        return Ok(());
    }
    out.line(text)?;
    out.flush()
}

/// Runs the command and waits for its end; a signal is passed on to it.
fn run_command(words: &[OsString], sender: Sender<Ending>, endings: &Receiver<Ending>) -> anyhow::Result<Ending> {
    let Some((program, arguments)) = words.split_first() else { anyhow::bail!("--exec without a command") };
    let named = || format!("--exec {}", program.display());
    let mut child = Command::new(program).args(arguments).spawn().with_context(named)?;
    let pid = pid_of(&child);
    let wait = move || {
        let status = child.wait();
        // The receiver is gone: the end has begun already.
        let _ = sender.send(Ending::Command(status));
    };
    thread::Builder::new().name("command".to_owned()).spawn(wait).with_context(named)?;
    loop {
        match endings.recv().with_context(named)? {
            Ending::Signal(signal) => {
                if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
                    // It has ended: its own end comes next.
                    let _ = kill_process(pid, signal);
                }
            }
            ended => return Ok(ended),
        }
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The command's own end is ours: its exit code, or 128 and the signal that ended it, as shells have it.
fn command_result(status: std::io::Result<ExitStatus>) -> Result<(), Failure> {
    use std::os::unix::process::ExitStatusExt as _;
    let status = status.context("waiting for the command of --exec")?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Told(u8::try_from(code).unwrap_or(1))),
        (None, Some(signal)) => Err(Failure::Told(128 | u8::try_from(signal).unwrap_or(0))),
        (None, None) => Err(Failure::told()),
    }
}

/// Waits a little for what is on its way.
fn settle(stack: &Stack) {
    let end = Instant::now() + QUIET_WITHIN;
    let mut before = stack.ledger();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
        let now = stack.ledger();
        if now == before && now.balanced() {
            return;
        }
        before = now;
    }
}

/// A service, and how many connections it accepted or datagrams it read.
fn service_json(service: &ServiceConfig, accepted: Option<u64>) -> serde_json::Value {
    let ServiceConfig { listen, app, proto } = service;
    let mut json = json!({ "app": services::name(*app), "listen": listen, "proto": proto.name() });
    if let Some(accepted) = accepted {
        json["accepted"] = accepted.into();
    }
    json
}

/// What there is to say at the end.
struct Summary {
    served: Duration,
    accepted: Vec<(ServiceConfig, u64)>,
    /// Before the stack was shut down.
    drops: Drops,
    /// After it.
    after: LedgerRow,
}

impl Summary {
    fn print(&self, out: &mut Out, args: &ServeArgs, json: bool) -> Result<(), Failure> {
        let list = self.accepted.iter();
        if json {
            let services = list.map(|(service, n)| service_json(service, Some(*n)));
            let text = json!({
                "event": "ended",
                "served_ms": self.served.as_millis() as u64,
                "services": services.collect::<Vec<_>>(),
                "drops": self.drops.reasons,
                "ledger": self.after,
            });
            if args.exec.is_empty() {
                out.json(&text)
            } else {
                note(text);
                Ok(())
            }
        } else {
            let told = |proto: Proto, what: &str| {
                let of_it = list.clone().filter(|(service, _)| service.proto == proto);
                let services: Vec<String> = of_it
                    .map(|(service, n)| format!("{n} to {} on {}", services::name(service.app), service.listen))
                    .collect();
                if services.is_empty() { String::new() } else { format!("; {what}: {}", services.join(", ")) }
            };
            let accepted = told(Proto::Tcp, "connections") + &told(Proto::Udp, "datagrams");
            let line = format!("served for {:.1} s{accepted}", self.served.as_secs_f64());
            // What was dropped is told as of before the end: the end itself drops what is held.
            let drops = Drops { reasons: self.drops.reasons.clone(), ledger: self.after.clone() };
            if args.exec.is_empty() {
                out.line(line)?;
                return drops::print(out, &drops);
            }
            note(line);
            note(drops::text(&drops).trim_end());
            Ok(())
        }
    }
}
