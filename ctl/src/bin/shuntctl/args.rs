//! What `shuntctl` takes on its command line, whatever the command.

use std::path::PathBuf;

use clap::Parser;
use ctl::DEFAULT_SOCKET;

use crate::command::Command;

/// Drives a running shuntd.
///
/// A change is made as a whole or not at all, and is in force when the command returns. It lasts until shuntd ends;
/// what is to last longer belongs in its configuration file.
///
/// Exit status: 0 done, 1 shuntd refused (`doctor`: something is wrong), 2 wrong usage, no shuntd, or its answer cannot be written (`doctor`: or not all
/// was checked).
#[derive(Debug, Parser)]
#[command(name = "shuntctl", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    /// shuntd's control socket.
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET, env = "SHUNTCTL_SOCKET")]
    pub(crate) socket: PathBuf,

    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;
    use ctl::request::Envelope;
    use ctl::verb;

    use super::*;

    /// The line that a command sends to the daemon.
    fn line(command: &str) -> Result<String, clap::Error> {
        let cli = Cli::try_parse_from(command.split(' '))?;
        let envelope = Envelope { version: ctl::VERSION, request: cli.command.question().request };
        Ok(serde_json::to_string(&envelope).expect("requests can be written"))
    }

    /// Each command, without `shuntctl`, sends the command and the arguments beside it: version 1 of the API, which stays.
    pub(crate) fn assert_lines(commands: &[(&str, &str)]) {
        for (command, rest) in commands {
            let sent = line(&format!("shuntctl {command}")).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(sent, format!("{{\"version\":1,\"command\":{rest}}}"), "{command}");
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_of_the_api_has_its_command_and_every_command_its_verb() {
        fn leaves(command: &clap::Command, name: &str, found: &mut BTreeSet<String>) {
            for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
                let name = format!("{name}{}{}", if name.is_empty() { "" } else { "-" }, below.get_name());
                if below.has_subcommands() { leaves(below, &name, found) } else { _ = found.insert(name) }
            }
        }
        let mut commands = BTreeSet::new();
        leaves(&Cli::command(), "", &mut commands);
        assert_eq!(commands, verb::ALL.iter().map(|row| row.name.to_owned()).collect());
    }

    #[test]
    fn wrong_words_are_refused() {
        for command in [
            "shuntctl",
            "shuntctl service add 192.0.2.1",
            "shuntctl service add 192.0.2.1:80/icmp",
            "shuntctl service add 192.0.2.1:80 -s lblc",
            "shuntctl service add 192.0.2.1:80 --idle-timeout 15",
            "shuntctl backend drain 192.0.2.1:80 192.0.2.9 -d soon",
            "shuntctl service add 192.0.2.1:80 -b 192.0.2.9,wait=3",
            "shuntctl backend add 192.0.2.1:80 web1",
            "shuntctl backend add 192.0.2.1:80 192.0.2.9,weight=5",
            "shuntctl backend add 192.0.2.1:80 192.0.2.9 --weight -1",
            "shuntctl backend edit 192.0.2.1:80 192.0.2.9",
            "shuntctl service add 192.0.2.1:+80",
            "shuntctl service add 192.0.2.1:080",
            "shuntctl service add 192.0.2.1:80 -b 192.0.2.9,weight=+3",
            "shuntctl service add 192.0.2.1:80 -b 192.0.2.9,weight=03",
            "shuntctl service add 192.0.2.1:80 --hash source/+24",
            "shuntctl service add 192.0.2.1:80 --idle-timeout 1.5s",
            "shuntctl backend add 192.0.2.1:80 192.0.2.9:080",
            "shuntctl backend add 192.0.2.1:80 192.0.2.9 --weight +3",
            "shuntctl backend add 192.0.2.1:80 192.0.2.9 --mac 02-00:00-00:00-09",
            "shuntctl backend edit 192.0.2.1:80 192.0.2.9 --weight 03",
            "shuntctl backend drain 192.0.2.1:80 192.0.2.9 -d 900ms",
            "shuntctl events -n +7",
        ] {
            assert!(line(command).is_err(), "{command}");
        }
    }
}
