//! The locked state of a TCP socket, split by whose business it is.

use std::collections::VecDeque;

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{PacketId, Time};
use rxpath_wire::{SeqNum, Tuple};

use super::ofo::Tree;
use super::{
    AckPolicy, Chrono, Congestion, Ecn, FastOpening, IpFields, Linger2, Liveness, Loss, MSS_DEFAULT, MtuDiscover,
    MtuSearch, Nagle, Request, RttEstimator, SackReport, SendBuffer, SockAuth, SockError, Stamp, State, Urgent,
    WriteQueue, Zerocopy,
};
use crate::nic::napi_id;
use crate::route::Route;
use crate::socket::QueuedError;

/// Everything that the socket lock guards.
pub struct TcpSock {
    /// State of the connection.
    pub state: State,
    /// Bytes that a signature takes in the options of each segment; 0 if segments are not signed.
    pub auth_len: u8,
    /// The interface that it is bound to (`SO_BINDTODEVICE`); 0 for none.
    pub ifindex: u16,
    /// What the application wants of IP headers.
    pub ip: IpFields,
    /// What header prediction expects in the word of offset, flags and window; 0 sends every segment the slow way.
    pub pred_flags: u32,
    /// Receive side.
    pub rx: Receiver,
    /// When and how to acknowledge.
    pub ack: AckPolicy,
    /// Send side.
    pub tx: Sender,
    /// What was agreed in the handshake.
    pub opts: Negotiated,
    /// Round-trip time and retransmission timeout.
    pub rtt: RttEstimator,
    /// Congestion window.
    pub cong: Congestion,
    /// Loss detection and recovery.
    pub loss: Loss,
    /// Explicit congestion notification.
    pub ecn: Ecn,
    /// Whether the peer is still there.
    pub live: Liveness,
    /// Keys that segments are signed and verified with.
    pub auth: Option<Box<SockAuth>>,
    /// When which timer is due.
    pub timers: Deadlines,
    /// What the application asked for and must be told.
    pub user: UserSide,
    /// What the Cpu has to do when it lets go of the lock.
    pub effects: Effects,
    /// Addresses and ports.
    pub tuple: Tuple,
    /// The way to the peer, cached.
    pub route: Route,
    /// What Fast Open is to the connection.
    pub fast: FastOpening,
    /// Of a socket that began with the peer's SYN: what the rest of the handshake is held against.
    pub request: Option<Box<Request>>,
}

/// Receive variables (RFC 9293 section 3.3.1) and the memory that received data is charged to.
pub struct Receiver {
    /// Next sequence number expected.
    pub rcv_nxt: SeqNum,
    /// First byte that the application has not read.
    pub copied_seq: SeqNum,
    /// `rcv_nxt` when the last window was advertised.
    pub rcv_wup: SeqNum,
    /// Window advertised at `rcv_wup`, in bytes.
    pub rcv_wnd: u32,
    /// Current ceiling of the advertised window.
    pub rcv_ssthresh: u32,
    /// Largest window ever to be advertised.
    pub window_clamp: u32,
    /// What the application wants that to be at most when the connection begins; 0 for no wish (`TCP_WINDOW_CLAMP`).
    pub user_clamp: u32,
    /// What is offered may become less, as when a window was last chosen (`tcp_shrink_window`).
    pub shrinks: bool,
    /// Limit of charged memory.
    pub rcvbuf: u32,
    /// The application has set that (`SOCK_RCVBUF_LOCK`).
    pub rcvbuf_locked: bool,
    /// Charged memory (truesize of what is queued).
    pub rmem_alloc: u32,
    /// Accounted memory that is already the socket's and not yet charged (`sk_forward_alloc`): extended by whole pages.
    pub forward_alloc: i32,
    /// Memory of what waits to be sent or acknowledged (`sk_wmem_queued`).
    pub wmem_queued: u32,
    /// Accounted memory in all, in pages.
    pub pages: i32,
    /// Of those, what the account of the stack knows.
    pub told: i32,
    /// The queue that packets came by last (`SO_INCOMING_NAPI_ID`); 0 for none yet.
    pub napi_id: u32,
    /// Bytes of the backlog, as far as the free space is concerned.
    pub backlog_len: u32,
    /// Payload per 256 bytes of truesize, as measured.
    pub scaling_ratio: u8,
    /// In-order data.
    pub queue: SkbQueue,
    /// Out-of-order data, by sequence number.
    pub ofo: Tree<Skb>,
    /// What the peer is told of it.
    pub sack: SackReport,
    /// Urgent data.
    pub urgent: Urgent,
    /// Set when a zero window must be advertised because memory ran out (`ICSK_ACK_NOMEM`).
    pub nomem: bool,
    /// The stack's memory is under pressure, as of the last segment: windows do not grow.
    pub pressure: bool,
    /// The peer's FIN was taken, and the reader has not come to it.
    pub fin: bool,
    /// What that FIN is charged if it came by itself and joined nothing: the kernel's queue has it. 0 for none.
    pub fin_charge: u32,
    /// Lowest number of readable bytes worth a wake-up (`SO_RCVLOWAT`).
    pub lowat: u32,
    /// Receiver-side round-trip estimate, microseconds times 8.
    pub rtt_us8: u32,
    /// Sequence number and time of the running receiver round-trip measurement.
    pub rtt_seq: SeqNum,
    /// When that measurement began.
    pub rtt_time: Time,
    /// Last timestamp echo that was used as a sample.
    pub rtt_last_tsecr: u32,
    /// Bytes that the reader took in the last measured round trip (`rcvq_space.space`).
    pub space: u32,
    /// `copied_seq` when the current round trip began.
    pub space_seq: SeqNum,
    /// When the current round trip began.
    pub space_time: Time,
    /// Segments received in all, merged ones for each.
    pub segs_in: u32,
    /// Of those, with data.
    pub data_segs_in: u32,
    /// Of those, out of order.
    pub ooopack: u32,
}

/// Send variables (RFC 9293 section 3.3.1) and the bytes that wait.
pub struct Sender {
    /// Initial sequence number.
    pub iss: SeqNum,
    /// Oldest unacknowledged.
    pub snd_una: SeqNum,
    /// Where the peer's acknowledgements began; our SYN counts if we opened the connection (`bytes_acked`).
    pub first_una: SeqNum,
    /// Next to be sent.
    pub snd_nxt: SeqNum,
    /// End of what the application wrote (without the FIN).
    pub write_seq: SeqNum,
    /// Window of the peer, scaled.
    pub snd_wnd: u32,
    /// Segment that last updated the window.
    pub snd_wl1: SeqNum,
    /// Largest window seen.
    pub max_window: u32,
    /// Payload bytes per segment towards the peer.
    pub mss: u16,
    /// What the peer announced as the most that it takes (`mss_clamp`).
    pub mss_clamp: u16,
    /// The way's MTU for which `mss` is right (`icsk_pmtu_cookie`).
    pub pmtu: u16,
    /// The search for a larger one.
    pub mtu: MtuSearch,
    /// MSS that we announce.
    pub advmss: u16,
    /// Largest segment that the application wants; 0 for no wish (`TCP_MAXSEG`).
    pub user_mss: u16,
    /// Bytes that may wait unsent before a writer has to wait (`TCP_NOTSENT_LOWAT`).
    pub notsent_lowat: u32,
    /// Packets that were not sent yet.
    pub queue: WriteQueue,
    /// Unacknowledged and unsent bytes.
    pub buffer: SendBuffer,
    /// Sequence number of the first byte of `buffer`.
    pub buffer_seq: SeqNum,
    /// Limit of `buffer`, in bytes.
    pub sndbuf: usize,
    /// The application has set that (`SOCK_SNDBUF_LOCK`).
    pub sndbuf_locked: bool,
    /// Segments in flight.
    pub segments: VecDeque<SentSegment>,
    /// What may hold a small segment back.
    pub nagle: Nagle,
    /// End of the last segment smaller than the MSS that was sent (Minshall's variant of Nagle's algorithm).
    pub snd_sml: SeqNum,
    /// Behind the last urgent byte, while that is not acknowledged.
    pub snd_up: Option<SeqNum>,
    /// Our FIN was asked for; it follows `write_seq`.
    pub fin: bool,
    /// Time of the last data segment.
    pub last_sent: Time,
    /// Time of the last segment of any kind.
    pub last_transmit: Time,
    /// Echo value of the timestamps we send is masked by this offset.
    pub ts_offset: u32,
    /// IP identification of the next packet.
    pub ip_id: u16,
    /// When the last rate-limited duplicate ACK went out (`tcp_invalid_ratelimit`).
    pub last_oow_ack: Option<Time>,
    /// Segments sent in all, and those with data.
    pub segs_out: u32,
    /// Segments with data sent in all.
    pub data_segs_out: u32,
    /// Payload bytes sent in all.
    pub bytes_sent: u64,
    /// Of those, again.
    pub bytes_retrans: u64,
    /// Payload bytes acknowledged in all.
    pub bytes_acked: u64,
    /// What the time was spent on while there was something to send.
    pub chrono: Chrono,
    /// Calls that lent their memory; None before the first.
    pub zerocopy: Option<Box<Zerocopy>>,
}

/// One segment in flight.
#[derive(Clone, Copy, Debug)]
pub struct SentSegment {
    /// First sequence number.
    pub seq: SeqNum,
    /// Behind the last (SYN and FIN counted).
    pub end_seq: SeqNum,
    /// When it was last sent.
    pub sent_at: Time,
    /// Packets that it takes.
    pub pcount: u32,
    /// Payload of each of its packets but the last, where it takes more than one.
    pub mss: u16,
    /// What was known when it was last sent.
    pub stamp: Stamp,
    /// Memory that it is charged.
    pub charge: u32,
    /// It was sent more than once (Karn's rule).
    pub retransmitted: bool,
    /// It was sent again, and not acknowledged nor counted as lost since.
    pub retrans: bool,
    /// It is counted as lost.
    pub lost: bool,
    /// It was found overdue since it was last sent.
    pub overdue: bool,
    /// It was acknowledged selectively.
    pub sacked: bool,
    /// Carries our SYN.
    pub syn: bool,
    /// Carries our FIN.
    pub fin: bool,
    /// Is to be pushed.
    pub psh: bool,
    /// A record ends with it: nothing is joined to its end.
    pub eor: bool,
}

impl SentSegment {
    /// A segment that goes out now for the first time.
    pub(super) fn new(seq: SeqNum, end_seq: SeqNum, pcount: u32, now: Time, stamp: Stamp) -> SentSegment {
        SentSegment {
            seq,
            end_seq,
            sent_at: now,
            pcount,
            mss: 0,
            stamp,
            charge: 0,
            retransmitted: false,
            retrans: false,
            lost: false,
            overdue: false,
            sacked: false,
            syn: false,
            fin: false,
            psh: false,
            eor: false,
        }
    }

    /// Payload bytes.
    pub(super) fn len(&self) -> u32 {
        (self.end_seq - self.seq).max(0) as u32 - u32::from(self.syn) - u32::from(self.fin)
    }

    /// Payload of its packets, but for the last of several (`tcp_skb_seglen`).
    pub(super) fn packet_len(&self) -> u32 {
        if self.pcount > 1 { u32::from(self.mss.max(1)) } else { self.len() }
    }

    /// Cuts off what was acknowledged up to `una`; gives the memory that it was charged (`tcp_trim_head`).
    pub(super) fn trim(&mut self, una: SeqNum) -> u32 {
        let bytes = ((una - self.seq).max(0) as u32).min(self.len());
        if bytes == 0 {
            return 0;
        }
        self.seq += bytes;
        self.charge -= bytes.min(self.charge);
        if self.pcount > 1 {
            self.pcount = self.len().div_ceil(u32::from(self.mss.max(1))).clamp(1, self.pcount);
        }
        bytes
    }
}

/// Options agreed in the handshake.
#[derive(Clone, Copy, Debug, Default)]
pub struct Negotiated {
    /// Timestamps are in use (RFC 7323 section 3).
    pub timestamps: bool,
    /// Selective acknowledgements are in use (RFC 2018).
    pub sack: bool,
    /// Window scaling is in use (RFC 7323 section 2).
    pub wscale: bool,
    /// Shift for the windows that we receive.
    pub snd_wscale: u8,
    /// Shift for the windows that we send.
    pub rcv_wscale: u8,
    /// Most recent timestamp of the peer that may be echoed.
    pub ts_recent: u32,
    /// When `ts_recent` was taken, in seconds of the stack's clock plus one; 0 = never.
    pub ts_recent_stamp: u64,
}

/// What the sender's timer is for (`icsk_pending`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XmitTimer {
    /// The oldest segment was not acknowledged in time.
    Retransmit,
    /// The peer's window is closed.
    WindowProbe,
    /// The last segments of a flight may be lost.
    LossProbe,
    /// Segments that were overtaken may be lost.
    Reorder,
    /// The SYN-ACK of a socket that began with its SYN was not answered; nothing else is waited for until it is.
    SynAck,
}

/// Timer deadlines; `Time::MAX` is "not armed". The wheel's entries recheck these.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// The sender's timer.
    pub retransmit: Time,
    /// What that is for.
    pub pending: XmitTimer,
    /// Delayed ACK.
    pub delack: Time,
    /// Keepalive, or the end of an orphan's FIN-WAIT-2.
    pub keepalive: Time,
    /// What pacing holds back may leave.
    pub pace: Time,
    /// A writer for whom there was no memory may try again.
    pub memory: Time,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            retransmit: Time::MAX,
            pending: XmitTimer::Retransmit,
            delack: Time::MAX,
            keepalive: Time::MAX,
            pace: Time::MAX,
            memory: Time::MAX,
        }
    }
}

impl Deadlines {
    /// The sender's timer is a zero-window probe.
    pub fn probing(&self) -> bool {
        self.pending == XmitTimer::WindowProbe
    }

    /// The earliest of them.
    #[inline(always)]
    pub fn next(&self) -> Time {
        Time(self.retransmit.0.min(self.delack.0).min(self.keepalive.0).min(self.pace.0).min(self.memory.0))
    }

    /// All of them; [`Time::MAX`] where none is set.
    pub fn deadlines(&self) -> [Time; 5] {
        [self.retransmit, self.delack, self.keepalive, self.pace, self.memory]
    }

    /// Disarms all.
    pub fn clear(&mut self) {
        *self = Deadlines::default();
    }
}

/// The application's side.
#[derive(Debug, Default)]
pub struct UserSide {
    /// Somebody waits for bytes, a FIN or an error.
    pub wait_recv: bool,
    /// Somebody waits for room or for the handshake.
    pub wait_send: bool,
    /// Somebody waits for memory, too: nothing but time will wake him.
    pub wait_memory: bool,
    /// Where the next look at what is to be read begins, in bytes from the next one, if looks move on (`SO_PEEK_OFF`).
    pub peek_off: Option<u32>,
    /// Reading is over (`RCV_SHUTDOWN`).
    pub rcv_shutdown: bool,
    /// Writing is over (`SEND_SHUTDOWN`).
    pub snd_shutdown: bool,
    /// An error that the next call reports, once.
    pub error: Option<SockError>,
    /// What ICMP said of the peer; the application is told of it if the connection gives up (`sk_err_soft`).
    pub error_soft: Option<SockError>,
    /// The ICMP error that ended the handshake, in detail: it shows until it is read (`MSG_ERRQUEUE`). There is no second one.
    pub error_told: Option<Box<QueuedError>>,
    /// ICMP errors are told at once, and not only if the connection gives up (`IP_RECVERR`).
    pub recv_errors: bool,
    /// The connection is over for the reader: 0 from now on, errors hidden (`SOCK_DONE`).
    pub done: bool,
    /// The application has the socket: it opened the connection, or accepted it.
    pub accepted: bool,
    /// The application has let go (`SOCK_DEAD`).
    pub orphan: bool,
    /// It is counted as an orphan.
    pub orphan_counted: bool,
    /// Calls may lend their memory (`SO_ZEROCOPY`).
    pub zerocopy: bool,
    /// What is done about the MTU of the path.
    pub mtu_discover: MtuDiscover,
    /// `SO_LINGER` with zero time: close resets.
    pub linger_reset: bool,
    /// How long an orphan waits in FIN-WAIT-2.
    pub linger2: Linger2,
    /// Bytes that were delivered to the application in all.
    pub delivered: u64,
    /// Segments that the socket dropped, for whatever reason (`sk_drops`), but for those that its full backlog refused.
    pub drops: u32,
    /// Reads of the application that took bytes.
    pub reads: u32,
}

/// What the Cpu does when it lets go of the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Wake readers.
    pub wake_recv: bool,
    /// Wake writers and connectors.
    pub wake_send: bool,
    /// The handshake of a passive connection is done: put it on the accept queue.
    pub established: bool,
    /// Go into TIME-WAIT (or an orphan's FIN-WAIT-2) with a mini-socket: the state that it starts in, and for how long.
    pub timewait: Option<(State, u64)>,
    /// The connection is over: take it out of the tables.
    pub closed: bool,
}

impl Effects {
    /// True if the socket leaves the table: nothing that follows is its.
    #[inline(always)]
    pub fn is_last(&self) -> bool {
        self.closed | self.timewait.is_some()
    }

    /// True if there is nothing to do.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        !(self.wake_recv | self.wake_send | self.established | self.closed) && self.timewait.is_none()
    }
}

impl TcpSock {
    /// A socket in `state` with nothing negotiated yet.
    pub fn new(state: State, tuple: Tuple, route: Route, rcvbuf: u32, sndbuf: usize) -> TcpSock {
        TcpSock {
            state,
            auth_len: 0,
            ifindex: 0,
            ip: IpFields::default(),
            pred_flags: 0,
            rx: Receiver::new(rcvbuf),
            ack: AckPolicy::new(),
            tx: Sender::new(sndbuf),
            opts: Negotiated::default(),
            rtt: RttEstimator::new(),
            cong: Congestion::new(),
            loss: Loss::default(),
            ecn: Ecn::default(),
            live: Liveness::default(),
            auth: None,
            timers: Deadlines::default(),
            user: UserSide::default(),
            effects: Effects::default(),
            tuple,
            route,
            fast: FastOpening::default(),
            request: None,
        }
    }

    /// The application may write: the connection stands, or began with the peer's SYN.
    pub fn takes_data(&self) -> bool {
        self.state.can_send() || self.is_early()
    }

    /// Bytes that the application could read now.
    #[inline(always)]
    pub fn readable(&self) -> u32 {
        (self.rx.rcv_nxt - self.rx.copied_seq) as u32 - u32::from(self.rx.fin)
    }

    /// Bytes (and FIN) that are not acknowledged or not sent: what `/proc/net/tcp` prints as `tx_queue`.
    pub fn unacknowledged(&self) -> u32 {
        (self.send_end() - self.tx.snd_una).max(0) as u32
    }

    /// Of those, what was not sent.
    pub(super) fn unsent(&self) -> u32 {
        (self.send_end() - self.tx.snd_nxt).max(0) as u32
    }

    /// The end of what is to be sent, our FIN counted.
    #[inline]
    pub fn send_end(&self) -> SeqNum {
        self.tx.write_seq + u32::from(self.tx.fin)
    }

    /// Room for the application's bytes, `urgent` or not: in the buffer, and as long as less waits unsent than it wants
    /// (`tcp_stream_memory_free`).
    pub fn send_room(&self, urgent: bool) -> usize {
        let room = self.write_room(urgent);
        if self.tx.notsent_lowat == u32::MAX {
            return room;
        }
        // A packet is not cut for it, and is filled before the next is begun.
        let filled = self.packet_room(false, urgent) as u32;
        let one_more = self.unsent().saturating_add(filled) < self.tx.notsent_lowat;
        room.min(self.packet_room(one_more, urgent))
    }

    /// Room for the application's bytes worth a wake-up (`sk_stream_is_writeable`).
    pub fn has_send_room(&self) -> bool {
        let free = self.tx.sndbuf.saturating_sub(self.rx.wmem_queued as usize);
        free * 3 >= self.tx.sndbuf && (self.unsent() << 1) < self.tx.notsent_lowat
    }

    /// True while nothing is in flight.
    #[inline]
    pub fn nothing_in_flight(&self) -> bool {
        self.tx.snd_una == self.tx.snd_nxt
    }

    /// Sets what header prediction expects (`__tcp_fast_path_on`): of segments that are signed nothing.
    #[inline]
    pub fn fast_path_on(&mut self) {
        if self.auth_len > 0 {
            self.pred_flags = 0;
            return;
        }
        let header_len = 20 + if self.opts.timestamps { u32::from(super::TSTAMP_ALIGNED) } else { 0 };
        let window = (self.tx.snd_wnd >> self.opts.snd_wscale) & 0xffff;
        self.pred_flags = (header_len << 26) | 0x0010_0000 | window;
    }

    /// Turns header prediction on if nothing speaks against it (`tcp_fast_path_check`).
    #[inline]
    pub fn fast_path_check(&mut self) {
        let rx = &self.rx;
        if rx.ofo.is_empty() && rx.rcv_wnd != 0 && rx.rmem_alloc < rx.rcvbuf && !rx.urgent.is_set() {
            self.fast_path_on();
        }
    }
}

impl UserSide {
    /// The reader took so many bytes: where the next look begins comes nearer (`sk_peek_offset_bwd`).
    #[inline(always)]
    pub(crate) fn took(&mut self, bytes: u32) {
        self.delivered += u64::from(bytes);
        if let Some(offset) = &mut self.peek_off {
            *offset = offset.saturating_sub(bytes);
        }
    }
}

impl Receiver {
    /// Packets come by this one's queue (`sk_mark_napi_id`).
    #[inline(always)]
    pub(super) fn mark_napi(&mut self, packet: PacketId) {
        if let Some(id) = napi_id(packet) {
            self.napi_id = id;
        }
    }

    fn new(rcvbuf: u32) -> Receiver {
        Receiver {
            rcv_nxt: SeqNum(0),
            copied_seq: SeqNum(0),
            rcv_wup: SeqNum(0),
            rcv_wnd: 0,
            rcv_ssthresh: 0,
            window_clamp: u32::MAX,
            user_clamp: 0,
            shrinks: false,
            rcvbuf,
            rcvbuf_locked: false,
            rmem_alloc: 0,
            forward_alloc: 0,
            wmem_queued: 0,
            pages: 0,
            told: 0,
            napi_id: 0,
            backlog_len: 0,
            scaling_ratio: 128,
            queue: SkbQueue::new(),
            ofo: Tree::default(),
            sack: SackReport::default(),
            urgent: Urgent::default(),
            nomem: false,
            pressure: false,
            fin: false,
            fin_charge: 0,
            lowat: 1,
            rtt_us8: 0,
            rtt_seq: SeqNum(0),
            rtt_time: Time::ZERO,
            rtt_last_tsecr: 0,
            space: 0,
            space_seq: SeqNum(0),
            space_time: Time::ZERO,
            segs_in: 0,
            data_segs_in: 0,
            ooopack: 0,
        }
    }
}

impl Sender {
    fn new(sndbuf: usize) -> Sender {
        Sender {
            iss: SeqNum(0),
            snd_una: SeqNum(0),
            first_una: SeqNum(0),
            snd_nxt: SeqNum(0),
            write_seq: SeqNum(0),
            snd_wnd: 0,
            snd_wl1: SeqNum(0),
            max_window: 0,
            mss: MSS_DEFAULT,
            mss_clamp: MSS_DEFAULT,
            pmtu: 0,
            mtu: MtuSearch::default(),
            advmss: MSS_DEFAULT,
            user_mss: 0,
            queue: WriteQueue::default(),
            buffer: SendBuffer::default(),
            buffer_seq: SeqNum(0),
            sndbuf,
            sndbuf_locked: false,
            segments: VecDeque::new(),
            nagle: Nagle::default(),
            snd_sml: SeqNum(0),
            snd_up: None,
            fin: false,
            last_sent: Time::ZERO,
            last_transmit: Time::ZERO,
            ts_offset: 0,
            ip_id: 0,
            last_oow_ack: None,
            notsent_lowat: u32::MAX,
            segs_out: 0,
            data_segs_out: 0,
            bytes_sent: 0,
            bytes_retrans: 0,
            bytes_acked: 0,
            chrono: Chrono::default(),
            zerocopy: None,
        }
    }
}
