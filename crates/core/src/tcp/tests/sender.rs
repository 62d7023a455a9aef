//! How fast the sender sends, and when not: pacing, BBR, limits of what waits unsent, closed windows, idle times, and
//! retransmissions that share a super-frame.

use std::collections::VecDeque;
use std::sync::Arc;

use rxpath_trace::{Counter, Time};
use rxpath_wire::{SeqNum, TcpHeader, TcpOptions, icmp as wire_icmp};

use super::icmp::told;
use super::lab::{ACK, Lab, MS, Peer, Sent};
use crate::socket::Sock;
use crate::sysctl::CongestionControl;
use crate::tcp::{State, TcpInfo};

const MSS: u32 = 1_460;

/// A connection that a peer opened that is so many milliseconds away.
fn connected(mut lab: Lab, rtt_ms: u64) -> (Lab, Arc<Sock>, Peer) {
    let listener = lab.listen(80, 8);
    let mut peer = Peer { sack: true, ..Peer::new(40_000, 80) };
    let sock = peer.connect_from_afar(&mut lab, &listener, rtt_ms);
    peer.window = 60_000;
    (lab, sock, peer)
}

/// Segments that have left until now.
fn sent(lab: &mut Lab) -> Vec<Sent> {
    std::iter::from_fn(|| lab.sent()).collect()
}

fn info(lab: &Lab, sock: &Sock) -> TcpInfo {
    sock.lock.user().info(lab.now)
}

#[test]
fn a_limit_of_the_rate_spreads_segments_evenly() {
    let (mut lab, sock, _) = connected(Lab::new(), 10);
    {
        let mut sk = sock.lock.user();
        sk.set_max_pacing_rate(u64::from(MSS) * 500);
        (sk.cong.cwnd, sk.tx.sndbuf) = (100, 1 << 20);
    }
    assert_eq!(lab.send(&sock, &vec![1; (40 * MSS) as usize]), (40 * MSS) as usize);
    let first = sent(&mut lab).len();
    assert!((10..=12).contains(&first), "the first ten and what was due: {first}");
    let counts: Vec<usize> = (0..5)
        .map(|_| {
            lab.wait(10);
            sent(&mut lab).len()
        })
        .collect();
    assert!(counts.iter().all(|count| (4..=6).contains(count)), "five in 10 ms: {counts:?}");
    assert_eq!(info(&lab, &sock).pacing_rate, u64::from(MSS) * 500);
    lab.wait(100);
    assert_eq!(sock.lock.user().outq_unsent(), 0, "none is left behind");
}

#[test]
fn without_a_limit_acks_are_the_clock() {
    let (mut lab, sock, _) = connected(Lab::new(), 40);
    assert_eq!(lab.send(&sock, &vec![1; (20 * MSS) as usize]), (20 * MSS) as usize);
    assert_eq!(sent(&mut lab).len(), 10, "the initial window at once");
    // Twice the window in a round trip, in slow start.
    assert_eq!(info(&lab, &sock).pacing_rate, u64::from(MSS) * 10 * 2 * 1_000 / 40);
}

/// A path with a bottleneck of one segment per millisecond behind which a queue of any length may stand.
struct Bottleneck {
    lab: Lab,
    sock: Arc<Sock>,
    peer: Peer,
    /// When which sequence number is acknowledged.
    acks: VecDeque<(Time, SeqNum)>,
    free_at: Time,
    longest_queue_ms: u64,
}

impl Bottleneck {
    const ONE_WAY: u64 = 20 * MS;

    /// Lets time pass; the application always has something to send.
    fn run(&mut self, ms: u64) {
        let until = self.lab.now + ms * MS;
        while self.lab.now < until {
            let room = self.sock.lock.user().send_room(false);
            if room > 20_000 {
                self.lab.send(&self.sock, &vec![9; room]);
            }
            self.forward();
            let due = self.acks.front().map_or(Time::MAX, |&(at, _)| at);
            let next = self.lab.stack.next_deadline().unwrap_or(Time::MAX).max(self.lab.now);
            let step = due.min(next).min(until);
            self.lab.now = self.lab.now.max(step);
            self.lab.run();
            while self.acks.front().is_some_and(|&(at, _)| at <= self.lab.now) {
                let (_, seq) = self.acks.pop_front().expect("there is one");
                self.peer.ack = seq;
                let mut repr = self.peer.repr(ACK);
                repr.options = TcpOptions::default();
                self.lab.segment(repr, &[]);
            }
        }
    }

    /// What has left goes through the bottleneck.
    fn forward(&mut self) {
        while let Some(sent) = self.lab.sent().filter(|sent| !sent.payload.is_empty()) {
            let arrives = self.lab.now + Self::ONE_WAY;
            let begins = arrives.max(self.free_at);
            self.longest_queue_ms = self.longest_queue_ms.max((begins - arrives) / MS);
            self.free_at = begins + MS;
            let end = sent.seq + sent.payload.len() as u32;
            self.acks.push_back((self.free_at + Self::ONE_WAY, end));
        }
    }
}

#[test]
fn bbr_finds_what_a_path_carries_and_keeps_its_queue_short() {
    let (lab, sock, mut peer) = connected(Lab::new(), 40);
    {
        let mut sk = sock.lock.user();
        sk.cong.set_algorithm(CongestionControl::Bbr);
        (sk.tx.sndbuf, sk.opts.snd_wscale) = (1 << 20, 7);
    }
    peer.window = 60_000;
    let mut path = Bottleneck { lab, sock, peer, acks: VecDeque::new(), free_at: Time::ZERO, longest_queue_ms: 0 };
    path.run(1_500);
    path.longest_queue_ms = 0;
    let before = info(&path.lab, &path.sock).bytes_acked;
    path.run(4_000);
    let told = info(&path.lab, &path.sock);
    let bbr = told.bbr.expect("it is in use");
    let carried = u64::from(MSS) * 1_000;
    assert!((carried * 95 / 100..carried * 105 / 100).contains(&bbr.bandwidth), "{bbr:?}");
    assert!((40_000..45_000).contains(&bbr.min_rtt), "{bbr:?}");
    let share = (told.bytes_acked - before) * 100 / (carried * 4);
    assert!(share >= 92, "{share} % of what the path carries");
    assert!(path.longest_queue_ms <= 60, "{} ms", path.longest_queue_ms);
    assert!(told.delivery_rate >= carried * 9 / 10 && told.total_retrans == 0, "{told:?}");
    // Ten seconds without a shorter round trip: for a moment four segments are in flight.
    let mut least = u32::MAX;
    for _ in 0..80 {
        path.run(100);
        least = least.min(path.sock.lock.user().cong.cwnd);
    }
    assert_eq!(least, 4);
}

#[test]
fn cubic_fills_the_queue_that_bbr_leaves_empty() {
    let (lab, sock, peer) = connected(Lab::new(), 40);
    {
        let mut sk = sock.lock.user();
        (sk.tx.sndbuf, sk.opts.snd_wscale) = (1 << 20, 7);
    }
    let mut path = Bottleneck { lab, sock, peer, acks: VecDeque::new(), free_at: Time::ZERO, longest_queue_ms: 0 };
    path.run(5_000);
    assert!(path.longest_queue_ms > 60, "{} ms", path.longest_queue_ms);
}

#[test]
fn a_closed_window_is_probed_ever_more_rarely_and_a_silent_peer_given_up() {
    let mut lab = Lab::with(|config| config.sysctl.tcp_retries2 = 4);
    lab.tos = 0;
    let (mut lab, sock, mut peer) = connected(lab, 10);
    peer.window = 0;
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!(lab.send(&sock, &[1; 100]), 100);
    let mut times = Vec::new();
    let mut answered = 0;
    for _ in 0..60_000 {
        lab.wait(1);
        if !sent(&mut lab).is_empty() {
            times.push(lab.now.0 / MS);
            // The first two are answered: the window stays closed.
            if answered < 2 {
                answered += 1;
                lab.segment(peer.repr(ACK), &[]);
            }
        }
        if lab.state(&sock) == State::Close {
            break;
        }
    }
    assert_eq!(lab.count(Counter::TcpExtTCPWinProbe), times.len() as u64);
    assert_eq!(times.len(), 2 + 4, "as many as tcp_retries2 without an answer: {times:?}");
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).take(3).all(|pair| pair[1] + 8 >= 2 * pair[0]), "{gaps:?}");
    assert_eq!(lab.count(Counter::TcpExtTCPAbortOnTimeout), 1);
}

#[test]
fn idleness_shrinks_the_window_unless_it_must_not() {
    for (shrinks, expected) in [(true, 10), (false, 40)] {
        let (mut lab, sock, mut peer) =
            connected(Lab::with(|config| config.sysctl.tcp_slow_start_after_idle = shrinks), 10);
        assert_eq!(lab.send(&sock, &[1; 10]), 10);
        peer.ack += 10;
        lab.segment(peer.repr(ACK), &[]);
        sock.lock.user().cong.cwnd = 40;
        lab.wait(5_000);
        lab.send(&sock, &[1; 10]);
        assert_eq!(sock.lock.user().cong.cwnd, expected);
    }
}

#[test]
fn what_is_lost_together_is_sent_again_together_where_the_device_takes_it() {
    let (mut lab, sock, mut peer) = connected(Lab::offloading(), 40);
    sock.lock.user().cong.cwnd = 40;
    assert_eq!(lab.send(&sock, &vec![7; (20 * MSS) as usize]), (20 * MSS) as usize);
    let first = peer.ack;
    while lab.raw().is_some() {}
    lab.wait(40);
    let at = |nth: u32| first + nth * MSS;
    let mut repr = peer.repr(ACK);
    repr.options.set_sack([(at(8), at(20))]);
    lab.segment(repr, &[]);
    let mut again = Vec::new();
    while let Some(frame) = lab.raw() {
        let (header, _, payload) = TcpHeader::split(&frame[34..]).expect("a TCP header");
        again.push(((header.seq() - first) as u32 / MSS, payload.len() as u32 / MSS));
    }
    assert_eq!(again.iter().map(|&(_, count)| count).sum::<u32>(), 8, "{again:?}");
    assert!(again.len() < 8 && again[0].0 == 0 && again[0].1 > 1, "fewer frames than segments: {again:?}");
    assert_eq!((lab.count(Counter::TcpRetransSegs), lab.count(Counter::TcpExtTCPFastRetrans)), (8, 8));
    peer.ack = at(20);
    lab.segment(peer.repr(ACK), &[]);
    let told = info(&lab, &sock);
    assert_eq!((told.bytes_retrans, told.total_retrans, told.unacked), (u64::from(8 * MSS), 8, 0));
}

#[test]
fn super_frames_that_are_sent_again_in_shorter_segments_are_counted_as_these() {
    let (mut lab, sock, peer) = connected(Lab::offloading(), 0);
    assert_eq!(lab.send(&sock, &[7; 4_000]), 4_000);
    while lab.raw().is_some() {}
    told(&mut lab, (3, wire_icmp::FRAGMENTATION_NEEDED, 1_000), (80, 40_000), peer.ack);
    // 960 bytes each.
    assert_eq!((lab.count(Counter::TcpRetransSegs), lab.count(Counter::TcpExtTCPSlowStartRetrans)), (5, 5));
    let sk = sock.lock.user();
    let records: Vec<_> = sk.tx.segments.iter().map(|record| (record.len(), record.pcount, record.mss)).collect();
    assert_eq!((records, sk.cong.packets_out), (vec![(4_000, 5, 960)], 5));
}

#[test]
fn what_a_connection_tells_of_itself_adds_up() {
    let (mut lab, sock, mut peer) = connected(Lab::new(), 20);
    lab.send(&sock, &vec![1; 3_000]);
    sent(&mut lab);
    lab.wait(20);
    peer.ack += 3_000;
    peer.data(&mut lab, &[2; 500]);
    lab.wait(100);
    let told = info(&lab, &sock);
    assert_eq!((told.bytes_sent, told.bytes_acked, told.bytes_received), (3_000, 3_000, 500));
    assert_eq!((told.data_segs_out, told.data_segs_in, told.segs_in), (3, 1, 2), "the third of the handshake counts");
    assert_eq!(told.delivery_rate, u64::from(MSS) * 3 * 1_000 / 20);
    assert!(told.delivery_rate_app_limited && told.busy_us == 20_000, "{told:?}");
    assert_eq!((told.rwnd_limited_us, told.reord_seen), (0, 0), "nothing was overtaken");
    assert_eq!(lab.count(Counter::TcpExtTCPSACKReorder), 0);
}
