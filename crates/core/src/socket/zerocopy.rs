//! Sending without a copy (`MSG_ZEROCOPY`): what the application lends, and how it is told that it has it back.
//!
//! A [`Payload`] is owned memory that whoever holds it may read. A call lends it to the stack: the send buffer and the
//! packets refer to it, and the device reads it where it is. When the last of these references is gone, be it with the
//! acknowledgement, with a packet that a device took late or with the connection, the notice of the call comes into the
//! socket's error queue.
//!
//! Calls are numbered from 0, and a notice tells of a range of them. Those that follow one another while nothing of the one
//! before was sent are told of together ([`Lending`]), and so are notices that nobody has read
//! (`msg_zerocopy_realloc`, `skb_zerocopy_notify_extend`).
//!
//! Mirrors `msg_zerocopy_realloc`, `msg_zerocopy_callback`, `sock_omalloc`. References end on any thread and under any lock:
//! [`Notices`] has its own, under which no other is taken.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rxpath_mem::UserPages;

/// What a call is charged until its notice is read (`net.core.optmem_max` bounds the sum), in bytes: the truesize of an
/// empty packet.
const CHARGE: u32 = 832;
/// Bytes of calls that are told of together.
const TOGETHER_MAX: usize = 512 * 1_024;

/// Memory that can be sent without being copied: owned by whatever it was made of, and cheap to clone and to cut.
///
/// Its owner is let go when the last clone is, wherever that happens: dropping it must neither block nor call the stack.
#[derive(Clone)]
pub struct Payload {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    from: usize,
    len: usize,
}

impl Payload {
    /// The bytes of `owner`, which must always give the same ones: a vector, a boxed or shared slice, a mapped file.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Payload {
        let len = owner.as_ref().len();
        Payload { owner: Arc::new(owner), from: 0, len }
    }

    /// A part of it, as far as there is such a part.
    pub fn slice(&self, range: Range<usize>) -> Payload {
        let (start, end) = (range.start.min(self.len), range.end.min(self.len));
        Payload { from: self.from + start, len: end.saturating_sub(start), ..self.clone() }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.from..self.from + self.len).unwrap_or_default()
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").field("from", &self.from).field("len", &self.len).finish_non_exhaustive()
    }
}

/// The memory of some calls is the application's again (`SO_EE_ORIGIN_ZEROCOPY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZerocopyNotice {
    /// The first of the calls (`ee_info`). The socket's calls are numbered from 0 and wrap.
    pub first: u32,
    /// The last (`ee_data`).
    pub last: u32,
    /// Some of it had to be copied after all (`SO_EE_CODE_ZEROCOPY_COPIED`): lending brought nothing.
    pub copied: bool,
}

/// The notices of one socket: those that nobody has read, and what all that are still to come are charged.
pub struct Notices {
    state: Mutex<State>,
    /// Wakes those who wait for the socket.
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<ZerocopyNotice>,
    /// `sk_omem_alloc`.
    charged: u32,
    /// The number of the next call (`sk_zckey`).
    next: u32,
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Notices").field("waiting", &state.queue.len()).field("charged", &state.charged).finish()
    }
}

impl Notices {
    /// None yet. `wake` is called when there is one, under whatever locks.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Notices> {
        Arc::new(Notices { state: Mutex::default(), wake: Box::new(wake) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest that nobody has read (`MSG_ERRQUEUE`).
    pub fn pop(&self) -> Option<ZerocopyNotice> {
        let mut state = self.lock();
        let notice = state.queue.pop_front()?;
        state.charged = state.charged.saturating_sub(CHARGE);
        Some(notice)
    }

    /// True if none waits to be read.
    pub fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// What calls that were not told of, and notices that were not read, are charged (`sk_omem_alloc`), bytes.
    pub fn charged(&self) -> u32 {
        self.lock().charged
    }

    /// A call begins. None if what is charged would exceed `optmem_max` (`ENOBUFS`).
    pub fn begin(self: &Arc<Notices>, optmem_max: u32) -> Option<Arc<Lending>> {
        let mut state = self.lock();
        if state.charged.saturating_add(CHARGE) > optmem_max {
            return None;
        }
        state.charged += CHARGE;
        let first = state.next;
        state.next = first.wrapping_add(1);
        drop(state);
        Some(Arc::new(Lending {
            first,
            last: AtomicU32::new(first),
            bytes: AtomicU32::new(0),
            copied: AtomicBool::new(false),
            notices: Arc::clone(self),
        }))
    }

    /// All is given back of these calls. What continues the newest notice becomes part of it.
    fn finish(&self, notice: ZerocopyNotice) {
        let mut state = self.lock();
        let newest = state.queue.back_mut();
        match newest.filter(|newest| newest.last.wrapping_add(1) == notice.first && newest.copied == notice.copied) {
            Some(newest) => {
                newest.last = notice.last;
                state.charged = state.charged.saturating_sub(CHARGE);
            }
            None => state.queue.push_back(notice),
        }
        drop(state);
        (self.wake)();
    }
}

/// Calls that are told of together (`struct ubuf_info_msgzc`). Everything that refers to their memory holds one; the notice
/// comes when the last goes.
#[derive(Debug)]
pub struct Lending {
    first: u32,
    last: AtomicU32,
    bytes: AtomicU32,
    copied: AtomicBool,
    notices: Arc<Notices>,
}

impl Lending {
    /// The next call joins. False if this is too much already, or others began meanwhile.
    pub fn join(&self, bytes: usize) -> bool {
        let mut state = self.notices.lock();
        let last = self.last.load(Ordering::Relaxed);
        let together = self.bytes.load(Ordering::Relaxed) as usize + bytes <= TOGETHER_MAX;
        if !together || last.wrapping_add(1) != state.next {
            return false;
        }
        self.last.store(state.next, Ordering::Relaxed);
        state.next = state.next.wrapping_add(1);
        true
    }

    /// What packets refer to: `payload` belongs to the newest of the calls.
    pub fn lend(self: &Arc<Lending>, payload: Payload) -> Arc<dyn UserPages> {
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.bytes.store(self.bytes.load(Ordering::Relaxed).saturating_add(bytes), Ordering::Relaxed);
        Arc::new(Lent { payload, lending: Arc::clone(self) })
    }
}

impl Drop for Lending {
    fn drop(&mut self) {
        let (last, copied) = (*self.last.get_mut(), *self.copied.get_mut());
        self.notices.finish(ZerocopyNotice { first: self.first, last, copied });
    }
}

/// The memory goes before the notice.
struct Lent {
    payload: Payload,
    lending: Arc<Lending>,
}

impl UserPages for Lent {
    fn bytes(&self) -> &[u8] {
        self.payload.as_ref()
    }

    fn note_copied(&self) {
        self.lending.copied.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(first: u32, last: u32, copied: bool) -> ZerocopyNotice {
        ZerocopyNotice { first, last, copied }
    }

    fn notices() -> (Arc<Notices>, Arc<AtomicU32>) {
        let woken = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&woken);
        (Notices::new(move || _ = count.fetch_add(1, Ordering::Relaxed)), woken)
    }

    #[test]
    fn a_notice_comes_with_the_last_reference_and_ranges_grow_until_they_are_read() {
        let (notices, woken) = notices();
        let memory = Arc::new([7u8; 100]);
        let payload = Payload::new(Arc::clone(&memory) as Arc<[u8]>);
        let mut lent = Vec::new();
        for _ in 0..3 {
            let lending = notices.begin(u32::MAX).expect("no limit");
            lent.push((lending.lend(payload.slice(0..60)), lending.lend(payload.slice(60..200))));
        }
        drop(payload);
        assert_eq!(lent[0].1.bytes(), [7; 40], "cut to what there is");
        let (first, rest) = lent.remove(0);
        drop(first);
        assert!(notices.is_empty(), "a part is still referred to");
        drop(rest);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        lent.remove(0);
        assert_eq!((notices.pop(), notices.pop()), (Some(notice(0, 1, false)), None));
        lent[0].0.note_copied();
        lent.clear();
        let plain = notices.begin(u32::MAX).expect("no limit");
        drop(plain);
        assert_eq!((notices.pop(), notices.pop()), (Some(notice(2, 2, true)), Some(notice(3, 3, false))));
        assert_eq!((notices.charged(), Arc::strong_count(&memory)), (0, 1));
    }

    #[test]
    fn calls_are_told_of_together_until_they_are_many_bytes_or_another_began() {
        let (notices, _) = notices();
        let memory = Payload::new(vec![0; TOGETHER_MAX]);
        let lending = notices.begin(CHARGE).expect("there is room for one");
        let first = lending.lend(memory.slice(0..1_000));
        assert!(lending.join(1_000) && !lending.join(TOGETHER_MAX));
        assert_eq!(notices.begin(CHARGE).map(|_| ()), None, "ENOBUFS");
        let other = notices.begin(2 * CHARGE).expect("there is room for two");
        assert!(!lending.join(1), "another began");
        drop(other);
        drop((lending, first));
        let told = [notices.pop(), notices.pop(), notices.pop()];
        assert_eq!(told, [Some(notice(2, 2, false)), Some(notice(0, 1, false)), None]);
    }
}
