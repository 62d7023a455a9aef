//! Before IP: the ring, the device, XDP, the demultiplexer, ARP.

use rxpath_mem::{RxDesc, RxErrors};
use rxpath_trace::DropReason;
use rxpath_wire::{EtherType, MacAddr, TcpFlags, Tuple};

use super::{Cause, Scene};
use crate::demux::tap::TapConfig;
use crate::nic::owner_cpu;
use crate::tcp::tests::lab::{Lab, OUR_MAC, PEER, Peer, US};
use crate::testing::frames::{echo, ethernet};
use crate::xdp::{Action, Door, Program};

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        reason: DropReason::RxMissed,
        what: "sixteen frames come at once into a ring of sixteen places, of which fourteen are posted",
        run: || {
            let mut scene = Scene::with(|config| config.interfaces[0].ring = 16);
            flood(&mut scene, 16);
            scene
        },
    },
    Cause {
        reason: DropReason::RxNoBuffer,
        what: "a hundred frames come at once, and the page pool has buffers for 72 of the ring's 127 places",
        run: || {
            let mut scene = Scene::with(|config| {
                (config.pool.slots, config.pool.reserve) = (80, 8);
                config.interfaces[0].ring = 128;
            });
            flood(&mut scene, 100);
            scene
        },
    },
    Cause {
        reason: DropReason::RxCrc,
        what: "the device reports a bad frame check sequence",
        run: || reported(RxErrors::CRC),
    },
    Cause {
        reason: DropReason::RxRunt,
        what: "the device reports a frame of less than 64 bytes",
        run: || reported(RxErrors::RUNT),
    },
    Cause {
        reason: DropReason::RxOversize,
        what: "the device reports a frame that is longer than its MTU allows",
        run: || reported(RxErrors::OVERSIZE),
    },
    Cause {
        reason: DropReason::DevHdr,
        what: "the device reports that it could not keep up while it wrote the frame",
        run: || reported(RxErrors::FIFO),
    },
    Cause {
        reason: DropReason::CpuBacklog,
        what: "thirty packets come by the queue of another Cpu than their flow's, whose backlog may have ten",
        run: cpu_backlog,
    },
    Cause {
        reason: DropReason::Xdp,
        what: "an XDP program in the driver's poll says DROP",
        run: || {
            let mut scene = Scene::new();
            scene.reconfigure(|net| {
                assert!(net.attach_xdp(1, Door::Native, Some(Program::new("drop", |_: &mut _| Action::Drop))));
            });
            scene.frame(&echo(&[0; 8]).frame());
            scene
        },
    },
    Cause {
        reason: DropReason::UnhandledProto,
        what: "a frame has the EtherType 0x88b5, which nobody has registered",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&ethernet(OUR_MAC, 0x88b5, &[0; 46]));
            scene
        },
    },
    Cause {
        reason: DropReason::PacketSockError,
        what: "ten frames come for a packet socket whose receive buffer is as small as there is, and nobody reads",
        run: || {
            let mut scene = Scene::new();
            scene.lab.stack.open_tap(TapConfig { rcvbuf: 2_304, ..TapConfig::default() });
            for _ in 0..10 {
                scene.lab.put(&echo(&[0; 8]).frame());
            }
            scene.lab.run();
            scene
        },
    },
    Cause {
        reason: DropReason::Otherhost,
        what: "a frame is tagged for VLAN 6, of which there is no device",
        run: || {
            let mut scene = Scene::new();
            let mut frame = echo(&[0; 8]).frame();
            frame.splice(12..12, [0x81, 0, 0, 6]);
            scene.frame(&frame);
            scene
        },
    },
    Cause {
        reason: DropReason::PktTooSmall,
        what: "an ARP packet ends in the middle of its addresses",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&ethernet(MacAddr::BROADCAST, EtherType::ARP, &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0]));
            scene
        },
    },
    Cause {
        reason: DropReason::NotSpecified,
        what: "a frame ends within its VLAN tag",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&ethernet(OUR_MAC, EtherType::VLAN, &[0, 5]));
            scene
        },
    },
    Cause {
        reason: DropReason::NotSpecified,
        what: "an ARP packet is about addresses of another kind than IPv4's",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&ethernet(MacAddr::BROADCAST, EtherType::ARP, &[0; 46]));
            scene
        },
    },
];

/// A segment that ends without an answer if it gets so far.
fn stray(lab: &mut Lab, port: u16) -> Vec<u8> {
    lab.frame(Peer::new(port, 9).repr(TcpFlags::RST), &[])
}

/// So many frames come before the driver looks.
fn flood(scene: &mut Scene, frames: u16) {
    for port in 0..frames {
        let frame = stray(&mut scene.lab, 1_000 + port);
        scene.lab.offer(0, &frame);
    }
    scene.lab.run();
}

/// One frame of which the device reports an error.
fn reported(errors: RxErrors) -> Scene {
    let mut scene = Scene::new();
    let frame = stray(&mut scene.lab, 1_000);
    scene.lab.put_reported(&frame, RxDesc { errors, ..RxDesc::default() });
    scene.lab.run();
    scene
}

fn cpu_backlog() -> Scene {
    let lab = Lab::with_queues(2, |config| {
        config.cpus = 2;
        config.lives = rxpath_trace::Selector::All;
        config.sysctl.netdev_max_backlog = 10;
    });
    let mut scene = Scene::of(lab);
    let hasher = scene.lab.stack.config().hasher;
    let is_of_the_other = |port: &u16| {
        let tuple = Tuple { local: US.into(), remote: PEER.into(), local_port: 9, remote_port: *port };
        owner_cpu(hasher.hash(&tuple), 2) == 1
    };
    let port = (2_000..3_000).find(is_of_the_other).expect("half of all ports");
    for n in 0..30 {
        let mut peer = Peer::new(port, 9);
        // Apart, so that none is merged.
        peer.seq += n * 3;
        let frame = scene.lab.frame(peer.repr(TcpFlags::RST), &[]);
        scene.lab.put(&frame);
    }
    scene.lab.run();
    scene
}
