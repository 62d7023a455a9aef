//! From `host.toml` to a running stack, and the kernel's end of its TAPs.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, anyhow, bail};
use rxpath::config::{Driver, FaultsConfig, HostConfig, InterfaceConfig};
use rxpath::rxpath_mem::PoolConfig;
use rxpath::{Device, Interface, Stack};
use rxpath_sim::{Faults, Faulty};

use crate::args::KernelAddress;
use crate::failure::Failure;

/// Slots of a Cpu's pool beyond twice those of its rings: what sockets hold while rings stay full.
const SPARE_SLOTS: usize = 2_048;
/// Events of lives that may wait to be collected, for each Cpu: some 10 MB.
const LIFE_CAPACITY: usize = 1 << 18;

/// The kernel's end of a TAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEnd {
    /// The interface.
    pub name: String,
    /// Its address, if it was given one.
    pub address: Option<KernelAddress>,
}

/// Which addresses the kernel's ends of TAPs get.
#[derive(Clone, Copy, Debug)]
pub struct KernelEnds {
    /// The first TAP's.
    pub first: Option<KernelAddress>,
    /// All others', and the first's if it has none: one of their networks. Else none.
    pub choose: bool,
}

/// Makes the stack, its devices, and the kernel's ends.
///
/// # Errors
/// The configuration asks for what cannot be (exit code 2); the system refuses (1).
pub fn open(config: &HostConfig, ends: KernelEnds) -> Result<(Stack, Vec<KernelEnd>), Failure> {
    refuse_what_has_no_other_end(config)?;
    let mut builder = Stack::builder()
        .cpus(config.stack.cpus)
        .sysctls(config.sysctls.clone())
        .pool(pool(config))
        .life_capacity(LIFE_CAPACITY)
        .lives(config.life.select.clone());
    if let Some(seed) = config.stack.seed {
        builder = builder.seed(seed);
    }
    let mut kernel_ends = Vec::new();
    for (number, interface) in config.interfaces.iter().enumerate() {
        let chosen = ends.first.filter(|_| number == 0);
        let chosen = match chosen {
            None if ends.choose => Some(neighbour(interface, config)?),
            chosen => chosen,
        };
        let (device, end) = tap::open(interface, chosen)?;
        kernel_ends.push(end);
        let seed = config.stack.seed.unwrap_or_default().wrapping_add(number as u64);
        let device = with_faults(device, &interface.faults, seed);
        let opened = Interface::boxed(device)
            .gro(interface.gro)
            .promisc(interface.promisc)
            .ring(usize::from(interface.ring))
            .moderation(interface.rx_usecs, interface.rx_frames);
        builder = builder.interface(interface.addresses.iter().fold(opened, |opened, cidr| opened.with_address(*cidr)));
    }
    for vlan in &config.vlans {
        builder = builder.vlan(vlan.device());
    }
    for route in config.route_specs() {
        builder = builder.route(route);
    }
    for neighbour in config.neighbour_specs() {
        builder = builder.neighbour(neighbour);
    }
    for (ifindex, addr) in config.proxies() {
        builder = builder.proxy_neighbour(ifindex, addr);
    }
    let stack = builder.build().context("starting the stack")?;
    Ok((stack, kernel_ends))
}

/// An in-memory cable has its other end in the same process, where `serve` has nobody; a capture answers nobody.
fn refuse_what_has_no_other_end(config: &HostConfig) -> Result<(), Failure> {
    for interface in &config.interfaces {
        let what = match interface.driver {
            Driver::Tap => continue,
            Driver::Wire => "\"wire\" has nobody at its other end in a process of its own",
            Driver::Pcap => "\"pcap\" plays a capture, which `rxpath replay` does",
        };
        return Err(Failure::Usage(format!(
            "interface {}: driver {what}; use driver = \"tap\" (it needs no rights with --in-namespace)",
            interface.name
        )));
    }
    Ok(())
}

/// Room for all rings of a Cpu twice, and for what sockets hold.
fn pool(config: &HostConfig) -> PoolConfig {
    let cpus = usize::from(config.stack.cpus);
    let slots =
        |interface: &InterfaceConfig| usize::from(interface.queues).div_ceil(cpus) * usize::from(interface.ring);
    let rings: usize = config.interfaces.iter().map(slots).sum();
    let least = PoolConfig::default();
    PoolConfig { slots: least.slots.max(2 * rings + SPARE_SLOTS), ..least }
}

fn with_faults(device: Box<dyn Device>, config: &FaultsConfig, seed: u64) -> Box<dyn Device> {
    if config.is_none() {
        return device;
    }
    let &FaultsConfig { loss, duplicate, reorder, corrupt, delay_ms, rate } = config;
    let delay = std::time::Duration::from_millis(u64::from(delay_ms));
    let rate = (rate > 0).then_some(rate);
    Box::new(Faulty::new(device, Faults { loss, duplicate, reorder, corrupt, delay: delay..=delay, rate }, seed))
}

/// An address for the kernel's end: the gateway that a route names on that interface, else the highest of the
/// interface's network that is nobody's.
fn neighbour(interface: &InterfaceConfig, config: &HostConfig) -> anyhow::Result<KernelAddress> {
    let name = &interface.name;
    let Some(cidr) = interface.addresses.first() else {
        bail!("interface {name} has no address, so none can be chosen for the kernel's end: give it one in host.toml");
    };
    let (IpAddr::V4(_), IpAddr::V4(network)) = (cidr.addr(), cidr.network().addr()) else {
        bail!("interface {name}: {cidr} is IPv6, which this stack does not speak");
    };
    let gateways =
        config.routes.iter().filter(|route| route.dev.as_deref() == Some(name.as_str())).filter_map(|route| route.via);
    let gateway = gateways.filter(|via| cidr.contains(*via)).find_map(|via| match via {
        IpAddr::V4(via) => Some(via),
        IpAddr::V6(_) => None,
    });
    let free = |addr: &Ipv4Addr| !interface.addresses.iter().any(|cidr| cidr.addr() == IpAddr::V4(*addr));
    let addr = gateway.or_else(|| hosts_downwards(network, cidr.prefix()).find(free));
    let addr = addr.ok_or_else(|| {
        anyhow!("interface {name}: {cidr} has no second address for the kernel's end; give one with --kernel-address")
    })?;
    Ok(KernelAddress { addr, prefix: cidr.prefix() })
}

/// The addresses that hosts of a network may have, the highest first.
fn hosts_downwards(network: Ipv4Addr, prefix: u8) -> impl Iterator<Item = Ipv4Addr> {
    let size = 1_u64 << (32 - u32::from(prefix.min(32)));
    let first = u64::from(network.to_bits());
    // Network and broadcast address are no host's; a network of two (RFC 3021) or one has neither.
    let edge = u64::from(size > 2);
    (first + edge..first + size - edge).rev().map(|bits| Ipv4Addr::from_bits(bits as u32))
}

#[cfg(target_os = "linux")]
mod tap {
    //! TAPs, which only Linux has.

    use anyhow::Context as _;
    use rxpath::Device;
    use rxpath::config::InterfaceConfig;
    use rxpath::device::netns::Rtnl;
    use rxpath::device::tap::{Tap, TapConfig};

    use super::KernelEnd;
    use crate::args::KernelAddress;

    /// Makes a TAP and sets the kernel's end up.
    pub fn open(
        interface: &InterfaceConfig,
        address: Option<KernelAddress>,
    ) -> anyhow::Result<(Box<dyn Device>, KernelEnd)> {
        let config = TapConfig {
            name: interface.name.clone(),
            queues: interface.queues,
            mac: Some(interface.mac),
            mtu: Some(interface.mtu),
            ..TapConfig::default()
        };
        let tap = Tap::open(config).context("without rights of your own, --in-namespace makes a place with them")?;
        let name = tap.name().to_owned();
        let mut rtnl = Rtnl::open().context("talking to the kernel's routing")?;
        if let Some(KernelAddress { addr, prefix }) = address {
            rtnl.add_address(&name, addr, prefix)?;
        }
        rtnl.set_up(&name)?;
        Ok((Box::new(tap), KernelEnd { name, address }))
    }
}

#[cfg(not(target_os = "linux"))]
mod tap {
    //! Elsewhere there are none.

    use rxpath::Device;
    use rxpath::config::InterfaceConfig;

    use super::KernelEnd;
    use crate::args::KernelAddress;

    /// Says so.
    pub fn open(interface: &InterfaceConfig, _: Option<KernelAddress>) -> anyhow::Result<(Box<dyn Device>, KernelEnd)> {
        anyhow::bail!("interface {}: TAPs need Linux", interface.name)
    }
}

#[cfg(test)]
mod tests {
    use rxpath_wire::Addr;

    use super::*;

    fn config(interfaces: &str) -> HostConfig {
        HostConfig::parse("host.toml", interfaces).expect("a sound configuration")
    }

    fn chosen(address: &str, more: &str) -> Result<String, String> {
        let config =
            config(&format!("[[interface]]\nname = \"eth0\"\ndriver = \"tap\"\naddresses = [\"{address}\"]\n{more}"));
        let chosen = neighbour(&config.interfaces[0], &config).map_err(|error| error.to_string())?;
        Ok(format!("{}/{}", chosen.addr, chosen.prefix))
    }

    #[test]
    fn the_kernels_end_gets_an_address_of_the_network() {
        assert_eq!(chosen("10.9.0.1/24", ""), Ok("10.9.0.254/24".to_owned()));
        assert_eq!(chosen("10.9.0.254/24", ""), Ok("10.9.0.253/24".to_owned()));
        assert_eq!(chosen("10.9.0.0/31", ""), Ok("10.9.0.1/31".to_owned()));
        let route = "[[route]]\nto = \"default\"\nvia = \"10.9.0.7\"";
        assert_eq!(chosen("10.9.0.1/24", route), Ok("10.9.0.7/24".to_owned()));
        let alone = chosen("10.9.0.1/32", "").expect_err("no other address");
        assert!(alone.ends_with("give one with --kernel-address"), "{alone}");
    }

    #[test]
    fn hosts_are_counted_downwards_between_the_networks_edges() {
        let all = |network: [u8; 4], prefix| -> Vec<String> {
            hosts_downwards(network.into(), prefix).map(|addr| addr.to_string()).collect()
        };
        assert_eq!(all([10, 0, 0, 4], 30), ["10.0.0.6", "10.0.0.5"]);
        assert_eq!(all([10, 0, 0, 4], 31), ["10.0.0.5", "10.0.0.4"]);
        assert_eq!(all([10, 0, 0, 4], 32), ["10.0.0.4"]);
        assert_eq!(hosts_downwards([0, 0, 0, 0].into(), 0).next(), Some(Ipv4Addr::new(255, 255, 255, 254)));
    }

    #[test]
    fn the_pool_has_room_for_all_rings() {
        let config =
            config("[[interface]]\nname = \"eth0\"\ndriver = \"tap\"\nqueues = 16\nring = 4096\n[stack]\ncpus = 2");
        assert_eq!(pool(&config).slots, 2 * 8 * 4_096 + SPARE_SLOTS);
    }

    #[test]
    fn a_wire_is_refused_with_the_mend() {
        let config = config("[[interface]]\nname = \"w0\"\ndriver = \"wire\"");
        let failure = refuse_what_has_no_other_end(&config).expect_err("nobody is at the other end");
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("use driver = \"tap\""), "{failure}");
    }

    #[test]
    fn routes_name_their_interface_by_index() {
        let config = config(
            "[[interface]]\nname = \"a\"\ndriver = \"tap\"\naddresses = [\"10.0.0.1/24\"]\n\
             [[interface]]\nname = \"b\"\ndriver = \"tap\"\naddresses = [\"10.1.0.1/24\"]\n\
             [[route]]\nto = \"default\"\nvia = \"10.1.0.254\"\nmetric = 7\n",
        );
        let routes = config.route_specs();
        assert_eq!((routes[0].ifindex, routes[0].metric, routes[0].prefix), (Some(2), 7, 0));
        assert_eq!(routes[0].via, Some(Addr::from(Ipv4Addr::new(10, 1, 0, 254))));
    }
}
