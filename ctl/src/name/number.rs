//! Numbers and lengths of time, as operators write them.
//!
//! One rule for all of them, wherever they are written: decimal digits, without a sign, without blanks, without leading zeros. Other
//! programs read `080` as octal, and a `+80` or a `1 5m` is a slip of the hand: who wrote it should look again.

use std::str::FromStr;
use std::time::Duration;

use crate::name::error::NameError;

/// Reads a number. `None` if the text is not one, or too large for the type.
pub fn parse_number<T: FromStr>(text: &str) -> Option<T> {
    let plain = match text.as_bytes() {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if plain { text.parse().ok() } else { None }
}

/// Reads a length of time of whole seconds: `90s`, `15m`, `1h 30m`.
pub fn parse_seconds(text: &str) -> Result<u32, NameError> {
    let error = || NameError::Time(text.into());
    if !text.split(' ').all(is_parts) {
        return Err(error());
    }
    let time = humantime::parse_duration(text).map_err(|_| error())?;
    if time.subsec_nanos() != 0 {
        return Err(NameError::PartOfSecond(text.into()));
    }
    u32::try_from(time.as_secs()).map_err(|_| error())
}

/// Reads a length of time of whole milliseconds: `500ms`, `1s`, `1m 30s`.
pub(super) fn parse_span(text: &str) -> Result<Duration, NameError> {
    let error = || NameError::Span(text.into());
    if !text.split(' ').all(is_parts) || text.contains('.') {
        return Err(error());
    }
    let time = humantime::parse_duration(text).map_err(|_| error())?;
    if time.subsec_nanos() % 1_000_000 == 0 { Ok(time) } else { Err(error()) }
}

/// Whether a word is numbers, each with a unit: `1h30m`.
fn is_parts(word: &str) -> bool {
    let mut rest = word;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, more) = rest.split_at(unit);
        let (unit, next) = more.split_at(more.find(|c: char| c.is_ascii_digit()).unwrap_or(more.len()));
        let whole = number.split_once('.').map_or(number, |(whole, _)| whole);
        let is_unit = !unit.is_empty() && unit.bytes().all(|c| c.is_ascii_alphabetic());
        if parse_number::<u64>(whole).is_none() || !is_unit {
            return false;
        }
        rest = next;
    }
    !word.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_digits_alone() {
        assert_eq!(["0", "7", "80", "65535"].map(parse_number::<u16>), [Some(0), Some(7), Some(80), Some(65_535)]);
        for text in ["", "+80", "-1", " 80", "80 ", "080", "00", "8_0", "0x50", "80.0", "8e1", "65536", "٨٠", "８０"]
        {
            assert_eq!(parse_number::<u16>(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("1h 30m", 5_400),
            ("1h30m", 5_400),
            ("1.5h", 5_400),
            ("2h", 7_200),
            ("0s", 0),
            ("3000ms", 3),
        ] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in [
            "", " ", "15", "1x", "-1s", "+5s", "200years", " 5s", "5s ", "5 s", "1 5m", "05m", "1h  30m", "s", "1..5s",
            "µs", "5\ts", "5µs",
        ] {
            assert_eq!(parse_seconds(text), Err(NameError::Time(text.into())), "{text}");
        }
    }

    /// Taken for 0 s, a drain would end at once.
    #[test]
    fn parts_of_a_second_are_not_lost() {
        for text in ["500ms", "1.5s", "1s 1ns", "0.1m 1us"] {
            assert_eq!(parse_seconds(text), Err(NameError::PartOfSecond(text.into())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number: u64) {
            prop_assert_eq!(parse_number(&number.to_string()), Some(number));
        }

        #[test]
        fn what_is_read_is_what_is_written(text in "[+ 0-9_x-]{0,8}") {
            if let Some(number) = parse_number::<u64>(&text) {
                prop_assert_eq!(number.to_string(), text);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_seconds(&text);
        }

        #[test]
        fn times_are_read_as_they_are_displayed(seconds: u32) {
            let text = humantime::format_duration(std::time::Duration::from_secs(seconds.into())).to_string();
            prop_assert_eq!(parse_seconds(&text), Ok(seconds), "{}", text);
        }
    }
}
