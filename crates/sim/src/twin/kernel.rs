//! The kernel's side: a TAP in a network namespace of its own, raw frames on one end, the kernel's sockets on the other.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use rxpath::device::netns::{self, Rtnl};
use rxpath::device::tap::{Tap, TapConfig};
use rxpath_core::nic::{Device, NoDoorbell, Steering, Xmit};
use rxpath_core::sysctl::KNOBS;
use rxpath_trace::Time;
use rxpath_wire::{EtherType, EthernetHeader};

use super::application::Application;
use super::case::{Action, Case, SERVER_PORT};
use super::counters;
use super::frames::{CLIENT_MAC, ClientView, SERVER, SERVER_MAC, arp_request};
use super::record::{Event, Recording, What};
use crate::driven::{Driven, Half, Parcel};

/// Name of the interface.
const INTERFACE: &str = "twin0";
/// Tunables of the namespace that differ from a fresh one's: no congestion control that paces by a clock of its own, and
/// no frames of IPv6's.
const SETTINGS: [(&str, &str); 2] =
    [("net.ipv4.tcp_congestion_control", "reno"), ("net.ipv6.conf.twin0.disable_ipv6", "1")];
const MS: u64 = 1_000_000;
/// The kernel's tick, of which its timers count: 4 ms at 250 Hz.
const TICK: u64 = 4 * MS;
/// Looks at the clock from which the tick is found.
const LOOKS: usize = 8;
/// A step that takes longer was interrupted: nanoseconds.
const TOO_LONG: u64 = 250_000;
/// How long the server may take to answer the first ARP request.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs a case in a fresh namespace that the calling thread enters.
///
/// # Errors
/// What keeps the namespace or the interface from being made; names the mend.
pub fn record(case: &Case) -> io::Result<Recording> {
    let mut kernel = Kernel::new()?;
    let before = counter_values()?;
    let phase = *PHASE.get_or_init(tick_phase);
    let mut run = Run {
        // The run begins with a tick: what counts in ticks then does so from the same moments on both sides.
        start: (clock() - phase) / TICK * TICK + phase,
        moments: moments(phase),
        kernel: &mut kernel,
        view: ClientView::default(),
        events: Vec::new(),
        watched: case.watched.then(|| before.clone()),
        disturbed: None,
    };
    run.script(case);
    let (events, disturbed, end) = (run.events, run.disturbed, clock() - run.start);
    let counters = counters::rises(&before, &counter_values()?);
    Ok(Recording { events, counters, sysctls: sysctl_values(), end, disturbed })
}

/// The namespace, with its cable and its application.
struct Kernel {
    tap: Driven,
    application: Application<TcpListener>,
}

/// Nanoseconds on the kernel's monotonic clock.
fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// When within 4 ms the kernel's ticks are.
static PHASE: OnceLock<u64> = OnceLock::new();

/// Finds the tick: the coarse clock moves with it. Being late to see it move is an error to one side only.
fn tick_phase() -> u64 {
    let coarse = || clock_gettime(ClockId::MonotonicCoarse);
    let mut seen = [0; LOOKS];
    let mut last = coarse();
    for seen in &mut seen {
        loop {
            let now = coarse();
            if now != last {
                *seen = clock();
                last = now;
                break;
            }
        }
    }
    let after = |moment: u64| ((moment + TICK / 2 - seen[0] % TICK) % TICK).cast_signed() - (TICK / 2).cast_signed();
    let earliest = seen.iter().map(|&moment| after(moment)).min().unwrap_or(0);
    (seen[0] % TICK).wrapping_add_signed(earliest) % TICK
}

/// Where in a millisecond, counted from a tick, steps may begin: where both the stack's millisecond clock, which counts
/// from a tick, and the kernel's, which does not, are far enough from their next millisecond.
fn moments(phase: u64) -> RangeInclusive<u64> {
    let boundary = (MS - phase % MS) % MS;
    if boundary >= MS / 2 { 20_000..=boundary - TOO_LONG } else { boundary + 20_000..=MS - TOO_LONG }
}

fn counter_values() -> io::Result<BTreeMap<String, i64>> {
    // Of the thread, which may be elsewhere than the process.
    let mut values = counters::parse(&std::fs::read_to_string("/proc/thread-self/net/snmp")?);
    values.extend(counters::parse(&std::fs::read_to_string("/proc/thread-self/net/netstat")?));
    Ok(values)
}

/// The tunables that a stack has, too.
fn sysctl_values() -> BTreeMap<String, String> {
    let value = |name: &str| std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok();
    let pair = |name: &str| Some((name.to_owned(), value(name)?.split_whitespace().collect::<Vec<_>>().join(" ")));
    KNOBS.iter().filter_map(|knob| pair(knob.name)).collect()
}

impl Kernel {
    fn new() -> io::Result<Kernel> {
        netns::enter_private()?;
        let config =
            TapConfig { name: INTERFACE.to_owned(), queues: 1, vnet_hdr: false, offload: false, mac: Some(CLIENT_MAC) };
        let tap = Tap::open(config)?;
        for (name, value) in SETTINGS {
            // A kernel without IPv6 has nothing to be switched off.
            match netns::set_sysctl(name, value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let mut rtnl = Rtnl::open()?;
        rtnl.set_mac(INTERFACE, SERVER_MAC)?;
        rtnl.add_address(INTERFACE, SERVER, 24)?;
        rtnl.set_up(INTERFACE)?;
        let listener = TcpListener::bind((SERVER, SERVER_PORT))?;
        listener.set_nonblocking(true)?;
        let (half, attach) = Half::new(0, Arc::new(NoDoorbell))?;
        let queue = Box::new(tap).open(vec![attach], Steering::Fixed(0))?.into_iter().next();
        let queue = queue.ok_or_else(|| io::Error::other("the TAP opened without a queue"))?;
        let mut kernel = Kernel { tap: half.drive(queue), application: Application::new(listener) };
        kernel.introduce()?;
        Ok(kernel)
    }

    /// The server learns the client's hardware address.
    fn introduce(&mut self) -> io::Result<()> {
        let end = clock() + PATIENCE.as_nanos() as u64;
        while clock() < end {
            self.send(arp_request())?;
            let mut answered = false;
            self.tap.take(Time(clock()), |parcel| answered |= ethertype(&parcel.bytes) == Some(EtherType::ARP));
            if answered {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("the kernel does not answer on {INTERFACE}")))
    }

    fn send(&mut self, frame: Vec<u8>) -> io::Result<()> {
        match self.tap.xmit(Time(clock()), &Parcel::plain(frame)) {
            Xmit::Sent => Ok(()),
            Xmit::Busy | Xmit::Failed => Err(io::Error::other(format!("{INTERFACE} does not take a frame"))),
        }
    }

    /// Sleeps until a frame comes, `until` at the latest.
    fn sleep(&self, until: u64) {
        let left = until.saturating_sub(clock());
        let timeout = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as _ };
        match self.tap.queue.readiness().and_then(|ready| ready.handle::<OwnedFd>()) {
            // However it ends, the caller looks at the clock and at the interface.
            Some(fd) => drop(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout))),
            None => std::thread::sleep(Duration::from_nanos(left.min(MS))),
        }
    }
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    EthernetHeader::parse(frame).map(|(header, _)| header.ethertype())
}

/// A case under way.
struct Run<'a> {
    kernel: &'a mut Kernel,
    start: u64,
    moments: RangeInclusive<u64>,
    view: ClientView,
    events: Vec<Event>,
    /// Counters after the last step, if the case is watched.
    watched: Option<BTreeMap<String, i64>>,
    disturbed: Option<String>,
}

impl Run<'_> {
    fn script(&mut self, case: &Case) {
        let mut due = self.start;
        for step in &case.steps {
            due = clock().max(due + u64::from(step.wait_us) * 1_000);
            self.wait(due);
            due = self.step(&step.action);
        }
        self.wait(clock() + u64::from(case.quiet_us) * 1_000);
    }

    /// Lets time pass, noting what timers send.
    fn wait(&mut self, until: u64) {
        loop {
            self.collect(false);
            let now = clock();
            if now >= until {
                return;
            }
            self.kernel.sleep(until);
        }
    }

    /// Takes a step at one of the moments that are good for it; gives when.
    fn step(&mut self, action: &Action) -> u64 {
        loop {
            let within = (clock() - self.start) % MS;
            if self.moments.contains(&within) {
                break;
            }
            let missing = (MS + self.moments.start() - within) % MS;
            std::thread::sleep(Duration::from_nanos(missing));
        }
        self.collect(false);
        let began = clock();
        let at = began - self.start;
        let what = match action {
            Action::Send(segment) => {
                let sent = self.view.resolve(segment);
                if let Err(error) = self.kernel.send(self.view.frame(&sent)) {
                    self.disturbed = Some(error.to_string());
                }
                What::Sent(sent)
            }
            Action::Call(call) => What::Called(*call, self.kernel.application.call(*call)),
        };
        let took = clock() - began;
        let index = self.events.len();
        self.events.push(Event::new(at, what));
        if took > TOO_LONG {
            self.disturbed =
                Some(format!("the step at {}.{:03} ms took {} us", at / MS, at / 1_000 % 1_000, took / 1_000));
        }
        self.collect(true);
        self.watch(index);
        began
    }

    /// Notes how much the counters rose since the last step.
    fn watch(&mut self, index: usize) {
        let (Some(before), Some(event)) = (&mut self.watched, self.events.get_mut(index)) else { return };
        match counter_values() {
            Ok(now) => {
                event.rose = Some(counters::rises(before, &now));
                *before = now;
            }
            Err(error) => self.disturbed = Some(error.to_string()),
        }
    }

    /// Notes what the server has emitted.
    fn collect(&mut self, prompt: bool) {
        let now = clock();
        let Run { kernel, events, view, start, .. } = self;
        kernel.tap.take(Time(now), |parcel| {
            if ethertype(&parcel.bytes) == Some(EtherType::IPV4) {
                view.saw(&parcel.bytes);
                events.push(Event::new(now - *start, What::Emitted { frame: parcel.bytes, prompt }));
            }
        });
    }
}
