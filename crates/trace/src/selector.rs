//! Which packets' lives are recorded.

use std::fmt;
use std::str::FromStr;

use crate::filter::{Filter, FilterError, Flow};
use crate::packet_id::PacketId;

/// Which packets' lives are recorded. Asked once in each packet's life, when it is taken from the ring or made.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Selector {
    /// None; the path then pays one test of a bool.
    #[default]
    Off,
    /// All.
    All,
    /// One in so many of each source, by the packet's count there, so that runs can be repeated. 0 is none, 1 is all.
    OneIn(u64),
    /// Those that the filter matches.
    Filter(Filter),
}

impl Selector {
    /// True if it can select nothing.
    pub fn is_off(&self) -> bool {
        matches!(self, Selector::Off | Selector::OneIn(0))
    }

    /// True if the life of packet `id` is to be recorded. `flow` reads the packet's headers and is called only if the
    /// answer depends on them; for a frame without addresses it returns what it has (see [`Flow`]).
    #[inline]
    pub fn selects(&self, id: PacketId, flow: impl FnOnce() -> Flow) -> bool {
        match self {
            Selector::Off => false,
            Selector::All => true,
            Selector::OneIn(n) => id.count().checked_rem(*n) == Some(0),
            Selector::Filter(filter) => filter.matches(&flow()),
        }
    }
}

impl FromStr for Selector {
    type Err = FilterError;

    /// Reads `off`, `all`, `1/100` (one in a hundred), or a filter.
    fn from_str(text: &str) -> Result<Selector, FilterError> {
        match text.trim() {
            "off" => Ok(Selector::Off),
            "all" => Ok(Selector::All),
            trimmed => match trimmed.strip_prefix("1/").and_then(|n| n.parse().ok()) {
                Some(n) => Ok(Selector::OneIn(n)),
                None => text.parse().map(Selector::Filter),
            },
        }
    }
}

impl fmt::Display for Selector {
    /// The form that [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Off => f.write_str("off"),
            Selector::All => f.write_str("all"),
            Selector::OneIn(n) => write!(f, "1/{n}"),
            Selector::Filter(filter) => filter.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(selector: &Selector, count: u64) -> bool {
        selector.selects(PacketId::of_ring(3, count), || panic!("the headers need not be read"))
    }

    #[test]
    fn off_all_and_one_in_n_never_read_the_headers() {
        assert!(!selected(&Selector::Off, 1));
        assert!(selected(&Selector::All, 1));
        let picked: Vec<u64> = (1..=10).filter(|&n| selected(&Selector::OneIn(4), n)).collect();
        assert_eq!(picked, [4, 8]);
        assert!(!selected(&Selector::OneIn(0), 8));
        assert!(selected(&Selector::OneIn(1), 8));
    }

    #[test]
    fn reads_what_it_shows() {
        for text in ["off", "all", "1/100", "tcp and dst port 80"] {
            let selector: Selector = text.parse().expect(text);
            assert_eq!(selector.to_string(), text);
        }
        assert!("1/x".parse::<Selector>().is_err());
        assert!(Selector::OneIn(0).is_off() && Selector::Off.is_off() && !Selector::All.is_off());
    }

    #[test]
    fn a_filter_asks_for_the_flow() {
        let selector: Selector = "host 10.0.0.1".parse().expect("a filter");
        let flow = Flow { src: [10, 0, 0, 1].into(), ethertype: 0x0800, ..Flow::default() };
        assert!(selector.selects(PacketId::of_ring(0, 1), || flow));
        assert!(!selector.selects(PacketId::of_ring(0, 2), Flow::default));
    }
}
