//! What a network card lets in: the address filter that the stack sets (`ndo_set_rx_mode`).
//!
//! To whom a frame is addressed (`pkt_type`) does not depend on it: promiscuous mode decides whether a card hands up frames
//! to other stations, not whose they are.

use rxpath_wire::MacAddr;

/// The filter of a card (`dev->flags`, `dev->uc`, `dev->mc`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RxMode {
    /// Everything comes in (`IFF_PROMISC`).
    pub promisc: bool,
    /// Frames to all groups come in (`IFF_ALLMULTI`).
    pub allmulti: bool,
    /// The card's own address, and those of VLAN devices on it.
    pub unicast: Vec<MacAddr>,
    /// Groups that were joined.
    pub multicast: Vec<MacAddr>,
}

impl RxMode {
    /// Whether a frame to this address comes in.
    pub fn lets_in(&self, dst: MacAddr) -> bool {
        if self.promisc || dst.is_broadcast() {
            return true;
        }
        if dst.is_multicast() { self.allmulti || self.multicast.contains(&dst) } else { self.unicast.contains(&dst) }
    }
}

/// How many want all frames of an interface, and how many those to all groups (`dev->promiscuity`, `dev->allmulti`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promiscuity {
    /// All frames.
    pub promisc: u32,
    /// Frames to all groups.
    pub allmulti: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_lets_in_what_it_was_told() {
        let (own, other) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 9]));
        let [joined, foreign] = [[224, 0, 0, 1], [224, 0, 0, 251]].map(|group| MacAddr::of_group(group.into()));
        let all = [own, MacAddr::BROADCAST, joined, foreign, other];
        let plain = RxMode { unicast: vec![own], multicast: vec![joined], ..RxMode::default() };
        let lets_in = |mode: &RxMode| all.map(|dst| mode.lets_in(dst));
        assert_eq!(lets_in(&plain), [true, true, true, false, false]);
        assert_eq!(lets_in(&RxMode { allmulti: true, ..plain.clone() }), [true, true, true, true, false]);
        assert_eq!(lets_in(&RxMode { promisc: true, ..plain }), [true; 5]);
    }
}
