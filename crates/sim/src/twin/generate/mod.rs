//! Cases from seeds, by kind: mostly what a host hears every day, with now and then something wrong in one place.
//!
//! | file | cases |
//! |---|---|
//! | `tcp` | one connection to a server, and stray segments |
//! | `ecn` | the same with explicit congestion notification |
//! | `life` | how connections begin and end, and what meets them in which state |
//! | `eth` | EtherTypes, packet types, lengths, padding, 802.3 |
//! | `arp` | ARP packets of every form, and echo requests whose replies show what was learnt |
//! | `ip` | headers, addresses and padding that `ip_rcv` and routing judge |
//! | `options` | IP options, sound and not, sent so that they come back |
//! | `frag` | datagrams in pieces, in any order, overlapping, cut short, too many |
//! | `icmp` | messages of every type, and what draws errors |
//! | `forward` | packets for others, between two links |
//! | `udp` | datagrams to sockets of every kind, errors about what they sent, and the calls of their applications |
//!
//! `packets` builds IP packets with every field at hand.

mod arp;
mod ecn;
mod eth;
mod forward;
mod frag;
mod icmp;
mod ip;
mod life;
mod options;
pub(super) mod packets;
mod tcp;
mod udp;

pub use self::arp::arp;
pub use self::ecn::tcp_ecn;
pub use self::eth::eth;
pub use self::forward::forward;
pub use self::frag::frag;
pub use self::icmp::icmp;
pub use self::ip::ip;
pub use self::life::{tcp_close, tcp_cookies, tcp_flags, tcp_listen, tcp_open, tcp_reset, tcp_timewait};
pub use self::life::{tcp_data, tcp_memory, tcp_sack, tcp_urgent, tcp_window};
pub use self::options::options;
pub use self::tcp::tcp_basic;
pub use self::udp::udp;

use rxpath_core::cx::Rng;

use super::case::{Action, Call, Case, Host, Step};
use super::datagram::UdpCall;

/// A script of frames that is being written.
struct Script {
    rng: Rng,
    host: Host,
    steps: Vec<Step>,
    /// Microseconds that pass before the next step.
    wait_us: u32,
}

impl Script {
    /// The seed and the name of the kind decide everything that follows.
    fn new(kind: &str, seed: u64, host: Host) -> Script {
        let salt = kind.bytes().fold(0u64, |salt, byte| salt.wrapping_mul(31) ^ u64::from(byte));
        let rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ salt);
        Script { rng, host, steps: Vec::new(), wait_us: 0 }
    }

    /// One of some.
    fn pick<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[self.rng.below(N as u32) as usize]
    }

    /// True so many times out of a hundred.
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.below(100) < percent
    }

    /// Random bytes, or so.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let from = self.rng.below(256) as u8;
        (0..len).map(|index| from.wrapping_add((index as u8).wrapping_mul(7))).collect()
    }

    /// Lets time pass before the next frame.
    fn wait_us(&mut self, wait_us: u32) {
        self.wait_us += wait_us;
    }

    /// Somebody sends a frame on a link.
    fn send(&mut self, link: u8, frame: Vec<u8>) {
        let wait_us = std::mem::take(&mut self.wait_us);
        self.steps.push(Step { wait_us, action: Action::Frame { link, frame } });
    }

    /// The application calls on one of its datagram sockets.
    fn call(&mut self, socket: u8, call: UdpCall) {
        let wait_us = std::mem::take(&mut self.wait_us);
        self.steps.push(Step { wait_us, action: Action::Call(Call::Datagram(socket, call)) });
    }

    /// Sets a tunable of the host's.
    fn set(&mut self, name: &str, value: u32) {
        self.host.sysctls.push((name.to_owned(), value.to_string()));
    }

    fn case(self, seed: u64, quiet_us: u32) -> Case {
        Case { seed, host: self.host, steps: self.steps, quiet_us, watched: false }
    }
}
