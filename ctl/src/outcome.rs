//! What comes of a request, whatever it asks for: it is done, refused, or answered by something else.

use serde::{Deserialize, Serialize};

/// A change has been made and published to the workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, a sentence for the operator.
    pub message: String,
    /// The number of the snapshot that has the change.
    pub generation: u64,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The part of the request that is at fault, as a path: `backends[2].weight`. Empty: the request as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong and what to do, a sentence for the operator.
    pub message: String,
}

/// An answer to another request than the one that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shuntd has answered something else than was asked: are shuntctl and shuntd of the same release?")]
pub struct OtherAnswer;
