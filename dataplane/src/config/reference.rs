//! What operators read of the keys, generated from their rows: the reference in `docs/configuration.md`, and the sample file
//! `docs/shunt.toml`.

use std::fmt::Write;

use crate::base::limits::{MAX_SERVICES, MAX_TARGETS};
use crate::config::environment;
use crate::config::file::sections;
use crate::config::rows::{Fallback, Kind, Row, Section, toml};

/// The longest line of the sample file's comments.
const WIDTH: usize = 110;

/// The sections and their keys, in Markdown: one table a section.
pub fn reference() -> String {
    sections().iter().map(chapter).collect::<Vec<_>>().join("\n")
}

/// A section's part of the reference.
fn chapter(section: &Section) -> String {
    let line = |cells: [&str; 5]| format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    let rows = section.rows.iter().map(|row| {
        let (key, change) = (format!("`{}`", row.key), row.change.to_string());
        let default = match &row.default {
            Fallback::Value(value) => format!("`{}`", toml(value)),
            Fallback::Described(text) => text.clone(),
            Fallback::Required => "required".into(),
        };
        line([&key, &row.values(), &default, &change, &row.doc])
    });
    let rows: String = rows.collect();
    let head = line(["key", "value", "if left out", "a change takes", "what it is for"]);
    let about = format!("{}{}", section.doc, as_a_whole(section));
    format!("### `{}`\n\n{about}\n\n{head}|---|---|---|---|---|\n{rows}", section.heading)
}

/// What must be said of a section as a whole: where else it can be set, how many there may be.
fn as_a_whole(section: &Section) -> String {
    match section.path() {
        "services" => {
            format!(" At most {MAX_SERVICES}, and at most {MAX_TARGETS} backends in all.")
        }
        _ if section.is_list() => String::new(),
        _ => {
            let key = section.rows[0].key;
            let variable = environment::variable(section, key);
            format!(" An environment variable goes over the file: `{variable}` over `{key}`, and so on.")
        }
    }
}

/// A file with all keys, in TOML. It is one that `shuntd` accepts, and so is what it is when all keys are uncommented.
pub fn sample() -> String {
    let mut text = String::from(
        "# All keys of Shunt's configuration. Check a file before you use it: shuntd --check FILE\n\
         #\n\
         # A line such as `#key = value` has the key's default or, where the default is in words, an example. Keys of\n\
         # [director] can be set from the environment, too: SHUNT_DIRECTOR__ and the key in capitals.\n",
    );
    for section in sections() {
        let mark = if section.optional { "#" } else { "" };
        let _ = writeln!(text, "\n{}{mark}{}", comment(&section.doc), section.heading);
        let rows = section.rows.iter().filter(|row| row.kind != Kind::List(&Kind::Table));
        for row in rows {
            let mark = if row.given && !section.optional { "" } else { "#" };
            let value = row.sample().map(toml).unwrap_or_default();
            let _ = writeln!(text, "{}{mark}{} = {value}", comment(&about(row)), row.key);
        }
    }
    text
}

/// What a key is for, what it may be, and its default.
fn about(row: &Row) -> String {
    let values = row.values();
    let values = if values == Kind::Text.to_string() { String::new() } else { format!(" {}.", capital(&values)) };
    let default = match &row.default {
        Fallback::Required => " Required.".into(),
        default => format!(" Default: {default}."),
    };
    format!("{}{values}{default}", row.doc)
}

/// Text as comments, in lines of at most [`WIDTH`] columns.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            *line += " ";
            *line += word;
        } else {
            lines.push(format!("# {word}"));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::*;
    use crate::config::load::Config;
    use crate::testing::docs;

    /// Where the sample file is, from the repository's root.
    const SAMPLE: &str = "docs/shunt.toml";

    fn repository(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    fn load(text: &str) -> Config {
        Config::from_text("sample", text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// The sample with all keys and sections in force.
    fn uncommented() -> String {
        let in_force = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        sample().lines().map(in_force).collect()
    }

    #[test]
    fn the_reference_is_that_of_the_rows() {
        docs::check("docs/configuration.md", "keys", &format!("\n{}\n", reference()));
    }

    #[test]
    fn the_sample_file_is_that_of_the_rows() {
        if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
            std::fs::write(repository(SAMPLE), sample()).unwrap();
        }
        let has = std::fs::read_to_string(repository(SAMPLE)).unwrap_or_default();
        let advice = "is not what the rows say: UPDATE_DOCS=1 cargo nextest run -p dataplane --lib writes it anew";
        assert!(has == sample(), "{SAMPLE} {advice}. It has to be:\n{}", sample());
    }

    #[test]
    fn the_sample_is_accepted_as_it_is_and_with_all_its_keys() {
        let config = Config::load(&repository(SAMPLE)).unwrap();
        assert_eq!(config, load(&sample()));
        assert_eq!((config.ports.len(), config.services[0].backends.len()), (1, 1));
        let all = load(&uncommented());
        assert_eq!((all.ports[0].vlans.len(), all.ports[0].mtu), (1, Some(9_000)));
        assert_eq!(all.warnings, Vec::<String>::new());
    }

    #[test]
    fn the_sample_has_every_key_with_its_default() {
        let toml = config::File::from_str(&uncommented(), config::FileFormat::Toml);
        let sample = config::Config::builder().add_source(toml).build().unwrap();
        let sample: Value = sample.try_deserialize().unwrap();
        for section in sections() {
            // The first of a list is the only one.
            let table = section.path().split('.').fold(&sample, |value, step| {
                let value = value.get(step).unwrap_or_else(|| panic!("{} is not in the sample", section.heading));
                value.get(0).unwrap_or(value)
            });
            for row in section.rows.iter().filter(|row| row.kind != Kind::List(&Kind::Table)) {
                let shown = table.get(row.key).unwrap_or_else(|| panic!("{}: {}", section.heading, row.key));
                match &row.default {
                    Fallback::Value(default) if !row.given => assert_eq!(shown, default, "{}", row.key),
                    _ => assert_eq!(Some(shown), row.sample(), "{}", row.key),
                }
            }
        }
    }

    #[test]
    fn examples_in_the_documentation_are_accepted() {
        for path in ["README.md", "docs/configuration.md"] {
            let text = std::fs::read_to_string(repository(path)).unwrap();
            let examples: Vec<&str> =
                text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
            assert!(!examples.is_empty(), "{path} has an example");
            examples.into_iter().for_each(|example| drop(load(example)));
        }
    }

    #[test]
    fn comments_are_folded_between_words() {
        let text = comment(&"word ".repeat(50));
        assert!(text.lines().all(|line| line.starts_with("# word") && line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 50);
    }
}
