//! Programs through the front door: frames in by the ring, verdicts seen in lives, counters, ledger and on the wire.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rxpath_mem::Skb;
use rxpath_trace::{Counter, DropReason, EventKind, Selector};
use rxpath_wire::{EthernetHeader, TcpFlags};

use super::{Action, Door, Frame, Program, Target};
use crate::cx::Cx;
use crate::demux::stats::DevStat;
use crate::netfilter::{Hook, HookPoint, HookState, Priority, Verdict};
use crate::nic::owner_cpu;
use crate::tcp::tests::lab::{ACK, Lab, OUR_MAC, PEER, PEER_MAC, PSH_ACK, Peer, US};

const DOORS: [Door; 2] = [Door::Native, Door::Generic];

fn attach(lab: &Lab, door: Door, run: impl Fn(&mut Frame<'_>) -> Action + Send + Sync + 'static) {
    let program = Program::new("under test", run);
    lab.stack.reconfigure(|net| {
        let mut net = net.clone();
        assert!(net.attach_xdp(1, door, Some(program)));
        net
    });
}

fn stat(lab: &Lab, stat: DevStat) -> u64 {
    lab.stack.interfaces()[0].stats[stat]
}

/// A frame that, if it gets that far, ends as NO_SOCKET without an answer.
fn stray(lab: &mut Lab) -> Vec<u8> {
    let peer = Peer::new(40_000, 9);
    lab.frame(peer.repr(TcpFlags::RST), &[])
}

#[test]
fn each_action_has_its_end_and_its_counter() {
    for door in DOORS {
        for (action, reason, counter) in [
            (Action::Pass, DropReason::NoSocket, DevStat::XdpPass),
            (Action::Drop, DropReason::Xdp, DevStat::XdpDrop),
            (Action::Aborted, DropReason::Xdp, DevStat::XdpAborted),
            (Action::Redirect(Target::Device(9)), DropReason::Xdp, DevStat::XdpAborted),
            (Action::Redirect(Target::Cpu(1)), DropReason::Xdp, DevStat::XdpAborted),
            (Action::Redirect(Target::Cpu(0)), DropReason::NoSocket, DevStat::XdpRedirect),
        ] {
            let mut lab = Lab::with(|config| config.lives = Selector::All);
            attach(&lab, door, move |_| action);
            let frame = stray(&mut lab);
            lab.put(&frame);
            lab.run();
            assert_eq!((lab.dropped(reason), stat(&lab, counter)), (1, 1), "{door:?} {action:?}");
            let events = lab.stack.take_events();
            let told = events.iter().find(|event| event.kind == EventKind::Xdp).expect("it is in the life");
            assert_eq!((told.a, told.b), (action.number(), door as u32));
        }
    }
}

#[test]
fn a_frame_that_is_sent_back_leaves_as_the_program_left_it() {
    for door in DOORS {
        let mut lab = Lab::new();
        attach(&lab, door, |frame| {
            let data = frame.data_mut();
            let (dst, src) = data[..12].split_at_mut(6);
            dst.swap_with_slice(src);
            Action::Tx
        });
        let frame = stray(&mut lab);
        lab.put(&frame);
        lab.run();
        let sent = lab.raw().expect("the frame");
        assert_eq!((&sent[..6], &sent[6..12], &sent[12..]), (&PEER_MAC.0[..], &OUR_MAC.0[..], &frame[12..]));
        assert_eq!(
            (stat(&lab, DevStat::XdpTx), lab.stack.ledger().transmitted()),
            (1, 2),
            "and the ARP reply before it"
        );
        assert_eq!(lab.count(Counter::IpInReceives), 0);
    }
}

/// What a program moves is what the stack sees: a tunnel's outer header comes off, trailing bytes come off.
#[test]
fn both_ends_of_a_frame_can_be_moved() {
    for door in DOORS {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        attach(&lab, door, |frame| {
            if frame.data()[12..14] != [0x88, 0xb5] {
                return Action::Pass;
            }
            assert!(frame.adjust_head(14) && frame.adjust_tail(-4));
            Action::Pass
        });
        let mut peer = Peer::new(40_000, 80);
        let sock = peer.connect(&mut lab, &listener);
        let inner = lab.frame(peer.repr(PSH_ACK), b"through the tunnel");
        let mut outer = inner[..12].to_vec();
        outer.extend([0x88, 0xb5]);
        outer.extend(&inner);
        outer.extend([0xee; 4]);
        lab.put(&outer);
        lab.run();
        assert_eq!(lab.recv(&sock, 100).expect("the bytes"), b"through the tunnel", "{door:?}");
    }
}

#[test]
fn ends_move_only_as_far_as_there_is_room() {
    let mut lab = Lab::new();
    attach(&lab, Door::Native, |frame| {
        let len = frame.len();
        assert!(
            !frame.adjust_head(-4_096) && !frame.adjust_head(len as isize - 13) && !frame.adjust_tail(-(len as isize))
        );
        assert!(!frame.adjust_tail(4_096));
        assert!(frame.adjust_head(-20) && frame.adjust_tail(30));
        assert_eq!((frame.len(), &frame.data()[len + 20..]), (len + 50, &[0; 30][..]));
        assert!(frame.adjust_head(20) && frame.adjust_tail(-30));
        assert_eq!((frame.len(), frame.ifindex(), frame.is_empty()), (len, 1, false));
        Action::Pass
    });
    let frame = stray(&mut lab);
    lab.put(&frame);
    lab.run();
    assert_eq!(lab.dropped(DropReason::NoSocket), 1);
}

/// The native door sees every frame, the generic one what receive offload made of them.
#[test]
fn the_doors_stand_on_both_sides_of_receive_offload() {
    for (door, seen) in [(Door::Native, 10), (Door::Generic, 1)] {
        let mut lab = Lab::new();
        let listener = lab.listen(80, 8);
        let mut peer = Peer::new(40_000, 80);
        let sock = peer.connect(&mut lab, &listener);
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        attach(&lab, door, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Action::Pass
        });
        for _ in 0..10 {
            let frame = lab.frame(peer.repr(ACK), &[7; 100]);
            peer.seq += 100;
            lab.put(&frame);
        }
        lab.run();
        assert_eq!(lab.recv(&sock, 2_000).expect("the bytes"), [7; 1_000]);
        assert_eq!(calls.load(Ordering::Relaxed), seen, "{door:?}");
    }
}

#[test]
fn what_a_program_notes_is_seen_behind_it_and_keeps_packets_apart() {
    let mut lab = Lab::new();
    let listener = lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut lab, &listener);
    // A new note for every fifth frame.
    let calls = AtomicUsize::new(0);
    attach(&lab, Door::Native, move |frame| {
        frame.set_metadata(0x1_0000_0001 + calls.fetch_add(1, Ordering::Relaxed) as u64 / 5);
        Action::Pass
    });
    let (seen, noted) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (of_program, of_hook) = (Arc::clone(&seen), Arc::clone(&noted));
    attach(&lab, Door::Generic, move |frame| {
        of_program.lock().expect("no panic").push((frame.metadata(), frame.len()));
        frame.set_metadata(frame.metadata() + 0x10);
        Action::Pass
    });
    lab.stack.reconfigure(|net| {
        let mut net = net.clone();
        net.hooks.register(HookPoint::PreRouting, Priority::RAW, Arc::new(Reader(Arc::clone(&of_hook))));
        net
    });
    for _ in 0..10 {
        let frame = lab.frame(peer.repr(ACK), &[7; 100]);
        peer.seq += 100;
        lab.put(&frame);
    }
    lab.run();
    assert_eq!(lab.recv(&sock, 2_000).expect("the bytes"), [7; 1_000]);
    assert_eq!(*seen.lock().expect("no panic"), [(0x1_0000_0001, 54 + 500), (0x1_0000_0002, 54 + 500)]);
    assert_eq!(*noted.lock().expect("no panic"), [0x1_0000_0011, 0x1_0000_0012]);
}

/// A hook that reads what programs noted.
struct Reader(Arc<Mutex<Vec<u64>>>);

impl Hook for Reader {
    fn name(&self) -> &str {
        "reader"
    }

    fn decide(&self, _: &mut Cx, _: &HookState, skb: Skb) -> Verdict {
        self.0.lock().expect("no panic").push(skb.metadata());
        Verdict::Accept(skb)
    }
}

#[test]
fn a_connection_redirected_to_another_cpu_finds_its_owner() {
    for door in DOORS {
        for target in 0..3 {
            let mut lab = Lab::with(|config| config.cpus = 3);
            let listener = lab.listen(80, 8);
            attach(&lab, door, move |_| Action::Redirect(Target::Cpu(target)));
            for port in 40_000..40_008 {
                let mut peer = Peer::new(port, 80);
                let sock = peer.connect(&mut lab, &listener);
                peer.data(&mut lab, b"whoever owns it");
                assert_eq!(lab.recv(&sock, 100).expect("the bytes"), b"whoever owns it");
                assert_eq!(sock.cpu, owner_cpu(sock.hash, 3));
                while lab.sent().is_some() {}
            }
        }
    }
}

#[test]
fn a_frame_can_leave_by_another_interface() {
    let mut lab = Lab::with_two_interfaces();
    attach(&lab, Door::Native, |_| Action::Redirect(Target::Device(2)));
    let frame = stray(&mut lab);
    lab.put(&frame);
    lab.run();
    assert_eq!(lab.raw_of_second().as_deref(), Some(&frame[..]));
    assert_eq!(stat(&lab, DevStat::XdpRedirect), 1);
}

/// Drops what comes from some networks, as a filter in front of the stack does.
#[test]
fn example_drop_by_a_list_of_prefixes() {
    let refused = [(Ipv4Addr::new(10, 0, 0, 128), 25), (Ipv4Addr::new(198, 51, 100, 0), 24)];
    let list = refused.map(|(net, len)| (u32::from(net), u32::MAX << (32 - len)));
    let mut lab = Lab::new();
    attach(&lab, Door::Native, move |frame| {
        let Some(source) = frame.data().get(26..30).filter(|_| frame.data()[12..14] == [8, 0]) else {
            return Action::Pass;
        };
        let source = u32::from_be_bytes([source[0], source[1], source[2], source[3]]);
        if list.iter().any(|(net, mask)| source & mask == *net) { Action::Drop } else { Action::Pass }
    });
    let frame = stray(&mut lab);
    for (source, reason) in [(PEER, DropReason::NoSocket), (Ipv4Addr::new(10, 0, 0, 200), DropReason::Xdp)] {
        let mut from = frame.clone();
        rewrite(&mut from, 26, source.octets());
        lab.put(&from);
        lab.run();
        assert_eq!(lab.dropped(reason), 1, "{source}");
    }
}

/// Sends each connection to one of two servers by its ports, back out of the interface: a load balancer of layer 4.
#[test]
fn example_balance_load_by_sending_back() {
    let servers = [Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(10, 0, 0, 12)];
    let mut lab = Lab::new();
    attach(&lab, Door::Native, move |frame| {
        let data = frame.data_mut();
        if data.len() < 54 || data[12..14] != [8, 0] || data[30..34] != US.octets() {
            return Action::Pass;
        }
        let server = servers[usize::from(data[35] ^ data[34]) % servers.len()];
        rewrite(data, 30, server.octets());
        data.copy_within(6..12, 0);
        data[6..12].copy_from_slice(&OUR_MAC.0);
        Action::Tx
    });
    for port in 40_000..40_010u16 {
        let peer = Peer::new(port, 80);
        let frame = lab.frame(peer.repr(ACK), b"GET /");
        lab.put(&frame);
        lab.run();
        let sent = lab.raw().expect("balanced");
        let [high, low] = port.to_be_bytes();
        assert_eq!(sent[30..34], servers[usize::from(high ^ low) % 2].octets());
        assert!(rxpath_wire::ipv4::verify(&sent[14..34]), "the header's checksum is right");
        let sum = rxpath_wire::pseudo_sum(PEER.into(), servers[usize::from(high ^ low) % 2].into(), 6, sent.len() - 34);
        assert!(rxpath_arch::csum::is_all_ones(&sent[34..], u64::from(sum.swap_bytes())), "and the segment's");
    }
    assert_eq!(stat(&lab, DevStat::XdpTx), 10);
}

/// Writes an address into the IPv4 header and keeps both checksums right (RFC 1624).
fn rewrite(frame: &mut [u8], at: usize, address: [u8; 4]) {
    for half in [0, 2] {
        let place = at + half;
        let old = u16::from_be_bytes([frame[place], frame[place + 1]]);
        let new = u16::from_be_bytes([address[half], address[half + 1]]);
        frame[place..place + 2].copy_from_slice(&new.to_be_bytes());
        for checksum in [EthernetHeader::LEN + 10, EthernetHeader::LEN + 20 + 16] {
            let sum = u16::from_be_bytes([frame[checksum], frame[checksum + 1]]);
            let sum = rxpath_arch::csum::update(sum, old, new);
            frame[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }
}
