//! The metrics: name, type, unit, labels and what they say, once for the page and for `docs/metrics.md`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows; the name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Labels that say something; the value is 1. The facade has no such type: it is told as a gauge, and its name ends in `_info`.
    Info,
    /// Counts in buckets, with their sum.
    Histogram,
}

/// A metric: all series of a name.
#[derive(Debug)]
pub(super) struct Metric {
    /// The name, as `counter!` and `gauge!` have it and as it is on the page.
    pub(super) name: &'static str,
    /// Its type.
    pub(super) kind: Kind,
    /// The unit in which it is told; the page has seconds for nanoseconds.
    pub(super) unit: Unit,
    /// Its labels, in the order of the page: the tests compare these with the page and the document.
    #[cfg_attr(not(test), expect(dead_code, reason = "for tests"))]
    pub(super) labels: &'static [&'static str],
    /// What it says.
    pub(super) help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help }
}

/// All metrics, in the order of the page.
#[rustfmt::skip] // a table is read by its rows
pub(super) const CATALOG: &[Metric] = {
    use Kind::{Counter, Gauge, Histogram, Info};
    use Unit::{Bytes, Count, Nanoseconds, Seconds};
    const PORT: &[&str] = &["port"];
    const WORKER: &[&str] = &["worker"];
    const SERVICE: &[&str] = &["service"];
    const BACKEND: &[&str] = &["service", "backend"];
    const NEIGHBOR: &[&str] = &["address", "network"];
    &[
        metric("shunt_build_info", Info, Count, &["version", "dpdk"], "The daemon's version, and DPDK's."),
        metric("shunt_start_time_seconds", Gauge, Seconds, &[], "When the daemon started, in seconds since 1970."),
        metric("shunt_snapshot_generation", Gauge, Count, &[], "The number of the current snapshot; each change makes a new one."),
        metric("shunt_packet_buffers", Gauge, Count, &[], "Packet buffers."),
        metric("shunt_packet_buffers_in_use", Gauge, Count, &[],
            "Packet buffers with frames in them, or waiting in the receive queues."),
        metric("shunt_events_total", Counter, Count, &["kind", "severity"],
            "Events, including those that were not written because there were too many. Of loop and return-via-director, as many as workers \
             had room to show: the frames are in shunt_dropped_packets_total."),
        metric("shunt_faults", Gauge, Count, &["kind", "severity"],
            "Open faults: what is wrong with backends and around them now; docs/health.md has the kinds. shuntctl doctor names them, and what mends them."),
        metric("shunt_notifications_total", Counter, Count, &["outcome"],
            "Events that notify was to tell: run, failed, or dropped because the command takes too long or cannot be run. Of those dropped, also events that \
             would not have been told."),
        metric("shunt_lost_log_lines_total", Counter, Count, &[],
            "Lines of the daemon's log that were lost, because nobody read its standard error or the disk was full."),
        metric("shunt_requests_total", Counter, Count, &["command", "outcome"],
            "Requests at the control socket, carried out (ok) or refused; unreadable: lines in which no known command could be read."),
        metric("shunt_table_build_seconds", Histogram, Seconds, &[],
            "How long it took to build a Maglev table; a table that several services share is built once."),
        metric("shunt_scrapes_total", Counter, Count, &["format"], "Requests for this page, by the format that they got."),
        metric("shunt_scrape_seconds", Histogram, Seconds, &[],
            "How long it took to put a page together, those before this one; a page is kept for a second."),

        metric("shunt_port_up", Gauge, Count, PORT, "1: the port's link is up."),
        metric("shunt_port_rx_packets_total", Counter, Count, PORT, "Frames that the workers received."),
        metric("shunt_port_rx_bytes_total", Counter, Bytes, PORT, "Bytes that the workers received, Ethernet header included."),
        metric("shunt_port_tx_packets_total", Counter, Count, PORT, "Frames that were sent."),
        metric("shunt_port_tx_bytes_total", Counter, Bytes, PORT, "Bytes that were sent, Ethernet header included."),
        metric("shunt_port_missed_packets_total", Counter, Count, PORT, "Frames that came and that no worker took in time: dropped by the NIC (imissed), or by the kernel."),
        metric("shunt_port_error_packets_total", Counter, Count, PORT, "Frames that were received damaged (ierrors)."),
        metric("shunt_port_no_mbuf_packets_total", Counter, Count, PORT, "Frames for which there was no packet buffer (rx_nombuf)."),
        metric("shunt_port_xdp_rx_dropped_packets_total", Counter, Count, PORT,
            "Frames that the kernel had no packet buffer for, or that were too long for one; also in shunt_port_missed_packets_total. Only \
             AF_XDP ports have this and the next four."),
        metric("shunt_port_xdp_rx_ring_full_packets_total", Counter, Count, PORT,
            "Frames that found the receive ring full; also in shunt_port_missed_packets_total."),
        metric("shunt_port_xdp_fill_ring_empty_total", Counter, Count, PORT, "How often the kernel found no packet buffer in the fill ring."),
        metric("shunt_port_xdp_rx_refused_buffers_total", Counter, Count, PORT,
            "Packet buffers to receive into that the kernel has refused: anything but 0 is a fault."),
        metric("shunt_port_xdp_tx_refused_buffers_total", Counter, Count, PORT,
            "Packet buffers to send from that the kernel has refused, and their frames with them: anything but 0 is a fault."),
        metric("shunt_forwarded_packets_total", Counter, Count, PORT, "Frames sent to backends, by the port that they left by."),
        metric("shunt_dropped_packets_total", Counter, Count, &["port", "reason"],
            "Frames that were thrown away, by reason, also the reasons that have not occurred."),
        metric("shunt_punted_packets_total", Counter, Count, &["port", "reason"], "Frames that the slow path was given, by reason."),
        metric("shunt_unsent_packets_total", Counter, Count, &["port", "reason"],
            "Frames of the director's own (answers, probes, announcements) that were not sent, by reason."),
        metric("shunt_checksums_seen_total", Counter, Count, PORT,
            "Frames for VIPs whose checksum was looked at, one a millisecond for each worker: whether the sender has left it to a NIC."),
        metric("shunt_checksums_unfinished_total", Counter, Count, PORT,
            "Those of them whose checksum was unfinished: backends drop such packets. See the events unfinished-checksums."),

        metric("shunt_worker_rx_packets_total", Counter, Count, WORKER, "Frames received."),
        metric("shunt_worker_forwarded_packets_total", Counter, Count, WORKER, "Frames sent to backends."),
        metric("shunt_worker_dropped_packets_total", Counter, Count, WORKER, "Frames thrown away."),
        metric("shunt_worker_punted_packets_total", Counter, Count, WORKER, "Frames given to the slow path."),
        metric("shunt_worker_turns_total", Counter, Count, WORKER, "Turns of the worker's loop."),
        metric("shunt_worker_busy_turns_total", Counter, Count, WORKER, "Turns that found frames."),
        metric("shunt_worker_seconds_total", Counter, Nanoseconds, WORKER, "Time since the worker's start."),
        metric("shunt_worker_busy_seconds_total", Counter, Nanoseconds, WORKER,
            "Time of turns that found frames; its share of shunt_worker_seconds_total is the worker's load."),
        metric("shunt_worker_unremembered_packets_total", Counter, Count, WORKER,
            "Packets of flows that there was no room to remember: raise director.exceptions (or exceptions_ipv6)."),
        metric("shunt_worker_remembered_flows", Gauge, Count, WORKER, "Flows that the worker remembers."),
        metric("shunt_worker_room_for_flows", Gauge, Count, WORKER,
            "How many flows it has room for, IPv4 and IPv6 together: either may be full before the other."),
        metric("shunt_worker_generation", Gauge, Count, WORKER,
            "The snapshot that it works with; it is the current one but for moments."),
        metric("shunt_worker_latency_seconds", Histogram, Seconds, WORKER,
            "How long frames were with the worker, of one burst in 32, from before they were received until after they were sent."),

        metric("shunt_service_up", Gauge, Count, SERVICE, "1: the service has a backend with a weight that is up and not draining."),
        metric("shunt_service_slots_in_handover", Gauge, Count, SERVICE,
            "Slots whose old flows go to another backend than new ones."),
        metric("shunt_service_dropped_packets_total", Counter, Count, &["service", "reason"],
            "Frames to the service that were thrown away; no_backend, backend_mac_unknown and loop always, other reasons when they have \
             occurred."),
        metric("shunt_service_damped_backends", Gauge, Count, SERVICE,
            "Backends of the service that are held out because they went down too often."),
        metric("shunt_service_slow_start_backends", Gauge, Count, SERVICE,
            "Backends of the service whose weight still rises after their return."),
        metric("shunt_service_taken_out_backends", Gauge, Count, SERVICE,
            "Backends of the service that are out because their clients got no answer (passive health)."),
        metric("shunt_backend_up", Gauge, Count, BACKEND,
            "1: the backend answers ARP or NDP, or did until a moment ago, its port has a link, and none of its checks says that it is down. One that is drained or \
             disabled has only to answer."),
        metric("shunt_backend_draining", Gauge, Count, BACKEND,
            "1: the backend takes no new flows because an operator said so: draining, done with it, or disabled."),
        metric("shunt_backend_weight", Gauge, Count, BACKEND, "The backend's weight."),
        metric("shunt_backend_share", Gauge, Count, BACKEND,
            "The backend's share of the service's new flows, 0 to 1, as they are given out now. Of `wlc` and `lc`: of connections that last equally long."),
        metric("shunt_backend_active_flows", Gauge, Count, BACKEND,
            "Remembered flows to the backend in use; all of them only where the service tracks all."),
        metric("shunt_backend_inactive_flows", Gauge, Count, BACKEND, "Remembered flows to the backend that begin or end."),
        metric("shunt_backend_packets_total", Counter, Count, BACKEND, "Frames given to the port towards the backend."),
        metric("shunt_backend_bytes_total", Counter, Bytes, BACKEND,
            "Bytes given to the port towards the backend, Ethernet header included."),
        metric("shunt_backend_handshakes_total", Counter, Count, &["service", "backend", "answered"],
            "Sampled handshakes of clients with the backend, answered (yes) or not (no). Of services over TCP, unless passive health is off."),

        metric("shunt_neighbor_up", Gauge, Count, NEIGHBOR, "1: the backend's MAC address is known, and was not given up."),
        metric("shunt_neighbor_mac_changes_total", Counter, Count, NEIGHBOR,
            "How often the backend's MAC address has changed. A network is a port, or a port's VLAN: lan0.100."),
    ]
};

/// Tells all of them to the current recorder.
pub(super) fn describe() {
    for metric in CATALOG {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge | Kind::Info => describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::docs;

    #[test]
    fn names_follow_their_types_and_units() {
        let names: BTreeSet<&str> = CATALOG.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), CATALOG.len());
        for metric in CATALOG {
            let Metric { name, kind, unit, labels, help } = metric;
            assert!(name.starts_with("shunt_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), *kind == Kind::Info, "{name}");
            let stem = name.trim_end_matches("_total");
            assert_eq!(stem.ends_with("_seconds"), matches!(unit, Unit::Seconds | Unit::Nanoseconds), "{name}");
            assert_eq!(stem.ends_with("_bytes"), *unit == Unit::Bytes, "{name}");
            assert!(
                *kind != Kind::Counter || *unit != Unit::Seconds,
                "{name}: the facade's counters have no fractions"
            );
            assert!(!labels.contains(&"le"), "{name}");
            // Neither the page nor the table of the document escapes them.
            assert!(help.ends_with('.') && !help.contains(['\n', '\\', '|']) && !help.contains("  "), "{name}: {help}");
        }
    }

    #[test]
    fn the_docs_say_the_same_of_each_metric() {
        let row = |metric: &Metric| {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Info => "info",
                Kind::Histogram => "histogram",
            };
            vec![format!("`{}`", metric.name), kind.into(), metric.labels.join(", "), metric.help.into()]
        };
        let table = docs::table(&["metric", "type", "labels", "meaning"], CATALOG.iter().map(row));
        docs::check("docs/metrics.md", "metrics", &table);
    }

    /// Also in the sentences around the table: alerts that name a metric which is none are found here.
    #[test]
    fn documents_name_no_other_metrics() {
        let known: BTreeSet<&str> = CATALOG.iter().map(|metric| metric.name).collect();
        for text in [
            include_str!("../../../docs/metrics.md"),
            include_str!("../../../docs/operations.md"),
            include_str!("../../../README.md"),
        ] {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("shunt_") && *word != "shunt_ndr") {
                let metric =
                    ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word);
                assert!(known.contains(metric), "{word} is no metric");
            }
        }
    }
}
