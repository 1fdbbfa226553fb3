//! How a service treats its flows: what they are told apart by, which are remembered, and what becomes of them without a backend.

use std::fmt;
use std::str::FromStr;

use crate::name::error::{NameError, Words};
use crate::name::number::parse_number;
use crate::name::words::{serde_as_text, words};

/// Which flows of a service are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tracking {
    /// Those whose backend differs from what their hash says, after a change.
    #[default]
    Exceptions,
    /// All of them: for exact numbers of connections.
    All,
    /// None: each packet goes by the table as it is (LVS's one-packet scheduling). For UDP alone.
    None,
}

/// What becomes of packets to a service whose backends are all down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnAllDown {
    /// They are dropped.
    #[default]
    Drop,
    /// They go to the backends as if all were up.
    All,
}

/// What becomes of a backend whose clients get no answer, as their packets show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Passive {
    /// Nobody looks.
    Off,
    /// It is reported.
    #[default]
    Report,
    /// It is reported, and taken out for a time.
    Remove,
}

words!(Tracking, Tracking, Exceptions = "exceptions", All = "all", None = "none");
words!(OnAllDown, OnAllDown, Drop = "drop", All = "all");
words!(Passive, Passive, Off = "off", Report = "report", Remove = "remove");

/// What decides the backend of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum FlowHash {
    /// Addresses, ports and protocol: each flow by itself.
    #[default]
    FiveTuple,
    /// The client's address, or as many of its leading bits: each client, or each network of clients, as a whole.
    Source {
        /// The leading bits that count; `None`: all.
        prefix: Option<u8>,
    },
}

impl fmt::Display for FlowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlowHash::FiveTuple => f.write_str("5tuple"),
            FlowHash::Source { prefix: None } => f.write_str("source"),
            FlowHash::Source { prefix: Some(prefix) } => write!(f, "source/{prefix}"),
        }
    }
}

impl FromStr for FlowHash {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match (text, text.strip_prefix("source/")) {
            ("5tuple", _) => Ok(FlowHash::FiveTuple),
            ("source", _) => Ok(FlowHash::Source { prefix: None }),
            (_, Some(prefix)) => match parse_number::<u8>(prefix) {
                Some(prefix) if (1..=128).contains(&prefix) => Ok(FlowHash::Source { prefix: Some(prefix) }),
                _ => Err(NameError::FlowHash(text.into())),
            },
            _ => Err(NameError::FlowHash(text.into())),
        }
    }
}

serde_as_text!(FlowHash, Tracking, OnAllDown, Passive);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_hashes_are_read_as_they_are_written() {
        for text in ["5tuple", "source", "source/24", "source/128"] {
            assert_eq!(text.parse::<FlowHash>().unwrap().to_string(), text);
        }
        for text in
            ["", "sources", "source/", "source/0", "source/129", "source/x", "source/+24", "source/024", "source/ 24"]
        {
            assert!(text.parse::<FlowHash>().is_err(), "{text}");
        }
    }
}
