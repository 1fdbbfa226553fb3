//! The diagnosis: what is wrong with a backend whose check fails, told apart by what else it answers.
//!
//! A failed check of the VIP says that the service does not answer there. Three more questions say why: does the VIP answer a
//! ping at this backend, does the backend's own address, and does the service on the own address?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::answer::{Severity, Subject};
use ctl::{CheckTo, ServiceId};
use regex::bytes::Regex;

use crate::control::fault::{FaultKind, Sighting};
use crate::control::model::health::{Ask, Check, Datagram};
use crate::health::finding::{Failure, Finding, Trouble};
use crate::health::tls::certificate::Complaint;

/// How long the answer to such a question may take. The next probe may fail meanwhile, where the interval is short: a check has one
/// diagnosis at a time.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);
/// While a check goes on failing, it is asked anew after this time, so that a fault whose reason changes has its new name within 3 s.
const AGAIN: Duration = Duration::from_millis(1_900);
/// The checks that are diagnosed in a second, at most. Whoever comes too late is asked about when its next probe fails.
pub(super) const MOST_PER_S: u32 = 1_000;

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
            // Here, silence is no answer, also where the check takes it for a good one.
            (Question::OwnPort, Ask::Udp(check)) if check.answer.is_none() => {
                Ask::Udp(Arc::new(Datagram { answer: Regex::new("").ok(), ..(**check).clone() }))
            }
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
    /// Whether the own address has refused what went to the service's port: then it is there.
    refused: bool,
    /// The trouble that these are about, and when it was asked.
    about: Option<(Trouble, Instant)>,
    /// The questions under way.
    under_way: usize,
    /// Whether these are about something that is over: their answers count for nothing.
    outdated: bool,
    /// Whether an operator wants to know how it is now.
    wanted: bool,
}

impl Answers {
    /// Whether it is to be asked about this trouble, which so many probes in a row have had by now.
    pub(super) fn are_due(self, trouble: Trouble, times: u32, check: &Check, now: Instant) -> bool {
        let asked = self.about.filter(|(about, _)| *about == trouble && self.are_complete());
        let is_known = asked.is_some_and(|(_, at)| now < at + AGAIN) && !self.wanted && times != check.fall;
        self.under_way == 0 && !is_known
    }

    /// The questions about this trouble are asked now.
    pub(super) fn begin(&mut self, trouble: Trouble, now: Instant) {
        *self = Answers { about: Some((trouble, now)), ..Answers::default() };
    }

    /// One of them is under way.
    pub(super) fn await_one(&mut self) {
        self.under_way += 1;
    }

    /// Takes what has become of a question.
    pub(super) fn take(&mut self, question: Question, finding: &Finding) {
        self.under_way = self.under_way.saturating_sub(1);
        if self.outdated {
            self.outdated = self.under_way > 0;
            return;
        }
        let refused = finding.as_ref().is_err_and(|failure| failure.trouble == Trouble::Closed);
        self.refused |= refused && question == Question::OwnPort;
        self.set(question, finding.is_ok());
    }

    fn set(&mut self, question: Question, answered: bool) {
        self.answered[question as usize] = Some(answered);
    }

    /// Forgets all, since the trouble is over. What is under way is awaited, and counts for nothing.
    pub(super) fn forget(&mut self) {
        let under_way = self.under_way;
        *self = Answers { under_way, outdated: under_way > 0, ..Answers::default() };
    }

    /// Has the next failure be asked about, since an operator wants to know how it is now.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// When it was asked about this trouble, if all is known of it.
    pub(super) fn known_of(self, trouble: Trouble) -> Option<Instant> {
        self.about.filter(|(about, _)| *about == trouble && self.are_complete()).map(|(_, at)| at)
    }

    fn of(self, question: Question) -> Option<bool> {
        self.answered[question as usize]
    }

    /// Whether the backend's own address has answered, be it by a refusal.
    fn own_address(self) -> bool {
        self.of(Question::OwnPing) == Some(true) || self.of(Question::OwnPort) == Some(true) || self.refused
    }

    /// Whether all are known.
    fn are_complete(self) -> bool {
        self.answered.iter().all(Option::is_some)
    }

    /// Takes note of the hop limit that the own address's answer to a ping has left. A router takes one, and hosts begin with
    /// one of a few numbers.
    pub(super) fn take_hop_limit(&mut self, left: u8) {
        if self.outdated {
            return;
        }
        let begun = HOP_LIMITS.into_iter().find(|begun| *begun >= left).unwrap_or(left);
        self.routed = (1..=MOST_ROUTERS).contains(&(begun - left));
    }
}

/// Whether more must be asked to say what is wrong.
pub(super) fn is_asked(check: &Check, failure: &Failure) -> bool {
    check.to == CheckTo::Vip && matches!(failure.trouble, Trouble::Silent | Trouble::Closed | Trouble::Unreachable)
}

/// Whether nothing at all has answered: neither the VIP nor the backend's own address. If it does not answer ARP or NDP, either, that is
/// `neighbor-silent`, as the neighbor engine will say.
pub(super) fn is_mute(check: &Check, failure: &Failure, answers: Answers) -> bool {
    let silent = failure.trouble == Trouble::Silent && check.to == CheckTo::Vip;
    silent && answers.of(Question::VipPing) != Some(true) && !answers.own_address()
}

/// What is wrong. `pinned`: the operator has given the backend's MAC address, so nobody asks for it.
pub(super) fn fault(
    service: &ServiceId,
    backend: IpAddr,
    check: &Check,
    failure: &Failure,
    answers: Answers,
    pinned: bool,
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
        Trouble::Silent if check.to == CheckTo::Vip && answers.own_address() => (
            FaultKind::VipMissing,
            format!("does not take packets for {vip} ({words}), while its own address answers"),
            format!("run `scripts/real-server start {vip}` there"),
        ),
        Trouble::Silent if check.to == CheckTo::Vip && pinned => (
            FaultKind::Hung,
            format!("answers nothing at its pinned MAC address, neither for {vip} nor at its own address ({words})"),
            "is the MAC address right, and the host up? If so, it is frozen, or its firewall drops all: look at its console; \
             `nft list ruleset` there"
                .into(),
        ),
        Trouble::Silent if check.to == CheckTo::Vip => {
            let protocol = if backend.is_ipv4() { "ARP" } else { "NDP" };
            (
                FaultKind::Hung,
                format!("answers {protocol} and nothing else, neither for {vip} nor at its own address ({words})"),
                "is the host frozen, or does its firewall drop all? Look at its console; `nft list ruleset` there says what is \
                 dropped"
                    .into(),
            )
        }
        Trouble::Silent => (
            FaultKind::ServiceClosed,
            format!("does not answer the check at {} ({words})", asked(service, backend, check)),
            "is a firewall in the way there?".into(),
        ),
        // Who answers for that address has it.
        Trouble::Unreachable if check.to == CheckTo::Backend || answered(Question::VipPing) => (
            FaultKind::ServiceClosed,
            format!(
                "refuses by ICMP what goes to {} port {port} ({words}), as a firewall does",
                asked(service, backend, check)
            ),
            "let the director and the clients through the firewall there: `nft list ruleset` says what it rejects".into(),
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
                    let sighting = fault(&service, backend, &check, &Failure::new(trouble, "in words"), answers, false);
                    assert_eq!(sighting.unwrap().kind, expected, "{left}");
                }
                let mut closed = Answers::default();
                closed.take_hop_limit(left);
                closed.set(Question::OwnPing, true);
                let sighting = fault(&service, backend, &check, &Failure::new(Trouble::Closed, "no"), closed, false);
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
            ("tcp", Trouble::Silent, [no, no, no], Some(FaultKind::Hung)),
            ("tcp", Trouble::Silent, [no, no, yes], Some(FaultKind::VipMissing)),
            ("tcp", Trouble::Silent, [yes, yes, no], Some(FaultKind::Hung)),
            ("tcp", Trouble::Silent, [no, yes, yes], Some(FaultKind::VipMissing)),
            ("tcp", Trouble::Unreachable, [no, yes, no], Some(FaultKind::VipMissing)),
            ("tcp", Trouble::Unreachable, [yes, yes, no], Some(FaultKind::ServiceClosed)),
            ("tcp to=backend", Trouble::Unreachable, [no, no, no], Some(FaultKind::ServiceClosed)),
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
            let sighting = fault(&service, "192.0.2.9".parse().unwrap(), &check, &failure, answers, false);
            assert_eq!(sighting.as_ref().map(|sighting| sighting.kind), expected, "{check:?} {trouble:?}");
            let names_it =
                |sighting: &Sighting| sighting.text.contains("Backend 192.0.2.9") && sighting.text.contains("in words");
            assert!(sighting.iter().all(names_it), "{sighting:?}");
        }
    }

    #[test]
    fn an_own_address_that_refuses_is_there_and_of_a_pinned_one_nobody_knows() {
        for (vip, backend, protocol) in
            [("192.0.2.1:80", "192.0.2.9", "ARP"), ("[2001:db8::1]:80", "2001:db8::9", "NDP")]
        {
            let (service, backend) = (vip.parse().unwrap(), backend.parse().unwrap());
            let check = checked(&"tcp".parse().unwrap(), &service).unwrap();
            let failure = Failure::new(Trouble::Silent, "no answer in 1s");
            let mut answers = Answers::default();
            answers.begin(Trouble::Silent, Instant::now());
            for (question, answered) in Question::ALL.into_iter().zip([false; 3]) {
                answers.set(question, answered);
            }
            assert!(is_mute(&check, &failure, answers));
            let mute = fault(&service, backend, &check, &failure, answers, false).unwrap();
            assert!(mute.text.contains(&format!("answers {protocol} and nothing else")), "{mute:?}");
            assert!(mute.fix.contains("frozen") && mute.fix.contains("firewall"), "{mute:?}");
            let pinned = fault(&service, backend, &check, &failure, answers, true).unwrap();
            assert!(pinned.kind == FaultKind::Hung && pinned.text.contains("pinned"), "{pinned:?}");
            answers.take(Question::OwnPort, &Err(Failure::new(Trouble::Closed, "connection refused")));
            assert!(!is_mute(&check, &failure, answers));
            let there = fault(&service, backend, &check, &failure, answers, false).unwrap();
            assert_eq!(there.kind, FaultKind::VipMissing);
        }
    }

    #[test]
    fn one_diagnosis_at_a_time_and_anew_only_now_and_then() {
        let check = checked(&"tcp fall=3".parse().unwrap(), &"192.0.2.1:80".parse().unwrap()).unwrap();
        let (mut answers, begin) = (Answers::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        let silent = |answers: Answers, times, ms| answers.are_due(Trouble::Silent, times, &check, at(ms));
        assert!(silent(answers, 1, 0));
        let ask = |answers: &mut Answers, ms| {
            answers.begin(Trouble::Silent, at(ms));
            (0..3).for_each(|_| answers.await_one());
        };
        let end = |answers: &mut Answers| {
            Question::ALL.into_iter().for_each(|question| answers.take(question, &Ok(String::new())));
        };
        ask(&mut answers, 0);
        assert!(!silent(answers, 3, 300) && answers.known_of(Trouble::Silent).is_none(), "it is under way");
        end(&mut answers);
        assert_eq!((answers.known_of(Trouble::Silent), answers.known_of(Trouble::Closed)), (Some(begin), None));
        assert!(!silent(answers, 2, 1_000) && silent(answers, 3, 1_000) && silent(answers, 4, 2_000));
        assert!(answers.are_due(Trouble::Closed, 4, &check, at(1_000)), "another trouble");
        answers.want();
        assert!(silent(answers, 4, 1_000), "an operator asks");
        ask(&mut answers, 2_000);
        answers.forget();
        assert!(!silent(answers, 1, 2_300), "what is under way is about something else");
        end(&mut answers);
        assert!(answers.known_of(Trouble::Silent).is_none() && silent(answers, 1, 2_500));
    }

    #[test]
    fn silence_is_no_answer_to_a_question() {
        let service = "192.0.2.1:53/udp".parse().unwrap();
        for (check, wanted) in [("udp", true), ("udp answer=x", true), ("tcp port=53", false)] {
            let check = checked(&check.parse().unwrap(), &service).unwrap();
            let asked = Question::OwnPort.ask(&check);
            assert_eq!(matches!(asked, Ask::Udp(asked) if asked.answer.is_some()), wanted, "{check:?}");
        }
    }
}
