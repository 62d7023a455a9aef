//! What became of segments that were sent: delivered, lost, or said to be lost by mistake; and what is done about it.
//!
//! The scoreboard is on the records of [`super::Sender::segments`] themselves: each is acknowledged selectively, lost, sent
//! again, or none of these; the sums are in [`Congestion`]. Records that a block tells of and that lie side by side become one,
//! and blocks cut records only between segments, so a peer cannot make the scoreboard longer than what is in flight has
//! segments; a block costs a few searches and a walk over the records in it of which the acknowledgement before has not told.
//!
//! | file | does | source |
//! |---|---|---|
//! | `state` | what is remembered | |
//! | `sacktag` | SACK blocks and D-SACKs onto the scoreboard | RFC 2018, RFC 2883, `tcp_sacktag_write_queue` |
//! | `rack` | which segments are lost, by the time of those that were delivered | RFC 8985, `tcp_rack_mark_lost` |
//! | `alert` | the states from Open to Recovery | RFC 6675, RFC 6582, `tcp_fastretrans_alert` |
//! | `timeout` | the state after a timeout, with F-RTO | RFC 5682, `tcp_enter_loss`, `tcp_process_loss` |
//! | `undo` | cuts that were mistakes | RFC 3522, RFC 3708, `tcp_try_undo_recovery` |
//! | `probe` | tail loss probes | RFC 8985 section 7, `tcp_send_loss_probe` |
//! | `rto_stats` | how often and how long timeouts were waited for | `tcp_update_rto_stats` |
//! | `retransmit` | sending again | `tcp_retransmit_skb`, `tcp_xmit_retransmit_queue` |
//!
//! Blocks come from outside: each is held against what was sent before it is believed, and nothing panics.

mod alert;
mod probe;
mod rack;
mod retransmit;
mod rto_stats;
mod sacktag;
mod state;
mod timeout;
mod undo;

pub use self::rto_stats::RtoStats;
pub(super) use self::state::{AckSays, Prior};
pub use self::state::{Loss, Rack};
