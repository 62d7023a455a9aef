//! The connections of `tcp`, capable of ECN: SYNs that ask for it in every way, marks on whatever the client sends, echoes
//! and cuts that it tells of, at moments that make sense and at others.

use rxpath_core::cx::Rng;
use rxpath_wire::TcpFlags;

use super::super::case::{Action, CLIENT_PORT, Case, Segment};
use super::tcp::tcp_basic;

const SYN: u8 = TcpFlags::SYN.0;
const ECE: u8 = TcpFlags::ECE.0;
const CWR: u8 = TcpFlags::CWR.0;

/// The case of a seed.
pub fn tcp_ecn(seed: u64) -> Case {
    let mut rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x0065_636e);
    let mut case = tcp_basic(seed ^ 0x0065_636e << 32);
    case.seed = seed;
    let mode = [2, 2, 2, 1, 0][rng.below(5) as usize];
    case.host.sysctls.push(("net.ipv4.tcp_ecn".to_owned(), mode.to_string()));
    let asks = [ECE | CWR, ECE | CWR, ECE | CWR, ECE | CWR, ECE, CWR, 0][rng.below(7) as usize];
    let marked_syn = if rng.below(12) == 0 { 1 + rng.below(3) as u8 } else { 0 };
    // Some networks are congested, in some only now and then a packet is marked.
    let congested = [2, 10, 50][rng.below(3) as usize];
    for step in &mut case.steps {
        let Action::Send(segment) = &mut step.action else { continue };
        if segment.sport != CLIENT_PORT || segment.flags & SYN != 0 {
            segment.flags |= asks;
            segment.tos = marked_syn;
        } else {
            mark(segment, &mut rng, congested);
        }
    }
    case
}

fn mark(segment: &mut Segment, rng: &mut Rng, congested: u32) {
    let capable = segment.len > 0 && rng.below(20) > 0;
    segment.tos = match (capable, rng.below(100)) {
        (true, chance) if chance < congested => 3,
        (true, 99) => 1,
        (true, _) => 2,
        (false, 0..3) => 3,
        (false, 3..6) => 2,
        (false, _) => 0,
    };
    if rng.below(12) == 0 {
        segment.flags |= CWR;
    }
    if rng.below(15) == 0 {
        segment.flags |= ECE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_connections_are_capable_and_marks_are_among_them() {
        assert_eq!(tcp_ecn(7), tcp_ecn(7));
        let (mut asking, mut marks, mut told) = (0, 0, 0);
        for seed in 0..200 {
            let case = tcp_ecn(seed);
            let segments = case.steps.iter().filter_map(|step| match &step.action {
                Action::Send(segment) => Some(segment),
                _ => None,
            });
            for segment in segments {
                asking += u32::from(segment.flags & (SYN | ECE | CWR) == SYN | ECE | CWR);
                marks += u32::from(segment.tos == 3 && segment.len > 0);
                told += u32::from(segment.flags & (SYN | CWR) == CWR);
            }
        }
        assert!(asking > 100 && marks > 200 && told > 100, "{asking} {marks} {told}");
    }
}
