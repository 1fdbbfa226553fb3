//! Health checks: how an operator asks for them, in the file, in a request and on the command line alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::name::{CheckTo, CheckType, NameError, Span, parse_number};

/// One check of a service's backends. What is left out is as usual. Which of the fields a type knows, the daemon says.
///
/// As text: the type, then `key=value`, with quotes where a value has blanks. `http path=/health status=200-299 interval=2s`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// What is asked.
    #[serde(rename = "type")]
    pub kind: CheckType,
    /// The time from one probe of a backend to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long an answer may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// After so many good probes in a row, a backend is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rise: Option<u32>,
    /// After so many failed probes in a row, it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fall: Option<u32>,
    /// The L4 port. Without it, the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Which of the backend's addresses is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<CheckTo>,
    /// HTTP: the method. Without it, GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// HTTP: the path, with the query. Without it, `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// HTTP: the host. Without it, the address that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP: the statuses that are good: `200`, `200-299`, `200,301-302`. Without them, 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// HTTP: a regular expression that must match somewhere in the beginning of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// HTTPS: the name that is asked for, and that the certificate is to have. Without it, the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// HTTPS: whose certificates are good: `off` (all), `system` (those of the system's CAs), or the absolute path of a file with
    /// CA certificates. Without it, off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<String>,
    /// UDP: what is sent. `\xNN` is a byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// UDP: a regular expression that the answer must match. DNS: the record that must be in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// DNS: the name that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// DNS: the record's type: `A`, `AAAA`, `NS`, `SOA`, `MX`, `TXT`, ... Without it, A.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// DNS: the response code that is good: `NOERROR`, `NXDOMAIN`, ... Without it, NOERROR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcode: Option<String>,
    /// Script: the command, words set off by blanks, with quotes where one has some. The first one is the program's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl CheckSpec {
    /// A check of this type, with all as usual.
    pub fn new(kind: CheckType) -> Self {
        CheckSpec {
            kind,
            interval: None,
            timeout: None,
            rise: None,
            fall: None,
            port: None,
            to: None,
            method: None,
            path: None,
            host: None,
            status: None,
            body: None,
            sni: None,
            verify: None,
            payload: None,
            answer: None,
            name: None,
            record: None,
            rcode: None,
            command: None,
        }
    }

    /// The fields that are given, beside the type, by name.
    pub fn given(&self) -> Vec<(String, Value)> {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { return Vec::new() };
        fields.into_iter().filter(|(name, _)| name != "type").collect()
    }
}

impl fmt::Display for CheckSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        for (name, value) in self.given() {
            let value = value.as_str().map_or_else(|| value.to_string(), String::from);
            let word = format!("{name}={value}");
            // A null byte is the only thing that cannot be quoted.
            write!(f, " {}", shlex::try_quote(&word).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl FromStr for CheckSpec {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |why: String| NameError::Check { text: text.into(), why };
        let words = shlex::split(text).ok_or_else(|| error("a quote is not closed".into()))?;
        let (kind, words) = words.split_first().ok_or_else(|| error("it is empty".into()))?;
        let kind: CheckType = kind.parse()?;
        let mut fields = Map::from_iter([("type".to_string(), Value::from(kind.to_string()))]);
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| error(format!("\"{word}\" is not key=value")))?;
            // These are numbers in JSON. What is no number stays text, and is refused below with its name.
            let number = matches!(name, "rise" | "fall" | "port").then(|| parse_number::<u32>(value)).flatten();
            let value = number.map_or_else(|| Value::from(value), Value::from);
            if fields.insert(name.to_string(), value).is_some() {
                return Err(error(format!("{name} is given twice")));
            }
        }
        serde_json::from_value(Value::Object(fields)).map_err(|cause| error(cause.to_string()))
    }
}

/// The last result of a check of a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The check.
    pub check: CheckSpec,
    /// Whether the backend is up, as far as this check says. `None`: not known yet.
    #[serde(default)]
    pub up: Option<bool>,
    /// Whether the last probe was good. `None`: none has ended yet.
    #[serde(default)]
    pub good: Option<bool>,
    /// What the last probe found: `connected in 3 ms`, `connection refused`, `HTTP 503`, `no answer in 1 s`.
    #[serde(default)]
    pub words: String,
    /// Seconds since the last probe ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<f64>,
    /// How long the last probe took, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    /// HTTPS: until when the certificate is valid that the backend has shown last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_until: Option<String>,
    /// Probes that were good.
    #[serde(default)]
    pub passed: u64,
    /// Probes that failed.
    #[serde(default)]
    pub failed: u64,
    /// Probes that say nothing: the director itself did not send them, or lost what may have been the answer.
    #[serde(default)]
    pub void: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> CheckSpec {
        text.parse().unwrap()
    }

    #[test]
    fn a_check_is_written_as_its_type_and_its_fields() {
        assert_eq!(read("tcp"), CheckSpec::new(CheckType::Tcp));
        let http =
            read("http path=/health 'body=all \"well\"' status=200-299 interval=500ms rise=1 port=8080 to=backend");
        assert_eq!(http.kind, CheckType::Http);
        assert_eq!((http.path.as_deref(), http.body.as_deref()), (Some("/health"), Some("all \"well\"")));
        assert_eq!((http.interval, http.rise), ("500ms".parse().ok(), Some(1)));
        assert_eq!((http.port, http.to), (Some(8080), Some(CheckTo::Backend)));
        assert_eq!(read(&http.to_string()), http);
        let json = r#"{"type":"dns","interval":"2s","name":"example.org","record":"AAAA"}"#;
        let dns: CheckSpec = serde_json::from_str(json).unwrap();
        assert_eq!(read("dns name=example.org record=AAAA interval=2s"), dns);
        assert_eq!(serde_json::to_string(&dns).unwrap(), json);
        let script = read("script 'command=/usr/lib/check -p \"a b\"' interval=5s");
        assert_eq!(script.command.as_deref(), Some("/usr/lib/check -p \"a b\""));
        assert_eq!(read(&script.to_string()), script);
    }

    #[test]
    fn what_is_no_check_is_refused_with_the_reason() {
        for (text, says) in [
            ("", "empty"),
            ("ping", "tcp, http, https, udp, dns, icmp, arp, script or none"),
            ("http path", "\"path\" is not key=value"),
            ("http path='", "quote"),
            ("http pth=/", "unknown field `pth`"),
            ("http rise=x", "invalid type: string \"x\""),
            ("tcp interval=soon", "soon"),
            ("tcp interval=1s interval=2s", "interval is given twice"),
            ("tcp to=there", "vip or backend"),
            ("tcp port=70000", "70000"),
        ] {
            let error = text.parse::<CheckSpec>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn text_is_read_as_it_is_written(path in "[ -~]{0,20}", body in "\\PC{0,20}", rise in 0..u32::MAX) {
            let spec = CheckSpec { path: Some(path), body: Some(body), rise: Some(rise), ..CheckSpec::new(CheckType::Http) };
            prop_assert_eq!(read(&spec.to_string()), spec);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<CheckSpec>();
        }
    }
}
