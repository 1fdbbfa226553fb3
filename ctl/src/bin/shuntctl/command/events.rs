//! `shuntctl events`.

use ctl::answer::Event;
use ctl::request::EventQuery;
use ctl::verb;

use crate::question::Question;
use crate::value::number;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what happens, until Ctrl-C; with --json, an event a line.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// How many of the latest.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = number::<usize>)]
    pub(crate) limit: usize,
}

impl Args {
    pub(super) fn question(self) -> Question {
        Question::new::<verb::Events>(EventQuery { since: None, limit: Some(self.limit) }, |events| listing(&events))
    }
}

/// A line for each, oldest first.
fn listing(events: &[Event]) -> String {
    if events.is_empty() { "No events\n".into() } else { events.iter().map(|event| format!("{event}\n")).collect() }
}

#[cfg(test)]
mod tests {
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[
            ("events", r#""events","arguments":{"limit":100}"#),
            ("events -n 7", r#""events","arguments":{"limit":7}"#),
            ("events --limit 0", r#""events","arguments":{"limit":0}"#),
        ]);
    }
}
