//! Busy polling: a reader polls the queue that its packets come by instead of waiting for its interrupt, which stays masked
//! meanwhile (`napi_busy_loop`, `busy_poll_stop`).

use rxpath_trace::Counter;

use super::Softirq;
use super::poll_list::Polled;
use crate::cx::Cx;
use crate::socket::FlowTable;

/// Packets of one busy poll, unless the socket says otherwise (`BUSY_POLL_BUDGET`).
pub const BUSY_POLL_BUDGET: u16 = 8;

/// What a busy poll did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusyPolled {
    /// It took so many packets; `left` says whether the softirq has to go on with the queue.
    Done {
        /// Packets.
        work: usize,
        /// The queue stands on the poll list.
        left: bool,
    },
    /// An interrupt came first: the queue stands on the poll list anyway.
    Scheduled,
}

impl Softirq {
    /// Polls a queue for a reader; `held` says that he has its line.
    pub(crate) fn busy_poll(
        &mut self,
        cx: &mut Cx,
        flows: &mut FlowTable,
        (ifindex, queue): (u16, u16),
        budget: usize,
        held: bool,
    ) -> BusyPolled {
        let is_it = |napi: &super::Napi| napi.ifindex == ifindex && napi.queue_index == queue;
        let Some(index) = self.napis.iter().position(is_it) else { return BusyPolled::Scheduled };
        if !held && !self.napis[index].irq.napi().schedule_prep() {
            return BusyPolled::Scheduled;
        }
        let work = self.poll_queue(cx, flows, index, budget);
        cx.count_n(Counter::TcpExtBusyPollRxPackets, work as u64);
        self.transmit(cx);
        let left = !held && (work == budget || !self.napis[index].complete());
        if left {
            self.put_on_poll_list(Polled::Queue(index));
        }
        BusyPolled::Done { work, left }
    }
}
