//! The recorder that lives for one page, and the page's text.
//!
//! A page keeps numbers, and the labels that series in a row have in common once: the text of 100,000 backends is long, and is made from
//! these at the end. The text is `prometheus-client`'s work in both formats: its encoder writes OpenMetrics, and what the classic format calls
//! a counter is, for an encoder, a gauge of another type.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::HashMap;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, NoLabelSet};
use prometheus_client::encoding::{MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit as PageUnit};

use crate::metrics::format::Format;

/// The facade's type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// By `counter!`.
    Counter,
    /// By `gauge!`.
    Gauge,
    /// By `histogram!`, or by [`Page::histogram`].
    Histogram,
}

/// What a recorder was told of a metric by `describe_*!`.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// The name.
    pub(super) name: KeyName,
    /// The type.
    pub(super) told: Told,
    /// The unit.
    pub(super) unit: Unit,
    /// What it says.
    pub(super) help: SharedString,
}

/// A histogram as it is on the page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Buckets {
    /// The sum of all samples.
    pub(super) sum: f64,
    /// How many samples there are.
    pub(super) samples: u64,
    /// By bucket, its upper bound and how many samples are in it alone; the last has no bound.
    pub(super) own: Vec<(f64, u64)>,
}

impl Buckets {
    /// From bounds, and how many samples are not above each.
    pub(super) fn from_cumulative(sum: f64, samples: u64, bounds: impl IntoIterator<Item = (f64, u64)>) -> Self {
        let mut below = 0;
        let last = [(f64::INFINITY, samples)];
        let own = bounds.into_iter().chain(last).map(|(bound, up_to)| {
            let own = up_to.saturating_sub(below);
            below = up_to.max(below);
            (bound, own)
        });
        Buckets { sum, own: own.collect(), samples }
    }
}

/// Takes what is told of each metric that was described. Each series is to be told once.
pub(super) struct Page {
    descriptions: Arc<[Description]>,
    by_name: HashMap<KeyName, usize>,
    series: Arc<Mutex<AllSeries>>,
}

/// So many bytes do for a line with two IPv6 addresses.
const LONG_LINE: usize = 128;

/// All series of a page.
#[derive(Debug, Default)]
struct AllSeries {
    /// The labels of one series, or of several that were told one after the other.
    labels: Vec<Box<[Label]>>,
    /// By description.
    families: Vec<Family>,
}

/// The series of a metric: where their labels are, and what they say.
#[derive(Debug, Default)]
struct Family {
    /// Of a counter a number, of a gauge the bits of its `f64`.
    numbers: Vec<(u32, u64)>,
    histograms: Vec<(u32, Buckets)>,
}

/// What a page says: of each description, the series.
#[derive(Debug)]
pub(super) struct Content {
    descriptions: Arc<[Description]>,
    series: AllSeries,
}

impl Page {
    /// An empty one.
    pub(super) fn new(descriptions: Arc<[Description]>) -> Self {
        let by_name = descriptions.iter().enumerate().map(|(number, described)| (described.name.clone(), number));
        let families = descriptions.iter().map(|_| Family::default()).collect();
        let series = Arc::new(Mutex::new(AllSeries { labels: Vec::new(), families }));
        Page { by_name: by_name.collect(), descriptions, series }
    }

    /// Takes a whole histogram: the facade's own takes samples one by one, and a worker that counts in buckets has no samples.
    pub(super) fn histogram(&self, key: &Key, buckets: Buckets) {
        let Some(family) = self.family(key, Told::Histogram) else { return };
        let mut series = lock(&self.series);
        let labels = series.labels_of(key);
        series.families[family].histograms.push((labels, buckets));
    }

    /// What was told.
    pub(super) fn finish(self) -> Content {
        Content { descriptions: self.descriptions, series: std::mem::take(&mut lock(&self.series)) }
    }

    /// Where a metric's series are. What was not described has no line that says its type, so it cannot be on a page.
    fn family(&self, key: &Key, told: Told) -> Option<usize> {
        let found = self.by_name.get(key.name()).copied().filter(|&family| self.descriptions[family].told == told);
        debug_assert!(found.is_some(), "{} is not in the catalog as {told:?}", key.name());
        found
    }

    fn number(&self, key: &Key, told: Told) -> Option<Arc<Series>> {
        let family = self.family(key, told)?;
        let mut series = lock(&self.series);
        let labels = series.labels_of(key);
        let numbers = &mut series.families[family].numbers;
        numbers.push((labels, 0));
        Some(Arc::new(Series { all: self.series.clone(), family, number: numbers.len() - 1 }))
    }
}

impl AllSeries {
    /// How many numbers there are, a histogram as its buckets.
    fn count(&self) -> usize {
        let buckets =
            |family: &Family| family.histograms.iter().map(|(_, buckets)| buckets.own.len() + 2).sum::<usize>();
        self.families.iter().map(|family| family.numbers.len() + buckets(family) + 3).sum()
    }

    /// Where a series' labels are: those of the series before, if they are the same.
    fn labels_of(&mut self, key: &Key) -> u32 {
        if !self.labels.last().is_some_and(|last| last.iter().eq(key.labels())) {
            self.labels.push(key.labels().cloned().collect());
        }
        u32::try_from(self.labels.len() - 1).expect("the numbers of ports, services and backends are bounded")
    }
}

fn lock(series: &Mutex<AllSeries>) -> MutexGuard<'_, AllSeries> {
    series.lock().expect("no holder of this lock panics")
}

impl Recorder for Page {
    /// A page has its descriptions from the start.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.number(key, Told::Counter).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.number(key, Told::Gauge).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    /// Samples come one by one, over time; a page is of one moment, see [`Page::histogram`].
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        debug_assert!(false, "{} cannot be told to a page by samples", key.name());
        Histogram::noop()
    }
}

/// One number of a page.
struct Series {
    all: Arc<Mutex<AllSeries>>,
    family: usize,
    number: usize,
}

impl Series {
    fn update(&self, change: impl FnOnce(u64) -> u64) {
        let mut all = lock(&self.all);
        // A handle that outlives its page has nothing to change.
        let number = all.families.get_mut(self.family).and_then(|family| family.numbers.get_mut(self.number));
        if let Some((_, value)) = number {
            *value = change(*value);
        }
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.update(|now| now.wrapping_add(value));
    }

    fn absolute(&self, value: u64) {
        self.update(|now| now.max(value));
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.update(|now| (f64::from_bits(now) + value).to_bits());
    }

    fn decrement(&self, value: f64) {
        self.update(|now| (f64::from_bits(now) - value).to_bits());
    }

    fn set(&self, value: f64) {
        self.update(|_| value.to_bits());
    }
}

impl Content {
    /// The page in a format.
    pub(super) fn text(self: &Arc<Self>, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Text { content: self.clone(), format }));
        // What is too much is not touched; a large text that grows is copied, and is there twice meanwhile.
        let mut page = String::with_capacity(self.series.count() * LONG_LINE);
        let written = match format {
            Format::OpenMetrics => text::encode(&mut page, &registry),
            Format::Classic => text::encode_registry(&mut page, &registry),
        };
        written.expect("a string takes what is written");
        page
    }
}

#[derive(Debug)]
struct Text {
    content: Arc<Content>,
    format: Format,
}

/// How a metric is written.
#[derive(Debug, Clone, Copy)]
enum Writing {
    Counter,
    ClassicCounter,
    Gauge,
    Info,
    Histogram,
}

impl Collector for Text {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Content { descriptions, series } = &*self.content;
        for (described, family) in descriptions.iter().zip(&series.families) {
            let (writing, name, unit, kind) = heading(described, self.format);
            let mut metric = encoder.encode_descriptor(name, &described.help, unit.as_ref(), kind)?;
            for &(labels, value) in &family.numbers {
                let labels = Labels(&series.labels[labels as usize]);
                match writing {
                    Writing::Info => metric.encode_info(&labels)?,
                    _ => of(&mut metric, &labels, |metric| write_number(metric, writing, described.unit, value))?,
                }
            }
            for (labels, Buckets { sum, samples, own }) in &family.histograms {
                let labels = Labels(&series.labels[*labels as usize]);
                of(&mut metric, &labels, |metric| metric.encode_histogram::<NoLabelSet>(*sum, *samples, own, None))?;
            }
        }
        Ok(())
    }
}

/// How a metric is written, its name without what the encoder adds, its unit if the format has it, and its type.
fn heading(described: &Description, format: Format) -> (Writing, &str, Option<PageUnit>, MetricType) {
    let name = described.name.as_str();
    let (writing, stem, kind) = match (described.told, name.strip_suffix("_info"), format) {
        (Told::Histogram, ..) => (Writing::Histogram, name, MetricType::Histogram),
        (Told::Gauge, Some(stem), Format::OpenMetrics) => (Writing::Info, stem, MetricType::Info),
        (Told::Gauge, ..) => (Writing::Gauge, name, MetricType::Gauge),
        (Told::Counter, _, Format::Classic) => (Writing::ClassicCounter, name, MetricType::Counter),
        (Told::Counter, ..) => (Writing::Counter, name.strip_suffix("_total").unwrap_or(name), MetricType::Counter),
    };
    let unit = match described.unit {
        Unit::Seconds | Unit::Nanoseconds => Some(("_seconds", PageUnit::Seconds)),
        Unit::Bytes => Some(("_bytes", PageUnit::Bytes)),
        _ => None,
    };
    match unit
        .filter(|_| format == Format::OpenMetrics)
        .and_then(|(ending, unit)| Some((stem.strip_suffix(ending)?, unit)))
    {
        Some((stem, unit)) => (writing, stem, Some(unit), kind),
        None => (writing, stem, None, kind),
    }
}

/// Writes a series with its labels; where there are none, without braces.
fn of(
    metric: &mut MetricEncoder<'_>,
    labels: &Labels<'_>,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.0.is_empty() { write(metric) } else { write(&mut metric.encode_family(labels)?) }
}

fn write_number(metric: &mut MetricEncoder<'_>, writing: Writing, unit: Unit, value: u64) -> fmt::Result {
    let seconds = (unit == Unit::Nanoseconds).then(|| value as f64 / 1e9);
    match (writing, seconds) {
        (Writing::Counter, Some(seconds)) => metric.encode_counter::<NoLabelSet, f64, u64>(&seconds, None),
        (Writing::Counter, None) => metric.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        (Writing::ClassicCounter, Some(seconds)) => metric.encode_gauge(&seconds),
        (Writing::ClassicCounter, None) => metric.encode_gauge(&value),
        _ => {
            let value = f64::from_bits(value);
            // The facade has no whole numbers for gauges; most are.
            #[expect(clippy::cast_possible_truncation, reason = "it is looked whether anything was cut off")]
            let whole = value as i64;
            if whole as f64 == value && whole.unsigned_abs() < 1 << f64::MANTISSA_DIGITS {
                metric.encode_gauge(&whole)
            } else {
                metric.encode_gauge(&value)
            }
        }
    }
}

/// Labels as the encoder takes them.
#[derive(Debug)]
struct Labels<'a>(&'a [Label]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|label| (label.key(), label.value()).encode(encoder.encode_label()))
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, with_local_recorder};

    use super::*;

    fn descriptions() -> Arc<[Description]> {
        let described =
            |name, told, unit| Description { name: KeyName::from_const_str(name), told, unit, help: "Help.".into() };
        [
            described("x_info", Told::Gauge, Unit::Count),
            described("a_total", Told::Counter, Unit::Count),
            described("worked_seconds_total", Told::Counter, Unit::Nanoseconds),
            described("rx_bytes_total", Told::Counter, Unit::Bytes),
            described("g", Told::Gauge, Unit::Count),
            described("took_seconds", Told::Histogram, Unit::Seconds),
        ]
        .into()
    }

    fn told() -> Arc<Content> {
        let page = Page::new(descriptions());
        with_local_recorder(&page, || {
            gauge!("x_info", "version" => "1").set(1.0);
            counter!("worked_seconds_total").absolute(1_500_000_000);
            counter!("rx_bytes_total", "port" => "b").absolute(u64::MAX);
            for (port, weight) in [("a\"\\\n", 3.0), ("b", -0.25)] {
                counter!("a_total", "port" => port).absolute(7);
                gauge!("g", "port" => port).set(weight);
            }
        });
        let bounds = [(0.5, 1), (1.0, 1), (2.0, 3)];
        page.histogram(&Key::from_name("took_seconds"), Buckets::from_cumulative(9.5, 4, bounds));
        Arc::new(page.finish())
    }

    #[test]
    fn both_formats_are_written_as_their_specifications_say() {
        let open = r#"# HELP x Help.
# TYPE x info
x_info{version="1"} 1
# HELP a Help.
# TYPE a counter
a_total{port="a\"\\\n"} 7
a_total{port="b"} 7
# HELP worked_seconds Help.
# TYPE worked_seconds counter
# UNIT worked_seconds seconds
worked_seconds_total 1.5
# HELP rx_bytes Help.
# TYPE rx_bytes counter
# UNIT rx_bytes bytes
rx_bytes_total{port="b"} 18446744073709551615
# HELP g Help.
# TYPE g gauge
g{port="a\"\\\n"} 3
g{port="b"} -0.25
# HELP took_seconds Help.
# TYPE took_seconds histogram
# UNIT took_seconds seconds
took_seconds_sum 9.5
took_seconds_count 4
took_seconds_bucket{le="0.5"} 1
took_seconds_bucket{le="1.0"} 1
took_seconds_bucket{le="2.0"} 3
took_seconds_bucket{le="+Inf"} 4
# EOF
"#;
        let classic = r#"# HELP x_info Help.
# TYPE x_info gauge
x_info{version="1"} 1
# HELP a_total Help.
# TYPE a_total counter
a_total{port="a\"\\\n"} 7
a_total{port="b"} 7
# HELP worked_seconds_total Help.
# TYPE worked_seconds_total counter
worked_seconds_total 1.5
# HELP rx_bytes_total Help.
# TYPE rx_bytes_total counter
rx_bytes_total{port="b"} 18446744073709551615
# HELP g Help.
# TYPE g gauge
g{port="a\"\\\n"} 3
g{port="b"} -0.25
# HELP took_seconds Help.
# TYPE took_seconds histogram
took_seconds_sum 9.5
took_seconds_count 4
took_seconds_bucket{le="0.5"} 1
took_seconds_bucket{le="1.0"} 1
took_seconds_bucket{le="2.0"} 3
took_seconds_bucket{le="+Inf"} 4
"#;
        let content = told();
        assert_eq!(content.text(Format::OpenMetrics), open);
        assert_eq!(content.text(Format::Classic), classic);
    }

    #[test]
    fn series_in_a_row_with_the_same_labels_have_them_once() {
        let content = told();
        let distinct = &content.series.labels;
        assert_eq!(distinct.len(), 6, "{distinct:?}");
        assert_eq!(content.series.families[4].numbers.len(), 2);
    }

    #[test]
    fn a_handle_keeps_its_series_and_a_page_is_not_changed_afterwards() {
        let page = Page::new(descriptions());
        let handles = with_local_recorder(&page, || {
            let handles = (counter!("a_total"), gauge!("g"));
            handles.0.increment(2);
            handles.0.absolute(1);
            handles.1.increment(2.5);
            handles.1.decrement(1.0);
            handles
        });
        let content = Arc::new(page.finish());
        handles.0.increment(1);
        let text = content.text(Format::Classic);
        assert!(text.contains("\na_total 2\n") && text.contains("\ng 1.5\n"), "{text}");
    }

    #[test]
    fn buckets_have_their_own_samples_and_one_has_no_bound() {
        let buckets = Buckets::from_cumulative(1.0, 9, [(1.0, 2), (2.0, 2), (4.0, 8)]);
        assert_eq!(buckets.own, [(1.0, 2), (2.0, 0), (4.0, 6), (f64::INFINITY, 1)]);
    }
}
