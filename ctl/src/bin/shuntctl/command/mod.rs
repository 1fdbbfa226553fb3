//! The commands: noun, then verb. A file for each noun has its arguments, what they ask, and the table that shows the answer.

mod backend;
mod doctor;
mod drops;
pub(crate) mod events;
mod neighbor;
mod port;
mod service;
mod status;
mod worker;

use clap::Subcommand;

use crate::question::Question;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The director at a glance, and what needs attention.
    Status,
    /// Services: what clients connect to.
    #[command(subcommand)]
    Service(service::Command),
    /// Backends: the hosts that answer (real servers, in LVS's words).
    #[command(subcommand)]
    Backend(backend::Command),
    /// The backends' MAC addresses, found by ARP and NDP.
    #[command(subcommand)]
    Neighbor(neighbor::Command),
    /// The director's network ports.
    #[command(subcommand)]
    Port(port::Command),
    /// The forwarding threads.
    #[command(subcommand)]
    Worker(worker::Command),
    /// Why frames were not forwarded, what that means, and what to do.
    ///
    /// By reason, with the ports where there are several, and the services that were hit, the ten with the most
    /// frames. `shuntctl service show` has all reasons of one service.
    Drops(drops::Args),
    /// What has happened: changes, backends found and lost, mistakes in the network.
    ///
    /// shuntd keeps the last 1024 in memory and writes all to its log. What packets cause is written down once in ten
    /// seconds for each backend or port, with the number of those left out.
    ///
    /// Example: shuntctl events --follow
    Events(events::Args),
    /// What is wrong, with each backend and around it, and what mends it.
    ///
    /// Has shuntd make all its checks now, which takes a second or, where something does not answer, three. Then prints a line a
    /// check for each backend: `ok`, or what is wrong and the command that mends it on that host. docs/health.md has a
    /// section on each fault.
    ///
    /// Exit status: 0 nothing is wrong; 1 something is; 2 shuntd has not answered, knows no such service, or has not made all checks
    /// in time, and nothing is known to be wrong. The last is also a line on standard error.
    ///
    /// Example: shuntctl doctor 192.0.2.1:80
    Doctor(doctor::Args),
}

impl Command {
    /// What the command asks.
    pub(crate) fn question(self) -> Question {
        match self {
            Command::Status => status::question(),
            Command::Service(command) => command.question(),
            Command::Backend(command) => command.question(),
            Command::Neighbor(command) => command.question(),
            Command::Port(command) => command.question(),
            Command::Worker(command) => command.question(),
            Command::Drops(args) => args.question(),
            Command::Events(args) => args.question(),
            Command::Doctor(args) => args.question(),
        }
    }
}
