//! The process: its log, its signals, and the status that it ends with.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::daemon::run::run;
use crate::log::Log;

/// Runs the daemon by this configuration file until SIGTERM or SIGINT. The filter says what is logged.
///
/// # Errors
/// Where not even a log can be started. All else that is wrong is in the log, and in the status.
pub fn run_daemon(config_file: &Path, filter: EnvFilter) -> anyhow::Result<ExitCode> {
    // Before the first thread begins: a signal that one of them does not block can end the process.
    let mut signals = take_signals()?;
    let log = Log::start(filter).context("The log cannot be started")?;
    let outcome = load(config_file).and_then(|config| run(config_file, &config, &log, &mut signals));
    // What DPDK had to say about it stands before what we say.
    log.end_libraries();
    match outcome {
        Ok(()) => {
            info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Err(problem) => {
            error!("{problem:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Takes the signals from here on. Those that have no meaning for the daemon must not end it, which is what the system does with most
/// signals otherwise.
fn take_signals() -> anyhow::Result<Signals> {
    use Signal::{SIGALRM, SIGIO, SIGPROF, SIGPWR, SIGSTKFLT, SIGVTALRM};
    // Nothing here asks for these. Threads that are started later inherit it.
    let of_nobody = SigSet::from_iter([SIGALRM, SIGIO, SIGPROF, SIGPWR, SIGSTKFLT, SIGVTALRM]);
    of_nobody.thread_block().context("Signals cannot be blocked")?;
    Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]).context("Signals cannot be taken")
}

/// The configuration. What is wrong with it is a line each.
fn load(file: &Path) -> anyhow::Result<Config> {
    match Config::load(file) {
        Ok(config) => Ok(config),
        Err(error) => {
            error.problems.iter().for_each(|problem| error!("{problem}"));
            bail!("{}", error.count())
        }
    }
}
