//! A load balancer at layer 4 in front of the stack: an XDP program wraps what comes for a virtual address into packets to
//! one of several servers, chosen by the connection, and sends them back out (IP in IP, RFC 2003; the servers answer the
//! clients themselves). What is for the balancer's own address goes on to the stack.
//!
//! ```text
//! cargo run -p rxpath --example xdp_balancer -- 10.0.0.11 10.0.0.12 10.0.0.13
//! ```
#![allow(clippy::print_stdout, reason = "an example tells what it found")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use rxpath::clock::ManualClock;
use rxpath::device::wire::{self, WireConfig};
use rxpath::rxpath_core::demux::stats::DevStat;
use rxpath::rxpath_wire::{
    Addr, EtherType, EthernetRepr, FlowHasher, IpProto, Ipv4Header, Ipv4Repr, MacAddr, SeqNum, TcpFlags, TcpOptions,
    TcpRepr, Tuple, ethernet, ipv4, tcp,
};
use rxpath::xdp::{Action, Door, Frame, Program};
use rxpath::{Interface, Mode, Stack};

const ETHERNET: usize = 14;
/// What clients connect to.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// The balancer itself.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Protocol number of IP in IP.
const IPIP: u8 = 4;

/// A server: its address on the link, and its hardware address there.
#[derive(Clone, Copy, Debug)]
struct Server {
    addr: Ipv4Addr,
    mac: MacAddr,
}

/// The server of a connection: that with the highest hash of both. When one goes, only its connections move
/// (rendezvous hashing).
fn server_of(servers: &[Server], hasher: &FlowHasher, tuple: &Tuple) -> Option<Server> {
    let weight = |server: &Server| {
        let of_both = Tuple { local: Addr::from(server.addr), ..*tuple };
        hasher.hash(&of_both)
    };
    servers.iter().max_by_key(|server| weight(server)).copied()
}

/// The connection that a frame for the virtual address is of; None for any other frame. A fragment has no ports.
fn connection(data: &[u8]) -> Option<Tuple> {
    let is_ipv4 = data.get(12..14)? == EtherType::IPV4.to_be_bytes();
    let (header, _) = data.get(ETHERNET..).and_then(Ipv4Header::parse).filter(|_| is_ipv4)?;
    let ports = data.get(ETHERNET + header.header_len()..)?.first_chunk::<4>()?;
    let is_ours = header.dst() == VIRTUAL && header.protocol() == IpProto::TCP && !header.is_fragment();
    is_ours.then(|| Tuple {
        local: header.dst_addr(),
        remote: header.src_addr(),
        local_port: u16::from_be_bytes([ports[2], ports[3]]),
        remote_port: u16::from_be_bytes([ports[0], ports[1]]),
    })
}

/// Puts the packet into one to the server. False if there is no room for another header, in the frame or in a packet.
fn wrap(frame: &mut Frame<'_>, own_mac: MacAddr, server: Server) -> bool {
    let Ok(total_len) = u16::try_from(frame.len() - ETHERNET + Ipv4Header::LEN) else { return false };
    if !frame.adjust_head(-(Ipv4Header::LEN as isize)) {
        return false;
    }
    let Some((link, packet)) = frame.data_mut().split_at_mut_checked(ETHERNET) else { return false };
    ethernet::emit(link, EthernetRepr { dst: server.mac, src: own_mac, ethertype: EtherType::IPV4 });
    let outer = Ipv4Repr { src: OWN, dst: server.addr, proto: IPIP, ttl: 64, tos: 0, id: 0, df: true, total_len };
    ipv4::emit(packet, outer);
    true
}

fn balancer(own_mac: MacAddr, servers: Vec<Server>) -> Program {
    let hasher = FlowHasher::new(0x6261_6c61_6e63_6572, 0x7261_6e64_6f6d_2e2e);
    Program::new("balancer", move |frame| {
        let Some(tuple) = connection(frame.data()) else { return Action::Pass };
        match server_of(&servers, &hasher, &tuple) {
            Some(server) if wrap(frame, own_mac, server) => Action::Tx,
            _ => Action::Drop,
        }
    })
}

/// A client's SYN.
fn syn(to: Ipv4Addr, port: u16, to_mac: MacAddr) -> Vec<u8> {
    let client = Ipv4Addr::new(198, 51, 100, 7);
    let mut frame = vec![0; ETHERNET + Ipv4Header::LEN + 20];
    let src = MacAddr([2, 0, 0, 0, 0, 2]);
    ethernet::emit(&mut frame, EthernetRepr { dst: to_mac, src, ethertype: EtherType::IPV4 });
    let total_len = (frame.len() - ETHERNET) as u16;
    let ip = Ipv4Repr { src: client, dst: to, proto: IpProto::TCP, ttl: 64, tos: 0, id: 1, df: true, total_len };
    ipv4::emit(&mut frame[ETHERNET..], ip);
    let segment = &mut frame[ETHERNET + Ipv4Header::LEN..];
    let (seq, ack, options) = (SeqNum(1), SeqNum(0), TcpOptions::default());
    let repr = TcpRepr { sport: port, dport: 80, seq, ack, flags: TcpFlags::SYN, window: 64_240, urgent: 0, options };
    tcp::emit(segment, repr);
    tcp::fill_checksum(Addr::from(client), Addr::from(to), segment);
    frame
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut addrs: Vec<Ipv4Addr> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    if addrs.is_empty() {
        addrs = [11, 12, 13].map(|last| Ipv4Addr::new(10, 0, 0, last)).into();
    }
    // Where servers have their hardware addresses from is the control plane's business.
    let servers: Vec<Server> =
        addrs.iter().map(|addr| Server { addr: *addr, mac: MacAddr([2, 0, 0, 0, 1, addr.octets()[3]]) }).collect();
    let config = WireConfig::default();
    let own_mac = config.mac;
    let (wire, port) = wire::port(config);
    let interface = Interface::new(wire).address("10.0.0.1/24")?;
    let stack = Stack::builder().interface(interface).mode(Mode::Polled).clock(ManualClock::new()).seed(1).build()?;
    stack.attach_xdp(1, Door::Native, Some(balancer(own_mac, servers)));

    let mut load: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
    let mut home: BTreeMap<u16, Ipv4Addr> = BTreeMap::new();
    for round in 0..2 {
        for client in 1_000..1_300 {
            let sent = syn(VIRTUAL, client, own_mac);
            port.send(stack.now(), &sent)?;
            stack.poll(stack.now());
            let wrapped = port.recv().ok_or("nothing came back")?;
            let (outer, _) = Ipv4Header::parse(&wrapped[ETHERNET..]).ok_or("no packet")?;
            assert!(ipv4::verify(&wrapped[ETHERNET..ETHERNET + Ipv4Header::LEN]), "the outer header is right");
            assert_eq!(wrapped[ETHERNET + Ipv4Header::LEN..], sent[ETHERNET..], "and what is in it is as it came");
            let server = outer.dst();
            assert_eq!(*home.entry(client).or_insert(server), server, "a connection stays with its server");
            *load.entry(server).or_default() += u32::from(round == 0);
        }
    }
    // The balancer's own address is the stack's, which resets what nobody listens for. The client is not on the link, so the
    // answer has no way: a packet for the stack all the same.
    port.send(stack.now(), &syn(OWN, 999, own_mac))?;
    stack.poll(stack.now());

    for (server, connections) in &load {
        println!("{server} has {connections} of 300 connections");
    }
    let stats = stack.interfaces()[0].stats;
    println!("sent on {}, passed {}", stats[DevStat::XdpTx], stats[DevStat::XdpPass]);
    println!("{}", stack.ledger());
    Ok(())
}
