//! Datagrams of one flow become one packet, where a socket asks for that (`UDP_GRO`).
//!
//! All that are merged are equally long, but for the last, which may be shorter; the reader is told how long. Nothing of
//! this is looked at while no socket asks.
//!
//! Mirrors `udp4_gro_receive`, `udp_gro_receive_segment`, `udp4_gro_complete`.

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, Skb, SkbQueue};
use rxpath_trace::{Consumed, Counter, EventKind, GroPass, Holder, PacketId};
use rxpath_wire::ipv4::{MORE_FRAGMENTS, OFFSET_MASK};
use rxpath_wire::{IpProto, Ipv4Header, UdpHeader, pseudo_sum};

use super::{COPY_MAX, MAX_PACKET, pass};
use crate::cx::Cx;
use crate::udp::UdpKey;

/// Datagrams in one packet (`UDP_GRO_CNT_MAX`).
const MAX_DATAGRAMS: u16 = 64;
/// Flows held at a time.
const PLACES: usize = 8;
/// IPv4 and UDP header.
const HEADERS: usize = Ipv4Header::LEN + UdpHeader::LEN;

/// What must be equal in all datagrams of a packet: type of service, don't-fragment, time to live.
type Network = (u8, u16, u8);

/// A datagram that may be merged.
struct Datagram {
    key: UdpKey,
    network: Network,
    id: u16,
    /// Bytes of payload, at least 1.
    len: u32,
}

/// A packet that waits for more.
#[derive(Debug)]
struct Held {
    skb: Skb,
    key: UdpKey,
    network: Network,
    /// The identification of the last datagram, and by how much it grows.
    id: (u16, Option<u16>),
    /// Payload of each datagram.
    size: u32,
    count: u16,
    packet_len: u32,
}

/// The packets that are held.
#[derive(Debug, Default)]
pub(super) struct UdpHolds {
    /// The oldest first; never more than [`PLACES`], which are allocated with the first.
    held: Vec<Held>,
}

impl UdpHolds {
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Takes a packet that is not TCP's: holds it, merges it, or passes it on.
    #[cold]
    pub fn receive(&mut self, cx: &mut Cx, mut skb: Skb, more: bool, out: &mut SkbQueue) {
        let datagram = match read(&skb) {
            Ok(datagram) => datagram,
            Err(why) => return pass(cx, skb, why, out),
        };
        let Cx { udp, udp_memo, net, .. } = cx;
        let asked = udp_memo.lookup(udp, &datagram.key, &net.hasher).is_some_and(|sock| sock.wants_merged());
        if !asked {
            return pass(cx, skb, GroPass::Protocol, out);
        }
        skb.ip_summed = IpSummed::Unnecessary;
        if let Some(place) = self.held.iter().position(|held| held.key == datagram.key) {
            match self.held[place].merge(cx, skb, &datagram) {
                Ok(full) => {
                    if full {
                        self.complete(cx, place, out);
                    }
                    return;
                }
                Err(other) => skb = other,
            }
            self.complete(cx, place, out);
        }
        if !more {
            return pass(cx, skb, GroPass::Final, out);
        }
        if self.held.len() == PLACES {
            self.complete(cx, 0, out);
        }
        self.held.reserve(PLACES - self.held.len());
        cx.hold(Holder::Gro);
        cx.event(&skb, EventKind::GroHeld, datagram.len, self.held.len() as u32 + 1);
        self.held.push(Held::first(skb, &datagram));
    }

    /// Lets a packet go on.
    fn complete(&mut self, cx: &mut Cx, place: usize, out: &mut SkbQueue) {
        let mut held = self.held.remove(place);
        held.finish();
        cx.release(Holder::Gro);
        let payload = held.packet_len - HEADERS as u32;
        cx.event(&held.skb, EventKind::GroFlushed, u32::from(held.count), payload);
        out.push_back(held.skb);
    }

    /// Lets go of all.
    pub fn flush(&mut self, cx: &mut Cx, out: &mut SkbQueue) {
        while !self.held.is_empty() {
            self.complete(cx, 0, out);
        }
    }
}

/// What the headers say of a packet whose data starts at its IP header.
///
/// # Errors
/// Why it cannot be merged.
fn read(skb: &Skb) -> Result<Datagram, GroPass> {
    let (ip, payload) = Ipv4Header::parse(skb.data()).ok_or(GroPass::IpHeader)?;
    if ip.protocol() != IpProto::UDP {
        return Err(GroPass::Protocol);
    }
    let fragment = ip.fragment_word();
    let whole = fragment & (MORE_FRAGMENTS | OFFSET_MASK) == 0 && usize::from(ip.total_len()) == skb.len();
    if ip.version_ihl() != 0x45 || !whole {
        return Err(GroPass::IpHeader);
    }
    let (udp, _) = UdpHeader::parse(payload).ok_or(GroPass::IpHeader)?;
    let len = usize::from(udp.length());
    if len <= UdpHeader::LEN || len != skb.len() - Ipv4Header::LEN {
        return Err(GroPass::NoPayload);
    }
    if udp.checksum() == 0 || !(skb.ip_summed.is_known_good() || is_sound(skb, ip, len)) {
        return Err(GroPass::Checksum);
    }
    let key = UdpKey {
        local: ip.dst_addr(),
        remote: ip.src_addr(),
        local_port: udp.dst_port(),
        remote_port: udp.src_port(),
        ifindex: skb.ifindex,
    };
    let network = (ip.tos(), fragment, ip.ttl());
    Ok(Datagram { key, network, id: ip.id(), len: (len - UdpHeader::LEN) as u32 })
}

/// Whether header and UDP checksum are right.
fn is_sound(skb: &Skb, ip: &Ipv4Header, len: usize) -> bool {
    let mut skip = Ipv4Header::LEN;
    let pseudo = pseudo_sum(ip.src_addr(), ip.dst_addr(), IpProto::UDP, len);
    let (sum, _) = skb.fragments().fold((pseudo, false), |(sum, odd), piece| {
        let piece = piece.get(skip..).unwrap_or_default();
        skip = 0;
        (csum::combine(sum, csum::sum(piece), odd), odd ^ (piece.len() % 2 == 1))
    });
    sum == 0xffff && ip.sum() == 0xffff
}

impl Held {
    fn first(skb: Skb, datagram: &Datagram) -> Held {
        let packet_len = skb.len() as u32;
        let Datagram { key, network, id, len, .. } = *datagram;
        Held { skb, key, network, id: (id, None), size: len, count: 1, packet_len }
    }

    /// Takes a datagram that goes on where the packet ends; true if it ends the packet. Or gives it back.
    fn merge(&mut self, cx: &mut Cx, mut skb: Skb, datagram: &Datagram) -> Result<bool, Skb> {
        let step = datagram.id.wrapping_sub(self.id.0);
        let in_order = step <= 1 && self.id.1.is_none_or(|known| known == step);
        let fits = datagram.len <= self.size && self.packet_len + datagram.len <= MAX_PACKET;
        if datagram.network != self.network || !in_order || !fits {
            return Err(skb);
        }
        let (id, traced) = (skb.id, skb.traced());
        let addresses = (datagram.key.remote.v4(), datagram.key.local.v4());
        let short = datagram.len as usize <= COPY_MAX && skb.data_len() == 0;
        if short && skb.data().get(HEADERS..).is_some_and(|payload| self.skb.append_bytes(payload)) {
            self.skb.truesize += skb.truesize;
            cx.count_n(Counter::CopiedGro, u64::from(datagram.len));
            cx.pool.free(skb);
        } else {
            if !skb.pull(HEADERS) {
                return Err(skb);
            }
            if let Err(mut other) = self.skb.add_frag(skb) {
                let _ = other.unpull(HEADERS);
                return Err(other);
            }
        }
        self.id = (datagram.id, Some(step));
        self.count += 1;
        self.packet_len += datagram.len;
        cx.ledger.consumed(Consumed::GroMerged, 1);
        if traced {
            // Rooms that read its addresses get to see only what it was merged into.
            if let (Some(src), Some(dst)) = addresses {
                cx.record(id, EventKind::Addresses, src.into(), dst.into(), PacketId::NONE);
            }
            cx.record(id, EventKind::GroMerged, datagram.len, u32::from(self.count), self.skb.id);
        }
        Ok(datagram.len < self.size || self.count >= MAX_DATAGRAMS)
    }

    /// `udp4_gro_complete`: the headers of the packet as the stack gets it.
    fn finish(&mut self) {
        if self.count == 1 {
            return;
        }
        let packet_len = self.packet_len as u16;
        let udp_len = packet_len - Ipv4Header::LEN as u16;
        if let Some(headers) = self.skb.data_mut().first_chunk_mut::<HEADERS>() {
            let before = u16::from_be_bytes([headers[2], headers[3]]);
            let checksum = csum::update(u16::from_be_bytes([headers[10], headers[11]]), before, packet_len);
            headers[2..4].copy_from_slice(&packet_len.to_be_bytes());
            headers[10..12].copy_from_slice(&checksum.to_be_bytes());
            headers[24..26].copy_from_slice(&udp_len.to_be_bytes());
        }
        self.skb.gso_size = self.size as u16;
        self.skb.gso_segs = self.count;
        self.skb.ip_summed = IpSummed::Unnecessary;
    }
}
