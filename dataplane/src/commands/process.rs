//! The runner's process, from its start to its end.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, close};

use crate::commands::account::{Account, give_up_privileges};
use crate::commands::channel::Channel;
use crate::commands::runner::Runner;

/// What makes `shuntd` a runner: its first argument. The second one is the user that commands run as.
pub const SUBCOMMAND: &str = "run-commands";

/// Runs commands, with the socket to the daemon as standard input, as this user. Ends when the daemon does: it closes its end then,
/// however it ends.
pub fn run_commands(user: Option<&str>) -> ExitCode {
    match prepared(user) {
        Ok(channel) => {
            Runner::new(channel, true).serve();
            ExitCode::SUCCESS
        }
        Err(problem) => {
            // The daemon's log has it.
            let _ = writeln!(std::io::stderr(), "commands cannot be run: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn prepared(user: Option<&str>) -> Result<Channel, String> {
    let cannot = |what: &'static str| move |error: &dyn Display| format!("{what}: {error}");
    close_inherited();
    let channel = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| cannot("no socket")(&error))?;
    let account = Account::find(user).map_err(|error| error.to_string())?;
    give_up_privileges(account.as_ref()).map_err(|error| cannot("privileges stay")(&error))?;
    // What commands leave behind becomes this process's, which ends it.
    prctl::set_child_subreaper(true).map_err(|error| cannot("no subreaper")(&error))?;
    let _ = prctl::set_name(c"shunt-commands");
    let _ = chdir("/");
    umask(Mode::from_bits_truncate(0o022));
    take_signals().map_err(|error| cannot("signals cannot be taken")(&error))?;
    Ok(channel.into())
}

/// The runner ends with the daemon, and not before: a terminal or a service manager may send these to all processes at once. Signals that are
/// blocked or ignored would be so for the commands, too; those that are taken are not.
fn take_signals() -> io::Result<()> {
    use Signal::{SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGPWR, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM};
    let all = [SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGPWR, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM];
    for signal in all {
        signal_hook::flag::register(signal as i32, Arc::default())?;
    }
    // The daemon blocks some of them.
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Closes what the daemon had open when it started this process: libraries do not mark all of theirs.
fn close_inherited() {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The folder's own is among them, and closed by now.
    open.into_iter().filter(|descriptor| *descriptor > 2).for_each(|descriptor| _ = close(descriptor));
}
