//! The authentication options of a segment: TCP MD5 (RFC 2385) and TCP-AO (RFC 5925 section 2.2), as the kernel finds them
//! (`tcp_parse_auth_options`).

use rxpath_trace::DropReason;

use super::super::Segment;

const END: u8 = 0;
const NOP: u8 = 1;
pub(super) const MD5: u8 = 19;
pub(super) const MD5_LEN: u8 = 18;
pub(super) const AO: u8 = 29;
/// Kind, length, two key numbers and at least one byte of code.
const AO_LEN_MIN: u8 = 5;
/// Options are looked through while at least this much is left of them: room for an MD5 signature. Who has no keys of
/// TCP-AO finds no code in less.
const SCANNED_MIN: usize = MD5_LEN as usize;

/// The authentication option that a segment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Auth<'a> {
    /// None.
    None,
    /// An MD5 signature.
    Md5(&'a [u8]),
    /// An authentication code.
    Ao(AoOption<'a>),
}

/// An authentication code (RFC 5925 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct AoOption<'a> {
    /// The key that the sender used, by its own number.
    pub(super) key_id: u8,
    /// The key that the sender wants to be used towards it, by its own number.
    pub(super) rnext: u8,
    /// The code.
    pub(super) mac: &'a [u8],
}

/// True if a segment's options are long enough to be looked through.
#[inline(always)]
pub(in super::super) fn may_carry(seg: &Segment) -> bool {
    usize::from(seg.header_len) >= 20 + SCANNED_MIN
}

/// Finds the authentication option, as who has no keys of TCP-AO.
///
/// # Errors
/// An option reaches beyond the header, or there are two authentication options, or one has an impossible length.
pub(in super::super) fn parse(options: &[u8]) -> Result<Auth<'_>, DropReason> {
    parse_down_to(options, SCANNED_MIN)
}

/// Finds the authentication option, be it as short as a code may be.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_all(options: &[u8]) -> Result<Auth<'_>, DropReason> {
    parse_down_to(options, usize::from(AO_LEN_MIN))
}

fn parse_down_to(mut options: &[u8], scanned_min: usize) -> Result<Auth<'_>, DropReason> {
    let mut found = Auth::None;
    while options.len() >= scanned_min {
        let (kind, len) = match options {
            [END, ..] => break,
            [NOP, rest @ ..] => {
                options = rest;
                continue;
            }
            [kind, len, ..] => (*kind, *len),
            _ => break,
        };
        let Some((option, rest)) = options.split_at_checked(usize::from(len)).filter(|_| len >= 2) else {
            return Err(DropReason::TcpAuthHdr);
        };
        let auth = match (kind, option) {
            (MD5, [_, _, digest @ ..]) if len == MD5_LEN => Auth::Md5(digest),
            (AO, [_, _, key_id, rnext, mac @ ..]) if len >= AO_LEN_MIN => {
                Auth::Ao(AoOption { key_id: *key_id, rnext: *rnext, mac })
            }
            (MD5 | AO, _) => return Err(DropReason::TcpAuthHdr),
            _ => Auth::None,
        };
        if auth != Auth::None && std::mem::replace(&mut found, auth) != Auth::None {
            return Err(DropReason::TcpAuthHdr);
        }
        options = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options, filled up with NOPs to `len` bytes.
    fn field(options: &[u8], len: usize) -> Vec<u8> {
        let mut field = options.to_vec();
        field.resize(len, NOP);
        field
    }

    fn is_none(options: &[u8], len: usize) -> bool {
        parse(&field(options, len)) == Ok(Auth::None)
    }

    fn is_malformed(options: &[u8], len: usize) -> bool {
        parse(&field(options, len)) == Err(DropReason::TcpAuthHdr)
    }

    #[test]
    fn options_are_read_as_the_kernel_reads_them() {
        let md5 = [&[MD5, MD5_LEN][..], &[7; 16]].concat();
        assert!(is_none(&[], 20));
        assert!(is_malformed(&[254, 0], 20));
        assert!(is_malformed(&[254, 1], 20));
        assert!(is_malformed(&[254, 21], 20));
        assert!(is_none(&[254, 20], 20));
        assert!(is_none(&[254, 0], 16), "too short to be looked through");
        assert!(is_none(&[&[NOP; 18][..], &[254, 1]].concat(), 20), "so is the end of it");
        assert!(is_none(&[END, 254, 0], 20));
        assert_eq!(parse(&field(&md5, 20)), Ok(Auth::Md5(&[7; 16])));
        assert!(is_malformed(&[MD5, 17], 20));
        assert!(is_malformed(&[AO, 4], 24));
        let code = |key_id, rnext, mac| Ok(Auth::Ao(AoOption { key_id, rnext, mac }));
        assert_eq!(parse(&field(&[AO, 5], 24)), code(NOP, NOP, &[NOP]));
        assert!(is_malformed(&[AO, 5, 0, 0, 0, AO, 5], 36));
        assert!(is_malformed(&[&md5[..], &md5].concat(), 36));
    }

    #[test]
    fn who_has_keys_finds_short_codes_too() {
        let options = [AO, 16, 3, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        assert!(is_none(&options, 16));
        assert_eq!(parse_all(&options), Ok(Auth::Ao(AoOption { key_id: 3, rnext: 4, mac: &[1; 12] })));
        assert_eq!(parse_all(&options[..4]), Ok(Auth::None));
        assert_eq!(parse_all(&options[..8]), Err(DropReason::TcpAuthHdr));
    }

    #[test]
    fn nothing_panics() {
        for len in 0..=40 {
            for kind in 0..=255 {
                for option_len in [0, 1, 2, 4, 5, 17, 18, 19, 40, 255] {
                    let (whole, shifted) =
                        (field(&[kind, option_len], len), field(&[NOP, kind, option_len, kind, option_len], len));
                    let _ = (parse(&whole), parse_all(&whole), parse(&shifted), parse_all(&shifted));
                }
            }
        }
    }
}
