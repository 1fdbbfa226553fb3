//! Puts pages together, and keeps each for a moment.
//!
//! A page may have tens of megabytes, and is in memory until its last reader has all of it. However slow readers are, there are at
//! most two pages of a format.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use metrics::{counter, histogram};

use crate::api::Facts;
use crate::metrics::collect::collect;
use crate::metrics::control_side::{self, ControlSide};
use crate::metrics::format::Format;
use crate::metrics::page::Page;

/// A page that is younger than this is not put together again.
const FRESH: Duration = Duration::from_secs(1);

/// Puts pages together.
pub(super) struct Exporter {
    facts: Arc<Facts>,
    control_side: Arc<ControlSide>,
    /// When the daemon started, in seconds since 1970: read once, since clocks are set.
    started_s: f64,
    pages: Mutex<Pages>,
}

/// The pages in memory.
#[derive(Debug, Default)]
struct Pages {
    /// The last ones, one of a format, and when they were put together.
    last: Vec<(Format, Instant, Arc<Text>)>,
    /// Those before, one of a format, as long as somebody reads them.
    older: Vec<(Format, Weak<Text>)>,
}

/// The text of a page.
#[derive(Debug)]
struct Text(String);

/// Keeps a text as long as it is read.
struct Reading(Arc<Text>);

impl AsRef<[u8]> for Reading {
    fn as_ref(&self) -> &[u8] {
        self.0.0.as_bytes()
    }
}

/// A page, for one reader.
#[derive(Debug)]
pub(super) struct Served {
    /// Its text.
    pub(super) text: Bytes,
    /// The page is older than it should be: slow readers keep two of them, which is as many as there may be.
    pub(super) crowded: bool,
}

impl Exporter {
    /// Of these facts, and of what this process counts on its control side.
    pub(super) fn new(facts: Arc<Facts>) -> Self {
        Exporter::with(facts, control_side::install())
    }

    fn with(facts: Arc<Facts>, control_side: Arc<ControlSide>) -> Self {
        let started = SystemTime::now().checked_sub(facts.started.elapsed()).unwrap_or(UNIX_EPOCH);
        let started_s = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Exporter { facts, control_side, started_s, pages: Mutex::default() }
    }

    /// As it was a second ago at most, so that many clients cost no more than one that asks each second; older only where slow readers
    /// hold two pages.
    pub(super) fn page(&self, format: Format) -> Served {
        counter!("shunt_scrapes_total", "format" => format.name()).increment(1);
        let mut pages = self.pages.lock().expect("no holder of this lock panics");
        pages.let_go();
        if let Some((_, made, text)) = pages.last.iter().find(|(other, ..)| *other == format) {
            let fresh = made.elapsed() < FRESH;
            if fresh || pages.older.iter().any(|(other, _)| *other == format) {
                return Served { text: Bytes::from_owner(Reading(text.clone())), crowded: !fresh };
            }
        }
        pages.make_older(format);
        let begin = Instant::now();
        let text = Arc::new(Text(self.text(format)));
        histogram!("shunt_scrape_seconds").record(begin.elapsed());
        pages.last.push((format, Instant::now(), text.clone()));
        Served { text: Bytes::from_owner(Reading(text)), crowded: false }
    }

    fn text(&self, format: Format) -> String {
        let page = Page::new(self.control_side.descriptions());
        self.control_side.tell(&page);
        collect(&self.facts, self.started_s, &page);
        Arc::new(page.finish()).text(format)
    }
}

impl Pages {
    /// What is old, and read by nobody, goes before another page is made: two large pages need not be there at a time.
    fn let_go(&mut self) {
        self.last.retain(|(_, made, text)| made.elapsed() < FRESH || Arc::strong_count(text) > 1);
        self.older.retain(|(_, text)| text.strong_count() > 0);
    }

    /// The last page of a format is so no more.
    fn make_older(&mut self, format: Format) {
        for (_, _, text) in self.last.extract_if(.., |(other, ..)| *other == format) {
            self.older.push((format, Arc::downgrade(&text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ctl::answer::Subject;
    use metrics::with_local_recorder;

    use super::*;
    use crate::base::exit::DropReason;
    use crate::control::fault::{FaultKind, Sighting};
    use crate::count::counters::TargetCounters;
    use crate::dpdk::tsc_hz;
    use crate::metrics::catalog::{CATALOG, Kind};
    use crate::testing::exposition::{self, Family, Flavor};
    use crate::testing::facts::{director, facts};
    use crate::testing::model::service;

    fn example() -> Facts {
        let wanted = [
            service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 3)]),
            service("[fd00::101]:53", &[("fd00::3", 1)]),
        ];
        let mut facts = facts(Arc::new(director(&wanted)));
        facts.neighbors.lock().unwrap().sync(&facts.director.current(), Instant::now());
        facts.ports[0].name = "lan\"0\\".into();
        let worker = &facts.director.workers()[0];
        let TargetCounters { packets, bytes, .. } = &worker.targets[1];
        packets.add(5);
        bytes.add(300);
        worker.ports[0].drops[DropReason::NoService.index()].add(7);
        let first = facts.director.current().model.services.keys().next().copied().unwrap();
        let counter = facts.director.current().model.services[&first].counter.number();
        worker.services[counter.index()].drops[DropReason::EchoLimited.index()].add(2);
        worker.cycles.add(2 * tsc_hz().max(1));
        worker.latency.record(300, 4);
        facts.faults.open(Sighting::new(FaultKind::ArpFlux, Subject::default(), "", ""), Instant::now());
        facts
    }

    fn exporter() -> Exporter {
        Exporter::with(Arc::new(example()), Arc::default())
    }

    #[test]
    fn a_page_says_what_was_counted() {
        let page = exporter().text(Format::OpenMetrics);
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
            r#"shunt_worker_latency_seconds_bucket{le="2.55e-7",worker="0"} 0"#,
            r#"shunt_worker_latency_seconds_bucket{le="5.11e-7",worker="0"} 4"#,
            r#"shunt_worker_latency_seconds_bucket{le="+Inf",worker="0"} 4"#,
            r#"shunt_worker_latency_seconds_sum{worker="0"} 0.0000012"#,
            r#"shunt_service_dropped_packets_total{service="192.168.0.101:80/tcp",reason="no_backend"} 0"#,
            r#"shunt_service_dropped_packets_total{service="192.168.0.101:80/tcp",reason="echo_limited"} 2"#,
            r#"shunt_events_total{kind="loop",severity="error"} 0"#,
            r#"shunt_faults{kind="arp-flux",severity="error"} 1"#,
            r#"shunt_faults{kind="loop",severity="error"} 0"#,
            r#"shunt_neighbor_up{address="fd00::3",network="lan0"} 0"#,
            "# TYPE shunt_worker_latency_seconds histogram",
            "# TYPE shunt_build info",
            "# EOF",
        ] {
            assert!(lines.contains(&line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    /// Family by family, of a strict reading of both formats.
    fn read(exporter: &Exporter) -> [Vec<Family>; 2] {
        [
            exposition::read(&exporter.text(Format::OpenMetrics), Flavor::OpenMetrics).unwrap(),
            exposition::read(&exporter.text(Format::Classic), Flavor::Classic).unwrap(),
        ]
    }

    #[test]
    fn both_formats_are_strictly_right_and_say_the_same() {
        let exporter = exporter();
        let [open, classic] = read(&exporter);
        let samples =
            |families: &[Family]| families.iter().flat_map(|family| family.samples.clone()).collect::<Vec<_>>();
        assert_eq!(samples(&open), samples(&classic));
        assert!(samples(&open).len() > 150);
        let help = |families: &[Family]| families.iter().map(|family| family.help.clone()).collect::<Vec<_>>();
        assert_eq!(help(&open), help(&classic));
        let port = classic.iter().find(|family| family.name == "shunt_port_up").unwrap();
        assert_eq!(port.samples[0].labels["port"], "lan\"0\\");
    }

    /// The catalog is on the page, and nothing else is: types, help, labels.
    #[test]
    fn the_page_is_the_catalog() {
        let [open, classic] = read(&exporter());
        for (metric, (open, classic)) in CATALOG.iter().zip(open.iter().zip(&classic)) {
            let (kind, as_classic) = match metric.kind {
                Kind::Counter => ("counter", "counter"),
                Kind::Gauge => ("gauge", "gauge"),
                Kind::Info => ("info", "gauge"),
                Kind::Histogram => ("histogram", "histogram"),
            };
            assert_eq!((classic.name.as_str(), classic.kind.as_str()), (metric.name, as_classic));
            let stem = metric.name.strip_suffix("_total").or(metric.name.strip_suffix("_info")).unwrap_or(metric.name);
            assert_eq!((open.name.as_str(), open.kind.as_str()), (stem, kind));
            assert_eq!((open.help.as_str(), classic.help.as_str()), (metric.help, metric.help));
            assert!(!open.samples.is_empty(), "{} has no series in the example", metric.name);
            let labels: BTreeSet<&str> = metric.labels.iter().copied().collect();
            for sample in &open.samples {
                let found = sample.labels.keys().map(String::as_str).filter(|label| *label != "le");
                assert_eq!(found.collect::<BTreeSet<_>>(), labels, "{}", metric.name);
            }
        }
        assert_eq!((open.len(), classic.len()), (CATALOG.len(), CATALOG.len()));
    }

    #[test]
    fn a_crowd_gets_one_page_of_a_format() {
        let exporter = exporter();
        let page = |format| exporter.page(format).text;
        let same = |format| page(format).as_ptr() == page(format).as_ptr();
        assert!(same(Format::OpenMetrics) && same(Format::Classic));
        assert_ne!(page(Format::OpenMetrics), page(Format::Classic));
    }

    /// Makes all pages older than they may be.
    fn a_second_passes(exporter: &Exporter) {
        for (_, made, _) in &mut exporter.pages.lock().unwrap().last {
            *made -= FRESH;
        }
    }

    #[test]
    fn however_slow_readers_are_there_are_two_pages_of_a_format() {
        let exporter = exporter();
        let mut held: Vec<Served> = Vec::new();
        for _ in 0..60 {
            held.extend(Format::ALL.iter().map(|&format| exporter.page(format)));
            a_second_passes(&exporter);
        }
        let texts: BTreeSet<*const u8> = held.iter().map(|served| served.text.as_ptr()).collect();
        assert_eq!(texts.len(), 2 * Format::ALL.len());
        let crowded = held.iter().filter(|served| served.crowded).count();
        assert_eq!(crowded, 58 * Format::ALL.len(), "and they are told");
        // The first page's readers have read it.
        held.remove(0);
        assert!(!exporter.page(Format::ALL[0]).crowded);
        held.clear();
        a_second_passes(&exporter);
        drop(exporter.page(Format::ALL[0]));
        let pages = exporter.pages.lock().unwrap();
        assert_eq!((pages.last.len(), pages.older.len()), (1, 0), "nothing that nobody reads is kept");
    }

    /// A service that is gone leaves no series behind.
    #[test]
    fn nothing_of_what_workers_count_is_kept() {
        let exporter = exporter();
        assert!(exporter.text(Format::Classic).contains("service=\"[fd00::101]:53/tcp\""));
        let id = "[fd00::101]:53".parse().unwrap();
        exporter.facts.director.change(|model, _| model.remove_service(&id)).unwrap();
        exporter.facts.director.workers()[0].targets[1].packets.set(4);
        let page = exporter.text(Format::Classic);
        assert!(!page.contains("service=\"[fd00::101]:53/tcp\""));
        assert!(page.contains("backend=\"192.168.0.4\"} 4\n"), "a number may even be smaller than on the page before");
    }

    #[test]
    fn scrapes_are_counted_and_timed() {
        let exporter = exporter();
        with_local_recorder(&exporter.control_side, || (0..3).for_each(|_| drop(exporter.page(Format::Classic))));
        let page = exporter.text(Format::Classic);
        for line in ["shunt_scrapes_total{format=\"text\"} 3\n", "shunt_scrape_seconds_count 1\n"] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}
