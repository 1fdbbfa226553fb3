//! The key of the flow hash and of the Maglev tables: which keys are no secret, and how to come by one that is.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

/// A key, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

impl HashKey {
    /// Where the configuration has none: fixed, so that a restart moves no flow.
    pub const DEFAULT: HashKey = HashKey(*b"shunt-hash-key-0");

    /// The example of the documents. Whoever copies a file has it.
    pub const EXAMPLE: HashKey = HashKey(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes());

    /// Reads 32 hexadecimal digits.
    pub fn read(text: &str) -> Option<HashKey> {
        let is_key = text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit());
        if is_key { u128::from_str_radix(text, 16).ok().map(|key| HashKey(key.to_be_bytes())) } else { None }
    }

    /// A new one, of the operating system's randomness.
    pub fn fresh() -> io::Result<HashKey> {
        let mut key = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        Ok(HashKey(key))
    }

    /// Whether it can be read in Shunt's source or documents, or guessed.
    pub fn is_public(self) -> bool {
        [Self::DEFAULT, Self::EXAMPLE, HashKey([0; 16])].contains(&self)
    }

    /// What to do about a key that is public. Without a key to paste: what is in the log is no secret.
    pub fn warning(self) -> Option<String> {
        Some(self.complaint()? + "`shuntd --check FILE` prints a fresh one to paste")
    }

    /// The same with a fresh key, for an operator's eyes.
    pub fn advice(self) -> Option<String> {
        let complaint = self.complaint()?;
        match Self::fresh() {
            Ok(key) => Some(format!("{complaint}a fresh one is: hash_key = \"{key}\"")),
            Err(_) => self.warning(),
        }
    }

    fn complaint(self) -> Option<String> {
        let what = if self == Self::DEFAULT { "is not set" } else { "is one that everybody knows" };
        self.is_public().then(|| {
            format!(
                "director.hash_key {what}: clients can work out which backend they get, and send all their flows to one. Set a key of \
                 your own under [director], the same on all directors of these VIPs, and restart them together, since it moves \
                 running flows once; "
            )
        })
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A key is a secret: it is shown where that is meant.
impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_public() { "HashKey(public)" } else { "HashKey(secret)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_32_hexadecimal_digits() {
        let key = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF];
        assert_eq!(HashKey::read("0123456789abcdef0123456789ABCDEF"), Some(HashKey(key)));
        for text in [
            "",
            "0123456789abcdef0123456789abcde",
            "0123456789abcdef0123456789abcdeg",
            "0x",
            "+123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(HashKey::read(text), None, "{text}");
        }
        assert_eq!(HashKey::EXAMPLE.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(HashKey::read(&HashKey(key).to_string()), Some(HashKey(key)));
    }

    #[test]
    fn a_fresh_key_is_offered_where_the_key_is_public() {
        for public in [HashKey::DEFAULT, HashKey::EXAMPLE, HashKey([0; 16])] {
            let offered = |advice: String| {
                let (_, line) = advice.split_once("hash_key = \"").expect("a line to paste");
                HashKey::read(line.strip_suffix('"').unwrap()).unwrap()
            };
            let (one, other) = (offered(public.advice().unwrap()), offered(public.advice().unwrap()));
            assert!(one != other && !one.is_public(), "{one} {other}");
        }
        assert_eq!(HashKey::fresh().unwrap().advice(), None);
        assert!(HashKey::DEFAULT.advice().unwrap().contains("is not set"));
        assert!(HashKey::EXAMPLE.advice().unwrap().contains("everybody knows"));
    }

    #[test]
    fn the_log_has_no_key() {
        assert!(!HashKey::DEFAULT.warning().unwrap().contains("hash_key ="));
        assert_eq!(HashKey::fresh().unwrap().warning(), None);
    }
}
