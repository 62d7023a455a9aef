use super::*;

fn balanced_ledger() -> Ledger {
    let ledger = Ledger::new();
    ledger.offered(10);
    ledger.output(3);
    ledger.clones(2);
    ledger.made(1);
    ledger.delivered(4);
    ledger.transmitted(3);
    ledger.consumed(Consumed::GroMerged, 2);
    ledger.consumed(Consumed::AckOnly, 1);
    ledger.dropped(DropReason::TcpCsum, 1);
    ledger.dropped(DropReason::RxMissed, 2);
    ledger.held_in(Holder::ReceiveQueue, 7);
    ledger.held_out(Holder::ReceiveQueue, 4);
    ledger
}

#[test]
fn a_balanced_ledger_says_so_in_one_line() {
    let snapshot = balanced_ledger().snapshot();
    assert_eq!(
        snapshot.to_string(),
        "ledger: offered 10 + output 3 + clones 2 + made 1 = delivered 4 + transmitted 3 + consumed 3 + dropped 3 + \
         held 3 (balanced)"
    );
    assert!(snapshot.balanced());
    assert_eq!(snapshot.check(), Ok(()));
    assert_eq!((snapshot.births(), snapshot.ends(), snapshot.held()), (16, 13, 3));
}

#[test]
fn a_packet_without_an_end_is_noticed() {
    let ledger = balanced_ledger();
    ledger.offered(2);
    let snapshot = ledger.snapshot();
    assert!(snapshot.to_string().ends_with(" + held 3 (OUT OF BALANCE by 2)"));
    assert_eq!(
        snapshot.check().expect_err("it is out of balance"),
        "ledger: offered 12 + output 3 + clones 2 + made 1 = delivered 4 + transmitted 3 + consumed 3 + dropped 3 + \
         held 3 (OUT OF BALANCE by 2)\n  \
         born: 18 = offered 12 + output 3 + clones 2 + made 1\n  \
         accounted for: 16 = delivered 4 + transmitted 3 + consumed 3 + dropped 3 + held 3\n  \
         2 ended unnamed or are held by nobody"
    );
}

#[test]
fn a_packet_that_ends_twice_is_noticed() {
    let ledger = balanced_ledger();
    ledger.dropped(DropReason::NoSocket, 1);
    let snapshot = ledger.snapshot();
    assert_eq!(snapshot.out_by(), -1);
    assert!(snapshot.to_string().ends_with("(OUT OF BALANCE by -1)"));
    assert!(snapshot.check().expect_err("too many ends").ends_with("1 ended twice or were never born"));
}

#[test]
fn a_holder_that_gives_out_what_it_never_had_is_noticed_even_in_balance() {
    let ledger = balanced_ledger();
    ledger.held_out(Holder::Gro, 1);
    ledger.held_in(Holder::OutOfOrder, 1);
    let snapshot = ledger.snapshot();
    assert!(snapshot.balanced());
    assert_eq!(snapshot.held_by(Holder::Gro), -1);
    assert_eq!(snapshot.check(), Err("GRO: gave out 1 more than it took in".to_string()));
}

#[test]
fn shards_balance_in_their_sum() {
    let (one, other) = (Ledger::new(), Ledger::new());
    one.offered_shared(5);
    one.held_in_shared(Holder::CpuBacklog, 5);
    other.held_out_shared(Holder::CpuBacklog, 5);
    other.dropped_shared(DropReason::NoSocket, 2);
    other.consumed_shared(Consumed::Answered, 1);
    other.delivered_shared(2);
    assert!(one.snapshot().check().is_ok(), "what it handed over it holds, as far as it knows");
    assert!(other.snapshot().balanced());
    assert!(other.snapshot().check().is_err(), "alone it gave out what it never took in");
    let sum: LedgerSnapshot = [one.snapshot(), other.snapshot()].into_iter().sum();
    assert_eq!(sum.check(), Ok(()));
    assert_eq!(sum.held(), 0);
    assert_eq!((sum.dropped(), sum.dropped_for(DropReason::NoSocket)), (2, 2));
    assert_eq!((sum.consumed(), sum.consumed_by(Consumed::Answered)), (1, 1));
}

#[test]
fn a_difference_keeps_the_law() {
    let ledger = balanced_ledger();
    let before = ledger.snapshot();
    ledger.held_out(Holder::ReceiveQueue, 3);
    ledger.delivered(3);
    let moved = ledger.snapshot().diff(&before);
    assert!(moved.balanced());
    assert_eq!(moved.delivered(), 3);
    assert_eq!(moved.held_by(Holder::ReceiveQueue), -3);
    assert!(moved.to_string().ends_with("dropped 0 + held -3 (balanced)"));
}

#[test]
fn details_name_what_is_not_zero() {
    assert_eq!(
        balanced_ledger().snapshot().details(),
        "ledger: offered 10 + output 3 + clones 2 + made 1 = delivered 4 + transmitted 3 + consumed 3 + dropped 3 + \
         held 3 (balanced)\n  \
         consumed          2  merged by GRO\n  \
         consumed          1  bare ACK\n  \
         dropped           2  RX_MISSED: the ring had no free slot when the frame came (rx_missed_errors)\n  \
         dropped           1  TCP_CSUM: the TCP checksum does not verify\n  \
         held              3  receive queue\n"
    );
}

#[test]
fn every_entry_has_a_place_of_its_own() {
    let ledger = Ledger::new();
    for holder in Holder::ALL {
        ledger.held_in(holder, 1);
        ledger.held_out(holder, 1);
    }
    Consumed::ALL.into_iter().for_each(|how| ledger.consumed(how, 1));
    DropReason::ALL.iter().for_each(|&reason| ledger.dropped(reason, 1));
    let snapshot = ledger.snapshot();
    assert!(Holder::ALL.into_iter().all(|holder| snapshot.held_by(holder) == 0));
    assert!(Consumed::ALL.into_iter().all(|how| snapshot.consumed_by(how) == 1));
    assert!(DropReason::ALL.iter().all(|&reason| snapshot.dropped_for(reason) == 1));
    assert_eq!(snapshot.consumed(), Consumed::COUNT as u64);
    assert_eq!(snapshot.dropped(), DropReason::ALL.len() as u64);
    assert_eq!((snapshot.births(), snapshot.delivered(), snapshot.transmitted()), (0, 0, 0));
}

#[test]
fn holders_and_ways_are_listed_by_number() {
    for (i, holder) in Holder::ALL.into_iter().enumerate() {
        assert_eq!(holder as usize, i);
    }
    for (i, how) in Consumed::ALL.into_iter().enumerate() {
        assert_eq!(how as usize, i);
        assert_eq!(Consumed::from_number(i as u32), Some(how));
        assert!(how.event_kind().terminal());
    }
    assert_eq!(Consumed::from_number(Consumed::COUNT as u32), None);
    assert_eq!(Consumed::GroMerged.event_kind(), EventKind::GroMerged);
    assert_eq!(Consumed::AckOnly.event_kind(), EventKind::Consumed);
}
