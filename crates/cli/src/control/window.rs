//! What the control socket answers from: a running stack and the lives that ended in it lately.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rxpath::Stack;
use rxpath_core::stack::{DatagramView, SocketView};
use rxpath_trace::proc::SoftnetRow as ProcRow;
use rxpath_trace::{Filter, Life, Names, Selector, TcpState};
use serde_json::Value;

use super::server::Answer;
use super::store::LifeStore;
use super::{Ask, MAX_DUMP_KIB, MAX_LIVES, Reply, dump};
use crate::views::lives::{self, Wanted};
use crate::views::ss::state_name;
use crate::views::{
    CounterRow, Drops, InfoRow, Lives, MemoryRow, Netid, ProcFiles, SocketRow, SoftnetRow, counter_rows, ethtool,
    neigh, route,
};

/// Lives that wait for a client that follows; further ones are lost to it.
const FOLLOWER_QUEUE: usize = 1_024;
/// Clients that follow, at a time.
const MAX_FOLLOWERS: usize = 16;
/// How often a client that follows and gets nothing is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// A stack as others may see it.
pub struct Window {
    stack: Stack,
    names: Names,
    seen: Mutex<Seen>,
}

/// Lives, and who wants to hear of them.
struct Seen {
    store: LifeStore,
    followers: Vec<SyncSender<Arc<Life>>>,
    selected: Selector,
}

impl Window {
    /// A window into `stack`, which records the lives that `selected` says.
    pub fn new(stack: Stack, selected: Selector) -> Window {
        let interfaces = stack.interfaces().into_iter();
        let names = interfaces.fold(Names::new(), |names, interface| names.device(interface.ifindex, interface.name));
        let seen = Mutex::new(Seen { store: LifeStore::new(), followers: Vec::new(), selected });
        Window { stack, names, seen }
    }

    /// Empties the stack's event rings into the store. To be called often: rings that are full lose events.
    pub fn collect(&self) {
        let mut seen = self.seen();
        // Taken under the lock: rounds must come to the store in their order.
        let complete = seen.store.absorb(self.stack.take_events());
        for life in complete {
            seen.followers.retain(|follower| match follower.try_send(Arc::clone(&life)) {
                Ok(()) | Err(TrySendError::Full(_)) => true,
                Err(TrySendError::Disconnected(_)) => false,
            });
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All sockets, datagram sockets first.
    pub fn sockets(&self) -> Vec<SocketRow> {
        let backlogs = self.stack.listeners();
        let backlog = |view: &SocketView| {
            backlogs.iter().find(|listener| listener.local == view.row.local).map_or(0, |listener| listener.backlog)
        };
        let row = |view: &SocketView| {
            let listens = view.row.state == TcpState::Listen;
            SocketRow {
                netid: Netid::Tcp,
                state: state_name(view.row.state).to_owned(),
                local: view.row.local,
                remote: view.row.remote,
                recv_q: view.row.rx_queue,
                send_q: if listens { backlog(view) } else { view.row.tx_queue },
                cpu: (!listens).then_some(view.cpu),
                drops: view.drops,
                memory: view.mem.map(MemoryRow::from),
                info: view.info.as_ref().map(|info| InfoRow::of(info, view.row.timer, u64::from(view.row.when) * 10)),
            }
        };
        let datagrams = |netid: Netid, views: Vec<DatagramView>| {
            let row = move |view: DatagramView| SocketRow {
                netid,
                state: state_name(if view.row.connected { TcpState::Established } else { TcpState::Close }).to_owned(),
                local: view.row.local,
                remote: view.row.remote,
                recv_q: view.row.rx_queue,
                send_q: view.row.tx_queue,
                cpu: Some(view.cpu),
                drops: view.row.drops,
                memory: Some(view.mem.into()),
                info: None,
            };
            views.into_iter().map(row)
        };
        let others = datagrams(Netid::Raw, self.stack.raw_sockets());
        let others = others.chain(datagrams(Netid::Udp, self.stack.udp_sockets()));
        others.chain(self.stack.sockets().iter().map(row)).collect()
    }

    fn softnet(&self) -> Vec<SoftnetRow> {
        // The backlog's length is in the text only.
        let waiting: Vec<u32> = self.stack.proc().softnet_stat().lines().map(backlog_of).collect();
        let row = |cpu: u16| {
            let row = ProcRow::of(&self.stack.core().snapshot_of(cpu), u32::from(cpu));
            let backlog = waiting.get(usize::from(cpu)).copied().unwrap_or(0);
            let ProcRow { processed, dropped, time_squeeze, received_rps, .. } = row;
            SoftnetRow { cpu, processed, dropped, time_squeeze, received_rps, backlog }
        };
        (0..self.stack.cpus()).map(row).collect()
    }

    /// The statistics of an interface and its rings, or which interfaces there are.
    pub fn interface(&self, name: &str) -> Result<Vec<CounterRow>, String> {
        let interfaces = self.stack.interfaces();
        let Some(interface) = interfaces.iter().find(|interface| interface.name == name) else {
            let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
            return Err(format!("no interface \"{name}\"; there is: {}", names.join(", ")));
        };
        let rings = self.stack.core().rings();
        let of_interface = rings.iter().filter(|ring| ring.ifindex == interface.ifindex);
        Ok(ethtool::rows(interface, of_interface, &self.stack.pools()))
    }

    /// The files that tools of the kernel read, by their path below `/proc`.
    pub fn proc_files(&self) -> ProcFiles {
        let proc = self.stack.proc();
        let files = [
            ("net/snmp", proc.snmp()),
            ("net/netstat", proc.netstat()),
            ("net/tcp", proc.tcp()),
            ("net/udp", proc.udp()),
            ("net/raw", proc.raw()),
            ("net/sockstat", proc.sockstat()),
            ("net/softnet_stat", proc.softnet_stat()),
            ("net/dev", proc.dev()),
            ("net/packet", proc.packet()),
            ("net/ptype", proc.ptype()),
            ("net/route", proc.route()),
            ("net/arp", proc.arp()),
        ];
        files.into_iter().map(|(path, text)| (path.to_owned(), text)).collect()
    }

    /// The newest lives; `follower`, if there is one, gets those that end from then on.
    fn lives(&self, last: usize, wanted: &Wanted, follower: Option<SyncSender<Arc<Life>>>) -> Result<Lives, String> {
        // Twice: a life is complete one round after its end.
        self.collect();
        self.collect();
        let mut seen = self.seen();
        if seen.followers.len() >= MAX_FOLLOWERS && follower.is_some() {
            return Err(format!("{MAX_FOLLOWERS} clients follow already; end one of them"));
        }
        seen.followers.extend(follower);
        let newest = seen.store.newest().filter(|life| wanted.wants(life)).take(last.min(MAX_LIVES));
        let mut newest: Vec<Arc<Life>> = newest.cloned().collect();
        let selected = seen.selected.to_string();
        drop(seen);
        newest.reverse();
        let lives = newest.iter().map(|life| lives::row(life, &self.names)).collect();
        Ok(Lives { lives, selected, lost: self.stack.lost_events() })
    }

    fn select(&self, text: &str) -> Result<String, String> {
        let selector: Selector = text.parse().map_err(|error| format!("{error}"))?;
        self.stack.select_lives(&selector);
        let text = selector.to_string();
        self.seen().selected = selector;
        Ok(text)
    }
}

impl Answer for Window {
    fn answer(&self, ask: Ask, send: &mut dyn FnMut(Reply) -> io::Result<()>) -> io::Result<()> {
        send(match ask {
            Ask::Counters => Reply::of(&counter_rows(&self.stack.snapshot())),
            Ask::Sockets => Reply::of(&self.sockets()),
            Ask::Drops => Reply::of(&Drops::of(&self.stack.ledger())),
            Ask::Softnet => Reply::of(&self.softnet()),
            Ask::Interface { name } => self.interface(&name).map_or_else(Reply::Error, |rows| Reply::of(&rows)),
            Ask::Dump { interface, filter, snaplen, buffer_kib } => {
                let filter = match filter.map(|text| text.parse::<Filter>()).transpose() {
                    Ok(filter) => filter,
                    Err(error) => return send(Reply::Error(error.to_string())),
                };
                let buffer = buffer_kib.min(MAX_DUMP_KIB) << 10;
                let wanted = dump::Wanted { interface, filter, snaplen: snaplen as usize, buffer };
                return dump::answer(&self.stack, wanted, send);
            }
            Ask::Routes => Reply::of(&route::rows(&self.stack)),
            Ask::Neighbours => Reply::of(&neigh::rows(&self.stack)),
            Ask::Proxies => Reply::of(&neigh::proxies(&self.stack)),
            Ask::SetNeighbour(change) => Reply::of(&change.make(&self.stack).err()),
            Ask::Proc => Reply::of(&self.proc_files()),
            Ask::Select { lives } => self.select(&lives).map_or_else(Reply::Error, |text| Reply::Ok(text.into())),
            Ask::Lives { last, filter, dropped, follow } => {
                let filter = match filter.map(|text| text.parse::<Filter>()).transpose() {
                    Ok(filter) => filter,
                    Err(error) => return send(Reply::Error(error.to_string())),
                };
                let wanted = Wanted { filter, dropped };
                if follow {
                    return self.answer_following(last, &wanted, send);
                }
                self.lives(last, &wanted, None).map_or_else(Reply::Error, |lives| Reply::of(&lives))
            }
        })
    }
}

impl Window {
    fn answer_following(
        &self,
        last: usize,
        wanted: &Wanted,
        send: &mut dyn FnMut(Reply) -> io::Result<()>,
    ) -> io::Result<()> {
        let (follower, following) = sync_channel(FOLLOWER_QUEUE);
        match self.lives(last, wanted, Some(follower)) {
            Ok(lives) => send(Reply::of(&lives))?,
            Err(why) => return send(Reply::Error(why)),
        }
        loop {
            match following.recv_timeout(HEARTBEAT) {
                Ok(life) if wanted.wants(&life) => send(Reply::of(&lives::row(&life, &self.names)))?,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => send(Reply::Ok(Value::Null))?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

/// The length of the backlog in a line of `softnet_stat`: the last but one column, hexadecimal.
fn backlog_of(line: &str) -> u32 {
    let column = line.split_ascii_whitespace().nth(13);
    column.and_then(|column| u32::from_str_radix(column, 16).ok()).unwrap_or(0)
}
