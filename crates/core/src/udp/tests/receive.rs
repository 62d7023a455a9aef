use std::net::Ipv4Addr;
use std::sync::Arc;

use rxpath_mem::{IpSummed, RxDesc, Skb};
use rxpath_trace::{Counter, DropReason, Holder, Selector, lives};
use rxpath_wire::{Addr, IpProto, MacAddr, icmp as wire_icmp, udp as wire_udp};

use super::{addr, bind, datagram, moved, put, read_all, recv, to_addr, to_port};
use crate::cx::Cx;
use crate::netfilter::{Hook, HookPoint, HookState, Priority, Verdict};
use crate::socket::NoDatagram;
use crate::stack::BindOptions;
use crate::tcp::SockError;
use crate::tcp::tests::lab::{Lab, PEER, US};
use crate::testing::frames::{icmp, ip};
use crate::udp::UdpSock;

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn a_datagram_is_read_with_its_sender_and_its_time() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    let came = lab.now;
    put(&mut lab, &to_port(7, b"hello"));
    lab.wait(50);
    let before = lab.stack.snapshot();
    let (bytes, received) = recv(&lab, &sock, 64).expect("a datagram");
    assert_eq!(bytes, b"hello");
    assert_eq!((received.from, received.to.v4()), (super::addr(PEER, 5), Some(US)));
    assert_eq!((received.at, received.ifindex, received.full_len, received.gso_size), (came, 1, 5, 0));
    // It counts when it is read.
    assert_eq!(moved(&lab, &before), [(Counter::UdpInDatagrams, 1)]);
    assert!(matches!(recv(&lab, &sock, 64), Err(NoDatagram::Empty(None))));
}

#[test]
fn what_has_no_room_is_gone_and_what_is_peeked_stays() {
    let mut lab = Lab::new();
    let sock = bind(&lab, ANY, 7);
    put(&mut lab, &to_port(7, b"hello"));
    put(&mut lab, &to_port(7, b""));
    let mut buf = [0; 2];
    let peeked = lab.stack.udp_recv(&sock, &mut buf, true, false, lab.now).expect("a datagram");
    assert_eq!((peeked.len, peeked.full_len, &buf), (2, 5, b"he"));
    let (bytes, received) = recv(&lab, &sock, 2).expect("the same");
    assert_eq!((bytes.as_slice(), received.full_len), (&b"he"[..], 5));
    assert_eq!(recv(&lab, &sock, 64).expect("an empty one").1.full_len, 0);
    assert_eq!((lab.count(Counter::UdpInDatagrams), lab.count(Counter::CopiedPeek)), (2, 2));
}

#[test]
fn headers_that_do_not_fit_are_errors() {
    let mut lab = Lab::new();
    let _sock = bind(&lab, US, 7);
    put(&mut lab, &ip(IpProto::UDP, b"1234567"));
    assert_eq!(lab.dropped(DropReason::NotSpecified), 1);
    for len in [7u16, 20] {
        let mut bytes = datagram(PEER, US, (5, 7), b"abc");
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        put(&mut lab, &ip(IpProto::UDP, &bytes));
    }
    assert_eq!(lab.dropped(DropReason::PktTooSmall), 2);
    assert_eq!((lab.count(Counter::UdpInErrors), lab.count(Counter::UdpInCsumErrors)), (3, 0));
}

#[test]
fn what_lies_behind_the_datagram_is_cut() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    let mut bytes = datagram(PEER, US, (5, 7), b"abc");
    bytes.extend_from_slice(b"behind");
    put(&mut lab, &ip(IpProto::UDP, &bytes));
    assert_eq!(read_all(&lab, &sock), [b"abc"]);
}

/// A datagram of so many bytes of payload whose checksum is wrong.
pub(super) fn unsound(port: u16, payload: usize) -> crate::testing::frames::Ip {
    let mut bytes = datagram(PEER, US, (5, port), &vec![b'x'; payload]);
    bytes[6] ^= 1;
    ip(IpProto::UDP, &bytes)
}

#[test]
fn a_short_datagram_is_verified_when_it_comes() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    put(&mut lab, &unsound(7, 68));
    assert_eq!(lab.dropped(DropReason::UdpCsum), 1);
    assert_eq!((lab.count(Counter::UdpInErrors), lab.count(Counter::UdpInCsumErrors)), (1, 1));
    assert!(sock.rx.is_empty());
    // Without a socket a long one is, too; and nobody is told.
    put(&mut lab, &unsound(9, 500));
    assert_eq!((lab.count(Counter::UdpInCsumErrors), lab.count(Counter::UdpNoPorts)), (2, 0));
    // No checksum is no wrong one.
    let mut bytes = datagram(PEER, US, (5, 7), b"bare");
    bytes[6..8].fill(0);
    put(&mut lab, &ip(IpProto::UDP, &bytes));
    assert_eq!(read_all(&lab, &sock), [b"bare"]);
}

#[test]
fn a_long_datagram_is_verified_by_its_reader() {
    let mut lab = Lab::with(|config| config.lives = Selector::All);
    let sock = bind(&lab, US, 7);
    put(&mut lab, &unsound(7, 69));
    assert_eq!((sock.rx.len(), lab.count(Counter::UdpInErrors)), (1, 0), "as if all were well");
    lab.wait(10);
    assert!(matches!(recv(&lab, &sock, 64), Err(NoDatagram::Empty(_))));
    assert_eq!(lab.dropped(DropReason::UdpCsum), 1);
    assert_eq!((lab.count(Counter::UdpInErrors), lab.count(Counter::UdpInCsumErrors)), (1, 1));
    assert_eq!((sock.rx.drops(), sock.rx.rmem(), lab.count(Counter::UdpInDatagrams)), (1, 0, 0));
    // A sound one behind it is found at once, also by who only looks.
    put(&mut lab, &unsound(7, 100));
    put(&mut lab, &to_port(7, &[b'y'; 100]));
    let mut buf = [0; 200];
    let peeked = lab.stack.udp_recv(&sock, &mut buf, true, false, lab.now).expect("the second one");
    assert_eq!((peeked.len, buf[0]), (100, b'y'));
    assert_eq!(read_all(&lab, &sock).len(), 1);
    let story = lives::group(lab.stack.take_events()).iter().map(|life| life.story()).collect::<String>();
    assert!(story.contains("DROPPED udp_recvmsg: UDP_CSUM, "), "{story}");
    assert!(story.contains("READ    udp_recvmsg: the application read 100 bytes"), "{story}");
}

#[test]
fn the_device_may_have_verified_it() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    let desc = RxDesc { csum: IpSummed::Unnecessary, ..RxDesc::default() };
    lab.put_reported(&unsound(7, 3).frame(), desc);
    lab.run();
    assert_eq!(read_all(&lab, &sock), [b"xxx"]);
}

#[test]
fn a_closed_port_is_told_to_the_sender() {
    let mut lab = Lab::new();
    let before = lab.stack.snapshot();
    put(&mut lab, &to_port(9, b"anybody?"));
    assert_eq!(lab.dropped(DropReason::NoSocket), 1);
    let expected = [(Counter::IcmpOutMsgs, 1), (Counter::IcmpOutDestUnreachs, 1), (Counter::UdpNoPorts, 1)];
    assert_eq!(moved(&lab, &before), expected);
    let told = lab.raw().expect("the error");
    assert_eq!((told[23], &told[34..36]), (IpProto::ICMP, &[3, 3][..]));
    assert_eq!(&told[42 + 28..], b"anybody?");
    // Not where the frame was for all.
    put(&mut lab, &to_port(9, b"anybody?").in_frame_to(MacAddr::BROADCAST));
    assert_eq!((lab.count(Counter::UdpNoPorts), lab.raw()), (2, None));
}

#[test]
fn a_full_receive_buffer_drops_unless_it_is_empty() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    // Frames of 43 bytes are charged 704: 302 of them fit 212,992, as in the kernel.
    for _ in 0..310 {
        put(&mut lab, &to_port(7, b"x"));
    }
    assert_eq!((sock.rx.len(), sock.rx.rmem()), (302, 302 * 704));
    assert_eq!((lab.count(Counter::UdpRcvbufErrors), lab.count(Counter::UdpInErrors), sock.rx.drops()), (8, 8, 8));
    assert_eq!(lab.dropped(DropReason::SocketRcvbuff), 8);
    assert_eq!(lab.stack.ledger().held_by(Holder::ReceiveQueue), 302);
    assert_eq!(lab.stack.proc_sockstat().lines().nth(2), Some("UDP: inuse 1 mem 52"));
    assert_eq!(read_all(&lab, &sock).len(), 302);
    assert_eq!(lab.stack.proc_sockstat().lines().nth(2), Some("UDP: inuse 1 mem 1"), "a page is kept");
    sock.rx.set_rcvbuf(1, 1_000_000);
    assert_eq!(sock.rx.rcvbuf(), 2_304);
    put(&mut lab, &to_port(7, &[0; 1_472]));
    put(&mut lab, &to_port(7, &[0; 1_472]));
    assert_eq!((sock.rx.len(), lab.dropped(DropReason::SocketRcvbuff)), (1, 9));
}

#[test]
fn a_socket_remembers_how_what_it_was_sent_came() {
    let mut lab = Lab::new();
    let sock = bind(&lab, Ipv4Addr::UNSPECIFIED, 7);
    let group = to_addr([224, 0, 0, 1], 7, b"all").in_frame_to(MacAddr([1, 0, 0x5e, 0, 0, 1]));
    put(&mut lab, &group);
    assert_eq!((lab.count(Counter::IpExtInMcastPkts), lab.count(Counter::IpExtInMcastOctets)), (1, 31));
    // What comes to it alone is counted like that, too, once it has a peer.
    put(&mut lab, &to_port(7, b"you"));
    assert_eq!(lab.count(Counter::IpExtInMcastPkts), 1);
    lab.stack.udp_connect(&sock, addr(PEER, 5)).expect("on the link");
    put(&mut lab, &to_port(7, b"you"));
    assert_eq!((lab.count(Counter::IpExtInMcastPkts), lab.count(Counter::IpExtInMcastOctets)), (2, 62));
    assert_eq!(read_all(&lab, &sock), [&b"all"[..], b"you", b"you"]);
}

#[test]
fn the_memory_of_all_sockets_is_bounded() {
    let mut lab = Lab::with(|config| config.sysctl.set("net.ipv4.udp_mem", "2 2 2").expect("a tunable"));
    let (one, two) = (bind(&lab, US, 7), bind(&lab, US, 8));
    for _ in 0..6 {
        put(&mut lab, &to_port(7, &[0; 1_472]));
    }
    // Two pages hold three of 2,176; a socket below 4,096 may exceed that.
    assert_eq!((one.rx.len(), lab.count(Counter::UdpMemErrors), lab.count(Counter::UdpInErrors)), (3, 3, 3));
    assert_eq!(lab.dropped(DropReason::ProtoMem), 3);
    put(&mut lab, &to_port(8, &[0; 1_472]));
    assert_eq!(two.rx.len(), 1);
    assert_eq!(read_all(&lab, &one).len(), 3);
    put(&mut lab, &to_port(7, &[0; 1_472]));
    assert_eq!(one.rx.len(), 1);
}

#[test]
fn what_goes_to_all_comes_to_every_socket_that_wants_it() {
    let mut lab = Lab::with(|config| config.lives = Selector::All);
    let shared = BindOptions { reuse_addr: true, ..BindOptions::default() };
    let any = |lab: &Lab| lab.stack.udp_bind(super::addr(ANY, 7), shared).expect("shared");
    let socks: Vec<Arc<UdpSock>> = (0..3).map(|_| any(&lab)).collect();
    let bound = lab.stack.udp_bind(super::addr(US, 7), shared).expect("shared");
    let before = lab.stack.snapshot();
    let to_all = to_addr([10, 0, 0, 255], 7, b"to all").in_frame_to(MacAddr::BROADCAST);
    put(&mut lab, &to_all);
    for sock in &socks {
        assert_eq!(read_all(&lab, sock), [b"to all"]);
    }
    assert!(bound.rx.is_empty(), "bound to another address");
    assert_eq!(moved(&lab, &before), [(Counter::UdpInDatagrams, 3)]);
    assert_eq!(lab.stack.ledger().made(), 2);
    // To one host: the youngest of the most particular ones.
    put(&mut lab, &to_port(7, b"to one"));
    assert_eq!(read_all(&lab, &bound), [b"to one"]);
    lab.stack.udp_close(&bound, lab.now);
    put(&mut lab, &to_port(7, b"to one"));
    assert_eq!(read_all(&lab, &socks[2]), [b"to one"]);
    // Nobody wants it: nobody is told.
    put(&mut lab, &to_addr([10, 0, 0, 255], 9, b"to all").in_frame_to(MacAddr::BROADCAST));
    assert_eq!((lab.count(Counter::UdpIgnoredMulti), lab.raw()), (1, None));
    let stories: String = lives::group(lab.stack.take_events()).iter().map(|life| life.story()).collect();
    assert!(stories.contains("alloc_skb: a copy of another packet, 14 bytes, out of "), "{stories}");
}

#[test]
fn a_group_comes_to_those_who_joined() {
    let mut lab = Lab::new();
    let (group, mac) = ([239, 1, 1, 1], MacAddr([1, 0, 0x5e, 1, 1, 1]));
    let sock = bind(&lab, ANY, 7);
    let packet = to_addr(group, 7, b"to the group").in_frame_to(mac);
    put(&mut lab, &packet);
    assert_eq!((sock.rx.len(), lab.dropped(DropReason::NotSpecified)), (0, 1), "not joined");
    let other = bind(&lab, ANY, 8);
    lab.stack.udp_join(&other, group.into(), US).expect("joined");
    put(&mut lab, &packet);
    assert_eq!(read_all(&lab, &sock), [b"to the group"], "the host is in the group");
    assert_eq!(lab.count(Counter::IpExtInMcastPkts), 1);
    put(&mut lab, &to_addr(group, 9, b"nobody").in_frame_to(mac));
    assert_eq!(lab.count(Counter::UdpIgnoredMulti), 1);
    lab.stack.udp_close(&other, lab.now);
    put(&mut lab, &packet);
    assert_eq!((sock.rx.len(), lab.dropped(DropReason::NotSpecified)), (0, 3), "left with the last of them");
    // All hosts are in the group of all hosts.
    put(&mut lab, &to_addr([224, 0, 0, 1], 7, b"all").in_frame_to(MacAddr([1, 0, 0x5e, 0, 0, 1])));
    assert_eq!(read_all(&lab, &sock), [b"all"]);
}

#[test]
fn fragments_make_a_datagram() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    let bytes = datagram(PEER, US, (5, 7), &(0..3_000u32).map(|i| i as u8).collect::<Vec<u8>>());
    let (first, second) = bytes.split_at(1_480);
    let (second, third) = second.split_at(1_480);
    for (at, piece, more) in [(185u16, second, true), (0, first, true), (370, third, false)] {
        let mut packet = ip(IpProto::UDP, piece);
        packet.fragment = at | if more { 0x2000 } else { 0 };
        put(&mut lab, &packet);
    }
    let read = read_all(&lab, &sock);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0], bytes[8..]);
}

#[test]
fn a_connected_socket_hears_its_peer_alone_and_what_became_of_its_own() {
    let mut lab = Lab::new();
    let sock = bind(&lab, ANY, 7);
    lab.stack.udp_connect(&sock, super::addr(PEER, 9)).expect("on the link");
    assert_eq!(sock.binding().local.v4(), Some(US));
    put(&mut lab, &to_port(7, b"another port"));
    assert_eq!(lab.count(Counter::UdpNoPorts), 1);
    put(&mut lab, &ip(IpProto::UDP, &datagram(PEER, US, (9, 7), b"the peer")));
    let quote = ip(IpProto::UDP, &datagram(US, PEER, (7, 9), b"sent")).from(US.octets()).to(PEER.octets());
    let told = |code: u8| icmp(wire_icmp::DEST_UNREACHABLE, code, 0, &quote.packet());
    let error = |lab: &mut Lab, code: u8| {
        put(lab, &told(code));
        sock.rx.take_error()
    };
    // Measured on Linux 6.18.
    use SockError::*;
    let means: Vec<Option<SockError>> = (0..17).map(|code| error(&mut lab, code)).collect();
    let expected = [
        None,
        None,
        Some(NoProtocol),
        Some(Refused),
        Some(MsgSize),
        None,
        Some(NetUnreachable),
        Some(HostDown),
        Some(NoNet),
        Some(NetUnreachable),
        Some(Unreachable),
        None,
        None,
        Some(Unreachable),
        Some(Unreachable),
        Some(Unreachable),
        None,
    ];
    assert_eq!(means, expected);
    assert_eq!(lab.count(Counter::IcmpInErrors), 0);
    // An error is told before what came earlier, once, by whichever call is next.
    put(&mut lab, &told(3));
    assert!(matches!(recv(&lab, &sock, 64), Err(NoDatagram::Failed(Refused))));
    assert_eq!(read_all(&lab, &sock), [b"the peer"]);
    // Who is not connected is told nothing.
    lab.stack.udp_disconnect(&sock);
    assert!(sock.binding().local.is_unspecified());
    put(&mut lab, &told(3));
    assert_eq!(sock.rx.take_error(), None);
    assert_eq!(lab.count(Counter::IcmpInErrors), 0);
    lab.stack.udp_close(&sock, lab.now);
    put(&mut lab, &told(3));
    assert_eq!(lab.count(Counter::IcmpInErrors), 1, "nobody sent that");
}

#[test]
fn a_connected_socket_spares_its_peer_the_check_of_the_way_back() {
    let mut lab = Lab::with_two_interfaces();
    let sock = bind(&lab, US, 7);
    lab.stack.udp_connect(&sock, super::addr(PEER, 5)).expect("on the link");
    put(&mut lab, &to_port(7, b"first"));
    let strict = |lab: &Lab, on: bool| {
        lab.stack.reconfigure(|net| {
            let mut net = net.clone();
            net.sysctl.conf.all.rp_filter = u8::from(on);
            net
        });
    };
    strict(&lab, true);
    put(&mut lab, &to_port(7, b"second"));
    // From now on the socket knows the way of its peer's datagrams, until the configuration changes.
    let early = |lab: &mut Lab, counted: u64| {
        put(lab, &to_port(7, b"next"));
        assert_eq!(lab.count(Counter::TcpExtIPReversePathFilter), counted);
    };
    early(&mut lab, 0);
    assert_eq!(read_all(&lab, &sock).len(), 3);
}

#[test]
fn what_nobody_read_ends_with_the_socket() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    put(&mut lab, &to_port(7, b"unread"));
    lab.stack.udp_close(&sock, lab.now);
    assert_eq!(lab.dropped(DropReason::QueuePurge), 1);
    assert!(matches!(recv(&lab, &sock, 64), Err(NoDatagram::Closed)));
    let again = bind(&lab, US, 7);
    put(&mut lab, &to_port(7, b"for the stack's end"));
    assert_eq!(again.rx.len(), 1);
}

#[test]
fn sockets_are_listed_as_the_kernel_does() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7_000);
    put(&mut lab, &to_port(7_000, b"x"));
    let text = lab.stack.proc_udp();
    let line = text.lines().nth(1).expect("the socket");
    assert!(
        line.starts_with(
            " 7000: 0100000A:1B58 00000000:0000 07 00000000:000002C0 00:00000000 00000000     0        0 0 2 "
        ),
        "{line}"
    );
    assert!(lab.stack.proc_snmp().contains("\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\nUdp: 0 0 "));
    drop(read_all(&lab, &sock));
}

#[test]
fn flows_meet_their_owner_and_any_cpu_may_deliver() {
    let mut lab = Lab::with_queues(2, |config| config.cpus = 2);
    let sock = bind(&lab, US, 7);
    for source in 0..64u16 {
        let packet = ip(IpProto::UDP, &datagram(PEER, US, (1_000 + source, 7), &source.to_be_bytes()));
        assert!(lab.offer(usize::from(source % 2), &packet.frame()));
        lab.run();
    }
    assert!(lab.count(Counter::SoftnetReceivedRps) > 10, "the hash decides, whatever the queue");
    let read = read_all(&lab, &sock);
    assert_eq!(read.len(), 64);
}

/// Frames of the peer's port 5 to port 7, as they lie in the ring in one burst.
fn burst(lab: &mut Lab, lengths: &[usize]) {
    for (n, len) in lengths.iter().enumerate() {
        let mut frame = to_port(7, &vec![n as u8; *len]).frame();
        // Identifications count up.
        frame[18..20].copy_from_slice(&(n as u16).to_be_bytes());
        rxpath_wire::ipv4::fill_checksum(&mut frame[14..34]);
        lab.put(&frame);
    }
    lab.run();
}

#[test]
fn datagrams_come_merged_to_who_asks_for_it() {
    let mut lab = Lab::with(|config| config.lives = Selector::All);
    let sock = bind(&lab, US, 7);
    burst(&mut lab, &[100, 100, 100]);
    assert_eq!(read_all(&lab, &sock).len(), 3, "nobody asked");
    lab.stack.udp_set(&sock, |options| options.gro = true);
    burst(&mut lab, &[1_000, 1_000, 300, 1_000, 1_000]);
    let sizes = |lab: &Lab| -> Vec<(usize, u16)> {
        std::iter::from_fn(|| recv(lab, &sock, 65_536).ok()).map(|(_, got)| (got.full_len, got.gso_size)).collect()
    };
    assert_eq!(sizes(&lab), [(2_300, 1_000), (2_000, 1_000)], "a shorter one ends the packet");
    burst(&mut lab, &[500, 600, 600, 20]);
    assert_eq!(sizes(&lab), [(500, 0), (1_220, 600)], "a longer one begins another");
    // Short ones are copied; order and bytes are as they came.
    burst(&mut lab, &[20; 70]);
    let (bytes, first) = recv(&lab, &sock, 65_536).expect("the first packet");
    assert_eq!((first.full_len, first.gso_size), (64 * 20, 20), "64 at the most");
    assert!(bytes.chunks(20).enumerate().all(|(n, part)| part.iter().all(|byte| usize::from(*byte) == n)));
    assert_eq!(sizes(&lab), [(120, 20)]);
    // What has no checksum, or a wrong one, goes alone.
    put(&mut lab, &unsound(7, 100));
    assert_eq!(read_all(&lab, &sock).len(), 0);
    assert_eq!(lab.count(Counter::UdpInCsumErrors), 1);
    let stories: String = lives::group(lab.stack.take_events()).iter().map(|life| life.story()).collect();
    assert!(stories.contains("its segment 64\n"), "{stories}");
}

#[test]
fn datagrams_for_others_that_a_socket_had_merged_go_on_one_by_one() {
    for tso in [false, true] {
        let mut lab = Lab::with(|config| {
            config.sysctl.set("net.ipv4.ip_forward", "1").expect("a tunable");
        });
        // A socket for any address asks for merged datagrams: those that are for another host only look like its own.
        let sock = bind(&lab, Ipv4Addr::UNSPECIFIED, 7);
        lab.stack.udp_set(&sock, |options| options.gro = true);
        assert!(lab.stack.set_neighbour(1, Addr::from_v4([10, 0, 0, 77]), Some(MacAddr([2, 0, 0, 0, 0, 77])), lab.now));
        if tso {
            lab.stack.reconfigure(|net| {
                let mut net = net.clone();
                net.interfaces[0].features.tso = true;
                net
            });
        }
        for n in 0..4u8 {
            let mut frame = to_addr([10, 0, 0, 77], 7, &[n; 200]).frame();
            frame[18..20].copy_from_slice(&u16::from(n).to_be_bytes());
            rxpath_wire::ipv4::fill_checksum(&mut frame[14..34]);
            lab.put(&frame);
        }
        lab.run();
        assert_eq!(lab.count(Counter::CopiedGro), 600, "all but the first joined it");
        let forwarded: Vec<Vec<u8>> =
            std::iter::from_fn(|| lab.raw()).filter(|frame| frame[..6] == [2, 0, 0, 0, 0, 77]).collect();
        assert_eq!(forwarded.len(), 4, "tso {tso}");
        for (n, frame) in forwarded.iter().enumerate() {
            let segment = &frame[34..];
            assert!(segment[8..] == [n as u8; 200], "tso {tso}: datagram {n}");
            assert!(wire_udp::verify(Addr::from(PEER), Addr::from_v4([10, 0, 0, 77]), segment), "tso {tso}: {n}");
        }
        assert!(recv(&lab, &sock, 1_000).is_err());
    }
}

#[test]
fn a_socket_that_ceases_to_ask_gets_each_for_itself() {
    let mut lab = Lab::new();
    let sock = bind(&lab, US, 7);
    lab.stack.udp_set(&sock, |options| options.gro = true);
    for n in 0..3u8 {
        let frame = to_port(7, &[n; 300]).frame();
        lab.put(&frame);
    }
    // A hook stands between GRO and the socket: there the option goes.
    struct Ceases(Arc<UdpSock>);
    impl Hook for Ceases {
        fn name(&self) -> &str {
            "ceases"
        }

        fn decide(&self, cx: &mut Cx, _: &HookState, skb: Skb) -> Verdict {
            cx.udp.set_options(&self.0, |options| options.gro = false);
            Verdict::Accept(skb)
        }
    }
    let hook: Arc<dyn Hook> = Arc::new(Ceases(Arc::clone(&sock)));
    lab.stack.reconfigure(|net| {
        let mut net = net.clone();
        net.hooks.register(HookPoint::LocalIn, Priority(0), Arc::clone(&hook));
        net
    });
    lab.run();
    let read = read_all(&lab, &sock);
    assert_eq!(read, [vec![0; 300], vec![1; 300], vec![2; 300]]);
    let ledger = lab.stack.ledger();
    assert_eq!(ledger.made(), 3);
}

#[test]
fn of_equals_the_one_that_took_its_address_last_is_found() {
    let mut lab = Lab::new();
    let options = BindOptions { reuse_addr: true, ..BindOptions::default() };
    let mut socks = Vec::new();
    for host in [US, US, Ipv4Addr::UNSPECIFIED] {
        socks.push(lab.stack.udp_bind(addr(host, 7), options).expect("shared"));
    }
    let connect = |number: usize| lab.stack.udp_connect(&socks[number], addr(PEER, 5)).expect("on the link");
    let found = |lab: &mut Lab| {
        put(lab, &to_port(7, b"x"));
        let by = socks.iter().position(|sock| !sock.rx.is_empty());
        socks.iter().for_each(|sock| drop(read_all(lab, sock)));
        by
    };
    // The first keeps the address that it has; the third takes it by connecting, and not again.
    connect(1);
    connect(0);
    assert_eq!(found(&mut lab), Some(1));
    lab.stack.udp_connect(&socks[2], addr(PEER, 5)).expect("on the link");
    assert_eq!(found(&mut lab), Some(2));
    lab.stack.udp_connect(&socks[0], addr(PEER, 5)).expect("on the link");
    assert_eq!(found(&mut lab), Some(2));
}
