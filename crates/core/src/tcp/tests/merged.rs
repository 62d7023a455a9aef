//! What GRO merges gives the same bytes, the same acknowledgement and the same drop reasons as what it does not.
//!
//! One difference is inherent, and the kernel's, too: a segment that was received before and is merged with new ones is
//! no packet of its own any more, so that nothing is dropped as old; its bytes are skipped within the larger packet.

use std::collections::BTreeSet;
use std::sync::Arc;

use rxpath_trace::Counter;

use super::lab::{ACK, Lab, PSH_ACK, Peer};
use crate::cx::Rng;
use crate::socket::Sock;

/// One frame of a run: which connection, what is odd about it.
#[derive(Clone, Copy, Debug)]
struct Step {
    flow: usize,
    len: usize,
    pushed: bool,
    twist: Twist,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twist {
    None,
    /// Sent although a segment before it is still missing; the missing one follows later.
    Swapped,
    /// Sent a second time.
    Repeated,
    /// A copy with a wrong checksum comes before it.
    BadChecksum,
}

fn steps(rng: &mut Rng) -> Vec<Step> {
    let sizes = [1usize, 10, 64, 100, 536, 1_000, 1_460];
    let favourite = sizes[rng.below(7) as usize];
    (0..20 + rng.below(60))
        .map(|_| {
            let twist = match rng.below(20) {
                0 => Twist::Swapped,
                1 => Twist::Repeated,
                2 => Twist::BadChecksum,
                _ => Twist::None,
            };
            let len = if rng.below(5) == 0 { sizes[rng.below(7) as usize] } else { favourite };
            Step { flow: rng.below(2) as usize, len, pushed: rng.below(6) == 0, twist }
        })
        .collect()
}

/// What can be seen of a run from outside.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    bytes: Vec<Vec<u8>>,
    next: Vec<u32>,
    reasons: BTreeSet<&'static str>,
    bad_checksums: u64,
}

fn run(gro: bool, steps: &[Step]) -> (Outcome, u64) {
    let mut lab = Lab::with(|config| config.interfaces[0].gro = gro);
    let listener = lab.listen(80, 8);
    let mut peers: Vec<Peer> = (0..2).map(|n| Peer::new(40_000 + n, 80)).collect();
    let socks: Vec<Arc<Sock>> = peers.iter_mut().map(|peer| peer.connect(&mut lab, &listener)).collect();
    let mut late: Option<(usize, Vec<u8>)> = None;
    for (index, step) in steps.iter().enumerate() {
        let peer = &mut peers[step.flow];
        let payload: Vec<u8> = (0..step.len).map(|at| (index * 31 + at) as u8).collect();
        let flags = if step.pushed { PSH_ACK } else { ACK };
        let frame = lab.frame(peer.repr(flags), &payload);
        peer.seq += step.len as u32;
        match step.twist {
            Twist::Swapped if late.is_none() => {
                late = Some((index, frame));
                continue;
            }
            Twist::BadChecksum => {
                let mut bad = frame.clone();
                bad[34 + 17] ^= 0x55;
                lab.put(&bad);
            }
            Twist::Repeated => lab.put(&frame),
            _ => {}
        }
        lab.put(&frame);
        if late.as_ref().is_some_and(|&(since, _)| index > since + 2)
            && let Some((_, frame)) = late.take()
        {
            lab.put(&frame);
        }
        if index % 25 == 24 {
            lab.run();
        }
    }
    if let Some((_, frame)) = late {
        lab.put(&frame);
    }
    lab.run();
    let bytes = socks
        .iter()
        .map(|sock| {
            let mut all = Vec::new();
            while let Ok(data) = lab.recv(sock, 10_000) {
                all.extend(data);
            }
            all
        })
        .collect();
    let next = socks.iter().map(|sock| sock.lock.user().rx.rcv_nxt.0).collect();
    while lab.sent().is_some() {}
    let reasons = lab.stack.ledger().drops().into_iter().map(|(reason, _)| reason.name()).collect();
    let merged = lab.stack.ledger().consumed_by(rxpath_trace::Consumed::GroMerged);
    let outcome = Outcome { bytes, next, reasons, bad_checksums: lab.count(Counter::TcpInCsumErrors) };
    (outcome, merged)
}

#[test]
fn merged_and_unmerged_segments_have_the_same_outcome() {
    let mut merged = 0;
    for seed in 0..150 {
        let steps = steps(&mut Rng::new(seed));
        let (with, count) = run(true, &steps);
        let (without, none) = run(false, &steps);
        assert_eq!(none, 0);
        assert!(with.bytes == without.bytes, "seed {seed}: other bytes");
        assert_eq!((&with.next, with.bad_checksums), (&without.next, without.bad_checksums), "seed {seed}");
        let swallowed: Vec<_> = without.reasons.difference(&with.reasons).collect();
        let repeated = steps.iter().any(|step| step.twist == Twist::Repeated);
        let old = |reason: &&&'static str| ["TCP_OLD_DATA", "TCP_OFOMERGE", "TCP_OLD_SEQUENCE"].contains(*reason);
        assert!(with.reasons.is_subset(&without.reasons), "seed {seed}: {:?}", with.reasons);
        assert!(swallowed.iter().all(|reason| repeated && old(reason)), "seed {seed}: {swallowed:?}");
        merged += count;
    }
    assert!(merged > 1_000, "only {merged} segments were merged");
}
