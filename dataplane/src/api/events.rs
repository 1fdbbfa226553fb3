//! What has happened.

use ctl::answer::{Event, Refusal};
use ctl::request::EventQuery;
use ctl::verb::{self, Answers};

use crate::api::facts::Facts;

impl Answers<verb::Events> for Facts {
    fn answer(&self, query: EventQuery) -> Result<Vec<Event>, Refusal> {
        Ok(self.events.list(query))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ctl::answer::Subject;
    use serde_json::{Value, json};

    use crate::api::answer::tests::{ask, example};
    use crate::control::events::Kind;

    #[test]
    fn events_are_listed_from_a_number_on_or_the_last_ones() {
        let facts = example();
        for number in 1..=3 {
            let subject = Subject { port: Some(format!("lan{number}")), ..Subject::default() };
            facts.events.write(Kind::LinkDown, subject, Instant::now(), || format!("Number {number}"));
        }
        let listed = |arguments: Value| -> Vec<Value> {
            let answer = ask(&facts, "events", arguments);
            let events = answer["ok"]["events"].as_array().unwrap();
            events.iter().map(|event| event["sequence"].clone()).collect()
        };
        assert_eq!(listed(Value::Null), [1, 2, 3]);
        assert_eq!(listed(json!({})), [1, 2, 3]);
        assert_eq!(listed(json!({ "limit": 1 })), [3]);
        assert_eq!(listed(json!({ "since": 1, "limit": 1 })), [2]);
        assert_eq!(ask(&facts, "events", json!({ "since": -1 }))["error"]["field"], "arguments.since");
    }
}
