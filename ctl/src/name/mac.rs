//! MAC addresses.

use std::fmt;
use std::str::FromStr;

use crate::name::error::NameError;
use crate::name::words::serde_as_text;

/// A MAC address; written and read as `52:54:00:12:34:56`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether frames may be addressed to exactly one station by it: not multicast, not all zeros.
    pub fn is_unicast(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::Mac(text.into());
        let mut bytes = [0; 6];
        let mut parts = text.split(if text.contains('-') { '-' } else { ':' });
        for byte in &mut bytes {
            let part = parts.next().filter(|part| (1..=2).contains(&part.len())).ok_or_else(error)?;
            // from_str_radix takes a sign
            if !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Mac(bytes)) }
    }
}

serde_as_text!(Mac);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_is_read_as_it_is_written() {
        let mac: Mac = "52:54:00:aB:34:5".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:34:05");
        assert_eq!("52-54-00-ab-34-05".parse(), Ok(mac));
    }

    #[test]
    fn what_is_no_mac_is_refused() {
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:zz",
            "+1:2:3:4:5:6",
            "525400123456",
            "52-54:00-12:34-56",
            " 52:54:00:12:34:56",
            "52:54:00:12:34:56 ",
            "052:54:00:12:34:56",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NameError::Mac(text.into())), "{text}");
        }
    }
}
