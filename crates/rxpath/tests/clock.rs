//! Virtual time and the building of stacks.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use rxpath::clock::{Clock, ManualClock, MonotonicClock};
use rxpath::device::wire::{self, WireConfig};
use rxpath::{Interface, Mode, Stack};

fn interface() -> Interface {
    Interface::new(wire::port(WireConfig::default()).0).address("10.0.0.1/24").expect("an address")
}

#[test]
fn programs_take_turns_in_the_order_of_their_deadlines() {
    let clock = ManualClock::new();
    let start = clock.now();
    let log = Mutex::new(Vec::new());
    let program = |name: &'static str, naps: [u64; 2]| {
        let (clock, log) = (&clock, &log);
        move || {
            for nap in naps {
                clock.sleep(Duration::from_millis(nap)).expect("time passes");
                log.lock().expect("alone").push((name, (clock.now() - start) / 1_000_000));
            }
        }
    };
    clock.run(vec![
        Box::new(program("a", [30, 30])),
        Box::new(program("b", [20, 20])),
        Box::new(program("c", [25, 45])),
    ]);
    let log = log.into_inner().expect("alone");
    assert_eq!(log, [("b", 20), ("c", 25), ("a", 30), ("b", 40), ("a", 60), ("c", 70)]);
}

#[test]
fn a_panic_comes_out_and_the_others_go_on() {
    let clock = ManualClock::new();
    let ended = Mutex::new(false);
    let run = || {
        clock.run(vec![
            Box::new(|| panic!("as planned")),
            Box::new(|| {
                clock.sleep(Duration::from_secs(1)).expect("time passes");
                *ended.lock().expect("alone") = true;
            }),
        ]);
    };
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a panic");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"as planned"));
    assert!(ended.into_inner().expect("alone"));
}

#[test]
fn clocks_go_forward_only() {
    let clock = ManualClock::new();
    let now = clock.now();
    clock.advance(Duration::from_nanos(5));
    assert_eq!(clock.now(), now + 5);
    clock.advance_to(now);
    assert_eq!(clock.now(), now + 5);
    let real = MonotonicClock::new();
    let before = real.now();
    assert!(real.now() >= before);
}

#[test]
fn a_stack_in_virtual_time_waits_by_jumping() {
    let clock = ManualClock::new();
    let stack = Stack::builder().interface(interface()).mode(Mode::Polled).clock(clock.clone()).build();
    let stack = stack.expect("a stack");
    let then = stack.now() + 7_000_000;
    stack.wait(Some(then)).expect("something to wait for");
    assert_eq!(clock.now(), then);
    assert_eq!(stack.wait(None).expect_err("nothing to wait for").kind(), ErrorKind::Deadlock);
    stack.run_for(Duration::from_secs(60)).expect("the stack is up");
    assert!(clock.now() >= then + 60_000_000_000);
    stack.shutdown();
    assert_eq!(stack.run_for(Duration::from_secs(1)).expect_err("gone").kind(), ErrorKind::NetworkDown);
}

#[test]
fn what_does_not_fit_is_refused_with_its_mend() {
    let error = Stack::builder().clock(ManualClock::new()).build().expect_err("threads have no virtual time");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("Mode::Polled"), "{error}");
    for builder in [
        Stack::builder().cpus(0),
        Stack::builder().cpus(65),
        Stack::builder().interface(interface().ring(100)),
        Stack::builder().interface(interface().ring(8)),
    ] {
        assert_eq!(builder.build().expect_err("it does not fit").kind(), ErrorKind::InvalidInput);
    }
    let error = Stack::builder().sysctl("net.ipv4.tcp_rmen", "1 2 3").expect_err("no such tunable");
    assert!(error.to_string().contains("net.ipv4.tcp_rmem"), "{error}");
    assert!(interface().address("10.0.0.1").is_err(), "no prefix");
}

#[test]
fn threads_have_their_names_and_end_with_the_stack() {
    let softirqs = || {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("softirq/")).count()
    };
    let stack = Stack::builder().cpus(3).interface(interface()).build().expect("a stack");
    if cfg!(target_os = "linux") {
        // A thread takes its name when it starts to run.
        while softirqs() < 3 {
            std::thread::yield_now();
        }
        drop(stack);
        assert_eq!(softirqs(), 0);
    }
}
