//! Why packets are dropped, by the names of the kernel's `skb_drop_reason`.
//!
//! Numbers shift between kernels, so reasons are matched by name. The kernel's reasons that cannot occur on this path
//! (tunnels, CAN, traffic shaping …) are left out. Reasons of our own, for what the kernel's devices do in hardware and
//! for ends that only a userspace stack has, lie in a marked range from [`DropReason::RxMissed`] on.

use std::fmt;

use crate::counters::Counter;
use crate::phase::Phase;

/// Builds [`DropReason`] and its tables. A line: variant = number, name, phase, function ("" where it varies), the
/// counters that always move with it, description.
macro_rules! reasons {
    ($($variant:ident $(= $number:literal)? $name:literal $phase:ident $function:literal
       [$($counter:ident)*] $about:literal;)*) => {
        /// Why a packet was dropped.
        ///
        /// A variant is the kernel's name in another spelling: `TCP_CSUM` is `TcpCsum`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = concat!("`", $name, "`: ", $about, ".")] $variant $(= $number)?,)*
        }

        impl DropReason {
            /// All reasons: the kernel's in its order, then ours.
            pub const ALL: &[DropReason] = &[$(DropReason::$variant,)*];

            /// The kernel's name, such as `TCP_CSUM`; for ours, a name in the same form.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// What it means, in words, without a full stop.
            pub const fn describe(self) -> &'static str {
                match self { $(DropReason::$variant => $about,)* }
            }

            /// The phase that it belongs to; where several give it, the one that gives it most.
            pub const fn phase(self) -> Phase {
                match self { $(DropReason::$variant => Phase::$phase,)* }
            }

            /// The kernel function that drops for this reason, the foremost where few do; `None` where many do. Where in
            /// particular a packet was dropped its life tells.
            pub const fn function(self) -> Option<&'static str> {
                let function = match self { $(DropReason::$variant => $function,)* };
                if function.is_empty() { None } else { Some(function) }
            }

            /// The counters that move with every drop for this reason; empty where none does, or where it depends on
            /// the place (an [`Event`](crate::Event) of the drop then names them).
            pub const fn counters(self) -> &'static [Counter] {
                match self { $(DropReason::$variant => &[$(Counter::$counter,)*],)* }
            }
        }
    };
}

reasons! {
    NotSpecified "NOT_SPECIFIED" Tcp "" [] "no finer reason is given";
    NoSocket "NO_SOCKET" Tcp "" [] "no socket listens at this address and port, nor is there such a connection";
    SocketClose "SOCKET_CLOSE" Socket "" [] "the socket was closed while the packet waited in it";
    SocketFilter "SOCKET_FILTER" Tcp "sk_filter" [] "the socket's filter refused it";
    SocketRcvbuff "SOCKET_RCVBUFF" Recv "__udp_enqueue_schedule_skb" [UdpRcvbufErrors UdpInErrors]
        "the socket's receive buffer is full";
    PktTooSmall "PKT_TOO_SMALL" Ip "" [] "it is shorter than its headers say";
    TcpCsum "TCP_CSUM" Tcp "tcp_v4_rcv" [TcpInErrs TcpInCsumErrors] "the TCP checksum does not verify";
    UdpCsum "UDP_CSUM" Recv "" [UdpInErrors UdpInCsumErrors] "the UDP checksum does not verify";
    NetfilterDrop "NETFILTER_DROP" Input "nf_hook_slow" [] "a netfilter rule dropped it";
    Otherhost "OTHERHOST" Ip "ip_rcv_core" [] "the frame was addressed to another host's MAC or VLAN";
    IpCsum "IP_CSUM" Ip "ip_rcv_core" [IpInHdrErrors IpExtInCsumErrors] "the IP header checksum does not verify";
    IpInhdr "IP_INHDR" Ip "ip_rcv_core" [IpInHdrErrors] "the IP header is malformed: version, length, option or time to live";
    IpRpfilter "IP_RPFILTER" Ip "fib_validate_source" [TcpExtIPReversePathFilter]
        "the way back to its source does not lead through the interface that it came by";
    UnicastInL2Multicast "UNICAST_IN_L2_MULTICAST" Ip "ip_rcv_finish_core" []
        "a unicast IP packet in a multicast or broadcast frame";
    XfrmPolicy "XFRM_POLICY" Tcp "xfrm4_policy_check" [] "the IPsec policy forbids it";
    IpNoproto "IP_NOPROTO" Input "ip_protocol_deliver_rcu" [IpInUnknownProtos]
        "no handler for its transport protocol";
    ProtoMem "PROTO_MEM" Socket "tcp_data_queue" [] "the protocol's or the socket's memory is used up";
    TcpAuthHdr "TCP_AUTH_HDR" Tcp "tcp_inbound_hash" [] "its authentication options are malformed";
    TcpMd5notfound "TCP_MD5NOTFOUND" Tcp "tcp_inbound_md5_hash" [TcpExtTCPMD5NotFound]
        "an MD5 signature was due and is missing";
    TcpMd5unexpected "TCP_MD5UNEXPECTED" Tcp "tcp_inbound_md5_hash" [TcpExtTCPMD5Unexpected]
        "an MD5 signature that was not due";
    TcpMd5failure "TCP_MD5FAILURE" Tcp "tcp_inbound_md5_hash" [TcpExtTCPMD5Failure] "the MD5 signature is wrong";
    TcpAonotfound "TCP_AONOTFOUND" Tcp "tcp_inbound_hash" [TcpExtTCPAORequired]
        "an authentication option was due and is missing";
    TcpAounexpected "TCP_AOUNEXPECTED" Tcp "tcp_inbound_hash" [] "an authentication option that was not due";
    TcpAokeynotfound "TCP_AOKEYNOTFOUND" Tcp "tcp_inbound_ao_hash" [TcpExtTCPAOKeyNotFound]
        "authenticated with an unknown key";
    TcpAofailure "TCP_AOFAILURE" Tcp "tcp_inbound_ao_hash" [TcpExtTCPAOBad] "the authentication code is wrong";
    SocketBacklog "SOCKET_BACKLOG" Tcp "tcp_add_backlog" [TcpExtTCPBacklogDrop]
        "the application holds the socket and its backlog is full";
    TcpFlags "TCP_FLAGS" Tcp "" [] "its flags make no sense in the socket's state";
    TcpAbortOnData "TCP_ABORT_ON_DATA" Socket "tcp_rcv_state_process" [TcpExtTCPAbortOnData]
        "data for a socket that nobody will read any more";
    TcpZerowindow "TCP_ZEROWINDOW" Socket "tcp_data_queue" [TcpExtTCPZeroWindowDrop]
        "the receive window is closed";
    TcpOldData "TCP_OLD_DATA" Socket "tcp_data_queue" [TcpExtDelayedACKLost] "all its data had been received before";
    TcpOverwindow "TCP_OVERWINDOW" Socket "tcp_data_queue" [] "it starts beyond the receive window";
    TcpOfomerge "TCP_OFOMERGE" Socket "tcp_data_queue_ofo" [TcpExtTCPOFOMerge]
        "all its data was already held out of order";
    TcpRfc7323Paws "TCP_RFC7323_PAWS" Socket "tcp_validate_incoming" [TcpExtPAWSEstab]
        "its timestamp is older than one already seen (PAWS)";
    TcpRfc7323PawsAck "TCP_RFC7323_PAWS_ACK" Socket "tcp_validate_incoming" [TcpExtPAWSOldAck]
        "an old bare ACK whose timestamp is older than one already seen (PAWS)";
    TcpRfc7323TwPaws "TCP_RFC7323_TW_PAWS" Tcp "tcp_timewait_state_process" [TcpExtPAWSTimewait]
        "its timestamp is too old for the connection in TIME-WAIT (PAWS)";
    TcpRfc7323Tsecr "TCP_RFC7323_TSECR" Tcp "tcp_check_req" [TcpExtTSEcrRejected]
        "it echoes a timestamp that was never sent";
    TcpListenOverflow "TCP_LISTEN_OVERFLOW" Tcp "tcp_v4_syn_recv_sock" [TcpExtListenOverflows TcpExtListenDrops]
        "the listener's accept queue is full";
    TcpOldSequence "TCP_OLD_SEQUENCE" Socket "tcp_validate_incoming" [] "it lies wholly before the receive window";
    TcpInvalidSequence "TCP_INVALID_SEQUENCE" Socket "tcp_validate_incoming" [TcpExtBeyondWindow]
        "it starts beyond the receive window";
    TcpInvalidEndSequence "TCP_INVALID_END_SEQUENCE" Socket "tcp_validate_incoming" [TcpExtBeyondWindow]
        "it ends beyond the receive window";
    TcpInvalidAckSequence "TCP_INVALID_ACK_SEQUENCE" Socket "tcp_rcv_synsent_state_process" []
        "its ACK does not answer our SYN";
    TcpReset "TCP_RESET" Socket "" [] "a reset that is not exact, or that there is nothing to reset for";
    TcpInvalidSyn "TCP_INVALID_SYN" Socket "tcp_validate_incoming" [TcpExtTCPSYNChallenge]
        "a SYN inside a connection";
    TcpClose "TCP_CLOSE" Socket "tcp_rcv_state_process" [] "the socket is closed";
    TcpFastopen "TCP_FASTOPEN" Tcp "tcp_check_req" [] "refused by the check of a fast-open request";
    TcpOldAck "TCP_OLD_ACK" Socket "tcp_ack" [] "it acknowledges what had been acknowledged before";
    TcpTooOldAck "TCP_TOO_OLD_ACK" Socket "tcp_ack" [] "its ACK is older than any window we ever saw";
    TcpAckUnsentData "TCP_ACK_UNSENT_DATA" Socket "tcp_ack" [] "it acknowledges data that was never sent";
    TcpOfoQueuePrune "TCP_OFO_QUEUE_PRUNE" Socket "tcp_prune_ofo_queue" []
        "given up out of the out-of-order queue for want of memory";
    TcpOfoDrop "TCP_OFO_DROP" Socket "tcp_ofo_queue" []
        "held out of order until its data came another way";
    IpOutnoroutes "IP_OUTNOROUTES" Output "" [IpOutNoRoutes] "no route for an outgoing packet";
    Ipv6disabled "IPV6DISABLED" Ip "ip6_rcv_core" [] "IPv6 is off on the interface";
    NeighCreatefail "NEIGH_CREATEFAIL" Output "ip_finish_output2" [] "the neighbour table is full";
    NeighFailed "NEIGH_FAILED" Output "arp_error_report" [] "the next hop does not answer";
    NeighQueuefull "NEIGH_QUEUEFULL" Output "__neigh_event_send" []
        "too many packets wait for the next hop's address; the oldest goes";
    NeighDead "NEIGH_DEAD" Output "__neigh_event_send" [] "the neighbour entry was deleted";
    SecurityHook "SECURITY_HOOK" Tcp "" [] "a security module refused it";
    CpuBacklog "CPU_BACKLOG" Napi "enqueue_to_backlog" [SoftnetDropped] "the Cpu's backlog is full";
    Xdp "XDP" Demux "do_xdp_generic" [] "an XDP program dropped it";
    TcIngress "TC_INGRESS" Demux "sch_handle_ingress" [] "dropped by traffic control on the way in";
    UnhandledProto "UNHANDLED_PROTO" Demux "" [] "nobody handles its EtherType or ICMP type";
    SkbCsum "SKB_CSUM" Output "skb_checksum_help" [] "its checksum could not be computed";
    SkbGsoSeg "SKB_GSO_SEG" Output "" [] "it could not be segmented";
    SkbUcopyFault "SKB_UCOPY_FAULT" Recv "" [] "the application's memory could not be reached";
    DevHdr "DEV_HDR" Nic "" [] "the device's header is invalid";
    DevReady "DEV_READY" Napi "" [] "the device is down";
    FullRing "FULL_RING" Nic "" [] "the device's own ring is full";
    Nomem "NOMEM" Napi "" [] "no memory";
    HdrTrunc "HDR_TRUNC" Demux "" [] "its headers are cut short";
    IcmpCsum "ICMP_CSUM" Input "icmp_rcv" [IcmpInErrors IcmpInCsumErrors] "the ICMP checksum does not verify";
    InvalidProto "INVALID_PROTO" Input "icmp_rcv" [IcmpInErrors]
        "an ICMP request to a broadcast or multicast address";
    IpInaddrerrors "IP_INADDRERRORS" Ip "ip_error" [IpInAddrErrors]
        "its destination is not this host, which does not forward";
    IpInnoroutes "IP_INNOROUTES" Ip "ip_error" [IpExtInNoRoutes] "no route to its destination";
    IpLocalSource "IP_LOCAL_SOURCE" Ip "fib_validate_source" [] "its source is one of our own addresses";
    IpInvalidSource "IP_INVALID_SOURCE" Ip "ip_route_input_slow" []
        "its source is a multicast, broadcast or zero address";
    IpLocalnet "IP_LOCALNET" Ip "ip_route_input_slow" [] "a loopback address that came over the wire";
    IpInvalidDest "IP_INVALID_DEST" Ip "ip_route_input_slow" [] "its destination address is impossible";
    PktTooBig "PKT_TOO_BIG" Output "ip_forward" [IpFragFails] "larger than the way out allows, and not to be fragmented";
    DupFrag "DUP_FRAG" Input "ip_frag_queue" [] "a fragment that is held already";
    FragReasmTimeout "FRAG_REASM_TIMEOUT" Input "" [] "its reassembly was given up or never completed";
    FragTooFar "FRAG_TOO_FAR" Input "ip_frag_queue" [IpReasmFails]
        "too many other fragments came between it and the next of its own";
    TcpMinttl "TCP_MINTTL" Tcp "tcp_v4_rcv" [TcpExtTCPMinTTLDrop] "its time to live is below the socket's IP_MINTTL";
    Ipv6BadExthdr "IPV6_BAD_EXTHDR" Input "" [] "a malformed IPv6 extension header";
    Ipv6NdiscFrag "IPV6_NDISC_FRAG" Input "ndisc_rcv" [] "a neighbour discovery message in fragments";
    Ipv6NdiscHopLimit "IPV6_NDISC_HOP_LIMIT" Input "ndisc_rcv" []
        "a neighbour discovery message that was routed: its hop limit is not 255";
    Ipv6NdiscBadCode "IPV6_NDISC_BAD_CODE" Input "ndisc_rcv" [] "a neighbour discovery message with a bad code";
    Ipv6NdiscBadOptions "IPV6_NDISC_BAD_OPTIONS" Input "ndisc_rcv" []
        "a neighbour discovery message with malformed options";
    Ipv6NdiscNsOtherhost "IPV6_NDISC_NS_OTHERHOST" Input "ndisc_rcv" []
        "a neighbour solicitation for somebody else";
    QueuePurge "QUEUE_PURGE" Socket "skb_queue_purge" [] "thrown away with the queue that held it";
    TcCookieError "TC_COOKIE_ERROR" Demux "" [] "traffic control lost its place";
    PacketSockError "PACKET_SOCK_ERROR" Demux "packet_rcv" [] "the capture's queue is full";
    TcChainNotfound "TC_CHAIN_NOTFOUND" Demux "" [] "traffic control names a chain that does not exist";
    TcReclassifyLoop "TC_RECLASSIFY_LOOP" Demux "" [] "traffic control went round in circles";
    MacInvalidSource "MAC_INVALID_SOURCE" Demux "" [] "its source MAC address is impossible";
    LocalMac "LOCAL_MAC" Demux "" [] "its source MAC address is ours";
    ArpPvlanDisable "ARP_PVLAN_DISABLE" Demux "arp_process" [] "ARP proxying within the VLAN is off";
    MacIeeeMacControl "MAC_IEEE_MAC_CONTROL" Demux "" [] "a MAC control frame";
    BridgeIngressStpState "BRIDGE_INGRESS_STP_STATE" Demux "" [] "the bridge port does not forward";
    Pfmemalloc "PFMEMALLOC" Demux "__netif_receive_skb_core" [TcpExtPFMemallocDrop]
        "it lies in memory kept for emergencies and is not needed for one";
    RecursionLimit "RECURSION_LIMIT" Demux "" [] "too many devices within devices";
    RxMissed = 192 "RX_MISSED" Nic "the device" [] "the ring had no free slot when the frame came (rx_missed_errors)";
    RxNoBuffer = 193 "RX_NO_BUFFER" Nic "the driver" [] "the pool had no buffer to receive it with";
    RxRunt = 194 "RX_RUNT" Nic "the device" [] "the frame is shorter than Ethernet allows (rx_length_errors)";
    RxOversize = 195 "RX_OVERSIZE" Nic "the device" [] "the frame is longer than the device's MTU allows (rx_length_errors)";
    RxCrc = 196 "RX_CRC" Nic "the device" [] "the frame check sequence does not verify (rx_crc_errors)";
    TxRingFull = 197 "TX_RING_FULL" Output "the device" [] "the transmit queue is full";
    TxError = 198 "TX_ERROR" Output "the device" [] "the device could not send it (tx_errors)";
    StackShutdown = 199 "STACK_SHUTDOWN" Nic "the stack" [] "the stack was shut down while the packet was on its way";
    FlowNotFollowed = 201 "FLOW_NOT_FOLLOWED" Tcp "__inet_lookup_skb" []
        "of a connection whose beginning was not seen, so its socket is not known here";
    NfqueueFull = 202 "NFQUEUE_FULL" Input "nfqnl_enqueue_packet" [] "the queue to a netfilter decider is full (queue_dropped)";
}

impl DropReason {
    /// True for the reasons that the kernel does not have.
    pub const fn is_ours(self) -> bool {
        self as u8 >= DropReason::RxMissed as u8
    }

    /// The reason of that name, in the kernel's spelling, with or without `SKB_DROP_REASON_` before it.
    pub fn from_name(name: &str) -> Option<DropReason> {
        let name = name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name);
        DropReason::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// The reason of that number, as an [`Event`](crate::Event) carries it.
    pub fn from_number(number: u32) -> Option<DropReason> {
        DropReason::ALL.iter().copied().find(|reason| u32::from(*reason as u8) == number)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TcpRfc7323Paws` as `TCP_RFC7323_PAWS`.
    fn kernel_spelling(variant: &str) -> String {
        let mut name = String::new();
        for (i, c) in variant.chars().enumerate() {
            if c.is_uppercase() && i > 0 {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        name
    }

    #[test]
    fn variants_are_the_names_in_another_spelling() {
        for reason in DropReason::ALL {
            assert_eq!(kernel_spelling(&format!("{reason:?}")), reason.name());
        }
    }

    #[test]
    fn names_and_numbers_lead_back_to_the_reason() {
        for &reason in DropReason::ALL {
            assert_eq!(DropReason::from_name(reason.name()), Some(reason));
            assert_eq!(DropReason::from_number(u32::from(reason as u8)), Some(reason));
        }
        assert_eq!(DropReason::from_name("SKB_DROP_REASON_TCP_CSUM"), Some(DropReason::TcpCsum));
        assert_eq!(DropReason::from_name("CONSUMED"), None);
        assert_eq!(DropReason::from_number(191), None);
        assert_eq!(DropReason::from_number(u32::MAX), None);
    }

    #[test]
    fn ours_are_in_the_marked_range_only() {
        let ours: Vec<&str> = DropReason::ALL.iter().filter(|r| r.is_ours()).map(|r| r.name()).collect();
        assert_eq!(
            ours,
            [
                "RX_MISSED",
                "RX_NO_BUFFER",
                "RX_RUNT",
                "RX_OVERSIZE",
                "RX_CRC",
                "TX_RING_FULL",
                "TX_ERROR",
                "STACK_SHUTDOWN",
                "FLOW_NOT_FOLLOWED",
                "NFQUEUE_FULL"
            ]
        );
        assert!(!DropReason::RecursionLimit.is_ours());
        assert!((DropReason::RecursionLimit as u8) < 128, "room for the kernel's to grow");
    }

    #[test]
    fn descriptions_are_phrases_of_our_own() {
        let mut seen = std::collections::HashSet::new();
        for reason in DropReason::ALL {
            let text = reason.describe();
            assert!(text.len() > 8 && !text.ends_with('.'), "{reason}: {text}");
            seen.insert(text);
        }
        let distinct = DropReason::ALL.len() - 1; // TCP_OVERWINDOW and TCP_INVALID_SEQUENCE are one thing in two places
        assert_eq!(seen.len(), distinct);
    }
}
