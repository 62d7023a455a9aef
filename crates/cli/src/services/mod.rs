//! What `rxpath serve` runs on a stack: http, echo, discard, chargen.
//!
//! Each is a function over anything that reads and writes, so that it is tested without a stack; it returns when the peer
//! has ended. A peer that does nothing for too long is for the stream's time-outs.

pub mod http;
mod plain;

use std::borrow::Cow;
use std::io::{self, Read, Write};

use rxpath::config::App;

pub use plain::{chargen, discard, echo, pattern_at};

/// Serves one connection to its end.
///
/// # Errors
/// The connection failed, or did nothing for longer than its time-outs allow.
pub fn serve<S: Read + Write>(app: App, stream: &mut S, page: &dyn Fn() -> String) -> io::Result<()> {
    match app {
        App::Http => http::serve(stream, page),
        App::Echo => echo(stream),
        App::Discard => discard(stream),
        App::Chargen => chargen(stream),
    }
}

/// What answers the `count`-th datagram of a service, if anything does: the same for echo, nothing for discard, up to 512
/// characters for chargen.
pub fn answer(app: App, datagram: &[u8], count: u64) -> Option<Cow<'_, [u8]>> {
    match app {
        App::Echo => Some(Cow::Borrowed(datagram)),
        App::Chargen => {
            // RFC 864 asks for a random number of characters; one that goes through all of them will do.
            let len = count.wrapping_mul(197) % (CHARGEN_MOST + 1);
            Some(Cow::Owned((0..len).map(pattern_at).collect()))
        }
        App::Discard | App::Http => None,
    }
}

/// Characters in a datagram of chargen (RFC 864).
const CHARGEN_MOST: u64 = 512;

/// How a service is called.
pub const fn name(app: App) -> &'static str {
    match app {
        App::Http => "http",
        App::Echo => "echo",
        App::Discard => "discard",
        App::Chargen => "chargen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_answered_each_for_itself() {
        assert_eq!(answer(App::Echo, b"hello", 7).as_deref(), Some(&b"hello"[..]));
        assert_eq!(answer(App::Echo, b"", 7).as_deref(), Some(&b""[..]));
        assert_eq!(answer(App::Discard, b"hello", 7), None);
        let lengths: Vec<usize> =
            (0..513).filter_map(|count| answer(App::Chargen, b"", count)).map(|answer| answer.len()).collect();
        let mut sorted = lengths.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=512).collect::<Vec<usize>>(), "every length once");
        assert!(answer(App::Chargen, b"", 1).is_some_and(|text| text.starts_with(b" !\"#")));
    }
}
