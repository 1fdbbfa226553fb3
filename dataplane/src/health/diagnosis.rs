//! The diagnosis: what is wrong with a backend whose check fails, told apart by what else it answers.
//!
//! A failed check of the VIP says that the service does not answer there. Three more questions say why: does the VIP answer a
//! ping at this backend, does the backend's own address, and does the service on the own address?

use std::net::IpAddr;
use std::time::Duration;

use ctl::answer::{Severity, Subject};
use ctl::{CheckTo, ServiceId};

use crate::control::fault::{FaultKind, Sighting};
use crate::control::model::health::{Ask, Check};
use crate::health::finding::{Failure, Trouble};
use crate::health::tls::certificate::Complaint;

/// How long the answer to such a question may take. All are known well before the next probe fails.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// What hosts set the hop limit to: Linux and BSD, Windows, some appliances.
const HOP_LIMITS: [u8; 3] = [64, 128, 255];
/// A host is not behind more routers than this that answer ARP for it.
const MOST_ROUTERS: u8 = 4;

/// A question of the diagnosis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// A ping to the VIP.
    VipPing,
    /// A ping to the backend's own address.
    OwnPing,
    /// A connection to the service's port at the own address.
    OwnPort,
}

impl Question {
    pub(super) const ALL: [Question; 3] = [Question::VipPing, Question::OwnPing, Question::OwnPort];

    /// What is asked, of a backend whose check fails.
    pub(super) fn ask(self, check: &Check) -> Ask {
        match (self, &check.ask) {
            (Question::VipPing | Question::OwnPing, _) => Ask::Icmp,
            (Question::OwnPort, Ask::Http(_) | Ask::Https(_)) => Ask::Tcp,
            (Question::OwnPort, ask) => ask.clone(),
        }
    }

    pub(super) fn to(self) -> CheckTo {
        if self == Question::VipPing { CheckTo::Vip } else { CheckTo::Backend }
    }
}

/// What has been answered. `None`: not known yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answers {
    answered: [Option<bool>; Question::ALL.len()],
    /// Whether the own address's ping was answered from behind a router.
    routed: bool,
}

impl Answers {
    pub(super) fn set(&mut self, question: Question, answered: bool) {
        self.answered[question as usize] = Some(answered);
    }

    fn of(self, question: Question) -> Option<bool> {
        self.answered[question as usize]
    }

    /// Whether all are known.
    pub(super) fn are_complete(self) -> bool {
        self.answered.iter().all(Option::is_some)
    }

    /// Takes note of the hop limit that the own address's answer to a ping has left. A router takes one, and hosts begin with
    /// one of a few numbers.
    pub(super) fn take_hop_limit(&mut self, left: u8) {
        let begun = HOP_LIMITS.into_iter().find(|begun| *begun >= left).unwrap_or(left);
        self.routed = (1..=MOST_ROUTERS).contains(&(begun - left));
    }
}

/// Whether more must be asked to say what is wrong.
pub(super) fn is_asked(check: &Check, failure: &Failure) -> bool {
    check.to == CheckTo::Vip && matches!(failure.trouble, Trouble::Silent | Trouble::Closed | Trouble::Unreachable)
}

/// What is wrong. `None`: the backend as a whole is silent, as the neighbor engine will say.
pub(super) fn fault(
    service: &ServiceId,
    backend: IpAddr,
    check: &Check,
    failure: &Failure,
    answers: Answers,
) -> Option<Sighting> {
    let (vip, port, words) = (service.vip, check.port, &failure.words);
    let answered = |question| answers.of(question) == Some(true);
    let kind_of_check = check.spec.kind;
    let (kind, text, fix) = match failure.trouble {
        Trouble::Closed if is_asked(check, failure) && answered(Question::OwnPort) => (
            FaultKind::NotOnVip,
            format!("does not serve {vip} port {port} ({words}), while its own address answers on that port"),
            format!("have the service listen on {vip} or on all addresses there; `ss -ltnu` says where it does"),
        ),
        Trouble::Closed => (
            FaultKind::ServiceClosed,
            format!("does not listen on {} port {port} ({words})", asked(service, backend, check)),
            "start the service there; `ss -ltnu` says what listens".into(),
        ),
        Trouble::Silent | Trouble::Unreachable
            if check.to == CheckTo::Vip && answers.routed && answered(Question::OwnPing) =>
        {
            (
                FaultKind::OffLink,
                format!(
                    "does not take packets for {vip} ({words}), and its own address answers from behind a router: it is not on the \
                     director's segment"
                ),
                "put it on the director's segment, or give the director a port on its segment; the host with that MAC address \
                 answers ARP (NDP) for it: `sysctl -w net.ipv4.conf.all.proxy_arp=0` there"
                    .into(),
            )
        }
        Trouble::Silent if check.to == CheckTo::Vip && answered(Question::VipPing) => (
            FaultKind::Hung,
            format!("answers a ping to {vip}, and nothing on port {port} ({words})"),
            "is a firewall in the way there, or the service's queue of connections full? Restart the service there"
                .into(),
        ),
        Trouble::Silent if check.to == CheckTo::Vip && answered(Question::OwnPing) => (
            FaultKind::VipMissing,
            format!("does not take packets for {vip} ({words}), while its own address answers"),
            format!("run `scripts/real-server start {vip}` there"),
        ),
        Trouble::Silent if check.to == CheckTo::Vip => return None,
        Trouble::Silent => (
            FaultKind::ServiceClosed,
            format!("does not answer the check at {} ({words})", asked(service, backend, check)),
            "is a firewall in the way there?".into(),
        ),
        Trouble::Unreachable => (
            FaultKind::VipMissing,
            format!("does not take packets for {} ({words})", asked(service, backend, check)),
            format!("run `scripts/real-server start {vip}` there"),
        ),
        Trouble::Hung => (
            FaultKind::Hung,
            format!(
                "takes connections to {} port {port} and does not answer ({words})",
                asked(service, backend, check)
            ),
            "restart the service there".into(),
        ),
        Trouble::Slow | Trouble::Wrong if matches!(check.ask, Ask::Script(_)) => (
            FaultKind::WrongAnswer,
            format!("fails check {kind_of_check}: {words}"),
            format!("run the command of the check by hand: {}", check.spec.command.as_deref().unwrap_or_default()),
        ),
        Trouble::Slow => (
            FaultKind::Slow,
            format!("answers too late ({words})"),
            "is the host overloaded? If it is as fast as it can be, raise the check's timeout".into(),
        ),
        // It is told when the certificate is shown.
        Trouble::Certificate => return None,
        Trouble::Wrong => (
            FaultKind::WrongAnswer,
            format!("answers check {kind_of_check} with {words}"),
            "look at the service's log there".into(),
        ),
    };
    let text = format!("Backend {backend} of {service} {text}");
    Some(Sighting::new(kind, subject(service, backend), text, fix))
}

/// What is wrong with a backend's certificate. It is an error where it fails the check.
pub(super) fn certificate(service: &ServiceId, backend: IpAddr, check: &Check, complaint: Complaint) -> Sighting {
    let Complaint { words, fix, error } = complaint;
    let asked = asked(service, backend, check);
    let text = format!("Backend {backend} of {service}, asked at {asked} port {}: its {words}", check.port);
    let severity = if error.is_some() { Severity::Error } else { FaultKind::Certificate.severity() };
    Sighting { severity, ..Sighting::new(FaultKind::Certificate, subject(service, backend), text, fix) }
}

/// What a fault of a check is about.
pub(super) fn subject(service: &ServiceId, backend: IpAddr) -> Subject {
    Subject { service: Some(*service), backend: Some(backend), ..Subject::default() }
}

fn asked(service: &ServiceId, backend: IpAddr, check: &Check) -> IpAddr {
    match check.to {
        CheckTo::Vip => service.vip,
        CheckTo::Backend => backend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::health::checked;

    #[test]
    fn a_backend_behind_a_router_is_told_from_one_without_the_vip() {
        for (vip, backend) in [("192.0.2.1:80", "192.0.2.9"), ("[2001:db8::1]:80", "2001:db8::9")] {
            let (service, backend) = (vip.parse().unwrap(), backend.parse().unwrap());
            let check = checked(&"tcp".parse().unwrap(), &service).unwrap();
            for (left, expected) in [
                (64, FaultKind::VipMissing),
                (128, FaultKind::VipMissing),
                (255, FaultKind::VipMissing),
                (40, FaultKind::VipMissing),
                (1, FaultKind::VipMissing),
                (63, FaultKind::OffLink),
                (127, FaultKind::OffLink),
                (254, FaultKind::OffLink),
                (62, FaultKind::OffLink),
            ] {
                for trouble in [Trouble::Silent, Trouble::Unreachable] {
                    let mut answers = Answers::default();
                    answers.take_hop_limit(left);
                    answers.set(Question::OwnPing, true);
                    let sighting = fault(&service, backend, &check, &Failure::new(trouble, "in words"), answers);
                    assert_eq!(sighting.unwrap().kind, expected, "{left}");
                }
                let mut closed = Answers::default();
                closed.take_hop_limit(left);
                closed.set(Question::OwnPing, true);
                let sighting = fault(&service, backend, &check, &Failure::new(Trouble::Closed, "no"), closed);
                assert_eq!(sighting.unwrap().kind, FaultKind::ServiceClosed);
            }
        }
    }

    #[test]
    fn what_else_answers_tells_the_faults_apart() {
        let service: ServiceId = "192.0.2.1:80".parse().unwrap();
        let (yes, no) = (true, false);
        for (check, trouble, [vip_ping, own_ping, own_port], expected) in [
            ("tcp", Trouble::Closed, [yes, yes, no], Some(FaultKind::ServiceClosed)),
            ("tcp", Trouble::Closed, [yes, yes, yes], Some(FaultKind::NotOnVip)),
            ("tcp", Trouble::Silent, [no, yes, no], Some(FaultKind::VipMissing)),
            ("tcp", Trouble::Silent, [no, no, no], None),
            ("tcp", Trouble::Silent, [yes, yes, no], Some(FaultKind::Hung)),
            ("tcp", Trouble::Silent, [no, yes, yes], Some(FaultKind::VipMissing)),
            ("tcp", Trouble::Unreachable, [no, yes, no], Some(FaultKind::VipMissing)),
            ("tcp to=backend", Trouble::Closed, [no, no, no], Some(FaultKind::ServiceClosed)),
            ("tcp to=backend", Trouble::Silent, [no, no, no], Some(FaultKind::ServiceClosed)),
            ("http", Trouble::Hung, [no, no, no], Some(FaultKind::Hung)),
            ("http", Trouble::Slow, [no, no, no], Some(FaultKind::Slow)),
            ("http", Trouble::Wrong, [no, no, no], Some(FaultKind::WrongAnswer)),
            ("script command=/bin/x", Trouble::Wrong, [no, no, no], Some(FaultKind::WrongAnswer)),
            ("script command=/bin/x", Trouble::Slow, [no, no, no], Some(FaultKind::WrongAnswer)),
        ] {
            let check = checked(&check.parse().unwrap(), &service).unwrap();
            let mut answers = Answers::default();
            for (question, answered) in Question::ALL.into_iter().zip([vip_ping, own_ping, own_port]) {
                assert!(!answers.are_complete());
                answers.set(question, answered);
            }
            assert!(answers.are_complete());
            let failure = Failure::new(trouble, "in words");
            let sighting = fault(&service, "192.0.2.9".parse().unwrap(), &check, &failure, answers);
            assert_eq!(sighting.as_ref().map(|sighting| sighting.kind), expected, "{check:?} {trouble:?}");
            let names_it =
                |sighting: &Sighting| sighting.text.contains("Backend 192.0.2.9") && sighting.text.contains("in words");
            assert!(sighting.iter().all(names_it), "{sighting:?}");
        }
    }
}
