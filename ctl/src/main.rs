//! `shuntctl`: one command, one request, one answer.

mod args;
mod exit_code;
mod follow;
mod output;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use ctl::{Client, ClientError};

use args::{Cli, Command};
use exit_code::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Events(events) = &cli.command
        && events.follow
    {
        return match follow::events(&cli, events) {
            Ok(exit) => exit,
            Err(error) => fail(&error, cli.json),
        }
        .into();
    }
    let answer = Client::connect(&cli.socket).and_then(|mut client| client.ask(cli.command.request()));
    let exit = match answer {
        Ok(answer) => match if cli.json { output::json(&answer) } else { Ok(output::text(&cli.command, &answer)) } {
            Ok(text) => print(&text),
            Err(error) => fail(&error.into(), cli.json),
        },
        Err(error) => fail(&error, cli.json),
    };
    exit.into()
}

/// Whoever reads may have had enough (`| head`): that is no failure.
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
