//! What the tests of the rooms share: a context, a rig that counts and checks, and frames.
//!
//! The stack under test is 10.0.0.1/24 on interface 1 (`eth0`, 02:00:00:00:00:01); its peer is 10.0.0.2
//! (02:00:00:00:00:02).

mod book;
pub(crate) mod drops;
pub(crate) mod frames;

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rxpath_mem::{PagePool, PoolConfig, Skb};
use rxpath_trace::{
    Consumed, Counter, Counters, DropReason, Event, Ledger, LedgerSnapshot, LifeReader, PacketId, Selector, Snapshot,
    Time,
};
use rxpath_wire::{Addr, FlowHasher, IpProto, MacAddr};

use crate::cx::{Cx, End, Fate, IdSource, Rng};
use crate::demux::stats::{DevShard, DevStat};
use crate::demux::{self, PacketType, Ptypes, Vlans};
use crate::ip::{self, FragTable, InetProtos, Protocol};
use crate::neigh::NeighTable;
use crate::netfilter::{HookPoint, Hooks, Onward};
use crate::netns::{IfAddr, Interface, NetConfig};
use crate::nic::{DeviceQueue, Features, TruesizeModel, Xmit};
use crate::route::{Fib, RouteSpec};
use crate::sysctl::Sysctls;
use crate::tx::{self, Devices, Outbox};
use crate::{icmp, neigh, netfilter, udp};

/// Hardware address of the stack under test.
pub(crate) const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// Hardware address of its peer.
pub(crate) const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// Address of the stack under test.
pub(crate) const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Address of its peer.
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The interface of the stack under test: no offloads, MTU 1,500.
pub(crate) fn interface() -> Interface {
    Interface {
        xdp: Default::default(),
        ifindex: 1,
        name: "eth0".to_owned(),
        mac: MAC,
        mtu: 1_500,
        queues: 1,
        features: Features::default(),
        truesize: TruesizeModel::Kernel,
        gro: false,
        addresses: vec![IfAddr { addr: Addr::from(ADDR), prefix: 24 }],
        vlan: None,
        egress: Default::default(),
        ingress: Default::default(),
        promiscuity: Default::default(),
        conf: Default::default(),
        neigh: Default::default(),
    }
}

/// A configuration with these interfaces and routes, all else at its defaults.
pub(crate) fn net(interfaces: Vec<Interface>, routes: &[RouteSpec]) -> NetConfig {
    NetConfig {
        generation: 1,
        fib: Fib::build(&interfaces, routes).expect("addresses and routes that hold together"),
        devices: interfaces.iter().filter(|interface| interface.vlan.is_none()).count() as u16,
        vlans: Vlans::of(&interfaces),
        interfaces,
        hooks: Hooks::new(),
        ptypes: Ptypes::builtin(),
        inet_protos: InetProtos::builtin(),
        sysctl: Sysctls::default(),
        icmp_limits: Arc::default(),
        challenge_acks: Arc::default(),
        groups: Arc::default(),
        exceptions: Arc::default(),
        fast_open: Arc::default(),
        raw: Default::default(),
        hasher: FlowHasher::new(1, 2),
        secret: FlowHasher::new(3, 4),
        cpus: 1,
        strangers: crate::netns::Strangers::default(),
        xdp_generic: false,
        rp_filter: false,
    }
}

/// The same with these tunables set.
pub(crate) fn net_with(interfaces: Vec<Interface>, routes: &[RouteSpec], sysctls: &[(&str, &str)]) -> NetConfig {
    let mut net = net(interfaces, routes);
    set_sysctls(&mut net, sysctls);
    net
}

/// Sets tunables.
pub(crate) fn set_sysctls(net: &mut NetConfig, sysctls: &[(&str, &str)]) {
    for (name, value) in sysctls {
        net.sysctl.set(name, value).expect("a tunable with a value that fits");
    }
    net.apply_sysctls();
}

/// A context with one interface, a small pool and no life records.
pub(crate) fn cx() -> Cx {
    let pool = PoolConfig { slots: 512, head_slots: 256, large_slots: 8, reserve: 8 };
    Cx {
        now: Time::from_secs(100),
        takes: 0,
        cpu: 0,
        pool: PagePool::new(pool).expect("memory for a small pool"),
        mib: Arc::new(Counters::new()),
        ledger: Arc::new(Ledger::new()),
        dev: Arc::new(DevShard::new(4)),
        life: LifeReader::new().shard(0, 2, Selector::Off),
        cause: PacketId::NONE,
        net: Arc::new(net(vec![interface()], &[])),
        listeners: crate::socket::ListenerCache::default(),
        binds: Arc::new(crate::socket::BindTable::new(&mut Rng::new(3))),
        tcp_memory: Arc::new(crate::tcp::TcpMemory::new(1, &Sysctls::default())),
        udp: Arc::default(),
        udp_memo: Default::default(),
        neigh: Arc::new(NeighTable::new(1)),
        frags: Arc::new(FragTable::new(128)),
        outbox: Outbox::new(),
        wakeups: Default::default(),
        looped: Default::default(),
        redirected: Vec::new(),
        reassembled: Vec::new(),
        orphans: Vec::new(),
        ids: IdSource::of_cpu(0),
        rng: Rng::new(1),
    }
}

/// Configures a neighbour for good.
pub(crate) fn set_permanent(cx: &mut Cx, ifindex: u16, addr: Addr, mac: MacAddr) -> bool {
    let spec = neigh::NeighSpec { ifindex, addr, mac: Some(mac), state: neigh::Nud::Permanent };
    neigh::configure(cx, spec, neigh::Mode::Replace).is_ok()
}

/// A frame from interface 1 as the driver hands it up.
pub(crate) fn harvest(cx: &mut Cx, frame: &[u8], traced: bool) -> Skb {
    let slot = if frame.len() > 1_900 { cx.pool.alloc_large() } else { cx.pool.alloc() };
    let mut skb = slot.expect("a slot for the frame");
    skb.put(frame.len()).copy_from_slice(frame);
    skb.id = cx.ids.mint();
    skb.set_traced(traced);
    skb.truesize = TruesizeModel::Kernel.charge(frame.len() as u32);
    cx.ledger.offered(1);
    assert!(demux::eth_type_trans(cx, &mut skb, 1, MAC), "at least an Ethernet header");
    skb
}

/// Goes on with what the room passed, or gives the end.
macro_rules! room {
    ($fate:expr) => {
        match $fate.split() {
            Ok(next) => next,
            Err(end) => return end,
        }
    };
}

/// How a received packet ended, or where it left the rooms under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Dropped(DropReason),
    Consumed(Consumed),
    Held,
    /// It was handed to TCP.
    Tcp,
}

/// A context that records all lives, with a device that keeps what is sent. When it goes, all that is queued anywhere is
/// ended and the ledger must balance.
pub(crate) struct Rig {
    cx: Cx,
    counted: Snapshot,
    lives: LifeReader,
    pub(crate) device: Sink,
    /// Shards of the ledger besides the context's: those of taps.
    pub(crate) ledgers: Vec<Arc<Ledger>>,
}

impl Deref for Rig {
    type Target = Cx;

    fn deref(&self) -> &Cx {
        &self.cx
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Cx {
        &mut self.cx
    }
}

impl Rig {
    /// The stack under test as [`cx`] makes it.
    pub(crate) fn new() -> Rig {
        let mut cx = cx();
        let mut lives = LifeReader::new();
        cx.life = lives.shard(0, 4_096, Selector::All);
        Rig { cx, counted: Snapshot::new(), lives, device: Sink::default(), ledgers: Vec::new() }
    }

    /// The stack under test with other interfaces, routes or policy.
    pub(crate) fn with_net(net: NetConfig) -> Rig {
        let mut rig = Rig::new();
        rig.cx.net = Arc::new(net);
        rig
    }

    /// Changes the configuration, which gets the next generation.
    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(&mut NetConfig)) {
        let net = Arc::get_mut(&mut self.cx.net).expect("nobody else has the configuration");
        change(net);
        net.apply_sysctls();
        net.generation += 1;
    }

    /// Lets time pass: nanoseconds.
    pub(crate) fn pass(&mut self, ns: u64) {
        self.cx.now += ns;
    }

    /// A frame as the driver hands it up, its life recorded.
    pub(crate) fn frame(&mut self, frame: &[u8]) -> Skb {
        harvest(&mut self.cx, frame, true)
    }

    /// Takes a frame through the rooms up to the transport protocols, and ends it. What TCP would get is consumed.
    pub(crate) fn receive(&mut self, frame: &[u8]) -> Ended {
        let skb = self.frame(frame);
        let end = self.rooms(skb);
        let ended = match &end {
            Fate::Drop(_, reason) => Ended::Dropped(*reason),
            Fate::Consumed(_, Consumed::AckOnly) => Ended::Tcp,
            Fate::Consumed(_, how) => Ended::Consumed(*how),
            Fate::Held => Ended::Held,
            Fate::Pass(never) => match *never {},
        };
        self.cx.end(end);
        ended
    }

    /// The path up to the transport protocols, as `path.rs` has it.
    fn rooms(&mut self, skb: Skb) -> End {
        let cx = &mut self.cx;
        let (skb, ptype) = room!(if demux::is_tagged(&skb) {
            crate::path::vlan_rounds(cx, skb)
        } else {
            demux::netif_receive_skb_core(cx, skb)
        });
        match ptype {
            PacketType::Ip => {}
            PacketType::Arp => return neigh::arp_rcv(cx, skb),
            PacketType::Registered(handler) => return handler(cx, skb),
        }
        let skb = room!(ip::rcv(cx, skb));
        let skb = room!(netfilter::hook(cx, HookPoint::PreRouting, skb, || Onward::Receive));
        let (skb, way_on) = room!(ip::rcv_finish(cx, skb, udp::early_demux));
        if let Some(way) = way_on {
            let skb = room!(ip::forward(cx, skb, &way));
            let skb = room!(netfilter::hook(cx, HookPoint::Forward, skb, || Onward::Forward(way)));
            tx::ip_forward_output(cx, skb, &way);
            return Fate::Held;
        }
        let skb = if ip::is_fragment(&skb) { room!(ip::defrag(cx, skb)) } else { skb };
        let skb = room!(netfilter::hook(cx, HookPoint::LocalIn, skb, || Onward::Deliver));
        let (skb, protocol) = room!(ip::local_deliver_finish(cx, skb, false));
        match protocol {
            Protocol::Tcp => End::Consumed(skb, Consumed::AckOnly),
            Protocol::Udp => udp::rcv(cx, skb),
            Protocol::Icmp => {
                let (skb, error) = room!(icmp::rcv(cx, skb));
                let known = match cx.net.inet_protos.error_handler(error.protocol) {
                    Some(handler) => handler(cx, &error),
                    None => match error.protocol {
                        IpProto::TCP => false,
                        IpProto::UDP => udp::err(cx, &error, &skb),
                        _ => true,
                    },
                };
                icmp::delivered(cx, skb, known)
            }
            Protocol::Registered(handler) => handler(cx, skb),
        }
    }

    /// What was counted since the last call, or since the beginning.
    pub(crate) fn counted(&mut self) -> Snapshot {
        let now = self.cx.mib.snapshot();
        let since = now.diff(&self.counted);
        self.counted = now;
        since
    }

    /// Asserts that these counters, and no others, moved since the last call.
    #[track_caller]
    pub(crate) fn assert_counted(&mut self, expected: &[(Counter, u64)]) {
        assert_eq!(self.counted(), Snapshot::of(expected));
    }

    /// A figure of interface 1.
    pub(crate) fn dev_stat(&self, stat: DevStat) -> u64 {
        self.cx.dev.row(1)[stat]
    }

    /// Hands what waits to the device, and gives the frames that it took since the last call.
    pub(crate) fn sent(&mut self) -> Vec<Vec<u8>> {
        tx::flush(&mut self.cx, &mut self.device);
        std::mem::take(&mut self.device.frames)
    }

    /// The events of lives since the last call.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.lives.collect()
    }

    /// All shards of the ledger together.
    pub(crate) fn ledger(&self) -> LedgerSnapshot {
        self.ledgers.iter().map(|shard| shard.snapshot()).sum::<LedgerSnapshot>() + self.cx.ledger.snapshot()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.ledger().check().expect("the ledger balances");
        Outbox::purge(&mut self.cx, DropReason::QueuePurge);
        neigh::purge(&mut self.cx, DropReason::QueuePurge);
        ip::defrag::purge(&mut self.cx, DropReason::QueuePurge);
        let ledger = self.ledger();
        ledger.check().expect("the ledger balances with empty queues");
        assert_eq!(ledger.held(), 0, "nothing is held any more: {ledger:?}");
        self.cx.pool.drain();
        assert_eq!(self.cx.pool.outstanding(), 0, "all slots are back");
    }
}

/// A device that keeps what it is given, as long as it has room.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) frames: Vec<Vec<u8>>,
    /// What it says to the next frames; [`Xmit::Sent`] when nothing is left.
    pub(crate) answers: Vec<Xmit>,
    /// Bursts that were ended.
    pub(crate) flushes: usize,
    /// It is not there.
    pub(crate) gone: bool,
}

impl DeviceQueue for Sink {
    fn dma(&mut self, _: Time, _: &mut PagePool, _: usize) -> usize {
        0
    }

    fn xmit(&mut self, _: Time, skb: &Skb) -> Xmit {
        let answer = if self.answers.is_empty() { Xmit::Sent } else { self.answers.remove(0) };
        if answer == Xmit::Sent {
            self.frames.push(skb.fragments().flatten().copied().collect());
        }
        answer
    }

    fn flush(&mut self, _: Time) {
        self.flushes += 1;
    }
}

impl Devices for Sink {
    fn device(&mut self, ifindex: u16) -> Option<&mut dyn DeviceQueue> {
        (ifindex == 1 && !self.gone).then_some(self)
    }
}
