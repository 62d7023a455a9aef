//! How the blocks of an acknowledgement are gone through: what the one before told of is not looked at again, and the way
//! leads forwards as long as it has not come to the end.

use rxpath_trace::Counter;

use super::{MSS, Path, RTT};
use crate::tcp::write_queue::PACKET_CHARGE;

/// Where records end, and whether they are acknowledged selectively. Each is charged for.
fn records(path: &Path) -> Vec<(u32, bool)> {
    path.with(|sk| {
        let charge: u32 = sk.tx.segments.iter().map(|one| PACKET_CHARGE + one.len()).sum();
        assert_eq!(sk.rx.wmem_queued, charge);
        sk.tx.segments.iter().map(|one| ((one.end_seq - path.first) as u32 / MSS, one.sacked)).collect()
    })
}

fn four_segments() -> Path {
    let mut path = Path::new(false);
    path.send_super_frames(4 * MSS);
    path
}

#[test]
fn what_the_acknowledgement_before_told_of_is_not_cut_again() {
    let mut path = four_segments();
    path.ack(0, &[(1, 4)]);
    assert_eq!(records(&path), [(1, false), (4, true)]);
    path.ack(0, &[(2, 3)]);
    assert_eq!(records(&path), [(1, false), (4, true)], "it lies in what was told before");
    path.ack(0, &[(3, 4)]);
    path.ack(0, &[(2, 3)]);
    assert_eq!(records(&path), [(1, false), (3, true), (4, true)], "the last one told of something else");
}

#[test]
fn an_acknowledgement_that_tells_of_nothing_possible_is_the_last_one_told() {
    let mut path = four_segments();
    path.ack(0, &[(1, 4)]);
    path.ack(0, &[]);
    path.ack(0, &[(2, 3)]);
    assert_eq!(records(&path).len(), 2, "without blocks it tells of nothing");
    path.ack(0, &[(70, 71)]);
    path.ack(0, &[(2, 3)]);
    assert_eq!(records(&path).len(), 3);
}

#[test]
fn a_block_behind_which_the_way_has_led_is_looked_for_only_from_the_end() {
    let mut path = four_segments();
    path.ack(0, &[(1, 4), (2, 3)]);
    assert_eq!(records(&path), [(1, false), (3, true), (4, true)]);
    let mut path = Path::new(false);
    path.send_super_frames(6 * MSS);
    path.ack(0, &[(1, 4), (2, 3)]);
    assert_eq!(records(&path), [(1, false), (4, true), (6, false)]);
}

#[test]
fn what_came_twice_at_the_end_of_all_is_come_to_twice_and_was_overtaken() {
    for behind in [0, 1] {
        let mut path = Path::new(false);
        path.send(4);
        path.lab.wait(2 * RTT + 12);
        assert_eq!(path.sent().len(), 1, "the last is sent again");
        path.send(behind);
        path.ack(0, &[(3, 4), (2, 4)]);
        assert_eq!(path.count(Counter::TcpExtTCPDSACKOfoRecv), 1);
        let overtaken = u64::from(behind == 0);
        assert_eq!(path.count(Counter::TcpExtTCPSACKReorder), overtaken, "with {behind} more");
        assert_eq!(path.with(|sk| sk.cong.sacked_out), 2);
        path.ack(0, &[(3, 4), (2, 4)]);
        assert_eq!(path.with(|sk| sk.cong.sacked_out), 2);
    }
}
