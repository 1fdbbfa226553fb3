//! Answers as people read them.

use std::fmt::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use ctl::answer::{
    Answer, Backend, BackendState, Count, Drop, Event, EventCount, Fate, LatencySamples, Neighbor, NeighborState,
    Percentiles, Port, Service, Status, Worker,
};

use ctl::{FlowHash, Scheduler};

use crate::args::Command;

/// An answer as text, newline included.
pub(crate) fn text(command: &Command, answer: &Answer) -> String {
    match answer {
        Answer::Done(done) => format!("{}\n", done.message),
        Answer::Status(answer) => status(answer),
        Answer::Services(answer) => services(answer),
        Answer::Service(answer) => services(std::slice::from_ref(answer)) + &service_drops(answer),
        Answer::Neighbors(answer) => neighbors(answer),
        Answer::Ports(answer) => ports(answer),
        Answer::Workers(answer) => workers(answer),
        Answer::Drops(answer) => match command {
            Command::Drops(args) => drops(answer, args.all, args.worker),
            _ => drops(answer, false, false),
        },
        Answer::Events(answer) => events(answer),
    }
}

/// A line for each, oldest first.
fn events(events: &[Event]) -> String {
    if events.is_empty() { "No events\n".into() } else { events.iter().map(|event| format!("{event}\n")).collect() }
}

/// An answer as JSON: what was asked for, without the envelope.
pub(crate) fn json(answer: &Answer) -> Result<String, serde_json::Error> {
    let tagged = serde_json::to_value(answer)?;
    let inner = tagged.as_object().and_then(|object| object.values().next()).unwrap_or(&tagged);
    Ok(serde_json::to_string_pretty(inner)? + "\n")
}

fn status(status: &Status) -> String {
    let of = |Count { total, up }: Count, what: &str| format!("{up} of {total} {what}");
    let memory = if status.hugepages { "hugepages" } else { "plain pages" };
    let rows = [
        ("shuntd", format!("{} on {}, pid {}", status.version, status.dpdk, status.pid)),
        ("up for", duration(status.uptime_s)),
        ("configuration", status.config_file.clone()),
        ("memory", memory.into()),
        ("packet buffers", format!("{} of {} in use", status.packet_buffers.in_use, status.packet_buffers.total)),
        ("snapshot", status.generation.to_string()),
        ("workers", status.workers.to_string()),
        ("ports", of(status.ports, "up")),
        ("services", of(status.services, "with a reachable backend")),
        ("backends", of(status.backends, "reachable")),
        ("received", format!("{} frames", status.rx_packets)),
        ("forwarded", format!("{} frames", status.forwarded_packets)),
        ("dropped", format!("{} frames (shuntctl drops)", status.dropped_packets)),
        ("events", event_count(status.events)),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        line(&mut text, format_args!("{name:<14} {value}"));
    }
    if status.warnings.is_empty() {
        line(&mut text, format_args!("{:<14} none", "warnings"));
    }
    for (number, warning) in status.warnings.iter().enumerate() {
        let name = if number == 0 { "warnings" } else { "" };
        line(&mut text, format_args!("{name:<14} {warning}"));
    }
    text
}

fn event_count(EventCount { warn, error }: EventCount) -> String {
    match (warn, error) {
        (0, 0) => "no warnings or errors in the last hour".into(),
        (warn, error) => format!("warnings: {warn}, errors: {error} in the last hour (shuntctl events)"),
    }
}

fn services(services: &[Service]) -> String {
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
        (BackendState::Up, _) => "up".into(),
        (BackendState::Draining, Some(left)) => format!("draining, {} left", duration(left)),
        (BackendState::Draining, None) => "draining".into(),
        (BackendState::Drained, _) => "drained".into(),
        (BackendState::Resolving, _) => "resolving".into(),
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

fn neighbors(neighbors: &[Neighbor]) -> String {
    if neighbors.is_empty() {
        return "No backends, so nobody to resolve\n".into();
    }
    let mut table = table(&["ADDRESS", "PORT", "MAC", "STATE", ">CONFIRMED", ">PROBES", ">CHANGES", ">SERVICES"]);
    for neighbor in neighbors {
        table.add_row([
            neighbor.address.to_string(),
            neighbor.port.clone(),
            neighbor.mac.map_or("-".into(), |mac| mac.to_string()),
            neighbor_state(neighbor.state).into(),
            neighbor.confirmed_s.map_or("-".into(), |seconds| format!("{} ago", duration(seconds))),
            neighbor.probes.to_string(),
            neighbor.changes.to_string(),
            neighbor.services.to_string(),
        ]);
    }
    finish(&table)
}

fn neighbor_state(state: NeighborState) -> &'static str {
    match state {
        NeighborState::Permanent => "permanent",
        NeighborState::Incomplete => "incomplete",
        NeighborState::Reachable => "reachable",
        NeighborState::Probe => "probe",
        NeighborState::Failed => "failed",
    }
}

fn ports(ports: &[Port]) -> String {
    let mut table = table(&[
        "PORT",
        "DEVICE",
        "DRIVER",
        "LINK",
        "MAC",
        "ADDRESSES",
        ">MTU",
        ">QUEUES",
        ">RX",
        ">TX",
        ">MISSED",
        ">ERRORS",
        ">NO MBUF",
    ]);
    for port in ports {
        let speed = port.speed_mbps.map_or(String::new(), |mbps| format!(" {mbps} Mbit/s"));
        table.add_row([
            port.name.clone(),
            port.device.clone(),
            port.driver.clone(),
            if port.link_up { format!("up{speed}") } else { "down".into() },
            port.mac.to_string(),
            addresses(port),
            port.mtu.to_string(),
            port.queues.to_string(),
            port.rx_packets.to_string(),
            port.tx_packets.to_string(),
            port.rx_missed.to_string(),
            port.rx_errors.to_string(),
            port.rx_no_mbuf.to_string(),
        ]);
    }
    finish(&table)
}

/// One a line, those of a VLAN behind its name.
fn addresses(port: &Port) -> String {
    let tagged = port
        .vlans
        .iter()
        .flat_map(|vlan| vlan.addresses.iter().map(move |address| format!("{}.{} {address}", port.name, vlan.id)));
    port.addresses.iter().cloned().chain(tagged).collect::<Vec<_>>().join("\n")
}

fn workers(workers: &[Worker]) -> String {
    let mut table = table(&[
        "WORKER",
        ">CORE",
        ">LOAD",
        ">RECEIVED",
        ">FORWARDED",
        ">DROPPED",
        ">TO SLOW PATH",
        ">FLOWS REMEMBERED",
        ">NO ROOM",
        ">TURNS",
        ">BUSY TURNS",
        ">SNAPSHOT",
    ]);
    for worker in workers {
        table.add_row([
            worker.id.to_string(),
            worker.lcore.to_string(),
            format!("{:.1} %", worker.load * 100.0),
            worker.rx_packets.to_string(),
            worker.forwarded_packets.to_string(),
            worker.dropped_packets.to_string(),
            worker.punted_packets.to_string(),
            format!("{} of {}", worker.remembered_flows, worker.room_for_flows),
            worker.unremembered_packets.to_string(),
            worker.turns.to_string(),
            worker.busy_turns.to_string(),
            worker.generation.to_string(),
        ]);
    }
    finish(&table) + &latencies(workers)
}

/// How long frames were with the workers.
fn latencies(workers: &[Worker]) -> String {
    if workers.iter().all(|worker| worker.latency.is_none()) {
        return String::new();
    }
    let mut table = table(&["LATENCY (µs)", "OVER", ">FRAMES SAMPLED", ">HALF (p50)", ">99 %", ">99.9 %", ">LONGEST"]);
    for worker in workers {
        let Some(latency) = &worker.latency else { continue };
        let id = format!("worker {}", worker.id);
        table.add_row(latency_row(id.clone(), format!("the last {} s", latency.recent.seconds), &latency.recent));
        let since_start = &latency.since_start;
        table.add_row(latency_row(id, format!("{} since the start", duration(since_start.seconds)), since_start));
    }
    format!("\n{}", finish(&table))
}

fn latency_row(worker: String, over: String, of: &LatencySamples) -> [String; 7] {
    let us = |ns: u64| format!("{:.1}", ns as f64 / 1_000.0);
    let cells = |p: Percentiles| [p.p50_ns, p.p99_ns, p.p999_ns, p.max_ns].map(us);
    let [half, p99, p999, longest] = of.percentiles.map_or_else(|| [(); 4].map(|()| "-".into()), cells);
    [worker, over, of.samples.to_string(), half, p99, p999, longest]
}

fn drops(reasons: &[Drop], all: bool, by_worker: bool) -> String {
    let shown: Vec<&Drop> = reasons.iter().filter(|reason| all || reason.packets > 0).collect();
    if shown.is_empty() {
        return "Nothing dropped, nothing given to the slow path\n".into();
    }
    let mut text = String::new();
    for (fate, title) in [(Fate::Drop, "Dropped"), (Fate::Punt, "Given to the slow path")] {
        let group: Vec<&&Drop> = shown.iter().filter(|reason| reason.fate == fate).collect();
        if group.is_empty() {
            continue;
        }
        line(&mut text, format_args!("{title}:"));
        for reason in group {
            let ports: Vec<String> =
                reason.ports.iter().map(|count| format!("{} on {}", count.packets, count.port)).collect();
            let ports = if ports.len() > 1 { format!(" ({})", ports.join(", ")) } else { String::new() };
            line(&mut text, format_args!("{:>14}  {:<20} {}{ports}", reason.packets, reason.reason, reason.meaning));
            let mut more = |sentence: String| line(&mut text, format_args!("{:>14}  {:<20} {sentence}", "", ""));
            if fate == Fate::Drop {
                more(format!("→ {}", reason.advice));
            }
            if by_worker && reason.packets > 0 {
                more(workers_of(reason));
            }
            if !reason.services.is_empty() {
                more(format!("of services: {}", services_of(reason)));
            }
        }
    }
    text
}

fn workers_of(reason: &Drop) -> String {
    let workers = reason.workers.iter().map(|count| format!("worker {}: {}", count.worker, count.packets));
    workers.collect::<Vec<_>>().join(", ")
}

fn services_of(reason: &Drop) -> String {
    let services = reason.services.iter().map(|count| format!("{} of {}", count.packets, count.service));
    let more = Some(format!("… and {} more services", reason.more_services)).filter(|_| reason.more_services > 0);
    services.chain(more).collect::<Vec<_>>().join(", ")
}

/// What was dropped of a service's packets.
fn service_drops(service: &Service) -> String {
    if service.drops.is_empty() {
        return String::new();
    }
    let drops = service.drops.iter().map(|count| format!("{} {}", count.packets, count.reason));
    format!("Dropped: {} (what that means: shuntctl drops)\n", drops.collect::<Vec<_>>().join(", "))
}

/// A table without lines. A header that begins with ">" makes its column right-aligned.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| Cell::new(name.trim_start_matches('>'))));
    for (name, column) in header.iter().zip(table.column_iter_mut()) {
        column.set_padding((0, 2));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Without spaces at the ends of lines: they make diffs and copies ugly.
fn finish(table: &Table) -> String {
    let mut text = String::new();
    for row in table.lines() {
        line(&mut text, format_args!("{}", row.trim_end()));
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

/// The two largest units: 3d 4h, 5m 0s, 7s.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(7, "7s"), (300, "5m 0s"), (3_600, "1h 0m"), (90_061, "1d 1h")] {
            assert_eq!(duration(seconds), text);
        }
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
        let text = services(&[service]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["192.0.2.1:80/tcp", "maglev", "source/24", "hand-over", "of", "25.0", "%", "30", "1800"]);
        assert_eq!(words[2], ["192.0.2.10", "3", "75.00", "%", "up", "02:00:00:00:00:0a", "pinned", "4", "30", "1800"]);
        assert_eq!(words[3], ["192.0.2.11", "1", "25.00", "%", "resolving", "-", "0", "0", "0"]);
        assert!(text.lines().all(|line| !line.ends_with(' ')));
    }

    #[test]
    fn latencies_are_in_microseconds_and_may_be_missing() {
        let worker = |id: usize, rest: &str| -> Worker {
            let text = format!(
                r#"{{"id":{id},"lcore":1,"turns":9,"busy_turns":3,"load":0.5,"rx_packets":3,"forwarded_packets":3,
                "dropped_packets":0,"punted_packets":0,"remembered_flows":0,"room_for_flows":16,"unremembered_packets":0,
                "generation":1{rest}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let old = worker(0, "");
        assert_eq!(workers(std::slice::from_ref(&old)).lines().count(), 2, "of a daemon that does not tell");
        let new = worker(
            1,
            r#","latency":{"recent":{"seconds":64,"samples":0,"sum_ns":0,"percentiles":null,"buckets":[]},
            "since_start":{"seconds":90061,"samples":1200,"sum_ns":1500000,"buckets":[{"up_to_ns":255,"samples":0}],
            "percentiles":{"p50_ns":1279,"p99_ns":2047,"p999_ns":50175,"max_ns":1048575}}}"#,
        );
        let text = workers(&[old, new]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[5], ["worker", "1", "the", "last", "64", "s", "0", "-", "-", "-", "-"]);
        let since_start = ["worker", "1", "1d", "1h", "since", "the", "start", "1200", "1.3", "2.0", "50.2", "1048.6"];
        assert_eq!(words[6], since_start);
    }

    #[test]
    fn drops_name_workers_and_services() {
        let reasons: Vec<Drop> = serde_json::from_str(
            r#"[{"reason":"no_backend","fate":"drop","packets":12,"ports":[{"port":"lan0","packets":12}],
            "workers":[{"worker":0,"packets":5},{"worker":2,"packets":7}],
            "services":[{"service":{"vip":"192.0.2.1","port":80},"packets":8},
            {"service":{"vip":"192.0.2.2","port":53,"protocol":"udp"},"packets":3}],"more_services":1,
            "meaning":"None.","advice":"Add one."}]"#,
        )
        .unwrap();
        let text = drops(&reasons, false, true);
        assert!(text.contains("worker 0: 5, worker 2: 7\n"), "{text}");
        assert!(text.contains("8 of 192.0.2.1:80/tcp, 3 of 192.0.2.2:53/udp, … and 1 more services\n"), "{text}");
        assert!(!drops(&reasons, false, false).contains("worker 0"));
    }
}
