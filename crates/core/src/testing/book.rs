//! The lives in the book of the path (`docs/book`): each is what a packet went through in a test. A chapter says
//! `<!-- life: NAME -->`, and the block behind that is written from here.

use std::path::Path;
use std::sync::Arc;

use rxpath_trace::{Life, lives};
use rxpath_wire::{IpProto, MacAddr, TcpFlags, arp};

use super::drops::Scene;
use super::frames::{Ip, arp_frame, arp_request, echo, ethernet, ip};
use crate::socket::{Sock, post};
use crate::tcp::tests::lab::{ACK, Lab, PEER, PSH_ACK, Peer, US};
use crate::udp::tests as udp;

/// Something that happens, and whose life is told: that of the `nth` packet that was born in it, from 0.
struct Told {
    name: &'static str,
    nth: usize,
    run: fn() -> Scene,
}

const TOLD: &[Told] = &[
    Told { name: "a full ring", nth: 14, run: full_ring },
    Told { name: "a segment that is merged", nth: 1, run: merged },
    Told { name: "the packet that others were merged into", nth: 0, run: merged },
    Told { name: "an ARP request", nth: 0, run: || framed(&arp_request()) },
    Told { name: "an ARP request that is answered for another host", nth: 0, run: proxied },
    Told { name: "an unknown EtherType", nth: 0, run: || framed(&ethernet(crate::testing::MAC, 0x88b5, &[0; 46])) },
    Told { name: "a packet for another host", nth: 0, run: forwarded },
    Told { name: "an echo request", nth: 0, run: || framed(&echo(&[0; 56]).frame()) },
    Told { name: "a SYN for a listener", nth: 0, run: syn },
    Told { name: "a segment for an owned socket", nth: 0, run: owned },
    Told { name: "a segment that came too early", nth: 0, run: early },
    Told { name: "data, read by an application", nth: 0, run: read },
    Told { name: "a datagram, read by an application", nth: 0, run: datagram_read },
    Told { name: "a datagram for a full socket", nth: 3, run: datagrams_unread },
];

fn framed(frame: &[u8]) -> Scene {
    let mut scene = Scene::new();
    scene.frame(frame);
    scene
}

fn proxied() -> Scene {
    let mut scene = Scene::with(|config| {
        config.sysctl.conf.set_forwarding(true);
        config.sysctl.conf.all.proxy_arp_pvlan = true;
    });
    let target = (MacAddr::ZERO, [10, 0, 0, 9].into());
    scene.frame(&arp_frame(MacAddr::BROADCAST, arp::REQUEST, (crate::testing::PEER_MAC, PEER), target));
    scene.lab.wait(800);
    scene
}

fn full_ring() -> Scene {
    let mut scene = Scene::with(|config| config.interfaces[0].ring = 16);
    for _ in 0..15 {
        scene.lab.offer(0, &echo(&[0; 8]).frame());
    }
    scene.lab.run();
    scene
}

/// A connection to a listener on port 80, some data of which has been read.
fn connected() -> (Scene, Peer, Arc<Sock>) {
    let mut scene = Scene::new();
    let listener = scene.lab.listen(80, 8);
    let mut peer = Peer::new(40_000, 80);
    let sock = peer.connect(&mut scene.lab, &listener);
    peer.data(&mut scene.lab, b"hello");
    let read = scene.lab.recv(&sock, 100).expect("what was sent");
    assert_eq!(read, b"hello");
    scene.begin();
    (scene, peer, sock)
}

fn merged() -> Scene {
    let (mut scene, mut peer, _sock) = connected();
    for flags in [ACK, ACK, PSH_ACK] {
        let frame = scene.lab.frame(peer.repr(flags), &[b'x'; 1_000]);
        scene.lab.put(&frame);
        peer.seq += 1_000;
    }
    scene.lab.run();
    scene
}

fn forwarded() -> Scene {
    let mut scene = Scene::with(|config| config.sysctl.conf.set_forwarding(true));
    let other = (MacAddr([2, 0, 0, 0, 0, 9]), [10, 0, 0, 99].into());
    scene.frame(&super::frames::arp_frame(MacAddr::BROADCAST, arp::REQUEST, other, (MacAddr::ZERO, US)));
    scene.begin();
    scene.frame(&echo(&[0; 56]).to([10, 0, 0, 99]).frame());
    scene
}

fn syn() -> Scene {
    let mut scene = Scene::new();
    let _listener = scene.lab.listen(80, 8);
    let syn = scene.lab.frame(Peer::new(40_000, 80).repr(TcpFlags::SYN), &[]);
    scene.frame(&syn);
    scene
}

fn owned() -> Scene {
    let (mut scene, mut peer, sock) = connected();
    let user = sock.lock.user();
    peer.data(&mut scene.lab, b"while owned");
    assert!(user.release(), "the owner learns of the backlog");
    scene.lab.stack.kick(&sock, post::BACKLOG, scene.lab.now);
    scene.lab.run();
    read_all(&mut scene.lab, &sock);
    scene
}

fn early() -> Scene {
    let (mut scene, mut peer, sock) = connected();
    peer.data_at(&mut scene.lab, 5, b"world");
    scene.lab.wait(20);
    peer.data(&mut scene.lab, b"hello");
    read_all(&mut scene.lab, &sock);
    scene
}

fn read() -> Scene {
    let (mut scene, mut peer, sock) = connected();
    assert!(scene.lab.stack.recv(&sock, &mut [0; 100], true, scene.lab.now).is_err(), "nothing yet: a reader waits");
    peer.data(&mut scene.lab, b"a line of text");
    scene.lab.wait(1);
    read_all(&mut scene.lab, &sock);
    scene
}

/// A datagram of the peer to port 53.
fn datagram() -> Ip {
    ip(IpProto::UDP, &udp::datagram(PEER, US, (1_000, 53), b"who is it?"))
}

fn datagram_read() -> Scene {
    let mut scene = Scene::new();
    let sock = udp::bind(&scene.lab, US, 53);
    scene.begin();
    scene.frame(&datagram().frame());
    scene.lab.wait(1);
    let (bytes, _) = udp::recv(&scene.lab, &sock, 100).expect("the datagram");
    assert_eq!(bytes, b"who is it?");
    scene
}

fn datagrams_unread() -> Scene {
    let mut scene = Scene::new();
    let sock = udp::bind(&scene.lab, US, 53);
    // Twice as much as is asked for, and no less than 2,304 bytes: three datagrams of 704.
    sock.rx.set_rcvbuf(1_152, u32::MAX);
    scene.begin();
    for _ in 0..4 {
        scene.frame(&datagram().frame());
    }
    scene.lab.stack.udp_close(&sock, scene.lab.now);
    scene
}

fn read_all(lab: &mut Lab, sock: &Arc<Sock>) {
    let read = lab.recv(sock, 1_000).expect("what was sent");
    assert!(!read.is_empty());
}

impl Told {
    /// The block in the book: the life, and the counters that moved.
    fn block(&self) -> String {
        let scene = (self.run)();
        let ledger = scene.lab.stack.ledger();
        ledger.check().unwrap_or_else(|imbalance| panic!("{}: {imbalance}\n{}", self.name, ledger.details()));
        let mut lives: Vec<Life> = lives::group(scene.lab.stack.take_events());
        lives.sort_by_key(|life| (life.events[0].at, life.id));
        let life = lives.get(self.nth).unwrap_or_else(|| panic!("{}: {} lives", self.name, lives.len()));
        format!("```text\n{}```\n\nCounters: {}\n", life.story(), scene.moved().join(", "))
    }
}

const BOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book");
const MARK: &str = "<!-- life: ";

/// A chapter with the blocks that belong into it, whatever is there now; the names are noted.
fn rewritten(chapter: &str, names: &mut Vec<String>) -> String {
    let mut text = String::new();
    let mut rest = chapter;
    while let Some(at) = rest.find(MARK) {
        let (before, marked) = rest.split_at(at);
        let (mark, behind) = marked.split_once('\n').expect("a line");
        let name = mark.trim_start_matches(MARK).trim_end_matches(" -->");
        let told = TOLD.iter().find(|told| told.name == name).unwrap_or_else(|| panic!("no life is called {name:?}"));
        names.push(name.to_owned());
        text.push_str(before);
        text.push_str(mark);
        text.push('\n');
        text.push_str(&told.block());
        // The block ends with the line of the counters.
        let old = behind.find("\nCounters: ").filter(|_| behind.starts_with("```text\n"));
        let end = old.and_then(|at| behind[at + 1..].find('\n').map(|line| at + 1 + line + 1));
        rest = &behind[end.unwrap_or(0)..];
    }
    text.push_str(rest);
    text
}

#[test]
fn the_book_tells_what_happens() {
    let mut names = Vec::new();
    let mut stale = Vec::new();
    let mut chapters: Vec<_> =
        std::fs::read_dir(Path::new(BOOK)).expect("the book").map(|entry| entry.expect("an entry").path()).collect();
    chapters.sort();
    for path in chapters {
        let chapter = std::fs::read_to_string(&path).expect("text");
        let now = rewritten(&chapter, &mut names);
        if now != chapter && std::env::var_os("RXPATH_BLESS").is_some() {
            std::fs::write(&path, &now).expect("the chapter is written");
        } else if now != chapter {
            let differing = now.lines().zip(chapter.lines()).find(|(now, chapter)| now != chapter);
            stale.push(format!("{}: {differing:?}", path.display()));
        }
    }
    assert!(stale.is_empty(), "run RXPATH_BLESS=1 cargo test -p rxpath-core the_book, and review: {stale:#?}");
    let untold: Vec<_> = TOLD.iter().map(|told| told.name).filter(|name| !names.iter().any(|n| n == name)).collect();
    assert!(untold.is_empty(), "lives that no chapter shows: {untold:?}");
}
