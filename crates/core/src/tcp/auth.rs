//! Authentication options (TCP MD5, RFC 2385; TCP-AO, RFC 5925), of which this stack has no keys: what becomes of
//! segments that carry them (`tcp_parse_auth_options`, `tcp_inbound_hash`).

use rxpath_trace::DropReason;

use super::Segment;

const END: u8 = 0;
const NOP: u8 = 1;
const MD5: u8 = 19;
const MD5_LEN: u8 = 18;
const AO: u8 = 29;
/// Kind, length, two key numbers and at least one byte of code.
const AO_LEN_MIN: u8 = 5;
/// Options are looked through while at least this much is left of them: room for an MD5 signature.
const SCANNED_MIN: usize = MD5_LEN as usize;

/// Which authentication option a segment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// None.
    None,
    /// An MD5 signature.
    Md5,
    /// An authentication code.
    Ao,
}

/// True if a segment's options are long enough to be looked through.
#[inline(always)]
pub(super) fn may_carry(seg: &Segment) -> bool {
    usize::from(seg.header_len) >= 20 + SCANNED_MIN
}

/// Finds the authentication option.
///
/// # Errors
/// An option reaches beyond the header, or there are two authentication options, or one has an impossible length.
pub(super) fn parse(mut options: &[u8]) -> Result<Auth, DropReason> {
    let mut found = Auth::None;
    while options.len() >= SCANNED_MIN {
        let (kind, len) = match options {
            [END, ..] => break,
            [NOP, rest @ ..] => {
                options = rest;
                continue;
            }
            [kind, len, ..] => (*kind, *len),
            _ => break,
        };
        let auth = match kind {
            MD5 if len == MD5_LEN => Auth::Md5,
            AO if len >= AO_LEN_MIN => Auth::Ao,
            MD5 | AO => return Err(DropReason::TcpAuthHdr),
            _ => Auth::None,
        };
        if auth != Auth::None && std::mem::replace(&mut found, auth) != Auth::None {
            return Err(DropReason::TcpAuthHdr);
        }
        match options.get(usize::from(len)..) {
            Some(rest) if len >= 2 => options = rest,
            _ => return Err(DropReason::TcpAuthHdr),
        }
    }
    Ok(found)
}

/// The reason for which a socket without keys refuses the segment, if it does. An authentication code passes unread.
pub(super) fn refused(options: &[u8]) -> Option<DropReason> {
    match parse(options) {
        Ok(Auth::None | Auth::Ao) => None,
        Ok(Auth::Md5) => Some(DropReason::TcpMd5unexpected),
        Err(reason) => Some(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options, filled up with NOPs to `len` bytes.
    fn of(options: &[u8], len: usize) -> Result<Auth, DropReason> {
        let mut field = options.to_vec();
        field.resize(len, NOP);
        parse(&field)
    }

    #[test]
    fn options_are_read_as_the_kernel_reads_them() {
        let malformed = Err(DropReason::TcpAuthHdr);
        let md5 = [&[MD5, MD5_LEN][..], &[7; 16]].concat();
        assert_eq!(of(&[], 20), Ok(Auth::None));
        assert_eq!(of(&[254, 0], 20), malformed);
        assert_eq!(of(&[254, 1], 20), malformed);
        assert_eq!(of(&[254, 21], 20), malformed);
        assert_eq!(of(&[254, 20], 20), Ok(Auth::None));
        assert_eq!(of(&[254, 0], 16), Ok(Auth::None), "too short to be looked through");
        assert_eq!(of(&[&[NOP; 18][..], &[254, 1]].concat(), 20), Ok(Auth::None), "so is the end of it");
        assert_eq!(of(&[END, 254, 0], 20), Ok(Auth::None));
        assert_eq!(of(&md5, 20), Ok(Auth::Md5));
        assert_eq!(of(&[MD5, 17], 20), malformed);
        assert_eq!(of(&[AO, 4], 24), malformed);
        assert_eq!(of(&[AO, 5], 24), Ok(Auth::Ao));
        assert_eq!(of(&[AO, 5, 0, 0, 0, AO, 5], 36), malformed);
        assert_eq!(of(&[&md5[..], &md5].concat(), 36), malformed);
    }

    #[test]
    fn nothing_panics() {
        for len in 0..=40 {
            for kind in 0..=255 {
                for option_len in [0, 1, 2, 17, 18, 19, 40, 255] {
                    let _ = of(&[kind, option_len], len);
                    let _ = of(&[NOP, kind, option_len, kind, option_len], len);
                }
            }
        }
    }
}
