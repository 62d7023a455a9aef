//! TCP before a connection stands, and after it has ended.

use rxpath_trace::DropReason;
use rxpath_wire::{Addr, SeqNum, TcpFlags, TcpOptions, tcp as wire_tcp};

use super::{Cause, Scene};
use crate::netns::Strangers;
use crate::tcp::tests::lab::{ACK, FIN_ACK, Lab, PEER, Peer, SYN, SYN_ACK, US};
use crate::tcp::{IpFields, SockOptions};
use crate::testing::frames::tcp;

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        reason: DropReason::TcpCsum,
        what: "a byte of a SYN is not as it was sent",
        run: || {
            let mut scene = Scene::new();
            let mut frame = scene.lab.frame(Peer::new(40_000, 80).repr(SYN), &[]);
            frame[34 + 4] ^= 1;
            scene.frame(&frame);
            scene
        },
    },
    Cause {
        reason: DropReason::PktTooSmall,
        what: "a TCP header claims sixteen bytes",
        run: || {
            let mut scene = Scene::new();
            let mut frame = scene.lab.frame(Peer::new(40_000, 80).repr(SYN), &[]);
            frame[34 + 12] = 0x40;
            scene.frame(&frame);
            scene
        },
    },
    Cause {
        reason: DropReason::NoSocket,
        what: "a SYN for a port that nobody listens on; the answer is a reset",
        run: || {
            let mut scene = Scene::new();
            scene.lab.segment(Peer::new(40_000, 81).repr(SYN), &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::FlowNotFollowed,
        what: "a segment of a connection whose beginning was not seen, where strangers are to be left alone as in the replay \
               of a capture",
        run: || {
            let mut scene = Scene::new();
            scene.reconfigure(|net| net.strangers = Strangers::Leave);
            scene.lab.segment(Peer::new(40_000, 80).repr(ACK), b"of long ago");
            scene
        },
    },
    Cause {
        reason: DropReason::TcpAuthHdr,
        what: "a SYN has an MD5 option of an impossible length",
        run: || with_options(&[19, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    },
    Cause {
        reason: DropReason::TcpMd5unexpected,
        what: "a SYN is signed with MD5, which nobody has agreed to",
        run: || with_options(&[19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 1]),
    },
    Cause {
        reason: DropReason::TcpMinttl,
        what: "a SYN has come over a router, and the listener takes nothing with a time to live below 255",
        run: || {
            let mut scene = Scene::new();
            let listener = scene.lab.listen(80, 8);
            let ip = IpFields { min_ttl: 255, ..IpFields::default() };
            listener.set_options(SockOptions { ip, ..SockOptions::default() });
            scene.lab.segment(Peer::new(40_000, 80).repr(SYN), &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpFlags,
        what: "a listener gets an ACK; the answer is a reset",
        run: || to_a_listener(ACK),
    },
    Cause { reason: DropReason::TcpFlags, what: "a listener gets a FIN alone", run: || to_a_listener(TcpFlags::FIN) },
    Cause { reason: DropReason::TcpReset, what: "a listener gets a reset", run: || to_a_listener(TcpFlags::RST) },
    Cause {
        reason: DropReason::TcpListenOverflow,
        what: "a handshake ends that the accept queue has no room for: its backlog is one, and two connections wait",
        run: listen_overflow,
    },
    Cause {
        reason: DropReason::IpOutnoroutes,
        what: "a SYN for a listener comes from an address that no route leads back to",
        run: || {
            let mut scene = Scene::new();
            let _listener = scene.lab.listen(80, 8);
            let source = [172, 16, 0, 9];
            let mut syn = vec![0; 20];
            wire_tcp::emit(&mut syn, Peer::new(40_000, 80).repr(SYN));
            wire_tcp::fill_checksum(Addr::from_v4(source), Addr::from(US), &mut syn);
            let mut packet = tcp().from(source);
            packet.payload = syn;
            scene.frame(&packet.frame());
            scene
        },
    },
    Cause {
        reason: DropReason::TcpFastopen,
        what: "the SYN of a connection that began with it, by Fast Open, comes again; so does the answer",
        run: || {
            let mut scene = Scene::with(|config| config.sysctl.tcp_fastopen = 0x203);
            let listener = scene.lab.listen(80, 8);
            scene.lab.stack.set_fast_open(&listener, 8);
            let syn = Peer::new(40_000, 80).repr(SYN);
            scene.lab.segment(syn, b"data without a cookie");
            scene.begin();
            scene.lab.segment(syn, b"data without a cookie");
            scene
        },
    },
    Cause {
        reason: DropReason::TcpOverwindow,
        what: "a handshake's third segment starts beyond the window that the SYN-ACK offered",
        run: || {
            let (mut scene, peer) = requested(None);
            let mut far = peer.repr(ACK);
            far.seq += 100_000;
            scene.lab.segment(far, b"too far");
            scene
        },
    },
    Cause {
        reason: DropReason::TcpRfc7323Tsecr,
        what: "a handshake's third segment echoes a timestamp that no SYN-ACK had",
        run: || {
            let (mut scene, mut peer) = requested(Some((1_000, 0)));
            peer.stamps = peer.stamps.map(|(tsval, echo)| (tsval, echo.wrapping_add(1_000_000)));
            scene.lab.segment(peer.repr(ACK), &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpInvalidAckSequence,
        what: "the answer to our SYN acknowledges something else",
        run: || {
            let (mut scene, mut peer) = connecting();
            peer.ack += 1_000;
            scene.lab.segment(peer.repr(SYN_ACK), &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpTooOldAck,
        what: "both ends open at once, and the segment that is to end the handshake acknowledges what is not ours",
        run: || {
            let (mut scene, mut peer) = connecting();
            scene.lab.segment(peer.repr(SYN), &[]);
            peer.seq += 1;
            peer.ack -= 2;
            scene.lab.segment(peer.repr(ACK), &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpReset,
        what: "a reset for a connection in TIME-WAIT lies before its end",
        run: || {
            let (mut scene, mut peer) = in_time_wait();
            peer.seq -= 100;
            scene.lab.segment(peer.repr(TcpFlags::RST), &[]);
            scene
        },
    },
];

/// A segment for a listener that it has no use for.
fn to_a_listener(flags: TcpFlags) -> Scene {
    let mut scene = Scene::new();
    let _listener = scene.lab.listen(80, 8);
    scene.lab.segment(Peer::new(40_000, 80).repr(flags), &[]);
    scene
}

/// A SYN with these options, for a listener.
fn with_options(options: &[u8]) -> Scene {
    let mut scene = Scene::new();
    let _listener = scene.lab.listen(80, 8);
    // Written as payload first: only then do they become part of the header.
    let mut frame = scene.lab.frame(Peer::new(40_000, 80).repr(SYN), options);
    frame[34 + 12] = ((5 + options.len() / 4) << 4) as u8;
    frame[34 + 16..34 + 18].fill(0);
    wire_tcp::fill_checksum(Addr::from(PEER), Addr::from(US), &mut frame[34..]);
    scene.frame(&frame);
    scene
}

/// A SYN was answered, and the third segment is still to come.
fn requested(stamps: Option<(u32, u32)>) -> (Scene, Peer) {
    let mut scene = Scene::new();
    let _listener = scene.lab.listen(80, 8);
    let peer = half_open(&mut scene.lab, 40_000, stamps);
    scene.begin();
    (scene, peer)
}

fn half_open(lab: &mut Lab, port: u16, stamps: Option<(u32, u32)>) -> Peer {
    let mut peer = Peer { stamps, ..Peer::new(port, 80) };
    let mut syn = peer.repr(SYN);
    syn.options = TcpOptions { mss: Some(1_460), timestamps: stamps, ..TcpOptions::default() };
    lab.segment(syn, &[]);
    let answer = lab.expect(SYN_ACK);
    (peer.seq, peer.ack) = (peer.seq + 1, answer.seq + 1);
    peer.note(&answer);
    peer
}

fn listen_overflow() -> Scene {
    let mut scene = Scene::new();
    let _listener = scene.lab.listen(80, 1);
    let [first, second] = [1, 2].map(|n| half_open(&mut scene.lab, 40_000 + n, None));
    scene.lab.segment(first.repr(ACK), &[]);
    let third = half_open(&mut scene.lab, 40_003, None);
    scene.lab.segment(second.repr(ACK), &[]);
    scene.begin();
    scene.lab.segment(third.repr(ACK), &[]);
    scene
}

/// We have sent a SYN.
fn connecting() -> (Scene, Peer) {
    let mut scene = Scene::new();
    let remote = std::net::SocketAddr::from((PEER, 80));
    let _sock = scene.lab.stack.connect(remote, scene.lab.now).expect("there is a route");
    scene.lab.run();
    let syn = scene.lab.expect(SYN);
    let mut peer = Peer::new(80, syn.sport);
    (peer.seq, peer.ack) = (SeqNum(5_000), syn.seq + 1);
    scene.begin();
    (scene, peer)
}

/// A connection that we closed first and the peer after us.
fn in_time_wait() -> (Scene, Peer) {
    let mut scene = Scene::new();
    let listener = scene.lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut scene.lab, &listener);
    scene.lab.close(&sock);
    peer.ack = scene.lab.expect(FIN_ACK).seq + 1;
    scene.lab.segment(peer.repr(FIN_ACK), &[]);
    peer.seq += 1;
    scene.begin();
    (scene, peer)
}
