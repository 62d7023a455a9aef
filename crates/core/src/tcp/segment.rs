//! A parsed TCP segment.

use rxpath_mem::Skb;
use rxpath_wire::{SeqNum, TcpFlags, TcpHeader, TcpOptions};

/// What the header of a segment says, in host order. The options stay in the packet until a path needs them.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Sequence number of the first byte (or of the SYN).
    pub seq: SeqNum,
    /// Sequence number behind the last byte, SYN and FIN counted.
    pub end_seq: SeqNum,
    /// Acknowledgement number; meaningless without ACK.
    pub ack: SeqNum,
    /// Window as it stands in the header, unscaled.
    pub window: u16,
    /// Control bits.
    pub flags: TcpFlags,
    /// Header length in bytes, 20 to 60.
    pub header_len: u8,
    /// Payload bytes.
    pub len: u32,
    /// Offset, flags and window as one word, in host order: what header prediction compares.
    pub word: u32,
}

impl Segment {
    /// Reads the header in front of the payload of `skb`: `transport_off` points at it and it has been validated.
    #[inline(always)]
    pub fn of(skb: &Skb) -> Option<Segment> {
        let bytes = skb.transport_header();
        let (header, _) = TcpHeader::parse(bytes)?;
        let seq = header.seq();
        let flags = header.flags();
        let len = skb.len() as u32;
        let control = u32::from(flags.contains(TcpFlags::SYN)) + u32::from(flags.contains(TcpFlags::FIN));
        let word = bytes.get(12..16).map_or(0, |word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        Some(Segment {
            seq,
            end_seq: seq + (len + control),
            ack: header.ack(),
            window: header.window(),
            flags,
            header_len: header.header_len() as u8,
            len,
            word,
        })
    }

    /// True if all of `flags` are set.
    #[inline(always)]
    pub fn has(&self, flags: TcpFlags) -> bool {
        self.flags.contains(flags)
    }

    /// The option bytes of the segment in `skb`.
    #[inline]
    pub fn option_bytes<'a>(&self, skb: &'a Skb) -> &'a [u8] {
        skb.transport_header().get(20..usize::from(self.header_len)).unwrap_or_default()
    }

    /// The options of the segment in `skb`.
    pub fn options(&self, skb: &Skb) -> TcpOptions {
        TcpOptions::parse(self.option_bytes(skb))
    }
}
