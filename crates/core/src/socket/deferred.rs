//! ICMP errors that found a connection owned by the application.

use std::sync::{Mutex, PoisonError};

use rxpath_wire::SeqNum;

use crate::icmp::IcmpError;
use crate::tcp::SockError;

/// What is to be done at release; of each kind the newest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deferred {
    /// A link on the way is narrower than a segment of ours, which had this sequence number (`TCP_MTU_REDUCED_DEFERRED`).
    pub narrow: Option<(IcmpError, SeqNum)>,
    /// An error to remember (`sk_err_soft`), and the time to live of the segment that it is about.
    pub soft: Option<(SockError, u8, SeqNum)>,
}

/// Where a connection keeps them; they are rare.
#[derive(Debug, Default)]
pub struct DeferredErrors(Mutex<Option<Box<Deferred>>>);

impl DeferredErrors {
    /// Adds to what is to be done.
    pub fn put(&self, change: impl FnOnce(&mut Deferred)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default());
    }

    /// Takes what is to be done.
    pub fn take(&self) -> Deferred {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .map_or_else(Deferred::default, |deferred| *deferred)
    }
}
