//! `[[services]]` and `[[services.backends]]`: VIPs, and the backends that serve them.
//!
//! What a service needs to be right in itself is checked here; the rest, by the model, as for a service that `shuntctl` adds.

use std::net::IpAddr;
use std::time::Duration;

use ctl::request::{BackendSpec, CheckSpec, ServiceAdd};
use ctl::{
    FlowHash, MAX_WEIGHT, Mac, NameError, OnAllDown, Passive, Ports, Protocol, Scheduler, ServiceId, Start, Tracking,
};
use humantime::format_duration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::limits::{
    DEFAULT_HANDOVER_UDP_S, DEFAULT_IDLE_S, DEFAULT_IDLE_UDP_S, MAX_BACKENDS, MAX_IDLE_MS, MAX_SLOW_START_S,
};
use crate::config::rows::{Section, section, typed};
use crate::config::source::Source;
use crate::control::model::ModelError;

section! {
    /// A service: a VIP, its ports and a protocol.
    pub(super) struct ServiceSection = Section::new("[[services]]").changed_by_shuntctl();

    /// The virtual address.
    vip: Option<String> = None, written("an IP address"), required("192.168.0.101");
    /// The L4 ports. Of several services of a VIP, the one whose range is narrowest has a port.
    port: Option<PortNumber> = None, written("such as 80, \"80,443\", \"8000-8100\", \"any\""), required(80);
    /// The transport protocol.
    protocol: String = Protocol::default().to_string(), words(&Protocol::ALL.map(Protocol::name));
    /// How a backend is chosen: by a table ("maglev"), by the client's address ("sh": persistence), or flow by flow (the others).
    scheduler: String = Scheduler::default().to_string(), words(Scheduler::WORDS);
    /// What decides the backend: the whole flow, the client's address, or as many of its bits.
    hash: Option<String> = None, written("\"5tuple\", \"source\" or \"source/PREFIX\""), or("as the scheduler says", "5tuple");
    /// Which flows are remembered: those that a change has made exceptions; all, for exact numbers of connections; or, for UDP,
    /// none: each packet goes by the table as it is, and no change hands over. That is for protocols like DNS.
    tracking: Option<String> = None, words(Tracking::WORDS), or("as the scheduler needs", Tracking::default());
    /// How long a flow is remembered that nothing is heard of.
    idle_timeout: Option<String> = None, written(times()), or(idle_timeouts(), time(DEFAULT_IDLE_S));
    /// How long after a change old flows stay with their backends until they are heard of; those that are heard of stay longer. Until
    /// then, a new flow of UDP goes where an old one would.
    handover_time: Option<String> = None, written(times()), or(handover_times(), time(DEFAULT_IDLE_S));
    /// What becomes of packets when all backends are down: they are dropped, or go to the backends as if all were up.
    on_all_down: String = OnAllDown::default().to_string(), words(OnAllDown::WORDS);
    /// How backends are checked: one check or a list of checks, all of which must be good. docs/health.md has the types and their keys.
    check: Option<Value> = None,
        written("`\"tcp\"`, `{ type = \"http\", path = \"/health\" }`, or a list of these"),
        or("`\"tcp\"` where the service is of TCP and has one port, else `\"arp\"`", "tcp");
    /// If fewer backends than this share are up, the checks are not believed: all get traffic.
    min_up: u8 = 0, unit("%"), range(0u8..=100);
    /// What a backend counts as that was not checked yet.
    start: String = Start::default().to_string(), words(Start::WORDS);
    /// The address of a backend that serves only when no other takes new flows (a "sorry server").
    fallback: Option<String> = None, written("an IP address"), or("none", "192.168.0.9");
    /// For how long the weight of a backend that returns rises from 5 % to the whole, in ten steps.
    slow_start: Option<String> = None, written(format!("such as \"60s\", at most \"{}\"", time(MAX_SLOW_START_S))), or("it has its whole share at once", "60s");
    /// What becomes of a backend of TCP whose clients get no answer, as their packets show: nobody looks, it is reported, or it is taken
    /// out for a time, too. docs/health.md has the rules.
    passive: String = Passive::default().to_string(), words(Passive::WORDS);
    /// The backends that serve it.
    backends: Vec<Option<BackendSection>> = vec![], written(format!("at most {MAX_BACKENDS}"));
}

section! {
    /// A backend of a service. Also written as `backends = [{ address = "192.168.0.3" }]` of the service.
    pub(super) struct BackendSection = Section::new("[[services.backends]]").changed_by_shuntctl();

    /// Its IP address, in one of the director's networks.
    address: Option<String> = None, written("an IP address"), required("192.168.0.3");
    /// Its share of new flows in relation to the other backends'; 0: no new flows.
    weight: u32 = DEFAULT_WEIGHT, range(0..=MAX_WEIGHT);
    /// Its MAC address, if that is not to be resolved by ARP or NDP.
    mac: Option<String> = None, written("such as \"52:54:00:12:34:56\""), or("resolved", "52:54:00:12:34:56");
    /// Whether it gets nothing until `shuntctl backend enable`, whatever its checks say.
    disabled: bool = false;
}

/// As in a request that names no weight (tested below).
const DEFAULT_WEIGHT: u32 = 1;

/// Ports, as a number or as text.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a port, or text such as \"80,443\", \"8000-8100\" or \"any\"")]
pub(super) enum PortNumber {
    Number(u64),
    Text(String),
}

typed! { NumberOrText: PortNumber; }

/// A length of time, given in seconds, as the file has it.
fn time(seconds: impl Into<u64>) -> String {
    format_duration(Duration::from_secs(seconds.into())).to_string()
}

/// What a time may be.
fn times() -> String {
    format!("such as \"90s\", \"15m\", at most \"{}\"", time(MAX_IDLE_MS / 1_000))
}

fn handover_times() -> String {
    format!("as `idle_timeout`; for UDP, at most \"{}\"", time(DEFAULT_HANDOVER_UDP_S))
}

fn idle_timeouts() -> String {
    format!("\"{}\"; for UDP, \"{}\"", time(DEFAULT_IDLE_S), time(DEFAULT_IDLE_UDP_S))
}

/// Turns the sections into requests to add services, each with its key.
pub(super) fn check(sections: Vec<Option<ServiceSection>>, source: &mut Source) -> Vec<(String, ServiceAdd)> {
    let sections = sections.into_iter().enumerate();
    sections
        .filter_map(|(index, section)| {
            let key = format!("services[{index}]");
            service(&key, section?, source).map(|service| (key, service))
        })
        .collect()
}

fn service(key: &str, section: ServiceSection, source: &mut Source) -> Option<ServiceAdd> {
    let vip = source.required(key, "vip", section.vip);
    let vip = vip.and_then(|text| source.good(&format!("{key}.vip"), ip_address(&text)));
    let port: Option<Ports> = source.required(key, "port", section.port).and_then(|port| match port {
        PortNumber::Number(number) => source.parsed(key, "port", &number.to_string()),
        PortNumber::Text(text) => source.parsed(key, "port", &text),
    });
    let protocol: Option<Protocol> = source.parsed(key, "protocol", &section.protocol);
    let scheduler: Option<Scheduler> = source.parsed(key, "scheduler", &section.scheduler);
    let hash: Option<FlowHash> = section.hash.and_then(|text| source.parsed(key, "hash", &text));
    let tracking: Option<Tracking> = section.tracking.and_then(|text| source.parsed(key, "tracking", &text));
    let mut time = |name, text: Option<String>| {
        let seconds = ctl::parse_seconds(&text?).map_err(|error| error.to_string());
        source.good(&format!("{key}.{name}"), seconds)
    };
    let idle_timeout_s = time("idle_timeout", section.idle_timeout);
    let handover_time_s = time("handover_time", section.handover_time);
    let slow_start_s = time("slow_start", section.slow_start);
    let on_all_down: Option<OnAllDown> = source.parsed(key, "on_all_down", &section.on_all_down);
    let checks = section.check.map(|value| checks(&format!("{key}.check"), value, source));
    let start: Option<Start> = source.parsed(key, "start", &section.start);
    let fallback = section.fallback.and_then(|text| source.good(&format!("{key}.fallback"), ip_address(&text)));
    let passive: Option<Passive> = source.parsed(key, "passive", &section.passive);
    let backends = section.backends.into_iter().enumerate();
    let backends =
        backends.filter_map(|(index, section)| backend(&format!("{key}.backends[{index}]"), section?, source));
    let backends: Vec<BackendSpec> = backends.collect();
    if backends.iter().all(|backend| backend.weight == 0 || backend.disabled) {
        source.warning(format!(
            "{key}: the service has no backend with a weight above 0 that is not disabled; all its packets will be dropped"
        ));
    }
    Some(ServiceAdd {
        service: ServiceId { vip: vip?, port: port?, protocol: protocol? },
        scheduler: scheduler?,
        hash,
        tracking,
        idle_timeout_s,
        handover_time_s,
        on_all_down: on_all_down.unwrap_or_default(),
        checks,
        min_up: Some(section.min_up).filter(|share| *share > 0),
        start: start.unwrap_or_default(),
        fallback,
        slow_start_s,
        passive: passive.filter(|wish| *wish != Passive::default()),
        backends,
    })
}

/// A check, or a list of checks. One is a table, or text as on the command line.
fn checks(key: &str, value: Value, source: &mut Source) -> Vec<CheckSpec> {
    let mut one = |key: &str, value: Value| {
        let check = match value {
            Value::String(text) => text.parse().map_err(|error: NameError| error.to_string()),
            Value::Object(_) => serde_json::from_value(value).map_err(|error| error.to_string()),
            _ => Err("Not a check: write \"tcp\", { type = \"http\", path = \"/health\" }, or a list of these".into()),
        };
        source.good(key, check)
    };
    match value {
        Value::Array(list) => {
            let list = list.into_iter().enumerate();
            list.filter_map(|(index, value)| one(&format!("{key}[{index}]"), value)).collect()
        }
        value => one(key, value).into_iter().collect(),
    }
}

fn backend(key: &str, section: BackendSection, source: &mut Source) -> Option<BackendSpec> {
    let address = source.required(key, "address", section.address);
    let address = address.and_then(|text| {
        let address = ctl::parse_backend(&text).map_err(|error| error.to_string());
        source.good(&format!("{key}.address"), address)
    });
    let mac: Option<Mac> = section.mac.and_then(|text| source.parsed(key, "mac", &text));
    let (address, port) = address?;
    Some(BackendSpec { address, port, weight: section.weight, mac, disabled: section.disabled })
}

fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not an IP address, such as 192.0.2.1 or 2001:db8::1"))
}

/// The key that a model's error is about. What concerns a service as a whole is said of its VIP.
pub(super) fn key_of(service: &str, error: &ModelError) -> String {
    let field = match error {
        // The file may have one check, and no list.
        ModelError::Check { index: 0, field: "", .. } => "check".into(),
        ModelError::Check { index: 0, field, .. } => format!("check.{field}"),
        ModelError::Check { index, field: "", .. } => format!("check[{index}]"),
        ModelError::Check { index, field, .. } => format!("check[{index}].{field}"),
        ModelError::TooManyChecks(_) | ModelError::TooManyProbes(_) => "check".into(),
        ModelError::MinUp(_) | ModelError::PassiveOf(_) | ModelError::Fallback(_) => error.field(),
        ModelError::SlowStart(_) | ModelError::SlowStartWithout(_) => error.field(),
        ModelError::InList { .. } => error.field(),
        ModelError::PortsOverlap { .. } => "port".into(),
        ModelError::HashOfSh
        | ModelError::HashPrefix { .. }
        | ModelError::HashWithout(_)
        | ModelError::MustTrack(_)
        | ModelError::MustHandOver(_)
        | ModelError::NothingToHandOver
        | ModelError::HandOverTime(_)
        | ModelError::IdleTimeout(_) => error.field(),
        _ => "vip".into(),
    };
    format!("{service}.{field}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_same_in_a_file_and_in_a_request() {
        let backend: BackendSpec = serde_json::from_str("{\"address\": \"192.0.2.1\"}").unwrap();
        assert_eq!(backend.weight, DEFAULT_WEIGHT);
        let service = "{\"service\": {\"vip\": \"192.0.2.9\", \"port\": 80}}";
        let request: ServiceAdd = serde_json::from_str(service).unwrap();
        let file = ServiceSection::default();
        assert_eq!(request.service.protocol.to_string(), file.protocol);
        assert_eq!(request.scheduler.to_string(), file.scheduler);
        assert_eq!(request.on_all_down.to_string(), file.on_all_down);
        assert_eq!((request.hash, request.tracking, request.handover_time_s), (None, None, None));
    }

    #[test]
    fn times_are_shown_as_they_are_written() {
        assert_eq!(time(DEFAULT_IDLE_S), "15m");
    }
}
