//! A strict reader of the two text formats of metrics, for tests of pages.
//!
//! It refuses what a lenient reader lets pass: a sample before its family's description or of no family, a description that comes twice, families
//! that are mixed, series that come twice, escapes that there are not, histograms that contradict themselves. The rules are those of
//! OpenMetrics 1.0 (sections "ABNF" and "Metric types") and of Prometheus' "Exposition formats".

use std::collections::{BTreeMap, BTreeSet};

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
    /// `text/plain; version=0.0.4`.
    Classic,
}

/// Labels by name, their values unescaped.
pub type Labels = BTreeMap<String, String>;

/// A line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name, endings and all.
    pub name: String,
    /// The labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// What stands under one `# TYPE`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Family {
    /// The name, as in `# TYPE`.
    pub name: String,
    /// The type.
    pub kind: String,
    /// The help.
    pub help: String,
    /// The unit, where it is said.
    pub unit: Option<String>,
    /// The samples, in their order.
    pub samples: Vec<Sample>,
}

/// Reads a page. The error says what is wrong, and with which line.
pub fn read(page: &str, flavor: Flavor) -> Result<Vec<Family>, String> {
    let body = match flavor {
        Flavor::OpenMetrics => page.strip_suffix("# EOF\n").ok_or("the page does not end in # EOF")?,
        Flavor::Classic => page,
    };
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let mut reader = Reader { flavor, families: Vec::new(), names: BTreeSet::new(), series: BTreeSet::new() };
    for line in body.split_terminator('\n') {
        reader.line(line).map_err(|problem| format!("{problem}: {line:?}"))?;
    }
    for family in &reader.families {
        complete(family).map_err(|problem| format!("{}: {problem}", family.name))?;
    }
    Ok(reader.families)
}

struct Reader {
    flavor: Flavor,
    families: Vec<Family>,
    names: BTreeSet<String>,
    series: BTreeSet<(String, Labels)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        match line.strip_prefix("# ") {
            Some(description) => self.description(description),
            None if line.starts_with('#') => Err("a comment".into()),
            None => self.sample(line),
        }
    }

    fn description(&mut self, line: &str) -> Result<(), String> {
        let mut parts = line.splitn(3, ' ');
        let (Some(what), Some(name), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("a description without its parts".into());
        };
        if !is_name(name, true) {
            return Err("no name".into());
        }
        if self.families.last().is_none_or(|family| family.name != name) {
            if !self.names.insert(name.into()) {
                return Err("a family that was there before".into());
            }
            self.families.push(Family { name: name.into(), ..Family::default() });
        }
        let flavor = self.flavor;
        let family = self.families.last_mut().expect("there is one");
        if !family.samples.is_empty() {
            return Err("a description after the samples".into());
        }
        let once = |field: &mut String, text: &str| {
            let first = field.is_empty() && !text.is_empty();
            *field = text.into();
            if first { Ok(()) } else { Err(format!("{what} twice, or empty")) }
        };
        match what {
            "HELP" => once(&mut family.help, &unescaped(text, flavor == Flavor::OpenMetrics)?),
            "TYPE" => {
                let known = match flavor {
                    Flavor::OpenMetrics => &["counter", "gauge", "histogram", "info"][..],
                    Flavor::Classic => &["counter", "gauge", "histogram"][..],
                };
                if !known.contains(&text) {
                    return Err("a type that the format has not".into());
                }
                once(&mut family.kind, text)
            }
            "UNIT" if flavor == Flavor::OpenMetrics => {
                if !name.ends_with(&format!("_{text}")) {
                    return Err("the name does not end in the unit".into());
                }
                once(family.unit.get_or_insert_default(), text)
            }
            _ => Err("no description that the format has".into()),
        }
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(end);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let value = value.strip_prefix(' ').ok_or("no blank before the value")?;
        let value = number(value).ok_or("no number, or more than one")?;
        let family = self.families.last_mut().ok_or("a sample of no family")?;
        let ending = name.strip_prefix(family.name.as_str()).ok_or("a sample of another family")?;
        let endings = match (family.kind.as_str(), self.flavor) {
            ("counter", Flavor::OpenMetrics) => &["_total"][..],
            ("info", _) => &["_info"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            ("counter" | "gauge", _) => &[""],
            _ => return Err("a sample before its type".into()),
        };
        if !endings.contains(&ending) {
            return Err("an ending that the type has not".into());
        }
        if family.kind == "counter" && !name.ends_with("_total") {
            return Err("a counter whose name does not end in _total".into());
        }
        if (ending == "_bucket") != labels.contains_key("le") {
            return Err("le is a bucket's, and each bucket has it".into());
        }
        if family.kind != "gauge" && !(value >= 0.0 && value.is_finite()) {
            return Err("a number that cannot have been counted".into());
        }
        if !self.series.insert((name.into(), labels.clone())) {
            return Err("a series that was there before".into());
        }
        family.samples.push(Sample { name: name.into(), labels, value });
        Ok(())
    }
}

/// The labels behind a brace, and what comes behind them.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("no label")?;
        if !is_name(name, false) {
            return Err(format!("{name:?} is no label's name"));
        }
        let mut escaped = false;
        let end = value.find(|c| {
            let end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            end
        });
        let end = end.ok_or("a label's value that does not end")?;
        if labels.insert(name.into(), unescaped(&value[..end], true)?).is_some() {
            return Err("a label twice".into());
        }
        rest = &value[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok((labels, rest.strip_prefix('}').ok_or("no brace after the labels")?)),
        }
    }
}

/// In help lines of the classic format, quotes stand for themselves and are not escaped.
fn unescaped(text: &str, quotes: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if quotes => '"',
                _ => return Err("an escape that there is not".into()),
            },
            other => other,
        });
    }
    Ok(plain)
}

fn is_name(text: &str, of_metric: bool) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || (of_metric && c == ':');
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// A number as both formats write it. Rust reads more than that: "infinity", "nan".
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        _ => text.parse().ok().filter(|_| text.bytes().all(|byte| b"0123456789+-.eE".contains(&byte))),
    }
}

fn complete(family: &Family) -> Result<(), String> {
    if family.kind.is_empty() || family.help.is_empty() {
        return Err("its type or its help is missing".into());
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    // Of each, its buckets, sums and counts, as bounds and values.
    type Parts = [Vec<(f64, f64)>; 3];
    let mut histograms: BTreeMap<Labels, Parts> = BTreeMap::new();
    for Sample { name, labels, value } in &family.samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le").map_or(Some(0.0), |le| number(&le)).ok_or("a bound that is no number")?;
        let part = match name.strip_prefix(&family.name) {
            Some("_bucket") => 0,
            Some("_sum") => 1,
            _ => 2,
        };
        histograms.entry(labels).or_default()[part].push((bound, *value));
    }
    for (labels, [buckets, sums, counts]) in histograms {
        let rising = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let [(_, _)] = sums[..] else { return Err(format!("{labels:?} has not one sum")) };
        let [(_, count)] = counts[..] else { return Err(format!("{labels:?} has not one count")) };
        if !rising || buckets.last() != Some(&(f64::INFINITY, count)) {
            return Err(format!("the buckets of {labels:?} do not rise to the count of all samples"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTOGRAM: &str =
        "# HELP h H.\n# TYPE h histogram\nh_sum 3\nh_count 2\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n";

    #[test]
    fn what_is_right_is_read() {
        let page = format!(
            "# HELP a_total A \\\\ b.\n# TYPE a_total counter\na_total{{x=\"q\\\"\\n,}}\",y=\"\"}} 1.5e3\n{HISTOGRAM}"
        );
        let families = read(&page, Flavor::Classic).unwrap();
        assert_eq!((families[0].help.as_str(), families[0].samples[0].value), ("A \\ b.", 1_500.0));
        assert_eq!(families[0].samples[0].labels["x"], "q\"\n,}");
        assert_eq!(families[1].samples.len(), 4);
        let page = "# HELP a A.\n# TYPE a counter\na_total 1\n# HELP b_bytes B.\n# TYPE b_bytes gauge\n# UNIT b_bytes bytes\n\
                    b_bytes -1\n# HELP i I.\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(read(page, Flavor::OpenMetrics).unwrap().len(), 3);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        const HEAD: &str = "# HELP a_total A.\n# TYPE a_total counter\n";
        for (tail, says) in [
            ("a_total 1", "does not end"),
            ("a_total 1\na_total 1\n", "was there before"),
            ("a_total{x=\"1\",y=\"2\"} 1\na_total{y=\"2\",x=\"1\"} 1\n", "was there before"),
            ("a_total{x=\"1\",x=\"2\"} 1\n", "a label twice"),
            ("a_total{x=\"\\t\"} 1\n", "an escape"),
            ("a_total{x=\"1\"\n", "no brace"),
            ("a_total{} 1\n", "no label"),
            ("a_total{1x=\"1\"} 1\n", "no label's name"),
            ("a_total 1 2\n", "no number"),
            ("a_total inf\n", "no number"),
            ("a_total -1\n", "cannot have been counted"),
            ("a 1\n", "another family"),
            ("a_total_sum 1\n", "an ending"),
            ("\n", "no value"),
            ("# a comment\n", "without its parts"),
            ("#EOF\n", "a comment"),
            ("# EOF\n", "without its parts"),
            ("# TYPE a_total gauge\n", "twice"),
            ("a_total 1\n# HELP a_total A.\n", "after the samples"),
            ("# TYPE b info\n", "a type that the format has not"),
            ("# TYPE b gauge\nb 1\n", "is missing"),
            ("# HELP b B.\nb 1\n", "before its type"),
            ("# HELP b B.\n# TYPE b gauge\n# HELP a_total A.\n", "there before"),
            ("# HELP b B.\n# TYPE b counter\nb 1\n", "does not end in _total"),
            ("# HELP b \\\"B.\n", "an escape"),
            ("# UNIT a_total total\n", "no description"),
        ] {
            let problem = read(&format!("{HEAD}{tail}"), Flavor::Classic).expect_err(tail);
            assert!(problem.contains(says), "{tail}: {problem}");
        }
        for (wrong, says) in [
            (HISTOGRAM.replace("h_bucket{le=\"+Inf\"} 2", "h_bucket{le=\"+Inf\"} 3"), "do not rise"),
            (HISTOGRAM.replace("h_bucket{le=\"1.0\"} 1", "h_bucket{le=\"1.0\"} 3"), "do not rise"),
            (HISTOGRAM.replace("h_bucket{le=\"+Inf\"} 2\n", ""), "do not rise"),
            (HISTOGRAM.replace("h_sum 3\n", ""), "not one sum"),
            (HISTOGRAM.replace("h_bucket{le=\"1.0\"} 1", "h_bucket 1"), "le is a bucket's"),
        ] {
            let problem = read(&wrong, Flavor::Classic).expect_err(&wrong);
            assert!(problem.contains(says), "{wrong}: {problem}");
        }
        for (wrong, says) in [
            ("# HELP a A.\n# TYPE a gauge\na 1\n", "# EOF"),
            ("# HELP a A.\n# TYPE a counter\na 1\n# EOF\n", "an ending"),
            ("# HELP a A.\n# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n", "in the unit"),
        ] {
            let problem = read(wrong, Flavor::OpenMetrics).expect_err(wrong);
            assert!(problem.contains(says), "{wrong}: {problem}");
        }
    }
}
