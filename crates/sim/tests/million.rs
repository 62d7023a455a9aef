//! A great many connections at once: all of them open, carry data both ways, are held, and close cleanly.
//!
//! Runs 5,000; `RXPATH_CONNECTIONS=1000000` runs as many, which wants a release build and 16 GB of memory:
//!
//!     RXPATH_CONNECTIONS=1000000 cargo test --release -p rxpath-sim --test million -- --nocapture

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rxpath::device::wire::{self, WireConfig};
use rxpath_core::netns::IfAddr;
use rxpath_core::nic::Device;
use rxpath_core::socket::{Listener, Sock, WriteStep};
use rxpath_core::stack::{InterfaceConfig, RecvError, Stack, StackConfig};
use rxpath_core::sysctl::{PortRange, Sysctls};
use rxpath_sim::Simulation;
use rxpath_trace::{Counter, Time};
use rxpath_wire::Addr;

/// Connections unless more are asked for.
const CONNECTIONS: usize = 5_000;
/// Connections to one port of the server, at most: the client has some 64,000 ports, and gives out every second one first. Once
/// these are all taken, each further connection looks through them before it goes on to the others.
const PER_PORT: usize = 25_000;
/// Connections that are worked on between two rests.
const BATCH: usize = 500;
const SERVER: [u8; 4] = [10, 0, 0, 2];
const CLIENT: [u8; 4] = [10, 0, 0, 1];

fn stack(device: impl Device + 'static, address: [u8; 4], connections: usize) -> Stack {
    let mut interface = InterfaceConfig::new(Box::new(device));
    interface.addresses = vec![IfAddr { addr: Addr::from_v4(address), prefix: 24 }];
    interface.ring = 2_048;
    let all = connections as u32;
    let sysctl = Sysctls {
        somaxconn: all,
        tcp_max_tw_buckets: all,
        tcp_max_syn_backlog: all,
        ip_local_port_range: PortRange { low: 1_024, high: 65_535 },
        ..Sysctls::default()
    };
    Stack::new(StackConfig { seed: 5, sysctl, interfaces: vec![interface], ..StackConfig::default() }).expect("a stack")
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()).and_then(|number| number.parse().ok());
    kilobytes.unwrap_or(0_usize) * 1_024
}

/// Two stacks and what applications have on them.
struct World {
    sim: Simulation,
    listeners: Vec<Arc<Listener>>,
    clients: Vec<Arc<Sock>>,
    servers: Vec<Arc<Sock>>,
}

impl World {
    fn new(connections: usize) -> World {
        let (a, b) = wire::pair(WireConfig::named("client"), WireConfig::named("server"));
        let (client, server) = (stack(a, CLIENT, connections), stack(b, SERVER, connections));
        let ports = connections.div_ceil(PER_PORT) as u16;
        let listen = |port| server.listen(SocketAddr::from((SERVER, 7_000 + port)), BATCH as u32).expect("a free port");
        let listeners = (0..ports).map(listen).collect();
        let sim = Simulation::new(Time::from_secs(1), vec![client, server]);
        World { sim, listeners, clients: Vec::new(), servers: Vec::new() }
    }

    fn open(&mut self, connections: usize) {
        while self.clients.len() < connections {
            for _ in 0..BATCH.min(connections - self.clients.len()) {
                let port = 7_000 + (self.clients.len() / PER_PORT) as u16;
                let sock = self.sim.stack(0).connect(SocketAddr::from((SERVER, port)), self.sim.now());
                self.clients.push(sock.expect("a free port"));
            }
            self.sim.settle();
            for listener in &self.listeners {
                while let Some(sock) = self.sim.stack(1).accept(listener) {
                    self.servers.push(sock);
                }
            }
            self.sim.pass(Duration::from_millis(1));
        }
        assert_eq!(self.servers.len(), connections, "all are accepted");
    }

    /// Eight bytes there, which say whose they are, and back.
    fn talk(&mut self) {
        // A local port of the client serves as often as the server has ports.
        let told: HashMap<_, u64> = self
            .clients
            .iter()
            .enumerate()
            .map(|(id, sock)| ((sock.tuple.local_port, sock.tuple.remote_port), id as u64))
            .collect();
        for from in (0..self.clients.len()).step_by(BATCH) {
            let range = from..(from + BATCH).min(self.clients.len());
            for id in range.clone() {
                self.say(0, &self.clients[id], &(id as u64).to_be_bytes());
            }
            self.sim.settle();
            for server in &self.servers[range.clone()] {
                let mut id = [0; 8];
                // They were accepted in the order of their handshakes.
                assert_eq!(self.hear(1, server, &mut id), Some(8));
                let ports = (server.tuple.remote_port, server.tuple.local_port);
                assert_eq!(told.get(&ports), Some(&u64::from_be_bytes(id)));
                self.say(1, server, &id);
            }
            self.sim.settle();
            for id in range {
                let mut echo = [0; 8];
                assert_eq!(self.hear(0, &self.clients[id], &mut echo), Some(8));
                assert_eq!(echo, (id as u64).to_be_bytes());
            }
            self.sim.pass(Duration::from_millis(1));
        }
        // The acknowledgements that were put off.
        self.sim.pass(Duration::from_secs(1));
    }

    fn say(&self, stack: usize, sock: &Arc<Sock>, bytes: &[u8]) {
        let step = self.sim.stack(stack).send(sock, bytes, false, self.sim.now());
        assert!(matches!(step, WriteStep::Taken(count) if count == bytes.len()), "all is taken");
    }

    fn hear(&self, stack: usize, sock: &Arc<Sock>, buf: &mut [u8]) -> Option<usize> {
        match self.sim.stack(stack).recv(sock, buf, false, self.sim.now()) {
            Ok(count) => Some(count),
            Err(RecvError::Empty(_)) => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Every client closes, every server reads the end and closes, too.
    fn close(&mut self) {
        while !self.clients.is_empty() {
            let left = self.clients.len().saturating_sub(BATCH);
            let (clients, servers) = (self.clients.split_off(left), self.servers.split_off(left));
            for client in clients {
                self.sim.stack(0).close(&client, self.sim.now());
            }
            self.sim.settle();
            for server in servers {
                assert_eq!(self.hear(1, &server, &mut [0; 8]), Some(0), "the end");
                self.sim.stack(1).close(&server, self.sim.now());
            }
            self.sim.settle();
        }
    }
}

#[test]
fn a_great_many_connections_are_held_and_close_cleanly() {
    let wanted = std::env::var("RXPATH_CONNECTIONS").ok();
    let connections = wanted.map_or(CONNECTIONS, |number| number.parse().expect("RXPATH_CONNECTIONS is a number"));
    let begun = Instant::now();
    let mut world = World::new(connections);
    let empty = resident();
    world.open(connections);
    world.talk();
    for stack in world.sim.stacks() {
        assert_eq!(stack.snapshot()[Counter::TcpCurrEstab], connections as u64, "all are held");
    }
    let held = resident().saturating_sub(empty);
    let opened = begun.elapsed();
    world.close();
    for (stack, established) in world.sim.stacks().iter().zip([0, 0]) {
        assert_eq!(stack.snapshot()[Counter::TcpCurrEstab], established);
    }
    let waiting = world.sim.stack(0).bound_connections();
    assert_eq!(waiting, connections, "each waits for what may still be under way");
    world.sim.pass(Duration::from_secs(61));
    for listener in world.listeners.drain(..) {
        world.sim.stack(1).close_listener(&listener, world.sim.now());
    }
    world.sim.check().expect("the ledgers balance");
    assert_eq!((world.sim.ledger().held(), world.sim.next_deadline()), (0, None), "nothing is held, nothing is due");
    for stack in world.sim.stacks() {
        assert_eq!((stack.sockets(world.sim.now()).len(), stack.bound_connections()), (0, 0));
        let counters = stack.snapshot();
        assert_eq!((counters[Counter::TcpEstabResets], counters[Counter::TcpRetransSegs]), (0, 0), "cleanly");
        for pool in stack.pools() {
            assert_eq!(pool.outstanding, pool.posted, "{pool:?}");
        }
    }
    // Past the harness, which would keep it: a figure for who runs this by hand.
    let _ = writeln!(
        std::io::stderr(),
        "{connections} connections: opened and used in {opened:.1?}, all in {:.1?}; {} bytes of resident memory for both \
         ends of each, {} MiB at the most",
        begun.elapsed(),
        held / connections,
        (held + empty) >> 20,
    );
}
