//! Sets of ports, in the kernel's form: `"8080,9148-9150"`.

use std::fmt::Write as _;

use super::{Form, Value};

/// A set of ports: ranges that lie apart, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Box<[(u16, u16)]>);

impl PortSet {
    /// True if the port is in it.
    pub fn contains(&self, port: u16) -> bool {
        let above = self.0.partition_point(|(low, _)| *low <= port);
        above > 0 && port <= self.0[above - 1].1
    }
}

impl Value for PortSet {
    const FORM: Form = Form::Ports;

    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        let mut ranges = Vec::with_capacity(numbers.len() / 2);
        for pair in numbers.chunks(2) {
            let &[low, high] = pair else { return None };
            let (low, high) = (u16::try_from(low).ok()?, u16::try_from(high).ok()?);
            if low > high {
                return None;
            }
            ranges.push((low, high));
        }
        ranges.sort_unstable();
        let mut apart: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match apart.last_mut() {
                Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
                _ => apart.push((low, high)),
            }
        }
        Some(PortSet(apart.into()))
    }

    fn show(&self) -> String {
        let mut text = String::new();
        for (low, high) in &self.0 {
            let comma = if text.is_empty() { "" } else { "," };
            let written = if low == high { write!(text, "{comma}{low}") } else { write!(text, "{comma}{low}-{high}") };
            debug_assert!(written.is_ok(), "a String takes all");
        }
        text
    }
}

/// The bounds of each range of a list, one after the other.
pub(super) fn numbers(value: &str) -> Result<Vec<u32>, String> {
    let mut numbers = Vec::new();
    for item in value.trim().split(',').filter(|item| !item.is_empty()) {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        let port = |text: &str| text.parse::<u16>().ok();
        match (port(low), port(high)) {
            (Some(low), Some(high)) if low <= high => numbers.extend([u32::from(low), u32::from(high)]),
            _ => return Err(format!("{item:?} is neither a port nor a range of ports")),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> PortSet {
        numbers(text).ok().and_then(|numbers| PortSet::from_numbers(&numbers)).expect("a set")
    }

    #[test]
    fn ranges_are_sorted_and_joined() {
        assert_eq!(set("").show(), "");
        assert_eq!(set("9150,8080,9000-9149,9100-9120,1\n").show(), "1,8080,9000-9150");
        assert_eq!(set("65535,65000-65534,0").show(), "0,65000-65535");
    }

    #[test]
    fn what_is_in_is_in() {
        let set = set("10,20-22,65535");
        let inside: Vec<u16> = (0..=u16::MAX).filter(|port| set.contains(*port)).collect();
        assert_eq!(inside, [10, 20, 21, 22, 65_535]);
        assert!(!PortSet::default().contains(0));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["x", "1-", "-1", "2-1", "1;2", "65536", "1 2"] {
            assert!(numbers(bad).is_err(), "{bad}");
        }
    }
}
