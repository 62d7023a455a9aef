//! The `rxpath` command.
//!
//! | module | holds |
//! |---|---|
//! | `args` | the command line |
//! | `out` | where all output goes |
//! | `failure` | how a command fails, and its exit code |
//! | `demo` | `rxpath demo` |
//! | `serve`, `services` | `rxpath serve` and what it runs |
//! | `replay` | `rxpath replay` |
//! | `control` | the socket over which a running stack is looked into |
//! | `look`, `views` | `rxpath life`, `drops`, `ss`, `nstat`, `softnet`, `ethtool`, `route`, `neigh`, `proc` |
//! | `dump` | `rxpath dump` |
//! | `measure` | `rxpath bench` |
//! | `oracle` | `rxpath twin` |
//! | `host_file` | `rxpath config` |
//!
//! Exit codes: 0 done, 1 what was asked failed (output that is not taken included), 2 wrong usage or configuration.
#![forbid(unsafe_code)]

mod args;
mod control;
mod demo;
mod dump;
mod failure;
mod host_file;
mod look;
#[cfg(feature = "bench")]
mod measure;
#[cfg(target_os = "linux")]
mod oracle;
mod out;
mod replay;
mod serve;
mod services;
mod views;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use failure::Failure;
use out::{BAD, Out, note};

fn main() -> ExitCode {
    let mut out = Out::stdout();
    let result = parse(&mut out).and_then(|cli| match cli {
        Some(cli) => run(&mut out, cli),
        None => Ok(()),
    });
    // What was printed before a failure is still to arrive; a failure of output is told only if there is no other.
    let flushed = out.flush();
    report(result.and(flushed))
}

/// The command line; none if it asked for nothing but help or the version.
fn parse(out: &mut Out) -> Result<Option<Cli>, Failure> {
    let error = match Cli::try_parse() {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    if error.use_stderr() {
        note(error.render().ansi());
        return Err(Failure::Told(2));
    }
    out.text(error.render().ansi())?;
    Ok(None)
}

fn run(out: &mut Out, cli: Cli) -> Result<(), Failure> {
    let json = cli.json;
    match &cli.command {
        Command::Demo(args) => demo::run(out, args, json),
        Command::Serve(args) => serve::run(out, args, json),
        Command::Replay(args) => replay::run(out, args, json),
        Command::Life(args) => look::life(out, args, json),
        Command::Drops(args) => look::drops(out, args, json),
        Command::Dump(args) => dump::run(out, args, json),
        Command::Ss(args) => look::ss(out, args, json),
        Command::Nstat(args) => look::nstat(out, args, json),
        Command::Softnet(args) => look::softnet(out, args, json),
        Command::Ethtool(args) => look::ethtool(out, args, json),
        Command::Route(args) => look::route(out, args, json),
        Command::Neigh(args) => look::neigh(out, args, json),
        Command::Proc(args) => look::proc(out, args, json),
        #[cfg(feature = "bench")]
        Command::Bench(args) => measure::run(out, args, json),
        #[cfg(target_os = "linux")]
        Command::Twin(args) => oracle::run(out, args, json),
        Command::Config(args) => host_file::run(out, &args.verb, json),
    }
}

/// Says what went wrong and gives the exit code.
fn report(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    match &failure {
        Failure::ClosedPipe | Failure::Told(_) => {}
        // Each line is a finding with its place; a heading before the first would move it out of column.
        Failure::Config(errors) => note(errors),
        failure => note(format_args!("{BAD}error:{BAD:#} {failure}")),
    }
    ExitCode::from(failure.code())
}
