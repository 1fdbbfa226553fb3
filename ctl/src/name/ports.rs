//! The L4 ports of a service.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::MAX_PORT_RANGES;
use crate::name::error::NameError;
use crate::name::number::parse_number;

/// One port, several, ranges of them, or all; written `80`, `80,443`, `8000-8100`, `any`.
///
/// In ascending order, neither overlapping nor adjacent, so that equal sets are equal values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    ranges: [PortRange; MAX_PORT_RANGES],
    len: u8,
}

/// From the first to the last port, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl PortRange {
    /// How many ports it has, less one: the smaller, the more specific.
    pub fn width(&self) -> u16 {
        self.last - self.first
    }

    /// Whether the port is in it.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    fn overlaps(&self, other: &PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Ports {
    /// All ports.
    pub const ANY: Ports = {
        let mut ranges = [PortRange { first: 0, last: 0 }; MAX_PORT_RANGES];
        ranges[0] = PortRange { first: 0, last: u16::MAX };
        Ports { ranges, len: 1 }
    };

    /// No port: sorts before all others, and is no service's.
    pub const NONE: Ports = Ports { ranges: [PortRange { first: 0, last: 0 }; MAX_PORT_RANGES], len: 0 };

    /// One port.
    pub const fn one(port: u16) -> Ports {
        let mut ranges = [PortRange { first: 0, last: 0 }; MAX_PORT_RANGES];
        ranges[0] = PortRange { first: port, last: port };
        Ports { ranges, len: 1 }
    }

    /// The ranges, single ports among them.
    pub fn ranges(&self) -> &[PortRange] {
        &self.ranges[..usize::from(self.len)]
    }

    /// The port, where it is exactly one.
    pub fn single(&self) -> Option<u16> {
        match self.ranges() {
            [PortRange { first, last }] if first == last => Some(*first),
            _ => None,
        }
    }

    /// Whether a port may belong to both, and neither is more specific. The narrower range has it; so two of the same width
    /// must not overlap.
    pub fn conflicts(&self, other: &Ports) -> bool {
        let ambiguous = |a: &PortRange, b: &PortRange| a.width() == b.width() && a.overlaps(b);
        self.ranges().iter().any(|a| other.ranges().iter().any(|b| ambiguous(a, b)))
    }

    fn from_ranges(mut ranges: Vec<PortRange>) -> Option<Ports> {
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
                _ => merged.push(range),
            }
        }
        let mut ports = Ports { len: u8::try_from(merged.len()).ok()?, ..Ports::NONE };
        ports.ranges.get_mut(..merged.len())?.copy_from_slice(&merged);
        Some(ports)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Ports::ANY {
            return f.write_str("any");
        }
        let ranges: Vec<String> = self.ranges().iter().map(ToString::to_string).collect();
        f.write_str(&ranges.join(","))
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ports {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "any" {
            return Ok(Ports::ANY);
        }
        let port = |text: &str| parse_number::<u16>(text).filter(|&port| port > 0);
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let range = PortRange { first: port(first)?, last: port(last)? };
            (range.first <= range.last).then_some(range)
        };
        // Between two of them, a blank may stand behind the comma: "80, 443".
        let (first, others) = text.split_once(',').map_or((text, None), |(first, others)| (first, Some(others)));
        let others = others.into_iter().flat_map(|others| others.split(','));
        let others = others.map(|other| other.strip_prefix(' ').unwrap_or(other));
        let ranges: Option<Vec<PortRange>> = std::iter::once(first).chain(others).map(range).collect();
        let ranges = ranges.ok_or_else(|| NameError::Ports(text.into()))?;
        Ports::from_ranges(ranges).ok_or_else(|| NameError::TooManyPorts(text.into()))
    }
}

/// A number where it is one port, else text.
impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.single() {
            Some(port) => serializer.serialize_u16(port),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a port, or text such as \"80,443\", \"8000-8100\" or \"any\"")]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ports(text: &str) -> Ports {
        text.parse().unwrap()
    }

    #[test]
    fn equal_sets_are_equal_values() {
        for (written, normal) in
            [("80", "80"), ("443,80", "80,443"), ("80-90,85-100,101", "80-101"), ("1-65535", "1-65535"), ("any", "any")]
        {
            assert_eq!(ports(written).to_string(), normal);
            assert_eq!(ports(written), ports(normal));
        }
    }

    #[test]
    fn what_is_no_set_of_ports_is_refused() {
        for text in ["", "0", "65536", "http", "90-80", "80,", "80-", "-80", "1-2-3", "80;443"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
        for text in
            ["+80", " 80", "80 ", "080", "8000 - 8100", "8000- 8100", "+1-2", "1-+2", "80 ,443", "80,  443", " any"]
        {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
        assert_eq!(ports("80, 443"), ports("80,443"));
        let many: Vec<String> = (1..=16).map(|i| (i * 2).to_string()).collect();
        assert!(matches!(many.join(",").parse::<Ports>(), Err(NameError::TooManyPorts(_))));
        assert!(many[..15].join(",").parse::<Ports>().is_ok());
    }

    #[test]
    fn sets_conflict_where_neither_is_more_specific() {
        for (a, b, conflict) in [
            ("80", "80", true),
            ("80,443", "443", true),
            ("80", "70-90", false),
            ("80", "any", false),
            ("70-90", "85-105", true),
            ("70-90", "85-104", false),
            ("any", "any", true),
            ("80", "81", false),
        ] {
            assert_eq!(ports(a).conflicts(&ports(b)), conflict, "{a} and {b}");
            assert_eq!(ports(b).conflicts(&ports(a)), conflict, "{b} and {a}");
        }
    }

    #[test]
    fn json_has_a_number_where_it_can() {
        assert_eq!(serde_json::to_string(&ports("80")).unwrap(), "80");
        assert_eq!(serde_json::to_string(&ports("80,443")).unwrap(), "\"80,443\"");
        for (json, written) in [("80", "80"), ("\"80\"", "80"), ("\"any\"", "any")] {
            assert_eq!(serde_json::from_str::<Ports>(json).unwrap(), ports(written));
        }
        assert!(serde_json::from_str::<Ports>("65536").unwrap_err().to_string().contains("65536"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ranges in prop::collection::vec((1u16.., 0u16..200), 1..15)) {
            let ranges = ranges.into_iter().map(|(first, width)| PortRange { first, last: first.saturating_add(width) });
            let ports = Ports::from_ranges(ranges.collect()).unwrap();
            prop_assert_eq!(ports.to_string().parse::<Ports>().unwrap(), ports);
        }
    }
}
