//! What has happened.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{Mac, ServiceId};

/// Which events. Where a request has no arguments, those that are usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Written>")]
pub struct EventQuery {
    /// Only those with a greater sequence number: a client that has read up to one event asks with its number for what comes next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// At most so many: of those behind `since` the first, without `since` the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// An [`EventQuery`] as it is in JSON.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    since: Option<u64>,
    limit: Option<usize>,
}

impl From<Option<Written>> for EventQuery {
    fn from(written: Option<Written>) -> Self {
        let Written { since, limit } = written.unwrap_or_default();
        EventQuery { since, limit }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events since the daemon started, from 1.
    pub sequence: u64,
    /// When, in UTC, as RFC 3339 writes it: `2026-01-31T12:00:00.000Z`.
    pub time: String,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of event it is, `kebab-case`; docs/operations.md lists them.
    pub kind: String,
    /// The fault that begins or ends with it, if one does; docs/health.md lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// What happened and what to do, a sentence.
    pub message: String,
    /// How many events of this kind about the same were left out since the last one, because there were too many.
    #[serde(default)]
    pub suppressed: u64,
}

impl Event {
    /// The message, and how many were left out.
    pub fn sentence(&self) -> String {
        match self.suppressed {
            0 => self.message.clone(),
            more => format!("{} ({more} more like this were left out)", self.message),
        }
    }
}

/// A line of a listing.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (severity, sentence) = (self.severity.name(), self.sentence());
        write!(f, "{}  {severity:<5}  {:<20}  {sentence}", self.time, self.kind)
    }
}

/// What an event is about, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// The VIP, where the service is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<IpAddr>,
    /// The backend's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<IpAddr>,
    /// The director's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// A station's MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A change of state, as it should be.
    Info,
    /// Odd, but handled: have a look.
    Warn,
    /// Clients notice.
    Error,
}

impl Severity {
    /// The name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Error => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_json_object_and_one_line() {
        let subject = Subject { backend: Some("192.0.2.3".parse().unwrap()), ..Subject::default() };
        let event = Event {
            sequence: 7,
            time: "2026-01-31T12:00:00.000Z".into(),
            severity: Severity::Warn,
            kind: "loop".into(),
            fault: None,
            subject,
            message: "It goes round.".into(),
            suppressed: 3,
        };
        let json = serde_json::to_string(&event).unwrap();
        assert!(json.contains(r#""kind":"loop","backend":"192.0.2.3","message""#), "{json}");
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        let line =
            "2026-01-31T12:00:00.000Z  warn   loop                  It goes round. (3 more like this were left out)";
        assert_eq!(event.to_string(), line);
    }
}
