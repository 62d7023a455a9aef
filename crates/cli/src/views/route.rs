//! `rxpath route`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use rxpath::Stack;
use rxpath::rxpath_core::route::{FibRoute, Hop, RouteKind};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::out::Out;

/// A route, by iproute2's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// `unicast`, `local`, `broadcast`, `blackhole`, `unreachable` or `prohibit`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `default`, an address or a network.
    pub dst: String,
    /// The gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The interface.
    pub dev: Option<String>,
    /// `local` or `main`.
    pub table: String,
    /// `kernel` if it follows from an address of an interface, else `boot`.
    pub protocol: String,
    /// `global`, `link` or `host`.
    pub scope: String,
    /// The source address that is asked for.
    pub prefsrc: Option<Ipv4Addr>,
    /// Preference, lower first.
    pub metric: u32,
    /// The gateway is on the link whatever the addresses say.
    pub onlink: bool,
}

/// All routes of a stack, in the kernel's order.
pub fn rows(stack: &Stack) -> Vec<RouteRow> {
    let net = stack.config();
    let name = |ifindex: u16| net.interface(ifindex).map(|interface| interface.name.clone());
    net.fib.routes().iter().map(|route| row(route, name(route.hop.ifindex))).collect()
}

fn row(route: &FibRoute, dev: Option<String>) -> RouteRow {
    let FibRoute { to, prefix, hop } = *route;
    let addr = |word: u32| (word != 0).then(|| Ipv4Addr::from(word));
    RouteRow {
        kind: hop.kind.name().to_owned(),
        dst: match prefix {
            0 => "default".to_owned(),
            32 => to.to_string(),
            _ => format!("{to}/{prefix}"),
        },
        gateway: addr(hop.via),
        dev,
        table: if hop.local_table { "local" } else { "main" }.to_owned(),
        protocol: if hop.of_kernel { "kernel" } else { "boot" }.to_owned(),
        scope: scope(&hop).to_owned(),
        prefsrc: addr(hop.src),
        metric: hop.metric,
        onlink: hop.onlink,
    }
}

fn scope(hop: &Hop) -> &'static str {
    match hop.kind {
        RouteKind::Local => "host",
        RouteKind::Broadcast => "link",
        RouteKind::Unicast if hop.via == 0 => "link",
        _ => "global",
    }
}

/// A line of `ip route`, which ends with a space.
fn line(row: &RouteRow) -> String {
    let mut line = String::new();
    if row.kind != "unicast" {
        let _ = write!(line, "{} ", row.kind);
    }
    let _ = write!(line, "{} ", row.dst);
    if let Some(gateway) = row.gateway {
        let _ = write!(line, "via {gateway} ");
    }
    if let Some(dev) = &row.dev {
        let _ = write!(line, "dev {dev} ");
    }
    if row.protocol != "boot" {
        let _ = write!(line, "proto {} ", row.protocol);
    }
    if row.scope != "global" {
        let _ = write!(line, "scope {} ", row.scope);
    }
    if let Some(src) = row.prefsrc {
        let _ = write!(line, "src {src} ");
    }
    if row.metric != 0 {
        let _ = write!(line, "metric {} ", row.metric);
    }
    if row.onlink {
        line.push_str("onlink ");
    }
    line
}

/// Prints them as iproute2 does.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, rows: &[RouteRow]) -> Result<(), Failure> {
    rows.iter().try_for_each(|row| out.line(line(row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::tests::printed;

    fn hop(kind: RouteKind) -> Hop {
        Hop { kind, ifindex: 1, via: 0, src: 0, metric: 0, local_table: false, of_kernel: false, onlink: false }
    }

    /// As `ip route` of iproute2 6.1 showed the same routes of Linux 6.18.
    #[test]
    fn lines_are_those_of_iproute2() {
        let word = |octets: [u8; 4]| u32::from_be_bytes(octets);
        let route = |to: [u8; 4], prefix, hop| FibRoute { to: to.into(), prefix, hop };
        let unicast = hop(RouteKind::Unicast);
        let gateway = word([10, 0, 0, 254]);
        let connected = Hop { of_kernel: true, src: word([10, 0, 0, 1]), ..unicast };
        let own = |kind| Hop { local_table: true, kind, ..connected };
        let nowhere = |kind, metric| Hop { ifindex: 0, metric, ..hop(kind) };
        let rows: Vec<RouteRow> = [
            route([0; 4], 0, Hop { via: gateway, ..unicast }),
            route([0; 4], 0, Hop { via: gateway, metric: 100, ..unicast }),
            route([8, 0, 0, 0], 24, unicast),
            route([8, 0, 0, 0], 8, Hop { via: gateway, src: word([192, 168, 0, 1]), ..unicast }),
            route([8, 8, 8, 8], 32, Hop { via: gateway, ..unicast }),
            route([10, 0, 0, 0], 24, connected),
            route([20, 0, 0, 0], 8, nowhere(RouteKind::Blackhole, 0)),
            route([22, 0, 0, 0], 8, nowhere(RouteKind::Prohibit, 7)),
            route([23, 0, 0, 0], 8, Hop { via: word([9, 9, 9, 9]), onlink: true, ..unicast }),
            route([10, 0, 0, 1], 32, own(RouteKind::Local)),
            route([10, 0, 0, 255], 32, own(RouteKind::Broadcast)),
            route([198, 51, 0, 0], 16, Hop { local_table: true, ..hop(RouteKind::Local) }),
        ]
        .iter()
        .map(|route| row(route, (route.hop.ifindex == 1).then(|| "d0".to_owned())))
        .collect();
        let expected = "default via 10.0.0.254 dev d0 \n\
                        default via 10.0.0.254 dev d0 metric 100 \n\
                        8.0.0.0/24 dev d0 scope link \n\
                        8.0.0.0/8 via 10.0.0.254 dev d0 src 192.168.0.1 \n\
                        8.8.8.8 via 10.0.0.254 dev d0 \n\
                        10.0.0.0/24 dev d0 proto kernel scope link src 10.0.0.1 \n\
                        blackhole 20.0.0.0/8 \n\
                        prohibit 22.0.0.0/8 metric 7 \n\
                        23.0.0.0/8 via 9.9.9.9 dev d0 onlink \n\
                        local 10.0.0.1 dev d0 proto kernel scope host src 10.0.0.1 \n\
                        broadcast 10.0.0.255 dev d0 proto kernel scope link src 10.0.0.1 \n\
                        local 198.51.0.0/16 dev d0 scope host \n";
        assert_eq!(printed(|out| print(out, &rows)), expected);
    }
}
