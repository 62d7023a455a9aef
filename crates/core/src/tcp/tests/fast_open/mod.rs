//! Fast Open: data in SYNs, from both sides. What is expected here was seen of the kernel.

mod active;
mod passive;

use rxpath_trace::Counter;
use rxpath_wire::tcp::FastOpen;
use rxpath_wire::{Addr, TcpOptions, TcpOptionsWriter, TcpRepr, tcp as wire_tcp};

use super::lab::{Lab, PEER, US};

/// A lab with `net.ipv4.tcp_fastopen` and the key of [`COOKIE`].
fn lab(flags: u32) -> Lab {
    Lab::with(|config| {
        config.sysctl.tcp_fastopen = flags;
        config.sysctl.set("net.ipv4.tcp_fastopen_key", KEY).expect("a key");
    })
}

const KEY: &str = "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d5";

/// A cookie of eight bytes.
fn with(cookie: [u8; 8]) -> FastOpen {
    FastOpen::with_cookie(&cookie, false).expect("eight bytes")
}

/// The request for a cookie.
const REQUEST: FastOpen = FastOpen::request(false);

/// A segment of the peer's with options of a SYN and, behind them, Fast Open's.
fn segment(lab: &mut Lab, repr: TcpRepr, option: Option<FastOpen>, payload: &[u8]) {
    let mut options = TcpOptionsWriter::all(&TcpOptions { mss: Some(1_460), ..repr.options });
    if let Some(option) = option {
        options.fast_open(&option);
    }
    raw_segment(lab, repr, options.as_bytes(), payload);
}

/// A segment of the peer's with these option bytes.
fn raw_segment(lab: &mut Lab, repr: TcpRepr, options: &[u8], payload: &[u8]) {
    let plain = lab.frame(TcpRepr { options: TcpOptions::default(), ..repr }, &[]);
    let mut segment = vec![0; 60];
    let len = wire_tcp::emit_raw(&mut segment, repr, options);
    segment.truncate(len);
    segment.extend_from_slice(payload);
    wire_tcp::fill_checksum(Addr::from(PEER), Addr::from(US), &mut segment);
    let mut frame = [&plain[..34], &segment].concat();
    frame[16..18].copy_from_slice(&(20 + segment.len() as u16).to_be_bytes());
    rxpath_wire::ipv4::fill_checksum(&mut frame[14..34]);
    lab.put(&frame);
    lab.run();
}

/// The next segment that the stack sent, with its Fast Open option.
fn sent(lab: &mut Lab) -> (super::lab::Sent, Option<FastOpen>) {
    let (sent, frame) = lab.sent_as_frame().expect("something was sent");
    let header_len = usize::from(frame[34 + 12] >> 4) * 4;
    let option = FastOpen::parse(&frame[34 + 20..34 + header_len]);
    (sent, option)
}

/// What these counters are, by the last part of their names.
fn counts<const N: usize>(lab: &Lab, counters: [Counter; N]) -> [u64; N] {
    counters.map(|counter| lab.count(counter))
}
