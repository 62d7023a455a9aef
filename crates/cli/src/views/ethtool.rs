//! `rxpath ethtool -S`.

use rxpath::rxpath_core::demux::stats::DevStat;
use rxpath::rxpath_core::stack::{InterfaceView, PoolView, RingView};

use super::CounterRow;
use crate::failure::Failure;
use crate::out::Out;

/// The statistics of an interface and of its rings, under the names that drivers give them, and of the page pools that
/// fill the rings, under the kernel's.
pub fn rows<'a>(
    interface: &InterfaceView,
    rings: impl Iterator<Item = &'a RingView>,
    pools: &[PoolView],
) -> Vec<CounterRow> {
    let row = |name: String, value: u64| CounterRow { name, value: value.cast_signed() };
    let mut rows: Vec<CounterRow> =
        DevStat::NAMED.iter().map(|(stat, name)| row((*name).to_owned(), interface.stats[*stat])).collect();
    let (mut no_buffer, mut of_queues) = (0, Vec::new());
    for ring in rings {
        no_buffer += ring.no_buffer;
        let queue = ring.queue;
        of_queues.push(row(format!("rx_queue_{queue}_packets"), ring.taken));
        of_queues.push(row(format!("rx_queue_{queue}_drops"), ring.missed + ring.no_buffer));
        of_queues.push(row(format!("rx_queue_{queue}_alloc_fail"), ring.alloc_failed));
    }
    rows.push(row("rx_no_buffer_count".to_owned(), no_buffer));
    rows.append(&mut of_queues);
    let sum = |value: fn(&PoolView) -> u64| pools.iter().map(value).sum();
    rows.push(row("rx_pp_alloc_fast".to_owned(), sum(|pool| pool.stats.alloc_fast)));
    rows.push(row("rx_pp_alloc_slow".to_owned(), sum(|pool| pool.stats.alloc_slow)));
    rows.push(row("rx_pp_alloc_empty".to_owned(), sum(|pool| pool.stats.alloc_empty)));
    rows.push(row("rx_pp_alloc_refill".to_owned(), sum(|pool| pool.stats.alloc_refill)));
    rows.push(row("rx_pp_recycle_cached".to_owned(), sum(|pool| pool.stats.recycle_cached)));
    rows.push(row("rx_pp_recycle_ring".to_owned(), sum(|pool| pool.stats.recycle_ring)));
    rows
}

/// Prints them as ethtool does.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, rows: &[CounterRow]) -> Result<(), Failure> {
    out.line("NIC statistics:")?;
    rows.iter().try_for_each(|row| out.line(format_args!("     {}: {}", row.name, row.value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::tests::printed;
    use rxpath::rxpath_core::demux::stats::DevStats;
    use rxpath::rxpath_mem::PoolStats;

    #[test]
    fn rings_follow_their_interface_and_losses_are_told_apart() {
        let interface = InterfaceView { name: "eth0".to_owned(), ifindex: 1, stats: DevStats::default() };
        let ring = |queue, missed, no_buffer| RingView {
            ifindex: 1,
            queue,
            offered: 10,
            taken: 10 - missed - no_buffer,
            missed,
            no_buffer,
            alloc_failed: no_buffer,
        };
        let pool = |cpu, alloc_fast, recycle_ring| PoolView {
            cpu,
            stats: PoolStats { alloc_fast, recycle_ring, alloc_empty: 1, ..PoolStats::default() },
            outstanding: 0,
            posted: 0,
        };
        let rings = [ring(0, 2, 0), ring(1, 0, 3)];
        let pools = [pool(0, 100, 7), pool(1, 20, 0)];
        let text = printed(|out| print(out, &rows(&interface, rings.iter(), &pools)));
        assert!(text.starts_with("NIC statistics:\n     rx_packets: 0\n     rx_bytes: 0\n"), "{text}");
        let end = "     rx_no_buffer_count: 3\n     \
                   rx_queue_0_packets: 8\n     rx_queue_0_drops: 2\n     rx_queue_0_alloc_fail: 0\n     \
                   rx_queue_1_packets: 7\n     rx_queue_1_drops: 3\n     rx_queue_1_alloc_fail: 3\n     \
                   rx_pp_alloc_fast: 120\n     rx_pp_alloc_slow: 0\n     rx_pp_alloc_empty: 2\n     \
                   rx_pp_alloc_refill: 0\n     rx_pp_recycle_cached: 0\n     rx_pp_recycle_ring: 7\n";
        assert!(text.ends_with(end), "{text}");
    }
}
