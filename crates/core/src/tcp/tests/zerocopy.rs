//! Sending without a copy: what is lent is referred to until the peer has it and no device needs it, and no longer.

use std::sync::Arc;

use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{TcpFlags, TcpHeader, TcpOptions};

use super::lab::{ACK, Lab, Peer, Sent};
use crate::demux::tap::TapConfig;
use crate::nic::Xmit;
use crate::socket::{Payload, Sock, WriteStep, ZerocopyNotice};
use crate::sysctl::Sysctls;
use crate::tcp::{Ending, SockOptions, State};

const MSS: usize = 1_460;

fn notice(first: u32, last: u32) -> Option<ZerocopyNotice> {
    Some(ZerocopyNotice { first, last, copied: false })
}

/// A connection that may lend.
fn connected(mut lab: Lab) -> (Lab, Arc<Sock>, Peer) {
    let listener = lab.listen(80, 8);
    listener.set_options(SockOptions { zerocopy: true, ..SockOptions::default() });
    let mut peer = Peer { sack: true, ..Peer::new(40_000, 80) };
    let sock = peer.connect(&mut lab, &listener);
    peer.window = 60_000;
    (lab, sock, peer)
}

fn memory(len: usize, salt: u8) -> Arc<[u8]> {
    (0..len).map(|i| (i / 7) as u8 ^ salt).collect()
}

/// One call.
fn lend(lab: &mut Lab, sock: &Arc<Sock>, memory: &Arc<[u8]>) -> usize {
    let step =
        lab.stack.send_zerocopy(sock, &mut None, &Payload::new(Arc::clone(memory)), Ending::default(), false, lab.now);
    lab.run();
    match step {
        WriteStep::Taken(count) => count,
        _ => 0,
    }
}

fn told(lab: &Lab, sock: &Arc<Sock>) -> Option<ZerocopyNotice> {
    lab.stack.recv_notice(sock, lab.now)
}

fn acknowledge(lab: &mut Lab, peer: &mut Peer, bytes: u32) {
    peer.ack += bytes;
    let repr = peer.repr(ACK);
    lab.segment(repr, &[]);
}

/// Payload of all frames that have left until now, super-frames among them.
fn raw_bytes(lab: &mut Lab) -> Vec<u8> {
    let payload = |frame: Vec<u8>| TcpHeader::split(&frame[34..]).expect("a TCP header").2.to_vec();
    std::iter::from_fn(|| lab.raw()).flat_map(payload).collect()
}

/// What has left until now.
fn sent(lab: &mut Lab) -> Vec<Sent> {
    std::iter::from_fn(|| lab.sent()).collect()
}

fn bytes(sent: &[Sent]) -> Vec<u8> {
    sent.iter().flat_map(|sent| sent.payload.clone()).collect()
}

#[test]
fn the_notice_comes_when_the_peer_has_it_all() {
    for offloads in [false, true] {
        let (mut lab, sock, mut peer) = connected(if offloads { Lab::offloading() } else { Lab::new() });
        let memory = memory(3 * MSS + 10, 0);
        assert_eq!(lend(&mut lab, &sock, &memory), memory.len());
        let left = if offloads { raw_bytes(&mut lab) } else { bytes(&sent(&mut lab)) };
        assert_eq!(left, &memory[..], "checksums and all");
        acknowledge(&mut lab, &mut peer, 3 * MSS as u32);
        assert_eq!((told(&lab, &sock), lab.stack.readiness(&sock, lab.now).error), (None, false));
        assert!(Arc::strong_count(&memory) > 1, "the rest may have to go again");
        acknowledge(&mut lab, &mut peer, 10);
        assert_eq!(Arc::strong_count(&memory), 1);
        assert!(lab.stack.readiness(&sock, lab.now).error, "POLLERR");
        assert_eq!((told(&lab, &sock), told(&lab, &sock)), (notice(0, 0), None));
        assert!(!lab.stack.readiness(&sock, lab.now).error);
        assert_eq!(lab.recv(&sock, 10).map_err(|error| matches!(error, crate::stack::RecvError::Empty(_))), Err(true));
    }
}

#[test]
fn lent_and_copied_bytes_share_segments_in_order() {
    let (mut lab, sock, mut peer) = connected(Lab::new());
    sock.lock.user().cong.cwnd = 1;
    lab.send(&sock, &[1; 100]);
    let parts = [memory(50, 1), memory(70, 2), memory(3_000, 3)];
    let mut all = vec![1; 100];
    for (i, part) in parts.iter().enumerate() {
        assert_eq!(lend(&mut lab, &sock, part), part.len());
        let copied = vec![i as u8; 31];
        lab.send(&sock, &copied);
        all.extend([&part[..], &copied].concat());
    }
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let segments = sent(&mut lab);
        assert!(!segments.is_empty());
        seen.extend(bytes(&segments));
        let new = (peer.ack, segments.last().expect("one at least"));
        let end = new.1.seq + new.1.payload.len() as u32;
        acknowledge(&mut lab, &mut peer, (end - new.0) as u32);
    }
    assert_eq!(seen, all);
    assert_eq!(told(&lab, &sock), notice(0, 2), "notices that nobody read are one");
}

#[test]
fn a_retransmission_in_a_queue_keeps_the_memory() {
    let (mut lab, sock, mut peer) = connected(Lab::new());
    let memory = memory(1_000, 5);
    lend(&mut lab, &sock, &memory);
    let first = sent(&mut lab);
    lab.set_xmit(Xmit::Busy);
    lab.wait(1_500);
    assert!(lab.count(Counter::TcpRetransSegs) > 0);
    acknowledge(&mut lab, &mut peer, 1_000);
    assert_eq!(sock.lock.user().tx.buffer.len(), 0, "all is acknowledged");
    assert_eq!(told(&lab, &sock), None, "the device will still read it");
    assert!(Arc::strong_count(&memory) > 1);
    lab.set_xmit(Xmit::Sent);
    lab.wait(10);
    let again = sent(&mut lab);
    assert!(!again.is_empty() && again.iter().all(|again| again.payload == first[0].payload));
    assert_eq!((told(&lab, &sock), Arc::strong_count(&memory)), (notice(0, 0), 1));
}

#[test]
fn the_end_of_the_connection_gives_the_memory_back() {
    let (mut lab, sock, peer) = connected(Lab::new());
    let memory = memory(40_000, 5);
    assert!(lend(&mut lab, &sock, &memory) > 0);
    sent(&mut lab);
    let mut reset = peer.repr(TcpFlags::RST);
    reset.seq = peer.seq;
    lab.segment(reset, &[]);
    assert_eq!(lab.state(&sock), State::Close);
    assert_eq!((told(&lab, &sock), Arc::strong_count(&memory)), (notice(0, 0), 1));
}

#[test]
fn what_the_device_does_not_take_is_not_kept() {
    let (mut lab, sock, mut peer) = connected(Lab::new());
    let memory = memory(1_000, 5);
    lab.set_xmit(Xmit::Failed);
    lend(&mut lab, &sock, &memory);
    assert_eq!(lab.dropped(DropReason::TxError), 1);
    lab.set_xmit(Xmit::Sent);
    lab.wait(1_500);
    assert_eq!(sent(&mut lab)[0].payload, &memory[..]);
    acknowledge(&mut lab, &mut peer, 1_000);
    assert_eq!((told(&lab, &sock), Arc::strong_count(&memory)), (notice(0, 0), 1));
}

#[test]
fn without_the_option_bytes_are_copied_and_nothing_is_told() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    let memory = memory(1_000, 1);
    assert_eq!(lend(&mut lab, &sock, &memory), 1_000);
    assert_eq!((Arc::strong_count(&memory), bytes(&sent(&mut lab)).len()), (1, 1_000));
    acknowledge(&mut lab, &mut peer, 1_000);
    assert_eq!(told(&lab, &sock), None);
    sock.lock.user().user.zerocopy = true;
    assert_eq!(lend(&mut lab, &sock, &self::memory(0, 0)), 0);
    lend(&mut lab, &sock, &memory);
    acknowledge(&mut lab, &mut peer, 1_000);
    assert_eq!(told(&lab, &sock), notice(0, 0), "a call that takes nothing has no number");
}

#[test]
fn a_packet_socket_gets_a_copy_and_the_notice_says_so() {
    let (mut lab, sock, mut peer) = connected(Lab::new());
    let tap = lab.stack.open_tap(TapConfig::default());
    let memory = memory(1_000, 1);
    lend(&mut lab, &sock, &memory);
    sent(&mut lab);
    acknowledge(&mut lab, &mut peer, 1_000);
    let copied = ZerocopyNotice { first: 0, last: 0, copied: true };
    assert_eq!((told(&lab, &sock), Arc::strong_count(&memory)), (Some(copied), 1), "although nobody has read the tap");
    let mut buf = [0; 2_000];
    let read = tap.read(&mut buf).expect("the packet");
    assert_eq!(buf[read.copied - 1_000..read.copied], memory[..]);
    lab.stack.close_tap(&tap, lab.now);
}

#[test]
fn calls_that_say_that_more_follows_share_a_packet_with_what_does() {
    // As Linux 6.18 sends and tells: whether more follows the first, which calls lend, which notice comes.
    const MORE: Ending = Ending { more: true, record: false };
    const RECORD: Ending = Ending { more: false, record: true };
    let cases = [
        (MORE, [true, true], vec![200], notice(0, 1)),
        (MORE, [true, false], vec![200], notice(0, 0)),
        (MORE, [false, true], vec![200], notice(0, 0)),
        (RECORD, [true, true], vec![100], None),
    ];
    for (ending, lends, left, notice) in cases {
        let (mut lab, sock, mut peer) = connected(Lab::new());
        let memory = memory(100, 1);
        for (lends, ending) in lends.into_iter().zip([ending, Ending::default()]) {
            let payload = Payload::new(Arc::clone(&memory));
            let step = match lends {
                true => lab.stack.send_zerocopy(&sock, &mut None, &payload, ending, false, lab.now),
                false => lab.stack.send_with(&sock, &memory, ending, false, lab.now),
            };
            assert!(matches!(step, WriteStep::Taken(100)));
            lab.run();
        }
        let lengths: Vec<usize> = sent(&mut lab).iter().map(|sent| sent.payload.len()).collect();
        assert_eq!(lengths, left, "{ending:?} {lends:?}");
        assert_eq!(told(&lab, &sock), None);
        if left == [200] {
            acknowledge(&mut lab, &mut peer, 200);
            assert_eq!(told(&lab, &sock), notice, "{ending:?} {lends:?}");
        }
    }
    // Nothing follows: the probe timer sends it.
    let (mut lab, sock, _) = connected(Lab::new());
    let payload = Payload::new(memory(100, 1));
    let step = lab.stack.send_zerocopy(&sock, &mut None, &payload, MORE, false, lab.now);
    assert!(matches!(step, WriteStep::Taken(100)));
    lab.run();
    assert!(sent(&mut lab).is_empty());
    lab.wait(250);
    assert_eq!(bytes(&sent(&mut lab)).len(), 100);
}

#[test]
fn calls_that_nobody_was_told_of_are_bounded() {
    let mut sysctl = Sysctls::default();
    sysctl.set("net.core.optmem_max", "2500").expect("a size");
    let (mut lab, sock, mut peer) = connected(Lab::with(|config| config.sysctl = sysctl));
    sock.lock.user().set_nodelay(true);
    let memory = memory(10, 1);
    let send = |lab: &mut Lab| {
        let step = lab.stack.send_zerocopy(
            &sock,
            &mut None,
            &Payload::new(Arc::clone(&memory)),
            Ending::default(),
            false,
            lab.now,
        );
        lab.run();
        step
    };
    for _ in 0..3 {
        assert!(matches!(send(&mut lab), WriteStep::Taken(10)));
    }
    assert!(matches!(send(&mut lab), WriteStep::NoBuffers), "three at 832 bytes each");
    assert_eq!(bytes(&sent(&mut lab)).len(), 30, "of the refused one nothing was taken");
    acknowledge(&mut lab, &mut peer, 20);
    assert!(matches!(send(&mut lab), WriteStep::Taken(10)), "two notices are one, which is charged like one");
    assert!(matches!(send(&mut lab), WriteStep::NoBuffers));
    assert_eq!(told(&lab, &sock), notice(0, 1));
    assert!(matches!(send(&mut lab), WriteStep::Taken(10)));
    // What was not sent yet is continued, and charged once.
    acknowledge(&mut lab, &mut peer, 30);
    sock.lock.user().cong.cwnd = 1;
    assert_eq!(told(&lab, &sock), notice(2, 4));
    for _ in 0..100 {
        assert!(matches!(send(&mut lab), WriteStep::Taken(10)));
    }
    while !sent(&mut lab).is_empty() {
        let unacknowledged = sock.lock.user().tx.snd_nxt - peer.ack;
        acknowledge(&mut lab, &mut peer, unacknowledged as u32);
    }
    let copied = ZerocopyNotice { first: 6, last: 104, copied: true };
    assert_eq!((told(&lab, &sock), told(&lab, &sock)), (notice(5, 5), Some(copied)), "of as many pieces, a copy");
}

#[test]
fn a_packet_of_very_many_pieces_is_copied() {
    let (mut lab, sock, mut peer) = connected(Lab::new());
    sock.lock.user().cong.cwnd = 1;
    lab.send(&sock, &[0; MSS]);
    let memory = memory(20, 1);
    for _ in 0..40 {
        lend(&mut lab, &sock, &memory);
    }
    sent(&mut lab);
    acknowledge(&mut lab, &mut peer, MSS as u32);
    assert_eq!(bytes(&sent(&mut lab)), memory.repeat(40));
    acknowledge(&mut lab, &mut peer, 800);
    assert_eq!(told(&lab, &sock).map(|notice| (notice.first, notice.last, notice.copied)), Some((0, 39, true)));
    assert_eq!(Arc::strong_count(&memory), 1);
}

/// Losses, selective acknowledgements and timeouts by a seed: each byte arrives as it was lent, no call is told of before its
/// last byte is acknowledged, and all memory comes back.
#[test]
fn under_loss_no_notice_comes_early_and_no_memory_is_kept() {
    for seed in 0..12 {
        let mut rng = crate::cx::Rng::new(seed);
        let (mut lab, sock, mut peer) = connected(Lab::new());
        let start = peer.ack;
        let (mut stream, mut calls) = (Vec::new(), Vec::new());
        let (mut arrived, mut next_told): (Vec<Option<u8>>, u32) = (Vec::new(), 0);
        for round in 0..4_000 {
            if stream.len() < 200_000 && rng.below(3) == 0 {
                let memory = memory(1 + rng.below(6_000) as usize, round as u8);
                let taken = match rng.below(4) {
                    0 => lab.send(&sock, &memory),
                    _ => {
                        let taken = lend(&mut lab, &sock, &memory);
                        if taken > 0 {
                            calls.push((stream.len() + taken, Arc::clone(&memory)));
                        }
                        taken
                    }
                };
                stream.extend_from_slice(&memory[..taken]);
                arrived.resize(stream.len(), None);
            }
            for sent in sent(&mut lab) {
                if rng.below(5) == 0 || sent.payload.is_empty() {
                    continue;
                }
                let at = (sent.seq - start) as usize;
                for (place, byte) in arrived[at..].iter_mut().zip(&sent.payload) {
                    assert!(place.is_none_or(|before| before == *byte), "seed {seed}: a byte changed");
                    *place = Some(*byte);
                }
            }
            let have = arrived.iter().position(Option::is_none).unwrap_or(arrived.len());
            if rng.below(4) > 0 {
                peer.ack = start + have as u32;
                let mut repr = peer.repr(ACK);
                let hole = arrived[have..].iter().position(Option::is_some).map(|at| have + at);
                if let Some(from) = hole {
                    let len = arrived[from..].iter().take_while(|byte| byte.is_some()).count();
                    repr.options = TcpOptions::default();
                    repr.options.set_sack([(start + from as u32, start + (from + len) as u32)]);
                }
                lab.segment(repr, &[]);
            }
            let acknowledged = (sock.lock.user().tx.snd_una - start) as usize;
            while let Some(notice) = told(&lab, &sock) {
                assert_eq!((notice.first, notice.copied), (next_told, false), "seed {seed}");
                next_told = notice.last + 1;
                let (end, _) = calls[notice.last as usize];
                assert!(end <= acknowledged, "seed {seed}: told of {end} when {acknowledged} were acknowledged");
            }
            for (end, memory) in calls[next_told as usize..].iter().filter(|(end, _)| *end > acknowledged) {
                assert!(Arc::strong_count(memory) > 1, "seed {seed}: {end} was let go at {acknowledged}");
            }
            if rng.below(3) == 0 || acknowledged < stream.len() {
                lab.wait(u64::from(rng.below(300)));
            }
            if stream.len() >= 200_000 && acknowledged == stream.len() {
                break;
            }
        }
        assert!(arrived.iter().map(|byte| byte.expect("all arrived")).eq(stream.iter().copied()), "seed {seed}");
        assert_eq!(next_told as usize, calls.len(), "seed {seed}");
        assert!(calls.iter().all(|(_, memory)| Arc::strong_count(memory) == 1), "seed {seed}");
        assert!(lab.count(Counter::TcpRetransSegs) > 10, "seed {seed}: there were losses");
    }
}
