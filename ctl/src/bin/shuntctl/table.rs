//! What tables and listings have in common.

use std::fmt::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

/// A table without lines. A header that begins with ">" makes its column right-aligned.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| Cell::new(name.trim_start_matches('>'))));
    for (name, column) in header.iter().zip(table.column_iter_mut()) {
        column.set_padding((0, 2));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Without spaces at the ends of lines: they make diffs and copies ugly.
pub(crate) fn finish(table: &Table) -> String {
    let mut text = String::new();
    for row in table.lines() {
        line(&mut text, format_args!("{}", row.trim_end()));
    }
    text
}

pub(crate) fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

/// The two largest units: 3d 4h, 5m 0s, 7s.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(7, "7s"), (300, "5m 0s"), (3_600, "1h 0m"), (90_061, "1d 1h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
