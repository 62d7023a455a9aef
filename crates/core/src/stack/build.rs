//! From a configuration to a running stack.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use rxpath_mem::{PagePool, PoolConfig, SkbQueue, rx_ring};
use rxpath_trace::{Counters, Ledger, LifeReader, PacketId, Selector};
use rxpath_wire::{Addr, EtherType, FlowHasher, MacAddr, Toeplitz};

use super::reads::Reads;
use super::{Cpu, CpuCell, Shared, Stack};
use crate::cx::{Cx, IdSource, Rng};
use crate::demux::stats::DevShard;
use crate::demux::{EgressMap, IngressMap, MAX_NEST, Ptypes, Vlan, Vlans};
use crate::ip::FragTable;
use crate::ip::InetProtos;
use crate::napi::{Inbox, Napi, NapiSetup, Softirq};
use crate::neigh::{self, NeighError, NeighSpec, NeighTable};
use crate::netfilter::Hooks;
use crate::netns::{IfAddr, Interface, NetConfig, Strangers};
use crate::nic::{Device, Doorbell, Features, IrqLine, Moderation, NoDoorbell, Promiscuity, RxAttach, Steering};
use crate::route::{Fib, FibError, RouteSpec};
use crate::socket::{BindTable, FlowTable, ListenerCache, Listeners, WaitQueue, Wakeups};
use crate::sysctl::Sysctls;
use crate::tcp::TcpMemory;
use crate::tx::Outbox;
use crate::udp::UdpTable;

/// How a multi-queue device is told to spread flows.
#[derive(Clone, Debug, Default)]
pub enum SteeringChoice {
    /// By the stack's own hash: every flow meets its owner.
    #[default]
    Owner,
    /// By Toeplitz with this key, as hardware does by default.
    Toeplitz([u8; 40]),
    /// Everything to one queue.
    Fixed(u16),
}

/// One interface and its device.
pub struct InterfaceConfig {
    /// The device.
    pub device: Box<dyn Device>,
    /// Addresses.
    pub addresses: Vec<IfAddr>,
    /// Whether GRO merges.
    pub gro: bool,
    /// Whether a card with a filter lets everything in (`ip link set promisc on`).
    pub promisc: bool,
    /// Places of each receive ring: a power of two from 16 to 32,768.
    pub ring: usize,
    /// Interrupt moderation.
    pub moderation: Moderation,
    /// How the device spreads flows.
    pub steering: SteeringChoice,
}

impl InterfaceConfig {
    /// A device with GRO on, rings of 256 places, no moderation.
    pub fn new(device: Box<dyn Device>) -> InterfaceConfig {
        InterfaceConfig {
            device,
            addresses: Vec::new(),
            gro: true,
            promisc: false,
            ring: 256,
            moderation: Moderation::default(),
            steering: SteeringChoice::default(),
        }
    }
}

/// A VLAN device (`ip link add link … type vlan`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanConfig {
    /// Its name, as `eth0.5`.
    pub name: String,
    /// The name of the interface whose frames it has.
    pub parent: String,
    /// The tag's EtherType: [`EtherType::VLAN`] (802.1Q) or [`EtherType::QINQ`] (802.1ad).
    pub tpid: u16,
    /// The VLAN, 0 to 4,094.
    pub id: u16,
    /// Its hardware address; None for the parent's.
    pub mac: Option<MacAddr>,
    /// Its largest IP packet, at most the parent's; None for the parent's.
    pub mtu: Option<u16>,
    /// Which priority goes into its tags.
    pub egress: EgressMap,
    /// Which priority those of its tags are.
    pub ingress: IngressMap,
    /// Addresses.
    pub addresses: Vec<IfAddr>,
}

impl VlanConfig {
    /// VLAN `id` of 802.1Q on `parent`, named after both, with the parent's hardware address and MTU.
    pub fn new(parent: &str, id: u16) -> VlanConfig {
        VlanConfig {
            name: format!("{parent}.{id}"),
            parent: parent.to_owned(),
            tpid: EtherType::VLAN,
            id,
            mac: None,
            mtu: None,
            egress: EgressMap::default(),
            ingress: IngressMap::default(),
            addresses: Vec::new(),
        }
    }

    /// The interface that it makes, which follows `interfaces`.
    pub(super) fn interface(&self, interfaces: &[Interface]) -> Result<Interface, BuildError> {
        let wrong = |what: String| Err(BuildError::Vlan(self.name.clone(), what));
        let Some(parent) = interfaces.iter().find(|interface| interface.name == self.parent) else {
            return wrong(format!("there is no interface {} before it: name one", self.parent));
        };
        if interfaces.iter().any(|interface| interface.name == self.name) {
            return wrong("a second interface has this name: give each its own".to_owned());
        }
        if !EtherType::is_tag(self.tpid) {
            return wrong(format!("{:#06x} is no tag: give 0x8100 (802.1Q) or 0x88a8 (802.1ad)", self.tpid));
        }
        if self.id > 4_094 {
            return wrong(format!("VLAN {}: give an id from 0 to 4094", self.id));
        }
        let vlan = Vlan { parent: parent.ifindex, tpid: self.tpid, id: self.id };
        if let Some(other) = interfaces.iter().find(|interface| interface.vlan == Some(vlan)) {
            return wrong(format!("{} has VLAN {} of {} already: remove one", other.name, self.id, parent.name));
        }
        let mut nest = 1;
        let mut below = parent.vlan;
        while let Some(vlan) = below {
            nest += 1;
            below = interfaces.get(usize::from(vlan.parent) - 1).and_then(|interface| interface.vlan);
        }
        if nest > MAX_NEST {
            return wrong(format!("{nest} VLAN devices stand on one another: {MAX_NEST} may"));
        }
        let mtu = self.mtu.unwrap_or(parent.mtu);
        if mtu > parent.mtu {
            return wrong(format!(
                "an MTU of {mtu} is more than the {} of {}: make it smaller",
                parent.mtu, parent.name
            ));
        }
        Ok(Interface {
            xdp: Default::default(),
            ifindex: interfaces.len() as u16 + 1,
            name: self.name.clone(),
            mac: self.mac.unwrap_or(parent.mac),
            mtu,
            queues: parent.queues,
            // Devices look behind one tag for checksums, and do not cut what is behind it.
            features: Features { tso: false, tx_csum: parent.features.tx_csum && nest == 1, ..parent.features },
            truesize: parent.truesize,
            gro: parent.gro,
            addresses: self.addresses.clone(),
            vlan: Some(vlan),
            egress: self.egress,
            ingress: self.ingress,
            promiscuity: Default::default(),
            conf: Default::default(),
            neigh: Default::default(),
        })
    }
}

/// Everything that a stack is made from.
pub struct StackConfig {
    /// Number of Cpus, 1 to 64.
    pub cpus: u16,
    /// Seed of keys, ports and jitter. The same seed and the same input give the same run.
    pub seed: u64,
    /// Tunables.
    pub sysctl: Sysctls,
    /// Interfaces, in the order of their index.
    pub interfaces: Vec<InterfaceConfig>,
    /// VLAN devices, whose indexes follow those of the interfaces. One may stand on another before it.
    pub vlans: Vec<VlanConfig>,
    /// Routes beyond those that follow from the addresses.
    pub routes: Vec<RouteSpec>,
    /// Neighbours that are configured.
    pub neighbours: Vec<NeighSpec>,
    /// Addresses that ARP requests are answered for on an interface, as a proxy.
    pub proxies: Vec<(u16, Addr)>,
    /// Netfilter hooks.
    pub hooks: Hooks,
    /// Slots of each Cpu's page pool.
    pub pool: PoolConfig,
    /// Which lives are recorded.
    pub lives: Selector,
    /// Life records that fit each Cpu's ring.
    pub life_capacity: usize,
    /// How each Cpu's softirq is woken; those that are missing wake nobody.
    pub bells: Vec<Arc<dyn Doorbell>>,
}

impl Default for StackConfig {
    fn default() -> StackConfig {
        StackConfig {
            cpus: 1,
            seed: 0,
            sysctl: Sysctls::default(),
            interfaces: Vec::new(),
            vlans: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
            proxies: Vec::new(),
            hooks: Hooks::new(),
            pool: PoolConfig::default(),
            lives: Selector::Off,
            life_capacity: 1 << 16,
            bells: Vec::new(),
        }
    }
}

/// Why a stack could not be made.
#[derive(Debug)]
pub enum BuildError {
    /// The number of Cpus is not from 1 to 64.
    Cpus(u16),
    /// The ring size of this interface is not a power of two from 16 to 32,768.
    Ring(String, usize),
    /// This VLAN device cannot be, for what the text says.
    Vlan(String, String),
    /// A tunable is set for an interface of this name, and there is none.
    Sysctl(String),
    /// Addresses and routes do not fit each other.
    Fib(FibError),
    /// This neighbour cannot be configured.
    Neighbour(NeighSpec, NeighError),
    /// A device could not be opened.
    Device(String, io::Error),
    /// The page pool could not be mapped.
    Pool(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Cpus(n) => write!(f, "{n} Cpus: give from 1 to 64"),
            BuildError::Ring(name, size) => {
                write!(f, "{name}: a ring of {size} places: give a power of two from 16 to 32768")
            }
            BuildError::Vlan(name, what) => write!(f, "{name}: {what}"),
            BuildError::Sysctl(name) => {
                write!(f, "a sysctl is set for {name}, and no interface has this name: name one, or all, or default")
            }
            BuildError::Fib(error) => write!(f, "{error}"),
            BuildError::Neighbour(spec, error) => write!(f, "neighbour {}: {error}", spec.addr),
            BuildError::Device(name, error) => write!(f, "{name}: {error}"),
            BuildError::Pool(error) => write!(f, "page pool: {error}; configure fewer slots"),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<BuildError> for io::Error {
    fn from(error: BuildError) -> io::Error {
        let kind = match &error {
            BuildError::Device(_, inner) | BuildError::Pool(inner) => inner.kind(),
            _ => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}

/// VLAN devices that may be made while a stack runs, those that are gone included.
pub(super) const ADDED_MAX: u16 = 256;

/// Slots behind the ring's own: what may be queued in sockets while the ring stays full.
const FIRST_RING: u16 = 0;

impl Stack {
    /// Makes a stack; its devices are opened.
    ///
    /// # Errors
    /// [`BuildError`] says what does not fit and how to mend it.
    pub fn new(config: StackConfig) -> Result<Stack, BuildError> {
        check(&config)?;
        let mut rng = Rng::new(config.seed ^ 0x7278_7061_7468_0001);
        let net = Arc::new(net_config(&config, &mut rng)?);
        let none: Arc<dyn Doorbell> = Arc::new(NoDoorbell);
        let cpus = usize::from(config.cpus);
        let bells = (0..cpus).map(|cpu| config.bells.get(cpu).unwrap_or(&none).clone());
        let inboxes: Arc<[Inbox]> = bells.map(Inbox::new).collect();
        let binds = Arc::new(BindTable::new(&mut Rng::new(config.seed ^ 0x7278_7061_7468_0002)));
        let tcp_memory = Arc::new(TcpMemory::new(config.cpus, &net.sysctl));
        let udp = Arc::new(UdpTable::default());
        let listeners = Arc::new(Listeners::default());
        let neigh = Arc::new(NeighTable::new(rng.next_u64()));
        let frags = Arc::new(FragTable::new(config.pool.slots / 4));
        let rows = net.interfaces.len() + usize::from(ADDED_MAX);
        let mut lives = LifeReader::new();
        let mut made = Vec::with_capacity(cpus);
        for cpu in 0..config.cpus {
            let pool = PagePool::new(config.pool).map_err(BuildError::Pool)?;
            let cx = Cx {
                now: rxpath_trace::Time::ZERO,
                takes: 0,
                cpu,
                pool,
                mib: Arc::new(Counters::new()),
                ledger: Arc::new(Ledger::new()),
                dev: Arc::new(DevShard::new(rows as u16)),
                life: lives.shard(cpu as u8, config.life_capacity, config.lives.clone()),
                cause: PacketId::NONE,
                net: Arc::clone(&net),
                listeners: ListenerCache::of(Arc::clone(&listeners)),
                binds: Arc::clone(&binds),
                tcp_memory: Arc::clone(&tcp_memory),
                udp: Arc::clone(&udp),
                udp_memo: Default::default(),
                neigh: Arc::clone(&neigh),
                frags: Arc::clone(&frags),
                outbox: Outbox::new(),
                wakeups: Wakeups::default(),
                looped: SkbQueue::new(),
                redirected: Vec::new(),
                reassembled: Vec::new(),
                orphans: Vec::new(),
                ids: IdSource::of_cpu(cpu),
                rng: Rng::new(rng.next_u64()),
            };
            let softirq = Softirq::new(cpu, Arc::clone(&inboxes));
            made.push(Cpu { cx, flows: FlowTable::new(), softirq, generation: 0, due: Vec::new() });
        }
        let user_life = lives.shard(config.cpus as u8, config.life_capacity, config.lives.clone());
        let mut rings = Vec::new();
        for (index, interface) in config.interfaces.into_iter().enumerate() {
            attach(&net.interfaces[index], interface, &net, &mut made, &inboxes, &mut rings)?;
        }
        let cells = made.into_iter().map(|cpu| CpuCell {
            mib: Arc::clone(&cpu.cx.mib),
            ledger: Arc::clone(&cpu.cx.ledger),
            reads: Reads::default(),
            user_mib: Counters::new(),
            dev: Arc::clone(&cpu.cx.dev),
            token: Mutex::new(cpu),
            mailbox: Mutex::new(VecDeque::new()),
            mail: AtomicBool::new(false),
            asleep_until: AtomicU64::new(u64::MAX),
        });
        let pool_share = pool_share(&config.pool);
        let rcvbuf_max = AtomicU32::new(super::rcvbuf_max(&net.sysctl, pool_share));
        let stack = Stack(Arc::new(Shared {
            cpus: cells.collect(),
            net: RwLock::new(net),
            listeners,
            generation: AtomicU64::new(0),
            binds,
            tcp_memory,
            udp,
            sockets: AtomicU64::new(0),
            neigh,
            frags,
            taps: Mutex::default(),
            inboxes,
            user_life: Mutex::new(user_life),
            user_ledger: Ledger::new(),
            lives: Mutex::new(lives),
            rings,
            down: AtomicBool::new(false),
            timers_held: AtomicBool::new(false),
            down_wait: WaitQueue::new(),
            seed: config.seed,
            rows,
            pool_share,
            rcvbuf_max,
        }));
        stack.configure_neighbours(&config.neighbours, &config.proxies)?;
        Ok(stack)
    }

    fn configure_neighbours(&self, neighbours: &[NeighSpec], proxies: &[(u16, Addr)]) -> Result<(), BuildError> {
        for spec in neighbours {
            let done = self.configure_neighbour(*spec, neigh::Mode::Add, rxpath_trace::Time::ZERO);
            done.map_err(|error| BuildError::Neighbour(*spec, error))?;
        }
        for (ifindex, addr) in proxies {
            self.set_proxy_neighbour(*ifindex, *addr, true);
        }
        Ok(())
    }
}

/// An eighth of what a pool holds (`tcp_mem` follows the memory that there is).
fn pool_share(pool: &PoolConfig) -> u32 {
    let bytes = pool.slots as u64 * 2_048 + pool.large_slots as u64 * 65_536;
    (bytes / 8).min(u64::from(u32::MAX)) as u32
}

fn check(config: &StackConfig) -> Result<(), BuildError> {
    if !(1..=64).contains(&config.cpus) {
        return Err(BuildError::Cpus(config.cpus));
    }
    for interface in &config.interfaces {
        if !interface.ring.is_power_of_two() || !(16..=32_768).contains(&interface.ring) {
            return Err(BuildError::Ring(interface.device.info().name, interface.ring));
        }
    }
    Ok(())
}

fn net_config(config: &StackConfig, rng: &mut Rng) -> Result<NetConfig, BuildError> {
    let mut interfaces: Vec<Interface> = config
        .interfaces
        .iter()
        .enumerate()
        .map(|(index, interface)| {
            let info = interface.device.info();
            Interface {
                xdp: Default::default(),
                ifindex: index as u16 + 1,
                name: info.name,
                mac: info.mac,
                mtu: info.mtu,
                queues: info.queues.max(1),
                features: info.features,
                truesize: info.truesize,
                gro: interface.gro,
                addresses: interface.addresses.clone(),
                vlan: None,
                egress: Default::default(),
                ingress: Default::default(),
                promiscuity: Promiscuity { promisc: u32::from(interface.promisc), allmulti: 0 },
                conf: Default::default(),
                neigh: Default::default(),
            }
        })
        .collect();
    let devices = interfaces.len() as u16;
    for vlan in &config.vlans {
        let interface = vlan.interface(&interfaces)?;
        interfaces.push(interface);
    }
    let fib = Fib::build(&interfaces, &config.routes).map_err(BuildError::Fib)?;
    let known = |name: &&str| interfaces.iter().any(|interface| interface.name == *name);
    if let Some(name) = config.sysctl.interfaces().iter().find(|name| !known(name)) {
        return Err(BuildError::Sysctl((*name).to_owned()));
    }
    let mut net = NetConfig {
        generation: 1,
        devices,
        vlans: Vlans::of(&interfaces),
        interfaces,
        fib,
        hooks: config.hooks.clone(),
        ptypes: Ptypes::builtin(),
        inet_protos: InetProtos::builtin(),
        sysctl: config.sysctl.clone(),
        hasher: FlowHasher::new(rng.next_u64(), rng.next_u64()),
        secret: FlowHasher::new(rng.next_u64(), rng.next_u64()),
        cpus: config.cpus,
        strangers: Strangers::default(),
        xdp_generic: false,
        icmp_limits: Arc::default(),
        challenge_acks: Arc::default(),
        groups: Arc::default(),
        exceptions: Arc::default(),
        fast_open: Arc::default(),
        raw: Default::default(),
        rp_filter: false,
    };
    net.apply_sysctls();
    Ok(net)
}

/// Opens a device and gives its queues to the Cpus in turn.
fn attach(
    interface: &Interface,
    config: InterfaceConfig,
    net: &Arc<NetConfig>,
    cpus: &mut [Cpu],
    inboxes: &[Inbox],
    rings: &mut Vec<(u16, u16, Arc<rxpath_mem::RingStats>, IrqLine)>,
) -> Result<(), BuildError> {
    let queues = config.device.info().queues.max(1);
    let steering = match config.steering {
        SteeringChoice::Owner if usize::from(queues) == cpus.len() => {
            Steering::Owner { hasher: net.hasher, cpus: net.cpus }
        }
        SteeringChoice::Owner => Steering::toeplitz(&rxpath_wire::toeplitz::MICROSOFT_KEY, queues),
        SteeringChoice::Toeplitz(key) => Steering::Toeplitz {
            hash: Box::new(Toeplitz::new(&key)),
            indirection: (0..128).map(|i| i % queues).collect(),
        },
        SteeringChoice::Fixed(queue) => Steering::Fixed(queue.min(queues - 1)),
    };
    let mut attached = Vec::new();
    let mut halves = Vec::new();
    for queue in 0..queues {
        let bell = &inboxes[usize::from(queue) % cpus.len()].bell;
        let irq = IrqLine::new(config.moderation, Arc::clone(bell));
        let (ring, dma) = rx_ring(config.ring, FIRST_RING + rings.len() as u16 + queue);
        attached.push(RxAttach { dma, irq: irq.clone() });
        halves.push((ring, irq));
    }
    let opened = config.device.open(attached, steering);
    let opened = opened.map_err(|error| BuildError::Device(interface.name.clone(), error))?;
    for (queue, ((ring, irq), device)) in halves.into_iter().zip(opened).enumerate() {
        let count = cpus.len();
        let cpu = &mut cpus[queue % count];
        let setup = NapiSetup {
            ifindex: interface.ifindex,
            queue_index: queue as u16,
            mac: interface.mac,
            truesize: interface.truesize,
            gro: interface.gro,
            batch: net.sysctl.gro_normal_batch,
        };
        let mut napi = Napi::new(setup, device, irq.clone(), ring);
        napi.queue.set_rx_mode(&net.rx_mode(interface.ifindex));
        napi.fill(&mut cpu.cx);
        rings.push((interface.ifindex, queue as u16, napi.ring_stats(), irq));
        cpu.softirq.napis.push(napi);
    }
    Ok(())
}
