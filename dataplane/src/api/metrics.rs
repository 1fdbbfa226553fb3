//! What is counted, as a page of OpenMetrics text (the format that Prometheus asks for).
//!
//! Nothing is kept here: each scrape reads what the workers count and what the control API answers from, so that the page says what
//! `shuntctl` says. `docs/metrics.md` has the names.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ctl::answer::{self, BackendState, NeighborState};
use hyper::body::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::api::facts::Facts;
use crate::api::{neighbor, port, service};
use crate::base::exit::{DropReason, PuntReason};
use crate::base::ids::NetworkNo;
use crate::count::counters::{PortCounters, WorkerCounters};
use crate::count::histogram::Histogram;
use crate::dpdk::tsc_hz;

/// What kind of page it is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A page that is younger than this is not put together again.
const FRESH: Duration = Duration::from_secs(1);

/// Puts the page together.
#[derive(Debug)]
pub(super) struct Exporter {
    registry: Registry,
    /// The last page, and when it was put together.
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Exporter {
    pub(super) fn new(facts: Arc<Facts>) -> Self {
        let mut registry = Registry::default();
        let started = SystemTime::now().checked_sub(facts.started.elapsed()).unwrap_or(UNIX_EPOCH);
        let started_s = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        registry.register_collector(Box::new(Scrape { facts, started_s }));
        Exporter { registry, last: Mutex::default() }
    }

    /// As it was a second ago at most, so that a crowd costs no more than one who asks each second.
    pub(super) fn page(&self) -> Bytes {
        let mut last = self.last.lock().expect("nobody panics while holding the page");
        match &*last {
            Some((then, page)) if then.elapsed() < FRESH => page.clone(),
            _ => {
                let mut page = String::new();
                text::encode(&mut page, &self.registry).expect("a string takes what is written");
                last.insert((Instant::now(), page.into())).1.clone()
            }
        }
    }
}

struct Scrape {
    facts: Arc<Facts>,
    /// When the daemon started, in seconds since 1970: read once, since clocks are set.
    started_s: f64,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut page, facts) = (Page(encoder), &*self.facts);
        page.gauge("shunt_start_time_seconds", "When the daemon started, in seconds since 1970.", self.started_s)?;
        director(&mut page, facts)?;
        ports(&mut page, facts)?;
        workers(&mut page, facts)?;
        let (listed, dark) = (service::list(facts), dark(facts));
        services(&mut page, &listed, &dark)?;
        backends(&mut page, &listed, &dark)?;
        neighbors(&mut page, &neighbor::list(facts))
    }
}

/// A label's name and value.
type Label<'a> = (&'static str, &'a str);

/// A metric's name, what it says, and where it stands.
type Column<T> = (&'static str, &'static str, fn(&T) -> u64);

/// Takes one family of metrics after the other.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    /// A number without labels.
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Numbers that go up and down.
    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    /// Numbers that only grow; the name gets the ending `_total`.
    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.into_iter().try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, V, u64>(&value, None)
        })
    }
}

fn director(page: &mut Page<'_>, facts: &Facts) -> fmt::Result {
    let build = [("version", env!("CARGO_PKG_VERSION")), ("dpdk", &facts.dpdk)];
    page.0.encode_descriptor("shunt_build", "The daemon's version.", None, MetricType::Info)?.encode_info(&build)?;
    let generation = facts.director.current().generation;
    page.gauge("shunt_snapshot_generation", "The number of the current snapshot.", generation)?;
    let buffers = (facts.packet_buffers)();
    page.gauge("shunt_packet_buffers", "Packet buffers.", buffers.total)?;
    page.gauge("shunt_packet_buffers_in_use", "Packet buffers with frames, or in receive queues.", buffers.in_use)?;
    let events = facts
        .events
        .happened()
        .map(|(kind, count)| ([("kind", kind.name()), ("severity", kind.severity().name())], count));
    page.counters("shunt_events", "Events, by kind.", events)
}

fn ports(page: &mut Page<'_>, facts: &Facts) -> fmt::Result {
    let listed = port::list(facts);
    fn label(port: &answer::Port) -> [Label<'_>; 1] {
        [("port", &port.name)]
    }
    let up = listed.iter().map(|port| (label(port), u32::from(port.link_up)));
    page.gauges("shunt_port_up", "Whether the port's link is up.", up)?;
    let counted: [Column<answer::Port>; 7] = [
        ("shunt_port_rx_packets", "Frames that the workers received.", |port| port.rx_packets),
        ("shunt_port_rx_bytes", "Bytes of them, Ethernet header included.", |port| port.rx_bytes),
        ("shunt_port_tx_packets", "Frames that were sent.", |port| port.tx_packets),
        ("shunt_port_tx_bytes", "Bytes of them, Ethernet header included.", |port| port.tx_bytes),
        ("shunt_port_missed_packets", "Frames that no worker took in time.", |port| port.rx_missed),
        ("shunt_port_error_packets", "Frames that were received damaged.", |port| port.rx_errors),
        ("shunt_port_no_mbuf_packets", "Frames for which there was no packet buffer.", |port| port.rx_no_mbuf),
    ];
    for (name, help, of) in counted {
        page.counters(name, help, listed.iter().map(|port| (label(port), of(port))))?;
    }
    let by_port = |of: fn(&PortCounters, usize) -> u64, reason: usize| {
        let sum = move |number: usize| {
            facts.director.workers().iter().map(|worker| of(&worker.ports[number], reason)).sum::<u64>()
        };
        facts.ports.iter().enumerate().map(move |(number, port)| (port.name.as_str(), sum(number)))
    };
    let forwarded = by_port(|port, _| port.forwarded.read(), 0).map(|(port, count)| ([("port", port)], count));
    page.counters("shunt_forwarded_packets", "Frames sent to backends, by the port that they left by.", forwarded)?;
    let dropped = DropReason::ALL.iter().flat_map(|reason| {
        let counted = by_port(|port, reason| port.drops[reason].read(), reason.index());
        counted.map(|(port, count)| ([("port", port), ("reason", reason.name())], count))
    });
    page.counters("shunt_dropped_packets", "Frames that were thrown away, by reason.", dropped)?;
    let punted = PuntReason::ALL.iter().flat_map(|reason| {
        let counted = by_port(|port, reason| port.punts[reason].read(), reason.index());
        counted.map(|(port, count)| ([("port", port), ("reason", reason.name())], count))
    });
    page.counters("shunt_punted_packets", "Frames that the slow path was given, by reason.", punted)
}

fn workers(page: &mut Page<'_>, facts: &Facts) -> fmt::Result {
    let workers = facts.director.workers();
    let labels: Vec<[(&'static str, String); 1]> = (0..workers.len()).map(|id| [("worker", id.to_string())]).collect();
    let rows = |of: fn(&WorkerCounters) -> u64| {
        labels.iter().cloned().zip(workers).map(move |(labels, worker)| (labels, of(worker)))
    };
    let hz = tsc_hz().max(1) as f64;
    let seconds = |cycles| rows(cycles).map(|(labels, cycles)| (labels, cycles as f64 / hz));
    let counted: [Column<WorkerCounters>; 7] = [
        ("shunt_worker_rx_packets", "Frames received.", |worker| worker.over_ports(|port| port.rx_packets.read())),
        ("shunt_worker_forwarded_packets", "Frames sent to backends.", |worker| {
            worker.over_ports(|port| port.forwarded.read())
        }),
        ("shunt_worker_dropped_packets", "Frames thrown away.", |worker| worker.over_ports(PortCounters::dropped)),
        ("shunt_worker_punted_packets", "Frames given to the slow path.", |worker| {
            worker.over_ports(PortCounters::punted)
        }),
        ("shunt_worker_turns", "Turns of the worker's loop.", |worker| worker.turns.read()),
        ("shunt_worker_busy_turns", "Turns that found frames.", |worker| worker.busy_turns.read()),
        (
            "shunt_worker_unremembered_packets",
            "Packets of flows that should have been remembered, but there was no room.",
            |worker| worker.exceptions_full.read(),
        ),
    ];
    for (name, help, of) in counted {
        page.counters(name, help, rows(of))?;
    }
    let time = "Time since the worker's start.";
    page.counters("shunt_worker_seconds", time, seconds(|worker| worker.cycles.read()))?;
    let busy = "Time of turns that found frames; its share of shunt_worker_seconds is the worker's load.";
    page.counters("shunt_worker_busy_seconds", busy, seconds(|worker| worker.busy_cycles.read()))?;
    let remembered = rows(|worker| worker.exceptions.read());
    page.gauges("shunt_worker_remembered_flows", "Flows that the worker remembers.", remembered)?;
    let room = labels.iter().cloned().map(|labels| (labels, facts.room_for_flows as u64));
    page.gauges("shunt_worker_room_for_flows", "How many it has room for.", room)?;
    let generation = rows(|worker| worker.generation.read());
    page.gauges("shunt_worker_generation", "The number of the snapshot that it works with.", generation)?;
    let help = "How long frames were with the worker, of one burst in 32, from before they were received until after they were sent.";
    let mut family = page.0.encode_descriptor("shunt_worker_latency_seconds", help, None, MetricType::Histogram)?;
    labels.iter().zip(workers).try_for_each(|(labels, worker)| {
        let (sum, count, buckets) = in_seconds(&Histogram::of(&worker.latency));
        family.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    })
}

/// The sum, how many samples there are, and by bucket its upper bound and how many are in it alone.
fn in_seconds(histogram: &Histogram) -> (f64, u64, Vec<(f64, u64)>) {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut below = 0;
    let mut buckets: Vec<(f64, u64)> = histogram
        .cumulative()
        .map(|(up_to_ns, samples)| {
            let own = samples - std::mem::replace(&mut below, samples);
            (seconds(up_to_ns), own)
        })
        .collect();
    buckets.push((f64::INFINITY, 0));
    (seconds(histogram.sum_ns()), histogram.samples(), buckets)
}

/// The backends whose port has no link. They keep their MAC addresses: it is not they who are down.
fn dark(facts: &Facts) -> HashSet<IpAddr> {
    let up: Vec<bool> = facts.ports.iter().map(|port| (port.live)().link_up).collect();
    let model = facts.director.current().model.clone();
    let is_dark = |network: NetworkNo| !up.get(model.network(network).port.index()).copied().unwrap_or(false);
    let neighbors = facts.neighbors();
    neighbors.iter().filter(|(_, neighbor)| is_dark(neighbor.network)).map(|(&address, _)| address).collect()
}

/// What can befall a service's packets without a fault of theirs: shown for each service, so that the first ones are seen.
const SERVICE_DROPS: [DropReason; 3] = [DropReason::NoBackend, DropReason::BackendMacUnknown, DropReason::Loop];

fn services(page: &mut Page<'_>, listed: &[answer::Service], dark: &HashSet<IpAddr>) -> fmt::Result {
    let names: Vec<String> = listed.iter().map(|service| service.id.to_string()).collect();
    let rows = || listed.iter().zip(&names).map(|(service, name)| ([("service", name.as_str())], service));
    let takes = |b: &answer::Backend| b.weight > 0 && b.state == BackendState::Up && !dark.contains(&b.address);
    let up = rows().map(|(labels, service)| (labels, u32::from(service.backends.iter().any(takes))));
    page.gauges("shunt_service_up", "Whether the service has a backend that takes new flows.", up)?;
    let moving = rows().map(|(labels, service)| (labels, service.slots_in_handover));
    page.gauges(
        "shunt_service_slots_in_handover",
        "Slots whose old flows go to another backend than new ones.",
        moving,
    )?;
    let dropped = listed.iter().zip(&names).flat_map(|(service, name)| {
        let labels = move |reason| [("service", name.as_str()), ("reason", reason)];
        let counted = |name| service.drops.iter().find(|dropped| dropped.reason == name).map_or(0, |d| d.packets);
        let always = SERVICE_DROPS.map(DropReason::name);
        let others = service.drops.iter().filter(move |dropped| !always.contains(&dropped.reason.as_str()));
        let always = always.map(|reason| (labels(reason), counted(reason)));
        always.into_iter().chain(others.map(move |dropped| (labels(&dropped.reason), dropped.packets)))
    });
    page.counters("shunt_service_dropped_packets", "Frames to the service that were thrown away, by reason.", dropped)
}

fn backends(page: &mut Page<'_>, listed: &[answer::Service], dark: &HashSet<IpAddr>) -> fmt::Result {
    struct Row<'a> {
        service: String,
        address: String,
        backend: &'a answer::Backend,
    }
    fn rows(service: &answer::Service) -> impl Iterator<Item = Row<'_>> {
        let name = service.id.to_string();
        let backends = service.backends.iter();
        backends.map(move |backend| Row { service: name.clone(), address: backend.address.to_string(), backend })
    }
    fn labels<'a>(row: &'a Row<'_>) -> [Label<'a>; 2] {
        [("service", &row.service), ("backend", &row.address)]
    }
    let rows: Vec<Row<'_>> = listed.iter().flat_map(rows).collect();
    let up = |backend: &answer::Backend| u32::from(backend.mac.is_some() && !dark.contains(&backend.address));
    let reachable = rows.iter().map(|row| (labels(row), up(row.backend)));
    page.gauges("shunt_backend_up", "Whether its MAC address is known, and its port has a link.", reachable)?;
    let draining = |state| u32::from(matches!(state, BackendState::Draining | BackendState::Drained));
    let drained = rows.iter().map(|row| (labels(row), draining(row.backend.state)));
    page.gauges("shunt_backend_draining", "Whether it takes no new flows because an operator said so.", drained)?;
    let weights = rows.iter().map(|row| (labels(row), row.backend.weight));
    page.gauges("shunt_backend_weight", "The backend's weight.", weights)?;
    let shares = rows.iter().map(|row| (labels(row), row.backend.share));
    page.gauges("shunt_backend_share", "Its share of the service's Maglev table, 0 to 1.", shares)?;
    let flows: [Column<answer::Backend>; 2] = [
        ("shunt_backend_active_flows", "Remembered flows to it that are in use.", |backend| backend.active_flows),
        ("shunt_backend_inactive_flows", "Remembered flows to it that begin or end.", |backend| backend.inactive_flows),
    ];
    for (name, help, of) in flows {
        page.gauges(name, help, rows.iter().map(|row| (labels(row), of(row.backend))))?;
    }
    let packets = rows.iter().map(|row| (labels(row), row.backend.packets));
    page.counters("shunt_backend_packets", "Frames given to the port towards the backend.", packets)?;
    let bytes = rows.iter().map(|row| (labels(row), row.backend.bytes));
    page.counters("shunt_backend_bytes", "Bytes of them, Ethernet header included.", bytes)
}

fn neighbors(page: &mut Page<'_>, listed: &[answer::Neighbor]) -> fmt::Result {
    let addresses: Vec<String> = listed.iter().map(|neighbor| neighbor.address.to_string()).collect();
    let rows = || {
        listed
            .iter()
            .zip(&addresses)
            .map(|(neighbor, address)| ([("address", address.as_str()), ("network", neighbor.port.as_str())], neighbor))
    };
    let answers = |state| u32::from(!matches!(state, NeighborState::Incomplete | NeighborState::Failed));
    let up = rows().map(|(labels, neighbor)| (labels, answers(neighbor.state)));
    page.gauges("shunt_neighbor_up", "Whether the backend's MAC address is known and not given up.", up)?;
    let changes = rows().map(|(labels, neighbor)| (labels, neighbor.changes));
    page.counters("shunt_neighbor_mac_changes", "How often its MAC address has changed.", changes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::count::counters::TargetCounters;
    use crate::testing::facts::{director, facts};
    use crate::testing::model::service;

    fn page(facts: Facts) -> String {
        String::from_utf8(Exporter::new(Arc::new(facts)).page().into()).unwrap()
    }

    fn example() -> Facts {
        let wanted = [
            service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 3)]),
            service("[fd00::101]:53", &[("fd00::3", 1)]),
        ];
        let mut facts = facts(Arc::new(director(&wanted)));
        facts.ports[0].name = "lan\"0\\".into();
        let worker = &facts.director.workers()[0];
        let TargetCounters { packets, bytes, .. } = &worker.targets[1];
        packets.add(5);
        bytes.add(300);
        worker.ports[0].drops[DropReason::NoService.index()].add(7);
        worker.cycles.add(2 * tsc_hz().max(1));
        facts
    }

    #[test]
    fn a_page_says_what_was_counted() {
        let page = page(example());
        let lines: Vec<&str> = page.lines().collect();
        for line in [
            r#"shunt_backend_packets_total{service="192.168.0.101:80/tcp",backend="192.168.0.4"} 5"#,
            r#"shunt_backend_bytes_total{service="192.168.0.101:80/tcp",backend="192.168.0.4"} 300"#,
            r#"shunt_backend_weight{service="192.168.0.101:80/tcp",backend="192.168.0.4"} 3"#,
            r#"shunt_backend_up{service="[fd00::101]:53/tcp",backend="fd00::3"} 0"#,
            r#"shunt_service_up{service="192.168.0.101:80/tcp"} 0"#,
            r#"shunt_dropped_packets_total{port="lan\"0\\",reason="no_service"} 7"#,
            r#"shunt_dropped_packets_total{port="lan\"0\\",reason="runt"} 0"#,
            r#"shunt_worker_dropped_packets_total{worker="0"} 7"#,
            r#"shunt_worker_seconds_total{worker="0"} 2.0"#,
            r#"shunt_worker_latency_seconds_bucket{le="5.11e-7",worker="0"} 0"#,
            r#"shunt_worker_latency_seconds_bucket{le="+Inf",worker="0"} 0"#,
            r#"shunt_service_dropped_packets_total{service="192.168.0.101:80/tcp",reason="no_backend"} 0"#,
            r#"shunt_events_total{kind="loop",severity="error"} 0"#,
            "# TYPE shunt_worker_latency_seconds histogram",
            "# EOF",
        ] {
            assert!(lines.contains(&line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn a_crowd_gets_one_page() {
        let exporter = Exporter::new(Arc::new(example()));
        assert_eq!(exporter.page().as_ptr(), exporter.page().as_ptr());
    }

    #[test]
    fn buckets_grow_up_to_all_samples() {
        let facts = example();
        let latency = &facts.director.workers()[0].latency;
        latency.record(300, 4);
        latency.record(u64::MAX >> 20, 2);
        let (sum, count, buckets) = in_seconds(&Histogram::of(latency));
        assert_eq!((count, buckets.iter().map(|(_, own)| own).sum::<u64>()), (6, 6));
        assert!(sum > 300e-9 * 4.0 && buckets.is_sorted_by(|a, b| a.0 < b.0));
        let of = |bound: f64| buckets.iter().find(|(up_to, _)| (up_to - bound).abs() < 1e-12).unwrap().1;
        assert_eq!((of(255e-9), of(511e-9), of(1_023e-9)), (0, 4, 0));
    }

    /// Each family is in docs/metrics.md, and nothing else is.
    #[test]
    fn every_metric_is_documented() {
        let page = page(example());
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let shown: BTreeSet<String> = types
            .map(|line| match line.split_once(' ').unwrap() {
                (name, "counter") => format!("{name}_total"),
                (name, "info") => format!("{name}_info"),
                (name, _) => name.into(),
            })
            .collect();
        let rows = include_str!("../../../docs/metrics.md").lines();
        let documented = rows.filter_map(|line| line.strip_prefix("| `shunt_")?.split_once('`'));
        let documented: BTreeSet<String> = documented.map(|(name, _)| format!("shunt_{name}")).collect();
        assert_eq!(shown, documented);
    }
}
