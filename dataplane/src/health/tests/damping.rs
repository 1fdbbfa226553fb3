//! Backends that flap are held out of service.

use std::net::IpAddr;
use std::time::Duration;

use super::{Manner, Rig};
use crate::control::compile::compile;
use crate::control::model::{Model, Outlook, Reachability};
use crate::health::news::News;
use crate::testing::model::{PORT, backend, backend_mac, leases};

/// Lets the first backend go down so often, and come back each time.
fn flap(rig: &mut Rig, times: usize) {
    for _ in 0..times {
        rig.manner = Manner::Silent;
        rig.pass(450);
        rig.manner = Manner::Serve;
        rig.pass(450);
    }
}

#[test]
fn a_backend_that_goes_down_too_often_is_held_out_for_growing_times() {
    for (vip, backends) in
        [("192.168.0.101:80", ["192.168.0.3", "192.168.0.4"]), ("[fd00::101]:80", ["fd00::3", "fd00::4"])]
    {
        let [a, b] = backends.map(|backend| backend.parse::<IpAddr>().unwrap());
        let quick = "tcp interval=100ms timeout=100ms rise=1 fall=2";
        let rig = |min_up, change: fn(&mut Rig)| {
            let mut rig = Rig::new(vip, &backends, Manner::Serve, |wanted| {
                (wanted.checks, wanted.min_up) = (Some(vec![quick.parse().unwrap()]), min_up);
            });
            rig.pass(500);
            change(&mut rig);
            rig
        };
        let held = |rig: &Rig, backend| rig.engine.held_for_s(&rig.service, backend, rig.now());
        let news = |rig: &mut Rig| -> Vec<News> {
            let told = rig.engine.take_news();
            told.into_iter().filter(|news| matches!(news, News::Held { .. } | News::Released { .. })).collect()
        };
        // Only the first one is silent.
        let mut one = rig(None, |rig| rig.quiet = Some(0));
        flap(&mut one, 3);
        assert_eq!((one.down(), held(&one, a)), (vec![], None), "three times are not too many");
        flap(&mut one, 1);
        assert_eq!((one.down(), held(&one, a)), (vec![a], Some(30)));
        let service = one.service;
        assert_eq!(news(&mut one), [News::Held { service, backend: a, time: Duration::from_secs(30), downs: 4 }]);
        assert!(one.engine.results(&service, a, one.now())[0].up == Some(true), "its check is good");
        one.pass(31_000);
        assert_eq!((one.down(), held(&one, a)), (vec![], None));
        assert_eq!(news(&mut one), [News::Released { service, backend: a, up: true }]);
        flap(&mut one, 1);
        assert_eq!((one.down(), held(&one, a)), (vec![a], Some(60)));
        one.engine.forgive(&service, a, one.now());
        assert_eq!((one.down(), held(&one, a)), (vec![], None), "an operator enables it");
        flap(&mut one, 3);
        assert!(one.down().is_empty(), "and all is forgotten");

        // Both flap, and so does the only one that is left.
        let mut both = rig(None, |_| {});
        flap(&mut both, 5);
        assert!(both.down().len() < 2, "somebody must serve: {:?}", [held(&both, a), held(&both, b)]);
        // min_up beats it.
        let mut half = rig(Some(60), |rig| rig.quiet = Some(0));
        flap(&mut half, 5);
        assert_eq!((half.down(), held(&half, a)), (vec![], None));
    }
}

/// Only what serves can stand in for a backend that is held out.
#[test]
fn a_backend_is_not_held_out_where_the_others_do_not_serve_for_reasons_of_their_own() {
    for (vip, [a, b]) in
        [("192.168.0.101:80", ["192.168.0.3", "192.168.0.4"]), ("[fd00::101]:80", ["fd00::3", "fd00::4"])]
    {
        let [first, other] = [a, b].map(|backend| backend.parse::<IpAddr>().unwrap());
        let rig = |backends: &[&str]| {
            let mut rig = Rig::new(vip, backends, Manner::Serve, |wanted| {
                wanted.checks = Some(vec!["tcp interval=100ms timeout=100ms rise=1 fall=2".parse().unwrap()]);
            });
            rig.pass(500);
            rig.quiet = Some(0);
            rig
        };
        let change = |rig: &mut Rig, known: &[IpAddr], change: &dyn Fn(&mut Model)| {
            let mut model = (*rig.current.model).clone();
            change(&mut model);
            let mac = |address| known.contains(&address).then(|| backend_mac(address));
            rig.current = compile(model.into(), mac, &[PORT], rig.current.generation + 1);
            rig.engine.sync(&rig.current, rig.now());
        };
        let held = |rig: &Rig| rig.engine.held_for_s(&rig.service, first, rig.now());
        // The other one does not answer ARP.
        let mut silent = rig(&[a, b]);
        flap(&mut silent, 4);
        assert_eq!((silent.down(), held(&silent)), (vec![first], Some(30)));
        change(&mut silent, &[first, other], &|model| {
            let outlook = Outlook::with_down([other]);
            model.renew_all(&Reachability { outlook: &outlook, resolved: &|_| true });
        });
        assert_eq!(held(&silent), None, "it is the last one that serves");
        assert!(!silent.engine.verdicts.is_down(&silent.service, first));
        // Or it was added, and never found.
        let mut unknown = rig(&[a]);
        let service = unknown.service;
        change(&mut unknown, &[first], &|model| model.add_backend(&service, &backend(b, 1), &leases()).unwrap());
        flap(&mut unknown, 5);
        assert_eq!((unknown.down(), held(&unknown)), (vec![], None));
    }
}
