//! `shuntctl`: one command, one request, one answer.

mod args;
mod command;
mod exit_code;
mod follow;
mod question;
mod table;
mod value;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use ctl::{Client, ClientError};

use args::Cli;
use command::Command;
use exit_code::Exit;

fn main() -> ExitCode {
    let Cli { socket, json, command } = Cli::parse();
    let done = match command {
        Command::Events(events) if events.follow => follow::events(&socket, json, &events),
        command => {
            let connected = Client::connect(&socket);
            connected.and_then(|mut client| command.question().ask(&mut client, json)).map(|text| print(&text))
        }
    };
    done.unwrap_or_else(|error| fail(&error, json)).into()
}

/// The reader may have had enough (`| head`): that is no failure.
fn print(text: &str) -> Exit {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Exit::Done
}

fn fail(error: &ClientError, json: bool) -> Exit {
    let source = std::error::Error::source(error).map_or(String::new(), |source| format!(" ({source})"));
    match error {
        ClientError::Refused(refusal) if json => eprintln!("{}", serde_json::json!({ "error": refusal })),
        _ if json => eprintln!("{}", serde_json::json!({ "error": { "message": format!("{error}{source}") } })),
        _ => eprintln!("shuntctl: {error}{source}"),
    }
    Exit::from(error)
}
