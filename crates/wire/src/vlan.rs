//! The VLAN tag (IEEE 802.1Q): two bytes that say that it is one, two bytes of control information, between the source
//! address and the EtherType of a frame.

use crate::EtherType;

/// A VLAN tag, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// The EtherType that says that a tag follows: [`EtherType::VLAN`] or [`EtherType::QINQ`] (the tag protocol
    /// identifier).
    pub tpid: u16,
    /// Tag control information: three bits of priority, one bit for frames that may be dropped first, twelve of the id.
    pub tci: u16,
}

impl VlanTag {
    /// Bytes of a tag.
    pub const LEN: usize = 4;

    /// The VLAN, 0 to 4,095. 0 says nothing but a priority; 4,095 is reserved.
    #[inline]
    pub const fn id(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The priority (PCP), 0 to 7.
    #[inline]
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }
}

impl EtherType {
    /// Whether this EtherType says that a tag follows (kernel: `eth_type_vlan`).
    #[inline(always)]
    pub const fn is_tag(ethertype: u16) -> bool {
        ethertype == EtherType::VLAN || ethertype == EtherType::QINQ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_information_has_three_parts() {
        let tag = VlanTag { tpid: EtherType::VLAN, tci: 0xb005 };
        assert_eq!((tag.priority(), tag.id()), (5, 5), "the bit between them is neither's");
        assert!(EtherType::is_tag(0x8100) && EtherType::is_tag(0x88a8));
        assert!(!EtherType::is_tag(0x0800) && !EtherType::is_tag(0x9100));
    }
}
