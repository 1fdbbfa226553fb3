//! `shuntd`: arguments to configuration to [`daemon`](dataplane::daemon).

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dataplane::config::{Config, ConfigError};
use tracing::error;
use tracing_subscriber::EnvFilter;

/// Puts the forwarding tables into huge pages where the kernel has them (`.cargo/config.toml`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The Shunt daemon: a layer-4 load balancer in direct-routing mode, on DPDK.
///
/// Takes its ports and services from a TOML file; environment variables go over it, section and key set
/// off by two underscores, for instance SHUNT_DIRECTOR__SLOW_PATH=2. Runs in the foreground and logs to standard error. SIGTERM and SIGINT end
/// it. `shuntctl` talks to it over the control socket.
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
    let args = Args::parse();
    if let Some(file) = &args.check {
        return check(file);
    }
    let filter = match EnvFilter::try_new(&args.log) {
        Ok(filter) => filter,
        Err(problem) => {
            eprintln!("shuntd: --log {}: {problem}", args.log);
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match Config::load(&args.config) {
        Ok(config) => match dataplane::daemon::run::run(&args.config, &config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                error!("{problem:#}");
                ExitCode::FAILURE
            }
        },
        Err(problems) => {
            print_problems(&problems);
            ExitCode::FAILURE
        }
    }
}

/// `--check`: nothing is started, nothing is changed.
fn check(file: &Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            for warning in config.advice() {
                eprintln!("{}: warning: {warning}", file.display());
            }
            let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
            let (ports, services) = (config.ports.len(), config.services.len());
            println!("{}: good: {ports} ports, {services} services, {backends} backends", file.display());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            print_problems(&problems);
            ExitCode::FAILURE
        }
    }
}

fn print_problems(error: &ConfigError) {
    eprintln!("{error}");
    let count = error.problems.len();
    eprintln!("shuntd: {count} {} in the configuration", if count == 1 { "problem" } else { "problems" });
}
