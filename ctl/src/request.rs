//! What may be asked of `shuntd`.

use serde::{Deserialize, Serialize};

pub use crate::noun::Request;
pub use crate::noun::arguments::*;

/// The version of the types in this library; a daemon answers requests of its own version only.
pub const VERSION: u32 = 1;

/// One line to the daemon: a [`Request`] and the version of the API it is written in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// The request itself.
    #[serde(flatten)]
    pub request: Request,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_flat_json_object() {
        let line = r#"{"version":1,"command":"backend-edit","arguments":{"service":{"vip":"192.0.2.1","port":80},"address":"192.0.2.9","weight":3,"mac":"resolve"}}"#;
        let envelope: Envelope = serde_json::from_str(line).unwrap();
        let Request::BackendEdit(edit) = &envelope.request else { panic!("{envelope:?}") };
        assert_eq!((edit.weight, edit.mac), (Some(3), Some(MacChange::Resolve)));
        let again: Envelope = serde_json::from_str(&serde_json::to_string(&envelope).unwrap()).unwrap();
        assert_eq!(again, envelope);
    }

    #[test]
    fn a_request_without_arguments_needs_none() {
        let envelope: Envelope = serde_json::from_str(r#"{"version":1,"command":"status"}"#).unwrap();
        assert_eq!(envelope.request, Request::Status);
        assert!(!envelope.request.changes());
    }

    #[test]
    fn unknown_fields_and_commands_are_refused() {
        for line in [
            r#"{"version":1,"command":"reboot"}"#,
            r#"{"version":1,"command":"service-show","arguments":{"vip":"192.0.2.1","port":80,"prot":"tcp"}}"#,
            r#"{"version":1,"command":"service-show","arguments":{"vip":"192.0.2.1","port":65536}}"#,
            r#"{"version":1,"command":"service-show","arguments":{"vip":"192.0.2.300","port":80}}"#,
        ] {
            assert!(serde_json::from_str::<Envelope>(line).is_err(), "{line}");
        }
    }
}
