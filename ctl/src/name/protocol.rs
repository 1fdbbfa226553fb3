//! Transport protocols.

use std::fmt;
use std::str::FromStr;

use crate::name::error::{NameError, Words};
use crate::name::words::serde_as_text;

/// The transport protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    #[default]
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    /// Their names.
    const WORDS: [&'static str; 3] = [Protocol::Tcp.name(), Protocol::Udp.name(), Protocol::Sctp.name()];

    /// The protocol's number in the IP header (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The name used in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let known = Protocol::ALL.into_iter().find(|protocol| text.eq_ignore_ascii_case(protocol.name()));
        known.ok_or_else(|| NameError::Protocol(text.into(), Words(&Protocol::WORDS)))
    }
}

serde_as_text!(Protocol);
