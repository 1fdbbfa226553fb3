//! `shuntctl doctor`.

use std::net::IpAddr;

use ctl::ServiceId;
use ctl::answer::{Check, CheckOutcome, CheckedBackend, CheckedService, Doctor, Fault, Severity};
use ctl::request::DoctorQuery;
use ctl::verb;

use crate::exit_code::Exit;
use crate::question::Question;
use crate::table::{duration, line};
use crate::value::SERVICE;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One service alone, and what concerns all.
    #[arg(value_name = SERVICE)]
    service: Option<ServiceId>,
}

impl Args {
    pub(super) fn question(self) -> Question {
        let query = DoctorQuery { service: self.service };
        Question::judged::<verb::Doctor, _>(
            query,
            listing,
            |doctor| &doctor.faults,
            |doctor, json| (verdict(doctor), asides(doctor, json)),
        )
    }
}

/// What was not checked is not known to be well.
fn verdict(doctor: &Doctor) -> Exit {
    match (doctor.faults.is_empty() && unnamed(doctor).next().is_none(), doctor.complete) {
        (false, _) => Exit::Refused,
        (true, true) => Exit::Done,
        (true, false) => Exit::Unusable,
    }
}

/// Checks that have found something for which no fault is open, and of which backend.
fn unnamed(doctor: &Doctor) -> impl Iterator<Item = (ServiceId, Option<IpAddr>, &Check)> {
    let all = doctor.services.iter().flat_map(|CheckedService { service, checks, backends }| {
        let theirs = backends.iter().flat_map(|CheckedBackend { address, checks, .. }| {
            checks.iter().map(|check| (*service, Some(*address), check))
        });
        checks.iter().map(|check| (*service, None, check)).chain(theirs)
    });
    all.filter(|(_, _, check)| check.outcome == CheckOutcome::Fault && !check.text.is_empty())
}

/// What is to be said besides the answer. With JSON, also what the list of faults does not say.
fn asides(doctor: &Doctor, json: bool) -> Vec<String> {
    let mut asides: Vec<String> = Vec::new();
    if !doctor.complete {
        asides.push("shuntd has not made all checks in time: this is what it knew before".into());
    }
    if json && doctor.faults.is_empty() {
        asides.extend(unnamed(doctor).map(|(service, backend, check)| {
            let backend = backend.map(|backend| format!(" {backend}")).unwrap_or_default();
            format!("{service}{backend}: {}: {}", check.check, check.text)
        }));
    }
    asides
}

/// The width of the names of checks, and of what came of them.
const CHECK: usize = 10;
const OUTCOME: usize = 5;

fn listing(doctor: &Doctor) -> String {
    let mut text = String::new();
    let general: Vec<&Fault> =
        doctor.faults.iter().filter(|fault| fault.service.is_none() && fault.backend.is_none()).collect();
    if !general.is_empty() {
        line(&mut text, format_args!("The director"));
        general.iter().for_each(|fault| tell(&mut text, "  ", fault));
        line(&mut text, format_args!(""));
    }
    for CheckedService { service, checks, backends } in &doctor.services {
        line(&mut text, format_args!("{service}"));
        tell_checks(&mut text, "  ", checks, &faults_of(doctor, service, None));
        for CheckedBackend { address, mac, port, checks, notes } in backends {
            let mac = mac.map_or("MAC address unknown".into(), |mac| mac.to_string());
            line(&mut text, format_args!("  {address}  {mac} on {port}"));
            notes.iter().for_each(|said| {
                line(&mut text, format_args!("    {:<CHECK$}  {:<OUTCOME$}  {said}", "state", "NOTE"))
            });
            tell_checks(&mut text, "    ", checks, &faults_of(doctor, service, Some(*address)));
        }
        line(&mut text, format_args!(""));
    }
    line(&mut text, format_args!("{}", summary(doctor)));
    text
}

fn faults_of<'d>(doctor: &'d Doctor, service: &ServiceId, backend: Option<IpAddr>) -> Vec<&'d Fault> {
    doctor.faults.iter().filter(|fault| fault.service == Some(*service) && fault.backend == backend).collect()
}

/// A line a check; in the place of a check that has found something, its faults.
fn tell_checks(text: &mut String, indent: &str, checks: &[Check], faults: &[&Fault]) {
    for Check { check, outcome, text: said } in checks {
        let outcome = match outcome {
            CheckOutcome::Ok => "ok",
            CheckOutcome::Unknown => "-",
            // It concerns others, too, and is told with these.
            CheckOutcome::Fault if !said.is_empty() => "ERROR",
            CheckOutcome::Fault => {
                faults.iter().filter(|fault| fault.check == *check).for_each(|fault| tell(text, indent, fault));
                continue;
            }
        };
        line(text, format_args!("{indent}{check:<CHECK$}  {outcome:<OUTCOME$}  {said}"));
    }
}

fn tell(text: &mut String, indent: &str, Fault { check, severity, fault, for_s, text: said, fix, .. }: &Fault) {
    let severity = match severity {
        Severity::Info => "NOTE",
        Severity::Warn => "WARN",
        Severity::Error => "ERROR",
    };
    line(
        text,
        format_args!("{indent}{check:<CHECK$}  {severity:<OUTCOME$}  {fault}, for {}: {said}", duration(*for_s)),
    );
    let width = CHECK + 2 + OUTCOME + 2;
    line(text, format_args!("{indent}{:width$}fix: {fix}", ""));
}

fn summary(doctor: &Doctor) -> String {
    let count = |severity: Severity| doctor.faults.iter().filter(|fault| fault.severity == severity).count();
    let backends: usize = doctor.services.iter().map(|service| service.backends.len()).sum();
    let looked_at = format!("{}, {}", number(doctor.services.len(), "service"), number(backends, "backend"));
    match (count(Severity::Error), doctor.faults.len()) {
        (_, 0) if verdict(doctor) == Exit::Refused => {
            format!("{looked_at}: {}, why is not known", number(unnamed(doctor).count(), "failed check"))
        }
        (_, 0) if !doctor.complete => format!("{looked_at}: not all checks were made"),
        (_, 0) => format!("{looked_at}: nothing is wrong"),
        (errors, all) => format!("{looked_at}: {}, {}", number(errors, "error"), number(all - errors, "warning")),
    }
}

fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[
            ("doctor", r#""doctor","arguments":{}"#),
            (
                "doctor [fd00::101]:53/udp",
                r#""doctor","arguments":{"service":{"vip":"fd00::101","port":53,"protocol":"udp"}}"#,
            ),
        ]);
    }

    #[test]
    fn a_line_a_check_and_below_a_fault_its_fix() {
        let service: ServiceId = "192.0.2.1:80".parse().unwrap();
        let check = |check: &str, outcome, text: &str| Check { check: check.into(), outcome, text: text.into() };
        let fault = Fault {
            service: Some(service),
            backend: "192.0.2.9".parse().ok(),
            mac: None,
            fault: "neighbor-silent".into(),
            severity: Severity::Error,
            since: "2026-01-31T12:00:00.000Z".into(),
            for_s: 75,
            text: "Backend 192.0.2.9 does not answer ARP".into(),
            fix: "ip link set INTERFACE up".into(),
            check: "neighbor".into(),
            vip: None,
            port: None,
        };
        let checks = vec![
            check("link", CheckOutcome::Ok, "lan0 is up"),
            check("neighbor", CheckOutcome::Fault, ""),
            check("service", CheckOutcome::Unknown, "not checked"),
        ];
        let (address, notes) = ("192.0.2.9".parse().unwrap(), vec!["an operator drains it".into()]);
        let backend = CheckedBackend { address, mac: None, port: "lan0".into(), checks, notes };
        let checked = CheckedService {
            service,
            checks: vec![check("claims", CheckOutcome::Ok, "nobody else has the VIP")],
            backends: vec![backend],
        };
        let doctor = Doctor { faults: vec![fault], services: vec![checked], complete: true };
        let expected = "\
192.0.2.1:80/tcp
  claims      ok     nobody else has the VIP
  192.0.2.9  MAC address unknown on lan0
    state       NOTE   an operator drains it
    link        ok     lan0 is up
    neighbor    ERROR  neighbor-silent, for 1m 15s: Backend 192.0.2.9 does not answer ARP
                       fix: ip link set INTERFACE up
    service     -      not checked

1 service, 1 backend: 1 error, 0 warnings
";
        assert_eq!(listing(&doctor), expected);
        assert_eq!(verdict(&doctor), Exit::Refused);
        let well = Doctor { faults: vec![], services: vec![], complete: true };
        assert_eq!((verdict(&well), listing(&well).trim()), (Exit::Done, "0 services, 0 backends: nothing is wrong"));
        assert!(asides(&well, true).is_empty());
    }

    #[test]
    fn what_was_not_checked_and_what_has_failed_without_a_name_is_not_well() {
        for (service, address) in [("192.0.2.1:80", "192.0.2.9"), ("[2001:db8::1]:80", "2001:db8::9")] {
            let check =
                Check { check: "service".into(), outcome: CheckOutcome::Fault, text: "tcp: no answer in 1s".into() };
            let backend = CheckedBackend {
                address: address.parse().unwrap(),
                mac: None,
                port: "lan0".into(),
                checks: vec![check],
                notes: vec![],
            };
            let checked = CheckedService { service: service.parse().unwrap(), checks: vec![], backends: vec![backend] };
            let mut doctor = Doctor { faults: vec![], services: vec![checked], complete: true };
            assert_eq!(verdict(&doctor), Exit::Refused);
            assert!(listing(&doctor).ends_with("1 service, 1 backend: 1 failed check, why is not known\n"));
            assert_eq!(asides(&doctor, true), [format!("{service}/tcp {address}: service: tcp: no answer in 1s")]);
            assert!(asides(&doctor, false).is_empty(), "the text has it");
            (doctor.complete, doctor.services[0].backends[0].checks) = (false, vec![]);
            assert_eq!(verdict(&doctor), Exit::Unusable);
            assert!(listing(&doctor).ends_with("1 service, 1 backend: not all checks were made\n"));
            for json in [true, false] {
                assert!(asides(&doctor, json)[0].starts_with("shuntd has not made all checks in time"));
            }
        }
    }
}
