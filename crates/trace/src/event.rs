//! The events of which a packet's life consists.
//!
//! An [`Event`] is plain data of 40 bytes: whose, when, where, what, and two words and one other packet whose meaning
//! [`EventKind`] gives for each kind. Recording one formats nothing; [`lives`](crate::lives) turns them into text.

mod args;

use crate::packet_id::PacketId;
use crate::phase::Phase;
use crate::reason::DropReason;
use crate::time::Time;

pub use args::{AckWhy, DatagramFound, GroPass, LookupKind, MadeHow, OutputWhat, SlowWhy, TcpState};

/// Something that happened to a packet.
///
/// What `a`, `b` and `other` mean depends on the kind and is written at each variant of [`EventKind`]; a word that a kind
/// does not use is 0, a packet that it does not use is [`PacketId::NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Whose life this belongs to.
    pub id: PacketId,
    /// When, on the stack's clock.
    pub at: Time,
    /// Another packet that has to do with it: parent, child, or what it was merged into.
    pub other: PacketId,
    /// First argument.
    pub a: u32,
    /// Second argument.
    pub b: u32,
    /// What happened.
    pub kind: EventKind,
    /// On which Cpu; for what an application's thread does, the Cpu that owns the flow.
    pub cpu: u8,
}

const _: () = assert!(size_of::<Event>() <= 40);

/// A device and its queue in one word, as [`EventKind::Offered`] and [`EventKind::Transmitted`] carry it: the interface's
/// index in the high half, the queue in the low half.
#[inline]
pub const fn device_word(ifindex: u16, queue: u16) -> u32 {
    (ifindex as u32) << 16 | queue as u32
}

/// Two ports in one word, as [`EventKind::Ports`] carries them: source in the high half, destination in the low half.
#[inline]
pub const fn ports_word(source: u16, destination: u16) -> u32 {
    (source as u32) << 16 | destination as u32
}

/// How a kind stands in a life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Birth,
    /// A station of its way: from here on the packet is in that function's hands.
    Middle,
    /// Something that is told of it, or done because of it, while it stays where it is.
    Aside,
    End,
}

/// Builds [`EventKind`] and its tables. A line: variant, its place in a life, phase, kernel functions.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $place:ident $phase:ident $function:literal;)*) => {
        /// What happened, with the meaning of [`Event::a`], [`Event::b`] and [`Event::other`].
        ///
        /// A life is one birth, any number of events, and exactly one end. Sequence and acknowledgement numbers are the
        /// absolute ones of the wire; IPv4 addresses are the word in host order (`u32::from(Ipv4Addr)`); lengths are
        /// bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum EventKind {
            $($(#[$doc])* $variant,)*
        }

        impl EventKind {
            /// All kinds, in the order of the path.
            pub const ALL: &[EventKind] = &[$(EventKind::$variant,)*];

            /// The kernel function, or functions, in which this happens.
            pub const fn function(self) -> &'static str {
                match self { $(EventKind::$variant => $function,)* }
            }

            /// The phase that it belongs to; of [`EventKind::Dropped`] it depends on the reason, so
            /// ask the event instead ([`Event::phase`]).
            pub const fn phase(self) -> Phase {
                match self { $(EventKind::$variant => Phase::$phase,)* }
            }

            /// The variant's name, such as `TcpV4Rcv`.
            pub const fn name(self) -> &'static str {
                match self { $(EventKind::$variant => stringify!($variant),)* }
            }

            const fn place(self) -> Place {
                match self { $(EventKind::$variant => Place::$place,)* }
            }
        }
    };
}

kinds! {
    /// **Birth.** A device wrote a frame into posted slots and set the done bit. `a`: bytes of the frame. `b`: device
    /// and queue, as [`device_word`] makes it. `other`: none.
    Offered Birth Nic "DMA";
    /// **Birth.** A device had a frame and found no posted slot. `a`, `b`, `other`: as of [`EventKind::Offered`]. The end
    /// must still be recorded: [`EventKind::Dropped`] with [`DropReason::RxMissed`].
    Missed Birth Nic "DMA";
    /// **Birth.** The stack created a packet to send. `a`: what, an [`OutputWhat`] as number. `b`: bytes from the IP
    /// header on (of ARP: of the ARP packet). `other`: the packet that caused it, or none.
    OutputMade Birth Output "alloc_skb";
    /// **Birth.** A packet was made out of others. `a`: how, a [`MadeHow`] as number. `b`: bytes from the IP header on.
    /// `other`: the packet it was made of (of a reassembled one: the fragment that completed it).
    Made Birth Ip "alloc_skb";
    /// **Birth.** This packet is a clone for a tap. `a`: bytes that the tap sees (its snap length applied). `b`: the
    /// tap's number. `other`: the original.
    Cloned Birth Demux "skb_clone";

    /// NAPI took the frame from the ring. `a`: the device's flow hash, 0 for none. `b`: what the device says of the
    /// checksum, the kernel's number: 0 nothing, 1 unnecessary, 2 complete, 3 partial. `other`: none.
    Harvested Middle Napi "napi_poll";
    /// The Ethernet header was read. `a`: the packet type, the kernel's number: 0 host, 1 broadcast, 2 multicast, 3 other
    /// host, 4 outgoing, 5 loopback. `b`: EtherType. `other`: none.
    EthTypeTrans Middle Napi "eth_type_trans";
    /// GRO keeps the packet to merge others into it. `a`: payload bytes. `b`: packets of its bucket now held, this one
    /// included, or 0. `other`: none.
    GroHeld Middle Napi "napi_gro_receive";
    /// **End** (consumed, [`Consumed::GroMerged`](crate::Consumed::GroMerged)). GRO merged this packet into another. No
    /// [`EventKind::Consumed`] follows. `a`: payload bytes that it brought. `b`: segments that the other consists of
    /// now. `other`: the packet that it was merged into.
    GroMerged End Napi "napi_gro_receive";
    /// GRO did not keep it and passed it up. `a`: why, a [`GroPass`] as number. `b`: 0. `other`: none.
    GroPassed Middle Napi "napi_gro_receive";
    /// GRO let a held packet go up. `a`: segments that it consists of. `b`: its payload bytes. `other`: none.
    GroFlushed Middle Napi "napi_gro_complete";
    /// An XDP program judged it. `a`: the action, the kernel's number: 0 ABORTED, 1 DROP, 2 PASS, 3 TX, 4 REDIRECT.
    /// `b`: the door, 0 native, 1 generic. `other`: none.
    Xdp Aside Napi "bpf_prog_run_xdp";
    /// It was put on the backlog of a Cpu (RPS). `a`: that Cpu. `b`: packets on the backlog, this one included.
    /// `other`: none.
    CpuBacklog Middle Napi "enqueue_to_backlog";
    /// The Cpu took it from its backlog. `a`: packets left. `b`: 0. `other`: none.
    CpuBacklogTaken Middle Napi "process_backlog";

    /// A VLAN tag was taken out of the frame. `a`: tag control information. `b`: the tag's EtherType. `other`: none.
    VlanUntag Aside Demux "skb_vlan_untag";
    /// Its tag is that of a VLAN device, which has it now. `a`: the device by index. `b`: packet type, as of
    /// [`EventKind::EthTypeTrans`]. `other`: none.
    VlanReceive Middle Demux "vlan_do_receive";
    /// It went through the core demultiplexer to its protocol's handler. `a`: packet type, as of
    /// [`EventKind::EthTypeTrans`]. `b`: EtherType. `other`: none.
    NetifReceive Middle Demux "__netif_receive_skb_core";
    /// A tap was given a clone of it. `a`: bytes that the tap sees. `b`: the tap's number. `other`: the clone.
    TapClone Aside Demux "deliver_skb";
    /// **End** (delivered). The reader of a tap took the clone. `a`: bytes. `b`: the tap's number. `other`: none.
    TapRead End Recv "packet_recvmsg";
    /// ARP took it. `a`: operation, 1 request, 2 reply. `b`: the sender's IPv4 address. `other`: none.
    ArpRcv Middle Demux "arp_rcv";
    /// It waits before it is answered for another host. `a`: that host's IPv4 address. `b`: for how long, in microseconds.
    /// `other`: none.
    ArpHeld Middle Demux "pneigh_enqueue";

    /// IP took it and found the header sound. `a`: total length. `b`: time to live. `other`: none.
    IpRcv Middle Ip "ip_rcv";
    /// Its addresses, once they are known. `a`: source IPv4 address. `b`: destination IPv4 address. `other`: none.
    Addresses Aside Ip "ip_rcv, ip_queue_xmit";
    /// It went through a netfilter hook. `a`: the hook, the kernel's number: 0 PRE_ROUTING, 1 LOCAL_IN, 2 FORWARD,
    /// 3 LOCAL_OUT, 4 POST_ROUTING. `b`: the verdict: 0 DROP, 1 ACCEPT, 2 STOLEN, 3 QUEUE, 4 REPEAT; of
    /// QUEUE, the upper 16 bits are the queue's number. `other`: none.
    Hook Aside Ip "nf_hook_slow";
    /// Whoever kept it at a netfilter hook gave it back. `a`: the hook, `b`: the verdict, both as of [`EventKind::Hook`].
    /// `other`: none.
    Reinjected Aside Ip "nf_reinject";
    /// An established socket was found before routing, which spares the route lookup. `a`: the socket's number, or 0.
    /// `b`: 0. `other`: none.
    EarlyDemux Middle Ip "tcp_v4_early_demux";
    /// Routing decided for delivery here. `a`: the route's type, the kernel's number: 2 local, 3 broadcast, 5 multicast;
    /// 0 is taken for local. `b`: 1 if early demux spared the lookup, else 0. `other`: none.
    RouteLocal Middle Ip "ip_route_input_noref";
    /// Routing decided that it goes on to another host. `a`: the next hop's IPv4 address. `b`: the interface by index.
    /// `other`: none.
    RouteForward Middle Ip "ip_route_input_noref";
    /// It is a fragment, and waits for the others. `a`: where its payload belongs, in bytes. `b`: bytes of payload.
    /// `other`: none.
    FragHeld Middle Input "ip_frag_queue";
    /// It was handed to a transport protocol. `a`: protocol number. `b`: 0. `other`: none.
    LocalDeliver Middle Input "ip_local_deliver_finish";
    /// ICMP took it. `a`: type. `b`: code. `other`: none.
    IcmpRcv Middle Input "icmp_rcv";

    /// TCP took it. `a`: sequence number. `b`: payload bytes. `other`: none.
    TcpV4Rcv Middle Tcp "tcp_v4_rcv";
    /// Its TCP ports and flags, once they are known. `a`: ports, as [`ports_word`] makes it. `b`: TCP flags, the header's
    /// byte: FIN 0x01, SYN 0x02, RST 0x04, PSH 0x08, ACK 0x10, URG 0x20, ECE 0x40, CWR 0x80. `other`: none.
    Ports Aside Tcp "tcp_v4_rcv, __tcp_transmit_skb";
    /// A socket was found. `a`: what, a [`LookupKind`] as number. `b`: the socket's number, or 0. `other`: none.
    LookupHit Middle Tcp "__inet_lookup_skb";
    /// No socket was found. `a`, `b`: 0. `other`: none.
    LookupMiss Middle Tcp "__inet_lookup_skb";
    /// The application held the socket, so the segment waits on its backlog. `a`: bytes of truesize on the backlog, this
    /// one included. `b`: 0. `other`: none.
    SocketBacklog Middle Tcp "tcp_add_backlog";
    /// The application released the socket and the segment was taken from the backlog. `a`, `b`: 0. `other`: none.
    SocketBacklogTaken Middle Socket "__release_sock";

    /// UDP took it and found the header sound. `a`: ports, as [`ports_word`] makes it. `b`: payload bytes. `other`: none.
    UdpRcv Middle Tcp "udp_rcv";
    /// A datagram's socket was looked for. `a`: what was found, a [`DatagramFound`] as number. `b`: 0. `other`: none.
    DatagramLookup Middle Tcp "__udp4_lib_lookup";
    /// It was put on the receive queue of a datagram socket. `a`: payload bytes. `b`: the socket's receive memory
    /// (truesize), this one included. `other`: none.
    DatagramQueued Middle Socket "__skb_queue_tail";

    /// Header prediction held. `a`: payload bytes. `b`: 0. `other`: none.
    FastPath Middle Socket "tcp_rcv_established";
    /// The segment takes the slow path. `a`: why, a [`SlowWhy`] as number. `b`: payload bytes. `other`: none.
    SlowPath Middle Socket "tcp_rcv_established";
    /// Its acknowledgement was taken, and there was something to acknowledge. `a`: bytes newly acknowledged. `b`: the peer's window in bytes. `other`: none.
    AckTaken Aside Socket "tcp_ack";
    /// The socket changed its state. `a`: from, `b`: to, both a [`TcpState`] as number. `other`: none.
    StateChange Aside Socket "tcp_set_state";
    /// It was put on the receive queue. `a`: payload bytes. `b`: the socket's receive memory (truesize), this one
    /// included. `other`: none.
    Queued Middle Socket "tcp_queue_rcv";
    /// **End** (consumed, [`Consumed::Coalesced`](crate::Consumed::Coalesced)). Its bytes were joined to the tail of the
    /// receive queue. No [`EventKind::Consumed`] follows. `a`: payload bytes. `b`: the socket's receive memory.
    /// `other`: the packet at the tail.
    Coalesced End Socket "tcp_try_coalesce";
    /// It was put on the out-of-order queue. `a`: sequence number. `b`: payload bytes. `other`: none.
    OutOfOrder Middle Socket "tcp_data_queue_ofo";
    /// The hole before it was filled, and it left the out-of-order queue. `a`: sequence number. `b`: payload bytes.
    /// `other`: none.
    OfoDrained Middle Socket "tcp_ofo_queue";
    /// It is acknowledged at once. `a`: acknowledgement number. `b`: why, an [`AckWhy`] as number. `other`: the packet
    /// that carries the ACK, or none.
    AckNow Aside Socket "tcp_send_ack";
    /// Its acknowledgement waits. `a`: for how many milliseconds at the most. `b`: 0. `other`: none.
    AckDelayed Aside Socket "tcp_send_delayed_ack";
    /// A reset answers it. `a`: the reset's sequence number. `b`: its acknowledgement number. `other`: the packet that
    /// carries it, or none.
    RstSent Aside Tcp "tcp_v4_send_reset";
    /// The application was told that it can read. `a`: bytes readable. `b`: 1 if that wakes it, 0 if nobody waits.
    /// `other`: none.
    Woken Aside Socket "sk_data_ready";

    /// The application read a part of it. `a`: bytes read. `b`: with which of its reads of this socket, counted from 1.
    /// `other`: none.
    RecvPart Middle Recv "tcp_recvmsg";
    /// **End** (delivered). The application read it to its end. `a`: bytes read now. `b`: with which of its reads of this
    /// socket, counted from 1. `other`: none.
    Recv End Recv "tcp_recvmsg";
    /// **End** (delivered). The application read the datagram. `a`: bytes read; what its buffer had no room for is gone.
    /// `b`: protocol number. `other`: none.
    DatagramRecv End Recv "udp_recvmsg";

    /// It waits for the next hop's address. `a`: the next hop's IPv4 address. `b`: packets that wait, this one included.
    /// `other`: the ARP request that was sent, or none.
    NeighHeld Middle Output "neigh_resolve_output";
    /// **End** (transmitted). A device took it. `a`: bytes of the frame. `b`: device and queue, as [`device_word`] makes
    /// it. `other`: none.
    Transmitted End Output "dev_hard_start_xmit";

    /// **End** (dropped). `a`: the [`DropReason`] as number. `b`: the counters that moved, as
    /// [`Counter::pair`](crate::Counter::pair) makes it; 0 for those that always move with the reason.
    /// `other`: none.
    Dropped End Nic "kfree_skb_reason";
    /// **End** (consumed). `a`: the [`Consumed`](crate::Consumed) as number, but see [`EventKind::GroMerged`] and
    /// [`EventKind::Coalesced`]. `b`: 0. `other`: the packet that answers it or carries its bytes on, or none.
    Consumed End Socket "consume_skb";

    /// Events were lost because the life ring was full. Belongs to no packet: `id` is none. `a`: how many were lost
    /// since the last such event. `b`: 0. `other`: none.
    Lost Middle Nic "the life ring";
}

/// Protocol number of UDP.
const UDP: u32 = 17;

impl Event {
    /// The phase that it belongs to; for a drop, that of its reason.
    pub fn phase(&self) -> Phase {
        match (self.kind, DropReason::from_number(self.a)) {
            (EventKind::Dropped, Some(reason)) => reason.phase(),
            _ => self.kind.phase(),
        }
    }

    /// The kernel function, or functions, in which this happened: of the kind, or where its arguments tell, of them.
    pub fn function(&self) -> &'static str {
        match self.kind {
            EventKind::SlowPath if self.a == SlowWhy::State as u32 => "tcp_rcv_state_process",
            EventKind::DatagramRecv if self.b != UDP => "raw_recvmsg",
            kind => kind.function(),
        }
    }
}

impl EventKind {
    /// True for the kinds that begin a life.
    pub const fn birth(self) -> bool {
        matches!(self.place(), Place::Birth)
    }

    /// True for the kinds that tell of the packet, or of what is done because of it, while it stays where it is.
    pub const fn aside(self) -> bool {
        matches!(self.place(), Place::Aside)
    }

    /// True for the kinds that end a life.
    pub const fn terminal(self) -> bool {
        matches!(self.place(), Place::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_forty_bytes_at_the_most() {
        assert!(size_of::<Event>() <= 40, "{}", size_of::<Event>());
    }

    #[test]
    fn kinds_are_listed_by_number() {
        for (i, kind) in EventKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, i);
            assert!(!kind.function().is_empty());
            assert_eq!(kind.name(), format!("{kind:?}"));
        }
    }

    #[test]
    fn births_and_ends_are_these() {
        let named = |wanted: fn(EventKind) -> bool| -> Vec<EventKind> {
            EventKind::ALL.iter().copied().filter(|&kind| wanted(kind)).collect()
        };
        use EventKind::*;
        assert_eq!(named(EventKind::birth), [Offered, Missed, OutputMade, Made, Cloned]);
        assert_eq!(
            named(EventKind::terminal),
            [GroMerged, TapRead, Coalesced, Recv, DatagramRecv, Transmitted, Dropped, EventKind::Consumed]
        );
        assert_eq!(
            named(EventKind::aside),
            [
                Xdp,
                VlanUntag,
                TapClone,
                Addresses,
                Hook,
                Reinjected,
                Ports,
                AckTaken,
                StateChange,
                AckNow,
                AckDelayed,
                RstSent,
                Woken
            ]
        );
    }

    #[test]
    fn words_keep_their_halves_apart() {
        assert_eq!(device_word(2, 0xffff), 0x0002_ffff);
        assert_eq!(ports_word(0xffff, 80), 0xffff_0050);
    }
}
