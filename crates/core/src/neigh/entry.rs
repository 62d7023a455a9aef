//! One neighbour: its states and what moves it from one to another. Nothing here sends or locks; each function says what
//! is to be done.

use rxpath_mem::SkbQueue;
use rxpath_trace::Time;
use rxpath_wire::MacAddr;

use super::limits::{DELAY_FIRST_PROBE, GC_PRESSURE, GC_STALE, LOCKTIME, RETRANS, SOLICITATIONS};

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
    /// Configured; nothing from the wire changes it.
    Permanent = 0x80,
}

impl Nud {
    /// Whether there is a hardware address to send to (`NUD_VALID`).
    pub fn is_valid(self) -> bool {
        !matches!(self, Nud::Incomplete | Nud::Failed)
    }

    /// Whether the address may be used without a look at the entry (`NUD_CONNECTED`).
    pub fn is_connected(self) -> bool {
        matches!(self, Nud::Reachable | Nud::Permanent)
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
            Nud::Permanent => "PERMANENT",
        }
    }
}

/// An entry of the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: Nud,
    pub(super) mac: MacAddr,
    /// When address or state last changed.
    pub(super) updated: Time,
    /// When it last proved to be there.
    confirmed: Time,
    /// When something was last sent by it, as far as the table was asked.
    pub(super) used: Time,
    /// When the state wants to be looked at; MAX: never.
    pub(super) timer: Time,
    /// Solicitations sent in this state.
    probes: u8,
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
    /// Let it wait; with `solicit`, ask for the address.
    Wait { solicit: bool },
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
    /// Ask this address whether it is still there; None asks everybody.
    Solicit(Option<MacAddr>),
    /// It does not answer: what waits ends.
    Failed,
}

impl Entry {
    /// A neighbour of which nothing is known yet.
    pub(super) fn new(now: Time) -> Entry {
        Entry {
            state: Nud::Failed,
            mac: MacAddr::ZERO,
            updated: now,
            confirmed: now,
            used: now,
            timer: Time::MAX,
            probes: 0,
            pending: SkbQueue::new(),
            pending_bytes: 0,
        }
    }

    fn enter(&mut self, state: Nud, now: Time, timer: Time) {
        self.state = state;
        self.updated = now;
        self.timer = timer;
        self.probes = 0;
    }

    /// Configures the address for good.
    pub(super) fn make_permanent(&mut self, mac: MacAddr, now: Time) {
        self.mac = mac;
        self.enter(Nud::Permanent, now, Time::MAX);
    }

    /// `__neigh_event_send`: a packet is to be sent. `confirmed`: the transport has proof that the neighbour is there.
    pub(super) fn send(&mut self, now: Time, reachable: u64, confirmed: bool) -> Send {
        self.used = now;
        match self.state {
            Nud::Stale | Nud::Delay if confirmed => {
                self.confirmed = now;
                self.enter(Nud::Reachable, now, now + reachable);
            }
            Nud::Stale => self.enter(Nud::Delay, now, now + DELAY_FIRST_PROBE),
            Nud::Incomplete => return Send::Wait { solicit: false },
            Nud::Failed => {
                self.enter(Nud::Incomplete, now, now + RETRANS);
                self.probes = 1;
                return Send::Wait { solicit: true };
            }
            Nud::Reachable | Nud::Delay | Nud::Probe | Nud::Permanent => {}
        }
        Send::To(self.mac)
    }

    /// `__neigh_update`: somebody says that the neighbour has address `mac`. `proof`: it answered us, so it is there.
    /// `overrides`: the word counts against the address that is known, whatever its age.
    pub(super) fn update(&mut self, mac: MacAddr, proof: bool, overrides: bool, now: Time, reachable: u64) -> Updated {
        const NOTHING: Updated = Updated { release: false, invalidate: false };
        if self.state == Nud::Permanent {
            return NOTHING;
        }
        let known = self.state.is_valid();
        let same = known && self.mac == mac;
        let locked = now - self.updated <= LOCKTIME;
        if known && !same && !overrides && locked {
            return NOTHING;
        }
        if proof {
            self.confirmed = now;
        }
        // RFC 4861 section 7.2.3 has the same rule: the address that is known, without proof, changes nothing.
        if same && !proof {
            return NOTHING;
        }
        self.mac = mac;
        if proof {
            let updated = if same && self.state == Nud::Reachable { self.updated } else { now };
            self.enter(Nud::Reachable, updated, now + reachable);
        } else if self.pending.is_empty() {
            self.enter(Nud::Stale, now, Time::MAX);
        } else {
            // What waits is sent now, which is traffic to a stale neighbour.
            self.enter(Nud::Delay, now, now + DELAY_FIRST_PROBE);
        }
        Updated { release: !known, invalidate: known && !same }
    }

    /// `neigh_timer_handler`: the entry's time has come.
    pub(super) fn timer_expired(&mut self, now: Time, reachable: u64) -> Timed {
        self.timer = Time::MAX;
        match self.state {
            Nud::Reachable if now < self.confirmed + reachable => {
                self.timer = self.confirmed + reachable;
                Timed::Nothing
            }
            Nud::Reachable => {
                self.enter(Nud::Stale, now, Time::MAX);
                Timed::Invalidate
            }
            Nud::Delay if now <= self.confirmed + DELAY_FIRST_PROBE => {
                self.enter(Nud::Reachable, now, self.confirmed + reachable);
                Timed::Nothing
            }
            Nud::Delay => {
                self.enter(Nud::Probe, now, now + RETRANS);
                self.probes = 1;
                Timed::Solicit(Some(self.mac))
            }
            Nud::Probe | Nud::Incomplete if self.probes < SOLICITATIONS => {
                self.probes += 1;
                self.timer = now + RETRANS;
                Timed::Solicit((self.state == Nud::Probe).then_some(self.mac))
            }
            Nud::Probe | Nud::Incomplete => {
                self.enter(Nud::Failed, now, Time::MAX);
                Timed::Failed
            }
            Nud::Stale | Nud::Failed | Nud::Permanent => Timed::Nothing,
        }
    }

    /// Takes the packets that wait.
    pub(super) fn take_pending(&mut self) -> SkbQueue {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }

    /// Whether a collection may take the entry; under pressure it takes what failed at once and what is stale sooner.
    pub(super) fn is_garbage(&self, now: Time, pressed: bool) -> bool {
        let since = now - self.used.max(self.updated);
        match self.state {
            Nud::Failed => pressed || since >= GC_STALE,
            Nud::Stale => since >= if pressed { GC_PRESSURE } else { GC_STALE },
            _ => false,
        }
    }
}
