//! Datagrams to sockets of every kind, errors about what sockets sent, and the calls of their applications.

use std::net::{Ipv4Addr, SocketAddrV4};

use rxpath_wire::{IpProto, MacAddr};

use super::super::case::{Case, host_mac};
use super::super::datagram::{UdpCall, UdpOption};
use super::Script;
use super::packets::{OURS, PEER, Packet, datagram, host, mac_of, message};

/// Ports of the host's sockets, and one that nobody has.
const PORTS: [u16; 3] = [5_000, 5_001, 53];
const CLOSED: u16 = 5_009;
/// Ports of others.
const THEIRS: [u16; 2] = [6_000, 6_001];
/// Another host on the link.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
/// One that has never said anything.
const SILENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 77);
const ALL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 255), Ipv4Addr::BROADCAST];
/// Groups of the link, whose members tell no router.
const GROUPS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::new(224, 0, 0, 252), Ipv4Addr::new(224, 0, 0, 77)];
const MORE: u16 = 0x2000;

/// Some sockets, and some 50 datagrams and calls.
pub fn udp(seed: u64) -> Case {
    let mut host = host();
    // Members of such groups do not report to routers: the stack has no IGMP.
    host.sysctls.push(("net.ipv4.igmp_link_local_mcast_reports".to_owned(), "0".to_owned()));
    let mut script = Script::new("udp", seed, host);
    if script.chance(10) {
        script.set("net.ipv4.udp_early_demux", 0);
    }
    let sockets = 1 + script.rng.below(5) as u8;
    for socket in 0..sockets {
        open(&mut script, socket);
    }
    if script.chance(15) {
        flood(&mut script);
    }
    for _ in 0..20 + script.rng.below(50) {
        if script.chance(55) {
            arrive(&mut script);
        } else {
            let socket = script.rng.below(u32::from(sockets)) as u8;
            call(&mut script, socket);
        }
    }
    for socket in 0..sockets {
        for _ in 0..3 {
            script.call(socket, UdpCall::Recv(2_000));
        }
    }
    script.case(seed, 3_000)
}

/// A socket with a name, and mostly more than that.
fn open(script: &mut Script, socket: u8) {
    let local = match script.rng.below(12) {
        0..4 => OURS[0],
        4..9 => Ipv4Addr::UNSPECIFIED,
        9 => OURS[1],
        10 => script.pick(GROUPS),
        _ => ALL[0],
    };
    let at = SocketAddrV4::new(local, script.pick(PORTS));
    let shared = script.chance(60);
    script.call(socket, UdpCall::Bind(at, shared));
    if script.chance(30) {
        let to = peer(script);
        script.call(socket, UdpCall::Connect(to));
    }
    if script.chance(30) {
        let group = script.pick(GROUPS);
        script.call(socket, UdpCall::Join(group, OURS[0]));
    }
    if script.chance(30) {
        let option = option(script);
        script.call(socket, UdpCall::Set(option));
    }
}

fn option(script: &mut Script) -> UdpOption {
    match script.rng.below(9) {
        0 | 1 => UdpOption::Broadcast(script.chance(80)),
        2 => UdpOption::Ttl(script.pick([1, 2, 200, 255])),
        3 => UdpOption::Tos(script.rng.below(256) as u8),
        4 => UdpOption::GroupTtl(script.pick([0, 1, 2, 64])),
        5 => UdpOption::GroupLoop(script.chance(50)),
        6 => UdpOption::GroupInterface(script.pick([OURS[0], OURS[1], Ipv4Addr::UNSPECIFIED, OTHER])),
        7 => UdpOption::DontFragment(script.chance(70)),
        _ => UdpOption::Rcvbuf(script.pick([0, 1, 1_152, 2_304, 4_096, 10_000, 100_000])),
    }
}

fn peer(script: &mut Script) -> SocketAddrV4 {
    let host = if script.chance(80) { PEER } else { OTHER };
    SocketAddrV4::new(host, script.pick(THEIRS))
}

/// To whom a socket sends.
fn destination(script: &mut Script) -> SocketAddrV4 {
    let host = match script.rng.below(20) {
        0..11 => return peer(script),
        11 => SILENT,
        12 => Ipv4Addr::new(8, 8, 8, 8),
        13 | 14 => ALL[0],
        15 => ALL[1],
        16 | 17 => script.pick(GROUPS),
        18 => Ipv4Addr::new(192, 168, 7, 15),
        _ => Ipv4Addr::new(240, 0, 0, 1),
    };
    SocketAddrV4::new(host, script.pick([6_000, 6_001, 0]))
}

fn call(script: &mut Script, socket: u8) {
    let call = match script.rng.below(40) {
        0..14 => UdpCall::Recv(script.pick([0, 1, 10, 60, 500, 2_000, 2_000, 2_000, 70_000])),
        14..17 => UdpCall::Peek(script.pick([0, 10, 2_000, 2_000])),
        17..23 => UdpCall::SendTo(length(script), destination(script)),
        23..27 => UdpCall::Send(length(script)),
        27..29 => UdpCall::TakeError,
        29 | 30 => UdpCall::Connect(peer(script)),
        31 => {
            // If the connection fails that was tried last, the kernel sends to that address what is for the peer that it
            // had before: it is made to forget both.
            let to = destination(script);
            script.call(socket, UdpCall::Connect(to));
            if script.chance(60) {
                return script.call(socket, UdpCall::Disconnect);
            }
            UdpCall::Close
        }
        32 => UdpCall::Disconnect,
        33 => {
            UdpCall::Join(script.pick(GROUPS), script.pick([OURS[0], OURS[0], OURS[1], OTHER, Ipv4Addr::UNSPECIFIED]))
        }
        34 => UdpCall::Join(script.pick([PEER, OURS[0], ALL[0], ALL[1]]), OURS[0]),
        35 => UdpCall::Leave(script.pick(GROUPS), OURS[0]),
        36 | 37 => UdpCall::Set(option(script)),
        38 => UdpCall::Close,
        _ => return open(script, socket),
    };
    script.call(socket, call);
}

fn length(script: &mut Script) -> u32 {
    match script.rng.below(12) {
        0 => 0,
        1 => 1_472,
        2 => 1_473,
        3 => 4_000,
        4 => script.pick([65_507, 65_508, 65_535, 65_536]),
        _ => script.rng.below(300),
    }
}

/// Something comes in.
fn arrive(script: &mut Script) {
    match script.rng.below(12) {
        0 | 1 => {
            let frame = error(script).frame();
            script.send(0, frame);
        }
        2 => pieces(script),
        _ => {
            let mut packet = sound(script);
            if script.chance(40) {
                change(script, &mut packet);
            }
            script.send(0, packet.frame());
        }
    }
}

/// A datagram that nothing is wrong with.
fn sound(script: &mut Script) -> Packet {
    let (src, from) = if script.chance(75) { (PEER, mac_of(0, 2)) } else { (OTHER, mac_of(0, 3)) };
    let (dst, to) = match script.rng.below(20) {
        0..13 => (OURS[0], host_mac(0)),
        13 => (OURS[1], host_mac(0)),
        14 | 15 => (ALL[0], MacAddr::BROADCAST),
        16 => (ALL[1], MacAddr::BROADCAST),
        17 | 18 => {
            let group = script.pick(GROUPS);
            (group, group_mac(group))
        }
        _ => {
            let group = script.pick([Ipv4Addr::new(239, 1, 1, 1), Ipv4Addr::new(224, 0, 0, 1)]);
            (group, group_mac(group))
        }
    };
    let ports =
        (script.pick([THEIRS[0], THEIRS[0], THEIRS[1]]), script.pick([PORTS[0], PORTS[0], PORTS[1], PORTS[2], CLOSED]));
    let len = script.pick([0, 1, 2, 9, 67, 68, 69, 100, 500, 1_471, 1_472]);
    let data = script.bytes(len);
    Packet { src, dst, to, from, ..Packet::new(IpProto::UDP, datagram((src, dst), ports, &data)) }
}

fn group_mac(group: Ipv4Addr) -> MacAddr {
    let [_, b, c, d] = group.octets();
    MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}

/// One thing is not as usual.
fn change(script: &mut Script, packet: &mut Packet) {
    let len = packet.payload.len() as u16;
    match script.rng.below(24) {
        0..3 => packet.payload[6] ^= 0x10,
        3 => packet.payload[7] ^= 0x01,
        4..6 => packet.payload[6..8].fill(0),
        6 => packet.payload[6..8].fill(0xff),
        // The length field, the checksum as it was; and with no checksum.
        7..9 => set_length(script, packet, len),
        9 | 10 => {
            packet.payload[6..8].fill(0);
            set_length(script, packet, len);
        }
        11 => packet.payload.truncate(script.rng.below(9) as usize),
        12 => packet.payload.truncate(script.rng.below(u32::from(len)) as usize),
        // Bytes behind the datagram that IP says are its.
        13 => packet.payload.resize(packet.payload.len() + script.pick([1, 2, 7, 8]), 0x5a),
        14 => packet.payload[0..2].fill(0),
        15 => packet.payload[2..4].fill(0),
        16 => packet.ttl = script.pick([0, 1, 255]),
        17 => packet.tos = script.rng.below(256) as u8,
        18 => {
            packet.options =
                script.pick([[7, 7, 4, 0, 0, 0, 0, 0], [68, 8, 5, 0, 0, 0, 0, 0], [1, 1, 1, 1, 148, 4, 0, 0]]).to_vec()
        }
        19 => packet.padding = script.pick([1, 2, 18]),
        20 => {
            packet.to =
                script.pick([MacAddr::BROADCAST, MacAddr([0x01, 0x00, 0x5e, 0, 0, 251]), mac_of(0, 9), host_mac(0)])
        }
        21 => {
            packet.src = script.pick([[8, 8, 8, 8], [0; 4], [240, 0, 0, 1], [224, 0, 0, 251], [192, 168, 7, 5]]).into()
        }
        22 => packet.cut = script.pick([1, 8, 20]),
        _ => packet.spoilt = true,
    }
}

fn set_length(script: &mut Script, packet: &mut Packet, len: u16) {
    let said = match script.rng.below(8) {
        0 => 0,
        1 => script.rng.below(8) as u16,
        2 => 8,
        3 => len.saturating_sub(1),
        4 => len.saturating_sub(8),
        5 => len + 1,
        6 => 65_535,
        _ => script.rng.below(u32::from(len) + 1) as u16,
    };
    packet.payload[4..6].copy_from_slice(&said.to_be_bytes());
}

/// A datagram in two or three fragments, in any order, sometimes with a wrong checksum.
fn pieces(script: &mut Script) {
    let packet = sound(script);
    let (src, dst) = (packet.src, packet.dst);
    let ports = (script.pick(THEIRS), script.pick([PORTS[0], PORTS[1], CLOSED]));
    let len = script.pick([17, 40, 300, 1_400, 2_900, 4_000]);
    let data = script.bytes(len);
    let mut whole = datagram((src, dst), ports, &data);
    match script.rng.below(6) {
        0 => whole[6] ^= 0x04,
        1 => whole[6..8].fill(0),
        _ => {}
    }
    let step = (whole.len() / script.pick([2, 3])).next_multiple_of(8).clamp(8, 1_400);
    let id = script.rng.below(65_536) as u16;
    let last = (whole.len() - 1) / step;
    let cut = |(index, piece): (usize, &[u8])| {
        let more = if index < last { MORE } else { 0 };
        Packet { id, word: more | (index * step / 8) as u16, payload: piece.to_vec(), ..packet.clone() }.frame()
    };
    let mut frames: Vec<Vec<u8>> = whole.chunks(step).enumerate().map(cut).collect();
    if script.chance(40) {
        frames.reverse();
    }
    for frame in frames {
        script.send(0, frame);
    }
}

/// An error about a datagram that a socket sent, or did not.
fn error(script: &mut Script) -> Packet {
    let kind = script.pick([3, 3, 3, 3, 3, 4, 11, 12]);
    let code = match kind {
        3 => script.pick([0, 1, 1, 2, 3, 3, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        11 => script.rng.below(2) as u8,
        _ => 0,
    };
    let src = script.pick([OURS[0], OURS[0], OURS[0], OURS[1]]);
    let to = peer(script);
    let port = script.pick([PORTS[0], PORTS[0], PORTS[1], PORTS[2], CLOSED]);
    let data = script.bytes(20);
    let mut quoted =
        Packet { src, dst: *to.ip(), ..Packet::new(IpProto::UDP, datagram((src, *to.ip()), (port, to.port()), &data)) };
    match script.rng.below(12) {
        0 => quoted.payload.truncate(script.rng.below(9) as usize),
        1 => quoted.spoilt = true,
        2 => quoted.word = 0x0010,
        _ => {}
    }
    let quoted = quoted.frame().split_off(14);
    let rest = if kind == 12 { 0x1400_0000 } else { 0 };
    let dst = if script.chance(90) { src } else { OURS[0] };
    Packet { dst, ..Packet::new(IpProto::ICMP, message(kind, code, rest, &quoted)) }
}

/// More than a socket's buffer takes.
fn flood(script: &mut Script) {
    let size = script.pick([0, 2_304, 5_000, 20_000]);
    script.call(0, UdpCall::Set(UdpOption::Rcvbuf(size)));
    let (dst, to) = if script.chance(80) { (OURS[0], host_mac(0)) } else { (ALL[0], MacAddr::BROADCAST) };
    let len = script.pick([0, 10, 200, 700, 1_472]);
    for _ in 0..script.pick([5, 12, 40]) {
        let data = script.bytes(len);
        let ports = (THEIRS[0], script.pick([PORTS[0], PORTS[0], PORTS[1]]));
        let packet = Packet { dst, to, ..Packet::new(IpProto::UDP, datagram((PEER, dst), ports, &data)) };
        script.send(0, packet.frame());
        if script.chance(20) {
            script.call(0, UdpCall::Recv(2_000));
        }
    }
}
