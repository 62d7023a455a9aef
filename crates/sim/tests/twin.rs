//! The same frames into the running kernel and into a stack.
//!
//! `RXPATH_SEED=17` runs that case alone, `RXPATH_CASES=2000` more of them.
#![allow(clippy::print_stdout, reason = "the report of the comparison is worth reading")]
#![cfg(target_os = "linux")]

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use rxpath_sim::twin::case::{CLIENT_PORT, Gave};
use rxpath_sim::twin::record::{Event, Recording, What};
use rxpath_sim::twin::{self, Kind, TwinOptions};

/// The test that is started again as the process that runs the kernel's side.
const CHILD: &str = "one_case_at_a_time_in_a_process_of_its_own";

fn options(kind: Kind, seed: u64, cases: u64) -> TwinOptions {
    let child = [CHILD, "--exact", "--nocapture", "--test-threads=1"].map(OsString::from).into();
    TwinOptions { seed, cases, kinds: vec![kind], child, ..TwinOptions::default() }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn possible() -> bool {
    match twin::kernel_available() {
        Ok(()) => true,
        Err(why) => {
            rxpath_testkit::skip(&why);
            false
        }
    }
}

/// Serves cases when it was started to do that; otherwise has two served by such a process.
#[test]
fn one_case_at_a_time_in_a_process_of_its_own() {
    if std::env::var_os(twin::ENVIRONMENT).is_some() {
        twin::child_main().expect("cases come and recordings go");
        return;
    }
    if !possible() {
        return;
    }
    let report = twin::run(&TwinOptions { jobs: 1, ..options(Kind::TcpBasic, 1, 2) }).expect("the kernel's side runs");
    assert!(report.all_agree(), "{report}");
    assert_eq!(report.all_agreed(), 2);
}

/// One kind at a time: recordings wait for each other's processor time, and what is late hangs on that.
static ONE_KIND: Mutex<()> = Mutex::new(());

/// So many cases of a kind, or those that the environment asks for.
fn cases_agree(kind: Kind, cases: u64) {
    if !possible() {
        return;
    }
    let _alone = ONE_KIND.lock().unwrap_or_else(PoisonError::into_inner);
    let (seed, cases) = match number("RXPATH_SEED") {
        Some(seed) => (seed, number("RXPATH_CASES").unwrap_or(1)),
        None => (1, number("RXPATH_CASES").unwrap_or(cases)),
    };
    let report = twin::run(&options(kind, seed, cases)).expect("the kernel's side runs");
    println!("{report}");
    assert!(report.all_agree(), "{report}");
    // What hangs on the kernel's timers is rare where these have a processor to themselves, and less so elsewhere; what a
    // busy machine could not record depends on its business.
    let (undecided, unrecorded) = (report.undecided.len() as u64, report.unrecorded.len() as u64);
    assert_eq!(report.all_agreed() + undecided + unrecorded, cases);
    assert!(undecided * 50 <= cases.max(100), "too much is left undecided: {report}");
    assert!(unrecorded * 20 <= cases, "too much could not be recorded: {report}");
}

#[test]
fn two_hundred_cases_agree() {
    cases_agree(Kind::TcpBasic, 200);
}

#[test]
fn marks_and_echoes_have_the_kernels_outcome() {
    cases_agree(Kind::TcpEcn, 150);
}

#[test]
fn connections_are_opened_as_by_the_kernel() {
    cases_agree(Kind::TcpOpen, 50);
}

#[test]
fn listeners_take_connections_as_the_kernels_do() {
    cases_agree(Kind::TcpListen, 50);
}

#[test]
fn cookies_bring_back_what_they_bring_back_to_the_kernel() {
    cases_agree(Kind::TcpCookies, 50);
}

#[test]
fn time_wait_answers_as_the_kernels_does() {
    cases_agree(Kind::TcpTimewait, 50);
}

#[test]
fn connections_end_as_the_kernels_do() {
    cases_agree(Kind::TcpClose, 60);
}

#[test]
fn resets_have_the_kernels_outcome_in_every_state() {
    cases_agree(Kind::TcpReset, 60);
}

#[test]
fn windows_open_and_close_as_the_kernels_do() {
    cases_agree(Kind::TcpWindow, 60);
}

#[test]
fn urgent_data_has_the_kernels_outcome() {
    cases_agree(Kind::TcpUrgent, 60);
}

#[test]
fn selective_acknowledgements_have_the_kernels_outcome_in_both_directions() {
    cases_agree(Kind::TcpSack, 50);
}

#[test]
fn receive_buffers_run_out_as_the_kernels_do() {
    cases_agree(Kind::TcpMemory, 60);
}

#[test]
fn data_goes_both_ways_as_with_the_kernel() {
    cases_agree(Kind::TcpData, 50);
}

#[test]
fn control_bits_have_the_kernels_outcome_in_every_state() {
    cases_agree(Kind::TcpFlags, 60);
}

#[test]
fn ethernet_frames_have_the_kernels_outcome() {
    cases_agree(Kind::Eth, 100);
}

#[test]
fn arp_packets_teach_what_they_teach_the_kernel() {
    cases_agree(Kind::Arp, 100);
}

#[test]
fn ip_packets_have_the_kernels_outcome() {
    cases_agree(Kind::Ip, 150);
}

#[test]
fn ip_options_come_back_as_from_the_kernel() {
    cases_agree(Kind::Options, 150);
}

#[test]
fn fragments_become_the_kernels_datagrams() {
    cases_agree(Kind::Frag, 120);
}

#[test]
fn icmp_messages_have_the_kernels_outcome() {
    cases_agree(Kind::Icmp, 150);
}

#[test]
fn packets_for_others_go_on_as_by_the_kernel() {
    cases_agree(Kind::Forward, 100);
}

#[test]
fn datagrams_come_and_go_as_with_the_kernel() {
    cases_agree(Kind::Udp, 150);
}

/// A deviation that is planted in a recording; false if it has nothing to deviate from.
type Plant = (&'static str, fn(&mut Recording) -> bool);

/// Deviations, each as small as it can be. Those of tunables make the stack behave differently; the others are as if the
/// kernel had done something else.
const PLANTS: [Plant; 15] = [
    ("the stack's time to live", |r| tuned(r, "net.ipv4.ip_default_ttl", "63")),
    ("the stack has no timestamps", |r| tuned(r, "net.ipv4.tcp_timestamps", "0") && speaks(r, |seen| seen[46] >= 0x80)),
    ("the stack's first window", |r| tuned(r, "net.ipv4.tcp_rmem", "4096 65536 33554432") && speaks(r, |_| true)),
    ("a frame is missing", |r| frame_at(r, |_| true).is_some_and(|at| drop_event(r, at))),
    ("a frame comes twice", |r| frame_at(r, |_| true).is_some_and(|at| double_event(r, at))),
    ("a window is larger by one", |r| tcp_word(r, 48, 1)),
    ("an acknowledgement is ahead by one", |r| tcp_word(r, 44, 1)),
    ("a sequence number is ahead by one", |r| tcp_word(r, 40, 1)),
    ("an identification is left out", |r| ip_word(r, 18, 1)),
    ("PSH is set or not", |r| tcp_word(r, 46, 8)),
    ("a byte of the payload", |r| tcp_word(r, 66, 1)),
    ("a counter is higher by one", |r| r.counters.get_mut("TcpInSegs").is_some_and(bump)),
    ("a counter that did not move has", |r| r.counters.insert("TcpExtTCPChallengeACK".to_owned(), 90).is_none()),
    ("a call gave other bytes", |r| r.events.iter_mut().any(|event| other_bytes(&mut event.what))),
    ("a timer fired forty milliseconds late", timer_late),
];

fn bump(n: &mut i64) -> bool {
    *n += 1;
    true
}

fn tuned(recording: &mut Recording, name: &str, value: &str) -> bool {
    let answered = frame_at(recording, |_| true).is_some();
    answered && recording.sysctls.insert(name.to_owned(), value.to_owned()).is_some_and(|before| before != value)
}

/// Position of the last frame of the connection that `wanted` is true for.
fn frame_at(recording: &Recording, wanted: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let port = CLIENT_PORT.to_be_bytes();
    let right = |frame: &[u8]| frame[36..38] == port && frame[47] & 0x02 == 0 && wanted(frame);
    recording.events.iter().rposition(|event| matches!(&event.what, What::Emitted { frame, .. } if right(frame)))
}

/// True if the SYN-ACK of the connection is of this kind.
fn speaks(recording: &Recording, wanted: impl Fn(&[u8]) -> bool) -> bool {
    let port = CLIENT_PORT.to_be_bytes();
    let right = |frame: &[u8]| frame[36..38] == port && frame[47] & 0x02 != 0 && wanted(frame);
    recording.events.iter().any(|event| matches!(&event.what, What::Emitted { frame, .. } if right(frame)))
}

fn drop_event(recording: &mut Recording, at: usize) -> bool {
    recording.events.remove(at);
    true
}

fn double_event(recording: &mut Recording, at: usize) -> bool {
    recording.events.insert(at, recording.events[at].clone());
    true
}

/// Changes a 16-bit word of the last frame that has it, and the checksum at `sum` with it (RFC 1624).
fn word(recording: &mut Recording, at: usize, change: u16, sum: usize) -> bool {
    // Without a counter there is no identification to leave out; a shorter frame has no payload.
    let Some(index) = frame_at(recording, |frame| frame.len() > at + 1 && frame[18..20] != [0, 0]) else {
        return false;
    };
    let What::Emitted { frame, .. } = &mut recording.events[index].what else { return false };
    let read = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let before = read(frame, at);
    let after = before ^ change;
    let total = u32::from(!read(frame, sum)) + u32::from(!before) + u32::from(after);
    let folded = (total & 0xffff) + (total >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    frame[at..at + 2].copy_from_slice(&after.to_be_bytes());
    frame[sum..sum + 2].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    true
}

fn tcp_word(recording: &mut Recording, at: usize, change: u16) -> bool {
    word(recording, at, change, 50)
}

fn ip_word(recording: &mut Recording, at: usize, change: u16) -> bool {
    // Of the first one the others are counted from.
    let counted = |event: &&Event| matches!(&event.what, What::Emitted { frame, .. } if frame[18..20] != [0, 0]);
    recording.events.iter().filter(counted).count() > 2 && word(recording, at, change, 24)
}

fn other_bytes(what: &mut What) -> bool {
    match what {
        What::Called(_, Gave::Bytes(_, sum)) => {
            *sum ^= 1;
            true
        }
        _ => false,
    }
}

fn timer_late(recording: &mut Recording) -> bool {
    let timer = |event: &&mut Event| matches!(event.what, What::Emitted { prompt: false, .. });
    recording.events.iter_mut().find(timer).is_some_and(|event| {
        event.at += 40_000_000;
        true
    })
}

#[test]
fn planted_deviations_are_found() {
    if !possible() {
        return;
    }
    let mut found = [0; PLANTS.len()];
    for seed in 1..=12 {
        let options = options(Kind::TcpBasic, seed, 1);
        let mut agrees = false;
        for _ in 0..8 {
            let recording = twin::record_one(&options, Kind::TcpBasic, seed).expect("the kernel's side runs");
            let compare = |recording: &Recording| {
                twin::compare_recording(Kind::TcpBasic, seed, recording).expect("the stack's side runs").diff
            };
            if compare(&recording).is_some() {
                continue;
            }
            agrees = true;
            for ((what, plant), found) in PLANTS.iter().zip(&mut found) {
                let mut planted = recording.clone();
                if plant(&mut planted) {
                    assert!(compare(&planted).is_some(), "seed {seed}: nobody noticed: {what}");
                    *found += 1;
                }
            }
            break;
        }
        assert!(agrees, "seed {seed} differs without a deviation");
    }
    for ((what, _), found) in PLANTS.iter().zip(found) {
        assert!(found > 0, "{what}: no case could show it");
    }
}
