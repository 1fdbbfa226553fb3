//! Where configuration comes from: file and environment, layered by the `config` crate, and for each value its place.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use config::{Environment, FileFormat};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::problem::{ConfigError, Problem};

/// Environment variables begin with this, sections are set off by two underscores: `SHUNT_DIRECTOR__SLOW_PATH`.
const PREFIX: &str = "SHUNT";

/// The layered values, and what is wrong with them so far.
pub(super) struct Source {
    /// The file's name, for messages.
    name: String,
    /// The file's text, for line numbers.
    text: String,
    /// Keys that the environment gives, with the variable's name.
    variables: HashMap<String, String>,
    values: Value,
    problems: Vec<Problem>,
    /// Keys that were complained about.
    bad: BTreeSet<String>,
}

impl Source {
    /// Reads a file and this process's environment.
    pub(super) fn read(path: &Path) -> Result<Source, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("The configuration cannot be read: {error}");
            ConfigError { problems: vec![Problem { place: name.clone(), key: String::new(), message }] }
        })?;
        // Lossily, so that what is no text is seen, and refused.
        let variables: Vec<(String, String)> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        let borrowed: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self::from_text(&name, &text, &borrowed)
    }

    /// From a file's text and environment variables.
    pub(super) fn from_text(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Source, ConfigError> {
        let prefix = format!("{PREFIX}_");
        let ours: HashMap<String, String> = variables
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        if let Err(error) = toml_edit::Document::parse(text) {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let problem =
                Problem { place: format!("{name}:{line}"), key: String::new(), message: error.message().into() };
            return Err(ConfigError { problems: vec![problem] });
        }
        let key = |variable: &str| variable[prefix.len()..].to_ascii_lowercase().replace("__", ".");
        let environment =
            Environment::with_prefix(PREFIX).prefix_separator("_").separator("__").source(Some(ours.clone()));
        let layered = config::Config::builder()
            .add_source(config::File::from_str(text, FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize::<Value>);
        let mut values = layered.map_err(|error| {
            let problem = Problem { place: name.into(), key: String::new(), message: error.to_string() };
            ConfigError { problems: vec![problem] }
        })?;
        for variable in ours.keys().map(|variable| key(variable)) {
            from_text(&mut values, &variable);
        }
        let variables = ours.into_keys().map(|variable| (key(&variable), variable)).collect();
        Ok(Source {
            name: name.into(),
            text: text.into(),
            variables,
            values,
            problems: Vec::new(),
            bad: BTreeSet::new(),
        })
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

    /// Notes what is wrong with a key.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.bad.insert(key.into());
        self.problems.push(Problem { place: self.place(key), key: key.into(), message: message.into() });
    }

    /// Notes that a key is missing, unless it is there and was complained about.
    pub(super) fn missing(&mut self, section: &str, key: &str) {
        let key = format!("{section}.{key}");
        if !self.bad.contains(&key) {
            self.problem(&key, "Missing: this key is required");
        }
    }

    /// Whether nothing was wrong with a key so far.
    pub(super) fn is_good(&self, key: &str) -> bool {
        !self.bad.contains(key)
    }

    /// All problems, if there are any.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ConfigError { problems: self.problems }) }
    }

    fn place(&self, key: &str) -> String {
        if let Some(variable) = self.variables.get(key) {
            return format!("environment {variable}");
        }
        let line = toml_edit::Document::parse(self.text.as_str())
            .ok()
            .and_then(|document| deepest_span(document.as_item(), key))
            .map(|start| line_of(&self.text, start));
        match line {
            Some(line) => format!("{}:{line}", self.name),
            None => self.name.clone(),
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

/// The environment has text where the file has numbers, booleans and lists. Only the keys that need it are read as such: a
/// hash key may look like a number. What is not of the right form stays text, and is refused as such.
fn from_text(values: &mut Value, key: &str) {
    let Some(value) = values.pointer_mut(&format!("/{}", key.replace('.', "/"))) else { return };
    let Some(text) = value.as_str().map(str::to_owned) else { return };
    let number = |text: &str| text.trim().parse::<u64>().map_or_else(|_| text.into(), Value::from);
    *value = match key {
        "director.slow_path"
        | "director.maglev_table_size"
        | "director.mbufs"
        | "director.exceptions"
        | "director.exceptions_ipv6" => number(&text),
        "director.slow_path_poll" => text.parse::<bool>().map_or_else(|_| text.as_str().into(), Value::from),
        "director.workers" => text.split(',').map(number).collect(),
        "director.eal_args" => text.split(',').map(Value::from).collect(),
        _ => return,
    };
}

/// The steps of a path such as `services[0].backends[1].weight`.
fn steps(key: &str) -> impl Iterator<Item = &str> {
    key.split(['.', '[', ']']).filter(|step| !step.is_empty())
}

/// Takes a value out: a key of a table; an element of a list becomes null, so that its neighbors keep their places.
fn remove(values: &mut Value, key: &str) -> bool {
    let steps: Vec<&str> = steps(key).collect();
    let Some((last, parents)) = steps.split_last() else { return false };
    let parent = parents.iter().try_fold(values, |value, step| match value {
        Value::Object(table) => table.get_mut(*step),
        Value::Array(list) => list.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    });
    match parent {
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
        // A key's own place is nearer to what the operator sees than that of a multi-line value.
        let of_key = item.as_table_like().and_then(|table| table.key(step)).and_then(toml_edit::Key::span);
        found = of_key.or_else(|| next.span()).map(|span| span.start).or(found);
        item = next;
    }
    found
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}
