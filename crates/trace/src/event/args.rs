//! The arguments of events that are a choice among few: as numbers in the event, as types here.

/// Builds an enum that travels as a number, with words for the story.
macro_rules! argument {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal, $words:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = concat!("\"", $words, "\".")] $variant = $number,)*
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// In words, as the story says it.
            pub const fn words(self) -> &'static str {
                match self { $($name::$variant => $words,)* }
            }

            /// The one of that number, as an event carries it.
            pub const fn from_number(number: u32) -> Option<$name> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

argument! {
    /// What a packet is that the stack created to send.
    OutputWhat {
        TcpData = 0, "TCP data";
        TcpAck = 1, "a TCP ACK";
        TcpSyn = 2, "a TCP SYN";
        TcpSynAck = 3, "a TCP SYN-ACK";
        TcpFin = 4, "a TCP FIN";
        TcpRst = 5, "a TCP reset";
        TcpRetransmit = 6, "a TCP retransmission";
        TcpProbe = 7, "a TCP probe";
        ArpRequest = 8, "an ARP request";
        ArpReply = 9, "an ARP reply";
        EchoReply = 10, "an ICMP echo reply";
        IcmpError = 11, "an ICMP error";
        Udp = 12, "a UDP datagram";
        Other = 13, "a packet";
        Frame = 14, "an application's frame";
    }
}

argument! {
    /// How a packet was made out of others.
    MadeHow {
        Reassembled = 0, "reassembled from fragments";
        Fragmented = 1, "a fragment of a larger packet";
        Segmented = 2, "a segment of a larger packet";
        Copied = 3, "a copy of another packet";
        Collapsed = 4, "collapsed from queued segments";
    }
}

argument! {
    /// Why GRO passed a packet up at once.
    GroPass {
        NoPayload = 0, "no payload";
        Off = 1, "GRO is off";
        Protocol = 2, "not a protocol that GRO merges";
        Checksum = 3, "its checksum does not verify";
        IpHeader = 4, "its IP header has options, is a fragment or does not fit its length";
        Flags = 5, "its flags forbid to hold it";
        Full = 6, "too many flows are held";
        Final = 7, "it is the last of its run and there is nothing to merge it with";
    }
}

argument! {
    /// What the socket lookup found.
    LookupKind {
        Established = 0, "an established connection";
        Request = 1, "a half-open connection";
        TimeWait = 2, "a connection in TIME-WAIT";
        Listener = 3, "a listener";
    }
}

argument! {
    /// What the look-up of a datagram's socket found.
    DatagramFound {
        Nobody = 0, "no socket";
        Bound = 1, "a bound socket";
        Connected = 2, "a connected socket";
        Group = 3, "a socket that takes what goes to all";
        Raw = 4, "a raw socket";
    }
}

argument! {
    /// Why a segment takes the slow path.
    SlowWhy {
        Flags = 0, "its flags, header length or window are not the predicted ones";
        Sequence = 1, "its sequence number is not the next expected";
        Ack = 2, "its ACK is outside what is in flight";
        Options = 3, "it has options besides the timestamp";
        Timestamp = 4, "its timestamp is older than the last";
        Disabled = 5, "prediction is off: data is out of order, urgent, or memory is short";
        Window = 6, "it reaches beyond the receive window";
        Memory = 7, "its memory is not yet reserved";
        State = 8, "the connection is not in ESTABLISHED";
    }
}

argument! {
    /// Why an ACK is sent at once.
    AckWhy {
        TwoSegments = 0, "more than one full segment is unacknowledged";
        Quick = 1, "quick-ACK mode";
        OutOfOrder = 2, "data is out of order";
        HoleFilled = 3, "it filled a hole";
        Duplicate = 4, "the data had been received before";
        OutOfWindow = 5, "it is outside the window";
        Challenge = 6, "a challenge ACK";
        OldTimestamp = 7, "its timestamp is old";
        Fin = 8, "it carries a FIN";
        Handshake = 9, "it completes the handshake";
        WindowUpdate = 10, "the window opened";
        ZeroWindow = 11, "the window is closed";
        TimeWait = 12, "the connection is in TIME-WAIT";
        Timer = 13, "the delayed-ACK timer ran out";
        Asked = 14, "the application or the peer asked for it";
    }
}

argument! {
    /// A TCP socket's state, by the kernel's numbers.
    TcpState {
        Established = 1, "ESTABLISHED";
        SynSent = 2, "SYN-SENT";
        SynRecv = 3, "SYN-RECEIVED";
        FinWait1 = 4, "FIN-WAIT-1";
        FinWait2 = 5, "FIN-WAIT-2";
        TimeWait = 6, "TIME-WAIT";
        Close = 7, "CLOSED";
        CloseWait = 8, "CLOSE-WAIT";
        LastAck = 9, "LAST-ACK";
        Listen = 10, "LISTEN";
        Closing = 11, "CLOSING";
        NewSynRecv = 12, "SYN-RECEIVED (request)";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for &why in AckWhy::ALL {
            assert_eq!(AckWhy::from_number(why as u32), Some(why));
        }
        for &state in TcpState::ALL {
            assert_eq!(TcpState::from_number(state as u32), Some(state));
        }
        assert_eq!(TcpState::from_number(0), None);
        assert_eq!(SlowWhy::from_number(9), None);
        assert_eq!(GroPass::from_number(u32::MAX), None);
    }
}
