//! Services that change while they are checked.

use std::net::IpAddr;
use std::sync::Arc;

use ctl::Start;
use ctl::request::{CheckSpec, ServiceAdd, ServiceEdit};

use super::{Manner, Rig, SERVICES};
use crate::control::compile::compile;
use crate::control::fault::FaultKind;
use crate::control::model::health::Ask;
use crate::health::news::{News, Seen};
use crate::testing::model::{PORT, backend_mac, leases};

const TWO: [(&str, [&str; 2]); 2] =
    [("192.168.0.101:80", ["192.168.0.3", "192.168.0.4"]), ("[fd00::101]:80", ["fd00::3", "fd00::4"])];
const QUICK: &str = "tcp interval=100ms timeout=100ms";
const OTHER: &str = "tcp interval=110ms timeout=100ms";

fn checks(specs: &[&str]) -> Option<Vec<CheckSpec>> {
    Some(specs.iter().map(|spec| spec.parse().unwrap()).collect())
}

impl Rig {
    fn checked(vip: &str, backends: &[&str], start: Start, specs: &[&str], min_up: Option<u8>) -> Rig {
        Rig::new(vip, backends, Manner::Serve, |wanted: &mut ServiceAdd| {
            (wanted.checks, wanted.start, wanted.min_up) = (checks(specs), start, min_up);
        })
    }

    fn edit(&mut self, specs: &[&str]) {
        let mut model = (*self.current.model).clone();
        let edit = ServiceEdit { checks: checks(specs), ..ServiceEdit::new(self.service) };
        model.edit_service(&edit, &leases()).unwrap();
        let mac = |address| Some(backend_mac(address));
        self.current = compile(model.into(), mac, &[PORT], self.current.generation + 1);
        self.engine.sync(&self.current, self.now());
    }

    /// The backends that are down by now, whether that is new or not.
    fn are_down(&self) -> Vec<IpAddr> {
        let backends = self.current.model.services[&self.service].backends.iter().map(|backend| backend.address);
        backends.filter(|address| self.engine.verdicts.is_down(&self.service, *address)).collect()
    }

    /// Which backends have come up or gone down, and whether the checks are believed.
    fn told(&mut self) -> Vec<(&'static str, Option<IpAddr>)> {
        let in_words = |news: News| match news {
            News::Up { backend, .. } => ("up", Some(backend)),
            News::Down { backend, .. } => ("down", Some(backend)),
            News::Believed { .. } => ("believed", None),
            News::NotBelieved { .. } => ("not believed", None),
            News::Held { backend, .. } => ("held", Some(backend)),
            News::Released { backend, .. } => ("released", Some(backend)),
            other => panic!("{other:?}"),
        };
        self.engine.take_news().into_iter().map(in_words).collect()
    }

    fn mended(&mut self) -> Vec<FaultKind> {
        let seen = self.engine.take_sightings().into_iter();
        seen.filter_map(|seen| if let Seen::Mended(kind, _) = seen { Some(kind) } else { None }).collect()
    }
}

#[test]
fn a_backend_stays_up_or_down_when_its_checks_are_edited() {
    for (vip, backends) in TWO {
        let [a, _] = backends.map(|backend| backend.parse::<IpAddr>().unwrap());
        for start in [Start::Up, Start::Down] {
            let mut rig = Rig::checked(vip, &backends, start, &[QUICK], None);
            rig.pass(500);
            (rig.manner, rig.quiet) = (Manner::Silent, Some(0));
            rig.pass(500);
            assert_eq!((rig.are_down(), rig.told()), (vec![a], vec![("down", Some(a))]));
            rig.edit(&[OTHER]);
            // Bound: a second, in which the new check is asked, and fails.
            for _ in 0..100 {
                assert_eq!(rig.are_down(), [a], "{start:?}");
                rig.pass(10);
            }
            assert_eq!(rig.told(), []);
            rig.manner = Manner::Serve;
            rig.pass(500);
            assert_eq!((rig.are_down(), rig.told()), (vec![], vec![("up", Some(a))]));
        }
    }
}

#[test]
fn a_backend_that_nobody_asks_any_more_is_up_and_stays_so_until_a_new_check_has_found_it_down() {
    for (vip, backends) in TWO {
        let [a, _] = backends.map(|backend| backend.parse::<IpAddr>().unwrap());
        for without in ["arp", "none"] {
            let mut rig = Rig::checked(vip, &backends, Start::Down, &[QUICK], None);
            rig.pass(500);
            (rig.manner, rig.quiet) = (Manner::Silent, Some(0));
            rig.pass(500);
            assert_eq!(rig.told(), [("down", Some(a))]);
            rig.edit(&[without]);
            assert_eq!((rig.are_down(), rig.told()), (vec![], vec![("up", Some(a))]));
            assert!(rig.engine.results(&rig.service, a, rig.now()).is_empty());
            rig.edit(&[QUICK]);
            rig.pass(100);
            assert_eq!((rig.are_down(), rig.told()), (vec![], vec![]), "both have served until now");
            rig.pass(500);
            assert_eq!((rig.are_down(), rig.told()), (vec![a], vec![("down", Some(a))]));
        }
    }
}

#[test]
fn a_backend_is_up_again_when_the_check_is_gone_that_found_it_down() {
    for (vip, backend) in SERVICES {
        let address: IpAddr = backend.parse().unwrap();
        let mut rig =
            Rig::checked(vip, &[backend], Start::Up, &[QUICK, "tcp port=81 interval=100ms timeout=100ms"], None);
        rig.pass(1_000);
        assert_eq!((rig.are_down(), rig.told()), (vec![address], vec![("down", Some(address))]));
        rig.edit(&[QUICK]);
        assert_eq!((rig.are_down(), rig.told()), (vec![], vec![("up", Some(address))]));
    }
}

#[test]
fn that_the_checks_are_not_believed_is_over_when_there_are_none() {
    for (vip, backends) in TWO {
        let mut rig = Rig::checked(vip, &backends, Start::Up, &[QUICK], Some(50));
        rig.manner = Manner::Silent;
        rig.pass(1_000);
        assert!(rig.told().contains(&("not believed", None)) && rig.are_down().is_empty());
        rig.edit(&[OTHER]);
        rig.pass(200);
        assert_eq!((rig.told(), rig.engine.believes(&rig.service)), (vec![], false));
        rig.edit(&["arp"]);
        let told = rig.told();
        assert_eq!((told.len(), told[0]), (3, ("believed", None)), "{told:?}");
        assert!(told[1..].iter().all(|(what, _)| *what == "up") && rig.engine.believes(&rig.service));
    }
}

#[test]
fn a_check_in_the_same_words_goes_on_with_what_is_meant_by_them_now() {
    for (vip, backend) in SERVICES {
        let mut rig = Rig::checked(vip, &[backend], Start::Up, &["https"], None);
        rig.pass(2_500);
        let void = |rig: &Rig| rig.engine.results(&rig.service, backend.parse().unwrap(), rig.now())[0].void;
        let before = void(&rig);
        rig.edit(&["https"]);
        assert!(before > 0 && void(&rig) == before);
        let asked = |ask: &Ask| if let Ask::Https(https) = ask { https.clone() } else { panic!("{ask:?}") };
        let known = asked(&rig.engine.items[0].as_ref().unwrap().check.ask);
        // A file of CAs was read anew.
        assert!(Arc::ptr_eq(&known, &asked(&rig.current.model.services[&rig.service].checks[0].ask)));
    }
}

#[test]
fn backends_that_were_not_asked_yet_are_out_and_no_evidence_against_the_checks() {
    for (vip, backends) in TWO {
        let both = backends.map(|backend| backend.parse::<IpAddr>().unwrap());
        let mut rig = Rig::checked(vip, &backends, Start::Down, &[QUICK], Some(50));
        assert_eq!((rig.are_down(), rig.engine.believes(&rig.service)), (both.to_vec(), true));
        rig.pass(1_000);
        assert_eq!((rig.are_down(), rig.told()), (vec![], vec![]));
        // What they find is.
        let mut rig = Rig::checked(vip, &backends, Start::Down, &[QUICK], Some(50));
        rig.manner = Manner::Silent;
        rig.pass(1_000);
        assert!(rig.are_down().is_empty() && rig.told().contains(&("not believed", None)));
    }
}

#[test]
fn where_a_backend_is_down_at_first_it_is_told_as_up_when_all_checks_are_good() {
    for (vip, backend) in SERVICES {
        let address: IpAddr = backend.parse().unwrap();
        let mut rig = Rig::checked(vip, &[backend], Start::Down, &[QUICK, "tcp interval=1s fall=9"], None);
        rig.manner = Manner::Silent;
        rig.pass(600);
        assert_eq!(rig.told(), [("down", Some(address))]);
        rig.manner = Manner::Serve;
        rig.pass(350);
        assert_eq!((rig.are_down(), rig.told()), (vec![address], vec![]), "the slow one knows nothing yet");
        rig.pass(2_000);
        assert_eq!((rig.are_down(), rig.told()), (vec![], vec![("up", Some(address))]));
    }
}

#[test]
fn a_fault_stays_open_while_another_check_of_the_backend_finds_it() {
    for (vip, backend) in SERVICES {
        let ports = ["tcp port=81", "tcp port=82"];
        let closed = || {
            let mut rig = Rig::checked(vip, &[backend], Start::Up, &ports, None);
            rig.pass(3_000);
            assert_eq!(rig.faults().first(), Some(&"service-closed"));
            let find = |item: &Option<super::super::engine::Item>| item.as_ref().unwrap().fault;
            assert_eq!([0, 1].map(|number| find(&rig.engine.items[number])), [Some(FaultKind::ServiceClosed); 2]);
            rig
        };
        let mut rig = closed();
        for (number, expected) in [(0, vec![]), (1, vec![FaultKind::ServiceClosed])] {
            let (serial, now) = (rig.engine.items[number].as_ref().unwrap().serial, rig.now());
            rig.engine.found(number, serial, Ok("connected".into()), now, now);
            rig.engine.diagnose(number, serial, &mut Vec::new(), now);
            assert_eq!(rig.mended(), expected);
        }
        let mut rig = closed();
        for item in rig.engine.items.iter_mut().flatten() {
            item.certificate_fault = true;
        }
        rig.edit(&ports[1..]);
        assert_eq!(rig.mended(), []);
        rig.edit(&["tcp"]);
        assert_eq!(rig.mended(), [FaultKind::ServiceClosed, FaultKind::Certificate]);
    }
}
