//! Sending what the application lent (`MSG_ZEROCOPY`): which calls are told of together, and packets that refer to its
//! memory.

use std::sync::{Arc, Weak};

use rxpath_mem::Skb;
use rxpath_trace::OutputWhat;
use rxpath_wire::SeqNum;

use super::send_buffer::Piece;
use super::{Ending, TcpSock};
use crate::cx::Cx;
use crate::socket::{Lending, Notices, Payload};

/// Most pieces of a packet; one that would have more is copied (`MAX_SKB_FRAGS`).
const PIECES_MAX: usize = 17;

/// What a socket knows of the calls that lent their memory.
#[derive(Debug)]
pub struct Zerocopy {
    /// Where their notices are.
    pub notices: Arc<Notices>,
    /// The newest of them, and where in the stream it ends.
    newest: Weak<Lending>,
    end: SeqNum,
}

impl TcpSock {
    /// Puts the first `len` bytes of `payload` into the send buffer, where they are only referred to. They belong to the call
    /// that `call` names or, if that is None, to a new one, which joins the one before while not all of that was sent. False,
    /// and nothing done, if calls that were not told of are charged too much (`ENOBUFS`). `ending` holds if
    /// it is all of `payload`.
    pub(crate) fn lend(
        &mut self,
        call: &mut Option<Arc<Lending>>,
        payload: &Payload,
        len: usize,
        ending: Ending,
        optmem_max: u32,
        notices: impl FnOnce() -> Arc<Notices>,
    ) -> bool {
        let zerocopy = self.tx.zerocopy.get_or_insert_with(|| {
            Box::new(Zerocopy { notices: notices(), newest: Weak::new(), end: self.tx.snd_una })
        });
        let lending = match call {
            Some(lending) => Arc::clone(lending),
            None => {
                let unsent = zerocopy.end.after(self.tx.snd_nxt);
                let joined = zerocopy.newest.upgrade().filter(|newest| unsent && newest.join(payload.len()));
                match joined.or_else(|| zerocopy.notices.begin(optmem_max)) {
                    Some(lending) => lending,
                    None => return false,
                }
            }
        };
        zerocopy.newest = Arc::downgrade(&lending);
        self.tx.buffer.append_lent(lending.lend(payload.slice(0..len)));
        *call = Some(lending);
        self.wrote(len as u32, (len == payload.len()).then_some(ending));
        if let Some(zerocopy) = &mut self.tx.zerocopy {
            zerocopy.end = self.tx.write_seq;
        }
        true
    }

    /// A packet with the `len` bytes from `offset` on, of which some were lent: it refers to them. None if the pool is dry.
    #[cold]
    pub(super) fn packet_of_lent(&self, cx: &mut Cx, offset: usize, len: usize) -> Option<Skb> {
        let buffer = &self.tx.buffer;
        if buffer.pieces(offset, len).nth(PIECES_MAX).is_some() {
            let mut skb = cx.alloc_output(OutputWhat::TcpData, len, false)?;
            buffer.copy_to(offset, skb.put(len));
            return Some(skb);
        }
        let linear = match buffer.pieces(offset, len).next() {
            Some(Piece::Copied(first, second)) => first.len() + second.len(),
            _ => 0,
        };
        let mut skb = cx.alloc_output(OutputWhat::TcpData, linear, false)?;
        for piece in buffer.pieces(offset, len) {
            let added = match piece {
                Piece::Copied(first, second) => cx.append(&mut skb, first) && cx.append(&mut skb, second),
                Piece::Lent(pages, from, len) => skb.add_user_pages(&mut cx.pool, Arc::clone(pages), from, len),
            };
            if !added {
                cx.drop_skb(skb, rxpath_trace::DropReason::Nomem);
                return None;
            }
        }
        Some(skb)
    }

    /// True if a notice waits that nobody has read.
    pub(crate) fn has_notice(&self) -> bool {
        self.tx.zerocopy.as_ref().is_some_and(|zerocopy| !zerocopy.notices.is_empty())
    }
}
