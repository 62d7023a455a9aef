//! The search for the path's MTU by longer segments. The sizes are those that the running kernel sends in the same place.

use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::{SeqNum, TcpOptions};

use super::lab::{ACK, Lab, PEER, Peer, SYN_ACK, Sent};
use crate::socket::Sock;
use crate::tcp::CaState;

const MSS: u32 = 1_460;

/// A lab that searches in this mode.
fn searching(mode: u8) -> Lab {
    Lab::with(|config| config.sysctl.tcp_mtu_probing = mode)
}

/// A path that lets segments of at most so many bytes through, and a peer who acknowledges each that comes.
struct Path {
    lab: Lab,
    sock: Arc<Sock>,
    peer: Peer,
    longest: usize,
    /// What came: the first hole ends what is acknowledged, what is behind it goes into a SACK block.
    came: Vec<(SeqNum, u32)>,
    /// Lengths of what was sent, in order, each as often as it came in a row; with whether it got through.
    seen: Vec<(usize, bool)>,
}

impl Path {
    fn new(lab: Lab, sock: Arc<Sock>, peer: Peer, longest: usize) -> Path {
        sock.lock.user().tx.sndbuf = 4 << 20;
        Path { lab, sock, peer, longest, came: Vec::new(), seen: Vec::new() }
    }

    /// The peer has opened the connection.
    fn accepted(mut lab: Lab, longest: usize) -> Path {
        let listener = lab.listen(80, 8);
        let mut peer = Peer { sack: true, ..Peer::new(40_000, 80) };
        let sock = peer.connect(&mut lab, &listener);
        Path::new(lab, sock, peer, longest)
    }

    /// The stack has.
    fn connected(mut lab: Lab, longest: usize) -> Path {
        let remote = std::net::SocketAddr::from((PEER, 80));
        let sock = lab.stack.connect_from(Some(2_000), remote, lab.now).expect("a way");
        lab.run();
        let syn = lab.sent().expect("a SYN");
        let mut peer = Peer { ack: syn.seq + 1, ..Peer::new(80, 2_000) };
        let mut answer = peer.repr(SYN_ACK);
        answer.options =
            TcpOptions { mss: Some(1_460), wscale: Some(7), sack_permitted: true, ..TcpOptions::default() };
        lab.segment(answer, &[]);
        lab.expect(ACK);
        peer.seq += 1;
        peer.window = 65_000;
        Path::new(lab, sock, peer, longest)
    }

    fn write(&mut self, bytes: usize) {
        assert_eq!(self.lab.send(&self.sock, &vec![7; bytes]), bytes);
    }

    /// The next segment that was sent goes through the path, or not. False if there is none.
    fn pass_one(&mut self) -> bool {
        let Some(Sent { seq, payload, .. }) = self.lab.sent().filter(|sent| !sent.payload.is_empty()) else {
            return false;
        };
        let through = payload.len() <= self.longest;
        // One after the other, as a bottleneck lets them.
        self.lab.wait(1);
        if self.seen.last() != Some(&(payload.len(), through)) {
            self.seen.push((payload.len(), through));
        }
        if !through {
            return true;
        }
        self.came.push((seq, payload.len() as u32));
        self.came.sort_by_key(|(seq, _)| *seq - self.peer.ack);
        while let Some(at) = self
            .came
            .iter()
            .position(|(seq, len)| seq.at_or_before(self.peer.ack) && (*seq + *len).at_or_after(self.peer.ack))
        {
            let (seq, len) = self.came.remove(at);
            self.peer.ack = seq + len;
        }
        self.came.retain(|(seq, _)| seq.after(self.peer.ack));
        let mut repr = self.peer.repr(ACK);
        repr.options = TcpOptions::default();
        if let Some((seq, _)) = self.came.first().copied() {
            let end = self.came.iter().fold(seq, |end, (seq, len)| if *seq == end { end + *len } else { end });
            repr.options.set_sack([(seq, end)]);
        }
        self.lab.segment(repr, &[]);
        true
    }

    /// All that is sent now, and because of that.
    fn pass(&mut self) {
        for _ in 0..10_000 {
            if !self.pass_one() {
                return;
            }
        }
        panic!("it does not end");
    }

    fn counted(&self) -> (u64, u64) {
        (self.lab.count(Counter::TcpExtTCPMTUPSuccess), self.lab.count(Counter::TcpExtTCPMTUPFail))
    }

    fn mss(&self) -> u16 {
        self.sock.lock.user().tx.mss
    }
}

#[test]
fn segments_get_longer_as_far_as_the_way_is_wide() {
    let mut path = Path::connected(searching(2), 1_460);
    assert_eq!(path.mss(), 1_024, "tcp_base_mss");
    path.write(2_000_000);
    path.pass();
    // Half of what is left each time, until that is less than tcp_probe_threshold.
    let probes: Vec<usize> = path.seen.iter().map(|(len, _)| *len).filter(|len| *len > 1_000).collect();
    assert!([1_024, 1_242, 1_351, 1_405, 1_432, 1_446, 1_453].iter().all(|len| probes.contains(len)), "{probes:?}");
    assert_eq!((path.counted(), path.mss()), ((6, 0), 1_453));
    assert_eq!((path.lab.count(Counter::TcpRetransSegs), path.sock.lock.user().outq()), (0, 0));
}

#[test]
fn a_probe_that_arrives_keeps_the_bytes_in_flight_and_one_that_does_not_the_window() {
    let mut path = Path::connected(searching(2), 1_200);
    path.write(100_000);
    // Ten segments, as the first acknowledgement makes room for the probe: one that counts as two.
    assert!(path.pass_one());
    assert_eq!(path.sock.lock.user().cong.cwnd, 10, "eleven, less one for the probe");
    for _ in 1..10 {
        assert!(path.pass_one());
    }
    let before = path.sock.lock.user().cong.cwnd;
    let ssthresh = path.sock.lock.user().cong.ssthresh;
    path.pass();
    assert!(path.seen.contains(&(1_242, false)), "{:?}", path.seen);
    let sk = path.sock.lock.user();
    assert!(sk.cong.cwnd > before && sk.cong.ssthresh == ssthresh, "nothing was cut: {} {}", sk.cong.cwnd, before);
    assert_eq!((sk.cong.state, sk.outq()), (CaState::Open, 0));
    drop(sk);
    // 1,132 passes and 1,186, and not 1,213: what is left is searched.
    path.write(500_000);
    path.pass();
    for probe in [(1_132, true), (1_186, true), (1_213, false)] {
        assert!(path.seen.contains(&probe), "{:?}", path.seen);
    }
    let (success, fail) = path.counted();
    assert!(success >= 2 && fail >= 2, "{:?}", path.counted());
    assert!((1_186..=1_200).contains(&path.mss()));
    assert_eq!(path.lab.count(Counter::TcpExtTCPTimeouts), 0);
}

#[test]
fn who_is_connected_to_searches_from_below_too() {
    // The kernel's first segments are as long as the link allows here, and the first probe is shorter.
    let mut path = Path::accepted(searching(2), 1_460);
    assert_eq!(u32::from(path.mss()), MSS);
    path.write(200_000);
    path.pass();
    let probes: Vec<usize> = path.seen.iter().map(|(len, _)| *len).collect();
    assert_eq!(&probes[..4], &[1_460, 1_242, 1_460, 1_351], "{probes:?}");
}

#[test]
fn a_black_hole_is_found_by_its_silence() {
    let mut path = Path::accepted(searching(1), 600);
    path.write(60_000);
    path.pass();
    assert!(path.seen.iter().all(|(len, through)| *len == 1_460 && !through));
    // The timeouts of 3 retransmissions are over before the fifth.
    path.lab.wait(4_000);
    path.pass();
    assert_eq!(u32::from(path.mss()), MSS);
    path.lab.wait(3_500);
    path.pass();
    assert_eq!((path.mss(), path.seen.last()), (1_024, Some(&(1_024, false))));
    for _ in 0..20 {
        path.lab.wait(1_000);
        path.pass();
    }
    assert_eq!((path.mss(), path.sock.lock.user().outq()), (512, 0), "half of it gets through: {:?}", path.seen);
    assert_eq!(path.counted().0, 0, "nothing longer does");
}

#[test]
fn without_probing_nothing_of_that_happens() {
    let mut path = Path::accepted(searching(0), 600);
    path.write(60_000);
    for _ in 0..20 {
        path.lab.wait(1_000);
        path.pass();
    }
    assert_eq!((u32::from(path.mss()), path.counted()), (MSS, (0, 0)));
    assert!(path.seen.iter().all(|(len, through)| *len == 1_460 && !through));
}

#[test]
fn a_search_that_has_ended_begins_again_after_a_while() {
    let mut path = Path::connected(searching(2), 1_300);
    path.write(1_000_000);
    path.pass();
    let found = path.mss();
    assert!((1_290..=1_300).contains(&found), "{found}");
    let before = path.counted();
    path.write(300_000);
    path.pass();
    assert_eq!(path.counted(), before, "it is known");
    path.longest = 1_460;
    path.lab.wait(600_000);
    for _ in 0..4 {
        path.write(400_000);
        path.pass();
    }
    assert!(path.mss() > 1_450 && path.counted().0 > before.0, "the path has become wider: {}", path.mss());
}

#[test]
fn a_peer_that_takes_very_little_gets_segments_of_the_least_size() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let mut syn = peer.repr(super::lab::SYN);
    syn.options.mss = Some(30);
    lab.segment(syn, &[]);
    let answer = lab.expect(SYN_ACK);
    peer.seq += 1;
    peer.ack = answer.seq + 1;
    lab.segment(peer.repr(ACK), &[]);
    let sock = lab.stack.accept(&listener).expect("the handshake is complete");
    assert_eq!(lab.send(&sock, &[1; 100]), 100);
    assert_eq!(lab.sent().expect("a segment").payload.len(), 48, "tcp_min_snd_mss");
}
