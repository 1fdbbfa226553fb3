//! What is wrong with text that should name something.

use std::fmt;

use crate::limits::MAX_PORT_RANGES;

/// Text that does not name what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not six hexadecimal bytes.
    #[error("\"{0}\" is not a MAC address: write six hexadecimal bytes, as in 52:54:00:12:34:56")]
    Mac(String),
    /// Not `ADDRESS:PORT`.
    #[error("\"{0}\" is not ADDRESS:PORT: write 192.0.2.1:80 or [2001:db8::1]:80")]
    Endpoint(String),
    /// Port 0.
    #[error("\"{0}\": port 0 is no port; use 1 to 65535")]
    PortZero(String),
    /// No length of time.
    #[error("\"{0}\" is not a time: write 90s, 15m or 2h")]
    Time(String),
    /// No length of time in ms.
    #[error("\"{0}\" is not a time: write 500ms, 2s or 1m")]
    Span(String),
    /// A length of time that is not in whole seconds.
    #[error("\"{0}\" is not a time of whole seconds: write 1s or more, as in 90s, 15m or 2h")]
    PartOfSecond(String),
    /// No set of ports.
    #[error("\"{0}\" is no port: use 1 to 65535, a list (80,443), a range (8000-8100) or any")]
    Ports(String),
    /// More ranges than a service may have.
    #[error("\"{0}\" has more than {MAX_PORT_RANGES} ports and ranges: make several services")]
    TooManyPorts(String),
    /// Not `VIP:PORT`.
    #[error("\"{0}\" is not VIP:PORT: write 192.0.2.1:80, [2001:db8::1]:80 or 192.0.2.1:80,443/tcp")]
    Service(String),
    /// Not a part of a flow to hash.
    #[error("\"{0}\" is not what flows can be told apart by: use 5tuple, source, or source/PREFIX")]
    FlowHash(String),
    /// Neither an address nor `ADDRESS:PORT`.
    #[error("\"{0}\" is not the IP address of a backend: write 192.0.2.10 or 2001:db8::10")]
    Backend(String),
    /// A protocol that Shunt does not balance.
    #[error("Protocol \"{0}\" is not known: use {1}")]
    Protocol(String, Words),
    /// A scheduler that Shunt does not have.
    #[error("Scheduler \"{0}\" is not known: use {1}")]
    Scheduler(String, Words),
    /// No set of flows.
    #[error("\"{0}\" is not what can be remembered: use {1}")]
    Tracking(String, Words),
    /// No type of check.
    #[error("Check type \"{0}\" is not known: use {1}")]
    CheckType(String, Words),
    /// No way to begin.
    #[error("\"{0}\" is not what an unchecked backend can count as: use {1}")]
    Start(String, Words),
    /// No address of a backend.
    #[error("\"{0}\" is not what a check can ask: use {1}")]
    CheckTo(String, Words),
    /// No check.
    #[error("Check \"{text}\": {why}; write its type and key=value, as in \"http path=/health interval=2s\"")]
    Check {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing that can be done without backends.
    #[error("\"{0}\" is nothing to do when all backends are down: use {1}")]
    OnAllDown(String, Words),
    /// Nothing that can be done with a backend that does not answer its clients.
    #[error("\"{0}\" is nothing to do with a backend whose clients get no answer: use {1}")]
    Passive(String, Words),
}

/// The words that are known where another one was written. Displayed as `tcp, udp or sctp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words(pub(super) &'static [&'static str]);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [word] => f.write_str(word),
            [words @ .., last] => write!(f, "{} or {last}", words.join(", ")),
        }
    }
}
