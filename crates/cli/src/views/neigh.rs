//! `rxpath neigh`.

use std::net::IpAddr;

use rxpath::Stack;
use rxpath::rxpath_core::neigh::NeighRow;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::out::Out;

/// A neighbour, by iproute2's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourRow {
    /// Its address.
    pub dst: IpAddr,
    /// The interface.
    pub dev: String,
    /// Its hardware address, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lladdr: Option<String>,
    /// Its state: one word.
    pub state: [String; 1],
}

/// All neighbours of a stack, by interface and address.
pub fn rows(stack: &Stack) -> Vec<NeighbourRow> {
    let net = stack.config();
    let name = |ifindex: u16| net.interface(ifindex).map_or_else(|| ifindex.to_string(), |found| found.name.clone());
    stack.core().neighbours().iter().map(|found| row(found, name(found.ifindex))).collect()
}

fn row(neighbour: &NeighRow, dev: String) -> NeighbourRow {
    NeighbourRow {
        dst: neighbour.addr.into(),
        dev,
        lladdr: neighbour.state.is_valid().then(|| neighbour.mac.to_string()),
        state: [neighbour.state.name().to_owned()],
    }
}

/// A line of `ip neigh`, which ends with a space.
fn line(row: &NeighbourRow) -> String {
    let lladdr = row.lladdr.as_ref().map(|mac| format!("lladdr {mac} ")).unwrap_or_default();
    let [state] = &row.state;
    format!("{} dev {} {lladdr}{state} ", row.dst, row.dev)
}

/// Prints them as iproute2 does.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, rows: &[NeighbourRow]) -> Result<(), Failure> {
    rows.iter().try_for_each(|row| out.line(line(row)))
}

#[cfg(test)]
mod tests {
    use rxpath::rxpath_core::neigh::Nud;
    use rxpath::rxpath_wire::{Addr, MacAddr};

    use super::*;
    use crate::out::tests::printed;

    /// As `ip neigh` of iproute2 6.1 showed such neighbours of Linux 6.18, in words and as JSON.
    #[test]
    fn lines_are_those_of_iproute2() {
        let found = |last: u8, state: Nud| {
            let addr = Addr::from_v4([10, 9, 0, last]);
            let mac = MacAddr([2, 0x72, 0x78, 1, 0, last]);
            row(&NeighRow { ifindex: 1, addr, state, mac, pending: 0 }, "t0".to_owned())
        };
        let rows = [found(2, Nud::Stale), found(3, Nud::Incomplete), found(7, Nud::Permanent)];
        let text = printed(|out| print(out, &rows));
        let expected = "\
10.9.0.2 dev t0 lladdr 02:72:78:01:00:02 STALE \n\
10.9.0.3 dev t0 INCOMPLETE \n\
10.9.0.7 dev t0 lladdr 02:72:78:01:00:07 PERMANENT \n";
        assert_eq!(text, expected);
        let json = serde_json::to_string(&rows[..2]).expect("rows are JSON");
        let stale = r#"{"dst":"10.9.0.2","dev":"t0","lladdr":"02:72:78:01:00:02","state":["STALE"]}"#;
        assert_eq!(json, format!(r#"[{stale},{{"dst":"10.9.0.3","dev":"t0","state":["INCOMPLETE"]}}]"#));
    }
}
