//! The frame as a program sees it (`struct xdp_md`).

use rxpath_mem::Skb;

/// A frame from its link header on, for reading and writing.
pub struct Frame<'a> {
    skb: &'a mut Skb,
    ifindex: u16,
}

impl<'a> Frame<'a> {
    pub(super) fn new(skb: &'a mut Skb, ifindex: u16) -> Frame<'a> {
        Frame { skb, ifindex }
    }

    /// The bytes that lie together: all of them unless [`Frame::len`] says more.
    pub fn data(&self) -> &[u8] {
        self.skb.data()
    }

    /// The bytes that lie together, for writing. Checksums are the program's business.
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.skb.data_mut()
    }

    /// Bytes of the whole frame (`bpf_xdp_get_buff_len`).
    pub fn len(&self) -> usize {
        self.skb.len()
    }

    /// True if there is no byte.
    pub fn is_empty(&self) -> bool {
        self.skb.is_empty()
    }

    /// Index of the interface that it came by.
    pub fn ifindex(&self) -> u16 {
        self.ifindex
    }

    /// The device's flow hash; 0 for none.
    pub fn hash(&self) -> u32 {
        self.skb.hash
    }

    /// What a program noted of the frame before, 0 at first (`data_meta`).
    pub fn metadata(&self) -> u64 {
        self.skb.metadata()
    }

    /// Notes something of the frame for those who see it later: the program in the other door, that of the Cpu or of the
    /// device that it is redirected to, netfilter's hooks ([`rxpath_mem::Skb::metadata`]). Receive offload merges only
    /// frames with the same. (In the kernel these are bytes in front of the frame, `bpf_xdp_adjust_meta`; here they are
    /// eight, and lie beside it.)
    pub fn set_metadata(&mut self, word: u64) {
        self.skb.set_metadata(word);
    }

    /// Moves the beginning by `delta` bytes, outwards if it is negative; what is added has any contents
    /// (`bpf_xdp_adjust_head`). False, and nothing done, if there is no room or the frame would be shorter than a link
    /// header.
    #[must_use = "false means that nothing was moved"]
    pub fn adjust_head(&mut self, delta: isize) -> bool {
        let n = delta.unsigned_abs();
        if delta < 0 {
            if n > self.skb.headroom() {
                return false;
            }
            self.skb.push(n);
            return true;
        }
        let left = self.skb.headlen().checked_sub(n);
        left.is_some_and(|left| left >= rxpath_wire::EthernetHeader::LEN) && self.skb.pull(n)
    }

    /// Moves the end by `delta` bytes, inwards if it is negative; what is added is zero (`bpf_xdp_adjust_tail`). False, and
    /// nothing done, if there is no room, the frame does not lie in one piece, or would be shorter than a link header.
    #[must_use = "false means that nothing was moved"]
    pub fn adjust_tail(&mut self, delta: isize) -> bool {
        let n = delta.unsigned_abs();
        if self.skb.data_len() > 0 {
            return false;
        }
        if delta > 0 {
            if n > self.skb.tailroom() {
                return false;
            }
            self.skb.put(n).fill(0);
            return true;
        }
        let Some(left) = self.skb.len().checked_sub(n).filter(|left| *left >= rxpath_wire::EthernetHeader::LEN) else {
            return false;
        };
        self.skb.trim(left);
        true
    }
}
