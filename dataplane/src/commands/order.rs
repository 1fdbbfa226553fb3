//! What the daemon and the runner say to each other: a command to run, and how it ended.

use std::time::Duration;

use ctl::Span;
use serde::{Deserialize, Serialize};

/// The most that is kept of what a command says, in bytes.
pub const MOST_SAID: usize = 200;

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The daemon's number for it.
    pub id: u64,
    /// The path of the program, and its arguments.
    pub command: Vec<String>,
    /// Its environment, beside `PATH`.
    pub environment: Vec<(String, String)>,
    /// What it has on standard input; `None`: nothing.
    pub input: Option<String>,
    /// How long it may run, and how long it may wait until it is begun, in ms each.
    pub limit_ms: u64,
    /// Whether it runs at once, and does not count among those that may run at once. There is one of these at a time.
    pub beside: bool,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The number of its order.
    pub id: u64,
    /// In which way.
    pub how: How,
}

/// The ways in which a command can end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// By itself.
    Exit {
        /// The exit status.
        status: i32,
        /// The first line that it wrote.
        said: String,
    },
    /// By a signal that others sent.
    Signal {
        /// Its number.
        signal: i32,
        /// The first line that it wrote.
        said: String,
    },
    /// It ran longer than it may, and was killed.
    Overran,
    /// The system refuses to run it.
    Refused {
        /// As the system says it.
        why: String,
    },
    /// The director did not begin it: it has too much to do. That says nothing of the command.
    NotBegun {
        /// In words.
        why: String,
    },
}

impl Order {
    /// How long it may run.
    pub fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }
}

impl How {
    /// Whether it ended well.
    pub fn is_good(&self) -> bool {
        matches!(self, How::Exit { status: 0, .. })
    }

    /// In words for the operator; `limit` is the time that it had. The runner has no privileges, so what it says is not trusted.
    pub fn words(&self, limit: Duration) -> String {
        let with = |what: String, said: &str| match first_line(said.as_bytes()) {
            said if said.is_empty() => what,
            said => format!("{what}: {said}"),
        };
        match self {
            How::Exit { status, said } => with(format!("exit status {status}"), said),
            How::Signal { signal, said } => with(format!("ended by signal {signal}"), said),
            How::Overran => format!("did not end in {}", Span::from(limit)),
            How::Refused { why } => with("cannot be run".into(), why),
            How::NotBegun { why } => with("not begun".into(), why),
        }
    }
}

/// The first line that is not blank, without what is not printable, and without what is too long.
pub(super) fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut said = String::new();
    for c in line.chars().filter(|c| !c.is_control()) {
        if said.len() + c.len_utf8() > MOST_SAID {
            break;
        }
        said.push(c);
    }
    said
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_command_is_said_in_words() {
        let said = |text: &str| text.to_string();
        for (how, words, good) in [
            (How::Exit { status: 0, said: said("") }, "exit status 0", true),
            (How::Exit { status: 2, said: said("\n disk full \nmore") }, "exit status 2: disk full", false),
            (How::Signal { signal: 11, said: said("") }, "ended by signal 11", false),
            (How::Overran, "did not end in 1s 500ms", false),
            (How::Refused { why: said("Permission denied") }, "cannot be run: Permission denied", false),
            (How::NotBegun { why: said("too many wait") }, "not begun: too many wait", false),
        ] {
            assert_eq!((how.words(Duration::from_millis(1_500)).as_str(), how.is_good()), (words, good));
        }
    }

    proptest! {
        #[test]
        fn what_a_command_says_is_short_and_printable(bytes in proptest::collection::vec(any::<u8>(), 0..1_000)) {
            let line = first_line(&bytes);
            prop_assert!(line.len() <= MOST_SAID && !line.chars().any(char::is_control), "{line:?}");
        }
    }
}
