//! Packets that the stack makes itself: the next hop, the device.

use std::net::{Ipv4Addr, SocketAddr};

use rxpath_trace::DropReason;
use rxpath_wire::{Addr, MacAddr, arp};

use super::{Cause, Scene};
use crate::nic::Xmit;
use crate::tcp::tests::lab::US;
use crate::testing::frames::{arp_frame, echo};

/// A neighbour that does not answer.
const SILENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        reason: DropReason::NeighFailed,
        what: "an application connects to a host that does not answer ARP: the SYN waits for three requests",
        run: || {
            let mut scene = Scene::new();
            connect(&mut scene, 80);
            scene.lab.wait(3_500);
            scene
        },
    },
    Cause {
        reason: DropReason::NeighQueuefull,
        what: "three connections to a host that does not answer ARP yet, of whose packets only two may wait \
               (`neigh.default.unres_qlen_bytes`)",
        run: || {
            let mut scene = Scene::with(|config| config.sysctl.neigh.default.unres_qlen_bytes = 700);
            for port in [80, 81, 82] {
                connect(&mut scene, port);
            }
            scene
        },
    },
    Cause {
        reason: DropReason::NeighCreatefail,
        what: "a thousand hosts have asked for our address a moment ago and fill the neighbour table, and an application \
               connects to one more",
        run: || {
            let mut scene = Scene::new();
            for n in 0..1_024u16 {
                let [high, low] = n.to_be_bytes();
                let asker = (MacAddr([2, 0, 0, 1, high, low]), [172, 16, high, low].into());
                scene.frame(&arp_frame(MacAddr::BROADCAST, arp::REQUEST, asker, (MacAddr::ZERO, US)));
            }
            scene.begin();
            connect(&mut scene, 80);
            scene
        },
    },
    Cause {
        reason: DropReason::NeighDead,
        what: "a neighbour is taken out of the table while a packet waits for its address",
        run: || {
            let mut scene = Scene::new();
            connect(&mut scene, 80);
            assert!(scene.lab.stack.set_neighbour(1, Addr::from(SILENT), None, scene.lab.now));
            scene.lab.run();
            scene
        },
    },
    Cause {
        reason: DropReason::TxError,
        what: "the device refuses the answer to an echo request",
        run: || {
            let mut scene = Scene::new();
            scene.lab.set_xmit(Xmit::Failed);
            scene.frame(&echo(&[0; 8]).frame());
            scene
        },
    },
    Cause {
        reason: DropReason::TxRingFull,
        what: "the device takes nothing, a thousand frames wait for it, and one more is to go",
        run: || {
            let mut scene = Scene::new();
            scene.lab.set_xmit(Xmit::Busy);
            for _ in 0..1_001 {
                scene.lab.put(&echo(&[0; 8]).frame());
                let _ = scene.lab.stack.poll(scene.lab.now);
            }
            scene.lab.set_xmit(Xmit::Sent);
            scene.lab.run();
            scene
        },
    },
];

fn connect(scene: &mut Scene, port: u16) {
    scene.lab.stack.connect(SocketAddr::from((SILENT, port)), scene.lab.now).expect("there is a route");
    scene.lab.run();
}
