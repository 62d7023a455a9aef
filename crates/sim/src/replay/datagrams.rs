//! UDP of the capture: which sockets the host had, and stand-ins for the applications that read them.
//!
//! A socket is known from the configuration (a service over UDP, or `--listen`), or from the capture, which shows the host
//! sending from its port. Where the configuration names any, it is taken at its word: a datagram for another port found
//! nobody. Where it names none, nothing tells which ports were open, and only those of sockets that sent are given to the
//! stack. Of groups it is never known who was in them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rxpath_core::stack::{BindOptions, Stack};
use rxpath_core::udp::UdpSock;
use rxpath_trace::{Flow, Time};
use rxpath_wire::IpProto;

/// Sockets that are learnt from the capture at a time; the oldest gives way.
const LEARNT_MAX: usize = 4_096;
/// The longest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// The sockets.
pub(super) struct Datagrams {
    stack: Stack,
    /// By port.
    socks: HashMap<u16, Vec<Arc<UdpSock>>>,
    /// Ports that the capture showed, the oldest first.
    learnt: VecDeque<u16>,
    /// The configuration names sockets.
    configured: bool,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(super) fn new(stack: &Stack) -> Datagrams {
        Datagrams {
            stack: stack.clone(),
            socks: HashMap::new(),
            learnt: VecDeque::new(),
            configured: false,
            buffer: vec![0; DATAGRAM_MAX],
        }
    }

    /// A socket that the configuration names.
    pub(super) fn open(&mut self, addr: SocketAddr) -> io::Result<()> {
        let refused = |error| io::Error::other(format!("a UDP socket on {addr}: {error:?}"));
        let sock = self.stack.udp_bind(addr, BindOptions::default()).map_err(refused)?;
        self.socks.entry(addr.port()).or_default().push(sock);
        self.configured = true;
        Ok(())
    }

    /// The host sent a datagram: it has a socket at that port.
    pub(super) fn sent(&mut self, flow: &Flow, now: Time) {
        if flow.proto != IpProto::UDP || flow.sport == 0 || self.socks.contains_key(&flow.sport) {
            return;
        }
        if !matches!(flow.src, IpAddr::V4(_)) {
            return;
        }
        if self.learnt.len() >= LEARNT_MAX
            && let Some(oldest) = self.learnt.pop_front()
        {
            for sock in self.socks.remove(&oldest).unwrap_or_default() {
                self.stack.udp_close(&sock, now);
            }
        }
        let any = SocketAddr::from(([0, 0, 0, 0], flow.sport));
        // A port that is taken has a socket already.
        if let Ok(sock) = self.stack.udp_bind(any, BindOptions::default()) {
            self.socks.insert(flow.sport, vec![sock]);
            self.learnt.push_back(flow.sport);
        }
    }

    /// Whether it is known what becomes of a datagram. A fragment behind the first does not name its port: it is given to
    /// the stack where anybody may wait for its datagram.
    pub(super) fn takes(&self, flow: &Flow) -> bool {
        let known = if flow.dport == 0 { !self.socks.is_empty() } else { self.socks.contains_key(&flow.dport) };
        (self.configured || known) && !flow.dst.is_multicast()
    }

    /// The stand-ins' turn: they read what came.
    pub(super) fn read(&mut self, flow: &Flow, now: Time) {
        if flow.proto != IpProto::UDP {
            return;
        }
        let buffer = &mut self.buffer;
        let read = |sock: &Arc<UdpSock>| {
            // An error that came back is taken, too.
            while !sock.rx.is_empty() && self.stack.udp_recv(sock, buffer, false, false, now).is_ok() {}
        };
        match flow.dport {
            0 => self.socks.values().flatten().for_each(read),
            port => self.socks.get(&port).into_iter().flatten().for_each(read),
        }
    }
}
