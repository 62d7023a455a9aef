use super::*;

#[test]
fn names_are_the_variants_without_their_group() {
    for (i, counter) in Counter::ALL.into_iter().enumerate() {
        assert_eq!(counter as usize, i);
        if counter.group() != Group::Softnet {
            assert_eq!(format!("{counter:?}"), counter.to_string());
        }
        assert!(!counter.describe().is_empty() && !counter.describe().ends_with('.'), "{counter}");
    }
    assert_eq!(Counter::TcpExtTCPHPHits.name(), "TCPHPHits");
    assert_eq!(Counter::SoftnetTimeSqueeze.name(), "time_squeeze");
    assert_eq!(Counter::IcmpMsgInType8.group(), Group::IcmpMsg);
}

#[test]
fn groups_are_runs_in_their_order() {
    let mut runs: Vec<Group> = Counter::ALL.into_iter().map(Counter::group).collect();
    runs.dedup();
    assert_eq!(runs, Group::ALL);
    let sizes = Group::ALL.map(|group| Counter::ALL.iter().filter(|counter| counter.group() == group).count());
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
    assert_eq!(Counter::COUNT, sizes.iter().sum::<usize>());
}

#[test]
fn names_lead_back() {
    for counter in Counter::ALL {
        assert_eq!(Counter::from_name(&counter.to_string()), Some(counter));
    }
    assert_eq!(Counter::from_name("IpExtInOctets"), Some(Counter::IpExtInOctets));
    assert_eq!(Counter::from_name("IpNoSuch"), None);
    assert_eq!(Counter::from_name(""), None);
}

#[test]
fn icmp_types_have_a_counter_each() {
    for ty in 0..=255 {
        assert_eq!(Counter::icmp_in(ty).to_string(), format!("IcmpMsgInType{ty}"));
        assert_eq!(Counter::icmp_out(ty).to_string(), format!("IcmpMsgOutType{ty}"));
    }
    assert_eq!(Counter::icmp_in(200).describe(), "ICMP messages of this type received");
    assert_eq!(Counter::icmp_out(200).describe(), "ICMP messages of this type sent");
}

#[test]
fn what_is_counted_stands_in_the_kernels_order() {
    assert!(COUNTED.is_sorted());
    let mut unique = COUNTED.to_vec();
    unique.dedup();
    assert_eq!(unique.len(), COUNTED.len());
}

#[test]
fn a_shard_adds_and_takes_away() {
    let shard = Counters::new();
    shard.inc(Counter::IpInReceives);
    shard.add(Counter::IpInReceives, 2);
    shard.add_shared(Counter::IpInReceives, 4);
    shard.inc(Counter::TcpCurrEstab);
    shard.sub(Counter::TcpCurrEstab, 1);
    assert_eq!(shard.value(Counter::IpInReceives), 7);
    assert_eq!(shard.snapshot(), Snapshot::of(&[(Counter::IpInReceives, 7)]));
}

#[test]
fn a_gauge_is_right_in_the_sum_of_the_shards() {
    let (opened_here, closed_here) = (Counters::new(), Counters::new());
    opened_here.add(Counter::TcpCurrEstab, 3);
    closed_here.sub(Counter::TcpCurrEstab, 2);
    closed_here.sub_shared(Counter::TcpCurrEstab, 1);
    opened_here.add(Counter::TcpCurrEstab, 1);
    let sum: Snapshot = [opened_here.snapshot(), closed_here.snapshot()].into_iter().sum();
    assert_eq!(sum[Counter::TcpCurrEstab], 1);
    assert!(Counter::TcpCurrEstab.is_gauge() && !Counter::TcpInSegs.is_gauge());
}

#[test]
fn a_difference_shows_what_moved() {
    let before = Snapshot::of(&[(Counter::TcpInSegs, 10), (Counter::TcpCurrEstab, 2)]);
    let after = before.clone() + Snapshot::of(&[(Counter::TcpInSegs, 5), (Counter::TcpExtTCPHPHits, 1)]);
    let moved = after.diff(&before);
    assert_eq!(moved, Snapshot::of(&[(Counter::TcpInSegs, 5), (Counter::TcpExtTCPHPHits, 1)]));
    assert_eq!(format!("{moved:?}"), "{TcpInSegs: 5, TcpExtTCPHPHits: 1}");
    assert_eq!(format!("{:?}", before.diff(&after)), "{TcpInSegs: -5, TcpExtTCPHPHits: -1}");
    assert_eq!(moved.nonzero().count(), 2);
}

#[test]
fn two_counters_fit_in_a_word() {
    let last = Counter::ALL[Counter::COUNT - 1];
    for (first, second) in [
        (None, None),
        (Some(Counter::IpInReceives), None),
        (Some(Counter::TcpInErrs), Some(Counter::TcpInCsumErrors)),
        (None, Some(last)),
    ] {
        let word = Counter::pair(first, second);
        assert_eq!(Counter::unpair(word).collect::<Vec<_>>(), first.into_iter().chain(second).collect::<Vec<_>>());
    }
    assert_eq!(Counter::pair(None, None), 0);
    assert_eq!(Counter::unpair(u32::MAX).count(), 0, "numbers that name no counter are passed over");
}

#[test]
fn shared_additions_from_many_threads_lose_nothing() {
    let shard = Counters::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| shard.add_shared(Counter::TcpInSegs, 1)));
        }
    });
    assert_eq!(shard.value(Counter::TcpInSegs), 4000);
}
