//! What is known of each key of the configuration: one row a key.
//!
//! A section of the file is written once, with [`section!`]. Its rows become the struct that serde fills; their defaults become that
//! struct's `Default`; and the rows themselves say how text of the environment is read, which range a number keeps to, and what the
//! documentation and the sample file say.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A section of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// As the file has it: `[director]`, or `[[ports]]` for one of several.
    pub(super) heading: &'static str,
    /// What it is about.
    pub(super) doc: String,
    /// What it takes to change one of its keys.
    change: Change,
    /// Whether the sample file shows it as a comment.
    pub(super) optional: bool,
    /// Its keys.
    pub(super) rows: Vec<Row>,
}

/// What it takes to have a changed key obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A restart of the daemon.
    Restart,
    /// Nothing more than `shuntctl`, while the daemon runs.
    Shuntctl,
}

/// A key.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name.
    pub(super) key: &'static str,
    /// What it is for.
    pub(super) doc: String,
    /// What its value is.
    pub(super) kind: Kind,
    /// What is counted or measured; empty where there is no unit.
    pub(super) unit: &'static str,
    /// The range that a number keeps to.
    range: Option<RangeInclusive<u64>>,
    /// The words that a text may be, where there are just some.
    words: Vec<String>,
    /// What may be written, where neither a range nor words say it.
    written: String,
    /// What goes where the key is left out.
    pub(super) default: Fallback,
    /// A value for the sample file, where that is not the default.
    example: Option<Value>,
    /// Whether the sample file gives the key, and does not only show it as a comment.
    pub(super) given: bool,
    /// What a change takes.
    pub(super) change: Change,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Boolean,
    Text,
    /// A number, or text for what a number cannot say.
    NumberOrText,
    /// Several of one kind.
    List(&'static Kind),
    /// A section of its own.
    Table,
    Anything,
}

/// What goes where a key is left out.
#[derive(Debug, PartialEq)]
pub(super) enum Fallback {
    /// Nothing does: the key is required.
    Required,
    /// This value.
    Value(Value),
    /// What this text says.
    Described(String),
}

impl Section {
    /// A section whose keys need a restart to change.
    pub(super) fn new(heading: &'static str) -> Section {
        Section { heading, doc: String::new(), change: Change::Restart, optional: false, rows: Vec::new() }
    }

    /// Its keys can be changed with `shuntctl`.
    pub(super) fn changed_by_shuntctl(self) -> Section {
        Section { change: Change::Shuntctl, ..self }
    }

    /// Most files have none.
    pub(super) fn optional(self) -> Section {
        Section { optional: true, ..self }
    }

    /// With what it is about, and its keys.
    pub(super) fn with(self, doc: &str, rows: Vec<Row>) -> Section {
        let rows = rows.into_iter().map(|row| Row { change: self.change, ..row }).collect();
        Section { doc: doc.trim().into(), rows, ..self }
    }

    /// Its name, with those of the sections around it: `ports.vlans`.
    pub(super) fn path(&self) -> &'static str {
        self.heading.trim_matches(['[', ']'])
    }

    /// Whether a file may have several of it. Only what is there once can be set from the environment.
    pub(super) fn is_list(&self) -> bool {
        self.heading.starts_with("[[")
    }
}

impl Row {
    /// A key with its doc comment and its default; `None` or an empty list where there is no such value.
    pub(super) fn new<T: Typed + Serialize>(key: &'static str, doc: &str, default: &T) -> Row {
        let value = serde_json::to_value(default).expect("a default is a plain value");
        let default = if value.is_null() { Fallback::Described("none".into()) } else { Fallback::Value(value) };
        Row {
            key,
            doc: doc.trim().into(),
            kind: T::KIND,
            unit: "",
            range: None,
            words: Vec::new(),
            written: String::new(),
            default,
            example: None,
            given: false,
            change: Change::Restart,
        }
    }

    /// What is counted or measured.
    pub(super) fn unit(self, unit: &'static str) -> Row {
        Row { unit, ..self }
    }

    /// The range that a number keeps to. What is outside is refused.
    pub(super) fn range<T: Copy + Into<u64>>(self, range: RangeInclusive<T>) -> Row {
        Row { range: Some((*range.start()).into()..=(*range.end()).into()), ..self }
    }

    /// The words that may be written.
    pub(super) fn words(self, words: &[&str]) -> Row {
        Row { words: words.iter().map(ToString::to_string).collect(), ..self }
    }

    /// The words of an enum, as serde knows them.
    pub(super) fn words_of<T: DeserializeOwned>(self) -> Row {
        let said = T::deserialize(Value::from("")).err().map(|error| error.to_string()).unwrap_or_default();
        let words: Vec<String> = said.split('`').skip(3).step_by(2).map(String::from).collect();
        assert!(!words.is_empty(), "serde names the variants of an enum: {said}");
        Row { words, ..self }
    }

    /// What may be written, for what needs more words.
    pub(super) fn written(self, written: impl Into<String>) -> Row {
        Row { written: written.into(), ..self }
    }

    /// The key must be there, with a value like this one.
    pub(super) fn required(self, example: impl Serialize) -> Row {
        Row { default: Fallback::Required, ..self }.given(example)
    }

    /// What goes where the key is left out; and a value for the sample file.
    pub(super) fn or(self, default: impl Into<String>, example: impl Serialize) -> Row {
        let example = serde_json::to_value(example).ok();
        Row { default: Fallback::Described(default.into()), example, ..self }
    }

    /// The sample file gives this value.
    pub(super) fn given(self, example: impl Serialize) -> Row {
        Row { example: serde_json::to_value(example).ok(), given: true, ..self }
    }

    /// Why a value is not one for this key, as far as the row knows: what its type says, serde checks.
    pub(super) fn objection(&self, value: &Value) -> Option<String> {
        let range = self.range.as_ref()?;
        if range.contains(&value.as_u64()?) {
            return None;
        }
        let instead = match &self.default {
            Fallback::Required => String::new(),
            default => format!(", or leave it out (default: {default})"),
        };
        Some(format!("Use {} to {}{instead}", range.start(), range.end()))
    }

    /// A value that the key may have: that of the sample file.
    pub(super) fn sample(&self) -> Option<&Value> {
        match &self.default {
            _ if self.example.is_some() => self.example.as_ref(),
            Fallback::Value(value) => Some(value),
            Fallback::Required | Fallback::Described(_) => None,
        }
    }

    /// A value of the key's kind that is neither its default nor its sample: a text looks like a number.
    #[cfg(test)]
    pub(super) fn another(&self) -> Value {
        match (self.kind, self.words.last()) {
            (Kind::Number | Kind::NumberOrText, _) => {
                Value::from(self.sample().and_then(Value::as_u64).expect("it has a sample") + 1)
            }
            (Kind::Boolean, _) => Value::from(self.sample() != Some(&Value::from(true))),
            (Kind::Text, Some(word)) => Value::from(word.as_str()),
            (Kind::List(Kind::Number), _) => Value::from(vec![2, 3]),
            (Kind::List(_), _) => Value::from(vec!["4", "true"]),
            (Kind::Text | Kind::Table | Kind::Anything, _) => Value::from("12345678"),
        }
    }

    /// What may be written, in words: "number (bytes): 1280 to 64000".
    pub(super) fn values(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" ({})", self.unit) };
        let words: Vec<String> = self.words.iter().map(|word| format!("\"{word}\"")).collect();
        let allowed = match (&self.range, words.split_last()) {
            (Some(range), _) => format!("{} to {}", range.start(), range.end()),
            (None, Some((last, []))) => last.clone(),
            (None, Some((last, others))) => format!("{} or {last}", others.join(", ")),
            (None, None) => self.written.clone(),
        };
        match self.kind {
            Kind::Text if !words.is_empty() => allowed,
            kind if allowed.is_empty() => format!("{kind}{unit}"),
            kind => format!("{kind}{unit}: {allowed}"),
        }
    }
}

/// A value as the file has it: numbers, booleans and text are written alike in JSON and in TOML.
pub(super) fn toml(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(toml).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Restart => "a restart",
            Change::Shuntctl => "`shuntctl`",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Number => f.write_str("number"),
            Kind::Boolean => f.write_str("true or false"),
            Kind::Text => f.write_str("text"),
            Kind::NumberOrText => f.write_str("number or text"),
            Kind::List(kind) => write!(f, "list of {kind}s"),
            Kind::Table => f.write_str("section"),
            Kind::Anything => f.write_str("any value"),
        }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fallback::Required => f.write_str("none: the key is required"),
            Fallback::Value(value) => f.write_str(&toml(value)),
            Fallback::Described(text) => f.write_str(text),
        }
    }
}

/// A type of a field, with what its values are in the file.
pub(super) trait Typed {
    const KIND: Kind;
}

/// Says what values of some types are.
macro_rules! typed {
    ($($kind:ident: $($type:ty),+;)+) => {
        $($(impl $crate::config::rows::Typed for $type {
            const KIND: $crate::config::rows::Kind = $crate::config::rows::Kind::$kind;
        })+)+
    };
}
pub(super) use typed;

typed! {
    Number: u8, u16, u32, u64, usize;
    Boolean: bool;
    Text: String, PathBuf;
    Anything: Value;
}

impl<T: Typed> Typed for Option<T> {
    const KIND: Kind = T::KIND;
}

impl<T: Typed> Typed for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);
}

/// A section of the file, one row a key:
///
/// ```text
/// /// What the key is for.
/// key: Type = default, unit("flows"), range(1..=9);
/// ```
///
/// The default is that of the struct's field; what follows are methods of [`Row`]. An `Option` is for keys without a fixed default.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $visibility:vis struct $name:ident = $section:expr;
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr
            $(, $method:ident$(::<$of:ty>)?($($argument:expr),*))*;)+
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        $visibility struct $name {
            $($(#[doc = $doc])+ $visibility $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        $crate::config::rows::typed! { Table: $name; }

        impl $name {
            /// The section with its rows.
            $visibility fn section() -> $crate::config::rows::Section {
                let Self { $($key,)+ } = Self::default();
                let rows = vec![$({
                    let row = $crate::config::rows::Row::new(stringify!($key), concat!($($doc),+), &$key);
                    row$(.$method$(::<$of>)?($($argument),*))*
                },)+];
                $section.with(concat!($($about),+), rows)
            }
        }
    };
}
pub(super) use section;

#[cfg(test)]
mod tests {
    use super::*;

    section! {
        /// Fruit.
        pub(super) struct Fruit = Section::new("[fruit]").changed_by_shuntctl();
        /// How heavy
        /// it is.
        weight: u32 = 7, unit("grams"), range(1_u32..=9);
        /// Where it grows.
        tree: Option<String> = None, or("any", "oak");
        /// What it is.
        sort: String = "apple".into(), words(&["apple", "pear"]);
        /// Those who eat it.
        eaters: Vec<u16> = vec![], written("at most two");
    }

    #[test]
    fn a_row_says_all_of_its_key() {
        let section = Fruit::section();
        assert_eq!((section.path(), section.is_list(), section.doc.as_str()), ("fruit", false, "Fruit."));
        let rows: Vec<(&str, String, String)> =
            section.rows.iter().map(|row| (row.key, row.values(), row.default.to_string())).collect();
        let expected = [
            ("weight", "number (grams): 1 to 9", "7"),
            ("tree", "text", "any"),
            ("sort", "\"apple\" or \"pear\"", "\"apple\""),
            ("eaters", "list of numbers: at most two", "[]"),
        ];
        assert_eq!(rows, expected.map(|(key, values, default)| (key, values.into(), default.into())));
        assert_eq!(section.rows[0].doc, "How heavy it is.");
        assert!(section.rows.iter().all(|row| row.change == Change::Shuntctl));
        assert_eq!(section.rows[1].sample(), Some(&Value::from("oak")));
        assert_eq!(section.rows[2].sample(), Some(&Value::from("apple")));
    }

    #[test]
    fn a_row_refuses_what_is_out_of_its_range() {
        let weight = &Fruit::section().rows[0];
        for (value, objection) in [
            (Value::from(7), None),
            (Value::from(0), Some("Use 1 to 9, or leave it out (default: 7)")),
            (Value::from(10), Some("Use 1 to 9, or leave it out (default: 7)")),
            // Serde's matter.
            (Value::from("heavy"), None),
        ] {
            assert_eq!(weight.objection(&value).as_deref(), objection, "{value}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_rows() {
        let fruit: Fruit = serde_json::from_str("{}").unwrap();
        assert_eq!(fruit, Fruit { weight: 7, tree: None, sort: "apple".into(), eaters: vec![] });
        assert!(serde_json::from_str::<Fruit>("{\"colour\": 1}").is_err());
    }

    #[test]
    fn words_of_an_enum_are_those_of_serde() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Size {
            Small,
            Large,
        }
        let row = Row::new("size", "", &String::new()).words_of::<Size>();
        assert_eq!(row.values(), "\"small\" or \"large\"");
        let _ = (Size::Small, Size::Large);
    }
}
