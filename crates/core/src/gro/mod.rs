//! Phase 2: generic receive offload. Consecutive segments of one TCP connection become one packet before the stack
//! sees them, so that everything above pays once for many.
//!
//! [`Gro`] holds at most 8 packets in each of 8 buckets. [`Gro::receive`] takes a packet from the driver and either
//! holds it, merges it into a held one, or passes it on; [`Gro::streak`] merges the next frame of the ring straight
//! into the packet that was merged last, without making an [`Skb`]; [`Gro::flush`] lets go of what is held, at the end
//! of a poll. The rules, which packets merge and what flushes, are those of Linux 6.18: `inet` screens IPv4, `segment`
//! reads and verifies the TCP header, `held` compares and merges, `table` is the buckets; `flow` says what the frame that
//! is expected looks like, and `streak` recognises it, which spares all of that. Datagrams are merged, by `udp`, where a
//! socket asks for that.
//!
//! Mirrors `dev_gro_receive`, `inet_gro_receive`, `tcp4_gro_receive`, `tcp_gro_receive`, `skb_gro_receive`,
//! `napi_gro_flush`, `napi_gro_complete`, `tcp4_gro_complete`.
//!
//! Deviations from Linux, none of which a peer can see:
//! * A packet that is not followed by another in its burst is passed on instead of being held and flushed at once.
//! * Where what XDP programs note changes from one packet to the next ([`Skb::metadata`]), all that is held is flushed;
//!   Linux flushes the flow alone.
//! * A frame comes without its VLAN tags, unless a packet socket or a program wants to see them: then it passes on
//!   unmerged (the kernel's `vlan_gro_receive` looks behind them).
//! * A super-frame that a device merged passes alone (it flushes its flow); Linux may merge super-frames further.
//! * A merged packet is marked [`IpSummed::Unnecessary`] where Linux says `CHECKSUM_PARTIAL`. Both mean that the
//!   checksum was verified and is never verified again; the field itself holds the sum of the pseudo-header, as there.
//!
//! Neighbours: the NAPI poll calls, `path` takes what comes out. Nothing here panics on received bytes. A `Gro`
//! must be flushed before it is dropped.

mod flow;
mod held;
mod inet;
mod segment;
mod streak;
mod table;
#[cfg(test)]
mod tests;
mod udp;

use rxpath_mem::{IpSummed, Skb, SkbQueue};
use rxpath_trace::{EventKind, GroPass, Holder, PacketId, Time};

use self::held::{Held, Notes};
use self::inet::Screen;
use self::segment::Segment;
use self::table::{ALL_PLACES, Spot, Table};
use self::udp::UdpHolds;
use crate::cx::Cx;

/// The longest IPv4 packet that merging makes, in bytes (`gro_ipv4_max_size` is 65,536: the length stays below it).
const MAX_PACKET: u32 = 65_535;
/// Payloads up to this many bytes are copied behind the held packet's; longer ones keep their slot and are chained.
const COPY_MAX: usize = 256;

/// Receive offload of one NAPI.
#[derive(Debug)]
pub struct Gro {
    table: Table,
    /// Datagrams, where a socket asks for merged ones.
    udp: UdpHolds,
    /// The packet that took a segment last: where a streak goes on.
    last: Option<Spot>,
    /// What was noted of the merged packet that went last: the next burst often begins where that one ended.
    recent: Option<Box<Notes>>,
    /// Where the notes of the next packets are written.
    #[expect(clippy::vec_box, reason = "notes move from list to list, what is noted stays where it is")]
    spare: Vec<Box<Notes>>,
    /// What programs noted of the packets that are held, one word for all of them.
    metadata: u64,
}

impl Default for Gro {
    fn default() -> Gro {
        Gro::new()
    }
}

impl Gro {
    /// An empty one. All memory that it will ever use is allocated here, about 14 KiB.
    pub fn new() -> Gro {
        // For those that are held, the one that went last, and the one that pushes another out.
        let spare = (0..ALL_PLACES + 2).map(|_| Box::default()).collect();
        Gro { table: Table::new(), udp: UdpHolds::default(), last: None, recent: None, spare, metadata: 0 }
    }

    /// Packets held, 0 to 72.
    pub fn held(&self) -> usize {
        self.table.len() + self.udp.len()
    }

    /// `napi_gro_receive`: takes one packet from the driver. What is to go on through the stack, now and in this order,
    /// is pushed to `out`: this packet, a held one that it flushed, both or none.
    ///
    /// `skb` comes as `eth_type_trans` left it: data at the network header, the Ethernet header right before it,
    /// `protocol`, `ifindex`, `network_off`, `truesize` and the device's hash (0 = none) set. `more` tells whether the
    /// device has a further frame ready; without one nothing new is held.
    pub fn receive(&mut self, cx: &mut Cx, skb: Skb, more: bool, out: &mut SkbQueue) {
        if !cx.net.interface(skb.ifindex).is_some_and(|interface| interface.gro) {
            // Switched off (perhaps a moment ago): nothing held may be overtaken.
            self.flush(cx, out, None);
            return pass(cx, skb, GroPass::Off, out);
        }
        if skb.metadata() != self.metadata {
            // `skb_metadata_differs`: what is held goes first, and nothing of it is merged with this.
            self.flush(cx, out, None);
            self.metadata = skb.metadata();
        }
        let (skb, spot) = match self.receive_expected(cx, skb) {
            Ok(()) => return,
            Err(other) => other,
        };
        let skb = match spot {
            None if more => match self.hold_expected(cx, skb, out) {
                Ok(()) => return,
                Err(other) => other,
            },
            _ => skb,
        };
        let segment = match inet::screen(&skb) {
            Screen::Normal(GroPass::Protocol) if cx.udp.wants_merged() => return self.udp.receive(cx, skb, more, out),
            Screen::Normal(why) => return pass(cx, skb, why, out),
            Screen::Tcp(segment) => segment,
        };
        let mut skb = skb;
        if segment.verified {
            skb.ip_summed = IpSummed::Unnecessary;
        }
        self.tcp(cx, spot, skb, &segment, more, out);
    }

    /// Merges `skb` into the packet held of its flow, if it is the frame that comes next there. Otherwise gives it back,
    /// and where its flow lies.
    #[inline]
    fn receive_expected(&mut self, cx: &mut Cx, skb: Skb) -> Result<(), (Skb, Option<Spot>)> {
        // Most often it is the flow that merged last.
        let skb = match self.merge_expected(cx, self.last, skb) {
            Ok(()) => return Ok(()),
            Err(other) => other,
        };
        let spot = self.table.find(&skb);
        if spot == self.last {
            return Err((skb, spot));
        }
        self.merge_expected(cx, spot, skb).map_err(|other| (other, spot))?;
        self.last = spot;
        Ok(())
    }

    /// `tcp_gro_receive`, and what `dev_gro_receive` does with its answer. `spot`: where the flow is held.
    fn tcp(
        &mut self,
        cx: &mut Cx,
        spot: Option<Spot>,
        mut skb: Skb,
        segment: &Segment,
        more: bool,
        out: &mut SkbQueue,
    ) {
        if let Some(spot) = spot {
            match self.merge(cx, spot, skb, segment, out) {
                Ok(()) => return,
                Err(other) => skb = other,
            }
            // A packet of the flow that does not merge flushes the held one and goes behind it.
            self.complete(cx, spot, out);
        }
        match segment.unholdable() {
            None if more => self.hold(cx, skb, segment, out),
            None => pass(cx, skb, GroPass::Final, out),
            Some(why) => pass(cx, skb, why, out),
        }
    }

    /// Merges `skb` into the packet held at `spot`, which is flushed if the stream pauses here; or gives it back.
    fn merge(&mut self, cx: &mut Cx, spot: Spot, skb: Skb, segment: &Segment, out: &mut SkbQueue) -> Result<(), Skb> {
        let Some(held) = self.table.held_mut(spot) else { return Err(skb) };
        if !held.continued_by(&skb, segment) {
            return Err(skb);
        }
        held.merge_segment(cx, skb, segment)?;
        self.last = Some(spot);
        if held.is_full_stop(segment) {
            self.complete(cx, spot, out);
        }
        Ok(())
    }

    /// Holds `skb`, whose flow is not held, as the head of a new packet, if it goes on where the merged packet ended that
    /// went last: then its headers are known to be such as are held, and its checksum was verified. Or gives it back.
    #[inline]
    fn hold_expected(&mut self, cx: &mut Cx, mut skb: Skb, out: &mut SkbQueue) -> Result<(), Skb> {
        let Some(notes) = self.recent.take_if(|notes| notes.flow.goes_on_with(&skb)) else { return Err(skb) };
        if !skb.ip_summed.is_known_good() {
            skb.ip_summed = IpSummed::Unnecessary;
        }
        let held = Held::going_on(skb, notes, cx.now);
        self.put(cx, held, out);
        Ok(())
    }

    /// Holds `skb` as the head of a new packet.
    #[inline(never)]
    fn hold(&mut self, cx: &mut Cx, skb: Skb, segment: &Segment, out: &mut SkbQueue) {
        let notes = self.spare.pop().unwrap_or_default();
        let held = Held::new(skb, segment, notes, cx.now);
        self.put(cx, held, out);
    }

    /// Puts a packet into its bucket. The ninth pushes out the oldest (`gro_flush_oldest`).
    #[inline(always)]
    fn put(&mut self, cx: &mut Cx, held: Held, out: &mut SkbQueue) {
        let (id, traced, len) = (held.skb.id, held.skb.traced(), held.notes.flow.mss);
        if let Some(oldest) = self.table.in_the_way(&held) {
            self.complete(cx, oldest, out);
        }
        let spot = self.table.insert(held);
        self.last = Some(spot);
        cx.hold(Holder::Gro);
        if traced {
            cx.record(id, EventKind::GroHeld, len, self.table.beside(spot), PacketId::NONE);
        }
    }

    /// `napi_gro_complete`: the packet held at `spot` goes on its way.
    fn complete(&mut self, cx: &mut Cx, spot: Spot, out: &mut SkbQueue) {
        let Some(mut held) = self.table.remove(spot) else { return };
        held.finish();
        let (segs, payload) = (u32::from(held.notes.segs), held.payload_len());
        let Held { skb, notes } = held;
        let goes_on = notes.segs > 1 && notes.flow.next.frame_len != 0;
        let done = if goes_on { self.recent.replace(notes) } else { Some(notes) };
        self.spare.extend(done);
        cx.release(Holder::Gro);
        cx.event(&skb, EventKind::GroFlushed, segs, payload);
        out.push_back(skb);
    }

    /// `napi_gro_flush`: lets go of all held packets, or of those whose first segment came before `older_than`. In the
    /// order of the buckets, and in each the oldest first.
    pub fn flush(&mut self, cx: &mut Cx, out: &mut SkbQueue, older_than: Option<Time>) {
        let mut left = self.table.in_use();
        while left != 0 {
            let bucket = left.trailing_zeros() as usize;
            left &= left - 1;
            while let Some(spot) = self.table.oldest(bucket, older_than) {
                self.complete(cx, spot, out);
            }
        }
        if self.udp.len() > 0 {
            self.udp.flush(cx, out);
        }
    }
}

/// A packet goes on at once (`GRO_NORMAL`).
#[inline]
fn pass(cx: &mut Cx, skb: Skb, why: GroPass, out: &mut SkbQueue) {
    cx.event(&skb, EventKind::GroPassed, why as u32, 0);
    out.push_back(skb);
}
