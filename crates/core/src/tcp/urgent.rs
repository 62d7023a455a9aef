//! Urgent data (RFC 9293 section 3.8.5, as it is in use): one byte, and the mark at which it stood.
//!
//! The pointer is read as naming the byte behind the urgent one (RFC 793), unless `tcp_stdurg` is set. That byte is kept beside the
//! stream; reads stop at the mark and skip it, unless the application wants it inline. A newer mark replaces the one
//! before, whose byte then belongs to the stream again (RFC 6093 section 3.1: nobody should build on this).

use rxpath_mem::Skb;
use rxpath_trace::{EventKind, Holder};
use rxpath_wire::{SeqNum, TcpFlags, TcpHeader};

use super::{Segment, TcpSock};
use crate::cx::Cx;

/// What is known of the urgent byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Byte {
    /// There is none.
    #[default]
    None,
    /// It was announced and has not come (`TCP_URG_NOTYET`).
    Announced,
    /// Nor has it here, but something that begins so little behind it that the kernel would take a byte of its header for it:
    /// as there, it shows (`EPOLLPRI`).
    Shown,
    /// Here it is (`TCP_URG_VALID`).
    Here(u8),
    /// It was read (`TCP_URG_READ`).
    Read,
}

/// Urgent data of one direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Urgent {
    /// The byte (`urg_data`).
    byte: Byte,
    /// Where it stands in the stream (`urg_seq`).
    seq: SeqNum,
    /// It stays in the stream (`SO_OOBINLINE`).
    pub inline: bool,
}

/// Why there is no urgent byte to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoUrgent {
    /// None was announced, it was read, or it is in the stream (`EINVAL`).
    Invalid,
    /// It was announced and has not come (`EAGAIN`).
    Pending,
    /// The connection is over (`ENOTCONN`).
    NotConnected,
    /// Nothing more will come: a read of length 0.
    Eof,
}

impl Urgent {
    /// A mark stands somewhere ahead of the reader, or where he is: header prediction is off.
    #[inline(always)]
    pub fn is_set(&self) -> bool {
        self.byte != Byte::None
    }

    /// The byte was not read, and is here, or seems to be: `EPOLLPRI`.
    pub fn shows(&self) -> bool {
        matches!(self.byte, Byte::Here(_) | Byte::Shown)
    }

    /// Where the reader must stop or skip: the mark, if it is ahead of or at `copied_seq` and the byte is kept beside the
    /// stream.
    #[inline]
    pub(crate) fn mark(&self, copied_seq: SeqNum) -> Option<u32> {
        (self.is_set() && !copied_seq.after(self.seq)).then(|| (self.seq - copied_seq) as u32)
    }
}

/// The byte of a segment that stands so far behind its first one.
fn byte_at(skb: &Skb, seg: &Segment, at: i32) -> Option<u8> {
    let at = usize::try_from(at).ok()?;
    let mut byte = [0];
    (at < seg.len as usize && skb.copy_to(at, &mut byte) == 1).then_some(byte[0])
}

impl TcpSock {
    /// A segment that was accepted: it may move the mark, or bring the byte (`tcp_urg`).
    #[inline]
    pub(super) fn tcp_urg(&mut self, cx: &mut Cx, skb: &Skb, seg: &Segment) {
        if seg.has(TcpFlags::URG) {
            self.check_urg(cx, skb, seg);
        }
        if matches!(self.rx.urgent.byte, Byte::Announced | Byte::Shown) {
            let at = self.rx.urgent.seq - seg.seq - i32::from(seg.flags.syn());
            let before = self.rx.urgent.byte;
            if let Some(byte) = byte_at(skb, seg, at) {
                self.rx.urgent.byte = Byte::Here(byte);
            } else if at < 0 && i32::from(seg.header_len) + at >= 0 {
                self.rx.urgent.byte = Byte::Shown;
            }
            if self.rx.urgent.byte != before {
                self.data_ready(cx, true);
            }
        }
    }

    /// The segment says where urgent data ends (`tcp_check_urg`).
    #[cold]
    fn check_urg(&mut self, cx: &mut Cx, skb: &Skb, seg: &Segment) {
        let Some((header, _)) = TcpHeader::parse(skb.transport_header()) else { return };
        let behind = u16::from(!cx.net.sysctl.tcp_stdurg);
        let mark = seg.seq + u32::from(header.urgent().saturating_sub(behind));
        let rx = &mut self.rx;
        if rx.copied_seq.after(mark) || mark.before(rx.rcv_nxt) {
            return;
        }
        if rx.urgent.is_set() && !mark.after(rx.urgent.seq) {
            return;
        }
        // The last byte that could be read was the former urgent one: it is skipped now, as no read will.
        if rx.urgent.is_set() && !rx.urgent.inline && rx.urgent.seq == rx.copied_seq && rx.copied_seq != rx.rcv_nxt {
            rx.copied_seq += 1;
        }
        rx.urgent.byte = Byte::Announced;
        rx.urgent.seq = mark;
        self.end_skipped(cx);
        self.pred_flags = 0;
        // The notice that the kernel gives by SIGURG.
        self.data_ready(cx, true);
    }

    /// Ends packets of which nothing is left to be read although no read took their last byte: the urgent one, which was
    /// skipped.
    #[inline]
    pub(super) fn end_skipped(&mut self, cx: &mut Cx) {
        while self.rx.queue.front().is_some_and(|skb| SeqNum(skb.end_seq).at_or_before(self.rx.copied_seq)) {
            let Some(skb) = self.rx.queue.pop_front() else { return };
            self.rx.uncharge(skb.truesize);
            cx.release(Holder::ReceiveQueue);
            cx.ledger.delivered(1);
            cx.event(&skb, EventKind::Recv, 0, self.user.reads);
            cx.pool.free(skb);
        }
        // Where the byte should have been the peer's stream ended.
        if self.rx.fin && self.rx.copied_seq == self.rx.rcv_nxt {
            self.rx.forget_fin();
        }
    }

    /// Bytes that one read may take, of `wanted`: it stops at the mark, and one that begins there skips the urgent byte.
    #[cold]
    pub(crate) fn read_to_mark(&mut self, wanted: usize) -> usize {
        match self.rx.urgent.mark(self.rx.copied_seq) {
            Some(0) if !self.rx.urgent.inline && self.readable() > 0 => {
                self.rx.copied_seq += 1;
                self.passed_mark();
                wanted
            }
            Some(ahead @ 1..) => wanted.min(ahead as usize),
            _ => wanted,
        }
    }

    /// The reader has moved: behind the mark there is none any more, and header prediction may be on again.
    #[cold]
    pub(crate) fn passed_mark(&mut self) {
        if self.rx.urgent.is_set() && self.rx.copied_seq.after(self.rx.urgent.seq) {
            self.rx.urgent.byte = Byte::None;
            self.fast_path_check();
        }
    }

    /// The urgent byte (`MSG_OOB`, `tcp_recv_urg`); with `peek` it stays.
    ///
    /// # Errors
    /// There is none to be read.
    pub fn recv_urg(&mut self, peek: bool) -> Result<u8, NoUrgent> {
        match self.rx.urgent.byte {
            _ if self.rx.urgent.inline => Err(NoUrgent::Invalid),
            Byte::None | Byte::Read => Err(NoUrgent::Invalid),
            _ if self.state == super::State::Close && !self.user.done => Err(NoUrgent::NotConnected),
            Byte::Here(byte) => {
                if !peek {
                    self.rx.urgent.byte = Byte::Read;
                }
                Ok(byte)
            }
            Byte::Announced | Byte::Shown if self.state == super::State::Close || self.user.rcv_shutdown => {
                Err(NoUrgent::Eof)
            }
            Byte::Announced | Byte::Shown => Err(NoUrgent::Pending),
        }
    }

    /// True if the reader stands at the mark (`SIOCATMARK`).
    pub fn at_mark(&self) -> bool {
        self.rx.urgent.mark(self.rx.copied_seq) == Some(0)
    }

    /// Bytes that can be read up to the mark, or in all.
    pub fn readable_to_mark(&self) -> u32 {
        let readable = self.readable();
        match self.rx.urgent.mark(self.rx.copied_seq) {
            Some(ahead) if !self.rx.urgent.inline && ahead < readable => ahead,
            _ => readable,
        }
    }

    /// The urgent pointer of a segment at `seq`, if it has one: to the mark, or as far towards it as a pointer reaches.
    #[cold]
    pub(super) fn urgent_pointer(&self, seq: SeqNum, up: SeqNum) -> Option<u16> {
        if !up.after(seq) {
            return None;
        }
        Some(u16::try_from(up - seq).unwrap_or(u16::MAX))
    }
}
