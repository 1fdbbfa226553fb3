//! What is wrong: the open faults, and a line a check for each backend.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::answer::{
    self, CheckOutcome, CheckResult, CheckedBackend, CheckedService, Doctor, Fault, NeighborState, Refusal, Subject,
};
use ctl::request::DoctorQuery;
use ctl::verb::{self, Answers};
use ctl::{CheckType, ServiceId};

use crate::api::facts::{Facts, Found};
use crate::control::compile::Compiled;
use crate::control::fault::Check;
use crate::control::faults::OpenFault;
use crate::control::model::{Backend, Duty, Service};
use crate::slow::neighbor::Neighbor;
use crate::slow::watch::LONGEST_ROUND;

/// How long a client waits for a round of all checks: for the one that another has asked for, for its own, and some more.
const ROUND: Duration = LONGEST_ROUND.saturating_mul(2).saturating_add(Duration::from_millis(500));
/// More faults than this are not listed.
const MOST: usize = 10_000;

impl Answers<verb::Doctor> for Facts {
    fn answer(&self, DoctorQuery { service }: DoctorQuery) -> Result<Doctor, Refusal> {
        if let Some(id) = &service {
            self.director.current().model.service(id)?;
        }
        let complete = self.faults.wait(self.faults.ask_round(), ROUND);
        let current = self.director.current();
        let (open, concerned) = (self.faults.list(), Concerned::new(&current));
        let found = found(&open, &concerned);
        let services = current.model.services.values().filter(|listed| service.is_none_or(|id| listed.id == id));
        let neighbors = self.neighbors();
        let services =
            services.map(|listed| checked(listed, &self.found(listed), &current, &neighbors, &found)).collect();
        let faults = listed(open, &concerned, service, MOST);
        Ok(Doctor { faults, services, complete })
    }
}

/// The open faults, the worst first, but at most so many; each for all services that it concerns.
pub(super) fn open(facts: &Facts, current: &Compiled, most: usize) -> Vec<Fault> {
    let open = facts.faults.list();
    if open.is_empty() { Vec::new() } else { listed(open, &Concerned::new(current), None, most) }
}

/// Faults as they are listed, of one service and of none, or of all. A fault may concern a thousand services: no more are made than
/// are listed.
fn listed(mut open: Vec<OpenFault>, concerned: &Concerned, only: Option<ServiceId>, most: usize) -> Vec<Fault> {
    let now = Instant::now();
    open.sort_by_key(|fault| {
        let Subject { service, backend, vip, .. } = fault.subject;
        (Reverse(fault.severity), service, backend, vip)
    });
    let is_wanted = |id: &Option<ServiceId>| only.is_none() || id.is_none() || *id == only;
    let of_services = |fault: &'_ OpenFault| concerned.services(&fault.subject).into_iter().filter(is_wanted);
    open.iter().flat_map(|fault| of_services(fault).map(move |id| entry(fault, id, now))).take(most).collect()
}

/// By service: the checks that have found something, and of which backend.
type FoundBy = HashMap<ServiceId, HashSet<(Option<IpAddr>, Check)>>;

fn found(open: &[OpenFault], concerned: &Concerned) -> FoundBy {
    let mut found = FoundBy::new();
    for fault in open {
        for id in concerned.services(&fault.subject).into_iter().flatten() {
            found.entry(id).or_default().insert((fault.subject.backend, fault.kind.check()));
        }
    }
    found
}

fn entry(fault: &OpenFault, service: Option<ServiceId>, now: Instant) -> Fault {
    let OpenFault { kind, subject, severity, text, fix, since, since_wall, .. } = fault.clone();
    Fault {
        service,
        backend: subject.backend,
        mac: subject.mac,
        fault: kind.name().into(),
        severity,
        since: humantime::format_rfc3339_millis(since_wall).to_string(),
        for_s: now.saturating_duration_since(since).as_secs(),
        text,
        fix,
        check: kind.check().name().into(),
        vip: subject.vip,
        port: subject.port,
    }
}

/// Which services have a VIP or a backend.
struct Concerned {
    of_vip: HashMap<IpAddr, Vec<ServiceId>>,
    of_backend: HashMap<IpAddr, Vec<ServiceId>>,
}

impl Concerned {
    fn new(current: &Compiled) -> Concerned {
        let (mut of_vip, mut of_backend) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for service in current.model.services.values() {
            of_vip.entry(service.id.vip).or_default().push(service.id);
            for backend in &service.backends {
                of_backend.entry(backend.address).or_default().push(service.id);
            }
        }
        Concerned { of_vip, of_backend }
    }

    /// The services that a fault concerns; `None` alone if there are none in particular.
    fn services(&self, subject: &Subject) -> Vec<Option<ServiceId>> {
        let of = |map: &HashMap<IpAddr, Vec<ServiceId>>, address: Option<IpAddr>| {
            address.and_then(|address| map.get(&address).cloned()).unwrap_or_default()
        };
        let found = match subject {
            Subject { service: Some(id), .. } => vec![*id],
            Subject { vip, backend, .. } => {
                let (of_vip, of_backend) = (of(&self.of_vip, *vip), of(&self.of_backend, *backend));
                // In the order of the model, both.
                let is_of_backend = |id: &&ServiceId| of_backend.binary_search(id).is_ok();
                let both: Vec<ServiceId> = of_vip.iter().filter(is_of_backend).copied().collect();
                // A backend of other services may claim a VIP.
                [both, of_vip, of_backend].into_iter().find(|found| !found.is_empty()).unwrap_or_default()
            }
        };
        if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() }
    }
}

fn checked(
    service: &Arc<Service>,
    probed: &Found,
    current: &Compiled,
    neighbors: &BTreeMap<IpAddr, Neighbor>,
    found_by: &FoundBy,
) -> CheckedService {
    let of_service = found_by.get(&service.id);
    let found =
        |check: Check, backend: Option<IpAddr>| of_service.is_some_and(|found| found.contains(&(backend, check)));
    let outcome = |check: Check, backend: Option<IpAddr>, (outcome, text): (CheckOutcome, String)| {
        let (outcome, text) =
            if found(check, backend) { (CheckOutcome::Fault, String::new()) } else { (outcome, text) };
        answer::Check { check: check.name().into(), outcome, text }
    };
    // A VIP that is routed to the director is in no network where others could claim it.
    let asked_in = current.model.network_towards(service.id.vip);
    let is_asked_for = asked_in.is_some();
    let without_link = asked_in.filter(|&network| !current.network(network).link.up);
    let not_asked = without_link.map(|network| {
        unknown(format!("nobody is asked for the VIP: {} has no link", current.model.network(network).name()))
    });
    let of_vip = Check::ALL.into_iter().filter_map(|check| {
        let is_well = (check == Check::Claims && is_asked_for)
            .then(|| not_asked.clone().unwrap_or_else(|| ok("nobody else has the VIP")));
        Some(outcome(check, None, is_well.or_else(|| found(check, None).then(|| ok("")))?))
    });
    type Of<'a> = (&'a Backend, ((&'a Vec<CheckResult>, &'a Option<u64>), &'a Option<Option<u16>>));
    let of_backend = |(backend, ((results, damped), largest)): Of<'_>| {
        let neighbor = neighbors.get(&backend.address);
        let checks = Check::ALL.into_iter().filter_map(|check| {
            let address = Some(backend.address);
            let seen = match check {
                Check::Service => Some(answers(results)),
                Check::Claims if is_asked_for => Some(not_asked.clone().unwrap_or_else(|| ok(claims_nothing(backend)))),
                Check::Certificate => certificate(results),
                Check::Mtu => Some(takes(*largest)),
                check => well(check, backend, neighbor, current),
            };
            Some(outcome(check, address, seen.or_else(|| found(check, address).then(|| ok("")))?))
        });
        CheckedBackend {
            address: backend.address,
            mac: backend.pinned.or(neighbor.and_then(|neighbor| neighbor.mac)),
            port: current.model.network(backend.network).name(),
            checks: checks.collect(),
            notes: notes(backend, *damped),
        }
    };
    let found_of = probed.by_backend.iter().zip(&probed.damped).zip(&probed.largest);
    let backends = service.backends.iter().zip(found_of).map(of_backend).collect();
    CheckedService { service: service.id, checks: of_vip.collect(), backends }
}

/// Which packets a backend takes, if it is asked.
fn takes(largest: Option<Option<u16>>) -> (CheckOutcome, String) {
    match largest {
        Some(Some(size)) => ok(format!("takes packets of {size} bytes")),
        Some(None) => unknown("has not answered a ping of the port's MTU"),
        None => unknown("not asked: it has no check that sends more than ARP or NDP"),
    }
}

fn claims_nothing(backend: &Backend) -> String {
    format!("does not answer {} for the VIP", protocol(backend))
}

/// By what a backend says where it is.
fn protocol(backend: &Backend) -> &'static str {
    if backend.address.is_ipv4() { "ARP" } else { "NDP" }
}

/// What is to be known of a backend, and is no fault.
fn notes(backend: &Backend, damped_left_s: Option<u64>) -> Vec<String> {
    let duty = match backend.duty {
        Duty::Serve => None,
        Duty::Drain { .. } => Some("an operator drains it: it gets no new flows"),
        Duty::Drained => Some("an operator has drained it: it gets nothing"),
        Duty::Disabled => Some("an operator has disabled it: it gets nothing, whatever its checks say"),
    };
    let damped = damped_left_s.map(|left| format!("it went down too often: it is held out for {left} s more"));
    let fallback =
        backend.fallback.then(|| "the fallback: it serves when no other backend takes new flows".to_string());
    fallback.into_iter().chain(duty.map(String::from)).chain(damped).collect()
}

/// What the probes of a backend have found.
fn answers(results: &[CheckResult]) -> (CheckOutcome, String) {
    let said = |result: &CheckResult| format!("{}: {}", result.check.kind, result.words);
    let failed = results.iter().find(|result| result.good == Some(false));
    match failed.or(results.iter().find(|result| result.good.is_none())).or(results.first()) {
        None => unknown("not checked: its service has no check that asks it"),
        Some(result) => match result.good {
            Some(true) => ok(said(result)),
            Some(false) => (CheckOutcome::Fault, said(result)),
            None => unknown(format!("{}: no probe has ended yet", result.check.kind)),
        },
    }
}

/// Until when the certificate is valid that a backend has shown. `None`: it is not asked for one.
fn certificate(results: &[CheckResult]) -> Option<(CheckOutcome, String)> {
    let asked: Vec<&CheckResult> = results.iter().filter(|result| result.check.kind == CheckType::Https).collect();
    // They are of one length and one zone.
    let first = asked.iter().filter_map(|result| result.certificate_until.as_ref()).min();
    match first {
        Some(until) => Some(ok(format!("valid until {until}"))),
        None => asked.first().map(|_| unknown("has not shown one yet")),
    }
}

fn ok(text: impl Into<String>) -> (CheckOutcome, String) {
    (CheckOutcome::Ok, text.into())
}

fn unknown(text: impl Into<String>) -> (CheckOutcome, String) {
    (CheckOutcome::Unknown, text.into())
}

/// What a check has seen that has no fault to tell of. `None`: there is nothing to be said.
fn well(
    check: Check,
    backend: &Backend,
    neighbor: Option<&Neighbor>,
    current: &Compiled,
) -> Option<(CheckOutcome, String)> {
    let protocol = protocol(backend);
    Some(match check {
        Check::Link => {
            let port = current.model.network(backend.network).name();
            match current.network(backend.network).link.up {
                true => ok(format!("{port} has its link")),
                false => (CheckOutcome::Fault, format!("{port} has no link")),
            }
        }
        Check::Neighbor => match neighbor.map(|neighbor| (neighbor.state, neighbor.confirmed)) {
            Some((NeighborState::Permanent, _)) => unknown("not asked: its MAC address is configured"),
            Some((NeighborState::Reachable | NeighborState::Probe, Some(confirmed))) => {
                let ago = confirmed.elapsed().as_secs();
                ok(format!("has answered {protocol}, {ago} s ago"))
            }
            _ => unknown(format!("has not answered {protocol} yet")),
        },
        Check::Mac => match neighbor.map(|neighbor| (neighbor.mac, neighbor.changes)) {
            Some((Some(_), 0)) => ok("its own, and has not changed"),
            Some((Some(_), changes)) => ok(format!("its own; it has changed {changes} times")),
            _ => return None,
        },
        Check::Return => {
            let handshakes = backend.target.handshakes();
            ok(match (handshakes.lost(), handshakes.all()) {
                (_, 0) => "none of its replies come here".into(),
                (lost, all) => {
                    format!("none of its replies come here; {lost} of {all} sampled handshakes got no answer")
                }
            })
        }
        // What there is to say of these is said elsewhere: of the VIP, or by what its checks have found.
        Check::Claims | Check::Vip | Check::Service | Check::Mtu | Check::Certificate => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ctl::answer::{CheckOutcome, CheckResult, Subject};
    use serde_json::{Value, json};

    use crate::api::Facts;
    use crate::api::answer::tests::{ask, example};
    use crate::base::ids::PortNo;
    use crate::control::fault::{FaultKind, Sighting};
    use crate::state::networks::PortLink;
    use crate::testing::model::PORT;

    const BACKEND: &str = "192.168.0.4";
    const VIP: &str = "192.168.0.101";

    fn open(facts: &Facts, kind: FaultKind, backend: Option<&str>, vip: Option<&str>) {
        let address = |text: &str| text.parse().unwrap();
        let subject = Subject { backend: backend.map(address), vip: vip.map(address), ..Subject::default() };
        facts.faults.open(Sighting::new(kind, subject, "It limps", "walk"), Instant::now());
    }

    fn doctor(facts: &Facts, arguments: Value) -> Value {
        ask(facts, "doctor", arguments)["ok"]["doctor"].clone()
    }

    #[test]
    fn without_a_fault_each_check_says_what_it_has_seen() {
        let facts = example();
        facts.neighbors.lock().unwrap().sync(&facts.director.current(), Instant::now());
        let doctor = doctor(&facts, Value::Null);
        assert_eq!(doctor["faults"], json!([]));
        let service = &doctor["services"][0];
        let claims = json!({ "check": "claims", "outcome": "ok", "text": "nobody else has the VIP" });
        assert_eq!((&service["service"]["vip"], &service["checks"]), (&json!(VIP), &json!([claims])));
        let backend = &service["backends"][1];
        assert_eq!((&backend["address"], &backend["port"]), (&json!(BACKEND), &json!("lan0")));
        let link = json!({ "check": "link", "outcome": "ok", "text": "lan0 has its link" });
        let neighbor = json!({ "check": "neighbor", "outcome": "unknown", "text": "has not answered ARP yet" });
        assert_eq!((&backend["checks"][0], &backend["checks"][1]), (&link, &neighbor));
        let of_service =
            backend["checks"].as_array().unwrap().iter().find(|check| check["check"] == "service").unwrap();
        assert_eq!(of_service["outcome"], "unknown");
    }

    #[test]
    fn faults_are_listed_for_the_services_that_they_concern_the_worst_first() {
        let facts = example();
        open(&facts, FaultKind::SharedMac, Some(BACKEND), None);
        open(&facts, FaultKind::ArpFlux, Some(BACKEND), Some(VIP));
        open(&facts, FaultKind::VipConflict, None, Some(VIP));
        open(&facts, FaultKind::VipConflict, None, Some("192.168.0.2"));
        let doctor = doctor(&facts, json!({ "service": { "vip": VIP, "port": 80 } }));
        let faults = doctor["faults"].as_array().unwrap();
        let said: Vec<[&Value; 3]> =
            faults.iter().map(|fault| [&fault["fault"], &fault["service"]["vip"], &fault["backend"]]).collect();
        let null = Value::Null;
        let [vip, backend] = [json!(VIP), json!(BACKEND)];
        let names = ["vip-conflict", "arp-flux", "shared-mac"].map(|name| json!(name));
        let [conflict, flux, shared] = &names;
        assert_eq!(
            said,
            [[conflict, &null, &null], [conflict, &vip, &null], [flux, &vip, &backend], [shared, &vip, &backend]]
        );
        for key in ["service", "backend", "mac", "fault", "severity", "since", "text", "fix"] {
            assert!(faults[0].get(key).is_some(), "{key}");
        }
        let outcomes = |checks: &Value| -> Vec<Value> {
            let checks = checks.as_array().unwrap().iter();
            checks.filter(|check| check["outcome"] == "fault").map(|check| check["check"].clone()).collect()
        };
        assert_eq!(outcomes(&doctor["services"][0]["checks"]), ["claims"]);
        assert_eq!(outcomes(&doctor["services"][0]["backends"][1]["checks"]), ["mac", "claims"]);
        assert!(outcomes(&doctor["services"][0]["backends"][0]["checks"]).is_empty(), "the other backend is well");
    }

    #[test]
    fn another_services_faults_are_not_listed_and_an_unknown_service_is_refused() {
        let facts = example();
        let elsewhere = Subject { service: "192.168.0.9:80".parse().ok(), ..Subject::default() };
        facts.faults.open(Sighting::new(FaultKind::Hung, elsewhere, "It hangs", "walk"), Instant::now());
        assert_eq!(doctor(&facts, json!({ "service": { "vip": VIP, "port": 80 } }))["faults"], json!([]));
        assert_eq!(doctor(&facts, Value::Null)["faults"][0]["fault"], "hung");
        let refused = ask(&facts, "doctor", json!({ "service": { "vip": "192.168.0.9", "port": 80 } }));
        assert!(refused["error"]["message"].as_str().unwrap().contains("192.168.0.9:80"), "{refused}");
    }

    #[test]
    fn no_more_faults_are_listed_than_are_asked_for_and_the_checks_show_all() {
        let facts = example();
        for kind in [FaultKind::SharedMac, FaultKind::Hung, FaultKind::Mtu] {
            open(&facts, kind, Some(BACKEND), None);
        }
        let named = |most| -> Vec<String> {
            let faults = super::open(&facts, &facts.director.current(), most);
            faults.into_iter().map(|fault| fault.fault).collect()
        };
        assert_eq!(named(1), ["hung"], "the worst");
        assert_eq!(named(2).len(), 2);
        assert_eq!(named(100).len(), 3);
        let doctor = doctor(&facts, Value::Null);
        let checks = doctor["services"][0]["backends"][1]["checks"].as_array().unwrap();
        let found: Vec<&Value> =
            checks.iter().filter(|check| check["outcome"] == "fault").map(|check| &check["check"]).collect();
        assert_eq!(found, ["mac", "service", "mtu"]);
    }

    #[test]
    fn where_a_port_has_no_link_nobody_was_asked_who_has_the_vip() {
        let facts = example();
        facts.director.set_port(PortNo::new(0), PortLink { up: false, ..PORT });
        let doctor = doctor(&facts, Value::Null);
        let service = &doctor["services"][0];
        let claims =
            json!({ "check": "claims", "outcome": "unknown", "text": "nobody is asked for the VIP: lan0 has no link" });
        assert_eq!(service["checks"], json!([claims]));
        let of_backend = service["backends"][1]["checks"].as_array().unwrap();
        assert_eq!(of_backend.iter().find(|check| check["check"] == "claims"), Some(&claims));
    }

    #[test]
    fn of_a_backend_that_is_not_pinged_no_silence_is_told() {
        let said = |largest| super::takes(largest).1;
        assert_eq!(said(Some(Some(1_500))), "takes packets of 1500 bytes");
        assert_eq!(said(Some(None)), "has not answered a ping of the port's MTU");
        assert_eq!(said(None), "not asked: it has no check that sends more than ARP or NDP");
        // Nobody has told this engine of a model.
        let mtu = |facts: &Facts| {
            let doctor = doctor(facts, Value::Null);
            let checks = doctor["services"][0]["backends"][1]["checks"].as_array().unwrap().clone();
            checks.into_iter().find(|check| check["check"] == "mtu").unwrap()["text"].clone()
        };
        let facts = example();
        assert_eq!(mtu(&facts), said(None));
        facts.health.lock().unwrap().sync(&facts.director.current(), Instant::now());
        assert_eq!(mtu(&facts), said(Some(None)));
    }

    #[test]
    fn the_certificate_that_ends_first_is_told_of() {
        let result = |check: &str, until: Option<&str>| CheckResult {
            check: check.parse().unwrap(),
            up: None,
            good: None,
            words: String::new(),
            age_s: None,
            certificate_until: until.map(String::from),
            took_ms: None,
            passed: 0,
            failed: 0,
            void: 0,
        };
        let (early, late) = ("2031-01-01T00:00:00Z", "2032-01-01T00:00:00Z");
        assert_eq!(super::certificate(&[result("tcp", None)]), None, "it is not asked for one");
        let said = |results: &[CheckResult]| super::certificate(results).unwrap();
        assert_eq!(said(&[result("https", None)]), (CheckOutcome::Unknown, "has not shown one yet".into()));
        let both = [result("tcp", None), result("https", Some(late)), result("https host=a.example", Some(early))];
        assert_eq!(said(&both), (CheckOutcome::Ok, format!("valid until {early}")));
        assert_eq!(said(&[result("https", None), result("https", Some(late))]).0, CheckOutcome::Ok);
    }
}
