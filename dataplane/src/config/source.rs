//! Where configuration comes from: file and environment, layered by the `config` crate; and where in them what is wrong stands.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use config::{Environment, FileFormat};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::environment::{self, Meaning, PREFIX, SEPARATOR};
use crate::config::problem::{ConfigError, Problem};
use crate::config::rows::{Row, Section};

/// The layered values, what is wrong with them so far, and what is legal, but probably not meant.
pub(super) struct Source {
    /// The file's name, for messages.
    name: String,
    /// The file's text, for line numbers.
    text: String,
    /// Keys that the environment gives, with the variable's name.
    variables: HashMap<String, String>,
    values: Value,
    /// Each with its line in the file; 0 for those of the environment.
    problems: Vec<(usize, Problem)>,
    /// Keys that were complained about.
    bad: BTreeSet<String>,
    warnings: Vec<String>,
}

impl Source {
    /// Reads a file and this process's environment. The sections say which keys there are.
    pub(super) fn read(path: &Path, sections: &[Section]) -> Result<Source, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("The configuration cannot be read: {error}");
            ConfigError { problems: vec![Problem { location: name.clone(), key: String::new(), message }] }
        })?;
        // Lossily, so that what is no text is seen, and refused.
        let variables: Vec<(String, String)> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        let borrowed: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self::from_text(&name, &text, &borrowed, sections)
    }

    /// From a file's text and environment variables.
    pub(super) fn from_text(
        name: &str,
        text: &str,
        variables: &[(&str, &str)],
        sections: &[Section],
    ) -> Result<Source, ConfigError> {
        if let Err(error) = toml_edit::Document::parse(text) {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let problem =
                Problem { location: format!("{name}:{line}"), key: String::new(), message: error.message().into() };
            return Err(ConfigError { problems: vec![problem] });
        }
        let (mut ours, mut of_lists, mut warnings) = (HashMap::<String, String>::new(), Vec::new(), Vec::new());
        for &(variable, value) in variables {
            match environment::meaning(variable, sections) {
                Meaning::Key => _ = ours.insert(variable.into(), value.into()),
                Meaning::KeyOfList => of_lists.push(variable),
                Meaning::Like(other) => {
                    warnings.push(format!("Environment variable {variable} is ignored: did you mean {other}?"));
                }
                Meaning::Nothing => {}
            }
        }
        let environment =
            Environment::with_prefix(PREFIX).prefix_separator("_").separator(SEPARATOR).source(Some(ours.clone()));
        let layered = config::Config::builder()
            .add_source(config::File::from_str(text, FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize::<Value>);
        let values = layered.map_err(|error| {
            let problem = Problem { location: name.into(), key: String::new(), message: error.to_string() };
            ConfigError { problems: vec![problem] }
        })?;
        let names = ours.into_keys().chain(of_lists.iter().copied().map(String::from));
        let variables = names.map(|variable| (environment::key(&variable), variable)).collect();
        let mut source = Source {
            name: name.into(),
            text: text.into(),
            variables,
            values,
            problems: Vec::new(),
            bad: BTreeSet::new(),
            warnings,
        };
        for variable in of_lists {
            source.problem(
                &environment::key(variable),
                "The environment has only keys of [director]: write it into the file",
            );
        }
        for section in sections {
            section.rows.iter().for_each(|row| source.check_row(section, row));
        }
        Ok(source)
    }

    /// Reads what the environment has for a key as what it is, and takes out what the row objects to.
    fn check_row(&mut self, section: &Section, row: &Row) {
        for key in keys(&self.values, section.path(), row.key) {
            let Some(value) = value_at(&mut self.values, steps(&key)) else { continue };
            if self.variables.contains_key(&key)
                && let Some(text) = value.as_str()
            {
                *value = environment::read(row.kind, text);
            }
            if let Some(message) = row.objection(value) {
                self.problem(&key, message);
                remove(&mut self.values, &key);
            }
        }
    }

    /// The values as sections. What does not fit is noted and left out, and the rest tried again, so that every
    /// mistake is found.
    pub(super) fn sections<T: DeserializeOwned + Default>(&mut self) -> T {
        loop {
            let error = match serde_path_to_error::deserialize::<_, T>(&self.values) {
                Ok(sections) => return sections,
                Err(error) => error,
            };
            let mut key = error.path().to_string();
            if let Some(list) = self.list_that_misses(&key) {
                self.bad.insert(list.clone());
                remove(&mut self.values, &list);
                continue;
            }
            let message = error.inner().to_string();
            if key == "." {
                key.clear();
            }
            // For an unknown key, the path may or may not have it, according to how deep serde was.
            let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
            if let Some(name) = unknown.filter(|name| key != *name && !key.ends_with(&format!(".{name}"))) {
                key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            }
            self.problem(&key, explain(&message, unknown));
            if !remove(&mut self.values, &key) {
                return T::default();
            }
        }
    }

    /// The list whose element was complained about and taken out, if it cannot do without it: a list of numbers has no holes.
    fn list_that_misses(&mut self, key: &str) -> Option<String> {
        let (list, _) = key.strip_suffix(']')?.rsplit_once('[')?;
        let taken_out =
            self.bad.contains(key) && value_at(&mut self.values, steps(key)).is_some_and(|value| value.is_null());
        taken_out.then(|| list.to_owned())
    }

    /// Notes what is wrong with a key.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.bad.insert(key.into());
        let (line, location) = self.location(key);
        self.problems.push((line, Problem { location, key: key.into(), message: message.into() }));
    }

    /// Whether nothing was wrong with a key so far.
    pub(super) fn is_good(&self, key: &str) -> bool {
        !self.bad.contains(key)
    }

    /// A value that must be there. One that was there and of the wrong type has been complained about already.
    pub(super) fn required<T>(&mut self, section: &str, key: &str, value: Option<T>) -> Option<T> {
        let key = format!("{section}.{key}");
        if value.is_none() && self.is_good(&key) {
            self.problem(&key, "Missing: this key is required");
        }
        value
    }

    /// A value that is written as text, if it is one; else its error is noted.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, section: &str, key: &str, text: &str) -> Option<T> {
        let value = text.parse().map_err(|error: T::Err| error.to_string());
        self.good(&format!("{section}.{key}"), value)
    }

    /// A value, if it is right; else what is wrong with the key is noted.
    pub(super) fn good<T>(&mut self, key: &str, value: Result<T, String>) -> Option<T> {
        value.inspect_err(|message| self.problem(key, message.as_str())).ok()
    }

    /// Notes what is legal, but probably not meant.
    pub(super) fn warning(&mut self, message: String) {
        self.warnings.push(message);
    }

    /// All problems, if there are any, in the order of the file; else the warnings.
    pub(super) fn finish(mut self) -> Result<Vec<String>, ConfigError> {
        self.problems.sort_by_key(|(line, _)| *line);
        let problems: Vec<Problem> = self.problems.into_iter().map(|(_, problem)| problem).collect();
        if problems.is_empty() { Ok(self.warnings) } else { Err(ConfigError { problems }) }
    }

    /// The variable that sets a key: all of it, what it is in (an element of a list), or a part of it.
    fn variable_of(&self, key: &str) -> Option<&String> {
        let is_in =
            |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', '[']));
        let sets = |set: &str| set == key || is_in(key, set) || (key.contains('.') && is_in(set, key));
        self.variables.iter().find(|(set, _)| sets(set)).map(|(_, variable)| variable)
    }

    /// The line of a key in the file, and how to say where it is.
    fn location(&self, key: &str) -> (usize, String) {
        if let Some(variable) = self.variable_of(key) {
            return (0, format!("environment {variable}"));
        }
        let line = toml_edit::Document::parse(self.text.as_str())
            .ok()
            .and_then(|document| deepest_span(document.as_item(), key))
            .map(|start| line_of(&self.text, start));
        match line {
            Some(line) => (line, format!("{}:{line}", self.name)),
            None => (0, self.name.clone()),
        }
    }
}

/// What serde says, in our words.
fn explain(message: &str, unknown: Option<&str>) -> String {
    let Some(name) = unknown else {
        let mut message = message.to_owned();
        if let Some(first) = message.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        return message;
    };
    let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    let likeness = |candidate: &&str| strsim::jaro_winkler(&name.to_ascii_lowercase(), candidate);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) > 0.7) {
        Some(best) => format!("Unknown key; did you mean `{best}`?"),
        None => format!("Unknown key; known here: {}", known.join(", ")),
    }
}

/// Where a key of a section is in the values: `ports[0].vlans[1].id`, once for each such section that is there.
fn keys(values: &Value, section: &str, key: &str) -> Vec<String> {
    let mut sections = vec![(String::new(), values)];
    for step in section.split('.') {
        let below = sections.iter().filter_map(|(path, value)| {
            let path = if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
            Some((path, value.get(step)?))
        });
        sections = below.flat_map(elements).collect();
    }
    sections.iter().filter(|(_, value)| value.get(key).is_some()).map(|(path, _)| format!("{path}.{key}")).collect()
}

/// The elements of a list with their numbers; what is no list is one.
fn elements((path, value): (String, &Value)) -> Vec<(String, &Value)> {
    match value {
        Value::Array(list) => {
            list.iter().enumerate().map(|(index, value)| (format!("{path}[{index}]"), value)).collect()
        }
        value => vec![(path, value)],
    }
}

/// The steps of a path such as `services[0].backends[1].weight`.
fn steps(key: &str) -> impl Iterator<Item = &str> {
    key.split(['.', '[', ']']).filter(|step| !step.is_empty())
}

/// The value at the end of a path.
fn value_at<'v, 's>(values: &'v mut Value, mut steps: impl Iterator<Item = &'s str>) -> Option<&'v mut Value> {
    steps.try_fold(values, |value, step| match value {
        Value::Object(table) => table.get_mut(step),
        Value::Array(list) => list.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Takes a value out: a key of a table; an element of a list becomes null, so that its neighbors keep their numbers.
fn remove(values: &mut Value, key: &str) -> bool {
    let steps: Vec<&str> = steps(key).collect();
    let Some((last, parents)) = steps.split_last() else { return false };
    match value_at(values, parents.iter().copied()) {
        Some(Value::Object(table)) => table.remove(*last).is_some(),
        Some(Value::Array(list)) => match last.parse::<usize>().ok().and_then(|index| list.get_mut(index)) {
            // A null that is refused, too, would be tried for ever.
            Some(element) if !element.is_null() => {
                *element = Value::Null;
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// Where the value of a key begins in the file, or that of the nearest table around it.
fn deepest_span(root: &toml_edit::Item, key: &str) -> Option<usize> {
    let mut item = root;
    let mut found = None;
    for step in steps(key) {
        let next = match step.parse::<usize>() {
            Ok(index) => item.get(index),
            Err(_) => item.get(step),
        };
        let Some(next) = next else { break };
        // A key's own location is nearer to what the operator sees than that of a multi-line value.
        let of_key = item.as_table_like().and_then(|table| table.key(step)).and_then(toml_edit::Key::span);
        found = of_key.or_else(|| next.span()).map(|span| span.start).or(found);
        item = next;
    }
    found
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_found_in_every_section_that_has_them() {
        let values = json!({
            "director": { "mbufs": 1 },
            "ports": [{ "mtu": 1, "vlans": [{ "id": 1 }, { "id": 2 }, 7] }, null, { "vlans": { "id": 3 } }],
        });
        assert_eq!(keys(&values, "director", "mbufs"), ["director.mbufs"]);
        assert_eq!(keys(&values, "director", "socket"), Vec::<String>::new());
        assert_eq!(keys(&values, "ports", "mtu"), ["ports[0].mtu"]);
        let ids = ["ports[0].vlans[0].id", "ports[0].vlans[1].id", "ports[2].vlans.id"];
        assert_eq!(keys(&values, "ports.vlans", "id"), ids);
    }

    #[test]
    fn what_is_taken_out_leaves_its_neighbors_where_they_are() {
        let mut values = json!({ "a": [{ "b": 1, "c": 2 }, 7] });
        assert!(remove(&mut values, "a[0].b") && remove(&mut values, "a[1]"));
        assert_eq!(values, json!({ "a": [{ "c": 2 }, null] }));
        assert!(!remove(&mut values, "a[1]") && !remove(&mut values, "a[0].b") && !remove(&mut values, ""));
        assert!(remove(&mut values, "a") && values == json!({}));
    }
}
