//! Health checks of a service, checked: what is asked of its backends, how often, and what a good answer is.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ctl::request::{CheckSpec, ServiceAdd};
use ctl::{CheckTo, CheckType, Protocol, ServiceId, Span};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Look, LookSet};

use crate::base::limits::{CHECK_INTERVALS, CHECK_TIMES, MAX_CHECK_TEXT, MAX_CHECKS};
use crate::control::model::command::command;
use crate::control::model::error::ModelError;
use crate::control::model::tls::{self, Tls};

/// Between two probes, if the check names no interval.
const INTERVAL: Duration = Duration::from_secs(1);
/// For an answer, if the check names no timeout.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Good probes until a backend is up.
const RISE: u32 = 2;
/// Failed probes until it is down.
const FALL: u32 = 3;
/// How large a compiled expression may be.
const REGEX_BYTES: usize = 256 << 10;

/// A check of a service's backends.
#[derive(Debug, Clone)]
pub struct Check {
    /// As the operator wrote it.
    pub spec: CheckSpec,
    /// From one probe to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// After so many good probes in a row, a backend is up.
    pub rise: u32,
    /// After so many failed probes in a row, it is down.
    pub fall: u32,
    /// Which of its addresses is asked.
    pub to: CheckTo,
    /// The L4 port that is asked; 0 where there is none.
    pub port: u16,
    /// What is asked.
    pub ask: Ask,
}

/// What a check asks.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Nothing that the neighbor engine does not ask anyway.
    Arp,
    /// Nothing, and silence does no harm.
    Nothing,
    /// A TCP connection.
    Tcp,
    /// An answer by HTTP.
    Http(Arc<Http>),
    /// The same over TLS.
    Https(Arc<Https>),
    /// An answer to a datagram.
    Udp(Arc<Datagram>),
    /// An answer by DNS.
    Dns(Arc<Dns>),
    /// An answer to a ping.
    Icmp,
    /// What a command says by its exit status: its words.
    Script(Arc<Vec<String>>),
}

/// An HTTP request, and what a good answer is.
#[derive(Debug, Clone)]
pub struct Http {
    /// The method.
    pub method: String,
    /// The path with the query.
    pub path: String,
    /// The host. `None`: the address that is asked.
    pub host: Option<String>,
    /// The statuses that are good.
    pub status: Vec<RangeInclusive<u16>>,
    /// What must match in the body.
    pub body: Option<Regex>,
    /// Whether a match in the beginning of a body is one in the whole body, whatever follows.
    pub match_lasts: bool,
}

/// The same over TLS.
#[derive(Debug, Clone)]
pub struct Https {
    /// The request, and what a good answer is.
    pub http: Arc<Http>,
    /// The name, and whose certificates are good.
    pub tls: Tls,
}

/// A datagram, and what a good answer is.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// What is sent.
    pub payload: Vec<u8>,
    /// What the answer must match. `None`: silence is good, too; only an ICMP error is not.
    pub answer: Option<Regex>,
}

/// A question of DNS, and what a good answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The name in its labels.
    pub labels: Vec<Vec<u8>>,
    /// The record's type (RFC 1035 §3.2.2 and its successors).
    pub record: u16,
    /// The response code that is good (RFC 1035 §4.1.1).
    pub rcode: u8,
    /// The record that must be in the answer.
    pub answer: Option<DnsData>,
}

/// The data of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsData {
    /// Of an A record.
    V4(Ipv4Addr),
    /// Of an AAAA record.
    V6(Ipv6Addr),
    /// Of a record whose data is a name, in its labels, or text.
    Text(String),
}

/// Why a check cannot be made: the field, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct CheckError {
    /// The field of the check; empty: all of it.
    pub field: &'static str,
    /// The reason, a sentence.
    pub why: String,
}

fn wrong(field: &'static str, why: impl Into<String>) -> CheckError {
    CheckError { field, why: why.into() }
}

/// The checks of a service for which the operator has named none: a TCP connection, where it is clear to which port.
pub fn usual(service: &ServiceId) -> CheckSpec {
    let tcp = service.protocol == Protocol::Tcp && service.port.single().is_some();
    CheckSpec::new(if tcp { CheckType::Tcp } else { CheckType::Arp })
}

/// The checks that a request asks for, or all that is wrong with them.
pub fn all_checked(wanted: &ServiceAdd) -> Result<Vec<Check>, Vec<ModelError>> {
    let specs = wanted.checks.clone().unwrap_or_else(|| vec![usual(&wanted.service)]);
    list_checked(&specs, &wanted.service)
}

/// These checks of a service, or all that is wrong with them.
pub fn list_checked(specs: &[CheckSpec], service: &ServiceId) -> Result<Vec<Check>, Vec<ModelError>> {
    if specs.len() > MAX_CHECKS {
        return Err(vec![ModelError::TooManyChecks(specs.len())]);
    }
    let (mut checks, mut errors) = (Vec::new(), Vec::new());
    for (index, spec) in specs.iter().enumerate() {
        match checked(spec, service) {
            Ok(check) => checks.push(check),
            Err(CheckError { field, why }) => errors.push(ModelError::Check { index, field, why }),
        }
    }
    if errors.is_empty() { Ok(checks) } else { Err(errors) }
}

/// A TLS handshake takes the director as long as this many other probes.
const TLS_COST: u64 = 10;

/// The probes that the checks of a service ask for, in 1,000 s.
pub(super) fn probes_per_1000_s(checks: &[Check], backends: usize) -> u64 {
    let cost = |check: &Check| if matches!(check.ask, Ask::Https(_)) { TLS_COST } else { 1 };
    let of =
        |check: &Check| cost(check) * 1_000_000 / u64::try_from(check.interval.as_millis()).unwrap_or(u64::MAX).max(1);
    backends as u64 * checks.iter().filter(|check| check.probes()).map(of).sum::<u64>()
}

impl Check {
    /// Whether it sends anything or runs a command.
    pub fn probes(&self) -> bool {
        !matches!(self.ask, Ask::Arp | Ask::Nothing)
    }
}

/// Checks a check.
pub fn checked(spec: &CheckSpec, service: &ServiceId) -> Result<Check, CheckError> {
    let kind = spec.kind;
    for (name, value) in spec.given() {
        if !fields(kind).contains(&name.as_str()) {
            return Err(CheckError {
                field: "",
                why: format!("A check of type {kind} has no \"{name}\": leave it out"),
            });
        }
        if value.as_str().is_some_and(|text| text.len() > MAX_CHECK_TEXT) {
            return Err(wrong("", format!("\"{name}\" is longer than {MAX_CHECK_TEXT} bytes")));
        }
    }
    let interval = span("interval", spec.interval, INTERVAL)?;
    let timeout = span("timeout", spec.timeout, TIMEOUT.min(interval))?;
    if timeout > interval {
        let [timeout, interval] = [timeout, interval].map(Span::from);
        return Err(wrong("timeout", format!("A timeout of {timeout} is longer than the interval, {interval}")));
    }
    let [rise, fall] = [("rise", spec.rise, RISE), ("fall", spec.fall, FALL)].map(|(name, given, usual)| {
        let times = given.unwrap_or(usual);
        if CHECK_TIMES.contains(&times) {
            Ok(times)
        } else {
            Err(wrong(name, format!("{name} = {times}: use {} to {}", CHECK_TIMES.start(), CHECK_TIMES.end())))
        }
    });
    let to = spec.to.unwrap_or_default();
    let check =
        |ask, port| Ok(Check { spec: spec.clone(), interval, timeout, rise: rise?, fall: fall?, to, port, ask });
    match kind {
        CheckType::Arp => check(Ask::Arp, 0),
        CheckType::None => check(Ask::Nothing, 0),
        CheckType::Icmp => check(Ask::Icmp, 0),
        CheckType::Tcp => check(Ask::Tcp, port(spec, service)?),
        CheckType::Http => check(Ask::Http(http(spec)?), port(spec, service)?),
        CheckType::Udp => check(Ask::Udp(datagram(spec)?), port(spec, service)?),
        CheckType::Dns => check(Ask::Dns(dns(spec)?), port(spec, service)?),
        CheckType::Https => check(Ask::Https(https(spec)?), port(spec, service)?),
        CheckType::Script => check(Ask::Script(script(spec)?), 0),
    }
}

/// The fields that a type of check knows.
pub fn fields(kind: CheckType) -> &'static [&'static str] {
    match kind {
        CheckType::Arp | CheckType::None => &[],
        CheckType::Script => &["interval", "timeout", "rise", "fall", "command"],
        CheckType::Icmp => &["interval", "timeout", "rise", "fall", "to"],
        CheckType::Tcp => &["interval", "timeout", "rise", "fall", "port", "to"],
        CheckType::Http => {
            &["interval", "timeout", "rise", "fall", "port", "to", "method", "path", "host", "status", "body"]
        }
        CheckType::Https => &[
            "interval", "timeout", "rise", "fall", "port", "to", "method", "path", "host", "status", "body", "sni",
            "verify",
        ],
        CheckType::Udp => &["interval", "timeout", "rise", "fall", "port", "to", "payload", "answer"],
        CheckType::Dns => &["interval", "timeout", "rise", "fall", "port", "to", "name", "record", "rcode", "answer"],
    }
}

fn span(field: &'static str, given: Option<Span>, usual: Duration) -> Result<Duration, CheckError> {
    let time = given.map_or(usual, Duration::from);
    let (least, most) = (*CHECK_INTERVALS.start(), *CHECK_INTERVALS.end());
    if CHECK_INTERVALS.contains(&time) {
        return Ok(time);
    }
    let [time, least, most] = [time, least, most].map(Span::from);
    Err(wrong(field, format!("{field} = {time}: use {least} to {most}")))
}

/// The port to ask: the check's, or that of the service, if it speaks the check's protocol.
fn port(spec: &CheckSpec, service: &ServiceId) -> Result<u16, CheckError> {
    let kind = spec.kind;
    let spoken = if matches!(kind, CheckType::Udp | CheckType::Dns) { Protocol::Udp } else { Protocol::Tcp };
    match (spec.port, service.port.single()) {
        (Some(0), _) => Err(wrong("port", "Port 0 is no port: use 1 to 65535")),
        (Some(port), _) => Ok(port),
        (None, _) if service.protocol != spoken => {
            let protocol = service.protocol;
            let advice = "name the port to ask, or use a check of another type";
            Err(wrong("type", format!("A check of type {kind} cannot ask a port of {protocol}: {advice}")))
        }
        (None, Some(port)) => Ok(port),
        (None, None) => {
            Err(wrong("port", format!("The service has several ports ({}): name the one to ask", service.port)))
        }
    }
}

fn http(spec: &CheckSpec) -> Result<Arc<Http>, CheckError> {
    let method = spec.method.clone().unwrap_or_else(|| "GET".into());
    // RFC 9110 §5.6.2: a token.
    let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(wrong("method", format!("\"{method}\" is not a method of HTTP, such as GET or HEAD")));
    }
    let path = spec.path.clone().unwrap_or_else(|| "/".into());
    if !path.starts_with('/') || !path.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(wrong("path", format!("\"{path}\" is not a path: begin it with / and write blanks as %20")));
    }
    let host = spec.host.clone();
    if let Some(host) = host.as_ref().filter(|host| host.is_empty() || !host.bytes().all(|c| c.is_ascii_graphic())) {
        return Err(wrong("host", format!("\"{host}\" is not the name of a host")));
    }
    let status = statuses(spec.status.as_deref().unwrap_or("200-399"))?;
    let body = spec.body.as_deref().map(|text| expression("body", text)).transpose()?;
    if body.is_some() && method == "HEAD" {
        return Err(wrong("body", "An answer to HEAD has no body: use GET, or leave body out"));
    }
    let match_lasts = spec.body.as_deref().is_some_and(match_lasts);
    Ok(Arc::new(Http { method, path, host, status, body, match_lasts }))
}

/// Whether a match of this expression stays one, whatever follows: unless the expression looks at what follows, as `$` and `\b` do.
pub(crate) fn match_lasts(text: &str) -> bool {
    let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(text);
    let behind = LookSet::empty().insert(Look::Start).insert(Look::StartLF).insert(Look::StartCRLF);
    parsed.is_ok_and(|parsed| parsed.properties().look_set().subtract(behind).is_empty())
}

fn https(spec: &CheckSpec) -> Result<Arc<Https>, CheckError> {
    let http = http(spec)?;
    let tls = tls::tls(spec.sni.as_deref(), spec.host.as_deref(), spec.verify.as_deref());
    tls.map(|tls| Arc::new(Https { http, tls })).map_err(|(field, why)| wrong(field, why))
}

/// Reads `200`, `200-299` or `200,301-302`.
fn statuses(text: &str) -> Result<Vec<RangeInclusive<u16>>, CheckError> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (ctl::parse_number(first)?, ctl::parse_number(last)?);
        (100 <= first && first <= last && last <= 599).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    ranges
        .ok_or_else(|| wrong("status", format!("\"{text}\" is no set of statuses: write 200, 200-299 or 200,301-302")))
}

fn expression(field: &'static str, text: &str) -> Result<Regex, CheckError> {
    let built = RegexBuilder::new(text).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).build();
    built.map_err(|cause| {
        // The library draws a picture of several lines; its last one is the reason.
        let cause = cause.to_string();
        let reason = cause.lines().last().unwrap_or_default().trim_start_matches("error: ");
        wrong(field, format!("\"{text}\" is not a regular expression: {reason}"))
    })
}

fn datagram(spec: &CheckSpec) -> Result<Arc<Datagram>, CheckError> {
    let payload = bytes(spec.payload.as_deref().unwrap_or_default())
        .ok_or_else(|| wrong("payload", "A \\ stands before x and two hexadecimal digits, or before another \\"))?;
    let answer = spec.answer.as_deref().map(|text| expression("answer", text)).transpose()?;
    Ok(Arc::new(Datagram { payload, answer }))
}

fn script(spec: &CheckSpec) -> Result<Arc<Vec<String>>, CheckError> {
    let text = spec.command.as_deref().ok_or_else(|| wrong("command", "A check of type script needs a \"command\""))?;
    command(text).map(Arc::new).map_err(|why| wrong("command", why))
}

/// Text in which `\xNN` is a byte, and `\\` a backslash.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    // Bound: each round takes a byte of the text.
    while let Some((&first, behind)) = rest.split_first() {
        let byte;
        (byte, rest) = match (first, behind) {
            (b'\\', [b'\\', behind @ ..]) => (b'\\', behind),
            (b'\\', [b'x', high, low, behind @ ..]) => {
                let digits = [*high, *low];
                (u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?, behind)
            }
            (b'\\', _) => return None,
            _ => (first, behind),
        };
        bytes.push(byte);
    }
    Some(bytes)
}

/// The types of records that a check can ask for (IANA's registry).
const RECORDS: [(&str, u16); 9] =
    [("A", 1), ("NS", 2), ("CNAME", 5), ("SOA", 6), ("PTR", 12), ("MX", 15), ("TXT", 16), ("AAAA", 28), ("SRV", 33)];

/// Response codes (RFC 1035 §4.1.1, RFC 2136 §2.2).
pub const RCODES: [(&str, u8); 6] =
    [("NOERROR", 0), ("FORMERR", 1), ("SERVFAIL", 2), ("NXDOMAIN", 3), ("NOTIMP", 4), ("REFUSED", 5)];

fn dns(spec: &CheckSpec) -> Result<Arc<Dns>, CheckError> {
    let name = spec.name.as_deref().ok_or_else(|| wrong("name", "A check of type dns needs a \"name\" to ask for"))?;
    let labels = labels(name).ok_or_else(|| wrong("name", format!("\"{name}\" is not a name of DNS")))?;
    let record = word("record", spec.record.as_deref().unwrap_or("A"), &RECORDS)?;
    let rcode = word("rcode", spec.rcode.as_deref().unwrap_or("NOERROR"), &RCODES)?;
    let data = |text: &str| match record {
        1 => text.parse().map(DnsData::V4).map_err(|_| wrong("answer", format!("\"{text}\" is no IPv4 address"))),
        28 => text.parse().map(DnsData::V6).map_err(|_| wrong("answer", format!("\"{text}\" is no IPv6 address"))),
        2 | 5 | 12 | 16 => Ok(DnsData::Text(text.trim_end_matches('.').into())),
        _ => Err(wrong("answer", "Only A, AAAA, NS, CNAME, PTR and TXT records can be compared: leave answer out")),
    };
    let answer = spec.answer.as_deref().map(data).transpose()?;
    Ok(Arc::new(Dns { labels, record, rcode, answer }))
}

/// A name in its labels (RFC 1035 §2.3.4: labels of up to 63 bytes, 255 in all).
fn labels(name: &str) -> Option<Vec<Vec<u8>>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Some(Vec::new());
    }
    let labels: Vec<Vec<u8>> = name.split('.').map(|label| label.as_bytes().to_vec()).collect();
    let fits = name.len() <= 253 && labels.iter().all(|label| (1..=63).contains(&label.len()));
    let plain = name.bytes().all(|c| c.is_ascii_graphic());
    (fits && plain).then_some(labels)
}

fn word<T: Copy>(field: &'static str, text: &str, words: &[(&str, T)]) -> Result<T, CheckError> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|&(_, value)| value);
    found.ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
        wrong(field, format!("{field} \"{text}\" is not known: use one of {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, service: &str) -> Result<Check, CheckError> {
        checked(&text.parse().unwrap(), &service.parse().unwrap())
    }

    #[test]
    fn what_is_left_out_is_as_usual() {
        let tcp = check("tcp", "192.0.2.1:80").unwrap();
        assert_eq!((tcp.interval, tcp.timeout, tcp.rise, tcp.fall), (INTERVAL, TIMEOUT, 2, 3));
        assert_eq!((tcp.port, tcp.to), (80, CheckTo::Vip));
        for (service, kind) in [
            ("192.0.2.1:80", CheckType::Tcp),
            ("[2001:db8::1]:80", CheckType::Tcp),
            ("192.0.2.1:80,443", CheckType::Arp),
            ("192.0.2.1:any", CheckType::Arp),
            ("192.0.2.1:53/udp", CheckType::Arp),
            ("192.0.2.1:2905/sctp", CheckType::Arp),
        ] {
            assert_eq!(usual(&service.parse().unwrap()).kind, kind, "{service}");
        }
        let fast = check("tcp interval=200ms", "192.0.2.1:80").unwrap();
        assert_eq!(fast.timeout, fast.interval, "a timeout is never longer than the interval");
        let Ask::Http(http) = check("http", "192.0.2.1:80").unwrap().ask else { panic!() };
        assert_eq!((http.method.as_str(), http.path.as_str(), &http.host), ("GET", "/", &None));
        assert!(http.status[0].contains(&200) && http.status[0].contains(&399) && !http.status[0].contains(&404));
    }

    #[test]
    fn checks_that_cannot_work_are_refused_with_the_field_and_the_reason() {
        for (text, service, field, says) in [
            ("http", "192.0.2.1:53/udp", "type", "cannot ask a port of udp"),
            ("udp", "192.0.2.1:80", "type", "cannot ask a port of tcp"),
            ("tcp", "192.0.2.1:2905/sctp", "type", "cannot ask a port of sctp"),
            ("tcp", "192.0.2.1:80,443", "port", "several ports"),
            ("tcp", "192.0.2.1:any", "port", "several ports"),
            ("tcp port=0", "192.0.2.1:80", "port", "Port 0"),
            ("tcp fall=0", "192.0.2.1:80", "fall", "use 1 to"),
            ("tcp rise=0", "192.0.2.1:80", "rise", "use 1 to"),
            ("tcp rise=1000", "192.0.2.1:80", "rise", "use 1 to"),
            ("tcp interval=0ms", "192.0.2.1:80", "interval", "use 100ms to"),
            ("tcp interval=2h", "192.0.2.1:80", "interval", "use 100ms to"),
            ("tcp timeout=2s", "192.0.2.1:80", "timeout", "longer than the interval"),
            ("tcp path=/", "192.0.2.1:80", "", "has no \"path\""),
            ("arp interval=1s", "192.0.2.1:80", "", "has no \"interval\""),
            ("http path=health", "192.0.2.1:80", "path", "begin it with /"),
            ("http 'path=/a b'", "192.0.2.1:80", "path", "%20"),
            ("http method='GET /'", "192.0.2.1:80", "method", "not a method"),
            ("http 'host=a b'", "192.0.2.1:80", "host", "not the name"),
            ("http status=200-", "192.0.2.1:80", "status", "no set"),
            ("http status=299-200", "192.0.2.1:80", "status", "no set"),
            ("http status=700", "192.0.2.1:80", "status", "no set"),
            ("http 'body=(well'", "192.0.2.1:80", "body", "unclosed group"),
            ("http 'body=(\\w{500}){500}'", "192.0.2.1:80", "body", "size"),
            ("http method=HEAD body=x", "192.0.2.1:80", "body", "no body"),
            ("udp 'payload=\\x1'", "192.0.2.1:53/udp", "payload", "hexadecimal"),
            ("dns", "192.0.2.1:53/udp", "name", "needs a \"name\""),
            ("dns name=a..b", "192.0.2.1:53/udp", "name", "not a name"),
            ("dns name=a record=WHAT", "192.0.2.1:53/udp", "record", "AAAA"),
            ("dns name=a rcode=WHAT", "192.0.2.1:53/udp", "rcode", "NXDOMAIN"),
            ("dns name=a answer=::1", "192.0.2.1:53/udp", "answer", "no IPv4 address"),
            ("dns name=a record=SOA answer=x", "192.0.2.1:53/udp", "answer", "leave answer out"),
            ("https", "192.0.2.1:443/udp", "type", "cannot ask a port of udp"),
            ("https path=x", "192.0.2.1:443", "path", "begin it with /"),
            (
                "https verify=/does/not/exist host=a",
                "192.0.2.1:443",
                "verify",
                "The CA file /does/not/exist cannot be read",
            ),
            ("http sni=a", "192.0.2.1:80", "", "has no \"sni\""),
            ("script", "192.0.2.1:80", "command", "needs a \"command\""),
            ("script command=''", "192.0.2.1:80", "command", "is no command"),
            ("script command='/bin/x \"y'", "192.0.2.1:80", "command", "quote"),
            ("script command='check -p 80'", "192.0.2.1:80", "command", "begin it with the path"),
            ("script command=/bin/x port=80", "192.0.2.1:80", "", "has no \"port\""),
        ] {
            let error = check(text, service).map(|check| check.ask).expect_err(text);
            assert!(error.field == field && error.why.contains(says), "{text}: {error:?}");
        }
        let long = format!("http path=/{}", "a".repeat(MAX_CHECK_TEXT));
        assert!(check(&long, "192.0.2.1:80").unwrap_err().why.contains("longer than"));
    }

    #[test]
    fn checks_of_each_type_are_read() {
        let https = check("https host=a.example sni=b.example status=204", "[2001:db8::1]:443").unwrap();
        assert_eq!(https.port, 443);
        let Ask::Https(https) = https.ask else { panic!() };
        let name = https.tls.name.as_ref().map(|name| name.to_str().into_owned());
        assert_eq!((name.as_deref(), https.tls.trust.is_none()), (Some("b.example"), true));
        assert_eq!((https.http.host.as_deref(), &*https.http.status), (Some("a.example"), &[204..=204][..]));
        let udp = check("udp 'payload=\\x00\\xffa\\\\' answer=^ok", "192.0.2.1:53/udp").unwrap();
        let Ask::Udp(datagram) = udp.ask else { panic!() };
        assert_eq!(datagram.payload, [0, 255, b'a', b'\\']);
        assert!(datagram.answer.as_ref().unwrap().is_match(b"ok then"));
        let dns = check("dns name=www.example.org. record=aaaa answer=2001:db8::1", "[2001:db8::9]:53/udp").unwrap();
        let Ask::Dns(dns) = dns.ask else { panic!() };
        assert_eq!(dns.labels, [&b"www"[..], b"example", b"org"]);
        assert_eq!((dns.record, dns.rcode), (28, 0));
        assert_eq!(dns.answer, Some(DnsData::V6("2001:db8::1".parse().unwrap())));
        let script = check("script 'command=/bin/check \"a b\" c'", "192.0.2.1:80").unwrap();
        let Ask::Script(command) = script.ask else { panic!() };
        assert_eq!(**command, ["/bin/check", "a b", "c"]);
    }
}
