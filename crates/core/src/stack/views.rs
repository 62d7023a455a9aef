//! Looking into a running stack: `/proc` texts, sockets, interfaces.

use std::net::SocketAddr;
use std::sync::Arc;

use rxpath_mem::PoolStats;
use rxpath_trace::proc::{self, Conn, DatagramRow, DevRow, SockStat, SoftnetRow, TcpRow, TcpTimer};
use rxpath_trace::{TcpState, Time};
use rxpath_wire::Addr;

use super::{Cpu, Stack, lock};
use crate::demux::stats::{DevStat, DevStats};
use crate::neigh::{NeighRow, Nud};
use crate::route::{FibRoute, RouteKind};
use crate::socket::{FlowEntry, Sock};
use crate::tcp::{Request, TcpInfo, TcpSock, TimeWait};
use crate::udp::UdpSock;

/// An interface with its statistics.
#[derive(Clone, Debug)]
pub struct InterfaceView {
    /// Name.
    pub name: String,
    /// Index.
    pub ifindex: u16,
    /// Sums over all Cpus.
    pub stats: DevStats,
}

/// A receive ring, as `ethtool -S` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingView {
    /// Index of the interface.
    pub ifindex: u16,
    /// Queue of the device.
    pub queue: u16,
    /// Frames that the device offered.
    pub offered: u64,
    /// Frames that the driver took.
    pub taken: u64,
    /// Frames that found the ring full, for want of a driver that keeps up.
    pub missed: u64,
    /// Frames that found the ring empty, for want of memory.
    pub no_buffer: u64,
    /// Refills that found no memory.
    pub alloc_failed: u64,
}

/// A connection as `ss` shows it.
#[derive(Clone, Debug)]
pub struct SocketView {
    /// The row of `/proc/net/tcp`.
    pub row: TcpRow,
    /// Cpu that owns the flow.
    pub cpu: u16,
    /// Segments that the socket dropped (`sk_drops`); 0 for what is no full socket.
    pub drops: u32,
    /// Its memory; of full sockets alone.
    pub mem: Option<MemView>,
    /// What it tells of itself; of full sockets alone.
    pub info: Option<Box<TcpInfo>>,
}

/// The memory of a socket (`sk_get_meminfo`), in bytes of truesize: what `ss -m` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemView {
    /// Received and not read (`sk_rmem_alloc`).
    pub rmem_alloc: u32,
    /// Limit of that (`sk_rcvbuf`).
    pub rcvbuf: u32,
    /// On its way out (`sk_wmem_alloc`).
    pub wmem_alloc: u32,
    /// Limit of what may wait to be sent (`sk_sndbuf`).
    pub sndbuf: u32,
    /// The socket's already and not charged yet (`sk_forward_alloc`).
    pub forward_alloc: u32,
    /// Waiting to be sent or acknowledged (`sk_wmem_queued`).
    pub wmem_queued: u32,
    /// On the backlog (`sk_backlog.len`).
    pub backlog: u32,
}

/// A datagram socket as `ss -u` shows it.
#[derive(Clone, Debug)]
pub struct DatagramView {
    /// The row of `/proc/net/udp`.
    pub row: DatagramRow,
    /// The Cpu that sends for it.
    pub cpu: u16,
    /// Its memory.
    pub mem: MemView,
}

/// The page pool of one Cpu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// The Cpu.
    pub cpu: u16,
    /// What it did so far.
    pub stats: PoolStats,
    /// Slots of all classes that are out: in rings, in packets, with readers.
    pub outstanding: usize,
    /// Of these, slots that are posted to receive rings.
    pub posted: usize,
}

/// A listener as `ss -l` shows it.
#[derive(Clone, Debug)]
pub struct ListenerView {
    /// Local address.
    pub local: SocketAddr,
    /// Connections waiting to be accepted.
    pub accept_queue: u32,
    /// Limit of the accept queue.
    pub backlog: u32,
    /// Receive buffer that its connections begin with.
    pub rcvbuf: u32,
    /// Send buffer, likewise.
    pub sndbuf: u32,
}

impl Stack {
    /// The receive rings of all interfaces, in their order.
    pub fn rings(&self) -> Vec<RingView> {
        let mut views: Vec<RingView> = Vec::new();
        for (ifindex, queue, ring, _) in &self.0.rings {
            views.push(RingView {
                ifindex: *ifindex,
                queue: *queue,
                offered: ring.offered(),
                taken: ring.harvested(),
                missed: ring.missed(),
                no_buffer: ring.no_buffer(),
                alloc_failed: ring.alloc_failed(),
            });
        }
        views.sort_by_key(|view| (view.ifindex, view.queue));
        views
    }

    /// `/proc/net/route`: the routes of the table `main`, but for broadcasts, which the kernel leaves out.
    pub fn proc_route(&self) -> String {
        let net = self.config();
        let shown = |route: &FibRoute| !route.hop.local_table && route.hop.kind != RouteKind::Broadcast;
        let row = |route: FibRoute| proc::RouteRow {
            interface: net.interface(route.hop.ifindex).map(|interface| interface.name.clone()),
            to: route.to,
            prefix: route.prefix,
            via: (route.hop.via != 0).then(|| route.hop.via.into()),
            rejects: matches!(route.hop.kind, RouteKind::Unreachable | RouteKind::Prohibit),
            metric: route.hop.metric,
        };
        let rows: Vec<_> = net.fib.routes().into_iter().filter(shown).map(row).collect();
        proc::route(&rows)
    }

    /// The neighbours of all interfaces, by interface and address.
    pub fn neighbours(&self) -> Vec<NeighRow> {
        self.0.neigh.rows()
    }

    /// The addresses that the stack answers ARP requests for one by one, with their interfaces.
    pub fn proxy_neighbours(&self) -> Vec<(u16, Addr)> {
        self.0.neigh.proxies()
    }

    /// `/proc/net/arp`.
    pub fn proc_arp(&self) -> String {
        let net = self.config();
        let row = |row: NeighRow| {
            Some(proc::ArpRow {
                addr: row.addr.v4()?,
                mac: row.state.is_valid().then_some(row.mac.0),
                permanent: row.state == Nud::Permanent,
                interface: net.interface(row.ifindex)?.name.clone(),
            })
        };
        proc::arp(&self.neighbours().into_iter().filter_map(row).collect::<Vec<_>>())
    }

    /// `/proc/net/snmp`.
    pub fn proc_snmp(&self) -> String {
        let sysctl = &self.config().sysctl;
        proc::snmp(&self.snapshot(), sysctl.conf.all.forwarding, sysctl.ip_default_ttl)
    }

    /// `/proc/net/netstat`.
    pub fn proc_netstat(&self) -> String {
        proc::netstat(&self.snapshot())
    }

    /// `/proc/net/softnet_stat`.
    pub fn proc_softnet_stat(&self) -> String {
        let rows: Vec<SoftnetRow> = (0..self.cpus())
            .map(|cpu| {
                let waiting = self.0.inboxes[usize::from(cpu)].backlog.len() as u32;
                SoftnetRow { input_qlen: waiting, ..SoftnetRow::of(&self.snapshot_of(cpu), u32::from(cpu)) }
            })
            .collect();
        proc::softnet_stat(&rows)
    }

    /// `/proc/net/dev`.
    pub fn proc_dev(&self) -> String {
        let rows: Vec<DevRow> = self.interfaces().iter().map(dev_row).collect();
        proc::dev(&rows)
    }

    /// `/proc/net/tcp`.
    pub fn proc_tcp(&self, now: Time) -> String {
        let rows: Vec<TcpRow> = self.sockets(now).into_iter().map(|view| view.row).collect();
        proc::tcp(&rows)
    }

    /// UDP sockets, by port.
    pub fn udp_sockets(&self) -> Vec<DatagramView> {
        let view = |sock: Arc<UdpSock>| {
            let binding = sock.binding();
            let (remote, port) = binding.remote.unwrap_or((Addr::UNSPECIFIED_V4, 0));
            let row = DatagramRow {
                local: SocketAddr::new(binding.local.to_ip(), binding.port),
                remote: SocketAddr::new(remote.to_ip(), port),
                connected: binding.remote.is_some(),
                tx_queue: sock.wmem(),
                rx_queue: sock.rx.rmem(),
                uid: 0,
                inode: 0,
                refs: 2,
                cookie: sock.number,
                drops: sock.rx.drops(),
            };
            let (rmem_alloc, rcvbuf) = (row.rx_queue, sock.rx.rcvbuf());
            let mem =
                MemView { rmem_alloc, rcvbuf, wmem_alloc: row.tx_queue, sndbuf: sock.sndbuf(), ..MemView::default() };
            DatagramView { row, cpu: sock.cpu, mem }
        };
        // Those without a port are in no table of the kernel's.
        self.0.udp.all().into_iter().filter(|sock| sock.binding().port != 0).map(view).collect()
    }

    /// `/proc/net/udp`.
    pub fn proc_udp(&self) -> String {
        let rows: Vec<DatagramRow> = self.udp_sockets().into_iter().map(|view| view.row).collect();
        proc::udp(&rows)
    }

    /// `/proc/net/sockstat`.
    pub fn proc_sockstat(&self) -> String {
        let mut stat = SockStat::default();
        let memory = &self.0.tcp_memory;
        let listeners = self.listeners().len() as u64;
        stat.tcp_inuse += listeners;
        stat.tcp_alloc = memory.sockets();
        stat.tcp_orphan = memory.orphans();
        stat.tcp_mem = memory.pages();
        for cell in &self.0.cpus {
            let cpu = lock(&cell.token);
            for (_, entry) in cpu.flows.iter() {
                match entry {
                    FlowEntry::Sock(entry) => {
                        stat.tcp_inuse += u64::from(entry.sock.is_some());
                    }
                    FlowEntry::TimeWait(_) => stat.tcp_tw += 1,
                    FlowEntry::Request(_) => {}
                }
            }
        }
        stat.udp_inuse = self.0.udp.len() as u64;
        stat.udp_mem = self.0.udp.memory.pages();
        stat.raw_inuse = self.config().raw.all().len() as u64;
        stat.sockets_used = stat.tcp_inuse + stat.udp_inuse + stat.raw_inuse;
        stat.frag_inuse = self.0.frags.datagrams() as u64;
        stat.frag_memory = self.0.frags.memory();
        proc::sockstat(&stat)
    }

    /// Interfaces with their statistics.
    pub fn interfaces(&self) -> Vec<InterfaceView> {
        let net = self.config();
        let rows = net.interfaces.iter().filter(|interface| !interface.is_gone()).map(|interface| InterfaceView {
            name: interface.name.clone(),
            ifindex: interface.ifindex,
            stats: self.0.cpus.iter().map(|cell| cell.dev.row(interface.ifindex)).sum(),
        });
        rows.collect()
    }

    /// The page pools.
    pub fn pools(&self) -> Vec<PoolView> {
        let view = |(cpu, cell): (usize, &super::CpuCell)| {
            let guard = lock(&cell.token);
            PoolView {
                cpu: cpu as u16,
                stats: guard.cx.pool.stats(),
                outstanding: guard.cx.pool.outstanding(),
                posted: guard.softirq.napis.iter().map(crate::napi::Napi::posted).sum(),
            }
        };
        self.0.cpus.iter().enumerate().map(view).collect()
    }

    /// Listeners.
    pub fn listeners(&self) -> Vec<ListenerView> {
        let listeners = self.0.listeners.map();
        let config = self.config();
        let views = listeners.iter().map(|listener| ListenerView {
            local: SocketAddr::new(listener.addr.to_ip(), listener.port),
            accept_queue: listener.accept_queue_len() as u32,
            backlog: listener.backlog,
            rcvbuf: listener.options().rcvbuf(&config.sysctl),
            sndbuf: listener.options().sndbuf(&config.sysctl),
        });
        views.collect()
    }

    /// When each timer of a connection is due, and the next one of neighbours and of datagrams in pieces; in no order. A
    /// connection whose timer was put off since is still looked at when it was due first: `next_deadline` tells that, too.
    pub fn timer_deadlines(&self) -> Vec<Time> {
        let mut deadlines: Vec<Time> =
            [self.0.neigh.next_deadline(), self.0.frags.next_deadline()].into_iter().flatten().collect();
        for cell in &self.0.cpus {
            for (_, entry) in lock(&cell.token).flows.iter() {
                match entry {
                    FlowEntry::Sock(entry) => {
                        deadlines.extend(entry.sock.iter().flat_map(|sock| sock.lock.user().timers.deadlines()));
                    }
                    FlowEntry::Request(request) => deadlines.push(request.deadline),
                    FlowEntry::TimeWait(tw) => deadlines.push(tw.deadline),
                }
            }
        }
        deadlines.retain(|&at| at < Time::MAX);
        deadlines
    }

    /// Connections that were opened here and keep their local port: until TIME-WAIT is over.
    pub fn bound_connections(&self) -> usize {
        self.0.binds.connections()
    }

    /// Listeners first, then connections, as `/proc/net/tcp` has them.
    pub fn sockets(&self, now: Time) -> Vec<SocketView> {
        let mut views: Vec<SocketView> = self.listeners().iter().map(listen_view).collect();
        for (cpu, cell) in self.0.cpus.iter().enumerate() {
            let guard = lock(&cell.token);
            views.extend(flow_views(&guard, cpu as u16, now));
        }
        views
    }
}

fn listen_view(listener: &ListenerView) -> SocketView {
    let nobody = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
    let conn = Conn { rto: 100, ato: 0, quick: 0, pingpong: false, cwnd: 10, ssthresh: 0 };
    let row = TcpRow {
        local: listener.local,
        remote: nobody,
        state: TcpState::Listen,
        rx_queue: listener.accept_queue,
        refs: 1,
        conn: Some(conn),
        ..blank_row(listener.local, nobody, TcpState::Listen)
    };
    let mem = MemView { rcvbuf: listener.rcvbuf, sndbuf: listener.sndbuf, ..MemView::default() };
    SocketView { row, cpu: 0, drops: 0, mem: Some(mem), info: None }
}

fn blank_row(local: SocketAddr, remote: SocketAddr, state: TcpState) -> TcpRow {
    TcpRow {
        local,
        remote,
        state,
        tx_queue: 0,
        rx_queue: 0,
        timer: TcpTimer::Off,
        when: 0,
        retransmits: 0,
        uid: 0,
        probes: 0,
        inode: 0,
        refs: 1,
        cookie: 0,
        conn: None,
    }
}

fn flow_views(cpu: &Cpu, index: u16, now: Time) -> Vec<SocketView> {
    let views = cpu.flows.iter().filter_map(|(_, entry)| {
        let blank = |row| SocketView { row, cpu: index, drops: 0, mem: None, info: None };
        match entry {
            FlowEntry::Sock(entry) => entry.sock.as_ref().map(|sock| sock_view(sock, index, now)),
            FlowEntry::Request(request) => Some(blank(request_row(request, now))),
            FlowEntry::TimeWait(tw) => Some(blank(time_wait_row(tw, now))),
        }
    });
    views.collect()
}

/// Hundredths of a second until `at`.
fn centiseconds(at: Time, now: Time) -> u32 {
    if at == Time::MAX { 0 } else { ((at - now) / 10_000_000).min(u64::from(u32::MAX)) as u32 }
}

fn sock_view(sock: &Sock, cpu: u16, now: Time) -> SocketView {
    let sk = sock.lock.user();
    let drops = sk.user.drops + sock.backlog_drops();
    let info = Some(Box::new(sk.info(now)));
    let view = SocketView { row: tcp_row(&sk, now), cpu, drops, mem: Some(mem_of(&sk)), info };
    // A softirq that was turned away in this moment comes again: the caller holds its token.
    drop(sk);
    view
}

fn mem_of(sk: &TcpSock) -> MemView {
    MemView {
        rmem_alloc: sk.rx.rmem_alloc,
        rcvbuf: sk.rx.rcvbuf,
        // What was handed to the device is not the socket's any more.
        wmem_alloc: 0,
        sndbuf: u32::try_from(sk.tx.sndbuf).unwrap_or(u32::MAX),
        forward_alloc: sk.rx.forward_alloc.max(0).cast_unsigned(),
        wmem_queued: sk.rx.wmem_queued,
        backlog: sk.rx.backlog_len,
    }
}

fn tcp_row(sk: &TcpSock, now: Time) -> TcpRow {
    let (timer, when) = if sk.timers.retransmit != Time::MAX {
        let kind = if sk.timers.probing() { TcpTimer::Probe } else { TcpTimer::Retransmit };
        (kind, centiseconds(sk.timers.retransmit, now))
    } else if sk.timers.keepalive != Time::MAX {
        (TcpTimer::KeepAlive, centiseconds(sk.timers.keepalive, now))
    } else {
        (TcpTimer::Off, 0)
    };
    let state = TcpState::from_number(sk.state as u32).unwrap_or(TcpState::Close);
    let ssthresh = if sk.cong.ssthresh == u32::MAX { -1 } else { sk.cong.ssthresh as i32 };
    TcpRow {
        tx_queue: sk.unacknowledged(),
        rx_queue: (sk.rx.rcv_nxt - sk.rx.copied_seq).max(0) as u32,
        timer,
        when,
        retransmits: u32::from(if sk.timers.probing() { 0 } else { sk.rtt.retransmits }),
        probes: u32::from(if sk.timers.probing() { sk.rtt.backoff } else { 0 }),
        refs: 2,
        conn: Some(Conn {
            rto: (sk.rtt.backed_off() / 10_000_000) as u32,
            ato: (sk.ack.ato / 10_000_000) as u32,
            quick: u32::from(sk.ack.quick),
            pingpong: sk.ack.pingpong,
            cwnd: sk.cong.cwnd,
            ssthresh,
        }),
        ..blank_row(sk.tuple.local_socket(), sk.tuple.remote_socket(), state)
    }
}

fn request_row(request: &Request, now: Time) -> TcpRow {
    TcpRow {
        timer: TcpTimer::Retransmit,
        when: centiseconds(request.deadline, now),
        retransmits: u32::from(request.retransmits),
        ..blank_row(request.tuple.local_socket(), request.tuple.remote_socket(), TcpState::NewSynRecv)
    }
}

fn time_wait_row(tw: &TimeWait, now: Time) -> TcpRow {
    let state = TcpState::from_number(tw.substate as u32).unwrap_or(TcpState::TimeWait);
    TcpRow {
        timer: TcpTimer::TimeWait,
        when: centiseconds(tw.deadline, now),
        refs: 3,
        ..blank_row(tw.tuple.local_socket(), tw.tuple.remote_socket(), state)
    }
}

fn dev_row(view: &InterfaceView) -> DevRow {
    let stats = &view.stats;
    DevRow {
        name: view.name.clone(),
        rx_bytes: stats[DevStat::RxBytes],
        rx_packets: stats[DevStat::RxPackets],
        rx_errors: stats[DevStat::RxErrors],
        rx_dropped: stats[DevStat::RxDropped],
        rx_missed_errors: stats[DevStat::RxMissedErrors],
        rx_fifo_errors: stats[DevStat::RxFifoErrors],
        rx_length_errors: stats[DevStat::RxLengthErrors],
        rx_over_errors: stats[DevStat::RxOverErrors],
        rx_crc_errors: stats[DevStat::RxCrcErrors],
        rx_frame_errors: stats[DevStat::RxFrameErrors],
        multicast: stats[DevStat::Multicast],
        tx_bytes: stats[DevStat::TxBytes],
        tx_packets: stats[DevStat::TxPackets],
        tx_errors: stats[DevStat::TxErrors],
        tx_dropped: stats[DevStat::TxDropped],
        ..DevRow::default()
    }
}
