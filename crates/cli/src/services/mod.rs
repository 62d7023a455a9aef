//! What `rxpath serve` runs on a stack: http, echo, discard, chargen.
//!
//! Each is a function over anything that reads and writes, so that it is tested without a stack; it returns when the peer
//! has ended. A peer that does nothing for too long is for the stream's time-outs.

pub mod http;
mod plain;

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

/// How a service is called.
pub const fn name(app: App) -> &'static str {
    match app {
        App::Http => "http",
        App::Echo => "echo",
        App::Discard => "discard",
        App::Chargen => "chargen",
    }
}
