//! The formats of a page, and which of them a client gets.

use mediatype::{MediaType, MediaTypeList, Name, ReadParams};

/// A text format that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus before that, 0.0.4, which all its relatives read.
    Classic,
}

const Q: Name<'static> = Name::new_unchecked("q");
const VERSION: Name<'static> = Name::new_unchecked("version");

impl Format {
    /// All of them; of two that a client likes alike, it gets the first.
    pub(super) const ALL: [Format; 2] = [Format::OpenMetrics, Format::Classic];

    /// The name, as in `shunt_scrapes_total`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::OpenMetrics => "openmetrics",
            Format::Classic => "text",
        }
    }

    /// What the page is called in HTTP.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What a client gets that sends this `Accept` header (RFC 9110 §12.5.1): the format that it names with the greater weight. A
    /// client that names neither (no header, `*/*`, or other types alone) gets the classic one, as from other exporters: such clients,
    /// `curl` and simple agents, often read no other.
    pub(super) fn accepted(accept: &str) -> Format {
        let ranges: Vec<MediaType<'_>> = MediaTypeList::new(accept).filter_map(Result::ok).collect();
        let weight = |format: &Format| {
            let weights = ranges.iter().filter(|range| format.is_named_by(range)).map(weight);
            weights.fold(0.0, f32::max)
        };
        let mut best = (Format::Classic, 0.0);
        for format in Format::ALL {
            if weight(&format) > best.1 {
                best = (format, weight(&format));
            }
        }
        best.0
    }

    /// Whether a media range names the format, in a version that the page can be read as. A range with a wildcard names none.
    fn is_named_by(self, range: &MediaType<'_>) -> bool {
        let (main, sub, versions) = match self {
            Format::OpenMetrics => ("application", "openmetrics-text", &["1.0.0", "0.0.1"]),
            Format::Classic => ("text", "plain", &["0.0.4", "1.0.0"]),
        };
        let version = range.get_param(VERSION).map(|version| version.unquoted_str().into_owned());
        range.ty == main && range.subty == sub && version.is_none_or(|version| versions.contains(&version.as_str()))
    }
}

/// A media range's weight; a client that writes nonsense has none.
fn weight(range: &MediaType<'_>) -> f32 {
    let q = range.get_param(Q).map_or(Ok(1.0), |q| q.as_str().parse());
    q.ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Format::{Classic, OpenMetrics};
    use super::*;

    #[test]
    fn clients_get_the_format_that_they_like_best() {
        for (accept, format) in [
            // Prometheus 2.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", OpenMetrics),
            // Prometheus 3, with and without protobuf.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                 application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            // Prometheus 2 and 3, told to take the classic one (`scrape_protocols`, `scrape_classic…`).
            ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,*/*;q=0.1", Classic),
            ("text/plain;version=0.0.4", Classic),
            ("application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text; version=\"1.0.0\"; charset=utf-8", OpenMetrics),
            ("Application/OpenMetrics-Text", OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Classic),
            ("text/plain, application/openmetrics-text", OpenMetrics),
            ("text/plain;q=0.9, application/openmetrics-text", OpenMetrics),
            ("text/plain, application/openmetrics-text;q=0", Classic),
            ("application/openmetrics-text;q=0", Classic),
            // curl, browsers, and what makes no sense.
            ("", Classic),
            ("*/*", Classic),
            ("application/*", Classic),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Classic),
            ("application/json", Classic),
            ("application/openmetrics-text;q=high, text/plain;q=0.1", Classic),
            (",;,q=1,\"", Classic),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(accept in "[ -~]{0,80}") {
            Format::accepted(&accept);
        }
    }
}
