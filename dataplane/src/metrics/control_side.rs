//! The recorder of what happens on the control side: events, requests, tables, scrapes.
//!
//! Control threads count it where it happens, by `counter!` and `histogram!`. It is kept until the daemon ends. No worker counts so, nor does
//! the slow path for a frame: theirs are plain counters of their own ([`crate::count`]), which each page is told anew.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Level, Metadata, Recorder, SharedString, Unit, counter,
    with_local_recorder,
};
use metrics_util::registry::{Registry, Storage};
use metrics_util::storage::Histogram as Cumulative;

use crate::api::{OUTCOMES, UNREADABLE};
use crate::control::events::{Kind, NOTIFIED};
use crate::metrics::catalog;
use crate::metrics::format::Format;
use crate::metrics::page::{Buckets, Description, Page, Told};

/// Upper bounds of the buckets, in seconds: from a table of few backends to a page of very many.
const BOUNDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counts what happens on the control side.
#[derive(Debug)]
pub struct ControlSide {
    registry: Registry<Key, Cells>,
    descriptions: Mutex<Vec<Description>>,
}

/// Has this process count what happens on its control side, from now on; what happened before is not counted. May be called again: there is
/// one such recorder in a process.
pub fn install() -> Arc<ControlSide> {
    static INSTALLED: OnceLock<Arc<ControlSide>> = OnceLock::new();
    let install = || {
        let control_side = Arc::new(ControlSide::default());
        if let Err(error) = metrics::set_global_recorder(control_side.clone()) {
            tracing::warn!("what happens on the control side is not among the metrics: {error}");
        }
        control_side
    };
    INSTALLED.get_or_init(install).clone()
}

impl Default for ControlSide {
    /// Knows the catalog, and has counted nothing: that is 0 for each kind of event, each command and each format, since `rate()` does
    /// not see the first of what was not there.
    fn default() -> Self {
        let new = ControlSide { registry: Registry::new(Cells), descriptions: Mutex::default() };
        with_local_recorder(&new, || {
            catalog::describe();
            for kind in Kind::ALL {
                counter!("shunt_events_total", &kind.labels()).absolute(0);
            }
            for command in ctl::verb::ALL.iter().map(|row| row.name) {
                for outcome in OUTCOMES {
                    counter!("shunt_requests_total", "command" => command, "outcome" => outcome).absolute(0);
                }
            }
            counter!("shunt_requests_total", "command" => UNREADABLE, "outcome" => OUTCOMES[1]).absolute(0);
            for outcome in NOTIFIED {
                counter!("shunt_notifications_total", "outcome" => outcome).absolute(0);
            }
            for format in Format::ALL {
                counter!("shunt_scrapes_total", "format" => format.name()).absolute(0);
            }
            let _ = metrics::histogram!("shunt_table_build_seconds");
            let _ = metrics::histogram!("shunt_scrape_seconds");
        });
        new
    }
}

impl ControlSide {
    /// What was described, in its order.
    pub(super) fn descriptions(&self) -> Arc<[Description]> {
        self.described().as_slice().into()
    }

    /// Tells a page what was counted, by labels.
    pub(super) fn tell(&self, page: &Page) {
        const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);
        let (mut counters, mut gauges, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
        self.registry.visit_counters(|key, cell| counters.push((key.clone(), cell.load(Relaxed))));
        self.registry.visit_gauges(|key, cell| gauges.push((key.clone(), f64::from_bits(cell.load(Relaxed)))));
        self.registry.visit_histograms(|key, samples| histograms.push((key.clone(), samples.read())));
        counters.sort_by(|(a, _), (b, _)| a.cmp(b));
        gauges.sort_by(|(a, _), (b, _)| a.cmp(b));
        histograms.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, count) in counters {
            page.register_counter(&key, &METADATA).absolute(count);
        }
        for (key, value) in gauges {
            page.register_gauge(&key, &METADATA).set(value);
        }
        for (key, buckets) in histograms {
            page.histogram(&key, buckets);
        }
    }

    /// How often something was counted; `None`: never heard of.
    #[cfg(test)]
    pub(crate) fn count(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Option<u64> {
        self.registry.get_counter(&Key::from_parts(name, labels)).map(|cell| cell.load(Relaxed))
    }

    fn describe(&self, name: KeyName, told: Told, unit: Option<Unit>, help: SharedString) {
        self.described().push(Description { name, told, unit: unit.unwrap_or(Unit::Count), help });
    }

    fn described(&self) -> MutexGuard<'_, Vec<Description>> {
        self.descriptions.lock().expect("no holder of this lock panics")
    }
}

impl Recorder for ControlSide {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(key, Told::Counter, unit, help);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(key, Told::Gauge, unit, help);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(key, Told::Histogram, unit, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.registry.get_or_create_counter(key, |cell| Counter::from_arc(cell.clone()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.registry.get_or_create_gauge(key, |cell| Gauge::from_arc(cell.clone()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.registry.get_or_create_histogram(key, |samples| Histogram::from_arc(samples.clone()))
    }
}

/// What the registry keeps. Not its own storage: that keeps each sample until a page takes them, and there may be no page.
#[derive(Debug)]
struct Cells;

impl Storage<Key> for Cells {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Samples>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, _: &Key) -> Self::Histogram {
        Arc::new(Samples(Mutex::new(Cumulative::new(&BOUNDS).expect("there are bounds"))))
    }
}

/// Samples in buckets.
#[derive(Debug)]
struct Samples(Mutex<Cumulative>);

impl Samples {
    fn read(&self) -> Buckets {
        let samples = self.lock();
        Buckets::from_cumulative(samples.sum(), samples.count(), samples.buckets())
    }

    fn lock(&self) -> MutexGuard<'_, Cumulative> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.lock().record(value);
    }
}

#[cfg(test)]
mod tests {
    use metrics::{gauge, histogram};

    use super::*;

    #[test]
    fn what_was_counted_is_told_to_each_page() {
        let control_side = ControlSide::default();
        let page = || {
            let page = Page::new(control_side.descriptions());
            control_side.tell(&page);
            Arc::new(page.finish()).text(Format::Classic)
        };
        let nothing = page();
        for line in [
            "shunt_events_total{kind=\"loop\",severity=\"error\"} 0",
            "shunt_requests_total{command=\"service-add\",outcome=\"refused\"} 0",
            "shunt_requests_total{command=\"unreadable\",outcome=\"refused\"} 0",
            "shunt_scrapes_total{format=\"text\"} 0",
            "shunt_table_build_seconds_count 0",
        ] {
            assert!(nothing.lines().any(|found| found == line), "{line} is not in\n{nothing}");
        }
        let control_side = &control_side;
        std::thread::scope(|threads| {
            for _ in 0..4 {
                let count = || {
                    counter!("shunt_scrapes_total", "format" => "text").increment(3);
                    histogram!("shunt_table_build_seconds").record(0.0003);
                    histogram!("shunt_table_build_seconds").record(20.0);
                };
                threads.spawn(move || with_local_recorder(control_side, count));
            }
        });
        for _ in 0..2 {
            let page = page();
            for line in [
                "shunt_scrapes_total{format=\"text\"} 12",
                "shunt_table_build_seconds_count 8",
                "shunt_table_build_seconds_bucket{le=\"0.00025\"} 0",
                "shunt_table_build_seconds_bucket{le=\"0.0005\"} 4",
                "shunt_table_build_seconds_bucket{le=\"10.0\"} 4",
                "shunt_table_build_seconds_bucket{le=\"+Inf\"} 8",
            ] {
                assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
            }
        }
    }

    #[test]
    fn gauges_are_kept_too() {
        let control_side = ControlSide::default();
        with_local_recorder(&control_side, || gauge!("shunt_packet_buffers").set(7.0));
        let page = Page::new(control_side.descriptions());
        control_side.tell(&page);
        assert!(Arc::new(page.finish()).text(Format::OpenMetrics).contains("\nshunt_packet_buffers 7\n"));
    }

    /// As tests do that run in one process.
    #[test]
    fn it_may_be_installed_again_and_again() {
        let first = install();
        let others = std::thread::scope(|threads| {
            let others: Vec<_> = (0..4).map(|_| threads.spawn(install)).collect();
            others.into_iter().map(|other| other.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(others.iter().all(|other| Arc::ptr_eq(other, &first)));
        let before = first.count("shunt_scrapes_total", &[("format", "openmetrics")]).unwrap();
        counter!("shunt_scrapes_total", "format" => "openmetrics").increment(1);
        assert!(first.count("shunt_scrapes_total", &[("format", "openmetrics")]).unwrap() > before);
    }
}
