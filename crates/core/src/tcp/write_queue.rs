//! What was written and not sent yet, as packets: where each ends and whether it is to be pushed (`tcp_sendmsg_locked`,
//! `tcp_write_xmit`).
//!
//! The bytes themselves lie in [`super::SendBuffer`]; here is only how the application's calls cut them. A peer sees the
//! cuts in PSH, in segment sizes where Nagle's algorithm or a small window holds something back, and in which segments
//! share a super-frame. Memory is charged as the kernel charges it, because header prediction asks whether enough is
//! accounted ([`super::Receiver::forward_alloc`] is one account for both directions).

use std::collections::VecDeque;

use rxpath_trace::Time;
use rxpath_wire::SeqNum;

use super::nagle::Hold;
use super::{Ending, MS, MSS_DEFAULT, Nagle, Receiver, TcpSock, tick};
use crate::cx::Cx;

/// Charged for a packet besides its bytes.
pub(super) const PACKET_CHARGE: u32 = 832;
/// Largest payload of a super-frame that is planned for.
pub(super) const GSO_GOAL: u32 = 65_536 - 321;
/// Without `tcp_tso_win_divisor` a super-frame goes if it may have more segments than this (`tcp_max_tso_deferred_mss`).
const DEFERRED_SEGS: u32 = 3;

/// A packet that was not sent yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Payload bytes.
    pub len: u32,
    /// The application's call ended here, or more than half a window was written since the last push.
    pub psh: bool,
    /// A record ends with it: nothing is joined to its end.
    pub eor: bool,
}

/// A call of the application that was not cut into packets yet.
#[derive(Clone, Copy, Debug)]
struct Written {
    /// Bytes; 0 if it only has what waits be offered again.
    len: u32,
    /// The last one is urgent.
    urgent: bool,
    /// What follows.
    ending: Ending,
    /// What the socket was set to.
    nagle: Nagle,
    /// What is there when it has been cut goes: `TCP_NODELAY` was set.
    push: bool,
    /// The call goes on: there was no room for more of it, and there may be once this was offered to the network.
    open: bool,
    /// It is the next part of a call that went on.
    rest: bool,
    /// There was no room for more of the call, which ends with no byte at all (the `tcp_push` before
    /// `sk_stream_wait_memory`).
    full: bool,
}

/// What a call finds when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Payload bytes of a segment.
    pub(super) mss: u32,
    /// Bytes that a packet grows to.
    goal: u32,
}

/// A call of the application that is being cut into packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// What it is.
    written: Written,
    /// Bytes that are not in packets yet.
    left: u32,
    /// How it is cut.
    pub(super) cut: Cut,
    /// Nothing of it is in a packet yet.
    first: bool,
}

/// A packet that a call filled and did not end with: it may go before there is more to join it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// If it is the only one, by itself (`tcp_push_one`).
    One,
    /// With all before it: more than half a window was written since the last push (`forced_push`).
    Forced,
}

/// Packets that were not sent yet, in order.
#[derive(Debug, Default)]
pub struct WriteQueue {
    packets: VecDeque<Unsent>,
    /// Calls that were not cut into packets yet.
    calls: VecDeque<Written>,
    /// The last of them goes on.
    open: bool,
    /// How the call that is being cut is cut, however often it goes on; None before it begins.
    cut: Option<Cut>,
    /// What is in packets goes, in spite of a cork, until a further one is begun.
    pub(super) push: bool,
    /// End of the last packet.
    end_seq: SeqNum,
    /// End of the last packet that was marked to be pushed.
    pushed_seq: SeqNum,
}

impl WriteQueue {
    /// Nothing was written; the first byte will have this sequence number.
    pub fn starting_at(seq: SeqNum) -> WriteQueue {
        WriteQueue { end_seq: seq, pushed_seq: seq, ..WriteQueue::default() }
    }

    /// The next packet.
    #[inline]
    pub fn front(&self) -> Option<Unsent> {
        self.packets.front().copied()
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.calls.is_empty()
    }

    /// True if all that was written, up to `write_seq`, is in packets.
    pub(super) fn ends_at(&self, write_seq: SeqNum) -> bool {
        self.end_seq == write_seq
    }

    /// Bytes that are not in packets yet.
    pub(super) fn uncut(&self) -> u32 {
        self.calls.iter().map(|call| call.len).sum()
    }

    /// Packets that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Fills the front up to `limit` bytes from the packet behind it; true if nothing is left of that one
    /// (`tcp_grow_skb`).
    pub(super) fn join(&mut self, limit: u32) -> bool {
        let [Some(front), Some(second)] = [0, 1].map(|at| self.packets.get(at).copied()) else { return false };
        if front.eor {
            return false;
        }
        let take = limit.saturating_sub(front.len).min(second.len);
        self.packets[0].len += take;
        if take < second.len {
            self.packets[1].len -= take;
            return false;
        }
        self.packets[0].psh |= second.psh;
        self.packets[0].eor = second.eor;
        self.packets.remove(1);
        true
    }

    /// How many packets end within the first `len` bytes, and what the last of them is, pushed if one of them is to be; None
    /// if there are fewer bytes, or a record ends between them (`tcp_can_coalesce_send_queue_head`).
    pub(super) fn holds(&self, len: u32) -> Option<(u32, Unsent)> {
        let (mut packets, mut whole, mut left) = (0, Unsent { len, psh: false, eor: false }, len);
        for packet in &self.packets {
            if left == 0 || packet.len > left {
                return (left == 0 || !whole.eor).then_some((packets, whole));
            }
            if whole.eor {
                return None;
            }
            left -= packet.len;
            packets += 1;
            (whole.psh, whole.eor) = (whole.psh | packet.psh, packet.eor);
        }
        (left == 0).then_some((packets, whole))
    }

    /// The first `len` bytes are sent, of however many packets.
    pub(super) fn take(&mut self, len: u32) {
        let mut left = len;
        while let Some(front) = self.packets.front_mut().filter(|_| left > 0) {
            let part = front.len.min(left);
            left -= part;
            front.len -= part;
            if front.len == 0 {
                self.packets.pop_front();
            }
        }
    }

    /// The first packet, or a part of it, goes as a probe, pushed, all of it, however it is cut: its end counts as such.
    pub(super) fn push_front(&mut self) {
        let behind: u32 = self.packets.iter().skip(1).map(|packet| packet.len).sum();
        let end = self.end_seq - behind;
        if self.pushed_seq.before(end) {
            self.pushed_seq = end;
        }
        if let Some(front) = self.packets.front_mut() {
            front.psh = true;
        }
    }

    /// Everything was sent, or given up.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.calls.clear();
        self.open = false;
    }

    /// The first `len` bytes are sent. True if they were not all of their packet: it takes a new one.
    pub(super) fn sent(&mut self, len: u32) -> bool {
        let Some(front) = self.packets.front_mut() else { return false };
        if len < front.len {
            front.len -= len;
            return true;
        }
        self.packets.pop_front();
        false
    }
}

impl Receiver {
    /// Accounts for bytes that are to be sent.
    #[inline]
    pub(super) fn charge_output(&mut self, bytes: u32) {
        self.schedule(bytes);
        self.forward_alloc -= bytes as i32;
        self.wmem_queued += bytes;
    }

    /// Gives back what was accounted for bytes that were acknowledged.
    #[inline]
    pub(super) fn uncharge_output(&mut self, bytes: u32) {
        self.wmem_queued = self.wmem_queued.saturating_sub(bytes);
        self.rmem_alloc += bytes;
        self.uncharge(bytes);
    }
}

impl TcpSock {
    /// The application wrote `n` bytes, which are in the buffer, with so much said to follow; None if it wanted to write more
    /// than there was room for: the call goes on when that has been tried, if what was sent has made room, or else
    /// [`TcpSock::wrote_all`] ends it. The next [`TcpSock::push`] cuts them into packets.
    pub fn wrote(&mut self, n: u32, ending: Option<Ending>) {
        if n == 0 {
            return;
        }
        self.check_app_limited();
        self.tx.write_seq += n;
        let (nagle, open) = (self.tx.nagle, ending.is_none());
        let rest = std::mem::replace(&mut self.tx.queue.open, open);
        if !rest {
            self.tx.queue.cut = None;
        }
        let ending = ending.unwrap_or_default();
        let written = Written { len: n, urgent: false, ending, nagle, push: false, open, rest, full: false };
        self.tx.queue.calls.push_back(written);
    }

    /// The call that was to go on finds no room. True if there was one; then the next [`TcpSock::push`] ends it.
    pub fn wrote_all(&mut self) -> bool {
        let (nagle, queue) = (self.tx.nagle, &mut self.tx.queue);
        let was_open = std::mem::take(&mut queue.open);
        if was_open {
            let ending = Ending::default();
            let full =
                Written { len: 0, urgent: false, ending, nagle, push: false, open: false, rest: true, full: true };
            queue.calls.push_back(full);
        }
        was_open
    }

    /// What waits is to be offered as the socket is set now, in the order of the calls; with `push` all of it goes.
    pub(super) fn offer_what_waits(&mut self, push: bool) {
        let (nagle, queue) = (self.tx.nagle, &mut self.tx.queue);
        if queue.is_empty() {
            return;
        }
        if let Some(last) = queue.calls.back_mut().filter(|last| last.len == 0 && !last.full) {
            (last.nagle, last.push) = (nagle, last.push | push);
            return;
        }
        let ending = Ending::default();
        let again = Written { len: 0, urgent: false, ending, nagle, push, open: false, rest: false, full: false };
        queue.calls.push_back(again);
    }

    /// The last byte that was written is urgent (`tcp_mark_urg`), of a part of a call, too.
    pub fn mark_urgent(&mut self) {
        self.tx.snd_up = Some(self.tx.write_seq);
        if let Some(last) = self.tx.queue.calls.back_mut() {
            last.urgent = true;
        }
    }

    /// Bytes that a write may add (`tcp_sendmsg_locked`): to the last packet as many as it lacks, and as many packets as are
    /// begun while less is charged than the send buffer has; the last of them is not cut for it. Packets of an urgent write
    /// (`MSG_OOB`) are single segments.
    pub(super) fn write_room(&self, urgent: bool) -> usize {
        let (packets, lacking) = self.uncut_packets(urgent);
        let charged = u64::from(self.rx.wmem_queued + self.tx.queue.uncut() + lacking);
        let charged = charged + u64::from(packets) * u64::from(PACKET_CHARGE);
        let free = (self.tx.sndbuf as u64).saturating_sub(charged);
        let goal = self.goal_of_call(urgent);
        let more = free.div_ceil(u64::from(goal + PACKET_CHARGE)) as usize;
        lacking as usize + more * goal as usize
    }

    /// Bytes that the last packet lacks, and those of one more if that may be begun.
    pub(super) fn packet_room(&self, one_more: bool, urgent: bool) -> usize {
        let (_, lacking) = self.uncut_packets(urgent);
        (lacking + if one_more { self.goal_of_call(urgent) } else { 0 }) as usize
    }

    /// Bytes that a packet of the call that is under way, or of the next, grows to: urgent bytes are not for super-frames.
    fn goal_of_call(&self, urgent: bool) -> u32 {
        let queue = &self.tx.queue;
        let fresh = || Cut { mss: u32::from(self.current_mss()), goal: self.size_goal() };
        let cut = queue.cut.filter(|_| queue.open).unwrap_or_else(fresh);
        if urgent { cut.mss } else { cut.goal }
    }

    /// Packets that bytes which are not in packets yet will take besides the last one, and what a call will find lacking of the
    /// last.
    fn uncut_packets(&self, urgent: bool) -> (u32, u32) {
        let lacks = |last: Option<Unsent>, goal: u32| {
            last.filter(|packet| !packet.eor).map_or(0, |packet| goal.saturating_sub(packet.len))
        };
        let (mut packets, mut last) = (0, self.tx.queue.packets.back().copied());
        for call in &self.tx.queue.calls {
            let goal = self.goal_of_call(call.urgent);
            let beyond = call.len.saturating_sub(lacks(last, goal));
            if beyond > 0 {
                let begun = beyond.div_ceil(goal);
                packets += begun;
                last = Some(Unsent { len: beyond - (begun - 1) * goal, ..Unsent::default() });
            } else if let Some(last) = &mut last {
                last.len += call.len;
            }
            if let Some(last) = &mut last {
                last.eor |= call.ending.record;
            }
        }
        (packets, lacks(last, self.goal_of_call(urgent)))
    }

    /// The next call that was not cut into packets yet.
    pub(super) fn next_call(&mut self) -> Option<Call> {
        let written = self.tx.queue.calls.pop_front()?;
        // Urgent bytes are not for super-frames.
        let fresh = Cut { mss: u32::from(self.current_mss()), goal: self.size_goal() };
        let mut cut = self.tx.queue.cut.filter(|_| written.rest).unwrap_or(fresh);
        self.tx.queue.cut = Some(cut);
        if written.urgent {
            cut.goal = cut.mss;
        }
        Some(Call { written, left: written.len, cut, first: !written.rest })
    }

    /// A call was cut into packets: what may hold the last of them back; None if it goes on.
    pub(super) fn call_ends(&mut self, call: &Call) -> Option<Hold> {
        let Written { len, ending, nagle, push, open, full, .. } = call.written;
        if len == 0 {
            self.tx.queue.push |= push;
        }
        let queue = &mut self.tx.queue;
        if let (true, Some(packet)) = (full, queue.packets.back_mut()) {
            packet.psh = true;
            queue.pushed_seq = queue.end_seq;
        }
        let hold = match (len, ending.more) {
            (0, _) if full => Hold::NOTHING,
            (1.., true) => Hold::MORE,
            _ => Hold { nagle, push: queue.push },
        };
        (!open).then_some(hold)
    }

    /// What may hold the last packet back when something else than a write has what waits offered.
    pub(super) fn hold(&self) -> Hold {
        Hold { nagle: self.tx.nagle, push: self.tx.queue.push }
    }

    /// The time, if windows are to be smaller after an idle time (`tcp_slow_start_after_idle`).
    pub(super) fn restart(cx: &Cx) -> Option<Time> {
        cx.net.sysctl.tcp_slow_start_after_idle.then_some(cx.now)
    }

    /// The application writes, or the window of the peer changes under what waits: after an idle time the congestion window is
    /// no longer known to be right (`tcp_slow_start_after_idle_check`). `restart` is what [`TcpSock::restart`] gives.
    pub(super) fn slow_start_after_idle(&mut self, restart: Option<Time>) {
        if let Some(now) = restart.filter(|_| self.cong.packets_out == 0) {
            let idle = tick(now) - tick(self.tx.last_sent);
            self.cong.restart_after_idle(idle, self.rtt.backed_off(), now);
        }
    }

    /// Puts bytes of a call into packets, and charges them, until one is full; None when the call has ended
    /// (`tcp_sendmsg_locked`). `restart` is what [`TcpSock::restart`] gives.
    pub(super) fn fill(&mut self, call: &mut Call, restart: Option<Time>) -> Option<Filled> {
        let half_window = self.tx.max_window / 2;
        while call.left > 0 {
            if self.tx.queue.packets.back().is_none_or(|packet| packet.len >= call.cut.goal || packet.eor) {
                self.slow_start_after_idle(restart);
                self.rx.charge_output(PACKET_CHARGE);
                self.tx.queue.packets.push_back(Unsent { len: 0, psh: false, eor: false });
                self.tx.queue.push = false;
            }
            let queue = &mut self.tx.queue;
            let packet = queue.packets.back_mut()?;
            packet.psh &= !call.first;
            call.first = false;
            let take = call.left.min(call.cut.goal - packet.len);
            packet.len += take;
            call.left -= take;
            queue.end_seq += take;
            // More than half a window since the last push: the peer is not to wait for the rest.
            let Written { urgent, ending, open, .. } = call.written;
            let full = packet.len == call.cut.goal;
            let long_ago = queue.end_seq.after(queue.pushed_seq + half_window);
            let forced = full && !urgent && long_ago;
            if forced || (call.left == 0 && !open && (!ending.more || long_ago)) {
                packet.psh = true;
                queue.pushed_seq = queue.end_seq;
            }
            packet.eor = call.left == 0 && ending.record;
            self.rx.charge_output(take);
            if full && (call.left > 0 || open) && !urgent {
                return Some(if forced { Filled::Forced } else { Filled::One });
            }
        }
        None
    }

    /// Bytes that a packet of the write queue grows to: a super-frame, but no more than half the largest window seen
    /// (`tcp_xmit_size_goal`, `tcp_bound_to_half_wnd`).
    pub(super) fn size_goal(&self) -> u32 {
        let (mss, largest) = (u32::from(self.current_mss()), self.tx.max_window);
        let cutoff = if largest > u32::from(MSS_DEFAULT) { largest / 2 } else { largest };
        let bound = if cutoff > 0 && GSO_GOAL > cutoff { cutoff } else { GSO_GOAL };
        (bound / mss * mss).max(mss)
    }

    /// How much of a packet of `len` bytes may go now, in so many segments of `mss` bytes, without a small segment at the end
    /// where that is held (`tcp_mss_split_point`).
    pub(super) fn split_point(&self, len: u32, window: u32, (mss, segs): (u32, u32), last: bool, held: bool) -> u32 {
        let most = mss.saturating_mul(segs);
        if most <= window && !last {
            return most;
        }
        let needed = len.min(window);
        if most <= needed {
            return most;
        }
        let partial = needed % mss;
        if partial != 0 && held { needed - partial } else { needed }
    }

    /// True if a super-frame of `len` bytes had better wait for the next ACK, which will let more of it go
    /// (`tcp_tso_should_defer`). A super-frame may have `segs` segments of `mss` bytes; `next` is the packet's bytes, whether it
    /// is the last, and whether nothing can be joined to it: it has the FIN or ends a record.
    pub(super) fn defers(
        &self,
        cx: &Cx,
        (mss, segs): (u32, u32),
        next: (u32, bool, bool),
        window: u32,
        limited: &mut bool,
    ) -> bool {
        let (len, last, ends) = next;
        let (tx, cong) = (&self.tx, &self.cong);
        if cong.state.is_recovering() || cx.now - tx.last_transmit > MS {
            return false;
        }
        let quota = cong.quota().saturating_mul(mss);
        let limit = window.min(quota);
        if limit >= segs * mss || (!last && limit >= len) {
            return false;
        }
        let enough = match u32::from(cx.net.sysctl.tcp_tso_win_divisor) {
            0 => limit > DEFERRED_SEGS * mss,
            divisor => limit >= tx.snd_wnd.min(cong.cwnd.saturating_mul(mss)) / divisor,
        };
        if enough {
            return false;
        }
        let Some(head) = tx.segments.front() else { return false };
        let threshold = (self.rtt.srtt / 2).min(MS);
        if head.sent_at.0 + self.rtt.srtt > cx.now.0 + threshold {
            return false;
        }
        if quota < window {
            *limited |= quota <= len;
            return quota <= len || !ends;
        }
        window <= len || !ends
    }
}

#[cfg(test)]
mod tests {
    use rxpath_wire::{Addr, Tuple};

    use super::*;
    use crate::nic::Features;
    use crate::route::Route;
    use crate::tcp::State;

    fn sock(mss: u16, max_window: u32) -> TcpSock {
        let nobody = Addr::UNSPECIFIED_V4;
        let tuple = Tuple { local: nobody, remote: nobody, local_port: 1, remote_port: 2 };
        let route = Route {
            nexthop: nobody,
            src: nobody,
            generation: 0,
            mac: None,
            ifindex: 1,
            mtu: 1_500,
            features: Features::default(),
            confirm: false,
            bound: false,
        };
        let mut sk = TcpSock::new(State::Established, tuple, route, 131_072, 16_384);
        sk.tx.mss = mss;
        sk.tx.max_window = max_window;
        sk
    }

    fn write(sk: &mut TcpSock, n: u32) -> Vec<Filled> {
        sk.wrote(n, Some(Ending::default()));
        let mut call = sk.next_call().expect("it was just made");
        std::iter::from_fn(|| sk.fill(&mut call, None)).collect()
    }

    fn packets(sk: &TcpSock) -> Vec<(u32, bool)> {
        sk.tx.queue.packets.iter().map(|packet| (packet.len, packet.psh)).collect()
    }

    #[test]
    fn a_call_ends_in_a_push_that_the_next_call_moves_on() {
        let mut sk = sock(1_448, 65_535);
        assert_eq!(write(&mut sk, 1_000), []);
        assert_eq!(packets(&sk), [(1_000, true)]);
        assert_eq!(write(&mut sk, 2_000), []);
        assert_eq!(packets(&sk), [(3_000, true)], "one packet, pushed where the second call ended");
    }

    #[test]
    fn packets_stay_below_half_the_window_and_are_pushed_every_half_window() {
        let mut sk = sock(1_448, 5_000);
        assert_eq!(write(&mut sk, 6_000), [Filled::One, Filled::Forced, Filled::One, Filled::Forced]);
        assert_eq!(packets(&sk), [(1_448, false), (1_448, true), (1_448, false), (1_448, true), (208, true)]);
    }

    #[test]
    fn memory_is_charged_by_packets_and_bytes_in_whole_pages() {
        let mut sk = sock(1_448, 65_535);
        assert_eq!(write(&mut sk, 149), []);
        assert_eq!(sk.rx.forward_alloc, 3_115);
        sk.rx.uncharge_output(149 + PACKET_CHARGE);
        assert_eq!((sk.rx.forward_alloc, sk.rx.rmem_alloc), (0, 0));
    }

    #[test]
    fn a_distant_peer_gets_small_super_frames() {
        let sysctl = crate::sysctl::Sysctls::default();
        let mut sk = sock(1_448, 65_535);
        assert_eq!(sk.tso_segs(&sysctl, u32::from(sk.tx.mss)), 45, "nothing is known yet");
        sk.rtt.sample(100_000, SeqNum(0), SeqNum(1));
        sk.update_pacing_rate(&sysctl);
        assert_eq!(sk.tso_segs(&sysctl, u32::from(sk.tx.mss)), 45);
        let mut sk = sock(536, 65_535);
        sk.rtt.sample(58_000_000, SeqNum(0), SeqNum(1));
        sk.update_pacing_rate(&sysctl);
        assert_eq!(sk.tso_segs(&sysctl, u32::from(sk.tx.mss)), 2);
        assert_eq!(sk.cong.pacing.rate, 536 * 10 * 2 * 1_000_000 / 58_000);
    }
}
