//! `shuntctl events --follow`: shows what happens until Ctrl-C.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::Duration;

use ctl::answer::{Answer, Event};
use ctl::request::{EventQuery, Request};
use ctl::{Client, ClientError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::command::events::Args;
use crate::exit_code::Exit;
use crate::output::{self, complain};

/// How often the daemon is asked for what is new.
const INTERVAL: Duration = Duration::from_secs(1);

/// Returns when the output is not read any more, or when no daemon answers at the start. A daemon that ends is waited for: its
/// last and the next one's first events are what one wants to see.
pub(crate) fn events(socket: &Path, json: bool, args: &Args) -> Result<Exit, ClientError> {
    end_on_signal();
    let mut client = Some(Client::connect(socket)?);
    // One at least, to know where the log stands.
    let mut query = EventQuery { since: None, limit: Some(args.limit.max(1)) };
    let mut most = args.limit;
    loop {
        match client.as_mut().map(|client| news(client, query)) {
            Some(Ok(events)) => {
                query = EventQuery { since: events.last().map(|event| event.sequence).or(query.since), limit: None };
                let printed = print(&events[events.len().saturating_sub(most)..], json);
                if printed.is_err() {
                    return Ok(output::exit("An event", printed));
                }
                most = usize::MAX;
            }
            Some(Err(error @ (ClientError::Io { .. } | ClientError::Closed { .. }))) => {
                complain(format_args!("shuntctl: {error}: waiting for it to come back"));
                client = None;
            }
            Some(Err(error)) => return Err(error),
            None => {
                client = Client::connect(socket).ok();
                // Another daemon counts from 1 again.
                query = EventQuery { since: Some(0), limit: None };
            }
        }
        std::thread::sleep(INTERVAL);
        if output::is_abandoned() {
            return Ok(Exit::Done);
        }
    }
}

/// Whole lines have been written whenever a signal comes, so that there is nothing to be taken down.
fn end_on_signal() {
    let signals = Signals::new([SIGINT, SIGTERM]);
    // Without it, Ctrl-C ends us as well, with another status.
    let Ok(mut signals) = signals else { return };
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(Exit::Done as i32);
        }
    });
}

fn news(client: &mut Client, query: EventQuery) -> Result<Vec<Event>, ClientError> {
    match client.ask(Request::Events(query))? {
        Answer::Events(events) => Ok(events),
        _ => Ok(Vec::new()),
    }
}

fn print(events: &[Event], json: bool) -> io::Result<()> {
    let mut text = String::new();
    for event in events {
        let written =
            if json { writeln!(text, "{}", serde_json::to_string(event)?) } else { writeln!(text, "{event}") };
        written.map_err(io::Error::other)?;
    }
    output::write(&text)
}
