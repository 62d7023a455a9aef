//! Every drop reason by the front door: what a peer, an application or a configuration does so that a packet ends for it,
//! which counters move with that, and the life of the packet. `docs/drops.md` is written from here.
//!
//! A cause sets its scene up, says when the story [begins](Scene::begin), and makes it happen with frames on the wire and
//! calls of an application. What is then true of every cause is said once, below.

mod auth;
mod handshake;
mod ip;
mod link;
mod output;
mod tcp;
mod udp;

use std::fmt::Write;
use std::path::Path;

use rxpath_trace::{DropReason, EventKind, LedgerSnapshot, Life, Selector, Snapshot, lives};

use crate::demux::stats::DevStat;
use crate::stack::StackConfig;
use crate::tcp::tests::lab::Lab;

/// What tells of drops among an interface's statistics.
const DEVICE: &[(DevStat, &str)] = &[
    (DevStat::RxErrors, "rx_errors"),
    (DevStat::RxDropped, "rx_dropped"),
    (DevStat::RxMissedErrors, "rx_missed_errors"),
    (DevStat::RxLengthErrors, "rx_length_errors"),
    (DevStat::RxCrcErrors, "rx_crc_errors"),
    (DevStat::RxFifoErrors, "rx_fifo_errors"),
    (DevStat::RxOtherhostDropped, "rx_otherhost_dropped"),
    (DevStat::TxErrors, "tx_errors"),
    (DevStat::TxDropped, "tx_dropped"),
    (DevStat::XdpDrop, "rx_xdp_drop"),
];

/// How a packet comes to be dropped.
pub(crate) struct Cause {
    /// For which reason.
    reason: DropReason,
    /// What is done, as a sentence without an end.
    what: &'static str,
    /// Does it.
    run: fn() -> Scene,
}

/// A lab, and what was counted when the story began.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    before: (Snapshot, LedgerSnapshot),
    /// The first interface's statistics then.
    device: Vec<u64>,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        Scene::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut StackConfig)) -> Scene {
        Scene::of(Lab::with(|config| {
            config.lives = Selector::All;
            change(config);
        }))
    }

    fn of(lab: Lab) -> Scene {
        let before = (lab.stack.snapshot(), lab.stack.ledger());
        let mut scene = Scene { lab, before, device: Vec::new() };
        scene.begin();
        scene
    }

    /// What was before is not part of the story.
    pub(crate) fn begin(&mut self) {
        while self.lab.raw().is_some() {}
        self.lab.stack.take_events();
        self.before = (self.lab.stack.snapshot(), self.lab.stack.ledger());
        let stats = self.lab.stack.interfaces().swap_remove(0).stats;
        self.device = DEVICE.iter().map(|(stat, _)| stats[*stat]).collect();
    }

    /// A frame of the peer comes and is worked on.
    pub(crate) fn frame(&mut self, frame: &[u8]) {
        self.lab.put(frame);
        self.lab.run();
    }

    /// Counters that moved since the story began: nstat's, and the first interface's.
    pub(crate) fn moved(&self) -> Vec<String> {
        let counters = self.lab.stack.snapshot().diff(&self.before.0);
        let mut moved: Vec<String> = counters.nonzero().map(|(counter, n)| format!("`{counter:?}` {n}")).collect();
        let device = self.lab.stack.interfaces().swap_remove(0).stats;
        for ((stat, name), before) in DEVICE.iter().zip(&self.device) {
            if device[*stat] > *before {
                moved.push(format!("`{name}` {}", device[*stat] - before));
            }
        }
        moved
    }

    /// Changes the configuration of the running stack.
    fn reconfigure(&self, change: impl FnOnce(&mut crate::netns::NetConfig)) {
        self.lab.stack.reconfigure(|net| {
            let mut net = net.clone();
            change(&mut net);
            net
        });
    }
}

/// What came of a cause.
struct Shown {
    /// Counters that moved: nstat's, and the first interface's.
    counters: Vec<String>,
    /// The life of the first packet that ended for the reason.
    life: Life,
}

impl Cause {
    fn show(&self) -> Shown {
        let scene = (self.run)();
        let Cause { reason, what, .. } = self;
        let (counters, ledger) = (scene.lab.stack.snapshot().diff(&scene.before.0), scene.lab.stack.ledger());
        let dropped = ledger.dropped_for(*reason) - scene.before.1.dropped_for(*reason);
        assert!(dropped > 0, "{what}: nothing was dropped for {}:\n{}", reason.name(), ledger.details());
        ledger.check().unwrap_or_else(|imbalance| panic!("{what}: {imbalance}\n{}", ledger.details()));
        let lives = lives::group(scene.lab.stack.take_events());
        let ended: Vec<Life> = lives.into_iter().filter(|life| end_of(life) == Some(*reason)).collect();
        assert_eq!(ended.len() as u64, dropped, "{what}: the lives tell of every drop");
        for counter in reason.counters() {
            assert!(counters[*counter] >= dropped, "{what}: {} does not move with it", counter.name());
        }
        let moved = scene.moved();
        Shown { counters: moved, life: ended.into_iter().next().expect("one at least") }
    }
}

/// The reason that a life ended for.
fn end_of(life: &Life) -> Option<DropReason> {
    life.events
        .last()
        .filter(|event| event.kind == EventKind::Dropped)
        .and_then(|event| DropReason::from_number(event.a))
}

/// All causes, in the order of the path.
fn causes() -> impl Iterator<Item = &'static Cause> {
    [link::CAUSES, ip::CAUSES, auth::CAUSES, handshake::CAUSES, tcp::CAUSES, udp::CAUSES, output::CAUSES]
        .into_iter()
        .flatten()
}

/// Reasons that a packet can end for, and that no cause here shows: with why not.
const NOT_SHOWN: &[(DropReason, &str)] = &[
    (DropReason::Nomem, "memory must run out between two instructions: tested in `icmp`, `ip` and `xdp`"),
    (
        DropReason::TcpZerowindow,
        "the window is closed and nothing waits to be read: so it is only between a read and the ACK \
      that tells of it, on another Cpu",
    ),
    (DropReason::TcpOldAck, "an ACK of what came before the handshake, which is too old (`TCP_TOO_OLD_ACK`) at once"),
    (DropReason::SocketClose, "a backlog that outlives its socket: all ways to the end of a socket work it off before"),
    (DropReason::DevReady, "a frame for an interface that no Cpu has a queue of: tested in `tx`"),
];

/// Reasons of the kernel that nothing here drops for, as what would is not there.
fn is_absent(reason: DropReason) -> bool {
    !NOT_SHOWN.iter().any(|(other, _)| *other == reason) && !causes().any(|cause| cause.reason == reason)
}

#[test]
fn every_cause_ends_a_packet_for_its_reason() {
    let failed: Vec<&str> =
        causes().filter(|cause| std::panic::catch_unwind(|| cause.show()).is_err()).map(|cause| cause.what).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The sources of this crate and of its neighbours that drop.
fn sources(dir: &Path, found: &mut String) {
    for entry in std::fs::read_dir(dir).expect("the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !matches!(name, "tests" | "testing") {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = std::fs::read_to_string(&path).expect("text");
            found.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
}

#[test]
fn every_reason_that_is_given_is_shown() {
    let mut found = String::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    let given = |reason: DropReason| {
        found.match_indices("DropReason::").any(|(at, word)| {
            let rest = &found[at + word.len()..];
            let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            name == format!("{reason:?}")
        })
    };
    let unshown: Vec<&str> =
        DropReason::ALL.iter().copied().filter(|r| is_absent(*r) && given(*r)).map(DropReason::name).collect();
    assert!(unshown.is_empty(), "no cause shows {unshown:?}");
    let shown_but_not_given: Vec<&str> =
        DropReason::ALL.iter().copied().filter(|r| !is_absent(*r) && !given(*r)).map(DropReason::name).collect();
    assert!(shown_but_not_given.is_empty(), "nothing gives {shown_but_not_given:?}");
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/drops.md");

fn page() -> String {
    let mut page = String::from(
        "# Why packets are dropped\n\n\
         <!-- Written by RXPATH_BLESS=1 cargo test -p rxpath-core the_page_of_drops -->\n\n\
         Every reason that a packet can end for, with something that brings it about, the counters that move with it (by\n\
         the names that `rxpath nstat` uses, and the interface's own) and the life of the packet as `rxpath life` tells\n\
         it. Each is run as a test: a frame on the wire or a call of an application, nothing else. Reasons are the kernel's (`enum skb_drop_reason`) but\n\
         for those that say otherwise; what they mean is in our words.\n\n\
         Throughout, the stack is 10.0.0.1/24 and its peer 10.0.0.2.\n",
    );
    let mut reasons: Vec<DropReason> = Vec::new();
    for cause in causes() {
        if !reasons.contains(&cause.reason) {
            reasons.push(cause.reason);
        }
    }
    for reason in reasons {
        let ours = if reason.is_ours() { "; a reason that the kernel does not have" } else { "" };
        let _ = write!(page, "\n## {}\n\nIn words: {}{ours}.\n", reason.name(), reason.describe());
        for cause in causes().filter(|cause| cause.reason == reason) {
            let Shown { counters, life } = cause.show();
            let counters = if counters.is_empty() { "none".to_owned() } else { counters.join(", ") };
            let _ = write!(page, "\n**Cause:** {}.\n\nCounters: {counters}\n\n", cause.what);
            let _ = write!(page, "```text\n{}```\n", life.story());
        }
    }
    page.push_str("\n## Not shown\n\n");
    for (reason, why) in NOT_SHOWN {
        let _ = writeln!(page, "* `{}`, {}: {why}.", reason.name(), reason.describe());
    }
    page
}

#[test]
fn the_page_of_drops_is_what_happens() {
    let now = page();
    if std::env::var_os("RXPATH_BLESS").is_some() {
        std::fs::write(PAGE, &now).expect("the page is written");
    }
    let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differing = now.lines().zip(committed.lines()).find(|(now, committed)| now != committed);
    assert!(
        now == committed,
        "run RXPATH_BLESS=1 cargo test -p rxpath-core the_page_of_drops, and review what has changed: {differing:?}"
    );
}
