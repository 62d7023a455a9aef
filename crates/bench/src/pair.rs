//! rxpath against smoltcp, on one connection.

use crate::Options;
use crate::case::Case;
use crate::drive::Runner;
use crate::measure::{self, Plan};
use crate::report::CaseResult;
use crate::rx::{RxPath, Setup};
use crate::smol::SmolTcp;

/// Measures.
pub(crate) fn run(case: Case, options: &Options) -> CaseResult {
    let setup = Setup { queues: 1, gro: case.gro(), seed: options.seed };
    let side = RxPath::queues(&setup, case.payload()).remove(0);
    let mut rxpath = Runner::connect(side, case.payload(), options.seed);
    let mut smoltcp = Runner::connect(SmolTcp::new(options.seed), case.payload(), options.seed);
    let plan = Plan::of(options, &mut rxpath, &mut smoltcp);
    let (own, peer) = measure::rounds(&plan, &mut rxpath, &mut smoltcp);
    let packets = rxpath.finish();
    assert_eq!(packets, smoltcp.finish(), "both sides took the same number of segments");
    CaseResult::of_sides(case, ("rxpath", own), ("smoltcp 0.14", peer), packets)
}
