//! Random streams.

use std::collections::HashMap;

use proptest::prelude::*;

use super::frames::{Frame, Kind, checksum, steps, tcp_checksum};
use super::model::Model;
use super::{Bench, Delivered, Mode, Step};

proptest! {
    /// What merges, what flushes, in which order and with which headers.
    #[test]
    fn the_model_predicts_every_packet(steps in steps(12, |_| true)) {
        let bench = Bench::run(Mode::Receive, &steps);
        let model = Model::run(&steps);
        prop_assert_eq!(&bench.delivered, &model.delivered);
        bench.settle();
    }

    /// The fast path decides as the full one does, to the bit.
    #[test]
    fn a_streak_gives_what_receive_gives(steps in steps(4, |_| true)) {
        let receive = Bench::run(Mode::Receive, &steps);
        let streak = Bench::run(Mode::Streak, &steps);
        prop_assert_eq!(&receive.delivered, &streak.delivered);
        prop_assert_eq!(receive.cx.ledger.snapshot(), streak.cx.ledger.snapshot());
        receive.settle();
        streak.settle();
    }

    /// Merging and cutting again gives the stream that came in, flow by flow and byte for byte.
    #[test]
    fn to_merge_and_to_cut_is_identity(steps in steps(12, Kind::is_kept)) {
        let bench = Bench::run(Mode::Streak, &steps);
        let came: Vec<&Frame> = steps.iter().filter_map(Step::frame).collect();
        let mut expected: HashMap<(Vec<u8>, u32, u16), Vec<&Frame>> = HashMap::new();
        let mut strays: Vec<&[u8]> = Vec::new();
        for frame in &came {
            if frame.stray {
                strays.push(&frame.bytes);
            } else {
                expected.entry(flow_of(frame)).or_default().push(frame);
            }
        }
        expected.values_mut().for_each(|frames| frames.reverse());
        for packet in &bench.delivered {
            let head = came[packet.head];
            if head.stray {
                let known = strays.iter().position(|bytes| *bytes == packet.bytes);
                prop_assert!(known.is_some(), "a stray came out that did not come in");
                strays.swap_remove(known.unwrap_or_default());
                continue;
            }
            let frames = expected.get_mut(&flow_of(head)).map(|frames| {
                let rest = frames.len().saturating_sub(usize::from(packet.gso_segs.max(1)));
                frames.split_off(rest)
            });
            let mut came: Vec<Vec<u8>> = frames.iter().flatten().map(|frame| frame.bytes.clone()).collect();
            came.reverse();
            prop_assert!(cut(packet).contains(&came), "the packet of frame {} was not made of these", packet.head);
        }
        prop_assert!(expected.values().all(Vec::is_empty) && strays.is_empty(), "all came out");
        bench.settle();
    }
}

impl Step {
    fn frame(&self) -> Option<&Frame> {
        match self {
            Step::Frame { frame, .. } => Some(frame),
            Step::Wait(_) | Step::Flush(_) => None,
        }
    }
}

fn flow_of(frame: &Frame) -> (Vec<u8>, u32, u16) {
    let mut key = frame.bytes[..14].to_vec();
    key.extend(&frame.bytes[26..38]);
    (key, frame.hash, frame.ifindex)
}

/// Cuts a packet into its segments, as segmentation offload on the way out would: once with identifications that
/// count, once with the same in all.
fn cut(packet: &Delivered) -> [Vec<Vec<u8>>; 2] {
    if packet.gso_segs == 0 {
        return [vec![packet.bytes.clone()], Vec::new()];
    }
    [1, 0].map(|step| {
        let header_len = 34 + usize::from(packet.bytes[46] >> 4) * 4;
        let (headers, payload) = packet.bytes.split_at(header_len);
        let pieces: Vec<&[u8]> = payload.chunks(usize::from(packet.gso_size)).collect();
        let piece = |(i, piece): (usize, &&[u8])| {
            let is_last = i + 1 == pieces.len();
            segment(headers, piece, i * usize::from(packet.gso_size), i as u16 * step, is_last)
        };
        pieces.iter().enumerate().map(piece).collect()
    })
}

fn segment(headers: &[u8], payload: &[u8], offset: usize, id: u16, is_last: bool) -> Vec<u8> {
    let mut frame = headers.to_vec();
    frame.extend(payload);
    let total_len = frame.len() as u16 - 14;
    frame[16..18].copy_from_slice(&total_len.to_be_bytes());
    let id = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add(id);
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let seq = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]).wrapping_add(offset as u32);
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    if !is_last {
        // FIN and PSH belong to the last segment.
        frame[47] &= !9;
    }
    frame[50..52].fill(0);
    let sum = tcp_checksum(&frame[26..34], &frame[34..]);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}
