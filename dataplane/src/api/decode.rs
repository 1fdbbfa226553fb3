//! From a line to a request, with errors that name the field.

use ctl::answer::Refusal;
use ctl::request::Request;
use ctl::verb;
use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::{Path, Track};

/// What every line has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    version: u32,
    command: String,
    #[serde(default)]
    arguments: Value,
}

/// Reads one line, without its newline.
pub fn request(line: &[u8]) -> Result<Request, Refusal> {
    let line: Value =
        serde_json::from_slice(line).map_err(|error| refusal(format!("The request is not JSON: {error}")))?;
    let Line { version, command, arguments } =
        serde_path_to_error::deserialize(line).map_err(|error| wrong("", error.path(), error.inner()))?;
    if version != ctl::VERSION {
        let message =
            format!("This daemon speaks version {} of the API, not {version}: use its own shuntctl", ctl::VERSION);
        return Err(Refusal { field: "version".into(), message });
    }
    let row = verb::ALL.iter().find(|row| row.name == command);
    if row.is_some_and(|row| !row.takes_arguments) && !arguments.is_null() {
        return Err(Refusal { field: "arguments".into(), message: format!("`{command}` takes no arguments") });
    }
    let mut track = Track::new();
    match Request::read(&command, serde_path_to_error::Deserializer::new(arguments, &mut track)) {
        Some(request) => request.map_err(|error| wrong("arguments", &track.path(), &error)),
        None => Err(Refusal { field: "command".into(), message: format!("There is no command `{command}`") }),
    }
}

/// What is wrong with a field, whose path is below `root`.
fn wrong(root: &str, path: &Path, error: &serde_json::Error) -> Refusal {
    let field = match (root, path.to_string().as_str()) {
        (root, ".") => root.to_owned(),
        ("", path) => path.to_owned(),
        (root, path) => format!("{root}.{path}"),
    };
    Refusal { field, message: format!("The request is wrong: {error}") }
}

/// A refusal of the request as a whole.
pub(super) fn refusal(message: impl Into<String>) -> Refusal {
    Refusal { field: String::new(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use ctl::request::EventQuery;
    use proptest::prelude::*;

    use super::*;

    fn refused(line: &str) -> Refusal {
        request(line.as_bytes()).expect_err(line)
    }

    #[test]
    fn what_the_client_writes_is_understood() {
        let requests = [
            Request::Status,
            Request::ServiceList,
            Request::NeighborList,
            Request::PortList,
            Request::WorkerList,
            Request::Drops,
            Request::Events(EventQuery::default()),
            Request::Events(EventQuery { since: Some(7), limit: Some(1) }),
        ];
        for wanted in requests {
            let line = serde_json::to_vec(&ctl::request::Envelope { version: 1, request: wanted.clone() }).unwrap();
            assert_eq!(request(&line), Ok(wanted));
        }
        let line = br#"{"version":1,"command":"backend-remove","arguments":{"service":{"vip":"fd00::1","port":80},"address":"fd00::3"}}"#;
        assert!(matches!(request(line), Ok(Request::BackendRemove(_))));
        let line = br#"{"version":1,"command":"events"}"#;
        assert_eq!(request(line), Ok(Request::Events(EventQuery::default())));
    }

    #[test]
    fn errors_name_the_field() {
        for (line, field, says) in [
            ("", "", "not JSON"),
            ("garbage", "", "not JSON"),
            ("[]", "", "invalid"),
            (r#"{"command":"status"}"#, "", "missing field `version`"),
            (r#"{"version":2,"command":"status"}"#, "version", "version 1"),
            (r#"{"version":1,"command":"reboot"}"#, "command", "`reboot`"),
            (r#"{"version":1,"command":"status","arguments":{}}"#, "arguments", "no arguments"),
            (r#"{"version":1,"command":"status","extra":1}"#, "extra", "unknown field"),
            (r#"{"version":1,"command":"service-show"}"#, "arguments", "invalid type: null"),
            (
                r#"{"version":1,"command":"service-show","arguments":{"vip":"1.2.3.400","port":80}}"#,
                "arguments.vip",
                "invalid IP address",
            ),
            (
                r#"{"version":1,"command":"service-show","arguments":{"vip":"1.2.3.4","port":"+80"}}"#,
                "arguments.port",
                "\"+80\" is no port",
            ),
            (r#"{"version":1,"command":"events","arguments":{"since":-1}}"#, "arguments.since", "invalid value"),
            (
                r#"{"version":1,"command":"backend-edit","arguments":{"service":{"vip":"1.2.3.4","port":80},"address":"1.2.3.5","weight":-1}}"#,
                "arguments.weight",
                "invalid value",
            ),
        ] {
            let refusal = refused(line);
            assert!(refusal.field == field && refusal.message.contains(says), "{line}: {refusal:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = request(&line);
        }

        #[test]
        fn no_deep_nesting_panics(depth in 0usize..100_000) {
            let _ = request("[".repeat(depth).as_bytes());
        }
    }
}
