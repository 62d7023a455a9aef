//! SYNs of ours with a request, or with a cookie and data.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rxpath_trace::Counter;
use rxpath_wire::tcp::FastOpen;
use rxpath_wire::{TcpFlags, TcpOptions, TcpOptionsWriter};

use super::super::lab::{ACK, FIN_ACK, Lab, PEER, PSH_ACK, Peer, SYN, SYN_ACK, Sent};
use super::{REQUEST, counts, lab, raw_segment, sent, with};
use crate::socket::{Sock, WriteStep};
use crate::stack::{ConnectError, RecvError};
use crate::tcp::{CaState, FastOpenFail, SockError, SockOptions, State};

const COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const RST_ACK: TcpFlags = TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0);

fn remote() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(PEER), 80)
}

/// Connects with data; how much of it the SYN has, and the SYN.
fn connect(lab: &mut Lab, data: &[u8], options: &SockOptions) -> (Arc<Sock>, usize, Sent, Option<FastOpen>) {
    let (sock, taken) = lab.stack.connect_with_data(None, remote(), data, options, lab.now).expect("a way and a port");
    lab.run();
    let (syn, option) = sent(lab);
    assert_eq!((syn.flags.syn(), syn.payload.len()), (true, taken));
    (sock, taken, syn, option)
}

fn send(lab: &mut Lab, data: &[u8]) -> (Arc<Sock>, usize, Sent, Option<FastOpen>) {
    connect(lab, data, &SockOptions::default())
}

/// The peer's answer to a SYN, which acknowledges `acked` bytes behind it; then the peer.
fn answer(lab: &mut Lab, syn: &Sent, acked: u32, mss: u16, option: Option<FastOpen>, data: &[u8]) -> Peer {
    let mut peer = Peer { ack: syn.seq + 1 + acked, ..Peer::new(80, syn.sport) };
    let mut options = TcpOptionsWriter::all(&TcpOptions { mss: Some(mss), ..TcpOptions::default() });
    if let Some(option) = option {
        options.fast_open(&option);
    }
    raw_segment(lab, peer.repr(SYN_ACK), options.as_bytes(), data);
    peer.seq += 1 + data.len() as u32;
    peer
}

/// Resets a connection, whatever its state, and forgets what was sent.
fn end(lab: &mut Lab, sock: &Arc<Sock>) {
    lab.stack.abort(sock, lab.now);
    lab.run();
    while lab.sent().is_some() {}
}

/// Asks for the cookie and gets it, with this segment size.
fn introduce(lab: &mut Lab, mss: u16) {
    let (sock, taken, syn, option) = send(lab, b"hello");
    assert_eq!((taken, option), (0, Some(REQUEST)));
    answer(lab, &syn, 0, mss, Some(with(COOKIE)), &[]);
    lab.expect(ACK);
    end(lab, &sock);
}

fn info(lab: &Lab, sock: &Sock) -> crate::tcp::TcpInfo {
    sock.lock.user().info(lab.now)
}

#[test]
fn a_cookie_is_asked_for_remembered_and_used() {
    let mut lab = lab(1);
    let (sock, taken, syn, option) = send(&mut lab, b"hello");
    assert_eq!((taken, option), (0, Some(REQUEST)));
    assert_eq!(info(&lab, &sock).fastopen_client_fail, FastOpenFail::CookieUnavailable);
    answer(&mut lab, &syn, 0, 1_460, Some(with(COOKIE)), &[]);
    lab.expect(ACK);
    end(&mut lab, &sock);

    let (sock, taken, syn, option) = send(&mut lab, b"hello");
    assert_eq!((taken, option), (5, Some(with(COOKIE))));
    assert_eq!((syn.flags, &syn.payload[..]), (SYN, &b"hello"[..]));
    assert!(syn.options.timestamps.is_some() && syn.options.sack_permitted && syn.options.wscale.is_some());
    assert_eq!(info(&lab, &sock).unacked, 2, "the SYN and its data");
    assert_eq!(lab.count(Counter::TcpExtTCPOrigDataSent), 1);
    let delivered = lab.count(Counter::TcpExtTCPDelivered);
    let mut peer = answer(&mut lab, &syn, 5, 1_460, None, &[]);
    assert_eq!((lab.expect(ACK).seq, lab.state(&sock)), (peer.ack, State::Established));
    assert_eq!(lab.count(Counter::TcpExtTCPDelivered) - delivered, 2);
    assert_eq!(counts(&lab, [Counter::TcpExtTCPFastOpenActive, Counter::TcpExtTCPFastOpenActiveFail]), [1, 0]);
    let told = info(&lab, &sock);
    assert!(told.syn_data && !told.tfo_child && told.fastopen_client_fail == FastOpenFail::None);
    assert_eq!((told.unacked, told.snd_cwnd, told.bytes_sent, told.notsent_bytes), (0, 10, 5, 0));
    assert_eq!(told.ca_state, CaState::Open);
    lab.send(&sock, b"more");
    let more = lab.expect(PSH_ACK);
    assert_eq!((more.seq, &more.payload[..]), (peer.ack, &b"more"[..]));
    peer.ack += 4;
    peer.data(&mut lab, b"answer");
    lab.expect(ACK);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"answer");
    assert_eq!(sock.lock.user().tx.buffer.len(), 0);
    end(&mut lab, &sock);
}

#[test]
fn the_syn_has_as_much_as_the_peer_takes_and_the_rest_follows() {
    let mut lab = lab(1);
    introduce(&mut lab, 1_000);
    let data = [7; 3_000];
    let (sock, taken, syn, _) = send(&mut lab, &data);
    assert_eq!(taken, 1_000 - 40, "all options are left room for");
    answer(&mut lab, &syn, 960, 536, None, &[]);
    lab.expect(ACK);
    assert_eq!(lab.send(&sock, &data[taken..]), 3_000 - 960);
    let first = lab.sent().expect("the rest");
    assert_eq!((first.seq, first.payload.len()), (syn.seq + 961, 536));
    end(&mut lab, &sock);
    let (sock, taken, ..) = send(&mut lab, &data);
    assert_eq!(taken, 496, "the size was remembered");
    end(&mut lab, &sock);
}

#[test]
fn data_that_the_answer_does_not_acknowledge_goes_again_at_once() {
    for (acked, mss, pieces) in [(0, 1_460, &[1_400][..]), (3, 1_460, &[1_397]), (0, 500, &[500, 500, 400])] {
        let mut lab = lab(1);
        introduce(&mut lab, 1_460);
        let data: Vec<u8> = (0..1_400).map(|at| at as u8).collect();
        let (sock, _, syn, _) = send(&mut lab, &data);
        let before = lab.count(Counter::TcpRetransSegs);
        let mut peer = answer(&mut lab, &syn, acked, mss, None, b"data of whom does not take ours");
        peer.seq -= 31;
        let mut at = acked as usize;
        for &len in pieces {
            let again = lab.sent().expect("it goes again");
            assert_eq!((again.seq, again.ack), (syn.seq + 1 + at as u32, peer.seq));
            assert_eq!(again.payload, &data[at..at + len]);
            at += len;
        }
        lab.expect_nothing();
        let resent = pieces.len() as u64;
        assert_eq!(lab.count(Counter::TcpRetransSegs) - before, resent);
        let counters = [
            Counter::TcpExtTCPFastOpenActiveFail,
            Counter::TcpExtTCPSlowStartRetrans,
            Counter::TcpExtTCPFastOpenActive,
        ];
        assert_eq!(counts(&lab, counters), [1, resent, 0]);
        let told = info(&lab, &sock);
        assert_eq!((told.fastopen_client_fail, told.syn_data), (FastOpenFail::DataNotAcked, false));
        assert_eq!((told.ca_state, told.snd_cwnd, told.unacked), (CaState::Loss, 10, resent as u32));
        peer.ack = syn.seq + 1_401;
        lab.segment(peer.repr(ACK), &[]);
        assert_eq!((info(&lab, &sock).unacked, sock.lock.user().tx.buffer.len()), (0, 0));
        end(&mut lab, &sock);
        assert_eq!(send(&mut lab, b"x").1, 1, "the cookie is kept");
    }
}

#[test]
fn a_syn_that_is_not_answered_goes_again_without_data_and_option() {
    let mut lab = lab(1);
    introduce(&mut lab, 1_460);
    let (sock, _, syn, _) = send(&mut lab, b"hello");
    for _ in 0..2 {
        lab.wait(1_010);
        let (again, option) = sent(&mut lab);
        assert_eq!((again.seq, again.payload.len(), option), (syn.seq, 0, None));
    }
    let told = info(&lab, &sock);
    assert_eq!((told.unacked, told.lost, told.retrans), (2, 2, 1));
    answer(&mut lab, &syn, 0, 1_460, None, &[]);
    let data = lab.expect(PSH_ACK);
    assert_eq!((data.seq, &data.payload[..]), (syn.seq + 1, &b"hello"[..]));
    lab.expect_nothing();
    let counters = [
        Counter::TcpExtTCPSynRetrans,
        Counter::TcpExtTCPFastOpenActiveFail,
        Counter::TcpExtTCPSlowStartRetrans,
        Counter::TcpRetransSegs,
    ];
    assert_eq!(counts(&lab, counters), [2, 1, 1, 3]);
    assert_eq!(info(&lab, &sock).fastopen_client_fail, FastOpenFail::SynRetransmitted);
    end(&mut lab, &sock);
    // The first SYN had arrived, and is answered late.
    let (sock, _, syn, _) = send(&mut lab, b"hello");
    lab.wait(1_010);
    lab.expect(SYN);
    answer(&mut lab, &syn, 5, 1_460, None, &[]);
    lab.expect(ACK);
    let told = info(&lab, &sock);
    assert_eq!((told.syn_data, told.fastopen_client_fail), (true, FastOpenFail::None));
    assert_eq!(lab.count(Counter::TcpExtTCPFastOpenActive), 1);
    end(&mut lab, &sock);
    // So it is with a request.
    lab.stack.reconfigure(|net| crate::netns::NetConfig { fast_open: Arc::default(), ..net.clone() });
    let (sock, _, _, option) = send(&mut lab, b"hello");
    assert_eq!(option, Some(REQUEST));
    lab.wait(1_010);
    assert_eq!(sent(&mut lab).1, None);
    end(&mut lab, &sock);
}

#[test]
fn a_peer_may_use_the_experimental_option() {
    let mut lab = lab(1);
    // The option with a number is not answered, and the next request is an experiment; there is one such.
    for experimental in [false, true, false, false] {
        let (sock, _, syn, option) = send(&mut lab, b"hello");
        assert_eq!(option, Some(FastOpen::request(experimental)));
        answer(&mut lab, &syn, 0, 1_460, None, &[]);
        end(&mut lab, &sock);
    }
    let (sock, _, syn, _) = send(&mut lab, b"hello");
    let cookie = FastOpen::with_cookie(&[9; 16], true);
    answer(&mut lab, &syn, 0, 1_460, cookie, &[]);
    end(&mut lab, &sock);
    let (sock, taken, _, option) = send(&mut lab, b"hello");
    assert_eq!((taken, option), (5, cookie), "sixteen bytes fit");
    end(&mut lab, &sock);
}

#[test]
fn data_and_a_fin_in_the_answer_are_taken() {
    let mut lab = lab(1);
    introduce(&mut lab, 1_460);
    let (sock, _, syn, _) = send(&mut lab, b"hello");
    let peer = answer(&mut lab, &syn, 5, 1_460, None, b"world");
    let ack = lab.expect(ACK);
    assert_eq!((ack.ack, ack.window), (peer.seq, 64_235));
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"world");
    end(&mut lab, &sock);
    // Of one that only asked for a cookie, too.
    lab.stack.reconfigure(|net| crate::netns::NetConfig { fast_open: Arc::default(), ..net.clone() });
    let (sock, _, syn, _) = send(&mut lab, b"hello");
    answer(&mut lab, &syn, 0, 1_460, Some(with(COOKIE)), b"world");
    lab.expect(ACK);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"world");
    assert!(info(&lab, &sock).syn_data, "as the kernel has it");
    end(&mut lab, &sock);
    let (sock, _, syn, _) = send(&mut lab, b"hello");
    let peer = Peer { ack: syn.seq + 6, ..Peer::new(80, syn.sport) };
    raw_segment(&mut lab, peer.repr(TcpFlags(SYN_ACK.0 | TcpFlags::FIN.0)), &[2, 4, 5, 0xb4], b"world");
    assert_eq!(lab.state(&sock), State::CloseWait);
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"world");
    assert_eq!(lab.recv(&sock, 100).unwrap(), b"");
    lab.wait(300);
    assert_eq!(lab.expect(ACK).ack, peer.seq + 7);
    end(&mut lab, &sock);
    // An ordinary SYN-ACK's is not.
    let sock = lab.stack.connect(remote(), lab.now).expect("a way");
    lab.run();
    let syn = lab.expect(SYN);
    let peer = answer(&mut lab, &syn, 0, 1_460, None, b"world");
    assert_eq!(lab.expect(ACK).ack, peer.seq - 5);
    assert!(matches!(lab.recv(&sock, 100), Err(RecvError::Empty(_))));
    end(&mut lab, &sock);
}

#[test]
fn an_answer_that_acknowledges_what_was_not_sent_or_a_reset_ends_it_as_ever() {
    let mut lab = lab(1);
    introduce(&mut lab, 1_460);
    let (sock, _, syn, _) = send(&mut lab, b"hello");
    answer(&mut lab, &syn, 6, 1_460, None, &[]);
    assert_eq!(lab.expect(TcpFlags::RST).seq, syn.seq + 7);
    assert_eq!(lab.state(&sock), State::SynSent);
    for acked in [0, 5] {
        let (sock, _, syn, _) = send(&mut lab, b"hello");
        let peer = Peer { ack: syn.seq + 1 + acked, ..Peer::new(80, syn.sport) };
        lab.segment(peer.repr(RST_ACK), &[]);
        assert_eq!(lab.stack.connected(&sock, false, lab.now).0, Some(Err(SockError::Refused)));
    }
    end(&mut lab, &sock);
}

#[test]
fn connecting_waits_for_the_first_write_where_there_is_a_cookie() {
    let mut lab = lab(1);
    let options = SockOptions { fastopen_connect: true, ..SockOptions::default() };
    let deferred = |lab: &mut Lab| {
        let sock = lab.stack.connect_with(Some(33_000), remote(), &options, lab.now).expect("a way and a port");
        lab.run();
        sock
    };
    // No cookie: the SYN asks for one.
    let sock = deferred(&mut lab);
    let (syn, option) = sent(&mut lab);
    assert_eq!(option, Some(REQUEST));
    assert_eq!(lab.stack.connected(&sock, false, lab.now).0, None);
    assert!(!lab.stack.readiness(&sock, lab.now).writable);
    answer(&mut lab, &syn, 0, 1_460, Some(with(COOKIE)), &[]);
    lab.expect(ACK);
    end(&mut lab, &sock);
    let opens = lab.count(Counter::TcpActiveOpens);
    let sock = deferred(&mut lab);
    lab.wait(5_000);
    lab.expect_nothing();
    assert_eq!(lab.count(Counter::TcpActiveOpens), opens);
    assert_eq!(lab.stack.connected(&sock, false, lab.now).0, Some(Ok(())));
    assert!(lab.stack.readiness(&sock, lab.now).writable);
    assert!(matches!(lab.recv(&sock, 10), Err(RecvError::Empty(_))));
    assert!(matches!(lab.stack.connect_with(Some(33_000), remote(), &options, lab.now), Err(ConnectError::NoPort)));
    assert_eq!(lab.send(&sock, &[7; 3_000]), 1_420);
    let (syn, option) = sent(&mut lab);
    assert_eq!((syn.flags, syn.payload.len(), option), (SYN, 1_420, Some(with(COOKIE))));
    assert!(!lab.stack.readiness(&sock, lab.now).writable);
    assert!(matches!(lab.stack.send(&sock, b"more", false, lab.now), WriteStep::Full(_)));
    answer(&mut lab, &syn, 1_420, 1_460, None, &[]);
    lab.expect(ACK);
    assert_eq!(lab.state(&sock), State::Established);
    end(&mut lab, &sock);
    // Who never writes leaves no trace, and the port is free again.
    for shuts_down in [false, true] {
        let sock = deferred(&mut lab);
        if shuts_down {
            lab.stack.shutdown_write(&sock, lab.now);
            lab.run();
            assert_eq!(lab.state(&sock), State::Close);
        }
        lab.close(&sock);
        lab.expect_nothing();
    }
    let sock = deferred(&mut lab);
    end(&mut lab, &sock);
    let sock = deferred(&mut lab);
    lab.send(&sock, b"x");
    lab.expect(SYN);
    end(&mut lab, &sock);
}

#[test]
fn fast_open_may_be_off_or_without_cookies() {
    for flags in [0, 2] {
        let mut lab = lab(flags);
        let refused = lab.stack.connect_with_data(Some(33_000), remote(), b"hello", &SockOptions::default(), lab.now);
        assert!(matches!(refused, Err(ConnectError::FastOpenOff)));
        let options = SockOptions { fastopen_connect: true, ..SockOptions::default() };
        let refused = lab.stack.connect_with(Some(33_000), remote(), &options, lab.now);
        assert!(matches!(refused, Err(ConnectError::FastOpenOff)));
        let sock = lab.stack.connect_from(Some(33_000), remote(), lab.now).expect("the port is free");
        lab.run();
        assert_eq!(sent(&mut lab).1, None);
        end(&mut lab, &sock);
    }
    for (flags, fastopen_no_cookie) in [(5, false), (1, true)] {
        let mut lab = lab(flags);
        let options = SockOptions { fastopen_no_cookie, ..SockOptions::default() };
        let (sock, taken, syn, option) = connect(&mut lab, &[7; 3_000], &options);
        assert_eq!((taken, option), (1_420, None));
        answer(&mut lab, &syn, 1_420, 900, None, &[]);
        assert_eq!(lab.count(Counter::TcpExtTCPFastOpenActive), 1);
        end(&mut lab, &sock);
        let (sock, taken, ..) = connect(&mut lab, &[7; 3_000], &options);
        assert_eq!(taken, 860);
        end(&mut lab, &sock);
    }
}

#[test]
fn crossed_syns_leave_the_data_in_flight() {
    let mut lab = lab(1);
    introduce(&mut lab, 1_460);
    let (sock, _, syn, _) = send(&mut lab, b"hello");
    let mut peer = Peer::new(80, syn.sport);
    raw_segment(&mut lab, peer.repr(SYN), &[2, 4, 5, 0xb4], &[]);
    let (crossed, option) = sent(&mut lab);
    assert_eq!((crossed.flags, crossed.seq, crossed.payload.len(), option), (SYN_ACK, syn.seq, 0, None));
    (peer.seq, peer.ack) = (peer.seq + 1, syn.seq + 6);
    lab.segment(peer.repr(ACK), &[]);
    assert_eq!((lab.state(&sock), info(&lab, &sock).unacked), (State::Established, 0));
    assert_eq!(lab.count(Counter::TcpExtTCPFastOpenActive), 0, "as the kernel counts it");
    end(&mut lab, &sock);
}

/// A lab in which a pause lasts six seconds at first, and a cookie is known.
fn pausing() -> Lab {
    let mut lab = Lab::with(|config| config.sysctl.tcp_fastopen_blackhole_timeout_sec = 6);
    introduce(&mut lab, 1_460);
    lab
}

/// Whether a connection is opened fast now.
fn is_fast(lab: &mut Lab) -> bool {
    let (sock, taken, _, option) = send(lab, b"hello");
    assert_eq!(taken > 0, option.is_some(), "a SYN of a pause does not even ask");
    end(lab, &sock);
    taken > 0
}

/// A connection whose SYN had data that was taken.
fn opened(lab: &mut Lab) -> (Arc<Sock>, Peer) {
    let (sock, _, syn, _) = send(lab, b"hello");
    let peer = answer(lab, &syn, 5, 1_460, None, &[]);
    lab.expect(ACK);
    (sock, peer)
}

/// A reset in the window that is not exact.
fn strange_reset(lab: &mut Lab, peer: &Peer) {
    let mut rst = peer.repr(RST_ACK);
    rst.seq += 100;
    lab.segment(rst, &[]);
}

#[test]
fn what_swallows_fast_opens_pauses_them_ever_longer() {
    let mut lab = pausing();
    let counters = [Counter::TcpExtTCPFastOpenBlackhole, Counter::TcpExtTCPFastOpenActiveFail];
    let mut seconds = 6;
    for times in 1..=3 {
        let (sock, ..) = send(&mut lab, b"hello");
        lab.wait(2_900);
        assert_eq!(counts(&lab, counters), [times - 1; 2]);
        lab.wait(200);
        assert_eq!(counts(&lab, counters), [times; 2], "the third timeout");
        end(&mut lab, &sock);
        lab.wait(seconds * 1_000 - 200);
        assert!(!is_fast(&mut lab), "for {seconds} seconds");
        lab.wait(200);
        assert!(is_fast(&mut lab));
        seconds *= 2;
    }
    // A good connection, with data from the peer, makes the next pause a short one.
    let (sock, mut peer) = opened(&mut lab);
    peer.data(&mut lab, b"answer");
    end(&mut lab, &sock);
    let (sock, peer) = opened(&mut lab);
    strange_reset(&mut lab, &peer);
    assert_eq!(counts(&lab, counters), [4, 3]);
    end(&mut lab, &sock);
    lab.wait(5_900);
    assert!(!is_fast(&mut lab));
    lab.wait(200);
    assert!(is_fast(&mut lab));
}

#[test]
fn a_connection_that_is_given_up_early_pauses_fast_open() {
    let mut lab = pausing();
    let options = SockOptions { syn_retries: Some(1), ..SockOptions::default() };
    lab.stack.reconfigure(|net| crate::netns::NetConfig { fast_open: Arc::default(), ..net.clone() });
    // One that only asks for a cookie may be swallowed, too.
    let (sock, ..) = connect(&mut lab, b"hello", &options);
    lab.wait(20_000);
    assert_eq!(lab.state(&sock), State::Close);
    let counters = [Counter::TcpExtTCPFastOpenBlackhole, Counter::TcpExtTCPFastOpenActiveFail];
    assert_eq!(counts(&lab, counters), [1, 1]);
    end(&mut lab, &sock);
}

#[test]
fn resets_and_fins_that_come_instead_of_data_pause_fast_open() {
    let blackholes = |lab: &Lab| lab.count(Counter::TcpExtTCPFastOpenBlackhole);
    // What comes: bytes in order, bytes of which the front is missing, whether the FIN behind them has some; whether that
    // is strange.
    for (in_order, ahead, with_fin, strange) in [
        (&b""[..], &b""[..], &b""[..], true),
        (b"", b"ahead", b"", false),
        (b"", b"", b"with it", false),
        (b"in order", b"", b"", false),
    ] {
        let mut lab = pausing();
        let (sock, mut peer) = opened(&mut lab);
        if !in_order.is_empty() {
            peer.data(&mut lab, in_order);
        }
        if !ahead.is_empty() {
            peer.data_at(&mut lab, 50, ahead);
        }
        let mut fin = peer.repr(FIN_ACK);
        fin.seq += 100;
        lab.segment(fin, with_fin);
        assert_eq!(blackholes(&lab), 0);
        end(&mut lab, &sock);
        assert_eq!(blackholes(&lab), u64::from(strange), "{in_order:?} {ahead:?} {with_fin:?}");
        assert_eq!(is_fast(&mut lab), !strange);
    }
    // A reset out of order, once data has come; an exact one.
    let mut lab = pausing();
    let (sock, mut peer) = opened(&mut lab);
    peer.data(&mut lab, b"in order");
    strange_reset(&mut lab, &peer);
    end(&mut lab, &sock);
    let (sock, peer) = opened(&mut lab);
    lab.segment(peer.repr(RST_ACK), &[]);
    assert_eq!((lab.state(&sock), blackholes(&lab)), (State::Close, 0));
    end(&mut lab, &sock);
}

#[test]
fn a_dry_pool_loses_the_syn_and_the_next_one_goes_without_data() {
    let mut lab = Lab::with(|config| {
        config.pool = rxpath_mem::PoolConfig { slots: 8, head_slots: 8, large_slots: 1, reserve: 2 };
        config.sysctl.tcp_fastopen = 5;
    });
    let (sock, taken) =
        lab.stack.connect_with_data(None, remote(), &[7; 1_400], &SockOptions::default(), lab.now).expect("a way");
    lab.run();
    assert_eq!(taken, 1_400);
    let first = lab.sent();
    lab.wait(1_010);
    let again = lab.sent().expect("the SYN alone");
    assert!(first.is_none() || first.is_some_and(|first| first.seq == again.seq));
    assert_eq!(again.payload.len(), 0);
    answer(&mut lab, &again, 0, 1_460, None, &[]);
    assert_eq!(lab.state(&sock), State::Established);
    end(&mut lab, &sock);
}
