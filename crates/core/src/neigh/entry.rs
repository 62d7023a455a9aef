//! One neighbour: its states and what moves it from one to another. Nothing here sends or locks; each function says what
//! is to be done.

use rxpath_mem::SkbQueue;
use rxpath_trace::Time;
use rxpath_wire::{Addr, MacAddr};

use crate::sysctl::NeighParms;

/// A neighbour's state (`NUD_*`), with the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Nud {
    /// Being asked for; packets wait.
    Incomplete = 0x01,
    /// Known to receive what is sent to it.
    Reachable = 0x02,
    /// Known once; not known whether still there.
    Stale = 0x04,
    /// Used while stale: a confirmation is given time to come by itself.
    Delay = 0x08,
    /// Asked whether it is still there; packets go on.
    Probe = 0x10,
    /// Did not answer.
    Failed = 0x20,
    /// Configured, and never asked; nothing from the wire changes it.
    Noarp = 0x40,
    /// Configured for good; nothing from the wire changes it, and no collection takes it.
    Permanent = 0x80,
}

impl Nud {
    /// Whether there is a hardware address to send to (`NUD_VALID`).
    pub fn is_valid(self) -> bool {
        !matches!(self, Nud::Incomplete | Nud::Failed)
    }

    /// Whether the address may be used without a look at the entry (`NUD_CONNECTED`).
    pub fn is_connected(self) -> bool {
        matches!(self, Nud::Reachable | Nud::Noarp | Nud::Permanent)
    }

    /// Whether only who configures changes it.
    pub(super) fn is_configured(self) -> bool {
        matches!(self, Nud::Noarp | Nud::Permanent)
    }

    /// The name as `ip neigh` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Nud::Incomplete => "INCOMPLETE",
            Nud::Reachable => "REACHABLE",
            Nud::Stale => "STALE",
            Nud::Delay => "DELAY",
            Nud::Probe => "PROBE",
            Nud::Failed => "FAILED",
            Nud::Noarp => "NOARP",
            Nud::Permanent => "PERMANENT",
        }
    }
}

/// The tunables of an entry's interface, and what follows from them, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parms {
    pub(super) set: NeighParms,
    /// How long a confirmation lasts: half to one and a half times `base_reachable_time_ms`.
    pub(super) reachable: u64,
}

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// A hundredth of a second, in which some tunables are told (`USER_HZ`).
pub(super) const CENTISECOND: u64 = 10 * MS;
/// The shortest time between two solicitations (`HZ/100`).
const LEAST_RETRANS: u64 = 10 * MS;
/// Age below which entries survive a collection under pressure.
const PRESSURE_AGE: u64 = 5 * SECOND;

impl Parms {
    fn delay(&self) -> u64 {
        u64::from(self.set.delay_first_probe_time) * SECOND
    }

    fn retrans(&self) -> u64 {
        (u64::from(self.set.retrans_time_ms) * MS).max(LEAST_RETRANS)
    }

    /// `neigh_max_probes`: solicitations after which a neighbour is given up. One that is not known yet begins with those to
    /// itself alone behind it.
    fn most_probes(&self, state: Nud) -> u32 {
        let NeighParms { ucast_solicit, app_solicit, mcast_solicit, mcast_resolicit, .. } = self.set;
        let everybody = if state == Nud::Probe { mcast_resolicit } else { mcast_solicit };
        ucast_solicit.saturating_add(app_solicit).saturating_add(everybody)
    }
}

/// Interface and address: what an entry is found by.
pub(super) type Key = (u16, Addr);

/// An entry of the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: Nud,
    pub(super) mac: MacAddr,
    /// When address or state last changed.
    pub(super) updated: Time,
    /// When it last proved to be there.
    confirmed: Option<Time>,
    /// When something was last sent by it while it was not known to be reachable.
    pub(super) used: Time,
    /// When the state wants to be looked at; MAX: never.
    pub(super) timer: Time,
    /// Solicitations in this state; see [`Parms::most_probes`].
    probes: u32,
    /// Its place in the order in which entries were made.
    pub(super) serial: u64,
    /// Packets that wait for the address.
    pub(super) pending: SkbQueue,
    /// Their truesize.
    pub(super) pending_bytes: u64,
}

/// What the sender of a packet is to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Send {
    /// Send it to this address.
    To(MacAddr),
    /// Let it wait; if somebody is to be asked, ask.
    Wait(Option<Whom>),
    /// Nobody is ever asked: end it.
    Never,
}

/// Who is asked for an address (`arp_solicit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The neighbour alone.
    Itself(MacAddr),
    /// A daemon of the kernel's, which there is not here: nothing is sent.
    Daemon,
    /// All on the link.
    Everybody,
}

/// What an update does with the packets that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Updated {
    /// The address is known now: they can go.
    pub(super) release: bool,
    /// What senders have kept of the entry is wrong.
    pub(super) invalidate: bool,
}

/// What a timer wants to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timed {
    /// Nothing that others see.
    Nothing,
    /// What senders have kept of the entry is not good any more.
    Invalidate,
    /// Ask whether it is still there.
    Solicit(Whom),
    /// It does not answer: what waits ends.
    Failed,
}

impl Entry {
    /// A neighbour of which nothing is known yet.
    pub(super) fn new(now: Time, serial: u64) -> Entry {
        Entry {
            state: Nud::Failed,
            mac: MacAddr::ZERO,
            updated: now,
            confirmed: None,
            used: now,
            timer: Time::MAX,
            probes: 0,
            serial,
            pending: SkbQueue::new(),
            pending_bytes: 0,
        }
    }

    fn enter(&mut self, state: Nud, now: Time, timer: Time) {
        self.state = state;
        self.updated = now;
        self.timer = timer;
    }

    /// `neigh_update` in the name of who configures (`NEIGH_UPDATE_F_ADMIN`). States in which something is under way are at
    /// their end with the next tick.
    pub(super) fn configure(&mut self, mac: Option<MacAddr>, state: Nud, now: Time, parms: &Parms) {
        self.mac = mac.unwrap_or(self.mac);
        self.probes = 0;
        let timer = match state {
            Nud::Reachable => now + parms.reachable,
            Nud::Delay | Nud::Probe => now,
            _ => Time::MAX,
        };
        if state.is_connected() {
            self.confirmed = Some(now);
        }
        self.enter(state, now, timer);
    }

    /// `__neigh_event_send`: a packet is to be sent. `confirmed`: the transport has proof that the neighbour is there.
    pub(super) fn send(&mut self, now: Time, parms: &Parms, confirmed: bool) -> Send {
        if !self.state.is_connected() {
            self.used = now;
        }
        match self.state {
            Nud::Stale | Nud::Delay if confirmed => {
                self.confirmed = Some(now);
                self.enter(Nud::Reachable, now, now + parms.reachable);
            }
            Nud::Stale => self.enter(Nud::Delay, now, now + parms.delay()),
            Nud::Incomplete => return Send::Wait(None),
            Nud::Failed if parms.set.mcast_solicit == 0 && parms.set.app_solicit == 0 => {
                self.enter(Nud::Failed, now, Time::MAX);
                return Send::Never;
            }
            Nud::Failed => {
                self.enter(Nud::Incomplete, now, now + parms.retrans());
                self.probes = parms.set.ucast_solicit;
                return Send::Wait(Some(self.probe(parms)));
            }
            Nud::Reachable | Nud::Delay | Nud::Probe | Nud::Noarp | Nud::Permanent => {}
        }
        Send::To(self.mac)
    }

    /// `neigh_probe`: one more solicitation, and of whom: first of the neighbour alone, then of the daemon, then of all.
    fn probe(&mut self, parms: &Parms) -> Whom {
        let so_far = self.probes;
        self.probes = so_far.saturating_add(1);
        if so_far < parms.set.ucast_solicit {
            Whom::Itself(self.mac)
        } else if so_far - parms.set.ucast_solicit < parms.set.app_solicit {
            Whom::Daemon
        } else {
            Whom::Everybody
        }
    }

    /// `__neigh_update`: somebody says that the neighbour has address `mac`. `proof`: it answered us, so it is there.
    /// `overrides`: the word counts against the address that is known, whatever its age.
    pub(super) fn update(&mut self, mac: MacAddr, proof: bool, overrides: bool, now: Time, parms: &Parms) -> Updated {
        const NOTHING: Updated = Updated { release: false, invalidate: false };
        if self.state.is_configured() {
            return NOTHING;
        }
        let known = self.state.is_valid();
        let same = known && self.mac == mac;
        let locked = now - self.updated <= u64::from(parms.set.locktime) * CENTISECOND;
        if known && !same && !overrides && locked {
            return NOTHING;
        }
        if proof {
            self.confirmed = Some(now);
        }
        // RFC 4861 section 7.2.3 has the same rule: the address that is known, without proof, changes nothing.
        if same && !proof {
            return NOTHING;
        }
        self.mac = mac;
        if proof {
            let updated = if same && self.state == Nud::Reachable { self.updated } else { now };
            self.enter(Nud::Reachable, updated, now + parms.reachable);
        } else if self.pending.is_empty() {
            self.enter(Nud::Stale, now, Time::MAX);
        } else {
            // What waits is sent now, which is traffic to a stale neighbour.
            self.enter(Nud::Delay, now, now + parms.delay());
        }
        Updated { release: !known, invalidate: known && !same }
    }

    /// `neigh_timer_handler`: the entry's time has come.
    pub(super) fn timer_expired(&mut self, now: Time, parms: &Parms) -> Timed {
        self.timer = Time::MAX;
        match self.state {
            Nud::Reachable if self.lasts(parms.reachable) > now => {
                self.timer = self.lasts(parms.reachable);
                Timed::Nothing
            }
            // Used lately: a confirmation is given time to come by itself.
            Nud::Reachable if now <= self.used + parms.delay() => {
                self.enter(Nud::Delay, now, now + parms.delay());
                Timed::Invalidate
            }
            Nud::Reachable => {
                self.enter(Nud::Stale, now, Time::MAX);
                Timed::Invalidate
            }
            Nud::Delay if self.confirmed.is_some_and(|confirmed| now <= confirmed + parms.delay()) => {
                let lasts = self.lasts(parms.reachable);
                self.enter(Nud::Reachable, now, lasts);
                Timed::Nothing
            }
            Nud::Delay => {
                self.enter(Nud::Probe, now, now);
                self.probes = 0;
                self.solicit_or_fail(now, parms)
            }
            Nud::Probe | Nud::Incomplete => self.solicit_or_fail(now, parms),
            Nud::Stale | Nud::Failed | Nud::Noarp | Nud::Permanent => Timed::Nothing,
        }
    }

    /// Until when the last confirmation lasts.
    fn lasts(&self, reachable: u64) -> Time {
        self.confirmed.map_or(Time::ZERO, |confirmed| confirmed + reachable)
    }

    fn solicit_or_fail(&mut self, now: Time, parms: &Parms) -> Timed {
        if self.probes >= parms.most_probes(self.state) {
            self.enter(Nud::Failed, now, Time::MAX);
            return Timed::Failed;
        }
        self.timer = now + parms.retrans();
        Timed::Solicit(self.probe(parms))
    }

    /// Takes the packets that wait.
    pub(super) fn take_pending(&mut self) -> SkbQueue {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }

    /// To the ordinary collection, who was confirmed was used, and stays so.
    pub(super) fn use_confirmation(&mut self) {
        self.used = self.confirmed.map_or(self.used, |confirmed| confirmed.max(self.used));
    }

    /// Whether the ordinary collection may take the entry (`neigh_periodic_work`): it failed, or was neither used nor
    /// confirmed for `gc_stale_time`. What a timer looks after stays.
    pub(super) fn is_old(&self, now: Time, parms: &Parms) -> bool {
        self.is_idle() && (self.state == Nud::Failed || now > self.used + u64::from(parms.set.gc_stale_time) * SECOND)
    }

    /// Whether a collection under pressure may take it (`neigh_forced_gc`): it failed or is never asked, or nobody said
    /// anything new of it for five seconds.
    pub(super) fn is_spare(&self, now: Time) -> bool {
        self.is_idle() && (matches!(self.state, Nud::Failed | Nud::Noarp) || now - self.updated > PRESSURE_AGE)
    }

    /// Nothing is under way with it, and nobody configured it for good.
    fn is_idle(&self) -> bool {
        matches!(self.state, Nud::Failed | Nud::Stale | Nud::Noarp) && self.pending.is_empty()
    }
}
