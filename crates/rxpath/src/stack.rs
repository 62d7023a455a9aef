//! The stack as applications see it: built, run, looked into, shut down.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use event_listener::Event;
use rxpath_core::napi::BUSY_POLL_BUDGET;
use rxpath_core::neigh::NeighSpec;
use rxpath_core::netfilter::Hooks;
use rxpath_core::netns::{self, IfAddr, NetConfig};
use rxpath_core::nic::{Device, Moderation};
use rxpath_core::route::{Fib, RouteSpec};
pub use rxpath_core::stack::Polled;
use rxpath_core::stack::{
    BusyQueue, DatagramView, InterfaceConfig, InterfaceView, ListenerView, PoolView, SocketView, Stack as Core,
    StackConfig, SteeringChoice, VlanConfig,
};
use rxpath_core::sysctl::{SysctlError, Sysctls};
use rxpath_core::xdp::{Door, Program};
use rxpath_mem::PoolConfig;
use rxpath_trace::{LedgerSnapshot, Selector, Snapshot, Time};
use rxpath_wire::Addr;

use crate::clock::{Clock, Lives, MonotonicClock, nanos};
use crate::config::{Cidr, ParseCidrError};
use crate::runtime::{Attempt, Bells, Mode, Runtime};

/// A TCP/IP stack. Cloning gives another handle to the same one; when the last handle is gone, sockets included, it is
/// shut down.
///
/// Two stacks and a cable, in this process:
///
/// ```
/// use std::io::{Read, Write};
/// use rxpath::device::wire::{self, WireConfig};
/// use rxpath::net::{TcpListener, TcpStream};
/// use rxpath::{Interface, Stack};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (left, right) = wire::pair(WireConfig::default(), WireConfig::default());
/// let server = Stack::builder().interface(Interface::new(left).address("10.0.0.1/24")?).build()?;
/// let client = Stack::builder().interface(Interface::new(right).address("10.0.0.2/24")?).build()?;
///
/// let listener = TcpListener::bind(&server, "10.0.0.1:7")?;
/// let mut out = TcpStream::connect(&client, "10.0.0.1:7")?;
/// let (mut echo, peer) = listener.accept()?;
/// assert_eq!(peer, out.local_addr()?);
///
/// out.write_all(b"hello")?;
/// let mut word = [0; 5];
/// echo.read_exact(&mut word)?;
/// assert_eq!(&word, b"hello");
/// assert!(server.proc().snmp().contains("Tcp: "));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Stack(pub(crate) Arc<Handle>);

/// What all handles of a stack share.
pub(crate) struct Handle {
    pub(crate) core: Core,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Runtime,
    /// Notified when the stack goes down.
    pub(crate) down: Event,
}

impl Handle {
    fn shut_down(&self) {
        self.core.shutdown();
        self.down.notify(usize::MAX);
        self.runtime.stop();
    }
}

impl Lives for Handle {
    fn poll(&self, now: Time) -> Polled {
        self.core.poll(now)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let interfaces = self.interfaces();
        let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
        f.debug_struct("Stack").field("cpus", &self.cpus()).field("interfaces", &names).finish_non_exhaustive()
    }
}

impl Stack {
    /// Begins a stack of one Cpu, on threads, with Linux's defaults.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// The stack's clock now.
    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// The stack's clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    /// Drives every Cpu once at the time `now`: for [`Mode::Polled`], and harmless in the others.
    ///
    /// Gives what was done, and when to call again; nothing happens in between unless a packet comes or a call is made
    /// ([`Stack::wait`] sleeps until then).
    pub fn poll(&self, now: Time) -> Polled {
        let polled = self.0.core.poll(now);
        self.0.runtime.polled();
        polled
    }

    /// Sleeps until there is a reason to call [`Stack::poll`]: an interrupt, a call from another thread, or `until`.
    /// May return early. A virtual clock jumps to `until`. Real time is first spent polling all queues, for as long as
    /// `net.core.busy_poll` says.
    ///
    /// # Errors
    /// `Deadlock` if there is nothing to wait for: no `until` in virtual time, or on threads, which need no polls. Else
    /// what epoll says.
    pub fn wait(&self, until: Option<Time>) -> io::Result<()> {
        if self.poll_busily(until) {
            return Ok(());
        }
        self.0.runtime.wait(&self.0.core, &*self.0.clock, until)
    }

    /// `net.core.busy_poll`: true if packets came.
    fn poll_busily(&self, until: Option<Time>) -> bool {
        let (core, clock) = (&self.0.core, &self.0.clock);
        let us = core.config().sysctl.busy_poll;
        if us == 0 || clock.manual().is_some() {
            return false;
        }
        let mut queues: Vec<BusyQueue> = core.napi_ids().filter_map(|id| core.busy_queue(id, false)).collect();
        let end = clock.now() + u64::from(us) * 1_000;
        let end = until.map_or(end, |until| until.min(end));
        while clock.now() < end && !core.is_down() {
            let polls = queues.iter_mut().map(|queue| queue.poll(BUSY_POLL_BUDGET, &mut || clock.now()).unwrap_or(0));
            if polls.sum::<usize>() > 0 {
                self.0.runtime.polled();
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Lets the stack live for `time`, driving it if nobody else does: what is due happens.
    ///
    /// # Errors
    /// `NetworkDown` if the stack is shut down before or meanwhile.
    pub fn run_for(&self, time: Duration) -> io::Result<()> {
        let handle = &*self.0;
        let end = handle.clock.now() + nanos(time);
        let lived = handle.runtime.block(&handle.core, &*handle.clock, Some(end), |register| {
            let listener = register.then(|| handle.down.listen());
            if handle.core.is_down() {
                Attempt::Done(Err(io::ErrorKind::NetworkDown.into()))
            } else if handle.clock.now() >= end {
                Attempt::Done(Ok(()))
            } else {
                Attempt::Pending(listener)
            }
        });
        match lived {
            Ok(outcome) => outcome,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends everything: every call that is blocked, and every later one, gives an error; packets that are held end as
    /// `QUEUE_PURGE`; threads end. Peers are not told.
    pub fn shutdown(&self) {
        self.0.shut_down();
    }

    /// True once the stack was shut down.
    pub fn is_down(&self) -> bool {
        self.0.core.is_down()
    }

    /// Number of Cpus.
    pub fn cpus(&self) -> u16 {
        self.0.core.cpus()
    }

    /// The current configuration.
    pub fn config(&self) -> Arc<NetConfig> {
        self.0.core.config()
    }

    /// Replaces the configuration by what `change` makes of it. Every Cpu sees it with its next softirq run, whole.
    pub fn reconfigure(&self, change: impl FnOnce(&NetConfig) -> NetConfig) {
        self.0.core.reconfigure(change);
    }

    /// Puts an XDP program in a door of the interface of this index (the first has index 1), or takes away the one that is
    /// there (`ip link set dev … xdp`). It sees every frame that comes with or after the next softirq run of its Cpu. False
    /// if there is no such interface.
    pub fn attach_xdp(&self, ifindex: u16, door: Door, program: Option<Program>) -> bool {
        let mut done = false;
        self.reconfigure(|net| {
            let mut changed = net.clone();
            done = changed.attach_xdp(ifindex, door, program);
            changed
        });
        done
    }

    /// Changes the routes in place (`ip route add`, `replace`, `del`), one or a million at a go: while the closure runs,
    /// packets find the routes as it changes them, one by one, and connections look theirs up anew when it is done.
    ///
    /// ```
    /// use rxpath::device::wire::{self, WireConfig};
    /// use rxpath::rxpath_core::route::{RouteKind, RouteSpec};
    /// use rxpath::rxpath_wire::Addr;
    /// use rxpath::{Interface, Mode, Stack};
    ///
    /// let (wire, _port) = wire::port(WireConfig::named("eth0"));
    /// let interface = Interface::new(wire).address("10.0.0.1/24")?;
    /// let stack = Stack::builder().interface(interface).mode(Mode::Polled).build()?;
    /// let hole = RouteSpec { kind: RouteKind::Blackhole, ..RouteSpec::new(Addr::from_v4([192, 0, 2, 0]), 24) };
    /// stack.change_routes(|fib, interfaces| fib.add_route(interfaces, &hole))?;
    /// assert!(stack.change_routes(|fib, _| fib.remove_route(&hole)).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn change_routes<T>(&self, change: impl FnOnce(&mut Fib, &[netns::Interface]) -> T) -> T {
        self.0.core.change_routes(change)
    }

    /// All counters, summed over the Cpus.
    pub fn snapshot(&self) -> Snapshot {
        self.0.core.snapshot()
    }

    /// The ledger: where every packet is or how it ended. It balances whenever all Cpus and readers are quiet.
    pub fn ledger(&self) -> LedgerSnapshot {
        self.0.core.ledger()
    }

    /// Events of the lives that are recorded, since the last call.
    pub fn take_events(&self) -> Vec<rxpath_trace::Event> {
        self.0.core.take_events()
    }

    /// Events that were lost because nobody took those before.
    pub fn lost_events(&self) -> u64 {
        self.0.core.lost_events()
    }

    /// Chooses anew which lives are recorded.
    pub fn select_lives(&self, selector: &Selector) {
        self.0.core.select_lives(selector);
    }

    /// Makes a VLAN device while the stack runs, as [`StackBuilder::vlan`] does before; gives its index.
    ///
    /// # Errors
    /// `InvalidInput` if something does not fit, with the mend.
    pub fn add_vlan(&self, vlan: &VlanConfig) -> io::Result<u16> {
        Ok(self.0.core.add_vlan(vlan)?)
    }

    /// Takes a VLAN device away, with its addresses and the routes that lead by it; those that stand on it go, too. False
    /// if there is no VLAN device of this name.
    pub fn remove_vlan(&self, name: &str) -> bool {
        self.0.core.remove_vlan(name, self.now())
    }

    /// The stack in the texts of `/proc/net`.
    pub fn proc(&self) -> ProcView<'_> {
        ProcView(self)
    }

    /// Interfaces with their statistics.
    pub fn interfaces(&self) -> Vec<InterfaceView> {
        self.0.core.interfaces()
    }

    /// Listeners.
    pub fn listeners(&self) -> Vec<ListenerView> {
        self.0.core.listeners()
    }

    /// Listeners, connections, requests and mini-sockets, as `ss -a` shows them.
    pub fn sockets(&self) -> Vec<SocketView> {
        self.0.core.sockets(self.now())
    }

    /// UDP sockets, as `ss -ua` shows them.
    pub fn udp_sockets(&self) -> Vec<DatagramView> {
        self.0.core.udp_sockets()
    }

    /// Raw sockets, as `ss -wa` shows them.
    pub fn raw_sockets(&self) -> Vec<DatagramView> {
        self.0.core.raw_sockets()
    }

    /// The page pools, one per Cpu.
    pub fn pools(&self) -> Vec<PoolView> {
        self.0.core.pools()
    }

    /// The core behind this, for those who drive or look into it by themselves.
    pub fn core(&self) -> &Core {
        &self.0.core
    }
}

/// The texts of `/proc/net`, byte for byte in the kernel's format.
#[derive(Clone, Copy, Debug)]
pub struct ProcView<'a>(&'a Stack);

impl ProcView<'_> {
    /// `/proc/net/snmp`.
    pub fn snmp(&self) -> String {
        self.0.core().proc_snmp()
    }

    /// `/proc/net/netstat`.
    pub fn netstat(&self) -> String {
        self.0.core().proc_netstat()
    }

    /// `/proc/net/softnet_stat`.
    pub fn softnet_stat(&self) -> String {
        self.0.core().proc_softnet_stat()
    }

    /// `/proc/net/dev`.
    pub fn dev(&self) -> String {
        self.0.core().proc_dev()
    }

    /// `/proc/net/packet`.
    pub fn packet(&self) -> String {
        self.0.core().proc_packet()
    }

    /// `/proc/net/ptype`.
    pub fn ptype(&self) -> String {
        self.0.core().proc_ptype()
    }

    /// `/proc/net/tcp`.
    pub fn tcp(&self) -> String {
        self.0.core().proc_tcp(self.0.now())
    }

    /// `/proc/net/udp`.
    pub fn udp(&self) -> String {
        self.0.core().proc_udp()
    }

    /// `/proc/net/raw`.
    pub fn raw(&self) -> String {
        self.0.core().proc_raw()
    }

    /// `/proc/net/arp`.
    pub fn arp(&self) -> String {
        self.0.core().proc_arp()
    }

    /// `/proc/net/route`.
    pub fn route(&self) -> String {
        self.0.core().proc_route()
    }

    /// `/proc/net/sockstat`.
    pub fn sockstat(&self) -> String {
        self.0.core().proc_sockstat()
    }
}

/// A device with what the stack makes of it.
pub struct Interface(InterfaceConfig);

impl Interface {
    /// A device without address: GRO on, rings of 256 places, no interrupt moderation.
    pub fn new(device: impl Device + 'static) -> Interface {
        Interface::boxed(Box::new(device))
    }

    /// As [`Interface::new`], for a device of a type that is only known at run time.
    pub fn boxed(device: Box<dyn Device>) -> Interface {
        Interface(InterfaceConfig::new(device))
    }

    /// Adds an address with its prefix length, as in `10.0.0.1/24`.
    ///
    /// # Errors
    /// The text is no such address.
    pub fn address(self, address: &str) -> Result<Interface, ParseCidrError> {
        address.parse().map(|address| self.with_address(address))
    }

    /// Adds an address.
    pub fn with_address(mut self, address: Cidr) -> Interface {
        self.0.addresses.push(IfAddr { addr: Addr::from(address.addr()), prefix: address.prefix() });
        self
    }

    /// Whether GRO merges segments (`ethtool -K gro`).
    pub fn gro(mut self, on: bool) -> Interface {
        self.0.gro = on;
        self
    }

    /// Whether a device with a filter of addresses lets everything in (`ip link set promisc on`).
    pub fn promisc(mut self, on: bool) -> Interface {
        self.0.promisc = on;
        self
    }

    /// Places of each receive ring, a power of two from 16 to 32,768 (`ethtool -G rx`).
    pub fn ring(mut self, places: usize) -> Interface {
        self.0.ring = places;
        self
    }

    /// Interrupt moderation (`ethtool -C rx-usecs rx-frames`); 0 switches a criterion off.
    pub fn moderation(mut self, rx_usecs: u32, rx_frames: u32) -> Interface {
        self.0.moderation = Moderation { rx_usecs, rx_frames };
        self
    }

    /// How the device spreads flows over its queues.
    pub fn steering(mut self, steering: SteeringChoice) -> Interface {
        self.0.steering = steering;
        self
    }
}

impl std::fmt::Debug for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.0.device.info().name;
        f.debug_struct("Interface").field("name", &name).field("addresses", &self.0.addresses).finish_non_exhaustive()
    }
}

/// What a stack is to be like; [`Stack::builder`] begins one.
#[must_use = "nothing runs before `build`"]
pub struct StackBuilder {
    config: StackConfig,
    seed: Option<u64>,
    mode: Mode,
    clock: Arc<dyn Clock>,
}

impl Default for StackBuilder {
    fn default() -> StackBuilder {
        StackBuilder {
            config: StackConfig::default(),
            seed: None,
            mode: Mode::default(),
            clock: Arc::new(MonotonicClock::new()),
        }
    }
}

impl std::fmt::Debug for StackBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StackBuilder")
            .field("cpus", &self.config.cpus)
            .field("mode", &self.mode)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl StackBuilder {
    /// Number of Cpus, 1 to 64.
    pub fn cpus(mut self, cpus: u16) -> StackBuilder {
        self.config.cpus = cpus;
        self
    }

    /// Adds an interface. The first has index 1.
    pub fn interface(mut self, interface: Interface) -> StackBuilder {
        self.config.interfaces.push(interface.0);
        self
    }

    /// Adds a VLAN device, whose frames go through an interface with their tag (`ip link add link … type vlan`). Its index
    /// follows those of all interfaces that have a device.
    ///
    /// ```
    /// use rxpath::device::wire::{self, WireConfig};
    /// use rxpath::rxpath_core::netns::IfAddr;
    /// use rxpath::{Interface, Mode, Stack, VlanConfig};
    ///
    /// let (wire, _port) = wire::port(WireConfig::named("eth0"));
    /// let addresses = vec![IfAddr { addr: "10.9.5.1".parse::<std::net::Ipv4Addr>()?.into(), prefix: 24 }];
    /// let vlan = VlanConfig { addresses, ..VlanConfig::new("eth0", 5) };
    /// let stack = Stack::builder().interface(Interface::new(wire)).vlan(vlan).mode(Mode::Polled).build()?;
    /// assert_eq!(stack.interfaces()[1].name, "eth0.5");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vlan(mut self, vlan: VlanConfig) -> StackBuilder {
        self.config.vlans.push(vlan);
        self
    }

    /// Adds a route, as `ip route add` takes it. Routes to the networks of the interfaces are there already.
    pub fn route(mut self, route: RouteSpec) -> StackBuilder {
        self.config.routes.push(route);
        self
    }

    /// Adds a neighbour, as `ip neigh add` takes it.
    pub fn neighbour(mut self, neighbour: NeighSpec) -> StackBuilder {
        self.config.neighbours.push(neighbour);
        self
    }

    /// Makes the stack answer ARP requests for an address on an interface, which must forward (`ip neigh add proxy`).
    pub fn proxy_neighbour(mut self, ifindex: u16, addr: Addr) -> StackBuilder {
        self.config.proxies.push((ifindex, addr));
        self
    }

    /// Adds a route to a network by a gateway.
    pub fn route_via(self, to: Cidr, gateway: IpAddr) -> StackBuilder {
        let to = to.network();
        let spec = RouteSpec::new(Addr::from(to.addr()), to.prefix());
        self.route(RouteSpec { via: Some(Addr::from(gateway)), ..spec })
    }

    /// Sets a tunable by Linux's name and in Linux's form, as in `("net.ipv4.tcp_rmem", "4096 131072 6291456")`.
    ///
    /// # Errors
    /// There is no such tunable here, or the value does not fit it.
    pub fn sysctl(mut self, name: &str, value: &str) -> Result<StackBuilder, SysctlError> {
        self.config.sysctl.set(name, value)?;
        Ok(self)
    }

    /// Sets all tunables.
    pub fn sysctls(mut self, sysctls: Sysctls) -> StackBuilder {
        self.config.sysctl = sysctls;
        self
    }

    /// Which packets' lives are recorded; none by default.
    pub fn lives(mut self, selector: Selector) -> StackBuilder {
        self.config.lives = selector;
        self
    }

    /// Events that may wait for [`Stack::take_events`], per Cpu; 65,536 by default, of 40 bytes each.
    pub fn life_capacity(mut self, events: usize) -> StackBuilder {
        self.config.life_capacity = events;
        self
    }

    /// Seed of hash keys, sequence numbers, ports and jitter. By default it comes from the system's randomness; with a
    /// fixed one, peers can guess them.
    pub fn seed(mut self, seed: u64) -> StackBuilder {
        self.seed = Some(seed);
        self
    }

    /// Size of each Cpu's page pool.
    pub fn pool(mut self, pool: PoolConfig) -> StackBuilder {
        self.config.pool = pool;
        self
    }

    /// Netfilter hooks.
    pub fn hooks(mut self, hooks: Hooks) -> StackBuilder {
        self.config.hooks = hooks;
        self
    }

    /// Who runs the softirqs; threads by default.
    pub fn mode(mut self, mode: Mode) -> StackBuilder {
        self.mode = mode;
        self
    }

    /// Where the time comes from; the system's monotonic clock by default.
    pub fn clock(mut self, clock: impl Clock) -> StackBuilder {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the devices and sets the stack going.
    ///
    /// # Errors
    /// `InvalidInput` if something does not fit, with the mend; else what a device or the system says.
    pub fn build(self) -> io::Result<Stack> {
        let StackBuilder { mut config, seed, mode, clock } = self;
        config.seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let bells = Bells::new(mode, clock.manual().is_some(), config.cpus)?;
        config.bells = bells.doorbells(config.cpus);
        let core = Core::new(config)?;
        let runtime = bells.start(&core, &clock).inspect_err(|_| core.shutdown())?;
        let handle = Arc::new(Handle { core, clock, runtime, down: Event::new() });
        if let Some(clock) = handle.clock.manual() {
            let stack: Weak<Handle> = Arc::downgrade(&handle);
            clock.enter(stack);
        }
        Ok(Stack(handle))
    }
}
