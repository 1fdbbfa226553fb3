//! What `shuntctl` takes on its command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use ctl::request::{
    BackendAdd, BackendDrain, BackendEdit, BackendName, BackendSpec, EventQuery, MacChange, Request, ServiceAdd,
};
use ctl::{DEFAULT_SOCKET, FlowHash, Mac, NameError, OnAllDown, Scheduler, ServiceId, Tracking, parse_backend};

/// Drives a running shuntd.
///
/// A change is made as a whole or not at all, and is in force when the command returns. It lasts until shuntd ends;
/// what is to last longer belongs in its configuration file.
///
/// Exit status: 0 done, 1 shuntd refused, 2 wrong usage or no shuntd.
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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The director at a glance, and what needs attention.
    Status,
    /// Services: what clients connect to.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Backends: who answers (real servers, in LVS's words).
    #[command(subcommand)]
    Backend(BackendCommand),
    /// The backends' MAC addresses, found by ARP and NDP.
    #[command(subcommand)]
    Neighbor(NeighborCommand),
    /// The director's network ports.
    #[command(subcommand)]
    Port(PortCommand),
    /// The forwarding threads.
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// Why frames were not forwarded, what that means, and what to do.
    ///
    /// By reason, with the ports where there are several, and the services that were hit, the ten with the most
    /// frames. `shuntctl service show` has all reasons of one service.
    Drops(DropsArgs),
    /// What has happened: changes, backends found and lost, mistakes in the network.
    ///
    /// shuntd keeps the last 1024 in memory and writes all to its log. What packets cause is written down once in ten
    /// seconds for each backend or port, with the number of those left out.
    ///
    /// Example: shuntctl events --follow
    Events(EventsArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// All services with their backends.
    List,
    /// One service with its backends.
    Show {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
    },
    /// Add a service.
    ///
    /// Example: shuntctl service add 192.0.2.1:80 --backend 192.0.2.10 --backend 192.0.2.11,weight=3
    Add(ServiceAddArgs),
    /// Remove a service and its backends.
    Remove {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
    },
}

/// How a service is written.
const SERVICE: &str = "VIP:PORTS[/PROTOCOL]";

#[derive(Debug, Args)]
pub(crate) struct ServiceAddArgs {
    /// The service: a VIP, IPv6 in brackets; a port, a list (80,443), a range (8000-8100) or any; and a protocol,
    /// without one TCP. As in 192.0.2.1:80, 192.0.2.1:53/udp or 192.0.2.1:2905/sctp.
    #[arg(value_name = SERVICE)]
    service: ServiceId,
    /// How backends are chosen: maglev; sh (by the client's address); or flow by flow: wrr, rr, wlc, lc.
    #[arg(short, long, default_value_t)]
    scheduler: Scheduler,
    /// What decides the backend of a flow: 5tuple, source (the client's address), or source/PREFIX.
    #[arg(long)]
    hash: Option<FlowHash>,
    /// Which flows are remembered: exceptions (those whose backend a change has made differ from what their hash says)
    /// or all (for exact numbers of connections; what wrr, rr, wlc and lc need).
    #[arg(long)]
    tracking: Option<Tracking>,
    /// For how long a flow is remembered that nothing is heard of, and how long a change hands over: 90s, 15m, 2h. By
    /// default 15m, and 5m for UDP.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    idle_timeout: Option<u32>,
    /// When all backends are down: drop, or all (send to them as if they were up).
    #[arg(long, default_value_t)]
    on_all_down: OnAllDown,
    /// A backend, more with more of this option.
    #[arg(short, long = "backend", value_name = "ADDRESS[,weight=N][,mac=MAC]")]
    backends: Vec<BackendWord>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackendCommand {
    /// Add a backend to a service.
    ///
    /// Example: shuntctl backend add 192.0.2.1:80 192.0.2.10 --weight 3
    Add {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address, on one of the director's networks.
        #[arg(value_name = "ADDRESS", value_parser = parse_backend)]
        backend: (IpAddr, Option<u16>),
        /// Its share of the flows in relation to the other backends', 0 to 65535; 0: none.
        #[arg(short, long, default_value_t = 1)]
        weight: u32,
        /// Its MAC address, if that is not to be resolved.
        #[arg(short, long)]
        mac: Option<Mac>,
    },
    /// Change a backend's weight or MAC address.
    ///
    /// Example: shuntctl backend edit 192.0.2.1:80 192.0.2.10 --weight 3
    Edit {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
        /// Its new weight, 0 to 65535.
        #[arg(short, long, required_unless_present = "mac")]
        weight: Option<u32>,
        /// Its MAC address from now on, or "resolve" to have it resolved.
        #[arg(short, long, value_name = "MAC|resolve")]
        mac: Option<MacChange>,
    },
    /// Have a backend take no new flows; its old ones stay until they end, or for so long.
    ///
    /// Example: shuntctl backend drain 192.0.2.1:80 192.0.2.10 --deadline 10m
    Drain {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
        /// When what is left of its flows goes to other backends: 90s, 15m, 2h; 0s: at once. Without it, never.
        #[arg(short, long, value_name = "TIME", value_parser = seconds)]
        deadline: Option<u32>,
    },
    /// Have a backend that was drained take new flows again.
    Enable {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
    },
    /// Remove a backend from a service. Its flows break; drain it first.
    Remove {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
        /// The backend's address.
        address: IpAddr,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NeighborCommand {
    /// All backends' addresses, their MAC addresses, and how fresh these are.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    /// All ports: device, driver, link, addresses, counters.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// All workers: core, load, packets, and how long frames were with them.
    List,
}

#[derive(Debug, Args)]
pub(crate) struct DropsArgs {
    /// Show the reasons that have not occurred, too.
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Show how many each worker had.
    #[arg(short, long)]
    pub(crate) worker: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens, until Ctrl-C; with --json, an event a line.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// How many of the latest.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
}

impl Command {
    /// The request that carries the command out.
    pub(crate) fn request(&self) -> Request {
        match self {
            Command::Status => Request::Status,
            Command::Service(command) => command.request(),
            Command::Backend(command) => command.request(),
            Command::Neighbor(NeighborCommand::List) => Request::NeighborList,
            Command::Port(PortCommand::List) => Request::PortList,
            Command::Worker(WorkerCommand::List) => Request::WorkerList,
            Command::Drops(_) => Request::Drops,
            Command::Events(EventsArgs { limit, .. }) => {
                Request::Events(EventQuery { since: None, limit: Some(*limit) })
            }
        }
    }
}

impl ServiceCommand {
    fn request(&self) -> Request {
        match self {
            ServiceCommand::List => Request::ServiceList,
            ServiceCommand::Show { service } => Request::ServiceShow(*service),
            ServiceCommand::Add(add) => Request::ServiceAdd(ServiceAdd {
                service: add.service,
                scheduler: add.scheduler,
                hash: add.hash,
                tracking: add.tracking,
                idle_timeout_s: add.idle_timeout,
                on_all_down: add.on_all_down,
                backends: add.backends.iter().map(|backend| backend.0.clone()).collect(),
            }),
            ServiceCommand::Remove { service } => Request::ServiceRemove(*service),
        }
    }
}

impl BackendCommand {
    fn request(&self) -> Request {
        match self {
            BackendCommand::Add { service, backend, weight, mac } => Request::BackendAdd(BackendAdd {
                service: *service,
                backend: BackendSpec { address: backend.0, port: backend.1, weight: *weight, mac: *mac },
            }),
            BackendCommand::Edit { service, address, weight, mac } => {
                Request::BackendEdit(BackendEdit { service: *service, address: *address, weight: *weight, mac: *mac })
            }
            BackendCommand::Drain { service, address, deadline } => {
                Request::BackendDrain(BackendDrain { service: *service, address: *address, deadline_s: *deadline })
            }
            BackendCommand::Enable { service, address } => {
                Request::BackendEnable(BackendName { service: *service, address: *address })
            }
            BackendCommand::Remove { service, address } => {
                Request::BackendRemove(BackendName { service: *service, address: *address })
            }
        }
    }
}

/// Reads a length of time, such as 90s or 15m, in whole seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}: write 90s, 15m or 2h"))?;
    u32::try_from(time.as_secs()).map_err(|_| "too long".into())
}

/// A backend in one word: `ADDRESS[:PORT][,weight=N][,mac=MAC]`.
#[derive(Debug, Clone)]
pub(crate) struct BackendWord(BackendSpec);

#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendWordError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("weight {0}: not a number")]
    Weight(String),
    #[error("\"{0}\" is not weight=N or mac=MAC")]
    Option(String),
}

impl FromStr for BackendWord {
    type Err = BackendWordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let (address, port) = parse_backend(parts.next().unwrap_or_default())?;
        let mut backend = BackendSpec { address, port, weight: 1, mac: None };
        for part in parts {
            match part.split_once('=') {
                Some(("weight", weight)) => {
                    backend.weight = weight.parse().map_err(|_| BackendWordError::Weight(weight.into()))?;
                }
                Some(("mac", mac)) => backend.mac = Some(mac.parse()?),
                _ => return Err(BackendWordError::Option(part.into())),
            }
        }
        Ok(BackendWord(backend))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn request(line: &str) -> Result<Request, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command.request())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_become_requests() {
        let Request::ServiceAdd(add) =
            request("shuntctl service add [fd00::1]:53/udp -b fd00::3 -b fd00::4,weight=3,mac=02:00:00:00:00:04")
                .unwrap()
        else {
            panic!("not a service-add")
        };
        assert_eq!(add.service.to_string(), "[fd00::1]:53/udp");
        assert_eq!(add.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 3]);
        let Request::BackendAdd(add) = request("shuntctl backend add 192.0.2.1:80 192.0.2.9:80 -w 7").unwrap() else {
            panic!("not a backend-add")
        };
        assert_eq!((add.backend.weight, add.backend.port), (7, Some(80)));
        assert_eq!(request("shuntctl port list --json").unwrap(), Request::PortList);
        let Request::ServiceAdd(add) =
            request("shuntctl service add 192.0.2.1:80 -s wlc --tracking all --idle-timeout 2h --on-all-down all")
                .unwrap()
        else {
            panic!("not a service-add")
        };
        assert_eq!(
            (add.scheduler, add.tracking, add.idle_timeout_s),
            (Scheduler::Wlc, Some(Tracking::All), Some(7_200))
        );
        let Request::BackendDrain(drain) = request("shuntctl backend drain 192.0.2.1:80 192.0.2.9 -d 10m").unwrap()
        else {
            panic!("not a backend-drain")
        };
        assert_eq!(drain.deadline_s, Some(600));
        let latest = |limit| Request::Events(EventQuery { since: None, limit: Some(limit) });
        assert_eq!(request("shuntctl events -f").unwrap(), latest(100));
        assert_eq!(request("shuntctl events --limit 7").unwrap(), latest(7));
    }

    #[test]
    fn wrong_words_are_refused() {
        for line in [
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
        ] {
            assert!(request(line).is_err(), "{line}");
        }
    }
}
