//! The services of RFC 862, 863 and 864.

use std::io::{self, Read, Write};

/// Bytes that are moved at a time.
const BUFFER: usize = 64 << 10;
/// A line of RFC 864: 72 characters and the end of the line.
const LINE: usize = 74;
/// Lines after which the pattern of RFC 864 begins again: as many as there are printable characters.
const PRINTABLE: usize = 95;

/// Sends back what comes, until the peer ends (RFC 862).
///
/// # Errors
/// Those of the stream; so for all here.
pub fn echo<S: Read + Write>(stream: &mut S) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// Reads and forgets, until the peer ends (RFC 863).
pub fn discard<S: Read>(stream: &mut S) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Sends the characters of RFC 864 until the peer goes away. What the peer sends is not read.
pub fn chargen<S: Write>(stream: &mut S) -> io::Result<()> {
    // A whole number of repetitions, so that one buffer follows upon itself.
    let pattern: Vec<u8> = (0..LINE * PRINTABLE).map(|at| pattern_at(at as u64)).collect();
    loop {
        stream.write_all(&pattern)?;
    }
}

/// The byte at a place of the endless text of RFC 864: lines of 72 printable characters, each line beginning one
/// character later.
pub const fn pattern_at(at: u64) -> u8 {
    let (line, column) = (at / LINE as u64, at % LINE as u64);
    match column {
        72 => b'\r',
        73 => b'\n',
        column => b' ' + ((line + column) % PRINTABLE as u64) as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::http::tests::Script;

    #[test]
    fn echo_sends_back_what_came() {
        let mut stream = Script::new(&[b"hello ", b"world"]);
        echo(&mut stream).expect("ends with its input");
        assert_eq!(stream.written, b"hello world");
    }

    #[test]
    fn discard_reads_to_the_end_and_sends_nothing() {
        let mut stream = Script::new(&[b"hello ", b"world"]);
        discard(&mut stream).expect("ends with its input");
        assert!(stream.written.is_empty() && stream.is_read());
    }

    #[test]
    fn chargen_is_the_example_of_its_rfc() {
        let mut stream = Script::new(&[]);
        stream.room = 3 * LINE * PRINTABLE + 5;
        let error = chargen(&mut stream).expect_err("only the peer ends it");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let text = String::from_utf8(stream.written).expect("printable");
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg");
        assert_eq!(lines[1], "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh");
        assert_eq!(lines[PRINTABLE], lines[0]);
        assert!(lines[..lines.len() - 1].iter().all(|line| line.len() == 72));
        assert_eq!(lines[94], "~ !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdef");
    }
}
