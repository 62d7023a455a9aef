//! What the peer hears of a stack: the frames that the stack sends.
//!
//! A bare ACK is read in place: acknowledgement number and window, counted. Every other frame, and in a checked phase
//! every frame at all, is kept for [`crate::peer::Peer`] to look at.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use rxpath_wire::TcpFlags;

use crate::frames::HEADERS;

/// The ear of one connection. Written by the thread that drives the stack's queue and read by its peer, which is the
/// same thread; a line of its own, so that queues do not disturb each other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Heard {
    ack: AtomicU32,
    window: AtomicU32,
    acks: AtomicU64,
    /// Keep every frame.
    strict: AtomicBool,
    any_kept: AtomicBool,
    kept: Mutex<Vec<Vec<u8>>>,
}

impl Heard {
    /// A stack sent `frame`.
    #[inline]
    pub fn note(&self, frame: &[u8]) {
        let bare_ack = frame
            .first_chunk::<HEADERS>()
            .is_some_and(|headers| headers[47] == TcpFlags::ACK.0 && headers[12..14] == [8, 0] && headers[23] == 6);
        if !bare_ack || self.strict.load(Relaxed) {
            self.keep(frame);
        }
        if !bare_ack {
            return;
        }
        self.ack.store(u32::from_be_bytes([frame[42], frame[43], frame[44], frame[45]]), Relaxed);
        self.window.store(u32::from(u16::from_be_bytes([frame[48], frame[49]])), Relaxed);
        self.acks.store(self.acks.load(Relaxed) + 1, Relaxed);
    }

    #[cold]
    fn keep(&self, frame: &[u8]) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(frame.to_vec());
        self.any_kept.store(true, Relaxed);
    }

    /// The handshake told these: acknowledgement number and window, unscaled.
    pub fn begin(&self, ack: u32, window: u32) {
        self.ack.store(ack, Relaxed);
        self.window.store(window, Relaxed);
    }

    /// The last acknowledgement number.
    #[inline]
    pub fn ack(&self) -> u32 {
        self.ack.load(Relaxed)
    }

    /// The last window, unscaled.
    #[inline]
    pub fn window(&self) -> u32 {
        self.window.load(Relaxed)
    }

    /// Bare ACKs so far.
    pub fn acks(&self) -> u64 {
        self.acks.load(Relaxed)
    }

    /// Whether every frame is kept.
    pub fn set_strict(&self, strict: bool) {
        self.strict.store(strict, Relaxed);
    }

    /// The frames that were kept, oldest first.
    #[inline]
    pub fn take_kept(&self) -> Vec<Vec<u8>> {
        if !self.any_kept.load(Relaxed) {
            return Vec::new();
        }
        self.any_kept.store(false, Relaxed);
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
