//! `shuntctl`: one command, one request, one answer.

mod args;
mod command;
mod exit_code;
mod follow;
mod output;
mod question;
mod table;
mod value;

use std::process::ExitCode;

use clap::Parser;
use ctl::{Client, ClientError};

use args::Cli;
use command::Command;
use exit_code::Exit;
use output::complain;
use question::Shown;

fn main() -> ExitCode {
    let Cli { socket, json, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return usage(&said).into(),
    };
    // `doctor` says by 1 that something is wrong; that it cannot say so is another matter.
    let refused = if matches!(command, Command::Doctor(_)) { Exit::Unusable } else { Exit::Refused };
    let done = match command {
        Command::Events(events) if events.follow => follow::events(&socket, json, &events),
        command => {
            let connected = Client::connect(&socket);
            let answered = connected.and_then(|mut client| command.question().ask(&mut client, json));
            answered.map(|Shown { text, exit, asides }| {
                let printed = output::print(&text);
                asides.iter().for_each(|aside| tell(aside, json));
                if printed == Exit::Done { exit } else { printed }
            })
        }
    };
    let failed = |error| match fail(&error, json) {
        Exit::Refused => refused,
        exit => exit,
    };
    done.unwrap_or_else(failed).into()
}

/// Help that was asked for goes to standard output, what is wrong with the command line to standard error.
fn usage(said: &clap::Error) -> Exit {
    match said.print() {
        _ if said.use_stderr() => Exit::Unusable,
        printed => output::exit("The help", printed),
    }
}

fn fail(error: &ClientError, json: bool) -> Exit {
    let source = std::error::Error::source(error).map_or(String::new(), |source| format!(" ({source})"));
    match error {
        ClientError::Refused(refusal) if json => complain(serde_json::json!({ "error": refusal })),
        _ => tell(&format!("{error}{source}"), json),
    }
    Exit::from(error)
}

/// Says on standard error what is wrong.
fn tell(what: &str, json: bool) {
    match json {
        true => complain(serde_json::json!({ "error": { "message": what } })),
        false => complain(format_args!("shuntctl: {what}")),
    }
}
