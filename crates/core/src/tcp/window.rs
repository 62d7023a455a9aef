//! The receive window: what we offer the peer, how the offer grows, and how the receive buffer tunes itself.
//!
//! Windows are derived from accounted memory: `space * scaling_ratio / 256`, where the ratio is measured as payload per
//! truesize of full-sized segments. The right edge never moves left (RFC 9293 section 3.8.6.2.1).

use rxpath_trace::{Counter, Time};
use rxpath_wire::{SeqNum, TcpFlags};

use super::{MAX_WSCALE, MSS_DEFAULT, MSS_MIN, Receiver, TSTAMP_ALIGNED, TcpSock};
use crate::cx::Cx;

/// Control bits of what may be no more than the rest of something.
const REMNANT: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::URG.0 | TcpFlags::SYN.0 | TcpFlags::PSH.0);

/// `ALIGN`: `value` rounded up to a multiple of `1 << shift`.
#[inline]
fn align_up(value: u32, shift: u8) -> u32 {
    let unit = 1u32 << shift;
    value.saturating_add(unit - 1) & !(unit - 1)
}

impl Receiver {
    /// Window bytes that `space` bytes of accounted memory are worth (`tcp_win_from_space`).
    #[inline]
    pub fn win_from_space(&self, space: i64) -> u32 {
        ((space.max(0) * i64::from(self.scaling_ratio)) >> 8) as u32
    }

    /// Window bytes of the whole buffer (`tcp_full_space`).
    #[inline]
    pub fn full_space(&self) -> u32 {
        self.win_from_space(i64::from(self.rcvbuf))
    }

    /// Window bytes of the free part of the buffer (`tcp_space`).
    #[inline]
    pub fn free_space(&self) -> u32 {
        self.win_from_space(i64::from(self.rcvbuf) - i64::from(self.backlog_len) - i64::from(self.rmem_alloc))
    }

    /// What is left of the window that was last advertised (`tcp_receive_window`).
    #[inline]
    pub fn offered(&self) -> u32 {
        ((self.rcv_wup + self.rcv_wnd) - self.rcv_nxt).max(0) as u32
    }

    /// The right edge of the advertised window.
    #[inline]
    pub fn right_edge(&self) -> SeqNum {
        self.rcv_nxt + self.offered()
    }
}

/// First window, its clamp and scale for a connection whose segments carry `mss` bytes (`tcp_select_initial_window`).
///
/// `space` is the window worth of the receive buffer; `scale_space` the largest space that auto-tuning may reach. Gives
/// (window, clamp, scale).
/// What binds the window goes before both.
pub(super) fn select_initial_window(
    space: u32,
    mss: u16,
    wscale_ok: bool,
    scale_space: u32,
    clamp: Option<u32>,
) -> (u32, u32, u8) {
    let mss = u32::from(mss).max(1);
    let clamp = clamp.unwrap_or(65_535 << MAX_WSCALE).min(65_535 << MAX_WSCALE);
    let space = space.min(clamp);
    let window = if space > mss { space - space % mss } else { space };
    if !wscale_ok {
        return (window, clamp.min(65_535), 0);
    }
    let space = scale_space.max(window).min(clamp);
    let bits = 32 - space.leading_zeros();
    let scale = bits.saturating_sub(16).min(u32::from(MAX_WSCALE)) as u8;
    (window, clamp.min(65_535 << scale), scale)
}

impl TcpSock {
    /// When the connection is established: the clamp leaves room for one segment if it is worth some, and the ceiling obeys it
    /// (`tcp_init_buffer_space`).
    pub(super) fn init_buffer_space(&mut self) {
        let full = self.rx.full_space();
        let advmss = u32::from(self.tx.advmss);
        self.rx.window_clamp = self.rx.window_clamp.min(full);
        if self.rx.window_clamp > 2 * advmss && self.rx.window_clamp + advmss > full {
            self.rx.window_clamp = full.saturating_sub(advmss).max(2 * advmss);
        }
        self.rx.rcv_ssthresh = self.rx.rcv_ssthresh.min(self.rx.window_clamp);
    }

    /// The window that memory allows now, in bytes (`__tcp_select_window`).
    #[inline(always)]
    pub fn wanted_window(&mut self) -> u32 {
        let mut mss = u32::from(self.ack.rcv_mss);
        let rx = &self.rx;
        let mut free = rx.free_space();
        let allowed = rx.full_space();
        let full = rx.window_clamp.min(allowed);
        if mss > full {
            mss = full;
            if mss == 0 {
                return 0;
            }
        }
        let scale = self.opts.rcv_wscale;
        let whole = !((1u32 << scale) - 1);
        if self.rx.shrinks {
            free &= whole;
        }
        if free < full / 2 {
            self.ack.quick = 0;
            if self.rx.pressure {
                self.adjust_ssthresh();
            }
            free &= whole;
            if free < allowed >> 4 || free < mss {
                return 0;
            }
        }
        free = free.min(self.rx.rcv_ssthresh);
        if scale > 0 {
            return align_up(free, scale);
        }
        let current = self.rx.rcv_wnd;
        if current + mss <= free || current > free {
            free - free % mss
        } else if mss == full && free > current + full / 2 {
            free
        } else {
            current
        }
    }

    /// Chooses the window for a segment that goes out now and gives the header's 16 bits (`tcp_select_window`).
    pub fn select_window(&mut self, cx: &Cx) -> u16 {
        if self.rx.nomem {
            self.rx.nomem = false;
            self.pred_flags = 0;
            self.rx.rcv_wnd = 0;
            self.rx.rcv_wup = self.rx.rcv_nxt;
            return 0;
        }
        let before = self.rx.rcv_wnd;
        let offered = self.rx.offered();
        self.rx.shrinks = self.opts.rcv_wscale > 0 && cx.net.sysctl.tcp_shrink_window;
        let mut window = self.wanted_window();
        if window < offered && !self.rx.shrinks {
            if window == 0 {
                cx.count(Counter::TcpExtTCPWantZeroWindowAdv);
            }
            window = align_up(offered, self.opts.rcv_wscale);
        }
        self.rx.rcv_wnd = window;
        self.rx.rcv_wup = self.rx.rcv_nxt;
        if window == 0 {
            self.pred_flags = 0;
            if before != 0 {
                cx.count(Counter::TcpExtTCPToZeroWindowAdv);
            }
        } else if before == 0 {
            cx.count(Counter::TcpExtTCPFromZeroWindowAdv);
        }
        // Without scaling the header says less than what is offered.
        (window.min(65_535 << self.opts.rcv_wscale) >> self.opts.rcv_wscale) as u16
    }

    /// [`TcpSock::grow_window`] for a segment that is worth it.
    #[inline(always)]
    pub(super) fn grow_window_for(&mut self, cx: &Cx, len: u32, truesize: u32) {
        if len >= 128 {
            self.grow_window(cx, len, truesize);
        }
    }

    /// Raises the ceiling of the window for a segment of `len` bytes charged `truesize` (`tcp_grow_window`).
    #[inline]
    pub fn grow_window(&mut self, cx: &Cx, len: u32, truesize: u32) {
        let rx = &self.rx;
        let room = i64::from(rx.window_clamp.min(rx.free_space())) - i64::from(rx.rcv_ssthresh);
        if room <= 0 || rx.pressure {
            if rx.pressure {
                self.adjust_ssthresh();
            }
            return;
        }
        let increment = if rx.win_from_space(i64::from(truesize)) <= len {
            2 * u32::from(self.tx.advmss)
        } else {
            self.growth_for_small(cx, len, truesize)
        };
        if increment > 0 {
            let increment = i64::from(increment.max(2 * len));
            self.rx.rcv_ssthresh += room.min(increment) as u32;
            self.ack.quick |= 1;
        }
    }

    /// Under memory pressure four segments must do (`tcp_adjust_rcv_ssthresh`).
    pub(super) fn adjust_ssthresh(&mut self) {
        self.rx.rcv_ssthresh = self.rx.rcv_ssthresh.min(4 * u32::from(self.tx.advmss));
    }

    /// The halving test for segments that waste memory (`__tcp_grow_window`): the more they waste, the smaller the
    /// ceiling up to which they may raise it.
    fn growth_for_small(&self, cx: &Cx, len: u32, truesize: u32) -> u32 {
        let rx = &self.rx;
        let mut cost = rx.win_from_space(i64::from(truesize)) / 2;
        let mut window = rx.win_from_space(i64::from(cx.net.sysctl.tcp_rmem.max)) / 2;
        while rx.rcv_ssthresh <= window {
            if cost <= len {
                return 2 * u32::from(self.ack.rcv_mss);
            }
            cost /= 2;
            window /= 2;
        }
        0
    }

    /// Learns the peer's segment size from a packet of `total` bytes that was cut, or came, in segments of `len`
    /// (`tcp_measure_rcv_mss`).
    #[inline]
    pub fn measure_rcv_mss(&mut self, len: u32, total: u32, header_len: u8, flags: TcpFlags, truesize: u32) {
        let previous = std::mem::take(&mut self.ack.last_seg_size);
        if len >= u32::from(self.ack.rcv_mss) {
            if len != u32::from(self.ack.rcv_mss) {
                self.measure_ratio(total, truesize);
            }
            self.ack.rcv_mss = len.min(u32::from(self.tx.advmss)) as u16;
            self.ack.pushed |= flags.psh() || flags.fin();
            return;
        }
        // A small segment may mean a small MSS: two of the same size in a row are believed, but of those that end something
        // (`TCP_REMNANT`).
        let with_header = len + u32::from(header_len);
        let plausible = with_header >= u32::from(MSS_DEFAULT) + 20
            || (with_header >= u32::from(MSS_MIN) + 20 && !flags.intersects(REMNANT));
        if plausible {
            // Options other than the usual ones count as payload.
            let usual = 20 + if self.opts.timestamps { u32::from(TSTAMP_ALIGNED) } else { 0 };
            self.ack.last_seg_size = (with_header - usual) as u16;
            if self.ack.last_seg_size == previous {
                self.ack.rcv_mss = previous;
                return;
            }
        }
        self.ack.pushed_twice |= self.ack.pushed;
        self.ack.pushed = true;
    }

    /// Payload per truesize, from a segment larger than any before; the clamp follows (`tcp_set_window_clamp`).
    fn measure_ratio(&mut self, len: u32, truesize: u32) {
        let ratio = ((u64::from(len) << 8) / u64::from(truesize.max(1))).clamp(1, 255) as u8;
        if ratio == self.rx.scaling_ratio {
            return;
        }
        self.rx.scaling_ratio = ratio;
        self.set_window_clamp(self.rx.full_space());
        self.rx.space = self.rx.space.min(self.rx.window_clamp);
    }

    /// Receiver-side round trip from a timestamp echo (`tcp_rcv_rtt_measure_ts`).
    #[inline]
    pub fn measure_rcv_rtt_ts(&mut self, now: Time, tsecr: u32, len: u32) {
        if tsecr == self.rx.rtt_last_tsecr {
            return;
        }
        self.rx.rtt_last_tsecr = tsecr;
        if len < u32::from(self.ack.rcv_mss) {
            return;
        }
        if let Some(elapsed_ms @ 1..) = self.echoed_after(now, tsecr) {
            self.rcv_rtt_sample(elapsed_ms * 1_000, true);
        }
    }

    /// Receiver-side round trip as the time in which one window arrives (`tcp_rcv_rtt_measure`).
    #[inline]
    pub fn measure_rcv_rtt(&mut self, now: Time) {
        if self.rx.rtt_time != Time::ZERO {
            if self.rx.rcv_nxt.before(self.rx.rtt_seq) {
                return;
            }
            let sample = ((now - self.rx.rtt_time) / 1_000).clamp(1, u64::from(u32::MAX >> 3)) as u32;
            self.rcv_rtt_sample(sample, false);
        }
        self.rx.rtt_seq = self.rx.rcv_nxt + self.rx.rcv_wnd;
        self.rx.rtt_time = now;
    }

    /// Seeks the smallest (`tcp_rcv_rtt_update`). A longer time counts only where smoothing is asked for and the reader
    /// has kept up: a slow reader would only see its own slowness.
    fn rcv_rtt_sample(&mut self, sample_us: u32, smooth: bool) {
        let old = self.rx.rtt_us8;
        let sample8 = sample_us.saturating_mul(8);
        self.rx.rtt_us8 = if old == 0 || sample8 < old {
            sample8
        } else if smooth && self.rx.rcv_nxt == self.rx.copied_seq {
            (old - old / 8).saturating_add(sample_us)
        } else {
            old
        };
    }

    /// Auto-tuning as the application copies (`tcp_rcv_space_adjust`): once per receiver round trip, the buffer grows
    /// to twice what the reader took in it, and more if that is growing.
    pub fn rcv_space_adjust(&mut self, now: Time, rmem_max: u32) {
        let elapsed_us = (now - self.rx.space_time) / 1_000;
        if self.rx.rtt_us8 == 0 || elapsed_us < u64::from(self.rx.rtt_us8 >> 3) {
            return;
        }
        let copied = (self.rx.copied_seq - self.rx.space_seq).max(0) as u32;
        let queued = (self.rx.rcv_nxt - self.rx.copied_seq).max(0) as u32;
        let copied = copied.saturating_sub(queued);
        if copied > self.rx.space && !self.rx.pressure {
            self.grow_rcvbuf(copied, rmem_max);
        }
        self.rx.space_seq = self.rx.copied_seq;
        self.rx.space_time = now;
    }

    /// Bytes worth a wake-up of the reader (`SO_RCVLOWAT`, `tcp_set_rcvlowat`): the buffer grows to hold them, and whoever
    /// waits is woken if they are there.
    pub fn set_rcvlowat(&mut self, bytes: u32, rmem_max: u32) {
        self.rx.lowat = bytes.min(rmem_max / 2).max(1);
        let space =
            ((u64::from(self.rx.lowat) << 8) / u64::from(self.rx.scaling_ratio.max(1))).min(u64::from(rmem_max));
        if space as u32 > self.rx.rcvbuf && !self.rx.rcvbuf_locked {
            self.rx.rcvbuf = space as u32;
            self.rx.window_clamp = self.rx.window_clamp.max(self.rx.lowat);
        }
        self.effects.wake_recv |= self.user.wait_recv && self.has_readable(0);
    }

    /// Out-of-order data waits in the buffer: it must have room beside what the reader takes in a round trip.
    pub(super) fn make_room_for_ofo(&mut self, cx: &Cx) {
        let rmem_max = cx.net.sysctl.tcp_rmem.max;
        if cx.net.sysctl.tcp_moderate_rcvbuf && self.user.accepted && !self.user.orphan && !self.rx.pressure {
            self.grow_rcvbuf(self.rx.space, rmem_max);
        }
    }

    /// Twice what the reader took in a round trip, and more if that is growing, and the span of what is out of order
    /// (`tcp_rcvbuf_grow`).
    fn grow_rcvbuf(&mut self, copied: u32, rmem_max: u32) {
        let old = u64::from(self.rx.space.max(1));
        self.rx.space = copied;
        let copied = u64::from(copied);
        let mut window = 2 * copied;
        window += 2 * (window * copied.saturating_sub(old) / old);
        if let Some(last) = self.rx.ofo.last() {
            window += (SeqNum(self.rx.ofo[last].end_seq) - self.rx.rcv_nxt).max(0) as u64;
        }
        let space = (window << 8) / u64::from(self.rx.scaling_ratio.max(1));
        let rcvbuf = space.min(u64::from(rmem_max)) as u32;
        if rcvbuf > self.rx.rcvbuf && !self.rx.rcvbuf_locked {
            self.rx.rcvbuf = rcvbuf;
            self.rx.window_clamp = self.rx.win_from_space(i64::from(rcvbuf));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_window_is_what_the_kernel_offers() {
        // tcp_rmem 4096 131072 33554432: half of 131,072 in whole segments, scale 10 for 16 MiB of window.
        assert_eq!(select_initial_window(65_536, 1_460, true, 33_554_432, None), (64_240, 65_535 << 10, 10));
        assert_eq!(select_initial_window(65_536, 1_448, true, 33_554_432, None).0, 65_160);
        assert_eq!(select_initial_window(65_536, 1_460, true, 6_291_456, None).2, 7);
        assert_eq!(select_initial_window(65_536, 1_460, false, 33_554_432, None).2, 0);
        assert_eq!(select_initial_window(100, 1_460, true, 100, None), (100, 65_535, 0));
        // SO_RCVBUF 2000: half of 4,000 in whole segments, and no scale for a buffer that stays so small.
        assert_eq!(select_initial_window(2_000, 1_460, true, 33_554_432, Some(2_000)), (1_460, 2_000, 0));
    }

    #[test]
    fn alignment_rounds_up_and_never_overflows() {
        assert_eq!(align_up(1, 7), 128);
        assert_eq!(align_up(128, 7), 128);
        assert_eq!(align_up(u32::MAX, 3), 0xffff_fff8);
    }
}
