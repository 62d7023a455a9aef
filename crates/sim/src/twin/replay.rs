//! The stack's side: the frames and calls of a recording, at their times, into a stack in virtual time.

use std::io;
use std::net::Ipv4Addr;

use rxpath::clock::{Clock as _, ManualClock};
use rxpath::device::wire::{self, Port, WireConfig};
use rxpath::net::{TcpListener, TcpStream, UdpSocket};
use rxpath::{Interface, Mode, Stack};
use rxpath_core::nic::{Features, TruesizeModel};
use rxpath_core::route::RouteSpec;
use rxpath_core::sysctl::Sysctls;
use rxpath_trace::{Selector, Time};
use rxpath_wire::{Addr, EtherType};

use super::application::Application;
use super::case::{Call, Gave, Host, Link, Route, SERVER_PORT, Way, host_mac, interface};
use super::counters;
use super::datagram::Sockets;
use super::frames::{ClientView, SERVER, ethertype, introduction};
use super::lateness::{Lateness, Turn};
use super::record::{Event, Recording, What};
use super::stream::StreamSockets;

/// Where the recording's time begins on the stack's clock.
const BASE: Time = Time(10_000_000_000);

/// The stack's run, and what was done so that its timers were as late as the kernel's.
pub struct Replayed {
    /// What happened.
    pub recording: Recording,
    /// Steps at which timers were held.
    pub held: u64,
    /// Choices whether a timer was that late.
    pub chosen: u64,
}

/// Runs the recorded frames and calls through a stack, each at the moment at which its step began; what a write offers to the
/// network in parts takes `write_time` nanoseconds for each.
///
/// # Errors
/// The stack could not be made, or does not answer.
pub fn replay(kernel: &Recording, seed: u64, choices: Option<u64>, write_time: u64) -> io::Result<Replayed> {
    replay_at(kernel, seed, choices, write_time, |_| 0)
}

/// The same with each step so many nanoseconds after its beginning as `later` says for what it took.
///
/// # Errors
/// The stack could not be made, or does not answer.
pub fn replay_at(
    kernel: &Recording,
    seed: u64,
    choices: Option<u64>,
    write_time: u64,
    later: impl FnMut(u64) -> u64,
) -> io::Result<Replayed> {
    let mut side = Side::new(kernel, seed, choices)?;
    side.stack.core().set_write_time(write_time);
    let before = counters::values_of(&side.stack);
    side.run(kernel, later)?;
    let counters = counters::rises(&before, &counters::values_of(&side.stack));
    side.stack.ledger().check().map_err(io::Error::other)?;
    let (sysctls, end, disturbed) = (kernel.sysctls.clone(), kernel.end, None);
    let Lateness { held, chosen, .. } = side.late;
    let recording = Recording { host: kernel.host.clone(), events: side.events, counters, sysctls, end, disturbed };
    Ok(Replayed { recording, held, chosen })
}

struct Side {
    stack: Stack,
    clock: ManualClock,
    ports: Vec<Port>,
    application: Option<Application<TcpListener>>,
    sockets: Sockets<UdpSocket>,
    streams: StreamSockets<TcpStream>,
    late: Lateness,
    view: ClientView,
    events: Vec<Event>,
    /// Only IP packets are noted.
    exact: bool,
}

impl Side {
    fn new(kernel: &Recording, seed: u64, choices: Option<u64>) -> io::Result<Side> {
        let Host { links, routes, serves, .. } = &kernel.host;
        let mut sysctls = Sysctls::default();
        for (name, value) in &kernel.sysctls {
            sysctls.set(name, value).map_err(io::Error::other)?;
        }
        let clock = ManualClock::new();
        let mut builder = Stack::builder().sysctls(sysctls).seed(seed).lives(Selector::All);
        let mut ports = Vec::new();
        for (index, link) in links.iter().enumerate() {
            let (cable, port) = cable(index, link)?;
            builder = builder.interface(cable);
            ports.push(port);
        }
        for route in routes {
            builder = builder.route(spec_of(route));
        }
        let stack = builder.mode(Mode::Polled).clock(clock.clone()).build()?;
        let application = if *serves { Some(server(&stack)?) } else { None };
        let (view, events, exact) = (ClientView::default(), Vec::new(), kernel.host.is_exact());
        let (sockets, streams) = (Sockets::new(stack.clone()), StreamSockets::new(stack.clone()));
        let late = Lateness::of(kernel, BASE, choices);
        let mut side = Side { stack, clock, ports, application, sockets, streams, late, view, events, exact };
        side.at(Time(BASE.0 - 1_000_000_000));
        for (index, link) in links.iter().enumerate() {
            side.introduce(index, link)?;
        }
        Ok(side)
    }

    /// The stack learns the hardware addresses of those on a link.
    fn introduce(&mut self, index: usize, link: &Link) -> io::Result<()> {
        let host = link.addresses.first().map_or(Ipv4Addr::UNSPECIFIED, |&(address, _)| address);
        for peer in &link.peers {
            self.send(index, &introduction(peer, host))?;
            match self.ports[index].recv() {
                Some(reply) if ethertype(&reply) == Some(EtherType::ARP) => {}
                _ => return Err(io::Error::new(io::ErrorKind::TimedOut, "the stack does not answer an ARP request")),
            }
        }
        Ok(())
    }

    fn run(&mut self, kernel: &Recording, mut later: impl FnMut(u64) -> u64) -> io::Result<()> {
        let mut watched = counters::values_of(&self.stack);
        for (index, event) in kernel.events.iter().enumerate() {
            if matches!(event.what, What::Emitted { .. }) {
                continue;
            }
            let at = BASE + (event.at + later(event.took));
            self.advance(at, Some(index));
            self.late.step(index);
            let what = match &event.what {
                What::Sent(sent) => {
                    self.send(0, &self.view.frame(sent))?;
                    What::Sent(sent.clone())
                }
                What::Reported(report, seq) => {
                    self.send(0, &self.view.report_frame(report, *seq))?;
                    What::Reported(*report, *seq)
                }
                What::Fed { link, frame } => {
                    self.send(usize::from(*link), frame)?;
                    What::Fed { link: *link, frame: frame.clone() }
                }
                What::Called(call, _) => {
                    let gave = match (call, &mut self.application) {
                        (Call::Datagram(number, call), _) => self.sockets.call(*number, *call),
                        (Call::Stream(number, call), _) => self.streams.call(*number, *call),
                        (_, Some(application)) => application.call(*call),
                        (_, None) => Gave::NoConnection,
                    };
                    self.poll();
                    What::Called(*call, gave)
                }
                What::Emitted { .. } => continue,
            };
            let index = self.events.len();
            self.events.push(Event::new(event.at, what));
            self.collect(true);
            if event.rose.is_some() {
                let now = counters::values_of(&self.stack);
                self.events[index].rose = Some(counters::rises(&watched, &now));
                watched = now;
            }
        }
        self.advance(BASE + kernel.end, None);
        Ok(())
    }

    /// Lets time pass up to the event `index` of the recording, at `to`, or to the end. Timers are as late as the
    /// kernel's: some are held beyond the event.
    fn advance(&mut self, to: Time, index: Option<usize>) {
        let stack = self.stack.clone();
        stack.core().hold_timers(false);
        self.late.timers(&stack.core().timer_deadlines(), self.clock.now());
        while let Some(due) = stack.core().next_deadline().filter(|&due| due <= to) {
            let turn = self.late.turn(due, to, index);
            let Turn::Fire(at) = turn else {
                stack.core().hold_timers(true);
                break;
            };
            self.at(at);
            let emitted = self.events.len();
            self.collect(false);
            if self.events.len() > emitted {
                self.late.sent();
            }
            self.late.timers(&stack.core().timer_deadlines(), self.clock.now());
        }
        self.at(to);
        self.collect(false);
    }

    /// Sets the clock and does what is due.
    fn at(&mut self, now: Time) {
        self.clock.advance_to(now.max(self.clock.now()));
        self.poll();
    }

    fn poll(&mut self) {
        // A round that gave the stack more to do is followed by another.
        for _ in 0..64 {
            let now = self.clock.now();
            if self.stack.poll(now).next.is_none_or(|at| at > now) {
                return;
            }
        }
    }

    fn send(&mut self, link: usize, frame: &[u8]) -> io::Result<()> {
        let port = self.ports.get(link).ok_or_else(|| io::Error::other("there is no such link"))?;
        port.send(self.clock.now(), frame).map_err(io::Error::other)?;
        self.poll();
        Ok(())
    }

    /// Notes what the stack has emitted.
    fn collect(&mut self, prompt: bool) {
        let at = self.clock.now() - BASE;
        for (link, port) in self.ports.iter().enumerate() {
            while let Some(frame) = port.recv() {
                if !self.exact || ethertype(&frame) == Some(EtherType::IPV4) {
                    self.view.saw(&frame);
                    self.events.push(Event::new(at, What::Emitted { link: link as u8, frame, prompt }));
                }
            }
        }
    }
}

/// An interface, and the other end of its cable.
fn cable(index: usize, link: &Link) -> io::Result<(Interface, Port)> {
    // What the kernel does in software in front of the TAP, cutting super-frames, the card does here.
    let features = Features { rx_csum: false, tx_csum: true, tso: true };
    let (mtu, truesize) = (link.mtu, TruesizeModel::Kernel);
    let config = WireConfig { mtu, features, truesize, cut: true, ..WireConfig::named(&interface(index)) };
    let (wire, port) = wire::port(config.mac(host_mac(index)));
    // A TAP without NAPI has no GRO.
    let mut cable = Interface::new(wire).gro(false);
    for (address, prefix) in &link.addresses {
        cable = cable.address(&format!("{address}/{prefix}")).map_err(io::Error::other)?;
    }
    Ok((cable, port))
}

fn spec_of(route: &Route) -> RouteSpec {
    let (network, prefix) = route.to;
    RouteSpec {
        kind: route.way.kind(),
        via: route.way.via().map(|gateway| Addr::from_v4(gateway.octets())),
        ifindex: route.way.link().map(|link| u16::from(link) + 1),
        onlink: matches!(route.way, Way::Onlink(..)),
        ..RouteSpec::new(Addr::from_v4(network.octets()), prefix)
    }
}

fn server(stack: &Stack) -> io::Result<Application<TcpListener>> {
    let listener = TcpListener::bind(stack, (SERVER, SERVER_PORT))?;
    listener.set_nonblocking(true)?;
    Ok(Application::new(listener))
}
