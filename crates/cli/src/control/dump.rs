//! The stack's side of `rxpath dump`: a packet socket for each client, read as fast as the client takes it.

use std::io;
use std::time::{Duration, SystemTime};

use rxpath::Stack;
use rxpath::net::{PacketChecksum, PacketFilter, PacketInfo, PacketOptions, PacketSocket};
use rxpath_trace::Filter;

use super::Reply;
use crate::views::dump::{DumpBatch, DumpInterface, DumpPacket, DumpStart, to_hex};

/// How often a client that gets nothing is asked whether it is still there, and told what was dropped.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// Packets of one reply.
const BATCH: usize = 64;
/// Bytes of packets after which a reply takes no more.
const BATCH_BYTES: usize = 256 << 10;
/// The longest frame: an IP packet of 65,535 bytes behind an Ethernet header.
const LONGEST: usize = 65_535 + 14;

/// What a client wants to see.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The interface's name; None for all.
    pub interface: Option<String>,
    /// Packets that this matches.
    pub filter: Option<Filter>,
    /// Bytes of each that are kept.
    pub snaplen: usize,
    /// Bytes of truesize that may wait.
    pub buffer: u32,
}

/// Sends what comes until the client goes away or the stack goes down.
///
/// # Errors
/// Either of these.
pub fn answer(stack: &Stack, wanted: Wanted, send: &mut dyn FnMut(Reply) -> io::Result<()>) -> io::Result<()> {
    let Wanted { interface, filter, snaplen, buffer } = wanted;
    let filter = match filter {
        Some(filter) => PacketFilter::expression(filter, snaplen),
        None => PacketFilter::snap(snaplen),
    };
    let options = PacketOptions { interface, receive_buffer: buffer, filter: Some(filter), ..PacketOptions::default() };
    let socket = match PacketSocket::open(stack, options) {
        Ok(socket) => socket,
        Err(error) => return send(Reply::Error(error.to_string())),
    };
    socket.set_read_timeout(Some(HEARTBEAT))?;
    send(Reply::of(&start(stack, &socket)))?;
    let mut buf = vec![0; LONGEST];
    let mut dropped = 0;
    loop {
        let packets = batch(&socket, &mut buf)?;
        dropped += socket.statistics().drops;
        send(Reply::of(&DumpBatch { packets, dropped }))?;
    }
}

fn start(stack: &Stack, socket: &PacketSocket) -> DumpStart {
    let interfaces = stack.interfaces().into_iter();
    let watched = interfaces.filter(|interface| socket.ifindex().is_none_or(|only| only == interface.ifindex));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    DumpStart {
        interfaces: watched.map(|view| DumpInterface { ifindex: view.ifindex, name: view.name }).collect(),
        epoch_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX).saturating_sub_unsigned(stack.now().0),
    }
}

/// Waits for a packet, and takes along what waits behind it.
fn batch(socket: &PacketSocket, buf: &mut [u8]) -> io::Result<Vec<DumpPacket>> {
    let (mut packets, mut bytes) = (Vec::new(), 0);
    while packets.len() < BATCH && bytes < BATCH_BYTES {
        match socket.recv(buf) {
            Ok((len, seen)) => {
                packets.push(packet(&seen, &buf[..len]));
                bytes += len;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
        socket.set_nonblocking(true)?;
    }
    socket.set_nonblocking(false)?;
    Ok(packets)
}

/// A packet as it was on the wire: the tag that was taken out of it is in it again.
fn packet(seen: &PacketInfo, data: &[u8]) -> DumpPacket {
    const ADDRESSES: usize = 12;
    let mut frame = data.to_vec();
    let mut len = seen.len;
    if let Some(tag) = seen.vlan {
        len += 4;
        if frame.len() >= ADDRESSES {
            let [a, b] = tag.tpid.to_be_bytes();
            let [c, d] = tag.tci.to_be_bytes();
            frame.splice(ADDRESSES..ADDRESSES, [a, b, c, d]);
        }
    }
    DumpPacket {
        at: seen.at.0,
        packet: seen.id.to_string(),
        id: seen.id.0,
        ifindex: seen.ifindex,
        to: seen.pkt_type.into(),
        len: len as u32,
        dropped_before: seen.dropped_before,
        checksum_open: seen.checksum == PacketChecksum::NotReady,
        data: to_hex(&frame),
    }
}
