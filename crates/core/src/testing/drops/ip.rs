//! IP, routing, netfilter, ICMP.

use std::sync::Arc;

use rxpath_mem::{IpSummed, RxDesc, Skb};
use rxpath_trace::DropReason;
use rxpath_wire::{IpProto, MacAddr, arp, icmp as wire_icmp, ipv4};

use super::{Cause, Scene};
use crate::cx::Cx;
use crate::netfilter::{Decision, Hook, HookPoint, HookState, Priority, QueueOptions, Rule, ToQueue, Verdict};
use crate::testing::frames::{Ip, arp_frame, echo, icmp, ip, tcp};
use crate::testing::{ADDR, MAC};

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        reason: DropReason::Otherhost,
        what: "an IP packet comes in a frame to another station's MAC address",
        run: || packet(echo(&[0; 8]).in_frame_to(STRANGER)),
    },
    Cause {
        reason: DropReason::PktTooSmall,
        what: "an IP header claims more bytes than came",
        run: || packet(Ip { total_len: Some(200), ..echo(&[0; 8]) }),
    },
    Cause {
        reason: DropReason::IpInhdr,
        what: "a frame of EtherType IPv4 has ten bytes behind its Ethernet header",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&echo(&[0; 8]).frame()[..24]);
            scene
        },
    },
    Cause {
        reason: DropReason::IpInhdr,
        what: "an IP header claims to be of version 6",
        run: || packet(Ip { version_ihl: Some(0x65), ..echo(&[0; 8]) }),
    },
    Cause {
        reason: DropReason::IpInhdr,
        what: "an IP option reaches beyond the header",
        run: || packet(echo(&[0; 8]).options(&[7, 40, 4, 0])),
    },
    Cause {
        reason: DropReason::IpCsum,
        what: "a byte of the IP header is not as it was sent: its time to live",
        run: || {
            let mut frame = echo(&[0; 8]).frame();
            frame[14 + 8] ^= 1;
            let mut scene = Scene::new();
            scene.frame(&frame);
            scene
        },
    },
    Cause {
        reason: DropReason::NetfilterDrop,
        what: "a hook at PRE_ROUTING says DROP",
        run: || {
            let mut scene = Scene::with(|config| {
                config.hooks.register(HookPoint::PreRouting, Priority::FILTER, Arc::new(Never));
            });
            scene.frame(&echo(&[0; 8]).frame());
            scene
        },
    },
    Cause {
        reason: DropReason::NetfilterDrop,
        what: "a hook at LOCAL_IN says QUEUE, and nobody listens to the queue",
        run: || {
            let mut scene =
                Scene::with(|config| config.hooks.register(HookPoint::LocalIn, Priority::FILTER, to_queue()));
            scene.frame(&echo(&[0; 8]).frame());
            scene
        },
    },
    Cause {
        reason: DropReason::NfqueueFull,
        what: "a hook at LOCAL_IN says QUEUE, and whoever listens has not decided over the packet before",
        run: || {
            let mut scene =
                Scene::with(|config| config.hooks.register(HookPoint::LocalIn, Priority::FILTER, to_queue()));
            let options = QueueOptions { max_len: 1, ..QueueOptions::default() };
            scene.lab.stack.open_queue(7, options).expect("nobody else listens");
            scene.frame(&echo(&[0; 8]).frame());
            scene.begin();
            scene.frame(&echo(&[0; 8]).frame());
            scene
        },
    },
    Cause {
        reason: DropReason::UnicastInL2Multicast,
        what: "a packet to our address comes in a broadcast frame, where the policy forbids that \
               (`drop_unicast_in_l2_multicast`)",
        run: || under("drop_unicast_in_l2_multicast", echo(&[0; 8]).in_frame_to(MacAddr::BROADCAST)),
    },
    Cause {
        reason: DropReason::IpInvalidSource,
        what: "a packet's source is a multicast group",
        run: || packet(echo(&[0; 8]).from([224, 0, 0, 9])),
    },
    Cause {
        reason: DropReason::IpInvalidDest,
        what: "a packet's destination is 0.0.0.0",
        run: || packet(echo(&[0; 8]).to([0, 0, 0, 0])),
    },
    Cause {
        reason: DropReason::IpLocalnet,
        what: "a packet's source is 127.0.0.1, and it comes over the wire",
        run: || packet(echo(&[0; 8]).from([127, 0, 0, 1])),
    },
    Cause {
        reason: DropReason::IpLocalSource,
        what: "a packet's source is our own address",
        run: || packet(echo(&[0; 8]).from([10, 0, 0, 1])),
    },
    Cause {
        reason: DropReason::IpRpfilter,
        what: "the reverse path filter is strict, and a packet's source is not behind the interface",
        run: || under("rp_filter", echo(&[0; 8]).from([172, 16, 0, 9])),
    },
    Cause {
        reason: DropReason::IpInaddrerrors,
        what: "a packet is for another host, and this one does not forward",
        run: || packet(echo(&[0; 8]).to([10, 0, 0, 99])),
    },
    Cause {
        reason: DropReason::NotSpecified,
        what: "a packet is for a multicast group that nobody here has joined",
        run: || packet(echo(&[0; 8]).to([224, 0, 0, 5]).in_frame_to(MacAddr([1, 0, 0x5e, 0, 0, 5]))),
    },
    Cause {
        reason: DropReason::IpInnoroutes,
        what: "a packet is for a network that no route leads to, and this host forwards (`ip_forward`)",
        run: || forwarded(echo(&[0; 8]).to([172, 16, 0, 1])),
    },
    Cause {
        reason: DropReason::IpInhdr,
        what: "a packet for another host has come to the end of its time to live (`ip_forward`)",
        run: || forwarded(Ip { ttl: 1, ..echo(&[0; 8]).to([10, 0, 0, 99]) }),
    },
    Cause {
        reason: DropReason::PktTooBig,
        what: "a packet of 2,000 bytes for another host says that it is not to be cut, and the way on takes 1,500 \
               (`ip_forward`)",
        run: || forwarded(Ip { fragment: ipv4::DONT_FRAGMENT, ..echo(&[0; 1_972]).to([10, 0, 0, 99]) }),
    },
    Cause {
        reason: DropReason::SkbCsum,
        what: "a packet for another host comes with an open checksum, in a protocol of which nobody knows where that is \
               (`ip_forward`)",
        run: || {
            let packet = ip(253, &[0; 8]).to([10, 0, 0, 99]);
            forwarded_as(packet, RxDesc { csum: IpSummed::Partial, ..RxDesc::default() })
        },
    },
    Cause {
        reason: DropReason::SkbGsoSeg,
        what: "a packet for another host comes as several in one, and its header is not TCP's (`ip_forward`)",
        run: || {
            let packet = Ip { payload: vec![0; 1_600], ..tcp().to([10, 0, 0, 99]) };
            let desc = RxDesc { gso_size: 800, gso_segs: 2, csum: IpSummed::Partial, ..RxDesc::default() };
            forwarded_as(packet, desc)
        },
    },
    Cause {
        reason: DropReason::DupFrag,
        what: "the first fragment of a datagram comes twice",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&fragment(0).frame());
            scene.begin();
            scene.frame(&fragment(0).frame());
            scene
        },
    },
    Cause {
        reason: DropReason::FragReasmTimeout,
        what: "the rest of a datagram has not come thirty seconds after its first fragment",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&fragment(0).frame());
            scene.lab.wait(30_000);
            scene
        },
    },
    Cause {
        reason: DropReason::FragReasmTimeout,
        what: "a fragment overlaps the one before it in part",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&fragment(0).frame());
            scene.frame(&fragment(8).frame());
            scene
        },
    },
    Cause {
        reason: DropReason::FragTooFar,
        what: "seventy other datagrams of the sender have begun since a datagram's first fragment came",
        run: || {
            let mut scene = Scene::new();
            scene.frame(&fragment(0).frame());
            for proto in 100..170 {
                scene.frame(&Ip { proto, ..fragment(0) }.frame());
            }
            scene.begin();
            scene.frame(&fragment(16).frame());
            scene
        },
    },
    Cause {
        reason: DropReason::IpNoproto,
        what: "a packet is of protocol 253, which nobody has registered",
        run: || packet(ip(253, &[0; 8])),
    },
    Cause {
        reason: DropReason::IcmpCsum,
        what: "a byte of an ICMP message is not as it was sent",
        run: || {
            let mut request = echo(&[0; 8]);
            request.payload[8] ^= 1;
            packet(request)
        },
    },
    Cause {
        reason: DropReason::UnhandledProto,
        what: "an ICMP message is of type 200",
        run: || packet(icmp(200, 0, 0, &[0; 8])),
    },
    Cause {
        reason: DropReason::InvalidProto,
        what: "an ICMP timestamp request is sent to the broadcast address",
        run: || {
            packet(
                icmp(wire_icmp::TIMESTAMP_REQUEST, 0, 0, &[0; 12]).to([10, 0, 0, 255]).in_frame_to(MacAddr::BROADCAST),
            )
        },
    },
    Cause {
        reason: DropReason::PktTooSmall,
        what: "an ICMP timestamp request ends before its timestamps",
        run: || packet(icmp(wire_icmp::TIMESTAMP_REQUEST, 0, 0, &[])),
    },
    Cause {
        reason: DropReason::NoSocket,
        what: "an ICMP echo reply comes, and nobody has asked",
        run: || packet(icmp(wire_icmp::ECHO_REPLY, 0, 0x0001_0001, &[0; 8])),
    },
    Cause {
        reason: DropReason::NotSpecified,
        what: "an ICMP message ends in the middle of its header",
        run: || packet(ip(IpProto::ICMP, &[8, 0, 0xf7, 0xff])),
    },
];

/// Sixteen bytes of an echo request's datagram, from `offset` on, with more to come.
fn fragment(offset: u16) -> Ip {
    Ip { fragment: ipv4::MORE_FRAGMENTS | (offset / 8), ..echo(&[0; 8]) }
}

/// A hook that lets nothing pass.
struct Never;

/// All packets are for queue 7.
fn to_queue() -> Arc<dyn Hook> {
    Arc::new(Rule::new("to the queue", |_, _| Decision::Queue(ToQueue::number(7))))
}

impl Hook for Never {
    fn name(&self) -> &'static str {
        "never"
    }

    fn decide(&self, _: &mut Cx, _: &HookState, skb: Skb) -> Verdict {
        Verdict::Drop(skb)
    }
}

fn packet(packet: Ip) -> Scene {
    let mut scene = Scene::new();
    scene.frame(&packet.frame());
    scene
}

/// What a host that forwards does with a packet.
fn forwarded(packet: Ip) -> Scene {
    forwarded_as(packet, RxDesc::default())
}

/// The same, of a packet of which the device has something to report.
fn forwarded_as(packet: Ip, desc: RxDesc) -> Scene {
    let mut scene = Scene::with(|config| config.sysctl.conf.set_forwarding(true));
    scene.frame(&arp_frame(MAC, arp::REQUEST, (STRANGER, [10, 0, 0, 99].into()), (MAC, ADDR)));
    scene.begin();
    scene.lab.put_reported(&packet.frame(), desc);
    scene.lab.run();
    scene
}

/// A packet on an interface with this tunable at 1.
fn under(tunable: &str, packet: Ip) -> Scene {
    let name = format!("net.ipv4.conf.default.{tunable}");
    let mut scene = Scene::with(|config| config.sysctl.set(&name, "1").expect("a tunable"));
    scene.frame(&packet.frame());
    scene
}
