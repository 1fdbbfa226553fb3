//! Says to the current recorder what there is to say at this moment: from the workers' counters, and from what the control API answers.
//!
//! The page says what `shuntctl` says, because both are made of the same listings.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ctl::answer::{self, Answer, BackendState, NeighborState, Outcome, Severity};
use ctl::request::Request;
use ctl::{Passive, Protocol};
use metrics::{Key, Label, counter, gauge, with_local_recorder};

use crate::api::{Facts, answer};
use crate::base::exit::{DropReason, PuntReason, UnsentReason};
use crate::base::ids::NetworkNo;
use crate::control::fault::FaultKind;
use crate::control::model::Service;
use crate::count::counters::{PortCounters, WorkerCounters};
use crate::count::histogram::Histogram;
use crate::dpdk::tsc_hz;
use crate::metrics::page::{Buckets, Page};

/// Tells a page all that is not counted by the facade.
pub(super) fn collect(facts: &Facts, started_s: f64, page: &Page) {
    with_local_recorder(page, || {
        director(facts, started_s);
        ports(facts);
        reasons(facts);
        workers(facts);
        for (id, worker) in facts.director.workers().iter().enumerate() {
            let key = Key::from_parts("shunt_worker_latency_seconds", &[("worker", id.to_string())]);
            page.histogram(&key, in_seconds(&Histogram::of(&worker.latency)));
        }
        services(facts);
        neighbors(facts);
    });
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn director(facts: &Facts, started_s: f64) {
    gauge!("shunt_build_info", "version" => env!("CARGO_PKG_VERSION"), "dpdk" => facts.dpdk.clone()).set(1.0);
    gauge!("shunt_start_time_seconds").set(started_s);
    gauge!("shunt_snapshot_generation").set(facts.director.current().generation as f64);
    let buffers = (facts.packet_buffers)();
    gauge!("shunt_packet_buffers").set(buffers.total as f64);
    gauge!("shunt_packet_buffers_in_use").set(buffers.in_use as f64);
    faults(facts);
    counter!("shunt_lost_log_lines_total").absolute((facts.lost_log_lines)());
}

/// Each kind with its usual severity, so that it is seen to begin; with others where there are some.
fn faults(facts: &Facts) {
    let mut counts: BTreeMap<(FaultKind, Severity), usize> =
        FaultKind::ALL.iter().map(|kind| ((*kind, kind.severity()), 0)).collect();
    for fault in facts.faults.list() {
        *counts.entry((fault.kind, fault.severity)).or_default() += 1;
    }
    for ((kind, severity), count) in counts {
        gauge!("shunt_faults", "kind" => kind.name(), "severity" => severity.name()).set(count as f64);
    }
}

fn ports(facts: &Facts) {
    let Outcome::Ok(Answer::Ports(listed)) = answer(facts, Request::PortList) else {
        unreachable!("a listing is answered with its list");
    };
    for port in listed {
        let labels = [Label::new("port", port.name)];
        gauge!("shunt_port_up", labels.iter()).set(truth(port.link_up));
        counter!("shunt_port_rx_packets_total", labels.iter()).absolute(port.rx_packets);
        counter!("shunt_port_rx_bytes_total", labels.iter()).absolute(port.rx_bytes);
        counter!("shunt_port_tx_packets_total", labels.iter()).absolute(port.tx_packets);
        counter!("shunt_port_tx_bytes_total", labels.iter()).absolute(port.tx_bytes);
        counter!("shunt_port_missed_packets_total", labels.iter()).absolute(port.rx_missed);
        counter!("shunt_port_error_packets_total", labels.iter()).absolute(port.rx_errors);
        counter!("shunt_port_no_mbuf_packets_total", labels.iter()).absolute(port.rx_no_mbuf);
        let Some(xdp) = port.xdp else { continue };
        counter!("shunt_port_xdp_rx_dropped_packets_total", labels.iter()).absolute(xdp.rx_dropped);
        counter!("shunt_port_xdp_rx_ring_full_packets_total", labels.iter()).absolute(xdp.rx_ring_full);
        counter!("shunt_port_xdp_fill_ring_empty_total", labels.iter()).absolute(xdp.fill_ring_empty);
        counter!("shunt_port_xdp_rx_refused_buffers_total", labels.iter()).absolute(xdp.rx_invalid);
        counter!("shunt_port_xdp_tx_refused_buffers_total", labels.iter()).absolute(xdp.tx_invalid);
    }
}

/// What became of frames, by port and reason. Without the worker: ports × reasons × workers would be thousands of series.
fn reasons(facts: &Facts) {
    for (number, port) in facts.ports.iter().enumerate() {
        let workers = facts.director.workers();
        let sum =
            |count: &dyn Fn(&PortCounters) -> u64| workers.iter().map(|worker| count(&worker.ports[number])).sum();
        let name = || port.name.clone();
        counter!("shunt_forwarded_packets_total", "port" => name()).absolute(sum(&|port| port.forwarded.read()));
        counter!("shunt_checksums_seen_total", "port" => name()).absolute(sum(&|port| port.checksums_seen.read()));
        let unfinished = sum(&|port| port.checksums_unfinished.read());
        counter!("shunt_checksums_unfinished_total", "port" => name()).absolute(unfinished);
        for reason in DropReason::ALL {
            let dropped = sum(&|port| port.drops[reason.index()].read());
            counter!("shunt_dropped_packets_total", "port" => name(), "reason" => reason.name()).absolute(dropped);
        }
        for reason in PuntReason::ALL {
            let punted = sum(&|port| port.punts[reason.index()].read());
            counter!("shunt_punted_packets_total", "port" => name(), "reason" => reason.name()).absolute(punted);
        }
        for reason in UnsentReason::ALL {
            let unsent = facts.director.unsent()[number][reason.index()].read();
            counter!("shunt_unsent_packets_total", "port" => name(), "reason" => reason.name()).absolute(unsent);
        }
    }
}

fn workers(facts: &Facts) {
    for (id, worker) in facts.director.workers().iter().enumerate() {
        let labels = [Label::new("worker", id.to_string())];
        let over_ports = |count: fn(&PortCounters) -> u64| worker.over_ports(count);
        counter!("shunt_worker_rx_packets_total", labels.iter()).absolute(over_ports(|port| port.rx_packets.read()));
        counter!("shunt_worker_forwarded_packets_total", labels.iter())
            .absolute(over_ports(|port| port.forwarded.read()));
        counter!("shunt_worker_dropped_packets_total", labels.iter()).absolute(over_ports(PortCounters::dropped));
        counter!("shunt_worker_punted_packets_total", labels.iter()).absolute(over_ports(PortCounters::punted));
        let WorkerCounters { turns, busy_turns, cycles, busy_cycles, exceptions, exceptions_full, generation, .. } =
            &**worker;
        counter!("shunt_worker_turns_total", labels.iter()).absolute(turns.read());
        counter!("shunt_worker_busy_turns_total", labels.iter()).absolute(busy_turns.read());
        counter!("shunt_worker_seconds_total", labels.iter()).absolute(ns(cycles.read()));
        counter!("shunt_worker_busy_seconds_total", labels.iter()).absolute(ns(busy_cycles.read()));
        counter!("shunt_worker_unremembered_packets_total", labels.iter()).absolute(exceptions_full.read());
        gauge!("shunt_worker_remembered_flows", labels.iter()).set(exceptions.read() as f64);
        gauge!("shunt_worker_room_for_flows", labels.iter()).set(facts.room_for_flows as f64);
        gauge!("shunt_worker_generation", labels.iter()).set(generation.read() as f64);
    }
}

/// TSC cycles in ns.
fn ns(cycles: u64) -> u64 {
    let ns = u128::from(cycles) * 1_000_000_000 / u128::from(tsc_hz().max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

fn in_seconds(histogram: &Histogram) -> Buckets {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let bounds = histogram.cumulative().map(|(up_to_ns, samples)| (seconds(up_to_ns), samples));
    Buckets::from_cumulative(seconds(histogram.sum_ns()), histogram.samples(), bounds)
}

/// What can befall a service's packets without a fault of theirs: told of each service, so that the first ones are seen.
const SERVICE_DROPS: [DropReason; 3] = [DropReason::NoBackend, DropReason::BackendMacUnknown, DropReason::Loop];

fn services(facts: &Facts) {
    let Outcome::Ok(Answer::Services(listed)) = answer(facts, Request::ServiceList) else {
        unreachable!("a listing is answered with its list");
    };
    let (dark, current) = (dark(facts), facts.director.current());
    for service in listed {
        let name: Arc<str> = service.id.to_string().into();
        let takes = |b: &answer::Backend| b.weight > 0 && b.state == BackendState::Up && !dark.contains(&b.address);
        gauge!("shunt_service_up", "service" => name.clone()).set(truth(service.backends.iter().any(takes)));
        gauge!("shunt_service_slots_in_handover", "service" => name.clone()).set(service.slots_in_handover);
        let count =
            |is: fn(&answer::Backend) -> bool| service.backends.iter().filter(|backend| is(backend)).count() as f64;
        gauge!("shunt_service_damped_backends", "service" => name.clone()).set(count(|b| b.damped_left_s.is_some()));
        gauge!("shunt_service_slow_start_backends", "service" => name.clone())
            .set(count(|b| b.slow_start_percent.is_some()));
        gauge!("shunt_service_taken_out_backends", "service" => name.clone()).set(count(|b| b.out_left_s.is_some()));
        let always = SERVICE_DROPS.map(DropReason::name);
        let counted = |name| service.drops.iter().find(|dropped| dropped.reason == name).map_or(0, |d| d.packets);
        for reason in always {
            counter!("shunt_service_dropped_packets_total", "service" => name.clone(), "reason" => reason)
                .absolute(counted(reason));
        }
        for dropped in service.drops.iter().filter(|dropped| !always.contains(&dropped.reason.as_str())) {
            let reason = dropped.reason.clone();
            counter!("shunt_service_dropped_packets_total", "service" => name.clone(), "reason" => reason)
                .absolute(dropped.packets);
        }
        if let Some(of_model) = current.model.services.get(&service.id) {
            handshakes(&name, of_model);
        }
        for backend in &service.backends {
            tell_backend(&name, backend, dark.contains(&backend.address));
        }
    }
}

/// What passive health has counted, where it looks.
fn handshakes(name: &Arc<str>, service: &Service) {
    if service.id.protocol != Protocol::Tcp || service.passive == Passive::Off {
        return;
    }
    for backend in &service.backends {
        let counted = backend.target.handshakes();
        let address: Arc<str> = backend.address.to_string().into();
        for (answered, count) in [("yes", counted.answered), ("no", counted.lost())] {
            let labels = [("service", name.clone()), ("backend", address.clone()), ("answered", answered.into())];
            let labels = labels.map(|(key, value): (_, Arc<str>)| Label::new(key, value));
            counter!("shunt_backend_handshakes_total", labels.iter()).absolute(count);
        }
    }
}

fn tell_backend(service: &Arc<str>, backend: &answer::Backend, dark: bool) {
    let address: Arc<str> = backend.address.to_string().into();
    let labels = [Label::new("service", service.clone()), Label::new("backend", address)];
    let draining = matches!(backend.state, BackendState::Draining | BackendState::Drained | BackendState::Disabled);
    gauge!("shunt_backend_up", labels.iter()).set(truth(is_up(backend, dark)));
    gauge!("shunt_backend_draining", labels.iter()).set(truth(draining));
    gauge!("shunt_backend_weight", labels.iter()).set(backend.weight);
    gauge!("shunt_backend_share", labels.iter()).set(backend.share);
    gauge!("shunt_backend_active_flows", labels.iter()).set(backend.active_flows as f64);
    gauge!("shunt_backend_inactive_flows", labels.iter()).set(backend.inactive_flows as f64);
    counter!("shunt_backend_packets_total", labels.iter()).absolute(backend.packets);
    counter!("shunt_backend_bytes_total", labels.iter()).absolute(backend.bytes);
}

/// The backends whose port has no link. They keep their MAC addresses: it is not they that are down.
fn dark(facts: &Facts) -> HashSet<IpAddr> {
    let current = facts.director.current();
    let is_dark = |network: NetworkNo| !current.network(network).link.up;
    let neighbors = facts.neighbors.lock().expect("no holder of this lock panics");
    neighbors.iter().filter(|(_, neighbor)| is_dark(neighbor.network)).map(|(&address, _)| address).collect()
}

fn neighbors(facts: &Facts) {
    let Outcome::Ok(Answer::Neighbors(listed)) = answer(facts, Request::NeighborList) else {
        unreachable!("a listing is answered with its list");
    };
    for neighbor in listed {
        let address: Arc<str> = neighbor.address.to_string().into();
        let labels = [Label::new("address", address), Label::new("network", neighbor.port)];
        let up = !matches!(neighbor.state, NeighborState::Incomplete | NeighborState::Failed);
        gauge!("shunt_neighbor_up", labels.iter()).set(truth(up));
        counter!("shunt_neighbor_mac_changes_total", labels.iter()).absolute(neighbor.changes);
    }
}

/// Whether a backend can be reached, and no check says that it does not serve.
fn is_up(backend: &answer::Backend, dark: bool) -> bool {
    let out = matches!(backend.state, BackendState::CutOff | BackendState::Unreachable | BackendState::Down);
    backend.mac.is_some() && !out && !dark
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::facts::{director, facts};
    use crate::testing::model::service;

    #[test]
    fn a_backend_that_is_down_by_its_checks_is_not_up() {
        let facts = facts(Arc::new(director(&[service("192.168.0.101:80", &[("192.168.0.3", 1)])])));
        let Outcome::Ok(Answer::Services(listed)) = answer(&facts, Request::ServiceList) else { panic!("no list") };
        let mut backend = listed[0].backends[0].clone();
        assert!(!is_up(&backend, false), "without a MAC address");
        backend.mac = Some(ctl::Mac([2, 0, 0, 0, 0, 3]));
        for (state, up) in [
            (BackendState::Up, true),
            (BackendState::Draining, true),
            (BackendState::Disabled, true),
            (BackendState::CutOff, false),
            (BackendState::Down, false),
            (BackendState::Unreachable, false),
        ] {
            backend.state = state;
            assert_eq!(is_up(&backend, false), up, "{state:?}");
            assert!(!is_up(&backend, true), "its port has no link");
        }
    }

    #[test]
    fn buckets_grow_up_to_all_samples() {
        let facts = facts(Arc::new(director(&[])));
        let latency = &facts.director.workers()[0].latency;
        latency.record(300, 4);
        latency.record(u64::MAX >> 20, 2);
        let Buckets { sum, samples, own } = in_seconds(&Histogram::of(latency));
        assert_eq!((samples, own.iter().map(|(_, own)| own).sum::<u64>()), (6, 6));
        assert!(sum > 300e-9 * 4.0 && own.is_sorted_by(|a, b| a.0 < b.0));
        let of = |bound: f64| own.iter().find(|(up_to, _)| (up_to - bound).abs() < 1e-12).unwrap().1;
        assert_eq!((of(255e-9), of(511e-9), of(1_023e-9)), (0, 4, 0));
    }

    #[test]
    fn cycles_are_told_as_time_for_centuries() {
        let hz = tsc_hz().max(1);
        assert_eq!(ns(2 * hz), 2_000_000_000);
        assert!(ns(u64::MAX) > ns(u64::MAX / 2) || ns(u64::MAX) == u64::MAX);
    }
}
