//! The frame that comes next: what changes from segment to segment of a held packet.

use rxpath_wire::SeqNum;

use crate::expect::{FIXED, Ident, LONGEST, TcpSum, at, be32};

/// The frame that comes next, as far as it is known. Its other headers are those of the first segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    /// Its length. 0: none is expected.
    pub frame_len: u32,
    /// Its sequence number.
    pub seq: SeqNum,
    /// Its identification.
    pub id: u16,
    /// 0 if all segments carry the same identification, 1 if they count.
    pub id_step: u16,
    /// The device's hash, which may be 0.
    pub hash: u32,
    /// Over its headers.
    pub sum: TcpSum,
}

impl Next {
    /// The next segment begins at `seq`, and its identification is one more than `id`. Nothing is known of its headers.
    pub fn counting(seq: SeqNum, id: u16, hash: u32) -> Next {
        Next { frame_len: 0, seq, id: id.wrapping_add(1), id_step: 1, hash, sum: TcpSum::default() }
    }

    /// Its headers are as these, which start at the Ethernet header, and `payload` bytes follow.
    pub fn set_headers(&mut self, headers: &[u8; LONGEST], header_len: usize, payload: u32) {
        self.frame_len = header_len as u32 + payload;
        self.sum = TcpSum::of(headers, header_len, payload);
    }

    /// Whether the fields of `frame` that change from segment to segment are those that come next, the IPv4 checksum
    /// among them. `ident`: of the segment that comes next. The others are for [`crate::expect::pattern`] to compare.
    #[inline(always)]
    pub fn follows(&self, ident: Ident, frame: &[u8; FIXED]) -> bool {
        be32(frame, at::SEQ) == self.seq.0 && Ident::of(frame) == ident
    }

    /// Moves on by one segment of `len` payload bytes.
    #[inline(always)]
    pub fn advance(&mut self, len: u32) {
        self.seq += len;
        self.id = self.id.wrapping_add(self.id_step);
    }
}
