mod queue;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rxpath_mem::Skb;
use rxpath_trace::{Counter, DropReason, EventKind, Holder};

use super::{Decision, Hook, HookPoint, HookState, Hooks, Priority, Rule, ToQueue, Verdict};
use crate::cx::Cx;
use crate::testing::frames;
use crate::testing::{Ended, Rig};

/// Says what it is told to say, and writes down that it was asked.
struct Scripted {
    name: &'static str,
    verdict: fn(Skb) -> Verdict,
    asked: Asked,
}

impl Hook for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn decide(&self, _: &mut Cx, _: &HookState, skb: Skb) -> Verdict {
        self.asked.lock().expect("no panic").push(self.name);
        (self.verdict)(skb)
    }
}

type Asked = Arc<Mutex<Vec<&'static str>>>;
type Script = (i32, &'static str, fn(Skb) -> Verdict);

/// A rig with these hooks at one point; what is asked is written down in order.
fn rig(point: HookPoint, hooks: &[Script]) -> (Rig, Asked) {
    let mut rig = Rig::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    rig.reconfigure(|net| {
        for &(priority, name, verdict) in hooks {
            let hook = Scripted { name, verdict, asked: Arc::clone(&asked) };
            net.hooks.register(point, Priority(priority), Arc::new(hook));
        }
    });
    (rig, asked)
}

fn asked(asked: &Mutex<Vec<&'static str>>) -> Vec<&'static str> {
    std::mem::take(&mut asked.lock().expect("no panic"))
}

#[test]
fn hooks_are_asked_by_priority_and_then_by_age() {
    let (mut rig, log) = rig(
        HookPoint::PreRouting,
        &[(0, "filter", Verdict::Accept), (-200, "conntrack", Verdict::Accept), (0, "filter 2", Verdict::Accept)],
    );
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp);
    assert_eq!(asked(&log), ["conntrack", "filter", "filter 2"]);
    assert!(!rig.net.hooks.any_at(HookPoint::LocalIn));
    let listed = format!("{:?}", rig.net.hooks);
    assert!(listed.contains("PREROUTING") && listed.contains("conntrack"), "{listed}");
}

#[test]
fn a_drop_ends_the_packet_without_an_ip_counter_of_its_own() {
    for (point, delivered) in [(HookPoint::PreRouting, false), (HookPoint::LocalIn, false)] {
        let (mut rig, log) = rig(point, &[(0, "first", Verdict::Drop), (1, "second", Verdict::Accept)]);
        assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Dropped(DropReason::NetfilterDrop));
        assert_eq!(asked(&log), ["first"]);
        assert_eq!(rig.counted()[Counter::IpInDelivers] == 1, delivered);
        let hook = rig.events().into_iter().find(|event| event.kind == EventKind::Hook).expect("the hook's event");
        assert_eq!((hook.a, hook.b), (point as u32, 0));
    }
}

#[test]
fn a_queue_without_a_listener_drops() {
    let (mut rig, _) = rig(HookPoint::LocalIn, &[(0, "queue", |skb| Verdict::Queue(skb, ToQueue::number(0)))]);
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Dropped(DropReason::NetfilterDrop));
}

#[test]
fn a_repeat_is_asked_again_but_not_for_ever() {
    static TIMES: AtomicU32 = AtomicU32::new(0);
    fn twice(skb: Skb) -> Verdict {
        if TIMES.fetch_add(1, Ordering::Relaxed) < 2 { Verdict::Repeat(skb) } else { Verdict::Accept(skb) }
    }
    let (mut some, log) = rig(HookPoint::PreRouting, &[(0, "twice", twice)]);
    assert_eq!(some.receive(&frames::tcp().frame()), Ended::Tcp);
    assert_eq!(asked(&log).len(), 3);

    let (mut endless, log) = rig(HookPoint::PreRouting, &[(0, "endless", Verdict::Repeat)]);
    assert_eq!(endless.receive(&frames::tcp().frame()), Ended::Dropped(DropReason::NetfilterDrop));
    assert_eq!(asked(&log).len(), super::MAX_REPEATS as usize);
}

/// Keeps what it sees.
#[derive(Default)]
struct Thief(Mutex<Vec<Skb>>);

impl Hook for Thief {
    fn name(&self) -> &str {
        "thief"
    }

    fn decide(&self, cx: &mut Cx, _: &HookState, skb: Skb) -> Verdict {
        cx.hold(Holder::Mailbox);
        self.0.lock().expect("no panic").push(skb);
        Verdict::Stolen
    }
}

#[test]
fn a_stolen_packet_is_the_hooks() {
    let mut rig = Rig::new();
    let thief = Arc::new(Thief::default());
    let hook: Arc<dyn Hook> = thief.clone();
    rig.reconfigure(|net| net.hooks.register(HookPoint::PreRouting, Priority::FILTER, hook));
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Held);
    rig.ledger().check().expect("held by the hook");
    let skb = thief.0.lock().expect("no panic").pop().expect("the packet");
    rig.release(Holder::Mailbox);
    rig.drop_skb(skb, DropReason::NetfilterDrop);
}

#[test]
fn a_hook_can_be_taken_back() {
    let mut hooks = Hooks::new();
    let thief: Arc<dyn Hook> = Arc::new(Thief::default());
    let other: Arc<dyn Hook> = Arc::new(Thief::default());
    for point in HookPoint::ALL {
        assert!(!hooks.any_at(point) && hooks.at(point).is_empty());
        hooks.register(point, Priority::NAT_SRC, Arc::clone(&thief));
        assert!(hooks.any_at(point));
    }
    assert!(!hooks.unregister(HookPoint::Forward, &other));
    assert!(hooks.unregister(HookPoint::Forward, &thief));
    assert!(!hooks.any_at(HookPoint::Forward) && hooks.any_at(HookPoint::LocalOut));
    assert!(!hooks.unregister(HookPoint::Forward, &thief));
}

#[test]
fn a_closure_is_a_rule() {
    let mut rig = Rig::new();
    rig.reconfigure(|net| {
        let rule = Rule::new("packets of 36 bytes", |point, packet| match (point, packet.len()) {
            (HookPoint::LocalIn, 36) => Decision::Drop,
            _ => Decision::Accept,
        });
        for point in HookPoint::ALL {
            net.hooks.register(point, Priority::FILTER, Arc::new(Rule::new("all", |_, _| Decision::Accept)));
        }
        net.hooks.register(HookPoint::LocalIn, Priority::FILTER, Arc::new(rule));
    });
    assert_eq!(rig.receive(&frames::ip(6, &[0; 16]).frame()), Ended::Dropped(DropReason::NetfilterDrop));
    assert_eq!(rig.receive(&frames::tcp().frame()), Ended::Tcp);
}
