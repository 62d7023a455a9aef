//! What is done for packets before the rooms look at them (`tcp_v4_early_demux`): what they will touch is asked for, and a
//! packet of the flow of the last run is recognised.
//!
//! What the rooms between the device and TCP make of a whole TCP packet without IP options, whose checksums are right,
//! hangs on its interface, its addresses and ports, and on the configuration, as long as nobody stands in the rooms who
//! wants to see every packet. So where they passed one packet of a flow they pass the next, and need not be asked again:
//! only what differs from packet to packet is looked at. (The kernel spares itself the look-up of the route alone.)

use rxpath_mem::{PktType, Skb, SkbQueue};
use rxpath_wire::{EtherType, IpProto, Ipv4Header, TcpHeader, Tuple};

use super::flow_key::FlowKey;
use super::{Segment, auth};
use crate::cx::Cx;
use crate::ip;
use crate::socket::{FlowId, FlowTable};

/// Looks at a whole burst before its packets run: asks the cache for every bucket, then for every socket
/// (`tcp_v4_early_demux`, fused over the burst).
#[inline]
pub fn early_demux(_cx: &Cx, flows: &FlowTable, burst: &SkbQueue) {
    let mut flows_seen = 0u32;
    let mut last = 0;
    for skb in burst {
        if skb.hash != last {
            last = skb.hash;
            flows_seen += 1;
            flows.prefetch_bucket(skb.hash);
        }
    }
    if flows_seen > 1 {
        for skb in burst {
            flows.prefetch_flow(skb.hash);
        }
        for skb in burst {
            flows.prefetch_sock(skb.hash);
        }
    }
}

/// The flow of a run: what passed the rooms once. Worth nothing under another configuration.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    key: FlowKey,
    id: FlowId,
    ifindex: u16,
    /// The [`NetConfig::generation`](crate::netns::NetConfig::generation) in which the rooms passed it.
    generation: u64,
}

impl Known {
    /// A packet of this flow came to its socket by this interface. None if it was not of IPv4.
    #[inline]
    pub(super) fn of(cx: &Cx, tuple: &Tuple, id: FlowId, ifindex: u16) -> Option<Known> {
        let key = FlowKey::incoming(tuple)?;
        Some(Known { key, id, ifindex, generation: cx.net.generation })
    }

    /// The flow.
    #[inline(always)]
    pub fn id(&self) -> FlowId {
        self.id
    }

    /// The segment in a packet of the flow that begins at its IP header, and its type of service: if all rooms up to
    /// [`super::v4_rcv`] would pass it, and the flow has a socket.
    #[inline(always)]
    pub fn recognise(&self, cx: &Cx, flows: &FlowTable, skb: &Skb) -> Option<(Segment, u8)> {
        self.segment_in(cx, skb).filter(|_| flows.is_sock(self.id))
    }

    #[inline(always)]
    fn segment_in(&self, cx: &Cx, skb: &Skb) -> Option<(Segment, u8)> {
        let is_plain = skb.protocol == EtherType::IPV4 && skb.pkt_type == PktType::Host;
        if !is_plain || skb.ifindex != self.ifindex || !skb.ip_summed.is_known_good() {
            return None;
        }
        let (fixed, behind) = skb.data().split_first_chunk::<{ Ipv4Header::LEN }>()?;
        let (tcp, _) = TcpHeader::parse(behind)?;
        let addrs_and_ports = skb.data().get(12..24)?.first_chunk()?;
        let (ip, _) = Ipv4Header::parse(fixed)?;
        let is_whole = usize::from(ip.total_len()) == skb.len() && !ip.is_fragment();
        let is_ours = self.key.is(addrs_and_ports) && self.generation == cx.net.generation;
        if !is_ours || !is_whole || ip.protocol() != IpProto::TCP || !ip::is_plain_and_sound(fixed) {
            return None;
        }
        let header_len = tcp.header_len();
        let seg = Segment::read(tcp, skb.len().checked_sub(Ipv4Header::LEN + header_len)? as u32);
        let is_readable = (TcpHeader::LEN..=behind.len()).contains(&header_len) && !auth::may_carry(&seg);
        is_readable.then_some((seg, ip.tos()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rxpath_mem::IpSummed;
    use rxpath_trace::DropReason;
    use rxpath_wire::{Addr, ipv4};

    use super::*;
    use crate::netns::NetConfig;
    use crate::testing::{self, ADDR, MAC, PEER, PEER_MAC};

    /// A segment of 80 bytes from port 40,000 of the peer to our port 80, of `options` whole words of TCP options.
    fn frame(options: usize) -> Vec<u8> {
        let (header_len, total_len) = (20 + 4 * options, 120 + 4 * options as u16);
        let mut frame = vec![0; 14 + usize::from(total_len)];
        frame[..6].copy_from_slice(&MAC.0);
        frame[6..12].copy_from_slice(&PEER_MAC.0);
        frame[12] = 8;
        let (src, dst) = (PEER, ADDR);
        let repr = ipv4::Ipv4Repr { src, dst, proto: IpProto::TCP, ttl: 64, tos: 2, id: 7, df: true, total_len };
        ipv4::emit(&mut frame[14..], repr);
        frame[34..38].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        frame[38..42].copy_from_slice(&1_000u32.to_be_bytes());
        frame[46..48].copy_from_slice(&[(header_len as u8 / 4) << 4, 0x10]);
        frame
    }

    fn rewritten(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = frame(0);
        change(&mut frame);
        ipv4::fill_checksum(&mut frame[14..34]);
        frame
    }

    /// What is made of a frame that the peer's flow is known of, behind `describe`.
    fn recognised(frame: &[u8], describe: impl FnOnce(&mut Skb, &mut Known)) -> Option<(Segment, u8)> {
        let mut cx = testing::cx();
        let tuple = Tuple { local: Addr::from(ADDR), remote: Addr::from(PEER), local_port: 80, remote_port: 40_000 };
        let mut known = Known::of(&cx, &tuple, FlowId::NONE, 1).expect("a flow of IPv4");
        let mut skb = testing::harvest(&mut cx, frame, false);
        skb.ip_summed = IpSummed::Unnecessary;
        describe(&mut skb, &mut known);
        let seen = known.segment_in(&cx, &skb);
        cx.drop_skb(skb, DropReason::NotSpecified);
        seen
    }

    #[test]
    fn the_segment_of_a_known_flow_is_read() {
        let (seg, tos) = recognised(&frame(0), |_, _| ()).expect("it is of the flow");
        assert_eq!((seg.seq.0, seg.end_seq.0, seg.len, seg.header_len, tos), (1_000, 1_080, 80, 20, 2));
        let (stamped, _) = recognised(&frame(3), |_, _| ()).expect("timestamps are no authentication");
        assert_eq!((stamped.len, stamped.header_len), (80, 32));
    }

    #[test]
    fn what_a_room_might_look_at_twice_goes_the_whole_way() {
        let frames: [(&str, Vec<u8>); 10] = [
            ("another source", rewritten(|frame| frame[29] = 3)),
            ("another destination", rewritten(|frame| frame[33] = 9)),
            ("another port", rewritten(|frame| frame[37] = 81)),
            ("a fragment", rewritten(|frame| frame[20] = 0x20)),
            ("another protocol", rewritten(|frame| frame[23] = 17)),
            ("a short header of TCP", rewritten(|frame| frame[46] = 0x40)),
            (
                "a header of TCP beyond the packet",
                rewritten(|frame| {
                    frame.truncate(64);
                    (frame[17], frame[46]) = (50, 0x80);
                }),
            ),
            ("a length beyond the packet", rewritten(|frame| frame[17] += 1)),
            ("what the link padded", rewritten(|frame| frame.push(0))),
            ("room for authentication", frame(10)),
        ];
        for (what, frame) in frames {
            assert!(recognised(&frame, |_, _| ()).is_none(), "{what}");
        }
        let mut unsound = frame(0);
        unsound[24] ^= 1;
        assert!(recognised(&unsound, |_, _| ()).is_none(), "a checksum of IP that is wrong");
        let mut options = frame(0);
        options[14] = 0x46;
        ipv4::fill_checksum(&mut options[14..38]);
        assert!(recognised(&options, |_, _| ()).is_none(), "options of IP");
    }

    #[test]
    fn what_is_not_as_it_was_goes_the_whole_way() {
        let none = |what: &str, describe: fn(&mut Skb, &mut Known)| {
            assert!(recognised(&frame(0), describe).is_none(), "{what}");
        };
        none("a checksum that nobody looked at", |skb, _| skb.ip_summed = IpSummed::None);
        none("another interface", |skb, _| skb.ifindex = 2);
        none("for another host", |skb, _| skb.pkt_type = PktType::OtherHost);
        none("another protocol", |skb, _| skb.protocol = EtherType::IPV6);
        none("another configuration", |_, known| known.generation += 1);
    }

    #[test]
    fn a_changed_configuration_makes_all_that_is_known_worthless() {
        let mut cx = testing::cx();
        let nobody = Addr::from(PEER);
        let tuple = Tuple { local: Addr::from(ADDR), remote: nobody, local_port: 80, remote_port: 40_000 };
        let known = Known::of(&cx, &tuple, FlowId::NONE, 1).expect("a flow of IPv4");
        let mut skb = testing::harvest(&mut cx, &frame(0), false);
        skb.ip_summed = IpSummed::Unnecessary;
        assert!(known.segment_in(&cx, &skb).is_some());
        assert!(known.recognise(&cx, &FlowTable::default(), &skb).is_none(), "the flow has no socket any more");
        let mut net = NetConfig::clone(&cx.net);
        net.generation += 1;
        cx.net = Arc::new(net);
        assert!(known.segment_in(&cx, &skb).is_none());
        cx.drop_skb(skb, DropReason::NotSpecified);
    }
}
