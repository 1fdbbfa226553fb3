//! Words of health checks: types, whom they ask, and lengths of time.

use std::fmt;
use std::time::Duration;

use crate::name::error::{NameError, Words};
use crate::name::number::parse_span;
use crate::name::words::{serde_as_text, words};

/// What a check asks of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckType {
    /// A TCP connection.
    Tcp,
    /// An answer by HTTP.
    Http,
    /// The same over TLS.
    Https,
    /// An answer to a datagram.
    Udp,
    /// An answer by DNS.
    Dns,
    /// An answer to a ping.
    Icmp,
    /// Nothing but ARP or NDP, by which all backends are asked.
    Arp,
    /// What a command says, by its exit status.
    Script,
    /// Nothing: not even silence on ARP or NDP takes the backend out.
    None,
}

/// Which of a backend's addresses a check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum CheckTo {
    /// The VIP, at the backend's MAC address: the way of a client's packet.
    #[default]
    Vip,
    /// The backend's own address.
    Backend,
}

/// What a backend counts as that was not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Start {
    /// Up, until its checks say otherwise.
    #[default]
    Up,
    /// Down, until its checks say otherwise.
    Down,
}

words!(Start, Start, Up = "up", Down = "down");
words!(
    CheckType,
    CheckType,
    Tcp = "tcp",
    Http = "http",
    Https = "https",
    Udp = "udp",
    Dns = "dns",
    Icmp = "icmp",
    Arp = "arp",
    Script = "script",
    None = "none"
);
words!(CheckTo, CheckTo, Vip = "vip", Backend = "backend");

/// A length of time, to the millisecond: `500ms`, `1s`, `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        span.0
    }
}

impl From<Duration> for Span {
    /// To the millisecond.
    fn from(time: Duration) -> Span {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Span(Duration::from_millis(ms))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl std::str::FromStr for Span {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse_span(text).map(Span)
    }
}

serde_as_text!(CheckType, CheckTo, Span, Start);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_it_is_read() {
        for text in ["500ms", "1s", "1m 30s", "2h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["", "1", "soon", "1us", "1.5s", "-1s", "01s", "9999999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
