//! IP, routing, netfilter, ICMP.

use std::sync::Arc;

use rxpath_mem::Skb;
use rxpath_trace::DropReason;
use rxpath_wire::{IpProto, MacAddr, icmp as wire_icmp};

use super::{Cause, Scene};
use crate::cx::Cx;
use crate::netfilter::{Hook, HookPoint, Priority, Verdict};
use crate::route::{Fib, Policy, RpFilter};
use crate::testing::frames::{Ip, echo, icmp, ip};

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
        reason: DropReason::UnicastInL2Multicast,
        what: "a packet to our address comes in a broadcast frame, where the policy forbids that \
               (`drop_unicast_in_l2_multicast`)",
        run: || {
            under(
                Policy { drop_unicast_in_l2_multicast: true, ..Policy::default() },
                echo(&[0; 8]).in_frame_to(MacAddr::BROADCAST),
            )
        },
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
        run: || {
            let policy = Policy { rp_filter: RpFilter::Strict, ..Policy::default() };
            under(policy, echo(&[0; 8]).from([172, 16, 0, 9]))
        },
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
        reason: DropReason::IpFragUnsupported,
        what: "a fragment",
        run: || packet(Ip { fragment: 0x2000, ..echo(&[0; 8]) }),
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
    Cause {
        reason: DropReason::PktTooBig,
        what: "an echo request of 2,000 bytes comes in one frame, and its answer does not fit the MTU",
        run: || packet(echo(&[0; 1_972])),
    },
];

/// A hook that lets nothing pass.
struct Never;

impl Hook for Never {
    fn name(&self) -> &'static str {
        "never"
    }

    fn decide(&self, _: &mut Cx, _: HookPoint, skb: Skb) -> Verdict {
        Verdict::Drop(skb)
    }
}

fn packet(packet: Ip) -> Scene {
    let mut scene = Scene::new();
    scene.frame(&packet.frame());
    scene
}

fn under(policy: Policy, packet: Ip) -> Scene {
    let mut scene = Scene::new();
    scene.reconfigure(|net| {
        net.fib = Fib::build(&net.interfaces, &[], policy).expect("the addresses hold together");
    });
    scene.frame(&packet.frame());
    scene
}
