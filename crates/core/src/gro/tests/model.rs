//! The rules once more, as plainly as they can be said, over bytes in vectors.

use rxpath_mem::IpSummed;

use super::frames::{Frame, checksum, tcp_checksum};
use super::{Delivered, Step, charge};

/// Frames that became one packet.
struct Group {
    /// Their numbers and bytes.
    frames: Vec<(usize, Frame)>,
    /// When the first came.
    since: u64,
}

/// Receive offload that keeps everything and computes everything anew.
#[derive(Default)]
pub struct Model {
    buckets: [Vec<Group>; 8],
    pub delivered: Vec<Delivered>,
    now: u64,
    offered: usize,
}

impl Model {
    pub fn run(steps: &[Step]) -> Model {
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Frame { frame, more } => {
                    model.receive(frame, *more);
                    model.offered += 1;
                }
                Step::Wait(nanoseconds) => model.now += nanoseconds,
                Step::Flush(age) => model.flush(age.map(|age| model.now.saturating_sub(age))),
            }
        }
        model.flush(None);
        model
    }

    fn receive(&mut self, frame: &Frame, more: bool) {
        if frame.ifindex == 3 {
            self.flush(None);
            return self.pass(frame);
        }
        if !is_candidate(frame) {
            return self.pass(frame);
        }
        let alone = must_stay_alone(frame);
        let flags = flags(frame);
        let bucket = (frame.hash % 8) as usize;
        if let Some(position) = self.buckets[bucket].iter().position(|group| same_flow(&group.frames[0].1, frame)) {
            let group = &mut self.buckets[bucket][position];
            if !alone && group.accepts(frame) {
                group.frames.push((self.offered, frame.clone()));
                let mss = payload(&group.frames[0].1).len();
                // FIN, SYN, RST, PSH, URG.
                if payload(frame).len() < mss || flags & 0x2f != 0 {
                    self.complete(bucket, position);
                }
                return;
            }
            self.complete(bucket, position);
        }
        if alone || payload(frame).is_empty() || flags & 0x2f != 0 || !more {
            return self.pass(frame);
        }
        if self.buckets[bucket].len() == 8 {
            self.complete(bucket, 0);
        }
        self.buckets[bucket].push(Group { frames: vec![(self.offered, frame.clone())], since: self.now });
    }

    fn flush(&mut self, older_than: Option<u64>) {
        for bucket in 0..8 {
            while self.buckets[bucket].first().is_some_and(|group| older_than.is_none_or(|then| group.since < then)) {
                self.complete(bucket, 0);
            }
        }
    }

    /// The newest frame goes on as it came.
    fn pass(&mut self, frame: &Frame) {
        let group = Group { frames: vec![(self.offered, frame.clone())], since: 0 };
        self.delivered.push(group.packet());
    }

    fn complete(&mut self, bucket: usize, position: usize) {
        let group = self.buckets[bucket].remove(position);
        self.delivered.push(group.packet());
    }
}

impl Group {
    fn accepts(&self, frame: &Frame) -> bool {
        let (head, new) = (&self.frames[0].1.bytes, &frame.bytes);
        let same = |field: std::ops::Range<usize>| head.get(field.clone()) == new.get(field);
        let merged: usize = self.frames.iter().map(|(_, frame)| payload(frame).len()).sum();
        let mut ids: Vec<u16> = self.frames.iter().map(|(_, frame)| field16(frame, 18)).collect();
        ids.push(field16(frame, 18));
        let all_equal = ids.iter().all(|id| *id == ids[0]);
        let all_counting = ids.iter().enumerate().all(|(i, id)| *id == ids[0].wrapping_add(i as u16));
        let mss = payload(&self.frames[0].1).len();

        same(22..23)                                         // time to live
            && same(15..16)                                  // type of service
            && same(20..22)                                  // don't fragment
            && (all_equal || all_counting)
            && same(42..46)                                  // acknowledgement
            && same(46..47)                                  // data offset
            && head[47] | 9 == new[47] | 9                   // flags but FIN and PSH
            && same(48..50)                                  // window
            && same(54..header_len(frame))                   // options
            && field32(frame, 38) == field32(&self.frames[0].1, 38).wrapping_add(merged as u32)
            && !payload(frame).is_empty()
            && payload(frame).len() <= mss
            && header_len(frame) - 14 + merged + payload(frame).len() < 65_536
    }

    fn packet(&self) -> Delivered {
        let (head, first) = &self.frames[0];
        let was_verified = first.csum == IpSummed::Unnecessary;
        let is_verified = was_verified || (first.csum == IpSummed::None && first.ifindex != 3 && is_verifiable(first));
        let mut delivered = Delivered {
            head: *head,
            bytes: first.bytes.clone(),
            gso_size: first.gso_size,
            gso_segs: 0,
            verified: is_verified,
            truesize: self.frames.iter().map(|(_, frame)| charge(frame)).sum(),
        };
        if self.frames.len() == 1 {
            return delivered;
        }
        let bytes = &mut delivered.bytes;
        for (_, frame) in &self.frames[1..] {
            bytes.extend(payload(frame));
            bytes[47] |= flags(frame) & 9;
        }
        let total_len = bytes.len() - 14;
        bytes[16..18].copy_from_slice(&(total_len as u16).to_be_bytes());
        bytes[24..26].fill(0);
        let sum = checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        let mut pseudo_header = bytes[26..34].to_vec();
        pseudo_header.extend([0, 6]);
        pseudo_header.extend((total_len as u16 - 20).to_be_bytes());
        bytes[50..52].copy_from_slice(&(!checksum(&pseudo_header)).to_be_bytes());
        delivered.gso_size = payload(first).len() as u16;
        delivered.gso_segs = self.frames.len() as u16;
        delivered.verified = true;
        delivered
    }
}

/// A TCP segment over IPv4 that is whole, without IP options, and whose checksums are right as far as they are looked at.
fn is_candidate(frame: &Frame) -> bool {
    let bytes = &frame.bytes;
    field16(frame, 12) == 0x0800
        && bytes.len() >= 54
        && bytes[14] == 0x45
        && bytes[23] == 6
        && field16(frame, 20) & 0x3fff == 0
        && checksum(&bytes[14..34]) == 0
        && bytes[46] >> 4 >= 5
        && bytes.len() >= header_len(frame)
        && (must_stay_alone(frame) || frame.csum != IpSummed::None || tcp_checksum(&bytes[26..34], &bytes[34..]) == 0)
}

/// Verified on the way through: a candidate whose checksum is looked at.
fn is_verifiable(frame: &Frame) -> bool {
    is_candidate(frame) && !must_stay_alone(frame)
}

/// Trailing bytes, the reserved bit, a super-frame.
fn must_stay_alone(frame: &Frame) -> bool {
    usize::from(field16(frame, 16)) != frame.bytes.len() - 14 || frame.bytes[20] & 0x80 != 0 || frame.gso_size != 0
}

fn same_flow(one: &Frame, other: &Frame) -> bool {
    one.hash == other.hash
        && one.ifindex == other.ifindex
        && one.bytes[..14] == other.bytes[..14]
        && one.bytes[26..38] == other.bytes[26..38]
}

fn header_len(frame: &Frame) -> usize {
    34 + usize::from(frame.bytes[46] >> 4) * 4
}

fn payload(frame: &Frame) -> &[u8] {
    &frame.bytes[header_len(frame)..]
}

fn flags(frame: &Frame) -> u8 {
    frame.bytes[47]
}

fn field16(frame: &Frame, at: usize) -> u16 {
    u16::from_be_bytes([frame.bytes[at], frame.bytes[at + 1]])
}

fn field32(frame: &Frame, at: usize) -> u32 {
    u32::from(field16(frame, at)) << 16 | u32::from(field16(frame, at + 2))
}
