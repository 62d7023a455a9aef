//! A parsed TCP segment.

use rxpath_mem::Skb;
use rxpath_wire::{Ipv4Header, SeqNum, TcpFlags, TcpHeader, TcpOptions, Tuple};

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
        let (header, _) = TcpHeader::parse(skb.transport_header())?;
        Some(Segment::read(header, skb.len() as u32))
    }

    /// Reads a validated header that `len` bytes of payload belong to.
    #[inline(always)]
    pub fn read(header: &TcpHeader, len: u32) -> Segment {
        let seq = header.seq();
        let word = header.offset_flags_window();
        let flags = TcpFlags((word >> 16) as u8);
        Segment {
            seq,
            end_seq: seq + (len + flags.seq_len()),
            ack: header.ack(),
            window: word as u16,
            flags,
            header_len: (word >> 28 << 2) as u8,
            len,
            word,
        }
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

/// A validated segment and whom it is for.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    /// The header.
    pub seg: Segment,
    /// Addresses and ports, ours first.
    pub tuple: Tuple,
}

impl Incoming {
    /// Reads the headers in front of the payload of a packet that [`v4_rcv`](super::v4_rcv) has passed.
    #[inline(always)]
    pub(super) fn of(skb: &Skb) -> Option<Incoming> {
        let (tcp, _) = TcpHeader::parse(skb.transport_header())?;
        let (ip, _) = Ipv4Header::parse(skb.network_header())?;
        let tuple = Tuple {
            local: ip.dst_addr(),
            remote: ip.src_addr(),
            local_port: tcp.dst_port(),
            remote_port: tcp.src_port(),
        };
        Some(Incoming { seg: Segment::read(tcp, skb.len() as u32), tuple })
    }
}
