//! What a probe found.

use std::fmt;

/// What a probe found: in words for the operator, such as `HTTP 200`, or why it failed.
pub type Finding = Result<String, Failure>;

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In which way.
    pub trouble: Trouble,
    /// In words, as an operator reads them: `connection refused`, `HTTP 503`, `no answer in 1 s`.
    pub words: String,
}

/// The ways in which a probe can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Nothing came back.
    Silent,
    /// It was told that nothing listens there: RST, or ICMP port unreachable.
    Closed,
    /// It was told that the address cannot be reached: another ICMP error.
    Unreachable,
    /// The connection was taken, and nothing came.
    Hung,
    /// It is too slow: the answer had begun when its time was over.
    Slow,
    /// The answer is not the one that is wanted.
    Wrong,
    /// The certificate is not good, and the check verifies it.
    Certificate,
}

impl Failure {
    /// A failure in its words.
    pub fn new(trouble: Trouble, words: impl Into<String>) -> Self {
        Failure { trouble, words: words.into() }
    }
}

/// The finding that an answer is not the one that is wanted.
pub(super) fn wrong(words: impl Into<String>) -> Finding {
    Err(Failure::new(Trouble::Wrong, words))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}
