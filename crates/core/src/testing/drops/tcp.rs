//! TCP while a connection stands: sequence numbers, memory, the application.

use std::sync::Arc;

use rxpath_trace::DropReason;
use rxpath_wire::{SeqNum, TcpFlags};

use super::{Cause, Scene};
use crate::socket::{Sock, post};
use crate::stack::StackConfig;
use crate::tcp::tests::lab::{ACK, FIN_ACK, Peer, SYN};

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        reason: DropReason::TcpFlags,
        what: "a segment inside a connection has no flag at all",
        run: || segment(|_, peer| peer.repr(TcpFlags(0)), b"data"),
    },
    Cause {
        reason: DropReason::TcpReset,
        what: "a reset lies in the window, but not where the next byte is expected; the answer is a challenge (RFC 5961)",
        run: || {
            let at = |_: &Sock, peer: &Peer| rxpath_wire::TcpRepr { seq: peer.seq + 100, ..peer.repr(TcpFlags::RST) };
            segment(at, &[])
        },
    },
    Cause {
        reason: DropReason::TcpInvalidSyn,
        what: "a SYN inside a connection; the answer is a challenge (RFC 5961)",
        run: || segment(|_, peer| peer.repr(SYN), &[]),
    },
    Cause {
        reason: DropReason::TcpOldSequence,
        what: "a segment lies wholly before the window",
        run: || segment(|_, peer| moved(peer, -100_000), b"long ago"),
    },
    Cause {
        reason: DropReason::TcpInvalidSequence,
        what: "a segment starts beyond the window",
        run: || segment(|_, peer| moved(peer, 1_000_000), b"too far"),
    },
    Cause {
        reason: DropReason::TcpInvalidEndSequence,
        what: "a segment starts in the window and ends beyond it, while data waits to be read",
        run: || {
            let (mut scene, sock, mut peer) = established(|_| {});
            peer.data(&mut scene.lab, b"unread");
            scene.begin();
            let repr = moved(&peer, offered(&sock) as i32 - 4);
            scene.lab.segment(repr, b"too long");
            scene
        },
    },
    Cause {
        reason: DropReason::TcpOldData,
        what: "data comes that had come before",
        run: || {
            let (mut scene, _sock, mut peer) = established(|_| {});
            peer.data(&mut scene.lab, b"once");
            scene.begin();
            peer.data_at(&mut scene.lab, -4, b"once");
            scene
        },
    },
    Cause {
        reason: DropReason::TcpInvalidEndSequence,
        what: "the application reads nothing, the window is closed, and the peer probes it with a byte",
        run: zero_window,
    },
    Cause {
        reason: DropReason::TcpOfomerge,
        what: "data comes twice, both times out of order",
        run: || {
            let (mut scene, _sock, mut peer) = established(|_| {});
            peer.data_at(&mut scene.lab, 100, b"ahead");
            scene.begin();
            peer.data_at(&mut scene.lab, 100, b"ahead");
            scene
        },
    },
    Cause {
        reason: DropReason::TcpOfoDrop,
        what: "data that waited out of order comes again in order, in a larger segment",
        run: || {
            let (mut scene, _sock, mut peer) = established(|_| {});
            peer.data_at(&mut scene.lab, 4, b"ahead");
            peer.data(&mut scene.lab, b"not ahead of anything");
            scene
        },
    },
    Cause {
        reason: DropReason::TcpOfoQueuePrune,
        what: "the receive buffer is full of segments out of order when the next one in order comes: the farthest go",
        run: || out_of_memory(true),
    },
    Cause {
        reason: DropReason::ProtoMem,
        what: "the receive buffer is full of segments out of order, and one comes that lies behind them all",
        run: || out_of_memory(false),
    },
    Cause {
        reason: DropReason::TcpRfc7323Paws,
        what: "data carries a timestamp older than one that was seen (PAWS)",
        run: || stamped(b"old"),
    },
    Cause {
        reason: DropReason::TcpRfc7323PawsAck,
        what: "a bare ACK carries a timestamp older than one that was seen, and acknowledges nothing new",
        run: || stamped(b""),
    },
    Cause {
        reason: DropReason::TcpTooOldAck,
        what: "a segment acknowledges what lies farther back than any window of the peer",
        run: || {
            segment(|_, peer| rxpath_wire::TcpRepr { ack: SeqNum(peer.ack.0 - 1_000_000), ..peer.repr(ACK) }, b"data")
        },
    },
    Cause {
        reason: DropReason::TcpAckUnsentData,
        what: "a segment acknowledges what was never sent",
        run: || segment(|_, peer| rxpath_wire::TcpRepr { ack: peer.ack + 1_000, ..peer.repr(ACK) }, b"data"),
    },
    Cause {
        reason: DropReason::TcpAbortOnData,
        what: "data comes for a connection that the application has closed; the answer is a reset",
        run: || {
            let (mut scene, sock, mut peer) = established(|_| {});
            scene.lab.close(&sock);
            peer.ack = scene.lab.expect(FIN_ACK).seq + 1;
            scene.begin();
            peer.data(&mut scene.lab, b"for nobody");
            scene
        },
    },
    Cause {
        reason: DropReason::NotSpecified,
        what: "data comes behind the peer's own FIN",
        run: || {
            let (mut scene, _sock, mut peer) = established(|_| {});
            scene.lab.segment(peer.repr(FIN_ACK), &[]);
            peer.seq += 1;
            scene.begin();
            peer.data(&mut scene.lab, b"after the end");
            scene
        },
    },
    Cause {
        reason: DropReason::SocketBacklog,
        what: "the application holds the socket while two thousand segments come that cannot be joined",
        run: || {
            let (mut scene, sock, mut peer) = established(|_| {});
            let owned = sock.lock.user();
            for n in 0..2_000 {
                peer.data_at(&mut scene.lab, n * 2, b"x");
            }
            let _ = owned.release();
            scene.lab.stack.kick(&sock, post::BACKLOG, scene.lab.now);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpClose,
        what: "a reset and then data wait on the backlog of a socket that the application holds",
        run: || {
            while_held(|scene, peer| {
                scene.lab.segment(peer.repr(TcpFlags::RST), &[]);
                peer.data(&mut scene.lab, b"behind the reset");
            })
        },
    },
    Cause {
        reason: DropReason::QueuePurge,
        what: "the application closes the socket without having read; the peer is reset",
        run: || {
            let (mut scene, sock, mut peer) = established(|_| {});
            peer.data(&mut scene.lab, b"nobody reads this");
            scene.lab.close(&sock);
            scene
        },
    },
];

/// A connection; what came before is not part of the story.
fn established(change: impl FnOnce(&mut StackConfig)) -> (Scene, Arc<Sock>, Peer) {
    let mut scene = Scene::with(change);
    let listener = scene.lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut scene.lab, &listener);
    scene.begin();
    (scene, sock, peer)
}

/// One segment inside a connection.
fn segment(repr: fn(&Sock, &Peer) -> rxpath_wire::TcpRepr, payload: &[u8]) -> Scene {
    let (mut scene, sock, peer) = established(|_| {});
    let repr = repr(&sock, &peer);
    scene.lab.segment(repr, payload);
    scene
}

fn moved(peer: &Peer, by: i32) -> rxpath_wire::TcpRepr {
    rxpath_wire::TcpRepr { seq: SeqNum(peer.seq.0.wrapping_add_signed(by)), ..peer.repr(ACK) }
}

/// Bytes that the peer may still send.
fn offered(sock: &Sock) -> u32 {
    sock.lock.user().rx.offered()
}

fn zero_window() -> Scene {
    let (mut scene, sock, mut peer) = established(|_| {});
    for _ in 0..10_000 {
        let len = offered(&sock).min(1_000) as usize;
        if len == 0 {
            scene.begin();
            scene.lab.segment(peer.repr(ACK), b"?");
            return scene;
        }
        peer.data(&mut scene.lab, &vec![7; len]);
    }
    panic!("the window does not close");
}

fn out_of_memory(in_order: bool) -> Scene {
    let (mut scene, _sock, mut peer) = established(|config| {
        config.sysctl.tcp_rmem.max = 131_072;
        config.life_capacity = 1 << 18;
    });
    // Every second byte: each is a packet of its own, charged 704 bytes for one.
    for n in 0..400 {
        peer.data_at(&mut scene.lab, 2 * n + 1, b"y");
    }
    scene.begin();
    if in_order {
        peer.data(&mut scene.lab, &[b'x'; 1_000]);
    } else {
        peer.data_at(&mut scene.lab, 2_000, b"z");
    }
    scene
}

/// A segment whose timestamp is older than the one before.
fn stamped(payload: &[u8]) -> Scene {
    let mut scene = Scene::new();
    let listener = scene.lab.listen(80, 8);
    let mut peer = Peer { stamps: Some((100_000, 0)), ..Peer::new(40_000, 80) };
    let _sock = peer.connect(&mut scene.lab, &listener);
    peer.data(&mut scene.lab, b"new");
    scene.begin();
    peer.stamps = peer.stamps.map(|(tsval, echo)| (tsval - 50_000, echo));
    let mut repr = peer.repr(ACK);
    if payload.is_empty() {
        repr.seq -= 3;
    }
    scene.lab.segment(repr, payload);
    scene
}

/// What comes while the application holds the socket.
fn while_held(meanwhile: fn(&mut Scene, &mut Peer)) -> Scene {
    let (mut scene, sock, mut peer) = established(|_| {});
    let owned = sock.lock.user();
    meanwhile(&mut scene, &mut peer);
    let _ = owned.release();
    scene.lab.stack.kick(&sock, post::BACKLOG, scene.lab.now);
    scene.lab.run();
    scene
}
