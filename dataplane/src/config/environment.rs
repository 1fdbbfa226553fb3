//! Environment variables that go over the file: `SHUNT_DIRECTOR__SLOW_PATH` is `slow_path` of `[director]`.
//!
//! A variable is text, where the file has numbers, booleans and lists. A key's row says as what it is read; so a hash key of
//! digits stays text.

use serde_json::Value;

use crate::config::rows::{Kind, Section};

/// Our variables begin with this.
pub(super) const PREFIX: &str = "SHUNT";
/// What stands between a section and a key.
pub(super) const SEPARATOR: &str = "__";

/// Those of some variables that are ours.
pub(super) fn ours<'v>(variables: &[(&'v str, &'v str)]) -> impl Iterator<Item = (&'v str, &'v str)> {
    let is_ours = |name: &str| name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('_'));
    variables.iter().copied().filter(move |(name, _)| is_ours(name))
}

/// The key that a variable of ours sets: `director.slow_path`.
pub(super) fn key(variable: &str) -> String {
    variable[PREFIX.len() + 1..].to_ascii_lowercase().replace(SEPARATOR, ".")
}

/// The variable that sets a key of a section.
pub(super) fn variable(section: &Section, key: &str) -> String {
    format!("{PREFIX}_{}{SEPARATOR}{key}", section.path()).to_ascii_uppercase()
}

/// A variable's text as the value of a key. What is not of the right form stays text, and is refused as such.
pub(super) fn read(kind: Kind, text: &str) -> Value {
    let parsed = match kind {
        Kind::Number | Kind::NumberOrText => ctl::parse_number::<u64>(text.trim()).map(Value::from),
        Kind::Boolean => text.trim().parse::<bool>().ok().map(Value::from),
        Kind::List(_) if text.is_empty() => Some(Value::Array(Vec::new())),
        Kind::List(kind) if *kind != Kind::Table => Some(text.split(',').map(|element| read(*kind, element)).collect()),
        Kind::List(_) | Kind::Table | Kind::Text | Kind::Anything => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variable_and_its_key_name_each_other() {
        let section = Section::new("[director]");
        assert_eq!(variable(&section, "slow_path"), "SHUNT_DIRECTOR__SLOW_PATH");
        assert_eq!(key("SHUNT_DIRECTOR__SLOW_PATH"), "director.slow_path");
        let variables = [("SHUNT_A", "1"), ("SHUNTCTL_SOCKET", "/x"), ("SHUNT", "2"), ("PATH", "/bin")];
        assert_eq!(ours(&variables).collect::<Vec<_>>(), [("SHUNT_A", "1")]);
    }

    #[test]
    fn text_is_read_as_what_the_key_is() {
        for (kind, text, value) in [
            (Kind::Number, "12", json!(12)),
            (Kind::Number, " 12 ", json!(12)),
            (Kind::Number, "x", json!("x")),
            (Kind::Number, "-1", json!("-1")),
            (Kind::Number, "+1", json!("+1")),
            (Kind::Number, "01", json!("01")),
            (Kind::Boolean, "true", json!(true)),
            (Kind::Boolean, "yes", json!("yes")),
            (Kind::Text, "12", json!("12")),
            (Kind::NumberOrText, "80", json!(80)),
            (Kind::NumberOrText, "80,443", json!("80,443")),
            (Kind::List(&Kind::Number), "3, 4", json!([3, 4])),
            (Kind::List(&Kind::Number), "3,x", json!([3, "x"])),
            (Kind::List(&Kind::Text), "-l,1", json!(["-l", "1"])),
            (Kind::List(&Kind::Text), "", json!([])),
            (Kind::List(&Kind::Table), "x", json!("x")),
        ] {
            assert_eq!(read(kind, text), value, "{kind} {text}");
        }
    }
}
