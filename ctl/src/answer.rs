//! What `shuntd` answers.

use serde::{Deserialize, Serialize};

pub use crate::noun::Answer;
pub use crate::noun::answers::*;
pub use crate::outcome::{Done, OtherAnswer, Refusal};

/// One line from the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`crate::VERSION`] of the daemon.
    pub version: u32,
    /// What came of the request.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Done, or why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "there is one of them for a request")]
pub enum Outcome {
    /// The request was carried out.
    Ok(Answer),
    /// Nothing was changed.
    Error(Refusal),
}

impl From<Result<Answer, Refusal>> for Outcome {
    fn from(result: Result<Answer, Refusal>) -> Self {
        result.map_or_else(Outcome::Error, Outcome::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_apart_by_their_key() {
        let refusal = Refusal { field: "weight".into(), message: "Weight 70000 is out of range".into() };
        let envelope = Envelope { version: 1, outcome: Outcome::Error(refusal) };
        let line = serde_json::to_string(&envelope).unwrap();
        assert_eq!(line, r#"{"version":1,"error":{"field":"weight","message":"Weight 70000 is out of range"}}"#);
        assert_eq!(serde_json::from_str::<Envelope>(&line).unwrap(), envelope);

        let done = Answer::Done(Done { message: "Added".into(), generation: 2 });
        let envelope = Envelope { version: 1, outcome: Outcome::Ok(done) };
        let line = serde_json::to_string(&envelope).unwrap();
        assert_eq!(line, r#"{"version":1,"ok":{"done":{"message":"Added","generation":2}}}"#);
        assert_eq!(serde_json::from_str::<Envelope>(&line).unwrap(), envelope);
    }
}
