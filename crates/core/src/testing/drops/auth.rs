//! TCP where segments are to be signed.

use std::sync::Arc;

use rxpath_trace::DropReason;

use super::{Cause, Scene};
use crate::socket::Listener;
use crate::tcp::tests::lab::{PEER, Peer, SYN};
use crate::tcp::tests::signing::{AoPeer, md5_segment};
use crate::tcp::{AoKey, Md5Key, Peers, Secret};

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        reason: DropReason::TcpMd5notfound,
        what: "a SYN is not signed with MD5, for which the listener has a key",
        run: || {
            let (mut scene, _listener) = with_md5_key();
            scene.lab.segment(Peer::new(40_000, 80).repr(SYN), &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpMd5failure,
        what: "a SYN is signed with another MD5 key than the listener's",
        run: || {
            let (mut scene, _listener) = with_md5_key();
            md5_segment(&mut scene.lab, Peer::new(40_000, 80).repr(SYN), &[], b"another");
            scene
        },
    },
    Cause {
        reason: DropReason::TcpAonotfound,
        what: "a SYN is not authenticated with TCP-AO, for which the listener has a key",
        run: || {
            let (mut scene, _listener) = with_ao_key();
            scene.lab.segment(Peer::new(40_000, 80).repr(SYN), &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpAounexpected,
        what: "a SYN is authenticated with TCP-AO, and the listener's key for the peer is one of MD5",
        run: || {
            let (mut scene, _listener) = with_md5_key();
            let mut syn = Peer::new(40_000, 80).repr(SYN);
            syn.options.mss = Some(1_460);
            ours().segment(&mut scene.lab, syn, &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpAokeynotfound,
        what: "a SYN is authenticated with a key of TCP-AO whose number the listener does not know",
        run: || {
            let (mut scene, _listener) = with_ao_key();
            AoPeer { key_id: 9, ..ours() }.segment(&mut scene.lab, Peer::new(40_000, 80).repr(SYN), &[]);
            scene
        },
    },
    Cause {
        reason: DropReason::TcpAofailure,
        what: "a SYN is authenticated with another secret than the listener has under the key's number",
        run: || {
            let (mut scene, _listener) = with_ao_key();
            AoPeer { secret: b"another", ..ours() }.segment(&mut scene.lab, Peer::new(40_000, 80).repr(SYN), &[]);
            scene
        },
    },
];

fn secret() -> Secret {
    Secret::new(b"secret").expect("a secret")
}

fn peers() -> Peers {
    Peers::one(PEER).expect("an address")
}

/// What the peer has of the listener's key.
fn ours() -> AoPeer {
    AoPeer { isns: (Peer::new(40_000, 80).seq, Default::default()), ..AoPeer::new(b"secret", 1, 1) }
}

fn with_md5_key() -> (Scene, Arc<Listener>) {
    let scene = Scene::new();
    let listener = scene.lab.stack.listen((crate::tcp::tests::lab::US, 80).into(), 8).expect("a free port");
    listener.auth.change(|keys| keys.add_md5(Md5Key { peers: peers(), secret: secret() })).expect("a key");
    (scene, listener)
}

fn with_ao_key() -> (Scene, Arc<Listener>) {
    let scene = Scene::new();
    let listener = scene.lab.stack.listen((crate::tcp::tests::lab::US, 80).into(), 8).expect("a free port");
    listener.auth.change(|keys| keys.add_ao(AoKey::new(peers(), 1, secret()))).expect("a key");
    (scene, listener)
}
