//! The kernel's side: a TAP in a network namespace of its own, raw frames on one end, the kernel's sockets on the other.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
use super::tick::{MS, TOO_LONG, Tick, clock};
use crate::driven::{Driven, Half, Parcel};

/// Name of the interface.
const INTERFACE: &str = "twin0";
/// Tunables of the namespace that differ from a fresh one's: no congestion control that paces by a clock of its own, and
/// no frames of IPv6's.
const SETTINGS: [(&str, &str); 2] =
    [("net.ipv4.tcp_congestion_control", "reno"), ("net.ipv6.conf.twin0.disable_ipv6", "1")];
/// A wait that is over so much after its time was slept through: nanoseconds.
const OVERSLEPT: u64 = 5 * MS;
/// Attempts to begin a step at a good moment, with the tick in time.
const TRIES: usize = 20;
/// How long the server may take to answer the first ARP request.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs a case in a fresh namespace that the calling thread enters.
///
/// # Errors
/// What keeps the namespace or the interface from being made; names the mend.
pub fn record(case: &Case) -> io::Result<Recording> {
    let mut kernel = Kernel::new()?;
    let before = counter_values()?;
    let tick = *TICKS.get_or_init(Tick::find);
    let mut run = Run {
        // The run begins with a tick: what counts in ticks then does so from the same moments on both sides.
        start: tick.before(clock()),
        tick,
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

/// The tick, found once for all cases of a process.
static TICKS: OnceLock<Tick> = OnceLock::new();

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
        let config = TapConfig {
            name: INTERFACE.to_owned(),
            queues: 1,
            vnet_hdr: false,
            offload: false,
            mac: Some(CLIENT_MAC),
            mtu: None,
        };
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
    tick: Tick,
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
                if now > until + OVERSLEPT {
                    self.disturb(format!("a wait was over {} ms after its time", (now - until) / MS));
                }
                return;
            }
            self.kernel.sleep(until);
        }
    }

    /// Why the recording is not to be relied on.
    fn disturb(&mut self, why: String) {
        self.disturbed.get_or_insert(why);
    }

    /// Waits for a moment that is good for a step.
    fn wait_for_moment(&mut self) {
        let moments = self.tick.moments();
        for _ in 0..TRIES {
            let now = clock();
            let within = (now - self.start) % MS;
            let good = moments.contains(&within);
            if good && !self.tick.is_late(now) {
                return;
            }
            let missing = if good { TOO_LONG / 2 } else { (MS + moments.start() - within) % MS };
            std::thread::sleep(Duration::from_nanos(missing));
        }
        self.disturb("the tick is late".to_owned());
    }

    /// Takes a step at one of the moments that are good for it; gives when.
    fn step(&mut self, action: &Action) -> u64 {
        self.wait_for_moment();
        self.collect(false);
        let began = clock();
        let at = began - self.start;
        let what = match action {
            Action::Send(segment) => {
                let sent = self.view.resolve(segment);
                if let Err(error) = self.kernel.send(self.view.frame(&sent)) {
                    self.disturb(error.to_string());
                }
                What::Sent(sent)
            }
            Action::Call(call) => What::Called(*call, self.kernel.application.call(*call)),
        };
        let took = clock() - began;
        let index = self.events.len();
        self.events.push(Event { took, ..Event::new(at, what) });
        if took > TOO_LONG {
            self.disturb(format!("the step at {}.{:03} ms took {} us", at / MS, at / 1_000 % 1_000, took / 1_000));
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
            Err(error) => self.disturb(error.to_string()),
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
