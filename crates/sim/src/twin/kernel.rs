//! The kernel's side: TAPs in a network namespace of its own, raw frames on one end, the kernel on the other.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rxpath::device::netns::{self, Refusal, Rtnl};
use rxpath::device::tap::{Tap, TapConfig};
use rxpath_core::nic::{Device, NoDoorbell, Steering, Xmit};
use rxpath_core::sysctl::{self, Sysctls};
use rxpath_trace::Time;
use rxpath_wire::EtherType;

use super::application::Application;
use super::case::{Action, Call, Case, Gave, Host, Link, Route, SERVER_PORT, Way, host_mac, interface};
use super::counters;
use super::datagram::Sockets;
use super::frames::{CLIENT_MAC, ClientView, SERVER, ethertype, introduction};
use super::lateness::LATE_MAX;
use super::record::{Event, Recording, What};
use super::stream::StreamSockets;
use super::tick::{MS, TICK, TOO_LONG, Tick, clock};
use crate::driven::{Driven, Half, Parcel};

/// Tunables of the namespace that differ from a fresh one's: no congestion control that paces by a clock of its own, and
/// no frames of IPv6's.
const SETTINGS: [(&str, &str); 2] =
    [("net.ipv4.tcp_congestion_control", "reno"), ("net.ipv6.conf.default.disable_ipv6", "1")];
/// A wait that is over so much after its time was slept through: nanoseconds.
const OVERSLEPT: u64 = 5 * MS;
/// How often frames are looked for while nothing is to be done: nanoseconds. Their times are those of the looks.
const LOOK: u64 = TICK;
// What is noticed in time is within what is allowed for a timer's lateness.
const _: () = assert!(LOOK + OVERSLEPT < LATE_MAX);
/// What a step may take where a tick does not matter: nanoseconds.
const FAR_TOO_LONG: u64 = 20 * MS;
/// Attempts to begin a step at a good moment, with the tick in time.
const TRIES: usize = 20;
/// How long the host may take to answer the first ARP request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a case in a fresh namespace that the calling thread enters.
///
/// # Errors
/// What keeps the namespace or an interface from being made; names the mend.
pub fn record(case: &Case) -> io::Result<Recording> {
    let mut kernel = Kernel::new(&case.host)?;
    let before = kernel.counter_values()?;
    let tick = *TICKS.get_or_init(Tick::find);
    let mut run = Run {
        // The run begins with a tick: what counts in ticks then does so from the same moments on both sides.
        start: tick.before(clock()),
        tick,
        looked: clock(),
        exact: case.host.is_exact(),
        kernel: &mut kernel,
        view: ClientView::default(),
        events: Vec::new(),
        watched: case.watched.then(|| before.clone()),
        disturbed: None,
    };
    run.script(case);
    let (events, disturbed, end) = (run.events, run.disturbed, clock() - run.start);
    let counters = counters::rises(&before, &kernel.counter_values()?);
    let sysctls = sysctl_values(&case.host);
    Ok(Recording { host: case.host.clone(), events, counters, sysctls, end, disturbed })
}

/// The namespace, with its cables and its application.
struct Kernel {
    taps: Vec<Driven>,
    application: Option<Application<TcpListener>>,
    sockets: Sockets<UdpSocket>,
    streams: StreamSockets<TcpStream>,
    rtnl: Rtnl,
}

/// The tick, found once for all cases of a process.
static TICKS: OnceLock<Tick> = OnceLock::new();

/// The tunables that a stack has, too.
fn sysctl_values(host: &Host) -> BTreeMap<String, String> {
    let value = |name: &str| std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok();
    let pair = |name: &str| Some((name.to_owned(), value(name)?.split_whitespace().collect::<Vec<_>>().join(" ")));
    let known = sysctl::names();
    // The case may set some that are spelled otherwise, and some that keep the kernel from what the stack has not.
    let obeys = |(name, value): &&(String, String)| Sysctls::default().set(name, value).is_ok();
    let set = host.sysctls.iter().filter(obeys).map(|(name, _)| name);
    known.iter().chain(set).filter_map(|name| pair(name)).collect()
}

impl Kernel {
    fn new(host: &Host) -> io::Result<Kernel> {
        netns::enter_private()?;
        let mut rtnl = Rtnl::open()?;
        for (name, value) in SETTINGS {
            // A kernel without IPv6 has nothing to be switched off.
            match netns::set_sysctl(name, value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let taps: Vec<Tap> = host.links.iter().enumerate().map(tap).collect::<io::Result<_>>()?;
        for (name, value) in &host.sysctls {
            netns::set_sysctl(name, value)?;
        }
        for (index, link) in host.links.iter().enumerate() {
            let name = interface(index);
            rtnl.set_mac(&name, host_mac(index))?;
            for &(address, prefix) in &link.addresses {
                rtnl.add_address(&name, address, prefix)?;
            }
            rtnl.set_up(&name)?;
        }
        for route in &host.routes {
            add_route(&mut rtnl, route)?;
        }
        let application = if host.serves { Some(server()?) } else { None };
        let taps = taps.into_iter().map(drive).collect::<io::Result<_>>()?;
        let (sockets, streams) = (Sockets::new(()), StreamSockets::new(()));
        let mut kernel = Kernel { taps, application, sockets, streams, rtnl };
        for (index, link) in host.links.iter().enumerate() {
            kernel.introduce(index, link)?;
        }
        Ok(kernel)
    }

    /// The host learns the hardware addresses of those on a link.
    fn introduce(&mut self, index: usize, link: &Link) -> io::Result<()> {
        let host = link.addresses.first().map_or(Ipv4Addr::UNSPECIFIED, |&(address, _)| address);
        for peer in &link.peers {
            let end = clock() + PATIENCE.as_nanos() as u64;
            let mut answered = false;
            while !answered {
                if clock() > end {
                    let what = format!("the kernel does not answer on {}", interface(index));
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                self.send(index, introduction(peer, host))?;
                self.taps[index]
                    .take(Time(clock()), |parcel| answered |= ethertype(&parcel.bytes) == Some(EtherType::ARP));
                if !answered {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, link: usize, frame: Vec<u8>) -> io::Result<()> {
        let refused = || io::Error::other(format!("{} does not take a frame", interface(link)));
        let tap = self.taps.get_mut(link).ok_or_else(refused)?;
        match tap.xmit(Time(clock()), &Parcel::plain(frame)) {
            Xmit::Sent => Ok(()),
            Xmit::Busy | Xmit::Failed => Err(refused()),
        }
    }

    /// Sleeps until a frame comes, `until` at the latest.
    fn sleep(&self, until: u64) {
        let left = until.saturating_sub(clock());
        let timeout = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as _ };
        let ready = |tap: &Driven| tap.queue.readiness().and_then(|ready| ready.handle::<OwnedFd>());
        let ready: Vec<_> = self.taps.iter().filter_map(ready).collect();
        if ready.is_empty() {
            std::thread::sleep(Duration::from_nanos(left.min(MS)));
        }
        let mut fds: Vec<PollFd<'_>> = ready.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        // However it ends, the caller looks at the clock and at the interfaces.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn counter_values(&mut self) -> io::Result<BTreeMap<String, i64>> {
        // Of the thread, which may be elsewhere than the process.
        let mut values = counters::parse(&std::fs::read_to_string("/proc/thread-self/net/snmp")?);
        values.extend(counters::parse(&std::fs::read_to_string("/proc/thread-self/net/netstat")?));
        for index in 0..self.taps.len() {
            let name = interface(index);
            let figures = self.rtnl.statistics(&name)?;
            values.extend(figures.into_iter().map(|(figure, n)| (format!("{name} {figure}"), n.cast_signed())));
        }
        Ok(values)
    }
}

fn tap((index, link): (usize, &Link)) -> io::Result<Tap> {
    Tap::open(TapConfig {
        name: interface(index),
        queues: 1,
        vnet_hdr: false,
        offload: false,
        mac: Some(CLIENT_MAC),
        mtu: Some(link.mtu),
    })
}

fn drive(tap: Tap) -> io::Result<Driven> {
    let (half, attach) = Half::new(0, Arc::new(NoDoorbell))?;
    let queue = Box::new(tap).open(vec![attach], Steering::Fixed(0))?.into_iter().next();
    let queue = queue.ok_or_else(|| io::Error::other("the TAP opened without a queue"))?;
    Ok(half.drive(queue))
}

fn add_route(rtnl: &mut Rtnl, route: &Route) -> io::Result<()> {
    let (network, prefix) = route.to;
    let name = |link: u8| interface(usize::from(link));
    match route.way {
        Way::Via(gateway, link) => rtnl.add_route(network, prefix, Some(gateway), &name(link)),
        Way::Onlink(gateway, link) => rtnl.add_onlink_route(network, prefix, gateway, &name(link)),
        Way::On(link) => rtnl.add_route(network, prefix, None, &name(link)),
        Way::Blackhole => rtnl.add_refusal(network, prefix, Refusal::Blackhole),
        Way::Unreachable => rtnl.add_refusal(network, prefix, Refusal::Unreachable),
        Way::Prohibit => rtnl.add_refusal(network, prefix, Refusal::Prohibit),
    }
}

fn server() -> io::Result<Application<TcpListener>> {
    let listener = TcpListener::bind((SERVER, SERVER_PORT))?;
    listener.set_nonblocking(true)?;
    Ok(Application::new(listener))
}

/// A case under way.
struct Run<'a> {
    kernel: &'a mut Kernel,
    start: u64,
    tick: Tick,
    /// When frames were looked for last.
    looked: u64,
    /// The time within a tick matters.
    exact: bool,
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
                if self.exact && now > until + OVERSLEPT {
                    self.disturb(format!("a wait was over {} ms after its time", (now - until) / MS));
                }
                return;
            }
            self.kernel.sleep(if self.exact { until.min(now + LOOK) } else { until });
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
        if self.exact {
            self.wait_for_moment();
        }
        self.collect(false);
        let began = clock();
        let at = began - self.start;
        let what = match action {
            Action::Send(segment) => {
                let sent = self.view.resolve(segment);
                self.view.sent(&sent);
                self.send(0, self.view.frame(&sent));
                What::Sent(sent)
            }
            Action::Report(report) => {
                let seq = self.view.seq_of(report);
                self.send(0, self.view.report_frame(report, seq));
                What::Reported(*report, seq)
            }
            Action::Frame { link, frame } => {
                self.send(*link, frame.clone());
                What::Fed { link: *link, frame: frame.clone() }
            }
            Action::Call(call) => {
                let application = self.kernel.application.as_mut();
                let gave = match call {
                    Call::Datagram(number, call) => self.kernel.sockets.call(*number, *call),
                    Call::Stream(number, call) => self.kernel.streams.call(*number, *call),
                    _ => application.map_or(Gave::NoConnection, |application| application.call(*call)),
                };
                What::Called(*call, gave)
            }
        };
        let took = clock() - began;
        let index = self.events.len();
        self.events.push(Event { took, ..Event::new(at, what) });
        if took > if self.exact { TOO_LONG } else { FAR_TOO_LONG } {
            self.disturb(format!("the step at {}.{:03} ms took {} us", at / MS, at / 1_000 % 1_000, took / 1_000));
        }
        self.collect(true);
        self.watch(index);
        began
    }

    fn send(&mut self, link: u8, frame: Vec<u8>) {
        if let Err(error) = self.kernel.send(usize::from(link), frame) {
            self.disturb(error.to_string());
        }
    }

    /// Notes how much the counters rose since the last step.
    fn watch(&mut self, index: usize) {
        let (Some(before), Some(event)) = (&mut self.watched, self.events.get_mut(index)) else { return };
        match self.kernel.counter_values() {
            Ok(now) => {
                event.rose = Some(counters::rises(before, &now));
                *before = now;
            }
            Err(error) => self.disturb(error.to_string()),
        }
    }

    /// Notes what the host has emitted.
    fn collect(&mut self, prompt: bool) {
        let now = clock();
        let Run { kernel, events, view, start, exact, .. } = self;
        let before = events.len();
        for (link, tap) in kernel.taps.iter_mut().enumerate() {
            tap.take(Time(now), |parcel| {
                if !*exact || ethertype(&parcel.bytes) == Some(EtherType::IPV4) {
                    view.saw(&parcel.bytes);
                    let what = What::Emitted { link: link as u8, frame: parcel.bytes, prompt };
                    events.push(Event::new(now - *start, what));
                }
            });
        }
        let noticed = events.len() > before;
        let waited = now - std::mem::replace(&mut self.looked, now);
        if self.exact && noticed && noticed_late(waited) {
            self.disturb(format!("a frame may have waited {} ms to be noticed", waited / MS));
        }
    }
}

/// Whether frames that are noticed so many nanoseconds after the last look may have left at another time altogether: whoever
/// looks for them was not given a processor.
fn noticed_late(waited: u64) -> bool {
    waited > LOOK + OVERSLEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_nobody_looked_for_in_time_has_no_time() {
        assert!(!noticed_late(LOOK + OVERSLEPT), "a wait may be as much too long");
        assert!(noticed_late(LOOK + OVERSLEPT + 1) && noticed_late(28 * MS));
    }
}
