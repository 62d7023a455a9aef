//! The Fast Open option (RFC 7413 section 4.1.1), also in the form that was used before it had a
//! number of its own (RFC 6994).

use super::TcpOptionsWriter;
use std::fmt;

const END: u8 = 0;
const NOP: u8 = 1;
const FAST_OPEN: u8 = 34;
const EXPERIMENTAL: u8 = 254;
/// What an experimental option begins with if it is this one (RFC 7413 appendix A).
const MAGIC: [u8; 2] = [0xf9, 0x89];

/// What the Fast Open option of a SYN or SYN-ACK says: a cookie, or, without one, that one is
/// wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FastOpen {
    cookie: [u8; FastOpen::COOKIE_MAX],
    len: u8,
    /// The option goes as experiment 0xf989 of kind 254, not as kind 34.
    pub experimental: bool,
}

impl fmt::Debug for FastOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastOpen").field("len", &self.len).field("experimental", &self.experimental).finish()
    }
}

impl FastOpen {
    /// Longest cookie.
    pub const COOKIE_MAX: usize = 16;
    /// Shortest cookie.
    pub const COOKIE_MIN: usize = 4;

    /// The request for a cookie.
    pub const fn request(experimental: bool) -> FastOpen {
        FastOpen { cookie: [0; FastOpen::COOKIE_MAX], len: 0, experimental }
    }

    /// An option with this cookie; None if a cookie cannot be so long: 4 to 16 bytes, an even
    /// number. Of no bytes it is the request.
    pub fn with_cookie(cookie: &[u8], experimental: bool) -> Option<FastOpen> {
        let sound =
            (FastOpen::COOKIE_MIN..=FastOpen::COOKIE_MAX).contains(&cookie.len()) && cookie.len().is_multiple_of(2);
        let mut option = FastOpen::request(experimental);
        if !cookie.is_empty() {
            if !sound {
                return None;
            }
            option.cookie[..cookie.len()].copy_from_slice(cookie);
            option.len = cookie.len() as u8;
        }
        Some(option)
    }

    /// The cookie; empty in a request.
    pub fn cookie(&self) -> &[u8] {
        &self.cookie[..usize::from(self.len)]
    }

    /// Whether a cookie is asked for.
    pub fn is_request(&self) -> bool {
        self.len == 0
    }

    /// Reads the option out of an options field, as leniently as [`super::TcpOptions::parse`]
    /// reads the others: one with a cookie of an impossible length is none.
    pub fn parse(field: &[u8]) -> Option<FastOpen> {
        let (mut found, mut rest) = (None, field);
        while let [kind, after @ ..] = rest {
            match *kind {
                END => break,
                NOP => rest = after,
                kind => {
                    let Some((&len, _)) = after.split_first() else { break };
                    let Some((option, after)) = rest.split_at_checked(usize::from(len)) else { break };
                    let Some(value) = option.get(2..) else { break };
                    found = FastOpen::read(kind, value).or(found);
                    rest = after;
                }
            }
        }
        found
    }

    fn read(kind: u8, value: &[u8]) -> Option<FastOpen> {
        match kind {
            FAST_OPEN => FastOpen::with_cookie(value, false),
            EXPERIMENTAL => FastOpen::with_cookie(value.strip_prefix(&MAGIC)?, true),
            _ => None,
        }
    }

    /// Bytes that [`TcpOptionsWriter::fast_open`] adds.
    fn padded_len(&self) -> usize {
        let head = if self.experimental { 4 } else { 2 };
        (head + usize::from(self.len)).next_multiple_of(4)
    }
}

impl TcpOptionsWriter {
    /// The Fast Open option, with NOPs behind it to whole words, as Linux has it; nothing where
    /// there is no room for it.
    pub fn fast_open(&mut self, option: &FastOpen) -> &mut Self {
        if self.as_bytes().len() + option.padded_len() > super::MAX_OPTIONS_LEN {
            return self;
        }
        let cookie = option.cookie();
        let len = cookie.len() as u8;
        if option.experimental {
            self.raw(&[EXPERIMENTAL, 4 + len]).raw(&MAGIC).raw(cookie);
        } else {
            self.raw(&[FAST_OPEN, 2 + len]).raw(cookie);
        }
        while !self.as_bytes().len().is_multiple_of(4) {
            self.raw(&[NOP]);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::TcpOptions;
    use super::*;

    fn written(option: FastOpen) -> Vec<u8> {
        TcpOptionsWriter::new().fast_open(&option).as_bytes().to_vec()
    }

    #[test]
    fn options_are_written_as_linux_writes_them_and_read_back() {
        let cookie = [1, 2, 3, 4, 5, 6, 7, 8];
        let cases = [
            (FastOpen::request(false), &[34, 2, 1, 1][..]),
            (FastOpen::request(true), &[254, 4, 0xf9, 0x89]),
            (FastOpen::with_cookie(&cookie, false).unwrap(), &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]),
            (FastOpen::with_cookie(&cookie, true).unwrap(), &[254, 12, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8]),
        ];
        for (option, bytes) in cases {
            assert_eq!(written(option), bytes);
            assert_eq!(FastOpen::parse(bytes), Some(option));
        }
    }

    #[test]
    fn the_longest_cookie_fits_behind_all_others_and_what_does_not_fit_is_left_out() {
        let all = TcpOptions {
            mss: Some(1_460),
            wscale: Some(7),
            timestamps: Some((1, 2)),
            sack_permitted: true,
            ..TcpOptions::default()
        };
        for experimental in [false, true] {
            let option = FastOpen::with_cookie(&[9; 16], experimental).unwrap();
            let mut writer = TcpOptionsWriter::all(&all);
            assert_eq!(writer.fast_open(&option).as_bytes().len(), 40);
            assert_eq!(FastOpen::parse(writer.as_bytes()), Some(option));
            assert_eq!(TcpOptions::parse(writer.as_bytes()), all);
            assert_eq!(writer.fast_open(&FastOpen::request(false)).as_bytes().len(), 40);
        }
    }

    #[test]
    fn cookies_of_impossible_lengths_and_other_experiments_are_nothing() {
        for len in [1, 2, 3, 5, 7, 9, 15, 17, 18, 20] {
            let option = [&[34, 2 + len as u8][..], &vec![7; len]].concat();
            assert_eq!(FastOpen::parse(&option), None, "{len} bytes");
        }
        assert_eq!(FastOpen::parse(&[254, 4, 0xf9, 0x88]), None);
        assert_eq!(FastOpen::parse(&[254, 3, 0xf9]), None);
        assert_eq!(FastOpen::parse(&[34]), None);
        assert_eq!(FastOpen::parse(&[34, 1]), None);
        assert_eq!(FastOpen::parse(&[34, 10, 1]), None);
        assert_eq!(FastOpen::parse(&[0, 34, 2]), None);
        assert_eq!(FastOpen::parse(&[1, 1, 34, 2]), Some(FastOpen::request(false)));
    }
}
