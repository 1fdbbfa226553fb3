//! From a request to its answer.

use ctl::answer::Outcome;
use ctl::request::Request;

use crate::api::facts::Facts;

/// Carries out a request. Each noun's file has the answers to its verbs.
pub fn answer(facts: &Facts, request: Request) -> Outcome {
    request.answered_by(facts).into()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use ctl::answer::Envelope;
    use ctl::request::BackendSpec;
    use ctl::verb;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::decode;
    use crate::testing::facts::{director, facts};
    use crate::testing::model::{backend, service};

    /// A director with a service on 192.168.0.101:80, whose backends are 192.168.0.3, pinned, and 192.168.0.4 with weight 3.
    pub(in crate::api) fn example() -> Facts {
        let pinned = BackendSpec { mac: "02:00:00:00:00:03".parse().ok(), ..backend("192.168.0.3", 1) };
        let mut wanted = service("192.168.0.101:80", &[("192.168.0.4", 3)]);
        wanted.backends.push(pinned);
        facts(Arc::new(director(&[wanted])))
    }

    /// What comes back for a request, as it goes over the socket: `{"ok": …}` or `{"error": …}`.
    pub(in crate::api) fn ask(facts: &Facts, command: &str, arguments: Value) -> Value {
        let line = match arguments {
            Value::Null => json!({ "version": ctl::VERSION, "command": command }),
            arguments => json!({ "version": ctl::VERSION, "command": command, "arguments": arguments }),
        };
        let request = decode::request(line.to_string().as_bytes());
        let outcome = request.map_or_else(Outcome::Error, |request| answer(facts, request));
        let mut envelope = serde_json::to_value(Envelope { version: ctl::VERSION, outcome }).unwrap();
        envelope.as_object_mut().unwrap().remove("version");
        envelope
    }

    #[test]
    fn what_takes_no_arguments_is_answered_and_changes_nothing() {
        let facts = example();
        let generation = facts.director.current().generation;
        let plain = verb::ALL.iter().filter(|row| !row.takes_arguments);
        assert!(plain.clone().count() > 0);
        for row in plain {
            assert!(ask(&facts, row.name, Value::Null).get("ok").is_some() && !row.changes, "{}", row.name);
        }
        assert_eq!(facts.director.current().generation, generation);
    }
}
