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
        Question::judged::<verb::Doctor, _>(query, listing, |doctor| &doctor.faults, verdict)
    }
}

fn verdict(doctor: &Doctor) -> Exit {
    if doctor.faults.is_empty() { Exit::Done } else { Exit::Refused }
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
    if !doctor.complete {
        line(&mut text, format_args!("shuntd has not made all checks in time: this is what it knew before."));
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
    }
}
