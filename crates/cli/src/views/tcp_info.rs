//! What a TCP connection tells of itself (`TCP_INFO`), in the words of ss of iproute2: `ss -i` and `ss -o`.

use std::fmt::Write as _;

use rxpath_core::tcp::{BbrInfo, TcpInfo};
use rxpath_trace::proc::TcpTimer;
use serde::{Deserialize, Serialize};

/// The texts of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoRow {
    /// What was agreed in the handshake; shown with `-o` or `-e`.
    pub options: String,
    /// All else.
    pub info: String,
    /// The timer that runs: `timer:(on,204ms,0)`; empty if none does.
    pub timer: String,
}

impl InfoRow {
    /// The texts for a connection whose timer of this kind has so many milliseconds left.
    pub fn of(info: &TcpInfo, timer: TcpTimer, left_ms: u64) -> InfoRow {
        InfoRow { options: options(info), info: text(info), timer: timer_text(timer, left_ms, info) }
    }
}

fn options(info: &TcpInfo) -> String {
    let agreed = [
        (info.timestamps, "ts"),
        (info.sack, "sack"),
        (info.ecn, "ecn"),
        (info.ecn_seen, "ecnseen"),
        (info.syn_data, "fastopen"),
    ];
    agreed.iter().filter(|(yes, _)| *yes).map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

/// A number as C's `%g` has it: six digits at most, none of them in vain.
fn g(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = format!("{value:.5e}").split_once('e').and_then(|(_, e)| e.parse::<i32>().ok()).unwrap_or(0);
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    if !(-4..6).contains(&exponent) {
        let text = format!("{value:.5e}");
        let digits = trimmed(text.split('e').next().unwrap_or_default().to_owned());
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    trimmed(format!("{value:.*}", (5 - exponent).max(0) as usize))
}

/// Microseconds as milliseconds.
fn ms(us: u32) -> String {
    g(f64::from(us) / 1_000.0)
}

/// Words in the order of ss; a word whose number is 0 is left out.
struct Words(String);

impl Words {
    fn word(&mut self, text: impl AsRef<str>) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(text.as_ref());
    }

    fn number(&mut self, name: &str, value: u64) {
        if value > 0 {
            self.word(format!("{name}:{value}"));
        }
    }

    fn millis(&mut self, name: &str, us: u32) {
        if us > 0 {
            self.word(format!("{name}:{}", ms(us)));
        }
    }

    fn rate(&mut self, name: &str, bytes: u64) {
        if bytes > 0 {
            self.word(format!("{name} {}bps", bytes.saturating_mul(8)));
        }
    }
}

fn text(info: &TcpInfo) -> String {
    let mut words = Words(String::new());
    words.word(info.congestion);
    if let Some((snd, rcv)) = info.wscale {
        words.word(format!("wscale:{snd},{rcv}"));
    }
    words.millis("rto", info.rto);
    words.number("backoff", u64::from(info.backoff));
    if info.rtt > 0 {
        words.word(format!("rtt:{}/{}", ms(info.rtt), ms(info.rttvar)));
    }
    words.millis("ato", info.ato);
    for (name, value) in [
        ("mss", u64::from(info.snd_mss)),
        ("pmtu", u64::from(info.pmtu)),
        ("rcvmss", u64::from(info.rcv_mss)),
        ("advmss", u64::from(info.advmss)),
        ("cwnd", u64::from(info.snd_cwnd)),
        // Before the first loss there is none.
        ("ssthresh", u64::from(if info.snd_ssthresh < 0xffff { info.snd_ssthresh } else { 0 })),
        ("bytes_sent", info.bytes_sent),
        ("bytes_retrans", info.bytes_retrans),
        ("bytes_acked", info.bytes_acked),
        ("bytes_received", info.bytes_received),
        ("segs_out", u64::from(info.segs_out)),
        ("segs_in", u64::from(info.segs_in)),
        ("data_segs_out", u64::from(info.data_segs_out)),
        ("data_segs_in", u64::from(info.data_segs_in)),
    ] {
        words.number(name, value);
    }
    if let Some(bbr) = &info.bbr {
        words.word(bbr_text(bbr));
    }
    if info.rtt > 0 {
        let bits = f64::from(info.snd_mss) * 8.0 * f64::from(info.snd_cwnd);
        words.word(format!("send {:.0}bps", bits * 1e6 / f64::from(info.rtt)));
    }
    for (name, value) in
        [("lastsnd", info.last_data_sent), ("lastrcv", info.last_data_recv), ("lastack", info.last_ack_recv)]
    {
        words.number(name, u64::from(value));
    }
    delivery(&mut words, info);
    queues(&mut words, info);
    words.0
}

fn bbr_text(bbr: &BbrInfo) -> String {
    let mut text = format!("bbr:(bw:{}bps,mrtt:{}", bbr.bandwidth.saturating_mul(8), ms(bbr.min_rtt));
    for (name, gain) in [("pacing_gain", bbr.pacing_gain), ("cwnd_gain", bbr.cwnd_gain)] {
        if gain > 0 {
            let _ = write!(text, ",{name}:{}", g(f64::from(gain) / 256.0));
        }
    }
    text + ")"
}

/// How fast, and what the time was spent on.
fn delivery(words: &mut Words, info: &TcpInfo) {
    if info.pacing_rate != u64::MAX {
        words.rate("pacing_rate", info.pacing_rate);
        if info.max_pacing_rate != u64::MAX {
            let _ = write!(words.0, "/{}bps", info.max_pacing_rate.saturating_mul(8));
        }
    }
    words.rate("delivery_rate", info.delivery_rate);
    words.number("delivered", u64::from(info.delivered));
    words.number("delivered_ce", u64::from(info.delivered_ce));
    if info.app_limited {
        words.word("app_limited");
    }
    if info.busy_us > 0 {
        let busy = info.busy_us as f64;
        words.word(format!("busy:{}ms", info.busy_us / 1_000));
        for (name, us) in [("rwnd_limited", info.rwnd_limited_us), ("sndbuf_limited", info.sndbuf_limited_us)] {
            if us > 0 {
                words.word(format!("{name}:{}ms({:.1}%)", us / 1_000, 100.0 * us as f64 / busy));
            }
        }
    }
}

/// What is under way, in both directions.
fn queues(words: &mut Words, info: &TcpInfo) {
    words.number("unacked", u64::from(info.unacked));
    if info.retrans > 0 || info.total_retrans > 0 {
        words.word(format!("retrans:{}/{}", info.retrans, info.total_retrans));
    }
    words.number("lost", u64::from(info.lost));
    words.number("sacked", u64::from(info.sacked));
    words.number("dsack_dups", u64::from(info.dsack_dups));
    if info.reordering != 3 {
        words.number("reordering", u64::from(info.reordering));
    }
    words.number("reord_seen", u64::from(info.reord_seen));
    words.millis("rcv_rtt", info.rcv_rtt);
    words.number("rcv_space", u64::from(info.rcv_space));
    words.number("rcv_ssthresh", u64::from(info.rcv_ssthresh));
    words.number("notsent", u64::from(info.notsent_bytes));
    if info.min_rtt != u32::MAX {
        words.millis("minrtt", info.min_rtt);
    }
    words.number("rcv_ooopack", u64::from(info.rcv_ooopack));
    words.number("snd_wnd", u64::from(info.snd_wnd));
}

fn timer_text(timer: TcpTimer, left_ms: u64, info: &TcpInfo) -> String {
    let (name, count) = match timer {
        TcpTimer::Off => return String::new(),
        TcpTimer::Retransmit => ("on", info.retransmits),
        TcpTimer::KeepAlive => ("keepalive", info.probes),
        TcpTimer::TimeWait => ("timewait", 0),
        TcpTimer::Probe => ("persist", info.probes),
    };
    format!("timer:({name},{},{count})", span(left_ms))
}

/// A time as ss prints it: the two largest units, of minutes and seconds only the larger where it has two digits.
fn span(left_ms: u64) -> String {
    let (minutes, mut secs, mut millis) = (left_ms / 60_000, left_ms / 1_000 % 60, left_ms % 1_000);
    let mut text = String::new();
    if minutes > 0 {
        millis = 0;
        secs = if minutes > 9 { 0 } else { secs };
        let _ = write!(text, "{minutes}min");
    }
    if secs > 0 {
        millis = if secs > 9 { 0 } else { millis };
        let _ = write!(text, "{secs}{}", if millis > 0 { "." } else { "sec" });
    }
    if millis > 0 || text.is_empty() {
        let _ = write!(text, "{millis:03}ms");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_c() {
        for (value, text) in [
            (0.025, "0.025"),
            (4.789, "4.789"),
            (204.0, "204"),
            (0.01, "0.01"),
            (30.302, "30.302"),
            (123_456.789, "123457"),
            (1_234_567.0, "1.23457e+06"),
            (0.000_012, "1.2e-05"),
            (2.886_718_75, "2.88672"),
        ] {
            assert_eq!(g(value), text);
        }
    }

    #[test]
    fn times_are_written_as_ss_does() {
        for (left, text) in [
            (0, "000ms"),
            (40, "040ms"),
            (160, "160ms"),
            (1_234, "1.234ms"),
            (2_000, "2sec"),
            (12_345, "12sec"),
            (65_000, "1min5sec"),
            (7_140_000, "119min"),
        ] {
            assert_eq!(span(left), text);
        }
    }
}
