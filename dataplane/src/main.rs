//! `shuntd`: arguments to [`daemon`](dataplane::daemon).

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dataplane::commands;
use dataplane::config::{Config, ConfigError};
use dataplane::daemon::process::run_daemon;
use tracing_subscriber::EnvFilter;

/// Puts the forwarding tables into huge pages where the kernel has them (`.cargo/config.toml`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The Shunt daemon: a layer-4 load balancer in direct-routing mode, on DPDK.
///
/// Takes its ports and services from a TOML file; environment variables go over it, section and key set
/// off by two underscores, for instance SHUNT_DIRECTOR__SLOW_PATH=2. Runs in the foreground and logs to standard error; forwarding never
/// waits for who reads that. SIGTERM and SIGINT end it. `shuntctl` talks to it over the control socket.
#[derive(Debug, Parser)]
#[command(name = "shuntd", version, max_term_width = 100)]
struct Args {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/shunt/shunt.toml")]
    config: PathBuf,

    /// Check a configuration file, say all that is wrong with it, and end: 0 good, 1 not.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    check: Option<PathBuf>,

    /// What to log: error, warn, info, debug, or a filter such as "info,dataplane::slow=debug".
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    // The daemon starts this program once more, for what it does not do itself. Nobody else has a use for it.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == commands::SUBCOMMAND) {
        let user = arguments.next();
        return commands::run_commands(user.as_deref().and_then(OsStr::to_str));
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(said) => return printed(said.print(), u8::try_from(said.exit_code()).unwrap_or(2)),
    };
    if let Some(file) = &args.check {
        return check(file);
    }
    let filter = match EnvFilter::try_new(&args.log) {
        Ok(filter) => filter,
        Err(problem) => {
            complain(format_args!("shuntd: --log {}: {problem}", args.log));
            return ExitCode::from(2);
        }
    };
    run_daemon(&args.config, filter).unwrap_or_else(|problem| {
        complain(format_args!("shuntd: {problem:#}"));
        ExitCode::FAILURE
    })
}

/// `--check`: nothing is started, nothing is changed.
fn check(file: &Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            for warning in config.advice() {
                complain(format_args!("{}: warning: {warning}", file.display()));
            }
            let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
            let (ports, services) = (config.ports.len(), config.services.len());
            let good = format!("{}: good: {ports} ports, {services} services, {backends} backends", file.display());
            printed(writeln!(io::stdout(), "{good}"), 0)
        }
        Err(problems) => {
            complain_of(&problems);
            ExitCode::FAILURE
        }
    }
}

fn complain_of(error: &ConfigError) {
    complain(error);
    complain(format_args!("shuntd: {}", error.count()));
}

/// The status, unless the output could not be written.
fn printed(outcome: io::Result<()>, status: u8) -> ExitCode {
    match outcome.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("shuntd: The output cannot be written: {error}"));
            ExitCode::FAILURE
        }
        // Who has read enough (`| head`) wants no more.
        _ => ExitCode::from(status),
    }
}

/// Writes a line to standard error. Where that is not possible, there is nobody to tell.
fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
