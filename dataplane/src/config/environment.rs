//! Environment variables that go over the file: `SHUNT_DIRECTOR__SLOW_PATH` is `slow_path` of `[director]`.
//!
//! Others that begin with `SHUNT_` are not ours: Kubernetes sets `SHUNT_PORT=tcp://…` and more of the kind for a service of that name, in
//! every container. Where such a name looks like one of ours with a mistake in it, that is worth a warning.
//!
//! A variable is text, where the file has numbers, booleans and lists. A key's row says as what it is read; so a hash key of
//! digits stays text.

use serde_json::Value;

use crate::config::rows::{Kind, Section};

/// Our variables begin with this.
pub(super) const PREFIX: &str = "SHUNT";
/// What stands between a section and a key.
pub(super) const SEPARATOR: &str = "__";

/// What a variable is, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A key of a section.
    Key,
    /// A key of a section that a file may have several of: which of them is meant, nobody can say.
    KeyOfList,
    /// Nothing of ours, but it looks like this variable.
    Like(String),
    /// Nothing of ours.
    Nothing,
}

/// What a variable means to these sections.
pub(super) fn meaning(name: &str, sections: &[Section]) -> Meaning {
    let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('_')) else { return Meaning::Nothing };
    let rest = rest.to_ascii_lowercase();
    let Some((section, key)) = rest.split_once(SEPARATOR) else { return like_ours(&rest, sections) };
    let of_list = |heading: &Section| heading.is_list() && heading.path() == section;
    if sections.iter().any(of_list) {
        Meaning::KeyOfList
    } else if settable(sections).any(|known| known.path() == section) {
        Meaning::Key
    } else {
        let likeness = |known: &&Section| strsim::jaro_winkler(known.path(), section);
        let best = settable(sections).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        best.filter(|best| likeness(best) > 0.8).map_or(Meaning::Nothing, |best| Meaning::Like(variable(best, key)))
    }
}

/// Without two underscores it is none of ours. Its author may have thought that one is enough, or none at all.
fn like_ours(rest: &str, sections: &[Section]) -> Meaning {
    let key =
        |section: &Section| rest.strip_prefix(section.path()).and_then(|rest| rest.strip_prefix('_')).unwrap_or(rest);
    let known = settable(sections).find(|section| section.rows.iter().any(|row| row.key == key(section)));
    known.map_or(Meaning::Nothing, |section| Meaning::Like(variable(section, key(section))))
}

/// The sections whose keys can be set from the environment.
fn settable(sections: &[Section]) -> impl Iterator<Item = &Section> {
    sections.iter().filter(|section| !section.is_list())
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
    }

    #[test]
    fn variables_of_others_are_told_from_ours_and_from_mistakes() {
        let sections = crate::config::file::sections();
        let like = |name: &str| Meaning::Like(name.into());
        for (name, expected) in [
            ("SHUNT_DIRECTOR__SLOW_PATH", Meaning::Key),
            ("SHUNT_DIRECTOR__NO_SUCH_KEY", Meaning::Key),
            ("SHUNT_PORTS__NAME", Meaning::KeyOfList),
            ("SHUNT_SERVICES__0__VIP", Meaning::KeyOfList),
            ("SHUNT_DIRECTR__WORKERS", like("SHUNT_DIRECTOR__WORKERS")),
            ("SHUNT_DIRECTORS__X", like("SHUNT_DIRECTOR__X")),
            ("SHUNT_DIRECTOR_SLOW_PATH", like("SHUNT_DIRECTOR__SLOW_PATH")),
            ("SHUNT_HASH_KEY", like("SHUNT_DIRECTOR__HASH_KEY")),
            // What Kubernetes sets for services with the names shunt and shunt-director, and for one with two hyphens.
            ("SHUNT_PORT", Meaning::Nothing),
            ("SHUNT_PORT_80_TCP", Meaning::Nothing),
            ("SHUNT_PORT_80_TCP_ADDR", Meaning::Nothing),
            ("SHUNT_PORT_80_TCP_PORT", Meaning::Nothing),
            ("SHUNT_PORT_80_TCP_PROTO", Meaning::Nothing),
            ("SHUNT_SERVICE_HOST", Meaning::Nothing),
            ("SHUNT_SERVICE_PORT", Meaning::Nothing),
            ("SHUNT_SERVICE_PORT_HTTP", Meaning::Nothing),
            ("SHUNT_DIRECTOR_PORT", Meaning::Nothing),
            ("SHUNT_DIRECTOR_SERVICE_HOST", Meaning::Nothing),
            ("SHUNT_LAB__ONE_SERVICE_HOST", Meaning::Nothing),
            ("SHUNTCTL_SOCKET", Meaning::Nothing),
            ("SHUNT", Meaning::Nothing),
            ("SHUNT_", Meaning::Nothing),
            ("SHUNT___", Meaning::Nothing),
            ("PATH", Meaning::Nothing),
        ] {
            assert_eq!(meaning(name, &sections), expected, "{name}");
        }
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
