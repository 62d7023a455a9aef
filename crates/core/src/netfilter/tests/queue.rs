//! Packets that are kept at a hook, and go on.

use std::sync::{Arc, Mutex};

use rxpath_mem::Skb;
use rxpath_trace::{Counter, DropReason, EventKind, Holder, Selector};
use rxpath_wire::ipv4;

use super::super::{
    Answer, Decision, Hook, HookPoint, HookState, Hooks, PacketQueue, Priority, QueueOptions, QueuedPacket, Rule,
    Stolen, ToQueue, Verdict,
};
use crate::cx::Cx;
use crate::stack::{QueueError, RecvError, StackConfig};
use crate::tcp::tests::lab::Lab;
use crate::testing::frames::echo;

fn to(to: ToQueue) -> impl Fn(HookPoint, &[u8]) -> Decision + Send + Sync {
    // Echo requests and replies, but not ARP's answers.
    move |_, packet| if packet[9] == 1 { Decision::Queue(to) } else { Decision::Accept }
}

fn hooked(change: impl FnOnce(&mut StackConfig)) -> Lab {
    let mut lab = Lab::with(|config| {
        config.lives = Selector::All;
        change(config);
    });
    while lab.raw().is_some() {}
    lab.stack.take_events();
    lab
}

/// A stack whose hook at `point` queues ICMP to number 7.
fn lab(point: HookPoint, queue: ToQueue) -> Lab {
    hooked(|config| config.hooks.register(point, Priority::FILTER, Arc::new(Rule::new("queue", to(queue)))))
}

fn ping(lab: &mut Lab) {
    lab.put(&echo(b"01234567").frame());
    lab.run();
}

fn open(lab: &Lab, options: QueueOptions) -> Arc<PacketQueue> {
    lab.stack.open_queue(7, options).expect("nobody listens yet")
}

fn read(lab: &Lab, queue: &PacketQueue) -> (Vec<u8>, QueuedPacket) {
    let mut buf = vec![0; 2_000];
    let (bytes, packet) = lab.stack.queue_recv(queue, &mut buf, false).expect("a packet");
    buf.truncate(bytes);
    (buf, packet)
}

fn decide(lab: &Lab, queue: &PacketQueue, id: u32, answer: Answer) {
    lab.stack.queue_verdict(queue, id, answer, None, lab.now).expect("it waits");
}

/// The words of hooks in the lives since the last call.
fn told(lab: &Lab) -> Vec<(EventKind, u32, u32)> {
    let events = lab.stack.take_events().into_iter();
    events
        .filter(|event| matches!(event.kind, EventKind::Hook | EventKind::Reinjected | EventKind::Dropped))
        .map(|event| (event.kind, event.a, event.b))
        .collect()
}

#[test]
fn what_is_accepted_goes_on_where_it_was() {
    for (point, input) in [
        (HookPoint::PreRouting, true),
        (HookPoint::LocalIn, true),
        (HookPoint::LocalOut, false),
        (HookPoint::PostRouting, false),
    ] {
        let mut lab = lab(point, ToQueue::number(7));
        let queue = open(&lab, QueueOptions::default());
        ping(&mut lab);
        assert!(lab.raw().is_none(), "no answer before the verdict");
        assert_eq!(lab.stack.ledger().held_by(Holder::Netfilter), 1);
        let (bytes, packet) = read(&lab, &queue);
        assert_eq!((packet.id, packet.point, packet.len, bytes.len()), (1, point, 36, 36));
        assert_eq!((packet.came_by, packet.leaves_by), if input { (Some(1), None) } else { (None, Some(1)) });
        assert_eq!(&bytes[28..], b"01234567");
        decide(&lab, &queue, packet.id, Answer::Accept);
        lab.run();
        assert_eq!(lab.raw().expect("the reply")[34], 0, "an echo reply");
        let number = point as u32;
        assert_eq!(
            told(&lab),
            [(EventKind::Hook, number, 3 | 7 << 16), (EventKind::Reinjected, number, 1), (EventKind::Hook, number, 1)]
        );
        assert_eq!(lab.stack.ledger().held_by(Holder::Netfilter), 0);
    }
}

#[test]
fn what_is_dropped_ends_and_is_not_there_any_more() {
    let mut lab = lab(HookPoint::LocalIn, ToQueue::number(7));
    let queue = open(&lab, QueueOptions::default());
    ping(&mut lab);
    // Before it was read.
    decide(&lab, &queue, 1, Answer::Drop);
    assert!(matches!(lab.stack.queue_recv(&queue, &mut [0; 9], false), Err(RecvError::Empty(None))));
    assert_eq!(lab.stack.queue_verdict(&queue, 1, Answer::Accept, None, lab.now), Err(QueueError::NoPacket));
    assert_eq!(lab.stack.ledger().dropped_for(DropReason::NetfilterDrop), 1);
    assert!(lab.raw().is_none());
}

#[test]
fn verdicts_come_in_any_order() {
    let mut lab = lab(HookPoint::LocalIn, ToQueue::number(7));
    let queue = open(&lab, QueueOptions::default());
    for _ in 0..4 {
        ping(&mut lab);
    }
    assert_eq!((read(&lab, &queue).1.id, read(&lab, &queue).1.id), (1, 2));
    decide(&lab, &queue, 3, Answer::Drop);
    decide(&lab, &queue, 1, Answer::Accept);
    assert_eq!(read(&lab, &queue).1.id, 4, "the third is gone");
    assert_eq!(queue.stats().waiting, 2);
    decide(&lab, &queue, 4, Answer::Accept);
    decide(&lab, &queue, 2, Answer::Accept);
    lab.run();
    assert_eq!(std::iter::from_fn(|| lab.raw()).count(), 3);
}

#[test]
fn a_full_queue_drops_or_lets_pass() {
    for fail_open in [false, true] {
        let mut lab = lab(HookPoint::LocalIn, ToQueue::number(7));
        let queue = open(&lab, QueueOptions { max_len: 2, fail_open, ..QueueOptions::default() });
        for _ in 0..5 {
            ping(&mut lab);
        }
        let (answered, dropped) = if fail_open { (3, 0) } else { (0, 3) };
        assert_eq!(std::iter::from_fn(|| lab.raw()).count(), answered);
        assert_eq!((queue.stats().waiting, queue.stats().dropped), (2, dropped));
        assert_eq!(lab.stack.ledger().dropped_for(DropReason::NfqueueFull), dropped);
        let line = format!("    7      7     2 2 65531 {dropped:5}     0        2  1\n");
        assert_eq!(lab.stack.proc_nfnetlink_queue(), line);
        lab.stack.close_queue(&queue, lab.now);
    }
}

#[test]
fn where_nobody_listens_the_hook_says_what_happens() {
    let mut strict = lab(HookPoint::LocalIn, ToQueue::number(7));
    ping(&mut strict);
    assert_eq!(strict.stack.ledger().dropped_for(DropReason::NetfilterDrop), 1);
    let mut lenient = lab(HookPoint::LocalIn, ToQueue::bypass(7));
    ping(&mut lenient);
    assert!(lenient.raw().is_some());
}

#[test]
fn closing_ends_what_waits_and_frees_the_number() {
    let mut lab = lab(HookPoint::LocalIn, ToQueue::bypass(7));
    let queue = open(&lab, QueueOptions::default());
    assert_eq!(lab.stack.open_queue(7, QueueOptions::default()).map(|_| ()), Err(QueueError::InUse));
    ping(&mut lab);
    ping(&mut lab);
    lab.stack.close_queue(&queue, lab.now);
    let ledger = lab.stack.ledger();
    assert_eq!((ledger.dropped_for(DropReason::QueuePurge), ledger.held_by(Holder::Netfilter)), (2, 0));
    ping(&mut lab);
    assert!(lab.raw().is_some(), "nobody listens");
    let again = open(&lab, QueueOptions::default());
    ping(&mut lab);
    lab.stack.shutdown();
    assert!(matches!(lab.stack.queue_recv(&again, &mut [0; 9], false), Err(RecvError::Down)));
    assert_eq!(lab.stack.ledger().dropped_for(DropReason::QueuePurge), 3);
}

#[test]
fn a_changed_packet_goes_on_as_it_is_now() {
    let mut lab = lab(HookPoint::PreRouting, ToQueue::number(7));
    let queue = open(&lab, QueueOptions::default());
    for len in [4, 8, 1_400, 30] {
        ping(&mut lab);
        let (_, packet) = read(&lab, &queue);
        let changed = echo(&vec![7; len]).frame().split_off(14);
        for bad in [&changed[..changed.len() - 1], &changed[..19], &[]] {
            let refused = lab.stack.queue_verdict(&queue, packet.id, Answer::Accept, Some(bad), lab.now);
            assert_eq!(refused, Err(QueueError::Malformed));
        }
        lab.stack.queue_verdict(&queue, packet.id, Answer::Accept, Some(&changed), lab.now).expect("it waits");
        lab.run();
        let reply = lab.raw().expect("a reply");
        assert_eq!((reply.len(), &reply[42..]), (42 + len, &vec![7; len][..]));
        assert!(ipv4::verify(&reply[14..34]));
    }
    // What was changed badly fails the checks that are yet to come.
    ping(&mut lab);
    let (mut packet, queued) = read(&lab, &queue);
    packet[30] ^= 1;
    lab.stack.queue_verdict(&queue, queued.id, Answer::Accept, Some(&packet), lab.now).expect("it waits");
    lab.run();
    assert_eq!(lab.stack.ledger().dropped_for(DropReason::IcmpCsum), 1);
}

#[test]
fn repeat_asks_the_same_hook_and_queue_goes_to_another_decider() {
    let mut lab = hooked(|config| {
        let rules: [(i32, Arc<dyn Hook>); 2] = [
            (0, Arc::new(Rule::new("queue", to(ToQueue::number(7))))),
            (1, Arc::new(Rule::new("behind", |_, _| Decision::Accept))),
        ];
        for (priority, rule) in rules {
            config.hooks.register(HookPoint::LocalIn, Priority(priority), rule);
        }
    });
    let (seven, eight) = (open(&lab, QueueOptions::default()), lab.stack.open_queue(8, QueueOptions::default()));
    let eight = eight.expect("nobody listens yet");
    ping(&mut lab);
    decide(&lab, &seven, 1, Answer::Repeat);
    assert_eq!(read(&lab, &seven).1.id, 2, "queued again");
    decide(&lab, &seven, 2, Answer::Queue(ToQueue::number(8)));
    assert_eq!(read(&lab, &eight).1.id, 1);
    decide(&lab, &eight, 1, Answer::Queue(ToQueue::bypass(9)));
    lab.run();
    assert!(lab.raw().is_some(), "nobody listens to 9, so it went on behind the hook");
    ping(&mut lab);
    decide(&lab, &seven, 3, Answer::Queue(ToQueue::number(9)));
    assert_eq!(lab.stack.ledger().dropped_for(DropReason::NetfilterDrop), 1);
}

#[test]
fn a_packet_whose_hook_is_gone_is_dropped_and_other_hooks_may_come_and_go() {
    let rule: Arc<dyn Hook> = Arc::new(Rule::new("queue", to(ToQueue::number(7))));
    let kept = Arc::clone(&rule);
    let mut lab = hooked(|config| config.hooks.register(HookPoint::LocalIn, Priority::FILTER, kept));
    let queue = open(&lab, QueueOptions::default());
    ping(&mut lab);
    ping(&mut lab);
    let change = |change: &dyn Fn(&mut Hooks)| {
        lab.stack.reconfigure(|net| {
            let mut net = net.clone();
            change(&mut net.hooks);
            net
        });
    };
    let all = || Arc::new(Rule::new("all", |_, _| Decision::Accept));
    change(&|hooks| hooks.register(HookPoint::LocalIn, Priority::RAW, all()));
    decide(&lab, &queue, 1, Answer::Accept);
    change(&|hooks| assert!(hooks.unregister(HookPoint::LocalIn, &rule)));
    decide(&lab, &queue, 2, Answer::Accept);
    assert_eq!(std::iter::from_fn(|| lab.raw()).count(), 1);
    assert_eq!(lab.stack.ledger().dropped_for(DropReason::NetfilterDrop), 1);
}

/// Keeps pings.
#[derive(Default)]
struct Thief(Mutex<Vec<Stolen>>);

impl Hook for Thief {
    fn name(&self) -> &str {
        "thief"
    }

    fn decide(&self, cx: &mut Cx, at: &HookState, skb: Skb) -> Verdict {
        if skb.data()[9] != 1 {
            return Verdict::Accept(skb);
        }
        let stolen = at.steal(cx, skb);
        self.0.lock().expect("no panic").push(stolen);
        Verdict::Stolen
    }
}

#[test]
fn a_stolen_packet_comes_back_behind_its_thief() {
    for point in [HookPoint::PreRouting, HookPoint::LocalIn, HookPoint::LocalOut, HookPoint::PostRouting] {
        let thief = Arc::new(Thief::default());
        let hook: Arc<dyn Hook> = thief.clone();
        let mut lab = hooked(|config| config.hooks.register(point, Priority::FILTER, hook));
        ping(&mut lab);
        assert_eq!(lab.stack.ledger().held_by(Holder::Netfilter), 1);
        let stolen = thief.0.lock().expect("no panic").pop().expect("the packet");
        assert_eq!((stolen.state().point(), stolen.packet().len()), (point, 36));
        let refused = lab.stack.reinject(stolen, Answer::Accept, Some(b"no packet"), lab.now);
        let stolen = refused.expect_err("it is refused");
        lab.stack.reinject(stolen, Answer::Accept, None, lab.now).expect("as it was");
        lab.run();
        assert!(lab.raw().is_some());
        let moved = lab.stack.snapshot();
        assert_eq!((moved[Counter::IcmpInEchos], moved[Counter::IcmpOutEchoReps]), (1, 1));
    }
}
