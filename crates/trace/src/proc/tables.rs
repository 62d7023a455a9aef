//! `/proc/net/softnet_stat`, `/proc/net/dev` and `/proc/net/sockstat`.

use std::fmt::Write as _;

use crate::counters::{Counter, Snapshot};

/// A Cpu's line of `/proc/net/softnet_stat`. Values are printed modulo 2^32, as in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftnetRow {
    /// Frames that went through the core demultiplexer.
    pub processed: u64,
    /// Packets dropped because the backlog was full.
    pub dropped: u64,
    /// Softirq rounds that ended with their budget or their time.
    pub time_squeeze: u64,
    /// Times that another Cpu woke this one to take packets.
    pub received_rps: u64,
    /// Packets dropped by the flow limit.
    pub flow_limit_count: u64,
    /// The Cpu's number.
    pub cpu: u32,
    /// Packets on the backlog that its softirq has not yet looked at.
    pub input_qlen: u32,
    /// Packets on the backlog that its softirq is working through.
    pub process_qlen: u32,
}

impl SoftnetRow {
    /// The line of Cpu `cpu`, from its own shard of the counters; its backlog is taken to be empty.
    pub fn of(shard: &Snapshot, cpu: u32) -> SoftnetRow {
        SoftnetRow {
            processed: shard[Counter::SoftnetProcessed],
            dropped: shard[Counter::SoftnetDropped],
            time_squeeze: shard[Counter::SoftnetTimeSqueeze],
            received_rps: shard[Counter::SoftnetReceivedRps],
            flow_limit_count: shard[Counter::SoftnetFlowLimitCount],
            cpu,
            input_qlen: 0,
            process_qlen: 0,
        }
    }
}

/// The text of `/proc/net/softnet_stat`: a line per Cpu, 15 columns of 8 hexadecimal digits.
pub fn softnet_stat(rows: &[SoftnetRow]) -> String {
    let mut text = String::new();
    for row in rows {
        let columns: [u32; 15] = [
            row.processed as u32,
            row.dropped as u32,
            row.time_squeeze as u32,
            0, // once fastroute_hit, and its four companions
            0,
            0,
            0,
            0,
            0, // once cpu_collision
            row.received_rps as u32,
            row.flow_limit_count as u32,
            row.input_qlen.wrapping_add(row.process_qlen),
            row.cpu,
            row.input_qlen,
            row.process_qlen,
        ];
        let columns = columns.map(|column| format!("{column:08x}"));
        text.push_str(&columns.join(" "));
        text.push('\n');
    }
    text
}

/// A device's line of `/proc/net/dev`: the kernel's `rtnl_link_stats64`, of which some columns are sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevRow {
    /// The interface's name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames received in error.
    pub rx_errors: u64,
    /// Frames dropped by software; printed in `drop`.
    pub rx_dropped: u64,
    /// Frames for which the device had no buffer; printed in `drop`.
    pub rx_missed_errors: u64,
    /// Frames lost in the device's own buffer.
    pub rx_fifo_errors: u64,
    /// Frames of impossible length; printed in `frame`.
    pub rx_length_errors: u64,
    /// Overruns; printed in `frame`.
    pub rx_over_errors: u64,
    /// Frames whose check sequence does not verify; printed in `frame`.
    pub rx_crc_errors: u64,
    /// Misaligned frames; printed in `frame`.
    pub rx_frame_errors: u64,
    /// Compressed frames received.
    pub rx_compressed: u64,
    /// Multicast frames received.
    pub multicast: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Frames dropped on the way out.
    pub tx_dropped: u64,
    /// Frames lost in the device's own buffer.
    pub tx_fifo_errors: u64,
    /// Collisions.
    pub collisions: u64,
    /// Lost carriers; printed in `carrier`.
    pub tx_carrier_errors: u64,
    /// Aborted frames; printed in `carrier`.
    pub tx_aborted_errors: u64,
    /// Late collisions; printed in `carrier`.
    pub tx_window_errors: u64,
    /// Missing heartbeats; printed in `carrier`.
    pub tx_heartbeat_errors: u64,
    /// Compressed frames sent.
    pub tx_compressed: u64,
}

const DEV_HEADER: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
";

/// The text of `/proc/net/dev`: two lines of heading, a line per device.
pub fn dev(rows: &[DevRow]) -> String {
    let mut text = DEV_HEADER.to_string();
    for row in rows {
        let drop = row.rx_dropped.wrapping_add(row.rx_missed_errors);
        let frame = sum([row.rx_length_errors, row.rx_over_errors, row.rx_crc_errors, row.rx_frame_errors]);
        let carrier =
            sum([row.tx_carrier_errors, row.tx_aborted_errors, row.tx_window_errors, row.tx_heartbeat_errors]);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{:>6}: {:7} {:7} {:4} {drop:4} {:4} {frame:5} {:10} {:9}",
            row.name, row.rx_bytes, row.rx_packets, row.rx_errors, row.rx_fifo_errors, row.rx_compressed, row.multicast,
        );
        let _ = writeln!(
            text,
            " {:8} {:7} {:4} {:4} {:4} {:5} {carrier:7} {:10}",
            row.tx_bytes,
            row.tx_packets,
            row.tx_errors,
            row.tx_dropped,
            row.tx_fifo_errors,
            row.collisions,
            row.tx_compressed,
        );
    }
    text
}

fn sum(values: [u64; 4]) -> u64 {
    values.iter().fold(0, |sum, value| sum.wrapping_add(*value))
}

/// A packet socket's line of `/proc/net/packet`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketRow {
    /// What the kernel prints as the socket's address, hashed: any number that is the socket's own.
    pub cookie: u64,
    /// Handles to the socket.
    pub refs: u32,
    /// Its type: 3 raw, 2 datagrams, 10 packets of old.
    pub kind: u32,
    /// Its protocol, in host order: 3 for all, 0 for none.
    pub protocol: u16,
    /// The interface that it is bound to; 0 for all.
    pub ifindex: u16,
    /// Whether it receives.
    pub running: bool,
    /// Bytes of truesize that wait for its reader.
    pub rmem: u64,
    /// Its inode.
    pub inode: u64,
}

/// The text of `/proc/net/packet`: a line of heading, a line per socket.
pub fn packet(rows: &[PacketRow]) -> String {
    let mut text = String::from("sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n");
    for row in rows {
        let PacketRow { cookie, refs, kind, protocol, ifindex, running, rmem, inode } = row;
        // Writing to a String cannot fail. The user is root, as everywhere here.
        let _ = writeln!(
            text,
            "{cookie:016x} {refs:<6} {kind:<4} {protocol:04x}   {ifindex:<5} {} {rmem:<6} {:<6} {inode:<6}",
            u8::from(*running),
            0,
        );
    }
    text
}

/// A handler's line of `/proc/net/ptype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PtypeRow<'a> {
    /// The EtherType; None for all.
    pub protocol: Option<u16>,
    /// The interface that it is bound to; None for all.
    pub device: Option<&'a str>,
    /// The kernel function.
    pub function: &'a str,
}

/// The text of `/proc/net/ptype`: a line of heading, a line per handler.
pub fn ptype(rows: &[PtypeRow<'_>]) -> String {
    let mut text = String::from("Type Device      Function\n");
    for row in rows {
        let protocol = row.protocol.map_or("ALL ".to_owned(), |protocol| format!("{protocol:04x}"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{protocol} {:<8} {}", row.device.unwrap_or_default(), row.function);
    }
    text
}

/// The numbers of `/proc/net/sockstat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockStat {
    /// Sockets of all kinds.
    pub sockets_used: u64,
    /// TCP sockets in use, listeners included, TIME-WAIT not.
    pub tcp_inuse: u64,
    /// TCP sockets that no application holds any more.
    pub tcp_orphan: u64,
    /// Sockets in TIME-WAIT.
    pub tcp_tw: u64,
    /// TCP sockets allocated, in whatever state.
    pub tcp_alloc: u64,
    /// Memory of TCP in pages of 4,096 bytes.
    pub tcp_mem: u64,
    /// UDP sockets in use.
    pub udp_inuse: u64,
    /// Memory of UDP in pages.
    pub udp_mem: u64,
    /// UDP-Lite sockets in use.
    pub udplite_inuse: u64,
    /// Raw sockets in use.
    pub raw_inuse: u64,
    /// Reassemblies under way.
    pub frag_inuse: u64,
    /// Memory of reassembly in bytes.
    pub frag_memory: u64,
}

/// The text of `/proc/net/sockstat`.
pub fn sockstat(stat: &SockStat) -> String {
    let SockStat { sockets_used, tcp_inuse, tcp_orphan, tcp_tw, tcp_alloc, tcp_mem, .. } = stat;
    let SockStat { udp_inuse, udp_mem, udplite_inuse, raw_inuse, frag_inuse, frag_memory, .. } = stat;
    format!(
        "sockets: used {sockets_used}\n\
         TCP: inuse {tcp_inuse} orphan {tcp_orphan} tw {tcp_tw} alloc {tcp_alloc} mem {tcp_mem}\n\
         UDP: inuse {udp_inuse} mem {udp_mem}\n\
         UDPLITE: inuse {udplite_inuse}\n\
         RAW: inuse {raw_inuse}\n\
         FRAG: inuse {frag_inuse} memory {frag_memory}\n"
    )
}

#[cfg(test)]
mod tests;

/// A queue's line of `/proc/net/netfilter/nfnetlink_queue`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NfQueueRow {
    /// The queue's number.
    pub number: u16,
    /// The netlink port of who listens.
    pub port: u32,
    /// Packets that wait for a verdict.
    pub waiting: u32,
    /// How many bytes of a packet the listener is given.
    pub copy_range: u32,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// The number that the last packet was given.
    pub id_sequence: u32,
}

/// The text of `/proc/net/netfilter/nfnetlink_queue`: a line per queue that somebody listens to. All are of the mode that
/// copies packets, and no reader loses what is queued.
pub fn nfnetlink_queue(rows: &[NfQueueRow]) -> String {
    const COPY_PACKET: u32 = 2;
    let mut text = String::new();
    for NfQueueRow { number, port, waiting, copy_range, dropped, id_sequence } in rows {
        let lost = 0;
        let _ = writeln!(
            text,
            "{number:5} {port:6} {waiting:5} {COPY_PACKET} {copy_range:5} {dropped:5} {lost:5} {id_sequence:8} {one:2}",
            one = 1
        );
    }
    text
}
