//! What is wrong with a configuration, and where.

use std::fmt;

/// All that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// Those of the environment first, then in the order of the file.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// How many problems there are, a sentence.
    pub fn count(&self) -> String {
        let count = self.problems.len();
        format!("{count} {} in the configuration", if count == 1 { "problem" } else { "problems" })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: file and line, or environment variable.
    pub location: String,
    /// Which key: `services[0].backends[1].weight`; empty where it is none in particular.
    pub key: String,
    /// What, a sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.location)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}
