//! The director at a glance.

use std::time::Instant;

use ctl::answer::{self, BackendState, Count, FaultCount, PacketBuffers, Refusal};
use ctl::verb::{self, Answers};

use crate::api::backend;
use crate::api::doctor;
use crate::api::facts::{Facts, PortLive};
use crate::base::exit::DropReason;
use crate::control::events;
use crate::control::faults::FaultCounts;
use crate::control::hash_key::HashKey;
use crate::control::model::Service;
use crate::count::counters::{PortCounters, WorkerCounters};
use crate::slow::buffers::{ADVICE, nearly_all_in_use};

/// More of a kind are summed up: a status is to be read.
const MOST_WARNINGS: usize = 8;
/// The faults that are listed: `shuntctl doctor` has all.
const MOST_FAULTS: usize = 100;

impl Answers<verb::Status> for Facts {
    fn answer(&self, (): ()) -> Result<answer::Status, Refusal> {
        Ok(status(self))
    }
}

fn status(facts: &Facts) -> answer::Status {
    let snapshot = facts.director.current();
    let links: Vec<bool> = snapshot.ports.iter().map(|port| port.up).collect();
    let services = snapshot.model.services.values();
    let neighbors = facts.neighbors();
    let of = |service: &Service| service.backends.iter().map(|b| backend::state(b, &neighbors).0).collect();
    let states: Vec<(&Service, Vec<BackendState>)> = services.map(|service| (&**service, of(service))).collect();
    let serving = |states: &[BackendState]| states.contains(&BackendState::Up);
    let up = |state: &&BackendState| **state == BackendState::Up;
    let sum = |which: fn(&PortCounters) -> u64| {
        facts.director.workers().iter().map(|worker| worker.over_ports(which)).sum::<u64>()
    };
    answer::Status {
        version: env!("CARGO_PKG_VERSION").into(),
        dpdk: facts.dpdk.clone(),
        pid: std::process::id(),
        uptime_s: facts.started.elapsed().as_secs(),
        config_file: facts.config_file.clone(),
        hugepages: facts.hugepages,
        packet_buffers: (facts.packet_buffers)(),
        generation: snapshot.generation,
        workers: facts.lcores.len(),
        ports: Count { total: links.len(), up: links.iter().filter(|&&up| up).count() },
        services: Count { total: states.len(), up: states.iter().filter(|(_, states)| serving(states)).count() },
        backends: Count {
            total: states.iter().map(|(_, states)| states.len()).sum(),
            up: states.iter().flat_map(|(_, states)| states.iter()).filter(up).count(),
        },
        rx_packets: sum(|port| port.rx_packets.read()),
        forwarded_packets: sum(|port| port.forwarded.read()),
        dropped_packets: sum(PortCounters::dropped),
        warnings: warnings(facts, &links, &states),
        events: facts.events.recent(Instant::now()),
        fault_count: fault_count(facts.faults.counts()),
        faults: doctor::open(facts, &snapshot, MOST_FAULTS),
        lost_log_lines: (facts.lost_log_lines)(),
    }
}

fn fault_count(FaultCounts { warn, error, left_out }: FaultCounts) -> FaultCount {
    FaultCount { warn, error, left_out }
}

/// What an operator should look at, the worst first.
fn warnings(facts: &Facts, links: &[bool], services: &[(&Service, Vec<BackendState>)]) -> Vec<String> {
    let ports: Vec<(&str, bool, PortLive)> =
        facts.ports.iter().zip(links).map(|(port, &up)| (&*port.name, up, (port.live)())).collect();
    let down = ports.iter().filter(|(_, up, _)| !up).map(|(name, _, live)| {
        let trouble = live.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
        format!("Port {name}: the link is down{trouble}")
    });
    let mut warnings: Vec<String> = down.collect();
    let of_ports =
        ports.iter().flat_map(|(name, _, live)| live.warnings.iter().map(move |said| format!("Port {name}: {said}")));
    extend_bounded(&mut warnings, of_ports.collect());

    let takes_nothing = |service: &Service, states: &[BackendState]| {
        !service.backends.iter().zip(states).any(|(b, &state)| b.weight > 0 && state == BackendState::Up)
    };
    let dark = services.iter().filter(|(service, states)| takes_nothing(service, states));
    let dark = dark.map(|(service, _)| format!("Service {} has no backend that is up and takes new flows", service.id));
    extend_bounded(&mut warnings, dark.collect());

    let by_fallback =
        services.iter().filter_map(|(service, _)| Some((service.id, service.serving_fallback()?.address)));
    let by_fallback = by_fallback.map(|(id, address)| {
        format!("Service {id} is served by its fallback, {address}: no other backend takes new flows")
    });
    extend_bounded(&mut warnings, by_fallback.collect());

    let unreachable = services.iter().flat_map(|(service, states)| {
        let backends = service.backends.iter().zip(states).filter(|&(_, &state)| state == BackendState::Unreachable);
        backends.map(|(b, _)| {
            format!("Backend {} of {} does not answer ARP or NDP, and gets no packets", b.address, service.id)
        })
    });
    extend_bounded(&mut warnings, unreachable.collect());
    let cut_off = services.iter().flat_map(|(service, states)| {
        let backends = service.backends.iter().zip(states).filter(|&(_, &state)| state == BackendState::CutOff);
        let why = "nothing in its network answers, or the link of its port is down: look at the way to it";
        backends.map(move |(b, _)| format!("Backend {} of {} is cut off: {why}", b.address, service.id))
    });
    extend_bounded(&mut warnings, cut_off.collect());

    for reason in [DropReason::ReturnViaDirector, DropReason::Loop, DropReason::TxFull, DropReason::PuntFull] {
        let count = |worker: &WorkerCounters| worker.over_ports(|port| port.drops[reason.index()].read());
        let packets: u64 = facts.director.workers().iter().map(|worker| count(worker)).sum();
        if packets > 0 {
            let (name, meaning, advice) = (reason.name(), reason.meaning(), reason.advice());
            warnings.push(format!("{packets} frames dropped as {name}: {meaning} {advice}"));
        }
    }
    warnings.extend(HashKey(facts.director.current().model.hash_key).advice());
    let buffers = (facts.packet_buffers)();
    if nearly_all_in_use(buffers) {
        let PacketBuffers { in_use, total } = buffers;
        warnings.push(format!("{in_use} of {total} packet buffers are in use: if it stays so, {ADVICE}"));
    }
    let sum = |which: fn(&PortCounters) -> u64| {
        facts.director.workers().iter().map(|worker| worker.over_ports(which)).sum::<u64>()
    };
    let (seen, unfinished) = (sum(|port| port.checksums_seen.read()), sum(|port| port.checksums_unfinished.read()));
    if unfinished > 0 {
        warnings.push(format!(
            "{unfinished} of {seen} frames that were looked at had an unfinished checksum, and backends drop such packets: \
             `shuntctl events` names the senders"
        ));
    }
    let unremembered: u64 = facts.director.workers().iter().map(|worker| worker.exceptions_full.read()).sum();
    if unremembered > 0 {
        warnings.push(format!(
            "{unremembered} packets of flows that there was no room to remember: these flows may move when a hand-over \
             ends; raise director.exceptions"
        ));
    }
    let lost = (facts.lost_log_lines)();
    if lost > 0 {
        warnings.push(format!(
            "{lost} lines of the daemon's log were lost: nobody reads its standard error, or there is no room on that disk; the last \
             {} events are in shuntctl events",
            events::KEPT
        ));
    }
    warnings
}

fn extend_bounded(warnings: &mut Vec<String>, mut more: Vec<String>) {
    let left_out = more.len().saturating_sub(MOST_WARNINGS);
    more.truncate(MOST_WARNINGS);
    warnings.extend(more);
    if left_out > 0 {
        warnings.push(format!("… and {left_out} more of these"));
    }
}

#[cfg(test)]
mod tests {
    use ctl::answer::PacketBuffers;
    use serde_json::{Value, json};

    use crate::api::PortLive;
    use crate::api::answer::tests::{ask, example};
    use crate::base::exit::DropReason;
    use crate::base::ids::PortNo;
    use crate::control::hash_key::HashKey;
    use crate::control::model::{Model, ModelError};
    use crate::state::networks::PortLink;
    use crate::testing::model::PORT;

    #[test]
    fn lost_lines_of_the_log_are_worth_a_warning() {
        let mut facts = example();
        facts.lost_log_lines = Box::new(|| 17);
        let status = &ask(&facts, "status", Value::Null)["ok"]["status"];
        assert_eq!(status["lost_log_lines"], 17);
        let warnings: Vec<&str> = status["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(warnings.last().unwrap().starts_with("17 lines of the daemon's log were lost: "), "{warnings:?}");
    }

    #[test]
    fn the_status_counts_what_works_and_warns_of_what_does_not() {
        let mut facts = example();
        facts.director.set_port(PortNo::new(0), PortLink { up: false, ..PORT });
        let live = || PortLive {
            trouble: Some("there is no interface eth1".into()),
            warnings: vec!["it limps".into()],
            ..PortLive::default()
        };
        facts.ports[0].live = Box::new(live);
        facts.director.workers()[0].ports[0].drops[DropReason::Loop.index()].add(2);
        let status = &ask(&facts, "status", Value::Null)["ok"]["status"];
        assert_eq!(status["ports"], json!({ "total": 1, "up": 0 }));
        assert_eq!(status["services"], json!({ "total": 1, "up": 1 }));
        assert_eq!(status["backends"], json!({ "total": 2, "up": 1 }));
        assert_eq!(status["dropped_packets"], 2);
        let warnings: Vec<&str> = status["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(warnings[0], "Port lan0: the link is down: there is no interface eth1");
        assert_eq!(warnings[1], "Port lan0: it limps");
        assert!(warnings[2].starts_with("2 frames dropped as loop: "), "{warnings:?}");
        assert_eq!(warnings.len(), 3);
    }

    #[test]
    fn a_public_hash_key_and_packet_buffers_that_run_out_are_warned_of() {
        let mut facts = example();
        let public = |model: &mut Model, _: &_| -> Result<(), ModelError> {
            model.hash_key = HashKey::DEFAULT.0;
            Ok(())
        };
        facts.director.change(public).unwrap();
        facts.packet_buffers = Box::new(|| PacketBuffers { in_use: 16_380, total: 16_383 });
        let status = &ask(&facts, "status", Value::Null)["ok"]["status"];
        let warnings: Vec<&str> = status["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(warnings[0].contains("a fresh one is: hash_key = \""), "{warnings:?}");
        assert!(warnings[1].starts_with("16380 of 16383 packet buffers are in use"), "{warnings:?}");
    }
}
