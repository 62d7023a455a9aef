//! A small HTTP/1.1 server: GET and HEAD, keep-alive, pipelining (RFC 9110, 9112).
//!
//! | path | gives |
//! |---|---|
//! | `/` | a page about the stack |
//! | `/bytes/N` | N bytes of the pattern of RFC 864, at most 1 GiB |
//!
//! A head has at most 16 KiB, a body that is passed over at most 1 MiB; what is malformed is answered with its status and
//! the connection is closed, as where the next request would begin is unknown. Nothing that comes panics.

mod request;

use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use request::{MAX_HEAD, Method, Request, Status, Target};

use super::pattern_at;

/// Most bytes of a request's body that are read and forgotten.
const MAX_BODY: u64 = 1 << 20;
/// Bytes of an answer that are gathered before they are sent.
const GATHERED: usize = 64 << 10;

/// Serves one connection: requests one after the other until the peer ends, asks to close, or sends what is malformed.
///
/// # Errors
/// Those of the stream.
pub fn serve<S: Read + Write>(stream: &mut S, page: &dyn Fn() -> String) -> io::Result<()> {
    let mut input = Input { bytes: vec![0; MAX_HEAD], begin: 0, end: 0 };
    let mut output = Vec::with_capacity(GATHERED);
    loop {
        let request = match Request::parse(input.filled()) {
            Ok(Some((request, len))) => {
                input.begin += len;
                request
            }
            Ok(None) if input.is_full() => {
                refuse(&mut output, Status::HeadTooLarge);
                return stream.write_all(&output);
            }
            Ok(None) => {
                // All requests that came are answered: only now is it worth a segment.
                stream.write_all(&output)?;
                output.clear();
                if input.read(stream)? == 0 {
                    return Ok(());
                }
                continue;
            }
            Err(status) => {
                refuse(&mut output, status);
                return stream.write_all(&output);
            }
        };
        if request.body > MAX_BODY {
            refuse(&mut output, Status::BodyTooLarge);
            return stream.write_all(&output);
        }
        if !input.pass_over(stream, request.body)? {
            return Ok(());
        }
        answer(stream, &mut output, request, page)?;
        if !request.keep_alive {
            return stream.write_all(&output);
        }
    }
}

/// What came and was not yet looked at.
struct Input {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Input {
    fn filled(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }

    fn is_full(&self) -> bool {
        self.end - self.begin == self.bytes.len()
    }

    fn read(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.bytes.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        let n = stream.read(&mut self.bytes[self.end..])?;
        self.end += n;
        Ok(n)
    }

    /// Drops `n` bytes, reading more where needed; false if the peer ends before.
    fn pass_over(&mut self, stream: &mut impl Read, mut n: u64) -> io::Result<bool> {
        loop {
            let here = n.min((self.end - self.begin) as u64);
            self.begin += here as usize;
            n -= here;
            if n == 0 {
                return Ok(true);
            }
            if self.read(stream)? == 0 {
                return Ok(false);
            }
        }
    }
}

/// Appends the answer to `output`; what does not fit there is sent.
fn answer(
    stream: &mut impl Write,
    output: &mut Vec<u8>,
    request: Request,
    page: &dyn Fn() -> String,
) -> io::Result<()> {
    let keep = request.keep_alive;
    let with_body = match request.method {
        Method::Get => true,
        Method::Head => false,
        Method::Other => {
            say(output, Status::MethodNotAllowed, keep, true);
            return Ok(());
        }
    };
    match request.target {
        Target::Nothing => say(output, Status::NotFound, keep, with_body),
        Target::Bytes(n) => {
            head(output, Status::Ok, "text/plain", n, keep);
            if with_body {
                send_pattern(stream, output, n)?;
            }
        }
        Target::Page => {
            let page = page();
            head(output, Status::Ok, "text/html; charset=utf-8", page.len() as u64, keep);
            if with_body {
                output.extend_from_slice(page.as_bytes());
            }
        }
    }
    if output.len() > GATHERED {
        stream.write_all(output)?;
        output.clear();
    }
    Ok(())
}

fn send_pattern(stream: &mut impl Write, output: &mut Vec<u8>, n: u64) -> io::Result<()> {
    for at in 0..n {
        output.push(pattern_at(at));
        if output.len() >= GATHERED {
            stream.write_all(output)?;
            output.clear();
        }
    }
    Ok(())
}

/// The last answer of a connection.
fn refuse(output: &mut Vec<u8>, status: Status) {
    say(output, status, false, true);
}

/// An answer that consists of its status.
fn say(output: &mut Vec<u8>, status: Status, keep_alive: bool, with_body: bool) {
    let text = format!("{}\n", status.line());
    head(output, status, "text/plain", text.len() as u64, keep_alive);
    if with_body {
        output.extend_from_slice(text.as_bytes());
    }
}

fn head(output: &mut Vec<u8>, status: Status, kind: &str, len: u64, keep_alive: bool) {
    let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let close = if keep_alive { "" } else { "Connection: close\r\n" };
    let date = date(SystemTime::now());
    let line = status.line();
    // Writing to a Vec cannot fail.
    let _ = write!(
        output,
        "HTTP/1.1 {line}\r\nServer: rxpath\r\nDate: {date}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{allow}{close}\r\n"
    );
}

/// A moment as RFC 9110 section 5.6.7 writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(at: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS[(days % 7) as usize];
    // Years are counted from March, so that a leap day ends its year (days from 0000-03-01, in eras of 400 years).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{weekday}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", MONTHS[month as usize])
}

#[cfg(test)]
pub mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;

    /// A stream that gives what it was made with, piece by piece, and keeps what is written.
    pub struct Script {
        pieces: VecDeque<Vec<u8>>,
        /// What was written.
        pub written: Vec<u8>,
        /// How much it takes before it is closed.
        pub room: usize,
    }

    impl Script {
        /// One that takes everything.
        pub fn new(pieces: &[&[u8]]) -> Script {
            let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
            Script { pieces, written: Vec::new(), room: usize::MAX }
        }

        /// Whether all was read.
        pub fn is_read(&self) -> bool {
            self.pieces.is_empty()
        }
    }

    impl Read for Script {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.pieces.front_mut() else { return Ok(0) };
            let n = piece.len().min(buf.len());
            buf[..n].copy_from_slice(&piece[..n]);
            piece.drain(..n);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            Ok(n)
        }
    }

    impl Write for Script {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            if self.written.len() >= self.room {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.written.extend_from_slice(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is answered to these pieces; the date is left out.
    fn answers(pieces: &[&[u8]]) -> String {
        let mut stream = Script::new(pieces);
        serve(&mut stream, &|| "<p>page".to_owned()).expect("the script does not fail");
        let text = String::from_utf8(stream.written).expect("text");
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: ")).collect()
    }

    const PAGE: &str = "HTTP/1.1 200 OK\r\nServer: rxpath\r\nContent-Type: text/html; charset=utf-8\r\n\
                        Content-Length: 7\r\n\r\n";

    #[test]
    fn a_page_is_given_however_its_request_is_cut() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let want = format!("{PAGE}<p>page");
        assert_eq!(answers(&[request]), want);
        let bytes: Vec<&[u8]> = request.chunks(1).collect();
        assert_eq!(answers(&bytes), want);
    }

    #[test]
    fn requests_in_a_row_are_answered_in_a_row() {
        let two = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(answers(&[two]), format!("{PAGE}<p>page{PAGE}"));
    }

    #[test]
    fn a_connection_ends_when_asked_to() {
        let close =
            answers(&[b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"]);
        assert_eq!(close.matches("HTTP/1.1 ").count(), 1);
        assert!(close.contains("Connection: close\r\n"), "{close}");
        let old = answers(&[b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"]);
        assert_eq!(old.matches("HTTP/1.1 ").count(), 1);
        let kept = answers(&[b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n"]);
        assert_eq!(kept.matches("HTTP/1.1 ").count(), 2);
    }

    #[test]
    fn bodies_are_passed_over() {
        let text = answers(&[
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234",
            b"56789GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        ]);
        assert_eq!(text.matches("200 OK").count(), 1);
        assert!(text.contains("404 Not Found"), "{text}");
        let endless = answers(&[b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n"]);
        assert!(endless.starts_with("HTTP/1.1 413 "), "{endless}");
    }

    #[test]
    fn what_cannot_be_given_is_said() {
        let status = |request: &[u8]| answers(&[request]).lines().next().unwrap_or_default().to_owned();
        assert_eq!(status(b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(status(b"GET /bytes/x HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 404 Not Found");
        assert_eq!(status(b"GET /bytes/1073741825 HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 404 Not Found");
        assert_eq!(status(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"), "HTTP/1.1 505 HTTP Version Not Supported");
        assert_eq!(status(b"\x16\x03\x01\x02\x00\n\n"), "HTTP/1.1 400 Bad Request");
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), "HTTP/1.1 400 Bad Request");
        let long = [&b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..], &b"x".repeat(MAX_HEAD)].concat();
        assert_eq!(status(&long), "HTTP/1.1 431 Request Header Fields Too Large");
        assert_eq!(answers(&[b"GET / HT"]), "");
    }

    #[test]
    fn many_bytes_come_whole() {
        let mut stream = Script::new(&[b"GET /bytes/200000 HTTP/1.1\r\nHost: a\r\n\r\n"]);
        serve(&mut stream, &String::new).expect("the script does not fail");
        let head = stream.written.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let body = &stream.written[head..];
        assert_eq!(body.len(), 200_000);
        assert!(body.iter().enumerate().all(|(at, byte)| *byte == pattern_at(at as u64)));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), want);
        }
    }
}
