//! From a line to a request, with errors that name the field.

use ctl::answer::Refusal;
use ctl::request::{EventQuery, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    let Line { version, command, arguments } = field_by_field("", line)?;
    if version != ctl::VERSION {
        let message =
            format!("This daemon speaks version {} of the API, not {version}: use its own shuntctl", ctl::VERSION);
        return Err(Refusal { field: "version".into(), message });
    }
    let plain = |request| match arguments {
        Value::Null => Ok(request),
        _ => Err(Refusal { field: "arguments".into(), message: format!("`{command}` takes no arguments") }),
    };
    match command.as_str() {
        "status" => plain(Request::Status),
        "service-list" => plain(Request::ServiceList),
        "neighbor-list" => plain(Request::NeighborList),
        "port-list" => plain(Request::PortList),
        "worker-list" => plain(Request::WorkerList),
        "drops" => plain(Request::Drops),
        "events" if arguments.is_null() => Ok(Request::Events(EventQuery::default())),
        "events" => field_by_field("arguments", arguments).map(Request::Events),
        "service-show" => field_by_field("arguments", arguments).map(Request::ServiceShow),
        "service-add" => field_by_field("arguments", arguments).map(Request::ServiceAdd),
        "service-remove" => field_by_field("arguments", arguments).map(Request::ServiceRemove),
        "backend-add" => field_by_field("arguments", arguments).map(Request::BackendAdd),
        "backend-edit" => field_by_field("arguments", arguments).map(Request::BackendEdit),
        "backend-drain" => field_by_field("arguments", arguments).map(Request::BackendDrain),
        "backend-enable" => field_by_field("arguments", arguments).map(Request::BackendEnable),
        "backend-remove" => field_by_field("arguments", arguments).map(Request::BackendRemove),
        _ => Err(Refusal { field: "command".into(), message: format!("There is no command `{command}`") }),
    }
}

/// Reads a value; an error names the field, as a path below `root`.
fn field_by_field<T: DeserializeOwned>(root: &str, value: Value) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = match (root, path.as_str()) {
            (root, ".") => root.to_owned(),
            ("", path) => path.to_owned(),
            (root, path) => format!("{root}.{path}"),
        };
        Refusal { field, message: format!("The request is wrong: {}", error.inner()) }
    })
}

/// A refusal of the request as a whole.
pub(super) fn refusal(message: impl Into<String>) -> Refusal {
    Refusal { field: String::new(), message: message.into() }
}

#[cfg(test)]
mod tests {
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
