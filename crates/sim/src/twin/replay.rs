//! The stack's side: the frames and calls of a recording, at their times, into a stack in virtual time.

use std::collections::VecDeque;
use std::io;

use rxpath::clock::{Clock as _, ManualClock};
use rxpath::device::wire::{self, Port, WireConfig};
use rxpath::net::TcpListener;
use rxpath::{Interface, Mode, Stack};
use rxpath_core::nic::{Features, TruesizeModel};
use rxpath_core::sysctl::Sysctls;
use rxpath_trace::{Selector, Time};
use rxpath_wire::{EtherType, EthernetHeader};

use super::application::Application;
use super::case::SERVER_PORT;
use super::counters;
use super::frames::{ClientView, SERVER, SERVER_MAC, arp_request};
use super::record::{Event, Recording, What};

/// Where the recording's time begins on the stack's clock.
const BASE: Time = Time(10_000_000_000);
/// The kernel's timers fire this much late at the most: its tick, and the machine's.
pub const LATE_MAX: u64 = 16_000_000;

/// The stack's run, and how often its clock was held.
pub struct Replayed {
    /// What happened.
    pub recording: Recording,
    /// Steps at which the clock was held back because the kernel's timer was late.
    pub held: u64,
}

/// Runs the recorded frames and calls through a stack, each at the moment at which its step began.
///
/// # Errors
/// The stack could not be made, or does not answer.
pub fn replay(kernel: &Recording, seed: u64) -> io::Result<Replayed> {
    replay_at(kernel, seed, |_| 0)
}

/// The same with each step so many nanoseconds after its beginning as `later` says for what it took.
///
/// # Errors
/// The stack could not be made, or does not answer.
pub fn replay_at(kernel: &Recording, seed: u64, later: impl FnMut(u64) -> u64) -> io::Result<Replayed> {
    let mut side = Side::new(kernel, seed)?;
    let before = side.stack.snapshot();
    let held = side.run(kernel, later)?;
    let counters = counters::of_stack(&before, &side.stack.snapshot());
    side.stack.ledger().check().map_err(io::Error::other)?;
    let (sysctls, end, disturbed) = (kernel.sysctls.clone(), kernel.end, None);
    Ok(Replayed { recording: Recording { events: side.events, counters, sysctls, end, disturbed }, held })
}

struct Side {
    stack: Stack,
    clock: ManualClock,
    port: Port,
    application: Application<TcpListener>,
    view: ClientView,
    events: Vec<Event>,
}

impl Side {
    fn new(kernel: &Recording, seed: u64) -> io::Result<Side> {
        // What the kernel does in software in front of the TAP, cutting super-frames, the card does here.
        let features = Features { rx_csum: false, tx_csum: true, tso: true };
        let truesize = TruesizeModel::Kernel;
        let config = WireConfig { features, truesize, cut: true, ..WireConfig::default().mac(SERVER_MAC) };
        let (wire, port) = wire::port(config);
        let mut sysctls = Sysctls::default();
        for (name, value) in &kernel.sysctls {
            sysctls.set(name, value).map_err(io::Error::other)?;
        }
        let clock = ManualClock::new();
        let address = format!("{SERVER}/24");
        // A TAP without NAPI has no GRO.
        let interface = Interface::new(wire).gro(false).address(&address).map_err(io::Error::other)?;
        let builder = Stack::builder().interface(interface).sysctls(sysctls).seed(seed).lives(Selector::All);
        let stack = builder.mode(Mode::Polled).clock(clock.clone()).build()?;
        let listener = TcpListener::bind(&stack, (SERVER, SERVER_PORT))?;
        listener.set_nonblocking(true)?;
        let application = Application::new(listener);
        let (view, events) = (ClientView::default(), Vec::new());
        let mut side = Side { stack, clock, port, application, view, events };
        side.introduce()?;
        Ok(side)
    }

    /// The stack learns the client's hardware address.
    fn introduce(&mut self) -> io::Result<()> {
        self.at(Time(BASE.0 - 1_000_000_000));
        self.send(arp_request())?;
        match self.port.recv() {
            Some(reply) if ethertype(&reply) == Some(EtherType::ARP) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::TimedOut, "the stack does not answer an ARP request")),
        }
    }

    fn run(&mut self, kernel: &Recording, mut later: impl FnMut(u64) -> u64) -> io::Result<u64> {
        let (mut held, mut watched) = (0, self.stack.snapshot());
        let mut late = late_emissions(kernel);
        for (index, event) in kernel.events.iter().enumerate() {
            if matches!(event.what, What::Emitted { .. }) {
                continue;
            }
            held += u64::from(self.advance(BASE + (event.at + later(event.took)), index, &mut late));
            let what = match &event.what {
                What::Sent(sent) => {
                    self.send(self.view.frame(sent))?;
                    What::Sent(sent.clone())
                }
                What::Called(call, _) => {
                    let gave = self.application.call(*call);
                    self.poll();
                    What::Called(*call, gave)
                }
                What::Emitted { .. } => continue,
            };
            let index = self.events.len();
            self.events.push(Event::new(event.at, what));
            self.collect(true);
            if event.rose.is_some() {
                let now = self.stack.snapshot();
                self.events[index].rose = Some(counters::of_stack(&watched, &now));
                watched = now;
            }
        }
        self.advance(BASE + kernel.end, usize::MAX, &mut late);
        Ok(held)
    }

    /// Lets time pass up to the event `index` of the recording, at `to`. True if the clock was held before a timer whose
    /// twin in the kernel did not fire before that event, although it was due: late, or made needless by the event.
    fn advance(&mut self, to: Time, index: usize, late: &mut VecDeque<(usize, u64)>) -> bool {
        while let Some(due) = self.stack.core().next_deadline().filter(|&due| due <= to) {
            let fired = late.front().is_some_and(|&(position, _)| position < index);
            if !fired && index != usize::MAX && to <= due + LATE_MAX && self.stack.core().timer_is_due(due) {
                self.at(Time(due.0 - 1).min(to));
                return true;
            }
            self.at(due);
            let emitted = self.events.len();
            self.collect(false);
            if self.events.len() > emitted {
                late.pop_front();
            }
        }
        self.at(to);
        self.collect(false);
        false
    }

    /// Sets the clock and does what is due.
    fn at(&mut self, now: Time) {
        self.clock.advance_to(now);
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

    fn send(&mut self, frame: Vec<u8>) -> io::Result<()> {
        self.port.send(self.clock.now(), &frame).map_err(io::Error::other)?;
        self.poll();
        Ok(())
    }

    /// Notes what the stack has emitted.
    fn collect(&mut self, prompt: bool) {
        let at = self.clock.now() - BASE;
        while let Some(frame) = self.port.recv() {
            if ethertype(&frame) == Some(EtherType::IPV4) {
                self.view.saw(&frame);
                self.events.push(Event::new(at, What::Emitted { frame, prompt }));
            }
        }
    }
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    EthernetHeader::parse(frame).map(|(header, _)| header.ethertype())
}

/// Position and time of each frame that a timer of the kernel's sent; of several at one time only the first.
fn late_emissions(kernel: &Recording) -> VecDeque<(usize, u64)> {
    let mut late: VecDeque<(usize, u64)> = VecDeque::new();
    for (index, event) in kernel.events.iter().enumerate() {
        if matches!(event.what, What::Emitted { prompt: false, .. }) && late.back().is_none_or(|&(_, at)| at < event.at)
        {
            late.push_back((index, event.at));
        }
    }
    late
}
