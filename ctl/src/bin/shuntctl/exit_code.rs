//! What `shuntctl` ends with.

use std::process::ExitCode;

use ctl::ClientError;

/// The exit statuses, as `--help` says them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The daemon refused, or `doctor` has found a fault.
    Refused = 1,
    /// Wrong usage (clap's own status, too), no daemon answered, its answer could not be written, or `doctor` has not made all
    /// its checks.
    Unusable = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl From<&ClientError> for Exit {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Refused(_) => Exit::Refused,
            _ => Exit::Unusable,
        }
    }
}
