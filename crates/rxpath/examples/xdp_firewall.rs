//! A firewall in front of the stack: an XDP program drops what comes from a list of networks before it becomes a packet
//! of the stack, and the books say so.
//!
//! ```text
//! cargo run -p rxpath --example xdp_firewall -- 10.0.0.128/25 198.51.100.0/24
//! ```
#![allow(clippy::print_stdout, reason = "an example tells what it found")]

use std::net::Ipv4Addr;

use rxpath::clock::ManualClock;
use rxpath::device::wire::{self, WireConfig};
use rxpath::rxpath_core::demux::stats::DevStat;
use rxpath::rxpath_wire::{
    EtherType, EthernetRepr, IcmpHeader, IpProto, Ipv4Header, Ipv4Repr, MacAddr, ethernet, icmp, ipv4,
};
use rxpath::xdp::{Action, Door, Program};
use rxpath::{Interface, Mode, Stack};

const ETHERNET: usize = 14;

/// A network: its address and its mask.
type Prefix = (u32, u32);

fn parse(text: &str) -> Result<Prefix, String> {
    let wrong = || format!("\"{text}\" is no network: write it as 198.51.100.0/24");
    let (addr, len) = text.split_once('/').ok_or_else(wrong)?;
    let addr: Ipv4Addr = addr.parse().map_err(|_| wrong())?;
    let len: u32 = len.parse().ok().filter(|len| *len <= 32).ok_or_else(wrong)?;
    let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
    Ok((u32::from(addr) & mask, mask))
}

fn firewall(refused: Vec<Prefix>) -> Program {
    Program::new("prefix list", move |frame| {
        let data = frame.data();
        let is_ipv4 = data.get(12..14) == Some(&EtherType::IPV4.to_be_bytes()[..]);
        let Some((header, _)) = data.get(ETHERNET..).and_then(Ipv4Header::parse).filter(|_| is_ipv4) else {
            return Action::Pass;
        };
        let source = u32::from(header.src());
        if refused.iter().any(|(net, mask)| source & mask == *net) { Action::Drop } else { Action::Pass }
    })
}

/// An echo request from `source` to us.
fn ping(source: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + Ipv4Header::LEN + IcmpHeader::LEN];
    let (dst, src) = (MacAddr::BROADCAST, MacAddr([2, 0, 0, 0, 0, 2]));
    ethernet::emit(&mut frame, EthernetRepr { dst, src, ethertype: EtherType::IPV4 });
    let total_len = (frame.len() - ETHERNET) as u16;
    let dst = Ipv4Addr::new(10, 0, 0, 1);
    let ip = Ipv4Repr { src: source, dst, proto: IpProto::ICMP, ttl: 64, tos: 0, id: 1, df: false, total_len };
    ipv4::emit(&mut frame[ETHERNET..], ip);
    let message = &mut frame[ETHERNET + Ipv4Header::LEN..];
    message[0] = icmp::ECHO_REQUEST;
    icmp::fill_checksum(message);
    frame
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut refused: Vec<Prefix> = std::env::args().skip(1).map(|text| parse(&text)).collect::<Result<_, _>>()?;
    if refused.is_empty() {
        refused.push(parse("10.0.0.128/25")?);
    }
    let (wire, port) = wire::port(WireConfig::default());
    let clock = ManualClock::new();
    let interface = Interface::new(wire).address("10.0.0.1/24")?;
    let stack = Stack::builder().interface(interface).mode(Mode::Polled).clock(clock).seed(1).build()?;
    stack.attach_xdp(1, Door::Native, Some(firewall(refused)));

    for last in [2, 127, 128, 200] {
        port.send(stack.now(), &ping(Ipv4Addr::new(10, 0, 0, last)))?;
        stack.poll(stack.now());
    }
    let stats = stack.interfaces()[0].stats;
    println!("passed {}, dropped {}", stats[DevStat::XdpPass], stats[DevStat::XdpDrop]);
    for (reason, packets) in stack.ledger().drops() {
        println!("{packets} x {}", reason.name());
    }
    println!("{}", stack.ledger());
    Ok(())
}
