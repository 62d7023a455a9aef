//! What applications set of a connection, before it is there (and listeners hand on to their connections) or later.
//!
//! Mirrors `do_tcp_setsockopt`, `sock_setsockopt` and what `tcp_create_openreq_child` inherits. Ranges and errors are the
//! kernel's; see `tcp(7)` and `socket(7)`.

use super::liveness::SECOND;
use super::memory::{SNDBUF_MIN, doubled};
use super::{IpFields, Keepalive, Nagle, RCVBUF_MIN, State, TcpSock};
use crate::netns::NetConfig;
use crate::route;
use crate::sysctl::{CongestionControl, Sysctls};

/// Smallest window clamp: half of the smallest receive buffer.
const CLAMP_MIN: u32 = RCVBUF_MIN / 2;
/// Most seconds that an orphan may wait in FIN-WAIT-2 (`TCP_FIN_TIMEOUT_MAX`).
const LINGER2_MAX: u32 = 120;

/// Options of a connection that may be set before there is one. What is None, or not set, is as the stack's tunables say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SockOptions {
    /// Receive buffer, bytes; it gets twice that, at most twice `net.core.rmem_max` and at least 2,304, and does not grow by
    /// itself (`SO_RCVBUF`).
    pub recv_buffer: Option<u32>,
    /// Send buffer, bytes; likewise with `net.core.wmem_max`, at least 4,608 (`SO_SNDBUF`).
    pub send_buffer: Option<u32>,
    /// Most that the window may offer, bytes; at least 1,152, and 0 sets no limit (`TCP_WINDOW_CLAMP`).
    pub window_clamp: Option<u32>,
    /// Largest segment in both directions, 88 to 32,767 bytes; 0 sets no limit (`TCP_MAXSEG`).
    pub max_segment: Option<u16>,
    /// SYNs, or SYN-ACKs, that are sent again, 1 to 127 (`TCP_SYNCNT`).
    pub syn_retries: Option<u8>,
    /// How long the connection waits for the peer's FIN once nobody has it any more (`TCP_LINGER2`).
    pub linger2: Linger2,
    /// Milliseconds for which unacknowledged data is put up with; 0 leaves it to the number of retransmissions
    /// (`TCP_USER_TIMEOUT`).
    pub user_timeout_ms: u32,
    /// Probes of a silent peer (`SO_KEEPALIVE`, `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`).
    pub keepalive: Option<Keepalive>,
    /// How the congestion window grows and how far it falls (`TCP_CONGESTION`).
    pub congestion: Option<CongestionControl>,
    /// Small segments go out at once (`TCP_NODELAY`).
    pub nodelay: bool,
    /// The last segment waits until it is full (`TCP_CORK`).
    pub cork: bool,
    /// Bytes worth a wake-up of a reader (`SO_RCVLOWAT`); 0 counts as 1.
    pub recv_lowat: u32,
    /// Bytes that may wait unsent before a writer has to wait; 0 is as `net.ipv4.tcp_notsent_lowat` says
    /// (`TCP_NOTSENT_LOWAT`).
    pub notsent_lowat: Option<u32>,
    /// Where a look at what is to be read begins; looks then move on (`SO_PEEK_OFF`).
    pub peek_off: Option<u32>,
    /// What IP headers have, and must have (`IP_TTL`, `IP_TOS`, `IP_MINTTL`).
    pub ip: IpFields,
    /// Calls may lend their memory instead of having it copied (`SO_ZEROCOPY`).
    pub zerocopy: bool,
    /// What is done about the MTU of the path (`IP_MTU_DISCOVER`).
    pub mtu_discover: MtuDiscover,
    /// ICMP errors are told at once (`IP_RECVERR`).
    pub recv_errors: bool,
    /// Of a connection that is opened: the interface that it goes by, whatever routes say, and takes segments by
    /// (`SO_BINDTODEVICE`). Connections of a listener have that of the listener.
    pub ifindex: Option<u16>,
    /// Of a connection that is opened: where there is a cookie of the peer, connecting returns at once, and the SYN goes with
    /// what is written first (`TCP_FASTOPEN_CONNECT`, RFC 7413).
    pub fastopen_connect: bool,
    /// Of a connection that is opened: a SYN may carry data without a cookie (`TCP_FASTOPEN_NO_COOKIE`). It is for networks
    /// in which nobody lies about addresses.
    pub fastopen_no_cookie: bool,
}

/// How long an orphan waits in FIN-WAIT-2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linger2 {
    /// As long as `net.ipv4.tcp_fin_timeout` says.
    #[default]
    Default,
    /// Not at all: it is reset (a negative number in `setsockopt`).
    Never,
    /// So many seconds, at most 120; 0 is the default.
    Seconds(u32),
}

/// What a connection does about the MTU of the path (`IP_MTU_DISCOVER`, `ip(7)`): whether routers may cut its packets, and
/// what it does when one says that it would have had to (ICMP 3/4). Whatever it is, the host remembers such MTUs, and segments
/// get as short with what is sent next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MtuDiscover {
    /// Packets may be cut (`IP_PMTUDISC_DONT`).
    Dont,
    /// Packets must not be cut; what was too long is sent again at once (`IP_PMTUDISC_WANT`).
    #[default]
    Want,
    /// To a connection the same (`IP_PMTUDISC_DO`).
    Do,
    /// Packets may be cut; what was too long is sent again at once (`IP_PMTUDISC_PROBE`).
    Probe,
    /// To a connection as [`MtuDiscover::Dont`] (`IP_PMTUDISC_INTERFACE`).
    Interface,
    /// To a connection as [`MtuDiscover::Dont`] (`IP_PMTUDISC_OMIT`).
    Omit,
}

impl MtuDiscover {
    /// All of them, by the kernel's numbers.
    pub const ALL: [MtuDiscover; 6] = [
        MtuDiscover::Dont,
        MtuDiscover::Want,
        MtuDiscover::Do,
        MtuDiscover::Probe,
        MtuDiscover::Interface,
        MtuDiscover::Omit,
    ];

    /// Packets say that they must not be cut (`ip_dont_fragment`).
    pub(super) fn dont_fragment(self) -> bool {
        matches!(self, MtuDiscover::Want | MtuDiscover::Do)
    }

    /// What was too long is sent again as soon as that is told (`tcp_v4_mtu_reduced`).
    pub(super) fn sends_again(self) -> bool {
        matches!(self, MtuDiscover::Want | MtuDiscover::Do | MtuDiscover::Probe)
    }
}

/// An option was given a value that is out of its range (`EINVAL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The option's name in `setsockopt(2)`.
    pub option: &'static str,
    /// What was given.
    pub value: u32,
    /// Least and most.
    pub range: (u32, u32),
}

impl std::fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OutOfRange { option, value, range: (least, most) } = self;
        write!(f, "{option} {value} is not within {least} to {most}")
    }
}

impl std::error::Error for OutOfRange {}

/// `value`, if it is within `range`.
fn within(option: &'static str, value: u32, range: (u32, u32)) -> Result<(), OutOfRange> {
    if (range.0..=range.1).contains(&value) { Ok(()) } else { Err(OutOfRange { option, value, range }) }
}

impl SockOptions {
    /// Looks whether all values are within their ranges.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), OutOfRange> {
        if let Some(bytes) = self.max_segment {
            check_max_segment(bytes)?;
        }
        if let Some(retries) = self.syn_retries {
            within("TCP_SYNCNT", u32::from(retries), (1, 127))?;
        }
        if let Some(keepalive) = self.keepalive {
            keepalive.check()?;
        }
        check_ip_fields(&self.ip)?;
        check_user_timeout(self.user_timeout_ms)
    }

    /// Bytes of the receive buffer.
    pub fn rcvbuf(&self, sysctl: &Sysctls) -> u32 {
        self.recv_buffer.map_or(sysctl.tcp_rmem.default, |bytes| doubled(bytes, sysctl.rmem_max).max(RCVBUF_MIN))
    }

    /// Bytes of the send buffer.
    pub fn sndbuf(&self, sysctl: &Sysctls) -> u32 {
        self.send_buffer.map_or(sysctl.tcp_wmem.default, |bytes| doubled(bytes, sysctl.wmem_max).max(SNDBUF_MIN))
    }

    /// Bytes that the window may not exceed; `full` is the window that the whole buffer stands for, which binds if the
    /// application has set the buffer. None sets no limit.
    pub(super) fn clamp(&self, full: u32) -> Option<u32> {
        let own = self.window_clamp.filter(|&bytes| bytes > 0).map(|bytes| bytes.max(CLAMP_MIN));
        if self.recv_buffer.is_none() {
            return own;
        }
        Some(own.map_or(full, |own| own.min(full)))
    }

    /// A segment of at most `bytes`, or less if the application wants it so (`tcp_mss_clamp`).
    pub(super) fn mss_clamp(&self, bytes: u16) -> u16 {
        self.max_segment.filter(|&own| own > 0).map_or(bytes, |own| own.min(bytes))
    }
}

/// `TCP_MAXSEG`'s range.
fn check_max_segment(bytes: u16) -> Result<(), OutOfRange> {
    if bytes == 0 { Ok(()) } else { within("TCP_MAXSEG", u32::from(bytes), (88, 32_767)) }
}

/// `IP_TTL`'s range.
fn check_ip_fields(ip: &IpFields) -> Result<(), OutOfRange> {
    within("IP_TTL", u32::from(ip.ttl.unwrap_or(1)), (1, 255))
}

/// `TCP_USER_TIMEOUT`'s range.
fn check_user_timeout(ms: u32) -> Result<(), OutOfRange> {
    within("TCP_USER_TIMEOUT", ms, (0, i32::MAX as u32))
}

impl Keepalive {
    /// Looks whether all values are within their ranges.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), OutOfRange> {
        within("TCP_KEEPIDLE", self.idle_s.unwrap_or(1), (1, 32_767))?;
        within("TCP_KEEPINTVL", self.interval_s.unwrap_or(1), (1, 32_767))?;
        within("TCP_KEEPCNT", u32::from(self.probes.unwrap_or(1)), (1, 127))
    }
}

impl TcpSock {
    /// Makes a socket that has no connection yet as the options say.
    pub fn set_options(&mut self, options: &SockOptions, sysctl: &Sysctls) {
        self.rx.rcvbuf = options.rcvbuf(sysctl);
        self.rx.rcvbuf_locked = options.recv_buffer.is_some();
        self.tx.sndbuf = options.sndbuf(sysctl) as usize;
        self.tx.sndbuf_locked = options.send_buffer.is_some();
        self.rx.user_clamp = options.window_clamp.map_or(0, |bytes| if bytes > 0 { bytes.max(CLAMP_MIN) } else { 0 });
        self.tx.user_mss = options.max_segment.unwrap_or(0);
        self.live.syn_retries = options.syn_retries;
        self.live.user_timeout_ms = options.user_timeout_ms;
        self.live.on = options.keepalive.is_some();
        self.live.settings = options.keepalive.unwrap_or_default();
        self.user.linger2 = options.linger2;
        self.ip = options.ip;
        self.user.peek_off = options.peek_off;
        self.tx.nagle = Nagle { off: options.nodelay, cork: options.cork };
        self.user.zerocopy = options.zerocopy;
        self.user.mtu_discover = options.mtu_discover;
        self.user.recv_errors = options.recv_errors;
        self.ifindex = options.ifindex.unwrap_or(0);
        self.loss.reordering = sysctl.tcp_reordering.min(sysctl.tcp_max_reordering);
        self.tx.mtu.floor = sysctl.tcp_min_snd_mss as u16;
        self.set_notsent_lowat(options.notsent_lowat.unwrap_or(0), sysctl);
        self.cong.set_algorithm(options.congestion.unwrap_or(sysctl.tcp_congestion_control));
        self.set_rcvlowat(options.recv_lowat, sysctl.tcp_rmem.max);
    }

    /// What [`TcpSock::set_options`] made of it, for the handshake.
    pub(super) fn handshake_options(&self) -> SockOptions {
        SockOptions {
            recv_buffer: self.rx.rcvbuf_locked.then_some(self.rx.rcvbuf / 2),
            window_clamp: (self.rx.user_clamp > 0).then_some(self.rx.user_clamp),
            max_segment: (self.tx.user_mss > 0).then_some(self.tx.user_mss),
            ..SockOptions::default()
        }
    }

    /// The largest window that may be offered, bytes, at least 1,152 (`TCP_WINDOW_CLAMP`): the ceiling of the window
    /// follows (`tcp_set_window_clamp`).
    pub fn set_window_clamp(&mut self, bytes: u32) {
        let (before, clamp) = (self.rx.window_clamp, bytes.max(CLAMP_MIN));
        self.rx.window_clamp = clamp;
        if clamp < before {
            self.rx.rcv_ssthresh = self.rx.rcv_ssthresh.min(clamp);
        } else if clamp > before {
            self.rx.rcv_ssthresh = self.rx.rcv_ssthresh.max(self.rx.rcv_wnd.min(clamp));
        }
    }

    /// As [`TcpSock::set_window_clamp`], by the application, of a connection that stands.
    ///
    /// # Errors
    /// It is 0: the connection keeps its clamp.
    pub fn clamp_window_to(&mut self, bytes: u32) -> Result<(), OutOfRange> {
        within("TCP_WINDOW_CLAMP", bytes, (1, u32::MAX))?;
        self.set_window_clamp(bytes);
        Ok(())
    }

    /// How long unacknowledged data, or a closed window, is put up with, in milliseconds; 0 leaves it to the number of
    /// retransmissions (`TCP_USER_TIMEOUT`).
    ///
    /// # Errors
    /// It is above 2,147,483,647.
    pub fn set_user_timeout(&mut self, ms: u32) -> Result<(), OutOfRange> {
        check_user_timeout(ms)?;
        self.live.user_timeout_ms = ms;
        Ok(())
    }

    /// What IP headers have from the next segment on, and must have (`IP_TTL`, `IP_TOS`, `IP_MINTTL`).
    ///
    /// # Errors
    /// A time to live of 0; nothing is changed then.
    pub fn set_ip_fields(&mut self, ip: IpFields) -> Result<(), OutOfRange> {
        check_ip_fields(&ip)?;
        self.ip = ip;
        Ok(())
    }

    /// Goes by this interface from now on, or by whichever routes say (`SO_BINDTODEVICE`). Where there is no way, what is sent
    /// looks for one again.
    pub(crate) fn bind_to_interface(&mut self, net: &NetConfig, ifindex: Option<u16>) {
        self.ifindex = ifindex.unwrap_or(0);
        match route::output_by(net, self.tuple.remote, Some(self.tuple.local), ifindex) {
            Ok(route) => self.route = route,
            Err(_) => (self.route.bound, self.route.generation) = (ifindex.is_some(), u64::MAX),
        }
    }

    /// Bytes that may wait unsent before a writer has to wait; 0 is as `net.ipv4.tcp_notsent_lowat` says
    /// (`TCP_NOTSENT_LOWAT`).
    pub fn set_notsent_lowat(&mut self, bytes: u32, sysctl: &Sysctls) {
        self.tx.notsent_lowat = if bytes > 0 { bytes } else { sysctl.tcp_notsent_lowat };
    }

    /// Largest segment (`TCP_MAXSEG`). Of a connection that stands it bounds nothing any more, and no connection gives it on:
    /// it is for the handshake, where it bounds what is announced, and what the peer announces.
    ///
    /// # Errors
    /// It is neither 0 nor within 88 to 32,767 bytes.
    pub fn set_max_segment(&mut self, bytes: u16) -> Result<(), OutOfRange> {
        check_max_segment(bytes)?;
        self.tx.user_mss = bytes;
        Ok(())
    }

    /// Acknowledges at once from now on, or lets our data carry the acknowledgements (`TCP_QUICKACK`); neither lasts. True
    /// if an ACK is due now.
    pub fn set_quickack(&mut self, on: bool) -> bool {
        self.ack.pingpong = !on;
        if !on || !matches!(self.state, State::Established | State::CloseWait) || !self.ack.scheduled {
            return false;
        }
        self.ack.pushed = true;
        self.ack_due_after_read(1)
    }

    /// Whether acknowledgements go out at once.
    pub fn quickack(&self) -> bool {
        !self.ack.pingpong
    }

    /// Bytes that were written and not acknowledged, our FIN counted (`SIOCOUTQ`); none before the handshake has ended.
    pub fn outq(&self) -> u32 {
        if self.is_opening() { 0 } else { self.unacknowledged() }
    }

    /// Of those, what was not sent (`SIOCOUTQNSD`).
    pub fn outq_unsent(&self) -> u32 {
        if self.is_opening() { 0 } else { self.unsent() }
    }

    /// Bytes that a read would give, up to an urgent one (`SIOCINQ`); none before the handshake has ended.
    pub fn inq(&self) -> u32 {
        if self.is_opening() { 0 } else { self.readable_to_mark() }
    }

    fn is_opening(&self) -> bool {
        matches!(self.state, State::SynSent | State::SynRecv)
    }

    /// Bytes that wait to be read, and 1 for the end of the stream, so that the reader comes for that: until it has come
    /// the peer's FIN counts, and later the end itself (`TCP_INQ`, `tcp_inq_hint`).
    pub fn inq_hint(&self) -> u32 {
        (self.readable() + u32::from(self.rx.fin)).max(u32::from(self.user.done))
    }

    /// Nanoseconds that an orphan waits in FIN-WAIT-2; None if it is to be reset.
    pub(super) fn linger2(&self, sysctl: &Sysctls) -> Option<u64> {
        match self.user.linger2 {
            Linger2::Never => None,
            Linger2::Default | Linger2::Seconds(0) => Some(u64::from(sysctl.tcp_fin_timeout) * SECOND),
            Linger2::Seconds(seconds) => Some(u64::from(seconds.min(LINGER2_MAX)) * SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let fine = SockOptions { max_segment: Some(88), syn_retries: Some(127), ..SockOptions::default() };
        assert_eq!(fine.check(), Ok(()));
        let wrong = |options: SockOptions| options.check().map_err(|error| error.to_string());
        let keepalive = |idle_s, interval_s, probes| SockOptions {
            keepalive: Some(Keepalive { idle_s, interval_s, probes }),
            ..SockOptions::default()
        };
        let says = |text: &str| Err(text.to_owned());
        assert_eq!(
            wrong(SockOptions { max_segment: Some(87), ..fine }),
            says("TCP_MAXSEG 87 is not within 88 to 32767")
        );
        assert_eq!(wrong(SockOptions { syn_retries: Some(0), ..fine }), says("TCP_SYNCNT 0 is not within 1 to 127"));
        assert_eq!(wrong(keepalive(Some(0), None, None)), says("TCP_KEEPIDLE 0 is not within 1 to 32767"));
        assert_eq!(wrong(keepalive(None, Some(40_000), None)), says("TCP_KEEPINTVL 40000 is not within 1 to 32767"));
        assert_eq!(wrong(keepalive(None, None, Some(128))), says("TCP_KEEPCNT 128 is not within 1 to 127"));
        let patient = SockOptions { user_timeout_ms: 1 << 31, ..fine };
        assert_eq!(wrong(patient), says("TCP_USER_TIMEOUT 2147483648 is not within 0 to 2147483647"));
        assert_eq!(SockOptions { max_segment: Some(0), ..fine }.check(), Ok(()), "no limit");
    }

    #[test]
    fn a_buffer_that_was_set_bounds_the_window() {
        let options = SockOptions { recv_buffer: Some(10_000), ..SockOptions::default() };
        assert_eq!(options.clamp(10_000), Some(10_000));
        let clamped = SockOptions { window_clamp: Some(5_000), ..options };
        assert_eq!(clamped.clamp(10_000), Some(5_000));
        assert_eq!(SockOptions { window_clamp: Some(1), ..SockOptions::default() }.clamp(10_000), Some(1_152));
        assert_eq!(SockOptions::default().clamp(10_000), None);
        assert_eq!(SockOptions { window_clamp: Some(0), ..SockOptions::default() }.clamp(10_000), None);
        assert_eq!(SockOptions { max_segment: Some(0), ..SockOptions::default() }.mss_clamp(1_460), 1_460);
    }
}
