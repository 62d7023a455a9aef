//! The way of a datagram, which may also go to a group or to all.

use rxpath_wire::Addr;

use super::fib::{self, AddrType};
use super::kind::RouteKind;
#[cfg(doc)]
use super::output;
use super::{Route, RouteError, output_by, source_for};
use crate::netns::{Interface, NetConfig};

/// To whom a way leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To one host.
    Unicast,
    /// To a group.
    Multicast,
    /// To all hosts of a link.
    Broadcast,
}

/// `ip_route_output_flow`: as [`output`], and for destinations that are no single host too. `ifindex` names the interface,
/// where the socket is bound to one or the destination is a group.
///
/// # Errors
/// As [`output`]; a group, and 255.255.255.255, need an interface: the one named, that of the source, or a route.
pub fn output_datagram(
    net: &NetConfig,
    dst: Addr,
    src: Option<Addr>,
    ifindex: Option<u16>,
) -> Result<(Route, Reach), RouteError> {
    let kind = net.fib.addr_type(dst);
    let reach = match kind {
        AddrType::Unicast | AddrType::Local | AddrType::Unspecified => {
            return output_by(net, dst, src, ifindex).map(|route| (route, Reach::Unicast));
        }
        AddrType::Multicast => Reach::Multicast,
        AddrType::Broadcast => Reach::Broadcast,
    };
    if let Some(src) = src.filter(|src| net.fib.addr_type(*src) != AddrType::Local) {
        return Err(RouteError::SourceNotLocal(src));
    }
    let interface = way_to_all(net, dst, src, ifindex).ok_or(RouteError::NetUnreachable(dst))?;
    let src = src.or_else(|| source_for(interface, dst)).ok_or(RouteError::NoSource(dst))?;
    let route = Route {
        nexthop: dst,
        src,
        generation: net.generation,
        mac: None,
        ifindex: interface.ifindex,
        mtu: interface.mtu,
        features: interface.features,
        confirm: false,
        bound: ifindex.is_some(),
    };
    Ok((route, reach))
}

/// The interface by which a group or all hosts of a link are reached.
fn way_to_all(net: &NetConfig, dst: Addr, src: Option<Addr>, ifindex: Option<u16>) -> Option<&Interface> {
    if let Some(ifindex) = ifindex {
        return net.interface(ifindex);
    }
    // The broadcast address of a subnet names its link; what is for no link in particular goes by that of its source.
    let limited = dst == fib::LIMITED_BROADCAST || dst.is_multicast();
    match src.filter(|_| limited) {
        Some(src) => net.interface_of(src),
        None => {
            let entry = net.fib.lookup(dst)?;
            matches!(entry.kind, RouteKind::Unicast | RouteKind::Broadcast).then(|| net.interface(entry.ifindex))?
        }
    }
}
