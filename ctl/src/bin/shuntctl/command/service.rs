//! `shuntctl service`.

use std::net::IpAddr;
use std::str::FromStr;

use clap::{Args, Subcommand};
use ctl::answer::{Backend, BackendState, Service};
use ctl::request::{BackendSpec, CheckSpec, FallbackChange, ServiceAdd, ServiceEdit};
use ctl::{
    FlowHash, NameError, OnAllDown, Passive, Scheduler, ServiceId, Start, Tracking, parse_backend, parse_number,
    parse_seconds, verb,
};

use crate::question::Question;
use crate::table::{duration, finish, table};
use crate::value::{SERVICE, number};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
    Add(AddArgs),
    /// Change how a service's backends are checked, and what follows from it. No running flow moves.
    ///
    /// A check that the service has already goes on as if nothing had changed, and files that it names are read again. A new one begins with
    /// what the old ones knew: a backend that was up or down stays so until the new check has found otherwise. Another fallback takes
    /// the place of the old one, whose flows break; it is refused while the old one serves. What is not listed here cannot be changed while there
    /// are flows that depend on it: remove the service, and add it anew. Example: shuntctl service edit 192.0.2.1:80 --check "http
    /// path=/health" --min-up 50
    Edit(EditArgs),
    /// Remove a service and its backends.
    Remove {
        /// The service.
        #[arg(value_name = SERVICE)]
        service: ServiceId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The service: a VIP, IPv6 in brackets; a port, a list (80,443), a range (8000-8100) or any; and a protocol,
    /// without one TCP. As in 192.0.2.1:80, 192.0.2.1:53/udp or 192.0.2.1:2905/sctp.
    #[arg(value_name = SERVICE)]
    service: ServiceId,
    #[arg(short, long, default_value_t, help = format!("How backends are chosen: {}", Scheduler::choices()))]
    scheduler: Scheduler,
    /// What decides the backend of a flow: 5tuple, source (the client's address), or source/PREFIX.
    #[arg(long)]
    hash: Option<FlowHash>,
    /// Which flows are remembered: exceptions (those whose backend a change has made differ from what their hash says),
    /// all (for exact numbers of connections; what schedulers that decide flow by flow need) or none (for UDP: each
    /// packet goes by the table as it is, and no change hands over).
    #[arg(long)]
    tracking: Option<Tracking>,
    /// For how long a flow is remembered that nothing is heard of: 90s, 15m, 2h. By default 15m, and 5m for UDP.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    idle_timeout: Option<u32>,
    /// For how long after a change old flows stay with their backends until they are heard of. By default as long as the
    /// idle timeout; for UDP, at most 30s, since until then a new flow goes where an old one would.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    handover_time: Option<u32>,
    /// When all backends are down: drop, or all (send to them as if they were up).
    #[arg(long, default_value_t)]
    on_all_down: OnAllDown,
    /// A check of the backends, more with more of this option, all of which must be good: a type and key=value, as in
    /// "http path=/health status=200-299 interval=2s". Types: tcp, http, https, udp, dns, icmp, arp,
    /// script, none. By default tcp, where the service is of TCP and has one port, else arp.
    #[arg(short, long = "check", value_name = "CHECK")]
    checks: Vec<CheckSpec>,
    /// If fewer backends than this share are up, in percent, the checks are not believed: all get traffic.
    #[arg(long, value_name = "PERCENT", value_parser = number::<u8>)]
    min_up: Option<u8>,
    /// What a backend counts as that was not checked yet: up or down.
    #[arg(long, default_value_t)]
    start: Start,
    /// The address of a backend that serves only when no other takes new flows.
    #[arg(long, value_name = "ADDRESS")]
    fallback: Option<IpAddr>,
    /// For how long the weight of a backend that returns (its checks are good again, or it is enabled) rises from 5 % to the whole:
    /// 60s, 5m. Without it, it has its whole share at once.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    slow_start: Option<u32>,
    /// When clients of a backend get no answer, as their packets show: off, report, or remove (report it, and take it out for a
    /// time). By default report.
    #[arg(long)]
    passive: Option<Passive>,
    /// A backend, more with more of this option.
    #[arg(short, long = "backend", value_name = "ADDRESS[,weight=N][,mac=MAC][,disabled]")]
    backends: Vec<BackendWord>,
}

#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true, args = ["scheduler", "on_all_down", "checks", "min_up", "start", "fallback", "slow_start", "passive"])]
pub(crate) struct EditArgs {
    /// The service.
    #[arg(value_name = SERVICE)]
    service: ServiceId,
    /// How backends are chosen from now on: one of rr, wrr, lc and wlc, where the service has one of these. maglev and sh go by a
    /// table, and no other can take their place.
    #[arg(short, long)]
    scheduler: Option<Scheduler>,
    /// When all backends are down: drop, or all (send to them as if they were up).
    #[arg(long)]
    on_all_down: Option<OnAllDown>,
    /// A check of the backends, more with more of this option: in place of all that it has, as in
    /// "http path=/health status=200-299 interval=2s".
    #[arg(short, long = "check", value_name = "CHECK")]
    checks: Vec<CheckSpec>,
    /// If fewer backends than this share are up, in percent, the checks are not believed: all get traffic. 0: they always are.
    #[arg(long, value_name = "PERCENT", value_parser = number::<u8>)]
    min_up: Option<u8>,
    /// What a backend counts as that was not checked yet: up or down.
    #[arg(long)]
    start: Option<Start>,
    /// The address of a backend that serves only when no other takes new flows, or none.
    #[arg(long, value_name = "ADDRESS|none")]
    fallback: Option<FallbackChange>,
    /// For how long the weight of a backend that returns rises: 60s, 5m; 0s: it has its whole share at once.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    slow_start: Option<u32>,
    /// When clients of a backend get no answer, as their packets show: off, report, or remove.
    #[arg(long)]
    passive: Option<Passive>,
}

/// A backend in one word: `ADDRESS[:PORT][,weight=N][,mac=MAC][,disabled]`.
#[derive(Debug, Clone)]
struct BackendWord(BackendSpec);

#[derive(Debug, thiserror::Error)]
enum BackendWordError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("weight \"{0}\": not a number, write decimal digits alone")]
    Weight(String),
    #[error("\"{0}\" is not weight=N, mac=MAC or disabled")]
    Option(String),
}

impl FromStr for BackendWord {
    type Err = BackendWordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let (address, port) = parse_backend(parts.next().unwrap_or_default())?;
        let mut backend = BackendSpec { port, ..BackendSpec::new(address) };
        for part in parts {
            match part.split_once('=') {
                Some(("weight", weight)) => {
                    backend.weight = parse_number(weight).ok_or_else(|| BackendWordError::Weight(weight.into()))?;
                }
                Some(("mac", mac)) => backend.mac = Some(mac.parse()?),
                None if part == "disabled" => backend.disabled = true,
                _ => return Err(BackendWordError::Option(part.into())),
            }
        }
        Ok(BackendWord(backend))
    }
}

impl Command {
    pub(super) fn question(self) -> Question {
        match self {
            Command::List => Question::new::<verb::ServiceList>((), |services| listing(&services)),
            Command::Show { service } => Question::new::<verb::ServiceShow>(service, |service| {
                listing(std::slice::from_ref(&service)) + &checks(&service) + passive(&service) + &drops(&service)
            }),
            Command::Add(add) => Question::change::<verb::ServiceAdd>(ServiceAdd {
                service: add.service,
                scheduler: add.scheduler,
                hash: add.hash,
                tracking: add.tracking,
                idle_timeout_s: add.idle_timeout,
                handover_time_s: add.handover_time,
                on_all_down: add.on_all_down,
                checks: Some(add.checks).filter(|checks| !checks.is_empty()),
                min_up: add.min_up,
                start: add.start,
                fallback: add.fallback,
                slow_start_s: add.slow_start,
                passive: add.passive,
                backends: add.backends.into_iter().map(|BackendWord(backend)| backend).collect(),
            }),
            Command::Edit(edit) => Question::change::<verb::ServiceEdit>(ServiceEdit {
                service: edit.service,
                scheduler: edit.scheduler,
                on_all_down: edit.on_all_down,
                checks: Some(edit.checks).filter(|checks| !checks.is_empty()),
                min_up: edit.min_up,
                start: edit.start,
                fallback: edit.fallback,
                slow_start_s: edit.slow_start,
                passive: edit.passive,
            }),
            Command::Remove { service } => Question::change::<verb::ServiceRemove>(service),
        }
    }
}

fn listing(services: &[Service]) -> String {
    if services.is_empty() {
        return "No services: `shuntctl service add VIP:PORT`\n".into();
    }
    let mut table = table(&[
        "SERVICE",
        "SCHEDULER",
        "BACKEND",
        ">WEIGHT",
        ">SHARE",
        "STATE",
        "MAC",
        ">FLOWS",
        ">PACKETS",
        ">BYTES",
    ]);
    for service in services {
        let totals = [service.packets.to_string(), service.bytes.to_string()];
        let [packets, bytes] = totals;
        let dash = String::new;
        table.add_row([
            service.id.to_string(),
            scheduler(service),
            dash(),
            dash(),
            dash(),
            handover(service),
            dash(),
            dash(),
            packets,
            bytes,
        ]);
        for backend in &service.backends {
            table.add_row(backend_row(backend));
        }
    }
    finish(&table)
}

/// With what decides, where that is not what the scheduler stands for.
fn scheduler(service: &Service) -> String {
    match (service.scheduler, service.hash) {
        (Scheduler::Sh, FlowHash::Source { prefix: None }) | (_, FlowHash::FiveTuple) => service.scheduler.to_string(),
        (scheduler, hash) => format!("{scheduler} {hash}"),
    }
}

/// How far a change has been handed over.
fn handover(service: &Service) -> String {
    if service.slots_in_handover == 0 {
        return String::new();
    }
    let share = f64::from(service.slots_in_handover) * 100.0 / f64::from(service.slots.max(1));
    format!("hand-over of {share:.1} %")
}

fn backend_row(backend: &Backend) -> [String; 10] {
    let state = match (backend.state, backend.drain_left_s) {
        (BackendState::Up, _) if backend.weight == 0 => "no new flows".into(),
        (BackendState::Up, _) if backend.fallback && backend.share == 0.0 => "up, fallback".into(),
        (BackendState::Up, _) if backend.fallback => "fallback serves".into(),
        (BackendState::Up, _) => match backend.slow_start_percent {
            Some(percent) => format!("slow start, {percent} %"),
            None => "up".into(),
        },
        (BackendState::Draining, Some(left)) => format!("draining, {} left", duration(left)),
        (BackendState::Draining, None) => "draining".into(),
        (BackendState::Drained, _) => "drained".into(),
        (BackendState::Disabled, _) => "disabled".into(),
        (BackendState::Resolving, _) => "resolving".into(),
        (BackendState::CutOff, _) => "cut off".into(),
        (BackendState::Down, _) => match (backend.damped_left_s, backend.out_left_s) {
            (Some(left), _) => format!("down (damped, {} left)", duration(left)),
            (None, Some(left)) => format!("down (clients get no answer, tried in {})", duration(left)),
            (None, None) => "down".into(),
        },
        (BackendState::Unreachable, _) => "unreachable".into(),
    };
    let mac = backend.mac.map_or("-".into(), |mac| mac.to_string());
    [
        String::new(),
        String::new(),
        backend.address.to_string(),
        backend.weight.to_string(),
        format!("{:.2} %", backend.share * 100.0),
        state,
        if backend.mac_pinned { format!("{mac} pinned") } else { mac },
        (backend.active_flows + backend.inactive_flows).to_string(),
        backend.packets.to_string(),
        backend.bytes.to_string(),
    ]
}

/// What the checks of a service have found, a line a check and backend.
fn checks(service: &Service) -> String {
    let results: Vec<_> =
        service.backends.iter().flat_map(|backend| backend.checks.iter().map(move |check| (backend, check))).collect();
    let mut text = String::new();
    if !results.is_empty() {
        let mut table = table(&["BACKEND", "CHECK", "STATE", "LAST PROBE", ">AGE", ">PASSED", ">FAILED", ">VOID"]);
        for (backend, result) in results {
            let state = match result.up {
                Some(true) => "up",
                Some(false) => "down",
                None => "not known yet",
            };
            let words = if result.words.is_empty() { "-" } else { &result.words };
            table.add_row([
                backend.address.to_string(),
                result.check.to_string(),
                state.into(),
                words.into(),
                result.age_s.map_or_else(|| "-".into(), |age| format!("{age:.1} s")),
                result.passed.to_string(),
                result.failed.to_string(),
                result.void.to_string(),
            ]);
        }
        text = format!("\n{}", finish(&table));
    } else if !service.checks.is_empty() {
        let checks: Vec<String> = service.checks.iter().map(ToString::to_string).collect();
        text = format!("Checks: {}\n", checks.join("; "));
    }
    if !service.checks_believed {
        let share = service.min_up;
        text += &format!(
            "Fewer than {share} % of the backends are up by the checks: these are not believed, and all get traffic\n"
        );
    }
    text
}

/// What follows when clients get no answer, where that is not what it is as a rule.
fn passive(service: &Service) -> &'static str {
    match service.passive {
        Passive::Report => "",
        Passive::Off => "Passive: off (nobody looks whether clients get answers)\n",
        Passive::Remove => "Passive: remove (a backend whose clients get no answer is taken out for a time)\n",
    }
}

/// What was dropped of a service's packets.
fn drops(service: &Service) -> String {
    if service.drops.is_empty() {
        return String::new();
    }
    let drops = service.drops.iter().map(|count| format!("{} {}", count.packets, count.reason));
    format!("Dropped: {} (what that means: shuntctl drops)\n", drops.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[
            ("service list", r#""service-list""#),
            (
                "service show 192.0.2.1:80",
                r#""service-show","arguments":{"vip":"192.0.2.1","port":80,"protocol":"tcp"}"#,
            ),
            (
                "service show [fd00::1]:80,443/udp",
                r#""service-show","arguments":{"vip":"fd00::1","port":"80,443","protocol":"udp"}"#,
            ),
            (
                "service remove 192.0.2.1:80",
                r#""service-remove","arguments":{"vip":"192.0.2.1","port":80,"protocol":"tcp"}"#,
            ),
            (
                "service edit [fd00::1]:80 -c tcp -c icmp --min-up 0 --start down --on-all-down all -s wlc",
                r#""service-edit","arguments":{"service":{"vip":"fd00::1","port":80,"protocol":"tcp"},"scheduler":"wlc","on_all_down":"all","checks":[{"type":"tcp"},{"type":"icmp"}],"min_up":0,"start":"down"}"#,
            ),
            (
                "service add [fd00::1]:80 --fallback fd00::9",
                r#""service-add","arguments":{"service":{"vip":"fd00::1","port":80,"protocol":"tcp"},"scheduler":"maglev","on_all_down":"drop","start":"up","fallback":"fd00::9","backends":[]}"#,
            ),
            (
                "service edit 192.0.2.1:80 --slow-start 0s",
                r#""service-edit","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"slow_start_s":0}"#,
            ),
            (
                "service edit 192.0.2.1:80 --passive off",
                r#""service-edit","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"passive":"off"}"#,
            ),
            (
                "service edit 192.0.2.1:80 --fallback none",
                r#""service-edit","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"fallback":"none"}"#,
            ),
            (
                "service edit 192.0.2.1:80 --check arp",
                r#""service-edit","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"checks":[{"type":"arp"}]}"#,
            ),
            (
                "service add 192.0.2.1:80",
                r#""service-add","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"scheduler":"maglev","on_all_down":"drop","start":"up","backends":[]}"#,
            ),
            (
                "service add 192.0.2.1:80 -c tcp -c icmp --min-up 50 --start down --passive remove",
                r#""service-add","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"scheduler":"maglev","on_all_down":"drop","checks":[{"type":"tcp"},{"type":"icmp"}],"min_up":50,"start":"down","passive":"remove","backends":[]}"#,
            ),
            (
                "service add [fd00::1]:53/udp -b fd00::3 -b fd00::4,disabled,weight=3,mac=02:00:00:00:00:04 -b fd00::5:53",
                r#""service-add","arguments":{"service":{"vip":"fd00::1","port":53,"protocol":"udp"},"scheduler":"maglev","on_all_down":"drop","start":"up","backends":[{"address":"fd00::3","weight":1},{"address":"fd00::4","weight":3,"mac":"02:00:00:00:00:04","disabled":true},{"address":"fd00::5:53","weight":1}]}"#,
            ),
            (
                "service add 192.0.2.1:80 -s wlc --tracking all --idle-timeout 2h --handover-time 90s --on-all-down all --hash source/24 --backend 192.0.2.9:80",
                r#""service-add","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},"scheduler":"wlc","hash":"source/24","tracking":"all","idle_timeout_s":7200,"handover_time_s":90,"on_all_down":"all","start":"up","backends":[{"address":"192.0.2.9","port":80,"weight":1}]}"#,
            ),
        ]);
    }

    #[test]
    fn a_service_list_has_a_line_for_each_backend() {
        let service: Service = serde_json::from_str(
            r#"{"vip":"192.0.2.1","port":80,"protocol":"tcp","scheduler":"maglev","hash":"source/24","tracking":"exceptions",
            "idle_timeout_s":900,"on_all_down":"drop","slots":65537,"slots_in_handover":16384,"packets":30,"bytes":1800,
            "backends":[{"address":"192.0.2.10","weight":3,"share":0.75,"state":"up","mac":"02:00:00:00:00:0a",
            "mac_pinned":true,"active_flows":3,"inactive_flows":1,"packets":30,"bytes":1800},{"address":"192.0.2.11","weight":1,"share":0.25,
            "state":"resolving","mac":null,"mac_pinned":false,"active_flows":0,"inactive_flows":0,"packets":0,"bytes":0}]}"#,
        )
        .unwrap();
        let text = listing(&[service]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["192.0.2.1:80/tcp", "maglev", "source/24", "hand-over", "of", "25.0", "%", "30", "1800"]);
        assert_eq!(words[2], ["192.0.2.10", "3", "75.00", "%", "up", "02:00:00:00:00:0a", "pinned", "4", "30", "1800"]);
        assert_eq!(words[3], ["192.0.2.11", "1", "25.00", "%", "resolving", "-", "0", "0", "0"]);
        assert!(text.lines().all(|line| !line.ends_with(' ')));
    }

    #[test]
    fn passive_health_is_shown_where_it_is_not_as_usual() {
        for (wish, shown) in [("report", ""), ("off", "Passive: off ("), ("remove", "Passive: remove (")] {
            let service: Service = serde_json::from_str(&format!(
                r#"{{"vip":"192.0.2.1","port":80,"protocol":"tcp","scheduler":"maglev","hash":"5tuple","tracking":"exceptions",
                "idle_timeout_s":900,"on_all_down":"drop","slots":65537,"slots_in_handover":0,"packets":0,"bytes":0,
                "backends":[],"passive":"{wish}"}}"#
            ))
            .unwrap();
            assert!(passive(&service).starts_with(shown) && passive(&service).is_empty() == shown.is_empty());
        }
    }
}
