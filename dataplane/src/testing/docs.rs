//! Sections of the documents that the code writes, so that a fact stands once.
//!
//! A section stands between two lines, `<!-- generated: NAME -->` and `<!-- end -->`. A test says what it has to be ([`check`]) and fails
//! where the document says something else; with `UPDATE_DOCS=1` in the environment it writes the section anew instead.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

/// With this in the environment, documents are written, not compared.
const UPDATE: &str = "UPDATE_DOCS";

const END: &str = "<!-- end -->";

/// A table in Markdown. Cells may have any characters but line feeds.
pub fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| {
        assert_eq!(cells.len(), columns.len(), "a row has as many cells as the table has columns");
        let cells = cells.iter().map(|cell| match cell.replace('|', "\\|") {
            cell if cell.is_empty() => " ".into(),
            cell => format!(" {cell} "),
        });
        format!("|{}|\n", cells.collect::<Vec<String>>().join("|"))
    };
    let head = line(columns.iter().map(ToString::to_string).collect());
    let rule = format!("|{}\n", "---|".repeat(columns.len()));
    let rows: String = rows.into_iter().map(line).collect();
    head + &rule + &rows
}

/// Panics unless the section of a document, by its path from the repository's root, is as wanted; writes it with `UPDATE_DOCS=1`.
pub fn check(document: &str, section: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        update(&path, section, wanted);
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"));
    let found = split(&text, section).unwrap_or_else(|problem| panic!("{document}: {problem}"))[1];
    assert!(
        found == wanted,
        "{document} does not say what the code says in its section \"{section}\". To write it anew:\n\
         {UPDATE}=1 cargo nextest run -p dataplane --lib\n\nIt has to be:\n{wanted}\nIt is:\n{found}"
    );
}

/// Rewrites a section. Several tests may do so at a time, in processes of their own: one waits for the other.
fn update(path: &Path, section: &str, wanted: &str) {
    let write = || -> std::io::Result<()> {
        let mut file = File::options().read(true).write(true).open(path)?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let [before, _, after] = split(&text, section).map_err(std::io::Error::other)?;
        let text = format!("{before}{wanted}{after}");
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())
    };
    write().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// What stands before a section, in it and after it.
fn split<'t>(text: &'t str, section: &str) -> Result<[&'t str; 3], String> {
    let begin = format!("<!-- generated: {section} -->\n");
    let mut found = text.match_indices(&begin);
    let (start, _) = found.next().ok_or_else(|| format!("there is no line {begin}"))?;
    if found.next().is_some() {
        return Err(format!("there are several lines {begin}"));
    }
    let (before, rest) = text.split_at(start + begin.len());
    let end = rest.find(END).ok_or_else(|| format!("there is no {END} after {begin}"))?;
    let (section, after) = rest.split_at(end);
    Ok([before, section, after])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n<!-- generated: y -->\n<!-- end -->\n";

    #[test]
    fn sections_are_found() {
        assert_eq!(
            split(TEXT, "x"),
            Ok(["a\n<!-- generated: x -->\n", "old\n", "<!-- end -->\nb\n<!-- generated: y -->\n<!-- end -->\n"])
        );
        assert_eq!(split(TEXT, "y").map(|[_, section, _]| section), Ok(""));
        assert!(split(TEXT, "z").is_err());
        assert!(split(&format!("{TEXT}{TEXT}"), "x").is_err());
        assert!(split("<!-- generated: x -->\n", "x").is_err());
    }

    #[test]
    fn a_section_is_rewritten_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.md");
        std::fs::write(&path, TEXT).unwrap();
        update(&path, "x", "new\nlines\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), TEXT.replace("old\n", "new\nlines\n"));
        update(&path, "x", "");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), TEXT.replace("old\n", ""));
    }

    #[test]
    fn a_table_has_its_columns_and_no_bar_ends_a_cell_early() {
        let rows = [vec!["`a|b`".to_string(), String::new()]];
        assert_eq!(table(&["name", "meaning"], rows), "| name | meaning |\n|---|---|\n| `a\\|b` | |\n");
    }
}
