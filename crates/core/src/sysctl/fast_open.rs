//! The keys of Fast Open cookies, in the kernel's form: `a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4`, and a second one behind a
//! comma.

use std::fmt;

use super::{Form, Value};

/// A key of 16 bytes, as four words whose bytes are in little-endian order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FastOpenKey(pub [u32; 4]);

impl FastOpenKey {
    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> FastOpenKey {
        let mut words = [0; 4];
        let (chunks, _) = bytes.as_chunks::<4>();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u32::from_le_bytes(*chunk);
        }
        FastOpenKey(words)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (chunks, _) = bytes.as_chunks_mut::<4>();
        for (chunk, word) in chunks.iter_mut().zip(self.0) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }

    /// The two halves that SipHash takes.
    pub fn halves(self) -> (u64, u64) {
        let [a, b, c, d] = self.0.map(u64::from);
        (b << 32 | a, d << 32 | c)
    }

    fn show(self) -> String {
        self.0.map(|word| format!("{word:08x}")).join("-")
    }
}

impl fmt::Debug for FastOpenKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastOpenKey").finish_non_exhaustive()
    }
}

/// The key that cookies are made with, and one whose cookies are still good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastOpenKeys {
    /// Makes cookies.
    pub current: FastOpenKey,
    /// Made them before.
    pub backup: Option<FastOpenKey>,
}

impl FastOpenKeys {
    /// Nobody has set any.
    pub const NONE: FastOpenKeys = FastOpenKeys { current: FastOpenKey([0; 4]), backup: None };
}

impl Value for FastOpenKeys {
    const FORM: Form = Form::Keys;

    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        let (keys, []) = numbers.as_chunks::<4>() else { return None };
        let (current, rest) = keys.split_first()?;
        let backup = match rest {
            [] => None,
            [backup] => Some(FastOpenKey(*backup)),
            _ => return None,
        };
        Some(FastOpenKeys { current: FastOpenKey(*current), backup })
    }

    fn show(&self) -> String {
        let backup = self.backup.map_or(String::new(), |key| format!(",{}", key.show()));
        format!("{}{backup}", self.current.show())
    }
}

/// The words of one or two keys; None if it is not that.
pub(super) fn words(text: &str) -> Option<Vec<u32>> {
    let mut words = Vec::new();
    for (index, key) in text.split(',').enumerate() {
        let numbers: Vec<u32> = key.split('-').map(word).collect::<Option<_>>()?;
        if numbers.len() != 4 || index > 1 {
            return None;
        }
        words.extend(numbers);
    }
    Some(words)
}

fn word(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysctl::Sysctls;

    #[test]
    fn keys_are_read_and_shown_in_the_kernels_form() {
        let name = "net.ipv4.tcp_fastopen_key";
        let mut sysctls = Sysctls::default();
        assert_eq!(sysctls.show(name).as_deref(), Some("00000000-00000000-00000000-00000000"));
        sysctls.set(name, "1-2-3-4,a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d5").expect("two keys");
        let shown = sysctls.show(name);
        assert_eq!(shown.as_deref(), Some("00000001-00000002-00000003-00000004,a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d5"));
        for wrong in
            ["1-2-3", "1-2-3-4-5", "1-2-3-4,", "x-2-3-4", "1-2-3-100000000", "1-2-3-+4", "1-2-3-4,5-6-7-8,9-9-9-9"]
        {
            let error = sysctls.set(name, wrong).expect_err(wrong).to_string();
            assert!(error.contains("is not one or two keys of four hexadecimal numbers"), "{error}");
            assert_eq!(sysctls.show(name), shown, "{wrong}");
        }
    }

    #[test]
    fn the_words_of_a_key_are_little_endian() {
        let bytes = std::array::from_fn(|at| at as u8);
        let key = FastOpenKey::from_bytes(bytes);
        assert_eq!(key.0[0], 0x0302_0100);
        assert_eq!(key.halves(), (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908));
        assert_eq!(key.to_bytes(), bytes);
    }
}
