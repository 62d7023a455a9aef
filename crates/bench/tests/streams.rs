//! Both sides take the stream whole, however it is cut, and acknowledge it.

use rxpath_bench::drive::{Runner, Side};
use rxpath_bench::rx::{RxPath, Setup};
use rxpath_bench::smol::SmolTcp;
use rxpath_bench::{Case, Options, run};
use rxpath_trace::Counter;

const BURST: u64 = 32;

fn stream<S: Side>(side: S, payload: usize) -> Runner<S> {
    let mut runner = Runner::connect(side, payload, 5);
    let acks = runner.acks();
    runner.checked(100);
    runner.timed(100);
    assert_eq!(runner.finish(), 200 * BURST);
    assert_eq!(runner.stalls(), 0, "the window is wide enough for a burst at a time");
    // Less than a segment of the size that the peer announced may wait for the delayed ACK.
    assert!(
        runner.acks() - acks >= 200 || payload * (BURST as usize) < 1_460,
        "each burst is acknowledged: {}",
        runner.acks()
    );
    runner
}

#[test]
fn rxpath_takes_the_stream_whole() {
    for (payload, gro) in [(64, true), (64, false), (536, true), (1_448, true), (1_448, false), (1, true)] {
        let setup = Setup { queues: 1, gro, seed: 5 };
        let side = RxPath::queues(&setup, payload).remove(0);
        let stack = side.stack().clone();
        let runner = stream(side, payload);
        let counted = stack.snapshot();
        assert_eq!(
            counted[Counter::IpInReceives] < runner.segments(),
            gro,
            "{payload}: merged if and only if GRO is on"
        );
        stack.ledger().check().expect("the ledger balances");
        assert_eq!(stack.ledger().dropped(), 0, "nothing was dropped");
    }
}

#[test]
fn smoltcp_takes_the_stream_whole() {
    for payload in [1, 64, 536, 1_448] {
        stream(SmolTcp::new(5), payload);
    }
}

#[test]
fn two_queues_take_two_streams() {
    let setup = Setup { queues: 2, gro: true, seed: 5 };
    let sides = RxPath::queues(&setup, 64);
    let stack = sides[0].stack().clone();
    for side in sides {
        stream(side, 64);
    }
    for cpu in 0..2 {
        assert!(stack.snapshot_of(cpu)[Counter::IpInReceives] >= 200, "Cpu {cpu} took its stream");
    }
    assert_eq!(stack.snapshot()[Counter::SoftnetReceivedRps], 0, "no segment met another Cpu than its own");
}

#[test]
fn a_run_reports_what_was_asked_for() {
    let options = Options { only: vec![Case::Tcp64], rounds: 1, seconds: 0.0, seed: 5 };
    let report = run(&options);
    assert_eq!(report.rounds, 15, "fewer would make medians of too little");
    let [result] = &report.results[..] else { panic!("one case: {report}") };
    assert_eq!(result.case, "tcp-64");
    assert!(result.packets > 0 && result.sides.iter().all(|side| side.window_stalls == 0), "{report}");
}
